"""The wheel, installed into an environment of its own, runs a study without a checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from vrp import __version__

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.workflow]
# The study that `vrp init` writes, smaller.
SMALL = (
    "sample={splits: [{dataset: pope, split: adversarial, task: existence, count: 12}]}",
    "mask={enabled: false}", "ablate={enabled: false}", "trace={enabled: false}",
    "probes={folds: 2, inner_folds: 2, penalties: [0.1], mlp: false}", "consistency={k: 2}",
)  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The programs of an environment that holds the wheel, and what it needs from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    run(*build, "--wheel-dir", folder, source(folder / "source"), cwd=folder)
    (wheel,) = folder.glob("vlm_reliability-*.whl")
    venv.create(folder / "env", symlinks=True)
    programs = folder / "env" / "bin"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        programs / "python",
        "install",
        "--no-deps",
        wheel,
        cwd=folder,
    )
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # The program comes with Snakemake, which is not installed anew.
    (programs / "snakemake").write_text(
        f"#!{programs / 'python'}\nimport sys\nfrom snakemake.cli import main\nsys.exit(main())\n"
    )
    (programs / "snakemake").chmod(0o755)
    return programs


def source(folder):
    """Copy of what the wheel is built from: a build leaves files behind."""
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "workflow", "envs", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", "Snakefile"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(*command, cwd, programs=None):
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if programs is not None:
        variables["PATH"] = f"{programs}:{variables['PATH']}"
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_the_package_of_the_wheel(installed, tmp_path):
    assert run("vrp", "--version", cwd=tmp_path, programs=installed) == f"vrp {__version__}\n"
    where = run(installed / "python", "-c", "import vrp; print(vrp.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_a_new_study_runs_to_its_report(installed, tmp_path):
    run("vrp", "init", "my-study", cwd=tmp_path, programs=installed)
    study = tmp_path / "my-study"
    run("snakemake", "--cores", "2", "--config", *SMALL, cwd=study, programs=installed)
    assert "<html" in (study / "results/my-study/report.html").read_text()
