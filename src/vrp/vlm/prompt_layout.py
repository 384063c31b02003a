"""Where the tokens of a batch's prompts are: padded, and with shared beginnings.

A token's rotary position is given to the model beside it, so that the columns of a batch may be
arranged as is cheapest: what several prompts begin with is run once for all of them.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch

from vrp.vlm.batching import VlmInput
from vrp.vlm.families.base import Positions
from vrp.vlm.model import VLM


class SharedPrefixes(NamedTuple):
    """What several prompts of a batch have in common at their beginning."""

    n_columns: int
    """P, so many of the padded prompts' first columns hold the prefixes, padded on the left."""
    items: torch.Tensor
    """(G,) one item of each distinct prefix."""
    prefix_of: torch.Tensor
    """(B,) place of each item's prefix among these."""
    hold_image: bool
    """Whether the image tokens are in the prefixes, or behind them."""


class Layout(NamedTuple):
    """The columns of a batch."""

    input_ids: torch.Tensor
    """(B, T) tokens."""
    attention_mask: torch.Tensor
    """(B, T) 0 on padding."""
    positions: Positions
    """Rotary positions, per item."""
    shared: SharedPrefixes | None
    """What is run once; None where all is run for each item."""


def share_prefixes(
    vlm: VLM, inputs: Sequence[VlmInput], prompts: Sequence[list[int]], layout: Layout
) -> Layout:
    """Put what prompts about one image begin with, up to the image's last token, in front.

    Args:
        vlm: the model.
        inputs: the items.
        prompts: their tokens.
        layout: left-padded.

    Returns:
        A layout with shared prefixes; the same where each item has an image of its own, or where
        tokens of the model look ahead.
    """
    if not vlm.family.shares_prefixes(vlm.model):
        return layout
    n_first = [len(prompt) - prompt[::-1].index(vlm.image_token_id) for prompt in prompts]
    shared = shared_by(
        [
            (item.image_key or id(item.image), *prompt[:n])
            for item, prompt, n in zip(inputs, prompts, n_first, strict=True)
        ],
        max(n_first),
        hold_image=True,
    )
    if shared is None:
        return layout
    n_columns = layout.input_ids.shape[1]
    own = [torch.arange(n_columns - len(prompt), n_columns) for prompt in prompts]
    return arranged(vlm, layout, own, n_first)._replace(shared=shared)


def image_index(vlm: VLM, input_ids: torch.Tensor, n_tokens: Sequence[int]) -> torch.Tensor:
    """Return (B, S_max) columns of the image tokens; 0 beyond an item's own.

    Args:
        vlm: the model.
        input_ids: (B, T) padded prompts.
        n_tokens: image tokens of each item.
    """
    index = input_ids.new_zeros(len(n_tokens), max(n_tokens))
    for row, n in enumerate(n_tokens):
        index[row, :n] = (input_ids[row] == vlm.image_token_id).nonzero()[:, 0]
    return index


def shared_by(
    prefixes: Sequence[Hashable], n_columns: int, *, hold_image: bool
) -> SharedPrefixes | None:
    """Find out which prefixes are the same; None where all differ.

    Args:
        prefixes: what tells each item's prefix.
        n_columns: columns that hold the prefixes.
        hold_image: whether the image is in them.
    """
    place: dict[Hashable, int] = {}
    items: list[int] = []
    for row, prefix in enumerate(prefixes):
        if prefix not in place:
            place[prefix] = len(items)
            items.append(row)
    if len(items) == len(prefixes):
        return None
    prefix_of = torch.tensor([place[prefix] for prefix in prefixes])
    # On the CPU, from where indices reach a cache spread over several devices.
    return SharedPrefixes(n_columns, torch.tensor(items), prefix_of, hold_image)


def arranged(
    vlm: VLM, layout: Layout, own: Sequence[torch.Tensor], n_first: Sequence[int]
) -> Layout:
    """Return a batch with other columns: first parts padded on the left, and behind them the rest.

    Args:
        vlm: the model.
        layout: what is there.
        own: per item, the columns that it keeps, ascending.
        n_first: per item, how many of these are in its first part.
    """
    n_columns = max(n_first) + max(len(kept) - n for kept, n in zip(own, n_first, strict=True))
    columns = torch.full((len(own), n_columns), -1)  # padding
    for row, (kept, n) in enumerate(zip(own, n_first, strict=True)):
        columns[row, max(n_first) - n : max(n_first)] = kept[:n]
        columns[row, n_columns - (len(kept) - n) :] = kept[n:]
    columns = columns.to(layout.input_ids.device)
    is_own, source = columns >= 0, columns.clamp_min(0)
    ids = layout.input_ids.gather(1, source).where(is_own, vlm.eos_token_ids[0])
    prompt = layout.positions.prompt
    # Where positions have several axes, each has a row.
    source = source.expand(*prompt.shape[:-1], -1)
    positions = prompt.gather(-1, source).where(is_own, 0)
    return Layout(ids, is_own.long(), layout.positions._replace(prompt=positions), None)
