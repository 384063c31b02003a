"""A probe of one study applied to another that was drawn from the same truth."""

import json
import shutil

import numpy as np
import planted_study as planted
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from stage_jobs import run_job

from vrp.cli import main
from vrp.config.metrics import MetricsConfig
from vrp.config.probes import ProbesConfig
from vrp.estimates.applied_probe import APPLIED_SCORES, apply_probe, read_target
from vrp.report.applied_probe import as_text
from vrp.tables.estimates import PROBES
from vrp.tables.hidden import written_hidden_table
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.saved_probe import read_saved_probe, write_saved_probe
from vrp.tables.seal import read_provenance, read_seal
from vrp.tables.shard_list import write_shard_list
from vrp.tables.signals import signal_table

pytestmark = pytest.mark.slow

SMALL = ProbesConfig(
    folds=3, inner_folds=2, penalties=(0.01, 0.1), mlp=False, bootstrap=100, permutations=1,
    fold_seeds=1, supervised_attention=False,
)  # fmt: skip
WEIGHTS = "0123456789abcdef"
LAYER = f"layer_{planted.PLANTED_LAYER:02d}"


def finished_study(folder, *, seed, images):
    """A model's folder with its tables, the list of its shards and a saved probe."""
    folder.mkdir()
    study = planted.write_planted_study(folder, n_images=100, seed=seed)
    origin = {"study": folder.name, "model": "toy", "weights": WEIGHTS}
    tables = ("answers", "attention", "lens")
    files = {"items": study.items, **{name: getattr(study, name) for name in tables}}
    names = ("signals", "heads", "recipes", "metrics")
    made = {name: folder / f"{name}.parquet" for name in names}
    run_job(
        "metrics", {**files, "consistency": study.consistency, **made},
        seed=0, metrics=MetricsConfig(bootstrap=100), provenance=origin,
    )  # fmt: skip
    signals = read_table(made["signals"], signal_table())
    renamed = signals.with_columns(pl.col("group").str.replace("image", images))
    write_table(made["signals"], signal_table(), renamed, provenance=origin)
    made = {name: folder / f"{name}.parquet" for name in ("predictions", "neurons", "probes")}
    run_job(
        "probes",
        {
            **files, "hidden": study.hidden, "signals": folder / "signals.parquet",
            "saved_probe": folder / "probe.safetensors", **made,
        },
        seed=0, probes=SMALL, metrics=MetricsConfig(), provenance=origin,
    )  # fmt: skip
    list_shards(folder)
    return folder


def list_shards(folder, *, weights=WEIGHTS):
    seals = {"hidden": {folder / "hidden.parquet": read_seal(folder / "hidden.parquet")}}
    write_shard_list(folder / "extract.json", made_by={"weights": weights}, shards=seals)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("a") / "here", seed=0, images="image")


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    return finished_study(tmp_path_factory.mktemp("b") / "there", seed=1, images="other")


@pytest.fixture
def changed(there, tmp_path):
    """A copy of the other study, to be spoilt."""
    return shutil.copytree(there, tmp_path / "there")


def states_of(folder):
    path = folder / "hidden.parquet"
    table = read_table(path, written_hidden_table(path), columns=[LAYER])
    return table[LAYER].to_numpy().astype(np.float64)


def right(folder):
    return read_table(folder / "signals.parquet", signal_table())["correct"].to_numpy()


def own_auroc(folder):
    headline = {"predictor": "linear_best", "scope": "within_strata", "metric": "auroc"}
    return read_table(folder / "probes.parquet", PROBES).filter(**headline)["value"].item()


def test_it_reads_there_what_it_reads_here(here, there):
    found, _ = apply_probe(here / "probe.safetensors", read_target(there))
    assert (found.probe, found.target, found.layer) == ("here/toy", "there/toy", LAYER)
    assert (found.n_items, found.n_images, found.n_fitted) == (400, 100, 0)
    assert found.fitted_on == (400, 100)
    overall = found.strata[0]
    assert overall.applied.value == pytest.approx(planted.NEURON_AUROC, abs=0.015)
    assert overall.applied.value == pytest.approx(own_auroc(here), abs=0.02)
    assert overall.applied.low < planted.NEURON_AUROC < overall.applied.high
    assert overall.own.value == pytest.approx(own_auroc(there), abs=1e-6)
    assert found.gap.value == pytest.approx(overall.applied.value - overall.own.value)


def test_strata_are_scikit_learns(here, there):
    found, scores = apply_probe(here / "probe.safetensors", read_target(there))
    rows = read_table(there / "signals.parquet", signal_table()).join(scores, on="item_id")
    assert [row.name for row in found.strata[1:]] == [
        "counting: yes/no", "existence: yes/no", "spatial: yes/no",
    ]  # fmt: skip
    weights = []
    for stratum in found.strata[1:]:
        some = rows.filter(pl.col("task") == stratum.name.partition(":")[0])
        assert (stratum.n, stratum.n_images) == (len(some), some["group"].n_unique())
        expected = roc_auc_score(some["correct"], some["score"])
        assert stratum.applied.value == pytest.approx(expected)
        n_right = some["correct"].sum()
        weights.append(n_right * (len(some) - n_right) / (len(some) + 1))
    areas = [stratum.applied.value for stratum in found.strata[1:]]
    expected = np.average(areas, weights=weights)
    assert found.strata[0].applied.value == pytest.approx(expected)


def test_scores_are_scikit_learns(here, there):
    saved = read_saved_probe(here / "probe.safetensors").probe
    scaler = StandardScaler().fit(states_of(here))
    model = LogisticRegression(C=saved.penalty, tol=1e-10, max_iter=10_000)
    model.fit(scaler.transform(states_of(here)), right(here))
    _, scores = apply_probe(here / "probe.safetensors", read_target(there))
    expected = model.decision_function(scaler.transform(states_of(there)))
    assert scores["score"].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert saved.mean == pytest.approx(scaler.mean_, abs=1e-6)
    assert saved.scale == pytest.approx(scaler.scale_, abs=1e-6)


def test_images_that_it_was_fitted_on_are_not_evaluated(here, there, changed):
    found, scores = apply_probe(here / "probe.safetensors", read_target(here))
    assert (found.n_items, found.n_fitted, found.strata) == (0, 400, ())
    assert scores.is_empty()
    assert (
        "No judged item is left to evaluate; left out: 400 on images that the probe was fitted on."
        in as_text(found)
    )
    path = changed / "signals.parquet"
    some = pl.col("group").str.replace("other0000", "image0000")  # ten images of four items
    rows = read_table(path, signal_table()).with_columns(some)
    write_table(path, signal_table(), rows, provenance=read_provenance(path))
    found, scores = apply_probe(here / "probe.safetensors", read_target(changed))
    assert (found.n_items, found.n_fitted) == (360, 40)
    assert set(scores["item_id"]) == set(rows.filter(some.str.starts_with("other"))["item_id"])


def test_items_without_a_finite_state_are_counted(here, changed):
    path = changed / "hidden.parquet"
    schema = written_hidden_table(path)
    states = read_table(path, schema)
    matrix = states[LAYER].to_numpy().copy()
    matrix[3, 5], matrix[4, 0] = np.nan, np.inf
    columns = {name: states[name] for name in schema.columns.names} | {LAYER: list(matrix)}
    write_table(path, schema, columns, provenance=read_provenance(path))
    list_shards(changed)
    found, _ = apply_probe(here / "probe.safetensors", read_target(changed))
    assert (found.n_items, found.n_not_finite) == (398, 2)


def test_a_study_without_probes_is_scored_all_the_same(here, changed):
    (changed / "predictions.parquet").unlink()
    found, _ = apply_probe(here / "probe.safetensors", read_target(changed))
    assert found.strata[0].own is None
    assert found.gap is None
    assert "own" not in as_text(found)


def test_the_file_is_the_same_again(here, tmp_path):
    again = finished_study(tmp_path / "here", seed=0, images="image")
    name = "probe.safetensors"
    assert (here / name).read_bytes() == (again / name).read_bytes()


def test_the_command_prints_and_writes(here, there, tmp_path, capsys):
    json_path, table_path = tmp_path / "applied.json", tmp_path / "scores.parquet"
    main([
        "probes", "--apply", str(here / "probe.safetensors"), "--to", str(there),
        "--json", str(json_path), "--scores", str(table_path),
    ])  # fmt: skip
    printed = capsys.readouterr().out
    assert "400 judged items on 100 images." in printed
    assert "within strata" in printed
    assert "Applied minus own, within strata" in printed
    numbers = json.loads(json_path.read_text())
    assert numbers["strata"][0]["applied"]["value"] > 0.95
    assert numbers["fitted_on"] == {"n_items": 400, "n_images": 100}
    assert len(read_table(table_path, APPLIED_SCORES)) == 400
    assert read_provenance(table_path)["probe"] == "here/toy"


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(["probes", *map(str, words)])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message


def test_another_model_is_refused(here, changed, capsys):
    list_shards(changed, weights="fedcba9876543210")
    words = ("--apply", here / "probe.safetensors", "--to", changed)
    message = refusal(capsys, *words)
    assert "weights 0123456789abcdef" in message
    assert "fedcba9876543210" in message
    assert "--other-weights" in message
    main(["probes", *map(str, words), "--other-weights"])
    assert "The two models have different weights." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"weights": np.zeros(8)}, "reads 8 neurons a layer"),
        ({"layer": "layer_09"}, "reads layer_09, "),
        ({"position": "answer_end"}, "do not have each item of its signals at answer_end"),
    ],
)
def test_what_it_cannot_read_is_refused(here, there, tmp_path, capsys, change, expected):
    saved = read_saved_probe(here / "probe.safetensors")
    path = tmp_path / "probe.safetensors"
    write_saved_probe(path, saved.probe._replace(**change), provenance=saved.provenance)
    assert expected in refusal(capsys, "--apply", path, "--to", there)


def test_files_and_folders_that_do_not_fit_are_refused(here, there, changed, tmp_path, capsys):
    probe, hidden = here / "probe.safetensors", there / "hidden.parquet"
    assert "is not a saved probe" in refusal(capsys, "--apply", hidden, "--to", there)
    assert "holds no signals.parquet" in refusal(capsys, "--apply", probe, "--to", tmp_path)
    nothing = tmp_path / "nothing.safetensors"
    write_saved_probe(nothing, None, provenance={"weights": WEIGHTS})
    assert "holds no probe" in refusal(capsys, "--apply", nothing, "--to", there)
    path = changed / "signals.parquet"
    unknown = read_table(path, signal_table()).with_columns(correct=pl.lit(None, pl.Boolean))
    write_table(path, signal_table(), unknown, provenance=read_provenance(path))
    assert "no answer is judged" in refusal(capsys, "--apply", probe, "--to", changed)
    (changed / "extract.json").unlink()
    assert "holds no extract.json" in refusal(capsys, "--apply", probe, "--to", changed)


def test_lists_without_hidden_states_are_refused(here, changed, capsys):
    write_shard_list(changed / "extract.json", made_by={"weights": WEIGHTS}, shards={})
    message = refusal(capsys, "--apply", here / "probe.safetensors", "--to", changed)
    assert "lists no shards of the table hidden" in message


def test_a_needed_option_is_asked_for_without_a_traceback(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["probes", "--apply", "x.safetensors"])
    assert caught.value.code == 2
    assert "--to" in capsys.readouterr().err


def test_help_shows_the_options_of_either_use(capsys):
    for words, expected, absent in (
        (["probes", "--apply", "--help"], "--to FOLDER", "--config"),
        (["probes", "--help"], "--config", "--to FOLDER"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert expected in text
        assert absent not in text
