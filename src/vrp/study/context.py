"""What a stage is given: its part of the configuration, its paths, its shard."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.study.declarations import ANALYSIS_KEYS


class UndeclaredError(Exception):
    """A stage asked for a key, an input or an output that the graph does not declare for it."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """One job of a stage."""

    stage: str
    """Name of the stage."""
    study: StudyConfig
    """The configuration; reading a key that the stage does not declare raises UndeclaredError."""
    inputs: Mapping[str, Sequence[Path]]
    """By name: files to read; of tables in shards all of them, of all models where the stage is of
    the whole study. Empty where the study does not have the table."""
    outputs: Mapping[str, Sequence[Path]]
    """By name: files to write."""
    of_models: Sequence[str] = ()
    """Names of those inputs that are of a model, or of all models."""
    model: str = ""
    """Name of the model; empty where the stage is of the whole study."""
    shard: int = 0
    """Which shard, from 0."""
    n_shards: int = 1
    """Shards that the items are cut into."""
    batch_size: int = 1
    """Items per forward pass; results do not depend on it."""
    benchmarks: Mapping[tuple[str, str], Sequence[Path]] = field(default_factory=dict)
    """By model and stage: how long its jobs took, where all of them were timed. Empty for a stage
    that does not declare that it reads them."""
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Model → stages that should have run and have left nothing; by an empty name those of the
    whole study. A workflow runs nothing on a study that is not whole."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Written into the tables."""

    def input_path(self, name: str) -> Path:
        """Return the path of an input that is one file."""
        (path,) = self.input_paths(name)
        return path

    def input_paths(self, name: str) -> list[Path]:
        """Return the paths of all files of an input."""
        if name not in self.inputs:
            raise UndeclaredError(f"the stage {self.stage} does not declare that it reads {name}")
        return list(self.inputs[name])

    def model_inputs(self) -> dict[str, list[Path]]:
        """Return the paths of every input that is of models, by name."""
        return {name: self.input_paths(name) for name in self.of_models}

    def output_path(self, name: str) -> Path:
        """Return the path of an output that is one file."""
        (path,) = self.output_paths(name)
        return path

    def output_paths(self, name: str) -> list[Path]:
        """Return the paths of all files of an output."""
        if name not in self.outputs:
            raise UndeclaredError(f"the stage {self.stage} does not declare that it writes {name}")
        return list(self.outputs[name])

    @property
    def model_config(self) -> ModelConfig:
        """The section of its model."""
        return self.study.models[self.model]

    @property
    def label(self) -> str:
        """Names the job in progress bars and messages, such as `extract llava`."""
        return f"{self.stage} {self.model}".strip()


def restricted(study: StudyConfig, keys: Iterable[str]) -> StudyConfig:
    """Return a configuration that raises UndeclaredError where another key is read.

    Args:
        study: the configuration.
        keys: such as `extract.shards`; a section's name stands for all of it, `*` for any model.
    """
    return cast(StudyConfig, _View(study, "", frozenset(keys)))


class _View:
    """A section, or the models, of which only some keys may be read."""

    def __init__(self, value: Any, path: str, keys: frozenset[str]) -> None:
        self._value = value
        self._path = path
        self._keys = keys

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._value, name)
        if callable(value):  # a method of the section, which reads keys of its own
            return value.__func__.__get__(self) if hasattr(value, "__func__") else value
        return self._step(value, name)

    def __getitem__(self, name: str) -> Any:
        return self._step(self._value[name], "*")

    def _step(self, value: Any, name: str) -> Any:
        path = f"{self._path}.{name}".removeprefix(".")
        named = path in self._keys
        whole = named or (self._path in self._keys and path not in ANALYSIS_KEYS)
        if whole and not any(key.startswith(f"{path}.") for key in ANALYSIS_KEYS):
            return value
        if named or any(key.startswith(f"{path}.") for key in self._keys):
            return _View(value, path, self._keys)
        raise UndeclaredError(f"the key {path} is not declared for this stage")
