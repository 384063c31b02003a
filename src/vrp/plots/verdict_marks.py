"""Marks of estimates by what was shown of them; apart by shape as well as by colour."""

from collections.abc import Iterable
from typing import NamedTuple

from matplotlib.artist import Artist

from vrp.estimates.verdicts import Standing
from vrp.findings.claims import Replication
from vrp.plots.panels import dot_key
from vrp.plots.style import BLUE, GREEN, GREY, ORANGE, VERMILLION


class Mark(NamedTuple):
    """A dot's look, and what it says."""

    words: str
    colour: str
    marker: str
    hollow: bool = False

    def key(self) -> Artist:
        """Its entry in a key."""
        return dot_key(self.words, self.colour, marker=self.marker, hollow=self.hollow)


_DIFFERS = Mark("differs", BLUE, "o")
_NO_TEST = Mark("not tested", GREY, "x")

STANDING_MARKS = {
    Standing.ABOVE: _DIFFERS,
    Standing.BELOW: _DIFFERS,
    Standing.EQUIVALENT: Mark("equivalent to none", GREEN, "s"),
    Standing.UNSETTLED: Mark("undecided", VERMILLION, "D", hollow=True),
    Standing.CONSTANT: _NO_TEST,
    Standing.TOO_FEW: _NO_TEST,
    Standing.MISSING: _NO_TEST,
}
"""What is shown of an estimate → its mark."""

REPLICATION_MARKS = {
    Replication.REPRODUCED: Mark("reproduced", BLUE, "o"),
    Replication.NOT_REPRODUCED: Mark("not reproduced", VERMILLION, "X"),
    Replication.UNDECIDED: Mark("undecided", ORANGE, "D", hollow=True),
    Replication.NOT_TESTABLE: Mark("not testable here", GREY, "s"),
}
"""What a study says of a published claim → its mark."""


def keys_of(marks: Iterable[Mark]) -> list[Artist]:
    """Entries of a key, one a mark."""
    return [mark.key() for mark in dict.fromkeys(marks)]
