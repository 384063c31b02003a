"""The tables of a study, model by model: what stages that look at all models read them through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from vrp.config.margins import EquivalenceMargins
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.interventions.conditions import StudyConditions, conditions_by_name
from vrp.study.context import StageContext
from vrp.tables.parquet_files import read_table
from vrp.tables.schema import TableSchema
from vrp.tables.seal import read_provenance

Files = Mapping[str, Sequence[Path]]
"""Table → its files."""


@dataclass(frozen=True)
class Results:
    """Tables by their schema, each read from its files once, when it is first asked for."""

    files: Files = field(default_factory=dict)
    _frames: dict[tuple[str, ...], pl.DataFrame] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def paths(self, schema: TableSchema) -> list[Path]:
        """The files of a table, in the order given; none where it was not made."""
        return list(self.files.get(schema.name, ()))

    def table(self, schema: TableSchema) -> pl.DataFrame:
        """All rows of a table, in the order of its key; no row where it was not made.

        Args:
            schema: the table, or some of its columns (`TableSchema.only`).

        Raises:
            InputError: a file is broken or of another table.
        """
        key = (schema.name, *schema.columns.names)
        if key not in self._frames:
            self._frames[key] = read_table(self.paths(schema), schema)
        return self._frames[key]


@dataclass(frozen=True, kw_only=True)
class ModelResults(Results):
    """The tables of one model."""

    name: str
    """The model's name in the study."""
    worked_out: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What was worked out from the study's tables, kept for the next that asks for it."""


@dataclass(frozen=True, kw_only=True)
class StudyResults(Results):
    """The tables of a study: its own, such as items and effects, and those of each model."""

    models: tuple[ModelResults, ...] = ()
    """Models in the order in which their files were given."""
    conditions: StudyConditions = field(default_factory=StudyConditions)
    """The conditions of its interventions."""
    margins: EquivalenceMargins = field(default_factory=EquivalenceMargins)
    """Margins of the study's equivalence tests."""
    origins: tuple[Mapping[str, str], ...] = ()
    """Provenance of the tables, one for each stage and model."""

    def require(self, schema: TableSchema) -> None:
        """Refuse a study in which a model lacks a table.

        Raises:
            InputError: naming a file of that model.
        """
        for model in self.models:
            if not model.paths(schema):
                first = next(path for paths in model.files.values() for path in paths)
                raise InputError(f"{first}: no {schema.name} were given for model {model.name!r}")


def open_results(
    tables: Files,
    *,
    conditions: StudyConditions | None = None,
    margins: EquivalenceMargins | None = None,
    **of_study: Path,
) -> StudyResults:
    """Find out which model each file is of; no row is read yet.

    Args:
        tables: table → its files of all models.
        conditions: the conditions of its interventions; None: it has none.
        margins: what counts as no effect in this study; None: the defaults.
        of_study: table → its one file, such as items and effects.

    Raises:
        InputError: a file is missing or broken, or does not say which model it is of.
    """
    origins = {path: read_provenance(path) for path in of_study.values()}
    models: dict[str, dict[str, list[Path]]] = {}
    for table, paths in tables.items():
        for path in paths:
            origins[path] = read_provenance(path)
            model = origins[path].get("model")
            if not model:
                raise InputError(f"{path}: does not say which model it is of; rerun its stage")
            models.setdefault(model, {}).setdefault(table, []).append(path)
    distinct: dict[tuple[str, str], Mapping[str, str]] = {}
    for origin in origins.values():
        distinct.setdefault((origin.get("stage", ""), origin.get("model", "")), origin)
    return StudyResults(
        files={table: [path] for table, path in of_study.items()},
        models=tuple(ModelResults(name=name, files=files) for name, files in models.items()),
        conditions=conditions or StudyConditions(),
        margins=margins or EquivalenceMargins(),
        origins=tuple(distinct.values()),
    )


def read_results(context: StageContext) -> StudyResults:
    """Return what a study-wide stage reads, with the study's conditions and margins.

    Raises:
        InputError: as `open_results`.
    """
    return open_results(
        context.model_inputs(),
        conditions=conditions_by_name(context.study),
        margins=margins_of(context.study),
        **{
            name: path
            for name in ("items", "effects", "trace_effects")
            for path in context.input_paths(name)
        },
    )


def margins_of(study: StudyConfig) -> EquivalenceMargins:
    """Return the margins that a configuration sets."""
    return EquivalenceMargins(
        auroc=study.metrics.auroc_margin,
        r=study.metrics.r_margin,
        effect_pp=study.effects.equivalence_pp,
    )
