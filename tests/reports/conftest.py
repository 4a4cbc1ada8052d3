"""Reports as pages in a real browser."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page
from stand_in import bare, full, poor

from etf_pipeline.reports import ReportData, render_html


@pytest.fixture(scope="session")
def data() -> dict[str, ReportData]:
    """Report data with everything, with as little as real data give, and of an empty lake."""
    return {"full": full(), "poor": poor(), "bare": bare()}


@dataclass
class Opened:
    """A page, and what it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def open_report(
    browser: Browser, data: dict[str, ReportData], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    """`open_report("full", language="zh", width=1280)`: that report, drawn; the same page for every test."""
    pages: dict[tuple[str, str, int], Opened] = {}

    def open_one(kind: str, language: str = "zh", width: int = 1280) -> Opened:
        key = (kind, language, width)
        if key not in pages:
            file = tmp_path_factory.mktemp("report") / "report.html"
            file.write_text(render_html(data[kind], language), encoding="utf-8")  # type: ignore[arg-type]
            opened = pages[key] = Opened(browser.new_page(viewport={"width": width, "height": 900}))
            opened.page.on("console", lambda message: opened.complaints.append(message.text))
            opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
            opened.page.on("request", lambda request: opened.requests.append(request.url))
            opened.page.goto(file.as_uri())
            opened.page.wait_for_selector("body[data-drawn]")
        return pages[key]

    yield open_one
    for opened in pages.values():
        opened.page.close()
