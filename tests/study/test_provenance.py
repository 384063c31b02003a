import shutil
from pathlib import Path

import pytest

import vrp
from vrp.study import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's source that a test may edit."""
    root = tmp_path / "vrp"
    ignore = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(Path(vrp.__file__).parent, root, ignore=ignore)
    monkeypatch.setattr(provenance, "__file__", str(root / "study" / "provenance.py"))

    def forget():
        for cached in ("code_digest", "import_closure", "_content"):
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


def changed(package, module, edit):
    """Modules of the closure whose digests an edit of the package's copy changes."""
    root, forget = package
    before = provenance.module_digests(module)
    edit(root)
    forget()
    after = provenance.module_digests(module)
    assert before.keys() == after.keys()
    return [name for name in before if before[name] != after[name]]


def test_a_template_is_part_of_the_module_that_opens_it(package):
    def edit(root):
        (root / "report" / "templates" / "new.html").write_text("one")

    assert changed(package, "vrp.stages.report", edit) == ["vrp.report.page"]


def test_a_data_file_is_part_of_the_module_that_opens_it(package):
    def edit(root):
        path = root / "report" / "signal_costs.json"
        path.write_text(path.read_text() + " ")

    assert changed(package, "vrp.stages.report", edit) == ["vrp.report.costs"]


@pytest.mark.parametrize(
    "copy",
    [
        "stages/.probes.py.swp",
        "stages/probes.py~",
        "report/templates/.report.html.j2.swp",
        "report/templates/report.html.j2~",
        "report/templates/#report.html.j2#",
        "report/notes.txt",
    ],
)
def test_what_editors_leave_lying_about_does_not_count(package, copy):
    assert changed(package, "vrp.stages.report", lambda root: (root / copy).touch()) == []


@pytest.mark.parametrize("stage", ["extract", "blind", "consistency", "mask", "ablate"])
def test_another_published_checkpoint_is_no_part_of_a_model_run(package, stage):
    def edit(root):
        (root / "planning" / "checkpoints" / "new.json").write_text("{}")

    assert changed(package, f"vrp.stages.{stage}", edit) == []


def test_another_published_checkpoint_is_part_of_planning(package):
    def edit(root):
        (root / "planning" / "checkpoints" / "another.json").write_text("{}")

    assert changed(package, "vrp.planning.plan", edit) == ["vrp.planning.published"]


def test_every_file_that_ships_is_part_of_a_module():
    """Weights aside, which a model's manifest accounts for."""
    root = Path(vrp.__file__).parent
    modules = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in root.rglob("*.py")
    }
    covered = {file for module in modules for file in provenance.data_files(module)}
    shipped = {
        path
        for pattern in ("report/templates/*", "report/*.json", "planning/checkpoints/*.json")
        for path in root.glob(pattern)
        if not path.name.startswith(".") and not path.name.endswith("~")
    }
    assert len(shipped) >= 8
    assert covered == shipped


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('"""Of a module."""\nx = 1', "x = 1", True),
        ("class A:\n    x: int = 1\n    'Of an attribute.'\n    y: int", None, True),
        ("class A:\n    x: int = 1\n    'Another text.'\n    y: int", None, True),
        ("class A:\n    x: int = 1\n    y: int = 2", None, False),
        ("def f():\n    'All that it does.'", "def f():\n    pass", True),
        ("def f():\n    'Returned.'\n    return 'a'", "def f():\n    return 'a'", True),
        ("def f():\n    return 'b'", "def f():\n    return 'a'", False),
        ("x = (1 +\n  2)  # three", "x = 1 + 2", True),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = '1'", False),
        ("f(a, [b], c)", "f(a, [b, c])", False),
    ],
)
def test_strings_that_stand_alone_do_not_count(package, one, other, equal):
    root, forget = package

    def digest_of(text):
        (root / "edited.py").write_text(text)
        forget()
        return provenance.code_digest("vrp.edited")

    other = other or "class A:\n    x: int = 1\n    y: int"
    assert (digest_of(one) == digest_of(other)) is equal
