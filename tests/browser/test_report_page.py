"""The report as a reader uses it, in Chromium."""

import csv
import io

import pytest
from written_report import write_synthetic_report

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A report with two figures, of names that a phone's screen is narrow for."""
    return write_synthetic_report(
        tmp_path_factory.mktemp("report") / "study",
        models=("alpha", "gamma-3b-mix-224"),
        figures=("auroc_by_signal", "masking"),
    )


@pytest.fixture
def opened(path, open_page):
    return open_page(path)


def signals_of(page, model):
    tables = page.locator("section:has(#signals) table")
    return tables.filter(has=page.locator("caption", has_text=model)).first


def first_cells(table):
    return table.locator("tbody tr > :first-child").all_inner_texts()


def sort_button(table, text):
    return table.locator("thead button.sort", has_text=text).first


def test_nothing_goes_wrong_and_nothing_is_fetched(opened):
    opened.page.mouse.wheel(0, 40_000)
    opened.page.wait_for_timeout(300)
    assert opened.errors == []
    assert opened.requests == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 360)])
def test_axe_finds_nothing_serious(path, open_page, scheme, width):
    opened = open_page(path, color_scheme=scheme, viewport={"width": width, "height": 800})
    for details in opened.page.locator("details").all():
        details.evaluate("one => one.open = true")
    # The further rows of a table are like its first ones, and axe-core takes a minute for them.
    rows = opened.page.locator("tbody tr:nth-child(n + 9), .overlay:nth-child(n + 3)")
    rows.evaluate_all("all => all.forEach((one) => one.remove())")
    assert opened.serious() == []


def test_a_sorted_column_is_in_order_and_says_so(opened):
    table = signals_of(opened.page, "alpha")
    heading = sort_button(table, "AUROC")
    before = first_cells(table)
    heading.click()
    column = heading.evaluate("one => one.closest('th').cellIndex")
    cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
    numbers = [float(text.split()[0]) for text in cells if text[:1].isdigit()]
    assert len(numbers) > 5
    assert numbers == sorted(numbers)
    assert heading.evaluate("one => one.closest('th').ariaSort") == "ascending"
    heading.click()
    cells = table.locator(f"tbody tr > :nth-child({column + 1})").all_inner_texts()
    numbers = [float(text.split()[0]) for text in cells if text[:1].isdigit()]
    assert numbers == sorted(numbers, reverse=True)
    assert sorted(first_cells(table)) == sorted(before)


def test_a_sorted_row_keeps_the_name_that_stood_for_several(opened):
    table = opened.page.locator("#at-a-glance ~ .scroll table").first
    assert "" in first_cells(table)
    sort_button(table, "AUROC").click()
    assert "" not in first_cells(table)


def test_a_table_is_saved_as_csv_with_its_numbers(opened):
    table = opened.page.locator("#at-a-glance ~ .scroll table").first
    tools = opened.page.locator("#at-a-glance ~ .tools").first
    with opened.page.expect_download() as download:
        tools.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename.startswith("at-a-glance")
    with download.value.path().open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + table.locator("tbody tr").count()
    assert rows[0][:3] == ["read from", "model", "AUROC or effect"]
    shown = table.locator("tbody tr").first.locator("td").nth(1).inner_text().split()
    assert shown[0].partition("[")[0] == rows[1][2]
    assert all(row[0] for row in rows)


def test_a_table_is_copied_so_that_it_pastes_into_a_spreadsheet(path, open_page):
    opened = open_page(path, permissions=["clipboard-read", "clipboard-write"])
    opened.page.locator("#at-a-glance ~ .tools").first.get_by_role("button", name="Copy").click()
    text = opened.page.evaluate("navigator.clipboard.readText()")
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    assert rows[0][0] == "read from"
    assert len({len(row) for row in rows}) == 1


def test_dark_mode_is_dark(path, open_page):
    script = "getComputedStyle(document.body).backgroundColor"
    assert open_page(path, color_scheme="light").page.evaluate(script) == "rgb(255, 255, 255)"
    red = open_page(path, color_scheme="dark").page.evaluate(script)
    assert all(int(part) < 60 for part in red[4:-1].split(","))


@pytest.mark.parametrize("width", [360, 768])
def test_a_narrow_window_scrolls_down_only(path, open_page, width):
    opened = open_page(path, viewport={"width": width, "height": 740})
    for details in opened.page.locator("details").all():
        details.evaluate("one => one.open = true")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width


def test_the_contents_stay_in_sight_and_lead_to_every_part(opened):
    page = opened.page
    for link in page.locator("nav a").all():
        page.goto(f"{page.url.partition('#')[0]}{link.get_attribute('href')}")
        heading = page.locator(link.get_attribute("href"))
        assert heading.bounding_box()["y"] >= page.locator("nav").bounding_box()["height"] - 1
        assert page.locator("nav").bounding_box()["y"] <= 1 or page.evaluate("scrollY") < 400


def test_every_heading_has_an_anchor_of_its_own(opened):
    headings = opened.page.locator("h2, h3")
    for heading in headings.all():
        anchor = heading.locator("a.anchor")
        assert anchor.get_attribute("href") == f"#{heading.get_attribute('id')}"
    ids = headings.evaluate_all("all => all.map(one => one.id)")
    assert len(set(ids)) == len(ids)


def test_the_keyboard_skips_sorts_and_enlarges(opened):
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
    heading = sort_button(signals_of(page, "alpha"), "AUROC")
    heading.focus()
    page.keyboard.press("Enter")
    assert heading.evaluate("one => one.closest('th').ariaSort") == "ascending"
    figure = page.locator("button.enlarge").first
    figure.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("alt") == figure.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert figure.evaluate("one => one === document.activeElement")


def test_a_figure_enlarges_on_a_click_and_fills_the_window(opened):
    page = opened.page
    page.locator("button.enlarge").last.click()
    box = page.locator("dialog img").bounding_box()
    assert box["width"] > 1000
    assert page.locator("dialog").evaluate("one => one.contains(document.activeElement)")
    page.locator("dialog button").click()
    assert not page.locator("dialog").is_visible()


def test_numbers_lead_to_figures_and_figures_to_files(opened, path):
    page = opened.page
    page.locator("p.sources a[href='#figure-auroc_by_signal']").first.click()
    figure = page.locator("#figure-auroc_by_signal")
    assert figure.bounding_box()["y"] < 200
    for text in ("data (CSV)", "SVG"):
        href = figure.get_by_role("link", name=text).get_attribute("href")
        assert (path.parent / href).is_file()
    for link in page.locator("p.sources a:not([href^='#'])").all():
        assert (path.parent / link.get_attribute("href")).is_file()


def test_alt_texts_say_what_a_figure_shows(opened):
    alt = opened.page.locator("#figure-auroc_by_signal img").get_attribute("alt")
    assert "alpha, 0." in alt
    assert "gamma-3b-mix-224, 0." in alt


def test_it_prints_whole_in_black_on_white(path, open_page):
    opened = open_page(path, color_scheme="dark", viewport={"width": 760, "height": 1000})
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.locator(".tools").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 760
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_without_scripts_everything_can_be_read(path, open_page):
    page = open_page(path, java_script_enabled=False).page
    assert page.locator("figure > img").count() >= 2
    assert page.locator("table").count() > 10
    assert page.locator("button").count() == 0
