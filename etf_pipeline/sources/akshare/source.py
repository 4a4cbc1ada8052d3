"""AKShare as a source: which functions answer for a dataset, when a stored answer will do, and what is missing.

Only days are asked for that the contract's default lag says are public: what a vendor shows earlier may be unfinished.
A stored answer is used again until something newer is due, and for good once it was received some sessions after the
last day it is about; descriptions of the market are taken once per Shanghai day, those of single funds once a month.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from etf_pipeline.contract import AVAILABLE_AT, load_contract
from etf_pipeline.core.calendar import SHANGHAI, moments, sessions_after, sessions_between
from etf_pipeline.sources.akshare import mapping
from etf_pipeline.sources.akshare.client import AkshareClient
from etf_pipeline.sources.akshare.functions import CanaryError
from etf_pipeline.sources.base import NotAvailable, SourceError
from etf_pipeline.sources.canonical import calendar_rows, canonical_frame, public_from
from etf_pipeline.sources.responses import NotStored
from etf_pipeline.sources.trust import EmptyDay, NotPublished, without_broken_sets

FIRST_DAY = date(2016, 10, 10)
"""Shenzhen's share report begins on 2016-09-30, a day before a week of holidays."""

_SETTLING_SESSIONS = 5
"""Sessions after which neither late nor revised rows are expected any more."""
_LATE_SESSIONS = 3
"""Exchanges were seen to publish a session's shares this many sessions late."""
_EXCHANGES = (".SH", ".SZ")
_ASK_AGAIN = timedelta(minutes=10)
_FUND_PAGE_AGE = timedelta(days=30)
_PAGED_SESSIONS = 20
"""Sessions on one page of EastMoney's list of NAVs; for more, the file with the fund's whole history is one request."""
_RETRY_AFTER_SECONDS = 3_600.0
_FUND_SERIES = "930950"
"""CSI index of funds that hold mostly stocks."""

_LACKING = {
    "stock_value": "AKShare has market values only stock by stock, some 5,400 whole histories for every month end, and "
    "no free float at all; Tushare's daily_basic has them by day",
    "theme_industry": "AKShare has no table of themes",
}
_NOTES = {
    "etf_info": "survivors only: the ETFs in the exchanges' newest share reports; no listing and delisting dates; "
    "index_code is found by the name EastMoney gives; is_t0 follows from EastMoney's fund type (bonds, gold, money "
    "and cross-border funds can be sold on the day they are bought)",
    "etf_nav": "without money-market ETFs: EastMoney shows their income in place of a NAV",
    "etf_bar": "raw prices; no adjusted ones, for the vendors' change with every later event",
    "etf_bar_5min": "only the last some 40 days are served; older ones come from answers stored at the time",
    "index_weight": "CSI publishes the newest month end only; older ones come from answers stored at the time. The "
    "indexes of Shenzhen (CNI) have their history",
    "index_valuation": "no price to book; dividend yields of the last 20 sessions only; none for CNI indexes",
    "industry_info": "Shenwan (scheme sw); AKShare has no CITIC industries: set the parameter scheme to sw",
    "industry_bar": "Shenwan (scheme sw) only; its site is read without checking the certificate, as AKShare does",
    "stock_industry": "Shenwan (scheme sw) only, restated under the classification of 2021",
    "fund_info": "issues of funds that can be bought today only; types are EastMoney's",
    "fund_holding": "at most 100 stocks a report; those after the ten largest count from the day the half-year or "
    "annual report was public",
    "fund_return": f"CSI's index of funds that hold mostly stocks ({_FUND_SERIES})",
    "etf_holder": "from the page of each fund; staff holdings are part of the individuals'",
}


class AkshareSource:
    """Canonical frames by way of `client`. `indexes` are those wanted in index_bar and index_valuation."""

    def __init__(self, client: AkshareClient, indexes: Sequence[str]) -> None:
        self._client, self._indexes = client, tuple(indexes)
        self._contract = load_contract()
        self._notes = dict(_NOTES) | _LACKING
        self._listed: dict[pd.Timestamp, pd.DataFrame] = {}
        self._taken: dict[tuple[str, date], pd.DataFrame] = {}
        self._days: Mapping[str, Callable[[pd.DatetimeIndex], pd.DataFrame | NotAvailable]] = {
            "etf_share": self._reports,
            "etf_nav": self._etf_nav,
            "etf_bar": self._etf_bar,
            "etf_bar_5min": self._etf_minutes,
            "etf_split": self._etf_split,
            "etf_dividend": self._etf_dividend,
            "index_bar": self._index_bar,
            "index_valuation": self._index_valuation,
            "industry_bar": self._industry_bar,
            "fund_return": self._fund_return,
            "etf_margin": self._etf_margin,
        }
        self._periods: Mapping[str, Callable[[date, date], pd.DataFrame | NotAvailable]] = {
            "index_weight": self._index_weight,
            "fund_holding": self._fund_holding,
            "etf_holder": self._etf_holder,
        }
        self._snapshots: Mapping[str, Callable[[], pd.DataFrame]] = {
            "etf_info": self._etf_info,
            "industry_info": mapping.sw_industries,
            "stock_industry": self._stock_industry,
            "fund_info": self._fund_info,
        }

    @property
    def label(self) -> str:
        """`akshare`."""
        return "akshare"

    @property
    def span(self) -> tuple[date, date]:
        """From the first share report of both exchanges to the last one that is due."""
        return FIRST_DAY, self._last_due("etf_share").date()

    def validate(self) -> Mapping[str, str]:
        """What is notable about each dataset; grows while datasets are fetched. Requests nothing."""
        return self._notes

    def fetch(self, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        """Canonical rows from `start` to `end`, snapshots whole.

        Raises:
            SourceError: AKShare or a vendor changed, a session has no rows, or the rows break the contract.
            TransientSourceError: a vendor did not answer, or has not published yet.
        """
        if dataset == "trading_calendar":
            return calendar_rows(start, end)
        if dataset in _LACKING:
            return NotAvailable(_LACKING[dataset])
        if dataset not in self._contract:
            raise SourceError(f"akshare: unknown dataset {dataset}. Datasets: {', '.join(self._contract)}.")
        contract, end = self._contract[dataset], min(end, self._today)
        if dataset in self._days:
            sessions = self._due_sessions(dataset, start, end)
            rows = self._days[dataset](sessions) if len(sessions) else pd.DataFrame(columns=list(contract.columns))
        elif dataset in self._periods:
            rows = self._periods[dataset](start, end)
        else:
            rows = self._snapshots[dataset]()
        if isinstance(rows, NotAvailable):
            return rows
        if contract.date_column is not None and len(rows):
            inside = pd.to_datetime(rows[contract.date_column]).between(pd.Timestamp(start), pd.Timestamp(end))
            rows = rows[inside].reset_index(drop=True)
        return canonical_frame(contract, rows, f"akshare {dataset}", self._today)

    def szse_share_report(self, start: date, end: date) -> pd.DataFrame:
        """Shenzhen's own report of ETF shares: etf_code, trade_date (datetime64[us]) and shares in 份, sorted.

        Of the sessions from `start` to `end` whose report is due; sessions without a report have no rows.

        Raises:
            SourceError, TransientSourceError: as `fetch`.
        """
        sessions = self._due_sessions("etf_share", start, end)
        if not len(sessions):
            return self._contract["etf_share"].schema.empty_table().to_pandas().drop(columns=AVAILABLE_AT)
        rows = [self._szse_month(month) for month in _by_month(sessions)]
        report = _joined([mapping.szse_shares(frame) for frame in rows])
        keys = ["etf_code", "trade_date"]
        return report[[*keys, "shares"]].sort_values(keys, ignore_index=True)

    # What is due, and since when an answer will do.

    @property
    def _now(self) -> datetime:
        return self._client.now()

    @property
    def _today(self) -> date:
        return self._now.astimezone(ZoneInfo(SHANGHAI)).date()

    @property
    def _midnight(self) -> datetime:
        return datetime.combine(self._today, time.min, ZoneInfo(SHANGHAI))

    def _due_sessions(self, name: str, start: date, end: date) -> pd.DatetimeIndex:
        sessions = sessions_between(start, min(end, self._today))
        return sessions[public_from(self._contract[name], sessions) <= pd.Timestamp(self._now)]

    def _last_due(self, name: str) -> pd.Timestamp:
        return self._due_sessions(name, self._today - timedelta(days=60), self._today)[-1]

    def _since(self, name: str, last: pd.Timestamp) -> datetime:
        """From when on an answer about the days up to `last` holds all that is public of them."""
        dataset = self._contract[name]
        ends = pd.DatetimeIndex([self._last_due(name), *sessions_after(pd.DatetimeIndex([last]), _SETTLING_SESSIONS)])
        return public_from(dataset, ends).min().to_pydatetime()

    def _frame(self, function: str, since: datetime, **arguments: str) -> pd.DataFrame:
        return self._client.call(function, arguments, since=since).frame

    def _snapshot(self, function: str) -> pd.DataFrame:
        """Today's table of a function that describes the whole market; some take many seconds to parse."""
        key = function, self._today
        if key not in self._taken:
            self._taken[key] = self._frame(function, self._midnight)
        return self._taken[key]

    def _whole(
        self, function: str, since: datetime, is_whole: Callable[[pd.DataFrame], bool], **arguments: str
    ) -> pd.DataFrame:
        """The answer; asked for again, every few minutes at most, where a stored one lacks what is due."""
        frame = self._frame(function, since, **arguments)
        if is_whole(frame) or self._client.offline:
            return frame
        return self._frame(function, max(since, self._now - _ASK_AGAIN), **arguments)

    def _each(self, codes: Sequence[str], what: str) -> Iterator[str]:
        for n, code in enumerate(codes, 1):
            if n % 100 == 0:
                _log.info("akshare %s: %d of %d", what, n, len(codes))
            yield code

    def _published(
        self, name: str, frame: pd.DataFrame, sessions: pd.DatetimeIndex, exchanges: Sequence[str] = ("",)
    ) -> pd.DataFrame:
        """Rows of those `sessions` of which every exchange (by the codes' end) has rows; the newest may be missing.

        Raises:
            EmptyDay: a session before one with rows, or one that is not among the newest, has none.
            NotPublished: no session has rows, and all are among the newest.
        """
        code = frame[self._contract[name].key[0]]
        held = sessions
        for exchange in exchanges:
            held = held[held.isin(frame.loc[code.str.endswith(exchange), "trade_date"])]
        newest = sessions_between(self._today - timedelta(days=60), self._last_due(name).date())[-_LATE_SESSIONS:]
        late = sessions[sessions.isin(newest)]
        late = late[late > held[-1]] if len(held) else late
        lost = sessions.difference(held).difference(late)
        if len(lost):
            raise EmptyDay(
                f"akshare {name}: no rows of {_in_words(lost)}, sessions of the exchange, from at least one of the "
                "places asked. Look on their pages; if they have none either, begin after that day (--start)"
            )
        if not len(held):
            raise NotPublished(
                f"akshare {name}: {_in_words(late)} not published yet. Ask again in an hour", _RETRY_AFTER_SECONDS
            )
        return frame[frame["trade_date"].isin(held)].reset_index(drop=True)

    # Exchange-traded funds.

    def _reports(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        """Share reports of both exchanges: etf_code, trade_date, shares, name."""
        since = self._since("etf_share", sessions[-1])
        shanghai = [self._whole("fund_etf_scale_sse", since, _has_rows, date=f"{day:%Y%m%d}") for day in sessions]
        shenzhen = [self._szse_month(month) for month in _by_month(sessions)]
        rows = [*map(mapping.sse_shares, shanghai), *map(mapping.szse_shares, shenzhen)]
        return self._published("etf_share", _joined(rows), sessions, _EXCHANGES)

    def _szse_month(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        """Shenzhen's report of sessions of one month: over half a year the exchange answers with nothing."""
        return self._whole(
            "fund_scale_daily_szse",
            self._since("etf_share", sessions[-1]),
            lambda frame: set(sessions) <= set(mapping.days(frame["日期"])),
            start_date=f"{sessions[0]:%Y%m%d}",
            end_date=f"{sessions[-1]:%Y%m%d}",
            symbol="ETF",
        )

    def _universe(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        """ETFs in the exchanges' reports of the first and last session: code as index, name."""
        last = min(sessions[-1], self._last_due("etf_share"))
        wanted = sessions_between((last - timedelta(days=30)).date(), last.date())[-_LATE_SESSIONS:]
        known = [self._listed_on(wanted)]
        if sessions[0] < wanted[0]:
            known.append(self._listed_on(sessions[:1]))
        listed = pd.concat(known)
        return listed.loc[~listed.index.duplicated()].sort_index()

    def _listed_on(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        """ETFs in the report of the last of `sessions` that is published."""
        if sessions[-1] not in self._listed:
            reports = self._reports(sessions)
            newest = reports[reports["trade_date"] == reports["trade_date"].max()]
            self._listed[sessions[-1]] = newest.set_index("etf_code")[["name"]]
        return self._listed[sessions[-1]]

    def _kinds(self) -> Mapping[str, str]:
        """EastMoney's fund types by six-digit code."""
        names = self._snapshot("fund_name_em")
        return dict(zip(names["基金代码"], names["基金类型"].fillna(""), strict=True))

    def _etf_info(self) -> pd.DataFrame:
        etfs = self._universe(pd.DatetimeIndex([self._last_due("etf_share")]))
        kinds, codes = self._kinds(), self._index_codes()
        since = self._midnight - _FUND_PAGE_AGE
        rows = []
        for code in self._each(list(etfs.index), "etf_info"):
            page = self._frame("fund_overview_em", since, symbol=code[:6])
            told = {} if page.empty else page.iloc[0].dropna().to_dict()
            asset_scope, is_t0 = mapping.scope(kinds.get(code[:6]))
            tracked = told.get("跟踪标的", "")
            rows.append(
                {
                    "etf_code": code,
                    "name": etfs["name"][code],
                    "index_code": codes.get(mapping.plain_index_name(tracked)),
                    "index_name": None if "无跟踪标的" in tracked else tracked or None,
                    "asset_scope": asset_scope,
                    "category_1": kinds.get(code[:6]) or None,
                    "management_fee": mapping.yearly_rate(told.get("管理费率")),
                    "custody_fee": mapping.yearly_rate(told.get("托管费率")),
                    "manager": told.get("基金管理人"),
                    "is_t0": is_t0,
                }
            )
        info = pd.DataFrame(rows)
        stock = info["asset_scope"] == "aShareStockEtf"
        unmatched = int((stock & info["index_code"].isna()).sum())
        self._notes["etf_info"] = (
            f"{_NOTES['etf_info']}; {unmatched} of {int(stock.sum())} A-share stock ETFs have no index code, for the "
            "name of their index is in no list"
        )
        return info

    def _index_codes(self) -> Mapping[str, str]:
        return mapping.index_codes(self._snapshot("index_csindex_all"))

    def _etf_nav(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        kinds = self._kinds()
        scopes = {code: mapping.scope(kinds.get(code[:6]))[0] for code in self._universe(sessions).index}
        codes = [code for code, asset_scope in scopes.items() if asset_scope != "moneyEtf"]
        since = self._since("etf_nav", sessions[-1])
        navs = _joined([self._navs(code, since, sessions) for code in self._each(codes, "etf_nav")])
        self._published("etf_nav", navs, sessions)
        navs = navs[navs["trade_date"] <= sessions[-1]]
        # funds that hold foreign assets value them a session later
        abroad = navs["etf_code"].map(scopes) == "crossBorderStockEtf"
        known = moments(sessions_after(navs["trade_date"], 2), time(8, 30))
        return navs.assign(**{AVAILABLE_AT: pd.Series(known, navs.index).where(abroad)})

    def _navs(self, code: str, since: datetime, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        symbol = code[:6]
        if len(sessions) <= _PAGED_SESSIONS:
            bounds = {"start_date": f"{sessions[0]:%Y%m%d}", "end_date": f"{sessions[-1]:%Y%m%d}"}
            return mapping.listed_navs(self._frame("fund_etf_fund_info_em", since, fund=symbol, **bounds), code)
        unit, accumulated = (
            self._frame("fund_open_fund_info_em", since, symbol=symbol, indicator=indicator)
            for indicator in ("单位净值走势", "累计净值走势")
        )
        return mapping.whole_navs(unit, accumulated, code)

    def _etf_bar(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        since = self._since("etf_bar", sessions[-1])
        bounds = {"start_date": f"{sessions[0]:%Y%m%d}", "end_date": f"{sessions[-1]:%Y%m%d}"}
        bars = _joined(
            [
                mapping.etf_bars(
                    self._frame("fund_etf_hist_em", since, symbol=code[:6], period="daily", adjust="", **bounds), code
                )
                for code in self._each(list(self._universe(sessions).index), "etf_bar")
            ]
        )
        return self._published("etf_bar", bars, sessions)

    def _etf_minutes(self, sessions: pd.DatetimeIndex) -> pd.DataFrame | NotAvailable:
        since = self._since("etf_bar_5min", sessions[-1])
        bars = _joined(
            [
                mapping.etf_minutes(
                    self._windows(
                        "fund_etf_hist_min_em", since, sessions[0], "时间", ["时间"], symbol=code[:6], period="5"
                    ),
                    code,
                )
                for code in self._each(list(self._universe(sessions).index), "etf_bar_5min")
            ]
        )
        begin = bars["trade_date"].min()
        bars = bars[bars["trade_date"].isin(sessions)]
        if bars.empty and sessions[-1] < begin:
            return NotAvailable(f"{sessions[0]:%Y-%m-%d} … {sessions[-1]:%Y-%m-%d}: {_NOTES['etf_bar_5min']}")
        return bars

    def _windows(
        self, function: str, since: datetime, first: pd.Timestamp, day: str, key: list[str], **arguments: str
    ) -> pd.DataFrame:
        """Rows back to `first` of a function that serves the recent past only, older ones from stored answers."""
        answer = self._client.call(function, arguments, since=since)
        frames = [answer.frame]
        while len(answer.frame) and (begin := mapping.days(answer.frame[day]).min()) > first:
            received = min(response.received_at for response in answer.responses)
            # an answer from just before the window's first days reaches farthest back without leaving a gap
            until = min(received, moments(pd.DatetimeIndex([begin]) + timedelta(days=5), time.min)[0].to_pydatetime())
            try:
                answer = self._client.call(function, arguments, until=until)
            except NotStored:
                break
            frames.append(answer.frame)
        return pd.concat([f for f in frames if len(f)] or frames[:1]).drop_duplicates(key)

    def _etf_split(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        return self._distributions("etf_split", "fund_cf_em", mapping.splits, sessions)

    def _etf_dividend(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        return self._distributions("etf_dividend", "fund_fh_em", mapping.dividends, sessions)

    def _distributions(
        self, name: str, function: str, convert: Callable[[pd.DataFrame], pd.DataFrame], sessions: pd.DatetimeIndex
    ) -> pd.DataFrame:
        rows = _joined(
            [
                convert(self._frame(function, self._since(name, _last_session(year)), year=f"{year}"))
                for year in sessions.year.unique()
            ]
        )
        return rows[rows["etf_code"].isin(self._universe(sessions).index)]

    def _etf_margin(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        since = self._since("etf_margin", sessions[-1])
        rows = []
        for day in sessions:
            asked = {"date": f"{day:%Y%m%d}"}
            rows.append(mapping.sse_margins(self._whole("stock_margin_detail_sse", since, _has_rows, **asked)))
            rows.append(mapping.szse_margins(self._whole("stock_margin_detail_szse", since, _has_rows, **asked), day))
        margins = _joined(rows)
        margins = margins[margins["etf_code"].isin(self._universe(sessions).index)]
        return self._published("etf_margin", margins, sessions, _EXCHANGES)

    # Indexes and industries.

    def _is_cni(self) -> Callable[[str], bool]:
        """Tells whether Shenzhen's index company publishes an index, and CSI does not."""
        listed = set(self._snapshot("index_csindex_all")["指数代码"].map(mapping.index_code))
        return lambda code: code.endswith(".SZ") and code not in listed

    def _csi_bars(self, code: str, since: datetime, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        bounds = {"start_date": f"{sessions[0]:%Y%m%d}", "end_date": f"{sessions[-1]:%Y%m%d}"}
        frame = self._frame("stock_zh_index_hist_csindex", since, symbol=code[:6], **bounds)
        # its first row may carry the day that was asked for, and some holidays have rows
        return frame[mapping.days(frame["日期"]).isin(sessions)].reset_index(drop=True)

    def _index_bar(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        since = self._since("index_bar", sessions[-1])
        bounds = {"start_date": f"{sessions[0]:%Y%m%d}", "end_date": f"{sessions[-1]:%Y%m%d}"}
        rows, is_cni = [], self._is_cni()
        for code in self._indexes:
            if is_cni(code):
                frame = self._frame("index_hist_cni", since, symbol=code[:6], **bounds)
                bars = mapping.cni_bars(frame, code)
            else:
                bars = mapping.csi_bars(self._csi_bars(code, since, sessions), code)
            bars = bars[bars["trade_date"].isin(sessions)]
            if bars.empty:
                raise EmptyDay(
                    f"akshare index_bar: no rows of {code} from {sessions[0]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d}. "
                    "Look whether its publisher still calculates it"
                )
            rows.append(bars)
        return self._published("index_bar", _joined(rows), sessions)

    def _index_valuation(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        since = self._since("index_valuation", sessions[-1])
        rows, is_cni = [], self._is_cni()
        for code in self._indexes:
            if is_cni(code):
                continue
            yields = self._windows(
                "stock_zh_index_value_csindex", since, sessions[0], "日期", ["日期"], symbol=code[:6]
            )
            rows.append(mapping.csi_valuations(self._csi_bars(code, since, sessions), yields, code))
        values = _joined(rows)
        return values[values["trade_date"].isin(sessions)]

    def _fund_return(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        frame = self._csi_bars(_FUND_SERIES, self._since("fund_return", sessions[-1]), sessions)
        returns = pd.DataFrame(
            {
                "series_code": f"{_FUND_SERIES}.CSI",
                "trade_date": mapping.days(frame["日期"]),
                "daily_return": frame["涨跌幅"].astype("float64") / 100,
            }
        )
        return self._published("fund_return", returns, sessions)

    def _index_weight(self, start: date, end: date) -> pd.DataFrame | NotAvailable:
        info = self._etf_info()
        tracked = info.loc[info["asset_scope"] == "aShareStockEtf", "index_code"].dropna().unique()
        if not len(tracked):
            return NotAvailable(f"no ETF's index is known: {self._notes['etf_info']}")
        month_end = self._last_month_end()
        since = public_from(self._contract["index_weight"], pd.DatetimeIndex([month_end]))[0].to_pydatetime()
        is_cni = self._is_cni()
        rows = [
            self._weights(code, is_cni(code), since, month_end, start)
            for code in self._each(sorted(tracked), "index_weight")
        ]
        weights = _joined(rows)
        newest = weights["as_of_date"].max()
        weights = weights[weights["as_of_date"].between(pd.Timestamp(start), pd.Timestamp(end))]
        if weights.empty and pd.Timestamp(end) < newest:
            return NotAvailable(f"{start} … {end}: {_NOTES['index_weight']}")
        return self._without_broken_sets(weights.reset_index(drop=True))

    def _last_month_end(self) -> pd.Timestamp:
        """Last session of the newest month whose weights are due."""
        sessions = sessions_between(self._today - timedelta(days=90), self._today)
        ends = sessions[:-1][sessions[1:].month != sessions[:-1].month]
        return ends[public_from(self._contract["index_weight"], ends) <= pd.Timestamp(self._now)][-1]

    def _weights(self, code: str, is_cni: bool, since: datetime, month_end: pd.Timestamp, start: date) -> pd.DataFrame:
        def is_new(frame: pd.DataFrame) -> bool:
            return frame.empty or mapping.days(frame["日期"]).max() >= month_end

        if is_cni:
            return mapping.cni_weights(self._whole("index_detail_hist_cni", since, is_new, symbol=code[:6]), code)
        function = "index_stock_cons_weight_csindex"
        newest = self._frame(function, since, symbol=code[:6])
        # not there yet when it was due: asked for again once a day
        since = since if is_new(newest) else max(since, self._midnight)
        frame = self._windows(function, since, pd.Timestamp(start), "日期", ["日期", "成分券代码"], symbol=code[:6])
        return mapping.csi_weights(frame, code)

    def _without_broken_sets(self, weights: pd.DataFrame) -> pd.DataFrame:
        """Sets whose weights do not sum to one are left out and noted: no user can mend the publisher's file."""
        rule = self._contract["index_weight"].set_sum
        assert rule is not None
        judged = without_broken_sets(rule, weights)
        if judged.is_too_many:
            raise CanaryError(
                f"akshare index_weight: {judged.broken} of {judged.sets} weight sets do not sum to 1: {judged.shown}. "
                "The publisher changed what it sends: nothing of it is used"
            )
        if judged.broken:
            self._notes["index_weight"] = (
                f"{_NOTES['index_weight']}; left out, for they do not sum to 1: {judged.shown}"
            )
        return judged.kept

    def _industry_bar(self, sessions: pd.DatetimeIndex) -> pd.DataFrame:
        since = self._since("industry_bar", sessions[-1])
        bars = _joined(
            [
                mapping.sw_bars(self._frame("index_hist_sw", since, symbol=code[:6], period="day"), code)
                for code in mapping.sw_industries()["industry_code"]
            ]
        )
        return self._published("industry_bar", bars, sessions)

    def _stock_industry(self) -> pd.DataFrame:
        return mapping.sw_stays(self._snapshot("stock_industry_clf_hist_sw"))

    # Mutual funds and their reports.

    def _fund_info(self) -> pd.DataFrame:
        names = self._snapshot("fund_name_em")
        issues = self._snapshot("fund_new_found_em")
        etfs = self._universe(pd.DatetimeIndex([self._last_due("etf_share")]))
        return mapping.fund_infos(names, issues, set(etfs.index))

    def _fund_holding(self, start: date, end: date) -> pd.DataFrame:
        codes = mapping.active_funds(self._snapshot("fund_name_em"))
        since = self._reports_due(end, full_only=False)
        rows = []
        for code in self._each(codes, "fund_holding"):
            years = [
                self._frame("fund_portfolio_hold_em", since, symbol=code, date=f"{year}")
                for year in range(start.year, end.year + 1)
            ]
            held = [frame for frame in years if len(frame)]
            if held:
                rows.append(mapping.holdings(pd.concat(held, ignore_index=True), code, self._announced(code, since)))
        return self._known(_joined(rows) if rows else self._nothing("fund_holding"))

    def _etf_holder(self, start: date, end: date) -> pd.DataFrame:
        since = self._reports_due(end, full_only=True)
        etfs = self._universe(pd.DatetimeIndex([self._last_due("etf_share")]))
        rows = []
        for code in self._each(list(etfs.index), "etf_holder"):
            frame = self._frame("fund_holders", since, symbol=code[:6])
            if len(frame):
                rows.append(mapping.holders(frame, code, self._announced(code[:6], since)))
        return self._known(_joined(rows) if rows else self._nothing("etf_holder"))

    def _announced(self, symbol: str, since: datetime) -> Mapping[tuple[date, str], pd.Timestamp]:
        return mapping.announced(self._frame("fund_announcement_report_em", since, symbol=symbol))

    def _reports_due(self, end: date, full_only: bool) -> datetime:
        """The last day by which reports had to be public, not after the one for the year of `end`."""
        last = min(self._today - timedelta(days=1), mapping.full_report_due(date(end.year, 12, 31)))
        deadlines = [
            mapping.full_report_due(date(y, m, d)) for y in (last.year - 1, last.year) for m, d in ((6, 30), (12, 31))
        ]
        if not full_only:
            quarters = pd.period_range(end=pd.Period(last, "Q"), periods=5).end_time.normalize()
            deadlines += [day.date() for day in sessions_after(quarters[quarters <= pd.Timestamp(last)], 15)]
        newest = max(day for day in deadlines if day <= last)
        return datetime.combine(newest, time.min, ZoneInfo(SHANGHAI)) + timedelta(days=1)

    def _known(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows whose report is public by now; a date of announcement ahead would be the page's mistake."""
        return rows[~(rows["announced_date"] > pd.Timestamp(self._today))]

    def _nothing(self, name: str) -> pd.DataFrame:
        return self._contract[name].schema.empty_table().to_pandas().drop(columns=AVAILABLE_AT)


_log = logging.getLogger(__name__)


def _has_rows(frame: pd.DataFrame) -> bool:
    return len(frame) > 0


def _by_month(sessions: pd.DatetimeIndex) -> list[pd.DatetimeIndex]:
    months = sessions.to_period("M")
    return [sessions[months == month] for month in months.unique()]


def _last_session(year: int) -> pd.Timestamp:
    return sessions_between(date(year, 12, 1), date(year, 12, 31))[-1]


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of frames of one kind; the columns of the first where none has any."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _in_words(days: pd.DatetimeIndex) -> str:
    more = ", …" if len(days) > 5 else ""
    return ", ".join(f"{day:%Y-%m-%d}" for day in days[:5]) + more
