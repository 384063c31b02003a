"""What a study will take: forwards, operations, hours, GPU memory, disk, and good shard counts."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.interventions.conditions import INTERVENTIONS, conditions_by_name
from vrp.interventions.masking import SHAM
from vrp.planning.analysis_work import amount_of, planned_analyses
from vrp.planning.devices import (
    CPU,
    SECONDS_PER_ANSWER,
    START_SECONDS,
    WEIGHT_BYTES_PER_SECOND,
    Device,
)
from vrp.planning.dimension_sources import (
    measure_where_unknown,
    read_manifests,
    wants_gpu,
)
from vrp.planning.disk import (
    CHECKPOINTED_TABLES,
    COMPRESSED,
    FOOTER,
    OTHER_BYTES,
    TableSize,
    checkpoint_bytes,
    data_bytes,
    model_tables,
    study_tables,
)
from vrp.planning.measured_rates import MeasuredRates
from vrp.planning.study_checks import check_names
from vrp.planning.workload import (
    Lengths,
    Work,
    assumed_lengths,
    device_memory,
    largest_batch,
    model_work,
    n_items,
    weight_bytes,
)
from vrp.study.graph import MADE_BY, STAGE
from vrp.study.keys import batch_size, value_of
from vrp.study.layout import StudyLayout

LONGEST_JOB = 7200.0
"""Seconds that a job should not exceed: what is lost at a kill is bounded, and the time that
loading the model takes stays small beside it."""
# Of a GPU's memory, where layers are dealt out over several: they do not divide evenly.
_GPU_SHARE = 0.95


class StagePlan(NamedTuple):
    """One stage of one model, or of the whole study."""

    stage: str
    """Stage."""
    model: str
    """Name of the model in the config; empty: of the whole study."""
    device: str
    """What it runs on."""
    n_devices: int
    """How many of them a job holds."""
    n_items: int
    """Items that it asks about; 0 for stages without a model."""
    n_answers: int
    """Answers, or prefills of the sampling."""
    tflop: float
    """10¹² operations."""
    n_jobs: int
    """Jobs, as the config cuts it."""
    seconds: float
    """Of all jobs together, one after the other."""
    measured: bool
    """Whether the time comes from a finished study."""
    memory: int
    """Bytes on the device."""
    largest_batch: int
    """Items a forward that fit the device, at most the config's batch size; 0: none."""
    batch_size: int
    """Items a forward, as in the config."""
    n_good_jobs: int
    """Jobs of at most two hours."""


class ConditionPlan(NamedTuple):
    """One condition of an intervention on one model."""

    stage: str
    """Stage."""
    model: str
    """Name of the model in the config."""
    condition: str
    """Name of the condition; of the tracing, the kind of edit."""
    n_items: int
    """Items."""
    n_answers: int
    """Answers, or runs."""
    seconds: float
    """Its part of the stage's time."""
    smallest_pp: float
    """Smallest effect on accuracy that it can show (`smallest_effect`), percentage points; NaN
    where accuracy is not what it is judged by."""


class TablePlan(NamedTuple):
    """One table, or a group of other files."""

    table: str
    """Table."""
    model: str
    """Name of the model in the config; empty: of the whole study."""
    n_rows: int
    """Rows."""
    n_bytes: int
    """Bytes on disk."""
    measured: bool
    """Whether its compression comes from a finished study."""


class Plan(NamedTuple):
    """What a study will take."""

    study: str
    """Name of the study."""
    device: Device
    """What models that want a GPU are planned on."""
    n_items: int
    """Items."""
    stages: tuple[StagePlan, ...]
    """In the order in which they run."""
    conditions: tuple[ConditionPlan, ...]
    """Of the interventions, in the order in which they run."""
    tables: tuple[TablePlan, ...]
    """Under the study's results folder."""
    batch_bytes: int
    """Of finished batches beside the tables, which are removed when the run has succeeded."""
    data_bytes: int
    """Of the data folder, where the workflow fills it."""
    checkpoint_bytes: dict[str, int]
    """Of the hub's cache, by model; weights on disk already count nothing."""
    shards: dict[str, tuple[int, int]]
    """Key of the config → shards now, and a good number of them."""
    calibrated_by: tuple[str, ...]
    """Finished studies whose rates were used."""
    left_out: dict[str, str]
    """Model of the config that could not be planned → why; no number holds any of it."""
    notes: tuple[str, ...]
    """What does not fit."""

    @property
    def gpu_seconds(self) -> float:
        """Of all GPUs that jobs hold."""
        return sum(
            stage.n_devices * stage.seconds for stage in self.stages if stage.device != CPU.name
        )

    @property
    def cpu_seconds(self) -> float:
        """Of all jobs on a processor, one core each."""
        return sum(stage.seconds for stage in self.stages if stage.device == CPU.name)

    @property
    def n_bytes(self) -> int:
        """Bytes of the study's results folder when the run has succeeded."""
        return sum(table.n_bytes for table in self.tables)

    @property
    def most_bytes(self) -> int:
        """The most bytes of that folder while the study runs."""
        return self.n_bytes + self.batch_bytes

    @property
    def memory(self) -> int:
        """Bytes that the largest job needs on a GPU; 0 where no model wants one."""
        needs = [stage.memory for stage in self.stages if stage.device != CPU.name]
        return max(needs, default=0)


def make_plan(
    study: StudyConfig,
    *,
    device: Device,
    calibration: MeasuredRates | None = None,
    measure: bool = False,
) -> Plan:
    """Plan a study.

    Args:
        study: the configuration.
        device: what models run on that want a GPU.
        calibration: what finished studies tell; None: published speeds and assumptions.
        measure: whether dimensions that are not known may be measured, which loads torch.

    Raises:
        InputError: as `check_names`.
    """
    check_names(study)
    read_manifests(study)
    known = MeasuredRates() if calibration is None else calibration
    left_out: dict[str, str] = {}
    lengths: dict[str, Lengths] = {}
    work: dict[str, dict[str, Work]] = {}
    for name, model in study.models.items():
        try:
            if measure:
                measure_where_unknown(model)
            lengths[name] = known.lengths_of(study, model) or assumed_lengths(study, model)
            work[name] = model_work(study, name, lengths[name])
        except InputError as error:
            left_out[name] = str(error)
    stages = [
        _model_stage(study, planned, device, known)
        for of_model in work.values()
        for planned in of_model.values()
    ]
    stages += _analyses(study, work, known)
    order = list(STAGE)
    stages.sort(key=lambda found: order.index(found.stage))
    layout = StudyLayout(study, ahead=True)
    own = {made.name for made, stage in MADE_BY.items() if layout.runs(stage)}
    sizes = [
        size
        for name, of_model in work.items()
        for size in model_tables(study, name, of_model, lengths[name])
        if size.table in own
    ]
    sizes += study_tables(study, work, list(sizes))
    return Plan(
        study=study.study,
        device=device,
        n_items=n_items(study),
        stages=tuple(stages),
        conditions=tuple(_conditions(study, stages, work)),
        tables=tuple(_table(study, size, known) for size in sizes),
        batch_bytes=sum(size.raw_bytes for size in sizes if size.table in CHECKPOINTED_TABLES),
        data_bytes=data_bytes(study),
        checkpoint_bytes={name: checkpoint_bytes(study.models[name]) for name in work},
        shards=_good_shards(study, stages),
        calibrated_by=known.studies,
        left_out=left_out,
        notes=tuple(_memory_notes(stages, device)),
    )


def device_of(model: ModelConfig, device: Device) -> Device:
    """Return what a model is planned on: the GPU, or a processor's core where it wants none."""
    return device if wants_gpu(model) else CPU


def n_gpus(study: StudyConfig, name: str, device: Device) -> int:
    """Return how many GPUs a model is spread over: one, but where it has a device map.

    The weights and an extraction's batch decide; the sampling splits what does not fit.

    Raises:
        InputError: the model's dimensions are not known.
    """
    model = study.models[name]
    if not wants_gpu(model):
        return 0
    if model.device_map is None or device.memory is None:
        return 1
    batch = min(batch_size(study, STAGE["extract"], name), n_items(study))
    need = device_memory(study, name, "extract", batch_size=batch)
    return max(1, math.ceil(need / (_GPU_SHARE * device.memory)))


def assumed_seconds(model: ModelConfig, work: Work, device: Device) -> float:
    """Return the seconds of a stage's jobs from published speeds, start and loading included."""
    load = START_SECONDS + weight_bytes(model) / WEIGHT_BYTES_PER_SECOND
    compute = work.flops / device.flops_per_second(model.dtype)
    return work.n_shards * load + compute + SECONDS_PER_ANSWER * work.n_answers


def _model_stage(study: StudyConfig, work: Work, gpu: Device, known: MeasuredRates) -> StagePlan:
    model = study.models[work.model]
    device = device_of(model, gpu)
    rate = known.rates.get((work.stage, device.name))
    if rate is None:
        seconds = assumed_seconds(model, work, device)
        alone = assumed_seconds(model, work._replace(n_shards=0), device)
    else:
        seconds = rate.cost(model.checkpoint, work.tflop, n=work.n_shards)
        alone = rate.slope(model.checkpoint) * work.tflop
    fits, n_devices = work.batch_size, 1
    if device.memory is not None:
        n_devices = n_gpus(study, work.model, device)
        memory = n_devices * device.memory
        fits = largest_batch(study, work.model, work.stage, memory=memory)
    return StagePlan(
        stage=work.stage,
        model=work.model,
        device=device.name,
        n_devices=n_devices,
        n_items=work.n_items,
        n_answers=work.n_answers,
        tflop=work.tflop,
        n_jobs=work.n_shards,
        seconds=seconds,
        measured=rate is not None,
        memory=work.memory,
        largest_batch=fits,
        batch_size=work.batch_size,
        n_good_jobs=min(work.n_items, max(1, math.ceil(alone / LONGEST_JOB))),
    )


def _conditions(
    study: StudyConfig, stages: list[StagePlan], work: dict[str, dict[str, Work]]
) -> Iterator[ConditionPlan]:
    from vrp.planning.simulation import smallest_effect  # scipy: the workflow plans without it

    conditions = conditions_by_name(study)
    known = {name: conditions.of(name) for name in INTERVENTIONS}
    # Tested together: those of one kind.
    kinds = {name: Counter(one.kind for one in of.values()) for name, of in known.items()}
    for stage in stages:
        planned = work.get(stage.model, {}).get(stage.stage)
        if planned is None:
            continue
        for condition in planned.conditions:
            smallest = math.nan
            if stage.stage in INTERVENTIONS and condition.condition != SHAM:
                kind = known[stage.stage][condition.condition].kind
                smallest = smallest_effect(condition.n_items, n_tests=kinds[stage.stage][kind])
            yield ConditionPlan(
                stage.stage,
                stage.model,
                condition.condition,
                condition.n_items,
                condition.n_answers,
                stage.seconds * condition.flops / max(1, planned.flops),
                smallest,
            )


def _analyses(
    study: StudyConfig, work: dict[str, dict[str, Work]], known: MeasuredRates
) -> list[StagePlan]:
    found = []
    for stage, cost in planned_analyses():
        for name in work if stage.per == "model" else [""]:
            amount = amount_of(study, stage, name, work)
            rate = known.rates.get((stage.name, CPU.name))
            measured = rate is not None
            seconds = rate.cost("", amount) if rate else cost.start + cost.slope * amount
            found.append(
                StagePlan(
                    stage.name, name, CPU.name, 1, 0, 0, 0.0, 1, seconds, measured, 0, 0, 0, 1
                )
            )
    return found


def _table(study: StudyConfig, size: TableSize, known: MeasuredRates) -> TablePlan:
    line = known.densities.get(size.table)
    if line is not None:
        checkpoint = study.models[size.model].checkpoint if size.model else ""
        n_bytes = line.cost(checkpoint, size.raw_bytes, n=size.n_files)
    elif size.table in OTHER_BYTES:
        n_bytes = OTHER_BYTES[size.table]
    else:
        n_bytes = size.n_files * FOOTER + COMPRESSED.get(size.table, 1.0) * size.raw_bytes
    return TablePlan(size.table, size.model, size.n_rows, round(n_bytes), line is not None)


def _good_shards(study: StudyConfig, stages: list[StagePlan]) -> dict[str, tuple[int, int]]:
    """A good number of shards for each key that says how many there are."""
    good: dict[str, int] = {}
    for stage in stages:
        if key := STAGE[stage.stage].shards_key:
            good[key] = max(good.get(key, 1), stage.n_good_jobs)
    return {key: (value_of(study, key), number) for key, number in good.items()}


def _memory_notes(stages: list[StagePlan], device: Device) -> list[str]:
    """One note for each model and reason."""
    too_large: dict[str, list[StagePlan]] = {}
    notes = []
    for stage in stages:
        if stage.device == CPU.name or stage.largest_batch >= stage.batch_size:
            continue
        if stage.largest_batch == 0:
            too_large.setdefault(stage.model, []).append(stage)
            continue
        notes.append(
            f"{stage.stage} of {stage.model} needs up to {stage.memory / 1e9:.0f} GB with "
            f"{STAGE[stage.stage].batch_key} {stage.batch_size}; on {stage.n_devices} × "
            f"{device.title} a batch of {stage.largest_batch} always fits, a larger one is split "
            "where it does not"
        )
    for model, found in too_large.items():
        most = max(stage.memory for stage in found) / 1e9
        notes.append(
            f"{model} needs up to {most:.0f} GB ({', '.join(stage.stage for stage in found)}), "
            f"more than {found[0].n_devices} × {device.title} even for one item: give it a "
            "device_map and more GPUs, or take a larger GPU"
        )
    return notes
