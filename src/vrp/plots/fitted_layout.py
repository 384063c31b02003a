"""A layout in which names, notes and labels of panels are broken into lines that fit the panels."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation, Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox, IdentityTransform

_LINE = 1.25  # of the type size
_GAP = 3.0  # points between a panel and what stands above it
# In images, type is set a little wider.
_SLACK = 1.03
# Blanks, and signs after which a name may be broken; neither of them within mathtext.
_BREAKS = re.compile(r"(?:[ \n]+|(?<=[-_/]))(?=(?:[^$]*\$[^$]*\$)*[^$]*$)")

_CLAUSES, _PHRASES = re.compile(r"; "), re.compile(r", (?![^\[(]*[\])])")

Measure = Callable[[str], float]
"""Text → its width in pixels."""


class _Above(Annotation):
    """A line above a panel: as wide as there is room, it asks the layout for height alone."""

    def get_tightbbox(self, renderer: Any = None) -> Any:
        """Return a box of its height."""
        box = self.get_window_extent(renderer)
        return Bbox.from_extents(box.x0, box.y0, box.x0 + 1, box.y1)


class FittedLayout(ConstrainedLayoutEngine):
    """Constrained layout, which then breaks the texts of panels and makes room for their lines."""

    def __init__(self, **options: Any) -> None:
        """Take what `ConstrainedLayoutEngine` takes."""
        super().__init__(**options)
        self._header = self._extra = 0.0
        self._above: dict[Axes, list[_Above]] = {}
        self._whole: dict[Text, tuple[str, str]] = {}

    @property
    def header(self) -> float:
        """Inches at the top that panels leave free."""
        return self._header

    def make_room(self, figure: Figure, inches: float) -> None:
        """Make the figure higher, and leave what is added free at its top."""
        self._header += inches
        self._set_height(figure, figure.get_figheight() + inches)

    def put_above(self, ax: Axes, text: str, **style: Any) -> None:
        """Write a line above a panel, below what was put there before."""
        line = _Above(
            text, xy=(0, 1), xycoords="axes fraction", xytext=(0, _GAP),
            textcoords="offset points", ha="left", va="bottom", linespacing=1.1, **style,
        )  # fmt: skip
        line.set_transform(IdentityTransform())
        line.set_clip_on(False)
        ax.add_artist(line)
        self._above.setdefault(ax, []).append(line)

    def execute(self, fig: Figure) -> None:
        """Lay the figure out, break its texts, and lay it out again with the room they take."""
        above = [text for texts in self._above.values() for text in texts]
        for text in above:
            text.set_in_layout(False)
        super().execute(fig)
        for ax in fig.axes:
            box = ax.get_window_extent()
            self._fit(ax.xaxis.label, box.width)
            self._fit(ax.yaxis.label, box.height)
            for text in self._above.get(ax, ()):
                self._fit(text, _room_above(ax), at_commas=True)
        self._stack(fig)
        for text in above:
            text.set_in_layout(True)
        self._make_room_for_lines(fig)
        super().execute(fig)
        _round_positions(fig)

    def _stack(self, figure: Figure) -> None:
        """Set the texts of panels that stand side by side at the same heights."""
        for panels in _side_by_side(figure):
            stacks = [self._above.get(ax, []) for ax in panels]
            highest = max(map(_points, stacks))
            for texts in stacks:
                for place, text in enumerate(texts):
                    text.xyann = (0, _GAP + highest - _points(texts[: place + 1]))

    def _make_room_for_lines(self, figure: Figure) -> None:
        """Let no panel become lower because its texts take more lines than one."""
        extra = 0.0
        for panels in _side_by_side(figure):
            texts = [[*self._above.get(ax, ()), ax.xaxis.label] for ax in panels]
            added = [_points(own) - _points(own, lines=1) for own in texts]
            extra += max(0.0, *added) / 72
        self._set_height(figure, figure.get_figheight() + extra - self._extra)
        self._extra = extra

    def _set_height(self, figure: Figure, height: float) -> None:
        figure.set_figheight(height)
        self.set(rect=(0, 0, 1, 1 - self._header / height))

    def _fit(self, text: Text, width: float, *, at_commas: bool = False) -> None:
        """Break a text, as it was before it was last broken, into lines of this width."""
        whole, broken = self._whole.get(text, ("", ""))
        if text.get_text() != broken:
            whole = text.get_text()
        broken = break_lines(whole, width, measure_of(text), at_commas=at_commas)
        self._whole[text] = (whole, broken)
        text.set_text(broken)


def _round_positions(figure: Figure) -> None:
    """Drop the last digits of the panels' positions.

    They differ between two runs of the layout's solver, and an SVG names clipping paths by all of
    them: the same figure would not be the same file.
    """
    for ax in figure.axes:
        ax.set_position(Bbox(ax.get_position(original=True).get_points().round(9)))
        ax.set_in_layout(True)  # which setting a position ends


def _side_by_side(figure: Figure) -> list[list[Axes]]:
    """The panels of each row of the grid."""
    rows: dict[int, list[Axes]] = {}
    for ax in figure.axes:
        if (place := ax.get_subplotspec()) is not None:
            rows.setdefault(place.rowspan.start, []).append(ax)
    return list(rows.values())


def _room_above(ax: Axes) -> float:
    """Pixels from a panel's left end to the next panel, or to the figure's right end."""
    figure, box = ax.figure, ax.get_window_extent()
    panels = (other for other in figure.axes if other.get_label() != "<colorbar>")
    boxes = (panel.get_window_extent() for panel in panels)
    starts = [one.x0 for one in boxes if one.x0 > box.x1 and one.y0 < box.y1 and one.y1 > box.y0]
    gap = _GAP * figure.dpi / 72 if starts else 1
    return min(starts, default=figure.bbox.x1) - gap - box.x0


def _points(texts: Iterable[Text], *, lines: int | None = None) -> float:
    """Height of texts that stand above each other, of as many lines as they have or as given."""
    return sum(
        _LINE * float(text.get_fontsize()) * (lines or text.get_text().count("\n") + 1)
        for text in texts
        if text.get_text()
    )


def measure_of(text: Text) -> Measure:
    """Return what measures strings in the type of a text, as vector files set it."""
    figure = text.get_figure(root=True)
    assert figure is not None
    font, scale = text.get_fontproperties(), _SLACK * figure.dpi / 72

    def width(string: str) -> float:
        found = text_to_path.get_text_width_height_descent(string, font, "$" in string)
        return scale * float(found[0])

    return width


def break_lines(text: str, width: float, measure: Measure, *, at_commas: bool = False) -> str:
    """Break a text into lines no wider than `width`.

    It is broken between clauses, that is behind a semicolon, which is then left out; where a
    clause is too wide at blanks, or behind -, _ and /; where a part is still too wide anywhere, but
    not within mathtext.

    Args:
        text: may have lines already.
        width: in pixels.
        measure: of the text's type.
        at_commas: whether clauses are broken behind commas first.
    """
    return "\n".join(
        piece
        for line in text.split("\n")
        for clause in _packed(line, _CLAUSES, width, measure)
        for phrase in _packed(
            clause.removesuffix(";"), _PHRASES if at_commas else _CLAUSES, width, measure
        )
        for part in _packed(phrase, _BREAKS, width, measure)
        for piece in _chopped(part, width, measure)
    )


def _packed(line: str, breaks: re.Pattern[str], width: float, measure: Measure) -> list[str]:
    """As much of a line at a time as has room; what cannot be broken may be wider."""
    if not line or measure(line) <= width:
        return [line]
    lines, start, last = [], 0, 0
    for end in [*(found.end() for found in breaks.finditer(line)), len(line)]:
        if last > start and measure(line[start:end].rstrip()) > width:
            lines.append(line[start:last].rstrip())
            start = last
        last = end
    return [*lines, line[start:]]


def _chopped(part: str, width: float, measure: Measure) -> list[str]:
    """A part that cannot be broken at a blank is broken anywhere, but for mathtext."""
    pieces = []
    while "$" not in part and len(part) > 1 and measure(part) > width:
        n = next((n for n in range(len(part) - 1, 1, -1) if measure(part[:n]) <= width), 1)
        pieces.append(part[:n])
        part = part[n:]
    return [*pieces, part]
