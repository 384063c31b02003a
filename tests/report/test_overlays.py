"""Overlays: which items, and that colour lies where attention was."""

import base64
import hashlib
import io
import math

import numpy as np
import polars as pl
import pytest
from PIL import Image

from vrp.findings.evidence import ModelEvidence
from vrp.report.overlays import (
    attention_on_image,
    choose_items,
    fitted,
    image_uri,
    overlays,
)
from vrp.signals.boxes import grid_window
from vrp.tables.attention import ATTENTION
from vrp.tables.parquet_files import write_table

GREY = (128, 128, 128)


def hot_box(image, grid, policy):
    """Bounding box (in shown pixels) of the brightest colour."""
    shown = np.asarray(attention_on_image(image, grid, grid_window(image.size, policy)), dtype=int)
    hot = np.all(shown == shown.reshape(-1, 3)[shown.sum(axis=2).argmax()], axis=2)
    rows, columns = np.nonzero(hot)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_colour_lies_over_the_attended_token():
    grid = np.full((4, 4), 0.01)
    grid[1, 2] = 1.0
    image = Image.new("RGB", (96, 96), GREY)
    assert hot_box(image, grid, "resize") == (144, 72, 216, 144)  # shown three times as large


def test_a_padded_grid_is_shifted_and_what_lies_in_the_padding_is_not_drawn():
    grid = np.full((4, 4), 0.01)
    grid[1, 0] = 1.0  # rows 24–48 of the padded square, of which the image holds rows 24–72
    image = Image.new("RGB", (96, 48), GREY)
    assert hot_box(image, grid, "pad") == (0, 0, 72, 72)
    grid = np.full((4, 4), 0.01)
    grid[0] = 1.0  # in the padding alone
    drawn = np.asarray(attention_on_image(image, grid, grid_window(image.size, "pad")), dtype=int)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_outside_a_cropped_grid_nothing_is_laid_over():
    image = Image.new("RGB", (96, 48), GREY)
    drawn = np.asarray(attention_on_image(image, np.ones((2, 2)), grid_window((96, 48), "crop")))
    left, centre = drawn[70, 10], drawn[70, 140]
    assert len(set(left.tolist())) == 1  # still grey
    assert len(set(centre.tolist())) > 1


def test_images_fit_their_panel():
    assert fitted(Image.new("RGB", (640, 480))).size == (320, 240)
    assert fitted(Image.new("RGB", (96, 96))).size == (288, 288)
    assert fitted(Image.new("RGB", (5000, 10))).size == (320, 1)


def test_an_image_s_uri_is_the_image():
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    data = base64.b64decode(image_uri(image).removeprefix("data:image/webp;base64,"))
    seen = Image.open(io.BytesIO(data)).convert("RGB").getpixel((2, 1))
    assert np.abs(np.array(seen) - (1, 2, 3)).max() <= 2


def answers(n=40, folder=None):
    frame = pl.DataFrame(
        {
            "item_id": [f"t/{i:03d}" for i in range(n)],
            "dataset": ["own"] * n,
            "task": ["counting" if i % 2 else "existence" for i in range(n)],
            "correct": [i % 4 < 2 for i in range(n)],
            "image_sha256": [f"image{i % 10}" for i in range(n)],
            "image": [f"{i % 10}.png" for i in range(n)],
            "question": ["Is there a cat?"] * n,
            "answer": ["yes"] * n,
            "reference": ["no"] * n,
        }
    )
    if folder is None:
        return frame
    digests = []
    for i in range(n):
        path = folder / f"{i % 10}.png"
        if not path.exists():
            Image.new("RGB", (30, 40), (i % 10 * 20, 50, 50)).save(path)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return frame.with_columns(image_sha256=pl.Series(digests))


def test_choice_takes_right_and_wrong_of_every_task_in_turn():
    chosen = choose_items(answers(), 6)
    assert [(row["task"], row["correct"]) for row in chosen] == [
        ("existence", True), ("existence", False), ("counting", True), ("counting", False),
        ("existence", True), ("existence", False),
    ]  # fmt: skip
    assert len({row["image_sha256"] for row in chosen}) == 6


def test_choice_does_not_depend_on_the_order_of_rows():
    ids = [row["item_id"] for row in choose_items(answers(), 6)]
    assert ids == [row["item_id"] for row in choose_items(answers().reverse(), 6)]


def test_choice_ends_with_the_items():
    assert len(choose_items(answers(3), 10)) == 3
    assert choose_items(answers(3), 0) == []


def written_attention(path, frame, **origin):
    n = len(frame)
    columns = {
        "item_id": frame["item_id"].to_list(),
        "grid_h": [2] * n,
        "grid_w": [3] * n,
        "maps": [[[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]] * 2] * n,
        "image_mass": [[0.4, 0.4]] * n,
        "head_entropy": [[[1.0]]] * n,
        "head_clusters": [[[1.0]]] * n,
        "sinks": [[]] * n,
        "head_contribution": [[[1.0]]] * n,
        "note": [None] * n,
    }
    write_table(path, ATTENTION, columns, provenance=origin)
    return [path]


def test_overlays_say_what_cannot_be_shown(tmp_path):
    frame = answers(8, tmp_path)
    shards = written_attention(tmp_path / "attention.parquet", frame[:7])
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"another")
    found = {
        overlay.item_id: overlay
        for overlay in overlays(ModelEvidence("m", answers=frame), shards, folder=tmp_path, count=8)
    }
    assert len(found) == 8
    assert "not in the data folder" in found["t/000"].problem
    assert "no longer the image that was sampled" in found["t/001"].problem
    assert found["t/007"].original
    assert "no attention was kept" in found["t/007"].problem
    assert math.isnan(found["t/007"].peak)
    good = found["t/002"]
    assert good.problem == ""
    assert good.attended.startswith("data:image/webp;base64,")
    assert good.peak == pytest.approx(3.0)  # half of the attention on one of six tokens


def test_an_image_outside_the_data_folder_is_not_read(tmp_path):
    (tmp_path / "data").mkdir()
    frame = answers(2, tmp_path).with_columns(image=pl.lit("../0.png"))
    shards = written_attention(tmp_path / "attention.parquet", frame)
    model = ModelEvidence("m", answers=frame)
    for overlay in overlays(model, shards, folder=tmp_path / "data", count=2):
        assert overlay.original == ""
        assert "outside the data folder" in overlay.problem


def test_the_recorded_image_policy_is_used(tmp_path):
    frame = answers(4, tmp_path)
    padded = written_attention(tmp_path / "pad.parquet", frame, image_policy="pad")
    plain = written_attention(tmp_path / "plain.parquet", frame)
    show = {"folder": tmp_path, "count": 1}
    model = ModelEvidence("m", answers=frame)
    resized = overlays(model, plain, **show)[0].attended
    assert overlays(model, padded, **show)[0].attended != resized
