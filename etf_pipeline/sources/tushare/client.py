"""Calls to Tushare Pro: paced, repeated while a fault may pass, followed over all pages, and kept as they came.

One call of an API is under way at a time, over all threads and processes that share the store's folder; different
APIs run beside each other. A page that is stored is not asked for again, so an interrupted query goes on where it
stopped. The token is in the body of a call and nowhere else.
"""

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

import httpx
import pandas as pd
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential_jitter

from etf_pipeline.resources.storage import exclusive_lock
from etf_pipeline.sources.base import ResponseCut, VendorUnavailable
from etf_pipeline.sources.responses import NotStored, Response, ResponseStore
from etf_pipeline.sources.tushare.errors import (
    InsecureAddress,
    RateLimited,
    RequestRefused,
    TokenError,
    Unreachable,
    unavailable,
    unreachable,
)
from etf_pipeline.sources.tushare.limits import Clock, Patience, Plan, SystemClock
from etf_pipeline.sources.tushare.pace import Pace
from etf_pipeline.sources.tushare.pages import Page, Query, frame_of, malformed, read_page

MAX_OFFSET = 100_000
"""Tushare refuses pages that begin later."""

_MASK = b"***"
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
_BACKOFF = wait_exponential_jitter(initial=1, max=60, jitter=1)
_logger = logging.getLogger(__name__)


class TushareClient:
    """Rows of Tushare's APIs for one account. Threads may share a client; close it, or use it in a `with` block.

    `calls` counts the HTTP calls made, by API; `used` holds the pages that answered queries, until it is cleared.
    `offline` answers from stored pages only, and needs no token.

    Raises:
        TokenError: the token is empty.
        InsecureAddress: `base_url` would send the token in clear. Plain HTTP is for loopback addresses only.
    """

    def __init__(
        self,
        token: SecretStr,
        plan: Plan,
        responses: ResponseStore,
        base_url: str = "https://api.tushare.pro",
        offline: bool = False,
        clock: Clock | None = None,
        patience: Patience | None = None,
    ) -> None:
        if not offline and not token.get_secret_value().strip():
            raise TokenError(
                "tushare: the token is empty. Put the one of your user page at tushare.pro into the setting."
            )
        self.calls: Counter[str] = Counter()
        self.used: list[Response] = []
        self._token = token
        self._plan = plan
        self._responses = responses
        self._url = base_url
        self._clock = clock or SystemClock()
        self._patience = patience or Patience()
        self._http = None if offline else _http_client(base_url, self._patience)
        self._paces: dict[str, Pace] = {}
        self._has_answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and the files of the paces."""
        if self._http is not None:
            self._http.close()
        while self._paces:
            self._paces.popitem()[1].close()

    def rows(
        self,
        api: str,
        params: Mapping[str, str],
        fields: Sequence[str],
        *,
        page_size: int | None,
        since: datetime | None = None,
        cap: int | None = None,
    ) -> pd.DataFrame:
        """All rows of one query, columns exactly `fields`, values as sent: text as `str`, numbers as float64, or NaN.

        With `page_size`, pages are followed until one is not full and says there are no more. Without, one call is
        made, which must bring fewer rows than `cap`. A stored page is used instead of a call when it was received at
        or after `since` (aware; None: whenever). The rows stand as Tushare sent them; it promises no order.

        Raises:
            VendorUnavailable, RateLimited: repeated, and still no answer; come back later.
            TokenError, PermissionDenied, TooManyAddresses, RequestRefused: Tushare does not answer this.
            MalformedResponse, ResponseCut: the answer cannot be trusted; nothing of it was kept.
            NotStored: offline, and a page of this query was never stored.
            DamagedResponse: a stored page is not what was stored.
        """
        query = Query(api, params, fields)
        if page_size is None:
            return frame_of(self._page(query, None, since, cap).items, query)
        items: list[list[object]] = []
        before: Page | None = None
        while before is None or before.has_more or len(before.items) == page_size:
            before = self._page(Query(api, params, fields, page_size, len(items)), before, since)
            items += before.items
        return frame_of(items, query)

    def _page(self, query: Query, before: Page | None, since: datetime | None, cap: int | None = None) -> Page:
        """The page that answers `query`, from the store or by a call; `before` is the page that comes before it."""
        if query.offset is not None and query.offset > MAX_OFFSET:
            raise RequestRefused(
                f"{query}: Tushare serves no page that begins after row {MAX_OFFSET}, and there may be more rows. "
                "Split the query by date or code."
            )
        stored = self._responses.newest(query.api, query.request, since)
        if stored is None:
            if self._http is None:
                when = f" since {since}" if since else ""
                raise NotStored(f"{query}: offline, and no answer was stored{when}. Fetch it once with a connection.")
            with exclusive_lock(self._responses.root / query.api / ".lock"):
                # another process may have asked while this one stood in line
                stored = self._responses.newest(query.api, query.request, since)
                if stored is None:
                    page, stored = self._called(query, before, cap)
                    self.used.append(stored)
                    return page
        self.used.append(stored)
        return _checked(stored.body, query, before, cap, stored.received_at)

    def _called(self, query: Query, before: Page | None, cap: int | None) -> tuple[Page, Response]:
        retrying = Retrying(
            stop=stop_after_attempt(self._patience.attempts),
            retry=self._worth_repeating,
            wait=_delay,
            sleep=self._clock.sleep,
            before_sleep=_tell,
            reraise=True,
        )
        return retrying(self._attempt, query, before, cap)

    def _worth_repeating(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Unreachable) and not self._has_answered:
            # not an outage in the middle of a long run: whoever has no network need not wait to hear it
            return state.attempt_number == 1
        if isinstance(error, RateLimited) and error.window != "minute":
            patient = state.idle_for + error.retry_after_seconds <= self._patience.hour_limit_seconds
            return error.window == "hour" and patient
        return isinstance(error, RateLimited | VendorUnavailable)

    def _attempt(self, query: Query, before: Page | None, cap: int | None) -> tuple[Page, Response]:
        pace = self._paces.get(query.api)
        if pace is None:
            path = self._responses.root / query.api / ".pace.sqlite"
            pace = self._paces[query.api] = Pace(path, self._plan.per_minute, self._clock)
        pace.wait()
        self.calls[query.api] += 1
        body = self._exchange(query)
        received_at = self._clock.now()
        try:
            page = _checked(body, query, before, cap, received_at)
        except RateLimited as error:
            if error.window == "minute" and error.calls:
                pace.lower(error.calls)
            raise
        return page, self._responses.keep(query.api, query.request, body, received_at)

    def _exchange(self, query: Query) -> bytes:
        """The body of the answer to one HTTP call, whole and decoded.

        Raises:
            VendorUnavailable: there is no such body for now.
            RequestRefused: a status that will not pass.
        """
        assert self._http is not None
        failure, is_reached, status, is_page, body = "", True, 0, False, b""
        deadline = time.monotonic() + self._patience.call_seconds
        try:
            with self._http.stream("POST", self._url, content=self._message(query)) as response:
                status, is_page = response.status_code, "html" in response.headers.get("content-type", "")
                body = self._masked(b"".join(_until(deadline, response)))
                body = self._masked(httpx.Response(status, headers=response.headers, content=body).content)
        except httpx.ConnectError as error:
            failure, is_reached = self._masked(str(error).encode()).decode(), False
        except httpx.RequestError as error:
            failure = f"no whole answer ({type(error).__name__}: {self._masked(str(error).encode()).decode()})"
        # httpx's errors hold the request, and so the token: none of them may be the cause or context of ours
        if not is_reached:
            raise unreachable(_shown(self._url), failure)
        self._has_answered = True
        if failure:
            raise unavailable(str(query), failure)
        if status in _PASSING_STATUSES:
            raise unavailable(str(query), f"HTTP status {status}")
        if status != 200:
            raise RequestRefused(
                f"{query}: HTTP status {status} instead of 200. Check the base URL {_shown(self._url)}."
            )
        if is_page:
            raise unavailable(str(query), "a page of HTML instead of JSON")
        return body

    def _message(self, query: Query) -> bytes:
        return json.dumps({**query.message, "token": self._token.get_secret_value()}).encode()

    def _masked(self, text: bytes) -> bytes:
        """What the server sent, without the token in case it repeats it."""
        return text.replace(self._token.get_secret_value().encode(), _MASK)


def _shown(url: str) -> str:
    """The URL without the name and the password that may stand before its host."""
    address = urlsplit(url)
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()


def _http_client(base_url: str, patience: Patience) -> httpx.Client:
    address = urlsplit(base_url)
    loopback = _is_loopback(address.hostname or "")
    if address.scheme != "https" and not (address.scheme == "http" and loopback):
        raise InsecureAddress(
            f"tushare: the token would travel in clear to {_shown(base_url)}. Use an https:// base URL."
        )
    return httpx.Client(
        headers={"content-type": "application/json"},
        timeout=httpx.Timeout(patience.read_seconds, connect=patience.connect_seconds),
        # a proxy set for the machine would see what is meant for this machine alone
        trust_env=not loopback,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _until(deadline: float, response: httpx.Response) -> Iterator[bytes]:
    """The body as it arrives; the timeouts of the connection are for each part of it, this one is for all."""
    for part in response.iter_raw():
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the body came too slowly")
        yield part


def _checked(body: bytes, query: Query, before: Page | None, cap: int | None, received_at: datetime) -> Page:
    """The page in `body`, trusted to be no repetition of `before` and, un-paged, to hold all rows."""
    page = read_page(body, query, received_at)
    rows = len(page.items)
    if query.limit is None and (page.has_more or (cap is not None and rows >= cap)):
        rule = "says there are more" if page.has_more else f"the cap is {cap}"
        raise ResponseCut(f"{query}: {rows} rows came, and {rule}: the rest is cut off. Ask by pages, or for less.")
    if page.has_more and not rows:
        malformed(query, "has_more is true, but there is no row")
    if before is not None and rows and page.items == before.items:
        malformed(query, f"the same {rows} rows as on the page before")
    return page


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _logger.warning("%s Asking again in %.0f s.", error, state.next_action.sleep if state.next_action else 0)


def _delay(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after_seconds if isinstance(error, RateLimited) else _BACKOFF(state)
