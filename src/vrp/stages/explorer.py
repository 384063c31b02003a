"""Write the explorer: a page on which every answer of every model can be looked at."""

import os
from pathlib import Path

from vrp.explorer.writer import ExplorerPlaces, write_explorer
from vrp.interventions.conditions import conditions_by_name
from vrp.study.context import StageContext
from vrp.study.explorer_files import explorer_files
from vrp.study.results import open_results


def run(context: StageContext) -> None:
    """Write the files that the page loads, then the page.

    Raises:
        InputError: a table is broken; the last explorer stays then.
    """
    study = context.study
    results = open_results(
        context.model_inputs(),
        conditions=conditions_by_name(study),
        margins=None,
        **{name: path for name in ("items", "boxes") for path in context.input_paths(name)},
    )
    files = explorer_files(
        [model.name for model in results.models],
        sum(split.count for split in study.sample.splits),
        study.explorer.items_per_file,
    )
    folder = Path(os.path.commonpath(context.output_paths("explorer_files")))
    write_explorer(
        results,
        study.study,
        ExplorerPlaces(
            page=context.output_path("explorer"),
            folder=folder,
            files=files,
            images=Path(study.data.folder),
            pixels=study.explorer.image_pixels,
        ),
        vqa_threshold=study.scoring.vqa_threshold,
    )
