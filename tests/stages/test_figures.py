"""The figures stage: whole files, the same bytes every time, clear words when a table is wrong."""

import xml.etree.ElementTree as ET

import polars as pl
import pytest
from PIL import Image
from stage_jobs import run_job
from synthetic_study import CONDITION_SECTIONS, MODELS, write_synthetic_study

from vrp.config.figures import FiguresConfig
from vrp.errors import InputError
from vrp.plots.figures import figure_names, load_figures
from vrp.study.results import open_results
from vrp.tables.answers import ANSWERS
from vrp.tables.estimates import METRICS
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table, write_table

pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_synthetic_study(tmp_path_factory.mktemp("figures"))


@pytest.fixture
def only(monkeypatch):
    """Let the stage draw some figures alone."""

    def keep(*names):
        some = tuple(module for module in load_figures() if module.name in names)
        monkeypatch.setattr("vrp.stages.figures.load_figures", lambda: some)

    return keep


def run(study, output, *, tables=None, **config):
    settings = FiguresConfig(**config)
    output.mkdir(exist_ok=True)
    kinds = (*settings.formats, "csv")
    files = [output / f"{name}.{kind}" for name in figure_names() for kind in kinds]
    given = study.tables if tables is None else tables
    run_job(
        "figures",
        {"items": study.items, "effects": study.effects, **given, "figures": files},
        figures=settings,
        **CONDITION_SECTIONS,
    )


def test_every_figure_is_written_and_drawn_the_same_again(study, tmp_path):
    run(study, tmp_path / "one", dpi=60)
    wanted = {f"{name}.{kind}" for name in figure_names() for kind in ("svg", "png", "csv")}
    assert {path.name for path in (tmp_path / "one").iterdir()} == wanted
    run(study, tmp_path / "two", formats=("svg",), dpi=60)
    for name in sorted(path.name for path in (tmp_path / "two").iterdir()):
        first, second = (tmp_path / folder / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes(), name


def test_files_are_whole_images_without_a_date(study, tmp_path, only):
    only("contributions")
    run(study, tmp_path, dpi=80)
    with Image.open(tmp_path / "contributions.png") as image:
        image.load()
        assert image.width == 6.9 * 80
        assert not {"Software", "Creation Time"} & set(image.info)
    root = ET.parse(tmp_path / "contributions.svg").getroot()
    assert root.tag == f"{SVG}svg"
    text = (tmp_path / "contributions.svg").read_text()
    assert "<dc:date>" not in text
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_users_own_style_changes_nothing(study, tmp_path, only, monkeypatch):
    import matplotlib as mpl

    only("contributions")
    run(study, tmp_path / "plain", formats=("svg",))
    monkeypatch.setitem(mpl.rcParams, "font.size", 20)
    monkeypatch.setitem(mpl.rcParams, "axes.facecolor", "red")
    run(study, tmp_path / "styled", formats=("svg",))
    files = [tmp_path / folder / "contributions.svg" for folder in ("plain", "styled")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert mpl.rcParams["font.size"] == 20


def test_only_the_formats_asked_for(study, tmp_path, only):
    only("contributions")
    run(study, tmp_path, formats=("png",))
    assert {path.name for path in tmp_path.iterdir()} == {"contributions.png", "contributions.csv"}


def test_numbers_stand_beside_the_drawings(study, tmp_path, only):
    only("auroc_by_signal")
    run(study, tmp_path, formats=("svg",))
    marks = pl.read_csv(tmp_path / "auroc_by_signal.csv")
    metrics = read_table(study.tables["metrics"][1], METRICS).filter(
        metric="auroc", scope="within_strata", predictor="decision_margin"
    )
    row = marks.filter(model=MODELS[1], predictor="decision_margin").row(0, named=True)
    for ours, theirs in (("value", "value"), ("low", "low"), ("n", "n"), ("images", "n_groups")):
        assert row[ours] == metrics[theirs].item()


def test_models_come_in_the_order_of_their_files_and_shards_together(study, tmp_path):
    answers = read_table(study.tables["answers"][0], ANSWERS)
    shards = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for shard, part in zip(shards, (answers[:100], answers[100:]), strict=True):
        write_table(shard, ANSWERS, part, provenance={"model": MODELS[0]})
    tables = {**study.tables, "answers": [study.tables["answers"][1], *shards]}
    found = open_results(tables, items=study.items, effects=study.effects)
    assert [model.name for model in found.models] == [MODELS[1], MODELS[0], MODELS[2]]
    assert found.models[1].table(ANSWERS).equals(answers)
    assert found.models[2].table(ANSWERS).is_empty()
    assert len(found.models[2].table(LENS)) == len(answers)
    with pytest.raises(InputError, match=f"no answers were given for model '{MODELS[2]}'"):
        found.require(ANSWERS)


def test_a_table_left_out_is_shown_as_not_run(study, tmp_path, only):
    only("dose_curve", "masking")
    tables = {name: files for name, files in study.tables.items() if name != "mask"}
    run(study, tmp_path, tables=tables, formats=("svg",))
    assert (tmp_path / "dose_curve.svg").exists()


def test_a_file_that_does_not_name_its_model_is_refused(study, tmp_path):
    path = tmp_path / "answers.parquet"
    write_table(path, ANSWERS, read_table(study.tables["answers"][0], ANSWERS), provenance={})
    with pytest.raises(InputError, match="which model"):
        run(study, tmp_path / "out", tables={"answers": [path]})
    assert not list((tmp_path / "out").iterdir())


def test_a_table_of_another_kind_is_refused_before_anything_is_written(study, tmp_path):
    wrong = {**study.tables, "lens": study.tables["answers"]}
    with pytest.raises(InputError, match="not 'lens'"):
        run(study, tmp_path / "out", tables=wrong)
    assert not list((tmp_path / "out").iterdir())
