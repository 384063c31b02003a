"""Tables that SLURM jobs finished after their Snakemake had been killed.

Snakemake records with what parameters a job was run when it sees the job end. Where it was killed
before, the tables are there without a record, and from then on nothing that changes in code or
configuration would make them again. Tables say themselves what made them: those that were made
just as they would be now are recorded, all others are made anew.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snakemake_executor_plugin_vrp_slurm.submissions import noted, outputs_of


class Unrecorded(NamedTuple):
    """Jobs whose outputs are there without a record."""

    current: list[Any]
    """Those whose tables are what the job would make now."""
    doubtful: list[Any]
    """Those of which that cannot be said."""


def find_unrecorded(jobs: Iterable[Any], persistence: Any) -> Unrecorded:
    """Sort the jobs that Snakemake takes for done without knowing how they were run.

    Jobs that write no table say nothing of themselves: they are doubtful where they were submitted
    to SLURM from here. Other ones are left to Snakemake: results may come from another machine.

    Args:
        jobs: jobs of the workflow that are not planned to run.
        persistence: Snakemake's records.
    """
    found = Unrecorded([], [])
    without_record = [
        job
        for job in jobs
        if job.output
        and not job.is_local
        and not persistence.has_metadata(job)
        and all(Path(path).exists() for path in outputs_of(job))
    ]
    made_by = {
        path: submission.job
        for job in without_record
        if (submission := noted(job)) is not None
        for path in outputs_of(job)
    }
    for job in without_record:
        tables = [Path(path) for path in outputs_of(job) if path.endswith(".parquet")]
        if tables and inputs_are_older(job, made_by) and all(is_current(job, t) for t in tables):
            found.current.append(job)
        elif tables or noted(job) is not None:
            found.doubtful.append(job)
    return found


def is_current(job: Any, table: Path) -> bool:
    """Whether a table was made by the code and the configuration that its job would run with."""
    from vrp.errors import InputError
    from vrp.tables.files import read_provenance

    stage = job.rule.name
    digests = {key: job.params.get(f"{key}_{stage}") for key in ("code", "config")}
    # The workflow wraps each in its own name, which a rerun's reason then shows.
    expected = {
        key: value.get(f"{key}_{stage}") if isinstance(value, Mapping) else value
        for key, value in digests.items()
    }
    if None in expected.values():
        return False
    expected["stage"] = stage
    if (model := job.wildcards.get("model")) is not None:
        expected["model"] = model
    try:
        made_with = read_provenance(table)
    except InputError:
        return False
    return all(made_with.get(key) == value for key, value in expected.items())


def inputs_are_older(job: Any, made_by: dict[str, str]) -> bool:
    """Whether a job's inputs are those that it was submitted with.

    What another job of the same group made is younger than the submission and counts as older.

    Args:
        job: the job.
        made_by: SLURM's id of the job that made a file, by the file's name.
    """
    submission = noted(job)
    if submission is None:
        return True  # older than the outputs, or Snakemake would have planned it
    others = [str(path) for path in job.input if made_by.get(str(path)) != submission.job]
    try:
        return all(Path(path).stat().st_mtime <= submission.time for path in others)
    except OSError:
        return False
