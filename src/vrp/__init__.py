"""VRP: when can a vision-language model's answer be trusted, and where can that be read?

The names below are public (docs/library.md); each is imported when it is first used, so that
`import vrp` loads no model library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrp import stats
    from vrp.errors import InputError
    from vrp.library.model import Model, load
    from vrp.library.reading import Reading
    from vrp.library.study import Study
    from vrp.monitor.monitor import ReliabilityMonitor

__version__ = "0.1.0"

__all__ = ["InputError", "Model", "Reading", "ReliabilityMonitor", "Study", "load", "stats"]

_HOMES = {
    "InputError": "vrp.errors",
    "Model": "vrp.library.model",
    "Reading": "vrp.library.reading",
    "ReliabilityMonitor": "vrp.monitor.monitor",
    "Study": "vrp.library.study",
    "load": "vrp.library.model",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it is defined."""
    if name == "stats":
        return import_module("vrp.stats")
    if name not in _HOMES:
        raise AttributeError(f"module 'vrp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names for completion."""
    return sorted({*globals(), *__all__})
