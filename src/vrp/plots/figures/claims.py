"""The papers' claims: published numbers against this study's."""

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vrp.findings.claims import CLAIMS, PaperClaim, Replication, judged_claims
from vrp.findings.evidence import evidence_tables, model_evidence
from vrp.plots.marks import INTERVAL, NUMBER, TEXT, interval_of, of_model, table_of_marks
from vrp.plots.named_rows import rows_of
from vrp.plots.panels import (
    add_key,
    counts_of,
    dot_key,
    interval_dot,
    model_panels,
    not_run,
    note,
    reference_band,
    set_rows,
    zero_line,
)
from vrp.plots.style import BLACK
from vrp.plots.verdict_marks import REPLICATION_MARKS, keys_of
from vrp.study.results import StudyResults
from vrp.tables.answers import ANSWERS

ORDER = 18
TITLE = "The papers' claims: published results and the results of this study"
CAPTION = (
    "Bars across a row are the published numbers for the model's family. Dots are the numbers of "
    "this study with 95% intervals clustered by image; their shape is the verdict. The grey band "
    "counts as no effect: AUROCs near chance above, changes in accuracy near zero below. An "
    "embedded model says nothing about a published checkpoint."
)
TABLES = evidence_tables()

_COLUMNS = {
    "model": TEXT, "claim": TEXT, "statement": TEXT, "quantity": TEXT,
    "published": NUMBER, "source": TEXT, **INTERVAL, "verdict": TEXT,
}  # fmt: skip
_AUROC, _POINTS = "AUROC", "percentage points of accuracy"


def data(study: StudyResults) -> pl.DataFrame:
    """One row a model and claim about its family: published, ours, verdict."""
    rows = []
    for model in study.models:
        for found in judged_claims(model_evidence(model, study)):
            ours = interval_of(found.ours._asdict()) if found.ours else {}
            rows.append({
                "model": model.name, "claim": found.claim.label, "statement": found.claim.text,
                "quantity": _quantity(found.claim), "published": found.published.value,
                "source": found.published.source, **ours, "verdict": str(found.verdict),
            })  # fmt: skip
    return table_of_marks(rows, _COLUMNS)


def _quantity(claim: PaperClaim) -> str:
    return _AUROC if claim.is_auroc else _POINTS


def draw(study: StudyResults) -> Figure:
    """Draw AUROCs above and changes in accuracy below, a row a claim."""
    shown = data(study)
    claims = {
        quantity: [one.label for one in CLAIMS if _quantity(one) == quantity]
        for quantity in (_AUROC, _POINTS)
    }
    rows_for = {quantity: rows_of(labels) for quantity, labels in claims.items()}
    figure, columns = model_panels(
        study, TITLE, heights=[named.height for named in rows_for.values()], share_x="row"
    )
    for model, panels in columns:
        rows = of_model(shown, model.name)
        for ax, (quantity, labels) in zip(panels, claims.items(), strict=True):
            set_rows(ax, rows_for[quantity])
            if rows.is_empty():
                not_run(ax, *["nothing published"] * (not model.table(_ANSWERS).is_empty()))
                continue
            places = dict(zip(labels, rows_for[quantity].places, strict=True))
            _draw_claims(ax, rows.filter(quantity=quantity), places)
            none, margin = (
                (0.5, study.margins.auroc) if quantity == _AUROC else (0, study.margins.effect_pp)
            )
            reference_band(ax, none - margin, none + margin, horizontal=False)
            zero_line(ax, at=none, horizontal=False)
            ax.set_xlabel("AUROC within strata" if quantity == _AUROC else "change in accuracy, pp")
        if len(rows):
            note(panels[0], counts_of(rows))
    marks = [
        mark for verdict, mark in REPLICATION_MARKS.items() if str(verdict) in shown["verdict"]
    ]
    published = dot_key("published", BLACK, marker="|")
    add_key(figure, [published, *keys_of(marks)] if len(shown) else [])
    return figure


_ANSWERS = next(schema for schema in TABLES if schema.name == ANSWERS.name)


def _draw_claims(ax: Axes, rows: pl.DataFrame, places: Mapping[str, float]) -> None:
    for row in rows.iter_rows(named=True):
        place = places[row["claim"]]
        ax.plot(
            [row["published"]], [place], linestyle="none", marker="|", color=BLACK, markersize=14,
            markeredgewidth=2, zorder=2.5,
        )  # fmt: skip
        mark = REPLICATION_MARKS.get(Replication(row["verdict"]))
        if mark is not None and row["value"] is not None:
            interval_dot(
                ax, place, row["value"], row["low"], row["high"], colour=mark.colour,
                marker=mark.marker, hollow=mark.hollow,
            )  # fmt: skip
