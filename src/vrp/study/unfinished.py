"""A stage of all models run by hand on a study's folder, whole or not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.study.command import path_options, run_stage
from vrp.study.declarations import Artifact, Stage
from vrp.study.graph import LIST_OF, LISTS, MADE_BY
from vrp.study.study_folder import read_snapshot

_FIRST = ("fetch_data", "sample")  # without what these made there is no study
_ASKS = "extract"  # and without its answers a model has nothing to show


def run_in_folder(stage: Stage, folder: Path) -> None:
    """Carry out a stage of all models on what is in a study's folder.

    A model without answers is left out, and the tables that others lack. What the study's
    configuration names by relative paths, such as its data, is looked for from here, then from
    the folders around the study's.

    Args:
        stage: such as the report.
        folder: of the study, such as `results/demo`.

    Raises:
        InputError: the folder holds no study, nothing was answered yet, or its tables do not fit
            together; nothing is written then.
    """
    folder = folder.absolute()
    study = read_snapshot(folder)
    files = {option.artifact: _files(folder, study, option.artifact, writes=option.writes)
             for option in path_options(stage)}  # fmt: skip
    if not files[LISTS[_ASKS]]:
        raise InputError(f"{folder}: holds no answers of any model; run the study first")
    for artifact, paths in files.items():
        maker = MADE_BY.get(artifact)
        if maker is not None and maker.name in _FIRST and not paths:
            raise InputError(f"{folder}: holds no {artifact.path}; run the study first")
    missing = _missing(study, stage, folder)
    answered = [name for name in study.models if _ASKS not in missing.get(name, ())]
    kept = {
        artifact.name: [path for path in paths if _is_of(artifact, path, answered, folder)]
        for artifact, paths in files.items()
    }
    with _where_data_are(study, folder):
        run_stage(stage, study, files=kept, missing=missing)


def _files(folder: Path, study: StudyConfig, artifact: Artifact, *, writes: bool) -> list[Path]:
    """Paths of an artifact in the folder; of what is read, those that are there."""
    names = artifact.expand(study) if artifact.expand else [""]
    models = list(study.models) if "model" in artifact.wildcards else [""]
    paths = [
        folder / artifact.path.replace("{model}", model).replace("{file}", name)
        for model in models
        for name in names
    ]
    return [path for path in paths if writes or path.is_file()]


def _is_of(artifact: Artifact, path: Path, models: list[str], folder: Path) -> bool:
    """Whether a file is of no model, or of one of these."""
    return "model" not in artifact.wildcards or any(
        path == folder / artifact.path.replace("{model}", model) for model in models
    )


def _missing(study: StudyConfig, stage: Stage, folder: Path) -> dict[str, list[str]]:
    """Model → stages before this one that the study has and that left nothing."""
    found: dict[str, dict[str, None]] = {}
    for option in path_options(stage):
        artifact = option.artifact
        maker = MADE_BY.get(artifact) or LIST_OF[artifact]
        if option.writes or not maker.enabled(study):
            continue
        there = _files(folder, study, artifact, writes=False)
        for model in study.models if "model" in artifact.wildcards else [""]:
            if not any(_is_of(artifact, path, [model], folder) for path in there):
                found.setdefault(model, {})[maker.name] = None
    return {model: list(stages) for model, stages in found.items()}


@contextlib.contextmanager
def _where_data_are(study: StudyConfig, folder: Path) -> Iterator[None]:
    """Work in the nearest folder from which the study's relative paths lead somewhere."""
    places = [Path.cwd(), *folder.parents]
    found = next((place for place in places if (place / study.data.folder).is_dir()), places[0])
    with contextlib.chdir(found):
        yield
