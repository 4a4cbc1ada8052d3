"""A small random market with everything that can go wrong in it, as frames of the contract."""

from datetime import date

import numpy as np
import pandas as pd

from etf_pipeline.core.calendar import sessions_between

CALENDAR = sessions_between(date(2023, 11, 1), date(2024, 4, 30))
SESSIONS = sessions_between(date(2024, 1, 11), date(2024, 3, 14))
"""Forty sessions around the spring holiday, the last week without its end."""

A_SHARES = [f"6000{n:02d}.SH" for n in range(8)] + ["000001.SZ", "000002.SZ", "830799.BJ"]
STOCKS = [*A_SHARES, "00700.HK"]
WITHOUT_INDUSTRY = "000002.SZ"
INDUSTRIES = ["CI005001", "CI005002", "CI005003", "CI005004"]
WEIGHTED = ["000001.CSI", "000002.CSI", "000003.CSI"]
UNWEIGHTED = "000009.CSI"
MONTH_ENDS = [pd.Timestamp(day) for day in ("2023-11-30", "2023-12-29", "2024-01-31", "2024-02-29")]

LISTED_SPLIT, UNLISTED_SPLIT, LATE_SPLIT = "510001.SH", "510002.SH", "510003.SH"
SPLIT_DAYS = {LISTED_SPLIT: SESSIONS[15], UNLISTED_SPLIT: SESSIONS[22], LATE_SPLIT: SESSIONS[28]}
SPLIT_FACTORS = {LISTED_SPLIT: 2.0, UNLISTED_SPLIT: 3.0, LATE_SPLIT: 2.0}

ETFS = pd.DataFrame(
    [
        # code, name, index, scope, theme, list date, delist date
        (LISTED_SPLIT, "one", WEIGHTED[0], "aShareStockEtf", None, None, None),
        (UNLISTED_SPLIT, "two", WEIGHTED[1], "aShareStockEtf", "bank", None, None),
        (LATE_SPLIT, "three", WEIGHTED[2], "aShareStockEtf", None, None, None),
        ("510004.SH", "four", WEIGHTED[0], "aShareStockEtf", None, SESSIONS[6], SESSIONS[33]),
        ("510005.SH", "four增强", WEIGHTED[0], "aShareStockEtf", None, None, None),
        ("510006.SH", "bank", UNWEIGHTED, "aShareStockEtf", "bank", None, None),
        ("510007.SH", "nothing", UNWEIGHTED, "aShareStockEtf", None, None, None),
        ("510008.SH", "bond", None, "bondEtf", None, None, None),
    ],
    columns=["etf_code", "name", "index_code", "asset_scope", "theme", "list_date", "delist_date"],
)


def next_session(day: pd.Timestamp, count: int = 1) -> pd.Timestamp:
    return CALENDAR[CALENDAR.get_loc(day) + count]


def morning_after(day: pd.Timestamp, sessions: int = 1) -> pd.Timestamp:
    """Half an hour before the decision about `day` and `sessions` - 1 sessions more."""
    return (next_session(day, sessions) + pd.Timedelta(hours=8, minutes=30)).tz_localize("Asia/Shanghai")


def random_market(seed: int) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    shares, navs, bars = [], [], []
    for code in ETFS["etf_code"]:
        outstanding, nav = float(rng.integers(50, 500)) * 1e6, float(rng.uniform(0.5, 4))
        split_day, factor = SPLIT_DAYS.get(code), SPLIT_FACTORS.get(code, 1.0)
        for day in SESSIONS:
            nav *= 1 + rng.normal(0, 0.01)
            nav /= factor if day == split_day else 1
            follows = split_day is not None and day == (next_session(split_day) if code == LATE_SPLIT else split_day)
            outstanding *= factor if follows else 1
            outstanding += float(rng.integers(-3, 4)) * 1e5
            # around its split an ETF is undisturbed: what is tested there is the split
            near_split = split_day is not None and abs((day - split_day).days) <= 5
            hole = rng.random() < 0.12 and not near_split
            late = 1 if near_split or rng.random() > 0.08 else int(rng.integers(2, 5))
            if not hole:
                seen = 0.0 if rng.random() < 0.05 and not near_split else outstanding
                shares.append((code, day, seen, morning_after(day, late)))
            nav_missing = rng.random() < 0.08 and not near_split
            late_nav = 1 if near_split or rng.random() > 0.08 else int(rng.integers(2, 4))
            if not nav_missing:
                navs.append((code, day, nav, morning_after(day, late_nav)))
            if code in (LISTED_SPLIT, "510006.SH") and rng.random() > 0.1:
                bars.append((code, day, nav * (1 + rng.normal(0, 0.003)), 1e6, nav * 1e6))
    weights = []
    for index in WEIGHTED:
        for as_of in MONTH_ENDS:
            held = rng.choice(STOCKS, size=int(rng.integers(5, 9)), replace=False)
            parts = rng.dirichlet(np.ones(len(held))) * rng.uniform(0.991, 1.009)
            known = morning_after(as_of, 6)
            if index == WEIGHTED[1] and as_of == MONTH_ENDS[1]:
                known = morning_after(SESSIONS[25])  # after the set of the month that follows it
            weights += [(index, as_of, stock, part, known) for stock, part in zip(held, parts, strict=True)]
    stays = [
        ("citic", stock, pd.Timestamp("1990-01-01"), INDUSTRIES[n % 3], pd.NaT)
        for n, stock in enumerate(A_SHARES)
        if stock != WITHOUT_INDUSTRY
    ]
    for n, stock in enumerate((A_SHARES[1], A_SHARES[4], A_SHARES[7])):
        moved = pd.Timestamp(SESSIONS[int(rng.integers(3, 36))]) - pd.Timedelta(days=n)
        stays = [(*stay[:4], moved) if stay[1] == stock else stay for stay in stays]
        # the fourth industry begins to exist with the first stock that moves into it
        stays.append(("citic", stock, moved, INDUSTRIES[3] if n else INDUSTRIES[0], pd.NaT))
    values = [
        (stock, day, float(rng.integers(50, 900)) * 1e8)
        for day in MONTH_ENDS
        for stock in A_SHARES
        if rng.random() > 0.05
    ]
    return {
        "trading_calendar": pd.DataFrame({"trade_date": CALENDAR, "is_open": True}),
        "etf_info": ETFS,
        "etf_share": pd.DataFrame(shares, columns=["etf_code", "trade_date", "shares", "available_at"]),
        "etf_nav": pd.DataFrame(navs, columns=["etf_code", "trade_date", "unit_nav", "available_at"]),
        "etf_bar": pd.DataFrame(bars, columns=["etf_code", "trade_date", "close", "volume", "amount"]),
        "etf_split": pd.DataFrame(
            [(code, SPLIT_DAYS[code], SPLIT_FACTORS[code]) for code in (LISTED_SPLIT, LATE_SPLIT)],
            columns=["etf_code", "ex_date", "new_per_old"],
        ),
        "index_weight": pd.DataFrame(
            weights, columns=["index_code", "as_of_date", "stock_code", "weight", "available_at"]
        ),
        "industry_info": pd.DataFrame(
            {"scheme": "citic", "industry_code": INDUSTRIES, "industry_name": ["one", "two", "three", "four"]}
        ),
        "stock_industry": pd.DataFrame(stays, columns=["scheme", "stock_code", "in_date", "industry_code", "out_date"]),
        "theme_industry": pd.DataFrame({"scheme": ["citic"], "theme": ["bank"], "industry_code": [INDUSTRIES[2]]}),
        "stock_value": pd.DataFrame(values, columns=["stock_code", "trade_date", "float_market_value"]),
    }
