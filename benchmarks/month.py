"""A month of operation, simulated: `python -m benchmarks.month [FOLDER]`.

Dagster's own scheduler and sensors at the hours of September and October 2025; every run is executed, over a folder of
files that grows, is late, short, doubled and revised. The daemon is down for two days, and a week is holiday.

At the end the lake must be what one run over the final files makes, every tick must have run once, and the ledger must
show the holdings of every date published once, and every restatement.
"""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    freeze_time,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs

from benchmarks.soak import digests
from etf_pipeline import automation
from etf_pipeline.contract import AVAILABLE_AT, load_contract
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.sample import SampleSource

SHANGHAI = ZoneInfo("Asia/Shanghai")
HISTORY, FIRST, LAST = date(2024, 6, 3), date(2025, 9, 22), date(2025, 10, 31)
DOWN = (datetime(2025, 10, 13, 12, tzinfo=SHANGHAI), datetime(2025, 10, 16, 6, tzinfo=SHANGHAI))
SIGNALS = [date(2025, 9, 26), date(2025, 10, 10), date(2025, 10, 24)]
SCHEDULES = ("evening_ingest", "morning_catch_up", "monthly_weights", "quarterly_holdings", "reference_snapshots")
SENSORS = ("missed_sessions", "compute_due", "rebalance_due", "restatement_due")
LOOKS = (time(7), time(8, 36), time(8, 45), time(8, 55), time(9, 5), time(12), time(20, 16), time(20, 30), time(21, 30))
_RUN = (sys.executable, "-c", "from etf_pipeline.cli import main; main()", "run", "--no-research", "--source", "files")
# runs are executed where they are launched, at the simulated hour
_INSTANCE = """
telemetry: {enabled: false}
python_logs: {python_log_level: ERROR}
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
event_log_storage:
  module: etf_pipeline.resources.event_log
  class: KeptSqliteEventLog
  config: {home: {env: DAGSTER_HOME}}
"""


def moment(text: str) -> datetime:
    """Shanghai clock time."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


@dataclass(frozen=True)
class Fault:
    """What is wrong with the file of `dataset` from one moment to another; `spoil` works on its rows so far."""

    dataset: str
    since: datetime
    until: datetime
    spoil: Callable[[pd.DataFrame], pd.DataFrame]


def of_day(frame: pd.DataFrame, day: str) -> pd.Series:
    """Which rows are of a day."""
    return frame["trade_date"] == day


def tripled(day: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Shares of a third of the ETFs as they turn out to have been."""

    def spoil(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            shares=frame["shares"].mask(of_day(frame, day) & (frame.index % 3 == 0), 3 * frame["shares"])
        )

    return spoil


NEVER = moment("2099-01-01")
SHORT = Fault("etf_share", moment("2025-09-24T00:00"), moment("2025-09-25T08:00"),
              lambda f: f[~(of_day(f, "2025-09-23") & (f.index % 2 == 0))])  # fmt: skip
LATE = Fault("etf_nav", moment("2025-10-10T00:00"), moment("2025-10-13T08:00"), lambda f: f[~of_day(f, "2025-10-09")])
DOUBLED = Fault("etf_bar", moment("2025-10-20T17:00"), moment("2025-10-20T21:00"), lambda f: pd.concat([f, f.tail(50)]))
REVISED = [
    Fault("etf_share", moment("2025-10-14T08:00"), NEVER, tripled("2025-10-10")),
    Fault("etf_share", moment("2025-10-28T08:00"), NEVER, tripled("2025-10-24")),
]
ASKED_LATER = {"raw/etf_margin/2025.parquet", "raw/fund_holding/2025.parquet"}
"""Margins of the last session are asked for on the next morning, reports of the last days of October in November."""
FAULTS = [SHORT, LATE, DOUBLED, *REVISED]


@dataclass
class Folder:
    """What an analyst's export folder holds at a moment: every row that is public, but for the faults."""

    path: Path
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    _written: dict[str, tuple[int, tuple[Fault, ...]]] = field(default_factory=dict)

    def load(self) -> None:
        """Take the rows from the sample."""
        source = SampleSource()
        for dataset in load_contract().values():
            frame = source.fetch(dataset.name, HISTORY, LAST)
            if isinstance(frame, pd.DataFrame) and dataset.name != "trading_calendar":
                self.frames[dataset.name] = frame

    def at(self, when: datetime) -> None:
        """Replace what has changed by then."""
        for name, frame in self.frames.items():
            faults = tuple(f for f in FAULTS if f.dataset == name and f.since <= when < f.until)
            rows = frame[frame[AVAILABLE_AT] <= when] if AVAILABLE_AT in frame else frame
            if dated := load_contract()[name].date_column:
                rows = rows[rows[dated] <= pd.Timestamp(when.date())]
            state = (len(rows), faults)
            if rows.empty or self._written.get(name) == state:
                continue
            for fault in faults:
                rows = fault.spoil(rows)
            self.path.mkdir(exist_ok=True)
            temporary = self.path / f".{name}"
            rows.to_parquet(temporary)
            temporary.rename(self.path / f"{name}.parquet")
            self._written[name] = state


class Daemon:
    """Dagster's scheduler and sensor daemon in this process."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        (home / "dagster.yaml").write_text(_INSTANCE)
        self._iterations: dict[str, Any] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator["Daemon"]:
        """From its start to its end; what is only in memory is lost."""
        target = LoadableTargetOrigin(module_name="etf_pipeline.definitions", attribute="defs")
        origin = InProcessCodeLocationOrigin(target, location_name="etf_pipeline")
        with (
            dg.DagsterInstance.get() as self.instance,
            create_test_daemon_workspace_context(
                InProcessTestWorkspaceLoadTarget(origin), self.instance
            ) as self._workspace,
        ):
            self._iterations = {}
            yield self

    def switch_on(self, when: datetime) -> None:
        """Turn schedules and sensors on, as the UI does."""
        location = next(iter(self._workspace.create_request_context().code_locations))
        repository = next(iter(location.get_repositories().values()))
        with clocks_at(when):
            for name in SCHEDULES:
                self.instance.start_schedule(repository.get_schedule(name))
            for name in SENSORS:
                self.instance.start_sensor(repository.get_sensor(name))

    def turn(self, when: datetime) -> None:
        """One iteration of the scheduler and of the sensor daemon; runs they start have ended when it returns."""
        logger = logging.getLogger("daemon")
        with clocks_at(when):
            errors = [e for e in launch_scheduled_runs(self._workspace, logger, when, self._iterations) if e]
            errors += [e for e in execute_sensor_iteration(self._workspace, logger, None, None) if e]
        assert not errors, errors


@contextlib.contextmanager
def clocks_at(when: datetime) -> Iterator[None]:
    """Dagster's and the automation's clock stand at `when`."""
    with patch.object(automation, "now", lambda: when), freeze_time(when.astimezone(UTC)):
        yield


def looks() -> list[datetime]:
    """Moments at which the daemon does its work: up to the noon of the last day, and not while it is down."""
    days = pd.date_range(FIRST, LAST)
    moments = [datetime.combine(day.date(), clock, SHANGHAI) for day in days for clock in LOOKS]
    moments += [DOWN[1] + timedelta(minutes=10 * number) for number in range(8)]
    end = datetime.combine(LAST, time(12), SHANGHAI)
    return sorted(m for m in moments if m <= end and not DOWN[0] <= m < DOWN[1])


def simulate(root: Path) -> None:
    """Live through the month and check what is left of it."""
    folder = Folder(root / "data")
    folder.load()
    folder.at(datetime.combine(FIRST, time(6), SHANGHAI))
    lake, start = root / "lake", ("--start", f"{HISTORY}")
    subprocess.run([*_RUN, "--data", str(folder.path), "--lake", str(lake), *start], check=True, capture_output=True)
    first_ledger = pd.read_parquet(lake / "ledger" / "holdings_ledger.parquet")
    deployment = Deployment(source="files", data=folder.path, lake=lake, start=HISTORY)
    os.environ.update(deployment.to_env(), DAGSTER_HOME=str(root / "home"))
    daemon = Daemon(root / "home")
    before_down = [m for m in looks() if m < DOWN[0]]
    with daemon.running():
        daemon.switch_on(datetime.combine(FIRST, time(6), SHANGHAI))
        live(daemon, folder, before_down)
    with daemon.running():  # a new process after the downtime
        live(daemon, folder, [m for m in looks() if m >= DOWN[1]])
        check_ticks(daemon.instance)
    check_ledger(first_ledger, pd.read_parquet(lake / "ledger" / "holdings_ledger.parquet"))
    check_lake(root, folder, lake)


def live(daemon: Daemon, folder: Folder, moments: list[datetime]) -> None:
    """Let time pass."""
    for when in moments:
        folder.at(when)
        known = set(daemon.instance.get_run_ids())
        daemon.turn(when)
        for run in reversed(daemon.instance.get_runs()):
            if run.run_id not in known:
                print(
                    f"{when:%m-%d %H:%M}  {run.status.value:8} {run.job_name} {run.tags['dagster/run_key']}", flush=True
                )


def check_ticks(instance: dg.DagsterInstance) -> None:
    """Every run was asked for once, every session was taken in, and only the doubled file made runs fail."""
    runs = instance.get_runs()
    keys = Counter((run.job_name, run.tags["dagster/run_key"]) for run in runs)
    assert max(keys.values()) == 1, keys.most_common(3)
    good = [run for run in runs if run.status == dg.DagsterRunStatus.SUCCESS]
    taken = Counter(run.tags["etf_pipeline/intake"] for run in good if "etf_pipeline/intake" in run.tags)
    sessions = {f"{day:%Y-%m-%d}" for day in sessions_between(date(2025, 9, 19), date(2025, 10, 30))}
    for dataset in ("etf_bar", "etf_share", "etf_nav", "index_bar"):
        # a session may have come with a later one, which asks for two before it again
        lacking = sessions - instance.get_materialized_partitions(automation.raw_key(dataset))
        assert not lacking, (dataset, sorted(lacking))
    assert max(taken.values()) == 1, taken.most_common(3)
    failed = [run for run in runs if run.status != dg.DagsterRunStatus.SUCCESS]
    print(f"{len(runs)} runs, {len(failed)} failed: {[run.tags['dagster/run_key'] for run in failed]}")
    assert {run.tags["dagster/run_key"] for run in failed} == {"evening 2025-10-20"}
    strategy = [run.tags for run in runs if run.job_name == automation.STRATEGY]
    published = [tags["dagster/partition"] for tags in strategy if "restated" not in tags["dagster/run_key"]]
    assert sorted(published) == [f"{day}" for day in SIGNALS], published


def check_ledger(before: pd.DataFrame, after: pd.DataFrame) -> None:
    """Holdings of each date were published once, and what the revisions changed was restated, with its cause."""
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    added = after.iloc[len(before) :]
    events = added.drop_duplicates(["signal_date", "version"])[["signal_date", "version", "event", "cause"]]
    print(events.to_string(index=False))
    published = events[events["event"] == "published"]["signal_date"]
    assert sorted(published) == SIGNALS
    restated = events[events["event"] == "restated"]
    assert set(restated["signal_date"]) == set(SIGNALS[1:])
    assert restated["cause"].str.contains("etf_share revised: 2025-10-").all()


def check_lake(root: Path, folder: Folder, lake: Path) -> None:
    """Raw and published files are those of one run over the final folder."""
    fresh = root / "fresh"
    command = [*_RUN, "--data", str(folder.path), "--lake", str(fresh), "--start", f"{HISTORY}"]
    subprocess.run(command, check=True, capture_output=True)
    wanted, found = digests(fresh), digests(lake)
    research = found.keys() - wanted.keys()
    differ = {name for name in wanted if found.get(name) != wanted[name]}
    assert differ <= ASKED_LATER, sorted(differ - ASKED_LATER)
    for name in differ:
        # what is there is right
        rows, all_rows = (pd.read_parquet(root / name) for root in (lake, fresh))
        assert len(rows.merge(all_rows, how="inner")) == len(rows), name
    assert all(name.startswith("published/") for name in research)
    print(f"{len(wanted) - len(differ)} of {len(wanted)} files as one run over the final folder makes them")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with contextlib.ExitStack() as stack:
        place = Path(sys.argv[1]) if sys.argv[1:] else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        simulate(place)
