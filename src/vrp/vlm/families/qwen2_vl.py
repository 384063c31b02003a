"""Qwen2-VL: its own vision tower at dynamic resolution, M-RoPE (early fusion)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.vlm.chat_template import default_template, own_template, render_question
from vrp.vlm.families.base import (
    SHORT_ANSWER_SUFFIX,
    Family,
    FamilyOptions,
    Grid,
    Positions,
    uniform_boxes,
)


class Qwen2VL(Family):
    """One image token per 2×2 patches, so the grid follows the image's shape and size.

    Positions have three axes (time, row, column); an answer's positions continue from the larger
    side of the grid, which differs per item and is therefore kept per item.
    """

    name = "qwen2_vl"
    model_class = Qwen2VLForConditionalGeneration
    prompts = {"short_answer": "{question}" + SHORT_ANSWER_SUFFIX, "plain": "{question}"}  # noqa: RUF012
    image_policies = ("native",)
    dynamic_resolution = True

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        image_processor: Any,
        options: FamilyOptions,
        template: str | None = None,
    ) -> None:
        """See `Family`; pixel bounds override those of the checkpoint.

        Args:
            config: the checkpoint's configuration.
            tokenizer: its tokenizer.
            image_processor: its image processor.
            options: what the user chooses.
            template: its chat template; None is the tokenizer's.
        """
        super().__init__(config, tokenizer, image_processor, options)
        self._template = template or default_template(getattr(tokenizer, "chat_template", None))
        if self._template is None:
            raise InputError("the Qwen2-VL checkpoint has no chat template")
        self.min_pixels, self.max_pixels = set_pixel_bounds(image_processor, options)

    @classmethod
    def from_checkpoint(
        cls,
        source: str,
        revision: str | None,
        config: Any,
        tokenizer: Any,
        image_processor: Any,
        options: FamilyOptions,
    ) -> "Qwen2VL":
        """Bind a checkpoint with the chat template of its processor."""
        template = own_template(source, revision, tokenizer)
        return cls(config, tokenizer, image_processor, options, template)

    def render_prompt(self, question: str) -> str:
        """Return the checkpoint's chat template for an image and the question."""
        text = self.prompts[self.prompt].format(question=question)
        placeholder = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        return render_question(self.tokenizer, self._template, text, placeholder=placeholder)

    def grid(self, image_size: ImageSize) -> Grid:
        """Return half the patch grid of the resized image along each side."""
        width, height = image_size
        token = self.image_processor.patch_size * self.image_processor.merge_size
        try:
            resized = smart_resize(
                height, width, token, min_pixels=self.min_pixels, max_pixels=self.max_pixels
            )
        except ValueError as error:
            raise InputError(
                f"an image of {width}×{height} pixels cannot be used: {error}"
            ) from None
        return Grid(resized[0] // token, resized[1] // token)

    def patch_boxes(self, image_size: ImageSize) -> np.ndarray:
        """Return boxes over the whole image, which is resized as a whole."""
        return uniform_boxes(self.grid(image_size), *image_size)

    def positions(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        grids: Sequence[Grid],
    ) -> Positions:
        """Return M-RoPE positions (3, B, T); nothing is read from or left in the model."""
        merge = int(self.config.vision_config.spatial_merge_size)
        is_image = input_ids == self.image_token_id
        return mrope_positions(model, input_ids, attention_mask, grids, is_image, merge)

    def step_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Text moves along all three axes at once: (3, B, 1)."""
        return positions[None, :, None].expand(3, -1, -1)


FAMILY = Qwen2VL


def set_pixel_bounds(image_processor: Any, options: FamilyOptions) -> tuple[int, int]:
    """Give the image processor the bounds that were chosen; return those that hold now.

    Raises:
        InputError: the least pixels are more than the most.
    """
    size = {edge: int(image_processor.size[edge]) for edge in ("shortest_edge", "longest_edge")}
    if options.min_pixels is not None:
        size["shortest_edge"] = options.min_pixels
    if options.max_pixels is not None:
        size["longest_edge"] = options.max_pixels
    if size["shortest_edge"] > size["longest_edge"]:
        raise InputError(
            f"min_pixels {size['shortest_edge']} is above max_pixels {size['longest_edge']}"
        )
    image_processor.size = type(image_processor.size)(**size)
    return size["shortest_edge"], size["longest_edge"]


def mrope_positions(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    grids: Sequence[Grid],
    is_image: torch.Tensor,
    merge: int,
) -> Positions:
    """Return M-RoPE positions (3, B, T) as the model counts them, reading no state of it.

    Args:
        model: has `model.get_rope_index`.
        input_ids: (B, T) left-padded prompts.
        attention_mask: (B, T) 0 on padding.
        grids: per item, the layout of its image tokens.
        is_image: (B, T) True on image tokens.
        merge: patches along each side of an image token.
    """
    grid_thw = torch.tensor([[1, merge * g.height, merge * g.width] for g in grids])
    prompt, deltas = model.model.get_rope_index(
        input_ids,
        mm_token_type_ids=is_image.int(),
        image_grid_thw=grid_thw,
        attention_mask=attention_mask,
    )
    return Positions(prompt, attention_mask.sum(-1) + deltas[:, 0])
