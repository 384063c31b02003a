"""One question to a model equals the row that a study's tables have of the item."""

import numpy as np
import polars as pl
import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

import vrp
from vrp.signals.registry import SIGNALS
from vrp.zoo import zoo_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(small_results):
    return vrp.Study(small_results)


@pytest.fixture(scope="module")
def model(study):
    return study.load("llava")


def items_of_every_task(study, n=2):
    return [
        item_id
        for task in ("existence", "counting", "spatial", "open")
        for item_id in study.items.filter(task=task)["item_id"][:n]
    ]


def test_signals_answers_and_samples_are_those_of_the_tables(study, model):
    signals = study.table("signals", "llava").collect()
    answers = study.table("answers", "llava").collect()
    sampled = study.table("consistency", "llava").collect()
    for item_id in items_of_every_task(study):
        reading = model.read(**study.item(item_id))
        row = signals.row(by_predicate=pl.col("item_id") == item_id, named=True)
        assert reading.signals.keys() == SIGNALS.keys()
        for name, value in reading.signals.items():
            stored = np.nan if row[name] is None else row[name]
            assert value == pytest.approx(stored, abs=1e-5, nan_ok=True), (item_id, name)
        given = answers.row(by_predicate=pl.col("item_id") == item_id, named=True)
        assert (reading.answer, reading.parsed) == (given["answer"], given["parsed"])
        assert reading.correct == row["correct"]
        assert reading.token_logprobs == pytest.approx(given["token_logprobs"], abs=1e-5)
        drawn = sampled.row(by_predicate=pl.col("item_id") == item_id, named=True)
        assert reading.samples == tuple(drawn["answers"])
        exact = dict(zip(drawn["exact_answers"], drawn["exact_probabilities"], strict=True))
        assert reading.distribution == pytest.approx(exact, abs=1e-5)


def test_attention_lens_and_hidden_states_are_those_of_the_tables(study, model):
    (item_id,) = items_of_every_task(study, 1)[:1]
    reading = model.read(**study.item(item_id))
    attention = study.table("attention", "llava").filter(item_id=item_id).collect()
    maps = np.array(attention["maps"][0].to_list()).reshape(reading.attention.shape)
    assert np.allclose(reading.attention, maps, atol=1e-5)
    assert reading.attention.sum(axis=(1, 2)) == pytest.approx(np.ones(len(maps)), abs=1e-5)
    lens = study.table("lens", "llava").filter(item_id=item_id).collect()
    for name in reading.lens.columns[1:]:
        assert reading.lens[name].to_list() == pytest.approx(lens[name][0].to_list(), abs=1e-4)
    hidden = study.table("hidden", "llava").filter(item_id=item_id).collect()
    stored = np.vstack([hidden[name][0].to_list() for name in hidden.columns[2:]])
    assert np.allclose(reading.hidden, stored, atol=1e-4)


def test_interventions_are_those_of_the_tables(study, model):
    mask = study.table("mask", "llava").collect()
    row = mask.filter(condition="top_30").row(0, named=True)
    conditions = [{"kind": "top", "share": 0.3}, {"kind": "random", "share": 0.3, "seeds": 5}]
    found = model.intervene(**study.item(row["item_id"]), conditions=conditions)
    assert found["condition"].to_list() == ["none", "top_30", *["random_30"] * 5]
    for one in found.filter(intervention="mask").iter_rows(named=True):
        stored = mask.filter(
            item_id=row["item_id"], condition=one["condition"], seed=one["seed"]
        ).row(0, named=True)
        assert one["answer"] == stored["answer"]
        assert one["decision_margin"] == pytest.approx(stored["decision_margin"], abs=1e-4)
        assert (one["n_masked"], one["changed"]) == (stored["n_masked"], stored["changed"])


def test_neurons_of_a_studys_probe_are_ablated(study, model):
    item = study.item(study.items["item_id"][0])
    found = model.intervene(
        **item, ablate=[{"kind": "top", "count": 5}, {"kind": "random", "share": 0.5}]
    )
    assert found["n_neurons"].to_list() == [None, 5, 64]
    with pytest.raises(vrp.InputError, match=r"vrp\.Study\(folder\)\.load"):
        vrp.load("zoo:llava").intervene(**item, ablate=[{"kind": "top", "count": 5}])


def test_a_loaded_model_and_its_processor_read_alike(study, model):
    item = study.item("vqa/counting/" + study.items.filter(task="counting")["question_id"][0])
    folder = zoo_checkpoint("llava")
    loaded = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    reading = vrp.load((loaded, processor)).read(**item, k=0, blind=False, p_true=False)
    expected = model.read(**item, k=0, blind=False, p_true=False)
    assert reading.answer == expected.answer
    assert reading.signals == pytest.approx(expected.signals, abs=1e-6, nan_ok=True)
    with pytest.raises(vrp.InputError, match="whole processor"):
        vrp.load((loaded, processor.tokenizer))


def test_what_is_not_asked_for_is_missing():
    model = vrp.load("zoo:llava")
    grey = Image.new("RGB", (96, 96), "grey")
    reading = model.read(grey, "How many dogs are there?", k=0, blind=False, capture=["lens"])
    assert reading.attention is None
    assert reading.samples == ()
    assert reading.distribution == {}
    assert reading.correct is None
    assert reading.lens.columns == ["layer", "decision_margin", "truth_margin"]
    assert np.isnan(reading.signals["self_consistency"])
    assert np.isnan(reading.signals["image_gain"])
    assert reading.signals["token_confidence"] < 0
    with pytest.raises(vrp.InputError, match="attention was not captured"):
        reading.plot_attention()


def test_a_reading_is_a_row_and_two_figures(study, model):
    item = study.item(study.items["item_id"][0])
    reading = model.read(**item)
    frame = reading.to_frame()
    assert frame.shape == (1, 5 + len(SIGNALS))
    assert frame["answer"][0] == reading.answer
    assert repr(reading).startswith(f"Reading({item['question']!r}")
    attention, lens = reading.plot_attention(2), reading.plot_lens()
    assert [ax.get_title(loc="left") for ax in attention.axes] == ["image", "attention, layer 2"]
    line = lens.axes[0].get_lines()[2]  # behind the zero line and the truth margin
    assert line.get_ydata() == pytest.approx(reading.lens["decision_margin"].to_list())
    with pytest.raises(vrp.InputError, match="layers 0 to 5"):
        reading.plot_attention(6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "exitence"}, "did you mean 'existence'"),
        ({"answers": ["2"]}, "give reference, too"),
        ({"question": "What is <image>?"}, "image placeholder"),
        ({"image": "nowhere.png"}, "nowhere.png"),
        ({"capture": ["heads"]}, "heads needs attention"),
        ({"k": 1}, "greater than or equal to 2"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(model, given, message):
    asked = {"image": Image.new("RGB", (96, 96)), "question": "Is there a dog?"} | given
    with pytest.raises(vrp.InputError, match=message):
        model.read(**asked)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"kind": "topp", "share": 0.3}, "did you mean 'top'"),
        ({"kind": "top"}, "needs a share"),
        ({"kind": "other_image"}, "no other item"),
        ({"kind": "object"}, "give the boxes"),
        ({"kind": "top", "share": 0.3, "layers": [0, 9]}, "the model has 0 to 5"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(model, row, message):
    with pytest.raises(vrp.InputError, match=message):
        model.intervene(Image.new("RGB", (96, 96)), "Is there a dog?", [row])
