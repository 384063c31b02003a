"""What the explorer shows of one answer alone: attention, lens, samples, interventions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from vrp.explorer.attention import STEP, ItemAttention, add_attention
from vrp.explorer.chunks import Chunk
from vrp.study.results import ModelResults
from vrp.tables.arrays import as_array
from vrp.tables.captured import is_captured
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.lens import LENS
from vrp.tables.schema import TableSchema
from vrp.tables.trace import TRACE

_BY_LAYER = (
    "truth_margin", "decision_margin", "attention_contribution", "mlp_contribution",
    "residual_update",
)  # fmt: skip
_OUTCOME = ("condition", "seed", "answer", "correct", "changed", "decision_margin")
_ROWS_OF: tuple[tuple[TableSchema, tuple[str, ...]], ...] = (
    (MASK, (*_OUTCOME, "n_masked")),
    (ABLATE, (*_OUTCOME, "layer", "n_neurons")),
    (TRACE, ("kind", "layer", "last_layer", "margin", "same_token")),
)


@dataclass
class BlockCollector:
    """Collects the attention of items as it is read, and gives each block away once it is whole.

    Shards hold consecutive items, so that few blocks wait at a time, whatever the shards' order.
    """

    item_ids: Sequence[str]
    """All items in the explorer's order."""
    starts: Sequence[int]
    """Where each block begins, and where the last one ends (`cut_points`)."""
    _waiting: dict[int, dict[str, ItemAttention]] = field(default_factory=dict, init=False)

    def blocks(
        self, attention: Iterable[tuple[str, ItemAttention]]
    ) -> Iterator[tuple[int, list[ItemAttention | None]]]:
        """Yield each block's number and the attention of its items; None where there is none."""
        block_of = {
            item_id: block
            for block in range(len(self.starts) - 1)
            for item_id in self._members(block)
        }
        done = set()
        for item_id, found in attention:
            block = block_of.get(item_id)
            if block is None:
                continue
            waiting = self._waiting.setdefault(block, {})
            waiting[item_id] = found
            if len(waiting) == len(self._members(block)):
                done.add(block)
                yield block, self._give_away(block)
        for block in range(len(self.starts) - 1):
            if block not in done:
                yield block, self._give_away(block)

    def _members(self, block: int) -> Sequence[str]:
        return self.item_ids[self.starts[block] : self.starts[block + 1]]

    def _give_away(self, block: int) -> list[ItemAttention | None]:
        found = self._waiting.pop(block, {})
        return [found.get(item_id) for item_id in self._members(block)]


@dataclass(frozen=True)
class ModelDetails:
    """A model's tables, to be cut into blocks of items."""

    lens: pl.DataFrame
    samples: pl.DataFrame
    rows: Mapping[str, pl.DataFrame]
    """Table → rows of several an item: mask, ablate and trace."""

    def chunk(self, item_ids: Sequence[str], attention: Sequence[ItemAttention | None]) -> Chunk:
        """Return all that is shown of a block's items."""
        chunk = Chunk()
        place = pl.DataFrame({"item_id": item_ids}, schema={"item_id": pl.String}).with_row_index(
            "item"
        )
        add_attention(chunk, attention)
        _add_lens(chunk, _of_block(place, self.lens))
        _add_samples(chunk, _of_block(place, self.samples))
        for table, columns in _ROWS_OF:
            if len(self.rows[table.name]):
                _add_rows(chunk, table.name, _of_block(place, self.rows[table.name]), columns)
        return chunk


def read_details(model: ModelResults) -> ModelDetails:
    """Read a model's tables but for attention; those that were not made have no rows.

    Raises:
        InputError: a table is broken.
    """
    return ModelDetails(
        model.table(LENS),
        model.table(CONSISTENCY),
        {table.name: model.table(table) for table, _ in _ROWS_OF},
    )


def _of_block(place: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the block's items, with the item's place in the block."""
    return place.join(rows, on="item_id", how="inner", maintain_order="left_right")


def _add_lens(chunk: Chunk, rows: pl.DataFrame) -> None:
    if rows.is_empty():
        return
    chunk.add_integers("lens_item", rows["item"])
    chunk.add_words("lens_note", rows["note"].to_list())
    for name in _BY_LAYER:
        if is_captured(rows[name]):
            chunk.add_rounded(name, as_array(rows[name]), step=STEP)


def _add_samples(chunk: Chunk, rows: pl.DataFrame) -> None:
    if rows.is_empty():
        return
    chunk.add_integers("sample_item", rows["item"])
    chunk.add_words("sample_note", rows["note"].to_list())
    chunk.add_words("majority", rows["majority"].to_list())
    chunk.add_integers("n_samples", rows["answers"].list.len())
    chunk.add_words("samples", rows["answers"].explode(empty_as_null=False).to_list())
    exact = rows["exact_answers"].list.len().fill_null(0)
    chunk.add_integers("n_exact", exact)
    known = rows.filter(exact > 0)
    chunk.add_words("exact_answers", known["exact_answers"].explode().to_list())
    chunk.add_numbers("exact_probabilities", known["exact_probabilities"].explode())
    chunk.add_numbers("unresolved", rows["unresolved"].fill_null(np.nan))


def _add_rows(chunk: Chunk, table: str, rows: pl.DataFrame, columns: Sequence[str]) -> None:
    chunk.add_integers(f"{table} item", rows["item"])
    for name in columns:
        column: Any = rows[name]
        if column.dtype == pl.String:
            chunk.add_words(f"{table} {name}", column.to_list())
        elif name.endswith("margin"):
            chunk.add_rounded(f"{table} {name}", column, step=STEP)
        else:
            chunk.add_integers(f"{table} {name}", column)
