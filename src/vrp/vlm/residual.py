"""Read and edit the residual stream through forward hooks.

Edits are registered first and reads after them, so what is read is the edited stream. Reads keep
the last position only (`prompt_end` in a left-padded prefill, the newest token in a decode step).
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from vrp.errors import InputError
from vrp.vlm.model import VLM
from vrp.vlm.prefill import running_part
from vrp.vlm.residual_edits import Edit, HeadBypass, MlpBypass, NeuronEdit, Shift


class ImageTokens(NamedTuple):
    """Where the image tokens of a padded batch are."""

    positions: torch.Tensor
    """(B, S_max) positions in the padded prompt; any position beyond an item's own."""
    counts: torch.Tensor
    """(B,) image tokens S_i of each item."""


@dataclass
class ResidualTap:
    """What is read of the residual stream in each forward, at the last position."""

    n_layers: int
    """Decoder layers L."""
    hidden: bool = False
    """Keep the residual after every layer."""
    components: bool = False
    """Keep what attention and MLP add, and the joined heads before their output projection."""
    image_tokens: ImageTokens | None = None
    """Whose norms and residual update are measured in the prefill; None: not measured."""
    residuals: list[torch.Tensor] = field(default_factory=list)
    """L+1 tensors (B, d_model): the input to layer 0, then the output of each layer."""
    attention_outputs: list[torch.Tensor] = field(default_factory=list)
    """L tensors (B, d_model): what attention adds."""
    mlp_outputs: list[torch.Tensor] = field(default_factory=list)
    """L tensors (B, d_model): what the MLP adds."""
    joined_heads: list[torch.Tensor] = field(default_factory=list)
    """L tensors (B, H·d_head): heads' outputs before their projection."""
    projected_heads: list[torch.Tensor] = field(default_factory=list)
    """L tensors (B, d_model): heads' outputs after their projection, before any norm."""
    updates: list[torch.Tensor] = field(default_factory=list)
    """L tensors (B,): ‖h(l) − h(l−1)‖₂, mean over image tokens."""
    image_norms: list[torch.Tensor] = field(default_factory=list)
    """L tensors (B, S_max): norm of each image token's residual as it enters the layer."""

    def clear(self) -> None:
        """Forget the last forward; done before each one."""
        for kept in (
            self.residuals,
            self.attention_outputs,
            self.mlp_outputs,
            self.joined_heads,
            self.projected_heads,
            self.updates,
            self.image_norms,
        ):
            kept.clear()

    def stacked_residuals(self) -> torch.Tensor:
        """Return (B, L+1, d_model) of the latest forward."""
        device = self.residuals[0].device
        return torch.stack([kept.to(device) for kept in self.residuals], dim=1)


@contextmanager
def attached(vlm: VLM, tap: ResidualTap, edits: Sequence[Edit] = ()) -> Iterator[ResidualTap]:
    """Hook `edits`, then the reads of `tap`, into the model within the `with` block.

    Raises:
        InputError: an edit names a layer or a neuron that the model does not have.
    """
    for edit in edits:
        _check(vlm, edit)
    handles: list[Any] = []
    try:
        for edit in edits:
            handles.append(_hook_edit(vlm, edit))
        handles.extend(_hook_reads(vlm, tap))
        yield tap
    finally:
        for handle in handles:
            handle.remove()


def _check(vlm: VLM, edit: Edit) -> None:
    if not 0 <= edit.layer < vlm.n_layers:
        raise InputError(f"layer {edit.layer} to edit is not among 0…{vlm.n_layers - 1}")
    if isinstance(edit, HeadBypass) and not 0 <= edit.head < vlm.n_heads:
        raise InputError(f"head {edit.head} to bypass is not among 0…{vlm.n_heads - 1}")
    if isinstance(edit, Shift) and np.shape(edit.vector) != (vlm.d_model,):
        raise InputError(
            f"a shift of shape {np.shape(edit.vector)} for a residual stream of {vlm.d_model}"
        )
    if isinstance(edit, NeuronEdit):
        _check_neurons(vlm, edit)


def _check_neurons(vlm: VLM, edit: NeuronEdit) -> None:
    neurons, width = np.asarray(edit.neurons), vlm.n_neurons(edit.site, edit.layer)
    if neurons.size and not (neurons.min() >= 0 and neurons.max() < width):
        raise InputError(f"neurons to edit are not all among 0…{width - 1}")
    if np.ndim(edit.value) and np.shape(edit.value) != neurons.shape:
        raise InputError(
            f"{neurons.size} neurons are edited but {np.size(edit.value)} values are given"
        )


def hook_last_state(vlm: VLM, layer: int, keep: Callable[[torch.Tensor], object]) -> Any:
    """Hand the residual after a decoder layer, at the last position, to a function in each forward.

    Args:
        vlm: the model.
        layer: decoder layer.
        keep: takes (B, d_model) float32.

    Returns:
        The hook, to be removed.
    """

    def read(module: Any, args: Any, output: torch.Tensor) -> None:
        keep(_last(output))

    return vlm.layers[layer].register_forward_hook(read)


def _hook_edit(vlm: VLM, edit: Edit) -> Any:
    layer, family = vlm.layers[edit.layer], vlm.family
    if isinstance(edit, MlpBypass):
        # Zeroed where it is added to the stream: after the norm that follows the MLP, if any.
        writer = family.mlp_writer(layer)
        return writer.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    if isinstance(edit, HeadBypass):
        width = family.attention_output(layer).in_features // vlm.n_heads
        its = np.arange(edit.head * width, (edit.head + 1) * width)
        return _replace_inputs(family.attention_output(layer), _replacement(its, 0.0))
    if isinstance(edit, Shift):
        return layer.register_forward_hook(_shift(edit))
    replaced = _replacement(edit.neurons, edit.value)
    if edit.site == "mlp":
        return _replace_inputs(family.mlp_output(layer), replaced)
    return layer.register_forward_hook(lambda module, args, output: replaced(output))


def _replacement(
    neurons: np.ndarray, value: float | np.ndarray
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that puts values into the last dimension of a copy of a tensor."""
    places = torch.as_tensor(np.asarray(neurons, dtype=np.int64))
    values = torch.as_tensor(np.broadcast_to(value, places.shape).astype(np.float32))

    def replaced(tensor: torch.Tensor) -> torch.Tensor:
        edited = tensor.clone()  # the layer's own tensor may be in use elsewhere
        edited[..., places.to(tensor.device)] = values.to(tensor.device, tensor.dtype)
        return edited

    return replaced


def _replace_inputs(module: nn.Module, replaced: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return module.register_forward_pre_hook(lambda module, args: (replaced(args[0]), *args[1:]))


def _shift(edit: Shift) -> Any:
    vector = torch.as_tensor(np.asarray(edit.vector, dtype=np.float32))

    def add(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        part = running_part()
        if part is not None:
            last_column = part.prepared.input_ids.shape[1]
            if part.start + output.shape[1] < last_column:
                return output  # what prompts share: their last token is not among it
        shifted = output.clone()
        shifted[:, -1] += vector.to(output.device, output.dtype)
        return shifted

    return add


def _hook_reads(vlm: VLM, tap: ResidualTap) -> list[Any]:
    handles: list[Any] = []
    if tap.hidden or tap.image_tokens is not None:
        first = vlm.layers[0]
        # The embedding is read as it enters layer 0: image tokens are merged into it by then.
        handles.append(first.register_forward_pre_hook(_read_embed(tap), with_kwargs=True))
        for layer in vlm.layers:
            handles.append(layer.register_forward_hook(_read_layer(tap), with_kwargs=True))
    if tap.components:
        for layer in vlm.layers:
            projection = vlm.family.attention_output(layer)
            handles.append(projection.register_forward_hook(_read_projection(tap)))
            attention = vlm.family.attention_writer(layer)
            handles.append(attention.register_forward_hook(_read_into(tap.attention_outputs)))
            mlp = vlm.family.mlp_writer(layer)
            handles.append(mlp.register_forward_hook(_read_into(tap.mlp_outputs)))
    return handles


def entering_stream(layer: nn.Module, args: Any, kwargs: Any) -> torch.Tensor:
    """Return the residual stream among a decoder layer's arguments: its first, however named."""
    if args:
        return args[0]
    [first, *_] = inspect.signature(layer.forward).parameters
    return kwargs[first]


def _last(stream: torch.Tensor) -> torch.Tensor:
    """Copy the last position (B, d) in float32; a view would keep all positions in memory."""
    return stream[:, -1].to(torch.float32, copy=True)


def _read_embed(tap: ResidualTap) -> Any:
    def read(module: Any, args: Any, kwargs: Any) -> None:
        if tap.hidden:
            tap.residuals.append(_last(entering_stream(module, args, kwargs)))

    return read


def _read_layer(tap: ResidualTap) -> Any:
    def read(module: Any, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        if tap.hidden:
            tap.residuals.append(_last(output))
        # Decode steps have one position, and no image token.
        if tap.image_tokens is not None and output.shape[1] > 1:
            before = entering_stream(module, args, kwargs)
            tap.updates.append(mean_update(before, output, tap.image_tokens))
            norms = torch.linalg.vector_norm(before, dim=-1, dtype=torch.float32)
            positions = tap.image_tokens.positions.to(norms.device)
            tap.image_norms.append(norms.gather(1, positions))

    return read


def mean_update(before: torch.Tensor, after: torch.Tensor, image: ImageTokens) -> torch.Tensor:
    """Return (B,) ‖after − before‖₂, mean over each item's image tokens, in float32.

    Other positions, such as padding, are ignored, even where they are not finite.

    Args:
        before: (B, T, d) residual stream.
        after: (B, T, d) the same after a layer.
        image: the image tokens.
    """
    # With a dtype, the kernel sums in it without a copy of the stream.
    before = before.to(after.device)  # in a spread model, the layer below may be on another device
    steps = torch.linalg.vector_norm(after - before, dim=-1, dtype=torch.float32)
    positions, counts = image.positions.to(steps.device), image.counts.to(steps.device)
    own = torch.arange(positions.shape[1], device=steps.device) < counts[:, None]
    return steps.gather(1, positions).where(own, 0.0).sum(-1) / counts


def _read_projection(tap: ResidualTap) -> Any:
    def read(module: Any, args: Any, output: torch.Tensor) -> None:
        tap.joined_heads.append(_last(args[0]))
        tap.projected_heads.append(_last(output))

    return read


def _read_into(kept: list[torch.Tensor]) -> Any:
    def read(module: Any, args: Any, output: Any) -> None:
        written = output[0] if isinstance(output, tuple) else output
        kept.append(_last(written))

    return read
