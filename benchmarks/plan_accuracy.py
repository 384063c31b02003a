"""How near `vrp plan` comes to what the demo study took, calibrated on two small studies.

    python benchmarks/plan_accuracy.py --demo results/demo

Runs the CI study and a 300-item variant of the demo study in a copy of the project, one job at a
time, reads their rates, plans the demo study from them, and compares with a finished one: time by
its benchmark files, disk by its files. `--calibrated` takes finished small studies in their place.
Without `--demo`, the plan alone is recorded.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from hardware import hardware

from vrp.config.study import load_study
from vrp.planning.devices import DEFAULT_GPU
from vrp.planning.measured_rates import MeasuredRates, read_measured
from vrp.planning.plan import Plan, make_plan
from vrp.study.graph import STAGES
from vrp.study.job_benchmarks import job_seconds

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "plan_accuracy.json"
COUNTS = (97, 97, 97, 9)
TIME_FACTOR, DISK_SHARE = 1.5, 0.1


def copy_project(folder: Path) -> None:
    for name in ("src", "workflow", "config", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")


def write_small_study(folder: Path) -> Path:
    """The demo study with 300 items, in the proportions of its 3,090."""
    study = yaml.safe_load((folder / "config" / "demo.yaml").read_text())
    study["study"] = "demo-300"
    for split, count in zip(study["sample"]["splits"], COUNTS, strict=True):
        split["count"] = count
    path = folder / "config" / "demo-300.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def run_study(folder: Path, config: Path) -> None:
    command = ["snakemake", "--cores", "1", "--configfile", str(config)]
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries, "PYTHONPATH": str(folder / "src")}
    print(" ".join(command), file=sys.stderr, flush=True)
    with (folder / f"{config.stem}.log").open("w") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=True)


def small_studies(folder: Path) -> list[Path]:
    copy_project(folder)
    for config in (folder / "config" / "ci.yaml", write_small_study(folder)):
        run_study(folder, config)
    return [folder / "results" / "ci", folder / "results" / "demo-300"]


def by_stage(plan: Plan) -> dict[str, float]:
    found: dict[str, float] = {}
    for stage in plan.stages:
        found[stage.stage] = found.get(stage.stage, 0.0) + stage.seconds
    return found


def taken(results: Path, stage: str) -> tuple[float, float]:
    """Seconds of a stage's jobs: with a core of their own, and by the clock."""
    single = results / "benchmarks" / f"{stage}.tsv"
    paths = [single] if single.is_file() else (results / "benchmarks" / stage).rglob("*.tsv")
    own = clock = 0.0
    for path in paths:
        own += sum(job_seconds(path, on_gpu=False))
        clock += sum(job_seconds(path, on_gpu=True))
    return own, clock


def compare(plan: Plan, results: Path) -> dict[str, object]:
    planned = by_stage(plan)
    measured = {
        stage: taken(results, stage) for stage in (stage.name for stage in STAGES if stage.cost)
    }
    own, clock = (sum(pair[i] for pair in measured.values()) for i in (0, 1))
    total = sum(planned.values())
    n_bytes = sum(path.stat().st_size for path in results.rglob("*") if path.is_file())
    return {
        "seconds": {
            stage: {"planned": round(planned.get(stage, 0.0), 1), "taken": round(pair[0], 1)}
            for stage, pair in measured.items()
        },
        "planned_seconds": round(total, 1),
        "taken_seconds": round(own, 1),
        "taken_seconds_by_the_clock": round(clock, 1),
        "time_factor": round(max(total / own, own / total), 3),
        "time_factor_by_the_clock": round(max(total / clock, clock / total), 3),
        "planned_bytes": plan.n_bytes,
        "taken_bytes": n_bytes,
        "disk_error": round(abs(plan.n_bytes / n_bytes - 1), 4),
        "time_holds": max(total / own, own / total) <= TIME_FACTOR,
        "disk_holds": abs(plan.n_bytes / n_bytes - 1) <= DISK_SHARE,
    }


def calibrate(given: list[Path], keep: Path | None) -> MeasuredRates:
    if given:
        return read_measured(given, gpu=DEFAULT_GPU)
    if keep is not None:
        keep.mkdir(parents=True)
        return read_measured(small_studies(keep.resolve()), gpu=DEFAULT_GPU)
    with tempfile.TemporaryDirectory() as folder:
        return read_measured(small_studies(Path(folder)), gpu=DEFAULT_GPU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="results folder of a finished demo study")
    parser.add_argument("--calibrated", type=Path, nargs="+", default=[], help="finished studies")
    parser.add_argument("--keep", type=Path, help="run the small studies here and keep them")
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file to write")
    options = parser.parse_args()
    known = calibrate(options.calibrated, options.keep)
    config = options.demo / "config.yaml" if options.demo else ROOT / "config" / "demo.yaml"
    plan = make_plan(load_study(config), device=DEFAULT_GPU, calibration=known)
    record: dict[str, object] = {
        "calibrated_by": list(known.studies),
        "hardware": hardware("torch", "transformers", "pyarrow"),
        "planned": {stage: round(seconds, 1) for stage, seconds in by_stage(plan).items()},
        "planned_seconds": round(sum(by_stage(plan).values()), 1),
        "planned_bytes": plan.n_bytes,
    }
    if options.demo:
        record["demo"] = compare(plan, options.demo)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
