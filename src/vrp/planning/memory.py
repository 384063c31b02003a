"""Bytes that one batch of an extraction needs, part by part, and its peak.

For a batch of B items of T tokens, S of them image tokens, at s bytes a value (d, H, d_h, K, f, L,
V as in `vrp.planning.compute`):

    weights         s · parameters
    cache           2·s · L·K·d_h · B·T
    image tokens    s · d · B·S, held with the batch
    prompt          s · (d·T + d·S) · B of embeddings, rotary tables, and the mask: B·T² booleans
                    and, inside a kernel, B·T² values
    layer           the most that is alive inside one decoder layer: gated MLP 2·d + 3·f a token,
                    or rotation of the queries, or the repeated keys and values of grouped heads
    logits          B·V, their log-probabilities and products, in float32
    attention rows  4 · L·H·B·S a copy: one per forward, a stack of it, and the running sum
    lens            2·4 · max(B·V, 2²⁵): logits of as many layers at once, and a masked copy

Fused attention is assumed (no T×T scores). The prefill, what is read after it, the decode steps
and the vision tower follow one another, so the peak is the largest of them, not their sum.
Allocators round up and keep some of what is freed, and matrix libraries have workspaces: leave a
tenth beside.
"""

from typing import NamedTuple

from vrp.errors import InputError
from vrp.planning.architecture import Architecture
from vrp.vlm.capture import CaptureSpec

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
_FLOAT32 = 4
# As in `vrp.vlm.lens`: logits of several layers at once, bounded to this many values.
_MAX_LENS_LOGITS = 2**25
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
    """Embeddings, rotary tables and mask, alive through the prefill."""
    cache: int
    """Keys and values of the whole prompt in all layers."""
    layer: int
    """The most alive inside one decoder layer of the prefill."""
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
        return {
            "encode": self.vision + self.image_tokens,
            "prefill": self.held + self.prompt + self.layer + self.attention_rows,
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
    architecture: Architecture,
    *,
    n_tokens: int,
    batch_size: int,
    capture: CaptureSpec | None = None,
    dtype: str = "bfloat16",
    n_image_tokens: int | None = None,
) -> Memory:
    """Predict the memory of one batch, each item with an image of its own.

    Args:
        architecture: the model.
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
        fixed = architecture.image_rule.side is not None
        n_image_tokens = architecture.n_image_tokens((1, 1)) if fixed else n_tokens
    if batch_size < 1 or not 0 < n_image_tokens <= n_tokens:
        raise InputError(
            f"a batch of {batch_size} items of {n_tokens} tokens, {n_image_tokens} of them image "
            "tokens, cannot be; give a prompt that holds its image"
        )
    size = BYTES_PER_VALUE[dtype]
    read = CaptureSpec() if capture is None else capture
    n_prompt, n_image = batch_size * n_tokens, batch_size * n_image_tokens
    return Memory(
        weights=size * architecture.parameters.total,
        image_tokens=size * architecture.d_model * n_image,
        prompt=_prompt_bytes(architecture, batch_size, n_tokens, n_image, size),
        cache=kv_cache_bytes_per_token(architecture, dtype=dtype) * n_prompt,
        layer=_layer_bytes(architecture, n_prompt, size, read),
        logits=5 * _FLOAT32 * batch_size * architecture.vocabulary,
        attention_rows=_row_bytes(architecture, n_image, read),
        hidden=_hidden_bytes(architecture, batch_size, read),
        lens=_lens_bytes(architecture, batch_size, size) if read.lens else 0,
        contributions=_projection_bytes(architecture, size) if read.contributions else 0,
        vision=_vision_bytes(architecture, batch_size, n_image_tokens, size),
    )


def kv_cache_bytes_per_token(architecture: Architecture, *, dtype: str = "bfloat16") -> int:
    """Return the bytes of one token's keys and values in all layers."""
    width = architecture.n_kv_heads * architecture.d_head
    return 2 * architecture.n_layers * width * BYTES_PER_VALUE[dtype]


def _prompt_bytes(
    architecture: Architecture, batch_size: int, n_tokens: int, n_image: int, size: int
) -> int:
    """Embeddings with the images put in, the joined images, rotary tables, and the mask."""
    d, n_prompt = architecture.d_model, batch_size * n_tokens
    embeddings = size * d * (n_prompt + n_image)
    rotary = 2 * size * architecture.d_head * n_prompt
    mask = (1 + size) * batch_size * n_tokens**2
    return embeddings + rotary + mask


def _layer_bytes(architecture: Architecture, n_prompt: int, size: int, capture: CaptureSpec) -> int:
    """The largest of what a decoder layer holds at once: its input, and one of its stages."""
    d, f = architecture.d_model, architecture.d_ffn
    queries = architecture.n_heads * architecture.d_head
    keys = architecture.n_kv_heads * architecture.d_head
    repeated = 2 * queries if queries > keys else 0  # keys and values, once a query head
    stages = {
        "norm": size * 2 * d + 2 * _FLOAT32 * d,
        "rotation": size * (2 * d + 2 * keys + 4 * queries),
        "attention": size * (2 * d + 2 * queries + repeated),
        "mlp": size * (2 * d + 3 * f),
        # The layer's input, its output, their difference, and that in float32.
        "update": (size * 3 * d + _FLOAT32 * d) if capture.residual_update else 0,
    }
    return n_prompt * max(stages.values())


def _row_bytes(architecture: Architecture, n_image: int, capture: CaptureSpec) -> int:
    if not (capture.attention or capture.head_rows):
        return 0
    return _FLOAT32 * architecture.n_layers * architecture.n_heads * n_image


def _hidden_bytes(architecture: Architecture, batch_size: int, capture: CaptureSpec) -> int:
    """Vectors (B, d) in float32: residuals and their stack, and five components a layer."""
    vectors = 0
    if capture.hidden or capture.lens or capture.contributions:
        vectors += (1 + max(1, len(capture.hidden))) * (architecture.n_layers + 1)
    if capture.contributions:
        vectors += 5 * architecture.n_layers
    return _FLOAT32 * architecture.d_model * batch_size * vectors


def _lens_bytes(architecture: Architecture, batch_size: int, size: int) -> int:
    """Logits of the layers unembedded at once in float32, and the copy without the truth."""
    a_layer = batch_size * architecture.vocabulary
    n_layers = min(architecture.n_layers, max(1, _MAX_LENS_LOGITS // a_layer))
    return n_layers * a_layer * max(size + _FLOAT32, 2 * _FLOAT32)


def _projection_bytes(architecture: Architecture, size: int) -> int:
    """One layer's output projection in float32, where it is not float32 already."""
    queries = architecture.n_heads * architecture.d_head
    return 0 if size == _FLOAT32 else _FLOAT32 * architecture.d_model * queries


def _vision_bytes(
    architecture: Architecture, batch_size: int, n_image_tokens: int, size: int
) -> int:
    """The largest of what a layer of the vision tower holds at once, and the pixels."""
    vision = architecture.vision
    d, f = vision.d_model, vision.d_ffn
    n_patches = batch_size * n_image_tokens * vision.merge_size**2
    n_tokens = batch_size * vision.n_tokens(n_image_tokens)
    pixels = size * n_patches * vision.values_per_patch
    # x·sigmoid(1.7·x) has one term more alive than GELU.
    activation = 2 * f if vision.kind == "siglip" else 3 * f
    stages = {
        "attention": size * 7 * d,
        "mlp": size * (2 * d + activation),
        # Qwen2-VL rotates queries and keys in float32.
        "rotation": (size * 5 * d + _FLOAT32 * 6 * d) if vision.kind == "qwen2_vl" else 0,
    }
    return pixels + n_tokens * max(stages.values())
