"""A small study on disk: images, items, a manifest, and all stages that run a model."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mask_rows import mask_rows
from PIL import Image
from stage_jobs import Files, run_job

from vrp.config.ablate import AblateConfig
from vrp.config.consistency import ConsistencyConfig
from vrp.config.data import DataConfig
from vrp.config.extract import ExtractConfig
from vrp.config.mask import MaskConfig
from vrp.config.models import ModelConfig
from vrp.config.trace import TraceConfig
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table

SIZES = [(48, 48), (64, 48), (40, 56), (48, 48)]
ASKED = [
    ("pope", "existence", "Is there a red car in the image?", ["yes"], "yes"),
    ("vqa", "counting", "How many dogs are there?", ["2"] * 9 + ["3"], "2"),
    ("vqa", "spatial", "What is left of the cup?", ["cat"] * 10, "cat"),
    ("pope", "existence", "Is there a blue lamp?", ["no"], "no"),
    ("vqa", "open", "What color is the big object on top of the other thing?", ["red"] * 10, "red"),
]
Asked = tuple[str, str, str, list[str], str]


def write_images(
    folder: Path, n: int, sizes: Sequence[tuple[int, int]] = tuple(SIZES)
) -> list[tuple[str, str]]:
    """Write images of coloured blocks; return path and SHA-256 of each."""
    written = []
    (folder / "val").mkdir(parents=True, exist_ok=True)
    for index in range(n):
        colours = np.random.default_rng(index).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        size = sizes[index % len(sizes)]
        path = folder / "val" / f"{index:03d}.png"
        Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(path)
        written.append((f"val/{path.name}", hashlib.sha256(path.read_bytes()).hexdigest()))
    return written


def write_items(
    path: Path, images: list[tuple[str, str]], n: int, asked: Sequence[Asked] = tuple(ASKED)
) -> None:
    """Write items that go round the questions and images; groups are images."""
    rows = []
    for index in range(n):
        dataset, task, question, answers, reference = asked[index % len(asked)]
        image, digest = images[(index * 7) % len(images)]
        rows.append(
            {
                "item_id": f"{dataset}/{task}/{index}", "dataset": dataset, "split": task,
                "task": task, "group": digest, "image": image, "image_sha256": digest,
                "question_id": str(index), "question": question, "answers": answers,
                "reference": reference,
            }
        )  # fmt: skip
    write_table(path, ITEMS, pl.DataFrame(rows), provenance={})


@dataclass
class SmallStudy:
    """Paths and settings of a study; every method runs one stage and returns its outputs."""

    folder: Path
    checkpoint: Path
    family: str
    n_items: int = 13
    n_images: int = 6
    asked: Sequence[Asked] = tuple(ASKED)
    sizes: Sequence[tuple[int, int]] = tuple(SIZES)
    max_new_tokens: int = 3
    provenance: dict[str, str] = field(default_factory=lambda: {"study": "t", "model": "tiny"})

    def __post_init__(self) -> None:
        self.data = DataConfig(origin="local", folder=str(self.folder / "data"))
        self.items = self.folder / "items.parquet"
        images = write_images(Path(self.data.folder), self.n_images, self.sizes)
        write_items(self.items, images, self.n_items, self.asked)
        self.model = ModelConfig(family=self.family, checkpoint=str(self.checkpoint), device="cpu")
        self.manifest = self.folder / "model.json"
        run_job("fetch_model", {"manifest": self.manifest}, model=self.model)

    def read_items(self) -> pl.DataFrame:
        return read_table(self.items, ITEMS)

    def path(self, table: str, shard: int) -> Path:
        return self.folder / table / f"{shard:03d}.parquet"

    def run(self, stage: str, files: Files, *, shard: int = 0, **sections: Any) -> None:
        sections.setdefault("extract", ExtractConfig(max_new_tokens=self.max_new_tokens))
        run_job(
            stage,
            {"manifest": self.manifest, "items": self.items, **files},
            model=self.model,
            shard=shard,
            provenance=self.provenance,
            seed=5,
            data=self.data,
            **sections,
        )

    def extract(self, *, shard: int = 0, name: str = "extract", **config: Any) -> dict[str, Path]:
        tables = ("answers", "attention", "hidden", "lens")
        outputs = {table: self.path(f"{name}/{table}", shard) for table in tables}
        settings = ExtractConfig(**{"max_new_tokens": self.max_new_tokens, **config})
        self.run("extract", outputs, shard=shard, extract=settings)
        return outputs

    def blind(self, *, shard: int = 0, name: str = "blind", **config: Any) -> dict[str, Path]:
        tables = ("blind/answers", "blind/hidden", "blind_scores")
        outputs = {table: self.path(f"{name}/{table}", shard) for table in tables}
        settings = ExtractConfig(**{"max_new_tokens": self.max_new_tokens, **config})
        answers = self.path("extract/answers", shard)
        if not answers.exists():
            self.extract(shard=shard, **config)
        self.run("blind", {**outputs, "answers": answers}, shard=shard, extract=settings)
        return {table.removeprefix("blind/"): path for table, path in outputs.items()}

    def p_true(self, answers: Path, *, shard: int = 0, name: str = "p_true") -> Path:
        output = self.path(name, shard)
        self.run("p_true", {"p_true": output, "answers": answers}, shard=shard)
        return output

    def consistency(
        self, *, shard: int = 0, n_shards: int = 1, name: str = "consistency", **config: Any
    ) -> Path:
        output = self.path(name, shard)
        self.run(
            "consistency", {"consistency": output}, shard=shard,
            consistency=ConsistencyConfig(**config),
            extract=ExtractConfig(shards=n_shards, max_new_tokens=self.max_new_tokens),
        )  # fmt: skip
        return output

    def mask(
        self, answers: list[Path], attention: list[Path], *, shard: int = 0, name: str = "mask",
        **config: Any,
    ) -> Path:  # fmt: skip
        """Mask with `conditions`, or with the rows that keywords of `mask_rows` make."""
        output = self.path(name, shard)
        boxes = config.pop("boxes", [])
        files = {"answers": answers, "attention": attention, "boxes": boxes, "mask": output}
        fields = {key: config.pop(key) for key in MaskConfig.model_fields if key in config}
        fields.setdefault("conditions", mask_rows(**config))
        self.run("mask", files, shard=shard, mask=MaskConfig(**fields))
        return output

    def trace(self, answers: Path, *, shard: int = 0, name: str = "trace", **config: Any) -> Path:
        output = self.path(name, shard)
        files = {"answers": answers, "trace": output}
        self.run("trace", files, shard=shard, trace=TraceConfig(**config))
        return output

    def ablate(
        self, answers: list[Path], predictions: Path, neurons: Path, *, shard: int = 0,
        name: str = "ablate", **config: Any,
    ) -> Path:  # fmt: skip
        output = self.path(name, shard)
        files = {
            "answers": answers, "predictions": predictions, "neurons": neurons, "ablate": output,
        }  # fmt: skip
        self.run("ablate", files, shard=shard, ablate=AblateConfig(**config))
        return output


@pytest.fixture
def small_study(tmp_path: Path, tiny_checkpoint: Any) -> Callable[..., SmallStudy]:
    """Family → a small study of a tiny random model."""

    def study(family: str = "llava", **changes: Any) -> SmallStudy:
        folder = tmp_path / family
        folder.mkdir(exist_ok=True)
        checkpoint = changes.pop("checkpoint", None) or tiny_checkpoint(family)
        return SmallStudy(folder, checkpoint, family, **changes)

    return study
