"""The whole report over a study that no model made."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import polars as pl
import pytest
import synthetic_study
from described_data import write_described_data
from page_text import external_references, text_of
from stage_jobs import run_job
from written_report import ORIGIN, write_images

from vrp.config.data import DataConfig
from vrp.config.effects import EffectsConfig
from vrp.config.metrics import MetricsConfig
from vrp.config.report import ReportConfig
from vrp.errors import InputError
from vrp.report.page import SECTIONS
from vrp.tables.answers import ANSWERS
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert('x')</script> & \"quoted\" {{ 7 * 7 }}"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect width="4"/></svg>'


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Everything that the stage is called with, bar its outputs."""
    folder = tmp_path_factory.mktemp("study")
    study = synthetic_study.write_synthetic_study(folder / "tables", models=("alpha", "beta"))
    write_images(study.items, folder / "data")
    _with_hostile_text(study)
    _with_checkpoint(study.tables["answers"][0], "zoo:llava", "llava")
    sampled = {"dataset": "pope", "split": "adversarial", "found": 900, "usable": 800,
               "dropped": {"repeated question": 100}, "taken": 90, "unreadable": []}  # fmt: skip
    data = {"origin": "scenes", "files": {"pope/a.json": "ab" * 32}, "n_images": 60}
    described = write_described_data(folder, study.items, data=data, splits=[sampled])
    figures = [folder / "masking.svg", folder / "accuracy_by_task.svg", folder / "own.svg"]
    for path in figures:
        path.write_text(SVG)
    return {
        "folder": folder,
        **described,
        "items": study.items,
        "effects": study.effects,
        "tables": study.tables,
        "figures": figures,
    }


def write_report(inputs, summary, report, **sections):
    files = {name: path for name, path in inputs.items() if name not in ("folder", "tables")}
    run_job(
        "report",
        {**files, **inputs["tables"], "summary": summary, "report": report},
        study="synthetic",
        data=DataConfig(folder=str(inputs["folder"] / "data")),
        report=ReportConfig(title="Title & <b>more</b>", overlays=4),
        **synthetic_study.CONDITION_SECTIONS,
        provenance=ORIGIN,
        **sections,
    )


def _with_hostile_text(study):
    """Every question, and every open answer, tries to be markup."""
    frame = read_table(study.items, ITEMS).with_columns(question=pl.lit(HOSTILE))
    write_table(study.items, ITEMS, frame, provenance={"study": "synthetic", "stage": "sample"})
    path = study.tables["answers"][1]
    answers = read_table(path, ANSWERS)
    is_open = pl.col("item_id").str.starts_with("open")
    answers = answers.with_columns(
        pl.when(is_open).then(pl.lit(HOSTILE)).otherwise(pl.col(name)).alias(name)
        for name in ("answer", "parsed")
    )
    write_table(path, ANSWERS, answers, provenance={"model": "beta", "stage": "extract"})


def _with_checkpoint(path, checkpoint, family):
    origin = {"model": "alpha", "checkpoint": checkpoint, "family": family, "stage": "extract",
              "revision": "0123456789abcdef0123"}  # fmt: skip
    write_table(path, ANSWERS, read_table(path, ANSWERS), provenance=origin)


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(inputs, folder / "summary.json", folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    return page, json.loads((folder / "summary.json").read_text(encoding="utf-8"))


class Tree(HTMLParser):
    """Counts tags, checks that they nest, and keeps ids, links and images."""

    void = frozenset({"meta", "br", "img", "link", "line", "rect"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.alts = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.alts += [given.get("alt")] if tag == "img" else []
        assert not any(name.startswith("on") for name in given)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def parsed(page):
    tree = Tree()
    tree.feed(page)
    tree.close()
    assert tree.open == []
    return tree


def test_the_page_is_whole_and_needs_nothing_else(made):
    tree = parsed(made[0])
    assert external_references(made[0]) == []
    assert tree.tags.count("script") == 1
    assert "link" not in tree.tags
    assert len(tree.ids) == len(set(tree.ids))
    anchors = [f"#{anchor}" for anchor, _ in SECTIONS]
    assert list(dict.fromkeys(link for link in tree.links if link in anchors)) == anchors
    inside = {link for link in tree.links if link.startswith("#")}
    assert inside <= {f"#{name}" for name in tree.ids}
    assert "explorer.html" in tree.links
    assert all(tree.alts)


def test_external_references_are_noticed():
    page = '<img src="https://x/y.png"><a href="#a"><style>b{background:url(http://z)}</style>'
    assert external_references(page) == ["https://x/y.png", "http://z"]
    page = '<a href="figures/a.csv"><a href="https://x"><a href="//y/z"><img src="a.png">'
    assert external_references(page) == ["https://x", "//y/z", "a.png"]


def test_it_opens_with_the_answer_in_four_sentences(made):
    page, summary = made
    words = text_of(page)
    places = []
    for answer in summary["answers"]:
        bare = answer["sentence"].replace("_", " ")
        start = words.replace("\u00a0", " ").find(bare.split("(")[0].split("H s")[0].strip())
        assert start > 0, bare
        places.append(start)
    assert len(places) == 4
    assert places == sorted(places)
    assert places[-1] < words.index("At a glance")
    assert page.index('id="at-a-glance"') < page.index('id="reading"')


def test_text_from_data_is_never_markup(made):
    page, _ = made
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page  # no other script would run
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page  # shown, not evaluated
    assert "<title>Title &amp; &lt;b&gt;more&lt;/b&gt;" in page
    assert HOSTILE in text_of(page)


def test_every_part_is_there(made):
    words = text_of(made[0])
    for part in (
        "spatial entropy H s", "self-consistency S SC", "linear probe, blank image",
        "within one answer", "most attended 30% of patches − random", "whole MLP bypassed",
        "top 5 neurons, at 50% depth", "object identification", "repeated question: 100",
        "published", "not run", "LLaVA-1.5-7B", "permuted labels", "Figure 3.", "alpha", "beta",
        "(unparsed)", "0123456789abcdef", "c0ffee", "numpy 2.0", "Limitations",
        "most attended token", "VQA accuracy under both rules", "answers scored differently",
    ):  # fmt: skip
        assert part in words, part


def test_a_tiny_embedded_model_is_not_mistaken_for_the_published_one(made):
    words = text_of(made[0])
    assert "alpha is a tiny embedded model of this project" in words
    assert words.index("tiny embedded model") < words.index("The answer # Which of")
    assert "The tables of beta do not name the checkpoint that made them" in words


def test_embedded_models_on_photographs_and_lost_images_are_said_so(made, inputs, tmp_path):
    assert "near chance is expected" not in text_of(made[0])  # on scenes they are at home
    (row,) = json.loads(inputs["sampling"].read_text())["splits"]
    lost = {"missing": [f"gone_{i}.jpg" for i in range(3)], "unreadable": ["cut.jpg: truncated"]}
    described = write_described_data(
        tmp_path, inputs["items"], data={"origin": "local", "files": {}}, splits=[row | lost]
    )
    output = tmp_path / "out" / "report.html"
    write_report({**inputs, **described}, tmp_path / "out" / "summary.json", output)
    words = text_of(output.read_text(encoding="utf-8"))
    right = read_table(inputs["tables"]["answers"][0], ANSWERS)["correct"].mean()
    assert "alpha learnt from rendered scenes" in words
    assert "near chance is expected" in words
    assert f"Accuracy here: alpha {100 * right:.1f}%." in words
    assert "repeated question: 100 gone_0.jpg; gone_1.jpg; gone_2.jpg and 1 more" in words


def test_figures_stand_in_their_own_order_with_their_captions(made):
    words = text_of(made[0])
    assert words.index("Figure 1.") < words.index("Figure 2.") < words.index("Figure 3. Own")
    assert "specific" in words or "random draws" in words
    assert made[0].count("data:image/svg+xml;base64,") == 3


def test_overlays_are_images_of_right_and_wrong_answers(made):
    page, _ = made
    assert page.count('class="overlay"') == 8  # four a model
    assert page.count("data:image/webp;base64,") == 16
    assert page.count(">right</span>") == page.count(">wrong</span>") == 4


def test_summary_holds_the_numbers_of_the_tables(inputs, made):
    _, summary = made
    answers = read_table(inputs["tables"]["answers"][0], ANSWERS)
    model = summary["models"]["alpha"]
    assert model["accuracy"]["pooled"]["value"] == pytest.approx(answers["correct"].mean())
    assert model["family"] == "llava"
    assert model["checkpoint"] == "zoo:llava"
    assert summary["items"]["n"] == len(answers) == model["accuracy"]["pooled"]["n"]
    auroc = model["auroc"]["spatial_entropy"]["within_strata"]
    assert auroc["low"] < auroc["value"] < auroc["high"]
    # One has no value; the fifteen open items are too few of a kind.
    assert auroc["n_dropped"] == 16
    assert "too few" in auroc["note"]
    assert model["auroc"]["linear_best"]["within_strata"]["value"] > 0.6
    assert set(model["correlation"]) == {"C_k", "H_s", "S_SC"}
    fisher, by_image = (
        model["correlation"]["S_SC"][key] for key in ("pooled_fisher", "pooled_by_image")
    )
    assert fisher["value"] == pytest.approx(by_image["value"], abs=1e-5)
    assert fisher["low"] != by_image["low"]
    assert model["precision_unanimous"]["pooled"]["value"] > 0.5
    assert model["probe"]["best_layer_by_fold"] == [4] * 5
    assert model["guards"]["blank image"]["outcome"] in {"holds", "fails", "unsettled"}
    mask = model["interventions"]["mask"]
    assert mask["main_condition"] == "top_30"
    assert mask["conditions"]["top_30"]["all"]["value"] < 0
    gap = mask["conditions"]["top_30 - random_30"]["all"]["value"]
    assert mask["specificity"]["value"] == gap
    assert len(mask["conditions"]["random_30"]["all"]["per_seed"]) == 5
    assert summary["versions"] == {"numpy": ["2.0"], "vrp": ["0.0"]}
    assert len(summary["answers"]) == 4
    assert set(summary["answers"][0]["verdicts"]) == {"alpha", "beta"}


def test_the_same_tables_give_the_same_report(inputs, made, tmp_path):
    write_report(inputs, tmp_path / "s.json", tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == made[0]


def test_the_page_states_the_margins_that_were_configured(inputs, made, tmp_path):
    assert "(in this study ±0.05 in AUROC, ±0.1 in R, ±2 percentage points)" in made[0]
    write_report(
        inputs,
        tmp_path / "s.json",
        tmp_path / "r.html",
        metrics=MetricsConfig(auroc_margin=0.025, r_margin=0.2),
        effects=EffectsConfig(equivalence_pp=0.5),
    )
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "(in this study ±0.025 in AUROC, ±0.2 in R, ±0.5 percentage points)" in page


def test_a_study_without_probes_interventions_or_figures(inputs, tmp_path):
    """Tables that a study did not make are said to be missing, not made up."""
    tables = {
        name: inputs["tables"][name] for name in ("answers", "attention", "signals", "metrics")
    }
    write_report(
        {**inputs, "tables": tables, "figures": []}, tmp_path / "s.json", tmp_path / "r.html"
    )
    summary = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert summary["answers"][2]["short"] == "Not run"
    assert summary["models"]["alpha"]["probe"]["best"] is None
    words = text_of((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "hidden states were not probed" in words
    assert "No figures were given." in words


@pytest.mark.parametrize("missing", ["sampling", "data", "items", "effects"])
def test_a_missing_input_is_one_clear_line_and_nothing_is_written(inputs, tmp_path, missing):
    given = {**inputs, missing: tmp_path / "absent"}
    with pytest.raises(InputError, match="absent: no such file"):
        write_report(given, tmp_path / "s.json", tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_is_no_svg_is_refused(inputs, tmp_path):
    bad = tmp_path / "bad.svg"
    bad.write_text("<html></html>")
    with pytest.raises(InputError, match="is not an SVG"):
        write_report({**inputs, "figures": [bad]}, tmp_path / "s", tmp_path / "r")


def test_a_table_of_an_unknown_model_is_refused(inputs, tmp_path):
    tables = {**inputs["tables"], "answers": inputs["tables"]["answers"][:1]}
    with pytest.raises(InputError, match="no answers were given for model 'beta'"):
        write_report({**inputs, "tables": tables}, tmp_path / "s", tmp_path / "r")


def test_the_stage_needs_no_torch():
    code = "import sys, vrp.stages.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
