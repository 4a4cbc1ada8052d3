"""The simulated market as rows: one builder per dataset of the contract.

Builders return frames with the dataset's columns, sorted by its key; types and `available_at` are set by the source.
Missing rows and values are placed here, so that the simulation behind them stays whole.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from etf_pipeline.contract import EARLIEST_DATE
from etf_pipeline.sources.base import NotAvailable
from etf_pipeline.sources.sample import funds
from etf_pipeline.sources.sample.catalog import CITIC, NO_SHARE_DAYS, SHORT_FILE_DAYS, SW, THEME_INDUSTRY
from etf_pipeline.sources.sample.etfs import etf_market
from etf_pipeline.sources.sample.market import (
    FIRST_DAY,
    FIRST_SERIES_DAY,
    ar1,
    indices,
    industry_levels,
    market,
    random,
)

_SCHEMES = {"citic": CITIC, "sw": SW}
_SHORT_FILE_SHARE = 0.30
_MISSING_SHARE = 0.0005
_MISSING_NAV = 0.0004


def text(names: list[str] | np.ndarray, positions: np.ndarray) -> pd.Series:
    """Column of strings picked from few distinct names; far quicker than from an object array."""
    return pd.Series(pd.array(list(names), dtype="str").take(positions))


def trading_calendar() -> pd.DataFrame:
    """Sessions from the first to the last day of the sample."""
    sessions = market().sessions
    days = sessions[sessions >= pd.Timestamp(FIRST_DAY)]
    return pd.DataFrame({"trade_date": days, "is_open": True})


def etf_info() -> pd.DataFrame:
    """All ETFs that ever existed."""
    etfs = etf_market().etfs
    categories = {
        "aShareStockEtf": "股票型",
        "crossBorderStockEtf": "跨境",
        "bondEtf": "债券型",
        "commodityEtf": "商品型",
        "moneyEtf": "货币型",
    }
    kinds = {"broad": "宽基", "industry": "行业主题", "style": "策略风格"}
    return pd.DataFrame(
        {
            "etf_code": [e.code for e in etfs],
            "name": [e.name for e in etfs],
            "index_code": [e.index_code for e in etfs],
            "index_name": [e.index_name for e in etfs],
            "asset_scope": [e.scope for e in etfs],
            "category_1": [categories[e.scope] for e in etfs],
            "category_2": [kinds.get(e.theme_kind or "") for e in etfs],
            "category_3": [e.index_name if e.theme_kind == "industry" else None for e in etfs],
            "theme": [e.theme for e in etfs],
            "theme_kind": [e.theme_kind for e in etfs],
            "management_fee": [e.management_fee for e in etfs],
            "custody_fee": [e.custody_fee for e in etfs],
            "manager": [e.house for e in etfs],
            "list_date": pd.DatetimeIndex([e.listed for e in etfs]),
            "delist_date": pd.DatetimeIndex([e.closed for e in etfs]),
            "is_t0": [e.scope != "aShareStockEtf" for e in etfs],
        }
    )


def _etf_rows(shown: np.ndarray, **values: np.ndarray) -> pd.DataFrame:
    """One row per ETF and session of the boolean `shown` (session × ETF), sorted by both."""
    state, sessions = etf_market(), market().sessions
    column, row = np.nonzero((shown & (sessions >= FIRST_SERIES_DAY).reshape(-1, 1)).T)
    frame = pd.DataFrame({"etf_code": text([e.code for e in state.etfs], column), "trade_date": sessions[row]})
    return frame.assign(**{name: value[row, column] for name, value in values.items()})


def _away_from_events() -> np.ndarray:
    """Where single values may go missing: not within three sessions of a split or dividend of that ETF."""
    state = etf_market()
    quiet = np.ones(state.shares.shape, dtype=bool)
    for event in (*state.splits, *state.dividends):
        quiet[max(event.row - 3, 0) : event.row + 4, event.etf] = False
    return quiet


def etf_share() -> pd.DataFrame:
    """Shares after each session, with short files, missing files and single missing rows."""
    state, m = etf_market(), market()
    rng = random(20)
    shown = ~np.isnan(state.shares)
    shown &= ~((rng.random(shown.shape) < _MISSING_SHARE) & _away_from_events())
    for day in SHORT_FILE_DAYS:
        shown[m.position(day)] &= rng.random(shown.shape[1]) < _SHORT_FILE_SHARE
    for day in NO_SHARE_DAYS:
        shown[m.position(day)] = False
    return _etf_rows(shown, shares=state.shares)


def etf_nav() -> pd.DataFrame:
    """NAVs of each session; a few rows are missing and a few are there without a value."""
    state = etf_market()
    rng = random(21)
    draw = np.where(_away_from_events(), rng.random(state.nav.shape), 1.0)
    empty = (draw >= _MISSING_NAV) & (draw < 2 * _MISSING_NAV)
    return _etf_rows(
        ~np.isnan(state.nav) & (draw >= _MISSING_NAV),
        unit_nav=np.where(empty, np.nan, state.nav),
        accumulated_nav=np.where(empty, np.nan, state.accumulated),
    )


def _bars() -> dict[str, np.ndarray]:
    """Prices and trading of each session (session × ETF); NaN before listing."""
    state = etf_market()
    rng = random(22)
    shape = state.nav.shape
    calm = np.array([0.03 if e.scope in ("moneyEtf", "bondEtf") else 1.0 for e in state.etfs])
    premium = 0.0010 * calm * ar1(rng.standard_normal(shape), 0.6)
    nav = state.nav
    listed = np.arange(shape[0])[:, None] >= [e.list_row for e in state.etfs]
    close = np.where(listed, np.round(nav * (1 + premium), 3), np.nan)
    step = state.factor[1:] / state.factor[:-1]
    before = np.vstack([nav[:1], close[:-1] / step])
    before = np.where(np.isnan(before), close, before)
    open_ = np.round(before + 0.35 * (close - before) + 0.0015 * calm * rng.standard_normal(shape) * close, 3)
    spread = np.abs(0.004 * calm * rng.standard_normal((2, *shape))) * close
    high = np.round(np.maximum(open_, close) + spread[0], 3)
    low = np.round(np.minimum(open_, close) - spread[1], 3)
    moved = np.abs(np.log(close / before))
    turnover = 0.02 * np.exp(0.5 * ar1(rng.standard_normal(shape), 0.9) + 15 * np.minimum(moved, 0.1))
    volume = np.round(state.shares * np.minimum(turnover, 0.6) / 100) * 100
    return {
        "open": open_,
        "high": high,
        "low": low,
        "close": close,
        "adjustment_factor": state.factor,
        "adjusted_close": np.round(close * state.factor, 6),
        "volume": volume,
        "amount": np.round(volume * (open_ + high + low + close) / 4, 2),
    }


def etf_bar() -> pd.DataFrame:
    """Bars from the listing day on."""
    bars = _bars()
    return _etf_rows(~np.isnan(bars["close"]), **bars)


def _events(kind: str, column: str) -> pd.DataFrame:
    state, m = etf_market(), market()
    events = [e for e in getattr(state, kind) if e.recorded]
    frame = pd.DataFrame(
        {
            "etf_code": [state.etfs[e.etf].code for e in events],
            "ex_date": m.sessions[[e.row for e in events]],
            column: [e.value for e in events],
        }
    )
    return frame.sort_values(["etf_code", "ex_date"])


def etf_split() -> pd.DataFrame:
    """The recorded splits; others show in NAV, price and shares only."""
    return _events("splits", "new_per_old")


def etf_dividend() -> pd.DataFrame:
    """All cash distributions."""
    return _events("dividends", "cash_per_share")


def index_bar() -> pd.DataFrame:
    """Bars of all indices from their first day on."""
    m = market()
    found = sorted(indices(), key=lambda index: index.spec.code)
    close = np.round(np.column_stack([i.level for i in found]), 4)
    amount = np.column_stack([i.amount for i in found])
    rng = random(23)
    before = np.vstack([close[:1], close[:-1]])
    before = np.where(np.isnan(before), close, before)
    open_ = np.round(before * (1 + 0.003 * rng.standard_normal(close.shape)), 4)
    spread = np.abs(0.005 * rng.standard_normal((2, *close.shape))) * close
    column, row = np.nonzero((~np.isnan(close) & (m.sessions >= FIRST_SERIES_DAY).reshape(-1, 1)).T)
    values = {
        "open": open_,
        "high": np.round(np.maximum(open_, close) + spread[0], 4),
        "low": np.round(np.minimum(open_, close) - spread[1], 4),
        "close": close,
        "amount": np.round(amount, 2),
    }
    frame = pd.DataFrame({"index_code": text([i.spec.code for i in found], column), "trade_date": m.sessions[row]})
    return frame.assign(**{name: value[row, column] for name, value in values.items()})


def index_weight() -> pd.DataFrame:
    """Month-end sets of the indices that publish weights."""
    m = market()
    found = sorted((i for i in indices() if i.spec.weights), key=lambda index: index.spec.code)
    index_of, row_of, stock_of, weight_of = [], [], [], []
    for n, index in enumerate(found):
        until = pd.Timestamp(index.spec.weights_until or m.sessions[-1])
        for row, stocks, weights in index.sets:
            if m.sessions[row] > until:
                break
            index_of.append(np.full(len(stocks), n))
            row_of.append(np.full(len(stocks), row))
            stock_of.append(stocks)
            weight_of.append(np.round(weights, 4) if index.spec.rounded else weights)
    positions, rows = np.concatenate(index_of), np.concatenate(row_of)
    stocks, weight = np.concatenate(stock_of), np.concatenate(weight_of)
    rank = np.empty(len(m.codes), dtype=int)
    rank[np.argsort(m.codes.astype(str))] = np.arange(len(m.codes))
    order = np.lexsort((rank[stocks], rows, positions))
    return pd.DataFrame(
        {
            "index_code": text([i.spec.code for i in found], positions[order]),
            "as_of_date": m.sessions[rows[order]],
            "stock_code": text(m.codes, stocks[order]),
            "weight": weight[order],
        }
    )


def index_valuation() -> pd.DataFrame:
    """Valuation of six broad indices; multiples follow the level against its own slow mean."""
    m = market()
    chosen = {
        "000016.SH": (10.5, 1.3, 0.032),
        "000300.SH": (12.5, 1.6, 0.025),
        "000688.SH": (48.0, 4.5, 0.006),
        "000852.SH": (34.0, 2.6, 0.010),
        "000905.SH": (25.0, 2.1, 0.014),
        "399006.SZ": (42.0, 4.8, 0.007),
    }
    frames = []
    for index in sorted(indices(), key=lambda i: i.spec.code):
        if index.spec.code not in chosen:
            continue
        pe, pb, dividends = chosen[index.spec.code]
        level = pd.Series(index.level, index=m.sessions)
        cheapness = (level / level.ewm(halflife=500, ignore_na=True).mean()).loc[FIRST_SERIES_DAY:].dropna()
        frames.append(
            pd.DataFrame(
                {
                    "index_code": index.spec.code,
                    "trade_date": cheapness.index,
                    "pe_ttm": np.round(pe * cheapness.to_numpy(), 4),
                    "pb": np.round(pb * cheapness.to_numpy() ** 0.9, 4),
                    "dividend_yield": np.round(dividends / cheapness.to_numpy(), 6),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def industry_info() -> pd.DataFrame:
    """Level-1 industries of both schemes."""
    rows = [(scheme, code, name) for scheme, names in _SCHEMES.items() for code, name in names.items()]
    return pd.DataFrame(rows, columns=["scheme", "industry_code", "industry_name"])


def industry_bar() -> pd.DataFrame:
    """Industry levels of both schemes, 1000 on the first simulated day."""
    sessions = market().sessions
    days = np.flatnonzero(sessions >= FIRST_SERIES_DAY)
    frames = []
    for scheme, names in _SCHEMES.items():
        industry, row = np.divmod(np.arange(len(names) * len(days)), len(days))
        frames.append(
            pd.DataFrame(
                {
                    "scheme": text([scheme], np.zeros(len(row), dtype=int)),
                    "industry_code": text(list(names), industry),
                    "trade_date": sessions[days[row]],
                    "close": np.round(industry_levels(scheme)[days[row], industry], 4),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def stock_industry() -> pd.DataFrame:
    """Stays of the A shares in their industries; stocks listed from the start on have been there "since ever"."""
    m = market()
    rows = []
    for scheme, names in _SCHEMES.items():
        code_of = {name: code for code, name in names.items()}
        by_stock: dict[int, list[tuple[pd.Timestamp, str]]] = {}
        for change in sorted(m.changes[scheme], key=lambda c: c.day):
            by_stock.setdefault(change.stock, []).append((change.day, code_of[change.industry]))
        for stock in range(m.a_shares):
            start = pd.Timestamp(EARLIEST_DATE) if m.listed[stock] == 0 else m.listing_dates[stock]
            stays = [(start, list(names)[m.labels[scheme][0, stock]])]
            for day, industry in by_stock.get(stock, []):
                if day <= start:
                    stays = [(start, industry)]
                elif industry != stays[-1][1]:
                    stays.append((day, industry))
            ends = [day for day, _ in stays[1:]] + [pd.NaT]
            rows += [(scheme, m.codes[stock], day, ind, end) for (day, ind), end in zip(stays, ends, strict=True)]
    frame = pd.DataFrame(rows, columns=["scheme", "stock_code", "in_date", "industry_code", "out_date"])
    return frame.sort_values(["scheme", "stock_code", "in_date"])


def theme_industry() -> pd.DataFrame:
    """Themes that stand for one industry."""
    rows = []
    for position, (scheme, names) in enumerate(_SCHEMES.items()):
        code_of = {name: code for code, name in names.items()}
        rows += [(scheme, theme, code_of[pair[position]]) for theme, pair in THEME_INDUSTRY.items()]
    frame = pd.DataFrame(rows, columns=["scheme", "theme", "industry_code"])
    return frame.sort_values(["scheme", "theme"])


def stock_value() -> pd.DataFrame:
    """Month-end market values of the A shares."""
    m = market()
    rows = m.month_ends()
    total = m.total_value[rows, : m.a_shares]
    floating = m.float_value[rows, : m.a_shares]
    order = np.argsort(m.codes[: m.a_shares].astype(str))
    column, month = np.nonzero((floating > 0)[:, order].T)
    stock = order[column]
    return pd.DataFrame(
        {
            "stock_code": text(m.codes, stock),
            "trade_date": m.sessions[rows[month]],
            "total_market_value": np.round(total[month, stock], 2),
            "float_market_value": np.round(floating[month, stock], 2),
            "free_float_market_value": np.round(floating[month, stock] * m.free_fraction[stock], 2),
        }
    )


def fund_info() -> pd.DataFrame:
    """ETFs and all other funds."""
    return funds.fund_info().sort_values("fund_code")


def fund_holding() -> pd.DataFrame:
    """Ten largest positions of the reporting funds."""
    return funds.fund_holding().sort_values(["fund_code", "report_date", "stock_code"])


def etf_margin() -> pd.DataFrame:
    """Margin trading of the thirty A-share ETFs with the longest history, from 2019 on."""
    state, m = etf_market(), market()
    rng = random(24)
    oldest = [n for n, e in enumerate(state.etfs) if e.scope == "aShareStockEtf" and e.closed is None]
    oldest = sorted(sorted(oldest, key=lambda n: state.etfs[n].listed)[:30])
    first = m.position("2019-01-02")
    shape = (len(m.sessions) - first, 30)
    worth = (state.shares * state.nav)[first:, oldest]
    financing = worth * 0.03 * np.exp(0.4 * ar1(rng.standard_normal(shape), 0.98))
    lent = state.shares[first:, oldest] * 0.004 * np.exp(0.6 * ar1(rng.standard_normal(shape), 0.97))
    bought = financing * rng.uniform(0.03, 0.15, shape)
    sold = np.round(lent * rng.uniform(0.02, 0.2, shape))
    column, row = np.divmod(np.arange(shape[0] * 30), shape[0])
    return pd.DataFrame(
        {
            "etf_code": text([state.etfs[n].code for n in oldest], column),
            "trade_date": m.sessions[first + row],
            "financing_balance": np.round(financing[row, column], 2),
            "financing_buy": np.round(bought[row, column], 2),
            "short_volume": np.round(lent)[row, column],
            "short_sell_volume": sold[row, column],
        }
    )


def etf_holder() -> pd.DataFrame:
    """Half-yearly holder structure of every living ETF, public 60 days after the half year."""
    state, m = etf_market(), market()
    rng = random(25)
    kinds = ["feeder", "individual", "institution"]
    halves = [day for day in pd.date_range("2014-12-31", m.sessions[-1], freq="QE") if day.month in (6, 12)]
    rows = []
    mix = rng.dirichlet([1.0, 5.0, 4.0], len(state.etfs))
    for day in halves:
        row = int(m.sessions.searchsorted(day, side="right")) - 1
        drift = rng.dirichlet([1.0, 5.0, 4.0], len(state.etfs))
        mix = 0.85 * mix + 0.15 * drift
        announced = day + pd.Timedelta(days=60)
        for n in np.flatnonzero(~np.isnan(state.shares[row])):
            ratio = np.round(mix[n], 4)
            ratio[2] = round(1 - ratio[0] - ratio[1], 4)
            rows += [
                (state.etfs[n].code, day, announced, kind, r, round(r * state.shares[row, n]))
                for kind, r in zip(kinds, ratio, strict=True)
            ]
    frame = pd.DataFrame(rows, columns=["etf_code", "report_date", "announced_date", "holder", "ratio", "shares"])
    return frame.sort_values(["etf_code", "report_date", "holder"])


BUILDERS: Mapping[str, Callable[[], pd.DataFrame]] = {
    builder.__name__: builder
    for builder in (
        trading_calendar,
        etf_info,
        etf_share,
        etf_nav,
        etf_bar,
        etf_split,
        etf_dividend,
        index_bar,
        index_weight,
        index_valuation,
        industry_info,
        industry_bar,
        stock_industry,
        theme_industry,
        stock_value,
        fund_info,
        fund_holding,
        funds.fund_return,
        etf_margin,
        etf_holder,
    )
}
ABSENT: Mapping[str, NotAvailable] = {"etf_bar_5min": NotAvailable("the sample has no five-minute bars")}
