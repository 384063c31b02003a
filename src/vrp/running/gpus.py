"""Which GPUs a process takes on a machine that has several: those that no other run holds.

A scheduler's job sees its own GPU alone. Where a process sees several, it locks a small file for
the one that it takes, and the operating system unlocks it when the process ends, however it ends.
"""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from vrp.config.models import ModelConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"
# How many GPUs the workflow has reserved for the job.
GPU_COUNT_VARIABLE = "VRP_GPUS"

# Open for as long as the process lives: closing a file would unlock it.
_held: list[IO[str]] = []


def claim_gpus(model: ModelConfig) -> str | None:
    """Let this process see only GPUs that no other run on this machine holds.

    To be called before torch first looks at the GPUs. A model takes one; with a `device_map`, as
    many as the workflow has put aside for the job. Where all are held, those that the fewest runs
    hold are shared. Nothing is done for a model on the CPU or on a stated GPU, or where there are
    no more GPUs than are wanted. In an allocation of several GPUs (`salloc`) runs side by side
    take different ones; a job that was given its own sees no others.

    Returns:
        The GPUs' ids as CUDA_VISIBLE_DEVICES takes them; None where nothing was done.
    """
    if model.device not in ("auto", "cuda") or _held:
        return None
    wanted = 1 if model.device_map is None else _reserved_count()
    gpus = visible_gpus()
    if not 0 < wanted < len(gpus):
        return None
    folder = Path(tempfile.gettempdir(), f"vrp-gpus-{os.getuid()}")
    chosen: list[str] = []
    for _ in range(wanted):
        chosen.append(_lock_one([gpu for gpu in gpus if gpu not in chosen], folder))
    os.environ[VISIBLE] = ",".join(chosen)
    return os.environ[VISIBLE]


def _reserved_count() -> int:
    """GPUs that the workflow counts for this job; 0 where a stage is run by hand."""
    stated = os.environ.get(GPU_COUNT_VARIABLE, "")
    return int(stated) if stated.isdigit() else 0


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that this process may use."""
    stated = os.environ.get(VISIBLE)
    if stated is not None:
        return [gpu.strip() for gpu in stated.split(",") if gpu.strip() not in ("", "-1")]
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def _lock_one(gpus: Sequence[str], folder: Path) -> str:
    """Lock a free GPU, or share the least used one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    place = 0
    while True:
        for gpu in gpus:
            file = (folder / f"{gpu}.{place}").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _held.append(file)
            return gpu
        place += 1
