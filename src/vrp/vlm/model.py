"""A loaded model: what reads it, answers with it and edits it all work on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from vrp.data.item import ImageSize
from vrp.vlm.families.base import Family, Grid
from vrp.vlm.residual_edits import Site


@dataclass(frozen=True)
class VLM:
    """A loaded model with its family, tokenizer and the places that are read."""

    model: Any
    """The transformers model, in evaluation mode, its text side under the attention tap."""
    family: Family
    """What differs between families."""
    tokenizer: Any
    """The checkpoint's tokenizer."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer: all that is used of the checkpoint's generation config."""
    weights: str
    """Digest of the parameters in memory, as `vrp.vlm.weights.weights_digest` gives it."""
    unread: tuple[str, ...] = ()
    """Names of buffers in the checkpoint's files that are computed instead."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What differs from how the checkpoint is published, and what of it is not read."""
        unread = f"{', '.join(self.unread)} in its files: computed, not read" if self.unread else ""
        return (*self.family.notes, *filter(None, [unread]))

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.model.dtype

    @cached_property
    def text_config(self) -> Any:
        """Configuration of the language model."""
        return self.model.config.get_text_config()

    @cached_property
    def layers(self) -> nn.ModuleList:
        """Decoder layers 0…L−1."""
        return self.family.layers(self.model)

    @cached_property
    def final_norm(self) -> nn.Module:
        """The norm before the unembedding."""
        return self.family.final_norm(self.model)

    @property
    def lm_head(self) -> nn.Linear:
        """The unembedding."""
        return self.model.lm_head

    @property
    def n_layers(self) -> int:
        """Decoder layers L."""
        return len(self.layers)

    @property
    def n_heads(self) -> int:
        """Query heads of a layer."""
        return int(self.text_config.num_attention_heads)

    def n_neurons(self, site: Site, layer: int) -> int:
        """Return the neurons that can be edited at a site of a decoder layer.

        Raises:
            InputError: the layer has no such site.
        """
        if site == "residual":
            return self.d_model
        return self.family.mlp_output(self.layers[layer]).in_features

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.text_config.hidden_size)

    @property
    def image_token_id(self) -> int:
        """The placeholder token of an image."""
        return self.family.image_token_id

    @property
    def max_positions(self) -> int:
        """Longest sequence, in tokens, that the model was made for."""
        return int(self.text_config.max_position_embeddings)

    def grid(self, image_size: ImageSize) -> Grid:
        """Return the grid of image tokens for an image of (width, height) pixels."""
        return self.family.grid(image_size)

    def patch_boxes(self, image_size: ImageSize) -> np.ndarray:
        """Return (S, 4) boxes x0, y0, x1, y1 of the image tokens, in the image's own pixels."""
        return self.family.patch_boxes(image_size)

    def render_prompt(self, question: str) -> str:
        """Return the whole prompt of a question, with one image placeholder."""
        return self.family.render_prompt(question)

    def prompt_token_ids(self, question: str) -> list[int]:
        """Return the prompt's token ids, with one image placeholder."""
        return self.family.prompt_token_ids([question])[0]

    def answer_token_ids(self, surface_forms: Sequence[str], *, usual: str) -> tuple[int, ...]:
        """Return the distinct first tokens of ways to write one answer behind the prompt.

        Where the first token of the usual way is only a space, as that of every numeral is to
        Llama's tokenizer behind `ASSISTANT:`, it announces any answer and none is returned. Other
        ways that begin so are left out.

        Args:
            surface_forms: ways to write the answer, with and without a leading space.
            usual: how the answer is normally written, without one.
        """
        texts = [f"{self.family.answer_join}{usual}", *surface_forms]
        usual_ids, *other_ids = self.family.continuation_token_ids(texts)
        if not self._has_visible_first_token(usual_ids):
            return ()
        found = [ids for ids in (usual_ids, *other_ids) if self._has_visible_first_token(ids)]
        return tuple(sorted({ids[0] for ids in found}))

    def _has_visible_first_token(self, answer: Sequence[int]) -> bool:
        return bool(answer) and bool(self.tokenizer.decode(list(answer[:1])).strip())

    def unembed(self, residual: torch.Tensor) -> torch.Tensor:
        """Return raw float32 logits (…, V) of residuals (…, d_model), final norm included."""
        head = self.lm_head.weight
        return self.lm_head(self.final_norm(residual.to(head.dtype))).float()

    def decode(self, token_ids: list[tuple[int, ...]]) -> list[str]:
        """Return answers as text, without special tokens and outer white space."""
        rows = [list(ids) for ids in token_ids]
        return [
            text.strip() for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        ]
