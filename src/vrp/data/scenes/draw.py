"""Seeded scenes: a textured background and two to six icons that co-occur by scene type.

Everything random about a scene, its questions and its annotators derives from the scene's
seed through `scene_rng`, so that a scene is the same whatever was drawn before it.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrp.data.scenes.backgrounds import Pixels, draw_background
from vrp.data.scenes.icons import COLORS, ICONS, draw_icon

CATEGORIES: Final[tuple[str, ...]] = tuple(ICONS)

INTRUDER_SHARE: Final = 0.12
"""Share of objects drawn from the categories that are not typical of the scene type."""


def _category_weights(**typical: float) -> dict[str, float]:
    """Return a probability for every category: typical ones as given, the rest share 12%."""
    total = sum(typical.values())
    rest = INTRUDER_SHARE / (len(CATEGORIES) - len(typical))
    return {
        c: (1 - INTRUDER_SHARE) * typical[c] / total if c in typical else rest for c in CATEGORIES
    }


# Look-alikes (boat/umbrella, cup/bottle, lamp/umbrella, ball/clock) often share a scene type, so
# that what usually co-occurs is also what is easily mistaken, as in photographs.
SCENE_TYPES: Final[dict[str, dict[str, float]]] = {
    "street": _category_weights(car=5, house=4, tree=3, lamp=3, umbrella=2, clock=2),
    "sea": _category_weights(boat=5, fish=4, umbrella=3, kite=3, ball=3),
    "kitchen": _category_weights(cup=4, bottle=5, chair=3, clock=3, lamp=2),
    "park": _category_weights(tree=4, ball=4, kite=3, umbrella=3, chair=2, car=2),
    "study": _category_weights(book=5, lamp=4, clock=3, chair=3, cup=2),
}

IMAGE_SIZES: Final[tuple[tuple[int, int], ...]] = ((96, 96), (128, 96), (96, 128))
"""(width, height) in pixels; the square one is drawn half of the time."""

MIN_VISIBLE_SHARE: Final = 0.45
"""Every object keeps at least this share of its silhouette visible."""

_SIZE_SHARES: Final = (0.5, 0.25, 0.25)
_OBJECT_COUNTS: Final = (2, 3, 4, 5, 6)
_OBJECT_COUNT_SHARES: Final = (0.05, 0.17, 0.28, 0.28, 0.22)
_REPEAT_SHARE: Final = 0.40
_HARD_SHARE: Final = 0.2
_NEIGHBOUR_SHARE: Final = 0.35
_SUPERSAMPLING: Final = 3
_PLACEMENT_TRIES: Final = 24


class Purpose(IntEnum):
    """What a scene's random numbers are for; each purpose has its own stream."""

    LAYOUT = 0
    QUESTIONS = 1
    ANNOTATORS = 2
    POPE = 3


class SceneObject(NamedTuple):
    """One drawn object."""

    category: str
    """One of `CATEGORIES`."""
    color: str
    """A key of `COLORS`."""
    box: tuple[int, int, int, int]
    """Visible extent (x0, y0, x1, y1) in pixels, half-open: x1 and y1 lie just outside."""
    visible_share: float
    """Visible pixels over the pixels of the object's own silhouette, in (0, 1]."""
    size: int
    """Side of the square the icon was drawn in, in pixels."""
    contrast: float
    """Opacity of the object over its background, in (0, 1]; low is hard to see."""


@dataclass(frozen=True)
class Scene:
    """One drawn image and what is in it."""

    image: Image.Image
    """The picture, RGB."""
    objects: tuple[SceneObject, ...]
    """The objects, back to front."""
    scene_type: str
    """A key of `SCENE_TYPES`."""
    seed: int
    """The seed that everything about the scene derives from."""
    instance_map: NDArray[np.int16]
    """(height, width): index into `objects` of what is seen at a pixel, -1 for background."""


class _Plan(NamedTuple):
    """What to draw, before it has a place."""

    category: str
    color: str
    size: int
    contrast: float


def scene_seed(namespace: str, index: int) -> int:
    """Return the seed of scene `index` of a namespace.

    The first 8 bytes of SHA-256 of ``"{namespace}/{index}"``, big-endian, without the top bit
    (63 bits), so that namespaces for training and study share no scene.
    """
    digest = hashlib.sha256(f"{namespace}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def scene_rng(seed: int, purpose: Purpose) -> np.random.Generator:
    """Return the generator of one purpose of one scene."""
    return np.random.default_rng([seed, int(purpose)])


def _plan_objects(rng: np.random.Generator, scene_type: str) -> list[_Plan]:
    """Choose what a scene holds; some categories repeat, so that there is something to count."""
    weights = SCENE_TYPES[scene_type]
    shares = np.fromiter((weights[c] for c in CATEGORIES), float)
    colors = tuple(COLORS)
    plans: list[_Plan] = []
    for _ in range(int(rng.choice(_OBJECT_COUNTS, p=_OBJECT_COUNT_SHARES))):
        color = colors[int(rng.integers(len(colors)))]
        if plans and rng.random() < _REPEAT_SHARE:
            twin = plans[int(rng.integers(len(plans)))]
            category = twin.category
            # Half of the repeats look alike, so that a category often has one colour only.
            color = twin.color if rng.random() < 0.5 else color
        else:
            index = int(rng.choice(len(CATEGORIES), p=shares / shares.sum()))
            category, shares[index] = CATEGORIES[index], 0.0
        if rng.random() < _HARD_SHARE:
            size, contrast = int(rng.integers(13, 17)), float(rng.uniform(0.40, 0.65))
        else:
            typical = (36, 26, 17)[int(rng.choice(3, p=(0.3, 0.42, 0.28)))]
            size, contrast = typical + int(rng.integers(-2, 4)), float(rng.uniform(0.85, 1.0))
        plans.append(_Plan(category, color, size, contrast))
    return plans


def _render_icon(rng: np.random.Generator, plan: _Plan) -> NDArray[np.float32]:
    """Return one object's pixels, float32 (h, w, 4): colour 0–255 and opacity 0–1."""
    shade = rng.normal(0.0, 7.0, 3) + rng.normal(0.0, 7.0)
    r, g, b = (int(v) for v in np.clip(np.add(COLORS[plan.color], shade), 0, 255))
    patch = draw_icon(plan.category, (r, g, b), plan.size * _SUPERSAMPLING)
    if rng.random() < 0.5:
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    patch = patch.rotate(float(rng.uniform(-9, 9)), Image.Resampling.BILINEAR)
    stretch = rng.uniform(0.9, 1.1)
    width, height = round(plan.size * stretch), round(plan.size / stretch)
    patch = patch.resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(patch, np.float32).copy()
    pixels[:, :, 3] /= 255.0
    return pixels


class _Canvas:
    """The picture while objects are put on it, and which object is seen where."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.instance_map: NDArray[np.int16] = np.full(pixels.shape[:2], -1, np.int16)
        self.silhouettes: list[int] = []
        self.centres: list[tuple[float, float]] = []

    def place(self, rng: np.random.Generator, icon: Pixels, contrast: float) -> bool:
        """Put an icon at a random place that hides no object too much; False if none is found.

        Some icons look for a place by another object, which they may then partly hide.
        """
        height, width = self.instance_map.shape
        h, w = icon.shape[:2]
        mask = icon[:, :, 3] >= 0.5
        near = bool(self.centres) and rng.random() < _NEIGHBOUR_SHARE
        for _ in range(_PLACEMENT_TRIES):
            y, x = int(rng.integers(1, height - h)), int(rng.integers(1, width - w))
            if near:
                cy, cx = self.centres[int(rng.integers(len(self.centres)))]
                dy, dx = rng.normal(0.0, 15.0), rng.normal(0.0, 15.0)
                y = int(np.clip(cy + dy - h / 2, 1, height - h - 1))
                x = int(np.clip(cx + dx - w / 2, 1, width - w - 1))
            if self._fits(self.instance_map[y : y + h, x : x + w][mask], may_overlap=near):
                self._paste(icon, mask, y, x, contrast)
                return True
        return False

    def _fits(self, hidden: NDArray[np.int16], *, may_overlap: bool) -> bool:
        lost = np.bincount(hidden[hidden >= 0], minlength=len(self.silhouettes))
        if not may_overlap:
            return not lost.any()
        seen = np.bincount(
            self.instance_map[self.instance_map >= 0], minlength=len(self.silhouettes)
        )
        return bool(np.all(seen - lost >= MIN_VISIBLE_SHARE * np.asarray(self.silhouettes)))

    def _paste(
        self, icon: Pixels, mask: NDArray[np.bool_], y: int, x: int, contrast: float
    ) -> None:
        h, w = mask.shape
        window = self.pixels[y : y + h, x : x + w]
        alpha = icon[:, :, 3:] * np.float32(contrast)
        window += alpha * (icon[:, :, :3] - window)
        self.instance_map[y : y + h, x : x + w][mask] = len(self.silhouettes)
        self.silhouettes.append(int(mask.sum()))
        self.centres.append((y + h / 2, x + w / 2))


def draw_scene(seed: int) -> Scene:
    """Draw the scene of a seed (from `scene_seed`): a pure function of the seed."""
    rng = scene_rng(seed, Purpose.LAYOUT)
    scene_type = tuple(SCENE_TYPES)[int(rng.integers(len(SCENE_TYPES)))]
    width, height = IMAGE_SIZES[int(rng.choice(len(IMAGE_SIZES), p=_SIZE_SHARES))]
    canvas = _Canvas(draw_background(rng, scene_type, height, width).astype(np.float32))
    placed: list[_Plan] = []
    for plan in _plan_objects(rng, scene_type):
        if canvas.place(rng, _render_icon(rng, plan), plan.contrast):
            placed.append(plan)
    noise = rng.standard_normal((height, width, 3), dtype=np.float32) * rng.uniform(3.0, 11.0)
    pixels = np.clip(canvas.pixels + noise, 0, 255).astype(np.uint8)
    objects = []
    for index, (category, color, size, contrast) in enumerate(placed):
        seen = canvas.instance_map == index
        share = int(seen.sum()) / canvas.silhouettes[index]
        box = Image.fromarray(seen.astype(np.uint8)).getbbox() or (0, 0, 0, 0)
        objects.append(SceneObject(category, color, box, share, size, contrast))
    return Scene(Image.fromarray(pixels), tuple(objects), scene_type, seed, canvas.instance_map)
