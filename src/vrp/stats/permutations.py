"""Permutations that keep what the items of one image have in common."""

import numpy as np
from numpy.typing import NDArray


def permutation_in_runs(
    groups: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two random orders of the items in which those of an image stand together, shuffled.

    Labels taken in the first order and given out in the second hang together within images about
    as much as they did. Items that are permuted one by one do not: a test by their permutations
    finds too much wherever both labels and signals belong to the image.

    Args:
        groups: (n,) image of each item, numbered from 0.
        random: the source of randomness.

    Returns:
        (n,) where a label comes from, and (n,) where it goes.
    """
    n_groups = int(groups.max(initial=-1)) + 1
    source, target = (
        np.lexsort((random.permutation(groups.size), random.permutation(n_groups)[groups]))
        for _ in range(2)
    )
    return source, target
