"""Load a checkpoint of any family, ready to be read."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from vrp.errors import InputError
from vrp.vlm.families import get_family
from vrp.vlm.families.base import Family, FamilyOptions, Grid, ImageSize
from vrp.vlm.tap import ATTENTION_NAME

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.model.device

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

    def answer_token_ids(self, surface_forms: list[str]) -> tuple[int, ...]:
        """Return the distinct first tokens of answers, each with and without a leading space.

        A first token that is only the space itself says nothing of the answer and is left out.
        """
        found: set[int] = set()
        for form in surface_forms:
            whole = self.tokenizer.convert_tokens_to_ids(form)
            if whole is not None and whole != self.tokenizer.unk_token_id:
                found.add(int(whole))  # SentencePiece puts a space before the text by itself
            for text in (form, f" {form}"):
                ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
                if ids and self.tokenizer.decode(ids[:1]).strip():
                    found.add(int(ids[0]))
        return tuple(sorted(found))

    def unembed(self, residual: torch.Tensor) -> torch.Tensor:
        """Return raw float32 logits (…, V) of residuals (…, d_model), final norm included."""
        head = self.lm_head.weight
        logits = self.lm_head(self.final_norm(residual.to(head.dtype))).float()
        cap = getattr(self.text_config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def decode(self, token_ids: list[tuple[int, ...]]) -> list[str]:
        """Return answers as text, without special tokens and outer white space."""
        rows = [list(ids) for ids in token_ids]
        return [
            text.strip() for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        ]


def load_vlm(
    checkpoint: str | Path,
    *,
    family: str,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_map: str | None = None,
    prompt: str = "short_answer",
    image_policy: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> VLM:
    """Load a checkpoint from a folder or the hub, from safetensors only, and tap its attention.

    Args:
        checkpoint: a folder written by `save_pretrained`, or a hub id.
        family: name in the registry of families; `auto` finds out the layout by itself.
        revision: commit, tag or branch of a hub checkpoint.
        dtype: float32, bfloat16 or float16.
        device: cpu, cuda, cuda:0 …, or auto for the GPU where there is one.
        device_map: handed to transformers, for a model that one GPU cannot hold.
        prompt: the family's prompt variant.
        image_policy: how images are made to fit; None is the family's own default.
        min_pixels: the least pixels after resizing, for families with dynamic resolution.
        max_pixels: the most pixels after resizing, for families with dynamic resolution.

    Raises:
        InputError: unknown family, option or dtype; a folder, file, revision or licence that is
            missing; a checkpoint of another family, or one whose layout cannot be read.
    """
    family_class = get_family(family)
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; choose from: {', '.join(DTYPES)}")
    source = str(checkpoint)
    target = _device(device)
    parts = _load_parts(source, family_class, revision)
    options = FamilyOptions(prompt, image_policy, min_pixels, max_pixels)
    with _explained(source, revision):
        bound = family_class.from_checkpoint(
            source, revision, parts.config, parts.tokenizer, parts.image_processor, options
        )
    placement = {"device_map": device_map} if device_map else {}
    with _explained(source, revision):
        model = family_class.model_class.from_pretrained(  # type: ignore[attr-defined]
            source, revision=revision, dtype=DTYPES[dtype], use_safetensors=True, **placement
        )
    if not device_map:
        model = model.to(target)
    model.eval().requires_grad_(False)
    model.set_attn_implementation({"text_config": ATTENTION_NAME})
    bound.bind(model)
    vlm = VLM(
        model=model, family=bound, tokenizer=parts.tokenizer, eos_token_ids=parts.eos_token_ids
    )
    if bound.found_out:
        from vrp.vlm.verification import (
            verify_layout,
        )  # it runs the model, and so needs this module

        verify_layout(vlm)
    return vlm


@dataclass(frozen=True)
class _Parts:
    """The light parts of a checkpoint."""

    config: Any
    tokenizer: Any
    image_processor: Any
    eos_token_ids: tuple[int, ...]


def _load_parts(source: str, family_class: type[Family], revision: str | None) -> _Parts:
    if _looks_local(source) and not Path(source).is_dir():
        raise InputError(f"checkpoint folder {source} does not exist; give a folder or a hub id")
    with _explained(source, revision):
        config = AutoConfig.from_pretrained(source, revision=revision)
        refusal = family_class.refusal(config)
        if refusal is not None:
            raise InputError(f"checkpoint {source} {refusal}")
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        # The PIL backend is named because pixels differ slightly between backends.
        image_processor = AutoImageProcessor.from_pretrained(
            source, revision=revision, backend="pil"
        )
        eos_token_ids = _eos_token_ids(source, revision, config, tokenizer)
    return _Parts(config, tokenizer, image_processor, eos_token_ids)


def _eos_token_ids(
    source: str, revision: str | None, config: Any, tokenizer: Any
) -> tuple[int, ...]:
    try:
        found = GenerationConfig.from_pretrained(source, revision=revision).eos_token_id
    except OSError:  # not every checkpoint has a generation config
        found = None
    for fallback in (config.get_text_config().eos_token_id, tokenizer.eos_token_id):
        found = fallback if found is None else found
    if found is None:
        raise InputError(
            f"checkpoint {source} names no end-of-sequence token; "
            "add eos_token_id to its generation_config.json"
        )
    return tuple(sorted({found} if isinstance(found, int) else set(found)))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is unknown; use cpu, cuda, cuda:0 or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} was asked for, but no GPU is seen here; use cpu or auto")
    return device


def _looks_local(source: str) -> bool:
    return source.startswith((".", "~", os.sep)) or source.count("/") > 1


class _explained:  # noqa: N801 - reads as a statement
    """Turn the loaders' errors into one line that says what to do."""

    def __init__(self, source: str, revision: str | None) -> None:
        self.source = source
        self.revision = revision

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or isinstance(error, InputError) or not isinstance(error, Exception):
            return
        message = self._remedy(error)
        if message is not None:
            raise InputError(f"checkpoint {self.source}: {message}") from error

    def _remedy(self, error: Exception) -> str | None:
        # transformers wraps the hub's errors in OSError: the cause tells them apart.
        chain = [error, error.__cause__, error.__context__]
        if any(isinstance(link, GatedRepoError) for link in chain):
            return "its licence is not accepted; accept it on the hub, then `hf auth login`"
        if any(isinstance(link, RevisionNotFoundError) for link in chain):
            return f"revision {self.revision!r} does not exist; check the model's `revision`"
        if any(isinstance(link, RepositoryNotFoundError | HFValidationError) for link in chain):
            return "it is neither a folder here nor a model on the hub; check its name"
        if any(isinstance(link, LocalEntryNotFoundError | HfHubHTTPError) for link in chain):
            return "it is not in the cache and the hub cannot be reached; fetch it first"
        if isinstance(error, SafetensorError):
            return f"a weights file is damaged ({error}); fetch it again"
        if isinstance(error, OSError | ValueError | KeyError):
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            return f"it cannot be loaded ({first_line}); check that its files are complete"
        return None
