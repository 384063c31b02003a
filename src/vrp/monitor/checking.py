"""Whether a monitor's guarantee still holds: coverage, risk and drift on new labelled items."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from vrp.data.confidence_file import TRUTH, USUAL_NAMES
from vrp.data.json_input import Record, id_field, missing_key, printable
from vrp.errors import InputError
from vrp.monitor.monitor import ALPHA, ReliabilityMonitor, accepts
from vrp.monitor.scoring import (
    BATCH_SIZE,
    load_monitored,
    read_questions,
    read_table_records,
    score_questions,
)
from vrp.stats.calibration import calibration
from vrp.stats.clusters import clustered_ratio, numbered
from vrp.stats.proportion import share_estimate
from vrp.stats.risk_control import excess_risk_p, one_item_per_group

LEVEL = 0.05
"""Level of the test that the risk is above alpha."""
DRIFT_LEVEL = 0.01
"""Level of the test that scores are distributed differently from calibration."""
FEWEST = 20
"""Number of images below which nothing is tested."""


class Fresh(NamedTuple):
    """Labelled items that the monitor has not seen."""

    scores: NDArray[np.float64]
    """(n,) the monitor's scores; NaN for an answer without tokens."""
    correct: NDArray[np.bool_]
    """(n,)"""
    groups: NDArray[np.str_]
    """(n,) image of each."""


class Share(NamedTuple):
    """A share of answers to a random question about a random image, with its 95% interval.

    Clustered by image; NaN where it is not defined.
    """

    value: float
    low: float
    high: float


class Check(NamedTuple):
    """Result of a check on new labelled items."""

    alpha: float
    n: int
    """Items."""
    n_images: int
    accuracy: float
    """Share of right answers of all."""
    coverage: Share
    """Share of answers accepted."""
    coverage_fitted: float
    """The same in calibration."""
    risk: Share
    """Share of wrong answers among those accepted."""
    risk_p: float
    """P-value that it is at most alpha, by the test that finds thresholds; NaN where none is
    accepted."""
    drift: float
    """Kolmogorov–Smirnov distance of the scores from those of calibration, one of each image."""
    drift_p: float
    """Its p-value; NaN for too few images."""
    ece: float
    """Expected calibration error of the probabilities."""

    @property
    def risk_flag(self) -> bool:
        """Whether more than a share alpha of the accepted answers is shown to be wrong."""
        return self.risk_p <= LEVEL

    @property
    def drift_flag(self) -> bool:
        """Whether scores are shown to be distributed differently from calibration."""
        return self.drift_p <= DRIFT_LEVEL

    @property
    def flagged(self) -> bool:
        """Whether the guarantee does not hold for these items."""
        return self.risk_flag or self.drift_flag

    def as_json(self) -> str:
        """Plain data; null where a number is not defined."""
        flags = {"risk_flag": self.risk_flag, "drift_flag": self.drift_flag}
        known = {**self._asdict(), "coverage": self.coverage._asdict(),
                 "risk": self.risk._asdict(), **flags}  # fmt: skip
        return json.dumps(_plain(known), indent=1) + "\n"

    def as_text(self) -> str:
        """The result for a terminal."""
        lines = [
            f"{self.n:,} labelled items about {self.n_images:,} images, "
            f"{100 * self.accuracy:.1f}% right, ECE {self.ece:.3f}",
            f"accepted at alpha {self.alpha:g}: {_percent(self.coverage)}; in calibration "
            f"{100 * self.coverage_fitted:.1f}%",
            f"wrong among the accepted: {_percent(self.risk)}; p of a risk of at most alpha: "
            f"{_number(self.risk_p)}",
            f"drift of the scores: {self.drift:.3f} (p {_number(self.drift_p)})",
            self.verdict,
        ]
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """One sentence: whether the guarantee still holds."""
        if self.risk_flag and self.drift_flag:
            return (
                "FLAG: more of the accepted answers are wrong than alpha allows, and the scores "
                "have drifted: the items differ from those of the calibration; fit the monitor "
                "again"
            )
        if self.risk_flag:
            return "FLAG: more of the accepted answers are wrong than alpha allows; fit it again"
        if self.drift_flag:
            return (
                "FLAG: the scores have drifted: the items differ from those of the calibration, so "
                "the guarantee does not apply; fit the monitor again"
            )
        if self.n_images < FEWEST:
            return f"undecided: {self.n_images} images are too few; give at least {FEWEST}"
        return "no evidence against the guarantee"


def check(monitor: ReliabilityMonitor, fresh: Fresh, *, alpha: float = ALPHA) -> Check:
    """Compare fresh labelled items with what a monitor promises.

    Args:
        monitor: the monitor.
        fresh: items that it was not fitted to.
        alpha: one of the card's.

    Raises:
        InputError: no items, or no threshold for alpha.
    """
    if not fresh.scores.size:
        raise InputError("check: there are no labelled items")
    threshold = monitor.card.threshold(alpha)
    accepted = accepts(fresh.scores, threshold)
    codes, n_images = numbered(fresh.groups)
    weights = 1 / np.bincount(codes)[codes]
    one = one_item_per_group(fresh.groups, fresh.scores)
    drift, drift_p = _drift(fresh.scores[one], monitor.scores)
    probabilities = monitor.calibrator.probability(fresh.scores)
    return Check(
        alpha=alpha, n=fresh.scores.size, n_images=n_images,
        accuracy=float(fresh.correct.mean()),
        coverage=_share(accepted, codes, weights), coverage_fitted=threshold.coverage,
        risk=_share(~fresh.correct[accepted], codes[accepted], weights[accepted]),
        risk_p=excess_risk_p(accepted, fresh.correct, fresh.groups, alpha=alpha, level=LEVEL),
        drift=drift, drift_p=drift_p, ece=calibration(probabilities, fresh.correct).ece,
    )  # fmt: skip


def _drift(fresh: NDArray[np.float64], fitted: NDArray[np.float64]) -> tuple[float, float]:
    known = fresh[np.isfinite(fresh)]
    if known.size < FEWEST or fitted.size < FEWEST:
        return math.nan, math.nan
    found = stats.ks_2samp(known, fitted)
    return float(found.statistic), float(found.pvalue)


def _share(
    hits: NDArray[np.bool_], codes: NDArray[np.int64], weights: NDArray[np.float64]
) -> Share:
    n_images = int(codes.max(initial=-1)) + 1
    found = share_estimate(clustered_ratio(weights * hits, weights, codes, n_images=n_images))
    return Share(found.value, found.low, found.high)


def fresh_items(scores: ArrayLike, correct: ArrayLike, groups: Sequence[str]) -> Fresh:
    """Combine arrays of new items, each with one entry per item."""
    return Fresh(
        np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=bool),
        np.asarray(groups, dtype=str),
    )  # fmt: skip


def run(
    folder: Path,
    labelled: Path,
    *,
    images: Path | None = None,
    alpha: float = ALPHA,
    checkpoint: str | None = None,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
) -> Check:
    """Check a monitor on a file of labelled items.

    The file is one of questions with their answers, which the model is asked; or one that has
    `score` and `correct`, such as the output of `vrp monitor score`, for which no model is run.

    Raises:
        InputError: a file is missing or malformed, answers are not known, or the model is not the
            monitor's.
    """
    monitor = ReliabilityMonitor.load(folder)
    monitor.card.threshold(alpha)
    records = read_table_records(labelled)
    if any("score" in record.fields for record in records):
        return check(monitor, _scored(records), alpha=alpha)
    if images is None:
        raise InputError(f"{labelled}: give --images, the folder of the images that it asks about")
    asked = read_questions(labelled, images)
    if lacking := [one for one in asked if one.reference is None]:
        raise InputError(f"{labelled}: question {lacking[0].question_id} has no answers; give them")
    vlm = load_monitored(monitor, checkpoint=checkpoint, device=device)
    rows = list(score_questions(monitor, vlm, asked, images, alpha=alpha, batch_size=batch_size))
    return check(
        monitor,
        fresh_items(
            [row.answer.score for row in rows],
            [bool(row.correct) for row in rows],
            [row.question.group or row.question.image for row in rows],
        ),
        alpha=alpha,
    )


def _scored(records: Sequence[Record]) -> Fresh:
    _refuse_repeated_ids(records)
    scores = [_score(record) for record in records]
    correct = [_label(record) for record in records]
    return fresh_items(scores, correct, _images(records))


def _score(record: Record) -> float:
    if "score" not in record.fields:
        raise missing_key(record, "score", "a number, as in other rows")
    value = record.fields["score"]
    if value is None:  # an answer without tokens has none
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{record.where}: score is {value!r}; give a number") from None


def _label(record: Record) -> bool:
    value = record.fields.get("correct")
    label = TRUTH.get(str(value).strip().lower())
    if label is None:
        raise InputError(f"{record.where}: correct is {value!r}; give true or false")
    return label


def _images(records: Sequence[Record]) -> list[str]:
    """The image (or another group) of each row; its number where no row names one."""
    names = [_named(record, USUAL_NAMES["group"]) for record in records]
    having = next((i for i, name in enumerate(names) if name is not None), None)
    if having is None:
        return [str(number) for number in range(len(records))]
    lacking = next((i for i, name in enumerate(names) if name is None), None)
    if lacking is not None:
        raise InputError(
            f"{records[lacking].where}: names no image, unlike {records[having].where}; give the "
            "image of every answer, since answers about one image count together"
        )
    return [name for name in names if name is not None]


def _refuse_repeated_ids(records: Sequence[Record]) -> None:
    first_of: dict[str, str] = {}
    for record in records:
        name = _named(record, USUAL_NAMES["id"])
        if name is not None and (first := first_of.setdefault(name, record.where)) != record.where:
            raise InputError(
                f"{record.where}: id {printable(name)!r} is already used ({first}); keep one row "
                "of each answer"
            )


def _named(record: Record, keys: Sequence[str]) -> str | None:
    """The first of some fields that holds something."""
    found = (key for key in keys if record.fields.get(key) not in (None, ""))
    return id_field(record, key) if (key := next(found, None)) is not None else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(share: Share) -> str:
    if not math.isfinite(share.value):
        return "none"
    low, high = 100 * share.low, 100 * share.high
    return f"{100 * share.value:.1f}% [{low:.1f}, {high:.1f}]"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not tested"
