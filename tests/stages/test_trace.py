"""The tracing as a stage, and what is estimated of it."""

import numpy as np
import polars as pl
import pytest
from stage_jobs import run_job

from vrp.config.effects import EffectsConfig
from vrp.errors import InputError
from vrp.interventions.tracing import KINDS, trace_conditions, window_length
from vrp.tables.answers import ANSWERS
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.seal import read_provenance
from vrp.tables.trace import NOTHING_ADDED, TRACE, TRACE_EFFECTS

pytestmark = pytest.mark.slow
N_LAYERS = 4
FAMILIES = ("llava", "paligemma", "qwen2_vl")


def test_windows_slide_over_all_layers():
    assert [window_length(None, n) for n in (1, 6, 7, 28, 32)] == [1, 1, 1, 6, 6]
    found = trace_conditions(2, 4)
    image = [(c.layer, c.last_layer) for c in found if c.kind == "knockout_image"]
    assert image == [(0, 1), (1, 2), (2, 3)]
    assert [(c.layer, c.last_layer) for c in found if c.kind == "patch"] == [
        (0, 0), (1, 1), (2, 2), (3, 3),
    ]  # fmt: skip
    assert {condition.kind for condition in found} == set(KINDS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_item_has_every_run(small_study, family):
    study = small_study(family, n_items=7)
    answers = study.extract()["answers"]
    found = read_table(study.trace(answers, window=2), TRACE)
    n_runs = 2 + 2 * (N_LAYERS - 1) + N_LAYERS
    assert found.group_by("item_id").len()["len"].to_list() == [n_runs] * 7
    clean = found.filter(kind="clean")
    assert clean["same_token"].all()
    margins = read_table(answers, ANSWERS).sort("item_id")["decision_margin"]
    np.testing.assert_allclose(clean.sort("item_id")["margin"], margins, atol=1e-4)
    # The last layer's state is all that the logits are made of.
    last = found.filter(kind="patch", layer=N_LAYERS - 1).sort("item_id")
    np.testing.assert_allclose(last["margin"], clean.sort("item_id")["margin"], atol=1e-4)
    assert last["same_token"].all()


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_change_nothing(small_study, family):
    study = small_study(family, n_items=7)
    answers = study.extract()["answers"]
    tables = [
        read_table(study.trace(answers, name=f"trace{size}", batch_size=size), TRACE)
        for size in (1, 7)
    ]
    one, other = tables
    assert one.drop("margin").equals(other.drop("margin"))
    np.testing.assert_allclose(one["margin"], other["margin"], atol=1e-4)


def test_a_window_longer_than_the_model_is_refused(small_study):
    study = small_study("llava", n_items=3)
    answers = study.extract()["answers"]
    with pytest.raises(InputError, match=r"trace.window: 5 layers, but model .tiny. has 4"):
        study.trace(answers, window=5)
    assert not study.path("trace", 0).exists()


def test_shares_are_ratios_of_sums(small_study, tmp_path):
    study = small_study("qwen2_vl", n_items=13, n_images=12)
    answers = study.extract()["answers"]
    trace = study.trace(answers)
    # A model whose image adds something, as an untrained one's does not.
    adding = read_table(trace, TRACE).with_columns(
        margin=pl.when(pl.col("kind") == "blank").then("margin").otherwise(pl.col("margin") + 3)
    )
    write_table(trace, TRACE, adding, provenance=read_provenance(trace))
    output = tmp_path / "effects.parquet"
    run_job(
        "effects",
        {
            "items": study.items, "answers": [answers], "trace": [trace], "effects": output,
            "trace_effects": tmp_path / "traces.parquet",
        },
        seed=0, effects=EffectsConfig(), provenance={"study": "t"},
    )  # fmt: skip
    table, found = read_table(trace, TRACE), read_table(tmp_path / "traces.parquet", TRACE_EFFECTS)
    groups = read_table(study.items, ITEMS).select("item_id", "group")
    assert len(found) == 3 * N_LAYERS
    margins = {
        (kind, layer): frame.sort("item_id")["margin"].to_numpy()
        for (kind, layer), frame in table.partition_by("kind", "layer", as_dict=True).items()
    }
    blank, clean = margins["blank", -1], margins["clean", -1]
    for row in found.iter_rows(named=True):
        own = margins[row["kind"], row["layer"]]
        share = (own - blank).sum() / (clean - blank).sum()
        assert row["share"] == pytest.approx(share, rel=1e-5)
        assert row["n"] == 13
        assert row["n_groups"] == groups["group"].n_unique()
        assert row["low"] <= row["share"] <= row["high"] or np.isnan(row["low"])
    whole = found.filter(kind="patch", layer=N_LAYERS - 1)
    assert whole["share"].item() == pytest.approx(1, abs=1e-4)
    # Leaving one image out at a time: the jackknife's standard error of the ratio.
    row = found.filter(kind="knockout_image", layer=0).row(0, named=True)
    images = groups.sort("item_id")["group"].to_numpy()
    above, below = margins["knockout_image", 0] - blank, clean - blank
    left_out = np.array([
        above[images != one].sum() / below[images != one].sum() for one in np.unique(images)
    ])  # fmt: skip
    n = len(left_out)
    jackknife = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    half = (row["high"] - row["low"]) / 2
    assert half > jackknife  # Student's t at few images
    assert half < 12 * jackknife


def shares_of(study, answers, trace, folder):
    """What the effects stage makes of a traced study."""
    run_job(
        "effects",
        {"items": study.items, "answers": [answers], "trace": [trace],
         "effects": folder / "effects.parquet", "trace_effects": folder / "traces.parquet"},
        seed=0, effects=EffectsConfig(), provenance={"study": "t"},
    )  # fmt: skip
    return read_table(folder / "traces.parquet", TRACE_EFFECTS)


def test_items_without_finite_logits_are_left_out(small_study, tmp_path):
    study = small_study("llava", n_items=7)
    answers = study.extract()["answers"]
    trace = study.trace(answers)
    table = read_table(trace, TRACE)
    broken = table["item_id"][0]
    is_broken = (pl.col("item_id") == broken) & (pl.col("kind") == "patch")
    spoilt = table.with_columns(
        margin=pl.when(is_broken).then(float("nan")).otherwise("margin").cast(pl.Float32)
    )
    write_table(trace, TRACE, spoilt, provenance=read_provenance(trace))
    found = shares_of(study, answers, trace, tmp_path)
    dropped = dict(found.select("kind", "n_dropped").unique().iter_rows())
    assert dropped == {"patch": 1, "knockout_image": 0, "knockout_text": 0}


def test_of_an_image_that_adds_nothing_there_is_no_share(small_study, tmp_path):
    study = small_study("llava", n_items=13, n_images=12)
    answers = study.extract()["answers"]
    trace = study.trace(answers)
    table = read_table(trace, TRACE)
    blank = table.filter(kind="blank").select("item_id", margin_blank="margin")
    same = table.join(blank, on="item_id").with_columns(
        margin=pl.when(pl.col("kind") == "clean").then("margin_blank").otherwise("margin")
    )
    write_table(trace, TRACE, same.drop("margin_blank"), provenance=read_provenance(trace))
    found = shares_of(study, answers, trace, tmp_path)
    assert found["share"].is_nan().all()
    assert set(found["note"]) == {NOTHING_ADDED}
