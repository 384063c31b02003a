"""Time to plan the papers' study as the number of shards grows: `snakemake --profile slurm -n`.

    python benchmarks/dag.py --shards 20 200 500 1000 2000

Every sharded stage of every model is cut into so many jobs: fifteen jobs a shard. Each plan is a
fresh process in a copy of the workflow that has neither data nor results; processor time is that
process's own, start and imports included, and stands beside wall-clock time because the machine
may be busy with other work.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from hardware import hardware

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "dag.json"


def copy_workflow(folder: Path) -> None:
    for name in ("workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    for link in ("profiles", "slurm"):
        (folder / link).symlink_to((ROOT / link).readlink())


def commands(folder: Path) -> Path:
    """A folder with the only commands of a plan: a machine without SLURM."""
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    for name in ("bash", "sh", "which"):
        found = shutil.which(name)
        if found and not (place / name).is_symlink():
            (place / name).symlink_to(found)
    assert not any(shutil.which(name, path=str(place)) for name in ("sinfo", "squeue", "sbatch"))
    return place


def plan(folder: Path, n_shards: int) -> dict[str, float]:
    """Plan the study with every sharded stage in `n_shards` parts."""
    changes = [f"{stage}={{shards: {n_shards}}}" for stage in ("extract", "mask", "ablate")]
    command = [str(Path(sys.executable).with_name("snakemake")), "--profile", "slurm", "-n",
               "--quiet", "rules", "--config", *changes]  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PATH": str(commands(folder))},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(output[-2000:])
    jobs = re.findall(r"^total +(\d+)$", output, flags=re.MULTILINE)
    return {
        "jobs": int(jobs[-1]) if jobs else 0,
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_resident_bytes": used.ru_maxrss * 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="+", default=[20, 200, 500, 1000, 2000])
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    shards: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="dag-") as name:
        folder = Path(name)
        copy_workflow(folder)
        for n_shards in options.shards:
            shards[str(n_shards)] = plan(folder, n_shards)
            print(n_shards, shards[str(n_shards)], flush=True)
    milliseconds = {
        f"{fewer} to {more}": round(
            1000
            * (shards[str(more)]["cpu_s"] - shards[str(fewer)]["cpu_s"])
            / (shards[str(more)]["jobs"] - shards[str(fewer)]["jobs"]),
            2,
        )
        for fewer, more in pairwise(options.shards)
    }
    result = {
        "shards": shards,
        "cpu_ms_per_further_job": milliseconds,
        "made_on": hardware("snakemake", "snakemake-executor-plugin-slurm"),
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
