"""The dbt project as the pipeline runs it: where it lies, its manifest, its variables, and its commands.

dbt runs by its Python interface, on the manifest that is parsed once for all lakes: its command line would import for
three seconds, and parse the project for two more. It runs in a process that was started early, or in this one; it
allows one command at a time in a process.
"""

import contextlib
import gc
import importlib.metadata
import json
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etf_pipeline.resources.early import Early
from etf_pipeline.resources.increment import Window
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import atomic_path, exclusive_lock
from etf_pipeline.settings import Parameters

if TYPE_CHECKING:
    from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

PROJECT_DIR = Path(__file__).parents[2] / "dbt_project"
_TARGET = PROJECT_DIR / "target"
_MANIFEST = _TARGET / "manifest.json"
# dbt's own form of it, macros and all: of no use to another dbt
_PARSED = _TARGET / "-".join(["manifest", *map(importlib.metadata.version, ("dbt-core", "dbt-duckdb"))])
_PLACE = ("--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR))
_SHOWN = {"LogModelResult", "LogTestResult"}


class NodeResult(NamedTuple):
    """What became of a model or test: dbt's status (success, pass, warn, fail, error, skipped) and its message."""

    unique_id: str
    status: str
    message: str
    seconds: float


class DbtError(RuntimeError):
    """dbt itself failed, before or beside its models and tests; the message is dbt's."""


_Told = dict[str, Any] | str | NodeResult
"""What a command tells: an event as a dictionary, a line for people, or, at its end, what became of a node."""


def started_early() -> AbstractContextManager[None]:
    """Let a process of its own import dbt and read the manifest for the commands within the block."""
    return _commands.started()


class DbtCommand:
    """One dbt command on a lake's warehouse. No connection to that file may be open.

    `window` is what it computes in incremental models, the other rows being tested; None is for everything.
    """

    def __init__(self, pipeline: Pipeline, *arguments: str, window: Window | None = None) -> None:
        days = {name: f"{day}" for name, day in window._asdict().items()} if window else {}
        self._arguments = [
            *arguments,
            *("--vars", json.dumps({**dbt_vars(pipeline), **days})),
            *("--target-path", str(pipeline.lake.warehouse.parent / "dbt")),
            # what it would print is told, wherever it runs, and nobody reads its own records of a run
            *("--log-level", "none", "--no-write-json"),
        ]
        self.results: list[NodeResult] = []
        """In the order they ended; complete when the last event is taken."""

    def events(self) -> Iterator["DbtCoreCliEventMessage"]:
        """Run the command; each event that tells of a finished model or data test, as soon as dbt tells it.

        Raises:
            DbtError: dbt could not run. What fails inside the warehouse only has its status in `results`.
        """
        # imported here: it takes seconds
        from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

        with contextlib.closing(_commands.call(self._arguments)) as told:
            for one in told:
                match one:
                    case str():
                        print(one)
                    case NodeResult():
                        self.results.append(one)
                    case _:
                        yield DbtCoreCliEventMessage(raw_event=one, event_history_metadata={})

    def run(self) -> list[NodeResult]:
        """Run the command to its end.

        Raises:
            DbtError: dbt could not run.
        """
        for _ in self.events():
            pass
        return self.results


def _run(arguments: list[str]) -> Generator[_Told]:
    """Run a command in this process, in a thread of its own: dbt tells of events by calling back."""
    told: queue.SimpleQueue[_Told | None] = queue.SimpleQueue()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _invoke(arguments, told.put)
        except BaseException as error:
            failures.append(error)
        finally:
            told.put(None)

    worker = threading.Thread(target=work, name="dbt", daemon=True)
    worker.start()
    try:
        while (one := told.get()) is not None:
            yield one
    except BaseException:
        # whoever is interrupted waits neither for the query that is running nor for those after it
        while worker.is_alive():
            _cancel()
            worker.join(0.1)
        # the frames that an interrupted query left through hold its connection, and the file with it
        failures.clear()
        gc.collect()
        raise
    worker.join()
    if failures:
        raise failures[0]


def _invoke(arguments: list[str], tell: Callable[[_Told], None]) -> None:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner
    from dbt_common.events.functions import msg_to_dict

    def callback(message: Any) -> None:
        if message.info.level != "debug":
            tell(f"{message.info.ts.ToDatetime():%H:%M:%S}  {message.info.msg}")
        if message.info.name in _SHOWN:
            tell(msg_to_dict(message))

    manifest = _ready.pop() if _ready else _parsed_manifest()
    try:
        done = dbtRunner(manifest, [callback]).invoke([*arguments, *_PLACE])
    finally:
        # dbt keeps the file open for its next command
        DuckDBConnectionManager.close_all_connections()
    if done.exception:
        raise DbtError(str(done.exception)) from done.exception
    for result in done.result:
        tell(NodeResult(result.node.unique_id, str(result.status), result.message or "", result.execution_time))


_ready: list[Any] = []


def _prepare() -> None:
    from dbt.cli.main import dbtRunner

    # the least of its commands, for what dbt makes for its first one and keeps
    dbtRunner().invoke(["debug", "--log-level", "none", *_PLACE])
    # a command works on its manifest, so that the next one needs another
    _ready.append(_parsed_manifest())


_commands: Early[list[str], _Told] = Early(_prepare, _run)


def _cancel() -> None:
    from dbt.adapters.factory import FACTORY

    for adapter in list(FACTORY.adapters.values()):
        # the other thread may close what is found open here before it is interrupted; the caller looks whether it ended
        with contextlib.suppress(Exception):
            adapter.cancel_open_connections()


def dbt_vars(pipeline: Pipeline) -> dict[str, Any]:
    """Everything SQL gets from outside: the parameters, the label of the source and the file to build in."""
    values = {
        **pipeline.parameters.dbt_vars(),
        "source_label": pipeline.lake.source_label,
        "warehouse": str(pipeline.lake.warehouse),
    }
    return {name: _not_rendered(value) if isinstance(value, str) else value for name, value in values.items()}


def _not_rendered(text: str) -> str:
    """What `var()` makes `text` of again: it takes every text for a template."""
    return text.replace("{", "{{ '{' }}")


def load_manifest() -> Mapping[str, Any]:
    """The project's manifest, parsed anew when a file of the project is newer than it.

    Needs neither data nor network; with a current manifest it only reads one file.

    Raises:
        DbtError: the project does not parse.
    """
    _ensure_parsed()
    return json.loads(_MANIFEST.read_text(encoding="utf-8"))


def _parsed_manifest() -> Any:
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    _ensure_parsed()
    manifest = Manifest.from_msgpack(_PARSED.read_bytes(), decoder=extended_mashumuro_decoder)
    # as after parsing
    manifest.build_flat_graph()
    manifest.build_parent_and_child_maps()
    return manifest


def _ensure_parsed() -> None:
    if not _is_current():
        with exclusive_lock(_TARGET / ".manifest.lock"):
            if not _is_current():
                _parse()


def _is_current() -> bool:
    sources = [
        PROJECT_DIR / "dbt_project.yml",
        PROJECT_DIR / "profiles.yml",
        *(PROJECT_DIR / "models").rglob("*"),
        *(PROJECT_DIR / "macros").rglob("*"),
        *(PROJECT_DIR / "tests").rglob("*"),
    ]
    last_change = max(path.stat().st_mtime for path in sources)
    return _PARSED.exists() and _MANIFEST.exists() and _MANIFEST.stat().st_mtime >= last_change


def _parse() -> None:
    from dbt.cli.main import dbtRunner

    target = _TARGET / "parse"
    # names of tables hold the name of the file they lie in, not of its folder
    variables = {**Parameters.load().dbt_vars(), "source_label": "", "warehouse": Lake(Path()).warehouse.name}
    arguments = ["parse", "--no-partial-parse", "--quiet", "--vars", json.dumps(variables)]
    done = dbtRunner().invoke([*arguments, *_PLACE, "--target-path", str(target)])
    if not done.success:
        raise DbtError(f"dbt parse failed:\n{done.exception}")
    for source, final in ((target / "partial_parse.msgpack", _PARSED), (target / "manifest.json", _MANIFEST)):
        with atomic_path(final) as temporary:
            temporary.write_bytes(source.read_bytes())
    _MANIFEST.touch()
