"""The gate in front of the lake: a frame becomes canonical or is refused.

Here: what the contract says about any frame, whatever source it came from. Not here: reading files or calling vendors.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from etf_pipeline.contract import AVAILABLE_AT, EARLIEST_DATE, Column, Dataset, KnownFrom, SetSum, Stays
from etf_pipeline.core.calendar import SHANGHAI, last_calendar_session, moments, sessions_after, sessions_between
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.units import RowsNear, unit_faults
from etf_pipeline.sources.vocabulary import INDEX_COLUMN, in_series, normalised_codes, normalised_labels

CODE_PATTERN = r"[0-9A-Za-z]+\.[A-Z]{2,4}"
INDUSTRY_PATTERN = rf"CI\d{{6}}|{CODE_PATTERN}"
"""CITIC industries carry their prefix instead of a suffix."""

_DAY_TEXT = re.compile(
    r"([0-9]{4})(?:([0-9]{2})([0-9]{2})|([-/.])([0-9]{1,2})\4([0-9]{1,2})|年([0-9]{1,2})月([0-9]{1,2})日)"
    r"(?:[ T]0?0:00(?::00)?)?"
)
_SHOWN_ROWS = 5
PRICE_TOLERANCE = 1e-6
"""Vendors round prices."""

_Mask = npt.NDArray[np.bool_]


def canonical_frame(
    dataset: Dataset, frame: pd.DataFrame, where: str, today: date | None = None, judge_units: bool = True
) -> pd.DataFrame:
    """`frame` with exactly the contract's columns and types, sorted by key, `available_at` filled; a new frame.

    Types: `str` (missing is NaN), float64, naive datetime64[us] for dates, `boolean`, Asia/Shanghai timestamps for
    moments, UTC for `available_at`. Absent optional columns come back empty; unknown columns are left out. No rows
    in, no rows out.

    Raises:
        SourceError: `frame` breaks the contract; the message lists every violation as `examine` words them.
    """
    canonical, violations = examine(dataset, frame, where, today, judge_units=judge_units)
    if violations:
        raise SourceError("\n".join(violations))
    return canonical


def examine(
    dataset: Dataset,
    frame: pd.DataFrame,
    where: str,
    today: date | None = None,
    known: pd.DataFrame | None = None,
    rows_near: RowsNear | None = None,
    judge_units: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """The canonical form of `frame`, and all its violations of the contract; the form is usable only without any.

    Accepted: integers and decimals for numbers; dates, timestamps at midnight, whole numbers YYYYMMDD and text that
    begins with the year for dates (2026-09-30, 2026/9/30, 20260930, 2026年9月30日); timestamps and ISO text for moments
    and `available_at` (without zone: Shanghai). Empty text is missing.
    Nothing else is converted: a number written as text is a violation.

    Every violation names `where` (the file), the rule, how many rows break it and the first of them, and what to do.
    Rows are named by the index of `frame`: a default one counts from 1, a two-level one holds (file, row). Dates
    later than `today` (default: the current day in Shanghai) are violations unless the contract lets them lie ahead.
    Units are judged beside `known`, canonical rows of the dataset of other days, as `unit_faults` says, or not at all.
    """
    frame = _one_code_per_index(dataset, frame)
    findings = _Findings(dataset, frame, where)
    last_day = pd.Timestamp(today) if today else pd.Timestamp.now(SHANGHAI).normalize().tz_localize(None)
    absent = [c.name for c in dataset.columns.values() if c.name not in frame and not c.optional]
    if absent:
        findings.add_text(
            f"required column missing: {', '.join(absent)}; found {', '.join(map(str, frame.columns)) or 'none'}. "
            "Add the column, or map yours to its name"
        )
    values = {c.name: _examine_column(c, frame, findings, last_day) for c in dataset.columns.values()}
    canonical = pd.DataFrame(values, index=pd.RangeIndex(len(frame)))
    order, is_repeated = _order(_ranks(canonical, dataset.key))
    if not absent:
        _examine_rows(dataset, canonical, is_repeated, findings)
        if judge_units:
            for fault in unit_faults(dataset, canonical, known, rows_near):
                findings.add(fault.rule, fault.rows, fault.advice, [fault.column])
        if dataset.known_from is not None:
            canonical = _examine_available_at(dataset, dataset.known_from, frame, canonical, findings)
    if findings.violations:
        return canonical, findings.violations
    if order is not None:
        canonical = canonical.take(order)
    return canonical.reset_index(drop=True), []


def _one_code_per_index(dataset: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without rows of an index under another code that are there under the code used here too."""
    if INDEX_COLUMN not in dataset.key or any(name not in frame for name in dataset.key):
        return frame
    codes = frame[INDEX_COLUMN]
    used = normalised_codes(_texts(_plain(codes)), INDEX_COLUMN)
    is_other = (used != _plain(codes)).to_numpy() & used.notna().to_numpy()
    if not is_other.any():
        return frame
    keys = frame[list(dataset.key)].reset_index(drop=True).assign(**{INDEX_COLUMN: used}).astype("str")
    names = pd.Series(pd.util.hash_pandas_object(keys, index=False).to_numpy())
    is_double = is_other & names.isin(names[~is_other]).to_numpy()
    if not is_double.any():
        return frame
    counted = isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0
    return (frame.set_axis(pd.RangeIndex(1, len(frame) + 1), axis="index") if counted else frame)[~is_double]


def _ranks(frame: pd.DataFrame, key: Sequence[str]) -> np.ndarray:
    """Whole numbers in the order of the rows' keys, equal for equal keys; a missing value comes last.

    Sorting and comparing texts themselves takes seconds where there are millions.
    """
    ranks = np.zeros(len(frame), dtype="int64")
    for name in key:
        codes, distinct = pd.factorize(frame[name], sort=True)
        ranks = ranks * (len(distinct) + 1) + np.where(codes < 0, len(distinct), codes)
    return ranks


def _order(ranks: np.ndarray) -> tuple[np.ndarray | None, _Mask]:
    """Positions that sort the ranks, None where they are sorted; and which of them are there more than once."""
    order = None if (np.diff(ranks) >= 0).all() else np.argsort(ranks, kind="stable")
    ordered = ranks if order is None else ranks[order]
    is_next = ordered[1:] == ordered[:-1]
    is_repeated = np.zeros(len(ranks), dtype=bool)
    if is_next.any():
        is_repeated[slice(None) if order is None else order] = np.append(is_next, False) | np.append(False, is_next)
    return order, is_repeated


def with_available_at(dataset: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `available_at` (UTC) filled from the contract's default lag where it is absent or empty.

    Reference datasets without a lag are returned as they are.
    """
    if dataset.known_from is None:
        return frame
    default = _default_available_at(dataset.known_from, frame)
    given = frame[AVAILABLE_AT] if AVAILABLE_AT in frame else pd.Series(pd.NaT, frame.index, dtype=default.dtype)
    return frame.assign(**{AVAILABLE_AT: given.fillna(default)})


def _default_available_at(rule: KnownFrom, frame: pd.DataFrame) -> pd.Series:
    known = pd.Series(moments(sessions_after(frame[rule.column], rule.sessions), rule.time), index=frame.index)
    if rule.otherwise is not None:
        known = known.fillna(_default_available_at(rule.otherwise, frame))
    return known


def public_from(dataset: Dataset, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Moments (UTC) from which rows about these days are known by the contract's default; NaT beyond the calendar.

    For datasets whose facts are announced it is the lag that stands in for a missing announcement.
    """
    rule = dataset.known_from
    while rule is not None and rule.column != dataset.date_column:
        rule = rule.otherwise
    assert rule is not None, f"{dataset.name} has no lag after its days"
    return moments(sessions_after(days, rule.sessions), rule.time)


def calendar_rows(start: date, end: date) -> pd.DataFrame:
    """`trading_calendar` from `start` to `end`: the sessions of the Shanghai exchange.

    Raises:
        ValueError: `end` lies beyond the days the calendar knows.
    """
    sessions = sessions_between(start, end)
    return pd.DataFrame({"trade_date": sessions, "is_open": pd.array([True] * len(sessions), dtype="boolean")})


def outside_set_sum(rule: SetSum, frame: pd.DataFrame) -> pd.Series:
    """Sum of its set for every row whose set sums outside the bounds; NaN for all other rows.

    Sets with a missing value have no sum and are NaN too.
    """
    sums = frame.groupby(list(rule.columns))[rule.of].transform("sum", skipna=False)
    # bounds are inclusive: without rounding, 0.99 made of many parts could fail by a float's last digit
    return sums.where(~sums.round(9).between(rule.minimum, rule.maximum))


def off_session(days: pd.Series) -> pd.Series:
    """Whether each day is known to be no session of the Shanghai exchange; false for NaT and beyond the calendar."""
    last = last_calendar_session()
    return days.notna() & (days <= pd.Timestamp(last)) & ~days.isin(sessions_between(EARLIEST_DATE, last))


class _Findings:
    """Violations of one frame, worded for the person who has to mend the file."""

    def __init__(self, dataset: Dataset, raw: pd.DataFrame, where: str) -> None:
        self.violations: list[str] = []
        self._raw = raw
        counted = isinstance(raw.index, pd.RangeIndex) and raw.index.start == 0
        self._rows = pd.RangeIndex(1, len(raw) + 1) if counted else raw.index
        self._where = where
        self._key = [name for name in dataset.key if name in raw]

    def add_text(self, text: str) -> None:
        self.violations.append(f"{self._where}: {text}.")

    def add(
        self, rule: str, broken: pd.Series | _Mask, advice: str, show: Sequence[str] = (), noun: str = "row"
    ) -> None:
        """Note that `rule` fails where `broken`; of those rows the key and the columns `show` are printed."""
        positions = np.flatnonzero(broken)
        if not len(positions):
            return
        columns = list(dict.fromkeys([*self._key, *(c for c in show if c in self._raw)]))
        rows = "; ".join(self._describe(int(p), columns) for p in positions[:_SHOWN_ROWS])
        more = "; …" if len(positions) > _SHOWN_ROWS else ""
        count = f"{len(positions):,} {noun}{'s' if len(positions) > 1 else ''}"
        self.add_text(f"{rule} in {count}: {rows}{more}. {advice}")

    def _describe(self, position: int, columns: Sequence[str]) -> str:
        label = self._rows[position]
        name = f"{label[0]} row {label[1]}" if isinstance(label, tuple) else f"row {label}"
        cells = ", ".join(f"{c} {_show(self._raw[c].iloc[position])}" for c in columns)
        return f"{name} ({cells})"


def _show(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "empty"
    if isinstance(value, datetime) and value.time() == time.min and value.tzinfo is None:
        return f"{value:%Y-%m-%d}"
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)


def _examine_column(column: Column, frame: pd.DataFrame, findings: _Findings, last_day: pd.Timestamp) -> pd.Series:
    convert, rule, advice = _TYPES[column.type]
    if column.name not in frame:
        # converted empty and then lengthened: value by value, millions of missing ones would take seconds
        return convert(pd.Series(dtype=object)).reindex(pd.RangeIndex(len(frame)))
    raw = _plain(frame[column.name])
    values = convert(raw)
    unreadable = values.isna() & raw.notna()
    if column.type in ("code", "industry"):
        values = normalised_codes(values, column.name)
    elif column.type == "label":
        values = normalised_labels(column, values)
    findings.add(f"`{column.name}` is {rule}", unreadable, advice, [column.name])
    if not column.nullable:
        missing = values.isna() & ~unreadable
        findings.add(f"`{column.name}` is empty", missing, "Fill the value or leave the row out", [column.name])
    if column.type == "number":
        _examine_numbers(column, values, findings)
    elif column.type == "date":
        _examine_days(column, values, findings, last_day)
    elif column.type in ("code", "industry"):
        _examine_codes(column, values, findings)
    elif column.allowed is not None:
        words = ", ".join(column.allowed)
        wrong = values.notna() & ~values.isin(list(column.allowed))
        findings.add(f"`{column.name}` is none of {words}", wrong, f"Write one of these: {words}", [column.name])
    return values


def _plain(raw: pd.Series) -> pd.Series:
    """The column without its file's index and categories, and with empty text as missing."""
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    raw = raw.reset_index(drop=True)
    if isinstance(raw.dtype, pd.StringDtype) or raw.dtype == object:
        raw = raw.mask(raw == "")
    return raw


def _examine_numbers(column: Column, values: pd.Series, findings: _Findings) -> None:
    finite = np.isfinite(values)
    name, show = f"`{column.name}`", [column.name]
    advice = "Correct the values or leave the rows out"
    findings.add(f"{name} is infinite", values.notna() & ~finite, advice, show)
    if column.minimum is not None:
        findings.add(f"{name} is below {column.minimum:g}", finite & (values < column.minimum), advice, show)
    if column.above is not None:
        findings.add(f"{name} is not above {column.above:g}", finite & (values <= column.above), advice, show)
    if column.maximum is not None:
        if column.unit and column.unit.startswith("fraction"):
            advice = f"If these are percent, convert them to fractions (mapping.yaml: units: {{{column.name}: 0.01}})"
        findings.add(f"{name} is above {column.maximum:g}", finite & (values > column.maximum), advice, show)


def _examine_days(column: Column, values: pd.Series, findings: _Findings, last_day: pd.Timestamp) -> None:
    name, show = f"`{column.name}`", [column.name]
    advice = "Correct the dates or leave the rows out"
    ahead = values > last_day
    if not column.future:
        findings.add(f"{name} is in the future (today is {last_day:%Y-%m-%d})", ahead, advice, show)
    findings.add(f"{name} is before {EARLIEST_DATE}", values < pd.Timestamp(EARLIEST_DATE), advice, show)
    if column.session:
        closed = off_session(values) & ~ahead
        findings.add(f"{name} is not a session of the Shanghai exchange", closed, advice, show)


def _examine_codes(column: Column, values: pd.Series, findings: _Findings) -> None:
    pattern = CODE_PATTERN if column.type == "code" else INDUSTRY_PATTERN
    codes = values.drop_duplicates().dropna()
    wrong = values.isin(codes[~codes.str.fullmatch(pattern).astype(bool)])
    bare = wrong & ~values.str.contains(".", regex=False).fillna(True).astype(bool)
    name = f"`{column.name}`"
    example = "510300.SH, 000905.CSI" if column.type == "code" else "801080.SI, CI005021"
    advice = f"Write codes like {example}"
    findings.add(f"{name} is a code without exchange suffix", bare, advice, [column.name])
    findings.add(f"{name} is not a code with an upper-case exchange suffix", wrong & ~bare, advice, [column.name])
    if column.suffixes is not None:
        known = [code for code in codes if code.rpartition(".")[2] in column.suffixes]
        strange = values.notna() & ~wrong & ~values.isin(known)
        words = ", ".join(f".{suffix}" for suffix in column.suffixes)
        findings.add(f"{name} has none of the suffixes {words}", strange, "Correct the suffix", [column.name])
    odd = values.isin(codes[~in_series(codes, column.name)]) & ~wrong
    findings.add(f"{name} has a number of another exchange", odd, "Correct the suffix", [column.name])


def _examine_rows(dataset: Dataset, frame: pd.DataFrame, is_repeated: _Mask, findings: _Findings) -> None:
    """Rules about several columns or several rows of a frame whose columns are converted."""
    key = list(dataset.key)
    complete = frame[key].notna().all(axis="columns")
    numbers = [c.name for c in dataset.columns.values() if c.type == "number"]
    findings.add(
        f"duplicated key ({', '.join(key)})",
        complete & is_repeated,
        "Keep one row a key",
        numbers,
    )
    if dataset.set_sum is not None:
        _examine_set_sum(dataset.set_sum, frame, findings)
    if dataset.stays is not None:
        _examine_stays(dataset.stays, frame, findings)
    if {"high", "low", "close"} <= dataset.columns.keys():
        low, high = frame["low"] * (1 - PRICE_TOLERANCE), frame["high"] * (1 + PRICE_TOLERANCE)
        advice = "Correct the prices or leave the rows out"
        findings.add("`high` is below `low`", high < low, advice, ["high", "low"])
        outside = (high >= low) & ((frame["close"] > high) | (frame["close"] < low))
        findings.add("`close` is outside `low` … `high`", outside, advice, ["low", "close", "high"])


def _examine_set_sum(rule: SetSum, frame: pd.DataFrame, findings: _Findings) -> None:
    sums = outside_set_sum(rule, frame)
    firsts = sums.notna() & ~frame.duplicated(list(rule.columns))
    wrong = ", ".join(f"{s:.6g}" for s in sums[firsts].head(_SHOWN_ROWS))
    bounds, group = f"{rule.minimum:g}–{rule.maximum:g}", " and ".join(rule.columns)
    findings.add(
        f"`{rule.of}` sums to {wrong} instead of {bounds} over one {group}",
        firsts,
        f"Complete each set (its first row is shown); `{rule.of}` is a fraction, not percent",
        [rule.of],
        noun="set",
    )


def _examine_stays(rule: Stays, frame: pd.DataFrame, findings: _Findings) -> None:
    show = [rule.start, rule.end]
    advice = "Correct the dates; a stay ends on the first day that no longer belongs to it"
    ends_early = frame[rule.end] < frame[rule.start]
    findings.add(f"`{rule.end}` is before `{rule.start}`", ends_early, advice, show)
    ordered = frame[~ends_early].sort_values([*rule.columns, rule.start], kind="stable")
    group = [ordered[c] for c in rule.columns]
    ends = ordered[rule.end].fillna(pd.Timestamp.max.as_unit("us"))
    ended = ends.groupby(group).cummax().groupby(group).shift()
    overlaps = (ordered[rule.start] < ended).reindex(frame.index, fill_value=False)
    findings.add(
        f"stay begins before an earlier one of the same {' and '.join(rule.columns)} has ended", overlaps, advice, show
    )


def _examine_available_at(
    dataset: Dataset, known_from: KnownFrom, raw: pd.DataFrame, frame: pd.DataFrame, findings: _Findings
) -> pd.DataFrame:
    """The frame with `available_at`, given or by default."""
    if AVAILABLE_AT in raw:
        column = _plain(raw[AVAILABLE_AT])
        given = _moments(column).dt.tz_convert("UTC")
        _, rule, advice = _TYPES["moment"]
        findings.add(f"`{AVAILABLE_AT}` is {rule}", given.isna() & column.notna(), advice, [AVAILABLE_AT])
        if not known_from.ahead:
            day = frame[known_from.column]
            if known_from.otherwise is not None:
                day = day.fillna(frame[known_from.otherwise.column])
            early = given < pd.Series(moments(day, time.min), given.index)
            advice = "Give the moment the fact became public; leave it empty for the usual lag"
            findings.add(f"`{AVAILABLE_AT}` is before the day the row is about", early, advice, [AVAILABLE_AT])
        frame = frame.assign(**{AVAILABLE_AT: given})
    filled = with_available_at(dataset, frame)
    if not findings.violations:  # a wrong date also has no moment of knowledge: one complaint is enough
        unknown = filled[AVAILABLE_AT].isna()
        findings.add(
            f"the calendar of exchange-calendars ends on {last_calendar_session()}, before the day of first knowledge",
            unknown,
            f"Upgrade it (pip install -U exchange-calendars), or give `{AVAILABLE_AT}`",
        )
    return filled


def _texts(raw: pd.Series) -> pd.Series:
    if isinstance(raw.dtype, pd.StringDtype):
        return raw.astype("str")
    return pd.Series([v if isinstance(v, str) else None for v in raw], raw.index, dtype="str")


def numbers_of(raw: pd.Series) -> pd.Series:
    """The column as float64, whatever type its numbers have; NaN where a value is no number."""
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    if pd.api.types.is_numeric_dtype(raw) and not pd.api.types.is_bool_dtype(raw):
        return pd.Series(raw.to_numpy(dtype="float64", na_value=np.nan), raw.index)
    return pd.Series([_number(v) for v in raw], raw.index, dtype="float64")


def _number(value: Any) -> float:
    is_number = isinstance(value, Real | Decimal) and not isinstance(value, bool | np.bool_)
    return float(value) if is_number else np.nan


def days_of(raw: pd.Series) -> pd.Series:
    """The column as naive midnights (datetime64[us]); NaT where a value is not a plain calendar day."""
    if isinstance(raw.dtype, pd.DatetimeTZDtype):
        raw = raw.dt.tz_convert(SHANGHAI).dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(raw):
        return raw.where(raw == raw.dt.normalize()).astype("datetime64[us]")
    return pd.Series(np.array([_day(v) for v in raw], dtype="datetime64[us]"), raw.index)


def _day(value: Any) -> date | None:
    if isinstance(value, str):
        return _day_of_text(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return _day_of_text(str(value))
    if value is pd.NaT or not isinstance(value, date):
        return None
    if isinstance(value, datetime):
        return value.date() if value.tzinfo is None and value.time() == time.min else None
    return value


@lru_cache(maxsize=1 << 15)
def _day_of_text(text: str) -> date | None:
    """Day of a text that leaves no doubt which of its numbers is the year, the month and the day."""
    match = _DAY_TEXT.fullmatch(text.strip())
    if not match:
        return None
    try:
        return date(*(int(part) for part in match.groups() if part and part.isdecimal()))
    except ValueError:
        return None


def _flags(raw: pd.Series) -> pd.Series:
    if pd.api.types.is_bool_dtype(raw):
        return raw.astype("boolean")
    return pd.Series([v if isinstance(v, bool | np.bool_) else None for v in raw], raw.index, dtype="boolean")


def _moments(raw: pd.Series) -> pd.Series:
    if isinstance(raw.dtype, pd.DatetimeTZDtype):
        return raw.dt.tz_convert(SHANGHAI).dt.as_unit("us")
    if not pd.api.types.is_datetime64_dtype(raw):
        known = raw.astype(object).where(np.array([isinstance(v, str | datetime) for v in raw], dtype=bool))
        zoned = known.astype("str").str.contains(r"(?:Z|[+-]\d\d:?\d\d)$").fillna(False).astype(bool)
        read = pd.to_datetime(known.where(zoned), format="ISO8601", errors="coerce", utc=True).dt.tz_convert(SHANGHAI)
        raw = pd.to_datetime(known.where(~zoned), format="ISO8601", errors="coerce")
        return read.dt.as_unit("us").fillna(_localised(raw))
    return _localised(raw)


def _localised(naive: pd.Series) -> pd.Series:
    return naive.astype("datetime64[us]").dt.tz_localize(SHANGHAI, ambiguous="NaT", nonexistent="NaT")


_TYPES: dict[str, tuple[Callable[[pd.Series], pd.Series], str, str]] = {
    "code": (_texts, "not text", "Store codes as text with their suffix"),
    "industry": (_texts, "not text", "Store codes as text"),
    "label": (_texts, "not text", "Store the column as text"),
    "text": (_texts, "not text", "Store the column as text"),
    "number": (numbers_of, "not a number", "Store plain numbers: no separators, units or words"),
    "date": (
        days_of,
        "not a plain calendar day",
        "Store a date, a timestamp at midnight, or text such as YYYY-MM-DD, YYYYMMDD or YYYY/M/D",
    ),
    "flag": (_flags, "not true or false", "Store true or false"),
    "moment": (_moments, "not a timestamp", "Store a timestamp or ISO text; without zone it is Shanghai time"),
}
"""Per column type: its conversion (unreadable becomes missing), and how a violation is worded."""
