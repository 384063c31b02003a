"""Statistics of the study: pure functions of arrays, knowing nothing of models, tables or stages.

`signal` is always one float per item (NaN: missing), `correct` 0 or 1 per item, `groups` the
image that each item asks about. Intervals resample images, never items.
"""
