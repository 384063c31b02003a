"""Where images and questions come from."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vrp.config.folder import Folder, SplitPlace
from vrp.config.sample import DatasetName
from vrp.config.section import Section
from vrp.data.dataset import DatasetPlaces
from vrp.data.datasets import get_dataset, load_datasets
from vrp.errors import unknown_name


class ScenesConfig(Section):
    """The embedded data set: rendered scenes written in the official formats."""

    namespace: str = "demo"
    """Name from which the seeds of the scenes are derived. `zoo-train`, on which the zoo was
    trained, is refused."""
    n_pope_images: int = Field(default=400, ge=2)
    """Number of images with existence questions; each has six per split."""
    n_vqa_images: int = Field(default=600, ge=2)
    """Number of images with counting, spatial and open questions (POPE uses the first of them)."""

    @field_validator("namespace")
    @classmethod
    def _not_the_training_namespace(cls, value: str) -> str:
        if value.startswith("zoo-"):
            raise ValueError(f"namespace {value!r} belongs to the zoo's training; choose another")
        return value


class HubDatasetConfig(Section):
    """A data set on the hub, its images inside its Parquet files."""

    repository: str
    """Owner and name, such as `lmms-lab/POPE`."""
    revision: str
    """The pinned commit. A branch or tag is resolved, and its commit is recorded."""
    subset: str | None = None
    """The repository's configuration, if it has several; null: the default one."""
    split: str = "test"
    """The split of the repository that is read."""

    @field_validator("repository")
    @classmethod
    def _owner_and_name(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            raise ValueError("give owner and name, such as lmms-lab/POPE")
        return value


class DataConfig(Section):
    """Files of the official layouts, relative to the data folder."""

    origin: Literal["scenes", "local", "official", "hub"] = "scenes"
    """`scenes`: the project draws the images; `local`: the files are already in `folder`;
    `official`: `vrp fetch-data` downloads the data sets' own archives into `folder`; `hub`: it
    downloads data sets from the hub."""
    folder: Folder = "data/demo"
    """The data folder. Nothing outside it and the image folders is read."""
    scenes: ScenesConfig = ScenesConfig()
    """Used if `origin` is `scenes`."""
    official: tuple[DatasetName, ...] = Field(default=("pope", "vqa"), min_length=1)
    """The data sets that are downloaded if `origin` is `official`; of TextVQA, only `val`."""
    hub: dict[DatasetName, HubDatasetConfig] = Field(default={})
    """Used if `origin` is `hub`: the repository of each data set, with the columns in which it is
    published."""
    images: Folder = "val2014"
    """Folder of the images, flat or nested, for data sets without an image folder of their own. The
    folder is inside the data folder and may be a link; for `origin: local` it may also be an
    absolute path to shared images. It is only read."""
    files: dict[DatasetName, dict[str, SplitPlace]] = Field(default={})
    """Question files that are not at their usual paths (listed above), such as `own: {questions:
    mine.jsonl}`. `{split}` stands for the split's name; `images` is the data set's image folder."""

    @field_validator("official")
    @classmethod
    def _have_archives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not get_dataset(name).archives:
                raise ValueError(f"{name} has no official archives; leave it out")
        return value

    @field_validator("hub")
    @classmethod
    def _have_columns(cls, value: dict[str, HubDatasetConfig]) -> dict[str, HubDatasetConfig]:
        for name in value:
            if get_dataset(name).hub is None:
                raise ValueError(f"{name} is not read from the hub; leave it out")
        return value

    @field_validator("images")
    @classmethod
    def _is_inside_or_absolute(cls, value: str) -> str:
        if ".." in Path(value).parts:
            raise ValueError(f"{value!r} must be inside the data folder, or an absolute path")
        return value

    @field_validator("files")
    @classmethod
    def _are_the_data_sets_files(
        cls, value: dict[str, dict[str, str]]
    ) -> dict[str, dict[str, str]]:
        for name, files in value.items():
            known = (*get_dataset(name).files, "images")
            for key, place in files.items():
                if key not in known:
                    raise ValueError(unknown_name(f"file of {name}", key, known))
                if key == "images":
                    cls._is_inside_or_absolute(place)
                elif PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
                    raise ValueError(f"{place!r} must be a path inside the data folder")
        return value

    @model_validator(mode="after")
    def _writes_into_the_data_folder_alone(self) -> "DataConfig":
        folders = [self.images, *(own["images"] for own in self.files.values() if "images" in own)]
        absolute = [folder for folder in folders if Path(folder).is_absolute()]
        if absolute and self.origin != "local":
            raise ValueError(
                f"images in {absolute[0]!r}, outside the data folder, are read only if origin is "
                f"local; {self.origin} writes its images itself"
            )
        return self

    @model_validator(mode="after")
    def _names_what_to_fetch(self) -> "DataConfig":
        if self.origin == "hub" and not self.hub:
            keys = [f"data.hub.{found.name}" for found in load_datasets() if found.hub is not None]
            raise ValueError(
                f"origin is hub: name a repository under {', '.join(keys[:-1])} or {keys[-1]}"
            )
        return self

    def places(self, dataset: str) -> DatasetPlaces:
        """Where the files of a data set are."""
        declared = get_dataset(dataset)
        own = self.files.get(dataset, {})
        images = own.get("images") or declared.images or self.images
        return DatasetPlaces(Path(self.folder), {**declared.files, **own}, images)

    def question_files(self, splits: Iterable[tuple[str, str]]) -> list[str]:
        """The question files of splits, each (data set, split), relative to the data folder."""
        files = [
            self.places(dataset).file(key, split)
            for dataset, split in splits
            for key in get_dataset(dataset).files
        ]
        return list(dict.fromkeys(files))

    def image_folders(self, datasets: Iterable[str]) -> list[str]:
        """The image folders of data sets, relative to the data folder."""
        return list(dict.fromkeys(self.places(dataset).images for dataset in datasets))
