"""The parts of each stage's rule, derived from the study's graph."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from vrp.config.study import StudyConfig
from vrp.planning.resources import StudyResources
from vrp.planning.study_checks import check_names
from vrp.study.command import command_line, path_options
from vrp.study.declarations import Artifact, Stage
from vrp.study.digests import by_module, job_definitions, shared_definitions
from vrp.study.graph import ITEMS, LIST_OF, LISTS, MADE_BY, STAGE, n_stages_behind
from vrp.study.keys import stage_config
from vrp.study.layout import StudyLayout, gather_rule
from vrp.workflow.report_entries import with_report_entry


class StudyRules:
    """What the rules of one study are made of; paths hold Snakemake's wildcards."""

    def __init__(self, study: StudyConfig) -> None:
        """Bind a configuration.

        Raises:
            InputError: the extraction that `extraction_from` names cannot stand for an own one,
                or a family, split or condition cannot be meant.
        """
        check_names(study)
        self.study = study
        self.layout = StudyLayout(study)
        self.layout.shared  # noqa: B018  refuses early what cannot be shared
        self.resources_of = StudyResources(study)

    def inputs(self, stage: str) -> dict[str, str | list[str]]:
        """Inputs of a stage's rule by name; lists stand for all shards of a stage."""
        options = [option for option in path_options(STAGE[stage]) if not option.writes]
        return {
            option.artifact.keyword: self._files(option.artifact, STAGE[stage], option.several)
            if STAGE[stage].wants(option.artifact, self.study)
            else []
            for option in options
        }

    def outputs(self, stage: str) -> dict[str, str | list[str]]:
        """Outputs of a stage's rule by name, flagged where `snakemake --report` shows them."""
        found: dict[str, str | list[str]] = {}
        for made in STAGE[stage].writes:
            patterns = [
                with_report_entry(made, pattern) for pattern in self.layout.pattern(made, own=True)
            ]
            found[made.keyword] = patterns if made.expand else patterns[0]
        return found

    def _files(self, artifact: Artifact, stage: Stage, several: bool) -> str | list[str]:
        if not several:
            (pattern,) = self.layout.pattern(artifact)
            return pattern
        if stage.per == "study":
            return [str(path) for path in self.layout.paths(artifact)]
        maker = MADE_BY.get(artifact) or LIST_OF[artifact]
        return self.layout.pattern(artifact) if maker.enabled(self.study) else []

    def log(self, rule: str) -> str:
        """Log of a rule's job."""
        return f"{self.layout.results}/logs/{rule}{self._place(rule)}.log"

    def benchmark(self, rule: str) -> str:
        """Benchmark file of a rule's job."""
        return f"{self.layout.results}/benchmarks/{rule}{self._place(rule)}.tsv"

    def _place(self, rule: str) -> str:
        if rule.startswith("gather"):
            return "/{model}/{stage}"
        return {"study": "", "model": "/{model}", "shard": "/{model}/{shard}"}[STAGE[rule].per]

    def priority(self, rule: str) -> int:
        """How soon a rule's jobs are to run where several can: by how many stages wait in a row."""
        if rule.startswith("gather"):  # it takes a second, and some stage waits for it
            return 1 + max(map(n_stages_behind, STAGE))
        return n_stages_behind(rule)

    def command(self, stage: str) -> str:
        """Shell command of a stage's rule."""
        return command_line(STAGE[stage])

    def resources(self, stage: str) -> dict[str, int | Callable[..., int]]:
        """Memory, minutes and GPUs of a job; the next attempt after a failure gets more."""
        planned = self.resources_of

        def mem_mb(wildcards: Any, attempt: int) -> int:
            return planned.mem_mb(stage, wildcards.get("model", ""), attempt)

        def runtime(wildcards: Any, attempt: int) -> int:
            return planned.runtime(stage, wildcards.get("model", ""), attempt)

        def gpu(wildcards: Any) -> int:
            return planned.gpu(stage, wildcards.model)

        found: dict[str, int | Callable[..., int]] = {
            "mem_mb": cache_signature(mem_mb), "runtime": cache_signature(runtime),
        }  # fmt: skip
        if STAGE[stage].runs_model:
            # Snakemake is slow at calling functions.
            common = planned.common_gpu(stage)
            found["gpu"] = cache_signature(gpu) if common is None else common
        return found

    def rerun_params(self, stage: str) -> list[Any]:
        """Params that change with the code that a stage's result depends on, and with its keys.

        In pieces, so that a rerun's reason names what changed: Snakemake prints the params that
        differ, without their names, and each is the definitions of one module, or one key with its
        value. They have no names, since naming some sixty of each job takes Snakemake a tenth of
        its planning. What is a model's own shares one param: a function for each is slow, too.
        """
        declared = STAGE[stage]
        if not any(key.startswith("models.") for key in declared.keys):
            code = job_definitions(self.study, stage)
            return _in_pieces({**by_module(code), **stage_config(self.study, declared)})
        keys = stage_config(self.study, declared, next(iter(self.study.models)))
        keys = {key: value for key, value in keys.items() if not key.startswith("models.")}
        params = _in_pieces({**by_module(shared_definitions(self.study, stage)), **keys})
        return [
            *params,
            cache_signature(lambda wildcards: self._model_params(stage, wildcards.model)),
        ]

    @functools.cache  # noqa: B019  one study for the life of the process
    def params_of(self, stage: str, model: str) -> tuple[str, ...]:
        """Return `rerun_params` of a job as Snakemake records them: the `repr` of each value."""
        job = SimpleNamespace(model=model)
        return tuple(
            repr(param(job) if callable(param) else param) for param in self.rerun_params(stage)
        )

    @functools.cache  # noqa: B019  one study for the life of the process
    def _model_params(self, stage: str, model: str) -> dict[str, Any]:
        """Those that are a model's own: definitions of its family, and its keys."""
        shared = shared_definitions(self.study, stage)
        code = job_definitions(self.study, stage, model)
        own = {name: digits for name, digits in code.items() if name not in shared}
        keys = stage_config(self.study, STAGE[stage], model)
        return by_module(own) | {
            key.replace("*", model, 1): value
            for key, value in keys.items()
            if key.startswith("models.")
        }

    def lists_of(self, rule: str) -> str:
        """Pattern of the stages whose shards a rule lists, for its wildcard; never matching where
        there are none."""
        names = [stage.name for stage in self.layout.listed() if gather_rule(stage) == rule]
        return "|".join(names) or "(?!)"

    def listed_shards(self, wildcards: Any) -> list[str]:
        """Shards of all tables that a list holds."""
        return [
            str(path)
            for table in STAGE[wildcards.stage].writes
            for path in self.layout.paths(table, model=wildcards.model)
        ]

    def listed_folder(self, wildcards: Any) -> str:
        """Folder of the study that these shards are in."""
        return str(self.layout.folder(STAGE[wildcards.stage]))

    def compared_items(self) -> list[str]:
        """Items tables that must be equal, where shards are another study's."""
        others = dict.fromkeys(self.layout.shared.folders.values())
        folders = [self.layout.results, *others] if others else []
        return [str(folder / ITEMS.path) for folder in folders]

    def list_pattern(self) -> str:
        """Path of the list of a stage's shards."""
        example, listed = next(iter(LISTS.items()))
        (pattern,) = self.layout.pattern(listed)
        return pattern.replace(f"/{example}.json", "/{stage}.json")


def _in_pieces(mapping: Mapping[str, Any]) -> list[Any]:
    return [{name: value} for name, value in mapping.items()]


def cache_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what Snakemake works out of a function several times for every job: its signature."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function
