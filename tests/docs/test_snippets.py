"""Snippets of the documents: YAML is a study's, JSON lines are questions, Python runs."""

import json
import re
import runpy
import shutil

import pytest
import yaml
from documents import ROOT, blocks
from synthetic_study import write_synthetic_study

from vrp.config.study import study_from_mapping
from vrp.data.datasets.own import OWN_KEYS

DOCS = ROOT / "docs"
EXTENSION_PAGES = DOCS / "extend"
ELSEWHERE = {
    ROOT / "README.md", DOCS / "library.md", DOCS / "monitor.md", DOCS / "judge.md",
}  # fmt: skip
"""Pages whose snippets have tests beside what they are about."""
MODELS = {"tiny": {"family": "llava", "checkpoint": "zoo:llava"}}


def of_configurations():
    return [one for one in blocks("yaml") if EXTENSION_PAGES not in one.page.parents]


@pytest.mark.parametrize("block", of_configurations(), ids=lambda block: block.name)
def test_yaml_is_a_configuration(block):
    raw = yaml.safe_load(block.code)
    study = study_from_mapping({"study": "example", "models": MODELS} | without_files(raw))
    assert all(hasattr(study, key) for key in raw)


def without_files(raw):
    """Extensions are files of the reader's."""
    return {key: value for key, value in raw.items() if key != "extensions"}


def heredocs():
    found = [(b.page, text) for b in blocks("console") for text in re.findall(
        r"config/\w+\.yaml <<'?END'?\n(.*?)^END$", b.code, re.DOTALL | re.MULTILINE)]  # fmt: skip
    assert found
    return found


@pytest.mark.parametrize(("page", "text"), heredocs(), ids=lambda value: getattr(value, "name", ""))
def test_a_configuration_that_is_typed_is_valid(page, text):
    study_from_mapping(yaml.safe_load(text))


def test_json_lines_are_questions():
    lines = [line for block in blocks("json") if block.page.name != "judge.md"
             for line in block.code.splitlines()]  # fmt: skip
    assert len(lines) >= 3
    for line in lines:
        assert {"image", "question"} <= set(json.loads(line)) <= OWN_KEYS


READING = DOCS / "read-tables.md"


def test_python_is_on_pages_that_are_tested():
    pages = {block.page for block in blocks("python")}
    extending = {page for page in pages if page.parent == EXTENSION_PAGES}
    assert pages - extending - ELSEWHERE == {READING}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study's folder with the tables where a finished one has them."""
    folder = tmp_path_factory.mktemp("finished")
    study = write_synthetic_study(folder / "made", models=("llava",))
    results = folder / "results" / "demo"
    (results / "llava" / "answers").mkdir(parents=True)
    shutil.copy(study.items, results / "items.parquet")
    shutil.copy(study.tables["answers"][0], results / "llava" / "answers" / "000.parquet")
    for name in ("signals", "metrics"):
        shutil.copy(study.tables[name][0], results / "llava" / f"{name}.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python", pages=[READING]), ids=lambda block: block.name)
def test_reading_tables(block, finished, monkeypatch, capsys, tmp_path):
    if "duckdb" in block.code:
        pytest.importorskip("duckdb")
    monkeypatch.chdir(finished)
    script = tmp_path / "snippet.py"
    script.write_text(block.code)
    runpy.run_path(str(script))
    assert capsys.readouterr().out.strip()


def test_public_docstrings_name_what_there_is():
    """Files that docstrings and comments of the package name exist."""
    named = re.compile(
        r"(?:docs|config|workflow|benchmarks|src/vrp)/[\w./-]+\.(?:md|yaml|smk|py|json)"
    )
    missing = {
        (str(source.relative_to(ROOT)), path)
        for source in (ROOT / "src").rglob("*.py")
        for path in named.findall(source.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    }
    assert not missing


def test_the_page_on_the_embedded_models_lists_what_they_know():
    from vrp.data.scenes.draw import CATEGORIES

    text = (DOCS / "embedded.md").read_text(encoding="utf-8")
    listed = re.search(r"(\d+) kinds of objects \(([^)]+)\)", text)
    assert sorted(re.split(r",\s+", listed[2])) == sorted(CATEGORIES)
    assert int(listed[1]) == len(CATEGORIES)
