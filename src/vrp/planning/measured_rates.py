"""Rates from finished studies: how long their jobs took, and how large their files are."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.errors import InputError
from vrp.planning.analysis_work import amount_of, planned_analyses
from vrp.planning.cost_fit import Line, Measured, Power, fit_line, fit_power
from vrp.planning.devices import CPU, Device
from vrp.planning.dimension_sources import read_manifests, wants_gpu
from vrp.planning.disk import FOOTER, OTHER_FILES, REPETITIVE, model_tables, study_tables
from vrp.planning.workload import Lengths, Work, assumed_lengths, longest_answer, model_work
from vrp.study.job_benchmarks import job_seconds

_MAX_START = 8.0


class Timing(NamedTuple):
    """One job of a finished study."""

    stage: str
    """Stage."""
    device: str
    """What it ran on."""
    checkpoint: str
    """Checkpoint; empty for stages without a model."""
    work: float
    """10¹² operations; for stages without a model, see `analysis_work`."""
    seconds: float
    """What it took, on a processor without what other programs took of it."""


class FileSize(NamedTuple):
    """One file of a finished study, or a group of files that are no tables."""

    table: str
    """Table."""
    checkpoint: str
    """Checkpoint; empty for files of the whole study."""
    raw_bytes: float
    """Bytes of its values by their shapes."""
    n_bytes: float
    """Its size."""


class MeasuredLengths(NamedTuple):
    """Mean lengths of a checkpoint's items, in tokens."""

    checkpoint: str
    """Checkpoint."""
    origin: str
    """Where the data came from."""
    n_text: float
    """Prompt, image tokens left out."""
    n_image: float
    """Image tokens."""
    n_answer: float
    """Predicted tokens, end-of-sequence included."""


@dataclass(frozen=True)
class MeasuredRates:
    """What finished studies tell."""

    timings: tuple[Timing, ...] = ()
    """Of jobs."""
    sizes: tuple[FileSize, ...] = ()
    """Of files."""
    lengths: tuple[MeasuredLengths, ...] = ()
    """Of items."""
    studies: tuple[str, ...] = ()
    """Where from."""

    def lengths_of(self, study: StudyConfig, model: ModelConfig) -> Lengths | None:
        """Return measured lengths of a model's items; None where there are none."""
        for found in reversed(self.lengths):
            if (found.checkpoint, found.origin) == (model.checkpoint, study.data.origin):
                return Lengths(found.n_text, found.n_image, found.n_answer)
        return None

    @cached_property
    def rates(self) -> dict[tuple[str, str], Line]:
        """Seconds by work, for each stage and device; slopes by checkpoint."""
        by_stage: dict[tuple[str, str], list[Measured]] = defaultdict(list)
        for timing in self.timings:
            row = Measured(timing.checkpoint, timing.work, timing.seconds)
            by_stage[timing.stage, timing.device].append(row)
        return {key: fit_line(rows, most_start=_MAX_START) for key, rows in by_stage.items()}

    @cached_property
    def densities(self) -> dict[str, Line | Power]:
        """Bytes by raw bytes, for each table; slopes by checkpoint."""
        by_table: dict[str, list[Measured]] = defaultdict(list)
        for size in self.sizes:
            row = Measured(size.checkpoint, size.raw_bytes, size.n_bytes)
            by_table[size.table].append(row)
        return {
            table: fit_power(rows, start=FOOTER) if table in REPETITIVE else fit_line(rows)
            for table, rows in by_table.items()
        }

    def as_json(self) -> str:
        """Return it as JSON, to be kept and read again."""
        plain = {
            "studies": self.studies,
            "timings": [timing._asdict() for timing in self.timings],
            "sizes": [size._asdict() for size in self.sizes],
            "lengths": [lengths._asdict() for lengths in self.lengths],
        }
        return json.dumps(plain, indent=1) + "\n"


def read_measured(places: Sequence[Path], *, gpu: Device) -> MeasuredRates:
    """Read finished studies, or files that `as_json` wrote.

    Args:
        places: `results/<study>` folders, or JSON files.
        gpu: what the models ran on that did not run on a processor: their tables do not say.

    Raises:
        InputError: a folder that holds no finished study, or a file that holds no rates.
    """
    found = [_kept(place) if place.is_file() else _study(place, gpu) for place in places]
    return MeasuredRates(
        timings=tuple(timing for one in found for timing in one.timings),
        sizes=tuple(size for one in found for size in one.sizes),
        lengths=tuple(lengths for one in found for lengths in one.lengths),
        studies=tuple(name for one in found for name in one.studies),
    )


def _kept(path: Path) -> MeasuredRates:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return MeasuredRates(
            timings=tuple(Timing(**row) for row in plain["timings"]),
            sizes=tuple(FileSize(**row) for row in plain["sizes"]),
            lengths=tuple(MeasuredLengths(**row) for row in plain["lengths"]),
            studies=tuple(plain["studies"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{path}: holds no measured rates; give a results folder, or a file that "
            "`vrp plan --save-rates` wrote"
        ) from None


def _study(results: Path, gpu: Device) -> MeasuredRates:
    from vrp.study.study_folder import read_snapshot  # polars: the workflow plans without it

    study = read_snapshot(results)
    read_manifests(study, results)
    lengths = {name: _lengths(results, study, name) for name in study.models}
    work = {name: model_work(study, name, found) for name, found in lengths.items()}
    timings = tuple(_timings(results, study, work, gpu))
    sizes = tuple(_sizes(results, study, work, lengths))
    if not timings and not sizes:
        raise InputError(f"{results}: holds neither tables nor benchmarks; run the study first")
    return MeasuredRates(
        timings=timings,
        sizes=sizes,
        lengths=tuple(
            MeasuredLengths(study.models[name].checkpoint, study.data.origin, *found)
            for name, found in lengths.items()
        ),
        studies=(study.study,),
    )


def _lengths(results: Path, study: StudyConfig, name: str) -> Lengths:
    """Means over a model's answers; the assumed ones where there are none."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["n_prompt_tokens", "n_image_tokens", "token_ids"]
    paths = sorted((results / name / "answers").glob("*.parquet"))
    try:
        tables = [pq.read_table(path, columns=columns) for path in paths]
    except (pa.ArrowInvalid, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{paths[0].parent}: cannot be read ({reason}); rerun `vrp extract`"
        ) from None
    table = pa.concat_tables(tables) if tables else None
    if table is None or not table.num_rows:
        return assumed_lengths(study, study.models[name])
    n_image = pc.mean(table["n_image_tokens"]).as_py()
    longest = longest_answer(study)
    answer = pc.mean(pc.min_element_wise(
        pc.add(pc.list_value_length(table["token_ids"]), 1), longest
    )).as_py()  # fmt: skip
    return Lengths(pc.mean(table["n_prompt_tokens"]).as_py() - n_image, n_image, answer)


def _timings(
    results: Path, study: StudyConfig, work: dict[str, dict[str, Work]], gpu: Device
) -> Iterator[Timing]:
    for name, stages in work.items():
        model = study.models[name]
        on_gpu = wants_gpu(model)
        device = gpu.name if on_gpu else CPU.name
        for stage, planned in stages.items():
            part = planned.tflop / planned.n_shards
            for path in sorted((results / "benchmarks" / stage / name).glob("*.tsv")):
                for seconds in job_seconds(path, on_gpu=on_gpu):
                    yield Timing(stage, device, model.checkpoint, part, seconds)
    for light, _ in planned_analyses():
        for name in study.models if light.per == "model" else [""]:
            place = f"{light.name}/{name}" if name else light.name
            path = results / "benchmarks" / f"{place}.tsv"
            if path.is_file():
                amount = amount_of(study, light, name, work)
                for seconds in job_seconds(path, on_gpu=False):
                    yield Timing(light.name, CPU.name, "", amount, seconds)


def _sizes(
    results: Path,
    study: StudyConfig,
    work: dict[str, dict[str, Work]],
    lengths: dict[str, Lengths],
) -> Iterator[FileSize]:
    of_models = []
    for name in study.models:
        checkpoint = study.models[name].checkpoint
        for table in model_tables(study, name, work[name], lengths[name]):
            of_models.append(table)
            for path in table_files(results / name / table.table):
                part = table.raw_bytes / table.n_files
                yield FileSize(table.table, checkpoint, part, path.stat().st_size)
    for table in study_tables(study, work, of_models):
        if table.table in OTHER_FILES:
            n_bytes = sum(path.stat().st_size for path in other_files(results, table.table))
            if n_bytes:
                yield FileSize(table.table, "", table.raw_bytes, n_bytes)
        else:
            for path in table_files(results / table.table):
                yield FileSize(table.table, "", table.raw_bytes, path.stat().st_size)


def table_files(place: Path) -> list[Path]:
    """Return a table's files: one, or the shards in a folder of its name."""
    single = place.with_name(f"{place.name}.parquet")
    return [single] if single.is_file() else sorted(place.glob("*.parquet"))


_GROUPS = {
    "figures": "figures", "report.html": "report", "explorer": "explorer",
    "explorer.html": "explorer",
}  # fmt: skip


def other_files(results: Path, group: str) -> Iterable[Path]:
    """Yield the files of a study that are no tables, by group."""
    for path in results.rglob("*"):
        if not path.is_file() or path.suffix == ".parquet":
            continue
        top = path.relative_to(results).parts[0]
        kind = _GROUPS.get(top, "other")
        if kind == group:
            yield path
