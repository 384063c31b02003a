"""Pages of recorded measurements and simulations, from `benchmarks/results`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from md_text import table

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_PERFORMANCE = """# Performance

Every number is a recorded measurement, named with the processor that it ran on; `python
benchmarks/<name>.py` repeats it. Ratios are medians of rounds in which the contestants take turns
in one run, with the least and the most in brackets, so that a machine that slows down favours none.
Answers of the embedded models are one or two tokens long; longer answers share less. The comparison
at full size is `benchmarks/full_size.py`; no GPU was at hand to record it.
"""
_SIMULATIONS = """# Simulations

What intervals and tests promise, checked on drawn data whose truth is known. `python
benchmarks/inference.py` repeats it; `vrp simulate --config config/demo.yaml` does the same for the
counts of a study of yours, before any model runs.

A 95% interval should cover the true AUROC in 95% of studies, and a test at 5% should reject a true
AUROC of 0.5 in 5%. *Too few* is the share of studies with fewer than ten images of right or of
wrong answers: they get no number instead of a wrong one. *Levels* is how many values the signal
takes.
"""


def recorded(name: str) -> dict[str, Any]:
    """Return the record that a benchmark wrote."""
    return json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def made_on(hardware: Mapping[str, Any]) -> str:
    """Return a line that says what a record was made on."""
    versions = ", ".join(
        f"{name.replace('_', '-')} {version}"
        for name, version in hardware.items()
        if name not in ("processor", "cores", "load_1_min", "system", "accelerator") and version
    )
    return f"\n*{_processor(hardware)}, {hardware['system']}; {versions}.*\n"


def performance_page() -> str:
    """Return the page of measured ratios, times and sizes."""
    parts = [_PERFORMANCE, *_extraction(), *_interventions(), *_others()]
    return "\n".join(parts)


def _extraction() -> Iterator[str]:
    found = recorded("extraction")
    yield (
        "## Reading a model\n\n`limit` is plain `generate` on the same batches with nothing "
        "captured. `capture` reads everything: attention, H_s and C_k of every head, hidden "
        "states, lens, contributions. `usual` is eager attention with full maps, one item at a "
        "time, and K separate samples. In the study's mix images have several questions, which "
        "share one encoding of the image and, in causal models, one prefill.\n"
    )
    for mix in ("study mix", "one question an image"):
        yield f"### {mix.capitalize()}\n"
        yield _ratio_table({name: one[mix]["ratios"] for name, one in found["families"].items()})
    yield made_on(found["hardware"])
    rows = [
        (name, length, f"{size['ratio']:.2f}")
        for name, one in found["families"].items()
        for length, size in one["memory"].items()
    ]
    yield "### Memory of a full capture, in parts of plain `generate`\n"
    yield table(["model", "prompt tokens", "ratio"], rows)


def _interventions() -> Iterator[str]:
    found = recorded("interventions")
    ablations = found["settings"]["ablations"]
    yield (
        "## Interventions\n\nIn bare passes over the items: a whole prompt for each item, nothing "
        f"captured. `ablation` is {ablations} conditions in the last quarter of the layers; "
        "`plain` is the same by whole forwards.\n"
    )
    yield _ratio_table({name: one["ratios"] for name, one in found["families"].items()})
    yield made_on(found["hardware"])


def _ratio_table(by_model: Mapping[str, Mapping[str, Any]]) -> str:
    first = next(iter(by_model.values()))
    rows = [(name, *(_ratio(ratios[name]) for ratios in by_model.values())) for name in first]
    return table(["ratio", *by_model], rows)


def _ratio(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} [{found['least']:.2f}, {found['most']:.2f}]"


def _others() -> Iterator[str]:
    """Probes, cluster counts, sampling, planning, verification."""
    probes, clusters = recorded("probes"), recorded("cluster_count")
    sampling, dag = recorded("sampling"), recorded("dag")
    plan, checks = recorded("plan_accuracy")["demo"], recorded("verification")
    rows = [
        (f"linear probes of {probes['setting']['layers']} layers with "
         f"{probes['setting']['permutations']} permutations, {probes['setting']['items']:,} items "
         f"of width {probes['setting']['width']:,}",
         f"{probes['ratio']['value']:.0f} times as fast as scikit-learn's loop, the same AUROC to "
         f"{probes['largest_difference_in_auroc']:.0e}", "probes"),
        (f"cluster counts of {clusters['maps']:,} attention maps",
         f"{clusters['ratio_wall']:.0f} times as fast as scikit-learn's DBSCAN, equal counts",
         "cluster_count"),
        (f"sampling items from {sampling['rows']:,} VQA questions",
         f"{sampling['vqa']['wall_s_median']:.1f} s, "
         f"{sampling['vqa']['peak_resident_bytes_max'] / 1e6:.0f} MB", "sampling"),
        ("planning the papers' study in 20 and in 2,000 shards, "
         f"{dag['shards']['20']['jobs']:,} and {dag['shards']['2000']['jobs']:,} jobs",
         f"{dag['shards']['20']['wall_s']:.0f} s and {dag['shards']['2000']['wall_s']:.0f} s",
         "dag"),
        ("`vrp plan` of the default study, from the rates of two small ones",
         f"{plan['planned_seconds'] / 60:.0f} min planned, "
         f"{plan['taken_seconds'] / 60:.0f} min taken",
         "plan_accuracy"),
        ("checking tables and their origins, largest share of a stage's processor time",
         f"{max(one['share'] for one in checks['stages'].values()):.1%}", "verification"),
    ]  # fmt: skip
    cells = [
        (what, result, f"`benchmarks/{name}.py`", _processor(_hardware(name)))
        for what, result, name in rows
    ]
    yield "## Everything else\n\n" + table(["what", "result", "measured by", "on"], cells)


def _hardware(name: str) -> Mapping[str, Any]:
    record = recorded(name)
    return record.get("hardware") or record["made_on"]


def _processor(hardware: Mapping[str, Any]) -> str:
    return f"{hardware['processor']}, {hardware['cores']} cores"


def simulation_page() -> str:
    """Return the page of what intervals and tests hold."""
    found = recorded("inference")
    rows = [
        (one["n"], f"{one['wrong']:.0%}", f"{one['auroc']:.3g}", one["levels"] or "continuous",
         f"{one['too_few']:.1%}", "–" if one["coverage"] is None else f"{one['coverage']:.1%}",
         f"{one['rejected']:.1%}")
        for one in found["settings"] if one["too_few"] < 0.5
    ]  # fmt: skip
    skipped = len(found["settings"]) - len(rows)
    head = ["items", "wrong", "true AUROC", "levels", "too few", "covered", "rejects 0.5"]
    return "\n".join(
        [
            _SIMULATIONS,
            f"{found['repeats']:,} studies of each setting. {skipped} settings in which more than "
            "half of the studies have too few right or wrong answers are left out.\n",
            table(head, rows),
            made_on(found["hardware"]),
        ]
    )
