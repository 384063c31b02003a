"""Floating-point operations of a model's passes: twice the multiply-adds of its matrix products.

From the measured operations a of a token and b of a query with a key, in all decoder layers, width
d and vocabulary V:

    prefill of T tokens      a·T + b·T² + 2·d·V
    decode step, T keys      a + b·T + 2·d·V

The whole square T² of attention is counted, as kernels that take a padding mask compute it; only
the last position is unembedded. Norms, softmax, rotations and activations are left out: they are
no matrix products, and well under 1% of the operations. Embedding a token is a look-up.
"""

from typing import NamedTuple

from vrp.vlm.capture_spec import CaptureSpec
from vrp.vlm.dimensions import Dimensions


class ItemFlops(NamedTuple):
    """Floating-point operations of one item."""

    image: int
    """Encode the image."""
    prefill: int
    """Run the prompt, image tokens included."""
    decode: int
    """Steps after the first answer token."""
    capture: int
    """What is read beside the answer."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def prefill_flops(dimensions: Dimensions, n_tokens: int) -> int:
    """Return the operations of one item's prefill of `n_tokens`, image tokens included."""
    each = dimensions.token_flops + dimensions.pair_flops * n_tokens
    return n_tokens * each + unembed_flops(dimensions)


def shared_prefill_flops(
    dimensions: Dimensions, n_tokens: int, *, n_behind: int, sharing: float
) -> int:
    """Return the operations of one item's prefill where items of an image share what precedes.

    Args:
        dimensions: of the model.
        n_tokens: prompt tokens, image tokens included.
        n_behind: those behind the image, which each item has for itself.
        sharing: items that share the rest.
    """
    if sharing <= 1 or not (dimensions.is_causal and dimensions.drops_tokens):
        return prefill_flops(dimensions, n_tokens)
    n_shared = n_tokens - n_behind
    each, pair = dimensions.token_flops, dimensions.pair_flops
    shared = n_shared * (each + pair * n_shared) / sharing
    return round(shared) + n_behind * (each + pair * n_tokens) + unembed_flops(dimensions)


def decode_flops(dimensions: Dimensions, n_keys: int) -> int:
    """Return the operations of a decode step that attends to `n_keys` tokens, its own included."""
    return dimensions.token_flops + dimensions.pair_flops * n_keys + unembed_flops(dimensions)


def unembed_flops(dimensions: Dimensions) -> int:
    """Return the operations from one residual to its logits: 2·d·V."""
    return 2 * dimensions.d_model * dimensions.vocabulary


def capture_flops(
    dimensions: Dimensions, capture: CaptureSpec, *, n_tokens: int, n_answer_tokens: int
) -> int:
    """Return the operations that a capture adds to one item.

    Rows of attention are the scores of one query a forward; the lens unembeds every layer once;
    contributions pull one direction back through each layer's output projection.
    """
    total = 0
    if capture.attention or capture.head_rows:
        n_keys = sum(n_tokens + step for step in range(max(1, n_answer_tokens)))
        total += dimensions.pair_flops * n_keys // 2
    if capture.lens:
        total += dimensions.n_layers * unembed_flops(dimensions)
    if capture.contributions:
        joined = dimensions.n_heads * dimensions.d_head
        total += dimensions.n_layers * 2 * joined * dimensions.d_model
    return total


def item_flops(
    dimensions: Dimensions,
    *,
    n_image_tokens: int,
    n_tokens: int,
    n_answer_tokens: int,
    capture: CaptureSpec | None = None,
    questions_per_image: float = 1.0,
    n_behind: int | None = None,
) -> ItemFlops:
    """Return the operations of one item from image to answer.

    Args:
        dimensions: of the model.
        n_image_tokens: image tokens S.
        n_tokens: prompt tokens, image tokens included.
        n_answer_tokens: tokens that are predicted, end-of-sequence included; the prefill gives
            the first.
        capture: what is read; nothing by default.
        questions_per_image: items of a batch that share one encoding.
        n_behind: prompt tokens behind the image, where those up to it are shared, too.
    """
    steps = [decode_flops(dimensions, n_tokens + step) for step in range(1, n_answer_tokens)]
    read = (
        capture_flops(dimensions, capture, n_tokens=n_tokens, n_answer_tokens=n_answer_tokens)
        if capture
        else 0
    )
    return ItemFlops(
        image=round(dimensions.image_flops.at(n_image_tokens) / questions_per_image),
        prefill=shared_prefill_flops(
            dimensions,
            n_tokens,
            n_behind=n_tokens if n_behind is None else n_behind,
            sharing=1.0 if n_behind is None else questions_per_image,
        ),
        decode=sum(steps),
        capture=read,
    )
