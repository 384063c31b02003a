"""The model that runs is the model that was named: all of its weights, its own frame, no code."""

import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from stage_jobs import run_job

from vrp.config.models import ModelConfig
from vrp.config.study import study_from_mapping
from vrp.errors import InputError
from vrp.planning.sources import check_families
from vrp.vlm.families import get_family
from vrp.vlm.family_names import family_names
from vrp.vlm.loading import check_checkpoint, load_vlm
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
@pytest.mark.parametrize("layout", ZOO_FAMILIES)
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
