"""How the files of a lake are written and read: whole or not at all, and never as anything but what was written.

Every Parquet file carries the SHA-256 of all its other bytes in its footer, so that file and digest are replaced by
one rename, and copied and restored together. Parquet's own checksums of pages are written too, for other readers;
they say nothing of headers and footer. A small JSON file carries its digest under the name `sha256`.

Here: single files. Not here: which files a lake has (`lake.py`).
"""

import fcntl
import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_SEAL = b"etf_pipeline.sha256"
_UNSEALED = b"0" * 64
# how Thrift writes the one name with a value of 64 bytes after it
_BEFORE_DIGEST = _SEAL + b"\x18\x40"
_JSON_SEAL = "sha256"


class LakeError(Exception):
    """The lake holds something other than what is asked of it; the message says what to do."""


class DamagedFile(LakeError):
    """A file is not what was written; the message names it and says what to do."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(f"{path} is damaged ({found}). {advice(path)}")
        self.path = path
        self.found = found


def advice(path: Path) -> str:
    """What to do about a file of a lake that is damaged or gone: by the folder it lies in."""
    kind, root = next(((p.name, p.parent) for p in path.parents if p.name in _ADVICE), ("", path.parent))
    if path.name == "lake.json":
        return "Restore it from a backup, or say what the lake is of: `etf-pipeline rebind`."
    if path.name == "deployment.json":
        return "Remove it, and give the next `etf-pipeline run` the options of the last one."
    return _ADVICE.get(kind, "Restore it from a backup.").format(
        lake=quoted(root), name=path.parent.name, part=path.stem, file=quoted(path.relative_to(root))
    )


def quoted(path: Path) -> str:
    """A path as it is typed in a shell."""
    return shlex.quote(str(path))


def set_aside(path: Path) -> None:
    """Rename a damaged file, if it is there, so that nothing reads it and a person still can look at it."""
    if path.exists():
        path.replace(path.with_name(f".{path.name}.damaged"))


_ADVICE = {
    "raw": (
        "Restore it from a backup; or have `etf-pipeline doctor --fix --lake {lake}` set aside what is damaged, and "
        "ingest {part} of raw/{name} again in one go, as `etf-pipeline run --lake {lake}` does."
    ),
    "published": "`etf-pipeline run --lake {lake}` makes it anew.",
    "archive": (
        "Nothing else knows what these rows were earlier: restore it from a backup. "
        "To go on without: `etf-pipeline doctor --give-up {file} --lake {lake}`."
    ),
    "ledger": (
        "Nothing else knows what was published when: restore it from a backup. "
        "To begin it anew all the same: `etf-pipeline doctor --give-up {file} --lake {lake}`."
    ),
}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes otherwise.

    The file is on disk before it counts: not even a power failure leaves half of it under its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if path.exists() and _same_bytes(path, temporary):
            return
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _same_bytes(left: Path, right: Path) -> bool:
    return left.stat().st_size == right.stat().st_size and left.read_bytes() == right.read_bytes()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone; the system frees it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file with the digest of its bytes; equal tables make equal files."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_SEAL: _UNSEALED})
    data = sink.getvalue().to_pybytes()
    start = data.rindex(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(data)
        stream.seek(start)
        stream.write(hashlib.sha256(data).hexdigest().encode())


def read_bytes(path: Path) -> bytes:
    """All bytes of a Parquet file that are what was written.

    Raises:
        DamagedFile: they are not.
        FileNotFoundError: there is no such file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFile(path, f"it cannot be read: {error.strerror}") from error
    start = data.rfind(_BEFORE_DIGEST) + len(_BEFORE_DIGEST)
    end = start + len(_UNSEALED)
    if start < len(_BEFORE_DIGEST) or end > len(data):
        raise DamagedFile(path, f"its {len(data):,} bytes are no file of a lake" if data else "it is empty")
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(_UNSEALED)
    digest.update(view[end:])
    if digest.hexdigest().encode() != view[start:end]:
        raise DamagedFile(path, "its bytes are not those that were written")
    return data


def seal(path: Path) -> None:
    """Give a Parquet file of an earlier version its digest; one that has it stays as it is.

    Raises:
        DamagedFile: it is no Parquet file.
    """
    if damage(path):
        try:
            rows = pq.read_table(pa.BufferReader(path.read_bytes()))
        except pa.ArrowException as error:
            raise DamagedFile(path, str(error).splitlines()[0]) from error
        write_table(rows, path)


def damage(path: Path) -> DamagedFile | None:
    """What is wrong with a Parquet file; None if nothing is."""
    try:
        read_bytes(path)
    except DamagedFile as error:
        return error
    return None


def open_table(path: Path) -> pq.ParquetFile:
    """A Parquet file, for its schema, rows and columns; raises as `read_bytes`."""
    return pq.ParquetFile(pa.BufferReader(read_bytes(path)))


def read_table(
    path: Path, columns: Sequence[str] | None = None, schema: pa.Schema | None = None, filters: Any = None
) -> pa.Table:
    """Rows of a Parquet file, or some of its columns; raises as `read_bytes`.

    `schema` is what the columns are cast to, those that the file lacks being null. `filters` are those of pyarrow.
    """
    source = pa.BufferReader(read_bytes(path))
    return pq.read_table(source, columns=list(columns) if columns else None, schema=schema, filters=filters)


def rows_in(files: Iterable[Path]) -> int:
    """How many rows these Parquet files hold; raises as `read_bytes`."""
    return sum(open_table(file).metadata.num_rows for file in files)


def write_json(path: Path, values: dict[str, Any], *, indent: int | None = 1, private: bool = False) -> None:
    """Write a small JSON file with the digest of what it says; a private one is for its owner alone."""
    sealed = {**values, _JSON_SEAL: _json_digest(values)}
    if private and path.exists():
        path.chmod(0o600)
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600 if private else 0o666)
        temporary.write_text(json.dumps(sealed, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What a small JSON file says; one without a digest, of an earlier version or made by hand, is taken at its word.

    Raises:
        DamagedFile: it is not what was written.
        FileNotFoundError: there is no such file.
    """
    try:
        values = json.loads(path.read_bytes().decode())
    except (ValueError, IsADirectoryError) as error:
        raise DamagedFile(path, "it is no JSON") from error
    if not isinstance(values, dict):
        raise DamagedFile(path, "it is no JSON object")
    digest = values.pop(_JSON_SEAL, None)
    if digest is not None and digest != _json_digest(values):
        raise DamagedFile(path, "it does not say what was written")
    return values


def kept_json(path: Path) -> dict[str, Any]:
    """As `read_json` of a file that only saves work: one that is not there, or damaged, says nothing."""
    with suppress(FileNotFoundError, DamagedFile):
        return read_json(path)
    return {}


def _json_digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def is_held(error: Exception) -> bool:
    """Whether DuckDB could not open a file because another process has it open; of a damaged one it says "block"."""
    return "lock on file" in str(error)
