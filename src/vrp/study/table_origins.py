"""Whether the files that a job reads were made for it, and from each other.

A table states what made it: study, stage, model, the digest of its configuration, versions, and
the digests of the rows of all tables that it was computed from, directly or not. A job reads
nothing that was made by another stage or model, for another study, with other keys, or from other
rows than those of a table that it reads itself.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.study.declarations import Artifact, Stage
from vrp.study.digests import code_digest
from vrp.study.graph import LIST_OF, MADE_BY, SAVED_PROBE, STAGE
from vrp.study.keys import stage_config
from vrp.study.provenance import INPUTS, STATED, digest
from vrp.tables.saved_probe import read_saved_probe
from vrp.tables.seal import read_provenance, read_seal
from vrp.tables.sealed_json import read_sealed_json
from vrp.tables.shard_list import read_shard_list

_MODEL = ("revision", "weights")
# Distributions that a model's answers depend on.
_ANSWERING = ("torch", "transformers", "tokenizers", "pillow")
_ROWS_DIGITS = 16


class Origin(NamedTuple):
    """What a file states of how it was made."""

    path: Path
    """The file."""
    name: str
    """The file in the graph and its model, such as `signals llava`."""
    stated: Mapping[str, str]
    """Provenance."""
    rows: str
    """Digest of its rows; of a list, of all its shards' rows."""

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of the rows of all that it was computed from, by name."""
        return dict(json.loads(self.stated.get(INPUTS) or "{}"))


def rows_digest(path: Path) -> str:
    """Return the digest of a table's rows: equal for equal rows, whatever made them."""
    return read_seal(path).rows[:_ROWS_DIGITS]


def read_origin(artifact: Artifact, path: Path) -> Origin:
    """Read what a table, a list of shards, a saved probe or a manifest states of itself.

    Raises:
        InputError: the file is missing or damaged, or states nothing.
    """
    if artifact in LIST_OF:
        listed = read_shard_list(path)
        stated, rows = listed.made_by, listed.rows
    elif artifact == SAVED_PROBE:
        stated, rows = read_saved_probe(path).provenance, ""
    elif not artifact.schema:
        content = read_sealed_json(path, made_by=MADE_BY[artifact].command)
        stated, rows = content.get(STATED, {}), ""
    else:
        stated, rows = read_provenance(path), rows_digest(path)
    return Origin(path, f"{artifact.name} {stated.get('model', '')}".strip(), stated, rows)


def expected_provenance(study: StudyConfig, stage: Stage, model: str = "") -> dict[str, str]:
    """Return what a file of a stage states where it is made now.

    Args:
        study: the configuration.
        stage: the stage.
        model: its model; empty where it is of all.
    """
    return {
        "study": study.study,
        "stage": stage.name,
        "model": model,
        "code": code_digest(study, stage.name, model),
        "config": digest(stage_config(study, stage, model or None)),
    }


def check_inputs(
    study: StudyConfig,
    model: str,
    files: Mapping[Artifact, Sequence[Path]],
) -> dict[str, str]:
    """Refuse files that a job of the study must not read together.

    Args:
        study: the configuration.
        model: the job's model; empty where it is of all.
        files: what it reads; only tables and lists of shards are looked at.

    Returns:
        For the job's own provenance: the digests of its inputs' rows and of theirs, and what its
        model was, where the inputs tell.

    Raises:
        InputError: naming a file and what it does not fit.
    """
    origins: list[Origin] = []
    for artifact, paths in files.items():
        if artifact.schema or artifact in LIST_OF:
            for path in paths:
                origin = read_origin(artifact, path)
                _require_made_for(study, artifact, model, origin)
                origins.append(origin)
    _require_distinct(origins)
    inputs = _require_same_rows(origins)
    of_model = _require_one_model(origins)
    return {INPUTS: json.dumps(inputs, sort_keys=True), **(of_model if model else {})}


def _require_made_for(study: StudyConfig, artifact: Artifact, model: str, origin: Origin) -> None:
    maker = MADE_BY.get(artifact) or LIST_OF[artifact]
    stated, path = origin.stated, origin.path
    again = f"give this study's own, or delete it and rerun `vrp {maker.command}`"
    if stated.get("stage") != maker.name:
        raise InputError(f"{path}: was made by stage {stated.get('stage')!r}, not {maker.name!r}")
    if not (maker.shareable and study.extraction_from) and stated.get("study") != study.study:
        raise InputError(
            f"{path}: is of study {stated.get('study')!r}, not {study.study!r}; {again}"
        )
    found = stated.get("model", "")
    if "model" in artifact.wildcards and (found != model if model else found not in study.models):
        expected = repr(model) if model else f"one of {', '.join(study.models)}"
        raise InputError(f"{path}: is of model {found!r}, not {expected}; {again}")
    if stated.get("config") != digest(stage_config(study, maker, found or None)):
        raise InputError(
            f"{path}: was made with other keys of the configuration ({', '.join(maker.keys)}); "
            f"rerun `vrp {maker.command}`, or restore the keys"
        )


def _require_distinct(origins: Iterable[Origin]) -> None:
    seen: dict[str, Path] = {}
    for origin in origins:
        if origin.name in seen:
            raise InputError(f"{origin.path}: is of {origin.name}, as is {seen[origin.name]}")
        seen[origin.name] = origin.path


def _require_same_rows(origins: Sequence[Origin]) -> dict[str, str]:
    """Return the digests of all tables that went into the origins, which must agree on each."""
    read = {origin.name: origin for origin in origins}
    stated: dict[str, tuple[str, Path]] = {}
    for origin in origins:
        for name, rows in origin.inputs.items():
            agreed, path = stated.setdefault(name, (rows, origin.path))
            if name in read and rows != read[name].rows:
                raise InputError(
                    f"{origin.path}: was made from other rows of {name} than those of "
                    f"{read[name].path}; rerun the stages that follow from {name}"
                )
            if rows != agreed:
                raise InputError(
                    f"{origin.path}: was made from other rows of {name} than {path}; rerun the "
                    f"stages that follow from {name}"
                )
    return {name: rows for name, (rows, _) in stated.items()} | {
        name: origin.rows for name, origin in read.items()
    }


def _require_one_model(origins: Iterable[Origin]) -> dict[str, str]:
    """Refuse tables of one model that other weights, or other versions of its libraries, made.

    Returns:
        What the origins state of the last model: where they are all of one, of that.
    """
    first: dict[tuple[str, str], Origin] = {}
    for origin in origins:
        model = origin.stated.get("model", "")
        for key in _MODEL:
            one = first.setdefault((model, key), origin) if origin.stated.get(key) else origin
            if one.stated.get(key) != origin.stated.get(key):
                raise InputError(
                    f"{origin.path}: was made with {key} {origin.stated[key]!r}, {one.path} with "
                    f"{one.stated[key]!r}; delete the older file and rerun the stage that makes it"
                )
        if STAGE[origin.stated["stage"]].runs_model:
            one = first.setdefault((model, "versions"), origin)
            require_versions(origin.path, origin.stated, one.stated, one.path)
    return {key: origin.stated[key] for (_, key), origin in first.items() if key in _MODEL}


def require_versions(
    path: Path, found: Mapping[str, str], expected: Mapping[str, str], whose: Path
) -> None:
    """Refuse a file that other versions made of what a model's answers depend on.

    Args:
        path: the file.
        found: its provenance.
        expected: provenance of the file that it is compared with.
        whose: that file.

    Raises:
        InputError: naming the first version that differs.
    """
    here, there = (json.loads(one.get("versions") or "{}") for one in (found, expected))
    for name in _ANSWERING:
        if here.get(name) != there.get(name):
            raise InputError(
                f"{path}: was made with {name} {here.get(name)}, {whose} with {there.get(name)}; "
                "delete the older file and rerun the stage that makes it"
            )
