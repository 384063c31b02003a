"""The shipped models: real classes, small files, and answers well above chance."""

import json
from itertools import islice

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from vrp.data.scenes.draw import draw_scene, scene_seed
from vrp.data.scenes.questions import existence_question
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint
from vrp.zoo.architectures import FAMILIES
from vrp.zoo.evaluate import answer_questions, build_test_set, load_model
from vrp.zoo.processors import study_prompt

pytestmark = pytest.mark.slow

CLASSES = {
    "llava": "LlavaForConditionalGeneration",
    "paligemma": "PaliGemmaForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
}


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request):
    return load_model(request.param, zoo_checkpoint(request.param))


def test_families_agree():
    assert ZOO_FAMILIES == FAMILIES


def test_checkpoint_is_whole_and_small(loaded):
    folder = zoo_checkpoint(f"zoo:{loaded.family}")
    names = {path.name for path in folder.iterdir()}
    assert {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        *("tokenizer_config.json", "processor_config.json", "training.json", "README.md"),
    } <= names
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    if loaded.family != "paligemma":
        assert "chat_template.jinja" in names


def test_model_is_a_real_one_of_some_depth(loaded):
    folder = zoo_checkpoint(loaded.family)
    assert type(loaded.model).__name__ == CLASSES[loaded.family]
    config = AutoConfig.from_pretrained(folder)
    assert config.model_type == loaded.family
    assert config.get_text_config().num_hidden_layers >= 6
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Wie viele Bäume? 漢字 🐈\n"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    eos = loaded.model.generation_config.eos_token_id
    assert eos == tokenizer.eos_token_id


def test_image_tokens(loaded):
    sizes = {}
    for index in range(30):
        image = draw_scene(scene_seed("zoo-test", index)).image
        inputs = loaded.processor(
            images=[[image]], text=[study_prompt(loaded.family, "?")], return_tensors="pt"
        )
        image_id = loaded.model.config.image_token_id
        sizes[image.size] = int((inputs["input_ids"] == image_id).sum())
    wide = 192 if loaded.family == "qwen2_vl" else 144
    assert sizes == {(96, 96): 144, (128, 96): wide, (96, 128): wide}


@pytest.fixture(scope="module")
def existence():
    test_set = build_test_set(60)
    return test_set, test_set.splits["random"]


def test_model_looks(loaded, existence):
    """At least 75% right on 60 questions; chance gives this less than once in 10,000 times."""
    test_set, asked = existence
    images = [test_set.scenes[q.scene].image for q in asked]
    answers = answer_questions(loaded, images, [q.text for q in asked])
    assert set(map(str.lower, answers)) == {"yes", "no"}
    right = sum(a.lower() == q.answer for a, q in zip(answers, asked, strict=True))
    assert right >= 45


def test_model_answers_from_the_image_it_is_given(loaded, existence):
    """With each question beside another scene, accuracy falls."""
    test_set, asked = existence
    images = [test_set.scenes[q.scene].image for q in asked]
    texts = [q.text for q in asked]
    shifted = images[30:] + images[:30]
    truth = [q.answer for q in asked]
    own, other = (
        sum(a.lower() == t for a, t in zip(answer_questions(loaded, x, texts), truth, strict=True))
        for x in (images, shifted)
    )
    assert own - other >= 10


def test_answers_do_not_depend_on_the_batch(loaded, existence):
    test_set, asked = existence
    few = list(islice(asked, 8))
    images = [test_set.scenes[q.scene].image for q in few]
    texts = [q.text for q in few]
    together = answer_questions(loaded, images, texts)
    alone = [
        answer_questions(loaded, [image], [text])[0]
        for image, text in zip(images, texts, strict=True)
    ]
    assert together == alone


def test_answers_fit_the_question(loaded):
    scenes = [draw_scene(scene_seed("zoo-test", i)) for i in range(6)]
    kinds = {
        existence_question("car"): {"yes", "no"},
        "How many cars are in the image?": set("0123456"),
    }
    for text, allowed in kinds.items():
        answers = answer_questions(loaded, [s.image for s in scenes], [text] * len(scenes))
        assert {a.lower() for a in answers} <= allowed


def figures_of(family):
    made = json.loads((zoo_checkpoint(family) / "training.json").read_text())
    return made["figures"]


def test_model_is_good_enough_for_the_demo(loaded):
    figures = figures_of(loaded.family)
    assert figures["random"]["accuracy"] >= 0.85
    assert abs(figures["blank"]["accuracy"] - 0.5) <= 0.10
    for split, least in {"counting": 0.55, "open": 0.70, "spatial": 0.65}.items():
        assert figures[split]["accuracy"] >= least


@pytest.mark.parametrize("family", FAMILIES)
def test_model_errs_enough_for_the_demo(family):
    figures = figures_of(family)
    assert figures["adversarial"]["wrong"] >= 100
    assert figures["random"]["accuracy"] - figures["adversarial"]["accuracy"] >= 0.03
    for split in ("counting", "open", "spatial"):
        assert figures[split]["accuracy"] <= 0.90
