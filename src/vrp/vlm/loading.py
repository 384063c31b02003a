"""Load a checkpoint of any family, ready to be read."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers.utils import GENERATION_CONFIG_NAME

from vrp.errors import InputError
from vrp.hub_errors import HubUnreachableError, Repository, remedy
from vrp.vlm.attention_tap import ATTENTION_NAME
from vrp.vlm.checkpoint_files import files_of
from vrp.vlm.config_and_processor import (
    load_config,
    load_image_processor,
    load_tokenizer,
    stored_eos,
    stored_folder,
)
from vrp.vlm.families import get_family, infer_family
from vrp.vlm.families.base import Family, FamilyOptions
from vrp.vlm.model import VLM
from vrp.vlm.verification import verify_layout
from vrp.vlm.weights import (
    check_finite,
    check_headers,
    check_numbers,
    check_stored_weights,
    quiet_loading,
    unread_weights,
    weights_digest,
)

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DOES_NOT_FIT = (
    "it does not fit the given GPUs: weights would stay on the CPU or the disk, where they cannot "
    "be read; give it more or larger GPUs, or a smaller dtype"
)
_PROBE_SIZE = (96, 64)
_SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")


def load_vlm(
    checkpoint: str | Path,
    *,
    family: str,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    device_map: str | Mapping[str, str | int] | None = None,
    prompt: str = "short_answer",
    image_policy: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> VLM:
    """Load a checkpoint from a folder or the hub, from safetensors only, and tap its attention.

    Args:
        checkpoint: a folder written by `save_pretrained`, or a hub id.
        family: name of the family; `auto` infers the layout from the checkpoint.
        revision: commit, tag or branch of a hub checkpoint.
        dtype: float32, bfloat16 or float16.
        device: cpu, cuda, cuda:0 …, or auto for the GPU where there is one.
        device_map: how a model that one GPU cannot hold is spread: auto, balanced,
            balanced_low_0, sequential, or the device of each part by name. All of it must be
            on devices that compute, since weights are read directly.
        prompt: the family's prompt variant.
        image_policy: how images are made to fit; None is the family's own default.
        min_pixels: the least pixels after resizing, for families with dynamic resolution.
        max_pixels: the most pixels after resizing, for families with dynamic resolution.

    Raises:
        InputError: unknown family, option or dtype; a folder, file, revision or licence that is
            missing; a checkpoint of another family, or one whose layout cannot be read; weights
            that are NaN or infinite; a model that does not fit the GPUs over which it is spread.
    """
    family_class = get_family(family)
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is unknown; choose from: {', '.join(DTYPES)}")
    source = str(checkpoint)
    target = _device(device)
    placement = _placement(device_map)
    repository = Repository("model", source, revision)
    options = FamilyOptions(prompt, image_policy, min_pixels, max_pixels)
    _require_files(source, revision)
    parts = load_parts(source, family_class, revision, options)
    with _explained(source, revision), quiet_loading():
        folder = stored_folder(source, revision)
        check_headers(folder)
        check_numbers(folder, deepcopy(parts.config), family_class.model_class)
        model, info = family_class.model_class.from_pretrained(  # type: ignore[attr-defined]
            source,
            revision=revision,
            config=parts.config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **placement,
        )
        unread = unread_weights(info, where=str(repository))
    if placement:
        _require_on_devices(model, source)
    else:
        model = model.to(target)
    check_finite(model, where=str(repository), folder=folder)
    vlm = _bound(model, parts, unread)
    for note in vlm.notes:
        logger.warning(f"{repository}: {note}")
    return vlm


def bind_vlm(
    model: Any, processor: Any, *, family: str | None = None, options: FamilyOptions | None = None
) -> VLM:
    """Make a model that is loaded already ready to be read.

    It is put into evaluation mode, its parameters ask for no gradient any more, and its attention
    is computed by `sdpa` under the attention tap.

    Args:
        model: a transformers model of images and text.
        processor: its processor; its images are processed by PIL, as those of a checkpoint are.
        family: name of the family; None: the one that fits the model's configuration.
        options: choices of prompt and image processing.

    Raises:
        InputError: no family fits, or what `load_vlm` refuses of a checkpoint.
    """
    parts = parts_in_memory(model, processor, family=family, options=options)
    check_finite(model, where="the given model")
    return _bound(model, parts, ())


def _bound(model: Any, parts: "CheckpointParts", unread: tuple[str, ...]) -> VLM:
    bound = parts.family
    model.eval().requires_grad_(False)
    model.set_attn_implementation({"text_config": ATTENTION_NAME})
    bound.bind(model)
    vlm = VLM(
        model=model, family=bound, tokenizer=parts.tokenizer, eos_token_ids=parts.eos_token_ids,
        weights=weights_digest(model), unread=unread,
    )  # fmt: skip
    if bound.needs_verification:
        verify_layout(vlm)
    return vlm


def check_checkpoint(folder: Path, *, family: str) -> tuple[str, ...]:
    """Refuse what `load_vlm` would refuse of a checkpoint's files, without reading its weights.

    Args:
        folder: the checkpoint.
        family: name of the family.

    Returns:
        Names of stored buffers that are computed and not read.

    Raises:
        InputError: as `load_vlm`, naming the first weight that is missing or not read.
    """
    family_class = get_family(family)
    _require_files(str(folder), None)
    parts = load_parts(str(folder), family_class, None, FamilyOptions())
    with _explained(str(folder), None):
        try:
            return check_stored_weights(folder, parts.config, family_class.model_class)
        except (AttributeError, RuntimeError, TypeError) as error:
            # Of modelling code that this project does not know.
            raise InputError(
                f"checkpoint {folder}: its model cannot be built ({_first_line(error)}); check its "
                "config.json"
            ) from error


@dataclass(frozen=True)
class CheckpointParts:
    """The light parts of a checkpoint: all but its weights."""

    config: Any
    """Its configuration."""
    tokenizer: Any
    """Its tokenizer."""
    family: Family
    """The family, bound to them and to its image processor."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer."""


def parts_in_memory(
    model: Any, processor: Any, *, family: str | None = None, options: FamilyOptions | None = None
) -> CheckpointParts:
    """Return the light parts of a model that is loaded already; it and its processor stay as they
    are.

    Arguments and errors are those of `bind_vlm`.
    """
    if getattr(processor, "tokenizer", None) is None or not hasattr(processor, "image_processor"):
        raise InputError(
            "the processor has no tokenizer and image processor; give the model's whole processor, "
            "such as that of AutoProcessor.from_pretrained"
        )
    eos = getattr(model.generation_config, "eos_token_id", None)
    name = family or infer_family(model.config)
    with TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        processor.save_pretrained(folder)
        if eos is not None:
            Path(folder, GENERATION_CONFIG_NAME).write_text(json.dumps({"eos_token_id": eos}))
        try:
            return load_parts(folder, get_family(name), None, options or FamilyOptions())
        except InputError as error:
            message = str(error).replace(f"checkpoint {folder}", "the given model")
            raise InputError(message.replace(folder, "the given model")) from error


def _require_files(source: str, revision: str | None) -> None:
    looks_local = source.startswith((".", "~", os.sep)) or source.count("/") > 1
    if looks_local and not Path(source).is_dir():
        raise InputError(f"checkpoint folder {source} does not exist; give a folder or a hub id")
    with _explained(source, revision):
        if Path(source).is_dir():
            files_of(Path(source), where=f"checkpoint {source}")


def load_parts(
    source: str, family_class: type[Family], revision: str | None, options: FamilyOptions
) -> CheckpointParts:
    """Load all of a checkpoint but its weights, and bind its family.

    Raises:
        InputError: as `load_vlm`.
    """
    with _explained(source, revision):
        config = load_config(source, revision)
        refusal = family_class.refusal(config)
        if refusal is not None:
            raise InputError(f"checkpoint {source} {refusal}")
        tokenizer = load_tokenizer(source, revision)
        image_processor = load_image_processor(source, revision)
        _check_image_token(source, config, tokenizer)
        _check_feature_layers(source, config)
        eos_token_ids = _eos_token_ids(source, revision, config, tokenizer)
        try:
            bound = family_class.from_checkpoint(
                source, revision, config, tokenizer, image_processor, options
            )
            bound.prompt_token_ids(["Is it red?"])
        except InputError as error:
            where = "" if source in str(error) else f"checkpoint {source}: "
            raise InputError(f"{where}{error}") from error
        _check_pixels(source, bound)
    return CheckpointParts(config, tokenizer, bound, eos_token_ids)


def _n_tokens(config: Any, tokenizer: Any) -> int:
    vocabulary = getattr(config.get_text_config(), "vocab_size", None)
    return max(len(tokenizer), int(vocabulary or 0))


def _check_image_token(source: str, config: Any, tokenizer: Any) -> None:
    token, n_tokens = getattr(config, "image_token_id", None), _n_tokens(config, tokenizer)
    if token is not None and not (type(token) is int and 0 <= token < n_tokens):
        raise InputError(
            f"checkpoint {source}: image_token_id {token!r} in its config.json is none of its "
            f"{n_tokens} token ids, so that no prompt holds an image; fix it"
        )


def _check_feature_layers(source: str, config: Any) -> None:
    """Refuse image tokens from a layer that the vision side does not have."""
    layers = getattr(config, "vision_feature_layer", None)
    depth = getattr(getattr(config, "vision_config", None), "num_hidden_layers", None)
    if layers is None or type(depth) is not int:
        return
    for layer in layers if isinstance(layers, list | tuple) else [layers]:
        if not (type(layer) is int and -depth - 1 <= layer <= depth):
            raise InputError(
                f"checkpoint {source}: vision_feature_layer {layer!r} in its config.json is none "
                f"of the states of its {depth} vision layers ({-depth - 1} to {depth}); fix it"
            )


def _check_pixels(source: str, family: Family) -> None:
    """Refuse an image processor that makes no finite numbers of an image."""
    try:
        with np.errstate(all="ignore"):
            made = family.process_images([Image.new("RGB", _PROBE_SIZE, "grey")])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = _first_line(error)
    else:
        broken = [name for name, values in made.items() if not values.isfinite().all()]
        if not broken:
            return
        reason = f"NaN or infinite values in {broken[0]}"
    raise InputError(
        f"checkpoint {source}: its image processor cannot process an image ({reason}); check "
        "image_mean, image_std and the sizes in its preprocessor_config.json or "
        "processor_config.json"
    )


def _eos_token_ids(
    source: str, revision: str | None, config: Any, tokenizer: Any
) -> tuple[int, ...]:
    found, where = stored_eos(source, revision), "generation_config.json"
    if found is None:
        # Some text configurations have no such attribute at all.
        found, where = getattr(config.get_text_config(), "eos_token_id", None), "config.json"
    if found is None:
        found, where = tokenizer.eos_token_id, "tokenizer_config.json"
    if found is None:
        raise InputError(
            f"checkpoint {source} names no end-of-sequence token; "
            "add eos_token_id to its generation_config.json"
        )
    ids = found if isinstance(found, list | tuple) else [found]
    n_tokens = _n_tokens(config, tokenizer)
    if not ids or not all(type(one) is int and 0 <= one < n_tokens for one in ids):
        raise InputError(
            f"checkpoint {source}: eos_token_id {found!r} in its {where} is not one or several of "
            f"its {n_tokens} token ids; fix it"
        )
    return tuple(sorted(set(ids)))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is unknown; use cpu, cuda, cuda:0 or auto") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} was asked for, but no GPU was found; use cpu or auto")
    return device


def _placement(device_map: str | Mapping[str, str | int] | None) -> dict[str, Any]:
    """Return what `from_pretrained` takes to spread a model; empty where it is not spread."""
    if not device_map:
        return {}
    if isinstance(device_map, str) and device_map not in _SPREADS:
        raise InputError(
            f"device_map {device_map!r} is unknown; choose from: {', '.join(_SPREADS)} "
            "(choose a single device with `device`)"
        )
    if find_spec("accelerate") is None:
        raise InputError(
            "device_map needs the package accelerate, which is not installed here; "
            "install it with `pip install --requirement requirements.lock`"
        )
    return {"device_map": device_map if isinstance(device_map, str) else dict(device_map)}


def _require_on_devices(model: nn.Module, source: str) -> None:
    """Refuse a model some of whose weights were left on the CPU or the disk until they are used."""
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    put_off = places & {"disk"} or (places & {"cpu"} if places - {"cpu"} else set())
    if put_off or any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        raise InputError(f"checkpoint {source}: {_DOES_NOT_FIT}")


@contextmanager
def _explained(source: str, revision: str | None) -> Iterator[None]:
    """Turn the loaders' errors into one line that says what to do."""
    repository = Repository("model", source, revision)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        message = _remedy(error, repository)
        if message is None:
            raise
        raise InputError(f"{repository}: {message}") from error


def _remedy(error: Exception, repository: Repository) -> str | None:
    # transformers wraps the hub's errors in OSError: the cause tells them apart.
    unreachable = False
    for link in (error, error.__cause__, error.__context__):
        try:
            advice = remedy(link, repository) if link is not None else None
        except HubUnreachableError:
            unreachable = True
        else:
            if advice is not None:
                return advice
    if unreachable:
        return "it is not in the cache and the hub cannot be reached; run `vrp fetch` first"
    if isinstance(error, SafetensorError):
        return f"a weights file is damaged ({error}); fetch it again"
    if any(words in str(error) for words in ("offloaded to the disk", "on the meta device")):
        return _DOES_NOT_FIT  # weights that were left elsewhere and are wanted already
    if isinstance(error, ImportError):
        return (
            f"a package that it needs is missing ({_first_line(error)}); "
            "install it with `pip install --requirement requirements.lock`"
        )
    # The libraries meet a file's content where they do not expect it: any of these may be raised.
    if isinstance(
        error,
        OSError | ValueError | LookupError | AttributeError | TypeError | RecursionError
        | StrictDataclassError,
    ):  # fmt: skip
        first_line = _first_line(error)
        return f"it cannot be loaded ({first_line}); check that its files are complete"
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [repr(error)]
    # A line that announces the reason is followed by it.
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
