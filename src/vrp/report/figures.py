"""Figures as the page embeds them: an SVG file in a data URI, its title and its caption."""

import base64
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.errors import InputError
from vrp.plots.figures import load_figures


class Figure(NamedTuple):
    """One figure of the page."""

    name: str
    """File name without its ending."""
    title: str
    """Title, in one line."""
    caption: str
    """Caption; empty for a file that is not one of the known figures."""
    uri: str
    """The file in a data URI: as an image it can neither run scripts nor load anything."""


def read_figures(paths: Sequence[Path]) -> list[Figure]:
    """Read SVG files; the project's figures in their own order, then others in the order given.

    Files of other formats are skipped.

    Raises:
        InputError: a file is missing or no SVG.
    """
    known = {figure.name: figure for figure in load_figures()}
    svgs = [path for path in paths if path.suffix.lower() == ".svg"]
    svgs.sort(key=lambda path: known[path.stem].order if path.stem in known else math.inf)
    found = []
    for path in svgs:
        spec = known.get(path.stem)
        title = spec.title if spec else path.stem.replace("_", " ").capitalize()
        caption = spec.caption if spec else ""
        found.append(Figure(path.stem, title, caption, svg_uri(path)))
    return found


def svg_uri(path: Path) -> str:
    """An SVG file as a data URI.

    Raises:
        InputError: it is missing or no SVG.
    """
    try:
        content = path.read_bytes()
        root = ElementTree.fromstring(content)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the figures stage") from None
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: is not a readable SVG ({error}); rerun figures") from None
    if root.tag != "{http://www.w3.org/2000/svg}svg":
        raise InputError(f"{path}: is not an SVG; rerun figures")
    return "data:image/svg+xml;base64," + base64.b64encode(content).decode("ascii")
