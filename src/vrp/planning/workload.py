"""What the stages of a study that run a model have to compute: forwards, operations, memory.

Lengths that only a run can tell are assumed, here and nowhere else, until a finished study tells
them (`vrp.planning.measured_rates`).
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from vrp.config.extract import answer_limits
from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.interventions.ablation import ablation_conditions
from vrp.interventions.masking import MaskCondition, mask_conditions
from vrp.interventions.tracing import BLANK, CLEAN, trace_conditions
from vrp.planning.compute import decode_flops, item_flops, prefill_flops, unembed_flops
from vrp.planning.devices import MEMORY_MARGIN
from vrp.planning.dimension_sources import dimensions_of
from vrp.planning.memory import predict_memory
from vrp.study.declarations import Stage
from vrp.study.graph import STAGE, STAGES
from vrp.study.keys import batch_size, value_of
from vrp.study.layout import StudyLayout
from vrp.vlm.capture_spec import CaptureSpec
from vrp.vlm.dimensions import BYTES_PER_VALUE, Dimensions
from vrp.vlm.memory_limits import ROWS_AN_ITEM

# Tokens of a question of eight words or so, and what a longer one than most has beyond them.
_QUESTION_TOKENS = 10
_JUDGEMENT_TOKENS = 20  # by which the question about an answer is longer
_LONG_QUESTION = 40
# Of a prompt's frame, those behind the image: the end of the turn, and the answer's beginning.
_FRAME_BEHIND = 8
# "yes", "2", "left": one or two tokens, and the end of the sequence.
_ANSWER_TOKENS = 2
# Distinct beginnings of answers that are followed at a step, an item.
_TREE_ROWS = 4
# Copies in float64 of a row's probabilities while the nucleus is sought.
_NUCLEUS_COPIES = 6
# Share of the image that an object has which a question asks for.
_USUAL_OBJECT = 0.1
# Where the best probe layer lies; the papers' are at 0.66, 0.56 and 0.64 of the depth.
_BEST_DEPTH = 0.6

# Width and height: the mean of the drawn scenes' sizes; and the largest.
_SCENE, _LARGEST_SCENE = (112, 96), (128, 96)
_SCENE_SIZES = 3
# Questions about scenes that differ without their images, answers included.
_SCENE_QUESTIONS = 1200


class Lengths(NamedTuple):
    """Mean lengths of a model's items, in tokens."""

    n_text: float
    """Prompt, image tokens left out."""
    n_image: float
    """Image tokens S."""
    n_answer: float
    """Predicted tokens, end-of-sequence included."""

    @property
    def n_prompt(self) -> int:
        """The whole prompt."""
        return round(self.n_text + self.n_image)


class ConditionWork(NamedTuple):
    """What one condition of an intervention has to do, repeats together."""

    condition: str
    """Name, as the tables have it; of the tracing, the kind of edit."""
    n_items: int
    """Items that it is run on."""
    n_answers: int
    """Answers, or runs: items times repeats, and layers."""
    flops: int
    """Operations."""


class Work(NamedTuple):
    """What one stage of one model has to do, over all its shards."""

    stage: str
    """Stage."""
    model: str
    """Name of the model in the config."""
    n_items: int
    """Items that the stage asks about."""
    n_answers: int
    """Answers: items times conditions; for the sampling, prefills."""
    flops: int
    """Operations of the matrix products."""
    n_shards: int
    """Jobs that they are cut into."""
    batch_size: int
    """Items a forward."""
    memory: int
    """Bytes that weights and a batch need on the device, with a margin."""
    conditions: tuple[ConditionWork, ...] = ()
    """Of an intervention, each; what all share is in none of them."""

    @property
    def tflop(self) -> float:
        """10¹² operations."""
        return self.flops / 1e12


def n_items(study: StudyConfig) -> int:
    """Return the items of a study."""
    return sum(split.count for split in study.sample.splits)


def longest_answer(study: StudyConfig) -> int:
    """Return the most tokens that any answer of a study may have."""
    limits = answer_limits(study.extract)
    return max(limits[split.task] for split in study.sample.splits)


def assumed_lengths(study: StudyConfig, model: ModelConfig) -> Lengths:
    """Return the lengths that a model's items are assumed to have.

    Raises:
        InputError: the model's dimensions are not known.
    """
    dimensions = dimensions_of(model)
    answer = min(_ANSWER_TOKENS, longest_answer(study))
    asked = study.sample.splits
    n_image = sum(
        split.count * dimensions.n_image_tokens(_image_size(study, split.dataset))
        for split in asked
    ) / n_items(study)
    return Lengths(dimensions.n_frame_tokens + _QUESTION_TOKENS, n_image, answer)


def _image_size(study: StudyConfig, dataset: str) -> tuple[int, int]:
    """Width and height of a usual image."""
    if study.data.origin == "scenes":
        return _SCENE
    return get_dataset(dataset).image_set.usual_size


def _largest_image(study: StudyConfig) -> tuple[int, int]:
    """Width and height of the image with the most pixels that is counted on."""
    if study.data.origin == "scenes":
        return _LARGEST_SCENE
    datasets = {split.dataset for split in study.sample.splits}
    sizes = [get_dataset(dataset).image_set.largest_size for dataset in datasets]
    return max(sizes, key=lambda size: size[0] * size[1])


def model_work(study: StudyConfig, name: str, lengths: Lengths | None = None) -> dict[str, Work]:
    """Return what each stage that runs the model has to do, by stage; only those that run.

    Args:
        study: the configuration.
        name: the model's name in it.
        lengths: measured ones; None: assumed ones.

    Raises:
        InputError: the model's dimensions are not known.
    """
    model = study.models[name]
    dimensions = dimensions_of(model)
    lengths = assumed_lengths(study, model) if lengths is None else lengths
    everyone = n_items(study)
    found: dict[str, Work] = {}
    for stage in model_stages(study):
        counted = _counts(stage)(study, dimensions, lengths, everyone)
        batch = batch_size(study, stage, name)
        found[stage.name] = Work(
            stage.name, name, counted.n_items, counted.n_answers, counted.flops,
            value_of(study, stage.shards_key), batch,
            device_memory(study, name, stage.name, batch_size=min(batch, counted.n_items)),
            counted.conditions,
        )  # fmt: skip
    return found


def model_stages(study: StudyConfig) -> list[Stage]:
    """Return the stages of a study that run a model; not those whose shards another study has."""
    layout = StudyLayout(study, ahead=True)
    return [stage for stage in STAGES if stage.runs_model and layout.runs(stage)]


def _counts(stage: Stage) -> "Callable[[StudyConfig, Dimensions, Lengths, int], Count]":
    """Return the function that the graph names as the stage's cost."""
    assert isinstance(stage.cost, str)
    module, name = stage.cost.split(":")
    count: Callable[[StudyConfig, Dimensions, Lengths, int], Count]
    count = getattr(importlib.import_module(module), name)
    return count


def questions_per_image(study: StudyConfig, share: float = 1.0) -> float:
    """Return how many of a study's items ask about one image, in the mean.

    n questions about N images that are asked about alike meet N·(1 − (1 − 1/N)ⁿ) of them.

    Args:
        study: the configuration.
        share: of the items, as for an intervention's subset.
    """
    asked: dict[str, float] = {}
    for split in study.sample.splits:
        asked[split.dataset] = asked.get(split.dataset, 0.0) + share * split.count
    n_images = 0.0
    for dataset, n in asked.items():
        pool = n_images_of(study, dataset)
        n_images += n if pool is None else _distinct(n, pool)
    return max(1.0, sum(asked.values()) / max(1.0, n_images))


def n_images_of(study: StudyConfig, dataset: str) -> int | None:
    """Images that a data set's questions are about; None: as many as there are questions."""
    declared = get_dataset(dataset)
    if study.data.origin == "scenes" and declared.scene_images is not None:
        return int(getattr(study.data.scenes, declared.scene_images))
    return declared.n_images


def _ablation_starts(study: StudyConfig, dimensions: Dimensions) -> list[int]:
    """For every run of an item, the first layer that it computes anew."""
    best = round(_BEST_DEPTH * (dimensions.n_layers - 1))
    conditions = ablation_conditions(study.ablate)
    return [one.first_changed_layer(dimensions.n_layers, best_layer=best) for one in conditions]


# Items, answers and operations of each stage.


class Count(NamedTuple):
    """What a stage of one model has to do."""

    n_items: int
    """Items that it asks about."""
    n_answers: int
    """Answers: items times conditions; of the sampling, prefills; of the blank run, different
    inputs."""
    flops: int
    """Operations of the matrix products."""
    conditions: tuple[ConditionWork, ...] = ()
    """Of an intervention."""


def extract_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> Count:
    """Return what the extraction has to do."""
    capture = CaptureSpec.of(study.extract.capture, hidden=study.extract.positions)
    return Count(n, n, n * _answer(dimensions, lengths, capture, questions_per_image(study)))


def _blank_sharing(study: StudyConfig, batch: int) -> float:
    """Items of a batch that share a grey image: those of one size are one image."""
    return batch / min(batch, _SCENE_SIZES) if study.data.origin == "scenes" else 2.0


def blind_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> Count:
    """Return what the blank-image run has to do."""
    sharing = _blank_sharing(study, study.extract.batch_size)
    capture = CaptureSpec(hidden=("prompt_end",))
    # Questions that are alike without their images are run once.
    n_runs = n if study.data.origin != "scenes" else round(_distinct(n, _SCENE_QUESTIONS))
    return Count(n, n_runs, n_runs * _answer(dimensions, lengths, capture, sharing))


def _distinct(n: float, pool: int) -> float:
    """How many of a pool are met in `n` draws, on average."""
    return pool * (1 - (1 - 1 / pool) ** n)


def p_true_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> Count:
    """Return what the model's judgements of its answers take."""
    longer = lengths._replace(n_text=lengths.n_text + _JUDGEMENT_TOKENS, n_answer=1)
    return Count(n, n, n * _answer(dimensions, longer, None, questions_per_image(study)))


def consistency_counts(
    study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int
) -> Count:
    """Return what the sampling has to do."""
    one = _answer(dimensions, lengths._replace(n_answer=1), None, questions_per_image(study))
    steps = round(lengths.n_answer) - 1
    rows = min(_TREE_ROWS, study.consistency.k)
    tree = rows * sum(
        decode_flops(dimensions, lengths.n_prompt + step + 1) for step in range(steps)
    )
    return Count(n, n, n * (one + tree))


def mask_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> Count:
    """Return what the masking has to do."""
    mask = study.mask
    n_masked = min(mask.items, n)
    sharing = questions_per_image(study, n_masked / n)
    image = round(dimensions.image_flops.at(round(lengths.n_image)) / sharing)
    conditions = mask_conditions(mask)
    found: dict[str, ConditionWork] = {}
    for condition in conditions:
        n_items = min(condition.n_items or n_masked, n_masked)
        if condition.of_object:
            n_items = round(n_items * _share_with_object(study))
        one = n_items * _masked_answer(study, dimensions, lengths, condition, sharing)
        _add(found, condition.name, n_items, one)
    common = n_masked * image  # encoded once for all conditions that show it
    if any(condition.ranking == "times_values" for condition in conditions):
        # A prefill tells the values' norms.
        common += n_masked * _answer(dimensions, lengths._replace(n_answer=1), None, sharing)
    if any(condition.mode == "embedding" for condition in conditions):
        # Each job encodes the whole subset for its mean.
        common += mask.shards * n_masked * image
    return _of_conditions(n_masked, tuple(found.values()), common)


def _share_with_object(study: StudyConfig) -> float:
    """Share of the items whose image has the object that they ask for: half of POPE's."""
    asked = sum(split.count for split in study.sample.splits if split.dataset == "pope")
    return asked / 2 / n_items(study)


def _add(found: dict[str, ConditionWork], name: str, n_items: int, flops: int) -> None:
    """Count a condition's items once more, such as for a repeat."""
    before = found.get(name, ConditionWork(name, n_items, 0, 0))
    found[name] = before._replace(n_answers=before.n_answers + n_items, flops=before.flops + flops)


def _of_conditions(n_items: int, conditions: tuple[ConditionWork, ...], common: int) -> Count:
    answers = sum(condition.n_answers for condition in conditions)
    flops = common + sum(condition.flops for condition in conditions)
    return Count(n_items, answers, flops, conditions)


def _masked_answer(
    study: StudyConfig,
    dimensions: Dimensions,
    lengths: Lengths,
    condition: MaskCondition,
    sharing: float,
) -> int:
    """Operations of one item's answer under a condition, its own image's encoding left out."""
    whole = dimensions.image_flops.at(round(lengths.n_image))
    if condition.shows == "blank":
        return _answer(dimensions, lengths, None, _blank_sharing(study, study.mask.batch_size))
    if condition.shows == "other":
        return _answer(dimensions, lengths, None, 1.0)
    if condition.mode == "pixels":
        return _answer(dimensions, lengths, None, 1.0)
    hidden = _USUAL_OBJECT if condition.of_object else condition.share or 0.0
    if not hidden:  # nothing is hidden: items of an image share what precedes their questions
        return _answer(dimensions, lengths, None, sharing) - round(whole / sharing)
    if condition.mode == "attention" and dimensions.drops_tokens:
        lengths = lengths._replace(n_image=(1 - hidden) * lengths.n_image)
    n_image = round(lengths.n_image)
    return _answer(dimensions, lengths, None, 1.0) - round(dimensions.image_flops.at(n_image))


def ablate_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> Count:
    """Return what the ablation has to do."""
    n_ablated = min(study.ablate.items, n)
    sharing = questions_per_image(study, n_ablated / n)
    image = round(dimensions.image_flops.at(round(lengths.n_image)) / sharing)
    answer = _answer(dimensions, lengths, None, sharing) - image
    unembed = unembed_flops(dimensions)
    prefill = _answer(dimensions, lengths._replace(n_answer=1), None, sharing) - image
    layers, decode = prefill - unembed, answer - prefill
    starts = _ablation_starts(study, dimensions)
    found: dict[str, ConditionWork] = {}
    for condition, start in zip(ablation_conditions(study.ablate), starts, strict=True):
        above = round((dimensions.n_layers - start) / dimensions.n_layers * layers)
        _add(found, condition.name, n_ablated, n_ablated * (above + unembed + decode))
    # The layers under the edits are run once, then what lies above each.
    common = n_ablated * (image + (prefill if any(starts) else 0))
    if any(condition.site == "mlp" for condition in ablation_conditions(study.ablate)):
        # Each job measures the hidden units over the whole subset.
        common += study.ablate.shards * n_ablated * (image + prefill)
    return _of_conditions(n_ablated, tuple(found.values()), common)


def trace_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> Count:
    """Return what the tracing has to do."""
    n_traced = min(study.trace.items, n)
    sharing = questions_per_image(study, n_traced / n)
    bare = _answer(dimensions, lengths._replace(n_answer=1), None, sharing)
    step = decode_flops(dimensions, lengths.n_prompt)
    layers = prefill_flops(dimensions, lengths.n_prompt)
    found = {
        kind: ConditionWork(kind, n_traced, n_traced, n_traced * bare) for kind in (CLEAN, BLANK)
    }
    for condition in trace_conditions(study.trace.window, dimensions.n_layers):
        one = step
        if not dimensions.is_causal:  # the layers above the edit are run anew
            above = dimensions.n_layers - condition.first_changed_layer
            one = round(above / dimensions.n_layers * layers)
        _add(found, condition.kind, n_traced, n_traced * one)
    return _of_conditions(n_traced, tuple(found.values()), 0)


def _answer(
    dimensions: Dimensions, lengths: Lengths, capture: CaptureSpec | None, sharing: float
) -> int:
    """Operations of one item from image to answer, where so many items share an image."""
    behind = round(lengths.n_text) - dimensions.n_frame_tokens + _FRAME_BEHIND
    return item_flops(
        dimensions,
        n_image_tokens=round(lengths.n_image),
        n_tokens=lengths.n_prompt,
        n_answer_tokens=max(1, round(lengths.n_answer)),
        capture=capture,
        questions_per_image=sharing,
        n_behind=min(max(1, behind), lengths.n_prompt),
    ).total


# Memory


def device_memory(study: StudyConfig, name: str, stage: str, *, batch_size: int) -> int:
    """Return the bytes that a stage needs on its device: weights and a batch of long prompts.

    The sampling is counted with the most rows that it decodes at a time; where they do not fit, it
    splits the batch.

    Raises:
        InputError: the model's dimensions are not known.
    """
    model = study.models[name]
    dimensions = dimensions_of(model)
    n_image = dimensions.n_image_tokens(_largest_image(study))
    n_text = dimensions.n_frame_tokens + _QUESTION_TOKENS + _LONG_QUESTION
    n_tokens = n_image + n_text + longest_answer(study)
    positions = study.extract.positions
    captures = {
        "extract": CaptureSpec.of(study.extract.capture, hidden=positions),
        "blind": CaptureSpec(hidden=positions),
    }
    memory = predict_memory(
        dimensions,
        n_tokens=n_tokens,
        batch_size=batch_size,
        capture=captures.get(stage),
        dtype=model.dtype,
        n_image_tokens=n_image,
    )
    activations = memory.activations
    if stage == "consistency":
        nucleus = 8 * _NUCLEUS_COPIES * ROWS_AN_ITEM * batch_size * dimensions.vocabulary
        activations = max(activations, memory.held + ROWS_AN_ITEM * memory.cache + nucleus)
    if stage == "blind":  # the prompts' cache is kept for the answer that is scored
        activations = max(activations, memory.held + memory.cache)
    if stage == "trace":  # the run with the image, and the one with a blank image
        activations += memory.cache
    if stage == "ablate":  # the trunk's cache, and its residuals at each start
        starts = set(_ablation_starts(study, dimensions))
        residual = BYTES_PER_VALUE[model.dtype] * dimensions.d_model * batch_size * n_tokens
        activations += memory.cache + len(starts) * residual
    return round(MEMORY_MARGIN * (memory.weights + activations))


def largest_batch(study: StudyConfig, name: str, stage: str, *, memory: int) -> int:
    """Return the largest batch of a stage that a device's memory holds; 0 where none fits.

    Raises:
        InputError: the model's dimensions are not known.
    """
    low, high = 0, batch_size(study, STAGE[stage], name)
    while low < high:
        middle = (low + high + 1) // 2
        if device_memory(study, name, stage, batch_size=middle) <= memory:
            low = middle
        else:
            high = middle - 1
    return low


def weight_bytes(model: ModelConfig) -> int:
    """Return the bytes of a model's weights as loaded.

    Raises:
        InputError: the model's dimensions are not known.
    """
    return BYTES_PER_VALUE[model.dtype] * dimensions_of(model).n_parameters
