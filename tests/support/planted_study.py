"""A study without a model: tables in which what is true is known by construction.

One signal (the decision margin) tells right from wrong with a known AUROC, one (the attention
map) knows nothing, one neuron of one layer holds correctness, and ablating it costs a known
number of points.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from stage_jobs import run_job

from vrp.config.ablate import AblateConfig
from vrp.config.mask import MaskConfig
from vrp.config.probes import ProbesConfig
from vrp.config.study import study_from_mapping
from vrp.interventions.conditions import conditions_by_name
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import PROBES
from vrp.tables.hidden import hidden_table
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table, write_table

N_LAYERS, N_HEADS, D_MODEL, GRID = 4, 2, 16, 6
PLANTED_LAYER, PLANTED_NEURON = 2, 11
SINK = 7  # the token that is a sink in every layer
TASKS = ("existence", "counting", "spatial")
# Two normals one apart: AUROC = Φ(1/√2).
SHIFT = 1.0
MARGIN_AUROC = float(norm.cdf(SHIFT / np.sqrt(2)))
NEURON_SHIFT = 3.0
NEURON_AUROC = float(norm.cdf(NEURON_SHIFT / np.sqrt(2)))
TOP_LOSS = 0.3
ORIGIN = {"study": "planted", "model": "toy"}
CONDITION_SECTIONS = {"mask": MaskConfig(), "ablate": AblateConfig()}
"""Sections of the config that the conditions are of."""
CONDITIONS = conditions_by_name(
    study_from_mapping({"study": "planted", "models": {"toy": {"family": "x", "checkpoint": "x"}}})
)
# What of the tables is null where it was not captured.
COLUMNS_OF = {
    "attention": ("maps", "image_mass"),
    "heads": ("head_entropy", "head_clusters"),
    "lens": ("truth_margin", "decision_margin"),
    "contributions": (
        "head_contribution", "pair_top", "pair_runner_up", "embed_contribution",
        "attention_contribution", "mlp_contribution", "logit_difference",
    ),
    "residual_update": ("residual_update", "sinks"),
}  # fmt: skip


class PlantedStudy(NamedTuple):
    """Paths of the tables, and the truth behind them."""

    items: Path
    answers: Path
    attention: Path
    lens: Path
    hidden: Path
    blind_hidden: Path
    consistency: Path
    mask: Path
    ablate: Path
    correct: np.ndarray


def write_planted_study(
    folder: Path,
    *,
    n_images: int = 300,
    seed: int = 0,
    permuted: bool = False,
    capture: Collection[str] = tuple(COLUMNS_OF),
    opposite: str = "",
) -> PlantedStudy:
    """Write every table that metrics, probes and effects read: four items an image.

    With `opposite`, each task is a split, and in the one of that name the planted neuron falls
    where the others' rises; the states at the answer's end are written, too.

    With `permuted`, the answers' labels are permuted after everything else was made of them.
    What is not in `capture` is null in the tables, as the extraction leaves it.
    """
    rng = np.random.default_rng(seed)
    n = 4 * n_images
    tasks = [TASKS[i % len(TASKS)] for i in range(n)]
    ids = [f"toy/{task}/{i:05d}" if opposite else f"toy/{i:05d}" for i, task in enumerate(tasks)]
    correct = rng.random(n) < 0.65
    said_yes = rng.random(n) < 0.5
    paths = {name: folder / f"{name}.parquet" for name in PlantedStudy._fields if name != "correct"}
    study = PlantedStudy(**paths, correct=correct)
    _write_items(study.items, ids, tasks, n)
    labels = rng.permutation(correct) if permuted else correct
    _write_answers(study.answers, ids, tasks, labels, said_yes, rng)
    _write_attention(study.attention, ids, rng, capture)
    _write_lens(study.lens, ids, correct, rng, capture)
    sign = np.where(np.array(tasks) == opposite, -1.0, 1.0)
    positions = ("prompt_end", "answer_end") if opposite else ("prompt_end",)
    _write_hidden(study.hidden, ids, sign * correct, rng, positions)
    _write_hidden(study.blind_hidden, ids, np.zeros(n), rng)
    _write_consistency(study.consistency, ids, correct, rng)
    _write_interventions(study, ids, correct, rng)
    return study


def _write_items(path, ids, tasks, n):
    groups = [f"image{i // 4:05d}" for i in range(n)]
    columns = {
        "item_id": ids,
        "dataset": ["toy"] * n,
        "split": ["toy"] * n,
        "task": tasks,
        "group": groups,
        "image": [f"{group}.png" for group in groups],
        "image_sha256": groups,
        "question_id": [str(i) for i in range(n)],
        "question": [f"Is there a thing number {i % 7} here?" for i in range(n)],
        "answers": [["yes"]] * n,
        "reference": ["yes"] * n,
    }
    write_table(path, ITEMS, columns, provenance=ORIGIN)


def _write_answers(path, ids, tasks, correct, said_yes, rng):
    n = len(ids)
    words = np.where(said_yes, "yes", "no")
    parsed = [w if t == "existence" else "2" for w, t in zip(words, tasks, strict=True)]
    columns = {
        "item_id": ids,
        "answer": parsed,
        "parsed": parsed,
        "score": correct.astype(float),
        "correct": correct,
        "correct_official": [
            bool(c) if t == "existence" else None for c, t in zip(correct, tasks, strict=True)
        ],
        "token_ids": [[1]] * n,
        "token_logprobs": [[-float(x)] for x in rng.exponential(size=n)],
        "first_token_entropy": rng.random(n),
        "first_token_ids": [None] * n,
        "first_token_logprobs": [None] * n,
        "decision_margin": rng.random(n),
        "close_choices": [0] * n,
        "n_prompt_tokens": [50] * n,
        "n_image_tokens": [GRID * GRID] * n,
        "note": [None] * n,
    }
    write_table(path, ANSWERS, columns, provenance=ORIGIN)


def without(columns, capture):
    """The columns with null in every row of those that were not captured."""
    absent = {name for part, names in COLUMNS_OF.items() if part not in capture for name in names}
    n = len(columns["item_id"])
    return {name: [None] * n if name in absent else its for name, its in columns.items()}


def _write_attention(path, ids, rng, capture):
    n, s = len(ids), GRID * GRID
    maps = rng.dirichlet(np.full(s, 0.3), size=(n, N_LAYERS))
    columns = {
        "item_id": ids,
        "grid_h": [GRID] * n,
        "grid_w": [GRID] * n,
        "maps": maps.tolist(),
        "image_mass": rng.random((n, N_LAYERS)).tolist(),
        "sinks": [[layer * s + SINK for layer in range(N_LAYERS)]] * n,
        "head_entropy": rng.random((n, N_LAYERS, N_HEADS)).tolist(),
        "head_clusters": rng.integers(0, 5, (n, N_LAYERS, N_HEADS)).tolist(),
        "head_contribution": rng.normal(size=(n, N_LAYERS, N_HEADS)).tolist(),
        "note": [None] * n,
    }
    origin = ORIGIN | {"captured": ",".join(capture)}
    write_table(path, ATTENTION, without(columns, capture), provenance=origin)


def _write_lens(path, ids, correct, rng, capture):
    n = len(ids)
    margin = rng.normal(size=(n, N_LAYERS))
    margin[:, -1] += SHIFT * correct
    attention, mlp = np.full((n, N_LAYERS), 1.0), np.full((n, N_LAYERS), 3.0)
    columns = {
        "item_id": ids,
        "truth_margin": rng.normal(size=(n, N_LAYERS)).tolist(),
        "decision_margin": margin.tolist(),
        "pair_top": [1] * n,
        "pair_runner_up": [2] * n,
        "embed_contribution": [0.0] * n,
        "attention_contribution": attention.tolist(),
        "mlp_contribution": mlp.tolist(),
        "logit_difference": [4.0 * N_LAYERS] * n,
        "residual_update": rng.random((n, N_LAYERS)).tolist(),
        "note": [None] * n,
    }
    origin = ORIGIN | {"captured": ",".join(capture)}
    write_table(path, LENS, without(columns, capture), provenance=origin)


def _write_hidden(path, ids, planted, rng, positions=("prompt_end",)):
    n = len(ids) * len(positions)
    schema = hidden_table(n_layers=N_LAYERS, d_model=D_MODEL, dtype="float32")
    columns: dict[str, object] = {
        "item_id": list(ids) * len(positions),
        "position": np.repeat(positions, len(ids)).tolist(),
    }
    for name in schema.columns.names[2:]:
        values = rng.normal(size=(n, D_MODEL))
        if name == f"layer_{PLANTED_LAYER:02d}":
            values[:, PLANTED_NEURON] += NEURON_SHIFT * np.tile(planted, len(positions))
        columns[name] = values.tolist()
    write_table(path, schema, columns, provenance=ORIGIN)


def _write_consistency(path, ids, correct, rng):
    n = len(ids)
    majority_share = rng.integers(5, 11, size=n) / 10
    columns = {
        "item_id": ids,
        "answers": [["yes"] * 10] * n,
        "normalised": [["yes"] * 10] * n,
        "self_consistency": majority_share,
        "majority": ["yes"] * n,
        "majority_correct": correct,
        "close_draws": [0] * n,
        "note": [None] * n,
        "exact_answers": [["yes", "no"]] * n,
        "exact_probabilities": [[share, 1 - share] for share in majority_share],
        "unresolved": np.zeros(n),
        "majority_share_low": majority_share,
        "majority_share_high": majority_share,
        "expected_consistency_low": majority_share - 0.01,
        "expected_consistency_high": majority_share + 0.01,
    }
    write_table(path, CONSISTENCY, columns, provenance=ORIGIN)


def _result(ids, condition, seed, before, after):
    n = len(ids)
    return {
        "item_id": ids,
        "condition": [condition] * n,
        "seed": [seed] * n,
        "answer": ["yes"] * n,
        "parsed": ["yes"] * n,
        "score": after.astype(float),
        "correct": after,
        "changed": after != before,
        "decision_margin": [0.0] * n,
    }


def _joined(parts):
    return {key: [value for part in parts for value in part[key]] for key in parts[0]}


def _write_interventions(study, ids, correct, rng):
    """Top conditions break 30% of the right answers; random ones swap as many each way."""
    broken = correct & ~(rng.random(len(ids)) < TOP_LOSS)
    parts = {}
    for suffix, control in (("30", "random"), ("5", "matched")):
        parts[suffix] = [_result(ids, f"top_{suffix}", 0, correct, broken)]
        for seed in range(5):
            swapped = correct.copy()
            right, wrong = np.flatnonzero(correct), np.flatnonzero(~correct)
            swapped[rng.choice(right, 10, replace=False)] = False
            swapped[rng.choice(wrong, 10, replace=False)] = True
            parts[suffix].append(_result(ids, f"{control}_{suffix}", seed, correct, swapped))
    n = 6 * len(ids)
    mask = _joined(parts["30"]) | {"share": [0.3] * n, "n_masked": [11] * n}
    ablate = _joined(parts["5"]) | {"layer": [PLANTED_LAYER] * n, "n_neurons": [5] * n}
    write_table(study.mask, MASK, mask, provenance=ORIGIN)
    write_table(study.ablate, ABLATE, ablate, provenance=ORIGIN)


def run_small_probes(study, folder):
    """Run the probes stage on the planted tables, small; returns its estimates.

    `out-signals.parquet` must lie in `folder`; predictions and neurons are written beside it.
    """
    tables = ("answers", "attention", "hidden", "lens")
    run_job(
        "probes",
        {
            "items": study.items,
            **{name: getattr(study, name) for name in tables},
            "blind/hidden": study.blind_hidden,
            "signals": folder / "out-signals.parquet",
            "predictions": folder / "predictions.parquet",
            "neurons": folder / "neurons.parquet",
            "probes": folder / "probes.parquet",
            "saved_probe": folder / "probe.safetensors",
        },
        seed=0,
        probes=ProbesConfig(bootstrap=100, folds=3, inner_folds=2, penalties=(0.1,), mlp=False),
        provenance=ORIGIN,
    )
    return read_table(folder / "probes.parquet", PROBES)
