"""Run one job of a stage on given files, as the command line does."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.study.context import StageContext, restricted
from vrp.study.declarations import Stage
from vrp.study.graph import MADE_BY, STAGE
from vrp.study.keys import batch_size, value_of

Files = Mapping[str, Path | Sequence[Path]]
_ANY_MODEL = ModelConfig(family="llava", checkpoint="zoo:llava")


def run_job(
    stage: str,
    files: Files,
    *,
    model: ModelConfig = _ANY_MODEL,
    shard: int = 0,
    provenance: Mapping[str, str] | None = None,
    **sections: Any,
) -> None:
    """Run a stage.

    Args:
        stage: its name.
        files: what it reads and writes, by the graph's names; inputs left out have no file, outputs
            left out are written beside the first, and tables of the study that it does not read
            are not given to it.
        model: section of the model, which is called as `provenance` says.
        shard: which shard.
        provenance: written into the tables.
        sections: keys of the configuration, such as `seed` or `metrics`.
    """
    importlib.import_module(f"vrp.stages.{stage}").run(
        job_context(stage, files, model=model, shard=shard, provenance=provenance, **sections)
    )


def _outputs(declared: Stage, paths: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    given = {one.name: paths[one.name] for one in declared.writes if one.name in paths}
    beside = next(iter(given.values()))[0] if given else None
    return {
        one.name: given.get(one.name)
        or ([] if beside is None else [beside.with_name(f"{beside.stem}-{one.name}")])
        for one in declared.writes
    }


def job_context(
    stage: str,
    files: Files,
    *,
    model: ModelConfig = _ANY_MODEL,
    shard: int = 0,
    provenance: Mapping[str, str] | None = None,
    **sections: Any,
) -> StageContext:
    """Return what `run_job` gives to a stage."""
    declared = STAGE[stage]
    origin = dict(provenance or {})
    name = origin.get("model") or "tiny"
    study = StudyConfig(study="test", models={name: model}).model_copy(update=sections)
    unknown = set(files) - {one.name for one in MADE_BY}
    assert not unknown, f"no stage has a file named {unknown}"
    paths = {
        key: [value] if isinstance(value, Path) else list(value) for key, value in files.items()
    }
    return StageContext(
        stage=stage,
        study=restricted(study, declared.keys),
        inputs={one.name: paths.get(one.name, []) for one in declared.reads},
        outputs=_outputs(declared, paths),
        of_models=[one.name for one in declared.reads if "model" in one.wildcards],
        model="" if declared.per == "study" else name,
        shard=shard,
        n_shards=value_of(study, declared.shards_key) if declared.shards_key else 1,
        batch_size=batch_size(study, declared, name) if declared.batch_key else 1,
        provenance=origin,
    )
