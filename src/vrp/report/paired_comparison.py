"""Two models compared on the same questions, as text and as JSON."""

import json

from vrp.estimates.paired_comparison import Difference, PairedComparison
from vrp.estimates.predictors import predictor_label
from vrp.estimates.reported import ReportedEstimate, plain
from vrp.estimates.verdicts import Standing, standing
from vrp.report.numbers import decimal, p_value, thousands
from vrp.stats.estimate import LEVEL
from vrp.tables.estimates import MACRO
from vrp.text_table import aligned

_WORDS = {
    Standing.EQUIVALENT: "equivalent",
    Standing.ABOVE: "B is higher",
    Standing.BELOW: "A is higher",
    Standing.UNSETTLED: "undecided",
}


def verdict_of(gap: ReportedEstimate) -> str:
    """Word for a difference, B minus A; "too few" where there is no estimate."""
    return _WORDS.get(standing(gap, null=0.0), "too few")


def as_text(found: PairedComparison) -> str:
    """Return the comparison for a terminal."""
    alone = " and ".join(
        f"{thousands(n)} that {name} alone has"
        for name, n in zip("AB", found.n_alone, strict=True)
        if n
    )
    parts = [
        f"A: {found.first}\nB: {found.second}",
        f"{thousands(found.n_items)} questions on {thousands(found.n_images)} images that both "
        f"answered{f'; left out: {alone}' if alone else ''}. One of the two alone is right on "
        f"{100 * found.changed:.1f}%.",
        f"Accuracy, % (equivalent: within ± {found.margin_pp:g} pp)",
        _text_table(found.accuracies, 1, " pp"),
    ]
    if found.aurocs:
        parts += ["AUROC within strata, each with its own model's answers",
                  _text_table(found.aurocs, 3, "")]  # fmt: skip
    return "\n\n".join(parts)


def _text_table(rows: tuple[Difference, ...], digits: int, unit: str) -> str:
    head = [
        "",
        "A",
        "B",
        "B − A",
        f"{100 * LEVEL:.0f}% interval",
        "p (Holm)",
        "could find",
        "verdict",
    ]
    text = [head]
    for row in rows:
        gap = row.gap
        label = "mean over tasks" if row.name == MACRO else predictor_label(row.name)
        text.append([
            label, decimal(row.first, digits), decimal(row.second, digits),
            decimal(gap.value, digits, signed=True) + unit,
            f"{decimal(gap.low, digits, signed=True)} to {decimal(gap.high, digits, signed=True)}",
            p_value(gap.p_adjusted), decimal(gap.resolvable, digits) + unit, verdict_of(gap),
        ])  # fmt: skip
    return aligned(text, n_text=1)


def as_json(found: PairedComparison) -> str:
    """Return the same numbers as JSON."""

    def rows(differences: tuple[Difference, ...]) -> list[dict[str, object]]:
        return [
            {"name": row.name, "a": row.first, "b": row.second, "b_minus_a": row.gap._asdict(),
             "verdict": verdict_of(row.gap)}
            for row in differences
        ]  # fmt: skip

    content = found._asdict() | {
        "accuracies": rows(found.accuracies), "aurocs": rows(found.aurocs),
    }  # fmt: skip
    return json.dumps(plain(content), indent=2) + "\n"
