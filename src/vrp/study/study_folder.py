"""The folder of a finished study, opened by itself: its configuration and its tables."""

from pathlib import Path

from vrp.config.study import StudyConfig, study_from_mapping
from vrp.config.yaml_file import read_yaml
from vrp.errors import InputError
from vrp.interventions.conditions import conditions_by_name
from vrp.study.declarations import Artifact
from vrp.study.graph import ITEMS, LISTS, MADE_BY
from vrp.study.results import StudyResults, margins_of, open_results
from vrp.study.table_origins import check_inputs
from vrp.tables.shard_list import listed_shards, read_shard_list

SNAPSHOT = "config.yaml"
"""Configuration that a study's tables were made with, in its folder."""


def read_snapshot(folder: Path) -> StudyConfig:
    """Read the configuration that a study was run with.

    Its `results` is the folder that `folder` is in, wherever that has been moved to. Extensions
    are looked for in the folders around it, too: they are named from where the workflow ran.

    Raises:
        InputError: the folder holds no configuration, or one that cannot be read.
    """
    path = folder / SNAPSHOT
    if not path.is_file():
        meant: Path | str = "the results folder of a study, such as results/demo"
        if (folder.parent / SNAPSHOT).is_file():
            meant = folder.parent
        raise InputError(f"{folder}: holds no {SNAPSHOT}; give {meant}")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise InputError(f"{path}: must be a mapping of keys, such as `study: demo`")
    study = study_from_mapping(raw, where=str(path), beside=folder.absolute().parents)
    return study.model_copy(update={"results": str(folder.parent)})


def open_study_folder(folder: Path) -> StudyResults:
    """Open the tables of a study by its folder, such as `results/demo`; no row is read yet.

    What was not run, or not for some model, is not there. The folder may have been moved or
    copied whole.

    Raises:
        InputError: the folder holds no configuration or no items, a table or a list of shards is
            damaged, or tables do not fit together or the configuration.
    """
    study = read_snapshot(folder)
    if not (folder / ITEMS.path).is_file():
        raise InputError(f"{folder}: holds no {ITEMS.path}; run the study first")
    tables = [made for made in MADE_BY if made.schema]
    listed = {MADE_BY[one].name for one in tables if "shard" in one.wildcards}
    files = {one: _existing(folder, study, one) for one in tables if "shard" not in one.wildcards}
    lists = {LISTS[name]: _existing(folder, study, LISTS[name]) for name in sorted(listed)}
    check_inputs(study, "", {**files, **lists})
    of_models = {one.name: paths for one, paths in files.items() if "model" in one.wildcards}
    for paths in lists.values():
        for path in paths:
            for name in read_shard_list(path).tables:
                of_models.setdefault(name, []).extend(listed_shards(path, name))
    of_study = {
        one.name: paths[0]
        for one, paths in files.items()
        if paths and "model" not in one.wildcards
    }  # fmt: skip
    return open_results(
        of_models,
        conditions=conditions_by_name(study),
        margins=margins_of(study),
        **of_study,
    )


def _existing(folder: Path, study: StudyConfig, artifact: Artifact) -> list[Path]:
    """Return an artifact's files that are there, of all models in the study's order."""
    models = study.models if "model" in artifact.wildcards else [""]
    paths = [folder / artifact.path.replace("{model}", model) for model in models]
    return [path for path in paths if path.is_file()]
