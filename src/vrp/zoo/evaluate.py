"""Measures the embedded models on scenes that they never saw, through the ordinary path.

Processor and `generate`, one prompt per question, as anyone would use the checkpoints; POPE's
own sampling decides what is asked about, with its label; other tasks ask what the study asks.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from PIL import Image
from tqdm import tqdm
from transformers import (
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2VLForConditionalGeneration,
)

from vrp.data.datasets.pope import POPE_SPLITS
from vrp.data.scenes.draw import Purpose, Scene, draw_scene, scene_rng, scene_seed
from vrp.data.scenes.pope_sampling import (
    OBJECTS_ASKED,
    ImageObjects,
    image_objects,
    pope_questions,
)
from vrp.data.scenes.questions import counting_questions, open_questions, spatial_questions
from vrp.errors import InputError
from vrp.tables.atomic_files import write_text
from vrp.zoo import zoo_checkpoint
from vrp.zoo.architectures import FAMILIES, Family
from vrp.zoo.processors import ImageOnlyQwen2VLProcessor, study_prompt

HELD_OUT_NAMESPACE: Final = "zoo-heldout"
_GREY: Final = (128, 128, 128)
_CLASSES: Final[dict[Family, tuple[type[PreTrainedModel], type[ProcessorMixin]]]] = {
    "llava": (LlavaForConditionalGeneration, LlavaProcessor),
    "paligemma": (PaliGemmaForConditionalGeneration, PaliGemmaProcessor),
    "qwen2_vl": (Qwen2VLForConditionalGeneration, ImageOnlyQwen2VLProcessor),
}


class LoadedModel(NamedTuple):
    """An embedded model with its processor."""

    family: Family
    model: PreTrainedModel
    processor: ProcessorMixin


class HeldOutQuestion(NamedTuple):
    """One question with the index of its scene and its true answer."""

    scene: int
    text: str
    answer: str


class HeldOutSet(NamedTuple):
    """Scenes and the questions about them, by split."""

    scenes: list[Scene]
    splits: dict[str, list[HeldOutQuestion]]
    """"random", "popular", "adversarial", "counting", "spatial", "open"."""


def load_model(family: Family, folder: Path) -> LoadedModel:
    """Load a model and its processor from a folder, in float32 on the CPU."""
    model_class, processor_class = _CLASSES[family]
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    return LoadedModel(family, model, processor_class.from_pretrained(folder))


def _held_out_scenes() -> Iterator[Scene]:
    """Yield held-out scenes with as many categories as POPE needs."""
    for index in count():
        scene = draw_scene(scene_seed(HELD_OUT_NAMESPACE, index))
        if len({o.category for o in scene.objects}) >= OBJECTS_ASKED:
            yield scene


def build_test_set(n_questions: int = 1000) -> HeldOutSet:
    """Draw held-out scenes until every split has `n_questions` questions.

    Each POPE split asks six questions of an image; the VQA tasks ask about the same images
    first and go on to others as they need.
    """
    scenes: list[Scene] = []
    images: list[ImageObjects] = []
    splits: dict[str, list[HeldOutQuestion]] = {"counting": [], "spatial": [], "open": []}
    ask = {"counting": counting_questions, "spatial": spatial_questions, "open": open_questions}
    for scene in _held_out_scenes():
        images.append(image_objects(str(len(scenes)), scene))
        rng = scene_rng(scene.seed, Purpose.QUESTIONS)
        for task, make in ask.items():
            splits[task] += [
                HeldOutQuestion(len(scenes), q.text, q.answer) for q in make(scene, rng)
            ]
        scenes.append(scene)
        enough = all(len(asked) >= n_questions for asked in splits.values())
        if enough and len(images) * 2 * OBJECTS_ASKED >= n_questions:
            break
    pope_images = images[: -(-n_questions // (2 * OBJECTS_ASKED))]
    pope = {
        split: [
            HeldOutQuestion(int(q.image), q.text, q.label) for q in pope_questions(images, split)
        ]
        for split in POPE_SPLITS
    }
    asked_of = len(pope_images) * 2 * OBJECTS_ASKED
    splits = {s: pope[s][:asked_of] for s in POPE_SPLITS} | splits
    return HeldOutSet(scenes, {split: asked[:n_questions] for split, asked in splits.items()})


@torch.no_grad()
def answer_questions(
    loaded: LoadedModel,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    *,
    batch: int = 50,
    progress: str | None = None,
) -> list[str]:
    """Return the greedy answer to each question about the image beside it."""
    family, model, processor = loaded
    answers: list[str] = []
    starts = range(0, len(questions), batch)
    for start in tqdm(starts, desc=progress, disable=progress is None, mininterval=5):
        texts = [study_prompt(family, q) for q in questions[start : start + batch]]
        inputs = processor(
            images=[[image] for image in images[start : start + batch]],
            text=texts,
            return_tensors="pt",
            padding=True,
        )
        inputs.pop("labels", None)
        tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
        fresh = tokens[:, inputs["input_ids"].shape[1] :]
        decoded = processor.tokenizer.batch_decode(fresh, skip_special_tokens=True)
        answers += [text.strip() for text in decoded]
    return answers


def _accuracy(answers: Sequence[str], asked: Sequence[HeldOutQuestion]) -> float:
    """Return the share of answers equal to the truth, in any case."""
    right = sum(a.lower() == q.answer for a, q in zip(answers, asked, strict=True))
    return right / len(asked)


def evaluate_model(loaded: LoadedModel, test_set: HeldOutSet) -> dict[str, Any]:
    """Return a model's figures: accuracy by split, wrong answers, yes-rates, blank images."""
    figures: dict[str, Any] = {}
    scenes = test_set.scenes
    for split, asked in test_set.splits.items():
        images = [scenes[q.scene].image for q in asked]
        label = f"{loaded.family} {split}"
        answers = answer_questions(loaded, images, [q.text for q in asked], progress=label)
        accuracy = _accuracy(answers, asked)
        figures[split] = {"n": len(asked), "accuracy": round(accuracy, 4)}
        figures[split]["wrong"] = round((1 - accuracy) * len(asked))
        if split in POPE_SPLITS:
            yes = sum(a.lower() == "yes" for a in answers) / len(asked)
            valid = sum(bool(re.fullmatch(r"(?i)yes|no", a)) for a in answers) / len(asked)
            figures[split] |= {"yes_rate": round(yes, 4), "parse_rate": round(valid, 4)}
    asked = test_set.splits["adversarial"]
    blanks = [Image.new("RGB", scenes[q.scene].image.size, _GREY) for q in asked]
    answers = answer_questions(loaded, blanks, [q.text for q in asked], progress="blank")
    yes = sum(a.lower() == "yes" for a in answers) / len(asked)
    figures["blank"] = {
        "n": len(asked),
        "accuracy": round(_accuracy(answers, asked), 4),
        "yes_rate": round(yes, 4),
    }
    return figures


def _table(figures: Mapping[str, dict[str, Any]]) -> str:
    """Return a plain-text table: one row per split, one column per family."""
    families = list(figures)
    lines = ["accuracy %".ljust(14) + "".join(f.rjust(12) for f in families)]
    for split in next(iter(figures.values())):
        cells = "".join(f"{100 * figures[f][split]['accuracy']:12.1f}" for f in families)
        lines.append(split.ljust(14) + cells)
    return "\n".join(lines)


def evaluate(
    families: Sequence[str] | None = None,
    *,
    output: Path | None = None,
    n_questions: int = 1000,
    locate: Callable[[str], Path] = zoo_checkpoint,
) -> str:
    """Measure embedded models on held-out scenes.

    Args:
        families: which; None means all.
        output: a JSON file for all figures.
        n_questions: questions in each split.
        locate: family → folder of the checkpoint; the packaged weights by default.

    Returns:
        A table of accuracies.

    Raises:
        InputError: an unknown family.
    """
    chosen: list[Family] = []
    for name in families or FAMILIES:
        if name not in FAMILIES:
            raise InputError(f"unknown family {name!r}; it is one of {', '.join(FAMILIES)}")
        chosen += [family for family in FAMILIES if family == name]
    test_set = build_test_set(n_questions)
    figures: dict[str, dict[str, Any]] = {
        family: evaluate_model(load_model(family, locate(family)), test_set) for family in chosen
    }
    if output is not None:
        write_text(output, json.dumps(figures, indent=2) + "\n")
    return _table(figures)
