"""Who is served by the web server of the UI, and that its programs start and end together."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect
from typer.testing import CliRunner

from etf_pipeline import cli, web
from tests.pipeline.harness import ROOT, environment, etf_pipeline

JSON = {"content-type": "application/json"}
BROWSER = {"origin": "http://localhost:3000", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.fixture
def client() -> TestClient:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("served")

    async def greet(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("served")
        await websocket.close()

    paths = ("/graphql", "/report_asset_check/{key:path}", "/{path:path}")
    routes = [Route(path, answer, methods=["GET", "POST"]) for path in paths]
    app = Starlette(routes=[WebSocketRoute("/graphql", greet), *routes])
    return TestClient(web.Guard(app, {*web.LOCAL_NAMES, "ETF.example.com"}), base_url="http://localhost:3000")


@pytest.mark.parametrize(
    "headers",
    [
        JSON,
        {**JSON, **BROWSER},
        {"content-type": "application/json; charset=utf-8"},
        {**JSON, "host": "127.0.0.1:3000", "origin": "http://127.0.0.1:3000"},
        {**JSON, "host": "[::1]:3000", "origin": "http://[::1]:3000"},
        # behind a proxy that ends TLS
        {**JSON, "host": "etf.example.com", "origin": "https://etf.example.com", "sec-fetch-site": "same-origin"},
    ],
)
def test_programs_and_its_own_pages_are_served(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/graphql", headers=headers, json={}).text == "served"


@pytest.mark.parametrize(
    "headers",
    [
        {**JSON, "origin": "http://evil.example"},
        {**JSON, "origin": "null"},
        {**JSON, "origin": "http://localhost:8000"},  # another program on this machine
        {**JSON, "origin": "http://localhost:3000.evil.example"},
        {**JSON, "sec-fetch-site": "cross-site"},
        {**JSON, "sec-fetch-site": "same-site"},
        {**JSON, **LINK},
        # a name of the attacker that now resolves to this machine
        {**JSON, "host": "evil.example:3000", "origin": "http://evil.example:3000", "sec-fetch-site": "same-origin"},
        {**JSON, "host": "localhost.evil.example"},
        {**JSON, "host": "localhost@evil.example"},
        {**JSON, "host": "[::1"},
        {**JSON, "host": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=application/json"},
        {"content-type": "application/graphql"},
        {"content-type": ""},
    ],
)
def test_pages_of_other_sites_change_nothing(client: TestClient, headers: dict[str, str]) -> None:
    refused = client.post("/graphql?query=mutation{x}", headers=headers, content=b"{}")
    assert refused.status_code == 403
    assert refused.text != "served"


def test_a_get_asks_nothing(client: TestClient) -> None:
    for path in ("/graphql?query=mutation{x}", "/graphql/?query={x}", "/graphql?a=1&query=%7Bx%7D"):
        assert client.get(path).status_code == 403
        assert client.head(path).status_code == 403
    assert client.get("/graphql", headers={"accept": "text/html"}).text == "served"


def test_a_link_opens_a_page_that_no_frame_shows(client: TestClient) -> None:
    page = client.get("/runs/1", headers=LINK)
    assert page.text == "served"
    assert page.headers["x-frame-options"] == "DENY"
    for other in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}):
        assert client.get("/runs/1", headers={**LINK, **other}).status_code == 403
    assert client.post("/report_asset_check/a", headers=LINK).status_code == 403
    assert client.post("/report_asset_check/a", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/report_asset_check/a").text == "served"


def test_websockets_of_other_origins_are_closed(client: TestClient) -> None:
    for headers in ({}, {"origin": "http://localhost:3000"}):
        with client.websocket_connect("ws://localhost:3000/graphql", headers=headers) as socket:
            assert socket.receive_text() == "served"
    for headers in ({"origin": "http://evil.example"}, {"origin": "http://localhost:8000"}, {"host": "evil.example"}):
        refused = client.websocket_connect("ws://localhost:3000/graphql", headers=headers)
        with pytest.raises(WebSocketDisconnect), refused:
            pass


KINDS = ("image", "script", "frame", "form", "text", "plain", "beacon", "socket")


@contextmanager
def listening(app: ASGIApp) -> Iterator[int]:
    """Port of a server of `app` in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def careless(changed: list[str]) -> Starlette:
    """An application that does what Dagster's does: executes a query however it comes."""

    async def execute(request: Request) -> PlainTextResponse:
        body = (await request.body()).decode()
        query = request.query_params.get("query") or body
        if "mutation" in query:
            changed.append(f"{request.method} {query}")
        return PlainTextResponse("done")

    async def greet(websocket: WebSocket) -> None:
        await websocket.accept()
        changed.append(await websocket.receive_text())

    return Starlette(routes=[Route("/graphql", execute, methods=["GET", "POST"]), WebSocketRoute("/graphql", greet)])


ATTACKS = """
const url = "%s/graphql";
const get = (name) => url + "?query=" + encodeURIComponent("mutation " + name);
const loaded = [];
const element = (name, attributes, parent = document.body) => {
  const made = Object.assign(document.createElement(name), attributes);
  loaded.push(new Promise((done) => { made.onload = made.onerror = done; }));
  parent.append(made);
  return made;
};
element("img", { src: get("image") });
element("script", { src: get("script") });
element("iframe", { src: get("frame") });
element("iframe", { name: "target" });
const form = document.createElement("form");
Object.assign(form, { method: "post", action: url, enctype: "text/plain", target: "target" });
form.append(Object.assign(document.createElement("input"), { name: "mutation form", value: "1" }));
document.body.append(form);
form.submit();
loaded.push(fetch(get("text"), { method: "POST", mode: "no-cors", body: "" }));
const plain = { method: "POST", headers: { "Content-Type": "text/plain" }, body: "mutation plain" };
loaded.push(fetch(url, plain).catch(String));
navigator.sendBeacon(url, "mutation beacon");
const socket = new WebSocket(url.replace("http", "ws"));
loaded.push(new Promise((done) => {
  socket.onopen = () => { socket.send("mutation socket"); setTimeout(done, 100); };
  socket.onerror = done;
}));
Promise.all(loaded).then(() => setTimeout(() => { document.title = "over"; }, 300));
"""


@pytest.mark.slow
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("guarded", [False, True])
def test_a_page_of_another_origin_in_a_browser(browser: Browser, guarded: bool) -> None:
    changed: list[str] = []
    app = careless(changed)
    with listening(web.Guard(app) if guarded else app) as port:
        script = ATTACKS % f"http://127.0.0.1:{port}"

        async def lure(request: Request) -> HTMLResponse:
            return HTMLResponse(f"<title>begun</title><body><script>{script}</script></body>")

        with listening(Starlette(routes=[Route("/", lure)])) as other:
            page = browser.new_page()
            for name in ("127.0.0.1", "localhost"):  # of the same site, and of another
                page.goto(f"http://{name}:{other}/")
                page.wait_for_function("document.title === 'over'")
            page.close()
    found = {kind for kind in KINDS if any(kind in query for query in changed)}
    # without the guard every one of them arrives: the attack is a real one
    assert found == (set() if guarded else set(KINDS))


PARENT = """
import sys
from pathlib import Path
from typer.testing import CliRunner

from etf_pipeline import cli, web
sys.exit(web.together([["first"]], [["other", "7"]], Path("ready"), {environment!r}))
"""
FIRST = """
import os, time
from pathlib import Path
Path("first.pid").write_text(str(os.getpid()))
Path("ready").touch()
time.sleep(60)
"""
OTHER = """
import os, sys, time
from pathlib import Path
assert Path("ready").exists()
Path("other.pid").write_text(str(os.getpid()))
if Path("fail").exists():
    sys.exit(int(sys.argv[1]))
time.sleep(60)
"""


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -9), (None, 7)])
def test_programs_end_together(tmp_path: Path, how: signal.Signals | None, code: int) -> None:
    settings = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    (tmp_path / "first.py").write_text(FIRST)
    (tmp_path / "other.py").write_text(OTHER)
    if how is None:
        (tmp_path / "fail").touch()
    script = textwrap.dedent(PARENT).format(environment=settings)
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=settings)
    pids = [pid_in(tmp_path / name) for name in ("first.pid", "other.pid")]
    if how:
        parent.send_signal(how)
    assert parent.wait(30) == code
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid_in(file: Path) -> int:
    deadline = time.monotonic() + 30
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


def is_running(pid: int) -> bool:
    """Whether it runs; one that has ended, with no parent to ask for its code, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_mistyped_lake_is_not_made(tmp_path: Path) -> None:
    done = etf_pipeline("ui", "--lake", "typo", cwd=tmp_path)
    assert done.code == 1
    assert "typo" in done.words
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_and_an_open_address_are_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = etf_pipeline("ui", "--source", "sample", "--port", port, cwd=tmp_path)
    assert done.code == 1
    assert f"port{port}of127.0.0.1istaken" in done.words
    assert "Traceback" not in done.output
    done = etf_pipeline("ui", "--source", "sample", "--host", "0.0.0.0", "--port", port, cwd=tmp_path)
    assert done.code == 1
    assert "--allow-hostNAME" in done.words
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_lake_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "lake"))

    monkeypatch.setattr(cli, "dagster_home", refuse)
    monkeypatch.setattr(web, "is_free", lambda *_: True)
    done = CliRunner().invoke(cli.app, ["ui", "--source", "sample", "--lake", str(tmp_path / "lake")])
    assert done.exit_code == 1
    assert "".join(f"Not permitted: Permission denied: {tmp_path / 'lake'}.".split()) in "".join(done.output.split())
    assert not isinstance(done.exception, PermissionError)
