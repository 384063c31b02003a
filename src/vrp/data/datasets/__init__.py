"""Data sets: every module of this package is one, and extensions register more.

A module's name is the data set's; it holds `DATASET`. Looking one up imports no other.
"""

import importlib
import pkgutil
from collections.abc import Iterable

from vrp.data.dataset import Dataset
from vrp.errors import InputError, unknown_name

_MODULES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
_REGISTERED: dict[str, Dataset] = {}


def register_dataset(dataset: Dataset) -> None:
    """Add a data set to those that studies can name.

    Raises:
        InputError: there is a data set of this name, or its name is no identifier.
    """
    if not dataset.name.isidentifier():
        raise InputError(f"data set {dataset.name!r}: use letters, digits and _ only")
    if dataset.name in dataset_names():
        raise InputError(f"data set {dataset.name!r} exists already; give yours another name")
    _REGISTERED[dataset.name] = dataset


def dataset_names() -> tuple[str, ...]:
    """Names of all data sets, in alphabetical order."""
    return tuple(sorted((*_MODULES, *_REGISTERED)))


def get_dataset(name: str) -> Dataset:
    """The data set of this name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in _MODULES:
        raise InputError(unknown_name("data set", name, dataset_names()))
    dataset: Dataset = importlib.import_module(f"{__name__}.{name}").DATASET
    return dataset


def load_datasets(names: Iterable[str] | None = None) -> tuple[Dataset, ...]:
    """These data sets (None: all), each once, in their declared order.

    Raises:
        InputError: a name is unknown.
    """
    wanted = dataset_names() if names is None else set(names)
    found = [get_dataset(name) for name in wanted]
    return tuple(sorted(found, key=lambda dataset: (dataset.order, dataset.name)))


def all_tasks(names: Iterable[str] | None = None) -> tuple[str, ...]:
    """What the questions of these data sets (None: of all) can ask for, in their order.

    Raises:
        InputError: a name is unknown.
    """
    return tuple(dict.fromkeys(task for dataset in load_datasets(names) for task in dataset.tasks))


def tasks_in_order(tasks: Iterable[str], datasets: Iterable[str]) -> list[str]:
    """Tasks, each once, in the order in which the data sets that ask for them declare them.

    Tasks that none of them declares are last, in alphabetical order.
    """
    order = all_tasks(set(datasets) & set(dataset_names()))
    found = set(tasks)
    return [task for task in order if task in found] + sorted(found - set(order))
