"""The predictors of the estimates tables: signals, and probes with their baselines and guards."""

import re

from vrp.probing.labels import PROBE_LABELS
from vrp.signals.registry import SIGNALS

PREDICTOR_KINDS = (
    "structural", "mechanistic", "behavioural", "supervised_attention", "probes", "guards",
)  # fmt: skip
"""Kinds of predictors, in the order in which they are shown."""

SYMBOL = re.compile(r"(?<![A-Za-z])([HCSP])_(tok|SC|s|k)\b")
"""The papers' symbols in labels and sentences: H_s, C_k, S_SC, P_tok, a letter with an index."""

# A predictor named with one of these sees what no reliability should be readable from.
_GUARD_WORDS = ("blind", "permut", "shuffle", "only")


def predictor_label(predictor: str) -> str:
    """Label of a signal or probe in figures and report; its name in words where it has no label."""
    if predictor in SIGNALS:
        return SIGNALS[predictor].label
    return PROBE_LABELS.get(predictor, predictor.replace("_", " "))


def predictor_kind(predictor: str) -> str:
    """Kind of a predictor, one of `PREDICTOR_KINDS`."""
    if predictor in SIGNALS:
        return SIGNALS[predictor].kind
    if any(word in predictor for word in _GUARD_WORDS) and predictor != "margin_only":
        return "guards"
    return "supervised_attention" if predictor.startswith("attention") else "probes"


def is_deployable(predictor: str) -> bool:
    """Whether a signal or probe needs no label, and no other model's table, when it is used."""
    if predictor in SIGNALS:
        return SIGNALS[predictor].deployable
    return predictor_kind(predictor) == "probes"


def is_blind(predictor: str) -> bool:
    """Whether it is a probe of a run that saw no image."""
    return "blind" in predictor


def is_permuted(predictor: str) -> bool:
    """Whether it was fitted on permuted labels."""
    return "permut" in predictor or "shuffle" in predictor
