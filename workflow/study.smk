"""
The study's configuration, checked, and what the rules ask of it. No rules here.
"""

import functools
import gc
import inspect
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from vrp.config.study import STAGE_KEYS, stage_config, study_from_mapping
from vrp.errors import InputError
from vrp.planning.resources import StudyResources
from vrp.plots.figures import figure_names
from vrp.study.provenance import module_digests
from vrp.study.sharing import check_shared_extraction, extraction_folder, mask_folder
from vrp.workflow.clearing import remove_finished_batches, remove_partial_files
from vrp.workflow.gpu_count import require_gpu_count
from vrp.workflow.lock import acquire_results_lock
from vrp.workflow.orphaned_jobs import refuse_beside_slurm_jobs
from vrp.workflow.orphaned_outputs import recover_orphaned_outputs
from vrp.workflow.snapshot import write_snapshot
from vrp.workflow.watched_files import checkpoint_files, question_files

# Planning makes many objects and drops few: looking through all of them for garbage as often as
# Python does by itself takes a sixth of the time.
gc.set_threshold(200_000, 20, 100)

files = ", ".join(os.path.relpath(path) for path in workflow.configfiles)
overrides = " with --config" if workflow.config_settings.config else ""

try:
    STUDY = study_from_mapping(config, where=f"{files}{overrides}")
except InputError as error:
    # One line and no traceback: the message says what to mend.
    sys.exit(f"Error in the configuration: {error}")

RESULTS = str(Path(STUDY.results, STUDY.study))

# The configuration as merged and checked. `vrp` reads it; it is an input of no rule, since each
# rule reruns by the keys that its stage reads.
SNAPSHOT = f"{RESULTS}/config.yaml"

# Where the extraction's shards lie: with this study, or with the one that it takes them from.
EXTRACTION = str(extraction_folder(STUDY))
SHARED = STUDY.extraction_from is not None
if SHARED:
    try:
        check_shared_extraction(STUDY)
    except InputError as error:
        sys.exit(f"Error in the configuration: {error}")
    if workflow.is_main_process and "enabled" not in config.get("ablate", {}):
        logger.info(
            "The ablation is left out, since the extraction is another study's and an ablation asks "
            "for the model again; `ablate: {enabled: true}` runs it."
        )

# For the stages: who runs them, so that none outlives a workflow that was killed; and that the
# workflow itself clears finished batches away, since it deletes tables that it took no note of.
os.environ.update(VRP_RUN_BY=str(os.getpid()), VRP_KEEP_BATCHES="1")

MODELS = list(STUDY.models)
ANY_MODEL = "|".join(re.escape(model) for model in MODELS)


def shard_names(count):
    """File names of a table's shards: 000, 001, ..."""
    return [f"{shard:03d}" for shard in range(count)]


class Run(NamedTuple):
    """Jobs of one model that write their tables together, shard by shard, and are listed."""

    folder: str
    """Where the models' folders lie."""
    tables: list[str]
    shards: list[str]


RUNS = {
    "extraction": Run(
        EXTRACTION,
        ["answers", "attention", "hidden", "lens"],
        shard_names(STUDY.extract.shards),
    ),
    "consistency": Run(EXTRACTION, ["consistency"], shard_names(STUDY.extract.shards)),
    "blind": Run(
        EXTRACTION, ["blind/answers", "blind/hidden"], shard_names(STUDY.extract.shards)
    ),
    # The other study's, where `extraction_from` is set and it has made the very same.
    "mask": Run(str(mask_folder(STUDY)), ["mask"], shard_names(STUDY.mask.shards)),
    "ablate": Run(RESULTS, ["ablate"], shard_names(STUDY.ablate.shards)),
}

masks_itself = STUDY.mask.enabled and Path(RUNS["mask"].folder) == Path(RESULTS)
if SHARED and masks_itself and workflow.is_main_process:
    logger.info(
        f"The masking is the study's own and asks for the model: {EXTRACTION} has not made the "
        "very same, or not after its extraction."
    )


def lists_of(run):
    """Lists of all models' shards of a run. Later stages wait for them and not for the shards:

    Snakemake goes through all inputs of a job once for each of them.
    """
    return expand("<results>/{model}/{run}.json", model=MODELS, run=run)


MASK_LISTS = lists_of("mask") if STUDY.mask.enabled else []
ABLATE_LISTS = lists_of("ablate") if STUDY.ablate.enabled else []

# What figures and report read of all models.
MODEL_TABLES = {
    "extraction": lists_of("extraction"),
    "consistency": lists_of("consistency"),
    **{
        table: expand(f"<results>/{{model}}/{table}.parquet", model=MODELS)
        for table in ("signals", "heads", "metrics", "probes", "predictions", "neurons")
    },
    "mask": MASK_LISTS,
}

# What is found out about shared shards before anything reads them.
SHARED_ITEMS = (
    ["<results>/items.parquet", "<extraction>/items.parquet"] if SHARED else []
)

# Memory, minutes and GPUs of every job, from the models' dimensions and the study's counts.
RESOURCES = StudyResources(STUDY)

FIGURES = expand(
    "<results>/figures/{name}.{format}",
    name=figure_names(),
    format=sorted(set(STUDY.figures.formats)),
)


def causes_of(stage):
    """Params that change with the stage's code, comments and formatting aside, and with its keys.

    In pieces, so that a rerun's reason names what changed: Snakemake prints the params that differ,
    without their names, and each is a mapping of one module to its digest or of one key to its
    value. They have no names, since naming some sixty of each job takes Snakemake a tenth of its
    planning. Keys of a model share one param, since a function for each would slow it down, too.
    """
    modules = module_digests(f"vrp.stages.{stage}")
    keys = {
        key: value
        for key, value in keys_of(stage, MODELS[0]).items()
        if not key.startswith("models.")
    }
    causes = [{name: value} for name, value in (*modules.items(), *keys.items())]
    if reads_model(stage):
        causes.append(
            asked_often(lambda wildcards: model_keys_of(stage, wildcards.model))
        )
    return causes


def reads_model(stage):
    """Whether the stage runs one model and reads its keys."""
    return any(key.startswith("models.") for key in STAGE_KEYS[stage])


@functools.cache
def keys_of(stage, model):
    """The keys that the stage reads, with their values."""
    return stage_config(STUDY, stage, model)


@functools.cache
def model_keys_of(stage, model):
    """Those of them that belong to the model."""
    return {
        key.replace("*", model, 1): value
        for key, value in keys_of(stage, model).items()
        if key.startswith("models.")
    }


def folder_of_run(wildcards):
    """The model's folder that the tables of a run are in."""
    return f"{RUNS[wildcards.run].folder}/{wildcards.model}"


def shards_of_run(wildcards):
    """All shards of all tables of a run of a model."""
    run = RUNS[wildcards.run]
    return [
        f"{folder_of_run(wildcards)}/{table}/{shard}.parquet"
        for table in run.tables
        for shard in run.shards
    ]


def mem_mb(stage):
    """Memory of a job; the next attempt after a failure gets more."""
    return asked_often(
        lambda wildcards, attempt: RESOURCES.mem_mb(
            stage, wildcards.get("model", ""), attempt
        )
    )


def runtime(stage):
    """Minutes of a job; the next attempt after a failure gets more."""
    return asked_often(
        lambda wildcards, attempt: RESOURCES.runtime(
            stage, wildcards.get("model", ""), attempt
        )
    )


def gpus(stage):
    """GPUs of a job: none for a model that is to run on a processor."""
    return asked_often(lambda wildcards: RESOURCES.gpu(stage, wildcards.model))


def asked_often(function):
    """Keep what Snakemake works out of a function several times for every job: its signature."""
    function.__signature__ = inspect.signature(function)
    return function


recover_orphaned_outputs(workflow, STUDY)
