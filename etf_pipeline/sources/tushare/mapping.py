"""What Tushare has for each dataset: the questions to ask it, and its answers in the contract's columns and units.

Here: every fact about the vendor's APIs and units, once. Not here: calls, storing and freshness (`source.py`), and the
contract's rules, which `canonical_frame` applies to whatever a conversion returns. Numbers that came as text are
passed on as they are, so that the gate refuses them with the values shown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from itertools import product
from typing import Protocol

import numpy as np
import pandas as pd

from etf_pipeline.contract import AVAILABLE_AT, EARLIEST_DATE, load_contract
from etf_pipeline.core.calendar import last_calendar_session, moments, sessions_after, sessions_between
from etf_pipeline.sources.base import DISAGREEMENTS, NotAvailable, SourceError
from etf_pipeline.sources.canonical import CODE_PATTERN, days_of
from etf_pipeline.sources.trust import (
    SHENZHEN_REPORT_BEGINS,
    ExchangeReport,
    as_text,
    dated_by_exchange,
    reconcile,
    without_broken_sets,
)
from etf_pipeline.sources.vocabulary import normalised_codes

NOTE = "note"
"""Name in a converted frame's `attrs` of what is notable about these rows."""

# what one unit of the vendor's is in ours
WAN = 1e4  # 万份 in 份, 万元 in CNY, 万股 in shares
YI = 1e8  # 亿份 in 份
LOT = 100.0  # 手 in 份
THOUSAND = 1e3  # 千元 in CNY
PERCENT = 0.01

PAGE_ROWS = 2000
"""Page size where no row cap is documented; no documented cap is smaller."""
ACTIVE_FUND_INDEX = "930950.CSI"
"""CSI's index of active equity funds; its return stands for theirs."""
_ALSO_ASKED = {"000300.SH": "399300.SZ"}
"""Indices whose weights Tushare documents under their other code."""
CITIC_LEVEL_1 = tuple(f"CI0050{number:02d}" for number in range(1, 31))

_FEE_PERCENT = (0.01, 1.5)
"""Bounds of the median yearly fee in percent; outside of them the vendor has changed its unit."""
_PRICE_RATIO = (0.8, 1.25)
"""Bounds of the median of money per share traded over the close."""
_SHARE_DIFFERENCE = 1e-5
"""Relative difference of two counts of shares that is worth showing; vendors round to a hundredth of a 万份."""
_TOP_POSITIONS = 10
_ANNOUNCING_DAYS = 125
"""A report is announced within four months of its quarter end."""
_END_OF_DAY = time(23, 59)


@dataclass(frozen=True)
class Api:
    """One API: the fields asked for, what an account needs for it, and the row cap of one answer (None: unknown).

    `paged` is false where paging is not known to work; such an answer must stay below the cap.
    """

    fields: tuple[str, ...]
    points: int
    cap: int | None = None
    paged: bool = True
    minute_licence: bool = False

    @property
    def page_size(self) -> int | None:
        """Rows of a page; None for one un-paged call."""
        return (self.cap or PAGE_ROWS) if self.paged else None


def _fields(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_MEMBERS = _fields("l1_code l1_name ts_code in_date out_date")
_BARS = "ts_code trade_date open high low close"

APIS: Mapping[str, Api] = {
    "etf_basic": Api(
        _fields("ts_code csname extname index_code index_name list_date mgr_name mgt_fee etf_type"), 8000, 5000
    ),
    "fund_basic": Api(
        _fields(
            "ts_code name management fund_type found_date list_date delist_date issue_amount m_fee c_fee invest_type"
        ),
        2000,
        15000,
    ),
    "fund_share": Api(_fields("ts_code trade_date fd_share"), 2000, 2000),
    "fund_nav": Api(_fields("ts_code ann_date nav_date unit_nav accum_nav"), 2000),
    "fund_daily": Api(_fields(f"{_BARS} vol amount"), 5000, 5000),
    "fund_adj": Api(_fields("ts_code trade_date adj_factor"), 600, 2000),
    "fund_div": Api(_fields("ts_code ann_date imp_anndate div_proc ex_date div_cash"), 400),
    "stk_mins": Api(_fields("ts_code trade_time open close high low vol amount"), 0, 8000, False, minute_licence=True),
    "index_daily": Api(_fields(f"{_BARS} pre_close amount"), 2000, 8000, False),
    "index_weight": Api(_fields("index_code con_code trade_date weight"), 2000),
    "index_dailybasic": Api(_fields("ts_code trade_date pe_ttm pb"), 400, 3000),
    "ci_index_member": Api(_MEMBERS, 5000, 5000, False),
    "index_member_all": Api(_MEMBERS, 2000, 2000, False),
    "index_classify": Api(_fields("index_code industry_name"), 2000, None, False),
    "ci_daily": Api(_fields("ts_code trade_date close"), 5000, 4000),
    "sw_daily": Api(_fields("ts_code trade_date close"), 5000, 4000),
    "daily_basic": Api(_fields("ts_code trade_date close free_share total_mv circ_mv"), 2000, 6000),
    "fund_portfolio": Api(_fields("ts_code ann_date end_date symbol mkv"), 5000),
    "margin_detail": Api(_fields("ts_code trade_date rzye rzmre rqyl rqmcl"), 2000, 6000),
}
"""Every API that is asked; points and caps as documented."""


@dataclass(frozen=True)
class Question:
    """One query of an API over all its pages. `day` is the last day the answer is about; None for a list of today.

    About `rows` rows will come (0: no more than a page). Where `never_empty`, no row at all is a gap of the vendor.
    Where the answer is longer than Tushare pages through, the questions of `instead` are asked in its place.
    """

    api: str
    params: Mapping[str, str]
    day: date | None = None
    rows: int = 0
    never_empty: bool = False
    instead: Callable[[], "Sequence[Question]"] | None = None


@dataclass(frozen=True)
class Window:
    """Days asked for, `start` … `end`, none of them later than `public`, the last one the vendor may have."""

    start: date
    end: date
    public: date

    @property
    def sessions(self) -> pd.DatetimeIndex:
        """Sessions from `start` to `end`."""
        return sessions_between(self.start, self.end)

    def around(self, count: int) -> pd.DatetimeIndex:
        """`sessions` with so many before and after them, as far as the calendar reaches."""
        days = timedelta(days=10 * count + 20)
        wider = sessions_between(self.start - days, max(self.end, min(self.end + days, last_calendar_session())))
        first = int(wider.searchsorted(pd.Timestamp(self.start)))
        last = int(wider.searchsorted(pd.Timestamp(self.end), side="right"))
        return wider[max(first - count, 0) : last + count]

    @property
    def labels(self) -> pd.DatetimeIndex:
        """Public sessions under which rows of the window may stand where labels are up to a session off."""
        around = self.around(1)
        return around[around <= pd.Timestamp(self.public)]

    @property
    def quarter_ends(self) -> pd.DatetimeIndex:
        """Ends of quarters from `start` to `end`."""
        return pd.date_range(self.start, self.end, freq="QE")

    def periods(self, frequency: str) -> list[tuple[date, date]]:
        """First and last days of the calendar's years (Y) or months (M) that hold days of the window.

        Whole ones, whatever the window: an answer serves every window within.
        """
        periods = pd.period_range(self.start, self.end, freq=frequency)
        return [(period.start_time.date(), period.end_time.date()) for period in periods]


class Lists(Protocol):
    """What exists, as of today: what to ask for and what to leave out."""

    @property
    def etfs(self) -> pd.DataFrame:
        """Canonical `etf_info`."""
        ...

    @property
    def sw_industries(self) -> Sequence[str]:
        """Codes of the Shenwan level-1 industries."""
        ...

    @property
    def active_funds(self) -> Sequence[str]:
        """Codes of the active equity funds."""
        ...

    @property
    def style_indices(self) -> Sequence[str]:
        """Codes of the indices style regimes need."""
        ...

    @property
    def exchange_report(self) -> ExchangeReport | None:
        """Shares as the Shenzhen exchange reports them; None where labels are taken as they are."""
        ...

    def exchange_funds(self, day: date) -> int:
        """How many funds were listed on a day."""
        ...


Rows = Mapping[str, pd.DataFrame]
"""Answers by API, all questions in one frame; an API the account cannot read is absent."""
Ask = Callable[[Window, Lists], Sequence[Question]]
Convert = Callable[[Rows, Lists, Window], pd.DataFrame]


@dataclass(frozen=True)
class Adapter:
    """How one dataset is had: what to ask of each API, and how to convert the rows.

    Without the APIs in `spare` the dataset can still be had, but lacks what stands there. `note` is what a user should
    know. `final_sessions`: sessions after its day until a row no longer changes, where that takes unusually long.
    """

    ask: Mapping[str, Ask]
    convert: Convert
    note: str = ""
    spare: Mapping[str, str] = field(default_factory=dict)
    final_sessions: int | None = None


# --- questions --------------------------------------------------------------------------------------------------


def ymd(day: date) -> str:
    """A day as Tushare writes it."""
    return f"{day:%Y%m%d}"


def _daily(api: str, day: str = "trade_date", *, whole: bool = False, per_fund: bool = False, **params: str) -> Ask:
    """One question a session; `whole` for APIs that always have rows, `per_fund` where a row a fund may fill pages."""

    def ask(window: Window, lists: Lists) -> list[Question]:
        return [
            Question(api, {day: ymd(d), **params}, d, lists.exchange_funds(d) if per_fund else 0, whole)
            for d in window.sessions.date
        ]

    return ask


def _lists(api: str, **params: Sequence[str]) -> Ask:
    """One question for every combination of the values of `params`."""

    def ask(window: Window, lists: Lists) -> list[Question]:
        return [Question(api, dict(zip(params, values, strict=True))) for values in product(*params.values())]

    return ask


def _shares(window: Window, lists: Lists) -> list[Question]:
    # Shenzhen's labels may be a session off: what belongs to the window may stand just outside it
    sessions = {"SH": window.sessions}
    sessions["SZ"] = window.labels if lists.exchange_report and len(window.sessions) else window.sessions
    return [
        Question("fund_share", {"trade_date": ymd(day), "market": market}, day, never_empty=True)
        for market, days in sessions.items()
        for day in days.date
    ]


def _index_bars(codes: Callable[[Lists], Sequence[str]]) -> Ask:
    def ask(window: Window, lists: Lists) -> list[Question]:
        return [
            Question(
                "index_daily",
                {"ts_code": code, "start_date": ymd(first), "end_date": ymd(last)},
                min(last, window.end),
            )
            for first, last in window.periods("Y")
            for code in codes(lists)
        ]

    return ask


def tracked_indices(lists: Lists) -> list[str]:
    """Codes of the indices that A-share stock ETFs track; nothing else is looked through."""
    etfs = lists.etfs
    return sorted(etfs.loc[etfs["asset_scope"] == "aShareStockEtf", "index_code"].dropna().unique())


def _weights(window: Window, lists: Lists) -> list[Question]:
    codes = [code for index in tracked_indices(lists) for code in (index, _ALSO_ASKED.get(index)) if code]
    return [
        Question(
            "index_weight",
            {"index_code": code, "start_date": ymd(first), "end_date": ymd(last)},
            min(last, window.end),
        )
        for first, last in window.periods("Y")
        for code in codes
    ]


def _minutes(window: Window, lists: Lists) -> list[Question]:
    etfs = lists.etfs
    return [
        Question(
            "stk_mins",
            {"ts_code": code, "freq": "5min", "start_date": f"{first} 00:00:00", "end_date": f"{last} 23:59:59"},
            min(last, window.end),
        )
        # a month of five-minute bars is a seventh of the cap; half a year would be most of it, and every evening's too
        for first, last in window.periods("M")
        for code in etfs.loc[_listed_between(etfs, first, last), "etf_code"]
    ]


def _listed_between(funds: pd.DataFrame, first: date, last: date) -> pd.Series:
    listed, delisted = funds["list_date"], funds["delist_date"]
    return (listed <= pd.Timestamp(last)) & ~(delisted <= pd.Timestamp(first))


def month_ends(window: Window) -> pd.DatetimeIndex:
    """Sessions of the window that are the last of their month."""
    after = min(window.end + timedelta(days=31), last_calendar_session())
    sessions = sessions_between(window.start, max(after, window.end))
    months = sessions.to_period("M")
    last = np.append(months[1:] != months[:-1], False)
    return sessions[last & (sessions <= pd.Timestamp(window.end))]


def _values(window: Window, lists: Lists) -> list[Question]:
    return [Question("daily_basic", {"trade_date": ymd(d)}, d, never_empty=True) for d in month_ends(window).date]


def _holdings(window: Window, lists: Lists) -> list[Question]:
    return [_quarter(day, lists) for day in window.quarter_ends.date]


def _quarter(quarter: date, lists: Lists) -> Question:
    """All reports of a quarter: in one query, or by the day they were announced, or by fund."""
    period = {"period": ymd(quarter)}

    def by_fund() -> list[Question]:
        return [Question("fund_portfolio", {**period, "ts_code": code}, quarter) for code in lists.active_funds]

    def by_day() -> list[Question]:
        days = (quarter + timedelta(days=n) for n in range(1, _ANNOUNCING_DAYS + 1))
        return [Question("fund_portfolio", {**period, "ann_date": ymd(d)}, quarter, instead=by_fund) for d in days]

    return Question("fund_portfolio", period, quarter, len(lists.active_funds) * _TOP_POSITIONS, instead=by_day)


def _sw_members(window: Window, lists: Lists) -> Sequence[Question]:
    return _lists("index_member_all", l1_code=lists.sw_industries, is_new=("Y", "N"))(window, lists)


# --- conversions ------------------------------------------------------------------------------------------------


def _scaled(values: pd.Series, factor: float) -> pd.Series:
    return values * factor if values.dtype.kind in "iuf" else values


def _whole(values: pd.Series, factor: float) -> pd.Series:
    """Shares: scaled, and free of the last digits a scaled decimal leaves, since there are only whole ones."""
    return (values * factor).round() if values.dtype.kind in "iuf" else values


def _of_etfs(rows: pd.DataFrame, lists: Lists) -> pd.DataFrame:
    return rows[rows["ts_code"].isin(lists.etfs["etf_code"])]


def _days(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column of days as naive midnights; missing ones are NaT.

    Raises:
        SourceError: a value is no day.
    """
    days = days_of(rows[name]).set_axis(rows.index)
    wrong = rows.loc[days.isna() & rows[name].notna(), name]
    if len(wrong):
        raise SourceError(f"tushare: `{name}` is not a plain calendar day in {len(wrong)} rows: {wrong.iloc[0]}, …")
    return days


def _text(values: pd.Series) -> pd.Series:
    """The column as text; one without any value comes as numbers."""
    return values.astype("str") if values.notna().any() else pd.Series(None, values.index, dtype="str")


_SCOPE_OF_TYPE = {
    "股票型": "aShareStockEtf",
    "债券型": "bondEtf",
    "商品型": "commodityEtf",
    "货币市场型": "moneyEtf",
}
_ABROAD = "港股|恒生|H股|香港"
_FAR_ABROAD = f"{_ABROAD}|QDII|中概|纳指|纳斯达克|标普|道琼斯|日经|东证|德国|法国|沙特|海外|全球|美国|东南亚|亚太"


def _etf_info(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    funds = rows["fund_basic"].drop_duplicates("ts_code")
    etfs = _from_etf_basic(rows["etf_basic"], funds) if "etf_basic" in rows else _from_names(funds)
    notes = []
    codes = _one_code(etfs["index_code"])
    unusable = codes.notna() & ~codes.str.fullmatch(CODE_PATTERN).fillna(True).astype(bool)
    if unusable.any():
        some = ", ".join(f"{e.ts_code} {e.index_code}" for e in etfs[unusable].head(3).itertuples())
        notes.append(f"{unusable.sum()} ETFs track an index whose code cannot be used and is left empty: {some}, …")
    scope = _asset_scope(etfs)
    if scope.isna().any():
        notes.append(f"asset scope of {scope.isna().sum()} ETFs unknown: fund_basic does not have them")
    frame = pd.DataFrame(
        {
            "etf_code": etfs["ts_code"],
            "name": etfs["name"],
            "index_code": codes.mask(unusable),
            "index_name": etfs["index_name"],
            "asset_scope": scope,
            "management_fee": _fee(etfs["m_fee"], "management fee"),
            "custody_fee": _fee(etfs["c_fee"], "c_fee"),
            "manager": etfs["management"],
            "list_date": etfs["list_date"],
            "delist_date": etfs["delist_date"],
            "is_t0": scope.map(_IS_T0).astype("boolean"),
        }
    )
    frame.attrs[NOTE] = "; ".join(notes)
    return frame


def _from_etf_basic(listed: pd.DataFrame, funds: pd.DataFrame) -> pd.DataFrame:
    """The ETFs of etf_basic, completed by fund_basic, under the names of the latter."""
    etfs = listed.drop_duplicates("ts_code").merge(funds, on="ts_code", how="left", suffixes=("", "_fund"))
    return etfs.assign(
        name=_text(etfs["csname"]).fillna(_text(etfs["extname"])).fillna(_text(etfs["name"])),
        management=_text(etfs["mgr_name"]).fillna(_text(etfs["management"])),
        list_date=_text(etfs["list_date"]).fillna(_text(etfs["list_date_fund"])),
        m_fee=etfs["mgt_fee"].fillna(etfs["m_fee"]),
        abroad=lambda etf: (etf["etf_type"] == "QDII") | _named(etf["name"], _ABROAD),
    )


def _from_names(funds: pd.DataFrame) -> pd.DataFrame:
    """The ETFs of fund_basic, by their names; it has no tracked indices."""
    etfs = funds[_named(funds["name"], "ETF") & ~_named(funds["name"], "联接")]
    abroad = _named(etfs["name"], _FAR_ABROAD) | _named(etfs["invest_type"], "QDII")
    return etfs.assign(index_code=None, index_name=None, abroad=abroad)


def _asset_scope(etfs: pd.DataFrame) -> pd.Series:
    kind = _text(etfs["fund_type"])
    scope = kind.map(_SCOPE_OF_TYPE).fillna("otherEtf").where(kind.notna())
    # a stock ETF that says A股 holds A shares, whoever makes its index
    abroad = etfs["abroad"] & ~_named(etfs["name"], "A股") & ~scope.isin(["bondEtf", "commodityEtf", "moneyEtf"])
    return scope.mask(abroad, "crossBorderStockEtf")


_IS_T0 = {
    "aShareStockEtf": False,
    "crossBorderStockEtf": True,
    "bondEtf": True,
    "commodityEtf": True,
    "moneyEtf": True,
}
"""Bond, gold, money-market and cross-border ETFs can be sold on the day they were bought; domestic equity cannot."""


def _named(names: pd.Series, pattern: str) -> pd.Series:
    return _text(names).str.contains(pattern, na=False).astype(bool)


def _fee(percent: pd.Series, name: str) -> pd.Series:
    low, high = _FEE_PERCENT
    median = percent.median() if percent.dtype.kind in "iuf" else np.nan
    if median < low or median > high:
        raise SourceError(
            f"tushare: the median {name} is {median:g}, outside {low:g} to {high:g} percent a year: the vendor has "
            "changed its unit. Look at the stored responses of etf_basic and fund_basic, and correct the mapping."
        )
    return _scaled(percent, PERCENT)


def _etf_share(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = _of_etfs(rows["fund_share"], lists)
    frame = pd.DataFrame(
        {
            "etf_code": answer["ts_code"],
            "trade_date": _days(answer, "trade_date"),
            "shares": _whole(answer["fd_share"], WAN),
        }
    )
    shenzhen = frame["etf_code"].str.endswith(".SZ")
    if frame.duplicated(["etf_code", "trade_date"]).any():
        return frame  # the gate says which
    if lists.exchange_report is None:
        frame.attrs[NOTE] = (
            f"DATES NOT VERIFIED: {int(shenzhen.sum()):,} Shenzhen rows stand under the dates Tushare gives them, "
            "which in some periods are a session late"
        )
        return frame
    around = window.around(2)
    # whole months, so that one answer serves every window within
    first = max(around[0].replace(day=1).date(), SHENZHEN_REPORT_BEGINS)
    report = lists.exchange_report(first, min((around[-1] + pd.offsets.MonthEnd(0)).date(), window.public))
    report = report[report["etf_code"].isin(lists.etfs["etf_code"])]
    reported = frame["trade_date"] >= pd.Timestamp(SHENZHEN_REPORT_BEGINS)
    dated = dated_by_exchange(frame[shenzhen & reported], report, around)
    moved = dated.loc[dated["label"] != dated["trade_date"], ["label", "trade_date"]].drop_duplicates()
    inside = window.sessions
    dated = dated[dated["trade_date"].isin(inside)].drop(columns="label")
    # a session nobody has labelled yet is late, not in disagreement
    known = report[report["trade_date"].isin(dated["trade_date"])]
    before = frame[shenzhen & ~reported]
    result = pd.concat([frame[~shenzhen], before, dated])
    result.attrs[NOTE] = (
        f"Shenzhen dates held against the exchange's own report: {len(moved)} of {len(window.labels)} days re-dated"
        + "".join(f", {row.label:%Y-%m-%d} is {row.trade_date:%Y-%m-%d}" for row in moved.head(5).itertuples())
        + (f"; DATES NOT VERIFIED before {SHENZHEN_REPORT_BEGINS}, where the report begins" if len(before) else "")
    )
    differing = reconcile(dated, known, ("etf_code", "trade_date"), ("tushare", "exchange"), _SHARE_DIFFERENCE)
    if len(differing):
        result.attrs[DISAGREEMENTS] = as_text(differing)
    return result


def _etf_nav(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = _of_etfs(rows["fund_nav"], lists)
    # a revised NAV stands beside the first one, with its own announcement
    answer = answer.assign(announced=_days(answer, "ann_date"))
    answer = answer.sort_values("announced", kind="stable", na_position="first")
    answer = answer.drop_duplicates(["ts_code", "nav_date"], keep="last")
    next_session = sessions_after(_days(answer, "nav_date"), 1)
    # The regular announcement bears the date of the next day, but the fund's basket file of the next morning already
    # holds the NAV: that is the contract's default. Whatever is announced later was known only then.
    late = answer["announced"].where(answer["announced"].to_numpy() > next_session)
    return pd.DataFrame(
        {
            "etf_code": answer["ts_code"],
            "trade_date": answer["nav_date"],
            "unit_nav": answer["unit_nav"],
            "accumulated_nav": answer["accum_nav"],
            AVAILABLE_AT: moments(late, _END_OF_DAY),
        }
    )


def _etf_bar(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    bars = _of_etfs(rows["fund_daily"], lists)
    bars = bars.merge(rows["fund_adj"], on=["ts_code", "trade_date"], how="left")
    _check_units("fund_daily", bars["close"], _scaled(bars["vol"], LOT), _scaled(bars["amount"], THOUSAND))
    return pd.DataFrame(
        {
            "etf_code": bars["ts_code"],
            "trade_date": bars["trade_date"],
            **{name: bars[name] for name in ("open", "high", "low", "close")},
            "adjustment_factor": bars["adj_factor"],
            "volume": _whole(bars["vol"], LOT),
            "amount": _scaled(bars["amount"], THOUSAND),
        }
    )


def _etf_bar_5min(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    bars = rows["stk_mins"]
    _check_units("stk_mins", bars["close"], bars["vol"], bars["amount"])
    ends = _text(bars["trade_time"])
    return pd.DataFrame(
        {
            "etf_code": bars["ts_code"],
            "trade_date": ends.str[:10],
            "bar_end": ends,
            **{name: bars[name] for name in ("open", "high", "low", "close")},
            "volume": bars["vol"],
            "amount": bars["amount"],
        }
    )


def _check_units(api: str, close: pd.Series, volume: pd.Series, amount: pd.Series) -> None:
    """Hold money per share traded against the price: a change of unit of either shows at once.

    Raises:
        SourceError: their median ratio is far from one.
    """
    if any(values.dtype.kind not in "iuf" for values in (close, volume, amount)):
        return  # for the gate to refuse
    median = (amount / volume.where(volume > 0) / close).median()
    if not _PRICE_RATIO[0] <= median <= _PRICE_RATIO[1] and not np.isnan(median):
        raise SourceError(
            f"tushare {api}: money over shares traded is {median:g} times the close in the median, instead of about "
            "once: the vendor has changed the unit of vol or amount. Look at its stored responses, and correct the "
            "mapping."
        )


def _etf_dividend(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = _of_etfs(rows["fund_div"], lists)
    answer = answer[answer["div_proc"] == "实施"]
    announced = _days(answer, "imp_anndate").fillna(_days(answer, "ann_date"))
    # one distribution may be announced twice; it was known from the first time
    answer = answer.assign(announced=announced).sort_values("announced", kind="stable")
    answer = answer.drop_duplicates(["ts_code", "ex_date", "div_cash"])
    return pd.DataFrame(
        {
            "etf_code": answer["ts_code"],
            "ex_date": answer["ex_date"],
            "cash_per_share": answer["div_cash"],
            AVAILABLE_AT: moments(answer["announced"], _END_OF_DAY),
        }
    )


def _index_bar(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    bars = rows["index_daily"]
    frame = pd.DataFrame(
        {
            "index_code": bars["ts_code"],
            "trade_date": bars["trade_date"],
            **{name: bars[name] for name in ("open", "high", "low", "close")},
            "amount": _scaled(bars["amount"], THOUSAND),
        }
    )
    frame.attrs[NOTE] = _closes_missing(bars, lists.style_indices)
    return frame


def _closes_missing(bars: pd.DataFrame, wanted: Sequence[str]) -> str:
    missing = [code for code in wanted if code not in set(bars["ts_code"])]
    return f"Tushare has no closes of {', '.join(missing)}" if missing else ""


def _one_code(codes: pd.Series) -> pd.Series:
    """Index codes under the one that is used here."""
    return normalised_codes(_text(codes), "index_code")


def _index_weight(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = rows["index_weight"]
    answer = answer.assign(index=_one_code(answer["index_code"]))
    # a set under the code in use goes before the same set under the other one
    answer = answer.sort_values("index_code", key=lambda codes: codes != _one_code(codes), kind="stable")
    answer = answer.drop_duplicates(["index", "trade_date", "con_code"])
    frame = pd.DataFrame(
        {
            "index_code": answer["index"],
            "as_of_date": answer["trade_date"],
            "stock_code": answer["con_code"],
            "weight": _scaled(answer["weight"], PERCENT),
        }
    )
    frame, notes = _without_broken_sets(frame)
    tracked = tracked_indices(lists)
    without = [code for code in tracked if code not in set(frame["index_code"])]
    if without:
        notes.append(
            f"{len(without)} of {len(tracked)} tracked indices have no weights here (not licensed to Tushare, or no "
            f"set in these months): {', '.join(without[:10])}{', …' if len(without) > 10 else ''}"
        )
    frame.attrs[NOTE] = "; ".join(notes)
    return frame


def _without_broken_sets(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Weights without the sets that do not sum to one, and a note that names those; many are left for the gate."""
    rule = load_contract()["index_weight"].set_sum
    assert rule is not None
    if frame["weight"].dtype.kind != "f":
        return frame, []
    judged = without_broken_sets(rule, frame)
    if not judged.broken or judged.is_too_many:
        return frame, []
    note = f"{judged.broken} of {judged.sets} weight sets left out, they do not sum to one: {judged.shown}"
    return judged.kept, [note]


def _index_valuation(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = rows["index_dailybasic"]
    answer = answer.sort_values("ts_code", key=lambda codes: codes != _one_code(codes), kind="stable")
    frame = pd.DataFrame(
        {
            "index_code": _one_code(answer["ts_code"]),
            "trade_date": answer["trade_date"],
            "pe_ttm": answer["pe_ttm"],
            "pb": answer["pb"],
            "dividend_yield": np.nan,
        }
    )
    return frame.drop_duplicates(["index_code", "trade_date"])


def _citic(codes: pd.Series) -> pd.Series:
    return _text(codes).str.removesuffix(".CI")


def _industry_info(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    shenwan = rows["index_classify"]
    parts = [
        pd.DataFrame(
            {"scheme": "sw", "industry_code": shenwan["index_code"], "industry_name": shenwan["industry_name"]}
        )
    ]
    if "ci_index_member" in rows:
        members = rows["ci_index_member"]
        citic = pd.DataFrame(
            {"scheme": "citic", "industry_code": _citic(members["l1_code"]), "industry_name": members["l1_name"]}
        )
        parts.append(citic.drop_duplicates())
    return pd.concat(parts, ignore_index=True)


def _industry_bar(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    citic, shenwan = rows["ci_daily"], rows["sw_daily"]
    bars = pd.concat(
        [
            citic.assign(scheme="citic", code=_citic(citic["ts_code"])),
            shenwan.assign(scheme="sw", code=shenwan["ts_code"]),
        ],
        ignore_index=True,
    )
    bars = bars[bars["code"].isin([*CITIC_LEVEL_1, *lists.sw_industries])]
    return pd.DataFrame(
        {
            "scheme": bars["scheme"],
            "industry_code": bars["code"],
            "trade_date": bars["trade_date"],
            "close": bars["close"],
        }
    )


def _stock_industry(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    members = [rows["index_member_all"].assign(scheme="sw")]
    if "ci_index_member" in rows:
        members.append(rows["ci_index_member"].assign(scheme="citic"))
    answer = pd.concat(members, ignore_index=True)
    stays = pd.DataFrame(
        {
            "scheme": answer["scheme"],
            "stock_code": answer["ts_code"],
            "in_date": _days(answer, "in_date").fillna(pd.Timestamp(EARLIEST_DATE)),
            "industry_code": _citic(answer["l1_code"]),
            "out_date": _days(answer, "out_date"),
        }
    )
    return _level_1_stays(stays)


def _level_1_stays(stays: pd.DataFrame) -> pd.DataFrame:
    """Stays in industries of a lower level as stays in level 1: those that touch in one industry are one."""
    ends = stays["out_date"].fillna(pd.Timestamp.max.as_unit("us"))
    ordered = stays.assign(end=ends).sort_values(["scheme", "stock_code", "in_date", "end"], ignore_index=True)
    stock = [ordered["scheme"], ordered["stock_code"]]
    until = ordered.groupby(stock)["end"].cummax().groupby(stock).shift()
    same = ordered["industry_code"] == ordered.groupby(stock)["industry_code"].shift()
    begins = ~(same & (ordered["in_date"] <= until))
    joined = ordered.groupby(begins.cumsum()).agg(
        {"scheme": "first", "stock_code": "first", "in_date": "first", "industry_code": "first", "end": "max"}
    )
    last = joined["end"] == pd.Timestamp.max.as_unit("us")
    return joined.assign(out_date=joined["end"].mask(last)).drop(columns="end")


def _stock_value(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = rows["daily_basic"]
    return pd.DataFrame(
        {
            "stock_code": answer["ts_code"],
            "trade_date": answer["trade_date"],
            "total_market_value": _scaled(answer["total_mv"], WAN),
            "float_market_value": _scaled(answer["circ_mv"], WAN),
            "free_float_market_value": _scaled(answer["free_share"], WAN) * answer["close"],
        }
    )


def _fund_info(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    funds = rows["fund_basic"].drop_duplicates("ts_code").reset_index(drop=True)
    return pd.DataFrame(
        {
            "fund_code": funds["ts_code"],
            "name": funds["name"],
            "fund_type": funds["fund_type"],
            "invest_type": funds["invest_type"],
            "is_active_equity": _is_active_equity(funds),
            "found_date": funds["found_date"],
            "delist_date": funds["delist_date"],
            "issue_shares": _scaled(funds["issue_amount"], YI),
        }
    )


def _is_active_equity(funds: pd.DataFrame) -> pd.Series:
    """Stock and mixed funds that follow no index and invest at home; one share class of each.

    The other classes hold the same portfolio, so that counting them would count it twice.
    """
    active = funds["fund_type"].isin(["股票型", "混合型"])
    active &= ~_named(funds["invest_type"], "指数|QDII|FOF") & ~_named(funds["name"], "指数|ETF|联接|QDII|FOF")
    portfolio = _text(funds["name"]).str.replace(r"[A-Z]$", "", regex=True)
    ordered = funds.assign(portfolio=portfolio)[active].sort_values(["found_date", "ts_code"])
    first = ordered.drop_duplicates(["portfolio", "management"]).index
    return pd.Series(funds.index.isin(first), funds.index, dtype="boolean")


def _fund_holding(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = rows["fund_portfolio"]
    answer = answer.assign(announced=_days(answer, "ann_date"))
    report = ["ts_code", "end_date"]
    stocks = answer.groupby([*report, "announced"], dropna=False)["symbol"].transform("nunique")
    first = answer["announced"].isna() | (answer["announced"] == answer.groupby(report)["announced"].transform("min"))
    answer = answer.assign(scope=np.where(first & (stocks <= _TOP_POSITIONS), "top10", "full"))
    # the full report of a half year may repeat the ten largest positions: they were known from the first time
    answer = answer.sort_values("announced", kind="stable").drop_duplicates([*report, "symbol"])
    return pd.DataFrame(
        {
            "fund_code": answer["ts_code"],
            "report_date": answer["end_date"],
            "announced_date": answer["announced"],
            "stock_code": answer["symbol"],
            "market_value": answer["mkv"],
            "scope": answer["scope"],
        }
    )


def _fund_return(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    bars = rows["index_daily"]
    frame = pd.DataFrame(
        {
            "series_code": bars["ts_code"],
            "trade_date": bars["trade_date"],
            "daily_return": bars["close"] / bars["pre_close"] - 1,
        }
    )
    frame.attrs[NOTE] = _closes_missing(bars, [ACTIVE_FUND_INDEX])
    return frame


def _etf_margin(rows: Rows, lists: Lists, window: Window) -> pd.DataFrame:
    answer = _of_etfs(rows["margin_detail"], lists)
    return pd.DataFrame(
        {
            "etf_code": answer["ts_code"],
            "trade_date": answer["trade_date"],
            "financing_balance": answer["rzye"],
            "financing_buy": answer["rzmre"],
            "short_volume": answer["rqyl"],
            "short_sell_volume": answer["rqmcl"],
        }
    )


_LISTED_FUNDS = _lists("fund_basic", market=("E",), status=("L", "D", "I"))
_ALL_FUNDS = _lists("fund_basic", market=("E", "O"), status=("L", "D", "I"))
_CITIC_MEMBERS = _lists("ci_index_member", l1_code=tuple(f"{code}.CI" for code in CITIC_LEVEL_1), is_new=("Y", "N"))
_CITIC_NAMES = _lists("ci_index_member", l1_code=tuple(f"{code}.CI" for code in CITIC_LEVEL_1), is_new=("Y",))
_SW_LIST = _lists("index_classify", level=("L1",), src=("SW2021",))
_NO_CITIC = "CITIC is missing (ci_index_member needs 5000 points): use the scheme sw"

ADAPTERS: Mapping[str, Adapter] = {
    "etf_info": Adapter(
        {"fund_basic": _LISTED_FUNDS, "etf_basic": _lists("etf_basic", list_status=("L", "D", "P"))},
        _etf_info,
        "is_t0 is derived, Tushare does not serve it: bond, commodity, money-market and cross-border ETFs, by "
        "etf_type, fund_type and name; so is asset_scope. Snapshot of today; earlier tracked indices are not served",
        {
            "etf_basic": "no index codes, so nothing can be looked through (etf_basic needs 8000 points); ETFs are "
            "the exchange-traded funds with ETF in their name"
        },
    ),
    "etf_share": Adapter({"fund_share": _shares}, _etf_share),
    "etf_nav": Adapter(
        {"fund_nav": _daily("fund_nav", "nav_date", market="E", whole=True, per_fund=True)},
        _etf_nav,
        "of several announcements of one NAV the last is kept, known from its own day",
    ),
    "etf_bar": Adapter(
        {
            "fund_daily": _daily("fund_daily", whole=True),
            "fund_adj": _daily("fund_adj", whole=True, per_fund=True),
        },
        _etf_bar,
    ),
    "etf_bar_5min": Adapter({"stk_mins": _minutes}, _etf_bar_5min),
    "etf_dividend": Adapter({"fund_div": _daily("fund_div", "ex_date")}, _etf_dividend),
    "index_bar": Adapter(
        {"index_daily": _index_bars(lambda lists: lists.style_indices)}, _index_bar, "only the indices of style regimes"
    ),
    "index_weight": Adapter({"index_weight": _weights}, _index_weight, "indices of A-share stock ETFs"),
    "index_valuation": Adapter(
        {"index_dailybasic": _daily("index_dailybasic")}, _index_valuation, "a few broad indices; no dividend yields"
    ),
    "industry_info": Adapter(
        {"index_classify": _SW_LIST, "ci_index_member": _CITIC_NAMES},
        _industry_info,
        "",
        {"ci_index_member": _NO_CITIC},
    ),
    "industry_bar": Adapter(
        {"ci_daily": _daily("ci_daily", whole=True), "sw_daily": _daily("sw_daily", whole=True)}, _industry_bar
    ),
    "stock_industry": Adapter(
        {"index_member_all": _sw_members, "ci_index_member": _CITIC_MEMBERS},
        _stock_industry,
        "dates are restated under today's schemes, not as they were published",
        {"ci_index_member": _NO_CITIC},
    ),
    "stock_value": Adapter({"daily_basic": _values}, _stock_value, "free float is free_share × close"),
    "fund_info": Adapter(
        {"fund_basic": _ALL_FUNDS},
        _fund_info,
        "is_active_equity marks one share class of each stock or mixed fund that follows no index; the other classes "
        "hold the same portfolio",
    ),
    "fund_holding": Adapter(
        {"fund_portfolio": _holdings},
        _fund_holding,
        "nav_weight is empty: what stk_mkv_ratio is a ratio of is not documented, and nothing here needs it",
        # the annual report is out after four months
        final_sessions=85,
    ),
    "fund_return": Adapter({"index_daily": _index_bars(lambda lists: [ACTIVE_FUND_INDEX])}, _fund_return),
    "etf_margin": Adapter({"margin_detail": _daily("margin_detail")}, _etf_margin),
}
"""How each dataset is had."""

LACKING: Mapping[str, NotAvailable] = {
    "etf_split": NotAvailable("Tushare has no splits of ETFs; the pipeline infers them from NAV and adjusted close"),
    "theme_industry": NotAvailable("Tushare does not assign themes to industries"),
    "etf_holder": NotAvailable("Tushare has no holder structure; it is only to be had page by page elsewhere"),
}
"""What Tushare does not have at all."""


def why_unreadable(apis: Iterable[str], points: int, minute_bars: bool) -> str | None:
    """What the account lacks for some of these APIs; None if it can read all of them."""
    reasons = []
    for name in apis:
        api = APIS[name]
        if api.minute_licence and not minute_bars:
            reasons.append(f"{name} needs the licence for minute bars (ETF_PIPELINE_TUSHARE_MINUTE_BARS)")
        elif api.points > points:
            reasons.append(f"{name} needs {api.points} points, the account has {points}")
    return "; ".join(reasons) or None
