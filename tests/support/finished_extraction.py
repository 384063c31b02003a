"""Shards of a study's model runs that hold no rows: only where they come from counts."""

import json
from pathlib import Path

import yaml

from vrp.config.study import load_study
from vrp.study.digests import code_digest
from vrp.study.graph import STAGE
from vrp.study.keys import stage_config
from vrp.study.layout import StudyLayout
from vrp.study.provenance import digest
from vrp.tables.parquet_files import write_table
from vrp.tables.predictions import PREDICTIONS


def write_extraction(
    config: Path, folder: Path, *, revision="r1", code=None, config_digest=None,
    stages=("extract", "blind", "consistency"),
):  # fmt: skip
    """Write the shards of some stages as the study in `config` would, run in `folder`."""
    study = load_study(config)
    layout = StudyLayout(study, directory=folder)
    for job in layout.jobs():
        if job.stage not in stages:
            continue
        keys = stage_config(study, STAGE[job.stage], job.model)
        origin = {
            "model": job.model,
            "revision": revision,
            "config": config_digest or digest(keys),
            "code": code or code_digest(study, job.stage, job.model),
        }
        for path in job.outputs:
            columns = {name: [] for name in PREDICTIONS.columns.names}
            write_table(path, PREDICTIONS, columns, provenance=origin)
    results = folder / layout.results
    (results / "models").mkdir(exist_ok=True)
    for model in study.models:
        manifest = {"revision": None, "digest": "r1"}
        (results / "models" / f"{model}.json").write_text(json.dumps(manifest))
    (results / "config.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    (results / "items.parquet").write_text("items")
