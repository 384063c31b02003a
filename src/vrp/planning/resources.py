"""What a job asks the scheduler for: memory, minutes, GPUs; from the same model as the plan.

The workflow asks for every job while it plans, so this imports nothing heavy and counts once for
each stage and model.
"""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.errors import InputError
from vrp.planning.analysis_work import amount_of
from vrp.planning.devices import DEFAULT_GPU, Device
from vrp.planning.dimension_sources import is_embedded, read_manifests, wants_gpu
from vrp.planning.disk import model_tables
from vrp.planning.plan import assumed_seconds, device_of, n_gpus
from vrp.planning.workload import (
    Work,
    assumed_lengths,
    device_memory,
    model_work,
    weight_bytes,
)
from vrp.study.declarations import Artifact, Cost
from vrp.study.graph import STAGE

_MB = 1_000_000
# Resident memory of an import of torch and transformers, and of a process that talks to a GPU.
_PROCESS_MB, _GPU_PROCESS_MB, _ANALYSIS_MB = 1_200, 4_000, 1_000
# Weights pass through main memory; rows wait there until the shard is written.
_LOADING, _ROWS = 1.25, 3
# JSON as Python's objects.
_JSON = 12
# Minutes: three times what is planned and a quarter of an hour, since a job that is cut short is
# done again.
_SAFETY, _EXTRA_MINUTES, _LEAST_MINUTES, _STEP_MINUTES = 3.0, 15.0, 60, 10
_FETCH_MINUTES = 720

# A model whose dimensions are not known: what a 7B model in 16 bits needs, and rather more.
_UNKNOWN_MB, _UNKNOWN_MINUTES = 48_000, 480


class JobResources(NamedTuple):
    """What a job asks for at its first attempt."""

    mem_mb: int
    """Main memory, MB."""
    runtime: int
    """Minutes."""
    gpu: int
    """GPUs."""


class StudyResources:
    """The resources of every job of a study."""

    def __init__(self, study: StudyConfig, *, device: Device = DEFAULT_GPU) -> None:
        """Bind a study.

        Args:
            study: the configuration.
            device: the GPU that minutes and the number of GPUs are reckoned for; one on which a
                job takes longer or finds less memory has to be set in the profile.
        """
        self._study = study
        self._device = device
        self._known = cache(self._known_job)
        read_manifests(study)

    def mem_mb(self, stage: str, model: str = "", attempt: int = 1) -> int:
        """Return the main memory of a job, MB; it grows with every attempt."""
        return self._job(stage, model).mem_mb * attempt

    def runtime(self, stage: str, model: str = "", attempt: int = 1) -> int:
        """Return the minutes of a job; they grow with every attempt."""
        return self._job(stage, model).runtime * attempt

    def gpu(self, stage: str, model: str = "") -> int:
        """Return the GPUs of a job."""
        return self._job(stage, model).gpu

    def common_gpu(self, stage: str) -> int | None:
        """Return the GPUs of each job of a stage that runs models.

        None where they differ, where a model is not known before it is fetched, and of a stage that
        the study does not run.
        """
        try:
            found = {
                self._known(stage, model).gpu
                for model in self._study.models
                if stage in model_work(self._study, model)
            }
        except InputError:
            return None
        return found.pop() if len(found) == 1 else None

    def _job(self, stage: str, model: str) -> JobResources:
        try:
            return self._known(stage, model)
        except InputError:
            read_manifests(self._study)  # the model may have been fetched since
        try:
            return self._known(stage, model)
        except InputError:  # said by the stage that fetches the model, or by `vrp plan`
            return self._unknown_job(stage, model)

    def _known_job(self, stage: str, model: str) -> JobResources:
        if stage in ("fetch_data", "fetch_model"):
            return JobResources(_ANALYSIS_MB, _FETCH_MINUTES, 0)
        if STAGE[stage].runs_model:
            return self._model_job(stage, model)
        return self._analysis_job(stage, model)

    def _model_job(self, stage: str, name: str) -> JobResources:
        study, model = self._study, self._study.models[name]
        work = model_work(study, name)[stage]
        seconds = assumed_seconds(model, work, device_of(model, self._device)) / work.n_shards
        declared = STAGE[stage]
        rows = _ROWS * self._table_bytes(name, declared.writes) / work.n_shards
        rows += declared.memory_copies * self._table_bytes(name, declared.reads)
        weights = _LOADING * weight_bytes(model)
        if not wants_gpu(model):
            activations = device_memory(study, name, stage, batch_size=work.batch_size)
            n_bytes = weights + activations + rows
            return JobResources(_mb(_PROCESS_MB, n_bytes), _minutes(seconds), 0)
        gpus = n_gpus(study, name, self._device)
        return JobResources(_mb(_GPU_PROCESS_MB, weights + rows), _minutes(seconds), gpus)

    def _analysis_job(self, stage: str, name: str) -> JobResources:
        study = self._study
        if stage == "sample":
            return JobResources(_mb(_ANALYSIS_MB, _JSON * question_bytes(study)), 60, 0)
        work: dict[str, dict[str, Work]] = {}
        if stage == "effects":
            work = {model: model_work(study, model) for model in study.models}
        declared, minutes = STAGE[stage], _LEAST_MINUTES
        if isinstance(declared.cost, Cost):
            amount = amount_of(study, declared, name, work)
            minutes = _minutes(declared.cost.start + declared.cost.slope * amount)
        models = [name] if declared.per == "model" else list(study.models)
        if stage == "effects":
            answers = sum(found.n_answers for of in work.values() for found in of.values())
            return JobResources(_mb(_ANALYSIS_MB, 1_000 * answers), minutes, 0)
        read = sum(self._table_bytes(model, declared.reads) for model in models)
        return JobResources(_mb(_ANALYSIS_MB, declared.memory_copies * read), minutes, 0)

    def _unknown_job(self, stage: str, name: str) -> JobResources:
        models = [self._study.models[name]] if name else list(self._study.models.values())
        if all(is_embedded(model) for model in models):
            return JobResources(2_000, 2 * _LEAST_MINUTES, 0)
        wanted = STAGE[stage].runs_model and any(wants_gpu(model) for model in models)
        return JobResources(_UNKNOWN_MB, _UNKNOWN_MINUTES, int(wanted))

    def _table_bytes(self, name: str, tables: tuple[Artifact, ...]) -> int:
        """Bytes of a model's tables before compression."""
        lengths = assumed_lengths(self._study, self._study.models[name])
        work = model_work(self._study, name, lengths)
        found = model_tables(self._study, name, work, lengths)
        names = {table.name for table in tables}
        return sum(table.raw_bytes for table in found if table.table in names)


def question_bytes(study: StudyConfig) -> int:
    """Return the bytes of the question files; where they are yet to come, of the official ones."""
    data = study.data
    if data.origin == "scenes":
        images = max(data.scenes.n_pope_images, data.scenes.n_vqa_images)
        return 20_000 * images
    splits = [(split.dataset, split.split) for split in study.sample.splits]
    paths = [Path(data.folder, name) for name in data.question_files(splits)]
    found = sum(path.stat().st_size for path in paths if path.is_file())
    return found or max(get_dataset(dataset).question_bytes for dataset, _ in splits)


def _mb(process_mb: int, n_bytes: float) -> int:
    """Memory in steps of 100 MB."""
    return math.ceil((process_mb + n_bytes / _MB) / 100) * 100


def _minutes(seconds: float) -> int:
    wanted = max(_LEAST_MINUTES, _SAFETY * seconds / 60 + _EXTRA_MINUTES)
    return math.ceil(wanted / _STEP_MINUTES) * _STEP_MINUTES
