"""From items to a prefilled cache, and decode steps from there: shared by all ways to answer."""

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from PIL import Image
from torch import nn
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vrp.errors import InputError
from vrp.vlm.batching import AnswerLimit, VlmInput, longest_answer, require_context
from vrp.vlm.families.base import Grid, Positions
from vrp.vlm.model import VLM
from vrp.vlm.out_of_memory import split_to_fit
from vrp.vlm.prompt_layout import Layout, SharedPrefixes, image_index, share_prefixes

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prepared:
    """A tokenised, padded batch with its images encoded; serves any number of prefills."""

    inputs: tuple[VlmInput, ...]
    """The items, in order."""
    input_ids: torch.Tensor
    """(B, T) prompts, image placeholders expanded; padded on the left or, where prefixes are
    shared, on the left of both the prefixes and what follows them."""
    attention_mask: torch.Tensor
    """(B, T) 0 on padding."""
    positions: Positions
    """Rotary positions, per item."""
    features: tuple[torch.Tensor, ...]
    """Per item (S_i, d_model) image embeddings; items of one image share the tensor."""
    grids: tuple[Grid, ...]
    """Per item, the layout of its image tokens."""
    image_index: torch.Tensor
    """(B, S_max) positions of the image tokens in the padded prompt; 0 beyond an item's own."""
    prompt_lengths: tuple[int, ...]
    """Per item, prompt tokens without padding."""
    shared: SharedPrefixes | None = None
    """What several prompts begin with, and is run once; None where all is run for each item."""

    @property
    def n_items(self) -> int:
        """Items B."""
        return len(self.inputs)

    @property
    def n_image_tokens(self) -> torch.Tensor:
        """(B,) image tokens S_i of each item."""
        return self.image_index.new_tensor([grid.n_tokens for grid in self.grids])


class PromptPart(NamedTuple):
    """The part of a batch's prompts that a forward runs."""

    prepared: Prepared
    """The batch."""
    start: int
    """The first of the padded prompts' columns that are run."""


_RUNNING: ContextVar[PromptPart | None] = ContextVar("vrp_prompt_part", default=None)


def running_part() -> PromptPart | None:
    """Return the part of the prompts that is being run; None in decode steps."""
    return _RUNNING.get()


@torch.inference_mode()
def prepare(vlm: VLM, inputs: Sequence[VlmInput], *, max_new_tokens: AnswerLimit = 0) -> Prepared:
    """Tokenise a batch and encode each of its images once.

    Args:
        vlm: the model.
        inputs: the batch.
        max_new_tokens: longest answer, for all items or by task, which has to fit the context
            behind the prompt.

    Raises:
        InputError: no items, a question that holds an image placeholder, an image that cannot be
            used, or a prompt that, with its answer, is longer than the model's context.
    """
    if not inputs:
        raise InputError("a batch needs at least one item")
    grids = tuple(vlm.grid(item.image.size) for item in inputs)
    prompts = expanded_prompts(vlm, [item.question for item in inputs], grids)
    lengths = tuple(len(prompt) for prompt in prompts)
    require_contexts(vlm, inputs, lengths, max_new_tokens)
    input_ids, attention_mask = left_padded(vlm, prompts)
    positions = vlm.family.positions(vlm.model, input_ids, attention_mask, grids)
    apart = Layout(input_ids, attention_mask, positions, None)
    layout = share_prefixes(vlm, inputs, prompts, apart)
    return Prepared(
        inputs=tuple(inputs),
        **layout._asdict(),
        features=_encode_once(vlm, inputs, grids),
        grids=grids,
        image_index=image_index(vlm, layout.input_ids, [grid.n_tokens for grid in grids]),
        prompt_lengths=lengths,
    )


def require_contexts(
    vlm: VLM, inputs: Sequence[VlmInput], prompt_lengths: Sequence[int], limit: AnswerLimit
) -> None:
    """Refuse a batch in which a prompt and its answer do not fit the model's context.

    Raises:
        InputError: naming the first such item and both lengths.
    """
    for item, n_tokens in zip(inputs, prompt_lengths, strict=True):
        longest = longest_answer(limit, item.item_id, item.task)
        require_context(vlm, item.item_id, n_tokens, longest)


def run_to_fit(
    vlm: VLM,
    inputs: Sequence[VlmInput] | Prepared,
    run: Callable[[Prepared, slice], list[Result]],
    *,
    max_new_tokens: AnswerLimit,
) -> list[Result]:
    """Prepare a batch and run it or, where memory does not suffice, its halves.

    Args:
        vlm: the model.
        inputs: the batch, or one that is prepared already; its halves are prepared again.
        run: the results of a prepared part; the slice says which items of the batch it holds.
        max_new_tokens: longest answer, for all items or by task.

    Returns:
        One result for each item, in the order of the items.

    Raises:
        InputError: an item that cannot be prepared, does not leave its answer room in the context
            or does not fit into memory by itself.
    """
    given = inputs if isinstance(inputs, Prepared) else None
    items = list(inputs.inputs if isinstance(inputs, Prepared) else inputs)
    if given is not None:  # perhaps for shorter answers
        require_contexts(vlm, items, given.prompt_lengths, max_new_tokens)

    def run_part(rows: slice) -> list[Result]:
        prepared = given
        if prepared is None or rows != slice(0, prepared.n_items):
            prepared = prepare(vlm, items[rows], max_new_tokens=max_new_tokens)
        return run(prepared, rows)

    return split_to_fit([item.item_id for item in items], run_part)


def expanded_prompts(vlm: VLM, questions: Sequence[str], grids: Sequence[Grid]) -> list[list[int]]:
    """Return the token ids of each prompt, with as many image tokens as its image has."""
    # Each prompt holds one placeholder, which stands for all of them.
    rows = vlm.family.prompt_token_ids(questions)
    image = vlm.image_token_id
    expanded = []
    for row, grid in zip(rows, grids, strict=True):
        at = row.index(image)
        expanded.append(row[:at] + [image] * grid.n_tokens + row[at + 1 :])
    return expanded


def left_padded(vlm: VLM, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (B, T) token ids and attention mask of prompts, on the model's device."""
    # On the left, so that the last position of every row is `prompt_end`, and answers line up.
    longest = max(len(prompt) for prompt in prompts)
    pad = vlm.eos_token_ids[0]  # any but the image's token would do: padding is masked
    ids = [[pad] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=vlm.device), torch.tensor(mask, device=vlm.device)


def _encode_once(
    vlm: VLM, inputs: Sequence[VlmInput], grids: Sequence[Grid]
) -> tuple[torch.Tensor, ...]:
    # A study asks several questions about an image, and encoding it is most of an item's cost.
    place: dict[str | int, int] = {}
    images: list[Image.Image] = []
    for item in inputs:
        key = item.image_key or id(item.image)
        if key not in place:
            place[key] = len(images)
            images.append(item.image)
    encoded = vlm.family.encode_images(vlm.model, images)
    features = tuple(encoded[place[item.image_key or id(item.image)]] for item in inputs)
    for item, feature, grid in zip(inputs, features, grids, strict=True):
        if feature.shape[0] != grid.n_tokens:
            raise InputError(
                f"item {item.item_id!r}: its image gave {feature.shape[0]} embeddings where a grid "
                f"of {grid.height}×{grid.width} is due; do items with one image_key differ in size?"
            )
    return features


def cache_argument(model_class: type[nn.Module]) -> str:
    """Return the name under which a model class takes its key-value cache.

    Versions of transformers differ in it; the type is what they agree on.

    Raises:
        InputError: it takes none.
    """
    for name, parameter in inspect.signature(model_class.forward).parameters.items():
        if "Cache" in str(parameter.annotation):
            return name
    raise InputError(f"{model_class.__name__} takes no key-value cache, and cannot answer")


class Decoder:
    """A prefilled batch whose rows can be continued, dropped and repeated."""

    def __init__(
        self, vlm: VLM, prepared: Prepared, features: Sequence[torch.Tensor] | None = None
    ) -> None:
        """Bind a batch; `features` stand in for its image embeddings where given."""
        self.vlm = vlm
        self.prepared = prepared
        self.features = prepared.features if features is None else tuple(features)
        self.attention_mask = prepared.attention_mask
        self.positions = prepared.positions.first_answer
        # Where a token's embedding differs between items, so does all that follows it.
        self.shared = prepared.shared if features is None else None
        # Made by the model, it would drop what sliding layers no longer see, and image tokens
        # would be elsewhere in their keys than in the prompt; masks keep the window instead.
        self.cache: Any = DynamicCache()
        self._cache_argument = cache_argument(type(vlm.model))

    def prefill(self) -> torch.Tensor:
        """Run the prompts; return raw logits (B, V) of the first answer token, in float32.

        Of prefixes that are shared, what follows them; they have been run with
        `prefill_prefixes`, or are now.
        """
        shared, everyone = self.shared, slice(None)
        if shared is None:
            return self._run_prompts(everyone, everyone, self.features)
        if not self.cache.get_seq_length():
            self.prefill_prefixes()
        behind = slice(shared.n_columns, None)
        return self._run_prompts(everyone, behind, None if shared.hold_image else self.features)

    def run_last(self) -> torch.Tensor:
        """Run the prompts' last token behind what is cached; return its logits, as `prefill`."""
        last = slice(self.prepared.input_ids.shape[1] - 1, None)
        return self._run_prompts(slice(None), last, None)

    def prefill_prefixes(self) -> None:
        """Run each shared prefix once, and hand it on to the items that have it."""
        shared = self.shared
        assert shared is not None
        features = [self.features[item] for item in shared.items.tolist()]
        shown = features if shared.hold_image else None
        self._run_prompts(shared.items, slice(shared.n_columns), shown)
        self.cache.batch_select_indices(shared.prefix_of)

    def _run_prompts(
        self,
        rows: torch.Tensor | slice,
        columns: slice,
        features: Sequence[torch.Tensor] | None,
    ) -> torch.Tensor:
        """Run columns of some rows' prompts behind what is cached of them.

        Args:
            rows: of the batch.
            columns: of the padded prompts.
            features: image embeddings of these rows; None where the columns hold no image.
        """
        family, prepared = self.vlm.family, self.prepared
        ids = prepared.input_ids[rows, columns]
        images: dict[str, Any] = {}
        if features is not None and any(map(len, features)):
            joined = family.join_features(features)
            images["mm_encoder_outputs"] = {
                "image": BaseModelOutputWithPooling(pooler_output=joined)
            }
        running = _RUNNING.set(PromptPart(prepared, columns.start or 0))
        try:
            output = self.vlm.model(
                input_ids=ids,
                attention_mask=prepared.attention_mask[rows, : columns.stop],
                position_ids=prepared.positions.prompt[..., rows, columns],
                use_cache=True,
                logits_to_keep=1,  # of a whole prompt they would be (B, T, V)
                **images,
                **{self._cache_argument: self.cache},
                **family.prefill_inputs(ids),
            )
        finally:
            _RUNNING.reset(running)
        return output.logits[:, -1].float()

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token (B,) to each row; return raw logits (B, V) of the next, in float32."""
        family, ids = self.vlm.family, tokens[:, None]
        self.attention_mask = torch.cat(
            [self.attention_mask, torch.ones_like(ids, dtype=self.attention_mask.dtype)], dim=1
        )
        output = self.vlm.model(
            input_ids=ids,
            attention_mask=self.attention_mask,
            position_ids=family.step_positions(self.positions),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: self.cache},
            **family.step_inputs(ids),
        )
        self.positions = self.positions + 1
        return output.logits[:, -1].float()

    def fork(self) -> "Decoder":
        """Return a decoder at the same point, to be continued on its own; no tensor is copied.

        This is safe because nothing writes into the tensors of a cache: a step appends by making
        new ones, and so does selecting rows.
        """
        twin = copy(self)
        twin.cache = copy(self.cache)
        twin.cache.layers = [copy(layer) for layer in self.cache.layers]
        return twin

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times.

        The indices stay on the CPU, from where they reach a cache spread over several devices.
        """
        self.cache.batch_select_indices(rows)
        self.attention_mask = self.attention_mask[rows]
        self.positions = self.positions[rows]
