"""The command of each stage: its options, how a rule spells it, and how it is carried out."""

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.study.context import StageContext, restricted
from vrp.study.declarations import Artifact, Stage
from vrp.study.graph import ITEMS, LIST_OF, LISTS, MADE_BY
from vrp.study.keys import batch_size, stage_config, value_of
from vrp.study.layout import StudyLayout


class PathOption(NamedTuple):
    """An option of a command that takes one path or several."""

    artifact: Artifact
    """What is read or written there; of shards that are read, their list."""
    writes: bool
    """Whether it is written."""
    several: bool
    """Whether it takes any number of paths: those of all models, all files of a kind, or none where
    the study does not have the stage that makes them."""

    @property
    def help(self) -> str:
        """Text of `--help`."""
        return f"{self.artifact.help}{', to write' if self.writes else ''}"


def path_options(stage: Stage) -> Iterator[PathOption]:
    """Yield the options of a stage's command in order: what it reads, then what it writes."""
    read = dict.fromkeys(
        LISTS[MADE_BY[one].name] if MADE_BY[one].per == "shard" else one for one in stage.reads
    )
    for artifact in read:
        of_all_models = stage.per == "study" and "model" in artifact.wildcards
        maker = MADE_BY.get(artifact) or LIST_OF[artifact]
        several = of_all_models or artifact.expand is not None or maker.optional
        yield PathOption(artifact, False, several)
    for artifact in stage.writes:
        yield PathOption(artifact, True, artifact.expand is not None)


def command_line(stage: Stage) -> str:
    """Return the command of a stage's rule, as Snakemake formats it.

    It names no path of a table: a stage reads and writes where the study's layout has them, as
    the rule does. Its output goes to the log and to stderr; `tee` outlives a signal to the whole
    job, so that what a stage says as it ends is logged, too.
    """
    parts = [f"vrp {stage.command}", "--config {params.study:q}"]
    if stage.per in ("model", "shard", "list"):
        parts.append("--model {wildcards.model:q}")
    if stage.per == "shard":
        parts.append("--shard {wildcards.shard}")
    if stage.per == "list":
        parts += ["--stage {wildcards.stage}", "--folder {params.folder:q}",
                  "--items {input.item_tables:q}", "--list {output.list:q}"]  # fmt: skip
    offline = "HF_HUB_OFFLINE=1 VRP_GPUS={resources.gpu} " if stage.runs_model else ""
    logged = "2>&1 | (trap '' INT TERM && exec tee {log:q} >&2)"
    return offline + " \\\n    ".join([*parts, logged])


def run_stage(
    stage: Stage,
    study: StudyConfig,
    *,
    model: str = "",
    shard: int = 0,
    files: Mapping[str, Sequence[Path]] | None = None,
    missing: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Carry out one job of a stage.

    Args:
        stage: the stage; one that lists shards has `run_gather`.
        study: the configuration.
        model: name of its model, where it has one.
        shard: which shard, from 0.
        files: option's artifact name → paths; what is left out is where the study's layout has it.
        missing: model → stages that it lacks, where a study of all models is not whole; an empty
            name stands for the whole study.

    Raises:
        InputError: no such model, or an input is missing or does not fit; nothing is written then.
    """
    from vrp.study.digests import code_digest
    from vrp.study.provenance import EXECUTION, SHARD, provenance
    from vrp.study.table_origins import check_inputs
    from vrp.tables.shard_list import listed_shards

    if stage.per != "study":
        _require_model(study, model)
    layout = StudyLayout(study)
    paths: dict[str, list[Path]] = {}
    for option in path_options(stage):
        artifact = option.artifact
        given = (files or {}).get(artifact.name)
        if given is None and (option.writes or stage.wants(artifact, study)):
            given = layout.paths(artifact, model=model, shard=f"{shard:03d}")
        paths[artifact.name] = list(given or ())
    read = {one.artifact: paths[one.artifact.name] for one in path_options(stage) if not one.writes}
    origins = check_inputs(study, model if stage.per != "study" else "", read)
    inputs: dict[str, list[Path]] = {}
    for artifact in stage.reads:
        maker = MADE_BY[artifact]
        if maker.per == "shard":
            inputs[artifact.name] = listed_shards(paths[maker.name], artifact.name)
        else:
            inputs[artifact.name] = paths[artifact.name]
    made_by = provenance(
        study=study.study,
        stage=stage.name,
        config=stage_config(study, stage, model or None),
        code=code_digest(study, stage.name, model),
        model=model,
    )
    made_by |= origins
    batch = batch_size(study, stage, model) if stage.batch_key else 1
    n_shards = value_of(study, stage.shards_key) if stage.shards_key else 1
    if stage.per == "shard":
        made_by[SHARD] = f"{shard}/{n_shards}"
    if stage.runs_model:
        settings = study.models[model].model_dump(mode="json", include={"device", "device_map"})
        made_by[EXECUTION] = json.dumps({"batch_size": batch, **settings})
    context = StageContext(
        stage=stage.name,
        study=restricted(study, stage.keys),
        inputs=inputs,
        outputs={artifact.name: paths[artifact.name] for artifact in stage.writes},
        of_models=[one.name for one in stage.reads if "model" in one.wildcards],
        model=model,
        shard=shard,
        n_shards=n_shards,
        batch_size=batch,
        benchmarks=layout.benchmarks() if stage.reads_benchmarks else {},
        missing=missing or {},
        provenance=made_by,
    )
    importlib.import_module(f"vrp.stages.{stage.name}").run(context)


def run_gather(
    study: StudyConfig,
    listed: Stage,
    *,
    model: str,
    folder: Path,
    items: Sequence[Path],
    output: Path,
) -> None:
    """List the shards of one stage and model.

    Args:
        study: the configuration.
        listed: the stage.
        model: name of the model.
        folder: the study's folder that they are in.
        items: items tables that must be equal, where the shards are another study's.
        output: the list, to write.

    Raises:
        InputError: a shard is missing, or shards do not fit together.
    """
    from vrp.stages import gather
    from vrp.study.table_origins import expected_provenance

    _require_model(study, model)
    expected = expected_provenance(study, listed, model)
    if folder != StudyLayout(study, ahead=True).results:
        del expected["study"]
    n_shards = value_of(study, listed.shards_key)
    inputs = {
        table.name: [
            folder / table.path.replace("{model}", model).replace("{shard}", f"{shard:03d}")
            for shard in range(n_shards)
        ]
        for table in listed.writes
    }
    gather.run(
        StageContext(
            stage="gather", study=restricted(study, ()), model=model,
            inputs={**inputs, ITEMS.name: list(items)}, outputs={"list": [output]},
            provenance=expected,
        )
    )  # fmt: skip


def _require_model(study: StudyConfig, name: str) -> None:
    if name not in study.models:
        known = ", ".join(study.models)
        raise InputError(f"model {name!r} is not in the config; choose one of {known}")
