"""Raw responses of vendors as they came, so that any row can be traced to its bytes and adapters can run offline.

    <root>/<api>/<first 2 of key>/<key>.<UTC time>.json.gz

The key is the SHA-256 of the request as JSON with sorted names, so the order of parameters does not matter. A file is
one line of JSON (api, request, received_at, sha256 of the body) and then the body, all gzipped: `zcat` shows it.
Files are only ever added. A later answer to the same request stands beside the earlier ones.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from etf_pipeline.resources.storage import atomic_path
from etf_pipeline.sources.base import SourceError

_TIME = "%Y%m%dT%H%M%S%fZ"
SUFFIX = ".json.gz"


class NotStored(SourceError):
    """Only stored responses may be used, and none answers this request."""


class DamagedResponse(SourceError):
    """A stored response is not what was stored; the message names the file."""


@dataclass(frozen=True)
class Response:
    """One answer of a vendor: the bytes as they came, to which request, and when (UTC)."""

    api: str
    request: Mapping[str, Any]
    received_at: datetime
    body: bytes
    sha256: str
    path: Path


class ResponseStore:
    """The responses below the folder `root`. Several processes and threads may use one store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, api: str, request: Mapping[str, Any], body: bytes, received_at: datetime) -> Response:
        """Store one answer; it is on disk, whole, when this returns. `request` must be JSON and hold no secret."""
        if received_at.tzinfo is None:
            raise ValueError(f"{api}: received_at {received_at} has no zone")
        moment = received_at.astimezone(UTC)
        folder, key = self._place(api, request)
        path = folder / f"{key}.{moment:{_TIME}}{SUFFIX}"
        digest = sha256(body).hexdigest()
        envelope = {"api": api, "request": request, "received_at": moment.isoformat(), "sha256": digest}
        line = json.dumps(envelope, ensure_ascii=False).encode()
        with atomic_path(path) as temporary:
            temporary.write_bytes(gzip.compress(line + b"\n" + body, mtime=0))
        return Response(api, request, moment, body, digest, path)

    def newest(self, api: str, request: Mapping[str, Any], since: datetime | None = None) -> Response | None:
        """The newest answer to exactly this request received at or after `since` (aware); None if there is none.

        Raises:
            DamagedResponse: the file does not hold what was stored.
        """
        paths = self._paths(api, request)
        if not paths or (since is not None and _received_at(paths[-1]) < since):
            return None
        return _read(paths[-1], api, request)

    def versions(self, api: str, request: Mapping[str, Any]) -> list[Response]:
        """All answers to exactly this request, oldest first.

        Raises:
            DamagedResponse: one of the files does not hold what was stored.
        """
        return [_read(path, api, request) for path in self._paths(api, request)]

    def _paths(self, api: str, request: Mapping[str, Any]) -> list[Path]:
        folder, key = self._place(api, request)
        return sorted(folder.glob(f"{key}.*{SUFFIX}"))

    def _place(self, api: str, request: Mapping[str, Any]) -> tuple[Path, str]:
        key = sha256(_canonical(request)).hexdigest()
        return self.root / api / key[:2], key


def _canonical(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _received_at(path: Path) -> datetime:
    stamp = path.name.removesuffix(SUFFIX).partition(".")[2]
    return datetime.strptime(stamp, _TIME).replace(tzinfo=UTC)


def is_damaged(path: Path) -> bool:
    """Whether the file of a response does not hold what was stored."""
    try:
        _unpack(path)
    except DamagedResponse:
        return True
    return False


def _unpack(path: Path) -> tuple[bytes, tuple[str, bytes, str, str]]:
    """The body, and of the line above it: API, request, time and the body's digest."""
    try:
        line, _, body = gzip.decompress(path.read_bytes()).partition(b"\n")
        envelope = json.loads(line)
        stored = (envelope["api"], _canonical(envelope["request"]), envelope["received_at"], envelope["sha256"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    digest = sha256(body).hexdigest()
    if digest != stored[3]:
        raise _damaged(path, f"its body has the SHA-256 {digest}, stored was {stored[3]}")
    return body, stored


def _read(path: Path, api: str, request: Mapping[str, Any]) -> Response:
    body, stored = _unpack(path)
    moment, digest = _received_at(path), stored[3]
    if stored[:3] != (api, _canonical(request), moment.isoformat()):
        raise _damaged(path, "it holds the answer to another request, or of another time, than its name says")
    return Response(api, request, moment, body, digest, path)


def _damaged(path: Path, rule: str) -> DamagedResponse:
    return DamagedResponse(f"{path}: the stored response is damaged: {rule}. Remove the file; it is asked for again.")
