"""Ablation conditions: which part of the residual stream is edited, at which layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from vrp.interventions.masking import SHAM
from vrp.vlm.residual_edits import Edit, LayerEdit, MlpBypass, NeuronEdit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vrp.config.ablate import AblateConfig

# Neurons nearest in norm that a matched one is drawn from.
_NEAR = 30
_VALUES = {"zero": 0.0, "plus_100": 100.0, "minus_100": -100.0}
_VALUE_LABELS = {"mean": "set to mean", "plus_100": "set to +100", "minus_100": "set to −100"}


class LayerProbe(NamedTuple):
    """What the sparse probe of one fold says of one layer."""

    ranked: "NDArray[np.intp]"
    """(d_model,) neurons, the largest absolute weight first."""
    mean: "NDArray[np.float64]"
    """(d_model,) mean activation of each neuron over the fold's training items."""
    norm: "NDArray[np.float64]"
    """(d_model,) root mean square activation of each neuron over the same items."""


class AblationSite(NamedTuple):
    """Where an edit is made, and what a kind may choose the neurons by."""

    layer: int
    """Decoder layer, 0…L−1."""
    probe: LayerProbe
    """Of this layer, fitted without the items' fold."""
    n_neurons: int
    """Neurons asked for; 0 where the kind takes no size."""
    value: str
    """What stands in for them: `zero`, `mean`, `plus_100` or `minus_100`."""
    seed: int
    """For random choices: derived from the study's seed, layer, condition and repeat."""

    def replace(self, neurons: "NDArray[np.intp]") -> NeuronEdit:
        """Return the edit that puts the condition's value in the place of (n,) neurons."""
        value = self.probe.mean[neurons] if self.value == "mean" else _VALUES[self.value]
        return NeuronEdit(self.layer, neurons, value)


@dataclass(frozen=True)
class AblationKind:
    """What an ablation condition does to the residual stream."""

    name: str
    """Name under `neurons` in `ablate.conditions`."""
    label: str
    """In figures and report; the number of neurons follows where there is one."""
    edit: Callable[[AblationSite], Edit]
    """The edit that it makes at a layer."""
    edits: type[LayerEdit] = NeuronEdit
    """The class of that edit."""
    sized: bool = True
    """Whether it takes a count or a share of neurons."""
    repeated: bool = False
    """Whether it may be repeated with other seeds."""
    control: str | None = None
    """Kind, of the same size, value and depth, that it is compared to; None: to no other."""
    closer_control: str | None = None
    """Kind that it is compared to instead, where the study has it."""
    stem: str = ""
    """What the names of its conditions begin with, where it is not its own name."""


def _top(site: AblationSite) -> Edit:
    return site.replace(site.probe.ranked[: site.n_neurons])


def _random(site: AblationSite) -> Edit:
    import numpy as np

    drawn = np.random.default_rng(site.seed).permutation(len(site.probe.ranked))
    return site.replace(np.sort(drawn[: site.n_neurons]))


def _nothing(site: AblationSite) -> Edit:
    import numpy as np

    return site.replace(np.empty(0, dtype=np.intp))


def _matched(site: AblationSite) -> Edit:
    """For each top neuron, one of those nearest to it in norm that are not top, at random."""
    import numpy as np

    top, norm = site.probe.ranked[: site.n_neurons], site.probe.norm
    # One number a neuron, whatever the fold: its norms differ little from fold to fold, and a
    # repeat is then about the same set for all items.
    number = np.random.default_rng(site.seed).random(len(norm))
    taken = set(top.tolist())
    drawn = []
    for neuron in top:
        near = np.argsort(np.abs(norm - norm[neuron]), kind="stable")
        free = [one for one in near.tolist() if one not in taken][:_NEAR]
        drawn += sorted(free, key=lambda one: number[one])[:1]
        taken |= set(drawn)
    return site.replace(np.sort(np.array(drawn, dtype=np.intp)))


def _bypass(site: AblationSite) -> Edit:
    return MlpBypass(site.layer)


ABLATION_KINDS: dict[str, AblationKind] = {
    kind.name: kind
    for kind in (
        AblationKind("top", "top", _top, control="random", closer_control="matched"),
        AblationKind("matched", "norm-matched random", _matched, repeated=True),
        AblationKind("random", "random", _random, repeated=True),
        AblationKind(
            "mlp", "whole MLP bypassed", _bypass, edits=MlpBypass, sized=False, stem="mlp_bypass"
        ),
        AblationKind(SHAM, "nothing silenced", _nothing, sized=False),
    )
}
"""Every kind by its name, in the order in which figures and report show them."""


@dataclass(frozen=True)
class AblationCondition:
    """One way to answer an item with a part of the residual stream edited."""

    kind: str
    """Name of its `AblationKind`."""
    count: int | None = None
    """Neurons edited; None: see `share`."""
    share: float | None = None
    """Or their share of the width; None for kinds that take no size."""
    value: str = "zero"
    """What stands in for them: `zero`, `mean`, `plus_100` or `minus_100`."""
    depth: float | None = None
    """Relative depth of the layer; None: the best probe layer, chosen on other folds."""
    seed: int = 0
    """Repeat of a random condition; 0 otherwise."""

    @property
    def one_set(self) -> bool:
        """Whether a repeat is one random set for all items of a fold."""
        return ABLATION_KINDS[self.kind].repeated

    @property
    def name(self) -> str:
        """Name in the tables, such as `top_5` or `random_50pct_mean`; repeats have the same."""
        kind = ABLATION_KINDS[self.kind]
        stem = kind.stem or kind.name
        return stem + ("" if self.size is None else f"_{self.size:g}") + self.variant

    @property
    def label(self) -> str:
        """Name in figures and report, such as `top 5 neurons, at 50% depth`."""
        parts = [f"{self.kind_label} {self.extent}".rstrip()]
        if self.value != "zero":
            parts.append(_VALUE_LABELS[self.value])
        if self.depth is not None:
            parts.append(f"at {100 * self.depth:g}% depth")
        return ", ".join(parts)

    @property
    def kind_label(self) -> str:
        """Which neurons are edited, or what else, in words."""
        return ABLATION_KINDS[self.kind].label

    @property
    def extent(self) -> str:
        """How many neurons are edited, in words; empty for kinds that take no size."""
        if self.count is not None:
            return f"{self.count} neuron{'' if self.count == 1 else 's'}"
        return "" if self.share is None else f"{100 * self.share:g}% of neurons"

    @property
    def rank(self) -> float:
        """Place of its kind among the others, by which figures and report sort."""
        return list(ABLATION_KINDS).index(self.kind)

    @property
    def size(self) -> float | None:
        """Neurons, or their percentage; None for kinds that take no size."""
        if self.count is not None:
            return self.count
        return None if self.share is None else 100 * self.share

    @property
    def variant(self) -> str:
        """What tells it from conditions of the same kind and size: unit, value and depth."""
        unit = "pct" if self.count is None and self.share is not None else ""
        value = f"_{self.value}" if self.value != "zero" else ""
        return unit + value + (f"_depth{100 * self.depth:g}" if self.depth is not None else "")

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the conditions that it is compared to: the first that the study has."""
        kind = ABLATION_KINDS[self.kind]
        kinds = (kind.closer_control, kind.control)
        return tuple(replace(self, kind=control).name for control in kinds if control is not None)

    def layer(self, n_layers: int, *, best_layer: int) -> int:
        """Return the decoder layer whose output, or MLP, is edited.

        Args:
            n_layers: decoder layers of the model.
            best_layer: the best probe layer.
        """
        return best_layer if self.depth is None else round(self.depth * (n_layers - 1))

    def first_changed_layer(self, n_layers: int, *, best_layer: int) -> int:
        """Return the first layer to be computed anew; n_layers where none must."""
        layer = self.layer(n_layers, best_layer=best_layer)
        return ABLATION_KINDS[self.kind].edits.first_changed_layer_at(layer)

    def edit(self, site: AblationSite) -> Edit:
        """Return the edit that it makes there."""
        return ABLATION_KINDS[self.kind].edit(site)

    def n_neurons(self, d_model: int) -> int:
        """Return how many of a model's neurons are edited; 0 for kinds that take no size."""
        return round((self.share or 0) * d_model) if self.count is None else self.count


def ablation_conditions(ablate: "AblateConfig") -> list[AblationCondition]:
    """Return the conditions of an item in the order in which they run, repeats one by one.

    The first changes nothing, and is the baseline of the others.

    Args:
        ablate: the `ablate` section of the config.
    """
    return [AblationCondition(SHAM)] + [
        AblationCondition(entry.neurons, entry.count, entry.share, entry.value, entry.layer, seed)
        for entry in ablate.conditions
        for seed in range(entry.seeds)
    ]
