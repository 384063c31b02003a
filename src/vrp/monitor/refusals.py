"""What a monitor refuses: models, processors and ways to generate that it was not fitted for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vrp.errors import InputError
from vrp.monitor.card import Card, FittedModel
from vrp.monitor.fingerprint import processor_digest, prompt_digest
from vrp.vlm.families.base import Family, FamilyOptions
from vrp.vlm.loading import parts_in_memory
from vrp.vlm.weights import weights_digest

_CACHES = (None, "dynamic", "dynamic_full")


def check_model(model: Any, fitted: FittedModel) -> None:
    """Refuse a model that is not the one that the monitor was fitted for.

    Raises:
        InputError: it is compiled, has adapters, is in training mode, or has another dtype or other
            weights.
    """
    if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None:
        raise InputError("monitor: the model is compiled, and cannot be read; watch it uncompiled")
    if hasattr(model, "peft_config") or getattr(model, "_hf_peft_config_loaded", False):
        raise InputError(
            "monitor: the model has adapters, which change its answers; fit a monitor to a study "
            "of the model with its adapters merged"
        )
    if model.training:
        raise InputError("monitor: the model is in training mode; call model.eval() first")
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype != fitted.dtype:
        raise InputError(
            f"monitor: the model computes in {dtype}, the monitor was fitted to {fitted.dtype}; "
            f"load it with dtype=torch.{fitted.dtype}"
        )
    weights = weights_digest(model)
    if weights != fitted.weights:
        raise InputError(
            f"monitor: the model's weights are {weights}, the monitor was fitted to "
            f"{fitted.weights} ({fitted.checkpoint}); load that checkpoint, or fit a monitor to "
            "this one"
        )


def checked_family(model: Any, processor: Any, fitted: FittedModel) -> Family:
    """Return the family bound to a processor, if it is the one that the monitor was fitted with.

    Raises:
        InputError: text would become other tokens, an image other pixels, or a question another
            prompt.
    """
    options = FamilyOptions(
        fitted.prompt, fitted.image_policy, fitted.min_pixels, fitted.max_pixels
    )
    family = parts_in_memory(model, processor, family=fitted.family, options=options).family
    check_family(family, fitted)
    return family


def check_family(family: Family, fitted: FittedModel) -> None:
    """Refuse a processor that the monitor was not fitted with; as `checked_family`."""
    found = processor_digest(family)
    if found != fitted.processor_digest:
        raise InputError(
            f"monitor: the processor makes other tokens or pixels ({found}) than the one that the "
            f"monitor was fitted with ({fitted.processor_digest}); load that of {fitted.checkpoint}"
        )
    found = prompt_digest(family)
    if found != fitted.prompt_digest:
        raise InputError(
            f"monitor: the processor's chat template puts other words around a question ({found}) "
            f"than the monitor was fitted with ({fitted.prompt_digest}); load the processor of "
            f"{fitted.checkpoint}"
        )


def check_generation(model: Any, card: Card, options: Mapping[str, Any]) -> None:
    """Refuse a call of `generate` whose answers are not those that the monitor was fitted to.

    Args:
        model: the model.
        card: the monitor's.
        options: the call's keyword arguments.

    Raises:
        InputError: naming the option, and what to pass instead.
    """

    def chosen(name: str) -> Any:
        config = options.get("generation_config") or model.generation_config
        return options.get(name, getattr(config, name, None))

    if (chosen("num_beams") or 1) > 1 or (chosen("num_return_sequences") or 1) > 1:
        raise InputError("monitor: answers come from beam search or are several; pass num_beams=1")
    if chosen("do_sample"):
        raise InputError("monitor: answers would be sampled; pass do_sample=False")
    if options.get("assistant_model") is not None or chosen("prompt_lookup_num_tokens"):
        raise InputError("monitor: decoding is assisted by another model; pass no assistant_model")
    static = "static" in type(options.get("past_key_values")).__name__.lower()
    if static or chosen("cache_implementation") not in _CACHES or chosen("compile_config"):
        raise InputError(
            "monitor: the cache is static or compiled; pass cache_implementation='dynamic'"
        )
    ends = chosen("eos_token_id")
    if set(ends if isinstance(ends, list | tuple) else [ends]) != set(card.model.eos_token_ids):
        raise InputError(
            f"monitor: answers end at {ends}, those that the monitor was fitted to at "
            f"{list(card.model.eos_token_ids)}; pass them as eos_token_id"
        )
    longest = chosen("max_new_tokens")
    if longest not in card.answer_limits:
        limits = " or ".join(map(str, sorted(card.answer_limits)))
        raise InputError(
            f"monitor: answers of up to {longest} tokens, the monitor was fitted to {limits}; pass "
            f"max_new_tokens={limits}"
        )


def check_prompts(
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    fitted: FittedModel,
) -> None:
    """Refuse prompts that the monitor was not fitted to.

    Args:
        input_ids: (B, T); None: the call has none.
        attention_mask: (B, T) 0 on padding; None: no padding.
        fitted: tokens that every prompt begins and ends with.

    Raises:
        InputError: padding on the right, no image or several, or other words around the question.
    """
    if input_ids is None:
        raise InputError("monitor: generate was called without input_ids; use monitor.inputs")
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    if not bool(mask[:, -1].all()):
        raise InputError(
            "monitor: prompts are padded on the right; "
            "set processor.tokenizer.padding_side = 'left'"
        )
    beginning, end = list(fitted.prompt_beginning), list(fitted.prompt_end)
    for row, kept in zip(input_ids.tolist(), mask.bool().tolist(), strict=True):
        tokens = [token for token, real in zip(row, kept, strict=True) if real]
        prompt = _one_placeholder(tokens, fitted.image_token_id)
        if prompt[: len(beginning)] != beginning or prompt[len(prompt) - len(end) :] != end:
            raise InputError(
                "monitor: a prompt has other words around its question than the monitor was "
                "fitted with; use monitor.inputs, or monitor.prompt(question) as the text"
            )


def _one_placeholder(tokens: Sequence[int], image_token_id: int) -> list[int]:
    """A prompt with one placeholder where the image's tokens are."""
    n_before = next((i for i, token in enumerate(tokens) if token == image_token_id), len(tokens))
    n_image = sum(token == image_token_id for token in tokens)
    after = list(tokens[n_before + n_image :])
    if not n_image or image_token_id in after:
        raise InputError("monitor: a prompt holds no image, or several; ask about one image")
    return [*tokens[:n_before], image_token_id, *after]
