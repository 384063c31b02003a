"""Answer a batch greedily, and capture the requested quantities in the same pass."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch

from vrp.errors import InputError
from vrp.vlm.answer_distribution import ItemSamples, sample_answers
from vrp.vlm.attention_tap import AttentionTap, active
from vrp.vlm.batching import AnswerLimit, VlmInput, longest_answer
from vrp.vlm.capture_spec import FIRST_TOKENS, CaptureSpec
from vrp.vlm.given_answers import GivenLogprobs, score_given
from vrp.vlm.image_edits import AttentionMask, EmbeddingReplacement
from vrp.vlm.lens import Contributions, LensMargins, contributions, layer_margins, top_two
from vrp.vlm.model import VLM
from vrp.vlm.nucleus_sampling import tie_tolerance
from vrp.vlm.prefill import Decoder, Prepared, prepare, run_to_fit
from vrp.vlm.prompt_layout import SharedPrefixes
from vrp.vlm.residual import ImageTokens, ResidualTap, attached
from vrp.vlm.residual_edits import Edit
from vrp.vlm.token_statistics import likeliest_tokens, token_entropy, top_margin

__all__ = [
    "AttentionMask",
    "CaptureSpec",
    "EmbeddingReplacement",
    "ItemCapture",
    "ItemSamples",
    "Prepared",
    "prepare",
    "run_batch",
    "sample_answers",
]

POSITIONS = ("prompt_end", "answer_end")

# Arrays of each item, besides attention rows, that must be finite where they were captured.
_MEASURED = (
    "prompt_end", "update", "lens_decision", "part_embed", "part_attention", "part_mlp",
    "part_heads",
)  # fmt: skip
# Finished rows are dropped from the cache once they are this share of the rows that run.
_DROP_SHARE = 0.25


class ItemCapture(NamedTuple):
    """One item's greedy answer and captured quantities; None where not captured."""

    item_id: str
    """Names the item."""
    answer: str
    """The answer as text, without special tokens and outer white space."""
    token_ids: tuple[int, ...]
    """Its n tokens, without end-of-sequence."""
    token_logprobs: np.ndarray
    """(n,) their log-probabilities, from raw float32 logits."""
    finished: bool
    """Whether the answer ended by itself."""
    flags: tuple[str, ...]
    """What is unusual: `no_answer_tokens`; `truncated`; `non_finite`: logits that are not finite,
    of any answer token, so that there is no answer; `non_finite_inside`: finite logits, but a
    hidden state, margin, contribution or update that is not; `no_truth_tokens`: a truth margin was
    asked for, but not which tokens start the reference."""
    first_token_entropy: float
    """Entropy of the first answer token's distribution, nats."""
    decision_margin: float
    """Top logit minus runner-up at `prompt_end`."""
    close_choices: int
    """Steps, that of end-of-sequence included, whose two highest logits tie but for rounding."""
    grid_h: int
    """Rows of image tokens."""
    grid_w: int
    """Columns of image tokens."""
    n_prompt_tokens: int
    """Prompt tokens, image tokens included."""
    attention: np.ndarray | None = None
    """(L, S) raw rows, mean over heads and over the queries that predict the answer tokens."""
    head_rows: np.ndarray | None = None
    """(L, H, S) the same for each head."""
    hidden: dict[str, np.ndarray] | None = None
    """Position → (L+1, d_model): embed, then the residual after each layer; NaN where missing."""
    first_token_ids: np.ndarray | None = None
    """(m,) likeliest first answer tokens, in the order of their ids."""
    first_token_logprobs: np.ndarray | None = None
    """(m,) their log-probabilities."""
    given: GivenLogprobs | None = None
    """Of the item's given answer; None where there is none."""
    residual_update: np.ndarray | None = None
    """(L,) ‖h(l) − h(l−1)‖₂, mean over image tokens."""
    image_norms: np.ndarray | None = None
    """(L, S) norm of each image token's residual as it enters the layer; beside the update."""
    lens_decision_margin: np.ndarray | None = None
    """(L,) top logit minus runner-up."""
    lens_truth_margin: np.ndarray | None = None
    """(L,) best reference token minus best other; holds the label, never for a predictor."""
    pair: tuple[int, int] | None = None
    """Top answer token and runner-up at the last layer."""
    contribution_embed: float | None = None
    """Contribution of the input to layer 0 to the pair's logit difference."""
    attention_contribution: np.ndarray | None = None
    """(L,) contribution of each layer's attention."""
    mlp_contribution: np.ndarray | None = None
    """(L,) contribution of each layer's MLP."""
    head_contribution: np.ndarray | None = None
    """(L, H) contribution of each head."""


@torch.inference_mode()
def run_batch(
    vlm: VLM,
    inputs: Sequence[VlmInput] | Prepared,
    capture: CaptureSpec | None = None,
    *,
    max_new_tokens: AnswerLimit,
    mask: AttentionMask | None = None,
    replace: EmbeddingReplacement | None = None,
    edits: Sequence[Edit] = (),
) -> list[ItemCapture]:
    """Answer a batch greedily; results come in the order of the items.

    Where memory does not suffice, the batch is run in halves.

    Args:
        vlm: the model.
        inputs: the batch, or one that is prepared already.
        capture: quantities to capture in the same pass; none by default.
        max_new_tokens: longest answer, for all items or by task.
        mask: image tokens hidden from attention.
        replace: image tokens whose embedding is replaced.
        edits: edits of the residual stream, made in this order and before it is read.

    Raises:
        InputError: an item that cannot be prepared, does not leave its answer room in the context
            or does not fit into memory by itself, an unknown position, or an intervention that
            does not fit the batch or the model.
    """
    spec = CaptureSpec() if capture is None else capture
    if unknown := sorted(set(spec.hidden) - set(POSITIONS)):
        raise InputError(f"position {unknown[0]!r} is unknown; use {' or '.join(POSITIONS)}")
    items = inputs.inputs if isinstance(inputs, Prepared) else inputs
    limits = [longest_answer(max_new_tokens, item.item_id, item.task) for item in items]
    if limits and min(limits) < 1:
        raise InputError(f"max_new_tokens is {min(limits)}; it must be at least 1")

    def run(prepared: Prepared, rows: slice) -> list[ItemCapture]:
        hidden = mask.part(rows) if mask else None
        replaced = replace.part(rows) if replace else None
        if hidden is not None:
            prepared, hidden = hidden.dropped(vlm, prepared, read=spec.reads_image_tokens)
        return _Pass(vlm, prepared, spec, limits[rows], hidden, replaced, edits).run()

    return run_to_fit(vlm, inputs, run, max_new_tokens=max_new_tokens)


class _Pass:
    """One batch on its way through prefill and decode steps."""

    def __init__(
        self,
        vlm: VLM,
        prepared: Prepared,
        spec: CaptureSpec,
        limits: Sequence[int],
        mask: AttentionMask | None,
        replace: EmbeddingReplacement | None,
        edits: Sequence[Edit],
    ) -> None:
        self.vlm = vlm
        self.prepared = prepared
        self.spec = spec
        self.limits = np.array(limits)  # longest answer of each item
        self.edits = edits
        self.decoder = Decoder(vlm, prepared, replace.features(prepared) if replace else None)
        if mask is not None:  # items of one image may have different tokens hidden
            self.decoder.shared = None
        self.attention = AttentionTap(
            prepared.image_index,
            n_layers=vlm.n_layers,
            collect=spec.attention or spec.head_rows,
            keep=mask.columns(prepared) if mask else None,
        )
        self.residual = ResidualTap(
            n_layers=vlm.n_layers,
            hidden=bool(spec.hidden) or spec.lens or spec.contributions,
            components=spec.contributions,
            image_tokens=ImageTokens(prepared.image_index, prepared.n_image_tokens)
            if spec.residual_update
            else None,
        )
        n_items = prepared.n_items
        self.tokens: list[list[int]] = [[] for _ in range(n_items)]
        self.logprobs: list[list[float]] = [[] for _ in range(n_items)]
        self.close_choices = np.zeros(n_items, dtype=int)
        self.finished = np.zeros(n_items, dtype=bool)
        self.rows_sum: torch.Tensor | None = None  # (B, L, H or 1, S_max)
        self.n_queries = torch.ones(n_items, device=vlm.device)
        self.hidden: dict[str, torch.Tensor] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.given: list[GivenLogprobs | None] = [None] * n_items

    def run(self) -> list[ItemCapture]:
        with ExitStack() as stack:
            stack.enter_context(attached(self.vlm, self.residual, self.edits))
            stack.enter_context(active(self.attention))
            if self.decoder.shared is not None:
                self._run_prefixes(self.decoder.shared)
            logits = self.decoder.prefill()
            self._read_prefill(logits)
            self.residual.image_tokens = None
            self.residual.components = False
            # The prompts' cache is kept only where another answer is to follow it.
            asked = any(item.given for item in self.prepared.inputs)
            prompts = self.decoder.fork() if asked else None
            self._decode(logits)
        if prompts is not None:
            self.given = score_given(prompts, logits)
        return self._results()

    # The prefill

    def _run_prefixes(self, shared: SharedPrefixes) -> None:
        """Run the shared prefixes; only their image tokens are read, once an image."""
        tap, collect = self.residual, self.attention.collect
        image = tap.image_tokens
        if image is not None:
            tap.image_tokens = ImageTokens(*(values[shared.items] for values in image))
        self.attention.collect = False
        self.decoder.prefill_prefixes()
        self.attention.collect = collect
        updates, norms = list(tap.updates), list(tap.image_norms)
        tap.clear()
        tap.image_tokens = None
        tap.updates += [of_layer[shared.prefix_of] for of_layer in updates]
        tap.image_norms += [of_layer[shared.prefix_of] for of_layer in norms]

    def _read_prefill(self, logits: torch.Tensor) -> None:
        log_p = logits.log_softmax(-1)
        pair = top_two(logits)
        finite = logits.isfinite().all(-1)
        self._keep("finite", finite)
        self._keep("entropy", token_entropy(log_p))
        self._keep("margin", top_margin(logits))
        if self.spec.first_tokens:
            # By id: which of two that tie is the likelier may depend on the batch.
            ids = log_p.topk(min(FIRST_TOKENS, log_p.shape[-1])).indices.sort(-1).values
            self._keep("first_logprobs", log_p.gather(-1, ids))
            self._keep("first_ids", ids)
        if self.attention.collect:
            self.rows_sum = self._latest_rows()
        spec, residual = self.spec, self.residual
        if spec.hidden:
            at_prompt_end = residual.stacked_residuals()
            self.hidden["prompt_end"] = at_prompt_end
            if "answer_end" in spec.hidden:
                self.hidden["answer_end"] = torch.full_like(at_prompt_end, float("nan"))
        if spec.lens:
            truth = [item.truth_token_ids for item in self.prepared.inputs]
            stream = residual.stacked_residuals()[:, 1:]
            self._keep_all("lens", layer_margins(self.vlm, stream, truth))
        if spec.contributions:
            self._keep_all("part", contributions(self.vlm, residual, pair))
        if spec.residual_update:
            updates = [update.to(logits.device) for update in residual.updates]
            self._keep("update", torch.stack(updates, dim=1))
            norms = [of_layer.to(logits.device) for of_layer in residual.image_norms]
            self._keep("image_norms", torch.stack(norms, dim=1))

    def _keep(self, name: str, values: torch.Tensor) -> None:
        self.arrays[name] = values.cpu().numpy()

    def _keep_all(self, prefix: str, values: LensMargins | Contributions) -> None:
        for name, value in values._asdict().items():
            self._keep(f"{prefix}_{name}", value)

    def _latest_rows(self) -> torch.Tensor:
        rows = self.attention.stacked_rows().transpose(0, 1)
        return rows if self.spec.head_rows else rows.mean(2, keepdim=True)

    # Decode steps

    def _decode(self, logits: torch.Tensor) -> None:
        """Feed each answer token back until every row has ended or is long enough.

        The query at an answer token counts for the attention rows only where the token that it
        predicts belongs to the answer.
        """
        wants_answer_end = "answer_end" in self.spec.hidden
        alive = np.flatnonzero(self.arrays["finite"])  # items whose answer goes on
        row_of = np.arange(self.prepared.n_items)  # the decoder's row of each item
        for step in range(self.limits.max()):
            chosen, logprobs, close = _greedy(logits, self.vlm.dtype)
            alive = self._without_broken(alive, logprobs[row_of[alive]])
            self.close_choices[alive] += close[row_of[alive]]
            ends = np.isin(chosen[row_of[alive]], self.vlm.eos_token_ids)
            self.finished[alive[ends]] = True
            alive = alive[~ends]
            if step and len(alive):
                self._add_rows(alive, row_of[alive])
            for item in alive:
                self.tokens[item].append(int(chosen[row_of[item]]))
                self.logprobs[item].append(float(logprobs[row_of[item]]))
            whole = self.limits[alive] == step + 1  # answers that may not grow any more
            if not wants_answer_end:  # their last tokens need not be read
                alive, whole = alive[~whole], whole[~whole]
            if not len(alive):
                return
            n_rows = logits.shape[0]
            if n_rows - len(alive) >= _DROP_SHARE * n_rows:
                chosen = chosen[row_of[alive]]
                self._drop(row_of[alive])
                row_of[alive] = np.arange(len(alive))
            self._clear()
            logits = self.decoder.step(torch.as_tensor(chosen, device=logits.device))
            if wants_answer_end:
                stream = self.residual.stacked_residuals()
                self.hidden["answer_end"][alive] = stream[row_of[alive]]
            alive = alive[~whole]

    def _without_broken(self, alive: np.ndarray, logprobs: np.ndarray) -> np.ndarray:
        """Give up the items whose logits are no longer finite: half an answer is none."""
        broken = ~np.isfinite(logprobs)
        for item in alive[broken]:
            self.arrays["finite"][item] = False
            self.tokens[item].clear()
            self.logprobs[item].clear()
            if "answer_end" in self.hidden:
                self.hidden["answer_end"][item] = float("nan")
        return alive[~broken]

    def _add_rows(self, items: np.ndarray, rows: np.ndarray) -> None:
        self.n_queries[items] += 1
        if self.rows_sum is not None:
            self.rows_sum[items] += self._latest_rows()[rows]

    def _drop(self, kept: np.ndarray) -> None:
        rows = torch.as_tensor(kept)
        self.decoder.select(rows)
        self.attention.select(rows)

    def _clear(self) -> None:
        self.residual.clear()
        # After the prefill the stream is of use for `answer_end` only.
        self.residual.hidden = "answer_end" in self.spec.hidden

    # Results

    def _results(self) -> list[ItemCapture]:
        answers = self.vlm.decode([tuple(tokens) for tokens in self.tokens])
        if self.rows_sum is not None:
            mean_rows = self.rows_sum / self.n_queries.to(self.rows_sum.device)[:, None, None, None]
            self._keep("rows", mean_rows)
        for position in self.spec.hidden:
            self._keep(position, self.hidden[position])
        self.arrays["intact"] = self._intact()
        return [self._item(row, answer) for row, answer in enumerate(answers)]

    def _intact(self) -> np.ndarray:
        """(B,) whether all that was measured of an item is finite."""
        intact = np.ones(self.prepared.n_items, dtype=bool)
        for name in _MEASURED:
            if name in self.arrays:
                intact &= _finite_items(self.arrays[name])
        if "answer_end" in self.arrays:  # there is none where there are no tokens
            silent = np.array([not tokens for tokens in self.tokens])
            intact &= silent | _finite_items(self.arrays["answer_end"])
        return intact

    def _item(self, row: int, answer: str) -> ItemCapture:
        prepared, arrays, spec = self.prepared, self.arrays, self.spec
        grid = prepared.grids[row]
        optional: dict[str, Any] = {}
        if self.rows_sum is not None:
            rows = arrays["rows"][row, :, :, : grid.n_tokens]
            if spec.attention:
                optional["attention"] = rows.mean(1)
            if spec.head_rows:
                optional["head_rows"] = rows
        if spec.hidden:
            optional["hidden"] = {position: arrays[position][row] for position in spec.hidden}
        if spec.first_tokens:
            optional["first_token_ids"] = arrays["first_ids"][row]
            optional["first_token_logprobs"] = arrays["first_logprobs"][row]
        if spec.residual_update:
            optional["residual_update"] = arrays["update"][row]
            optional["image_norms"] = arrays["image_norms"][row, :, : grid.n_tokens]
        if spec.lens:
            optional["lens_decision_margin"] = arrays["lens_decision"][row]
            optional["lens_truth_margin"] = arrays["lens_truth"][row]
        if spec.contributions:
            first, second = arrays["part_pair"][row].tolist()
            optional["pair"] = (first, second)
            optional["contribution_embed"] = float(arrays["part_embed"][row])
            optional["attention_contribution"] = arrays["part_attention"][row]
            optional["mlp_contribution"] = arrays["part_mlp"][row]
            optional["head_contribution"] = arrays["part_heads"][row]
        return ItemCapture(
            item_id=prepared.inputs[row].item_id,
            answer=answer,
            token_ids=tuple(self.tokens[row]),
            token_logprobs=np.array(self.logprobs[row], dtype=np.float64),
            finished=bool(self.finished[row]),
            flags=self._flags(row),
            first_token_entropy=float(arrays["entropy"][row]),
            decision_margin=float(arrays["margin"][row]),
            close_choices=int(self.close_choices[row]),
            grid_h=grid.height,
            grid_w=grid.width,
            n_prompt_tokens=prepared.prompt_lengths[row],
            given=self.given[row],
            **optional,
        )

    def _flags(self, row: int) -> tuple[str, ...]:
        flags = {
            "no_answer_tokens": not self.tokens[row],
            "truncated": bool(self.tokens[row]) and not self.finished[row],
            "non_finite": not self.arrays["finite"][row],
            "non_finite_inside": bool(
                self.arrays["finite"][row] and not self.arrays["intact"][row]
            ),
            "no_truth_tokens": self.spec.lens and not self.prepared.inputs[row].truth_token_ids,
        }
        return tuple(name for name, holds in flags.items() if holds)


def _finite_items(values: np.ndarray) -> np.ndarray:
    """(B,) whether all values of each item are finite."""
    return np.isfinite(values).reshape(len(values), -1).all(axis=1)


def _greedy(logits: torch.Tensor, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the likeliest token of each row, its log-probability and whether another ties."""
    chosen, logprobs = likeliest_tokens(logits)
    first, second = logits.topk(2).values.unbind(-1)
    close = first - second < tie_tolerance(logits, dtype)[:, 0]
    return chosen.cpu().numpy(), logprobs.cpu().numpy(), close.cpu().numpy()
