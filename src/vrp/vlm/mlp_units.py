"""The hidden units of decoder layers' MLPs: how active they are, and what they write."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    vlm: VLM,
    batches: Iterable[Sequence[VlmInput]],
    layers: Sequence[int],
    fold_of: Mapping[str, int],
) -> dict[int, dict[int, MlpUnits]]:
    """Return layer → fold → the layer's hidden units, measured over prompts that are in no fold.

    Args:
        vlm: the model.
        batches: the prompts with their images, in batches.
        layers: decoder layers.
        fold_of: item → fold.

    Raises:
        InputError: a layer has no hidden units that can be read.
    """
    modules = {layer: vlm.family.mlp_output(vlm.layers[layer]) for layer in layers}
    seen: dict[int, NDArray[np.float64]] = {}

    def reader(layer: int) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def read(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            seen[layer] = args[0][:, -1].double().cpu().numpy()

        return read

    handles = [module.register_forward_pre_hook(reader(layer)) for layer, module in modules.items()]
    folds = sorted(set(fold_of.values()))
    sums = {layer: np.zeros((2, len(folds), m.in_features)) for layer, m in modules.items()}
    counts = np.zeros(len(folds))
    try:
        for inputs in batches:
            places = np.array([folds.index(fold_of[item.item_id]) for item in inputs])
            np.add.at(counts, places, 1)
            for layer, values in _activations(vlm, inputs, seen).items():
                np.add.at(sums[layer][0], places, values)
                np.add.at(sums[layer][1], places, np.square(values))
    finally:
        for handle in handles:
            handle.remove()
    return {
        layer: {
            fold: _units(sums[layer], counts, place, module.weight.double().cpu().numpy())
            for place, fold in enumerate(folds)
        }
        for layer, module in modules.items()
    }


def _activations(
    vlm: VLM, inputs: Sequence[VlmInput], seen: Mapping[int, NDArray[np.float64]]
) -> dict[int, NDArray[np.float64]]:
    """Layer → (B, n) what the hooks read of a batch, in halves where memory does not suffice."""

    def read(some: slice) -> list[dict[int, NDArray[np.float64]]]:
        # Of what prompts share first; the last part of the prompts overwrites it.
        Decoder(vlm, prepare(vlm, inputs[some])).prefill()
        return [dict(seen)]

    parts = split_to_fit([item.item_id for item in inputs], read)
    return {layer: np.concatenate([part[layer] for part in parts]) for layer in parts[0]}


def _units(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    place: int,
    writes: NDArray[np.float64],
) -> MlpUnits:
    """Hidden units over all folds but one; over all where there is no other."""
    others = np.arange(len(counts)) != place
    if not others.any():
        others[:] = True
    mean, square = sums[:, others].sum(axis=1) / counts[others].sum()
    return MlpUnits(mean, np.sqrt(square), writes)
