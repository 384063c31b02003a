"""Compares the tables of two runs of one study, as METHOD's determinism states it."""
