"""What a checkpoint holds beside its weights: configuration, tokenizer, image processor."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    ImageProcessingMixin,
    PretrainedConfig,
    ProcessorMixin,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME, cached_file

from vrp.errors import InputError

# Whatever a checkpoint asks for: transformers' own modelling code runs, none of the checkpoint's.
_OWN_CODE_ONLY = {"trust_remote_code": False}


def load_config(source: str | Path, revision: str | None = None) -> Any:
    """Load a checkpoint's configuration.

    What it says of how attention is computed is left to this project.

    Raises:
        InputError: it names code of its own, or quantised weights.
    """
    raw, _ = PretrainedConfig.get_config_dict(source, revision=revision)
    _refuse_own_code(source, raw)
    for quantised in _values(raw, {"quantization_config", "compression_config"}):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else ""
        raise InputError(
            f"checkpoint {source} is quantised ({method}): its hidden states are not those of the "
            "model that it was made from; give the checkpoint in bfloat16, float16 or float32"
        )
    config = AutoConfig.from_pretrained(source, revision=revision, **_OWN_CODE_ONLY)
    _leave_attention_open(config)
    return config


def stored_folder(source: str | Path, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint, which is in the hub's cache where the hub has it."""
    if Path(source).is_dir():
        return Path(source)
    return Path(cached_file(source, CONFIG_NAME, revision=revision)).parent


def stored_eos(source: str | Path, revision: str | None = None) -> Any:
    """Return what a checkpoint's generation config says of the end of an answer; None: nothing.

    Raises:
        InputError: its generation_config.json is broken.
    """
    path = cached_file(
        source,
        GENERATION_CONFIG_NAME,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
    )
    if path is None:  # not every checkpoint has one
        return None
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8"))).get("eos_token_id")
    except (ValueError, TypeError, RecursionError):
        raise InputError(
            f"checkpoint {source}: its {GENERATION_CONFIG_NAME} is not a JSON object; get it again"
        ) from None


def load_tokenizer(source: str | Path, revision: str | None = None) -> Any:
    """Load a checkpoint's tokenizer.

    Raises:
        InputError: it names code of its own.
    """
    _refuse_own_code(source, get_tokenizer_config(source, revision=revision))
    return AutoTokenizer.from_pretrained(source, revision=revision, **_OWN_CODE_ONLY)


def load_image_processor(source: str | Path, revision: str | None = None) -> Any:
    """Load a checkpoint's image processor; it computes with PIL, whatever else is installed.

    Raises:
        InputError: it names code of its own.
    """
    raw, _ = ImageProcessingMixin.get_image_processor_dict(source, revision=revision)
    _refuse_own_code(source, raw)
    # Pixels differ slightly between backends.
    return AutoImageProcessor.from_pretrained(
        source, revision=revision, backend="pil", **_OWN_CODE_ONLY
    )


def processor_config(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Load the configuration of a checkpoint's processor, with its chat template.

    Raises:
        InputError: it names code of its own.
    """
    raw, _ = ProcessorMixin.get_processor_dict(source, revision=revision)
    _refuse_own_code(source, raw)
    return dict(raw)


def _refuse_own_code(source: str | Path, raw: Any) -> None:
    if not isinstance(raw, Mapping):
        raise InputError(
            f"checkpoint {source}: one of its configuration files is not a JSON object; get it "
            "again"
        )
    for named in _values(raw, {"auto_map"}):
        name = min(named) if isinstance(named, dict) else named
        raise InputError(
            f"checkpoint {source} brings code of its own (auto_map names {name}), which is never "
            "run; give a checkpoint of a class that transformers has"
        )


def _values(raw: Any, keys: set[str]) -> Iterator[Any]:
    """What a configuration, or a part of it, says under one of these keys."""
    parts = raw.items() if isinstance(raw, Mapping) else ()
    for key, value in parts:
        if key in keys and value:
            yield value
        else:
            yield from _values(value, keys)


def _leave_attention_open(config: Any) -> None:
    """Forget which attention a checkpoint was saved with: another one is set once it is loaded."""
    config._attn_implementation = "sdpa"
    for name in getattr(config, "sub_configs", {}):
        if (part := getattr(config, name, None)) is not None:
            _leave_attention_open(part)
