"""The monitor on the demo's model: its cost, its calibration, its guarantee, its alarm.

    python benchmarks/monitor.py results/demo

`overhead` is the processor time that the monitor takes within `generate`, over that of plain
`generate` on the same inputs; beside it the ratio of wall times, in rounds that take the two in
turn, which other work on the machine disturbs. `fresh` asks the model, through the monitor, about
scenes of a namespace of their own: calibration error over all items; coverage and risk of a random
question of a random image, for which the guarantee is meant; and the share that an oracle accepts,
who knows the score's calibration curve, an isotonic fit to the fresh items. `resampled` has the
same share of the study's own items, as the mean over calibrations on its images drawn again, beside
the share by one question of each image. `study` has the shares of the study's own items that token
confidence and ten samples' S_SC allow, with thresholds found in the same way. `simulation` draws
calibration sets with known risk and counts how often the risk above the threshold exceeds alpha.
`shifted` checks the monitor on blank images and on images in negative colours.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
import yaml
from hardware import hardware
from judged import Goal, in_rounds, ratio_of, seconds, write_whole
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

import vrp
from vrp.config.study import load_study
from vrp.data.images import open_image
from vrp.data.item import Question
from vrp.monitor import refusals, watching
from vrp.monitor.checking import check, fresh_items
from vrp.monitor.fitting import FitOptions
from vrp.monitor.predictor import log_odds_of
from vrp.monitor.scoring import ScoredQuestion, load_monitored, score_questions
from vrp.stats.auroc import auroc
from vrp.stats.calibration import calibration
from vrp.stats.risk_control import DELTA, control_risk, one_item_per_group
from vrp.study.command import run_stage
from vrp.study.graph import STAGE
from vrp.study.layout import StudyLayout
from vrp.vlm.image_edits import blank_image

RESULT = Path(__file__).parent / "results" / "monitor.json"
ALPHAS = (0.05, 0.1, 0.2)
N_SIMULATIONS, N_IMAGES, N_POPULATION = 2000, 595, 400_000
N_SHIFTED = 150
N_RESAMPLED = 50
BATCHES, BATCH_SIZE, METERED = 4, 32, 5
# All that the monitor does within a call of `generate`.
PARTS = (
    (refusals, "check_generation"), (refusals, "check_prompts"),
    (watching._Recorder, "_read_logits"), (watching._Recorder, "read"),
    (vrp.ReliabilityMonitor, "_judged"),
)  # fmt: skip
GOALS = {
    "overhead": Goal(0.03),
    "ece": Goal(0.03),
    "share short of the oracle's": Goal(0.05),
    "violations": Goal(DELTA + 2 * (DELTA * (1 - DELTA) / N_SIMULATIONS) ** 0.5),
}


class Scored(NamedTuple):
    """Fresh items and what the monitor says of them."""

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    correct: NDArray[np.bool_]
    groups: NDArray[np.str_]

    @classmethod
    def of(cls, rows: Sequence[ScoredQuestion]) -> "Scored":
        return cls(
            np.array([row.answer.score for row in rows]),
            np.array([row.answer.probability for row in rows]),
            np.array([bool(row.correct) for row in rows]),
            np.array([row.question.image for row in rows]),
        )

    @property
    def weights(self) -> NDArray[np.float64]:
        """Chance of each item in a draw of an image, and then of one of its questions."""
        return weights_of(self.groups)


def weights_of(groups: NDArray) -> NDArray[np.float64]:
    _, image, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return 1 / counts[image] / counts.size


def fresh_questions(study: Any, folder: Path, namespace: str) -> tuple[list[Question], Path]:
    """Draw scenes and questions as the study's were drawn, but of another namespace."""
    config = study.config.model_dump(mode="json", include={"sample", "data", "scoring"})
    config |= {"study": "fresh", "models": {"m": {"family": "llava", "checkpoint": "zoo:llava"}}}
    config["data"] |= {"folder": "data"}
    config["data"]["scenes"]["namespace"] = namespace
    with chdir(folder):
        Path("fresh.yaml").write_text(yaml.safe_dump(config))
        fresh = load_study("fresh.yaml")
        for name in ("fetch_data", "sample"):
            run_stage(STAGE[name], fresh)
        items = pl.read_parquet(StudyLayout(fresh).results / "items.parquet")
    kept = set(Question.__dataclass_fields__) - {"group"}
    rows = [{k: v for k, v in row.items() if k in kept} for row in items.iter_rows(named=True)]
    return [Question(**row) for row in rows], folder / "data"


def oracle_share(scores: NDArray, correct: NDArray, weights: NDArray, alpha: float) -> float:
    """Largest share that can be accepted by score with a risk of at most alpha.

    By the score's calibration curve, an isotonic fit of the chance that an answer is right.
    """
    right = IsotonicRegression().fit_transform(scores, correct, sample_weight=weights)
    order = np.argsort(-scores)
    share = np.cumsum(weights[order])
    risk = np.cumsum(weights[order] * (1 - right[order])) / share
    meeting = np.flatnonzero(risk <= alpha)
    return float(share[meeting[-1]]) if meeting.size else 0.0


@contextmanager
def metered() -> Iterator[list[float]]:
    """Measure the processor seconds of each call of the monitor's parts."""
    spent: list[float] = []

    def measured(part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            begun = time.process_time()
            try:
                return part(*arguments, **options)
            finally:
                spent.append(time.process_time() - begun)

        return run

    with ExitStack() as stack:
        for owner, name in PARTS:
            stack.enter_context(patch.object(owner, name, measured(getattr(owner, name))))
        yield spent


def overhead(monitor: Any, model: Any, items: Sequence[dict[str, Any]], rounds: int) -> Any:
    vlm = model.vlm
    with monitor.watch(model):
        batches = [
            monitor.inputs(
                None,
                [item["image"] for item in items[i : i + BATCH_SIZE]],
                [item["question"] for item in items[i : i + BATCH_SIZE]],
            )
            for i in range(0, BATCHES * BATCH_SIZE, BATCH_SIZE)
        ]
    answers: dict[str, list[torch.Tensor]] = {}

    def plain() -> None:
        answers["plain"] = [vlm.model.generate(**batch) for batch in batches]

    def watched() -> None:
        answers["watched"] = [vlm.model.generate(**batch) for batch in batches]

    def timed(work: Callable[[], object]) -> float:
        if work is plain:
            return seconds(work)
        with monitor.watch(model):
            return seconds(work)

    times = in_rounds({"watched": watched, "plain": plain}, rounds, timed=timed)
    begun = time.process_time()
    for _ in range(METERED):
        plain()
    of_generate = time.process_time() - begun
    with metered() as spent, monitor.watch(model):
        for _ in range(METERED):
            watched()
    added = sum(spent) / of_generate
    same = all(map(torch.equal, answers["plain"], answers["watched"]))
    return {
        "added processor time": {"value": added, **GOALS["overhead"].verdict(added)},
        "ratio of wall times": ratio_of(times, "watched", "plain").judged(None),
        "same answers, token for token": same,
        "attaching, seconds": seconds(lambda: monitor.watch(model).__enter__()),
        "items": BATCHES * BATCH_SIZE,
    }


def fresh(monitor: Any, scored: Scored) -> dict[str, Any]:
    ece = calibration(scored.probabilities, scored.correct).ece
    found: dict[str, Any] = {
        "items": scored.scores.size,
        "images": int(np.unique(scored.groups).size),
        "accuracy": float(scored.correct.mean()),
        "auroc": auroc(scored.scores, scored.correct),
        "ece": {"value": ece, **GOALS["ece"].verdict(ece)},
    }
    for alpha in ALPHAS:
        one = monitor.card.threshold(alpha)
        accepted = scored.scores >= (np.inf if one.threshold is None else one.threshold)
        share = float(scored.weights[accepted].sum())
        wrong = float(scored.weights[accepted & ~scored.correct].sum())
        oracle = oracle_share(scored.scores, scored.correct, scored.weights, alpha)
        short = oracle - share
        found[f"alpha {alpha:g}"] = {
            "accepted": share,
            "risk": wrong / share if share else None,
            "accepted of all items": float(accepted.mean()),
            "oracle": oracle,
            "short of it": {"value": short, **GOALS["share short of the oracle's"].verdict(short)},
        }
    return found


def resampled(study: Any, model: str, seed: int = 0) -> dict[str, Any]:
    """Shares of the study's items that calibrations on its images, drawn again, accept."""
    frame = study.table("signals", model).collect().drop_nulls("correct").sort("group", "item_id")
    scores = log_odds_of(frame["token_confidence"].to_numpy())
    correct, weights = frame["correct"].to_numpy(), weights_of(frame["group"].to_numpy())
    _, starts, counts = np.unique(frame["group"], return_index=True, return_counts=True)
    random = np.random.default_rng(seed)
    accepted: dict[float, list[list[float]]] = {alpha: [] for alpha in ALPHAS}
    for _ in range(N_RESAMPLED):
        images = random.integers(0, counts.size, counts.size)
        rows = np.concatenate([np.arange(starts[i], starts[i] + counts[i]) for i in images])
        groups = np.repeat(np.arange(images.size), counts[images]).astype(str)
        alone = one_item_per_group(groups, scores[rows], correct[rows])
        for alpha, drawn in accepted.items():
            controls = [
                control_risk(scores[some], correct[some], names, alpha=alpha)
                for some, names in ((rows, groups), (rows[alone], groups[alone]))
            ]
            drawn.append([float(weights[one.accepts(scores)].sum()) for one in controls])
    found = {}
    for alpha, shares in accepted.items():
        (every, alone), (every_sd, alone_sd) = np.mean(shares, axis=0), np.std(shares, axis=0)
        oracle = oracle_share(scores, correct, weights, alpha)
        short = oracle - every
        found[f"alpha {alpha:g}"] = {
            "accepted, mean": every, "standard deviation": every_sd, "oracle": oracle,
            "short of it": {"value": short, **GOALS["share short of the oracle's"].verdict(short)},
            "one question of each image": {"mean": alone, "standard deviation": alone_sd},
        }  # fmt: skip
    return found


def samples_beside(study: Any, model: str) -> dict[str, Any]:
    """Shares that token confidence and ten samples' S_SC allow on the study's own images."""
    frame = study.table("signals", model).collect().drop_nulls("correct").sort("item_id")
    groups, correct = frame["group"].to_numpy(), frame["correct"].to_numpy()
    weights = weights_of(groups)
    found: dict[str, Any] = {}
    for name in ("token_confidence", "self_consistency"):
        scores = frame[name].to_numpy().astype(np.float64)
        for alpha in ALPHAS:
            control = control_risk(scores, correct, groups, alpha=alpha)
            share = float(weights[control.accepts(scores)].sum())
            found.setdefault(f"alpha {alpha:g}", {})[name] = share
    return found


def sampling_cost(monitor: Any, model: Any, item: dict[str, Any], rounds: int) -> Any:
    """Ten sampled answers over one greedy one, both by `generate`."""
    vlm = model.vlm
    with monitor.watch(model):
        batch = monitor.inputs(None, item["image"], item["question"])
    sampled = {**batch, "do_sample": True, "temperature": 0.7, "top_p": 0.9,
               "num_return_sequences": 10}  # fmt: skip
    times = in_rounds(
        {"ten samples": lambda: vlm.model.generate(**sampled),
         "one answer": lambda: vlm.model.generate(**batch)},
        rounds,
    )  # fmt: skip
    return ratio_of(times, "ten samples", "one answer").judged(None)


def simulation(seed: int = 0) -> dict[str, Any]:
    """Calibration sets drawn from a population whose risk above every threshold is known."""
    random = np.random.default_rng(seed)
    population = np.sort(random.normal(1.8, 1.8, N_POPULATION))
    risk_above = np.cumsum(1 - expit(population[::-1])) / np.arange(1, N_POPULATION + 1)
    found = {}
    for alpha in ALPHAS:
        violated = none = 0
        for _ in range(N_SIMULATIONS):
            scores = random.choice(population, N_IMAGES)
            correct = random.random(N_IMAGES) < expit(scores)
            accepted = control_risk(scores, correct, alpha=alpha).accepted
            if accepted is None:
                none += 1
                continue
            n_above = N_POPULATION - np.searchsorted(population, accepted.threshold)
            violated += risk_above[n_above - 1] > alpha
        share = violated / N_SIMULATIONS
        found[f"alpha {alpha:g}"] = {
            "violations": {"value": share, **GOALS["violations"].verdict(share)},
            "accept none": none / N_SIMULATIONS,
        }
    return found


def shifted(
    monitor: Any, vlm: Any, questions: Sequence[Question], images: Path, folder: Path
) -> dict[str, Any]:
    """Checks on blank images, on negative colours, and on images as they are."""
    # All questions of some images, as those of the study were drawn.
    every = sorted({one.image for one in questions})
    chosen = set(every[:: max(1, len(every) // N_SHIFTED)])
    some = [one for one in questions if one.image in chosen]
    kinds: dict[str, Callable[[Image.Image], Image.Image]] = {
        "as drawn": lambda image: image,
        "blank": lambda image: blank_image(image.size),
        "negative colours": ImageOps.invert,
    }
    found = {}
    for name, change in kinds.items():
        place = folder / name.replace(" ", "_")
        for path in {one.image for one in some}:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            change(open_image(images / path)).save(place / path)
        rows = Scored.of(list(score_questions(monitor, vlm, some, place)))
        result = check(monitor, fresh_items(rows.scores, rows.correct, rows.groups))
        found[name] = {
            "flagged": result.flagged, "expected": name != "as drawn", "n": result.n,
            "risk": result.risk.value, "risk p": result.risk_p, "drift": result.drift,
            "drift p": result.drift_p,
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="a finished study, such as results/demo")
    parser.add_argument("--model", default="llava")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = vrp.Study(options.study)
    chosen = FitOptions(predictor="token_confidence")
    monitor = vrp.ReliabilityMonitor.fit(options.study, options.model, chosen)
    model = study.load(options.model)
    items = [study.item(item_id) for item_id in study.items["item_id"][: BATCHES * BATCH_SIZE]]
    found: dict[str, Any] = {
        "hardware": hardware(),
        "model": options.model,
        "overhead": overhead(monitor, model, items, options.rounds),
        "ten samples over one answer": sampling_cost(monitor, model, items[0], options.rounds),
        "study": samples_beside(study, options.model),
        "resampled": resampled(study, options.model),
        "simulation": simulation(),
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        questions, images = fresh_questions(study, folder, "monitor-fresh")
        vlm = load_monitored(monitor, device="cpu")
        rows = list(score_questions(monitor, vlm, questions, images))
        found["fresh"] = fresh(monitor, Scored.of(rows))
        found["shifted"] = shifted(monitor, vlm, questions, images, folder)
    # numpy's numbers and truth values as Python's.
    write_whole(options.output, json.loads(json.dumps(found, default=lambda one: one.item())))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
