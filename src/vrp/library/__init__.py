"""The package as a library: a loaded model that is asked one question, and a finished study."""
