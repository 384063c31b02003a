"""Draw every figure of the study from its tables."""

from pathlib import Path

from vrp.plots.figure_files import write_figure
from vrp.plots.figures import load_figures
from vrp.study.context import StageContext
from vrp.study.results import read_results


def run(context: StageContext) -> None:
    """Draw all figures, and write the numbers of each beside it.

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
        write_figure(spec, study, files[spec.name], dpi=context.study.figures.dpi)
