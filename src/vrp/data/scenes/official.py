"""Writes scenes as a data folder in the official layouts of POPE and VQA v2, images as COCO's."""

import importlib.metadata
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from vrp.data.scenes.annotators import annotate, majority_answer
from vrp.data.scenes.draw import Purpose, Scene, draw_scene, scene_rng, scene_seed
from vrp.data.scenes.pope_sampling import (
    OBJECTS_ASKED,
    POPE_SPLITS,
    ImageObjects,
    pope_questions,
    shuffled_objects,
)
from vrp.data.scenes.questions import (
    SceneQuestion,
    counting_questions,
    open_questions,
    spatial_questions,
)
from vrp.errors import InputError

IMAGE_FOLDER: Final = "val2014"
POPE_FILE: Final = "pope/coco_pope_{split}.json"
VQA_QUESTIONS_FILE: Final = "vqa/v2_OpenEnded_mscoco_val2014_questions.json"
VQA_ANNOTATIONS_FILE: Final = "vqa/v2_mscoco_val2014_annotations.json"
PROVENANCE_FILE: Final = "scenes.json"


class _NumberedScene(NamedTuple):
    image_id: int
    file_name: str
    scene: Scene
    in_pope: bool
    in_vqa: bool


def write_scene_dataset(
    folder: Path,
    *,
    namespace: str,
    n_pope_images: int,
    n_vqa_images: int,
) -> None:
    """Draw scenes and write images, POPE and VQA v2 files, and what they hold as `scenes.json`.

    The folder is written whole under a temporary name beside its place and then renamed. POPE
    takes images with at least three distinct categories, as the published one does; VQA shares
    its images as far as they go. Same arguments, same bytes.

    Args:
        folder: where to; a data folder written earlier by this function is replaced.
        namespace: what the scenes' seeds derive from (see `scene_seed`).
        n_pope_images: images with existence questions.
        n_vqa_images: images with counting, spatial and open questions.

    Raises:
        InputError: the folder holds files that are not a scene data set.
        ValueError: a count below 1.
    """
    if min(n_pope_images, n_vqa_images) < 1:
        raise ValueError("n_pope_images and n_vqa_images must be at least 1")
    _refuse_foreign_files(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch, "fresh")
        writer = _DatasetWriter(fresh)
        for numbered in _choose_scenes(namespace, n_pope_images, n_vqa_images):
            writer.add(numbered)
        writer.finish(namespace)
        if folder.exists():
            folder.rename(Path(scratch, "replaced"))
        fresh.rename(folder)


def _refuse_foreign_files(folder: Path) -> None:
    """Raise if replacing the folder would delete anything but an earlier scene data set."""
    if not folder.exists() or (folder / PROVENANCE_FILE).is_file():
        return
    if not folder.is_dir() or any(not path.is_dir() for path in folder.rglob("*")):
        raise InputError(
            f"{folder}: holds files but no {PROVENANCE_FILE}, so it is not a scene data set; "
            "give an empty or new folder"
        )


def _choose_scenes(
    namespace: str, n_pope_images: int, n_vqa_images: int
) -> Iterator[_NumberedScene]:
    """Yield scenes in the order of their index until both sets are full."""
    n_pope = n_vqa = n_vqa_alone = index = 0
    while n_pope < n_pope_images or n_vqa < n_vqa_images:
        scene = draw_scene(scene_seed(namespace, index))
        index += 1
        n_distinct = len({o.category for o in scene.objects})
        in_pope = n_pope < n_pope_images and n_distinct >= OBJECTS_ASKED
        alone = not in_pope and n_vqa_alone < n_vqa_images - n_pope_images
        in_vqa = n_vqa < n_vqa_images and (in_pope or alone)
        if not (in_pope or in_vqa):
            continue
        n_pope, n_vqa, n_vqa_alone = n_pope + in_pope, n_vqa + in_vqa, n_vqa_alone + alone
        name = f"COCO_val2014_{index:012d}.png"
        yield _NumberedScene(index, name, scene, in_pope, in_vqa)


class _DatasetWriter:
    """Collects the rows of every file while images are written one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_images = 0
        self.pope_images: list[ImageObjects] = []
        self.questions: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.tasks: Counter[str] = Counter()
        self.n_vqa_images = 0
        (folder / IMAGE_FOLDER).mkdir(parents=True)

    def add(self, numbered: _NumberedScene) -> None:
        """Write one image and collect its questions."""
        image_id, file_name, scene, in_pope, in_vqa = numbered
        scene.image.save(self.folder / IMAGE_FOLDER / file_name, compress_level=4)
        self.n_images += 1
        if in_pope:
            rng = scene_rng(scene.seed, Purpose.POPE)
            objects = shuffled_objects([o.category for o in scene.objects], rng)
            self.pope_images.append(ImageObjects(file_name, objects, int(rng.integers(2**63))))
        if in_vqa:
            self._add_vqa(image_id, scene)

    def _add_vqa(self, image_id: int, scene: Scene) -> None:
        self.n_vqa_images += 1
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        asked = [
            *counting_questions(scene, rng),
            *spatial_questions(scene, rng),
            *open_questions(scene, rng),
        ]
        annotators = scene_rng(scene.seed, Purpose.ANNOTATORS)
        for number, question in enumerate(asked):
            question_id = image_id * 1000 + number
            self.questions.append(
                {"image_id": image_id, "question": question.text, "question_id": question_id}
            )
            self.annotations.append(
                _vqa_annotation(question_id, image_id, question, scene, annotators)
            )
            self.tasks[question.task] += 1

    def finish(self, namespace: str) -> None:
        """Write every file but the images."""
        n_rows = 0
        for split in POPE_SPLITS:
            rows = pope_questions(self.pope_images, split)
            n_rows = len(rows)
            lines = "".join(json.dumps(row._asdict()) + "\n" for row in rows)
            self._write_text(POPE_FILE.format(split=split), lines)
        self._write_json(
            VQA_QUESTIONS_FILE,
            {**_vqa_header(), "task_type": "Open-Ended", "questions": self.questions},
        )
        self._write_json(VQA_ANNOTATIONS_FILE, {**_vqa_header(), "annotations": self.annotations})
        about = {
            "made_by": f"vrp {importlib.metadata.version('vrp')}",
            "namespace": namespace,
            "n_images": self.n_images,
            "n_pope_images": len(self.pope_images),
            "n_vqa_images": self.n_vqa_images,
            "n_pope_rows": n_rows,
            "n_counting": self.tasks["counting"],
            "n_spatial": self.tasks["spatial"],
            "n_open": self.tasks["open"],
        }
        self._write_json(PROVENANCE_FILE, about, indent=1)

    def _write_json(self, name: str, value: Any, *, indent: int | None = None) -> None:
        self._write_text(name, json.dumps(value, indent=indent) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _vqa_header() -> dict[str, Any]:
    return {
        "info": {"description": "VRP scenes in the layout of VQA v2.0", "version": "2.0"},
        "data_type": "mscoco",
        "data_subtype": IMAGE_FOLDER,
        "license": {"url": "https://opensource.org/license/mit", "name": "MIT License"},
    }


def _vqa_annotation(
    question_id: int,
    image_id: int,
    question: SceneQuestion,
    scene: Scene,
    rng: np.random.Generator,
) -> dict[str, Any]:
    answers = annotate(question, scene, rng)
    return {
        "question_type": question.question_type,
        "multiple_choice_answer": majority_answer(answers),
        "answers": [answer._asdict() for answer in answers],
        "image_id": image_id,
        "answer_type": question.answer_type,
        "question_id": question_id,
    }
