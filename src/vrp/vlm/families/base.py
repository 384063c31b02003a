"""What every family of vision-language models offers, with the standard layout as default.

The standard transformers layout is `model.model.language_model.{layers, norm}` with
`self_attn.o_proj` and `mlp` in each layer, `model.lm_head`, and `model.get_image_features`. A
family overrides only what differs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from vrp.data.item import ImageSize
from vrp.errors import InputError

SHORT_ANSWER_SUFFIX = "\nAnswer the question using a single word or phrase."

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of decoder layers that have rows of attention to all that they see."""

# Stands for any question, where only what surrounds it is asked for.
_ANY_QUESTION = "Is it red?"


class Grid(NamedTuple):
    """Layout of an item's image tokens, row-major."""

    height: int
    """Rows of image tokens."""
    width: int
    """Columns of image tokens."""

    @property
    def n_tokens(self) -> int:
        """Image tokens S."""
        return self.height * self.width


class Positions(NamedTuple):
    """Rotary positions of a left-padded batch."""

    prompt: torch.Tensor
    """(B, T), or (3, B, T) where positions have three axes."""
    first_answer: torch.Tensor
    """(B,) position of the first answer token."""


class FamilyOptions(NamedTuple):
    """The user's choices of prompt and image processing; None is the family's own default."""

    prompt: str = "short_answer"
    """Name of the prompt variant."""
    image_policy: str | None = None
    """How an image is made to fit."""
    min_pixels: int | None = None
    """The least pixels after resizing, where the family resizes dynamically."""
    max_pixels: int | None = None
    """The most pixels after resizing, where the family resizes dynamically."""


class Family(ABC):
    """Everything that differs between families, for one loaded checkpoint."""

    name: ClassVar[str]
    """Its name in the registry."""
    model_class: ClassVar[type]
    """The transformers class of its checkpoints."""
    prompts: ClassVar[dict[str, str]]
    """Prompt variants: `{question}` inside each family's own frame."""
    image_policies: tuple[str, ...]
    """Names of ways to fit an image; the first is the default."""
    is_causal: ClassVar[bool] = True
    """Whether no token attends to one behind it; image tokens may attend to each other."""
    dynamic_resolution: bool = False
    """Whether `min_pixels` and `max_pixels` mean something."""
    adds_special_tokens: bool = False
    """Whether the tokenizer is to add its own leading token to the prompt."""
    needs_verification: ClassVar[bool] = False
    """Whether the layout is inferred from the checkpoint, and verified when it is loaded."""

    def __init__(
        self, config: Any, tokenizer: Any, image_processor: Any, options: FamilyOptions
    ) -> None:
        """Bind a checkpoint's configuration, tokenizer and image processor.

        Raises:
            InputError: an option that this family does not have.
        """
        self.config = config
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.prompt = _choose("prompt variant", options.prompt, tuple(self.prompts), self.name)
        self.image_policy = _choose(
            "image_policy",
            options.image_policy or self.image_policies[0],
            self.image_policies,
            self.name,
        )
        bounds = (options.min_pixels, options.max_pixels)
        if bounds != (None, None) and not self.dynamic_resolution:
            raise InputError(
                f"family {self.name!r} resizes every image to one size: "
                "remove min_pixels and max_pixels"
            )
        self.image_token_id = int(config.image_token_id)

    # Loading

    @classmethod
    def refusal(cls, config: Any) -> str | None:
        """Return why a checkpoint of this configuration is not the family's; None where it is."""
        expected = cls.model_class.config_class.model_type  # type: ignore[attr-defined]
        if config.model_type != expected:
            return (
                f"is a {config.model_type!r} model, not {expected!r} as family {cls.name!r} needs; "
                "set its family right"
            )
        reason = decoder_refusal(config)
        if reason is None:
            return None
        return f"cannot be read by family {cls.name!r}: {reason}; it needs a family of its own"

    @classmethod
    def from_checkpoint(
        cls,
        source: str,
        revision: str | None,
        config: Any,
        tokenizer: Any,
        image_processor: Any,
        options: FamilyOptions,
    ) -> "Family":
        """Bind the parts of a checkpoint; `source` is there for families that read more of it."""
        cls.check_template(source, revision, tokenizer)
        return cls(config, tokenizer, image_processor, options)

    @classmethod  # noqa: B027 - families that write prompts from the template need nothing of it
    def check_template(cls, source: str, revision: str | None, tokenizer: Any) -> None:
        """Check a checkpoint's own chat template, where the family writes prompts without it.

        Raises:
            InputError: the template frames a question otherwise than the family does.
        """

    def bind(self, model: Any) -> None:  # noqa: B027 - most families need nothing of it
        """Inspect the loaded model; called once, before any other method."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done otherwise than the checkpoint's publisher does it."""
        return ()

    # Text

    @abstractmethod
    def render_prompt(self, question: str) -> str:
        """Return the whole prompt, with one placeholder where the image goes."""

    def prompt_token_ids(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each rendered prompt, the image as one placeholder token.

        Raises:
            InputError: a prompt that does not hold exactly one image placeholder.
        """
        texts = [self.render_prompt(question) for question in questions]
        encoded = self.tokenizer(texts, add_special_tokens=self.adds_special_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        for question, row in zip(questions, ids, strict=True):
            if row.count(self.image_token_id) != 1:
                raise InputError(
                    f"the prompt of question {question!r} holds "
                    f"{row.count(self.image_token_id)} image placeholders where one is due; "
                    "remove the placeholder from the question"
                )
        return ids

    @cached_property
    def answer_join(self) -> str:
        """What stands between prompt and answer: a space, but nothing behind white space.

        Nor behind a special token, after which a new text begins.
        """
        [prompt] = self.prompt_token_ids([_ANY_QUESTION])
        starts_new_text = prompt[-1] in self.tokenizer.all_special_ids
        return "" if starts_new_text or self.render_prompt(_ANY_QUESTION)[-1].isspace() else " "

    def continuation_token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that each text becomes behind the prompt.

        None at all where they cannot follow it: the prompt's own last tokens would be others.
        """
        [before] = self.prompt_token_ids([_ANY_QUESTION])
        prompt = self.render_prompt(_ANY_QUESTION)
        whole = self.tokenizer(
            [prompt + text for text in texts], add_special_tokens=self.adds_special_tokens
        )["input_ids"]
        n = len(before)
        return [list(ids[n:]) if list(ids[:n]) == before else [] for ids in whole]

    # Images

    @abstractmethod
    def grid(self, image_size: ImageSize) -> Grid:
        """Return the grid of image tokens for an image of this size."""

    @abstractmethod
    def patch_boxes(self, image_size: ImageSize) -> np.ndarray:
        """Return (S, 4) boxes x0, y0, x1, y1 in pixels of the original image, row-major.

        Boxes tile the processed image; where padding was added they lie outside the original.
        """

    def process_images(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Return the tensors that `get_image_features` takes."""
        rgb = [image.convert("RGB") for image in images]
        return dict(self.image_processor(images=rgb, return_tensors="pt"))

    def pooled_features(self, model: Any, images: Sequence[Image.Image]) -> Any:
        """Return the embeddings of images, as the model's vision side groups them."""
        pixels = {
            key: value.to(device=model.device, dtype=model.dtype)
            if value.is_floating_point()
            else value.to(model.device)
            for key, value in self.process_images(images).items()
        }
        return model.get_image_features(**pixels, return_dict=True).pooler_output

    def encode_images(self, model: Any, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Return each image's embeddings (S, d_model), as they enter the language model."""
        return list(self.pooled_features(model, images))

    def join_features(self, features: Sequence[torch.Tensor]) -> Any:
        """Return the embeddings of a batch in the form that the model's forward takes."""
        return tuple(features)

    # Positions and other inputs of the language model

    @classmethod
    def drops_tokens(cls, model: Any) -> bool:
        """Whether a token that no other attends to may be left out, others keeping their positions.

        Not where layers have a sliding window: it counts keys, whatever their positions are.
        """
        text = model.config.get_text_config()
        kinds = getattr(text, "layer_types", None)
        if kinds is None:
            return getattr(text, "sliding_window", None) is None
        return "sliding_attention" not in kinds

    @classmethod
    def shares_prefixes(cls, model: Any) -> bool:
        """Whether what prompts begin with, up to the image's last token, may be run on its own."""
        return cls.is_causal and cls.drops_tokens(model)

    def positions(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        grids: Sequence[Grid],
    ) -> Positions:
        """Return the positions of a left-padded batch and of its first answer tokens."""
        prompt = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)
        return Positions(prompt=prompt, first_answer=prompt[:, -1] + 1)

    def step_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Return `position_ids` of one decode step from (B,) positions."""
        return positions[:, None]

    def prefill_inputs(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what else the prefill's forward needs."""
        return {}

    def step_inputs(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what else a decode step's forward needs."""
        return {}

    # Structure

    def layers(self, model: Any) -> nn.ModuleList:
        """Return the decoder layers."""
        return model.model.language_model.layers

    def final_norm(self, model: Any) -> nn.Module:
        """Return the norm before the unembedding."""
        return model.model.language_model.norm

    def attention_output(self, layer: Any) -> nn.Linear:
        """Return the projection from the joined heads to the residual stream."""
        return layer.self_attn.o_proj

    def attention_writer(self, layer: Any) -> nn.Module:
        """Return the module whose output is what attention adds to the residual stream."""
        # Only where a norm follows the MLP too is `post_attention_layernorm` inside the branch.
        if hasattr(layer, "post_feedforward_layernorm"):
            return layer.post_attention_layernorm
        return layer.self_attn

    def mlp_writer(self, layer: Any) -> nn.Module:
        """Return the module whose output is what the MLP adds to the residual stream."""
        return getattr(layer, "post_feedforward_layernorm", layer.mlp)

    def mlp_output(self, layer: Any) -> nn.Linear:
        """Return the projection from the MLP's hidden units to the residual stream.

        Raises:
            InputError: the layer has no single one, such as a mixture of experts.
        """
        found = getattr(layer.mlp, "down_proj", None)
        if not isinstance(found, nn.Linear):
            raise InputError(
                f"{type(layer.mlp).__name__} has no down_proj, so that its hidden units cannot be "
                "edited; use site: residual"
            )
        return found

    def norm_gain(self, norm: Any) -> torch.Tensor:
        """Return (d_model,) what an RMS norm multiplies the normalised vector with."""
        return norm.weight.float()

    def norm_epsilon(self, norm: Any) -> float:
        """Return what an RMS norm adds to the mean square."""
        return float(norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps)


def decoder_refusal(config: Any) -> str | None:
    """Return what a configuration's decoder does that no family can read; None for nothing."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) - ATTENTION_LAYERS
    if getattr(text, "attn_logit_softcapping", None) is not None:
        return "its attention scores are soft-capped, which sdpa does not do"
    if getattr(text, "final_logit_softcapping", None) is not None:
        return "its logits are soft-capped, so that contributions do not add up to them"
    if kinds:
        return f"it has decoder layers of kind {', '.join(sorted(kinds))}"
    return None


def uniform_boxes(grid: Grid, width: float, height: float) -> np.ndarray:
    """Return (S, 4) boxes of a grid that covers `width` × `height` from the origin, row-major."""
    x = np.linspace(0.0, width, grid.width + 1)
    y = np.linspace(0.0, height, grid.height + 1)
    rows, columns = np.divmod(np.arange(grid.n_tokens), grid.width)
    return np.stack([x[columns], y[rows], x[columns + 1], y[rows + 1]], axis=1)


def _choose(what: str, value: str, known: tuple[str, ...], family: str) -> str:
    if value not in known:
        raise InputError(
            f"family {family!r} has no {what} {value!r}; choose from: {', '.join(known)}"
        )
    return value
