"""Which items the interventions run on, and what is drawn for each: pure functions of ids."""

import polars as pl

from vrp.errors import InputError
from vrp.stats.bootstrap import seed_from


def stratified_subset(items: pl.DataFrame, n: int, *, seed: int) -> pl.DataFrame:
    """Return `n` of the items, stratified over tasks, or all of them where there are no more.

    Each task gets its proportional share (largest remainders). Within a task, items are taken in
    the order of a hash of (seed, item_id), so the choice does not depend on the table's order.

    Args:
        items: a table with columns `item_id` and `task`.
        n: number of items.
        seed: the study's seed.
    """
    if n >= items.height:
        return items.sort("item_id")
    sizes = dict(sorted(items.group_by("task").len().iter_rows()))
    chosen: list[str] = []
    for task, count in _allocate(sizes, n).items():
        ids = items.filter(pl.col("task") == task)["item_id"].to_list()
        chosen += _in_random_order(ids, seed)[:count]
    return items.filter(pl.col("item_id").is_in(chosen)).sort("item_id")


def other_image_items(items: pl.DataFrame, *, seed: int) -> dict[str, str]:
    """Return, for every item, one that shows another image: the next one in a random order.

    Args:
        items: a table with columns `item_id` and `group`.
        seed: the study's seed.

    Raises:
        InputError: all items show one image.
    """
    group_of = dict(items.select("item_id", "group").iter_rows())
    if len(set(group_of.values())) < 2:
        raise InputError("mask.conditions: other_image needs items of at least two images")
    order = _in_random_order(list(group_of), seed)
    others: dict[str, str] = {}
    for place, item_id in enumerate(order):
        following = (order[(place + step) % len(order)] for step in range(1, len(order)))
        others[item_id] = next(o for o in following if group_of[o] != group_of[item_id])
    return others


def _in_random_order(item_ids: list[str], seed: int) -> list[str]:
    return sorted(item_ids, key=lambda item_id: (seed_from(seed, "subset", item_id), item_id))


def _allocate(sizes: dict[str, int], n: int) -> dict[str, int]:
    """Share n places over the tasks in proportion to their sizes: Σ = n, none above its size."""
    total = sum(sizes.values())
    quota = {task: n * size / total for task, size in sizes.items()}
    places = {task: int(share) for task, share in quota.items()}
    by_remainder = sorted(sizes, key=lambda task: (places[task] - quota[task], task))
    for task in by_remainder[: n - sum(places.values())]:
        places[task] += 1
    return places
