"""Ablation conditions: which part of the residual stream is edited, at which layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from vrp.interventions.masking import SHAM
from vrp.vlm.residual_edits import Edit, HeadBypass, MlpBypass, NeuronEdit, Shift, Site

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vrp.config.ablate import AblateConfig

# Neurons nearest in norm that a matched one is drawn from.
_NEAR = 30
_VALUES = {"zero": 0.0, "plus_100": 100.0, "minus_100": -100.0}
_VALUE_LABELS = {"mean": "set to mean", "plus_100": "set to +100", "minus_100": "set to −100"}


class RankedNeurons(NamedTuple):
    """The neurons of one site of a layer, as one fold's probes see them."""

    ranked: "NDArray[np.intp]"
    """(n,) neurons, those that the probe depends on most first."""
    mean: "NDArray[np.float64]"
    """(n,) mean activation of each neuron over items that are not in the fold."""
    norm: "NDArray[np.float64]"
    """(n,) how large each neuron is, by which random ones are matched: at the residual stream its
    root mean square activation, in the MLP that of what it writes there."""


class AblationSite(NamedTuple):
    """Where an edit is made, and what a kind may choose by."""

    layer: int
    """Decoder layer, 0…L−1."""
    neurons: RankedNeurons
    """Of this layer, fitted without the items' fold."""
    n_neurons: int
    """Neurons asked for; 0 where the kind takes no size."""
    value: str
    """What stands in for them: `zero`, `mean`, `plus_100` or `minus_100`."""
    seed: int
    """For random choices: derived from the study's seed, condition and repeat."""
    site: Site = "residual"
    """Whether the neurons are the residual stream's or the MLP's."""
    head: int = 0
    """Attention head, for kinds of heads."""
    step: "NDArray[np.float64] | None" = None
    """(d_model,) one standard deviation along the linear probe's direction, towards right answers;
    for kinds that steer."""
    dose: float = 0.0
    """How many of those steps."""

    def replace(self, neurons: "NDArray[np.intp]") -> NeuronEdit:
        """Return the edit that puts the condition's value in the place of (n,) neurons."""
        value = self.neurons.mean[neurons] if self.value == "mean" else _VALUES[self.value]
        return NeuronEdit(self.layer, neurons, value, self.site)


@dataclass(frozen=True)
class AblationKind:
    """What an ablation condition does to the residual stream."""

    name: str
    """Under `kind` in `ablate.conditions`."""
    label: str
    """In figures and report; the number of neurons, the head or the dose follows."""
    edit: Callable[[AblationSite], Edit]
    """The edit that it makes at a layer."""
    inside: bool = False
    """Whether that acts inside the layer, and not on the layer's output."""
    sized: bool = True
    """Whether it takes a count or a share of neurons, a value for them, and a site."""
    of_heads: bool = False
    """Whether it takes heads."""
    steers: bool = False
    """Whether it takes doses."""
    reads_probe: bool = True
    """Whether what it does depends on the probe's weights."""
    repeated: bool = False
    """Whether it may be repeated with other seeds."""
    control: str | None = None
    """Kind, of the same size, value and depth, that it is compared to; None: to no other."""
    closer_control: str | None = None
    """Kind that it is compared to instead, where the study has it."""
    stem: str = ""
    """What the names of its conditions begin with, where it is not its own name."""


def _top(site: AblationSite) -> Edit:
    return site.replace(site.neurons.ranked[: site.n_neurons])


def _random(site: AblationSite) -> Edit:
    import numpy as np

    drawn = np.random.default_rng(site.seed).permutation(len(site.neurons.ranked))
    return site.replace(np.sort(drawn[: site.n_neurons]))


def _nothing(site: AblationSite) -> Edit:
    import numpy as np

    return site.replace(np.empty(0, dtype=np.intp))


def _matched(site: AblationSite) -> Edit:
    """For each top neuron, one of those nearest to it in norm that are not top, at random."""
    import numpy as np

    top, norm = site.neurons.ranked[: site.n_neurons], site.neurons.norm
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


def _bypass_head(site: AblationSite) -> Edit:
    return HeadBypass(site.layer, site.head)


def _steer(site: AblationSite) -> Edit:
    assert site.step is not None
    return Shift(site.layer, site.dose * site.step)


def _steer_at_random(site: AblationSite) -> Edit:
    """As far as along the probe's direction, in one drawn at random."""
    import numpy as np

    assert site.step is not None
    drawn = np.random.default_rng(site.seed).normal(size=site.step.shape)
    length = np.linalg.norm(site.step) / np.linalg.norm(drawn)
    return Shift(site.layer, site.dose * length * drawn)


ABLATION_KINDS: dict[str, AblationKind] = {
    kind.name: kind
    for kind in (
        AblationKind("top", "top", _top, control="random", closer_control="matched"),
        AblationKind("matched", "norm-matched random", _matched, repeated=True),
        AblationKind("random", "random", _random, repeated=True, reads_probe=False),
        AblationKind(
            "mlp", "whole MLP bypassed", _bypass, inside=True, sized=False, reads_probe=False,
            stem="mlp_bypass",
        ),
        AblationKind(
            "head", "attention head", _bypass_head, inside=True, sized=False, of_heads=True,
            reads_probe=False,
        ),
        AblationKind(
            "steer", "steered along the probe’s direction", _steer, sized=False, steers=True,
            control="steer_random",
        ),
        AblationKind(
            "steer_random", "steered in a random direction", _steer_at_random, sized=False,
            steers=True, repeated=True,
        ),
        AblationKind(SHAM, "nothing silenced", _nothing, sized=False, reads_probe=False),
    )
}  # fmt: skip
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
    site: Site = "residual"
    """Whose neurons are edited."""
    head: int | None = None
    """The head that is bypassed; None for other kinds."""
    dose: float | None = None
    """Standard deviations by which the state is moved; None for kinds that do not steer."""

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
    def reads_probe(self) -> bool:
        """Whether what it does depends on the probe's weights."""
        return ABLATION_KINDS[self.kind].reads_probe

    @property
    def draw(self) -> str:
        """Names what it draws at random: conditions that differ in the dose alone draw alike."""
        return self.name if self.dose is None else replace(self, dose=1.0).name

    @property
    def label(self) -> str:
        """Name in figures and report, such as `top 5 neurons, at 50% depth`."""
        parts = [f"{self.kind_label} {self.extent}".rstrip()]
        if self.value != "zero":
            parts.append(_VALUE_LABELS[self.value])
        if self.site == "mlp":
            parts.append("in the MLP")
        if self.depth is not None:
            parts.append(f"at {100 * self.depth:g}% depth")
        return ", ".join(parts)

    @property
    def kind_label(self) -> str:
        """Which neurons are edited, or what else, in words."""
        return ABLATION_KINDS[self.kind].label

    @property
    def extent(self) -> str:
        """How many neurons, which head or how far, in words; empty where there is no such."""
        if self.count is not None:
            return f"{self.count} neuron{'' if self.count == 1 else 's'}"
        if self.head is not None:
            return f"{self.head} bypassed"
        if self.dose is not None:
            return f"by {self.dose:+g} SD".replace("-", "−")
        return "" if self.share is None else f"{100 * self.share:g}% of neurons"

    @property
    def rank(self) -> float:
        """Place of its kind among the others, by which figures and report sort."""
        return list(ABLATION_KINDS).index(self.kind)

    @property
    def size(self) -> float | None:
        """Neurons or their percentage, the head, or the dose; None where there is no such."""
        given = (self.count, self.head, self.dose)
        found = next((number for number in given if number is not None), None)
        return 100 * self.share if found is None and self.share is not None else found

    @property
    def variant(self) -> str:
        """What tells it from conditions of the same kind and size: unit, value, site and depth."""
        unit = "pct" if self.count is None and self.share is not None else ""
        value = f"_{self.value}" if self.value != "zero" else ""
        site = "_in_mlp" if self.site == "mlp" else ""
        return (
            unit + value + site + (f"_depth{100 * self.depth:g}" if self.depth is not None else "")
        )

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
        inside = ABLATION_KINDS[self.kind].inside or self.site == "mlp"
        return self.layer(n_layers, best_layer=best_layer) + (not inside)

    def edit(self, site: AblationSite) -> Edit:
        """Return the edit that it makes there."""
        return ABLATION_KINDS[self.kind].edit(site)

    def n_neurons(self, width: int) -> int:
        """Return how many of a site's neurons are edited; 0 for kinds that take no size."""
        return round((self.share or 0) * width) if self.count is None else self.count


def ablation_conditions(ablate: "AblateConfig") -> list[AblationCondition]:
    """Return the conditions of an item in the order in which they run, repeats one by one.

    The first changes nothing, and is the baseline of the others.

    Args:
        ablate: the `ablate` section of the config.
    """
    found = [AblationCondition(SHAM)]
    for entry in ablate.conditions:
        layers = entry.layer if isinstance(entry.layer, tuple) else (entry.layer,)
        sweep = product(layers, entry.heads or (None,), entry.doses or (None,), range(entry.seeds))
        found += [
            AblationCondition(
                entry.kind, entry.count, entry.share, entry.value, layer, seed, entry.site, head,
                dose,
            )
            for layer, head, dose, seed in sweep
        ]  # fmt: skip
    return found
