"""The lock, the environments, the make targets and the papers that are cited."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vrp
from vrp.planning import installed_versions

ROOT = Path(__file__).parents[2]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in (
        line.split("==") for line in (ROOT / "requirements.lock").read_text().split()
    )
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(text)
    for text in (
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["workflow"],
        *PROJECT["optional-dependencies"]["dev"],
        *PROJECT["optional-dependencies"]["docs"],
    )
]


def test_the_project_has_one_name_and_one_version(monkeypatch):
    asked = []
    monkeypatch.setattr("importlib.metadata.requires", asked.append)
    installed_versions.check_versions(ROOT / "requirements.lock")
    assert asked == [PROJECT["name"]]
    assert PROJECT["name"] in (ROOT / "envs" / "environment.post-deploy.sh").read_text()
    assert f"{{{vrp.__version__}}}" in (ROOT / "docs" / "cite.md").read_text()


def test_extras_that_are_named_are_there():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")]
    named = {
        extra
        for page in pages
        for extras in re.findall(rf"(?:{PROJECT['name']}|\.|\.whl)\[([a-z,]+)\]", page.read_text())
        for extra in extras.split(",")
    }
    assert {"workflow", "notebooks"} <= named <= PROJECT["optional-dependencies"].keys()


def test_the_lock_holds_versions_only():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert str(PINS["torch"]) == "2.13.0"
    assert not [name for name in PINS if name.startswith("nvidia")]


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_the_lock_meets_the_project(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_the_lock_is_closed_under_requirements():
    """Whatever a pinned distribution requires here is pinned, too."""
    missing = set()
    for name in PINS:
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{name} is not installed here")
        for requirement in map(Requirement, required):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            # A GPU build of torch brings its own libraries.
            if wanted and not requirement.name.startswith(("nvidia", "triton", "cuda")):
                missing |= {canonicalize_name(requirement.name)} - set(PINS)
    assert not missing


def test_the_conda_environment_is_the_whole_lock():
    environment = yaml.safe_load((ROOT / "envs" / "environment.yaml").read_text())
    pinned = environment["dependencies"][-1]["pip"]
    assert pinned == (ROOT / "requirements.lock").read_text().split()


def test_the_container_is_built_from_files_that_exist():
    text = (ROOT / "envs" / "vrp.def").read_text()
    files = re.search(r"%files\n(.*?)\n\n", text, flags=re.DOTALL)
    assert files is not None
    for line in files.group(1).splitlines():
        assert (ROOT / line.split()[0]).exists(), line


@pytest.mark.slow
def test_the_package_is_built_from_the_files_that_the_container_copies(tmp_path):
    files = re.findall(
        r"^ +(\S+) /opt/vrp/\S+$", (ROOT / "envs" / "vrp.def").read_text(), re.MULTILINE
    )
    for name in files:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "."]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.whl"))


@pytest.mark.parametrize("script", [".ci/run", "envs/environment.post-deploy.sh"])
def test_scripts_are_executable_and_parse(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_links_lead_to_the_profiles():
    assert (ROOT / "slurm").readlink() == Path("workflow/profiles/slurm")
    assert (ROOT / "profiles").readlink() == Path("workflow/profiles")


@pytest.mark.parametrize("profile", ["default", "ci", "slurm"])
def test_every_key_of_a_profile_has_its_reason(profile):
    keys = yaml.safe_load((ROOT / "profiles" / profile / "profile.yaml").read_text())
    text = (ROOT / "profiles" / "README.md").read_text()
    section = re.search(rf"\n## `{profile}`.*?(?=\n## |\Z)", text, flags=re.DOTALL)
    assert section is not None
    for key in keys:
        assert f"| `{key}" in section.group(), key


def test_the_default_profile_erases_nothing():
    """Its keys replace those of any other profile, whole."""
    keys = yaml.safe_load((ROOT / "profiles" / "default" / "profile.yaml").read_text())
    others = {"cores", "configfile", "resources", "set-threads", "set-resources"}
    assert not {*others, "default-resources", "executor", "jobs"} & set(keys)


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_make_lists_its_targets():
    assert re.findall(r"^[a-z-]+", make("help"), flags=re.MULTILINE) == [
        "help", "venv", "demo", "test", "lint", "docs", "reference", "dist", "lock",
    ]  # fmt: skip


def test_an_installed_environment_is_left_alone(tmp_path):
    installed = tmp_path / "installed.txt"
    installed.write_text(
        (ROOT / "requirements.lock").read_text() + (ROOT / "pyproject.toml").read_text()
    )
    assert make("venv", f"VENV={tmp_path}", "PYTHON=false") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["installed.txt"]
    installed.write_text("an older lock")
    with pytest.raises(subprocess.CalledProcessError):
        make("venv", f"VENV={tmp_path}", "PYTHON=false")


def test_both_papers_are_cited():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    found = {
        reference["identifiers"][0]["value"]: reference["title"]
        for reference in citation["references"]
    }
    assert found == {
        "arXiv:2605.08200": "Where Reliability Lives in Vision-Language Models",
        "arXiv:2606.17389": "Visuals Lie, Consistency Speaks",
    }
    assert citation["version"] == vrp.__version__
    assert citation["license"] == PROJECT["license"] == "MIT"
