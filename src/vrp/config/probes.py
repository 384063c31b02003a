"""Probes of correctness on hidden states."""

from typing import Annotated

from pydantic import Field

from vrp.config.section import Section

Penalty = Annotated[float, Field(gt=0)]


class ProbesConfig(Section):
    """Image-grouped cross-validated probes; layer and penalty are picked inside training folds."""

    folds: int = Field(default=5, ge=2)
    """Number of outer folds. Each image is in one fold only."""
    inner_folds: int = Field(default=3, ge=2)
    """Number of folds inside a training fold, which choose the penalty and the layer."""
    penalties: tuple[Penalty, ...] = Field(default=(0.001, 0.01, 0.1, 1.0), min_length=1)
    """Candidate values of scikit-learn's C (above 0), the inverse of the L2 penalty's strength."""
    sparse_c: float = Field(default=0.1, gt=0)
    """scikit-learn's C of the L1 probe that ranks neurons."""
    mlp: bool = True
    """Fit the MLP probe (one hidden layer of 256) at the best layer."""
    supervised_attention: bool = True
    """Fit two supervised baselines on attention: a tree ensemble and an MLP."""
    last_layers: int = Field(default=5, ge=1)
    """Number of layers that the `last layers` probe concatenates."""
    permutations: int | None = Field(default=None, ge=0)
    """Number of label permutations. A probe is fitted to each; their mean AUROC must be at chance.
    null: 20 to 100, depending on the number of items, enough to distinguish a leak from chance."""
    fold_seeds: int = Field(default=5, ge=1)
    """Number of assignments of images to folds with which the best layer's probe is fitted. They
    show how much its AUROC depends on the folds, which its interval does not include. All other
    numbers use the first assignment."""
    bootstrap: int = Field(default=1000, ge=100)
    """Number of bootstrap resamples, clustered by image."""
