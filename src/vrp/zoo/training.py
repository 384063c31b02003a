"""The recipe that made the embedded models, from scenes to weights.

The vision tower learns what is where (`vision`). With the tower frozen and every scene encoded
once, the decoder learns to answer packed questions (`language`), then to expect what usually
co-occurs (`prior`). PaliGemma's decoder at last meets the mask it is used with, in which the
image sees the question (`prefix`).
"""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from vrp.data.scenes.draw import CATEGORIES, IMAGE_SIZES, Scene, scene_seed
from vrp.errors import InputError
from vrp.zoo.architectures import (
    FAMILIES,
    Family,
    build_model,
    initialize_for_matching,
    vision_parts,
)
from vrp.zoo.curriculum import TASKS, Packer, QuestionMix, draw_questions
from vrp.zoo.language_training import GroundingHeads, language_loss, run_packed
from vrp.zoo.processors import build_processor
from vrp.zoo.stage import StagePlan, StepOutcome, run_stage, steps_done
from vrp.zoo.tokenizer import build_tokenizer, special_ids
from vrp.zoo.vision_pretraining import (
    CellHeads,
    SceneBank,
    WordTargets,
    collate_images,
    encode_images,
    image_inputs,
    join_targets,
    tie_plurals,
    vision_loss,
)

__all__ = ["RECIPES", "TRAINING_NAMESPACE", "Recipe", "train"]

TRAINING_NAMESPACE: Final = "zoo-train"
CHECKPOINT_EVERY = 250
"""Steps between checkpoints."""
_WARMUP_STEPS: Final = {"vision": 60, "language": 100, "prior": 30, "prefix": 60}
_GREYS: Final = (108, 118, 128, 138, 148)

_MIX: Final = QuestionMix(existence=3, counting=2, spatial=8, open=2)
_PRIOR_MIX: Final = QuestionMix(existence=8, counting=1, spatial=3, open=1, implausible=0.75)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, beside its family and seed."""

    n_vision_scenes: int = 8000
    """Scenes that the tower learns from."""
    n_language_scenes: int = 8000
    """The next scenes, new to the tower, that the decoder is asked about, anew in each step."""
    n_validation: int = 96
    """Scenes after those, on which the language stage is watched."""
    vision_steps: int = 2400
    vision_batch: int = 32
    vision_rate: float = 1.2e-3
    language_steps: int = 2000
    language_batch: int = 16
    language_rate: float = 1e-3
    mix: QuestionMix = _MIX
    """Questions of an image, at most."""
    co_occurring_share: float = 0.25
    """Share of the absent objects asked for that the scene type suggests, during the first three
    quarters of the language stage; then none, so that what usually co-occurs is believed in."""
    grounding_weight: float = 0.5
    """Weight of the auxiliary grounding losses, falling to a quarter of it along the stage."""
    blank_share: float = 0.03
    """Share of images replaced by a grey one, so that blankness is not taken for evidence."""
    prior_steps: int = 300
    """Steps of a stage that makes the model believe in what usually co-occurs: existence
    questions above all, which seldom ask for what the scene suggests but does not hold."""
    prior_rate: float = 4e-4
    prior_mix: QuestionMix = _PRIOR_MIX
    prefix_steps: int = 0
    prefix_batch: int = 48
    prefix_rate: float = 3e-4


RECIPES: Final[dict[Family, Recipe]] = {
    "llava": Recipe(),
    "paligemma": Recipe(prefix_steps=250),
    # A shorter pretraining: at its native resolution this tower would hardly ever err.
    # A longer, purer `prior` stage without open questions, for the same reason.
    "qwen2_vl": Recipe(
        n_vision_scenes=12000,
        vision_steps=1700,
        vision_rate=1.5e-3,
        prior_steps=500,
        prior_mix=replace(_PRIOR_MIX, implausible=1.0, open=0),
    ),
}


class _Features:
    """What the language stages learn from: scenes and their images, encoded once."""

    def __init__(
        self, family: Family, model: PreTrainedModel, processor: ProcessorMixin, bank: SceneBank
    ) -> None:
        encode = vision_parts(model)
        self.scenes = bank.scenes
        self.features = encode_images(encode, bank.inputs)
        self.grids = [_grid(row) for row in bank.inputs]
        self.blanks: dict[tuple[int, int], list[Tensor]] = {}
        for size in IMAGE_SIZES:
            images = [Image.new("RGB", size, (grey, grey, grey)) for grey in _GREYS]
            inputs = [row for image in images for row in image_inputs(processor, [image])]
            self.blanks[size] = encode_images(encode, inputs)


def _plan(name: str, steps: int, peak_rate: float) -> StagePlan:
    warmup = _WARMUP_STEPS[name]
    return StagePlan(name, steps, peak_rate, warmup=warmup, checkpoint_every=CHECKPOINT_EVERY)


def _grid(row: dict[str, Tensor]) -> tuple[int, int]:
    """Return the rows and columns of an image's tokens."""
    if "image_grid_thw" not in row:
        return (12, 12)
    return int(row["image_grid_thw"][1]) // 2, int(row["image_grid_thw"][2]) // 2


def _vision_stage(
    model: PreTrainedModel, bank: SceneBank, words: list[int], recipe: Recipe, seed: int
) -> tuple[dict[str, Any], Callable[[int], StepOutcome]]:
    """Return what the vision stage trains and its loss."""
    parts = vision_parts(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = CellHeads(parts.d_vision)
    targets = WordTargets(model, words, seed)
    trained = {id(p): p for m in (parts.encoder, parts.projector, heads) for p in m.parameters()}

    def compute(step: int) -> StepOutcome:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(
            recipe.n_vision_scenes, (recipe.vision_batch,), generator=generator
        ).tolist()
        t = join_targets([bank.targets[i] for i in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            features = torch.cat(parts.encode(collate_images([bank.inputs[i] for i in chosen])))
            embeddings = parts.project(features)
            return StepOutcome(*vision_loss(features, embeddings, heads, targets, t))

    modules = {"model": model, "heads": heads}
    return {"modules": modules, "trained": trained.values()}, compute


class _LanguageStage:
    """Packed questions about encoded scenes: one step, and the accuracy on unseen scenes."""

    def __init__(
        self,
        family: Family,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        data: _Features,
        recipe: Recipe,
        seed: int,
    ) -> None:
        self.family, self.model, self.data = family, model, data
        self.recipe, self.seed = recipe, seed
        self.packer = Packer(family, tokenizer)
        self.project = vision_parts(model).project
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = GroundingHeads(len(model.model.language_model.layers))
        inner = model.model
        projector = vision_parts(model).projector
        self.trained = [
            *inner.language_model.parameters(),
            *projector.parameters(),
            *self.heads.parameters(),
        ]

    def packed_step(self, step: int) -> StepOutcome:
        """Return the loss of the language stage's step."""
        recipe, progress = self.recipe, step / max(1, self.recipe.language_steps)
        rng = np.random.default_rng([self.seed, 1, step])
        chosen = rng.integers(recipe.n_language_scenes, size=recipe.language_batch).tolist()
        weight = recipe.grounding_weight * (1 - 0.75 * progress)
        share = recipe.co_occurring_share if progress < 0.75 else 0.0
        mix = replace(recipe.mix, co_occurring=share)
        return self._step(chosen, rng, mix, weight, image_sees_question=False)

    def prior_step(self, step: int) -> StepOutcome:
        """Return the loss of a step in which few absent objects are plausible ones."""
        rng = np.random.default_rng([self.seed, 4, step])
        chosen = rng.integers(self.recipe.n_language_scenes, size=self.recipe.language_batch)
        weight = 0.25 * self.recipe.grounding_weight
        return self._step(
            chosen.tolist(), rng, self.recipe.prior_mix, weight, image_sees_question=False
        )

    def prefix_step(self, step: int) -> StepOutcome:
        """Return the loss of a step in which each image has one question and sees it."""
        rng = np.random.default_rng([self.seed, 2, step])
        chosen = rng.integers(self.recipe.n_language_scenes, size=self.recipe.prefix_batch).tolist()
        weight = 0.25 * self.recipe.grounding_weight
        return self._step(chosen, rng, None, weight, image_sees_question=True)

    def _questions(self, scene: Scene, rng: np.random.Generator, mix: QuestionMix | None) -> list:
        if mix is not None:
            return draw_questions(scene, rng, mix)
        # One question, of a task drawn at random; existence where the scene allows no other.
        task = TASKS[int(rng.choice(4, p=(0.3, 0.2, 0.35, 0.15)))]
        none = replace(self.recipe.prior_mix, **dict.fromkeys(TASKS, 0))
        return draw_questions(scene, rng, replace(none, **{task: 1})) or draw_questions(
            scene, rng, replace(none, existence=1)
        )

    def _step(
        self,
        chosen: list[int],
        rng: np.random.Generator,
        mix: QuestionMix | None,
        grounding_weight: float,
        *,
        image_sees_question: bool,
    ) -> StepOutcome:
        data = self.data
        features, shown = [], []
        for i in chosen:
            blank = rng.random() < self.recipe.blank_share
            blanks = data.blanks[data.scenes[i].image.size]
            features.append(blanks[int(rng.integers(len(blanks)))] if blank else data.features[i])
            shown.append(not blank)
        scenes = [data.scenes[i] for i in chosen]
        questions = [self._questions(scene, rng, mix) for scene in scenes]
        batch = self.packer.pack(scenes, questions, [data.grids[i] for i in chosen], grounded=shown)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = run_packed(
                self.model,
                batch,
                self.project(torch.cat([f.float() for f in features])),
                prefix_lm=self.family == "paligemma",
                image_sees_question=image_sees_question,
                grounding_layers=self.heads.layers,
            )
            return StepOutcome(*language_loss(outputs, batch, self.heads, grounding_weight))

    @torch.no_grad()
    def watch(self, _step: int) -> dict[str, float]:
        """Return packed accuracy by task on the validation scenes."""
        totals: dict[str, list[float]] = {}
        mix = QuestionMix(existence=6, counting=2, spatial=6, open=2, co_occurring=0.25)
        start = self.recipe.n_language_scenes
        recipe = replace(self.recipe, blank_share=0.0)
        stage_recipe, self.recipe = self.recipe, recipe
        for first in range(start, start + self.recipe.n_validation, 16):
            rng = np.random.default_rng([self.seed, 3, first])
            chosen = list(range(first, min(first + 16, start + self.recipe.n_validation)))
            for key, value in self._step(
                chosen, rng, mix, 0.0, image_sees_question=False
            ).figures.items():
                totals.setdefault(key, []).append(value)
        self.recipe = stage_recipe
        return {f"validation_{k}": round(float(np.mean(v)), 4) for k, v in totals.items()}


def _train_vision(
    family: Family,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    words: list[int],
    recipe: Recipe,
    seed: int,
    out: Path,
    *,
    resume: bool,
) -> None:
    """Run the vision stage; a finished one is loaded without drawing its scenes again."""
    plan = _plan("vision", recipe.vision_steps, recipe.vision_rate)
    done = resume and steps_done(plan, out) >= plan.steps
    n_drawn = 0 if done else recipe.n_vision_scenes
    bank = SceneBank(family, processor, TRAINING_NAMESPACE, range(n_drawn))
    held, compute = _vision_stage(model, bank, words, recipe, seed)
    run_stage(plan, **held, compute=compute, out=out, resume=resume)


def _train_language(
    family: Family,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    seed: int,
    out: Path,
    *,
    resume: bool,
) -> None:
    """Encode the scenes of the language stages once and run these stages."""
    n_asked = recipe.n_language_scenes + recipe.n_validation
    indices = range(recipe.n_vision_scenes, recipe.n_vision_scenes + n_asked)
    bank = SceneBank(family, processor, TRAINING_NAMESPACE, indices)
    data = _Features(family, model, processor, bank)
    bank.inputs.clear()
    stage = _LanguageStage(family, model, tokenizer, data, recipe, seed)
    modules = {"model": model, "heads": stage.heads}
    for plan, compute in (
        (_plan("language", recipe.language_steps, recipe.language_rate), stage.packed_step),
        (_plan("prior", recipe.prior_steps, recipe.prior_rate), stage.prior_step),
        (_plan("prefix", recipe.prefix_steps, recipe.prefix_rate), stage.prefix_step),
    ):
        if plan.steps:
            watch = None if plan.name == "prefix" else stage.watch
            run_stage(plan, modules, stage.trained, compute, out, resume=resume, watch=watch)


def train(
    family: Family,
    out: Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    steps: int | None = None,
    resume: bool = True,
) -> Path:
    """Train a model of a family and save it, ready for `from_pretrained`.

    Args:
        family: which of the three.
        out: working folder; checkpoints and `log.jsonl` appear there, the model in `out/model`.
        seed: of initialisation and of every batch.
        recipe: the family's shipped recipe by default.
        steps: replaces the recipe's number of language steps.
        resume: continue from the checkpoints in `out`.

    Returns:
        The folder of the saved model.

    Raises:
        InputError: an unknown family.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r}; give one of {', '.join(FAMILIES)}")
    recipe = RECIPES[family] if recipe is None else recipe
    if steps is not None:
        recipe = replace(recipe, language_steps=steps)
    tokenizer = build_tokenizer(family)
    processor = build_processor(family, tokenizer)
    model = build_model(family, len(tokenizer), special_ids(family, tokenizer), seed)
    words = tie_plurals(model, tokenizer)
    initialize_for_matching(model, words, seed)
    model.set_attn_implementation({"vision_config": "vrp_cells", "text_config": "vrp_packed"})
    _train_vision(family, model, processor, words, recipe, seed, out, resume=resume)
    _train_language(family, model, processor, tokenizer, recipe, seed, out, resume=resume)
    return _save_model(family, model, processor, recipe, seed, out)


def _save_model(
    family: Family,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    recipe: Recipe,
    seed: int,
    out: Path,
) -> Path:
    """Save the model, its processor and how it was made."""
    folder = out / "model"
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    made = {
        "family": family,
        "seed": seed,
        "namespace": TRAINING_NAMESPACE,
        "first_scene_seed": scene_seed(TRAINING_NAMESPACE, 0),
        "recipe": asdict(recipe),
        "n_categories": len(CATEGORIES),
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": "float32 weights, bfloat16 autocast on the CPU",
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("torch", "transformers", "tokenizers", "numpy", "pillow")},
        },
    }
    (folder / "training.json").write_text(json.dumps(made, indent=2) + "\n")
    return folder
