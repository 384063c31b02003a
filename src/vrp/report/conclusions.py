"""The study's conclusions in four sentences, computed from its numbers, whichever way they fall.

What a claim may say is decided in `vrp.estimates.verdicts`; here it is put into words.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scipy.stats import norm

from vrp.estimates.predictors import predictor_label
from vrp.estimates.recipes import ALL_RECIPES, MEAN_AUROC, SHARE_DIFFERING
from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import (
    Guard,
    Judgement,
    Outcome,
    Standing,
    Verdict,
    differs_noticeably,
    judge,
    size_of,
    standing,
)
from vrp.findings.evidence import BetweenModels, ModelEvidence, TracedLayers
from vrp.findings.guards import claim_of
from vrp.interventions.ablation import AblationCondition
from vrp.interventions.tracing import KNOCKOUT_IMAGE, KNOCKOUT_TEXT, PATCH
from vrp.probing.labels import LINEAR_BEST
from vrp.report.claim_words import smallest_detectable, verdict_cell
from vrp.report.numbers import (
    decimal,
    layers_in_words,
    listed,
    number_word,
    percent,
    points,
    with_interval,
)
from vrp.report.verdict_sentences import Finding, Wording, clauses, short_answer
from vrp.signals.registry import ON_OBJECT, SIGNALS, attention_signals
from vrp.stats.clusters import TOO_FEW
from vrp.stats.estimate import ALPHA
from vrp.stats.heterogeneity import interaction_p
from vrp.tables.estimates import OBJECT_EXCESS, POOLED, WITHIN_STRATA

_WHOLE = 100.0  # percentage points: a larger effect there cannot be
RESTORED = 0.8
"""Share of what the image adds, from which on a state counts as holding the answer."""
SUPERVISED_ATTENTION = ("attention_trees", "attention_mlp")


class Conclusion(NamedTuple):
    """The answer to one question of the study."""

    question: str
    lead: str
    """The short answer that opens the sentence."""
    clauses: tuple[str, ...]
    """The rest of it, with the numbers."""
    verdicts: dict[str, Verdict]
    """Model → what its numbers say."""
    brief: str
    """The answer and its strongest number, in one short sentence."""
    guards: Mapping[str, Sequence[Guard]]
    """Model → the guards of the estimate that decides, where it differs from chance: what does not
    needs no guard."""
    reasons: Mapping[str, str]
    """Model → what its verdict rests on, in a few words."""

    @property
    def body(self) -> str:
        """All clauses in one sentence."""
        return "; ".join(self.clauses)

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        return f"{self.lead}: {self.body}."


def _conclude(
    question: str,
    models: Sequence[ModelEvidence],
    findings: Sequence[Finding],
    parts: Iterable[str],
    *,
    remark: str = "",
) -> Conclusion:
    verdicts = {finding.model: Verdict(finding.verdict) for finding in findings}
    told = tuple(part for part in parts if part)
    lead = short_answer(findings, differ=_one_signal_differs(models, findings)) + remark
    guards = {
        finding.model: finding.guards
        for finding in findings
        if finding.number is not None and differs_noticeably(finding.number)
    }
    reasons = {finding.model: _in_few_words(finding) for finding in findings}
    return Conclusion(question, lead, told, verdicts, _brief(lead, findings), guards, reasons)


def _in_few_words(finding: Finding) -> str:
    """Which predictor decides, and its AUROC; or what could have been found."""
    number = finding.number
    if number is None or not finding.what:
        return ""
    named = f"{finding.what}, AUROC {decimal(number.value)}"
    if differs_noticeably(number):
        return named
    if finding.verdict is Verdict.NO:
        return f"no better than chance; the strongest is {named}"
    parts = [f"too little data; the strongest is {named}", smallest_detectable(number)]
    return "; ".join(filter(None, parts))


def _one_signal_differs(models: Sequence[ModelEvidence], findings: Sequence[Finding]) -> bool:
    """Whether a signal that decides for one of the models tells more for some than for others.

    Each is compared with itself over all models; corrected after Bonferroni for how many there are.
    """
    names = {finding.predictor for finding in findings if finding.predictor}
    p = []
    for name in names:
        numbers = [number for model in models if (number := model.auroc(name)) is not None]
        p.append(interaction_p([one.value for one in numbers], [one.se for one in numbers]))
    return any(len(names) * one < ALPHA for one in p)


def _brief(lead: str, findings: Sequence[Finding]) -> str:
    """Add the strongest AUROC of all models to the short answer."""
    known = [finding for finding in findings if finding.number is not None and finding.what]
    if not known:
        return f"{lead}."
    strongest = max(known, key=lambda one: abs(_value(one) - 0.5))
    value = _value(strongest)
    return (
        f"{lead}. Strongest: {strongest.what} in {strongest.model}, AUROC {decimal(value)} "
        f"({size_of(value)})."
    )


def _value(finding: Finding) -> float:
    return finding.number.value if finding.number is not None else math.nan


def four_conclusions(
    models: Sequence[ModelEvidence], between_models: BetweenModels | None = None
) -> list[Conclusion]:
    """Answer the study's four questions.

    Args:
        models: what the tables say of each model; anything may be missing.
        between_models: how far the interventions' effects on two models differ.
    """
    return [
        conclude_attention(models),
        conclude_generation(models),
        conclude_hidden_states(models),
        conclude_interventions(models, between_models),
    ]


# 1. Attention maps


_ATTENTION = {
    Verdict.YES: Wording("attention does tell right from wrong in {models}"),
    Verdict.NO: Wording("no attention signal tells right from wrong in {models}"),
    Verdict.UNDECIDED: Wording("it is undecided in {models}"),
    Verdict.TOO_FEW: Wording("there are too few right or wrong answers in {models}"),
    Verdict.NOT_RUN: Wording("attention was not judged in {models}"),
    Verdict.NOT_CAPTURED: Wording("attention was not captured in {models}"),
}
_CORRELATION = {
    Verdict.YES: Wording("within strata, H_s or C_k correlates with correctness in {models}"),
    Verdict.NO: Wording(
        "within strata, the correlations of H_s and C_k with correctness are equivalent to zero in "
        "{models}",
        "they are equivalent to zero in {models}",
    ),
    Verdict.UNDECIDED: Wording(
        "within strata, a correlation of H_s or C_k with correctness is neither shown nor excluded "
        "in {models}",
        "it is neither shown nor excluded in {models}",
    ),
}


def conclude_attention(models: Sequence[ModelEvidence]) -> Conclusion:
    """Can attention maps tell right answers from wrong ones?

    Judged on every attention signal and every model trained on attention; AUROC within strata.
    """
    findings = [_attention(model) for model in models]
    correlations = [finding for model in models if (finding := _correlations(model))]
    return _conclude(
        "Can attention maps tell right answers from wrong ones?",
        models,
        findings,
        [
            clauses(findings, _ATTENTION),
            _form_clause(models),
            _recipes_clause(models),
            _object_clause(models),
            clauses(correlations, _CORRELATION),
        ],
    )


def _attention(model: ModelEvidence) -> Finding:
    return _finding(model, _attention_predictors())


def _attention_predictors() -> list[str]:
    return [*attention_signals(), *SUPERVISED_ATTENTION]


def _form_clause(models: Sequence[ModelEvidence]) -> str:
    """Name what differs from chance over a task that mixes forms, and not within its forms.

    Of each model the read-out that differs most, and how many others there are.
    """
    parts = []
    for model in models:
        found = {
            name: by_form
            for name in _attention_predictors()
            if (by_form := _explained_by_form(model, name)) is not None
        }
        if not found:
            continue
        name = max(found, key=lambda one: abs(found[one].over_all.value - 0.5))
        task, over_all, forms = found[name]
        others = f" and {number_word(len(found) - 1)} more" if len(found) > 1 else ""
        within = listed([f"{with_interval(one)} among {form}" for form, one in forms.items()])
        parts.append(
            f"{predictor_label(name)}{others} in {model.name} ({with_interval(over_all)} over all "
            f"questions of {task}, {within})"
        )
    if not parts:
        return ""
    return (
        f"the form of the question, rather than correctness, explains the AUROC of {listed(parts)}"
    )


class _ByForm(NamedTuple):
    """AUROC over a task that mixes forms of answers, and within each of them."""

    task: str
    over_all: ReportedEstimate
    forms: dict[str, ReportedEstimate]
    """Form → AUROC; those that are too small are left out."""


def _explained_by_form(model: ModelEvidence, name: str) -> _ByForm | None:
    """The task in which a read-out tells the forms of questions apart and, within one, nothing.

    It differs from chance over the task, and in each form its interval lies nearer to chance than
    that over the task does.
    """
    strata = model.strata(name)
    for task in model.tasks:
        over_all = model.auroc(name, task)
        forms = {
            scope.partition(": ")[2]: one
            for scope, one in strata.items()
            if scope.startswith(f"{task}: ") and one.defined
        }
        if over_all is None or not forms or not differs_noticeably(over_all):
            continue
        rises = over_all.value > 0.5
        if all(
            not differs_noticeably(one)
            and (one.high < over_all.low if rises else one.low > over_all.high)
            for one in forms.values()
        ):
            return _ByForm(task, over_all, forms)
    return None


def _recipes_clause(models: Sequence[ModelEvidence]) -> str:
    """Say what all recipes of attention show together."""
    parts = []
    for model in models:
        mean = model.metric(ALL_RECIPES, MEAN_AUROC, WITHIN_STRATA)
        share = model.metric(ALL_RECIPES, SHARE_DIFFERING, WITHIN_STRATA)
        if mean is not None and share is not None and mean.defined:
            parts.append(
                f"{with_interval(mean)} in {model.name} ({round(share.value * share.n)} of "
                f"{share.n} recipes differ from 0.5)"
            )
    return f"over all recipes of attention, the mean AUROC is {listed(parts)}" if parts else ""


def _object_clause(models: Sequence[ModelEvidence]) -> str:
    """Say whether attention lies on the object that is asked for, and whether that tells."""
    parts = []
    for model in models:
        excess = model.metric(ON_OBJECT, OBJECT_EXCESS, POOLED)
        if excess is None or not excess.defined:
            continue
        auroc = model.auroc(ON_OBJECT)
        tells = ""
        if auroc is not None and auroc.defined:
            tells = f"AUROC {with_interval(auroc)}: {verdict_cell(model, ON_OBJECT).text}"
        parts.append(
            f"{with_interval(excess, 1, scale=100, signed=True, unit=' pp')} in {model.name}"
            f"{f' ({tells})' if tells else ''}"
        )
    if not parts:
        return ""
    return (
        "the share of attention on the object that the question asks for, minus the object's share "
        f"of the image, is {listed(parts)}; it needs the objects’ boxes, so it is not one of the "
        "attention signals above"
    )


def _finding(model: ModelEvidence, names: Sequence[str]) -> Finding:
    """Verdict on a set of predictors, with the numbers of the one that decides."""
    claims = {name: claim for name in names if (claim := claim_of(model, name)) is not None}
    judgement = judge(claims)
    if judgement.claim is None:
        return Finding(model.name, judgement.verdict)
    number = judgement.claim.number
    n_estimated = sum(claim.number.defined for claim in claims.values())
    return Finding(
        model.name, judgement.verdict, _reason(judgement, n_estimated), number,
        predictor_label(judgement.predictor), judgement.claim.guards, judgement.predictor,
    )  # fmt: skip


def _reason(judgement: Judgement, n_claims: int) -> str:
    """Numbers behind a verdict: size, estimate, guards, and what could have been resolved."""
    claim = judgement.claim
    assert claim is not None
    number = claim.number
    parts = [f"{predictor_label(judgement.predictor)}, {_sized(number)}"]
    if differs_noticeably(number):
        parts[0] += _wrong_direction_note(number)
        parts += [
            f"{text} {listed(names)}"
            for outcome, text in _GUARD_WORDS.items()
            if (names := [_guard_words(one) for one in claim.guards if one.outcome is outcome])
        ]
        return "; ".join(parts)
    if n_claims > 1:
        parts[0] = f"strongest of {n_claims}: {parts[0]}"
    if judgement.verdict is Verdict.UNDECIDED and math.isfinite(number.resolvable):
        parts.append(f"smallest detectable AUROC {decimal(0.5 + number.resolvable)}")
    return "; ".join(parts)


def _guard_words(guard: Guard) -> str:
    """A guard's name; of one that is not settled, with what could have been found."""
    resolvable = math.nan if guard.number is None else guard.number.resolvable
    if guard.outcome is not Outcome.UNSETTLED or not math.isfinite(resolvable):
        return guard.name
    found = f"+{decimal(resolvable)}" if guard.baseline else f"AUROC {decimal(0.5 + resolvable)}"
    return f"{guard.name} (smallest detectable {found})"


_GUARD_WORDS = {
    Outcome.HOLDS: "guards passed:",
    Outcome.FAILS: "failed:",
    Outcome.UNSETTLED: "undecided:",
    Outcome.NOT_RUN: "not tested:",
}


def _sized(number: ReportedEstimate) -> str:
    return f"{size_of(number.value)}, {_auroc(number)}"


def _wrong_direction_note(number: ReportedEstimate | None) -> str:
    return ", against the expected direction" if number is not None and number.value < 0.5 else ""


def _correlations(model: ModelEvidence) -> Finding | None:
    """The papers' own measure: R of H_s and C_k with correctness, centred within strata."""
    numbers = {
        "R(H_s)": model.metric("spatial_entropy", "r", WITHIN_STRATA),
        "R(C_k)": model.metric("cluster_count_dbscan", "r", WITHIN_STRATA),
    }
    found = {standing(number, null=0.0) for number in numbers.values()}
    if found & {Standing.MISSING, Standing.TOO_FEW}:
        return None
    verdict = Verdict.UNDECIDED
    if found & {Standing.ABOVE, Standing.BELOW}:
        verdict = Verdict.YES
    elif found == {Standing.EQUIVALENT}:
        verdict = Verdict.NO
    details = (f"{name} {with_interval(number)}" for name, number in numbers.items() if number)
    return Finding(model.name, verdict, ", ".join(details))


# 2. Generation dynamics

_GENERATION = {
    Verdict.YES: Wording("a generation signal tells right from wrong in {models}"),
    Verdict.NO: Wording("no generation signal tells right from wrong in {models}"),
    Verdict.UNDECIDED: Wording("it is undecided in {models}"),
    Verdict.TOO_FEW: Wording("there are too few right or wrong answers in {models}"),
    Verdict.NOT_RUN: Wording("the generation was not judged in {models}"),
}


def conclude_generation(models: Sequence[ModelEvidence]) -> Conclusion:
    """Can confidence or self-consistency tell right answers from wrong ones?"""
    findings = [_generation(model) for model in models]
    return _conclude(
        "Can confidence or self-consistency tell right answers from wrong ones?",
        models,
        findings,
        [clauses(findings, _GENERATION), _precision_clause(models)],
    )


def _generation(model: ModelEvidence) -> Finding:
    behavioural = [name for name, signal in SIGNALS.items() if signal.kind == "behavioural"]
    finding = _finding(model, behavioural)
    agreement = model.auroc("self_consistency")
    shown = predictor_label("self_consistency")
    if agreement is None or not agreement.defined or shown in finding.detail:
        return finding
    return finding._replace(detail=f"{finding.detail}; {shown}, {_sized(agreement)}")


def _precision_clause(models: Sequence[ModelEvidence]) -> str:
    parts = []
    for model in models:
        precision = model.metric("self_consistency", "precision_unanimous", "pooled")
        accuracy = model.metric("model", "accuracy", "pooled")
        if precision is not None and precision.defined:
            overall = f" against {percent(accuracy)} overall" if accuracy is not None else ""
            parts.append(f"{percent(precision)}{overall} in {model.name}")
    if not parts:
        return ""
    ks = {model.k for model in models if model.k}
    how_many = f"all {ks.pop()}" if len(ks) == 1 else "all"
    return f"if {how_many} sampled answers agree, the share of right answers is {listed(parts)}"


# 3. Hidden states

_HIDDEN_STATES = {
    Verdict.YES: Wording("a linear probe of the best layer tells right from wrong in {models}"),
    Verdict.NO: Wording(
        "a linear probe of the best layer does not tell right from wrong in {models}",
        "it does not in {models}",
    ),
    Verdict.UNDECIDED: Wording(
        "whether a linear probe of the best layer tells right from wrong is undecided in {models}",
        "it is undecided in {models}",
    ),
    Verdict.TOO_FEW: Wording("there are too few right or wrong answers in {models}"),
    Verdict.NOT_RUN: Wording("hidden states were not probed in {models}"),
}
_BEYOND = {
    Standing.ABOVE: Wording("it improves on the output signals in {models}"),
    Standing.EQUIVALENT: Wording(
        "it improves on the output signals at most negligibly in {models}",
        "at most negligibly in {models}",
    ),
    Standing.BELOW: Wording(
        "adding it makes the output signals worse in {models}", "worse in {models}"
    ),
    Standing.UNSETTLED: Wording(
        "whether it improves on the output signals is undecided in {models}",
        "this is undecided in {models}",
    ),
    Standing.TOO_FEW: Wording("there are too few answers to compare it in {models}"),
    Standing.MISSING: Wording("it was not compared with the output signals in {models}"),
}


def conclude_hidden_states(models: Sequence[ModelEvidence]) -> Conclusion:
    """Can hidden states tell right from wrong, beyond the output signals and the guards?"""
    findings = [_hidden(model) for model in models]
    beyond = [
        _beyond(model)
        for model, finding in zip(models, findings, strict=True)
        if finding.number is not None
    ]
    remark = ""
    if {finding.verdict for finding in findings} == {Verdict.YES}:
        remark = _beyond_remark(beyond)
    return _conclude(
        "Can hidden states tell right answers from wrong ones, beyond the output signals, and do "
        "they pass the guards?",
        models,
        findings,
        [clauses(findings, _HIDDEN_STATES), clauses(beyond, _BEYOND)],
        remark=remark,
    )


def _hidden(model: ModelEvidence) -> Finding:
    finding = _finding(model, (LINEAR_BEST,))
    layers = model.picked_layers()
    if finding.number is None or not layers:
        return finding
    return finding._replace(detail=f"{finding.detail}; {layers_in_words(layers)}")


def _beyond(model: ModelEvidence) -> Finding:
    """What the probe adds to the fusion of the output signals: the nested increment."""
    gain = model.beyond_output
    where = standing(gain, null=0.0)
    if gain is None or not gain.defined:
        return Finding(model.name, where)
    detail = f"AUROC {with_interval(gain, signed=True)}"
    if where is Standing.EQUIVALENT:
        detail += f", within ±{decimal(model.margins.auroc)}"
    if where is Standing.UNSETTLED:
        detail += f"; smallest detectable gain {decimal(gain.resolvable)}"
    return Finding(model.name, where, detail)


def _beyond_remark(beyond: Sequence[Finding]) -> str:
    where = {finding.verdict for finding in beyond}
    if where == {Standing.ABOVE}:
        return ", and better than the output signals alone"
    if where and where <= {Standing.EQUIVALENT, Standing.BELOW}:
        return ", but at most negligibly better than the output signals alone"
    if where and not where & {Standing.ABOVE, Standing.MISSING, Standing.TOO_FEW}:
        return ", but not shown to be better than the output signals alone"
    return ""


# 4. Interventions


def _specificity_wordings(what: str, as_many: str, absent: str) -> dict[Verdict, Wording]:
    return {
        Verdict.YES: Wording(f"{what} costs more than {as_many} in {{models}}"),
        Verdict.NO: Wording(
            f"{what} costs at most negligibly more than {as_many} in {{models}}",
            "at most negligibly more in {models}",
        ),
        Verdict.UNDECIDED: Wording(
            f"whether {what} costs more than {as_many} is undecided in {{models}}",
            "this is undecided in {models}",
        ),
        Verdict.NOT_RUN: Wording(f"{absent} in {{models}}"),
    }


_PATCHES = _specificity_wordings(
    "hiding the most attended image tokens", "hiding as many random ones", "no patches were hidden"
)
_NEURONS = _specificity_wordings(
    "ablating the probe’s top neurons", "ablating as many random ones", "no neurons were ablated"
)


def _beyond_wordings(what: str, as_many: str, equal: str) -> dict[Standing, Wording]:
    """Words for what hiding something costs beyond as much at random."""
    return {
        Standing.BELOW: Wording(f"hiding {what} costs more than {as_many} in {{models}}"),
        Standing.ABOVE: Wording(
            f"hiding {what} costs less than {as_many} in {{models}}", "less in {models}"
        ),
        Standing.EQUIVALENT: Wording(
            f"hiding {what} costs {equal}, within the equivalence margin, in {{models}}",
            "as much, within the equivalence margin, in {models}",
        ),
        Standing.UNSETTLED: Wording(
            f"whether hiding {what} costs more than {as_many} is undecided in {{models}}",
            "this is undecided in {models}",
        ),
    }


_LEAST_ATTENDED = _beyond_wordings(
    "the least attended image tokens",
    "hiding as many random ones",
    "as much as hiding as many random ones",
)
_OBJECT = _beyond_wordings(
    "the object that the question asks for", "hiding as many random patches",
    "as much as hiding as many random patches",
)  # fmt: skip
_STEERING = {
    Verdict.YES: Wording(
        "the model uses the probe’s direction: moving the state along it changes accuracy, and "
        "more than moving it along a random direction, in {models}",
    ),
    Verdict.NO: Wording(
        "the model does not use the probe’s direction, although it can be read: moving the state "
        "along it changes accuracy at most negligibly in {models}",
    ),
    Verdict.UNDECIDED: Wording(
        "whether the model uses the probe’s direction is undecided in {models}",
        "this is undecided in {models}",
    ),
}


def conclude_interventions(
    models: Sequence[ModelEvidence], between_models: BetweenModels | None = None
) -> Conclusion:
    """Does the answer depend on the attended patches, or on few neurons?

    Judged on specificity: what the top ones cost more than as many random ones. Yes: they cost
    more. No: equivalence within the study's margin, or the random ones cost more.
    """
    patches = [_specific(model, "mask") for model in models]
    neurons = [_specific(model, "ablate") for model in models]
    of_patches, of_neurons = (
        short_answer(found, differ=_differ(models, intervention, between_models or {}))
        for found, intervention in ((patches, "mask"), (neurons, "ablate"))
    )
    least = _beyond_random(models, "bottom")
    lead = f"{of_patches}, for both attended patches and few neurons"
    if of_patches != of_neurons:
        first, second = (text[:1].lower() + text[1:] for text in (of_patches, of_neurons))
        lead = f"Attended patches: {first}; few neurons: {second}"
    return Conclusion(
        "Does the answer depend on the attended patches, or on a few neurons?",
        lead,
        tuple(
            filter(
                None,
                [
                    clauses(patches, _PATCHES),
                    clauses(least, _LEAST_ATTENDED),
                    clauses(_beyond_random(models, "object"), _OBJECT),
                    clauses(neurons, _NEURONS),
                    clauses([found for one in models if (found := _steered(one))], _STEERING),
                    _trace_clause(models),
                ],
            )
        ),
        {
            patch.model: _joint({patch.verdict, neuron.verdict})
            for patch, neuron in zip(patches, neurons, strict=True)
        },
        _brief_effect(lead, [*patches, *neurons], least),
        {},
        {
            patch.model: f"attended patches: {patch.verdict}; few neurons: {neuron.verdict}"
            for patch, neuron in zip(patches, neurons, strict=True)
        },
    )


def _brief_effect(lead: str, findings: Sequence[Finding], least: Sequence[Finding]) -> str:
    """Add the largest specificity of all models to the short answer, and what contradicts it: that
    hiding the least attended tokens costs more than random ones."""
    known = [finding for finding in findings if finding.number is not None and finding.what]
    if not known:
        return f"{lead}."
    largest = max(known, key=lambda one: abs(_value(one)))
    text = f"{lead}. Largest: {largest.what} in {largest.model}, {_points_beyond(largest)}."
    costly = [finding for finding in least if finding.verdict is Standing.BELOW]
    if costly:
        most = min(costly, key=_value)
        text += f" In {most.model} the least attended ones matter: {_points_beyond(most)}."
    return text


def _points_beyond(finding: Finding) -> str:
    return f"{decimal(_value(finding), 1, signed=True)} pp beyond random"


def _differ(
    models: Sequence[ModelEvidence], intervention: str, between_models: BetweenModels
) -> bool | None:
    """Whether the specificity differs between two models, item by item; None: not compared."""
    mains = (model.main_condition(intervention) for model in models)
    main = next((one for one in mains if one is not None), None)
    if main is None or main.name not in (contrasts := models[0].conditions.contrasts(intervention)):
        return None
    name = contrasts[main.name].name
    found = [
        effect.effect
        for (_, kind, condition), effect in between_models.items()
        if (kind, condition) == (intervention, name)
    ]
    # One claim over all pairs of models: Bonferroni's correction for how many there are.
    corrected = [one._replace(p_adjusted=min(1.0, len(found) * one.p_adjusted)) for one in found]
    return any(standing(one, null=0.0).differs for one in corrected) if found else None


def _joint(verdicts: set[Verdict | Standing]) -> Verdict:
    """Combine the verdicts on patches and neurons: yes if either is, no only if both are."""
    for verdict in (Verdict.YES, Verdict.UNDECIDED):
        if verdict in verdicts:
            return verdict
    return Verdict.NOT_RUN if verdicts == {Verdict.NOT_RUN} else Verdict.NO


def _trace_clause(models: Sequence[ModelEvidence]) -> str:
    """Say in which layers the image enters the answer, and from which on its state suffices."""
    parts = []
    for model in models:
        found = [
            *(_window_words(model.traces.get(kind, ()), to) for kind, to in _LOOKS_AT.items()),
            _patch_words(model.traces.get(PATCH, ())),
        ]
        if any(found):
            parts.append(f"in {model.name}, {listed([words for words in found if words])}")
    if not parts:
        return ""
    return (
        "the image adds to the margin of the answer's first token, compared with a blank image; "
        f"shares of this contribution: {'; '.join(parts)}"
    )


_LOOKS_AT = {KNOCKOUT_TEXT: "the question", KNOCKOUT_IMAGE: "the image"}


def _window_words(windows: Sequence[TracedLayers], what: str) -> str:
    """The window without whose attention least is left, of those shown to leave less than all.

    What is shown is corrected, after Bonferroni, for the number of windows; the interval is its
    own.
    """
    defined = [window for window in windows if window.share.defined]
    if not defined:
        return ""
    wider = float(norm.ppf(1 - ALPHA / 2 / len(defined)) / norm.ppf(1 - ALPHA / 2))
    needed = [
        window
        for window in defined
        if window.share.value + wider * (window.share.high - window.share.value) < 1
    ]
    if not needed:
        return (
            f"the last token's attention to {what} is not shown to be needed in any single window "
            "of layers"
        )
    most = min(needed, key=lambda window: window.share.value)
    layers = layers_in_words([str(n) for n in sorted({most.first, most.last})])
    if most.last > most.first + 1:
        layers = f"layers {most.first} to {most.last}"
    return f"{percent(most.share)} is left without the last token's attention to {what} in {layers}"


def _patch_words(patches: Sequence[TracedLayers]) -> str:
    """The first layer from which on the last token's state restores most; not the last layer,
    of which it is true by construction."""
    defined = [one for one in patches if one.share.defined and TOO_FEW not in one.share.note]
    # The last layer restores all of every item, and has no interval.
    short = [
        patch.first
        for patch in defined
        if not (patch.share.low if math.isfinite(patch.share.low) else patch.share.value)
        >= RESTORED
    ]
    later = [patch for patch in defined if patch.first > max(short, default=-1)]
    if not later or later[0].first == defined[-1].first:
        return ""
    return f"the last token's state after layer {later[0].first} restores {percent(later[0].share)}"


def _beyond_random(models: Sequence[ModelEvidence], kind: str) -> list[Finding]:
    """What hiding tokens of a kind costs beyond hiding random ones, if it was run."""
    found = []
    for model in models:
        gap = model.specificity("mask", kind)
        if gap is not None and gap.effect.defined:
            where = standing(gap.effect, null=0.0)
            numbers = f"difference {points(gap.effect)}{_smallest_found(gap.effect)}"
            found.append(Finding(model.name, where, numbers, gap.effect))
    return found


def _smallest_found(*effects: ReportedEstimate) -> str:
    """The smallest effect that the study could find: the largest over its unsettled effects."""
    unsettled = [
        effect.resolvable
        for effect in effects
        if standing(effect, null=0.0) is Standing.UNSETTLED and effect.resolvable < _WHOLE
    ]
    return f"; smallest detectable effect {decimal(max(unsettled), 1)} pp" if unsettled else ""


def _steered(model: ModelEvidence) -> Finding | None:
    """Whether moving the state along the probe's direction does what a random direction does not.

    Yes where, at some dose, accuracy changes, and in the same direction beyond what as long a step
    in a random direction changes; no where accuracy stays where it was at every dose.
    """
    contrasts = model.conditions.contrasts("ablate")
    found: dict[float, tuple[str, ReportedEstimate, ReportedEstimate]] = {}
    for name, condition in model.conditions.ablate.items():
        if not isinstance(condition, AblationCondition) or condition.dose is None:
            continue
        if condition.kind != "steer" or name not in contrasts:
            continue
        own = model.effect("ablate", name)
        gap = model.effect("ablate", contrasts[name].name)
        if own is not None and gap is not None and own.effect.defined and gap.effect.defined:
            found[condition.dose] = condition.extent, own.effect, gap.effect
    if not found:
        return None
    pairs = [(standing(own, null=0.0), standing(gap, null=0.0)) for _, own, gap in found.values()]
    verdict = Verdict.UNDECIDED
    if any(own.differs and own is gap for own, gap in pairs):
        verdict = Verdict.YES
    elif all(own is Standing.EQUIVALENT for own, _ in pairs):
        verdict = Verdict.NO
    details = ", ".join(
        f"{extent}: {points(own)}, {points(gap)} beyond random"
        for extent, own, gap in (found[dose] for dose in dict.fromkeys((min(found), max(found))))
    )
    if verdict is Verdict.UNDECIDED:
        details += _smallest_found(*(effect for _, *both in found.values() for effect in both))
    return Finding(model.name, verdict, details)


def _specific(model: ModelEvidence, intervention: str) -> Finding:
    effect, gap = model.main_effect(intervention), model.specificity(intervention)
    main = model.main_condition(intervention)
    if main is None or effect is None or gap is None or not gap.effect.defined:
        return Finding(model.name, Verdict.NOT_RUN)
    where = standing(gap.effect, null=0.0)
    verdict = {
        Standing.BELOW: Verdict.YES,
        Standing.EQUIVALENT: Verdict.NO,
        Standing.ABOVE: Verdict.NO,
    }.get(where, Verdict.UNDECIDED)
    contrast = model.conditions.contrasts(intervention)[main.name]
    random = model.effect(intervention, contrast.against.name)
    against = ""
    if random is not None:
        against = f", random {decimal(random.effect.value, 1, signed=True)} pp"
    numbers = f"{points(effect.effect)}{against}, difference {points(gap.effect)}"
    if where is Standing.EQUIVALENT:
        numbers += f", within ±{decimal(model.margins.effect_pp, 1)} pp"
    numbers += _smallest_found(gap.effect)
    return Finding(
        model.name, verdict, f"{main.extent}: {numbers}", gap.effect, _DONE[intervention]
    )


_DONE = {
    "mask": "hiding the most attended image tokens",
    "ablate": "ablating the probe’s top neurons",
}


def _auroc(number: ReportedEstimate | None) -> str:
    return f"AUROC {with_interval(number)}" if number is not None else ""
