"""Bytes that one batch of an extraction needs, part by part, and its peak.

For a batch of B items of T tokens, S of them image tokens, at s bytes a value (layers L, width d,
heads H, K of them for keys and values, of width d_h, vocabulary V):

    weights         s · parameters
    cache           2·s · L·K·d_h · B·T
    image tokens    s · d · B·S, held with the batch
    prompt          measured of a token, cache and the fullest layer included, · B·T, and a mask
                    of B·T² booleans
    logits          B·V, their log-probabilities and products, in float32
    attention rows  4 · L·H·B·S a copy: one per forward, a stack of it, and the running sum
    lens            2·4 · max(B·V, 2²⁵): logits of as many layers at once, and a masked copy
    vision          measured of an image, · B

Fused attention is assumed (no T×T scores). The prefill, what is read after it, the decode steps
and the vision tower follow one another, so the peak is the largest of them, not their sum.
Allocators round up and keep some of what is freed, and matrix libraries have workspaces: leave a
tenth beside.
"""

from typing import NamedTuple

from vrp.errors import InputError
from vrp.vlm.capture_spec import CaptureSpec
from vrp.vlm.dimensions import BYTES_PER_VALUE, Dimensions
from vrp.vlm.memory_limits import MAX_LENS_LOGITS

_FLOAT32 = 4
# Copies of the attention rows while decode steps add to their sum: the forward's own, its stack,
# the stack's rows that count, the sum, and the sum's rows that are added to.
_ROW_COPIES = 5


class Memory(NamedTuple):
    """Bytes of one batch."""

    weights: int
    """All parameters."""
    image_tokens: int
    """Image embeddings, held with the batch."""
    prompt: int
    """The most alive in the decoder's prefill, the cache and the mask included."""
    cache: int
    """Keys and values of the whole prompt in all layers."""
    logits: int
    """Logits of the first answer token and what is computed of them."""
    attention_rows: int
    """One copy of the rows of attention to the image tokens; 0 where not captured."""
    hidden: int
    """Residuals and components at the positions that are read."""
    lens: int
    """Logit-lens logits of the layers unembedded at once."""
    contributions: int
    """Output projections in float32, one layer at a time."""
    vision: int
    """The most alive inside the vision tower, for all images of the batch at once."""

    @property
    def held(self) -> int:
        """What lives from prefill to answer, beside the weights."""
        return self.image_tokens + self.cache + self.hidden

    @property
    def phases(self) -> dict[str, int]:
        """Peak of each phase, beside the weights."""
        read = max(self.logits, self.logits // 2 + max(self.lens, self.contributions))
        # The prefill takes the images' embeddings joined, the batch holds them one by one.
        images = 2 * self.image_tokens
        return {
            "encode": self.vision,
            "prefill": images + self.prompt + self.hidden + self.attention_rows,
            "read": self.held + 2 * self.attention_rows + read,
            "decode": self.held + _ROW_COPIES * self.attention_rows,
        }

    @property
    def activations(self) -> int:
        """Peak beside the weights."""
        return max(self.phases.values())

    @property
    def total(self) -> int:
        """Peak of the whole run."""
        return self.weights + self.activations


def predict_memory(
    dimensions: Dimensions,
    *,
    n_tokens: int,
    batch_size: int,
    capture: CaptureSpec | None = None,
    dtype: str = "bfloat16",
    n_image_tokens: int | None = None,
) -> Memory:
    """Predict the memory of one batch, each item with an image of its own.

    Args:
        dimensions: of the model.
        n_tokens: tokens of a prompt, padding and image tokens included.
        batch_size: items.
        capture: what is read; nothing by default.
        dtype: float32, bfloat16 or float16.
        n_image_tokens: image tokens of an item; by default the family's fixed number, or all of
            the prompt where image sizes are dynamic.

    Raises:
        InputError: an unknown dtype, or sizes that do not go together.
    """
    if dtype not in BYTES_PER_VALUE:
        raise InputError(f"dtype {dtype!r} is unknown; choose from: {', '.join(BYTES_PER_VALUE)}")
    if n_image_tokens is None:
        n_image_tokens = dimensions.images.n_tokens or n_tokens
    if batch_size < 1 or not 0 < n_image_tokens <= n_tokens:
        raise InputError(
            f"a batch of {batch_size} items of {n_tokens} tokens, {n_image_tokens} of them image "
            "tokens, cannot be; give a prompt that holds its image"
        )
    size = BYTES_PER_VALUE[dtype]
    read = CaptureSpec() if capture is None else capture
    measured = dimensions.activations(dtype)
    n_prompt, n_image = batch_size * n_tokens, batch_size * n_image_tokens
    return Memory(
        weights=size * dimensions.n_parameters,
        image_tokens=size * dimensions.d_model * n_image,
        prompt=n_prompt * (measured.token + n_tokens),
        cache=kv_cache_bytes_per_token(dimensions, dtype=dtype) * n_prompt,
        logits=5 * _FLOAT32 * batch_size * dimensions.vocabulary,
        attention_rows=_row_bytes(dimensions, n_image, read),
        hidden=_hidden_bytes(dimensions, batch_size, read),
        lens=_lens_bytes(dimensions, batch_size, size) if read.lens else 0,
        contributions=_projection_bytes(dimensions, size) if read.contributions else 0,
        vision=batch_size * measured.image.at(n_image_tokens),
    )


def kv_cache_bytes_per_token(dimensions: Dimensions, *, dtype: str = "bfloat16") -> int:
    """Return the bytes of one token's keys and values in all layers."""
    width = dimensions.n_kv_heads * dimensions.d_head
    return 2 * dimensions.n_layers * width * BYTES_PER_VALUE[dtype]


def _row_bytes(dimensions: Dimensions, n_image: int, capture: CaptureSpec) -> int:
    if not (capture.attention or capture.head_rows):
        return 0
    return _FLOAT32 * dimensions.n_layers * dimensions.n_heads * n_image


def _hidden_bytes(dimensions: Dimensions, batch_size: int, capture: CaptureSpec) -> int:
    """Vectors (B, d) in float32: residuals and their stack, and five components a layer."""
    vectors = 0
    if capture.hidden or capture.lens or capture.contributions:
        vectors += (1 + max(1, len(capture.hidden))) * (dimensions.n_layers + 1)
    if capture.contributions:
        vectors += 5 * dimensions.n_layers
    return _FLOAT32 * dimensions.d_model * batch_size * vectors


def _lens_bytes(dimensions: Dimensions, batch_size: int, size: int) -> int:
    """Logits of the layers unembedded at once in float32, and the copy without the truth."""
    a_layer = batch_size * dimensions.vocabulary
    n_layers = min(dimensions.n_layers, max(1, MAX_LENS_LOGITS // a_layer))
    return n_layers * a_layer * max(size + _FLOAT32, 2 * _FLOAT32)


def _projection_bytes(dimensions: Dimensions, size: int) -> int:
    """One layer's output projection in float32, where it is not float32 already."""
    queries = dimensions.n_heads * dimensions.d_head
    return 0 if size == _FLOAT32 else _FLOAT32 * dimensions.d_model * queries
