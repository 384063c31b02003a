"""Edits of the residual stream: what is changed, at which layer. It imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Site = Literal["residual", "mlp"]
"""`residual`: dimensions of a decoder layer's output; `mlp`: hidden units of its MLP, as they enter
the projection back to the residual stream."""


@dataclass(frozen=True)
class LayerEdit:
    """Something that is done to the residual stream at one decoder layer."""

    layer: int
    """Decoder layer, 0…L−1."""

    @property
    def inside(self) -> bool:
        """Whether it acts inside the layer, and not on the layer's output."""
        return False

    @property
    def first_changed_layer(self) -> int:
        """The first layer to recompute; L where none changes."""
        return self.layer if self.inside else self.layer + 1

    @property
    def n_neurons(self) -> int:
        """Neurons that it replaces."""
        return 0


@dataclass(frozen=True)
class NeuronEdit(LayerEdit):
    """Neurons replaced at all positions, decoding too."""

    neurons: "np.ndarray"
    """(n,) dimensions of the residual stream, or hidden units of the MLP."""
    value: "float | np.ndarray" = 0.0
    """One value for all, or (n,) one for each, such as their means."""
    site: Site = "residual"
    """Where they are."""

    @property
    def inside(self) -> bool:
        """Whether they are inside the layer."""
        return self.site == "mlp"

    @property
    def n_neurons(self) -> int:
        """Neurons that it replaces."""
        return len(self.neurons)


@dataclass(frozen=True)
class MlpBypass(LayerEdit):
    """A decoder layer's whole MLP adds nothing to the residual stream."""

    @property
    def inside(self) -> bool:
        """Whether it acts inside the layer."""
        return True


@dataclass(frozen=True)
class HeadBypass(LayerEdit):
    """One attention head of a decoder layer adds nothing to the residual stream."""

    head: int
    """Query head, 0…H−1."""

    @property
    def inside(self) -> bool:
        """Whether it acts inside the layer."""
        return True


@dataclass(frozen=True)
class Shift(LayerEdit):
    """A vector added to a layer's output at the prompt's last token and at those of the answer."""

    vector: "np.ndarray"
    """(d_model,)"""


Edit = NeuronEdit | MlpBypass | HeadBypass | Shift
"""The edits that `vrp.vlm.residual` can make."""
