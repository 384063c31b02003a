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

from snakemake_executor_plugin_vrp_slurm.submissions import Submission, forget

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

    Args:
        submissions: those whose end is not known to be recorded.
        records: Snakemake's records.
        made_by: tells what would make the tables now.
    """
    found = Unseen([], [], [])
    pending = [one for one in submissions if _is_finished(one) and not _is_marked(one, records)]
    slurm_jobs = {path: one.job for one in pending for path in one.outputs}
    for one in pending:
        if all(_is_recorded(path, one.time, records) for path in one.outputs):
            found.recorded.append(one)
        elif doubt := _doubt(one, slurm_jobs, made_by(one.rule, one.model)):
            found.doubtful.append((one, doubt))
        else:
            found.current.append(one)
    return found


def settle_unseen(unseen: Unseen, records: Any) -> None:
    """Have Snakemake make the doubtful files anew and believe the others.

    Args:
        unseen: what was found.
        records: Snakemake's records; changed.
    """
    for one in unseen.recorded:
        forget(one)
    for one in unseen.current:
        for path in one.outputs:  # what an earlier run recorded is not true of these files
            records._delete_record(path)
    for one, _ in unseen.doubtful:
        for path in one.outputs:
            records._mark_incomplete(path, None)


def _is_finished(one: Submission) -> bool:
    """Whether all files are there and none is older than the submission."""
    try:
        return all(Path(path).stat().st_mtime >= one.time for path in one.outputs)
    except OSError:
        return False


def _is_marked(one: Submission, records: Any) -> bool:
    return bool(records._filter_incomplete_keys(one.outputs))


def _is_recorded(path: str, submitted: float, records: Any) -> bool:
    """Whether Snakemake has recorded a file of this path that is no older than the submission."""
    record = records._read_record(path)
    return record is not None and record.endtime is not None and record.endtime >= submitted


def _doubt(one: Submission, slurm_jobs: Mapping[str, str], made_by: Mapping[str, str]) -> str:
    """Why the files of a submission may not be what its job would make now; empty: they are."""
    from vrp.errors import (
        InputError,
    )  # what is below takes a moment to import, and is rarely needed
    from vrp.tables.files import read_provenance

    # What another job of the same group made is younger than the submission.
    inputs = [path for path in one.inputs if slurm_jobs.get(path) != one.job]
    for path in inputs:
        try:
            changed = Path(path).stat().st_mtime > one.time
        except OSError:
            changed = True
        if changed:
            return f"{path} has changed since"
    tables = [path for path in one.outputs if path.endswith(".parquet")]
    if not tables:
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
