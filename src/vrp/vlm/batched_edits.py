"""Many edits of one batch: the layers under an edit are computed once, not once an edit.

What an edit does to a layer's output cannot reach the layers below it, and in the prefill those
are most of the work. Their residuals and their part of the cache are kept from one prefill
without an edit; each edited run starts above them. Decode steps run all layers.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import Cache

from vrp.vlm.model import VLM
from vrp.vlm.prefill import Decoder, Prepared
from vrp.vlm.residual import entering_stream
from vrp.vlm.residual_edits import Edit


class Trunk:
    """One prefill of a batch without an edit, kept up to the layers at which edits start."""

    def __init__(self, vlm: VLM, prepared: Prepared, edits: Iterable[Edit]) -> None:
        """Run the prefill once and keep what the edits need."""
        self._vlm = vlm
        starts = sorted({edit.first_changed_layer for edit in edits})
        self._residuals: dict[int, torch.Tensor] = {}
        self._cache: list[tuple[torch.Tensor, torch.Tensor]] = []
        if starts and starts[-1] > 0:
            self._keep(prepared, [start - 1 for start in starts if start > 0])

    @torch.inference_mode()
    def _keep(self, prepared: Prepared, layers: list[int]) -> None:
        def keeper(layer: int) -> Any:
            def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
                self._residuals[layer] = output

            return keep

        modules = self._vlm.layers
        handles = [modules[layer].register_forward_hook(keeper(layer)) for layer in layers]
        try:
            decoder = Decoder(self._vlm, prepared)
            decoder.prefill()
        finally:
            for handle in handles:
                handle.remove()
        kept = decoder.cache.layers[: layers[-1] + 1]
        self._cache = [(layer.keys, layer.values) for layer in kept]

    @contextmanager
    def under(self, edit: Edit) -> Iterator[None]:
        """Within the block, prefills of the same batch start where the edit does.

        Only answers may be read then: the residual stream below the edit does not pass by.
        """
        modules = self._vlm.layers
        start = edit.first_changed_layer
        own = list(modules[:start])
        try:
            for index, layer in enumerate(own):
                last = index + 1 == start
                residual = self._residuals[index] if last else None
                modules[index] = _Kept(layer, index, self._cache[index], residual)
            yield
        finally:
            for index, layer in enumerate(own):
                modules[index] = layer


class _Kept(nn.Module):
    """Stands in for a layer whose output in the prefill is known; a decode step runs the layer."""

    def __init__(
        self,
        layer: nn.Module,
        index: int,
        cache: tuple[torch.Tensor, torch.Tensor],
        residual: torch.Tensor | None,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.index = index
        self.cache = cache
        self.residual = residual

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        entering = entering_stream(self.layer, args, kwargs)
        keys, values = self.cache
        same_batch = entering.shape[:2] == (keys.shape[0], keys.shape[2])
        if not same_batch:  # a decode step, or a batch split for lack of memory
            return self.layer(*args, **kwargs)
        # By type: transformers has renamed this argument before.
        [cache] = [value for value in (*args, *kwargs.values()) if isinstance(value, Cache)]
        cache.update(keys, values, self.index)
        return entering if self.residual is None else self.residual
