"""Outputs that SLURM jobs finished after the Snakemake that submitted them had been killed.

Snakemake records with what parameters a job was run when it sees the job end. Where it was killed
before, the files are there without a record, or with that of an earlier run: from then on nothing
that changes in code or configuration would make them again, or something that has not changed
would. Tables state themselves what made them: those that would be made the same way now are kept,
all others are planned again.

This happens before a workflow is planned, whichever executor is to run it: a dry-run plans the
same.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from snakemake.logging import logger

from snakemake_executor_plugin_vrp_slurm.hooks import PERSISTENCE, missing_name
from snakemake_executor_plugin_vrp_slurm.submissions import (
    Submission,
    all_exist_since,
    drop_record,
    pending_submissions,
)
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.study.graph import STAGE
from vrp.study.table_origins import expected_provenance
from vrp.tables.seal import read_provenance
from vrp.workflow.lock import results_are_locked

# Stands in Snakemake's marks of incomplete files for the id of the job that began them.
_MARK = "orphaned"
_TABLE = ".parquet"
_CLOCK_TOLERANCE = 1e-3  # seconds by which a recorded time may be rounded


class OrphanedOutputs(NamedTuple):
    """Submissions whose outputs were finished, most of them without Snakemake."""

    valid: list[Submission]
    """Those whose outputs are what the job would make now."""
    stale: list[tuple[Submission, str]]
    """Those whose outputs may not be, and why."""
    recorded: list[Submission]
    """Those whose end Snakemake has recorded, which need no more attention."""


def recover_orphaned_outputs(workflow: Any, study: StudyConfig) -> list[str]:
    """Have Snakemake keep valid orphaned outputs and plan stale ones again, and log both.

    Nothing is done while a run works on the results: it records its jobs itself, and its own jobs
    read the workflow, too.

    Args:
        workflow: Snakemake's, before it is planned.
        study: its configuration.

    Returns:
        The outputs that were judged.

    Raises:
        SystemExit: Snakemake's persistence lacks a name that is used of it.
    """
    submissions = list(submissions_of(study)) if workflow.is_main_process else []
    if not submissions or results_are_locked(Path(study.results, study.study)):
        return []
    if workflow.workflow_settings.persistence_backend.name != "FILE":
        return []  # records in a database are left as they are
    if missing := missing_name(PERSISTENCE):
        sys.exit(f"Error: {missing}")
    from snakemake.persistence.file import FilePersistence

    records = FilePersistence(nolock=True)
    orphaned = find_orphaned_outputs(submissions, records, partial(_expected, study))
    update_records(orphaned, records)
    if orphaned.valid:
        logger.info(
            f"Jobs that SLURM finished after their Snakemake had ended: {len(orphaned.valid)}; "
            "what they made is up to date and is kept."
        )
    for one, reason in orphaned.stale:
        job = f"SLURM job {one.slurm_id}" if one.slurm_id else "A SLURM job"
        logger.warning(
            f"{job} finished {one.outputs[0]} after its Snakemake had ended; the job is planned "
            f"again, since {reason}."
        )
    return [path for one in submissions for path in one.outputs]


def submissions_of(study: StudyConfig) -> Iterator[Submission]:
    """Yield the pending submissions of jobs that the workflow of a configuration can plan."""
    results = f"{Path(study.results, study.study)}/"
    for one in pending_submissions():
        if one.model in ("", *study.models) and all(p.startswith(results) for p in one.outputs):
            yield one


def _expected(study: StudyConfig, rule: str, model: str) -> dict[str, str]:
    """Return what a table of a rule states when it is made now; of lists of shards, nothing."""
    if rule not in STAGE or STAGE[rule].per == "list":
        return {}
    return expected_provenance(study, STAGE[rule], model)


def find_orphaned_outputs(
    submissions: Iterable[Submission],
    records: Any,
    expected: Callable[[str, str], Mapping[str, str]],
) -> OrphanedOutputs:
    """Sort the submissions whose outputs exist.

    Those that are not finished, or that Snakemake itself has marked as incomplete, are left to it.
    The others are compared with the present configuration each time, whatever was found before.

    Args:
        submissions: those whose end is not known to be recorded.
        records: Snakemake's persistence.
        expected: rule and model → what a table would state if it were made now.
    """
    found = OrphanedOutputs([], [], [])
    finished = [
        one
        for one in submissions
        if all_exist_since(one.time, one.outputs) and not _is_left_to_snakemake(one, records)
    ]
    slurm_ids = {path: one.slurm_id for one in finished for path in one.outputs}
    for one in finished:
        recorded = all(_is_recorded(path, one.time, records) for path in one.outputs)
        if recorded and not _are_newer_than_recorded(one.outputs, records):
            found.recorded.append(one)
            continue
        reason = _other_provenance(one, expected(one.rule, one.model), recorded=recorded)
        if not recorded:
            reason = _changed_input(one, slurm_ids) or reason
        if reason:
            found.stale.append((one, reason))
        else:
            (found.recorded if recorded else found.valid).append(one)
    return found


def update_records(orphaned: OrphanedOutputs, records: Any) -> None:
    """Have Snakemake plan the stale outputs again and accept the others.

    Args:
        orphaned: what was found.
        records: Snakemake's persistence; changed.
    """
    from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord

    for one in (*orphaned.recorded, *orphaned.valid):
        for path in one.outputs:
            records._unmark_incomplete(path)
    for one in orphaned.recorded:
        drop_record(one)
    for one in orphaned.valid:
        # What an earlier run recorded is not true of these files. What they were made from is
        # known; code and configuration are compared here, each time.
        for path in one.outputs:
            record = MetadataRecord(
                rule=one.rule,
                input=sorted(one.inputs),
                starttime=one.time,
                endtime=Path(path).stat().st_mtime,
                incomplete=False,
                record_format_version=RECORD_FORMAT_VERSION,
            )
            records._write_record(path, record)
    for one, _ in orphaned.stale:
        for path in one.outputs:
            records._mark_incomplete(path, _MARK)


def _is_left_to_snakemake(one: Submission, records: Any) -> bool:
    """Whether Snakemake has recorded that a file's job began and did not end."""
    marked = records._filter_incomplete_keys(one.outputs)
    return bool(marked) and records._get_external_jobids(marked) != {_MARK}


def _is_recorded(path: str, submitted: float, records: Any) -> bool:
    """Whether Snakemake has recorded a file of this path that is no older than the submission."""
    record = records._read_record(path)
    if record is None or record.endtime is None or record.params is None:
        return False  # a record without params was written by `update_records`
    return bool(record.endtime >= submitted)


def _are_newer_than_recorded(paths: Iterable[str], records: Any) -> bool:
    """Whether a table was written after it was recorded: by a job that nobody tracked."""
    return any(
        Path(path).stat().st_mtime > records._read_record(path).endtime + _CLOCK_TOLERANCE
        for path in paths
        if path.endswith(_TABLE)
    )


def _changed_input(one: Submission, slurm_ids: Mapping[str, str]) -> str:
    """An input that is newer than the submission, unless the same SLURM job made it."""
    for path in one.inputs:
        same_job = path in one.group_outputs and slurm_ids.get(path, one.slurm_id) == one.slurm_id
        there = Path(path).exists()
        if not same_job and not (there and Path(path).stat().st_mtime <= one.time):
            return f"{path} has changed since"
    return ""


def _other_provenance(one: Submission, expected: Mapping[str, str], *, recorded: bool) -> str:
    """Why the outputs may not be what the job would make now; empty where they state they are."""
    tables = [path for path in one.outputs if path.endswith(_TABLE)]
    if not tables and not recorded:
        return "its files do not say what made them"
    for table in tables:
        try:
            found = read_provenance(Path(table))
        except InputError as error:
            return str(error)
        for key, value in expected.items():
            if found.get(key) != value:
                return f"{table} was made with other {key}"
    return ""
