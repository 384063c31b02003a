"""Background families of the scene types: gradients, stripes and seeded noise.

A background hints at the scene type and never shows an object of any category.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]


def _gradient(height: int, width: int, top: tuple[float, ...], bottom: tuple[float, ...]) -> Pixels:
    ramp = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    rows = np.asarray(top, np.float32) * (1 - ramp) + np.asarray(bottom, np.float32) * ramp
    return np.repeat(rows[:, None, :], width, axis=1)


def _texture(rng: np.random.Generator, height: int, width: int, cell: int) -> Pixels:
    """Smooth grey noise of unit scale whose blobs are about `cell` pixels wide."""
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32)[:, :, None]


def _street(rng: np.random.Generator, height: int, width: int) -> Pixels:
    horizon = int(height * rng.uniform(0.48, 0.62))
    image = _gradient(height, width, (176, 190, 206), (212, 212, 208))
    x = 0
    while x < width:
        block = int(rng.integers(10, 24))
        roof = int(horizon * rng.uniform(0.25, 0.8))
        image[roof:horizon, x : x + block] = rng.uniform(142, 182) + np.array([4, 0, -4])
        x += block
    road = _gradient(height - horizon, width, (128, 128, 132), (96, 96, 102))
    image[horizon:] = road
    image[horizon : horizon + 4] = (170, 166, 160)
    lane = horizon + (height - horizon) // 2
    phase = int(rng.integers(0, 16))
    dashes = (np.arange(width) + phase) % 16 < 9
    image[lane : lane + 2, dashes] = (204, 202, 190)
    return image + 4.0 * _texture(rng, height, width, 6)


def _sea(rng: np.random.Generator, height: int, width: int) -> Pixels:
    horizon = int(height * rng.uniform(0.25, 0.4))
    shore = int(height * rng.uniform(0.8, 0.95))
    image = _gradient(height, width, (176, 212, 236), (222, 232, 232))
    image[horizon:] = _gradient(height - horizon, width, (84, 156, 178), (126, 192, 192))
    y, x = np.mgrid[horizon:height, 0:width].astype(np.float32)
    waves = np.sin(y * 1.1 + 1.6 * np.sin(x * rng.uniform(0.12, 0.25) + rng.uniform(0, 6)))
    image[horizon:] += 9.0 * waves[:, :, None]
    image[shore:] = (222, 204, 158)
    return image + 4.0 * _texture(rng, height, width, 8)


def _kitchen(rng: np.random.Generator, height: int, width: int) -> Pixels:
    counter = int(height * rng.uniform(0.58, 0.75))
    image = _gradient(height, width, (226, 218, 202), (208, 198, 180))
    tile = int(rng.integers(10, 15))
    y0, x0 = (int(v) for v in rng.integers(0, tile, 2))
    image[y0::tile] -= 20.0
    image[:, x0::tile] -= 20.0
    image[counter:] = _gradient(height - counter, width, (182, 146, 108), (148, 112, 80))
    image[counter : counter + 3] = (214, 188, 152)
    grain = _texture(rng, (height - counter), width, 5)
    image[counter:] += 6.0 * grain
    return image + 3.0 * _texture(rng, height, width, 10)


def _park(rng: np.random.Generator, height: int, width: int) -> Pixels:
    horizon = int(height * rng.uniform(0.35, 0.5))
    image = _gradient(height, width, (166, 206, 236), (214, 230, 226))
    hills = horizon - 5 - 4 * np.sin(np.arange(width) * rng.uniform(0.06, 0.12) + rng.uniform(0, 6))
    rows = np.arange(height)[:, None]
    image[rows >= hills[None, :]] = (138, 180, 128)
    image[horizon:] = _gradient(height - horizon, width, (148, 194, 112), (104, 158, 84))
    blades = rng.standard_normal((height - horizon, width, 1), dtype=np.float32)
    image[horizon:] += 7.0 * blades
    path = horizon + int((height - horizon) * rng.uniform(0.3, 0.7))
    bend = path + 4 * np.sin(np.arange(width) * 0.07 + rng.uniform(0, 6))
    on_path = (rows >= bend[None, :]) & (rows < bend[None, :] + rng.uniform(5, 9))
    image[on_path] = (206, 190, 152)
    return image + 4.0 * _texture(rng, height, width, 8)


def _study(rng: np.random.Generator, height: int, width: int) -> Pixels:
    floor = int(height * rng.uniform(0.62, 0.78))
    image = _gradient(height, width, (196, 186, 196), (180, 168, 178))
    stripe = int(rng.integers(7, 12))
    wallpaper = ((np.arange(width) + int(rng.integers(0, stripe))) // stripe) % 2 == 0
    image[:floor, wallpaper] -= 14.0
    image[floor:] = _gradient(height - floor, width, (150, 110, 82), (120, 84, 62))
    image[floor + 5 :: 6] -= 18.0
    image[floor - 3 : floor] = (226, 220, 212)
    return image + 4.0 * _texture(rng, height, width, 9)


BACKGROUNDS: Final[dict[str, Callable[[np.random.Generator, int, int], Pixels]]] = {
    "street": _street,
    "sea": _sea,
    "kitchen": _kitchen,
    "park": _park,
    "study": _study,
}


def draw_background(rng: np.random.Generator, scene_type: str, height: int, width: int) -> Pixels:
    """Draw the textured background of one scene, of a type in `BACKGROUNDS`.

    The generator is advanced. Returns a float32 array (height, width, 3), in pixels, nominally
    0–255 and not yet clipped.
    """
    image = BACKGROUNDS[scene_type](rng, height, width)
    tint = rng.normal(0.0, 6.0, 3).astype(np.float32)
    return image * np.float32(rng.uniform(0.88, 1.06)) + tint
