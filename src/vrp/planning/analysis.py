"""What the stages without a model have to do: one number that their time grows with, and memory."""

from typing import NamedTuple

from vrp.config.study import StudyConfig
from vrp.planning.sources import architecture_of
from vrp.planning.workload import Work, n_items

ANALYSES = ("fetch_data", "sample", "metrics", "probes", "effects", "figures", "report")
"""Stages without a model, whose time is planned; fetching a model is a matter of the network."""
PER_MODEL = ("metrics", "probes")
"""Those of them that run once a model."""


class Rate(NamedTuple):
    """Seconds of a stage on one core: start + slope · work."""

    start: float
    """Imports, reading, writing."""
    slope: float
    """For each unit of work."""


# Measured on the embedded models' studies of 60 and 300 items, one core.
ASSUMED = {
    "fetch_data": Rate(0.6, 0.006),
    "sample": Rate(0.6, 0.002),
    "metrics": Rate(1.5, 3e-6),
    "probes": Rate(4.5, 2e-7),
    "effects": Rate(1.5, 3e-8),
    "figures": Rate(7.5, 0.004),
    "report": Rate(2.5, 0.002),
}


def analysis_work(
    study: StudyConfig, stage: str, model: str = "", work: dict[str, dict[str, Work]] | None = None
) -> float:
    """Return what the time of a stage without a model grows with.

    fetch_data: images drawn; sample: items; metrics: items × resamples; probes: numbers that pass
    through fits; effects: answers under interventions × resamples; figures, report: items × models.

    Args:
        study: the configuration.
        stage: one of `ANALYSES`.
        model: the model, for stages that run once a model.
        work: of the models' stages, for the effects.

    Raises:
        InputError: the model's dimensions are not known.
    """
    n = n_items(study)
    if stage == "fetch_data":
        scenes = study.data.scenes
        drawn = study.data.origin == "scenes"
        return max(scenes.n_pope_images, scenes.n_vqa_images) if drawn else 0.0
    if stage == "sample":
        return n
    if stage == "metrics":
        return float(n) * study.metrics.bootstrap
    if stage == "probes":
        arch, probes = architecture_of(study.models[model]), study.probes
        fits = probes.folds * (1 + probes.inner_folds * len(probes.penalties))
        return float(n) * (arch.n_layers + 1) * arch.d_model * fits
    if stage == "effects":
        answers = sum(
            stages[name].n_answers
            for stages in (work or {}).values()
            for name in ("mask", "ablate")
            if name in stages
        )
        return float(answers) * study.effects.bootstrap
    return float(n) * len(study.models)
