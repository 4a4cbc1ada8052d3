"""The sample market as Tushare would answer it: its units, dates, parameters and tables, at full precision.

Beside the ETFs the answers hold what the real ones hold too: other exchange-traded funds, stocks among the margin
accounts, industries of lower levels, proposals of dividends. None of that may reach a canonical frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property

import pandas as pd

from etf_pipeline.core.calendar import sessions_after, sessions_between
from etf_pipeline.sources.sample import SampleSource
from tests.sources.tushare.server import WRONG_PARAMETERS, Refusal

FIRST = date(2025, 12, 1)
ALIAS = {"000300.SH": "399300.SZ"}
LISTED_FUND = "161725.SZ"
"""A listed fund that is no ETF."""

Params = Mapping[str, str]


@cache
def sample(dataset: str) -> pd.DataFrame:
    """Rows of the sample from `FIRST` on; snapshots whole."""
    frame = SampleSource().fetch(dataset, FIRST, SampleSource().span[1])
    assert isinstance(frame, pd.DataFrame)
    return frame


def ymd(days: pd.Series) -> pd.Series:
    return days.dt.strftime("%Y%m%d").astype(object).where(days.notna(), None)


def shenzhen_report(start: date, end: date) -> pd.DataFrame:
    """Shares as the Shenzhen exchange reports them."""
    shares = sample("etf_share")
    inside = shares["trade_date"].between(pd.Timestamp(start), pd.Timestamp(end))
    return shares.loc[inside & shares["etf_code"].str.endswith(".SZ"), ["etf_code", "trade_date", "shares"]]


@dataclass
class Market:
    """Answers to every API that is asked. Days are text as Tushare writes them.

    On `late_labels` Shenzhen's shares are those of the session before; `wrong_navs` are factors on first versions of
    NAVs by code and day; on `gaps` an API (first of the pair) has nothing. `only` these ETFs
    and other funds exist (None: all).
    """

    late_labels: set[str] = field(default_factory=set)
    wrong_navs: dict[tuple[str, str], float] = field(default_factory=dict)
    gaps: set[tuple[str, str]] = field(default_factory=set)
    only: frozenset[str] | None = None

    def answer(self, api: str, params: dict[str, str]) -> pd.DataFrame | Refusal:
        """Rows of an API for these parameters."""
        answered = getattr(self, f"_{api}")(params)
        if isinstance(answered, pd.DataFrame) and {(api, day) for day in params.values()} & self.gaps:
            return answered[:0]
        return answered

    # --- lists ---

    @cached_property
    def _etfs(self) -> pd.DataFrame:
        funds, etfs = sample("fund_info").set_index("fund_code"), sample("etf_info")
        etfs = etfs if self.only is None else etfs[etfs["etf_code"].isin(self.only)]
        return etfs.join(funds[["fund_type", "invest_type", "found_date", "issue_shares"]], on="etf_code")

    def _etf_basic(self, params: Params) -> pd.DataFrame:
        etfs = self._etfs
        status = etfs["delist_date"].isna().map({True: "L", False: "D"})
        etfs = etfs[status == params["list_status"]]
        abroad = etfs["asset_scope"] == "crossBorderStockEtf"
        code = etfs["index_code"].replace(ALIAS)
        return pd.DataFrame(
            {
                "ts_code": etfs["etf_code"],
                "csname": etfs["name"],
                "extname": etfs["name"],
                "index_code": code,
                "index_name": etfs["index_name"],
                "list_date": ymd(etfs["list_date"]),
                "mgr_name": etfs["manager"],
                "mgt_fee": etfs["management_fee"] * 100,
                "etf_type": abroad.map({True: "QDII", False: "境内"}),
            }
        )

    def _fund_basic(self, params: Params) -> pd.DataFrame:
        if params["market"] == "E":
            etfs = self._etfs
            funds = etfs.rename(columns={"etf_code": "fund_code"})
            other = {
                "fund_code": LISTED_FUND,
                "name": "样本白酒LOF",
                "fund_type": "股票型",
                "invest_type": "被动指数型",
            }
            other |= {"found_date": pd.Timestamp("2015-05-27"), "list_date": pd.Timestamp("2015-06-10")}
            funds = pd.concat([funds, pd.DataFrame([other])], ignore_index=True)
        else:
            funds = sample("fund_info")
            funds = funds if self.only is None else funds[funds["fund_code"].isin(self.only)]
            funds = funds[funds["fund_code"].str.endswith(".OF")].assign(manager="样本基金", list_date=pd.NaT)
            funds = funds.assign(management_fee=0.012, custody_fee=0.002)
        status = funds["delist_date"].isna().map({True: "L", False: "D"})
        funds = funds[status == params["status"]]
        return pd.DataFrame(
            {
                "ts_code": funds["fund_code"],
                "name": funds["name"],
                "management": funds["manager"],
                "fund_type": funds["fund_type"],
                "invest_type": funds["invest_type"],
                "found_date": ymd(pd.to_datetime(funds["found_date"])),
                "list_date": ymd(pd.to_datetime(funds["list_date"])),
                "delist_date": ymd(pd.to_datetime(funds["delist_date"])),
                "issue_amount": funds["issue_shares"] / 1e8,
                "m_fee": funds["management_fee"] * 100,
                "c_fee": funds["custody_fee"] * 100,
            }
        )

    def _index_classify(self, params: Params) -> pd.DataFrame | Refusal:
        if params != {"level": "L1", "src": "SW2021"}:
            return WRONG_PARAMETERS
        info = sample("industry_info")
        info = info[info["scheme"] == "sw"]
        return pd.DataFrame({"index_code": info["industry_code"], "industry_name": info["industry_name"]})

    def _ci_index_member(self, params: Params) -> pd.DataFrame:
        return self._members("citic", params["l1_code"].removesuffix(".CI"), ".CI", params["is_new"])

    def _index_member_all(self, params: Params) -> pd.DataFrame:
        return self._members("sw", params["l1_code"], "", params["is_new"])

    @staticmethod
    @cache
    def _memberships() -> dict[tuple[str, str], pd.DataFrame]:
        stays = sample("stock_industry").merge(sample("industry_info"), on=["scheme", "industry_code"])
        return dict(tuple(stays.groupby(["scheme", "industry_code"])))

    def _members(self, scheme: str, code: str, suffix: str, is_new: str) -> pd.DataFrame:
        stays = self._memberships()[scheme, code]
        stays = stays[stays["out_date"].isna() == (is_new == "Y")]
        return pd.DataFrame(
            {
                "l1_code": stays["industry_code"] + suffix,
                "l1_name": stays["industry_name"],
                "ts_code": stays["stock_code"],
                "in_date": ymd(stays["in_date"]),
                "out_date": ymd(stays["out_date"]),
            }
        )

    # --- days ---

    @staticmethod
    @cache
    def _by_day(dataset: str, column: str = "trade_date") -> dict[str, pd.DataFrame]:
        frame = sample(dataset)
        return {f"{day:%Y%m%d}": rows for day, rows in frame.groupby(column)}

    def _on(self, dataset: str, day: str, column: str = "trade_date") -> pd.DataFrame:
        return self._by_day(dataset, column).get(day, sample(dataset)[:0])

    def _fund_share(self, params: Params) -> pd.DataFrame:
        day, label = params["trade_date"], params["trade_date"]
        market = params["market"]
        if market == "SZ" and label in self.late_labels:
            before = sessions_between(date(2025, 11, 1), pd.Timestamp(label).date())[-2]
            day = f"{before:%Y%m%d}"
        rows = self._on("etf_share", day)
        rows = rows[rows["etf_code"].str.endswith(f".{market}")]
        answer = pd.DataFrame({"ts_code": rows["etf_code"], "trade_date": label, "fd_share": rows["shares"] / 1e4})
        other = {"ts_code": LISTED_FUND, "trade_date": label, "fd_share": 1_234_567.89}
        return pd.concat([answer, pd.DataFrame([other])], ignore_index=True) if market == "SZ" else answer

    def _fund_nav(self, params: Params) -> pd.DataFrame:
        day = params["nav_date"]
        rows = self._on("etf_nav", day)
        announced = sessions_after(pd.DatetimeIndex([day]), 1)[0]
        wrong = rows["etf_code"].map({code: factor for (code, on), factor in self.wrong_navs.items() if on == day})
        answer = pd.DataFrame(
            {
                "ts_code": rows["etf_code"],
                "ann_date": f"{announced:%Y%m%d}",
                "nav_date": day,
                "unit_nav": rows["unit_nav"] * wrong.fillna(1.0).astype(float),
                "accum_nav": rows["accumulated_nav"],
            }
        )
        other = {"ts_code": LISTED_FUND, "ann_date": day, "nav_date": day, "unit_nav": 0.8, "accum_nav": 2.4}
        return pd.concat([answer, pd.DataFrame([other])], ignore_index=True)

    def _fund_daily(self, params: Params) -> pd.DataFrame:
        rows = self._on("etf_bar", params["trade_date"])
        return pd.DataFrame(
            {
                "ts_code": rows["etf_code"],
                "trade_date": params["trade_date"],
                **{name: rows[name] for name in ("open", "high", "low", "close")},
                "vol": rows["volume"] / 100,
                "amount": rows["amount"] / 1000,
            }
        )

    def _fund_adj(self, params: Params) -> pd.DataFrame:
        rows = self._on("etf_bar", params["trade_date"])
        return pd.DataFrame(
            {
                "ts_code": rows["etf_code"],
                "trade_date": params["trade_date"],
                "adj_factor": rows["adjustment_factor"],
            }
        )

    def _fund_div(self, params: Params) -> pd.DataFrame:
        rows = self._on("etf_dividend", params["ex_date"], "ex_date")
        columns = {
            "ts_code": rows["etf_code"],
            "ann_date": params["ex_date"],
            "imp_anndate": params["ex_date"],
            "ex_date": params["ex_date"],
            "div_cash": rows["cash_per_share"],
        }
        done = pd.DataFrame({**columns, "div_proc": "实施"})
        return pd.concat([done, done.assign(div_proc="预案", div_cash=done["div_cash"] * 2)], ignore_index=True)

    def _index_dailybasic(self, params: Params) -> pd.DataFrame:
        rows = self._on("index_valuation", params["trade_date"])
        answer = pd.DataFrame(
            {
                "ts_code": rows["index_code"],
                "trade_date": params["trade_date"],
                "pe_ttm": rows["pe_ttm"],
                "pb": rows["pb"],
            }
        )
        again = answer[answer["ts_code"].isin(ALIAS)]
        return pd.concat([again.assign(ts_code=again["ts_code"].map(ALIAS)), answer], ignore_index=True)

    def _ci_daily(self, params: Params) -> pd.DataFrame:
        return self._industries("citic", params["trade_date"], ".CI", "CI005101.CI")

    def _sw_daily(self, params: Params) -> pd.DataFrame:
        return self._industries("sw", params["trade_date"], "", "801011.SI")

    def _industries(self, scheme: str, day: str, suffix: str, lower: str) -> pd.DataFrame:
        rows = self._on("industry_bar", day)
        rows = rows[rows["scheme"] == scheme]
        answer = pd.DataFrame({"ts_code": rows["industry_code"] + suffix, "trade_date": day, "close": rows["close"]})
        other = pd.DataFrame([{"ts_code": lower, "trade_date": day, "close": 777.0}])
        return pd.concat([answer, other], ignore_index=True)

    def _daily_basic(self, params: Params) -> pd.DataFrame:
        rows = self._on("stock_value", params["trade_date"])
        return pd.DataFrame(
            {
                "ts_code": rows["stock_code"],
                "trade_date": params["trade_date"],
                "close": 12.5,
                "free_share": rows["free_float_market_value"] / 12.5 / 1e4,
                "total_mv": rows["total_market_value"] / 1e4,
                "circ_mv": rows["float_market_value"] / 1e4,
            }
        )

    def _margin_detail(self, params: Params) -> pd.DataFrame:
        rows = self._on("etf_margin", params["trade_date"])
        answer = pd.DataFrame(
            {
                "ts_code": rows["etf_code"],
                "trade_date": params["trade_date"],
                "rzye": rows["financing_balance"],
                "rzmre": rows["financing_buy"],
                "rqyl": rows["short_volume"],
                "rqmcl": rows["short_sell_volume"],
            }
        )
        stock = {"ts_code": "600000.SH", "trade_date": params["trade_date"], "rzye": 1e9, "rzmre": 1e8, "rqyl": 1e6}
        return pd.concat([answer, pd.DataFrame([{**stock, "rqmcl": 1e5}])], ignore_index=True)

    # --- ranges ---

    def _index_daily(self, params: Params) -> pd.DataFrame:
        if params["ts_code"] == "930950.CSI":
            returns = sample("fund_return")
            level = 1000 * (1 + returns["daily_return"]).cumprod()
            bars = pd.DataFrame({"trade_date": returns["trade_date"], "close": level, "amount": None})
            bars = bars.assign(open=level, high=level, low=level, pre_close=level.shift(fill_value=1000.0))
        else:
            rows = sample("index_bar")
            bars = rows[rows["index_code"] == params["ts_code"]]
            bars = bars.assign(pre_close=bars["close"].shift(), amount=bars["amount"] / 1000)
        days = ymd(bars["trade_date"])
        bars = bars.assign(ts_code=params["ts_code"], trade_date=days)
        return bars[days.between(params["start_date"], params["end_date"])][::-1]

    def _index_weight(self, params: Params) -> pd.DataFrame:
        # CSI 300 is served under its Shenzhen code
        wanted = {theirs: ours for ours, theirs in ALIAS.items()} | dict.fromkeys(ALIAS, "")
        code = wanted.get(params["index_code"], params["index_code"])
        rows = self._weights().get(code, sample("index_weight")[:0])
        days = ymd(rows["as_of_date"])
        answer = pd.DataFrame(
            {
                "index_code": params["index_code"],
                "con_code": rows["stock_code"],
                "trade_date": days,
                "weight": rows["weight"] * 100,
            }
        )
        return answer[days.between(params["start_date"], params["end_date"])]

    @staticmethod
    @cache
    def _weights() -> dict[str, pd.DataFrame]:
        return dict(tuple(sample("index_weight").groupby("index_code")))

    def _fund_portfolio(self, params: Params) -> pd.DataFrame:
        rows = sample("fund_holding")
        answer = pd.DataFrame(
            {
                "ts_code": rows["fund_code"],
                "ann_date": ymd(rows["announced_date"]),
                "end_date": ymd(rows["report_date"]),
                "symbol": rows["stock_code"],
                "mkv": rows["market_value"],
            }
        )
        names = {"period": "end_date", "ann_date": "ann_date", "ts_code": "ts_code"}
        for name, value in params.items():
            answer = answer[answer[names[name]] == value]
        return answer

    def _stk_mins(self, params: Params) -> pd.DataFrame:
        bars = sample("etf_bar")
        bars = bars[(bars["etf_code"] == params["ts_code"])]
        first, last = (pd.Timestamp(params[name]) for name in ("start_date", "end_date"))
        return minute_bars(bars[bars["trade_date"].between(first, last)])


def minute_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Two bars a session, the morning's and the afternoon's, as stk_mins answers."""
    parts = []
    for clock, share in (("11:30:00", 0.25), ("15:00:00", 0.75)):
        parts.append(
            pd.DataFrame(
                {
                    "ts_code": bars["etf_code"],
                    "trade_time": bars["trade_date"].dt.strftime("%Y-%m-%d ") + clock,
                    **{name: bars[name] for name in ("open", "close", "high", "low")},
                    "vol": bars["volume"] * share,
                    "amount": bars["amount"] * share,
                }
            )
        )
    return pd.concat(parts, ignore_index=True).sort_values("trade_time", ascending=False)
