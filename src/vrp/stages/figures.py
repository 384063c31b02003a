"""Draw every figure of the study from its tables."""

from collections.abc import Sequence
from pathlib import Path

from vrp.config.figures import FiguresConfig
from vrp.plots.figures import FigureSpec, load_figures
from vrp.plots.style import house_style, save_figure
from vrp.study.context import StageContext
from vrp.study.results import StudyResults, read_results
from vrp.tables.atomic_files import atomic_write


def run(context: StageContext) -> None:
    """Draw all figures.

    A table that is not there, or a model that lacks it, is shown as not run.

    Raises:
        InputError: a table is missing, broken or of another kind; nothing is written then.
    """
    study = read_results(context)
    files: dict[str, list[Path]] = {}
    for path in context.output_paths("figures"):
        files.setdefault(path.stem, []).append(path)
    specs = [spec for spec in load_figures() if spec.name in files]
    # Read first: a broken table stops the stage before it has written anything.
    for results in (study, *study.models):
        for schema in (schema for spec in specs for schema in spec.tables):
            results.table(schema)
    for spec in specs:
        _write(spec, study, context.study.figures, files[spec.name])


def _write(
    spec: FigureSpec, study: StudyResults, figures: FiguresConfig, files: Sequence[Path]
) -> None:
    with house_style():
        figure = spec.draw(study)
        # One layout serves all formats; each save would work it out again.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for path in files:
            kind = path.suffix[1:]
            with atomic_write(path) as part:
                save_figure(figure, part, kind, dpi=figures.dpi)
