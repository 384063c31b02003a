"""Edits of the residual stream: what is changed, at which layer. It imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class LayerEdit:
    """Something that is done to the residual stream at one decoder layer."""

    layer: int
    """Decoder layer, 0…L−1."""
    inside: ClassVar[bool] = False
    """Whether it acts inside the layer, and not on the layer's output."""

    @classmethod
    def first_changed_layer_at(cls, layer: int) -> int:
        """Return the first layer to recompute under such an edit; L where none changes."""
        return layer if cls.inside else layer + 1

    @property
    def first_changed_layer(self) -> int:
        """The first layer to recompute; L where none changes."""
        return self.first_changed_layer_at(self.layer)

    @property
    def n_neurons(self) -> int:
        """Dimensions of the residual stream that it replaces."""
        return 0


@dataclass(frozen=True)
class NeuronEdit(LayerEdit):
    """Residual dimensions replaced at a decoder layer's output, at all positions, decoding too."""

    neurons: "np.ndarray"
    """(n,) dimensions of the residual stream."""
    value: "float | np.ndarray" = 0.0
    """One value for all, or (n,) one for each, such as their means."""

    @property
    def n_neurons(self) -> int:
        """Dimensions of the residual stream that it replaces."""
        return len(self.neurons)


@dataclass(frozen=True)
class MlpBypass(LayerEdit):
    """A decoder layer's whole MLP adds nothing to the residual stream."""

    inside: ClassVar[bool] = True


Edit = NeuronEdit | MlpBypass
"""The edits that `vrp.vlm.residual` can make."""
