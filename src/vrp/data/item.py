"""An item: one image-question pair of the study, and what a reader knows before it is one."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

POPE = "pope"
"""The data set with an official parser of its own, whose verdict is stored, too."""

EXISTENCE = "existence"
COUNTING = "counting"
SPATIAL = "spatial"
OPEN = "open"
TEXT = "text"

YES_NO = ("yes", "no")

ImageSize = tuple[int, int]
"""Width and height in pixels, in PIL's order."""
MOST_ELONGATED = 200
"""How many times longer than the other side an image may be: models of dynamic resolution, such as
Qwen2-VL, take no more."""


@dataclass(frozen=True, slots=True)
class _ImageAndQuestion:
    dataset: str
    split: str
    task: str
    question_id: str
    image: str
    """Path relative to the data root, with forward slashes."""
    question: str
    answers: list[str]
    """Every annotator's answer as written; for POPE the one label; none where not known."""
    reference: str | None
    """The label, or the normalised answer that most annotators gave; None where not known."""


@dataclass(frozen=True, slots=True)
class Question(_ImageAndQuestion):
    """A usable row of a question file: its image has been found but not yet opened."""

    group: str | None = None
    """A group named by the user's own data; None: the image is the group."""

    @property
    def item_id(self) -> str:
        """The stable id of its item: it depends on nothing but where the question comes from."""
        return f"{self.dataset}/{self.split}/{self.question_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item(_ImageAndQuestion):
    """One image-question pair of the study: a row of ``items.parquet``."""

    item_id: str
    group: str
    """SHA-256 of the image's bytes: items of one group never sit on both sides of a fold."""
    image_sha256: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader got out of a file for one split, with an account of every row."""

    dataset: str
    split: str
    found: int
    """Rows of the file that belong to the split."""
    questions: tuple[Question, ...]
    """Rows that can be asked; ``found`` minus everything in ``dropped``."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason → number of rows dropped for it."""
    missing: tuple[str, ...] = ()
    """Images that are asked about and not there, each once, as the file names them."""

    def keep(self, questions: Iterable[Question], reason: str) -> "Reading":
        """The same with some of the questions only; the others are dropped for a reason."""
        kept = tuple(questions)
        lost = len(self.questions) - len(kept)
        dropped = self.dropped | ({reason: lost} if lost else {})
        return replace(self, questions=kept, dropped=dropped)


def question_id_order(question_id: str) -> tuple[int, int, str]:
    """Sort key that puts numeric ids in numeric order, before all others."""
    if question_id.isascii() and question_id.isdigit():
        return 0, int(question_id), question_id
    return 1, 0, question_id
