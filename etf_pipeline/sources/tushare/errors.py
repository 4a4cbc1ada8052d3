"""What can go wrong with Tushare, each with a type and a message that says what to do.

Every message begins with the API and its parameters, never with the token. Tushare uses one code for several reasons
(40203 is both a rate limit and a missing permission), so the message decides first and the code second.
"""

import re
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from etf_pipeline.core.calendar import SHANGHAI
from etf_pipeline.sources.base import SourceError, TransientSourceError, VendorUnavailable

Window = Literal["minute", "hour", "day"]

_WINDOWS: dict[str, Window] = {"分钟": "minute", "小时": "hour", "天": "day"}
_RATE = re.compile(r"最多访问|频率超限")
_WINDOW = re.compile(r"每(分钟|小时|天)最多|次/(分钟|小时|天)")
_COUNT = re.compile(r"(\d+)次")
_PERMISSION = re.compile(r"没有接口|权限")
_TOKEN = re.compile(r"token", re.IGNORECASE)
_ADDRESSES = re.compile(r"IP数量超限")
_LIMIT_DETAILS = "https://tushare.pro/document/1?doc_id=108"
_OUTAGE_SECONDS = 300
_SHOWN = 300


class TokenError(SourceError):
    """There is no token, or Tushare does not know it."""


class InsecureAddress(SourceError):
    """The token would travel in clear."""


class PermissionDenied(SourceError):
    """The account has too few points, or lacks the licence, for this API."""


class TooManyAddresses(SourceError):
    """The token was used from more addresses than Tushare allows."""


class RequestRefused(SourceError):
    """Tushare does not take this request, or would not; another request has to be made."""


class RateLimited(TransientSourceError):
    """More calls in a window than the account may make; `calls` is the number Tushare names, if it does."""

    def __init__(self, message: str, retry_after_seconds: float, window: Window, calls: int | None) -> None:
        super().__init__(message, retry_after_seconds)
        self.window = window
        self.calls = calls


def unavailable(where: str, rule: str) -> VendorUnavailable:
    """The error for a call that brought no whole answer; `where` names API and parameters."""
    advice = "Try again in some minutes; if it stays so, check the network and the base URL"
    return VendorUnavailable(f"{where}: {rule}. {advice}.", _OUTAGE_SECONDS)


class Unreachable(VendorUnavailable):
    """No connection could be made: there is no network, or nobody at the base URL."""


def unreachable(url: str, failure: str) -> Unreachable:
    """The error where no connection could be made to `url`, which is shown without any password."""
    advice = f"Check the network{'' if 'api.tushare.pro' in url else ' and the base URL'}; what came before is kept"
    return Unreachable(f"{url} cannot be reached ({failure}). {advice}.", _OUTAGE_SECONDS)


def refusal(where: str, code: int, text: str, now: datetime) -> SourceError:
    """The error for an answer with code other than 0; `where` names API and parameters, `now` is aware."""
    said = f"{where}: Tushare says {text[:_SHOWN]!r} (code {code})"
    if _RATE.search(text):
        return _rate_limited(said, text, now)
    if _PERMISSION.search(text):
        return _denied(said)
    if _TOKEN.search(text):
        return _unknown_token(said)
    if _ADDRESSES.search(text):
        return TooManyAddresses(f"{said}. Use the token from one fixed address, or ask Tushare to clear its list.")
    if code == 40101:
        return _unknown_token(said)
    if code in (40203, 2002):
        return _denied(said)
    return RequestRefused(
        f"{said}. The parameters are wrong, or ask for more than the API serves: correct them, or split the query."
    )


def _rate_limited(said: str, text: str, now: datetime) -> SourceError:
    named, count = _WINDOW.search(text), _COUNT.search(text)
    if count and int(count[1]) == 0:
        return _denied(said)
    window = _WINDOWS[named[1] or named[2]] if named else "minute"
    seconds = {"minute": 61.0, "hour": 3600.0, "day": _seconds_to_next_day(now)}[window]
    advice = f"Wait {seconds:.0f} s; more points allow more calls, see {_LIMIT_DETAILS}."
    return RateLimited(f"{said}. {advice}", seconds, window, int(count[1]) if count else None)


def _seconds_to_next_day(now: datetime) -> float:
    local = now.astimezone(ZoneInfo(SHANGHAI))
    midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - local).total_seconds()


def _denied(said: str) -> PermissionDenied:
    return PermissionDenied(f"{said}. The account needs more points or a licence for this API, see {_LIMIT_DETAILS}.")


def _unknown_token(said: str) -> TokenError:
    return TokenError(f"{said}. Copy the token anew from the user page of tushare.pro into TUSHARE_TOKEN.")
