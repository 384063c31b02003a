"""Probability of an answer that was given elsewhere, such as with the image, under this prompt."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrp.vlm.prefill import Decoder


class GivenLogprobs(NamedTuple):
    """Log-probabilities of a given answer, nats."""

    tokens: NDArray[np.float32]
    """(n,) of each of its tokens, given those before it."""
    first: NDArray[np.float32]
    """(m,) of each of `first_token_ids` as the first answer token."""


@torch.inference_mode()
def score_given(prompts: Decoder, logits: torch.Tensor) -> list[GivenLogprobs | None]:
    """Score the given answer of each item that has one; answers are fed token by token.

    Args:
        prompts: prefilled, at the first answer token; it is used up.
        logits: (B, V) of that token.
    """
    given = [item.given for item in prompts.prepared.inputs]
    log_p = logits.log_softmax(-1)
    first = [
        None if answer is None else _at(log_p[row], answer.first_token_ids)
        for row, answer in enumerate(given)
    ]
    answers = [() if answer is None else answer.token_ids for answer in given]
    tokens: list[list[float]] = [[] for _ in answers]
    rows = [row for row, answer in enumerate(answers) if answer]
    log_p = log_p[rows]
    for step in range(max(map(len, answers), default=0)):
        here = torch.tensor([answers[row][step] for row in rows], device=log_p.device)
        for row, value in zip(rows, log_p.gather(1, here[:, None])[:, 0].tolist(), strict=True):
            tokens[row].append(value)
        going_on = [i for i, row in enumerate(rows) if len(answers[row]) > step + 1]
        if not going_on:
            break
        if step == 0:
            prompts.select(torch.tensor([rows[i] for i in going_on]))
        elif len(going_on) < len(rows):
            prompts.select(torch.tensor(going_on))
        log_p = prompts.step(here[going_on]).log_softmax(-1)
        rows = [rows[i] for i in going_on]
    return [
        None if of_first is None else GivenLogprobs(np.array(values, dtype=np.float32), of_first)
        for values, of_first in zip(tokens, first, strict=True)
    ]


def _at(log_p: torch.Tensor, ids: tuple[int, ...]) -> NDArray[np.float32]:
    return log_p[torch.tensor(ids, dtype=torch.long, device=log_p.device)].cpu().numpy()
