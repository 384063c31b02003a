"""The explorer in a browser, from the disk: filters, rules, keys, links, layers, CSV, widths."""

import csv
import hashlib
import io
import re
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image
from synthetic_study import CONDITIONS, N_LAYERS, write_synthetic_study

from vrp.explorer.writer import ExplorerPlaces, write_explorer
from vrp.study.explorer_files import explorer_files
from vrp.study.results import open_results
from vrp.tables.answers import ANSWERS
from vrp.tables.interventions import ABLATE, MASK
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table, write_table
from vrp.tables.signals import signal_table, strata_of
from vrp.tables.trace import TRACE

pytestmark = [pytest.mark.slow, pytest.mark.browser]

MODELS = ("alpha", "beta")
N_ITEMS = 225


def keep_asked(made, folder, asked):
    """Keep the rows of a few items in alpha's tables of interventions, and none in beta's."""
    ids = read_table(made.items, ITEMS)["item_id"].sort()
    for schema in (MASK, ABLATE, TRACE):
        for model in MODELS:
            path = folder / model / f"{schema.name}.parquet"
            kept = ids[asked[schema.name]] if model == "alpha" else ids[:0]
            rows = read_table(path, schema).filter(pl.col("item_id").is_in(kept.implode()))
            write_table(path, schema, rows, provenance={"model": model})


def write_study(folder, tables=None, asked=None):
    """Write a study's explorer, of all its tables or of some, and return the results."""
    made = write_synthetic_study(folder, models=MODELS)
    (folder / "data").mkdir()
    items, digests = read_table(made.items, ITEMS), {}
    for index, name in enumerate(sorted(items["image"].unique())):
        Image.new("RGB", (160, 120), (4 * index, 90, 120)).save(folder / "data" / name)
        digests[name] = hashlib.sha256((folder / "data" / name).read_bytes()).hexdigest()
    items = items.with_columns(image_sha256=pl.col("image").replace_strict(digests))
    write_table(made.items, ITEMS, items, provenance={"study": "synthetic", "stage": "sample"})
    for model, path in zip(MODELS, made.tables["answers"], strict=True):
        blind = read_table(path, ANSWERS).with_columns(answer=pl.lit("Yes."))
        write_table(folder / model / "blind.parquet", ANSWERS, blind, provenance={"model": model})
    if asked:
        keep_asked(made, folder, asked)
    found = dict(made.tables)
    for name, file in (("ablate", "ablate"), ("trace", "trace"), ("blind/answers", "blind")):
        found[name] = [folder / model / f"{file}.parquet" for model in MODELS]
    shown = {name: found[name] for name in tables or found}
    boxes = {"boxes": folder / "boxes.parquet"} if tables is None else {}
    results = open_results(shown, conditions=CONDITIONS, margins=None, items=made.items, **boxes)
    files = explorer_files(MODELS, N_ITEMS, 32)
    places = ExplorerPlaces(
        folder / "explorer.html", folder / "explorer", files, folder / "data", 128
    )
    write_explorer(results, "synthetic", places, vqa_threshold=0.5)
    return results


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and results of a study with all tables."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, write_study(folder)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Folder of a study in which alpha was asked a few questions under interventions, beta none."""
    folder = tmp_path_factory.mktemp("sampled")
    write_study(folder, asked={"mask": slice(0, 3), "ablate": slice(1, 5), "trace": slice(10, 15)})
    return folder


@pytest.fixture
def opened(open_page):
    """Open the explorer of a folder; the page must complain of nothing and fetch nothing."""
    pages = []

    def explorer(folder, link="", **options):
        found = open_page(folder / "explorer.html", link, **options)
        found.page.wait_for_selector(".picture")
        pages.append(found)
        return found.page

    yield explorer
    for found in pages:
        assert (found.errors, found.requests) == ([], [])


def settle(page):
    """Wait for the frame in which the list is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def tally(page):
    return int(re.match(r"([\d,]+) answers?", page.inner_text("#tally"))[1].replace(",", ""))


def rows_in_sight(page):
    """Texts of the rows of the list, which are drawn in any order, from above."""
    settle(page)
    shown = page.locator(".row:visible")
    placed = zip(
        shown.evaluate_all("(all) => all.map((one) => Number(one.dataset.place))"),
        shown.all_inner_texts(),
        strict=True,
    )
    return [text for _, text in sorted(placed)]


def judged(results):
    """Answers of all models beside their signals and strata."""
    frames = []
    for model in results.models:
        signals = model.table(signal_table())
        frames.append(
            signals.with_columns(stratum=strata_of(signals), model=pl.lit(model.name)).join(
                model.table(ANSWERS).select("item_id", greedy="answer"), on="item_id"
            )
        )
    return pl.concat(frames)


def test_filters_leave_the_answers_that_the_tables_have(whole, opened):
    folder, results = whole
    page, rows = opened(folder), judged(results)
    assert tally(page) == len(rows) == 2 * N_ITEMS
    page.select_option("[name=model]", "beta")
    page.select_option("[name=task]", "counting")
    page.select_option("[name=outcome]", "wrong")
    wanted = rows.filter(model="beta", task="counting", correct=False)
    assert tally(page) == len(wanted)
    page.fill("[name=words]", "thing 3")
    found = wanted.join(results.table(ITEMS).select("item_id", "question"), on="item_id")
    assert tally(page) == found["question"].str.contains("thing 3", literal=True).sum()


def test_a_filter_leaves_the_questions_of_an_intervention(sampled, opened):
    # Of 225 questions alpha was asked 3 with masking, 4 with ablation, 5 in tracing; 2 are both
    # masked and ablated, and beta was asked none.
    page = opened(sampled)
    choices = page.locator("[name=intervention] option").all_inner_texts()
    assert choices == ["all", "any", "masking", "ablation", "tracing", "none"]
    for value, count in (("mask", 3), ("ablate", 4), ("trace", 5), ("any", 10), ("none", 440)):
        page.select_option("[name=intervention]", value)
        assert tally(page) == count
        assert f"intervention={value}" in page.url
    page.select_option("[name=intervention]", "mask")
    assert page.evaluate("document.activeElement === document.body")
    page.keyboard.press("j")
    page.wait_for_selector("[aria-label=Masking] tbody tr")
    again = opened(sampled, page.url[page.url.index("#") :])
    assert again.input_value("[name=intervention]") == "mask"
    assert tally(again) == 3


def test_without_interventions_there_is_nothing_to_choose(tmp_path, opened):
    write_study(tmp_path, tables=("answers",))
    page = opened(tmp_path, "#intervention=mask")
    assert page.locator("[name=intervention] option").all_inner_texts() == ["all"]
    assert tally(page) == 2 * N_ITEMS


def test_where_nothing_matches_neither_a_row_nor_an_answer_stays(whole, opened):
    page = opened(whole[0])
    assert rows_in_sight(page)
    page.fill("[name=words]", "zzzz")
    assert tally(page) == 0
    assert rows_in_sight(page) == []
    assert page.is_visible("text=No answer matches these filters.")
    assert page.inner_text("#card") == ""
    page.keyboard.press("Tab")
    page.keyboard.press("j")
    page.reload()
    page.wait_for_selector("text=No answer matches these filters.")
    assert page.inner_text("#card") == ""
    page.fill("[name=words]", "")
    assert tally(page) == 2 * N_ITEMS
    assert rows_in_sight(page)
    assert not page.is_visible("text=No answer matches these filters.")
    assert page.inner_text("#card h2") in rows_in_sight(page)[0]


def test_a_rule_that_no_answer_meets_can_be_let_go(whole, opened):
    page = opened(whole[0])
    page.click("#rules summary")
    page.get_by_role("button", name="Confident but wrong").click()
    page.fill("[name=words]", "zzzz")
    assert rows_in_sight(page) == []
    page.click("#rules button[aria-pressed=true]")
    page.fill("[name=words]", "")
    assert tally(page) == 2 * N_ITEMS


def test_the_rows_are_those_of_the_selection_once_the_rules_are_closed(whole, opened):
    page = opened(whole[0])
    page.click("#rules summary")
    page.get_by_role("button", name="Unsure but right").click()
    page.fill("[name=words]", "thing 3")
    few = rows_in_sight(page)
    assert len(few) == tally(page) > 0
    assert all("✓" in text for text in few)
    page.fill("[name=words]", "")
    before = rows_in_sight(page)
    page.click("#rules summary")
    after = rows_in_sight(page)
    assert all("✓" in text for text in after)
    assert after[: len(before)] == before
    # The list has grown, and rows fill it.
    lowest = page.locator(".row:visible").evaluate_all(
        "(all) => Math.max(...all.map((one) => one.getBoundingClientRect().bottom))"
    )
    edge = page.locator("#list").bounding_box()
    assert len(after) < tally(page)
    assert lowest >= edge["y"] + edge["height"]


@pytest.mark.parametrize("height", [720, 900])
def test_the_rules_scroll_within_their_panel_and_leave_the_list_its_rows(whole, opened, height):
    page = opened(whole[0], viewport={"width": 1280, "height": height})
    page.click("#rules summary")
    page.get_by_role("button", name="Confident but wrong").click()
    rows_in_sight(page)
    assert page.evaluate("document.documentElement.scrollHeight") == height
    room, row = (page.locator(one).first.bounding_box() for one in ("#list", ".row:visible"))
    assert room["height"] >= (8 if height == 900 else 4) * row["height"]
    last = page.locator("#rules tbody tr").last
    last.scroll_into_view_if_needed()
    panel, shown = page.locator("#rules").bounding_box(), last.bounding_box()
    assert panel["y"] + panel["height"] <= room["y"]
    assert panel["y"] < shown["y"]
    assert shown["y"] + shown["height"] <= panel["y"] + panel["height"]
    assert page.evaluate("document.querySelector('#rules .scroll').scrollWidth") <= panel["width"]


def test_a_rule_that_finds_nothing_says_so(whole, opened):
    folder, results = whole
    rows = judged(results).filter(model="alpha", correct=True)
    page = opened(folder)
    page.select_option("[name=model]", "alpha")
    page.select_option("[name=outcome]", "right")
    page.click("#rules summary")
    meaning = page.locator("#rules .meant", has_text="token confidence in the highest quarter")
    assert meaning.inner_text().endswith(f"; none of these {len(rows)} answers")
    page.select_option("[name=outcome]", "")
    page.get_by_role("button", name="Confident but wrong").click()
    page.select_option("[name=outcome]", "right")
    assert tally(page) == 0
    assert page.is_visible("text=No answer within these filters meets the rule.")


def test_each_rule_says_what_it_asks_for(whole, opened):
    page = opened(whole[0])
    page.click("#rules summary")
    text = page.inner_text("#rules tbody")
    assert "in the highest quarter of all judged answers of the model, and wrong" in text
    assert "the answer changes when the most attended image tokens are hidden" in text


def test_another_answer_is_shown_from_its_top(whole, opened):
    page = opened(whole[0])
    top = "document.getElementById('card').scrollTop"
    for move in (lambda: page.keyboard.press("j"), page.locator(".row:visible").nth(3).click):
        page.wait_for_selector("text=with the image")
        page.evaluate(top + " = 300")
        assert page.evaluate(top) == 300
        move()
        assert page.evaluate(top) == 0
    page.evaluate(top + " = 300")
    page.get_by_label("with sinks").uncheck()
    assert page.evaluate(top) == 300


def test_keys_move_through_the_list_after_a_choice(whole, opened):
    page = opened(whole[0])
    page.focus("[name=outcome]")
    page.select_option("[name=outcome]", "right")
    assert page.evaluate("document.activeElement === document.body")
    page.keyboard.press("j")
    settle(page)
    assert page.get_attribute("#list", "aria-activedescendant") == "row-1"
    # Arrow keys go on choosing until Escape.
    page.focus("[name=task]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.input_value("[name=task]")
    assert page.evaluate("document.activeElement.name") == "task"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_symbols_have_an_index_and_scores_a_meaning(whole, opened):
    page = opened(whole[0], "#layer=1")
    page.wait_for_selector("text=Heads of layer 1")
    page.click("#rules summary")
    text = page.inner_text("body")
    assert not re.search(r"\b[HCPS]_(s|k|tok|SC)\b", text)
    assert page.locator("th", has_text="nats").locator("sub").inner_text() == "s"
    assert "Every answer of study “synthetic”" in text
    page.select_option("[name=task]", "counting")
    assert "from 0 to 1; right from 0.5 on)" in page.inner_text("#card")


def test_a_rule_states_its_count_and_the_count_by_chance(whole, opened):
    folder, results = whole
    rows = judged(results).with_columns(
        high=pl.col("token_confidence")
        >= pl.col("token_confidence").quantile(0.75, "linear").over("model"),
        wrong=~pl.col("correct"),
    )
    cells = rows.group_by("model", "stratum").agg(
        pl.len(), pl.col("high").sum(), pl.col("wrong").sum(),
        both=(pl.col("high") & pl.col("wrong")).sum(),
    )  # fmt: skip
    expected = (cells["high"] * cells["wrong"] / cells["len"]).sum()
    page = opened(folder)
    page.click("#rules summary")
    row = page.locator("#rules tbody tr", has_text="Confident but wrong")
    count, chance = row.locator("td").nth(1), row.locator("td").nth(2)
    assert int(count.inner_text()) == cells["both"].sum()
    assert float(chance.inner_text()) == pytest.approx(expected, abs=0.051)
    row.locator("button").click()
    assert tally(page) == cells["both"].sum()
    assert "rule=confident_wrong" in page.url


def test_answers_are_sorted_by_a_signal_and_saved_in_that_order(whole, opened):
    folder, results = whole
    page = opened(folder)
    page.select_option("[name=model]", "alpha")
    page.select_option("[name=sort]", "signal spatial_entropy")
    page.select_option("[name=order]", "down")
    with page.expect_download() as saving:
        page.click("#csv")
    text = saving.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    table = judged(results).filter(model="alpha")
    assert len(rows) == len(table) == N_ITEMS
    values = [float(row["spatial_entropy"] or "nan") for row in rows]
    defined = [value for value in values if not np.isnan(value)]
    assert defined == sorted(table["spatial_entropy"].drop_nans().to_list(), reverse=True)
    assert np.isnan(values[len(defined) :]).all()
    of_item = {row["item_id"]: row for row in rows}
    for row in table.iter_rows(named=True):
        saved = of_item[row["item_id"]]
        assert saved["answer"] == row["greedy"]
        assert saved["correct"] == str(int(row["correct"]))
        assert float(saved["token_confidence"]) == row["token_confidence"]


def test_keys_move_through_the_list_and_the_list_follows(whole, opened):
    page = opened(whole[0])
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    settle(page)
    active = page.get_attribute("#list", "aria-activedescendant")
    assert active == "row-1"
    assert page.get_attribute(f"#{active}", "aria-selected") == "true"
    page.focus("#list")
    page.keyboard.press("End")
    settle(page)
    assert page.get_attribute("#list", "aria-activedescendant") == f"row-{2 * N_ITEMS - 1}"
    assert page.locator(f"#row-{2 * N_ITEMS - 1}").is_visible()
    assert page.locator(".row").count() < 40
    page.focus("[name=words]")
    page.keyboard.type("jk")
    assert page.input_value("[name=words]") == "jk"


def test_a_link_shows_the_same_again(whole, opened):
    folder, _ = whole
    page = opened(folder)
    page.select_option("[name=outcome]", "right")
    page.keyboard.press("j")
    page.get_by_role("slider", name="Layer").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_label("with sinks").uncheck()
    told = page.inner_text(".controls + .soft")
    assert told.startswith("Layer 1 without sinks: the most attended token has ")
    heading = page.inner_text("#card h3")
    again = opened(folder, page.url[page.url.index("#") :])
    assert again.inner_text("#card h3") == heading
    assert again.inner_text(".controls + .soft") == told
    assert again.input_value("[name=outcome]") == "right"


def test_the_slider_draws_each_layer_and_its_heads(whole, opened):
    page = opened(whole[0])
    slider = page.get_by_role("slider", name="Layer")
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("-1", str(N_LAYERS - 1))
    drawn = set()
    for layer in range(N_LAYERS):
        slider.fill(str(layer))
        drawn.add(page.evaluate("document.querySelector('.picture').toDataURL()"))
        assert f"Heads of layer {layer}" in page.inner_text("#card")
    assert len(drawn) == N_LAYERS
    page.get_by_label("most attended 30% of patches hidden").check()
    assert "Grey: the 43 of 144 image tokens" in page.inner_text(".controls + .soft")


def test_models_stand_side_by_side(whole, opened):
    page = opened(whole[0], "#all=1")
    assert [text.split(":")[0] for text in page.locator(".panel h3").all_inner_texts()] == [*MODELS]


def test_interventions_of_the_item_are_those_of_the_table(whole, opened):
    folder, results = whole
    item = results.table(ITEMS)["item_id"][0]
    page = opened(folder, f"#item={item}&shown=alpha")
    page.wait_for_selector("text=with the image")
    rows = results.models[0].table(MASK).filter(item_id=item, condition="random_30")
    shown = page.locator("tr", has=page.get_by_text("random 30% of patches", exact=True))
    cells = shown.first.locator("td").all_inner_texts()
    assert cells[1] == f"{rows['correct'].sum()} of {len(rows)}"
    assert cells[2] == f"{rows['changed'].sum()} of {len(rows)}"


def test_a_study_of_answers_alone_says_what_was_not_run(tmp_path, opened):
    write_study(tmp_path, tables=("answers",))
    text = opened(tmp_path).inner_text("#card")
    for missing in (
        "Attention: not run.", "Sampling: not run.", "Logit lens: not run.", "Signals: not run.",
        "Probes: not run.", "Masking: not run.", "Ablation: not run.", "Tracing: not run.",
        "blank image: not run",
    ):  # fmt: skip
        assert missing in text


def test_a_file_of_another_run_is_refused(whole, tmp_path, open_page):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "copy")
    spoilt = tmp_path / "copy" / "explorer" / "items" / "000.js"
    text = spoilt.read_text(encoding="utf-16")
    stamp = re.search(r'"([0-9a-f]{12})"', text)[1]
    spoilt.write_bytes(("\ufeff" + text.replace(stamp, "0" * 12)).encode("utf-16-le"))
    page = open_page(tmp_path / "copy" / "explorer.html").page
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith("explorer/items/000.js is of another run;")


def test_a_rule_shows_an_answer_that_meets_it_and_sorting_the_first(whole, opened):
    page = opened(whole[0])
    page.click("#rules summary")
    page.get_by_role("button", name="Confident but wrong").click()
    assert page.inner_text("#card .panel .tag") == "wrong"
    page.keyboard.press("j")
    page.select_option("[name=sort]", "signal token_confidence")
    settle(page)
    assert page.get_attribute("#list", "aria-activedescendant") == "row-0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way_of_anyone(whole, open_page, scheme):
    explorer = open_page(
        whole[0] / "explorer.html", "#all=1&rule=sharp_wrong&layer=2", color_scheme=scheme
    )
    explorer.page.wait_for_selector("text=Heads of layer 2")
    assert explorer.serious() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_in_either_light_it_can_be_read(whole, opened, scheme):
    page = opened(whole[0], "#all=1", color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
