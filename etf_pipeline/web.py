"""The Dagster UI, guarded from other web pages, and the programs that run beside it.

Here: which requests reach the web server, and starting and ending its programs together. Dagster's own web server has
no accounts and answers every page a browser has open: a page of another site could start runs and wipe assets by an
`<img>`, a form or a name that resolves to this machine. Not here: who may log in (`docs/deployment.md`).
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SECONDS_TO_END = 20
_SECONDS_TO_START = 120


class Guard:
    """Passes on what a page of this server, or a program, asks; refuses what a page of another site asks.

    Programs such as curl send neither `Origin` nor `Sec-Fetch-Site` and are served. Browsers send both, and no page
    can change them.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = LOCAL_NAMES) -> None:
        self._app = app
        self._names = {name.lower().strip("[]") for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket, or answer 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            if scope["type"] == "websocket":
                await WebSocketClose(1008, refusal)(scope, receive, send)
            else:
                await PlainTextResponse(f"{refusal}\n", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, _unframed(send))

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host_name(hosts[0]) not in self._names:
            return "This server does not go by the name in the header Host; allow one by --allow-host NAME."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != hosts[0].lower():
            return "A page of another origin may not use this server."
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not _is_link(scope, headers):
            return "A page of another site may not use this server."
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/graphql"):
            return _graphql_refusal(scope, headers)
        return None


def _host_name(host: str) -> str | None:
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname
    return None


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether the reader follows a link to a page of the UI, as out of a message."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _graphql_refusal(scope: Scope, headers: Headers) -> str | None:
    """GraphQL may change something, so it has to come as no form, image or link of a page can send it."""
    if scope["method"] == "POST":
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return None if kind == "application/json" else "GraphQL has to be sent as application/json."
    # without a query it is the playground
    return "GraphQL has to be sent by POST." if "query" in parse_qs(scope["query_string"].decode("latin-1")) else None


def _unframed(send: Send) -> Send:
    """No other page may show this one inside itself, where a click meant for the other would land here."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
        await send(message)

    return sent


def serve(workspace: Path, host: str, port: int, names: Iterable[str], read_only: bool) -> None:
    """Serve the UI of the code locations in a workspace file until interrupted."""
    import dagster as dg
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context

    target = WorkspaceFileTarget(paths=[str(workspace)])
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, workspace_load_target=target, read_only=read_only) as context,
    ):
        app = create_app_from_workspace_process_context(context)
        uvicorn.run(Guard(app, names), host=host, port=port, log_level="warning")


def is_free(host: str, port: int) -> bool:
    """Whether a server may listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def serve_all(environment: Mapping[str, str], host: str, port: int, names: Sequence[str], read_only: bool) -> int:
    """Code server, daemon and web server over one lake until one of them ends or this process is interrupted.

    One code server serves both others: given a module, each would start one of its own. Returns the exit code.
    """
    with tempfile.TemporaryDirectory(prefix="etf-pipeline-") as folder:
        code, workspace = Path(folder, "code.sock"), Path(folder, "workspace.yaml")
        location = {"grpc_server": {"socket": str(code), "location_name": "etf_pipeline"}}
        workspace.write_text(yaml.safe_dump({"load_from": [location]}), encoding="utf-8")
        web = ["--workspace", str(workspace), "--host", host, "--port", str(port)]
        web += [part for name in names for part in ("--allow-host", name)]
        first = ["dagster", "code-server", "start", "-m", "etf_pipeline.definitions", "-s", str(code)]
        others = [
            ["dagster._daemon", "run", "-w", str(workspace)],
            ["etf_pipeline.web", *web, *(["--read-only"] if read_only else [])],
        ]
        return together([first], others, code, environment)


def together(
    first: Sequence[Sequence[str]], others: Sequence[Sequence[str]], ready: Path, environment: Mapping[str, str]
) -> int:
    """Run Python modules side by side, `others` once the file `ready` is there; when one ends, all end.

    They also end when this process does, even killed: they read from a pipe that only it holds open.
    """
    running: list[subprocess.Popen[bytes]] = []
    # a shell that starts it in the background leaves SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    read_end, write_end = os.pipe()

    def start(module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "etf_pipeline.web", "--beside", module, *arguments]
        # a session of their own: Ctrl-C in the terminal reaches this process alone, which then ends them in order
        running.append(subprocess.Popen(command, stdin=read_end, env=dict(environment), start_new_session=True))

    def ended() -> bool:
        return any(process.poll() is not None for process in running)

    try:
        for command in first:
            start(*command)
        deadline = time.monotonic() + _SECONDS_TO_START
        while not ready.exists() and not ended() and time.monotonic() < deadline:
            time.sleep(0.1)
        for command in others:
            start(*command)
        while not ended():
            time.sleep(0.5)
        return next(process.returncode for process in running if process.returncode is not None)
    except KeyboardInterrupt:
        return 0
    finally:
        os.close(write_end)
        _end(reversed(running))


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _beside(module: str, arguments: list[str]) -> None:
    """Run a module that is interrupted when the process which started it has ended."""
    import runpy

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    sys.argv = [module, *arguments]
    with suppress(KeyboardInterrupt):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _main() -> None:
    if sys.argv[1:2] == ["--beside"]:
        _beside(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(prog="python -m etf_pipeline.web", description="The guarded Dagster web server.")
    parser.add_argument("-w", "--workspace", type=Path, required=True, help="Workspace file of Dagster.")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--allow-host", action="append", default=[], help="Another name this server goes by.")
    parser.add_argument("--read-only", action="store_true", help="Nothing can be started or changed.")
    given = parser.parse_args()
    serve(given.workspace, given.host, given.port, {*LOCAL_NAMES, *given.allow_host}, given.read_only)


if __name__ == "__main__":
    _main()
