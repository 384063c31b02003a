"""Style of all figures: two widths with their type, and colours with one meaning each.

Colours are Okabe and Ito's, which stay apart under the common kinds of colour blindness; markers,
dashes and hatches tell apart what would be alike in grey.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from vrp.estimates.predictors import SYMBOL

BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#8A8A8A"
DARK_GREY = "#5A5A5A"
INK = "#222222"
FAINT = "#D9D9D9"

RIGHT, WRONG = BLUE, VERMILLION
ATTENTION, MLP = SKY, GREEN
KIND_COLOURS = {
    "structural": VERMILLION,
    "mechanistic": GREEN,
    "behavioural": PURPLE,
    "supervised_attention": ORANGE,
    "probes": BLUE,
    "guards": GREY,
}
"""Kind of a predictor → colour."""
_MODEL_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, BLACK)
_MODEL_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

Width = Literal["page", "column"]
"""What a figure is as wide as: the text of a page, or one of two columns."""


class FigureSize(NamedTuple):
    """Width of a figure, and the sizes of its type."""

    inches: float
    text: float
    """Points of all text but names and titles; no text is smaller."""
    name: float
    """Points of the names of panels."""
    title: float
    """Points of the title."""
    line: float
    """Points of lines."""
    marker: float
    """Points of dots."""
    side_by_side: int
    """Panels that stand beside each other at most, but for those that share the names of rows."""
    row_names: float
    """Share of the width that the names of rows take at most."""
    height: float
    """Height of a panel, as a share of what figures ask for."""


SIZES: dict[Width, FigureSize] = {
    "page": FigureSize(6.9, 8.0, 8.5, 10.0, 1.5, 4.5, 3, 0.34, 0.86),
    "column": FigureSize(3.25, 6.5, 6.5, 7.5, 1.2, 3.4, 1, 0.42, 0.54),
}
"""Width → what is drawn at it."""

FONT = "DejaVu Sans"
"""Ships with matplotlib: the same on every machine."""
# Without these the same tables always give the same bytes.
_NO_METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

_PARAMETERS: dict[Any, Any] = {
    "font.family": FONT,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.titleweight": "bold",
    "figure.dpi": 200,  # of the layout: text is as wide as in vector files
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "text.color": INK,
    "text.hinting": "none",  # text is as wide in a PNG of any resolution as it was laid out
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text that can be selected, searched and set in another font
    "pdf.fonttype": 42,  # the same in PDF
    "svg.hashsalt": "vrp",  # element ids, and so the bytes, do not change from run to run
    "path.simplify_threshold": 0.2,
}
_TEXT: tuple[Any, ...] = (
    "font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize",
    "legend.title_fontsize",
)  # fmt: skip


@contextlib.contextmanager
def house_style(width: Width = "page") -> Iterator[None]:
    """Draw and save in the project's style, whatever the user's own matplotlib settings are.

    Args:
        width: of the figures.
    """
    size = SIZES[width]
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_PARAMETERS)
        mpl.rcParams.update(dict.fromkeys(_TEXT, size.text))
        mpl.rcParams.update(
            {
                "figure.figsize": (size.inches, size.inches),
                "axes.titlesize": size.name,
                "figure.titlesize": size.title,
                "lines.linewidth": size.line,
                "lines.markersize": size.marker,
            }
        )
        yield


def size_in_force() -> FigureSize:
    """Width and type sizes of the style that is in force; of a page outside `house_style`."""
    inches = mpl.rcParams["figure.figsize"][0]
    return next((size for size in SIZES.values() if size.inches == inches), SIZES["page"])


def save_figure(figure: Figure, path: Path, kind: str, *, dpi: int) -> None:
    """Write a figure; the same figure always gives the same bytes.

    Args:
        figure: drawn in the house style.
        path: the file.
        kind: `svg`, `png` or `pdf`.
        dpi: dots an inch of a PNG.
    """
    if kind != "svg":
        figure.savefig(path, format=kind, dpi=dpi, metadata=_NO_METADATA[kind])
        return
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, metadata=_NO_METADATA[kind])
    # Text is text: where the font is not installed, one as wide stands in, and not a serif.
    named = f"'{FONT}'"
    path.write_bytes(
        drawn.getvalue().replace(named.encode(), f"{named}, Verdana, sans-serif".encode())
    )


def with_symbols(text: str) -> str:
    """Set the papers' symbols in a text with their index, as matplotlib's mathtext."""
    return SYMBOL.sub(r"$\1_\\mathrm{\2}$", text)


def model_colour(index: int) -> str:
    """The colour of a study's model number `index`, from 0."""
    return _MODEL_COLOURS[index % len(_MODEL_COLOURS)]


def model_marker(index: int) -> str:
    """The marker of a study's model number `index`, which tells it where colour does not."""
    return _MODEL_MARKERS[index % len(_MODEL_MARKERS)]
