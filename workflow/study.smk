"""
The study's configuration, checked, and what the rules ask of it. No rules here.
"""

import fcntl
import functools
import gc
import hashlib
import inspect
import json
import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

import yaml

from vrp.config.study import STAGE_KEYS, stage_config, study_from_mapping
from vrp.errors import InputError
from vrp.planning.resources import StudyResources
from vrp.plots.figures import figure_names
from vrp.study.provenance import code_digest, digest, module_digests
from vrp.study.sharing import check_shared_extraction, extraction_folder, mask_folder
from vrp.zoo import zoo_checkpoint

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


def results_are_held():
    """Whether a run works on these results at this moment."""
    try:
        with Path(RESULTS, ".lock").open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False  # no run has been here
    except OSError:
        # No such locks on this file system: Snakemake's own, in this folder, must do.
        from vrp.study.status import is_locked

        return is_locked(Path(), Path(RESULTS))
    return False


def lock_soon(file, tries=5):
    """Lock a file for this process alone. A run that is being planned looks for a moment."""
    for left in reversed(range(tries)):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
        time.sleep(0.1)


def hold_results():
    """Refuse to run beside another run on the same results, wherever that was started.

    Snakemake's own lock is known in its folder alone. This one ends with the process that holds
    it, however that ends.
    """
    path = Path(RESULTS, ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
        lock_soon(file)
    except BlockingIOError:
        file.seek(0)
        sys.exit(
            f"Error: {RESULTS}: another run works here ({file.read().strip()}); wait for its end, "
            "or stop it. Nothing was changed."
        )
    except OSError as error:
        # No such locks on this file system, or a folder that cannot be written, which is said later.
        print(
            f"Warning: {path}: cannot be locked ({error.strerror}); nothing keeps a run that is "
            "started in another folder away from these results",
            file=sys.stderr,
        )
        return
    file.truncate(0)
    print(f"process {os.getpid()} on {socket.gethostname()}", file=file, flush=True)
    HELD.append(file)


# Open for as long as the process lives: closing the file would give it up.
HELD = []


def write_snapshot():
    """Write the configuration for `vrp`, whole or not at all, and only where it changed."""
    text = yaml.safe_dump(
        STUDY.model_dump(mode="json"), sort_keys=False, allow_unicode=True
    )
    path = Path(SNAPSHOT)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        sys.exit(
            f"Error: {path}: cannot be written ({error.strerror}); set `results` in the config "
            "to a folder that can, or check permissions and free space"
        )


def look_for_unseen_files():
    """Have files made anew that SLURM finished unseen and that are not up to date, and say so.

    A run that is at work takes note of its jobs itself; jobs of its own read this file, too.
    """
    if not (workflow.is_main_process and Path(".snakemake/slurm_jobs").is_dir()):
        return
    if results_are_held():
        return
    if workflow.workflow_settings.persistence_backend.name != "FILE":
        return  # records in a database are left as they are
    from snakemake.persistence.file import FilePersistence

    from snakemake_executor_plugin_vrp_slurm.submissions import pending_submissions
    from vrp.workflow.orphaned_outputs import find_orphaned_outputs, update_records

    records = FilePersistence(nolock=True)
    submissions = filter(is_of_this_study, pending_submissions())
    orphaned = find_orphaned_outputs(submissions, records, made_by)
    update_records(orphaned, records)
    if orphaned.valid:
        logger.info(
            f"Jobs that SLURM finished after their Snakemake had ended: {len(orphaned.valid)}; what "
            "they made is up to date and is kept."
        )
    for job, reason in orphaned.stale:
        logger.warning(
            f"{f'SLURM job {job.slurm_id}' if job.slurm_id else 'A SLURM job'} finished {job.outputs[0]} "
            f"after its Snakemake had ended; the job is planned again, since {reason}."
        )


def refuse_beside_slurm_jobs():
    """Refuse to work beside SLURM jobs of a killed run that are still in the queue.

    Where jobs are submitted, the executor ends those that its own would meet.
    """
    submits = workflow._executor_plugin.name == "vrp-slurm"
    if submits or not Path(".snakemake/slurm_jobs").is_dir():
        return
    from snakemake_executor_plugin_vrp_slurm.queue import SlurmError, unfinished
    from snakemake_executor_plugin_vrp_slurm.submissions import pending_submissions

    try:
        runs = {one.run for one in filter(is_of_this_study, pending_submissions())}
        jobs = sorted(job for run in runs for job in unfinished(run))
    except SlurmError as error:
        print(
            f"Warning: jobs of an earlier run may still be in SLURM's queue ({error})",
            file=sys.stderr,
        )
        return
    if jobs:
        sys.exit(
            f"Error: {RESULTS}: SLURM jobs of an earlier run still work here: end them with "
            f"`scancel {' '.join(jobs)}`, or continue with `--profile slurm`. Nothing was changed."
        )


def refuse_without_number_of_gpus():
    """Refuse to start model runs side by side on GPUs of this machine that nobody has counted.

    Snakemake limits only what it is given a number of: every core would load a model.
    """
    side_by_side = workflow.local_exec and not workflow.touch and workflow.cores > 1
    if not side_by_side or "gpu" in workflow.global_resources:
        return
    if sum(bool(job.resources.get("gpu")) for job in workflow.dag.needrun_jobs()) < 2:
        return
    from vrp.running.gpus import visible_gpus

    if n_gpus := len(visible_gpus()):
        sys.exit(
            "Error: nothing says how many model runs may hold a GPU at once; this machine has "
            f"{n_gpus}: add `--resources gpu={n_gpus}`. Nothing was changed."
        )


def is_of_this_study(submission):
    """Whether the workflow of this configuration can plan the job."""
    return all(
        path.startswith(f"{RESULTS}/") for path in submission.outputs
    ) and submission.model in ("", *MODELS)


def made_by(stage, model):
    """What a table of the stage states when it is made now; of lists of shards, nothing."""
    if stage not in STAGE_KEYS:
        return {}
    return {
        "stage": stage,
        "model": model,
        "code": code_digest(f"vrp.stages.{stage}"),
        "config": digest(keys_of(stage, model or MODELS[0])),
    }


def clear_up():
    """Remove what a run that succeeded needs no more, and what killed jobs left half-written.

    Finished batches go where all tables of the shard are there and taken note of: what Snakemake
    has marked as incomplete, it deletes and makes again.
    """
    from vrp.study.status import is_marked_incomplete

    for folder in Path(RESULTS).rglob(".*.batches"):
        tables = tables_beside(folder)
        if all(table.is_file() for table in tables) and not any(
            is_marked_incomplete(table, Path()) for table in tables
        ):
            shutil.rmtree(folder, ignore_errors=True)
    if folders := {part.parent for part in Path(RESULTS).rglob(".*.part")}:
        from vrp.tables.files import remove_abandoned_parts  # seconds, rarely needed

        for folder in folders:
            remove_abandoned_parts(folder)


def tables_beside(batches):
    """The tables of one shard that a folder of finished batches is kept for."""
    model, *place = batches.parent.relative_to(RESULTS).parts
    first = "/".join(place)
    together = next(run.tables for run in RUNS.values() if run.tables[0] == first)
    shard = batches.name[1:].removesuffix(".batches")
    return [Path(RESULTS, model, table, f"{shard}.parquet") for table in together]


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


def checkpoint_files(wildcards):
    """Files of a checkpoint that lies on this machine: its manifest follows their changes."""
    place = STUDY.models[wildcards.model].checkpoint
    try:
        folder = (
            zoo_checkpoint(place)
            if place.startswith("zoo:")
            else Path(place).expanduser()
        )
    except InputError:
        return []  # what is missing is for fetch_model to say
    names = sorted(path.name for path in folder.glob("*.*") if path.suffix != ".md")
    manifest = Path(RESULTS, "models", f"{wildcards.model}.json")
    return unless_unchanged(manifest, folder, names)


def question_files(wildcards):
    """Question files that the user brought: the data manifest follows their changes."""
    data = STUDY.data
    if data.origin != "local":
        return []
    splits = [(split.dataset, split.split) for split in STUDY.sample.splits]
    names = data.question_files(splits)
    found = [name for name in names if Path(data.folder, name).is_file()]
    return unless_unchanged(Path(RESULTS, "data.json"), Path(data.folder), found)


def unless_unchanged(manifest, folder, names):
    """Files to watch; the time does not count of those whose content the manifest still states.

    Nor of those that it does not list: they are not loaded. Only files that are newer than the
    manifest are digested.
    """
    try:
        stated = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        written = manifest.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return [str(folder / name) for name in names]

    def unchanged(name):
        if name not in stated:
            return True
        path = folder / name
        changed = max(path.stat().st_mtime, path.lstat().st_mtime)
        return changed > written and stated[name] == sha256(path)

    paths = {name: str(folder / name) for name in names}
    return [ancient(path) if unchanged(name) else path for name, path in paths.items()]


@functools.cache
def sha256(path):
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


look_for_unseen_files()
