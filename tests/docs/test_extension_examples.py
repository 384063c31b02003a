"""The example of each page on extending runs as it is printed."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from textwrap import indent
from unittest import mock

import numpy as np
import polars as pl
import pytest
import yaml
from documents import ROOT, blocks
from PIL import Image
from stage_jobs import run_job
from synthetic_study import write_synthetic_study

from vrp import extensions
from vrp.config.metrics import MetricsConfig
from vrp.config.study import study_from_mapping
from vrp.data import datasets
from vrp.interventions.masking import MASK_KINDS, MaskableImage
from vrp.plots import figures
from vrp.signals.registry import SIGNALS
from vrp.tables.estimates import METRICS
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table
from vrp.tables.signals import signal_table
from vrp.vlm import family_names

pytestmark = pytest.mark.slow

PAGES = ROOT / "docs" / "extend"
REGISTRIES = (
    SIGNALS, MASK_KINDS, figures._REGISTERED, datasets._REGISTERED, family_names.REGISTERED,
    extensions._LOADED,
)  # fmt: skip


@pytest.fixture
def study_of(tmp_path):
    """Page → the study of its YAML, with its Python file beside it; registered for one test."""

    def load(page):
        path = PAGES / f"{page}.md"
        (code,) = blocks("python", pages=[path])
        assert code.title == "config/my_study.py"
        (tmp_path / "my_study.py").write_text(code.code)
        raw = yaml.safe_load(blocks("yaml", pages=[path])[0].code)
        assert raw["extensions"] == ["my_study.py"]
        models = {"llava": {"family": "llava", "checkpoint": "zoo:llava", "device": "cpu"}}
        return study_from_mapping({"study": "own", "models": models} | raw, beside=[tmp_path])

    with ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(mock.patch.dict(registry))
        yield load
    sys.modules.pop("vrp_extension_my_study", None)


def test_the_index_names_the_file(study_of):
    (block,) = blocks("yaml", pages=[PAGES / "index.md"])
    assert yaml.safe_load(block.code) == {"extensions": ["my_study.py"]}


def test_a_signal(study_of, tmp_path):
    study_of("signal")
    made = write_synthetic_study(tmp_path / "made", models=("llava",))
    tables = (
        "answers",
        "attention",
        "lens",
        "consistency",
        "signals",
        "heads",
        "recipes",
        "metrics",
    )
    run_job(
        "metrics", {"items": made.items, **{name: made.tables[name] for name in tables}},
        seed=0, metrics=MetricsConfig(bootstrap=100, top_heads=(1,)), provenance={"model": "llava"},
    )  # fmt: skip
    [signals], [lens], [estimates] = (made.tables[name] for name in ("signals", "lens", "metrics"))
    depths = read_table(signals, signal_table())["settled_depth"].to_numpy()
    expected = [_settled(margins) for margins in pl.read_parquet(lens)["decision_margin"]]
    assert depths == pytest.approx(expected, abs=1e-6)
    assert "settled_depth" in set(read_table(estimates, METRICS)["predictor"])


def _settled(margins):
    """Layers up to the last at which the answer does not lead, as a share of all."""
    behind = [layer for layer, margin in enumerate(margins) if not margin > 0]
    return (behind[-1] + 1) / len(margins) if behind else 0.0


def test_a_figure(study_of, tmp_path):
    study_of("figure")
    made = write_synthetic_study(tmp_path / "made", models=("alpha", "beta"))
    [spec] = [one for one in figures.load_figures() if one.name == "confidence_of_answers"]
    drawn = spec.draw(made.results())
    assert [panel.get_title() for panel in drawn.axes] == ["alpha", "beta"]
    drawn.draw_without_rendering()


def test_a_data_set(study_of, tmp_path):
    study = study_of("data-set")
    data = tmp_path / study.data.folder
    (data / "photos").mkdir(parents=True)
    rows = [(f"{number:03d}.jpg", colour) for number, colour in enumerate(("green", "red", "blue"))]
    for name, colour in rows:
        Image.new("RGB", (32, 32), colour).save(data / "photos" / name)
    (data / "colours_all.json").write_text(json.dumps(rows))
    sections = {"data": study.data.model_copy(update={"folder": str(data)}), "sample": study.sample}
    run_job("fetch_data", {"data": tmp_path / "data.json"}, **sections)
    run_job(
        "sample",
        {"data": tmp_path / "data.json", "items": tmp_path / "items.parquet",
         "sampling": tmp_path / "sampling.json"},
        **sections,
    )  # fmt: skip
    items = read_table(tmp_path / "items.parquet", ITEMS)
    assert sorted(items["reference"]) == ["blue", "green", "red"]
    assert set(items["task"]) == {"colour"}


def test_a_family(study_of):
    study = study_of("family")
    from vrp.vlm.batching import VlmInput
    from vrp.vlm.decode import CaptureSpec, run_batch
    from vrp.vlm.loading import load_vlm
    from vrp.zoo import zoo_checkpoint

    assert study.models["llava"].family == "polite"
    vlm = load_vlm(zoo_checkpoint("zoo:llava"), family="polite", device="cpu")
    assert "Please look closely. Is it red?\n" in vlm.family.render_prompt("Is it red?")
    image = Image.new("RGB", (96, 96), "red")
    (capture,) = run_batch(
        vlm, [VlmInput("a", image, "Is it red?")], CaptureSpec(), max_new_tokens=2
    )
    assert capture.item_id == "a"


def test_the_methods_of_a_family_are_its_abstract_ones():
    from vrp.vlm.families.base import Family

    rows = [
        line for line in (PAGES / "family.md").read_text().splitlines() if line.startswith("| `")
    ]
    assert {row.split("`")[1] for row in rows} == set(Family.__abstractmethods__)


def test_a_condition(study_of):
    study = study_of("condition")
    from vrp.interventions.conditions import conditions_by_name

    conditions = conditions_by_name(study)
    assert "upper_30" in conditions.mask
    assert [one.name for one in conditions.contrasts("mask").values()] == ["upper_30 - random_30"]
    image = MaskableImage(np.full(20, 0.05), 4, 5, seed=0)
    assert list(MASK_KINDS["upper"].hides(image, 0.25)) == [0, 1, 2, 3, 4]


STAGE_CHECK = """
import sys
import polars as pl
from pathlib import Path
from textwrap import indent
from stage_jobs import run_job
made, answers = map(Path, sys.argv[1:])
run_job("lengths", {"items": made / "items.parquet", "answers": answers,
                    "lengths": made / "lengths.parquet"})
found = pl.read_parquet(made / "lengths.parquet")
asked = pl.read_parquet(answers).join(pl.read_parquet(made / "items.parquet"), on="item_id")
by_task = asked.group_by("task")
lengths = {task: [len(ids) for ids in rows["token_ids"]] for (task,), rows in by_task}
for task, n, mean in found.iter_rows():
    assert n == len(lengths[task]) and abs(mean - sum(lengths[task]) / n) < 1e-6, task
assert set(found["task"]) == set(lengths)
"""


def test_a_table_and_a_stage(tmp_path):
    """The files are written into a copy, whose command then has the stage."""
    copy = tmp_path / "copy"
    for name in ("src/vrp", "workflow", "config"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    for block in blocks("python", pages=[PAGES / "stage.md"]):
        place, _, before = block.title.partition(", before the ")
        _insert(copy / place, before, block.code)
    made = tmp_path / "made"
    [answers] = write_synthetic_study(made, models=("llava",)).tables["answers"]
    environment = {"PYTHONPATH": f"{copy / 'src'}:{ROOT / 'tests' / 'support'}", "PATH": "/usr/bin"}
    for command in (
        ["-m", "vrp", "lengths", "--help"],
        ["-c", STAGE_CHECK, str(made), str(answers)],
    ):
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    rule = (copy / "workflow" / "rules" / "effects.smk").read_text().split('"""', 2)[2]
    written = (copy / "workflow" / "rules" / "lengths.smk").read_text().split('"""', 2)[2]
    assert _shape(written) == _shape(rule).replace("effects", "lengths")


def _insert(path: Path, before: str, code: str) -> None:
    """Put code before a line, or before a stage's declaration; without either, write a file."""
    if not before:
        path.write_text(code)
        return
    mark = f"\n{before.removeprefix('line ')}"
    text = path.read_text()
    if before.startswith("stage "):
        mark = f'\n    Stage(\n        "{before.removeprefix("stage ")}",'
        code = indent(f"{code.rstrip()},", "    ")
    assert text.count(mark) == 1, f"{path.name} has no {mark!r}: fix docs/extend/stage.md"
    path.write_text(text.replace(mark, f"\n{code.rstrip()}{mark}"))


def _shape(rule: str) -> str:
    """A rule's text without its docstring."""
    return rule[: rule.index('"""')] + rule.split('"""')[2]
