"""What a stage can run on: published speed and memory, and how much of the speed is had.

Peaks are the makers' data sheets' for dense matrices. What a prefill gets of them, and what else a
job spends its time on, are assumptions, to be replaced by measured rates (`vrp plan --measured`).
"""

from dataclasses import dataclass

GIB = 2**30

UTILISATION = 0.3
"""Share of the peak that a prefill reaches: transformers' own modules with fused attention get a
third to a half of it, batches of unequal length and small vision towers take some away."""
SECONDS_PER_ANSWER = 0.01
"""What an answer costs beside the matrices: decoding the image, tokens, scoring, rows of tables."""
START_SECONDS = 15.0
"""A job before its first batch, beside reading the weights: imports, manifest, items."""
WEIGHT_BYTES_PER_SECOND = 5e8
"""How fast weights come from a shared file system."""
MEMORY_MARGIN = 1.1
"""Allocators round up and keep some of what is freed."""


@dataclass(frozen=True)
class Device:
    """One GPU, or a processor's core."""

    name: str
    """As `--gpu` takes it."""
    title: str
    """As people call it."""
    memory: int | None
    """Bytes; None: the machine's own, which is not known here."""
    peak_16bit: float
    """Operations a second in bfloat16, dense, from the data sheet."""
    peak_float32: float
    """The same in float32, without reduced precision."""

    def flops_per_second(self, dtype: str) -> float:
        """Return what a prefill is assumed to reach in a data type."""
        return UTILISATION * (self.peak_float32 if dtype == "float32" else self.peak_16bit)


def _device(name: str, title: str, gib: int, peak_16bit: float, peak_float32: float) -> Device:
    return Device(name, title, gib * GIB, peak_16bit * 1e12, peak_float32 * 1e12)


DEVICES = {
    device.name: device
    for device in (
        _device("h200", "NVIDIA H200", 140, 989, 67),
        _device("h100", "NVIDIA H100 SXM", 79, 989, 67),
        _device("a100-80", "NVIDIA A100 80 GB", 79, 312, 19.5),
        _device("a100-40", "NVIDIA A100 40 GB", 39, 312, 19.5),
        _device("l40s", "NVIDIA L40S", 44, 362, 91.6),
        _device("rtx4090", "NVIDIA RTX 4090", 23, 165, 82.6),
        # It has no bfloat16 of its own and computes it as float32.
        _device("t4", "NVIDIA T4", 15, 8.1, 8.1),
        # One core with 256-bit vectors at 3 GHz: two fused units of eight numbers.
        Device("cpu", "one processor core", None, 0.05e12, 0.1e12),
    )
}

CPU = DEVICES["cpu"]
DEFAULT_GPU = DEVICES["a100-40"]
