"""Data that the probes of one model are fitted on, read from the study's tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from vrp.data.scoring import agreement
from vrp.errors import InputError
from vrp.probing.attention import concatenate_maps
from vrp.probing.folds import ProbeItems
from vrp.tables.answers import ANSWERS
from vrp.tables.arrays import as_array, as_matrices
from vrp.tables.attention import ATTENTION
from vrp.tables.captured import captured, is_captured
from vrp.tables.hidden import EMBED, written_hidden_table
from vrp.tables.items import ITEMS, read_asked_items
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_batches, read_table
from vrp.tables.schema import TableSchema

PROMPT_END, ANSWER_END = "prompt_end", "answer_end"
_NOT_FINITE = "non-finite hidden states or margins"
# Items whose attention maps are in memory at a time, before they are brought to one grid.
_ITEMS_AT_ONCE = 4096
# Bytes of hidden states that are read at a time.
_BYTES_AT_ONCE = 2**25


@dataclass(frozen=True)
class Layers:
    """Hidden states of the used items at one position, read layer by layer."""

    paths: tuple[Path, ...]
    """All shards."""
    schema: TableSchema
    """Their schema."""
    rows: NDArray[np.bool_]
    """(n_items of the study,) the items used, in the order of item_id."""
    position: str = PROMPT_END
    """Token that they are of."""

    @property
    def names(self) -> list[str]:
        """Decoder layers, first to last; the embedding is not one of them."""
        return [name for name in self.schema.columns.names[2:] if name != EMBED]

    @property
    def width(self) -> int:
        """Neurons of a layer."""
        return int(self.schema.columns.field(EMBED).type.list_size)

    @cached_property
    def item_ids(self) -> pl.Series:
        """Ids of the used items, ascending.

        Raises:
            InputError: as `read_table`; the files hold other items than the study.
        """
        ids = item_ids_at(self.paths, self.schema, self.position)
        if len(ids) != self.rows.size:
            raise InputError(
                f"{self.paths[0].parent}: {len(ids)} items at {self.position}, {self.rows.size} in "
                "the signals; rerun the extract stage"
            )
        return ids.filter(self.rows)

    def pieces(self, layer: str) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        """Rows among the used items, and their states (k, d_model) as stored, a few at a time."""
        ids = self.item_ids
        n_rows = max(1, _BYTES_AT_ONCE // (self.width * np.dtype(np.float32).itemsize))
        for batch in read_batches(self.paths, self.schema, columns=[layer], n_rows=n_rows):
            here = batch.filter(pl.col("item_id").is_in(ids.implode()), position=self.position)
            if len(here):
                yield ids.search_sorted(here["item_id"]).to_numpy(), here[layer].to_numpy()

    def read(self, layer: str) -> NDArray[np.float32]:
        """(n_used, d_model), one column of the files, read piece by piece into one new array."""
        found = np.empty((len(self.item_ids), self.width), np.float32)
        for rows, states in self.pieces(layer):
            found[rows] = states
        return found


@dataclass(frozen=True)
class Inputs:
    """Data that the probes of one model are fitted on, one row per used item."""

    items: ProbeItems
    layers: Layers
    blind_layers: Layers | None
    answer_end: Layers | None
    """States at the answer's last token; None where they were not captured."""
    margins: NDArray[np.floating] | None
    """(n, n_layers) decision margins; None where they were not captured."""
    signals: pl.DataFrame
    """Signals of the used items."""
    agreement: NDArray[np.float64]
    """(n,) share of the annotators who gave the most frequent answer; NaN without answers."""
    questions: NDArray[np.object_]
    answers: NDArray[np.object_]
    maps: "Maps | None"
    """Attention maps; None where they were not captured or no probe wants them."""
    left_out: tuple[str, ...]
    """Reason for each item that is left out."""
    without_map: tuple[str, ...]
    """Reason for each used item that has no usable map."""


class Maps(NamedTuple):
    """Attention maps of the used items."""

    features: NDArray[np.float32]
    """(n, d) the maps of all layers, brought to one grid; 0 in place of what is not finite."""
    usable: NDArray[np.bool_]
    """(n,) whether all of an item's maps are finite."""


def read_inputs(
    table: pl.DataFrame,
    items: Path,
    answers: Sequence[Path],
    attention: Sequence[Path],
    hidden: Sequence[Path],
    lens: Sequence[Path],
    blind_hidden: Sequence[Path],
) -> Inputs:
    """Read everything but the hidden states themselves, for the items that can be used.

    Args:
        table: the signals.
        items: the items table.
        answers: its shards, as of the tables that follow.
        attention: none where no probe wants maps.
        hidden: hidden states.
        lens: decision margins.
        blind_hidden: hidden states of the run without the image; none where there was none.

    Raises:
        InputError: a table is missing, or the tables hold different items.
    """
    questions = read_asked_items(items, ITEMS.only("question", "answers"))
    parsed = read_table(answers, ANSWERS.only("parsed", "note"))
    margins = read_table(lens, LENS.only("decision_margin"))
    map_notes = read_table(attention, ATTENTION.only("note")) if attention else None
    for name, other in (("items", questions), ("answers", parsed), ("lens", margins),
                        ("attention", map_notes)):  # fmt: skip
        if other is not None and not other["item_id"].equals(table["item_id"]):
            raise InputError(f"{name} and signals hold different items; rerun the metrics stage")
    # One set of items for all probes and guards, so that their differences are paired.
    usable = _finite_rows(hidden, len(table))
    margin_rows = None
    if is_captured(margins["decision_margin"]):
        margin_rows = as_array(margins["decision_margin"]).astype(np.float64)
        usable &= np.isfinite(margin_rows).all(axis=1)
    if blind_hidden:
        usable &= _finite_rows(blind_hidden, len(table))
    used = table.filter(usable)
    maps = _maps(attention, used["item_id"])
    without_map: list[str] = []
    if map_notes is not None and maps is not None:
        notes = map_notes.filter(usable)["note"].filter(~maps.usable)
        without_map = notes.fill_null("no usable attention map").to_list()
    return Inputs(
        items=ProbeItems.of(
            used["item_id"].to_numpy(), used["correct"].fill_null(False).to_numpy(),
            # Numbers sort as the images' names do, and faster.
            used["group"].rank("dense").to_numpy(), used["task"].to_numpy(),
            used["correct"].is_not_null().to_numpy(),
        ),
        layers=_layers(hidden, usable),
        blind_layers=_layers(blind_hidden, usable) if blind_hidden else None,
        answer_end=_answer_end(hidden, usable),
        margins=None if margin_rows is None else margin_rows[usable],
        signals=used,
        agreement=np.array(
            [agreement(texts) for texts in questions.filter(usable)["answers"].to_list()]
        ),
        questions=questions.filter(usable)["question"].to_numpy(),
        answers=parsed.filter(usable)["parsed"].fill_null("").to_numpy(),
        maps=maps,
        left_out=tuple(
            parsed.filter(~usable & table["correct"].is_not_null().to_numpy())["note"]
            .fill_null(_NOT_FINITE)
            .to_list()
        ),
        without_map=tuple(without_map),
    )  # fmt: skip


def _maps(paths: Sequence[Path], item_ids: pl.Series) -> Maps | None:
    """The maps of these items on one grid, read a few thousand items at a time."""
    features, usable = np.empty((0, 0), np.float32), np.zeros(len(item_ids), dtype=bool)
    n_null = n_rows = 0
    columns = ("grid_h", "grid_w", "maps")
    for batch in read_batches(paths, ATTENTION, columns=columns, n_rows=_ITEMS_AT_ONCE):
        n_null, n_rows = n_null + batch["maps"].null_count(), n_rows + len(batch)
        some = batch.filter(pl.col("item_id").is_in(item_ids.implode()))
        if some.is_empty() or not is_captured(some["maps"]):
            continue
        maps = [
            matrix.reshape(-1, height, width)
            for matrix, height, width in zip(
                as_matrices(some["maps"]), some["grid_h"], some["grid_w"], strict=True
            )
        ]
        rows = item_ids.search_sorted(some["item_id"]).to_numpy()
        usable[rows] = [bool(np.isfinite(m).all()) for m in maps]
        found = concatenate_maps([np.nan_to_num(m) for m in maps])
        if not features.size:  # how wide the common grid is shows with the first maps
            features = np.empty((len(item_ids), found.shape[1]), np.float32)
        features[rows] = found
    if not n_rows or not captured("maps", n_null, n_rows):
        return None
    return Maps(features, usable)


def _layers(paths: Sequence[Path], rows: NDArray[np.bool_]) -> Layers:
    return Layers(tuple(paths), written_hidden_table(paths[0]), rows)


def _answer_end(paths: Sequence[Path], rows: NDArray[np.bool_]) -> Layers | None:
    """States at the answer's end, where each item has them."""
    schema = written_hidden_table(paths[0])
    if len(item_ids_at(paths, schema, ANSWER_END)) < len(rows):
        return None
    return Layers(tuple(paths), schema, rows, ANSWER_END)


def _finite_rows(paths: Sequence[Path], n_items: int) -> NDArray[np.bool_]:
    """(n_items,) whether all layers at `prompt_end` are finite; read piece by piece."""
    finite = np.ones(n_items, dtype=bool)
    states = _layers(paths, finite.copy())
    for name in states.schema.columns.names[2:]:
        for rows, piece in states.pieces(name):
            finite[rows] &= np.isfinite(piece).all(axis=1)
    return finite


def item_ids_at(paths: Sequence[Path], schema: TableSchema, position: str) -> pl.Series:
    """Ids of the items that have states at a position, ascending.

    Raises:
        InputError: as `read_table`.
    """
    return read_table(paths, schema, columns=[]).filter(position=position)["item_id"]
