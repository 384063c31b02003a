"""Icons of the scene categories: one short drawing function per category.

An icon is drawn in the unit square (x to the right, y down) on a supersampled patch and
reduced once, so that its edges are clean at 14–40 pixels.
"""

from collections.abc import Callable, Sequence
from typing import Final

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

COLORS: Final[dict[str, RGB]] = {
    "red": (206, 38, 42),
    "orange": (242, 134, 28),
    "yellow": (246, 214, 52),
    "green": (46, 150, 62),
    "blue": (42, 92, 208),
    "purple": (138, 58, 170),
    "white": (240, 240, 240),
}

_INK: Final[RGB] = (38, 36, 42)
_PAPER: Final[RGB] = (250, 246, 232)
_GLASS: Final[RGB] = (188, 222, 236)
_WOOD: Final[RGB] = (116, 78, 46)


def _mix(color: RGB, other: RGB, share: float) -> RGB:
    """Return `color` with `share` of it replaced by `other`."""
    r, g, b = (round(a * (1 - share) + c * share) for a, c in zip(color, other, strict=True))
    return r, g, b


class _Pen:
    """Draws in the unit square on a patch of `n`×`n` pixels, with one object's colours."""

    def __init__(self, n: int, color: RGB) -> None:
        self.image = Image.new("RGBA", (n, n), (*_mix(color, _INK, 0.6), 0))
        self._draw = ImageDraw.Draw(self.image)
        self._n = n
        self.body = color
        self.shade = _mix(color, _INK, 0.35)
        self.light = _mix(color, (255, 255, 255), 0.45)
        self.edge = _mix(color, _INK, 0.72)
        self._edge_width = max(2, round(0.035 * n))

    def _at(self, values: Sequence[float]) -> list[float]:
        return [v * (self._n - 1) for v in values]

    def polygon(self, points: Sequence[Point], fill: RGB, *, edged: bool = True) -> None:
        xy = [v * (self._n - 1) for point in points for v in point]
        self._draw.polygon(xy, fill=fill)
        if edged:
            self._draw.line([*xy, *xy[:4]], fill=self.edge, width=self._edge_width, joint="curve")

    def rectangle(self, box: Box, fill: RGB, *, edged: bool = True, radius: float = 0.0) -> None:
        self._draw.rounded_rectangle(
            self._at(box),
            radius=radius * self._n,
            fill=fill,
            outline=self.edge if edged else None,
            width=self._edge_width if edged else 0,
        )

    def ellipse(self, box: Box, fill: RGB | None, *, edge: RGB | None = None, w: float = 0) -> None:
        width = round(w * self._n) if w else self._edge_width
        self._draw.ellipse(self._at(box), fill=fill, outline=edge or self.edge, width=width)

    def line(self, points: Sequence[Point], fill: RGB, w: float) -> None:
        xy = [v * (self._n - 1) for point in points for v in point]
        self._draw.line(xy, fill=fill, width=max(1, round(w * self._n)), joint="curve")

    def arc(self, box: Box, start: float, end: float, fill: RGB, w: float) -> None:
        self._draw.arc(self._at(box), start, end, fill=fill, width=max(1, round(w * self._n)))

    def half_disc(self, box: Box, fill: RGB) -> None:
        self._draw.pieslice(
            self._at(box), 180, 360, fill=fill, outline=self.edge, width=self._edge_width
        )


def _car(pen: _Pen) -> None:
    pen.polygon([(0.20, 0.52), (0.33, 0.24), (0.68, 0.24), (0.84, 0.52)], pen.body)
    pen.polygon([(0.28, 0.50), (0.37, 0.31), (0.48, 0.31), (0.48, 0.50)], _GLASS, edged=False)
    pen.polygon([(0.54, 0.50), (0.54, 0.31), (0.65, 0.31), (0.75, 0.50)], _GLASS, edged=False)
    pen.rectangle((0.02, 0.49, 0.98, 0.76), pen.body, radius=0.08)
    for x in (0.26, 0.74):
        pen.ellipse((x - 0.13, 0.63, x + 0.13, 0.89), _INK, edge=_INK)
        pen.ellipse((x - 0.05, 0.71, x + 0.05, 0.81), (200, 200, 204), edge=(200, 200, 204))


def _boat(pen: _Pen) -> None:
    pen.line([(0.48, 0.04), (0.48, 0.66)], _WOOD, 0.05)
    pen.polygon([(0.54, 0.08), (0.54, 0.58), (0.90, 0.58)], pen.light)
    pen.polygon([(0.42, 0.16), (0.42, 0.58), (0.14, 0.58)], pen.light)
    pen.polygon([(0.02, 0.64), (0.98, 0.64), (0.80, 0.93), (0.18, 0.93)], pen.body)


def _fish(pen: _Pen) -> None:
    pen.polygon([(0.34, 0.50), (0.02, 0.24), (0.10, 0.50), (0.02, 0.78)], pen.shade)
    pen.polygon([(0.44, 0.30), (0.56, 0.12), (0.74, 0.30)], pen.shade)
    pen.ellipse((0.22, 0.24, 0.98, 0.78), pen.body)
    pen.arc((0.42, 0.30, 0.66, 0.72), 300, 60, pen.edge, 0.03)
    pen.ellipse((0.76, 0.38, 0.88, 0.50), _PAPER, edge=_INK)


def _house(pen: _Pen) -> None:
    pen.rectangle((0.14, 0.42, 0.86, 0.95), pen.body)
    pen.polygon([(0.02, 0.47), (0.50, 0.05), (0.98, 0.47)], pen.shade)
    pen.rectangle((0.22, 0.62, 0.42, 0.95), _WOOD)
    pen.rectangle((0.54, 0.56, 0.76, 0.76), _GLASS)


def _tree(pen: _Pen) -> None:
    pen.rectangle((0.42, 0.55, 0.58, 0.98), _WOOD)
    for box in ((0.05, 0.30, 0.53, 0.72), (0.47, 0.30, 0.95, 0.72), (0.22, 0.03, 0.78, 0.52)):
        pen.ellipse(box, pen.body)
    pen.ellipse((0.26, 0.30, 0.74, 0.66), pen.body, edge=pen.body)
    for x, y in ((0.36, 0.22), (0.24, 0.50), (0.66, 0.48)):
        pen.ellipse((x - 0.05, y - 0.04, x + 0.05, y + 0.04), pen.light, edge=pen.light)


def _kite(pen: _Pen) -> None:
    tail = [(0.44, 0.70), (0.32, 0.78), (0.50, 0.86), (0.36, 0.97)]
    pen.line(tail, _INK, 0.04)
    for x, y in tail[1:]:
        pen.ellipse((x - 0.05, y - 0.05, x + 0.05, y + 0.05), pen.shade)
    pen.polygon([(0.56, 0.02), (0.92, 0.30), (0.44, 0.72), (0.16, 0.26)], pen.body)
    pen.polygon([(0.56, 0.02), (0.92, 0.30), (0.53, 0.30)], pen.light)
    pen.line([(0.56, 0.02), (0.44, 0.72)], pen.edge, 0.03)
    pen.line([(0.16, 0.26), (0.92, 0.30)], pen.edge, 0.03)


def _umbrella(pen: _Pen) -> None:
    pen.line([(0.50, 0.06), (0.50, 0.86)], _INK, 0.05)
    pen.arc((0.50, 0.76, 0.70, 0.97), 0, 180, _INK, 0.05)
    pen.half_disc((0.02, 0.10, 0.98, 1.00), pen.body)
    pen.arc((0.30, 0.12, 0.70, 0.98), 180, 360, pen.edge, 0.03)
    for x in (0.02, 0.34, 0.66):
        pen.polygon([(x, 0.56), (x + 0.16, 0.47), (x + 0.32, 0.56)], pen.shade, edged=False)


def _ball(pen: _Pen) -> None:
    seam = pen.shade if sum(pen.body) > 600 else _PAPER
    pen.ellipse((0.06, 0.06, 0.94, 0.94), pen.body)
    pen.arc((-0.40, 0.10, 0.38, 0.90), 300, 60, seam, 0.09)
    pen.arc((0.62, 0.10, 1.40, 0.90), 120, 240, seam, 0.09)
    pen.ellipse((0.06, 0.06, 0.94, 0.94), None)


def _clock(pen: _Pen) -> None:
    pen.ellipse((0.05, 0.05, 0.95, 0.95), pen.body)
    pen.ellipse((0.21, 0.21, 0.79, 0.79), _PAPER)
    pen.line([(0.50, 0.28), (0.50, 0.52), (0.68, 0.60)], _INK, 0.07)


def _cup(pen: _Pen) -> None:
    pen.ellipse((0.52, 0.34, 0.97, 0.76), None, edge=pen.edge, w=0.13)
    pen.ellipse((0.545, 0.365, 0.945, 0.735), None, edge=pen.body, w=0.08)
    pen.polygon([(0.08, 0.22), (0.76, 0.22), (0.66, 0.92), (0.18, 0.92)], pen.body)
    pen.ellipse((0.08, 0.12, 0.76, 0.32), pen.shade)


def _bottle(pen: _Pen) -> None:
    pen.rectangle((0.41, 0.10, 0.59, 0.48), pen.body)
    pen.rectangle((0.28, 0.36, 0.72, 0.98), pen.body, radius=0.12)
    pen.rectangle((0.42, 0.30, 0.58, 0.46), pen.body, edged=False)
    pen.rectangle((0.38, 0.02, 0.62, 0.14), _INK, radius=0.02)
    pen.rectangle((0.31, 0.58, 0.69, 0.80), _PAPER, edged=False)


def _book(pen: _Pen) -> None:
    pen.polygon([(0.10, 0.14), (0.78, 0.04), (0.92, 0.12), (0.92, 0.88), (0.24, 0.97)], _PAPER)
    pen.polygon([(0.10, 0.14), (0.78, 0.04), (0.78, 0.80), (0.10, 0.92)], pen.body)
    pen.polygon([(0.10, 0.14), (0.21, 0.12), (0.21, 0.90), (0.10, 0.92)], pen.shade)
    pen.line([(0.32, 0.30), (0.66, 0.25)], pen.edge, 0.05)
    pen.line([(0.32, 0.43), (0.66, 0.38)], pen.edge, 0.05)


def _chair(pen: _Pen) -> None:
    pen.line([(0.24, 0.60), (0.16, 0.97)], pen.edge, 0.09)
    pen.line([(0.76, 0.60), (0.84, 0.97)], pen.edge, 0.09)
    pen.line([(0.42, 0.64), (0.40, 0.90)], pen.edge, 0.07)
    pen.rectangle((0.18, 0.03, 0.40, 0.60), pen.body, radius=0.06)
    pen.rectangle((0.16, 0.52, 0.86, 0.68), pen.body, radius=0.04)


def _lamp(pen: _Pen) -> None:
    pen.line([(0.50, 0.44), (0.50, 0.92)], _INK, 0.07)
    pen.half_disc((0.24, 0.80, 0.76, 1.12), _INK)
    pen.polygon([(0.34, 0.06), (0.66, 0.06), (0.90, 0.50), (0.10, 0.50)], pen.body)
    pen.polygon([(0.42, 0.12), (0.50, 0.12), (0.40, 0.44), (0.26, 0.44)], pen.light, edged=False)


ICONS: Final[dict[str, Callable[[_Pen], None]]] = {
    draw.__name__.removeprefix("_"): draw
    for draw in (
        _car, _boat, _fish, _house, _tree, _kite, _umbrella, _ball, _clock, _cup, _bottle, _book,
        _chair, _lamp,
    )
}  # fmt: skip
"""Category → the function that draws it."""


def draw_icon(category: str, color: RGB, n: int) -> Image.Image:
    """Draw one object of a category in `ICONS` on a transparent RGBA patch of n×n pixels.

    ``color`` is its body's; shades and outline derive from it. The caller supersamples.
    """
    pen = _Pen(n, color)
    ICONS[category](pen)
    return pen.image
