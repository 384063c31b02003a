"""Data sets are found by their modules; an extension registers its own."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from stage_jobs import run_job

from vrp.config.study import study_from_mapping
from vrp.data import datasets
from vrp.data.dataset import Archive, Dataset, ImageSet
from vrp.data.item import Question, Reading
from vrp.errors import InputError
from vrp.planning.disk import data_bytes
from vrp.planning.workload import questions_per_image
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table

N_SIGNS = 6


def read_signs(places, images, splits):
    """What an extension's file would hold: a reader of one JSON list a split."""
    readings = {}
    for split, task in splits.items():
        rows = json.loads(places.path("signs", split).read_text())
        questions = tuple(
            Question("signs", split, task, str(i), images.find(name), "What colour?", [colour],
                     colour)
            for i, (name, colour) in enumerate(rows)
        )  # fmt: skip
        readings[split] = Reading("signs", split, len(rows), questions)
    return readings


SIGNS = Dataset(
    name="signs",
    tasks=("colour",),
    splits=("day", "night"),
    files={"signs": "signs_{split}.json"},
    images="photos",
    read=read_signs,
    archives=(Archive("https://example.org/signs_day.json", "."),),
    image_set=ImageSet(official_bytes=1_000, archive_bytes=10),
    n_images=2,
)


@pytest.fixture
def signs(monkeypatch):
    """The data set, as an extension file registers it."""
    monkeypatch.setattr(datasets, "_REGISTERED", {})
    datasets.register_dataset(SIGNS)
    return SIGNS


def study(folder, split="night", *, origin="local", **more):
    return study_from_mapping(
        {
            "study": "s",
            "models": {"m": {"family": "llava", "checkpoint": "zoo:llava"}},
            "data": {"origin": origin, "folder": str(folder), "official": ["signs"], **more},
            "sample": {
                "splits": [{"dataset": "signs", "split": split, "task": "colour", "count": 4}]
            },
            "extract": {"max_new_tokens_by_task": {"colour": 3}},
        }
    )


def write_signs(folder, name="signs_night.json"):
    (folder / "photos").mkdir(parents=True)
    for i in range(N_SIGNS):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(folder / "photos" / f"{i}.png")
    (folder / name).write_text(json.dumps([[f"{i}.png", "red"] for i in range(N_SIGNS)]))


def items_of(config, folder):
    run_job("fetch_data", {"data": folder / "data.json"}, data=config.data)
    run_job(
        "sample",
        {
            "data": folder / "data.json",
            "items": folder / "items.parquet",
            "sampling": folder / "sampling.json",
        },
        seed=0,
        data=config.data,
        sample=config.sample,
        provenance={},
    )
    return read_table(folder / "items.parquet", ITEMS)


def test_a_registered_data_set_is_fetched_and_sampled(signs, tmp_path):
    write_signs(tmp_path / "data")
    items = items_of(study(tmp_path / "data"), tmp_path)
    assert items["item_id"].str.starts_with("signs/night/").all()
    assert items["task"].to_list() == ["colour"] * 4
    assert items["image"].str.starts_with("photos/").all()
    manifest = json.loads((tmp_path / "data.json").read_text())
    assert list(manifest["files"]) == ["signs_night.json"]
    assert manifest["n_images"] == N_SIGNS


def test_its_files_can_be_elsewhere(signs, tmp_path):
    write_signs(tmp_path / "data", "mine.json")
    config = study(tmp_path / "data", files={"signs": {"signs": "mine.json"}})
    assert items_of(config, tmp_path).height == 4


def test_it_is_planned(signs, tmp_path):
    config = study(tmp_path, origin="official")
    assert data_bytes(config) == 1_010
    # Four questions about two images meet 2·(1 − 1/2⁴) of them.
    assert questions_per_image(config) == pytest.approx(4 / 1.875)


def test_without_the_extension_its_name_is_unknown(tmp_path):
    with pytest.raises(InputError, match=r"unknown data set 'signs' \(known: own, pope, textvqa"):
        study(tmp_path)


def test_what_it_lacks_is_said(signs, tmp_path):
    with pytest.raises(
        InputError, match=r"scenes do not have: set data\.origin to official or local"
    ):
        study(tmp_path, origin="scenes")
    repository = {"pope": {"repository": "a/b", "revision": "main"}}
    with pytest.raises(InputError, match="signs, which is not read from the hub"):
        study(tmp_path, origin="hub", hub=repository)


def test_a_name_is_given_once(signs):
    with pytest.raises(InputError, match="'signs' exists already"):
        datasets.register_dataset(SIGNS)
    with pytest.raises(InputError, match="letters, digits and _"):
        datasets.register_dataset(Dataset(name="a b", tasks=(), files={}, read=read_signs))
    with pytest.raises(InputError, match="'popee'; did you mean 'pope'"):
        datasets.get_dataset("popee")


def test_data_sets_and_tasks_stand_in_their_declared_order(signs):
    assert [d.name for d in datasets.load_datasets()] == ["pope", "vqa", "textvqa", "own", "signs"]
    assert datasets.all_tasks() == ("existence", "counting", "spatial", "open", "text", "colour")
    tasks = ["unheard of", "open", "counting", "existence", "open"]
    known = ["existence", "counting", "open", "unheard of"]
    assert datasets.tasks_in_order(tasks, ["vqa", "pope", "of another time"]) == known


def test_looking_one_up_imports_no_other_and_nothing_heavy():
    program = (
        "import sys, vrp.config.study\n"
        "from vrp.data.datasets import get_dataset\n"
        "get_dataset('pope')\n"
        "heavy = ('torch', 'polars', 'pyarrow', 'PIL', 'numpy', 'requests')\n"
        "print([name for name in sys.modules if name in heavy])\n"
        "print([name for name in sys.modules if name.startswith('vrp.data.datasets.')])\n"
    )
    # The default splits of a study ask for two of the four.
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "[]", "['vrp.data.datasets.pope', 'vrp.data.datasets.vqa']",
    ]  # fmt: skip
