"""A study of three models that no model made, with the tables that figures are drawn from.

The decision margin and the hidden-state probes know what is right, the attention map does not;
hiding the most attended tokens costs more than hiding as many at random. Signals, metrics and
effects come from the project's own stages; everything that a model would give is drawn at random.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from mask_rows import mask_rows
from planted_study import COLUMNS_OF, without
from scipy.special import expit
from stage_jobs import run_job

from vrp.config.effects import EffectsConfig
from vrp.config.margins import EquivalenceMargins
from vrp.config.metrics import MetricsConfig
from vrp.config.study import study_from_mapping
from vrp.estimates.estimate_rows import (
    EvaluationItems,
    adjusted,
    estimate_row,
    not_captured_rows,
    permutation_rows,
    reliability_rows,
    share_rows,
)
from vrp.interventions.conditions import conditions_by_name
from vrp.probing.labels import TRANSFER
from vrp.stats.auroc import auroc_estimate, clustered_auroc
from vrp.study.results import StudyResults, open_results
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.boxes import BOXES, NOT_THERE
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.estimates import PROBES
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table
from vrp.tables.trace import TRACE

MODELS = ("alpha", "beta", "gamma-3b-mix-224")  # the last name is as long as real ones are
FAMILIES = ("llava", "paligemma", "qwen2_vl")
N_LAYERS, N_HEADS, K = 6, 4, 10
TASK_SIZES = {"existence": 90, "counting": 60, "spatial": 60, "open": 15}
N_IMAGES = 60
# Scores that know nothing, a little, and much of what is right.
PROBE_SKILL = {
    "linear_best": 2.2,
    "linear_last_layers": 1.9,
    "sparse": 1.7,
    "mlp": 2.1,
    "margin_only": 1.1,
    "fusion": 1.6,
    "fusion_with_probe": 2.4,
    "attention_trees": 0.1,
    "attention_mlp": 0.0,
    "task_only": 0.2,
    "question_only": 0.3,
    "answer_only": 0.2,
    "blind_linear_best": 0.3,
    "output_fusion": 1.5,
    "output_fusion_with_probe": 2.3,
}
PROBE_NEEDS = {"attention_trees": "attention", "attention_mlp": "attention", "margin_only": "lens"}
LAYER_SKILL = (0.2, 0.6, 1.3, 2.0, 2.2, 1.9)
N_FOLDS = 5
# Share of right answers that a condition turns wrong.
MASK_LOSS = {
    "top_10": 0.08, "top_30": 0.2, "top_50": 0.35, "top_70": 0.45, "top_90": 0.5,
    "random_10": 0.02, "random_30": 0.06, "random_50": 0.12, "random_70": 0.22, "random_90": 0.38,
    "bottom_30": 0.03, "no_image": 0.55, "other_image": 0.5,
}  # fmt: skip
MASK_SHARE = {"no_image": 1.0, "other_image": 1.0}
ABLATE_LOSS = {
    "top_5": 0.04, "top_10": 0.07, "top_10_mean": 0.05, "random_5": 0.01, "random_10": 0.015,
    "random_25pct": 0.05, "random_50pct": 0.15, "top_5_plus_100": 0.25, "mlp_bypass": 0.08,
    "top_5_depth50": 0.03, "steer_-3": 0.2, "steer_3": 0.02, "steer_random_-3": 0.03,
    "steer_random_3": 0.03,
}  # fmt: skip
N_SEEDS = 5
_STUDY = study_from_mapping(
    {
        "study": "synthetic",
        "models": {"a": {"family": "llava", "checkpoint": "x"}},
        "mask": {
            "conditions": mask_rows(
                random_seeds=N_SEEDS,
                controls=["bottom", "no_image", "other_image"],
                dose=[0.1, 0.5, 0.7, 0.9],
            )
        },
        "ablate": {
            "conditions": [
                {"kind": "top", "count": 5},
                {"kind": "top", "count": 10},
                {"kind": "top", "count": 10, "value": "mean"},
                {"kind": "random", "count": 5, "seeds": N_SEEDS},
                {"kind": "random", "count": 10, "seeds": N_SEEDS},
                {"kind": "random", "share": 0.25, "seeds": N_SEEDS},
                {"kind": "random", "share": 0.5, "seeds": N_SEEDS},
                {"kind": "top", "count": 5, "value": "plus_100"},
                {"kind": "mlp"},
                {"kind": "top", "count": 5, "layer": 0.5},
                {"kind": "steer", "doses": [-3, 3]},
                {"kind": "steer_random", "doses": [-3, 3], "seeds": N_SEEDS},
            ]
        },
    }
)
CONDITION_SECTIONS = {"mask": _STUDY.mask, "ablate": _STUDY.ablate}
"""Sections of the config that the conditions are of."""
CONDITIONS = conditions_by_name(_STUDY)
"""The conditions that the losses are of."""


@dataclass(frozen=True)
class SyntheticStudy:
    """Where the study's files are, by table."""

    items: Path
    effects: Path
    trace_effects: Path
    tables: dict[str, list[Path]] = field(default_factory=dict)

    def results(self) -> StudyResults:
        """The study as figures and report read it."""
        return open_results(
            self.tables, conditions=CONDITIONS, items=self.items, effects=self.effects,
            trace_effects=self.trace_effects,
        )  # fmt: skip


def write_synthetic_study(
    folder: Path,
    *,
    models: Iterable[str] = MODELS,
    seed: int = 0,
    capture: Collection[str] = tuple(COLUMNS_OF),
) -> SyntheticStudy:
    """Write every table of the study; without attention in `capture`, all but the mask table."""
    rng = np.random.default_rng(seed)
    items = _write_items(folder / "items.parquet", rng)
    _write_boxes(folder / "boxes.parquet", items)
    study = SyntheticStudy(
        folder / "items.parquet", folder / "effects.parquet", folder / "trace_effects.parquet"
    )
    ablate: list[Path] = []
    trace: list[Path] = []
    for index, name in enumerate(models):
        rng_of_model = np.random.default_rng((seed, index))
        model = _Model(folder / name, name, items, rng_of_model, index, tuple(capture))
        for table, path in model.write(study.items, folder / "boxes.parquet").items():
            if table in ("ablate", "trace"):
                (ablate if table == "ablate" else trace).append(path)
            else:
                study.tables.setdefault(table, []).append(path)
    run_job(
        "effects",
        {
            "items": study.items,
            "answers": study.tables["answers"],
            "mask": study.tables.get("mask", []),
            "ablate": ablate,
            "trace": trace,
            "effects": study.effects,
            "trace_effects": study.trace_effects,
        },
        seed=seed,
        effects=EffectsConfig(sign_flips=100),
        **CONDITION_SECTIONS,
        provenance={"study": "synthetic"},
    )
    return study


def _write_items(path: Path, rng: np.random.Generator) -> pl.DataFrame:
    tasks = [task for task, size in TASK_SIZES.items() for _ in range(size)]
    n = len(tasks)
    groups = [f"image{i:03d}" for i in rng.integers(0, N_IMAGES, n)]
    truth = {"existence": ["yes", "no"], "counting": ["1", "2", "3"]}
    references = [str(rng.choice(truth.get(task, ["left", "red"]))) for task in tasks]
    frame = pl.DataFrame(
        {
            "item_id": [f"{task}/{i:04d}" for i, task in enumerate(tasks)],
            "dataset": ["pope" if task == "existence" else "vqa" for task in tasks],
            "split": ["adversarial" if task == "existence" else task for task in tasks],
            "task": tasks,
            "group": groups,
            "image": [f"{group}.png" for group in groups],
            "image_sha256": groups,
            "question_id": [str(i) for i in range(n)],
            "question": [f"What about thing {i % 9}?" for i in range(n)],
            "answers": [[reference] for reference in references],
            "reference": references,
        }
    ).sort("item_id")
    write_table(path, ITEMS, frame, provenance={"study": "synthetic"})
    return frame


def _write_boxes(path: Path, items: pl.DataFrame) -> None:
    """A tenth to a half of the image where the answer is yes."""
    columns = {
        "item_id": items["item_id"].to_list(),
        "object": ["dog" if task == "existence" else None for task in items["task"]],
        "image_width": [100] * len(items),
        "image_height": [100] * len(items),
        "boxes": [
            [[10.0, 20.0, 30.0 + i % 40, 70.0]] if reference == "yes" else []
            for i, reference in enumerate(items["reference"])
        ],
        "note": [None if reference == "yes" else NOT_THERE for reference in items["reference"]],
    }
    write_table(path, BOXES, columns, provenance={"study": "synthetic"})


class _Model:
    """One model's answers and what was read of it; `knows` is what makes an answer right."""

    def __init__(
        self,
        folder: Path,
        name: str,
        items: pl.DataFrame,
        rng: np.random.Generator,
        index: int,
        capture: tuple[str, ...],
    ) -> None:
        self.capture = capture
        self.folder, self.name, self.rng, self.index = folder, name, rng, index
        self.items, self.n = items, len(items)
        self.ids = items["item_id"].to_list()
        self.knows = rng.normal(size=self.n)
        self.correct = rng.random(self.n) < expit(1.1 - 0.4 * index + 1.6 * self.knows)
        self.provenance = {
            "study": "synthetic", "model": name, "captured": ",".join(capture),
            "family": FAMILIES[index % len(FAMILIES)], "checkpoint": f"published/{name}",
        }  # fmt: skip

    def write(self, items: Path, boxes: Path) -> dict[str, Path]:
        names = (
            "answers", "attention", "lens", "consistency", "mask", "ablate", "trace", "signals",
            "heads",
            "recipes", "metrics", "probes", "predictions", "neurons",
        )  # fmt: skip
        paths = {name: self.folder / f"{name}.parquet" for name in names}
        model_tables = (
            ("answers", ANSWERS, self._answers()),
            ("attention", ATTENTION, self._attention()),
            ("lens", LENS, self._lens()),
            ("consistency", CONSISTENCY, self._consistency()),
            ("mask", MASK, self._interventions(MASK_LOSS, MASK.columns.names)),
            ("ablate", ABLATE, self._interventions(ABLATE_LOSS, ABLATE.columns.names)),
            ("trace", TRACE, self._trace()),
            ("neurons", NEURONS, self._neurons()),
        )
        for name, schema, columns in model_tables:
            kept = without(columns, self.capture) if name in ("attention", "lens") else columns
            write_table(paths[name], schema, kept, provenance=self.provenance)
        run_job(
            "metrics",
            {
                "items": items,
                "boxes": boxes,
                "answers": [paths["answers"]],
                "attention": [paths["attention"]],
                "lens": [paths["lens"]],
                "consistency": [paths["consistency"]],
                "signals": paths["signals"],
                "heads": paths["heads"],
                "recipes": paths["recipes"],
                "metrics": paths["metrics"],
            },
            seed=0,
            metrics=MetricsConfig(bootstrap=100, top_heads=(1, 5)),
            provenance=self.provenance,
        )
        self._write_probes(paths)
        if "attention" not in self.capture:
            del paths["mask"]
        return paths

    def _normal(self, *shape: int) -> np.ndarray:
        return self.rng.normal(size=(self.n, *shape))

    def _answers(self) -> dict[str, object]:
        wrong = {"yes": "no", "no": "yes", "1": "2", "2": "3", "3": "4"}
        answers = [
            reference if right else wrong.get(reference, "green")
            for reference, right in zip(self.items["reference"], self.correct, strict=True)
        ]
        garbled = ~self.correct & (self.rng.random(self.n) < 0.1)
        existence = self.items["task"].to_numpy() == "existence"
        confidence = self.knows + self._normal()
        return {
            "item_id": self.ids,
            "answer": answers,
            "parsed": [None if bad else a for a, bad in zip(answers, garbled, strict=True)],
            "score": self.correct.astype(float),
            "correct": self.correct,
            "correct_official": [
                bool(c) if e else None for c, e in zip(self.correct, existence, strict=True)
            ],
            "token_ids": [[1, 2]] * self.n,
            "token_logprobs": [[-float(p)] for p in np.exp(-1 - 0.5 * confidence)],
            "first_token_entropy": np.exp(-0.5 - 0.4 * (confidence + self._normal())),
            "first_token_ids": [None] * self.n,
            "first_token_logprobs": [None] * self.n,
            "decision_margin": 3 + self.knows,
            "close_choices": [0] * self.n,
            "n_prompt_tokens": [200] * self.n,
            "n_image_tokens": [h * w for h, w in self._grids()],
            "note": [None] * self.n,
        }

    def _grids(self) -> list[tuple[int, int]]:
        """All but the first model see two aspect ratios."""
        return [(12, 16) if self.index and i % 3 == 0 else (12, 12) for i in range(self.n)]

    def _attention(self) -> dict[str, object]:
        grids = self._grids()
        maps = []
        for height, width in grids:
            sharpness = np.linspace(2.0, 0.15, N_LAYERS)
            maps.append([self.rng.dirichlet(np.full(height * width, s)) for s in sharpness])
        maps[3] = [np.full(grids[3][0] * grids[3][1], np.nan)] * N_LAYERS
        contribution = 0.4 * self._normal(N_LAYERS, N_HEADS)
        contribution += self.rng.normal(size=(N_LAYERS, N_HEADS))
        return {
            "item_id": self.ids,
            "grid_h": [height for height, _ in grids],
            "grid_w": [width for _, width in grids],
            "maps": [[row.tolist() for row in item] for item in maps],
            "image_mass": self.rng.uniform(0.1, 0.6, (self.n, N_LAYERS)).tolist(),
            "sinks": [[layer * h * w + 5 for layer in range(N_LAYERS)] for h, w in grids],
            "head_entropy": (4 + 0.3 * self._normal(N_LAYERS, N_HEADS)).tolist(),
            "head_clusters": self.rng.poisson(2, (self.n, N_LAYERS, N_HEADS)).tolist(),
            "head_contribution": contribution.tolist(),
            "note": ["non-finite activations" if i == 3 else None for i in range(self.n)],
        }

    def _lens(self) -> dict[str, object]:
        rise = np.linspace(0, 1, N_LAYERS)
        sign = np.where(self.correct, 1.0, -1.0)[:, None]
        decision = np.abs(4 * rise * (1 + 0.5 * self.knows[:, None]) + 0.6 * self._normal(N_LAYERS))
        truth = -3 + 3 * rise + sign * 3 * rise + 0.8 * self._normal(N_LAYERS)
        attention = 0.4 + 0.5 * self._normal(N_LAYERS)
        mlp = np.linspace(-0.3, 1.6, N_LAYERS) + 0.5 * self._normal(N_LAYERS)
        update = np.array([8, 7.2, 6.4, 5.6, 5.8, 11]) + self._normal(N_LAYERS)
        return {
            "item_id": self.ids,
            "truth_margin": truth.tolist(),
            "decision_margin": decision.tolist(),
            "pair_top": [1] * self.n,
            "pair_runner_up": [2] * self.n,
            "embed_contribution": np.zeros(self.n),
            "attention_contribution": attention.tolist(),
            "mlp_contribution": mlp.tolist(),
            "logit_difference": (attention + mlp).sum(axis=1),
            "residual_update": update.tolist(),
            "note": [None] * self.n,
        }

    def _consistency(self) -> dict[str, object]:
        agree = self.rng.binomial(K, expit(1.5 + 0.9 * self.knows)).clip(3, K)
        return {
            "item_id": self.ids,
            "answers": [["yes"] * K] * self.n,
            "normalised": [["yes"] * K] * self.n,
            "self_consistency": agree / K,
            "majority": ["yes"] * self.n,
            "majority_correct": self.correct,
            "close_draws": [0] * self.n,
            "note": [None] * self.n,
            **self._exact(expit(1.5 + 0.9 * self.knows).clip(0.3, 1.0)),
        }

    def _exact(self, share: np.ndarray) -> dict[str, object]:
        """The distribution that the samples were drawn from: two answers and a little unknown."""
        unknown = np.full(self.n, 0.004)
        return {
            "exact_answers": [["yes", "no"]] * self.n,
            "exact_probabilities": np.stack([share, 1 - share], axis=1).tolist(),
            "unresolved": unknown,
            "majority_share_low": share,
            "majority_share_high": np.minimum(share + unknown, 1.0),
            "expected_consistency_low": share,
            "expected_consistency_high": np.minimum(share + unknown, 1.0),
        }

    def _interventions(self, losses: dict[str, float], names: list[str]) -> dict[str, object]:
        """Some conditions break answers; the dose conditions run on the first 120 items only."""
        frames = []
        for condition, loss in losses.items():
            is_dose = condition[-2:] in ("10", "50", "70", "90") and losses is MASK_LOSS
            rows = np.arange(120 if is_dose else self.n)
            seeds = N_SEEDS if "random" in condition and not is_dose else 1
            for seed in range(seeds):
                frames.append(self._outcome(rows, condition, seed, loss))
        return pl.concat(frames).select(names).to_dict(as_series=False)

    def _outcome(self, rows: np.ndarray, condition: str, seed: int, loss: float) -> pl.DataFrame:
        before, draw = self.correct[rows], self.rng.random(len(rows))
        after = np.where(before, draw > loss, draw < 0.04)
        share = MASK_SHARE.get(condition, 0.0)
        tail = condition.split("_")[-1]
        if not share and tail.isdigit():
            share = int(tail) / 100
        return pl.DataFrame(
            {
                "item_id": [self.ids[row] for row in rows],
                "condition": condition,
                "seed": seed,
                "share": share,
                "n_masked": round(share * 144),
                "layer": 4,
                "n_neurons": 5,
                "answer": "yes",
                "parsed": "yes",
                "score": after.astype(float),
                "correct": after,
                "changed": after != before,
                "decision_margin": 1.0,
            }
        )

    def _trace(self) -> pl.DataFrame:
        """The picture enters at layers 2 and 3; after layer 3 the last token's state holds it."""
        clean, blank = 3 + self.knows, 1 + 0.3 * self.knows
        left = {"knockout_image": (1.0, 1.0, 0.3, 0.4, 1.0, 1.0),
                "knockout_text": (0.6, 0.7, 0.8, 1.0, 1.0, 1.0),
                "patch": (0.0, 0.05, 0.5, 0.9, 1.0, 1.0)}  # fmt: skip
        runs = [("clean", -1, clean), ("blank", -1, blank)]
        runs += [
            (kind, layer, blank + share * (clean - blank) + 0.1 * self._normal())
            for kind, shares in left.items()
            for layer, share in enumerate(shares)
        ]
        return pl.concat(
            pl.DataFrame(
                {
                    "item_id": self.ids, "kind": [kind] * self.n,
                    "layer": pl.Series([layer] * self.n, dtype=pl.Int32),
                    "last_layer": pl.Series([layer] * self.n, dtype=pl.Int32),
                    "margin": pl.Series(margin, dtype=pl.Float32),
                    "same_token": margin > 0,
                }
            )
            for kind, layer, margin in runs
        )  # fmt: skip

    def _score(self, skill: float) -> np.ndarray:
        return expit(0.9 + 0.55 * (skill * self.knows + self._normal()))

    def _write_probes(self, paths: dict[str, Path]) -> None:
        table = read_table(paths["signals"], signal_table())
        judged = EvaluationItems.from_frame(table, seed=0, n_boot=100, margins=EquivalenceMargins())
        rows, scores = [], {}
        fold = np.arange(self.n) % N_FOLDS
        for layer, skill in enumerate(LAYER_SKILL):
            rows += reliability_rows(
                "linear", self._score(skill), judged, layer=layer, correlation=False, folds=fold
            )
        for name, skill in PROBE_SKILL.items():
            if name in PROBE_NEEDS and PROBE_NEEDS[name] not in self.capture:
                rows += not_captured_rows(name, judged, correlation=False)
                continue
            scores[name] = self._score(skill)
            rows += reliability_rows(name, scores[name], judged, correlation=False, folds=fold)
            right = (scores[name] > 0.5) == judged.correct
            rows += share_rows(name, "accuracy", right, judged)
        areas = self.rng.normal(0.5, 0.02, size=20)
        rows += permutation_rows("permuted_linear_best", areas, 0.9, n=self.n)
        rows += self._transfer_rows(judged)
        write_table(paths["probes"], PROBES, adjusted(rows), provenance=self.provenance)
        predictions = {
            "item_id": self.ids * len(scores),
            "probe": [name for name in scores for _ in range(self.n)],
            "layer": [4] * (self.n * len(scores)),
            "fold": np.tile(fold, len(scores)),
            "score": np.concatenate(list(scores.values())),
        }
        write_table(paths["predictions"], PREDICTIONS, predictions, provenance=self.provenance)

    def _transfer_rows(self, judged: EvaluationItems) -> list[dict[str, object]]:
        """Probes that know most of the split that they learnt from."""
        splits = np.array([item_id.rpartition("/")[0] for item_id in self.ids])
        rows = []
        for source in np.unique(splits).tolist():
            scores = np.where(splits == source, self._score(2.0), self._score(0.4))
            for target in np.unique(splits).tolist():
                here = splits == target
                area = clustered_auroc(
                    scores[here], judged.correct[here], judged.groups[here],
                    n_images=judged.n_images, name=target,
                )  # fmt: skip
                estimate = auroc_estimate(area)
                rows.append(estimate_row(f"{TRANSFER}{source}", target, "transfer_auroc", estimate))
        return rows

    def _neurons(self) -> dict[str, object]:
        weights = self.rng.laplace(size=(N_FOLDS, 8))
        return {
            "layer": [4] * weights.size,
            "fold": np.repeat(np.arange(N_FOLDS), 8),
            "neuron": np.tile(np.arange(8), N_FOLDS),
            "weight": weights.ravel(),
            "rank": np.argsort(np.argsort(-np.abs(weights), axis=1), axis=1).ravel(),
            "mean": np.zeros(weights.size),
            "norm": np.ones(weights.size),
            "step": np.ones(weights.size),
            "best_layer": [True] * weights.size,
        }
