"""What the engine is measured against: plain `generate`, and what papers' code usually does.

Both are written with transformers alone: its processor, its `generate`, nothing of the engine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from vrp.zoo.evaluate import load_model
from vrp.zoo.processors import study_prompt


class Asked(NamedTuple):
    """One question about one image."""

    image: Image.Image
    question: str


class PlainModel:
    """A model as anyone would load it."""

    def __init__(self, family: str, folder: Path, *, attention: str) -> None:
        self.family, self.model, self.processor = load_model(family, folder)  # type: ignore[arg-type]
        self.model.set_attn_implementation(attention)
        self.processor.tokenizer.padding_side = "left"

    def _inputs(self, asked: Sequence[Asked]) -> dict[str, Any]:
        made = self.processor(
            images=[[item.image] for item in asked],
            text=[study_prompt(self.family, item.question) for item in asked],
            return_tensors="pt",
            padding=True,
        )
        made.pop("labels", None)
        return dict(made)

    @torch.no_grad()
    def answer(self, asked: Sequence[Asked], *, max_new_tokens: int) -> list[list[int]]:
        """The limit: a batch through greedy `generate`, nothing captured."""
        inputs = self._inputs(asked)
        tokens = self.model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
        fresh = tokens[:, inputs["input_ids"].shape[1] :]
        self.processor.tokenizer.batch_decode(fresh, skip_special_tokens=True)
        return fresh.tolist()

    @torch.no_grad()
    def study_one(self, item: Asked, *, k: int, max_new_tokens: int) -> Any:
        """Usual practice: full attention maps and hidden states of one item, K more `generate`s."""
        inputs = self._inputs([item])
        greedy = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            output_attentions=True,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        samples = [
            self.model.generate(
                **inputs,
                do_sample=True,
                temperature=0.7,
                top_p=0.9,
                top_k=0,
                max_new_tokens=max_new_tokens,
            )
            for _ in range(k)
        ]
        return greedy, samples
