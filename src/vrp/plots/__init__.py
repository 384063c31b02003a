"""Figures: pure functions of the study's tables. One module per figure, one style for all."""
