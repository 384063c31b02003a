"""Every signal of every item, and how well each tells right answers from wrong ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.metrics import MetricsConfig
from vrp.errors import InputError
from vrp.signals.heads import rank_heads, top_head_r2
from vrp.signals.mechanistic import contribution_shares, late_forcing, layer_peak
from vrp.signals.registry import SIGNALS, SignalInputs, compute_signals
from vrp.stages.reliability import (
    JudgedItems,
    Row,
    adjusted,
    estimate_row,
    plain_row,
    reliability_rows,
    share_rows,
)
from vrp.stats.correlation import point_biserial
from vrp.stats.proportion import wilson
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import METRICS
from vrp.tables.files import read_provenance, read_table, write_table
from vrp.tables.heads import HEADS
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.signals import SIGNAL_TABLE

_HEAD_COLUMNS = ("head_entropy", "head_clusters", "head_contribution")


def run(
    *,
    seed: int,
    metrics: MetricsConfig,
    items: Path,
    answers: Sequence[Path],
    attention: Sequence[Path],
    lens: Sequence[Path],
    consistency: Sequence[Path],
    signals: Path,
    heads: Path,
    output: Path,
    provenance: Mapping[str, str],
) -> None:
    """Compute the signals of one model and judge them.

    Args:
        seed: the study's seed (bootstrap).
        metrics: the `metrics` section.
        items: `items.parquet`.
        answers: all shards, as are `attention`, `lens` and `consistency`.
        signals: one row an item, to write.
        heads: one row a head, to write.
        output: estimates, to write.
        provenance: written into the tables.

    Raises:
        InputError: a table is missing, or the shards do not hold the study's items.
    """
    joined = _join(items, answers, lens, consistency)
    looked = read_table(attention, ATTENTION)
    _require_same_items(joined, looked, attention)
    columns = compute_signals(_signal_inputs(joined, looked, metrics))
    table = _signal_table(joined, columns)
    judged = JudgedItems.from_frame(
        table,
        seed=seed,
        n_boot=metrics.bootstrap,
        r_margin=metrics.r_margin,
        auroc_margin=metrics.auroc_margin,
    )
    by_head = {name: _stack(looked[name]) for name in _HEAD_COLUMNS}
    rows = _answer_rows(joined, judged)
    for signal in SIGNALS:
        rows += reliability_rows(
            signal.name,
            columns[signal.name],
            judged,
            higher_is_reliable=signal.reliable_when != "low",
        )
    rows += _consistency_rows(joined, judged)
    rows += _head_rows(by_head, judged, metrics.top_heads)
    rows += _layer_rows(joined)
    provenance = {**provenance, "revision": read_provenance(answers[0]).get("revision", "")}
    write_table(heads, HEADS, _head_table(by_head, judged.correct), provenance=provenance)
    write_table(signals, SIGNAL_TABLE, table, provenance=provenance)
    write_table(output, METRICS, adjusted(rows), provenance=provenance)


def _join(
    items: Path, answers: Sequence[Path], lens: Sequence[Path], consistency: Sequence[Path]
) -> pl.DataFrame:
    """One row an item, in the order of item_id, with the columns of four tables."""
    frame = read_table(items, ITEMS, columns=["group", "task"])
    for paths, schema in ((answers, ANSWERS), (lens, LENS), (consistency, CONSISTENCY)):
        table = read_table(paths, schema)
        _require_same_items(frame, table, paths)
        frame = frame.join(table, on="item_id", how="inner", suffix=f"_{schema.name}")
    return frame.sort("item_id")


def _require_same_items(frame: pl.DataFrame, table: pl.DataFrame, paths: Sequence[Path]) -> None:
    missing = frame.join(table, on="item_id", how="anti")["item_id"]
    strange = table.join(frame, on="item_id", how="anti")["item_id"]
    if len(missing) or len(strange):
        which, name = ("lacks", missing[0]) if len(missing) else ("has a foreign", strange[0])
        raise InputError(
            f"{paths[0].parent}: {which} item {name!r} "
            f"({len(missing)} missing, {len(strange)} foreign); rerun the stage that makes it"
        )


def _stack(column: pl.Series) -> NDArray[np.float64]:
    """A list column whose rows have one shape, as an array (n_items, …)."""
    return np.array(column.to_list(), dtype=np.float64)


def _signal_inputs(
    joined: pl.DataFrame, looked: pl.DataFrame, metrics: MetricsConfig
) -> SignalInputs:
    n_layers = len(joined["decision_margin_lens"][0])
    layers = metrics.layers
    if layers is not None and not all(0 <= layer < n_layers for layer in layers):
        raise InputError(f"metrics.layers: the model has layers 0 to {n_layers - 1}")
    return SignalInputs(
        n_items=len(joined),
        grid_h=looked["grid_h"].to_numpy(),
        grid_w=looked["grid_w"].to_numpy(),
        attention_maps=[np.array(maps, dtype=np.float64) for maps in looked["maps"].to_list()],
        image_mass=_stack(looked["image_mass"]),
        residual_update=_stack(joined["residual_update"]),
        truth_margin=_stack(joined["truth_margin"]),
        decision_margin=_stack(joined["decision_margin_lens"]),
        attention_contribution=_stack(joined["attention_contribution"]),
        mlp_contribution=_stack(joined["mlp_contribution"]),
        token_logprobs=joined["token_logprobs"].to_list(),
        first_token_entropy=joined["first_token_entropy"].to_numpy(),
        self_consistency=joined["self_consistency"].to_numpy(),
        map_layers=layers,
    )


def _signal_table(joined: pl.DataFrame, columns: Mapping[str, NDArray[np.float64]]) -> pl.DataFrame:
    frame = joined.select(
        "item_id", "group", "task", pl.col("parsed").fill_null("").alias("answer"), "correct"
    )
    # Single precision is what the table holds; a double that overflows it would turn infinite.
    return frame.with_columns(
        pl.Series(name, values.astype(np.float32)) for name, values in columns.items()
    )


def _answer_rows(joined: pl.DataFrame, judged: JudgedItems) -> list[Row]:
    """Accuracy and what can distort it: parse rate and yes-rate, by task and by answer."""
    rows = share_rows("model", "accuracy", judged.correct, judged)
    parsed = joined["parsed"].is_not_null().to_numpy()
    rows += share_rows("model", "parse_rate", parsed, judged)
    existence = judged.tasks == "existence"
    if not existence.any():
        return rows
    yes = existence & (judged.answers == "yes")
    official = joined["correct_official"].fill_null(False).to_numpy()
    for metric, hits in (("yes_rate", yes), ("accuracy_official", official)):
        rows += [r for r in share_rows("model", metric, hits, judged) if r["scope"] == "existence"]
    return rows


def _consistency_rows(joined: pl.DataFrame, judged: JudgedItems) -> list[Row]:
    """Precision where all K answers agree, and the majority answer's own accuracy."""
    unanimous = joined["self_consistency"].to_numpy() >= 1.0
    scopes = {**judged.scopes(), "pooled": np.ones(len(unanimous), dtype=bool)}
    rows = []
    for scope, chosen in scopes.items():
        kept = unanimous & chosen
        n_groups = len(np.unique(judged.groups[kept]))
        if kept.any():
            hits = int(judged.correct[kept].sum())
            precision = wilson(hits, int(kept.sum()), n_groups=n_groups)
            rows.append(estimate_row("self_consistency", scope, "precision_unanimous", precision))
        coverage = plain_row(
            "self_consistency", scope, "coverage_unanimous",
            float(kept.sum() / chosen.sum()), n=int(chosen.sum()), n_groups=n_groups,
        )  # fmt: skip
        rows.append(coverage)
    majority = joined["majority_correct"].to_numpy()
    return rows + share_rows("majority_answer", "accuracy", majority, judged)


def _head_rows(
    by_head: Mapping[str, NDArray[np.float64]], judged: JudgedItems, ks: Sequence[int]
) -> list[Row]:
    """R² of correctness on H_s and C_k of the heads that add most to the answer's logit."""
    ranking = rank_heads(by_head["head_contribution"])
    n_items, n_heads_total = len(judged.correct), len(ranking.order)
    features = np.stack(
        [by_head[name].reshape(n_items, n_heads_total) for name in _HEAD_COLUMNS[:2]], axis=2
    )
    fitting = [k for k in ks if k <= n_heads_total]
    fit = top_head_r2(features, judged.correct, ranking.order, fitting)
    rows = []
    for k, r2, adjusted_r2 in zip(fit.k, fit.r2, fit.adjusted_r2, strict=True):
        dropped = n_items - fit.n_items
        for metric, value in ((f"r2_top_{k}", r2), (f"adjusted_r2_top_{k}", adjusted_r2)):
            row = plain_row(
                "top_heads", "pooled", metric, float(value), n=fit.n_items, n_dropped=dropped
            )
            rows.append(row)
    return rows


def _head_table(
    by_head: Mapping[str, NDArray[np.float64]], correct: NDArray[np.bool_]
) -> dict[str, object]:
    ranking = rank_heads(by_head["head_contribution"])
    _, n_layers, n_heads = by_head["head_contribution"].shape
    rank = np.empty(n_layers * n_heads, dtype=np.int32)
    rank[ranking.order] = np.arange(n_layers * n_heads)
    layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
    table: dict[str, object] = {
        "layer": layer,
        "head": head,
        "rank": rank,
        "contribution": ranking.mean_contribution.ravel(),
    }
    for name in ("entropy", "clusters"):
        values = by_head[f"head_{name}"].reshape(len(correct), -1).T
        table[f"r_{name}"] = [point_biserial(head_values, correct).value for head_values in values]
    return table


def _layer_rows(joined: pl.DataFrame) -> list[Row]:
    """Where the answer forms: contribution shares, the mean truth margin's peak, late forcing."""
    shares = contribution_shares(
        _stack(joined["attention_contribution"]), _stack(joined["mlp_contribution"])
    )
    n_items = len(joined)
    dropped = n_items - shares.n_items
    rows = [
        plain_row("mlp", "pooled", "growth_share", shares.mlp, n=shares.n_items, n_dropped=dropped),
        plain_row(
            "attention", "pooled", "growth_share", shares.attention,
            n=shares.n_items, n_dropped=dropped,
        ),
    ]  # fmt: skip
    margins = _stack(joined["truth_margin"])
    complete = np.isfinite(margins).all(axis=1)
    if complete.any():
        mean = margins[complete].mean(axis=0)
        peak = layer_peak(mean[None])
        rows.append(
            plain_row(
                "truth_margin", "pooled", "peak", float(peak.value[0]),
                n=int(complete.sum()), n_dropped=int((~complete).sum()), layer=int(peak.layer[0]),
            )
        )  # fmt: skip
    updates = _stack(joined["residual_update"])
    forcing = late_forcing(updates)
    known = np.isfinite(forcing.late)
    if known.any():
        late, n = float(forcing.late[known].mean()), int(known.sum())
        rows.append(
            plain_row("residual_update", "pooled", "late", late, n=n, n_dropped=n_items - n)
        )
    return rows
