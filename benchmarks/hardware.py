"""What a measurement was made on; no machine is named."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def hardware(*packages: str) -> dict[str, object]:
    """Describe processor, accelerator, load and the versions of `packages`."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name.replace("-", "_"): version(name) for name in packages},
    }
