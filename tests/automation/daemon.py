"""Time passing: ticks of schedules and sensors at any hour, by Dagster's own evaluation or by its own daemon."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
    freeze_time,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_run_id
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from exchange_calendars import get_calendar

from etf_pipeline import automation
from etf_pipeline.settings import Deployment

SHANGHAI = ZoneInfo("Asia/Shanghai")
QUEUED, SUCCESS = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.SUCCESS


def at(text: str) -> datetime:
    """Shanghai clock time."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


@dataclass(frozen=True)
class Asked:
    """A run that was asked for, and when."""

    when: datetime
    by: str
    job: str
    key: str
    tags: dict[str, str]
    datasets: list[str]

    @property
    def group(self) -> str:
        return self.tags["etf_pipeline/intake"].split()[0]

    @property
    def owned(self) -> str:
        """First day of the one partition the run is for; others are asked for again."""
        return self.tags["etf_pipeline/intake"].split()[1]

    @property
    def partitions(self) -> list[str]:
        if "dagster/partition" in self.tags:
            return [self.tags["dagster/partition"]]
        first, last = (self.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
        days = get_calendar("XSHG").sessions_in_range(pd.Timestamp(first), pd.Timestamp(last))
        return [f"{day:%Y-%m-%d}" for day in days]


class Ticks:
    """Evaluates schedules and sensors; a run that is asked for succeeds at once."""

    def __init__(
        self, defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance | None = None
    ) -> None:
        self.repository, self._monkeypatch = defs.get_repository_def(), monkeypatch
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.asked: list[Asked] = []
        self.skipped: dict[str, str] = {}
        self.cursors: dict[str, str | None] = {}

    @contextmanager
    def hour(self, when: datetime) -> Iterator[None]:
        """All clocks stand at `when`."""
        self._monkeypatch.setattr(automation, "now", lambda: when)
        with freeze_time(when.astimezone(UTC)):
            yield

    def schedule(self, name: str, tick: datetime, when: datetime | None = None) -> list[dg.RunRequest]:
        """Evaluate the tick of a schedule, at `when` if it is late."""
        definition = self.repository.get_schedule_def(name)
        with (
            self.hour(when or tick),
            # a schedule is given only instances on disk; this one in memory is ten times as fast
            patch.object(dg.ScheduleEvaluationContext, "instance", self.instance),
            dg.build_schedule_context(
                instance=self.instance, scheduled_execution_time=tick, repository_def=self.repository
            ) as context,
        ):
            result = definition.evaluate_tick(context)
        self.skipped[name] = result.skip_message or ""
        requests = list(result.run_requests or [])
        for request in requests:
            self._run(name, definition.job_name, request, when or tick)
        return requests

    def sensor(self, name: str, when: datetime) -> list[dg.RunRequest]:
        """Evaluate a sensor with the cursor it left; run keys it used before are dropped, as Dagster does."""
        definition = self.repository.get_sensor_def(name)
        with (
            self.hour(when),
            dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursors.get(name),
                repository_def=self.repository,
                sensor_name=name,
            ) as context,
        ):
            result = definition.evaluate_tick(context)
        self.cursors[name] = result.cursor
        self.skipped[name] = result.skip_message or ""
        known = {asked.key for asked in self.asked if asked.by == name}
        requests = [request for request in result.run_requests or [] if request.run_key not in known]
        for request in requests:
            self._run(name, request.job_name or definition.job_name, request, when)
        return requests

    def _run(self, by: str, job: str, request: dg.RunRequest, when: datetime) -> None:
        datasets = sorted(key.path[1] for key in request.asset_selection or ())
        asked = Asked(when, by, job, request.run_key or "", dict(request.tags), datasets)
        self.asked.append(asked)
        with self.hour(when + timedelta(minutes=2)):
            self.record(job, asked.tags)
            partitions = asked.partitions if job in ("ingest_daily", "ingest_monthly", "ingest_quarterly") else [None]
            for dataset in datasets:
                for partition in partitions:
                    self.materialize(f"raw/{dataset}", partition)

    def record(self, job: str, tags: dict[str, str] | None = None, status: dg.DagsterRunStatus = SUCCESS) -> str:
        """A run of the past, or one under way."""
        run_id = make_new_run_id()
        self.instance.add_run(dg.DagsterRun(job, run_id, tags=tags or {}, status=status))
        return run_id

    def materialize(self, key: str, partition: str | None = None) -> None:
        """An asset was made just now."""
        made = dg.AssetMaterialization(dg.AssetKey(key.split("/")), partition=partition)
        self.instance.report_runless_asset_event(made)

    def plan(self, key: str, name: str) -> None:
        """A run that will evaluate a check was started just now."""
        planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey(key.split("/")), check_name=name)
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
        run_id = self.record("compute", status=dg.DagsterRunStatus.STARTED)
        self.instance.report_dagster_event(DagsterEvent(kind, "compute", event_specific_data=planned), run_id)

    def judge(self, key: str, name: str, passed: bool, severity: str = "ERROR", **metadata: Any) -> None:
        """A check was evaluated just now."""
        evaluation = dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(key.split("/")),
            check_name=name,
            passed=passed,
            severity=dg.AssetCheckSeverity[severity],
            metadata={k: dg.MetadataValue.text(str(v)) for k, v in metadata.items()},
        )
        self.instance.report_runless_asset_event(evaluation)


def weekday_ticks(first: date, last: date, clock: time) -> list[datetime]:
    """Ticks of a cron schedule from Monday to Friday."""
    return [datetime.combine(day.date(), clock, SHANGHAI) for day in pd.bdate_range(first, last)]


# making a file for each run takes as long as the rest
_ONE_EVENT_FILE = """
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: {home}/history}}
"""


class Daemon:
    """Dagster's scheduler and sensor daemon over an instance on disk. Runs stay in its queue until finished here."""

    def __init__(self, home: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home, self._monkeypatch = home, monkeypatch
        with (home / "dagster.yaml").open("a") as config:
            config.write(_ONE_EVENT_FILE.format(home=home))
        self.errors: list[str] = []
        for name, value in deployment.to_env().items():
            monkeypatch.setenv(name, value)

    @contextmanager
    def running(self) -> Iterator["Daemon"]:
        """From the start of the daemon to its end; what is only in memory is lost."""
        origin = InProcessCodeLocationOrigin(
            LoadableTargetOrigin(module_name="etf_pipeline.definitions", attribute="defs"), location_name="etf_pipeline"
        )
        with (
            dg.DagsterInstance.from_config(str(self._home)) as self.instance,
            create_test_daemon_workspace_context(
                InProcessTestWorkspaceLoadTarget(origin), self.instance
            ) as self._workspace,
        ):
            location = next(iter(self._workspace.create_request_context().code_locations))
            self._iterations: dict[str, Any] = {}
            self._repository = next(iter(location.get_repositories().values()))
            yield self

    def start(self, *names: str, when: datetime) -> None:
        """Turn schedules and sensors on, as the UI does."""
        with self._hour(when):
            for name in names:
                if self._repository.has_schedule(name):
                    self.instance.start_schedule(self._repository.get_schedule(name))
                else:
                    self.instance.start_sensor(self._repository.get_sensor(name))

    @contextmanager
    def _hour(self, when: datetime) -> Iterator[None]:
        self._monkeypatch.setattr(automation, "now", lambda: when)
        with freeze_time(when.astimezone(UTC)):
            yield

    def turn(self, when: datetime) -> None:
        """One iteration of the scheduler and of the sensor daemon."""
        logger = logging.getLogger("daemon")
        with self._hour(when):
            errors = [e for e in launch_scheduled_runs(self._workspace, logger, when, self._iterations) if e]
            errors += [e for e in execute_sensor_iteration(self._workspace, logger, None, None) if e]
        self.errors += [str(e) for e in errors]

    def keys(self, group: str) -> list[str]:
        """Run key of every run for a group so far, sorted."""
        keys = [run.tags["dagster/run_key"] for run in self.instance.get_runs()]
        return sorted(key for key in keys if f"{group} " in key)

    def finish(self, when: datetime, succeeds: bool = True) -> None:
        """Let every queued run end; one that succeeds leaves its materialisations."""
        with self._hour(when):
            for run in self.instance.get_runs(dg.RunsFilter(statuses=[QUEUED])):
                if succeeds:
                    for key in run.asset_selection or ():
                        made = dg.AssetMaterialization(key, partition=run.tags["etf_pipeline/intake"].split()[1])
                        self.instance.report_runless_asset_event(made)
                    success = DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name)
                    self.instance.report_dagster_event(success, run.run_id)
                else:
                    self.instance.report_run_failed(run)
