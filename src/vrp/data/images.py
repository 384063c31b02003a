"""Images on disk: found by name or COCO id, kept inside the data root, decoded to RGB."""

import hashlib
import io
import os
import re
import warnings
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vrp.data.item import MOST_ELONGATED
from vrp.errors import InputError

MAX_PIXELS = 89_478_485
"""Largest image decoded: a quarter of a gigabyte as RGB, as in Pillow's own warning."""
MAX_BYTES = 256 * 2**20
"""Largest file read."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

_COCO_STEM = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d{12})")
# An object's address, which some of Pillow's messages hold, is another one in every run.
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")


class ElongatedImageError(InputError):
    """An image that not every model can be shown."""


class ImageFacts(NamedTuple):
    """What is known of an image once it has been decoded."""

    sha256: str
    """Of the file's bytes, in hex."""
    width: int
    """Pixels, after EXIF rotation."""
    height: int
    """Pixels, after EXIF rotation."""


def sampled_image(folder: Path, image: str) -> Path:
    """The path of an item's image, which `sample` has found in the folders that the config names.

    Whether the file is the one that was sampled, its digest tells.
    Raises InputError where the name climbs out of the data folder.
    """
    if _climbs(image):
        raise InputError(f"{image} lies outside the data folder; run `vrp sample` again")
    return folder / image


def open_image(path: Path) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright.

    EXIF rotation is applied; of an animation the first frame is taken; transparency is laid over
    white; CMYK, palette, grey and YCbCr are converted; 16-bit grey is scaled to 8 bits.
    Raises InputError naming the file and the remedy where it is missing, empty, truncated, not an
    image, above ``MAX_PIXELS`` or ``MAX_BYTES``, or of a mode without a defined white (32-bit,
    float).
    """
    return decode_image(_read_bytes(path, str(path)), name=str(path))


def decode_image(data: bytes, *, name: str) -> Image.Image:
    """``open_image`` for bytes at hand; ``name`` opens the error messages."""
    try:
        with warnings.catch_warnings():
            # Between one and two times its limit Pillow only warns; the check below refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(
                f"{image.width}×{image.height} pixels, more than {MAX_PIXELS}"
            )
        image.seek(0)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image), name)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name}: too large to decode safely ({error}); scale the image down or remove it"
        ) from error
    except UnidentifiedImageError:
        raise _unreadable(name, "no known image format") from None
    except InputError:
        raise
    except Exception as error:  # each of Pillow's plugins has errors of its own
        raise _unreadable(name, _ADDRESS.sub("the file", str(error))) from error


def _unreadable(name: str, why: str) -> InputError:
    return InputError(
        f"{name}: not a readable image ({why}); download it again or remove its questions"
    )


class ImageIndex:
    """The images under a folder, listed once, found by path, name or id.

    The folder is inside the data root, a link there, or anywhere as an absolute path: whoever
    names it means it. Nothing outside it and the data root is ever opened, through ``..`` and
    symbolic links neither.
    """

    def __init__(self, data_root: Path, under: str = ".") -> None:
        """List the images of ``data_root / under``. Raises InputError where it is no folder."""
        if not data_root.is_dir():
            raise InputError(f"{data_root}: no such folder; set the data root to where images are")
        self.root = data_root.resolve()
        if _climbs(under):
            raise InputError(
                f"image folder {under!r} climbs out of {self.root}; give an absolute path"
            )
        self._base = self.root / under
        if not self._base.is_dir():
            raise InputError(f"{data_root / under}: no such folder; put the images there")
        self._allowed = (self.root, self._base.resolve())
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_coco_id: dict[int, list[str]] = defaultdict(list)
        self._found: dict[str, str | None] = {}
        self._found_ids: dict[str, str | None] = {}
        self._facts: dict[str, ImageFacts | InputError] = {}
        # Links to folders are not entered, since they may leave the data root.
        self._links: list[str] = []
        self._unread: list[str] = []
        self._list_files()

    def find(self, name: str) -> str | None:
        """The image called ``name``, or None.

        That is its path relative to the data root; an absolute one below an absolute image folder.

        Tried in turn: the path as given, which may be absolute below these folders; for a bare
        file name, and for COCO names with a folder too, the file name in any folder; for COCO names
        the same COCO id under another year's name (``COCO_val2014_…`` as ``000000…``, and so on).
        A path whose folder matters (``session2/000.jpg``) is never answered with another
        folder's file of that name.
        Raises InputError where the path leaves the data root or several files fit.
        """
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def find_id(self, image_id: str) -> str | None:
        """The image with a COCO id, or with the id as its file name without suffix, or None.

        Of a photograph under several years' names, the 2014 one is taken: POPE asks for that, and
        one photograph must be one group.
        """
        if image_id not in self._found_ids:
            self._found_ids[image_id] = self._find_id(image_id)
        return self._found_ids[image_id]

    def path(self, image: str) -> Path:
        """The absolute path of an item's ``image``. Raises InputError where it leaves the root."""
        below = PurePosixPath(image).is_relative_to(self._base.as_posix())
        return self._inside(Path(image) if below else self._joined(self.root, image))

    def inspect(self, image: str) -> ImageFacts:
        """Decode an image once and remember its digest and size.

        Raises InputError (also at every later call) where it cannot be decoded, and
        ElongatedImageError where one side is more than ``MOST_ELONGATED`` times the other.
        """
        if image not in self._facts:
            self._facts[image] = self._inspect(image)
        facts = self._facts[image]
        if isinstance(facts, InputError):
            raise facts
        return facts

    def why_missing(self) -> str:
        """The reason to give for an image that ``find`` did not find."""
        reasons = {
            "linked folders are not entered": self._links,
            "folders cannot be read": self._unread,
        }
        known = [f"{why}: {', '.join(sorted(names))}" for why, names in reasons.items() if names]
        return "image not found" + (f" ({'; '.join(known)})" if known else "")

    def _list_files(self) -> None:
        def lost(error: OSError) -> None:
            self._unread.append(self._name(Path(error.filename)))

        for folder, folders, files in os.walk(self._base, onerror=lost, followlinks=False):
            here = Path(folder)
            links = [here / name for name in folders if (here / name).is_symlink()]
            self._links += [self._name(link) for link in links]
            for name in files:
                path = here / name
                if path.suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                relative = self._name(path)
                self._by_name[name].append(relative)
                self._by_stem[path.stem].append(relative)
                if match := _COCO_STEM.fullmatch(path.stem):
                    self._by_coco_id[int(match[1])].append(relative)

    def _find(self, name: str) -> str | None:
        for folder in (self._base, self.root):
            if PurePosixPath(name).is_relative_to(folder.as_posix()):
                name = PurePosixPath(name).relative_to(folder.as_posix()).as_posix()
        for parent in (self._base, self.root):
            path = self._joined(parent, name)
            if os.path.isfile(path):  # noqa: PTH113, since Path's raises for too long a name
                self._inside(path)
                return self._name(path)
        asked = PurePosixPath(name)
        coco = _COCO_STEM.fullmatch(asked.stem)
        if len(asked.parts) > 1 and not coco:
            return None
        same_name = sorted(self._by_name.get(asked.name, ()))
        if len(same_name) > 1 and not coco:
            raise InputError(
                f"{name}: {len(same_name)} files have this name ({same_name[0]}, {same_name[1]}); "
                "give the path relative to the data root"
            )
        if same_name:
            return self._checked(same_name[0])
        same_id = sorted(self._by_coco_id.get(int(coco[1]), ())) if coco else []
        return self._checked(same_id[0]) if same_id else None

    def _find_id(self, image_id: str) -> str | None:
        paths = list(self._by_stem.get(image_id, ()))
        if image_id.isascii() and image_id.isdigit():
            paths += self._by_coco_id.get(int(image_id), ())
        if not paths:
            return None
        best = min(paths, key=lambda path: ("COCO_" not in path.rpartition("/")[2], path))
        return self._checked(best)

    def _inspect(self, image: str) -> ImageFacts | InputError:
        try:
            data = _read_bytes(self.path(image), image)
            decoded = decode_image(data, name=image)
        except InputError as error:
            return error
        width, height = decoded.size
        if max(width, height) > MOST_ELONGATED * min(width, height):
            return ElongatedImageError(
                f"{image}: {width}×{height} pixels, one side more than {MOST_ELONGATED} times the "
                "other, which not every model takes; crop the image or remove its questions"
            )
        return ImageFacts(hashlib.sha256(data).hexdigest(), width, height)

    def _checked(self, relative: str) -> str:
        self._inside(self.root / relative)
        return relative

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self.root)
        return (path.relative_to(self.root) if inside else path).as_posix()

    def _joined(self, parent: Path, name: str) -> Path:
        if PurePosixPath(name).is_absolute() or _climbs(name):
            raise InputError(
                f"image path {name!r} leaves the data root; give a path relative to {self.root}"
            )
        return parent / name

    def _inside(self, path: Path) -> Path:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: cannot be resolved ({error}); remove the link") from error
        if not any(resolved.is_relative_to(folder) for folder in self._allowed):
            raise InputError(
                f"{path}: a link that leaves the data root {self.root} and the image folder; "
                "name the folder that holds the files (data.images), or copy them"
            )
        return resolved


def _climbs(name: str) -> bool:
    return "\0" in name or ".." in PurePosixPath(name).parts


def _read_bytes(path: Path, name: str) -> bytes:
    """The bytes of an image file, which messages call `name`."""
    try:
        if not path.is_file():
            raise InputError(f"{name}: no such image file; check the data root")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{name}: the image file is empty (zero bytes); download it again")
        if size > MAX_BYTES:
            raise InputError(f"{name}: {size} bytes is not an image (limit {MAX_BYTES}); remove it")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); check access") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        # 65535 → 255: plain convert() would clip everything above 255 to white.
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise InputError(
            f"{name}: {image.mode} mode (32-bit) has no defined white; save it as 8-bit RGB"
        )
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
