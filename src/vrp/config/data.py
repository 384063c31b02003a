"""Where images and questions come from."""

import re
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from vrp.config.section import Section


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


class DataConfig(Section):
    """Files of the official layouts, relative to the data folder."""

    origin: Literal["scenes", "local", "official", "hub"] = "scenes"
    """`scenes`: drawn by the project; `local`: already in `folder`; `official`: downloaded from
    the archives of COCO, VQA v2 and POPE into `folder` by `vrp fetch-data`; `hub`: likewise, from
    data sets on the hub."""
    folder: str = "data/demo"
    """The data folder; nothing outside it is ever read."""
    scenes: ScenesConfig = ScenesConfig()
    """Read where `origin` is `scenes`."""
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
    own_questions: str = "questions.jsonl"
    """Own data: JSON lines with image, question, answers and, optionally, group and task."""

    @field_validator("images", "pope_questions", "vqa_questions", "vqa_annotations")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{value!r} must be a path inside the data folder")
        return value

    @model_validator(mode="after")
    def _names_what_to_fetch(self) -> "DataConfig":
        if self.origin == "hub" and self.hub.pope is None and self.hub.vqa is None:
            raise ValueError("origin is hub: name a repository under data.hub.pope or data.hub.vqa")
        return self
