"""A study with a signal, figure, data set, model family and condition of a user's own file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from mask_rows import mask_rows
from page_text import text_of
from PIL import Image
from study_copy import StudyCopy, in_one_shard
from warm_python import warm

from vrp.config.study import load_study
from vrp.data.scenes.official import write_scene_dataset
from vrp.errors import InputError

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EXTENSION = ROOT / "tests" / "support" / "own_extension.py"
COLOURS = ["red", "blue", "green", "red", "blue", "green", "red", "blue", "green", "red"]

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


def run(folder, *command):
    done = subprocess.run(
        [*warm(BIN / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder / 'bin'}:{BIN}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout with the study's config and, beside it, the extension; no edit under src."""
    copy = StudyCopy(tmp_path_factory.mktemp("extended") / "copy", program=BIN / "vrp", warm=True)
    folder = copy.folder
    shutil.copy(EXTENSION, folder / "config" / "own_extension.py")
    config = in_one_shard(yaml.safe_load((ROOT / "config" / "ci.yaml").read_text()))
    config["study"] = "extended"
    config["extensions"] = ["own_extension.py"]
    config["models"] = {"polite": {"family": "polite", "checkpoint": "zoo:llava", "device": "cpu"}}
    config["data"] = {"origin": "local", "folder": "data"}
    config["sample"]["splits"][3] = {
        "dataset": "colours", "split": "all", "task": "colour", "count": 10
    }  # fmt: skip
    config["mask"]["conditions"] = mask_rows(
        random_seeds=2, controls=["upper", "no_image"], dose=[0.6], dose_items=15
    )
    (folder / "config" / "extended.yaml").write_text(yaml.safe_dump(config))
    data = folder / "data"
    write_scene_dataset(data, namespace="ci", n_pope_images=12, n_vqa_images=40)
    (data / "colours").mkdir()
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (96, 96), colour).save(data / "colours" / f"{i}.png")
    rows = [[f"{i}.png", colour] for i, colour in enumerate(COLOURS)]
    (data / "colours_all.json").write_text(json.dumps(rows))
    ended = copy.run("--cores", "2", "--configfile", "config/extended.yaml", timeout=1800)
    assert ended.status == 0, ended.output[-5000:]
    return folder


def table(folder, name):
    return pl.read_parquet(folder / "results" / "extended" / name)


def test_the_data_set_is_sampled_and_asked(folder):
    items = table(folder, "items.parquet")
    asked = items.filter(dataset="colours")
    assert len(asked) == len(COLOURS)
    answers = table(folder, "polite/answers/*.parquet")
    assert set(asked["item_id"]) <= set(answers["item_id"])


def test_the_signal_is_a_column_and_is_judged(folder):
    signals = table(folder, "polite/signals.parquet")
    samples = table(folder, "polite/consistency/*.parquet")
    counted = samples.select("item_id", n=pl.col("normalised").list.n_unique())
    joined = signals.join(counted, on="item_id")
    assert joined["answer_count"].to_list() == joined["n"].to_list()
    metrics = table(folder, "polite/metrics.parquet")
    assert "answer_count" in set(metrics["predictor"])


def test_the_condition_is_masked_and_estimated(folder):
    masked = table(folder, "polite/mask/*.parquet")
    assert "upper_30" in set(masked["condition"])
    assert "upper_30" in set(table(folder, "effects.parquet")["condition"])


def test_report_and_figures_show_them(folder):
    results = folder / "results" / "extended"
    assert "How many answers there are" in (results / "figures" / "answer_counts.svg").read_text()
    words = text_of((results / "report.html").read_text())
    assert "distinct answers" in words
    assert "Number of distinct answers of every item." in words
    assert "uppermost" in words
    assert "colour" in words


def test_the_plan_counts_them(folder):
    text = run(folder, "vrp", "plan", "config/extended.yaml", "--json", "plan.json")
    assert "polite" in text
    stages = json.loads((folder / "plan.json").read_text())["stages"]
    (mask,) = [stage for stage in stages if stage["stage"] == "mask"]
    assert mask["n_answers"] == len(table(folder, "polite/mask/*.parquet"))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("metrics", "Signals: "),
        ("metrics", "answer_count"),
        ("figures", "answer_counts"),
        ("sample", "Data sets: colours"),
        ("fetch-model", "paligemma, polite"),
        ("mask", "random_object, top, upper"),
    ],
)
def test_help_lists_them(folder, command, words):
    text = run(folder, "vrp", command, "--config", "config/extended.yaml", "--help")
    assert words in " ".join(text.split())


def test_nothing_is_rerun_and_the_snapshot_finds_it(folder):
    text = run(folder, "snakemake", "-n", "--configfile", "config/extended.yaml")
    assert "Nothing to be done" in text
    run(folder, "vrp", "status", "results/extended/config.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.py", "no such file beside the configuration"),
        ("nobody", "unknown extension 'nobody'"),
        ("broken.py", "ZeroDivisionError: division by zero"),
        ("twice.py", "signal 'spatial_entropy' exists already"),
    ],
)
def test_an_extension_that_cannot_be_loaded_is_one_clear_line(tmp_path, name, words):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "twice.py").write_text(
        "from vrp.signals.registry import SIGNALS, register_signal\n"
        "register_signal(SIGNALS['spatial_entropy'])\n"
    )
    config = tmp_path / "study.yaml"
    config.write_text(
        f"study: x\nextensions: [{name}]\nmodels: {{m: {{family: llava, checkpoint: c}}}}\n"
    )
    with pytest.raises(InputError) as caught:
        load_study(config)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{config}: key 'extensions': ")
    assert "\n" not in str(caught.value)
