"""What `import vrp` offers: the names that docs/library.md lists, each imported when it is used."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vrp

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"


def listed(heading: str) -> set[str]:
    """Names in the first column of the table under a heading of the document."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([\w.]+)", section, flags=re.MULTILINE))


def members(kind):
    return {
        name
        for name in [*vars(kind), *getattr(kind, "__annotations__", {})]
        if not name.startswith("_")
    }


def test_public_names_are_those_that_are_documented():
    assert listed("Names") == {f"vrp.{name}" for name in vrp.__all__}


def test_every_public_name_is_there():
    for name in vrp.__all__:
        assert getattr(vrp, name) is not None
        assert name in dir(vrp)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vrp.nothing


@pytest.mark.parametrize("name", ["Model", "Reading", "ReliabilityMonitor", "Study"])
def test_members_of_a_class_are_those_that_are_documented(name):
    of_instances = {"Study": {"folder", "config", "results"}}.get(name, set())
    assert listed(name) == members(getattr(vrp, name)) | of_instances


def test_import_loads_no_model_library_and_no_table_library():
    heavy = "{'torch', 'transformers', 'polars', 'pyarrow', 'numpy', 'matplotlib'}"
    code = f"import sys, vrp; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_statistics_are_modules_of_functions_of_arrays():
    assert vrp.stats.auroc.auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert "calibration" in dir(vrp.stats)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vrp.stats.nothing
