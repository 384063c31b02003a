"""Every figure of the study, drawn from its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from vrp.config.figures import FiguresConfig
from vrp.errors import InputError
from vrp.plots.figures import FigureModule, load_figures
from vrp.plots.study_tables import MODEL_SCHEMAS, ModelTables, StudyTables
from vrp.plots.style import house_style
from vrp.tables.effects import EFFECTS
from vrp.tables.files import read_provenance, read_table, whole_file
from vrp.tables.items import ITEMS

# The largest table: figures read its maps, and the heads' numbers from the heads table.
_COLUMNS = {"attention": ("grid_h", "grid_w", "maps", "image_mass")}
# Without these the same tables always give the same bytes.
_NO_METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "png": {"Software": None}}


def run(
    *,
    figures: FiguresConfig,
    items: Path,
    effects: Path,
    tables: Mapping[str, Sequence[Path]],
    output: Path,
) -> None:
    """Draw all figures.

    Args:
        figures: the `figures` section.
        items: `items.parquet`.
        effects: `effects.parquet`.
        tables: table → its files of all models; the files say which model they are of. A table
            that is left out, or a model that lacks it, is shown as not run.
        output: folder to write `<name>.svg` and `<name>.png` into.

    Raises:
        InputError: a table is missing, broken or of another kind; nothing is written then.
    """
    study = read_study(items, effects, tables)
    output.mkdir(parents=True, exist_ok=True)
    for module in load_figures():
        _write(module, study, figures, output)


def read_study(items: Path, effects: Path, tables: Mapping[str, Sequence[Path]]) -> StudyTables:
    """Read all tables, models in the order in which their files are given.

    Raises:
        InputError: a table is missing, broken or of another kind; a file does not say which
            model it is of.
    """
    paths: dict[str, dict[str, list[Path]]] = {}
    for table, files in tables.items():
        for path in files:
            model = read_provenance(path).get("model", "")
            if not model:
                raise InputError(f"{path}: does not say which model it is of; rerun its stage")
            paths.setdefault(model, {}).setdefault(table, []).append(path)
    return StudyTables(
        items=read_table(items, ITEMS),
        effects=read_table(effects, EFFECTS),
        models=tuple(_read_model(name, found) for name, found in paths.items()),
    )


def _read_model(name: str, paths: Mapping[str, Sequence[Path]]) -> ModelTables:
    found: dict[str, pl.DataFrame] = {
        table: read_table(list(files), MODEL_SCHEMAS[table], columns=_COLUMNS.get(table))
        for table, files in paths.items()
    }
    return ModelTables(name=name, **found)


def _write(module: FigureModule, study: StudyTables, figures: FiguresConfig, output: Path) -> None:
    with house_style():
        figure = module.draw(study)
        # One layout serves all formats; each save would work it out again.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind in figures.formats:
            with whole_file(output / f"{module.NAME}.{kind}") as part:
                figure.savefig(part, format=kind, dpi=figures.dpi, metadata=_NO_METADATA[kind])
