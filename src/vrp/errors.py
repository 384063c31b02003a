"""The one error that users are meant to see, and what it says of a name that is not known."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something the user gave is wrong.

    The message is one line: what is wrong, where (file, row, key) and how to fix it.
    The command line prints it without a traceback and exits with status 2.
    """


def unknown_name(what: str, name: str, known: Iterable[str], *, listed: bool = True) -> str:
    """Return a message that refuses a name: the nearest right one, and all there are.

    Args:
        listed: whether the message lists all there are: not where they are many.
    """
    there = list(known)
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5) or [
        known
        for known in there
        if name and known and (name.startswith(known) or known.startswith(name))
    ]
    meant = f"; did you mean {near[0]!r}?" if near else ""
    known_ones = f" (known: {', '.join(there)})" if listed else ""
    return f"unknown {what} {name!r}{meant}{known_ones}"
