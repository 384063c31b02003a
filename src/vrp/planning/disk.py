"""Bytes of a study's files: shapes of its tables, and how far they are compressed."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.data.dataset import ImageSet
from vrp.data.datasets import get_dataset
from vrp.planning.analysis_work import INTERVENTIONS
from vrp.planning.dimension_sources import dimensions_of, is_embedded
from vrp.planning.workload import Lengths, Work, n_items
from vrp.study.declarations import Sizes
from vrp.study.graph import (
    EFFECT_ROW_BYTES,
    EFFECTS,
    INTERVENTION_ROW_BYTES,
    ITEM_ROW_BYTES,
    ITEMS,
    MADE_BY,
    STAGE,
    STAGES,
)
from vrp.study.layout import StudyLayout
from vrp.vlm.dimensions import Dimensions

FOOTER = 8_000
"""Bytes of a file before its first row: schema, statistics, provenance."""

_SCENE_BYTES = 9_000

_TABLES = {artifact.name: artifact for artifact in MADE_BY if artifact.schema}

COMPRESSED = {name: artifact.compressed for name, artifact in _TABLES.items()} | {"explorer": 0.11}
"""Table → what is left of its raw bytes after zstd; of what is not here: 1. Of the explorer: what
it keeps of the tables that it reads."""
REPETITIVE = tuple(name for name, artifact in _TABLES.items() if artifact.repetitive)
"""Tables whose rows repeat."""
CHECKPOINTED_TABLES = tuple(
    made.name for stage in STAGES if stage.runs_model for made in stage.writes
)
"""Tables whose finished batches are kept next to them, uncompressed, until the run succeeds."""


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
    sizes = _sizes(study, dimensions_of(study.models[name]), lengths)
    layout = StudyLayout(study, ahead=True)
    for artifact, stage in MADE_BY.items():
        if "model" not in artifact.wildcards or not artifact.schema or not stage.enabled(study):
            continue
        if stage.name in INTERVENTIONS:
            if stage.name in work:
                rows, files = work[stage.name].n_answers, work[stage.name].n_shards
                yield TableSize(artifact.name, name, rows, files, rows * INTERVENTION_ROW_BYTES)
            continue
        assert artifact.rows is not None, artifact.name
        n_rows = round(artifact.rows(sizes))
        n_bytes = round(n_rows * artifact.row_bytes(sizes))
        yield TableSize(artifact.name, name, n_rows, len(layout.shards(stage)), n_bytes)


def _sizes(study: StudyConfig, dimensions: Dimensions, lengths: Lengths) -> Sizes:
    return Sizes(
        n_items=n_items(study),
        n_positions=len(study.extract.positions),
        n_layers=dimensions.n_layers,
        n_heads=dimensions.n_heads,
        d_model=dimensions.d_model,
        value_bytes={"float32": 4, "float16": 2}[study.extract.hidden_dtype],
        n_image_tokens=lengths.n_image,
        n_answer_tokens=lengths.n_answer,
        captured=frozenset(study.extract.capture),
        k=study.consistency.k,
        n_folds=study.probes.folds,
    )


def study_tables(
    study: StudyConfig, work: dict[str, dict[str, Work]], of_models: Iterable[TableSize]
) -> Iterator[TableSize]:
    """Yield the files of the whole study, those that are no tables included.

    Args:
        study: the configuration.
        work: model → what its stages do (`model_work`).
        of_models: the tables of all models (`model_tables`).
    """
    n, n_models = n_items(study), len(study.models)
    yield TableSize(ITEMS.name, "", n, 1, n * ITEM_ROW_BYTES)
    conditions = sum(
        found.n_answers // max(1, found.n_items)
        for stages in work.values()
        for stage, found in stages.items()
        if stage in INTERVENTIONS
    )
    yield TableSize(EFFECTS.name, "", 5 * conditions, 1, 5 * conditions * EFFECT_ROW_BYTES)
    # What the bytes of other files grow with: models; their overlays; tables shown; jobs.
    explored = {table.name for table in STAGE["explorer"].reads if study.explorer.enabled}
    n_jobs = sum(found.n_shards for stages in work.values() for found in stages.values())
    amounts = {
        "figures": n_models,
        "report": n_models * (1 + study.report.overlays),
        "explorer": sum(table.raw_bytes for table in of_models if table.table in explored),
        "other": n_models + n_jobs,
    }
    for name in OTHER_FILES:
        yield TableSize(name, "", 0, 1, amounts[name])


OTHER_FILES = ("figures", "report", "explorer", "other")
"""Groups of files that are no tables: figures; the report; the explorer; logs, benchmarks and
manifests."""
OTHER_BYTES = {"figures": 3_000_000, "report": 3_000_000, "other": 300_000}
"""What they take where nothing was measured; the explorer: see `COMPRESSED`."""


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
    if is_embedded(model) or Path(model.checkpoint).is_dir():
        return 0
    return dimensions_of(model).checkpoint_bytes
