"""One resumable training stage: optimiser, schedule, checkpoints, log.

Everything random in a step derives from (seed, stage, step), so that a run that was stopped
and resumed ends with the weights of a run that was not.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from vrp.tables.atomic_files import write_text

_WEIGHT_DECAY = 0.05  # of matrices; vectors (norms, biases) are not decayed
_LARGEST_GRADIENT_NORM = 1.0
_LOG_EVERY = 25  # steps


@dataclass(frozen=True)
class TrainingPhase:
    """How long and how fast a stage learns."""

    name: str
    """Names the stage's checkpoint and its lines in the log."""
    steps: int
    """Number of optimiser steps."""
    peak_rate: float
    """AdamW learning rate after the warm-up; falls along a cosine to 2% of it."""
    warmup: int = 60
    """Steps over which the rate rises linearly."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""


class StepOutcome(NamedTuple):
    """What one step of a stage computed."""

    loss: Tensor
    """Scalar, to be minimised."""
    figures: dict[str, float]
    """What to log."""


def _rate_at(plan: TrainingPhase, step: int) -> float:
    if step < plan.warmup:
        return plan.peak_rate * (step + 1) / plan.warmup
    progress = (step - plan.warmup) / max(1, plan.steps - plan.warmup)
    return plan.peak_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _optimizer(plan: TrainingPhase, parameters: list[nn.Parameter]) -> torch.optim.AdamW:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": _WEIGHT_DECAY},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=plan.peak_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def _save(path: Path, modules: nn.ModuleDict, optimizer: torch.optim.AdamW) -> None:
    """Write weights and optimiser moments in one file, which appears whole or not at all."""
    tensors = {f"weights.{n}": p.detach().clone() for n, p in modules.named_parameters()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = value
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)


def _load(path: Path, modules: nn.ModuleDict, optimizer: torch.optim.AdamW) -> None:
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.copy_(tensors[f"weights.{name}"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def steps_done(plan: TrainingPhase, out: Path) -> int:
    """Return how many steps of a stage the checkpoint in `out` holds; 0 without one."""
    weights, state = out / f"{plan.name}.safetensors", out / f"{plan.name}.json"
    if not (weights.exists() and state.exists()):
        return 0
    return int(json.loads(state.read_text())["step"])


def _log(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as log:
        log.write(json.dumps(line) + "\n")


def run_phase(
    plan: TrainingPhase,
    modules: dict[str, nn.Module],
    trained: Iterable[nn.Parameter],
    compute: Callable[[int], StepOutcome],
    out: Path,
    *,
    resume: bool = True,
    watch: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Run a stage from its last checkpoint (or from its start) to its end.

    Args:
        plan: length and rates.
        modules: everything whose weights belong in the checkpoint.
        trained: the parameters to learn.
        compute: step → loss; must be a pure function of the weights and the step.
        out: folder of the checkpoint, its state (JSON) and the log (JSON lines).
        resume: continue from a checkpoint of this stage if there is one.
        watch: measured at each checkpoint and logged.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights, state = out / f"{plan.name}.safetensors", out / f"{plan.name}.json"
    held = nn.ModuleDict(modules)
    parameters = list(trained)
    optimizer = _optimizer(plan, parameters)
    step = steps_done(plan, out) if resume else 0
    if step:
        _load(weights, held, optimizer)
    bar = tqdm(total=plan.steps, initial=step, desc=plan.name, mininterval=5)
    begun, begun_at = time.monotonic(), step
    while step < plan.steps:
        for group in optimizer.param_groups:
            group["lr"] = _rate_at(plan, step)
        outcome = compute(step)
        optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT_NORM)
        optimizer.step()
        step += 1
        bar.update()
        if step % _LOG_EVERY == 0:
            pace = (time.monotonic() - begun) / (step - begun_at)
            line = {"stage": plan.name, "step": step, "loss": round(outcome.loss.item(), 5)}
            line |= {"gradient_norm": round(float(norm), 4), "seconds_per_step": round(pace, 4)}
            _log(out / "log.jsonl", line | {k: round(v, 4) for k, v in outcome.figures.items()})
        if step % plan.checkpoint_every == 0 or step == plan.steps:
            _save(weights, held, optimizer)
            write_text(state, json.dumps({"stage": plan.name, "step": step}) + "\n")
            if watch is not None:
                _log(out / "log.jsonl", {"stage": plan.name, "step": step} | watch())
    bar.close()
