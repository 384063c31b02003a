"""PaliGemma: SigLIP patches through a linear map into Gemma (early fusion, prefix-LM)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PaliGemmaForConditionalGeneration

from vrp.data.item import ImageSize
from vrp.errors import InputError
from vrp.vlm.chat_template import image_and, own_template, render_turn
from vrp.vlm.families.base import (
    Family,
    FamilyOptions,
    Grid,
    Positions,
    uniform_boxes,
)


class PaliGemma(Family):
    """The image is stretched to one square (16×16 tokens at 224 pixels) and leads the prompt.

    Image and question attend to each other both ways; answer tokens attend backwards only.
    """

    name = "paligemma"
    model_class = PaliGemmaForConditionalGeneration
    # The checkpoints were tuned on bare questions: a short answer needs no suffix.
    prompts = {  # noqa: RUF012
        "short_answer": "{question}\n",
        "plain": "{question}\n",
        "answer_en": "answer en {question}\n",
    }
    image_policies = ("resize",)
    is_causal = False  # image tokens attend to the question

    def __init__(
        self, config: Any, tokenizer: Any, image_processor: Any, options: FamilyOptions
    ) -> None:
        """See `Family`."""
        super().__init__(config, tokenizer, image_processor, options)
        side = int(config.vision_config.image_size) // int(config.vision_config.patch_size)
        self._grid = Grid(side, side)

    @classmethod
    def check_template(cls, source: str, revision: str | None, tokenizer: Any) -> None:
        """Refuse a chat template that has more than the question."""
        template = own_template(source, revision, tokenizer)
        if template is not None:
            framed = render_turn(tokenizer, template, image_and("Is it red?"))
            bare = framed.replace("<image>", "").replace(tokenizer.bos_token, "")
            if bare.strip() != "Is it red?":
                raise InputError(
                    f"checkpoint {source}: its chat template frames a question as {framed!r}; "
                    "family 'paligemma' writes the question alone: remove the template where the "
                    "model was not tuned with it"
                )

    def render_prompt(self, question: str) -> str:
        """Return the image, the beginning-of-sequence token and the question line."""
        body = self.prompts[self.prompt].format(question=question)
        return f"<image>{self.tokenizer.bos_token}{body}"

    def grid(self, image_size: ImageSize) -> Grid:
        """Return the one grid that all images share."""
        return self._grid

    def patch_boxes(self, image_size: ImageSize) -> np.ndarray:
        """Return boxes over the whole image."""
        return uniform_boxes(self._grid, *image_size)

    def join_features(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (1, tokens of all images, d_model), however many of each there are."""
        return torch.cat(list(features))[None]

    def positions(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        grids: Sequence[Grid],
    ) -> Positions:
        """Count from 1."""
        prompt, first_answer = super().positions(model, input_ids, attention_mask, grids)
        return Positions(prompt + 1, first_answer + 1)

    def prefill_inputs(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Type 0 is the prefix, which is read both ways."""
        return {"token_type_ids": torch.zeros_like(input_ids)}

    def step_inputs(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Type 1 is the answer, which is read backwards only."""
        return {"token_type_ids": torch.ones_like(input_ids)}

    def norm_gain(self, norm: Any) -> torch.Tensor:
        """Gemma stores the gain's distance from one."""
        return 1.0 + norm.weight.float()


FAMILY = PaliGemma
