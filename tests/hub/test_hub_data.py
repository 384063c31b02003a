"""Data sets from the hub: the same questions and images as from the official files."""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_stand_in import ACCEPTED_TOKEN, HubStandIn
from PIL import Image
from published_sets import (
    image,
    parquet,
    pope_rows,
    publish_pope,
    publish_textvqa,
    publish_vqa,
    textvqa_rows,
    vqa_rows,
)
from stage_jobs import run_job

from vrp.config.data import DataConfig, ScenesConfig
from vrp.config.sample import SampleConfig, SplitConfig
from vrp.config.study import study_from_mapping
from vrp.data.datasets import get_dataset
from vrp.data.hub_columns import answers_column, image_stem
from vrp.data.images import open_image
from vrp.errors import InputError
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table

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
    run_job("fetch_data", {"data": folder / "data.json"}, data=config)
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
    run_job("fetch_data", {"data": tmp_path / "data.json"}, data=data)
    return json.loads((tmp_path / "data.json").read_text())


def sampled(data: DataConfig, out: Path, wanted: SampleConfig = SAMPLE) -> tuple[Any, Any]:
    """The items, and the account of what was found, usable and dropped."""
    out.mkdir()
    (out / "data.json").touch()
    run_job(
        "sample",
        {
            "data": out / "data.json",
            "items": out / "items.parquet",
            "sampling": out / "sampling.json",
        },
        seed=0,
        data=data,
        sample=wanted,
        provenance={},
    )
    return read_table(out / "items.parquet", ITEMS), json.loads(
        (out / "sampling.json").read_text()
    )["splits"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_images_keep_their_published_bytes(scenes, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    fetch(data, tmp_path)
    fetched = {path.name: path.read_bytes() for path in (tmp_path / "data" / "val2014").iterdir()}
    assert fetched == {path.name: path.read_bytes() for path in (scenes / "val2014").iterdir()}


@pytest.mark.slow
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


@pytest.mark.slow
def test_only_the_question_files_and_images_are_left(commits, tmp_path):
    fetch(hub_data(tmp_path / "data", commits), tmp_path)
    left = {path.relative_to(tmp_path / "data") for path in tmp_path.glob("data/.downloads/**/*")}
    assert left == {Path(".downloads/hub-pope.json"), Path(".downloads/hub-vqa.json")}


@pytest.mark.slow
def test_only_the_parts_of_the_split_are_fetched(hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits, subset="Full", split="adversarial")
    assert "pope/coco_pope_random.json" not in fetch(data, tmp_path)["files"]
    got = {r.path.rpartition("/")[2] for r in hub.asked("GET", ".parquet") if "/content/" in r.path}
    assert got == {"adversarial-00000-of-00001.parquet",
                   *(f"validation-{i:05d}-of-00003.parquet" for i in range(3))}  # fmt: skip


@pytest.mark.slow
def test_a_second_fetch_of_pinned_commits_asks_nothing(hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    first = fetch(data, tmp_path)
    with hub.counting() as requests:
        assert fetch(data, tmp_path) == first
    assert requests == []
    hub.stop()
    assert fetch(data, tmp_path) == first


@pytest.mark.slow
def test_a_branch_is_asked_for_again_and_followed(hub, commits, published, tmp_path, caplog):
    data = hub_data(tmp_path / "data", dict.fromkeys(commits, "main"))
    first = fetch(data, tmp_path)
    assert first["repositories"]["pope"] == f"lab/pope@{commits['lab/pope']}"
    with hub.counting() as requests:
        assert fetch(data, tmp_path) == first
    assert {r.path.split("/")[5] for r in requests} == {"revision", "tree"}
    hub.stop()
    assert fetch(data, tmp_path) == first
    assert "the hub cannot be reached; keeping" in caplog.text
    hub.start()
    fewer = {**published["lab/pope"]}
    del fewer["data/test-00002-of-00003.parquet"]
    moved = hub.add("datasets", "lab/pope", fewer)
    second = fetch(data, tmp_path)
    assert second["repositories"]["pope"] == f"lab/pope@{moved}"
    # The third part held all that was asked at random.
    assert set(first["files"]) - set(second["files"]) == {"pope/coco_pope_random.json"}


@pytest.mark.slow
def test_images_that_were_deleted_are_fetched_again(scenes, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    first = fetch(data, tmp_path)
    next((tmp_path / "data" / "val2014").iterdir()).unlink()
    assert fetch(data, tmp_path) == first


@pytest.mark.slow
def test_a_cut_connection_is_resumed(hub, commits, published, tmp_path):
    name = "test-00001-of-00003.parquet"
    content = published["lab/pope"][f"data/{name}"]
    assert len(content) > 2 * 65536
    hub.cut(name, after=100_000)
    fetch(hub_data(tmp_path / "data", commits), tmp_path)
    ranges = [r.range for r in hub.asked("GET", name) if "/content/" in r.path]
    assert ranges == [None, "bytes=65536-"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_images_that_were_lost_between_two_runs_are_fetched_again(scenes, hub, commits, tmp_path):
    data = hub_data(tmp_path / "data", commits)
    hub.corrupt("test-00002-of-00003.parquet", times=2)
    with pytest.raises(InputError, match="arrived damaged twice"):
        fetch(data, tmp_path)
    lost = min((tmp_path / "data" / "val2014").iterdir())
    lost.unlink()
    fetch(data, tmp_path)
    assert lost.read_bytes() == (scenes / "val2014" / lost.name).read_bytes()


@pytest.mark.slow
def test_one_photograph_of_two_data_sets_is_one_file(scenes, hub, cache, tmp_path, caplog):
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
    assert f"{shared}.png is there already with other content" in caplog.text


# TextVQA


def text_data(folder: Path, commit: str, **wanted: Any) -> DataConfig:
    textvqa = {"repository": "lab/text", "revision": commit, "split": "validation", **wanted}
    return DataConfig.model_validate(
        {"origin": "hub", "folder": str(folder), "hub": {"textvqa": textvqa}}
    )


def sampled_text(data: DataConfig, out: Path, split: str = "val", count: int = 8) -> Any:
    asked = SplitConfig(dataset="textvqa", split=split, task="text", count=count)
    return sampled(data, out, SampleConfig(splits=(asked,)))[0]


def test_textvqa_becomes_the_official_file_and_its_items(hub, cache, tmp_path):
    rows = textvqa_rows()
    commit = hub.add("datasets", "lab/text", publish_textvqa(rows))
    data = text_data(tmp_path / "data", commit)
    manifest = fetch(data, tmp_path)
    assert manifest["repositories"] == {"textvqa": f"lab/text@{commit}"}
    assert manifest["n_images"] == 4
    (name,) = manifest["files"]
    assert name == "textvqa/TextVQA_0.5.1_val.json"
    document = json.loads((tmp_path / "data" / name).read_text())
    assert (document["dataset_name"], document["dataset_type"]) == ("textvqa", "val")
    published = [row for row in rows if row["set_name"] == "val"]
    assert document["data"] == [
        {key: value for key, value in row.items() if key not in ("image", "ocr_tokens")}
        for row in published
    ]
    for row in published:
        kept = tmp_path / "data" / "train_images" / f"{row['image_id']}.jpg"
        assert kept.read_bytes() == row["image"]["bytes"]
    items = sampled_text(data, tmp_path / "out")
    assert items["task"].unique().to_list() == ["text"]
    assert items["reference"].sort().to_list() == [f"word {i}" for i in range(8)]
    assert items["group"].n_unique() == 4
    assert all(len(answers) == 10 for answers in items["answers"])
    with hub.counting() as requests:
        assert fetch(data, tmp_path) == manifest
    assert requests == []


@pytest.mark.slow
def test_textvqa_stands_beside_pope_in_folders_of_their_own(scenes, hub, commits, tmp_path):
    commit = hub.add("datasets", "lab/text", publish_textvqa(textvqa_rows()))
    both = hub_data(tmp_path / "data", commits).model_dump()
    both["hub"]["textvqa"] = {"repository": "lab/text", "revision": commit, "split": "validation"}
    data = DataConfig.model_validate(both)
    manifest = fetch(data, tmp_path)
    assert set(manifest["repositories"]) == {"pope", "vqa", "textvqa"}
    assert manifest["n_images"] == 16 + 4
    assert len(list((tmp_path / "data" / "val2014").iterdir())) == 16
    official = sampled(DataConfig(folder=str(scenes)), tmp_path / "official")[0]
    assert sampled(data, tmp_path / "hub")[0].equals(official)


def test_textvqa_without_answers_has_nothing_to_ask(hub, cache, tmp_path):
    commit = hub.add("datasets", "lab/text", publish_textvqa(textvqa_rows()))
    data = text_data(tmp_path / "data", commit, split="test")
    assert set(fetch(data, tmp_path)["files"]) == {"textvqa/TextVQA_0.5.1_test.json"}
    with pytest.raises(InputError, match=r"found 1, usable 0 \(dropped: 1 no answers\)"):
        sampled_text(data, tmp_path / "out", split="test", count=1)


@pytest.mark.slow
def test_textvqa_lost_images_are_fetched_again(hub, cache, tmp_path):
    commit = hub.add("datasets", "lab/text", publish_textvqa(textvqa_rows()))
    data = text_data(tmp_path / "data", commit)
    first = fetch(data, tmp_path)
    lost = min((tmp_path / "data" / "train_images").iterdir())
    content = lost.read_bytes()
    lost.unlink()
    assert fetch(data, tmp_path) == first
    assert lost.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"set_name": "../../val"}, "row 1: set_name '../../val' is none of TextVQA's (train, val"),
        ({"set_name": None}, "row 1: column 'set_name' is empty"),
        ({"question": " "}, "row 1: column 'question' is empty"),
        ({"answers": "stop"}, "row 1: column 'answers' is no list of texts"),
        ({"answers": [1, 2]}, "row 1: column 'answers' is no list of texts"),
        ({"image": {"bytes": None, "path": "a.jpg"}}, "row 1: the image is not in the file"),
        ({"image_id": ...}, "column 'image_id' is missing (found: question_id, question"),
    ],
)
def test_textvqa_rows_of_another_layout_are_one_line(change, message, hub, cache, tmp_path):
    row = {key: value for key, value in (textvqa_rows()[0] | change).items() if value is not ...}
    files = {"data/validation-00000-of-00001.parquet": parquet([row])}
    data = text_data(tmp_path / "data", hub.add("datasets", "lab/text", files))
    with pytest.raises(InputError) as caught:
        fetch(data, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("**/TextVQA*"))


def test_nine_textvqa_annotators_are_refused_when_sampled(hub, cache, tmp_path):
    rows = textvqa_rows()
    rows[3]["answers"] = rows[3]["answers"][:9]
    data = text_data(tmp_path / "data", hub.add("datasets", "lab/text", publish_textvqa(rows)))
    fetch(data, tmp_path)
    with pytest.raises(InputError, match="data row 4: key 'answers' holds 9 answers"):
        sampled_text(data, tmp_path / "out")


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "other"}, "row 1: category 'other' is none of POPE's"),
        ({"answer": "perhaps"}, "row 1: answer 'perhaps' is none of POPE's (yes, no)"),
        ({"question": ""}, "row 1: column 'question' is empty"),
        ({"question": '[{"role": "user"}]'}, "row 1: column 'question' is no text but '[{"),
        ({"question": ["Is it?"]}, "row 1: column 'question' is no text but ['Is it?']"),
        ({"question_id": [1]}, "row 1: column 'question_id' is no text but [1]"),
        ({"answer": True}, "row 1: column 'answer' is no text but True"),
        ({"answer": ["yes"]}, "row 1: column 'answer' is no text but ['yes']"),
        ({"image": {"bytes": None, "path": "a.png"}}, "row 1: the image is not in the file"),
        ({"image": "photos/a.png"}, "not in the file, which names 'photos/a.png' instead"),
        ({"image": "https://x.org/a.png"}, "which names 'https://x.org/a.png' instead"),
        ({"image": "iVBOR" * 100}, "which names 'iVBOR"),
        ({"image": None}, "row 1: the image is not in the file; choose another"),
        ({"image": [1, 2, 3]}, "column 'image' holds list<"),
        ({"image": {"data": b"x"}}, "column 'image' holds struct<data: binary"),
        ({"image": [{"bytes": b"x", "path": None}]}, "column 'image' holds list<"),
        ({"category": ...}, "column 'category' is missing (found: question_id, question, answer"),
    ],
)
def test_rows_of_another_layout_are_one_line(change, message, scenes, hub, cache, tmp_path):
    row = {**ROW, "image": image(scenes, next((scenes / "val2014").iterdir()).name), **change}
    commits = only([{name: value for name, value in row.items() if value is not ...}])(hub)
    refused(hub_data(tmp_path / "data", commits), tmp_path, message)


LAYOUTS = {
    "objects of lists": lambda answers: {
        key: [answer[key] for answer in answers] for key in answers[0]
    },
    "JSON text": json.dumps,
    "JSON of texts": lambda answers: json.dumps([answer["answer"] for answer in answers]),
    "texts": lambda answers: [answer["answer"] for answer in answers],
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_in_another_layout_give_the_official_items(
    layout, scenes, hub, cache, published, tmp_path
):
    rows = [row | {"answers": LAYOUTS[layout](row["answers"])} for row in vqa_rows(scenes)]
    files = {"data/validation-00000-of-00001.parquet": parquet(rows)}
    commits = {
        "lab/vqa": hub.add("datasets", "lab/vqa", files),
        "lab/pope": hub.add("datasets", "lab/pope", published["lab/pope"]),
    }
    data = hub_data(tmp_path / "data", commits)
    fetch(data, tmp_path)
    items, _ = sampled(data, tmp_path / "hub")
    official, _ = sampled(DataConfig(folder=str(scenes)), tmp_path / "official")
    assert items.equals(official)


ANSWERS = ["2", "two", "[sic] 3"]
OBJECTS = [{"answer": answer, "answer_id": i} for i, answer in enumerate(ANSWERS, 1)]


@pytest.mark.parametrize(
    "given",
    [
        ANSWERS,
        OBJECTS,
        {"answer": ANSWERS, "answer_id": [1, 2, 3]},
        json.dumps(ANSWERS),
        json.dumps(OBJECTS),
        json.dumps({"answer": ANSWERS, "answer_id": [1, 2, 3]}),
        repr(ANSWERS),
        [json.dumps(answer) for answer in OBJECTS],
    ],
)
def test_answers_are_recognised_in_every_layout(given):
    found = answers_column({"answers": given}, "answers", "row 1")
    assert [answer["answer"] for answer in found] == ANSWERS


@pytest.mark.parametrize(
    "given",
    ["2", "", '["2"', 2, True, [2, 3], [None], [["2"]], {"2": 10}, {"answer": "2"},
     {"answer": ["2"], "answer_id": [1, 2]}, {"text": ["2"]}, [{"text": "2"}], '{"2": 3}'],
)  # fmt: skip
def test_answers_of_another_layout_are_refused_and_never_letters(given):
    with pytest.raises(InputError, match="row 1: column 'answers' is no list of texts but "):
        answers_column({"answers": given}, "answers", "row 1")


@pytest.mark.parametrize("given", [None, [], "[]", {}])
def test_answers_that_are_held_back_are_none(given):
    assert answers_column({"answers": given}, "answers", "row 1") == []


@pytest.mark.parametrize("answer_type", ["yes or no", 2, None])
def test_an_answer_type_that_is_none_of_vqas_is_refused(answer_type):
    row = {"question_id": 1, "image_id": 2, "question": "Is it?", "answers": ["yes"],
           "answer_type": answer_type}  # fmt: skip
    with pytest.raises(InputError, match="answer_type"):
        get_dataset("vqa").hub.to_official(row, "a.jpg", "row 1")


def text_that_is_not_utf8() -> bytes:
    """A Parquet file whose one question is in Latin-1."""
    question = "café".encode("latin-1")
    ends = b"".join(end.to_bytes(4, "little") for end in (0, len(question)))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(question)]
    columns = {name: pa.array([value]) for name, value in ROW.items()}
    columns["question"] = pa.Array.from_buffers(pa.string(), 1, buffers)
    columns["image"] = pa.array([{"bytes": b"x", "path": "a.png"}])
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [(text_that_is_not_utf8(), "can't decode byte 0xe9"), (b"PAR1, says it", "Parquet")],
)
def test_a_file_that_was_published_broken_is_one_line(content, message, hub, cache, tmp_path):
    files = {"data/test-00000-of-00001.parquet": content}
    commit = hub.add("datasets", "lab/pope", files)
    data = hub_data(tmp_path / "data", {"lab/pope": commit, "lab/vqa": "main"})
    refused(data, tmp_path, "lab/pope, data/test-00000-of-00001.parquet: cannot be read (")
    refused(data, tmp_path, message)


# What a reader of files refuses, it refuses of a data set of the hub: these become such files.


def bomb() -> bytes:
    """A PNG of a hundred bytes that says it is 40,000 by 40,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checked = kind + body
        return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def odd_pictures() -> dict[str, tuple[bytes, str, tuple[int, int] | None]]:
    """Kind → content, suffix of its file, and size as a model sees it; None: refused."""
    deep = Image.fromarray(np.full((6, 8), 32896, dtype=np.uint16))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "cmyk": (encoded(Image.new("CMYK", (16, 16)), "JPEG"), ".jpg", (16, 16)),
        "16 bit": (encoded(deep, "PNG"), ".png", (8, 6)),
        "animated": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
                     ".gif", (8, 8)),
        "rotated": (encoded(Image.new("RGB", (16, 8)), "JPEG", exif=exif), ".jpg", (8, 16)),
        "bomb": (bomb(), ".jpg", None),
        "no image": (b"<html>404</html>", ".jpg", None),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pope", "vqa", "textvqa"])
def test_odd_images_are_taken_and_hostile_ones_named(name, scenes, hub, cache, tmp_path):
    pictures = odd_pictures()
    rows: list[dict[str, Any]] = []
    for number, content in enumerate(picture[0] for picture in pictures.values()):
        ids = {"question_id": number, "image": {"bytes": content, "path": None}}
        rows.append({
            "pope": {**ROW, **ids, "question_id": str(number), "image_source": f"../{number}",
                     "question": f"Is there a {number}?"},
            "vqa": {**ids, "image_id": 900 + number, "question": f"What is {number}?",
                    "answer_type": "other", "answers": [{"answer": "red"}] * 9},
            "textvqa": {**ids, "image_id": f"/etc/{number}", "question": f"what is {number}?",
                        "answers": ["red"] * 10, "set_name": "val"},
        }[name])  # fmt: skip
    commit = hub.add("datasets", "lab/odd", {"data/test-00000-of-00001.parquet": parquet(rows)})
    wanted = {"repository": "lab/odd", "revision": commit}
    data = DataConfig.model_validate(
        {"origin": "hub", "folder": str(tmp_path / "data"), "hub": {name: wanted}}
    )
    fetch(data, tmp_path)
    written = {path.parent.name for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png")}
    assert written == {data.places(name).images}
    split, task = {"pope": ("random", "existence"), "vqa": ("open", "open"),
                   "textvqa": ("val", "text")}[name]  # fmt: skip
    asked = SplitConfig(dataset=name, split=split, task=task, count=4)
    items, (report,) = sampled(data, tmp_path / "out", SampleConfig(splits=(asked,)))
    sizes = {}
    for row in items.iter_rows(named=True):
        path = tmp_path / "data" / row["image"]
        sizes[int(row["question_id"])] = (path.suffix, open_image(path).size)
    expected = [(suffix, size) for _, suffix, size in pictures.values()]
    assert sizes == {i: seen for i, seen in enumerate(expected) if seen[1] is not None}
    assert report["dropped"] == {"unreadable image": 2}
    assert any("too large to decode safely" in line for line in report["unreadable"])


@pytest.mark.slow
def test_duplicate_question_ids_of_the_hub_are_refused(scenes, hub, cache, tmp_path):
    rows = vqa_rows(scenes)
    rows[1]["question_id"] = rows[0]["question_id"]
    commits = {
        "lab/pope": hub.add("datasets", "lab/pope", publish_pope(scenes)),
        "lab/vqa": hub.add("datasets", "lab/vqa", {"data/validation-0.parquet": parquet(rows)}),
    }
    data = hub_data(tmp_path / "data", commits)
    fetch(data, tmp_path)
    with pytest.raises(InputError, match=r"annotations row 2: question_id \d+ is annotated twice"):
        sampled(data, tmp_path / "out")


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


@pytest.mark.slow
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
        ({}, "name a repository under data.hub.pope, data.hub.vqa or data.hub.textvqa"),
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
