"""What intervals, tests and verdicts promise, by simulation at the counts of real studies.

    python benchmarks/inference.py --repeats 1000

Six parts. Of one signal on items with an image each, on few images whose answers and scores hang
together, and over tasks of the papers' counts, within strata and as a mean over tasks: how often
there are too few answers for an estimate, how often the 95% interval covers the truth and misses it
on either side, how often the test rejects at 5%; of families of noise, how often any signal is
found after Holm's correction. Of scores with two values, one of them rare: also how often they are
found equivalent to chance. Of families of noise at the papers' counts and accuracies: how often the
verdict is yes or no, and how often it could be no. Of interventions at the papers' counts: how
often an effect is found, or none shown. Settings whose intervals cover more than 97% are printed at
the end: there they are wider than they need be.
"""

import argparse
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hardware import hardware
from scipy.integrate import quad
from scipy.stats import norm
from simulated_scores import drawn, true_auroc

from vrp.config.margins import EquivalenceMargins
from vrp.config.study import load_study
from vrp.planning.simulated_studies import CORRELATION, Design, auroc_of_answers, telling
from vrp.planning.simulation import (
    CHANGED,
    EFFECTS,
    Truth,
    n_corrected,
    simulate_effect,
    simulate_truth,
)
from vrp.stats.auroc import (
    auroc_equivalence_p,
    auroc_estimate,
    clustered_auroc,
    stratified_auroc,
    van_elteren_weight,
)
from vrp.stats.clusters import mean_of
from vrp.stats.estimate import ALPHA, Estimate
from vrp.stats.multiplicity import holm

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "inference.json"
COUNTS = (90, 300, 1000)
WRONG = (0.03, 0.1, 0.3)
AREAS = (0.5, 0.8, 0.95, 0.97)
LEVELS = (None, 10)
IMAGES = (5, 10, 12, 20, 50)
ITEMS_AN_IMAGE = (10, 20)
OF_ANSWERS = (0.3, 0.5)
OF_SIGNALS = (0.5, 0.8)
FAMILIES = (13, 17)
TASKS = ((1000, 0.3), (1000, 0.14), (1000, 0.1), (90, 0.14))
RARE = (
    (100, 10, 0.0, 0.15), (300, 10, 0.02, 0.15), (300, 20, 0.005, 0.12), (1000, 30, 0.005, 0.12),
    (1000, 50, 0.0, 0.11), (1000, 300, 0.0, 0.05),
)  # fmt: skip
ACCURACIES = {"llava-1.5-7b": 0.676, "paligemma-3b": 0.786, "qwen2-vl-7b": 0.288}
WIDE = 0.97


class Tally:
    """How the estimates of one setting fared against the truth."""

    def __init__(self, truth: float) -> None:
        self.truth = truth
        self.n = self.known = self.below = self.above = self.rejected = 0

    def add(self, estimate: Estimate) -> None:
        self.n += 1
        if math.isfinite(estimate.value):
            self.known += 1
            self.below += self.truth < estimate.low
            self.above += self.truth > estimate.high
            self.rejected += estimate.p < ALPHA

    def row(self) -> dict:
        known = self.known or math.nan
        found = {
            "coverage": 1 - (self.below + self.above) / known,
            "truth_below": self.below / known, "truth_above": self.above / known,
            "rejected": self.rejected / known,
        }  # fmt: skip
        shares = {name: one if math.isfinite(one) else None for name, one in found.items()}
        return {"auroc": self.truth, "estimates": self.known,
                "too_few": 1 - self.known / self.n, **shares}  # fmt: skip


def independent(n: int, wrong: float, area: float, levels: int | None, repeats: int) -> dict:
    """One signal, each item on an image of its own."""
    random = np.random.default_rng([n, round(1000 * wrong), round(1000 * area), levels or 0])
    tally = Tally(true_auroc(area, wrong, levels))
    for _ in range(repeats):
        signal, correct = drawn(random, n, wrong, area, levels=levels)
        tally.add(
            auroc_estimate(clustered_auroc(signal, correct, np.arange(n), n_images=n, name="all"))
        )
    return {"n": n, "wrong": wrong, "levels": levels, "studies": repeats, **tally.row()}


def clustered(
    n_images: int, items: int, of_answers: float, of_signals: float, area: float, repeats: int
) -> dict:
    """Signals on few images, with the intraclass correlations of answers and of signals.

    Noise is drawn as families: `found_13` is how often any of 13 differs after Holm's correction.
    """
    random = np.random.default_rng(
        [n_images, items, round(10 * of_answers), round(10 * of_signals), round(10 * area)]
    )
    codes = np.repeat(np.arange(n_images), items)

    def draw(intraclass: float) -> np.ndarray:
        shared = math.sqrt(intraclass) * random.normal(size=n_images)[codes]
        return shared + math.sqrt(1 - intraclass) * random.normal(size=codes.size)

    tally, found = Tally(area), dict.fromkeys(FAMILIES if area == 0.5 else (), 0)
    for _ in range(repeats):
        correct = draw(of_answers) > norm.ppf(0.3)
        estimates = [
            auroc_estimate(
                clustered_auroc(
                    telling(draw(of_signals), correct, area), correct, codes,
                    n_images=n_images, name="all",
                )
            )
            for _ in range(max(found, default=1))
        ]  # fmt: skip
        for one in estimates:
            tally.add(one)
        for size in found:
            found[size] += bool((holm([one.p for one in estimates[:size]]) < ALPHA).any())
    return {
        "images": n_images, "items_an_image": items, "of_answers": of_answers,
        "of_signals": of_signals, "studies": repeats, **tally.row(),
        **{f"found_{size}": count / repeats for size, count in found.items()},
    }  # fmt: skip


def over_tasks(area: float, repeats: int) -> Iterator[dict]:
    """One signal over four tasks of unequal size, within strata and as the mean over tasks."""
    random = np.random.default_rng(round(1000 * area))
    names = np.repeat(np.arange(len(TASKS)), [n for n, _ in TASKS])
    tallies = {"within strata": Tally(area), "mean over tasks": Tally(area)}
    for _ in range(repeats):
        drawn_tasks = [drawn(random, n, wrong, area) for n, wrong in TASKS]
        signal, correct = map(np.concatenate, zip(*drawn_tasks, strict=True))
        codes = np.arange(names.size)
        sample = {"n_images": names.size}
        within = stratified_auroc(signal, correct, codes, names, **sample)
        tallies["within strata"].add(auroc_estimate(within))
        parts = {
            str(task): clustered_auroc(
                signal[names == task], correct[names == task], codes[names == task],
                name=str(task), **sample,
            )
            for task in range(len(TASKS))
        }  # fmt: skip
        tallies["mean over tasks"].add(auroc_estimate(mean_of(parts, n_groups=names.size)))
    for name, tally in tallies.items():
        yield {"average": name, "studies": repeats, **tally.row()}


def rare(n: int, n_wrong: int, of_right: float, of_wrong: float, repeats: int) -> dict:
    """A score that is low for a few right and a few more wrong answers, and has one value else."""
    random = np.random.default_rng([n, n_wrong, round(1000 * of_right), round(1000 * of_wrong)])
    correct = np.arange(n) >= n_wrong
    tally, equivalent = Tally(0.5 + (of_wrong - of_right) / 2), 0
    for _ in range(repeats):
        low = random.random(n) < np.where(correct, of_right, of_wrong)
        cell = clustered_auroc(1.0 - low, correct, np.arange(n), n_images=n, name="all")
        found = auroc_estimate(cell)
        # A constant score has no interval.
        tally.add(found if math.isfinite(found.low) else found._replace(value=math.nan))
        equivalent += auroc_equivalence_p(cell, margin=EquivalenceMargins().auroc) < ALPHA
    return {"n": n, "n_wrong": n_wrong, "low_of_right": of_right, "low_of_wrong": of_wrong,
            "studies": repeats, **tally.row(), "equivalent": equivalent / repeats}  # fmt: skip


def verdicts(model: str, n_signals: int, studies: int) -> Iterator[dict]:
    """Noise, and a signal that knows the emitted answer alone, judged at the papers' counts."""
    design = papers_design(1 - ACCURACIES[model])
    alone = Truth(auroc_of_answers(design), answer_alone=True)
    for truth in (Truth(0.5, CORRELATION), Truth(0.5, 0.0), alone):
        found = simulate_truth(
            design, truth, n_signals=n_signals, n_tests=n_corrected(n_signals), n_studies=studies
        )
        yield {
            "model": model, "accuracy": ACCURACIES[model], "signals": n_signals,
            **truth._asdict(), "studies": studies, "yes": found.yes, "no": found.no,
            "no_at_most": None if truth.answer_alone else most_no(design, truth, n_signals),
            "coverage": found.coverage,
        }  # fmt: skip


def most_no(design: Design, truth: Truth, n_signals: int) -> float:
    """How often noise of independent items is found equivalent to chance, its variance known.

    The verdict no needs all signals within the margin. A stratum's variance under the null is
    1 / (12 · van Elteren's weight), so that of the weighted mean is 1 / (12 · Σ weights).
    """
    weights = [
        van_elteren_weight(count * (1 - wrong), count * wrong)
        for count, wrong in zip(design.counts, design.wrong, strict=True)
    ]
    reach = EquivalenceMargins().auroc * math.sqrt(12 * sum(weights)) - norm.ppf(1 - ALPHA)
    shared, own = math.sqrt(truth.correlation), math.sqrt(1 - truth.correlation)

    def all_within(common: float) -> float:
        ends = (np.array([-reach, reach]) - shared * common) / own
        return float(np.diff(norm.cdf(ends))[0] ** n_signals * norm.pdf(common))

    return float(quad(all_within, -8, 8)[0])


def interventions(studies: int) -> Iterator[dict]:
    """Interventions on as many items as the papers' study masks, and on a tenth of them."""
    design = papers_design(0.3)
    for n in (design.n_intervened, design.n_intervened // 10):
        for changed, effect in itertools.product(CHANGED, (0.0, *EFFECTS)):
            found = simulate_effect(
                design._replace(n_intervened=n), changed, effect, n_studies=studies
            )
            yield {"items": n, "studies": studies, **found._asdict()}


def papers_design(wrong: float) -> Design:
    return Design.of(load_study(ROOT / "config" / "paper.yaml"), wrong=(wrong,))


def printed(rows: Iterator[dict]) -> list[dict]:
    found = []
    for row in rows:
        found.append(row)
        print(" ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}"
                       for k, v in row.items()), flush=True)  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000, help="studies of one signal")
    parser.add_argument("--families", type=int, default=300, help="studies of each of the rest")
    options = parser.parse_args()
    few = list(itertools.product(IMAGES, ITEMS_AN_IMAGE, OF_ANSWERS, OF_SIGNALS))
    parts = {
        "settings": (
            independent(*setting, options.repeats)
            for setting in itertools.product(COUNTS, WRONG, AREAS, LEVELS)
        ),
        "clustered": (
            clustered(*setting, area, options.families if area == 0.5 else options.repeats)
            for setting in few
            for area in (0.5, 0.8)
        ),
        "over_tasks": itertools.chain.from_iterable(
            over_tasks(area, options.repeats) for area in AREAS
        ),
        "rare": (rare(*setting, options.repeats) for setting in RARE),
        "verdicts": itertools.chain.from_iterable(
            verdicts(model, size, options.families) for model in ACCURACIES for size in FAMILIES
        ),
        "interventions": interventions(options.families),
    }
    rows = {name: printed(part) for name, part in parts.items()}
    found = {**rows, "hardware": hardware("numpy", "scipy")}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(f"\nIntervals that cover more than {100 * WIDE:g}%:")
    printed(
        row
        for part in rows.values()
        for row in part
        if row["coverage"] is not None and row["coverage"] > WIDE
    )


if __name__ == "__main__":
    main()
