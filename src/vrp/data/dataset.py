"""What a data set is: its tasks, files, reader, and where it can be had.

Nothing heavy is imported: the configuration is checked against these declarations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from vrp.errors import InputError, unknown_name

if TYPE_CHECKING:
    from vrp.data.images import ImageIndex
    from vrp.data.item import Reading

Row = Mapping[str, Any]
"""A row of a Parquet file: column → value."""


class Archive(NamedTuple):
    """One file to download."""

    url: str
    """Where it is published."""
    folder: str
    """Where it goes, or is unpacked to, inside the data folder."""
    sha256: str | None = None
    """Of the whole file, where it is published; a zip archive also checks each of its members."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images that questions are about; data sets that share them have them once on the disk."""

    usual_size: tuple[int, int] = (640, 480)
    """Width and height, pixels, for the planner; the default is COCO's."""
    largest_size: tuple[int, int] = (640, 640)
    """Of the image with the most pixels that is counted on."""
    archive: Archive | None = None
    """Where it is published."""
    official_bytes: int = 0
    """On the disk, unpacked, with the questions about them."""
    archive_bytes: int = 0
    """Of the largest archive, which is kept next to its content until all is unpacked."""
    hub_bytes: int = 0
    """The same images and questions, written from Parquet files a part at a time."""


COCO_VAL2014 = ImageSet(
    archive=Archive(
        "http://images.cocodataset.org/zips/val2014.zip",
        ".",
        "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
    ),
    # Unpacked, with the questions and annotations of VQA v2 val, and POPE's questions.
    official_bytes=6_700_000_000,
    archive_bytes=6_650_000_000,
    hub_bytes=7_000_000_000,
)
"""The photographs that POPE and VQA v2 ask about."""


class OfficialFile(NamedTuple):
    """How rows from the hub are written as one of the official files."""

    file: str
    """Its key in `Dataset.files`."""
    split: str = ""
    """Stands for `{split}` in its place."""
    rows: str | None = None
    """The key that holds its rows; None: the file is JSON lines."""
    header: Mapping[str, Any] = MappingProxyType({})
    """The other keys."""


class HubColumns(NamedTuple):
    """How a data set is published on the hub, and which official rows its rows become."""

    required: tuple[str, ...]
    """Columns that have to be there."""
    image_ids: tuple[str, ...]
    """Columns that may name the image; the first that is there does."""
    to_official: Callable[[Row, str, str], dict[str, dict[str, Any]]]
    """(row, image's file name, where) → draft → the row that it gets."""
    official_file: Callable[[str], OfficialFile]
    """The file that a draft becomes."""


class DatasetPlaces(NamedTuple):
    """Where a study has the files of a data set."""

    folder: Path
    """The data folder."""
    files: Mapping[str, str]
    """Key of `Dataset.files` → place relative to the data folder; may hold `{split}`."""
    images: str
    """The image folder, relative to the data folder, or an absolute path."""

    def file(self, key: str, split: str = "") -> str:
        """Return the place of a file, relative to the data folder."""
        return self.files[key].replace("{split}", split)

    def path(self, key: str, split: str = "") -> Path:
        """Return the path of a file.

        Raises:
            InputError: it is a link that leaves the data folder.
        """
        path = self.folder / self.file(key, split)
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(
                f"{path}: a link that leaves the data folder {self.folder}; copy the file there, "
                "or set data.folder to the folder that holds it"
            )
        return path


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set that studies can ask about."""

    name: str
    """As in `sample.splits`, and the first part of its items' ids."""
    order: int = 100
    """Place among the data sets, ascending: tasks are shown in this order."""
    tasks: tuple[str, ...]
    """What its questions can ask for. `existence` is answered by yes or no and scored as POPE is;
    answers to every other task are scored by VQA accuracy."""
    splits: tuple[str, ...] = ()
    """Names of its splits; empty: whatever the study calls them."""
    files: Mapping[str, str]
    """Key → usual place of a question file, relative to the data folder; `{split}` in it stands
    for the split. The key is that of `data.files.<name>`, such as `questions`."""
    read: "Callable[[DatasetPlaces, ImageIndex, Mapping[str, str]], Mapping[str, Reading]]"
    """(places, images, split → task for the splits that the study asks for) → split → reading.
    A split that is asked for and not in the result does not exist."""
    images: str | None = None
    """Image folder, relative to the data folder; None: that of `data.images`."""
    splits_share_questions: bool = False
    """Whether several splits read the same questions, which are then taken once."""
    archives: tuple[Archive, ...] = ()
    """Official question files; empty: they are not downloaded."""
    hub: HubColumns | None = None
    """How it is published on the hub; None: it is not read from there."""
    scene_images: str | None = None
    """Key of `data.scenes` with the number of images that its drawn stand-in has; None: the drawn
    scenes cannot stand in for it."""
    image_set: ImageSet = field(default_factory=ImageSet)
    """Its images."""
    n_images: int | None = None
    """Images that its questions are about; None: as many as there are questions."""
    question_bytes: int = 20_000_000
    """Of its question files, for the planner, before they are there."""

    @property
    def is_published(self) -> bool:
        """Whether it can be downloaded; one's own data are in the data folder already."""
        return bool(self.archives) or self.hub is not None

    def require_split(self, split: str, places: DatasetPlaces) -> None:
        """Refuse a split that is neither declared nor has a file of its own.

        Raises:
            InputError: with the nearest name and the splits that there are.
        """
        if not self.splits or split in self.splits:
            return
        keys = [key for key, name in places.files.items() if "{split}" in name]
        if keys and all((places.folder / places.file(key, split)).is_file() for key in keys):
            return
        known = unknown_name(f"split of {self.name}", split, self.splits)
        there = sorted(p.name for key in keys for p in places.folder.glob(places.file(key, "*")))
        found = f"; files there: {', '.join(there)}" if there else ""
        raise InputError(f"sample.splits: {known}{found}")
