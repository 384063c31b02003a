"""Estimates and effects as rows of the tables give them, to be judged and printed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vrp.stats.clusters import MIN_IMAGES, NO_VARIANCE, TOO_FEW
from vrp.stats.estimate import Estimate
from vrp.stats.multiplicity import holm
from vrp.tables.captured import NOT_CAPTURED


class ReportedEstimate(NamedTuple):
    """An estimate with what is needed to judge and print it."""

    value: float
    """The estimate; NaN where it is undefined."""
    low: float = math.nan
    """Lower end of the 95% interval."""
    high: float = math.nan
    """Upper end of the 95% interval."""
    p_adjusted: float = math.nan
    """p-value after Holm's correction; NaN where nothing was tested."""
    p_equivalence: float = math.nan
    """Two one-sided tests against the study's margin."""
    p_equivalence_adjusted: float = math.nan
    """The same after Holm's correction."""
    se: float = math.nan
    """Standard error; NaN where there is no variance to estimate."""
    resolvable: float = math.nan
    """Smallest distance from no effect that the design finds with 80% power."""
    n: int = 0
    """Items."""
    n_groups: int = 0
    """Images."""
    n_dropped: int = 0
    """Items left out."""
    note: str = ""
    """Reason why items were left out, or the value is missing."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ReportedEstimate":
        """Take a row of an estimates table."""
        values = {name: row[name] for name in cls._fields}
        return cls(**{**values, "note": values["note"] or ""})

    @classmethod
    def from_estimate(cls, estimate: Estimate) -> "ReportedEstimate":
        """Take an estimate that is tested on its own, without a family to correct for."""
        return cls(
            estimate.value, estimate.low, estimate.high, estimate.p,
            n=estimate.n, n_groups=estimate.n_groups, note=estimate.note,
        )  # fmt: skip

    @property
    def defined(self) -> bool:
        """Whether the value is a number."""
        return math.isfinite(self.value)

    @property
    def captured(self) -> bool:
        """Whether its inputs were captured."""
        return self.note != NOT_CAPTURED

    def as_json(self) -> dict[str, Any]:
        """Plain data for the summary; what is not a number becomes null."""
        return {name: plain(value) for name, value in self._asdict().items()}


def corrected(found: Mapping[str, ReportedEstimate]) -> dict[str, ReportedEstimate]:
    """Apply Holm's correction over a family of estimates: to differences, and to equivalences."""
    numbers = list(found.values())
    p = holm([number.p_adjusted for number in numbers])
    equivalent = holm([number.p_equivalence for number in numbers])
    return {
        name: number._replace(p_adjusted=float(p[i]), p_equivalence_adjusted=float(equivalent[i]))
        for i, (name, number) in enumerate(found.items())
    }


class Effect(NamedTuple):
    """Effect of an intervention on accuracy."""

    effect: ReportedEstimate
    """Percentage points."""
    baseline: float
    """Accuracy at baseline (of the control, for a contrast of two conditions)."""
    accuracy: float
    """Accuracy under the condition."""
    changed: float
    """Share of answers that changed."""
    p_mcnemar: float
    """Exact McNemar test, which takes items as independent; for comparison."""
    per_seed: tuple[float, ...]
    """Effect of every seed, percentage points."""
    gained: float = math.nan
    """Share of items right under the condition alone."""
    lost: float = math.nan
    """Share of items right without it alone."""
    margin: ReportedEstimate = ReportedEstimate(math.nan)
    """Mean change of the decision margin, logits."""
    place: int | None = None
    """Place of a set of neurons among its random controls, the most harmful first."""
    to_blank: ReportedEstimate = ReportedEstimate(math.nan)
    """Accuracy minus that with a blank image, on the items of both, percentage points."""

    @property
    def disturbs(self) -> bool:
        """Whether hiding tokens leaves less than a blank image, which takes all away."""
        return self.to_blank.high < 0

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Effect":
        """Take a row of the effects table."""
        effect = ReportedEstimate.from_row({**row, "value": row["effect"], "n_dropped": 0})
        return cls(
            effect, row["baseline"], row["accuracy"], row["changed"], row["p_mcnemar"],
            tuple(row["per_seed"]), row["gained"], row["lost"],
            ReportedEstimate(
                row["margin"], row["margin_low"], row["margin_high"], n=effect.n,
                n_groups=effect.n_groups,
                note=_why_no_interval(row["margin_low"], effect.n_groups),
            ),
            row["place"],
            ReportedEstimate(row["to_blank"], row["to_blank_low"], row["to_blank_high"]),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Plain data for the summary."""
        inner = {"margin": self.margin.as_json(), "to_blank": self.to_blank.as_json()}
        rest = {name: plain(value) for name, value in self._asdict().items() if name != "effect"}
        return {**self.effect.as_json(), **rest, **inner}


def _why_no_interval(low: float, n_images: int) -> str:
    if math.isfinite(low):
        return ""
    return NO_VARIANCE if n_images >= MIN_IMAGES else f"{TOO_FEW} images: {n_images}"


def plain(value: Any) -> Any:
    """Plain JSON data: numbers to six digits, not-a-number and infinities as None."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value
