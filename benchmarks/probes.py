"""Linear probes of layers with permuted labels, solved together, against scikit-learn's loop.

    python benchmarks/probes.py

Hidden states with planted evidence, at the size of a 7B model. scikit-learn fits the labellings
one after the other (some of them; the rest is extrapolated), the sweep all of them at once. The
script stops where an out-of-fold AUROC differs by more than 0.003.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
from hardware import hardware
from judged import Goal

from vrp.config.probes import ProbesConfig
from vrp.probing.baselines import permute_labels
from vrp.probing.folds import ProbeItems, plan_folds
from vrp.probing.linear import fit_linear
from vrp.probing.sweep import Labelling, fit_layers_together
from vrp.stats.auroc import auroc

RESULT = Path(__file__).parent / "results" / "probes.json"
FASTER = Goal(10.0, at_least=True)
TOLERANCE = 0.003


def planted_layers(options: argparse.Namespace) -> tuple[list[np.ndarray], ProbeItems]:
    """Layers whose evidence grows, with neurons of very different scales, as real ones."""
    random = np.random.default_rng(options.seed)
    known = random.normal(size=(options.items, 20))
    correct = known[:, 0] + known[:, 1] + 1.2 * random.normal(size=options.items) + 0.9 > 0
    tasks = np.array(["a", "b", "c"])[random.integers(0, 3, options.items)]
    items = ProbeItems.of(np.arange(options.items), correct, np.arange(options.items) // 2, tasks)
    layers = []
    for layer in range(options.layers):
        states = (layer + 1) * known @ random.normal(size=(20, options.width))
        states += 6 * random.normal(size=states.shape)
        layers.append((states * random.gamma(1, size=options.width)).astype(np.float32))
    return layers, items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=3090)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--permutations", type=int, default=20)
    parser.add_argument("--loops", type=int, default=1, help="labellings that scikit-learn fits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    layers, items = planted_layers(options)
    labellings = [Labelling(items, plan_folds(items, seed="benchmark"))]
    for repeat in range(options.permutations):
        permuted = permute_labels(items, seed=str(repeat))
        labellings.append(Labelling(permuted, plan_folds(permuted, seed=str(repeat))))
    penalties = ProbesConfig().penalties

    before, began = peak_gb(), time.perf_counter()
    named = [(f"layer_{number:02d}", states) for number, states in enumerate(layers)]
    together = fit_layers_together(named, labellings, penalties=penalties)
    sweep_s, peak = time.perf_counter() - began, peak_gb()

    began, differences = time.perf_counter(), []
    for labelling, results in zip(labellings[: options.loops], together, strict=False):
        for name, states in named:
            theirs = fit_linear(states, *labelling, penalties=penalties)
            differences.append(abs(area(theirs, labelling) - area(results[name], labelling)))
    loop_s = (time.perf_counter() - began) / options.loops * len(labellings)

    ratio = loop_s / sweep_s
    found = {
        "setting": vars(options),
        "sweep_s": sweep_s,
        "loop_s": loop_s,
        "ratio": {"value": ratio, **FASTER.verdict(ratio)},
        "largest_difference_in_auroc": max(differences),
        "peak_gb": peak,
        "peak_before_gb": before,
        "hardware": hardware("torch", "scikit-learn", "numpy"),
    }
    print(json.dumps(found, indent=1))
    if max(differences) > TOLERANCE:
        raise SystemExit(f"AUROCs differ by {max(differences):.4f}")
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def area(result, labelling: Labelling) -> float:
    """Out-of-fold AUROC of a probe."""
    return auroc(result.scores, labelling.items.correct, strata=labelling.plan.fold)


def peak_gb() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
