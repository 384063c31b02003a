"""Files that SLURM jobs finished after their Snakemake had been killed.

Snakemake records with what parameters a job was run when it sees the job end. Where it was killed
before, the files are there without a record, or beside that of an earlier run: from then on nothing
that changes in code or configuration would make them again, or something that has not changed
would. Tables say themselves what made them: those that would be made just so now are kept, all
others are made anew.

This is looked into before a workflow is planned, whoever is to run it: a dry-run plans the same.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord

from snakemake_executor_plugin_vrp_slurm.submissions import Submission, are_written, forget

# Stands in Snakemake's marks of incomplete files for the id of the job that began them.
_OURS = "unseen"
_TABLE = ".parquet"
_CLOCK = 1e-3  # seconds that a time may lose in a record

MadeBy = Callable[[str, str], Mapping[str, str]]
"""Rule and model → what a table of theirs states when it is made now: stage, code, config, ..."""


class Unseen(NamedTuple):
    """Submissions that were finished, most of them unseen."""

    current: list[Submission]
    """Those whose files are what the job would make now."""
    doubtful: list[tuple[Submission, str]]
    """Those of which that cannot be said, and why."""
    recorded: list[Submission]
    """Those whose end Snakemake has recorded, which need no more attention."""


def find_unseen(submissions: Iterable[Submission], records: Any, made_by: MadeBy) -> Unseen:
    """Sort the submissions that were finished.

    Those that are not finished, or that Snakemake itself has marked as incomplete, are left to it.
    The others are judged by the configuration of now each time, whatever was found before.

    Args:
        submissions: those whose end is not known to be recorded.
        records: Snakemake's records.
        made_by: tells what would make the tables now.
    """
    found = Unseen([], [], [])
    pending = [
        one
        for one in submissions
        if are_written(one.outputs, since=one.time) and not _is_left_to_snakemake(one, records)
    ]
    slurm_jobs = {path: one.job for one in pending for path in one.outputs}
    for one in pending:
        recorded = all(_is_recorded(path, one.time, records) for path in one.outputs)
        if recorded and not _are_younger_than_recorded(one.outputs, records):
            found.recorded.append(one)
            continue
        doubt = _other_origin(one, made_by(one.rule, one.model), recorded=recorded)
        if not recorded:
            doubt = _changed_input(one, slurm_jobs) or doubt
        if doubt:
            found.doubtful.append((one, doubt))
        else:
            (found.recorded if recorded else found.current).append(one)
    return found


def settle_unseen(unseen: Unseen, records: Any) -> None:
    """Have Snakemake make the doubtful files anew and believe the others.

    Args:
        unseen: what was found.
        records: Snakemake's records; changed.
    """
    for one in (*unseen.recorded, *unseen.current):
        for path in one.outputs:
            records._unmark_incomplete(path)
    for one in unseen.recorded:
        forget(one)
    for one in unseen.current:
        # What an earlier run recorded is not true of these files. Of them it is known what they
        # were made from; code and configuration are compared here, each time.
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
    for one, _ in unseen.doubtful:
        for path in one.outputs:
            records._mark_incomplete(path, _OURS)


def _is_left_to_snakemake(one: Submission, records: Any) -> bool:
    """Whether Snakemake has noted that a file's job began and did not end."""
    marked = records._filter_incomplete_keys(one.outputs)
    return bool(marked) and records._get_external_jobids(marked) != {_OURS}


def _is_recorded(path: str, submitted: float, records: Any) -> bool:
    """Whether Snakemake has recorded a file of this path that is no older than the submission."""
    record = records._read_record(path)
    if record is None or record.endtime is None or record.params is None:
        return False  # without params it was made here
    return bool(record.endtime >= submitted)


def _are_younger_than_recorded(paths: Iterable[str], records: Any) -> bool:
    """Whether a table was written after it was recorded: by a job that nobody looked after."""
    return any(
        Path(path).stat().st_mtime > records._read_record(path).endtime + _CLOCK
        for path in paths
        if path.endswith(_TABLE)
    )


def _changed_input(one: Submission, slurm_jobs: Mapping[str, str]) -> str:
    """An input that is younger than the submission, unless the same SLURM job made it."""
    for path in one.inputs:
        its_own = path in one.made_together and slurm_jobs.get(path, one.job) == one.job
        if not its_own and not _is_no_younger(path, one.time):
            return f"{path} has changed since"
    return ""


def _is_no_younger(path: str, time: float) -> bool:
    try:
        return Path(path).stat().st_mtime <= time
    except OSError:
        return False


def _other_origin(one: Submission, made_by: Mapping[str, str], *, recorded: bool) -> str:
    """Why the files may not be what the job would make now; empty: they say that they are."""
    from vrp.errors import (
        InputError,
    )  # what is below takes a moment to import, and is rarely needed
    from vrp.tables.files import read_provenance

    tables = [path for path in one.outputs if path.endswith(_TABLE)]
    if not tables and not recorded:
        return "its files do not say what made them"
    for table in tables:
        try:
            found = read_provenance(Path(table))
        except InputError as error:
            return str(error)
        for key, expected in made_by.items():
            if found.get(key) != expected:
                return f"{table} was made with other {key}"
    return ""
