"""How a file of the explorer holds its values: as one compressed text in a script.

A page on disk may load scripts and nothing else. A file calls `explorerChunk` with its name, its
stamp, the number of compressed bytes and these bytes as text, 15 bits in each UTF-16 code unit
from U+3400 (base64 takes a quarter more). Inflated (raw deflate), they are the length of a header
(uint32, little-endian), the header as JSON, and the arrays that it lists one after another:

- `f4`: float32, by byte planes: all first bytes, then all second ones, and so on;
- `i4`: whole multiples of `step` as zigzag int32, by byte planes; the largest stands for NaN;
- `words`: as `i4`, places in the header's list of words; -1 stands for none;
- `u1`: bytes.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FIRST_UNIT = 0x3400
_BITS = 15
_MISSING = 0xFFFFFFFF


class Chunk:
    """The values of one file, by name."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._bytes: list[bytes] = []

    def add_numbers(self, name: str, values: ArrayLike) -> None:
        """Add numbers, of any shape, in float32: those of a table as they are."""
        array = np.ascontiguousarray(values, dtype="<f4").ravel()
        self._add(name, "f4", len(array), _planes(array))

    def add_rounded(self, name: str, values: ArrayLike, *, step: float) -> None:
        """Add numbers, of any shape, rounded to multiples of a step; NaN stays NaN.

        Raises:
            ValueError: a number is larger than 2**30 steps.
        """
        array = np.asarray(values, dtype=np.float64).ravel()
        missing = ~np.isfinite(array)
        steps = np.rint(np.where(missing, 0.0, array) / step)
        if (np.abs(steps) > 2**30).any():
            raise ValueError(f"{name}: numbers are too large for a step of {step}")
        whole = steps.astype(np.int64)
        zigzag = np.where(missing, _MISSING, (whole << 1) ^ (whole >> 63)).astype("<u4")
        self._add(name, "i4", len(array), _planes(zigzag), step=step)

    def add_integers(self, name: str, values: ArrayLike) -> None:
        """Add whole numbers, of any shape; NaN stays NaN."""
        self.add_rounded(name, values, step=1)

    def add_words(self, name: str, values: Sequence[str | None]) -> None:
        """Add texts, of which many are equal."""
        words = sorted({text for text in values if text is not None})
        place = {text: index for index, text in enumerate(words)}
        index = [-1 if text is None else place[text] for text in values]
        whole = np.array(index, dtype=np.int64)
        zigzag = ((whole << 1) ^ (whole >> 63)).astype("<u4")
        self._add(name, "words", len(index), _planes(zigzag), words=words)

    def add_bytes(self, name: str, values: bytes) -> None:
        """Add bytes."""
        self._add(name, "u1", len(values), values)

    def _add(self, name: str, kind: str, n: int, content: bytes, **more: Any) -> None:
        self._entries.append({"name": name, "kind": kind, "n": n, **more})
        self._bytes.append(content)

    def encoded(self) -> bytes:
        """Return header and arrays, deflated."""
        header = json.dumps(self._entries, separators=(",", ":")).encode("ascii")
        content = b"".join([len(header).to_bytes(4, "little"), header, *self._bytes])
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        return deflate.compress(content) + deflate.flush()


def _planes(array: NDArray[Any]) -> bytes:
    return array.view(np.uint8).reshape(len(array), array.itemsize).T.tobytes()


def write_chunk(path: Path, name: str, chunk: Chunk) -> str:
    """Write a file of the explorer.

    Args:
        path: the file.
        name: what the page calls it.
        chunk: its values.

    Returns:
        Its stamp, by which the page knows that the file is the one that was written with it.
    """
    content = chunk.encoded()
    stamp = hashlib.sha256(content).hexdigest()[:12]
    call = f'explorerChunk({json.dumps(name)},"{stamp}",{len(content)},"{as_text(content)}");\n'
    path.write_bytes(("\ufeff" + call).encode("utf-16-le"))
    return stamp


def as_text(content: bytes) -> str:
    """Spell bytes as text, 15 bits in each character; the last bits are filled up with zeros."""
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))
    padded = np.append(bits, np.zeros(-len(bits) % _BITS, dtype=np.uint8))
    units = padded.reshape(-1, _BITS) @ (1 << np.arange(_BITS - 1, -1, -1)) + _FIRST_UNIT
    return units.astype("<u2").tobytes().decode("utf-16-le")
