"""The simulated mutual funds: who they are, what active equity funds hold and report, what they return."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from etf_pipeline.core.calendar import sessions_after
from etf_pipeline.sources.sample.catalog import CITIC
from etf_pipeline.sources.sample.etfs import etf_market
from etf_pipeline.sources.sample.market import FIRST_SERIES_DAY, LAST_DAY, ar1, industry_levels, market, random

_HOLDERS = 84
_LATE_SHARE = 0.02
# mean number of active equity funds issued in a month, at least one; two booms, as in the real market
_ISSUES = {2015: 3.0, 2016: 1.2, 2017: 1.6, 2018: 1.2, 2019: 1.8, 2020: 4.0, 2021: 4.5, 2022: 1.6, 2023: 1.2}
_ISSUES_OTHERWISE = 1.2


@dataclass(frozen=True)
class Portfolios:
    """Portfolios of the reporting funds.

    `weights` is fund × quarter × stock (fractions of net assets, 0 before foundation), `rows` the session of each
    quarter end in `Market.sessions`, `assets` fund × quarter net assets in CNY.
    """

    codes: tuple[str, ...]
    quarters: pd.DatetimeIndex
    rows: np.ndarray
    weights: np.ndarray
    assets: np.ndarray
    found: pd.DatetimeIndex


@lru_cache(maxsize=1)
def _off_exchange() -> pd.DataFrame:
    """Funds that are not ETFs; the first `_HOLDERS` rows report holdings."""
    rng = random(8)
    old = pd.Timestamp("2010-03-01") + pd.to_timedelta(np.sort(rng.integers(0, 1700, 48)), unit="D")
    young = pd.Timestamp("2015-01-15") + pd.to_timedelta(np.sort(rng.integers(0, 3900, _HOLDERS - 48)), unit="D")
    months = pd.period_range("2014-12", "2026-10", freq="M")
    new = [
        month.start_time + pd.Timedelta(days=int(day))
        for month in months
        for day in rng.integers(0, 28, 1 + rng.poisson(_ISSUES.get(month.year, _ISSUES_OTHERWISE) - 1))
    ]
    bonds = pd.Timestamp("2012-01-10") + pd.to_timedelta(rng.integers(0, 5300, 60), unit="D")
    feeders = pd.Timestamp("2013-01-10") + pd.to_timedelta(rng.integers(0, 4900, 20), unit="D")
    kinds = [
        ("股票型", "普通股票型", "样本优选股票", True, [*old[::3], *young[::3]]),
        ("混合型", "偏股混合型", "样本成长混合", True, [*old[1::3], *old[2::3], *young[1::3], *young[2::3]]),
        ("混合型", "偏股混合型", "样本新锐混合", True, new),
        ("债券型", "混合债券型", "样本增利债券", False, list(bonds)),
        ("股票型", "被动指数型", "样本ETF联接", False, list(feeders)),
    ]
    rows = [
        (fund_type, invest_type, f"{name}{number:03d}", active, day)
        for fund_type, invest_type, name, active, days in kinds
        for number, day in enumerate(days, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["fund_type", "invest_type", "name", "is_active_equity", "found_date"])
    numbers = rng.choice(np.arange(1, 23000), len(frame), replace=False)
    frame["fund_code"] = [f"{n:06d}.OF" for n in numbers]
    frame["issue_shares"] = np.round(rng.lognormal(np.log(6e8), 0.9, len(frame)).clip(2e8, 1.5e10), 2)
    closed = rng.choice(np.arange(_HOLDERS, len(frame)), 12, replace=False)
    delisted = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us]")
    ends = frame["found_date"].iloc[closed] + pd.to_timedelta(rng.integers(700, 2500, len(closed)), unit="D")
    delisted.iloc[closed] = ends.where(ends <= pd.Timestamp(LAST_DAY))
    frame["delist_date"] = delisted
    return frame


def fund_info() -> pd.DataFrame:
    """Rows of fund_info: the ETFs and all other funds, unsorted."""
    state = etf_market()
    types = {"bondEtf": "债券型", "commodityEtf": "商品型", "moneyEtf": "货币市场型"}
    listed = pd.DataFrame(
        {
            "fund_code": [e.code for e in state.etfs],
            "name": [e.name for e in state.etfs],
            "fund_type": [types.get(e.scope, "股票型") for e in state.etfs],
            "invest_type": ["增强指数型" if e.enhanced else "被动指数型" for e in state.etfs],
            "is_active_equity": False,
            "found_date": pd.DatetimeIndex([e.found for e in state.etfs]),
            "delist_date": pd.DatetimeIndex([e.closed for e in state.etfs]),
            "issue_shares": [state.shares[e.first_row, n] for n, e in enumerate(state.etfs)],
        }
    )
    return pd.concat([listed, _off_exchange()[listed.columns]], ignore_index=True)


@lru_cache(maxsize=1)
def portfolios() -> Portfolios:
    """Full portfolios of the reporting funds at every quarter end from 2014-12-31 on."""
    m = market()
    rng = random(9)
    funds = _off_exchange().head(_HOLDERS)
    quarters = pd.date_range("2014-12-31", LAST_DAY, freq="QE").as_unit("us")
    rows = m.sessions.searchsorted(quarters, side="right") - 1
    stocks, industries = len(m.codes), len(CITIC)

    taste = rng.normal(0, 0.9, (_HOLDERS, stocks))
    lean = rng.normal(0, 0.35, _HOLDERS) + 0.25
    tilt = 0.9 * ar1(rng.standard_normal((len(quarters), _HOLDERS, industries)), 0.88)
    herd = 0.7 * ar1(rng.standard_normal((len(quarters), 1, industries)), 0.85)
    levels = industry_levels("citic")
    past = levels[rows] / levels[np.maximum(rows - 120, 0)] - 1
    past = (past - past.mean(axis=1, keepdims=True)) / past.std(axis=1, keepdims=True)
    chase = rng.uniform(0.1, 0.7, _HOLDERS)

    weights = np.zeros((_HOLDERS, len(quarters), stocks))
    everyone = np.arange(_HOLDERS)[:, None]
    for quarter, row in enumerate(rows.tolist()):
        value = m.total_value[row]
        investable = (value > 0) & ((np.arange(stocks) < m.a_shares) | (quarters[quarter].year >= 2017))
        view = tilt[quarter] + herd[quarter] + np.outer(chase, past[quarter])
        score = 0.6 * np.log(np.maximum(value, 1.0)) + taste + np.outer(lean, m.growth)
        score += view[:, m.labels["citic"][row]]
        score[:, m.a_shares :] -= 1.5
        score[:, ~investable] = -np.inf
        held = np.argpartition(-score, 50, axis=1)[:, :50]
        best = score[everyone, held]
        share = np.exp(0.8 * (best - best.max(axis=1, keepdims=True)))
        share = np.minimum(share / share.sum(axis=1, keepdims=True), 0.098)
        share *= 0.88 / share.sum(axis=1, keepdims=True)
        weights[everyone, quarter, held] = np.minimum(share, 0.0999)
    found = pd.DatetimeIndex(funds["found_date"])
    weights[np.asarray(quarters)[None, :] < np.asarray(found + pd.Timedelta(days=90))[:, None]] = 0.0
    growth = ar1(rng.standard_normal((len(quarters), _HOLDERS)), 0.9).T
    assets = rng.lognormal(np.log(2.5e9), 0.8, (_HOLDERS, 1)) * np.exp(0.4 * growth)
    return Portfolios(tuple(funds["fund_code"]), quarters, rows, weights, assets, found)


def fund_holding() -> pd.DataFrame:
    """Rows of fund_holding that were public by the last day, unsorted: the ten largest positions of each fund."""
    p, codes = portfolios(), market().codes
    rng = random(10)
    shift = rng.integers(-2, 3, (_HOLDERS, len(p.quarters)))
    late = rng.random(shift.shape) < _LATE_SHARE
    announced = np.column_stack(
        [_announced(quarter, shift[:, n], late[:, n]) for n, quarter in enumerate(p.quarters)],
    )
    top = np.argpartition(-p.weights, 10, axis=2)[:, :, :10]
    weight = np.take_along_axis(p.weights, top, axis=2)
    fund, quarter, place = np.nonzero((weight > 0) & (announced <= np.datetime64(LAST_DAY))[:, :, None])
    held = weight[fund, quarter, place]
    return pd.DataFrame(
        {
            "fund_code": np.array(p.codes, dtype=object)[fund],
            "report_date": p.quarters[quarter],
            "announced_date": announced[fund, quarter],
            "stock_code": codes[top[fund, quarter, place]],
            "market_value": np.round(held * p.assets[fund, quarter], 2),
            "nav_weight": np.round(held, 4),
            "scope": "top10",
        }
    )


def _announced(quarter: pd.Timestamp, shifts: Sequence[int] | np.ndarray, late: np.ndarray) -> np.ndarray:
    """Publication days: the 15th session after the quarter end, some days around it; late filers 20 days more."""
    days = {int(s): sessions_after(pd.DatetimeIndex([quarter]), 15 + int(s))[0] for s in np.unique(shifts)}
    regular = pd.DatetimeIndex([days[int(s)] for s in shifts])
    return (regular + pd.to_timedelta(np.where(late, 20, 0), unit="D")).to_numpy().astype("datetime64[us]")


def fund_return() -> pd.DataFrame:
    """Rows of fund_return: the equally weighted return of the reporting funds' full portfolios after fees."""
    m, p = market(), portfolios()
    rng = random(11)
    live = (p.weights.sum(axis=2) > 0).sum(axis=0)
    mean = p.weights.sum(axis=0) / live[:, None]
    returns = m.returns
    daily = np.zeros(len(m.sessions))
    for quarter, row in enumerate(p.rows):
        end = p.rows[quarter + 1] if quarter + 1 < len(p.rows) else len(m.sessions) - 1
        # between two reports a fund is on its way from one portfolio to the next
        held = (mean[quarter] + mean[min(quarter + 1, len(p.rows) - 1)]) / 2
        daily[row + 1 : end + 1] = returns[row + 1 : end + 1] @ held
    daily += -0.015 / 252 + 0.0003 * rng.standard_normal(len(daily))
    shown = m.sessions >= FIRST_SERIES_DAY
    return pd.DataFrame(
        {
            "series_code": "active_equity",
            "trade_date": m.sessions[shown],
            "daily_return": np.round(daily[shown], 8),
        }
    )
