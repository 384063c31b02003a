"""Ask a monitored model questions from a file, and write answer, probability and decision."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vrp.config.sample import ScoringConfig
from vrp.data.datasets.own import own_reading
from vrp.data.images import ImageIndex, open_image
from vrp.data.item import Item, Question
from vrp.data.json_input import Record, read_records, read_text
from vrp.data.table_input import table_records
from vrp.errors import InputError
from vrp.monitor.monitor import ALPHA, ReliabilityMonitor, WatchedAnswer
from vrp.progress import progress
from vrp.running.captured_rows import scored
from vrp.running.model_manifest import local_folder
from vrp.tables.atomic_files import require_writable, write_text

if TYPE_CHECKING:
    from vrp.vlm.model import VLM

COLUMNS = (
    "question_id", "image", "question", "answer", "probability", "score", "decision", "correct",
)  # fmt: skip
"""Of the CSV file; `correct` is empty where no answers were given."""
BATCH_SIZE = 32


class ScoredQuestion(NamedTuple):
    """A question, its answer, and what the monitor says of it."""

    question: Question
    answer: WatchedAnswer
    correct: bool | None
    """Whether the answer is right; None: not known."""

    @property
    def row(self) -> tuple[str, ...]:
        """Values of `COLUMNS`."""
        asked, given = self.question, self.answer
        correct = "" if self.correct is None else str(self.correct).lower()
        return (
            asked.question_id, asked.image, asked.question, given.answer,
            f"{given.probability:.6f}", f"{given.score:.6f}", given.decision, correct,
        )  # fmt: skip


def read_questions(path: Path, images: Path) -> Sequence[Question]:
    """Read questions from JSON lines or CSV: `image`, `question`, and optionally `answers`,
    `question_id`, `task` and `group`, as own data of a study has them.

    Raises:
        InputError: naming file and line of what is wrong, or an image that is not there.
    """
    records = read_table_records(path)
    if _is_table(path):
        records = [_without_empty_cells(record) for record in records]
        _refuse_forgotten_cells(records)
    reading = own_reading(records, ImageIndex(images), split="monitor")
    if reading.missing:
        raise InputError(
            f"{path}: image {reading.missing[0]} is not in {images} "
            f"({len(reading.missing)} images are missing)"
        )
    if not reading.questions:
        raise InputError(f"{path}: holds no question")
    return reading.questions


def read_table_records(path: Path) -> list[Record]:
    """Read rows of JSON lines, or of CSV with a line of names at its top; an empty cell is None.

    Raises:
        InputError: the file is missing or malformed.
    """
    return table_records(read_text(path), path) if _is_table(path) else read_records(path)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _without_empty_cells(record: Record) -> Record:
    return record._replace(fields={k: v for k, v in record.fields.items() if v is not None})


def _refuse_forgotten_cells(records: Sequence[Record]) -> None:
    """A table either has `answers` in all lines or in none, so that none is left out by mistake."""
    having = [record for record in records if "answers" in record.fields]
    lacking = [record for record in records if "answers" not in record.fields]
    if having and lacking:
        raise InputError(
            f"{lacking[0].where}: the cell under 'answers' is empty (so in {len(lacking)} lines), "
            f"unlike at {having[0].where}; fill it, or give lines without answers in a file of "
            "their own"
        )


def load_monitored(
    monitor: ReliabilityMonitor, *, checkpoint: str | None = None, device: str = "auto"
) -> "VLM":
    """Load the model that a monitor was fitted for.

    Args:
        monitor: the monitor.
        checkpoint: where it is, if not where it was; its weights are checked all the same.
        device: where it runs.

    Raises:
        InputError: it cannot be loaded.
    """
    from vrp.vlm.loading import load_vlm

    fitted = monitor.card.model
    source = checkpoint or fitted.checkpoint
    folder = local_folder(source)
    return load_vlm(
        folder or source, family=fitted.family, revision=None if folder else fitted.revision,
        dtype=fitted.dtype, device=device, prompt=fitted.prompt, image_policy=fitted.image_policy,
        min_pixels=fitted.min_pixels, max_pixels=fitted.max_pixels,
    )  # fmt: skip


def score_questions(
    monitor: ReliabilityMonitor,
    vlm: "VLM",
    questions: Sequence[Question],
    images: Path,
    *,
    alpha: float = ALPHA,
    batch_size: int = BATCH_SIZE,
) -> Iterator[ScoredQuestion]:
    """Answer questions, and judge them where their answers are known, with a progress bar.

    Args:
        monitor: fitted for the model.
        vlm: the model.
        questions: of `read_questions`.
        images: the folder of their images.
        alpha: greatest share of wrong answers among those accepted.
        batch_size: questions a forward.

    Raises:
        InputError: the model is another one than the monitor was fitted for, or an image is
            damaged.
    """
    root = images.resolve()
    by_task = sorted(questions, key=lambda one: one.task)  # whose answers may differ in length
    with monitor.watch(_Bound(vlm), alpha=alpha) as seen, progress(len(by_task), "monitor") as bar:
        for task in dict.fromkeys(one.task for one in by_task):
            of_task = [one for one in by_task if one.task == task]
            for start in range(0, len(of_task), batch_size):
                some = of_task[start : start + batch_size]
                shown = [open_image(root / one.image) for one in some]
                texts = [one.question for one in some]
                vlm.model.generate(**monitor.inputs(None, shown, texts, task=task))
                for question, answer in zip(some, seen.answers[-len(some) :], strict=True):
                    yield ScoredQuestion(question, answer, _correct(question, answer.answer))
                bar.update(len(some))


class _Bound(NamedTuple):
    """A model whose processor is known."""

    vlm: "VLM"


def _correct(question: Question, answer: str) -> bool | None:
    known = {name: getattr(question, name) for name in Question.__dataclass_fields__}
    del known["group"]
    item = Item(**known, item_id=question.item_id, group="", image_sha256="")
    return scored(item, answer, ScoringConfig()).correct


def as_csv(rows: Sequence[ScoredQuestion], order: Sequence[Question]) -> str:
    """Return the CSV file's text, in the order of the questions."""
    place = {question.item_id: number for number, question in enumerate(order)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(one.row for one in sorted(rows, key=lambda r: place[r.question.item_id]))
    return text.getvalue()


def run(
    folder: Path,
    *,
    questions: Path,
    images: Path,
    output: Path,
    alpha: float = ALPHA,
    checkpoint: str | None = None,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
) -> str:
    """Answer a file of questions; write a CSV file; return what was done, in one line.

    Raises:
        InputError: a file is missing or malformed, or the model is not the monitor's.
    """
    require_writable(output)
    monitor = ReliabilityMonitor.load(folder)
    threshold = monitor.card.threshold(alpha)
    asked = read_questions(questions, images)
    vlm = load_monitored(monitor, checkpoint=checkpoint, device=device)
    rows = list(score_questions(monitor, vlm, asked, images, alpha=alpha, batch_size=batch_size))
    write_text(output, as_csv(rows, asked))
    n_accepted = sum(row.answer.accepted for row in rows)
    none = f" ({threshold.reason})" if threshold.threshold is None else ""
    return f"{len(rows):,} answers, {n_accepted:,} accepted at alpha {alpha:g}{none}: {output}"
