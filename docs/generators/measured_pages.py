"""Pages of recorded measurements and simulations, from `benchmarks/results`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from md_text import table

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
_PERFORMANCE = """# Performance

Every number is a recorded measurement, listed with its processor; `python benchmarks/<name>.py`
repeats it. Ratios are medians over rounds in which both sides run alternately, with minimum and
maximum in brackets, so a machine that slows down favours neither. Answers of the embedded models
are one or two tokens long; longer answers share less work. The comparison at full size,
`benchmarks/full_size.py`, has not been recorded, for lack of a GPU.
"""
_SIMULATIONS = """# Simulations

Intervals, tests, verdicts and guarantees, checked on simulated data with a known truth.
`python benchmarks/inference.py` and `python benchmarks/risk_control.py` repeat the simulations;
`vrp simulate --config config/demo.yaml` simulates a study of your own size before any model runs.
"""
_ONE_SIGNAL = """## One signal, an image for each item

A 95% interval should cover the true AUROC in 95% of studies, and a test at 5% should reject a true
AUROC of 0.5 in 5%. *Too few* is the share of studies with fewer than ten images of right or of
wrong answers, which give no number. *Levels* is the number of different values of the signal.
Settings in which more than half of the studies have too few are not shown.
"""
_CLUSTERED = """## Few images, several items each

Answers and scores on one image are correlated: *answers* and *scores* give the shares of their
variance that are due to the image.
"""
_OVER_TASKS = """## Tasks of unequal size

1,000 items of each of three tasks and 90 of a fourth, 10 to 30% wrong: the AUROC within strata, and
the unweighted mean over tasks, whose variance is mostly that of the smallest.
"""
_RARE = """## Scores with two values, one of them rare

A score that is low for a few answers and has one value else: *low* gives the shares of right and of
wrong answers. All but the last tell more than the margin, so *equivalent* should be at most 5%.
"""
_VERDICTS = """## Verdicts at the papers' counts

Families of uninformative signals, at the accuracy of each published model: how often the verdict is
*yes*, which is wrong, and how often it is *no*. *Answer* marks signals that know only the emitted
answer. *At most* is how often *no* could be found of independent items whose variance is known: at
78.6% right there are too few wrong answers to show more often that every signal is within the
margin.
"""
_EFFECTS = """## Interventions at the papers' counts

How often an effect on accuracy is found, and how often it is shown to be none, by the share of
answers that change.
"""
_GUARANTEES = """## Thresholds with a guarantee

How often the true risk of accepted answers exceeds α, which may happen in 10% of the calibrations.
*Accepted* is given next to the share that an oracle accepts, which knows the risk. The worst of all
settings has {worst:.1%}. One question per image, by the exact binomial tail:
"""
_SEVERAL = """
{items} questions per image on {images} images, by betting; the labels of an image are independent
or all drawn together:
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
    judge, explorer = recorded("judge"), recorded("explorer_size")
    rows += [
        (f"`vrp judge` of {judge['rows']:,} answers, on two cores",
         f"{max(run['seconds'] for run in judge['runs']):.0f} s, "
         f"{max(run['peak_bytes'] for run in judge['runs']) / 1e6:.0f} MB", "judge"),
        (f"explorer of {explorer['items']:,} items and {explorer['models']} models, "
         f"{explorer['tokens']} image tokens, {explorer['layers']} layers",
         f"{explorer['all_bytes'] / 1e6:.0f} MB in {explorer['n_files']} files, the largest "
         f"{explorer['largest_bytes'] / 1e6:.1f} MB", "explorer_size"),
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
    """Return the page of what intervals, tests, verdicts and guarantees hold."""
    return "\n".join([_SIMULATIONS, *_inference(), *_guarantees()])


def _inference() -> Iterator[str]:
    found = recorded("inference")
    yield _ONE_SIGNAL
    settings = [
        one | {"wrong": _share(one["wrong"]), "levels": one["levels"] or "any"}
        for one in found["settings"]
    ]
    named = ("n", "wrong", "levels")
    yield table(("items", "wrong", "levels", *_HOLDS), _held(settings, named))
    yield _CLUSTERED
    named = ("images", "items_an_image", "of_answers", "of_signals")
    head = ("images", "items an image", "answers", "scores", *_HOLDS)
    yield table(head, _held(found["clustered"], named))
    yield _OVER_TASKS
    yield table(("average", *_HOLDS), _held(found["over_tasks"], ("average",)))
    yield _RARE
    rows = [
        (one["n"], one["n_wrong"], f"{_share(one['low_of_right'])}, {_share(one['low_of_wrong'])}",
         f"{one['auroc']:.3f}", one["studies"], _share(one["coverage"]), _share(one["equivalent"]))
        for one in found["rare"]
    ]  # fmt: skip
    head = ("items", "wrong", "low", "true AUROC", "studies", "covered", "equivalent")
    yield table(head, rows)
    yield _VERDICTS
    rows = [
        (one["model"], one["signals"], f"{one['correlation']:g}", f"{one['auroc']:.2f}",
         "✓" * one["answer_alone"], one["studies"],
         *(_share(one[name]) for name in ("yes", "no", "no_at_most")))
        for one in found["verdicts"]
    ]  # fmt: skip
    shown = ("correlation", "true AUROC", "answer", "studies", "yes", "no", "at most")
    yield table(("model", "signals", *shown), rows)
    yield _EFFECTS
    rows = [
        (one["items"], _share(one["changed"]), one["effect"], _share(one["found"]),
         _share(one["none"]), _share(one["coverage"]))
        for one in found["interventions"]
    ]  # fmt: skip
    head = ("items", "answers changed", "true effect, points", "found", "none shown", "covered")
    yield table(head, rows)
    yield made_on(found["hardware"])


def _guarantees() -> Iterator[str]:
    found = recorded("risk_control")
    yield _GUARANTEES.format(
        worst=max(found["most_violations"], found["several"]["most_violations"])
    )
    rows = [
        (one["risk"], one["n"], one["alpha"], one["levels"] or "any", _share(one["violations"]),
         _share(one["none"]), _share(one["accepted"]), _share(one["oracle"]))
        for one in found["settings"]
    ]  # fmt: skip
    held = ("broken", "nothing accepted", "accepted", "oracle")
    yield table(("risk", "items", "α", "levels", *held), rows)
    several = found["several"]
    yield _SEVERAL.format(**several)
    rows = [
        (one["risk"], one["alpha"], "together" if one["shared"] else "independent",
         *(_share(one[name]) for name in ("violations", "none", "accepted", "oracle")))
        for one in several["settings"]
    ]  # fmt: skip
    yield table(("risk", "α", "labels", *held), rows)
    yield made_on(found["hardware"])


_HOLDS = ("true AUROC", "studies", "too few", "covered", "rejects 0.5")


def _held(settings: Sequence[Mapping[str, Any]], named: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows of settings: what names them, and whether intervals and tests hold."""
    return [
        (*(one[name] for name in named), f"{one['auroc']:.2f}", one["studies"],
         _share(one["too_few"]), _share(one["coverage"]), _share(one["rejected"]))
        for one in settings if one["too_few"] < 0.5
    ]  # fmt: skip


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
