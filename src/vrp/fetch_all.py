"""Fetch the data and all models of a study, one after the other, where there is a network."""

import logging
from collections.abc import Callable
from functools import partial

from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.stages import fetch_data, fetch_model

logger = logging.getLogger(__name__)


def run(study: StudyConfig) -> None:
    """Fill the caches that the workflow then finds full.

    What cannot be had does not keep the rest from being fetched; it is named at once and, with
    all that is missing, at the end.

    Raises:
        InputError: something could not be fetched.
    """
    jobs: dict[str, Callable[[], object]] = {"data": partial(fetch_data.fetch, study.data)}
    jobs |= {name: partial(fetch_model.fetch, model) for name, model in study.models.items()}
    missing: list[str] = []
    for name, job in jobs.items():
        logger.info(f"fetching {name}")
        try:
            job()
        except InputError as error:
            logger.error(str(error))
            missing.append(name)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(jobs)} could not be fetched ({', '.join(missing)}); fix what "
            "the messages above report, and run it again"
        )
