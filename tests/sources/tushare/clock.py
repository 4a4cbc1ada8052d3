"""A clock that tests set: sleeping moves it on at once."""

import threading
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Every reading is a millisecond after the one before, so that no two moments are the same."""

    def __init__(self, start: datetime = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._lock = threading.Lock()
        self.slept: list[float] = []

    def now(self) -> datetime:
        with self._lock:
            self._now += timedelta(milliseconds=1)
            return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self.slept.append(seconds)
