"""A tiny valid data folder, and ways to edit it. Shared by the source tests and the end-to-end tests."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd

SESSIONS = [
    *(date(2025, 9, day) for day in (22, 23, 24, 25, 26, 29, 30)),
    *(date(2025, 10, day) for day in (9, 10, 13)),
]
"""Ten sessions around the National Day holiday (2025-10-01 … 10-08)."""

ETFS = {
    "510300.SH": ("300ETF", "000300.SH"),
    "159919.SZ": ("300ETF 2", "000300.SH"),
    "512800.SH": ("银行ETF", "399986.SZ"),
    "512000.SH": ("券商ETF", "399975.SZ"),
    "511010.SH": ("国债ETF", None),
}
INDEXES = ("000300.SH", "000852.SH", "399370.SZ", "399371.SZ")
BANK, BROKER = "CI005021", "CI005022"
STOCKS = {"600000.SH": BANK, "600036.SH": BANK, "600030.SH": BROKER, "000776.SZ": BROKER}
WEIGHTS = {
    "000300.SH": {"600000.SH": 0.1, "600036.SH": 0.4, "600030.SH": 0.3, "000776.SZ": 0.2},
    "399986.SZ": {"600000.SH": 0.35, "600036.SH": 0.65},
    "399975.SZ": {"600030.SH": 0.6, "000776.SZ": 0.4},
}


def valid_frames() -> dict[str, pd.DataFrame]:
    """All required datasets and some optional ones, as a user might hold them; rows sorted by key."""
    days = [(code, day, n) for code in sorted(ETFS) for n, day in enumerate(SESSIONS)]
    codes, dates = [code for code, _, _ in days], [day for _, day, _ in days]
    price = [1.0 + 0.01 * n for _, _, n in days]
    weights = [
        (index, as_of, stock, weight)
        for index, parts in sorted(WEIGHTS.items())
        for as_of in (date(2025, 8, 29), date(2025, 9, 30))
        for stock, weight in sorted(parts.items())
    ]
    return {
        "etf_info": pd.DataFrame(
            {
                "etf_code": list(ETFS),
                "name": [name for name, _ in ETFS.values()],
                "index_code": [index for _, index in ETFS.values()],
                "asset_scope": ["aShareStockEtf"] * 4 + ["bondEtf"],
                "management_fee": [0.0015, 0.0015, 0.005, 0.005, None],
                "list_date": [date(2012, 5, 28), date(2012, 5, 28), date(2017, 8, 3), date(2016, 9, 14), None],
                "is_t0": [False, False, False, False, True],
            }
        ).sort_values("etf_code", ignore_index=True),
        "etf_share": pd.DataFrame(
            {"etf_code": codes, "trade_date": dates, "shares": [1e9 + 1e7 * n for _, _, n in days]}
        ),
        "etf_nav": pd.DataFrame({"etf_code": codes, "trade_date": dates, "unit_nav": price}),
        "etf_bar": pd.DataFrame(
            {
                "etf_code": codes,
                "trade_date": dates,
                "open": price,
                "high": [p + 0.02 for p in price],
                "low": [p - 0.02 for p in price],
                "close": [p + 0.01 for p in price],
                "volume": [1_000_000 + 1000 * n for _, _, n in days],
                "amount": [1.5e6] * len(days),
            }
        ),
        "index_bar": pd.DataFrame(
            [(index, day, 4000.0 + n) for index in INDEXES for n, day in enumerate(SESSIONS)],
            columns=["index_code", "trade_date", "close"],
        ),
        "index_weight": pd.DataFrame(weights, columns=["index_code", "as_of_date", "stock_code", "weight"]),
        "industry_info": pd.DataFrame(
            {"scheme": "citic", "industry_code": [BANK, BROKER], "industry_name": ["银行", "非银行金融"]}
        ),
        "stock_industry": pd.DataFrame(
            [
                ("citic", "000776.SZ", BANK, date(1990, 1, 1), date(2020, 1, 2)),
                ("citic", "000776.SZ", BROKER, date(2020, 1, 2), None),
                *(("citic", s, i, date(1990, 1, 1), None) for s, i in sorted(STOCKS.items()) if s != "000776.SZ"),
            ],
            columns=["scheme", "stock_code", "industry_code", "in_date", "out_date"],
        ),
        "fund_holding": pd.DataFrame(
            {
                "fund_code": "000001.OF",
                "report_date": date(2025, 6, 30),
                "announced_date": [date(2025, 7, 21), None],
                "stock_code": ["600000.SH", "600036.SH"],
                "market_value": [1.0e8, 2.5e8],
                "scope": "top10",
            }
        ),
    }


def write_valid_folder(path: Path) -> Path:
    """`valid_frames` as Parquet files in the new folder `path`; returns it."""
    path.mkdir(parents=True)
    for name, frame in valid_frames().items():
        frame.to_parquet(path / f"{name}.parquet", index=False)
    return path


def edit(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Rewrite one Parquet file of the folder."""
    path = folder / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def as_csv(folder: Path, name: str, change: Callable[[str], str] = str, encoding: str = "utf-8") -> None:
    """Replace one Parquet file of the folder by a CSV file whose text is passed through `change`."""
    path = folder / f"{name}.parquet"
    text = change(pd.read_parquet(path).to_csv(index=False))
    path.unlink()
    (folder / f"{name}.csv").write_text(text, encoding=encoding)


def as_parts(folder: Path, name: str, change_second: Callable[[pd.DataFrame], pd.DataFrame] = lambda f: f) -> None:
    """Replace one Parquet file of the folder by a folder of two parts."""
    path = folder / f"{name}.parquet"
    frame = pd.read_parquet(path)
    path.unlink()
    (folder / name).mkdir()
    half = len(frame) // 2
    frame[:half].to_parquet(folder / name / "1.parquet", index=False)
    change_second(frame[half:]).to_parquet(folder / name / "2.parquet", index=False)
