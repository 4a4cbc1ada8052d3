"""The dbt project as the pipeline runs it: where it lies, its manifest, its variables, and its commands.

dbt runs by its Python interface, on the manifest that is parsed once for all lakes: its command line would import for
three seconds, and parse the project for two more. It allows one command at a time in a process.
"""

import contextlib
import errno
import gc
import importlib.metadata
import json
import queue
import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from platformdirs import user_cache_path

from etf_pipeline.resources.digests import digest_of
from etf_pipeline.resources.increment import Window
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import exclusive_lock
from etf_pipeline.settings import Parameters, SettingsError

if TYPE_CHECKING:
    from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage


def _project_dir() -> Path:
    """Folder of the SQL: in the package when it was installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "dbt_project"
    return installed if installed.is_dir() else package.with_name("dbt_project")


PROJECT_DIR = _project_dir()
_PLACE = ("--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR))
_SHOWN = {"LogModelResult", "LogTestResult"}


def _written_to(folder: Path) -> tuple[str, ...]:
    # otherwise dbt makes both folders in the project, even where it writes nothing to them
    return ("--target-path", str(folder), "--log-path", str(folder))


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


class DbtCommand:
    """One dbt command on a lake's warehouse. No connection to that file may be open.

    `window` is what it computes in incremental models, the other rows being tested; None is for everything.
    """

    def __init__(self, pipeline: Pipeline, *arguments: str, window: Window | None = None) -> None:
        days = {name: f"{day}" for name, day in window._asdict().items()} if window else {}
        self._arguments = [
            *arguments,
            *("--vars", json.dumps({**dbt_vars(pipeline), **days})),
            *_written_to(pipeline.lake.warehouse.parent / "dbt"),
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

        with contextlib.closing(_run(self._arguments)) as told:
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

    try:
        done = dbtRunner(_parsed_manifest(), [callback]).invoke([*arguments, *_PLACE])
    finally:
        # dbt keeps the file open for its next command
        DuckDBConnectionManager.close_all_connections()
    if done.exception:
        raise DbtError(str(done.exception)) from done.exception
    for result in done.result:
        tell(NodeResult(result.node.unique_id, str(result.status), result.message or "", result.execution_time))


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
    """The project's manifest, parsed when the cache has none of the project as it is now.

    Needs neither data nor network; the cache may be deleted at any time.

    Raises:
        DbtError: the project does not parse.
        SettingsError: the cache cannot be written.
    """
    return json.loads((_parsed() / "manifest.json").read_text(encoding="utf-8"))


def _parsed_manifest() -> Any:
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    packed = (_parsed() / "partial_parse.msgpack").read_bytes()
    manifest = Manifest.from_msgpack(packed, decoder=extended_mashumuro_decoder)
    # as after parsing
    manifest.build_flat_graph()
    manifest.build_parent_and_child_maps()
    return manifest


def _parsed() -> Path:
    """Folder of what dbt parsed, in the user's cache, since the package may lie where nothing can be written.

    Its name is a digest of all that dbt reads and of dbt's version: another project or dbt finds nothing of this one.
    """
    files = [PROJECT_DIR / "dbt_project.yml", PROJECT_DIR / "profiles.yml"]
    for part in ("macros", "models", "seeds", "tests"):
        files += sorted(path for path in (PROJECT_DIR / part).rglob("*") if path.is_file())
    names = [str(path) for path in files]
    versions = map(importlib.metadata.version, ("dbt-core", "dbt-duckdb"))
    cache = _cache()
    folder = cache / digest_of(*files, *names, *versions, json.dumps(_parse_vars()))[:12]
    if not folder.is_dir():
        try:
            with exclusive_lock(cache / ".lock"):
                if not folder.is_dir():
                    for outdated in cache.glob("*/"):
                        shutil.rmtree(outdated)
                    _parse(folder)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise SettingsError(f"{error}: set XDG_CACHE_HOME to a folder that can be written") from error
            raise
    return folder


def _cache() -> Path:
    """Folder of this project in the user's cache."""
    return user_cache_path("etf_pipeline") / f"dbt-{digest_of(str(PROJECT_DIR))[:12]}"


def _parse(folder: Path) -> None:
    from dbt.cli.main import dbtRunner

    unfinished = folder.with_name(f"{folder.name}.unfinished")
    arguments = ["parse", "--no-partial-parse", "--quiet", "--vars", json.dumps(_parse_vars())]
    done = dbtRunner().invoke([*arguments, *_PLACE, *_written_to(unfinished)])
    if not done.success:
        raise DbtError(f"dbt parse failed:\n{done.exception}")
    unfinished.replace(folder)


def _parse_vars() -> dict[str, Any]:
    # names of tables hold the name of the file they lie in, not of its folder
    return {**Parameters.load().dbt_vars(), "source_label": "", "warehouse": Lake(Path()).warehouse.name}
