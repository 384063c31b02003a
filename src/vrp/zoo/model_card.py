"""Writes a checkpoint's README and adds its measured figures to `training.json`."""

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["write_model_card"]

_NAMES: Final = {
    "llava": ("LLaVA", "LlavaForConditionalGeneration", "CLIP tower, MLP projector, Llama decoder"),
    "paligemma": (
        "PaliGemma",
        "PaliGemmaForConditionalGeneration",
        "SigLIP tower, linear projector, Gemma decoder with prefix-LM attention",
    ),
    "qwen2_vl": (
        "Qwen2-VL",
        "Qwen2VLForConditionalGeneration",
        "dynamic-resolution tower with 2×2 merger, Qwen2 decoder with M-RoPE",
    ),
}
_IMAGES: Final = {
    "llava": "padded to a square, resized to 96×96 pixels: 12×12 image tokens",
    "paligemma": "warped to 96×96 pixels: 12×12 image tokens",
    "qwen2_vl": "kept at their size: one image token per 8×8 pixels (12×12 to 16×12)",
}

_TEMPLATE: Final = """\
---
license: mit
pipeline_tag: image-text-to-text
library_name: transformers
---
# A tiny {name} for scenes

{parts}; {n_layers} decoder layers of {d_model} dimensions, {n_parameters:,} float32 weights. An \
ordinary transformers checkpoint (`{model_class}`), trained from nothing on drawn scenes of \
{n_categories} kinds of objects. It exists so that every stage of the study can run anywhere in \
minutes on a real model of the family. It knows nothing of photographs.

- **Images** are {images}.
- **Prompt**: the family's own, with its short-answer line; one answer token, then EOS.
- **Tasks**: is there an object (POPE), how many, how do two objects lie, what colour.

## Accuracy on scenes never trained on

POPE's own sampling; processor and `generate`, greedy, float32; {n} questions in each split.

| split | accuracy % | wrong | yes % |
|---|---|---|---|
{rows}

It looks (a grey image brings existence questions to chance) and it errs: where an object often \
stands beside another it is seen more readily than it should be.

## Training

`vrp zoo train --family {family}`, seed {seed}: {vision_steps:,} steps of dense \
vision pretraining on {n_vision_scenes:,} scenes, then, with the tower frozen, {language_steps:,} \
steps of packed questions on {n_language_scenes:,} others, {prior_steps:,} steps that seldom ask \
for what a scene suggests but does not hold (so that the model expects it){prefix}. \
`training.json` holds the whole recipe, the versions and these figures.
"""


def _row(split: str, figures: dict[str, Any]) -> str:
    wrong = figures.get("wrong", "–")
    yes = f"{100 * figures['yes_rate']:.1f}" if "yes_rate" in figures else "–"
    return f"| {split} | {100 * figures['accuracy']:.1f} | {wrong} | {yes} |"


def write_model_card(folder: Path, figures: dict[str, Any]) -> None:
    """Put a model's measured figures into `training.json` and write its README.

    Args:
        folder: the checkpoint, as saved by training.
        figures: what `vrp.zoo.evaluate.evaluate_model` returned for it.
    """
    made = json.loads((folder / "training.json").read_text())
    made["figures"] = figures
    (folder / "training.json").write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    config = json.loads((folder / "config.json").read_text())["text_config"]
    name, model_class, parts = _NAMES[made["family"]]
    recipe = made["recipe"]
    prefix = (
        f", and {recipe['prefix_steps']:,} steps of single questions under the prefix-LM mask"
        if recipe["prefix_steps"]
        else ""
    )
    text = _TEMPLATE.format(
        name=name,
        parts=parts[0].upper() + parts[1:],
        model_class=model_class,
        n_layers=config["num_hidden_layers"],
        d_model=config["hidden_size"],
        n_parameters=made["parameters"],
        n_categories=made["n_categories"],
        images=_IMAGES[made["family"]],
        n=figures["adversarial"]["n"],
        rows="\n".join(_row(split, values) for split, values in figures.items()),
        family=made["family"],
        seed=made["seed"],
        vision_steps=recipe["vision_steps"],
        language_steps=recipe["language_steps"],
        prior_steps=recipe["prior_steps"],
        n_vision_scenes=recipe["n_vision_scenes"],
        n_language_scenes=recipe["n_language_scenes"],
        prefix=prefix,
    )
    (folder / "README.md").write_text(text)
