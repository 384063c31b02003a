"""The study's conclusions in four sentences, computed from its numbers, whichever way they fall.

Every claim of "none" rests on an equivalence test, every claim of "some" on a test corrected by
Holm; what neither supports is said to be undecided.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vrp.estimates.predictors import predictor_label
from vrp.probing.labels import LINEAR_BEST
from vrp.report.contrasts import OUTPUT_SIGNALS
from vrp.report.evidence import ModelEvidence, most_discriminative
from vrp.report.guards import Outcome, guards
from vrp.report.numbers import (
    ReportedEstimate,
    Standing,
    decimal,
    layers_in_words,
    listed,
    percent,
    points,
    standing,
    with_interval,
)
from vrp.report.sentences import Finding, Verdict, Wording, clauses, short_answer
from vrp.signals.registry import SIGNALS
from vrp.stats.estimate import ALPHA

SUPERVISED_ATTENTION = ("attention_trees", "attention_mlp")
GENERATION_SIGNALS = ("self_consistency", "token_confidence", "logit_entropy")


class Conclusion(NamedTuple):
    """The answer to one question of the study."""

    question: str
    lead: str
    """The short answer that opens the sentence."""
    body: str
    """The rest of it, with the numbers."""
    verdicts: dict[str, Verdict]
    """Model → what its numbers say."""

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        return f"{self.lead}: {self.body}."


def _conclude(
    question: str, findings: Sequence[Finding], parts: Iterable[str], *, remark: str = ""
) -> Conclusion:
    verdicts = {finding.model: Verdict(finding.verdict) for finding in findings}
    body = "; ".join(part for part in parts if part)
    return Conclusion(question, short_answer(findings) + remark, body, verdicts)


def four_conclusions(models: Sequence[ModelEvidence]) -> list[Conclusion]:
    """Answer the study's four questions.

    Args:
        models: what the tables say of each model; anything may be missing.
    """
    return [
        conclude_attention(models),
        conclude_generation(models),
        conclude_hidden_states(models),
        conclude_interventions(models),
    ]


# 1. Attention maps

_ATTENTION = {
    Verdict.YES: Wording("attention does tell right from wrong in {models}"),
    Verdict.NO: Wording("every attention read-out is equivalent to chance in {models}"),
    Verdict.UNDECIDED: Wording(
        "after Holm’s correction no attention read-out differs from chance, but not all of them "
        "are shown to be equivalent to it, in {models}",
        "it is not settled in {models}",
    ),
    Verdict.NOT_RUN: Wording("attention was not judged in {models}"),
    Verdict.NOT_CAPTURED: Wording("attention was not captured in {models}"),
}
_CORRELATION = {
    Verdict.YES: Wording("within task, H_s or C_k correlates with correctness in {models}"),
    Verdict.NO: Wording(
        "within task, H_s and C_k are both equivalent to uncorrelated with correctness in {models}",
        "they are both equivalent to uncorrelated in {models}",
    ),
    Verdict.UNDECIDED: Wording(
        "within task, a correlation of H_s or C_k with correctness is neither shown nor excluded "
        "in {models}",
        "it is neither shown nor excluded in {models}",
    ),
}


def conclude_attention(models: Sequence[ModelEvidence]) -> Conclusion:
    """Can attention maps tell right answers from wrong ones?

    Yes: some signal, or a model trained on attention, differs from chance and is not equivalent
    to it. No: every one of them is equivalent to chance. AUROC is the mean over tasks.
    """
    findings = [_attention(model) for model in models]
    correlations = [finding for model in models if (finding := _correlations(model))]
    return _conclude(
        "Can attention maps tell right answers from wrong ones?",
        findings,
        [clauses(findings, _ATTENTION), clauses(correlations, _CORRELATION)],
    )


def _attention(model: ModelEvidence) -> Finding:
    structural = [name for name, signal in SIGNALS.items() if signal.kind == "structural"]
    found = {name: model.auroc(name) for name in (*structural, *SUPERVISED_ATTENTION)}
    names = [name for name, number in found.items() if number is not None and number.captured]
    verdict, chosen = _discriminates(model, names)
    if chosen is None:
        absent = any(number is not None and not number.captured for number in found.values())
        return Finding(model.name, Verdict.NOT_CAPTURED if absent else Verdict.NOT_RUN)
    detail = f"{predictor_label(chosen)}, {_auroc(model.auroc(chosen))}"
    if verdict is Verdict.YES:
        detail += _wrong_direction_note(model.auroc(chosen))
    else:
        detail = f"strongest of {len(names)}: {detail}"
    return Finding(model.name, verdict, detail)


def _discriminates(model: ModelEvidence, names: Sequence[str]) -> tuple[Verdict, str | None]:
    """Verdict on a set of predictors, and the most discriminative one among those that tell.

    Where none tells right from wrong, it is the most discriminative of all; None where none has an
    estimate.
    """
    best = most_discriminative(model, names)
    if best is None:
        return Verdict.NOT_RUN, None
    found = {name: standing(model.auroc(name), null=0.5) for name in names}
    telling = [n for n, where in found.items() if where in (Standing.ABOVE, Standing.BELOW)]
    if telling:
        return Verdict.YES, most_discriminative(model, telling)
    settled = all(where is Standing.EQUIVALENT for where in found.values())
    return (Verdict.NO if settled else Verdict.UNDECIDED), best


def _wrong_direction_note(number: ReportedEstimate | None) -> str:
    return ", against the expected direction" if number is not None and number.value < 0.5 else ""


def _correlations(model: ModelEvidence) -> Finding | None:
    """The papers' own measure: R of H_s and C_k with correctness, centred within task."""
    numbers = {
        "R(H_s)": model.metric("spatial_entropy", "r", "pooled_within"),
        "R(C_k)": model.metric("cluster_count_dbscan", "r", "pooled_within"),
    }
    found = {standing(number, null=0.0) for number in numbers.values()}
    if Standing.MISSING in found:
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
    Verdict.YES: Wording("how the answer is generated tells right from wrong in {models}"),
    Verdict.NO: Wording(
        "self-consistency, token confidence and logit entropy are all equivalent to chance in "
        "{models}",
    ),
    Verdict.UNDECIDED: Wording(
        "after Holm’s correction none of self-consistency, token confidence and logit entropy "
        "differs from chance, but not all of them are shown to be equivalent to it, in {models}",
        "it is not settled in {models}",
    ),
    Verdict.NOT_RUN: Wording("the generation was not judged in {models}"),
}


def conclude_generation(models: Sequence[ModelEvidence]) -> Conclusion:
    """Can confidence and self-consistency tell?"""
    findings = [_generation(model) for model in models]
    return _conclude(
        "Can the generation dynamics tell – confidence and self-consistency?",
        findings,
        [clauses(findings, _GENERATION), _precision_clause(models)],
    )


def _generation(model: ModelEvidence) -> Finding:
    found = {name: model.auroc(name) for name in GENERATION_SIGNALS}
    names = [name for name, number in found.items() if number is not None and number.captured]
    verdict, chosen = _discriminates(model, names)
    if chosen is None:
        return Finding(model.name, Verdict.NOT_RUN)
    shown = list(dict.fromkeys([chosen, *(n for n in names if n == "self_consistency")]))
    parts = [f"{predictor_label(name)} {_auroc(model.auroc(name))}" for name in shown]
    if verdict is Verdict.YES:
        parts[0] += _wrong_direction_note(model.auroc(chosen))
    return Finding(model.name, verdict, ", ".join(parts))


def _precision_clause(models: Sequence[ModelEvidence]) -> str:
    parts = []
    for model in models:
        precision = model.metric("self_consistency", "precision_unanimous", "pooled")
        accuracy = model.metric("model", "accuracy", "pooled")
        if precision is not None and precision.defined:
            overall = f" against {percent(accuracy)} of all" if accuracy is not None else ""
            parts.append(f"{percent(precision)}{overall} in {model.name}")
    if not parts:
        return ""
    ks = {model.k for model in models if model.k}
    how_many = f"all {ks.pop()}" if len(ks) == 1 else "all"
    return f"where {how_many} sampled answers agree, the share of right answers is {listed(parts)}"


# 3. Hidden states

_HIDDEN_STATES = {
    Verdict.YES: Wording("a linear probe of the best layer tells right from wrong in {models}"),
    Verdict.NO: Wording(
        "a linear probe of the best layer does no better than chance in {models}",
        "it does no better than chance in {models}",
    ),
    Verdict.UNDECIDED: Wording(
        "a linear probe of the best layer is shown neither to differ from chance nor to be "
        "equivalent to it in {models}",
        "it is not settled in {models}",
    ),
    Verdict.NOT_RUN: Wording("hidden states were not probed in {models}"),
}
_RIVALRY = {
    Standing.ABOVE: Wording("it reads more than the best output signal in {models}"),
    Standing.EQUIVALENT: Wording(
        "it reads no more than the best output signal in {models}", "no more in {models}"
    ),
    Standing.BELOW: Wording(
        "it reads less than the best output signal in {models}", "less in {models}"
    ),
    Standing.UNSETTLED: Wording(
        "whether it reads more than the best output signal is not settled in {models}",
        "this is not settled in {models}",
    ),
    Standing.MISSING: Wording("it was not compared with an output signal in {models}"),
}


def conclude_hidden_states(models: Sequence[ModelEvidence]) -> Conclusion:
    """Can hidden states tell, better than the output signals, and does that survive the guards?"""
    findings = [_hidden(model) for model in models]
    telling = [m for m, f in zip(models, findings, strict=True) if f.verdict is Verdict.YES]
    rivalry = [_rivalry(model) for model in telling]
    remark = ""
    if len(telling) == len(models) and models:
        remark = _rivalry_remark(rivalry) + _guard_remark(telling)
    return _conclude(
        "Can the hidden states tell, beyond what the output already says, and does that survive "
        "the guards?",
        findings,
        [clauses(findings, _HIDDEN_STATES), clauses(rivalry, _RIVALRY), _guard_clause(telling)],
        remark=remark,
    )


def _hidden(model: ModelEvidence) -> Finding:
    number = model.auroc(LINEAR_BEST)
    if number is None or not number.defined:
        return Finding(model.name, Verdict.NOT_RUN)
    verdict = {
        Standing.ABOVE: Verdict.YES,
        Standing.EQUIVALENT: Verdict.NO,
        Standing.BELOW: Verdict.NO,
    }.get(standing(number, null=0.5), Verdict.UNDECIDED)
    layers = model.picked_layers()
    where = f", {layers_in_words(layers)}" if layers else ""
    return Finding(model.name, verdict, _auroc(number) + where)


def best_output_signal(model: ModelEvidence) -> str | None:
    """The output signal of the highest macro AUROC."""
    defined = {
        name: number.value
        for name in OUTPUT_SIGNALS
        if (number := model.auroc(name)) is not None and number.defined
    }
    return max(defined, key=lambda name: defined[name]) if defined else None


def _rivalry(model: ModelEvidence) -> Finding:
    """Comparison of the probe with the best output signal."""
    rival = best_output_signal(model)
    gap = model.contrasts.get(rival) if rival else None
    if rival is None or gap is None or not gap.defined:
        return Finding(model.name, Standing.MISSING)
    where = Standing.UNSETTLED
    if gap.low > 0 and gap.p_adjusted < ALPHA:
        where = Standing.ABOVE
    elif gap.high < 0 and gap.p_adjusted < ALPHA:
        where = Standing.BELOW
    elif max(abs(gap.low), abs(gap.high)) < model.margins.auroc:
        where = Standing.EQUIVALENT
    detail = f"{with_interval(gap, signed=True)} over {predictor_label(rival)}"
    return Finding(model.name, where, detail)


def _rivalry_remark(rivalry: Sequence[Finding]) -> str:
    where = {finding.verdict for finding in rivalry}
    if where == {Standing.ABOVE}:
        return ", and better than the output"
    if where and Standing.ABOVE not in where and Standing.MISSING not in where:
        return ", but not shown to be better than the output"
    return ""


def _guard_clause(models: Sequence[ModelEvidence]) -> str:
    if not models:
        return ""
    found = {model.name: guards(model) for model in models}
    passing = [
        name
        for name, of_model in found.items()
        if all(guard.outcome is Outcome.HOLDS for guard in of_model)
    ]
    names = listed([guard.name for guard in next(iter(found.values()))])
    parts = [f"all guards hold in {listed(passing)} ({names})"] if passing else []
    words = {
        Outcome.FAILS: "failing", Outcome.UNSETTLED: "not settled", Outcome.NOT_RUN: "not run",
        Outcome.HOLDS: "holding",
    }  # fmt: skip
    for model, of_model in found.items():
        if model not in passing:
            outcomes = [
                f"{word}: {listed(chosen)}"
                for outcome, word in words.items()
                if (chosen := [guard.name for guard in of_model if guard.outcome == outcome])
            ]
            parts.append(f"guards in {model} – {', '.join(outcomes)}")
    return "; ".join(parts)


def _guard_remark(models: Sequence[ModelEvidence]) -> str:
    outcomes = {guard.outcome for model in models for guard in guards(model)}
    if outcomes == {Outcome.HOLDS}:
        return ", and it survives the guards"
    if Outcome.FAILS in outcomes:
        return ", but not every guard holds"
    return "" if outcomes == {Outcome.NOT_RUN} else ", though not every guard is settled"


# 4. Interventions


def _specificity_wordings(what: str, as_many: str, absent: str) -> dict[Verdict, Wording]:
    return {
        Verdict.YES: Wording(f"{what} costs more than {as_many} in {{models}}"),
        Verdict.NO: Wording(
            f"{what} costs no more than {as_many} in {{models}}", "no more in {models}"
        ),
        Verdict.UNDECIDED: Wording(
            f"whether {what} costs more than {as_many} is not settled in {{models}}",
            "this is not settled in {models}",
        ),
        Verdict.NOT_RUN: Wording(f"{absent} in {{models}}"),
    }


_PATCHES = _specificity_wordings(
    "hiding the most attended image tokens", "hiding as many at random", "no patches were hidden"
)
_NEURONS = _specificity_wordings(
    "silencing the probe’s top neurons", "silencing as many at random", "no neurons were silenced"
)


def conclude_interventions(models: Sequence[ModelEvidence]) -> Conclusion:
    """Does the answer depend on the attended patches, or on few neurons?

    Judged on specificity: what the top ones cost more than as many random ones. Yes: they cost
    more. No: equivalence within the study's margin, or the random ones cost more.
    """
    patches = [_specific(model, "mask") for model in models]
    neurons = [_specific(model, "ablate") for model in models]
    of_patches, of_neurons = short_answer(patches), short_answer(neurons)
    lead = f"{of_patches}, for attended patches and few neurons alike"
    if of_patches != of_neurons:
        second = of_neurons[:1].lower() + of_neurons[1:]
        lead = f"{of_patches} for the attended patches, {second} for few neurons"
    return Conclusion(
        "Does the answer depend on the attended patches, or on a few neurons?",
        lead,
        "; ".join([clauses(patches, _PATCHES), clauses(neurons, _NEURONS)]),
        {
            patch.model: _joint({patch.verdict, neuron.verdict})
            for patch, neuron in zip(patches, neurons, strict=True)
        },
    )


def _joint(verdicts: set[Verdict | Standing]) -> Verdict:
    """Combine the verdicts on patches and neurons: yes if either is, no only if both are."""
    for verdict in (Verdict.YES, Verdict.UNDECIDED):
        if verdict in verdicts:
            return verdict
    return Verdict.NOT_RUN if verdicts == {Verdict.NOT_RUN} else Verdict.NO


def _specific(model: ModelEvidence, intervention: str) -> Finding:
    effect, gap = model.main_effect(intervention), model.specificity(intervention)
    main = model.main_condition(intervention)
    if main is None or effect is None or gap is None or not gap.effect.defined:
        return Finding(model.name, Verdict.NOT_RUN)
    verdict = {
        Standing.BELOW: Verdict.YES,
        Standing.EQUIVALENT: Verdict.NO,
        Standing.ABOVE: Verdict.NO,
    }.get(standing(gap.effect, null=0.0), Verdict.UNDECIDED)
    random = model.effect(intervention, main.control or "")
    against = ""
    if random is not None:
        against = f", random {decimal(random.effect.value, 1, signed=True)} pp"
    numbers = f"{points(effect.effect)}{against}, difference {points(gap.effect)}"
    return Finding(model.name, verdict, f"{main.extent}: {numbers}")


def _auroc(number: ReportedEstimate | None) -> str:
    return f"AUROC {with_interval(number)}" if number is not None else ""
