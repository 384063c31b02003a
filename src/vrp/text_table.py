"""Tables as text, for a terminal."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], *, n_text: int) -> str:
    """Return rows with columns two spaces apart.

    Args:
        rows: cells, the head among them; each row has as many.
        n_text: how many first columns stand to the left; numbers stand to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < n_text else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
