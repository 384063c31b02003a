"""How much of a map's attention lies on the object that a question asks for.

The object's boxes come from the image's annotations. A token counts by the share of its area that
the boxes cover, so that attention spread evenly over the map puts on the object exactly the
object's share of the map's area.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the original image."""


def grid_window(size: tuple[int, int], policy: str) -> Box:
    """Return the part of the original image that the grid of image tokens covers.

    Args:
        size: width and height of the original image.
        policy: `pad`: the square that the image is padded to, centred, larger than the image;
            `crop`: the central square; `resize` and `native`: the image.
    """
    width, height = size
    if policy not in ("pad", "crop"):
        return 0.0, 0.0, float(width), float(height)
    side = max(size) if policy == "pad" else min(size)
    # Padding and cropping are in whole pixels, the smaller half first.
    left, top = (width - side) // 2, (height - side) // 2
    if policy == "pad":
        left, top = -((side - width) // 2), -((side - height) // 2)
    return float(left), float(top), float(left + side), float(top + side)


def box_coverage(boxes: ArrayLike, window: Box, *, grid_h: int, grid_w: int) -> FloatArray:
    """Return the share of each image token's area that lies inside any of the boxes.

    Where boxes overlap, their common area counts once.

    Args:
        boxes: (n, 4) left, top, right, bottom in pixels of the original image.
        window: what the grid covers, in the same pixels (`grid_window`).
        grid_h: rows of the grid.
        grid_w: columns of the grid.

    Returns:
        (grid_h · grid_w,), row-major, each in [0, 1].
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    left, top, right, bottom = window
    x = (corners[:, ::2] - left) / (right - left) * grid_w
    y = (corners[:, 1::2] - top) / (bottom - top) * grid_h
    # Between two neighbouring edges, of tokens or of boxes, every point is inside or outside.
    columns, x_edges = _cuts(x, grid_w)
    rows, y_edges = _cuts(y, grid_h)
    inside_x = (x[:, :1] <= x_edges[:-1]) & (x_edges[1:] <= x[:, 1:])
    inside_y = (y[:, :1] <= y_edges[:-1]) & (y_edges[1:] <= y[:, 1:])
    covered = (inside_y.T.astype(int) @ inside_x.astype(int)) > 0
    areas = covered * np.diff(y_edges)[:, None] * np.diff(x_edges)
    coverage = np.zeros((grid_h, grid_w))
    np.add.at(coverage, (rows[:, None], columns[None, :]), areas)
    return np.minimum(coverage, 1.0).ravel()


def _cuts(ends: FloatArray, n_cells: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Cut an axis at the edges of cells and boxes: the cell of every piece, and all edges."""
    edges = np.unique(np.concatenate([np.arange(n_cells + 1), np.clip(ends.ravel(), 0, n_cells)]))
    return np.floor((edges[:-1] + edges[1:]) / 2).astype(np.intp), edges
