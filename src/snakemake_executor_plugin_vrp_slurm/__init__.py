"""Snakemake's executor `vrp-slurm`: jobs on SLURM, each with an outcome in bounded time.

It builds on `snakemake-executor-plugin-slurm` and changes nothing in it. What is added: account,
partitions and GPU type come from one file of the user's; job states are queried in one way that
needs no accounting; every state ends in bounded time; jobs that a killed Snakemake left in the
queue are cancelled before theirs are submitted again.
"""

from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import AbstractExecutor

from snakemake_executor_plugin_vrp_slurm.hooks import SLURM_PLUGIN, missing_name
from snakemake_executor_plugin_vrp_slurm.settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

Executor: type[AbstractExecutor]
if (_missing := missing_name(SLURM_PLUGIN)) is None:
    from snakemake_executor_plugin_vrp_slurm.executor import Executor
else:
    # Snakemake imports every executor at every start: the runs of the others must go on.
    class Executor(AbstractExecutor):  # type: ignore[no-redef]
        """Reports what is missing when a run asks for this executor."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            """Raise WorkflowError."""
            raise WorkflowError(_missing)
