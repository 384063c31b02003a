"""Fitting: which predictor, on which images, and what the folder says of it."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss

import vrp
from vrp.errors import InputError
from vrp.monitor.fitting import FEWEST_IMAGES, FitOptions, fit_monitor
from vrp.monitor.predictor import PREDICTORS, log_odds_of, one_pass_signals
from vrp.stats.risk_control import one_item_per_group

pytestmark = pytest.mark.slow


def test_log_odds_are_those_of_the_mean_token_probability():
    p = np.array([0.01, 0.5, 0.9, 1 - 1e-6])
    assert log_odds_of(np.log(p)) == pytest.approx(np.log(p / (1 - p)), rel=1e-6)
    assert np.isfinite(log_odds_of(0.0))
    assert np.isnan(log_odds_of(np.nan))


def test_one_pass_signals_need_no_sample_and_no_second_question():
    found = set(one_pass_signals())
    assert {"token_confidence", "decision_margin", "logit_entropy"} <= found
    assert not found & {"self_consistency", "image_gain", "p_true", "truth_margin_last"}


def test_thresholds_hold_on_their_own_images(monitor, study):
    """Shares of a random question about a random image, from the study's table."""
    frame = study.table("signals", "llava").collect().sort("item_id")
    scores, wrong = log_odds_of(frame["token_confidence"].to_numpy()), ~frame["correct"].to_numpy()
    weights = (1 / frame.select(pl.len().over("group")).to_series()).to_numpy()
    for one in monitor.card.thresholds:
        if one.threshold is None:
            continue
        some = scores >= one.threshold
        assert (one.n, one.n_items) == (frame["group"].n_unique(), len(frame))
        assert (one.n_accepted, one.n_wrong) == (some.sum(), (some & wrong).sum())
        assert one.coverage == pytest.approx(weights[some].sum() / one.n)
        assert one.risk == pytest.approx(weights[some & wrong].sum() / weights[some].sum())
        assert one.risk < one.bound <= one.alpha
        assert one.probability == pytest.approx(
            float(monitor.calibrator.probability([one.threshold])[0])
        )
    assert any(one.threshold is not None for one in monitor.card.thresholds)
    chosen = one_item_per_group(frame["group"], frame["token_confidence"])
    scores = scores[chosen]
    assert monitor.scores == pytest.approx(np.sort(scores[np.isfinite(scores)]))


def test_nothing_is_accepted_where_nothing_qualifies(small_results):
    found = fit_monitor(small_results, "llava", FitOptions("token_confidence", alphas=(0.001,)))
    (threshold,) = found.card.thresholds
    assert threshold.threshold is None
    assert threshold.coverage == 0
    assert "too few calibration items" in threshold.reason
    monitor = vrp.ReliabilityMonitor(found)
    assert "accept none" in _readme(monitor)


def _readme(monitor):
    from vrp.monitor.model_card import model_card

    return model_card(monitor.card)


def test_a_fitted_predictor_never_saw_the_images_of_its_thresholds(fused):
    training = fused.card.training
    assert training.n_images_fit + training.n_images_thresholds == training.n_images
    assert len(fused.scores) <= training.n_images_thresholds < training.n_images
    assert fused.card.features == (*one_pass_signals(), "probe")
    assert fused.card.layer == fused.predictor.probe.layer


def test_probabilities_are_judged_on_images_left_out(monitor, study):
    frame = study.table("signals", "llava").collect()
    plain = brier_score_loss(
        frame["correct"], np.exp(np.minimum(frame["token_confidence"].to_numpy(), 0))
    )
    assert monitor.card.performance.brier < plain + 0.02
    assert 0 <= monitor.card.performance.ece < 0.15


def test_few_images_are_no_contest(small_results):
    found = fit_monitor(small_results, "llava", FitOptions(fit_share=0.2))
    assert found.card.predictor == "token_confidence"
    n = found.card.training.n_images_fit
    assert n < FEWEST_IMAGES
    assert found.card.training.choice == f"{n} images to fit by are too few to find a better one"


def test_a_contest_states_both_differences(small_results):
    found = fit_monitor(small_results, "llava", FitOptions(fit_share=0.7))
    assert found.card.predictor in PREDICTORS
    assert "probe minus token confidence" in found.card.training.choice
    assert "fusion minus token confidence" in found.card.training.choice


def test_a_folder_is_read_as_it_was_written_and_is_the_same_each_time(monitor, fused, tmp_path):
    for one in (monitor, fused):
        one.save(tmp_path / "a")
        again = vrp.ReliabilityMonitor.load(tmp_path / "a")
        assert again.predictor.score(_values()) == pytest.approx(one.predictor.score(_values()))
        again.save(tmp_path / "b")
        for name in ("card.json", "monitor.safetensors", "README.md"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _values():
    values = {name: np.array([-0.1, -1.0]) for name in one_pass_signals()}
    return {**values, "token_confidence_log_odds": np.array([1.0, 2.0]), "probe": np.zeros(2)}


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("card.json", None, r"holds no card\.json"),
        (
            "card.json",
            lambda text: text.replace(b"short_answer", b"plain"),
            "not as it was written",
        ),
        ("card.json", lambda text: b"[1]", "not a JSON object"),
        ("monitor.safetensors", None, "cannot be read"),
        ("monitor.safetensors", lambda text: text[:-1] + b"x", "is not the file that"),
    ],
)
def test_a_folder_that_is_not_as_it_was_written_is_refused(
    monitor, tmp_path, file, damage, message
):
    monitor.save(tmp_path / "m")
    path = tmp_path / "m" / file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        vrp.ReliabilityMonitor.load(tmp_path / "m")


def test_the_card_says_what_was_fitted(monitor, tmp_path):
    monitor.save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["model"]["checkpoint"] == "zoo:llava"
    assert card["model"]["weights"] == "f73c46b5081e6608"
    assert card["training"]["n_items"] == 240
    assert {guard["name"] for guard in card["guards"]} >= {"question only", "answer only"}
    text = (tmp_path / "README.md").read_text()
    for part in ("| α |", "AUROC within strata", "base_model", "Limits:"):
        assert (part in text) == (part != "base_model")  # of a hub checkpoint only


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("lava", FitOptions(), "did you mean 'llava'"),
        ("llava", FitOptions(predictor="confidence"), "unknown predictor 'confidence'"),
        ("llava", FitOptions(alphas=()), "at least one alpha"),
        ("llava", FitOptions(alphas=(2.0,)), "alpha 2 is out of range"),
        ("llava", FitOptions(delta=0.7), "delta 0.7 is out of range"),
        ("llava", FitOptions(fit_share=1.0), "between 0 and 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(small_results, model, options, message):
    with pytest.raises(InputError, match=message):
        fit_monitor(small_results, model, options)


def test_a_study_without_hidden_states_has_token_confidence(small_results, tmp_path):
    folder = shutil.copytree(small_results, tmp_path / "small")
    for name in ("extract.json", "hidden"):
        path = folder / "llava" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError):
        fit_monitor(folder, "llava", FitOptions("probe"))
