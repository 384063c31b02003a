"""What `vrp judge` takes for a large file: seconds and memory.

    python benchmarks/judge.py

Files of 100,000 made-up answers with three scores: three questions an image, three tasks and a
dozen answers; and every answer on an image of its own, twenty tasks and 30,000 different answers.
The whole command is measured, with its page and all other files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from hardware import hardware

RESULT = Path(__file__).parent / "results" / "judge.json"
N_ROWS = 100_000
MOST_SECONDS, MOST_BYTES = 20, 10**9
SHAPES = {
    "three questions an image": (N_ROWS // 3, 3, 12),
    "an image each, many answers": (N_ROWS, 20, 30_000),
}
"""Name → images, tasks, different answers."""


def write_rows(path: Path, n_images: int, n_tasks: int, n_answers: int) -> None:
    """Write answers: `token` is calibrated, `verbal` is coarse, `noise` tells nothing."""
    random = np.random.default_rng(0)
    p = random.beta(3, 1, N_ROWS)
    columns = zip(
        (random.permutation(N_ROWS) % n_images).tolist(),
        random.integers(n_tasks, size=N_ROWS).tolist(),
        random.zipf(1.3, N_ROWS).clip(max=n_answers).tolist(),
        (random.random(N_ROWS) < p).tolist(),
        p.tolist(),
        p.round(1).tolist(),
        random.normal(size=N_ROWS).tolist(),
        strict=True,
    )
    with path.open("w") as file:
        for index, (image, task, answer, correct, token, verbal, noise) in enumerate(columns):
            row = {
                "id": index, "image": f"{image}.jpg", "task": f"task {task}",
                "answer": f"answer {answer}", "correct": correct,
                "scores": {"token": token, "verbal": verbal, "noise": noise},
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")


def measured(shape: str) -> dict[str, object]:
    """Seconds and peak memory of one run, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, *SHAPES[shape])
        command = [sys.executable, "-m", "vrp", "judge", str(path), "--output", f"{folder}/judged"]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{shape}: vrp judge failed")
        return {
            "shape": shape, "seconds": time.perf_counter() - began,
            "processor_seconds": used.ru_utime + used.ru_stime,
            "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        }  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    runs = [measured(shape) for shape in SHAPES]
    for run in runs:
        print(
            f"{run['shape']}: {run['seconds']:.1f} s ({run['processor_seconds']:.1f} s of the "
            f"processor), {run['peak_bytes'] / 1e9:.2f} GB"
        )
    found = {
        "rows": N_ROWS, "most_seconds": MOST_SECONDS, "most_bytes": MOST_BYTES, "runs": runs,
        "hardware": hardware("numpy", "polars"),
    }  # fmt: skip
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
