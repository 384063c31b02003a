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
from vrp.interventions.masking import mask_conditions
from vrp.interventions.tracing import trace_conditions
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
# "yes", "2", "left": one or two tokens, and the end of the sequence.
_ANSWER_TOKENS = 2
# Distinct beginnings of answers that are followed at a step, an item.
_TREE_ROWS = 4
# Copies in float64 of a row's probabilities while the nucleus is sought.
_NUCLEUS_COPIES = 6
# Where the best probe layer lies; the papers' are at 0.66, 0.56 and 0.64 of the depth.
_BEST_DEPTH = 0.6

# Width and height: the mean of the drawn scenes' sizes; and the largest.
_SCENE, _LARGEST_SCENE = (112, 96), (128, 96)
_SCENE_SIZES = 3


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
        n, n_answers, flops = _counts(stage)(study, dimensions, lengths, everyone)
        batch = batch_size(study, stage, name)
        found[stage.name] = Work(
            stage.name, name, n, n_answers, flops, value_of(study, stage.shards_key), batch,
            device_memory(study, name, stage.name, batch_size=min(batch, n)),
        )  # fmt: skip
    return found


def model_stages(study: StudyConfig) -> list[Stage]:
    """Return the stages of a study that run a model; not those whose shards another study has."""
    layout = StudyLayout(study, ahead=True)
    return [stage for stage in STAGES if stage.runs_model and layout.runs(stage)]


def _counts(stage: Stage) -> Callable[[StudyConfig, Dimensions, Lengths, int], "_Count"]:
    """Return the function that the graph names as the stage's cost."""
    assert isinstance(stage.cost, str)
    module, name = stage.cost.split(":")
    count: Callable[[StudyConfig, Dimensions, Lengths, int], _Count]
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
        pool = _n_images(study, dataset)
        n_images += n if pool is None else pool * (1 - (1 - 1 / pool) ** n)
    return max(1.0, sum(asked.values()) / max(1.0, n_images))


def _n_images(study: StudyConfig, dataset: str) -> int | None:
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

_Count = tuple[int, int, int]


def extract_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> _Count:
    """Return items, answers and operations of the extraction."""
    capture = CaptureSpec.of(study.extract.capture, hidden=study.extract.positions)
    return n, n, n * _answer(dimensions, lengths, capture, questions_per_image(study))


def blind_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> _Count:
    """Return items, answers and operations of the blank-image run."""
    # Grey images of one size are one image, once a batch.
    batch = study.extract.batch_size
    sharing = batch / min(batch, _SCENE_SIZES) if study.data.origin == "scenes" else 2.0
    return n, n, n * _answer(dimensions, lengths, CaptureSpec(hidden=("prompt_end",)), sharing)


def p_true_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> _Count:
    """Return items, answers and operations of the model's judgements of its answers."""
    longer = lengths._replace(n_text=lengths.n_text + _JUDGEMENT_TOKENS, n_answer=1)
    return n, n, n * _answer(dimensions, longer, None, questions_per_image(study))


def consistency_counts(
    study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int
) -> _Count:
    """Return items, answers and operations of the sampling."""
    one = _answer(dimensions, lengths._replace(n_answer=1), None, questions_per_image(study))
    steps = round(lengths.n_answer) - 1
    rows = min(_TREE_ROWS, study.consistency.k)
    tree = rows * sum(
        decode_flops(dimensions, lengths.n_prompt + step + 1) for step in range(steps)
    )
    return n, n, n * (one + tree)


def mask_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> _Count:
    """Return items, answers and operations of the masking."""
    mask = study.mask
    n_masked = min(mask.items, n)
    image = dimensions.image_flops.at(round(lengths.n_image))
    sharing = questions_per_image(study, n_masked / n)
    bare = _answer(dimensions, lengths, None, sharing) - round(image / sharing)
    conditions = mask_conditions(mask)
    answers, flops = 0, n_masked * round(image / sharing)
    for condition in conditions:
        n_items = min(condition.n_items or n_masked, n_masked)
        answers += n_items
        flops += n_items * bare
        if condition.mode == "pixels":  # it paints an image of its own
            flops += n_items * image
        elif condition.shows != "own":
            flops += n_items * round(image / sharing)
    if any(condition.mode == "embedding" for condition in conditions):
        # Each job encodes the whole subset for its mean.
        flops += mask.shards * round(n_masked / sharing) * image
    return n_masked, answers, flops


def ablate_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> _Count:
    """Return items, answers and operations of the ablation."""
    n_ablated = min(study.ablate.items, n)
    starts = _ablation_starts(study, dimensions)
    n_tokens = lengths.n_prompt
    image = dimensions.image_flops.at(round(lengths.n_image))
    unembed = unembed_flops(dimensions)
    layers = prefill_flops(dimensions, n_tokens) - unembed
    decode = _answer(dimensions, lengths, None, 1.0) - image - layers - unembed
    # The layers under the edits once, then what lies above each.
    trunk = layers + unembed if any(starts) else 0
    above = sum(
        round((dimensions.n_layers - start) / dimensions.n_layers * layers) + unembed + decode
        for start in starts
    )
    one = round(image / questions_per_image(study, n_ablated / n)) + trunk + above
    return n_ablated, n_ablated * len(starts), n_ablated * one


def trace_counts(study: StudyConfig, dimensions: Dimensions, lengths: Lengths, n: int) -> _Count:
    """Return items, runs and operations of the tracing; as of a causal model."""
    n_traced = min(study.trace.items, n)
    conditions = trace_conditions(study.trace.window, dimensions.n_layers)
    sharing = questions_per_image(study, n_traced / n)
    bare = _answer(dimensions, lengths._replace(n_answer=1), None, sharing)
    step = decode_flops(dimensions, lengths.n_prompt)
    runs = len(conditions) + 2  # with the image, and with a blank one
    return n_traced, n_traced * runs, n_traced * (2 * bare + len(conditions) * step)


def _answer(
    dimensions: Dimensions, lengths: Lengths, capture: CaptureSpec | None, sharing: float
) -> int:
    """Operations of one item from image to answer."""
    return item_flops(
        dimensions,
        n_image_tokens=round(lengths.n_image),
        n_tokens=lengths.n_prompt,
        n_answer_tokens=max(1, round(lengths.n_answer)),
        capture=capture,
        questions_per_image=sharing,
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
