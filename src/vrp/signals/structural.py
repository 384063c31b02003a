"""Structural signals: the shape of the attention that answer tokens pay to image tokens.

A map M is a row of attention over the S image tokens, renormalised to sum to one; as a grid it has
shape (grid_h, grid_w), row-major. Every function is vectorised over leading axes, works in float64
and follows one rule: a map that is not finite, has a negative cell or has no mass gives NaN, never
a number; `map_problem` says which of these it was.

Source: arXiv 2605.08200 (spatial entropy, cluster count, attention evolution, masking) and
arXiv 2606.17389 (cluster count by DBSCAN).
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.intp]

ENTROPY_OFFSET = 1e-9  # inside the published logarithm; keeps empty cells at zero
CLUSTER_PERCENTILE = 90.0  # cells strictly over it are active
CLUSTER_MIN_SAMPLES = 3  # DBSCAN's, the cell itself included; its eps of 1.5 is the 3×3 window
COMPONENT_MASS = 0.3
TOP_SHARE = 0.1

_EIGHT_CONNECTED = np.ones((3, 3), dtype=np.int8)
# Maps may come back from half-precision storage, whose rounding moves a sum by less than this.
_SUM_TOLERANCE = 1e-2


class MapProblem(IntEnum):
    """Reason why a map gives no signal."""

    NONE = 0
    NON_FINITE = 1
    NEGATIVE = 2
    NO_MASS = 3


class RenormalisedAttention(NamedTuple):
    """Attention over image tokens as a distribution, and what the renormalisation discards."""

    map: FloatArray
    """Same shape as the rows, summing to one along the axis; NaN where the row is unusable."""
    image_mass: FloatArray
    """Share of the attention that lies on image tokens: the rows' sum, in [0, 1]."""


class MapFeatures(NamedTuple):
    """The features of the supervised attention tests, each of shape (n_items,)."""

    spatial_entropy: FloatArray
    """H_s of the map averaged over layers, nats."""
    relative_spatial_entropy: FloatArray
    """H_s / log S: 1 for a uniform map."""
    cluster_count_dbscan: FloatArray
    """C_k by DBSCAN over the 90th percentile."""
    cluster_count_components: FloatArray
    """C_k by components of the cells that hold 30% of the mass, minus one."""
    image_mass: FloatArray
    """Share of attention on image tokens, mean over the layers used."""
    attention_top10_mass: FloatArray
    """Mass on the round(0.1·S) most attended cells."""
    attention_max: FloatArray
    """Mass on the most attended cell."""
    attention_gini: FloatArray
    """Gini coefficient of the cells: 0 for a uniform map, 1 − 1/S for one cell."""
    attention_spread: FloatArray
    """Root-mean-square distance from the centre of mass, as a share of the grid's diagonal."""
    largest_entropy_drop: FloatArray
    """The most negative ΔH_s(l) over layers, nats."""
    entropy_last_layer: FloatArray
    """H_s of the last layer's own map, nats."""


FEATURE_NAMES: tuple[str, ...] = MapFeatures._fields


def map_problem(maps: ArrayLike) -> NDArray[np.int8]:
    """Say why each map along the last axis gives no signal.

    Shapes: maps (..., S) → (...), values of `MapProblem`.
    """
    values = np.asarray(maps, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"a map needs at least one image token, got shape {values.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(axis=-1)
    lowest = values.min(axis=-1)
    problem = np.where(total == 0, MapProblem.NO_MASS, MapProblem.NONE)
    problem = np.where(lowest < 0, MapProblem.NEGATIVE, problem)
    # One NaN or infinite cell makes the sum so.
    return np.where(np.isfinite(total), problem, MapProblem.NON_FINITE).astype(np.int8)


def renormalise(rows: ArrayLike) -> RenormalisedAttention:
    """Turn attention rows over image tokens into maps that sum to one.

    Rows that are not finite, hold a negative value or have no mass become NaN maps. A row without
    mass keeps its image mass of 0; the image mass of the other two is NaN.
    """
    values = np.asarray(rows, dtype=np.float64)
    problem = map_problem(values)
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(axis=-1)
    usable = problem == MapProblem.NONE
    divisor = np.where(usable, total, np.nan)
    maps = np.full_like(values, np.nan)
    np.divide(values, divisor[..., None], out=maps, where=usable[..., None])
    mass = np.where(usable | (problem == MapProblem.NO_MASS), total, np.nan)
    return RenormalisedAttention(maps, mass)


def spatial_entropy(maps: ArrayLike) -> FloatArray:
    """Compute H_s(M) = −Σ M log(M + 1e-9) in nats (arXiv 2605.08200).

    Shapes: maps (..., S), each summing to one → (...). NaN for an unusable map (`map_problem`);
    0 for S = 1, where the offset alone would speak.
    Raises ValueError for a usable map that does not sum to one: its entropy would be wrong.
    """
    values, usable = _usable_maps(maps)
    if values.shape[-1] == 1:
        return np.where(usable, 0.0, np.nan)
    entropy = -(values * np.log(values + ENTROPY_OFFSET)).sum(axis=-1)
    return np.where(usable, entropy, np.nan)


def relative_spatial_entropy(maps: ArrayLike) -> FloatArray:
    """Compute H_s(M) / log S, comparable over grids: (..., S) → (...).

    NaN for an unusable map, and for S = 1, where log S is 0.
    """
    n_tokens = np.shape(maps)[-1]
    entropy = spatial_entropy(maps)
    return entropy / np.log(n_tokens) if n_tokens > 1 else np.full_like(entropy, np.nan)


def attention_evolution(layer_entropy: ArrayLike) -> FloatArray:
    """Compute ΔH_s(l) = H_s(l) − H_s(l−1) in nats (arXiv 2605.08200).

    Shapes: (..., n_layers) → (..., n_layers). Index l is decoder layer l; layer 0 has none
    before it and is NaN.
    """
    entropy = np.asarray(layer_entropy, dtype=np.float64)
    change = np.full_like(entropy, np.nan)
    change[..., 1:] = np.diff(entropy, axis=-1)
    return change


def largest_entropy_drop(layer_entropy: ArrayLike) -> FloatArray:
    """Take the most negative ΔH_s(l): (..., n_layers) → (...), nats.

    NaN with a single layer or where any layer's entropy is NaN.
    """
    change = attention_evolution(layer_entropy)[..., 1:]
    if change.shape[-1] == 0:
        return np.full(change.shape[:-1], np.nan)
    return change.min(axis=-1)


def average_layers(layer_maps: ArrayLike, layers: Sequence[int] | None = None) -> FloatArray:
    """Average maps over decoder layers: M = mean of M(l), (..., n_layers, S) → (..., S).

    `layers` are decoder layers, 0 … n_layers − 1, all by default. One unusable layer among them
    makes the average NaN. Raises ValueError for no layer, a repeated one or one out of range.
    """
    values = np.asarray(layer_maps, dtype=np.float64)
    chosen = values[..., _chosen_layers(layers, values.shape[-2]), :]
    usable = (map_problem(chosen) == MapProblem.NONE).all(axis=-1)
    # Infinities of both signs may meet in the mean of an unusable map.
    with np.errstate(invalid="ignore"):
        average = chosen.mean(axis=-2)
    return np.where(usable[..., None], average, np.nan)


def cluster_count_dbscan(maps: ArrayLike) -> FloatArray:
    """Count attention clusters as DBSCAN does (C_k, `dbscan`; arXiv 2606.17389).

    Active cells lie strictly over numpy's linear 90th percentile of their map; clusters are those
    of DBSCAN (eps 1.5, min_samples 3) on cell coordinates, noise left out. On a unit grid eps 1.5
    reaches the eight neighbours, so a core cell is an active one with three active cells in its
    3×3 window, clusters are the 8-connected components of core cells, and border cells add none.

    Shapes: maps (..., grid_h, grid_w) → (...). NaN for an unusable map.
    """
    grids, usable, leading = _stack_of_grids(maps)
    flat = grids.reshape(len(grids), -1)
    threshold = np.percentile(flat, CLUSTER_PERCENTILE, axis=-1, method="linear")
    active = grids > threshold[:, None, None]
    core = active & (_window_count(active) >= CLUSTER_MIN_SAMPLES)
    count = _count_components(core)
    return np.where(usable, count, np.nan).reshape(leading)


def cluster_count_components(maps: ArrayLike) -> FloatArray:
    """Count separate regions of attention (C_k, `components`; arXiv 2605.08200).

    The 8-connected components of the smallest set of cells that holds 30% of the mass, minus one:
    0 for one region. Cells of equal value enter by index.

    Shapes: maps (..., grid_h, grid_w) → (...). NaN for an unusable map.
    """
    grids, usable, leading = _stack_of_grids(maps)
    heaviest = _smallest_set_holding(grids.reshape(len(grids), -1), COMPONENT_MASS)
    count = _count_components(heaviest.reshape(grids.shape)) - 1.0
    return np.where(usable, count, np.nan).reshape(leading)


def top_mass(maps: ArrayLike) -> FloatArray:
    """Sum the mass on the round(TOP_SHARE·S) most attended cells, at least one: (..., S) → (...).

    NaN for an unusable map. Raises ValueError for a map that does not sum to one.
    """
    values, usable = _usable_maps(maps)
    n_tokens = values.shape[-1]
    n_top = max(1, token_count(n_tokens, TOP_SHARE))
    top = np.partition(values, n_tokens - n_top, axis=-1)[..., n_tokens - n_top :]
    return np.where(usable, top.sum(axis=-1), np.nan)


def gini(maps: ArrayLike) -> FloatArray:
    """Compute the Gini coefficient Σ_i (2i − S − 1) x_(i) / (S Σ x), x ascending, i from 1.

    Shapes: (..., S) → (...). 0 for a uniform map, 1 − 1/S for a single cell. NaN for an unusable
    map. Raises ValueError for a map that does not sum to one.
    """
    values, usable = _usable_maps(maps)
    n_tokens = values.shape[-1]
    weight = 2.0 * np.arange(1, n_tokens + 1) - n_tokens - 1
    total = np.where(usable, values.sum(axis=-1), 1.0)
    coefficient = (np.sort(values, axis=-1) * weight).sum(axis=-1) / (n_tokens * total)
    return np.where(usable, coefficient, np.nan)


def spread(maps: ArrayLike) -> FloatArray:
    """Measure how far a map lies from its centre of mass, as a share of the grid's diagonal.

    √(Σ M ‖p − c‖²) / √(grid_h² + grid_w²) with cell positions p and c = Σ M p: 0 for one cell.

    Shapes: (..., grid_h, grid_w) → (...). NaN for an unusable map.
    """
    grids, usable, leading = _stack_of_grids(maps)
    _, grid_h, grid_w = grids.shape
    total = np.where(usable, grids.sum(axis=(1, 2)), 1.0)
    variance = _variance(grids.sum(axis=2), total) + _variance(grids.sum(axis=1), total)
    distance = np.sqrt(variance) / np.hypot(grid_h, grid_w)
    return np.where(usable, distance, np.nan).reshape(leading)


def map_features(
    layer_maps: ArrayLike,
    image_mass: ArrayLike,
    *,
    grid_h: int,
    grid_w: int,
    layers: Sequence[int] | None = None,
) -> MapFeatures:
    """Compute the eleven attention features of items that share one grid.

    Args:
        layer_maps: (n_items, n_layers, S), M(l) of every decoder layer, S = grid_h · grid_w.
        image_mass: (n_items, n_layers), the share of attention that M(l) was renormalised from.
        grid_h: rows of the image-token grid.
        grid_w: columns of the image-token grid.
        layers: decoder layers averaged into M and into the image mass; all by default.

    Raises ValueError for shapes that do not fit or for maps that do not sum to one. A feature
    that an unusable layer enters is NaN.
    """
    maps = np.asarray(layer_maps, dtype=np.float64)
    mass = np.asarray(image_mass, dtype=np.float64)
    if maps.ndim != 3 or maps.shape[2] != grid_h * grid_w or mass.shape != maps.shape[:2]:
        raise ValueError(
            f"maps {maps.shape} and image mass {mass.shape} do not fit "
            f"(n_items, n_layers, {grid_h}·{grid_w}) and (n_items, n_layers)"
        )
    chosen = _chosen_layers(layers, maps.shape[1])
    average = average_layers(maps, layers)
    grids = average.reshape(-1, grid_h, grid_w)
    layer_entropy = spatial_entropy(maps)
    return MapFeatures(
        spatial_entropy=spatial_entropy(average),
        relative_spatial_entropy=relative_spatial_entropy(average),
        cluster_count_dbscan=cluster_count_dbscan(grids),
        cluster_count_components=cluster_count_components(grids),
        image_mass=mass[:, chosen].mean(axis=1),
        attention_top10_mass=top_mass(average),
        attention_max=average.max(axis=1),
        attention_gini=gini(average),
        attention_spread=spread(grids),
        largest_entropy_drop=largest_entropy_drop(layer_entropy),
        entropy_last_layer=layer_entropy[:, -1],
    )


def token_count(n_tokens: int, share: float) -> int:
    """Return round(share·S), Python's round: a half goes to the even count."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of image tokens lies in [0, 1], got {share}")
    return round(share * n_tokens)


def most_attended(map_flat: ArrayLike, share: float) -> IndexArray:
    """Return the round(share·S) image tokens with the most attention, most attended first.

    Ties go to the lower index. Raises ValueError for an unusable map.
    """
    values = _one_usable_map(map_flat)
    order = np.argsort(-values, kind="stable")
    return order[: token_count(len(values), share)]


def least_attended(map_flat: ArrayLike, share: float) -> IndexArray:
    """Return the round(share·S) image tokens with the least attention, least attended first.

    Ties go to the lower index. Raises ValueError for an unusable map.
    """
    values = _one_usable_map(map_flat)
    order = np.argsort(values, kind="stable")
    return order[: token_count(len(values), share)]


def random_tokens(n_tokens: int, n: int, seed: int | Sequence[int]) -> IndexArray:
    """Draw n of the image tokens without replacement; one seed's draws are nested as n grows."""
    if not 0 <= n <= n_tokens:
        raise ValueError(f"cannot draw {n} of {n_tokens} image tokens")
    return np.random.default_rng(seed).permutation(n_tokens)[:n]


def _usable_maps(maps: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return maps with unusable ones set to zero, and which are usable; refuse unnormalised."""
    values = np.asarray(maps, dtype=np.float64)
    usable = map_problem(values) == MapProblem.NONE
    if not usable.all():
        values = np.where(usable[..., None], values, 0.0)
    error = np.abs(values.sum(axis=-1) - 1.0)[usable]
    if error.size and error.max() > _SUM_TOLERANCE:
        raise ValueError(
            f"a map must sum to one, one is off by {error.max():.3g}: renormalise it first"
        )
    return values, usable


def _one_usable_map(map_flat: ArrayLike) -> FloatArray:
    values = np.asarray(map_flat, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"one flat map is needed, got shape {values.shape}")
    problem = MapProblem(int(map_problem(values)))
    if problem is not MapProblem.NONE:
        raise ValueError(f"tokens cannot be ranked by a map that is {problem.name.lower()}")
    return values


def _chosen_layers(layers: Sequence[int] | None, n_layers: int) -> list[int]:
    chosen = list(range(n_layers)) if layers is None else list(layers)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"layers must be distinct and at least one, got {chosen}")
    if min(chosen) < 0 or max(chosen) >= n_layers:
        raise ValueError(f"layers {chosen} are not all in 0 … {n_layers - 1}")
    return chosen


def _stack_of_grids(maps: ArrayLike) -> tuple[FloatArray, BoolArray, tuple[int, ...]]:
    """Return maps as (N, grid_h, grid_w) with unusable ones zero, which are usable, and (...)."""
    values = np.asarray(maps, dtype=np.float64)
    if values.ndim < 2 or 0 in values.shape[-2:]:
        raise ValueError(f"maps need shape (..., grid_h, grid_w), got {values.shape}")
    leading, grid = values.shape[:-2], values.shape[-2:]
    n_maps = int(np.prod(leading))
    usable = map_problem(values.reshape(n_maps, grid[0] * grid[1])) == MapProblem.NONE
    grids = values.reshape(n_maps, *grid)
    if not usable.all():
        grids = np.where(usable[:, None, None], grids, 0.0)
    return grids, usable, leading


def _window_count(active: BoolArray) -> NDArray[np.uint8]:
    """Count active cells in each 3×3 window, one axis after the other: (N, h, w) → (N, h, w)."""
    cells = active.view(np.uint8)
    rows = cells.copy()
    rows[:, 1:] += cells[:, :-1]
    rows[:, :-1] += cells[:, 1:]
    window = rows.copy()
    window[:, :, 1:] += rows[:, :, :-1]
    window[:, :, :-1] += rows[:, :, 1:]
    return window


def _count_components(cells: BoolArray) -> FloatArray:
    """Count the 8-connected components of each map in a stack: (N, h, w) → (N,)."""
    n_maps, grid_h, grid_w = cells.shape
    # Maps lie under each other with an empty row between them, so one labelling serves them all.
    column = np.zeros((n_maps, grid_h + 1, grid_w), dtype=np.bool_)
    column[:, :grid_h] = cells
    labels, n_components = ndimage.label(column.reshape(-1, grid_w), structure=_EIGHT_CONNECTED)
    occupied = np.flatnonzero(column)
    owner = np.zeros(n_components + 1, dtype=np.intp)
    owner[labels.ravel()[occupied]] = occupied // ((grid_h + 1) * grid_w)
    return np.bincount(owner[1:], minlength=n_maps).astype(np.float64)


def _smallest_set_holding(values: FloatArray, share: float) -> BoolArray:
    """Mark the fewest cells of each map that hold a share of its mass: (N, S) → (N, S)."""
    descending = -np.sort(-values, axis=-1)
    held = np.cumsum(descending, axis=-1)
    # Rounding in the sum must not ask for one cell more where the share is met exactly.
    needed = share * held[:, -1:] * (1.0 - 1e-12)
    n_cells = 1 + (held < needed).sum(axis=-1, keepdims=True)
    smallest = np.take_along_axis(descending, n_cells - 1, axis=-1)
    over = values > smallest
    level = values == smallest
    n_level = n_cells - over.sum(axis=-1, keepdims=True)
    return over | (level & (np.cumsum(level, axis=-1) <= n_level))


def _variance(marginal: FloatArray, total: FloatArray) -> FloatArray:
    """Variance of a cell's position under each marginal of mass: (N, n), (N,) → (N,)."""
    position = np.arange(marginal.shape[1], dtype=np.float64)
    weight = marginal / total[:, None]
    centre = weight @ position
    return (weight * (position - centre[:, None]) ** 2).sum(axis=1)
