"""Writes scenes as a data folder in the official layouts of COCO, POPE and VQA v2."""

import importlib.metadata
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from vrp.data.scenes.annotators import annotate, majority_answer
from vrp.data.scenes.draw import CATEGORIES, Purpose, Scene, draw_scene, scene_rng, scene_seed
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
INSTANCES_FILE: Final = "annotations/instances_val2014.json"
POPE_FILE: Final = "pope/coco_pope_{split}.json"
VQA_QUESTIONS_FILE: Final = "vqa/v2_OpenEnded_mscoco_val2014_questions.json"
VQA_ANNOTATIONS_FILE: Final = "vqa/v2_mscoco_val2014_annotations.json"
PROVENANCE_FILE: Final = "scenes.json"

_LICENSE: Final = {"id": 1, "name": "MIT License", "url": "https://opensource.org/license/mit"}
_SUPERCATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "vehicle": ("car", "boat"),
    "animal": ("fish",),
    "outdoor": ("house", "tree"),
    "sports": ("kite", "ball"),
    "accessory": ("umbrella",),
    "kitchen": ("cup", "bottle"),
    "indoor": ("clock", "book"),
    "furniture": ("chair", "lamp"),
}


class SceneDatasetCounts(NamedTuple):
    """What a written data folder holds."""

    n_images: int
    """Images in all."""
    n_pope_images: int
    """Images with POPE questions, six in each split."""
    n_vqa_images: int
    """Images with VQA questions; the smaller of the two sets is part of the other."""
    n_pope_rows: int
    """Rows of each POPE file."""
    n_counting: int
    """VQA questions that ask for a count."""
    n_spatial: int
    """VQA questions that state a spatial relation."""
    n_open: int
    """VQA questions about colours and places."""


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
    n_pope_images: int = 500,
    n_vqa_images: int = 700,
    seed: int = 0,
) -> SceneDatasetCounts:
    """Draw scenes and write images, COCO instances, POPE and VQA v2 files.

    The folder is written whole under a temporary name beside its place and then renamed. POPE
    takes images with at least three distinct categories, as the published one does; VQA shares
    its images as far as they go. Same arguments, same bytes.

    Args:
        folder: where to; a data folder written earlier by this function is replaced.
        namespace: what the scenes' seeds derive from (see `scene_seed`).
        n_pope_images: images with existence questions.
        n_vqa_images: images with counting, spatial and open questions.
        seed: another value gives other questions and annotators about the same images.

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
        writer = _DatasetWriter(fresh, seed)
        for numbered in _choose_scenes(namespace, n_pope_images, n_vqa_images):
            writer.add(numbered)
        counts = writer.finish(namespace)
        if folder.exists():
            folder.rename(Path(scratch, "replaced"))
        fresh.rename(folder)
    return counts


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

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.images: list[dict[str, Any]] = []
        self.instances: list[dict[str, Any]] = []
        self.pope_images: list[ImageObjects] = []
        self.questions: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.tasks: Counter[str] = Counter()
        self.n_vqa_images = 0
        (folder / IMAGE_FOLDER).mkdir(parents=True)

    def _rng(self, scene: Scene, purpose: Purpose) -> np.random.Generator:
        return scene_rng(scene.seed, purpose, self.seed)

    def add(self, numbered: _NumberedScene) -> None:
        """Write one image and collect its instances and questions."""
        image_id, file_name, scene, in_pope, in_vqa = numbered
        scene.image.save(self.folder / IMAGE_FOLDER / file_name, compress_level=4)
        self.images.append(_coco_image(image_id, file_name, scene))
        for index in range(len(scene.objects)):
            self.instances.append(_coco_instance(len(self.instances) + 1, image_id, scene, index))
        if in_pope:
            rng = self._rng(scene, Purpose.POPE)
            objects = shuffled_objects([o.category for o in scene.objects], rng)
            self.pope_images.append(ImageObjects(file_name, objects, int(rng.integers(2**63))))
        if in_vqa:
            self._add_vqa(image_id, scene)

    def _add_vqa(self, image_id: int, scene: Scene) -> None:
        self.n_vqa_images += 1
        rng = self._rng(scene, Purpose.QUESTIONS)
        asked = [
            *counting_questions(scene, rng),
            *spatial_questions(scene, rng),
            *open_questions(scene, rng),
        ]
        annotators = self._rng(scene, Purpose.ANNOTATORS)
        for number, question in enumerate(asked):
            question_id = image_id * 1000 + number
            self.questions.append(
                {"image_id": image_id, "question": question.text, "question_id": question_id}
            )
            self.annotations.append(
                _vqa_annotation(question_id, image_id, question, scene, annotators)
            )
            self.tasks[question.task] += 1

    def finish(self, namespace: str) -> SceneDatasetCounts:
        """Write every file but the images, and say what there is."""
        self._write_json(INSTANCES_FILE, _coco_file(self.images, self.instances))
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
        counts = SceneDatasetCounts(
            n_images=len(self.images),
            n_pope_images=len(self.pope_images),
            n_vqa_images=self.n_vqa_images,
            n_pope_rows=n_rows,
            n_counting=self.tasks["counting"],
            n_spatial=self.tasks["spatial"],
            n_open=self.tasks["open"],
        )
        version = importlib.metadata.version("vrp")
        about = {"made_by": f"vrp {version}", "namespace": namespace, "seed": self.seed}
        self._write_json(PROVENANCE_FILE, {**about, **counts._asdict()}, indent=1)
        return counts

    def _write_json(self, name: str, value: Any, *, indent: int | None = None) -> None:
        self._write_text(name, json.dumps(value, indent=indent) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _coco_image(image_id: int, file_name: str, scene: Scene) -> dict[str, Any]:
    width, height = scene.image.size
    return {
        "id": image_id,
        "file_name": file_name,
        "width": width,
        "height": height,
        "license": _LICENSE["id"],
    }


def _coco_instance(instance_id: int, image_id: int, scene: Scene, index: int) -> dict[str, Any]:
    """Return the COCO annotation of one object: its visible part."""
    o = scene.objects[index]
    seen = scene.instance_map == index
    x0, y0, x1, y1 = o.box
    return {
        "id": instance_id,
        "image_id": image_id,
        "category_id": CATEGORIES.index(o.category) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(seen.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(seen.shape), "counts": run_lengths(seen)},
        "attributes": {"color": o.color, "visible_share": round(o.visible_share, 4)},
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return COCO's uncompressed run-length code of a mask (height, width), dtype bool.

    Lengths of alternating runs of 0 and 1 down the columns, beginning with 0.
    """
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def _coco_file(images: list[dict[str, Any]], instances: list[dict[str, Any]]) -> dict[str, Any]:
    groups = {name: group for group, names in _SUPERCATEGORIES.items() for name in names}
    categories = [
        {"id": number, "name": name, "supercategory": groups[name]}
        for number, name in enumerate(CATEGORIES, start=1)
    ]
    return {
        "info": {"description": "VRP scenes in COCO's layout", "version": "1.0"},
        "licenses": [_LICENSE],
        "images": images,
        "annotations": instances,
        "categories": categories,
    }


def _vqa_header() -> dict[str, Any]:
    return {
        "info": {"description": "VRP scenes in the layout of VQA v2.0", "version": "2.0"},
        "data_type": "mscoco",
        "data_subtype": IMAGE_FOLDER,
        "license": {"url": _LICENSE["url"], "name": _LICENSE["name"]},
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
