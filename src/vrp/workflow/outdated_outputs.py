"""Finished outputs whose Snakemake records are wrong or missing: their digests decide.

Snakemake knows with what parameters a file was made from records in the folder that it runs in.
Where that folder is cleared, or results are copied or moved without it, whatever is there counts
as up to date. `--touch` writes records that say more than was done, and a file may be replaced by
another one of the same time. Tables, lists of shards and manifests state themselves what made
them: what would be made the same way now stays, all else is planned again.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from snakemake.logging import logger

from vrp.errors import InputError
from vrp.study.command import path_options
from vrp.study.declarations import Artifact, Stage
from vrp.study.graph import LISTS, MANIFEST, STAGE
from vrp.study.layout import Job
from vrp.study.snakemake_records import recorded_params
from vrp.study.table_origins import Origin, expected_provenance, read_origin
from vrp.tables.seal import read_seal
from vrp.tables.sealed_json import read_sealed_json
from vrp.tables.shard_list import read_shard_list
from vrp.workflow.lock import results_are_locked
from vrp.workflow.rules import StudyRules
from vrp.workflow.watched_files import changed_files, watched_checkpoint, watched_questions

# Stands in Snakemake's marks of incomplete files for the id of the job that began them.
_MARK = "judged"


def plan_outdated_outputs(workflow: Any, rules: StudyRules, *, exclude: Iterable[str] = ()) -> None:
    """Have Snakemake plan outputs again that state another origin than they would have now.

    Args:
        workflow: Snakemake's, before it is planned.
        rules: those of the study.
        exclude: outputs that are judged elsewhere.
    """
    results = rules.layout.results
    if not workflow.is_main_process or not results.is_dir() or results_are_locked(results):
        return
    if workflow.workflow_settings.persistence_backend.name != "FILE":
        return  # records in a database are left as they are
    from snakemake.persistence.file import FilePersistence

    records = FilePersistence(nolock=True)
    _remove_marks(records, rules)
    outdated = list(OutputJudge(rules, exclude).outdated())
    for job, reason in outdated:
        for path in job.outputs:
            records._mark_incomplete(str(path), _MARK)
        logger.warning(f"{job.outputs[0]} is planned again, since {reason}.")


def _remove_marks(records: Any, rules: StudyRules) -> None:
    """Remove what an earlier planning has marked: what it found may have been taken back."""
    if not any(path.is_file() for path in Path(".snakemake", "incomplete").rglob("*")):
        return
    for job in rules.layout.jobs():
        marked = records._filter_incomplete_keys(map(str, job.outputs))
        if marked and records._get_external_jobids(marked) == {_MARK}:
            for path in marked:
                records._unmark_incomplete(path)


class OutputJudge:
    """Compares what finished outputs state with what they would state if they were made now."""

    def __init__(self, rules: StudyRules, exclude: Iterable[str] = ()) -> None:
        """Bind the rules.

        Args:
            rules: those of the study.
            exclude: outputs that are judged elsewhere.
        """
        self._rules = rules
        self._excluded = set(exclude)
        # Of tables and lists that are there: digest of the rows, by name.
        self._rows: dict[str, str] = {}
        # Model → revision or digest of its weights.
        self._revisions: dict[str, str] = {}

    def outdated(self) -> Iterator[tuple[Job, str]]:
        """Yield jobs whose outputs are there and are to be made again, each with the reason.

        Outputs that stay, although they are older than what they were made from, as in a copied
        folder, get its time: of large files Snakemake compares nothing else.
        """
        for job in self._rules.layout.jobs():
            if not all(path.is_file() for path in job.outputs):
                continue
            if not self._excluded.isdisjoint(map(str, job.outputs)):
                continue
            recorded = recorded_params(job.outputs[0], Path())
            vouched = self._is_vouched_for(job)
            if recorded and not vouched and not self._is_current(job, recorded):
                continue  # Snakemake plans it again by itself
            reason = "" if vouched else self._reason(job, is_recorded=bool(recorded))
            if reason:
                yield job, reason
            elif not recorded or self._is_made_from_these(job):
                self._keep(job)

    def _is_current(self, job: Job, recorded: Iterable[str]) -> bool:
        """Whether Snakemake takes a job's outputs, and of a list the shards, for current."""
        params = {*self._rules.params_of(job.stage, job.model)}
        if job.stage != "gather":
            return params <= {*recorded}
        of_shard = recorded_params(self._shards(job)[0], Path())
        of_stage = {*self._rules.params_of(job.shard, job.model)}
        return params <= {*recorded} and (not of_shard or of_stage <= {*of_shard})

    def _reason(self, job: Job, *, is_recorded: bool) -> str:
        """Why a job's outputs are to be made again; empty: they stay."""
        origins = _origins(job)
        if not is_recorded and not origins:
            return "Snakemake has no record of it and it does not say what made it"
        reason = self._other_origin(job, origins) or self._changed_file(job)
        if not is_recorded:
            reason = reason or self._other_rows(origins)
        if not reason:
            self._rows |= {origin.name: origin.rows for origin in origins if origin.rows}
        if job.stage == "fetch_model" and (revision := _stated_revision(job.outputs[0])):
            self._revisions[job.model] = revision
        return reason

    def _is_made_from_these(self, job: Job) -> bool:
        """Whether outputs state all that they were made from, and it is what is there."""
        if job.stage != "gather":
            reads = STAGE[job.stage].reads
            if not reads or not all(one.schema or one == MANIFEST for one in reads):
                return False
        origins = _origins(job)
        if self._is_vouched_for(job):
            listed = LISTS[job.stage]
            (path,) = self._rules.layout.paths(listed, model=job.model)
            origins = [read_origin(listed, path)]
        return bool(origins) and not self._other_rows(origins)

    def _other_origin(self, job: Job, origins: Iterable[Origin]) -> str:
        expected = self._expected(_stated_stage(job), job.model)
        for origin in origins:
            for key, value in expected.items():
                if origin.stated.get(key, value) != value:  # manifests state no code
                    return f"{origin.path} was made with other {key}"
        if job.stage == "gather" and origins:  # of what is no list, the stage that reads it tells
            for path in self._shards(job):
                if path not in self._vouched(job.shard, job.model):
                    return f"{path} is not the file that it lists"
        return ""

    def _expected(self, stage: Stage, model: str) -> dict[str, str]:
        expected = expected_provenance(self._rules.study, stage, model)
        if stage.name in self._rules.layout.shared.folders:
            del expected["study"]
        return expected

    def _other_rows(self, origins: Iterable[Origin]) -> str:
        for origin in origins:
            for name, rows in origin.inputs.items():
                if self._rows.get(name, rows) != rows:
                    return f"{origin.path} was made from other rows of {name}"
            revision = origin.stated.get("revision", "")
            if revision and self._revisions.get(origin.stated["model"], revision) != revision:
                return f"{origin.path} was made with another revision of the model"
        return ""

    def _changed_file(self, job: Job) -> str:
        """A file that a manifest states otherwise, and whose time does not show it."""
        if job.stage == "fetch_model":
            watched = watched_checkpoint(self._rules.study, job.model)
        elif job.stage == "fetch_data":
            watched = watched_questions(self._rules.study)
        else:
            return ""
        manifest, folder, _ = watched
        return next(
            (
                f"{folder / name} has changed"
                for name in changed_files(*watched) or ()
                if (folder / name).stat().st_mtime <= manifest.stat().st_mtime
            ),
            "",
        )

    def _is_vouched_for(self, job: Job) -> bool:
        """Whether a shard is the file that a list holds that was made as it would be now."""
        return STAGE[job.stage].per == "shard" and set(job.outputs) <= self._vouched(
            job.stage, job.model
        )

    @cache  # noqa: B019  one judge a planning
    def _vouched(self, stage: str, model: str) -> set[Path]:
        (path,) = self._rules.layout.paths(LISTS[stage], model=model)
        try:
            listed = read_shard_list(path)
        except InputError:
            return set()
        expected = self._expected(STAGE[stage], model)
        if any(listed.made_by.get(key) != value for key, value in expected.items()):
            return set()
        written = path.stat().st_mtime
        return {
            shard
            for of_table in listed.tables.values()
            for shard, seal in of_table.items()
            if _is_the_same(shard, seal, since=written)
        }

    def _shards(self, job: Job) -> list[Path]:
        tables = STAGE[job.shard].writes
        return [
            path for table in tables for path in self._rules.layout.paths(table, model=job.model)
        ]

    def _inputs(self, job: Job) -> list[Path]:
        if job.stage == "gather":
            return self._shards(job)
        stage = STAGE[job.stage]
        return [
            path
            for option in path_options(stage)
            if not option.writes and stage.wants(option.artifact, self._rules.study)
            for path in self._rules.layout.paths(option.artifact, model=job.model)
        ]

    def _keep(self, job: Job) -> None:
        """Give the outputs of a job a time that is not before that of its inputs."""
        inputs = [path.stat().st_mtime_ns for path in self._inputs(job) if path.is_file()]
        time = max(inputs, default=0)
        for path in (*job.outputs, job.benchmark):
            if path.is_file() and path.stat().st_mtime_ns < time and os.access(path, os.W_OK):
                os.utime(path, ns=(time, time))


def _stated_revision(manifest: Path) -> str:
    try:
        content = read_sealed_json(manifest, made_by="fetch-model")
    except InputError:
        return ""
    return str(content.get("revision") or content.get("digest") or "")


def _is_the_same(shard: Path, seal: str, *, since: float) -> bool:
    try:
        # A time that was set back does not hide that the file was put there later.
        return shard.stat().st_ctime <= since or read_seal(shard).seal == seal
    except (InputError, OSError):
        return False


def _stated_stage(job: Job) -> Stage:
    return STAGE[job.shard if job.stage == "gather" else job.stage]


def _origins(job: Job) -> list[Origin]:
    """Return what a job's files state of themselves; those that state nothing are left out."""
    artifacts: Sequence[Artifact] = STAGE[job.stage].writes
    if job.stage == "gather":
        artifacts = [LISTS[job.shard]]
    found = []
    for artifact, path in zip(artifacts, job.outputs, strict=False):
        try:
            origin = read_origin(artifact, path)
        except InputError:
            continue  # what reads it says what is wrong
        if origin.stated:
            found.append(origin)
    return found
