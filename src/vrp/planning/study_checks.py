"""What of a study is known to be wrong before anything has run."""

from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.errors import InputError
from vrp.interventions.conditions import conditions_by_name
from vrp.interventions.masking import SHAM
from vrp.planning.dimension_sources import check_families


def check_names(study: StudyConfig) -> None:
    """Refuse families, splits and conditions that cannot be meant; no data is read.

    Raises:
        InputError: a model's family or a split does not exist, or a condition lacks its control.
    """
    check_families(study)
    for split in study.sample.splits:
        get_dataset(split.dataset).require_split(split.split, study.data.places(split.dataset))
    _check_controls(study)


def _check_controls(study: StudyConfig) -> None:
    """Refuse an ablation whose effect could be told from no random one's."""
    ablations = conditions_by_name(study).ablate if study.ablate.enabled else {}
    known = {name: one for name, one in ablations.items() if one.kind != SHAM}
    for name, condition in known.items():
        if condition.controls and not set(condition.controls) & set(known):
            raise InputError(
                f"ablate.conditions: {name} has no {' or '.join(condition.controls)} to be "
                f"compared to (there: {', '.join(known)}); add one of the same count or share, "
                "value and layer"
            )
