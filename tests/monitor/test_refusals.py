"""Each thing that a monitor was not fitted for is refused, in a line that says what to do."""

import pytest
import torch
from transformers import LogitsProcessor, StaticCache

from vrp.errors import InputError

pytestmark = pytest.mark.slow


def generate(monitor, loaded, asked, **options):
    given = monitor.inputs(loaded.processor, asked[0]["image"], asked[0]["question"])
    return loaded.model.generate(**{**given, **options})


def test_other_weights(monitor, fresh):
    with torch.no_grad():
        fresh.model.lm_head.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match=r"weights are [0-9a-f]{16}, the monitor was fitted to"):
        monitor.watch(fresh.model).__enter__()


def test_another_dtype(monitor, fresh):
    with pytest.raises(InputError, match=r"computes in bfloat16.*dtype=torch\.float32"):
        monitor.watch(fresh.model.to(torch.bfloat16)).__enter__()


def test_a_compiled_model(monitor, fresh):
    with pytest.raises(InputError, match="is compiled"):
        monitor.watch(torch.compile(fresh.model)).__enter__()
    fresh.model.compile()
    with pytest.raises(InputError, match="is compiled"):
        monitor.watch(fresh.model).__enter__()


def test_adapters(monitor, fresh):
    fresh.model._hf_peft_config_loaded = True
    with pytest.raises(InputError, match="has adapters"):
        monitor.watch(fresh.model).__enter__()


def test_training_mode(monitor, fresh):
    with pytest.raises(InputError, match=r"call model\.eval\(\) first"):
        monitor.watch(fresh.model.train()).__enter__()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: setattr(p.image_processor, "image_mean", [0.1, 0.2, 0.3]), "tokens or pixels"),
        (lambda p: p.tokenizer.add_tokens(["<new>"]), "tokens or pixels"),
    ],
)
def test_another_processor(monitor, fresh, change, message):
    change(fresh.processor)
    with pytest.raises(InputError, match=message), monitor.watch(fresh.model) as seen:
        monitor.inputs(fresh.processor, "x.png", "Is it red?")
    assert not seen
    with pytest.raises(InputError, match=message):
        monitor.watch(fresh.model, fresh.processor).__enter__()


def test_another_chat_template(monitor, fresh):
    fresh.processor.chat_template = "{{ messages[0]['content'] }} ANSWER:"
    with pytest.raises(InputError, match="chat template"):
        monitor.watch(fresh.model, fresh.processor).__enter__()


def test_another_prompt(monitor, loaded, asked):
    with monitor.watch(loaded.model):
        given = monitor.inputs(loaded.processor, asked[0]["image"], asked[0]["question"])
        ids = given["input_ids"].clone()
        ids[0, -2] = ids[0, -3]
        with pytest.raises(InputError, match="other words around its question"):
            loaded.model.generate(**{**given, "input_ids": ids})
        without_image = given["input_ids"][:, -3:]
        with pytest.raises(InputError, match="holds no image"):
            loaded.model.generate(input_ids=without_image, **monitor.generate_options())
        with pytest.raises(InputError, match="without input_ids"):
            loaded.model.generate(**monitor.generate_options())


def test_padding_on_the_right(monitor, loaded, asked):
    with monitor.watch(loaded.model):
        given = monitor.inputs(loaded.processor, asked[0]["image"], asked[0]["question"])
        row = given["attention_mask"].clone()
        row[0, -1] = 0
        with pytest.raises(InputError, match=r"padded on the right.*padding_side = 'left'"):
            loaded.model.generate(**{**given, "attention_mask": row})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "pass num_beams=1"),
        ({"num_return_sequences": 2}, "come from beam search"),
        ({"do_sample": True}, "pass do_sample=False"),
        ({"prompt_lookup_num_tokens": 3}, "decoding is assisted"),
        ({"assistant_model": object()}, "decoding is assisted"),
        ({"cache_implementation": "static"}, "cache_implementation='dynamic'"),
        ({"max_new_tokens": 20}, "answers of up to 20 tokens, the monitor was fitted to 6"),
        ({"eos_token_id": 5}, r"answers end at 5"),
    ],
)
def test_ways_to_generate(monitor, loaded, asked, options, message):
    with monitor.watch(loaded.model) as seen:
        with pytest.raises(InputError, match=message):
            generate(monitor, loaded, asked, **options)
        assert not seen


def test_a_static_cache(monitor, loaded, asked):
    cache = StaticCache(config=loaded.model.config.get_text_config(), max_cache_len=300)
    with monitor.watch(loaded.model), pytest.raises(InputError, match="static or compiled"):
        generate(monitor, loaded, asked, past_key_values=cache)


class Shift(LogitsProcessor):
    def __call__(self, input_ids, scores):
        return scores.roll(1, dims=-1)


def test_logits_processors_that_change_the_answer(monitor, loaded, asked):
    with monitor.watch(loaded.model), pytest.raises(InputError, match="not the model's greedy one"):
        generate(monitor, loaded, asked, logits_processor=[Shift()])


def test_a_processor_that_is_not_known(monitor, loaded, asked):
    with monitor.watch(loaded.model):
        given = monitor.inputs(loaded.processor, asked[0]["image"], asked[0]["question"])
    with monitor.watch(loaded.model), pytest.raises(InputError, match="processor is not known"):
        loaded.model.generate(**given)
    with pytest.raises(InputError, match="no model is attached"):
        monitor.inputs(loaded.processor, asked[0]["image"], asked[0]["question"])


def test_an_alpha_without_a_threshold(monitor, loaded):
    with pytest.raises(InputError, match=r"has thresholds for 0\.1, 0\.2, 0\.4"):
        monitor.watch(loaded.model, alpha=0.3).__enter__()
