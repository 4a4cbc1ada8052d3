from datetime import date, timedelta

import pandas as pd
import pytest

from etf_pipeline.core.calendar import (
    CalendarEndError,
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
