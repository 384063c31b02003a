"""`vrp init` makes a folder that runs as it is, with the workflow's files of the package."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vrp.cli import main
from vrp.config.study import load_study
from vrp.errors import InputError
from vrp.workflow.location import SNAKEFILE
from vrp.workflow.new_study_folder import make_study_folder

ROOT = Path(__file__).parents[2]


def test_a_new_study_has_a_valid_configuration_a_snakefile_and_profiles(tmp_path, capsys):
    main(["init", str(tmp_path / "my-study")])
    out = capsys.readouterr().out
    assert out.endswith(f"Next: cd {tmp_path / 'my-study'} && snakemake --cores 2\n")
    written = {
        path.relative_to(tmp_path / "my-study").as_posix()
        for path in (tmp_path / "my-study").rglob("*")
        if path.is_file()
    }
    assert written == {
        "Snakefile", "README.md", "config/my-study.yaml", "profiles/default/profile.yaml",
        "profiles/slurm/profile.yaml", "profiles/slurm/site.example.yaml",
    }  # fmt: skip
    study = load_study(tmp_path / "my-study" / "config" / "my-study.yaml")
    assert study.study == "my-study"
    assert "STUDY" not in (tmp_path / "my-study" / "Snakefile").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Study", "use lower-case letters"),
        ("zoo-mine", "use lower-case letters"),
        ("taken", "exists and is not empty"),
    ],
)
def test_folders_that_cannot_be_a_study_are_refused(tmp_path, name, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InputError, match=message):
        make_study_folder(tmp_path / name)


def packaged():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return {
        path.relative_to(ROOT).as_posix()
        for patterns in tables["data-files"].values()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }


def test_the_wheel_holds_every_file_of_the_workflow():
    of_checkout = {
        "workflow/profiles/README.md",
        "workflow/profiles/ci/profile.yaml",
        "envs/vrp.def",
    }
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in ("workflow", "envs")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert packaged() == (wanted - of_checkout) | {"Snakefile", "config/demo.yaml"}


def test_files_that_rules_name_are_in_the_wheel():
    rules = [path for path in packaged() if path.endswith(".smk")]
    named = {
        (ROOT / path).parent.joinpath(name).resolve().relative_to(ROOT).as_posix()
        for path in rules
        for name in re.findall(r'"(\.\./[\w./-]+)"', (ROOT / path).read_text())
    }
    assert {"envs/environment.yaml"} <= named <= packaged()


def test_data_of_the_package_that_is_no_python_is_in_the_wheel():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = ROOT / "src" / "vrp"
    listed = {path for one in tables["package-data"]["vrp"] for path in package.glob(one)}
    found = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".py"}
    compiled = {path for path in found if "__pycache__" in path.parts}
    assert found - compiled <= listed


def dry_run(folder, *arguments):
    """What a dry run in the folder of a study prints."""
    done = subprocess.run(
        [Path(sys.executable).parent / "snakemake", "--cores", "1", "--dry-run", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.workflow
def test_the_workflow_of_a_new_study_can_be_planned(tmp_path):
    assert Path(SNAKEFILE).is_file()
    make_study_folder(tmp_path / "my-study")
    assert "report" in dry_run(tmp_path / "my-study", "--quiet", "rules")


@pytest.mark.slow
@pytest.mark.workflow
def test_another_configuration_of_a_new_study_is_not_merged(tmp_path):
    make_study_folder(tmp_path / "my-study")
    other = (tmp_path / "my-study/config/my-study.yaml").read_text()
    other = other.replace("study: my-study", "study: other").replace("  llava: {", "  mine: {")
    (tmp_path / "my-study/config/other.yaml").write_text(other)
    said = dry_run(tmp_path / "my-study", "--configfile", "config/other.yaml")
    assert "results/other/mine/extract.json" in said
    assert "llava/extract.json" not in said
