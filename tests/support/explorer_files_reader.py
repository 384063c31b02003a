"""Reads a file of the explorer back, by the description in `vrp.explorer.chunks` alone."""

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

CALL = re.compile(r'\ufeffexplorerChunk\("([^"]+)","([0-9a-f]{12})",(\d+),"([^"]*)"\);\n')


class ReadChunk(NamedTuple):
    """What a file holds."""

    name: str
    stamp: str
    values: dict[str, Any]


def read_chunk(path: Path) -> ReadChunk:
    """Read a file: arrays by name, words as lists of texts."""
    found = CALL.fullmatch(path.read_bytes().decode("utf-16-le"))
    assert found, f"{path} is no call of explorerChunk"
    name, stamp, n_bytes, text = found.groups()
    bits = "".join(f"{ord(unit) - 0x3400:015b}" for unit in text)
    packed = (
        int(bits, 2).to_bytes((len(bits) + 7) // 8, "big")
        if len(bits) % 8 == 0
        else bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    )
    content = zlib.decompress(packed[: int(n_bytes)], wbits=-15)
    (n_header,) = struct.unpack("<I", content[:4])
    place, values = 4 + n_header, {}
    for entry in json.loads(content[4:place]):
        size = entry["n"] * (1 if entry["kind"] == "u1" else 4)
        values[entry["name"]] = _array(entry, content[place : place + size])
        place += size
    assert place == len(content)
    return ReadChunk(name, stamp, values)


def _array(entry: dict[str, Any], content: bytes) -> Any:
    if entry["kind"] == "u1":
        return np.frombuffer(content, dtype=np.uint8)
    planes = np.frombuffer(content, dtype=np.uint8).reshape(4, entry["n"])
    little = np.ascontiguousarray(planes.T)
    if entry["kind"] == "f4":
        return little.view("<f4").ravel()
    zigzag = little.view("<u4").ravel().astype(np.int64)
    whole = np.where(zigzag % 2, -(zigzag + 1) // 2, zigzag // 2)
    if entry["kind"] == "words":
        return [None if index < 0 else entry["words"][index] for index in whole]
    return np.where(zigzag == 2**32 - 1, np.nan, whole * entry["step"])


def joined(paths: list[Path]) -> dict[str, Any]:
    """Values of several files, one after another."""
    parts = [read_chunk(path).values for path in paths]
    return {
        name: [one for part in parts for one in part[name]]
        if isinstance(first, list)
        else np.concatenate([part[name] for part in parts])
        for name, first in parts[0].items()
    }
