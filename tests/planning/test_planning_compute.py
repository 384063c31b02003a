"""Operations, against LLaVA-1.5-7B counted by hand."""

import pytest

from vrp.planning.compute import (
    capture_flops,
    decode_flops,
    item_flops,
    prefill_flops,
)
from vrp.planning.published_dimensions import published_checkpoint
from vrp.vlm.capture_spec import CaptureSpec
from vrp.vlm.dimensions import Dimensions


@pytest.fixture(scope="module")
def llava() -> Dimensions:
    return published_checkpoint("llava-1.5-7b").dimensions


# Multiply-adds of a token in one layer: q, k, v, o are 4096×4096; gate, up, down 4096×11008.
LAYER_MACS = 4 * 16_777_216 + 3 * 45_088_768
UNEMBED_MACS = 4_096 * 32_064


def test_prefill_by_hand(llava: Dimensions) -> None:
    # 600 tokens: every query scores 600 keys of 4096 numbers (all heads), then sums 600 values.
    attention_macs = 600 * 600 * 4_096 * 2
    expected = 2 * (32 * (600 * LAYER_MACS + attention_macs) + UNEMBED_MACS)
    assert prefill_flops(llava, 600) == expected
    # The rule of thumb: 2 operations a parameter and token; attention adds 2.4% here.
    assert prefill_flops(llava, 600) == pytest.approx(2 * 6.476e9 * 600, rel=0.05)


def test_decode_step_by_hand(llava: Dimensions) -> None:
    expected = 2 * (32 * (LAYER_MACS + 601 * 4_096 * 2) + UNEMBED_MACS)
    assert decode_flops(llava, 601) == expected


def test_image_by_hand(llava: Dimensions) -> None:
    # 576 patches of 3·14·14 numbers to 1024; 577 tokens through 24 layers of four 1024×1024 and
    # two 1024×4096, each token scoring 577 others; 576 tokens through 1024→4096→4096.
    patches = 576 * 588 * 1_024
    dense = 577 * (4 * 1_024**2 + 2 * 1_024 * 4_096)
    attention = 577 * 577 * 1_024 * 2
    projector = 576 * (1_024 * 4_096 + 4_096 * 4_096)
    assert llava.image_flops.at(576) == 2 * (patches + 24 * (dense + attention) + projector)


def test_merged_patches_run_one_by_one_and_are_projected_together() -> None:
    qwen = published_checkpoint("qwen2-vl-7b-instruct").dimensions
    # 6 image tokens are 24 patches of 3·2·14·14 numbers; 32 layers of width 1280; the merger sees
    # four patches at once: 5120→5120→3584.
    layer = 24 * (4 * 1_280**2 + 2 * 1_280 * 5_120) + 24 * 24 * 1_280 * 2
    merger = 6 * (5_120 * 5_120 + 5_120 * 3_584)
    assert qwen.image_flops.at(6) == 2 * (24 * 1_176 * 1_280 + 32 * layer + merger)


def test_grouped_keys_are_projected_once_a_group() -> None:
    gemma = published_checkpoint("paligemma-3b-mix-224").dimensions
    layer = 2_048 * (8 + 1 + 1 + 8) * 256 + 3 * 2_048 * 16_384
    attention = 300 * 300 * 8 * 256 * 2
    expected = 2 * (18 * (300 * layer + attention) + 2_048 * 257_216)
    assert prefill_flops(gemma, 300) == expected


def test_capture_by_hand(llava: Dimensions) -> None:
    nothing = capture_flops(llava, CaptureSpec(), n_tokens=600, n_answer_tokens=2)
    rows = capture_flops(llava, CaptureSpec(attention=True), n_tokens=600, n_answer_tokens=2)
    lens = capture_flops(llava, CaptureSpec(lens=True), n_tokens=600, n_answer_tokens=2)
    parts = capture_flops(llava, CaptureSpec(contributions=True), n_tokens=600, n_answer_tokens=2)
    assert nothing == 0
    # One query scores 600 keys, then one scores 601.
    assert rows == 2 * 32 * (600 + 601) * 4_096
    assert lens == 2 * 32 * UNEMBED_MACS
    assert parts == 2 * 32 * 4_096**2


def test_an_item_is_its_parts(llava: Dimensions) -> None:
    whole = item_flops(
        llava,
        n_image_tokens=576,
        n_tokens=600,
        n_answer_tokens=3,
        capture=CaptureSpec.full(),
        questions_per_image=2.0,
    )
    assert whole.image == llava.image_flops.at(576) // 2
    assert whole.prefill == prefill_flops(llava, 600)
    # The prefill gives the first answer token; two steps give the others.
    assert whole.decode == decode_flops(llava, 601) + decode_flops(llava, 602)
    assert whole.total == whole.image + whole.prefill + whole.decode + whole.capture
    # Reading everything is a small part of answering.
    assert 0 < whole.capture < 0.01 * whole.total
    alone = item_flops(llava, n_image_tokens=576, n_tokens=600, n_answer_tokens=1)
    assert alone.decode == alone.capture == 0
