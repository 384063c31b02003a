"""The model that runs is the model that was named: all of its weights, its own frame, no code."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from stage_jobs import run_job
from transformers import AutoProcessor

from vrp.config.models import ModelConfig
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.planning.dimension_sources import check_families
from vrp.vlm.families import get_family
from vrp.vlm.family_names import family_names
from vrp.vlm.loading import bind_vlm, check_checkpoint, load_vlm
from vrp.vlm.weights import weights_digest
from vrp.zoo import ZOO_FAMILIES, zoo_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    """Make a copy of an embedded model with other weights."""

    def make(family, change=dict):
        folder = tmp_path / family
        shutil.copytree(zoo_checkpoint(family), folder)
        weights = change(load_file(folder / "model.safetensors"))
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def edit_json(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def without(part):
    return lambda weights: {name: v for name, v in weights.items() if part not in name}


def prefixed(weights):
    return {f"base_model.model.{name}": tensor for name, tensor in weights.items()}


def with_adapter(weights):
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    return weights | {name.replace(".weight", ".lora_A.weight"): torch.ones(2, 8)}


def one_layer_more(weights):
    more = {n.replace("layers.0.", "layers.99."): v.clone() for n, v in weights.items()}
    return more | weights


def narrower(weights):
    name = next(name for name in weights if name.endswith("layers.0.mlp.up_proj.weight"))
    return weights | {name: weights[name][:-1].clone()}


REFUSED = {
    "an MLP is missing": (without("layers.1.mlp"), "layers.1.mlp.down_proj.weight and"),
    "one tensor is missing": (without("layers.2.self_attn.q_proj"), "self_attn.q_proj."),
    "embeddings and tied head are missing": (without("embed_tokens"), "lack lm_head.weight"),
    "the last norm is missing": (without("model.norm"), "lack model.language_model.norm.weight"),
    "every name has a prefix": (prefixed, "names begin with 'base_model."),
    "an adapter was not merged": (with_adapter, "lora_A.weight, which its model does not read"),
    "a layer more than the config": (one_layer_more, "layers.99."),
    "a shape differs": (narrower, "has shape"),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", ZOO_FAMILIES)
@pytest.mark.parametrize("name", REFUSED)
def test_other_weights_are_refused(checkpoint, family, name):
    change, words = REFUSED[name]
    folder = checkpoint(family, change)
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError) as caught:
            load(folder, family=family)
        assert words in str(caught.value)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["llava", "qwen2_vl"])
def test_the_family_auto_is_checked_alike(checkpoint, layout):
    assert not any(
        "weight" in name for name in check_checkpoint(zoo_checkpoint(layout), family="auto")
    )
    folder = checkpoint(layout, without("layers.1.mlp"))
    with pytest.raises(InputError, match=r"lack .*layers\.1\.mlp"):
        check_checkpoint(folder, family="auto")


@pytest.mark.slow
def test_fetching_refuses_them_and_writes_no_manifest(checkpoint, tmp_path):
    manifest = tmp_path / "model.json"
    folder = checkpoint("llava", without("layers.1.mlp"))
    model = ModelConfig(family="llava", checkpoint=str(folder))
    with pytest.raises(InputError, match=r"lack .*layers\.1\.mlp"):
        run_job("fetch_model", {"manifest": manifest}, model=model)
    assert not manifest.exists()
    whole = ModelConfig(family="llava", checkpoint=str(zoo_checkpoint("llava")))
    run_job("fetch_model", {"manifest": manifest}, model=whole)
    assert json.loads(manifest.read_text())["unread"] == []


@pytest.mark.parametrize(
    ("family", "part"), [("llava", "projector"), ("paligemma", "projector"), ("qwen2_vl", "merger")]
)
def test_a_missing_connector_is_refused(checkpoint, family, part):
    with pytest.raises(InputError, match=f"lack model.*{part}"):
        load_vlm(checkpoint(family, without(part)), family=family)


def test_transformers_own_report_stays_out_of_the_log(checkpoint, caplog, capfd):
    folder = checkpoint("llava", without("layers.1.mlp"))
    with pytest.raises(InputError):
        load_vlm(folder, family="llava")
    assert "LOAD REPORT" not in caplog.text + capfd.readouterr().err


def test_a_computed_buffer_is_named_and_harmless(checkpoint, caplog):
    name = "visual.embeddings.position_ids"
    folder = checkpoint("qwen2_vl", lambda weights: weights | {name: torch.arange(4)})
    (unread,) = check_checkpoint(folder, family="qwen2_vl")
    assert unread.endswith("embeddings.position_ids")
    with caplog.at_level(logging.WARNING):
        vlm = load_vlm(folder, family="qwen2_vl")
    assert "position_ids in its files: computed, not read" in caplog.text
    assert unread in vlm.notes[0]
    assert vlm.weights == load_vlm(zoo_checkpoint("qwen2_vl"), family="qwen2_vl").weights


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "paligemma"])
def test_what_the_class_itself_ignores_is_harmless(checkpoint, family):
    name = "vision_tower.vision_model.embeddings.position_ids"
    folder = checkpoint(family, lambda weights: weights | {name: torch.arange(4)})
    weights = load_vlm(zoo_checkpoint(family), family=family).weights
    assert load_vlm(folder, family=family).weights == weights


def test_one_flipped_bit_changes_the_digest(checkpoint):
    vlm = load_vlm(checkpoint("llava"), family="llava")
    assert vlm.weights == weights_digest(vlm.model)
    for parameter in (vlm.lm_head.weight, next(vlm.layers[3].parameters())):
        bits = parameter.data.view(-1)[5:6].view(torch.int32)
        bits ^= 1
        assert weights_digest(vlm.model) != vlm.weights
        bits ^= 1
    assert weights_digest(vlm.model) == vlm.weights


def test_swapped_values_change_the_digest():
    layer = torch.nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0, 3.0]])
    before = weights_digest(layer)
    layer.weight.data = torch.tensor([[2.0, 1.0, 3.0]])
    assert weights_digest(layer) != before


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"]
)
def test_code_of_a_checkpoint_is_refused_and_never_asked_about(checkpoint, file, monkeypatch):
    folder = checkpoint("qwen2_vl")
    if not (folder / file).exists():
        pytest.skip(f"the embedded checkpoint has no {file}")
    edit_json(folder / file, auto_map={"AutoConfig": "evil.EvilConfig"})
    (folder / "evil.py").write_text("raise SystemExit('the code ran')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="brings code of its own"):
        load_vlm(folder, family="qwen2_vl")


def test_a_quantised_checkpoint_is_refused_as_such(checkpoint):
    folder = checkpoint("llava")
    quantised = {"quant_method": "awq", "bits": 4}
    edit_json(folder / "config.json", quantization_config=quantised)
    with pytest.raises(InputError, match=r"is quantised \(awq\)"):
        load_vlm(folder, family="llava")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_of_the_config_is_overridden(checkpoint, key):
    folder = checkpoint("llava")
    config = json.loads((folder / "config.json").read_text())
    config |= {key: "flash_attention_2"}
    config["text_config"] |= {key: "flash_attention_2"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_vlm(folder, family="llava").weights


def test_a_text_config_without_eos_uses_the_generation_config(checkpoint, monkeypatch):
    folder = checkpoint("qwen2_vl")
    loaded = load_vlm(folder, family="qwen2_vl")
    monkeypatch.delattr(type(loaded.text_config), "eos_token_id", raising=False)
    config = json.loads((folder / "config.json").read_text())
    config.get("text_config", config).pop("eos_token_id", None)
    (folder / "config.json").write_text(json.dumps(config))
    edit_json(folder / "generation_config.json", eos_token_id=[7, 3])
    assert load_vlm(folder, family="qwen2_vl").eos_token_ids == (3, 7)


def test_a_llava_with_another_chat_template_is_refused(checkpoint):
    folder = checkpoint("llava")
    frame = "[INST] <image>\n{{ messages[0]['content'][1]['text'] }} [/INST]"
    (folder / "chat_template.jinja").write_text(frame)
    with pytest.raises(InputError, match="use family: auto"):
        load_vlm(folder, family="llava")


PHI = (
    "{% for message in messages %}{{ '<|user|>\\n' + message['content'] + '<|end|>\\n"
    "<|assistant|>\\n' }}{% endfor %}"
)
VICUNA = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} ASSISTANT:{% endfor %}"
)
UNFIT = {
    "Phi-3's, for text alone": (PHI, r"'<\|user\|>.*use family: auto"),
    "Mistral's, for text alone": (
        "{{ '[INST] ' + messages[0]['content'] + ' [/INST]' }}", r"\[INST\].*use family: auto"),
    "another system line": ("You are a pirate. " + VICUNA, "pirate.*use family: auto"),
    "more after it": (VICUNA + " Sure,", "Sure.*use family: auto"),
    "it raises": ("{{ raise_exception('no images') }}", r"cannot be used .*\(no images\)"),
    "it is broken": ("{% for m in %}", "cannot be used"),
    "an unknown filter": ("{{ messages | nofilter }}", "cannot be used .*nofilter"),
    "it divides by zero": ("{{ 1 / 0 }}", "cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json"])
@pytest.mark.parametrize("name", UNFIT)
def test_a_llava_with_another_frame_or_a_broken_template_is_refused(checkpoint, name, place):
    template, words = UNFIT[name]
    folder = checkpoint("llava")
    (folder / "chat_template.jinja").unlink()
    if place == "chat_template.jinja":
        (folder / place).write_text(template)
    else:
        edit_json(folder / place, chat_template=template)
    with pytest.raises(InputError, match=words) as caught:
        check_checkpoint(folder, family="llava")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", [VICUNA, "USER: {{ messages[0]['content'] }} ASSISTANT:"])
def test_vicunas_frame_is_taken_in_templates_for_text_alone_too(checkpoint, template):
    folder = checkpoint("llava")
    (folder / "chat_template.jinja").write_text(template)
    assert load_vlm(folder, family="llava").weights


@pytest.mark.parametrize("family", ["qwen2_vl", "paligemma", "auto"])
@pytest.mark.parametrize("template", [PHI, "{% for m in %}", "no question", "{{ 1 / 0 }}"])
def test_an_unfit_template_is_one_line_whatever_the_family(checkpoint, family, template):
    folder = checkpoint("qwen2_vl" if family == "auto" else family)
    (folder / "chat_template.jinja").write_text(template)
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match="chat template") as caught:
            load(folder, family=family)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_processors_template_is_taken_where_the_tokenizer_has_none(checkpoint):
    folder = checkpoint("qwen2_vl")
    before = load_vlm(folder, family="qwen2_vl").render_prompt("Is it red?")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_vlm(folder, family="qwen2_vl").render_prompt("Is it red?") == before


def test_vicunas_own_template_is_taken(checkpoint):
    folder = checkpoint("llava")
    # As llava-hf/llava-1.5-7b-hf has it: a role, the images, then the text.
    template = (
        "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
        "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    assert load_vlm(folder, family="llava").weights


def study(**model):
    return study_from_mapping({"study": "a", "models": {"m": model}})


def test_a_misspelt_family_is_refused_before_anything_is_planned():
    with pytest.raises(InputError, match=r"models\.m: .*did you mean 'llava'"):
        check_families(study(family="lava", checkpoint="zoo:llava"))


@pytest.mark.parametrize("checkpoint_of", ["folder", "zoo"])
def test_a_family_that_does_not_fit_is_refused_before_anything_is_planned(
    checkpoint, checkpoint_of
):
    place = str(checkpoint("paligemma")) if checkpoint_of == "folder" else "zoo:paligemma"
    with pytest.raises(InputError, match=r"is a .paligemma. model.*use family: paligemma"):
        check_families(study(family="qwen2_vl", checkpoint=place))
    check_families(study(family="paligemma", checkpoint=place))
    check_families(study(family="auto", checkpoint=place))


@pytest.mark.parametrize("name", [name for name in family_names() if name != "auto"])
def test_a_familys_name_is_its_model_type(name):
    assert get_family(name).model_class.config_class.model_type == name


def test_a_broken_part_is_one_line_before_any_weight_is_read(checkpoint, monkeypatch):
    monkeypatch.setattr("vrp.vlm.loading.check_stored_weights", lambda *_: pytest.fail("read"))
    for name, (file, content, words) in BROKEN.items():
        folder = checkpoint("llava")
        if file == "chat_template.json":
            (folder / "chat_template.jinja").unlink()
        (folder / file).write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            check_checkpoint(folder, family="llava")
        assert str(folder) in str(caught.value), name
        assert "\n" not in str(caught.value), name
        shutil.rmtree(folder)


BROKEN = (
    {
        "a part of the config is a number": (
            "config.json",
            b'{"model_type": "llava", "text_config": 5}',
            "'text_config' with value 5",
        ),
        "the type is a list": ("config.json", b'{"model_type": []}', "cannot be loaded"),
        "no tokenizer": ("tokenizer.json", b"{}", "cannot be loaded"),
        "a deep tokenizer": ("tokenizer.json", b"[" * 10**5, "cannot be loaded"),
        "tokens are a list": ("special_tokens_map.json", b"[]", "cannot be loaded"),
        "a template that is a number": (
            "chat_template.json",
            b'{"chat_template": 5}',
            "is not text",
        ),
        "no default template": (
            "chat_template.json",
            b'{"chat_template": {"rag": "x"}}',
            r"\(rag\) is the default one",
        ),
    }
    | {
        f"{file}, {name}": (file, content, "not a JSON object|cannot be loaded|valid JSON")
        for file in ("config.json", "tokenizer_config.json", "processor_config.json")
        for name, content in {
            "a list": b"[]",
            "a number": b"1",
            "not UTF-8": b"\xff\xfe{}",
            "cut": b'{"a": ',
        }.items()
    }
    | {
        f"generation_config.json, {content!r}": ("generation_config.json", content, words)
        for content, words in {
            b"{broken": "generation_config.json is not a JSON object",
            b"[]x": "generation_config.json is not a JSON object",
            b"1": "generation_config.json is not a JSON object",
            b"\xff\xfe{}": "generation_config.json is not a JSON object",
            b"[" * 10**5: "generation_config.json is not a JSON object",
            b'{"eos_token_id": "x"}': "eos_token_id 'x' in its generation_config.json",
            b'{"eos_token_id": []}': r"eos_token_id \[\]",
            b'{"eos_token_id": [2, "2"]}': r"eos_token_id \[2, '2'\]",
            b'{"eos_token_id": [2.0]}': r"eos_token_id \[2.0\]",
            b'{"eos_token_id": true}': "eos_token_id True",
            b'{"eos_token_id": -1}': "eos_token_id -1",
            b'{"eos_token_id": 99999999}': "eos_token_id 99999999",
        }.items()
    }
)


def test_a_generation_config_that_names_no_end_leaves_it_to_the_others(checkpoint):
    folder = checkpoint("llava")
    before = load_vlm(folder, family="llava").eos_token_ids
    for content in ("{}", '{"eos_token_id": null}'):
        (folder / "generation_config.json").write_text(content)
        assert load_vlm(folder, family="llava").eos_token_ids == before


@pytest.mark.parametrize("layer", [-9, 9, [-2, -9], "last", 1.5])
def test_a_vision_layer_that_is_not_there_is_refused(checkpoint, layer):
    folder = checkpoint("llava")
    edit_json(folder / "config.json", vision_feature_layer=layer)
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match=r"vision_feature_layer|cannot be loaded") as no:
            load(folder, family="llava")
        assert str(folder) in str(no.value)
        assert "\n" not in str(no.value)


def test_every_vision_layer_that_is_there_is_taken(checkpoint):
    folder = checkpoint("llava")
    depth = json.loads((folder / "config.json").read_text())["vision_config"]["num_hidden_layers"]
    for layer in (-depth - 1, -2, 0, depth):
        edit_json(folder / "config.json", vision_feature_layer=layer)
        assert check_checkpoint(folder, family="llava") == ()


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("image_mean", [float("nan")] * 3), ("image_std", [0, 0, 0]), ("image_mean", [0.5, 0.5]),
     ("image_std", ["a"] * 3), ("rescale_factor", float("inf"))],
)  # fmt: skip
def test_an_image_processor_that_makes_no_pixels_is_refused(checkpoint, family, key, value):
    folder = checkpoint(family)
    path = folder / "processor_config.json"
    content = json.loads(path.read_text())
    content["image_processor"][key] = value
    path.write_text(json.dumps(content))
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match="its image processor cannot process an image") as no:
            load(folder, family=family)
        assert str(folder) in str(no.value)
        assert "\n" not in str(no.value)


def test_a_missing_image_processor_is_refused_before_any_weight_is_read(checkpoint):
    folder = checkpoint("llava")
    (folder / "processor_config.json").unlink()
    with pytest.raises(InputError, match=r"image processor|preprocessor_config"):
        check_checkpoint(folder, family="llava")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "processor_config.json", "config.json"])
def test_code_of_any_part_is_refused_before_any_weight_is_read(checkpoint, file):
    folder = checkpoint("llava")
    edit_json(folder / file, auto_map={"AutoTokenizer": ["x.Y", None]})
    with pytest.raises(InputError, match="brings code of its own"):
        check_checkpoint(folder, family="llava")


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("method", ["awq", "bitsandbytes", "fp8"])
def test_a_quantised_part_is_refused_as_such(checkpoint, key, method):
    folder = checkpoint("llava")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"][key] = {"quant_method": method}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"is quantised \({method}\)"):
        check_checkpoint(folder, family="llava")


def as_dtype(dtype):
    def change(weights):
        name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
        return weights | {name: weights[name].to(dtype)}

    return change


def with_tensor(suffix, tensor):
    def change(weights):
        name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
        return weights | {name.removesuffix("weight") + suffix: tensor}

    return change


def gptq(weights):
    name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    left = {other: tensor for other, tensor in weights.items() if other != name}
    return left | {
        name.replace("weight", "qweight"): torch.zeros(4, 4, dtype=torch.int32),
        name.replace("weight", "scales"): torch.zeros(4),
    }


@pytest.mark.parametrize(
    "change",
    [as_dtype(torch.int8), as_dtype(torch.uint8), as_dtype(torch.float8_e4m3fn),
     as_dtype(torch.float8_e5m2), gptq, with_tensor("weight.absmax", torch.zeros(5)),
     with_tensor("weight.quant_state.bitsandbytes__nf4", torch.zeros(5)),
     with_tensor("SCB", torch.zeros(5)), with_tensor("weight_scale", torch.zeros(1))],
    ids=["int8", "uint8", "fp8", "fp8 e5m2", "GPTQ", "absmax", "4 bit", "8 bit", "scaled fp8"],
)  # fmt: skip
def test_quantised_weights_are_refused_without_a_word_in_the_config(checkpoint, change):
    folder = checkpoint("llava", change)
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match=r"its weights are quantised \(model\.safetensors"):
            load(folder, family="llava")


NO_FLOATS = [torch.int16, torch.int32, torch.int64, torch.bool, torch.complex64]


@pytest.mark.parametrize("dtype", NO_FLOATS, ids=str)
def test_weights_that_are_no_floating_point_numbers_are_refused(checkpoint, dtype):
    folder = checkpoint("llava", as_dtype(dtype))
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(
            InputError, match=r"model\.safetensors holds .*up_proj\.weight as"
        ) as no:
            load(folder, family="llava")
        assert str(folder) in str(no.value)
        assert "\n" not in str(no.value)


def test_the_weight_is_named_beside_buffers_that_are_integers_by_right(checkpoint):
    positions = {"vision_tower.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    whole = load_vlm(zoo_checkpoint("llava"), family="llava").weights
    folder = checkpoint("llava", lambda weights: weights | positions)
    assert load_vlm(folder, family="llava").weights == whole
    shutil.rmtree(folder)
    folder = checkpoint("llava", lambda weights: positions | as_dtype(torch.int32)(weights))
    with pytest.raises(InputError, match=r"up_proj\.weight as I32"):
        check_checkpoint(folder, family="llava")


def test_weights_in_float64_are_read(checkpoint):
    folder = checkpoint("llava", as_dtype(torch.float64))
    assert check_checkpoint(folder, family="llava") == ()
    whole = load_vlm(zoo_checkpoint("llava"), family="llava").weights
    assert load_vlm(folder, family="llava").weights == whole


def in_parts(folder, edit=lambda first, second: None):
    """Cut a checkpoint's weights into two files and an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = [{n: weights[n] for n in names[::2]}, {n: weights[n] for n in names[1::2]}]
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    edit(*parts)
    for file, part in zip(files, parts, strict=True):
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def times(value):
    """Multiply one MLP of the language model, the tensor of which lies in the second file."""

    def edit(first, second):
        name = next(n for n in [*second, *first] if n.endswith("layers.1.mlp.up_proj.weight"))
        part = second if name in second else first
        part[name] = part[name] * value

    return edit


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name_and_file(checkpoint, family, value):
    folder = checkpoint(family)
    in_parts(folder, times(value))
    with pytest.raises(
        InputError,
        match=r"model-0000[12]-of-00002\.safetensors holds NaN or infinite values in "
        r"\S*layers\.1\.mlp\.up_proj\.weight, ",
    ) as no:
        load_vlm(folder, family=family)
    assert str(folder) in str(no.value)
    assert "\n" not in str(no.value)


def test_one_value_that_is_not_finite_suffices(checkpoint):
    def change(weights):
        name = next(name for name in weights if name.endswith("embed_tokens.weight"))
        weights[name][5, 3] = float("-inf")
        return weights

    with pytest.raises(InputError, match=r"infinite values in \S*embed_tokens\.weight"):
        load_vlm(checkpoint("llava", change), family="llava")


def test_weights_beyond_float16_are_refused_only_there(checkpoint):
    def change(weights):
        name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
        weights[name][0, 0] = 70000.0
        return weights

    folder = checkpoint("llava", change)
    with pytest.raises(InputError, match=r"up_proj\.weight exceed what float16 can hold"):
        load_vlm(folder, family="llava", dtype="float16")
    assert load_vlm(folder, family="llava").weights


def test_a_model_in_memory_with_nan_weights_is_refused(checkpoint):
    vlm = load_vlm(zoo_checkpoint("llava"), family="llava")
    processor = AutoProcessor.from_pretrained(zoo_checkpoint("llava"))
    vlm.layers[2].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"given model: NaN .*layers\.2\.mlp\.up_proj\.weight"):
        bind_vlm(vlm.model, processor, family="llava")


def test_files_that_are_not_loaded_are_not_judged(checkpoint):
    folder = checkpoint("llava")
    foreign = {"layers.0.w": torch.zeros(2, 2, dtype=torch.int8)}
    save_file(foreign, folder / "consolidated.safetensors")
    assert check_checkpoint(folder, family="llava") == ()
    in_parts(folder)
    assert check_checkpoint(folder, family="llava") == ()
    assert load_vlm(folder, family="llava").weights


def test_a_weight_in_a_file_that_is_not_loaded_is_missing(checkpoint):
    folder = checkpoint("llava", without("layers.2.mlp"))
    whole = load_file(zoo_checkpoint("llava") / "model.safetensors")
    save_file({n: v for n, v in whole.items() if "layers.2.mlp" in n}, folder / "extra.safetensors")
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match=r"lack .*layers\.2\.mlp"):
            load(folder, family="llava")


def test_a_weight_that_two_files_hold_is_refused(checkpoint):
    folder = checkpoint("llava")
    in_parts(folder, lambda first, second: second.update({min(first): 5 * first[min(first)]}))
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match=r"-00001-of-00002.* and in model-00002"):
            load(folder, family="llava")


def test_an_adapter_beside_the_weights_is_refused(checkpoint):
    folder = checkpoint("llava")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for load in (load_vlm, check_checkpoint):
        with pytest.raises(InputError, match=r"adapter_config\.json says .* merge the adapter"):
            load(folder, family="llava")


@pytest.mark.parametrize("family", ZOO_FAMILIES)
def test_an_image_token_that_no_prompt_holds_is_refused(checkpoint, family):
    folder = checkpoint(family)
    edit_json(folder / "config.json", image_token_index=99999, image_token_id=99999)
    with pytest.raises(InputError, match=r"image_token_id 99999 in its config\.json"):
        check_checkpoint(folder, family=family)
    edit_json(folder / "config.json", image_token_index=5, image_token_id=5)
    with pytest.raises(InputError, match="image placeholder"):
        check_checkpoint(folder, family=family)
