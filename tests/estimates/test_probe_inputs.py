"""Hidden states read piece by piece: the same numbers, and one layer in memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vrp.errors import InputError
from vrp.estimates import probe_inputs
from vrp.estimates.probe_inputs import Layers
from vrp.tables.hidden import hidden_table
from vrp.tables.parquet_files import write_table

N, D_MODEL = 60, 8
STATUS = Path("/proc/self/status")


def write_hidden(folder, n=N, d_model=D_MODEL, *, n_shards=3, dtype="float16"):
    """Two layers at both positions, items dealt out to shards; returns paths, schema, states."""
    random = np.random.default_rng(0)
    schema = hidden_table(n_layers=2, d_model=d_model, dtype=dtype)
    states = {
        (name, position): random.standard_normal((n, d_model), dtype=np.float32).astype(dtype)
        for name in schema.columns.names[2:]
        for position in ("answer_end", "prompt_end")
    }
    paths = []
    for shard in range(n_shards):
        rows = np.arange(shard, n, n_shards)[::-1]
        ids = [f"toy/{row:06d}" for row in rows]
        columns = {
            "item_id": ids * 2,
            "position": ["prompt_end"] * len(ids) + ["answer_end"] * len(ids),
        }
        for name in schema.columns.names[2:]:
            both = [states[name, position][rows] for position in ("prompt_end", "answer_end")]
            columns[name] = pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate(both).ravel()), type=schema.columns.field(name).type
            )
        paths.append(folder / f"{shard:03d}.parquet")
        write_table(paths[-1], schema, columns, provenance={})
    return tuple(paths), schema, states


@pytest.mark.parametrize("bytes_at_once", [1, 7 * 4 * D_MODEL, 2**25])
@pytest.mark.parametrize("position", ["prompt_end", "answer_end"])
def test_a_layer_is_the_same_whatever_the_pieces(tmp_path, monkeypatch, bytes_at_once, position):
    monkeypatch.setattr(probe_inputs, "_BYTES_AT_ONCE", bytes_at_once)
    paths, schema, states = write_hidden(tmp_path)
    used = np.arange(N) % 3 != 1
    layers = Layers(paths, schema, used, position)
    found = layers.read("layer_01")
    assert found.dtype == np.float32
    assert np.array_equal(found, states["layer_01", position][used].astype(np.float32))
    assert layers.item_ids.to_list() == [f"toy/{row:06d}" for row in np.flatnonzero(used)]


def test_items_with_a_value_that_is_not_finite_are_found_in_every_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(probe_inputs, "_BYTES_AT_ONCE", 5 * 4 * D_MODEL)
    random = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Spoilt(random(seed)))
    paths, *_ = write_hidden(tmp_path)
    finite = probe_inputs._finite_rows(paths, N)
    # At `prompt_end`: of the embedding item 7, of the layers items 11 and 23.
    assert np.flatnonzero(~finite).tolist() == [7, 11, 23]


class Spoilt:
    """Draws in which one value of each second matrix, that at `prompt_end`, is not finite."""

    def __init__(self, random):
        self.random, self.n = random, 0

    def standard_normal(self, shape, dtype):
        drawn = self.random.standard_normal(shape, dtype=dtype)
        drawn[[3, 7, 3, 11, 3, 23][self.n], 2] = [np.nan, np.inf][self.n % 2]
        self.n += 1
        return drawn


def test_other_items_than_the_signals_are_refused(tmp_path):
    paths, schema, _ = write_hidden(tmp_path)
    with pytest.raises(InputError, match="60 items at prompt_end, 61 in the signals; rerun"):
        probe_inputs._finite_rows(paths, 61)
    with pytest.raises(InputError, match="more than once"):
        Layers((*paths, paths[0]), schema, np.ones(80, bool)).read("layer_00")


def test_damaged_pages_are_refused(tmp_path):
    paths, schema, _ = write_hidden(tmp_path)
    content = bytearray(paths[1].read_bytes())
    content[len(content) // 4] ^= 1
    paths[1].write_bytes(content)
    with pytest.raises(InputError, match=r"001\.parquet: is damaged"):
        Layers(paths, schema, np.ones(N, bool)).read("layer_00")


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from vrp.estimates import probe_inputs
from vrp.probing import sweep
from vrp.probing.folds import ProbeItems, plan_folds
from vrp.tables.hidden import written_hidden_table

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

paths = tuple(sorted(Path(sys.argv[1]).glob("*.parquet")))
n = int(sys.argv[2])
probe_inputs._BYTES_AT_ONCE, sweep._ROWS_AT_ONCE, sweep.MAX_STEPS = 2**20, 128, 3
correct = np.arange(n) % 3 > 0
items = ProbeItems.of(np.arange(n), correct, np.arange(n) // 40, np.zeros(n))
labelling = sweep.Labelling(items, plan_folds(items, seed="s"))
some = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
sweep.fit_layers_together([("", some)], [labelling], penalties=[0.1])
layers = probe_inputs.Layers(paths, written_hidden_table(paths[0]), np.ones(n, bool))
len(layers.item_ids)
before = peak()
matrices = ((name, layers.read(name)) for name in layers.names)
sweep.fit_layers_together(matrices, [labelling], penalties=[0.1], overwrite=True)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="only Linux tells a process its peak")
def test_one_layer_is_read_and_probed_in_less_than_twice_its_memory(tmp_path):
    """A layer of 100,000 items and 4,096 neurons takes 1.6 GB; the limit there is 4 GB."""
    n, d_model = 40_000, 1024
    write_hidden(tmp_path, n, d_model, n_shards=1)
    words = [sys.executable, "-c", MEMORY, str(tmp_path), str(n)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    layer = n * d_model * np.dtype(np.float32).itemsize
    assert layer < 1024 * int(done.stdout) < 2 * layer
