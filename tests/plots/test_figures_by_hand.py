"""`vrp figures FOLDER`: figures of a study's folder, drawn for a paper."""

import xml.etree.ElementTree as ET

import pytest
import yaml

from vrp.cli import main
from vrp.config.study import study_from_mapping
from vrp.plots.figures import figure_names
from vrp.study.graph import STAGE
from vrp.study.keys import stage_config
from vrp.study.provenance import digest
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import write_table

ONLY = ("--only", "contributions", "--only", "masking")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study that has items alone; the current folder is empty."""
    study = study_from_mapping(
        {
            "study": "s",
            "results": str(tmp_path / "results"),
            "models": {"tiny": {"family": "llava", "checkpoint": "zoo:llava"}},
        }
    )
    folder = tmp_path / "results" / "s"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    config = digest(stage_config(study, STAGE["sample"], None))
    write_table(
        folder / "items.parquet", ITEMS, {name: [] for name in ITEMS.columns.names},
        provenance={"study": "s", "stage": "sample", "model": "", "config": config},
    )  # fmt: skip
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def files_in(place):
    return sorted(path.name for path in place.iterdir())


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main(["figures", *words])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_it_writes_into_the_current_folder_and_prints_what(folder, tmp_path, capsys):
    main(["figures", str(folder), *ONLY])
    assert capsys.readouterr().out == "contributions.pdf\nmasking.pdf\n"
    assert files_in(tmp_path / "here") == ["contributions.pdf", "masking.pdf"]
    assert (tmp_path / "here" / "masking.pdf").read_bytes().startswith(b"%PDF")
    assert files_in(folder) == ["config.yaml", "items.parquet"]


@pytest.mark.parametrize(("width", "points"), [("page", 6.9 * 72), ("column", 3.25 * 72)])
def test_a_drawing_is_as_wide_as_asked(folder, tmp_path, width, points):
    output = tmp_path / "new" / "folder"
    main(["figures", str(folder), "--only", "masking", "--format", "svg", "csv",
          "--width", width, "--output", str(output)])  # fmt: skip
    assert files_in(output) == ["masking.csv", "masking.svg"]
    drawn = ET.parse(output / "masking.svg").getroot()
    assert float(drawn.attrib["width"].removesuffix("pt")) == pytest.approx(points)
    assert (output / "masking.csv").read_text().startswith("model,condition,label,")


def test_all_figures_are_drawn_where_none_is_named(folder, tmp_path):
    main(["figures", str(folder), "--format", "csv"])
    assert files_in(tmp_path / "here") == [f"{name}.csv" for name in figure_names()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "auroc_by_signals"), "did you mean 'auroc_by_signal'?"),
        (("--only", "masking", "--dpi", "0"), "give at least 1"),
        (("--only", "masking", "--output", "../results/s/figures"), "keeps its figures"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(folder, tmp_path, capsys, words, said):
    message = refusal(capsys, str(folder), *words)
    assert said in message
    assert message.count("\n") == 1
    assert files_in(tmp_path / "here") == []


def test_a_folder_that_is_no_study_is_refused(tmp_path, capsys):
    assert "holds no config.yaml" in refusal(capsys, str(tmp_path))


def test_the_stage_is_still_called_by_its_configuration(capsys):
    assert "--config" in refusal(capsys, "--figures", "a.svg")
