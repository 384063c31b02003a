"""The Python of README, docs/library.md and docs/monitor.md runs as it stands."""

import importlib.util
import shutil

import nbformat
import pytest
from documents import ROOT, blocks

from vrp.zoo import zoo_checkpoint

pytestmark = pytest.mark.slow

PAGES = [ROOT / "README.md", ROOT / "docs" / "library.md", ROOT / "docs" / "monitor.md"]


@pytest.fixture(scope="module")
def place(small_results, monitor, study, tmp_path_factory):
    """A folder with what the pages name: a study, a photo, a monitor, a checkpoint."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "results").mkdir()
    (folder / "results" / "demo").symlink_to(small_results)
    (folder / "data").symlink_to(small_results.parents[1] / "data")
    shutil.copy(study.item(study.items["item_id"][0])["image"], folder / "photo.png")
    (folder / "src/vrp/zoo/weights").mkdir(parents=True)
    (folder / "src/vrp/zoo/weights/llava").symlink_to(zoo_checkpoint("llava"))
    monitor.save(folder / "monitors" / "demo-llava")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    # What needs an account on the hub has tests of its own.
    code = [block.code for block in blocks("python", pages=[page]) if "hub(" not in block.code]
    assert code
    for part in code:
        exec(compile(part, str(page), "exec"), names)
    if page.name == "monitor.md":
        assert capsys.readouterr().out.split()[-1] in ("accept", "ask")


def runner():
    place = ROOT / "docs" / "generators" / "notebooks.py"
    spec = importlib.util.spec_from_file_location("notebooks", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run_notebook


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def kinds(notebook):
    """What each code cell shows: text, or the types of its value."""
    return [
        [sorted(one.get("data", {"text": None})) for one in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_has_stored(path, place, monkeypatch):
    monkeypatch.chdir(place)
    assert len(NOTEBOOKS) == 3
    assert kinds(runner()(path)) == kinds(nbformat.read(path, as_version=4))
