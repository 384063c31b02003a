import numpy as np
from sklearn.preprocessing import StandardScaler

from vrp.probing import mlp
from vrp.probing.crossfit import RowView
from vrp.probing.folds import plan_folds
from vrp.probing.linear import fit_linear
from vrp.probing.mlp import fit_mlp
from vrp.stats.auroc import auroc


def test_finds_what_a_linear_probe_cannot_and_is_deterministic(planted, monkeypatch):
    made = planted(1000)
    states = made.random.normal(size=(1000, 4))
    items = made.items.with_labels(states[:, 0] * states[:, 1] > 0)
    plan = plan_folds(items, n_folds=3, seed="s")
    # 1e-4 over 50 epochs is slow for so few items; the recipe's own numbers are tested below.
    monkeypatch.setattr(mlp, "LEARNING_RATE", 1e-2)
    result = fit_mlp(states, items, plan)
    linear = fit_linear(states, items, plan)
    assert auroc(result.scores, items.correct, strata=plan.fold) > 0.9
    assert auroc(linear.scores, items.correct, strata=plan.fold) < 0.6
    again = fit_mlp(states, items, plan)
    assert (again.scores == result.scores).all()


def test_recipe_of_the_papers(planted, monkeypatch):
    seen = []
    import vrp.probing.mlp as module

    class Spy(module.MLPClassifier):
        def fit(self, X, y):
            result = super().fit(X, y)
            seen.append((self.hidden_layer_sizes, self.activation, self.solver,
                         self.learning_rate_init, self.n_iter_))  # fmt: skip
            return result

    monkeypatch.setattr(module, "MLPClassifier", Spy)
    made = planted(150)
    plan = plan_folds(made.items, n_folds=2, seed="s")
    states = np.column_stack([made.evidence, made.random.normal(size=150)])
    result = fit_mlp(states, made.items, plan)
    assert seen == [((256,), "relu", "adam", 1e-4, 50)] * 2  # all 50 epochs, never stopped early
    assert np.isfinite(result.scores).all()


def test_standardising_some_columns_at_a_time_changes_no_digit(monkeypatch):
    random = np.random.default_rng(0)
    matrix = random.normal(3.0, 5.0, size=(400, 17)).astype(np.float32)
    matrix[:, 4] = 1.0  # a constant column
    train, test = random.permutation(400)[:300], np.arange(50)
    scaler = StandardScaler().fit(matrix[train].astype(np.float64))
    whole = [scaler.transform(matrix[rows].astype(np.float64)) for rows in (train, test)]
    view = RowView.of(matrix)
    for block_bytes in (1, 8 * 300 * 5, 2**26):
        monkeypatch.setattr(mlp, "_BLOCK_BYTES", block_bytes)
        for parts in ((matrix[train], matrix[test]), (view[train], view[test])):
            for found, expected in zip(mlp.standardised(*parts), whole, strict=True):
                np.testing.assert_array_equal(found, expected.astype(np.float32))
