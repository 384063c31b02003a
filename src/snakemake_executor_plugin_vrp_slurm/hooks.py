"""Names of other packages that a run on SLURM uses, and a check that they are there.

Neither the SLURM plugin nor Snakemake's persistence promises to keep these names.
"""

import importlib.metadata
import pkgutil
from typing import NamedTuple


class Dependency(NamedTuple):
    """A distribution and the names that are used of it."""

    distribution: str
    tested: str
    """The version that the tests pass with."""
    names: tuple[str, ...]
    """`module:attribute` of each."""


SLURM_PLUGIN = Dependency(
    "snakemake-executor-plugin-slurm",
    "2.8",
    (
        "snakemake_executor_plugin_slurm:Executor",
        "snakemake_executor_plugin_slurm:Executor.get_partition_arg",
        "snakemake_executor_plugin_slurm:Executor._report_job_submission_threadsafe",
        "snakemake_executor_plugin_slurm:Executor._report_job_error_threadsafe",
        "snakemake_executor_plugin_slurm:ExecutorSettings",
        "snakemake_executor_plugin_slurm:ExecutorSettings.array_jobs",
        "snakemake_executor_plugin_slurm:ExecutorSettings.keep_successful_logs",
        "snakemake_executor_plugin_slurm:ExecutorSettings.pass_command_as_script",
        "snakemake_executor_plugin_slurm.submit_string:get_submit_command",
        "snakemake_executor_plugin_slurm.utils:get_job_wildcards",
        "snakemake_executor_plugin_slurm.utils:set_gres_string",
        "snakemake_executor_plugin_slurm.validation:validate_or_get_slurm_job_id",
        "snakemake_executor_plugin_slurm.validation:validate_slurm_extra",
    ),
)
SLURM_PLUGIN_ATTRIBUTES = ("run_uuid", "slurm_logdir", "_failed_nodes", "_fallback_partition")
"""Set by the plugin's executor when it is made, and used here."""

PERSISTENCE = Dependency(
    "snakemake",
    "9.27",
    (
        "snakemake.persistence:RECORD_FORMAT_VERSION",
        "snakemake.persistence:MetadataRecord",
        "snakemake.persistence.file:FilePersistence",
        "snakemake.persistence.file:FilePersistence._read_record",
        "snakemake.persistence.file:FilePersistence._write_record",
        "snakemake.persistence.file:FilePersistence._mark_incomplete",
        "snakemake.persistence.file:FilePersistence._unmark_incomplete",
        "snakemake.persistence.file:FilePersistence._filter_incomplete_keys",
        "snakemake.persistence.file:FilePersistence._get_external_jobids",
    ),
)

FAILED_JOBS = Dependency(
    "snakemake",
    "9.27",
    (
        "snakemake.io:is_flagged",
        "snakemake.jobs:Job._attempt",
        "snakemake.jobs:GroupJob._attempt",
        "snakemake.persistence:FileBackupMixin.backup_output",
        "snakemake.persistence:FileBackupMixin._get_backup_path",
    ),
)


def missing_name(dependency: Dependency) -> str | None:
    """Return a line about the first name that the installed version lacks; None: it has all."""
    missing = next((name for name in dependency.names if not _exists(name)), None)
    return None if missing is None else describe_missing(dependency, missing.replace(":", "."))


def describe_missing(dependency: Dependency, name: str) -> str:
    """Return a line that says what is missing, in which version, and how to fix it."""
    distribution, tested, _ = dependency
    try:
        installed = f"{distribution} {importlib.metadata.version(distribution)} has no {name}"
    except importlib.metadata.PackageNotFoundError:
        installed = f"{distribution} is not installed"
    return (
        f"{installed}, which the executor vrp-slurm needs (tested with {tested}); "
        f"run `pip install '{distribution}=={tested}.*'`"
    )


def _exists(name: str) -> bool:
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    # A base class may declare a method that the class itself no longer has.
    return not getattr(found, "__isabstractmethod__", False)
