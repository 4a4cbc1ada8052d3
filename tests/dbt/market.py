"""A small random market with everything that can go wrong in it, as frames of the contract."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from etf_pipeline.core.calendar import sessions_between

CALENDAR = sessions_between(date(2023, 11, 1), date(2024, 4, 30))
SESSIONS = sessions_between(date(2024, 1, 11), date(2024, 3, 14))
"""Forty sessions around the spring holiday, the last week without its end."""

A_SHARES = [f"6000{n:02d}.SH" for n in range(8)] + ["000001.SZ", "000002.SZ", "830799.BJ"]
WITHOUT_INDUSTRY = "000002.SZ"
INDUSTRIES = ["CI005001", "CI005002", "CI005003", "CI005004", "CI005005", "CI005006"]
FADING, FADED, LASTING = "600008.SH", "600009.SH", "600010.SH"
"""Stocks of the fifth industry, which leave it one by one for no other; the last has no value."""
STOCKS = [*A_SHARES, FADING, FADED, LASTING, "00700.HK"]
NEWCOMER = "600011.SH"
"""First stock of the sixth industry, which ETFs of its theme reach before it exists."""
WEIGHTED = ["000001.CSI", "000002.CSI", "000003.CSI"]
UNWEIGHTED = "000009.CSI"
MONTH_ENDS = [pd.Timestamp(day) for day in ("2023-11-30", "2023-12-29", "2024-01-31", "2024-02-29")]


@dataclass(frozen=True)
class Split:
    factor: float
    share_day: pd.Timestamp
    """First session whose shares and NAV are after the split."""
    ex_day: pd.Timestamp
    """First session whose traded price is after the split."""
    listed: bool = False
    files_late: int = 0
    """Sessions after `share_day` on which the file of shares follows."""


SPLITS = {
    "510001.SH": Split(2.0, SESSIONS[15], SESSIONS[15], listed=True),
    "510002.SH": Split(3.0, SESSIONS[22], SESSIONS[22]),
    "510003.SH": Split(2.0, SESSIONS[28], SESSIONS[28], listed=True, files_late=1),
    # NAV and traded price
    "510009.SH": Split(2.0, SESSIONS[18], SESSIONS[19]),
    "510010.SH": Split(0.25, SESSIONS[11], SESSIONS[12], listed=True),
    # traded price only
    "510011.SH": Split(3.0, SESSIONS[20], SESSIONS[21]),
    "510012.SH": Split(0.5, SESSIONS[25], SESSIONS[26], listed=True),
    "510013.SH": Split(2.0, SESSIONS[30], SESSIONS[30], files_late=1),
}
JUMPY = "510014.SH"
"""Its shares jump without a split; on some of these days NAV, or NAV and traded price, are missing."""
JUMPS = {SESSIONS[n]: by for n, by in ((5, 1.6), (10, 2.0), (14, 0.5), (20, 2.0), (21, 0.6), (39, 2.0))}
JUMPS_WITHOUT_NAV = [SESSIONS[n] for n in (10, 14, 20, 39)]
JUMP_WITHOUT_PRICE = SESSIONS[10]
ABSURD, ABSURD_DAY = "510006.SH", SESSIONS[17]
"""An ETF whose shares stand in another unit for a day."""
WITH_BARS = ["510001.SH", "510006.SH", *list(SPLITS)[3:], JUMPY]
WITHOUT_NAV = list(SPLITS)[5:]

ETFS = pd.DataFrame(
    [
        # code, name, index, scope, theme, list date, delist date
        ("510001.SH", "one", WEIGHTED[0], "aShareStockEtf", None, None, None),
        ("510002.SH", "two", WEIGHTED[1], "aShareStockEtf", "bank", None, None),
        ("510003.SH", "three", WEIGHTED[2], "aShareStockEtf", None, None, None),
        ("510004.SH", "four", WEIGHTED[0], "aShareStockEtf", None, SESSIONS[6], SESSIONS[33]),
        ("510005.SH", "four增强", WEIGHTED[0], "aShareStockEtf", None, None, None),
        ("510006.SH", "bank", UNWEIGHTED, "aShareStockEtf", "bank", None, None),
        ("510007.SH", "nothing", UNWEIGHTED, "aShareStockEtf", None, None, None),
        ("510008.SH", "bond", None, "bondEtf", None, None, None),
        ("510009.SH", "nine", WEIGHTED[1], "aShareStockEtf", None, None, None),
        ("510010.SH", "ten", WEIGHTED[2], "aShareStockEtf", None, None, None),
        ("510011.SH", "eleven", WEIGHTED[0], "aShareStockEtf", None, None, None),
        ("510012.SH", "new energy", UNWEIGHTED, "aShareStockEtf", "new", None, None),
        ("510013.SH", "thirteen", WEIGHTED[1], "aShareStockEtf", None, None, None),
        (JUMPY, "fourteen", WEIGHTED[2], "aShareStockEtf", None, None, None),
    ],
    columns=["etf_code", "name", "index_code", "asset_scope", "theme", "list_date", "delist_date"],
)


def next_session(day: pd.Timestamp, count: int = 1) -> pd.Timestamp:
    return CALENDAR[int(CALENDAR.searchsorted(day)) + count]


def morning_after(day: pd.Timestamp, sessions: int = 1) -> pd.Timestamp:
    """Half an hour before the decision about `day` and `sessions` - 1 sessions more."""
    return (next_session(day, sessions) + pd.Timedelta(hours=8, minutes=30)).tz_localize("Asia/Shanghai")


def random_market(seed: int) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    shares, navs, bars = [], [], []
    for code in ETFS["etf_code"]:
        outstanding, fair = float(rng.integers(50, 500)) * 1e6, float(rng.uniform(0.5, 4))
        split = SPLITS.get(code)
        for day in SESSIONS:
            fair *= 1 + rng.normal(0, 0.01)
            nav = fair / split.factor if split and day >= split.share_day else fair
            close = fair / split.factor if split and day >= split.ex_day else fair
            if split and day == next_session(split.share_day, split.files_late):
                outstanding *= split.factor
            outstanding *= JUMPS.get(day, 1.0) if code == JUMPY else 1.0
            outstanding += float(rng.integers(-3, 4)) * 1e5
            # around its split an ETF is undisturbed: what is tested there is the split
            undisturbed = split is not None and abs((day - split.share_day).days) <= 5
            if code == JUMPY:
                undisturbed = day in JUMPS or next_session(day) in JUMPS
            hole = rng.random() < 0.12 and not undisturbed
            late = 1 if undisturbed or rng.random() > 0.08 else int(rng.integers(2, 5))
            if not hole:
                seen = 0.0 if rng.random() < 0.05 and not undisturbed else outstanding
                seen *= 100 if (code, day) == (ABSURD, ABSURD_DAY) else 1
                shares.append((code, day, seen, morning_after(day, late)))
            nav_missing = rng.random() < 0.08 and not undisturbed
            nav_missing |= code in WITHOUT_NAV or (code == JUMPY and day in JUMPS_WITHOUT_NAV)
            late_nav = 1 if undisturbed or rng.random() > 0.08 else int(rng.integers(2, 4))
            if not nav_missing:
                navs.append((code, day, nav, morning_after(day, late_nav)))
            bar_missing = rng.random() < 0.1 and not undisturbed
            bar_missing |= code not in WITH_BARS or (code == JUMPY and day == JUMP_WITHOUT_PRICE)
            if not bar_missing:
                price = close * (1 + rng.normal(0, 0.003))
                bars.append((code, day, price, 1e6, price * 1e6))
    weights = []
    for index in WEIGHTED:
        for as_of in MONTH_ENDS:
            held = rng.choice(STOCKS, size=int(rng.integers(5, 9)), replace=False)
            parts = rng.dirichlet(np.ones(len(held))) * rng.uniform(0.991, 1.009)
            known = morning_after(as_of, 6)
            if index == WEIGHTED[1] and as_of == MONTH_ENDS[1]:
                known = morning_after(SESSIONS[25])  # after the set of the month that follows it
            weights += [(index, as_of, stock, part, known) for stock, part in zip(held, parts, strict=True)]
            if index == WEIGHTED[2]:
                # a small constituent comes two weeks after the others
                *_, part, _ = weights[-1]
                weights[-1] = (index, as_of, held[-1], 0.001, morning_after(as_of, 16))
                weights[-2] = (*weights[-2][:3], weights[-2][3] + part - 0.001, known)
    stays: list[tuple[Any, ...]] = [
        ("citic", stock, pd.Timestamp("1990-01-01"), INDUSTRIES[n % 3], pd.NaT)
        for n, stock in enumerate(A_SHARES)
        if stock != WITHOUT_INDUSTRY
    ]
    for stock, out in ((FADING, SESSIONS[9]), (FADED, SESSIONS[20]), (LASTING, SESSIONS[34])):
        stays.append(("citic", stock, pd.Timestamp("1990-01-01"), INDUSTRIES[4], out))
    stays.append(("citic", NEWCOMER, SESSIONS[30], INDUSTRIES[5], pd.NaT))
    for n, stock in enumerate((A_SHARES[1], A_SHARES[4], A_SHARES[7])):
        moved = pd.Timestamp(SESSIONS[int(rng.integers(3, 36))]) - pd.Timedelta(days=n)
        stays = [(*stay[:4], moved) if stay[1] == stock else stay for stay in stays]
        # the fourth industry begins to exist with the first stock that moves into it
        stays.append(("citic", stock, moved, INDUSTRIES[3] if n else INDUSTRIES[0], pd.NaT))
    values = [
        (stock, day, float(rng.integers(50, 900)) * 1e8, morning_after(day, 8 if rng.random() < 0.2 else 1))
        for day in MONTH_ENDS
        for stock in (*A_SHARES, FADING, FADED, NEWCOMER)
        if rng.random() > 0.05
    ]
    return {
        "trading_calendar": pd.DataFrame({"trade_date": CALENDAR, "is_open": True}),
        "etf_info": ETFS,
        "etf_share": pd.DataFrame(shares, columns=["etf_code", "trade_date", "shares", "available_at"]),
        "etf_nav": pd.DataFrame(navs, columns=["etf_code", "trade_date", "unit_nav", "available_at"]),
        "etf_bar": pd.DataFrame(bars, columns=["etf_code", "trade_date", "close", "volume", "amount"]),
        "etf_split": pd.DataFrame(
            [(code, split.ex_day, split.factor) for code, split in SPLITS.items() if split.listed],
            columns=["etf_code", "ex_date", "new_per_old"],
        ),
        "index_weight": pd.DataFrame(
            weights, columns=["index_code", "as_of_date", "stock_code", "weight", "available_at"]
        ),
        "industry_info": pd.DataFrame(
            {"scheme": "citic", "industry_code": INDUSTRIES, "industry_name": [f"industry {c[-1]}" for c in INDUSTRIES]}
        ),
        "stock_industry": pd.DataFrame(stays, columns=["scheme", "stock_code", "in_date", "industry_code", "out_date"]),
        "theme_industry": pd.DataFrame(
            {"scheme": "citic", "theme": ["bank", "new"], "industry_code": [INDUSTRIES[2], INDUSTRIES[5]]}
        ),
        "stock_value": pd.DataFrame(values, columns=["stock_code", "trade_date", "float_market_value", "available_at"]),
    }
