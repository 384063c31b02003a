"""Interventions: what is done to an item before it is answered, as condition objects.

A condition knows its name in the tables, its label in figures and report, the condition that it is
compared to, what it hides or edits, and the first layer that it changes. Its kind says what it
does; `vrp.interventions.conditions.register_condition` adds a kind. Pure: no table, no path, no
model; numpy and scipy are imported only when tokens or neurons are chosen.
"""
