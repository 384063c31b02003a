"""A monitor's folder: `card.json`, `monitor.safetensors` and a model card, `README.md`.

The card says what the monitor was fitted for; a monitor refuses all else. Tensors are named
`feature_weights`, `intercept`, `probe_weights`, `probe_intercept` and `scores`.
"""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from vrp.config.section import Section
from vrp.errors import InputError
from vrp.monitor.predictor import PREDICTORS, PROBE, Predictor, Probe
from vrp.stats.calibrators import Calibrator, calibrator_from
from vrp.tables.atomic_files import atomic_write, require_writable
from vrp.tables.saved_probe import sorted_safetensors
from vrp.tables.sealed_json import read_sealed_json, sealed_text

FORMAT = "vrp monitor 2"
"""States what the folder is, and which version of it."""
CARD, TENSORS, README = "card.json", "monitor.safetensors", "README.md"


class FittedModel(Section):
    """The model that a monitor belongs to, and how it is asked."""

    name: str
    """Name in the study."""
    family: str
    checkpoint: str
    """Hub id, folder or `zoo:<family>`."""
    revision: str | None
    """Commit of a hub checkpoint, or the digest of a folder's files."""
    weights: str
    """Digest of the parameters in memory."""
    dtype: str
    prompt: str
    """Name of the prompt variant."""
    image_policy: str
    min_pixels: int | None = None
    max_pixels: int | None = None
    processor_digest: str
    prompt_digest: str
    prompt_beginning: tuple[int, ...]
    """Tokens that every prompt begins with, the image as one placeholder."""
    prompt_end: tuple[int, ...]
    """Tokens that every prompt ends with."""
    image_token_id: int
    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer."""
    max_new_tokens: int
    """Maximum length of an answer in tokens."""
    max_new_tokens_by_task: dict[str, int] = Field(default={})


class Interval(Section):
    """A number with its 95% interval, clustered by image; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_images: int


class Threshold(Section):
    """What is accepted at one alpha."""

    alpha: float = Field(gt=0, lt=1)
    """Maximum share of wrong answers among those accepted."""
    delta: float = Field(gt=0, lt=0.5)
    """Probability that the guarantee fails."""
    threshold: float | None
    """Accept answers whose score is at least this; None: accept none."""
    probability: float | None
    """Calibrated probability at the threshold."""
    coverage: float
    """Share of answers that is accepted in calibration, of a random item of a random image."""
    n: int
    """Calibration images."""
    n_items: int
    """Calibration items that were used."""
    test: str
    """Name of the test of each candidate: "binomial" or "betting"."""
    n_accepted: int
    n_wrong: int
    risk: float | None
    """Share of wrong answers among those accepted in calibration, weighted as `coverage`."""
    bound: float | None
    """Upper bound of the risk at confidence 1 − delta."""
    reason: str
    """Why nothing is accepted; empty where something is."""


class Training(Section):
    """What a monitor was fitted to."""

    study: str
    seed: int
    tasks: dict[str, int]
    """Task → labelled items."""
    n_items: int
    n_images: int
    accuracy: float
    n_images_fit: int
    """Images on which the predictor was chosen and fitted."""
    n_images_thresholds: int
    """The other images, on which thresholds were found."""
    choice: str
    """Why this predictor was chosen."""


class Performance(Section):
    """How well a monitor works on images that its predictor was not chosen or fitted on."""

    auroc: Interval
    """Within strata of task and answer form."""
    ece: float
    """Expected calibration error, of probabilities from maps fitted on other images."""
    brier: float
    """Brier score of the same."""


class Guard(Section):
    """A predictor of right answers that sees neither the image nor the model's confidence."""

    name: str
    auroc: Interval


class Card(Section):
    """What a monitor was fitted to, how well it works, and its intended use."""

    format: str = FORMAT
    model: FittedModel
    predictor: str
    features: tuple[str, ...]
    layer: int | None
    """Decoder layer of the probe, from 0."""
    position: str
    """Token whose hidden state the probe reads."""
    calibrator: dict[str, Any]
    calibrator_reason: str
    thresholds: tuple[Threshold, ...]
    training: Training
    performance: Performance
    guards: tuple[Guard, ...]
    intended_use: tuple[str, ...]
    limits: tuple[str, ...]
    versions: dict[str, str]
    tensors_sha256: str = ""

    @property
    def answer_limits(self) -> set[int]:
        """Longest answers, in tokens, that the monitor was fitted to."""
        return {self.model.max_new_tokens, *self.model.max_new_tokens_by_task.values()}

    def threshold(self, alpha: float) -> Threshold:
        """Return what is accepted at an alpha.

        Raises:
            InputError: the card has no threshold for it.
        """
        for one in self.thresholds:
            if np.isclose(one.alpha, alpha):
                return one
        known = ", ".join(f"{one.alpha:g}" for one in self.thresholds)
        raise InputError(f"alpha {alpha:g}: the monitor has thresholds for {known}; choose one")


class MonitorFolder(NamedTuple):
    """What a monitor's folder holds."""

    card: Card
    predictor: Predictor
    calibrator: Calibrator
    scores: NDArray[np.float64]
    """(n,) ascending scores of the threshold items, one of each image, by which drift is tested."""


def write_folder(folder: Path, content: MonitorFolder, readme: str) -> None:
    """Write a monitor's files together, whole or not at all; equal monitors give equal files.

    Raises:
        InputError: the folder cannot be written.
    """
    arrays = _tensors(content.predictor, content.scores)
    data = sorted_safetensors({"format": FORMAT}, arrays)
    card = content.card.model_copy(update={"tensors_sha256": hashlib.sha256(data).hexdigest()})
    require_writable(folder / CARD)
    with ExitStack() as stack:  # the card, which names the tensors' digest, appears last
        made, text, tensors = (
            stack.enter_context(atomic_write(folder / name)) for name in (CARD, README, TENSORS)
        )
        tensors.write_bytes(data)
        text.write_text(readme, encoding="utf-8")
        made.write_text(sealed_text(card.model_dump(mode="json")), encoding="utf-8")


def read_folder(folder: Path) -> MonitorFolder:
    """Read what `write_folder` wrote.

    Raises:
        InputError: a file is missing, malformed, edited, or not one of the others.
    """
    if not (folder / CARD).is_file():
        raise InputError(f"{folder}: holds no {CARD}; give a folder that `vrp monitor fit` made")
    raw = read_sealed_json(folder / CARD, made_by="monitor fit")
    if raw.get("format") != FORMAT:
        raise InputError(f"{folder / CARD}: is no {FORMAT!r}; fit it again with this version")
    try:
        card = Card.model_validate(raw)
        calibrator = calibrator_from(card.calibrator)
    except (ValidationError, InputError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / CARD}: malformed ({reason}); fit it again") from None
    tensors = _read_tensors(folder / TENSORS, card.tensors_sha256)
    return MonitorFolder(card, _predictor(folder, card, tensors), calibrator, tensors["scores"])


def _tensors(predictor: Predictor, scores: NDArray[np.float64]) -> dict[str, NDArray]:
    found = {
        "feature_weights": predictor.weights,
        "intercept": np.array([predictor.intercept]),
        "scores": np.sort(scores),
    }
    if predictor.probe is not None:
        found["probe_weights"] = predictor.probe.weights
        found["probe_intercept"] = np.array([predictor.probe.intercept])
    return {name: np.ascontiguousarray(one, dtype=np.float64) for name, one in found.items()}


def _read_tensors(path: Path, sha256: str) -> Mapping[str, NDArray[np.float64]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fit it again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: is not the file that {CARD} was written with; fit it again")
    try:
        return load(data)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}); fit it again") from None


def _predictor(folder: Path, card: Card, tensors: Mapping[str, NDArray[np.float64]]) -> Predictor:
    probe = None
    if PROBE in card.features:
        if card.layer is None or "probe_weights" not in tensors:
            raise InputError(f"{folder}: its probe is missing; fit it again")
        intercept = float(tensors["probe_intercept"][0])
        probe = Probe(card.layer, tensors["probe_weights"], intercept)
    weights = tensors["feature_weights"]
    if card.predictor not in PREDICTORS or len(weights) != len(card.features):
        raise InputError(f"{folder}: predictor and weights do not fit together; fit it again")
    return Predictor(card.predictor, card.features, weights, float(tensors["intercept"][0]), probe)
