"""Writes scenes as a data folder in the official layouts of POPE, VQA v2 and COCO."""

import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from vrp import __version__
from vrp.data.datasets.pope import POPE_SPLITS
from vrp.data.object_boxes import INSTANCES_FILE
from vrp.data.scenes.annotators import annotate
from vrp.data.scenes.draw import (
    CATEGORIES,
    Purpose,
    Scene,
    draw_scene,
    scene_rng,
    scene_seed,
)
from vrp.data.scenes.pope_sampling import OBJECTS_ASKED, ImageObjects, image_objects, pope_questions
from vrp.data.scenes.questions import counting_questions, open_questions, spatial_questions
from vrp.data.scoring import majority_answer
from vrp.errors import InputError
from vrp.tables.atomic_files import write_text

IMAGE_FOLDER: Final = "val2014"
POPE_FILE: Final = "pope/coco_pope_{split}.json"
VQA_QUESTIONS_FILE: Final = "vqa/v2_OpenEnded_mscoco_val2014_questions.json"
VQA_ANNOTATIONS_FILE: Final = "vqa/v2_mscoco_val2014_annotations.json"
PROVENANCE_FILE: Final = "scenes.json"
_OWN_FILES: Final = {
    PROVENANCE_FILE, VQA_QUESTIONS_FILE, VQA_ANNOTATIONS_FILE, INSTANCES_FILE,
    *(POPE_FILE.format(split=split) for split in POPE_SPLITS),
}  # fmt: skip
_ASKED_OF_VQA: Final = (counting_questions, spatial_questions, open_questions)
_OWN_IMAGE: Final = re.compile(rf"{IMAGE_FOLDER}/COCO_val2014_\d{{12}}\.png")


_LICENSE: Final = {"url": "https://opensource.org/license/mit", "name": "MIT License"}
_VQA_HEADER: Final = {
    "info": {"description": "VRP scenes in the layout of VQA v2.0", "version": "2.0"},
    "data_type": "mscoco",
    "data_subtype": IMAGE_FOLDER,
    "license": _LICENSE,
}


_CATEGORY_ID: Final = {name: number for number, name in enumerate(CATEGORIES, start=1)}
_INSTANCES_HEADER: Final = {
    "info": {"description": "VRP scenes in the layout of COCO's instances", "version": "1.0"},
    "licenses": [{"id": 1, **_LICENSE}],
    "categories": [{"id": number, "name": name} for name, number in _CATEGORY_ID.items()],
}

_NumberedScene = tuple[int, Scene, bool, bool]
"""Image id; what it shows; whether POPE, and whether VQA, asks about it."""


def write_scene_dataset(
    folder: Path, *, namespace: str, n_pope_images: int, n_vqa_images: int
) -> None:
    """Draw scenes and write images, POPE and VQA v2 files, and what they hold as `scenes.json`.

    The folder is written whole under a temporary name beside its place and then renamed. POPE
    takes images with at least three distinct categories, as the published one does; VQA shares
    its images as far as they go. Same arguments, same bytes.

    Args:
        folder: where to; a data folder written earlier by this function is replaced.
        namespace: what the scenes' seeds derive from (see `scene_seed`).

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
        scenes = _choose_scenes(namespace, n_pope_images, n_vqa_images)
        _write_folder(fresh, namespace, scenes)
        if folder.exists():
            folder.rename(Path(scratch, "replaced"))
        fresh.rename(folder)


def _refuse_foreign_files(folder: Path) -> None:
    """Raise if replacing the folder would delete anything but an earlier scene data set."""
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    if folder.is_file() or (files and not (folder / PROVENANCE_FILE).is_file()):
        raise InputError(
            f"{folder}: holds files but no {PROVENANCE_FILE}, so it is not a scene data set; "
            "give an empty or new folder"
        )
    for name in (path.relative_to(folder).as_posix() for path in files):
        if name not in _OWN_FILES and not _OWN_IMAGE.fullmatch(name):
            raise InputError(
                f"{folder / name}: is none of the scenes' files, which are drawn anew; move it "
                "to another folder, or set data.origin: local to use what is there"
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
        yield index, scene, in_pope, in_vqa


def _write_folder(folder: Path, namespace: str, scenes: Iterable[_NumberedScene]) -> None:
    """Write images one by one, then the files that are about them."""
    (folder / IMAGE_FOLDER).mkdir(parents=True)
    n_images = n_vqa_images = n_rows = 0
    pope_images: list[ImageObjects] = []
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    tasks: Counter[str] = Counter()
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for image_id, scene, in_pope, in_vqa in scenes:
        file_name = f"COCO_val2014_{image_id:012d}.png"
        scene.image.save(folder / IMAGE_FOLDER / file_name, compress_level=4)
        width, height = scene.image.size
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        instances += _instances(image_id, scene)
        n_images += 1
        n_vqa_images += in_vqa
        if in_pope:
            pope_images.append(image_objects(file_name, scene))
        annotators = scene_rng(scene.seed, Purpose.ANNOTATORS)
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        asked_of_it = (asks(scene, rng) for asks in _ASKED_OF_VQA if in_vqa)
        for number, asked in enumerate(itertools.chain.from_iterable(asked_of_it)):
            question_id = image_id * 1000 + number
            questions.append(
                {"image_id": image_id, "question": asked.text, "question_id": question_id}
            )
            answers = annotate(asked, scene, annotators)
            annotations.append(
                {
                    "question_type": asked.question_type,
                    "multiple_choice_answer": majority_answer([a.answer for a in answers]),
                    "answers": [answer._asdict() for answer in answers],
                    "image_id": image_id,
                    "answer_type": asked.answer_type,
                    "question_id": question_id,
                }
            )
            tasks[asked.task] += 1
    for split in POPE_SPLITS:
        rows = pope_questions(pope_images, split)
        n_rows = len(rows)
        lines = "".join(json.dumps(row._asdict()) + "\n" for row in rows)
        write_text(folder / POPE_FILE.format(split=split), lines)
    about = {
        "made_by": f"vrp {__version__}",
        "namespace": namespace,
        "n_images": n_images,
        "n_pope_images": len(pope_images),
        "n_vqa_images": n_vqa_images,
        "n_pope_rows": n_rows,
        **{f"n_{task}": tasks[task] for task in ("counting", "spatial", "open")},
    }
    asked_file = {**_VQA_HEADER, "task_type": "Open-Ended", "questions": questions}
    write_text(folder / VQA_QUESTIONS_FILE, json.dumps(asked_file) + "\n")
    answers_file = {**_VQA_HEADER, "annotations": annotations}
    write_text(folder / VQA_ANNOTATIONS_FILE, json.dumps(answers_file) + "\n")
    known = {**_INSTANCES_HEADER, "images": images, "annotations": instances}
    write_text(folder / INSTANCES_FILE, json.dumps(known) + "\n")
    write_text(folder / PROVENANCE_FILE, json.dumps(about, indent=1) + "\n")


def _instances(image_id: int, scene: Scene) -> list[dict[str, Any]]:
    """Objects of a scene as rows of COCO's annotations; boxes and areas of what is seen of them."""
    rows = []
    for number, seen in enumerate(scene.objects):
        left, top, right, bottom = seen.box
        rows.append(
            {
                "id": image_id * 1000 + number,
                "image_id": image_id,
                "category_id": _CATEGORY_ID[seen.category],
                "bbox": [left, top, right - left, bottom - top],
                "area": int((scene.instance_map == number).sum()),
                "iscrowd": 0,
            }
        )
    return rows
