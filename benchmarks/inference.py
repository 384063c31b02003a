"""What intervals and tests of the AUROC promise, by simulation at the counts of real studies.

    python benchmarks/inference.py --repeats 2000

For each count of items, share of wrong answers, true AUROC and number of levels: how often there
are too few answers for an estimate, how often the 95% interval covers the truth and misses it on
either side, and how often the test rejects at 5%.
"""

import argparse
import itertools
import json
import math
from pathlib import Path

import numpy as np
from hardware import hardware
from simulated_scores import drawn, true_auroc

from vrp.stats.auroc import auroc_estimate, clustered_auroc
from vrp.stats.estimate import ALPHA

RESULT = Path(__file__).parent / "results" / "inference.json"
COUNTS = (90, 300, 1000)
WRONG = (0.03, 0.1, 0.3)
AREAS = (0.5, 0.8, 0.95, 0.97)
LEVELS = (None, 10)


def simulated(n: int, wrong: float, area: float, levels: int | None, repeats: int) -> dict:
    """Coverage and rejections of one setting."""
    truth = true_auroc(area, wrong, levels)
    random = np.random.default_rng([n, round(1000 * wrong), round(1000 * area), levels or 0])
    too_few, below, above, rejected = 0, 0, 0, 0
    for _ in range(repeats):
        signal, correct = drawn(random, n, wrong, area, levels=levels)
        estimate = auroc_estimate(
            clustered_auroc(signal, correct, np.arange(n), n_images=n, name="all")
        )
        if not math.isfinite(estimate.value):
            too_few += 1
            continue
        below += truth < estimate.low
        above += truth > estimate.high
        rejected += estimate.p < ALPHA
    known = max(repeats - too_few, 1)
    return {
        "n": n, "wrong": wrong, "auroc": truth, "levels": levels,
        "too_few": too_few / repeats,
        "coverage": 1 - (below + above) / known if too_few < repeats else None,
        "truth_below": below / known, "truth_above": above / known, "rejected": rejected / known,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="studies of each setting")
    options = parser.parse_args()
    rows = []
    for setting in itertools.product(COUNTS, WRONG, AREAS, LEVELS):
        row = simulated(*setting, options.repeats)
        rows.append(row)
        print(
            " ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        )
    found = {"repeats": options.repeats, "settings": rows, "hardware": hardware("numpy", "scipy")}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
