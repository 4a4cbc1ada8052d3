"""A month of ticks with a holiday week and a downtime, and Dagster's own daemon over some days of it."""

import json
from datetime import date, datetime, time, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from exchange_calendars import get_calendar

from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import last_calendar_session
from etf_pipeline.definitions import build_defs
from etf_pipeline.intake import intakes
from etf_pipeline.settings import Deployment
from tests.automation.daemon import SHANGHAI, Asked, Daemon, Ticks, at, weekday_ticks

FIRST, LAST = date(2025, 9, 22), date(2025, 10, 31)
DOWN_FROM, DOWN_TO = at("2025-10-13T12:00"), at("2025-10-16T06:00")
CLOCKS = {
    "evening_ingest": time(20, 15),
    "morning_catch_up": time(8, 35),
    "monthly_weights": time(8, 35),
    "quarterly_holdings": time(8, 35),
    "reference_snapshots": time(8, 35),
}
SESSIONS = get_calendar("XSHG").sessions_in_range(pd.Timestamp("2025-08-01"), pd.Timestamp(LAST))


def days(first: str, last: str) -> list[str]:
    inside = SESSIONS[(first <= SESSIONS) & (last >= SESSIONS)]
    return [f"{day:%Y-%m-%d}" for day in inside]


def public(dataset: str, last_day: pd.Timestamp) -> datetime:
    """When the contract says a day or month is public; counted here on the exchange's calendar itself."""
    known = load_contract()[dataset].known_from
    assert known is not None
    day = last_day
    if known.sessions:
        calendar = get_calendar("XSHG")
        day = calendar.sessions[calendar.sessions.searchsorted(last_day, side="right") + known.sessions - 1]
    return datetime.combine(day.date(), known.time, SHANGHAI)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Ticks:
    """Every tick of the month, as the daemon evaluates them: of those missed, the last alone."""
    monkeypatch = pytest.MonkeyPatch()
    # without asking again for sessions before, each must be asked for by itself
    deployment = Deployment(lake=tmp_path_factory.mktemp("month") / "lake", parameters={"repull_sessions": 0})
    ticks = Ticks(build_defs(deployment), monkeypatch)
    due = {name: weekday_ticks(FIRST, LAST, clock) for name, clock in CLOCKS.items()}
    looks = [datetime.combine(day.date(), time(21), SHANGHAI) for day in pd.date_range(FIRST, LAST)]
    looks.append(DOWN_TO + timedelta(minutes=1))
    ticks.sensor("missed_sessions", at("2025-09-22T06:00"))
    moments = [(tick, name) for name in due for tick in due[name]] + [(look, "missed_sessions") for look in looks]
    moments.sort()
    late = {name: max(tick for tick in due[name] if tick < DOWN_TO) for name in due}
    for moment, name in moments:
        if DOWN_FROM <= moment < DOWN_TO:
            if moment == late.get(name):
                ticks.schedule(name, moment, when=DOWN_TO)
        elif name in due:
            ticks.schedule(name, moment)
        else:
            ticks.sensor(name, moment)
    monkeypatch.undo()
    return ticks


def intakes_of(month: Ticks) -> list[Asked]:
    return [asked for asked in month.asked if asked.job != "ingest_reference"]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("evening", days("2025-09-22", "2025-10-31")),
        ("morning", days("2025-09-19", "2025-10-30")),
        ("late_morning", days("2025-09-18", "2025-10-29")),
        ("month_values", ["2025-09-01"]),
        ("month_weights", ["2025-09-01"]),
        ("reports", ["2025-07-01"]),
        # twenty sessions after 30 September lie in November
        ("late_reports", []),
        # sixty sessions after 30 June
        ("full_reports", ["2025-04-01"]),
    ],
)
def test_everything_is_asked_for_exactly_once(month: Ticks, group: str, expected: list[str]) -> None:
    assert sorted(asked.owned for asked in intakes_of(month) if asked.group == group) == expected


def test_schedules_tick_at_these_hours(month: Ticks) -> None:
    crons = {s.name: s.cron_schedule for s in month.repository.schedule_defs}
    assert crons == {name: f"{clock.minute} {clock.hour} * * 1-5" for name, clock in CLOCKS.items()}


def test_run_keys_are_unique(month: Ticks) -> None:
    keys = [asked.key for asked in month.asked]
    assert len(keys) == len(set(keys)) > 90


def test_no_partition_is_a_holiday_and_no_schedule_asks_on_one(month: Ticks) -> None:
    daily = [asked for asked in intakes_of(month) if asked.job == "ingest_daily"]
    sessions = {f"{day:%Y-%m-%d}" for day in SESSIONS}
    assert {partition for asked in daily for partition in asked.partitions} <= sessions
    assert {f"{asked.when:%Y-%m-%d}" for asked in daily} <= sessions
    assert not [asked for asked in intakes_of(month) if date(2025, 10, 1) <= asked.when.date() <= date(2025, 10, 8)]


def test_nothing_is_asked_for_before_it_is_public(month: Ticks) -> None:
    seen = 0
    for asked in intakes_of(month):
        for dataset in asked.datasets:
            word = load_contract()[dataset].partition
            if word == "quarter":
                continue
            for partition in asked.partitions:
                day = pd.Timestamp(partition)
                last_day = day if word == "day" else day + pd.offsets.MonthEnd(0)
                assert asked.when >= public(dataset, last_day), (asked.key, dataset, partition)
                seen += 1
    assert seen > 250


def test_every_dataset_with_partitions_is_asked_for(month: Ticks) -> None:
    partitioned = {d.name for d in load_contract().values() if d.partition in ("day", "month", "quarter")}
    assert {dataset for asked in intakes_of(month) for dataset in asked.datasets} == partitioned


def test_mornings_ask_again_for_two_sessions_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tmp_path / "lake")), monkeypatch)
    ticks.schedule("morning_catch_up", at("2025-10-10T08:35"))
    ticks.schedule("evening_ingest", at("2025-10-10T20:15"))
    asked = {a.group: a.partitions for a in ticks.asked}
    assert asked["morning"] == ["2025-09-29", "2025-09-30", "2025-10-09"]
    assert asked["late_morning"] == ["2025-09-26", "2025-09-29", "2025-09-30"]
    assert asked["evening"] == ["2025-10-10"]
    # what was asked for again is not missing
    ticks.sensor("missed_sessions", at("2025-10-10T21:00"))
    ticks.cursors["missed_sessions"] = '{"morning": "2025-09-26"}'
    assert ticks.sensor("missed_sessions", at("2025-10-10T22:00")) == []


def test_a_downtime_is_caught_up_by_the_sensor_where_schedules_do_not(month: Ticks) -> None:
    # of its missed ticks each schedule evaluated the last; the sensor asked for the others
    missed = {a.key for a in intakes_of(month) if a.key.startswith("missed")}
    assert missed == {
        "missed evening 2025-10-13",
        "missed evening 2025-10-14",
        "missed morning 2025-10-13",
        "missed late_morning 2025-10-10",
    }
    after = [a for a in intakes_of(month) if a.when == DOWN_TO]
    assert {a.key for a in after} >= {"evening 2025-10-15", "morning 2025-10-14", "late_morning 2025-10-13"}


def test_holidays_are_skipped_in_words(month: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks(build_defs(Deployment()), monkeypatch)
    for name, clock in CLOCKS.items():
        assert ticks.schedule(name, datetime.combine(date(2025, 10, 2), clock, SHANGHAI)) == []
        assert ticks.skipped[name] == "2025-10-02 is no session of the Shanghai exchange"
    ticks.schedule("monthly_weights", at("2025-10-10T08:35"))
    assert ticks.skipped["monthly_weights"] == "nothing of month_values, month_weights is due on 2025-10-10"


def test_a_day_beyond_the_calendar_is_unknown_not_closed(tiny_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tiny_lake)), monkeypatch)
    day = date(last_calendar_session().year + 1, 1, 4)
    while day.weekday() > 4:
        day += timedelta(days=1)
    for name, clock in CLOCKS.items():
        assert ticks.schedule(name, datetime.combine(day, clock, SHANGHAI)) == []
        assert ticks.skipped[name].startswith(f"whether {day} is a session of the Shanghai exchange is not known")
        assert f"ends on {last_calendar_session()}. Upgrade it" in ticks.skipped[name]
    ticks.cursors["missed_sessions"] = json.dumps(dict.fromkeys(intakes(), day.isoformat()))
    assert ticks.sensor("missed_sessions", datetime.combine(day, time(22), SHANGHAI)) == []
    assert f"whether {day} is a session" in ticks.skipped["missed_sessions"]


def test_snapshots_are_taken_every_session(month: Ticks) -> None:
    taken = [a for a in month.asked if a.job == "ingest_reference"]
    # of three mornings missed the last is enough: a snapshot replaces the one before
    assert len(taken) == len(days("2025-09-22", "2025-10-31")) - 1


def test_a_tick_evaluated_again_asks_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tmp_path / "lake")), monkeypatch)
    assert len(ticks.schedule("evening_ingest", at("2025-09-22T20:15"))) == 1
    assert ticks.schedule("evening_ingest", at("2025-09-22T20:15")) == []
    assert "asked for already" in ticks.skipped["evening_ingest"]


def test_days_outside_the_deployment_are_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tmp_path / "lake", end=date(2025, 9, 19))), monkeypatch)
    assert ticks.schedule("evening_ingest", at("2025-09-22T20:15")) == []
    assert "outside this deployment" in ticks.skipped["evening_ingest"]


def test_days_before_the_deployment_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # a Saturday
    ticks = Ticks(build_defs(Deployment(lake=tmp_path / "湖 1", start=date(2025, 9, 27))), monkeypatch)
    ticks.schedule("morning_catch_up", at("2025-10-09T08:35"))
    asked = {a.group: a.partitions for a in ticks.asked}
    assert asked == {"morning": ["2025-09-29", "2025-09-30"], "late_morning": ["2025-09-29"]}


def test_a_long_gap_is_left_to_a_backfill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(lake=tmp_path / "lake", parameters={"catch_up_limit_sessions": 3})
    ticks = Ticks(build_defs(deployment), monkeypatch)
    assert ticks.sensor("missed_sessions", at("2025-09-15T22:00")) == []
    ticks.sensor("missed_sessions", at("2025-09-26T22:00"))
    assert [a.owned for a in ticks.asked if a.group == "evening"] == ["2025-09-24", "2025-09-25", "2025-09-26"]
    assert ticks.sensor("missed_sessions", at("2025-09-26T22:10")) == []


def test_catching_up_begins_where_the_lake_ends(tiny_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tiny_lake)), monkeypatch)
    ticks.sensor("missed_sessions", at("2025-10-29T09:00"))
    # filled by the command line up to 2025-10-24, without a partition Dagster knows of
    assert [a.owned for a in ticks.asked if a.group == "evening"] == ["2025-10-27", "2025-10-28"]
    assert [a.owned for a in ticks.asked if a.group == "morning"] == ["2025-10-27"]


def test_a_session_taken_in_before_it_was_public_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tmp_path / "lake")), monkeypatch)
    ticks.sensor("missed_sessions", at("2025-09-22T06:00"))
    datasets = [d for d in load_contract().values() if d.partition == "day" and d.known_from]
    evening = [d.name for d in datasets if d.known_from and d.known_from.sessions == 0]
    with ticks.hour(at("2025-09-22T15:30")):
        for name in evening:
            ticks.materialize(f"raw/{name}", "2025-09-22")
    with ticks.hour(at("2025-09-23T20:30")):
        for name in evening:
            ticks.materialize(f"raw/{name}", "2025-09-23")
    ticks.sensor("missed_sessions", at("2025-09-23T22:00"))
    assert [a.owned for a in ticks.asked if a.group == "evening"] == ["2025-09-22"]


def test_requests_fit_their_jobs(month: Ticks) -> None:
    for job, keys in {a.job: a.datasets for a in intakes_of(month)}.items():
        definition = month.repository.get_job(job)
        assert dg.validate_run_config(definition, {}) is not None
        assert {dg.AssetKey(["raw", k]) for k in keys} <= set(definition.asset_layer.selected_asset_keys)


def test_dagster_catches_up_the_last_missed_tick_and_the_sensor_the_others(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(home, Deployment(lake=tmp_path / "lake"), monkeypatch)
    with daemon.running():
        daemon.start("evening_ingest", "missed_sessions", when=at("2025-10-10T06:00"))
        daemon.turn(at("2025-10-10T07:00"))
        daemon.turn(at("2025-10-10T20:16"))
        daemon.finish(at("2025-10-10T20:20"))
        daemon.turn(at("2025-10-10T21:00"))
        assert daemon.keys("evening") == ["evening 2025-10-10"]
    expected = ["evening 2025-10-10", "evening 2025-10-15", "missed evening 2025-10-13", "missed evening 2025-10-14"]
    with daemon.running():  # a new process: cursors are on disk, all else is forgotten
        daemon.turn(DOWN_TO)
        assert daemon.keys("evening") == expected
        daemon.finish(at("2025-10-16T06:10"))
        daemon.turn(at("2025-10-16T06:20"))
        assert daemon.keys("evening") == expected
    assert daemon.errors == []


def test_a_failed_run_is_asked_for_once_more(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(home, Deployment(lake=tmp_path / "lake"), monkeypatch)
    with daemon.running():
        daemon.start("evening_ingest", "missed_sessions", when=at("2025-09-22T06:00"))
        daemon.turn(at("2025-09-22T07:00"))
        daemon.turn(at("2025-09-22T20:16"))
        daemon.finish(at("2025-09-22T20:20"), succeeds=False)
        daemon.turn(at("2025-09-22T20:30"))
        assert daemon.keys("evening") == ["evening 2025-09-22"]
        daemon.turn(at("2025-09-22T20:50"))
        assert daemon.keys("evening") == ["evening 2025-09-22", "missed evening 2025-09-22"]
        daemon.finish(at("2025-09-22T21:40"), succeeds=False)
        daemon.turn(at("2025-09-22T21:50"))
        assert len(daemon.keys("evening")) == 2
    assert daemon.errors == []


def test_the_queue_takes_one_run_of_a_lake_at_a_time(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 1
        (limit,) = queue.tag_concurrency_limits
        assert (limit["key"], limit["limit"]) == ("etf_pipeline/lake", 1)
        assert limit["value"] == {"applyLimitPerUniqueValue": True}
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
