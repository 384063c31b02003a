import shutil
from pathlib import Path

import pytest

import vrp
from vrp import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's source that a test may edit."""
    root = tmp_path / "vrp"
    ignore = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(Path(vrp.__file__).parent, root, ignore=ignore)
    monkeypatch.setattr(provenance, "__file__", str(root / "provenance.py"))

    def forget():
        for cached in ("code_digest", "import_closure", "_tree", "_module_digest"):
            getattr(provenance, cached).cache_clear()

    forget()
    yield root, forget
    monkeypatch.undo()
    forget()


def test_the_closure_follows_imports(package):
    closure = provenance.import_closure("vrp.tables.files")
    assert closure >= {"vrp.tables.files", "vrp.tables.schema", "vrp.errors"}
    assert not any(name.startswith("vrp.plots") for name in closure)


def test_code_changes_the_digest_and_comments_do_not(package):
    root, forget = package
    before = provenance.code_digest("vrp.tables.files")
    path = root / "tables" / "schema.py"
    text = path.read_text()
    path.write_text(
        text.replace('"""How a table', '"""Another docstring. How a table') + "\n# why\n"
    )
    forget()
    assert provenance.code_digest("vrp.tables.files") == before
    path.write_text(text + "\nEXTRA = 1\n")
    forget()
    assert provenance.code_digest("vrp.tables.files") != before


def test_an_unrelated_module_does_not_change_the_digest(package):
    root, forget = package
    before = provenance.code_digest("vrp.tables.files")
    (root / "cli.py").write_text("EXTRA = 1\n")
    forget()
    assert provenance.code_digest("vrp.tables.files") == before


def test_digest_ignores_the_order_of_keys():
    assert provenance.digest({"a": 1, "b": 2}) == provenance.digest({"b": 2, "a": 1})
    assert provenance.digest({"a": 1}) != provenance.digest({"a": 2})


def test_every_figure_is_part_of_the_figures_stage(package):
    root, forget = package
    before = provenance.code_digest("vrp.stages.figures")
    assert "vrp.plots.figures.masking" in provenance.import_closure("vrp.stages.figures")
    path = root / "plots" / "figures" / "masking.py"
    path.write_text(path.read_text() + "\nEXTRA = 1\n")
    forget()
    assert provenance.code_digest("vrp.stages.figures") != before


def test_a_template_is_part_of_its_package(package):
    root, forget = package
    template = root / "plots" / "page.html"
    template.write_text("one")
    before = provenance.module_digests("vrp.stages.figures")
    template.write_text("two")
    forget()
    after = provenance.module_digests("vrp.stages.figures")
    assert [name for name in before if before[name] != after[name]] == ["vrp.plots"]
