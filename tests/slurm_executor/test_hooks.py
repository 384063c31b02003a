"""What the executor uses of other packages: all of it listed, reported if missing, unchanged."""

import ast
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as upstream
import yaml
from programs import write_program
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

import snakemake_executor_plugin_vrp_slurm as plugin
import vrp.workflow.orphaned_outputs
from snakemake_executor_plugin_vrp_slurm import executor, queue, settings
from snakemake_executor_plugin_vrp_slurm.hooks import (
    FAILED_JOBS,
    PERSISTENCE,
    SLURM_PLUGIN,
    SLURM_PLUGIN_ATTRIBUTES,
    missing_name,
)

ROOT = Path(__file__).parents[2]
HOOKS = [(used, name) for used in (SLURM_PLUGIN, PERSISTENCE, FAILED_JOBS) for name in used.names]
# Names that the interface, which is versioned, gives every executor.
INTERFACE = {"workflow", "logger", "wait", "status_rate_limiter"}


@pytest.mark.parametrize(("used", "name"), HOOKS, ids=[name for _, name in HOOKS])
def test_a_missing_name_is_reported_in_one_line(monkeypatch, used, name):
    assert missing_name(used) is None
    path, _, attribute = name.replace(":", ".").rpartition(".")
    monkeypatch.delattr(pkgutil.resolve_name(path), attribute)
    version = importlib.metadata.version(used.distribution)
    line = missing_name(used)
    assert line is not None
    assert line.startswith(f"{used.distribution} {version} has no {path}.{attribute}")
    assert f"(tested with {used.tested}); run `pip install '{used.distribution}==" in line
    assert "\n" not in line


def test_a_plugin_that_is_not_installed_is_reported(monkeypatch):
    def missing(distribution: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.delattr(upstream, "Executor")
    line = missing_name(SLURM_PLUGIN)
    assert line is not None
    assert line.startswith("snakemake-executor-plugin-slurm is not installed, which")


def make_executor() -> Any:
    made = plugin.Executor.__new__(plugin.Executor)
    made.workflow = SimpleNamespace(executor_settings=plugin.ExecutorSettings())
    made.logger = SimpleNamespace(info=print, warning=print, error=print)
    return made


@pytest.mark.parametrize("missing", SLURM_PLUGIN_ATTRIBUTES)
def test_a_missing_attribute_is_reported_when_the_executor_is_made(monkeypatch, missing):
    for name, answer in (
        ("partitions", ({}, "cpu")),
        ("accounting_error", ""),
    ):
        monkeypatch.setattr(queue, name, lambda answer=answer: answer)

    def set_attributes(self: Any, test_mode: bool) -> None:
        for name in SLURM_PLUGIN_ATTRIBUTES:
            if name != missing:
                setattr(self, name, None)

    monkeypatch.setattr(upstream.Executor, "__post_init__", set_attributes)
    with pytest.raises(WorkflowError, match=rf"has no Executor\(\)\.{missing}, which"):
        make_executor().__post_init__()


def test_the_executor_refuses_to_start_without_snakemakes_persistence(monkeypatch):
    from snakemake.persistence.file import FilePersistence

    monkeypatch.delattr(FilePersistence, "_mark_incomplete")
    with pytest.raises(WorkflowError, match=r"snakemake 9\.\S+ has no .*_mark_incomplete, which"):
        plugin.Executor(None, None)


def names_used(module: Any, package: str, variable: str) -> set[str]:
    """What a module imports of a package (`module:name`), and the attributes of a variable."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(package):
            used |= {f"{node.module}:{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == variable:
            used.add(node.attr)
    return used


def test_no_name_of_the_slurm_plugin_is_used_unlisted():
    used = names_used(executor, "snakemake_executor_plugin_slurm", "self")
    imported = {name for name in used if ":" in name}
    own = set(vars(executor.Executor)) | {
        target.attr
        for node in ast.walk(ast.parse(inspect.getsource(executor.Executor)))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for target in ast.walk(target)
        if isinstance(target, ast.Attribute)
    }
    inherited = used - imported - own - set(dir(RemoteExecutor)) - INTERFACE
    class_path = "snakemake_executor_plugin_slurm:Executor"
    listed = {name.removeprefix(f"{class_path}.") for name in SLURM_PLUGIN.names}
    assert imported <= listed
    assert inherited <= listed | set(SLURM_PLUGIN_ATTRIBUTES)
    assert inherited >= {"_report_job_submission_threadsafe", "run_uuid"}


def test_no_name_of_snakemakes_persistence_is_used_unlisted():
    module = vrp.workflow.orphaned_outputs
    used = names_used(module, "snakemake.persistence", "records")
    used |= names_used(module, "snakemake.persistence", "FilePersistence")
    listed = {
        name.removeprefix("snakemake.persistence.file:FilePersistence.")
        for name in PERSISTENCE.names
    }
    assert used <= listed
    assert "_write_record" in used


def test_the_versions_that_are_installed_are_those_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    workflow = project["optional-dependencies"]["workflow"]
    assert f"{SLURM_PLUGIN.distribution}=={SLURM_PLUGIN.tested}.*" in workflow
    assert any(line.startswith(f"snakemake>={PERSISTENCE.tested},") for line in workflow)
    locked = (ROOT / "requirements.lock").read_text()
    for used in (SLURM_PLUGIN, PERSISTENCE):
        assert f"{used.distribution}=={used.tested}." in locked


def test_the_profile_can_be_read_without_the_slurm_plugin(monkeypatch):
    monkeypatch.delattr(upstream, "ExecutorSettings")
    spec = importlib.util.spec_from_file_location("settings_alone", settings.__file__)
    assert spec is not None
    assert spec.loader is not None
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    (profile,) = (ROOT / "workflow" / "profiles" / "slurm").glob("profile*.yaml")
    keys = yaml.safe_load(profile.read_text())
    options = {key.removeprefix("vrp-slurm-") for key in keys if key.startswith("vrp-slurm-")}
    known = {field.name.replace("_", "-") for field in fields(alone.ExecutorSettings)}
    assert "site" in options
    assert options <= known


def upstream_attributes() -> dict[tuple[str, str], Any]:
    """Every attribute of the SLURM plugin's modules and of their classes."""
    import importlib
    import inspect
    import pkgutil

    import snakemake_executor_plugin_slurm as upstream

    modules = [upstream] + [
        importlib.import_module(f"{upstream.__name__}.{info.name}")
        for info in pkgutil.iter_modules(upstream.__path__)
    ]
    owners = modules + [
        value for module in modules for value in vars(module).values() if inspect.isclass(value)
    ]
    return {
        (getattr(owner, "__module__", "") + owner.__name__, name): value
        for owner in owners
        for name, value in vars(owner).items()
    }


def differing(before: dict[Any, Any], after: dict[Any, Any]) -> set[Any]:
    absent = object()
    return {key for key in before | after if before.get(key, absent) is not after.get(key, absent)}


IMPORT = f"""
from typing import Any
{inspect.getsource(upstream_attributes)}
{inspect.getsource(differing)}
before = upstream_attributes()
import snakemake_executor_plugin_vrp_slurm
assert len(before) > 100
print(differing(before, upstream_attributes()))
"""


@pytest.mark.slow
def test_importing_the_executor_changes_nothing_for_the_slurm_executor():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "set()\n"


def test_submitting_a_job_changes_nothing_for_the_slurm_executor(tmp_path, monkeypatch):
    before = upstream_attributes()
    during: list[set[Any]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        queue, "submit", lambda *_: during.append(differing(before, upstream_attributes())) or "7"
    )
    made = make_executor()
    made.workflow.workdir_init, made.slurm_logdir = tmp_path, tmp_path / "logs"
    made.run_uuid, made._site, made._partitions = "run", executor.Site(), None
    made._failed_nodes, made._fallback_partition, made._main_event_loop = set(), "cpu", None
    made.format_job_exec = lambda job: "true"
    submitted: list[str] = []
    made.report_job_submission = lambda info: submitted.append(info.external_jobid)
    made.run_job(
        SimpleNamespace(
            name="extract", jobid=1, rule=SimpleNamespace(name="extract"), wildcards={}, input=[],
            output=["table.parquet"], is_group=lambda: False, resources={}, threads=1,
        )
    )  # fmt: skip
    assert submitted == ["7"]
    assert during == [set()]
    assert differing(before, upstream_attributes()) == set()


WORKFLOW = """
rule work:
    output: "out.txt"
    resources: mem_mb=100, runtime=5
    shell: "touch {output}"
"""
# A version of the SLURM plugin without this class, in which Snakemake still finds an executor.
START = (
    "import sys, snakemake_executor_plugin_slurm as upstream; del upstream.ExecutorSettings; "
    "from snakemake.cli import main; main(sys.argv[1:])"
)


@pytest.mark.slow
@pytest.mark.workflow
def test_a_run_says_what_is_missing_and_other_executors_go_on(tmp_path):
    (tmp_path / "Snakefile").write_text(WORKFLOW)
    for name in ("sinfo", "squeue", "sbatch"):
        write_program(tmp_path / name, "exit 1")
    options = ["--vrp-slurm-requeue", "--vrp-slurm-site", "site.yaml"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", START, *arguments],
            cwd=tmp_path, timeout=120, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")},
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
            },
        )  # fmt: skip

    refused = run("--executor", "vrp-slurm", "--jobs", "1", *options)
    assert refused.returncode != 0
    assert "has no snakemake_executor_plugin_slurm.ExecutorSettings, which" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert not (tmp_path / "out.txt").exists()
    assert run("--cores", "1").returncode == 0
    assert (tmp_path / "out.txt").exists()
