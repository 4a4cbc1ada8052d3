"""What is wrong with a lake and what to do about it. Reads only; with `fix` it removes what is safe to remove.

Here: the state of files, catalogue and run log. Not here: whether the data are right; `etf-pipeline check` judges that.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd

from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.core.calendar import last_calendar_session, sessions_between, sessions_left
from etf_pipeline.notify import VARIABLE, Message, Notifier
from etf_pipeline.resources.lake import Lake, view_name
from etf_pipeline.resources.storage import advice, damage, is_held, open_table, read_table, set_aside
from etf_pipeline.settings import Parameters
from etf_pipeline.sources.responses import SUFFIX, is_damaged

Level = Literal["ok", "note", "action", "fixed"]

_TEMPORARY = re.compile(r"^\..+\.(?P<pid>\d+)\.tmp$")
_JUDGED_SESSIONS = 250
"""Holes of the last year need mending; older ones are noted, but nobody will mend them."""
_JUDGED_MONTHS = 12
_FREE_BYTES = 2 * 1024**3
_CALENDAR_ACTION_SESSIONS = 5
"""A schedule that does not know its day stops: the last week is the time to act."""
_SHOWN = 5
_FILES_AT_ONCE = 2
_PACKAGES = ("dagster", "dbt-core", "dbt-duckdb", "duckdb", "apprise")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `action` needs somebody, `fixed` did, `note` may be looked at, `ok` is well."""

    level: Level
    subject: str
    found: str
    advice: str = ""


def examine(lake: Lake, parameters: Parameters, today: date, *, fix: bool = False) -> list[Finding]:
    """All findings about a lake, in the order in which to deal with them.

    Raises:
        LakeError: there is no lake.
    """
    lake.source_label  # noqa: B018 - raises where there is no lake
    return [
        *temporary_files(lake, fix=fix),
        *stored_files(lake, fix=fix),
        *catalogue(lake, fix=fix),
        *warehouse(lake, fix=fix),
        *settings(lake, parameters),
        *holes(lake),
        *disk(lake),
        *run_log(lake, parameters.run_log_days, fix=fix),
        *calendar(today, parameters.calendar_warning_sessions),
        *channels(),
        *versions(),
    ]


def temporary_files(lake: Lake, *, fix: bool) -> Iterator[Finding]:
    """Temporary files whose process is gone: left by a killed run, read by nobody."""
    left = [path for path in sorted(lake.root.rglob(".*.tmp")) if path.is_file() and _abandoned(path)]
    if not left:
        yield Finding("ok", "temporary files", "none left over")
        return
    size = sum(path.stat().st_size for path in left)
    found = f"{len(left)} half-written, {_bytes(size)}: {_some([str(p.relative_to(lake.root)) for p in left])}"
    if fix:
        for path in left:
            path.unlink(missing_ok=True)
    yield _mended("temporary files", found, "doctor --fix removes them; nothing reads them", fix)


def _abandoned(path: Path) -> bool:
    match = _TEMPORARY.match(path.name)
    return match is not None and not _process_lives(int(match["pid"]), since=path.stat().st_mtime)


def _process_lives(pid: int, since: float) -> bool:
    """Whether the process that was there at the time `since` (seconds) still is; its number may be another's by now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        # no /proc: that there is such a process has to do
        return True
    started = time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
    return started <= since + 1


def stored_files(lake: Lake, *, fix: bool) -> Iterator[Finding]:
    """Every file of raw data, archive, ledger and results, and every stored response, is what was written."""
    files = lake.parquet_files()
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        damaged = [error for error in pool.map(damage, files) if error]
    answers = sorted((lake.root / "responses").rglob(f"[!.]*{SUFFIX}"))
    damaged_answers = [path for path in answers if is_damaged(path)]
    gone = lake.gone()
    if not (damaged or damaged_answers or gone):
        yield Finding("ok", "stored files", f"{len(files) + len(answers)}, all as they were written")
    for error in damaged:
        name = str(error.path.relative_to(lake.root))
        if fix and error.path.is_relative_to(lake.root / "raw"):
            set_aside(error.path)
            found, what = f"damaged ({error.found}), and set aside", advice(error.path)
            yield Finding("action", name, found, what)
        else:
            yield Finding("action", name, f"damaged: {error.found}", advice(error.path))
    for path in gone:
        yield Finding("action", str(path.relative_to(lake.root)), "gone", advice(path))
    if damaged_answers:
        if fix:
            for path in damaged_answers:
                path.unlink()
        found = f"{len(damaged_answers)} damaged: {_some([str(p.relative_to(lake.root)) for p in damaged_answers])}"
        yield _mended("stored responses", found, "doctor --fix removes them; they are asked for again", fix)


def warehouse(lake: Lake, *, fix: bool) -> Iterator[Finding]:
    """The private database is readable to its last block: DuckDB keeps a checksum of each."""
    if not lake.warehouse.exists():
        yield Finding("ok", "warehouse", "none yet")
        return
    try:
        with duckdb.connect(lake.warehouse, read_only=True) as connection:
            connection.execute("SET enable_progress_bar = false")
            names = connection.sql("SELECT format('{}.{}', schema_name, table_name) FROM duckdb_tables()").fetchall()
            for (name,) in names:
                connection.table(name).aggregate("bit_xor(hash(COLUMNS(*)))").fetchall()
    except duckdb.Error as error:
        if is_held(error):
            yield Finding("note", "warehouse", "a run is at work on it")
            return
        if fix:
            lake.remove_warehouse()
        yield _mended("warehouse", _first_line(error), "doctor --fix removes it; the next run builds it anew", fix)
    else:
        yield Finding("ok", "warehouse", f"{len(names)} tables, all readable")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def catalogue(lake: Lake, *, fix: bool) -> Iterator[Finding]:
    """The catalogue has a working view of every published table and every raw dataset, with the columns of today."""
    problems = _catalogue_problems(lake)
    if not problems:
        yield Finding("ok", "catalogue", f"{len(lake.published_tables())} tables, all readable")
        return
    if fix:
        lake.build_catalogue(anew=True)
        problems_left = _catalogue_problems(lake)
        if problems_left:
            # then it is the files that are broken
            yield Finding("action", "catalogue", _some(problems_left), "materialise these tables again")
            return
    yield _mended("catalogue", _some(problems), "doctor --fix builds it anew from the published files", fix)


def _catalogue_problems(lake: Lake) -> list[str]:
    if not lake.catalogue.exists():
        return ["missing"] if lake.published_tables() else []
    problems = []
    try:
        with duckdb.connect(lake.catalogue, read_only=True) as connection:
            rows = connection.execute("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal").fetchall()
            views = {f"{schema}.{name}" for schema, name in rows}
            for view in sorted(views):
                try:
                    connection.execute(f"SELECT * FROM {view_name(view)} LIMIT 0")
                except duckdb.Error as error:
                    problems.append(f"{view} is broken ({_first_line(error)})")
    except duckdb.Error as error:
        return [f"cannot be opened ({_first_line(error)})"]
    return problems + [f"older than {name}, which it lacks" for name in sorted(lake.views().keys() - views)]


def settings(lake: Lake, parameters: Parameters) -> Iterator[Finding]:
    """All published tables were made with the parameters in force."""
    stale = {}
    for table in lake.published_tables():
        for file in lake.published_files(table):
            if damage(file):
                continue
            metadata = open_table(file).schema_arrow.metadata or {}
            made_with = metadata.get(b"settings_hash", b"none").decode()
            if made_with != parameters.hash:
                stale[table] = made_with
    if stale:
        found = f"{len(stale)} tables made with other settings than {parameters.hash}: "
        yield Finding(
            "action",
            "settings",
            found + _some([f"{table} ({made_with})" for table, made_with in stale.items()]),
            "run `etf-pipeline run` again, or give it the parameters these were made with (--set)",
        )
    else:
        yield Finding("ok", "settings", f"every table was made with {parameters.hash}")


def holes(lake: Lake) -> Iterator[Finding]:
    """Required dated data have rows for every session (month) between their first and last."""
    for dataset in load_contract().values():
        if not dataset.required or dataset.date_column is None:
            continue
        files = lake.raw_files(dataset)
        if any(damage(path) for path in files):
            continue  # which is said of these files
        if not files:
            yield Finding("action", f"raw {dataset.name}", "not in the lake", "ingest it: it is required")
            continue
        yield _hole(dataset, _days(lake, dataset))


def _days(lake: Lake, dataset: Dataset) -> pd.DatetimeIndex:
    column = dataset.date_column
    assert column is not None
    parts = [read_table(path, columns=[column])[column].unique().to_pandas() for path in lake.raw_files(dataset)]
    return pd.DatetimeIndex(pd.to_datetime(pd.concat(parts))).unique().sort_values()


def _hole(dataset: Dataset, days: pd.DatetimeIndex) -> Finding:
    subject = f"raw {dataset.name}"
    if dataset.partition == "day":
        whole, judged, unit = sessions_between(days[0].date(), days[-1].date()), _JUDGED_SESSIONS, "sessions"
        absent = whole.difference(days)
    else:
        whole = pd.date_range(days[0].to_period("M").to_timestamp(), days[-1], freq="MS")
        judged, unit = _JUDGED_MONTHS, "months"
        absent = whole.difference(days.to_period("M").to_timestamp())
    span = f"{days[0]:%Y-%m-%d} … {days[-1]:%Y-%m-%d}"
    recent = absent[absent >= whole[-judged:][0]]
    if not len(absent):
        return Finding("ok", subject, f"{span}, every one of {len(whole)} {unit}")
    names = _some([f"{day:%Y-%m-%d}" for day in (recent if len(recent) else absent)[::-1]])
    if not len(recent):
        return Finding("note", subject, f"{span}, {len(absent)} of {len(whole)} {unit} missing, the latest {names}")
    return Finding(
        "action",
        subject,
        f"{span}, {len(absent)} of {len(whole)} {unit} missing, {len(recent)} of them lately: {names}",
        f"materialise these partitions of raw/{dataset.name} again in the UI",
    )


def disk(lake: Lake) -> Iterator[Finding]:
    """Room for another copy of the lake, and never less than 2 GiB."""
    size, free = _size(lake.root), shutil.disk_usage(lake.root).free
    wanted = max(_FREE_BYTES, size)
    found = f"lake {_bytes(size)}, free {_bytes(free)}"
    if free < wanted:
        yield Finding("action", "disk", found, f"make room: at least {_bytes(wanted)} should be free")
    else:
        yield Finding("ok", "disk", found)


def run_log(lake: Lake, days: int, *, fix: bool) -> Iterator[Finding]:
    """Runs whose process is gone but which count as running, and runs that ended more than `days` days ago.

    The run that made the newest materialisation of an asset stays, however old: sensors compare with it.
    """
    home = lake.root / ".dagster"
    if not (home / "dagster.yaml").exists():
        yield Finding("ok", "run log", "none yet")
        return
    if broken := [path for path in sorted(home.rglob("*.db")) if not _is_sound_sqlite(path)]:
        if fix:
            for path in broken:
                path.replace(path.with_name(f"{path.name}.damaged"))
                for beside in ("-wal", "-shm"):
                    path.with_name(path.name + beside).unlink(missing_ok=True)
        found = f"{len(broken)} damaged: {_some([str(path.relative_to(lake.root)) for path in broken])}"
        what = "doctor --fix sets them aside; what Dagster remembers of runs begins anew, and no data are lost"
        yield _mended("run log", found, what, fix)
        return
    if not os.access(home, os.W_OK):
        yield Finding("note", "run log", "not looked at: Dagster opens it only for accounts that may write there")
        return
    import dagster as dg

    os.environ["DAGSTER_HOME"] = str(home)
    try:
        opened = dg.DagsterInstance.get()
    except Exception as error:  # whatever Dagster makes of what it finds
        what = "the next `etf-pipeline run` writes dagster.yaml anew; if that does not help, remove the folder .dagster"
        yield Finding("action", "run log", f"cannot be opened ({_first_line(error)})", what)
        return
    with opened as instance:
        yield _dead_runs(instance, fix)
        yield _old_runs(instance, home, days, fix)


def _is_sound_sqlite(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError as error:
        # somebody writes, or this account may not: neither says anything of the file
        return "locked" in str(error) or "open" in str(error) or "readonly" in str(error)
    except sqlite3.DatabaseError:
        return False


def _dead_runs(instance: Any, fix: bool) -> Finding:
    import dagster as dg

    unfinished = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING]
    dead = [run for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)) if not _alive(instance, run.run_id)]
    if not dead:
        return Finding("ok", "runs", "none counts as running whose process is gone")
    if fix:
        for run in dead:
            instance.report_run_failed(run, "its process is gone; found by etf-pipeline doctor")
    found = f"{len(dead)} count as running, but their process is gone: {_some([run.run_id[:8] for run in dead])}"
    return _mended("runs", found, "they hold up the queue; doctor --fix marks them as failed", fix)


def _alive(instance: Any, run_id: str) -> bool:
    """Whether a process that reported to the run still exists; True where none has yet, as before its start."""
    import dagster as dg

    reported = [
        (int(entry.dagster_event.engine_event_data.metadata["pid"].value), entry.timestamp)
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        if "pid" in entry.dagster_event.engine_event_data.metadata
    ]
    return not reported or any(_process_lives(pid, since) for pid, since in reported)


def _old_runs(instance: Any, home: Path, days: int, fix: bool) -> Finding:
    import dagster as dg
    from dagster._core.storage.dagster_run import FINISHED_STATUSES

    before = datetime.now().astimezone() - timedelta(days=days)
    filters = dg.RunsFilter(statuses=list(FINISHED_STATUSES), created_before=before)
    newest = {
        record.asset_entry.last_run_id for record in instance.get_asset_records() if record.asset_entry.last_run_id
    }
    old = [run.run_id for run in instance.get_runs(filters) if run.run_id not in newest]
    size = f"{_bytes(_size(home))} in {instance.get_runs_count()} runs"
    if not old:
        return Finding("ok", "run log", f"{size}, none to prune that ended more than {days} days ago")
    if fix:
        for run_id in old:
            instance.delete_run(run_id)
            shutil.rmtree(home / "storage" / run_id, ignore_errors=True)
            for path in (home / "history" / "runs").glob(f"{run_id}.db*"):
                path.unlink(missing_ok=True)
    found = f"{size}, {len(old)} ended more than {days} days ago"
    return _mended("run log", found, "doctor --fix deletes their records; results stay", fix)


def calendar(today: date, warning: int) -> Iterator[Finding]:
    """The exchange's holidays are known for `warning` sessions ahead; action is due in the last week of them."""
    last, left = last_calendar_session(), sessions_left(today)
    if left >= warning:
        yield Finding("ok", "calendar", f"known until {last}")
        return
    advice = (
        "pip install -U exchange-calendars (next year's holidays are published in late autumn), or give a file "
        "trading_calendar with the sessions after it"
    )
    found = f"ends on {last}, {left} sessions ahead"
    yield Finding("note" if left > _CALENDAR_ACTION_SESSIONS else "action", "calendar", found, advice)


def channels() -> Iterator[Finding]:
    """Channels of messages can be used; nothing is sent."""
    notifier = Notifier.from_env()
    if problems := notifier.problems():
        yield Finding("action", "messages", "; ".join(f"{n}: {p}" for n, p in problems.items()), f"mend {VARIABLE}")
    elif notifier.channels:
        yield Finding("ok", "messages", f"through {', '.join(notifier.channels)}")
    else:
        yield Finding("note", "messages", "dry run: they go to the log", f"name channels in {VARIABLE}")


def send_test_message(lake: Path) -> list[Finding]:
    """Send one message through every channel, for somebody to look for: some services accept a wrong key in silence."""
    message = Message("etf_pipeline: test message", f"From `etf-pipeline doctor` on the lake {lake.name}.")
    return [
        Finding("ok" if d.delivered else "action", f"message to {d.channel}", d.detail or "sent: look for it there")
        for d in Notifier.from_env().send(message)
    ]


def versions() -> Iterator[Finding]:
    """Versions of what the pipeline stands on, for a report."""
    yield Finding("ok", "versions", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES))


def _mended(subject: str, found: str, advice: str, fix: bool) -> Finding:
    return Finding("fixed" if fix else "action", subject, found, "" if fix else advice)


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            # a file may go while we count
            total += path.stat().st_size if path.exists() else 0
    return total


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
