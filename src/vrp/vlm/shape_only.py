"""Run a model whose floating-point tensors are shapes without storage, and count their bytes.

A model on the meta device has no values, so code that reads one (a token id, a grid, a mask) stops
there. Within `ShapeOnly`, integers and booleans made of real ones stay real, on the CPU: they
decide shapes. Whatever meets a meta tensor becomes one. What leaves the meta device for the CPU is
ones. So the code that runs a loaded model also runs the shapes of one that no machine here holds.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

_META = torch.device("meta")
_CPU = torch.device("cpu")
_COPY = torch.ops.aten._to_copy.default
_SDPA = torch.ops.aten.scaled_dot_product_attention.default
# These take their dtype from the numbers given, where none is named.
_OF_NUMBERS = {
    torch.ops.aten.arange.default,
    torch.ops.aten.arange.start,
    torch.ops.aten.arange.start_step,
    torch.ops.aten.full.default,
    torch.ops.aten.scalar_tensor.default,
}


class ShapeOnly:
    """A context in which meta models run; afterwards it knows how many bytes lived at most."""

    def __init__(self) -> None:
        self._dispatch = _Dispatch()
        self._modes = ExitStack()

    def __enter__(self) -> "ShapeOnly":
        """Enter: operations run on shapes from here on."""
        self._modes.enter_context(_RealLiterals())
        self._modes.enter_context(self._dispatch)
        return self

    def __exit__(self, *error: Any) -> None:
        """Leave: what is freed later counts no more."""
        self._modes.close()
        self._dispatch.counting = False

    @property
    def live_bytes(self) -> int:
        """Bytes of the meta tensors made within the block that still live."""
        return self._dispatch.live_bytes

    @property
    def peak_bytes(self) -> int:
        """The most that `live_bytes` has been since the last `reset_peak`."""
        return self._dispatch.peak_bytes

    def reset_peak(self) -> None:
        """Reset the peak."""
        self._dispatch.peak_bytes = self._dispatch.live_bytes


class _Dispatch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self.counting = True
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is _SDPA and args[0].is_meta:
            made = self._fused_attention(*args, **options)
            self._count(made)
            return made
        # In inference mode operations arrive whole; their parts are what makes tensors.
        with self:
            made = func.decompose(*args, **options)
        if made is not NotImplemented:
            return made
        leaves, layout = tree_flatten((args, options))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        has_meta = any(tensor.is_meta for tensor in tensors)
        target = options.get("device")
        target = None if target is None else torch.device(target)
        if has_meta and func is _COPY and target == _CPU:
            return torch.ones(tensors[0].shape, dtype=options.get("dtype") or tensors[0].dtype)
        self._leave_out(tensors)
        if has_meta:
            args, options = tree_unflatten([_as_meta(leaf) for leaf in leaves], layout)
        elif target == _META and not _makes_float(func, options.get("dtype"), leaves):
            options["device"] = _CPU
        made = func(*args, **options)
        self._count(made)
        return made

    def _fused_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """Give the output alone, as fused kernels do; the meta device's own way is T×T maps."""
        batch, n_heads, n_queries, width = query.shape
        groups = n_heads // key.shape[1] if enable_gqa else 1
        fits = (batch, n_heads // groups, key.shape[2], width) == tuple(key.shape)
        if not fits or key.shape[:3] != value.shape[:3]:
            shapes = [tuple(t.shape) for t in (query, key, value)]
            raise RuntimeError(f"query, key and value of shapes {shapes} do not go together")
        if attn_mask is not None:
            scores = (batch, n_heads, n_queries, key.shape[2])
            if torch.broadcast_shapes(attn_mask.shape, scores) != scores:
                raise RuntimeError(f"a mask of shape {tuple(attn_mask.shape)} for scores {scores}")
            # Kernels take the mask as what is added to the scores.
            self._count(torch.empty(attn_mask.shape, dtype=query.dtype, device=_META))
        shape = (batch, n_queries, n_heads, value.shape[3])
        return torch.empty(shape, dtype=query.dtype, device=_META).transpose(1, 2)

    def _leave_out(self, tensors: Sequence[torch.Tensor]) -> None:
        """Storages that come from outside the block, such as weights, are not counted."""
        for tensor in tensors:
            if tensor.is_meta:
                self._see(tensor.untyped_storage(), 0)

    def _count(self, made: Any) -> None:
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                storage = tensor.untyped_storage()
                self._see(storage, storage.nbytes())

    def _see(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        if self.counting:
            self.live_bytes -= size


class _RealLiterals(TorchFunctionMode):
    """Tensors of given numbers are made on the CPU: on the meta device the numbers are lost."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and options.get("device") is not None:
            options["device"] = _CPU
        return func(*args, **options)


def _as_meta(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and not leaf.is_meta:
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=_META)
    return leaf


def _makes_float(func: Any, dtype: torch.dtype | None, leaves: Sequence[Any]) -> bool:
    """Whether an operation without meta inputs, asked for on the meta device, makes floats."""
    if dtype is not None:
        return dtype.is_floating_point or dtype.is_complex
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    if tensors:
        return any(tensor.is_floating_point() for tensor in tensors)
    return func not in _OF_NUMBERS or any(isinstance(leaf, float) for leaf in leaves)
