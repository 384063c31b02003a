"""What is captured is a choice: what is left out is null, costs nothing and is never a number."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import planted_study as planted
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from stage_jobs import run_job

from vrp.config.extract import ExtractConfig
from vrp.config.mask import MaskConfig
from vrp.config.metrics import MetricsConfig
from vrp.errors import InputError
from vrp.running.image_rankings import read_item_maps
from vrp.signals.registry import SIGNALS
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import NOT_CAPTURED
from vrp.tables.estimates import METRICS
from vrp.tables.heads import HEADS
from vrp.tables.hidden import written_hidden_table
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.recipes import RECIPES
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

ALL = tuple(planted.COLUMNS_OF)
CHOICES = [(), ("attention",), ("attention", "heads"), ("lens",), ("contributions",),
           ("residual_update",), ("attention", "lens", "residual_update")]  # fmt: skip
# Signals that need nothing but answers and samples.
ALWAYS = {s.name for s in SIGNALS.values() if s.tables <= {"answers", "consistency"}}
STRUCTURAL = {signal.name for signal in SIGNALS.values() if signal.kind == "structural"}


def names(choice: tuple[str, ...]) -> str:
    return "+".join(choice) or "nothing"


# The extraction


@pytest.mark.parametrize("choice", CHOICES, ids=names)
def test_what_is_left_out_is_null_and_the_rest_is_as_it_was(
    choice: tuple[str, ...], small_study: Callable[..., Any]
):
    study = small_study(n_items=6)
    whole, part = study.extract(name="whole"), study.extract(name="part", capture=choice)
    kept = {name for captured in choice for name in planted.COLUMNS_OF[captured]}
    optional = {name for columns in planted.COLUMNS_OF.values() for name in columns}
    for table, schema in (("attention", ATTENTION), ("lens", LENS)):
        full, found = read_table(whole[table], schema), read_table(part[table], schema)
        absent = [name for name in found.columns if name in optional - kept]
        if table == "lens" and "truth_margin" in absent:
            absent.append("note")  # it speaks of the truth margin alone here
        assert all(found[name].null_count() == len(found) for name in absent)
        assert_frame_equal(found.drop(absent), full.drop(absent))
        assert read_provenance(part[table])["captured"] == ",".join(choice)
    for table in ("answers", "hidden"):
        schema = written_hidden_table(whole["hidden"]) if table == "hidden" else None
        frames = [
            read_table(outputs[table], schema) if schema else pl.read_parquet(outputs[table])
            for outputs in (whole, part)
        ]
        assert_frame_equal(*frames)


class Calls:
    """Counts what a capture would cost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from vrp.vlm import attention_tap, decode, residual

        self.rows = self.margins = self.contributions = self.hooks = 0
        self._count(monkeypatch, attention_tap, "last_query_rows", "rows")
        self._count(monkeypatch, decode, "layer_margins", "margins")
        self._count(monkeypatch, decode, "contributions", "contributions")
        hook = residual._hook_reads

        def hooked(*arguments: Any) -> list[Any]:
            handles = hook(*arguments)
            self.hooks += len(handles)
            return handles

        monkeypatch.setattr(residual, "_hook_reads", hooked)

    def _count(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, field: str) -> None:
        original = getattr(module, name)

        def counted(*arguments: Any, **more: Any) -> Any:
            setattr(self, field, getattr(self, field) + 1)
            return original(*arguments, **more)

        monkeypatch.setattr(module, name, counted)


def test_what_is_not_asked_for_costs_nothing(
    small_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    study = small_study(n_items=4)
    n_layers = 4
    calls = Calls(monkeypatch)
    study.extract(capture=())
    assert (calls.rows, calls.margins, calls.contributions) == (0, 0, 0)
    assert calls.hooks == 1 + n_layers  # the residual stream alone: it is always kept
    study.extract(name="lens", capture=("lens",))
    assert (calls.rows, calls.margins, calls.contributions) == (0, 1, 0)
    study.extract(name="contributions", capture=("contributions",))
    assert (calls.rows, calls.margins, calls.contributions) == (0, 1, 1)
    assert calls.hooks == 3 * (1 + n_layers) + 3 * n_layers
    study.extract(name="attention", capture=("attention",))
    assert calls.rows >= n_layers
    assert (calls.margins, calls.contributions) == (1, 1)


def test_the_tap_collects_only_where_attention_is_asked_for():
    from vrp.stages.extract import capture_spec

    spec = capture_spec(ExtractConfig(capture=("lens", "residual_update")))
    assert (spec.attention, spec.head_rows, spec.contributions) == (False, False, False)
    assert (spec.lens, spec.residual_update, spec.hidden) == (True, True, ("prompt_end",))
    spec = capture_spec(ExtractConfig(capture=("attention",)))
    assert (spec.attention, spec.head_rows, spec.lens) == (True, False, False)


def test_nothing_captured_leaves_no_entropy_anywhere(small_study: Callable[..., Any]):
    """Extraction to metrics on a tiny model: no number that attention would have to give."""
    study = small_study(n_items=24)
    tables = study.extract(capture=())
    consistency = study.consistency(k=3)
    found = run_metrics(study.folder, {**tables, "items": study.items, "consistency": consistency})
    attention = read_table(tables["attention"], ATTENTION)
    for name in ("maps", "image_mass", "head_entropy", "head_clusters", "head_contribution"):
        assert attention[name].null_count() == len(attention) == 24
    assert attention["grid_h"].to_list() == [6] * 24
    for signal in SIGNALS.values():
        expected = 0 if signal.name in ALWAYS else 24
        assert found["signals"][signal.name].null_count() == expected, signal.name
    assert found["heads"].is_empty()
    assert_not_captured(found["metrics"], STRUCTURAL | {"top_heads"})


# Metrics and probes


def run_metrics(folder: Path, tables: Any) -> dict[str, pl.DataFrame]:
    names = ("signals", "heads", "recipes", "metrics")
    outputs = {name: folder / f"out-{name}.parquet" for name in names}
    run_job(
        "metrics",
        {
            "items": tables["items"],
            **{name: [tables[name]] for name in ("answers", "attention", "lens", "consistency")},
            **outputs,
        },
        seed=0,
        metrics=MetricsConfig(bootstrap=100, top_heads=(1, 5)),
        provenance=planted.ORIGIN,
    )
    schemas = {
        "signals": signal_table(), "heads": HEADS, "recipes": RECIPES, "metrics": METRICS,
    }  # fmt: skip
    return {name: read_table(path, schemas[name]) for name, path in outputs.items()}


def assert_not_captured(estimates: pl.DataFrame, predictors: set[str]) -> None:
    rows = estimates.filter(pl.col("predictor").is_in(list(predictors)))
    assert set(rows["predictor"]) == predictors
    assert set(rows["note"]) == {NOT_CAPTURED}
    assert set(rows["n"]) == {0}
    assert (rows["n_dropped"] > 0).all()
    for column in ("value", "low", "high", "p", "p_adjusted", "p_equivalence"):
        assert rows[column].is_nan().all(), column


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("whole")
    return run_metrics(folder, planted.write_planted_study(folder, n_images=40)._asdict())


@pytest.mark.parametrize("choice", CHOICES, ids=names)
def test_signals_that_are_there_are_judged_as_ever_and_the_others_are_not(
    choice: tuple[str, ...], whole: dict[str, pl.DataFrame], tmp_path: Path
):
    study = planted.write_planted_study(tmp_path, n_images=40, capture=choice)
    found = run_metrics(tmp_path, study._asdict())
    there = {
        signal.name for signal in SIGNALS.values() if all(is_there(n, choice) for n in signal.needs)
    }
    absent = {signal.name for signal in SIGNALS.values()} - there
    assert (absent == set()) == (set(choice) == set(ALL))
    assert_not_captured(found["metrics"], absent)
    same = pl.col("predictor").is_in(list(there))
    # Holm's family is smaller where fewer signals are judged.
    of_the_family = ["p_adjusted", "p_equivalence_adjusted", "resolvable"]
    assert_frame_equal(
        found["metrics"].filter(same).drop(of_the_family),
        whole["metrics"].filter(same).drop(of_the_family),
    )
    assert_frame_equal(found["signals"].select(there), whole["signals"].select(there))
    assert all(found["signals"][name].null_count() == 160 for name in absent)


def is_there(need: str, choice: tuple[str, ...]) -> bool:
    """Whether a column that a signal needs is captured under a choice."""
    table, _, column = need.partition(".")
    parts = [part for part, columns in planted.COLUMNS_OF.items() if column in columns]
    return table in ("answers", "consistency") or set(parts) <= set(choice)


def test_heads_are_there_as_far_as_they_were_captured(
    whole: dict[str, pl.DataFrame], tmp_path: Path
):
    def of(name: str, *choice: str) -> dict[str, pl.DataFrame]:
        study = planted.write_planted_study(tmp_path / name, n_images=40, capture=choice)
        return run_metrics(tmp_path / name, study._asdict())

    ranked = of("ranked", "contributions")
    assert_frame_equal(
        ranked["heads"].select("layer", "head", "rank", "contribution"),
        whole["heads"].select("layer", "head", "rank", "contribution"),
    )
    assert ranked["heads"]["r_entropy"].null_count() == len(ranked["heads"]) == 8
    assert_not_captured(ranked["metrics"], {"top_heads"})
    seen = of("seen", "attention", "heads")
    assert_frame_equal(
        seen["heads"].select("r_entropy", "r_clusters"),
        whole["heads"].select("r_entropy", "r_clusters"),
    )
    assert seen["heads"]["rank"].null_count() == seen["heads"]["contribution"].null_count() == 8
    assert_not_captured(seen["metrics"], {"top_heads", "mlp", "attention"})
    assert of("none", "lens")["heads"].is_empty()


def test_probes_use_what_is_there(tmp_path: Path):
    study = planted.write_planted_study(tmp_path, n_images=60, capture=())
    run_metrics(tmp_path, study._asdict())
    table = planted.run_small_probes(study, tmp_path)
    skipped = {"margin_only", "attention_trees", "attention_mlp"}
    assert_not_captured(table, skipped)
    scored = set(read_table(tmp_path / "predictions.parquet", PREDICTIONS)["probe"])
    assert scored.isdisjoint(skipped)
    assert {"linear_best", "fusion", "fusion_with_probe", "sparse"} <= scored
    best = table.filter(predictor="linear_best", metric="auroc", scope="within_strata")
    assert best["value"][0] > 0.9


# Clear stops


def test_masking_without_attention_stops_and_says_what_to_set(small_study: Callable[..., Any]):
    study = small_study(n_items=4)
    tables = study.extract(capture=("lens",))
    with pytest.raises(InputError, match=r"add attention to extract\.capture") as caught:
        study.mask([tables["answers"]], [tables["attention"]])
    assert "\n" not in str(caught.value)
    assert MaskConfig().enabled


def test_shards_of_two_captures_are_refused(small_study: Callable[..., Any], tmp_path: Path):
    study = small_study()
    captures = ((), ("attention",))
    parts = [
        study.extract(shards=2, shard=i, name="mixed", capture=capture)["attention"]
        for i, capture in enumerate(captures)
    ]
    with pytest.raises(InputError, match=r"different extract\.capture; rerun `vrp extract`"):
        read_item_maps(parts, study.read_items()["item_id"].to_list())


def test_a_missing_value_is_not_a_missing_capture(tmp_path: Path):
    """One item's NaN stays one item's: the column counts as captured."""
    study = planted.write_planted_study(tmp_path, n_images=40)
    table = read_table(study.lens, LENS)
    updates = table["residual_update"].to_list()
    updates[5] = [math.inf] * planted.N_LAYERS
    changed = table.with_columns(pl.Series("residual_update", updates, pl.List(pl.Float32)))
    write_table(study.lens, LENS, changed, provenance=planted.ORIGIN)
    found = run_metrics(tmp_path, study._asdict())
    values = found["signals"]["residual_update_late"]
    assert values.null_count() == 0
    assert np.flatnonzero(np.isnan(values.to_numpy())).tolist() == [5]
    row = found["metrics"].filter(
        predictor="residual_update_late", metric="auroc", scope="pooled"
    ).row(0, named=True)  # fmt: skip
    assert (row["n"], row["n_dropped"]) == (159, 1)
    assert row["note"] == "1 of 160 items dropped: no finite value"
