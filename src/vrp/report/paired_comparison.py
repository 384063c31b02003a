"""Two models compared on the same questions, as text and as JSON."""

import json
import math

from vrp.estimates.paired_comparison import Difference, PairedComparison
from vrp.estimates.reported import plain
from vrp.report.numbers import NONE, decimal, listed, p_value, thousands
from vrp.stats.estimate import LEVEL
from vrp.text_table import aligned

_HEAD = (
    "", "A", "B", "B − A", f"{100 * LEVEL:.0f}% interval", "p (Holm)", "detectable", "questions",
    "images", "verdict",
)  # fmt: skip


def as_text(found: PairedComparison) -> str:
    """Return the comparison for a terminal."""
    alone = " and ".join(
        f"{thousands(n)} of {name} only" for name, n in zip("AB", found.n_alone, strict=True) if n
    )
    parts = [
        f"A: {found.first}\nB: {found.second}",
        f"{thousands(found.n_items)} questions on {thousands(found.n_images)} images that both "
        f"answered{f'; left out: {alone}' if alone else ''}. On {100 * found.changed:.1f}% only "
        "one of the two is right.",
        f"Accuracy, % (equivalent: within ± {found.margin_pp:g} pp)",
        _text_table(found.accuracies, 1, " pp"),
    ]
    if found.aurocs:
        parts += [
            "AUROC within strata, for each model's own answers; a stratum has the same weight in A "
            f"and B (equivalent: within ± {found.margin_auroc:g})",
            _text_table(found.aurocs, 3, ""),
        ]
    return "\n\n".join(parts)


def _text_table(rows: tuple[Difference, ...], digits: int, unit: str) -> str:
    table = aligned([_HEAD, *(_cells(row, digits, unit) for row in rows)], n_text=1)
    return "\n".join([table, *_notes(rows)])


def _cells(row: Difference, digits: int, unit: str) -> list[str]:
    def number(value: float, *, signed: bool = False) -> str:
        return decimal(value, digits, signed=signed) + (unit if math.isfinite(value) else "")

    gap = row.gap
    return [
        row.label, decimal(row.first, digits), decimal(row.second, digits),
        number(gap.value, signed=True),
        f"{decimal(gap.low, digits, signed=True)} to {decimal(gap.high, digits, signed=True)}"
        if math.isfinite(gap.low) else NONE,
        p_value(gap.p_adjusted), number(gap.resolvable),
        thousands(gap.n), thousands(gap.n_groups), row.verdict,
    ]  # fmt: skip


def _notes(rows: tuple[Difference, ...]) -> list[str]:
    """What is said of rows, such as why there is no interval; rows of one note together."""
    of_notes: dict[str, list[str]] = {}
    for row in rows:
        if row.gap.note:
            of_notes.setdefault(row.gap.note, []).append(row.label)
    return [
        f"{'every row' if len(labels) == len(rows) > 1 else listed(labels)}: {note}"
        for note, labels in of_notes.items()
    ]


def as_json(found: PairedComparison) -> str:
    """Return the same numbers as JSON."""

    def rows(differences: tuple[Difference, ...]) -> list[dict[str, object]]:
        return [
            {"name": row.name, "a": row.first, "b": row.second, "b_minus_a": row.gap._asdict(),
             "verdict": row.verdict}
            for row in differences
        ]  # fmt: skip

    content = found._asdict() | {
        "accuracies": rows(found.accuracies), "aurocs": rows(found.aurocs),
    }  # fmt: skip
    return json.dumps(plain(content), indent=2) + "\n"
