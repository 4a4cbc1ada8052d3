"""Sensors that tell: each thing once, again if nobody heard it."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etf_pipeline.alerts import alert_sensors
from etf_pipeline.definitions import build_defs
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from tests.automation.daemon import Ticks, at
from tests.automation.webhook import Webhook
from tests.checks.world import put, tamper

NOW = at("2025-10-27T09:30")
CHECK = ("raw/etf_share", "freshness")


@pytest.fixture
def ticks(tiny_lake: Path, monkeypatch: pytest.MonkeyPatch, webhook: Webhook, home: Path) -> Iterator[Ticks]:
    monkeypatch.setenv("ETF_PIPELINE_NOTIFY", f"json://{webhook.address}/")
    # on disk as in a lake, where each run has an event log of its own
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Ticks(build_defs(Deployment(lake=tiny_lake)), monkeypatch, instance)


def tell(ticks: Ticks, name: str, webhook: Webhook) -> list[str]:
    """Titles of the messages one tick sends."""
    before = len(webhook.posts)
    assert ticks.sensor(name, NOW) == []
    return [body["title"] for _, body in webhook.posts[before:]]


def test_a_failing_check_is_told_once(ticks: Ticks, webhook: Webhook) -> None:
    ticks.judge(*CHECK, False, "WARN")
    assert tell(ticks, "check_failed", webhook) == []  # from before the sensor was started
    ticks.judge(*CHECK, True)
    assert tell(ticks, "check_failed", webhook) == []
    ticks.judge(*CHECK, False, "WARN", sessions_late="6")
    assert tell(ticks, "check_failed", webhook) == ["etf_pipeline: a check failed"]
    assert "raw/etf_share: freshness (warning): sessions_late: 6" in webhook.bodies[-1]
    assert "When it fails: ingest the missing days" in webhook.bodies[-1]
    ticks.judge(*CHECK, False, "WARN")
    assert tell(ticks, "check_failed", webhook) == []
    # worse than before
    ticks.judge(*CHECK, False, "ERROR")
    assert len(tell(ticks, "check_failed", webhook)) == 1
    ticks.judge(*CHECK, True)
    assert tell(ticks, "check_failed", webhook) == []
    ticks.judge(*CHECK, False, "WARN")
    assert len(tell(ticks, "check_failed", webhook)) == 1


def test_checks_that_passed_in_the_meantime_are_not_told(ticks: Ticks, webhook: Webhook) -> None:
    tell(ticks, "check_failed", webhook)
    ticks.judge(*CHECK, False)
    ticks.judge(*CHECK, True)
    assert tell(ticks, "check_failed", webhook) == []


def test_a_check_under_way_is_what_it_was(ticks: Ticks, webhook: Webhook) -> None:
    tell(ticks, "check_failed", webhook)
    ticks.judge(*CHECK, False)
    assert len(tell(ticks, "check_failed", webhook)) == 1
    ticks.plan(*CHECK)
    assert tell(ticks, "check_failed", webhook) == []
    ticks.judge(*CHECK, False)
    assert tell(ticks, "check_failed", webhook) == []


def test_several_checks_are_one_message(ticks: Ticks, webhook: Webhook) -> None:
    tell(ticks, "check_failed", webhook)
    ticks.judge(*CHECK, False, "WARN")
    ticks.judge("raw/etf_nav", "freshness", False, "WARN")
    ticks.judge("raw/index_bar", "freshness", True)
    assert tell(ticks, "check_failed", webhook) == ["etf_pipeline: 2 checks failed"]


@pytest.mark.parametrize("name", ["check_failed", "new_holdings"])
def test_what_nobody_heard_is_told_again(ticks: Ticks, webhook: Webhook, tiny_lake: Path, name: str) -> None:
    tell(ticks, name, webhook)
    ticks.judge(*CHECK, False)
    tamper(tiny_lake / "published" / "strategy_holdings.parquet", put("weight", 0.4, row=-1))
    webhook.answer = 500
    assert len(tell(ticks, name, webhook)) == 1
    assert "sent to 0 of 1 channels" in ticks.skipped[name]
    webhook.answer = 200
    assert len(tell(ticks, name, webhook)) == 1
    assert tell(ticks, name, webhook) == []


def test_holdings_are_told_when_they_are_new_or_changed(ticks: Ticks, webhook: Webhook, tiny_lake: Path) -> None:
    path = tiny_lake / "published" / "strategy_holdings.parquet"
    whole = path.read_bytes()
    tamper(path, lambda f: f[f["signal_date"] < "2025-10-24"])
    assert tell(ticks, "new_holdings", webhook) == []
    path.write_bytes(whole)
    assert tell(ticks, "new_holdings", webhook) == ["SYNTHETIC etf_pipeline: new holdings of 2025-10-24"]
    assert tell(ticks, "new_holdings", webhook) == []
    tamper(path, put("weight", 0.4, row=-1))
    assert tell(ticks, "new_holdings", webhook) == ["SYNTHETIC etf_pipeline: changed holdings of 2025-10-24"]


def test_the_first_holdings_ever_are_told(ticks: Ticks, webhook: Webhook, tiny_lake: Path) -> None:
    path = tiny_lake / "published" / "strategy_holdings.parquet"
    whole = path.read_bytes()
    path.unlink()
    assert tell(ticks, "new_holdings", webhook) == []
    path.write_bytes(whole)
    assert len(tell(ticks, "new_holdings", webhook)) == 1


def test_a_failed_run_is_told(webhook: Webhook, monkeypatch: pytest.MonkeyPatch, tiny_lake: Path) -> None:
    monkeypatch.setenv("ETF_PIPELINE_NOTIFY", f"json://{webhook.address}/")

    @dg.op
    def broken() -> None:
        raise ValueError("three rows of etf_share are negative")

    @dg.job(executor_def=dg.in_process_executor)
    def ingest() -> None:
        broken()

    (sensor,) = [s for s in alert_sensors(Pipeline(Deployment(lake=tiny_lake))) if s.name == "run_failure"]
    with dg.DagsterInstance.ephemeral() as instance:
        result = ingest.execute_in_process(instance=instance, raise_on_error=False)
        (event,) = [e for e in result.all_events if e.event_type_value == "PIPELINE_FAILURE"]
        with dg.build_run_status_sensor_context(
            "run_failure", dagster_event=event, dagster_instance=instance, dagster_run=result.dagster_run
        ).for_run_failure() as context:
            answer = sensor(context)
    assert answer.skip_message == "sent to 1 of 1 channels"
    ((_, body),) = webhook.posts
    assert body["title"] == "etf_pipeline: ingest failed"
    assert "- broken: ValueError: three rows of etf_share are negative" in body["message"]
    assert f"/runs/{result.run_id}" in body["message"]


def test_everything_is_off_until_started(ticks: Ticks) -> None:
    schedules, sensors = ticks.repository.schedule_defs, ticks.repository.sensor_defs
    assert {s.name for s in schedules} == {
        "evening_ingest",
        "morning_catch_up",
        "monthly_weights",
        "quarterly_holdings",
        "reference_snapshots",
    }
    assert {s.name for s in sensors} == {
        "missed_sessions",
        "compute_due",
        "rebalance_due",
        "restatement_due",
        "drop_folder",
        "run_failure",
        "check_failed",
        "new_holdings",
    }
    assert {s.default_status.value for s in [*schedules, *sensors]} == {"STOPPED"}
    assert {s.execution_timezone for s in schedules} == {"Asia/Shanghai"}
    assert all((s.description or "").strip() for s in [*schedules, *sensors])
