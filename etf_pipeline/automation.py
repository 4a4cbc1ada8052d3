"""Unattended operation: jobs, schedules and the sensors that start runs. All are off until started in the UI.

A schedule asks for what becomes public at its tick. Of the ticks missed while the daemon was down Dagster evaluates
only the last (a schedule over several datasets has no partition set), so the sensor `missed_sessions` finds what lacks
materialisation and asks for it, once each. What follows from data follows by sensor, not by clock: `compute_due` when
new raw data are in and their blocking checks passed, `rebalance_due` when a rebalance date's factors are, and
`restatement_due` when the factors of a date published before make other holdings.

Not declarative automation: `AutomationCondition.eager` waits until no partition of any dependency is missing, and in a
lake filled by the command line all are missing in Dagster's eyes; a condition over twenty years of sessions says less
about "the data of this date are here" than the rows do.

A job holds assets of one partitioning; Dagster refuses others. Messages are sent in `alerts.py`, the folder of files is
watched in `drop_folder.py`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd

from etf_pipeline.assets.strategy import restated_dates
from etf_pipeline.assets.warehouse import sql_unit_tests
from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import (
    SHANGHAI,
    CalendarEndError,
    is_session,
    last_calendar_session,
    rebalance_dates,
    sessions_between,
)
from etf_pipeline.intake import MORNING, Intake, intakes, overdue
from etf_pipeline.partitions import raw_partitions
from etf_pipeline.resources.pipeline import FIRST_DAY, Pipeline

DAILY, MONTHLY, QUARTERLY = "ingest_daily", "ingest_monthly", "ingest_quarterly"
REFERENCE, COMPUTE, STRATEGY, RESEARCH = "ingest_reference", "compute", "strategy", "research"
INGEST_JOBS = {"day": DAILY, "month": MONTHLY, "quarter": QUARTERLY, "snapshot": REFERENCE, "none": REFERENCE}
"""Job that takes in a dataset, by the contract's word for its partitions."""

LAKE_TAG = "etf_pipeline/lake"
INTAKE_TAG = "etf_pipeline/intake"
"""Names what a run takes in, "evening 2025-09-30", whoever asked for it."""

GRACE = timedelta(minutes=30)
"""A tick this old is missed: by then its schedule would have asked."""

_SCHEDULES = {
    "evening_ingest": (DAILY, ("evening",), "Bars, splits and dividends of the session, all public by 20:00."),
    "morning_catch_up": (
        DAILY,
        ("morning", "late_morning"),
        "What the session before published this morning, with repull_sessions sessions before it again.",
    ),
    "monthly_weights": (MONTHLY, ("month_values", "month_weights"), "Market values and weights of the month before."),
    "quarterly_holdings": (
        QUARTERLY,
        ("reports", "late_reports", "full_reports"),
        "Holdings of the quarter before, when reported.",
    ),
}

_STRATEGY_KEY = dg.AssetKey(["strategy", "strategy_holdings"])
_SCORES_KEY = dg.AssetKey(["factors", "factor_scores"])
_COMPUTED_GROUPS = ("staging", "intermediate", "marts", "factors")
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def now() -> datetime:
    """The current moment in Shanghai; tests put another in its place."""
    return datetime.now(ZoneInfo(SHANGHAI))


def raw_key(dataset: str) -> dg.AssetKey:
    """Key of a raw asset."""
    return dg.AssetKey(["raw", dataset])


def lake_tags(pipeline: Pipeline) -> dict[str, str]:
    """Tag of every run of the automation: the queue keeps runs of one lake apart by it."""
    return {LAKE_TAG: pipeline.deployment.lake.absolute().name}


def automation_jobs(pipeline: Pipeline) -> list[Any]:
    """One job for each partitioning of raw data, and one each for computing, the strategy and research."""
    tags = lake_tags(pipeline)
    datasets: dict[str, list[dg.AssetKey]] = {}
    for dataset in load_contract().values():
        datasets.setdefault(INGEST_JOBS[dataset.partition], []).append(raw_key(dataset.name))
    raw = {name: dg.AssetSelection.assets(*keys) for name, keys in datasets.items()}
    computed = dg.AssetSelection.groups(*_COMPUTED_GROUPS) | dg.AssetSelection.assets(["strategy", "rebalance_dates"])
    strategy = dg.AssetSelection.assets(_STRATEGY_KEY)
    research = dg.AssetSelection.all() - dg.AssetSelection.groups("raw") - computed - strategy
    # tests of the SQL judge the SQL, which is the same every day
    selections = {**raw, COMPUTE: computed - dg.AssetSelection.checks(sql_unit_tests())}
    selections |= {STRATEGY: strategy, RESEARCH: research}
    return [dg.define_asset_job(name, selection, tags=tags) for name, selection in selections.items()]


def automation_schedules(pipeline: Pipeline) -> list[dg.ScheduleDefinition]:
    """The schedules, in Shanghai time."""
    groups = intakes()
    return [
        *(_intake_schedule(pipeline, name, job, [groups[g] for g in names], words)
          for name, (job, names, words) in _SCHEDULES.items()),
        _reference_schedule(pipeline),
    ]  # fmt: skip


def _no_session(day: date) -> str | None:
    """Why nothing is asked for on `day`: the exchange is closed, or nobody knows yet; None on a session."""
    try:
        return None if is_session(day) else f"{day} is no session of the Shanghai exchange"
    except CalendarEndError as error:
        return str(error)


def _cron(at: Any) -> str:
    return f"{at.minute} {at.hour} * * 1-5"


def _intake_schedule(
    pipeline: Pipeline, name: str, job: str, groups: Sequence[Intake], description: str
) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=_cron(groups[0].at),
        execution_timezone=SHANGHAI,
        description=description,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        day = context.scheduled_execution_time.astimezone(ZoneInfo(SHANGHAI)).date()
        if closed := _no_session(day):
            yield dg.SkipReason(closed)
            return
        wanted = [(group, start) for group in groups for start in group.due_on(day)]
        reasons = [] if wanted else [f"nothing of {', '.join(g.name for g in groups)} is due on {day}"]
        for group, start in wanted:
            # schedules know run keys of their own tick only; the sensor for missed sessions may have been first
            if asked := _runs(context.instance, {INTAKE_TAG: f"{group.name} {start}"}, failed=False):
                reasons.append(f"{group.name} {start} was asked for already (run {asked[0].run_id[:8]})")
            elif outside := _outside(pipeline, group, start):
                reasons.append(outside)
            else:
                yield intake_request(pipeline, group, start, run_key=f"{group.name} {start}")
        if len(reasons) == max(len(wanted), 1):
            yield dg.SkipReason("; ".join(reasons))

    return tick


@lru_cache(maxsize=4)
def _partitions(start: date, end: date | None) -> Mapping[str, dg.PartitionsDefinition | None]:
    return raw_partitions(start, end)


def partitions_of(pipeline: Pipeline, period: str) -> dg.PartitionsDefinition:
    """Partitions of raw data by the contract's word for them: day, month or quarter."""
    deployment = pipeline.deployment
    found = _partitions(deployment.start or FIRST_DAY[deployment.source], deployment.end)[period]
    assert found is not None
    return found


def _outside(pipeline: Pipeline, group: Intake, start: date) -> str | None:
    if partitions_of(pipeline, group.period).has_partition_key(f"{start:%Y-%m-%d}"):
        return None
    first, last = pipeline.deployment.start, pipeline.deployment.end
    return f"{group.name} {start} lies outside this deployment ({first or 'first day'} … {last or 'now'})"


def intake_request(
    pipeline: Pipeline, group: Intake, start: date, run_key: str, job: str | None = None
) -> dg.RunRequest:
    """Run that takes in one partition of a group, with the sessions before it again where the group is repulled."""
    sessions = pipeline.parameters.repull_sessions if group.repulled else 0
    first = start
    if sessions:
        begin = start - timedelta(days=30 + 3 * sessions)
        # not before the first partition
        before = sessions_between(max(begin, pipeline.deployment.start or begin), start)
        first = before[-sessions - 1 :][0].date()
    return range_request(
        pipeline,
        (first, start),
        [raw_key(name) for name in group.datasets],
        run_key=run_key,
        job=job,
        tags={INTAKE_TAG: f"{group.name} {start}"},
    )


def range_request(
    pipeline: Pipeline,
    days: tuple[date, date],
    assets: Sequence[dg.AssetKey],
    run_key: str,
    job: str | None = None,
    tags: dict[str, str] | None = None,
) -> dg.RunRequest:
    """One run over the partitions named by their first days `days`, first and last."""
    first, last = (f"{day:%Y-%m-%d}" for day in days)
    tags = {**lake_tags(pipeline), **(tags or {})}
    if first == last:
        return dg.RunRequest(run_key, job_name=job, partition_key=last, asset_selection=list(assets), tags=tags)
    # the assets have single-run backfill policies: a range is one run
    tags |= {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return dg.RunRequest(run_key, job_name=job, asset_selection=list(assets), tags=tags)


def _reference_schedule(pipeline: Pipeline) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="reference_snapshots",
        job_name=REFERENCE,
        cron_schedule=_cron(MORNING),
        execution_timezone=SHANGHAI,
        description="Lists of ETFs, funds, industries and their stocks, as they stand this morning.",
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = context.scheduled_execution_time.astimezone(ZoneInfo(SHANGHAI)).date()
        if closed := _no_session(day):
            return dg.SkipReason(closed)
        return dg.RunRequest(f"reference {day}", tags=lake_tags(pipeline))

    return tick


def automation_sensors(pipeline: Pipeline, jobs: Sequence[Any]) -> list[dg.SensorDefinition]:
    """The sensors that start runs of `jobs`, in the order in which work flows."""
    by_name = {job.name: job for job in jobs}
    return [
        _missed_sessions(pipeline, [by_name[name] for name in (DAILY, MONTHLY, QUARTERLY)]),
        _compute_due(pipeline, by_name[COMPUTE]),
        _rebalance_due(pipeline, [by_name[name] for name in (STRATEGY, RESEARCH)]),
        _restatement_due(pipeline, [by_name[name] for name in (STRATEGY, RESEARCH)]),
    ]


def _missed_sessions(pipeline: Pipeline, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Cursor: by group, the first day of the last partition that was materialised in time or asked for."""

    @dg.sensor(
        name="missed_sessions",
        jobs=jobs,
        minimum_interval_seconds=300,
        description="Asks, once each, for sessions, months and quarters whose schedule tick was missed or failed.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def missed_sessions(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        cursor: dict[str, str] = json.loads(context.cursor or "{}")
        requests, reasons = [], []
        if (today := now().date()) > last_calendar_session() and (unknown := _no_session(today)):
            context.log.warning(unknown)
            reasons.append(unknown)
        for group in intakes().values():
            known = cursor.get(group.name)
            settled = date.fromisoformat(known) if known else _held_until(pipeline, group)
            due = list(overdue(group, settled or now().date() - timedelta(days=250), now(), pd.Timedelta(GRACE)))
            if settled is None:
                # an empty lake lacks everything: history is for a backfill, catching up begins here
                due, settled = [], due[-1][0] if due else None
            limit = pipeline.parameters.catch_up_limit_sessions
            if len(due) > limit:
                reasons.append(f"{group.name}: {len(due) - limit} before {due[-limit][0]} are left to a backfill")
            for start, moment in due[-limit:]:
                name = f"{group.name} {start}"
                if _runs(context.instance, {INTAKE_TAG: name}, _UNFINISHED):
                    reasons.append(f"{name} is under way")
                    break
                if not _outside(pipeline, group, start) and not _materialised(context.instance, group, start, moment):
                    request = intake_request(pipeline, group, start, f"missed {name}", INGEST_JOBS[group.period])
                    requests.append(request)
                settled = start
            if settled:
                cursor[group.name] = settled.isoformat()
        reason = dg.SkipReason("; ".join(reasons) or "nothing is missing") if not requests else None
        return dg.SensorResult(requests, skip_reason=reason, cursor=json.dumps(cursor))

    return missed_sessions


def _held_until(pipeline: Pipeline, group: Intake) -> date | None:
    """First day of the last partition the lake holds rows of, for the group's first required dataset, or its first."""
    contract = load_contract()
    datasets = sorted((contract[name] for name in group.datasets), key=lambda d: not d.required)
    held = pipeline.lake.last_day(datasets[0])
    if held is None or group.period == "day":
        return held
    return held.replace(month=held.month if group.period == "month" else (held.month - 1) // 3 * 3 + 1, day=1)


def _materialised(instance: dg.DagsterInstance, group: Intake, start: date, since: datetime) -> bool:
    """Whether every dataset of the group was materialised for this partition after it became public."""
    return all(
        instance.fetch_materializations(
            dg.AssetRecordsFilter(
                raw_key(name), asset_partitions=[f"{start:%Y-%m-%d}"], after_timestamp=since.timestamp()
            ),
            limit=1,
        ).records
        for name in group.datasets
    )


def _runs(
    instance: dg.DagsterInstance,
    tags: dict[str, str],
    statuses: Sequence[dg.DagsterRunStatus] | None = None,
    failed: bool = True,
) -> list[dg.DagsterRun]:
    found = instance.get_runs(dg.RunsFilter(tags=tags, statuses=statuses))
    lost = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    return [run for run in found if failed or run.status not in lost]


def _under_way(instance: dg.DagsterInstance, jobs: Sequence[str]) -> str | None:
    """Words for the jobs with a run that has not ended; None if there is none."""
    names = sorted({run.job_name for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))} & set(jobs))
    return f"waiting for {', '.join(names)}" if names else None


def _compute_due(pipeline: Pipeline, job: Any) -> dg.SensorDefinition:
    """Cursor: storage id of the last raw materialisation that was computed with."""

    @dg.sensor(
        name="compute_due",
        job=job,
        minimum_interval_seconds=60,
        description="Rebuilds warehouse and factors when new raw data are in and their blocking checks passed.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def compute_due(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        graph = _graph(context)
        used = [raw_key(name) for name in load_contract() if graph.get(raw_key(name)).child_keys]
        newest = max(_storage_ids(context.instance, used).values(), default=0)
        computed = _storage_ids(context.instance, [_SCORES_KEY]).get(_SCORES_KEY, 0)
        if newest <= max(int(context.cursor or 0), computed):
            return _skip("no new raw data", str(max(newest, int(context.cursor or 0))))
        # many sessions caught up are one computation
        if waiting := _under_way(context.instance, [*INGEST_JOBS.values(), COMPUTE]):
            return _skip(waiting, context.cursor)
        required = [dataset for dataset in load_contract().values() if dataset.required]
        if absent := [dataset.name for dataset in required if not pipeline.lake.raw_files(dataset)]:
            return _skip(f"required, and not in the lake yet: {', '.join(absent)}", context.cursor)
        if failing := unmet_checks(context.instance, graph, used):
            return _skip("not computed with data that failed: " + "; ".join(failing), context.cursor)
        request = dg.RunRequest(f"compute {newest}", tags=lake_tags(pipeline))
        return dg.SensorResult([request], cursor=str(newest))

    return compute_due


def _rebalance_due(pipeline: Pipeline, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Cursor: the last signal date that was asked for, or that the lake held when the sensor was started.

    After it, behind commas, those before it that were not ready then, and are asked for when they are.
    """

    @dg.sensor(
        name="rebalance_due",
        jobs=jobs,
        minimum_interval_seconds=60,
        description="Publishes the holdings of a rebalance date, once, when its factors are there and passed checks.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def rebalance_due(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        p = pipeline.parameters
        known, *passed_over = (context.cursor or "").split(",")
        done = date.fromisoformat(known) if known else _last_signal(pipeline)
        first = done + timedelta(days=1) if done else now().date() - timedelta(days=7 * p.rebalance_every_weeks + 14)
        new = [d.date() for d in rebalance_dates(first, now().date(), p.rebalance_anchor, p.rebalance_every_weeks)]
        # several after a downtime, the newest alone on a new lake
        dates = [*map(date.fromisoformat, passed_over), *(new if done else new[-1:])]
        if not dates:
            return _skip(f"no rebalance date since {done}", f"{done}" if done else None)
        hindrances = {day: _not_ready(context, pipeline, day) for day in dates}
        ready = [day for day in dates if not hindrances[day]]
        if not ready:
            return _skip("; ".join(f"{day}: {why}" for day, why in hindrances.items()), context.cursor)
        tags = lake_tags(pipeline)
        requests = [dg.RunRequest(f"{day}", job_name=STRATEGY, partition_key=f"{day}", tags=tags) for day in ready]
        requests.append(dg.RunRequest(f"research {ready[-1]}", job_name=RESEARCH, tags=tags))
        last = max([*ready, *([done] if done else [])])
        waiting = [day for day in dates if hindrances[day] and day < last]
        return dg.SensorResult(requests, cursor=",".join(f"{day}" for day in (last, *waiting)))

    return rebalance_due


def _restatement_due(pipeline: Pipeline, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Cursor: storage id of the scores that were compared last."""

    @dg.sensor(
        name="restatement_due",
        jobs=jobs,
        minimum_interval_seconds=60,
        description="Publishes dates anew whose holdings late or revised data have changed; the ledger keeps what was.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def restatement_due(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        scores = _storage_ids(context.instance, [_SCORES_KEY]).get(_SCORES_KEY, 0)
        if scores <= int(context.cursor or 0) or _last_signal(pipeline) is None:
            return _skip("no new scores, or nothing published yet", context.cursor)
        if waiting := _under_way(context.instance, [*INGEST_JOBS.values(), COMPUTE, STRATEGY]):
            return _skip(waiting, context.cursor)
        if failing := unmet_checks(context.instance, _graph(context), _upstream_of_holdings(context)):
            return _skip("not compared: blocking checks: " + "; ".join(failing), context.cursor)
        dates = [day.date() for day in restated_dates(pipeline)]
        if not dates:
            return _skip("all holdings are as published", str(scores))
        days, key = (dates[0], dates[-1]), f"restated {scores}"
        requests = [
            range_request(pipeline, days, [_STRATEGY_KEY], run_key=key, job=STRATEGY),
            dg.RunRequest(f"research {key}", job_name=RESEARCH, tags=lake_tags(pipeline)),
        ]
        return dg.SensorResult(requests, cursor=str(scores))

    return restatement_due


def _upstream_of_holdings(context: dg.SensorEvaluationContext) -> list[dg.AssetKey]:
    graph = _graph(context)
    return sorted(_ancestors(graph, _STRATEGY_KEY) & set(graph.materializable_asset_keys))


def _last_signal(pipeline: Pipeline) -> date | None:
    if not pipeline.lake.published_path("strategy_holdings").exists():
        return None
    last = pipeline.lake.read_published("strategy_holdings", ["signal_date"])["signal_date"].max()
    return last.date() if pd.notna(last) else None


def _not_ready(context: dg.SensorEvaluationContext, pipeline: Pipeline, day: date) -> str | None:
    """Why the holdings of `day` cannot be published yet, in words; None when they can."""
    lake, graph = pipeline.lake, _graph(context)
    daily = [d for d in load_contract().values() if d.required and d.partition == "day"]
    absent = [d.name for d in daily if not lake.holds_day(d, day)]
    if absent:
        return f"no rows yet in {', '.join(absent)}"
    if waiting := _under_way(context.instance, [*INGEST_JOBS.values(), COMPUTE]):
        return waiting
    inputs = [*sorted(graph.get(_STRATEGY_KEY).parent_keys), *(raw_key(d.name) for d in daily)]
    ids = _storage_ids(context.instance, inputs)
    newest = max(ids.get(raw_key(d.name), 0) for d in daily)
    older = [key.to_user_string() for key in graph.get(_STRATEGY_KEY).parent_keys if ids.get(key, 0) <= newest]
    if older:
        return f"not computed with the newest data: {', '.join(sorted(older))}"
    if pd.Timestamp(day) not in set(lake.read_published("rebalance_dates", ["signal_date"])["signal_date"]):
        return "not among the published rebalance dates"
    if failing := unmet_checks(context.instance, graph, _upstream_of_holdings(context)):
        return "blocking checks: " + "; ".join(failing)
    return None


def unmet_checks(instance: dg.DagsterInstance, graph: Any, assets: Sequence[dg.AssetKey]) -> list[str]:
    """Blocking checks of materialised assets that failed, or did not run since; each in words.

    A failure with severity WARN does not block, as in a run.
    """
    made = {
        key: record.asset_entry.last_materialization.timestamp
        for key, record in _records(instance, assets).items()
        if record.asset_entry.last_materialization
    }
    keys = [key for key in graph.asset_check_keys if key.asset_key in made and graph.get(key).blocking]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    unmet = []
    for key in sorted(keys):
        name = f"{key.asset_key.to_user_string()}:{key.name}"
        evaluation, judged_at = newest_evaluation(latest.get(key))
        if evaluation is None or judged_at < made[key.asset_key]:
            unmet.append(f"{name} did not run on the newest data")
        elif not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            unmet.append(f"{name} failed")
    return unmet


def newest_evaluation(record: Any) -> tuple[dg.AssetCheckEvaluation | None, float]:
    """Evaluation of a check's newest execution, and when it was; none while that is only planned."""
    event = record.event if record else None
    if event is None or event.dagster_event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return None, 0.0
    return event.dagster_event.asset_check_evaluation_data, event.timestamp


def _graph(context: dg.SensorEvaluationContext) -> Any:
    assert context.repository_def is not None
    return context.repository_def.asset_graph


def _ancestors(graph: Any, key: dg.AssetKey) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    new = {key}
    while new:
        new = {parent for each in new for parent in graph.get(each).parent_keys} - found
        found |= new
    return found


def _records(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, Any]:
    return {record.asset_entry.asset_key: record for record in instance.get_asset_records(list(keys))}


def _storage_ids(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, int]:
    """Storage id of the last materialisation of each asset that has one; later ones are larger."""
    entries = {key: record.asset_entry for key, record in _records(instance, keys).items()}
    return {key: e.last_materialization_storage_id for key, e in entries.items() if e.last_materialization_storage_id}


def _skip(reason: str, cursor: str | None) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor)
