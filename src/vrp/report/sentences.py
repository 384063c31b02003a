"""Sentences over several models: one clause for each verdict, with its models and numbers."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from vrp.report.numbers import Standing, listed, number_word
from vrp.tables.captured import NOT_CAPTURED


class Verdict(StrEnum):
    """Verdict on one model."""

    YES = "yes"
    NO = "no"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"
    NOT_CAPTURED = NOT_CAPTURED


class Finding(NamedTuple):
    """Finding about one model."""

    model: str
    verdict: Verdict | Standing
    detail: str = ""
    """Its numbers."""


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


def short_answer(findings: Sequence[Finding]) -> str:
    """Answer in one word where all models that were looked at agree."""
    verdicts = {finding.verdict for finding in findings} or {Verdict.NOT_RUN}
    # What was not looked at says nothing beside what was.
    verdicts = (verdicts - {Verdict.NOT_RUN, Verdict.NOT_CAPTURED}) or {min(verdicts)}
    if len(verdicts) > 1:
        return "It depends on the model"
    return str(verdicts.pop()).capitalize()
