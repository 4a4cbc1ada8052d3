"""Calls of AKShare's functions: a worker process with a hard deadline, stored answers, retries, and typed errors.

Here: getting one function's table, and the bytes it came from. Not here: what the functions return (`functions.py`)
and what is asked for when (`source.py`).
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock, Timer
from typing import Any, NoReturn

import pandas as pd
import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from etf_pipeline.sources.akshare.functions import FUNCTIONS, CanaryError, Function, check_canary, in_words
from etf_pipeline.sources.base import MalformedResponse, ResponseCut, SourceError, VendorUnavailable
from etf_pipeline.sources.responses import NotStored, Response, ResponseStore

AKSHARE_VERSION = "1.19.5"
"""The only version this adapter is written for: columns and units change between versions."""

_EXTRA = "pip install 'etf-pipeline[akshare]'"
_KEPT_VARIABLES = (
    *("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *(name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (upper, upper.lower())),
)
_START_SECONDS = 120.0
_RETRY_AFTER_SECONDS = 600.0


class AkshareMissing(SourceError):
    """The library is not installed, or not in the version this adapter is written for."""


@dataclass(frozen=True)
class Answer:
    """A function's table and the stored responses it was made from."""

    frame: pd.DataFrame
    responses: tuple[Response, ...]


def require_akshare() -> None:
    """Check that AKShare is installed in the one version that will do; does not import it.

    Raises:
        AkshareMissing: it is not; the message says what to install.
    """
    try:
        found = version("akshare") if find_spec("akshare") else None
    except PackageNotFoundError:
        found = None
    if found is None:
        raise AkshareMissing(f"source akshare needs the package akshare, which is not installed: {_EXTRA}")
    if found != AKSHARE_VERSION:
        raise AkshareMissing(
            f"source akshare needs akshare {AKSHARE_VERSION}, installed is {found}; columns and units change between "
            f"versions: {_EXTRA}"
        )


class Worker:
    """The process AKShare runs in, started on first use and again after it had to be killed.

    `gateways` sends the requests to a host to another base URL. `pause` is the least number of seconds between two
    requests to one host: vendors block addresses that ask too fast.
    """

    def __init__(self, gateways: Mapping[str, str] | None = None, pause: float = 0.3) -> None:
        self._settings = {"gateways": dict(gateways or {}), "pause": pause}
        self._process: subprocess.Popen[bytes] | None = None
        self._parent: Connection | None = None
        self._lock = Lock()

    @property
    def pid(self) -> int | None:
        """Process id; None while none runs."""
        return self._process.pid if self._process else None

    def converse(self, call: Mapping[str, Any], deadline: float, hear: "_Exchange") -> dict[str, Any]:
        """Let the worker make one call, `hear` answering what it asks; its last message, a table under `table`.

        Raises:
            EOFError: it did not finish within `deadline` seconds, or died; it is gone either way.
        """
        with self._lock:
            parent = self._started()
            timer = Timer(deadline, self._kill)
            timer.start()
            try:
                parent.send_bytes(json.dumps({**call, "deadline": deadline}).encode())
                while True:
                    message = json.loads(parent.recv_bytes())
                    if message["kind"] == "ask":
                        kind, body = hear.stored(message["request"])
                        parent.send_bytes(json.dumps({"kind": kind}).encode())
                        if body is not None:
                            parent.send_bytes(body)
                    elif message["kind"] == "got":
                        hear.received(message["request"], parent.recv_bytes())
                    else:
                        return {**message, "table": parent.recv_bytes() if message["kind"] == "frame" else b""}
            except OSError as error:  # the pipe of a killed process
                self.close()
                raise EOFError(str(error)) from error
            except BaseException:
                self.close()
                raise
            finally:
                timer.cancel()

    def close(self) -> None:
        """End the process, if there is one; the next call starts another."""
        self._kill()
        if self._process:
            self._process.wait()
        if self._parent:
            self._parent.close()
        self._process = self._parent = None

    def _kill(self) -> None:
        if self._process:
            self._process.kill()

    def _started(self) -> Connection:
        if self._parent and self._process and self._process.poll() is None:
            return self._parent
        self.close()
        self._parent, child = Pipe()
        with child:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "etf_pipeline.sources.akshare.worker", str(child.fileno())],
                pass_fds=[child.fileno()],
                # nothing else of the environment: what evaluates remote text shall find no token
                env={k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ} | {"TQDM_DISABLE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            self._parent.send_bytes(json.dumps(self._settings).encode())
            if not self._parent.poll(_START_SECONDS):
                raise EOFError
            self._parent.recv_bytes()
        except (EOFError, OSError) as error:
            self.close()
            raise AkshareMissing(f"akshare {AKSHARE_VERSION} is installed but cannot be imported: {_EXTRA}") from error
        return self._parent


class _Exchange:
    """What one call asked for and got; new answers are kept only once the call has succeeded."""

    def __init__(
        self, store: ResponseStore, function: str, since: datetime | None, until: datetime | None, offline: bool
    ) -> None:
        self._store, self._function = store, function
        self._since, self._until, self._offline = since, until, offline
        self.found: list[Response] = []
        self.fresh: list[tuple[dict[str, str], bytes]] = []
        self.bodies: list[bytes] = []

    def stored(self, request: dict[str, str]) -> tuple[str, bytes | None]:
        if self._until is None:
            found = self._store.newest(self._function, request, self._since)
        else:
            until = self._until
            found = next(
                (v for v in reversed(self._store.versions(self._function, request)) if v.received_at < until), None
            )
        if found is None:
            return "refused" if self._offline or self._until is not None else "go", None
        self.found.append(found)
        self.bodies.append(found.body)
        return "stored", found.body

    def received(self, request: dict[str, str], body: bytes) -> None:
        self.fresh.append((request, body))
        self.bodies.append(body)


class AkshareClient:
    """Tables of AKShare's functions, each answer stored below `responses` and used again where it will do.

    `deadline` bounds each attempt, in seconds; there are up to `attempts`, the second after about `retry_wait` seconds,
    the next ones later. `offline`: stored answers only.
    """

    def __init__(
        self,
        responses: ResponseStore,
        worker: Worker | None = None,
        *,
        deadline: float = 120.0,
        offline: bool = False,
        attempts: int = 3,
        retry_wait: float = 5.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        require_akshare()
        self.calls: Counter[str] = Counter()
        """HTTP requests that went out, by function."""
        self._responses, self._worker = responses, worker or Worker()
        self._deadline, self._offline, self._clock = deadline, offline, clock
        self._retrying = Retrying(
            retry=retry_if_exception_type(VendorUnavailable),
            stop=stop_after_attempt(attempts),
            wait=wait_exponential_jitter(retry_wait, max=60, jitter=retry_wait),
            reraise=True,
        )

    @property
    def offline(self) -> bool:
        """Whether nothing may be requested."""
        return self._offline

    def now(self) -> datetime:
        """The moment answers are received at, with zone."""
        return self._clock()

    def call(
        self,
        function: str,
        arguments: Mapping[str, str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Answer:
        """The table of `function`, its columns as `functions.py` lists them; no rows where the vendor has none.

        Answers stored at or after `since` are used instead of requests (None, or offline: any stored one). With
        `until`, only those stored before it are, and nothing is requested.

        Raises:
            CanaryError: other columns, types or units than the function promises.
            MalformedResponse: what came cannot be parsed, and is not how this function says that it has nothing.
            ResponseCut: as many rows as the vendor sends at most.
            NotStored: nothing stored will do, and nothing may be requested.
            VendorUnavailable: no answer within the deadline, a refusal or a block page, again after repetitions.
        """
        return self._retrying(self._once, FUNCTIONS[function], arguments, since, until)

    def _once(
        self, function: Function, arguments: Mapping[str, str], since: datetime | None, until: datetime | None
    ) -> Answer:
        exchange = _Exchange(self._responses, function.name, None if self._offline else since, until, self._offline)
        call = {"function": function.name, "arguments": dict(arguments), "html": function.reads_html}
        where = in_words(function.name, arguments)
        try:
            message = self._worker.converse(call, self._deadline, exchange)
        except EOFError as error:
            raise VendorUnavailable(
                f"{where}: no answer within {self._deadline:g} s, or the process died; it was ended. Try again later; "
                "if it stays so, see whether the site answers in a browser",
                _RETRY_AFTER_SECONDS,
            ) from error
        finally:
            self.calls[function.name] += len(exchange.fresh)
        if message["kind"] == "failed":
            if not function.is_empty(message["how"], message["type"], message["message"], exchange.bodies):
                _refuse(where, message, exchange.bodies)
            frame = pd.DataFrame()
        else:
            frame = pa.ipc.open_stream(message["table"]).read_all().to_pandas(date_as_object=False)
        if frame.empty:
            frame = pd.DataFrame(columns=list(function.columns))
        try:
            check_canary(function.name, frame)
        except CanaryError as error:
            raise CanaryError(f"{where}: {error}") from None
        if function.cap is not None and len(frame) >= function.cap:
            raise ResponseCut(
                f"{where}: {len(frame):,} rows, the most the vendor sends at once; ask for less at a time"
            )
        now = self.now()
        kept = [self._responses.keep(function.name, request, body, now) for request, body in exchange.fresh]
        return Answer(frame, (*exchange.found, *kept))

    def close(self) -> None:
        """End the worker process."""
        self._worker.close()


def _refuse(where: str, message: Mapping[str, Any], bodies: Sequence[bytes]) -> NoReturn:
    reason = f"{message['type']}: {message['message']}"
    if message["how"] == "refused":
        raise NotStored(f"{where}: no stored answer will do, and none may be requested. Run once with a network")
    if message["how"] in ("blocked", "transport"):
        raise VendorUnavailable(
            f"{where}: {message['message']}. The site refuses or blocks this address: wait some minutes, ask slower, "
            "or send its host through a gateway",
            _RETRY_AFTER_SECONDS,
        )
    sent = bodies[-1][:200].decode("utf-8", errors="replace") if bodies else "nothing"
    raise MalformedResponse(
        f"{where}: the answer is not what akshare {AKSHARE_VERSION} parses ({reason}); the vendor sent {sent!r} … "
        "Look whether a newer akshare has a repair, and whether this adapter knows that version"
    )
