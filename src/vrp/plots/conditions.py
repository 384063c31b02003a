"""Names of conditions, such as `top_30` or `random_50pct_mean`, in words and in order."""

import re
from typing import NamedTuple

_CONTRAST = " - "
_SIZE = re.compile(r"\d+(\.\d+)?(pct)?")
_KINDS = ("top", "random", "bottom", "no_image", "other_image", "mlp", "contrast")


class Condition(NamedTuple):
    """A condition's name, taken apart."""

    kind: str
    """top, random, bottom, no_image, other_image, mlp, contrast, or a name not known here."""
    size: float
    """How much was masked or ablated; 0 where the name says nothing."""
    percent: bool
    """Whether an ablation's size is a share of the width rather than a number of neurons."""
    more: str
    """The rest of the name: what stands in for the neurons, at which depth."""


def parse_condition(name: str) -> Condition:
    """Take a condition's name apart."""
    if _CONTRAST in name:
        first = parse_condition(name.split(_CONTRAST)[0])
        return first._replace(kind="contrast")
    kind = next((k for k in _KINDS if name == k or name.startswith(f"{k}_")), name)
    size, percent, more = 0.0, False, []
    for part in name[len(kind) :].strip("_").split("_"):
        if not size and _SIZE.fullmatch(part):
            size, percent = float(part.removesuffix("pct")), part.endswith("pct")
        elif part:
            more.append(part)
    return Condition(kind, size, percent, " ".join(more))


def reading_order(name: str) -> tuple[int, bool, float, str]:
    """Sort key: chosen ones before their controls, small before large."""
    condition = parse_condition(name)
    place = _KINDS.index(condition.kind) if condition.kind in _KINDS else len(_KINDS)
    return place, condition.percent, condition.size, condition.more


def mask_label(name: str) -> str:
    """Which image tokens a masking condition hides."""
    kind, size, _, _ = parse_condition(name)
    share = f"{size:g}%"
    words = {
        "top": f"most attended {share}",
        "random": f"random {share}",
        "bottom": f"least attended {share}",
        "no_image": "blank image",
        "other_image": "another image",
        "contrast": "most attended − random",
    }
    return words.get(kind, name)


def ablation_label(name: str) -> str:
    """Which neurons an ablation silences."""
    kind, size, percent, more = parse_condition(name)
    if kind == "mlp":
        label = "whole MLP bypassed"
        more = more.removeprefix("bypass").strip()
    elif kind == "contrast":
        label = f"top {size:g} − random {size:g}"
    elif kind in ("top", "random"):
        label = f"{kind} {size:g}%" if percent else f"{kind} {size:g}"
    else:
        label = name
    return f"{label}, {_in_words(more)}" if more else label


def _in_words(more: str) -> str:
    more = more.replace("plus ", "set to +").replace("minus ", "set to −")
    more = re.sub(r"\bmean\b", "set to mean", more)
    return re.sub(r"depth([\d.]+)", r"at \1% depth", more)
