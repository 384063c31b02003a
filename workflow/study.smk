"""
The study's configuration, checked, and what the rules ask of it. No rules here.
"""

import functools
import os
import re
import sys
from pathlib import Path

import yaml

from vrp.config.study import STAGE_KEYS, stage_config, study_from_mapping
from vrp.errors import InputError
from vrp.plots.figures import FIGURE_NAMES
from vrp.provenance import code_digest, digest, module_digests
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

MODELS = list(STUDY.models)
ANY_MODEL = "|".join(re.escape(model) for model in MODELS)


def shard_names(count):
    """File names of a table's shards: 000, 001, ..."""
    return [f"{shard:03d}" for shard in range(count)]


SHARDS = shard_names(STUDY.extract.shards)
BLIND_SHARDS = SHARDS if STUDY.extract.blind else []
MASK_SHARDS = shard_names(STUDY.mask.shards)
ABLATE_SHARDS = shard_names(STUDY.ablate.shards)

# What the figures and the report read, of all models.
TABLES = {
    **{
        table: expand(
            f"<results>/{{model}}/{table}/{{shard}}.parquet", model=MODELS, shard=SHARDS
        )
        for table in ("answers", "attention", "lens", "consistency")
    },
    **{
        table: expand(f"<results>/{{model}}/{table}.parquet", model=MODELS)
        for table in ("signals", "heads", "metrics", "probes", "predictions", "neurons")
    },
    "mask": expand(
        "<results>/{model}/mask/{shard}.parquet", model=MODELS, shard=MASK_SHARDS
    ),
}

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
