"""What bounds the memory of a batch: the model's passes keep to it, and planning counts with it."""

ROWS_AN_ITEM = 12
"""Rows that sampling decodes at a time, for each item of the batch: what bounds the repeated
cache."""
MAX_LENS_LOGITS = 2**25
"""Values of the logits of several layers that the lens holds at once; at least one layer's."""
