"""Which family a predictor of the estimates tables belongs to, and its name in words."""

from vrp.signals.registry import SIGNALS

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
SIGNAL_BY_NAME = {signal.name: signal for signal in SIGNALS}

_PROBES_IN_WORDS = {
    "linear": "linear probe",
    "linear_best": "linear probe, best layer",
    "linear_last_layers": "linear probe, last layers",
    "sparse": "sparse probe",
    "mlp": "MLP probe",
    "margin_only": "margins of all layers",
    "fusion": "fusion of signals",
    "fusion_with_probe": "fusion with linear probe",
    "attention_trees": "trees on map features",
    "attention_mlp": "MLP on maps",
    "task_only": "task alone",
    "question_only": "question alone",
    "answer_only": "answer alone",
    "blind_linear_best": "linear probe, blank image",
    "permuted_linear_best": "linear probe, permuted labels",
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
    return _PROBES_IN_WORDS.get(predictor, predictor.replace("_", " "))
