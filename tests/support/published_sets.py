"""Data sets as they are published on the hub: POPE, VQA v2 and TextVQA in Parquet, with images."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vrp.data.scenes.official import (
    IMAGE_FOLDER,
    POPE_FILE,
    VQA_ANNOTATIONS_FILE,
    VQA_QUESTIONS_FILE,
)

POPE_CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: test
    path: data/test-*
- config_name: Full
  data_files:
  - split: adversarial
    path: Full/adversarial-*
---
# Scenes in the columns of lmms-lab/POPE
"""
VQA_CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: validation
    path: data/validation-*
---
# Scenes in the columns of lmms-lab/VQAv2
"""
TEXTVQA_CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: validation
    path: data/validation-*
  - split: test
    path: data/test-*
---
# Words in the columns of lmms-lab/textvqa
"""
Rows = list[dict[str, Any]]


def publish_pope(scenes: Path, *, parts: int = 3) -> dict[str, bytes]:
    """Path → content of a repository in the columns of lmms-lab/POPE.

    Args:
        scenes: a folder written by `write_scene_dataset`.
        parts: Parquet files that the rows are cut into.
    """
    rows = pope_rows(scenes)
    files = parquet_files("data/test", rows, _pope_features, parts)
    adversarial = [row for row in rows if row["category"] == "adversarial"]
    files |= parquet_files("Full/adversarial", adversarial, _pope_features, 1)
    return {"README.md": POPE_CARD, **files}


def publish_vqa(scenes: Path, *, parts: int = 3) -> dict[str, bytes]:
    """Path → content of a repository in the columns of lmms-lab/VQAv2, likewise."""
    files = parquet_files("data/validation", vqa_rows(scenes), _vqa_features, parts)
    return {"README.md": VQA_CARD, **files}


def publish_textvqa(rows: Rows, *, parts: int = 2) -> dict[str, bytes]:
    """Path → content of a repository in the columns of lmms-lab/textvqa.

    Args:
        rows: of `textvqa_rows`.
        parts: Parquet files that the rows of each set are cut into.
    """
    files = {"README.md": TEXTVQA_CARD}
    for split, name in (("validation", "val"), ("test", "test")):
        of_split = [row for row in rows if row["set_name"] == name]
        files |= parquet_files(f"data/{split}", of_split, _textvqa_features, parts)
    return files


def textvqa_rows(n: int = 8) -> Rows:
    """Questions about a few drawn pictures, two of each; and one without answers, of the test."""
    rows: Rows = [
        {
            "image_id": f"{i // 2:016x}",
            "question_id": 34602 + i,
            "question": f"what is word {i}?",
            "question_tokens": ["what", "is", "word", str(i)],
            "image": {"bytes": _picture(i // 2), "path": None},
            "image_width": 12,
            "image_height": 8,
            "flickr_original_url": f"https://example.org/{i // 2}_o.jpg",
            "flickr_300k_url": f"https://example.org/{i // 2}_z.jpg",
            "answers": [f"word {i}"] * 6 + ["stop"] * 4,
            "image_classes": ["Sign"],
            "set_name": "val",
            "ocr_tokens": ["STOP"],
        }
        for i in range(n)
    ]
    return [*rows, {**rows[0], "question_id": 39602, "answers": [], "set_name": "test"}]


def _picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (12, 8), (40 * shade, 90, 90)).save(content, "JPEG")
    return content.getvalue()


def pope_rows(scenes: Path) -> Rows:
    """Every line of the three POPE files."""
    rows: Rows = []
    for category in ("adversarial", "popular", "random"):
        lines = (scenes / POPE_FILE.format(split=category)).read_text().splitlines()
        for line in map(json.loads, lines):
            rows.append(
                {
                    "id": str(len(rows)),
                    "question_id": str(line["question_id"]),
                    "question": line["text"],
                    "answer": line["label"],
                    "image_source": Path(line["image"]).stem,
                    "image": image(scenes, line["image"]),
                    "category": category,
                }
            )
    return rows


def vqa_rows(scenes: Path) -> Rows:
    """Every VQA question beside its annotation."""
    questions = json.loads((scenes / VQA_QUESTIONS_FILE).read_text())["questions"]
    annotations = json.loads((scenes / VQA_ANNOTATIONS_FILE).read_text())["annotations"]
    return [
        {
            **annotation,
            "question": question["question"],
            "image": image(scenes, f"COCO_val2014_{question['image_id']:012d}.png"),
        }
        for question, annotation in zip(questions, annotations, strict=True)
    ]


def image(scenes: Path, name: str) -> dict[str, Any]:
    """An image as Parquet holds it."""
    return {"bytes": (scenes / IMAGE_FOLDER / name).read_bytes(), "path": name}


def parquet_files(
    place: str, rows: Rows, features: Callable[[], Any], parts: int
) -> dict[str, bytes]:
    """Rows as Parquet files, with the hub's names."""
    size = -(-len(rows) // parts)
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    return {
        f"{place}-{number:05d}-of-{len(cut):05d}.parquet": parquet(part, features())
        for number, part in enumerate(cut)
    }


def parquet(rows: Sequence[dict[str, Any]], features: Any = None) -> bytes:
    """Rows as one Parquet file, as `datasets` writes it for the hub."""
    import datasets

    content = io.BytesIO()
    datasets.Dataset.from_list(list(rows), features=features).to_parquet(content)
    return content.getvalue()


def _pope_features() -> Any:
    import datasets

    text = ("id", "question_id", "question", "answer", "image_source", "category")
    return datasets.Features(
        {**{name: datasets.Value("string") for name in text}, "image": datasets.Image()}
    )


def _vqa_features() -> Any:
    import datasets

    text, number = datasets.Value("string"), datasets.Value("int64")
    return datasets.Features(
        {
            "question_type": text,
            "multiple_choice_answer": text,
            "answers": [{"answer": text, "answer_confidence": text, "answer_id": number}],
            "image_id": number,
            "answer_type": text,
            "question_id": number,
            "question": text,
            "image": datasets.Image(),
        }
    )


def _textvqa_features() -> Any:
    import datasets

    text, number = datasets.Value("string"), datasets.Value("int32")
    features = {
        "image_id": text,
        "question_id": number,
        "question": text,
        "question_tokens": datasets.List(text),
        "image": datasets.Image(),
        "image_width": number,
        "image_height": number,
        "flickr_original_url": text,
        "flickr_300k_url": text,
        "answers": datasets.List(text),
        "image_classes": datasets.List(text),
        "set_name": text,
        "ocr_tokens": datasets.List(text),
    }
    return datasets.Features(features)
