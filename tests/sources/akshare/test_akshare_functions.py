"""What each function promises: how it says that it has nothing, and that changed columns or units are refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from etf_pipeline.sources.akshare.client import AkshareClient
from etf_pipeline.sources.akshare.functions import FUNCTIONS, CanaryError, check_canary
from etf_pipeline.sources.base import MalformedResponse, ResponseCut, SourceError, TransientSourceError
from tests.sources.akshare import market
from tests.sources.akshare.market import text
from tests.sources.akshare.server import Reply, Site

JANUARY = {"start_date": "20260105", "end_date": "20260116"}
HOLIDAY = {"start_date": "20260117", "end_date": "20260118"}
GOOD: dict[str, dict[str, str]] = {
    "fund_etf_scale_sse": {"date": "20260116"},
    "fund_scale_daily_szse": {**JANUARY, "symbol": "ETF"},
    "fund_name_em": {},
    "fund_overview_em": {"symbol": "510300"},
    "index_csindex_all": {},
    "fund_etf_fund_info_em": {"fund": "510300", **JANUARY},
    "fund_open_fund_info_em": {"symbol": "510300", "indicator": "单位净值走势"},
    "fund_fh_em": {"year": "2026"},
    "fund_cf_em": {"year": "2026"},
    "fund_etf_hist_em": {"symbol": "510300", **JANUARY},
    "fund_etf_hist_min_em": {"symbol": "510300", "period": "5"},
    "index_stock_cons_weight_csindex": {"symbol": "000300"},
    "index_detail_hist_cni": {"symbol": "399006"},
    "stock_zh_index_hist_csindex": {"symbol": "000300", **JANUARY},
    "index_hist_cni": {"symbol": "399370", **JANUARY},
    "stock_zh_index_value_csindex": {"symbol": "000300"},
    "stock_industry_clf_hist_sw": {},
    "index_hist_sw": {"symbol": "801780", "period": "day"},
    "stock_margin_detail_sse": {"date": "20260116"},
    "stock_margin_detail_szse": {"date": "20260116"},
    "fund_portfolio_hold_em": {"symbol": "519702", "date": "2025"},
    "fund_announcement_report_em": {"symbol": "519702"},
    "fund_holders": {"symbol": "510300"},
    "fund_new_found_em": {},
}
NOTHING: dict[str, dict[str, str]] = {
    "fund_etf_scale_sse": {"date": "20260117"},
    "fund_scale_daily_szse": {**HOLIDAY, "symbol": "ETF"},
    "fund_etf_fund_info_em": {"fund": "510300", **HOLIDAY},
    "fund_open_fund_info_em": {"symbol": "511880", "indicator": "单位净值走势"},
    "fund_fh_em": {"year": "2025"},
    "fund_cf_em": {"year": "2025"},
    "fund_etf_hist_em": {"symbol": "510999", **JANUARY},
    "fund_etf_hist_min_em": {"symbol": "510999", "period": "5"},
    "index_stock_cons_weight_csindex": {"symbol": "999999"},
    "stock_zh_index_hist_csindex": {"symbol": "999999", **JANUARY},
    "index_hist_cni": {"symbol": "399370", **HOLIDAY},
    "stock_zh_index_value_csindex": {"symbol": "999999"},
    "stock_margin_detail_sse": {"date": "20260117"},
    "stock_margin_detail_szse": {"date": "20260117"},
    "fund_portfolio_hold_em": {"symbol": "519702", "date": "2020"},
    "fund_holders": {"symbol": "510500"},
}


def page_of(function: str) -> Reply:
    """The page that answers the good call of a function, for spoiling."""
    reply = {
        "fund_etf_scale_sse": lambda: market.sse_shares({"STAT_DATE": "2026-01-16"}),
        "fund_scale_daily_szse": lambda: market.szse_shares({"txtStart": "2026-01-05", "txtEnd": "2026-01-16"}),
        "fund_overview_em": lambda: market.overview("510300"),
        "fund_etf_hist_em": lambda: market.kline(
            {"secid": "1.510300", "klt": "101", "beg": "20260105", "end": "20260116"}
        ),
        "stock_margin_detail_sse": lambda: market.sse_margin({"detailsDate": "20260116"}),
        "stock_zh_index_hist_csindex": lambda: market.csi_bars(
            {"indexCode": "000300", "startDate": "20260105", "endDate": "20260116"}
        ),
        "fund_holders": lambda: market.archives({"type": "cyrjg", "code": "510300"}),
        "fund_new_found_em": market.new_funds,
        "fund_name_em": market.fund_names,
        "fund_portfolio_hold_em": lambda: market.archives({"type": "jjcc", "code": "519702", "year": "2025"}),
    }[function]()
    assert reply.body
    return reply


def rewritten(function: str, change: Callable[[str], str]) -> Reply:
    """The function's page with its text changed; something must change."""
    before = page_of(function).body.decode()
    after = change(before)
    assert after != before
    return Reply(after.encode(), content_type="text/html")


def szse_report(column: str, shares: str) -> Reply:
    return market.sheet(["日期", "基金代码", "基金简称", column], [("2026-01-16", "159915", "创业板ETF", shares)])


def test_good_answers_of_every_function_pass(client: AkshareClient) -> None:
    assert GOOD.keys() == FUNCTIONS.keys()
    for function, arguments in GOOD.items():
        answer = client.call(function, arguments)
        assert len(answer.frame), function
        assert len(answer.responses) == 1, function


@pytest.mark.parametrize("function", NOTHING)
def test_nothing_is_no_rows_with_columns(client: AkshareClient, function: str) -> None:
    frame = client.call(function, NOTHING[function]).frame
    assert frame.empty
    assert list(frame.columns) == list(FUNCTIONS[function].columns)


@pytest.mark.parametrize(
    ("function", "body"),
    [
        ("fund_etf_scale_sse", b'{"result": null}'),
        ("fund_etf_scale_sse", b'{"actionErrors": ["busy"]}'),
        ("fund_fh_em", b"var error = 1;"),
        ("fund_etf_fund_info_em", b'{"Data": "", "ErrCode": -999, "ErrMsg": "illegal", "TotalCount": -1}'),
        ("fund_etf_hist_min_em", b'{"rc": 102}'),
        ("fund_open_fund_info_em", b"var other = 1;"),
        ("stock_margin_detail_sse", b'{"result": [{}]}'),
    ],
)
def test_what_only_looks_like_nothing_is_an_error(
    client: AkshareClient, site: Site, function: str, body: bytes
) -> None:
    with site.instead("", Reply(body)), pytest.raises(MalformedResponse):
        client.call(function, GOOD[function])


@dataclass(frozen=True)
class Spoilt:
    """A page that must be refused, and what the refusal says."""

    name: str
    function: str
    page: Callable[[], Reply]
    error: type[SourceError]
    told: str


SPOILT = [
    Spoilt("no JSON", "fund_etf_scale_sse", lambda: text("ok"), MalformedResponse, "JSONDecodeError"),
    Spoilt(
        "cut JSON",
        "fund_etf_scale_sse",
        lambda: Reply(page_of("fund_etf_scale_sse").body[:300]),
        MalformedResponse,
        'the vendor sent \'{"actionErrors"',
    ),
    Spoilt("empty body", "fund_etf_hist_em", lambda: Reply(b""), MalformedResponse, "symbol='510300'"),
    Spoilt(
        "field renamed",
        "fund_etf_scale_sse",
        lambda: rewritten("fund_etf_scale_sse", lambda s: s.replace("TOT_VOL", "TOTAL_VOL")),
        MalformedResponse,
        "基金份额",
    ),
    Spoilt(
        "one more column",
        "fund_name_em",
        lambda: text('var r = [["000001","A","B","C","D","E"]];'),
        MalformedResponse,
        "",
    ),
    Spoilt("no sheet", "fund_scale_daily_szse", lambda: Reply(b"PK\x03\x04junk"), MalformedResponse, "symbol='ETF'"),
    Spoilt("no table", "fund_overview_em", lambda: text("<html>busy</html>"), MalformedResponse, "No tables found"),
    Spoilt("no object", "fund_holders", lambda: text("none"), MalformedResponse, "not a valid JS object"),
    Spoilt("not JavaScript", "fund_open_fund_info_em", lambda: text("fS_code = ["), MalformedResponse, "单位净值走势"),
    Spoilt("prose", "fund_cf_em", lambda: text("系统维护中"), MalformedResponse, "year='2026'"),
    Spoilt(
        "column renamed, missing throughout",
        "fund_scale_daily_szse",
        lambda: market.sheet(
            ["日期", "基金代码", "基金简称", "基金规模(万份)"], [("2026-01-16", "159915", "x", "2,000")]
        ),
        CanaryError,
        "`基金份额` is missing in 1 of 1 rows",
    ),
    Spoilt(
        "cell gone",
        "fund_overview_em",
        lambda: rewritten("fund_overview_em", lambda s: s.replace("<th>跟踪标的</th>", "<th>跟踪指数</th>")),
        CanaryError,
        "columns changed: expected 基金简称",
    ),
    Spoilt(
        "fee a month",
        "fund_overview_em",
        lambda: rewritten("fund_overview_em", lambda s: s.replace("0.15%（每年）", "0.0125%（每月）")),
        CanaryError,
        "`管理费率` '0.0125%（每月）' is not a yearly rate in percent",
    ),
    Spoilt(
        "no code",
        "stock_margin_detail_sse",
        lambda: rewritten("stock_margin_detail_sse", lambda s: s.replace('"510050"', '"SH510050"')),
        CanaryError,
        "`标的证券代码` is no code in 1 rows, first 'SH510050'",
    ),
    Spoilt(
        "no day",
        "fund_etf_scale_sse",
        lambda: rewritten("fund_etf_scale_sse", lambda s: s.replace("2026-01-16", "昨日")),
        CanaryError,
        "`统计日期` is missing in 8 of 8 rows",
    ),
    Spoilt(
        "万份 for 份",
        "fund_etf_scale_sse",
        lambda: market.js(
            {
                "result": [
                    {**row, "TOT_VOL": f"{float(row['TOT_VOL']) / 10_000}"}
                    for row in json.loads(page_of("fund_etf_scale_sse").body)["result"]
                ]
            }
        ),
        CanaryError,
        "as in 份",
    ),
    Spoilt(
        "亿份 for 份",
        "fund_scale_daily_szse",
        lambda: market.sheet(
            ["日期", "基金代码", "基金简称", "基金规模(份)"], [("2026-01-16", "159915", "x", "200.09")]
        ),
        CanaryError,
        "of 159901, 159915",
    ),
    Spoilt(
        "份 for 手",
        "fund_etf_hist_em",
        lambda: rewritten("fund_etf_hist_em", lambda s: s.replace(",100", ",10000").replace("1000,", "100000,")),
        CanaryError,
        "not in 元 and 手",
    ),
    Spoilt(
        "元 for 亿元",
        "stock_zh_index_hist_csindex",
        lambda: rewritten("stock_zh_index_hist_csindex", lambda s: s.replace("2500.75", "250075000000")),
        CanaryError,
        "not in 亿元 and 万手",
    ),
    Spoilt(
        "万元 for 元",
        "stock_margin_detail_sse",
        lambda: rewritten("stock_margin_detail_sse", lambda s: s.replace("1300000000", "130000")),
        CanaryError,
        "`融资余额`",
    ),
    Spoilt(
        "fractions for percent (weights)",
        "index_stock_cons_weight_csindex",
        lambda: market.sheet(
            list("abcdefghij"),
            [
                (20251231, 300, "n", "n", 600519, "s", "s", "上海证券交易所", "E", 0.6),
                (20251231, 300, "n", "n", 1, "s", "s", "深圳证券交易所", "E", 0.4),
            ],
        ),
        CanaryError,
        "`权重` sums to 1 a day: not in percent",
    ),
    Spoilt(
        "fractions for percent (holders)",
        "fund_holders",
        lambda: rewritten(
            "fund_holders",
            lambda s: (
                s.replace("83.06%", "0.8306")
                .replace("16.94%", "0.1694")
                .replace("79.40%", "0.7940")
                .replace("20.60%", "0.2060")
            ),
        ),
        CanaryError,
        "is 1, not 100: not in percent",
    ),
    Spoilt(
        "份 for 亿份",
        "fund_new_found_em",
        lambda: rewritten(
            "fund_new_found_em", lambda s: s.replace("32.37", "3237000000").replace("12.50", "1250000000")
        ),
        CanaryError,
        "as in 亿份",
    ),
    Spoilt(
        "元 for 万元",
        "fund_portfolio_hold_em",
        lambda: rewritten("fund_portfolio_hold_em", lambda s: s.replace("1,000.50<", "0.10<")),
        CanaryError,
        "not in 万元 and 万股",
    ),
]


@pytest.mark.parametrize("case", SPOILT, ids=lambda case: case.name)
def test_a_spoilt_page_is_refused_with_call_and_rule(
    client: AkshareClient, site: Site, case: Spoilt, tmp_path: Path
) -> None:
    with site.instead("", case.page()), pytest.raises(case.error) as refusal:
        client.call(case.function, GOOD[case.function])
    message = str(refusal.value)
    assert not isinstance(refusal.value, TransientSourceError)
    for part in (f"akshare {case.function}(", *(f"{k}={v!r}" for k, v in GOOD[case.function].items()), case.told):
        assert part in message
    assert not list(tmp_path.rglob("*.gz"))


def test_as_many_rows_as_are_ever_sent_are_too_few(client: AkshareClient, site: Site) -> None:
    row = json.loads(market.announcements({"fundcode": "519702"}).body)["Data"][0]
    with (
        site.instead("JJGG", market.js({"Data": [row] * 1_000})),
        pytest.raises(ResponseCut, match="1,000 rows, the most"),
    ):
        client.call("fund_announcement_report_em", {"symbol": "519702"})


def test_the_canary_names_a_lost_column() -> None:
    frame = pd.DataFrame(columns=["日期", "基金代码", "基金简称", "份额"])
    with pytest.raises(
        CanaryError, match="expected 日期, 基金代码, 基金简称, 基金份额; found 日期, 基金代码, 基金简称, 份额"
    ):
        check_canary("fund_scale_daily_szse", frame)
