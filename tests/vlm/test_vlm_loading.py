"""Loading: what is set, and one clear line for what is missing."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vrp.errors import InputError
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.loading import load_vlm


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


def hub_error(kind, status):
    return kind("no", response=SimpleNamespace(headers={}, request=None, status_code=status))


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (hub_error(GatedRepoError, 403), "licence is not accepted; accept it at https?://.*some-"),
        (hub_error(RevisionNotFoundError, 404), "revision 'v9' does not exist; take a commit"),
        (hub_error(RepositoryNotFoundError, 404), "neither a folder here nor a model on the hub"),
        (hub_error(HfHubHTTPError, 401), "the hub refuses it"),
        (hub_error(HfHubHTTPError, 503), "not in the cache and the hub cannot be reached"),
        (LocalEntryNotFoundError("no"), "not in the cache and the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_explained_as_when_fetching(monkeypatch, cause, words):
    def refuse(*arguments, **options):
        raise OSError("several lines\nof advice") from cause

    monkeypatch.setattr("vrp.vlm.config_and_processor.PretrainedConfig.get_config_dict", refuse)
    with pytest.raises(InputError, match=f"^checkpoint some-org/model: .*{words}") as caught:
        load_vlm("some-org/model", family="llava", revision="v9", device="cpu")
    assert "\n" not in str(caught.value)


def test_answer_tokens_cover_every_surface_form(vlm):
    token = vlm.tokenizer.convert_tokens_to_ids
    found = vlm.answer_token_ids(["Yes", " Yes", "yes", " yes"], usual="yes")
    assert set(found) == {token(t) for t in ("Yes", "yes", "ĠYes", "Ġyes")}


def test_an_answer_that_begins_with_a_bare_space_has_no_tokens_of_its_own(vlm):
    """ "two" is spelt in bytes here: behind `ASSISTANT:` the first of them is the space."""
    t = vlm.tokenizer.convert_tokens_to_ids("t")
    found = vlm.answer_token_ids(["two", " two"], usual="two")
    assert found == (() if vlm.family.name == "llava" else (t,))


def test_a_bare_space_that_opens_an_unusual_form_is_left_out(vlm):
    token = vlm.tokenizer.convert_tokens_to_ids
    found = vlm.answer_token_ids(["yes", " yes", "YES", " YES"], usual="yes")
    assert set(found) == {token("yes"), token("Ġyes"), token("Y")}


def test_a_text_that_changes_the_prompts_own_tokens_is_none_of_its_answers(vlm, monkeypatch):
    """A prompt that ends in a space of its own, as the bytes of " yes" may be merged with it."""
    question = vlm.render_prompt("{}")
    monkeypatch.setattr(
        type(vlm.family), "render_prompt", lambda family, asked: question.replace("{}", asked) + " "
    )
    assert vlm.family.continuation_token_ids(["yes"]) == [[]]
    assert len(vlm.family.continuation_token_ids(["two"])[0]) == 3
