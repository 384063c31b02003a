"""Scenes: what is said of them against what their pixels show."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from vrp.data.scenes.draw import (
    CATEGORIES,
    COLORS,
    IMAGE_SIZES,
    MIN_VISIBLE_SHARE,
    SCENE_TYPES,
    Purpose,
    Scene,
    draw_scene,
    scene_rng,
    scene_seed,
)
from vrp.data.scenes.icons import draw_icon

NAMESPACES = ("zoo-train", "zoo-heldout", "demo", "ci")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(scene_seed("test-draw", i)) for i in range(150)]


def test_a_seed_is_the_first_63_bits_of_a_sha256():
    digest = hashlib.sha256(b"demo/17").hexdigest()
    assert scene_seed("demo", 17) == int(digest[:16], 16) // 2
    assert 0 <= scene_seed("demo", 17) < 2**63


def test_training_and_study_seeds_are_disjoint():
    seeds = [scene_seed(name, i) for name in NAMESPACES for i in range(20_000)]
    assert len(set(seeds)) == len(NAMESPACES) * 20_000


def test_each_purpose_and_seed_has_its_own_stream():
    draws = {scene_rng(seed, p).random() for p in Purpose for seed in (7, 8)}
    assert len(draws) == 2 * len(Purpose)
    assert scene_rng(7, Purpose.QUESTIONS).random() == np.random.default_rng([7, 1]).random()


def test_a_scene_depends_on_its_seed_alone():
    seeds = [scene_seed("demo", i) for i in range(5)]
    forwards = {seed: draw_scene(seed) for seed in seeds}
    for seed in reversed(seeds):
        again = draw_scene(seed)
        assert again.image.tobytes() == forwards[seed].image.tobytes()
        assert again.objects == forwards[seed].objects
        assert np.array_equal(again.instance_map, forwards[seed].instance_map)
    assert len({scene.image.tobytes() for scene in forwards.values()}) == 5


def test_enough_categories_colours_sizes_and_scene_types():
    assert len(set(CATEGORIES)) >= 12
    assert len(set(COLORS.values())) >= 6
    assert all(min(size) >= 96 for size in IMAGE_SIZES)
    assert len({width / height for width, height in IMAGE_SIZES}) >= 2
    for weights in SCENE_TYPES.values():
        assert set(weights) == set(CATEGORIES)
        assert sum(weights.values()) == pytest.approx(1.0)


def test_objects_agree_with_the_instance_map(scenes):
    for scene in scenes:
        width, height = scene.image.size
        assert scene.instance_map.shape == (height, width)
        assert scene.instance_map.dtype == np.int16
        assert set(np.unique(scene.instance_map)) == {-1, *range(len(scene.objects))}
        for index, o in enumerate(scene.objects):
            rows, columns = np.nonzero(scene.instance_map == index)
            x0, y0, x1, y1 = o.box
            assert (x0, x1) == (columns.min(), columns.max() + 1)
            assert (y0, y1) == (rows.min(), rows.max() + 1)
            assert MIN_VISIBLE_SHARE <= o.visible_share <= 1.0
            assert max(x1 - x0, y1 - y0) <= 1.15 * o.size + 1


def test_the_front_object_is_whole_and_some_objects_are_hidden(scenes):
    assert all(scene.objects[-1].visible_share == 1.0 for scene in scenes)
    shares = [o.visible_share for scene in scenes for o in scene.objects]
    assert 0.08 < np.mean(np.array(shares) < 0.95) < 0.4


def test_scenes_vary_as_planned(scenes):
    assert all(2 <= len(scene.objects) <= 6 for scene in scenes)
    sizes = Counter(scene.image.size for scene in scenes)
    assert set(sizes) == set(IMAGE_SIZES)
    assert 0.4 < sizes[96, 96] / len(scenes) < 0.6
    assert {scene.scene_type for scene in scenes} == set(SCENE_TYPES)
    objects = [o for scene in scenes for o in scene.objects]
    assert {o.category for o in objects} == set(CATEGORIES)
    assert {o.color for o in objects} == set(COLORS)
    assert 0.1 < np.mean([o.contrast < 0.7 for o in objects]) < 0.3
    counts = Counter(
        n for scene in scenes for n in Counter(o.category for o in scene.objects).values()
    )
    assert all(counts[n] >= 10 for n in (1, 2, 3, 4))


def test_categories_co_occur_by_scene_type(scenes):
    """About 12% of the first objects drawn are intruders; planted in the weights."""
    typical = {
        name: {c for c, w in weights.items() if w > 0.05} for name, weights in SCENE_TYPES.items()
    }
    assert all(4 <= len(names) <= 6 for names in typical.values())
    first = [scene.objects[0].category in typical[scene.scene_type] for scene in scenes]
    assert 0.8 < np.mean(first) < 0.95


def test_an_object_shows_its_colour(scenes):
    """The palette colour most often nearest to an object's pixels is mostly its own."""
    names, palette = list(COLORS), np.array(list(COLORS.values()), float)
    hits = []
    for scene in scenes:
        pixels = np.asarray(scene.image, float)
        for index, o in enumerate(scene.objects):
            if o.contrast < 0.85 or o.size < 22:
                continue
            inside = pixels[scene.instance_map == index]
            distance = ((inside[:, None] - palette) ** 2).sum(-1)
            near = distance.argmin(1)[distance.min(1) < 60**2]
            counts = np.bincount(near, minlength=len(names))
            hits.append(names[int(counts.argmax())] == o.color)
    assert len(hits) > 250
    assert np.mean(hits) > 0.85


@pytest.mark.parametrize("size", [16, 36])
def test_icons_are_distinct_and_fill_their_patch(size):
    masks = {}
    for category in CATEGORIES:
        icon = np.asarray(draw_icon(category, COLORS["blue"], size * 3), float)[:, :, 3] / 255
        masks[category] = icon.reshape(size, 3, size, 3).mean((1, 3)) > 0.5
    for category, mask in masks.items():
        assert 0.15 < mask.mean() < 0.9, category
        for other, its_mask in masks.items():
            if other not in (category, "ball" if category == "clock" else "clock"):
                overlap = (mask & its_mask).sum() / (mask | its_mask).sum()
                assert overlap < 0.85, (category, other)
