"""Image-clustered bootstrap, which stands beside the analytic intervals for comparison.

Images are drawn with replacement, as often as there are images; an item weighs as much as its
image was drawn. The draws are made once and shared by all estimates of a table.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrp.errors import InputError
from vrp.stats.estimate import LEVEL, Estimate, join_notes, undefined

REPLICATE_BLOCK = 256
"""Replicates worked on at once: bounds memory, and keeps a block within the processor's cache."""
_BLOCK_BYTES = 2**28
"""Most that a block's weights may take in float64: over 131,072 images, blocks get narrower."""
# Replicates drawn before they are turned into columns: a cache line of them.
_DRAWN_AT_ONCE = 64


def seed_from(*parts: str | int) -> int:
    """A 64-bit seed from the SHA-256 of the parts, so that a seed names what it is for."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")


def generator(*parts: str | int) -> np.random.Generator:
    """A random generator seeded by `seed_from(*parts)`."""
    return np.random.Generator(np.random.PCG64(seed_from(*parts)))


@dataclass(frozen=True)
class Resamples:
    """Number of times that each image was drawn in each bootstrap replicate."""

    group_ids: NDArray[np.generic]
    """(n_groups,) images, sorted: the draws do not depend on the order of rows."""
    weights: NDArray[np.uint8]
    """(n_groups, n_boot) times drawn; every column sums to n_groups."""

    @property
    def n_boot(self) -> int:
        """Number of replicates."""
        return int(self.weights.shape[1])

    @cached_property
    def _are_numbers(self) -> bool:
        """Whether the images are numbered 0, 1, …: each is its own row of `weights`."""
        ids = self.group_ids
        return ids.dtype.kind == "i" and bool((ids == np.arange(ids.size)).all())

    def codes(self, groups: ArrayLike) -> NDArray[np.int64]:
        """Row of `weights` for each item.

        Raises:
            InputError: an image is not among those resampled.
        """
        wanted = np.asarray(groups)
        numbers = wanted.size > 0 and wanted.dtype.kind == "i" and self._are_numbers
        if numbers and wanted.min() >= 0 and wanted.max() < self.group_ids.size:
            return wanted.astype(np.int64, copy=False)
        found = np.searchsorted(self.group_ids, wanted)
        found = np.minimum(found, self.group_ids.size - 1)
        unknown = self.group_ids[found] != wanted
        if np.any(unknown):
            raise InputError(
                f"image {str(wanted[unknown][0])!r} is not among the {self.group_ids.size} "
                "resampled; make the resamples from the groups of all items"
            )
        return found.astype(np.int64)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """The replicates in blocks: (which replicates, their weights (n_groups, block))."""
        width = min(REPLICATE_BLOCK, max(1, _BLOCK_BYTES // (8 * self.group_ids.size)))
        for start in range(0, self.n_boot, width):
            part = slice(start, min(start + width, self.n_boot))
            yield part, self.weights[:, part]


def resample_groups(groups: ArrayLike, *, seed: str, n_boot: int) -> Resamples:
    """Draw the images of `groups` with replacement, `n_boot` times.

    Args:
        groups: (n,) image of each item; repeats and order do not matter.
        seed: names the draws, for example the study's seed and the purpose.
        n_boot: number of replicates.

    Raises:
        InputError: no items, or fewer than one replicate.
    """
    group_ids = np.unique(np.asarray(groups))
    if group_ids.size == 0 or n_boot < 1:
        raise InputError(
            f"a bootstrap needs images and replicates: {group_ids.size} images, n_boot={n_boot}"
        )
    n_groups = group_ids.size
    random = generator("bootstrap", seed)
    weights = np.empty((n_groups, n_boot), dtype=np.uint8)
    for start in range(0, n_boot, _DRAWN_AT_ONCE):
        draws = np.empty((min(_DRAWN_AT_ONCE, n_boot - start), n_groups), dtype=np.uint8)
        for row in draws:
            row[:] = np.bincount(random.integers(n_groups, size=n_groups), minlength=n_groups)
        weights[:, start : start + len(draws)] = draws.T
    return Resamples(group_ids, weights)


class BootstrapEstimate(NamedTuple):
    """An estimate with its bootstrap replicates."""

    value: float
    """Estimate on the sample itself."""
    replicates: NDArray[np.float64]
    """(n_boot,) the estimate on each resample; NaN where a resample leaves it undefined."""
    n: int
    """Items used."""
    n_groups: int
    """Images among the items used."""
    note: str = ""
    """Items dropped and why; why the value is undefined."""

    @property
    def se(self) -> float:
        """Standard error: standard deviation of the defined replicates."""
        defined = self.replicates[np.isfinite(self.replicates)]
        return float(defined.std(ddof=1)) if defined.size > 1 else math.nan

    def estimate(self) -> Estimate:
        """Value and percentile interval."""
        defined = self.replicates[np.isfinite(self.replicates)]
        n_undefined = self.replicates.size - defined.size
        note = self.note
        if n_undefined and math.isfinite(self.value):
            note = join_notes(
                note, f"{n_undefined} of {self.replicates.size} resamples left it undefined"
            )
        if defined.size == 0 or not math.isfinite(self.value):
            found = undefined(
                n=self.n, n_groups=self.n_groups, method="cluster-bootstrap", note=note
            )
            return found._replace(value=self.value)
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        ends = float(low), float(high)
        return Estimate(
            self.value, *ends, math.nan, self.n, self.n_groups, "cluster-bootstrap", note
        )
