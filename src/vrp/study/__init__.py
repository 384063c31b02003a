"""A study as a whole: its stages and files, what made them, and how far it is."""
