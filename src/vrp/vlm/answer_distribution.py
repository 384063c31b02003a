"""The answers that a model may give: K samples of them, and their distribution, from one prefill.

Answers grow as a tree whose rows are distinct prefixes: samples that share a prefix are decoded
once, and a prefix that is followed for the distribution too is the same row. Noise is keyed by
study seed, item, sample, step and token, so a sample does not depend on the shard or the order, nor
on the batch but where two tokens are close. (Self-consistency: arXiv 2606.17389, K=10, T=0.7,
top-p 0.9.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from vrp.errors import InputError
from vrp.vlm.batching import AnswerLimit, VlmInput, longest_answer
from vrp.vlm.memory_limits import ROWS_AN_ITEM
from vrp.vlm.model import VLM
from vrp.vlm.nucleus_sampling import Nucleus, draw_tokens, find_nucleus, noise_key
from vrp.vlm.out_of_memory import unless_out_of_memory
from vrp.vlm.prefill import Decoder, Prepared, run_to_fit

# Prefixes that are followed for an item's distribution, for each token of its longest answer. Half
# of those that are left may be spent at one step: short answers branch at once and end, and in
# long ones a flat distribution is given up early, where most of its mass would stay unresolved.
_FOLLOWED_A_TOKEN = 12


class AnswerDistribution(NamedTuple):
    """Probabilities of whole answers under temperature and top-p, with no sampling noise."""

    answers: tuple[str, ...]
    """Answers as text, in order of falling probability; a text may come of several token
    sequences and then stands several times."""
    probabilities: tuple[float, ...]
    """Probability of each."""
    unresolved: float
    """Mass of the prefixes that were not followed: less likely than the floor, or too many."""


class ItemSamples(NamedTuple):
    """The sampled answers of one item, in the order of the samples."""

    item_id: str
    """Names the item."""
    answers: tuple[str, ...]
    """K answers as text."""
    token_ids: tuple[tuple[int, ...], ...]
    """K answers as tokens, without end-of-sequence."""
    distribution: AnswerDistribution | None = None
    """What the samples were drawn from, where it was asked for."""
    close_draws: int = 0
    """Tokens of the K answers whose draw rounding may turn: two candidates tied but for it."""
    finite: bool = True
    """False where the model's logits were not finite: the item then has no answers at all."""


@dataclass(frozen=True)
class _Rule:
    """How answers are drawn and how far their distribution is followed, as `sample_answers` has it.

    Raises InputError where a parameter is out of range.
    """

    temperature: float
    top_p: float
    max_new_tokens: AnswerLimit
    k: int
    seed: int | str
    floor: float | None

    def __post_init__(self) -> None:
        n = self.max_new_tokens
        if (
            self.k < (1 if self.floor is None else 0)
            or min([n] if isinstance(n, int) else n.values(), default=0) < 1
            or self.temperature <= 0
            or not 0 < self.top_p <= 1
            or (self.floor is not None and not 0 < self.floor < 1)
        ):
            raise InputError(
                f"k={self.k}, max_new_tokens={self.max_new_tokens}, "
                f"temperature={self.temperature}, top_p={self.top_p}, floor={self.floor}: needed "
                "are k and max_new_tokens of at least 1, temperature > 0, 0 < top_p <= 1, and a "
                "floor between 0 and 1 where there is one"
            )


@torch.inference_mode()
def sample_answers(
    vlm: VLM,
    inputs: Sequence[VlmInput] | Prepared,
    *,
    temperature: float,
    top_p: float,
    max_new_tokens: AnswerLimit,
    k: int = 0,
    seed: int | str = 0,
    floor: float | None = None,
) -> list[ItemSamples]:
    """Draw K answers for each item of a batch, and follow their distribution down to a floor.

    Where memory does not suffice, the batch is run in halves, and the answers of a single item with
    fewer of them at a time.

    Args:
        vlm: the model.
        inputs: the batch.
        temperature: logits are divided by it.
        top_p: mass of the nucleus that is sampled from.
        max_new_tokens: longest answer, for all items or by task.
        k: samples an item; 0 for the distribution alone.
        seed: the study's seed.
        floor: least probability of a prefix that is followed; None: no distribution is wanted.

    Raises:
        InputError: a parameter out of range, or an item that cannot be prepared, does not leave
            its answer room in the context or does not fit into memory by itself.
    """
    rule = _Rule(temperature, top_p, max_new_tokens, k, seed, floor)

    def run(prepared: Prepared, rows: slice) -> list[ItemSamples]:
        return _grow_to_fit(vlm, prepared, rule)

    return run_to_fit(vlm, inputs, run, max_new_tokens=max_new_tokens)


def _grow_to_fit(vlm: VLM, prepared: Prepared, rule: _Rule) -> list[ItemSamples]:
    """Grow the answers of a batch; those of a single item in parts as small as memory requires."""

    def grow(max_rows: int) -> list[ItemSamples]:
        return _AnswerTree(vlm, prepared, rule, max_rows).grow()

    max_rows = ROWS_AN_ITEM * prepared.n_items
    # A larger batch is halved by the caller; one item cannot be, so fewer of its prefixes run at
    # a time.
    while prepared.n_items == 1 and max_rows > 1:
        found = unless_out_of_memory(grow, max_rows)
        if found is not None:
            return found
        max_rows //= 2
    return grow(max_rows)


@dataclass
class _Prefix:
    """A row of the decoder: the start of an answer, and which samples begin with it."""

    item: int
    tokens: tuple[int, ...] = ()
    probability: float = 0.0
    """Probability of this start where the distribution follows it; else 0."""
    samples: list[int] = field(default_factory=list)
    """Samples that begin with these tokens."""


class _AnswerTree:
    """The growing answers of one batch, one token longer at each step.

    Prefixes that are more than fit into a decoder are decoded in parts, each from the prompt on:
    what waits is tokens alone. So no more is cached than the prompts and the rows of one decoder.
    """

    def __init__(self, vlm: VLM, prepared: Prepared, rule: _Rule, max_rows: int) -> None:
        self.vlm = vlm
        self.prepared = prepared
        self.rule = rule
        self.ids = [item.item_id for item in prepared.inputs]
        self.limits = [
            longest_answer(rule.max_new_tokens, item.item_id, item.task) for item in prepared.inputs
        ]
        self.sampled: list[list[tuple[int, ...]]] = [[()] * rule.k for _ in self.ids]
        self.leaves: list[dict[tuple[int, ...], float]] = [{} for _ in self.ids]
        self.unresolved: list[list[float]] = [[] for _ in self.ids]
        self.may_follow = [_FOLLOWED_A_TOKEN * limit for limit in self.limits]
        """Prefixes of each item that may yet be decoded for its distribution."""
        self.close_draws = [0] * len(self.ids)
        self.non_finite: set[int] = set()
        """Items whose logits were not finite at some step."""
        self.max_rows = max_rows
        self.prompts = Decoder(vlm, prepared)
        self.decoder: Decoder | None = None
        """Whose rows are the prefixes of the last step, where they were in one part."""

    def grow(self) -> list[ItemSamples]:
        # The empty prefix is certain; a probability of 0 keeps the distribution from following it.
        root_probability = 0.0 if self.rule.floor is None else 1.0
        samples = range(self.rule.k)
        rows = [_Prefix(i, (), root_probability, list(samples)) for i in range(len(self.ids))]
        branches, parents = self._branch(rows, self.prompts.prefill(), 0)
        self.decoder = self.prompts.fork()
        n_rows = len(rows)
        while True:
            rows, parents = self._continuing(branches, parents)
            if not rows:
                return self._collected()
            branches, parents = self._extended(rows, parents, n_rows)
            n_rows = len(rows)

    def _extended(
        self, rows: list[_Prefix], parents: list[int], n_rows: int
    ) -> tuple[list[_Prefix], list[int]]:
        """Return the continuations of prefixes, and the place of the one that each continues.

        Args:
            rows: the prefixes, all of one length.
            parents: the decoder's row that each continues.
            n_rows: rows of the decoder.
        """
        if len(rows) <= self.max_rows:
            if self.decoder is None:
                self.decoder = self._fed(rows)
            # Selecting copies the whole cache, so it is skipped where every row continues.
            elif parents != list(range(n_rows)):
                self.decoder.select(torch.tensor(parents))
            return self._branch(rows, self._step(self.decoder, rows, -1), len(rows[0].tokens))
        self.decoder = None  # frees its cache
        found: tuple[list[_Prefix], list[int]] = ([], [])
        for start in range(0, len(rows), self.max_rows):
            part = rows[start : start + self.max_rows]
            logits = self._step(self._fed(part), part, -1)
            branches, places = self._branch(part, logits, len(part[0].tokens))
            found[0].extend(branches)
            found[1].extend(start + place for place in places)
        return found

    def _fed(self, rows: list[_Prefix]) -> Decoder:
        """Return a decoder that was fed prefixes from the prompts on, but for their last token."""
        decoder = self.prompts.fork()
        decoder.select(torch.tensor([row.item for row in rows]))
        for place in range(len(rows[0].tokens[:-1])):
            self._step(decoder, rows, place)
        return decoder

    def _step(self, decoder: Decoder, rows: list[_Prefix], place: int) -> torch.Tensor:
        tokens = [row.tokens[place] for row in rows]
        return decoder.step(torch.tensor(tokens, device=decoder.attention_mask.device))

    def _branch(
        self, rows: list[_Prefix], logits: torch.Tensor, step: int
    ) -> tuple[list[_Prefix], list[int]]:
        """Return one prefix for each distinct continuation, and the row that each continues."""
        rows, places = self._finite_rows(logits, rows)
        if not rows:
            return [], []
        rule = self.rule
        nucleus = find_nucleus(
            logits[places], temperature=rule.temperature, top_p=rule.top_p, dtype=self.vlm.dtype
        )
        drawn = self._draw(rows, nucleus, step) if rule.k else [[] for _ in rows]
        followed = self._follow(rows, nucleus.probabilities) if rule.floor else [{} for _ in rows]
        branches: list[_Prefix] = []
        parents: list[int] = []
        for place, (row, parent) in enumerate(zip(rows, places, strict=True)):
            # One child for each token, whether followed for the distribution, drawn, or both.
            children = {
                token: _Prefix(row.item, (*row.tokens, token), probability)
                for token, probability in followed[place].items()
            }
            for sample, token in zip(row.samples, drawn[place], strict=True):
                if token in self.vlm.eos_token_ids:  # the sample is the row's own prefix
                    continue
                child = children.setdefault(token, _Prefix(row.item, (*row.tokens, token)))
                child.samples.append(sample)
                self.sampled[row.item][sample] = child.tokens
            branches.extend(children.values())
            parents.extend([parent] * len(children))
        return branches, parents

    def _continuing(
        self, branches: list[_Prefix], parents: list[int]
    ) -> tuple[list[_Prefix], list[int]]:
        """Return the prefixes that are decoded further: those of samples, and the likeliest others.

        Answers that have reached their longest length are recorded.
        """
        growing = []
        for prefix, parent in zip(branches, parents, strict=True):
            if len(prefix.tokens) < self.limits[prefix.item]:
                growing.append((prefix, parent))
            elif prefix.probability:
                self.leaves[prefix.item][prefix.tokens] = prefix.probability
        self._leave_unlikely([prefix for prefix, _ in growing])
        kept = [(one, parent) for one, parent in growing if one.samples or one.probability]
        return [prefix for prefix, _ in kept], [parent for _, parent in kept]

    def _leave_unlikely(self, prefixes: list[_Prefix]) -> None:
        """Give up the prefixes of an item that would take more than half of what it may follow."""
        of_item: dict[int, list[_Prefix]] = {}
        for prefix in prefixes:
            if prefix.probability:
                of_item.setdefault(prefix.item, []).append(prefix)
        for item, followed in of_item.items():
            n_kept = min(len(followed), -(-self.may_follow[item] // 2))
            self.may_follow[item] -= n_kept
            for prefix in sorted(followed, key=lambda one: (-one.probability, one.tokens))[n_kept:]:
                self.unresolved[item].append(prefix.probability)
                prefix.probability = 0.0

    def _finite_rows(
        self, logits: torch.Tensor, rows: list[_Prefix]
    ) -> tuple[list[_Prefix], list[int]]:
        """Return the rows whose item has had finite logits so far, and their places."""
        finite = logits.isfinite().all(-1).tolist()
        self.non_finite |= {row.item for row, fine in zip(rows, finite, strict=True) if not fine}
        # All prefixes of such an item are dropped: it will have no answers at all.
        kept = [place for place, row in enumerate(rows) if row.item not in self.non_finite]
        return [rows[place] for place in kept], kept

    def _draw(self, rows: list[_Prefix], nucleus: Nucleus, step: int) -> list[list[int]]:
        """Return the token that each sample of each row draws; count the close draws."""
        keys = [
            [noise_key(self.rule.seed, self.ids[row.item], sample, step) for sample in row.samples]
            for row in rows
        ]
        draws = draw_tokens(nucleus, keys)
        for row, drawn in zip(rows, draws, strict=True):
            self.close_draws[row.item] += int(drawn.close.sum())
        return [drawn.tokens for drawn in draws]

    def _follow(self, rows: list[_Prefix], probabilities: torch.Tensor) -> list[dict[int, float]]:
        """Return, per row, the likely continuations; record ended answers and unresolved mass."""
        assert self.rule.floor is not None
        prior = torch.tensor([row.probability for row in rows], dtype=torch.float64)
        joint = probabilities * prior.to(probabilities.device)[:, None]
        eos = torch.tensor(self.vlm.eos_token_ids, device=joint.device)
        # Several tokens may end an answer; to the answer they are one event.
        ended = joint[:, eos].sum(-1).tolist()
        joint[:, eos] = 0.0
        likely = joint >= self.rule.floor
        left_out = joint.masked_fill(likely, 0.0).sum(-1).tolist()
        found: list[dict[int, float]] = [{} for _ in rows]
        at, tokens = (index.tolist() for index in likely.nonzero(as_tuple=True))
        for row, token, probability in zip(at, tokens, joint[likely].tolist(), strict=True):
            found[row][token] = probability
        for row, end, rest in zip(rows, ended, left_out, strict=True):
            self.unresolved[row.item].append(rest)
            if end:
                self.leaves[row.item][row.tokens] = end
        return found

    def _collected(self) -> list[ItemSamples]:
        # Decoding to text is slow, and most samples repeat one another.
        distinct = sorted({tokens for item in (*self.sampled, *self.leaves) for tokens in item})
        text_of = dict(zip(distinct, self.vlm.decode(distinct), strict=True))
        return [self._item(index, text_of) for index in range(len(self.ids))]

    def _item(self, index: int, text_of: dict[tuple[int, ...], str]) -> ItemSamples:
        if index in self.non_finite:
            return ItemSamples(self.ids[index], (), (), finite=False)
        followed = None
        if self.rule.floor is not None:
            # fsum rounds once, so the order in which the tree was grown does not matter.
            unresolved = math.fsum(self.unresolved[index])
            followed = _distribution(self.leaves[index], unresolved, text_of)
        sequences = self.sampled[index]
        answers = tuple(text_of[tokens] for tokens in sequences)
        return ItemSamples(
            self.ids[index], answers, tuple(sequences), followed, self.close_draws[index]
        )


def _distribution(
    leaves: dict[tuple[int, ...], float], unresolved: float, text_of: dict[tuple[int, ...], str]
) -> AnswerDistribution:
    """Order answers by falling probability; equally likely ones by their tokens."""
    ordered = sorted(leaves.items(), key=lambda leaf: (-leaf[1], leaf[0]))
    return AnswerDistribution(
        answers=tuple(text_of[tokens] for tokens, _ in ordered),
        probabilities=tuple(probability for _, probability in ordered),
        unresolved=unresolved,
    )
