"""What checking tables costs: the time to verify all that a stage's jobs read, and write seals.

    python benchmarks/verification.py --config config/demo.yaml

Of a finished study, for each stage: how long it takes to digest the pages and the footers of its
inputs and outputs, as often as its jobs do, beside how long these jobs took (Snakemake's benchmark
files). The files are in the page cache, as they mostly are right after they were written.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

from hardware import hardware

from vrp.config.study import load_study
from vrp.study.command import path_options
from vrp.study.graph import LIST_OF, STAGE
from vrp.study.job_benchmarks import job_seconds
from vrp.study.layout import Job, StudyLayout
from vrp.tables.seal import check_pages, read_seal
from vrp.tables.shard_list import read_shard_list

RESULT = Path(__file__).parent / "results" / "verification.json"
BAR = 0.03


def tables_of(layout: StudyLayout, job: Job) -> Iterable[Path]:
    """Tables that a job reads and writes; every shard of a list that it reads is read."""
    if job.stage == "gather":
        (listed,) = job.outputs
        yield from (path for of in read_shard_list(listed).tables.values() for path in of)
        return
    yield from (path for path in job.outputs if path.suffix == ".parquet")
    read = {artifact.name for artifact in STAGE[job.stage].reads}
    for option in path_options(STAGE[job.stage]):
        for path in () if option.writes else layout.paths(option.artifact, model=job.model):
            if option.artifact in LIST_OF:
                listed = read_shard_list(path).tables
                yield from (shard for table in read & set(listed) for shard in listed[table])
            elif path.suffix == ".parquet":
                yield path


def seconds_to_verify(paths: Iterable[Path]) -> float:
    """Processor seconds, with the files in the page cache."""
    files = [(path, path.read_bytes()) for path in paths]
    began = time.process_time()
    for path, _ in files:
        check_pages(path, read_seal(path).rows)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/demo.yaml"))
    layout = StudyLayout(load_study(parser.parse_args().config))
    rows: dict[str, dict[str, float]] = {}
    for job in layout.jobs():
        row = rows.setdefault(job.stage, {"jobs_s": 0.0, "verification_s": 0.0})
        row["jobs_s"] += sum(job_seconds(job.benchmark, on_gpu=False))
        row["verification_s"] += seconds_to_verify(tables_of(layout, job))
    for stage, row in rows.items():
        row["share"] = row["verification_s"] / row["jobs_s"]
        verdict = "" if row["share"] <= BAR else f"  above {BAR:.0%}"
        print(
            f"{stage:12} {row['jobs_s']:8.1f} s  verification {row['verification_s']:7.3f} s  "
            f"{row['share']:.2%}{verdict}"
        )
    found = {"study": layout.study.study, "bar": BAR, "stages": rows, "hardware": hardware()}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
