"""Bytes of a study's files: shapes of its tables, and how far they are compressed."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vrp.config.extract import ExtractConfig
from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.data.dataset import ImageSet
from vrp.data.datasets import get_dataset
from vrp.planning.architecture import Architecture
from vrp.planning.sources import architecture_of, is_embedded
from vrp.planning.workload import Lengths, Work, n_items

FOOTER = 8_000
"""Bytes of a file before its first row: schema, statistics, provenance."""

# What is left of the raw bytes after zstd, measured on the embedded models. Floats hardly shrink;
# names of items, conditions and probes do. Tables that are not here: 1.
COMPRESSED = {
    "items": 0.2,
    "answers": 0.6,
    "attention": 0.9,
    "hidden": 0.85,
    "blind/hidden": 0.6,
    "blind/answers": 0.6,
    "lens": 0.75,
    "consistency": 0.2,
    "signals": 0.5,
    "predictions": 0.05,
    "neurons": 0.3,
    "mask": 0.08,
    "ablate": 0.09,
}

# Bytes of a name such as vqa/spatial/262148005, and of a short answer, in Arrow's layout.
_NAME, _ANSWER = 30, 12
_SIGNALS = 25
_PROBES = 20
_MAP_COLUMNS, _HEAD_COLUMNS = 1, 2
_SCENE_BYTES = 9_000
# Checkpoints whose published weights are in 32 bits.
_IN_32_BITS = "google/paligemma"


EXTRACTED = (
    "answers", "attention", "hidden", "lens", "consistency", "blind/answers", "blind/hidden",
)  # fmt: skip
"""Tables that a study may read from another one."""
BATCHED = (*EXTRACTED, "mask", "ablate")
"""Tables whose finished batches lie beside them, uncompressed, until the run has succeeded."""
REPETITIVE = ("blind/hidden",)
"""Tables whose rows repeat: without an image, one question has one hidden state."""


class TableSize(NamedTuple):
    """One table of a study, of one model where it has one."""

    table: str
    """Its folder or file under the model's or the study's, such as `blind/hidden`."""
    model: str
    """Name of the model in the config; empty: of the whole study."""
    n_rows: int
    """Rows in all files."""
    n_files: int
    """Files."""
    raw_bytes: int
    """Bytes of the values, before compression."""


def model_tables(
    study: StudyConfig, name: str, work: dict[str, Work], lengths: Lengths
) -> Iterator[TableSize]:
    """Yield the tables of one model.

    Args:
        study: the configuration.
        name: the model's name in it.
        work: what its stages do (`model_work`).
        lengths: of its items.

    Raises:
        InputError: the model's dimensions are not known.
    """
    arch = architecture_of(study.models[name])
    n, shards, folds = n_items(study), study.extract.shards, study.probes.folds
    answer = _NAME + 3 * _ANSWER + 40 + round(8 * lengths.n_answer)
    vector = {"float32": 4, "float16": 2}[study.extract.hidden_dtype] * arch.d_model
    hidden = 2 * _NAME + (arch.n_layers + 1) * vector
    states = n * len(study.extract.positions)
    result = 2 * _NAME + 2 * _ANSWER + 30
    sampled = _NAME + (2 * study.consistency.k + 6) * _ANSWER + 80
    yield TableSize("answers", name, n, shards, n * answer)
    row = _attention_row(study.extract, arch, lengths)
    yield TableSize("attention", name, n, shards, n * row)
    yield TableSize("hidden", name, states, shards, states * hidden)
    yield TableSize("lens", name, n, shards, n * _lens_row(study.extract, arch))
    yield TableSize("consistency", name, n, shards, n * sampled)
    if study.extract.blind:
        yield TableSize("blind/answers", name, n, shards, n * answer)
        yield TableSize("blind/hidden", name, states, shards, states * hidden)
    for stage in ("mask", "ablate"):
        if stage in work:
            rows = work[stage].n_answers
            yield TableSize(stage, name, rows, work[stage].n_shards, rows * result)
    yield TableSize("signals", name, n, 1, n * (_NAME + 64 + _ANSWER + 4 * _SIGNALS))
    yield TableSize("predictions", name, n * _PROBES, 1, n * _PROBES * (2 * _NAME + 12))
    weights = arch.n_layers * folds * arch.d_model
    yield TableSize("neurons", name, weights, 1, weights * 25)
    heads = arch.n_layers * arch.n_heads
    yield TableSize("heads", name, heads, 1, heads * 36)
    for table in ("metrics", "probes"):  # as many rows in every study
        yield TableSize(table, name, 0, 1, 0)


def study_tables(study: StudyConfig, work: dict[str, dict[str, Work]]) -> Iterator[TableSize]:
    """Yield the files of the whole study, those that are no tables included."""
    n, n_models = n_items(study), len(study.models)
    yield TableSize("items", "", n, 1, n * (2 * _NAME + 3 * 64 + 150))
    conditions = sum(
        found.n_answers // max(1, found.n_items)
        for stages in work.values()
        for stage, found in stages.items()
        if stage in ("mask", "ablate")
    )
    yield TableSize("effects", "", 5 * conditions, 1, 5 * conditions * 150)
    # What the bytes of other files grow with: models; their overlays; jobs.
    n_jobs = sum(found.n_shards for stages in work.values() for found in stages.values())
    amounts = {
        "figures": n_models,
        "report": n_models * (1 + study.report.overlays),
        "other": n_models + n_jobs,
    }
    for name in OTHER_FILES:
        yield TableSize(name, "", 0, 1, amounts[name])


OTHER_FILES = ("figures", "report", "other")
"""Groups of files that are no tables: figures; the report; logs, benchmarks and manifests."""
OTHER_BYTES = {"figures": 3_000_000, "report": 3_000_000, "other": 300_000}
"""What they take where nothing was measured."""


def data_bytes(study: StudyConfig) -> int:
    """Return the most bytes that the data folder takes while it is filled; 0 for one's own."""
    data = study.data
    if data.origin == "official":
        images = _image_sets(data.official)
        return sum(found.official_bytes for found in images) + max(
            found.archive_bytes for found in images
        )
    if data.origin == "hub":
        return sum(found.hub_bytes for found in _image_sets(data.hub))
    if data.origin == "scenes":
        return _SCENE_BYTES * max(data.scenes.n_pope_images, data.scenes.n_vqa_images)
    return 0


def _image_sets(datasets: Iterable[str]) -> set[ImageSet]:
    """The image sets of data sets, each once."""
    return {get_dataset(name).image_set for name in datasets}


def checkpoint_bytes(model: ModelConfig) -> int:
    """Return the bytes of a hub checkpoint's weights, as published; 0 for one on disk.

    Raises:
        InputError: the model's dimensions are not known.
    """
    if is_embedded(model) or Path(model.checkpoint).expanduser().is_dir():
        return 0
    width = 4 if model.checkpoint.startswith(_IN_32_BITS) else 2
    return width * architecture_of(model).parameters.total


def _attention_row(extract: ExtractConfig, arch: Architecture, lengths: Lengths) -> int:
    asked = set(extract.capture)
    values = 0.0
    if "attention" in asked:
        values += arch.n_layers * (lengths.n_image + _MAP_COLUMNS)
    if "heads" in asked:
        values += _HEAD_COLUMNS * arch.n_layers * arch.n_heads
    if "contributions" in asked:
        values += arch.n_layers * arch.n_heads
    return round(_NAME + 12 + 4 * values)


def _lens_row(extract: ExtractConfig, arch: Architecture) -> int:
    asked = set(extract.capture)
    per_layer = 2 * ("lens" in asked) + 2 * ("contributions" in asked)
    per_layer += "residual_update" in asked
    return _NAME + 4 * (per_layer * arch.n_layers + 4)
