"""A saved probe applied to another study, as text and as JSON."""

import json

from vrp.estimates.applied_probe import AppliedProbe, AppliedStratum
from vrp.estimates.reported import ReportedEstimate, plain
from vrp.report.numbers import NONE, p_value, thousands, with_interval
from vrp.stats.estimate import LEVEL
from vrp.tables.estimates import WITHIN_STRATA
from vrp.text_table import aligned


def as_text(found: AppliedProbe) -> str:
    """Return what the probe reads in the other study, for a terminal."""
    n_items, n_images = found.fitted_on
    warning = "" if found.same_weights else "\nThe two models have different weights."
    parts = [
        f"Probe: {found.probe}, {found.layer} at {found.position}, fitted on {thousands(n_items)} "
        f"items on {thousands(n_images)} images\nApplied to: {found.target}{warning}",
        _counts(found),
    ]
    if found.strata:
        parts.append(
            f"AUROC with {100 * LEVEL:.0f}% intervals, clustered by image\n{_text_table(found)}"
        )
    if found.gap is not None:
        parts.append(
            "Applied minus own, within strata: "
            f"{with_interval(found.gap, 3, signed=True)}, p = {p_value(found.gap.p_adjusted)}"
        )
    return "\n\n".join(parts)


def _counts(found: AppliedProbe) -> str:
    left_out = []
    if found.n_fitted:
        left_out.append(f"{thousands(found.n_fitted)} on images that the probe was fitted on")
    if found.n_not_finite:
        left_out.append(f"{thousands(found.n_not_finite)} without a finite state or score")
    rest = f"; left out: {', '.join(left_out)}" if left_out else ""
    if not found.n_items:
        return f"No judged item is left to evaluate{rest}."
    return f"{thousands(found.n_items)} judged items on {thousands(found.n_images)} images{rest}."


def _text_table(found: AppliedProbe) -> str:
    has_own = any(row.own is not None for row in found.strata)
    head = ["", "items", "images", "applied", *(["own linear probe"] if has_own else []), ""]
    return aligned([head, *(_cells(row, has_own) for row in found.strata)], n_text=1)


def _cells(row: AppliedStratum, has_own: bool) -> list[str]:
    name = "within strata" if row.name == WITHIN_STRATA else row.name
    own = [_number(row.own)] if has_own else []
    note = "" if row.applied.defined else row.applied.note
    return [name, thousands(row.n), thousands(row.n_images), _number(row.applied), *own, note]


def _number(number: ReportedEstimate | None) -> str:
    if number is None or not number.defined:
        return NONE
    return with_interval(number, 3)


def as_json(found: AppliedProbe) -> str:
    """Return the same numbers as JSON."""
    content = found._asdict() | {
        "fitted_on": {"n_items": found.fitted_on[0], "n_images": found.fitted_on[1]},
        "strata": [_plain_stratum(row) for row in found.strata],
        "gap": found.gap.as_json() if found.gap else None,
    }
    return json.dumps(plain(content), indent=2) + "\n"


def _plain_stratum(row: AppliedStratum) -> dict[str, object]:
    return row._asdict() | {
        "applied": row.applied.as_json(), "own": row.own.as_json() if row.own else None,
    }  # fmt: skip
