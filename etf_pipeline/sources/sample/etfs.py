"""The simulated ETFs on the simulated indices: launches, creations and redemptions, NAV, prices, splits, dividends.

Arrays run over `Market.sessions` (rows) and ETFs in code order (columns); NaN outside an ETF's life.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from etf_pipeline.sources.sample.catalog import (
    BURST_INDICES,
    BURSTS,
    CLOSURES,
    DIVIDENDS,
    FIXED_CODES,
    OTHER_ETFS,
    SPLITS,
)
from etf_pipeline.sources.sample.market import (
    FIRST_SERIES_DAY,
    Index,
    Market,
    ar1,
    decayed_sum,
    indices,
    market,
    random,
)

_FIXED_LISTINGS = {"000688.SH": "2020-11-16", "000852.SH": "2014-10-29", "000510.CSI": "2024-10-15"}
_HOUSES = list("甲乙丙丁戊己庚辛壬癸")


@dataclass(frozen=True)
class Etf:
    """Master data of one ETF; rows are positions in `Market.sessions`, `index` one in `indices()` (None abroad)."""

    code: str
    name: str
    scope: str
    index: int | None
    index_code: str | None
    index_name: str | None
    theme: str
    theme_kind: str | None
    tracker: int
    enhanced: bool
    found: pd.Timestamp
    listed: pd.Timestamp
    closed: pd.Timestamp | None
    first_row: int
    list_row: int
    end_row: int
    management_fee: float
    custody_fee: float
    house: str


@dataclass(frozen=True)
class Event:
    """A split (`value` = new shares per old share) or a dividend (`value` = CNY per share) of ETF column `etf`."""

    etf: int
    row: int
    value: float
    recorded: bool = True


@dataclass(frozen=True)
class EtfMarket:
    """State of all ETFs: shares in 份, `nav` in CNY a share (4 decimals), `accumulated` with dividends added.

    `factor` makes raw closes comparable through time: 1 at first, multiplied at every split and dividend.
    """

    etfs: tuple[Etf, ...]
    shares: np.ndarray
    nav: np.ndarray
    accumulated: np.ndarray
    factor: np.ndarray
    splits: tuple[Event, ...]
    dividends: tuple[Event, ...]


def _launch_days(rng: np.random.Generator, count: int, old: int, first: str, code: str) -> list[pd.Timestamp]:
    """Foundation days of an index's trackers by age; `old` of them before 2015."""
    early = np.sort(rng.integers(0, 980, old))
    days = [pd.Timestamp("2012-01-10") + pd.Timedelta(days=int(d)) for d in early]
    from_day = max(pd.Timestamp("2015-02-01"), pd.Timestamp(first) + pd.Timedelta(days=15))
    windows = {0: "2021-05-31", 1: "2023-06-30"}
    for tracker in range(old, count):
        until = max(pd.Timestamp(windows.get(tracker, "2026-09-30")), from_day + pd.Timedelta(days=400))
        until = min(until, pd.Timestamp("2026-09-30"))
        days.append(from_day + (until - from_day) * rng.random() ** 0.75)
    days.sort()
    if code in _FIXED_LISTINGS:
        days[0] = pd.Timestamp(_FIXED_LISTINGS[code]) - pd.Timedelta(days=20)
        days[1:] = [max(d, days[0] + pd.Timedelta(days=5)) for d in days[1:]]
    return [d.normalize() for d in days]


def _free_codes(rng: np.random.Generator) -> dict[str, list[str]]:
    taken = {*FIXED_CODES.values(), *(code for code, *_ in OTHER_ETFS)}
    ranges = {
        "old": [*range(510010, 510990, 7), *range(512010, 512990, 13)],
        "new": [*range(515010, 516990, 11), *range(560010, 563000, 19)],
        "star": range(588010, 588400, 10),
        "sz_old": range(159901, 159970),
        "sz_new": [*range(159701, 159899), *range(159501, 159699)],
    }
    pools = {}
    for name, numbers in ranges.items():
        codes = [f"{n}.{'SZ' if n < 200000 else 'SH'}" for n in numbers]
        pools[name] = [c for c in rng.permutation(codes) if c not in taken]
    return pools


def _timing(
    rng: np.random.Generator, m: Market, found: pd.Timestamp, listing: pd.Timestamp | None
) -> tuple[pd.Timestamp, int, int]:
    """Listing day, first row with shares and NAV, first row with a bar.

    Half of the funds publish shares and NAV from their foundation on, before they are listed.
    """
    calendar = m.sessions
    wait = int(rng.integers(8, 30))
    row = m.position(found)
    if listing is None and m.sessions[0] < found and row + wait < len(calendar):
        listing = calendar[row + wait]
    elif listing is None:
        listing = found + pd.offsets.BDay(wait)
    early = bool(rng.random() < 0.5)
    return listing, (row if early else m.position(listing)), m.position(listing)


@lru_cache(maxsize=1)
def etf_list() -> tuple[Etf, ...]:
    """All ETFs in code order."""
    m = market()
    rng = random(4)
    pools = _free_codes(rng)
    closures = {(index, tracker): pd.Timestamp(day) for index, tracker, day in CLOSURES}
    found_etfs: list[Etf] = []

    def launch(position: int, index: Index, tracker: int, found: pd.Timestamp, enhanced: bool) -> None:
        spec = index.spec
        pool = "star" if spec.code == "000688.SH" else "old" if found.year < 2020 else "new"
        if pool != "star" and rng.random() < 0.45:
            pool = "sz_old" if found.year < 2020 else "sz_new"
        code = FIXED_CODES.get((spec.code, tracker)) or pools[pool].pop()
        fixed = pd.Timestamp(_FIXED_LISTINGS[spec.code]) if tracker == 0 and spec.code in _FIXED_LISTINGS else None
        listed, first_row, list_row = _timing(rng, m, found, fixed)
        closed = closures.get((spec.code, tracker))
        house = _HOUSES[int(rng.integers(len(_HOUSES)))]
        found_etfs.append(
            Etf(
                code=code,
                name=f"{spec.name}{'增强' if enhanced else ''}ETF{house}",
                scope="aShareStockEtf",
                index=position,
                index_code=spec.code,
                index_name=spec.name,
                theme=spec.name,
                theme_kind="industry" if spec.kind == "theme" else spec.kind,
                tracker=tracker,
                enhanced=enhanced,
                found=found,
                listed=listed,
                closed=closed,
                first_row=first_row,
                list_row=list_row,
                end_row=m.position(closed) if closed is not None else len(m.sessions),
                management_fee=float(rng.choice([0.0015, 0.002, 0.004, 0.005], p=[0.25, 0.1, 0.05, 0.6])),
                custody_fee=float(rng.choice([0.0005, 0.001])),
                house=f"基金公司{house}",
            )
        )

    for position, index in enumerate(indices()):
        spec = index.spec
        total = spec.trackers + spec.enhanced
        launches = _launch_days(rng, spec.trackers, spec.old, spec.first, spec.code)
        launches += [
            pd.Timestamp(max("2021-03-01", spec.first)) + pd.Timedelta(days=int(rng.integers(30, 700)))
            for _ in range(spec.enhanced)
        ]
        for tracker, found in zip(range(total), launches, strict=True):
            launch(position, index, tracker, found, enhanced=tracker >= spec.trackers)
    # hardly a month passes without a new stock ETF, and the heat of new issues needs every month
    covered = {etf.found.to_period("M") for etf in found_etfs}
    months = pd.period_range(m.sessions[0], m.sessions[-1], freq="M")
    followers = [(i, index) for i, index in enumerate(indices()) if index.spec.kind in ("industry", "theme")]
    for number, month in enumerate(month for month in months if month not in covered):
        position, index = followers[number * 7 % len(followers)]
        day = month.start_time + pd.Timedelta(days=int(rng.integers(3, 25)))
        launch(position, index, index.spec.trackers + index.spec.enhanced + number, day, enhanced=False)
    found_etfs += [_other(rng, m, *entry) for entry in OTHER_ETFS]
    return tuple(sorted(found_etfs, key=lambda etf: etf.code))


def _other(rng: np.random.Generator, m: Market, code: str, name: str, scope: str, index_code: str | None) -> Etf:
    found = pd.Timestamp("2013-01-15") + pd.Timedelta(days=int(rng.integers(0, 3200)))
    listed, first_row, list_row = _timing(rng, m, found, None)
    house = _HOUSES[int(rng.integers(len(_HOUSES)))]
    return Etf(
        code=code,
        name=name,
        scope=scope,
        index=None,
        index_code=index_code,
        index_name=None if index_code is None else name.removesuffix("ETF"),
        theme=name.removesuffix("ETF"),
        theme_kind=None,
        tracker=0,
        enhanced=False,
        found=found,
        listed=listed,
        closed=None,
        first_row=first_row,
        list_row=list_row,
        end_row=len(m.sessions),
        management_fee=0.006 if scope == "crossBorderStockEtf" else 0.0015,
        custody_fee=0.0005,
        house=f"基金公司{house}",
    )


@lru_cache(maxsize=1)
def etf_market() -> EtfMarket:
    """Shares, NAVs and events of all ETFs, simulated once per process."""
    m, etfs = market(), etf_list()
    alive = _alive(m, etfs)
    returns = _nav_returns(m, etfs)
    by_tracker = {(e.index_code, e.tracker): column for column, e in enumerate(etfs)}
    splits = tuple(
        Event(by_tracker[index, tracker], m.position(day), ratio, recorded)
        for index, tracker, day, ratio, recorded in SPLITS
    )
    multiple = np.ones(returns.shape)
    for split in splits:
        multiple[split.row :, split.etf] *= split.value
    growth = np.cumprod(1 + returns, axis=0)
    growth /= growth[[e.first_row for e in etfs], np.arange(len(etfs))]
    nav = _first_navs(m, etfs, splits, growth) * growth / multiple
    dividends, paid, reinvested = _pay_dividends(m, by_tracker, nav, multiple)
    nav = np.where(alive, np.round(nav, 4), np.nan)
    return EtfMarket(
        etfs=etfs,
        shares=np.where(alive, _shares(m, etfs, returns, multiple), np.nan),
        nav=nav,
        accumulated=np.round(nav * multiple + paid, 4),
        factor=np.round(multiple * reinvested, 6),
        splits=splits,
        dividends=dividends,
    )


def _alive(m: Market, etfs: Sequence[Etf]) -> np.ndarray:
    rows = np.arange(len(m.sessions))[:, None]
    return (rows >= [e.first_row for e in etfs]) & (rows < [e.end_row for e in etfs])


def _nav_returns(m: Market, etfs: Sequence[Etf]) -> np.ndarray:
    rng = random(5)
    days = len(m.sessions)
    levels = np.column_stack([index.level for index in indices()])
    index_returns = np.nan_to_num(levels[1:] / levels[:-1] - 1)
    index_returns = np.vstack([np.zeros((1, levels.shape[1])), index_returns])
    noise = rng.standard_normal((days, len(etfs)))
    volatility = {"crossBorderStockEtf": 0.013, "bondEtf": 0.0012, "commodityEtf": 0.009, "moneyEtf": 0.0}
    returns = np.empty((days, len(etfs)))
    for column, etf in enumerate(etfs):
        fee = (etf.management_fee + etf.custody_fee) / 252
        if etf.index is None:
            returns[:, column] = 0.0001 * (etf.scope != "moneyEtf") + volatility[etf.scope] * noise[:, column]
        else:
            tracking = 0.0008 if etf.enhanced else 0.0001
            returns[:, column] = 0.97 * index_returns[:, etf.index] - fee + tracking * noise[:, column]
    returns[0] = 0
    return returns


def _first_navs(m: Market, etfs: Sequence[Etf], splits: Sequence[Event], growth: np.ndarray) -> np.ndarray:
    """NAV of the first session of each ETF: about 1 at launch; funds that split later come near their split price."""
    rng = random(6)
    first = np.where([e.found.year < 2015 for e in etfs], rng.uniform(0.8, 3.0, len(etfs)), 1.0)
    seen = set()
    for split in splits:
        if split.etf not in seen:
            wanted = 1.25 * split.value if split.value > 1 else 0.6
            first[split.etf] = round(wanted / growth[split.row, split.etf], 3)
            seen.add(split.etf)
    money = [e.scope == "moneyEtf" for e in etfs]
    first[money] = 100.0
    for column, etf in enumerate(etfs):
        if (etf.index_code, etf.tracker) in (("000300.SH", 0), ("000016.SH", 0)):
            first[column] = 3.5
    return first


def _pay_dividends(
    m: Market, by_tracker: dict[tuple[str | None, int], int], nav: np.ndarray, multiple: np.ndarray
) -> tuple[tuple[Event, ...], np.ndarray, np.ndarray]:
    """Takes dividends out of `nav` in place; returns them, the cash so far per first share and the price factor."""
    events = []
    paid, reinvested = np.zeros(nav.shape), np.ones(nav.shape)
    for index, tracker, day, share in sorted(DIVIDENDS, key=lambda entry: entry[2]):
        column, row = by_tracker[index, tracker], m.position(day)
        before = nav[row, column]
        cash = round(share * before, 3)
        nav[row:, column] *= (before - cash) / before
        paid[row:, column] += cash * multiple[row, column]
        reinvested[row:, column] *= before / (before - cash)
        events.append(Event(column, row, cash))
    return tuple(events), paid, reinvested


def _shares(m: Market, etfs: Sequence[Etf], returns: np.ndarray, multiple: np.ndarray) -> np.ndarray:
    """Shares outstanding: a start size and creations in whole units, multiplied at splits.

    Relative creations follow conviction (the informed part), a fashion per industry without any information,
    buying of falling and selling of rising prices, and noise of each fund.
    """
    rng = random(7)
    days, count = len(m.sessions), len(etfs)
    exposure = np.column_stack([np.zeros(30) if e.index is None else indices()[e.index].exposure for e in etfs])
    fashion = ar1(rng.standard_normal(m.conviction.shape), 0.9)
    broad = np.array([e.theme_kind == "broad" for e in etfs])
    noise = rng.standard_t(4, (days, count)) / np.sqrt(2) * rng.uniform(0.004, 0.012, count)
    trend = pd.DataFrame(returns).rolling(60, min_periods=1).sum().to_numpy()
    flow = (
        0.0022 * m.conviction @ exposure
        + 0.0024 * fashion @ exposure
        - 0.10 * returns
        + 0.004 * np.clip(trend, -0.3, 0.3)
        + np.where(broad, 0.5, 1.0) * noise
    )
    flow += np.outer(0.002 * ar1(rng.standard_normal(days), 0.9), np.where(broad, 1.0, 0.3))
    lead = np.array([e.index_code in BURST_INDICES and e.tracker < 3 for e in etfs])
    for first, last, size in BURSTS:
        flow[np.ix_((m.sessions >= pd.Timestamp(first)) & (m.sessions <= pd.Timestamp(last)), lead)] += size
    rows = np.arange(days)[:, None]
    for column, etf in enumerate(etfs):
        flow[max(etf.end_row - 250, 0) : etf.end_row, column] -= 0.008 * (etf.closed is not None)
    flow += 0.00012
    flow[rows <= [e.list_row for e in etfs]] = 0.0  # nothing is created before the listing
    # sizes drift back to their target, so that twelve years of flows stay in a plausible range
    log_size = decayed_sum(flow, 0.9985)
    log_size -= log_size[[e.first_row for e in etfs], np.arange(count)]

    lead_boost = np.where(lead & np.array([e.tracker == 0 for e in etfs]), 6.0, 1.0)
    median = np.where(broad, 9e8, 3e8) * lead_boost
    start = np.round(np.clip(rng.lognormal(np.log(median), 0.7), 5e7, 2e10))
    unit = rng.choice([300_000, 500_000, 900_000, 1_000_000, 1_500_000], count)
    created = np.round(start * np.expm1(np.clip(log_size, -3.0, 2.2)) / unit) * unit
    return np.floor((start + created) * multiple)


def first_series_row() -> int:
    """Row of the first session of the daily series."""
    return market().position(FIRST_SERIES_DAY)
