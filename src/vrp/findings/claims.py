"""The papers' claims, one by one: what they found, what this study finds, and the verdict."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from vrp.estimates.reported import ReportedEstimate
from vrp.estimates.verdicts import Standing, is_noticeable, standing
from vrp.findings.evidence import ModelEvidence
from vrp.findings.published_numbers import Published, published
from vrp.probing.labels import LINEAR_BEST


class Replication(StrEnum):
    """What a study says of a published claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    NOT_TESTABLE = "not testable here"
    NOT_RUN = "not run"


class PaperClaim(NamedTuple):
    """A claim of the papers about each of their models."""

    text: str
    """The claim, in a few words."""
    label: str
    """What it is about, in two or three."""
    key: str
    """Key of the published number that it rests on."""
    ours: Callable[[ModelEvidence], ReportedEstimate | None]
    """This study's estimate."""
    is_auroc: bool
    """Whether that is an AUROC; else it is an effect in percentage points."""
    expects_effect: bool
    """Whether an effect is claimed (AUROC above chance, accuracy lost), or that there is none."""
    anchor: str
    """Where the page shows more."""


def _auroc(name: str) -> Callable[[ModelEvidence], ReportedEstimate | None]:
    return lambda model: model.auroc(name)


def _masking(model: ModelEvidence) -> ReportedEstimate | None:
    effect = model.main_effect("mask")
    return None if effect is None else effect.effect


def _ablation(condition: str) -> Callable[[ModelEvidence], ReportedEstimate | None]:
    def ours(model: ModelEvidence) -> ReportedEstimate | None:
        effect = model.effect("ablate", condition)
        return None if effect is None else effect.effect

    return ours


CLAIMS: tuple[PaperClaim, ...] = (
    PaperClaim(
        "attention structure does not tell right from wrong", "structure of attention",
        "auroc_attention", _auroc("spatial_entropy"), True, False, "signals",
    ),
    PaperClaim(
        "token confidence hardly tells right from wrong", "token confidence",
        "auroc_confidence", _auroc("token_confidence"), True, False, "signals",
    ),
    PaperClaim(
        "self-consistency tells right from wrong", "self-consistency",
        "auroc_self_consistency", _auroc("self_consistency"), True, True, "signals",
    ),
    PaperClaim(
        "a probe of hidden states tells right from wrong", "hidden-state probe",
        "auroc_probe", _auroc(LINEAR_BEST), True, True, "probes",
    ),
    PaperClaim(
        "hiding the 30% most attended patches costs accuracy", "most attended hidden",
        "masking_top", _masking, False, True, "interventions",
    ),
    PaperClaim(
        "ablating the top 5 neurons costs accuracy", "top 5 neurons ablated",
        "ablation_top_5", _ablation("top_5"), False, True, "interventions",
    ),
    PaperClaim(
        "bypassing a layer’s MLP costs little", "an MLP bypassed",
        "ablation_mlp", _ablation("mlp_bypass"), False, False, "interventions",
    ),
)  # fmt: skip
"""In the order in which the page shows them."""


def replication(claim: PaperClaim, model: ModelEvidence) -> Replication:
    """Return what a model's numbers say of a claim.

    An embedded model says nothing of the published checkpoint, whatever its numbers are. Elsewhere
    an effect is found where a test after Holm's correction finds it, of a size that a user would
    notice; none is found where it is equivalent to none.
    """
    if model.embedded or published(claim.key, model.family) is None:
        return Replication.NOT_TESTABLE
    number = claim.ours(model)
    null = 0.5 if claim.is_auroc else 0.0
    where = standing(number, null=null)
    if number is None or where in (Standing.MISSING, Standing.TOO_FEW):
        return Replication.NOT_RUN if number is None else Replication.UNDECIDED
    expected = Standing.ABOVE if claim.is_auroc else Standing.BELOW
    found = where is expected and (not claim.is_auroc or is_noticeable(number.value))
    if claim.expects_effect:
        if found:
            return Replication.REPRODUCED
        refuted = where is Standing.EQUIVALENT or (where.differs and where is not expected)
        return Replication.NOT_REPRODUCED if refuted else Replication.UNDECIDED
    if where is Standing.EQUIVALENT:
        return Replication.REPRODUCED
    return Replication.NOT_REPRODUCED if where.differs else Replication.UNDECIDED


class JudgedClaim(NamedTuple):
    """A claim of the papers beside what this study finds of one model."""

    claim: PaperClaim
    published: Published
    """The papers' number for the model's family."""
    ours: ReportedEstimate | None
    """This study's; None where it was not run."""
    verdict: Replication


def judged_claims(model: ModelEvidence) -> list[JudgedClaim]:
    """Judge every claim that the papers make about a model's family; none of another family."""
    return [
        JudgedClaim(claim, found, claim.ours(model), replication(claim, model))
        for claim in CLAIMS
        if (found := published(claim.key, model.family)) is not None
    ]
