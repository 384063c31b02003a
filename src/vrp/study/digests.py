"""Digests of what a stage's result depends on, definition by definition.

A stage's result depends on the functions, classes, constants and data files that its entry
reaches, on those of its model's own family, and on nothing else of the package: see
`vrp.study.definitions` for how names are followed and what never counts. What the text does not
tell is declared here: what is read by a name that is made up while running, and which definitions
cannot change a number.
"""

import ast
import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vrp.config.study import StudyConfig
from vrp.extensions import loaded_extensions
from vrp.study.declarations import Stage
from vrp.study.definitions import Reached, Sources, Uncounted
from vrp.study.graph import STAGE
from vrp.study.provenance import digest

_FOLDER = Path(__file__).parents[1]

CANNOT_CHANGE_A_NUMBER: Mapping[str, str] = {
    # What tells people something.
    "vrp.running.model_run:progress": "a progress bar",
    "vrp.running.model_run:warn_skipped_items": "a message",
    "vrp.stages.sample:_warn_missing_images": "a message",
    "vrp.logs:*": "how messages are printed",
    "vrp.download:_bar": "a progress bar",
    "vrp.hub_errors:remedy": "the wording of an error that ends the stage either way",
    "vrp.vlm.loading:_explained": "the wording of an error that ends the stage either way",
    "vrp.vlm.out_of_memory:ItemTooLargeError.__init__": "a message",
    "vrp.vlm.family_names:check_family": "refuses a name, or does nothing",
    "vrp.vlm.families.base:decoder_refusal": "refuses a checkpoint, or does nothing",
    "vrp.vlm.verification:*": "refuses a checkpoint, or does nothing",
    # How files get onto the disk, which is the same file or an error.
    "vrp.tables.files:atomic_write": "a file appears whole or not at all",
    "vrp.tables.files:require_writable": "an error, earlier",
    "vrp.tables.files:remove_abandoned_parts": "cleans up after killed jobs",
    "vrp.running.finished_batches:FinishedBatches.discard": "cleans up",
    # Where and how a stage runs.
    "vrp.stages.fetch_model:_dimensions": "planning alone reads them",
    "vrp.running.gpus:*": "which of the machine's GPUs is taken",
    "vrp.termination:*": "how a stage ends when it is told to",
    # What is handed to a stage counts by its values: keys are params of its rule, files its inputs.
    "vrp.config.study:load_study": "what it returns are the keys",
    "vrp.study.context:StageContext.label": "names the job in messages",
    "vrp.study.keys:batch_size": "results do not depend on it, but for rounding",
    "vrp.study.command:path_options": "which files there are",
    "vrp.study.layout:*": "where files are",
    "vrp.study.declarations:*": "which files there are",
    "vrp.study.graph:*": "declares files and keys; of a stage, its files and shards count",
    # What an extension registers counts by itself, where it is looked up: `registered_objects`.
    "vrp.signals.registry:register_signal": "adds a signal",
    "vrp.plots.figures:register_figure": "adds a figure",
    "vrp.data.datasets:register_dataset": "adds a data set",
    "vrp.vlm.families:register_family": "adds a model family",
    "vrp.interventions.conditions:register_condition": "adds a kind of condition",
    "vrp.extensions:*": "imports extensions",
    # What states what made a table, in the table's metadata.
    "vrp.study.keys:stage_config": "the values of keys",
    "vrp.study.provenance:*": "versions and digests",
    "vrp.study.digests:*": "digests",
}
"""Definitions that no result depends on → why. They are not followed, and a statement that calls
one does not count. `module:*` is all of a module."""

MESSAGE_ARGUMENTS: Mapping[str, Sequence[str | int]] = {
    "vrp.tables.schema:column": (2, "description"),
    "vrp.running.model_run:progress": ("*",),
    "vrp.download:_bar": ("*",),
    "vrp.running.shard:write_shard": ("description", "unit", "answers"),
    "vrp.running.finished_batches:FinishedBatches": ("stage",),
}
"""Definitions → arguments that only say something to people: names, positions, `*` for all."""

_UNCOUNTED = Uncounted(CANNOT_CHANGE_A_NUMBER, MESSAGE_ARGUMENTS)
_FIGURE = ("ORDER", "TITLE", "CAPTION", "TABLES", "draw")


class Chosen(NamedTuple):
    """What a job uses of what is looked up by name; None: all that there is."""

    families: tuple[str, ...] | None = None
    """Model families."""
    datasets: tuple[str, ...] | None = None
    """Data sets."""


ALL = Chosen()


def chosen_by(study: StudyConfig, model: str = "") -> Chosen:
    """Return what a job of a study uses.

    Args:
        study: the configuration.
        model: the model of the job; empty: it is of the whole study.
    """
    models = [study.models[model]] if model else list(study.models.values())
    datasets = {split.dataset for split in study.sample.splits}
    datasets |= {*study.data.official, *study.data.hub, *study.data.files}
    return Chosen(tuple(sorted({one.family for one in models})), tuple(sorted(datasets)))


def dynamic_reads(chosen: Chosen = ALL) -> Mapping[str, Sequence[str]]:
    """Return what the package reads by names that no text holds: definition → what it reads."""
    families = _known("vlm.families", chosen.families, but=("base",))
    datasets = _known("data.datasets", chosen.datasets)
    figures = _known("plots.figures")
    found = {
        "vrp.vlm.families:get_family": _read(families, "FAMILY"),
        "vrp.data.datasets:get_dataset": _read(datasets, "DATASET"),
        "vrp.plots.figures:_from_module": _read(figures, *_FIGURE),
    }
    for registry, objects in registered_objects(chosen).items():
        found[registry] = (*found.get(registry, ()), *_code_of(objects))
    return found


def _read(modules: Iterable[str], *names: str) -> tuple[str, ...]:
    return tuple(f"{module}:{name}" for module in modules for name in names)


def _known(package: str, chosen: Sequence[str] | None = None, but: Sequence[str] = ()) -> list[str]:
    """Modules of a package that discovers its own: those that are chosen, or all."""
    names = {path.stem for path in _FOLDER.joinpath(*package.split(".")).glob("*.py")}
    names -= {"__init__", *but}
    # One that an extension registers may build on any of the package's.
    if chosen is None or not {*chosen} <= names:
        chosen = sorted(names)
    return [f"vrp.{package}.{name}" for name in sorted(chosen)]


# Definition that looks up what extensions register → the registry, and whose names choose of it.
_REGISTRIES: Mapping[str, tuple[str, str, str]] = {
    "vrp.vlm.families:get_family": ("vrp.vlm.family_names", "REGISTERED", "families"),
    "vrp.data.datasets:get_dataset": ("vrp.data.datasets", "_REGISTERED", "datasets"),
    "vrp.plots.figures:load_figures": ("vrp.plots.figures", "_REGISTERED", ""),
    "vrp.signals.registry:SIGNALS": ("vrp.signals.registry", "SIGNALS", ""),
    "vrp.interventions.masking:MASK_KINDS": ("vrp.interventions.masking", "MASK_KINDS", ""),
    "vrp.interventions.ablation:ABLATION_KINDS": (
        "vrp.interventions.ablation", "ABLATION_KINDS", "",
    ),
}  # fmt: skip


def registered_objects(chosen: Chosen = ALL) -> Mapping[str, list[Any]]:
    """Return what loaded extensions have registered: definition that looks it up → objects.

    Args:
        chosen: what a job uses of what is looked up by name.
    """
    found: dict[str, list[Any]] = {}
    extensions = loaded_extensions()
    for lookup, (module, registry, field) in _REGISTRIES.items() if extensions else ():
        wanted = getattr(chosen, field) if field else None
        # Without an extension that registers anything there, the module is not imported at all.
        for name, one in getattr(sys.modules.get(module), registry, {}).items():
            if wanted is not None and name not in wanted:
                continue
            if any(code.partition(":")[0] in extensions for code in _code_of([one])):
                found.setdefault(lookup, []).append(one)
    return found


def _code_of(objects: Iterable[Any]) -> tuple[str, ...]:
    """Definitions of classes, or of the functions that dataclasses hold."""
    functions = [
        value
        for one in objects
        for value in ([one] if isinstance(one, type) else vars(one).values())
        if callable(value) and hasattr(value, "__qualname__")
    ]
    return tuple(f"{one.__module__}:{one.__qualname__}" for one in functions)


def _plain_values(one: Any) -> str:
    """Digest of what a registered dataclass says besides its functions."""
    values = {} if isinstance(one, type) else vars(one)
    return digest({name: repr(v) for name, v in values.items() if not callable(v)})[:8]


def sources() -> Sources:
    """Return the source of the package and of loaded extensions, parsed once a process."""
    return _parsed(tuple(loaded_extensions().items()))


@functools.cache
def _parsed(extensions: tuple[tuple[str, Path], ...]) -> Sources:
    return Sources({"vrp": _FOLDER, **dict(extensions)}, _UNCOUNTED)


def reach_stage(stage: str, chosen: Chosen = ALL) -> Reached:
    """Follow names from a stage's entries.

    Args:
        stage: name of the stage.
        chosen: what its job uses of what is looked up by name.
    """
    sections = {key.partition(".")[0] for key in STAGE[stage].keys}
    runs = {"vrp.study.command:run_stage": (f"vrp.stages.{stage}:run",)}
    entry = "run_gather" if STAGE[stage].per == "list" else "run_stage"
    return sources().reach(
        [f"vrp.study.command:{entry}"],
        reads={**dynamic_reads(chosen), **runs},
        values_of=("vrp.config.study:StudyConfig", sections),
    )


def stage_definitions(stage: str, chosen: Chosen = ALL) -> Mapping[str, str]:
    """Return `module:definition` → digest for all that a stage's result depends on.

    Files of the package that it opens are named `package:path`.

    Args:
        stage: name of the stage.
        chosen: what its job uses of what is looked up by name.
    """
    return _definitions(stage, chosen, tuple(loaded_extensions()))


@functools.cache
def _definitions(stage: str, chosen: Chosen, extensions: tuple[str, ...]) -> Mapping[str, str]:
    found = dict(reach_stage(stage, chosen).digests)
    found[f"vrp.study.graph:STAGE[{stage}]"] = _handed_over(STAGE[stage])
    for lookup, objects in registered_objects(chosen).items():
        if lookup in found:
            found |= {f"{lookup}[{one.name}]": _plain_values(one) for one in objects}
    return found


def _handed_over(stage: Stage) -> str:
    """Return the digest of what the graph says that a stage is handed."""
    files = {"reads": stage.reads, "writes": stage.writes}
    named = {key: sorted(one.name for one in found) for key, found in files.items()}
    return digest({**named, "shards": stage.shards_key})[:8]


def job_definitions(study: StudyConfig, stage: str, model: str = "") -> Mapping[str, str]:
    """Return `stage_definitions` of one job of a study.

    Args:
        study: the configuration.
        stage: name of the stage.
        model: the model of the job; empty: it is of the whole study.
    """
    return stage_definitions(stage, chosen_by(study, model))


def shared_definitions(study: StudyConfig, stage: str) -> Mapping[str, str]:
    """Return those of `job_definitions` that are the same whatever the model's family."""
    return stage_definitions(stage, chosen_by(study)._replace(families=()))


def code_digest(study: StudyConfig, stage: str, model: str = "") -> str:
    """Return one digest of `job_definitions`, 16 hexadecimal digits."""
    return digest(dict(job_definitions(study, stage, model)))


def by_module(definitions: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return definitions as module → {definition: digest}.

    A rule has a param for each module, so that of a job that runs again Snakemake prints the
    definitions of the edited module alone.
    """
    found: dict[str, dict[str, str]] = {}
    for name, digits in definitions.items():
        module, _, inner = name.partition(":")
        found.setdefault(module, {})[inner] = digits
    return found


def changed_definitions(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Return which definitions differ between the params of a job as recorded and as they are.

    Args:
        before: params as Snakemake records them: the `repr` of each; without any definition among
            them, nothing is known and nothing returned.
        now: params of the same job now, likewise.
    """
    old, new = _definitions_in(before), _definitions_in(now)
    return sorted(n for n in {*old, *new} if old.get(n) != new.get(n)) if old else []


def in_words(definitions: Sequence[str], most: int = 3) -> str:
    """Return names of definitions for a message: the first ones, and how many others there are."""
    others = len(definitions) - most
    return ", ".join(definitions[:most]) + (f" and {others} more" if others > 0 else "")


def _definitions_in(params: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for param in params:
        try:
            value: Any = ast.literal_eval(param)
        except (ValueError, SyntaxError):
            continue  # not one of ours
        for module, names in value.items() if isinstance(value, dict) else ():
            if isinstance(names, dict):
                found |= {f"{module}:{name}": digits for name, digits in names.items()}
    return found
