"""What a Tushare account may do, and how long the client waits before it gives up."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

_TIERS = ((5000, 500, None), (2000, 200, 100_000), (120, 50, 8_000))
"""Points from which a tier begins, its calls of one API a minute and a day; highest first."""


@dataclass(frozen=True)
class Plan:
    """What the account's points allow; both rates count calls of one API. `per_day` None: no daily limit.

    Minute bars are a licence of their own and come with no number of points.
    """

    points: int
    minute_bars: bool
    per_minute: int
    per_day: int | None

    @classmethod
    def from_points(cls, points: int, minute_bars: bool = False) -> "Plan":
        """The plan of an account with so many points.

        Raises:
            ValueError: fewer points than the lowest tier needs.
        """
        for least, per_minute, per_day in _TIERS:
            if points >= least:
                return cls(points, minute_bars, per_minute, per_day)
        raise ValueError(f"{points} points: Tushare serves data from {_TIERS[-1][0]} points on")


@dataclass(frozen=True)
class Patience:
    """How long a call may take and how often it is repeated.

    `call_seconds` is for one answer from request to last byte. `hour_limit_seconds` is how long one call may wait for
    hour limits in all; with less than an hour the limit is raised at once. `attempts` counts the first call too.
    """

    connect_seconds: float = 10
    read_seconds: float = 60
    call_seconds: float = 180
    attempts: int = 6
    hour_limit_seconds: float = 0


class Clock(Protocol):
    """Time as the client sees it; tests have one that does not wait."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when so many seconds have passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Return when so many seconds have passed."""
        time.sleep(seconds)
