"""`<model>/probe.safetensors`: a linear probe that can be applied to other studies' hidden states.

A safetensors file like any other: tensors, and text beside them. Its header is written in sorted
order, so that equal probes are equal files, and holds a digest of everything else.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.errors import InputError
from vrp.tables.atomic_files import atomic_write
from vrp.tables.seal import PROVENANCE_PREFIX

FORMAT = "vrp linear probe 1"
"""States what the file is, and which version of it."""
IMAGE_BYTES = 8
"""Bytes that are kept of an image's digest: two of a million images agree in 1 of 10⁷ studies."""
_LENGTH = struct.Struct("<Q")
_KINDS = {"weights": np.float64, "intercept": np.float64, "mean": np.float64,
          "scale": np.float64, "images": np.uint8}  # fmt: skip


class SavedProbe(NamedTuple):
    """A linear probe of one layer: log-odds of a right answer = state @ weights + intercept."""

    layer: str
    """Column of the hidden states that it reads, such as `layer_21`."""
    position: str
    """Token whose state it reads, such as `prompt_end`."""
    weights: NDArray[np.float64]
    """(d_model,) on the hidden state as it is stored."""
    intercept: float
    mean: NDArray[np.float64]
    """(d_model,) of the items that it was fitted on."""
    scale: NDArray[np.float64]
    """(d_model,) their standard deviation, 1 where it is 0; weights × scale are those on
    standardised states."""
    penalty: float
    """scikit-learn's C that was picked."""
    images: NDArray[np.uint8]
    """(n_images, 8) digests of the images that it was fitted on (`image_digests`), ascending."""
    n_items: int
    """Items that it was fitted on."""

    def log_odds(self, states: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,) log-odds of a right answer; `states` are (n, d_model), one layer at its position."""
        return np.asarray(states, dtype=np.float64) @ self.weights + self.intercept


class ProbeFile(NamedTuple):
    """What a file of `write_saved_probe` holds."""

    probe: SavedProbe | None
    """None: its study had nothing to fit a probe on."""
    provenance: dict[str, str]
    """Study, model, revision, digests and versions that made it."""


def image_digests(groups: Iterable[str]) -> NDArray[np.uint8]:
    """(n, 8) the first bytes of the SHA-256 of each image's name, a SHA-256 itself as a rule."""
    digests = [hashlib.sha256(name.encode()).digest()[:IMAGE_BYTES] for name in groups]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, IMAGE_BYTES)


def write_saved_probe(
    path: Path, probe: SavedProbe | None, *, provenance: Mapping[str, str]
) -> None:
    """Write a probe whole, or say in the file that there is none; equal probes give equal files.

    Args:
        path: the safetensors file.
        probe: None where there was nothing to fit one on.
        provenance: study, model, revision, digests and versions that made it.

    Raises:
        InputError: the folder cannot be written.
    """
    tensors: dict[str, NDArray] = {}
    texts = {f"{PROVENANCE_PREFIX}{key}": value for key, value in provenance.items()}
    texts["format"] = FORMAT
    if probe is not None:
        fields = probe._asdict()
        tensors = {name: np.asarray(fields[name], kind, order="C") for name, kind in _KINDS.items()}
        texts |= {
            "layer": probe.layer, "position": probe.position, "penalty": repr(probe.penalty),
            "n_items": str(probe.n_items), "n_images": str(len(probe.images)),
        }  # fmt: skip
    texts["sha256"] = _digest(texts, tensors)
    with atomic_write(path) as part:
        part.write_bytes(sorted_safetensors(texts, tensors))


def sorted_safetensors(texts: Mapping[str, str], tensors: Mapping[str, NDArray]) -> bytes:
    """Return the bytes of a safetensors file with a sorted header.

    The library's own order of texts is random.
    """
    from safetensors.numpy import save

    content = save(dict(tensors), metadata=dict(texts))
    (length,) = _LENGTH.unpack(content[: _LENGTH.size])
    end = _LENGTH.size + length
    header = json.dumps(json.loads(content[_LENGTH.size : end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8
    return _LENGTH.pack(len(header)) + header + content[end:]


def _digest(texts: Mapping[str, str], tensors: Mapping[str, NDArray]) -> str:
    """SHA-256 of all texts but itself, and of all tensors with their types and shapes."""
    described = {name: [str(one.dtype), list(one.shape)] for name, one in tensors.items()}
    stated = {key: value for key, value in texts.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps([stated, described], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def read_saved_probe(path: Path) -> ProbeFile:
    """Read what `write_saved_probe` wrote.

    Raises:
        InputError: the file is missing, no saved probe, or not as it was written.
    """
    from safetensors import SafetensorError, safe_open

    again = "give the probe.safetensors of a model whose probes have run"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {again}")
    try:
        with safe_open(path, framework="numpy") as file:
            texts = dict(file.metadata() or {})
            if texts.get("format") != FORMAT:
                raise InputError(f"{path}: is not a saved probe; {again}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is not a saved probe ({reason}); {again}") from None
    if texts.get("sha256") != _digest(texts, tensors):
        raise InputError(
            f"{path}: is damaged or edited: its sha256 does not fit the rest; delete it and rerun "
            "`vrp probes`"
        )
    provenance = {
        key.removeprefix(PROVENANCE_PREFIX): value
        for key, value in texts.items()
        if key.startswith(PROVENANCE_PREFIX)
    }
    if not tensors:
        return ProbeFile(None, provenance)
    probe = SavedProbe(
        layer=texts["layer"], position=texts["position"], weights=tensors["weights"],
        intercept=float(tensors["intercept"]), mean=tensors["mean"], scale=tensors["scale"],
        penalty=float(texts["penalty"]), images=tensors["images"],
        n_items=int(texts["n_items"]),
    )  # fmt: skip
    return ProbeFile(probe, provenance)
