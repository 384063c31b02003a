"""What `generate` is given so that a model is asked as the study asked it."""

import inspect
from collections.abc import Sequence

import torch
from PIL import Image

from vrp.vlm.model import VLM
from vrp.vlm.prefill import expanded_prompts, left_padded

_IMAGE_TYPES = "mm_token_type_ids"


@torch.inference_mode()
def generation_inputs(
    vlm: VLM, images: Sequence[Image.Image], questions: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return prompts, padded on the left, and pixels, on the model's device.

    Args:
        vlm: the model, bound to its processor.
        images: 8-bit RGB, upright.
        questions: as many bare questions.

    Raises:
        InputError: an image that cannot be used, or a question that holds a placeholder.
    """
    grids = [vlm.grid(image.size) for image in images]
    ids, mask = left_padded(vlm, expanded_prompts(vlm, questions, grids))
    found = {"input_ids": ids, "attention_mask": mask, **vlm.family.prefill_inputs(ids)}
    takes = inspect.signature(type(vlm.model).forward).parameters
    if _IMAGE_TYPES in takes:
        found[_IMAGE_TYPES] = (ids == vlm.image_token_id).to(ids.dtype)
    for name, values in vlm.family.process_images(images).items():
        moved = values.to(vlm.device)
        found[name] = moved.to(vlm.dtype) if moved.is_floating_point() else moved
    return found
