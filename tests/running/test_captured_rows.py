"""Rows of the tables from hand-made captures: known values, notes, and whole-or-nothing writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hand_made_captures import N_HEADS, N_LAYERS, N_TOKENS, capture, item

from vrp.config.sample import ScoringConfig
from vrp.errors import InputError
from vrp.running.attention_rows import attention_rows
from vrp.running.captured_rows import answer_rows, hidden_rows, lens_rows
from vrp.running.shard import Output, write_together
from vrp.tables.answers import ANSWERS
from vrp.tables.attention import ATTENTION
from vrp.tables.hidden import hidden_table
from vrp.tables.lens import LENS
from vrp.tables.parquet_files import read_table, write_table


def written(tmp_path: Path, schema: Any, table: Any) -> list[dict[str, Any]]:
    """The rows after a round through the file, which checks the schema."""
    write_table(tmp_path / "t.parquet", schema, table, provenance={})
    return read_table(tmp_path / "t.parquet", schema).to_dicts()


def test_answers_are_scored_under_both_pope_parsers(tmp_path: Path):
    captures = [
        capture("a", answer="No, there is no dog"),
        capture("b", answer="There is a dog"),  # strict: unparsed; official: yes
        capture("c", answer="two", token_ids=(3, 4), token_logprobs=np.array([-1.0, -2.0])),
    ]
    vqa = item("c", dataset="vqa", task="counting", answers=["2"] * 10, reference="2")
    items = {"a": item("a"), "b": item("b"), "c": vqa}
    a, b, c = written(tmp_path, ANSWERS, answer_rows(captures, items, ScoringConfig()))
    assert (a["parsed"], a["correct"], a["correct_official"]) == ("no", False, False)
    assert (b["parsed"], b["correct"], b["correct_official"]) == (None, False, True)
    assert (c["parsed"], c["score"], c["correct_official"]) == ("2", 1.0, None)
    assert c["token_logprobs"] == [-1.0, -2.0]
    assert c["token_ids"] == [3, 4]
    assert c["n_image_tokens"] == 20


def test_own_yes_and_no_are_scored_under_both_parsers_too(tmp_path: Path):
    own = item("a", dataset="own", split="shop")
    (row,) = written(
        tmp_path, ANSWERS,
        answer_rows([capture("a", answer="There is a dog")], {"a": own}, ScoringConfig()),
    )  # fmt: skip
    assert (row["parsed"], row["correct"], row["correct_official"]) == (None, False, True)


def test_tokens_of_outlying_norm_are_sinks(tmp_path: Path):
    norms = np.tile(np.arange(20, dtype=np.float32), (2, 1))
    norms[1, 3] = 500
    rows = written(
        tmp_path, ATTENTION, attention_rows([capture("a", image_norms=norms), capture("b")])
    )
    assert [row["sinks"] for row in rows] == [[23], []]


def test_an_answer_without_a_reference_is_kept_and_not_judged(tmp_path: Path):
    unknown = item("a", dataset="own", answers=[], reference=None)
    given = [capture("a", answer="Yes.", flags=("no_truth_tokens",))]
    (row,) = written(tmp_path, ANSWERS, answer_rows(given, {"a": unknown}, ScoringConfig()))
    assert (row["answer"], row["parsed"]) == ("Yes.", "yes")
    assert [row[name] for name in ("score", "correct", "correct_official")] == [None] * 3
    (lens,) = written(tmp_path, LENS, lens_rows(given, {"a": unknown}))
    assert lens["note"] == "no reference answer"


def test_uniform_attention_has_the_entropy_of_its_tokens_and_no_cluster(tmp_path: Path):
    (row,) = written(tmp_path, ATTENTION, attention_rows([capture()]))
    assert np.allclose(row["maps"], 1 / N_TOKENS)
    assert np.allclose(row["image_mass"], 0.4)
    assert np.allclose(row["head_entropy"], np.log(N_TOKENS), atol=1e-6)
    assert np.shape(row["head_entropy"]) == (N_LAYERS, N_HEADS)
    assert np.array_equal(row["head_clusters"], np.zeros((N_LAYERS, N_HEADS)))
    assert row["note"] is None


def test_two_blobs_of_one_head_are_two_clusters_in_mixed_grids(tmp_path: Path):
    # 10×10 tokens: two squares of 2×2 hold all mass, 8 cells are under the 10% that may be active.
    grid = np.zeros((10, 10), dtype=np.float32)
    grid[:2, :2] = grid[7:9, 7:9] = 0.1
    heads = np.full((N_LAYERS, N_HEADS, 100), 1e-4, dtype=np.float32)
    heads[1, 2] = grid.reshape(-1)
    wide = capture(
        "wide", grid_h=10, grid_w=10, head_rows=heads, attention=heads.mean(1).astype(np.float32)
    )
    rows = written(tmp_path, ATTENTION, attention_rows([capture("a"), wide, capture("b")]))
    by_id = {row["item_id"]: row for row in rows}
    assert by_id["wide"]["head_clusters"][1] == [0, 0, 2]
    assert np.isclose(by_id["wide"]["head_entropy"][1][2], np.log(8), atol=1e-6)
    assert np.shape(by_id["a"]["maps"]) == (N_LAYERS, N_TOKENS)


def test_an_answer_without_tokens_has_no_attention(tmp_path: Path):
    silent = capture(
        answer="", token_ids=(), token_logprobs=np.zeros(0), flags=("no_answer_tokens",)
    )
    (row,) = written(tmp_path, ATTENTION, attention_rows([silent]))
    assert np.isnan(row["maps"]).all()
    assert np.isnan(row["head_entropy"]).all()
    assert row["note"] == "zero-token answer"
    (answer,) = written(tmp_path, ANSWERS, answer_rows([silent], {"i": item()}, ScoringConfig()))
    assert (answer["parsed"], answer["correct"], answer["token_ids"]) == (None, False, [])
    assert answer["note"] == "zero-token answer"


def test_broken_attention_says_so(tmp_path: Path):
    broken = capture().attention
    assert broken is not None
    broken[1, 3] = np.inf
    (row,) = written(tmp_path, ATTENTION, attention_rows([capture(attention=broken)]))
    assert row["note"] == "attention: non finite"
    assert np.isnan(row["maps"][1]).all()
    assert np.isfinite(row["maps"][0]).all()


def test_the_lens_keeps_every_layer(tmp_path: Path):
    (row,) = written(tmp_path, LENS, lens_rows([capture()], {"i": item()}))
    assert row["truth_margin"] == [-1.0, 1.0]
    assert (row["pair_top"], row["pair_runner_up"]) == (7, 9)
    parts = sum(row["attention_contribution"]) + sum(row["mlp_contribution"])
    assert row["embed_contribution"] + parts == row["logit_difference"] == 2.0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_hidden_states_go_to_their_layers(dtype: str, tmp_path: Path):
    schema = hidden_table(n_layers=2, d_model=4, dtype=dtype)
    states = {"prompt_end": np.arange(12.0).reshape(3, 4), "answer_end": np.full((3, 4), np.nan)}
    rows = written(tmp_path, schema, hidden_rows([capture(hidden=states)], dtype=dtype))
    by_position = {row["position"]: row for row in rows}
    assert by_position["prompt_end"]["embed"] == [0, 1, 2, 3]
    assert by_position["prompt_end"]["layer_01"] == [8, 9, 10, 11]
    assert np.isnan(by_position["answer_end"]["layer_00"]).all()


def test_a_value_that_float16_cannot_hold_stops_with_what_to_set():
    states = np.zeros((3, 4), dtype=np.float32)
    states[2, 1] = -70000
    with pytest.raises(InputError, match=r"layer 1, neuron 1 is -70000.*hidden_dtype to float32"):
        hidden_rows([capture(hidden={"prompt_end": states})], dtype="float16")
    states[2, 1] = np.inf  # missing already, not made so by storing it
    assert hidden_rows([capture(hidden={"prompt_end": states})], dtype="float16").num_rows == 1


def test_no_table_appears_where_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    outputs = [
        (Output(tmp_path / "lens.parquet", LENS), lens_rows([capture()], {"i": item()})),
        (Output(tmp_path / "attention.parquet", ATTENTION), attention_rows([capture()])),
    ]
    calls = []
    whole_write = pq.ParquetWriter.write_table

    def full_disk(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        whole_write(*arguments, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_together(outputs, provenance={})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_together(outputs, provenance={})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"lens.parquet", "attention.parquet"}
