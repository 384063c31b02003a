"""The hidden units of decoder layers' MLPs: how active they are, and what they write."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vrp.vlm.batching import VlmInput
from vrp.vlm.model import VLM
from vrp.vlm.out_of_memory import split_to_fit
from vrp.vlm.prefill import Decoder, prepare


class MlpUnits(NamedTuple):
    """The hidden units of one layer's MLP, at the last token of prompts."""

    mean: NDArray[np.float64]
    """(n,) mean activation."""
    rms: NDArray[np.float64]
    """(n,) root mean square activation."""
    writes: NDArray[np.float64]
    """(d_model, n) what an activation of 1 adds to the residual stream, before any norm that
    follows the MLP."""

    def toward(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n,) how far each unit moves the stream along a (d_model,) vector, root mean
        square over prompts."""
        return np.abs(direction @ self.writes) * self.rms

    @property
    def size(self) -> NDArray[np.float64]:
        """(n,) length of what each unit adds to the stream, root mean square over prompts."""
        return np.linalg.norm(self.writes, axis=0) * self.rms


@torch.inference_mode()
def measure_mlp_units(
    vlm: VLM, batches: Iterable[Sequence[VlmInput]], layers: Sequence[int]
) -> dict[int, MlpUnits]:
    """Return the hidden units of some layers, measured over prompts.

    Args:
        vlm: the model.
        batches: the prompts with their images, in batches.
        layers: decoder layers.

    Raises:
        InputError: a layer has no hidden units that can be read.
    """
    modules = {layer: vlm.family.mlp_output(vlm.layers[layer]) for layer in layers}
    total = {layer: np.zeros(module.in_features) for layer, module in modules.items()}
    squares = {layer: np.zeros(module.in_features) for layer, module in modules.items()}
    seen: dict[int, NDArray[np.float64]] = {}

    def reader(layer: int) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def read(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            seen[layer] = args[0][:, -1].double().cpu().numpy()

        return read

    handles = [module.register_forward_pre_hook(reader(layer)) for layer, module in modules.items()]
    n = 0
    try:
        for inputs in batches:

            def activations_of(
                some: slice, inputs: Sequence[VlmInput] = inputs
            ) -> list[dict[int, NDArray[np.float64]]]:
                # Of what prompts share first; the last part of the prompts overwrites it.
                Decoder(vlm, prepare(vlm, inputs[some])).prefill()
                return [dict(seen)]

            ids = [item.item_id for item in inputs]
            for found in split_to_fit(ids, activations_of):
                for layer, values in found.items():
                    total[layer] += values.sum(axis=0)
                    squares[layer] += np.square(values).sum(axis=0)
            n += len(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {
        layer: MlpUnits(
            total[layer] / n, np.sqrt(squares[layer] / n),
            module.weight.double().cpu().numpy(),
        )
        for layer, module in modules.items()
    }  # fmt: skip
