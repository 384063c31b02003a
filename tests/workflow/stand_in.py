"""Stands in for `vrp`: parses like it, wants its inputs to exist, computes nothing."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from vrp.cli import build_parser
from vrp.config.study import StudyConfig, load_study
from vrp.study.command import path_options
from vrp.study.declarations import Stage
from vrp.study.graph import STAGE
from vrp.study.layout import StudyLayout
from vrp.tables.sealed_json import write_sealed_json


def main() -> None:
    options = vars(build_parser().parse_args())
    command = options["command"]
    study = load_study(options["config"])
    print(f"{command}: 5/5 items, {os.environ['OMP_NUM_THREADS']} threads", file=sys.stderr)
    if command == os.environ.get("FAILING_STAGE"):
        sys.exit(f"vrp {command}: nothing works today")
    stage = STAGE[command.replace("-", "_")]
    if stage.runs_model and os.environ.get("HF_HUB_OFFLINE") != "1":
        sys.exit(f"vrp {command}: would use the network")
    read, written = paths(stage, study, options)
    for path in [options["config"], *read]:
        if not path.exists():
            sys.exit(f"vrp {command}: {path} does not exist")
    for file in written:
        file.parent.mkdir(exist_ok=True, parents=True)
        stated = manifest(command, study, options)
        if stated:
            write_sealed_json(file, {"files": stated})
        else:
            names = study.study, command, options.get("model"), options.get("shard")
            file.write_text(" ".join(map(str, names)))


def paths(
    stage: Stage, study: StudyConfig, options: dict[str, Any]
) -> tuple[list[Path], list[Path]]:
    """What the stage reads and writes, as given or as the study's layout has it."""
    if stage.per == "list":
        return options["items"], [options["list"]]
    layout = StudyLayout(study, ahead=True)
    read: list[Path] = []
    written: list[Path] = []
    for option in path_options(stage):
        job = {"model": options.get("model", ""), "shard": f"{options.get('shard', 0):03d}"}
        if not option.writes and not stage.wants(option.artifact, study):
            continue
        given = options[f"path {option.artifact.name}"]
        (written if option.writes else read).extend(given or layout.paths(option.artifact, **job))
    return read, written


def manifest(command: str, study: StudyConfig, options: dict[str, Any]) -> dict[str, str]:
    """Digests of the files in a folder on this machine; empty: there are none."""
    if command == "fetch-model":
        folder = Path(study.models[options["model"]].checkpoint)
        names = ["config.json", "model.safetensors"]
    elif command == "fetch-data" and study.data.origin == "local":
        folder = Path(study.data.folder)
        names = study.data.question_files((s.dataset, s.split) for s in study.sample.splits)
    else:
        return {}
    if not folder.is_dir():
        return {}
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


if __name__ == "__main__":
    main()
