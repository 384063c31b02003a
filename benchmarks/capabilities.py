"""Which readings and interventions work with which model classes, found by running each.

    python benchmarks/capabilities.py

For each class a checkpoint with random weights is saved and loaded as any other, and every stage
that runs a model is run on a few items, once for each thing that it can read or do. A reading works
if the stage succeeds and its table holds values; otherwise the reason is recorded.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
from hardware import hardware
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from vrp.errors import InputError
from vrp.vlm.families import auto

ROOT = Path(__file__).parents[1]
Reading = Callable[[Any], None]
"""Runs a stage on a small study; raises where what it should read is not there."""
RESULT = Path(__file__).parent / "results" / "capabilities.json"
sys.path.insert(0, str(ROOT / "tests" / "support"))


def _module(place: str) -> ModuleType:
    """The module of tests that has the tiny checkpoints, or the small study."""
    spec = importlib.util.spec_from_file_location(Path(place).stem, ROOT / "tests" / place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TINY, AUTO, SMALL, STAGES = map(
    _module,
    ("vlm/conftest.py", "vlm/test_vlm_auto.py", "stages/conftest.py",
     "stages/test_model_stages.py"),
)  # fmt: skip
AUTO.WINDOW = 512  # Gemma 3 looks back as far as its published checkpoints do: over a whole prompt
CLASSES = {
    "LLaVA-1.5": ("llava", TINY.save_checkpoint, "llava"),
    "PaliGemma": ("paligemma", TINY.save_checkpoint, "paligemma"),
    "Qwen2-VL": ("qwen2_vl", TINY.save_checkpoint, "qwen2_vl"),
    "Qwen2.5-VL": ("auto", AUTO.save_checkpoint, "qwen2_5_vl"),
    "Idefics3": ("auto", AUTO.save_checkpoint, "idefics3"),
    "Gemma 3": ("auto", AUTO.save_checkpoint, "gemma3"),
    "InternVL": ("auto", AUTO.save_checkpoint, "internvl"),
}
"""Model class → family that reads it, what saves a checkpoint of it, and its name there."""


def _require(path: Path, column: str = "answer", **only: str) -> None:
    """Stop where a table has no value in a column, of the rows that are asked for."""
    if pl.read_parquet(path).filter(**only)[column].drop_nulls().is_empty():
        raise ValueError(f"no {column}")


def _captured(table: str, column: str, *capture: str) -> Reading:
    def read(study: Any) -> None:
        _require(study.extract(name=f"only_{column}", capture=capture)[table], column)

    return read


def _sampled(column: str) -> Reading:
    return lambda study: _require(study.consistency(name=f"of_{column}", k=3), column)


def _masked(name: str, **row: Any) -> Reading:
    def read(study: Any) -> None:
        tables = [[study.path(f"extract/{table}", 0)] for table in ("answers", "attention")]
        _require(
            study.mask(*tables, name=name, conditions=[row], items=4),
            condition=name,
        )

    return read


def _ablated(name: str, **row: Any) -> Reading:
    def read(study: Any) -> None:
        probes = STAGES.write_probes(study)
        answers = [study.path("extract/answers", 0)]
        output = study.ablate(answers, *probes, name=name, conditions=[row], items=4)
        rows = pl.read_parquet(output).filter(pl.col("condition") != "sham")
        if rows["answer"].drop_nulls().is_empty():
            raise ValueError("no answer")

    return read


def _traced(kind: str) -> Reading:
    def read(study: Any) -> None:
        answers = study.path("extract/answers", 0)
        _require(study.trace(answers, name=f"trace_{kind}", items=4), "margin", kind=kind)

    return read


READINGS: Mapping[str, Reading] = {
    "attention to the image": _captured("attention", "maps", "attention"),
    "H_s and C_k of every head": _captured("attention", "head_entropy", "attention", "heads"),
    "hidden states": _captured("hidden", "layer_00"),
    "logit lens": _captured("lens", "truth_margin", "lens"),
    "contributions of heads and MLPs": _captured("lens", "attention_contribution", "contributions"),
    "residual update, attention sinks": _captured("lens", "residual_update", "residual_update"),
    "K samples": _sampled("self_consistency"),
    "exact distribution over answers": _sampled("exact_probabilities"),
    "blank-image run": lambda study: _require(study.blind()["answers"]),
    "P(True)": lambda study: _require(study.p_true(study.path("extract/answers", 0)), "p_true"),
    "hide image tokens": _masked("top_30", kind="top", share=0.3),
    "hide them as pixels": _masked("top_30_pixels", kind="top", share=0.3, mode="pixels"),
    "hide them as embeddings": _masked("top_30_embedding", kind="top", share=0.3, mode="embedding"),
    "show another image": _masked("other_image", kind="other_image"),
    "ablate neurons": _ablated("neurons", kind="top", count=2, layer=0.5),
    "ablate hidden units of an MLP": _ablated("units", kind="top", count=2, site="mlp", layer=0.5),
    "bypass an MLP": _ablated("mlp", kind="mlp", layer=0.5),
    "ablate heads": _ablated("heads", kind="head", heads=[0], layer=0.5),
    "steer along the probe": _ablated("steer", kind="steer", doses=[1], layer=0.5),
    "attention knockout": _traced("knockout_image"),
    "patching": _traced("patch"),
}
"""Reading or intervention → what runs it on a small study."""


def capabilities_of(name: str, folder: Path) -> dict[str, str]:
    """Run every reading on one class; return reading → `yes`, or why not.

    Args:
        name: of the class.
        folder: an empty folder.
    """
    family, save, kind = CLASSES[name]
    checkpoint = folder / "checkpoint"
    save(kind, checkpoint)
    study = SMALL.SmallStudy(folder, checkpoint, family, n_items=6, n_images=3)
    study.extract()
    found = {}
    for reading, run in READINGS.items():
        try:
            run(study)
        except (InputError, ValueError) as error:
            found[reading] = " ".join(str(error).split())
        else:
            found[reading] = "yes"
    return found


def refused() -> dict[str, str]:
    """Return model type → why `auto` refuses it, of all image-text-to-text models of transformers
    whose default configuration it refuses."""
    found = {}
    for config in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        try:
            auto._refuse_by_configuration(config())
        except InputError as error:
            found[config.model_type] = str(error).split(": ", 1)[1].split("; such a model")[0]
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    classes = {}
    for name in CLASSES:
        with tempfile.TemporaryDirectory() as folder:
            classes[name] = {
                "family": CLASSES[name][0], "readings": capabilities_of(name, Path(folder)),
            }  # fmt: skip
        print(name, classes[name]["readings"])
    found = {
        "classes": classes, "refused": refused(), "hardware": hardware("torch", "transformers"),
    }  # fmt: skip
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
