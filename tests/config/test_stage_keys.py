"""A stage is handed no key that its rule does not watch: else an edit would go unnoticed."""

import argparse
import ast
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vrp import cli, stages
from vrp.config.section import Section
from vrp.config.study import STAGE_KEYS, StudyConfig, study_from_mapping
from vrp.study.provenance import import_closure
from vrp.tables import shard_list

SOURCE = Path(stages.__file__).parents[1]
STUDY = study_from_mapping(
    {"study": "tiny", "models": {"one": {"family": "llava", "checkpoint": "zoo:llava"}}}
)
# Handed the whole section of its model, it may read these alone: dtype, prompt and the like do
# not change what is fetched.
NARROWER = {"fetch_model": {"family", "checkpoint", "revision"}}
# Handed a whole section, of which the source of the stage reads only what the rule watches: the
# model runs open images by the folder, and the blank-image run is another rule's.
SECTION_TYPES = {"data": "DataConfig", "extract": "ExtractConfig"}
READ_IN_PART = {
    "extract": ("data", "extract"),
    "blind": ("data",),
    "consistency": ("data",),
    "mask": ("data",),
    "ablate": ("data",),
}


class Traced:
    """Stands for a section or a value and remembers by which keys it was reached."""

    def __init__(self, value: Any, path: str, reads: set[str]) -> None:
        self._value, self._path, self._reads = value, path, reads

    def __getattr__(self, name: str) -> Any:
        return self._step(getattr(self._value, name), name)

    def __getitem__(self, name: str) -> Any:
        return self._step(self._value[name], "*")

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def _step(self, value: Any, name: str) -> Any:
        path = f"{self._path}.{name}".removeprefix(".")
        self._reads.add(path)
        if isinstance(value, Section | dict):
            return Traced(value, path, self._reads)
        return value


def keys_handed_over(stage: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys of all that the command line hands to a stage, sections spelled as `name`."""
    reads: set[str] = set()
    handed: dict[str, Any] = {}
    stand_in = types.ModuleType(f"vrp.stages.{stage}")
    stand_in.run = lambda **arguments: handed.update(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"vrp.stages.{stage}", stand_in)
    monkeypatch.setattr(stages, stage, stand_in, raising=False)
    monkeypatch.setattr(cli, "load_study", lambda path: Traced(STUDY, "", reads))
    monkeypatch.setattr(cli, "_origin", lambda *arguments, **more: {})
    monkeypatch.setattr(shard_list, "listed_shards", lambda lists, table: [])
    cli.main(arguments_of(stage))
    assert handed
    # A section that was only a way to one of its keys was not handed over itself.
    whole = {value._path for value in handed.values() if isinstance(value, Traced)}
    passed_through = {
        path for path in reads if path not in whole and any(r.startswith(f"{path}.") for r in reads)
    }
    return reads - passed_through


def arguments_of(stage: str) -> list[str]:
    """A command line for the stage with every required option."""
    command = stage.replace("_", "-")
    subcommands = next(
        action
        for action in cli.build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    line = [command]
    for option in subcommands.choices[command]._actions:
        if option.required and option.option_strings:
            line += [option.option_strings[0], "1" if option.type is int else "one"]
    return line


def covers(watched: tuple[str, ...], key: str) -> bool:
    return any(key == known or key.startswith(f"{known}.") for known in watched)


@pytest.mark.parametrize("stage", [stage for stage in STAGE_KEYS if stage not in NARROWER])
def test_every_key_handed_over_is_watched(stage, monkeypatch):
    handed = keys_handed_over(stage, monkeypatch)
    unwatched = {key for key in handed if not covers(STAGE_KEYS[stage], key)}
    unwatched -= set(READ_IN_PART.get(stage, ()))
    assert not unwatched


@pytest.mark.parametrize("stage", [stage for stage in STAGE_KEYS if stage not in NARROWER])
def test_every_watched_key_is_handed_over(stage, monkeypatch):
    """Else an edit would rerun a stage that cannot have changed."""
    handed = keys_handed_over(stage, monkeypatch)
    # A section whose keys are handed over one by one is handed over.
    handed |= {key.rsplit(".", 1)[0] for key in handed}
    # The study's name goes into the tables' provenance.
    unused = {
        key
        for key in STAGE_KEYS[stage]
        if key not in handed and key.split(".")[0] not in READ_IN_PART.get(stage, ())
    } - {"study"}
    assert not unused


@pytest.mark.parametrize(
    ("stage", "section"), [(s, name) for s, names in READ_IN_PART.items() for name in names]
)
def test_of_a_section_that_is_watched_in_part_no_other_key_is_read(stage, section):
    watched = {k.split(".")[1] for k in STAGE_KEYS[stage] if k.startswith(f"{section}.")}
    assert watched
    assert keys_read(stage, section) == watched


def keys_read(stage: str, section: str) -> set[str]:
    """Keys of a section that the modules of a stage name, wherever the section is typed."""
    found: set[str] = set()
    for module in import_closure(f"vrp.stages.{stage}"):
        path = SOURCE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        tree = ast.parse(path.read_text() if path.is_file() else "")  # packages hold no code
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if SECTION_TYPES[section] not in names or module.startswith("vrp.config."):
            continue
        found |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == section
        }
    return found


@pytest.mark.parametrize("stage", NARROWER)
def test_a_narrower_stage_is_handed_its_model_only(stage, monkeypatch):
    assert keys_handed_over(stage, monkeypatch) == {"models.*"}
    assert set(STAGE_KEYS[stage]) == {f"models.*.{name}" for name in NARROWER[stage]}


@pytest.mark.slow
@pytest.mark.parametrize("stage", NARROWER)
def test_a_narrower_stage_reads_these_keys_only(stage, monkeypatch, tmp_path):
    """Run it on an embedded model and see what it asks of the section."""
    from vrp.stages import fetch_model

    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes(b"{}")
    save_file({"weight": np.zeros(1)}, folder / "model.safetensors")
    reads: set[str] = set()
    section = STUDY.models["one"].model_copy(update={"checkpoint": str(folder)})
    try:
        fetch_model.run(
            model=Traced(section, "", reads),  # type: ignore[arg-type]
            output=tmp_path / "manifest.json",
        )
    except Exception as error:
        pytest.fail(f"a folder with the files of a checkpoint was refused: {error}")
    assert reads <= NARROWER[stage]


def test_the_stages_are_those_of_the_rules():
    rules = Path(__file__).parents[2] / "workflow" / "rules"
    assert {path.stem for path in rules.glob("*.smk")} == set(STAGE_KEYS)


def test_watched_keys_exist():
    assert StudyConfig.model_validate(STUDY.model_dump()) == STUDY
    for stage, keys in STAGE_KEYS.items():
        for key in keys:
            section: Any = STUDY
            for part in key.split("."):
                section = section["one"] if part == "*" else getattr(section, part)
            assert section is not None or key.endswith("revision"), (stage, key)
