"""Figures as the page embeds them, with what they show in words and their files beside the page."""

import base64
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from vrp.errors import InputError
from vrp.plots.figures import load_figures
from vrp.report.figure_findings import finding

_FORMATS = {".csv": "data (CSV)", ".svg": "SVG", ".pdf": "PDF", ".png": "PNG"}


class Link(NamedTuple):
    """A place that the page leads to."""

    text: str
    """What is shown."""
    href: str
    """An anchor of the page, or a file by its path from the page."""


class Figure(NamedTuple):
    """One figure of the page."""

    name: str
    """File name without its ending."""
    title: str
    """Title, in one line."""
    caption: str
    """Caption; empty for a file that is not one of the known figures."""
    finding: str | None
    """What it shows, from its numbers; empty where they are not beside it, None where it shows
    nothing."""
    uri: str
    """The file in a data URI: as an image it can neither run scripts nor load anything."""
    files: tuple[Link, ...]
    """Its files: numbers, and the image in every format."""

    @property
    def anchor(self) -> str:
        """Its place in the page."""
        return f"figure-{self.name}"


def read_figures(paths: Sequence[Path], page: Path) -> list[Figure]:
    """Read figures; the project's in their own order, then others in the order given.

    Args:
        paths: files of all formats; each SVG is a figure, others of its name are linked to.
        page: where the page will be.

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
        files = {one.suffix.lower(): one for one in paths if one.stem == path.stem}
        shown = finding(files[".csv"]) if ".csv" in files else ""
        links = [link_to(files[e], page, text) for e, text in _FORMATS.items() if e in files]
        caption = spec.caption if spec else ""
        found.append(Figure(path.stem, title, caption, shown, svg_uri(path), tuple(links)))
    return found


def link_to(path: Path, page: Path, text: str = "") -> Link:
    """A link from the page to a file; without a text, its path is shown."""
    relative = Path(os.path.relpath(path.absolute(), page.absolute().parent)).as_posix()
    return Link(text or relative, quote(relative))


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
