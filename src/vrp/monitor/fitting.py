"""Fit a monitor to a finished study.

Images are split once. By those of the first part a predictor is chosen and, where it has weights,
fitted; by the others thresholds are found, so that their guarantee holds whatever was chosen.
Thresholds are on the score: the calibrator only says what a score means.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from vrp.config.models import ModelConfig
from vrp.config.study import StudyConfig
from vrp.errors import InputError, unknown_name
from vrp.estimates.predictors import predictor_label
from vrp.estimates.probe_inputs import Inputs, read_inputs
from vrp.monitor.card import (
    Card,
    FittedModel,
    Guard,
    Interval,
    MonitorFolder,
    Performance,
    Threshold,
    Training,
)
from vrp.monitor.predictor import (
    FUSION,
    LOG_ODDS,
    PREDICTORS,
    PROBE,
    TOKEN_CONFIDENCE,
    Predictor,
    Probe,
    one_pass_signals,
    with_log_odds,
)
from vrp.probing.crossfit import ProbeResult
from vrp.probing.folds import FoldPlan, plan_all_items, plan_folds
from vrp.probing.fusion import fit_fusion
from vrp.probing.labels import BLIND_LINEAR_BEST, LINEAR_BEST
from vrp.probing.linear import nested_best_layer
from vrp.probing.sweep import Labelling, fit_layers_together, fit_once
from vrp.stats.auroc import auroc_difference, auroc_estimate, stratified_auroc
from vrp.stats.bootstrap import generator
from vrp.stats.calibration import calibration
from vrp.stats.calibrators import Calibrator, FittedCalibrator, fit_calibrator
from vrp.stats.clusters import ClusteredEstimate, numbered
from vrp.stats.risk_control import (
    ALPHAS,
    DELTA,
    RiskControl,
    control_risk,
    one_item_per_group,
)
from vrp.study.results import ModelResults, StudyResults
from vrp.study.study_folder import open_study_folder, read_snapshot
from vrp.tables.answers import ANSWERS
from vrp.tables.estimates import PROBES, WITHIN_STRATA
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.seal import read_provenance
from vrp.tables.signals import signal_table, strata_of

FIT_SHARE = 0.3
"""Share of the images by which a predictor is chosen and fitted."""
FEWEST_IMAGES = 50
"""Images of the first part under which token confidence is taken without a contest."""
_GUARDS = ("question_only", "answer_only", BLIND_LINEAR_BEST)


class FitOptions(NamedTuple):
    """What the user chooses."""

    predictor: str | None = None
    """One of `PREDICTORS`; None: token confidence, unless another is better."""
    alphas: tuple[float, ...] = ALPHAS
    """Risks for which thresholds are found."""
    delta: float = DELTA
    """Chance that a guarantee fails."""
    fit_share: float = FIT_SHARE
    """Share of the images by which a predictor is chosen and fitted."""


class Labelled(NamedTuple):
    """The study's items that have a reference answer, in the order of their ids."""

    frame: pl.DataFrame
    """Rows of the signals table."""
    fit: NDArray[np.bool_]
    """(n,) whether the item's image is in the part by which a predictor is chosen."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(n,) whether the answer is right."""
        return self.frame["correct"].to_numpy().astype(bool)

    def auroc(self, scores: NDArray[np.float64], of: NDArray[np.bool_], folds: Any = None) -> Any:
        """AUROC of scores within strata, of some of the items."""
        some = self.frame.filter(of)
        codes, n_images = numbered(some["group"].to_numpy())
        within = None if folds is None else folds[of]
        return stratified_auroc(
            scores[of], self.correct[of], codes, strata_of(some).to_numpy(), n_images=n_images,
            folds=within,
        )  # fmt: skip


class Chosen(NamedTuple):
    """A predictor, its score of every labelled item, and why it was chosen."""

    predictor: Predictor
    scores: NDArray[np.float64]
    reason: str


def fit_monitor(folder: Path, model: str, options: FitOptions | None = None) -> MonitorFolder:
    """Fit a monitor of one model to a finished study.

    Args:
        folder: the study's, such as `results/demo`.
        model: the model's name there.
        options: what is chosen; None: the defaults.

    Raises:
        InputError: no such study or model, answers that nobody judged or of which all are right or
            all wrong, too few images, or a checkpoint that is not where it was.
    """
    chosen_options = options or FitOptions()
    _check(chosen_options)
    study, results = read_snapshot(folder), open_study_folder(folder)
    of_model = _model(results, model, folder)
    # A predictor that is neither chosen nor fitted by these items needs none of their images.
    decided = chosen_options.predictor == TOKEN_CONFIDENCE
    labelled = _labelled(of_model, folder, 0.0 if decided else chosen_options.fit_share)
    found = _choose(study, results, of_model, labelled, chosen_options)
    held_out = ~labelled.fit
    # Scores of a fitted predictor are too sure on the images that it was fitted to.
    calibrated = held_out if found.predictor.probe else np.ones(held_out.size, dtype=bool)
    some = labelled.frame.filter(calibrated)
    fitted = fit_calibrator(
        found.scores[calibrated], labelled.correct[calibrated], some["group"], seed=study.study
    )
    scores, groups = found.scores[held_out], labelled.frame["group"].to_numpy()[held_out]
    controls = [
        control_risk(
            scores, labelled.correct[held_out], groups, alpha=alpha, delta=chosen_options.delta
        )
        for alpha in sorted(chosen_options.alphas)
    ]
    card = Card(
        model=_fitted_model(study.models[model], model, of_model, study),
        predictor=found.predictor.kind,
        features=found.predictor.features,
        layer=None if found.predictor.probe is None else found.predictor.probe.layer,
        position="prompt_end",
        calibrator=fitted.calibrator.as_json(),
        calibrator_reason=fitted.reason,
        thresholds=tuple(_threshold(one, fitted.calibrator) for one in controls),
        training=_training(study, labelled, found.reason),
        performance=_performance(labelled, found.scores, fitted, calibrated),
        guards=_guards(of_model),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        versions=json.loads(_origin(of_model).get("versions", "{}")),
    )
    scores = np.sort(scores[one_item_per_group(groups, scores)])
    return MonitorFolder(card, found.predictor, fitted.calibrator, scores[np.isfinite(scores)])


INTENDED_USE = (
    "Deciding for each answer of the model named here whether to accept it or to ask a person.",
    "Questions and images similar to those that it was fitted to; `vrp monitor check` tests this "
    "on a few hundred labelled items of your own.",
)
LIMITS = (
    "The guarantee holds for items drawn like the calibration items, a random question about a "
    "random image: P(wrong | accepted) ≤ alpha with probability at least 1 − delta over the "
    "calibration. It does not hold for other data, nor for one kind of question alone.",
    "It measures confidence, not truth: an answer that is wrong with confidence is accepted.",
    "Sampling, beams, other prompts, image sizes, weights, dtypes or adapters are refused.",
)


def _check(options: FitOptions) -> None:
    if options.predictor not in (None, *PREDICTORS):
        raise InputError(unknown_name("predictor", str(options.predictor), PREDICTORS))
    if not 0 < options.fit_share < 1:
        raise InputError(f"fit share {options.fit_share:g}: give a share between 0 and 1")
    if not options.alphas:
        raise InputError("give at least one alpha")


def _model(results: StudyResults, model: str, folder: Path) -> ModelResults:
    names = [one.name for one in results.models]
    if model not in names:
        raise InputError(f"{folder}: {unknown_name('model', model, names)}")
    found = results.models[names.index(model)]
    if not found.paths(signal_table()):
        raise InputError(f"{folder}: {model} has no signals; run the stage metrics first")
    return found


def _labelled(model: ModelResults, folder: Path, fit_share: float) -> Labelled:
    rows = model.table(signal_table())
    found = rows.filter(pl.col("correct").is_not_null()).sort("item_id")
    if rows[TOKEN_CONFIDENCE].null_count() == len(rows) or found.is_empty():
        raise InputError(f"{folder}: {model.name} has no judged answers to fit a monitor to")
    right = found["correct"].sum()
    if right in (0, len(found)):
        which = "right" if right else "wrong"
        raise InputError(
            f"{folder}: all answers of {model.name} are {which}: there is nothing to distinguish"
        )
    images = found["group"].unique().sort()
    n_fit = round(fit_share * len(images))
    order = generator("monitor", found["item_id"][0]).permutation(len(images))
    fit = images[np.sort(order[:n_fit])]
    return Labelled(found, found["group"].is_in(fit.implode()).to_numpy())


# The predictor


def _choose(
    study: StudyConfig,
    results: StudyResults,
    model: ModelResults,
    labelled: Labelled,
    options: FitOptions,
) -> Chosen:
    confidence = labelled.frame[TOKEN_CONFIDENCE].to_numpy().astype(np.float64)
    plain = Predictor(TOKEN_CONFIDENCE, (LOG_ODDS,), np.ones(1), 0.0)
    confidence = plain.score(with_log_odds({TOKEN_CONFIDENCE: confidence}))
    if options.predictor == TOKEN_CONFIDENCE:
        return Chosen(plain, confidence, "chosen by the user")
    n_images = labelled.frame.filter(labelled.fit)["group"].n_unique()
    if options.predictor is None and n_images < FEWEST_IMAGES:
        reason = f"{n_images} images to fit by are too few to find a better one"
        return Chosen(plain, confidence, reason)
    rivals = _Rivals(study, results, model, labelled)
    if options.predictor is not None:
        return rivals.fitted(options.predictor, "chosen by the user")
    gains = {kind: rivals.gain(kind) for kind in (PROBE, FUSION)}
    better = {kind: gain for kind, gain in gains.items() if gain.low > 0}
    told = "; ".join(
        f"{kind} minus token confidence: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        for kind, gain in gains.items()
    )
    if not better:
        return Chosen(plain, confidence, f"no other is better out of fold ({told})")
    best = max(better, key=lambda kind: better[kind].value)
    return rivals.fitted(best, f"better than token confidence out of fold ({told})")


class _Gain(NamedTuple):
    """AUROC within strata, out of fold, minus that of token confidence."""

    value: float
    low: float
    high: float


class _Rivals:
    """Probe and fusion, fitted to the images of the first part alone."""

    def __init__(
        self, study: StudyConfig, results: StudyResults, model: ModelResults, labelled: Labelled
    ) -> None:
        hidden = model.files.get("hidden", ())
        if not hidden:
            raise InputError(f"{model.name} has no hidden states; run the stage extract first")
        self.labelled, self.probes = labelled, study.probes
        self.inputs: Inputs = read_inputs(
            model.table(signal_table()), results.paths(ITEMS)[0], model.paths(ANSWERS), (), hidden,
            model.paths(LENS), (),
        )  # fmt: skip
        items = self.inputs.items
        rows = pl.Series(items.item_id.tolist())
        learnt = labelled.frame.filter(labelled.fit)["item_id"]
        self.fit = rows.is_in(learnt.implode()).to_numpy()
        self.seed = f"{study.seed}/monitor"
        folds = plan_folds(
            items, n_folds=self.probes.folds, n_inner=self.probes.inner_folds, seed=self.seed
        )
        self.plan = folds.learning_from(self.fit)
        self.whole = plan_all_items(
            items, n_inner=self.probes.inner_folds, seed=self.seed
        ).learning_from(self.fit)
        (by_layer,) = self._fit(self.plan)
        self.best = nested_best_layer(by_layer, self.plan)
        signals = {name: self.inputs.signals[name].to_numpy() for name in one_pass_signals()}
        self.signals = {name: values.astype(np.float64) for name, values in signals.items()}
        self.fusion = fit_fusion(
            self.signals, items, self.plan, probes={LINEAR_BEST: self.best},
            penalties=self.probes.penalties,
        )  # fmt: skip

    def _fit(self, plan: FoldPlan) -> list[dict[str, ProbeResult]]:
        layers = ((name, self.inputs.layers.read(name)) for name in self.inputs.layers.names)
        return fit_layers_together(
            layers, [Labelling(self.inputs.items, plan)], penalties=self.probes.penalties,
            overwrite=True,
        )  # fmt: skip

    def gain(self, kind: str) -> _Gain:
        """Compare a rival with token confidence, out of fold, on the first part's images."""
        scores = self._spread((self.best if kind == PROBE else self.fusion).scores)
        confidence = self.labelled.frame[TOKEN_CONFIDENCE].to_numpy().astype(np.float64)
        folds = self._spread(self.plan.fold.astype(np.float64))
        of = self.labelled.fit & np.isfinite(scores) & np.isfinite(confidence)
        found = auroc_difference(
            self.labelled.auroc(scores, of, folds), self.labelled.auroc(confidence, of, folds)
        )
        low, high = (end if math.isfinite(end) else math.nan for end in (found.low, found.high))
        return _Gain(found.value, low, high)

    def _spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) values of the labelled items; NaN for those without finite hidden states."""
        known = pl.DataFrame({"item_id": self.inputs.items.item_id.tolist(), "value": values})
        joined = self.labelled.frame.select("item_id").join(
            known, on="item_id", how="left", maintain_order="left"
        )
        return joined["value"].fill_null(float("nan")).to_numpy().astype(np.float64)

    def fitted(self, kind: str, reason: str) -> Chosen:
        """Fit a rival to all images of the first part, and score every labelled item."""
        probe, states = self._probe()
        log_odds = probe.log_odds(states)
        if kind == PROBE:
            predictor = Predictor(PROBE, (PROBE,), np.ones(1), 0.0, probe)
        else:
            predictor = self._fused(probe)
        values = {**self.signals, PROBE: log_odds}
        return Chosen(predictor, self._spread(predictor.score(values)), reason)

    def _probe(self) -> tuple[Probe, NDArray[np.float32]]:
        labelling = Labelling(self.inputs.items, self.whole)
        (by_layer,) = self._fit(self.whole)
        layer = nested_best_layer(by_layer, self.whole).fits[0].layer
        states = self.inputs.layers.read(layer)
        fit = fit_once(states, labelling, penalties=self.probes.penalties)
        if fit is None:
            raise InputError("all answers to fit a probe by are right, or all wrong")
        weights, intercept = fit.on_raw_features
        return Probe(int(layer.removeprefix("layer_")), weights, intercept), states

    def _fused(self, probe: Probe) -> Predictor:
        """Fit the fusion to out-of-fold log-odds of the probe, which are not those of its fit."""
        clipped = np.clip(self.best.scores, 1e-6, 1 - 1e-6)
        columns = [*self.signals.values(), logit(clipped)]
        matrix = np.nan_to_num(np.column_stack(columns))
        fit = fit_once(
            matrix, Labelling(self.inputs.items, self.whole), penalties=self.probes.penalties
        )
        if fit is None:
            raise InputError("all answers to fit a fusion by are right, or all wrong")
        weights, intercept = fit.on_raw_features
        return Predictor(FUSION, (*self.signals, PROBE), weights, intercept, probe)


# The card


def _threshold(control: RiskControl, calibrator: Calibrator) -> Threshold:
    found = control.accepted
    at = None if found is None else float(calibrator.probability([found.threshold])[0])
    return Threshold(
        alpha=control.alpha, delta=control.delta, n=control.n, n_items=control.n_items,
        test=control.test, reason=control.reason,
        threshold=None if found is None else found.threshold, probability=at,
        coverage=0.0 if found is None else found.share, n_accepted=0 if found is None else found.n,
        n_wrong=0 if found is None else found.n_wrong, risk=None if found is None else found.risk,
        bound=None if found is None else found.bound,
    )  # fmt: skip


def _training(study: StudyConfig, labelled: Labelled, reason: str) -> Training:
    frame = labelled.frame
    tasks = dict(frame["task"].value_counts().sort("task").iter_rows())
    return Training(
        study=study.study, seed=study.seed, tasks=tasks, n_items=len(frame),
        n_images=frame["group"].n_unique(), accuracy=float(labelled.correct.mean()),
        n_images_fit=frame.filter(labelled.fit)["group"].n_unique(),
        n_images_thresholds=frame.filter(~labelled.fit)["group"].n_unique(), choice=reason,
    )  # fmt: skip


def _performance(
    labelled: Labelled,
    scores: NDArray[np.float64],
    fitted: FittedCalibrator,
    calibrated: NDArray[np.bool_],
) -> Performance:
    correct = labelled.correct[calibrated]
    known = np.isfinite(fitted.probabilities)
    brier = float(np.mean((fitted.probabilities - correct)[known] ** 2))
    return Performance(
        auroc=_interval(labelled.auroc(scores, ~labelled.fit)),
        ece=calibration(fitted.probabilities, correct).ece, brier=brier,
    )  # fmt: skip


def _interval(area: ClusteredEstimate) -> Interval:
    found = auroc_estimate(area)
    return Interval(
        value=_plain(found.value), low=_plain(found.low), high=_plain(found.high), n=found.n,
        n_images=found.n_groups,
    )  # fmt: skip


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _guards(model: ModelResults) -> tuple[Guard, ...]:
    rows = model.table(PROBES).filter(
        pl.col("predictor").is_in(_GUARDS), scope=WITHIN_STRATA, metric="auroc"
    )
    return tuple(
        Guard(
            name=predictor_label(row["predictor"]),
            auroc=Interval(
                value=_plain(row["value"]), low=_plain(row["low"]), high=_plain(row["high"]),
                n=row["n"], n_images=row["n_groups"],
            ),
        )
        for row in rows.sort("predictor").iter_rows(named=True)
    )  # fmt: skip


def _origin(model: ModelResults) -> Mapping[str, str]:
    return read_provenance(model.paths(ANSWERS)[0])


def _fitted_model(
    config: ModelConfig, name: str, model: ModelResults, study: StudyConfig
) -> FittedModel:
    from vrp.monitor.fingerprint import processor_digest, prompt_digest, prompt_frame
    from vrp.running.model_manifest import local_folder
    from vrp.vlm.families import get_family
    from vrp.vlm.families.base import FamilyOptions
    from vrp.vlm.loading import load_parts

    origin = _origin(model)
    options = FamilyOptions(
        config.prompt, config.image_policy, config.min_pixels, config.max_pixels
    )
    folder = local_folder(config.checkpoint)
    revision = None if folder else (origin.get("revision") or config.revision)
    source = str(folder or config.checkpoint)
    parts = load_parts(source, get_family(config.family), revision, options)
    family = parts.family
    beginning, end = prompt_frame(family)
    return FittedModel(
        name=name, family=config.family, checkpoint=config.checkpoint, revision=revision,
        weights=origin.get("weights", ""), dtype=config.dtype, prompt=config.prompt,
        image_policy=family.image_policy, min_pixels=config.min_pixels,
        max_pixels=config.max_pixels, processor_digest=processor_digest(family),
        prompt_digest=prompt_digest(family), prompt_beginning=tuple(beginning),
        prompt_end=tuple(end), image_token_id=family.image_token_id,
        eos_token_ids=parts.eos_token_ids, max_new_tokens=study.extract.max_new_tokens,
        max_new_tokens_by_task=study.extract.max_new_tokens_by_task,
    )  # fmt: skip
