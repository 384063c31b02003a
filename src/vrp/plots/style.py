"""Style of all figures: sizes, type, and colours with one meaning each.

Colours are Okabe and Ito's, which stay apart under the common kinds of colour blindness.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

WIDTH = 9.4
"""Inches; about 900 px where a report shows an inch as 96 px."""
SMALL = 8.0
"""Points, for notes and keys; the rest is 9 and 10."""

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
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.handlelength": 1.6,
    "text.color": INK,
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text that can be selected, searched and set in another font
    "pdf.fonttype": 42,  # the same in PDF
    "svg.hashsalt": "vrp",  # element ids, and so the bytes, do not change from run to run
    "path.simplify_threshold": 0.2,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw and save in the project's style, whatever the user's own matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_PARAMETERS)
        yield


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
