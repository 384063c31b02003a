"""What thresholds with a guarantee promise, by simulation with a known risk.

    python benchmarks/risk_control.py --repeats 5000

For each risk as a function of the score, number of calibration items, alpha and number of levels
of the score: how often the accepted answers are truly wrong more often than alpha (at most
delta = 0.1 is promised), how often nothing is accepted, and the share of answers accepted beside
that of an oracle which knows the risk. `settings` have one item an image, which the binomial tail
tests; `several` have five, whose labels are independent or all drawn together, and are tested by
betting.
"""

import argparse
import itertools
import json
from pathlib import Path

from hardware import hardware
from simulated_risk import RISKS, simulated_risk

RESULT = Path(__file__).parent / "results" / "risk_control.json"
COUNTS = (200, 600, 3000)
ALPHAS = (0.05, 0.1, 0.2)
LEVELS = (None, 10)
DELTA = 0.1
N_IMAGES, N_ITEMS, SHARED = 600, 5, (0.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5000, help="calibrations of each setting")
    parser.add_argument(
        "--repeats-several", type=int, default=500, help="the same where images hold several items"
    )
    options = parser.parse_args()
    rows, several = [], []
    for risk, n, alpha, levels in itertools.product(RISKS, COUNTS, ALPHAS, LEVELS):
        found = simulated_risk(
            risk, n=n, alpha=alpha, delta=DELTA, levels=levels, repeats=options.repeats
        )
        rows.append({"risk": risk, "n": n, "alpha": alpha, "levels": levels, **found._asdict()})
        print(
            f"{risk}, {n} items, alpha {alpha}, levels {levels}: "
            f"violations {found.violations:.3f}, none {found.none:.3f}, "
            f"accepted {found.accepted:.3f} of the oracle's {found.oracle:.3f}"
        )
    for risk, alpha, shared in itertools.product(RISKS, ALPHAS, SHARED):
        found = simulated_risk(
            risk, n=N_IMAGES, alpha=alpha, delta=DELTA, levels=None,
            repeats=options.repeats_several, items=N_ITEMS, shared=shared,
        )  # fmt: skip
        several.append({"risk": risk, "alpha": alpha, "shared": shared, **found._asdict()})
        print(
            f"{risk}, {N_IMAGES} images with {N_ITEMS} items, alpha {alpha}, labels drawn "
            f"together {shared:g}: violations {found.violations:.3f}, none {found.none:.3f}, "
            f"accepted {found.accepted:.3f} of the oracle's {found.oracle:.3f}",
            flush=True,
        )
    found = {
        "repeats": options.repeats, "delta": DELTA,
        "most_violations": max(row["violations"] for row in rows),
        "settings": rows,
        "several": {
            "repeats": options.repeats_several, "images": N_IMAGES, "items": N_ITEMS,
            "most_violations": max(row["violations"] for row in several), "settings": several,
        },
        "hardware": hardware("numpy", "scipy"),
    }  # fmt: skip
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
