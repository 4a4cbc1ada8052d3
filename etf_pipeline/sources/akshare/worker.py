"""The process in which AKShare runs: it takes one call at a time and answers with a table or the reason why not.

AKShare has no timeouts and evaluates remote text, so it gets neither the lake nor the secrets of the environment, and
its parent may kill it at any moment. Every HTTP request passes here: the parent is asked for a stored answer first,
and is told what came over the network. Live and stored answers reach AKShare in the same form, so that both parse
alike.

Messages are JSON, some followed by bytes. From the parent: settings, then calls. To the parent: `ask` (a request;
it replies `go`, `stored` with the body, or `refused`), `got` (a request and its body), `frame` (an Arrow table) or
`failed`.
"""

import ast
import io
import json
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from http.cookiejar import DefaultCookiePolicy
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from urllib.response import addinfourl

import pandas as pd
import pyarrow as pa
import requests

VOLATILE = frozenset({"_", "rt", "random"})
"""Query parameters that differ in every request and mean nothing."""
ABSENT = b""
"""Stored for a page the vendor says does not exist (HTTP 404)."""
ORPHAN_SECONDS = 5
"""How long after the deadline a call ends by itself, should the parent be gone."""


class Unusable(requests.RequestException):
    """A request got no usable answer; `kind` says how: absent, refused, or blocked."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def identity(request: requests.PreparedRequest) -> dict[str, str]:
    """The request as it is stored: method, URL without volatile parameters, body; no headers, so no cookies."""
    parts = urlsplit(request.url or "")
    query = [(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if k not in VOLATILE]
    asked = {"method": request.method or "GET", "url": urlunsplit(parts._replace(query=urlencode(query)))}
    if request.body:
        asked["body"] = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
    return asked


def _answer(request: requests.PreparedRequest, body: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code, response.url, response.request = 200, request.url or "", request
    response._content = body
    # declared charsets are wrong or absent on many of these pages
    try:
        body.decode("utf-8")
        response.encoding = "utf-8"
    except UnicodeDecodeError:
        response.encoding = "gb18030"
    return response


class Recorder(requests.adapters.HTTPAdapter):
    """The one transport of all sessions in this process."""

    def __init__(self, parent: Connection, gateways: Mapping[str, str], pause: float) -> None:
        super().__init__()
        self._parent, self._gateways, self._pause = parent, gateways, pause
        self._direct = _Direct()
        self._last: dict[str, float] = {}
        self.begin(html=False)

    def begin(self, html: bool) -> None:
        """Forget the last call; `html` says whether the next one reads HTML pages."""
        self._html = html
        self._seen: dict[str, bytes] = {}
        self.failure: requests.RequestException | None = None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """The answer to `request`, stored or live.

        Raises:
            requests.RequestException: there is none; also kept in `failure`, for AKShare may replace it by its own.
        """
        asked = identity(request)
        key = json.dumps(asked)
        if key not in self._seen:
            try:
                self._seen[key] = self._body(request, asked, options)
            except requests.RequestException as error:
                self.failure = error
                raise
        return _answer(request, self._seen[key])

    def _body(self, request: requests.PreparedRequest, asked: dict[str, str], options: dict[str, Any]) -> bytes:
        tell(self._parent, {"kind": "ask", "request": asked})
        reply = json.loads(self._parent.recv_bytes())["kind"]
        if reply == "refused":
            raise Unusable("refused", "no stored answer")
        if reply == "stored":
            body = self._parent.recv_bytes()
        else:
            body = self._live(request, options)
            tell(self._parent, {"kind": "got", "request": asked}, body)
        if body == ABSENT:
            raise Unusable("absent", f"no such page on {urlsplit(request.url or '').netloc}")
        return body

    def _live(self, request: requests.PreparedRequest, options: dict[str, Any]) -> bytes:
        parts = urlsplit(request.url or "")
        host = parts.netloc
        if self._pause:
            time.sleep(max(0.0, self._last.get(host, 0.0) + self._pause - time.monotonic()))
            self._last[host] = time.monotonic()
        sent = request.copy()
        if host in self._gateways:
            gateway = urlsplit(self._gateways[host])
            place = (gateway.scheme, gateway.netloc.rpartition("@")[2], gateway.path.rstrip("/") + parts.path)
            sent.url = urlunsplit((*place, parts.query, ""))
            sent.headers.pop("Host", None)
            if gateway.username:
                # as a header, which no message of an error repeats
                sent.prepare_auth((unquote(gateway.username), unquote(gateway.password or "")))
        response = self._direct.send(sent, **{**options, "stream": False})
        if response.status_code in (404, 410):
            return ABSENT
        if response.status_code >= 400:
            raise Unusable("blocked", f"HTTP {response.status_code} from {host}")
        start = response.content[:200].lstrip().lower()
        if not self._html and start.startswith((b"<!doctype", b"<html")):
            raise Unusable("blocked", f"an HTML page instead of data from {host}")
        return response.content


class _Direct(requests.Session):
    """A session with the library's own transport; keeps connections, never cookies."""

    _adapter_of = requests.Session.get_adapter

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_adapter(self, url: str) -> requests.adapters.BaseAdapter:
        return type(self)._adapter_of(self, url)


class _Through(urllib.request.BaseHandler):
    """Sends what goes through urllib (`pd.read_excel(url)`) the same way."""

    handler_order = 100

    def http_open(self, request: urllib.request.Request) -> addinfourl:
        body = requests.get(request.full_url).content
        answer = addinfourl(io.BytesIO(body), Message(), request.full_url, 200)
        answer.msg = "OK"  # type: ignore[attr-defined]
        return answer

    https_open = http_open


def tell(parent: Connection, message: Mapping[str, Any], body: bytes | None = None) -> None:
    """Send one message, and the bytes that belong to it."""
    parent.send_bytes(json.dumps(message).encode())
    if body is not None:
        parent.send_bytes(body)


def fund_holders(symbol: str) -> pd.DataFrame:
    """Holder structure of a fund by half year; AKShare reads pages of this kind but has no function for this one.

    No rows where the page is empty or says 暂无数据.
    """
    from akshare.fund.fund_portfolio_em import _get_fund_archives_data

    content = _get_fund_archives_data(symbol=symbol, data_type="cyrjg", referer_page="cyrjg")["content"]
    if not content or "暂无数据" in content:
        return pd.DataFrame()
    return pd.read_html(io.StringIO(content))[0]


def _column(values: pd.Series) -> pa.Array:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # numbers beside text
        return pa.array(values.astype("str"), from_pandas=True)


def as_arrow(frame: pd.DataFrame) -> bytes:
    """The table as an Arrow stream; a column of mixed types becomes text."""
    names = [str(name) for name in frame.columns]
    table = pa.table([_column(frame.iloc[:, i]) for i in range(len(names))], names=names)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _functions() -> Callable[[str], Callable[..., pd.DataFrame]]:
    import akshare
    import akshare.fund.fund_fhsp_em as distributions

    # this module evaluates what the server sends; it sends literals, and literals are all it shall get
    distributions.eval = ast.literal_eval
    return lambda name: fund_holders if name == "fund_holders" else getattr(akshare, name)


def main() -> None:
    """Serve calls until the parent closes the connection, whose file descriptor is the only argument."""
    parent = Connection(int(sys.argv[1]))
    settings = json.loads(parent.recv_bytes())
    recorder = Recorder(parent, settings["gateways"], settings["pause"])
    requests.Session.get_adapter = lambda self, url: recorder  # type: ignore[method-assign]
    urllib.request.install_opener(urllib.request.build_opener(_Through))
    function = _functions()
    tell(parent, {"kind": "ready"})
    while True:
        try:
            call = json.loads(parent.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, call["deadline"] + ORPHAN_SECONDS)
        recorder.begin(call["html"])
        try:
            frame = function(call["function"])(**call["arguments"])
            if recorder.failure is not None:  # AKShare went on without that answer
                raise recorder.failure
            table = as_arrow(frame)
        except Exception as error:
            cause = recorder.failure or error
            kind = cause.kind if isinstance(cause, Unusable) else "transport" if recorder.failure else "parsing"
            tell(parent, {"kind": "failed", "how": kind, "type": type(cause).__name__, "message": str(cause)})
        else:
            tell(parent, {"kind": "frame"}, table)
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
