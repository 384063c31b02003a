"""Tables as the page shows them: cells are text, already formatted."""

import math
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import NamedTuple

from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Verdict
from vrp.report.numbers import NONE, decimal, interval, thousands
from vrp.stats.clusters import TOO_FEW
from vrp.tables.captured import NOT_CAPTURED

NOT_RUN = "not run"
_NOTE_LETTERS = 40


class Whisker(NamedTuple):
    """An estimate with its interval on a small axis; positions in percent of its width."""

    low: float
    value: float
    high: float
    null: float
    """Position of "no effect"."""
    clear: bool
    """Whether the interval excludes "no effect"."""


class Bar(NamedTuple):
    """A share in a small bar chart."""

    value: float
    """0 to 1."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    n: int
    """Items."""
    n_groups: int
    """Images."""


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    detail: str = ""
    """Small print after the text, such as the interval."""
    kind: str = ""
    """Class for its looks: `name`, `good`, `bad`, `muted`, `published`, `code`; `noted`, with a
    note in small print; `data`: text from the study's data, shown letter by letter."""
    whisker: Whisker | None = None
    """Drawn in place of the text."""
    bars: Sequence[Bar] = ()
    """Drawn in place of the text, on an axis from 0 to 1."""
    title: str = ""
    """Shown where the pointer rests on it."""
    link: str = ""
    """Where the text leads, such as an anchor of the page."""


class Table(NamedTuple):
    """A table of the page; with few columns it has room for small print beside the text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    """The first cell of a row names it."""
    caption: str = ""
    groups: Sequence[tuple[str, int]] = ()
    """Headings over several columns: (text, how many columns)."""
    text_columns: Sequence[int] = ()
    """Columns that hold text and are set to the left; the first always is."""


def without_repeats(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Name a run of rows with the same first cell once."""
    shown = []
    for index, row in enumerate(rows):
        first = row[0]
        if index and rows[index - 1][0].text == first.text:
            first = Cell("", kind="name")
        if index + 1 < len(rows) and rows[index + 1][0].text == row[0].text:
            first = first._replace(kind="name open")
        shown.append([first, *row[1:]])
    return shown


def name_cell(text: str, detail: str = "") -> Cell:
    """The cell that names a row."""
    return Cell(text, detail, "name")


def missing(number: ReportedEstimate | None = None) -> Cell:
    """A number that this study does not have: not run, or not captured where `number` says so."""
    captured = number is None or number.captured
    return Cell(NOT_RUN if captured else NOT_CAPTURED, kind="muted")


def estimate_cell(
    number: ReportedEstimate | None,
    digits: int = 3,
    *,
    scale: float = 1.0,
    signed: bool = False,
    unit: str = "",
) -> Cell:
    """An estimate with its interval in small print."""
    if number is None or not number.captured:
        return missing(number)
    if not number.defined:
        # A long note names every stratum that has too few.
        lists_strata = TOO_FEW in number.note and len(number.note) > _NOTE_LETTERS
        why = str(Verdict.TOO_FEW) if lists_strata else _short(number.note)
        return Cell(NONE, why, "muted", title=number.note)
    text = decimal(scale * number.value, digits, signed=signed) + unit
    counts = f"{thousands(number.n)} items on {thousands(number.n_groups)} images"
    if ends := interval(number, digits, scale=scale):
        return Cell(text, ends, title=counts)
    note = _short(number.note)
    title = f"{counts}; {number.note}" if number.note else counts
    return Cell(text, note, "noted" if note else "", title=title)


def _short(note: str) -> str:
    """Note for a cell: a long one would widen its column, and is whole in the title alone."""
    return shorten(note, _NOTE_LETTERS, placeholder=" …")


def whisker_cell(number: ReportedEstimate | None, *, low: float, high: float, null: float) -> Cell:
    """The estimate drawn on an axis from `low` to `high`; what lies outside is cut off there."""
    if number is None or not number.defined:
        return Cell("")

    def place(value: float) -> float:
        share = (value - low) / (high - low) if math.isfinite(value) else math.nan
        return round(100 * min(max(share, 0.0), 1.0), 1)

    ends = (number.low, number.high)
    if not all(math.isfinite(end) for end in ends):
        ends = (number.value, number.value)
    clear = math.isfinite(number.low) and not number.low <= null <= number.high
    return Cell(
        "", whisker=Whisker(place(ends[0]), place(number.value), place(ends[1]), place(null), clear)
    )


def common_axis(numbers: Iterable[ReportedEstimate], *, least: float) -> tuple[float, float]:
    """An axis that holds every interval and at least `least` on both sides of 0."""
    values = [-least, least]
    for number in numbers:
        values += [v for v in (number.value, number.low, number.high) if math.isfinite(v)]
    return min(values), max(values)
