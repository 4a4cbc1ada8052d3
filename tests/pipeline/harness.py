"""What the end-to-end tests share: the console entry in a process of its own, and what a lake holds."""

import atexit
import hashlib
import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ROOT / "tests" / "pipeline" / "offline"
COMPUTED = ("raw", "published")
DATED = ("archive", "ledger")  # these hold when something was written, so no two lakes have the same

SHORT = ("--start", "2023-01-01", "--end", "2023-07-31")
"""A range of days for runs of which there are many."""
LAST_SHORT_SIGNAL = "2023-07-21"


def environment(**extra: str) -> dict[str, str]:
    """This process' environment without any setting of the pipeline or of Dagster, and without a network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETF_PIPELINE_", "DAGSTER_", "DBT_"))}
    path = os.pathsep.join([str(OFFLINE), str(ROOT)])
    # parsed once for all, also for a program with another HOME
    return {**kept, "PYTHONPATH": path, "XDG_CACHE_HOME": str(user_cache_path()), **extra}


@dataclass(frozen=True)
class Finished:
    """A command that has ended: exit code and everything it printed."""

    code: int
    output: str

    @property
    def words(self) -> str:
        """The output without the spaces and breaks a terminal of some width puts in."""
        return squeeze(self.output)


def squeeze(text: str) -> str:
    """`text` without white space, for comparing what was wrapped."""
    return "".join(text.split())


_LIBRARIES = (
    "apprise",
    "clarabel",
    "dagster_dbt",
    "dbt.adapters.duckdb",
    "dbt.cli.main",
    "exchange_calendars",
    "great_expectations",
    "httpx",
    "jinja2",
    "rich.progress",
    "scipy.optimize",
    "typer",
    "xlsxwriter",
)
"""What every command imports, for seconds each time. None of these starts a thread that a fork would miss."""

PROCESSES = multiprocessing.get_context("forkserver")
"""Processes that have these libraries from the start; there is but one such server in a test process."""
PROCESSES.set_forkserver_preload(list(_LIBRARIES))


class Command:
    """A console command in a process group of its own, which has the libraries but nothing of the project yet."""

    def __init__(self, *arguments: object, cwd: Path, log: Path, largest_file: int | None = None) -> None:
        settings = environment()
        self._process = PROCESSES.Process(target=_run, args=([*map(str, arguments)], cwd, log, settings, largest_file))
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Exit code, below zero the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Exit code, once there is one.

        Raises:
            TimeoutError: it still runs.
        """
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise TimeoutError(f"still running after {timeout} s")
        return code


def _run(arguments: list[str], cwd: Path, log: Path, settings: dict[str, str], largest_file: int | None) -> None:
    os.setsid()
    with log.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(settings)
    sys.argv = ["etf-pipeline", *arguments]
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    runpy.run_path(str(OFFLINE / "sitecustomize.py"))
    # as a program of its own would begin and end
    assert not [name for name in sys.modules if name.startswith("etf_pipeline")]
    try:
        from etf_pipeline.cli import main

        main()
    finally:
        atexit._run_exitfuncs()


def etf_pipeline(*arguments: object, cwd: Path, largest_file: int | None = None) -> Finished:
    """Run the console command to its end; no file can grow beyond `largest_file` bytes, as on a disk that is full."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        code = Command(*arguments, cwd=cwd, log=log, largest_file=largest_file).wait(timeout=900)
        return Finished(code, log.read_text(encoding="utf-8"))


def computed_files(lake: Path, folders: tuple[str, ...] = COMPUTED) -> list[Path]:
    """Every visible file under raw/ and published/, or other folders."""
    return sorted(
        path
        for folder in folders
        for path in (lake / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def digests(lake: Path, files: list[Path] | None = None) -> dict[str, str]:
    """SHA-256 of each file by its path in the lake; by default of every computed one."""
    files = computed_files(lake) if files is None else files
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def everything(lake: Path) -> dict[str, str]:
    """SHA-256 of every file of the lake, hidden ones too; empty where there is no lake."""
    return digests(lake, sorted(path for path in lake.rglob("*") if path.is_file()))


def stamps(lake: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the last change of every computed file."""
    return {str(path.relative_to(lake)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in computed_files(lake)}


def link_lake(source: Path, target: Path, *parts: str) -> Path:
    """A lake that shares the files of `source` under `parts` until it replaces them; nothing else is taken over."""
    # imported here: a command's process must begin with nothing of the project
    from etf_pipeline.resources.lake import Lake

    target.mkdir(parents=True)
    Lake(target).claim(Lake(source).source_label)
    for path in computed_files(source):
        relative = path.relative_to(source)
        if relative.parts[0] in parts:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target / relative)
    return target


def readable_rows(lake: Path) -> dict[str, int]:
    """Rows of every file of data, each read to its end: a half-written file raises."""
    rows = {}
    for path in computed_files(lake, (*COMPUTED, *DATED)):
        assert path.suffix == ".parquet", f"not data, yet visible: {path}"
        rows[str(path.relative_to(lake))] = pq.read_table(path).num_rows
    return rows


def folder_of(view: str) -> tuple[str, ...]:
    """Where the rows of a view of the catalogue lie in the lake: beginnings of its files' paths."""
    schema, name = view.split(".")
    if schema != "main":
        return (f"{schema}/{name}/",)
    if name == "holdings_ledger":
        return (f"ledger/{name}.parquet",)
    return (f"published/{name}.parquet", f"published/{name}/")


def catalogue_rows(lake: Path) -> dict[str, int]:
    """Rows of every view of the catalogue, by its name with schema."""
    with duckdb.connect(lake / "etf.duckdb", read_only=True) as connection:
        views = connection.sql(
            "select table_schema || '.' || table_name as name from information_schema.tables order by name"
        ).df()["name"]
        return {view: int(connection.sql(f"select count(*) as n from {view}").df()["n"][0]) for view in views}
