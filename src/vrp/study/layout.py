"""Where the files of one study are, and its jobs: the graph with a configuration filled in."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vrp.config.study import StudyConfig
from vrp.study.declarations import Artifact, Stage
from vrp.study.graph import LIST_OF, LISTS, MADE_BY, STAGE, STAGES
from vrp.study.keys import value_of
from vrp.study.sharing import SharedStages, shared_stages


class Job(NamedTuple):
    """One job of the workflow and the files that tell of it."""

    rule: str
    """Rule."""
    stage: str
    """Stage, which is the command's name."""
    model: str
    """Name of the model; empty where the job is of all models."""
    shard: str
    """Such as `003`, or the stage whose shards are listed; empty where there is neither."""
    outputs: tuple[Path, ...]
    """What it writes."""
    log: Path
    """Where it logs."""
    benchmark: Path
    """Where Snakemake writes how long it took."""


class StudyLayout:
    """The files and jobs of one study."""

    def __init__(
        self, study: StudyConfig, *, directory: Path = Path(), ahead: bool = False
    ) -> None:
        """Bind a configuration.

        Args:
            study: the configuration.
            directory: where the workflow runs: paths are relative to it, but those of jobs, which
                hold it.
            ahead: another study that `extraction_from` names may yet have to be made: what it
                cannot show now counts as shared.

        Raises:
            InputError: the extraction that `extraction_from` names cannot stand for an own one.
        """
        self._ahead = ahead
        self.study = study
        self.directory = directory
        self.results = Path(study.results, study.study)

    @cached_property
    def shared(self) -> SharedStages:
        """Stages whose shards are another study's."""
        return shared_stages(self.study, directory=self.directory, ahead=self._ahead)

    def runs(self, stage: Stage) -> bool:
        """Whether the study has jobs of the stage."""
        return stage.enabled(self.study) and stage.name not in self.shared.folders

    def folder(self, stage: Stage) -> Path:
        """Folder of the study that the stage's files are of: this one, or the one shared from."""
        return self.shared.folders.get(stage.name, self.results)

    def shards(self, stage: Stage) -> list[str]:
        """Names of the stage's shards: 000, 001, …; one empty name where it is not sharded."""
        if stage.per != "shard":
            return [""]
        return [f"{shard:03d}" for shard in range(value_of(self.study, stage.shards_key))]

    def listed(self) -> list[Stage]:
        """Stages whose shards are listed for later ones, shared ones included."""
        return [STAGE[name] for name in LISTS if STAGE[name].enabled(self.study)]

    def pattern(self, artifact: Artifact, *, own: bool = False) -> list[str]:
        """Paths of an artifact, with `{model}` and `{shard}` where it has them; several where one
        stage writes several files.

        Args:
            artifact: what is read or written.
            own: in this study's folder, whatever is shared.
        """
        maker = MADE_BY.get(artifact)
        folder = self.results if maker is None or own else self.folder(maker)
        path = f"{folder}/{artifact.path}"
        if artifact.expand is None:
            return [path]
        return [path.replace("{file}", name) for name in artifact.expand(self.study)]

    def paths(self, artifact: Artifact, *, model: str = "", shard: str = "") -> list[Path]:
        """Paths of an artifact: of one model and shard where they are given, of all else."""
        maker = MADE_BY.get(artifact) or LIST_OF[artifact]
        if not maker.enabled(self.study):
            return []
        models = [model] if model else list(self.study.models)
        shards = [shard] if shard else self.shards(maker)
        return [
            Path(pattern.replace("{model}", one).replace("{shard}", name))
            for pattern in self.pattern(artifact)
            for one in (models if "model" in artifact.wildcards else [""])
            for name in (shards if "shard" in artifact.wildcards else [""])
        ]

    def benchmarks(self) -> dict[tuple[str, str], list[Path]]:
        """Benchmark files of the jobs that run models, by model and stage; only of stages whose
        jobs were all timed. Those of a shared stage are the other study's."""
        found = {}
        for stage in STAGES:
            folder = self.directory / self.folder(stage) / "benchmarks" / stage.name
            for model in self.study.models if stage.runs_model else ():
                paths = [folder / model / f"{shard}.tsv" for shard in self.shards(stage)]
                if all(path.is_file() for path in paths):
                    found[model, stage.name] = paths
        return found

    def final_files(self) -> list[Path]:
        """What the study makes but for shards: tables, figures, the report and its numbers."""
        return [
            path
            for made, stage in MADE_BY.items()
            if "shard" not in made.wildcards and self.runs(stage)
            for path in self.paths(made)
        ]

    def jobs(self) -> Iterator[Job]:
        """All jobs, stage by stage, in an order in which they can run."""
        for stage in STAGES:
            if stage.per == "list":
                continue
            if self.runs(stage):
                yield from self._jobs(stage)
            if stage in self.listed():
                for model in self.study.models:
                    path = self.results / LISTS[stage.name].path.replace("{model}", model)
                    yield self._job(gather_rule(stage), "gather", model, stage.name, (path,))

    def _jobs(self, stage: Stage) -> Iterator[Job]:
        for model in [""] if stage.per == "study" else self.study.models:
            for shard in self.shards(stage):
                outputs = tuple(
                    path
                    for made in stage.writes
                    for path in self.paths(made, model=model, shard=shard)
                )
                yield self._job(stage.name, stage.name, model, shard, outputs)

    def _job(self, rule: str, stage: str, model: str, shard: str, outputs: tuple[Path, ...]) -> Job:
        place = Path(rule, *(part for part in (model, shard) if part))
        results = self.directory / self.results
        return Job(
            rule, stage, model, shard, tuple(self.directory / path for path in outputs),
            results / "logs" / f"{place}.log", results / "benchmarks" / f"{place}.tsv",
        )  # fmt: skip


def gather_rule(listed: Stage) -> str:
    """Rule that lists the shards of a stage: interventions have one of their own, so that
    `--until gather` stops before them."""
    return "gather_interventions" if listed.is_intervention else "gather"
