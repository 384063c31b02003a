"""Signals: what is read from one answer, as pure functions of arrays (numpy and scipy only)."""
