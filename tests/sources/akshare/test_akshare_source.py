"""Canonical rows from the vendors' pages, in the contract's units, and what is asked for, again or not."""

from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import FIRST_DAY, Pipeline
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.akshare import mapping
from etf_pipeline.sources.akshare.client import AkshareClient
from etf_pipeline.sources.akshare.functions import CanaryError
from etf_pipeline.sources.akshare.source import AkshareSource
from etf_pipeline.sources.base import NotAvailable, SourceError, TransientSourceError, VendorUnavailable
from etf_pipeline.sources.trust import EmptyDay, NotPublished
from tests.sources.akshare import market
from tests.sources.akshare.conftest import Clients, Clock
from tests.sources.akshare.market import JANUARY, SHANGHAI
from tests.sources.akshare.server import Reply, Site

START, END = JANUARY[0], JANUARY[-1]
MISSING = float("nan")


def rows(source: AkshareSource, dataset: str, start: date = START, end: date = END) -> pd.DataFrame:
    frame = source.fetch(dataset, start, end)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == load_contract()[dataset].column_names
    assert len(frame)
    return frame


def row(frame: pd.DataFrame, **key: object) -> dict[str, object]:
    """The only row with these values, its missing values left out."""
    for column, value in key.items():
        frame = frame[frame[column] == (pd.Timestamp(value) if isinstance(value, date) else value)]
    assert len(frame) == 1
    return frame.iloc[0].dropna().to_dict()


def at(day: str, time: str) -> pd.Timestamp:
    return pd.Timestamp(f"{day} {time}", tz="Asia/Shanghai")


# Golden rows: the pages show the number at the left, the contract wants the one at the right.


def test_shares(source: AkshareSource) -> None:
    frame = rows(source, "etf_share")
    # 9,000,000.5 万份 and 100 more each session
    assert row(frame, etf_code="510300.SH", trade_date=START) == {
        "etf_code": "510300.SH",
        "trade_date": pd.Timestamp(START),
        "shares": 90_000_005_000.0,
        "available_at": at("2026-01-06", "08:30"),
    }
    assert row(frame, etf_code="510300.SH", trade_date=END)["shares"] == 90_009_005_000.0
    # "20,009,000,000" 份
    assert row(frame, etf_code="159915.SZ", trade_date=END)["shares"] == 20_009_000_000.0
    assert len(frame) == 10 * 10
    assert row(frame, etf_code="510300.SH", trade_date=END)["available_at"] == at("2026-01-19", "08:30")


def test_navs(source: AkshareSource) -> None:
    frame = rows(source, "etf_nav")
    found = row(frame, etf_code="510300.SH", trade_date=END)
    assert (found["unit_nav"], found["accumulated_nav"]) == (4.36, 4.86)
    assert found["available_at"] == at("2026-01-19", "08:30")
    # a fund of foreign assets: a session later
    assert row(frame, etf_code="513100.SH", trade_date=START)["available_at"] == at("2026-01-07", "08:30")
    # money funds show income per 10,000 shares where others show a NAV
    assert "511880.SH" not in set(frame["etf_code"])


def test_navs_of_a_longer_range_come_from_whole_histories_and_are_the_same(
    source: AkshareSource, site: Site, clock: Clock
) -> None:
    long = rows(source, "etf_nav", market.SESSIONS[0])
    assert {path.rpartition("/")[2] for path, _ in site.asked if "pingzhongdata" in path} >= {"510300.js", "159915.js"}
    assert not [path for path, _ in site.asked if "lsjz" in path]
    recent = long[long["trade_date"] >= pd.Timestamp(START)].reset_index(drop=True)
    assert_frame_equal(recent, rows(source, "etf_nav"))


def test_bars(source: AkshareSource) -> None:
    # 1,009 手 of 100, 439,924 元
    assert row(rows(source, "etf_bar"), etf_code="510300.SH", trade_date=END) == {
        "etf_code": "510300.SH",
        "trade_date": pd.Timestamp(END),
        "open": 4.36,
        "high": 4.404,
        "low": 4.316,
        "close": 4.364,
        "volume": 100_900.0,
        "amount": 439_924.0,
        "available_at": at("2026-01-16", "17:00"),
    }


def test_five_minute_bars(source: AkshareSource) -> None:
    frame = rows(source, "etf_bar_5min")
    found = row(frame, etf_code="159915.SZ", bar_end=pd.Timestamp("2026-01-16 09:35", tz="Asia/Shanghai"))
    assert (found["volume"], found["amount"], found["close"]) == (100_900.0, 274_952.5, 2.728)
    assert found["available_at"] == at("2026-01-16", "20:00")


def test_splits_and_dividends(source: AkshareSource) -> None:
    split = rows(source, "etf_split")
    # without the OTC fund, and without the ratio that is not published yet
    assert split[["etf_code", "ex_date", "new_per_old"]].to_numpy().tolist() == [
        ["512880.SH", pd.Timestamp("2026-01-12"), 2.0]
    ]
    dividend = rows(source, "etf_dividend")
    assert dividend[["etf_code", "ex_date", "cash_per_share"]].to_numpy().tolist() == [
        ["510300.SH", pd.Timestamp("2026-01-09"), 0.088]
    ]
    assert dividend["available_at"][0] == at("2026-01-09", "08:30")


def test_index_bars(source: AkshareSource) -> None:
    # asked from a Saturday on, the publisher's first row carries that day
    frame = rows(source, "index_bar", date(2026, 1, 3))
    assert frame["trade_date"].min() == pd.Timestamp(START)
    # 2,500.75 亿元
    assert row(frame, index_code="000852.SH", trade_date=END) == {
        "index_code": "000852.SH",
        "trade_date": pd.Timestamp(END),
        "open": 7008.0,
        "high": 7018.0,
        "low": 7000.0,
        "close": 7009.0,
        "amount": 250_075_000_000.0,
        "available_at": at("2026-01-16", "17:00"),
    }
    # 321.5 亿元, from Shenzhen's publisher
    cni = row(frame, index_code="399370.SZ", trade_date=START)
    assert (cni["open"], cni["high"], cni["low"], cni["close"]) == (4999.0, 5009.0, 4991.0, 5000.0)
    assert cni["amount"] == 32_150_000_000.0


def test_weights(source: AkshareSource) -> None:
    frame = rows(source, "index_weight", date(2025, 11, 1), date(2026, 1, 31))
    # 60.5 %, the codes' zeros restored
    assert row(frame, index_code="000300.SH", stock_code="600519.SH") == {
        "index_code": "000300.SH",
        "as_of_date": pd.Timestamp("2025-12-31"),
        "stock_code": "600519.SH",
        "weight": 0.605,
        "available_at": at("2026-01-09", "08:30"),
    }
    assert set(frame.loc[frame["index_code"] == "000300.SH", "stock_code"]) == {"000001.SZ", "300750.SZ", "600519.SH"}
    # 创业板指 has its history; no file for 上证50, which is in no list of this market
    assert set(frame.loc[frame["index_code"] == "399006.SZ", "as_of_date"]) == {
        pd.Timestamp("2025-11-28"),
        pd.Timestamp("2025-12-31"),
    }
    assert "000016.SH" not in set(frame["index_code"])


def test_valuations(source: AkshareSource) -> None:
    frame = rows(source, "index_valuation")
    # 2.75 %; the file has the last four sessions only
    assert row(frame, index_code="000300.SH", trade_date=END) == {
        "index_code": "000300.SH",
        "trade_date": pd.Timestamp(END),
        "pe_ttm": 13.5,
        "dividend_yield": 0.0275,
        "available_at": at("2026-01-19", "08:30"),
    }
    assert "dividend_yield" not in row(frame, index_code="000300.SH", trade_date=START)
    assert set(frame["index_code"]) == {"000300.SH", "000852.SH"}


def test_industries(source: AkshareSource) -> None:
    info = rows(source, "industry_info")
    assert len(info) == info["industry_code"].nunique() == 31
    assert row(info, industry_code="801780.SI") == {
        "scheme": "sw",
        "industry_code": "801780.SI",
        "industry_name": "银行",
    }
    bar = row(rows(source, "industry_bar"), industry_code="801780.SI", trade_date=END)
    assert (bar["scheme"], bar["close"]) == ("sw", 3009.5)


def test_stays_in_industries(source: AkshareSource) -> None:
    frame = rows(source, "stock_industry")
    stays = frame[["stock_code", "industry_code", "in_date", "out_date"]].astype("str").fillna("").to_numpy().tolist()
    assert stays == [
        # an industry given up in 2014 is left out; 480101 and 480301 are the same level-1 industry
        ["000001.SZ", "801780.SI", "2014-02-21", ""],
        ["300750.SZ", "801110.SI", "2018-06-11", "2021-07-30"],
        ["300750.SZ", "801730.SI", "2021-07-30", ""],
        ["600519.SH", "801120.SI", "2001-08-27", ""],
    ]


def test_etf_info(source: AkshareSource) -> None:
    frame = rows(source, "etf_info")
    assert row(frame, etf_code="512880.SH") == {
        "etf_code": "512880.SH",
        "name": "证券ETF",
        "index_code": "399975.SZ",
        "index_name": "中证全指证券公司指数",
        "asset_scope": "aShareStockEtf",
        "category_1": "指数型-股票",
        "management_fee": 0.0015,
        "custody_fee": 0.0005,
        "manager": "某某基金",
        "is_t0": False,
    }
    scopes = frame.set_index("etf_code")["asset_scope"]
    assert scopes[["511880.SH", "513100.SH", "518880.SH"]].tolist() == [
        "moneyEtf",
        "crossBorderStockEtf",
        "commodityEtf",
    ]
    assert frame.set_index("etf_code").loc[["511880.SH", "513100.SH", "518880.SH"], "is_t0"].all()
    assert frame.loc[frame["etf_code"] == "588000.SH", "index_code"].isna().all()
    note = source.validate()["etf_info"]
    assert "1 of 7 A-share stock ETFs have no index code" in note
    assert "is_t0 follows from EastMoney's fund type" in note


def test_fund_info(source: AkshareSource) -> None:
    frame = rows(source, "fund_info")
    # 32.37 亿份
    assert row(frame, fund_code="000001.OF") == {
        "fund_code": "000001.OF",
        "name": "华夏成长混合",
        "fund_type": "混合型",
        "invest_type": "偏股",
        "is_active_equity": True,
        "found_date": pd.Timestamp("2001-12-18"),
        "issue_shares": 3_237_000_000.0,
    }
    # its class C repeats the amount: it counts once
    assert "issue_shares" not in row(frame, fund_code="000002.OF")
    # an exchange-traded fund, and an OTC fund whose code looks like one
    assert row(frame, fund_code="159915.SZ")["issue_shares"] == 800_000_000.0
    assert row(frame, fund_code="519702.OF")["issue_shares"] == 1_250_000_000.0


def test_fund_holdings(source: AkshareSource) -> None:
    frame = rows(source, "fund_holding", date(2025, 4, 1), date(2025, 12, 31))
    # 20,010.25 万元, 8.50 %; public with the quarterly report
    assert row(frame, report_date=date(2025, 6, 30), stock_code="600519.SH") == {
        "fund_code": "519702.OF",
        "report_date": pd.Timestamp("2025-06-30"),
        "announced_date": pd.Timestamp("2025-07-19"),
        "stock_code": "600519.SH",
        "market_value": 200_102_500.0,
        "nav_weight": 0.085,
        "scope": "top10",
        "available_at": at("2025-07-19", "00:00"),
    }
    # the eleventh and twelfth are public with the half-year report, not with the notice of the day before
    full = frame[(frame["scope"] == "full") & (frame["report_date"] == pd.Timestamp("2025-06-30"))]
    assert full["stock_code"].tolist() == ["00700.HK", "600529.SH"]
    assert set(full["announced_date"]) == {pd.Timestamp("2025-08-29")}
    assert row(frame, report_date=date(2025, 12, 31), stock_code="00700.HK")["market_value"] == 40_000_000.0


def test_reports_without_announcement_count_from_the_day_they_had_to_be_public() -> None:
    names = [f"{600_000 + n}" for n in range(11)]
    frame = pd.DataFrame(
        {
            "股票代码": names,
            "占净值比例": 1.0,
            "持仓市值": range(11, 0, -1),
            "季度": "2025年4季度股票投资明细",
        }
    )
    found = mapping.holdings(frame, "000001", {})
    assert found["announced_date"].isna().all()
    # the ten largest: the contract's default lag; the other: 91 days after the year
    assert found["available_at"].isna().tolist() == [True] * 10 + [False]
    assert found["available_at"].iloc[-1] == at("2026-04-01", "00:00")


def test_fund_returns(source: AkshareSource) -> None:
    # 0.25 %
    found = row(rows(source, "fund_return"), trade_date=END)
    assert (found["series_code"], found["daily_return"]) == ("930950.CSI", 0.0025)
    assert found["available_at"] == at("2026-01-19", "08:30")


def test_margins(source: AkshareSource) -> None:
    frame = rows(source, "etf_margin")
    assert row(frame, etf_code="510300.SH", trade_date=END) == {
        "etf_code": "510300.SH",
        "trade_date": pd.Timestamp(END),
        "financing_balance": 1_300_000_000.0,
        "financing_buy": 12_000_009.0,
        "short_volume": 45_600.0,
        "short_sell_volume": 2_309.0,
        "available_at": at("2026-01-19", "09:00"),
    }
    sz = row(frame, etf_code="159915.SZ", trade_date=START)
    assert (sz["financing_balance"], sz["financing_buy"]) == (800_000_002.0, 7_000_001.0)
    assert (sz["short_volume"], sz["short_sell_volume"]) == (22_200.0, 1_100.0)
    assert set(frame["etf_code"]) == {"510300.SH", "510050.SH", "159915.SZ"}


def test_holders(source: AkshareSource) -> None:
    frame = rows(source, "etf_holder", date(2024, 12, 31), date(2025, 12, 31))
    # 83.06 % of 894.00 亿份
    found = row(frame, etf_code="510300.SH", report_date=date(2025, 6, 30), holder="institution")
    assert found["ratio"] == pytest.approx(0.8306, abs=1e-12)
    assert found["shares"] == pytest.approx(74_255_640_000.0, abs=1)
    assert found["announced_date"] == pd.Timestamp("2025-08-29")
    # 20.60 % of 607.50 亿份
    other = row(frame, etf_code="510300.SH", report_date=date(2024, 12, 31), holder="individual")
    assert other["shares"] == pytest.approx(12_514_500_000.0, abs=1)
    assert other["available_at"] == at("2025-03-28", "00:00")


def test_szse_report_is_the_exchanges_own(source: AkshareSource, site: Site) -> None:
    report = source.szse_share_report(date(2025, 12, 30), date(2026, 1, 6))
    assert report.columns.tolist() == ["etf_code", "trade_date", "shares"]
    assert report["etf_code"].unique().tolist() == ["159915.SZ", "159919.SZ"]
    assert report["trade_date"].dt.strftime("%m-%d").tolist()[:4] == ["12-30", "12-31", "01-05", "01-06"]
    # 2,000,000 万份 less 100 a session before 2026-01-05
    assert report["shares"].tolist()[:4] == [19_998_000_000.0, 19_999_000_000.0, 20_000_000_000.0, 20_001_000_000.0]
    # a request a month: over half a year there would be no answer
    asked = [(query["txtStart"], query["txtEnd"]) for _, query in site.asked]
    assert asked == [("2025-12-30", "2025-12-31"), ("2026-01-05", "2026-01-06")]


# What is missing, and says so.


@pytest.mark.parametrize(
    ("dataset", "reason"), [("stock_value", "no free float"), ("theme_industry", "no table of themes")]
)
def test_what_akshare_lacks(source: AkshareSource, site: Site, dataset: str, reason: str) -> None:
    answer = source.fetch(dataset, START, END)
    assert isinstance(answer, NotAvailable)
    assert reason in answer.reason
    assert reason in source.validate()[dataset]
    assert site.asked == []


def test_notes_say_what_to_do_about_the_scheme(source: AkshareSource) -> None:
    notes = source.validate()
    assert "set the parameter scheme to sw" in notes["industry_info"]
    assert notes.keys() <= load_contract().keys()
    assert source.label == "akshare"
    assert source.span == (FIRST_DAY["akshare"], END)


def test_an_unknown_dataset(source: AkshareSource) -> None:
    with pytest.raises(SourceError, match="unknown dataset etf_shares"):
        source.fetch("etf_shares", START, END)


def test_only_what_is_due_is_taken(source: AkshareSource, clock: Clock, site: Site) -> None:
    # Friday, 16:59: the day's bar is still moving
    clock.now = datetime(2026, 1, 16, 16, 59, tzinfo=SHANGHAI)
    assert rows(source, "index_bar")["trade_date"].max() == pd.Timestamp(JANUARY[-2])
    clock.now += timedelta(minutes=1)
    assert rows(source, "index_bar")["trade_date"].max() == pd.Timestamp(END)
    assert rows(source, "etf_share")["trade_date"].max() == pd.Timestamp(JANUARY[-3 + 1])
    site.asked.clear()
    nothing = source.fetch("etf_share", END, END)
    assert isinstance(nothing, pd.DataFrame)
    assert nothing.empty
    assert site.asked == []


# Empty sessions.


def test_a_session_without_rows_is_an_error(source: AkshareSource, site: Site, clock: Clock) -> None:
    empty = market.sse_shares({"STAT_DATE": "2026-01-17"})
    with site.instead("STAT_DATE=2026-01-09", empty), pytest.raises(EmptyDay, match="etf_share: no rows of 2026-01-09"):
        source.fetch("etf_share", START, END)
    # the empty answer is asked for again after some minutes
    clock.now += timedelta(minutes=11)
    assert len(rows(source, "etf_share")) == 100


def test_the_newest_session_may_be_late_and_is_asked_for_again(source: AkshareSource, site: Site, clock: Clock) -> None:
    empty = market.sse_shares({"STAT_DATE": "2026-01-17"})
    with site.instead("STAT_DATE=2026-01-16", empty):
        # one exchange is late: the session waits for both
        assert rows(source, "etf_share")["trade_date"].max() == pd.Timestamp(JANUARY[-2])
        with pytest.raises(NotPublished, match="2026-01-16 not published yet") as refusal:
            source.fetch("etf_share", END, END)
        assert isinstance(refusal.value, TransientSourceError)
    asked = len(site.asked)
    with pytest.raises(NotPublished):
        source.fetch("etf_share", END, END)
    assert len(site.asked) == asked
    clock.now += timedelta(minutes=11)
    assert len(rows(source, "etf_share", END, END)) == 10


def test_a_late_shenzhen_report_is_asked_for_again(source: AkshareSource, site: Site, clock: Clock) -> None:
    late = market.szse_shares({"txtStart": "2026-01-05", "txtEnd": "2026-01-15"})
    with site.instead("scsj_fund_jjgm", late):
        assert rows(source, "etf_share")["trade_date"].max() == pd.Timestamp(JANUARY[-2])
    clock.now += timedelta(minutes=11)
    assert rows(source, "etf_share")["trade_date"].max() == pd.Timestamp(END)


def test_no_margins_of_one_exchange_is_an_error(source: AkshareSource, site: Site) -> None:
    empty = market.szse_margin({"txtDate": "2026-01-17"})
    with site.instead("txtDate=2026-01-07", empty), pytest.raises(EmptyDay, match="etf_margin: no rows of 2026-01-07"):
        source.fetch("etf_margin", START, END)


def test_an_index_without_rows_is_an_error(client: AkshareClient) -> None:
    with pytest.raises(EmptyDay, match=r"no rows of 999999\.CSI from 2026-01-05"):
        AkshareSource(client, ("000300.SH", "999999.CSI")).fetch("index_bar", START, END)


# Asking again, or not.


def test_settled_answers_are_final_and_others_are_asked_for_again_when_something_new_is_due(
    source: AkshareSource, site: Site, clock: Clock
) -> None:
    first = rows(source, "etf_share")
    assert len(site.asked) == 10 + 1

    def asked_at(moment: datetime) -> int:
        site.asked.clear()
        clock.now = moment
        assert_frame_equal(rows(source, "etf_share"), first)
        return len(site.asked)

    assert asked_at(datetime(2026, 1, 20, 8, 29, tzinfo=SHANGHAI)) == 0
    # Monday's shares became due: the answers about the last days may be revised
    assert asked_at(datetime(2026, 1, 20, 8, 30, tzinfo=SHANGHAI)) == 11
    assert asked_at(datetime(2026, 1, 20, 23, 0, tzinfo=SHANGHAI)) == 0
    assert asked_at(datetime(2026, 1, 23, 12, 0, tzinfo=SHANGHAI)) == 11
    # five sessions after Friday it is final
    assert asked_at(datetime(2026, 1, 26, 8, 30, tzinfo=SHANGHAI)) == 11
    assert asked_at(datetime(2026, 6, 26, 8, 30, tzinfo=SHANGHAI)) == 0


def test_snapshots_are_taken_once_a_day_and_pages_of_funds_once_a_month(
    source: AkshareSource, site: Site, clock: Clock
) -> None:
    def asked(part: str) -> int:
        return sum(part in path for path, _ in site.asked)

    rows(source, "etf_info")
    assert (asked("fundcode_search.js"), asked("jbgk_")) == (1, 10)
    clock.now = datetime(2026, 1, 19, 23, 59, tzinfo=SHANGHAI)
    rows(source, "etf_info")
    assert (asked("fundcode_search.js"), asked("jbgk_")) == (1, 10)
    clock.now = datetime(2026, 1, 20, 0, 0, tzinfo=SHANGHAI)
    rows(source, "etf_info")
    assert (asked("fundcode_search.js"), asked("jbgk_")) == (2, 10)


def test_an_interrupted_fetch_goes_on_where_it_stopped(source: AkshareSource, site: Site) -> None:
    with site.instead("secid=1.513100", Reply(drop=True)), pytest.raises(VendorUnavailable):
        source.fetch("etf_bar", START, END)
    done = {query["secid"] for path, query in site.asked if "kline" in path} - {"1.513100"}
    site.asked.clear()
    assert rows(source, "etf_bar")["etf_code"].nunique() == 10
    again = {query["secid"] for path, query in site.asked if "kline" in path}
    assert len(done) > 5
    assert done.isdisjoint(again)


def test_a_past_fetch_repeats_offline(clients: Clients, source: AkshareSource, site: Site, clock: Clock) -> None:
    live = {name: source.fetch(name, START, END) for name in load_contract()}
    site.asked.clear()
    clock.now += timedelta(days=1, hours=-4)
    offline = AkshareSource(clients(offline=True), ("000300.SH", "000852.SH", "399370.SZ", "399371.SZ"))
    for name, frame in live.items():
        again = offline.fetch(name, START, END)
        if isinstance(frame, NotAvailable):
            assert again == frame
        else:
            assert isinstance(again, pd.DataFrame)
            assert_frame_equal(again, frame)
    assert site.asked == []


def csi_weights_of(day: int, first: float = 60.5) -> Reply:
    columns = list("abcdefghij")
    return market.sheet(
        columns,
        [
            (day, 300, "n", "n", 600519, "s", "s", "上海证券交易所", "E", first),
            (day, 300, "n", "n", 1, "s", "s", "深圳证券交易所", "E", 39.5),
        ],
    )


def test_older_weights_come_from_answers_stored_at_the_time(source: AkshareSource, site: Site, clock: Clock) -> None:
    before = rows(source, "index_weight", date(2025, 12, 1), date(2025, 12, 31))
    clock.now = datetime(2026, 2, 9, 12, 0, tzinfo=SHANGHAI)
    with site.instead("closeweight", csi_weights_of(20260130)):
        both = rows(source, "index_weight", date(2025, 12, 1), date(2026, 1, 31))
        assert sorted(both["as_of_date"].dt.strftime("%Y-%m-%d").unique()) == ["2025-12-31", "2026-01-30"]
        old = both[(both["as_of_date"] < "2026-01-01") & (both["index_code"] == "000300.SH")]
        was = before[before["index_code"] == "000300.SH"]
        assert_frame_equal(old.reset_index(drop=True), was.reset_index(drop=True))
        nothing = source.fetch("index_weight", date(2025, 9, 1), date(2025, 9, 30))
    assert isinstance(nothing, NotAvailable)
    assert "the newest month end only" in nothing.reason
    # a month whose weights are not there yet has no rows, but is no reason to stop
    running = source.fetch("index_weight", date(2026, 2, 1), date(2026, 2, 28))
    assert isinstance(running, pd.DataFrame)
    assert running.empty


def test_a_set_that_does_not_sum_to_one_is_left_out_and_many_are_refused(source: AkshareSource) -> None:
    stocks = pd.DataFrame({"stock_code": ["600519.SH", "000001.SZ"], "weight": [0.6, 0.4]})
    sets = [stocks.assign(index_code=f"{900_000 + n}.CSI", as_of_date=pd.Timestamp("2025-12-31")) for n in range(20)]
    sets[3] = sets[3].assign(weight=[0.05, 0.03])
    kept = source._without_broken_sets(pd.concat(sets, ignore_index=True))
    assert kept["index_code"].nunique() == 19
    assert "900003.CSI 2025-12-31 (0.0800)" in source.validate()["index_weight"]
    sets[4] = sets[3].assign(index_code="900004.CSI")
    with pytest.raises(CanaryError, match="2 of 20 weight sets do not sum to 1"):
        source._without_broken_sets(pd.concat(sets, ignore_index=True))


def test_names_of_indexes_are_matched_plainly_and_never_to_two() -> None:
    listed = pd.DataFrame(
        [["000300", "沪深300", "沪深300指数"], ["931000", "双名", "甲指数"], ["931001", "双名", "乙指数"]],
        columns=["指数代码", "指数简称", "指数全称"],
    )
    codes = mapping.index_codes(listed)
    found = {
        name: codes.get(mapping.plain_index_name(name))
        for name in ("沪深300 指数", "双名指数", "甲", "上证50指数", "丙")
    }
    assert found == {
        "沪深300 指数": "000300.SH",
        "双名指数": None,
        "甲": "931000.CSI",
        "上证50指数": "000016.SH",
        "丙": None,
    }


def test_the_pipeline_fills_its_lake_from_akshare(source: AkshareSource, site: Site, tmp_path: Path) -> None:
    deployment = Deployment(
        source="akshare", lake=tmp_path / "lake", gateways=site.gateways, parameters={"scheme": "sw"}
    )
    assert Deployment.model_validate_json(deployment.model_dump_json()) == deployment
    made = Pipeline(deployment)
    assert made.source.label == "akshare"
    made.__dict__["source"] = source  # the same, with this test's clock
    assets = [a for a in raw_assets(START, END) if a.key.path[-1] in ("etf_info", "stock_value")]
    result = dg.materialize(assets, resources={"pipeline": made})
    assert result.success
    notes = {e.asset_key.path[-1]: e.materialization.metadata for e in result.get_asset_materialization_events()}
    assert "no index code" in str(notes["etf_info"]["note"].value)
    assert "free float" in str(notes["stock_value"]["reason"].value)
    assert len(made.lake.read_raw(load_contract()["etf_info"])) == 10
