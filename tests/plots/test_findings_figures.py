"""Figures of what a study finds: their data are the tables' numbers, their marks the data."""

import importlib
import math

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_hex
from sklearn.metrics import roc_auc_score

from vrp.findings.claims import CLAIMS, replication
from vrp.findings.evidence import model_evidence
from vrp.findings.published_numbers import published
from vrp.interventions.conditions import Contrast
from vrp.plots.style import BLACK, RIGHT, WRONG
from vrp.probing.labels import LINEAR_BEST, TRANSFER
from vrp.report.decision import decide
from vrp.tables.effects import EFFECTS
from vrp.tables.estimates import METRICS, PROBES, WITHIN_STRATA
from vrp.tables.neurons import NEURONS
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

NAMES = (
    "claims", "decision", "interaction_forest", "resolution", "roc", "signal_densities",
    "sparse_neurons", "transfer_matrix",
)  # fmt: skip


@pytest.fixture(scope="module")
def shown(study):
    """Figure → its data."""
    return {name: data_of(name)(study) for name in NAMES}


def data_of(name):
    return importlib.import_module(f"vrp.plots.figures.{name}").data


def of_first(frame, study):
    return frame.filter(model=study.models[0].name)


def auroc_in(model, predictor):
    rows = pl.concat([model.table(METRICS), model.table(PROBES)])
    return rows.filter(predictor=predictor, metric="auroc", scope=WITHIN_STRATA).row(0, named=True)


def interval(row):
    numbers = [row["value"], row["low"], row["high"]]
    missing = [None if number is None or math.isnan(number) else number for number in numbers]
    return [*missing, row["n"], row["n_groups"]]


def columns(row):
    return [row["value"], row["low"], row["high"], row["n"], row["images"]]


def marked(ax, **look):
    """Places of single dots whose artist has these properties, in drawing order."""
    found = []
    for line in ax.lines:
        if all(getattr(line, f"get_{name}")() == value for name, value in look.items()):
            found += list(zip(*line.get_data(), strict=True))
    return found


def test_the_decision_is_that_of_the_report(study, shown, figure_of):
    for place, model in enumerate(study.models):
        evidence = model_evidence(model, study)
        decision = decide(evidence, {}).recommended
        rows = shown["decision"].filter(model=model.name)
        recommended, best = (rows.filter(column) for column in ("recommended", "best"))
        assert decision is not None
        assert recommended["predictor"].to_list() == [decision.predictor]
        assert best["predictor"].to_list() == [decision.best]
        assert best["value"].item() == rows["value"].max()
        ax = figure_of("decision").axes[place]
        ((x, y),) = marked(ax, marker="*")
        assert (x, y) == (rows["predictor"].to_list().index(decision.best) + offset(rows, best), y)
        assert y == decision.best_auroc.value
        assert [y for _, y in marked(ax, markersize=10.0)] == [decision.auroc.value]


def offset(rows, one):
    """Gaps between groups of one cost that lie left of a row."""
    cheaper = rows.filter(pl.col("further_runs") < one["further_runs"].item())
    return 1.5 * cheaper["further_runs"].n_unique()


def test_costs_and_aurocs_of_the_decision(study, shown, figure_of):
    model, rows = study.models[0], of_first(shown["decision"], study)
    runs = dict(rows.select("predictor", "further_runs").iter_rows())
    assert runs["token_confidence"] == runs["spatial_entropy"] == runs[LINEAR_BEST] == 0
    assert runs["self_consistency"] == runs["fusion"] == 10
    assert "truth_margin" not in runs  # needs the label
    assert "blind_linear_best" not in runs  # a guard
    for row in rows.iter_rows(named=True):
        assert columns(row) == interval(auroc_in(model, row["predictor"]))
    ax = figure_of("decision").axes[0]
    drawn = [y for x, y in sorted(marked(ax, markersize=3.0))]
    assert drawn == rows["value"].to_list()
    assert rows["further_runs"].is_sorted()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "10"]


def test_claims_are_the_papers_numbers_beside_the_tables(study, shown, figure_of):
    by_label = {claim.label: claim for claim in CLAIMS}
    for model in study.models:
        evidence = model_evidence(model, study)
        rows = shown["claims"].filter(model=model.name)
        assert len(rows) == sum(published(one.key, evidence.family) is not None for one in CLAIMS)
        for row in rows.iter_rows(named=True):
            claim = by_label[row["claim"]]
            assert row["published"] == published(claim.key, evidence.family).value
            assert row["verdict"] == replication(claim, evidence)
    rows = of_first(shown["claims"], study)
    probe = rows.row(by_predicate=pl.col("claim") == "hidden-state probe", named=True)
    assert columns(probe) == interval(auroc_in(study.models[0], LINEAR_BEST))
    masking = rows.row(by_predicate=pl.col("claim") == "most attended hidden", named=True)
    effect = study.table(EFFECTS).filter(
        model=study.models[0].name, condition="top_30", scope="all"
    )
    assert masking["value"] == effect["effect"].item()
    assert (masking["published"], masking["verdict"]) == (-8.2, "reproduced")  # planted

    ax = figure_of("claims").axes[0]
    aurocs = rows.filter(quantity="AUROC")
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == aurocs["claim"].to_list()
    assert marked(ax, marker="|") == list(zip(aurocs["published"], ax.get_yticks(), strict=True))
    ours = [(x, y) for line in ax.lines if line.get_marker() in "oXDs"
            for x, y in zip(*line.get_data(), strict=True)]  # fmt: skip
    assert ours == list(zip(aurocs["value"], ax.get_yticks(), strict=True))


def test_a_transfer_matrix_is_the_table(study, shown, figure_of):
    model, rows = study.models[0], of_first(shown["transfer_matrix"], study)
    table = model.table(PROBES).filter(metric="transfer_auroc")
    assert len(rows) == len(table) == 16
    for row in rows.iter_rows(named=True):
        source = f"{TRANSFER}{row['fitted_on']}"
        found = table.filter(predictor=source, scope=row["evaluated_on"])
        assert columns(row) == interval(found.row(0, named=True))
    ax = figure_of("transfer_matrix").axes[0]
    areas = rows["value"].to_numpy().reshape(4, 4).astype(float)
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), areas)
    cells = [text for text in ax.texts if text.get_ha() == "center"]
    texts = {text.get_position(): text.get_text() for text in cells}
    for i, row in enumerate(rows.iter_rows(named=True)):
        at = (i % 4, i // 4)
        if row["value"] is None:
            assert at not in texts
            continue
        unsure = row["low"] <= 0.5 <= row["high"]
        number = f"{row['value']:.2f}".lstrip("0")
        assert texts[at] == (f"({number})" if unsure else number)


def test_interactions_are_the_effects_of_pairs_and_differences_of_aurocs(study, shown, figure_of):
    first, second = study.models[:2]
    rows = shown["interaction_forest"].filter(model=first.name, other_model=second.name)
    pair = study.table(EFFECTS).filter(model=f"{first.name} - {second.name}")
    effects = rows.filter(pl.col("intervention").is_not_null())
    assert len(effects) > 5
    for row in effects.iter_rows(named=True):
        found = pair.filter(intervention=row["intervention"], condition=row["name"])
        assert columns(row) == interval(found.rename({"effect": "value"}).row(0, named=True))
        condition = study.conditions.named(row["intervention"], row["name"])
        assert isinstance(condition, Contrast) or condition.kind in ("mlp", "no_image")
    for name in ("decision_margin", "self_consistency"):
        row = rows.row(by_predicate=pl.col("name") == name, named=True)
        gap = auroc_in(first, name)["value"] - auroc_in(second, name)["value"]
        # Paired: a stratum weighs the same on both sides, so that the third digit may differ.
        assert row["value"] == pytest.approx(gap, abs=2e-3)
    above, below = figure_of("interaction_forest").axes
    wanted = shown["interaction_forest"].group_by("quantity").len().sort("quantity")["len"]
    drawn = [[x for line in ax.lines if len(line.get_xdata()) == 1 for x in line.get_xdata()]
             for ax in (above, below)]  # fmt: skip
    assert [len(values) for values in drawn] == wanted.to_list()
    assert sorted(drawn[0] + drawn[1]) == sorted(shown["interaction_forest"]["value"])


def test_resolution_is_that_of_the_tables(study, shown, figure_of):
    model, rows = study.models[0], of_first(shown["resolution"], study)
    aurocs = rows.filter(quantity="AUROC")
    for row in aurocs.iter_rows(named=True):
        found = auroc_in(model, row["name"])
        assert row["distance"] == pytest.approx(abs(found["value"] - 0.5))
        assert row["resolvable"] == found["resolvable"]
    effects = study.table(EFFECTS).filter(model=model.name, scope="all", intervention="mask")
    for row in effects.filter(pl.col("resolvable") < 100).iter_rows(named=True):
        mine = rows.row(by_predicate=pl.col("name") == f"mask: {row['condition']}", named=True)
        assert (mine["distance"], mine["resolvable"]) == (abs(row["effect"]), row["resolvable"])
    assert aurocs["distance"].is_sorted()
    ax = figure_of("resolution").axes[0]
    dashes = [y for _, y in marked(ax, marker="_")]
    assert dashes == aurocs["resolvable"].to_list()
    estimates = sorted(
        (x, y) for line in ax.lines if line.get_marker() in "osDx"
        for x, y in zip(*line.get_data(), strict=True)
    )  # fmt: skip
    assert [y for _, y in estimates] == aurocs["distance"].to_list()


def test_the_area_under_a_curve_is_the_auroc_that_the_tables_state(study, shown, figure_of):
    model, rows = study.models[0], of_first(shown["roc"], study)
    assert {"decision_margin", LINEAR_BEST, "fusion"} <= set(rows["predictor"])
    stated = []
    for (name,), curve in rows.partition_by("predictor", as_dict=True).items():
        found = auroc_in(model, name)
        first = curve.row(0, named=True)
        assert [first[key] for key in ("value", "low", "high", "n", "images")] == interval(found)
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        assert area == pytest.approx(found["value"], abs=1e-3)
        stated.append(f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]")
    ax = figure_of("roc").axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == stated
    for line, curve in zip(ax.lines[1:], rows.partition_by("predictor"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), curve["false_positive_rate"])
        np.testing.assert_array_equal(line.get_ydata(), curve["true_positive_rate"])


def test_a_curve_within_one_stratum_and_fold_is_scikit_learns(study):
    """Of one task and form of answer alone, where the mean over strata is that stratum."""
    from vrp.stats.clusters import numbered
    from vrp.stats.roc import stratified_roc

    rows = study.models[0].table(signal_table()).filter(task="existence")
    scores = study.models[0].table(PREDICTIONS).filter(probe=LINEAR_BEST)
    joined = rows.join(scores.select("item_id", "score"), on="item_id")
    codes, _ = numbered(joined["group"].to_numpy())
    curve = stratified_roc(
        joined["score"].to_numpy(), joined["correct"].to_numpy(), codes,
        joined["form"].to_numpy(),
    )  # fmt: skip
    area = np.trapezoid(curve.true_positive, curve.false_positive)
    assert area == pytest.approx(roc_auc_score(joined["correct"], joined["score"]))


def test_the_sparse_probe_s_weight_is_counted_from_its_neurons(study, shown, figure_of):
    rows = of_first(shown["sparse_neurons"], study)
    table = study.models[0].table(NEURONS)
    weights = np.abs(table.sort("fold", "neuron")["weight"].to_numpy().reshape(-1, 8))
    kept = (weights > 0).mean(axis=1)
    layers = rows.filter(quantity="share of neurons kept").row(0, named=True)
    assert (layers["layer"], layers["folds"]) == (4, len(kept))
    assert [layers[end] for end in ("value", "low", "high")] == pytest.approx(
        [kept.mean(), kept.min(), kept.max()]
    )
    shares = np.cumsum(-np.sort(-weights, axis=1), axis=1) / weights.sum(axis=1, keepdims=True)
    spread = rows.filter(quantity="share of weight on the largest")
    np.testing.assert_allclose(spread["value"], shares.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(spread["low"], shares.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(spread["high"], shares.max(axis=0), rtol=1e-6)
    below = figure_of("sparse_neurons").axes[len(study.models)]
    np.testing.assert_allclose(below.lines[0].get_ydata(), 100 * spread["value"])
    np.testing.assert_array_equal(below.lines[0].get_xdata(), spread["neurons"])


def test_densities_are_shares_of_right_and_of_wrong_answers(study, shown, figure_of):
    table = study.models[0].table(signal_table())
    right = table["correct"].to_numpy()
    for row, signal in enumerate(
        ("spatial_entropy", "cluster_count_dbscan", "cluster_count_components")
    ):
        values = table[signal].to_numpy().astype(float)
        ax = figure_of("signal_densities").axes[row * len(study.models)]
        for answers, chosen, colour in (("right", right, RIGHT), ("wrong", ~right, WRONG)):
            mine = values[chosen & np.isfinite(values)]
            rows = of_first(shown["signal_densities"], study).filter(signal=signal, answers=answers)
            edges = [*rows["bin_low"], rows["bin_high"][-1]]
            expected = np.histogram(mine, edges)[0] / len(mine)
            np.testing.assert_allclose(rows["value"], expected)
            assert rows["value"].sum() == pytest.approx(1)
            assert rows["n"].unique().to_list() == [len(mine)]
            assert (rows["low"] <= rows["value"]).all()
            assert (rows["high"] >= rows["value"]).all()
            (outline,) = [
                patch for patch in ax.patches
                if not patch.get_fill() and to_hex(patch.get_edgecolor()) == colour.lower()
            ]  # fmt: skip
            np.testing.assert_array_equal(outline.get_data().values, rows["value"])


def test_black_marks_stand_for_the_published_numbers_alone(figure_of):
    ax = figure_of("claims").axes[0]
    black = [line for line in ax.lines if to_hex(line.get_color()) == BLACK]
    assert {line.get_marker() for line in black} == {"|"}
