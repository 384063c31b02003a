"""`ReliabilityMonitor`: attached to a model, it decides for each answer whether to accept it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vrp.data.images import open_image
from vrp.errors import InputError
from vrp.monitor.card import Card, FittedModel, MonitorFolder, Threshold, read_folder, write_folder
from vrp.monitor.fitting import FitOptions, fit_monitor
from vrp.monitor.model_card import model_card
from vrp.monitor.predictor import Predictor
from vrp.stats.calibrators import Calibrator

if TYPE_CHECKING:
    from vrp.monitor.watching import Pass
    from vrp.vlm.families.base import Family
    from vrp.vlm.model import VLM

ImageLike = Image.Image | str | Path
ALPHA = 0.1
"""Default maximum share of wrong answers among those accepted."""


class WatchedAnswer(NamedTuple):
    """One answer, and the monitor's decision on it."""

    answer: str
    """The answer as text."""
    probability: float
    """Calibrated probability that it is right; NaN for an answer without tokens."""
    accepted: bool
    """Whether to accept it; if not, ask a person."""
    score: float
    """Score that the threshold applies to; NaN for an answer without tokens."""
    token_logprobs: tuple[float, ...]
    """Log-probabilities of its tokens, nats."""

    @property
    def decision(self) -> str:
        """`accept` or `ask`."""
        return "accept" if self.accepted else "ask"


@dataclass
class Watch:
    """What a monitor has seen since it was attached: a sequence of `WatchedAnswer`."""

    answers: list[WatchedAnswer] = field(default_factory=list)
    """In the order of the calls and of their rows."""

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[WatchedAnswer]:
        return iter(self.answers)

    def __getitem__(self, index: int) -> WatchedAnswer:
        return self.answers[index]


class ReliabilityMonitor:
    """A monitor for one model: calibrated probabilities, and thresholds with a guarantee.

    Made by `ReliabilityMonitor.fit`, `load` or `from_hub`.
    """

    def __init__(self, content: MonitorFolder) -> None:
        self.card: Card = content.card
        """What it was fitted to, how well it works, and its intended use."""
        self.predictor: Predictor = content.predictor
        """Scores an answer."""
        self.calibrator: Calibrator = content.calibrator
        """Score → probability."""
        self.scores: NDArray[np.float64] = content.scores
        """(n,) scores of the calibration items, one of each image, ascending."""
        self._attached: _Attached | None = None

    def __repr__(self) -> str:
        """Name the model and the predictor."""
        card = self.card
        return f"ReliabilityMonitor({card.model.checkpoint!r}, {card.predictor})"

    @property
    def summary(self) -> str:
        """What it accepts and how well it works, in a few lines."""
        card = self.card
        area = card.performance.auroc
        lines = [
            f"{card.model.checkpoint}: {card.predictor}; {card.training.choice}",
            f"AUROC within strata {_shown(area.value)} [{_shown(area.low)}, {_shown(area.high)}], "
            f"ECE {card.performance.ece:.3f}",
        ]
        for one in card.thresholds:
            found = f"accept none: {one.reason}"
            if one.threshold is not None:
                found = (
                    f"accept {100 * one.coverage:.1f}% of the answers, those of probability "
                    f"{one.probability:.3f} or more ({100 * (one.risk or 0):.1f}% of them wrong)"
                )
            lines.append(f"alpha {one.alpha:g}: {found}")
        return "\n".join(lines)

    @classmethod
    def fit(
        cls, study: Path | str, model: str, options: FitOptions | None = None
    ) -> "ReliabilityMonitor":
        """Fit a monitor to one model of a finished study; arguments and errors of `fit_monitor`."""
        return cls(fit_monitor(Path(study), model, options))

    @classmethod
    def load(cls, folder: Path | str) -> "ReliabilityMonitor":
        """Read a monitor's folder.

        Raises:
            InputError: it is no such folder, or not as it was written.
        """
        return cls(read_folder(Path(folder)))

    @classmethod
    def from_hub(cls, repository: str, *, revision: str | None = None) -> "ReliabilityMonitor":
        """Read a monitor from the hub.

        Args:
            repository: owner and name.
            revision: commit, tag or branch; None: the main branch.

        Raises:
            InputError: it is not there, not for everyone, or no monitor.
        """
        from vrp.monitor.hub import fetch_folder

        return cls.load(fetch_folder(repository, revision))

    def save(self, folder: Path | str) -> None:
        """Write the monitor's folder: card, tensors, model card.

        Raises:
            InputError: it cannot be written.
        """
        content = MonitorFolder(self.card, self.predictor, self.calibrator, self.scores)
        write_folder(Path(folder), content, model_card(self.card))

    def push_to_hub(self, repository: str, *, private: bool = True) -> str:
        """Upload the monitor's folder, with its model card, to the hub; return the commit's URL.

        Args:
            repository: owner and name; made where it is not there.
            private: whether a new repository is private.

        Raises:
            InputError: the hub refuses it or cannot be reached.
        """
        from vrp.monitor.hub import push_folder

        return push_folder(self, repository, private=private)

    # Attached to a model

    @contextmanager
    def watch(self, model: Any, processor: Any = None, *, alpha: float = ALPHA) -> Iterator[Watch]:
        """Read what a model's `generate` answers within the `with` block.

        Args:
            model: the transformers model that the monitor was fitted for, or one of `vrp.load`,
                whose processor is known.
            processor: its processor, where inputs are not made by `inputs`, as in a pipeline: then
                it is checked.
            alpha: greatest share of wrong answers among those accepted; one of the card's.

        Raises:
            InputError: another model, processor or dtype than the monitor was fitted for; when the
                model generates, another prompt or way to generate.
        """
        from vrp.monitor.refusals import check_generation, check_model, check_prompts
        from vrp.monitor.watching import watched

        fitted, threshold, seen = self.card.model, self.card.threshold(alpha), Watch()
        bound: VLM | None = getattr(model, "vlm", None)
        model = model if bound is None else bound.model
        check_model(model, fitted)
        self._attached = _Attached(model, fitted)
        if bound is not None:
            self._attached.bind(bound.family)
        if processor is not None:
            self._attached.take(processor)

        def check(options: Mapping[str, Any]) -> "VLM":
            check_generation(model, self.card, options)
            check_prompts(options.get("input_ids"), options.get("attention_mask"), fitted)
            return self._vlm()

        def keep(read: "Pass") -> None:
            seen.answers.extend(self._judged(read, threshold))

        try:
            with watched(model, self.predictor, check=check, keep=keep):
                yield seen
        finally:
            self._attached = None

    def _vlm(self, processor: Any = None) -> "VLM":
        """The attached model, bound to the processor that was given last.

        Raises:
            InputError: no model is attached, or no processor was given.
        """
        if self._attached is None:
            raise InputError("monitor: no model is attached; use `with monitor.watch(model):`")
        if processor is not None:
            self._attached.take(processor)
        if self._attached.vlm is None:
            raise InputError(
                "monitor: the processor is not known; use monitor.inputs(processor, …), or "
                "monitor.watch(model, processor)"
            )
        return self._attached.vlm

    def _judged(self, read: "Pass", threshold: Threshold) -> list[WatchedAnswer]:
        probabilities = self.calibrator.probability(read.scores)
        accepted = accepts(read.scores, threshold)
        return [
            WatchedAnswer(answer, float(p), bool(yes), float(score), tuple(logprobs))
            for answer, p, yes, score, logprobs in zip(
                read.answers, probabilities, accepted, read.scores, read.token_logprobs,
                strict=True,
            )
        ]  # fmt: skip

    def inputs(
        self,
        processor: Any,
        image: ImageLike | Sequence[ImageLike],
        question: str | Sequence[str],
        *,
        task: str = "",
    ) -> dict[str, Any]:
        """Return what `generate` takes, as the monitor was fitted: prompt, pixels, greedy, length.

        To be called within `watch`; tensors are on the model's device.

        Args:
            processor: the model's processor; None: the one that `watch` knows.
            image: an image or its file, or several.
            question: the bare question, or as many.
            task: what the questions ask for, where the study limits answers by task.

        Raises:
            InputError: another processor than the monitor was fitted with, or as many images as
                questions are not given.
        """
        from vrp.monitor.inputs import generation_inputs

        vlm = self._vlm(processor)
        questions = [question] if isinstance(question, str) else list(question)
        images = [image] if isinstance(image, Image.Image | str | Path) else list(image)
        if len(images) != len(questions):
            raise InputError(f"monitor: {len(images)} images for {len(questions)} questions")
        return {
            **generation_inputs(vlm, [_opened(each) for each in images], questions),
            **self.generate_options(task),
        }

    def generate_options(self, task: str = "") -> dict[str, Any]:
        """Return the options of `generate` that the monitor was fitted with: greedy, max length.

        A pipeline takes them as `generate_kwargs`.
        """
        fitted = self.card.model
        longest = fitted.max_new_tokens_by_task.get(task, fitted.max_new_tokens)
        return {"do_sample": False, "num_beams": 1, "max_new_tokens": longest}

    def prompt(self, question: str) -> str:
        """Return the text of a question with its prompt, for a pipeline; within `watch`."""
        return self._vlm().render_prompt(question)


class _Attached:
    """A model that is watched, and its processor once it is known."""

    def __init__(self, model: Any, fitted: FittedModel) -> None:
        self.model, self.fitted = model, fitted
        self.processor: Any = None
        self.vlm: VLM | None = None

    def take(self, processor: Any) -> None:
        """Check a processor, once, and bind the model to it."""
        from vrp.monitor.refusals import checked_family

        if processor is not self.processor:
            self.bind(checked_family(self.model, processor, self.fitted))
            self.processor = processor

    def bind(self, family: "Family") -> None:
        """Check a processor by the family that is bound to it, and bind the model."""
        from vrp.monitor.refusals import check_family
        from vrp.vlm.model import VLM

        check_family(family, self.fitted)
        self.vlm = VLM(
            model=self.model, family=family, tokenizer=family.tokenizer,
            eos_token_ids=self.fitted.eos_token_ids, weights=self.fitted.weights,
        )  # fmt: skip


def accepts(scores: NDArray[np.float64], threshold: Threshold) -> NDArray[np.bool_]:
    """(n,) whether each answer is accepted, by its score (n,); NaN never is."""
    if threshold.threshold is None:
        return np.zeros(len(scores), dtype=bool)
    return np.asarray(scores) >= threshold.threshold


def _shown(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _opened(image: ImageLike) -> Image.Image:
    return image.convert("RGB") if isinstance(image, Image.Image) else open_image(Path(image))
