"""Figures of confidences that somebody else made: how they rank answers, and calibration."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vrp.estimates.judged_confidences import JudgedConfidences, ScoreJudgement
from vrp.plots.panels import add_key, from_zero, interval_dot, line_key, not_run, panels
from vrp.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from vrp.stats.roc import stratified_roc
from vrp.stats.selective import COVERAGES

_LOOKS = (
    (BLUE, "-", "o"), (VERMILLION, "--", "s"), (GREEN, "-.", "^"), (PURPLE, ":", "D"),
    (ORANGE, (0, (5, 1, 1, 1, 1, 1)), "v"), (BLACK, (0, (1, 1)), "P"),
)  # fmt: skip
"""Colour, dashes and mark of each score that is drawn: those of the highest AUROC."""
_LONGEST_NAME = 30  # letters
_FIRST_COVERAGE = 0.05
_POINTS = 300  # of a curve, so that files stay small
AS_GIVEN, CALIBRATED = "as given", "calibrated"
"""Probabilities of a reliability diagram."""


class JudgedFigure(NamedTuple):
    """A figure of the page."""

    name: str
    title: str
    caption: str
    numbers: tuple[str, ...]
    """Those of `curves` that it shows."""
    finding: Callable[[JudgedConfidences], str]
    """What it shows, in words."""
    draw: Callable[[JudgedConfidences, Mapping[str, pl.DataFrame]], Figure]
    """From the judgement and its `curves`."""


def curves(found: JudgedConfidences) -> dict[str, pl.DataFrame]:
    """Numbers of all figures: `roc`, `risk_coverage` and `reliability`, a row a mark."""
    return {
        "roc": _stacked(found.scores, lambda score: _roc_points(found, score)),
        "risk_coverage": _stacked(found.scores, _risk_points),
        "reliability": _stacked(found.scores, _reliability_bins),
    }


def _stacked(
    scores: Sequence[ScoreJudgement], rows_of: Callable[[ScoreJudgement], pl.DataFrame]
) -> pl.DataFrame:
    return pl.concat(
        [rows_of(one).select(pl.lit(one.name).alias("score"), pl.all()) for one in scores]
    )


def _thinned(n: int) -> NDArray[np.int64]:
    """Places of the points of a curve that are kept, its ends among them."""
    return np.unique(np.linspace(0, n - 1, min(n, _POINTS)).round().astype(np.int64))


def _roc_points(found: JudgedConfidences, score: ScoreJudgement) -> pl.DataFrame:
    """The ROC curve within strata, whose area is the AUROC; no row where there is none."""
    items = found.items
    curve = stratified_roc(items.file.scores[score.name], items.correct, items.codes, items.strata)
    kept = _thinned(curve.false_positive.size)
    return pl.DataFrame(
        {
            "false_positive_rate": curve.false_positive[kept],
            "true_positive_rate": curve.true_positive[kept],
        }
    )


def _risk_points(score: ScoreJudgement) -> pl.DataFrame:
    """The curve from its first noisy part on, and the coverages whose risk has an interval."""
    curve = score.curve
    first = int(np.searchsorted(curve.coverage, _FIRST_COVERAGE))
    kept = first + _thinned(curve.risk.size - first)
    along = pl.DataFrame({"coverage": curve.coverage[kept], "risk": curve.risk[kept]})
    numbers = {c: score.selective[f"accuracy_at_{round(100 * c)}"] for c in COVERAGES}
    marked = pl.DataFrame(
        [
            {"coverage": c, "risk": 1 - one.value, "low": 1 - one.high, "high": 1 - one.low}
            for c, one in numbers.items()
        ]
    )
    return pl.concat([along, marked], how="diagonal")


def _reliability_bins(score: ScoreJudgement) -> pl.DataFrame:
    """Bins of the score itself, where it is a probability, and of the calibrated one."""
    found = {CALIBRATED: score.calibrated}
    if score.calibration is not None:
        found = {AS_GIVEN: score.calibration, **found}
    return pl.DataFrame(
        [{"probability": name, **b._asdict()} for name, one in found.items() for b in one.bins]
    )


def _ranking(found: JudgedConfidences, rows: Mapping[str, pl.DataFrame]) -> Figure:
    figure, ((left, right),) = panels(RANKING.title, heights=[4.2], n_columns=2)
    looks = _looks_of(found)
    left.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=0.9)
    _lines(left, rows["roc"], looks, "false_positive_rate", "true_positive_rate")
    marked = pl.col("low").is_not_null()
    _lines(right, rows["risk_coverage"].filter(~marked), looks, "coverage", "risk")
    for row in rows["risk_coverage"].filter(marked).iter_rows(named=True):
        if row["score"] in looks:
            colour, _, marker = looks[row["score"]]
            interval_dot(
                right, row["coverage"], row["risk"], row["low"], row["high"], colour=colour,
                horizontal=False, marker=marker,
            )  # fmt: skip
    for ax, title, x, y in (
        (left, "ROC, within strata", "share of wrong answers", "share of right answers"),
        (right, "Risk and coverage", "share of answers given", "share wrong among them"),
    ):
        ax.set_title(title)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.set_xlim(-0.02, 1.02)
    left.set_ylim(-0.02, 1.02)
    if rows["roc"].is_empty():
        not_run(left, "too few right or wrong answers")
    from_zero([right])
    add_key(figure, _keys(looks))
    return figure


def _reliability(found: JudgedConfidences, rows: Mapping[str, pl.DataFrame]) -> Figure:
    figure, (axes,) = panels(RELIABILITY.title, heights=[4.2], n_columns=2)
    looks = _looks_of(found)
    for ax, probability in zip(axes, (AS_GIVEN, CALIBRATED), strict=True):
        ax.set_title(f"{probability[0].upper()}{probability[1:]}")
        ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=0.9)
        shown = rows["reliability"].filter(
            pl.col("score").is_in(list(looks)), probability=probability
        )
        for row in shown.filter(pl.col("n") > 0).iter_rows(named=True):
            colour, _, marker = looks[row["score"]]
            interval_dot(
                ax, row["confidence"], row["accuracy"], row["low"], row["high"], colour=colour,
                horizontal=False, marker=marker,
            )  # fmt: skip
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.02)
        ax.set_xlabel("mean probability")
        ax.set_ylabel("share right")
        if shown.is_empty():
            not_run(ax, "no score is a probability")
    add_key(figure, _keys(looks, lines=False))
    return figure


def _ranking_in_words(found: JudgedConfidences) -> str:
    known = [one for one in found.by_auroc if one.auroc.defined]
    return "AUROC, AURC: " + "; ".join(
        f"{one.name} {one.auroc.value:.3f}, {one.curve.aurc:.3f}" for one in known
    )


def _reliability_in_words(found: JudgedConfidences) -> str:
    return "ECE: " + "; ".join(
        f"{one.name} {f'{one.calibration.ece:.3f}, ' if one.calibration else ''}"
        f"calibrated {one.calibrated.ece:.3f}"
        for one in found.by_auroc
    )


def _looks_of(found: JudgedConfidences) -> dict[str, tuple[str, object, str]]:
    return {score.name: look for score, look in zip(found.by_auroc, _LOOKS, strict=False)}


def _keys(looks: Mapping[str, tuple[str, object, str]], *, lines: bool = True) -> list[Artist]:
    return [
        line_key(_shown(name), colour, linestyle=dashes)
        if lines
        else line_key(_shown(name), colour, linestyle="none", marker=marker)
        for name, (colour, dashes, marker) in looks.items()
    ]


def _shown(name: str) -> str:
    """A name from the file as a figure shows it, letter by letter."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")


def _lines(
    ax: Axes, rows: pl.DataFrame, looks: Mapping[str, tuple[str, object, str]], x: str, y: str
) -> None:
    for name, (colour, dashes, _) in looks.items():
        points = rows.filter(score=name)
        ax.plot(points[x], points[y], color=colour, linestyle=dashes)


RANKING = JudgedFigure(
    "ranking",
    "How the scores rank answers",
    "Left: share of the right answers above a threshold against that of the wrong ones, among "
    "answers of one stratum; the mean over strata, with the area that is the AUROC within strata. "
    "Right: share wrong among the most confident answers, by the share that is given; lower is "
    "better, and at the right end all are given; marks have 95% intervals, and the first 5% are "
    "left out as noise.",
    ("roc", "risk_coverage"),
    _ranking_in_words,
    _ranking,
)
RELIABILITY = JudgedFigure(
    "reliability",
    "Whether a probability of being right holds",
    "Share right against the mean probability, in ten bins of equal width, with Wilson 95% "
    "intervals; marks on the diagonal are calibrated. Left: scores between 0 and 1 as they are. "
    "Right: every score turned into a probability by a map that was fitted on other images.",
    ("reliability",),
    _reliability_in_words,
    _reliability,
)
FIGURES = (RANKING, RELIABILITY)
