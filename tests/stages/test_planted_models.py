"""Models whose inner workings are known, through the real stages.

One never looks at the image: nothing that is done to the image may change its answers. The other
keeps its decision in three neurons: silencing them must silence it, anything else must not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from stage_jobs import run_job

from vrp.config.ablate import AblateConfig
from vrp.config.effects import EffectsConfig
from vrp.config.study import study_from_mapping
from vrp.estimates.reported import Effect
from vrp.findings.evidence import ModelEvidence
from vrp.interventions.ablation import ablation_conditions
from vrp.interventions.conditions import conditions_by_name
from vrp.report.conclusions import conclude_interventions
from vrp.stats.bootstrap import seed_from
from vrp.tables.answers import ANSWERS
from vrp.tables.effects import EFFECTS
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.neurons import NEURONS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.predictions import PREDICTIONS

pytestmark = pytest.mark.slow

Study = Callable[..., Any]
Edited = Callable[[str, Callable[[Any, Any], None]], Path]

D_MODEL, N_LAYERS, HEAD_DIM = 32, 4, 8
SLOW = 3  # the rotary pair (3, 7) of a head turns by 0.004 over a whole prompt
MARKER = 0  # the dimension that image tokens alone carry


def blind_to_images(model: Any, tokenizer: Any) -> None:
    """Every image becomes the same tokens, and every head turns away from them.

    Image tokens hold nothing but the marker. In each head one slow rotary pair has a constant
    query and a key of minus the marker: about 20 below any text token, so that an image token
    gets a share of e⁻²⁰, small enough for no answer to change and large enough to be ranked.
    """
    text = model.model.language_model
    projection = model.model.visual.merger.mlp[2]
    projection.weight.zero_()
    projection.bias.zero_()
    projection.bias[MARKER] = 1000.0  # whatever the layers add, the marker is nearly all
    text.embed_tokens.weight[:, MARKER] = 0
    normed_marker = D_MODEL**0.5  # RMS-normalised, a vector along one axis has this length
    for layer in text.layers:
        attention = layer.self_attn
        attention.o_proj.weight[MARKER] = 0
        layer.mlp.down_proj.weight[MARKER] = 0
        for side, value in ((attention.q_proj, 1.0), (attention.k_proj, 0.0)):
            for start in range(0, side.weight.shape[0], HEAD_DIM):
                for row in (start + SLOW, start + SLOW + HEAD_DIM // 2):
                    side.weight[row] = 0
                    side.bias[row] = 0
                side.bias[start + SLOW] = value
        for start in range(0, attention.k_proj.weight.shape[0], HEAD_DIM):
            attention.k_proj.weight[start + SLOW, MARKER] = -20 * HEAD_DIM**0.5 / normed_marker


@pytest.mark.parametrize("mode", ["attention", "embedding", "pixels"])
def test_a_model_that_ignores_the_image_is_not_moved_by_masking(
    mode: str, small_study: Study, edited_checkpoint: Edited
):
    # One size: a larger image would move the question away from the words before the image.
    study = small_study(
        "qwen2_vl", checkpoint=edited_checkpoint("qwen2_vl", blind_to_images), sizes=[(48, 48)]
    )
    table, answers = masked(study, mode)
    assert answers["answer"].n_unique() > 2  # it still answers its questions, each in its way
    assert table.height == study.n_items * 8
    assert not table.filter("changed").height, table.filter("changed")
    margins = table.join(answers.select("item_id", "decision_margin"), on="item_id")
    drift = (margins["decision_margin"] - margins["decision_margin_right"]).abs()
    assert drift.max() < 1e-3


def test_an_unedited_model_is_moved_by_masking(small_study: Study):
    table, _ = masked(small_study("qwen2_vl"), "attention")
    moved = dict(table.group_by("condition").agg(pl.col("changed").any()).iter_rows())
    assert moved["no_image"]
    assert moved["other_image"]
    assert moved["top_30"]


def masked(study: Any, mode: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The mask table and the baseline answers."""
    tables = study.extract()
    output = study.mask(
        [tables["answers"]], [tables["attention"]], mode=mode, random_seeds=1, dose=(0.9,),
        dose_items=study.n_items, controls=("bottom", "no_image", "other_image"),
    )  # fmt: skip
    return read_table(output, MASK), read_table(tables["answers"], ANSWERS)


PLANTED = (5, 17, 29)
READABLE = 11  # holds the colour as well, and nothing reads it
# Along what decides, and along what could be read as well: one step of length 3, by fold.
STEPS = {0: dict.fromkeys(PLANTED, 3**0.5), 1: {READABLE: 3.0}}
BEST_LAYER = 2
WRITER = 1  # the layer whose first head carries the decision to the last token

QUESTIONS = [
    ("pope", "existence", f"Is there a {color} {thing}?", [label], label)
    for thing in ("car", "dog", "cup", "lamp")
    for color, label in (("red", "yes"), ("blue", "no"))
]


def decides_in_three_neurons(model: Any, tokenizer: Any) -> None:
    """Red means yes and blue means no, told apart by three dimensions and nothing else.

    The word's embedding holds the colour in four dimensions; the first head of layer 1 reads
    them at every position and writes what it finds to the same four at the last token; no other
    weight writes to them, and the unembedding reads the first three alone.
    """
    planted = [*PLANTED, READABLE]
    text = model.model.language_model
    ids = {word: tokenizer.convert_tokens_to_ids(f"Ġ{word}") for word in ("red", "blue")}
    answers = {word: tokenizer.convert_tokens_to_ids(f"Ġ{word}") for word in ("Yes", "No")}
    text.embed_tokens.weight[:, planted] = 0
    text.embed_tokens.weight[ids["red"], planted] = 3.0
    text.embed_tokens.weight[ids["blue"], planted] = -3.0
    model.model.multi_modal_projector.linear_2.weight[planted] = 0
    model.model.multi_modal_projector.linear_2.bias[planted] = 0
    for layer in text.layers:
        layer.self_attn.o_proj.weight[planted] = 0
        layer.mlp.down_proj.weight[planted] = 0
    attention = text.layers[WRITER].self_attn
    attention.v_proj.weight[:4] = 0
    for i, neuron in enumerate(planted):
        attention.v_proj.weight[i, neuron] = 1.0
        # Head 1 shares these values, but only head 0's columns write; the colour's token gets
        # about 1/60 of the attention.
        attention.o_proj.weight[neuron, i] = 20.0
    model.lm_head.weight.zero_()
    model.lm_head.weight[answers["Yes"], list(PLANTED)] = 1.0
    model.lm_head.weight[answers["No"], list(PLANTED)] = -1.0


@pytest.fixture
def planted(small_study: Study, edited_checkpoint: Edited) -> Any:
    """The planted model with its answers, and probes of which fold 1's name other neurons."""
    return with_probes(small_study, edited_checkpoint, STEPS, n_items=24)


def with_probes(
    small_study: Study, edited_checkpoint: Edited, steps: dict[int, dict[int, float]], **size: int
) -> Any:
    study = small_study(
        checkpoint=edited_checkpoint("llava", decides_in_three_neurons),
        asked=QUESTIONS, max_new_tokens=2, **size,
    )  # fmt: skip
    study.answers = study.extract()["answers"]
    ids = study.read_items()["item_id"].to_list()
    study.fold_of = {item_id: i % 2 for i, item_id in enumerate(ids)}
    rows = [
        {"item_id": i, "probe": "sparse", "layer": BEST_LAYER, "fold": f, "score": 0.5}
        for i, f in study.fold_of.items()
    ]
    study.predictions = study.folder / "predictions.parquet"
    study.neurons = study.folder / "neurons.parquet"
    write_table(study.predictions, PREDICTIONS, pl.DataFrame(rows), provenance={})
    write_table(study.neurons, NEURONS, pl.DataFrame(probe_rows(steps)), provenance={})
    return study


def probe_rows(steps: dict[int, dict[int, float]]) -> list[dict[str, Any]]:
    """Fold 0's probe ranks the planted neurons first; fold 1's ranks them last."""
    others = [n for n in range(D_MODEL) if n not in PLANTED]
    orders = {0: [*PLANTED, *others], 1: [*others, *PLANTED]}
    return [
        {"layer": layer, "fold": fold, "neuron": n, "weight": 0.1, "rank": rank,
         "mean": 4.0 if n in PLANTED else 0.0, "norm": 4.0 if n in PLANTED else 1.0,
         "step": steps[fold].get(n, 0.0), "best_layer": layer == BEST_LAYER}
        for layer in range(N_LAYERS)
        for fold, order in orders.items()
        for rank, n in enumerate(order)
    ]  # fmt: skip


def ablated(study: Any, *conditions: dict[str, Any]) -> pl.DataFrame:
    output = study.ablate(
        [study.answers], study.predictions, study.neurons, conditions=list(conditions)
    )
    table = read_table(output, ABLATE)
    assert not table.filter(condition="sham")["changed"].any()
    table = table.filter(pl.col("condition") != "sham")
    return table.with_columns(fold=pl.col("item_id").replace_strict(study.fold_of))


def test_the_planted_model_is_right_before_anything_is_done(planted: Any):
    answers = read_table(planted.answers, ANSWERS)
    assert answers["correct"].all()
    assert set(answers["parsed"]) == {"yes", "no"}


def test_its_three_neurons_carry_the_whole_decision(planted: Any):
    table = ablated(planted, {"kind": "top", "count": 3})
    told = table.filter(fold=0)
    assert set(told["layer"]) == {BEST_LAYER}
    assert told["changed"].all()
    assert told["answer"].n_unique() == 1  # nothing is left to decide by
    assert not told["correct"].any()
    # The probe fitted without fold 1 names other neurons: its items must not be touched.
    assert not table.filter(fold=1)["changed"].any()


def test_random_neurons_matter_only_where_they_hit_all_three(planted: Any):
    conditions = [
        {"kind": "random", "count": 3, "seeds": 5},
        {"kind": "random", "share": 0.5, "seeds": 5},
        {"kind": "random", "share": 0.95, "seeds": 5},
    ]
    table = ablated(planted, *conditions)
    n_hit = 0
    for condition in conditions:
        name = ablation_conditions(AblateConfig(conditions=[condition]))[1].name
        for repeat in range(5):
            n = condition.get("count") or round(condition["share"] * D_MODEL)
            key = seed_from(5, "ablate", name, repeat)
            drawn = np.random.default_rng(key).permutation(D_MODEL)[:n]
            hit = set(PLANTED) <= set(drawn.tolist())
            n_hit += hit
            changed = table.filter(condition=name, seed=repeat)["changed"]
            assert len(changed) == planted.n_items
            assert changed.all() if hit else not changed.any()
    assert 0 < n_hit < 15  # both kinds were met
    assert not table.filter(condition="random_3")["changed"].any()


@pytest.mark.parametrize(
    ("value", "answer"), [("mean", "yes"), ("plus_100", "yes"), ("minus_100", "no")]
)
def test_what_stands_in_decides_every_answer(value: str, answer: str, planted: Any):
    table = ablated(planted, {"kind": "top", "count": 3, "value": value})
    assert set(table.filter(fold=0)["parsed"]) == {answer}


def test_the_mlp_has_no_say(planted: Any):
    table = ablated(planted, {"kind": "mlp"}, {"kind": "mlp", "layer": 0.3})
    assert set(table["layer"]) == {BEST_LAYER, 1}
    assert not table["changed"].any()


def test_steering_tells_what_is_used_from_what_can_only_be_read(planted: Any):
    conditions = [
        {"kind": "steer", "doses": [-3, -1, 1, 3]},
        {"kind": "steer_random", "doses": [-3, 3], "seeds": 5},
    ]
    table = ablated(planted, *conditions)
    states = pl.read_parquet(planted.path("extract/hidden", 0)).sort("item_id")
    hidden = np.array(states.filter(position="prompt_end")[f"layer_{BEST_LAYER:02d}"].to_list())
    before = read_table(planted.answers, ANSWERS).sort("item_id")
    says_yes = (before["parsed"] == "yes").to_numpy()
    # Both directions can be read: they part yes from no.
    for neurons in (list(PLANTED), [READABLE]):
        read = hidden[:, neurons].sum(axis=1)
        assert read[says_yes].min() > 0 > read[~says_yes].max()
    used, readable = table.filter(fold=0), table.filter(fold=1)
    assert set(used.filter(condition="steer_3")["parsed"]) == {"yes"}
    assert set(used.filter(condition="steer_-3")["parsed"]) == {"no"}
    assert not readable.filter(pl.col("condition").str.starts_with("steer_-"))["changed"].any()
    assert not readable.filter(pl.col("condition") == "steer_3")["changed"].any()
    random = table.filter(pl.col("condition").str.starts_with("steer_random"))
    assert len(random) == 10 * planted.n_items
    # In 32 dimensions a random direction has some part along any.
    assert random["changed"].mean() < 0.3
    assert used.filter(pl.col("condition").is_in(["steer_3", "steer_-3"]))["changed"].mean() >= 0.5


@pytest.mark.parametrize(
    ("along", "words"),
    [
        (PLANTED, "the model uses the probe’s direction:"),
        ((READABLE,), "the model does not use the probe’s"),
    ],
)
def test_the_report_says_which_direction_is_used(
    along: tuple[int, ...], words: str, small_study: Study, edited_checkpoint: Edited
):
    """From the answers under steering to the sentence; random directions harm in both studies."""
    step = dict.fromkeys(along, 3.0 / len(along) ** 0.5)
    study = with_probes(
        small_study, edited_checkpoint, {0: step, 1: step}, n_items=240, n_images=120
    )
    rows = [
        {"kind": "steer", "doses": [-2, 2]},
        {"kind": "steer_random", "doses": [-2, 2], "seeds": 20},
    ]
    ablated_to = study.ablate(
        [study.answers], study.predictions, study.neurons, conditions=rows, items=240
    )
    path = study.folder / "effects.parquet"
    ablate = AblateConfig.model_validate({"conditions": rows})
    run_job(
        "effects",
        {"items": study.items, "answers": [study.answers], "mask": [], "ablate": [ablated_to],
         "effects": path},
        seed=0, effects=EffectsConfig(sign_flips=1000, equivalence_pp=5), ablate=ablate,
        provenance={},
    )  # fmt: skip
    config = study_from_mapping(
        {
            "study": "t",
            "models": {"tiny": {"family": "llava", "checkpoint": "zoo:llava"}},
            "ablate": {"conditions": rows},
        }
    )
    effects = {
        (row["intervention"], row["condition"], row["scope"]): Effect.from_row(row)
        for row in read_table(path, EFFECTS).iter_rows(named=True)
    }
    random = effects["ablate", "steer_random_2", "all"].effect
    assert random.value < -2
    model = ModelEvidence("tiny", effects=effects, conditions=conditions_by_name(config))
    assert f"; {words}" in conclude_interventions([model]).body


def test_a_single_head_carries_the_decision(planted: Any):
    heads = list(range(4))
    table = ablated(planted, {"kind": "head", "heads": heads, "layer": [WRITER / 3, 1.0]})
    assert set(table["layer"]) == {WRITER, N_LAYERS - 1}
    changed = dict(table.group_by("condition").agg(pl.col("changed").any()).iter_rows())
    assert len(changed) == 8
    assert [name for name, moved in changed.items() if moved] == ["head_0_depth33.3333"]


def test_the_mlp_s_units_have_no_say(planted: Any):
    table = ablated(
        planted,
        {"kind": "top", "count": 5, "site": "mlp"},
        {"kind": "matched", "count": 5, "site": "mlp", "seeds": 2},
        {"kind": "random", "share": 1.0, "site": "mlp", "value": "mean"},
    )
    assert table["condition"].n_unique() == 3
    assert not table["changed"].any()


def test_the_lens_sees_the_decision_appear_where_it_is_written(planted: Any):
    from vrp.tables.lens import LENS

    lens = read_table(planted.path("extract/lens", 0), LENS)
    truth = np.array(lens["truth_margin"].to_list())
    assert np.allclose(truth[:, :WRITER], 0, atol=1e-6)
    assert (truth[:, WRITER:] > 0).all()
    attention = np.array(lens["attention_contribution"].to_list())
    assert (np.abs(attention[:, WRITER]) > 0.4).all()
    assert np.allclose(np.delete(attention, WRITER, axis=1), 0, atol=1e-4)
    assert torch.tensor(lens["pair_top"].to_list()).unique().numel() == 2
