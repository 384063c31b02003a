"""A packed question is computed exactly as it is alone, through the ordinary processor."""

from collections import Counter

import numpy as np
import pytest
import torch

from vrp.data.scenes.draw import CATEGORIES, draw_scene, scene_seed
from vrp.zoo.architectures import FAMILIES, build_model, initialize_for_matching, vision_parts
from vrp.zoo.curriculum import TASKS, Packer, QuestionMix, attention_mask, draw_questions
from vrp.zoo.language_training import GroundingHeads, language_loss, run_packed
from vrp.zoo.processors import build_processor, study_prompt
from vrp.zoo.tokenizer import build_tokenizer, special_ids
from vrp.zoo.vision_pretraining import collate_images, image_inputs, tie_plurals

pytestmark = pytest.mark.slow

MIX = QuestionMix(existence=2, counting=1, spatial=2, open=1)


class Setup:
    def __init__(self, family):
        self.family = family
        self.tokenizer = build_tokenizer(family)
        self.processor = build_processor(family, self.tokenizer)
        ids = special_ids(family, self.tokenizer)
        self.model = build_model(family, len(self.tokenizer), ids, seed=3)
        initialize_for_matching(self.model, tie_plurals(self.model, self.tokenizer), seed=3)
        self.packer = Packer(family, self.tokenizer)
        # One wide, one tall, one square image, so that grids differ where they may.
        scenes = [draw_scene(scene_seed("zoo-test", i)) for i in range(40)]
        by_size = {s.image.size: s for s in scenes if len(s.objects) > 3}
        self.scenes = [by_size[size] for size in ((128, 96), (96, 96), (96, 128))]
        rng = np.random.default_rng(1)
        self.questions = [draw_questions(s, rng, MIX) for s in self.scenes]
        self.grids = [
            (s.image.height // 8, s.image.width // 8) if family == "qwen2_vl" else (12, 12)
            for s in self.scenes
        ]

    @torch.no_grad()
    def embeddings(self):
        parts = vision_parts(self.model)
        rows = image_inputs(self.processor, [s.image for s in self.scenes])
        return [parts.project(f) for f in parts.encode(collate_images(rows))]


@pytest.fixture(scope="module", params=FAMILIES)
def setup(request):
    return Setup(request.param)


def _attend(setup, name):
    setup.model.set_attn_implementation({"vision_config": "sdpa", "text_config": name})


@torch.no_grad()
def test_packed_equals_single_equals_ordinary(setup):
    prefix_lm = setup.family == "paligemma"
    images = setup.embeddings()
    _attend(setup, "vrp_packed")
    batch = setup.packer.pack(setup.scenes, setup.questions, setup.grids)
    packed = run_packed(setup.model, batch, torch.cat(images), prefix_lm=prefix_lm).logits
    packed = packed[batch.label_task >= 0]
    at = 0
    for scene, asked, grid, image in zip(
        setup.scenes, setup.questions, setup.grids, images, strict=True
    ):
        for question in asked:
            _attend(setup, "vrp_packed")
            single = setup.packer.pack([scene], [[question]], [grid])
            alone = run_packed(setup.model, single, image, prefix_lm=prefix_lm).logits[0]
            torch.testing.assert_close(packed[at], alone, atol=2e-5, rtol=0)
            real = run_packed(
                setup.model, single, image, prefix_lm=prefix_lm, image_sees_question=True
            ).logits[0]
            _attend(setup, "sdpa")
            inputs = setup.processor(
                images=[[scene.image]],
                text=[study_prompt(setup.family, question.text)],
                return_tensors="pt",
            )
            inputs.pop("labels", None)
            n_prompt = inputs["input_ids"].shape[1]
            assert single.input_ids[0, :n_prompt].tolist() == inputs["input_ids"][0].tolist()
            ordinary = setup.model(**inputs).logits[0, -1]
            torch.testing.assert_close(real, ordinary, atol=2e-5, rtol=0)
            if not prefix_lm:
                torch.testing.assert_close(alone, ordinary, atol=2e-5, rtol=0)
            at += 1
    assert at == len(packed)


@torch.no_grad()
def test_packed_attention_equals_dense_attention(setup):
    prefix_lm = setup.family == "paligemma"
    images = torch.cat(setup.embeddings())
    batch = setup.packer.pack(setup.scenes, setup.questions, setup.grids)
    logits = []
    for name in ("vrp_packed", "eager"):
        _attend(setup, name)
        logits.append(run_packed(setup.model, batch, images, prefix_lm=prefix_lm).logits)
    torch.testing.assert_close(logits[0], logits[1], atol=2e-5, rtol=0)


def test_mask_blocks(setup):
    batch = setup.packer.pack(setup.scenes, setup.questions, setup.grids)
    prefix_lm = setup.family == "paligemma"
    allowed = attention_mask(batch, prefix_lm=prefix_lm)[0, 0] == 0
    block, prompt = batch.block[0], batch.is_prompt[0]
    first, second = (torch.nonzero(block == k)[:, 0] for k in (1, 2))
    context = torch.nonzero(block == 0)[:, 0]
    assert not allowed[second][:, first].any()
    assert not allowed[first][:, second].any()
    assert not allowed[context][:, first].any()
    assert allowed[first][:, context].all()
    n_prompt = int(prompt[first].sum())
    inside = allowed[first[:n_prompt]][:, first[:n_prompt]]
    expected = torch.ones_like(inside) if prefix_lm else torch.ones_like(inside).tril()
    assert torch.equal(inside, expected)
    assert allowed.diagonal().all()


def test_grounding_tells_the_truth(setup):
    batch = setup.packer.pack(setup.scenes, setup.questions, setup.grids)
    g = batch.grounding
    flat = [
        (i, q, noun) for i, asked in enumerate(setup.questions) for q in asked for noun in q.nouns
    ]
    assert len(flat) == len(g.image)
    for row, (i, question, noun) in enumerate(flat):
        token = setup.tokenizer.convert_ids_to_tokens(int(batch.input_ids[i, g.position[row]]))
        assert token.removeprefix("Ġ") in (noun, f"{noun}s")
        counts = Counter(o.category for o in setup.scenes[i].objects)
        assert g.n_objects[row] == min(counts[noun], 6)
        if g.holds[row] >= 0:
            assert question.task == "spatial"
            gap = g.gap[row]
            axis, sign = {"left": (1, -1), "right": (1, 1), "above": (0, -1), "below": (0, 1)}[
                next(w for w in ("left", "right", "above", "below") if w in question.text)
            ]
            assert g.direction[row].tolist() == [sign * (1 - axis), sign * axis]
            assert (sign * gap[axis] > 0) == bool(g.holds[row])


def test_blank_images_ground_nothing(setup):
    batch = setup.packer.pack(
        setup.scenes, setup.questions, setup.grids, grounded=[True, False, True]
    )
    assert set(batch.grounding.image.tolist()) == {0, 2}


def test_losses_are_finite_and_move_every_weight(setup):
    _attend(setup, "vrp_packed")
    batch = setup.packer.pack(setup.scenes, setup.questions, setup.grids)
    heads = GroundingHeads(len(setup.model.model.language_model.layers))
    outputs = run_packed(
        setup.model,
        batch,
        torch.cat(setup.embeddings()),
        prefix_lm=setup.family == "paligemma",
        grounding_layers=heads.layers,
    )
    loss, figures = language_loss(outputs, batch, heads, 0.4)
    loss.backward()
    assert torch.isfinite(loss)
    assert set(TASKS) <= set(figures)
    for name, parameter in setup.model.model.language_model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    setup.model.zero_grad()


def test_existence_questions_are_balanced():
    rng = np.random.default_rng(0)
    mix = QuestionMix(existence=6, counting=0, spatial=0, open=0)
    answers: Counter[str] = Counter()
    for index in range(60):
        scene = draw_scene(scene_seed("zoo-test", index))
        present = {o.category for o in scene.objects}
        for question in draw_questions(scene, rng, mix):
            assert (question.nouns[0] in present) == (question.answer == "yes")
            assert question.nouns[0] in CATEGORIES
            answers[question.answer] += 1
    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_co_occurring_absents_follow_the_scene_type():
    seas = [
        scene
        for scene in (draw_scene(scene_seed("zoo-test", i)) for i in range(150))
        if scene.scene_type == "sea" and "boat" not in {o.category for o in scene.objects}
    ]

    def boats(**shares):
        mix = QuestionMix(existence=40, counting=0, spatial=0, open=0, **shares)
        asked = [
            q for i, s in enumerate(seas) for q in draw_questions(s, np.random.default_rng(i), mix)
        ]
        return sum(q.nouns == ("boat",) for q in asked) / sum(q.answer == "no" for q in asked)

    assert len(seas) >= 5
    assert 0.05 < boats() < 0.13  # one of about eleven absent categories
    assert boats(co_occurring=1.0) > 0.2
    assert boats(implausible=1.0) < 0.02
