"""A plan for people to read, and for programs."""

import json
import math
from collections.abc import Sequence
from typing import Any

from vrp.planning.plan import ConditionPlan, Plan, StagePlan
from vrp.text_table import aligned


def plan_text(plan: Plan) -> str:
    """Return a plan as text: models left out, stages, tables, totals, shard counts, notes."""
    measured = any(stage.measured for stage in plan.stages)
    parts = [
        f"Study {plan.study}: {plan.n_items:,} items; models that need a GPU are planned on "
        f"{plan.device.title}",
        *(
            f"Warning: model {name} is left out of all numbers below: {reason}."
            for name, reason in plan.left_out.items()
        ),
        _source(plan),
        _table(_STAGE_HEAD, [_stage_row(stage) for stage in plan.stages if stage.n_answers]),
        _table(_CONDITION_HEAD, _condition_rows(plan)),
        _table(_ANALYSIS_HEAD, [_analysis_row(s) for s in plan.stages if not s.n_answers]),
        _table(("table", "model", "rows", "size"), _table_rows(plan)),
        _totals(plan),
    ]
    if not measured:
        parts.append(
            "Speeds are published peaks times an assumed share. `--measured results/<study>` uses "
            "those of a finished study; a small one of the same models is enough."
        )
    parts += [f"Note: {note}." for note in plan.notes]
    return "\n\n".join(part for part in parts if part)


def plan_json(plan: Plan) -> str:
    """Return a plan as JSON."""
    plain: dict[str, Any] = plan._asdict()
    plain["device"] = plan.device.name
    plain["stages"] = [stage._asdict() for stage in plan.stages]
    plain["conditions"] = [
        condition._asdict() | {"smallest_pp": finite(condition.smallest_pp)}
        for condition in plan.conditions
    ]
    plain["tables"] = [table._asdict() for table in plan.tables]
    plain["shards"] = {
        key: {"now": now, "suggested": good} for key, (now, good) in plan.shards.items()
    }
    totals = {
        "gpu_seconds": plan.gpu_seconds,
        "cpu_seconds": plan.cpu_seconds,
        "results_bytes": plan.n_bytes,
        "most_results_bytes": plan.most_bytes,
        "gpu_memory_bytes": plan.memory,
        "tflop": sum(stage.tflop for stage in plan.stages),
    }
    return json.dumps({**plain, "totals": totals}, indent=1) + "\n"


def finite(value: float) -> float | None:
    """Return a number, or None where JSON has none."""
    return value if math.isfinite(value) else None


_STAGE_HEAD = (
    "stage", "model", "items", "answers", "TFLOP", "jobs", "a job", "all jobs", "memory", "batch",
)  # fmt: skip
_CONDITION_HEAD = ("stage", "condition", "items", "answers", "time", "can show")
_ANALYSIS_HEAD = ("stage", "model", "time")


def _source(plan: Plan) -> str:
    names = ", ".join(plan.calibrated_by)
    return f"Rates measured in: {names} (times marked *)" if names else ""


def _stage_row(stage: StagePlan) -> tuple[str, ...]:
    fits = stage.largest_batch >= stage.batch_size
    return (
        stage.stage,
        stage.model,
        f"{stage.n_items:,}",
        f"{stage.n_answers:,}",
        f"{stage.tflop:,.0f}" if stage.tflop >= 100 else f"{stage.tflop:.3g}",
        str(stage.n_jobs),
        duration(stage.seconds / stage.n_jobs),
        duration(stage.seconds) + ("*" if stage.measured else ""),
        size(stage.memory),
        str(stage.batch_size) if fits else f"{stage.batch_size} (fits: {stage.largest_batch})",
    )


def _condition_rows(plan: Plan) -> list[tuple[str, ...]]:
    """One row a condition, all models together."""
    found: dict[tuple[str, str], list[ConditionPlan]] = {}
    for condition in plan.conditions:
        found.setdefault((condition.stage, condition.condition), []).append(condition)
    rows: list[tuple[str, ...]] = []
    for (stage, name), of_models in found.items():
        smallest = of_models[0].smallest_pp
        shows = f"{smallest:.1f} pp" if smallest < 100 else "nothing"
        rows.append((
            stage, name, f"{of_models[0].n_items:,}",
            f"{sum(one.n_answers for one in of_models):,}",
            duration(sum(one.seconds for one in of_models)),
            "" if math.isnan(smallest) else shows,
        ))  # fmt: skip
    return rows


def _analysis_row(stage: StagePlan) -> tuple[str, ...]:
    return stage.stage, stage.model, duration(stage.seconds) + ("*" if stage.measured else "")


def _table_rows(plan: Plan) -> list[tuple[str, ...]]:
    return [
        (
            table.table,
            table.model,
            f"{table.n_rows:,}",
            size(table.n_bytes) + ("*" if table.measured else ""),
        )
        for table in plan.tables
    ]


def _totals(plan: Plan) -> str:
    rows = []
    if plan.gpu_seconds:
        rows += [
            ("GPU", f"{plan.gpu_seconds / 3600:.1f} hours of {plan.device.title}"),
            ("GPU memory", _largest_job(plan)),
        ]
    rows += [
        ("processor", f"{duration(plan.cpu_seconds)} of one core"),
        ("results", size(plan.n_bytes)),
        ("while it runs", f"{size(plan.most_bytes)}: finished batches are kept until it succeeds"),
    ]
    if plan.data_bytes:
        rows.append(("data", f"{size(plan.data_bytes)} while they are fetched"))
    if downloads := sum(plan.checkpoint_bytes.values()):
        rows.append(("checkpoints", f"{size(downloads)} in the hub's cache"))
    for key, (now, good) in plan.shards.items():
        advice = "good" if now == good else f"{good} is enough for jobs of at most two hours"
        rows.append((key, f"{now}: {advice}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


def _largest_job(plan: Plan) -> str:
    on_gpu = [stage for stage in plan.stages if stage.memory == plan.memory]
    largest = on_gpu[0]
    gpus = f", on {largest.n_devices} GPUs" if largest.n_devices > 1 else ""
    return f"up to {size(plan.memory)} ({largest.stage} of {largest.model}{gpus})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return aligned([head, *rows], n_text=2) if rows else ""


def duration(seconds: float) -> str:
    """Return a time in words, such as `4 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Return a number of bytes in words, such as `1.2 GB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"
