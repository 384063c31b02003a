"""Probes of correctness, each read only on images that it was not fitted on.

`ProbeItems` says what is predicted for whom, `plan_folds` splits it by image once for the whole
study, and every `fit_*` returns a `ProbeResult`: out-of-fold scores and what was fitted per fold.
"""
