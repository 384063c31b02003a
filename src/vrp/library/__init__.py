"""The package as a library: a loaded model that answers one question, and a finished study."""
