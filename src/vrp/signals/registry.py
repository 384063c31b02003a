"""The signals of the study: one entry each, and how a batch of items becomes their columns.

A new signal is one function of `SignalInputs` and one entry in `SIGNALS`.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vrp.signals.behavioural import token_confidence
from vrp.signals.mechanistic import late_forcing, layer_peak
from vrp.signals.structural import FEATURE_NAMES, MapFeatures, MapProblem, map_features, map_problem

FloatArray = NDArray[np.float64]
Family = Literal["structural", "mechanistic", "behavioural"]
Direction = Literal["high", "low"]
T = TypeVar("T")

# Items whose maps are in memory as float64 at a time.
_ITEMS_A_STACK = 256


@dataclass(frozen=True, kw_only=True)
class SignalInputs:
    """What the signals of a batch of items are computed from; None is what was not captured.

    Items may differ in their grid. Layers are decoder layers 0 … n_layers − 1.
    """

    n_items: int
    """Items in the batch; every other field has one entry for each."""
    grid_h: NDArray[np.integer] | None = None
    """(n_items,), rows of the item's image-token grid."""
    grid_w: NDArray[np.integer] | None = None
    """(n_items,), columns of the item's image-token grid."""
    attention_maps: Sequence[NDArray[np.floating] | None] | None = None
    """Per item (n_layers, grid_h · grid_w), M(l) renormalised; None where none was captured."""
    image_mass: NDArray[np.floating] | None = None
    """(n_items, n_layers), share of attention on image tokens."""
    residual_update: NDArray[np.floating] | None = None
    """(n_items, n_layers), ‖h(l) − h(l−1)‖₂, mean over image tokens."""
    truth_margin: NDArray[np.floating] | None = None
    """(n_items, n_layers), logits; holds the label."""
    decision_margin: NDArray[np.floating] | None = None
    """(n_items, n_layers), logits."""
    attention_contribution: NDArray[np.floating] | None = None
    """(n_items, n_layers), logits, of the top token and its runner-up at the last layer."""
    mlp_contribution: NDArray[np.floating] | None = None
    """(n_items, n_layers), logits, of the same pair."""
    token_logprobs: Sequence[Sequence[float] | NDArray[np.floating]] | None = None
    """Per item the log-probabilities of the greedy answer's tokens, EOS left out, nats."""
    first_token_entropy: NDArray[np.floating] | None = None
    """(n_items,), entropy of the first answer token's distribution, nats."""
    self_consistency: NDArray[np.floating] | None = None
    """(n_items,), S_SC."""
    expected_self_consistency: NDArray[np.floating] | None = None
    """(n_items,), expected S_SC, middle of its bounds; NaN where no distribution was followed."""
    map_layers: tuple[int, ...] | None = None
    """Decoder layers averaged into M; None is all. A setting, not an input of one item each."""

    def __post_init__(self) -> None:
        for name in INPUT_TABLES:
            value = getattr(self, name)
            if value is not None and len(value) != self.n_items:
                raise ValueError(f"{name} has {len(value)} items, the batch {self.n_items}")

    @cached_property
    def map_features(self) -> MapFeatures:
        """Attention features of every item, (n_items,) each; NaN where no map was captured."""
        columns = [np.full(self.n_items, np.nan) for _ in FEATURE_NAMES]
        for grid, members in self._items_by_grid().items():
            for start in range(0, len(members), _ITEMS_A_STACK):
                some = members[start : start + _ITEMS_A_STACK]
                features = self._features_of(some, grid)
                for column, values in zip(columns, features, strict=True):
                    column[some] = values
        return MapFeatures(*columns)

    def _items_by_grid(self) -> dict[tuple[int, int, int], list[int]]:
        """Group captured items by (n_layers, grid_h, grid_w), checking that each map fits."""
        maps = _given(self.attention_maps, "attention_maps")
        grid_h, grid_w = _given(self.grid_h, "grid_h"), _given(self.grid_w, "grid_w")
        groups: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
        for index, item_maps in enumerate(maps):
            if item_maps is None:
                continue
            height, width = int(grid_h[index]), int(grid_w[index])
            if item_maps.ndim != 2 or item_maps.shape[1] != height * width:
                raise ValueError(
                    f"item {index}: attention maps {item_maps.shape} do not fit "
                    f"(n_layers, {height}·{width})"
                )
            groups[len(item_maps), height, width].append(index)
        return groups

    def _features_of(self, members: list[int], grid: tuple[int, int, int]) -> MapFeatures:
        maps = _given(self.attention_maps, "attention_maps")
        return map_features(
            np.stack([np.asarray(maps[index], dtype=np.float64) for index in members]),
            np.asarray(_given(self.image_mass, "image_mass"))[members],
            grid_h=grid[1],
            grid_w=grid[2],
            layers=self.map_layers,
        )


INPUT_TABLES: dict[str, str] = {
    "grid_h": "attention",
    "grid_w": "attention",
    "attention_maps": "attention",
    "image_mass": "attention",
    "residual_update": "lens",
    "truth_margin": "lens",
    "decision_margin": "lens",
    "attention_contribution": "lens",
    "mlp_contribution": "lens",
    "token_logprobs": "answers",
    "first_token_entropy": "answers",
    "self_consistency": "consistency",
    "expected_self_consistency": "consistency",
}
"""The table that each field of `SignalInputs` is read from."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One value per item that may say whether the answer is right."""

    name: str
    """Column in the signals table."""
    label: str
    """What it is called where people read it; `H_s` and the like stand for the papers' symbols."""
    family: Family
    """What it is read from: attention, the residual stream, or the answers."""
    reliable_when: Direction | None
    """Which way should mean a right answer; None where no claim is made."""
    deployable: bool
    """Whether it can be had without the label; only such a one may feed a predictor."""
    unit: str
    """Unit of the value; "1" for a pure number."""
    description: str
    """One line for tables and figures."""
    needs: tuple[str, ...]
    """Fields of `SignalInputs` it is computed from."""
    compute: Callable[[SignalInputs], FloatArray]
    """Batch of n_items → (n_items,)."""

    def lacks(self, inputs: SignalInputs) -> list[str]:
        """Fields that it needs and that were not captured; empty where it can be computed."""
        return [name for name in self.needs if getattr(inputs, name) is None]


def compute_signals(
    inputs: SignalInputs,
    *,
    signals: Sequence[Signal] | None = None,
    allow_missing: Collection[str] = (),
) -> dict[str, FloatArray]:
    """Compute each signal's column, (n_items,) float64, in the order of the registry.

    What cannot be had of an item is NaN, infinite values included.

    Args:
        inputs: the batch.
        signals: which to compute; all by default.
        allow_missing: fields of `SignalInputs` that may be None; the signals that need them are
            then NaN for every item.

    Raises ValueError for a field that is missing and not allowed to be, naming it and a signal
    that needs it, and for maps that do not fit their grid or do not sum to one.
    """
    unknown = set(allow_missing) - set(INPUT_TABLES)
    if unknown:
        raise ValueError(f"no such inputs: {sorted(unknown)}; known are {list(INPUT_TABLES)}")
    columns = {}
    for signal in SIGNALS if signals is None else signals:
        missing = signal.lacks(inputs)
        refused = [name for name in missing if name not in allow_missing]
        if refused:
            raise ValueError(f"{signal.name} needs {', '.join(refused)}, which was not captured")
        column = np.full(inputs.n_items, np.nan) if missing else signal.compute(inputs)
        # An infinite activation is a missing value, not a very confident one.
        columns[signal.name] = np.where(np.isfinite(column), column, np.nan)
    return columns


def attention_problems(inputs: SignalInputs) -> list[str]:
    """Say for each item why its attention gives no signal, "" where it does.

    A reason is "not_captured" or the first problem among the layers that enter M, in lower case
    (`MapProblem`).
    """
    if inputs.attention_maps is None:
        return ["not_captured"] * inputs.n_items
    return [_attention_problem(maps, inputs.map_layers) for maps in inputs.attention_maps]


def _attention_problem(maps: NDArray[np.floating] | None, layers: tuple[int, ...] | None) -> str:
    if maps is None:
        return "not_captured"
    problems = map_problem(maps if layers is None else maps[list(layers)])
    found = problems[problems != MapProblem.NONE]
    return MapProblem(int(found[0])).name.lower() if len(found) else ""


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"{name} was not captured")
    return value


def _feature(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Read one attention feature."""
    return lambda inputs: getattr(inputs.map_features, name)


def _by_layer(inputs: SignalInputs, name: str) -> FloatArray:
    return np.asarray(_given(getattr(inputs, name), name), dtype=np.float64)


def _last_layer(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Take the last layer's value of an (n_items, n_layers) input."""
    return lambda inputs: _by_layer(inputs, name)[:, -1]


def _peak(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Take the largest value over layers of an (n_items, n_layers) input."""
    return lambda inputs: layer_peak(_by_layer(inputs, name)).value


def _as_given(name: str) -> Callable[[SignalInputs], FloatArray]:
    """Pass on an (n_items,) input."""
    return lambda inputs: _by_layer(inputs, name)


def _residual_update_late(inputs: SignalInputs) -> FloatArray:
    return late_forcing(_by_layer(inputs, "residual_update")).late


def _margin_growth(inputs: SignalInputs) -> FloatArray:
    return _by_layer(inputs, "attention_contribution").sum(axis=1) + _mlp_contribution_sum(inputs)


def _mlp_contribution_sum(inputs: SignalInputs) -> FloatArray:
    return _by_layer(inputs, "mlp_contribution").sum(axis=1)


def _token_confidence(inputs: SignalInputs) -> FloatArray:
    answers = _given(inputs.token_logprobs, "token_logprobs")
    return np.array([token_confidence(logprobs) for logprobs in answers], dtype=np.float64)


_ATTENTION = ("attention_maps", "grid_h", "grid_w", "image_mass")


def _structural(
    name: str, label: str, unit: str, description: str, reliable_when: Direction | None
) -> Signal:
    """Describe one attention feature, whose column bears its name."""
    return Signal(
        name=name,
        label=label,
        family="structural",
        reliable_when=reliable_when,
        deployable=True,
        unit=unit,
        description=description,
        needs=_ATTENTION,
        compute=_feature(name),
    )


SIGNALS: tuple[Signal, ...] = (
    _structural(
        "spatial_entropy",
        "spatial entropy H_s",
        "nat",
        "spatial entropy H_s of the attention map",
        "low",
    ),
    _structural("relative_spatial_entropy", "H_s / log S", "1", "H_s as a share of log S", "low"),
    _structural(
        "cluster_count_dbscan",
        "cluster count C_k (DBSCAN)",
        "1",
        "attention clusters C_k, by DBSCAN",
        "low",
    ),
    _structural(
        "cluster_count_components",
        "cluster count C_k (components)",
        "1",
        "attention regions C_k, by components",
        "low",
    ),
    _structural("image_mass", "image mass", "1", "share of attention on image tokens", "high"),
    _structural(
        "entropy_last_layer",
        "H_s of the last layer",
        "nat",
        "spatial entropy of the last layer's map",
        "low",
    ),
    _structural(
        "largest_entropy_drop",
        "largest drop ΔH_s",
        "nat",
        "ΔH_s(l) at its largest drop over layers",
        "low",
    ),
    _structural(
        "attention_top10_mass",
        "top-10% mass",
        "1",
        "attention on the top 10% of image tokens",
        "high",
    ),
    _structural(
        "attention_max",
        "largest attention",
        "1",
        "attention on the most attended image token",
        "high",
    ),
    _structural(
        "attention_gini", "Gini of attention", "1", "Gini coefficient of the attention map", "high"
    ),
    _structural(
        "attention_spread",
        "spread of attention",
        "1",
        "spread about the centre of mass, of the diagonal",
        "low",
    ),
    Signal(
        name="residual_update_late",
        label="late residual update",
        family="mechanistic",
        reliable_when=None,
        deployable=True,
        unit="1",
        description="residual update of the image tokens, mean of the last quarter of layers",
        needs=("residual_update",),
        compute=_residual_update_late,
    ),
    Signal(
        name="truth_margin_last",
        label="truth margin, last layer",
        family="mechanistic",
        reliable_when="high",
        deployable=False,
        unit="logit",
        description="truth margin ΔM at the last layer (diagnostic: it holds the label)",
        needs=("truth_margin",),
        compute=_last_layer("truth_margin"),
    ),
    Signal(
        name="truth_margin_peak",
        label="truth margin, peak",
        family="mechanistic",
        reliable_when="high",
        deployable=False,
        unit="logit",
        description="truth margin ΔM at its peak over layers (diagnostic: it holds the label)",
        needs=("truth_margin",),
        compute=_peak("truth_margin"),
    ),
    Signal(
        name="decision_margin",
        label="decision margin",
        family="mechanistic",
        reliable_when="high",
        deployable=True,
        unit="logit",
        description="top token's logit minus its runner-up's, last layer",
        needs=("decision_margin",),
        compute=_last_layer("decision_margin"),
    ),
    Signal(
        name="decision_margin_peak",
        label="decision margin, peak over layers",
        family="mechanistic",
        reliable_when="high",
        deployable=True,
        unit="logit",
        description="decision margin of the logit lens at its peak over layers",
        needs=("decision_margin",),
        compute=_peak("decision_margin"),
    ),
    Signal(
        name="margin_growth",
        label="margin growth",
        family="mechanistic",
        reliable_when="high",
        deployable=True,
        unit="logit",
        description="growth of the decided pair's logit difference from embedding to last layer",
        needs=("attention_contribution", "mlp_contribution"),
        compute=_margin_growth,
    ),
    Signal(
        name="mlp_contribution_sum",
        label="sum of MLP contributions",
        family="mechanistic",
        reliable_when=None,
        deployable=True,
        unit="logit",
        description="what all MLPs add to the decided pair's logit difference",
        needs=("mlp_contribution",),
        compute=_mlp_contribution_sum,
    ),
    Signal(
        name="self_consistency",
        label="self-consistency S_SC",
        family="behavioural",
        reliable_when="high",
        deployable=True,
        unit="1",
        description="share of the majority among K sampled answers, S_SC",
        needs=("self_consistency",),
        compute=_as_given("self_consistency"),
    ),
    Signal(
        name="expected_self_consistency",
        label="expected S_SC, exact",
        family="behavioural",
        reliable_when="high",
        deployable=True,
        unit="1",
        description="expected S_SC of K samples, from the exact distribution over answers",
        needs=("expected_self_consistency",),
        compute=_as_given("expected_self_consistency"),
    ),
    Signal(
        name="token_confidence",
        label="token confidence P_tok",
        family="behavioural",
        reliable_when="high",
        deployable=True,
        unit="nat",
        description="mean log-probability of the greedy answer's tokens, P_tok",
        needs=("token_logprobs",),
        compute=_token_confidence,
    ),
    Signal(
        name="logit_entropy",
        label="logit entropy",
        family="behavioural",
        reliable_when="low",
        deployable=True,
        unit="nat",
        description="entropy of the first answer token's distribution",
        needs=("first_token_entropy",),
        compute=_as_given("first_token_entropy"),
    ),
)
"""Every per-item signal, in the order of its columns."""
SIGNAL_BY_NAME = {signal.name: signal for signal in SIGNALS}
