"""What is due when: the raw datasets in groups that become public together, and the moment each group is asked for.

Groups follow from the contract's `known_from`; only the clock times of the ticks are decided here. Not here: Dagster
(`automation.py`) and the current time, which callers pass in. All moments are UTC, all days those of Shanghai.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Literal

import pandas as pd

from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.core.calendar import SHANGHAI, last_calendar_session, moments, sessions_after, sessions_between

Period = Literal["day", "month", "quarter"]

EVENING = time(20, 15)
"""After the last file of the same evening: 17:00 bars, 19:00 market values, 20:00 five-minute bars."""
MORNING = time(8, 35)
"""After the exchanges' T+1 files of 08:30, before the decision at 09:00."""

_REPORT_SESSIONS = 15
"""Quarterly reports with the ten largest positions are out within fifteen working days."""
_LATE_REPORT_SESSIONS = 20
"""Some funds report a few days late."""
_FULL_REPORT_SESSIONS = 60
"""Semi-annual and annual reports with all positions and holders are out within two and three months."""
_MONTHS = {"month": 1, "quarter": 3}


@dataclass(frozen=True)
class Intake:
    """Datasets that are asked for together: `sessions` sessions after the last day of their partition, at `at`."""

    name: str
    period: Period
    datasets: tuple[str, ...]
    sessions: int
    at: time
    repulled: bool = False

    def partitions(self, first: date, last: date) -> pd.Series:
        """Moment at which each partition that begins in `first` … `last` is due, by its first day.

        A partition whose moment lies beyond the known calendar is left out.

        Raises:
            ValueError: `last` lies beyond the days the calendar knows.
        """
        if self.period == "day":
            starts = last_days = sessions_between(first, last)
        else:
            months = _MONTHS[self.period]
            frequency = "MS" if months == 1 else "QS"
            starts = pd.date_range(first, last, freq=frequency).as_unit("us")
            last_days = starts + pd.DateOffset(months=months) - pd.Timedelta(days=1)
        due = moments(sessions_after(last_days, self.sessions), self.at)
        return pd.Series(due, index=starts).dropna()

    def due_on(self, day: date) -> list[date]:
        """First days of the partitions that are due on `day`; almost always one or none."""
        due = self.partitions((pd.Timestamp(day) - pd.Timedelta(days=250)).date(), day)
        return [start.date() for start in due.index[due.dt.tz_convert(SHANGHAI).dt.date == day]]


def intakes() -> dict[str, Intake]:
    """All groups by name. Together they hold every dataset that has partitions.

    `evening` is public on the evening of the session; `morning` on the next one by 08:30; `late_morning` comes after
    the morning tick and so waits for the next. Reports are asked for when the ten largest positions are out, once more
    for those that came late, and when all positions are out.
    """
    grouped: dict[tuple[Period, int], list[str]] = {}
    for dataset in load_contract().values():
        if dataset.partition in ("day", "month") and dataset.name != "trading_calendar":
            period: Period = "day" if dataset.partition == "day" else "month"
            grouped.setdefault((period, _delay(dataset, period)), []).append(dataset.name)
    names = {("day", 0): "evening", ("day", 1): "morning", ("day", 2): "late_morning"}
    names |= {("month", 1): "month_values", ("month", 5): "month_weights"}
    groups = [
        Intake(
            names[key],
            key[0],
            tuple(datasets),
            sessions=key[1],
            at=EVENING if key == ("day", 0) else MORNING,
            # what came out the same evening is final; what comes the morning after is still being completed
            repulled=key[0] == "day" and key[1] > 0,
        )
        for key, datasets in grouped.items()
    ]
    quarterly = tuple(d.name for d in load_contract().values() if d.partition == "quarter")
    reports = Intake(
        "reports", "quarter", tuple(n for n in quarterly if n == "fund_holding"), _REPORT_SESSIONS, MORNING
    )
    groups += [
        reports,
        replace(reports, name="late_reports", sessions=_LATE_REPORT_SESSIONS),
        replace(reports, name="full_reports", datasets=quarterly, sessions=_FULL_REPORT_SESSIONS),
    ]
    return {group.name: group for group in groups}


def _delay(dataset: Dataset, period: Period) -> int:
    """Sessions after the end of a partition until the tick at which its rows are public."""
    known = dataset.known_from
    assert known is not None
    # a month can be asked for as a whole only when it is over
    sessions = max(known.sessions, 0 if period == "day" else 1)
    tick = MORNING if sessions else EVENING
    return sessions + (known.time > tick if known.sessions == sessions else 0)


def overdue(intake: Intake, after: date, now: datetime, grace: pd.Timedelta) -> Iterator[tuple[date, datetime]]:
    """Partitions that begin after `after` and were due `grace` before `now`, with their moments, in order."""
    today = pd.Timestamp(now).tz_convert(SHANGHAI).date()
    due = intake.partitions(after, min(today, last_calendar_session()))
    for start, moment in zip(pd.DatetimeIndex(due.index), due, strict=True):
        if start > pd.Timestamp(after) and moment + grace <= pd.Timestamp(now):
            yield start.date(), moment.to_pydatetime()
