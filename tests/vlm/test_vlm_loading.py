"""Loading: what is set, and one clear line for what is missing."""

import json
import shutil

import pytest
import torch

from vrp.errors import InputError
from vrp.vlm.loading import load_vlm
from vrp.vlm.tap import ATTENTION_NAME


def test_loaded_model(vlm):
    assert (vlm.n_layers, vlm.n_heads, vlm.d_model) == (3, 4, 32)
    assert vlm.eos_token_ids == (1,)
    assert not vlm.model.training
    assert vlm.model.config.get_text_config()._attn_implementation == ATTENTION_NAME
    assert vlm.model.config.vision_config._attn_implementation == "sdpa"
    assert next(vlm.model.parameters()).dtype == torch.float32


def test_bfloat16(checkpoints):
    loaded = load_vlm(checkpoints["llava"], family="llava", device="cpu", dtype="bfloat16")
    assert loaded.model.dtype == torch.bfloat16


def _copy(checkpoints, family, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoints[family], folder)
    return folder


def test_eos_of_the_generation_config_wins(checkpoints, tmp_path):
    folder = _copy(checkpoints, "llava", tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 1]}))
    assert load_vlm(folder, family="llava", device="cpu").eos_token_ids == (1, 9)
    (folder / "generation_config.json").unlink()
    assert load_vlm(folder, family="llava", device="cpu").eos_token_ids == (1,)


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_vlm(tmp_path / "nowhere", family="llava")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file(checkpoints, tmp_path, file):
    folder = _copy(checkpoints, "llava", tmp_path)
    (folder / file).unlink()
    with pytest.raises(InputError, match="checkpoint") as caught:
        load_vlm(folder, family="llava", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_truncated_weights_file(checkpoints, tmp_path):
    folder = _copy(checkpoints, "llava", tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"fetch it again|complete"):
        load_vlm(folder, family="llava", device="cpu")


def test_pickled_weights_are_refused(checkpoints, tmp_path):
    folder = _copy(checkpoints, "llava", tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError):
        load_vlm(folder, family="llava", device="cpu")


def test_a_checkpoint_of_another_family(checkpoints):
    with pytest.raises(InputError, match="'paligemma' model, not 'llava'"):
        load_vlm(checkpoints["paligemma"], family="llava")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"family": "lava"}, "did you mean 'llava'"),
        ({"family": "llava", "dtype": "int8"}, "float32, bfloat16, float16"),
        ({"family": "llava", "device": "gpu7"}, "gpu7"),
        ({"family": "llava", "prompt": "long"}, "short_answer"),
    ],
)
def test_bad_arguments(checkpoints, arguments, named):
    with pytest.raises(InputError, match=named):
        load_vlm(checkpoints["llava"], **arguments)


def test_a_hub_model_that_cannot_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="some-org/no-such-model") as caught:
        load_vlm("some-org/no-such-model", family="llava", device="cpu")
    assert "\n" not in str(caught.value)


def test_answer_tokens_cover_every_surface_form(vlm):
    token = vlm.tokenizer.convert_tokens_to_ids
    found = vlm.answer_token_ids(["Yes", "yes"])
    assert set(found) == {token(t) for t in ("Yes", "yes", "ĠYes", "Ġyes")}
    # "two" is spelt in bytes here: a lone space is no answer's first token.
    assert set(vlm.answer_token_ids(["two"])) == {token("t")}
