"""Floating-point operations of a model's passes: twice the multiply-adds of its matrix products.

For tokens T, layers L, residual width d, heads H of width d_h (K of them for keys and values),
gated MLP of width f, vocabulary V:

    projections of a token   P = L·(2·d·H·d_h + 2·d·K·d_h + 3·d·f)
    prefill of T tokens      2·T·P + 4·L·T²·H·d_h + 2·d·V
    decode step, T keys      2·P + 4·L·T·H·d_h + 2·d·V

The whole square T² of attention is counted, as kernels that take a padding mask compute it; only
the last position is unembedded. Norms, softmax, rotations and activations are left out: they are
no matrix products, and well under 1% of the operations. Embedding a token is a look-up.
"""

from typing import NamedTuple

from vrp.planning.architecture import Architecture, Linear
from vrp.vlm.capture import CaptureSpec


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


def image_flops(architecture: Architecture, n_image_tokens: int) -> int:
    """Return the operations to encode one image into so many image tokens.

    All layers of the tower are run, also where an earlier layer's features are taken.
    """
    vision = architecture.vision
    n_patches = n_image_tokens * vision.merge_size**2
    n_tokens = vision.n_tokens(n_image_tokens)
    d = vision.d_model
    patches = 2 * n_patches * vision.values_per_patch * d
    dense = 2 * n_tokens * (4 * d * d + 2 * d * vision.d_ffn)
    attention = 4 * n_tokens**2 * d
    # A merged token's projector sees all its patches at once: one row per image token.
    n_rows = n_image_tokens
    return patches + vision.n_layers * (dense + attention) + n_rows * _flops(architecture.projector)


def prefill_flops(architecture: Architecture, n_tokens: int) -> int:
    """Return the operations of one item's prefill of `n_tokens`, image tokens included."""
    dense = n_tokens * _projection_flops(architecture)
    return dense + n_tokens * _attention_flops(architecture, n_tokens) + unembed_flops(architecture)


def decode_flops(architecture: Architecture, n_keys: int) -> int:
    """Return the operations of a decode step that attends to `n_keys` tokens, its own included."""
    attention = _attention_flops(architecture, n_keys)
    return _projection_flops(architecture) + attention + unembed_flops(architecture)


def unembed_flops(architecture: Architecture) -> int:
    """Return the operations from one residual to its logits: 2·d·V."""
    return 2 * architecture.d_model * architecture.vocabulary


def capture_flops(
    architecture: Architecture, capture: CaptureSpec, *, n_tokens: int, n_answer_tokens: int
) -> int:
    """Return the operations that a capture adds to one item.

    Rows of attention are the scores of one query a forward; the lens unembeds every layer once;
    contributions pull one direction back through each layer's output projection.
    """
    total = 0
    if capture.attention or capture.head_rows:
        n_keys = sum(n_tokens + step for step in range(max(1, n_answer_tokens)))
        total += _attention_flops(architecture, n_keys) // 2
    if capture.lens:
        total += architecture.n_layers * unembed_flops(architecture)
    if capture.contributions:
        total += architecture.n_layers * _flops(architecture.attention_projections[-1:])
    return total


def item_flops(
    architecture: Architecture,
    *,
    n_image_tokens: int,
    n_tokens: int,
    n_answer_tokens: int,
    capture: CaptureSpec | None = None,
    questions_per_image: float = 1.0,
) -> ItemFlops:
    """Return the operations of one item from image to answer.

    Args:
        architecture: the model.
        n_image_tokens: image tokens S.
        n_tokens: prompt tokens, image tokens included.
        n_answer_tokens: tokens that are predicted, end-of-sequence included; the prefill gives
            the first.
        capture: what is read; nothing by default.
        questions_per_image: items of a batch that share one encoding.
    """
    steps = [decode_flops(architecture, n_tokens + step) for step in range(1, n_answer_tokens)]
    read = (
        capture_flops(architecture, capture, n_tokens=n_tokens, n_answer_tokens=n_answer_tokens)
        if capture
        else 0
    )
    return ItemFlops(
        image=round(image_flops(architecture, n_image_tokens) / questions_per_image),
        prefill=prefill_flops(architecture, n_tokens),
        decode=sum(steps),
        capture=read,
    )


def _flops(layers: tuple[Linear, ...]) -> int:
    """Operations of one row through dense layers."""
    return sum(2 * layer.d_in * layer.d_out for layer in layers)


def _projection_flops(architecture: Architecture) -> int:
    """Operations of one token in the dense layers of all decoder layers."""
    layers = architecture.attention_projections + architecture.mlp_projections
    return architecture.n_layers * _flops(layers)


def _attention_flops(architecture: Architecture, n_keys: int) -> int:
    """Operations of one query's scores and weighted sums over keys, in all decoder layers."""
    joined = architecture.n_heads * architecture.d_head
    return architecture.n_layers * 4 * n_keys * joined
