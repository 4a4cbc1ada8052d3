"""A server that stands in for Tushare Pro on a local socket and speaks its protocol.

What it holds is a function from API and parameters to a frame (or a refusal). The server adds what the protocol adds:
the token, `fields`, `limit` and `offset`, row caps and `has_more`. A plan of faults spoils answers on the way; plans
depend on the number of the call of an API only, so they are the same whatever the threads do.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any, Self

import pandas as pd

MAX_OFFSET = 100_000

CAPS = {
    "etf_basic": 5000,
    "etf_index": 5000,
    "fund_basic": 15000,
    "fund_share": 2000,
    "etf_share_size": 5000,
    "fund_adj": 2000,
    "fund_daily": 5000,
    "stk_mins": 8000,
    "index_daily": 8000,
    "index_dailybasic": 3000,
    "ci_index_member": 5000,
    "ci_daily": 4000,
    "index_member_all": 2000,
    "sw_daily": 4000,
    "margin_detail": 6000,
    "stock_basic": 6000,
    "daily": 6000,
    "daily_basic": 6000,
    "adj_factor": 6000,
}
"""Documented row caps; an API without one is cut at `OTHER_CAP`."""
OTHER_CAP = 10_000


@dataclass(frozen=True)
class Refusal:
    """An answer with a code other than 0."""

    code: int
    msg: str


WRONG_TOKEN = Refusal(40101, "您的token不对，请确认。")
NO_PERMISSION = Refusal(
    40203, "抱歉，您没有接口访问权限，权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。"
)
WRONG_PARAMETERS = Refusal(50101, "查询数据失败，请确认参数！可以反馈管理员协助您排查问题")
TOO_MANY_ADDRESSES = Refusal(40201, "您的IP数量超限，最大数量为2个！")


def rate_refusal(window: str = "分钟", calls: int = 200) -> Refusal:
    """The older wording of a rate limit; `window` is 分钟, 小时 or 天."""
    details = "权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。"
    return Refusal(40203, f"抱歉，您每{window}最多访问该接口{calls}次，{details}")


def frequency_refusal(api: str, window: str = "分钟", calls: int = 200) -> Refusal:
    """The newer wording of a rate limit."""
    details = "具体频次详情：https://tushare.pro/document/1?doc_id=108。"
    return Refusal(40203, f"抱歉，您访问接口({api})频率超限({calls}次/{window})，{details}")


@dataclass(frozen=True)
class Reply:
    """What goes over the socket. `sent` bytes of the body are sent before the connection ends (None: all of them);
    -1 ends it before anything is sent. With `pause` every byte of the body waits so many seconds.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    encoding: str | None = None
    sent: int | None = None
    pause: float = 0


@dataclass(frozen=True)
class Fault:
    """What happens to one answer on its way; `name` is what the record of calls shows."""

    name: str
    spoil: Callable[[Reply], Reply]


def http_status(status: int) -> Fault:
    body = f"<html><body>{status}</body></html>".encode()
    return Fault(f"HTTP {status}", lambda reply: Reply(body, status, "text/html"))


def refused(refusal: Refusal) -> Fault:
    return Fault(refusal.msg, lambda reply: replace(reply, body=_refusal_body(refusal)))


def page(status: int = 200) -> Fault:
    """A page of HTML instead of JSON."""
    return Fault("page", lambda reply: Reply("<html>系统维护中</html>".encode(), status, "text/html; charset=utf-8"))


def connection_lost(share: float = 0.5) -> Fault:
    """The connection ends after this share of the body, though its whole length was announced."""
    return Fault("connection lost", lambda reply: replace(reply, sent=int(len(reply.body) * share)))


def no_answer() -> Fault:
    """The connection ends before a single byte."""
    return Fault("no answer", lambda reply: replace(reply, sent=-1))


def cut(share: float = 0.5) -> Fault:
    """The body ends early and its length says so."""
    return Fault("cut", lambda reply: replace(reply, body=reply.body[: int(len(reply.body) * share)]))


def slow(pause: float) -> Fault:
    return Fault("slow", lambda reply: replace(reply, pause=pause))


def bytes_instead(body: bytes) -> Fault:
    return Fault("other bytes", lambda reply: replace(reply, body=body))


def edited(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """The answer's JSON with a change: `change` alters it in place, or returns another value."""

    def spoil(reply: Reply) -> Reply:
        answer = json.loads(reply.body)
        changed = change(answer)
        return replace(reply, body=_encoded(answer if changed is None else changed))

    return Fault("edited", spoil)


@dataclass(frozen=True)
class Call:
    """One call as the server saw it; `number` counts the calls of its API from 1.

    `head` is the request line and the headers; `outcome` is the number of rows sent, the name of a fault, or the text
    of a refusal.
    """

    api: str
    number: int
    params: Mapping[str, Any]
    fields: tuple[str, ...]
    at: float
    head: str = ""
    outcome: int | str = ""


Plan = Callable[[Call], Fault | None]


def scripted(faults: Mapping[str, Sequence[Fault | None]]) -> Plan:
    """By API, the faults of its first, second … call; later calls are answered well."""

    def plan(call: Call) -> Fault | None:
        script = faults.get(call.api, ())
        return script[call.number - 1] if call.number <= len(script) else None

    return plan


def at_random(seed: int, faults: Iterable[tuple[float, Fault]]) -> Plan:
    """Each fault with its probability, drawn from the seed, the API and the number of the call."""
    listed = list(faults)
    bounds = list(accumulate(probability for probability, _ in listed))

    def plan(call: Call) -> Fault | None:
        draw = random.Random(f"{seed} {call.api} {call.number}").random()
        return next((fault for bound, (_, fault) in zip(bounds, listed, strict=True) if draw < bound), None)

    return plan


def first_of(*plans: Plan) -> Plan:
    """The first plan that has a fault for a call decides."""
    return lambda call: next((fault for plan in plans if (fault := plan(call)) is not None), None)


Answer = Callable[[str, dict[str, str]], pd.DataFrame | Refusal]


class TushareServer:
    """Serves `answer` at `url` while the `with` block lasts.

    `answer` gets the parameters without `limit` and `offset`; its columns are what the API has (text, numbers, NaN or
    None). It is asked again for every first page; later pages are cut from the same frame. `has_more=False` leaves
    that field out, as some answers do. `calls`, `connections` and `most_at_once` (calls of one API under way at the
    same time) record what happened; `faults` may be changed at any time.
    """

    def __init__(
        self,
        answer: Answer,
        token: str,
        faults: Plan | None = None,
        caps: Mapping[str, int] | None = None,
        has_more: bool = True,
    ) -> None:
        self.faults = faults
        self.calls: list[Call] = []
        self.connections = 0
        self.most_at_once: Counter[str] = Counter()
        self._answer = answer
        self._token = token
        self._caps = CAPS if caps is None else caps
        self._has_more = has_more
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._tables: dict[tuple[str, str], _Table] = {}
        self._ended = threading.Event()
        self._http = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def count(self, api: str | None = None) -> int:
        """Calls so far, of one API or of all."""
        return sum(1 for call in self.calls if api in (None, call.api))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # small writes would wait for each other

            def setup(self) -> None:
                super().setup()
                with server._lock:
                    server.connections += 1

            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._send(server._replied(message, f"{self.requestline}\n{self.headers}"))

            def _send(self, reply: Reply) -> None:
                whole = reply.sent is None
                self.close_connection = not whole
                if reply.sent == -1:
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                if reply.encoding:
                    self.send_header("Content-Encoding", reply.encoding)
                self.end_headers()
                body = reply.body if whole else reply.body[: reply.sent]
                try:
                    self._write(body, reply.pause)
                except OSError:  # the client had enough
                    self.close_connection = True

            def _write(self, body: bytes, pause: float) -> None:
                if not pause:
                    self.wfile.write(body)
                    return
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if server._ended.wait(pause):
                        return

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _replied(self, message: dict[str, Any], head: str) -> Reply:
        api = message["api_name"]
        with self._lock:
            self._numbers[api] += 1
            self._under_way[api] += 1
            self.most_at_once[api] = max(self.most_at_once[api], self._under_way[api])
            call = Call(api, self._numbers[api], message["params"], _fields(message), time.monotonic(), head)
        try:
            outcome, body = self._answered(call, message)
            fault = self.faults(call) if self.faults else None
            reply = Reply(body)
            if fault is not None:
                outcome, reply = fault.name, fault.spoil(reply)
        finally:
            with self._lock:
                self._under_way[api] -= 1
        with self._lock:
            self.calls.append(replace(call, outcome=outcome))
        return reply

    def _answered(self, call: Call, message: dict[str, Any]) -> tuple[int | str, bytes]:
        answer = WRONG_TOKEN if message["token"] != self._token else self._asked(call)
        if isinstance(answer, Refusal):
            return answer.msg, _refusal_body(answer)
        names = [name for name in call.fields or answer.names if name in answer.names]
        cap = self._caps.get(call.api, OTHER_CAP)
        start = int(call.params.get("offset", 0))
        stop = start + min(int(call.params.get("limit", cap)), cap)
        items = answer.rows(names, start, stop)
        data: dict[str, Any] = {"fields": names, "items": items, "count": -1}
        if self._has_more:
            data["has_more"] = stop < answer.size
        identity = f"{call.api}-{call.number}"
        return len(items), _encoded({"request_id": identity, "code": 0, "msg": "", "detail": None, "data": data})

    def _asked(self, call: Call) -> "_Table | Refusal":
        offset = int(call.params.get("offset", 0))
        if offset > MAX_OFFSET:
            return WRONG_PARAMETERS
        params = {name: value for name, value in call.params.items() if name not in ("limit", "offset")}
        key = call.api, json.dumps(params, sort_keys=True)
        with self._lock:
            table = self._tables.get(key)
        if table is None or offset == 0:
            answer = self._answer(call.api, params)
            if isinstance(answer, Refusal):
                return answer
            table = _Table(answer)
            with self._lock:
                self._tables.pop(key, None)
                self._tables[key] = table
                while len(self._tables) > 16:
                    self._tables.pop(next(iter(self._tables)))
        return table


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Table:
    """A frame as the values of its columns, so that pages are cut quickly."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.names = [str(name) for name in frame.columns]
        self.size = len(frame)
        self._columns = {str(name): _plain(column) for name, column in frame.items()}

    def rows(self, names: list[str], start: int, stop: int) -> list[list[Any]]:
        return [list(row) for row in zip(*(self._columns[name][start:stop] for name in names), strict=True)]


def _plain(column: pd.Series) -> list[Any]:
    values = column.astype(object)
    return values.where(column.notna(), None).tolist()


def _fields(message: dict[str, Any]) -> tuple[str, ...]:
    fields = message.get("fields") or ""
    return tuple(fields) if isinstance(fields, list) else tuple(name for name in fields.split(",") if name)


def _refusal_body(refusal: Refusal) -> bytes:
    return _encoded({"request_id": "refused", "code": refusal.code, "msg": refusal.msg, "data": None})


def _encoded(answer: Any) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass")
