"""Dimensions as planning reads them: published totals, image tokens, and where they come from."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig, load_study, study_from_mapping
from vrp.errors import InputError
from vrp.planning import dimension_sources
from vrp.planning.dimension_sources import dimensions_of, read_manifests
from vrp.planning.published_dimensions import published_checkpoint
from vrp.planning.resources import StudyResources
from vrp.vlm.dimensions import Dimensions

CONFIG = Path(__file__).parents[2] / "config"


def shipped(name: str) -> Dimensions:
    return published_checkpoint(name).dimensions


# Counted by others on the published weights; for Qwen2-VL, half the 16,582,751,232 bytes of its
# bfloat16 index. PaliGemma is published in float32.
@pytest.mark.parametrize(
    ("name", "total", "width"),
    [
        ("llava-1.5-7b", 7_063_427_072, 2),
        ("paligemma-3b-mix-224", 2_923_466_480, 4),
        ("qwen2-vl-7b-instruct", 8_291_375_616, 2),
    ],
)
def test_totals_are_the_published_ones(name: str, total: int, width: int) -> None:
    assert shipped(name).n_parameters == total
    assert shipped(name).checkpoint_bytes == width * total


def test_dimensions_of_grouped_heads() -> None:
    gemma, qwen = shipped("paligemma-3b-mix-224"), shipped("qwen2-vl-7b-instruct")
    assert (gemma.n_heads, gemma.n_kv_heads, gemma.d_head) == (8, 1, 256)
    assert (qwen.n_heads, qwen.n_kv_heads, qwen.d_head) == (28, 4, 128)


def test_images_of_one_size() -> None:
    assert shipped("llava-1.5-13b").n_image_tokens((100, 900)) == 24 * 24
    assert shipped("paligemma-3b-mix-224").n_image_tokens((100, 900)) == 16 * 16
    assert shipped("zoo:llava").n_image_tokens((100, 900)) == 12 * 12


@pytest.mark.parametrize(
    ("size", "bounds", "grid"),
    [
        # 640/28 = 22.86 → 23 columns; 480/28 = 17.14 → 17 rows.
        ((640, 480), (3_136, 12_845_056), (17, 23)),
        ((480, 640), (3_136, 12_845_056), (23, 17)),
        # 1×1 tokens are 784 pixels, under 3136: scale √(3136/600) = 2.286, so 54.9 by 57.2 pixels
        # rounded up to whole tokens.
        ((20, 30), (3_136, 12_845_056), (3, 2)),
        # 23·17 tokens are 306,544 pixels, over 200,704: scale √(307200/200704) = 1.237; 640/1.237
        # = 517.3 and 480/1.237 = 388 are 18.5 and 13.9 tokens, rounded down.
        ((640, 480), (3_136, 200_704), (13, 18)),
    ],
)
def test_images_of_their_own_size(
    size: tuple[int, int], bounds: tuple[int, int], grid: tuple[int, int]
) -> None:
    qwen = shipped("qwen2-vl-7b-instruct")
    bounded = qwen.with_pixel_bounds(min_pixels=bounds[0], max_pixels=bounds[1])
    assert bounded.images.grid(size) == grid
    assert bounded.n_image_tokens(size) == grid[0] * grid[1]


def test_what_cannot_be_is_refused() -> None:
    qwen, llava = shipped("qwen2-vl-7b-instruct"), shipped("llava-1.5-7b")
    with pytest.raises(InputError, match="factor of 200"):
        qwen.n_image_tokens((2_010, 10))
    with pytest.raises(InputError, match="one size"):
        llava.with_pixel_bounds(max_pixels=10_000)
    assert llava.with_pixel_bounds() is llava


def test_dimensions_are_read_as_they_were_written() -> None:
    for name in ("llava-1.5-7b", "zoo:qwen2_vl"):
        plain = json.loads(json.dumps(shipped(name).as_json()))
        assert Dimensions.from_json(plain) == shipped(name)
        for change in ({"images": None}, {"token_flops": None, "more": 1}):
            with pytest.raises(InputError, match="no dimensions"):
                Dimensions.from_json({**plain, **change})


def test_checkpoints_are_found_by_name_and_model_id() -> None:
    assert published_checkpoint("google/paligemma-3b-pt-224").name == "paligemma-3b-mix-224"
    assert published_checkpoint("Qwen/Qwen2-VL-7B-Instruct").family == "qwen2_vl"
    assert published_checkpoint("zoo:paligemma").name == "zoo-paligemma"
    with pytest.raises(InputError, match=r"did you mean 'llava-1\.5-7b'"):
        published_checkpoint("llava-1.5-7")


# Where dimensions come from


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimension_sources, "_KNOWN", {})


def own_study(folder: Path) -> StudyConfig:
    """A study of a model of which only its folder is known."""
    plain: Any = load_study(CONFIG / "paper.yaml").model_dump(mode="json")
    plain["results"] = str(folder / "results")
    plain["models"] = {
        "mine": {"family": "auto", "checkpoint": str(folder / "mine"), "dtype": "bfloat16"}
    }
    return study_from_mapping(plain)


def write_manifest(study: StudyConfig, changes: dict[str, Any]) -> None:
    model = study.models["mine"]
    fields = {"family": model.family, "checkpoint": model.checkpoint, **changes}
    path = Path(study.results, study.study, "models", "mine.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))


def test_a_manifest_tells_the_dimensions_of_a_fetched_model(tmp_path: Path) -> None:
    study, qwen = own_study(tmp_path), shipped("qwen2-vl-7b-instruct")
    resources = StudyResources(study)
    assert resources.mem_mb("extract", "mine") == 48_000
    write_manifest(study, {"dimensions": qwen.as_json()})
    # 16.6 GB of weights pass through main memory: the model has been fetched since.
    assert 22_000 < resources.mem_mb("extract", "mine") < 40_000
    assert dimensions_of(study.models["mine"]) == qwen
    bounded = study.models["mine"].model_copy(update={"max_pixels": 200_704})
    dimension_sources._KNOWN[bounded] = qwen
    assert dimensions_of(bounded).n_image_tokens((640, 480)) == 13 * 18


@pytest.mark.parametrize(
    "changes", [{}, {"dimensions": None}, {"dimensions": {"n_layers": 3}}, {"checkpoint": "other"}]
)
def test_a_manifest_that_tells_nothing_is_passed_over(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    study = own_study(tmp_path)
    dimensions = shipped("llava-1.5-7b").as_json() if "checkpoint" in changes else None
    write_manifest(study, {"dimensions": dimensions} | changes if changes else {})
    read_manifests(study)
    with pytest.raises(InputError, match="are not known"):
        dimensions_of(study.models["mine"])
    assert StudyResources(study).mem_mb("extract", "mine") == 48_000


def test_manifests_are_read_once_and_not_for_every_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = own_study(tmp_path)
    write_manifest(study, {"dimensions": copy.deepcopy(shipped("llava-1.5-7b").as_json())})
    resources = StudyResources(study)
    monkeypatch.setattr(Path, "read_text", None)
    for stage in ("extract", "blind", "consistency", "mask", "metrics", "probes"):
        assert resources.mem_mb(stage, "mine") == resources.mem_mb(stage, "mine", 2) / 2


def test_what_ships_needs_no_manifest() -> None:
    model = ModelConfig(family="llava", checkpoint="zoo:llava")
    assert dimensions_of(model) == shipped("zoo:llava")
