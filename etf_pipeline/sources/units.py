"""Whether numbers are in the contract's units, judged per day and exchange: a vendor changes units of whole days.

Pure functions of canonical columns. Three rules: medians within the contract's bounds; no day on which most of an
exchange's instruments step by the same power of ten; money traded over shares traded near the price.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from etf_pipeline.contract import Column, Dataset

NEIGHBOUR_DAYS = 100
"""A value is compared with the one before it if that is no older; over longer gaps funds grow tenfold. Own choice."""
STEP_TOLERANCE = 0.2
"""Decades by which a step may miss a power of ten and still be one of unit. Own choice."""
STEP_QUORUM = 0.5
"""A step of so many of an exchange's instruments is one of unit. Own choice."""
FEW = 3
"""Of fewer instruments all have to step."""
UNUSUAL = 8.0
"""Turnover moves freely: its step is one of unit only if so many times the usual one. Own choice; on 2016-01-08, after
the market had been halted, turnover of all ETFs rose tenfold."""
USUAL_STEP = 0.2
"""Decades that turnover usually moves from day to day, where too few steps are there to tell."""
PRICE_DECADES = 0.5
"""Decades by which a day's money per share traded may miss the price; of 1.1 million real rows none misses by 0.05."""

_SHOWN = 3

_Mask = npt.NDArray[np.bool_]

RowsNear = Callable[[str, pd.Timestamp], pd.DataFrame | None]
"""Canonical rows of a dataset of the days around one; None where it is absent."""

_EVENT_DAYS = 15
_OF_SHARES = {("etf_share", "shares"): 1, ("etf_nav", "unit_nav"): -1, ("etf_bar", "close"): -1}
"""What steps with a split: with the number of new shares per old, or against it."""


@dataclass(frozen=True)
class UnitFault:
    """Numbers of `column` in another unit: the rule they break, what to do, and which rows are shown."""

    column: str
    rule: str
    advice: str
    rows: _Mask


def unit_faults(
    dataset: Dataset,
    frame: pd.DataFrame,
    known: pd.DataFrame | None = None,
    rows_near: RowsNear | None = None,
) -> list[UnitFault]:
    """What of `frame`, canonical columns in any order of rows, is in another unit than the contract's.

    `known` are rows of the same dataset before and after those of `frame`; they are compared with, not judged. An
    exchange's only fund may step by ten where `rows_near`, asked for nothing else, shows that it was split.
    """
    if frame.empty:
        return []
    groups = _Groups(dataset, frame)
    faults = [fault for column in dataset.columns.values() for fault in _outside_bounds(column, frame, groups)]
    if {"volume", "amount", "close"} <= dataset.columns.keys():
        faults += _far_from_price(frame, groups)
    stepping = [c for c in dataset.columns.values() if c.steps]
    if stepping and dataset.date_column:
        steps = _Steps(dataset, frame, groups, known)
        faults += [fault for column in stepping for fault in steps.faults(column, rows_near)]
    return faults


def _is_split(dataset: str, column: str, rows_near: RowsNear, code: str, day: pd.Timestamp, power: int) -> bool:
    """Whether other datasets show a split of the fund of about that day by which the column steps by `power`."""
    if (dataset, column) not in _OF_SHARES:
        return False
    new_per_old = power * _OF_SHARES[dataset, column]
    splits = rows_near("etf_split", day)
    if splits is not None:
        listed = splits[(splits["etf_code"] == code) & ((splits["ex_date"] - day).abs().dt.days <= _EVENT_DAYS)]
        if (np.log10(listed["new_per_old"]) - new_per_old).abs().le(STEP_TOLERANCE).any():
            return True
    for (other, name), sign in _OF_SHARES.items():
        rows = rows_near(other, day) if other != dataset else None
        if rows is None or name not in rows:
            continue
        near = rows[(rows["etf_code"] == code) & ((rows["trade_date"] - day).abs().dt.days <= _EVENT_DAYS)]
        steps = np.log10(near.sort_values("trade_date")[name].where(lambda values: values > 0)).dropna().diff()
        if (steps - sign * new_per_old).abs().le(STEP_TOLERANCE).any():
            return True
    return False


class _Groups:
    """Rows by day and exchange, numbered; datasets without days are one day, codes without suffix one exchange."""

    def __init__(self, dataset: Dataset, frame: pd.DataFrame) -> None:
        day = dataset.date_column
        nowhere = np.zeros(len(frame), dtype="int64")
        days, self._days = pd.factorize(frame[day], sort=True) if day else (nowhere, pd.Index([None]))
        code = next((name for name in dataset.key if dataset.columns[name].type in ("code", "industry")), None)
        if code:
            codes, distinct = pd.factorize(frame[code])
            endings = pd.Index(distinct).astype("str").str.extract(r"(\.\w+)$")[0].fillna("")
            suffixes, self.exchanges = pd.factorize(endings, sort=True)
            self.instruments, self.codes = codes.astype("int64"), pd.Index(distinct)
            exchanges = np.append(suffixes, -1)[codes]
        else:
            self.instruments, self.codes = nowhere, pd.Index([""])
            exchanges, self.exchanges = nowhere, pd.Index([""])
        self.exchange = exchanges.astype("int64")
        self.of = days.astype("int64") * len(self.exchanges) + self.exchange
        self.count = len(self._days) * len(self.exchanges)
        # rows without day or code are refused for that
        self.usable: _Mask = (days >= 0) & (self.exchange >= 0)

    def day(self, group: int) -> pd.Timestamp | None:
        """Day of a group; None where the dataset has none."""
        return self._days[group // len(self.exchanges)]

    def name(self, group: int) -> str:
        """A group in words, such as `2026-09-30 (.SH)`."""
        day, exchange = self.day(group), self.exchanges[group % len(self.exchanges)]
        return " ".join([f"{day:%Y-%m-%d}"] * (day is not None) + [f"({exchange})"] * bool(exchange)) or "all rows"

    def medians(self, values: npt.NDArray[np.float64]) -> pd.Series:
        """Median of the finite values by group, for groups that have any."""
        there = np.isfinite(values) & self.usable
        return pd.Series(values[there]).groupby(self.of[there]).median()


def _outside_bounds(column: Column, frame: pd.DataFrame, groups: _Groups) -> Iterator[UnitFault]:
    low, high = column.median_minimum, column.median_maximum
    if low is None and high is None:
        return
    values = frame[column.name].to_numpy(dtype="float64")
    medians = groups.medians(np.where(values > 0, values, np.nan))
    unit = column.unit or ""
    wan = "万" + {"CNY": "元"}.get(unit, unit)
    for bound, is_out, side, means, factor in (
        (low, medians < (-np.inf if low is None else low), "below", f"{wan} instead of {unit}", 10_000),
        (high, medians > (np.inf if high is None else high), "above", f"{unit} that were multiplied once more", 0.0001),
    ):
        out = medians[is_out]
        if bound is None or out.empty:
            continue
        yield UnitFault(
            column.name,
            f"median of `{column.name}` is {out.iloc[0]:,.10g} on {_listed([groups.name(g) for g in out.index])}, "
            f"{side} {bound:,.10g}: looks like {means}",
            f"Convert the unit (mapping.yaml: units: {{{column.name}: {factor:g}}}, or without a factor that is there)",
            np.isin(groups.of, out.index),
        )


def _far_from_price(frame: pd.DataFrame, groups: _Groups) -> Iterator[UnitFault]:
    """Days of an exchange, and instruments, whose money per share traded is far from the price."""
    close = frame["close"].to_numpy(dtype="float64")
    stand_in = frame["adjusted_close"].to_numpy(dtype="float64") if "adjusted_close" in frame else close
    price = np.where(np.isnan(close), stand_in, close)
    with np.errstate(divide="ignore", invalid="ignore"):
        paid = frame["amount"].to_numpy(dtype="float64") / frame["volume"].to_numpy(dtype="float64")
        decades = np.log10(paid / price)
    medians = groups.medians(decades)
    out = medians[medians.abs() > PRICE_DECADES]
    if len(out):
        yield _turnover_fault(out.iloc[0], [groups.name(g) for g in out.index], np.isin(groups.of, out.index))
        return
    there = np.isfinite(decades) & ~np.isnan(close) & (groups.instruments >= 0)
    of_codes = pd.Series(decades[there]).groupby(groups.instruments[there]).agg(["median", "size"])
    odd = of_codes[(of_codes["median"].abs() > PRICE_DECADES) & (of_codes["size"] >= FEW)]
    if len(odd):
        names = [str(groups.codes[place]) for place in odd.index]
        yield _turnover_fault(odd["median"].iloc[0], names, np.isin(groups.instruments, odd.index))


def _turnover_fault(decades: float, names: list[str], rows: _Mask) -> UnitFault:
    power = round(decades) or int(np.sign(decades))
    likely = {
        2: "`volume` looks like 手 instead of 份 (units: {volume: 100})",
        4: "`volume` looks like 万份 instead of 份 (units: {volume: 10000})",
        8: "`volume` looks like 亿份 instead of 份 (units: {volume: 100000000})",
        -1: "`volume` looks like 手 and `amount` like 千元 (units: {volume: 100, amount: 1000})",
        -3: "`amount` looks like 千元 instead of CNY (units: {amount: 1000})",
        -4: "`amount` looks like 万元 instead of CNY (units: {amount: 10000})",
        -8: "`amount` looks like 亿元 instead of CNY (units: {amount: 100000000})",
    }.get(power, f"`volume` or `amount` is in another unit, by a factor of {_factor(power)}")
    return UnitFault(
        "amount" if power < 0 else "volume",
        f"`amount` over `volume` is {10**decades:,.4g} times the price on {_listed(names)}: {likely}",
        "Convert the unit in mapping.yaml, or correct the rows",
        rows,
    )


class _Steps:
    """Every instrument's values in the order of days, those known beside the frame's own among them."""

    def __init__(self, dataset: Dataset, frame: pd.DataFrame, groups: _Groups, known: pd.DataFrame | None) -> None:
        assert dataset.date_column
        stepping = [column.name for column in dataset.columns.values() if column.steps]
        names = list(dict.fromkeys([*dataset.key, dataset.date_column, *stepping]))
        self._dataset = dataset.name
        self._own_rows = len(frame)
        self._frame, self._groups = frame, groups
        if known is not None and len(known):
            self._frame = pd.concat([frame[names], known[names]], ignore_index=True)
            self._groups = _Groups(dataset, self._frame)
        self._days = self._frame[dataset.date_column].to_numpy(dtype="datetime64[D]").astype("int64")
        others = [name for name in dataset.key if name != dataset.date_column]
        self._instruments = self._groups.instruments
        if len(others) > 1:
            self._instruments = self._frame.groupby(others, sort=False).ngroup().to_numpy(dtype="int64")
        self._order = np.lexsort((self._days, self._instruments))

    def faults(self, column: Column, rows_near: RowsNear | None) -> Iterator[UnitFault]:
        """The fault that instruments' values of `column` step together by one power of ten, if they do."""
        steps, rows = self._steps(column.name)
        found = self._free(steps) if column.steps == "freely" else self._steady(steps, rows, column.steps == "never")
        told: list[str] = []
        shown: list[int] = []
        for first, back in _stretches(found, len(self._groups.exchanges)):
            day = self._groups.day(first.group)
            assert day is not None
            is_alone = back is None and first.steps == 1 and abs(first.power) == 1
            if (
                is_alone
                and rows_near is not None
                and _is_split(self._dataset, column.name, rows_near, self._code(first.after), day, first.power)
            ):
                continue
            told.append(self._in_words(first, back))
            shown += [first.before, first.after]
        if told:
            own = np.zeros(self._own_rows, dtype=bool)
            own[[row for row in shown if row < self._own_rows]] = True
            yield UnitFault(
                column.name,
                f"`{column.name}` changes its unit: {_listed(told, '; ')}",
                "Bring all days and exchanges to one unit: convert these rows, or export them again",
                own,
            )

    def _code(self, row: int) -> str:
        return str(self._groups.codes[self._groups.instruments[row]])

    def _steps(self, column: str) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
        """Steps of the column in decades, and by group how many rows have a value."""
        values = self._frame[column].to_numpy(dtype="float64")
        there = np.isfinite(values) & (values > 0) & self._groups.usable & (self._instruments >= 0)
        rows = self._order[there[self._order]]
        before, after = rows[:-1], rows[1:]
        is_pair = self._instruments[before] == self._instruments[after]
        is_pair &= self._days[after] - self._days[before] <= NEIGHBOUR_DAYS
        before, after = before[is_pair], after[is_pair]
        decades = np.log10(values[after] / values[before])
        steps = pd.DataFrame({"group": self._groups.of[after], "before": before, "after": after, "decades": decades})
        return steps, np.bincount(self._groups.of[there], minlength=self._groups.count)

    def _steady(self, steps: pd.DataFrame, rows: npt.NDArray[np.int64], is_each: bool) -> pd.DataFrame:
        """Groups most of whose values step by one power of ten; with `is_each`, in which any does."""
        power = np.rint(steps["decades"])
        of_unit = steps[(power != 0) & ((steps["decades"] - power).abs() <= STEP_TOLERANCE)]
        found = _by_group(of_unit.assign(power=power), self._own_rows)
        if found.empty or is_each:
            return found.assign(steps=found["moved"])
        compared = np.bincount(steps["group"], minlength=self._groups.count)[found["group"]]
        is_most = np.where(compared < FEW, found["moved"] == compared, found["moved"] >= STEP_QUORUM * compared)
        # of many rows, some that are compared say little about the others
        speaks = (found["moved"] >= FEW) | (2 * found["moved"] >= rows[found["group"]])
        return found.assign(steps=compared)[is_most & speaks]

    def _free(self, steps: pd.DataFrame) -> pd.DataFrame:
        """Groups whose median steps by a power of ten that is out of all proportion to the exchange's usual step."""
        exchanges = len(self._groups.exchanges)
        large = steps["decades"].abs() >= 1 - STEP_TOLERANCE
        compared = np.bincount(steps["group"], minlength=self._groups.count)
        is_most = np.bincount(steps["group"][large], minlength=self._groups.count) >= STEP_QUORUM * compared
        some = steps[is_most[steps["group"]]]
        median = some.groupby("group")["decades"].transform("median")
        of_exchange = steps["decades"].abs().groupby(steps["group"] % exchanges).agg(["median", "size"])
        usual = of_exchange["median"].where(of_exchange["size"] >= FEW, USUAL_STEP)
        power = np.rint(median)
        is_far = (power != 0) & (median.abs() > UNUSUAL * (some["group"] % exchanges).map(usual))
        alone = compared[some["group"]] < FEW
        is_far &= (median - power).abs() <= np.where(alone, STEP_TOLERANCE / 2, 0.5)
        found = _by_group(some[is_far].assign(power=power), self._own_rows)
        return found.assign(steps=compared[found["group"]])

    def _in_words(self, first: "_Step", back: "_Step | None") -> str:
        """Such as `4 of 4 values are 1/10,000 of those before on 2025-10-10 (.SH), and back on 2025-10-13`."""
        until = self._groups.day(back.group) if back is not None else None
        after = f", and back to the old unit on {until:%Y-%m-%d}" if until is not None else ""
        before = pd.Timestamp(self._days[first.before], unit="D")
        return (
            f"{first.moved} of {first.steps} values are {_factor(int(first.power))} of those of {before:%Y-%m-%d} "
            f"on {self._groups.name(first.group)}{after}"
        )


class _Step(NamedTuple):
    """Values of one group that step by one power of ten: how many of how many, and the first of them."""

    group: int
    power: int
    moved: int
    steps: int
    before: int
    after: int


def _by_group(steps: pd.DataFrame, own_rows: int) -> pd.DataFrame:
    """Steps with a `power` by group and power, without those between rows that are all known already."""
    is_own = (steps["before"] < own_rows) | (steps["after"] < own_rows)
    return (
        steps.assign(is_own=is_own)
        .sort_values("is_own", ascending=False, kind="stable")
        .groupby(["group", "power"], as_index=False)
        .agg(moved=("after", "size"), before=("before", "first"), after=("after", "first"), is_own=("is_own", "any"))
        .query("is_own")
    )


def _stretches(found: pd.DataFrame, exchanges: int) -> Iterator[tuple[_Step, _Step | None]]:
    """Steps of each exchange in time, each with the one by which it goes back, if that is the next."""
    found = found.assign(exchange=found["group"] % exchanges).sort_values(["exchange", "group"])
    steps = [_Step(*map(int, row)) for row in found[list(_Step._fields)].itertuples(index=False)]
    while steps:
        first = steps.pop(0)
        goes_back = bool(steps) and steps[0].power == -first.power and (steps[0].group - first.group) % exchanges == 0
        yield first, steps.pop(0) if goes_back else None


def _factor(power: int) -> str:
    return f"{10**power:,}" if power > 0 else f"1/{10**-power:,}"


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
