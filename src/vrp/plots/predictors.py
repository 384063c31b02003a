"""Which family a predictor of the estimates tables belongs to, and its name in words."""

from vrp.probing.labels import PROBE_LABELS
from vrp.signals.registry import SIGNAL_BY_NAME

FAMILIES = (
    "structural", "mechanistic", "behavioural", "supervised_attention", "probes", "guards",
)  # fmt: skip
"""In the order in which figures show them."""
FAMILY_TITLES = {
    "structural": "attention map",
    "mechanistic": "residual stream, logit lens",
    "behavioural": "answers",
    "supervised_attention": "fitted to attention",
    "probes": "fitted to states, signals",
    "guards": "baselines and guards",
}

# A predictor named with one of these sees what no reliability should be readable from.
_GUARD_WORDS = ("blind", "permut", "shuffle", "only")


def is_blind(predictor: str) -> bool:
    """Whether it is a probe of a run that saw no image."""
    return "blind" in predictor


def is_permuted(predictor: str) -> bool:
    """Whether it was fitted on permuted labels."""
    return "permut" in predictor or "shuffle" in predictor


def family(predictor: str) -> str:
    """One of `FAMILIES`."""
    if predictor in SIGNAL_BY_NAME:
        return SIGNAL_BY_NAME[predictor].family
    if any(word in predictor for word in _GUARD_WORDS) and predictor != "margin_only":
        return "guards"
    return "supervised_attention" if predictor.startswith("attention") else "probes"


def in_words(predictor: str) -> str:
    """A predictor's name as figures print it."""
    if predictor in SIGNAL_BY_NAME:
        return predictor.replace("_", " ")
    return PROBE_LABELS.get(predictor, predictor.replace("_", " "))
