"""Options of the executor: `--vrp-slurm-…` and the profile's keys of the same names."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

try:
    from snakemake_executor_plugin_slurm import ExecutorSettings as UpstreamSettings
except ImportError:  # which the start of a run reports, once it could read its profile

    @dataclass
    class UpstreamSettings(ExecutorSettingsBase):  # type: ignore[no-redef]
        """The options of `snakemake-executor-plugin-slurm` that the profile `slurm` sets."""

        requeue: bool = field(default=False, metadata={"help": "Not available."})
        keep_successful_logs: bool = field(default=False, metadata={"help": "Not available."})


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)

# Snakemake makes command-line options of these fields and wants Optional[...] for it.
# ruff: noqa: UP045


@dataclass
class ExecutorSettings(UpstreamSettings):
    """Settings of `snakemake-executor-plugin-slurm`, and these."""

    status_command: Optional[str] = field(
        default=None,
        metadata={"help": "Not used: squeue is asked, and sacct where it works."},
    )
    init_seconds_before_status_checks: Optional[int] = field(
        default=20, metadata={"help": "Seconds between two status checks."}
    )
    site: Optional[Path] = field(
        default=None,
        metadata={"help": "YAML file of account, partitions, GPU type and quality of service."},
    )
    blocked_minutes: Optional[float] = field(
        default=20,
        metadata={
            "help": "Minutes after which a job is cancelled that cannot start unless somebody "
            "intervenes: nodes drained, partition down, held, impossible request."
        },
    )
    silence_minutes: Optional[float] = field(
        default=15,
        metadata={"help": "Minutes without an answer from SLURM after which the run ends."},
    )
