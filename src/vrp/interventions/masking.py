"""Masking conditions: which image tokens of an item are hidden, or which other image is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vrp.config.mask import MaskConfig


class MaskableImage(NamedTuple):
    """What a kind may choose the tokens of an item's image by; tokens are numbered row by row."""

    attention: "NDArray[np.float64]"
    """(S,) M, the item's attention map averaged over layers."""
    grid_h: int
    """Rows of image tokens."""
    grid_w: int
    """Columns of image tokens; S = grid_h · grid_w."""
    seed: int
    """For random choices: derived from the study's seed, the item and the condition's repeat."""


@dataclass(frozen=True)
class MaskKind:
    """What a masking condition does: it hides image tokens, or shows another image."""

    name: str
    """Name in `mask.controls`; the names of conditions begin with it."""
    label: str
    """In figures and report; the share follows where tokens are hidden."""
    hides: "Callable[[MaskableImage, float], NDArray[np.intp]] | None" = None
    """(image, share of its tokens) → tokens to hide; None: the whole image is replaced."""
    shows: Literal["own", "blank", "other"] = "own"
    """The item's own image, a grey one of its size, or another item's."""
    control: str | None = None
    """Kind, of the same share, that it is compared to; None: it is compared to no other."""

    def __post_init__(self) -> None:
        if (self.hides is None) == (self.shows == "own"):
            raise ValueError(f"mask kind {self.name!r} must hide tokens or show another image")


def _most_attended(image: MaskableImage, share: float) -> "NDArray[np.intp]":
    from vrp.signals.structural import most_attended

    return most_attended(image.attention, share)


def _random(image: MaskableImage, share: float) -> "NDArray[np.intp]":
    """The tokens of a smaller share are among those of a larger one."""
    from vrp.signals.structural import random_tokens, token_count

    n_tokens = len(image.attention)
    return random_tokens(n_tokens, token_count(n_tokens, share), image.seed)


def _least_attended(image: MaskableImage, share: float) -> "NDArray[np.intp]":
    from vrp.signals.structural import least_attended

    return least_attended(image.attention, share)


def _none(image: MaskableImage, share: float) -> "NDArray[np.intp]":
    import numpy as np

    return np.empty(0, dtype=np.intp)


BLANK_IMAGE = "no_image"
"""Kind and name of the condition that shows a blank image."""
SHAM = "sham"
"""Kind and name of the condition that changes nothing: baseline of the others, and noise floor."""

MASK_KINDS: dict[str, MaskKind] = {
    kind.name: kind
    for kind in (
        MaskKind("top", "most attended", hides=_most_attended, control="random"),
        MaskKind("random", "random", hides=_random),
        MaskKind("bottom", "least attended", hides=_least_attended, control="random"),
        MaskKind(BLANK_IMAGE, "blank image", shows="blank"),
        MaskKind("other_image", "another item’s image", shows="other"),
        MaskKind(SHAM, "nothing hidden", hides=_none),
    )
}
"""Every kind by its name, in the order in which figures and report show them."""

ALWAYS_RUN = (SHAM, "top", "random")
"""Kinds of every masking; the others run where `mask.controls` names them."""


@dataclass(frozen=True)
class MaskCondition:
    """One way to answer an item with image tokens hidden, or with another image."""

    kind: str
    """Name of its `MaskKind`."""
    share: float = 1.0
    """Share of the image tokens that are hidden; 1 where the whole image is replaced."""
    seed: int = 0
    """Repeat of a random condition; 0 otherwise."""
    one_set: ClassVar[bool] = False
    """Whether a repeat is one random set for all items; here each item has its own."""

    @property
    def name(self) -> str:
        """Name in the tables, such as `top_30`; repeats have the same."""
        return self.kind if self.size is None else f"{self.kind}_{self.size:g}"

    @property
    def label(self) -> str:
        """Name in figures and report, such as `most attended 30% of patches`."""
        return f"{self.kind_label} {self.extent}".rstrip()

    @property
    def kind_label(self) -> str:
        """Which tokens are hidden, or which image is shown, in words."""
        return MASK_KINDS[self.kind].label

    @property
    def extent(self) -> str:
        """How much is hidden, in words; empty where that goes without saying."""
        return "" if self.size is None else f"{self.size:g}% of patches"

    @property
    def rank(self) -> float:
        """Place of its kind among the others, by which figures and report sort."""
        return list(MASK_KINDS).index(self.kind)

    @property
    def size(self) -> float | None:
        """Percent of the image tokens; None where the whole image is replaced, or nothing."""
        return 100 * self.share if self.shows == "own" and self.kind != SHAM else None

    @property
    def variant(self) -> str:
        """What tells it from conditions of the same kind and size: nothing."""
        return ""

    @property
    def shows(self) -> str:
        """The image that is shown: `own`, `blank` or `other`."""
        return MASK_KINDS[self.kind].shows

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the conditions that it is compared to: the first that the study has."""
        control = MASK_KINDS[self.kind].control
        return () if control is None else (MaskCondition(control, self.share).name,)

    def hidden_tokens(self, image: MaskableImage) -> "NDArray[np.intp]":
        """Return the image tokens that it hides; of conditions that show the item's own image."""
        hides = MASK_KINDS[self.kind].hides
        assert hides is not None
        return hides(image, self.share)


def mask_conditions(mask: "MaskConfig", *, dose: bool = True) -> list[MaskCondition]:
    """Return the conditions of an item in the order in which they run, repeats one by one.

    Args:
        mask: the `mask` section of the config.
        dose: whether the item is one of the dose curve's.
    """
    conditions = [MaskCondition(SHAM, 0.0), MaskCondition("top", mask.share)]
    conditions += [MaskCondition("random", mask.share, seed) for seed in range(mask.random_seeds)]
    for kind in mask.controls:
        whole = MASK_KINDS[kind].shows != "own"
        conditions.append(MaskCondition(kind) if whole else MaskCondition(kind, mask.share))
    for share in mask.dose if dose else ():
        if share != mask.share:
            conditions += [MaskCondition(kind, share) for kind in ("top", "random")]
    return conditions
