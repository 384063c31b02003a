"""The keys of the configuration that a stage's result depends on, with their values."""

from collections.abc import Mapping
from typing import Any

from vrp.config.study import StudyConfig
from vrp.study.declarations import ANALYSIS_KEYS, EXECUTION_KEYS, Stage


def stage_config(study: StudyConfig, stage: Stage, model: str | None = None) -> dict[str, Any]:
    """Return the keys that a stage's result depends on, flat and in plain types.

    Shape: `{"extract.shards": 1, …}`; sections are spelled out key by key, so that a workflow
    manager's reason for a rerun shows the key that changed. `models.*` stands for the model.

    Args:
        study: the configuration.
        stage: the stage.
        model: the model that its job runs, where it runs one.
    """
    plain = study.model_dump(mode="json")
    if model is not None:
        settings = plain["models"][model]
        # Which of several GPUs it is changes no result.
        settings["device"] = settings["device"].partition(":")[0]
        plain["models"] = {"*": settings}
    found: dict[str, Any] = {}
    for key in stage.keys:
        value: Any = plain
        for part in key.split("."):
            value = value[part]
        _flatten(key, value, found)
    not_meant = {*EXECUTION_KEYS, *ANALYSIS_KEYS} - set(stage.keys)
    return {
        key: value
        for key, value in found.items()
        if not any(key == name or key.startswith(f"{name}.") for name in not_meant)
    }


def _flatten(key: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _flatten(f"{key}.{name}", inner, into)
    else:
        into[key] = value


def value_of(study: StudyConfig, key: str) -> Any:
    """Return the value of a key such as `extract.shards`."""
    value: Any = study
    for part in key.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value


def batch_size(study: StudyConfig, stage: Stage, model: str) -> int:
    """Return the items a forward of a stage that runs a model: the model's own, or the stage's."""
    own = study.models[model].batch_size
    return int(value_of(study, stage.batch_key)) if own is None else own
