"""The report's numbers for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from vrp.estimates.reported import ReportedEstimate, plain
from vrp.findings.contrasts import OUTPUT_SIGNALS
from vrp.findings.evidence import ModelEvidence
from vrp.findings.guards import guards
from vrp.findings.published_numbers import CHECKPOINTS, PUBLISHED
from vrp.probing.labels import LINEAR, LINEAR_BEST
from vrp.report.accounting import split_counts, versions
from vrp.report.conclusions import Conclusion
from vrp.report.decision import Decision, decision_lines
from vrp.report.evidence import StudyEvidence
from vrp.report.split_rates import split_rates
from vrp.signals.registry import ON_OBJECT
from vrp.tables.estimates import (
    MACRO,
    OBJECT_AREA,
    OBJECT_EXCESS,
    POOLED,
    WITHIN_ANSWERS,
    WITHIN_STRATA,
)
from vrp.tables.items import asked_items

_JOINT = (WITHIN_STRATA, WITHIN_ANSWERS, MACRO)
FORMAT = 2
"""Raised when a key changes its meaning."""
_CORRELATED = {
    "C_k": "cluster_count_dbscan",
    "H_s": "spatial_entropy",
    "S_SC": "self_consistency",
}


def study_summary(
    study: StudyEvidence,
    decisions: Sequence[Decision],
    conclusions: Sequence[Conclusion],
    pooled: Mapping[str, ReportedEstimate],
    *,
    provenance: Mapping[str, str],
) -> dict[str, Any]:
    """Headline numbers in plain data; what was not run or is undefined is null.

    Shares lie between 0 and 1, effects are in percentage points.

    Args:
        study: what the tables say.
        decisions: of each model.
        conclusions: the four sentences.
        pooled: correlations over all models.
        provenance: of the report itself.
    """
    summary = {
        "format": FORMAT,
        "study": study.study,
        "in_short": decision_lines(study.study, decisions),
        "decisions": {decision.model: decision.as_json() for decision in decisions},
        "answers": [
            {
                "question": conclusion.question,
                "sentence": conclusion.sentence,
                "brief": conclusion.brief,
                "short": conclusion.lead,
                "verdicts": {model: str(verdict) for model, verdict in conclusion.verdicts.items()},
                "reasons": dict(conclusion.reasons),
            }
            for conclusion in conclusions
        ],
        "items": _items(study),
        "models": {
            model.name: _model(model) | {"by_split": _by_split(study, model)}
            for model in study.models
        },
        "differences_between_models": [
            {
                "models": models.split(" - "),
                "intervention": intervention,
                "condition": condition,
                "difference": found.effect.as_json(),
            }
            for (models, intervention, condition), found in study.between_models.items()
        ],
        "pooled_over_models": {
            f"R({name})": _json(pooled.get(signal)) for name, signal in _CORRELATED.items()
        },
        "published": {
            "checkpoints": CHECKPOINTS,
            "numbers": [number._asdict() for number in PUBLISHED],
        },
        "data": study.data,
        "sampling": list(study.sampling),
        "versions": versions(study, provenance),
        "provenance": [dict(origin) for origin in (*study.origins, provenance)],
    }
    return {key: plain(value) for key, value in summary.items()}


def _items(study: StudyEvidence) -> dict[str, Any]:
    counts = split_counts(study.items).rename({"images": "n_images"})
    return {
        "n": len(study.items),
        "n_asked": len(asked_items(study.items)),
        "n_images": study.items["group"].n_unique(),
        "splits": counts.to_dicts(),
    }


def _by_split(study: StudyEvidence, model: ModelEvidence) -> dict[str, Any]:
    """Rates of the splits of tasks that have several."""
    return {
        split: {name: _json(rate) for name, rate in rates.items()}
        for split, rates in split_rates(study, model).items()
    }


def _model(model: ModelEvidence) -> dict[str, Any]:
    scopes = (*model.tasks, "pooled")
    return {
        "family": model.family or None,
        "checkpoint": model.checkpoint or None,
        "revision": model.origin.get("revision") or None,
        "captured": _captured(model),
        "n_answers": len(model.answers),
        "noted": _notes(model),
        **{
            metric: {scope: _json(model.metric("model", metric, scope)) for scope in scopes}
            for metric in ("accuracy", "parse_rate")
        },
        "yes_rate": _json(model.metric("model", "yes_rate", "existence")),
        "accuracy_official": _json(model.metric("model", "accuracy_official", "existence")),
        "accuracy_by_answer": {
            answer: _json(model.metric("model", "accuracy", f"answer_{answer}"))
            for answer in ("yes", "no")
        },
        "auroc": {
            name: {scope: _json(model.auroc(name, scope)) for scope in (*_JOINT, *scopes)}
            for name in (*model.signals(), *model.probe_names())
        },
        "correlation": {name: _correlation(model, name) for name in _CORRELATED},
        ON_OBJECT: {
            metric: _json(model.metric(ON_OBJECT, metric, POOLED))
            for metric in (OBJECT_AREA, OBJECT_EXCESS)
        },
        "precision_unanimous": {
            scope: _json(model.metric("self_consistency", "precision_unanimous", scope))
            for scope in scopes
        },
        "probe": _probe(model),
        "guards": {
            guard.name: {"outcome": guard.outcome, "measure": guard.measure,
                         "stratum": guard.where or None, "estimate": _json(guard.number)}
            for guard in guards(model)
        },
        "interventions": _interventions(model),
        "traces": {
            kind: [{"layer": one.first, "last_layer": one.last, "same_token": one.same_token,
                    "share": _json(one.share)} for one in found]
            for kind, found in model.traces.items()
        },
    }  # fmt: skip


def _captured(model: ModelEvidence) -> list[str] | None:
    if model.captured is None:
        return None
    return model.captured.split(",") if model.captured else []


def _notes(model: ModelEvidence) -> dict[str, int]:
    notes = model.answers["note"].drop_nulls()
    return {note: int((notes == note).sum()) for note in sorted(notes.unique().to_list())}


def _correlation(model: ModelEvidence, name: str) -> dict[str, Any]:
    signal = _CORRELATED[name]
    return {
        "pooled_fisher": _json(model.metric(signal, "r_fisher", "pooled")),
        "pooled_by_image": _json(model.metric(signal, "r", "pooled")),
        "within_strata": _json(model.metric(signal, "r", WITHIN_STRATA)),
    }


def _probe(model: ModelEvidence) -> dict[str, Any]:
    rivals = {name: _json(model.contrasts.get(name)) for name in OUTPUT_SIGNALS}
    return {
        "best": _json(model.auroc(LINEAR_BEST)),
        "best_layer_by_fold": list(model.best_layers),
        "peak_layer": model.peak_layer(),
        "auroc_by_layer": {
            str(layer): number.as_json() for layer, number in model.auroc_by_layer().items()
        },
        "minus_output_signal": rivals,
        "beyond_output": _json(model.beyond_output),
        **{
            name: number.value if (number := model.probe(predictor, name, scope)) else None
            for predictor, name, scope in (
                (LINEAR, "layers_within_0.02", WITHIN_STRATA),
                ("sparse", "share_nonzero", "pooled"),
                ("sparse", "weight_share_top_5", "pooled"),
            )
        },
    }


def _interventions(model: ModelEvidence) -> dict[str, Any]:
    found: dict[str, Any] = {
        kind: {
            "main_condition": main.name if (main := model.main_condition(kind)) else None,
            "specificity": gap.as_json() if (gap := model.specificity(kind)) else None,
            "conditions": {},
        }
        for kind in ("mask", "ablate")
    }
    for (kind, condition, scope), effect in sorted(model.effects.items()):
        found[kind]["conditions"].setdefault(condition, {})[scope] = effect.as_json()
    return found


def _json(number: ReportedEstimate | None) -> dict[str, Any] | None:
    return None if number is None else number.as_json()
