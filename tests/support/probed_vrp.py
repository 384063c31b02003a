"""`vrp`, which also writes down its start, every batch that it begins, and its end."""

import json
import os
import sys
import time
from pathlib import Path

from vrp.cli import main
from vrp.running.finished_batches import Batch, FinishedBatches

RUNS_A_MODEL = {"extract", "blind", "consistency", "p-true", "mask", "ablate"}
SHOWN = ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_PARTITION", "OMP_NUM_THREADS")


def write(event: str, **more: object) -> None:
    line = json.dumps({"event": event, "pid": os.getpid(), **more}) + "\n"
    handle = os.open(os.environ["VRP_RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def probed() -> None:
    complete = FinishedBatches.complete

    def counted(self, compute, *tabulate):  # type: ignore[no-untyped-def]
        def begun(batch: Batch):  # type: ignore[no-untyped-def]
            write("batch", batch=f"{self.folder}/{self.plan.index(batch)}")
            # The embedded models are so quick that a kill would hardly ever hit a batch.
            time.sleep(float(os.environ.get("VRP_SECONDS_A_BATCH", "0")))
            busy = os.environ.get("VRP_WAIT_WHILE")
            while busy and Path(busy).exists():
                time.sleep(0.1)
            return compute(batch)

        return complete(self, begun, *tabulate)

    FinishedBatches.complete = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    stage = sys.argv[1] if len(sys.argv) > 1 else ""
    probed()
    write(
        "start", stage=stage, arguments=sys.argv[1:], runs_model=stage in RUNS_A_MODEL,
        environment={name: os.environ.get(name) for name in SHOWN},
    )  # fmt: skip
    status = 1
    try:
        main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
    finally:
        write("end", stage=stage, status=status)
