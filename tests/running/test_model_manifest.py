"""Manifests: what a model exactly is, and noticing when it no longer is."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from stage_jobs import run_job

from vrp.config.models import ModelConfig
from vrp.errors import InputError
from vrp.planning.published_dimensions import published_checkpoint
from vrp.running.model_manifest import describe_folder, read_manifest
from vrp.tables.sealed_json import write_sealed_json
from vrp.vlm.dimensions import Dimensions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a checkpoint, beside files that are never loaded."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    save_file({"weight": np.arange(3.0)}, checkpoint / "model.safetensors")
    (checkpoint / "pytorch_model.bin").write_bytes(b"a pickle")
    (checkpoint / "training.json").write_text("a log")
    return checkpoint


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def any_weights(monkeypatch):
    """These files are no model: what they hold is not compared with one."""
    monkeypatch.setattr("vrp.stages.fetch_model._unread_weights", lambda model, folder: [])


def model_in(folder: Path, **changes: str) -> ModelConfig:
    return ModelConfig(**{"family": "llava", "checkpoint": str(folder), **changes})


def test_the_manifest_lists_what_is_loaded_with_its_digest(folder: Path, tmp_path: Path):
    output = tmp_path / "models" / "m.json"
    run_job("fetch_model", {"manifest": output}, model=model_in(folder))
    written = json.loads(output.read_text())
    files = {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "model.safetensors": digest_of(folder / "model.safetensors"),
    }
    compact = json.dumps(files, sort_keys=True, separators=(",", ":"))
    assert written == {
        "family": "llava",
        "checkpoint": str(folder),
        "revision": None,
        "files": files,
        "digest": hashlib.sha256(compact.encode()).hexdigest(),
        "dimensions": None,
        "unread": [],
        "made_by": {"study": "", "stage": "", "model": "", "config": ""},
        "sha256": written["sha256"],
    }
    assert read_manifest(output, model_in(folder)).identity == written["digest"]


def test_a_model_without_dimensions_is_fetched_and_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))
    (record,) = caplog.records
    assert str(folder) in record.getMessage()
    assert "cannot be measured" in record.getMessage()


@pytest.mark.slow
def test_the_manifest_holds_the_models_dimensions(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path
):
    model = ModelConfig(family="auto", checkpoint=str(tiny_checkpoint("llava")))
    written = []
    for name in ("a.json", "b.json"):
        run_job("fetch_model", {"manifest": tmp_path / name}, model=model)
        written.append((tmp_path / name).read_text())
    assert written[0] == written[1]
    dimensions = Dimensions.from_json(json.loads(written[0])["dimensions"])
    assert (dimensions.n_layers, dimensions.d_model, dimensions.images.n_tokens) == (4, 32, 36)


def test_what_ships_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vrp.vlm.measuring", None)
    model = ModelConfig(family="llava", checkpoint="zoo:llava")
    run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model)
    written = json.loads((tmp_path / "m.json").read_text())
    shipped = published_checkpoint("zoo:llava").dimensions
    assert Dimensions.from_json(written["dimensions"]) == shipped


def test_changed_weights_are_noticed(folder: Path, tmp_path: Path):
    run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(InputError, match="has changed since it was recorded"):
        read_manifest(tmp_path / "m.json", model_in(folder))


def test_a_manifest_of_another_model_is_refused(folder: Path, tmp_path: Path):
    run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))
    with pytest.raises(InputError, match="run `vrp fetch-model` again"):
        read_manifest(tmp_path / "m.json", model_in(folder, family="paligemma"))


@pytest.mark.parametrize("content", ["", "[]", "[1]", '{"family": "llava"}', "\udcff"])
def test_a_malformed_manifest_is_one_clear_line(content: str, folder: Path, tmp_path: Path):
    (tmp_path / "m.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match="delete it and run `vrp fetch-model` again"):
        read_manifest(tmp_path / "m.json", model_in(folder))


def test_a_file_of_something_else_is_no_manifest(folder: Path, tmp_path: Path):
    write_sealed_json(tmp_path / "m.json", {"origin": "scenes"})
    with pytest.raises(InputError, match="is not a model manifest"):
        read_manifest(tmp_path / "m.json", model_in(folder))


def test_an_edited_manifest_is_refused(folder: Path, tmp_path: Path):
    run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))
    text = (tmp_path / "m.json").read_text()
    (tmp_path / "m.json").write_text(text.replace('"digest": "', '"digest": "0'))
    with pytest.raises(InputError, match="is not as it was written"):
        read_manifest(tmp_path / "m.json", model_in(folder))


def test_the_commit_of_a_hub_checkpoint_is_compared(tmp_path: Path):
    commit, other = "a" * 40, "b" * 40
    manifest = {
        "family": "llava", "checkpoint": "org/model", "revision": commit, "files": {}, "digest": "d"
    }  # fmt: skip
    write_sealed_json(tmp_path / "m.json", manifest)
    model = ModelConfig(family="llava", checkpoint="org/model", revision=commit)
    assert read_manifest(tmp_path / "m.json", model).identity == commit
    with pytest.raises(InputError, match="or another revision"):
        read_manifest(tmp_path / "m.json", model.model_copy(update={"revision": other}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "lava"}, "did you mean 'llava'"),
        ({"checkpoint": "./nowhere"}, "does not exist"),
        ({"revision": "main"}, "only hub checkpoints have a revision"),
    ],
)
def test_what_cannot_be_fetched_is_one_clear_line(
    changes: dict[str, str], message: str, folder: Path, tmp_path: Path
):
    output = tmp_path / "m.json"
    with pytest.raises(InputError, match=message):
        run_job("fetch_model", {"manifest": output}, model=model_in(folder, **changes))
    assert not output.exists()


def test_a_folder_without_weights_is_refused(folder: Path, tmp_path: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"\*.safetensors"):
        run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))


def test_a_folder_of_pickles_is_refused(folder: Path, tmp_path: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"pickles only \(pytorch_model.bin\)"):
        run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))


@pytest.mark.parametrize("n_bytes", [-1, 20, 4, 0])
def test_truncated_weights_are_one_clear_line(n_bytes: int, folder: Path, tmp_path: Path):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"model.safetensors is cut short.*get it again$"):
        run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))
    assert not (tmp_path / "m.json").exists()


def shard(folder: Path, **changes: str) -> None:
    """Cut the weights into two files with an index."""
    (folder / "model.safetensors").unlink()
    save_file({"a": np.zeros(2)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": np.zeros(2)}, folder / "model-00002-of-00002.safetensors")
    save_file({"c": np.zeros(2)}, folder / "consolidated.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {}, "weight_map": weights | changes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_of_sharded_weights_those_that_the_index_names_are_listed(folder: Path, tmp_path: Path):
    shard(folder)
    run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))
    assert sorted(json.loads((tmp_path / "m.json").read_text())["files"]) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model-00002-of-00002.safetensors").unlink(), "00002.*is missing"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "is not an index"),
        (lambda f: shard_again(f, c="model-00001-of-00002.safetensors"), "00001.* lacks c, which"),
        (lambda f: shard_again(f, c="../other.safetensors"), "is not an index"),
    ],
)
def test_a_shard_that_is_not_whole_is_one_clear_line(damage, message, folder: Path, tmp_path: Path):
    shard(folder)
    damage(folder)
    with pytest.raises(InputError, match=message):
        run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model_in(folder))


def shard_again(folder: Path, **changes: str) -> None:
    (folder / "model.safetensors").touch()
    shard(folder, **changes)


def test_an_unreachable_hub_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model = ModelConfig(family="llava", checkpoint="nobody/nothing-of-this-name")
    with pytest.raises(InputError, match="nobody/nothing-of-this-name: it is not in the cache"):
        run_job("fetch_model", {"manifest": tmp_path / "m.json"}, model=model)


@pytest.mark.parametrize(
    "name",
    ["additional_chat_templates/default.jinja", "additional_chat_templates/rag.jinja",
     "chat_template.json", "chat_template.jinja", "added_tokens.json", "preprocessor_config.json",
     "special_tokens_map.json", "tekken.json", "vocab.json", "tokenizer.1.0.json"],
)  # fmt: skip
def test_every_file_that_is_loaded_counts(folder: Path, name: str):
    before = describe_folder(model_in(folder), folder, revision=None)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    after = describe_folder(model_in(folder), folder, revision=None)
    assert set(after.files) - set(before.files) == {name}
    assert after.digest != before.digest


def test_an_index_that_is_no_text_is_one_line(folder: Path):
    (folder / "model.safetensors").unlink()
    for content in (b"\xff\xfe{}", b"[]", b"[" * 10**5, b'{"weight_map": {"a": "b.safetensors"}}'):
        (folder / "model.safetensors.index.json").write_bytes(content)
        with pytest.raises(InputError, match="is not an index of weights"):
            describe_folder(model_in(folder), folder, revision=None)
