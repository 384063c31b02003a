"""Verify on one item that the parts read from a model add up to its output.

Attention rows, residuals and components are read at the places that a layout names. Where the
layout was inferred from the checkpoint, one prefill verifies it: the parts must sum to the logit
difference that the model itself gives, through the norm and unembedding as read.
"""

import numpy as np
import torch
from PIL import Image

from vrp.errors import InputError
from vrp.vlm.batching import VlmInput
from vrp.vlm.decode import CaptureSpec, ItemCapture, run_batch
from vrp.vlm.model import VLM

_TOLERANCES = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""The most that sums may differ, as a share of the sum of the parts' magnitudes."""


def verify_layout(vlm: VLM) -> None:
    """Answer a made-up item with everything read, and compare what must be equal.

    Raises:
        InputError: the model cannot be run or read as the standard layout is, or what is read does
            not add up.
    """
    shades = np.linspace(0, 255, 96 * 64 * 3).reshape(64, 96, 3).astype(np.uint8)
    item = VlmInput("probe", Image.fromarray(shades), "Is it red?")
    try:
        [capture] = run_batch(vlm, [item], CaptureSpec.full(), max_new_tokens=1)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        first_line = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(
            f"the {vlm.model.config.model_type!r} model cannot be read as the standard layout is "
            f"({first_line}); it needs a family of its own"
        ) from error
    reason = _contradiction(capture, _TOLERANCES[vlm.model.dtype])
    if reason is not None:
        raise InputError(
            f"the {vlm.model.config.model_type!r} model is not of the standard layout: {reason}; "
            "it needs a family of its own"
        )


def _contradiction(capture: ItemCapture, tolerance: float) -> str | None:
    """Return what does not add up in a full capture; None where all does."""
    if "non_finite" in capture.flags:
        return "its logits are not finite"
    read = (
        capture.contribution_embed,
        capture.attention_contribution,
        capture.mlp_contribution,
        capture.lens_decision_margin,
        capture.attention,
    )
    embed, attention, mlp, margins, rows = (np.asarray(part, dtype=np.float64) for part in read)
    magnitude = abs(embed) + np.abs(attention).sum() + np.abs(mlp).sum()
    allowed = tolerance * (magnitude + abs(capture.decision_margin))
    if not abs(margins[-1] - capture.decision_margin) <= allowed:
        return "its final norm and lm_head do not give its logits (a scale or cap between them?)"
    if not abs(embed + attention.sum() + mlp.sum() - capture.decision_margin) <= allowed:
        return "embedding, attention and MLP do not sum to its logits (a scale or another branch?)"
    if not ((rows >= 0) & (rows <= 1)).all():
        return "its attention rows are not shares"
    return None
