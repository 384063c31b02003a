"""A monitor for one model: it says of each answer how likely it is right, and whether to accept it.

It is fitted to a finished study (`fitting`), is a small folder (`card`), attaches to a model's own
`generate` (`watching`), and refuses what it was not fitted for (`refusals`).
"""
