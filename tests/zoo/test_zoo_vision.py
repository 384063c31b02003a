import numpy as np
import pytest
import torch
from PIL import Image

from vrp.data.scenes.draw import CATEGORIES, Scene, SceneObject
from vrp.data.scenes.icons import COLORS
from vrp.zoo.architectures import FAMILIES, build_model, vision_parts
from vrp.zoo.processors import build_processor
from vrp.zoo.tokenizer import build_tokenizer, special_ids
from vrp.zoo.vision_pretraining import (
    CellHeads,
    WordTargets,
    cell_targets,
    collate_images,
    encode_images,
    image_inputs,
    tie_plurals,
    vision_loss,
)

WIDE_GRID = {"llava": (12, 12), "paligemma": (12, 12), "qwen2_vl": (12, 16)}


def _white_box_scene(size, box):
    """A white rectangle on black, as a scene with one object."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = 255
    seen = np.where(pixels[:, :, 0] > 0, 0, -1).astype(np.int16)
    thing = SceneObject("boat", "white", box, 1.0, x1 - x0, 1.0)
    return Scene(Image.fromarray(pixels), (thing,), "sea", 0, seen)


def _cell_brightness(family, processor, scene):
    """Mean brightness of each cell of the image as the processor hands it to the tower."""
    (row,) = image_inputs(processor, [scene.image])
    pixels = row["pixel_values"]
    if family == "qwen2_vl":  # patches of 4×4 pixels come in groups of the 2×2 that are merged
        return pixels.view(-1, 4 * pixels.shape[1]).mean(1)
    return pixels.mean(0).reshape(12, 8, 12, 8).mean((1, 3)).flatten()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("size", "box"),
    [((96, 96), (16, 24, 48, 40)), ((128, 96), (80, 8, 120, 48)), ((96, 128), (8, 88, 40, 120))],
)
def test_targets_lie_where_the_processor_puts_the_object(family, size, box):
    processor = build_processor(family, build_tokenizer(family))
    scene = _white_box_scene(size, box)
    targets = cell_targets(family, scene)
    bright = _cell_brightness(family, processor, scene)
    inside = targets.category == CATEGORIES.index("boat")
    assert len(bright) == len(inside)
    # White cells are named; those at the edges are darker, LLaVA's border is grey.
    white = bright > 0.9 * bright.max()
    assert white.any()
    assert inside[white].all()
    middles = [
        torch.nonzero(cells.view(-1, WIDE_GRID[family][1] if size[0] > 96 else 12)).float().mean(0)
        for cells in (white, inside)
    ]
    assert (middles[0] - middles[1]).abs().max() <= 0.6
    assert set(targets.color[inside].tolist()) == {list(COLORS).index("white")}
    assert set(targets.color[~inside].tolist()) == {-100}
    assert targets.centre.sum() == 1
    assert inside[targets.centre.bool()].all()


def test_targets_of_a_known_box():
    targets = cell_targets("qwen2_vl", _white_box_scene((128, 96), (16, 24, 48, 40)))
    named = (targets.category == CATEGORIES.index("boat")).view(WIDE_GRID["qwen2_vl"])
    assert torch.equal(torch.nonzero(named).amin(0), torch.tensor([3, 2]))
    assert torch.equal(torch.nonzero(named).amax(0), torch.tensor([4, 5]))
    first = 3 * 16 + 2  # row 3, column 2; the box's middle pixel is (31.5, 31.5)
    middle = 31.5 / 8
    expected = torch.tensor([middle - 3.5, middle - 2.5])
    torch.testing.assert_close(targets.offset[first], expected)
    # 4 × 2 cells: log2(8) + 1.
    assert targets.extent[first] == pytest.approx(4.0)
    assert targets.place[0].tolist() == [-1, -1]
    assert targets.place[-1].tolist() == [1, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_features_pass_through_the_models_own_projection(family):
    tokenizer = build_tokenizer(family)
    processor = build_processor(family, tokenizer)
    model = build_model(family, len(tokenizer), special_ids(family, tokenizer), seed=0)
    images = [_white_box_scene(size, (8, 8, 40, 40)).image for size in ((128, 96), (96, 96))]
    rows = image_inputs(processor, images)
    parts = vision_parts(model)
    with torch.no_grad():
        ours = [parts.project(f) for f in parts.encode(collate_images(rows))]
        theirs = model.get_image_features(**collate_images(rows)).pooler_output
    for mine, own in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, own, atol=1e-6, rtol=0)
    assert [len(f) for f in encode_images(parts, rows)] == [
        WIDE_GRID[family][0] * WIDE_GRID[family][1],
        144,
    ]


def test_perfect_cells_speak_their_words():
    family = "llava"
    tokenizer = build_tokenizer(family)
    model = build_model(family, len(tokenizer), special_ids(family, tokenizer), seed=0)
    words = tie_plurals(model, tokenizer)
    targets = cell_targets(family, _white_box_scene((96, 96), (16, 24, 48, 40)))
    embed = WordTargets(model, words, seed=0)
    inside = targets.category == CATEGORIES.index("boat")
    weight = model.get_input_embeddings().weight[words]
    nearest = torch.cosine_similarity(embed(targets)[inside][:, None], weight[None], dim=-1)
    named = nearest.topk(2, dim=-1).indices.mode(0).values.tolist()
    assert set(named) == {CATEGORIES.index("boat"), len(CATEGORIES) + list(COLORS).index("white")}
    heads = CellHeads(8)
    figures = vision_loss(torch.randn(144, 8), embed(targets), heads, embed, targets).figures
    assert figures["word_error"] == pytest.approx(0.0, abs=1e-10)
