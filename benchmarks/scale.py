"""Time and peak memory of `vrp metrics` and `vrp probes` as the number of items grows.

    python benchmarks/scale.py                                    10,000 and 100,000 items
    python benchmarks/scale.py --items 1000000 --without-networks

Writes the tables of a study without a model into a folder, in shards of 10,000 items: small in
width (4 layers of 16 dimensions, 2 heads, 6×6 image tokens, 4 items an image), of any length. What
is true of them is known: the decision margin and one neuron of one layer tell right from wrong,
attention tells nothing. Each stage then runs as a fresh process, as in the workflow: wall-clock
time from start to exit, processor time, and peak resident memory.

The stages' probes that train networks or trees in a fixed number of passes can be left out where
hours are too long: what was left out is recorded beside the figures.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from hardware import hardware

from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.columns import vectors
from vrp.tables.consistency import CONSISTENCY, EXACT_COLUMNS
from vrp.tables.estimates import METRICS, PROBES
from vrp.tables.hidden import hidden_table
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.schema import TableSchema
from vrp.tables.shard_list import write_shard_list

RESULT = Path(__file__).parent / "results" / "scale.json"
ITEMS_A_SHARD, ITEMS_AN_IMAGE = 10_000, 4
N_LAYERS, N_HEADS, D_MODEL, GRID = 4, 2, 16, 6
PLANTED_LAYER, PLANTED_NEURON = 2, 11
TASKS = ("existence", "counting", "spatial", "open")
ORIGIN = {"study": "scale", "model": "planted"}
LISTS = {
    "extract": ("answers", "attention", "hidden", "lens"),
    "consistency": ("consistency",),
    "blind": ("blind/hidden",),
}
LIMIT_BYTES = 4 * 2**30

CONFIG = """
study: scale
models: {{planted: {{family: llava, checkpoint: zoo:llava}}}}
metrics: {{bootstrap: {bootstrap}}}
probes: {{bootstrap: {bootstrap}, mlp: {networks}, supervised_attention: {networks}}}
"""


def rows_of(values: np.ndarray) -> pa.Array:
    """(n, d) as lists of d numbers; (n, a, b) as lists of lists."""
    array = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    for size in reversed(values.shape[1:]):
        offsets = np.arange(0, len(array) + 1, size, dtype=np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def constant(value: object, n: int, dtype: pa.DataType) -> pa.Array:
    """The same value in every row."""
    return pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(n, np.int32)), pa.array([value], dtype)
    ).dictionary_decode()


def write(path: Path, schema: TableSchema, columns: Mapping[str, object]) -> None:
    write_table(path, schema, dict(columns), provenance=ORIGIN)


def write_shard(folder: Path, shard: int, first: int, n: int) -> dict[str, object]:
    """Write one shard of every table; return the shard's items."""
    rng = np.random.default_rng([2605, shard])
    number = np.arange(first, first + n)
    images = [
        hashlib.sha256(str(i).encode()).hexdigest()
        for i in range(number[0] // 4, number[-1] // 4 + 1)
    ]
    groups = [images[i // ITEMS_AN_IMAGE - number[0] // ITEMS_AN_IMAGE] for i in number.tolist()]
    ids = [f"planted/{i:09d}" for i in number.tolist()]
    tasks = [TASKS[i % len(TASKS)] for i in number.tolist()]
    correct = rng.random(n) < 0.65
    words = np.where(rng.random(n) < 0.5, "yes", "no").tolist()
    parsed = [w if t == "existence" else "2" for w, t in zip(words, tasks, strict=True)]
    name = f"{shard:05d}.parquet"

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((n, *shape), dtype=np.float32)

    write(
        folder / "answers" / name,
        ANSWERS,
        {
            "item_id": ids, "answer": parsed, "parsed": parsed, "score": correct.astype(np.float32),
            "correct": correct,
            "correct_official": pa.array(correct, mask=np.array([t != "existence" for t in tasks])),
            "token_ids": pa.ListArray.from_arrays(
                np.arange(n + 1, dtype=np.int32), np.ones(n, np.int32)
            ),
            "token_logprobs": rows_of(-rng.exponential(size=(n, 1))),
            "first_token_entropy": rng.random(n, dtype=np.float32),
            "first_token_ids": [None] * n,
            "first_token_logprobs": [None] * n,
            "decision_margin": rng.random(n, dtype=np.float32),
            "close_choices": np.zeros(n, np.int32),
            "n_prompt_tokens": np.full(n, 50, np.int32),
            "n_image_tokens": np.full(n, GRID * GRID, np.int32),
            "note": pa.nulls(n, pa.string()),
        },
    )  # fmt: skip
    heads = (N_LAYERS, N_HEADS)
    write(
        folder / "attention" / name,
        ATTENTION,
        {
            "item_id": ids,
            "grid_h": np.full(n, GRID, np.int32), "grid_w": np.full(n, GRID, np.int32),
            "maps": rows_of(rng.dirichlet(np.full(GRID * GRID, 0.3), size=(n, N_LAYERS))),
            "image_mass": rows_of(rng.random((n, N_LAYERS))),
            "head_entropy": rows_of(rng.random((n, *heads))),
            "head_clusters": rows_of(rng.integers(0, 5, (n, *heads))),
            "head_contribution": rows_of(normal(*heads)),
            "note": pa.nulls(n, pa.string()),
        },
    )  # fmt: skip
    margin = normal(N_LAYERS)
    margin[:, -1] += correct
    write(
        folder / "lens" / name,
        LENS,
        {
            "item_id": ids,
            "truth_margin": rows_of(normal(N_LAYERS)), "decision_margin": rows_of(margin),
            "pair_top": np.ones(n, np.int32), "pair_runner_up": np.full(n, 2, np.int32),
            "embed_contribution": np.zeros(n, np.float32),
            "attention_contribution": rows_of(normal(N_LAYERS) + 1),
            "mlp_contribution": rows_of(normal(N_LAYERS) + 3),
            "logit_difference": np.full(n, 16, np.float32),
            "residual_update": rows_of(rng.random((n, N_LAYERS))), "note": pa.nulls(n, pa.string()),
        },
    )  # fmt: skip
    for kind, knows in (("hidden", True), ("blind/hidden", False)):
        schema = hidden_table(n_layers=N_LAYERS, d_model=D_MODEL, dtype="float32")
        columns: dict[str, object] = {
            "item_id": ids, "position": constant("prompt_end", n, pa.string())
        }  # fmt: skip
        for column in schema.columns.names[2:]:
            values = normal(D_MODEL)
            if knows and column == f"layer_{PLANTED_LAYER:02d}":
                values[:, PLANTED_NEURON] += 2 * correct
            columns[column] = vectors(values)
        write(folder / kind / name, schema, columns)
    share = rng.integers(5, 11, size=n) / 10
    texts = pa.list_(pa.string())
    write(
        folder / "consistency" / name,
        CONSISTENCY,
        {
            "item_id": ids,
            "answers": constant(["yes"] * 10, n, texts),
            "normalised": constant(["yes"] * 10, n, texts),
            "self_consistency": share.astype(np.float32),
            "majority": constant("yes", n, pa.string()),
            "majority_correct": correct, "close_draws": np.zeros(n, np.int32),
            "note": pa.nulls(n, pa.string()),
            **{name: pa.nulls(n, CONSISTENCY.columns.field(name).type) for name in EXACT_COLUMNS},
        },
    )  # fmt: skip
    return {
        "item_id": ids, "dataset": ["planted"] * n, "split": ["planted"] * n, "task": tasks,
        "group": groups, "image": [f"{group}.png" for group in groups], "image_sha256": groups,
        "question_id": [str(i) for i in number.tolist()],
        "question": [f"Is there a thing number {i % 97} here?" for i in number.tolist()],
        "answers": constant(["yes"], n, texts), "reference": ["yes"] * n,
    }  # fmt: skip


def write_study(folder: Path, n_items: int) -> None:
    """Write all tables of a study; what is there already stays."""
    if (folder / "items.parquet").is_file():
        return
    parts = []
    for shard, first in enumerate(range(0, n_items, ITEMS_A_SHARD)):
        columns = write_shard(folder, shard, first, min(ITEMS_A_SHARD, n_items - first))
        parts.append(pa.table(columns).cast(ITEMS.columns))
    write_table(folder / "items.parquet", ITEMS, pa.concat_tables(parts), provenance=ORIGIN)


def list_shards(folder: Path) -> None:
    """Write the lists of shards that the stages read, but for the checksums, which they do not."""
    for name, tables in LISTS.items():
        shards = {table: dict.fromkeys(sorted((folder / table).glob("*.parquet")), "")
                  for table in tables}  # fmt: skip
        write_shard_list(folder / f"{name}.json", made_by=ORIGIN, shards=shards)


def command(stage: str, folder: Path) -> list[str]:
    """The command of a stage over a study's tables."""
    out = {name: str(folder / "out" / f"{name}.parquet")
           for name in ("signals", "heads", "metrics", "predictions", "neurons",
                        "probes")}  # fmt: skip
    lists = {name: str(folder / f"{name}.json") for name in LISTS}
    shared = ["--config", str(folder / "config.yaml"), "--model", "planted", "--items",
              str(folder / "items.parquet"), "--extract", lists["extract"]]  # fmt: skip
    if stage == "metrics":
        shared += ["--consistency", lists["consistency"], "--signals", out["signals"],
                   "--heads", out["heads"]]  # fmt: skip
    else:
        shared += ["--signals", out["signals"], "--blind", lists["blind"],
                   "--predictions", out["predictions"], "--neurons", out["neurons"]]  # fmt: skip
    return [str(Path(sys.executable).with_name("vrp")), stage, *shared, f"--{stage}", out[stage]]


def measure(arguments: list[str], log: Path) -> dict[str, float]:
    """Run a command to its end; its time and the peak memory of its process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                                "MKL_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}  # fmt: skip
    started = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(arguments, stdout=file, stderr=file, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments[:2])} failed:\n{log.read_text()[-2000:]}")
    return {
        "wall_s": round(time.perf_counter() - started, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_resident_bytes": used.ru_maxrss * 1024,
    }


def found(folder: Path) -> dict[str, float]:
    """Estimates whose truth is known: 0.760 for the margin, 0.921 for the probe, 0.5 else."""
    rows = {"metrics": read_table(folder / "out" / "metrics.parquet", METRICS),
            "probes": read_table(folder / "out" / "probes.parquet", PROBES)}  # fmt: skip
    wanted = {"metrics": ("decision_margin", "spatial_entropy"),
              "probes": ("linear_best", "permuted_linear_best")}  # fmt: skip
    return {
        f"auroc_{name}": round(
            rows[table]
            .filter(predictor=name, scope="within_strata", metric="auroc")["value"]
            .item(),
            4,
        )
        for table, names in wanted.items()
        for name in names
    }


def growth(sizes: Mapping[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Processor time per ten times as many items, between neighbouring sizes."""
    counts = sorted(map(int, sizes))
    ratios = {}
    for fewer, more in pairwise(counts):
        ratios[f"{fewer} to {more}"] = {
            stage: round(
                (sizes[str(more)][stage]["cpu_s"] / sizes[str(fewer)][stage]["cpu_s"])
                ** (np.log(10) / np.log(more / fewer)), 2,
            )
            for stage in ("metrics", "probes")
        }  # fmt: skip
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples (1000, the default)")
    parser.add_argument(
        "--without-networks", action="store_true",
        help="leave out the MLP probe and the supervised attention (trees and MLP)",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="keep the tables here (default: thrown away)")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()

    setting = "without_networks" if options.without_networks else "all_probes"
    setting += f"_bootstrap_{options.bootstrap}"
    result = json.loads(options.output.read_text()) if options.output.is_file() else {}
    sizes = result.setdefault("settings", {}).setdefault(setting, {}).setdefault("items", {})
    parent = options.folder or Path(tempfile.mkdtemp(prefix="scale-"))
    for n_items in options.items:
        folder = parent / str(n_items)
        write_study(folder, n_items)
        list_shards(folder)
        (folder / "out").mkdir(exist_ok=True)
        networks = str(not options.without_networks).lower()
        (folder / "config.yaml").write_text(
            CONFIG.format(bootstrap=options.bootstrap, networks=networks)
        )
        table_bytes = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        stages: dict[str, object] = {"table_bytes": table_bytes}
        for stage in ("metrics", "probes"):
            stages[stage] = measure(command(stage, folder), folder / "out" / f"{stage}.log")
            print(n_items, stage, stages[stage], flush=True)
        sizes[str(n_items)] = {**stages, **found(folder), "made_on": hardware(
            "numpy", "scipy", "scikit-learn", "polars", "pyarrow"
        )}  # fmt: skip
        result["settings"][setting]["cpu_ratio_for_10_times_the_items"] = growth(sizes)
        result["limit_bytes"] = LIMIT_BYTES
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    if options.folder is None:
        shutil.rmtree(parent)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
