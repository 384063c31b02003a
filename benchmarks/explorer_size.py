"""What an explorer of the papers' size takes: bytes of its files, processor time and memory.

    python benchmarks/explorer_size.py [--items 3090 --models 3 --tokens 576 --layers 32]

The tables are drawn at random, in four shards a model: maps of every layer, 32 heads, ten samples,
the signals, twenty probes, interventions on a third of the items. Random numbers hardly shrink, so
that those of a real model take no more. Images are smooth noise with edges, 336 pixels wide.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from hardware import hardware
from PIL import Image

from vrp.data.file_digest import file_sha256
from vrp.explorer.writer import ExplorerPlaces, write_explorer
from vrp.study.explorer_files import cut_points, explorer_files
from vrp.study.results import open_results
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.columns import nested_lists
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.schema import TableSchema
from vrp.tables.signals import signal_table
from vrp.tables.trace import TRACE

RESULT = Path(__file__).parent / "results" / "explorer_size.json"
LARGEST_FILE = 4_000_000
N_HEADS, K, N_PROBES, N_SHARDS = 32, 10, 20, 4
WORDS = ["yes", "no", "2", "left", "a red car", "on top of the table"]
Columns = dict[str, object]


def write_items(folder: Path, n: int, rng: np.random.Generator) -> list[str]:
    """Write items on half as many images; return their ids in the explorer's order."""
    (folder / "data").mkdir()
    digests = {}
    for number in range((n + 1) // 2):
        path = folder / "data" / f"{number:05d}.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((336, 252), Image.Resampling.BICUBIC), dtype=np.int16)
        noise = rng.integers(-12, 13, smooth.shape)
        Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(path, quality=90)
        digests[path.name] = file_sha256(path)
    images = [f"{number // 2:05d}.jpg" for number in range(n)]
    columns: Columns = {
        "item_id": [f"vqa/spatial/{number:012d}" for number in range(n)],
        "dataset": ["vqa"] * n, "split": ["spatial"] * n, "task": ["spatial"] * n,
        "group": [digests[name] for name in images], "image": images,
        "image_sha256": [digests[name] for name in images],
        "question_id": [str(number) for number in range(n)],
        "question": [f"What is to the left of thing {number}?" for number in range(n)],
        "answers": [list(rng.choice(WORDS, 10)) for _ in range(n)],
        "reference": list(rng.choice(WORDS, n)),
    }  # fmt: skip
    write_table(folder / "items.parquet", ITEMS, columns, provenance={})
    return [pair[1] for pair in sorted(zip(columns["group"], columns["item_id"], strict=True))]  # type: ignore[call-overload]


def columns_of(schema: TableSchema, n: int, rng: np.random.Generator, **given: object) -> Columns:
    """Every column of a table: as given, or else random numbers, words and flags."""
    drawn: dict[str, object] = {
        "string": list(rng.choice(WORDS, n)), "bool": rng.random(n) < 0.7,
        "float": rng.normal(size=n), "int32": rng.integers(0, 30, n),
    }  # fmt: skip
    return {
        field.name: given[field.name]
        if field.name in given
        else drawn.get(str(field.type), [None] * n)
        for field in schema.columns
    }


def write_shard(
    folder: Path, shard: int, ids: list[str], n_layers: int, n_tokens: int, rng: np.random.Generator
) -> None:
    """Write the tables of one shard of a model."""
    n, side = len(ids), round(n_tokens**0.5)
    provenance = {"model": folder.name}

    def layers(*shape: int) -> list[object]:
        return rng.normal(size=(n, n_layers, *shape)).astype(np.float32).tolist()

    maps = [rng.dirichlet(np.full(side * side, 0.3), n_layers).astype(np.float32) for _ in ids]
    sinks = [np.flatnonzero(rng.random(n_layers * side * side) < 0.01).tolist() for _ in ids]
    tables = {
        ANSWERS: {"token_ids": [[1, 2]] * n, "token_logprobs": [[-0.1, -0.2]] * n,
                  "note": [None] * n},
        ATTENTION: {
            "grid_h": [side] * n, "grid_w": [side] * n, "maps": nested_lists(maps, np.float32),
            "image_mass": layers(), "sinks": sinks, "head_entropy": layers(N_HEADS),
            "head_clusters": np.round(np.abs(layers(N_HEADS))).tolist(),
            "head_contribution": layers(N_HEADS), "note": [None] * n,
        },
        LENS: {name: layers() for name in LENS.columns.names
               if str(LENS.columns.field(name).type).startswith("list")} | {"note": [None] * n},
        CONSISTENCY: {
            "answers": [list(rng.choice(WORDS, K)) for _ in ids], "normalised": [[]] * n,
            "exact_answers": [WORDS] * n,
            "exact_probabilities": rng.random((n, len(WORDS))).tolist(), "note": [None] * n,
        },
    }  # fmt: skip
    for schema, given in tables.items():
        path = folder / schema.name / f"{shard:03d}.parquet"
        columns = columns_of(schema, n, rng, item_id=ids, **given)
        write_table(path, schema, columns, provenance=provenance)


def write_rows(folder: Path, ids: list[str], n_layers: int, rng: np.random.Generator) -> None:
    """Write the tables of a model that have one file."""
    n, provenance = len(ids), {"model": folder.name}
    signals = columns_of(signal_table(), n, rng, item_id=ids)
    write_table(folder / "signals.parquet", signal_table(), signals, provenance=provenance)
    asked = ids[::3]
    several = {
        PREDICTIONS: ("probe", [f"probe {number}" for number in range(N_PROBES)], ids),
        MASK: ("seed", list(range(10)), asked),
        ABLATE: ("seed", list(range(30)), asked),
        TRACE: ("layer", list(range(n_layers)), asked),
    }
    for schema, (key, values, of) in several.items():
        names = {"condition": ["random_30" if schema is MASK else "random_5"], "kind": ["patch"]}
        rows = pl.DataFrame({"item_id": of}).join(pl.DataFrame({key: values}), how="cross")
        given = {name: rows[name] for name in rows.columns}
        given |= {name: one * len(rows) for name, one in names.items()}
        columns = columns_of(schema, len(rows), rng, **given)
        write_table(folder / f"{schema.name}.parquet", schema, columns, provenance=provenance)


def write_study(folder: Path, n_items: int, n_models: int, n_layers: int, n_tokens: int) -> None:
    """Write the tables of a study."""
    rng = np.random.default_rng(0)
    ids = write_items(folder, n_items, rng)
    for model in range(n_models):
        place = folder / f"model{model}"
        cuts = cut_points(n_items, N_SHARDS)
        for shard in range(N_SHARDS):
            of_shard = ids[cuts[shard] : cuts[shard + 1]]
            write_shard(place, shard, of_shard, n_layers, n_tokens, rng)
        write_rows(place, ids, n_layers, rng)


def explore(folder: Path, n_items: int, n_models: int) -> dict[str, object]:
    """Write the explorer and measure it."""
    models = [f"model{number}" for number in range(n_models)]
    sharded = ("answers", "attention", "lens", "consistency")
    tables = {name: sorted(folder.glob(f"model*/{name}/*.parquet")) for name in sharded}
    for name in ("signals", "predictions", "mask", "ablate", "trace"):
        tables[name] = [folder / model / f"{name}.parquet" for model in models]
    results = open_results(tables, items=folder / "items.parquet")
    files = explorer_files(models, n_items, 128)
    began = time.process_time()
    places = ExplorerPlaces(
        folder / "explorer.html", folder / "explorer", files, folder / "data", 224
    )
    write_explorer(results, "paper-sized", places)
    seconds = time.process_time() - began
    sizes = {name: (folder / "explorer" / name).stat().st_size for name in files.names()}
    largest = max(sizes, key=lambda name: sizes[name])
    return {
        "page_bytes": (folder / "explorer.html").stat().st_size,
        "n_files": len(sizes), "all_bytes": sum(sizes.values()),
        "largest_file": largest, "largest_bytes": sizes[largest],
        "processor_seconds": round(seconds, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("items", 3090), ("models", 3), ("tokens", 576), ("layers", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, help="keep tables and explorer there")
    # Writing the tables takes more memory than what is measured: it has a process of its own.
    parser.add_argument("--tables", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tables:
        write_study(options.folder, options.items, options.models, options.layers, options.tokens)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / "items.parquet").exists():
            _write_tables(folder)
        measured = explore(folder, options.items, options.models)
    size = {name: getattr(options, name) for name in ("items", "models", "tokens", "layers")}
    print(json.dumps({**size, **measured}, indent=1))
    assert measured["largest_bytes"] <= LARGEST_FILE  # type: ignore[operator]
    RESULT.write_text(json.dumps({"hardware": hardware(), **size, **measured}, indent=1) + "\n")


def _write_tables(folder: Path) -> None:
    subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--tables", "--folder", str(folder)], check=True
    )


if __name__ == "__main__":
    main()
