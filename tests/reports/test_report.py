"""The report without a browser: size, determinism, texts, and the workbook."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from stand_in import otherwise

from etf_pipeline.reports import THUMBNAILS, ReportData, read_report_data, render_html, thumbnail, write_excel
from etf_pipeline.reports.excel import column_descriptions, sheets
from etf_pipeline.reports.grids import last_periods, p_value
from etf_pipeline.reports.grids import parameters as parameters_grid
from etf_pipeline.reports.html import _render
from etf_pipeline.reports.texts import Texts
from etf_pipeline.resources.lake import Lake
from etf_pipeline.settings import Parameters

Data = dict[str, ReportData]
KINDS = pytest.mark.parametrize("kind", ["full", "poor", "bare"])


@KINDS
@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_same_data_give_the_same_bytes(data: Data, kind: str, language: str) -> None:
    page = render_html(data[kind], language)  # type: ignore[arg-type]
    assert page == render_html(data[kind], language)  # type: ignore[arg-type]
    assert len(page.encode()) < 6 * 2**20
    assert f'data-lang="{language}"' in page


def test_nothing_outside_is_referred_to(data: Data) -> None:
    page = render_html(data["full"], "zh")
    own = page[: page.index("<script>")] + page[page.rindex("<script>") :]
    assert re.findall(r"(?:src|href)=[\"'](?!#|data:)[^\"']*|url\(|@import", own) == []


def test_every_text_is_there_twice_and_used(data: Data) -> None:
    texts = Texts.load()
    for kind in (*data.values(), otherwise()):
        _render(kind, "zh", texts)
    assert set(texts.entries) - texts.used == set()
    for key, pair in texts.entries.items():
        assert len(pair) == 2, key
        assert all(side.strip() for side in pair), key
        assert sorted(re.findall(r"\{\w+\}", pair[0])) == sorted(re.findall(r"\{\w+\}", pair[1])), key
        assert not re.search(r"[\u4e00-\u9fff]", pair[1]), key
    assert set(texts.parameters) == set(Parameters.model_fields)


@pytest.mark.parametrize("value", ["<script>alert(1)</script>", "</script><b>", "<!--", "[/]", 'bob\'s "{{ 7*7 }}"'])
def test_data_cannot_break_out_of_the_page(data: Data, value: str) -> None:
    full = data["full"]
    held = full.strategy_holdings.assign(largest_etf=value, industry_name=value)
    scores = full.factor_scores.assign(industry_name=value)
    page = render_html(
        ReportData(
            source=full.source,
            parameters=full.parameters,
            **{**full.tables, "strategy_holdings": held, "factor_scores": scores},
        ),
        "zh",
    )
    embedded = page[page.index('id="data">') + len('id="data">') :].partition("</script>")[0]
    assert json.dumps(value)[1:-1] in json.dumps(json.loads(embedded))
    assert "<" not in embedded
    assert value not in page or "<" not in value


@KINDS
def test_the_workbook_holds_the_tables(data: Data, kind: str, tmp_path: Path) -> None:
    write_excel(data[kind], tmp_path / "a.xlsx")
    write_excel(data[kind], tmp_path / "b.xlsx")
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    book = openpyxl.load_workbook(tmp_path / "a.xlsx", read_only=True)
    assert set(book.sheetnames) == {"report", "columns", *data[kind].tables}
    front = " ".join(str(cell) for row in book["report"].iter_rows(values_only=True) for cell in row if cell)
    assert data[kind].source in front
    assert ("SYNTHETIC" in front) == data[kind].is_synthetic
    for name in ("performance", "strategy_holdings", "backtest_period", "luck_test"):
        wanted = sheets(data[kind])[name]
        read = pd.DataFrame(list(book[name].iter_rows(min_row=2, values_only=True)), columns=list(wanted.columns))
        assert len(read) == len(wanted)
        for column in wanted.select_dtypes("number"):
            expected = wanted[column].to_numpy(dtype=float)
            expected = np.where(np.isfinite(expected), expected, np.nan)
            np.testing.assert_allclose(read[column].to_numpy(dtype=float), expected, rtol=1e-12, err_msg=column)
        for column in wanted.select_dtypes("datetime"):
            assert pd.to_datetime(read[column]).tolist() == wanted[column].tolist() or wanted.empty


def test_every_column_of_the_workbook_is_explained(data: Data) -> None:
    described = column_descriptions()
    unexplained = [f"{t}.{c}" for t, frame in data["full"].tables.items() for c in frame if not described[t].get(c)]
    assert unexplained == []


@KINDS
@pytest.mark.parametrize("name", THUMBNAILS)
def test_thumbnails_are_pictures(data: Data, kind: str, name: str) -> None:
    picture = thumbnail(data[kind], name)
    assert picture.startswith(b"\x89PNG")
    assert picture == thumbnail(data[kind], name)
    assert len(picture) > 5000


def test_two_industries_of_one_name_are_told_apart(data: Data, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.claim("test")
    twins = first, second = sorted(data["full"].industry_weekly["industry_code"].unique())[:2]
    for name, table in data["full"].tables.items():
        if "industry_name" in table:
            table = table.assign(industry_name=table["industry_name"].mask(table["industry_code"].isin(twins), "=1"))
        lake.publish(name, pa.Table.from_pandas(table, preserve_index=False), "hash")
    read = read_report_data(lake, data["full"].parameters)
    names = set(read.industry_weekly["industry_name"])
    assert {f"=1 ({first})", f"=1 ({second})"} < names
    assert f"=1 ({first})" in render_html(read, "zh")
    for name in THUMBNAILS:
        assert thumbnail(read, name)
    write_excel(read, tmp_path / "a.xlsx")
    book = openpyxl.load_workbook(tmp_path / "a.xlsx", read_only=True)
    cells = {cell.value: cell.data_type for row in book["industry_weekly"].iter_rows() for cell in row}
    assert cells[f"=1 ({first})"] == "s"


def test_what_a_sentence_is_filled_with_is_not_escaped_twice() -> None:
    texts = Texts({"a": ("甲 & {p}", "a & {p}"), "b": ("{a}；", "{a};")}, {}, {})
    filled = texts.pair("a", p=p_value(0.0001))
    assert str(texts("b", a=filled)) == (
        '<span lang="zh">甲 &amp; &lt;0.001；</span><span lang="en">a &amp; &lt;0.001;</span>'
    )
    assert "&lt;b&gt;" in texts("a", p="<b>")
    assert "&lt;b&gt;" in texts("b", a=texts.pair("a", p="<b>"))


@KINDS
def test_only_what_was_set_is_called_not_the_default(data: Data, kind: str) -> None:
    def noted(parameters: Parameters) -> set[str]:
        grid = parameters_grid(replace(data[kind], parameters=parameters), Texts.load())
        return {str(row[0].value) for row in grid.rows if "非默认" in row[1].html}

    assert noted(Parameters.load()) == set()
    assert noted(Parameters.load().model_copy(update={"top_n": 7})) == {"top_n"}


def test_a_period_that_has_not_begun_has_earned_nothing_yet(data: Data) -> None:
    periods = data["full"].backtest_period
    last = periods["signal_date"] == periods["signal_date"].max()
    cut = periods.assign(held_until=periods["held_until"].mask(last, periods["bought_at"]), period_return=0.0)
    newest, before = last_periods(replace(data["full"], backtest_period=cut), Texts.load()).rows[:2]
    assert [cell.value for cell in newest[3:6]] == [None, None, None]
    assert "%" not in newest[2].html
    assert before[3].html == "0.00%"
