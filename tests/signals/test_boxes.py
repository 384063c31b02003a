"""Attention on the object that a question asks for."""

import numpy as np
import pytest

from vrp.signals.boxes import box_coverage, grid_window
from vrp.signals.registry import SIGNALS, SignalInputs

WINDOW = (0.0, 0.0, 100.0, 60.0)


@pytest.mark.parametrize(
    ("size", "policy", "expected"),
    [
        ((96, 96), "pad", (0, 0, 96, 96)),
        ((100, 60), "pad", (0, -20, 100, 80)),
        ((60, 101), "pad", (-20, 0, 81, 101)),
        ((100, 60), "crop", (20, 0, 80, 60)),
        ((100, 60), "resize", (0, 0, 100, 60)),
        ((100, 60), "native", (0, 0, 100, 60)),
    ],
)
def test_grid_window(size, policy, expected):
    assert grid_window(size, policy) == expected


def painted(boxes, window, grid_h, grid_w, fine=200):
    """Coverage by painting the boxes on a fine raster of the window."""
    left, top, right, bottom = window
    x = left + (np.arange(grid_w * fine) + 0.5) / (grid_w * fine) * (right - left)
    y = top + (np.arange(grid_h * fine) + 0.5) / (grid_h * fine) * (bottom - top)
    inside = np.zeros((y.size, x.size), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        inside |= ((y0 < y) & (y < y1))[:, None] & ((x0 < x) & (x < x1))[None, :]
    return inside.reshape(grid_h, fine, grid_w, fine).mean(axis=(1, 3)).ravel()


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([[0, 0, 50, 30]], [1, 0, 0, 0]),
        ([[25, 0, 75, 30]], [0.5, 0.5, 0, 0]),
        ([[25, 15, 75, 45]], [0.25, 0.25, 0.25, 0.25]),
        ([[0, 0, 50, 30], [0, 0, 50, 15], [50, 30, 100, 60]], [1, 0, 0, 1]),
        ([[-10, -10, 200, 200]], [1, 1, 1, 1]),
        ([[200, 200, 300, 300]], [0, 0, 0, 0]),
        ([], [0, 0, 0, 0]),
    ],
)
def test_coverage_by_hand(boxes, expected):
    assert box_coverage(boxes, WINDOW, grid_h=2, grid_w=2) == pytest.approx(expected)


@pytest.mark.parametrize("policy", ["pad", "crop", "resize"])
def test_overlapping_boxes_cover_what_painting_them_covers(policy):
    random = np.random.default_rng(3)
    for _ in range(20):
        size = tuple(random.integers(30, 90, 2).tolist())
        corners = random.uniform(-5, 95, (4, 2, 2))
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        window = grid_window(size, policy)
        found = box_coverage(boxes, window, grid_h=3, grid_w=5)
        assert found == pytest.approx(painted(boxes, window, 3, 5), abs=0.02)
        assert ((found >= 0) & (found <= 1)).all()


def inputs(maps, boxes, *, size=(100, 60), **more):
    n = len(maps)
    return SignalInputs(
        n_items=n,
        columns={
            "attention.maps": maps,
            "attention.grid_h": np.full(n, 2),
            "attention.grid_w": np.full(n, 2),
            "boxes.boxes": boxes,
            "boxes.image_width": np.full(n, size[0]),
            "boxes.image_height": np.full(n, size[1]),
        },
        **more,
    )


def test_even_attention_has_on_the_object_what_its_area_is():
    even, spot = np.full((1, 4), 0.25), np.array([[0.7, 0.1, 0.1, 0.1]])
    box, none = np.array([[0.0, 0, 75, 30]]), np.empty((0, 4))
    found = inputs([even, spot, spot], [box, box, none])
    assert found.object_attention.area == pytest.approx([0.375, 0.375, np.nan], nan_ok=True)
    assert found.object_attention.mass[:2, 0] == pytest.approx([0.375, 0.75])
    excess = SIGNALS["object_attention"].compute(found)
    assert excess == pytest.approx([0.0, 0.375, np.nan], nan_ok=True)


def test_it_is_of_the_layers_of_the_map():
    maps = [np.array([[1.0, 0, 0, 0], [0, 0, 0, 1.0], [0.5, 0.5, 0, 0]])]
    box = [np.array([[0.0, 0, 50, 30]])]
    signal = SIGNALS["object_attention"]
    assert signal.compute(inputs(maps, box)) == pytest.approx([0.5 - 0.25])
    assert signal.compute(inputs(maps, box, map_layers=(1,))) == pytest.approx([-0.25])


def test_an_object_that_was_cropped_away_has_no_value():
    spot, box = np.array([[0.7, 0.1, 0.1, 0.1]]), np.array([[0.0, 0, 15, 60]])
    cropped = inputs([spot], [box], image_policy="crop")
    assert np.isnan(SIGNALS["object_attention"].compute(cropped)).all()
    padded = inputs([spot], [box], image_policy="pad")
    assert np.isfinite(SIGNALS["object_attention"].compute(padded)).all()


def test_attention_to_padding_is_none_to_the_image():
    """A photograph of 100×50 on a square of 100×100: the grid's rows are half padding."""
    # Evenly over the photograph, and nothing on the padding.
    over_photo = np.array([[0.25, 0.25, 0.25, 0.25]])
    box = np.array([[0.0, 0, 50, 50]])
    found = inputs([over_photo], [box], size=(100, 50), image_policy="pad")
    assert found.object_attention.area == pytest.approx([0.5])
    assert SIGNALS["object_attention"].compute(found) == pytest.approx([0.0])
    tall = np.array([[0.5, 0.0, 0.5, 0.0]])
    found = inputs([tall], [box], size=(100, 50), image_policy="pad")
    assert SIGNALS["object_attention"].compute(found) == pytest.approx([0.5])
