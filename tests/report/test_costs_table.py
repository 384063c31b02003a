"""Costs: forwards follow from the tables, milliseconds from the run's benchmark files."""

import polars as pl
import pytest

from vrp.errors import InputError
from vrp.estimates.stage_forwards import (
    Forwards,
    stage_forwards,
    stage_of,
    total_forwards,
)
from vrp.findings.evidence import ModelEvidence
from vrp.report.costs import costs_table, item_times
from vrp.signals.registry import SIGNALS
from vrp.study.graph import MADE_BY

BENCHMARK = "s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:20\t9\t{busy}\n"


def model(name="one", **fields):
    defaults = {
        "answers": pl.DataFrame({"item_id": [str(i) for i in range(40)]}),
        "signal_means": {"token_confidence": 0.9, "self_consistency": 0.8},
        "answer_tokens": 1.25,
        "k": 10,
        "origin": {"checkpoint": "zoo:llava"},
    }
    return ModelEvidence(name=name, **{**defaults, **fields})


def benchmark(path, seconds, busy):
    path.write_text(BENCHMARK.format(seconds=seconds, busy=busy))
    return path


def test_a_signal_s_stage_is_the_one_that_fills_its_tables():
    makers = {artifact.name: stage for artifact, stage in MADE_BY.items()}
    for signal in SIGNALS.values():
        for need in signal.needs:
            maker = makers[need.partition(".")[0]]
            if maker.runs_model:
                assert stage_of(need) == maker.name, need
                assert stage_forwards(maker.name, answer_tokens=2.0, k=3).prefills == 1


def test_forwards_by_hand():
    """Ten answers of 1.25 tokens: each token is read once more, after one prefill."""
    assert stage_forwards("extract", answer_tokens=1.25, k=10) == Forwards(1.0, 1.25)
    assert stage_forwards("consistency", answer_tokens=1.25, k=10) == Forwards(1.0, 12.5)
    both = total_forwards(("consistency", "blind"), answer_tokens=1.25, k=10)
    assert both == Forwards(2.0, 12.5)


def test_milliseconds_are_those_of_the_benchmark_files(tmp_path):
    """Two shards of 6 and 2 s over 40 items: 200 ms; half a core means half the time."""
    shards = [benchmark(tmp_path / "0.tsv", 6.0, 6.0), benchmark(tmp_path / "1.tsv", 2.0, 2.0)]
    half = [benchmark(tmp_path / "2.tsv", 8.0, 4.0)]
    asked = {("one", "extract"): shards, ("one", "consistency"): half, ("gone", "extract"): shards}
    found = item_times([model()], asked)
    assert found["one", "extract"] == pytest.approx(200.0, rel=0.1)
    assert found["one", "consistency"] == pytest.approx(100.0, rel=0.1)
    assert len(found) == 2
    on_gpu = model(origin={"checkpoint": "llava-hf/llava-1.5-7b-hf"})
    assert item_times([on_gpu], asked)["one", "consistency"] == 200.0


def test_a_broken_benchmark_is_named(tmp_path):
    path = tmp_path / "0.tsv"
    path.write_text("no benchmark\n")
    with pytest.raises(InputError, match=r"0\.tsv: is not a Snakemake benchmark"):
        item_times([model()], {("one", "extract"): [path]})


def test_the_table_by_hand():
    timed = {("one", "extract"): 4.0, ("one", "consistency"): 10.0}
    plain = model("two", signal_means={"token_confidence": 0.9})
    table = costs_table([model(), plain], timed)
    assert all(len(row) == len(table.columns) for row in table.rows)
    answer, samples = table.rows  # no blank image, no judgement
    assert [cell.text for cell in answer[2:]] == ["1 + 1.2", "4.00", "1 + 1.2", "–"]
    assert [cell.text for cell in samples[2:]] == ["1 + 12.5", "10.00", "not run", "not run"]
    assert (samples[3].detail, answer[5].detail) == ("2.50 answers", "not timed")
