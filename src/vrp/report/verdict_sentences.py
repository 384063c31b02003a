"""Sentences over several models: one clause for each verdict, with its models and numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Guard, Standing, Verdict
from vrp.report.numbers import listed, number_word
from vrp.stats.estimate import ALPHA
from vrp.stats.heterogeneity import interaction_p


class Finding(NamedTuple):
    """Finding about one model."""

    model: str
    verdict: Verdict | Standing
    detail: str = ""
    """Its numbers."""
    number: ReportedEstimate | None = None
    """The estimate that decides."""
    what: str = ""
    """What was found to decide, in a few words, such as a signal's label."""
    guards: Sequence[Guard] = ()
    """Guards of that estimate."""
    predictor: str = ""
    """Name of the signal or probe that decides."""


class Wording(NamedTuple):
    """Text of a clause; `{models}` stands for its models and their numbers."""

    first: str
    """Text of the first clause of a sentence."""
    after: str = ""
    """Text after another clause; empty: the same."""


Wordings = Mapping[Verdict, Wording] | Mapping[Standing, Wording]
"""Verdict → text, in the order of the clauses."""


def clauses(findings: Sequence[Finding], wordings: Wordings) -> str:
    """Put findings in words: one clause for each verdict, naming its models and their numbers."""
    found: list[str] = []
    for verdict, wording in wordings.items():
        members = [
            f"{finding.model} ({finding.detail})" if finding.detail else finding.model
            for finding in findings
            if finding.verdict == verdict
        ]
        if members:
            everyone = len(members) == len(findings) > 1
            how_many = "both" if len(members) == 2 else f"all {number_word(len(members))}"
            which = f"{how_many} models: " if everyone else ""
            text = (found and wording.after) or wording.first
            found.append(text.format(models=which + listed(members)))
    return "; ".join(found)


def short_answer(findings: Sequence[Finding], *, differ: bool | None = None) -> str:
    """Answer in one word where all models that were looked at agree.

    "It depends on the model" is said only where the answer is yes for one of them, and a test shows
    that the models differ: "no" and "undecided" are no different answers.

    Args:
        findings: about each model.
        differ: whether a test that pairs the models' items shows it; None: Cochran's test of the
            models' estimates decides.
    """
    verdicts = {finding.verdict for finding in findings} or {Verdict.NOT_RUN}
    # What was not looked at says nothing beside what was.
    verdicts = (verdicts - _NOT_LOOKED_AT) or {min(verdicts)}
    if len(verdicts) == 1:
        return str(verdicts.pop()).capitalize()
    numbers = [finding.number for finding in findings if finding.number is not None]
    if differ is None:
        differ = interaction_p([n.value for n in numbers], [n.se for n in numbers]) < ALPHA
    if differ and Verdict.YES in verdicts:
        return "It depends on the model"
    parts = [
        f"{verdict} for {listed([f.model for f in findings if f.verdict == verdict])}"
        for verdict in Verdict
        if verdict in verdicts
    ]
    joined = "; ".join(parts)
    return joined[:1].upper() + joined[1:]


_NOT_LOOKED_AT = {Verdict.NOT_RUN, Verdict.NOT_CAPTURED}
