"""Run in halves what does not fit into memory at once; results are the same.

A batch is planned before memory is known, so running out of it fails no item: only one item that
does not fit by itself stops the run.
"""

import gc
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import torch

from vrp.errors import InputError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# What other parts of torch say than its allocator on a GPU: matrix libraries, and the CPU's.
_MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")


class ItemTooLargeError(InputError, torch.OutOfMemoryError):
    """One item exceeds memory by itself; to whoever runs it in a larger whole, out of memory."""

    def __init__(self, item_id: str) -> None:
        """Name the item."""
        super().__init__(
            f"item {item_id!r} does not fit into memory even by itself; use a device with more "
            "memory, set the model's device_map to auto to use several, or lower its dtype, its "
            "max_pixels or the longest answer"
        )


def split_to_fit(item_ids: Sequence[str], run: Callable[[slice], list[Result]]) -> list[Result]:
    """Run a batch at once or, where memory does not suffice, in halves, and those in halves.

    Args:
        item_ids: of the batch.
        run: returns the results of some of the items; it may be called again for a part of them.

    Returns:
        The results of the parts one after another, in the order of the items.

    Raises:
        ItemTooLargeError: memory does not suffice for one item.
    """
    results: list[Result] = []
    waiting = [slice(0, len(item_ids))]
    while waiting:
        rows = waiting.pop()
        found = unless_out_of_memory(run, rows)
        if found is not None:
            results += found
        elif rows.stop - rows.start == 1:
            raise ItemTooLargeError(item_ids[rows.start])
        else:
            middle = (rows.start + rows.stop) // 2
            waiting += [slice(middle, rows.stop), slice(rows.start, middle)]
    return results


def unless_out_of_memory(
    run: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | None:
    """Return what `run` returns; None where memory did not suffice, and is free again."""
    try:
        return run(*args, **kwargs)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
    # The error is gone here, and with its traceback every frame that held a part of the batch.
    gc.collect()
    torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(message in str(error) for message in _MESSAGES)
