import numpy as np

from vrp.probing.folds import plan_folds
from vrp.probing.linear import fit_linear
from vrp.probing.mlp import fit_mlp
from vrp.stats.auroc import auroc


def test_finds_what_a_linear_probe_cannot_and_is_deterministic(planted):
    made = planted(1000)
    states = made.random.normal(size=(1000, 4))
    items = made.items.with_labels(states[:, 0] * states[:, 1] > 0)
    plan = plan_folds(items, n_folds=3, seed="s")
    # 1e-4 over 50 epochs is slow for so few items; the recipe's own numbers are tested below.
    result = fit_mlp(states, items, plan, learning_rate=1e-2)
    linear = fit_linear(states, items, plan)
    assert auroc(result.scores, items.correct, strata=plan.fold) > 0.9
    assert auroc(linear.scores, items.correct, strata=plan.fold) < 0.6
    again = fit_mlp(states, items, plan, learning_rate=1e-2)
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
