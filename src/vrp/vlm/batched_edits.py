"""Many edits of one batch: the layers under an edit are computed once, not once an edit.

What an edit does to a layer's output cannot reach the layers below it, and in the prefill those
are most of the work. Their residuals and their part of the cache are kept from one prefill
without an edit; each edited run starts above them. Decode steps run all layers.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from transformers import Cache

from vrp.vlm.model import VLM
from vrp.vlm.prefill import Decoder, Prepared, running_part
from vrp.vlm.residual import entering_stream


class StartsAtLayer(Protocol):
    """An edit."""

    @property
    def first_changed_layer(self) -> int:
        """The first layer to recompute; L where none changes."""


Cached = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""
ByPart = dict[int, torch.Tensor]
"""First column of a part of the prompts → a layer's output there."""


class Trunk:
    """One prefill of a batch without an edit, kept up to the layers at which edits start."""

    def __init__(self, vlm: VLM, prepared: Prepared, edits: Iterable[StartsAtLayer]) -> None:
        """Run the prefill once and keep what the edits need."""
        self._vlm = vlm
        self._prepared = prepared
        starts = sorted({edit.first_changed_layer for edit in edits})
        self._residuals: dict[int, ByPart] = {}
        self._cache: list[dict[int, Cached]] = []
        if starts and starts[-1] > 0:
            self._keep([start - 1 for start in starts if start > 0])

    @torch.inference_mode()
    def _keep(self, layers: list[int]) -> None:
        def keeper(layer: int) -> Any:
            found = self._residuals.setdefault(layer, {})

            def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
                part = running_part()
                assert part is not None
                found[part.start] = output

            return keep

        modules = self._vlm.layers
        handles = [modules[layer].register_forward_hook(keeper(layer)) for layer in layers]
        decoder = Decoder(self._vlm, self._prepared)
        try:
            decoder.prefill()
        finally:
            for handle in handles:
                handle.remove()
        kept = decoder.cache.layers[: layers[-1] + 1]
        self._cache = [self._parts(layer.keys, layer.values) for layer in kept]

    def _parts(self, keys: torch.Tensor, values: torch.Tensor) -> "dict[int, Cached]":
        """Return what a layer caches of each part of the prompts, by the part's first column."""
        shared = self._prepared.shared
        if shared is None:
            return {0: (keys, values)}
        n, items = shared.n_columns, shared.items
        return {
            0: (keys[items, :, :n], values[items, :, :n]),
            n: (keys[:, :, n:], values[:, :, n:]),
        }

    @contextmanager
    def under(self, edit: StartsAtLayer) -> Iterator[None]:
        """Within the block, prefills of the same batch start where the edit does.

        Only answers may be read then: the residual stream below the edit does not pass by.
        """
        modules = self._vlm.layers
        start = edit.first_changed_layer
        own = list(modules[:start])
        try:
            for index, layer in enumerate(own):
                last = index + 1 == start
                residuals = self._residuals[index] if last else None
                modules[index] = _Kept(layer, index, self._prepared, self._cache[index], residuals)
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
        prepared: Prepared,
        cache: "dict[int, Cached]",
        residuals: "ByPart | None",
    ) -> None:
        super().__init__()
        self.layer = layer
        self.index = index
        self.prepared = prepared
        self.cache = cache
        self.residuals = residuals

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        part = running_part()
        if part is None or part.prepared is not self.prepared:
            # A decode step, or a batch that was split for lack of memory.
            return self.layer(*args, **kwargs)
        # By type: transformers has renamed this argument before.
        [cache] = [value for value in (*args, *kwargs.values()) if isinstance(value, Cache)]
        cache.update(*self.cache[part.start], self.index)
        if self.residuals is not None:
            return self.residuals[part.start]
        return entering_stream(self.layer, args, kwargs)
