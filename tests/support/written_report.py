"""A report of a study that no model made, in a folder of its own as a workflow leaves it."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import synthetic_study
from described_data import write_described_data
from PIL import Image
from stage_jobs import run_job

from vrp.config.data import DataConfig
from vrp.config.report import ReportConfig
from vrp.plots.figure_files import write_figure
from vrp.plots.figures import load_figures
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table

ORIGIN = {
    "study": "synthetic", "stage": "report", "model": "", "config": "c0ffee", "code": "beef",
    "versions": json.dumps({"vrp": "0.0", "numpy": "2.0"}),
}  # fmt: skip


def write_images(items: Path, folder: Path) -> None:
    """Draw an image for each item, and have the items say which it is."""
    folder.mkdir()
    frame = read_table(items, ITEMS)
    digests = {}
    for index, name in enumerate(sorted(frame["image"].unique())):
        Image.new("RGB", (32, 24), (4 * index, 90, 120)).save(folder / name)
        digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    frame = frame.with_columns(image_sha256=pl.col("image").replace_strict(digests))
    write_table(items, ITEMS, frame, provenance={"study": "synthetic", "stage": "sample"})


def write_synthetic_report(
    folder: Path,
    *,
    models: Iterable[str] = ("alpha", "beta"),
    capture: Collection[str] | None = None,
    figures: Sequence[str] = (),
    without: Collection[str] = (),
    **sections: Any,
) -> Path:
    """Write the tables of a study, some of its figures, and its report; return the page.

    Args:
        folder: where, new.
        models: names of the models.
        capture: what their extraction has kept; None: everything.
        figures: names of figures.
        without: names of tables that the report is not given.
        sections: of the configuration.
    """
    captured = {} if capture is None else {"capture": capture}
    study = synthetic_study.write_synthetic_study(folder, models=models, **captured)
    write_images(study.items, folder / "images")
    described = write_described_data(folder, study.items, splits=[_SAMPLED])
    drawn = [folder / "figures" / f"{name}{end}" for name in figures for end in (".csv", ".svg")]
    for spec in load_figures():
        paths = [path for path in drawn if path.stem == spec.name]
        if paths:
            paths[0].parent.mkdir(exist_ok=True)
            write_figure(spec, study.results(), paths, dpi=80)
    files = {
        "items": study.items, "effects": study.effects, "trace_effects": study.trace_effects,
        **described, **study.tables, "figures": drawn,
    }  # fmt: skip
    run_job(
        "report",
        {
            **{name: paths for name, paths in files.items() if name not in without},
            "summary": folder / "summary.json",
            "report": folder / "report.html",
        },
        study="synthetic",
        data=DataConfig(folder=str(folder / "images")),
        report=ReportConfig(overlays=4),
        **synthetic_study.CONDITION_SECTIONS,
        provenance=ORIGIN,
        **sections,
    )
    return folder / "report.html"


_SAMPLED = {
    "dataset": "pope", "split": "adversarial", "found": 900, "usable": 800,
    "dropped": {"repeated question": 100}, "taken": 90, "unreadable": [],
}  # fmt: skip
