"""Estimates that keep the influence of every image, so that they can be combined and tested.

Most estimates of the study are sums of means over samples of items: an AUROC, for example, is a
mean over right items plus a mean over wrong ones. Such a sample is a *component* here. With
`estimate − truth ≈ Σ influence`, the variance counts images rather than items (Liang & Zeger
1986; for the AUROC Obuchowski 1997). An image's influence is what leaving it out would change (the
jackknife, "CR3" of Bell & McCaffrey 2002): with few images of unequal size the plain sums are too
small. The degrees of freedom of Student's t follow from how much of the variance each component
contributes (Satterthwaite 1946; for the AUROC Brunner & Munzel 2000), where images of unequal size
count by their effective number. Averages and differences of estimates over the same images add up
influences.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import expit, logit

from vrp.errors import InputError
from vrp.stats.estimate import LEVEL, Estimate, codes_of, join_notes, undefined

MIN_IMAGES = 10
"""Images that an interval and a test need; an AUROC, of right and of wrong answers each."""
TOO_FEW = "too few"
"""Opens the reason why there are not enough."""
POWER = 0.8
"""Power at which the smallest resolvable effect is stated."""
# Distance from a bound of the parameter, such as R = 1, that is rounding.
_ROUNDING = 1e-12
NO_VARIANCE = "no interval: no variance"
"""Note of an estimate without interval and test whose values do not vary."""


def group_sums(
    values: NDArray[np.float64], codes: NDArray[np.int64], n_groups: int = 0
) -> NDArray[np.float64]:
    """Sum of `values` (n,) over each group; `codes` (n,) number the groups from 0.

    Groups without a value sum to 0; `n_groups` is how many there are at least.
    """
    return np.bincount(codes, weights=values, minlength=n_groups).astype(np.float64)


def n_distinct(codes: NDArray[np.int64]) -> int:
    """Number of groups among `codes` (n,), which number them from 0; without sorting."""
    return int(np.count_nonzero(np.bincount(codes)))


@dataclass(frozen=True)
class Component:
    """One sample of items that an estimate is a mean over."""

    influence: NDArray[np.float64]
    """(images of the study,) what leaving out each image's items would change."""
    n_groups: int
    """Images with an item in the sample."""
    df: float
    """Degrees of freedom of its variance: the effective number of images, less one."""
    weight: float = 1.0
    """Weight in the estimate of what the sample estimates on its own, such as a stratum's AUROC."""

    @classmethod
    def of_items(
        cls,
        influence: NDArray[np.float64],
        codes: NDArray[np.int64],
        n_images: int,
        *,
        weights: NDArray[np.float64] | None = None,
    ) -> "Component":
        """Sum the influence of items over their images.

        Args:
            influence: (n,) of each item.
            codes: (n,) number of each item's image.
            n_images: images of the study.
            weights: (n,) what each item contributes to the estimate's denominator; None: all alike.
        """
        n_groups = n_distinct(codes)
        sums = group_sums(influence, codes, n_images)
        weight = group_sums(np.ones(codes.size) if weights is None else weights, codes, n_images)
        if n_groups < 2:
            return cls(sums, n_groups, 1.0)
        share = weight / weight.sum()
        # Without an image, the mean of the others has a smaller denominator.
        jackknifed = sums * (1 - 1 / n_groups) / np.maximum(1 - share, _ROUNDING)
        squares = np.square(weight)
        effective = squares.sum() ** 2 / np.square(squares).sum()
        return cls(jackknifed, n_groups, max(float(effective) - 1, 1.0))

    @cached_property
    def variance(self) -> float:
        """Its share of the estimate's variance; NaN with fewer than two images."""
        if self.n_groups < 2:
            return math.nan
        correction = self.n_groups / (self.n_groups - 1)
        return correction * float(self.influence @ self.influence)


@dataclass(frozen=True)
class ClusteredEstimate:
    """An estimate with the influence of every image."""

    value: float
    """The estimate; NaN where it is undefined (`note` then says why)."""
    components: Mapping[str, Component]
    """Name → component; two estimates that share a name share the sample."""
    n: int
    """Items used."""
    n_groups: int
    """Images among the items used."""
    note: str = ""
    """Items dropped and why; why the value is undefined."""
    null_se: float = math.nan
    """Standard error that items without any effect would give, where theory knows it: the test
    takes no smaller one, since few items may vary less by chance. NaN: not known."""

    @property
    def defined(self) -> bool:
        """Whether the value is a number."""
        return math.isfinite(self.value)

    @cached_property
    def se(self) -> float:
        """Standard error, clustered by image; NaN where there is no variance to estimate."""
        own = sum(component.variance for component in self.components.values())
        if not (self.components and math.isfinite(own) and self.n_groups > 1):
            return math.nan
        # Images with items in several samples: their influences add up before they are squared.
        every = [component.influence for component in self.components.values()]
        total = every[0].copy()
        for influence in every[1:]:
            total += influence
        shared = float(total @ total) - sum(float(one @ one) for one in every)
        variance = own + shared * self.n_groups / (self.n_groups - 1)
        return math.sqrt(variance) if variance > 0 else math.nan

    @cached_property
    def df(self) -> float:
        """Degrees of freedom of Student's t; NaN where there is no variance.

        Satterthwaite's where the components are of different images. Those of the same images vary
        together and have no more degrees of freedom than the fewest: in between by the share of
        the images with items in several.
        """
        parts = [(part.variance, part.df) for part in self.components.values()]
        total = sum(variance for variance, _ in parts)
        if not total > 0:
            return math.nan
        apart = total**2 / sum(variance**2 / df for variance, df in parts)
        n_in = np.sum([part.influence != 0 for part in self.components.values()], axis=0)
        shared = float((n_in > 1).sum() / (n_in > 0).sum())
        return (1 - shared) * apart + shared * min(df for _, df in parts)

    @property
    def test_se(self) -> float:
        """Standard error of the test of no effect; NaN where there is no variance."""
        return self.se if math.isnan(self.null_se) else max(self.se, self.null_se)

    def p_against(self, null: float) -> float:
        """Two-sided p-value of Student's t; NaN where there is no variance."""
        return float(2 * stats.t.sf(abs(self.value - null) / self.test_se, self.df))

    def interval(
        self,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        level: float = LEVEL,
        least_se: float = 0.0,
    ) -> tuple[float, float]:
        """Interval; between finite bounds of the parameter, on the scale of its logit.

        Args:
            low: lower bound of the parameter.
            high: upper bound.
            level: of the interval.
            least_se: a smaller standard error is not believed.

        Raises ValueError where only one bound is finite.
        """
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * max(self.se, least_se)
        if math.isinf(low) and math.isinf(high):
            return self.value - half, self.value + half
        if math.isinf(low) or math.isinf(high):
            raise ValueError("bounds of a parameter must both be finite, or neither")
        width = high - low
        ends = logit_end((self.value - low) / width, np.array([-half, half]) / width)
        return low + width * float(ends[0]), low + width * float(ends[1])

    def estimate(
        self,
        method: str,
        *,
        null: float | None = None,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> Estimate:
        """Value, 95% interval and, with `null`, p-value.

        The value alone on under 10 images and without variance.
        """
        nothing = undefined(n=self.n, n_groups=self.n_groups, method=method, note=self.note)
        if not self.defined:
            return nothing
        if self.n_groups < MIN_IMAGES:
            note = join_notes(self.note, f"{TOO_FEW} images: {self.n_groups}")
            return nothing._replace(value=self.value, note=note)
        at_bound = min(self.value - low, high - self.value) < _ROUNDING
        if at_bound or not math.isfinite(self.se):
            return nothing._replace(value=self.value, note=join_notes(self.note, NO_VARIANCE))
        ends = self.interval(low=low, high=high)
        p = math.nan if null is None else self.p_against(null)
        return Estimate(self.value, *ends, p, self.n, self.n_groups, method, self.note)


def logit_end(share: ArrayLike, reach: ArrayLike) -> NDArray[np.float64]:
    """End of an interval around a share in (0, 1) that reaches so far, on the scale of the logit.

    Args:
        share: any shape; in (0, 1).
        reach: signed distance on the scale of the share.
    """
    middle = np.asarray(share, dtype=np.float64)
    return expit(logit(middle) + np.asarray(reach) / (middle * (1 - middle)))


def smallest_resolvable(se: float, df: float, *, alpha: float) -> float:
    """Smallest distance from no effect that a two-sided test at `alpha` finds with 80% power.

    Args:
        se: standard error.
        df: degrees of freedom of Student's t; NaN, as of `se`, gives NaN.
        alpha: level of the test, after correction for the number of tests.
    """
    return float(stats.t.ppf([1 - alpha / 2, POWER], df).sum()) * se


def not_estimated(note: str, *, n: int = 0, n_groups: int = 0) -> ClusteredEstimate:
    """An estimate that could not be made, with the reason in `note`."""
    return ClusteredEstimate(math.nan, {}, n, n_groups, note)


def weighted_sum(
    parts: Iterable[tuple[float, ClusteredEstimate]], *, n: int, n_groups: int, note: str = ""
) -> ClusteredEstimate:
    """Σ weight · estimate, with influences added up where the estimates share a sample.

    Args:
        parts: weight and estimate, all over the same numbering of images.
        n: items behind the sum (samples may share items).
        n_groups: images behind it.
        note: what is to be said of it.
    """
    value, null_variance = 0.0, 0.0
    components: dict[str, Component] = {}
    for weight, part in parts:
        value += weight * part.value
        null_variance += (weight * part.null_se) ** 2
        for name, one in part.components.items():
            scaled = replace(one, influence=weight * one.influence, weight=weight * one.weight)
            known = components.get(name)
            components[name] = scaled if known is None else _added(scaled, known)
    return ClusteredEstimate(value, components, n, n_groups, note, math.sqrt(null_variance))


def _added(one: Component, other: Component) -> Component:
    """Sum of two components over one sample, of which each may lack some items."""
    return Component(
        one.influence + other.influence, max(one.n_groups, other.n_groups), min(one.df, other.df),
        one.weight + other.weight,
    )  # fmt: skip


def mean_of(
    parts: Mapping[str, ClusteredEstimate], *, n_groups: int, weights: Sequence[float] | None = None
) -> ClusteredEstimate:
    """Mean over strata or tasks; those without an estimate are left out and named in the note.

    Args:
        parts: name → estimate.
        n_groups: images over all of them (they may share images).
        weights: of each part, any scale; None: all equal.
    """
    weighted = zip(parts.items(), weights or [1.0] * len(parts), strict=True)
    used = [(weight, part) for (_, part), weight in weighted if part.defined]
    left_out = [f"{name} ({part.note})" for name, part in parts.items() if not part.defined]
    note = join_notes(
        *(part.note for part in parts.values() if part.defined),
        f"left out of the average: {', '.join(left_out)}" if left_out else "",
    )
    if not used:
        return not_estimated(note, n_groups=n_groups)
    total = sum(weight for weight, _ in used)
    n = sum(part.n for _, part in used)
    scaled = ((weight / total, part) for weight, part in used)
    return weighted_sum(scaled, n=n, n_groups=n_groups, note=note)


def difference(first: ClusteredEstimate, second: ClusteredEstimate) -> ClusteredEstimate:
    """`first − second`, estimates over the same images."""
    gap = weighted_sum(
        [(1.0, first), (-1.0, second)],
        n=min(first.n, second.n),
        n_groups=min(first.n_groups, second.n_groups),
        note=join_notes(first.note, second.note),
    )
    return replace(gap, null_se=math.nan)


def clustered_mean(
    values: ArrayLike, codes: NDArray[np.int64], *, n_images: int, name: str = "items"
) -> ClusteredEstimate:
    """Mean over items.

    Args:
        values: (n,) NaN where missing; such items are left out and counted in the note.
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
        name: of its one component.

    Raises:
        InputError: lengths differ.
    """
    every = np.asarray(values, dtype=np.float64)
    if every.shape != np.shape(codes):
        raise InputError(f"one image per item is needed: {np.shape(codes)} for {every.shape}")
    kept = np.isfinite(every)
    n_dropped = int(every.size - kept.sum())
    note = f"{n_dropped} of {every.size} items dropped: no value" if n_dropped else ""
    chosen, images = every[kept], codes[kept]
    if chosen.size == 0:
        return not_estimated(join_notes(note, "no items"))
    mean = float(chosen.mean())
    component = Component.of_items((chosen - mean) / chosen.size, images, n_images)
    return ClusteredEstimate(mean, {name: component}, chosen.size, component.n_groups, note)


def clustered_ratio(
    numerator: ArrayLike, denominator: ArrayLike, codes: NDArray[np.int64], *, n_images: int
) -> ClusteredEstimate:
    """Ratio of two sums over items, Σ numerator / Σ denominator, by linearisation.

    Args:
        numerator: (n,)
        denominator: (n,)
        codes: (n,) number of each item's image, below `n_images`.
        n_images: images of the study.
    """
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, np.float64)
    total = float(below.sum())
    if above.size == 0 or total == 0:
        return not_estimated("no items" if above.size == 0 else "the denominator sums to zero")
    ratio = float(above.sum()) / total
    component = Component.of_items(
        (above - ratio * below) / total, codes, n_images, weights=np.abs(below)
    )
    return ClusteredEstimate(ratio, {"items": component}, above.size, component.n_groups)


def numbered(groups: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Number of each item's image, (n,), in the order of their names, and how many there are."""
    array = np.asarray(groups)
    codes = codes_of(array, np.ones(array.shape, dtype=bool), name="groups")
    return codes, int(codes.max(initial=-1)) + 1
