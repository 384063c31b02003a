"""The lock, the environments, the make targets and the papers that are cited."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

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
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
