"""What of a study is known to be wrong before anything has run."""

from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.errors import InputError
from vrp.interventions.ablation import ablation_conditions
from vrp.interventions.conditions import conditions_by_name
from vrp.interventions.masking import SHAM, mask_conditions
from vrp.planning.dimension_sources import check_families, dimensions_of
from vrp.planning.workload import n_items
from vrp.study.graph import STAGE
from vrp.vlm.dimensions import Dimensions


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
    _check_sinks(study)
    for name, model in study.models.items():
        try:
            dimensions = dimensions_of(model)
        except InputError:
            continue  # not known before the checkpoint is here; the stages check again
        _check_sizes(study, name, dimensions)


def check_counts(study: StudyConfig) -> None:
    """Refuse fewer items than folds where all of them will be judged, as published ones are.

    Raises:
        InputError: as `require_images`.
    """
    if all(get_dataset(split.dataset).is_published for split in study.sample.splits):
        require_images(study, n_items(study))


def require_images(study: StudyConfig, n_images: int) -> None:
    """Refuse a study whose probes could not be fitted, days before they are.

    Args:
        study: the configuration.
        n_images: the most images whose answers can be judged; 0: none is, and no probe is fitted.

    Raises:
        InputError: there are fewer images than folds.
    """
    if 0 < n_images < study.probes.folds:
        raise InputError(
            f"probes.folds: {study.probes.folds} folds need as many images with judged answers, "
            f"the study has {n_images} at most; add items about other images, or lower probes.folds"
        )


# What a condition and its control have in common, by intervention.
_SAME = {"mask": "share and mode", "ablate": "count or share, site, value, layer and dose"}


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
                    f"compared with (found: {', '.join(known)}); add one of the same {same}"
                )


def _check_boxes(study: StudyConfig) -> None:
    """Refuse to hide objects where nothing says where they are."""
    for condition in mask_conditions(study.mask) if study.mask.enabled else ():
        if condition.of_object and not STAGE["boxes"].enabled(study):
            raise InputError(
                f"mask.conditions: {condition.kind} needs the objects' boxes; name the data set's "
                "annotation file under boxes.instances, or remove the condition"
            )


def _check_sinks(study: StudyConfig) -> None:
    """Refuse to leave sinks out where they are not captured."""
    if not study.mask.enabled or "residual_update" in study.extract.capture:
        return
    for condition in mask_conditions(study.mask):
        if condition.ranking == "without_sinks":
            raise InputError(
                f"mask.conditions: {condition.name} needs residual_update in extract.capture, "
                "which identifies sinks; add it, or choose another ranking"
            )


def _check_sizes(study: StudyConfig, name: str, dimensions: Dimensions) -> None:
    """Refuse layers, heads and neurons that a model does not have."""
    n_layers, n_heads, d_model = dimensions.n_layers, dimensions.n_heads, dimensions.d_model
    problems = [
        (f"mask.conditions: {one.name} reads layer {one.layers[1]}", f"layers 0 to {n_layers - 1}")
        for one in (mask_conditions(study.mask) if study.mask.enabled else ())
        if one.layers is not None and one.layers[1] >= n_layers
    ]
    for condition in ablation_conditions(study.ablate) if study.ablate.enabled else ():
        asks = f"ablate.conditions: {condition.name} asks for"
        if condition.head is not None and condition.head >= n_heads:
            problems.append((f"{asks} head {condition.head}", f"heads 0 to {n_heads - 1}"))
        if condition.site == "residual" and condition.n_neurons(d_model) > d_model:
            problems.append((f"{asks} {condition.n_neurons(d_model)} neurons", str(d_model)))
    if study.trace.enabled and (study.trace.window or 1) > n_layers:
        problems.append((f"trace.window: {study.trace.window} layers", f"{n_layers}"))
    for asked, there in problems:
        raise InputError(f"{asked}, but model {name} has {there}")
