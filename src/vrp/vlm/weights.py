"""Whether a model has the weights of its checkpoint: all of them, no others, the same each time."""

import hashlib
import logging
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from vrp.errors import InputError
from vrp.vlm.checkpoint_files import weight_files

# Buffers that older versions of transformers stored, and that are computed today.
_COMPUTED = frozenset({"position_ids", "inv_freq", "original_inv_freq"})
# Names that safetensors gives to dtypes of quantised weights begin so (8 bits or fewer) …
_NARROW = ("I8", "U8", "F8", "F6_", "F4", "I4", "U4")
# … and GPTQ, AWQ, bitsandbytes and compressed tensors add tensors of these names.
_OF_QUANTISERS = frozenset({
    "qweight", "qzeros", "g_idx", "SCB", "absmax", "quant_map", "nested_absmax",
    "nested_quant_map", "weight_packed", "weight_scale", "weight_scale_inv", "weight_zero_point",
    "input_scale",
})  # fmt: skip
# … and those of numbers with which a model computes begin so.
_FLOATING = ("F", "BF")
# Elements whose bits are added up at a time: the sums need eight bytes for each.
_PART = 2**24
_ODD = 0x9E3779B1


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' report of missing weights out of the log: they are refused in one line.

    Its bar stays where it is redrawn in a terminal.
    """
    before = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bar:
            transformers_logging.enable_progress_bar()


def unread_weights(info: Mapping[str, Any], *, where: str) -> tuple[str, ...]:
    """Check what transformers reports of loading; return the names of what it did not read.

    Args:
        info: the report, as `from_pretrained(…, output_loading_info=True)` returns it; weights
            that are tied to others do not count as missing there.
        where: the checkpoint, to open an error message with.

    Returns:
        Sorted names of stored buffers that the model computes by itself, such as `position_ids`.

    Raises:
        InputError: weights are missing, have another shape, or are not read, naming the first.
    """
    missing, unread = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    mismatched = sorted(info["mismatched_keys"], key=str)
    problems = [*info.get("conversion_errors", ()), *info.get("error_msgs", ())]
    if missing:
        raise InputError(
            f"{where}: its files lack {_first_of(missing)}, which would be initialised at random; "
            + _how_to_mend(missing, unread)
        )
    if mismatched:
        name, stored, expected = mismatched[0]
        raise InputError(
            f"{where}: {name} has shape {tuple(stored)} in its files and {tuple(expected)} by its "
            "config.json; get both again"
        )
    if problems:
        raise InputError(f"{where}: its weights cannot be converted ({problems[0]}); get it again")
    foreign = [name for name in unread if name.rpartition(".")[2] not in _COMPUTED]
    if foreign:
        raise InputError(
            f"{where}: its files hold {_first_of(foreign)}, which its model does not read (an "
            "adapter, or a module or layers beyond its config.json); merge the adapter, or get a "
            "checkpoint whose config.json describes all of its weights"
        )
    return tuple(unread)


def _first_of(names: list[str]) -> str:
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{others}"


def _how_to_mend(missing: list[str], unread: list[str]) -> str:
    """Name the prefix that all stored names have, where that is why they are not found."""
    for name in unread:
        for wanted in missing:
            if name.endswith(f".{wanted}"):
                prefix = name.removesuffix(wanted)
                return (
                    f"its names begin with {prefix!r}, as those of an adapter that was not merged "
                    "do: merge it and save the model again"
                )
    return "get the whole checkpoint again"


def check_stored_weights(folder: Path, config: Any, model_class: Any) -> tuple[str, ...]:
    """Compare the weights that a checkpoint's files name with those of its model, reading none.

    The model is built on the meta device and given tensors without content, by transformers' own
    loading, so that renamed and tied weights are found as when it is loaded.

    Args:
        folder: the checkpoint.
        config: its configuration.
        model_class: its transformers class.

    Returns:
        As `unread_weights`.

    Raises:
        InputError: as `unread_weights`.
    """
    check_headers(folder)
    _, info = _loaded_without_content(config, model_class, _stored_tensors(folder))
    unread = unread_weights(info, where=f"checkpoint {folder}")
    check_numbers(folder, config, model_class)
    return unread


def check_numbers(folder: Path, config: Any, model_class: Any) -> None:
    """Refuse parameters that are stored as integers, truth values or complex numbers.

    transformers would turn them into other weights without a word. Buffers, such as position ids,
    are integers by right.

    Raises:
        InputError: naming the first.
    """
    others = {
        name: (path, dtype)
        for path, name, dtype, _ in _headers(folder)
        if not dtype.startswith(_FLOATING)
    }
    stored = _stored_tensors(folder) if others else {}

    def are_parameters(names: Collection[str]) -> bool:
        left = {name: tensor for name, tensor in stored.items() if name not in names}
        model, info = _loaded_without_content(config, model_class, left)
        floating = {n for n, value in model.named_parameters() if value.is_floating_point()}
        return bool(floating & set(info["missing_keys"]))

    if not others or not are_parameters(others):
        return
    name = next((name for name in others if are_parameters([name])), next(iter(others)))
    path, dtype = others[name]
    raise InputError(
        f"checkpoint {folder}: {path.name} holds {name} as {dtype}, but it is a weight that has to "
        "be a floating-point number; give the checkpoint in bfloat16, float16 or float32"
    )


def _loaded_without_content(
    config: Any, model_class: Any, stored: Mapping[str, torch.Tensor]
) -> tuple[Any, Mapping[str, Any]]:
    """Load tensors without content on the meta device; return the model and what was loaded."""
    with quiet_loading():
        model, info = _architecture(model_class, config).from_pretrained(
            None,
            config=config,
            state_dict=dict(stored),
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return model, info


def _architecture(model_class: Any, config: Any) -> Any:
    """Return the class itself, or the one that an automatic class stands for."""
    if not hasattr(model_class, "from_config"):
        return model_class
    with torch.device("meta"):
        return type(model_class.from_config(config))


def _stored_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Name → tensor without content of all that the files that are loaded hold."""
    dtypes = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
              "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32}  # fmt: skip
    return {
        name: torch.empty(shape, dtype=dtypes.get(dtype, torch.float32), device="meta")
        for _, name, dtype, shape in _headers(folder)
    }


def check_headers(folder: Path) -> None:
    """Refuse weights that two files hold, or that are quantised whatever config.json says.

    Quantised are integers, numbers of 8 bits or fewer, and what quantisers add to a layer.

    Raises:
        InputError: naming the first.
    """
    places: dict[str, Path] = {}
    for path, name, dtype, _ in _headers(folder):
        if name in places:
            raise InputError(
                f"checkpoint {folder}: {name} is in {places[name].name} and in {path.name}; get "
                "it again"
            )
        places[name] = path
        parts = set(name.split("."))
        if dtype.startswith(_NARROW) or parts & _OF_QUANTISERS or "quant_state" in name:
            raise InputError(
                f"checkpoint {folder}: its weights are quantised ({path.name} holds {name} as "
                f"{dtype}): its hidden states are not those of the model that it was made from; "
                "give the checkpoint in bfloat16, float16 or float32"
            )


def _headers(folder: Path) -> Iterator[tuple[Path, str, str, list[int]]]:
    """File, name, dtype and shape of every tensor in the files that are loaded."""
    for path in weight_files(folder, where=f"checkpoint {folder}"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  no mapping
                stored = file.get_slice(name)
                yield path, name, stored.get_dtype(), stored.get_shape()


def check_finite(model: nn.Module, *, where: str, folder: Path | None = None) -> None:
    """Refuse a model some of whose weights are NaN or infinite, on the device that holds them.

    Args:
        model: the model as it is in memory.
        where: the checkpoint, to open an error message with.
        folder: the checkpoint's files, of which the broken one is named; None: there are none.

    Raises:
        InputError: naming the first tensor, and its file where the values are stored so.
    """
    tensors = {**dict(model.named_parameters()), **_stored(model)}
    broken = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if not broken:
        return
    if folder is None:
        raise InputError(f"{where}: NaN or infinite values in {_first_of(broken)}; load it again")
    for path, name in _not_finite_in(folder):
        raise InputError(
            f"{where}: {path.name} holds NaN or infinite values in {name}, so that its answers "
            f"mean nothing ({len(broken)} tensors are so); get the checkpoint again"
        )
    kept_as = str(tensors[broken[0]].dtype).removeprefix("torch.")
    raise InputError(
        f"{where}: values of {_first_of(broken)} exceed what {kept_as} can hold; set dtype to "
        "bfloat16 or float32"
    )


@torch.no_grad()
def _is_finite(tensor: torch.Tensor) -> bool:
    """Look at the extremes alone, which are NaN where any value is: no copy is made."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.detach().aminmax())


def _not_finite_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """File and name of every stored tensor with NaN or infinite values, read one at a time."""
    for path in weight_files(folder, where=f"checkpoint {folder}"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  no mapping
                if not _is_finite(file.get_tensor(name)):
                    yield path, name


def weights_digest(model: nn.Module) -> str:
    """Digest the parameters and buffers that a model has in memory, wherever they are.

    Each tensor's bits count with their place, on the device that holds them; sums of integers
    are exact, so that the digest does not depend on the device.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **_stored(model)}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {_bits(tensor)}\n".encode())
    return digest.hexdigest()[:16]


def _stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """Buffers that belong to the checkpoint: those that are not computed."""
    state = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name in state}


@torch.no_grad()
def _bits(tensor: torch.Tensor) -> tuple[int, int]:
    """Sum of the tensor's bits, plain and weighted by place, modulo 2^64."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = tensor.detach().contiguous().view(-1).view(whole[tensor.element_size()])
    plain = weighted = 0
    for start in range(0, flat.numel(), _PART):
        part = flat[start : start + _PART].long()
        place = torch.arange(start, start + part.numel(), device=part.device) * _ODD + 1
        plain += int(part.sum())
        weighted += int((part * (place ^ (place >> 15))).sum())
    return plain % 2**64, weighted % 2**64
