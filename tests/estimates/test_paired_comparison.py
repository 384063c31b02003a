"""Two models compared on the questions that both answered."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from vrp.cli import main
from vrp.errors import InputError
from vrp.estimates.paired_comparison import Side, compare, read_side
from vrp.report.paired_comparison import verdict_of
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
    assert verdict_of(everything.gap) == "B is higher"
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
    assert verdict_of(confidence.gap) == "A is higher"
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


def test_a_model_compared_with_itself_is_equivalent():
    first, _ = planted()
    found = compare(first, first)
    everything = {one.name: one for one in found.accuracies}["all items"]
    assert everything.gap.value == 0
    assert everything.gap.low < 0 < everything.gap.high  # nothing changed, which has an interval
    assert verdict_of(everything.gap) == "equivalent"
    assert found.aurocs[0].gap.value == 0


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
    assert "<svg" in out[1].read_text()
    with pytest.raises(SystemExit):
        main([*command, "--figure", str(tmp_path / "c.doc")])
    assert "a figure is .svg, .pdf or .png" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path), str(tmp_path / "b")])
    assert "holds no signals.parquet" in capsys.readouterr().err
    assert read_side(tmp_path / "a").name == "s/a"
