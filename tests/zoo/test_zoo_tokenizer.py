import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrp.data.scenes.draw import CATEGORIES, SCENE_TYPES
from vrp.data.scenes.icons import COLORS
from vrp.data.scenes.questions import ANSWERS, plural
from vrp.zoo.architectures import FAMILIES
from vrp.zoo.processors import answer_text, build_processor, study_prompt
from vrp.zoo.tokenizer import SHORT_ANSWER_LINE, VICUNA_SYSTEM_LINE, build_tokenizer, special_ids

TOKENIZERS = {family: build_tokenizer(family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(
        lambda s: "<" not in s
    )
)
def test_any_text_round_trips(family, text):
    tokenizer = TOKENIZERS[family]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text", ["Wie spät ist's? 漢字 🐈‍⬛\n\tيمين", "İstanbul  two   spaces ", "e\u0301 vs é"]
)
def test_unicode_round_trips(family, text):
    tokenizer = TOKENIZERS[family]
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("family", FAMILIES)
def test_scene_words_are_single_tokens(family):
    tokenizer = TOKENIZERS[family]
    words = [*CATEGORIES, *map(plural, CATEGORIES), *COLORS, *SCENE_TYPES, "Yes", "no", "left"]
    for word in words:
        for form in (word, f" {word}"):
            assert len(tokenizer(form, add_special_tokens=False)["input_ids"]) == 1, form


@pytest.mark.parametrize("family", FAMILIES)
def test_every_true_answer_is_one_token(family):
    tokenizer = TOKENIZERS[family]
    for answer in ANSWERS:
        text = answer_text(family, answer)
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1
        assert text.strip().lower() == answer


def test_prompt_lines_are_one_token_each_where_a_family_uses_them():
    ids = TOKENIZERS["llava"](VICUNA_SYSTEM_LINE + SHORT_ANSWER_LINE)["input_ids"]
    assert len(ids) == 3  # with <s>


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_are_the_real_ones(family):
    ids = special_ids(family, TOKENIZERS[family])
    names = {
        "llava": ("<s>", "</s>", "<pad>", "<image>"),
        "paligemma": ("<bos>", "<eos>", "<pad>", "<image>"),
        "qwen2_vl": (None, "<|im_end|>", "<|endoftext|>", "<|image_pad|>"),
    }[family]
    found = [
        None if i is None else TOKENIZERS[family].convert_ids_to_tokens(i)
        for i in (ids.bos, ids.eos, ids.pad, ids.image)
    ]
    assert tuple(found) == names


def test_paligemma_knows_its_location_tokens():
    ids = TOKENIZERS["paligemma"]("<loc0000><seg127>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_chat_template_renders_the_study_prompt(family):
    processor = build_processor(family, build_tokenizer(family))
    content = [
        {"type": "image"},
        {"type": "text", "text": f"Is there a car in the image?\n{SHORT_ANSWER_LINE}"},
    ]
    rendered = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    assert rendered == study_prompt(family, "Is there a car in the image?")
