"""The simulated stock market: industries, stocks, their returns and market values, and the indices on them.

All arrays run over `Market.sessions` (rows, from 2014-10) and stocks (columns, A shares first, then Hong Kong).
Everything is drawn from fixed seeds for the whole history at once, so no value depends on the days asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import pandas as pd

from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.sources.sample.catalog import CITIC, HONG_KONG, INDICES, INDUSTRIES, SW, IndexSpec

FIRST_DAY, LAST_DAY = date(2014, 12, 1), date(2026, 10, 30)
FIRST_SERIES_DAY = pd.Timestamp("2015-01-05")
"""First day of the daily series; before it there are only month-end sets and the quarter end they start from."""

_WARM_UP_DAY = date(2014, 10, 8)
_SHARE_LISTED_AT_START = 0.72
_LIMIT_CHANGE = pd.Timestamp("2020-08-24")


def random(stream: int) -> np.random.Generator:
    """Generator of one named stream; streams are independent, so adding draws to one leaves the others alone."""
    return np.random.default_rng([20260130, stream])


def ar1(noise: np.ndarray, persistence: float) -> np.ndarray:
    """AR(1) paths down the rows of unit-variance `noise`, with unit stationary variance."""
    scaled = noise * np.sqrt(1 - persistence**2)
    scaled[0] = noise[0]
    return decayed_sum(scaled, persistence)


def decayed_sum(steps: np.ndarray, persistence: float) -> np.ndarray:
    """Running sums down the rows of `steps`, of which each row keeps the fraction `persistence`."""
    path = steps.copy()
    for row in range(1, len(path)):
        path[row] += persistence * path[row - 1]
    return path


def pulled(noise: np.ndarray) -> np.ndarray:
    """Returns whose sum down the rows is slowly pulled back to 0 (half-life 3.4 years).

    Without it a dozen years of independent returns leave a few giants that are half of their industry.
    """
    return np.diff(decayed_sum(noise, 0.9992), axis=0, prepend=0.0)


@dataclass(frozen=True)
class Change:
    """One stock moves to another industry on `day` (both schemes may record it)."""

    stock: int
    day: pd.Timestamp
    industry: str


@dataclass(frozen=True)
class Market:
    """State of the simulated market; see the module docstring for shapes.

    `wealth` is the cumulated return (1 before listing), `listed` the position of the first session in `sessions`
    (0 for stocks that were there before), money in CNY, fractions of shares per session in `float_fraction`.
    `conviction` is the latent industry signal (session × 30) behind flows and, weakly, later returns.
    """

    sessions: pd.DatetimeIndex
    codes: np.ndarray
    a_shares: int
    listed: np.ndarray
    listing_dates: pd.DatetimeIndex
    growth: np.ndarray
    idio: np.ndarray
    wealth: np.ndarray
    total_value: np.ndarray
    float_fraction: np.ndarray
    free_fraction: np.ndarray
    labels: dict[str, np.ndarray]
    changes: dict[str, tuple[Change, ...]]
    conviction: np.ndarray
    market_return: np.ndarray

    @property
    def returns(self) -> np.ndarray:
        """Daily returns (session × stock), 0 before and on the listing day and in the first row."""
        previous = np.vstack([self.wealth[:1], self.wealth[:-1]])
        return self.wealth / previous - 1

    @property
    def float_value(self) -> np.ndarray:
        """Float market value in CNY (session × stock), 0 before listing."""
        return self.total_value * self.float_fraction

    def position(self, day: str | pd.Timestamp) -> int:
        """Row of the first session on or after `day`."""
        return int(self.sessions.searchsorted(pd.Timestamp(day)))

    def month_ends(self) -> np.ndarray:
        """Rows of the last session of every complete month from 2014-12 on."""
        month = self.sessions.to_period("M")
        last = np.append(month[1:] != month[:-1], True)
        return np.flatnonzero(last & (self.sessions >= pd.Timestamp(FIRST_DAY)))


@lru_cache(maxsize=1)
def market() -> Market:
    """The market, simulated once per process."""
    sessions = sessions_between(_WARM_UP_DAY, LAST_DAY)
    rng = random(1)
    names = list(INDUSTRIES)
    home = np.repeat(np.arange(len(names)), [INDUSTRIES[n][0] for n in names])
    a_shares = len(home)
    abroad = np.array([names.index(n) for n in HONG_KONG.values()])
    industry = np.concatenate([home, abroad])

    listing_dates = _listing_dates(rng, a_shares, sessions, len(abroad))
    listed = np.minimum(sessions.searchsorted(listing_dates), len(sessions) - 1)
    codes = _codes(rng, listing_dates[:a_shares], listed[:a_shares])
    size = np.array([INDUSTRIES[names[k]][1] for k in industry])
    start_value = np.exp(rng.normal(np.log(9e9 * size), 0.95))
    start_value[a_shares:] *= 4  # only large Hong Kong companies are in cross-listed indices
    growth = np.array([INDUSTRIES[names[k]][2] for k in industry]) + rng.normal(0, 0.5, len(industry))

    labels, changes = _memberships(rng, sessions, industry, np.flatnonzero(listed[:a_shares] == 0), names)
    returns, conviction, market_return, idio = _returns(sessions, labels["citic"], start_value, growth, codes)
    rows = np.arange(len(sessions))[:, None]
    returns[rows <= listed] = 0.0
    wealth = np.cumprod(1 + returns, axis=0)

    age = rows - np.where(listed == 0, -10_000, listed)
    mature = rng.uniform(0.55, 1.0, len(industry))
    float_fraction = np.where(age < 0, 0.0, np.where(age < 243, 0.25, np.where(age < 729, 0.55, 1.0)) * mature)
    return Market(
        sessions=sessions,
        codes=np.concatenate([codes, np.array(list(HONG_KONG), dtype=object)]),
        a_shares=a_shares,
        listed=listed,
        listing_dates=listing_dates,
        growth=growth,
        idio=idio,
        wealth=wealth,
        total_value=np.where(age < 0, 0.0, start_value * wealth),
        float_fraction=float_fraction,
        free_fraction=rng.uniform(0.35, 0.95, len(industry)),
        labels=labels,
        changes=changes,
        conviction=conviction,
        market_return=market_return,
    )


def _listing_dates(
    rng: np.random.Generator, a_shares: int, sessions: pd.DatetimeIndex, abroad: int
) -> pd.DatetimeIndex:
    old = rng.random(a_shares) < _SHARE_LISTED_AT_START
    position = np.where(old, 0, rng.integers(60, len(sessions) - 40, a_shares))
    # the STAR board opens with a wave of listings, as its index needs constituents five months later
    wave = sessions.searchsorted(pd.Timestamp("2019-07-22"))
    young = np.flatnonzero(~old)
    position[young[:40]] = wave + rng.integers(0, 35, 40)
    dates = sessions[position].to_numpy().copy()
    dates[old] = (pd.Timestamp("1996-01-02") + pd.to_timedelta(rng.integers(0, 6500, old.sum()), unit="D")).to_numpy()
    return pd.DatetimeIndex(np.concatenate([dates, np.full(abroad, np.datetime64("2007-06-20"))])).as_unit("us")


def _codes(rng: np.random.Generator, dates: pd.DatetimeIndex, listed: np.ndarray) -> np.ndarray:
    star, beijing = pd.Timestamp("2019-07-22"), pd.Timestamp("2021-11-15")
    draw = rng.random(len(dates))
    boards = np.select(
        [
            (dates >= beijing) & (draw < 0.12),
            (dates >= star) & (draw < 0.75),
            (listed > 0) & (draw < 0.80),
            draw < 0.30,
            draw < 0.52,
            draw < 0.70,
        ],
        ["83", "688", "300", "600", "002", "300"],
        default=np.where(draw < 0.85, "000", "601"),
    )
    prefixes = {"83": 4, "688": 3, "300": 3, "600": 3, "002": 3, "000": 3, "601": 3}
    suffix = {"83": "BJ", "688": "SH", "600": "SH", "601": "SH"}
    codes = np.empty(len(dates), dtype=object)
    for board, digits in prefixes.items():
        where = np.flatnonzero(boards == board)
        numbers = np.sort(rng.choice(np.arange(1, 1000), len(where), replace=False))
        codes[where] = [f"{board}{n:0{digits}d}.{suffix.get(board, 'SZ')}" for n in numbers]
    return codes


def _memberships(
    rng: np.random.Generator, sessions: pd.DatetimeIndex, industry: np.ndarray, candidates: np.ndarray, names: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, tuple[Change, ...]]]:
    """Industry of every stock and session by scheme (positions in CITIC / SW), and the changes behind it."""
    sw_names = list(SW.values())
    sw_of = [
        [sw_names.index(n) for n in INDUSTRIES[name][3]]  # a second name is taken by every third stock
        for name in names
    ]
    sw_start = np.array([sw_of[k][-1] if i % 3 == 2 else sw_of[k][0] for i, k in enumerate(industry)])
    start = {"citic": industry, "sw": sw_start}
    listed_names = {"citic": list(CITIC.values()), "sw": sw_names}

    movers = rng.choice(candidates, 20, replace=False)
    days = sessions[np.sort(rng.integers(120, len(sessions) - 60, len(movers)))]
    targets = rng.integers(1, len(names) - 2, len(movers))
    found: dict[str, list[Change]] = {"citic": [], "sw": []}
    for n, (stock, day, step) in enumerate(zip(movers, days, targets, strict=True)):
        target = names[(industry[stock] + step) % len(names)]
        if n % 3 != 2:
            found["citic"].append(Change(int(stock), day, target))
        if n % 3 != 1 and sw_names[sw_start[stock]] != INDUSTRIES[target][3][0]:
            found["sw"].append(Change(int(stock), day, INDUSTRIES[target][3][0]))
    back = found["citic"][0]  # one stock returns to where it came from
    found["citic"].append(Change(back.stock, sessions[-400], names[industry[back.stock]]))

    labels = {}
    for scheme, first in start.items():
        table = np.repeat(first[None, :].astype(np.int8), len(sessions), axis=0)
        for change in found[scheme]:
            table[sessions >= change.day, change.stock] = listed_names[scheme].index(change.industry)
        labels[scheme] = table
    return labels, {scheme: tuple(moves) for scheme, moves in found.items()}


def _regimes(rng: np.random.Generator, count: int, mean_length: float) -> np.ndarray:
    """Path of ±1 that keeps its sign for geometrically distributed spells."""
    flips = rng.random(count) < 1 / mean_length
    return np.where(np.cumsum(flips) % 2 == 0, 1.0, -1.0)


def _returns(
    sessions: pd.DatetimeIndex, labels: np.ndarray, start_value: np.ndarray, growth: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Daily returns, conviction, market factor and idiosyncratic volatility."""
    rng = random(2)
    days, stocks = len(sessions), len(start_value)
    turbulence = np.exp(0.45 * ar1(rng.standard_normal(days), 0.985))
    market_return = 0.00040 + 0.0095 * turbulence * rng.standard_normal(days)
    size_factor = 0.0007 * _regimes(rng, days, 110) + 0.0035 * rng.standard_normal(days)
    growth_factor = 0.0007 * _regimes(rng, days, 130) + 0.0040 * rng.standard_normal(days)

    # conviction lives for about three weeks; what of it is in returns comes one session after it is in flows
    conviction = ar1(rng.standard_normal((days, len(CITIC))), 0.94)
    conviction -= conviction.mean(axis=1, keepdims=True)
    known = np.vstack([np.zeros((1, len(CITIC))), conviction[:-1]])
    momentum = ar1(rng.standard_normal((days, len(CITIC))), 0.992)
    own = pulled(rng.standard_normal((days, len(CITIC))))
    industry_return = 0.00080 * known + 0.00030 * momentum + 0.0085 * own

    size = np.log(start_value)
    size = (size - size.mean()) / size.std()
    beta = rng.normal(1.0, 0.15, stocks)
    idio = rng.uniform(0.010, 0.018, stocks)
    returns = pulled(rng.standard_t(5, (days, stocks)))
    returns *= idio * np.sqrt(3 / 5)
    returns += np.take_along_axis(industry_return, labels.astype(np.int64), axis=1)
    returns += np.outer(market_return, beta)
    returns -= np.outer(size_factor, size)
    returns += np.outer(growth_factor, growth)
    return _within_limits(returns, sessions, codes), conviction, market_return, idio


def _within_limits(returns: np.ndarray, sessions: pd.DatetimeIndex, codes: np.ndarray) -> np.ndarray:
    """Returns cut at the boards' daily limits: 10 %, 20 % for STAR and (since 2020-08-24) GEM, 30 % for Beijing."""
    boards = np.array([str(c)[:3] for c in codes])
    limit = np.full(returns.shape[1], 0.10)
    limit[: len(codes)][boards == "688"] = 0.20
    limit[: len(codes)][[str(c).endswith("BJ") for c in codes]] = 0.30
    limit[len(codes) :] = 0.40
    np.clip(returns, -limit, limit, out=returns)
    before = sessions < _LIMIT_CHANGE
    growth_board = np.flatnonzero(boards == "300")
    returns[np.ix_(before, growth_board)] = np.clip(returns[np.ix_(before, growth_board)], -0.10, 0.10)
    limit[growth_board] = 0.20
    return returns


@dataclass(frozen=True)
class Index:
    """One simulated index: `level` per session (NaN before its first day) and its month-end weight sets.

    `sets` holds (row, stock positions, weights). `exposure` is the mean share of each CITIC industry, Hong Kong
    stocks left out.
    """

    spec: IndexSpec
    level: np.ndarray
    amount: np.ndarray
    sets: tuple[tuple[int, np.ndarray, np.ndarray], ...]
    exposure: np.ndarray


def _picked(m: Market, spec: IndexSpec, row: int, value: np.ndarray) -> np.ndarray:
    """Stock positions an index takes at a review, from free-float values of that day."""
    home = np.arange(m.a_shares)
    eligible = home[(m.listed[: m.a_shares] + 60 <= row) | (m.listed[: m.a_shares] == 0)]
    eligible = eligible[np.argsort(-value[eligible], kind="stable")]
    rule, *rest = spec.picks.split()
    if ":" in rule:
        chosen: list[int] = []
        for part in spec.picks.split():
            name, count = part.split(":")
            members = eligible[m.labels["citic"][row, eligible] == list(CITIC.values()).index(name)]
            chosen.extend(members[: int(count)])
        picked = np.array(chosen)
    elif rule in ("dividend", "lowvol", "growth", "value"):
        pool = eligible[: 4 * int(rest[0])]
        if rest[1] == "SH":
            pool = _on_board(m, pool, "SH")
        score = {
            "dividend": m.growth[pool] + 20 * m.idio[pool],
            "lowvol": m.idio[pool] + 0.002 * m.growth[pool],
            "growth": -m.growth[pool],
            "value": m.growth[pool],
        }[rule]
        picked = pool[np.argsort(score, kind="stable")][: int(rest[0])]
    else:
        picked = _on_board(m, eligible, rule)[int(rest[0]) : int(rest[1])]
    if spec.hong_kong:
        picked = np.append(picked, np.arange(m.a_shares, len(m.codes)))
    return np.sort(picked)


def _on_board(m: Market, stocks: np.ndarray, board: str) -> np.ndarray:
    if board == "all":
        return stocks
    codes = m.codes[stocks]
    if board in ("SH", "SZ"):
        return stocks[[c.endswith(board) and not c.startswith("688") for c in codes]]
    prefix = {"STAR": "688", "GEM": "300"}[board]
    return stocks[[c.startswith(prefix) for c in codes]]


def _capped(value: np.ndarray, cap: float) -> np.ndarray:
    """Weights proportional to `value`, none above `cap` (or above 1.5 / n where `cap` cannot be kept)."""
    cap = max(cap, 1.5 / len(value))
    weights = value / value.sum()
    for _ in range(50):
        over = weights > cap + 1e-12
        if not over.any():
            break
        weights[over] = cap
        fixed = weights >= cap - 1e-12
        weights[~fixed] *= (1 - cap * fixed.sum()) / weights[~fixed].sum()
    return weights


def _review_rows(sessions: pd.DatetimeIndex) -> list[int]:
    """Rows from which half-yearly reviews hold: the session after the second Friday of June and December."""
    rows = [0]
    for year in range(sessions[0].year, sessions[-1].year + 1):
        for month in (6, 12):
            first = pd.Timestamp(year, month, 1)
            friday = first + pd.Timedelta(days=(4 - first.weekday()) % 7 + 7)
            row = int(sessions.searchsorted(friday, side="right"))
            if 0 < row < len(sessions):
                rows.append(row)
    return rows


@lru_cache(maxsize=1)
def indices() -> tuple[Index, ...]:
    """All indices of the catalog with levels and weights, simulated once per process."""
    m = market()
    reviews = _review_rows(m.sessions)
    month_rows = m.month_ends()
    rng = random(3)
    turnover = 0.011 * np.exp(0.35 * ar1(rng.standard_normal((len(m.sessions), len(INDICES))), 0.97))
    free_value = {row: m.float_value[max(row - 1, 0)] * m.free_fraction for row in reviews}
    return tuple(_index(m, s, reviews, month_rows, turnover[:, i], free_value) for i, s in enumerate(INDICES))


def _index(
    m: Market,
    spec: IndexSpec,
    reviews: Sequence[int],
    month_rows: np.ndarray,
    turnover: np.ndarray,
    free_value: dict[int, np.ndarray],
) -> Index:
    days = len(m.sessions)
    first = m.position(spec.first) if spec.first > "2015" else 0
    level, amount = np.full(days, np.nan), np.full(days, np.nan)
    starts = [row for row in reviews if row > first]
    # an index that starts between reviews takes its first constituents from the review before its start
    bounds = list(zip([first, *starts], [*starts, days], [max(r for r in reviews if r <= first), *starts], strict=True))
    current = spec.base
    sets = []
    exposure = np.zeros(len(CITIC))
    cap = 0.10 if spec.kind in ("broad", "style") else 0.15
    for begin, end, review in bounds:
        value = free_value[review]
        stocks = _picked(m, spec, review, value)
        weights = _capped(value[stocks], cap)
        base = max(begin - 1, 0)
        path = (m.wealth[base:end, stocks] / m.wealth[base, stocks]) * weights
        total = path.sum(axis=1)
        offset = begin - base
        level[begin:end] = current * total[offset:] / (total[0] if begin > first else total[offset])
        amount[begin:end] = value[stocks].sum() * total[offset:] * turnover[begin:end]
        current = level[end - 1]
        for row in month_rows[(month_rows >= begin) & (month_rows < end)]:
            sets.append((int(row), stocks, path[row - base] / total[row - base]))
        home = stocks < m.a_shares
        exposure += np.bincount(m.labels["citic"][review, stocks[home]], weights[home], len(CITIC)) * (end - begin)
    return Index(spec, level, amount, tuple(sets), exposure / (days - first))


@lru_cache(maxsize=2)
def industry_levels(scheme: str) -> np.ndarray:
    """Closing levels of the industry indices (session × industry): float-value weighted, 1000 in the first row."""
    m = market()
    count = len(CITIC if scheme == "citic" else SW)
    home = slice(0, m.a_shares)
    weight = np.vstack([m.float_value[:1, home], m.float_value[:-1, home]])
    # value of yesterday counts with the industry of today: that is whose return a day is
    cell = m.labels[scheme][:, home] + count * np.arange(len(m.sessions))[:, None]
    size = count * len(m.sessions)
    numerator = np.bincount(cell.ravel(), (weight * m.returns[:, home]).ravel(), size)
    denominator = np.bincount(cell.ravel(), weight.ravel(), size)
    return 1000 * np.cumprod(1 + (numerator / denominator).reshape(-1, count), axis=0)
