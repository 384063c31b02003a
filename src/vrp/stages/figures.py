"""Every figure of the study, drawn from its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vrp.config.figures import FiguresConfig
from vrp.config.margins import Margins
from vrp.interventions.conditions import StudyConditions
from vrp.plots.figures import FigureSpec, load_figures
from vrp.plots.style import house_style
from vrp.study.results import StudyResults, open_results
from vrp.tables.files import whole_file

# Without these the same tables always give the same bytes.
_NO_METADATA: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "png": {"Software": None}}


def run(
    *,
    figures: FiguresConfig,
    conditions: StudyConditions,
    margins: Margins,
    items: Path,
    effects: Path,
    tables: Mapping[str, Sequence[Path]],
    output: Path,
) -> None:
    """Draw all figures.

    Args:
        figures: the `figures` section.
        conditions: the study's conditions: their order and labels.
        margins: what counts as no effect.
        items: `items.parquet`.
        effects: `effects.parquet`.
        tables: table → its files of all models; the files say which model they are of. A table
            that is left out, or a model that lacks it, is shown as not run.
        output: folder to write `<name>.svg` and `<name>.png` into.

    Raises:
        InputError: a table is missing, broken or of another kind; nothing is written then.
    """
    study = open_results(
        tables, conditions=conditions, margins=margins, items=items, effects=effects
    )
    specs = load_figures()
    # Read first: a broken table stops the stage before it has written anything.
    for results in (study, *study.models):
        for schema in (schema for spec in specs for schema in spec.tables):
            results.table(schema)
    output.mkdir(parents=True, exist_ok=True)
    for spec in specs:
        _write(spec, study, figures, output)


def _write(spec: FigureSpec, study: StudyResults, figures: FiguresConfig, output: Path) -> None:
    with house_style():
        figure = spec.draw(study)
        # One layout serves all formats; each save would work it out again.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind in figures.formats:
            with whole_file(output / f"{spec.name}.{kind}") as part:
                figure.savefig(part, format=kind, dpi=figures.dpi, metadata=_NO_METADATA[kind])
