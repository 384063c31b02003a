"""The model card of a monitor: `README.md`, for people and for the hub."""

import math
from collections.abc import Iterable

from vrp.monitor.card import Card, Interval, Threshold
from vrp.monitor.predictor import FUSION, PROBE, TOKEN_CONFIDENCE
from vrp.stats.risk_control import TESTS

_PREDICTORS = {
    TOKEN_CONFIDENCE: "token confidence, the mean log-probability of the answer's tokens",
    PROBE: "a linear probe of the hidden state at the prompt's last token",
    FUSION: "a logistic regression of the output's signals and a linear probe of the hidden state",
}


def model_card(card: Card) -> str:
    """Return the text; equal cards give equal texts."""
    model, training, done = card.model, card.training, card.performance
    layer = f" of decoder layer {card.layer}" if card.layer is not None else ""
    base = f"base_model: {model.checkpoint}\n" if _is_hub_id(model.checkpoint) else ""
    return f"""---
library_name: vrp
pipeline_tag: image-text-to-text
tags: [reliability, selective-prediction, vision-language]
{base}---

# Reliability monitor for {model.checkpoint}

Estimates for each answer of this model the probability that it is right, and decides whether to
accept it or to ask a person. Its score is {_PREDICTORS[card.predictor]}{layer}.
It is read in the forward pass that produces the answer; no pass is added.

```python
from vrp import ReliabilityMonitor

monitor = ReliabilityMonitor.load("FOLDER")
with monitor.watch(model) as seen:
    model.generate(**monitor.inputs(processor, image, question))
print(seen[0].answer, seen[0].probability, seen[0].decision)
```

## What is accepted

With probability at least 1 − δ over the calibration images, at most a share α of the accepted
answers is wrong (Learn then Test; {TESTS[card.thresholds[0].test]}). Shares are of the answers to
a random question about a random image.

{
        _table(
            (
                "α",
                "δ",
                "accept a score of",
                "its probability",
                "answers accepted",
                "wrong among them",
            ),
            map(_threshold_row, card.thresholds),
        )
    }

## Performance

On images by which the predictor was neither chosen nor fitted; 95% intervals clustered by image.

{
        _table(
            ("", "value"),
            [
                ("AUROC within strata", _interval(done.auroc)),
                ("expected calibration error", f"{done.ece:.3f}"),
                ("Brier score", f"{done.brier:.3f}"),
                *(
                    (f"AUROC of a guard: {guard.name}", _interval(guard.auroc))
                    for guard in card.guards
                ),
            ],
        )
    }

## What it was fitted to

{
        _table(
            ("", ""),
            [
                ("study", training.study),
                ("labelled items", f"{training.n_items:,} about {training.n_images:,} images"),
                ("tasks", ", ".join(f"{name} {n:,}" for name, n in training.tasks.items())),
                ("right answers", f"{100 * training.accuracy:.1f}%"),
                ("images for choosing the predictor", f"{training.n_images_fit:,}"),
                ("images for finding the thresholds", f"{training.n_images_thresholds:,}"),
                ("predictor", f"{card.predictor}: {training.choice}"),
                ("calibrator", f"{card.calibrator['kind']}: {card.calibrator_reason}"),
            ],
        )
    }

## What it is for, and what it refuses

{
        _table(
            ("", ""),
            [
                ("checkpoint", model.checkpoint),
                ("revision", model.revision or ""),
                ("weights", model.weights),
                ("dtype", model.dtype),
                ("family", model.family),
                ("prompt", f"{model.prompt} ({model.prompt_digest})"),
                ("processor", f"{model.processor_digest}, image policy {model.image_policy}"),
                ("maximum answer length", f"{model.max_new_tokens} tokens, greedy"),
            ],
        )
    }

{_list(card.intended_use)}

Limits:

{_list(card.limits)}
"""


def _is_hub_id(checkpoint: str) -> bool:
    return checkpoint.count("/") == 1 and not checkpoint.startswith((".", "/", "~"))


def _threshold_row(one: Threshold) -> tuple[str, ...]:
    if one.threshold is None or one.probability is None:
        return (f"{one.alpha:g}", f"{one.delta:g}", "accept none", "", "0%", one.reason)
    return (
        f"{one.alpha:g}", f"{one.delta:g}", f"at least {one.threshold:.4f}",
        f"{one.probability:.3f}", f"{100 * one.coverage:.1f}%", f"{100 * (one.risk or 0):.1f}%",
    )  # fmt: skip


def _interval(found: Interval) -> str:
    if found.value is None:
        return "not defined"
    low, high = (math.nan if end is None else end for end in (found.low, found.high))
    return f"{found.value:.3f} [{low:.3f}, {high:.3f}], {found.n:,} items"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    text = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([text[0], "|" + "---|" * len(lines[0]), *text[1:]])


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
