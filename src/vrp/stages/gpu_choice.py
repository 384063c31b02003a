"""Which GPU a process takes on a machine that has several: one that no other run holds.

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

# Open for as long as the process lives: closing a file would unlock it.
_held: list[IO[str]] = []


def take_gpu(model: ModelConfig) -> str | None:
    """Let this process see one GPU only, one that no other run on this machine holds.

    To be called before torch first looks at the GPUs. Where all are held, the one that the fewest
    runs hold is shared. Nothing is done for a model on the CPU, on a stated GPU or spread over
    several, or where there is one GPU or none. In an allocation of several GPUs (`salloc`) runs
    side by side take different ones; a job that was given one sees no other.

    Returns:
        The GPU's id as CUDA_VISIBLE_DEVICES takes it; None where nothing was done.
    """
    if model.device not in ("auto", "cuda") or model.device_map is not None:
        return None
    if _held:
        return None
    gpus = visible_gpus()
    if len(gpus) < 2:
        return None
    chosen = _lock_one(gpus, Path(tempfile.gettempdir(), f"vrp-gpus-{os.getuid()}"))
    os.environ[VISIBLE] = chosen
    return chosen


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
    """Lock the first GPU that is free; where none is, take a place beside the fewest others."""
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
