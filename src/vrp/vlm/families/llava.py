"""LLaVA-1.5: CLIP patches through an MLP into Llama (late fusion)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.vlm.chat_template import image_and, own_template, render_turn
from vrp.vlm.families.base import (
    SHORT_ANSWER_SUFFIX,
    Family,
    FamilyOptions,
    Grid,
    uniform_boxes,
)

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


class Llava(Family):
    """One square of image tokens (24×24 in LLaVA-1.5), Vicuna's conversation frame.

    `pad` makes the image square with the processor's mean colour, as the original code does;
    `crop` takes the centre, as the checkpoint's image processor does by itself.
    """

    name = "llava"
    model_class = LlavaForConditionalGeneration
    prompts = {"short_answer": "{question}" + SHORT_ANSWER_SUFFIX, "plain": "{question}"}  # noqa: RUF012
    image_policies = ("pad", "crop")
    adds_special_tokens = True

    def __init__(
        self, config: Any, tokenizer: Any, image_processor: Any, options: FamilyOptions
    ) -> None:
        """See `Family`; also refuses checkpoints whose tokens are not one square of patches."""
        super().__init__(config, tokenizer, image_processor, options)
        if config.vision_feature_select_strategy != "default":
            raise InputError(
                "LLaVA checkpoints with vision_feature_select_strategy other than 'default' "
                "have image tokens outside the grid and are not supported"
            )
        crop = image_processor.crop_size
        patch = config.vision_config.patch_size
        self._grid = Grid(int(crop["height"]) // patch, int(crop["width"]) // patch)
        # Padding is done here, so that it is the same for every image processor class.
        if hasattr(image_processor, "do_pad"):
            image_processor.do_pad = False

    @classmethod
    def check_template(cls, source: str, revision: str | None, tokenizer: Any) -> None:
        """Refuse a chat template that has another frame than Vicuna's."""
        template = own_template(source, revision, tokenizer)
        if template is not None:
            _refuse_other_frame(source, template, tokenizer)

    def render_prompt(self, question: str) -> str:
        """Return Vicuna's system line, the image, the question, and the assistant's turn."""
        body = self.prompts[self.prompt].format(question=question)
        return f"{SYSTEM} USER: <image>\n{body} ASSISTANT:"

    def grid(self, image_size: ImageSize) -> Grid:
        """Return the one grid that all images share."""
        return self._grid

    def patch_boxes(self, image_size: ImageSize) -> np.ndarray:
        """Return boxes over the padded or cropped square, in pixels of the original image."""
        if self.image_policy == "pad":
            return padded_square_boxes(self._grid, image_size)
        return centre_crop_boxes(self._grid, image_size, self.image_processor)

    def process_images(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Pad to a square where that is the policy, then hand over to the image processor."""
        if self.image_policy == "pad":
            colour = tuple(int(255 * mean) for mean in self.image_processor.image_mean)
            images = [pad_to_square(image.convert("RGB"), colour) for image in images]
        return super().process_images(images)


FAMILY = Llava


def _refuse_other_frame(source: str, template: str, tokenizer: Any) -> None:
    """Raise InputError where a chat template puts a question into another frame than Vicuna's.

    A template for text alone is given the image as text, as its model was.
    """
    frame = "USER: <image> Is it red? ASSISTANT:"
    # Published templates leave the system line to the user.
    accepted = {frame, f"{SYSTEM} {frame}"}
    found: list[str] = []
    reasons: list[InputError] = []
    for content in (image_and("Is it red?"), "<image>\nIs it red?"):
        try:
            found.append(render_turn(tokenizer, template, content))
        except InputError as error:
            reasons.append(error)
    if not found:
        raise InputError(f"checkpoint {source}: {reasons[0]}") from reasons[0]
    bos = tokenizer.bos_token or ""
    if not any(" ".join(text.removeprefix(bos).split()) in accepted for text in found):
        raise InputError(
            f"checkpoint {source}: its chat template frames a question as {found[0]!r}, not as "
            "Vicuna's USER: … ASSISTANT:, which family 'llava' writes; use family: auto"
        )


def padded_square_boxes(grid: Grid, image_size: ImageSize) -> np.ndarray:
    """Return (S, 4) boxes of a grid over the image centred on a square of its longer edge."""
    width, height = image_size
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    return uniform_boxes(grid, side, side) - np.array([left, top, left, top])


def centre_crop_boxes(grid: Grid, image_size: ImageSize, image_processor: Any) -> np.ndarray:
    """Return (S, 4) boxes of a grid over the centre that an image processor resizes and crops."""
    width, height = image_size
    short = dict(image_processor.size).get("shortest_edge")
    if short is None:  # stretched to the crop's size as a whole
        return uniform_boxes(grid, width, height)
    crop = image_processor.crop_size
    # The rounding of the image processor's own resize and crop.
    resized_width, resized_height = (int(short * edge / min(width, height)) for edge in image_size)
    left = (resized_width - int(crop["width"])) // 2
    top = (resized_height - int(crop["height"])) // 2
    boxes = uniform_boxes(grid, int(crop["width"]), int(crop["height"]))
    boxes = boxes + np.array([left, top, left, top])
    return boxes * np.tile([width / resized_width, height / resized_height], 2)


def pad_to_square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Centre an RGB image on a square of its longer edge (LLaVA's original preprocessing)."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square
