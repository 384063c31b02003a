"""Every signal of every item, and how well each tells right answers from wrong ones."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from vrp.config.margins import Margins
from vrp.config.metrics import MetricsConfig
from vrp.errors import InputError
from vrp.estimates.reliability import (
    EvaluationItems,
    Row,
    adjusted,
    estimate_row,
    missing_row,
    not_captured_rows,
    plain_row,
    reliability_rows,
    share_rows,
    with_reasons,
)
from vrp.signals.heads import HeadRanking, rank_heads, top_head_r2
from vrp.signals.mechanistic import contribution_shares, late_forcing, layer_peak
from vrp.signals.registry import INPUT_TABLES, SIGNALS, Signal, SignalInputs, compute_signals
from vrp.stats.correlation import point_biserial
from vrp.stats.proportion import wilson
from vrp.tables.answers import ANSWERS
from vrp.tables.arrays import as_array, as_matrices
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import captured, is_captured
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import METRICS
from vrp.tables.files import read_batches, read_provenance, read_table, write_table
from vrp.tables.heads import HEADS
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.notes import NON_FINITE
from vrp.tables.signals import SIGNAL_TABLE

_HEAD_SIGNALS = ("head_entropy", "head_clusters")
_HEAD_COLUMNS = (*_HEAD_SIGNALS, "head_contribution")
_NO_VALUE = "no finite value"
# Items whose attention is in memory at a time: a multiple of the signals' own stacks.
_ITEMS_AT_ONCE = 4096
# The columns that are read of each table but attention.
_USED = {
    "answers": (
        "parsed", "correct", "correct_official", "token_logprobs", "first_token_entropy", "note",
    ),
    "lens": (
        "truth_margin", "decision_margin", "attention_contribution", "mlp_contribution",
        "residual_update",
    ),
    "consistency": (
        "self_consistency", "majority_correct", "expected_consistency_low",
        "expected_consistency_high",
    ),
}  # fmt: skip
# Columns of the attention table that have another name among the signals' inputs.
_FIELDS = {"maps": "attention_maps"}
ByHead = Mapping[str, NDArray[np.float32] | None]
"""`head_…` column → (n_items, n_layers, n_heads); None where it was not captured."""


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

    A signal whose inputs were not captured has a null column, and rows that say so in place of
    numbers. An item without finite logits has no signal at all.

    Raises:
        InputError: a table is missing, or the shards do not hold the study's items.
    """
    joined = _join(items, answers, lens, consistency)
    looked = read_table(attention, ATTENTION, columns=["note"])
    _require_same_items(joined, looked, attention)
    computed = _compute(joined, attention, metrics.layers)
    columns, by_head = computed.signals, computed.by_head
    table = _signal_table(joined, columns)
    judged = EvaluationItems.from_frame(
        table,
        seed=seed,
        n_boot=metrics.bootstrap,
        margins=Margins(auroc=metrics.auroc_margin, r=metrics.r_margin),
    )
    lens_notes = read_table(lens, LENS, columns=["note"])["note"]
    notes = {
        "answers": _texts(joined["note"]),
        "attention": _texts(looked["note"]),
        "lens": _texts(lens_notes.fill_null(joined["note"])),
    }
    rows = _answer_rows(joined, judged)
    for signal in SIGNALS:
        rows += _signal_rows(signal, columns[signal.name], judged, notes)
    rows += _consistency_rows(joined, columns["self_consistency"], judged)
    of_heads = notes["attention"][_without_heads(by_head, len(joined))]
    rows += with_reasons(_head_rows(by_head, judged, metrics.top_heads), of_heads)
    rows += with_reasons([*_share_rows(joined), *_forcing_rows(joined)], notes["answers"])
    rows += _peak_rows(joined, notes["lens"])
    provenance = {**provenance, "revision": read_provenance(answers[0]).get("revision", "")}
    write_table(heads, HEADS, _head_table(by_head, judged.correct), provenance=provenance)
    write_table(signals, SIGNAL_TABLE, table, provenance=provenance)
    write_table(output, METRICS, adjusted(rows), provenance=provenance)


def _join(
    items: Path, answers: Sequence[Path], lens: Sequence[Path], consistency: Sequence[Path]
) -> pl.DataFrame:
    """One row an item, in the order of item_id, with the columns of four tables that are used."""
    frame = read_table(items, ITEMS, columns=["group", "task"])
    for paths, schema in ((answers, ANSWERS), (lens, LENS), (consistency, CONSISTENCY)):
        table = read_table(paths, schema, columns=_USED[schema.name])
        _require_same_items(frame, table, paths)
        # Both hold the same items, in the order of their ids.
        frame = frame.hstack(table.drop("item_id"))
    return frame


def _require_same_items(frame: pl.DataFrame, table: pl.DataFrame, paths: Sequence[Path]) -> None:
    missing = frame.join(table, on="item_id", how="anti")["item_id"]
    strange = table.join(frame, on="item_id", how="anti")["item_id"]
    if len(missing) or len(strange):
        which, name = ("lacks", missing[0]) if len(missing) else ("contains unknown", strange[0])
        raise InputError(
            f"{paths[0].parent}: {which} item {name!r} "
            f"({len(missing)} missing, {len(strange)} unknown); rerun the stage that makes it"
        )


class _Computed(NamedTuple):
    """What is computed item by item, rows in the order of item_id."""

    signals: dict[str, NDArray[np.float64] | None]
    """Signal → (n_items,) values, NaN where missing; None where not captured."""
    by_head: dict[str, NDArray[np.float32] | None]
    """`head_…` column → (n_items, n_layers, n_heads); None where not captured."""


def _compute(
    joined: pl.DataFrame, attention: Sequence[Path], layers: tuple[int, ...] | None
) -> _Computed:
    """Compute all signals, with the attention of a few thousand items in memory at a time."""
    n_items = len(joined)
    per_item = _per_item(joined)
    signals = {signal.name: np.full(n_items, np.nan) for signal in SIGNALS}
    heads: dict[str, NDArray[np.float32]] = {}
    n_null: Counter[str] = Counter()
    progress = tqdm(total=n_items, unit="item", desc="signals", mininterval=1)
    for batch in read_batches(attention, ATTENTION, n_rows=_ITEMS_AT_ONCE):
        rows = joined["item_id"].search_sorted(batch["item_id"]).to_numpy()
        inputs = _signal_inputs(batch, rows, per_item, layers)
        absent = [name for name in INPUT_TABLES if getattr(inputs, name) is None]
        for name, values in compute_signals(inputs, allow_missing=absent).items():
            signals[name][rows] = values
        for name in _HEAD_COLUMNS:
            if batch[name].null_count() < len(batch):
                its = as_array(batch[name])
                heads.setdefault(name, np.empty((n_items, *its.shape[1:]), np.float32))
                heads[name][rows] = its
        n_null.update({name: batch[name].null_count() for name in batch.columns})
        progress.update(len(batch))
    progress.close()
    # A field of the attention table may have another name among the signals' inputs.
    lacking = {name for name, its in per_item.items() if its is None} | {
        _FIELDS.get(name, name)
        for name in (*_FIELDS, *_HEAD_COLUMNS, "image_mass")
        if not captured(name, n_null[name], n_items)
    }
    # Without finite logits there is no answer that a value could speak of.
    broken = (joined["note"] == NON_FINITE).fill_null(False).to_numpy()
    return _Computed(
        {
            signal.name: None
            if lacking & set(signal.needs)
            else np.where(broken, np.nan, signals[signal.name])
            for signal in SIGNALS
        },
        {name: None if name in lacking else heads.get(name) for name in _HEAD_COLUMNS},
    )


def _per_item(joined: pl.DataFrame) -> dict[str, NDArray[Any] | pl.Series | None]:
    """Inputs of the signals that are in memory for all items; None where not captured."""
    lists = {name: joined[name] for name in _USED["lens"]}
    return {
        **{name: as_array(its) if is_captured(its) else None for name, its in lists.items()},
        "token_logprobs": joined["token_logprobs"],
        "first_token_entropy": joined["first_token_entropy"].to_numpy(),
        "self_consistency": joined["self_consistency"].to_numpy(),
        "expected_self_consistency": _expected_consistency(joined),
    }


def _signal_inputs(
    batch: pl.DataFrame,
    rows: NDArray[np.integer],
    per_item: Mapping[str, NDArray[Any] | pl.Series | None],
    layers: tuple[int, ...] | None,
) -> SignalInputs:
    """Inputs of the items of one piece of the attention table, which are these rows of the rest."""
    maps = list(as_matrices(batch["maps"])) if is_captured(batch["maps"]) else None
    if maps and layers is not None and not all(0 <= layer < len(maps[0]) for layer in layers):
        raise InputError(f"metrics.layers: the model has layers 0 to {len(maps[0]) - 1}")
    fields: dict[str, Any] = {
        name: None
        if its is None
        else its[rows].to_list()
        if isinstance(its, pl.Series)
        else its[rows]
        for name, its in per_item.items()
    }
    return SignalInputs(
        n_items=len(batch),
        grid_h=batch["grid_h"].to_numpy(),
        grid_w=batch["grid_w"].to_numpy(),
        attention_maps=maps,
        image_mass=as_array(batch["image_mass"]) if is_captured(batch["image_mass"]) else None,
        map_layers=layers,
        **fields,
    )


def _expected_consistency(joined: pl.DataFrame) -> NDArray[np.float64] | None:
    """(n,) middle of the bounds of the expected S_SC; NaN where no distribution was followed.

    None where that was not asked for.
    """
    bounds = joined["expected_consistency_low"], joined["expected_consistency_high"]
    if all(bound.null_count() == len(joined) for bound in bounds):
        return None
    low, high = (bound.cast(pl.Float64).to_numpy() for bound in bounds)
    return (low + high) / 2


def _signal_rows(
    signal: Signal,
    values: NDArray[np.float64] | None,
    judged: EvaluationItems,
    notes: Mapping[str, NDArray[np.str_]],
) -> list[Row]:
    """How well a signal tells right from wrong; why items, or all of it, are missing.

    The reasons are those that the table has which the signal is computed from.
    """
    if values is None:
        return not_captured_rows(signal.name, judged)
    rows = reliability_rows(
        signal.name, values, judged, higher_is_reliable=signal.reliable_when != "low"
    )
    read = {INPUT_TABLES[name] for name in signal.needs}
    table = next((name for name in ("attention", "lens") if name in read), "answers")
    missing = notes[table][np.isnan(values)]
    return with_reasons(rows, np.where(missing == "", _NO_VALUE, missing))


def _texts(column: pl.Series) -> NDArray[np.str_]:
    return column.fill_null("").to_numpy().astype(str)


def _signal_table(
    joined: pl.DataFrame, columns: Mapping[str, NDArray[np.float64] | None]
) -> pl.DataFrame:
    frame = joined.select(
        "item_id", "group", "task", pl.col("parsed").fill_null("").alias("answer"), "correct"
    )
    # Single precision is what the table holds; a double that overflows it would turn infinite.
    return frame.with_columns(
        pl.lit(None, pl.Float32).alias(name)
        if values is None
        else pl.Series(name, values.astype(np.float32))
        for name, values in columns.items()
    )


def _answer_rows(joined: pl.DataFrame, judged: EvaluationItems) -> list[Row]:
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


def _consistency_rows(
    joined: pl.DataFrame, agreement: NDArray[np.float64] | None, judged: EvaluationItems
) -> list[Row]:
    """Precision where all K answers agree, and the majority answer's own accuracy."""
    if agreement is None:
        return []
    sampled = np.isfinite(agreement)
    unanimous = agreement >= 1.0
    scopes = {**judged.scopes, "pooled": np.ones(len(unanimous), dtype=bool)}
    rows = []
    for scope, asked in scopes.items():
        chosen = asked & sampled
        kept = unanimous & chosen
        n_groups = len(np.unique(judged.groups[kept]))
        if kept.any():
            hits = int(judged.correct[kept].sum())
            precision = wilson(hits, int(kept.sum()), n_groups=n_groups)
            rows.append(estimate_row("self_consistency", scope, "precision_unanimous", precision))
        coverage = plain_row(
            "self_consistency", scope, "coverage_unanimous",
            float(kept.sum() / chosen.sum()) if chosen.any() else math.nan,
            n=int(chosen.sum()), n_groups=n_groups, n_dropped=int(asked.sum() - chosen.sum()),
        )  # fmt: skip
        rows.append(coverage)
    majority = joined["majority_correct"].to_numpy()
    return rows + share_rows("majority_answer", "accuracy", majority, judged, known=sampled)


def _ranking(by_head: ByHead) -> HeadRanking | None:
    """Heads by their contribution; None where that was not captured or is finite for no item."""
    contribution = by_head["head_contribution"]
    if contribution is None or not np.isfinite(contribution).all(axis=(1, 2)).any():
        return None
    return rank_heads(contribution)


def _head_rows(by_head: ByHead, judged: EvaluationItems, ks: Sequence[int]) -> list[Row]:
    """R² of correctness on H_s and C_k of the heads that add most to the answer's logit."""
    n_items = len(judged.correct)
    names = [f"{kind}_top_{k}" for k in ks for kind in ("r2", "adjusted_r2")]
    signals = [values for name in _HEAD_SIGNALS if (values := by_head[name]) is not None]
    if by_head["head_contribution"] is None or len(signals) < len(_HEAD_SIGNALS):
        return [missing_row("top_heads", "pooled", name, n_dropped=n_items) for name in names]
    ranking = _ranking(by_head)
    if ranking is None:
        why = "no item has finite contributions of all heads"
        return [
            missing_row("top_heads", "pooled", name, n_dropped=n_items, why=why) for name in names
        ]
    n_heads_total = len(ranking.order)
    fitting = [k for k in ks if k <= n_heads_total]
    used = ranking.order[: max(fitting, default=0)]
    features = np.stack([values.reshape(n_items, -1)[:, used] for values in signals], axis=2)
    fit = top_head_r2(features, judged.correct, np.arange(len(used)), fitting)
    rows = []
    for k, r2, adjusted_r2 in zip(fit.k, fit.r2, fit.adjusted_r2, strict=True):
        dropped = n_items - fit.n_items
        for metric, value in ((f"r2_top_{k}", r2), (f"adjusted_r2_top_{k}", adjusted_r2)):
            row = plain_row(
                "top_heads", "pooled", metric, float(value), n=fit.n_items, n_dropped=dropped
            )
            rows.append(row)
    return rows


def _without_heads(by_head: ByHead, n_items: int) -> NDArray[np.bool_]:
    """(n_items,) whether a value of some head is missing."""
    whole = np.ones(n_items, dtype=bool)
    for values in by_head.values():
        if values is not None:
            whole &= np.isfinite(values).reshape(n_items, -1).all(axis=1)
    return ~whole


def _head_table(by_head: ByHead, correct: NDArray[np.bool_]) -> dict[str, object]:
    captured = [values for values in by_head.values() if values is not None]
    if not captured:
        return {name: [] for name in HEADS.columns.names}
    _, n_layers, n_heads = captured[0].shape
    n_total = n_layers * n_heads
    layer, head = np.divmod(np.arange(n_total), n_heads)
    table: dict[str, object] = {name: [None] * n_total for name in HEADS.columns.names}
    table |= {"layer": layer, "head": head}
    ranking = _ranking(by_head)
    if by_head["head_contribution"] is not None:
        table["contribution"] = np.full(n_total, np.nan)
    if ranking is not None:
        rank = np.empty(n_total, dtype=np.int32)
        rank[ranking.order] = np.arange(n_total)
        table |= {"rank": rank, "contribution": ranking.mean_contribution.ravel()}
    for name in ("entropy", "clusters"):
        values = by_head[f"head_{name}"]
        if values is not None:
            of_heads = values.reshape(len(correct), -1).T
            table[f"r_{name}"] = [point_biserial(its, correct).value for its in of_heads]
    return table


def _doubles(column: pl.Series) -> NDArray[np.float64] | None:
    """A list column whose rows have one shape, as (n_items, …); None where not captured."""
    return as_array(column).astype(np.float64) if is_captured(column) else None


def _share_rows(joined: pl.DataFrame) -> list[Row]:
    """What attention and MLPs add to the answer's margin, as shares of its growth."""
    by_attention = _doubles(joined["attention_contribution"])
    by_mlp = _doubles(joined["mlp_contribution"])
    n_items = len(joined)
    if by_attention is None or by_mlp is None:
        return [
            missing_row(name, "pooled", "growth_share", n_dropped=n_items)
            for name in ("mlp", "attention")
        ]
    shares = contribution_shares(by_attention, by_mlp)
    counts = {"n": shares.n_items, "n_dropped": n_items - shares.n_items}
    return [
        plain_row("mlp", "pooled", "growth_share", shares.mlp, **counts),
        plain_row("attention", "pooled", "growth_share", shares.attention, **counts),
    ]


def _peak_rows(joined: pl.DataFrame, notes: NDArray[np.str_]) -> list[Row]:
    """Where the mean truth margin is largest, and why items have none."""
    margins = _doubles(joined["truth_margin"])
    if margins is None:
        return [missing_row("truth_margin", "pooled", "peak", n_dropped=len(joined))]
    complete = np.isfinite(margins).all(axis=1)
    n_dropped = int((~complete).sum())
    if complete.any():
        peak = layer_peak(margins[complete].mean(axis=0)[None])
        row = plain_row(
            "truth_margin", "pooled", "peak", float(peak.value[0]),
            n=int(complete.sum()), n_dropped=n_dropped, layer=int(peak.layer[0]),
        )  # fmt: skip
    else:
        row = missing_row("truth_margin", "pooled", "peak", n_dropped=n_dropped, why=_NO_VALUE)
    return with_reasons([row], notes[~complete])


def _forcing_rows(joined: pl.DataFrame) -> list[Row]:
    """How much the last layers still rewrite the image tokens."""
    updates = _doubles(joined["residual_update"])
    if updates is None:
        return [missing_row("residual_update", "pooled", "late", n_dropped=len(joined))]
    late = late_forcing(updates).late
    known = np.isfinite(late)
    if not known.any():
        return []
    n = int(known.sum())
    value = float(late[known].mean())
    return [plain_row("residual_update", "pooled", "late", value, n=n, n_dropped=len(joined) - n)]
