"""What of a study is known to be wrong before anything has run."""

from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.errors import InputError
from vrp.interventions.conditions import conditions_by_name
from vrp.interventions.masking import SHAM, mask_conditions
from vrp.planning.dimension_sources import check_families
from vrp.study.graph import STAGE


def check_names(study: StudyConfig) -> None:
    """Refuse families, splits and conditions that cannot be meant; no data is read.

    Raises:
        InputError: a model's family or a split does not exist, or a condition lacks its control.
    """
    check_families(study)
    for split in study.sample.splits:
        get_dataset(split.dataset).require_split(split.split, study.data.places(split.dataset))
    _check_controls(study)
    _check_boxes(study)


# What a condition and its control have in common, by intervention.
_SAME = {"mask": "share and mode", "ablate": "count or share, value and layer"}


def _check_controls(study: StudyConfig) -> None:
    """Refuse a condition whose effect could be told from no random one's."""
    conditions = conditions_by_name(study)
    for stage, same in _SAME.items():
        if not getattr(study, stage).enabled:
            continue
        known = {name: one for name, one in conditions.of(stage).items() if one.kind != SHAM}
        for name, condition in known.items():
            if condition.controls and not set(condition.controls) & set(known):
                raise InputError(
                    f"{stage}.conditions: {name} has no {' or '.join(condition.controls)} to be "
                    f"compared to (there: {', '.join(known)}); add one of the same {same}"
                )


def _check_boxes(study: StudyConfig) -> None:
    """Refuse to hide objects where nothing says where they are."""
    for condition in mask_conditions(study.mask) if study.mask.enabled else ():
        if condition.of_object and not STAGE["boxes"].enabled(study):
            raise InputError(
                f"mask.conditions: {condition.kind} needs the objects' boxes; name the data set's "
                "annotation file under boxes.instances, or remove the condition"
            )
