"""Scenes as they would be published on the hub: POPE and VQA v2 in Parquet, images inside."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
