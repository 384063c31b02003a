"""Numbers as the report prints them."""

import math
from collections.abc import Sequence

from vrp.estimates.reported import ReportedEstimate

MINUS = "−"
NONE = "–"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


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
