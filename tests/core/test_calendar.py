from datetime import date, timedelta

import pandas as pd
import pytest

from etf_pipeline.core import calendar
from etf_pipeline.core.calendar import (
    CalendarEndError,
    extend_calendar,
    is_session,
    last_calendar_session,
    sessions_between,
    sessions_left,
)

LAST = last_calendar_session()


def test_beyond_the_calendar_a_weekday_is_unknown() -> None:
    unknown = (LAST + pd.offsets.BDay(1)).date()
    for call in (lambda: sessions_between(unknown, unknown), lambda: is_session(unknown)):
        with pytest.raises(CalendarEndError, match=rf"whether {unknown} .* ends on {LAST}.*pip install -U"):
            call()
    with pytest.raises(CalendarEndError, match=str(unknown)):
        sessions_between(date(2026, 1, 1), unknown)
    assert sessions_between(LAST, LAST).date.tolist() == [LAST]


def test_days_within_are_known() -> None:
    assert [is_session(date(2025, 10, day)) for day in (8, 9, 11)] == [False, True, False]
    assert sessions_left(date(2025, 9, 30)) - sessions_left(date(2025, 10, 9)) == 1
    assert sessions_left(LAST) == sessions_left(LAST + timedelta(days=90)) == 0


def test_announced_sessions_extend_the_calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar, "_announced", calendar._announced)
    following = [(LAST + pd.offsets.BDay(n)).date() for n in (2, 3)]
    inside = date(2025, 10, 8)
    extend_calendar(lambda: [inside, *following])
    assert last_calendar_session() == following[-1]
    assert sessions_between(LAST, following[-1]).date.tolist() == [LAST, *following]
    assert not is_session((LAST + pd.offsets.BDay(1)).date())  # between two sessions, and none itself
    assert not is_session(inside)  # the library knows it for closed
    with pytest.raises(CalendarEndError):
        is_session((following[-1] + pd.offsets.BDay(1)).date())
