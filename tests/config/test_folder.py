"""Paths of a configuration: expanded once, refused in one line where Snakemake cannot hold them."""

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vrp.config.folder import AS_SPELLED, expanded, spelled
from vrp.config.study import StudyConfig, load_study, study_from_mapping
from vrp.errors import InputError
from vrp.workflow.snapshot import write_snapshot

MODEL = {"family": "llava", "checkpoint": "zoo:llava"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me$HOME")
    monkeypatch.setenv("SCRATCH", "/scratch/~me/$SCRATCH $(touch x)")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~/out", "/home/me$HOME/out"),
        ("~", "/home/me$HOME"),
        ("$SCRATCH/out", "/scratch/~me/$SCRATCH $(touch x)/out"),
        ("${SCRATCH}-2", "/scratch/~me/$SCRATCH $(touch x)-2"),
        ("a/~/b", "a/~/b"),
        ("./~x", "./~x"),
        ("$$SCRATCH", "$SCRATCH"),
        ("res$(touch x)", "res$(touch x)"),
        ("costs 5$", "costs 5$"),
        ("$5", "$5"),
        ("my results (1)/x'y", "my results (1)/x'y"),
        ('a"b;c&d|e>f*g?h[i]#!%,:=\\', 'a"b;c&d|e>f*g?h[i]#!%,:=\\'),
        ("Ergebnisse für İstanbul", "Ergebnisse für İstanbul"),
    ],
)
def test_a_path_is_expanded_once(text, path):
    assert expanded(text) == path
    assert expanded(spelled(path)).removeprefix("./") == path.removeprefix("./")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$UNSET/out", "$UNSET is not set"),
        ("${UNSET}", "$UNSET is not set"),
        ("$EMPTY/out", "$EMPTY is not set"),
        ("~nobody-of-this-name/out", "no home folder is known for ~nobody-of-this-name"),
        ("out/{model}", "braces"),
        ("out}", "braces"),
        ("a\nb", "line break"),
        ("a\0b", "control character"),
        ("a\u2028b", "line break"),
        ("a\udc80b", "not text"),
        ("-rf", "reads as an option"),
        ("x" * 256, "255 bytes"),
        ("ü" * 128, "255 bytes"),
        ("x/" * 2000, "3500 bytes"),
    ],
)
@pytest.mark.parametrize("key", ["results", "data.folder", "extraction_from", "checkpoint"])
def test_what_snakemake_cannot_hold_is_refused_in_one_line(key, text, words):
    raw = {"study": "demo", "models": {"one": MODEL}}
    if key == "checkpoint":
        raw["models"] = {"one": {**MODEL, "checkpoint": text}}
    elif key == "data.folder":
        raw["data"] = {"folder": text}
    else:
        raw[key] = text
    with pytest.raises(InputError, match=key.replace(".", r"\.")) as refused:
        study_from_mapping(raw)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


PATHS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def outcome(text):
    try:
        return expanded(text), ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.slow
@given(PATHS)
def test_any_name_is_held_or_refused(text):
    path, message = outcome(text)
    assert len(message.splitlines()) == (path is None)
    if path is None:
        return
    assert not set("{}\n\0") & set(path)
    assert os.path.normpath(expanded(spelled(path))) == os.path.normpath(path)


def test_a_snapshot_means_the_same_paths(tmp_path):
    (tmp_path / "its $x.py").write_text("")
    raw = {
        "study": "demo",
        "results": "$SCRATCH/$$UNSET",
        "extraction_from": "./~",
        "extensions": ["its $$x.py"],
        "data": {
            "origin": "local",
            "folder": "./~/d",
            "images": "$SCRATCH/$$UNSET",
            "files": {"pope": {"questions": "$$UNSET_{split}.json", "images": "~/photos"}},
        },
        "models": {"one": {**MODEL, "checkpoint": "~/$$SCRATCH"}},
    }
    study = study_from_mapping(raw, beside=[tmp_path])
    write_snapshot(study, tmp_path / "config.yaml")
    again = load_study(tmp_path / "config.yaml")
    assert again == study
    assert again.results == "/scratch/~me/$SCRATCH $(touch x)/$UNSET"
    assert again.models["one"].checkpoint == "/home/me$HOME/$SCRATCH"
    assert again.data.folder == "~/d"
    assert again.data.images == "/scratch/~me/$SCRATCH $(touch x)/$UNSET"
    assert again.data.files == {
        "pope": {"questions": "$UNSET_{split}.json", "images": "/home/me$HOME/photos"}
    }


def test_only_a_snapshot_spells_paths():
    study = StudyConfig.model_validate({"study": "a", "models": {"m": MODEL}, "results": "a$$b"})
    assert study.model_dump(mode="json")["results"] == "a$b"
    assert study.model_dump(mode="json", context=AS_SPELLED)["results"] == "a$$b"
    assert yaml.safe_load(yaml.safe_dump(study.model_dump(mode="json")))["results"] == "a$b"
