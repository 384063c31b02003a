"""What cannot be measured of an item is a row with its reason or a clear stop, never a number.

Each case goes from the model, or from what it would give, through the tables into the metrics and
the report's sample accounting.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import planted_study as planted
import polars as pl
import pytest
import torch
from hand_made_captures import N_HEADS, N_LAYERS, N_TOKENS, capture, item
from stage_jobs import run_job

from vrp.config.metrics import MetricsConfig
from vrp.config.sample import ScoringConfig
from vrp.errors import InputError
from vrp.estimates.reported import ReportedEstimate
from vrp.findings.evidence import ModelEvidence
from vrp.report.accounting import dropped_table
from vrp.running.attention_rows import attention_rows
from vrp.running.captured_rows import answer_rows, lens_rows
from vrp.signals.registry import SIGNALS
from vrp.stages import extract
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import METRICS
from vrp.tables.hidden import written_hidden_table
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.notes import (
    NO_TOKENS,
    NO_TRUTH_TOKENS,
    NON_FINITE,
    NON_FINITE_INSIDE,
    ONE_IMAGE_TOKEN,
)
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table
from vrp.vlm.decode import ItemCapture

STRUCTURAL = [
    signal.name for signal in SIGNALS.values() if signal.kind == "structural" and signal.deployable
]
BEHAVIOURAL = [signal.name for signal in SIGNALS.values() if signal.kind == "behavioural"]
OF_THE_TOKENS = [
    name
    for name, signal in SIGNALS.items()
    if "answers.token_logprobs" in signal.needs and "blind_scores" not in signal.tables
]
NOT_MADE = {
    name
    for name, signal in SIGNALS.items()
    if "exact" in signal.label or signal.tables & {"blind_scores", "p_true", "boxes"}
}
"""Signals of the exact distribution, a blank image, P(True) and boxes, which these studies do
without."""
OF_THE_LENS = [signal.name for signal in SIGNALS.values() if "lens" in signal.tables]


class Judged:
    """Signals, estimates and the accounting that metrics and report make of some tables."""

    def __init__(self, folder: Path, tables: dict[str, Path]) -> None:
        names = ("signals", "heads", "recipes", "metrics")
        outputs = {name: folder / f"out-{name}.parquet" for name in names}
        run_job(
            "metrics",
            {
                "items": tables["items"],
                **{n: [tables[n]] for n in ("answers", "attention", "lens", "consistency")},
                **outputs,
            },
            seed=0,
            metrics=MetricsConfig(bootstrap=100, top_heads=(1,)),
            provenance=planted.ORIGIN,
        )
        self.signals = read_table(outputs["signals"], signal_table())
        self.metrics = read_table(outputs["metrics"], METRICS)
        self.answers = read_table(tables["answers"], ANSWERS)

    def missing(self, item_id: str) -> set[str]:
        """Signals without a number for an item."""
        row = self.signals.filter(item_id=item_id).row(0, named=True)
        return {
            signal.name
            for signal in SIGNALS.values()
            if row[signal.name] is None or not np.isfinite(row[signal.name])
        }

    def row(self, predictor: str, metric: str = "auroc", scope: str = "pooled") -> dict[str, Any]:
        found = self.metrics.filter(predictor=predictor, metric=metric, scope=scope)
        return found.row(0, named=True)

    def accounting(self) -> list[str]:
        """Rows of the report's table of left-out items, as text."""
        estimates = {
            (
                row["predictor"],
                row["metric"],
                row["scope"],
                row["layer"],
            ): ReportedEstimate.from_row(row)
            for row in self.metrics.iter_rows(named=True)
        }
        model = ModelEvidence(name="m", metrics=estimates, answers=self.answers)
        return [" | ".join(cell.text for cell in row) for row in dropped_table([model]).rows]


def write_consistency(path: Path, item_ids: Sequence[str]) -> Path:
    """Samples that agree, for items whose model cannot be sampled from."""
    n = len(item_ids)
    columns: dict[str, Any] = {
        "item_id": list(item_ids), "answers": [["yes", "no"]] * n,
        "normalised": [["yes", "no"]] * n, "self_consistency": [0.5] * n, "majority": ["yes"] * n,
        "majority_correct": [True] * n, "close_draws": [0] * n,
    }  # fmt: skip
    columns |= {name: [None] * n for name in CONSISTENCY.columns.names if name not in columns}
    write_table(path, CONSISTENCY, columns, provenance=planted.ORIGIN)
    return path


# Hand-made captures among ordinary ones

N_ORDINARY = 40


@pytest.fixture
def judge(tmp_path: Path) -> Callable[[ItemCapture], tuple[Judged, dict[str, Any]]]:
    """One unusual capture, named `odd`, among forty → the verdict, and its attention row."""

    def judged(odd: ItemCapture) -> tuple[Judged, dict[str, Any]]:
        rng = np.random.default_rng(0)
        captures = [_ordinary(f"i{n:02d}", rng) for n in range(N_ORDINARY)] + [odd]
        items = {c.item_id: item(c.item_id, group=f"g{n // 2}") for n, c in enumerate(captures)}
        tables = {name: tmp_path / f"{name}.parquet" for name in ("items", "answers", "attention",
                  "lens")}  # fmt: skip
        frame = pl.DataFrame([dataclasses.asdict(i) for i in items.values()])
        write_table(tables["items"], ITEMS, frame, provenance=planted.ORIGIN)
        for name, schema, rows in (
            ("answers", ANSWERS, answer_rows(captures, items, ScoringConfig())),
            ("attention", ATTENTION, attention_rows(captures)),
            ("lens", LENS, lens_rows(captures, items)),
        ):
            write_table(tables[name], schema, rows, provenance=planted.ORIGIN)
        tables["consistency"] = write_consistency(tmp_path / "c.parquet", list(items))
        row = read_table(tables["attention"], ATTENTION).filter(item_id="odd").row(0, named=True)
        return Judged(tmp_path, tables), row

    return judged


def _ordinary(item_id: str, rng: np.random.Generator) -> ItemCapture:
    rows = rng.random((N_LAYERS, N_HEADS, N_TOKENS)).astype(np.float32) / N_TOKENS
    return capture(
        item_id, answer=str(rng.choice(["yes", "no"])), head_rows=rows, attention=rows.mean(1),
        token_logprobs=-rng.random(1), first_token_entropy=float(rng.random()),
        decision_margin=float(rng.random()), residual_update=rng.random(N_LAYERS),
        lens_decision_margin=rng.random(N_LAYERS), lens_truth_margin=rng.normal(size=N_LAYERS),
        attention_contribution=rng.normal(size=N_LAYERS), mlp_contribution=rng.random(N_LAYERS),
        head_contribution=rng.normal(size=(N_LAYERS, N_HEADS)),
    )  # fmt: skip


def test_an_all_masked_map_has_no_entropy(judge: Any):
    nothing = capture().head_rows
    assert nothing is not None
    found, row = judge(capture("odd", head_rows=0 * nothing, attention=0 * nothing.mean(1)))
    assert row["note"] == "attention: no mass"
    for name in ("maps", "head_entropy", "head_clusters"):
        assert np.isnan(row[name]).all(), name
    assert row["image_mass"] == [0.0] * N_LAYERS  # this much is known
    assert found.missing("odd") >= set(STRUCTURAL) - {"image_mass"}
    assert not found.missing("odd") & set(BEHAVIOURAL + OF_THE_LENS) - NOT_MADE
    entropy = found.row("spatial_entropy")
    assert (entropy["n"], entropy["n_dropped"]) == (N_ORDINARY, 1)
    assert entropy["note"] == "1 of 41 items dropped: attention: no mass"
    heads = found.row("top_heads", "r2_top_1")
    assert (heads["n"], heads["n_dropped"], heads["note"]) == (40, 1, "attention: no mass")
    (line,) = [x for x in found.accounting() if "spatial entropy" in x]
    assert line.endswith("| 1 | 1 of 41 items dropped: attention: no mass")


def test_one_head_without_mass_is_said_of_the_heads(judge: Any):
    whole = capture()
    assert whole.head_rows is not None
    rows = whole.head_rows.copy()
    rows[1, 2] = 0
    found, row = judge(capture("odd", head_rows=rows, attention=rows.mean(1)))
    assert row["note"] == "heads: no mass"
    entropy = np.array(row["head_entropy"])
    assert np.isnan(entropy[1, 2])
    assert np.isfinite(entropy).sum() == N_LAYERS * N_HEADS - 1
    assert not found.missing("odd") & set(STRUCTURAL)  # the mean over heads is a map


def test_infinite_attention_has_no_entropy(judge: Any):
    whole = capture()
    assert whole.head_rows is not None
    rows = whole.head_rows.copy()
    rows[0, 1, 5] = np.inf
    found, row = judge(capture("odd", head_rows=rows, attention=rows.mean(1)))
    assert row["note"] == "attention: non finite"
    assert np.isnan(row["maps"][0]).all()
    assert np.isnan(row["image_mass"][0])
    assert np.isnan(row["head_entropy"][0][1])
    assert found.missing("odd") >= set(STRUCTURAL) - {"entropy_last_layer"}
    assert found.row("spatial_entropy")["note"] == "1 of 41 items dropped: attention: non finite"


def test_an_item_without_finite_logits_has_no_signal_at_all(judge: Any):
    nan = np.full
    odd = capture(
        "odd", answer="", token_ids=(), token_logprobs=np.zeros(0),
        flags=("no_answer_tokens", "non_finite"), first_token_entropy=float("nan"),
        decision_margin=float("nan"), attention=nan((N_LAYERS, N_TOKENS), np.nan),
        head_rows=nan((N_LAYERS, N_HEADS, N_TOKENS), np.nan),
        lens_decision_margin=nan(N_LAYERS, np.nan), lens_truth_margin=nan(N_LAYERS, np.nan),
        residual_update=nan(N_LAYERS, np.inf), contribution_embed=float("nan"),
        attention_contribution=nan(N_LAYERS, np.nan), mlp_contribution=nan(N_LAYERS, np.nan),
        head_contribution=nan((N_LAYERS, N_HEADS), np.nan),
    )  # fmt: skip
    found, row = judge(odd)
    assert row["note"] == NON_FINITE
    # Not even the samples count: the greedy answer that they would speak of does not exist.
    assert found.missing("odd") == {signal.name for signal in SIGNALS.values()}
    for name in (*STRUCTURAL, "self_consistency", "logit_entropy", "decision_margin"):
        assert found.row(name)["n_dropped"] == 1, name
        assert found.row(name)["note"].startswith(f"1 of 41 items dropped: {NON_FINITE}"), name
    assert found.row("mlp", "growth_share")["n"] == N_ORDINARY
    assert found.row("mlp", "growth_share")["note"] == NON_FINITE
    accounting = found.accounting()
    assert f"m | answers | 1 | {NON_FINITE} (answer kept and scored)" in accounting
    assert any("self-consistency S_SC" in line and NON_FINITE in line for line in accounting)


def test_infinite_values_of_one_layer_are_missing_and_said(judge: Any):
    """The answer stands, its logits are finite; what one layer gave beside it is not a number."""
    inside = np.array([np.inf, 1.0])
    odd = capture(
        "odd", flags=("non_finite_inside",), residual_update=np.array([1.0, np.inf]),
        lens_decision_margin=np.array([np.nan, 2.0]), mlp_contribution=inside,
    )  # fmt: skip
    found, row = judge(odd)
    assert found.answers.filter(item_id="odd")["note"].to_list() == [NON_FINITE_INSIDE]
    assert row["note"] == NON_FINITE_INSIDE
    assert found.missing("odd") - NOT_MADE == {
        "residual_update_late", "decision_margin_peak", "margin_growth", "mlp_contribution_sum",
    }  # fmt: skip
    note = f"1 of 41 items dropped: {NON_FINITE_INSIDE}"
    assert found.row("residual_update_late")["note"] == note
    assert found.row("residual_update", "late")["n"] == N_ORDINARY


def test_an_image_of_one_token_has_no_share_of_its_largest_entropy(judge: Any):
    one = np.full((N_LAYERS, N_HEADS, 1), 0.3, dtype=np.float32)
    odd = capture("odd", grid_h=1, grid_w=1, head_rows=one, attention=one.mean(1))
    found, row = judge(odd)
    assert row["note"] == ONE_IMAGE_TOKEN
    assert row["head_entropy"] == [[0.0] * N_HEADS] * N_LAYERS
    assert found.signals.filter(item_id="odd")["spatial_entropy"].to_list() == [0.0]
    missing = found.missing("odd") - NOT_MADE
    assert missing == {"relative_spatial_entropy"}
    relative = found.row("relative_spatial_entropy")
    assert (relative["n"], relative["n_dropped"]) == (N_ORDINARY, 1)
    assert relative["note"] == f"1 of 41 items dropped: {ONE_IMAGE_TOKEN}"
    assert found.row("top_heads", "r2_top_1")["note"] is None
    assert any(ONE_IMAGE_TOKEN in line for line in found.accounting())


def test_a_reference_that_no_first_token_tells_has_no_truth_margin(judge: Any):
    flags = ("no_truth_tokens",)
    odd = capture("odd", flags=flags, lens_truth_margin=np.full(N_LAYERS, np.nan))
    found, _ = judge(odd)
    assert found.answers.filter(item_id="odd")["note"].to_list() == [None]
    missing = found.missing("odd") - NOT_MADE
    assert missing == {"truth_margin_last", "truth_margin_peak"}
    margin = found.row("truth_margin_last")
    assert margin["note"] == f"1 of 41 items dropped: {NO_TRUTH_TOKENS}"
    peak = found.row("truth_margin", "peak")
    assert (peak["n"], peak["n_dropped"], peak["note"]) == (N_ORDINARY, 1, NO_TRUTH_TOKENS)
    assert any("truth margin" in line and NO_TRUTH_TOKENS in line for line in found.accounting())


def test_a_study_of_nothing_but_broken_items_has_no_numbers(tmp_path: Path):
    """Every item's activations are broken: rows without values, no crash and no chance level."""
    study = planted.write_planted_study(tmp_path, n_images=20)
    answers = read_table(study.answers, ANSWERS).with_columns(note=pl.lit(NON_FINITE))
    write_table(study.answers, ANSWERS, answers, provenance=planted.ORIGIN)
    attention = read_table(study.attention, ATTENTION)
    broken = [[[float("nan")] * planted.N_HEADS] * planted.N_LAYERS] * len(attention)
    inner = attention.schema["head_contribution"]
    attention = attention.with_columns(pl.Series("head_contribution", broken, inner))
    write_table(study.attention, ATTENTION, attention, provenance=planted.ORIGIN)
    found = Judged(tmp_path, study._asdict())
    for signal in SIGNALS.values():
        assert np.isnan(found.signals[signal.name].to_numpy()).all()
        assert np.isnan(found.row(signal.name)["value"])
    assert "finite contributions" in found.row("top_heads", "r2_top_1")["note"]


# From a model

Study = Callable[..., Any]
Edited = Callable[..., Path]


def judged_study(study: Any) -> Judged:
    tables = study.extract()
    ids = study.read_items()["item_id"].to_list()
    consistency = write_consistency(study.folder / "consistency.parquet", ids)
    return Judged(study.folder, {**tables, "items": study.items, "consistency": consistency})


@pytest.mark.slow
def test_broken_activations_reach_no_signal(
    small_study: Study, edited_checkpoint: Edited, monkeypatch: pytest.MonkeyPatch
):
    # Loading refuses such weights; they stand in for activations that overflow.
    monkeypatch.setattr("vrp.vlm.loading.check_finite", lambda *model, **where: None)

    def broken(model: Any, tokenizer: Any) -> None:
        red = tokenizer.convert_tokens_to_ids("Ġred")
        model.model.language_model.embed_tokens.weight[red, 0] = float("nan")

    study = small_study(checkpoint=edited_checkpoint("llava", broken), n_items=20)
    found = judged_study(study)
    red = study.read_items().filter(pl.col("question").str.contains("red"))["item_id"].to_list()
    assert 0 < len(red) < 20
    for item_id in red:
        assert found.missing(item_id) == {signal.name for signal in SIGNALS.values()}
    # "cat" is spelt in bytes here, and behind `ASSISTANT:` the first of them is the space.
    untold = study.read_items().filter(reference="cat")["item_id"].to_list()
    for item_id in set(found.signals["item_id"]) - set(red):
        of_truth = {"truth_margin_last", "truth_margin_peak"} if item_id in untold else set()
        assert found.missing(item_id) - NOT_MADE == of_truth
    row = found.row("spatial_entropy")
    assert (row["n"], row["n_dropped"]) == (20 - len(red), len(red))
    assert row["note"].startswith(f"{len(red)} of 20 items dropped: {NON_FINITE}")
    (line,) = [x for x in found.accounting() if "spatial entropy" in x]
    assert NON_FINITE in line
    assert f"| {len(red)} |" in line


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_a_truth_margin_that_no_token_tells_is_missing_with_its_reason(
    small_study: Study, family: str
):
    """Spelt in bytes, cat begins with a space behind `ASSISTANT:`, behind a line break with c."""
    study = small_study(family, n_items=10)
    found = judged_study(study)
    lens = read_table(study.path("extract/lens", 0), LENS)
    untold = study.read_items().filter(reference="cat")["item_id"].to_list()
    untold = untold if family == "llava" else []
    for row in lens.iter_rows(named=True):
        told = row["item_id"] not in untold
        assert np.isfinite(row["truth_margin"]).all() == told
        assert np.isfinite(row["decision_margin"]).all()
        assert row["note"] == (None if told else NO_TRUTH_TOKENS)
    assert set(found.answers["note"]) == {None}
    peak = found.row("truth_margin", "peak")
    assert (peak["n"], peak["n_dropped"]) == (10 - len(untold), len(untold))
    assert peak["note"] == (NO_TRUTH_TOKENS if untold else None)


@pytest.mark.slow
def test_infinite_attention_scores_reach_no_signal(small_study: Study, edited_checkpoint: Edited):
    def overflowing(model: Any, tokenizer: Any) -> None:
        attention = model.model.language_model.layers[2].self_attn
        attention.q_proj.weight.mul_(1e20)
        attention.k_proj.weight.mul_(1e20)

    study = small_study(checkpoint=edited_checkpoint("llava", overflowing), n_items=6)
    found = judged_study(study)
    assert set(found.answers["note"]) == {NON_FINITE}
    for item_id in found.signals["item_id"]:
        assert found.missing(item_id) == {signal.name for signal in SIGNALS.values()}


@pytest.mark.slow
def test_an_answer_without_tokens_reaches_no_attention_signal(
    small_study: Study, edited_checkpoint: Edited
):
    def often_ends(model: Any, tokenizer: Any) -> None:
        model.lm_head.weight[tokenizer.eos_token_id].mul_(5)

    study = small_study(checkpoint=edited_checkpoint("llava", often_ends), n_items=20)
    found = judged_study(study)
    silent = found.answers.filter(note=NO_TOKENS)["item_id"].to_list()
    assert 0 < len(silent) < 20
    for item_id in silent:
        missing = found.missing(item_id) - NOT_MADE
        assert missing == {*STRUCTURAL, *OF_THE_TOKENS}
    row = found.row("spatial_entropy")
    assert row["note"].startswith(f"{len(silent)} of 20 items dropped: {NO_TOKENS}")
    assert row["n_dropped"] == len(silent)


@pytest.mark.slow
def test_image_tokens_that_turn_infinite_in_the_last_layer_are_seen(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
):
    """No later layer attends to them: the logits stay finite, the residual update does not."""
    load = extract.load_model

    def with_overflow(*arguments: Any) -> Any:
        vlm = load(*arguments)

        def overflow(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            output[:, :-1] = float("inf")
            return output

        vlm.layers[-1].register_forward_hook(overflow)
        return vlm

    monkeypatch.setattr(extract, "load_model", with_overflow)
    study = small_study(n_items=6)
    found = judged_study(study)
    assert set(found.answers["note"]) == {NON_FINITE_INSIDE}
    assert np.isnan(found.signals["residual_update_late"].to_numpy()).all()
    assert np.isfinite(found.signals["spatial_entropy"].to_numpy()).all()
    assert np.isnan(found.row("residual_update_late")["value"])
    assert found.row("residual_update_late")["note"].startswith("6 of 6 items dropped")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["extract", "blind", "consistency"])
def test_a_prompt_longer_than_the_context_stops_before_anything_runs(
    stage: str, small_study: Study, monkeypatch: pytest.MonkeyPatch
):
    from vrp.vlm import answer_distribution, decode

    study = small_study(n_items=5)
    frame = study.read_items()
    long = " ".join(["Is there a red car?"] * 200)
    changed = frame.with_columns(
        question=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(long)).otherwise("question")
    )
    write_table(study.items, ITEMS, changed, provenance={})
    ran = []
    monkeypatch.setattr(decode, "run_batch", lambda *a, **k: ran.append(a))
    monkeypatch.setattr(answer_distribution, "sample_answers", lambda *a, **k: ran.append(a))
    with pytest.raises(InputError) as caught:
        getattr(study, stage)(batch_size=1)
    message = str(caught.value)
    assert frame["item_id"][3] in message
    assert "exceed the model's context of 512" in message
    assert "\n" not in message
    assert not ran
    assert not (study.folder / stage).exists() or not list((study.folder / stage).rglob("*.parq*"))


# Probes


@pytest.mark.slow
def test_probes_leave_out_items_whose_states_are_not_finite_in_a_middle_layer(tmp_path: Path):
    study = planted.write_planted_study(tmp_path, n_images=60)
    schema = written_hidden_table(study.hidden)
    states = read_table(study.hidden, schema)
    middle = states["layer_01"].to_numpy().copy()
    middle[7, 3] = np.inf
    states = states.with_columns(pl.Series("layer_01", middle, states.schema["layer_01"]))
    write_table(study.hidden, schema, states, provenance=planted.ORIGIN)
    attention = read_table(study.attention, ATTENTION)
    maps = np.array(attention["maps"].to_list())
    maps[11] = np.nan
    notes = [NO_TOKENS if row == 11 else None for row in range(len(attention))]
    attention = attention.with_columns(
        pl.Series("maps", maps.tolist(), attention.schema["maps"]), pl.Series("note", notes)
    )
    write_table(study.attention, ATTENTION, attention, provenance=planted.ORIGIN)
    Judged(tmp_path, study._asdict())
    table = planted.run_small_probes(study, tmp_path)

    def pooled(predictor: str) -> dict[str, Any]:
        found = table.filter(predictor=predictor, metric="auroc", scope="pooled", layer=-1)
        return found.row(0, named=True)

    best = pooled("linear_best")
    assert (best["n"], best["n_dropped"]) == (239, 1)
    assert best["note"] == "1 of 240 items dropped: non-finite hidden states or margins"
    # No stress test scores an item whose map does not exist.
    for name in ("attention_trees", "attention_mlp"):
        found = pooled(name)
        assert (found["n"], found["n_dropped"]) == (238, 2)
        assert NO_TOKENS in found["note"]
    scores = read_table(tmp_path / "predictions.parquet", PREDICTIONS)
    ids = read_table(study.items, ITEMS)["item_id"]
    assert scores.filter(item_id=ids[7]).is_empty()
    of_eleven = scores.filter(item_id=ids[11], probe="attention_mlp")["score"]
    assert np.isnan(of_eleven.to_numpy()).all()
