"""Every way a data folder can be wrong that a user has met or will: what is done to a valid folder, and what the
refusal must say. `MALFORMED` is run against the source here, and through the whole pipeline by the end-to-end tests.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from tests.sources.folder import as_csv, as_parts, edit


@dataclass(frozen=True)
class Malformed:
    """`mutate` spoils a valid folder; the message of the refusal holds every fragment (file, rule, rows)."""

    name: str
    mutate: Callable[[Path], object]
    fragments: tuple[str, ...]


def _cell(name: str, row: int, column: str, value: Any) -> Callable[[Path], object]:
    """Another value in one cell; `row` counts from 1."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].tolist()
        values[row - 1] = value
        return frame.assign(**{column: values})

    return lambda folder: edit(folder, name, change)


def _column(name: str, column: str, change: Callable[[pd.Series], Any]) -> Callable[[Path], object]:
    return lambda folder: edit(folder, name, lambda frame: frame.assign(**{column: change(frame[column])}))


def _frame(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], object]:
    return lambda folder: edit(folder, name, change)


def _csv(name: str, old: str, new: str, encoding: str = "utf-8") -> Callable[[Path], object]:
    """As CSV, with the first occurrence of `old` replaced."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return lambda folder: as_csv(folder, name, change, encoding)


def _bytes(file: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(content)


def _truncate(folder: Path) -> None:
    path = folder / "etf_nav.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def _file_and_folder(folder: Path) -> None:
    (folder / "etf_share").mkdir()
    shutil.copy(folder / "etf_share.parquet", folder / "etf_share" / "1.parquet")


def _empty_parts(folder: Path) -> None:
    (folder / "etf_share.parquet").unlink()
    (folder / "etf_share").mkdir()


def _mapping(text: str, encoding: str = "utf-8") -> Callable[[Path], object]:
    return lambda folder: (folder / "mapping.yaml").write_text(text, encoding=encoding)


SHARE, WEIGHT, BAR = "etf_share.parquet", "index_weight.parquet", "etf_bar.parquet"
FIRST_SHARE = "etf_code 159919.SZ, trade_date 2025-09-22"

MALFORMED = [
    # files
    Malformed(
        "required file missing",
        lambda f: (f / SHARE).unlink(),
        ("no file etf_share.parquet or etf_share.csv", "required", "etf_nav.parquet"),
    ),
    Malformed("folder missing", lambda f: shutil.rmtree(f), ("no such folder",)),
    Malformed("zero bytes", _bytes(SHARE, b""), (SHARE, "empty (0 bytes)")),
    Malformed("truncated Parquet", _truncate, ("etf_nav.parquet", "not a readable Parquet file")),
    Malformed("spreadsheet named Parquet", _bytes(SHARE, b"PK\3\4" + bytes(500)), (SHARE, "not a readable Parquet")),
    Malformed("no rows", _frame("etf_share", lambda f: f[:0]), (SHARE, "holds no rows")),
    Malformed(
        "file and folder", _file_and_folder, ("etf_share/ and etf_share.parquet", "more than one source of etf_share")
    ),
    Malformed("folder without parts", _empty_parts, ("etf_share/", "holds no .parquet")),
    Malformed(
        "Parquet and CSV",
        lambda f: (f / "etf_share.csv").write_text("etf_code,trade_date,shares\n"),
        ("etf_share.parquet and etf_share.csv", "more than one source"),
    ),
    Malformed(
        "parts with different columns",
        lambda f: as_parts(f, "etf_share", lambda second: second.rename(columns={"shares": "share"})),
        ("etf_share/2.parquet", "columns differ from 1.parquet", "share, shares"),
    ),
    Malformed(
        "negative share in a part",
        lambda f: as_parts(f, "etf_share", lambda second: second.assign(shares=[-1.0, *second["shares"][1:]])),
        ("etf_share/", "`shares` is below 0 in 1 row", "2.parquet row 1", "etf_code 511010.SH"),
    ),
    # CSV
    Malformed(
        "GBK CSV", lambda f: as_csv(f, "industry_info", encoding="gbk"), ("industry_info.csv", "not UTF-8", "GBK")
    ),
    Malformed(
        "uneven CSV rows",
        _csv("etf_share", "2025-09-22,1000000000.0", "2025-09-22,1000000000.0,7"),
        ("etf_share.csv", "Expected 3 columns, got 4", "Row #2"),
    ),
    Malformed(
        "short CSV row",
        _csv("etf_share", "2025-09-22,1000000000.0", "2025-09-22"),
        ("etf_share.csv", "Expected 3 columns, got 2"),
    ),
    Malformed(
        "text in a CSV number",
        _csv("etf_share", "1000000000.0", "abc"),
        ("etf_share.csv", "`shares` is not a number in 1 row", "row 1", FIRST_SHARE, "shares abc"),
    ),
    Malformed(
        "thousands separator in CSV",
        _csv("etf_share", "1000000000.0", '"1,000,000,000"'),
        ("etf_share.csv", "`shares` is not a number", "shares 1,000,000,000"),
    ),
    Malformed(
        "impossible date in CSV",
        _csv("etf_share", "2025-09-22", "2026/13/45"),
        ("etf_share.csv", "`trade_date` is not a plain calendar day in 1 row", "trade_date 2026/13/45", "YYYY-MM-DD"),
    ),
    Malformed("30 February", _csv("etf_nav", "2025-09-22", "2025-02-30"), ("etf_nav.csv", "not a plain calendar day")),
    Malformed(
        "double CSV column",
        _csv("etf_share", "etf_code,", "shares,"),
        ("etf_share.csv", "more than one column shares"),
    ),
    Malformed(
        "unclear flag in CSV", _csv("etf_info", "False", "maybe"), ("etf_info.csv", "`is_t0` is not true or false")
    ),
    # columns and types
    Malformed(
        "column missing",
        _frame("etf_share", lambda f: f.drop(columns="shares")),
        (SHARE, "required column missing: shares", "found etf_code, trade_date"),
    ),
    Malformed(
        "numbers as text in Parquet",
        _column("etf_share", "shares", lambda c: c.astype(str)),
        (SHARE, "`shares` is not a number in 50 rows", "row 1", "…"),
    ),
    Malformed(
        "codes as integers",
        _column("etf_share", "etf_code", lambda c: c.str[:6].astype(int)),
        (SHARE, "`etf_code` is not text in 50 rows", "etf_code 159919"),
    ),
    Malformed(
        "dates as numbers of six digits",
        _column("etf_share", "trade_date", lambda c: [int(f"{d:%y%m%d}") for d in c]),
        (SHARE, "`trade_date` is not a plain calendar day in 50 rows", "trade_date 250922"),
    ),
    Malformed(
        "timestamp with clock time",
        _column("etf_share", "trade_date", lambda c: pd.to_datetime(c) + pd.Timedelta(hours=15)),
        (SHARE, "not a plain calendar day in 50 rows", "2025-09-22 15:00:00", "at midnight"),
    ),
    Malformed(
        "flag as number", _column("etf_info", "is_t0", lambda c: c.astype(int)), ("`is_t0` is not true or false",)
    ),
    # values
    Malformed("null code", _cell("etf_share", 3, "etf_code", None), (SHARE, "`etf_code` is empty in 1 row", "row 3")),
    Malformed("empty name", _cell("etf_info", 2, "name", ""), ("etf_info.parquet", "`name` is empty", "row 2")),
    Malformed(
        "null share", _cell("etf_share", 3, "shares", None), (SHARE, "`shares` is empty in 1 row", "row 3", "159919.SZ")
    ),
    Malformed("NaN weight", _cell("index_weight", 1, "weight", float("nan")), (WEIGHT, "`weight` is empty", "row 1")),
    Malformed("infinite NAV", _cell("etf_nav", 4, "unit_nav", float("inf")), ("`unit_nav` is infinite", "row 4")),
    Malformed("NAV of zero", _cell("etf_nav", 4, "unit_nav", 0.0), ("etf_nav.parquet", "`unit_nav` is not above 0")),
    Malformed(
        "negative share",
        _cell("etf_share", 2, "shares", -5.0),
        (SHARE, "`shares` is below 0 in 1 row", "row 2 (etf_code 159919.SZ, trade_date 2025-09-23, shares -5.0)"),
    ),
    Malformed(
        "shares in 万份",
        _column("etf_share", "shares", lambda c: c / 10_000),
        (SHARE, "median of `shares` is", "below 1,000,000", "万份 instead of 份", "units: {shares: 10000}"),
    ),
    Malformed(
        "weights in percent",
        _column("index_weight", "weight", lambda c: c * 100),
        (WEIGHT, "`weight` is above 1 in 16 rows", "percent", "0.01", "sums to 100"),
    ),
    Malformed(
        "fee in percent",
        _cell("etf_info", 1, "management_fee", 0.5),
        ("etf_info.parquet", "`management_fee` is above 0.05 in 1 row", "etf_code 159919.SZ", "percent"),
    ),
    Malformed(
        "weights sum to 0.8",
        _cell("index_weight", 4, "weight", 0.2),
        (WEIGHT, "`weight` sums to 0.8 instead of 0.99–1.01", "in 1 set", "000300.SH, as_of_date 2025-08-29"),
    ),
    Malformed(
        "weights in percent of indexes nobody tracks",
        lambda f: (
            edit(f, "etf_info", lambda info: info.assign(index_code=None)),
            edit(f, "index_weight", lambda weights: weights.assign(weight=weights["weight"] * 100)),
        ),
        (WEIGHT, "`weight` is above 1 in 16 rows"),
    ),
    Malformed(
        "broken set of a misspelt index",
        _frame("index_weight", lambda f: f[1:].assign(index_code="x" + f["index_code"].str[:6])),
        (WEIGHT, "`index_code` is a code without exchange suffix in 15 rows", "`weight` sums to 0.8"),
    ),
    Malformed("negative weight", _cell("index_weight", 2, "weight", -0.1), (WEIGHT, "`weight` is below 0", "row 2")),
    Malformed(
        "code without suffix",
        _cell("etf_share", 1, "etf_code", "159919"),
        (SHARE, "`etf_code` is a code without exchange suffix in 1 row", "row 1", "510300.SH"),
    ),
    Malformed(
        "suffix of no exchange",
        _cell("etf_info", 1, "etf_code", "159919.S2"),
        ("etf_info.parquet", "not a code with an upper-case exchange suffix", "159919.S2"),
    ),
    Malformed(
        "vendor's prefix code",
        _cell("index_bar", 1, "index_code", "csi000300"),
        ("index_bar.parquet", "code without exchange suffix", "csi000300"),
    ),
    Malformed(
        "industry by name",
        _cell("stock_industry", 1, "industry_code", "银行"),
        ("stock_industry.parquet", "`industry_code` is a code without exchange suffix", "银行", "CI005021"),
    ),
    # dates
    Malformed(
        "future date",
        _cell("etf_share", 50, "trade_date", date(2999, 1, 4)),
        (SHARE, "`trade_date` is in the future", "row 50", "2999-01-04"),
    ),
    Malformed(
        "before all markets",
        _cell("index_bar", 1, "trade_date", date(1970, 1, 1)),
        ("`trade_date` is before 1990-01-01",),
    ),
    Malformed(
        "Saturday",
        _cell("etf_share", 1, "trade_date", date(2025, 9, 27)),
        (SHARE, "`trade_date` is not a session of the Shanghai exchange in 1 row", "2025-09-27"),
    ),
    Malformed(
        "holiday",
        _cell("index_bar", 1, "trade_date", date(2025, 10, 1)),
        ("index_bar.parquet", "not a session", "2025-10-01"),
    ),
    Malformed(
        "known before it happened",
        _frame("etf_share", lambda f: f.assign(available_at=pd.Timestamp("2025-09-25 08:30"))),
        (SHARE, "`available_at` is before the day the row is about in 30 rows", "2025-09-26"),
    ),
    # rows together
    Malformed(
        "duplicated key",
        _frame("etf_share", lambda f: pd.concat([f, f[:1].assign(shares=2e9)])),
        (
            SHARE,
            "duplicated key (etf_code, trade_date) in 2 rows",
            f"row 1 ({FIRST_SHARE}, shares 1000000000.0)",
            "row 51",
        ),
    ),
    Malformed("high below low", _cell("etf_bar", 1, "high", 0.5), (BAR, "`high` is below `low` in 1 row", "high 0.5")),
    Malformed("close above high", _cell("etf_bar", 2, "close", 9.9), (BAR, "`close` is outside `low` … `high`", "9.9")),
    Malformed(
        "overlapping memberships",
        _cell("stock_industry", 1, "out_date", date(2020, 1, 3)),
        ("stock_industry.parquet", "stay begins before an earlier one", "row 2", "stock_code 000776.SZ"),
    ),
    Malformed(
        "two open memberships",
        _cell("stock_industry", 1, "out_date", None),
        ("stock_industry.parquet", "stay begins before an earlier one", "row 2"),
    ),
    Malformed(
        "out before in",
        _cell("stock_industry", 2, "out_date", date(2019, 1, 2)),
        ("stock_industry.parquet", "`out_date` is before `in_date` in 1 row", "row 2"),
    ),
    # mapping
    Malformed("mapping is no YAML", _mapping("etf_share: [columns"), ("mapping.yaml", "not valid YAML", "line 1")),
    Malformed("mapping in GBK", _mapping("etf_share: {columns: {份额: shares}}", "gbk"), ("mapping.yaml", "GBK")),
    Malformed("mapping of unknown dataset", _mapping("etf_shares: {}"), ("mapping.yaml", "unknown dataset etf_shares")),
    Malformed(
        "mapping to unknown column",
        _mapping("etf_share: {columns: {份额: share}}"),
        ("mapping.yaml", "etf_share", "unknown column share", "shares"),
    ),
    Malformed(
        "mapping from unknown column",
        _mapping("etf_share: {columns: {份额: shares}}"),
        (SHARE, "has no column 份额", "mapping.yaml", "found etf_code"),
    ),
    Malformed(
        "mapping with a word as factor",
        _mapping("etf_share: {units: {shares: 万}}"),
        ("mapping.yaml", "etf_share", "units.shares", "valid number"),
    ),
    Malformed("mapping with unknown entry", _mapping("etf_share: {unit: {}}"), ("mapping.yaml", "etf_share: unit:")),
    Malformed(
        "mapping to a missing file",
        _mapping("etf_share: {file: mine.csv}"),
        ("mapping.yaml", "etf_share: file mine.csv"),
    ),
    Malformed(
        "constant over a column",
        _mapping("industry_info: {constants: {scheme: sw}}"),
        ("industry_info.parquet", "has a column scheme", "mapping.yaml"),
    ),
    Malformed(
        "wrong factor",
        _mapping("etf_nav: {units: {unit_nav: 1000000}}"),
        ("etf_nav.parquet", "`unit_nav` is above 100000 in 50 rows"),
    ),
]
