"""POPE and VQA v2 from the hub: the same questions and images as from the official files."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import ACCEPTED_TOKEN, HubStandIn
from published_sets import image, parquet, pope_rows, publish_pope, publish_vqa, vqa_rows

from vrp.config.data import DataConfig, ScenesConfig
from vrp.config.sample import SampleConfig, SplitConfig
from vrp.config.study import study_from_mapping
from vrp.data.hub_columns import image_stem
from vrp.errors import InputError
from vrp.stages import fetch_data, sample
from vrp.tables.files import read_table
from vrp.tables.items import ITEMS

SPLITS = (
    ("pope", "adversarial", "existence", 20),
    ("pope", "popular", "existence", 10),
    ("vqa", "counting", "counting", 12),
    ("vqa", "spatial", "spatial", 12),
    ("vqa", "open", "open", 8),
)
SAMPLE = SampleConfig(
    splits=tuple(
        SplitConfig(dataset=dataset, split=split, task=task, count=count)
        for dataset, split, task, count in SPLITS
    )
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A scene data set in the official files."""
    folder = tmp_path_factory.mktemp("scenes")
    config = DataConfig(
        folder=str(folder / "data"),
        scenes=ScenesConfig(namespace="ci", n_pope_images=10, n_vqa_images=16),
    )
    fetch_data.run(data=config, output=folder / "data.json")
    return folder / "data"


@pytest.fixture(scope="module")
def published(scenes: Path) -> dict[str, dict[str, bytes]]:
    """The same as two repositories."""
    return {"lab/pope": publish_pope(scenes), "lab/vqa": publish_vqa(scenes)}


@pytest.fixture
def commits(hub: HubStandIn, cache: Path, published) -> dict[str, str]:
    """Repository → commit, on the hub."""
    return {name: hub.add("datasets", name, files) for name, files in published.items()}


def hub_data(folder: Path, commits: dict[str, str], **pope: Any) -> DataConfig:
    return DataConfig.model_validate(
        {
            "origin": "hub",
            "folder": str(folder),
            "hub": {
                "pope": {"repository": "lab/pope", "revision": commits["lab/pope"], **pope},
                "vqa": {
                    "repository": "lab/vqa",
                    "revision": commits["lab/vqa"],
                    "split": "validation",
                },
            },
        }
    )


def fetch(data: DataConfig, tmp_path: Path) -> dict[str, Any]:
    fetch_data.run(data=data, output=tmp_path / "data.json")
    return json.loads((tmp_path / "data.json").read_text())


def sampled(data: DataConfig, out: Path) -> tuple[Any, Any]:
    """The items, and the account of what was found, usable and dropped."""
    out.mkdir()
    (out / "data.json").touch()
    sample.run(
        seed=0,
        data=data,
        sample=SAMPLE,
        data_manifest=out / "data.json",
        output=out / "items.parquet",
        report=out / "sampling.json",
        provenance={},
    )
    return read_table(out / "items.parquet", ITEMS), json.loads((out / "sampling.json").read_text())


def test_the_items_are_those_of_the_official_files(scenes, hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    manifest = fetch(data, tmp_path)
    items, report = sampled(data, tmp_path / "hub")
    official, official_report = sampled(DataConfig(folder=str(scenes)), tmp_path / "official")
    assert items.height == 62
    assert items.equals(official)
    assert report == official_report
    assert manifest["origin"] == "hub"
    assert manifest["repositories"] == {
        "pope": f"lab/pope@{commits['lab/pope']}",
        "vqa": f"lab/vqa@{commits['lab/vqa']}",
    }
    assert manifest["n_images"] == 16
    assert set(manifest["files"]) == {
        "pope/coco_pope_adversarial.json",
        "pope/coco_pope_popular.json",
        "pope/coco_pope_random.json",
        "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        "vqa/v2_mscoco_val2014_annotations.json",
    }


def test_images_keep_their_published_bytes(scenes, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    fetch(data, tmp_path)
    fetched = {path.name: path.read_bytes() for path in (tmp_path / "data" / "val2014").iterdir()}
    assert fetched == {path.name: path.read_bytes() for path in (scenes / "val2014").iterdir()}


def test_the_question_files_hold_the_official_rows(scenes, commits, tmp_path):
    fetch(hub_data(tmp_path / "data", commits), tmp_path)
    for split in ("random", "popular", "adversarial"):
        name = f"pope/coco_pope_{split}.json"
        ours, theirs = ((folder / name).read_text().splitlines()
                        for folder in (tmp_path / "data", scenes))  # fmt: skip
        assert [json.loads(line) for line in ours] == [json.loads(line) for line in theirs]
    for name, key in (
        ("vqa/v2_OpenEnded_mscoco_val2014_questions.json", "questions"),
        ("vqa/v2_mscoco_val2014_annotations.json", "annotations"),
    ):
        ours, theirs = (json.loads((folder / name).read_text())[key]
                        for folder in (tmp_path / "data", scenes))  # fmt: skip
        assert ours == theirs


def test_only_the_question_files_and_images_are_left(commits, tmp_path):
    fetch(hub_data(tmp_path / "data", commits), tmp_path)
    left = {path.relative_to(tmp_path / "data") for path in tmp_path.glob("data/.downloads/**/*")}
    assert left == {Path(".downloads/hub-pope.json"), Path(".downloads/hub-vqa.json")}


def test_only_the_parts_of_the_split_are_fetched(hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits, subset="Full", split="adversarial")
    assert "pope/coco_pope_random.json" not in fetch(data, tmp_path)["files"]
    got = {r.path.rpartition("/")[2] for r in hub.asked("GET", ".parquet") if "/content/" in r.path}
    assert got == {"adversarial-00000-of-00001.parquet",
                   *(f"validation-{i:05d}-of-00003.parquet" for i in range(3))}  # fmt: skip


def test_a_second_fetch_of_pinned_commits_asks_nothing(hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    first = fetch(data, tmp_path)
    with hub.counting() as requests:
        assert fetch(data, tmp_path) == first
    assert requests == []
    hub.stop()
    assert fetch(data, tmp_path) == first


def test_a_branch_is_asked_for_again_and_followed(hub, commits, published, tmp_path, capsys):
    data = hub_data(tmp_path / "data", dict.fromkeys(commits, "main"))
    first = fetch(data, tmp_path)
    assert first["repositories"]["pope"] == f"lab/pope@{commits['lab/pope']}"
    with hub.counting() as requests:
        assert fetch(data, tmp_path) == first
    assert {r.path.split("/")[5] for r in requests} == {"revision", "tree"}
    hub.stop()
    assert fetch(data, tmp_path) == first
    assert "the hub cannot be reached; keeping" in capsys.readouterr().err
    hub.start()
    fewer = {**published["lab/pope"]}
    del fewer["data/test-00002-of-00003.parquet"]
    moved = hub.add("datasets", "lab/pope", fewer)
    second = fetch(data, tmp_path)
    assert second["repositories"]["pope"] == f"lab/pope@{moved}"
    # The third part held all that was asked at random.
    assert set(first["files"]) - set(second["files"]) == {"pope/coco_pope_random.json"}


def test_images_that_were_deleted_are_fetched_again(scenes, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    first = fetch(data, tmp_path)
    next((tmp_path / "data" / "val2014").iterdir()).unlink()
    assert fetch(data, tmp_path) == first


def test_a_cut_connection_is_resumed(hub, commits, published, tmp_path):
    name = "test-00001-of-00003.parquet"
    content = published["lab/pope"][f"data/{name}"]
    assert len(content) > 2 * 65536
    hub.cut(name, after=100_000)
    fetch(hub_data(tmp_path / "data", commits), tmp_path)
    ranges = [r.range for r in hub.asked("GET", name) if "/content/" in r.path]
    assert ranges == [None, "bytes=65536-"]


def test_a_run_that_was_given_up_goes_on_where_it_stopped(scenes, hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    hub.cut("test-00001-of-00003.parquet", after=70_000, times=1)
    hub.corrupt("test-00002-of-00003.parquet", times=2)
    with pytest.raises(InputError, match="arrived damaged twice"):
        fetch(data, tmp_path)
    assert not (tmp_path / "data.json").exists()
    assert not (tmp_path / "data" / "pope").exists()
    with hub.counting() as requests:
        fetch(data, tmp_path)
    got = [r.path.rpartition("/")[2] for r in requests if "/content/" in r.path]
    assert got[0] == "test-00002-of-00003.parquet"
    assert "test-00000-of-00003.parquet" not in got
    official = sampled(DataConfig(folder=str(scenes)), tmp_path / "official")[0]
    assert sampled(data, tmp_path / "hub")[0].equals(official)


def test_images_that_were_lost_between_two_runs_are_fetched_again(scenes, hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    hub.corrupt("test-00002-of-00003.parquet", times=2)
    with pytest.raises(InputError, match="arrived damaged twice"):
        fetch(data, tmp_path)
    lost = min((tmp_path / "data" / "val2014").iterdir())
    lost.unlink()
    fetch(data, tmp_path)
    assert lost.read_bytes() == (scenes / "val2014" / lost.name).read_bytes()


def test_one_photograph_of_two_data_sets_is_one_file(scenes, hub, cache, tmp_path, capsys):
    """Re-encoded copies would otherwise be two groups on two sides of a fold."""
    rows = vqa_rows(scenes)
    shared = pope_rows(scenes)[0]["image_source"]
    other = next(row for row in rows if f"{row['image_id']:012d}" not in shared)["image"]
    for row in rows:
        if f"{row['image_id']:012d}" in shared:
            row["image"] = other
    files = publish_vqa(scenes)
    files = {"README.md": files["README.md"], "data/validation-0.parquet": parquet(rows)}
    commits = {
        "lab/pope": hub.add("datasets", "lab/pope", publish_pope(scenes)),
        "lab/vqa": hub.add("datasets", "lab/vqa", files),
    }
    fetch(hub_data(tmp_path / "data", commits), tmp_path)
    kept = tmp_path / "data" / "val2014" / f"{shared}.png"
    assert kept.read_bytes() == (scenes / "val2014" / f"{shared}.png").read_bytes()
    assert f"{shared}.png lies there in other bytes already" in capsys.readouterr().err


SHA = hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("image_id", "folder", "stem"),
    [
        (262148, "val2014", "COCO_val2014_000000262148"),
        ("262148", "train2014", "COCO_train2014_000000262148"),
        (262148, "images", "000000262148"),
        ("COCO_val2014_000000310196", "val2014", "COCO_val2014_000000310196"),
        ("COCO_val2014_000000310196.jpg", "val2014", "COCO_val2014_000000310196"),
        ("003a8ae2ef43b901", "val2014", "003a8ae2ef43b901"),
        (None, "val2014", SHA),
        ("../../outside", "val2014", SHA),
        (".hidden", "val2014", SHA),
    ],
)
def test_images_are_named_as_coco_names_them(image_id, folder, stem):
    assert image_stem(image_id, folder, SHA) == stem


def only(rows: list[dict[str, Any]]) -> Callable[[HubStandIn], dict[str, str]]:
    """A hub whose POPE repository holds these rows."""

    def publish(hub: HubStandIn) -> dict[str, str]:
        files = {"data/test-00000-of-00001.parquet": parquet(rows)}
        return {"lab/pope": hub.add("datasets", "lab/pope", files), "lab/vqa": "main"}

    return publish


ROW = {"question_id": "1", "question": "Is it?", "answer": "yes", "category": "random",
       "image_source": "COCO_val2014_000000000001"}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "other"}, "row 1: category 'other' is none of POPE's"),
        ({"answer": "perhaps"}, "row 1: answer 'perhaps' is neither yes nor no"),
        ({"question": ""}, "row 1: column 'question' is empty"),
        ({"image": {"bytes": None, "path": "a.png"}}, "row 1: the image is not in the file"),
        ({"category": ...}, "column 'category' is missing (found: question_id, question, answer"),
    ],
)
def test_rows_of_another_layout_are_one_line(change, message, scenes, hub, cache, tmp_path):
    row = {**ROW, "image": image(scenes, next((scenes / "val2014").iterdir()).name), **change}
    commits = only([{name: value for name, value in row.items() if value is not ...}])(hub)
    refused(hub_data(tmp_path / "data", commits), tmp_path, message)


def refused(data: DataConfig, tmp_path: Path, words: str) -> None:
    with pytest.raises(InputError) as caught:
        fetch(data, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data.json").exists()
    assert not list((tmp_path / "data").glob("pope/*"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"repository": "lab/none"}, "data set lab/none: it is no data set on the hub"),
        ({"revision": "f" * 40}, f"data set lab/pope: revision '{'f' * 40}' does not exist"),
        ({"split": "validation"}, "has no split 'validation'; choose from test"),
        ({"subset": "Half"}, "BuilderConfig 'Half' not found. Available: ['default', 'Full']"),
    ],
)
def test_what_does_not_exist_is_one_line(wanted, message, hub, commits, tmp_path):
    refused(hub_data(tmp_path / "data", commits, **wanted), tmp_path, message)


def test_a_gated_data_set_is_explained_and_opens(hub, cache, published, tmp_path, monkeypatch):
    commits = {name: hub.add("datasets", name, files, gated=True)
               for name, files in published.items()}  # fmt: skip
    data = hub_data(tmp_path / "data", commits)
    refused(data, tmp_path, f"accept it at {hub.url}/datasets/lab/pope with your account")
    monkeypatch.setenv("HF_TOKEN", ACCEPTED_TOKEN)
    assert fetch(data, tmp_path)["n_images"] == 16


def test_without_a_hub_an_empty_folder_is_one_line(hub, commits, tmp_path):
    hub.stop()
    refused(hub_data(tmp_path / "data", commits), tmp_path, "the hub cannot be reached")


@pytest.mark.parametrize(
    ("hub_section", "message"),
    [
        ({}, "name a repository under data.hub.pope or data.hub.vqa"),
        ({"vqa": {"repository": "lab/vqa", "revision": "main"}}, "asks for pope, but data.hub"),
        ({"pope": {"repository": "pope", "revision": "main"}}, "give owner and name"),
        ({"pope": {"repository": "lab/pope"}}, "'data.hub.pope.revision' is missing"),
    ],
)
def test_the_config_says_what_is_missing(hub_section, message):
    raw = {
        "study": "s",
        "models": {"m": {"family": "llava", "checkpoint": "zoo:llava"}},
        "data": {"origin": "hub", "hub": hub_section},
    }
    with pytest.raises(InputError, match=message):
        study_from_mapping(raw)
