"""The stages that run a model, on tiny random models of the real classes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from mask_rows import mask_rows
from polars.testing import assert_frame_equal
from stage_jobs import run_job

from vrp.config.mask import MaskConfig
from vrp.data.scoring import normalise_answer
from vrp.errors import InputError
from vrp.running.equal_inputs import alike
from vrp.signals.structural import most_attended
from vrp.stages import extract
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.blind_scores import BLIND_SCORES
from vrp.tables.boxes import BOXES
from vrp.tables.consistency import CONSISTENCY, EXACT_COLUMNS
from vrp.tables.hidden import hidden_table
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.lens import LENS
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS
from vrp.tables.seal import read_provenance
from vrp.vlm import decode

pytestmark = pytest.mark.slow

FAMILIES = ("llava", "paligemma", "qwen2_vl")
N_LAYERS = 4
D_MODEL = 32
N_TOKENS = 36

Study = Callable[..., Any]


def read_all(outputs: list[dict[str, Path]]) -> dict[str, pl.DataFrame]:
    """The tables of `extract` or `blind` over all shards."""
    schemas = {
        "answers": ANSWERS,
        "attention": ATTENTION,
        "hidden": hidden_table(n_layers=N_LAYERS, d_model=D_MODEL, dtype="float32"),
        "lens": LENS,
        "blind_scores": BLIND_SCORES,
    }
    return {
        name: read_table([tables[name] for tables in outputs], schemas[name]) for name in outputs[0]
    }


def write_probes(study: Any, *, best_layer: int = 2) -> tuple[Path, Path]:
    """Predictions with two folds by image, and neurons ranked by a fixed shuffle."""
    items = study.read_items()
    folds = {group: i % 2 for i, group in enumerate(sorted(set(items["group"])))}
    rows = [
        {"item_id": item_id, "probe": "linear", "layer": best_layer, "fold": folds[group],
         "score": 0.5}
        for item_id, group in items.select("item_id", "group").iter_rows()
    ]  # fmt: skip
    predictions, neurons = study.folder / "predictions.parquet", study.folder / "neurons.parquet"
    write_table(predictions, PREDICTIONS, pl.DataFrame(rows), provenance={})
    ranks = np.random.default_rng(0).permutation(D_MODEL)
    probes = [
        {"layer": layer, "fold": fold, "neuron": n, "weight": 0.1, "rank": int(ranks[n]),
         "mean": 0.5, "norm": 1.0 + n, "step": 0.01 * n, "best_layer": layer == best_layer}
        for layer in range(N_LAYERS) for fold in range(2) for n in range(D_MODEL)
    ]  # fmt: skip
    write_table(neurons, NEURONS, pl.DataFrame(probes), provenance={})
    return predictions, neurons


def assert_same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    """Ids, answers and labels equal; floats within 1e-5 of the size of their row."""
    floats = [n for n, t in one.schema.items() if _leaf(t) in (pl.Float32, pl.Float64)]
    assert_frame_equal(one.drop(floats), other.drop(floats))
    for name in floats:
        for left, right in zip(one[name].to_list(), other[name].to_list(), strict=True):
            a, b = _flat(left), _flat(right)
            scale = max(1.0, float(np.nanmax(np.abs(a), initial=0)))
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale, err_msg=name)


def _leaf(dtype: Any) -> Any:
    while hasattr(dtype, "inner"):
        dtype = dtype.inner
    return dtype


def _flat(value: Any) -> np.ndarray:
    return np.array(pl.Series([value]).explode().explode().to_list(), dtype=np.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_and_batches_change_nothing(family: str, small_study: Study):
    study = small_study(family, n_items=40, n_images=14)
    n_shards = 7
    whole = read_all([study.extract(batch_size=32)])
    assert all(table.height == study.n_items for table in whole.values())

    def in_shards(batch_size: int) -> list[dict[str, Path]]:
        return [
            study.extract(batch_size=batch_size, shards=n_shards, shard=i, name="parts")
            for i in range(n_shards)
        ]

    in_fours = [study.extract(batch_size=4, name="fours")]
    for parts in (in_fours, in_shards(4), in_shards(1)):
        split = read_all(parts)
        for name, table in whole.items():
            assert_same(table, split[name])
    answers, attention = ([part[name] for part in parts] for name in ("answers", "attention"))

    one = read_table(study.consistency(batch_size=32), CONSISTENCY)
    assert_same(one, read_table(study.consistency(batch_size=4, name="fours"), CONSISTENCY))
    many = [
        study.consistency(batch_size=1, shard=i, n_shards=n_shards, name="c")
        for i in range(n_shards)
    ]
    assert_same(one, read_table(many, CONSISTENCY))

    settings = {"items": 9, "dose_items": 4, "dose": (0.5,), "random_seeds": 2}
    one = study.mask(answers, attention, batch_size=16, **settings)
    many = [
        study.mask(answers, attention, batch_size=1, shards=3, shard=i, name="m", **settings)
        for i in range(3)
    ]
    assert_same(read_table(one, MASK), read_table(many, MASK))

    probes = write_probes(study)
    one = study.ablate(answers, *probes, items=9, batch_size=16)
    many = [
        study.ablate(answers, *probes, items=9, batch_size=1, shards=3, shard=i, name="a")
        for i in range(3)
    ]
    assert_same(read_table(one, ABLATE), read_table(many, ABLATE))


def test_the_same_plan_is_identical_to_the_bit(small_study: Study):
    study = small_study()
    first, again = (read_all([study.extract(name=name)]) for name in ("a", "b"))
    for name, table in first.items():
        assert_frame_equal(table, again[name], check_exact=True)


def test_tables_made_beside_the_next_batch_are_the_same(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU; a run that dies in a batch keeps all that were computed before."""
    study = small_study()
    in_turn = read_all([study.extract(batch_size=2, name="in turn")])
    monkeypatch.setattr(extract, "_tabulates_in_turn", lambda vlm: False)
    run_batch, computed = decode.run_batch, []

    def dies_in_the_third(vlm: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        computed.append([item.item_id for item in inputs])
        if len(computed) == 3:
            raise KeyboardInterrupt
        return run_batch(vlm, inputs, *more, **named)

    monkeypatch.setattr(decode, "run_batch", dies_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        study.extract(batch_size=2, name="beside")
    beside = read_all([study.extract(batch_size=2, name="beside")])
    assert computed[3] == computed[2]  # the first two are taken over
    assert sum(map(len, computed)) == study.n_items + len(computed[2])
    for name, table in in_turn.items():
        assert_frame_equal(table, beside[name], check_exact=True)


def test_answers_differ_from_item_to_item_and_with_the_image(small_study: Study):
    """Without this, agreement between runs would say nothing."""
    study = small_study()
    seen = read_all([study.extract()])
    blank = read_all([study.blind()])
    assert seen["answers"]["answer"].n_unique() > 4
    assert (seen["answers"]["answer"] != blank["answers"]["answer"]).any()
    assert not seen["hidden"]["layer_03"].equals(blank["hidden"]["layer_03"])
    assert set(blank) == {"answers", "hidden", "blind_scores"}


def test_the_answer_to_the_image_is_scored_without_it(small_study: Study):
    study = small_study()
    seen = read_all([study.extract()])["answers"]
    blank = read_all([study.blind()])
    rows = zip(seen.iter_rows(named=True), blank["answers"].iter_rows(named=True),
               blank["blind_scores"].iter_rows(named=True), strict=True)  # fmt: skip
    n_same = 0
    for with_image, without, score in rows:
        assert len(score["token_logprobs"]) == len(with_image["token_ids"])
        assert len(score["first_token_logprobs"]) == len(with_image["first_token_ids"]) == 64
        if with_image["token_ids"] == without["token_ids"]:  # the greedy one in both
            n_same += 1
            assert score["token_logprobs"] == pytest.approx(without["token_logprobs"], abs=1e-4)
        else:
            assert sum(score["token_logprobs"]) < 0
    assert 0 < n_same < len(seen)


# LLaVA pads to a square, in a colour that is not the grey; Qwen2-VL keeps the proportions.
@pytest.mark.parametrize(("family", "n_inputs"), [("llava", 3), ("paligemma", 1), ("qwen2_vl", 3)])
def test_grey_images_that_a_model_is_shown_alike_are_one_input(
    family: str, n_inputs: int, small_study: Study
):
    from vrp.running.model_manifest import read_manifest
    from vrp.running.model_run import StudyImages, load_model

    study = small_study(family)
    vlm = load_model(study.model, read_manifest(study.manifest, study.model))
    images = StudyImages(study.data)
    assert len({images.blank_key(size, vlm) for size in ((48, 48), (64, 48), (40, 56))}) == n_inputs


def test_questions_that_are_alike_without_their_images_are_run_once(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
):
    study = small_study(n_items=30)  # every question is asked of every image
    study.extract()
    run, original = [], decode.run_batch

    def counted(vlm: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        run.extend(entry.item_id for entry in inputs)
        return original(vlm, inputs, *rest, **options)

    monkeypatch.setattr(decode, "run_batch", counted)
    together = read_all([study.blind()])
    n_runs = len(run)
    monkeypatch.setattr("vrp.stages.blind.alike", partial(alike, most=1))
    apart = read_all([study.blind(name="apart")])
    assert n_runs < len(run) - n_runs == 30
    for name, table in together.items():
        assert_frame_equal(table, apart[name], check_exact=False, rel_tol=1e-4, abs_tol=1e-5)


def test_answers_of_another_study_are_not_scored(small_study: Study):
    study = small_study()
    answers = study.extract()["answers"]
    table = read_table(answers, ANSWERS)
    write_table(answers, ANSWERS, table[1:], provenance=read_provenance(answers))
    with pytest.raises(InputError, match="has no answer to item"):
        study.blind()


def test_blank_images_leave_nothing_of_the_image_but_its_size(small_study: Study):
    study = small_study(n_items=30)  # every question is asked of every image
    hidden = read_all([study.blind()])["hidden"]
    square = pl.col("image").str.contains("000|003|004")
    states = hidden.join(study.read_items().filter(square), on="item_id")
    questions = states.group_by("question").all()
    assert questions.height == 5
    for same_question in questions["layer_03"].to_list():
        assert len(same_question) == 3
        assert np.ptp(np.array(same_question), axis=0).max() < 1e-4


def test_tables_say_which_weights_made_them(small_study: Study):
    study = small_study()
    origin = read_provenance(study.extract()["lens"])
    assert origin["model"] == "tiny"
    assert origin["revision"] in study.manifest.read_text()
    assert origin["table"] == "lens"


def test_the_last_layers_lens_is_the_models_own_margin(small_study: Study):
    study = small_study()
    tables = read_all([study.extract()])
    joined = tables["lens"].join(
        tables["answers"].select("item_id", "decision_margin"), on="item_id"
    )
    last = joined["decision_margin"].list.last().to_numpy()
    assert np.allclose(last, joined["decision_margin_right"].to_numpy(), atol=1e-4)
    parts = joined.select(
        pl.col("embed_contribution")
        + pl.col("attention_contribution").list.sum()
        + pl.col("mlp_contribution").list.sum()
    ).to_series()
    assert np.allclose(parts.to_numpy(), joined["logit_difference"].to_numpy(), atol=1e-3)


def test_both_positions_are_kept(small_study: Study):
    study = small_study()
    outputs = study.extract(positions=("prompt_end", "answer_end"), hidden_dtype="float16")
    schema = hidden_table(n_layers=N_LAYERS, d_model=D_MODEL, dtype="float16")
    hidden = read_table(outputs["hidden"], schema)
    assert hidden.height == 2 * study.n_items
    assert set(hidden["position"]) == {"prompt_end", "answer_end"}


def test_self_consistency_counts_its_own_samples(small_study: Study):
    study = small_study()
    table = read_table(study.consistency(k=4, temperature=0.05), CONSISTENCY)
    for row in table.to_dicts():
        task = row["item_id"].split("/")[1]
        normalised = [normalise_answer(task, answer) for answer in row["answers"]]
        assert row["normalised"] == normalised
        counts = [normalised.count(answer) for answer in normalised]
        assert np.isclose(row["self_consistency"], max(counts) / 4)
        assert row["majority"] == normalised[counts.index(max(counts))]
    assert table["self_consistency"].max() > 0.25  # cold sampling agrees with itself


def test_the_exact_distribution_is_over_normalised_answers(small_study: Study):
    study = small_study()
    table = read_table(study.consistency(k=4, floor=0.01), CONSISTENCY)
    for row in table.to_dicts():
        task = row["item_id"].split("/")[1]
        answers, shares = row["exact_answers"], row["exact_probabilities"]
        assert answers == [normalise_answer(task, answer) for answer in answers]
        assert len(set(answers)) == len(answers)
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) + row["unresolved"] == pytest.approx(1, abs=1e-5)
        top = shares[0] if shares else 0.0
        assert row["majority_share_low"] == pytest.approx(top)
        assert row["majority_share_high"] == pytest.approx(top + row["unresolved"], abs=1e-6)
        low, high = (row[f"expected_consistency_{end}"] for end in ("low", "high"))
        assert max(0.25, row["majority_share_low"]) <= low + 1e-6 <= high + 2e-6
        if row["unresolved"] == 0:
            assert set(row["normalised"]) <= set(answers)
            assert low == high


def test_samples_alone_are_a_choice(small_study: Study):
    study = small_study()
    alone = read_table(study.consistency(k=4, floor=None, name="alone"), CONSISTENCY)
    both = read_table(study.consistency(k=4, name="both"), CONSISTENCY)
    for name in CONSISTENCY.columns.names:
        if name in EXACT_COLUMNS:
            assert alone[name].null_count() == len(alone)
            assert both[name].null_count() == 0
        else:
            assert alone[name].equals(both[name])


def test_masking_runs_every_condition_on_the_tokens_it_names(small_study: Study):
    study = small_study()
    tables = study.extract()
    output = study.mask(
        [tables["answers"]], [tables["attention"]],
        items=8, dose_items=3, dose=(0.5,), random_seeds=2,
        controls=("bottom", "no_image", "other_image"),
    )  # fmt: skip
    table = read_table(output, MASK)
    counts = table.group_by("condition", "seed").len().rows()
    assert {(condition, repeat): n for condition, repeat, n in counts} == {
        ("top_30", 0): 8, ("random_30", 0): 8, ("random_30", 1): 8, ("bottom_30", 0): 8,
        ("no_image", 0): 8, ("other_image", 0): 8, ("top_50", 0): 3, ("random_50", 0): 3,
        ("sham", 0): 8,
    }  # fmt: skip
    n_masked = dict(table.select("condition", "n_masked").unique().iter_rows())
    assert n_masked["top_30"] == n_masked["random_30"] == round(0.3 * N_TOKENS) == 11
    assert n_masked["no_image"] == N_TOKENS
    sham = table.filter(condition="sham").sort("item_id")
    baseline = read_table(tables["answers"], ANSWERS).join(sham, on="item_id", how="semi")
    assert sham["answer"].equals(baseline.sort("item_id")["answer"])
    assert sham["n_masked"].to_list() == [0] * 8
    assert not sham["changed"].any()


@pytest.mark.parametrize("mode", ["attention", "embedding", "pixels"])
def test_masking_hides_exactly_the_most_attended_tokens(mode: str, small_study: Study):
    """What the stage hides is repeated by hand on one item."""
    from vrp.running.model_manifest import read_manifest
    from vrp.running.model_run import ItemBatches, StudyImages, as_items, load_model
    from vrp.vlm.decode import AttentionMask, prepare, run_batch
    from vrp.vlm.image_edits import (
        EmbeddingReplacement,
        grey_patches,
        image_embedding_sum,
    )

    study = small_study()
    tables = study.extract()
    output = study.mask(
        [tables["answers"]], [tables["attention"]], mode=mode, dose=(), random_seeds=1, controls=()
    )
    name = "top_30" if mode == "attention" else f"top_30_{mode}"
    row = read_table(output, MASK).filter(condition=name).row(4, named=True)

    items = as_items(study.read_items())
    vlm = load_model(study.model, read_manifest(study.manifest, study.model))
    batches = ItemBatches(vlm, items, StudyImages(study.data), batch_size=32)
    maps = read_table(tables["attention"], ATTENTION).filter(item_id=row["item_id"])["maps"][0]
    keep = np.ones(N_TOKENS, dtype=bool)
    keep[most_attended(np.array(maps.to_list()).mean(0), 0.3)] = False
    entry = batches.input(items[row["item_id"]])
    ways: dict[str, Any] = {}
    if mode == "attention":
        ways["mask"] = AttentionMask([keep])
    elif mode == "embedding":
        total, n = image_embedding_sum(prepare(vlm, batches.inputs(items)))
        ways["replace"] = EmbeddingReplacement([keep], total / n)
    else:
        boxes = vlm.patch_boxes(entry.image.size)
        entry = entry._replace(image=grey_patches(entry.image, boxes, keep), image_key="")
    (expected,) = run_batch(vlm, [entry], max_new_tokens=study.max_new_tokens, **ways)
    assert row["answer"] == expected.answer
    assert np.isclose(row["decision_margin"], expected.decision_margin, atol=1e-4)
    (plain,) = run_batch(vlm, [batches.input(items[row["item_id"]])], max_new_tokens=3)
    assert not np.isclose(plain.decision_margin, expected.decision_margin, atol=1e-3)


def test_masking_hides_the_object_and_as_many_at_random(small_study: Study):
    """The object covers the left quarter of a square image; two items have no box."""
    study = small_study(sizes=[(48, 48)])
    tables = study.extract()
    ids = study.read_items()["item_id"].to_list()
    boxes = study.folder / "boxes.parquet"
    n = len(ids)
    write_table(boxes, BOXES, {
        "item_id": ids, "object": ["cup"] * n, "image_width": [96] * n, "image_height": [96] * n,
        "boxes": [[[0.0, 0.0, 24.0, 96.0]]] * (n - 2) + [[], []],
        "note": [None] * (n - 2) + ["no such object is annotated in the image"] * 2,
    }, provenance={})  # fmt: skip
    rows = [{"kind": "object"}, {"kind": "random_object", "seeds": 2}, {"kind": "background"},
            {"kind": "random_background"}]  # fmt: skip
    output = study.mask(
        [tables["answers"]], [tables["attention"]], boxes=[boxes], conditions=rows, items=n
    )
    table = read_table(output, MASK)
    counts = dict(table.group_by("condition").len().iter_rows())
    assert counts == {
        "sham": n, "object": n - 2, "random_object": 2 * (n - 2), "background": n - 2,
        "random_background": n - 2,
    }  # fmt: skip
    # A quarter is one and a half of six columns of tokens: two are touched. The annotated image is
    # twice as large as the one that is shown.
    n_masked = dict(table.select("condition", "n_masked").unique().iter_rows())
    assert n_masked == {
        "sham": 0, "object": 12, "random_object": 12, "background": 24, "random_background": 24
    }  # fmt: skip
    assert table.filter(condition="object")["share"].unique().to_list() == pytest.approx([1 / 3])


@pytest.mark.parametrize("ranking", ["without_sinks", "times_values"])
def test_masking_ranks_as_its_row_says(ranking: str, small_study: Study):
    """What the stage hides is repeated by hand: by layers 1 to 2, and by another ranking."""
    from vrp.running.image_rankings import read_item_maps
    from vrp.running.model_manifest import read_manifest
    from vrp.running.model_run import ItemBatches, StudyImages, as_items, load_model
    from vrp.vlm.decode import AttentionMask, prepare, run_batch
    from vrp.vlm.value_norms import value_norms

    study = small_study()
    tables = study.extract()
    rows = [{"kind": "top", "share": 0.3, "ranking": ranking, "layers": [1, 2]}]
    output = study.mask([tables["answers"]], [tables["attention"]], conditions=rows)
    row = read_table(output, MASK).filter(condition=f"top_30_{ranking}_layers1to2").row(
        4, named=True
    )  # fmt: skip
    items = as_items(study.read_items())
    vlm = load_model(study.model, read_manifest(study.manifest, study.model))
    entry = ItemBatches(vlm, items, StudyImages(study.data), batch_size=32).input(
        items[row["item_id"]]
    )
    image_of = dict(study.read_items().select("item_id", "group").iter_rows())
    maps = read_item_maps([tables["attention"]], [row["item_id"]], image_of=image_of)
    (norms,) = value_norms(vlm, prepare(vlm, [entry]))
    wanted = maps[row["item_id"]].ranking(ranking, (1, 2), norms)
    keep = np.ones(N_TOKENS, dtype=bool)
    keep[most_attended(wanted, 0.3)] = False
    (expected,) = run_batch(
        vlm, [entry], max_new_tokens=study.max_new_tokens, mask=AttentionMask([keep])
    )
    assert row["answer"] == expected.answer
    assert np.isclose(row["decision_margin"], expected.decision_margin, atol=1e-4)
    with pytest.raises(InputError, match="reads layers 2 to 9, the model has 0 to 3"):
        study.mask(
            [tables["answers"]], [tables["attention"]], name="beyond",
            conditions=[{"kind": "top", "share": 0.3, "layers": [2, 9]}],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "head", "heads": [9]}, "head_9 asks for head 9, the model has heads 0 to 3"),
        ({"kind": "random", "count": 33}, "random_33 asks for 33 neurons, the model has 32"),
        (
            {"kind": "random", "count": 999, "site": "mlp"},
            "random_999_in_mlp asks for 999 neurons, the model has 48",
        ),
    ],
)
def test_what_the_model_does_not_have_is_refused_before_anything_runs(
    small_study: Study, row: dict[str, Any], words: str
):
    study = small_study(n_items=6)
    tables = study.extract()
    with pytest.raises(InputError, match=words):
        study.ablate([tables["answers"]], *write_probes(study), conditions=[row])
    assert not study.path("ablate", 0).exists()


def test_ablation_sites_and_sizes(small_study: Study):
    study = small_study()
    tables = study.extract()
    conditions = [
        {"kind": "top", "count": 5},
        {"kind": "random", "share": 0.25, "seeds": 3, "value": "mean"},
        {"kind": "mlp", "layer": 1.0},
        {"kind": "top", "count": 1, "layer": 0.4, "value": "plus_100"},
    ]
    output = study.ablate([tables["answers"]], *write_probes(study), conditions=conditions)
    table = read_table(output, ABLATE)
    sites = (
        table.select("condition", "seed", "layer", "n_neurons").unique().sort("condition", "seed")
    )
    assert sites.rows() == [
        ("mlp_bypass_depth100", 0, 3, 0),
        ("random_25pct_mean", 0, 2, 8),
        ("random_25pct_mean", 1, 2, 8),
        ("random_25pct_mean", 2, 2, 8),
        ("sham", 0, 2, 0),
        ("top_1_plus_100_depth40", 0, 1, 1),  # round(0.4 · 3)
        ("top_5", 0, 2, 5),
    ]
    assert table.height == 7 * study.n_items
    assert not table.filter(condition="sham")["changed"].any()


def test_answers_without_tokens_become_rows_with_a_reason(
    small_study: Study, edited_checkpoint: Callable[..., Path]
):
    def always_end(model: Any, tokenizer: Any) -> None:
        """One dimension is the same everywhere and votes for the end of the answer."""
        text = model.model.language_model
        text.embed_tokens.weight[:, 0] = 5.0
        for layer in text.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokenizer.eos_token_id, 0] = 100.0

    study = small_study(checkpoint=edited_checkpoint("llava", always_end))
    outputs = study.extract(positions=("prompt_end", "answer_end"))
    tables = read_all([outputs])
    assert set(tables["answers"]["note"]) == {"zero-token answer"}
    assert set(tables["answers"]["answer"]) == {""}
    assert not tables["answers"]["correct"].any()
    assert set(tables["attention"]["note"]) == {"zero-token answer"}
    ends = tables["hidden"].filter(position="answer_end")["layer_00"].to_list()
    assert np.isnan(np.array(ends)).all()
    # Tokens cannot be ranked by a map that does not exist: such items are not masked at all.
    table = read_table(study.mask([outputs["answers"]], [outputs["attention"]]), MASK)
    assert table.height == 0
    assert read_table(study.consistency(), CONSISTENCY)["self_consistency"].to_list() == [1.0] * 13


def test_broken_activations_become_rows_with_a_reason(
    small_study: Study, edited_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    # Loading refuses such weights; they stand in for activations that overflow.
    monkeypatch.setattr("vrp.vlm.loading.check_finite", lambda *model, **where: None)

    def broken(model: Any, tokenizer: Any) -> None:
        red = tokenizer.convert_tokens_to_ids("Ġred")
        model.model.language_model.embed_tokens.weight[red, 0] = float("nan")

    study = small_study(checkpoint=edited_checkpoint("llava", broken))
    tables = read_all([study.extract()])
    joined = tables["answers"].join(study.read_items(), on="item_id")
    has_red = joined["question"].str.contains("red")
    assert has_red.any()
    assert not has_red.all()
    notes = joined.filter(has_red)["note"].to_list()
    assert set(notes) == {"non-finite activations"}
    assert joined.filter(~has_red)["note"].null_count() == (~has_red).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_are_what_the_job_was_given(
    family: str, small_study: Study, monkeypatch: pytest.MonkeyPatch
):
    from vrp.running.model_manifest import read_manifest
    from vrp.running.model_run import load_model

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = small_study(family)
    vlm = load_model(study.model, read_manifest(study.manifest, study.model))
    assert torch.get_num_threads() == 1
    assert (vlm.family.name, vlm.n_layers) == (family, N_LAYERS)
    torch.set_num_threads(before)


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_bad_inputs_stop_in_one_line_and_leave_nothing(small_study: Study):
    study = small_study()
    tables = study.extract()
    probes = write_probes(study)
    answers, attention = [tables["answers"]], [tables["attention"]]
    missing = study.folder / "nowhere.parquet"
    good_items, good_model = study.items, study.model
    before = files_of(study.folder)

    def refused(run: Callable[[], Any], words: str) -> None:
        with pytest.raises(InputError) as caught:
            run()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert files_of(study.folder) == before

    refused(lambda: study.extract(shard=2, shards=2, name="x"), "shard 2 is out of range")
    refused(lambda: study.extract(shards=50, name="x"), "50 shards are too many for 13 items")
    refused(lambda: study.mask([missing], attention, name="x"), "no such file")
    refused(lambda: study.mask(attention, attention, name="x"), "holds table 'attention', not")
    refused(lambda: study.mask(answers, answers, name="x"), "holds table 'answers', not")
    refused(lambda: study.ablate(answers, probes[1], probes[0], name="x"), "holds table 'neurons'")
    study.items = tables["lens"]
    refused(lambda: study.consistency(name="x"), "holds table 'lens', not 'items'")
    study.items = good_items
    study.model = good_model.model_copy(update={"family": "lava"})
    refused(lambda: study.extract(name="x"), "run `vrp fetch-model` again")
    study.model = good_model.model_copy(update={"prompt": "poetic"})
    refused(lambda: study.blind(name="x"), "no prompt variant 'poetic'")
    study.model = good_model
    refused(
        lambda: study.ablate(answers, *probes, name="x", conditions=[{"kind": "top", "count": 33}]),
        "asks for 33 neurons, the model has 32",
    )


def test_a_model_may_not_use_another_models_tables(small_study: Study):
    study = small_study()
    tables = study.extract()
    study.provenance = {"study": "t", "model": "other"}
    with pytest.raises(InputError, match="was made with model 'tiny', this run has 'other'"):
        study.mask([tables["answers"]], [tables["attention"]])
    with pytest.raises(InputError, match="was made with model 'tiny'"):
        study.ablate([tables["answers"]], *write_probes(study))


def test_items_without_an_answer_stop_the_interventions(small_study: Study):
    study = small_study()
    part = study.extract(shards=2, shard=0)
    with pytest.raises(InputError, match="has no answer to item"):
        study.mask([part["answers"]], [part["attention"]])
    whole = study.extract(name="whole")
    with pytest.raises(InputError, match="has no attention of item"):
        study.mask([whole["answers"]], [part["attention"]])


@pytest.mark.parametrize("damage", ["missing", "changed", "outside"])
def test_an_image_that_is_not_the_sampled_one_stops_the_run(damage: str, small_study: Study):
    study = small_study()
    items = study.read_items()
    image = Path(study.data.folder) / items["image"][0]
    if damage == "missing":
        image.unlink()
    elif damage == "changed":
        image.write_bytes(image.read_bytes() + b"x")
    else:
        from vrp.tables.items import ITEMS

        write_table(
            study.items, ITEMS, items.with_columns(image=pl.lit("../model.json")), provenance={}
        )
    before = files_of(study.folder)
    words = {
        "missing": "no such image file",
        "changed": "is not the image that was sampled",
        "outside": "lies outside the data folder",
    }
    with pytest.raises(InputError, match=words[damage]):
        study.extract()
    assert files_of(study.folder) == before


def test_the_first_prompt_of_each_task_is_recorded(small_study: Study):
    study = small_study("qwen2_vl")
    outputs = study.extract()
    asked = {row["item_id"]: row for row in study.read_items().to_dicts()}
    shown = json.loads(read_provenance(outputs["answers"])["first_prompts"])
    assert {first["task"] for first in shown} == {row["task"] for row in asked.values()}
    for first in shown:
        assert asked[first["item_id"]]["question"] in first["prompt"]
        assert first["token_ids"].count(first["image_token_id"]) == 1
        assert first["n_image_tokens"] > 0


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Count what would reach the model, and keep it from there."""
    ran: list[Any] = []
    for name in ("prepare", "run_batch"):
        monkeypatch.setattr(decode, name, lambda *a, **k: ran.append(a))
    return ran


@pytest.mark.parametrize("stage", ["mask", "ablate"])
def test_an_answer_without_room_in_the_context_stops_before_anything_runs(
    small_study: Study, monkeypatch: pytest.MonkeyPatch, stage: str
):
    study = small_study(n_items=6)
    tables = study.extract()
    answers, attention, probes = [tables["answers"]], [tables["attention"]], write_probes(study)
    runs = {
        "mask": lambda: study.mask(answers, attention, items=6),
        "ablate": lambda: study.ablate(answers, *probes, items=6),
    }
    ran = count_runs(monkeypatch)
    study.max_new_tokens = 500
    with pytest.raises(InputError, match="an answer of 500 exceed the model's context of 512"):
        runs[stage]()
    assert not ran
    assert not study.path(stage, 0).exists()


def test_another_items_larger_image_stops_before_anything_runs(
    small_study: Study, monkeypatch: pytest.MonkeyPatch
):
    """A long question fits with its own small image, a short one with its own large image."""
    asked = [
        (
            "vqa",
            "counting",
            "How many of all the dogs that are here are red? " * 2,
            ["2"] * 10,
            "2",
        ),
        ("vqa", "counting", "How many?", ["2"] * 10, "2"),
    ]
    study = small_study("qwen2_vl", n_items=2, n_images=2, asked=asked, sizes=[(16, 16), (64, 64)])
    tables = study.extract()
    answers = read_table(tables["answers"], ANSWERS)
    assert answers["n_image_tokens"].n_unique() == 2
    ran = count_runs(monkeypatch)
    study.max_new_tokens = 512 - answers["n_prompt_tokens"].max()
    long_one, other = study.read_items()["item_id"]
    prompt, image = (dict(answers.select("item_id", name).iter_rows()) for name in
                     ("n_prompt_tokens", "n_image_tokens"))  # fmt: skip
    n = prompt[long_one] - image[long_one] + image[other]
    assert n > max(prompt.values())
    with pytest.raises(InputError, match=f"'{long_one}': a prompt of {n} tokens .* exceed"):
        study.mask([tables["answers"]], [tables["attention"]], items=2, controls=("other_image",))
    assert not ran


def test_a_registered_condition_is_masked_planned_and_estimated(small_study: Study, centre: Any):
    """A kind that hides the central tokens, as a user's own file registers it."""
    from vrp.config.effects import EffectsConfig
    from vrp.config.study import study_from_mapping
    from vrp.interventions.masking import MaskableImage
    from vrp.planning.workload import model_work
    from vrp.tables.effects import EFFECTS

    study = small_study()
    tables = study.extract()
    rows = mask_rows(share=0.25, random_seeds=1, dose=(), controls=("centre",))
    settings: dict[str, Any] = {"conditions": rows}
    output = study.mask([tables["answers"]], [tables["attention"]], **settings)
    table = read_table(output, MASK)
    assert set(table["condition"]) == {"sham", "top_25", "random_25", "centre_25"}
    assert set(table.filter(pl.col("condition") != "sham")["n_masked"]) == {9}
    middle = [7, 8, 9, 10, 13, 14, 15, 16, 19, 20, 21, 22, 25, 26, 27, 28]
    hidden = centre.hides(MaskableImage(np.ones(N_TOKENS), 6, 6, seed=0), 0.25)
    assert set(hidden) < set(middle)

    config = study_from_mapping(
        {
            "study": "t",
            "models": {"tiny": {"family": "llava", "checkpoint": "zoo:llava"}},
            "mask": settings,
        }
    )
    fewer = MaskConfig(conditions=rows[:-1])
    without = config.model_copy(update={"mask": fewer})
    n_items = min(config.mask.items, 3090)
    planned = [model_work(study, "tiny")["mask"].n_answers for study in (config, without)]
    assert planned == [4 * n_items, 3 * n_items]

    path = study.folder / "effects.parquet"
    run_job(
        "effects",
        {
            "items": study.items,
            "answers": [tables["answers"]],
            "mask": [output],
            "ablate": [],
            "effects": path,
        },
        seed=0,
        effects=EffectsConfig(sign_flips=100),
        mask=config.mask,
        ablate=config.ablate,
        provenance={},
    )
    estimated = read_table(path, EFFECTS).filter(scope="all")
    assert estimated["condition"].to_list() == [
        "centre_25", "centre_25 - random_25", "random_25", "sham", "top_25", "top_25 - random_25",
    ]  # fmt: skip
    accuracy = dict(table.group_by("condition").agg(pl.col("correct").mean()).iter_rows())
    effect = dict(estimated.select("condition", "effect").iter_rows())
    assert effect["centre_25 - random_25"] == pytest.approx(
        100 * (accuracy["centre_25"] - accuracy["random_25"])
    )


def test_a_kind_that_hides_another_number_of_tokens_is_refused(small_study: Study, centre: Any):
    object.__setattr__(centre, "hides", lambda image, share: np.array([3, 3, 4]))
    study = small_study(n_items=6)
    tables = study.extract()
    with pytest.raises(InputError, match=r"'centre' hides 2 of the 36 image tokens .* return 11"):
        study.mask([tables["answers"]], [tables["attention"]], controls=("centre",))
