"""What the decoder is asked in training, and how many questions share one image.

The questions of an image stand one after the other behind it; a block mask lets each see the
prompt before the image, the image and itself, and its positions start where they would start
if it stood alone. So a packed question is computed exactly as a single one would be (for
prefix-LM models up to the image tokens, which alone would see the question too).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vrp.data.scenes.draw import CATEGORIES, SCENE_TYPES, Scene
from vrp.data.scenes.icons import COLORS
from vrp.data.scenes.questions import (
    RELATIONS,
    SceneQuestion,
    counting_questions,
    existence_question,
    open_questions,
    plural,
    spatial_questions,
)
from vrp.zoo.architectures import Family
from vrp.zoo.processors import answer_text, study_prompt
from vrp.zoo.tokenizer import special_ids, word_id

TASKS: Final = ("existence", "counting", "spatial", "open")
MAX_COUNT: Final = 6
_SPATIAL_ROUNDS: Final = 3


@dataclass(frozen=True)
class QuestionMix:
    """How many questions of each task an image gets, at most."""

    existence: int
    counting: int
    spatial: int
    open: int
    co_occurring: float = 0.0
    """Share of the absent categories asked for that are drawn from what the scene type suggests."""
    implausible: float = 0.0
    """Share that is drawn from what it does not suggest (inversely to its weights), as in data
    that never ask for what might well be there but is not. The others are drawn alike from all
    absent categories."""


def _absent_category(scene: Scene, rng: np.random.Generator, mix: QuestionMix) -> str:
    present = {o.category for o in scene.objects}
    absent = [c for c in CATEGORIES if c not in present]
    kind = rng.random()
    if kind >= mix.co_occurring + mix.implausible:
        return absent[int(rng.integers(len(absent)))]
    weights = np.array([SCENE_TYPES[scene.scene_type][c] for c in absent])
    if kind >= mix.co_occurring:
        weights = 1 / weights
    return absent[int(rng.choice(len(absent), p=weights / weights.sum()))]


def _existence_questions(
    scene: Scene, rng: np.random.Generator, mix: QuestionMix
) -> list[SceneQuestion]:
    """Ask for present and absent categories, as many of the one as of the other on average."""
    present = sorted({o.category for o in scene.objects})
    questions = []
    for _ in range(mix.existence):
        if rng.random() < 0.5:
            category, answer = present[int(rng.integers(len(present)))], "yes"
        else:
            category, answer = _absent_category(scene, rng, mix), "no"
        text = existence_question(category)
        questions.append(
            SceneQuestion(text, answer, "existence", "is there", "yes/no", (category,))
        )
    return questions


def _some(questions: list[SceneQuestion], rng: np.random.Generator, n: int) -> list[SceneQuestion]:
    return [questions[i] for i in rng.permutation(len(questions))[:n]]


def _spatial_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Ask several times over, since each time a pair gets one of its possible questions."""
    asked = [q for _ in range(_SPATIAL_ROUNDS) for q in spatial_questions(scene, rng)]
    return list({q.text: q for q in asked}.values())


def draw_questions(scene: Scene, rng: np.random.Generator, mix: QuestionMix) -> list[SceneQuestion]:
    """Return fresh questions about a scene, no more of a task than `mix` allows."""
    return (
        _existence_questions(scene, rng, mix)
        + _some(counting_questions(scene, rng), rng, mix.counting)
        + _some(_spatial_questions(scene, rng), rng, mix.spatial)
        + _some(open_questions(scene, rng), rng, mix.open)
    )


class Grounding(NamedTuple):
    """Where nouns stand in a batch, and what is true of them; one row per noun."""

    image: Tensor
    """Row of the batch."""
    position: Tensor
    """Token position of the noun."""
    n_objects: Tensor
    """How many objects of the category there are, at most `MAX_COUNT`."""
    place: Tensor
    """(n, 2) mean row and column of these objects, −1 … 1; 0 if there is none."""
    color: Tensor
    """Index into `COLORS` if they share a colour, else −100."""
    gap: Tensor
    """(n, 2) place of the question's first noun minus this one's; NaN unless it is the second."""
    direction: Tensor
    """(n, 2) unit vector (row, column) of the relation asked about; NaN unless the second."""
    holds: Tensor
    """Whether the relation between the first noun and this one holds (1 or 0); −1 if none is
    asked about or this is not the second noun."""


class PackedBatch(NamedTuple):
    """Images with their questions: a context (image included), then blocks of equal length."""

    input_ids: Tensor
    """(B, L)."""
    position_ids: Tensor
    """(B, L), for Qwen2-VL (3, B, L)."""
    block: Tensor
    """(B, L): 0 before the questions (image included), k in question k, −1 padding."""
    is_prompt: Tensor
    """(B, L): whether a token belongs to a prompt (answers do not)."""
    n_context: int
    """Tokens of a row before its first block."""
    n_blocks: int
    """Blocks in a row, of (L − n_context) / n_blocks tokens each."""
    label_image: Tensor
    """(n,) row of each predicted token."""
    label_position: Tensor
    """(n,) position whose output predicts it."""
    label: Tensor
    """(n,) the token."""
    label_task: Tensor
    """(n,) index into `TASKS` for an answer's first token, −1 for those after it (and EOS)."""
    grounding: Grounding


class _Tail(NamedTuple):
    """The tokens behind the image: the rest of the prompt and the nouns in it."""

    ids: list[int]
    noun_positions: list[int]


class Packer:
    """Turns scenes and questions into packed batches of one family."""

    def __init__(self, family: Family, tokenizer: PreTrainedTokenizerFast) -> None:
        self.family = family
        self.tokenizer = tokenizer
        self.special = special_ids(family, tokenizer)
        self._tails: dict[tuple[str, tuple[str, ...]], _Tail] = {}
        self._answers: dict[str, list[int]] = {}
        self._forms = {c: {word_id(tokenizer, form) for form in (c, plural(c))} for c in CATEGORIES}
        self.before = self._split("")[0]

    def _split(self, question: str) -> tuple[list[int], list[int]]:
        """Return a prompt's tokens before and after the image placeholder."""
        text = study_prompt(self.family, question)
        if self.family == "paligemma":
            text = text.replace("<image>", "<image><bos>") + "\n"
        ids = self.tokenizer(text)["input_ids"]
        at = ids.index(self.special.image)
        return ids[:at], ids[at + 1 :]

    def _tail(self, question: SceneQuestion) -> _Tail:
        key = (question.text, question.nouns)
        if key not in self._tails:
            ids = self._split(question.text)[1]
            positions: list[int] = []
            for noun in question.nouns:
                start = positions[-1] + 1 if positions else 0
                forms = self._forms[noun]
                positions.append(next(i for i in range(start, len(ids)) if ids[i] in forms))
            self._tails[key] = _Tail(ids, positions)
        return self._tails[key]

    def _answer(self, answer: str) -> list[int]:
        if answer not in self._answers:
            text = answer_text(self.family, answer)
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._answers[answer] = [*ids, self.special.eos]
        return self._answers[answer]

    def _image_positions(self, n_cells: int, grid: tuple[int, int]) -> tuple[np.ndarray, int]:
        """Return (3, before + image) position ids and the first position behind the image."""
        n_before = len(self.before)
        if self.family != "qwen2_vl":
            first = 1 if self.family == "paligemma" else 0
            end = first + n_before + n_cells
            return np.tile(np.arange(first, end), (3, 1)), end
        rows, columns = np.divmod(np.arange(n_cells), grid[1])
        image = n_before + np.stack([np.zeros_like(rows), rows, columns])
        return (
            np.concatenate([np.tile(np.arange(n_before), (3, 1)), image], axis=1),
            n_before + max(grid),
        )

    def pack(
        self,
        scenes: Sequence[Scene],
        questions: Sequence[Sequence[SceneQuestion]],
        grids: Sequence[tuple[int, int]],
        *,
        grounded: Sequence[bool] | None = None,
    ) -> PackedBatch:
        """Pack each scene's questions behind its image.

        Args:
            scenes: one per row.
            questions: the questions of each.
            grids: rows and columns of each image's tokens.
            grounded: whether a row's image shows its scene; a row that does not gives no
                grounding targets. All do by default.
        """
        rows: list[_Row] = []
        for index, (scene, asked, grid) in enumerate(zip(scenes, questions, grids, strict=True)):
            n_cells = grid[0] * grid[1]
            facts = _facts(scene) if grounded is None or grounded[index] else None
            context = [*self.before, *([self.special.image] * n_cells)]
            positions, next_position = self._image_positions(n_cells, grid)
            blocks = [_block(q, self._tail(q), self._answer(q.answer), facts) for q in asked]
            rows.append(_Row(context, positions, next_position, blocks))
        return _join(rows, self.special.pad, n_axes=3 if self.family == "qwen2_vl" else 1)


class _Fact(NamedTuple):
    n_objects: int
    place: tuple[float, float]
    color: int


def _facts(scene: Scene) -> dict[str, _Fact]:
    """Return what is true of every category in a scene."""
    width, height = scene.image.size
    counts = Counter(o.category for o in scene.objects)
    facts = {c: _Fact(0, (0.0, 0.0), -100) for c in CATEGORIES}
    for category, count in counts.items():
        mine = [o for o in scene.objects if o.category == category]
        y = sum((o.box[1] + o.box[3]) / height - 1 for o in mine) / count
        x = sum((o.box[0] + o.box[2]) / width - 1 for o in mine) / count
        colors = {o.color for o in mine}
        color = list(COLORS).index(mine[0].color) if len(colors) == 1 else -100
        facts[category] = _Fact(min(count, MAX_COUNT), (y, x), color)
    return facts


_NAN: Final = (float("nan"), float("nan"))


class _Noun(NamedTuple):
    """One noun of a question; the fields after the position are those of `Grounding`."""

    position: int
    n_objects: int
    place: tuple[float, float]
    color: int
    gap: tuple[float, float] = _NAN
    direction: tuple[float, float] = _NAN
    holds: int = -1


def _direction(text: str) -> tuple[float, float]:
    """Return the (row, column) direction of the relation that a question states."""
    axis, sign = next(found for words, found in RELATIONS.items() if words in text)
    return (0.0, float(sign)) if axis == 0 else (float(sign), 0.0)


class _Block(NamedTuple):
    """One question with its answer; positions count from the block's first token."""

    ids: list[int]
    n_prompt: int
    labels: list[tuple[int, int, int]]
    """(position, token, task) of what is predicted; EOS is predicted but not fed."""
    nouns: list[_Noun]


def _block(
    question: SceneQuestion, tail: _Tail, answer: list[int], facts: dict[str, _Fact] | None
) -> _Block:
    n_prompt = len(tail.ids)
    labels = [
        (n_prompt - 1 + i, token, TASKS.index(question.task) if i == 0 else -1)
        for i, token in enumerate(answer)
    ]
    nouns = []
    for i, (noun, position) in enumerate(zip(question.nouns, tail.noun_positions, strict=True)):
        if facts is None:
            break
        found = _Noun(position, *facts[noun])
        if i == 1:
            first, second = facts[question.nouns[0]].place, found.place
            found = found._replace(
                gap=(first[0] - second[0], first[1] - second[1]),
                direction=_direction(question.text),
                holds=int(question.answer == "yes"),
            )
        nouns.append(found)
    return _Block([*tail.ids, *answer[:-1]], n_prompt, labels, nouns)


class _Row(NamedTuple):
    """One image and its questions."""

    context: list[int]
    """Tokens before the questions."""
    positions: np.ndarray
    """(3, len(context))."""
    next_position: int
    blocks: list[_Block]


def _join(rows: list[_Row], pad: int, n_axes: int) -> PackedBatch:
    """Lay rows out as one context and equally long blocks, each padded on its right."""
    n_context = max(len(r.context) for r in rows)
    n_block = max(len(b.ids) for r in rows for b in r.blocks)
    n_blocks = max(len(r.blocks) for r in rows)
    shape = (len(rows), n_context + n_blocks * n_block)
    ids, block = np.full(shape, pad), np.full(shape, -1)
    is_prompt, positions = np.zeros(shape, bool), np.zeros((3, *shape), np.int64)
    labels: list[tuple[int, int, int, int]] = []
    nouns: list[tuple[int, _Noun]] = []
    for i, row in enumerate(rows):
        n = len(row.context)
        ids[i, :n], block[i, :n], is_prompt[i, :n] = row.context, 0, True
        positions[:, i, :n] = row.positions
        for k, b in enumerate(row.blocks):
            start = n_context + k * n_block
            end = start + len(b.ids)
            ids[i, start:end], block[i, start:end] = b.ids, k + 1
            is_prompt[i, start : start + b.n_prompt] = True
            positions[:, i, start:end] = row.next_position + np.arange(len(b.ids))
            labels += [(i, start + at, token, task) for at, token, task in b.labels]
            nouns += [(i, n._replace(position=start + n.position)) for n in b.nouns]
    image, position, label, task = torch.tensor(labels).T
    return PackedBatch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions if n_axes == 3 else positions[0]),
        block=torch.from_numpy(block),
        is_prompt=torch.from_numpy(is_prompt),
        n_context=n_context,
        n_blocks=n_blocks,
        label_image=image,
        label_position=position,
        label=label,
        label_task=task,
        grounding=_grounding(nouns),
    )


def _grounding(nouns: list[tuple[int, _Noun]]) -> Grounding:
    """Turn (row of the batch, noun) pairs into tensors, a column each."""

    def whole(values: Iterable[int]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.long)

    def pairs(values: Iterable[tuple[float, float]]) -> Tensor:
        return torch.tensor(list(values)).view(-1, 2)

    return Grounding(
        image=whole(image for image, _ in nouns),
        position=whole(noun.position for _, noun in nouns),
        n_objects=whole(noun.n_objects for _, noun in nouns),
        place=pairs(noun.place for _, noun in nouns),
        color=whole(noun.color for _, noun in nouns),
        gap=pairs(noun.gap for _, noun in nouns),
        direction=pairs(noun.direction for _, noun in nouns),
        holds=whole(noun.holds for _, noun in nouns),
    )


def attention_mask(
    batch: PackedBatch, *, prefix_lm: bool, image_sees_question: bool = False
) -> Tensor:
    """Return the additive float mask (B, 1, L, L) of a packed batch.

    Args:
        batch: the packed sequences.
        prefix_lm: prompts see themselves in both directions (PaliGemma), not causally.
        image_sees_question: the image's tokens see the questions too, as in the real prefix-LM
            mask; meant for batches with one question an image.
    """
    query, key = batch.block[:, :, None], batch.block[:, None, :]
    position = torch.arange(batch.block.shape[1])
    earlier = position[None, :] <= position[:, None]
    seen = (key == query) | (key == 0)
    if image_sees_question:
        seen = seen | (query == 0)
    order = earlier[None]
    if prefix_lm:
        order = order | batch.is_prompt[:, None, :]
    allowed = (seen & order & (key >= 0) & (query >= 0)) | (earlier & earlier.T)[None]
    mask = torch.zeros(allowed.shape).masked_fill_(~allowed, torch.finfo(torch.float32).min / 2)
    return mask[:, None]
