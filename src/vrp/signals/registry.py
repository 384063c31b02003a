"""The signals of a study: one entry each, and how a batch of items becomes their columns.

A signal names the table columns that it is computed from, such as `lens.truth_margin`; the metrics
stage reads them. A new signal is one function of `SignalInputs` and one entry here, or one call of
`register_signal` in an extension.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrp.errors import InputError
from vrp.signals.behavioural import (
    exact_semantic_entropy,
    first_token_divergence,
    least_token_log_probability,
    probability_margin,
    semantic_entropy,
    sequence_log_probability,
    token_confidence,
)
from vrp.signals.boxes import box_coverage, grid_window
from vrp.signals.mechanistic import late_update, layer_peak
from vrp.signals.sinks import sink_mask, without_sinks
from vrp.signals.structural import (
    FEATURE_NAMES,
    MapFeatures,
    MapProblem,
    average_layers,
    cluster_count_components,
    cluster_count_dbscan,
    map_features,
    map_problem,
    spatial_entropy,
)

ON_OBJECT = "object_attention"
"""Name of the signal that compares attention with the boxes of the object that is asked for."""

FloatArray = NDArray[np.float64]
SignalKind = Literal["structural", "mechanistic", "behavioural"]
Direction = Literal["high", "low"]

# Items whose maps are in memory as float64 at a time.
_ITEMS_A_STACK = 256
_MAPS, _GRID_H, _GRID_W = "attention.maps", "attention.grid_h", "attention.grid_w"
_IMAGE_MASS, _SINKS = "attention.image_mass", "attention.sinks"
_BOXES, _WIDTH, _HEIGHT = "boxes.boxes", "boxes.image_width", "boxes.image_height"
_LOGPROBS, _SAMPLED = "answers.token_logprobs", "consistency.normalised"
_FIRST = "answers.first_token_logprobs"
_BLIND_LOGPROBS, _BLIND_FIRST = "blind_scores.token_logprobs", "blind_scores.first_token_logprobs"
_EXACT, _UNRESOLVED = "consistency.exact_probabilities", "consistency.unresolved"
_EXPECTED = ("consistency.expected_consistency_low", "consistency.expected_consistency_high")


class MapStack(NamedTuple):
    """Attention of items that share a grid."""

    items: list[int]
    """(n,) their places in the batch."""
    maps: FloatArray
    """(n, n_layers, S) M(l)."""
    image_mass: FloatArray
    """(n, n_layers)"""
    sinks: NDArray[np.bool_]
    """(n, n_layers, S) sink tokens; none where residual norms were not captured."""
    grid_h: int
    """Rows of the grid."""
    grid_w: int
    """Columns of the grid."""


class SinkFeatures(NamedTuple):
    """Attention features without sink tokens, each of shape (n_items,)."""

    spatial_entropy_without_sinks: FloatArray
    """H_s, nats."""
    cluster_count_dbscan_without_sinks: FloatArray
    """C_k by DBSCAN."""
    cluster_count_components_without_sinks: FloatArray
    """C_k by components."""
    sink_mass: FloatArray
    """Share of the map's mass on sinks, mean over the layers used."""


class ObjectAttention(NamedTuple):
    """Attention on the object that a question asks for; NaN for items without such an object."""

    mass: FloatArray
    """(n_items, n_layers) share of the attention M(l) to the image inside the object's boxes."""
    area: FloatArray
    """(n_items,) the boxes' share of the image's area: what evenly spread attention would give."""


@dataclass(frozen=True, kw_only=True)
class SignalInputs:
    """Columns that the signals of a batch of items are computed from.

    Items may differ in their grid. Layers are decoder layers 0 … n_layers − 1.
    """

    n_items: int
    """Items in the batch."""
    columns: Mapping[str, Any]
    """`table.column` → one entry per item: an array where all items have one shape, such as
    (n_items, n_layers), or else a sequence. None, or absent: not captured."""
    map_layers: tuple[int, ...] | None = None
    """Decoder layers averaged into the attention map; None is all."""
    heavy_places: Mapping[tuple[int, int], NDArray[np.bool_]] = field(default_factory=dict)
    """Grid → (n_layers, S): places that are sinks in most images; absent: none."""
    image_policy: str = "resize"
    """How images were made to fit (`vrp.signals.boxes.grid_window`)."""

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            if values is not None and len(values) != self.n_items:
                raise ValueError(f"{name} has {len(values)} items, the batch {self.n_items}")

    def __getitem__(self, name: str) -> Any:
        """A column as it was read.

        Raises:
            ValueError: it was not captured.
        """
        if self.columns.get(name) is None:
            raise ValueError(f"{name} was not captured")
        return self.columns[name]

    def numbers(self, name: str) -> FloatArray:
        """A column of numbers, (n_items, …) float64.

        Raises:
            ValueError: it was not captured.
        """
        return np.asarray(self[name], dtype=np.float64)

    @cached_property
    def map_features(self) -> MapFeatures:
        """Attention features of every item, (n_items,) each; NaN where its maps are unusable."""

        def of_stack(stack: MapStack) -> MapFeatures:
            return map_features(
                stack.maps, stack.image_mass, grid_h=stack.grid_h, grid_w=stack.grid_w,
                layers=self.map_layers,
            )  # fmt: skip

        return MapFeatures(*self._stack_by_stack(len(FEATURE_NAMES), of_stack))

    @cached_property
    def sink_features(self) -> SinkFeatures:
        """H_s and C_k without sinks of every item, (n_items,) each; NaN where unusable."""

        def of_stack(stack: MapStack) -> SinkFeatures:
            average = average_layers(without_sinks(stack.maps, stack.sinks), self.map_layers)
            grids = average.reshape(-1, stack.grid_h, stack.grid_w)
            used = slice(None) if self.map_layers is None else list(self.map_layers)
            mass = np.where(stack.sinks, stack.maps, 0.0).sum(axis=-1)[:, used].mean(axis=1)
            usable = (map_problem(stack.maps[:, used]) == MapProblem.NONE).all(axis=1)
            return SinkFeatures(
                spatial_entropy(average), cluster_count_dbscan(grids),
                cluster_count_components(grids), np.where(usable, mass, np.nan),
            )  # fmt: skip

        return SinkFeatures(*self._stack_by_stack(len(SinkFeatures._fields), of_stack))

    @cached_property
    def object_attention(self) -> ObjectAttention:
        """Attention on the boxes of the object that is asked for."""
        n_layers = len(self[_MAPS][0]) if self.n_items else 1
        mass, area = np.full((self.n_items, n_layers), np.nan), np.full(self.n_items, np.nan)
        for i, boxes in enumerate(self[_BOXES]):
            if not len(boxes):
                continue
            window = grid_window((int(self[_WIDTH][i]), int(self[_HEIGHT][i])), self.image_policy)
            inside = box_coverage(
                boxes, window, grid_h=int(self[_GRID_H][i]), grid_w=int(self[_GRID_W][i])
            )
            # Attention to padding is no attention to the image.
            photo = box_coverage(
                [[0, 0, self[_WIDTH][i], self[_HEIGHT][i]]], window,
                grid_h=int(self[_GRID_H][i]), grid_w=int(self[_GRID_W][i]),
            )  # fmt: skip
            # An object that was cropped away cannot be looked at.
            if inside.any():
                maps = np.asarray(self[_MAPS][i], dtype=np.float64)
                on_photo = maps @ photo
                usable = (map_problem(maps) == MapProblem.NONE) & (on_photo > 0)
                mass[i] = np.where(usable, (maps @ inside) / np.where(usable, on_photo, 1), np.nan)
                area[i] = inside.sum() / photo.sum()
        return ObjectAttention(mass, area)

    def _stack_by_stack(
        self, n_features: int, of_stack: Callable[[MapStack], tuple[FloatArray, ...]]
    ) -> list[FloatArray]:
        """Columns of features, (n_items,) each, that are computed of one stack at a time."""
        columns = [np.full(self.n_items, np.nan) for _ in range(n_features)]
        for stack in self.map_stacks():
            for column, values in zip(columns, of_stack(stack), strict=True):
                column[stack.items] = values
        return columns

    def map_stacks(self) -> Iterator[MapStack]:
        """Yield the items' maps, a few hundred of one grid at a time."""
        sinks = self.columns.get(_SINKS)
        for (n_layers, grid_h, grid_w), members in self._items_by_grid().items():
            n_tokens = grid_h * grid_w
            heavy = self.heavy_places.get((grid_h, grid_w))
            for start in range(0, len(members), _ITEMS_A_STACK):
                some = members[start : start + _ITEMS_A_STACK]
                found = np.zeros((len(some), n_layers, n_tokens), dtype=bool)
                if sinks is not None:
                    for row, i in zip(found, some, strict=True):
                        row |= sink_mask(sinks[i], n_layers, n_tokens)
                if heavy is not None:
                    found |= heavy
                yield MapStack(
                    some,
                    np.stack([np.asarray(self[_MAPS][i], dtype=np.float64) for i in some]),
                    np.asarray(self[_IMAGE_MASS], dtype=np.float64)[some],
                    found, grid_h, grid_w,
                )  # fmt: skip

    def _items_by_grid(self) -> dict[tuple[int, int, int], list[int]]:
        """Group items by (n_layers, grid_h, grid_w), checking that each map fits."""
        groups: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
        for index, maps in enumerate(self[_MAPS]):
            height, width = int(self[_GRID_H][index]), int(self[_GRID_W][index])
            if maps.ndim != 2 or maps.shape[1] != height * width:
                raise ValueError(
                    f"item {index}: attention maps {maps.shape} do not fit "
                    f"(n_layers, {height}·{width})"
                )
            groups[len(maps), height, width].append(index)
        return groups


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One value per item that may say whether the answer is right."""

    name: str
    """Column in the signals table."""
    label: str
    """Name in figures and report; `H_s` and the like stand for the papers' symbols."""
    kind: SignalKind
    """Source: attention (structural), the residual stream (mechanistic), answers (behavioural)."""
    reliable_when: Direction | None
    """Direction that should mean a right answer; None where no claim is made."""
    deployable: bool
    """Whether it is computed without label and boxes; only such a signal may feed a predictor."""
    unit: str
    """Unit of the value; "1" for a pure number."""
    description: str
    """One line for tables and figures."""
    needs: tuple[str, ...]
    """Columns that it is computed from, as `table.column`, of the tables answers, attention, lens,
    consistency, blind_scores, p_true and boxes."""
    compute: Callable[[SignalInputs], FloatArray]
    """Batch of n_items → (n_items,)."""
    is_log_probability: bool = False
    """Whether its exponential is a probability."""

    @property
    def tables(self) -> frozenset[str]:
        """The tables that it is computed from."""
        return frozenset(need.partition(".")[0] for need in self.needs)


def attention_signals() -> list[str]:
    """Return the names of the deployable signals that are read from attention."""
    return [name for name, one in SIGNALS.items() if one.kind == "structural" and one.deployable]


def is_of_output(signal: Signal) -> bool:
    """Whether the output alone gives it: a deployable behavioural signal that asks the model
    nothing else (a blank image, a judgement), or the last margin."""
    of_answers = signal.kind == "behavioural" and not signal.tables & {"blind_scores", "p_true"}
    return signal.deployable and (of_answers or signal.name == "decision_margin")


def compute_signals(inputs: SignalInputs) -> dict[str, FloatArray]:
    """Compute each signal's column, (n_items,) float64, in the order of the registry.

    NaN is what an item has no value of, infinite values included, and a signal whose inputs were
    not captured.

    Args:
        inputs: the batch.

    Raises:
        ValueError: maps do not fit their grid or do not sum to one; a signal gives other than one
            value an item.
    """
    columns = {}
    for signal in SIGNALS.values():
        if any(inputs.columns.get(name) is None for name in signal.needs):
            columns[signal.name] = np.full(inputs.n_items, np.nan)
            continue
        column = np.asarray(signal.compute(inputs), dtype=np.float64)
        if column.shape != (inputs.n_items,):
            raise ValueError(
                f"signal {signal.name!r} gave {column.shape} for {inputs.n_items} items: "
                "it must give one value each"
            )
        # An infinite activation is a missing value, not a very confident one.
        columns[signal.name] = np.where(np.isfinite(column), column, np.nan)
    return columns


def _last_layer(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Take the last layer's value of an (n_items, n_layers) column."""
    return lambda inputs: inputs.numbers(name)[:, -1]


def _peak(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Take the largest value over layers of an (n_items, n_layers) column."""
    return lambda inputs: layer_peak(inputs.numbers(name)).value


def _as_stored(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Pass on an (n_items,) column."""
    return lambda inputs: inputs.numbers(name)


def _residual_update_late(inputs: SignalInputs) -> FloatArray:
    return late_update(inputs.numbers("lens.residual_update"))


def _margin_growth(inputs: SignalInputs) -> FloatArray:
    attention = inputs.numbers("lens.attention_contribution").sum(axis=1)
    return attention + _mlp_contribution_sum(inputs)


def _mlp_contribution_sum(inputs: SignalInputs) -> FloatArray:
    return inputs.numbers("lens.mlp_contribution").sum(axis=1)


def _expected_self_consistency(inputs: SignalInputs) -> FloatArray:
    """Take the middle of the bounds; NaN where no distribution was followed."""
    low, high = map(inputs.numbers, _EXPECTED)
    return (low + high) / 2


def _of_each(name: str, function: Callable[[Any], float]) -> Callable[[SignalInputs], FloatArray]:
    """Apply a function to each item's entry of a column; an empty entry gives NaN."""
    return lambda inputs: np.array(
        [function(entry) if len(entry) else np.nan for entry in inputs[name]], dtype=np.float64
    )


def _probability_margin(inputs: SignalInputs) -> FloatArray:
    first = _of_each(_LOGPROBS, lambda logprobs: float(logprobs[0]))(inputs)
    return probability_margin(first, inputs.numbers("answers.decision_margin"))


def _object_attention(inputs: SignalInputs) -> FloatArray:
    mass, area = inputs.object_attention
    used = slice(None) if inputs.map_layers is None else list(inputs.map_layers)
    return mass[:, used].mean(axis=1) - area


def _image_gain(inputs: SignalInputs) -> FloatArray:
    pairs = zip(inputs[_LOGPROBS], inputs[_BLIND_LOGPROBS], strict=True)
    return np.array(
        [
            float(np.sum(seen, dtype=np.float64) - np.sum(blind, dtype=np.float64))
            if len(seen) == len(blind) > 0
            else np.nan
            for seen, blind in pairs
        ],
        dtype=np.float64,
    )


def _image_divergence(inputs: SignalInputs) -> FloatArray:
    return first_token_divergence(inputs.numbers(_FIRST), inputs.numbers(_BLIND_FIRST))


def _exact_semantic_entropy(inputs: SignalInputs) -> FloatArray:
    distributions = zip(inputs[_EXACT], inputs.numbers(_UNRESOLVED), strict=True)
    return np.array(
        [
            np.nan if known is None else exact_semantic_entropy(known, unresolved)
            for known, unresolved in distributions
        ],
        dtype=np.float64,
    )


def _of_the_map(
    name: str, label: str, unit: str, description: str, reliable_when: Direction
) -> Signal:
    """Describe one attention feature, whose column bears its name."""
    return Signal(
        name=name,
        label=label,
        kind="structural",
        reliable_when=reliable_when,
        deployable=True,
        unit=unit,
        description=description,
        needs=(_MAPS, _GRID_H, _GRID_W, _IMAGE_MASS),
        compute=lambda inputs: getattr(inputs.map_features, name),
    )


def _without_sinks(
    name: str, label: str, unit: str, description: str, reliable_when: Direction | None
) -> Signal:
    """Describe one feature of the map without sinks, whose column bears its name."""
    return Signal(
        name=name, label=label, kind="structural", reliable_when=reliable_when, deployable=True,
        unit=unit, description=description,
        needs=(_MAPS, _GRID_H, _GRID_W, _IMAGE_MASS, _SINKS),
        compute=lambda inputs: getattr(inputs.sink_features, name),
    )  # fmt: skip


_BUILT_IN: tuple[Signal, ...] = (
    _of_the_map(
        "spatial_entropy", "spatial entropy H_s", "nat",
        "spatial entropy H_s of the attention map", "low",
    ),
    _of_the_map("relative_spatial_entropy", "H_s / log S", "1", "H_s as a share of log S", "low"),
    _of_the_map(
        "cluster_count_dbscan", "cluster count C_k (DBSCAN)", "1",
        "attention clusters C_k, by DBSCAN", "low",
    ),
    _of_the_map(
        "cluster_count_components", "cluster count C_k (components)", "1",
        "attention regions C_k, by components", "low",
    ),
    _of_the_map("image_mass", "image mass", "1", "share of attention on image tokens", "high"),
    _of_the_map(
        "entropy_last_layer", "H_s of the last layer", "nat",
        "spatial entropy of the last layer's map", "low",
    ),
    _of_the_map(
        "largest_entropy_drop", "largest drop ΔH_s", "nat",
        "ΔH_s(l) at its largest drop over layers", "low",
    ),
    _of_the_map(
        "attention_top10_mass", "top-10% mass", "1", "attention on the top 10% of image tokens",
        "high",
    ),
    _of_the_map(
        "attention_max", "largest attention", "1", "attention on the most attended image token",
        "high",
    ),
    _of_the_map(
        "attention_gini", "Gini of attention", "1", "Gini coefficient of the attention map", "high"
    ),
    _of_the_map(
        "attention_spread", "spread of attention", "1",
        "spread about the centre of mass, of the diagonal", "low",
    ),
    _without_sinks(
        "spatial_entropy_without_sinks", "H_s without sinks", "nat",
        "spatial entropy H_s of the map without attention sinks", "low",
    ),
    _without_sinks(
        "cluster_count_dbscan_without_sinks", "C_k (DBSCAN) without sinks", "1",
        "attention clusters C_k, by DBSCAN, without attention sinks", "low",
    ),
    _without_sinks(
        "cluster_count_components_without_sinks", "C_k (components) without sinks", "1",
        "attention regions C_k, by components, without attention sinks", "low",
    ),
    _without_sinks(
        "sink_mass", "mass on sinks", "1", "share of the attention map on sinks", None
    ),
    Signal(
        name=ON_OBJECT, label="attention on the object", kind="structural",
        reliable_when="high", deployable=False, unit="1",
        description="share of the attention map in the boxes of the object that is asked for, "
        "minus their share of its area",
        needs=(_MAPS, _GRID_H, _GRID_W, _BOXES, _WIDTH, _HEIGHT), compute=_object_attention,
    ),
    Signal(
        name="residual_update_late", label="late residual update", kind="mechanistic",
        reliable_when=None, deployable=True, unit="1",
        description="residual update of the image tokens, mean of the last quarter of layers",
        needs=("lens.residual_update",), compute=_residual_update_late,
    ),
    Signal(
        name="truth_margin_last", label="truth margin, last layer", kind="mechanistic",
        reliable_when="high", deployable=False, unit="logit",
        description="truth margin ΔM at the last layer",
        needs=("lens.truth_margin",), compute=_last_layer("lens.truth_margin"),
    ),
    Signal(
        name="truth_margin_peak", label="truth margin, peak", kind="mechanistic",
        reliable_when="high", deployable=False, unit="logit",
        description="truth margin ΔM at its peak over layers",
        needs=("lens.truth_margin",), compute=_peak("lens.truth_margin"),
    ),
    Signal(
        name="decision_margin", label="decision margin", kind="mechanistic",
        reliable_when="high", deployable=True, unit="logit",
        description="top token's logit minus its runner-up's, last layer",
        needs=("lens.decision_margin",), compute=_last_layer("lens.decision_margin"),
    ),
    Signal(
        name="decision_margin_peak", label="decision margin, peak over layers", kind="mechanistic",
        reliable_when="high", deployable=True, unit="logit",
        description="decision margin of the logit lens at its peak over layers",
        needs=("lens.decision_margin",), compute=_peak("lens.decision_margin"),
    ),
    Signal(
        name="margin_growth", label="margin growth", kind="mechanistic",
        reliable_when="high", deployable=True, unit="logit",
        description="growth of the decided pair's logit difference from embedding to last layer",
        needs=("lens.attention_contribution", "lens.mlp_contribution"), compute=_margin_growth,
    ),
    Signal(
        name="mlp_contribution_sum", label="sum of MLP contributions", kind="mechanistic",
        reliable_when=None, deployable=True, unit="logit",
        description="what all MLPs add to the decided pair's logit difference",
        needs=("lens.mlp_contribution",), compute=_mlp_contribution_sum,
    ),
    Signal(
        name="self_consistency", label="self-consistency S_SC", kind="behavioural",
        reliable_when="high", deployable=True, unit="1",
        description="share of the majority among K sampled answers, S_SC",
        needs=("consistency.self_consistency",),
        compute=_as_stored("consistency.self_consistency"),
    ),
    Signal(
        name="expected_self_consistency", label="expected S_SC, exact", kind="behavioural",
        reliable_when="high", deployable=True, unit="1",
        description="expected S_SC of K samples, from the exact distribution over answers",
        needs=_EXPECTED, compute=_expected_self_consistency,
    ),
    Signal(
        name="semantic_entropy", label="semantic entropy", kind="behavioural",
        reliable_when="low", deployable=True, unit="nat",
        description="entropy of the K sampled, normalised answers",
        needs=(_SAMPLED,), compute=_of_each(_SAMPLED, semantic_entropy),
    ),
    Signal(
        name="distinct_answers", label="distinct answers", kind="behavioural",
        reliable_when="low", deployable=True, unit="1",
        description="different answers among the K sampled, normalised ones",
        needs=(_SAMPLED,), compute=_of_each(_SAMPLED, lambda answers: len(set(answers))),
    ),
    Signal(
        name="exact_semantic_entropy", label="semantic entropy, exact", kind="behavioural",
        reliable_when="low", deployable=True, unit="nat",
        description="entropy of the exact distribution over answers, at least",
        needs=(_EXACT, _UNRESOLVED), compute=_exact_semantic_entropy,
    ),
    Signal(
        name="token_confidence", label="token confidence P_tok", kind="behavioural",
        reliable_when="high", deployable=True, unit="nat",
        description="mean log-probability of the greedy answer's tokens, P_tok",
        needs=(_LOGPROBS,), compute=_of_each(_LOGPROBS, token_confidence),
        is_log_probability=True,
    ),
    Signal(
        name="sequence_log_probability", label="sequence probability", kind="behavioural",
        reliable_when="high", deployable=True, unit="nat",
        description="log-probability of the whole greedy answer",
        needs=(_LOGPROBS,), compute=_of_each(_LOGPROBS, sequence_log_probability),
        is_log_probability=True,
    ),
    Signal(
        name="least_token_log_probability", label="least token probability", kind="behavioural",
        reliable_when="high", deployable=True, unit="nat",
        description="log-probability of the greedy answer's least likely token",
        needs=(_LOGPROBS,), compute=_of_each(_LOGPROBS, least_token_log_probability),
        is_log_probability=True,
    ),
    Signal(
        name="probability_margin", label="probability margin", kind="behavioural",
        reliable_when="high", deployable=True, unit="1",
        description="probability of the first answer token minus its runner-up's",
        needs=(_LOGPROBS, "answers.decision_margin"), compute=_probability_margin,
    ),
    Signal(
        name="logit_entropy", label="logit entropy", kind="behavioural",
        reliable_when="low", deployable=True, unit="nat",
        description="entropy of the first answer token's distribution",
        needs=("answers.first_token_entropy",), compute=_as_stored("answers.first_token_entropy"),
    ),
    Signal(
        name="p_true", label="P(True)", kind="behavioural",
        reliable_when="high", deployable=True, unit="1",
        description="probability that the model calls its own answer correct",
        needs=("p_true.p_true",), compute=_as_stored("p_true.p_true"),
    ),
    Signal(
        name="image_gain", label="image gain", kind="behavioural",
        reliable_when="high", deployable=True, unit="nat",
        description="log-probability of the greedy answer minus that with a blank image",
        needs=(_LOGPROBS, _BLIND_LOGPROBS), compute=_image_gain,
    ),
    Signal(
        name="image_divergence", label="divergence from a blank image", kind="behavioural",
        reliable_when="high", deployable=True, unit="1",
        description="Jensen–Shannon distance of the first answer token's distributions with the "
        "image and with a blank one",
        needs=(_FIRST, _BLIND_FIRST), compute=_image_divergence,
    ),
)  # fmt: skip
SIGNALS: dict[str, Signal] = {signal.name: signal for signal in _BUILT_IN}
"""Every signal by its name, in the order of the columns."""
_OTHER_COLUMNS = frozenset({"item_id", "group", "task", "form", "answer", "correct"})


def register_signal(signal: Signal) -> None:
    """Add a signal, which metrics, figures and report of every study then show.

    Raises:
        InputError: its name is taken or no plain word, or a column that it needs is not named as
            `table.column`.
    """
    if not signal.name.isidentifier():
        raise InputError(f"signal {signal.name!r}: use letters, digits and _ only")
    if signal.name in SIGNALS or signal.name in _OTHER_COLUMNS:
        raise InputError(f"signal {signal.name!r} exists already; give yours another name")
    for need in signal.needs:
        if not all(part.isidentifier() for part in need.split(".")) or need.count(".") != 1:
            raise InputError(
                f"signal {signal.name!r} needs {need!r}: name a column such as lens.truth_margin"
            )
    SIGNALS[signal.name] = signal
    _REGISTERED.append(signal.name)


_REGISTERED: list[str] = []


def registered_signals() -> list[str]:
    """Return the names of the signals that extensions have registered."""
    return [name for name in _REGISTERED if name in SIGNALS]
