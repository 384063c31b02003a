import numpy as np
import pytest

from vrp.errors import InputError
from vrp.probing.baselines import task_only
from vrp.probing.folds import plan_folds
from vrp.probing.fusion import fit_fusion
from vrp.probing.linear import fit_linear
from vrp.stats.auroc import auroc

pytestmark = pytest.mark.slow


def _area(result, items, plan):
    return auroc(result.scores, items.correct, strata=plan.fold)


def test_two_half_signals_beat_each_alone(planted):
    made = planted(1200, strength=2.0)
    plan = plan_folds(made.items, seed="s")
    half = {
        "one": made.evidence + 2 * made.random.normal(size=1200),
        "two": 1000 * (made.evidence + 2 * made.random.normal(size=1200)),
    }
    fused = fit_fusion(half, made.items, plan)
    alone = [_area(fit_linear(v[:, None], made.items, plan), made.items, plan)
             for v in half.values()]  # fmt: skip
    assert _area(fused, made.items, plan) > max(alone) + 0.01
    assert fused.fits[0].weights == pytest.approx(
        [fused.fits[0].weights.mean()] * 2, rel=0.5
    )  # standardised: the scale of a signal does not matter


def test_missing_values_become_the_training_median_with_an_indicator(planted):
    made = planted(600)
    plan = plan_folds(made.items, seed="s")
    signal = made.evidence.copy()
    signal[::7] = np.nan
    fused = fit_fusion({"gappy": signal, "never": np.full(600, np.nan)}, made.items, plan)
    assert fused.fits[0].weights.size == 4
    assert np.isfinite(fused.scores).all()
    # By hand: the same as a linear probe of the filled columns, where the median is the fold's.
    split = plan.splits[0]
    filled = np.where(np.isnan(signal), np.nanmedian(signal[split.train]), signal)
    by_hand = np.column_stack([filled, np.zeros(600), np.isnan(signal), np.ones(600)])
    expected = fit_linear(by_hand, made.items, plan, name="fusion")
    assert fused.scores[split.test] == pytest.approx(expected.scores[split.test], abs=1e-9)


def test_absence_itself_can_tell(planted):
    made = planted(600)
    signal = np.where(made.items.correct, 1.0, np.nan)
    plan = plan_folds(made.items, seed="s")
    assert _area(fit_fusion({"s": signal}, made.items, plan), made.items, plan) == 1.0


def test_probes_enter_by_their_nested_scores(planted):
    made = planted(900)
    plan = plan_folds(made.items, seed="s")
    # A probe wide enough to overfit: its in-sample scores would fool the second stage.
    states = made.random.normal(size=(900, 120))
    probe = fit_linear(states, made.items, plan, penalties=(1.0,))
    weak = made.evidence + 2 * made.random.normal(size=900)
    with_noise = fit_fusion({"weak": weak}, made.items, plan, probes={"probe": probe})
    without = fit_fusion({"weak": weak}, made.items, plan)
    gap = _area(without, made.items, plan) - _area(with_noise, made.items, plan)
    assert gap < 0.02
    for fit in with_noise.fits:
        assert abs(fit.weights[1]) < abs(fit.weights[0]) / 2
    # Held-out labels do not reach it, the probe's fit included.
    flipped = made.items.correct.copy()
    test = plan.splits[4].test
    flipped[test] = ~flipped[test]
    items = made.items.with_labels(flipped)
    again = fit_fusion(
        {"weak": weak}, items, plan,
        probes={"probe": fit_linear(states, items, plan, penalties=(1.0,))},
    )  # fmt: skip
    assert (again.scores[test] == with_noise.scores[test]).all()


def test_bad_signals_are_refused(planted):
    made = planted(100)
    plan = plan_folds(made.items, seed="s")
    with pytest.raises(InputError, match="'s' must have 100 values"):
        fit_fusion({"s": np.zeros(99)}, made.items, plan)
    with pytest.raises(InputError, match="none infinite"):
        fit_fusion({"s": np.full(100, np.inf)}, made.items, plan)
    with pytest.raises(InputError, match="no signals"):
        fit_fusion({}, made.items, plan)
    with pytest.raises(InputError, match="no nested scores"):
        fit_fusion({}, made.items, plan, probes={"task": task_only(made.items, plan)})
