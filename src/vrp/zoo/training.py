"""The recipe that made the embedded models, from scenes to weights.

The vision tower learns what is where (`vision`). With the tower frozen and every scene encoded
once, the decoder learns to answer packed questions (`language`), then to expect what usually
co-occurs (`prior`). PaliGemma's decoder at last meets the mask it is used with, in which the
image sees the question (`prefix`).
"""

import json
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

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
from vrp.zoo.tokenizer import build_tokenizer, special_ids
from vrp.zoo.training_phase import StepOutcome, TrainingPhase, run_phase, steps_done
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


@dataclass(frozen=True)
class _Run:
    """One training run: what it trains, by which recipe, and where its files go."""

    family: Family
    model: PreTrainedModel
    processor: ProcessorMixin
    tokenizer: PreTrainedTokenizerFast
    recipe: Recipe
    seed: int
    out: Path
    resume: bool

    def scenes(self, indices: range) -> SceneBank:
        """Draw scenes of the training namespace for the family."""
        return SceneBank(self.family, self.processor, TRAINING_NAMESPACE, indices)


def _plan(name: str, steps: int, peak_rate: float) -> TrainingPhase:
    warmup = _WARMUP_STEPS[name]
    return TrainingPhase(name, steps, peak_rate, warmup=warmup, checkpoint_every=CHECKPOINT_EVERY)


def _grid(row: dict[str, Tensor]) -> tuple[int, int]:
    """Return the rows and columns of an image's tokens."""
    if "image_grid_thw" not in row:
        return (12, 12)
    return int(row["image_grid_thw"][1]) // 2, int(row["image_grid_thw"][2]) // 2


def _train_vision(run: _Run, words: list[int]) -> None:
    """Run the vision stage; a finished one is loaded without drawing its scenes again."""
    recipe, seed = run.recipe, run.seed
    plan = _plan("vision", recipe.vision_steps, recipe.vision_rate)
    done = run.resume and steps_done(plan, run.out) >= plan.steps
    bank = run.scenes(range(0 if done else recipe.n_vision_scenes))
    parts = vision_parts(run.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = CellHeads(parts.d_vision)
    targets = WordTargets(run.model, words, seed)
    trained = {id(p): p for m in (parts.encoder, parts.projector, heads) for p in m.parameters()}

    def compute(step: int) -> StepOutcome:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(
            recipe.n_vision_scenes, (recipe.vision_batch,), generator=generator
        ).tolist()
        t = join_targets([bank.targets[i] for i in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            features = torch.cat(parts.encode(collate_images([bank.inputs[i] for i in chosen])))
            return vision_loss(features, parts.project(features), heads, targets, t)

    modules = {"model": run.model, "heads": heads}
    run_phase(plan, modules, trained.values(), compute, run.out, resume=run.resume)


class _LanguageStage:
    """Packed questions about encoded scenes: one step, and the accuracy on unseen scenes."""

    def __init__(self, run: _Run) -> None:
        """Draw the scenes that follow those of the vision stage, and encode each image once."""
        self.family, self.model = run.family, run.model
        self.recipe, self.seed = run.recipe, run.seed
        first = run.recipe.n_vision_scenes
        n_asked = run.recipe.n_language_scenes + run.recipe.n_validation
        bank = run.scenes(range(first, first + n_asked))
        encode = vision_parts(run.model)
        self.project = encode.project
        self.scenes = bank.scenes
        self.features = encode_images(encode, bank.inputs)
        self.grids = [_grid(row) for row in bank.inputs]
        self.blanks: dict[tuple[int, int], list[Tensor]] = {}
        for size in IMAGE_SIZES:
            images = [Image.new("RGB", size, (grey, grey, grey)) for grey in _GREYS]
            inputs = [row for image in images for row in image_inputs(run.processor, [image])]
            self.blanks[size] = encode_images(encode, inputs)
        self.packer = Packer(run.family, run.tokenizer)
        inner = run.model.model
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            self.heads = GroundingHeads(len(inner.language_model.layers))
        self.trained = [
            *inner.language_model.parameters(),
            *encode.projector.parameters(),
            *self.heads.parameters(),
        ]

    def packed_step(self, step: int) -> StepOutcome:
        """Return the loss of the language stage's step."""
        recipe, progress = self.recipe, step / max(1, self.recipe.language_steps)
        weight = recipe.grounding_weight * (1 - 0.75 * progress)
        share = recipe.co_occurring_share if progress < 0.75 else 0.0
        mix = replace(recipe.mix, co_occurring=share)
        return self._drawn_step(1, step, recipe.language_batch, mix, weight)

    def prior_step(self, step: int) -> StepOutcome:
        """Return the loss of a step in which few absent objects are plausible ones."""
        recipe = self.recipe
        weight = 0.25 * recipe.grounding_weight
        return self._drawn_step(4, step, recipe.language_batch, recipe.prior_mix, weight)

    def prefix_step(self, step: int) -> StepOutcome:
        """Return the loss of a step in which each image has one question and sees it."""
        weight = 0.25 * self.recipe.grounding_weight
        return self._drawn_step(2, step, self.recipe.prefix_batch, None, weight)

    def _drawn_step(
        self, stream: int, step: int, size: int, mix: QuestionMix | None, weight: float
    ) -> StepOutcome:
        """Return the loss of a step on randomly drawn scenes; each stage has a stream."""
        rng = np.random.default_rng([self.seed, stream, step])
        chosen = rng.integers(self.recipe.n_language_scenes, size=size).tolist()
        return self._step(chosen, rng, mix, weight, blank_share=self.recipe.blank_share)

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
        blank_share: float,
    ) -> StepOutcome:
        """Return the loss on some scenes.

        Args:
            chosen: the scenes.
            rng: draws blank images and questions.
            mix: questions of an image; None: a single one, which the image sees.
            grounding_weight: of the auxiliary losses.
            blank_share: share of images replaced by a grey one.
        """
        features, shown = [], []
        for i in chosen:
            blank = rng.random() < blank_share
            blanks = self.blanks[self.scenes[i].image.size]
            features.append(blanks[int(rng.integers(len(blanks)))] if blank else self.features[i])
            shown.append(not blank)
        scenes = [self.scenes[i] for i in chosen]
        questions = [self._questions(scene, rng, mix) for scene in scenes]
        batch = self.packer.pack(scenes, questions, [self.grids[i] for i in chosen], grounded=shown)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = run_packed(
                self.model,
                batch,
                self.project(torch.cat([f.float() for f in features])),
                prefix_lm=self.family == "paligemma",
                image_sees_question=mix is None,
                grounding_layers=self.heads.layers,
            )
            return language_loss(outputs, batch, self.heads, grounding_weight)

    @torch.no_grad()
    def watch(self) -> dict[str, float]:
        """Return packed accuracy by task on the validation scenes."""
        totals: dict[str, list[float]] = {}
        mix = QuestionMix(existence=6, counting=2, spatial=6, open=2, co_occurring=0.25)
        start, end = self.recipe.n_language_scenes, len(self.scenes)
        for first in range(start, end, 16):
            rng = np.random.default_rng([self.seed, 3, first])
            chosen = list(range(first, min(first + 16, end)))
            for key, value in self._step(chosen, rng, mix, 0.0, blank_share=0.0).figures.items():
                totals.setdefault(key, []).append(value)
        return {f"validation_{k}": round(float(np.mean(v)), 4) for k, v in totals.items()}


def _train_language(run: _Run) -> None:
    """Encode the scenes of the language stages once and run these stages."""
    recipe = run.recipe
    stage = _LanguageStage(run)
    modules = {"model": run.model, "heads": stage.heads}
    for plan, compute in (
        (_plan("language", recipe.language_steps, recipe.language_rate), stage.packed_step),
        (_plan("prior", recipe.prior_steps, recipe.prior_rate), stage.prior_step),
        (_plan("prefix", recipe.prefix_steps, recipe.prefix_rate), stage.prefix_step),
    ):
        if plan.steps:
            watch = None if plan.name == "prefix" else stage.watch
            run_phase(
                plan, modules, stage.trained, compute, run.out, resume=run.resume, watch=watch
            )


def train(
    family: Family,
    out: Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    resume: bool = True,
) -> Path:
    """Train a model of a family and save it, ready for `from_pretrained`.

    Args:
        family: which of the three.
        out: working folder; checkpoints and `log.jsonl` appear there, the model in `out/model`.
        seed: of initialisation and of every batch.
        recipe: the family's shipped recipe by default.
        resume: continue from the checkpoints in `out`.

    Returns:
        The folder of the saved model.

    Raises:
        InputError: an unknown family.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r}; give one of {', '.join(FAMILIES)}")
    tokenizer = build_tokenizer(family)
    processor = build_processor(family, tokenizer)
    model = build_model(family, len(tokenizer), special_ids(family, tokenizer), seed)
    words = tie_plurals(model, tokenizer)
    initialize_for_matching(model, words, seed)
    model.set_attn_implementation({"vision_config": "vrp_cells", "text_config": "vrp_packed"})
    recipe = RECIPES[family] if recipe is None else recipe
    run = _Run(family, model, processor, tokenizer, recipe, seed, out, resume)
    _train_vision(run, words)
    _train_language(run)
    return _save_model(run)


def _save_model(run: _Run) -> Path:
    """Save the model, its processor and how it was made."""
    folder = run.out / "model"
    run.model.set_attn_implementation("sdpa")
    run.model.save_pretrained(folder)
    run.processor.save_pretrained(folder)
    made = {
        "family": run.family,
        "seed": run.seed,
        "namespace": TRAINING_NAMESPACE,
        "first_scene_seed": scene_seed(TRAINING_NAMESPACE, 0),
        "recipe": asdict(run.recipe),
        "n_categories": len(CATEGORIES),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "precision": "float32 weights, bfloat16 autocast on the CPU",
        "versions": {
            "python": platform.python_version(),
            **{p: version(p) for p in ("torch", "transformers", "tokenizers", "numpy", "pillow")},
        },
    }
    (folder / "training.json").write_text(json.dumps(made, indent=2) + "\n")
    return folder
