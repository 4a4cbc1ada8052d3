"""Sessions, trading weeks and rebalance dates of the A-share market.

Here: everything that follows from the list of sessions alone. Not here: Dagster partitions (`partitions.py`)
and the current date, which callers pass in.
"""

from collections.abc import Callable, Iterable
from datetime import date, time
from functools import lru_cache

import numpy as np
import pandas as pd

SHANGHAI = "Asia/Shanghai"
_FIRST_DAY = "1990-12-19"


class CalendarEndError(ValueError):
    """Whether a day is a session is not known: the calendar library's holidays end before it."""

    def __init__(self, day: date) -> None:
        super().__init__(
            f"whether {day} is a session of the Shanghai exchange is not known: the calendar of exchange-calendars "
            f"ends on {last_calendar_session()}. Upgrade it (pip install -U exchange-calendars), or give a file "
            "trading_calendar that holds the sessions after it"
        )


_announced = pd.DatetimeIndex([]).as_unit("us")
_to_be_asked: list[Callable[[], Iterable[date]]] = []


def extend_calendar(announced: Callable[[], Iterable[date]]) -> None:
    """Take sessions after the library's last one as `announced` elsewhere, in this process.

    They are asked for with the next use. Days the library knows stay its own; a session named stands for all before it.
    """
    _to_be_asked.append(announced)


def _xshg_sessions() -> pd.DatetimeIndex:
    global _announced
    library = _library_sessions()
    while _to_be_asked:
        days = pd.DatetimeIndex(sorted(_to_be_asked.pop()())).as_unit("us")
        _announced = _announced.union(days[days > library[-1]])
    return library.union(_announced) if len(_announced) else library


@lru_cache(maxsize=1)
def _library_sessions() -> pd.DatetimeIndex:
    # imported here: the library takes a second to load, and most processes need no calendar
    from exchange_calendars import get_calendar

    return get_calendar("XSHG", start=_FIRST_DAY).sessions.as_unit("us")


def sessions_between(start: date, end: date) -> pd.DatetimeIndex:
    """Sessions of the Shanghai exchange from `start` to `end`, both included (naive dates, ascending).

    Raises:
        CalendarEndError: a day up to `end` is unknown. A day beyond the calendar is never taken for closed.
    """
    sessions = _xshg_sessions()
    if (unknown := _first_unknown_day()) <= end:
        raise CalendarEndError(max(unknown, start))
    return sessions[(sessions >= pd.Timestamp(start)) & (sessions <= pd.Timestamp(end))]


def last_calendar_session() -> date:
    """Last session that is known: of the calendar library, or announced after it."""
    return _xshg_sessions()[-1].date()


def _first_unknown_day() -> date:
    """First weekday after the calendar's last session: weekends are closed in any year."""
    return pd.Timestamp(last_calendar_session() + pd.offsets.BDay(1)).date()


def is_session(day: date) -> bool:
    """Whether the exchange trades on `day`.

    Raises:
        CalendarEndError: that is not known; of weekends it always is.
    """
    return day.weekday() < 5 and len(sessions_between(day, day)) > 0


def sessions_left(day: date) -> int:
    """Known sessions strictly after `day`; 0 at the end of the calendar and beyond it."""
    sessions = _xshg_sessions()
    return len(sessions) - int(sessions.searchsorted(pd.Timestamp(day), side="right"))


def sessions_after(days: pd.Series | pd.DatetimeIndex, count: int) -> pd.DatetimeIndex:
    """The `count`-th session strictly after each day; with `count` 0 the days themselves.

    NaT stays NaT; so does a day with fewer than `count` known sessions after it.
    """
    index = pd.DatetimeIndex(days)
    if count == 0:
        return index
    sessions = _xshg_sessions()
    position = sessions.searchsorted(index, side="right") + count - 1
    missing = index.isna() | (position >= len(sessions))
    return pd.DatetimeIndex(sessions[np.where(missing, 0, position)].where(~missing))


def moments(days: pd.Series | pd.DatetimeIndex, at: time) -> pd.DatetimeIndex:
    """UTC moments of Shanghai clock time `at` on each day (NaT stays NaT)."""
    offset = pd.Timedelta(hours=at.hour, minutes=at.minute)
    return (pd.DatetimeIndex(days).normalize() + offset).tz_localize(SHANGHAI).tz_convert("UTC").as_unit("us")


def decision_moments(days: pd.DatetimeIndex, sessions_later: int, at: time) -> pd.DatetimeIndex:
    """When the decision about each signal day is taken (UTC): `sessions_later` sessions on, at `at` in Shanghai."""
    return moments(sessions_after(days, sessions_later), at)


def week_ends(sessions: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Last session of every calendar week (Monday to Sunday) that has a session in `sessions`.

    A week cut by the end of `sessions` yields its last session there: pass whole weeks, or the full calendar.
    """
    weeks = sessions.to_period("W-SUN")
    return sessions[np.append(weeks[1:] != weeks[:-1], True)] if len(sessions) else sessions


def rebalance_dates(start: date, end: date, anchor: date, every_weeks: int, phase: int = 0) -> pd.DatetimeIndex:
    """Signal dates from `start` to `end`: every `every_weeks`-th trading week end, counted from `anchor`.

    Weeks are counted backwards from the anchor too; `phase` moves all dates by so many trading weeks. Only complete
    weeks count: with `end` in mid-week that week gives no date, because week ends come from the whole calendar.

    Raises:
        ValueError: `anchor` is not the end of a trading week.
    """
    ends = week_ends(_xshg_sessions())
    position = int(ends.searchsorted(pd.Timestamp(anchor)))
    if position == len(ends) or ends[position] != pd.Timestamp(anchor):
        raise ValueError(f"the rebalance anchor {anchor} is not the last session of a trading week")
    dates = ends[(position + phase) % every_weeks :: every_weeks]
    return dates[(dates >= pd.Timestamp(start)) & (dates <= pd.Timestamp(end))]
