"""Tiny checkpoints of the three real classes, and the small study after it has run."""

import fcntl
import os
import runpy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from small_results import run_small_study
from warm_python import start_server

# A slow moment of the machine is no failure, and the same examples are tried everywhere.
settings.register_profile("unhurried", deadline=None, derandomize=True)
settings.load_profile("unhurried")

TINY_LAYERS = 4
TINY_WIDTH = 32
TINY_SIDE = 48  # pixels; a token stands for 8×8 of them, as in the embedded models

Edit = Callable[[Any, Any], None]


def pytest_configure() -> None:
    # Workers share the cores: more threads than cores take twice the time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "PYTEST_XDIST_WORKER" not in os.environ:  # one for all workers
        folder = Path(tempfile.mkdtemp(prefix="vrp-tests-"))
        os.environ["HF_HOME"] = str(folder / "huggingface")  # no test sees the user's own
        start_server(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files that run studies: a worker that took one last would keep all waiting.

    Files that need the one SLURM are spread among the others: begun together, all but one of them
    would each hold a worker that waits.
    """
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)
    of_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        of_file.setdefault(item.path, []).append(item)
    slurm = [file for file in of_file if file.parent.name == "slurm"]
    studies = [file for file, of in of_file.items() if of[0].get_closest_marker("workflow")]
    others = [file for file in of_file if file not in slurm]
    for i, file in enumerate(slurm):  # at the beginning, the half, two thirds of the studies
        others.insert(i * len(studies) // (i + 1), file)
    items[:] = [item for file in others for item in of_file[file]]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Skip what torch itself cannot do under an `ATEN_CPU_CAPABILITY` below the processor's.

    Its bfloat16 attention asks the processor, and not that setting, which kernels there are.
    """
    try:
        return (yield)
    except Exception as error:
        if "pack_vnni2 is only supported" in str(error):
            pytest.skip("torch has no bfloat16 attention under this ATEN_CPU_CAPABILITY")
        raise


class FinishedStudy(NamedTuple):
    """The small study after it has run, for tests to look at or to copy; do not change it."""

    folder: Path
    """A copy of the project, with its results."""
    ran: Path
    """Files of what every stage ran (`support/traced_vrp.py`)."""

    @property
    def results(self) -> Path:
        return self.folder / "results" / "ci"


@pytest.fixture(scope="session")
def small_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a study of one embedded model, run in this process; not to be changed."""
    return run_small_study(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def ci_study(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    """`config/ci.yaml`, run once for all processes that run tests."""
    from study_copy import StudyCopy

    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    finished = FinishedStudy(place / "ci-study" / "copy", place / "ci-study" / "ran")
    failed = place / "ci-study" / "failed.log"
    with (place / "ci-study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.folder.exists():
            finished.ran.mkdir(parents=True, exist_ok=True)
            traced = Path(__file__).parent / "support" / "traced_vrp.py"
            copy = StudyCopy(finished.folder, program=traced, warm=True)
            ended = copy.run(
                "--cores", "2", "--configfile", "config/ci.yaml",
                timeout=1800, VRP_TRACE=str(finished.ran),
            )  # fmt: skip
            if ended.status:
                failed.write_text(ended.output[-5000:])
    assert not failed.exists(), failed.read_text()
    return finished


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family → a folder written by save_pretrained; made once a session, so do not edit it."""
    folders: dict[str, Path] = {}

    def checkpoint(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(f"tiny-{family}")
            save_tiny_checkpoint(family, folders[family])
        return folders[family]

    return checkpoint


@pytest.fixture
def centre() -> Iterator[Any]:
    """The kind of mask condition that the file `support/centre_condition.py` registers."""
    from vrp.interventions.masking import MASK_KINDS

    kind = runpy.run_path(str(Path(__file__).parent / "support" / "centre_condition.py"))["CENTRE"]
    yield kind
    del MASK_KINDS[kind.name]


@pytest.fixture
def edited_checkpoint(tmp_path: Path) -> Callable[[str, Edit], Path]:
    """(family, edit) → a tiny checkpoint after `edit(model, tokenizer)`."""

    def checkpoint(family: str, edit: Edit) -> Path:
        folder = tmp_path / f"edited-{family}"
        save_tiny_checkpoint(family, folder, edit=edit)
        return folder

    return checkpoint


def save_tiny_checkpoint(family: str, folder: Path, *, edit: Edit | None = None) -> None:
    """Save an untrained model whose answers differ from item to item.

    Four layers of 32 dimensions under the embedded models' tokenizer; LLaVA and PaliGemma see
    6×6 image tokens, Qwen2-VL as many as the image has cells of 8×8 pixels.
    """
    import torch
    from transformers import GenerationConfig

    from vrp.zoo.processors import build_processor
    from vrp.zoo.tokenizer import build_tokenizer, special_ids

    tokenizer = build_tokenizer(family)  # type: ignore[arg-type]
    ids = special_ids(family, tokenizer)  # type: ignore[arg-type]
    tokenizer.chat_template = build_processor(family, tokenizer).chat_template  # type: ignore[arg-type]
    model_class, config, image_processor = _BUILDERS[family](len(tokenizer), ids)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = model_class(config).eval()
        for name, weight in model.named_parameters():
            # Weights as initialised hardly move the residual stream: answers would be constant.
            if weight.ndim == 2:
                weight.mul_(10)
            elif "norm" in name and name.endswith("weight"):
                weight.add_(0.3 * torch.randn_like(weight))
        if edit is not None:
            edit(model, tokenizer)
    model.generation_config = GenerationConfig(eos_token_id=ids.eos, pad_token_id=ids.pad)
    model.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _text(n_words: int, ids: Any, **changes: Any) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "vocab_size": n_words, "hidden_size": TINY_WIDTH, "intermediate_size": 48,
        "num_hidden_layers": TINY_LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "bos_token_id": ids.bos, "eos_token_id": ids.eos,
        "pad_token_id": ids.pad, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }  # fmt: skip
    return numbers | changes


def _llava(n_words: int, ids: Any) -> tuple[Any, Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaImageProcessorPil,
    )

    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=TINY_SIDE, patch_size=8, projection_dim=24,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(**_text(n_words, ids)),
        image_token_id=ids.image, vision_feature_layer=-1, tie_word_embeddings=False,
    )  # fmt: skip
    side = {"height": TINY_SIDE, "width": TINY_SIDE}
    processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": TINY_SIDE}, crop_size=side
    )
    return LlavaForConditionalGeneration, config, processor


def _paligemma(n_words: int, ids: Any) -> tuple[Any, Any, Any]:
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
    )

    vision = SiglipVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=TINY_SIDE, patch_size=8, vision_use_head=False,
    )  # fmt: skip
    text = GemmaConfig(**_text(n_words, ids, head_dim=8, num_key_value_heads=1))
    config = PaliGemmaConfig(
        vision_config=vision, text_config=text, image_token_id=ids.image,
        projection_dim=TINY_WIDTH, tie_word_embeddings=False,
    )  # fmt: skip
    processor = SiglipImageProcessorPil(size={"height": TINY_SIDE, "width": TINY_SIDE})
    processor.image_seq_length = (TINY_SIDE // 8) ** 2
    return PaliGemmaForConditionalGeneration, config, processor


def _qwen2_vl(n_words: int, ids: Any) -> tuple[Any, Any, Any]:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessorPil,
    )

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    config = Qwen2VLConfig(
        text_config=_text(n_words, ids, rope_parameters=rope),
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": TINY_WIDTH, "mlp_ratio": 2,
            "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        image_token_id=ids.image, video_token_id=ids.video,
        vision_start_token_id=ids.vision_start, vision_end_token_id=ids.vision_end,
        tie_word_embeddings=False,
    )  # fmt: skip
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2,
        size={"shortest_edge": 256, "longest_edge": 64 * 64},
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration, config, processor


_BUILDERS = {"llava": _llava, "paligemma": _paligemma, "qwen2_vl": _qwen2_vl}
