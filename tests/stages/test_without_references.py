"""Items of which nobody knows what is right: answers, signals and scores, and no correctness."""

import json

import planted_study as planted
import polars as pl
import pytest
from described_data import write_described_data
from page_text import text_of
from stage_jobs import run_job
from synthetic_study import CONDITION_SECTIONS, write_synthetic_study

from vrp.config.data import DataConfig
from vrp.config.effects import EffectsConfig
from vrp.config.figures import FiguresConfig
from vrp.config.metrics import MetricsConfig
from vrp.config.probes import ProbesConfig
from vrp.config.report import ReportConfig
from vrp.plots.figures import figure_names
from vrp.running.model_run import read_judged_items
from vrp.tables.answers import ANSWERS
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import METRICS, PROBES
from vrp.tables.hidden import written_hidden_table
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

SMALL = ProbesConfig(
    folds=3, inner_folds=2, penalties=(0.01, 0.1), mlp=False, bootstrap=100, permutations=1,
    supervised_attention=False,
)  # fmt: skip
KNOWN = {
    "items": (ITEMS, ("reference",)),
    "answers": (ANSWERS, ("correct", "score", "correct_official")),
    "consistency": (CONSISTENCY, ("majority_correct",)),
}
"""Table → its columns that say what is right."""


def forget(path, schema, columns, unknown):
    """Empty the columns of some items."""
    frame = read_table(path, schema).with_columns(
        pl.when(~unknown).then(pl.col(name)).alias(name) for name in columns
    )
    write_table(path, schema, frame, provenance=read_provenance(path))


def planted_tables(folder, unknown=None, *, left_out=None):
    """The tables of a planted study in which some items are not judged, or left out."""
    folder.mkdir()
    study = planted.write_planted_study(folder, n_images=40)
    paths = {name: getattr(study, name) for name in study._fields if name != "correct"}
    if unknown is not None:
        for name, (schema, columns) in KNOWN.items():
            forget(paths[name], schema, columns, unknown)
    if left_out is not None:
        for name in ("items", "answers", "attention", "lens", "consistency", "hidden"):
            schema = written_hidden_table(paths[name]) if name == "hidden" else None
            table = pl.read_parquet(paths[name]).filter(~left_out)
            origin = read_provenance(paths[name])
            schemas = {"items": ITEMS, "answers": ANSWERS, "consistency": CONSISTENCY}
            schema = schema or schemas.get(name) or getattr(planted, name.upper())
            write_table(paths[name], schema, table, provenance=origin)
    return paths


METRICS_TABLES = ("signals", "heads", "recipes", "metrics")


def run_metrics(paths, folder):
    made = {name: folder / f"{name}.parquet" for name in METRICS_TABLES}
    run_job(
        "metrics",
        {
            "items": paths["items"],
            **{name: [paths[name]] for name in ("answers", "attention", "lens", "consistency")},
            **made,
        },
        seed=0,
        metrics=MetricsConfig(bootstrap=100, top_heads=(1, 2)),
        provenance=planted.ORIGIN,
    )
    return made


def run_probes(paths, folder):
    made = {name: folder / f"{name}.parquet" for name in ("probes", "predictions", "neurons")}
    made["saved_probe"] = folder / "probe.safetensors"
    run_job(
        "probes",
        {
            "items": paths["items"], "signals": paths["signals"], "blind/hidden": [],
            **{name: [paths[name]] for name in ("answers", "attention", "hidden", "lens")},
            **made,
        },
        seed=0, probes=SMALL, metrics=MetricsConfig(), provenance=planted.ORIGIN,
    )  # fmt: skip
    return made


# Images of their own, and some questions of images whose others are judged.
UNKNOWN = (
    pl.col("item_id").str.slice(4).cast(pl.Int64).is_between(20, 31)
    | (pl.col("item_id").str.slice(4).cast(pl.Int64) % 29 == 3)
)  # fmt: skip

N_UNKNOWN = 18


@pytest.fixture(scope="module")
def partly(tmp_path_factory):
    """A study in which some items are not judged."""
    folder = tmp_path_factory.mktemp("partly")
    paths = planted_tables(folder / "study", UNKNOWN)
    paths |= run_metrics(paths, folder)
    return paths | run_probes(paths, folder)


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """The same without these items."""
    folder = tmp_path_factory.mktemp("without")
    paths = planted_tables(folder / "study", left_out=UNKNOWN)
    paths |= run_metrics(paths, folder)
    return paths | run_probes(paths, folder)


RATES = ("parse_rate", "yes_rate")


def test_numbers_about_right_and_wrong_are_those_without_the_items(partly, without):
    ours, theirs = (
        read_table(paths["metrics"], METRICS).filter(~pl.col("metric").is_in(RATES))
        for paths in (partly, without)
    )
    assert ours.equals(theirs)
    assert len(ours) > 100


def test_rates_that_need_no_reference_are_of_all_items(partly, without):
    ours, theirs = (
        read_table(paths["metrics"], METRICS).filter(metric="parse_rate", scope="pooled")["n"][0]
        for paths in (partly, without)
    )
    n_unknown = read_table(partly["items"], ITEMS).filter(UNKNOWN).height
    assert n_unknown == N_UNKNOWN
    assert ours == theirs + n_unknown == 160


def test_signals_of_all_items_are_kept(partly):
    signals = read_table(partly["signals"], signal_table())
    assert signals.height == 160
    unknown = signals.filter(UNKNOWN)
    assert unknown["correct"].null_count() == unknown.height == N_UNKNOWN
    assert unknown["decision_margin"].is_finite().all()
    assert signals["correct"].null_count() == N_UNKNOWN


def test_probes_learn_from_judged_items_alone_and_score_all(partly, without):
    ours, theirs = (read_table(paths["predictions"], PREDICTIONS) for paths in (partly, without))
    assert ours.filter(~UNKNOWN).equals(theirs)
    unknown = ours.filter(UNKNOWN, probe="linear_best")
    assert unknown.height == N_UNKNOWN
    assert unknown["score"].is_between(0, 1).all()
    # Questions of one image are in one fold, judged or not.
    groups = read_table(partly["items"], ITEMS).select("item_id", "group")
    folds = ours.join(groups, on="item_id").group_by("group").agg(pl.col("fold").n_unique())
    assert folds["fold"].to_list() == [1] * len(folds)
    judged = [read_table(paths["probes"], PROBES) for paths in (partly, without)]
    assert judged[0].drop("n").equals(judged[1].drop("n"))


def test_interventions_run_on_judged_items(partly):
    assert read_judged_items(partly["items"]).filter(UNKNOWN).is_empty()
    assert read_judged_items(partly["items"]).height == 160 - N_UNKNOWN


# No item is judged.


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    folder = tmp_path_factory.mktemp("production")
    paths = planted_tables(folder / "study", pl.lit(True))
    paths |= run_metrics(paths, folder)
    return paths | run_probes(paths, folder)


def test_without_any_reference_there_are_signals_and_no_estimates(production):
    signals = read_table(production["signals"], signal_table())
    assert signals["correct"].null_count() == signals.height == 160
    assert signals["decision_margin"].is_finite().all()
    metrics = read_table(production["metrics"], METRICS)
    defined = metrics.filter(pl.col("value").is_finite())
    assert set(defined["metric"]) == set(RATES)
    assert set(metrics.filter(metric="auroc")["note"]) == {"no reference answer"}
    assert read_table(production["probes"], PROBES).is_empty()
    assert read_table(production["predictions"], PREDICTIONS).is_empty()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Figures, summary and page of a study without any reference."""
    folder = tmp_path_factory.mktemp("told")
    made = write_synthetic_study(folder, models=("alpha",))
    for name, (schema, columns) in KNOWN.items():
        path = made.items if name == "items" else made.tables[name][0]
        forget(path, schema, columns, pl.lit(True))
    nothing = ("mask", "probes", "predictions", "neurons")
    tables = {name: [] if name in nothing else paths for name, paths in made.tables.items()}
    run_job(
        "metrics",
        {
            "items": made.items,
            **{name: tables[name] for name in ("answers", "attention", "lens", "consistency")},
            **{name: tables[name][0] for name in METRICS_TABLES},
        },
        seed=0,
        metrics=MetricsConfig(bootstrap=100),
        provenance={"study": "synthetic", "model": "alpha"},
    )
    run_job(
        "effects",
        {
            "items": made.items, "answers": tables["answers"], "mask": [], "ablate": [],
            "effects": made.effects,
        },
        seed=0, effects=EffectsConfig(), **CONDITION_SECTIONS, provenance={"study": "synthetic"},
    )  # fmt: skip
    figures = [
        folder / "figures" / f"{name}{ending}"
        for name in figure_names() for ending in (".svg", ".csv")
    ]  # fmt: skip
    run_job(
        "figures",
        {"items": made.items, "effects": made.effects, **tables, "figures": figures},
        figures=FiguresConfig(formats=("svg",), dpi=60),
        **CONDITION_SECTIONS,
    )
    run_job(
        "report",
        {
            **write_described_data(folder, made.items),
            "items": made.items,
            "effects": made.effects,
            **tables,
            "figures": figures,
            "summary": folder / "summary.json",
            "report": folder / "report.html",
        },
        study="synthetic",
        data=DataConfig(folder=str(folder)),
        report=ReportConfig(overlays=2),
        **CONDITION_SECTIONS,
        provenance={"study": "synthetic", "stage": "report", "versions": "{}"},
    )
    page = " ".join(text_of((folder / "report.html").read_text()).split())
    return folder, json.loads((folder / "summary.json").read_text()), page


def test_the_report_says_that_nothing_was_judged(told):
    _, summary, page = told
    model = summary["models"]["alpha"]
    assert model["accuracy"]["pooled"] is None
    assert model["parse_rate"]["pooled"]["value"] > 0.9
    assert "no reference answer: answers, signals and scores only" in page
    assert "all that is about right and wrong 225" in page
    assert summary["answers"] == []
    assert summary["in_short"][1:] == ["alpha: no answer could be scored, so no signal is judged."]


def test_the_report_shows_what_there_is_and_no_empty_tables(told):
    folder, _, page = told
    assert "No question of this study has a reference answer" in page
    assert "expected to be higher in right answers" in page
    values = read_table(folder / "alpha" / "signals.parquet", signal_table())["token_confidence"]
    low, median, high = (values.quantile(q, "linear") for q in (0.1, 0.5, 0.9))
    cell = f"{median:.2f} {low:.2f} to {high:.2f}".replace("-", "−")
    assert f"token confidence P tok nat; expected to be higher in right answers {cell}" in page
    for heading in ("Probes and their guards", "Interventions", "Comparison with the papers"):
        assert heading not in page
    shown = (folder / "report.html").read_text()
    assert 'id="figure-head_map"' in shown
    assert 'id="figure-roc"' not in shown
    assert "this study has no values for them: decision, claims, auroc_by_signal, roc" in page


def test_every_figure_is_drawn_all_the_same(told):
    assert {path.stem for path in (told[0] / "figures").iterdir()} == set(figure_names())
