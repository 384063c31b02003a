"""
The study's configuration, checked, and what the rules ask of it. No rules here.
"""

import functools
import os
import re
import shutil
import sys
from pathlib import Path

import yaml

from vrp.config.study import STAGE_KEYS, stage_config, study_from_mapping
from vrp.errors import InputError
from vrp.planning.resources import StudyResources
from vrp.plots.figures import FIGURE_NAMES
from vrp.provenance import code_digest, digest, module_digests
from vrp.sharing import check_shared_extraction, extraction_folder
from vrp.zoo import zoo_checkpoint

files = ", ".join(os.path.relpath(path) for path in workflow.configfiles)
overrides = " with --config" if workflow.config_settings.config else ""

try:
    STUDY = study_from_mapping(config, where=f"{files}{overrides}")
except InputError as error:
    # One line and no traceback: the message says what to mend.
    sys.exit(f"Error in the configuration: {error}")

RESULTS = f"{STUDY.results}/{STUDY.study}"

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

# For the stages: who runs them, so that none outlives a workflow that was killed; and that the
# workflow itself clears finished batches away, since it deletes tables that it took no note of.
os.environ.update(VRP_RUN_BY=str(os.getpid()), VRP_KEEP_BATCHES="1")

MODELS = list(STUDY.models)
ANY_MODEL = "|".join(re.escape(model) for model in MODELS)


def shard_names(count):
    """File names of a table's shards: 000, 001, ..."""
    return [f"{shard:03d}" for shard in range(count)]


SHARDS = shard_names(STUDY.extract.shards)
BLIND_SHARDS = SHARDS if STUDY.extract.blind else []
MASK_SHARDS = shard_names(STUDY.mask.shards) if STUDY.mask.enabled else []
ABLATE_SHARDS = shard_names(STUDY.ablate.shards)

# What the figures and the report read, of all models. The mask shards are not among their inputs:
# the effects wait for them, and Snakemake would look through all that they come from once each.
TABLES = {
    **{
        table: expand(
            f"<extraction>/{{model}}/{table}/{{shard}}.parquet",
            model=MODELS,
            shard=SHARDS,
        )
        for table in ("answers", "attention", "lens", "consistency")
    },
    **{
        table: expand(f"<results>/{{model}}/{table}.parquet", model=MODELS)
        for table in ("signals", "heads", "metrics", "probes", "predictions", "neurons")
    },
}

MASK_TABLES = expand(
    "{results}/{model}/mask/{shard}.parquet",
    results=RESULTS,
    model=MODELS,
    shard=MASK_SHARDS,
)

# What is found out about shared shards before anything reads them.
SHARED_ITEMS = (
    ["<results>/items.parquet", "<extraction>/items.parquet"] if SHARED else []
)
CHECKED = ["<results>/{model}/extraction.json"] if SHARED else []

# Memory, minutes and GPUs of every job, from the models' dimensions and the study's counts.
RESOURCES = StudyResources(STUDY)

FIGURES = expand(
    "<results>/figures/{name}.{format}",
    name=FIGURE_NAMES,
    format=sorted(set(STUDY.figures.formats)),
)


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


def forget_batches():
    """Remove the finished batches of every shard whose tables are there and taken note of."""
    for folder in Path(RESULTS).rglob(".*.batches"):
        if folder.with_name(
            f"{folder.name[1:].removesuffix('.batches')}.parquet"
        ).is_file():
            shutil.rmtree(folder, ignore_errors=True)


def code_of(stage):
    """A param that changes with the code of the stage, comments and formatting aside."""
    return {f"code_{stage}": code_digest(f"vrp.stages.{stage}")}


def config_of(stage):
    """A param that changes with any key that the stage reads."""
    if not reads_model(stage):
        return {f"config_{stage}": digest(stage_config(STUDY, stage))}
    return lambda wildcards: {
        f"config_{stage}": digest(keys_of(stage, wildcards.model))
    }


def causes_of(stage):
    """Params with the same content in pieces, so that a rerun's reason names what changed.

    Snakemake prints the params that differ, without their names: each is a mapping of one module
    to its digest or of one key to its value. Keys of a model share one param, since a function
    for each would slow down the planning of thousands of shards.
    """
    causes = {
        f"code_{stage}_{module.replace('.', '_')}": {module: found}
        for module, found in module_digests(f"vrp.stages.{stage}").items()
    }
    for key, value in keys_of(stage, MODELS[0]).items():
        if not key.startswith("models."):
            causes[f"config_{stage}_{key.replace('.', '_')}"] = {key: value}
    if reads_model(stage):
        causes[f"config_{stage}_models"] = lambda wildcards: model_keys_of(
            stage, wildcards.model
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


def mem_mb(stage):
    """Memory of a job; the next attempt after a failure gets more."""
    return lambda wildcards, attempt: RESOURCES.mem_mb(
        stage, wildcards.get("model", ""), attempt
    )


def runtime(stage):
    """Minutes of a job; the next attempt after a failure gets more."""
    return lambda wildcards, attempt: RESOURCES.runtime(
        stage, wildcards.get("model", ""), attempt
    )


def gpus(stage):
    """GPUs of a job: none for a model that is to run on a processor."""
    return lambda wildcards: RESOURCES.gpu(stage, wildcards.model)


def checkpoint_files(wildcards):
    """Files of a checkpoint that lies on this machine: its manifest follows their changes."""
    place = STUDY.models[wildcards.model].checkpoint
    try:
        folder = zoo_checkpoint(place) if place.startswith("zoo:") else Path(place)
    except InputError:
        return []  # what is missing is for fetch_model to say
    return sorted(str(path) for path in folder.glob("*.*")) if folder.is_dir() else []


def question_files(wildcards):
    """Question files that the user brought: the data manifest follows their changes."""
    data = STUDY.data
    if data.origin != "local":
        return []
    splits = STUDY.sample.splits
    names = [
        data.pope_questions.format(split=s.split) for s in splits if s.dataset == "pope"
    ]
    if any(split.dataset == "vqa" for split in splits):
        names += [data.vqa_questions, data.vqa_annotations]
    if any(split.dataset == "own" for split in splits):
        names.append(data.own_questions)
    paths = [Path(data.folder, name) for name in names]
    return [str(path) for path in paths if path.is_file()]
