"""P(True): what the model says when it is asked whether its own answer is correct."""

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scipy.special import expit, logsumexp

from vrp.config.study import study_from_mapping
from vrp.data.item import EXISTENCE
from vrp.data.scoring import surface_forms
from vrp.errors import InputError
from vrp.signals.behavioural import judged_true
from vrp.study.graph import STAGE
from vrp.tables.answers import ANSWERS
from vrp.tables.notes import NO_TOKENS
from vrp.tables.p_true import P_TRUE
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.seal import read_provenance
from vrp.vlm.batching import VlmInput
from vrp.vlm.loading import load_vlm
from vrp.vlm.prefill import Decoder, prepare

pytestmark = pytest.mark.slow


def test_it_is_the_share_of_yes_among_yes_and_no():
    yes, no = np.log([0.2, 0.1]), np.log([0.3])
    assert judged_true(yes, no) == pytest.approx((0.5, 0.6))
    odds = logsumexp(yes) - np.log(0.05)
    assert judged_true(yes, np.log([0.05]))[0] == pytest.approx(expit(odds))
    assert np.isnan(judged_true([np.nan], no)[0])
    assert np.isnan(judged_true([-np.inf], [-np.inf])[0])


def test_it_is_read_before_the_first_token_of_the_judgement(small_study):
    """Against the distribution of one prompt alone, item by item."""
    study = small_study("llava", n_items=7)
    answers = study.extract()["answers"]
    found = read_table(study.p_true(answers), P_TRUE)
    given = dict(read_table(answers, ANSWERS).select("item_id", "answer").iter_rows())
    vlm = load_vlm(study.checkpoint, family="llava", device="cpu")
    ids = {w: vlm.answer_token_ids(surface_forms(EXISTENCE, w), usual=w) for w in ("yes", "no")}
    items = {row["item_id"]: row for row in study.read_items().iter_rows(named=True)}
    for row in found.iter_rows(named=True):
        item = items[row["item_id"]]
        expected = f"{item['question']} Proposed answer: {given[item['item_id']]}. Is the "
        assert row["question"] == f"{expected}proposed answer correct, yes or no?"
        with Image.open(study.folder / "data" / item["image"]) as image:
            one = VlmInput("i", image.convert("RGB"), row["question"])
        logits = Decoder(vlm, prepare(vlm, [one], max_new_tokens=1)).prefill()[0]
        p = logits.detach().double().softmax(-1).numpy()
        yes, no = (p[list(ids[word])].sum() for word in ("yes", "no"))
        assert row["p_true"] == pytest.approx(yes / (yes + no), abs=1e-5)
        assert row["yes_no_mass"] == pytest.approx(yes + no, abs=1e-5)
    assert found["p_true"].n_unique() > 3


def test_an_empty_answer_has_no_judgement_and_another_studys_are_refused(small_study):
    study = small_study("llava", n_items=7)
    answers = study.extract()["answers"]
    table, origin = read_table(answers, ANSWERS), read_provenance(answers)
    first = pl.col("item_id") == table["item_id"][0]
    empty = table.with_columns(answer=pl.when(first).then(pl.lit("")).otherwise("answer"))
    write_table(answers, ANSWERS, empty, provenance=origin)
    found = read_table(study.p_true(answers), P_TRUE)
    assert found["note"].to_list() == [NO_TOKENS] + [None] * 6
    assert np.isnan(found["p_true"][0])
    write_table(answers, ANSWERS, table[1:], provenance=origin)
    with pytest.raises(InputError, match="has no answer to item"):
        study.p_true(answers, name="again")


def test_a_tokenizer_without_yes_is_told_of(small_study, monkeypatch):
    study = small_study("llava", n_items=3)
    answers = study.extract()["answers"]
    monkeypatch.setattr("vrp.vlm.model.VLM.answer_token_ids", lambda *args, **kw: ())
    with pytest.raises(InputError, match=r"no token that begins 'yes'.*p_true.enabled"):
        study.p_true(answers)


def test_it_is_asked_only_where_the_study_wants_it():
    study = study_from_mapping(
        {"study": "s", "models": {"m": {"family": "llava", "checkpoint": "zoo:llava"}}}
    )
    assert not STAGE["p_true"].enabled(study)
    asked = study.model_copy(update={"p_true": study.p_true.model_copy(update={"enabled": True})})
    assert STAGE["p_true"].enabled(asked)
