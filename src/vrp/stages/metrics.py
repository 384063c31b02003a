"""Compute every signal of every item, and how well each tells right answers from wrong ones."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.config.margins import EquivalenceMargins
from vrp.config.metrics import MetricsConfig
from vrp.errors import InputError, unknown_name
from vrp.estimates.estimate_rows import (
    EstimateRow,
    EvaluationItems,
    adjusted,
    answer_forms,
    estimate_row,
    missing_row,
    not_captured_rows,
    plain_row,
    reliability_rows,
    share_rows,
    with_reasons,
)
from vrp.estimates.recipes import judge_recipes
from vrp.progress import progress
from vrp.running.image_rankings import read_heavy_places
from vrp.signals.heads import HeadRanking, rank_heads, top_head_r2
from vrp.signals.mechanistic import contribution_shares, late_update, layer_peak
from vrp.signals.recipes import Recipe, head_recipes, map_recipes
from vrp.signals.registry import ON_OBJECT, SIGNALS, Signal, SignalInputs, compute_signals
from vrp.stats.bootstrap import generator
from vrp.stats.clusters import clustered_mean
from vrp.stats.correlation import clustered_correlation
from vrp.stats.permutations import permutation_in_runs
from vrp.stats.proportion import clustered_share, wilson
from vrp.study.context import StageContext
from vrp.tables.answers import ANSWERS
from vrp.tables.arrays import as_array, captured_as_a_whole, item_values
from vrp.tables.attention import ATTENTION
from vrp.tables.blind_scores import BLIND_SCORES
from vrp.tables.boxes import BOXES
from vrp.tables.captured import captured, is_captured
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import (
    MACRO,
    METRICS,
    NOT_A_LAYER,
    OBJECT_AREA,
    OBJECT_EXCESS,
    POOLED,
    WITHIN_STRATA,
)
from vrp.tables.heads import HEADS
from vrp.tables.items import ITEMS, read_asked_items
from vrp.tables.lens import LENS
from vrp.tables.notes import NO_REFERENCE, NON_FINITE
from vrp.tables.p_true import P_TRUE
from vrp.tables.parquet_files import read_batches, read_table, write_table
from vrp.tables.recipes import RECIPES
from vrp.tables.schema import TableSchema
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table

_Float = TypeVar("_Float", np.float64, np.float32)
_HEAD_SIGNALS = ("head_entropy", "head_clusters")
_HEAD_COLUMNS = (*_HEAD_SIGNALS, "head_contribution")
_NO_VALUE = "no finite value"
# Orders of correctness from which the null of an in-sample R² is taken.
_PERMUTATIONS = 200
# Items whose attention is in memory at a time: a multiple of the signals' own stacks.
_ITEMS_AT_ONCE = 4096
_SCHEMAS = {
    schema.name: schema
    for schema in (ANSWERS, LENS, CONSISTENCY, ATTENTION, BLIND_SCORES, P_TRUE, BOXES)
}
# Columns that this stage reads beside those that signals need.
_COLUMNS = {
    "answers": ("parsed", "correct", "correct_official", "note"),
    "lens": (
        "truth_margin", "attention_contribution", "mlp_contribution", "residual_update", "note",
    ),
    "consistency": ("majority_correct",),
    "blind_scores": (),
    "p_true": (),
    "boxes": ("note",),
    "attention": (*_HEAD_COLUMNS, "grid_h", "grid_w"),
}  # fmt: skip
Tables = Mapping[str, pl.DataFrame]
"""Table → its rows, one an item, in the order of item_id."""
ByHead = Mapping[str, NDArray[np.float32] | None]
"""`head_…` column → (n_items, n_layers, n_heads); None where it was not captured."""
Heavy = dict[tuple[int, int], NDArray[np.bool_]]
"""Grid → (n_layers, S): places that are attention sinks in most images."""


class Computed(NamedTuple):
    """What is computed of every item, in the order of item_id."""

    signals: Mapping[str, NDArray[np.float64] | None]
    """Signal → (n_items,) values, NaN where missing; None where not captured."""
    by_head: ByHead
    """Values of every head."""
    recipes: Mapping[Recipe, NDArray[np.float64]]
    """Recipe of attention → (n_items,) values; empty where maps were not captured."""
    on_object: NDArray[np.float64] | None
    """(n_items, n_layers + 1) attention on the object that is asked for, by layer, and the
    object's area, as shares of the image's; NaN without an object; None where boxes or maps are not
    known."""

    def rows(self, chosen: NDArray[np.bool_]) -> "Computed":
        """Of some items; what was not captured stays None."""
        recipes = {recipe: values[chosen] for recipe, values in self.recipes.items()}
        on_object = None if self.on_object is None else self.on_object[chosen]
        signals, by_head = _of_rows(self.signals, chosen), _of_rows(self.by_head, chosen)
        return Computed(signals, by_head, recipes, on_object)


def run(context: StageContext) -> None:
    """Compute the signals of one model and how well each tells right answers from wrong ones.

    A signal whose inputs were not captured has a null column, and rows that say so in place of
    numbers. An item without finite logits has no signal at all.

    Raises:
        InputError: a table is missing, or the shards do not hold the study's items.
    """
    metrics = context.study.metrics
    attention = context.input_paths("attention")
    schemas = _schemas_to_read()
    paths = {name: context.input_paths(name) for name in ("answers", "lens", "consistency")}
    for name in ("blind_scores", "p_true", "boxes"):
        if found := context.input_paths(name):  # none where the study does not ask
            paths[name] = found
    tables = _read_tables(context.input_path("items"), paths, schemas)
    attention_notes = read_table(attention, ATTENTION.only("note"))
    _require_same_items(tables["items"], attention_notes, attention)
    layers = context.model_config.map_layers
    computed = _compute(tables, attention, schemas["attention"], layers)
    table = _signal_table(tables, computed.signals)
    answer_notes = tables["answers"]["note"]
    notes = {
        "answers": _texts(answer_notes),
        "attention": _texts(attention_notes["note"]),
        "lens": _texts(tables["lens"]["note"].fill_null(answer_notes)),
    }
    if "boxes" in tables:
        notes["boxes"] = _texts(tables["boxes"]["note"].fill_null(attention_notes["note"]))
    everyone = _evaluation_items(table.with_columns(pl.col("correct").fill_null(False)), context)
    rows = _rate_rows(tables["answers"], everyone)
    # All else is about right and wrong answers: of the items that have a reference.
    judged = table["correct"].is_not_null().to_numpy()
    items = everyone
    if judged.any() and not judged.all():
        tables = {name: frame.filter(judged) for name, frame in tables.items()}
        computed = computed.rows(judged)
        notes = {name: column[judged] for name, column in notes.items()}
        items = _evaluation_items(table.filter(judged), context)
    by_recipe = judge_recipes(computed.recipes if judged.any() else {}, items)
    if judged.any():
        rows += _judged_rows(tables, computed, notes, items, metrics) + by_recipe.together
    else:
        rows += [row for name in SIGNALS for row in _unjudged_rows(name, items)]
    write_table(
        context.output_path("heads"),
        HEADS,
        _head_table(computed.by_head, items),
        provenance=context.provenance,
    )
    write_table(
        context.output_path("recipes"), RECIPES, by_recipe.table, provenance=context.provenance
    )
    write_table(
        context.output_path("signals"), signal_table(), table, provenance=context.provenance
    )
    write_table(
        context.output_path("metrics"), METRICS, adjusted(rows), provenance=context.provenance
    )


def _evaluation_items(table: pl.DataFrame, context: StageContext) -> EvaluationItems:
    metrics = context.study.metrics
    return EvaluationItems.from_frame(
        table,
        seed=context.study.seed,
        n_boot=metrics.bootstrap,
        margins=EquivalenceMargins(auroc=metrics.auroc_margin, r=metrics.r_margin),
    )


def _of_rows(
    columns: Mapping[str, NDArray[_Float] | None], rows: NDArray[np.bool_]
) -> dict[str, NDArray[_Float] | None]:
    """Columns of some rows; what was not captured stays None."""
    return {name: None if values is None else values[rows] for name, values in columns.items()}


def _judged_rows(
    tables: Tables,
    computed: Computed,
    notes: Mapping[str, NDArray[np.str_]],
    items: EvaluationItems,
    metrics: MetricsConfig,
) -> list[EstimateRow]:
    """Accuracy, and how well signals and heads tell right from wrong; all of the same items."""
    rows = _answer_rows(tables["answers"], items)
    signal_values, by_head = computed.signals, computed.by_head
    for signal in SIGNALS.values():
        rows += _signal_rows(signal, signal_values[signal.name], items, notes)
    rows += _consistency_rows(tables["consistency"], signal_values["self_consistency"], items)
    of_heads = notes["attention"][_without_heads(by_head, len(items.correct))]
    rows += with_reasons(_head_rows(by_head, items, metrics.top_heads), of_heads)
    rows += _object_rows(computed, items)
    # The answer's note explains missing lens values; the truth margin has a note of its own.
    lens_rows = [*_share_rows(tables["lens"]), *_forcing_rows(tables["lens"])]
    rows += with_reasons(lens_rows, notes["answers"])
    return rows + _peak_rows(tables["lens"], notes["lens"])


def _unjudged_rows(predictor: str, items: EvaluationItems) -> list[EstimateRow]:
    """The rows of a signal where no item has a reference: no number, and why."""
    n = len(items.correct)
    return [
        missing_row(
            predictor, scope, "auroc", n_dropped=items.n_of_scope.get(scope, n), why=NO_REFERENCE
        )
        for scope in (WITHIN_STRATA, *items.task_names, MACRO, POOLED)
    ]


def _schemas_to_read() -> dict[str, TableSchema]:
    """Table → its key and the columns that this stage or a signal needs.

    Raises:
        InputError: a signal needs a column that does not exist.
    """
    columns = {table: list(names) for table, names in _COLUMNS.items()}
    for signal in SIGNALS.values():
        for need in signal.needs:
            table, _, name = need.partition(".")
            known = _SCHEMAS[table].columns.names if table in _SCHEMAS else ()
            if name not in known:
                there = [f"{table}.{column}" for column in known] or list(_SCHEMAS)
                message = unknown_name("column", need, there)
                raise InputError(f"signal {signal.name!r}: {message}")
            columns[table].append(name)
    return {table: _SCHEMAS[table].only(*names) for table, names in columns.items()}


def _read_tables(
    items: Path, paths: Mapping[str, Sequence[Path]], schemas: Mapping[str, TableSchema]
) -> dict[str, pl.DataFrame]:
    """Read the items and the tables that fit into memory, rows of all in the same order."""
    tables = {"items": read_asked_items(items, ITEMS.only("group", "task", "reference"))}
    for name, files in paths.items():
        tables[name] = read_table(files, schemas[name])
        _require_same_items(tables["items"], tables[name], files)
    return tables


def _require_same_items(frame: pl.DataFrame, table: pl.DataFrame, paths: Sequence[Path]) -> None:
    missing = frame.join(table, on="item_id", how="anti")["item_id"]
    unknown = table.join(frame, on="item_id", how="anti")["item_id"]
    if len(missing) or len(unknown):
        which, name = ("lacks", missing[0]) if len(missing) else ("contains unknown", unknown[0])
        raise InputError(
            f"{paths[0].parent}: {which} item {name!r} "
            f"({len(missing)} missing, {len(unknown)} unknown); rerun the stage that makes it"
        )


def _compute(
    tables: Tables, attention: Sequence[Path], schema: TableSchema, layers: tuple[int, ...] | None
) -> Computed:
    """Compute all signals, with the attention of a few thousand items in memory at a time."""
    item_ids = tables["items"]["item_id"]
    n_items = len(item_ids)
    signals = {name: np.full(n_items, np.nan) for name in SIGNALS}
    heads: dict[str, NDArray[np.float32]] = {}
    recipes: dict[Recipe, NDArray[np.float64]] = {}
    n_image_tokens = np.zeros(n_items)
    on_object: NDArray[np.float64] | None = None
    heavy = _heavy_places(attention, schema, tables["items"])
    policy = read_provenance(attention[0]).get("image_policy", "")
    n_null = Counter(
        {f"{table}.{name}": tables[table][name].null_count()
         for table in tables for name in tables[table].columns}
    )  # fmt: skip
    bar = progress(n_items, "signals")
    for batch in read_batches(attention, schema, n_rows=_ITEMS_AT_ONCE):
        rows = item_ids.search_sorted(batch["item_id"]).to_numpy()
        inputs = replace(
            signal_inputs(tables, rows, batch, layers), heavy_places=heavy, image_policy=policy
        )
        for name, values in compute_signals(inputs).items():
            signals[name][rows] = values
        n_image_tokens[rows] = (batch["grid_h"] * batch["grid_w"]).to_numpy()
        if inputs.columns.get("attention.maps"):
            with_sinks = inputs.columns.get("attention.sinks") is not None
            for recipe, values in map_recipes(inputs, with_sinks=with_sinks).items():
                recipes.setdefault(recipe, np.full(n_items, np.nan))[rows] = values
        if "boxes" in tables and inputs.columns.get("attention.maps"):
            shares = np.column_stack(inputs.object_attention)
            if on_object is None:
                on_object = np.full((n_items, shares.shape[1]), np.nan)
            on_object[rows] = shares
        for name in _HEAD_COLUMNS:
            if batch[name].null_count() < len(batch):
                found = as_array(batch[name])
                heads.setdefault(name, np.empty((n_items, *found.shape[1:]), np.float32))
                heads[name][rows] = found
        n_null.update({f"attention.{name}": batch[name].null_count() for name in batch.columns})
        bar.update(len(batch))
    bar.close()
    # Null in all rows of all batches: not captured. In some rows: another capture, refused.
    lacking = {column for column in n_null if not _was_captured(column, n_null[column], n_items)}
    lacking |= {need for s in SIGNALS.values() for need in s.needs if need not in n_null}
    # Without finite logits there is no answer that a value could speak of.
    no_answer = (tables["answers"]["note"] == NON_FINITE).fill_null(False).to_numpy()
    captured = {
        name: None if lacking & set(signal.needs) else np.where(no_answer, np.nan, signals[name])
        for name, signal in SIGNALS.items()
    }
    by_head = {
        name: None if f"attention.{name}" in lacking else heads.get(name) for name in _HEAD_COLUMNS
    }
    recipes |= _head_recipes(by_head, n_image_tokens)
    answered = {recipe: np.where(no_answer, np.nan, values) for recipe, values in recipes.items()}
    return Computed(captured, by_head, answered, on_object)


def _heavy_places(attention: Sequence[Path], schema: TableSchema, items: pl.DataFrame) -> Heavy:
    """Find where maps are heavy in most images; nothing where maps or sinks were not captured."""
    if not {"maps", "sinks"} <= set(schema.columns.names):
        return {}  # no signal wants them
    return read_heavy_places(attention, dict(items.select("item_id", "group").iter_rows()))


def _head_recipes(
    by_head: ByHead, n_image_tokens: NDArray[np.float64]
) -> dict[Recipe, NDArray[np.float64]]:
    entropy, clusters = (by_head[name] for name in _HEAD_SIGNALS)
    if entropy is None or clusters is None:
        return {}
    ranking = _ranking(by_head)
    return head_recipes(
        entropy, clusters, n_image_tokens, None if ranking is None else ranking.order
    )


def _was_captured(column: str, n_null: int, n_rows: int) -> bool:
    table, _, name = column.partition(".")
    if table in _SCHEMAS and captured_as_a_whole(_SCHEMAS[table].columns.field(name)):
        return captured(name, n_null, n_rows)
    return n_null < n_rows or n_rows == 0


def signal_inputs(
    tables: Tables,
    rows: NDArray[np.integer],
    attention: pl.DataFrame,
    layers: tuple[int, ...] | None,
) -> SignalInputs:
    """Return the inputs of the signals of some items.

    Args:
        tables: name → table, without that of attention.
        rows: where the items are in these tables.
        attention: their rows of the attention table.
        layers: decoder layers averaged into the attention map; None: all.

    Raises:
        InputError: the model has no such layer.
    """
    columns: dict[str, Any] = {}
    for need in {need for signal in SIGNALS.values() for need in signal.needs}:
        table, _, name = need.partition(".")
        if table == "attention":
            values = attention[name]
        elif table in tables:
            values = tables[table][name][rows]
        else:
            continue
        columns[need] = item_values(values, _SCHEMAS[table].columns.field(name))
    maps = columns.get("attention.maps")
    if maps and layers is not None and not all(0 <= layer < len(maps[0]) for layer in layers):
        raise InputError(
            f"map_layers: the model has layers 0 to {len(maps[0]) - 1}; fix the model's section"
        )
    return SignalInputs(n_items=len(attention), columns=columns, map_layers=layers)


def _signal_rows(
    signal: Signal,
    values: NDArray[np.float64] | None,
    items: EvaluationItems,
    notes: Mapping[str, NDArray[np.str_]],
) -> list[EstimateRow]:
    """How well a signal tells right from wrong, and why items, or all of them, are missing.

    The reasons are the notes of the table that the signal is computed from.
    """
    if values is None:
        return not_captured_rows(signal.name, items)
    rows = reliability_rows(
        signal.name, values, items, higher_is_reliable=signal.reliable_when != "low"
    )
    tables = ("boxes", "attention", "lens")
    table = next((name for name in tables if name in signal.tables), "answers")
    missing = notes[table][np.isnan(values)]
    return with_reasons(rows, np.where(missing == "", _NO_VALUE, missing))


def _texts(column: pl.Series) -> NDArray[np.str_]:
    return column.fill_null("").to_numpy().astype(str)


def _signal_table(
    tables: Tables, columns: Mapping[str, NDArray[np.float64] | None]
) -> pl.DataFrame:
    answers = tables["answers"]
    frame = (
        tables["items"]
        .select("item_id", "group", "task", form=answer_forms(tables["items"]["reference"]))
        .with_columns(answers["parsed"].fill_null("").alias("answer"), answers["correct"])
    )
    # Single precision is what the table holds; a double that overflows it would turn infinite.
    return frame.with_columns(
        pl.lit(None, pl.Float32).alias(name)
        if values is None
        else pl.Series(name, values.astype(np.float32))
        for name, values in columns.items()
    )


def _rate_rows(answers: pl.DataFrame, items: EvaluationItems) -> list[EstimateRow]:
    """What can distort an accuracy: parse rate and yes-rate, by task and by answer."""
    parsed = answers["parsed"].is_not_null().to_numpy()
    rows = share_rows("model", "parse_rate", parsed, items)
    yes = (items.tasks == "existence") & (items.answers == "yes")
    return rows + _of_existence(share_rows("model", "yes_rate", yes, items))


def _answer_rows(answers: pl.DataFrame, items: EvaluationItems) -> list[EstimateRow]:
    """Accuracy, also under POPE's official parser where that was applied."""
    official = answers["correct_official"]
    hits, known = official.fill_null(False).to_numpy(), official.is_not_null().to_numpy()
    of_official = share_rows("model", "accuracy_official", hits, items, known=known)
    rows = share_rows("model", "accuracy", items.correct, items)
    return rows + _of_existence(of_official)


def _of_existence(rows: Iterable[EstimateRow]) -> list[EstimateRow]:
    return [row for row in rows if row["scope"] == "existence"]


def _consistency_rows(
    consistency: pl.DataFrame, agreement: NDArray[np.float64] | None, items: EvaluationItems
) -> list[EstimateRow]:
    """Precision where all K answers agree, and the majority answer's own accuracy.

    The papers' own interval of the precision, Wilson's, stands beside the clustered one.
    """
    if agreement is None:
        return []
    sampled = np.isfinite(agreement)
    unanimous = agreement >= 1.0
    scopes = {**items.scopes, POOLED: np.ones(len(unanimous), dtype=bool)}
    rows = []
    for scope, asked in scopes.items():
        # Items without samples are dropped; they neither agree nor disagree.
        chosen = asked & sampled
        kept = unanimous & chosen
        n_groups = len(np.unique(items.groups[kept]))
        if kept.any():
            right = items.correct[kept]
            for metric, precision in (
                ("precision_unanimous",
                 clustered_share(right, items.groups[kept], n_images=items.n_images)),
                ("precision_wilson",
                 wilson(int(right.sum()), int(kept.sum()), n_groups=n_groups)),
            ):  # fmt: skip
                rows.append(estimate_row("self_consistency", scope, metric, precision))
        coverage = plain_row(
            "self_consistency", scope, "coverage_unanimous",
            float(kept.sum() / chosen.sum()) if chosen.any() else math.nan,
            n=int(chosen.sum()), n_groups=n_groups, n_dropped=int(asked.sum() - chosen.sum()),
        )  # fmt: skip
        rows.append(coverage)
    majority = consistency["majority_correct"].to_numpy()
    return rows + share_rows("majority_answer", "accuracy", majority, items, known=sampled)


def _ranking(by_head: ByHead) -> HeadRanking | None:
    """Heads by their contribution; None where that was not captured or is finite for no item."""
    contribution = by_head["head_contribution"]
    if contribution is None or not np.isfinite(contribution).all(axis=(1, 2)).any():
        return None
    return rank_heads(contribution)


def _head_rows(by_head: ByHead, items: EvaluationItems, ks: Sequence[int]) -> list[EstimateRow]:
    """R² of correctness on H_s and C_k of the heads that add most to the answer's logit."""
    n_items = len(items.correct)
    names = [f"{kind}_top_{k}" for k in ks for kind in ("r2", "adjusted_r2", "null_r2")]
    signals = [values for name in _HEAD_SIGNALS if (values := by_head[name]) is not None]
    if by_head["head_contribution"] is None or len(signals) < len(_HEAD_SIGNALS):
        return [missing_row("top_heads", POOLED, name, n_dropped=n_items) for name in names]
    ranking = _ranking(by_head)
    if ranking is None:
        why = "no item has finite contributions of all heads"
        return [
            missing_row("top_heads", POOLED, name, n_dropped=n_items, why=why) for name in names
        ]
    n_heads_total = len(ranking.order)
    fitting = [k for k in ks if k <= n_heads_total]
    # Only the heads of the largest k enter: all heads would not fit into memory as doubles.
    used = ranking.order[: max(fitting, default=0)]
    features = np.stack([values.reshape(n_items, -1)[:, used] for values in signals], axis=2)
    fit = top_head_r2(
        features, items.correct, np.arange(len(used)), fitting, permuted=_permuted(items)
    )
    dropped = n_items - fit.n_items
    rows = []
    for i, k in enumerate(fitting):
        for name in ("r2", "adjusted_r2", "null_r2"):
            row = plain_row(
                "top_heads", POOLED, f"{name}_top_{k}", float(getattr(fit, name)[i]),
                n=fit.n_items, n_dropped=dropped,
            )  # fmt: skip
            rows.append(row | {"p": float(fit.p[i])} if name == "r2" else row)
    return rows


def _permuted(items: EvaluationItems) -> NDArray[np.bool_]:
    """(n, _PERMUTATIONS) correctness permuted within strata, in runs of an image."""
    found = np.tile(items.correct[:, None], _PERMUTATIONS)
    for stratum in np.unique(items.strata).tolist():
        rows = np.flatnonzero(items.strata == stratum)
        groups = np.unique(items.groups[rows], return_inverse=True)[1]
        random = generator("permuted correctness", stratum)
        for column in found.T:
            source, target = permutation_in_runs(groups, random)
            column[rows[target]] = items.correct[rows[source]]
    return found


def _object_rows(computed: Computed, items: EvaluationItems) -> list[EstimateRow]:
    """Attention on the object that is asked for, minus the object's area: all layers, then each."""
    everywhere, on_object = computed.signals[ON_OBJECT], computed.on_object
    if everywhere is None or on_object is None or not np.isfinite(everywhere).any():
        return []
    known = np.isfinite(everywhere)
    by_layer, area = on_object[known, :-1], on_object[known, -1]

    def row(
        metric: str, values: NDArray[np.float64], *, null: float | None, layer: int = NOT_A_LAYER
    ) -> EstimateRow:
        mean = clustered_mean(values, items.groups[known], n_images=items.n_images)
        return estimate_row(
            ON_OBJECT, POOLED, metric, mean.estimate("clustered-t", null=null),
            layer=layer, n_dropped=int((~known).sum()), se=mean.se, df=mean.df,
        )  # fmt: skip

    return [
        row(OBJECT_AREA, area, null=None),
        row(OBJECT_EXCESS, everywhere[known], null=0.0),
        *(
            row(OBJECT_EXCESS, mass - area, null=0.0, layer=layer)
            for layer, mass in enumerate(by_layer.T)
        ),
    ]


def _without_heads(by_head: ByHead, n_items: int) -> NDArray[np.bool_]:
    """(n_items,) whether a value of some head is missing."""
    whole = np.ones(n_items, dtype=bool)
    for values in by_head.values():
        if values is not None:
            whole &= np.isfinite(values).reshape(n_items, -1).all(axis=1)
    return ~whole


def _head_table(by_head: ByHead, items: EvaluationItems) -> dict[str, object]:
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
        # The inverse of the order: each head's place in it.
        rank = np.empty(n_total, dtype=np.int32)
        rank[ranking.order] = np.arange(n_total)
        table |= {"rank": rank, "contribution": ranking.mean_contribution.ravel()}
    for name in ("entropy", "clusters"):
        values = by_head[f"head_{name}"]
        if values is not None:
            table[f"r_{name}"] = [
                clustered_correlation(
                    head, items.correct, items.groups, n_images=items.n_images,
                    name=WITHIN_STRATA, strata=items.strata,
                ).value
                for head in values.reshape(len(items.correct), -1).T
            ]  # fmt: skip
    return table


def _doubles(column: pl.Series) -> NDArray[np.float64] | None:
    """A list column whose rows have one shape, as (n_items, …); None where not captured."""
    return as_array(column).astype(np.float64) if is_captured(column) else None


def _share_rows(lens: pl.DataFrame) -> list[EstimateRow]:
    """Shares of attention and of the MLPs in the growth of the answer's margin."""
    by_attention = _doubles(lens["attention_contribution"])
    by_mlp = _doubles(lens["mlp_contribution"])
    n_items = len(lens)
    if by_attention is None or by_mlp is None:
        return [
            missing_row(name, POOLED, "growth_share", n_dropped=n_items)
            for name in ("mlp", "attention")
        ]
    shares = contribution_shares(by_attention, by_mlp)
    counts = {"n": shares.n_items, "n_dropped": n_items - shares.n_items}
    return [
        plain_row("mlp", POOLED, "growth_share", shares.mlp, **counts),
        plain_row("attention", POOLED, "growth_share", shares.attention, **counts),
    ]


def _peak_rows(lens: pl.DataFrame, notes: NDArray[np.str_]) -> list[EstimateRow]:
    """Layer and value of the largest mean truth margin."""
    margins = _doubles(lens["truth_margin"])
    if margins is None:
        return [missing_row("truth_margin", POOLED, "peak", n_dropped=len(lens))]
    complete = np.isfinite(margins).all(axis=1)
    n_dropped = int((~complete).sum())
    if complete.any():
        peak = layer_peak(margins[complete].mean(axis=0)[None])
        row = plain_row(
            "truth_margin", POOLED, "peak", float(peak.value[0]),
            n=int(complete.sum()), n_dropped=n_dropped, layer=int(peak.layer[0]),
        )  # fmt: skip
    else:
        row = missing_row("truth_margin", POOLED, "peak", n_dropped=n_dropped, why=_NO_VALUE)
    return with_reasons([row], notes[~complete])


def _forcing_rows(lens: pl.DataFrame) -> list[EstimateRow]:
    """Mean update of the image tokens in the last layers."""
    updates = _doubles(lens["residual_update"])
    if updates is None:
        return [missing_row("residual_update", POOLED, "late", n_dropped=len(lens))]
    late = late_update(updates)
    known = np.isfinite(late)
    if not known.any():
        return []
    n = int(known.sum())
    value = float(late[known].mean())
    return [plain_row("residual_update", POOLED, "late", value, n=n, n_dropped=len(lens) - n)]
