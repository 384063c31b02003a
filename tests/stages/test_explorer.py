"""The explorer: what its files hold is what the tables hold."""

import base64
import hashlib
import json
import re

import numpy as np
import polars as pl
import pytest
from explorer_files_reader import joined, read_chunk
from page_text import external_references
from PIL import Image
from stage_jobs import run_job
from synthetic_study import CONDITION_SECTIONS, N_HEADS, N_LAYERS, write_synthetic_study

from vrp.config.data import DataConfig
from vrp.config.explorer import ExplorerConfig
from vrp.config.sample import SampleConfig
from vrp.errors import InputError
from vrp.explorer.attention import MAP_STEPS, STEP
from vrp.explorer.rules import UNKNOWN
from vrp.study.explorer_files import cut_points, explorer_files
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.consistency import CONSISTENCY
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.signals import signal_table
from vrp.tables.trace import TRACE

pytestmark = pytest.mark.slow

HOSTILE = '</script><img src=x onerror=alert(1)> & "quoted" {{ 7 * 7 }} \u2028'
MODELS = ("alpha", "beta")
N_ITEMS = 225
PER_FILE = 10


def all_tables(study, folder):
    """Files of every table that the stage reads."""
    more = {
        name: [folder / model / f"{name}.parquet" for model in MODELS]
        for name in ("ablate", "trace")
    }
    return {
        **study.tables,
        **more,
        "blind/answers": [folder / model / "blind.parquet" for model in MODELS],
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with images, with hostile texts and with answers to a blank image."""
    folder = tmp_path_factory.mktemp("study")
    made = write_synthetic_study(folder, models=MODELS)
    (folder / "data").mkdir()
    items = read_table(made.items, ITEMS)
    digests = {}
    for index, name in enumerate(sorted(items["image"].unique())):
        Image.new("RGB", (320, 240), (4 * index, 90, 120)).save(folder / "data" / name)
        digests[name] = hashlib.sha256((folder / "data" / name).read_bytes()).hexdigest()
    question = pl.when(pl.col("item_id") == items["item_id"][7]).then(pl.lit(HOSTILE))
    items = items.with_columns(
        image_sha256=pl.col("image").replace_strict(digests),
        question=question.otherwise(pl.col("question")),
    )
    write_table(made.items, ITEMS, items, provenance={"study": "synthetic", "stage": "sample"})
    for model, path in zip(MODELS, made.tables["answers"], strict=True):
        blind = read_table(path, ANSWERS).with_columns(answer=pl.lit("Yes."))
        write_table(folder / model / "blind.parquet", ANSWERS, blind, provenance={"model": model})
    return made, folder


def write_explorer(study, output, *, without=(), **sections):
    made, folder = study
    files = {name: paths for name, paths in all_tables(made, folder).items() if name not in without}
    names = explorer_files(MODELS, N_ITEMS, PER_FILE).names()
    run_job(
        "explorer",
        {
            "items": made.items,
            **({} if "boxes" in without else {"boxes": folder / "boxes.parquet"}),
            **{name: paths for name, paths in files.items() if name in READ},
            "explorer_files": [output / "explorer" / name for name in names],
            "explorer": output / "explorer.html",
        },
        study="synthetic",
        data=DataConfig(folder=str(folder / "data")),
        sample=SampleConfig(
            splits=[{"dataset": "vqa", "split": "open", "task": "open", "count": N_ITEMS}]
        ),
        explorer=ExplorerConfig(items_per_file=PER_FILE, image_pixels=64),
        **CONDITION_SECTIONS,
        **sections,
    )
    return output


READ = (
    "answers", "attention", "lens", "consistency", "blind/answers", "signals", "predictions",
    "mask", "ablate", "trace",
)  # fmt: skip


@pytest.fixture(scope="module")
def explorer(study, tmp_path_factory):
    return write_explorer(study, tmp_path_factory.mktemp("explorer"))


def paths_of(explorer, names):
    return [explorer / "explorer" / name for name in names]


@pytest.fixture(scope="module")
def files():
    return explorer_files(MODELS, N_ITEMS, PER_FILE)


@pytest.fixture(scope="module")
def item_ids(explorer, files):
    return joined(paths_of(explorer, files.items))["item_id"]


def in_order(frame, item_ids):
    """Rows of a table with one row an item, in the explorer's order."""
    order = pl.DataFrame({"item_id": item_ids})
    return order.join(frame, on="item_id", how="left", maintain_order="left")


def facts_of(explorer):
    page = (explorer / "explorer.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'id="facts">(.*?)</script>', page)[1])


# What they hold is what the tables hold.


def test_all_files_are_there_with_their_stamps(explorer, files):
    written = {str(path.relative_to(explorer / "explorer")) for path in explorer.rglob("*.js")}
    assert written == set(files.names())
    stamps = facts_of(explorer)["stamps"]
    for name in files.names():
        read = read_chunk(explorer / "explorer" / name)
        assert (read.name, read.stamp) == (name, stamps[name])


def test_questions_are_those_of_the_items(explorer, study, files, item_ids):
    found = joined(paths_of(explorer, files.items))
    items = in_order(read_table(study[0].items, ITEMS), item_ids)
    assert len(set(item_ids)) == N_ITEMS
    assert items["group"].to_list() == sorted(items["group"])
    for name in ("dataset", "split", "task", "image", "question", "reference"):
        assert found[name] == items[name].to_list()
    assert HOSTILE in found["question"]
    assert found["picture"].tolist() == (items["group"].rank("dense") - 1).to_list()
    assert found["n_boxes"].sum() == (items["reference"] == "yes").sum()


def test_images_are_small_ones_of_the_originals(explorer, files):
    found = joined(paths_of(explorer, files.images))
    n = len(found["n_bytes"])
    assert found["n_bytes"].sum() == len(found["content"])
    assert found["size"].reshape(n, 2).tolist() == [[320.0, 240.0]] * n
    np.testing.assert_array_equal(found["window "].reshape(n, 4), [[0, 0, 320, 240]] * n)
    first = found["content"][: int(found["n_bytes"][0])].tobytes()
    assert first[:4] == b"RIFF"
    assert first[8:12] == b"WEBP"


@pytest.mark.parametrize("model", MODELS)
def test_answers_signals_and_scores_equal_the_tables(explorer, study, files, item_ids, model):
    made, _ = study
    place = MODELS.index(model)
    found = joined(paths_of(explorer, files.answers[model]))
    answers = in_order(read_table(made.tables["answers"][place], ANSWERS), item_ids)
    assert found["answer"] == answers["answer"].to_list()
    assert found["parsed"] == answers["parsed"].to_list()
    assert found["correct"].tolist() == [float(one) for one in answers["correct"]]
    np.testing.assert_array_equal(found["score"], answers["score"].to_numpy())
    signals = in_order(read_table(made.tables["signals"][place], signal_table()), item_ids)
    shown = facts_of(explorer)["models"][place]["signals"]
    assert len(shown) > 20
    for name in shown:
        np.testing.assert_array_equal(found[f"signal {name}"], signals[name].to_numpy())
    left_out = set(signal_table().columns.names[6:]) - set(shown)
    assert all(signals[name].null_count() == N_ITEMS for name in left_out)
    predictions = read_table(made.tables["predictions"][place], PREDICTIONS)
    for probe in predictions["probe"].unique():
        rows = in_order(predictions.filter(pl.col("probe") == probe), item_ids)
        np.testing.assert_array_equal(found[f"probe {probe}"], rows["score"].to_numpy())
        np.testing.assert_array_equal(found[f"layer {probe}"], rows["layer"].to_numpy())
        np.testing.assert_array_equal(found[f"fold {probe}"], rows["fold"].to_numpy())
    assert found["same_blind"].tolist() == [
        float(one.lower() == "yes") for one in answers["answer"]
    ]


@pytest.mark.parametrize("model", MODELS)
def test_maps_are_within_half_a_step_and_sinks_and_hidden_tokens_exact(
    explorer, study, files, item_ids, model
):
    found = joined(paths_of(explorer, files.details[model]))
    table = in_order(
        read_table(study[0].tables["attention"][MODELS.index(model)], ATTENTION), item_ids
    )
    largest = found["largest"].reshape(N_ITEMS, N_LAYERS)
    n_undefined = map_start = sink_start = hidden_start = 0
    for i, row in enumerate(table.iter_rows(named=True)):
        maps = np.array(row["maps"])
        n_tokens = maps.shape[1]
        assert found["grid_h"][i] * found["grid_w"][i] == n_tokens
        packed = found["maps"][map_start : map_start + maps.size // 2]
        steps = np.stack([packed & 15, packed >> 4], axis=1).reshape(maps.shape)
        sinks = np.unpackbits(
            found["sinks"][sink_start : sink_start + -(-maps.size // 8)], bitorder="little"
        )
        hidden = np.unpackbits(
            found["hidden"][hidden_start : hidden_start + n_tokens // 8], bitorder="little"
        )
        map_start, sink_start = map_start + maps.size // 2, sink_start + -(-maps.size // 8)
        hidden_start += n_tokens // 8
        assert np.isin(row["sinks"], np.flatnonzero(sinks)).all()
        if np.isnan(maps).any():
            n_undefined += 1
            assert np.isnan(largest[i]).all()
            assert not hidden.any()
            continue
        np.testing.assert_array_equal(largest[i], maps.max(axis=1).astype(np.float32))
        step = maps.max(axis=1, keepdims=True) / MAP_STEPS
        assert (np.abs(steps * step - maps) <= step / 2 + 1e-9).all()
        most = np.argsort(-maps.mean(axis=0), kind="stable")[: round(0.3 * n_tokens)]
        assert set(np.flatnonzero(hidden)) == set(most)
    assert n_undefined == 1
    assert (map_start, sink_start, hidden_start) == tuple(
        len(found[name]) for name in ("maps", "sinks", "hidden")
    )


@pytest.mark.parametrize("model", MODELS)
def test_layers_and_heads_are_rounded_to_their_step(explorer, study, files, item_ids, model):
    found = joined(paths_of(explorer, files.details[model]))
    place = MODELS.index(model)
    attention = in_order(read_table(study[0].tables["attention"][place], ATTENTION), item_ids)
    lens = in_order(read_table(study[0].tables["lens"][place], LENS), item_ids)
    for table, name, shape in (
        (attention, "head_entropy", (N_LAYERS, N_HEADS)),
        (attention, "head_clusters", (N_LAYERS, N_HEADS)),
        (attention, "head_contribution", (N_LAYERS, N_HEADS)),
        (attention, "image_mass", (N_LAYERS,)),
        (lens, "truth_margin", (N_LAYERS,)), (lens, "decision_margin", (N_LAYERS,)),
        (lens, "attention_contribution", (N_LAYERS,)), (lens, "mlp_contribution", (N_LAYERS,)),
        (lens, "residual_update", (N_LAYERS,)),
    ):  # fmt: skip
        values = np.array(table[name].to_list())
        assert values.shape == (N_ITEMS, *shape)
        np.testing.assert_allclose(found[name].reshape(values.shape), values, atol=STEP / 2 + 1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_samples_equal_the_table(explorer, study, files, item_ids, model):
    found = joined(paths_of(explorer, files.details[model]))
    table = in_order(
        read_table(study[0].tables["consistency"][MODELS.index(model)], CONSISTENCY), item_ids
    )
    assert found["samples"] == [text for row in table["answers"] for text in row]
    assert found["exact_answers"] == [text for row in table["exact_answers"] for text in row]
    shares = np.concatenate(
        [np.array(row, dtype=np.float32) for row in table["exact_probabilities"]]
    )
    np.testing.assert_array_equal(found["exact_probabilities"], shares)
    np.testing.assert_array_equal(found["unresolved"], table["unresolved"].to_numpy())


@pytest.mark.parametrize("schema", [MASK, ABLATE, TRACE], ids=lambda schema: schema.name)
@pytest.mark.parametrize("model", MODELS)
def test_interventions_equal_the_tables(explorer, study, files, item_ids, model, schema):
    made, folder = study
    path = all_tables(made, folder)[schema.name][MODELS.index(model)]
    table, found = read_table(path, schema), []
    cuts = cut_points(N_ITEMS, len(files.details[model]))
    for name, start in zip(files.details[model], cuts, strict=False):
        values = read_chunk(explorer / "explorer" / name).values
        ids = [item_ids[start + int(place)] for place in values[f"{schema.name} item"]]
        columns = {
            key.partition(" ")[2]: value
            for key, value in values.items()
            if key.startswith(f"{schema.name} ")
        }
        found.append(pl.DataFrame({**columns, "item_id": ids}).drop("item"))
    shown = pl.concat(found).sort(schema.key)
    assert len(shown) == len(table)
    for name in shown.columns:
        if name.endswith("margin"):
            np.testing.assert_allclose(shown[name], table[name], atol=STEP / 2 + 1e-6)
        elif table[name].dtype == pl.String:
            assert shown[name].to_list() == table[name].to_list()
        else:
            np.testing.assert_array_equal(shown[name], table[name].cast(pl.Float64))


@pytest.mark.parametrize("schema", [MASK, ABLATE, TRACE], ids=lambda schema: schema.name)
@pytest.mark.parametrize("model", MODELS)
def test_an_answer_says_under_which_interventions_it_was_asked(
    explorer, study, files, item_ids, model, schema
):
    made, folder = study
    path = all_tables(made, folder)[schema.name][MODELS.index(model)]
    asked = set(read_table(path, schema)["item_id"])
    found = joined(paths_of(explorer, files.answers[model]))
    assert asked
    assert found[f"asked {schema.name}"].tolist() == [int(one in asked) for one in item_ids]


# Rules.


def test_flags_of_the_rules_follow_from_the_tables(explorer, study, files, item_ids):
    made, _ = study
    found = joined(paths_of(explorer, files.answers["alpha"]))
    wrong = 1 - found["correct"]
    same = found["same_blind"]
    np.testing.assert_array_equal(found["rule blind_wrong"], same + 2 * wrong)
    share = found["signal self_consistency"]
    np.testing.assert_array_equal(found["rule consistent_wrong"], (share == 1) + 2 * wrong)
    mask = read_table(made.tables["mask"][0], MASK).filter(pl.col("condition") == "top_30")
    changed = in_order(mask, item_ids)["changed"].to_numpy()
    np.testing.assert_array_equal(
        found["rule masking_changes_right"], changed + 2 * found["correct"]
    )


# The page.


def test_the_page_runs_its_own_script_alone_and_loads_its_own_files(explorer):
    page = (explorer / "explorer.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}' 'self' file:"
    )
    assert external_references(page) == []
    assert '<a href="report.html">' in page
    assert page.count("</script>") == 2
    assert facts_of(explorer)["masking"] == "most attended 30% of patches"
    assert facts_of(explorer)["vqaThreshold"] == 0.5


def test_the_same_tables_give_the_same_bytes(explorer, study, tmp_path):
    write_explorer(study, tmp_path)
    for path in explorer.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(explorer)).read_bytes() == path.read_bytes()


def test_a_broken_table_leaves_the_last_explorer(explorer, study, tmp_path):
    made, _ = study
    write_explorer(study, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    whole = made.tables["attention"][1].read_bytes()
    made.tables["attention"][1].write_bytes(whole[:4000] + bytes(8) + whole[4008:])
    try:
        with pytest.raises(InputError, match=r"attention\.parquet"):
            write_explorer(study, tmp_path)
    finally:
        made.tables["attention"][1].write_bytes(whole)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# Studies that are not whole.


@pytest.mark.parametrize(
    "without",
    [
        ("consistency", "mask"),
        ("attention", "mask", "boxes"),
        ("lens", "ablate", "trace", "blind/answers"),
        tuple(name for name in (*READ, "boxes") if name != "answers"),
    ],
)
def test_what_was_not_run_is_left_out(study, tmp_path, files, without):
    write_explorer(study, tmp_path, without=without)
    found = joined(paths_of(tmp_path, files.answers["beta"]))
    details = joined(paths_of(tmp_path, files.details["beta"]))
    assert len(found["answer"]) == N_ITEMS
    assert ("same_blind" in found) == ("blind/answers" not in without)
    assert any(name.startswith("signal ") for name in found) == ("signals" not in without)
    assert any(name.startswith("probe ") for name in found) == ("predictions" not in without)
    for name in ("mask", "ablate", "trace"):
        assert (f"asked {name}" in found) == (name not in without)
    for name, column in (
        ("attention", "grid_h"), ("lens", "lens_item"), ("consistency", "sample_item"),
        ("mask", "mask item"), ("ablate", "ablate item"), ("trace", "trace item"),
    ):  # fmt: skip
        assert (column in details) == (name not in without)


def test_what_was_not_captured_is_left_out(tmp_path, files):
    made = write_synthetic_study(tmp_path, models=MODELS, capture=())
    (tmp_path / "data").mkdir()
    write_explorer((made, tmp_path), tmp_path, without=("mask", "blind/answers"))
    details = joined(paths_of(tmp_path, files.details["alpha"]))
    assert (details["grid_h"] * details["grid_w"] == 144).all()
    assert not {"maps", "sinks", "hidden", "head_entropy", "truth_margin"} & set(details)
    images = joined(paths_of(tmp_path, files.images))
    assert all("is not in the data folder" in problem for problem in images["problem"])


def test_unlabelled_answers_are_neither_right_nor_wrong(study, tmp_path, files):
    made, folder = study
    items = read_table(made.items, ITEMS).with_columns(
        reference=pl.lit(None, pl.String), answers=pl.lit([], pl.List(pl.String))
    )
    bare = type(made)(tmp_path / "items.parquet", made.effects, made.trace_effects, {})
    write_table(bare.items, ITEMS, items, provenance={"study": "synthetic"})
    for model, path in zip(MODELS, made.tables["answers"], strict=True):
        rows = read_table(path, ANSWERS).with_columns(
            score=pl.lit(None, pl.Float32), correct=pl.lit(None, pl.Boolean)
        )
        (tmp_path / model).mkdir()
        write_table(
            tmp_path / model / "answers.parquet", ANSWERS, rows, provenance={"model": model}
        )
    bare.tables["answers"] = [tmp_path / model / "answers.parquet" for model in MODELS]
    (tmp_path / "data").symlink_to(folder / "data")
    write_explorer(
        (bare, tmp_path), tmp_path, without=("boxes", "blind/answers", "ablate", "trace")
    )
    found = joined(paths_of(tmp_path, files.answers["alpha"]))
    assert np.isnan(found["correct"]).all()
    assert (found["rule confident_wrong"] == UNKNOWN).all()
    assert joined(paths_of(tmp_path, files.items))["reference"] == [None] * N_ITEMS
