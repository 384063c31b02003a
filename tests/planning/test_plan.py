"""Plans of whole studies: counts and operations by hand, rates and sizes from planted studies."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from mask_rows import mask_rows

from vrp.cli import main
from vrp.config.study import StudyConfig, load_study, study_from_mapping
from vrp.errors import InputError
from vrp.planning.analysis_work import amount_of, planned_analyses
from vrp.planning.cost_fit import Measured, fit_line, fit_power
from vrp.planning.devices import CPU, DEFAULT_GPU, DEVICES
from vrp.planning.disk import data_bytes, model_tables
from vrp.planning.measured_rates import read_measured
from vrp.planning.plan import LONGEST_JOB, make_plan, n_gpus
from vrp.planning.plan_text import plan_json, plan_text
from vrp.planning.resources import StudyResources
from vrp.planning.workload import (
    Lengths,
    assumed_lengths,
    device_memory,
    largest_batch,
    model_work,
    questions_per_image,
)
from vrp.study.graph import STAGE, STAGES
from vrp.study.job_benchmarks import job_seconds
from vrp.tables.answers import ANSWERS
from vrp.tables.hidden import hidden_table
from vrp.tables.parquet_files import write_table

CONFIG = Path(__file__).parents[2] / "config"
# Those that every study runs: P(True) is asked only where a study wants it.
MODEL_STAGES = tuple(stage.name for stage in STAGES if stage.runs_model and stage.name != "p_true")


@pytest.fixture(scope="module")
def paper() -> StudyConfig:
    return load_study(CONFIG / "paper.yaml")


@pytest.fixture(scope="module")
def demo() -> StudyConfig:
    return load_study(CONFIG / "demo.yaml")


def changed(given: StudyConfig, **sections: Any) -> StudyConfig:
    """The study with some keys changed."""
    plain = given.model_dump(mode="json")
    for name, value in sections.items():
        plain[name] = {**plain[name], **value} if isinstance(value, dict) else value
    return study_from_mapping(plain)


# What there is to compute


def test_operations_of_the_extraction_equal_a_count_by_hand(paper: StudyConfig) -> None:
    """LLaVA-1.5-7B: 6.476e9 numbers in decoder layers, two operations each a token."""
    work = model_work(paper, "llava-1.5-7b")["extract"]
    n_tokens = 576 + 65  # Vicuna's frame with the suffix and a question
    n_behind = 18  # the question and what follows it; what precedes them is run once an image
    n_shared = n_tokens - n_behind
    shared = 2 * 6.476e9 * n_shared + 4 * 32 * n_shared**2 * 4096
    behind = 2 * 6.476e9 * n_behind + 4 * 32 * n_behind * n_tokens * 4096
    decode = 2 * 6.476e9 + 2 * 131e6
    image = 2 * 577 * 303e6 + 2 * 576 * 21e6
    unembed_every_layer = 32 * 2 * 131e6
    # 1,000 POPE questions meet about 432 of 500 images; VQA's images hardly repeat.
    images = 432 + 2_063
    by_hand = 3_090 * (behind + decode + unembed_every_layer) + images * (shared + image)
    assert work.n_answers == 3_090
    assert work.flops == pytest.approx(by_hand, rel=0.05)


def test_counts_of_the_papers_study_by_hand(paper: StudyConfig) -> None:
    work = model_work(paper, "llava-1.5-7b")
    assert tuple(work) == MODEL_STAGES
    # Masking: a sham, top, five random draws, bottom, no image; three more shares, top and five
    # random draws each, of 1,000 items.
    assert work["mask"].n_answers == 3_090 * 9 + 1_000 * 3 * 6
    # Ablation: a sham and 5 conditions once, matched sets of 1 to 10 neurons in 20 repeats, five
    # kinds of random ones in 5, the MLP once.
    assert work["ablate"].n_answers == 1_000 * (1 + 5 + 5 * 20 + 5 * 5 + 1)
    # Tracing: with the image and a blank one; windows of 6 of 32 layers, twice; a patch a layer.
    assert work["trace"].n_answers == 1_000 * (2 + 2 * 27 + 32)
    assert (work["mask"].n_shards, work["extract"].n_shards) == (8, 4)


def test_the_trunk_is_computed_once(paper: StudyConfig) -> None:
    """One edit above all layers leaves the trunk, one unembedding and one decode step."""
    top: Any = {"conditions": [{"kind": "top", "count": 5, "layer": 1.0}], "items": 1000}
    twice: Any = {
        "conditions": [*top["conditions"], {"kind": "top", "count": 10, "layer": 1.0}],
        "items": 1000,
    }
    one = model_work(changed(paper, ablate=top), "llava-1.5-7b")["ablate"].flops
    two = model_work(changed(paper, ablate=twice), "llava-1.5-7b")["ablate"].flops
    # A second edit at the top costs an unembedding and a decode step: 15 GFLOP of 8.7 TFLOP.
    assert (two - one) / 1_000 == pytest.approx(2 * 131e6 + 2 * 6.476e9 + 2 * 131e6, rel=0.05)


def test_questions_that_share_an_image(demo: StudyConfig) -> None:
    one: Any = {"splits": [{"dataset": "pope", "split": "random", "task": "existence", "count": 9}]}
    assert questions_per_image(changed(demo, sample=one)) == pytest.approx(1.01, abs=0.01)
    # 1,000 over 400 images meet 400·(1 − (1 − 1/400)¹⁰⁰⁰) = 367.3; 2,090 over 600 meet 581.6.
    assert questions_per_image(demo) == pytest.approx(3_090 / (367.3 + 581.6), rel=0.001)


def test_textvqas_larger_photographs_are_planned(paper: StudyConfig) -> None:
    half = [
        {"dataset": "pope", "split": "adversarial", "task": "existence", "count": 100},
        {"dataset": "textvqa", "split": "val", "task": "text", "count": 300},
    ]
    official = {"origin": "official", "official": ["pope", "vqa", "textvqa"]}
    study = changed(paper, sample={"splits": half}, data=official)
    qwen, llava = (study.models[name] for name in ("qwen2-vl-7b", "llava-1.5-7b"))
    # 640×480 is 23×17 tokens of 28 pixels, 1024×768 is 37×27.
    assert assumed_lengths(study, qwen).n_image == (23 * 17 + 3 * 37 * 27) / 4
    assert assumed_lengths(study, llava).n_image == 576
    assert device_memory(study, "qwen2-vl-7b", "extract", batch_size=4) > device_memory(
        paper, "qwen2-vl-7b", "extract", batch_size=4
    )
    # Both sets of photographs, and the larger archive.
    assert data_bytes(study) == data_bytes(paper) + 7_200_000_000 + 420_000_000
    alone = changed(paper, sample={"splits": half[1:]}, data={**official, "official": ["textvqa"]})
    assert data_bytes(alone) == 7_200_000_000 + 7_070_000_000
    assert data_bytes(changed(paper, data={"origin": "local"})) == 0


def test_stages_that_are_switched_off_are_not_planned(demo: StudyConfig) -> None:
    study = changed(demo, extract={"blind": False}, mask={"enabled": False})
    work = model_work(study, "llava")
    assert tuple(work) == ("extract", "consistency", "ablate", "trace")
    assert {table.table for table in make_plan(study, device=CPU).tables}.isdisjoint(
        {"mask", "blind/hidden", "blind/answers"}
    )


def test_the_ablation_can_be_switched_off(demo: StudyConfig) -> None:
    study = changed(demo, ablate={"enabled": False})
    assert "ablate" not in model_work(study, "llava")
    assert "ablate" not in {table.table for table in make_plan(study, device=CPU).tables}


def test_what_another_study_has_is_not_planned_again(
    demo: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # whose results are nobody's
    plan = make_plan(changed(demo, study="second", extraction_from="demo"), device=CPU)
    own = {"mask", "ablate", "trace"}
    assert {stage.stage for stage in plan.stages if stage.n_answers} == own
    assert {table.table for table in plan.tables}.isdisjoint({"answers", "hidden", "blind/hidden"})
    assert {"signals", "mask"} <= {table.table for table in plan.tables}
    # The tables are read all the same.
    second = StudyResources(changed(demo, study="second", extraction_from="demo"))
    assert second.mem_mb("probes", "llava") == StudyResources(demo).mem_mb("probes", "llava")


# Memory and GPUs


def test_the_samplings_rows_are_in_its_memory(paper: StudyConfig) -> None:
    name = "llava-1.5-7b"
    bare = device_memory(paper, name, "mask", batch_size=16)
    sampled = device_memory(paper, name, "consistency", batch_size=16)
    # Half a mebibyte a token; 576 + 65 + 40 + 10 tokens; eleven more rows for each of 16 items.
    more_cache = 11 * 16 * 691 * 2**19
    assert sampled - bare == pytest.approx(1.1 * more_cache, rel=0.1)


@pytest.mark.parametrize("stage", MODEL_STAGES)
def test_the_largest_batch_fits_and_the_next_does_not(paper: StudyConfig, stage: str) -> None:
    study = changed(
        paper,
        extract={"batch_size": 64},
        consistency={"batch_size": 64},
        mask={"batch_size": 64},
        ablate={"batch_size": 64},
        trace={"batch_size": 64},
    )
    memory = 30 * 2**30
    batch = largest_batch(study, "llava-1.5-7b", stage, memory=memory)
    assert 0 < batch < 64
    assert device_memory(study, "llava-1.5-7b", stage, batch_size=batch) <= memory
    assert device_memory(study, "llava-1.5-7b", stage, batch_size=batch + 1) > memory
    assert largest_batch(study, "llava-1.5-7b", stage, memory=10 * 2**30) == 0


def test_gpus_follow_device_map_and_size() -> None:
    study = load_study(CONFIG / "paper-13b.yaml")
    assert study.models["llava-1.5-13b"].device_map == "auto"
    small, large = DEVICES["rtx4090"], DEVICES["h200"]
    # 26.7 GB of weights.
    assert n_gpus(study, "llava-1.5-13b", small) == 2
    assert n_gpus(study, "llava-1.5-13b", large) == 1
    plan = make_plan(study, device=small)
    assert plan.gpu_seconds == pytest.approx(
        2 * sum(stage.seconds for stage in plan.stages if stage.device == "rtx4090")
    )
    one: Any = study.model_dump(mode="json")
    one["models"]["llava-1.5-13b"]["device_map"] = None
    assert n_gpus(study_from_mapping(one), "llava-1.5-13b", small) == 1
    notes = make_plan(study_from_mapping(one), device=small).notes
    assert any("even for one item" in note and "device_map" in note for note in notes)


# Rates


def test_a_planted_line_is_found() -> None:
    slopes = {"one": 2.0, "two": 5.0}
    rows = [
        Measured(group, work, 3.0 + slope * work)
        for group, slope in slopes.items()
        for work in (1.0, 4.0, 20.0)
    ]
    line = fit_line(rows)
    assert line.start == pytest.approx(3.0)
    assert line.slopes == pytest.approx(slopes)
    assert line.cost("two", 10.0, n=4) == pytest.approx(4 * 3.0 + 50.0)
    assert line.slope("other") == pytest.approx(3.5)


def test_one_size_of_work_is_mostly_its_constant() -> None:
    line = fit_line([Measured("", 10.0, 6.0), Measured("", 10.0, 6.4)])
    assert line.start == pytest.approx(0.85 * 6.0)
    assert line.cost("", 10.0) == pytest.approx(6.2)
    capped = fit_line([Measured("", 10.0, 100.0)], most_start=8.0)
    assert capped.start == 8.0
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_line([])


def test_a_planted_power_is_found() -> None:
    factors = {"one": 3.0, "two": 8.0}
    rows = [
        Measured(group, work, 50.0 + factor * work**0.7)
        for group, factor in factors.items()
        for work in (10.0, 1_000.0)
    ]
    power = fit_power(rows, start=50.0)
    assert power.exponent == pytest.approx(0.7)
    assert power.factors == pytest.approx(factors)
    # Two files of half the work each.
    assert power.cost("two", 200.0, n=2) == pytest.approx(2 * (50.0 + 8.0 * 100**0.7))
    assert fit_power(rows[:1], start=50.0).exponent == 1.0
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_power([], start=0.0)


@pytest.mark.parametrize(
    ("seconds", "busy", "own"),
    [
        # Looked at every half second: processor time is that of the end.
        (8.0, 4.0, 4.0),
        # The last look was at 15.5 + 30 s, when half of a core had been had.
        (60.0, 23.0, 30.0),
        # Several threads: more processor time than the clock's.
        (60.0, 120.0, 60.0),
    ],
)
def test_what_other_programs_took_is_left_out(
    tmp_path: Path, seconds: float, busy: float, own: float
) -> None:
    path = tmp_path / "000.tsv"
    path.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:01:00\t{busy}\n")
    assert list(job_seconds(path, on_gpu=False)) == pytest.approx([own], rel=0.04)
    assert list(job_seconds(path, on_gpu=True)) == [seconds]
    path.write_text(f"s\th:m:s\tcpu_time\n{seconds}\t0:01:00\tNA\n")
    assert list(job_seconds(path, on_gpu=False)) == [seconds]
    path.write_text("s\nsoon\n")
    with pytest.raises(InputError, match="not a Snakemake benchmark"):
        list(job_seconds(path, on_gpu=False))


START, PER_TFLOP, PER_WORK = 6.0, 20.0, 1e-6
LENGTHS = Lengths(20.0, 144.0, 3.0)


def plant(results: Path, study: StudyConfig) -> None:
    """A finished study whose jobs took START + PER_TFLOP · TFLOP seconds."""
    results.mkdir(parents=True)
    (results / "config.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    work = {name: model_work(study, name, LENGTHS) for name in study.models}
    for name, stages in work.items():
        for stage, planned in stages.items():
            for shard in range(planned.n_shards):
                path = results / "benchmarks" / stage / name / f"{shard:03d}.tsv"
                benchmark(path, START + PER_TFLOP * planned.tflop / planned.n_shards)
        plant_answers(results / name / "answers" / "000.parquet")
    for stage, _ in planned_analyses():
        for name in study.models if stage.per == "model" else [""]:
            place = results / "benchmarks" / stage.name / f"{name}.tsv"
            place = place if name else results / "benchmarks" / f"{stage.name}.tsv"
            benchmark(place, 1.0 + PER_WORK * amount_of(study, stage, name, work))


def benchmark(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\tcpu_time\n{seconds}\tNA\n")


def plant_answers(path: Path, n: int = 4) -> None:
    columns: dict[str, Any] = {
        "item_id": [f"item-{i}" for i in range(n)],
        "answer": ["two cars"] * n,
        "parsed": ["2"] * n,
        "score": [1.0] * n,
        "correct": [True] * n,
        "correct_official": [None] * n,
        "token_ids": [[5, 6]] * n,
        "token_logprobs": [[-0.1, -0.2]] * n,
        "first_token_entropy": [0.1] * n,
        "first_token_ids": [[3]] * n,
        "first_token_logprobs": [[-0.1]] * n,
        "decision_margin": [1.0] * n,
        "close_choices": [0] * n,
        "n_prompt_tokens": [164] * n,
        "n_image_tokens": [144] * n,
        "note": [None] * n,
    }
    write_table(path, ANSWERS, columns, provenance={})


def small(study: StudyConfig, count: int, *, shards: int) -> StudyConfig:
    splits = [
        {**split.model_dump(), "count": round(count * split.count / 3_090)}
        for split in study.sample.splits
    ]
    return changed(
        study,
        study=f"small-{count}",
        sample={"splits": splits},
        extract={"shards": shards},
        mask={"items": 100, "conditions": mask_rows(dose_items=30), "shards": shards},
        ablate={"items": 100, "shards": shards},
    )


def test_rates_of_small_studies_predict_a_large_one(tmp_path: Path, demo: StudyConfig) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    plant(places[0], small(demo, 60, shards=2))
    plant(places[1], small(demo, 300, shards=1))
    known = read_measured(places, gpu=DEFAULT_GPU)
    plan = make_plan(demo, device=DEFAULT_GPU, calibration=known)
    work = {name: model_work(demo, name, LENGTHS) for name in demo.models}
    for stage in plan.stages:
        assert stage.measured
        if stage.stage in MODEL_STAGES:
            expected = START + PER_TFLOP * work[stage.model][stage.stage].tflop
        else:
            expected = 1.0 + PER_WORK * amount_of(demo, STAGE[stage.stage], stage.model, work)
        if stage.stage != "fetch_data":  # as many images in every study
            assert stage.seconds == pytest.approx(expected, rel=0.01)
    assert plan.calibrated_by == ("small-60", "small-300")


def test_lengths_come_from_the_answers(tmp_path: Path, demo: StudyConfig) -> None:
    plant(tmp_path / "study", small(demo, 60, shards=1))
    known = read_measured([tmp_path / "study"], gpu=DEFAULT_GPU)
    # Two tokens and the end of the sequence; 164 tokens, 144 of them the image's.
    assert known.lengths_of(demo, demo.models["llava"]) == Lengths(20.0, 144.0, 3.0)
    elsewhere = changed(demo, data={"origin": "local"})
    assert known.lengths_of(elsewhere, demo.models["llava"]) is None


def test_saved_rates_are_the_same_rates(tmp_path: Path, demo: StudyConfig) -> None:
    plant(tmp_path / "study", small(demo, 60, shards=2))
    known = read_measured([tmp_path / "study"], gpu=DEFAULT_GPU)
    (tmp_path / "rates.json").write_text(known.as_json())
    assert read_measured([tmp_path / "rates.json"], gpu=DEFAULT_GPU) == known
    (tmp_path / "rates.json").write_text("{}")
    with pytest.raises(InputError, match="holds no measured rates"):
        read_measured([tmp_path / "rates.json"], gpu=DEFAULT_GPU)
    with pytest.raises(InputError, match=r"holds no config\.yaml"):
        read_measured([tmp_path], gpu=DEFAULT_GPU)


def test_rates_of_one_gpu_are_not_used_for_a_processor(tmp_path: Path, paper: StudyConfig) -> None:
    place = tmp_path / "study"
    plant(place, changed(paper, study="small"))
    known = read_measured([place], gpu=DEVICES["h200"])
    stages = make_plan(paper, device=DEVICES["h200"], calibration=known).stages
    assert all(stage.measured for stage in stages)
    stages = make_plan(paper, device=DEVICES["t4"], calibration=known).stages
    assert not any(stage.measured for stage in stages if stage.stage in MODEL_STAGES)


def test_published_speed_without_a_measurement(paper: StudyConfig) -> None:
    plan = make_plan(paper, device=DEVICES["a100-80"])
    (stage,) = [s for s in plan.stages if (s.stage, s.model) == ("mask", "llava-1.5-7b")]
    compute = stage.tflop / (0.3 * 312)
    load = 8 * (15 + 14.127e9 / 5e8)
    assert stage.seconds == pytest.approx(compute + load + 0.01 * stage.n_answers, rel=0.01)
    assert make_plan(paper, device=DEVICES["h200"]).gpu_seconds < plan.gpu_seconds


def test_shards_make_jobs_of_at_most_two_hours(paper: StudyConfig) -> None:
    plan = make_plan(paper, device=DEVICES["t4"])
    for key, (now, good) in plan.shards.items():
        section = key.split(".")[0]
        assert now == getattr(paper, section).shards
        study = changed(paper, **{section: {"shards": good}})
        stages = ("extract", "blind", "consistency") if section == "extract" else (section,)
        jobs = [s for s in make_plan(study, device=DEVICES["t4"]).stages if s.stage in stages]
        longest = max(job.seconds / job.n_jobs for job in jobs)
        assert 0.5 * LONGEST_JOB < longest < LONGEST_JOB + 120


# Disk


def test_finished_batches_are_counted_until_the_run_succeeds(paper: StudyConfig) -> None:
    plan = make_plan(paper, device=DEVICES["l40s"])
    # The states of one position in 16 bits, asked with the image and without it: layers and the
    # embedding, each of the model's width.
    values = 33 * 4096 + 19 * 2048 + 29 * 3584
    states = 2 * 2 * 3_090 * values
    others = [t for t in plan.tables if t.table in ("answers", "attention", "lens", "consistency")]
    assert len(others) == 3 * 4
    assert states < plan.batch_bytes < 1.2 * (states + sum(t.n_bytes for t in others) / 0.6)
    assert plan.most_bytes == plan.n_bytes + plan.batch_bytes
    assert f"while it runs   {plan.most_bytes / 1e9:.1f} GB" in plan_text(plan)
    assert json.loads(plan_json(plan))["totals"]["most_results_bytes"] == plan.most_bytes


@pytest.mark.parametrize(("model", "dtype"), [("llava", "float32"), ("qwen2_vl", "float16")])
def test_raw_bytes_of_hidden_states_are_arrows(demo: StudyConfig, model: str, dtype: str) -> None:
    study = changed(demo, extract={"hidden_dtype": dtype})
    work = model_work(study, model)
    (planned,) = [t for t in model_tables(study, model, work, LENGTHS) if t.table == "hidden"]
    n_layers = {"llava": 6, "qwen2_vl": 8}[model]
    schema = hidden_table(n_layers=n_layers, d_model=128, dtype=dtype).columns
    states = np.zeros((planned.n_rows, 128), dtype=dtype)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), 128)
    names = [f"vqa/spatial/{262_000_000 + i}" for i in range(planned.n_rows)]
    table = pa.table(
        [names, ["prompt_end"] * len(names), *[vectors] * (n_layers + 1)], schema.names
    )
    assert planned.raw_bytes == pytest.approx(table.nbytes, rel=0.02)


def test_sizes_of_small_studies_predict_a_large_one(tmp_path: Path, demo: StudyConfig) -> None:
    """Hidden states of noise, written as the stage does; a tenth is the promise, this is nearer."""
    rng = np.random.default_rng(0)
    sizes = {}
    for count in (60, 300, 3_090):
        study = demo if count == 3_090 else small(demo, count, shards=1)
        results = tmp_path / str(count)
        if count < 3_090:
            plant(results, study)
        n = sum(split.count for split in study.sample.splits)
        path = results / "llava" / "hidden" / "000.parquet"
        plant_hidden(path, n, rng)
        sizes[count] = path.stat().st_size
    known = read_measured([tmp_path / "60", tmp_path / "300"], gpu=DEFAULT_GPU)
    plan = make_plan(demo, device=DEFAULT_GPU, calibration=known)
    (planned,) = [t for t in plan.tables if (t.table, t.model) == ("hidden", "llava")]
    assert planned.measured
    assert planned.n_bytes == pytest.approx(sizes[3_090], rel=0.02)


def plant_hidden(path: Path, n: int, rng: np.random.Generator) -> None:
    schema = hidden_table(n_layers=6, d_model=128, dtype="float32")
    layers = {
        name: pa.FixedSizeListArray.from_arrays(
            pa.array(rng.standard_normal(n * 128).astype(np.float32)), 128
        )
        for name in schema.columns.names[2:]
    }
    ids = [f"vqa/spatial/{262_000_000 + i}" for i in range(n)]
    table = pa.table({"item_id": ids, "position": ["prompt_end"] * n, **layers})
    write_table(path, schema, table, provenance={"study": "planted"})


def test_floats_are_stored_without_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "000.parquet"
    plant_hidden(path, 200, np.random.default_rng(0))
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    encodings = {
        metadata.column(i).path_in_schema: metadata.column(i).encodings
        for i in range(metadata.num_columns)
    }
    assert "RLE_DICTIONARY" in encodings["position"]
    assert "RLE_DICTIONARY" not in encodings["layer_00.list.element"]
    assert path.stat().st_size < 200 * 128 * 7 * 4 * 1.02 + 8_000


# Text, JSON, command line


def test_a_model_that_is_not_known_is_named_and_left_out(
    paper: StudyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    plain = paper.model_dump(mode="json")
    plain["models"]["other"] = {"family": "auto", "checkpoint": "someone/other-vlm"}
    plan = make_plan(study_from_mapping(plain), device=DEFAULT_GPU)
    assert {stage.model for stage in plan.stages} == {"", *paper.models}
    assert "someone/other-vlm are not known" in plan.left_out["other"]
    head, warning, *_ = plan_text(plan).split("\n\n")
    assert head.startswith("Study paper")
    assert warning.startswith("Warning: model other is left out of all numbers below: the dim")
    assert json.loads(plan_json(plan))["left_out"] == plan.left_out


@pytest.mark.slow
def test_a_checkpoint_in_the_cache_is_measured_there(
    paper: StudyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vrp.planning.published_dimensions import published_checkpoint

    snapshot = tmp_path / "models--someone--other-llava" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    config = published_checkpoint("llava-1.5-7b").config
    (snapshot / "config.json").write_text(json.dumps(config))
    reference = tmp_path / "models--someone--other-llava" / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("0" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    plain = paper.model_dump(mode="json")
    mine = {**plain["models"]["llava-1.5-7b"], "checkpoint": "someone/other-llava"}
    plain["models"]["other"] = {**mine, "revision": None}
    study = study_from_mapping(plain)
    assert list(make_plan(study, device=DEFAULT_GPU).left_out) == ["other"]
    plan = make_plan(study, device=DEFAULT_GPU, measure=True)
    seconds = {stage.model: stage.seconds for stage in plan.stages if stage.stage == "consistency"}
    # Its prompt is not known: without a tokenizer it counts as somewhat shorter.
    assert seconds["other"] == pytest.approx(seconds["llava-1.5-7b"], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "n_image", "decoder", "image_tflop"),
    # Weights in 16 bits; numbers in decoder layers; and to encode an image: 632e6, 413e6 and 304e6
    # numbers with 1,564, 4,096 and 1,025 patches, and attention of every patch to every other, but
    # for Qwen2.5-VL's windows. To it, 640×480 pixels are 23×17 tokens of 28×28.
    [
        ("qwen2.5-vl-7b", 16_584_333_312, 391, 6.53e9, 2.0),
        ("gemma-3-4b", 8_600_158_944, 256, 3.21e9, 3.4 + 2.1),
        ("internvl3-8b", 15_888_747_520, 256, 6.53e9, 0.62 + 0.1),
    ],
)
def test_any_model_is_planned_from_its_configuration(
    paper: StudyConfig,
    tmp_path: Path,
    name: str,
    weights: int,
    n_image: int,
    decoder: float,
    image_tflop: float,
) -> None:
    configurations = Path(__file__).parents[1] / "support" / "configurations"
    (tmp_path / "config.json").write_text((configurations / f"{name}.json").read_text())
    plain = paper.model_dump(mode="json")
    own = {"family": "auto", "checkpoint": str(tmp_path), "dtype": "bfloat16"}
    study = study_from_mapping({**plain, "models": {"own": own}})
    assert StudyResources(study).mem_mb("extract", "own") == 48_000  # before it is measured
    plan = make_plan(study, device=DEVICES["a100-80"], measure=True)
    assert {stage.stage for stage in plan.stages if stage.model} >= set(MODEL_STAGES)
    assert not plan.left_out
    assert assumed_lengths(study, study.models["own"]).n_image == n_image
    (extract,) = [stage for stage in plan.stages if stage.stage == "extract"]
    # 40 tokens of text, 18 of them behind the image; 3,090 questions about some 2,495 images.
    of_images = 2_495 * (2 * decoder * (n_image + 22) / 1e12 + image_tflop)
    by_hand = of_images + 3_090 * 2 * decoder * 18 / 1e12
    assert extract.tflop == pytest.approx(by_hand, rel=0.1)
    assert weights < extract.memory < 1.1 * weights + 16 * 1e9
    resources = StudyResources(study)
    assert 1.25 * weights / 1e6 < resources.mem_mb("extract", "own") < 1.25 * weights / 1e6 + 8_000
    assert resources.runtime("extract", "own") < 480


def test_text_and_json_say_the_same(paper: StudyConfig) -> None:
    plan = make_plan(paper, device=DEVICES["l40s"])
    text, plain = plan_text(plan), json.loads(plan_json(plan))
    assert "NVIDIA L40S" in text
    assert "blind/hidden" in text
    assert f"{plan.gpu_seconds / 3600:.1f} hours" in text
    assert (
        plain["totals"]["results_bytes"]
        == plan.n_bytes
        == sum(table["n_bytes"] for table in plain["tables"])
    )
    assert plain["shards"]["mask.shards"]["now"] == 8
    assert "consistency of llava-1.5-7b needs up to" in text


def test_the_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], demo: StudyConfig
) -> None:
    plant(tmp_path / "study", small(demo, 60, shards=2))
    rates, out = tmp_path / "rates.json", tmp_path / "plan.json"
    command = ["plan", str(CONFIG / "demo.yaml"), "--measured", str(tmp_path / "study")]
    main([*command, "--save-rates", str(rates), "--json", str(out)])
    printed = capsys.readouterr().out
    assert "Rates measured in: small-60" in printed
    again = ["plan", str(CONFIG / "demo.yaml"), "--measured", str(rates)]
    main(again)
    assert capsys.readouterr().out == printed
    assert json.loads(out.read_text())["n_items"] == 3_090


@pytest.mark.parametrize("name", ["ci", "demo", "paper", "paper-13b"])
def test_every_study_of_the_project_can_be_planned(name: str) -> None:
    plan = make_plan(load_study(CONFIG / f"{name}.yaml"), device=DEFAULT_GPU)
    assert not plan.left_out
    assert all(stage.seconds > 0 for stage in plan.stages)
    assert all(table.n_bytes > 0 for table in plan.tables)


def test_the_document_says_what_the_papers_study_takes(paper: StudyConfig) -> None:
    page = " ".join((CONFIG.parent / "docs" / "start" / "gpu.md").read_text().split())
    plan, other = (make_plan(paper, device=DEVICES[name]) for name in ("a100-80", "rtx4090"))
    assert (
        f"{plan.gpu_seconds / 3600:.1f} hours of an A100 with 80 GB, or "
        f"{other.gpu_seconds / 3600:.1f} hours of an RTX 4090" in page
    )
    reading = [one for one in plan.stages if one.stage in ("extract", "blind", "consistency")]
    assert f"{sum(one.seconds for one in reading) / 60:.0f} minutes of the A100" in page
    assert f"another {plan.cpu_seconds / 3600:.0f} hours of one processor core" in page
    assert f"results {plan.n_bytes / 1e9:.0f} GB" in page


# What the rules ask for


def test_resources_grow_with_the_attempt(paper: StudyConfig) -> None:
    resources = StudyResources(paper)
    for stage in (*MODEL_STAGES, "metrics", "probes"):
        first = resources.mem_mb(stage, "llava-1.5-7b"), resources.runtime(stage, "llava-1.5-7b")
        third = (
            resources.mem_mb(stage, "llava-1.5-7b", 3),
            resources.runtime(stage, "llava-1.5-7b", 3),
        )
        assert third == (3 * first[0], 3 * first[1])
    # 14.1 GB of weights pass through main memory.
    assert 18_000 < resources.mem_mb("extract", "llava-1.5-7b") < 30_000
    assert resources.gpu("extract", "llava-1.5-7b") == 1
    assert resources.gpu("metrics", "llava-1.5-7b") == 0


def test_embedded_models_ask_for_little(demo: StudyConfig) -> None:
    resources = StudyResources(demo)
    for stage in MODEL_STAGES:
        for name in demo.models:
            assert resources.gpu(stage, name) == 0
            # Measured: under 1 GB.
            assert 1_000 < resources.mem_mb(stage, name) <= 2_000
            assert resources.runtime(stage, name) == 60
    for stage in ("sample", "effects", "figures", "report"):
        assert resources.mem_mb(stage) <= 2_000


def test_what_is_not_known_asks_for_plenty(
    paper: StudyConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    plain = paper.model_dump(mode="json")
    plain["models"] = {"other": {"family": "auto", "checkpoint": "someone/other-vlm"}}
    resources = StudyResources(study_from_mapping(plain))
    assert resources.mem_mb("extract", "other") == 48_000
    assert resources.gpu("extract", "other") == 1
    assert resources.gpu("metrics", "other") == 0
    assert resources.runtime("report") >= 60


def test_a_shard_needs_less_time_than_the_whole(paper: StudyConfig) -> None:
    whole = StudyResources(changed(paper, mask={"shards": 1}), device=DEVICES["t4"])
    shard = StudyResources(changed(paper, mask={"shards": 200}), device=DEVICES["t4"])
    assert whole.runtime("mask", "llava-1.5-7b") > 10 * shard.runtime("mask", "llava-1.5-7b")
    work = model_work(changed(paper, mask={"shards": 200}), "llava-1.5-7b")["mask"]
    assert (work.n_shards, work.batch_size) == (200, 16)


def test_thousands_of_jobs_are_asked_for_at_once(paper: StudyConfig) -> None:
    resources = StudyResources(changed(paper, extract={"shards": 200}))
    start = time.process_time()
    for _ in range(200):
        for stage in MODEL_STAGES:
            for name in paper.models:
                resources.mem_mb(stage, name, 2)
                resources.runtime(stage, name, 1)
                resources.gpu(stage, name)
    assert time.process_time() - start < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["vrp.planning.resources", "vrp.planning.plan_text", "vrp.planning.measured_rates"]
)
def test_planning_starts_at_once(module: str) -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'scipy', 'polars', 'pyarrow', 'huggingface_hub'}"
    code = f"import sys, {module}; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "set()"), done.stderr


@pytest.mark.slow
def test_the_command_loads_no_model_library() -> None:
    config = str(CONFIG / "paper.yaml")
    code = (
        "import sys; from vrp.cli import main; "
        f"main(['plan', {config!r}]); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_plan_lists_every_condition(demo: StudyConfig) -> None:
    rows = [*mask_rows(random_seeds=5, dose=(), controls=()), {"kind": "object"}]
    rows.append({"kind": "random_object", "seeds": 2})
    ablate = {"items": 500, "conditions": [{"kind": "mlp"}]}
    study = changed(demo, mask={"items": 1000, "conditions": rows}, ablate=ablate)
    plan = make_plan(study, device=DEFAULT_GPU)
    found = {(one.stage, one.model, one.condition): one for one in plan.conditions}
    names = [
        one.condition for one in plan.conditions if (one.stage, one.model) == ("mask", "llava")
    ]
    assert names == ["sham", "top_30", "random_30", "object", "random_object"]
    random = found["mask", "llava", "random_30"]
    assert (random.n_items, random.n_answers) == (1000, 5000)
    # Half of the 1,000 POPE questions are about an object that is there: 162 of every 1,000 items.
    assert found["mask", "llava", "random_object"].n_answers == 2 * 162
    # By hand: a tenth of the answers are won and a tenth lost; an effect of d beyond them has the
    # variance (0.2 + d) / 1,000, and 1.96 + 0.84 standard errors are found with 80% power.
    d = random.smallest_pp / 100
    assert d == pytest.approx(2.8 * ((0.2 + d) / 1000) ** 0.5, rel=0.01)
    d = found["ablate", "llava", "mlp_bypass"].smallest_pp / 100
    assert d == pytest.approx(2.8 * ((0.2 + d) / 500) ** 0.5, rel=0.01)
    assert np.isnan(found["trace", "llava", "patch"].smallest_pp)
    for stage in plan.stages:
        own = [one for one in plan.conditions if (one.stage, one.model) == stage[:2]]
        assert sum(one.seconds for one in own) <= stage.seconds * (1 + 1e-9)
        if own:
            assert sum(one.n_answers for one in own) == stage.n_answers
    text = plan_text(plan)
    assert re.search(r"mask +random_30 +1,000 +15,000 .* 4.4 pp", text)
    listed = json.loads(plan_json(plan), parse_constant=pytest.fail)["conditions"]
    assert len(listed) == len(plan.conditions)
    assert listed[0]["smallest_pp"] is None  # of the sham, which is no effect


def test_hidden_tokens_cost_nothing_where_they_are_left_out(paper: StudyConfig) -> None:
    """Half of 576 image tokens are half of the prompt's work; not where they stay in it."""
    rows = [{"kind": kind, "share": 0.5, "mode": mode} for mode in ("attention", "embedding")
            for kind in ("top", "random")]  # fmt: skip
    work = model_work(changed(paper, mask={"conditions": rows}), "llava-1.5-7b")["mask"]
    flops = {one.condition: one.flops for one in work.conditions}
    ratio = flops["top_50"] / flops["top_50_embedding"]
    assert ratio == pytest.approx((641 - 288) / 641, rel=0.05)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"mask": {"conditions": [
            {"kind": "top", "share": 0.3, "layers": [0, 99]}, {"kind": "random", "share": 0.3}]}},
         "mask.conditions: top_30_layers0to99 reads layer 99, but model llava has layers 0 to 5"),
        ({"ablate": {"conditions": [{"kind": "head", "heads": [0, 99]}]}},
         "head_99 asks for head 99, but model llava has heads 0 to 3"),
        ({"ablate": {"conditions": [{"kind": "random", "count": 1_000_000}]}},
         "asks for 1000000 neurons, but model llava has 128"),
        ({"trace": {"window": 77}}, "trace.window: 77 layers, but model llava has 6"),
        ({"extract": {"capture": ["attention"]}, "mask": {"conditions": [
            {"kind": "top", "share": 0.3, "ranking": "without_sinks"},
            {"kind": "random", "share": 0.3}]}},
         "top_30_without_sinks needs residual_update in extract.capture"),
        ({"mask": {"conditions": [{"kind": "object"}]}}, "object has no random_object"),
        ({"mask": {"conditions": [{"kind": "top", "share": 0.3, "mode": "pixels"},
                                  {"kind": "random", "share": 0.3}]}},
         "top_30_pixels has no random_30_pixels to be compared with"),
        ({"ablate": {"conditions": [{"kind": "steer", "doses": [2]}]}},
         "steer_2 has no steer_random_2"),
        ({"data": {"origin": "local"}, "mask": {"conditions": [
            {"kind": "object"}, {"kind": "random_object"}]}},
         "object needs the objects' boxes; name the data set's annotation file"),
    ],
)  # fmt: skip
def test_conditions_that_cannot_run_are_refused_before_anything_does(
    demo: StudyConfig, sections: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        make_plan(changed(demo, **sections), device=DEFAULT_GPU)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
