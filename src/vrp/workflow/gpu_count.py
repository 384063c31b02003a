"""A run that starts model runs side by side must know how many GPUs there are."""

import sys
from typing import Any


def require_gpu_count(workflow: Any) -> None:
    """Refuse to start model runs side by side on GPUs of this machine that were not counted.

    Snakemake limits only resources that it is given a number of: every core would load a model.

    Args:
        workflow: Snakemake's, planned.

    Raises:
        SystemExit: several jobs that hold a GPU could run at once, and `--resources` names none.
    """
    side_by_side = workflow.local_exec and not workflow.touch and workflow.cores > 1
    if not side_by_side or "gpu" in workflow.global_resources:
        return
    if sum(bool(job.resources.get("gpu")) for job in workflow.dag.needrun_jobs()) < 2:
        return
    from vrp.running.gpus import visible_gpus

    if n_gpus := len(visible_gpus()):
        sys.exit(
            "Error: nothing says how many model runs may hold a GPU at once; this machine has "
            f"{n_gpus}: add `--resources gpu={n_gpus}`. Nothing was changed."
        )
