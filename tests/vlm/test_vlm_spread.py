"""A model spread over devices answers and is read as one that is not."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_devices import FIRST, HOST, SECOND, place_of, pretended, spread

from vrp.errors import InputError
from vrp.vlm.batched_edits import Trunk
from vrp.vlm.decode import CaptureSpec, run_batch, sample_answers
from vrp.vlm.image_edits import AttentionMask, EmbeddingReplacement
from vrp.vlm.loading import load_vlm
from vrp.vlm.prefill import prepare
from vrp.vlm.residual_edits import MlpBypass, NeuronEdit

pytestmark = pytest.mark.slow

FAMILIES = ("llava", "paligemma", "qwen2_vl")
EVERYTHING = CaptureSpec.full(("prompt_end", "answer_end"))
SAMPLING = {"k": 3, "floor": 0.05, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 3}


def _same(found, expected, tolerance=0.0):
    for one, other in zip(found, expected, strict=True):
        for name in other._fields:
            a, b = getattr(one, name), getattr(other, name)
            if isinstance(b, np.ndarray | float):
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=name)
            elif isinstance(b, dict):
                for key, value in b.items():
                    np.testing.assert_allclose(a[key], value, rtol=0, atol=tolerance, err_msg=key)
            else:
                assert a == b, name


# Spread by transformers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}], ids=str)
def test_with_a_device_map_everything_is_as_without(family, device_map, checkpoints, vlms, items):
    mapped = load_vlm(checkpoints[family], family=family, device="cpu", device_map=device_map)
    found = run_batch(mapped, items, EVERYTHING, max_new_tokens=3)
    _same(found, run_batch(vlms[family], items, EVERYTHING, max_new_tokens=3))


@pytest.mark.parametrize("part", ["lm_head", "model.language_model"])
def test_weights_left_on_the_disk_are_refused(checkpoints, part):
    parts = ("lm_head", "model.language_model", "model.vision_tower", "model.multi_modal_projector")
    device_map = {name: "disk" if name == part else "cpu" for name in parts}
    with pytest.raises(InputError, match=r"does not fit the given GPUs: .*larger GPUs") as caught:
        load_vlm(checkpoints["llava"], family="llava", device_map=device_map)
    assert "\n" not in str(caught.value)


def test_weights_left_beside_the_gpus_are_refused(checkpoints, monkeypatch):
    """As accelerate records it where the GPUs are too small for all."""
    real = load_vlm(checkpoints["llava"], family="llava", device="cpu").model
    real.hf_device_map = {"model": 0, "lm_head": "cpu"}
    info: dict[str, set[str]] = {
        key: set() for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
    }
    monkeypatch.setattr(type(real), "from_pretrained", classmethod(lambda *a, **k: (real, info)))
    with pytest.raises(InputError, match="does not fit the given GPUs"):
        load_vlm(checkpoints["llava"], family="llava", device_map="auto")


def test_an_unknown_device_map(checkpoints):
    with pytest.raises(InputError, match="device_map 'gpus' is unknown; choose from: auto"):
        load_vlm(checkpoints["llava"], family="llava", device_map="gpus")


def test_a_device_map_without_accelerate(checkpoints, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "vrp.vlm.loading.find_spec", lambda name: None if name == "accelerate" else find_spec(name)
    )
    with pytest.raises(InputError, match=r"accelerate.*not installed.*requirements\.lock"):
        load_vlm(checkpoints["llava"], family="llava", device_map="auto")


def test_a_missing_package_is_not_taken_for_a_missing_file(checkpoints, monkeypatch):
    def refuse(*arguments, **options):
        raise ImportError("this needs the `sentencepiece` library\nand more advice")

    monkeypatch.setattr("vrp.vlm.config_and_processor.AutoTokenizer.from_pretrained", refuse)
    with pytest.raises(InputError, match=r"package.*sentencepiece.*requirements\.lock") as caught:
        load_vlm(checkpoints["llava"], family="llava")
    assert "\n" not in str(caught.value)


# Layers on two devices


@pytest.fixture(params=FAMILIES)
def halves(request, checkpoints: dict[str, Path]):
    """A model whose upper layers, norm and unembedding would lie on a second device."""
    vlm = load_vlm(checkpoints[request.param], family=request.param, device="cpu")
    spread(vlm.model, [*vlm.layers[1:], vlm.final_norm, vlm.lm_head])
    return vlm


@pytest.fixture
def whole(halves, vlms):
    return vlms[halves.family.name]


def test_everything_is_read_across_two_devices(halves, whole, items):
    expected = run_batch(whole, items, EVERYTHING, max_new_tokens=3)
    with pretended():
        _same(run_batch(halves, items, EVERYTHING, max_new_tokens=3), expected, 1e-5)


def test_samples_across_two_devices(halves, whole, items):
    expected = sample_answers(whole, items, **SAMPLING)
    with pretended():
        found = sample_answers(halves, items, **SAMPLING)
    assert [f.token_ids for f in found] == [e.token_ids for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.distribution.answers == other.distribution.answers
        np.testing.assert_allclose(
            one.distribution.probabilities, other.distribution.probabilities, atol=1e-5
        )


def test_interventions_across_two_devices(halves, whole, items):
    prepared = prepare(whole, items)
    keep = [np.arange(grid.n_tokens) % 3 > 0 for grid in prepared.grids]
    mean = np.zeros(whole.d_model, dtype=np.float32)
    edits = [NeuronEdit(0, np.array([3])), NeuronEdit(2, np.array([1, 2]), 5.0), MlpBypass(1)]
    for changes in (
        {"mask": AttentionMask(keep)},
        {"replace": EmbeddingReplacement(keep, mean)},
        {"edits": edits},
    ):
        expected = run_batch(whole, items, EVERYTHING, max_new_tokens=3, **changes)
        with pretended():
            found = run_batch(halves, items, EVERYTHING, max_new_tokens=3, **changes)
        _same(found, expected, 1e-5)


def test_edits_above_a_trunk_across_two_devices(halves, whole, items):
    edits = [NeuronEdit(1, np.array([3]), 9.0), MlpBypass(2)]
    expected = [run_batch(whole, items, max_new_tokens=3, edits=[edit]) for edit in edits]
    with pretended():
        prepared = prepare(halves, items)
        trunk = Trunk(halves, prepared, edits)
        for edit, answers in zip(edits, expected, strict=True):
            with trunk.under(edit):
                found = run_batch(halves, prepared, max_new_tokens=3, edits=[edit])
            _same(found, answers, 1e-5)


def test_the_pretended_devices_do_not_mix():
    """What the tests above rest on."""
    a, b = torch.ones(3), torch.ones(3)
    with pretended():
        a, b = a.to(FIRST), b.to(SECOND)
        assert (place_of(a + 1), place_of(b[:2]), place_of(a.cpu())) == (FIRST, SECOND, HOST)
        assert place_of(a + b.to(a.device)) == FIRST
        assert place_of(a[torch.tensor([0, 1])]) == FIRST
        assert place_of(torch.zeros(2, device=b.device)) == SECOND
        for mixed in (lambda: a + b, lambda: torch.stack([a, b]), lambda: a.numpy()):
            with pytest.raises((RuntimeError, TypeError), match=r"one device|numpy"):
                mixed()
