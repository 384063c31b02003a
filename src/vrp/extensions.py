"""Users' own signals, figures, data sets, model families and conditions, without a fork.

An extension is a Python file, or a module of an installed package under the entry point group
`vrp.extensions`, that calls `register_signal`, `register_figure`, `register_dataset`,
`register_family` or `register_condition`. A configuration names it under `extensions`.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vrp.errors import InputError, unknown_name

_GROUP = "vrp.extensions"
_PREFIX = "vrp_extension_"


def load_extensions(names: Iterable[str], *, beside: Sequence[Path] = ()) -> list[str]:
    """Import extensions, each once for the life of the process.

    Args:
        names: paths of Python files, or names of entry points.
        beside: folders that a relative path may be relative to, before the current one.

    Returns:
        The names; paths relative to the current folder.

    Raises:
        InputError: no such file or entry point, or its import fails.
    """
    return [_load(name, [*beside, Path()]) for name in names]


def loaded_extensions() -> dict[str, Path]:
    """Return the extensions that were imported: module → its file."""
    return dict(_LOADED)


_LOADED: dict[str, Path] = {}


def _load(name: str, folders: Sequence[Path]) -> str:
    if not name.endswith(".py"):
        return _load_entry_point(name)
    for folder in folders:
        path = folder / name
        if path.is_file():
            _load_file(path)
            return os.path.relpath(path)
    raise InputError(f"extension {name}: no such file beside the configuration or in {Path.cwd()}")


def _load_entry_point(name: str) -> str:
    known = {point.name: point for point in importlib.metadata.entry_points(group=_GROUP)}
    if name not in known:
        raise InputError(
            f"{unknown_name('extension', name, known)}; give a file that ends in .py, or install "
            "the package that has the entry point"
        )
    module = importlib.import_module(known[name].module)
    _LOADED[module.__name__] = Path(str(module.__file__))
    return name


def _load_file(path: Path) -> None:
    module_name = _PREFIX + path.stem
    loaded = _LOADED.get(module_name)
    if loaded is not None:
        if loaded.samefile(path):
            return
        raise InputError(f"extension {path}: {loaded} has the same name; rename one")
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    _LOADED[module_name] = path.resolve()
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        del sys.modules[module_name], _LOADED[module_name]
        raise InputError(f"extension {path}: {error}") from None
    except Exception as error:
        del sys.modules[module_name], _LOADED[module_name]
        reason = " ".join(str(error).split())
        raise InputError(f"extension {path}: {type(error).__name__}: {reason}") from error
