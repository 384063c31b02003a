"""What thresholds with a guarantee promise, by simulation with a known risk.

    python benchmarks/risk_control.py --repeats 5000

For each risk as a function of the score, number of calibration items, alpha and number of levels
of the score: how often the accepted answers are truly wrong more often than alpha (at most
delta = 0.1 is promised), how often nothing is accepted, and the share of answers accepted beside
that of an oracle which knows the risk.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5000, help="calibrations of each setting")
    options = parser.parse_args()
    rows = []
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
    found = {
        "repeats": options.repeats, "delta": DELTA,
        "most_violations": max(row["violations"] for row in rows),
        "settings": rows, "hardware": hardware("numpy", "scipy"),
    }  # fmt: skip
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
