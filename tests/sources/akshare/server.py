"""A local server that stands in for all the hosts AKShare reads; each host is a first part of the path."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

HOSTS = (
    "query.sse.com.cn",
    "www.szse.cn",
    "fund.eastmoney.com",
    "fundf10.eastmoney.com",
    "api.fund.eastmoney.com",
    "push2his.eastmoney.com",
    "www.csindex.com.cn",
    "oss-ch.csindex.com.cn",
    "www.cnindex.com.cn",
    "hq.cnindex.com.cn",
    "www.swsresearch.com",
)


@dataclass(frozen=True)
class Reply:
    """What the server sends; `hang` seconds before anything, `drop` closes the connection instead."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/octet-stream"
    hang: float = 0.0
    drop: bool = False


Page = Callable[[str, dict[str, str]], Reply | None]
"""Answer to a path (host first) and its query; None: there is no such page."""


@dataclass
class Site:
    """The running server: what it was asked, and replies that stand in for the pages for a while."""

    pages: Page
    port: int = 0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _faults: list[tuple[str, Reply, int]] = field(default_factory=list)

    @property
    def gateways(self) -> dict[str, str]:
        return {host: f"http://127.0.0.1:{self.port}/{host}" for host in HOSTS}

    @contextmanager
    def instead(self, part: str, reply: Reply, times: int = 1_000_000) -> Iterator[None]:
        """Answer the next `times` requests whose URL contains `part` with `reply`."""
        fault = [part, reply, times]
        self._faults.append(fault)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self._faults.remove(fault)  # type: ignore[arg-type]

    def reply(self, path: str, query: dict[str, str], url: str) -> Reply:
        self.asked.append((path, query))
        for fault in self._faults:
            if fault[0] in url and fault[2] > 0:
                fault[2] -= 1  # type: ignore[index]
                return fault[1]
        return self.pages(path, query) or Reply(b"<html>404</html>", 404, "text/html")


@contextmanager
def serve(pages: Page) -> Iterator[Site]:
    """A site on a free port of this machine, gone when the block ends."""
    site = Site(pages)
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one packet: else each answer waits for an acknowledgement

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = site.reply(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), self.path)
            closing.wait(reply.hang)
            if reply.drop:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield site
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
