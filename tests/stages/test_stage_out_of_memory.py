"""A stage whose planned batches do not fit splits them: same tables, same plan, no item lost."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from vrp.errors import InputError
from vrp.running.shard import BATCH_PLAN
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.seal import read_provenance
from vrp.vlm import prefill

pytestmark = pytest.mark.slow

N_ITEMS, BATCH_SIZE = 9, 6


@pytest.fixture
def study(small_study: Callable[..., Any]) -> Any:
    return small_study("llava", n_items=N_ITEMS)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Called with a number of rows: what has more of them runs out of memory from then on.

    Returns the rows of the decode steps that fitted.
    """
    monkeypatch.setattr(gc, "collect", lambda: 0)  # a good part of a second each time
    encode, run, step = prefill._encode_once, prefill.Decoder.prefill, prefill.Decoder.step
    stepped: list[int] = []

    def shrink(most: int) -> list[int]:
        def require(n_rows: int) -> None:
            if n_rows > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        def small_encode(vlm: Any, inputs: Any, grids: Any) -> Any:
            require(len(inputs))
            return encode(vlm, inputs, grids)

        def small_prefill(self: Any) -> torch.Tensor:
            require(self.prepared.n_items)
            return run(self)

        def small_step(self: Any, tokens: torch.Tensor) -> torch.Tensor:
            require(len(tokens))
            stepped.append(len(tokens))
            return step(self, tokens)

        monkeypatch.setattr(prefill, "_encode_once", small_encode)
        monkeypatch.setattr(prefill.Decoder, "prefill", small_prefill)
        monkeypatch.setattr(prefill.Decoder, "step", small_step)
        return stepped

    return shrink


def assert_same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert one.height == other.height > 0
    assert_frame_equal(one, other, check_exact=False, rel_tol=1e-4, abs_tol=1e-5)


@pytest.mark.parametrize("most", [1, 4])
def test_extract(study: Any, small_memory: Any, most: int):
    whole = study.extract(batch_size=BATCH_SIZE, name="whole")
    small_memory(most)
    parts = study.extract(batch_size=BATCH_SIZE, name="parts")
    for name, schema in (("answers", ANSWERS), ("attention", ATTENTION), ("lens", LENS)):
        assert_same(read_table(whole[name], schema), read_table(parts[name], schema))
    planned = [read_provenance(tables["answers"])[BATCH_PLAN] for tables in (whole, parts)]
    assert planned[0] == planned[1]


@pytest.mark.parametrize("most", [1, 3])
def test_consistency(study: Any, small_memory: Any, most: int):
    """Also one item's ten samples and its tree: rows are then the unit, not items."""
    settings = {"batch_size": BATCH_SIZE, "temperature": 1.0, "floor": 0.05}
    whole = read_table(study.consistency(name="whole", **settings), CONSISTENCY)
    assert whole["answers"].list.n_unique().max() > 2
    stepped = small_memory(most)
    parts = read_table(study.consistency(name="parts", **settings), CONSISTENCY)
    assert max(stepped) == most
    assert_same(whole, parts)


@pytest.mark.parametrize("mode", ["attention", "embedding"])
def test_mask(study: Any, small_memory: Any, mode: str):
    tables = study.extract()
    given = [tables["answers"]], [tables["attention"]]
    settings = {
        "batch_size": BATCH_SIZE, "items": 6, "dose_items": 1, "dose": (0.5,), "random_seeds": 2,
        "mode": mode,
    }  # fmt: skip
    whole = read_table(study.mask(*given, name="whole", **settings), MASK)
    small_memory(2)
    assert_same(whole, read_table(study.mask(*given, name="parts", **settings), MASK))


def write_probes(folder: Path, items: pl.DataFrame) -> tuple[Path, Path]:
    predictions, neurons = folder / "predictions.parquet", folder / "neurons.parquet"
    rows = [
        {"item_id": item, "probe": "linear", "layer": 1, "fold": 0, "score": 0.5}
        for item in items["item_id"]
    ]
    write_table(predictions, PREDICTIONS, pl.DataFrame(rows), provenance={})
    ranks = np.random.default_rng(0).permutation(32)
    rows = [
        {"layer": layer, "fold": 0, "neuron": n, "weight": 0.1, "rank": int(ranks[n]),
         "mean": 0.5, "norm": 1.0, "step": 0.1, "best_layer": layer == 1}
        for layer in range(4) for n in range(32)
    ]  # fmt: skip
    write_table(neurons, NEURONS, pl.DataFrame(rows), provenance={})
    return predictions, neurons


def test_ablate(study: Any, small_memory: Any):
    """The prefill that is kept for all edits is made outside of any answer."""
    answers = [study.extract()["answers"]]
    probes = write_probes(study.folder, study.read_items())
    settings = {"batch_size": BATCH_SIZE, "items": 6}
    whole = read_table(study.ablate(answers, *probes, name="whole", **settings), ABLATE)
    small_memory(2)
    parts = study.ablate(answers, *probes, name="parts", **settings)
    assert_same(whole, read_table(parts, ABLATE))


@pytest.mark.parametrize("stage", ["extract", "consistency"])
def test_one_item_that_does_not_fit_stops_in_one_line(study: Any, small_memory: Any, stage: str):
    small_memory(0)
    with pytest.raises(InputError, match=r"item '(pope|vqa)/.*more memory") as caught:
        getattr(study, stage)(batch_size=BATCH_SIZE)
    assert "\n" not in str(caught.value)
    assert not list(study.folder.glob(f"{stage}/**/*.parquet"))


def test_each_task_has_its_own_longest_answer(study: Any):
    """In one batch of four tasks; the other stages bound their answers alike."""
    by_task = {"existence": 1, "counting": 2}
    tables = study.extract(batch_size=N_ITEMS, max_new_tokens=3, max_new_tokens_by_task=by_task)
    whole = study.extract(batch_size=N_ITEMS, max_new_tokens=3, name="whole")
    found, long = (read_table(t["answers"], ANSWERS) for t in (tables, whole))
    task_of = dict(study.read_items().select("item_id", "task").iter_rows())
    rows = zip(found["item_id"], found["token_ids"], long["token_ids"], strict=True)
    for item_id, cut, full in rows:
        limit = by_task.get(task_of[item_id], 3)
        assert cut.to_list() == full.to_list()[:limit]
    lengths = {task_of[i]: len(ids) for i, ids in found.select("item_id", "token_ids").iter_rows()}
    assert lengths == {"existence": 1, "counting": 2, "spatial": 3, "open": 3}
