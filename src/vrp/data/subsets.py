"""Which items the interventions run on: a stratified subset, the same for masking and ablation."""

import hashlib

import polars as pl


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
        chosen += sorted(ids, key=lambda item_id: subset_rank(item_id, seed=seed))[:count]
    return items.filter(pl.col("item_id").is_in(chosen)).sort("item_id")


def subset_rank(item_id: str, *, seed: int) -> str:
    """Return the hash by which items are taken, smallest first."""
    return hashlib.sha256(f"{seed}/intervention-subset/{item_id}".encode()).hexdigest()


def _allocate(sizes: dict[str, int], n: int) -> dict[str, int]:
    """Share n places over the tasks in proportion to their sizes: Σ = n, none above its size."""
    total = sum(sizes.values())
    quota = {task: n * size / total for task, size in sizes.items()}
    places = {task: int(share) for task, share in quota.items()}
    by_remainder = sorted(sizes, key=lambda task: (places[task] - quota[task], task))
    for task in by_remainder[: n - sum(places.values())]:
        places[task] += 1
    return places
