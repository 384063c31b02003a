"""Rows of the estimates tables, which metrics and probes write alike."""
