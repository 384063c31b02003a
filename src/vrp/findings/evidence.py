"""A model's results as they are looked up: estimates and effects by name."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import polars as pl

from vrp.config.margins import EquivalenceMargins
from vrp.data.datasets import tasks_in_order
from vrp.estimates.reported import Effect, ReportedEstimate
from vrp.findings.contrasts import (
    against,
    baseline_contrasts,
    beyond_output,
    probe_contrasts,
)
from vrp.interventions.conditions import Condition, StudyConditions
from vrp.probing.labels import LINEAR, LINEAR_BEST, PROBE_LABELS
from vrp.signals.registry import SIGNALS
from vrp.study.provenance import EXECUTION
from vrp.study.results import ModelResults, StudyResults
from vrp.tables.answers import ANSWERS
from vrp.tables.captured import CAPTURED
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.effects import EFFECTS
from vrp.tables.estimates import METRICS, NOT_A_LAYER, PROBES, WITHIN_STRATA
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.schema import TableSchema
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table
from vrp.tables.trace import TRACE_EFFECTS
from vrp.zoo import ZOO_PREFIX

Key = tuple[str, str, str, int]
"""Predictor, metric, scope, layer."""
EffectKey = tuple[str, str, str]
"""Intervention, condition, scope."""
Compared = Callable[[str, tuple[str, ...]], Mapping[str, ReportedEstimate]]
"""A predictor, and others that are compared with it → their differences."""
BetweenModels = Mapping[tuple[str, str, str], Effect]
"""`a - b`, intervention and condition → the effect on model a minus that on b."""


def ordered_tasks(items: pl.DataFrame) -> list[str]:
    """The tasks of items (columns `task` and `dataset`), in the order of their data sets."""
    return tasks_in_order(items["task"], items["dataset"])


class TracedLayers(NamedTuple):
    """What an edit of some layers leaves, or restores, of what the image adds to the margin."""

    first: int
    """First decoder layer that is changed."""
    last: int
    """Last one."""
    share: ReportedEstimate
    """Of what the image adds to the first answer token's margin."""
    same_token: float
    """Share of items whose first token is that without an edit."""


@dataclass(frozen=True)
class ModelEvidence:
    """Results of one model."""

    name: str
    """Name in the config."""
    family: str = ""
    """Family as recorded in the tables; empty where they do not record it."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Provenance of its answers: revision, digests, versions."""
    metrics: Mapping[Key, ReportedEstimate] = field(default_factory=dict)
    """Estimates of signals."""
    probes: Mapping[Key, ReportedEstimate] = field(default_factory=dict)
    """Estimates of probes and guards."""
    effects: Mapping[EffectKey, Effect] = field(default_factory=dict)
    """Effects of interventions."""
    conditions: StudyConditions = field(default_factory=StudyConditions)
    """The study's interventions."""
    traces: Mapping[str, Sequence[TracedLayers]] = field(default_factory=dict)
    """Kind of edit → what the tracing found, by layer; empty where it was not run."""
    contrasts: Mapping[str, ReportedEstimate] = field(default_factory=dict)
    """Best probe's AUROC minus that of a predictor, within strata; `task_only`: over all items."""
    beyond_baselines: Mapping[tuple[str, str], ReportedEstimate] = field(default_factory=dict)
    """(Predictor, baseline) → AUROC of the predictor minus that of the baseline, within strata."""
    short_of: Compared = lambda best, others: {}
    """Best predictor and others → AUROC of each minus that of the best, on the items of both."""
    beyond_output: ReportedEstimate | None = None
    """What the best probe adds to the fusion of the output signals, in AUROC within strata."""
    signal_means: Mapping[str, float] = field(default_factory=dict)
    """Mean of every signal over the items that have it; NaN where none has."""
    best_layers: tuple[int, ...] = ()
    """Layer picked on each fold's training items."""
    tasks: tuple[str, ...] = ()
    """Tasks in the study's order."""
    k: int = 0
    """Sampled answers an item."""
    answer_tokens: float = math.nan
    """Mean length of the greedy answers, in tokens."""
    consistency: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Sampled S_SC beside the exact distribution's bounds, with each item's group."""
    answers: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Answers beside their items."""
    margins: EquivalenceMargins = field(default_factory=EquivalenceMargins)
    """Margins of the study's equivalence tests."""

    @property
    def checkpoint(self) -> str:
        """Hub id, folder or `zoo:<family>`; empty where the tables do not say."""
        return self.origin.get("checkpoint", "")

    @property
    def captured(self) -> str | None:
        """Quantities captured by its extraction, comma-joined; None where the tables do not say."""
        return self.origin.get(CAPTURED)

    @property
    def on_gpu(self) -> bool:
        """Whether it ran on a GPU, as far as the tables say."""
        run = json.loads(self.origin.get(EXECUTION) or "{}")
        device = str(run.get("device", "auto"))
        if device == "cpu":
            return False
        return device.startswith("cuda") or run.get("device_map") is not None or not self.embedded

    @property
    def embedded(self) -> bool:
        """Whether it is one of the project's own tiny models."""
        return self.checkpoint.startswith(ZOO_PREFIX)

    def metric(self, predictor: str, metric: str, scope: str) -> ReportedEstimate | None:
        """An estimate of a signal."""
        return self.metrics.get((predictor, metric, scope, NOT_A_LAYER))

    def probe(self, predictor: str, metric: str, scope: str) -> ReportedEstimate | None:
        """An estimate of a probe or guard."""
        return self.probes.get((predictor, metric, scope, NOT_A_LAYER))

    def auroc(self, predictor: str, scope: str = WITHIN_STRATA) -> ReportedEstimate | None:
        """AUROC of a signal or probe."""
        return self.metric(predictor, "auroc", scope) or self.probe(predictor, "auroc", scope)

    def effect(self, intervention: str, condition: str, scope: str = "all") -> Effect | None:
        """An intervention's effect."""
        return self.effects.get((intervention, condition, scope))

    def auroc_by_layer(self) -> dict[int, ReportedEstimate]:
        """AUROC within strata of the linear probe of every layer."""
        rows = {
            layer: number
            for (predictor, metric, scope, layer), number in self.probes.items()
            if (predictor, metric, scope) == (LINEAR, "auroc", WITHIN_STRATA) and layer >= 0
        }
        return dict(sorted(rows.items()))

    def last_layer(self) -> int | None:
        """Number of the last decoder layer, from the probes."""
        layers = self.auroc_by_layer()
        return max(layers) if layers else None

    def peak_layer(self) -> int | None:
        """Layer whose probe has the highest AUROC over all items."""
        defined = {layer: n.value for layer, n in self.auroc_by_layer().items() if n.defined}
        return max(defined, key=lambda layer: defined[layer]) if defined else None

    def main_condition(self, intervention: str, kind: str = "top") -> Condition | None:
        """The condition of a kind that headline numbers are about; None where it was not run."""
        main = self.conditions.main(intervention, kind)
        return None if main is None or self.effect(intervention, main.name) is None else main

    def main_effect(self, intervention: str) -> Effect | None:
        """Effect of the main condition over all items."""
        main = self.main_condition(intervention)
        return None if main is None else self.effect(intervention, main.name)

    def specificity(self, intervention: str, kind: str = "top") -> Effect | None:
        """Top, or another kind, minus random, for the main condition over all items."""
        main = self.main_condition(intervention, kind)
        contrast = self.conditions.contrasts(intervention).get(main.name) if main else None
        return self.effect(intervention, contrast.name) if contrast else None

    def picked_layers(self) -> list[str]:
        """The layers that were picked in some fold, ascending, as text."""
        return [str(layer) for layer in sorted(set(self.best_layers))]

    def signals(self) -> list[str]:
        """Signals that were judged, or said to be not captured, in the registry's order."""
        return [name for name in SIGNALS if self.auroc(name)]

    def strata(self, predictor: str) -> dict[str, ReportedEstimate]:
        """Stratum → a predictor's AUROC in it: tasks, or the forms of answers of a mixed one."""
        scopes = {
            scope: number
            for numbers in (self.metrics, self.probes)
            for (name, metric, scope, layer), number in numbers.items()
            if (name, metric, layer) == (predictor, "auroc", NOT_A_LAYER)
        }
        mixed = {scope.partition(": ")[0] for scope in scopes if ": " in scope}
        return {
            scope: number
            for scope, number in scopes.items()
            if ": " in scope or (scope in self.tasks and scope not in mixed)
        }

    def probe_names(self) -> list[str]:
        """Probes and guards that were judged, or said to be not captured, known ones first; single
        layers left out."""
        found = {
            predictor
            for predictor, metric, _, layer in self.probes
            if metric == "auroc" and layer == NOT_A_LAYER
        }
        known = [name for name in PROBE_LABELS if name in found]
        return known + sorted(found - set(known))


_ANSWERS = ANSWERS.only("answer", "parsed", "correct", "note", "token_ids")
_CONSISTENCY = CONSISTENCY.only(
    "self_consistency",
    "close_draws",
    "expected_consistency_low",
    "expected_consistency_high",
    "unresolved",
)


def evidence_tables() -> tuple[TableSchema, ...]:
    """The tables, or those of their columns, that `model_evidence` reads."""
    return (
        ITEMS, _ANSWERS, signal_table(), PREDICTIONS, METRICS, PROBES, EFFECTS, TRACE_EFFECTS,
        _CONSISTENCY,
    )  # fmt: skip


def model_evidence(model: ModelResults, study: StudyResults) -> ModelEvidence:
    """Read a model's tables, once; what was not run is empty.

    Raises:
        InputError: a table is broken or of another kind.
    """
    kept: tuple[StudyResults, ModelEvidence] | None = model.worked_out.get("evidence")
    if kept is None or kept[0] is not study:  # other margins and conditions
        kept = model.worked_out["evidence"] = (study, _read(model, study))
    return kept[1]


def _read(model: ModelResults, study: StudyResults) -> ModelEvidence:
    items = study.table(ITEMS)
    answers = model.table(_ANSWERS)
    predictions, signals = model.table(PREDICTIONS), model.table(signal_table())
    origin = read_provenance(path) if (path := next(iter(model.paths(ANSWERS)), None)) else {}
    best = predictions.filter(probe=LINEAR_BEST).unique(["fold", "layer"]).sort("fold")["layer"]
    metrics, probes = _estimates(model.table(METRICS)), _estimates(model.table(PROBES))
    return ModelEvidence(
        name=model.name,
        margins=study.margins,
        family=origin.get("family", ""),
        origin=origin,
        metrics=metrics,
        probes=probes,
        effects={
            (row["intervention"], row["condition"], row["scope"]): Effect.from_row(row)
            for row in study.table(EFFECTS).filter(model=model.name).iter_rows(named=True)
        },
        conditions=study.conditions,
        traces=_traces(study.table(TRACE_EFFECTS).filter(model=model.name)),
        contrasts=probe_contrasts(signals, predictions),
        beyond_baselines=baseline_contrasts(signals, predictions),
        short_of=cache(partial(against, signals, predictions)),
        beyond_output=beyond_output(signals, predictions, margin=study.margins.auroc),
        signal_means={name: _mean(signals[name]) for name in SIGNALS if len(signals)},
        best_layers=tuple(layer for layer in best.to_list() if layer != NOT_A_LAYER),
        tasks=tuple(ordered_tasks(items)),
        k=_n_samples(model),
        answer_tokens=_mean(answers["token_ids"].list.len().cast(pl.Float64)),
        consistency=model.table(_CONSISTENCY).join(
            items.select("item_id", "group"), on="item_id", how="inner"
        ),
        answers=items.join(answers.drop("token_ids"), on="item_id", how="inner", suffix="_given"),
    )


def _traces(table: pl.DataFrame) -> dict[str, list[TracedLayers]]:
    found: dict[str, list[TracedLayers]] = {}
    for row in table.sort("kind", "layer").iter_rows(named=True):
        share = ReportedEstimate(
            row["share"], row["low"], row["high"], n=row["n"], n_groups=row["n_groups"],
            n_dropped=row["n_dropped"], note=row["note"] or "",
        )  # fmt: skip
        layers = TracedLayers(row["layer"], row["last_layer"], share, row["same_token"])
        found.setdefault(row["kind"], []).append(layers)
    return found


def _estimates(table: pl.DataFrame) -> dict[Key, ReportedEstimate]:
    rows = table.iter_rows(named=True)
    keys = ("predictor", "metric", "scope", "layer")
    return {tuple(row[key] for key in keys): ReportedEstimate.from_row(row) for row in rows}


def _mean(values: pl.Series) -> float:
    mean = values.fill_nan(None).mean()
    return math.nan if mean is None else float(mean)  # type: ignore[arg-type]


def _n_samples(model: ModelResults) -> int:
    """Sampled answers of the first item; one shard tells."""
    first = read_table(model.paths(CONSISTENCY)[:1], CONSISTENCY.only("normalised"))["normalised"]
    return len(first[0]) if len(first) else 0
