import json
import shutil

import pytest
from PIL import Image
from stage_jobs import run_job

from vrp.config.data import DataConfig, ScenesConfig
from vrp.config.sample import SampleConfig, SplitConfig
from vrp.errors import InputError
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A small scene data set, as the fetch stage writes it."""
    folder = tmp_path_factory.mktemp("scenes")
    config = DataConfig(
        folder=str(folder / "data"),
        scenes=ScenesConfig(namespace="ci", n_pope_images=12, n_vqa_images=16),
    )
    run_job("fetch_data", {"data": folder / "data.json"}, data=config)
    return folder


def splits(**counts):
    datasets = {"random": "pope", "popular": "pope", "adversarial": "pope"}
    return SampleConfig(
        splits=tuple(
            SplitConfig(
                dataset=datasets.get(name, "vqa"),
                split=name,
                task="existence" if name in datasets else name,
                count=count,
            )
            for name, count in counts.items()
        )
    )


def run(folder, wanted, out, *, seed=0, data=None):
    run_job(
        "sample",
        {
            "data": folder / "data.json",
            "items": out / "items.parquet",
            "sampling": out / "sampling.json",
        },
        seed=seed,
        data=data or DataConfig(folder=str(folder / "data")),
        sample=wanted,
        provenance={},
    )
    return read_table(out / "items.parquet", ITEMS)


def test_the_counts_are_met_exactly(scenes, tmp_path):
    items = run(scenes, splits(adversarial=20, counting=10, spatial=10, open=5), tmp_path)
    counts = dict(items["split"].value_counts().iter_rows())
    assert counts == {"adversarial": 20, "counting": 10, "spatial": 10, "open": 5}
    labels = items.filter(split="adversarial")["reference"].to_list()
    assert labels.count("yes") == labels.count("no") == 10
    report = json.loads((tmp_path / "sampling.json").read_text())["splits"]
    assert [row["taken"] for row in report] == [20, 10, 10, 5]
    assert all(row["found"] == row["usable"] + sum(row["dropped"].values()) for row in report)


def test_the_group_is_the_image_across_data_sets(scenes, tmp_path):
    items = run(scenes, splits(adversarial=20, counting=10), tmp_path)
    for part in items.partition_by("image"):
        assert part["group"].n_unique() == 1
    assert set(items.filter(split="counting")["group"]) & set(
        items.filter(split="adversarial")["group"]
    )


def test_the_order_of_the_file_does_not_matter(scenes, tmp_path):
    first = run(scenes, splits(adversarial=20), tmp_path / "first")
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    path = copy / "data" / "pope" / "coco_pope_adversarial.json"
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    assert run(copy, splits(adversarial=20), tmp_path / "second").equals(first)
    assert not run(scenes, splits(adversarial=20), tmp_path / "third", seed=1).equals(first)


def test_a_split_that_is_too_small_stops_the_run(scenes, tmp_path):
    with pytest.raises(InputError, match="adversarial") as caught:
        run(scenes, splits(adversarial=10_000), tmp_path)
    assert "10000" in str(caught.value).replace(",", "")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_names_those_that_exist(scenes, tmp_path):
    wanted = SampleConfig(
        splits=(SplitConfig(dataset="vqa", split="countin", task="counting", count=1),)
    )
    with pytest.raises(InputError, match=r"did you mean 'counting'.*counting, spatial, open"):
        run(scenes, wanted, tmp_path)


def test_a_malformed_line_is_named(scenes, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    path = copy / "data" / "pope" / "coco_pope_adversarial.json"
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:-5]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"coco_pope_adversarial\.json.*7"):
        run(copy, splits(adversarial=20), tmp_path / "out")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_images_that_cannot_be_used_leave_the_split_short(scenes, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    for image in (copy / "data" / "val2014").iterdir():
        if damage == "missing":
            image.unlink()
        else:
            image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(InputError, match="image"):
        run(copy, splits(adversarial=20), tmp_path / "out")


def add_textvqa(folder, n=6):
    """TextVQA's files beside the scenes': half of its questions about each of two pictures."""
    names = ("0000599864fd15b3", "003a8ae2ef43b901")
    (folder / "train_images").mkdir()
    for shade, name in enumerate(names):
        Image.new("RGB", (8, 8), (80 * shade, 0, 0)).save(folder / "train_images" / f"{name}.jpg")
    rows = [
        {"question_id": i, "image_id": names[i % 2], "question": f"what is word {i}?",
         "answers": ["stop"] * 10, "set_name": "val"}
        for i in range(n)
    ]  # fmt: skip
    (folder / "textvqa").mkdir()
    path = folder / "textvqa" / "TextVQA_0.5.1_val.json"
    path.write_text(json.dumps({"dataset_name": "textvqa", "data": rows}))


TEXT = SplitConfig(dataset="textvqa", split="val", task="text", count=6)


def test_textvqa_stands_beside_the_others_with_images_of_its_own(scenes, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    add_textvqa(copy / "data")
    wanted = SampleConfig(splits=(*splits(adversarial=10).splits, TEXT))
    items = run(copy, wanted, tmp_path / "out")
    text = items.filter(dataset="textvqa")
    assert text["task"].unique().to_list() == ["text"]
    assert text.height == 6
    assert text["group"].n_unique() == 2
    assert all(image.startswith("train_images/") for image in text["image"])
    assert not set(text["group"]) & set(items.filter(dataset="pope")["group"])
    row = json.loads((tmp_path / "out" / "sampling.json").read_text())["splits"][1]
    assert [row[key] for key in ("dataset", "split", "found", "taken")] == ["textvqa", "val", 6, 6]
    # The same items without the other data set, whose images need not be there.
    shutil.rmtree(copy / "data" / "val2014")
    alone = run(copy, SampleConfig(splits=(TEXT,)), tmp_path / "alone")
    assert alone.equals(text)


def test_textvqa_is_in_the_manifest_of_the_data(scenes, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    add_textvqa(copy / "data")
    data = DataConfig(origin="local", folder=str(copy / "data"))
    run_job("fetch_data", {"data": tmp_path / "data.json"}, data=data)
    manifest = json.loads((tmp_path / "data.json").read_text())
    assert "textvqa/TextVQA_0.5.1_val.json" in manifest["files"]
    assert manifest["n_images"] == 16 + 2


def test_textvqa_without_its_file_or_folder_is_one_line(scenes, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(scenes, copy)
    wanted = SampleConfig(splits=(TEXT,))
    with pytest.raises(InputError, match="train_images: no such folder; put the images there"):
        run(copy, wanted, tmp_path / "out")
    add_textvqa(copy / "data")
    (copy / "data" / "textvqa" / "TextVQA_0.5.1_val.json").unlink()
    with pytest.raises(InputError, match=r"TextVQA_0\.5\.1_val\.json: cannot be read"):
        run(copy, wanted, tmp_path / "out")


def test_without_the_manifest_nothing_is_sampled(scenes, tmp_path):
    with pytest.raises(InputError, match="fetch-data"):
        run_job(
            "sample",
            {
                "data": tmp_path / "data.json",
                "items": tmp_path / "items.parquet",
                "sampling": tmp_path / "sampling.json",
            },
            seed=0,
            data=DataConfig(folder=str(scenes / "data")),
            sample=splits(adversarial=2),
            provenance={},
        )


def test_the_manifest_changes_with_the_questions(scenes, tmp_path):
    first = json.loads((scenes / "data.json").read_text())
    assert first["n_images"] == 16
    config = DataConfig(
        folder=str(tmp_path / "data"),
        scenes=ScenesConfig(namespace="other", n_pope_images=12, n_vqa_images=16),
    )
    run_job("fetch_data", {"data": tmp_path / "data.json"}, data=config)
    second = json.loads((tmp_path / "data.json").read_text())
    assert set(first["files"]) == set(second["files"])
    assert first["files"] != second["files"]


def test_a_folder_without_questions_is_refused(tmp_path):
    (tmp_path / "val2014").mkdir()
    with pytest.raises(InputError, match="none of the question files"):
        run_job(
            "fetch_data",
            {"data": tmp_path / "data.json"},
            data=DataConfig(origin="local", folder=str(tmp_path)),
        )


def own_study(folder, lines, *wanted):
    """Own questions about pictures of their own, and a split for each (name, task, count)."""
    (folder / "photos").mkdir(parents=True)
    for i in range(len(lines)):
        Image.new("RGB", (8, 8), (9 * i, 0, 0)).save(folder / "photos" / f"{i}.png")
    rows = [{"image": f"{i}.png", "answers": ["red"], **line} for i, line in enumerate(lines)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "questions.jsonl").write_text(text)
    (folder / "data.json").write_text("{}")
    chosen = tuple(
        SplitConfig(dataset="own", split=name, task=task, count=count)
        for name, task, count in wanted
    )
    data = DataConfig(origin="local", folder=str(folder), images="photos")
    return run(folder, SampleConfig(splits=chosen), folder / "out", data=data)


def test_a_question_of_ones_own_is_taken_once(tmp_path):
    lines = [{"question": f"What is {i}?"} for i in range(6)]
    items = own_study(tmp_path, lines, ("first", "open", 4), ("second", "open", 2))
    assert items["question"].n_unique() == 6
    rows = json.loads((tmp_path / "out" / "sampling.json").read_text())["splits"]
    assert [row["dropped"] for row in rows] == [{}, {"taken by an earlier split": 4}]
    with pytest.raises(InputError, match=r"own second.*4 taken by an earlier split"):
        own_study(tmp_path / "short", lines, ("first", "open", 4), ("second", "open", 3))


def test_own_lines_without_a_task_have_the_only_splits(tmp_path):
    lines = [{"question": f"How many on {i}?", "answers": ["2"]} for i in range(3)]
    items = own_study(tmp_path / "one", lines, ("s", "counting", 3))
    assert items["task"].to_list() == ["counting"] * 3
    with pytest.raises(InputError, match=r'jsonl: no usable line asks for counting .*"task": "co'):
        own_study(tmp_path / "two", lines, ("a", "counting", 1), ("b", "open", 1))


def test_questions_without_any_image_stop_the_fetching(tmp_path, caplog):
    lines = [{"question": "What?"}]
    own_study(tmp_path, lines, ("s", "open", 1))
    data = DataConfig(origin="local", folder=str(tmp_path), images="photo")
    with pytest.raises(
        InputError, match=r"photo: holds no images for questions\.jsonl; .*data\.im"
    ):
        run_job("fetch_data", {"data": tmp_path / "m.json"}, data=data)
    assert not (tmp_path / "m.json").exists()
    (tmp_path / "photo").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        run_job("fetch_data", {"data": tmp_path / "m.json"}, data=data)
    with pytest.raises(InputError, match=r"none of the question files.*coco_pope_random\.json"):
        run_job(
            "fetch_data",
            {"data": tmp_path},
            data=DataConfig(origin="local", folder=str(tmp_path / "photo")),
        )
    # Files that the study may not ask about only get a line.
    data = DataConfig(origin="local", folder=str(tmp_path), images="photos")
    (tmp_path / "textvqa").mkdir()
    (tmp_path / "textvqa" / "TextVQA_0.5.1_val.json").write_text("{}")
    caplog.clear()
    run_job("fetch_data", {"data": tmp_path / "m.json"}, data=data)
    assert json.loads((tmp_path / "m.json").read_text())["n_images"] == 1
    said = caplog.text
    assert "train_images: holds no images for textvqa/TextVQA_0.5.1_val.json" in said
