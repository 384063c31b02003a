"""The attention tap: rows of chosen queries, and masked columns, without a T×T map.

Registered through transformers' attention interface under `ATTENTION_NAME`. The output is
`sdpa`'s. While a tap is active, softmax(q kᵀ·scaling + mask) is computed once more for the last
query of each sequence alone: `prompt_end` in the prefill, the newest token in a decode step.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION_NAME = "vrp_tap"

# Values of keys that are held as float32 copies at a time.
_MAX_COPIED = 2**22


class _Combined(NamedTuple):
    """A mask of the model's with the hidden columns blocked as well."""

    mask: torch.Tensor | None
    """The model's own; kept, so that no other mask can be taken for it."""
    sizes: tuple[int, int]
    """Queries and keys."""
    combined: torch.Tensor
    """The two together."""


class LastQueryBlock(NamedTuple):
    """What the last query may not attend to."""

    layers: range
    """Decoder layers in which it may not."""
    columns: torch.Tensor
    """(B, T) True at the prompt's positions that it may not attend to."""


class AttentionTap:
    """What one batch wants of attention, and what was collected in the latest forward.

    Args:
        image_index: (B, S_max) positions of the image tokens in the padded prompt; any position
            where an item has fewer.
        n_layers: decoder layers.
        collect: whether rows are kept.
        keep: (B, T) False where a prompt position is hidden from every query but its own.
        block: what is hidden from the last query alone.
    """

    def __init__(
        self,
        image_index: torch.Tensor,
        *,
        n_layers: int,
        collect: bool,
        keep: torch.Tensor | None = None,
        block: LastQueryBlock | None = None,
    ) -> None:
        self.image_index = image_index
        self.collect = collect
        self.keep = keep
        self.block = block
        self.rows: list[torch.Tensor | None] = [None] * n_layers
        # Full and sliding layers have a mask each; no model has more kinds.
        self._combined: deque[_Combined] = deque(maxlen=2)

    def stacked_rows(self) -> torch.Tensor:
        """Return (L, B, H, S_max) rows of the latest forward."""
        collected = [row for row in self.rows if row is not None]
        if len(collected) != len(self.rows):
            raise RuntimeError("attention rows are missing: a layer does not use the attention tap")
        return torch.stack([row.to(collected[0].device) for row in collected])

    def select(self, rows: torch.Tensor) -> None:
        """Keep only these rows of the batch, in this order, as the cache does."""
        self._combined.clear()
        self.image_index = self.image_index[rows]
        if self.keep is not None:
            self.keep = self.keep[rows]

    def masked(
        self, module: Any, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the attention mask with hidden columns blocked; made once a forward and mask."""
        if self.block is not None and module.layer_idx in self.block.layers:
            mask = _block_last(self.block.columns, module, mask, query, key)
        if self.keep is None:
            return mask
        # transformers hands one mask object, or None, to all layers of a kind in a forward.
        sizes = (query.shape[2], key.shape[2])
        for made in self._combined:
            if made.mask is mask and made.sizes == sizes:
                return made.combined.to(query.device)
        combined = _combine(self.keep, module, mask, query, key)
        self._combined.append(_Combined(mask, sizes, combined))
        return combined


def _combine(
    keep: torch.Tensor,
    module: Any,
    mask: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
) -> torch.Tensor:
    n_queries, n_keys = query.shape[2], key.shape[2]
    # The queries are the newest positions: all of them in the prefill, one in a decode step.
    own = torch.arange(n_keys - n_queries, n_keys, device=query.device)[:, None]
    columns = torch.arange(n_keys, device=query.device)[None, :]
    visible = torch.ones(keep.shape[0], n_keys, dtype=torch.bool, device=query.device)
    visible[:, : keep.shape[1]] = keep.to(query.device)  # generated tokens are always visible
    # A hidden token sees itself: a row of attention with nothing to see would be NaN.
    return _restricted(mask, visible[:, None, None, :] | (own == columns), module)


def _block_last(
    columns: torch.Tensor,
    module: Any,
    mask: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
) -> torch.Tensor:
    """Return the mask with columns blocked for the last query."""
    n_queries, n_keys = query.shape[2], key.shape[2]
    allowed = torch.ones(len(columns), 1, n_queries, n_keys, dtype=torch.bool, device=query.device)
    allowed[:, 0, -1, : columns.shape[1]] = ~columns.to(query.device)
    return _restricted(mask, allowed, module)


def _restricted(mask: torch.Tensor | None, allowed: torch.Tensor, module: Any) -> torch.Tensor:
    """Return a mask, boolean or additive, with what is not allowed, (B, 1, Q, K), blocked too."""
    if mask is None:  # sdpa would then have used its own causal flag, which a mask switches off
        if getattr(module, "is_causal", True):
            n_queries, n_keys = allowed.shape[-2:]
            allowed = allowed & allowed.new_ones(n_queries, n_keys).tril(n_keys - n_queries)
        return allowed
    if mask.dtype == torch.bool:
        return mask & allowed
    return mask.masked_fill(~allowed, torch.finfo(mask.dtype).min)


def last_query_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
) -> torch.Tensor:
    """Return (B, H, K) attention probabilities of the last query, in float32.

    Args:
        query: (B, H, Q, d) after rotation.
        key: (B, H_kv, K, d) after rotation, cache included; H is a multiple of H_kv.
        mask: (B or 1, 1, Q, K), boolean or additive; None where the last query sees all.
        scaling: what scores are multiplied by.
    """
    batch, n_heads, _, width = query.shape
    n_groups = key.shape[1]
    # Query heads that share a key head are the rows of one product: keys are never repeated.
    grouped = query[:, :, -1].reshape(batch * n_groups, n_heads // n_groups, width)
    products = _float32_products(grouped, key.flatten(0, 1).transpose(1, 2))
    scores = products.reshape(batch, n_heads, -1) * scaling
    if mask is not None:
        row = mask[:, :, -1, : key.shape[2]]
        if row.dtype == torch.bool:
            scores = scores.masked_fill(~row, float("-inf"))
        else:
            scores = scores + row.float()
    return scores.softmax(-1)


def _float32_products(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return (N, G, K) products of (N, G, d) and (N, d, K), summed and kept in float32.

    A product of bfloat16 tensors is rounded to bfloat16, by up to 0.4%: a score of 20 would move by
    up to 0.06, and its probability by 6%. The fused kernels do not round scores either.
    """
    if query.dtype not in (torch.bfloat16, torch.float16):
        return torch.bmm(query, keys).float()
    if keys.device.type in ("cuda", "meta"):
        return torch.bmm(query, keys, out_dtype=torch.float32)
    # Elsewhere there is no such product: the keys are copied, few at a time.
    n_at_once = max(1, _MAX_COPIED // max(1, keys[0].numel()))
    parts = zip(query.split(n_at_once), keys.split(n_at_once), strict=True)
    return torch.cat([torch.bmm(some.float(), to.float()) for some, to in parts])


_ACTIVE: ContextVar[AttentionTap | None] = ContextVar("vrp_attention_tap", default=None)


@contextmanager
def active(tap: AttentionTap) -> Iterator[AttentionTap]:
    """Make `tap` the one that tapped models report to, within the `with` block."""
    token = _ACTIVE.set(tap)
    try:
        yield tap
    finally:
        _ACTIVE.reset(token)


def tapped_attention_forward(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Return sdpa's output; report to the active tap, if there is one."""
    tap = _ACTIVE.get()
    if tap is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    mask = tap.masked(module, attention_mask, query, key)
    output = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **kwargs)
    if tap.collect:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        rows = last_query_rows(query, key, mask, scale)
        # Answers are appended on the right: positions within the prompt stay valid in every step.
        index = tap.image_index.to(rows.device)[:, None, :].expand(-1, rows.shape[1], -1)
        tap.rows[module.layer_idx] = rows.gather(2, index)
    return output


AttentionInterface.register(ATTENTION_NAME, tapped_attention_forward)
# Without its own mask function the mask would silently be None, and left-padded rows wrong.
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
