"""The study's answer in four sentences, computed from its own numbers, whichever way they fall.

Every claim of "none" rests on an equivalence test, every claim of "some" on a test corrected by
Holm; what neither supports is said to be undecided.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from vrp.estimates.predictors import predictor_label
from vrp.report.contrasts import OUTPUT_SIGNALS, POOLED_ONLY
from vrp.report.evidence import PROBE, ModelEvidence, strongest
from vrp.report.numbers import (
    ReportedEstimate,
    Standing,
    decimal,
    listed,
    number_word,
    percent,
    points,
    standing,
    with_interval,
)
from vrp.signals.registry import SIGNALS
from vrp.stats.estimate import ALPHA
from vrp.tables.captured import NOT_CAPTURED

SUPERVISED_ATTENTION = ("attention_trees", "attention_mlp")
GENERATION_SIGNALS = ("self_consistency", "token_confidence", "logit_entropy")
Kind = TypeVar("Kind", bound=StrEnum)


class Verdict(StrEnum):
    """What the numbers of one model say."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"
    NOT_CAPTURED = NOT_CAPTURED


class Wording(NamedTuple):
    """How a clause is put; `{models}` stands for its models and their numbers."""

    first: str
    """Where it opens the matter."""
    after: str = ""
    """Where another clause went before; empty: the same."""


class Finding(NamedTuple):
    """One model's part of an answer."""

    model: str
    verdict: Verdict
    detail: str
    """Its numbers."""


class Answer(NamedTuple):
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


def four_answers(models: Sequence[ModelEvidence]) -> tuple[Answer, Answer, Answer, Answer]:
    """Answer the study's four questions.

    Args:
        models: what the tables say of each model; anything may be missing.
    """
    return (
        attention_answer(models),
        generation_answer(models),
        hidden_state_answer(models),
        causal_answer(models),
    )


# 1. Attention maps


def attention_answer(models: Sequence[ModelEvidence]) -> Answer:
    """Can attention maps tell right answers from wrong ones?

    Yes: some signal, or a model trained on attention, differs from chance and is not equivalent
    to it. No: every one of them is equivalent to chance. AUROC is the mean over tasks.
    """
    findings = [_attention(model) for model in models]
    wordings = {
        Verdict.YES: Wording("attention does tell right from wrong in {models}"),
        Verdict.NO: Wording("every attention read-out is equivalent to chance in {models}"),
        Verdict.UNDECIDED: Wording(
            "after Holm’s correction no attention read-out differs from chance, but not all of "
            "them are shown to be equivalent to it, in {models}",
            "it is not settled in {models}",
        ),
        Verdict.NOT_RUN: Wording("attention was not judged in {models}"),
        Verdict.NOT_CAPTURED: Wording("attention was not captured in {models}"),
    }
    body = _clauses(findings, wordings)
    correlations = _correlation_clause(models)
    return Answer(
        "Can attention maps tell right answers from wrong ones?",
        _lead(findings),
        "; ".join(part for part in (body, correlations) if part),
        _verdicts(findings),
    )


def _attention(model: ModelEvidence) -> Finding:
    structural = [name for name, signal in SIGNALS.items() if signal.kind == "structural"]
    found = {name: model.auroc(name) for name in (*structural, *SUPERVISED_ATTENTION)}
    names = [name for name, number in found.items() if number is not None and number.captured]
    best = strongest(model, names)
    if best is None:
        absent = any(number is not None and not number.captured for number in found.values())
        return Finding(model.name, Verdict.NOT_CAPTURED if absent else Verdict.NOT_RUN, "")
    verdict, telling = _tells(model, names)
    chosen = strongest(model, telling) or best
    detail = f"{predictor_label(chosen)}, {_auroc(model.auroc(chosen))}"
    if verdict is Verdict.YES:
        detail += _turned_round(model.auroc(chosen))
    else:
        detail = f"strongest of {len(names)}: {detail}"
    return Finding(model.name, verdict, detail)


def _tells(model: ModelEvidence, names: Sequence[str]) -> tuple[Verdict, list[str]]:
    """Whether any of the predictors tells right from wrong, and which."""
    found = {name: standing(model.auroc(name), null=0.5) for name in names}
    telling = [n for n, where in found.items() if where in (Standing.ABOVE, Standing.BELOW)]
    if telling:
        return Verdict.YES, telling
    settled = all(where is Standing.EQUIVALENT for where in found.values())
    return (Verdict.NO if settled else Verdict.UNDECIDED), []


def _turned_round(number: ReportedEstimate | None) -> str:
    return ", against the expected direction" if number is not None and number.value < 0.5 else ""


def _correlation_clause(models: Sequence[ModelEvidence]) -> str:
    """The papers' own measure: R of H_s and C_k with correctness, centred within task."""
    findings = []
    for model in models:
        numbers = {
            name: model.metric(predictor, "r", "pooled_within")
            for name, predictor in (
                ("R(H_s)", "spatial_entropy"), ("R(C_k)", "cluster_count_dbscan"),
            )
        }  # fmt: skip
        where = {name: standing(number, null=0.0) for name, number in numbers.items()}
        if Standing.MISSING in where.values():
            continue
        verdict = Verdict.UNDECIDED
        if Standing.ABOVE in where.values() or Standing.BELOW in where.values():
            verdict = Verdict.YES
        elif set(where.values()) == {Standing.EQUIVALENT}:
            verdict = Verdict.NO
        detail = ", ".join(
            f"{name} {with_interval(number)}" for name, number in numbers.items() if number
        )
        findings.append(Finding(model.name, verdict, detail))
    wordings = {
        Verdict.YES: Wording("within task, H_s or C_k correlates with correctness in {models}"),
        Verdict.NO: Wording(
            "within task, H_s and C_k are both equivalent to uncorrelated with correctness in "
            "{models}",
            "they are both equivalent to uncorrelated in {models}",
        ),
        Verdict.UNDECIDED: Wording(
            "within task, a correlation of H_s or C_k with correctness is neither shown nor "
            "excluded in {models}",
            "it is neither shown nor excluded in {models}",
        ),
    }
    return _clauses(findings, wordings)


# 2. Generation dynamics


def generation_answer(models: Sequence[ModelEvidence]) -> Answer:
    """Can confidence and self-consistency tell?"""
    findings = [_generation(model) for model in models]
    wordings = {
        Verdict.YES: Wording("how the answer is generated tells right from wrong in {models}"),
        Verdict.NO: Wording(
            "self-consistency, token confidence and logit entropy are all equivalent to chance in "
            "{models}",
        ),
        Verdict.UNDECIDED: Wording(
            "after Holm’s correction none of self-consistency, token confidence and logit entropy "
            "differs from chance, but not all of them are shown to be equivalent to it, in "
            "{models}",
            "it is not settled in {models}",
        ),
        Verdict.NOT_RUN: Wording("the generation was not judged in {models}"),
    }
    body = _clauses(findings, wordings)
    return Answer(
        "Can the generation dynamics tell – confidence and self-consistency?",
        _lead(findings),
        "; ".join(part for part in (body, _precision_clause(models)) if part),
        _verdicts(findings),
    )


def _generation(model: ModelEvidence) -> Finding:
    found = {name: model.auroc(name) for name in GENERATION_SIGNALS}
    names = [name for name, number in found.items() if number is not None and number.captured]
    best = strongest(model, names)
    if best is None:
        return Finding(model.name, Verdict.NOT_RUN, "")
    verdict, telling = _tells(model, names)
    chosen = strongest(model, telling) or best
    shown = list(dict.fromkeys([chosen, *(n for n in names if n == "self_consistency")]))
    parts = [f"{predictor_label(name)} {_auroc(model.auroc(name))}" for name in shown]
    if verdict is Verdict.YES:
        parts[0] += _turned_round(model.auroc(chosen))
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


class Guard(NamedTuple):
    """One way in which a probe could win without reading reliability."""

    name: str
    """Short name, as in running text."""
    outcome: str
    """holds, fails, unsettled or not run."""
    number: ReportedEstimate | None
    """What it rests on."""
    measure: str
    """What that number is."""


HOLDS, FAILS, UNSETTLED, NOT_RUN = "holds", "fails", "unsettled", "not run"


def guards(model: ModelEvidence) -> list[Guard]:
    """Judge the best probe against every guard.

    Within one answer its AUROC must lie above 0.5; it must beat a blank image, the question's
    words, the emitted answer and (over all items) the task; and permuted labels must leave it at
    chance. A guard fails where the number shows the opposite or lies within the study's margin of
    no effect.
    """
    margin = model.margins.auroc
    found = []
    for answer in ("yes", "no"):
        number, measure = model.auroc(PROBE, f"answer_{answer}"), "AUROC of the probe"
        found.append(Guard(f"within answer {answer}", _above(number, 0.5, margin), number, measure))
    for rival, name in (
        ("blind_linear_best", "blank image"),
        ("question_only", "question only"),
        ("answer_only", "answer only"),
        (POOLED_ONLY, "task only"),
    ):
        number = model.contrasts.get(rival)
        scope = ", all items" if rival == POOLED_ONLY else ""
        measure = f"AUROC of the probe minus this one’s{scope}"
        found.append(Guard(name, _above(number, 0.0, margin), number, measure))
    number, measure = model.auroc("permuted_linear_best"), "AUROC of a probe so fitted"
    found.append(Guard("permuted labels", _at_chance(number, margin), number, measure))
    return found


def _above(number: ReportedEstimate | None, null: float, margin: float) -> str:
    """Whether the interval lies above, does not, or leaves it open."""
    if number is None or not number.defined:
        return NOT_RUN
    if number.low > null:
        return HOLDS
    return FAILS if number.high < null + margin else UNSETTLED


def _at_chance(number: ReportedEstimate | None, margin: float) -> str:
    if number is None or not number.defined:
        return NOT_RUN
    # "At chance" is shown by equivalence, never by an interval that merely covers 0.5.
    if number.p_equivalence < ALPHA:
        return HOLDS
    outside = not number.low <= 0.5 <= number.high
    return FAILS if outside and abs(number.value - 0.5) > margin else UNSETTLED


def best_output_signal(model: ModelEvidence) -> str | None:
    """The output signal of the highest macro AUROC."""
    defined = {
        name: number.value
        for name in OUTPUT_SIGNALS
        if (number := model.auroc(name)) is not None and number.defined
    }
    return max(defined, key=lambda name: defined[name]) if defined else None


def hidden_state_answer(models: Sequence[ModelEvidence]) -> Answer:
    """Can hidden states tell, better than the output signals, and does that survive the guards?"""
    findings = [_hidden(model) for model in models]
    wordings = {
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
    telling = [m for m, f in zip(models, findings, strict=True) if f.verdict is Verdict.YES]
    parts = [_clauses(findings, wordings), _rivalry_clause(telling), _guard_clause(telling)]
    lead = _lead(findings)
    if len(telling) == len(models) and models:
        lead += _rivalry_remark(telling) + _guard_remark(telling)
    return Answer(
        "Can the hidden states tell, beyond what the output already says, and does that survive "
        "the guards?",
        lead,
        "; ".join(part for part in parts if part),
        _verdicts(findings),
    )


def _hidden(model: ModelEvidence) -> Finding:
    number = model.auroc(PROBE)
    if number is None or not number.defined:
        return Finding(model.name, Verdict.NOT_RUN, "")
    verdict = {
        Standing.ABOVE: Verdict.YES,
        Standing.EQUIVALENT: Verdict.NO,
        Standing.BELOW: Verdict.NO,
    }.get(standing(number, null=0.5), Verdict.UNDECIDED)
    layers = sorted(set(model.best_layers))
    word = "layer" if len(layers) == 1 else "layers"
    where = f", {word} {listed([str(layer) for layer in layers])}" if layers else ""
    return Finding(model.name, verdict, f"{_auroc(number)}{where}")


def _rivalry(model: ModelEvidence) -> tuple[Standing, str]:
    """Where the probe stands against the best output signal, and in which numbers."""
    rival = best_output_signal(model)
    gap = model.contrasts.get(rival) if rival else None
    if gap is None or not gap.defined:
        return Standing.MISSING, ""
    detail = f"{with_interval(gap, signed=True)} over {predictor_label(rival or '')}"
    if gap.low > 0 and gap.p_adjusted < ALPHA:
        return Standing.ABOVE, detail
    if gap.high < 0 and gap.p_adjusted < ALPHA:
        return Standing.BELOW, detail
    if max(abs(gap.low), abs(gap.high)) < model.margins.auroc:
        return Standing.EQUIVALENT, detail
    return Standing.UNSETTLED, detail


def _rivalry_clause(models: Sequence[ModelEvidence]) -> str:
    wordings = {
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
    found = {model.name: _rivalry(model) for model in models}
    return _grouped(((name, where, detail) for name, (where, detail) in found.items()), wordings)


def _guard_clause(models: Sequence[ModelEvidence]) -> str:
    if not models:
        return ""
    found = {model.name: guards(model) for model in models}
    unblemished = [n for n, gs in found.items() if all(g.outcome == HOLDS for g in gs)]
    parts = []
    names = listed([guard.name for guard in next(iter(found.values()))])
    if unblemished:
        parts.append(f"all guards hold in {listed(unblemished)} ({names})")
    for model, its_guards in found.items():
        if model in unblemished:
            continue
        outcomes = [
            f"{_outcome_word(outcome)}: {listed(chosen)}"
            for outcome in (FAILS, UNSETTLED, NOT_RUN, HOLDS)
            if (chosen := [g.name for g in its_guards if g.outcome == outcome])
        ]
        parts.append(f"guards in {model} – {', '.join(outcomes)}")
    return "; ".join(parts)


def _outcome_word(outcome: str) -> str:
    return {FAILS: "failing", UNSETTLED: "not settled", HOLDS: "holding"}.get(outcome, outcome)


def _rivalry_remark(models: Sequence[ModelEvidence]) -> str:
    where = {_rivalry(model)[0] for model in models}
    if where == {Standing.ABOVE}:
        return ", and better than the output"
    if where and Standing.ABOVE not in where and Standing.MISSING not in where:
        return ", but not shown to be better than the output"
    return ""


def _guard_remark(models: Sequence[ModelEvidence]) -> str:
    outcomes = {guard.outcome for model in models for guard in guards(model)}
    if outcomes == {HOLDS}:
        return ", and it survives the guards"
    if FAILS in outcomes:
        return ", but not every guard holds"
    return "" if outcomes == {NOT_RUN} else ", though not every guard is settled"


# 4. Interventions


def causal_answer(models: Sequence[ModelEvidence]) -> Answer:
    """Does the answer hang on the attended patches, or on few neurons?

    Judged on specificity: what the top ones cost more than as many random ones. Yes: they cost
    more. No: equivalence within the study's margin, or the random ones cost more.
    """
    patches = [_specific(model, "mask") for model in models]
    neurons = [_specific(model, "ablate") for model in models]
    leads = _lead(patches), _lead(neurons)
    lead = (
        f"{leads[0]}, for attended patches and few neurons alike"
        if leads[0] == leads[1]
        else f"{leads[0]} for the attended patches, {_lower_first(leads[1])} for few neurons"
    )
    verdicts = {
        model.name: _joint(one.verdict, other.verdict)
        for model, one, other in zip(models, patches, neurons, strict=True)
    }
    return Answer(
        "Does the answer hang on the attended patches, or on a few neurons?",
        lead,
        "; ".join([_clauses(patches, _PATCHES), _clauses(neurons, _NEURONS)]),
        verdicts,
    )


def _specificity_wordings(what: str, as_many: str, absent: str) -> "dict[Verdict, Wording]":
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


def _joint(patches: Verdict, neurons: Verdict) -> Verdict:
    """One word for both: it hangs on something, on nothing, or it is not known."""
    both = {patches, neurons}
    for verdict in (Verdict.YES, Verdict.UNDECIDED):
        if verdict in both:
            return verdict
    return Verdict.NOT_RUN if both == {Verdict.NOT_RUN} else Verdict.NO


def _specific(model: ModelEvidence, intervention: str) -> Finding:
    effect, gap = model.main_effect(intervention), model.specificity(intervention)
    main = model.main_condition(intervention)
    if main is None or effect is None or gap is None or not gap.effect.defined:
        return Finding(model.name, Verdict.NOT_RUN, "")
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


# Sentences


def _lead(findings: Sequence[Finding]) -> str:
    verdicts = {finding.verdict for finding in findings} or {Verdict.NOT_RUN}
    # What was not looked at says nothing beside what was.
    verdicts = (verdicts - {Verdict.NOT_RUN, Verdict.NOT_CAPTURED}) or {min(verdicts)}
    if len(verdicts) > 1:
        return "It depends on the model"
    return {
        Verdict.YES: "Yes", Verdict.NO: "No", Verdict.UNDECIDED: "Undecided",
        Verdict.NOT_RUN: "Not run", Verdict.NOT_CAPTURED: "Not captured",
    }[verdicts.pop()]  # fmt: skip


def _verdicts(findings: Sequence[Finding]) -> dict[str, Verdict]:
    return {finding.model: finding.verdict for finding in findings}


def _clauses(findings: Sequence[Finding], wordings: Mapping[Verdict, Wording]) -> str:
    """One clause for each verdict, naming its models and their numbers."""
    return _grouped(((f.model, f.verdict, f.detail) for f in findings), wordings)


def _grouped(rows: Iterable[tuple[str, Kind, str]], wordings: Mapping[Kind, Wording]) -> str:
    rows = list(rows)
    clauses: list[str] = []
    for kind, wording in wordings.items():
        members = [
            f"{model} ({detail})" if detail else model for model, its, detail in rows if its == kind
        ]
        if members:
            everyone = len(members) == len(rows) > 1
            which = f"{_all_of(len(members))}: " if everyone else ""
            text = (clauses and wording.after) or wording.first
            clauses.append(text.format(models=which + listed(members)))
    return "; ".join(clauses)


def _all_of(n: int) -> str:
    return "both models" if n == 2 else f"all {number_word(n)} models"


def _auroc(number: ReportedEstimate | None) -> str:
    return f"AUROC {with_interval(number)}" if number is not None else ""


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
