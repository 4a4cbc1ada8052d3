"""The report in a real browser: drawn, silent, in two languages, sortable, printable."""

import re

import pytest

from tests.reports.conftest import Open

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

KINDS = pytest.mark.parametrize("kind", ["full", "poor", "bare"])
NOT_A_WORD = re.compile(r"\b(NaN|None|undefined|null|inf|Infinity|nan)\b|⟦|⟧|\{\w+\}")


@KINDS
def test_nothing_is_fetched_and_nothing_goes_wrong(open_report: Open, kind: str) -> None:
    opened = open_report(kind)
    assert opened.complaints == []
    assert len(opened.requests) == 1
    assert opened.requests[0].startswith("file://")


def test_every_chart_is_drawn(open_report: Open) -> None:
    page = open_report("full").page
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    charts = page.query_selector_all("[data-chart]")
    assert len(charts) > 25
    visible = [chart for chart in charts if chart.is_visible()]
    assert len(visible) > 20
    empty = [
        chart.get_attribute("data-chart")
        for chart in visible
        if not chart.query_selector_all(".main-svg .trace, .main-svg .hm, .main-svg .heatmaplayer image")
    ]
    assert empty == []


@KINDS
@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_word_of_a_program_is_shown(open_report: Open, kind: str, language: str) -> None:
    page = open_report(kind, language).page
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    text = page.inner_text("main") + " ".join(page.locator(".main-svg text").all_text_contents())
    assert len(text) > 500
    assert NOT_A_WORD.findall(text) == []


def test_the_language_can_be_switched(open_report: Open) -> None:
    page = open_report("full", "zh").page
    headings = page.locator("h2").all_inner_texts()
    titles = page.locator(".main-svg .ytitle").all_text_contents()
    heads = page.locator("table th").first.inner_text()
    assert re.search(r"[\u4e00-\u9fff]", "".join(headings))
    page.click("[data-set-lang=en]")
    page.wait_for_timeout(300)
    english = page.locator("h2").all_inner_texts()
    assert len(english) == len(headings)
    assert not re.search(r"[\u4e00-\u9fff]", "".join(english))
    assert page.locator("table th").first.inner_text() != heads
    assert page.get_attribute("html", "lang") == "en"
    assert not re.search(r"[\u4e00-\u9fff]", page.title())
    assert page.locator(".main-svg .ytitle").all_text_contents() != titles
    legends = " ".join(page.locator(".legendtext").all_text_contents())
    assert "benchmark" in legends.lower()
    page.click("[data-set-lang=zh]")
    page.wait_for_timeout(300)
    assert page.locator("h2").all_inner_texts() == headings


def test_tables_sort_by_number_and_by_keyboard(open_report: Open) -> None:
    page = open_report("full").page
    table = page.locator("#parameters table, table").filter(has=page.locator("th button")).nth(0)
    heads = table.locator("th")
    column = next(i for i in range(heads.count()) if "txt" not in (heads.nth(i).get_attribute("class") or ""))

    def values() -> list[float]:
        cells = table.locator(f"tbody tr td:nth-child({column + 1})")
        return [float(v) for v in (cells.nth(i).get_attribute("data-v") for i in range(cells.count())) if v]

    heads.nth(column).locator("button").click()
    assert heads.nth(column).get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    assert len(set(values())) > 1
    heads.nth(column).locator("button").press("Enter")
    assert heads.nth(column).get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())


def test_a_choice_changes_the_charts(open_report: Open) -> None:
    page = open_report("full").page
    read = "() => document.querySelector('[data-chart=nav]').data[0].y.slice(-5)"
    before = page.evaluate(read)
    page.check("input[data-choice=portfolio][value=flow]", force=True)
    page.wait_for_timeout(300)
    assert page.evaluate(read) != before


@KINDS
def test_synthetic_is_written_across_what_is_synthetic(open_report: Open, kind: str) -> None:
    page = open_report(kind).page
    marked = page.locator(".watermark").count() == 1
    assert marked == (kind == "full")
    assert ("SYNTHETIC" in page.inner_text("body")) == marked


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(open_report: Open, width: int) -> None:
    page = open_report("full", width=width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints(open_report: Open) -> None:
    pdf = open_report("full").page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 5 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 19


@KINDS
def test_nothing_is_shown_as_the_page_writes_it(open_report: Open, kind: str) -> None:
    page = open_report(kind).page
    assert (
        re.findall(r"&\w+;|</?\w+|\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", page.inner_text("main"))
        == []
    )
    ticks = page.locator(".main-svg .xtick text").all_text_contents()
    assert [tick for tick in ticks if re.search(r"[A-Z][a-z]{2} ?\d*", tick)] == []


def test_holdings_are_whole_on_a_phone(open_report: Open) -> None:
    page = open_report("full", width=390).page
    table = page.locator("#table-holdings")
    box = table.bounding_box()
    assert box
    assert box["width"] <= 390
    cells = table.locator("tbody tr").first.locator("td")
    assert cells.count() == 12
    for i in range(12):
        cell = cells.nth(i).bounding_box()
        assert cell
        assert cell["x"] + cell["width"] <= 390
    # a name of three to seven characters on one line
    names = [table.locator("tbody tr td:nth-child(2)").nth(i).bounding_box() for i in range(4)]
    assert len({name["height"] for name in names if name}) == 1


def test_numbers_stand_beside_their_bars(open_report: Open) -> None:
    cells = open_report("full").page.locator("#table-holdings td.bar:has(i)")
    assert cells.count() > 10
    for i in range(cells.count()):
        bar, number = cells.nth(i).locator("i").bounding_box(), cells.nth(i).locator("b").bounding_box()
        assert bar
        assert number
        assert bar["x"] + bar["width"] <= number["x"]
