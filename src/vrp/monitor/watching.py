"""Read a model's own `generate` while it answers: no forward is added, and none is changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from vrp.errors import InputError
from vrp.monitor.predictor import PROBE, Predictor, signal_values
from vrp.vlm.model import VLM
from vrp.vlm.residual import hook_last_state
from vrp.vlm.token_statistics import likeliest_tokens, token_entropy, top_margin


class Pass(NamedTuple):
    """What one call of `generate` says of its answers."""

    answers: list[str]
    """Texts, without special tokens and outer white space."""
    token_logprobs: list[list[float]]
    """Log-probabilities of each answer's tokens, without end of sequence."""
    scores: np.ndarray
    """(B,) the predictor's; NaN for an answer without tokens."""


Check = Callable[[Mapping[str, Any]], VLM]
"""Refuses a call of `generate` by its arguments, or returns the model to be read."""


@contextmanager
def watched(
    model: Any, predictor: Predictor, *, check: Check, keep: Callable[[Pass], None]
) -> Iterator[None]:
    """Read every call of the model's `generate` within the `with` block.

    Args:
        model: the transformers model.
        predictor: what scores an answer.
        check: called with a call's arguments before it runs; returns the model to be read.
        keep: called with what was read of it.
    """
    generate = model.generate

    def generate_and_read(inputs: Any = None, *args: Any, **options: Any) -> Any:
        given = options if inputs is None else {"input_ids": inputs, **options}
        recorder = _Recorder(check(given), predictor)
        with recorder.attached():
            output = generate(inputs, *args, **options)
        sequences = output if isinstance(output, torch.Tensor) else output.sequences
        keep(recorder.read(sequences[:, given["input_ids"].shape[1] :]))
        return output

    model.generate = generate_and_read
    try:
        yield
    finally:
        del model.generate  # the class's own shows again


class _Recorder:
    """The likeliest token of each step, and what the predictor reads of the first."""

    def __init__(self, vlm: VLM, predictor: Predictor) -> None:
        self.vlm, self.predictor = vlm, predictor
        self.chosen: list[torch.Tensor] = []
        self.logprobs: list[torch.Tensor] = []
        self.first: tuple[torch.Tensor, torch.Tensor] | None = None
        self.states: torch.Tensor | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hook the model's output and, where a probe reads it, the output of its layer."""
        handles = [self.vlm.model.register_forward_hook(self._read_logits)]
        if self.predictor.probe is not None:
            handles.append(hook_last_state(self.vlm, self.predictor.probe.layer, self._read_state))
        with ExitStack() as stack:
            for handle in handles:
                stack.callback(handle.remove)
            yield

    def _read_logits(self, module: Any, args: Any, output: Any) -> None:
        logits = output.logits[:, -1].float()
        chosen, logprobs = likeliest_tokens(logits)
        if self.first is None and self.predictor.reads_first_token:
            self.first = (token_entropy(logits.log_softmax(-1)), top_margin(logits))
        self.chosen.append(chosen)
        self.logprobs.append(logprobs)

    def _read_state(self, state: torch.Tensor) -> None:
        if self.states is None:  # decode steps are not read
            self.states = state

    def read(self, emitted: torch.Tensor) -> Pass:
        """Return what was read, given the tokens that were emitted, (B, n).

        Raises:
            InputError: an answer is not the model's greedy one, or more was run than the answer.
        """
        chosen = torch.stack(self.chosen, dim=1).cpu().numpy()
        logprobs = torch.stack(self.logprobs, dim=1).double().cpu().numpy()
        rows = emitted.cpu().numpy()
        if chosen.shape != rows.shape:
            raise InputError(
                f"monitor: {chosen.shape[1]} forward passes for answers of {rows.shape[1]} tokens "
                "of each prompt; generate greedily, one answer a prompt, without guidance"
            )
        lengths = [_length(row, self.vlm.eos_token_ids) for row in rows.tolist()]
        for row, greedy, n in zip(rows, chosen, lengths, strict=True):
            if (row[: n + 1] != greedy[: n + 1]).any():
                raise InputError(
                    "monitor: an answer is not the model's greedy one; turn off penalties and "
                    "logits processors"
                )
        tokens = [tuple(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)]
        found = [row[:n].tolist() for row, n in zip(logprobs, lengths, strict=True)]
        return Pass(self.vlm.decode(tokens), found, self._scores(found))

    def _scores(self, logprobs: Sequence[Sequence[float]]) -> np.ndarray:
        n = len(logprobs)
        entropy, margin = np.full(n, np.nan), np.full(n, np.nan)
        if self.first is not None:
            entropy, margin = (values.double().cpu().numpy() for values in self.first)
        # As the study's tables hold them: float32.
        stored = [np.asarray(one, dtype=np.float32) for one in logprobs]
        names = ["token_confidence", *self.predictor.features]
        values = signal_values(names, stored, entropy, margin)
        if self.predictor.probe is not None:
            assert self.states is not None
            values[PROBE] = self.predictor.probe.log_odds(self.states.cpu().numpy())
        return self.predictor.score(values)


def _length(tokens: Sequence[int], eos: Sequence[int]) -> int:
    """Tokens of an answer before its end."""
    return next((i for i, token in enumerate(tokens) if token in eos), len(tokens))
