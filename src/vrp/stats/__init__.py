"""Statistics of the study: pure functions of arrays, knowing nothing of models, tables or stages.

`signal` is always one float per item (NaN: missing), `correct` 0 or 1 per item, `groups` the
image that each item asks about. Intervals resample images, never items. Modules are imported when
they are first used: `vrp.stats.auroc.auroc(signal, correct)`.
"""

import pkgutil
from importlib import import_module
from typing import Any

__all__ = sorted(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> Any:
    """Import a module of the package."""
    if name not in __all__:
        raise AttributeError(f"module 'vrp.stats' has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """List the modules for completion."""
    return __all__
