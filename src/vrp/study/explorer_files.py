"""Which files the explorer consists of, and which items each of them holds.

Items are in the order of (group, item_id), in which the shards of a model's tables follow each
other, and cut into parts of nearly equal size: their number depends on the configuration alone.
"""

from collections.abc import Iterable
from typing import NamedTuple

# What a list of answers needs is loaded at once: many items in few files.
_BLOCKS_A_PART = 16


class ExplorerFiles(NamedTuple):
    """Names of the explorer's files, relative to its folder."""

    items: list[str]
    """Questions and references, part by part."""
    images: list[str]
    """The images of each block of items; an image of several blocks is in the first."""
    answers: dict[str, list[str]]
    """Model → answers, signals and scores, part by part."""
    details: dict[str, list[str]]
    """Model → all that is shown of one answer alone, block by block."""

    def names(self) -> list[str]:
        """All of them."""
        of_models = [*self.answers.values(), *self.details.values()]
        return [name for files in (self.items, self.images, *of_models) for name in files]


def explorer_files(models: Iterable[str], n_items: int, items_per_file: int) -> ExplorerFiles:
    """Name the files of an explorer.

    Args:
        models: names of the models.
        n_items: items of the study.
        items_per_file: most items of a block.
    """
    n_blocks = max(1, -(-n_items // items_per_file))
    n_parts = -(-n_blocks // _BLOCKS_A_PART)
    return ExplorerFiles(
        _numbered("items", n_parts),
        _numbered("images", n_blocks),
        {model: _numbered(f"models/{model}/answers", n_parts) for model in models},
        {model: _numbered(f"models/{model}/details", n_blocks) for model in models},
    )


def _numbered(folder: str, n_files: int) -> list[str]:
    return [f"{folder}/{number:03d}.js" for number in range(n_files)]


def cut_points(n_rows: int, n_files: int) -> list[int]:
    """Return the n_files + 1 row numbers at which files begin and end; a file may be empty."""
    return [number * n_rows // n_files for number in range(n_files + 1)]
