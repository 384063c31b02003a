"""Two models compared on the questions that both answered."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from vrp.cli import main
from vrp.errors import InputError
from vrp.estimates.paired_comparison import Side, compare, read_side
from vrp.plots.paired_comparison import comparison_figure
from vrp.report.paired_comparison import as_json, as_text
from vrp.tables.parquet_files import write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table


def rows(correct, confidence, *, n_tasks=2):
    """Signals of a study with one question an image."""
    n = len(correct)
    schema = signal_table()
    tasks = ["existence", "counting"][:n_tasks]
    columns = {
        "item_id": [f"pope/x/{i:04d}" for i in range(n)],
        "group": [f"image {i:04d}" for i in range(n)],
        "task": [tasks[i % n_tasks] for i in range(n)],
        "form": ["yes/no" if i % n_tasks == 0 else "number" for i in range(n)],
        "answer": ["yes"] * n,
        "correct": np.asarray(correct, dtype=bool),
    }
    frame = pl.DataFrame(columns).with_columns(
        pl.lit(None, pl.Float32).alias(name) for name in schema.columns.names if name not in columns
    )
    return frame.with_columns(token_confidence=pl.Series(confidence, dtype=pl.Float32))


def planted(n=600, seed=0):
    """B is right wherever A is, and on a third of the others; B's confidence is noise."""
    random = np.random.default_rng(seed)
    right = random.random(n) < 0.6
    right_of_b = right | (random.random(n) < 1 / 3)
    telling = right + random.normal(size=n)
    return Side("s/a", rows(right, telling)), Side("s/b", rows(right_of_b, random.normal(size=n)))


def test_the_planted_gain_is_found_and_tested_as_a_sign_test_would():
    first, second = planted()
    found = compare(first, second)
    assert (found.n_items, found.n_images, found.n_alone) == (600, 600, (0, 0))
    everything = {one.name: one for one in found.accuracies}["all items"]
    a, b = first.rows["correct"].to_numpy(), second.rows["correct"].to_numpy()
    assert everything.first == pytest.approx(100 * a.mean())
    assert everything.second == pytest.approx(100 * b.mean())
    assert everything.gap.value == pytest.approx(100 * (b.mean() - a.mean()))
    assert found.changed == pytest.approx((a != b).mean())
    assert everything.verdict == "B is higher"
    # One question an image: the sign-flip test is the sign test of those that changed.
    sign = binomtest(int((b & ~a).sum()), int((a != b).sum())).pvalue
    assert everything.gap.p_adjusted == pytest.approx(4 * sign, rel=1e-6)  # of four, the smallest


def test_the_signal_that_tells_one_model_alone_is_found():
    first, second = planted()
    (confidence,) = compare(first, second).aurocs
    assert confidence.name == "token_confidence"
    pooled = roc_auc_score(first.rows["correct"].to_numpy(), first.rows["token_confidence"])
    assert confidence.first == pytest.approx(pooled, abs=0.01)  # two strata alike
    assert confidence.second == pytest.approx(0.5, abs=0.06)
    assert confidence.verdict == "A is higher"
    turned = compare(*reversed(planted()))
    assert turned.aurocs[0].gap.value == pytest.approx(-confidence.gap.value)


def test_scores_of_different_folds_are_not_compared(tmp_path):
    """Each fold's fit may have its own level: the scores tell nothing across folds."""
    first, _ = planted()
    n = len(first.rows)
    folds = np.arange(n) // 2 % 5  # each has items of both tasks
    level = np.asarray([0.0, 40, 80, 20, 60])[folds]
    score = first.rows["token_confidence"].to_numpy() + level
    scores = pl.DataFrame({
        "item_id": first.rows["item_id"], "probe": ["linear_best"] * n, "layer": [3] * n,
        "fold": folds, "score": score,
    })  # fmt: skip
    write_table(tmp_path / "signals.parquet", signal_table(), first.rows, provenance={})
    write_table(tmp_path / "predictions.parquet", PREDICTIONS, scores, provenance={})
    side = read_side(tmp_path)
    aurocs = {one.name: one for one in compare(side, side).aurocs}
    right, forms = first.rows["correct"].to_numpy(), first.rows["form"].to_numpy()
    within = [
        roc_auc_score(right[here], score[here])
        for fold in range(5)
        for form in ("yes/no", "number")
        if (here := (folds == fold) & (forms == form)).any()
    ]
    assert aurocs["linear_best"].first == pytest.approx(np.mean(within), abs=0.01)
    assert roc_auc_score(right, score) < 0.6 < np.mean(within)


def test_a_model_compared_with_itself_is_identical_and_says_so():
    first, _ = planted()
    found = compare(first, first)
    rows = {one.name: one for one in (*found.accuracies, *found.aurocs)}
    assert {"macro", "all items", "token_confidence"} <= set(rows)
    assert {one.verdict for one in rows.values()} == {"identical"}
    assert {one.gap.value for one in rows.values()} == {0.0}
    everything = rows["all items"].gap
    assert everything.low < 0 < everything.high  # what 600 items without a change leave open
    assert everything.p_equivalence_adjusted < 0.05
    for one in rows.values():
        assert np.isfinite(one.gap.low) or "no interval: n" in one.gap.note
    printed = as_text(found)
    assert "– to –" not in printed
    assert "– pp" not in printed
    assert "token confidence P_tok: no interval: no score differs" in printed


def test_equal_values_of_models_that_differ_are_not_identical():
    """One answer each way: the accuracies are equal, the models are not."""
    first, _ = planted()
    right = first.rows["correct"].to_numpy().copy()
    right[[int(np.flatnonzero(right)[0]), int(np.flatnonzero(~right)[0])]] ^= True
    found = compare(first, Side("s/b", first.rows.with_columns(correct=pl.Series(right))))
    everything = {one.name: one for one in found.accuracies}["all items"]
    assert everything.gap.value == 0
    assert everything.verdict == "equivalent"
    assert found.aurocs[0].verdict == "equivalent"


def delong_difference(right, first, second):
    """Variance of the difference of two AUROCs of the same items, by all pairs (DeLong 1988)."""
    placements = []
    for values in (first, second):
        wins = np.sign(values[right][:, None] - values[~right]) / 2 + 0.5
        placements.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    (a, a_right, a_wrong), (b, b_right, b_wrong) = placements
    variance = (b_right - a_right).var(ddof=1) / right.sum()
    variance += (b_wrong - a_wrong).var(ddof=1) / (~right).sum()
    return b - a, np.sqrt(variance)


def test_aurocs_within_the_margin_are_equivalent_by_two_one_sided_tests():
    random = np.random.default_rng(3)
    right = random.random(1500) < 0.6
    telling = (right + random.normal(size=1500)).astype(np.float32)
    other = (telling + 0.3 * random.normal(size=1500)).astype(np.float32)
    sides = [Side(name, rows(right, values, n_tasks=1))
             for name, values in (("s/a", telling), ("s/b", other))]  # fmt: skip
    gap, se = delong_difference(right, telling, other)
    for margin, verdict in ((0.05, "equivalent"), (0.005, "undecided")):
        (found,) = compare(*sides, margin_auroc=margin).aurocs
        assert found.gap.value == pytest.approx(gap, abs=1e-6)  # near ties are ties
        assert found.gap.se == pytest.approx(se, rel=1e-4)
        p = max(norm.sf((gap + margin) / se), norm.cdf((gap - margin) / se))
        assert found.gap.p_equivalence_adjusted == pytest.approx(p, rel=0.05, abs=1e-6)
        assert found.verdict == verdict


def test_a_stratum_has_the_same_weight_in_both():
    """B is right less often where both rank well: its AUROC must not fall for that alone."""
    random = np.random.default_rng(5)
    n = 4000
    hard = np.arange(n) % 2 == 1
    shift = np.where(hard, 0.0, 2.0)  # confidence tells right from wrong in one task alone
    right = random.random(n) < 0.5
    right_of_b = random.random(n) < np.where(hard, 0.5, 0.03)
    sides = [Side(name, rows(labels, labels * shift + random.normal(size=n)))
             for name, labels in (("s/a", right), ("s/b", right_of_b))]  # fmt: skip
    (found,) = compare(*sides).aurocs
    assert abs(found.gap.value) < 0.03
    by_hand, total = 0.0, 0.0
    for where in (hard, ~hard):
        weight = sum(
            labels[where].sum() * (~labels[where]).sum() / (where.sum() + 1)
            for labels in (right, right_of_b)
        )
        values = sides[0].rows["token_confidence"].to_numpy()[where]
        by_hand += weight * roc_auc_score(right[where], values)
        total += weight
    assert found.first == pytest.approx(by_hand / total)


def test_what_has_too_few_images_is_named_and_in_no_average():
    first, second = planted(12)
    more, more_of_b = (side.rows.filter(pl.col("task") == "counting") for side in planted(400))
    renamed = [pl.format("more {}", name).alias(name) for name in ("item_id", "group")]
    some = [
        side._replace(rows=pl.concat([
            side.rows.filter(pl.col("task") == "existence"), others.with_columns(renamed)
        ]))
        for side, others in ((first, more), (second, more_of_b))
    ]  # fmt: skip
    found = compare(*some)
    rows = {one.name: one for one in found.accuracies}
    assert rows["existence"].gap.n_groups == 6
    assert rows["existence"].verdict == "too few"
    assert np.isnan(rows["existence"].gap.p_adjusted)
    assert rows["macro"].gap.value == pytest.approx(rows["counting"].gap.value)
    assert (rows["macro"].gap.n, rows["macro"].gap.n_groups) == (200, 200)
    assert "left out of the average: existence (too few images: 6)" in rows["macro"].gap.note
    assert "existence (too few images: 6)" in as_text(found)
    (confidence,) = found.aurocs
    assert (confidence.gap.n, confidence.gap.n_groups) == (200, 200)
    assert "existence: yes/no (too few" in confidence.gap.note


def test_items_without_a_score_of_both_are_left_out_of_both():
    first, second = planted()
    missing = pl.when(pl.int_range(pl.len()) < 100).then(float("nan")).otherwise("token_confidence")
    second = second._replace(rows=second.rows.with_columns(token_confidence=missing))
    (found,) = compare(first, second).aurocs
    assert (found.gap.n, found.gap.n_groups) == (500, 500)
    assert "100 items dropped: not both have a score" in found.gap.note


def test_text_json_and_figure_carry_the_same_numbers():
    found = compare(*planted())
    content = json.loads(as_json(found))
    lines = [line.split("  ") for line in as_text(found).replace(" pp", "").splitlines()]
    cells = {line[0]: [cell.strip() for cell in line[1:] if cell] for line in lines}
    panels = [ax for ax in comparison_figure(found).axes if ax.lines]
    for ax, rows_of, key, digits in zip(
        panels, (found.accuracies, found.aurocs), ("accuracies", "aurocs"), (1, 3), strict=True
    ):
        dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
        bars = [one.get_segments()[0][:, 0] for one in ax.collections if one.get_segments()]
        names = [label.get_text() for label in ax.get_yticklabels()]
        assert len(dots) == len(bars) == len(names) == len(rows_of)
        for row, dot, bar, plain in zip(rows_of, dots, bars, content[key], strict=True):
            assert dot == row.gap.value
            assert bar.tolist() == [row.gap.low, row.gap.high]
            gap = plain["b_minus_a"]
            assert [gap[name] for name in ("value", "low", "high")] == pytest.approx(
                [row.gap.value, row.gap.low, row.gap.high], rel=1e-5
            )
            printed = cells[row.label]
            assert printed[-3:] == [f"{gap['n']:,}", f"{gap['n_groups']:,}", plain["verdict"]]
            numbers = [plain["a"], plain["b"], gap["value"]]
            shown = [float(cell.replace("−", "-")) for cell in printed[:3]]
            assert shown == pytest.approx(numbers, abs=0.51 * 10**-digits)
        margin = {"accuracies": content["margin_pp"], "aurocs": content["margin_auroc"]}[key]
        (band,) = ax.patches
        assert (band.get_x(), band.get_width()) == pytest.approx((-margin, 2 * margin))


def test_items_that_one_of_them_lacks_are_left_out_and_counted():
    first, second = planted()
    found = compare(first, second._replace(rows=second.rows.head(400)))
    assert (found.n_items, found.n_alone) == (400, (200, 0))


def test_other_questions_under_the_same_ids_are_refused():
    first, second = planted()
    moved = second.rows.with_columns(group=pl.col("group").reverse())
    with pytest.raises(InputError, match="item pope/x/0000 has another group in s/b than in s/a"):
        compare(first, second._replace(rows=moved))
    with pytest.raises(InputError, match="share no judged item"):
        compare(first, second._replace(rows=second.rows.with_columns(item_id=pl.lit("x"))))


def test_the_command_prints_writes_and_draws(tmp_path, capsys):
    for name, side in zip("ab", planted(200), strict=True):
        (tmp_path / name).mkdir()
        table = side.rows.select(signal_table().columns.names)
        write_table(
            tmp_path / name / "signals.parquet", signal_table(), table,
            provenance={"study": "s", "model": name},
        )  # fmt: skip
    out = [tmp_path / "c.json", tmp_path / "c.svg"]
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    main([*command, "--json", str(out[0]), "--figure", str(out[1])])
    printed = capsys.readouterr().out
    assert "A: s/a\nB: s/b" in printed
    assert "200 questions on 200 images" in printed
    content = json.loads(out[0].read_text())
    assert content["accuracies"][-1]["name"] == "macro"
    drawn = out[1].read_text()
    assert "<svg" in drawn
    main([*command, "--figure", str(out[1])])
    assert out[1].read_text() == drawn
    # The margins are those of the study that the models are of.
    (tmp_path / "config.yaml").write_text(
        "study: s\nmodels: {a: {family: llava, checkpoint: zoo:llava}}\n"
        "metrics: {auroc_margin: 0.07}\neffects: {equivalence_pp: 3}\n"
    )
    main([*command, "--margin", "1"])
    printed = capsys.readouterr().out
    assert "(equivalent: within ± 1 pp)" in printed
    assert "(equivalent: within ± 0.07)" in printed
    for option, value, limit in (
        ("--auroc-margin", "0", "0.5"), ("--auroc-margin", "5", "0.5"), ("--margin", "500", "100"),
        ("--margin", "nan", "100"), ("--margin", "inf", "100"),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            main([*command, option, value])
        expected = f"{option} must be above 0 and below {limit} (found {value})"
        assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--figure", str(tmp_path / "c.doc")])
    assert "a figure is .svg, .pdf or .png" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path), str(tmp_path / "b")])
    assert "holds no signals.parquet" in capsys.readouterr().err
    assert read_side(tmp_path / "a").name == "s/a"
