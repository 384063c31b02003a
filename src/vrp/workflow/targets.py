"""Names of rules and files on Snakemake's command line that this study does not have."""

import argparse
import os
from collections.abc import Iterable, Sequence
from functools import cache

from snakemake.cli import get_argument_parser

from vrp.config.study import StudyConfig
from vrp.errors import InputError, unknown_name
from vrp.planning.study_checks import check_counts
from vrp.study.layout import StudyLayout

_OPTIONS = {"targets": "target"} | {
    option.replace("-", "_"): f"--{option}"
    for option in ("until", "omit-from", "forcerun", "prioritize")
}


def refuse_unknown_targets(
    arguments: Sequence[str], rules: Iterable[str], layout: StudyLayout
) -> None:
    """Refuse a target, or what `--until`, `--omit-from`, `--forcerun` or `--prioritize` names, that
    is neither a rule nor a file that the study makes.

    Snakemake names no nearest one, takes `--omit-from` without a word, and would start a job for a
    shard beyond the last.

    Args:
        arguments: of Snakemake's command line.
        rules: names of all rules.
        layout: of the study.

    Raises:
        InputError: naming the nearest known one.
    """
    given = _given(tuple(arguments))
    known = list(rules)
    for option, what in _OPTIONS.items():
        for name in sorted(getattr(given, option)):
            if name in known:
                continue
            made = [os.path.relpath(output) for job in layout.jobs() for output in job.outputs]
            if os.path.relpath(name) in made:
                continue
            if os.sep in name:
                message = unknown_name("file of this study", name, made, listed=False)
            else:
                message = unknown_name("rule", name, known)
            raise InputError(f"{what}: {message}")


def refuse_too_few_items(arguments: Sequence[str], study: StudyConfig) -> None:
    """Refuse a whole study of which it is known already that its probes cannot be fitted.

    A part of it, such as its extraction, can be made of any number of items.

    Args:
        arguments: of Snakemake's command line.
        study: the configuration.

    Raises:
        InputError: there are fewer items than folds.
    """
    given = _given(tuple(arguments))
    if set(given.targets) <= {"all"} and not (given.until or given.omit_from):
        check_counts(study)


@cache
def _given(arguments: tuple[str, ...]) -> argparse.Namespace:
    """What Snakemake's own parser reads; making that takes a tenth of a second."""
    given, _ = get_argument_parser().parse_known_args(list(arguments))
    return given
