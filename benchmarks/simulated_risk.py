"""Calibrations of thresholds with a known truth."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.stats.risk_control import control_risk

RISKS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "linear": lambda u: 0.5 * u,
    "steep": lambda u: np.minimum(0.02 + 0.9 * u**3, 1),
    "flat": lambda u: 0.03 + 0.15 * u,
    "surest are wrong": lambda u: np.where(u < 0.05, 0.3, 0.02 + 0.5 * u**2),
    "constant": lambda u: np.full_like(u, 0.101),
}
"""Name → chance of a wrong answer, by the share of answers that are at least as sure."""
_STEPS = 100_000


class SimulatedRisk(NamedTuple):
    """What thresholds did in simulated calibrations."""

    violations: float
    """Share of calibrations whose accepted answers are truly wrong more often than alpha."""
    none: float
    """Share of calibrations that accept nothing."""
    accepted: float
    """Mean share of answers accepted."""
    oracle: float
    """Share that an oracle accepts, which knows the risk."""


def simulated_risk(
    risk: str,
    *,
    n: int,
    alpha: float,
    delta: float,
    levels: int | None,
    repeats: int,
    items: int = 1,
    shared: float = 0.0,
) -> SimulatedRisk:
    """Draw calibrations of `n` images and compare the accepted answers' risk with the truth.

    Args:
        risk: one of `RISKS`.
        n: images of a calibration.
        alpha: greatest share of wrong answers among those accepted.
        delta: chance that the guarantee may fail.
        levels: different scores; None: no two are equal.
        repeats: calibrations.
        items: items of an image; every second one has the image's own chance of a wrong answer.
        shared: share of the images whose labels are all drawn together.
    """
    seed = [n, round(1000 * alpha), levels or 0, len(risk)]
    random = np.random.default_rng(seed if items == 1 else [*seed, items, round(100 * shared)])
    groups = np.repeat(np.arange(n), items).astype(str)
    # Risk among the answers that are at least as sure as a share u, by the midpoint rule.
    steps = (np.arange(_STEPS) + 0.5) / _STEPS
    upto = np.cumsum(RISKS[risk](steps)) / np.arange(1, _STEPS + 1)
    reached = np.arange(1, _STEPS + 1) / _STEPS
    if levels is not None:
        at_levels = np.arange(1, levels + 1) * _STEPS // levels - 1
        upto, reached = upto[at_levels], reached[at_levels]
    allowed = reached[upto <= alpha]
    shares, n_violations = [], 0
    for _ in range(repeats):
        u, drawn = random.random(n * items), random.random(n * items)
        if items > 1:
            own, label, together = np.repeat(random.random((3, n)), items, axis=1)
            u = np.where(np.arange(u.size) % 2, own, u)
            drawn = np.where(together < shared, label, drawn)
        wrong = drawn < RISKS[risk](u)
        score = -u if levels is None else -(np.floor(u * levels) + 1) / levels
        found = control_risk(score, ~wrong, groups, alpha=alpha, delta=delta).accepted
        share = 0.0 if found is None else -found.threshold
        if share:
            # Thresholds lie between two steps; at a level they are one of them.
            n_violations += float(np.interp(share, reached, upto)) > alpha * (1 + 1e-9)
        shares.append(share)
    accepted = np.array(shares)
    return SimulatedRisk(
        n_violations / repeats,
        float((accepted == 0).mean()),
        float(accepted.mean()),
        float(allowed[-1]) if allowed.size else 0.0,
    )
