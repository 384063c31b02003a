"""Causal tracing at a prompt's last token, whose logits give the first answer token.

What is changed here is changed at that token alone: what it may attend to in a window of layers
(attention knockout; Geva et al. 2023), or its residual at a layer (activation patching; Meng et
al. 2022). In a causal model nothing before it can then differ, so that a condition costs one token;
in a prefix language model the layers above the change are run anew.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from vrp.errors import InputError
from vrp.vlm.attention_tap import AttentionTap, LastQueryBlock, active
from vrp.vlm.batched_edits import StartsAtLayer, Trunk
from vrp.vlm.model import VLM
from vrp.vlm.prefill import Decoder, Prepared
from vrp.vlm.residual import ResidualTap, attached

TokenKind = Literal["image", "text"]


@dataclass(frozen=True)
class Knockout:
    """The last token may not attend to some tokens, in a window of layers."""

    first_layer: int
    """First decoder layer of the window."""
    last_layer: int
    """Last decoder layer of the window."""
    tokens: TokenKind
    """The image's tokens, or those of the question behind it."""

    @property
    def first_changed_layer(self) -> int:
        """The first layer to recompute."""
        return self.first_layer

    def block(self, vlm: VLM, prepared: Prepared) -> LastQueryBlock:
        """Return what the last query of a batch may not attend to."""
        layers = range(self.first_layer, self.last_layer + 1)
        return LastQueryBlock(layers, self._columns(vlm, prepared))

    def _columns(self, vlm: VLM, prepared: Prepared) -> torch.Tensor:
        """(B, T) True on the image's tokens, or on those behind it but the last."""
        is_image = prepared.input_ids == vlm.image_token_id
        if self.tokens == "image":
            return is_image
        behind = (is_image.flip(1).cumsum(1).flip(1) == 0) & prepared.attention_mask.bool()
        behind[:, -1] = False
        # A leading token that every query falls back to says nothing of the question.
        bos = vlm.tokenizer.bos_token_id
        return behind if bos is None else behind & (prepared.input_ids != bos)


@dataclass(frozen=True)
class Patch:
    """The last token's residual after a layer is another run's."""

    layer: int
    """Decoder layer, 0…L−1."""
    states: torch.Tensor
    """(B, d_model) what stands in."""

    @property
    def first_changed_layer(self) -> int:
        """The first layer to recompute."""
        return self.layer + 1


TraceEdit = Knockout | Patch


class LastToken:
    """A prefilled batch whose prompts' last token can be run again under any number of edits."""

    @torch.inference_mode()
    def __init__(self, vlm: VLM, prepared: Prepared, edits: Sequence[StartsAtLayer] = ()) -> None:
        """Prefill a batch.

        Args:
            vlm: the model.
            prepared: the batch.
            edits: those to come: the layers below them are kept where the model is not causal.
        """
        self.vlm = vlm
        self.prepared = prepared
        self._before: Decoder | None = None
        self._trunk: Trunk | None = None
        if vlm.family.is_causal:
            self._before = Decoder(vlm, prepared)
            self._before.prefill()
            self._before.cache.crop(-1)
        else:
            self._trunk = Trunk(vlm, prepared, edits)
        # As the edited runs are made, so that an edit that changes nothing changes no bit.
        tap = ResidualTap(n_layers=vlm.n_layers, hidden=True)
        with attached(vlm, tap):
            self.logits = self._run()
        self.states = tap.stacked_residuals()
        """(B, L+1, d_model) residual at the last token: entering layer 0, then after each."""

    def _run(self) -> torch.Tensor:
        if self._before is None:
            return Decoder(self.vlm, self.prepared).prefill()
        return self._before.fork().run_last()

    @torch.inference_mode()
    def under(self, edit: TraceEdit) -> torch.Tensor:
        """Return raw logits (B, V) of the first answer token under an edit, in float32.

        Raises:
            InputError: the edit names a layer that the model does not have.
        """
        layers = (edit.layer,) if isinstance(edit, Patch) else (edit.first_layer, edit.last_layer)
        if not 0 <= layers[0] <= layers[-1] < self.vlm.n_layers:
            raise InputError(
                f"layers {layers[0]} to {layers[-1]} to trace are not among "
                f"0…{self.vlm.n_layers - 1}"
            )
        below = self._trunk.under(edit) if self._trunk is not None else nullcontext()
        with below, self._made(edit):  # the hook goes onto what stands in for the layer
            return self._run()

    @contextmanager
    def _made(self, edit: TraceEdit) -> Iterator[None]:
        if isinstance(edit, Knockout):
            block = edit.block(self.vlm, self.prepared)
            index, n_layers = self.prepared.image_index, self.vlm.n_layers
            tap = AttentionTap(index, n_layers=n_layers, collect=False, block=block)
            with active(tap):
                yield
            return

        def put_in(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            patched = output.clone()
            patched[:, -1] = edit.states.to(output.device, output.dtype)
            return patched

        handle = self.vlm.layers[edit.layer].register_forward_hook(put_in)
        try:
            yield
        finally:
            handle.remove()
