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
    """(S,) what ranks the tokens: M, the item's attention map, averaged over layers, or what the
    condition's ranking makes of it."""
    grid_h: int
    """Rows of image tokens."""
    grid_w: int
    """Columns of image tokens; S = grid_h · grid_w."""
    seed: int
    """For random choices: derived from the study's seed, the item and the condition's repeat."""
    on_object: "NDArray[np.bool_] | None" = None
    """(S,) whether a token lies on the object that is asked for, in whole or in part; None where
    that is not known, and where there is no such object in the image."""
    on_photograph: "NDArray[np.bool_] | None" = None
    """(S,) whether a token lies on the photograph, in whole or in part, and not on padding."""


@dataclass(frozen=True)
class MaskKind:
    """What a masking condition does: it hides image tokens, or shows another image."""

    name: str
    """Under `kind` in `mask.conditions`; the names of conditions begin with it."""
    label: str
    """In figures and report; the share follows where there is one."""
    hides: "Callable[[MaskableImage, float], NDArray[np.intp]] | None" = None
    """(image, share of its tokens) → tokens to hide; None: the whole image is replaced."""
    shows: Literal["own", "blank", "other"] = "own"
    """The item's own image, a grey one of its size, or another item's."""
    control: str | None = None
    """Kind, of the same share and mode, that it is compared to; None: it is compared to no
    other."""
    ranked: bool = True
    """Whether it reads what ranks the tokens, so that a condition may name another ranking."""
    sized: bool = True
    """Whether a condition gives the share that is hidden."""
    repeated: bool = False
    """Whether it may be repeated with other seeds."""
    of_object: bool = False
    """Whether it reads where the object is, and is run on items of which that is known."""

    def __post_init__(self) -> None:
        if (self.hides is None) == (self.shows == "own"):
            raise ValueError(f"mask kind {self.name!r} must hide tokens or show another image")
        if self.hides is None or self.of_object:
            object.__setattr__(self, "sized", False)
        if not self.sized:
            object.__setattr__(self, "ranked", False)


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


def _on_object(image: MaskableImage, share: float) -> "NDArray[np.intp]":
    import numpy as np

    assert image.on_object is not None
    return np.flatnonzero(image.on_object)


def _off_object(image: MaskableImage, share: float) -> "NDArray[np.intp]":
    import numpy as np

    assert image.on_object is not None
    assert image.on_photograph is not None
    return np.flatnonzero(image.on_photograph & ~image.on_object)


def _random_like(
    hides: "Callable[[MaskableImage, float], NDArray[np.intp]]",
) -> "Callable[[MaskableImage, float], NDArray[np.intp]]":
    """As many tokens of the photograph at random as another kind hides."""

    def drawn(image: MaskableImage, share: float) -> "NDArray[np.intp]":
        import numpy as np

        from vrp.signals.structural import random_tokens

        assert image.on_photograph is not None
        places = np.flatnonzero(image.on_photograph)
        return places[random_tokens(len(places), len(hides(image, share)), image.seed)]

    return drawn


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
        MaskKind("random", "random", hides=_random, ranked=False, repeated=True),
        MaskKind("bottom", "least attended", hides=_least_attended, control="random"),
        MaskKind(
            "object", "the object hidden", hides=_on_object, control="random_object",
            of_object=True,
        ),
        MaskKind(
            "random_object", "as many patches as the object’s, at random",
            hides=_random_like(_on_object), repeated=True, of_object=True,
        ),
        MaskKind(
            "background", "all but the object hidden", hides=_off_object,
            control="random_background", of_object=True,
        ),
        MaskKind(
            "random_background", "as many patches as the background’s, at random",
            hides=_random_like(_off_object), repeated=True, of_object=True,
        ),
        MaskKind(BLANK_IMAGE, "blank image", shows="blank"),
        MaskKind("other_image", "another item’s image", shows="other"),
        MaskKind(SHAM, "nothing hidden", hides=_none, sized=False),
    )
}  # fmt: skip
"""Every kind by its name, in the order in which figures and report show them."""

_MODE_LABELS = {"embedding": "replaced by the mean embedding", "pixels": "painted grey"}
_RANKING_LABELS = {
    "without_sinks": "sinks left out",
    "times_values": "attention × value norm",
}


@dataclass(frozen=True)
class MaskCondition:
    """One way to answer an item with image tokens hidden, or with another image."""

    kind: str
    """Name of its `MaskKind`."""
    share: float | None = None
    """Share of the image tokens that are hidden; None for kinds that take none."""
    mode: str = "attention"
    """How they are hidden: `attention`, `embedding` or `pixels`."""
    ranking: str = "attention"
    """What ranks the tokens: `attention`, `without_sinks` or `times_values`."""
    layers: tuple[int, int] | None = None
    """First and last decoder layer whose maps rank them; None: all."""
    seed: int = 0
    """Repeat of a random condition; 0 otherwise."""
    n_items: int | None = None
    """Items that it is run on; None: all that are masked."""
    one_set: ClassVar[bool] = False
    """Whether a repeat is one random set for all items; here each item has its own."""

    @property
    def name(self) -> str:
        """Name in the tables, such as `top_30` or `top_30_pixels`; repeats have the same."""
        stem = self.kind if self.size is None else f"{self.kind}_{self.size:g}"
        return stem + self.variant

    @property
    def label(self) -> str:
        """Name in figures and report, such as `most attended 30% of patches, painted grey`."""
        return f"{self.kind_label} {self.extent}".rstrip().replace(" ,", ",")

    @property
    def kind_label(self) -> str:
        """Which tokens are hidden, or which image is shown, in words."""
        return MASK_KINDS[self.kind].label

    @property
    def extent(self) -> str:
        """How much is hidden, and how, in words; empty where that goes without saying."""
        parts = ["" if self.size is None else f"{self.size:g}% of patches"]
        if self.mode in _MODE_LABELS:
            parts.append(_MODE_LABELS[self.mode])
        if self.ranking in _RANKING_LABELS:
            parts.append(_RANKING_LABELS[self.ranking])
        if self.layers is not None:
            parts.append(f"layers {self.layers[0]} to {self.layers[1]}")
        return ", ".join(parts)

    @property
    def rank(self) -> float:
        """Place of its kind among the others, by which figures and report sort."""
        return list(MASK_KINDS).index(self.kind)

    @property
    def size(self) -> float | None:
        """Percent of the image tokens; None for kinds that take no share."""
        return None if self.share is None else 100 * self.share

    @property
    def variant(self) -> str:
        """What tells it from conditions of the same kind and size: mode, ranking and layers."""
        mode = f"_{self.mode}" if self.mode != "attention" else ""
        ranking = f"_{self.ranking}" if self.ranking != "attention" else ""
        layers = "" if self.layers is None else f"_layers{self.layers[0]}to{self.layers[1]}"
        return mode + ranking + layers

    @property
    def shows(self) -> str:
        """The image that is shown: `own`, `blank` or `other`."""
        return MASK_KINDS[self.kind].shows

    @property
    def of_object(self) -> bool:
        """Whether it is run only on items of which it is known where the object is."""
        return MASK_KINDS[self.kind].of_object

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the conditions that it is compared to: the first that the study has."""
        control = MASK_KINDS[self.kind].control
        return () if control is None else (MaskCondition(control, self.share, self.mode).name,)

    def hidden_tokens(self, image: MaskableImage) -> "NDArray[np.intp]":
        """Return the image tokens that it hides; of conditions that show the item's own image."""
        hides = MASK_KINDS[self.kind].hides
        assert hides is not None
        return hides(image, self.share or 0.0)


def mask_conditions(mask: "MaskConfig") -> list[MaskCondition]:
    """Return the conditions of an item in the order in which they run, repeats one by one.

    The first changes nothing, and is the baseline of the others.

    Args:
        mask: the `mask` section of the config.
    """
    return [MaskCondition(SHAM)] + [
        MaskCondition(
            entry.kind, entry.share, entry.mode, entry.ranking, entry.layers, seed, entry.items
        )
        for entry in mask.conditions
        for seed in range(entry.seeds)
    ]
