"""Every converted field by a row worked out by hand, and what is left out, derived or refused on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from etf_pipeline.contract import AVAILABLE_AT, load_contract
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.canonical import canonical_frame
from etf_pipeline.sources.trust import ExchangeReport
from etf_pipeline.sources.tushare.mapping import ADAPTERS, APIS, LACKING, NOTE, Window, month_ends, why_unreadable

TODAY = date(2026, 11, 20)
WINDOW = Window(date(2026, 1, 5), date(2026, 1, 9), date(2026, 1, 9))
SCOPES = {
    "510300.SH": "aShareStockEtf",
    "159915.SZ": "aShareStockEtf",
    "513100.SH": "crossBorderStockEtf",
}


@dataclass
class Lists:
    """The lists of a small market."""

    etfs: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(
            {
                "etf_code": list(SCOPES),
                "asset_scope": list(SCOPES.values()),
                "index_code": ["000300.SH", "399006.SZ", "NDX.GI"],
                "list_date": pd.to_datetime(["2012-05-28", "2011-12-09", "2026-02-02"]),
                "delist_date": pd.to_datetime([None, "2026-01-08", None]),
            }
        )
    )
    sw_industries: Sequence[str] = ("801010.SI", "801080.SI")
    active_funds: Sequence[str] = ("000001.OF", "000002.OF")
    style_indices: Sequence[str] = ("000300.SH", "399370.SZ")
    exchange_report: ExchangeReport | None = None

    def exchange_funds(self, day: date) -> int:
        return 2600


def rows(api: str, *records: Mapping[str, Any]) -> pd.DataFrame:
    """An answer of an API: records with some of its fields, the others empty."""
    strange = {name for record in records for name in record} - set(APIS[api].fields)
    assert not strange, f"{api} is not asked for {strange}"
    return pd.DataFrame(list(records), columns=list(APIS[api].fields))


def converted(dataset: str, *answers: tuple[str, pd.DataFrame], window: Window = WINDOW) -> pd.DataFrame:
    """The canonical frame of these answers, through the gate."""
    frame = ADAPTERS[dataset].convert(dict(answers), Lists(), window)
    return canonical_frame(load_contract()[dataset], frame.reset_index(drop=True), "tushare", TODAY)


def only(dataset: str, *answers: tuple[str, pd.DataFrame]) -> dict[str, Any]:
    """The one row these answers make."""
    frame = converted(dataset, *answers)
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def shanghai(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="Asia/Shanghai")


# --- units ------------------------------------------------------------------------------------------------------


def test_shares_come_in_ten_thousands() -> None:
    answer = rows("fund_share", {"ts_code": "510300.SH", "trade_date": "20260105", "fd_share": 3316.1366})
    row = only("etf_share", ("fund_share", answer))
    assert row["shares"] == 33_161_366  # 3316.1366 万份, free of the float's last digits
    assert row["trade_date"] == pd.Timestamp("2026-01-05")
    assert row[AVAILABLE_AT] == shanghai("2026-01-06 08:30")


def test_bars_come_in_lots_and_thousands() -> None:
    bar = {"ts_code": "510300.SH", "trade_date": "20260105", "open": 4.01, "high": 4.05, "low": 3.99, "close": 4.02}
    daily = rows("fund_daily", {**bar, "vol": 7113.61, "amount": 2345.678})
    factor = rows("fund_adj", {"ts_code": "510300.SH", "trade_date": "20260105", "adj_factor": 1.234})
    row = only("etf_bar", ("fund_daily", daily), ("fund_adj", factor))
    assert row["volume"] == 711_361  # 手 of 100 份
    assert row["amount"] == pytest.approx(2_345_678)  # 千元
    assert [row[name] for name in ("open", "high", "low", "close")] == [4.01, 4.05, 3.99, 4.02]
    assert row["adjustment_factor"] == 1.234
    assert row[AVAILABLE_AT] == shanghai("2026-01-05 17:00")


def test_five_minute_bars_come_in_single_units() -> None:
    bar = {"open": 4.0, "high": 4.1, "low": 3.9, "close": 4.05}
    answer = rows(
        "stk_mins",
        {"ts_code": "510300.SH", "trade_time": "2026-01-05 09:35:00", **bar, "vol": 120300.0, "amount": 481200.5},
    )
    row = only("etf_bar_5min", ("stk_mins", answer))
    assert (row["volume"], row["amount"]) == (120_300, 481_200.5)  # 份 and 元
    assert row["bar_end"] == shanghai("2026-01-05 09:35")
    assert row["trade_date"] == pd.Timestamp("2026-01-05")


def test_fund_fees_come_in_percent() -> None:
    listed = {"ts_code": "510300.SH", "csname": "300ETF", "index_code": "399300.SZ", "index_name": "沪深300"}
    etf = rows(
        "etf_basic", {**listed, "list_date": "20120528", "mgr_name": "某基金", "mgt_fee": 0.5, "etf_type": "境内"}
    )
    fund = rows("fund_basic", {"ts_code": "510300.SH", "name": "x", "fund_type": "股票型", "m_fee": 0.6, "c_fee": 0.1})
    row = only("etf_info", ("etf_basic", etf), ("fund_basic", fund))
    assert row["management_fee"] == pytest.approx(0.005)  # 0.5 % a year; etf_basic goes before fund_basic
    assert row["custody_fee"] == pytest.approx(0.001)
    assert row["index_code"] == "000300.SH"  # 399300.SZ is the same index
    assert (row["asset_scope"], row["is_t0"]) == ("aShareStockEtf", False)
    assert (row["name"], row["manager"], row["list_date"]) == ("300ETF", "某基金", pd.Timestamp("2012-05-28"))


def test_weights_come_in_percent() -> None:
    answer = rows(
        "index_weight",
        {"index_code": "000300.SH", "con_code": "600519.SH", "trade_date": "20260105", "weight": 5.123},
        {"index_code": "000300.SH", "con_code": "600036.SH", "trade_date": "20260105", "weight": 94.877},
    )
    frame = converted("index_weight", ("index_weight", answer))
    assert frame["weight"].tolist() == pytest.approx([0.94877, 0.05123])
    assert frame[AVAILABLE_AT].unique() == [shanghai("2026-01-12 08:30")]  # five sessions later


def test_index_amounts_come_in_thousands() -> None:
    bar = {"ts_code": "000300.SH", "trade_date": "20260105", "open": 1.0, "high": 3.0, "low": 1.0, "close": 2.0}
    row = only("index_bar", ("index_daily", rows("index_daily", {**bar, "amount": 251_234_567.8})))
    assert row["amount"] == pytest.approx(251_234_567_800)
    assert row["close"] == 2.0


def test_market_values_come_in_ten_thousands() -> None:
    answer = rows(
        "daily_basic",
        {"ts_code": "600519.SH", "trade_date": "20260130", "close": 1500.0, "free_share": 52_345.67,
         "total_mv": 188_000_000.5, "circ_mv": 187_999_999.5},
    )  # fmt: skip
    row = only("stock_value", ("daily_basic", answer))
    assert row["total_market_value"] == pytest.approx(1_880_000_005_000)  # 万元
    assert row["float_market_value"] == pytest.approx(1_879_999_995_000)
    assert row["free_float_market_value"] == pytest.approx(52_345.67 * 1e4 * 1500)  # 万股 × price
    assert row[AVAILABLE_AT] == shanghai("2026-01-30 19:00")


def test_issued_shares_come_in_hundred_millions() -> None:
    fund = {"ts_code": "000001.OF", "name": "某某成长混合", "fund_type": "混合型", "invest_type": "偏股混合型"}
    answer = rows("fund_basic", {**fund, "found_date": "20200107", "delist_date": "20250630", "issue_amount": 12.5})
    row = only("fund_info", ("fund_basic", answer))
    assert row["issue_shares"] == pytest.approx(1_250_000_000)
    assert (row["found_date"], row["delist_date"]) == (pd.Timestamp("2020-01-07"), pd.Timestamp("2025-06-30"))
    assert row["is_active_equity"]


def test_returns_follow_from_two_closes() -> None:
    answer = rows(
        "index_daily", {"ts_code": "930950.CSI", "trade_date": "20260105", "close": 1010.0, "pre_close": 1000.0}
    )
    row = only("fund_return", ("index_daily", answer))
    assert row["daily_return"] == pytest.approx(0.01)
    assert row["series_code"] == "930950.CSI"


def test_money_and_shares_of_margin_accounts_are_single_units() -> None:
    answer = rows(
        "margin_detail",
        {"ts_code": "510300.SH", "trade_date": "20260105", "rzye": 1.5e9, "rzmre": 2.5e8, "rqyl": 3e6, "rqmcl": 4e5},
        {"ts_code": "600519.SH", "trade_date": "20260105", "rzye": 9e9, "rzmre": 1e8, "rqyl": 1e4, "rqmcl": 1e3},
    )
    row = only("etf_margin", ("margin_detail", answer))
    assert [row[c] for c in ("financing_balance", "financing_buy", "short_volume", "short_sell_volume")] == [
        1.5e9, 2.5e8, 3e6, 4e5,
    ]  # fmt: skip
    assert row[AVAILABLE_AT] == shanghai("2026-01-06 09:00")


def test_valuations_and_levels_have_no_unit() -> None:
    answer = rows(
        "index_dailybasic",
        {"ts_code": "399300.SZ", "trade_date": "20260105", "pe_ttm": 13.5, "pb": 1.4},
        {"ts_code": "000300.SH", "trade_date": "20260105", "pe_ttm": 13.6, "pb": 1.5},
        {"ts_code": "000905.SH", "trade_date": "20260105", "pe_ttm": 30.1, "pb": None},
    )
    frame = converted("index_valuation", ("index_dailybasic", answer))
    assert frame["index_code"].tolist() == ["000300.SH", "000905.SH"]
    assert frame["pe_ttm"].tolist() == [13.6, 30.1]  # the code in use goes before its other one
    assert frame["pb"].tolist() == pytest.approx([1.5, np.nan], nan_ok=True)
    assert frame["dividend_yield"].isna().all()


def test_industry_codes_and_levels() -> None:
    citic = rows(
        "ci_daily",
        {"ts_code": "CI005025.CI", "trade_date": "20260105", "close": 5300.5},
        {"ts_code": "CI005101.CI", "trade_date": "20260105", "close": 1.0},
    )
    shenwan = rows(
        "sw_daily",
        {"ts_code": "801080.SI", "trade_date": "20260105", "close": 4400.25},
        {"ts_code": "801081.SI", "trade_date": "20260105", "close": 1.0},
    )
    frame = converted("industry_bar", ("ci_daily", citic), ("sw_daily", shenwan))
    assert frame["industry_code"].tolist() == ["CI005025", "801080.SI"]  # level 1 only
    assert frame["scheme"].tolist() == ["citic", "sw"]
    assert frame["close"].tolist() == [5300.5, 4400.25]


# --- when a fact was known ---------------------------------------------------------------------------------------


def nav(announced: str | None, value: float = 1.5, day: str = "20260105") -> dict[str, Any]:
    return {"ts_code": "510300.SH", "ann_date": announced, "nav_date": day, "unit_nav": value, "accum_nav": value + 1}


@pytest.mark.parametrize(
    ("announced", "known"),
    [
        (None, "2026-01-06 08:30"),
        ("20260105", "2026-01-06 08:30"),
        ("20260106", "2026-01-06 08:30"),  # the regular announcement: the basket file of that morning has the NAV
        ("20260107", "2026-01-07 23:59"),
        ("20260201", "2026-02-01 23:59"),
    ],
)
def test_a_nav_is_known_by_its_announcement(announced: str | None, known: str) -> None:
    assert only("etf_nav", ("fund_nav", rows("fund_nav", nav(announced))))[AVAILABLE_AT] == shanghai(known)


def test_over_a_weekend_the_regular_announcement_is_that_of_the_next_session() -> None:
    # Friday's NAV bears the date of Saturday, or of Monday
    for announced in ("20260110", "20260112"):
        row = only("etf_nav", ("fund_nav", rows("fund_nav", nav(announced, day="20260109"))))
        assert row[AVAILABLE_AT] == shanghai("2026-01-12 08:30")


def test_a_revised_nav_replaces_the_first_and_is_known_from_its_own_day() -> None:
    answer = rows("fund_nav", nav("20260120", 1.6), nav("20260106", 1.5), nav(None, 1.4))
    row = only("etf_nav", ("fund_nav", answer))
    assert (row["unit_nav"], row["accumulated_nav"]) == (1.6, 2.6)
    assert row[AVAILABLE_AT] == shanghai("2026-01-20 23:59")


def test_only_carried_out_dividends_count_from_their_announcement() -> None:
    paid = {"ts_code": "510300.SH", "ex_date": "20260106", "div_proc": "实施", "div_cash": 0.085}
    answer = rows(
        "fund_div",
        {**paid, "ann_date": "20251230", "imp_anndate": "20260102"},
        {**paid, "ann_date": "20260103", "imp_anndate": None},
        {**paid, "ts_code": "159915.SZ", "ann_date": None, "imp_anndate": None, "div_cash": 0.02},
        {**paid, "div_proc": "预案", "div_cash": 0.2},
        {**paid, "ts_code": "161725.SZ"},
    )
    frame = converted("etf_dividend", ("fund_div", answer))
    assert frame["cash_per_share"].tolist() == [0.02, 0.085]  # 元/份
    assert frame[AVAILABLE_AT].tolist() == [shanghai("2026-01-06 08:30"), shanghai("2026-01-02 23:59")]


def test_of_a_report_announced_in_parts_each_row_counts_from_its_own() -> None:
    def held(stock: str, announced: str, value: float, fund: str = "000001.OF") -> dict[str, Any]:
        return {"ts_code": fund, "ann_date": announced, "end_date": "20260630", "symbol": stock, "mkv": value}

    top = [held(f"6000{n:02}.SH", "20260718", 1e8 + n) for n in range(10)]
    rest = [held(f"60010{n}.SH", "20260828", 1e6 + n) for n in range(3)]
    again = held("600000.SH", "20260828", 1e8 + 5)
    whole = [held(f"6000{n:02}.SH", "20260829", 2e8, "000002.OF") for n in range(11)]
    answer = rows("fund_portfolio", *rest, *top, again, *whole)
    frame = converted("fund_holding", ("fund_portfolio", answer)).set_index(["fund_code", "stock_code"])
    assert len(frame) == 24
    first = frame.loc[("000001.OF", "600000.SH")]
    assert (first["scope"], first["market_value"]) == ("top10", 1e8)  # as it was first told
    assert first[AVAILABLE_AT] == shanghai("2026-07-18 00:00")
    assert frame.loc[("000001.OF", "600102.SH"), "scope"] == "full"
    assert frame.loc[("000001.OF", "600102.SH"), AVAILABLE_AT] == shanghai("2026-08-28 00:00")
    assert set(frame.loc["000002.OF", "scope"]) == {"full"}
    assert frame["nav_weight"].isna().all()


# --- what is derived ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "etf_type", "fund_type", "scope", "is_t0"),
    [
        ("沪深300ETF", "境内", "股票型", "aShareStockEtf", False),
        ("沪深港500ETF", "境内", "股票型", "aShareStockEtf", False),
        ("港股通互联网ETF", "境内", "股票型", "crossBorderStockEtf", True),
        ("恒生A股龙头ETF", "境内", "股票型", "aShareStockEtf", False),
        ("纳指ETF", "QDII", "股票型", "crossBorderStockEtf", True),
        ("德国ETF", "QDII", None, "crossBorderStockEtf", True),
        ("国债ETF", "境内", "债券型", "bondEtf", True),
        ("豆粕ETF", "境内", "商品型", "commodityEtf", True),
        ("黄金股ETF", "境内", "股票型", "aShareStockEtf", False),
        ("货币ETF", "境内", "货币市场型", "moneyEtf", True),
        ("多元配置ETF", "境内", "混合型", "otherEtf", None),
        ("新ETF", "境内", None, None, None),
    ],
)
def test_scope_and_same_day_trading(
    name: str, etf_type: str, fund_type: str | None, scope: str | None, is_t0: bool | None
) -> None:
    etf = rows("etf_basic", {"ts_code": "510300.SH", "csname": name, "etf_type": etf_type, "mgt_fee": 0.5})
    fund = rows("fund_basic", {"ts_code": "510300.SH", "name": name, "fund_type": fund_type, "c_fee": 0.1})
    row = only("etf_info", ("etf_basic", etf), ("fund_basic", fund if fund_type else fund[:0]))
    assert (row["asset_scope"] if isinstance(row["asset_scope"], str) else None) == scope
    assert (None if pd.isna(row["is_t0"]) else row["is_t0"]) is is_t0


def test_without_etf_basic_etfs_are_known_by_name_and_have_no_index() -> None:
    common = {"fund_type": "股票型", "management": "某基金", "list_date": "20120528", "m_fee": 0.5, "c_fee": 0.1}
    fund = rows(
        "fund_basic",
        {"ts_code": "510300.SH", "name": "沪深300ETF", **common},
        {"ts_code": "513100.SH", "name": "纳指ETF", **common},
        {"ts_code": "161725.SZ", "name": "白酒LOF", **common},
        {"ts_code": "160706.SZ", "name": "沪深300ETF联接(LOF)", **common},
    )
    frame = converted("etf_info", ("fund_basic", fund))
    assert frame["etf_code"].tolist() == ["510300.SH", "513100.SH"]
    assert frame["asset_scope"].tolist() == ["aShareStockEtf", "crossBorderStockEtf"]
    assert frame["index_code"].isna().all()
    assert frame["management_fee"].tolist() == pytest.approx([0.005, 0.005])


def test_an_index_without_a_usable_code_is_left_empty_and_told() -> None:
    etf = rows(
        "etf_basic",
        {"ts_code": "510300.SH", "csname": "300ETF", "index_code": "000300.SH", "mgt_fee": 0.5},
        {"ts_code": "513100.SH", "csname": "纳指ETF", "index_code": "NDX", "mgt_fee": 0.5, "etf_type": "QDII"},
    )
    frame = ADAPTERS["etf_info"].convert({"etf_basic": etf, "fund_basic": rows("fund_basic")}, Lists(), WINDOW)
    assert frame["index_code"].isna().tolist() == [False, True]
    assert "513100.SH NDX" in frame.attrs[NOTE]


@pytest.mark.parametrize("fee", [0.005, 50.0])
def test_fees_in_another_unit_are_refused(fee: float) -> None:
    etf = rows("etf_basic", {"ts_code": "510300.SH", "csname": "300ETF", "mgt_fee": fee})
    with pytest.raises(SourceError, match=f"median management fee is {fee:g}, outside 0.01 to 1.5 percent"):
        converted("etf_info", ("etf_basic", etf), ("fund_basic", rows("fund_basic")))


@pytest.mark.parametrize(
    ("name", "fund_type", "invest_type", "active"),
    [
        ("某某优选股票A", "股票型", "普通股票型", True),
        ("某某优选股票C", "股票型", "普通股票型", False),  # the same portfolio as A
        ("另一价值混合", "混合型", "偏股混合型", True),
        ("某某量化指数增强", "股票型", "增强指数型", False),
        ("某某沪深300ETF联接A", "股票型", "被动指数型", False),
        ("某某全球精选混合(QDII)", "混合型", "偏股混合型", False),
        ("某某养老三年混合(FOF)", "混合型", "混合型FOF", False),
        ("某某增利债券A", "债券型", "混合债券型", False),
    ],
)
def test_active_equity_funds(name: str, fund_type: str, invest_type: str, active: bool) -> None:
    common = {"management": "某基金", "found_date": "20200107"}
    answer = rows(
        "fund_basic",
        {"ts_code": "000009.OF", "name": "某某优选股票A", "fund_type": "股票型", "invest_type": "普通股票型", **common},
        {"ts_code": "000010.OF", "name": name, "fund_type": fund_type, "invest_type": invest_type, **common},
    )
    answer = answer.drop_duplicates("name", keep="first")
    frame = converted("fund_info", ("fund_basic", answer)).set_index("name")
    assert frame.loc[name, "is_active_equity"] == active


def test_stays_of_lower_levels_are_one_stay_of_level_one() -> None:
    def stay(into: str, first: str, last: str | None) -> dict[str, Any]:
        return {"l1_code": into, "l1_name": "x", "ts_code": "600000.SH", "in_date": first, "out_date": last}

    members = rows(
        "index_member_all",
        stay("801080.SI", "20210730", None),
        stay("801080.SI", "20151208", "20210730"),
        stay("801010.SI", "20120101", "20151208"),
        stay("801080.SI", "20050101", "20101231"),
    )
    frame = converted("stock_industry", ("index_member_all", members), ("ci_index_member", rows("ci_index_member")))
    assert frame["in_date"].tolist() == [pd.Timestamp(day) for day in ("2005-01-01", "2012-01-01", "2015-12-08")]
    assert frame["out_date"].tolist() == [pd.Timestamp("2010-12-31"), pd.Timestamp("2015-12-08"), pd.NaT]
    assert frame["industry_code"].tolist() == ["801080.SI", "801010.SI", "801080.SI"]


def test_stays_in_two_industries_at_once_are_refused() -> None:
    member = {"l1_name": "x", "ts_code": "600000.SH"}
    members = rows(
        "ci_index_member",
        {**member, "l1_code": "CI005001.CI", "in_date": "20100101", "out_date": None},
        {**member, "l1_code": "CI005002.CI", "in_date": "20200101", "out_date": None},
    )
    with pytest.raises(SourceError, match="stay begins before an earlier one"):
        converted("stock_industry", ("index_member_all", rows("index_member_all")), ("ci_index_member", members))


def test_industries_are_named_by_both_classifications() -> None:
    shenwan = rows("index_classify", {"index_code": "801080.SI", "industry_name": "电子"})
    member = {"l1_code": "CI005025.CI", "l1_name": "电子", "in_date": "20100101"}
    citic = rows("ci_index_member", {**member, "ts_code": "600000.SH"}, {**member, "ts_code": "600001.SH"})
    frame = converted("industry_info", ("index_classify", shenwan), ("ci_index_member", citic))
    assert frame["industry_code"].tolist() == ["CI005025", "801080.SI"]


def test_tracked_indices_without_weights_are_told() -> None:
    answer = rows(
        "index_weight",
        # both codes answer: the set is there once
        {"index_code": "399300.SZ", "con_code": "600519.SH", "trade_date": "20260105", "weight": 99.0},
        {"index_code": "000300.SH", "con_code": "600519.SH", "trade_date": "20260105", "weight": 100.0},
    )
    frame = ADAPTERS["index_weight"].convert({"index_weight": answer}, Lists(), WINDOW)
    assert frame[["index_code", "weight"]].to_numpy().tolist() == [["000300.SH", 1.0]]
    assert frame.attrs[NOTE].startswith("1 of 2 tracked indices have no weights here")
    assert "399006.SZ" in frame.attrs[NOTE]


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "api", "record", "rule"),
    [
        ("etf_share", "fund_share", {"fd_share": "3316.1"}, "`shares` is not a number"),
        ("etf_share", "fund_share", {"fd_share": -1.0}, "`shares` is below 0"),
        ("etf_share", "fund_share", {"fd_share": None}, "`shares` is empty"),
        ("etf_share", "fund_share", {"fd_share": 3.3}, "looks like 万份 instead of 份"),
        ("etf_share", "fund_share", {"trade_date": "2026-13-45", "fd_share": 3316.0}, "not a plain calendar day"),
        ("etf_share", "fund_share", {"trade_date": "20260103", "fd_share": 3316.0}, "is not a session"),
        ("etf_nav", "fund_nav", {"unit_nav": 0.0}, "`unit_nav` is not above 0"),
        ("etf_nav", "fund_nav", {"ann_date": "soon", "unit_nav": 1.0}, "`ann_date` is not a plain calendar day"),
        ("etf_dividend", "fund_div", {"div_proc": "实施", "div_cash": 0.0}, "`cash_per_share` is not above 0"),
        ("index_weight", "index_weight", {"weight": 512.3}, "`weight` is above 1"),
        ("fund_return", "index_daily", {"close": 2.0, "pre_close": 1.0}, "`daily_return` is above 0.3"),
        ("stock_value", "daily_basic", {"circ_mv": 1.5}, "looks like 万元 instead of CNY"),
        ("fund_info", "fund_basic", {"name": "x", "found_date": 20200107.0}, "not a plain calendar day"),
    ],
)
def test_values_that_break_the_contract_are_refused(dataset: str, api: str, record: dict[str, Any], rule: str) -> None:
    days = dict.fromkeys(("trade_date", "nav_date", "ex_date"), "20260105")
    codes = {"ts_code": "510300.SH", "index_code": "000300.SH", "con_code": "600519.SH"}
    base = {name: value for name, value in (days | codes).items() if name in APIS[api].fields}
    with pytest.raises(SourceError, match=rule):
        converted(dataset, (api, rows(api, {**base, **record})))


@pytest.mark.parametrize(("vol", "amount"), [(120_300.0, 481.2), (1203.0, 481_200.0), (12.03, 481.2)])
def test_bars_in_other_units_are_refused(vol: float, amount: float) -> None:
    bar = {"ts_code": "510300.SH", "trade_date": "20260105", "open": 4.0, "high": 4.1, "low": 3.9, "close": 4.0}
    good = rows("fund_daily", {**bar, "vol": 1203.0, "amount": 481.2})
    assert len(converted("etf_bar", ("fund_daily", good), ("fund_adj", rows("fund_adj")))) == 1
    answer = rows("fund_daily", {**bar, "vol": vol, "amount": amount})
    with pytest.raises(SourceError, match=r"fund_daily: money over shares traded is .* times the close"):
        converted("etf_bar", ("fund_daily", answer), ("fund_adj", rows("fund_adj")))


def test_indices_without_closes_are_told() -> None:
    bars = rows("index_daily", {"ts_code": "000300.SH", "trade_date": "20260105", "close": 4000.0})
    told = ADAPTERS["index_bar"].convert({"index_daily": bars}, Lists(), WINDOW).attrs[NOTE]
    assert told == "Tushare has no closes of 399370.SZ"
    frame = ADAPTERS["fund_return"].convert({"index_daily": bars[:0]}, Lists(), WINDOW)
    assert (len(frame), frame.attrs[NOTE]) == (0, "Tushare has no closes of 930950.CSI")


def test_a_weight_set_that_does_not_sum_to_one_is_left_out_and_told() -> None:
    def weights(days: int, broken: int) -> pd.DataFrame:
        sessions = sessions_between(date(2026, 1, 5), date(2026, 3, 31))[:days]
        set_of = {"index_code": "000300.SH", "con_code": "600519.SH"}
        return rows(
            "index_weight",
            *(
                {**set_of, "trade_date": f"{day:%Y%m%d}", "weight": 8.0 if n < broken else 100.0}
                for n, day in enumerate(sessions)
            ),
        )

    frame = ADAPTERS["index_weight"].convert({"index_weight": weights(20, 1)}, Lists(), WINDOW)
    assert len(frame) == 19
    assert frame.attrs[NOTE].startswith(
        "1 of 20 weight sets left out, they do not sum to one: 000300.SH 20260105 (0.08"
    )
    with pytest.raises(SourceError, match=r"`weight` sums to 0.08"):
        converted("index_weight", ("index_weight", weights(20, 2)))


def test_before_the_exchanges_reports_dates_are_taken_and_that_is_told() -> None:
    share = {"ts_code": "159915.SZ", "fd_share": 3316.0}
    answer = rows("fund_share", {**share, "trade_date": "20160930"}, {**share, "trade_date": "20161010"})
    asked: list[tuple[date, date]] = []

    def report(start: date, end: date) -> pd.DataFrame:
        asked.append((start, end))
        day = pd.Timestamp("2016-10-10")
        return pd.DataFrame({"etf_code": ["159915.SZ"], "trade_date": [day], "shares": [33_160_000.0]})

    window = Window(date(2016, 9, 30), date(2016, 10, 10), date(2026, 11, 19))
    frame = ADAPTERS["etf_share"].convert({"fund_share": answer}, Lists(exchange_report=report), window)
    assert frame["trade_date"].dt.strftime("%Y%m%d").tolist() == ["20160930", "20161010"]
    assert frame.attrs[NOTE].endswith("; DATES NOT VERIFIED before 2016-10-10, where the report begins")
    assert asked == [(date(2016, 10, 10), date(2016, 10, 31))]


def test_two_counts_of_one_day_are_refused() -> None:
    share = {"ts_code": "159915.SZ", "trade_date": "20260105"}
    answer = rows("fund_share", {**share, "fd_share": 3316.0}, {**share, "fd_share": 3317.0})
    lists = Lists(exchange_report=lambda start, end: pd.DataFrame())
    frame = ADAPTERS["etf_share"].convert({"fund_share": answer}, lists, WINDOW)
    with pytest.raises(SourceError, match="duplicated key"):
        canonical_frame(load_contract()["etf_share"], frame, "tushare", TODAY)


def test_bars_outside_their_range_are_refused() -> None:
    bar = {"ts_code": "510300.SH", "trade_date": "20260105", "open": 1.0, "high": 1.1, "low": 0.9, "close": 1.2}
    with pytest.raises(SourceError, match="`close` is outside"):
        converted("etf_bar", ("fund_daily", rows("fund_daily", bar)), ("fund_adj", rows("fund_adj")))


# --- questions ---------------------------------------------------------------------------------------------------


def asked(dataset: str, api: str, window: Window = WINDOW, lists: Lists | None = None) -> list[Any]:
    return list(ADAPTERS[dataset].ask[api](window, lists or Lists()))


def test_every_dataset_has_an_answer() -> None:
    assert {*ADAPTERS, *LACKING} == set(load_contract()) - {"trading_calendar"}
    assert {api for adapter in ADAPTERS.values() for api in adapter.ask} == set(APIS)


def test_shares_are_asked_for_by_session_and_exchange() -> None:
    questions = asked("etf_share", "fund_share")
    assert len(questions) == 10
    assert questions[0].params == {"trade_date": "20260105", "market": "SH"}
    assert all(question.never_empty for question in questions)
    # with a report to date them by, Shenzhen's days on either side are asked for too, as far as they are public
    lists = Lists(exchange_report=lambda start, end: pd.DataFrame())
    labels = [
        q.params["trade_date"] for q in asked("etf_share", "fund_share", lists=lists) if q.params["market"] == "SZ"
    ]
    assert labels == ["20251231", "20260105", "20260106", "20260107", "20260108", "20260109"]
    later = Window(WINDOW.start, WINDOW.end, date(2026, 1, 16))
    assert asked("etf_share", "fund_share", later, lists)[-1].params["trade_date"] == "20260112"


def test_ranges_are_asked_for_by_whole_years() -> None:
    window = Window(date(2025, 11, 3), date(2026, 1, 9), date(2026, 1, 9))
    bars = asked("index_bar", "index_daily", window)
    assert [tuple(q.params.values()) for q in bars] == [
        ("000300.SH", "20250101", "20251231"),
        ("399370.SZ", "20250101", "20251231"),
        ("000300.SH", "20260101", "20261231"),
        ("399370.SZ", "20260101", "20261231"),
    ]
    assert [q.day for q in bars] == [date(2025, 12, 31)] * 2 + [date(2026, 1, 9)] * 2
    weights = asked("index_weight", "index_weight", WINDOW)
    assert [q.params["index_code"] for q in weights] == ["000300.SH", "399300.SZ", "399006.SZ"]


def test_minutes_are_asked_for_of_etfs_that_lived() -> None:
    window = Window(date(2025, 12, 29), date(2026, 1, 9), date(2026, 1, 9))
    found = [(q.params["ts_code"], q.params["start_date"]) for q in asked("etf_bar_5min", "stk_mins", window)]
    assert found == [
        ("510300.SH", "2025-12-01 00:00:00"),
        ("159915.SZ", "2025-12-01 00:00:00"),
        ("510300.SH", "2026-01-01 00:00:00"),
        ("159915.SZ", "2026-01-01 00:00:00"),  # delisted on 2026-01-08
    ]


def test_values_are_asked_for_at_month_ends() -> None:
    window = Window(date(2026, 1, 5), date(2026, 10, 30), date(2026, 10, 30))
    ends = month_ends(window).strftime("%m-%d").tolist()
    assert ends == ["01-30", "02-27", "03-31", "04-30", "05-29", "06-30", "07-31", "08-31", "09-30", "10-30"]
    assert month_ends(Window(date(2026, 10, 1), date(2026, 10, 29), date(2026, 10, 29))).empty


def test_a_quarter_too_long_to_page_is_asked_by_day_and_then_by_fund() -> None:
    window = Window(date(2026, 1, 1), date(2026, 9, 29), date(2026, 9, 29))
    quarters = asked("fund_holding", "fund_portfolio", window)
    assert [q.params for q in quarters] == [{"period": "20260331"}, {"period": "20260630"}]
    by_day = quarters[1].instead()
    assert by_day[0].params == {"period": "20260630", "ann_date": "20260701"}
    assert by_day[-1].params["ann_date"] == "20261102"
    by_fund = by_day[0].instead()
    assert [q.params for q in by_fund] == [{"period": "20260630", "ts_code": c} for c in Lists().active_funds]
    assert by_fund[0].instead is None


def test_the_neighbours_of_a_window_are_sessions() -> None:
    # 09-25 and the first week of October are holidays
    around = Window(date(2026, 9, 26), date(2026, 10, 8), date(2026, 10, 30)).around(2)
    assert around.strftime("%m-%d").tolist() == ["09-23", "09-24", "09-28", "09-29", "09-30", "10-08", "10-09", "10-12"]
    assert around.equals(sessions_between(date(2026, 9, 23), date(2026, 10, 12)))


@pytest.mark.parametrize(
    ("dataset", "points", "minute_bars", "reason"),
    [
        ("etf_share", 2000, False, None),
        ("etf_share", 120, False, "fund_share needs 2000 points, the account has 120"),
        ("etf_bar", 2000, False, "fund_daily needs 5000 points, the account has 2000"),
        ("etf_bar_5min", 15000, False, "stk_mins needs the licence for minute bars (ETF_PIPELINE_TUSHARE_MINUTE_BARS)"),
        ("etf_bar_5min", 2000, True, None),
        ("fund_holding", 5000, False, None),
    ],
)
def test_what_an_account_can_read(dataset: str, points: int, minute_bars: bool, reason: str | None) -> None:
    adapter = ADAPTERS[dataset]
    assert why_unreadable((api for api in adapter.ask if api not in adapter.spare), points, minute_bars) == reason
