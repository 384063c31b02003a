"""What is drawn equals numbers worked out from the tables by other means."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.colors import to_hex
from scipy import stats
from sklearn.metrics import roc_auc_score

from vrp.config.margins import EquivalenceMargins
from vrp.plots.condition_style import CONDITION_COLOURS
from vrp.plots.figures.sampled_and_exact import parts
from vrp.plots.layer_values import mean_intervals
from vrp.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RIGHT,
    WRONG,
    house_style,
    model_colour,
    model_marker,
)
from vrp.signals.registry import SIGNALS
from vrp.stats.proportion import clustered_share
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.effects import EFFECTS
from vrp.tables.estimates import PROBES
from vrp.tables.interventions import MASK
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table

N_MODELS = 3


def lines(ax, colour):
    return [line for line in ax.lines if to_hex(line.get_color()).upper() == colour.upper()]


def dots(ax, colour, *, marker="o"):
    """(x, y) of the single dots of a colour, in drawing order."""
    found = [line for line in lines(ax, colour) if line.get_marker() == marker]
    return [
        (line.get_xdata()[0], line.get_ydata()[0]) for line in found if len(line.get_xdata()) == 1
    ]


def panel(figure, row=0, model=0):
    return figure.axes[row * N_MODELS + model]


def note_of(ax):
    """What stands above a panel, its name left out, in one line."""
    return " ".join(text.get_text().replace("\n", " ") for text in ax.texts[1:])


@pytest.fixture(scope="module")
def first(study):
    """The first model's tables and which items it answered right, in the order of item_id."""
    return study.models[0], study.models[0].table(ANSWERS)["correct"].to_numpy()


@pytest.fixture(scope="module")
def strata(study):
    """Task and answer form of each item, in the order of item_id."""
    items = study.table(ITEMS).sort("item_id")
    forms = [
        "yes/no" if text in ("yes", "no") else "number" if text.isdecimal() else "other"
        for text in items["reference"]
    ]
    return np.array([f"{task}: {form}" for task, form in zip(items["task"], forms, strict=True)])


def min_of_both(right):
    return min(right.sum(), (~right).sum())


def weighted_means(values, right, strata):
    """Means of right and of wrong items over the strata that have both, by van Elteren's weights.

    Items without a value count for the weights, and for no mean.
    """
    sums, total = np.zeros((2, values.shape[1])), 0.0
    for name in np.unique(strata):
        here = strata == name
        n_right, n_wrong = (right & here).sum(), (~right & here).sum()
        if n_right and n_wrong:
            weight = n_right * n_wrong / (n_right + n_wrong + 1)
            total += weight
            for which, chosen in enumerate((right & here, ~right & here)):
                sums[which] += weight * np.nanmean(values[chosen], axis=0)
    return sums / total


def test_means_have_the_textbook_interval_when_every_item_is_its_own_image():
    values = np.random.default_rng(0).normal(size=(40, 2))
    values[3, 1] = np.nan
    found = mean_intervals(values, np.arange(40))
    for mark, column in zip(found, (values[:, 0], np.delete(values[:, 1], 3)), strict=True):
        half = stats.t.ppf(0.975, len(column) - 1) * stats.sem(column)
        assert mark["value"] == pytest.approx(column.mean())
        assert mark["low"] == pytest.approx(column.mean() - half)
        assert mark["high"] == pytest.approx(column.mean() + half)
        assert mark["n"] == mark["images"] == len(column)


def test_asking_the_same_image_twice_does_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=(30, 1))
    (once,) = mean_intervals(values, np.arange(30))
    (twice,) = mean_intervals(np.repeat(values, 2, axis=0), np.repeat(np.arange(30), 2))
    assert twice["low"] == pytest.approx(once["low"])


def test_means_of_nothing_are_missing():
    (found,) = mean_intervals(np.full((3, 1), np.nan), np.arange(3))
    assert np.isnan([found["value"], found["low"]]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_entropy_by_layer(figure_of, first, strata):
    model, right = first
    share = np.full((len(right), 6), np.nan)
    change = np.full((len(right), 6), np.nan)
    for i, maps in enumerate(model.table(ATTENTION)["maps"]):
        rows = np.array(maps.to_list(), dtype=np.float64)
        entropy = np.array(
            [stats.entropy(row) if np.isfinite(row).all() else np.nan for row in rows]
        )
        share[i] = entropy / np.log(rows.shape[1])
        change[i, 1:] = np.diff(entropy)
    assert np.isnan(share).any()  # the study has an item whose attention is missing
    figure = figure_of("entropy_by_layer")
    for row, values in enumerate((share, change)):
        for colour, expected in zip(
            (RIGHT, WRONG), weighted_means(values, right, strata), strict=True
        ):
            (line,) = lines(panel(figure, row), colour)
            np.testing.assert_allclose(line.get_ydata(), expected, atol=2e-6)
    seen = np.isfinite(share).any(axis=1)
    counts = note_of(panel(figure))
    assert f"{(right & seen).sum()} right, " in counts
    assert f"{(~right & seen).sum()} wrong, " in counts
    assert not seen.all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row", "column"),
    [
        ("lens_margins", 0, "truth_margin"),
        ("lens_margins", 1, "decision_margin"),
        ("residual_update", 0, "residual_update"),
    ],
)
def test_means_by_layer(figure_of, first, strata, name, row, column):
    model, right = first
    values = np.array(model.table(LENS)[column].to_list())
    for colour, expected in zip((RIGHT, WRONG), weighted_means(values, right, strata), strict=True):
        (line,) = [x for x in lines(panel(figure_of(name), row), colour) if len(x.get_xdata()) == 6]
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(6))


def test_contributions_are_ratios_of_sums(figure_of, first):
    model, _ = first
    attention = np.array(model.table(LENS)["attention_contribution"].to_list()).sum(axis=0)
    mlp = np.array(model.table(LENS)["mlp_contribution"].to_list()).sum(axis=0)
    heights = [bar.get_height() for bar in panel(figure_of("contributions")).patches]
    growth = attention.sum() + mlp.sum()
    np.testing.assert_allclose(heights, 100 * np.concatenate([attention, mlp]) / growth, rtol=1e-5)
    assert sum(heights) == pytest.approx(100)


def shares_of(ax, index):
    return [x for x, _ in dots(ax, model_colour(index), marker=model_marker(index))]


def test_accuracy_by_task(figure_of, study):
    accuracy, parsed, existence = figure_of("accuracy_by_task").axes
    tasks = study.table(ITEMS)["task"].to_numpy()
    for index, model in enumerate(study.models):
        right = model.table(ANSWERS)["correct"].to_numpy()
        could = model.table(ANSWERS)["parsed"].is_not_null().to_numpy()
        wanted = ["existence", "counting", "spatial", "open"]
        for ax, hits in ((accuracy, right), (parsed, could)):
            expected = [hits[tasks == task].mean() for task in wanted] + [hits.mean()]
            assert shares_of(ax, index) == pytest.approx(expected)
        asked = tasks == "existence"
        said = model.table(ANSWERS)["parsed"].to_numpy()
        expected = [
            (said[asked] == "yes").mean(),
            right[asked & (said == "yes")].mean(),
            right[asked & (said == "no")].mean(),
        ]
        assert shares_of(existence, index) == pytest.approx(expected)
    truth = (study.table(ITEMS).filter(pl.col("task") == "existence")["reference"] == "yes").mean()
    (dotted,) = [c for c in existence.collections if len(c.get_segments()) == 1
                 and np.ptp(c.get_segments()[0][:, 0]) == 0]  # fmt: skip
    assert dotted.get_segments()[0][0, 0] == pytest.approx(truth)


@pytest.mark.slow
def test_auroc_by_signal(figure_of, first):
    model, _ = first
    ax = panel(figure_of("auroc_by_signal"))
    rows = {label.get_text(): i for i, label in enumerate(ax.get_yticklabels())}
    place = {y: x for line in ax.lines for x, y in zip(*line.get_data(), strict=True)}
    for signal, name, sign in (
        ("decision_margin", "decision margin", 1),
        ("spatial_entropy", r"spatial entropy $H_\mathrm{s}$", -1),
    ):
        known = model.table(signal_table()).filter(pl.col(signal).is_finite())
        expected, weights = [], []
        for _, stratum in known.group_by("task", "form"):
            images = stratum.group_by("correct").agg(pl.col("group").n_unique())["group"]
            if len(images) == 2 and images.min() >= 10:
                expected.append(roc_auc_score(stratum["correct"], sign * stratum[signal]))
                n, n_right = len(stratum), stratum["correct"].sum()
                weights.append(n_right * (n - n_right) / (n + 1))
        assert len(expected) > 1
        # Values within rounding of each other are ties in the table, not to scikit-learn.
        wanted = np.average(expected, weights=weights)
        assert place[rows[name]] == pytest.approx(wanted, abs=2e-4)
    assert place[rows["decision margin"]] > 0.7  # planted
    assert rows["linear probe, best layer"] > rows["fitted to states, signals"]
    hollow = [line.get_ydata()[0] for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert sorted(hollow) == sorted([rows["truth margin, last layer"], rows["truth margin, peak"]])


def band(ax, axis):
    """Ends of the reference band along an axis, and the key that names it."""
    ((low, high),) = [
        sorted((getattr(patch.get_bbox(), f"{axis}0"), getattr(patch.get_bbox(), f"{axis}1")))
        for patch in ax.patches
    ]
    return low, high, [text.get_text() for text in ax.figure.legends[0].get_texts()]


@pytest.mark.slow
def test_bands_are_the_margins_of_the_study(study, modules):
    for margins, chance, effect in (
        (EquivalenceMargins(), "0.45 to 0.55", "±2 points"),
        (EquivalenceMargins(auroc=0.02, effect_pp=0.5), "0.48 to 0.52", "±0.5 points"),
    ):
        for name, axis, words in (
            ("auroc_by_signal", "x", chance),
            ("probe_by_layer", "y", chance),
            ("ablation", "x", effect),
        ):
            with house_style():
                figure = modules[name].draw(replace(study, margins=margins))
            low, high, key = band(panel(figure), axis)
            none, margin = (0, margins.effect_pp) if words is effect else (0.5, margins.auroc)
            assert (low, high) == pytest.approx((none - margin, none + margin)), name
            assert words in key


@pytest.mark.slow
def test_probe_by_layer(figure_of, first):
    model, _ = first
    ax = panel(figure_of("probe_by_layer"))
    wanted = model.table(PROBES).filter(metric="auroc", scope="within_strata")
    by_layer = wanted.filter(predictor="linear").sort("layer")
    (line,) = [x for x in lines(ax, BLUE) if len(x.get_xdata()) > 1]
    assert line.get_ydata().tolist() == by_layer["value"].to_list()
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(by_layer["high"].max())
    assert band.min() == pytest.approx(by_layer["low"].min())
    beside = (
        ("linear_best", BLUE, "s"), ("blind_linear_best", ORANGE, "^"),
        ("permuted_linear_best", GREY, "D"),
    )  # fmt: skip
    for name, colour, marker in beside:
        ((x, y),) = dots(ax, colour, marker=marker)
        assert y == wanted.filter(predictor=name)["value"].item()
        assert x > 5  # right of the last layer
    best = by_layer.sort("value", descending=True).row(0, named=True)
    highest = f"linear probe highest at layer {best['layer']}: {best['value']:.2f}"
    assert note_of(ax).startswith(highest)


@pytest.mark.slow
def test_head_map(figure_of, first, strata, study_files):
    _, right = first
    attention = read_table(study_files.tables["attention"][0], ATTENTION)
    figure = figure_of("head_map")
    written = np.array(attention["head_contribution"].to_list())
    np.testing.assert_allclose(panel(figure).images[0].get_array(), written.mean(axis=0), atol=1e-6)
    entropy = np.array(attention["head_entropy"].to_list())
    names = [name for name in np.unique(strata) if min_of_both(right[strata == name]) >= 10]
    used = np.isin(strata, names)
    x, y = entropy[:, 4, 1].copy(), right.astype(float)
    for name in names:
        x[strata == name] -= x[strata == name].mean()
        y[strata == name] -= y[strata == name].mean()
    r = np.corrcoef(x[used], y[used])[0, 1]
    assert panel(figure, 1).images[0].get_array()[4, 1] == pytest.approx(r, abs=1e-6)
    marked = panel(figure).lines[0]
    strongest = np.argsort(-np.abs(written.mean(axis=0)).ravel())[:10]
    drawn = {(int(y), int(x)) for x, y in zip(*marked.get_data(), strict=True)}
    assert drawn == {(int(i) // 4, int(i) % 4) for i in strongest}


@pytest.mark.slow
def test_sampled_and_exact(figure_of, first):
    model, _ = first
    ax = panel(figure_of("sampled_and_exact"))
    expected = (
        model.table(CONSISTENCY)
        .select((pl.col("expected_consistency_low") + pl.col("expected_consistency_high")) / 2)
        .to_series()
    )
    sampled = model.table(CONSISTENCY)["self_consistency"].cast(pl.Float64)
    columns = {"expected": expected.cast(pl.Float64), "sampled": sampled}
    shown = pl.DataFrame(parts(pl.DataFrame({**columns, "group": np.arange(len(sampled))})))
    assert shown["n"].sum() == len(sampled)
    assert shown["n"].to_list() == pytest.approx([len(sampled) / 10] * 10, abs=1)
    order = expected.arg_sort()[: shown["n"][0]]
    assert shown["value"][0] == pytest.approx(sampled.gather(order).mean())
    assert shown["expected"][0] == pytest.approx(expected.gather(order).mean())
    found = dots(ax, BLUE)
    assert [y for _, y in found] == pytest.approx(shown["value"].to_list())


@pytest.mark.slow
def test_self_consistency(figure_of, first):
    model, right = first
    figure = figure_of("self_consistency")
    signals = model.table(signal_table())
    agree = (10 * signals["self_consistency"].to_numpy()).round().astype(int)
    images = signals["group"].rank("dense").to_numpy().astype(int) - 1
    above, below = panel(figure), panel(figure, 1)
    levels = np.unique(agree)
    drawn = dots(above, BLUE)
    assert [x for x, _ in drawn] == pytest.approx(levels / 10)
    for (_, y), level, interval in zip(drawn, levels, above.collections, strict=True):
        hits = right[agree == level]
        assert y == pytest.approx(hits.mean())
        share = clustered_share(hits, images[agree == level], n_images=images.max() + 1)
        ends = interval.get_segments()[0][:, 1]
        assert ends == pytest.approx([share.low, share.high])
    shares = [bar.get_height() for bar in below.patches]
    assert shares == pytest.approx([(agree == level).mean() for level in levels])
    share, hit = (agree == 10).mean(), right[agree == 10].mean()
    assert note_of(above).startswith(
        f"all agree on {100 * share:.0f}% of items {100 * hit:.0f}% of them right"
    )


@pytest.mark.slow
def test_risk_coverage(figure_of, study, modules, first):
    """Within each task and form the surest are answered, the same share of each."""
    model, right = first
    signals = model.table(signal_table())
    strata = (signals["task"] + signals["form"]).to_numpy()
    scores = model.table(PREDICTIONS).filter(probe="fusion").sort("item_id")["score"].to_numpy()
    marks = modules["risk_coverage"].data(study).filter(model=model.name)
    for name, values in (
        ("decision_margin", signals["decision_margin"].to_numpy()), ("fusion", scores),
    ):  # fmt: skip
        risk, area = np.zeros(20), 0.0
        for stratum in np.unique(strata):
            own = strata == stratum
            wrong = ~right[own][np.argsort(-values[own])]
            n, errors = own.sum(), np.cumsum([0, *wrong])
            answered = np.arange(1, 21) / 20 * n
            weight = n / len(right)
            risk += weight * np.interp(answered, np.arange(n + 1), errors) / answered
            area += weight * np.mean(errors[1:] / np.arange(1, n + 1))
        own = marks.filter(predictor=name)
        found = own.filter(quantity="risk")
        assert found["value"].to_list() == pytest.approx(risk)
        assert own.filter(quantity="AURC")["value"].item() == pytest.approx(area)
        assert (found["low"] <= found["value"]).all()
        assert (found["value"] < found["high"]).all()
        assert area < 1 - right.mean() - 0.03  # planted
    ax = panel(figure_of("risk_coverage"))
    (line,) = lines(ax, GREEN)
    drawn = marks.filter(predictor="decision_margin", quantity="risk")
    np.testing.assert_array_equal(line.get_ydata(), drawn["value"])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    areas = {f"{area:.3f}" for area in marks.filter(quantity="AURC")["value"]}
    assert set(labels) == areas
    for line in ax.lines:
        assert line.get_ydata()[-1] == pytest.approx(1 - right.mean())


@pytest.mark.slow
def test_a_signal_of_an_extension_has_a_curve_under_its_label(study, modules, monkeypatch):
    monkeypatch.setattr("vrp.signals.registry._REGISTERED", ["image_mass"])
    with house_style():
        figure = modules["risk_coverage"].draw(study)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert SIGNALS["image_mass"].label in labels
    assert "image_mass" in modules["risk_coverage"].data(study)["predictor"]


@pytest.mark.slow
def test_calibration(figure_of, first):
    model, right = first
    ax = panel(figure_of("calibration"))
    scores = (
        model.table(PREDICTIONS).filter(probe="linear_best").sort("item_id")["score"].to_numpy()
    )
    bins = np.ceil(10 * scores.astype(np.float64)).clip(1).astype(int)
    expected = [(scores[bins == b].mean(), right[bins == b].mean()) for b in np.unique(bins)]
    np.testing.assert_allclose(dots(ax, BLUE), expected, rtol=1e-5)
    error = sum(
        abs(x - y) * (bins == b).mean() for (x, y), b in zip(expected, np.unique(bins), strict=True)
    )
    assert f"linear {error:.3f}" in note_of(ax)


def change(model, runs):
    """Accuracy after minus before in points; runs has one row an item × seed."""
    before = model.table(ANSWERS).select("item_id", before=pl.col("correct").cast(pl.Float64))
    joined = runs.join(before, on="item_id")
    return 100 * (joined["correct"].cast(pl.Float64) - joined["before"]).mean()


def test_masking(figure_of, first):
    model, _ = first
    ax = panel(figure_of("masking"))
    for kind, condition in (("top", "top_30"), ("bottom", "bottom_30"), ("no_image", "no_image")):
        ((x, _),) = dots(ax, CONDITION_COLOURS[kind])
        assert x == pytest.approx(change(model, model.table(MASK).filter(condition=condition)))
    labels = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert labels == [
        "most attended 30% of patches", "random 30% of patches", "least attended 30% of patches",
        "blank image", "another item’s image", "most attended 30% of patches − random",
        "least attended 30% of patches − random",
    ]  # fmt: skip
    (ticks,) = [line for line in ax.lines if line.get_marker() == "|"]
    assert len(ticks.get_xdata()) == 5
    random = model.table(MASK).filter(condition="random_30")
    ((x, y),) = dots(ax, CONDITION_COLOURS["random"])
    assert x == pytest.approx(change(model, random))
    assert y == 1


def test_dose_curve(figure_of, study, first):
    model, _ = first
    ax = panel(figure_of("dose_curve"))
    dosed = model.table(MASK).filter(condition="top_90")["item_id"].to_list()
    answers = model.table(ANSWERS).filter(pl.col("item_id").is_in(dosed))
    for kind in ("top", "random"):
        (line,) = [x for x in lines(ax, CONDITION_COLOURS[kind]) if len(x.get_xdata()) > 2]
        expected = [answers["correct"].mean()]
        for share in (10, 30, 50, 70, 90):
            runs = model.table(MASK).filter(
                pl.col("condition") == f"{kind}_{share}", pl.col("item_id").is_in(dosed)
            )
            expected.append(runs["correct"].mean())
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_allclose(line.get_xdata(), [0, 10, 30, 50, 70, 90])
    images = study.table(ITEMS).filter(pl.col("item_id").is_in(dosed))["group"].n_unique()
    assert note_of(ax) == f"120 items, {images} images"


def test_doses_below_a_blank_image_are_marked(study, modules):
    """Of a mask that turns all answers wrong, and a blank image that leaves them as they are."""
    model, schema = study.models[0], MASK.only("share", "correct")
    before = model.table(ANSWERS).select("item_id", before="correct")
    worst = pl.col("condition").is_in(["top_90", "random_90"])
    turned = model.table(schema).join(before, on="item_id").with_columns(
        correct=pl.when(worst).then(pl.lit(value=False))
        .when(pl.col("condition") == "no_image").then("before")
        .otherwise("correct")
    )  # fmt: skip
    harmed = replace(model)
    harmed._frames.update(model._frames)
    harmed._frames["mask", *schema.columns.names] = turned.drop("before")
    with house_style():
        marks = modules["dose_curve"].data(replace(study, models=(harmed,)))
        figure = modules["dose_curve"].draw(replace(study, models=(harmed,)))
    assert marks.filter(share=90)["disturbs"].to_list() == [True, True]
    assert marks.filter(share=0)["disturbs"].to_list() == [False, False]
    (crosses,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    disturbing = marks.filter("disturbs").select("share", "value").rows()
    assert list(zip(*crosses.get_data(), strict=True)) == disturbing
    assert "below a blank image" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_ablation(figure_of, study, first):
    model, _ = first
    ax = panel(figure_of("ablation"))
    rows = study.table(EFFECTS).filter(model=model.name, intervention="ablate", scope="all")
    names = {label.get_text(): i for i, label in enumerate(ax.get_yticklabels())}
    drawn = {y: x for x, y in dots(ax, CONDITION_COLOURS["top"])}
    for label, condition in (("top 5 neurons", "top_5"),
                             ("top 10 neurons, set to mean", "top_10_mean"),
                             ("top 5 neurons, at 50% depth", "top_5_depth50")):  # fmt: skip
        assert drawn[names[label]] == rows.filter(condition=condition)["effect"].item()
    contrasts = {y: x for x, y in dots(ax, CONDITION_COLOURS["contrast"])}
    expected = rows.filter(condition="top_10 - random_10")["effect"].item()
    assert contrasts[names["top 10 neurons − random"]] == expected
    diamonds = {round(y - 0.25): x for x, y in dots(ax, INK, marker="D")}
    known = study.table(EFFECTS).filter(
        model=model.name,
        intervention="ablate",
        scope="object_identification",
        condition="mlp_bypass",
    )
    assert diamonds[names["whole MLP bypassed"]] == known["effect"].item()


def test_steering(figure_of, study, first):
    model, _ = first
    above, below = panel(figure_of("steering")), panel(figure_of("steering"), row=1)
    rows = study.table(EFFECTS).filter(model=model.name, intervention="ablate", scope="all")
    for ax, column in ((above, "effect"), (below, "margin")):
        for kind in ("steer", "steer_random"):
            (line,) = [x for x in lines(ax, CONDITION_COLOURS[kind]) if len(x.get_xdata()) == 3]
            expected = [
                rows.filter(condition=f"{kind}_-3")[column].item(), 0.0,
                rows.filter(condition=f"{kind}_3")[column].item(),
            ]  # fmt: skip
            assert line.get_xdata().tolist() == [-3.0, 0.0, 3.0]
            assert line.get_ydata().tolist() == pytest.approx(expected)
