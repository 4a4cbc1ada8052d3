"""A made-up market of full size as a folder of Parquet files in contract form, for `--source files`.

1,300 ETFs over 2,500 sessions, 450 indices of 105 stocks on average with a set of weights each month end, 5,500
stocks, 30 industries and 4,000 active funds. Everything comes from one seed; no number is of a real security. One more
session is simulated and kept back, so that `add_last_session` can let it appear as a vendor's next delivery would.

    python -m benchmarks.market FOLDER
"""

import sys
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etf_pipeline.core.calendar import sessions_after, sessions_between
from etf_pipeline.sources.sample.catalog import CITIC

LAST_DAY = date(2026, 10, 16)
"""The session kept back: a rebalance date, so that its arrival makes new holdings."""
SESSIONS, ETFS, INDICES, STOCKS, ABROAD, FUNDS = 2500, 1300, 450, 5500, 20, 4000
_SEED = 20160628
_STOCK_ETFS = 1100
_AT_START = 0.55
"""Part of the ETFs that is there from the first session; the others are launched evenly over the years."""
_SIZES = (30, 50, 50, 100, 100, 300)
"""Constituents of the indices in turn: 105 on average; those of a hundred and more pick from all industries."""
_MONTHS_BEFORE = 2
_STYLE_INDICES = ("000300.SH", "000852.SH", "399370.SZ", "399371.SZ")
_SUSPENDED = 10
"""Sessions between a closed ETF's last row and the end of its life."""


@dataclass(frozen=True)
class Days:
    """Sessions shown (the last one is kept back) and month ends of weights and values, from two months before."""

    sessions: pd.DatetimeIndex
    month_ends: pd.DatetimeIndex


@lru_cache(maxsize=1)
def days() -> Days:
    shown = sessions_between(date(2010, 1, 1), LAST_DAY)[-SESSIONS - 1 :]
    first = (shown[0] - pd.DateOffset(months=_MONTHS_BEFORE)).replace(day=1)
    # the month under way has no end yet
    whole = sessions_between(first.date(), LAST_DAY.replace(day=1) - timedelta(days=1))
    return Days(shown, whole[np.append(whole.month[1:] != whole.month[:-1], True)])


def _random(stream: int) -> np.random.Generator:
    return np.random.default_rng([_SEED, stream])


def _names(names: list[str], positions: np.ndarray) -> pa.Array:
    """Strings picked from few distinct ones."""
    return pa.array(names).take(pa.array(positions.astype(np.int32)))


def _dates(values: pd.DatetimeIndex, positions: np.ndarray | None = None) -> pa.Array:
    column = pa.array(values.to_numpy().astype("datetime64[D]"))
    return column if positions is None else column.take(pa.array(positions.astype(np.int32)))


def stock_codes() -> list[str]:
    """A shares first, then the stocks listed abroad."""
    home = [f"{600000 + n}.SH" for n in range(2200)] + [f"{n + 1:06d}.SZ" for n in range(2000)]
    home += [f"{300000 + n}.SZ" for n in range(STOCKS - len(home))]
    return home + [f"{n + 1:05d}.HK" for n in range(ABROAD)]


def etf_codes() -> list[str]:
    return [f"{510000 + n}.SH" for n in range(ETFS // 2)] + [f"{159000 + n}.SZ" for n in range(ETFS - ETFS // 2)]


def index_codes() -> list[str]:
    return [*_STYLE_INDICES, *(f"{930000 + n}.CSI" for n in range(INDICES - len(_STYLE_INDICES)))]


@lru_cache(maxsize=1)
def _stock_values() -> tuple[np.ndarray, np.ndarray]:
    """Float market value (month end × stock, CNY), and the industry each stock starts in."""
    rng = _random(1)
    months, stocks = len(days().month_ends), STOCKS + ABROAD
    industry = rng.integers(0, len(CITIC), stocks)
    market = 0.05 * rng.standard_normal((months, 1))
    common = 0.05 * rng.standard_normal((months, len(CITIC)))[:, industry]
    growth = np.cumsum(market + common + 0.09 * rng.standard_normal((months, stocks)), axis=0)
    return rng.lognormal(np.log(6e9), 1.1, stocks) * np.exp(growth - 0.007 * np.arange(months)[:, None]), industry


@lru_cache(maxsize=1)
def _weight_sets() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Index, month, stock and weight of every row; constituents are reviewed every sixth month."""
    rng = _random(2)
    value, industry = _stock_values()
    parts = []
    for index in range(INDICES):
        size = _SIZES[index % len(_SIZES)]
        own = rng.integers(0, len(CITIC), 3)
        broad = size >= 100
        home = np.arange(STOCKS)
        pool = home if broad else home[np.isin(industry[:STOCKS], own)]
        taste = rng.standard_normal(len(pool))
        for review in range(0, len(value), 6):
            taste = 0.97 * taste + 0.24 * rng.standard_normal(len(pool))
            score = np.log(value[review, pool]) + 1.5 * taste
            members = pool[np.argsort(-score, kind="stable")[:size]]
            if index % 40 == 39:
                members = np.concatenate([members, STOCKS + np.arange(ABROAD)])
            months = np.arange(review, min(review + 6, len(value)))
            weight = value[np.ix_(months, members)] ** 0.7
            # rounded as vendors do
            weight = np.round(weight / weight.sum(axis=1, keepdims=True), 6)
            shape = weight.shape
            parts.append(
                (
                    np.full(weight.size, index, np.int32),
                    np.repeat(months, shape[1]),
                    np.tile(members, shape[0]),
                    weight.ravel(),
                )
            )
    rows = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return rows[0], rows[1], rows[2], rows[3]


@lru_cache(maxsize=1)
def _industry_returns() -> np.ndarray:
    """Daily returns (session × industry)."""
    rng = _random(3)
    shown = len(days().sessions)
    return 0.0002 + 0.009 * rng.standard_normal((shown, 1)) + 0.009 * rng.standard_normal((shown, len(CITIC)))


@lru_cache(maxsize=1)
def _index_levels() -> np.ndarray:
    """Closing levels (session × index) from the mean industry weights of each index."""
    rng = _random(4)
    index, _, stock, weight = _weight_sets()
    _, industry = _stock_values()
    exposure = np.bincount(index * len(CITIC) + industry[stock], weight, INDICES * len(CITIC)).reshape(INDICES, -1)
    exposure = exposure / exposure.sum(axis=1, keepdims=True)
    returns = _industry_returns() @ exposure.T + 0.002 * rng.standard_normal((len(days().sessions), INDICES))
    return np.round(1000 * np.cumprod(1 + returns, axis=0), 4)


@dataclass(frozen=True)
class Etfs:
    """State of the ETFs (session × ETF): shares in 份, NAV and close in CNY a share; `splits` holds
    (ETF, row of the ex-date, new shares per old)."""

    index: np.ndarray
    first: np.ndarray
    end: np.ndarray
    alive: np.ndarray
    shares: np.ndarray
    nav: np.ndarray
    close: np.ndarray
    splits: tuple[tuple[int, int, float], ...]


@lru_cache(maxsize=1)
def etfs() -> Etfs:
    rng = _random(5)
    shown = len(days().sessions)
    rows = np.arange(shown)[:, None]
    # every index has a tracker; the others crowd on the first indices
    index = np.concatenate([np.arange(INDICES), (INDICES * rng.random(ETFS - INDICES) ** 3).astype(int)])
    index = index[rng.permutation(ETFS)]
    # launches keep an even pace: heat needs new issues in every month
    place = rng.permutation(ETFS) / ETFS
    first = np.where(place < _AT_START, 0, (shown * (place - _AT_START) / (1 - _AT_START)).astype(int))
    end = np.full(ETFS, shown)
    closed = rng.choice(np.flatnonzero(first < shown - 800), 40, replace=False)
    end[closed] = first[closed] + rng.integers(400, 750, len(closed))
    alive = (rows >= first) & (rows < end)

    levels = _index_levels()
    returns = np.vstack([np.zeros((1, INDICES)), levels[1:] / levels[:-1] - 1])[:, index]
    growth = np.cumprod(1 + 0.97 * returns + 0.0001 * rng.standard_normal((shown, ETFS)), axis=0)
    nav = rng.uniform(0.8, 2.0, ETFS) * growth / growth[first, np.arange(ETFS)]
    size = np.cumsum(0.008 * rng.standard_normal((shown, ETFS)) - 0.1 * returns, axis=0)
    unit = rng.choice([300_000, 500_000, 1_000_000], ETFS)
    shares = np.round(rng.lognormal(np.log(4e8), 1.0, ETFS) * np.exp(np.clip(size, -1.5, 2.5)) / unit) * unit
    # shares and NAV take a split on the session before the traded price
    multiple = np.ones((shown + 1, ETFS))
    splits = []
    for etf in np.sort(rng.choice(np.flatnonzero(end - first > 300), 80, replace=False)):
        row, ratio = int(rng.integers(first[etf] + 20, end[etf] - 20)), float(rng.choice([0.5, 2.0, 3.0]))
        multiple[row:, etf] *= ratio
        splits.append((int(etf), row, ratio))
    premium = 0.0008 * rng.standard_normal((shown, ETFS))
    return Etfs(
        index=index,
        first=first,
        end=end,
        alive=alive,
        shares=np.round(shares * multiple[1:]),
        nav=np.round(nav / multiple[1:], 4),
        close=np.round(nav * (1 + premium) / multiple[:-1], 3),
        splits=tuple(splits),
    )


def _etf_rows(**values: np.ndarray) -> pa.Table:
    """One row per session and ETF alive."""
    row, column = np.nonzero(etfs().alive)
    keys = {"etf_code": _names(etf_codes(), column), "trade_date": _dates(days().sessions, row)}
    return pa.table({**keys, **{name: value[row, column] for name, value in values.items()}})


def _etf_bar() -> pa.Table:
    rng = _random(6)
    state = etfs()
    close = state.close
    before = np.vstack([close[:1], close[:-1]])
    opening = np.round(np.where(np.abs(np.log(close / before)) < 0.2, 0.5 * (close + before), close), 3)
    high = np.round(np.maximum(opening, close) * (1 + 0.003 * rng.random(close.shape)), 3)
    low = np.round(np.minimum(opening, close) * (1 - 0.003 * rng.random(close.shape)), 3)
    volume = np.round(state.shares * rng.lognormal(np.log(0.02), 0.5, close.shape) / 100) * 100
    amount = np.round(volume * 0.5 * (high + low))
    return _etf_rows(open=opening, high=high, low=low, close=close, volume=volume, amount=amount)


def _etf_info() -> pa.Table:
    rng = _random(7)
    state, number = etfs(), np.arange(ETFS)
    sessions = days().sessions
    stock = number % (ETFS // 100) < _STOCK_ETFS // 100
    enhanced = stock & (number % 20 == 7)
    ends = state.end + _SUSPENDED
    other = np.array(["crossBorderStockEtf", "bondEtf", "commodityEtf", "moneyEtf"])[number % 4]
    return pa.table(
        {
            "etf_code": etf_codes(),
            "name": [f"SYNTHETIC{'增强' if e else ''}ETF{n}" for n, e in enumerate(enhanced)],
            "index_code": [index_codes()[i] if s else None for i, s in zip(state.index, stock, strict=True)],
            "asset_scope": np.where(stock, "aShareStockEtf", other).tolist(),
            "management_fee": rng.choice([0.0015, 0.005], ETFS),
            "custody_fee": rng.choice([0.0005, 0.001], ETFS),
            "list_date": _dates(sessions, state.first),
            "delist_date": [sessions[e].date() if e < len(sessions) else None for e in ends],
            "is_t0": (~stock).tolist(),
        }
    )


def _etf_split() -> pa.Table:
    etf, row, ratio = (np.array(column) for column in zip(*etfs().splits, strict=True))
    return pa.table(
        {"etf_code": _names(etf_codes(), etf), "ex_date": _dates(days().sessions, row), "new_per_old": ratio}
    )


def _index_bar() -> pa.Table:
    levels = _index_levels()
    row, column = (grid.ravel() for grid in np.indices(levels.shape))
    keys = {"index_code": _names(index_codes(), column), "trade_date": _dates(days().sessions, row)}
    return pa.table({**keys, "close": levels.ravel()})


def _index_weight() -> pa.Table:
    index, month, stock, weight = _weight_sets()
    return pa.table(
        {
            "index_code": _names(index_codes(), index),
            "as_of_date": _dates(days().month_ends, month),
            "stock_code": _names(stock_codes(), stock),
            "weight": weight,
        }
    )


def _industry_info() -> pa.Table:
    return pa.table({"scheme": ["citic"] * len(CITIC), "industry_code": [*CITIC], "industry_name": [*CITIC.values()]})


def _industry_bar() -> pa.Table:
    levels = np.round(1000 * np.cumprod(1 + _industry_returns(), axis=0), 4)
    row, column = (grid.ravel() for grid in np.indices(levels.shape))
    keys = {"industry_code": _names([*CITIC], column), "trade_date": _dates(days().sessions, row)}
    return pa.table({"scheme": pa.array(["citic"] * levels.size), **keys, "close": levels.ravel()})


def _stock_industry() -> pa.Table:
    """Stays in an industry; a tenth of the stocks moved once in the years shown."""
    rng = _random(8)
    industry = _stock_values()[1][:STOCKS]
    movers = np.sort(rng.choice(STOCKS, STOCKS // 10, replace=False))
    moved = days().sessions[rng.integers(20, SESSIONS - 20, len(movers))]
    left = pd.Series(pd.NaT, range(STOCKS), dtype="datetime64[us]")
    left.iloc[movers] = moved
    stays = pd.DataFrame({"stock": range(STOCKS), "industry": industry, "in_date": date(1990, 1, 1), "out_date": left})
    later = pd.DataFrame({"stock": movers, "industry": (industry[movers] + 7) % len(CITIC), "in_date": moved})
    both = pd.concat([stays.astype({"in_date": "datetime64[us]"}), later])
    return pa.table(
        {
            "scheme": ["citic"] * len(both),
            "stock_code": _names(stock_codes(), both["stock"].to_numpy()),
            "industry_code": _names([*CITIC], both["industry"].to_numpy()),
            "in_date": pa.array(both["in_date"]).cast(pa.date32()),
            "out_date": pa.array(both["out_date"]).cast(pa.date32()),
        }
    )


def _stock_value() -> pa.Table:
    value = np.round(_stock_values()[0][:, :STOCKS])
    row, column = (grid.ravel() for grid in np.indices(value.shape))
    keys = {"stock_code": _names(stock_codes(), column), "trade_date": _dates(days().month_ends, row)}
    return pa.table({**keys, "total_market_value": 1.3 * value.ravel(), "float_market_value": value.ravel()})


def _founded() -> np.ndarray:
    """Days from the first session to the foundation of each active fund; a third is older."""
    span = (days().sessions[-1] - days().sessions[0]).days
    return np.random.default_rng([_SEED, 9]).integers(-span // 2, span - 30, FUNDS)


def _fund_codes() -> list[str]:
    return [f"{n + 1:06d}.OF" for n in range(FUNDS)]


def _fund_info() -> pa.Table:
    rng = _random(10)
    sessions = days().sessions
    launched = sessions[etfs().first]
    founded = sessions[0] + pd.to_timedelta(_founded(), unit="D")
    return pa.table(
        {
            "fund_code": [*etf_codes(), *_fund_codes()],
            "name": [f"SYNTHETIC fund {n}" for n in range(ETFS + FUNDS)],
            "is_active_equity": [False] * ETFS + [True] * FUNDS,
            "found_date": pa.concat_arrays([_dates(launched), _dates(founded)]),
            "issue_shares": np.round(rng.lognormal(np.log(5e8), 0.8, ETFS + FUNDS)),
        }
    )


def _fund_holding() -> pa.Table:
    """Ten largest holdings of every active fund in every quarterly report."""
    rng = _random(11)
    sessions = days().sessions
    quarters = pd.date_range(sessions[0] - pd.DateOffset(months=6), sessions[-1], freq="QE")
    announced = sessions_after(quarters, 14)
    quarters = quarters[announced < sessions[-1]]
    announced = announced[: len(quarters)]
    founded = sessions[0] + pd.to_timedelta(_founded(), unit="D")
    value, _ = _stock_values()
    chance = value[:, :STOCKS].mean(axis=0) ** 0.6
    draw = rng.choice(STOCKS, 4 * FUNDS * 10, p=chance / chance.sum()).reshape(FUNDS, -1)
    favourites = np.stack([pd.unique(own)[:12] for own in draw])
    parts = []
    for quarter, day in enumerate(quarters):
        funds = np.flatnonzero(founded < day - pd.Timedelta(days=60))
        held = np.take_along_axis(favourites[funds], (np.arange(10) + quarter) % 12 + 0 * funds[:, None], axis=1)
        parts.append((np.repeat(funds, 10), np.full(held.size, quarter), held.ravel()))
    fund, report, stock = (np.concatenate(column) for column in zip(*parts, strict=True))
    return pa.table(
        {
            "fund_code": _names(_fund_codes(), fund),
            "report_date": _dates(quarters, report),
            "announced_date": _dates(announced, report),
            "stock_code": _names(stock_codes(), stock),
            "market_value": np.round(rng.lognormal(np.log(3e7), 0.8, len(fund))),
            "scope": pa.array(["top10"]).take(pa.array(np.zeros(len(fund), np.int32))),
        }
    )


def _fund_return() -> pa.Table:
    rng = _random(12)
    weight = rng.dirichlet(np.ones(len(CITIC)))
    returns = 0.9 * _industry_returns() @ weight + 0.001 * rng.standard_normal(len(days().sessions))
    return pa.table(
        {
            "series_code": ["active equity"] * len(returns),
            "trade_date": _dates(days().sessions),
            "daily_return": np.round(returns, 6),
        }
    )


_DAILY = {
    "etf_share": lambda: _etf_rows(shares=etfs().shares),
    "etf_nav": lambda: _etf_rows(unit_nav=etfs().nav, accumulated_nav=etfs().nav),
    "etf_bar": _etf_bar,
    "index_bar": _index_bar,
    "industry_bar": _industry_bar,
    "fund_return": _fund_return,
}
_OTHERS = {
    "etf_info": _etf_info,
    "etf_split": _etf_split,
    "index_weight": _index_weight,
    "industry_info": _industry_info,
    "stock_industry": _stock_industry,
    "stock_value": _stock_value,
    "fund_info": _fund_info,
    "fund_holding": _fund_holding,
}
KEPT_BACK = "last session"
"""Subfolder with the session that `add_last_session` brings; the source does not look there."""


def write_market(folder: Path) -> dict[str, int]:
    """Write the market without its last session into the new `folder`; returns rows by dataset.

    Daily datasets are folders of a file a year, as they would grow in use.
    """
    folder.mkdir(parents=True)
    rows = {}
    last = pa.scalar(LAST_DAY)
    for name, build in _DAILY.items():
        table = build()
        day = table["trade_date"]
        year = pc.year(day)
        (folder / name).mkdir()
        shown = table.filter(pc.less(day, last))
        rows[name] = shown.num_rows
        for number in pc.unique(year).to_pylist():
            part = table.filter(pc.and_(pc.equal(year, number), pc.less(day, last)))
            pq.write_table(part, folder / name / f"{number}.parquet")
        kept = folder / KEPT_BACK / f"{name}.parquet"
        kept.parent.mkdir(exist_ok=True)
        pq.write_table(table.filter(pc.equal(day, last)), kept)
    for name, build in _OTHERS.items():
        table = build()
        rows[name] = table.num_rows
        pq.write_table(table, folder / f"{name}.parquet")
    return rows


def add_last_session(folder: Path) -> None:
    """Let the session kept back appear in the source: one more file in each daily dataset."""
    for file in (folder / KEPT_BACK).glob("*.parquet"):
        file.rename(folder / file.stem / f"{LAST_DAY}.parquet")


if __name__ == "__main__":
    for dataset, count in write_market(Path(sys.argv[1])).items():
        print(f"{dataset:<16}{count:>12,}")
