"""The boxes of the objects that the study's questions ask for, and attention on them."""

import json

import numpy as np
import planted_study as planted
import polars as pl
import pytest
from stage_jobs import run_job

from vrp.config.boxes import BoxesConfig
from vrp.config.data import DataConfig, ScenesConfig
from vrp.config.metrics import MetricsConfig
from vrp.config.sample import SampleConfig, SplitConfig
from vrp.data.object_boxes import INSTANCES_FILE
from vrp.data.scenes.draw import draw_scene, scene_seed
from vrp.errors import InputError
from vrp.tables.attention import ATTENTION
from vrp.tables.boxes import BOXES, NO_CATEGORY, NOT_ANNOTATED, NOT_ASKED_FOR, NOT_THERE
from vrp.tables.estimates import METRICS, OBJECT_AREA, OBJECT_EXCESS
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow
N_IMAGES = 8


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Scenes, and items of two tasks."""
    folder = tmp_path_factory.mktemp("boxes")
    data = DataConfig(
        folder=str(folder / "data"),
        scenes=ScenesConfig(namespace="ci", n_pope_images=N_IMAGES, n_vqa_images=N_IMAGES),
    )
    run_job("fetch_data", {"data": folder / "data.json"}, data=data)
    wanted = SampleConfig(
        splits=(
            SplitConfig(dataset="pope", split="random", task="existence", count=30),
            SplitConfig(dataset="vqa", split="counting", task="counting", count=8),
        )
    )
    files = {name: folder / f"{name}.parquet" for name in ("items", "sampling")}
    run_job("sample", {"data": folder / "data.json", **files}, seed=0, data=data, sample=wanted)
    return folder, data


def find_boxes(folder, data, out, **boxes):
    files = {"data": folder / "data.json", "items": folder / "items.parquet", "boxes": out}
    run_job("boxes", files, data=data, boxes=BoxesConfig(**boxes))
    return read_table(out, BOXES)


def test_boxes_are_those_of_the_scene_that_was_drawn(scenes, tmp_path):
    folder, data = scenes
    found = find_boxes(folder, data, tmp_path / "boxes.parquet")
    items = read_table(folder / "items.parquet", ITEMS)
    drawn = {f"{index + 1:012d}": draw_scene(scene_seed("ci", index)) for index in range(40)}
    assert len(found) == len(items) == 38
    for item, row in zip(items.to_dicts(), found.to_dicts(), strict=True):
        if item["task"] != "existence":
            assert (row["object"], row["boxes"], row["note"]) == (None, [], NOT_ASKED_FOR)
            continue
        scene = drawn[item["image"][-16:-4]]
        there = [list(map(float, o.box)) for o in scene.objects if o.category == row["object"]]
        assert row["boxes"] == there
        assert (row["image_width"], row["image_height"]) == scene.image.size
        assert bool(there) == (item["reference"] == "yes")
        assert row["note"] == (None if there else NOT_THERE)


def test_an_annotation_file_of_ones_own_is_read_in_their_place(scenes, tmp_path):
    folder, data = scenes
    content = json.loads((folder / "data" / INSTANCES_FILE).read_text())
    known = {row["id"]: row["file_name"] for row in content["images"]}
    left_out = content["images"].pop()["id"]
    dropped = content["categories"].pop(0)
    content["annotations"] = [
        row for row in content["annotations"] if row["category_id"] != dropped["id"]
    ]
    (folder / "data" / "mine.json").write_text(json.dumps(content))
    local = data.model_copy(update={"origin": "local"})
    found = find_boxes(folder, local, tmp_path / "boxes.parquet", instances="mine.json")
    items = read_table(folder / "items.parquet", ITEMS)
    notes = dict(zip(items["item_id"], found["note"], strict=True))
    for item, row in zip(items.to_dicts(), found.to_dicts(), strict=True):
        if row["object"] is not None and item["image"].endswith(known[left_out]):
            assert notes[item["item_id"]] == NOT_ANNOTATED
        elif row["object"] == dropped["name"]:
            assert notes[item["item_id"]] == NO_CATEGORY


def test_annotations_of_other_images_are_refused(scenes, tmp_path):
    folder, data = scenes
    content = {"images": [], "categories": [], "annotations": []}
    (folder / "data" / "other.json").write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"other\.json: lists none of the images of the study's 30"
    ):
        find_boxes(folder, data, tmp_path / "boxes.parquet", instances="other.json")
    assert not (tmp_path / "boxes.parquet").exists()


def test_attention_that_lies_on_the_object_where_the_answer_is_right_is_found(tmp_path):
    """Planted: three quarters of each map on the object where the answer is right, else none."""
    study = planted.write_planted_study(tmp_path)
    items = read_table(study.items, ITEMS)
    attention = read_table(study.attention, ATTENTION)
    height, width = attention.select("grid_h", "grid_w").row(0)
    n_layers = len(attention["maps"][0])
    asked = (items["task"] == "existence").to_numpy()
    on, off = np.zeros((2, height, width))
    # The object: the left half of the image's upper half.
    on[: height // 2, : width // 2] = off[height // 2 :] = 1.0
    on, off = on.ravel() / on.sum(), off.ravel() / off.sum()
    maps = [
        [(0.75 * on + 0.25 * off if right else off).tolist()] * n_layers for right in study.correct
    ]
    moved = attention.with_columns(pl.Series("maps", maps, attention.schema["maps"]))
    write_table(study.attention, ATTENTION, moved, provenance=planted.ORIGIN)
    corner = [0.0, 0.0, width // 2, height // 2]
    boxes = {
        "item_id": items["item_id"].to_list(),
        "object": ["dog" if one else None for one in asked],
        "image_width": [width] * len(items),
        "image_height": [height] * len(items),
        "boxes": [[corner] if one else [] for one in asked],
        "note": [None if one else NOT_ASKED_FOR for one in asked],
    }
    write_table(tmp_path / "boxes.parquet", BOXES, boxes, provenance={})
    outputs = {
        name: tmp_path / f"{name}.parquet" for name in ("signals", "heads", "recipes", "metrics")
    }
    inputs = {
        name: [getattr(study, name)] for name in ("answers", "attention", "lens", "consistency")
    }
    run_job(
        "metrics", {"items": study.items, "boxes": tmp_path / "boxes.parquet", **inputs, **outputs},
        seed=0, metrics=MetricsConfig(bootstrap=300), provenance=planted.ORIGIN,
    )  # fmt: skip
    rows = read_table(outputs["metrics"], METRICS).filter(predictor="object_attention")
    area = rows.filter(metric=OBJECT_AREA)["value"].item()
    assert area == pytest.approx((height // 2) * (width // 2) / (height * width))
    excess = rows.filter(metric=OBJECT_EXCESS).sort("layer")
    expected = 0.75 * study.correct[asked].mean() - area
    assert excess["value"].to_list() == pytest.approx([expected] * (n_layers + 1), abs=1e-6)
    assert (excess["n_dropped"] == (~asked).sum()).all()
    told = rows.filter(metric="auroc", scope="within_strata").row(0, named=True)
    assert told["value"] == 1.0
    assert told["n"] == asked.sum()
    assert NOT_ASKED_FOR in told["note"]
    values = read_table(outputs["signals"], signal_table())["object_attention"].to_numpy()
    assert (np.isfinite(values) == asked).all()
