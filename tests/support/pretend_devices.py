"""Two devices where there is one: a model spread over them, and an error where they mix.

Tensors keep a note of the device that they would be on, `cpu:0` or `cpu:1`; all are on the CPU in
truth. An operation on tensors of different devices raises as it would on GPUs. What is on neither
is on the host: as there, host tensors may index others, and single numbers may go anywhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map
from transformers import Cache

FIRST, SECOND = torch.device("cpu", 0), torch.device("cpu", 1)
HOST = torch.device("cpu")
_INDEXED = {
    torch.Tensor.__getitem__: 1, torch.Tensor.__setitem__: 1, torch.Tensor.index_select: 2,
}  # fmt: skip


def place_of(tensor: torch.Tensor) -> torch.device:
    """Return where the tensor would be."""
    return tensor.__dict__.get("place", HOST)


def spread(model: nn.Module, to_second: Sequence[nn.Module]) -> None:
    """Put these modules on the second device, the rest on the first, and move what they are given.

    What enters a module is moved to its device inside its forward, after the forward pre-hooks, and
    what the whole model returns goes back to where its inputs were, as accelerate does it.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.__dict__["place"] = FIRST
    for part in to_second:
        for tensor in (*part.parameters(), *part.buffers()):
            tensor.__dict__["place"] = SECOND
    for module in model.modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        place = SECOND if any(module is part for part in to_second) else None
        place = place_of(own[0]) if own else place
        if module is model:
            _move_inputs(module, FIRST, outputs_to=FIRST)
        elif place is not None:
            _move_inputs(module, place)


def _move_inputs(
    module: nn.Module, place: torch.device, outputs_to: torch.device | None = None
) -> None:
    forward = module.forward

    def moved(*args: Any, **kwargs: Any) -> Any:
        args = _moved(args, place)
        kwargs = {
            name: value if isinstance(value, Cache) else _moved(value, place)
            for name, value in kwargs.items()
        }
        output = forward(*args, **kwargs)
        if outputs_to is not None:
            output.logits = _moved(output.logits, outputs_to)
        return output

    module.forward = moved  # type: ignore[method-assign]


def _moved(values: Any, place: torch.device) -> Any:
    if isinstance(values, Mapping):  # such as a model's output
        return type(values)(**{name: _moved(value, place) for name, value in values.items()})
    return tree_map(lambda leaf: leaf.to(place) if isinstance(leaf, torch.Tensor) else leaf, values)


@contextmanager
def pretended() -> Iterator[None]:
    """Mind the devices within the block."""
    with _Places():
        yield


class _Places(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        name = (resolve_name(func) or getattr(func, "__name__", "")).removeprefix("torch.Tensor.")
        if name == "device.__get__":
            return place_of(args[0])
        if name in ("to", "cpu"):
            return self._to(name, args[0], args[1:], options)
        asked = options.pop("device", None)
        if name == "numpy" and place_of(args[0]) != HOST:
            raise TypeError("can't convert a tensor of a device to numpy; move it to the host")
        place = self._common(name, func, args, options)
        made = func(*args, **options)
        place = place if asked is None else torch.device(asked)
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and not any(leaf is given for given in args):
                leaf.__dict__["place"] = place
        return made

    def _to(
        self, name: str, tensor: torch.Tensor, args: Sequence[Any], options: dict[str, Any]
    ) -> torch.Tensor:
        wanted = HOST if name == "cpu" else options.get("device")
        dtype = options.get("dtype")
        for given in args:
            if isinstance(given, torch.Tensor):
                wanted, dtype = place_of(given), given.dtype
            elif isinstance(given, torch.dtype):
                dtype = given
            elif isinstance(given, torch.device | str):
                wanted = torch.device(given)
        place = place_of(tensor) if wanted is None else torch.device(wanted)
        copied = tensor.to(dtype or tensor.dtype, copy=place != place_of(tensor))
        if copied is not tensor:
            copied.__dict__["place"] = place
        return copied

    def _common(
        self, name: str, func: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
    ) -> torch.device:
        index_at = _INDEXED.get(func)
        places = set()
        for number, given in enumerate((*args, *options.values())):
            for leaf in tree_leaves(given):
                if not isinstance(leaf, torch.Tensor):
                    continue
                is_host = place_of(leaf) == HOST
                if is_host and (leaf.ndim == 0 or (index_at is not None and number == index_at)):
                    continue
                places.add(place_of(leaf))
        if len(places) > 1 and not name.endswith("copy_"):
            found = " and ".join(sorted(map(str, places)))
            raise RuntimeError(f"{name}: expected all tensors on one device, but found {found}")
        return places.pop() if len(places) == 1 else HOST
