"""Digests of what a stage's result depends on, definition by definition.

A stage's result depends on the functions, classes, constants and data files that its entry
reaches, on those of its model's own family, and on nothing else of the package: see
`vrp.source` for how names are followed and what never counts. What the text does not
tell is declared here: what is read by a name that is made up while running, and which definitions
cannot change a number.
"""

import ast
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vrp.config.study import StudyConfig
from vrp.extensions import loaded_extensions
from vrp.source.definitions import Sources, Uncounted
from vrp.source.reach import Reached, reach
from vrp.study.declarations import Stage
from vrp.study.graph import STAGE
from vrp.study.provenance import digest

_FOLDER = Path(__file__).parents[1]

CANNOT_CHANGE_A_NUMBER: Mapping[str, str] = {
    # What tells people something.
    "vrp.progress:*": "how far work has come",
    "vrp.vlm.weights:quiet_loading": "what transformers prints while it loads",
    "vrp.running.model_run:warn_skipped_items": "a message",
    "vrp.stages.sample:_warn_missing_images": "a message",
    "vrp.logs:*": "how messages are printed",
    "vrp.hub_errors:remedy": "the wording of an error that ends the stage either way",
    "vrp.vlm.loading:_explained": "the wording of an error that ends the stage either way",
    "vrp.vlm.out_of_memory:ItemTooLargeError.__init__": "a message",
    "vrp.vlm.family_names:check_family": "refuses a name, or does nothing",
    "vrp.vlm.families.base:decoder_refusal": "refuses a checkpoint, or does nothing",
    "vrp.vlm.verification:*": "refuses a checkpoint, or does nothing",
    # How files get onto the disk, which is the same file or an error.
    "vrp.tables.atomic_files:atomic_write": "a file appears whole or not at all",
    "vrp.tables.atomic_files:require_writable": "an error, earlier",
    "vrp.tables.seal:check_table": "refuses a damaged file, or does nothing",
    "vrp.tables.seal:*": "refuses a damaged file, or does nothing",
    "vrp.tables.atomic_files:remove_abandoned_parts": "cleans up after killed jobs",
    "vrp.running.finished_batches:FinishedBatches.discard": "cleans up",
    # Where and how a stage runs.
    "vrp.stages.fetch_model:_dimensions": "planning alone reads them",
    "vrp.stages.fetch_model:_unread_weights": "it refuses, or names what is not read",
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
    # What an extension registers counts where it is looked up.
    "vrp.extensions:*": "imports extensions",
    "vrp.study.table_origins:*": "refuses files that do not belong together, or does nothing",
    # What states what made a table, in the table's metadata.
    "vrp:__version__": "which release it is",
    "vrp.study.keys:stage_config": "the values of keys",
    "vrp.study.provenance:*": "versions and digests",
    "vrp.study.digests:*": "digests",
}
"""Definitions that no result depends on → why. They are not followed, and a statement that calls
one does not count. `module:*` is all of a module."""

MESSAGE_ARGUMENTS: Mapping[str, Sequence[str | int]] = {
    "vrp.tables.schema:column": (2, "description"),
    "vrp.tables.schema:optional": (2, "description"),
    "vrp.tables.schema:per_layer": (1, "description"),
    "vrp.tables.schema:per_head": (1, "description"),
    "vrp.progress:progress": ("*",),
    "vrp.progress:progress_over": (1, "unit"),
    "vrp.running.shard:write_shard": ("description", "unit", "answers"),
    "vrp.running.finished_batches:FinishedBatches": ("stage",),
}
"""Definitions → arguments that only say something to people: names, positions, `*` for all."""

_UNCOUNTED = Uncounted(CANNOT_CHANGE_A_NUMBER, MESSAGE_ARGUMENTS)
_FIGURE = ("ORDER", "TITLE", "CAPTION", "TABLES", "data", "draw")


class Chosen(NamedTuple):
    """What a job uses of what is looked up by name; None: all that there is."""

    families: tuple[str, ...] | None = None
    """Model families."""
    datasets: tuple[str, ...] | None = None
    """Data sets."""
    conditions: tuple[str, ...] | None = None
    """Kinds of conditions that an extension may have registered."""

    @property
    def registered(self) -> dict[str, Sequence[str]]:
        """Function by which extensions register → the names that count."""
        chosen = {
            "vrp.vlm.families:register_family": self.families,
            "vrp.data.datasets:register_dataset": self.datasets,
            "vrp.interventions.conditions:register_condition": self.conditions,
        }
        return {function: names for function, names in chosen.items() if names is not None}


ALL = Chosen()


def chosen_by(study: StudyConfig, stage: str, model: str = "") -> Chosen:
    """Return what a job of a study uses.

    Args:
        study: the configuration.
        stage: name of the stage.
        model: the model of the job; empty: it is of the whole study.
    """
    models = [study.models[model]] if model else list(study.models.values())
    datasets = {split.dataset for split in study.sample.splits}
    datasets |= {*study.data.official, *study.data.hub, *study.data.files}
    conditions = {
        "mask": {entry.kind for entry in study.mask.conditions},
        "ablate": {entry.kind for entry in study.ablate.conditions},
    }
    used = conditions.get(stage, set().union(*conditions.values()))
    sets = ({one.family for one in models}, datasets, used)
    return Chosen(*(tuple(sorted(names)) for names in sets))


def dynamic_reads(chosen: Chosen = ALL) -> Mapping[str, Sequence[str]]:
    """Return what the package reads by names that no text holds: definition → what it reads."""
    families = _known("vlm.families", chosen.families, exclude=("base",))
    datasets = _known("data.datasets", chosen.datasets)
    figures = _known("plots.figures")
    return {
        "vrp.vlm.families:get_family": _read(families, "FAMILY"),
        "vrp.data.datasets:get_dataset": _read(datasets, "DATASET"),
        "vrp.plots.figures:_from_module": _read(figures, *_FIGURE),
    }


def _read(modules: Iterable[str], *names: str) -> tuple[str, ...]:
    return tuple(f"{module}:{name}" for module in modules for name in names)


def _known(
    package: str, chosen: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> list[str]:
    """Modules of a package that discovers its own: those that are chosen, or all."""
    names = {path.stem for path in _FOLDER.joinpath(*package.split(".")).glob("*.py")}
    names -= {"__init__", *exclude}
    # One that an extension registers may build on any of the package's.
    if chosen is None or not {*chosen} <= names:
        chosen = sorted(names)
    return [f"vrp.{package}.{name}" for name in sorted(chosen)]


def sources() -> Sources:
    """Return the source of the package and of loaded extensions, parsed once a process."""
    return _parsed(tuple(loaded_extensions().items()))


@functools.cache
def _parsed(extensions: tuple[tuple[str, Path], ...]) -> Sources:
    return Sources({"vrp": _FOLDER}, _UNCOUNTED, dict(extensions))


def reach_stage(stage: str, chosen: Chosen = ALL) -> Reached:
    """Follow names from a stage's entries.

    Args:
        stage: name of the stage.
        chosen: what its job uses of what is looked up by name.
    """
    sections = {key.partition(".")[0] for key in STAGE[stage].keys}
    runs = {"vrp.study.command:run_stage": (f"vrp.stages.{stage}:run",)}
    entry = "run_gather" if STAGE[stage].per == "list" else "run_stage"
    return reach(
        sources(),
        [f"vrp.study.command:{entry}"],
        reads={**dynamic_reads(chosen), **runs},
        values_of=("vrp.config.study:StudyConfig", sections),
        registered=chosen.registered,
    )


def stage_definitions(stage: str, chosen: Chosen = ALL) -> Mapping[str, str]:
    """Return `module:definition` → digest for all that a stage's result depends on.

    Files of the package that it opens are named `package:path`.

    Args:
        stage: name of the stage.
        chosen: what its job uses of what is looked up by name.
    """
    return _definitions(stage, chosen, sources())


@functools.cache
def _definitions(stage: str, chosen: Chosen, source: Sources) -> Mapping[str, str]:
    handed_over = f"vrp.study.graph:STAGE[{stage}]"
    return {**reach_stage(stage, chosen).digests, handed_over: _handed_over(STAGE[stage])}


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
    return stage_definitions(stage, chosen_by(study, stage, model))


def shared_definitions(study: StudyConfig, stage: str) -> Mapping[str, str]:
    """Return those of `job_definitions` that are the same whatever the model's family."""
    return stage_definitions(stage, chosen_by(study, stage)._replace(families=()))


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
