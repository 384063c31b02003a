"""Probes of correctness on hidden states."""

from pydantic import Field

from vrp.config.section import Section


class ProbesConfig(Section):
    """Image-grouped cross-validated probes; layer and penalty are picked inside training folds."""

    folds: int = Field(default=5, ge=2)
    """Outer folds; an image is in one fold only."""
    inner_folds: int = Field(default=3, ge=2)
    """Folds inside a training fold, for the penalty and the layer."""
    penalties: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    """Values of scikit-learn's C to choose from: the inverse of the L2 penalty's strength."""
    sparse_c: float = Field(default=0.1, gt=0)
    """scikit-learn's C of the L1 probe that names neurons."""
    mlp: bool = True
    """Fit the MLP probe (one hidden layer of 256) at the best layer."""
    supervised_attention: bool = True
    """Fit the stress tests: a tree ensemble and an MLP on attention."""
    last_layers: int = Field(default=5, ge=1)
    """Layers joined in the `last layers` probe."""
    permutations: int | None = Field(default=None, ge=0)
    """Label permutations fitted beside the probe: on average they must fall to chance. null: 20 to
    100, as many as the items need for a leak to be told from none."""
    fold_seeds: int = Field(default=5, ge=1)
    """Assignments of images to folds that the best layer's probe is fitted with: how much its AUROC
    depends on them, which its interval leaves out. All other numbers are of the first."""
    bootstrap: int = Field(default=1000, ge=100)
    """Number of bootstrap resamples, clustered by image."""
