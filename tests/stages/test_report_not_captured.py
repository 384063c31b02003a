"""The report of a study that captured nothing but answers says so wherever a number is missing."""

import json
import re

import pytest
from described_data import write_described_data
from page_text import text_of
from stage_jobs import run_job
from synthetic_study import CONDITION_SECTIONS, CONDITIONS, write_synthetic_study

from vrp.config.data import DataConfig
from vrp.config.report import ReportConfig
from vrp.errors import InputError
from vrp.report.overlays import _mean_map
from vrp.signals.registry import SIGNALS
from vrp.tables.answers import ANSWERS
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.parquet_files import read_table, write_table

pytestmark = pytest.mark.slow

NEEDS_CAPTURE = [
    signal.name for signal in SIGNALS.values() if {"attention", "lens"} & signal.tables
]
ORIGIN = {"study": "synthetic", "stage": "report", "versions": "{}"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    study = write_synthetic_study(folder / "tables", models=("alpha", "beta"), capture=())
    run_job(
        "report",
        {
            **write_described_data(folder, study.items),
            "items": study.items,
            "effects": study.effects,
            **study.tables,
            "figures": [],
            "summary": folder / "summary.json",
            "report": folder / "report.html",
        },
        study="synthetic",
        data=DataConfig(folder=str(folder / "data")),
        report=ReportConfig(overlays=2),
        **CONDITION_SECTIONS,
        provenance=ORIGIN,
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    return page, json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def rows_of(page, first_words):
    """Texts of the rows whose first cell starts with some words."""
    rows = [text_of(row) for row in re.findall(r"<tr.*?</tr>", page, flags=re.DOTALL)]
    return [row for row in rows if row.startswith(first_words)]


def test_the_answers_say_it(made):
    page, summary = made
    attention, generation, _, causal = summary["answers"]
    assert attention["short"] == "Not captured"
    assert set(attention["verdicts"].values()) == {NOT_CAPTURED}
    assert attention["sentence"] == (
        "Not captured: attention was not captured in both models: alpha and beta."
    )
    assert generation["short"] != "Not captured"
    assert "no patches were hidden" in causal["sentence"]
    assert "“not captured” marks a quantity that is not listed in" in text_of(page)


def test_every_signal_without_its_inputs_is_listed_as_not_captured(made):
    page, summary = made
    for label in ("spatial entropy", "cluster count", "image mass", "truth margin,"):
        rows = rows_of(page, label)
        assert rows
        for row in rows:
            assert NOT_CAPTURED in row
            assert not re.search(r"\d\.\d", row), row  # no number of any kind
    for model in summary["models"].values():
        assert model["captured"] == []
        for name in NEEDS_CAPTURE:
            for number in model["auroc"][name].values():
                assert number["value"] is None
                assert (number["n"], number["note"]) == (0, NOT_CAPTURED)
        assert model["auroc"]["logit_entropy"]["within_strata"]["value"] is not None
        for number in model["correlation"]["H_s"].values():
            assert number["value"] is None
    assert summary["pooled_over_models"]["R(H_s)"]["note"] == NOT_CAPTURED
    assert summary["pooled_over_models"]["R(S_SC)"]["value"] > 0


def test_published_quantities_beside_it_are_not_captured(made):
    page, _ = made
    for words in (
        "R² of correctness on the top-k heads", "AUROC: attention ( H s )",
        "AUROC: decision margins only", "layer where the truth margin peaks",
        "truth margin at its peak", "MLPs' share of the margin", "largest drop of H s", "R( H s )",
        "R( C k )", "accuracy of a tree ensemble",
    ):  # fmt: skip
        (row,) = rows_of(page, words)
        assert NOT_CAPTURED in row, words


def test_the_accounting_counts_the_items_that_numbers_lack(made):
    page, _ = made
    accounting = page[page.index('id="accounting"') : page.index('id="published"')]
    assert text_of(accounting).count(NOT_CAPTURED) >= 2  # each model
    assert "225" in text_of(accounting)


def test_an_overlay_says_it():
    row = {"maps": None, "grid_h": 6, "grid_w": 6, "note": None}
    with pytest.raises(InputError, match="attention was not captured"):
        _mean_map(row)


def test_one_model_without_attention_leaves_the_others_answer(tmp_path):
    """What was not looked at in one model says nothing of another."""
    from vrp.report.conclusions import conclude_attention
    from vrp.report.evidence import gather_evidence
    from vrp.study.results import open_results

    full = write_synthetic_study(tmp_path / "full", models=("alpha",))
    bare = write_synthetic_study(tmp_path / "bare", models=("beta",), capture=("lens",))
    described = write_described_data(tmp_path, full.items)
    tables = {name: [*paths, *bare.tables.get(name, [])] for name, paths in full.tables.items()}
    answers = read_table(bare.tables["answers"][0], ANSWERS)
    write_table(
        bare.tables["answers"][0], ANSWERS, answers,
        provenance={"model": "beta", "captured": "lens"},
    )  # fmt: skip
    study = gather_evidence(
        open_results(
            tables, conditions=CONDITIONS, items=full.items, effects=full.effects
        ),
        study="two",
        data_manifest=described["data"], sampling=described["sampling"],
    )  # fmt: skip
    found = conclude_attention(study.models)
    assert found.verdicts["beta"] == NOT_CAPTURED
    assert found.verdicts["alpha"] != NOT_CAPTURED
    assert found.lead not in ("Not captured", "It depends on the model")
    assert "attention was not captured in beta" in found.body
    assert study.models[1].captured == "lens"
