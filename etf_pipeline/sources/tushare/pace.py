"""Calls of one API no faster than the plan allows, over all processes that share one folder."""

from datetime import datetime
from pathlib import Path

from pyrate_limiter import Rate, RateItem, SQLiteBucket

from etf_pipeline.sources.tushare.limits import Clock

WINDOW_SECONDS = 61
"""A second more than a minute: calls reach Tushare after differing delays."""


class Pace:
    """The pace of one API, kept in the file `path`. Not to be used by two at once: whoever calls holds the API's lock.

    The library's own waiting sleeps on the real clock, so only its book-keeping is used here.
    """

    def __init__(self, path: Path, per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._bucket = SQLiteBucket.init_from_file(_rates(per_minute), db_path=str(path))
        # no waiting for the disk at every call, and still never a broken file
        self._bucket.conn.execute("PRAGMA journal_mode = WAL")
        self._bucket.conn.execute("PRAGMA synchronous = NORMAL")

    def wait(self) -> None:
        """Return when another call may be made, and count it."""
        while True:
            now = _milliseconds(self._clock.now())
            call = RateItem("call", now)
            self._bucket.leak(now)
            if self._bucket.put(call):
                return
            delay = self._bucket.waiting(call)
            assert isinstance(delay, int)
            if delay > WINDOW_SECONDS * 1000 + 1:  # counted by a clock that was ahead, which may be by years
                self._bucket.flush()
            else:
                self._clock.sleep(delay / 1000)

    def lower(self, per_minute: int) -> None:
        """Keep to `per_minute` from now on if it is slower than before."""
        if per_minute < self._bucket.rates[0].limit:
            self._bucket.rates = _rates(per_minute)

    def close(self) -> None:
        """Close the file."""
        self._bucket.close()


def _rates(per_minute: int) -> list[Rate]:
    return [Rate(per_minute, WINDOW_SECONDS * 1000)]


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
