"""Whatever a folder is called, a shell hands its path to the stage as it is, and runs nothing."""

import shlex
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.utils import format as format_command
from snakemake_interface_executor_plugins import utils
from snakemake_interface_executor_plugins.executors.real import RealExecutor

from vrp.config.folder import expanded, spelled
from vrp.study.command import command_line
from vrp.study.graph import STAGE
from vrp.workflow.shell_quoting import quote_job_commands

HOSTILE = st.sampled_from(
    ["$(touch w)", "`touch w`", "; touch w;", "'", '"', "\\", "*", "$HOME", " ", "#", "&", "|", "~",
     "!", ">w", "<", "(", ")", "[a]", "é", "-", "%s", "/", "x"]
)  # fmt: skip
NAMES = st.lists(
    HOSTILE | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), min_size=1
)
PRINTED = 'vrp() { printf "%s\\0" "$@"; }; '


def is_held(path):
    try:
        return path != "" and expanded(spelled(path)).removeprefix("./") == path
    except ValueError:
        return False


# One empty folder, and one replaced function, for all examples.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
PATHS = NAMES.map("".join).filter(is_held)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["extract", "report", "gather"])
@shared
@given(PATHS)
def test_a_rules_command_gives_a_stage_its_paths(here, stage, path):
    command = format_command(
        command_line(STAGE[stage]), log="/dev/null",
        params=SimpleNamespace(study=path, folder=path),
        wildcards=SimpleNamespace(model="llava", shard="000", stage="extract"),
        resources=SimpleNamespace(gpu=0), input=SimpleNamespace(item_tables=path),
        output=SimpleNamespace(list=path),
    )  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", PRINTED + command], capture_output=True, cwd=here, check=True
    )
    words = done.stderr.decode().split("\0")
    named = ("--config", "--folder", "--items", "--list") if stage == "gather" else ("--config",)
    for option in named:
        assert words[words.index(option) + 1] == path
    assert list(here.iterdir()) == []


@pytest.fixture
def quoted(monkeypatch):
    monkeypatch.setattr(utils, "format_cli_value", utils.format_cli_value)
    monkeypatch.setattr(RealExecutor, "format_job_exec", RealExecutor.format_job_exec)
    quote_job_commands()


@shared
@given(st.lists(NAMES.map("".join), min_size=1, max_size=3))
def test_arguments_of_snakemakes_own_jobs_reach_it_as_they_are(quoted, values):
    assert shlex.split(utils.format_cli_arg("--config", values)) == ["--config", *values]
    assert utils.format_cli_arg("--cores", 2) == "--cores 2"


def test_the_interpreter_is_quoted(monkeypatch):
    monkeypatch.setattr(utils, "format_cli_value", utils.format_cli_value)
    monkeypatch.setattr(
        RealExecutor, "format_job_exec", lambda self, job: "/my venv/python -m snakemake x"
    )
    quote_job_commands()
    executor = SimpleNamespace(get_python_executable=lambda: "/my venv/python")
    command = RealExecutor.format_job_exec(executor, None)
    assert shlex.split(command) == ["/my venv/python", "-m", "snakemake", "x"]
