"""Rows of `mask.conditions` as a study usually has them."""

from collections.abc import Sequence
from typing import Any

WHOLE_IMAGE = ("no_image", "other_image")


def mask_rows(
    *,
    share: float = 0.3,
    random_seeds: int = 5,
    controls: Sequence[str] = ("bottom", "no_image"),
    dose: Sequence[float] = (0.1, 0.5, 0.9),
    dose_items: int = 300,
    mode: str = "attention",
) -> list[dict[str, Any]]:
    """The most attended tokens and as many at random, further controls, and a dose curve."""
    rows: list[dict[str, Any]] = [
        {"kind": "top", "share": share, "mode": mode},
        {"kind": "random", "share": share, "mode": mode, "seeds": random_seeds},
    ]
    for kind in controls:
        whole = kind in WHOLE_IMAGE
        rows.append({"kind": kind} if whole else {"kind": kind, "share": share, "mode": mode})
    rows += [
        {"kind": kind, "share": part, "mode": mode, "items": dose_items}
        for part in dose
        for kind in ("top", "random")
    ]
    return rows
