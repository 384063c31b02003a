"""Estimates as the report reads, judges and prints them."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from vrp.stats.estimate import ALPHA, Estimate
from vrp.tables.captured import NOT_CAPTURED

MINUS = "−"
NONE = "–"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


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

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Effect":
        """Take a row of the effects table."""
        effect = ReportedEstimate(
            row["effect"], row["low"], row["high"], row["p_adjusted"], row["p_equivalence"],
            row["n"], row["n_groups"],
        )  # fmt: skip
        return cls(
            effect, row["baseline"], row["accuracy"], row["changed"], row["p_mcnemar"],
            tuple(row["per_seed"]),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Plain data for the summary."""
        rest = {name: plain(value) for name, value in self._asdict().items() if name != "effect"}
        return {**self.effect.as_json(), **rest}


class Standing(StrEnum):
    """Comparison of an estimate with "no effect"."""

    MISSING = "missing"
    """There is no estimate."""
    EQUIVALENT = "equivalent"
    """Closer to no effect than the margin, by the equivalence test."""
    ABOVE = "above"
    """Larger, after correction."""
    BELOW = "below"
    """Smaller, after correction."""
    UNSETTLED = "unsettled"
    """Neither a difference nor equivalence is shown."""


def standing(number: ReportedEstimate | None, *, null: float) -> Standing:
    """Judge an estimate; equivalence comes first, since a tiny effect can differ from none."""
    if number is None or not number.defined:
        return Standing.MISSING
    if number.p_equivalence < ALPHA:
        return Standing.EQUIVALENT
    if number.p_adjusted < ALPHA:
        return Standing.ABOVE if number.value > null else Standing.BELOW
    return Standing.UNSETTLED


def plain(value: Any) -> Any:
    """Plain JSON data: numbers to six digits, not-a-number and infinities as None."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    return value


def decimal(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Print a number with a real minus sign; a dash where there is none."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("+-")
    return text.replace("-", MINUS)


def interval(number: ReportedEstimate, digits: int = 2, *, scale: float = 1.0) -> str:
    """Print the interval alone, such as `[0.49, 0.53]`; nothing where there is none."""
    if not (math.isfinite(number.low) and math.isfinite(number.high)):
        return ""
    return f"[{decimal(scale * number.low, digits)}, {decimal(scale * number.high, digits)}]"


def with_interval(
    number: ReportedEstimate,
    digits: int = 2,
    *,
    scale: float = 1.0,
    signed: bool = False,
    unit: str = "",
) -> str:
    """Print an estimate and its interval, such as `0.51 [0.49, 0.53]`."""
    value = decimal(scale * number.value, digits, signed=signed) + (unit if number.defined else "")
    return f"{value} {interval(number, digits, scale=scale)}".rstrip()


def percent(number: ReportedEstimate) -> str:
    """Print a share as a percentage with its interval."""
    return with_interval(number, 1, scale=100, unit="%")


def points(number: ReportedEstimate) -> str:
    """Print an effect in percentage points with its sign and interval."""
    return with_interval(number, 1, signed=True, unit=" pp")


def p_value(p: float) -> str:
    """Print a p-value to three digits."""
    if not math.isfinite(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def thousands(n: int) -> str:
    """Print a count."""
    return f"{n:,}"


def number_word(n: int) -> str:
    """Small counts as words."""
    return _WORDS[n] if 0 <= n < len(_WORDS) else str(n)


def layers_in_words(layers: Sequence[str]) -> str:
    """Name layers as in running text: `layer 3`, `layers 3 and 4`."""
    return f"{'layer' if len(layers) == 1 else 'layers'} {listed(layers)}"


def listed(parts: Sequence[str]) -> str:
    """Join names as in running text: `a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
