"""Where images and questions come from."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vrp.config.section import Folder, Section


class ScenesConfig(Section):
    """The embedded data set: rendered scenes written in the official formats."""

    namespace: str = "demo"
    """Seeds derive from it; the zoo was trained on `zoo-train`, which is refused here."""
    n_pope_images: int = Field(default=400, ge=2)
    """Images with existence questions, six a split."""
    n_vqa_images: int = Field(default=600, ge=2)
    """Images with counting, spatial and open questions (the first ones are also POPE's)."""

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
    """The pinned commit; a branch or tag is followed and the commit recorded."""
    subset: str | None = None
    """The repository's configuration, where it has several; null: its default one."""
    split: str = "test"
    """Which of its splits is read."""

    @field_validator("repository")
    @classmethod
    def _owner_and_name(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", value):
            raise ValueError("give owner and name, such as lmms-lab/POPE")
        return value


class HubConfig(Section):
    """Data sets on the hub, in the columns in which they are published."""

    pope: HubDatasetConfig | None = None
    """Columns question_id, question, answer, category, image and, where it is there, image_source;
    such as `lmms-lab/POPE`."""
    vqa: HubDatasetConfig | None = None
    """Columns question_id, question, image_id, answers, answer_type, image; such as
    `lmms-lab/VQAv2`, whose split is `validation`."""
    textvqa: HubDatasetConfig | None = None
    """Columns question_id, question, image_id, answers, set_name, image; such as
    `lmms-lab/textvqa`, whose splits with answers are `train` and `validation`."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Which data sets have a repository."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


class DataConfig(Section):
    """Files of the official layouts, relative to the data folder."""

    origin: Literal["scenes", "local", "official", "hub"] = "scenes"
    """`scenes`: drawn by the project; `local`: already in `folder`; `official`: downloaded from
    the archives of COCO, VQA v2, POPE and TextVQA into `folder` by `vrp fetch-data`; `hub`:
    likewise, from data sets on the hub."""
    folder: Folder = "data/demo"
    """The data folder; nothing outside it is ever read."""
    scenes: ScenesConfig = ScenesConfig()
    """Read where `origin` is `scenes`."""
    official: tuple[Literal["pope", "vqa", "textvqa"], ...] = Field(
        default=("pope", "vqa"), min_length=1
    )
    """Read where `origin` is `official`: which data sets are downloaded; of TextVQA its `val`."""
    hub: HubConfig = HubConfig()
    """Read where `origin` is `hub`."""
    images: str = "val2014"
    """Folder of the images, flat or nested."""
    pope_questions: str = "pope/coco_pope_{split}.json"
    """POPE question files, JSON lines; `{split}` is random, popular or adversarial."""
    vqa_questions: str = "vqa/v2_OpenEnded_mscoco_val2014_questions.json"
    """VQA v2 questions in the official layout."""
    vqa_annotations: str = "vqa/v2_mscoco_val2014_annotations.json"
    """VQA v2 annotations in the official layout."""
    textvqa_questions: str = "textvqa/TextVQA_0.5.1_{split}.json"
    """TextVQA questions with their answers in the official layout; `{split}` is train or val."""
    textvqa_images: str = "train_images"
    """Folder of TextVQA's images, flat or nested; its archive holds train's and val's in one."""
    own_questions: str = "questions.jsonl"
    """Own data: JSON lines with image, question, answers and, optionally, group and task."""

    @field_validator(
        "images", "pope_questions", "vqa_questions", "vqa_annotations", "textvqa_questions",
        "textvqa_images", "own_questions",
    )  # fmt: skip
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{value!r} must be a path inside the data folder")
        return value

    @field_validator("pope_questions", "textvqa_questions")
    @classmethod
    def _names_its_split(cls, value: str) -> str:
        if set("{}") & set(value.replace("{split}", "")):
            raise ValueError(f"{value!r} may hold no braces but {{split}}, the split's name")
        return value

    @model_validator(mode="after")
    def _names_what_to_fetch(self) -> "DataConfig":
        if self.origin == "hub" and not self.hub.datasets:
            raise ValueError(
                "origin is hub: name a repository under data.hub.pope, data.hub.vqa or "
                "data.hub.textvqa"
            )
        return self

    def question_files(self, splits: Iterable[tuple[str, str]]) -> list[str]:
        """The question files of splits, each (data set, split), relative to the data folder."""
        files: dict[str, None] = {}
        for dataset, split in splits:
            match dataset:
                case "pope":
                    files[self.pope_questions.format(split=split)] = None
                case "vqa":
                    files |= dict.fromkeys((self.vqa_questions, self.vqa_annotations))
                case "textvqa":
                    files[self.textvqa_questions.format(split=split)] = None
                case "own":
                    files[self.own_questions] = None
        return list(files)

    def image_folders(self, datasets: Iterable[str]) -> list[str]:
        """The image folders of data sets, relative to the data folder."""
        return list(dict.fromkeys(self.image_folder(dataset) for dataset in datasets))

    def image_folder(self, dataset: str) -> str:
        """The image folder of a data set, relative to the data folder."""
        return self.textvqa_images if dataset == "textvqa" else self.images
