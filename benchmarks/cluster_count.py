"""Cluster count by labelling against scikit-learn's DBSCAN, side by side on one stack of maps.

    python benchmarks/cluster_count.py

Both count the same maps; the script stops if any count differs. The labelling is timed before and
after the DBSCAN run, so that a machine that slows down meanwhile favours neither.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hardware import hardware
from scipy import ndimage
from sklearn.cluster import DBSCAN

from vrp.signals.structural import cluster_count_dbscan

RESULT = Path(__file__).parent / "results" / "cluster_count.json"


def attention_like_maps(n_maps: int, grid: int, seed: int) -> np.ndarray:
    """Draw maps with the blobs and the noise of attention, each summing to one."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_maps, grid, grid))
    blobs = ndimage.gaussian_filter(noise, sigma=(0, 1.5, 1.5))
    logits = 3 * blobs / blobs.std() + rng.standard_normal((n_maps, grid, grid))
    maps = np.exp(logits)
    return maps / maps.sum(axis=(1, 2), keepdims=True)


def count_with_dbscan(maps: np.ndarray) -> np.ndarray:
    """Count clusters one map at a time, as is usual."""
    counts = np.zeros(len(maps))
    for index, attention in enumerate(maps):
        cells = np.argwhere(attention > np.percentile(attention, 90))
        if len(cells):
            counts[index] = DBSCAN(eps=1.5, min_samples=3).fit_predict(cells).max() + 1
    return counts


def timed(
    count: Callable[[np.ndarray], np.ndarray], maps: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    counts = count(maps)
    return counts, {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--maps", type=int, default=10_000, help="maps in the stack")
    parser.add_argument("--grid", type=int, default=24, help="side of the square grid")
    parser.add_argument("--repeats", type=int, default=3, help="labelling runs before and after")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()

    maps = attention_like_maps(options.maps, options.grid, options.seed)
    cluster_count_dbscan(maps[:10])  # first calls load code
    count_with_dbscan(maps[:10])
    runs = [timed(cluster_count_dbscan, maps) for _ in range(options.repeats)]
    expected, dbscan = timed(count_with_dbscan, maps)
    runs += [timed(cluster_count_dbscan, maps) for _ in range(options.repeats)]

    differing = [int((counts != expected).sum()) for counts, _ in runs]
    if any(differing):
        raise SystemExit(f"counts differ on {max(differing)} of {options.maps} maps")
    labelling = {
        key: statistics.median(times[key] for _, times in runs) for key in ("wall_s", "cpu_s")
    }
    result = {
        "maps": options.maps,
        "grid": [options.grid, options.grid],
        "seed": options.seed,
        "clusters_mean": float(expected.mean()),
        "counts_equal": True,
        "dbscan": dbscan,
        "labelling_median": labelling,
        "labelling_runs": [times for _, times in runs],
        "ratio_wall": dbscan["wall_s"] / labelling["wall_s"],
        "ratio_cpu": dbscan["cpu_s"] / labelling["cpu_s"],
        "hardware": hardware("numpy", "scipy", "scikit-learn"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    partial = options.out.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(options.out)
    print(f"{options.maps} maps of {options.grid}×{options.grid}, every count equal")
    print(f"{'':12}{'wall s':>10}{'CPU s':>10}")
    for name, times in (("DBSCAN", dbscan), ("labelling", labelling)):
        print(f"{name:12}{times['wall_s']:10.3f}{times['cpu_s']:10.3f}")
    print(f"{'ratio':12}{result['ratio_wall']:10.1f}{result['ratio_cpu']:10.1f}")


if __name__ == "__main__":
    main()
