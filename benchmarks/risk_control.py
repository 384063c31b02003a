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
from typing import Any

from hardware import hardware
from simulated_risk import RISKS, SimulatedRisk, simulated_risk

RESULT = Path(__file__).parent / "results" / "risk_control.json"
COUNTS = (200, 600, 3000)
ALPHAS = (0.05, 0.1, 0.2)
LEVELS = (None, 10)
DELTA = 0.1
N_IMAGES, N_ITEMS, SHARED = 300, 5, (0.0, 1.0)


def single(repeats: int) -> dict[str, Any]:
    """Calibrations on images with an item each."""
    rows = []
    for risk, n, alpha, levels in itertools.product(RISKS, COUNTS, ALPHAS, LEVELS):
        found = simulated_risk(risk, n=n, alpha=alpha, delta=DELTA, levels=levels, repeats=repeats)
        rows.append({"risk": risk, "n": n, "alpha": alpha, "levels": levels, **found._asdict()})
        print(f"{risk}, {n} items, alpha {alpha}, levels {levels}: {told(found)}", flush=True)
    return {
        "repeats": repeats, "delta": DELTA,
        "most_violations": max(row["violations"] for row in rows), "settings": rows,
    }  # fmt: skip


def several(repeats: int) -> dict[str, Any]:
    """Calibrations on images with several items, whose labels are drawn apart or together."""
    rows = []
    for risk, alpha, shared in itertools.product(RISKS, ALPHAS, SHARED):
        found = simulated_risk(
            risk, n=N_IMAGES, alpha=alpha, delta=DELTA, levels=None, repeats=repeats,
            items=N_ITEMS, shared=shared,
        )  # fmt: skip
        rows.append({"risk": risk, "alpha": alpha, "shared": shared, **found._asdict()})
        print(
            f"{risk}, {N_IMAGES} images with {N_ITEMS} items, alpha {alpha}, labels drawn "
            f"together {shared:g}: {told(found)}",
            flush=True,
        )
    return {
        "repeats": repeats, "images": N_IMAGES, "items": N_ITEMS,
        "most_violations": max(row["violations"] for row in rows), "settings": rows,
        "hardware": hardware("numpy", "scipy"),
    }  # fmt: skip


def told(found: SimulatedRisk) -> str:
    """Say what was found, in a line."""
    return (
        f"violations {found.violations:.3f}, none {found.none:.3f}, "
        f"accepted {found.accepted:.3f} of the oracle's {found.oracle:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5000, help="calibrations of each setting")
    parser.add_argument(
        "--repeats-several", type=int, default=300, help="the same where images hold several items"
    )
    parser.add_argument(
        "--several-alone", action="store_true", help="keep what is recorded of single items"
    )
    options = parser.parse_args()
    if options.several_alone:
        found = json.loads(RESULT.read_text())
    else:
        found = single(options.repeats) | {"hardware": hardware("numpy", "scipy")}
    found["several"] = several(options.repeats_several)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
