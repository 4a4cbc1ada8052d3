"""A sound lake is well; every fault planted is found, and mended where it can be."""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.test_utils import freeze_time
from dagster._core.utils import make_new_run_id
from typer.testing import CliRunner

from etf_pipeline import doctor
from etf_pipeline.cli import app
from etf_pipeline.doctor import Finding, examine
from etf_pipeline.resources.lake import Lake
from etf_pipeline.settings import Deployment
from tests.checks.world import make_pipeline, tamper

TODAY = date(2025, 10, 27)


@pytest.fixture
def lake(tiny_lake: Path) -> Lake:
    deployment = make_pipeline(tiny_lake).deployment
    (tiny_lake / "deployment.json").write_text(deployment.model_dump_json())
    lake = Lake(tiny_lake)
    lake.build_catalogue()
    return lake


def findings(lake: Lake, *, fix: bool = False, today: date = TODAY) -> dict[str, Finding]:
    found = examine(lake, make_pipeline(lake.root).parameters, today, fix=fix)
    assert len({f.subject for f in found}) == len(found)
    return {f.subject: f for f in found}


def the_action(lake: Lake, subject: str) -> Finding:
    """The finding on `subject`, which is all there is to do."""
    found = findings(lake)
    assert [name for name, f in found.items() if f.level == "action"] == [subject], found
    assert found[subject].advice
    return found[subject]


def mended(lake: Lake, subject: str) -> Finding:
    """What was mended; afterwards nothing is left to do."""
    found = findings(lake, fix=True)[subject]
    assert found.level == "fixed"
    assert {f.level for f in findings(lake).values()} <= {"ok", "note"}
    return found


def test_a_sound_lake_is_well(lake: Lake) -> None:
    found = findings(lake)
    assert {f.level for f in found.values()} <= {"ok", "note"}, found
    assert set(found) == {
        "temporary files",
        "stored files",
        "catalogue",
        "warehouse",
        "settings",
        *(f"raw {name}" for name in ("etf_share", "etf_nav", "index_bar", "index_weight")),
        "disk",
        "run log",
        "calendar",
        "messages",
        "versions",
    }
    assert "dagster 1." in found["versions"].found
    assert "duckdb " in found["versions"].found


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_half_written_files(lake: Lake) -> None:
    left = lake.root / "published" / f".market_flow.parquet.{ended_process()}.tmp"
    left.write_bytes(b"half")
    being_written = lake.root / "raw" / "etf_share" / f".2025.parquet.{os.getpid()}.tmp"
    being_written.write_bytes(b"half")
    # of a process that ended, whose number is ours now
    number_again = lake.root / f".etf.duckdb.{os.getpid()}.tmp"
    number_again.write_bytes(b"half")
    os.utime(number_again, (0, 0))
    found = the_action(lake, "temporary files")
    assert found.found.startswith("2 half-written")
    mended(lake, "temporary files")
    assert not left.exists()
    assert not number_again.exists()
    assert being_written.exists()


def test_no_catalogue(lake: Lake) -> None:
    lake.catalogue.unlink()
    assert the_action(lake, "catalogue").found == "missing"
    mended(lake, "catalogue")
    assert lake.catalogue.exists()


def test_a_catalogue_older_than_a_table(lake: Lake) -> None:
    shutil.copy(lake.published_path("industry_weekly"), lake.published_path("industry_weekly_2"))
    assert the_action(lake, "catalogue").found == "older than main.industry_weekly_2, which it lacks"
    mended(lake, "catalogue")


def test_a_view_of_a_file_that_is_gone(lake: Lake) -> None:
    lake.published_path("industry_weekly").unlink()
    assert "main.industry_weekly is broken" in the_action(lake, "catalogue").found
    mended(lake, "catalogue")


def test_a_catalogue_that_cannot_be_opened(lake: Lake) -> None:
    lake.catalogue.write_bytes(b"not a database, not at all" * 1000)
    assert "cannot be opened" in the_action(lake, "catalogue").found
    mended(lake, "catalogue")


def test_a_table_made_with_other_settings(lake: Lake) -> None:
    table = pq.read_table(lake.published_path("factor_scores"))
    lake.publish("factor_scores", table, "0123456789ab")
    assert "1 tables made with other settings" in the_action(lake, "settings").found
    assert "factor_scores (0123456789ab)" in the_action(lake, "settings").found


def test_a_missing_session(lake: Lake) -> None:
    tamper(lake.root / "raw" / "etf_nav" / "2025.parquet", lambda f: f[f["trade_date"] != "2025-09-30"])
    lake.build_catalogue()
    found = the_action(lake, "raw etf_nav").found
    assert "1 of" in found
    assert found.endswith("2025-09-30")


def test_a_missing_month(lake: Lake) -> None:
    path = next(iter((lake.root / "raw" / "index_weight").glob("2*.parquet")))
    months = sorted({day.replace(day=1) for day in pq.read_table(path)["as_of_date"].to_pylist()})
    assert len(months) > 2
    tamper(path, lambda f: f[f["as_of_date"].dt.to_period("M").dt.start_time.dt.date != months[1]])
    assert the_action(lake, "raw index_weight").found.endswith(f"{months[1]}")


def test_a_missing_required_dataset(lake: Lake) -> None:
    shutil.rmtree(lake.root / "raw" / "index_bar")
    lake.build_catalogue()
    found = findings(lake)
    assert [name for name, f in found.items() if f.level == "action"] == ["raw/index_bar/2025.parquet", "raw index_bar"]
    assert found["raw/index_bar/2025.parquet"].found == "gone"
    assert found["raw index_bar"].found == "not in the lake"


def test_holes_of_long_ago_are_noted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_JUDGED_SESSIONS", 5)
    tamper(lake.root / "raw" / "etf_nav" / "2025.parquet", lambda f: f[f["trade_date"] != "2025-09-30"])
    assert findings(lake)["raw etf_nav"].level == "note"


def test_little_room(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_FREE_BYTES", 2**80)
    assert "make room" in the_action(lake, "disk").advice


def test_a_calendar_that_ends_soon(lake: Lake) -> None:
    last = doctor.last_calendar_session()
    levels = {days: findings(lake, today=last - timedelta(days=days))["calendar"] for days in (-4, 4, 21, 60)}
    # weeks ahead it is no fault of the lake
    assert [found.level for found in levels.values()] == ["action", "action", "note", "ok"]
    assert "pip install -U exchange-calendars" in levels[21].advice
    assert str(last) in levels[21].found


def test_a_channel_that_is_none(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETF_PIPELINE_NOTIFY", "nonsense://secret")
    found = the_action(lake, "messages")
    assert found.found.startswith("nonsense 1: not a URL")
    assert "secret" not in found.found


@pytest.fixture
def instance_home(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = lake.root / ".dagster"
    home.mkdir()
    shutil.copy(Path(doctor.__file__).with_name("dagster.yaml"), home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


def report(instance: dg.DagsterInstance, run_id: str, job: str, kind: DagsterEventType, **details: object) -> None:
    instance.report_dagster_event(DagsterEvent(kind.value, job, **details), run_id)  # type: ignore[arg-type]


def started(instance: dg.DagsterInstance, pid: int) -> str:
    run_id = make_new_run_id()
    instance.add_run(dg.DagsterRun("job", run_id))
    report(instance, run_id, "job", DagsterEventType.RUN_START)
    data = EngineEventData({"pid": dg.MetadataValue.text(str(pid))})
    report(instance, run_id, "job", DagsterEventType.ENGINE_EVENT, event_specific_data=data)
    return run_id


def test_runs_whose_process_is_gone(lake: Lake, instance_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        dead, alive = started(instance, ended_process()), started(instance, os.getpid())
    found = the_action(lake, "runs")
    assert found.found.startswith("1 count as running")
    assert dead[:8] in found.found
    mended(lake, "runs")
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {dead: dg.DagsterRunStatus.FAILURE, alive: dg.DagsterRunStatus.STARTED}


@dg.asset
def made() -> None: ...


def materialized(instance: dg.DagsterInstance, days_ago: int) -> str:
    with freeze_time(time.time() - days_ago * 86400):
        return dg.materialize([made], instance=instance).run_id


def test_old_runs_leave_the_log(lake: Lake, instance_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        runs = [materialized(instance, days) for days in (300, 91, 80, 1)]
    assert "2 ended more than 90 days ago" in the_action(lake, "run log").found
    mended(lake, "run log")
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        assert {run.run_id for run in instance.get_runs()} == set(runs[2:])
        assert instance.all_logs(runs[3])
    assert not list(instance_home.rglob(f"{runs[0]}*"))
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        assert not instance.all_logs(runs[0])


def test_the_run_that_made_the_newest_data_stays(lake: Lake, instance_home: Path) -> None:
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        run_id = materialized(instance, 300)
    assert findings(lake, fix=True)["run log"].level == "ok"
    with dg.DagsterInstance.from_config(str(instance_home)) as instance:
        assert instance.get_run_by_id(run_id)


def test_command(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sessions_left", lambda day: 99)
    runner = CliRunner()
    sound = runner.invoke(app, ["doctor", "--lake", str(lake.root)])
    assert sound.exit_code == 0, sound.output
    lake.catalogue.unlink()
    broken = runner.invoke(app, ["doctor", "--lake", str(lake.root)])
    assert broken.exit_code == 1
    assert "doctor --fix" in broken.output
    assert runner.invoke(app, ["doctor", "--lake", str(lake.root), "--fix"]).exit_code == 0
    assert runner.invoke(app, ["doctor", "--lake", str(lake.root)]).exit_code == 0
    monkeypatch.setenv("ETF_PIPELINE_NOTIFY", "json://127.0.0.1:9/secret")
    tested = runner.invoke(app, ["doctor", "--lake", str(lake.root), "--test-message"])
    assert tested.exit_code == 1
    assert "secret" not in tested.output


def test_without_a_lake(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["doctor", "--lake", str(tmp_path / "none")])
    assert answer.exit_code == 1
    assert "no lake" in answer.output


def test_the_parameters_of_the_last_run_are_in_force(lake: Lake) -> None:
    remembered = json.loads((lake.root / "deployment.json").read_text())
    assert Deployment.model_validate(remembered).parameters == {"top_n": 2, "short_file_ratio": 0.6}
    (lake.root / "deployment.json").unlink()
    answer = CliRunner().invoke(app, ["doctor", "--lake", str(lake.root)])
    assert answer.exit_code == 1
    assert "other settings" in " ".join(answer.output.split())


def test_settings_of_dagster_that_cannot_be_read(lake: Lake, instance_home: Path) -> None:
    (instance_home / "dagster.yaml").write_text("telemetry: {enabled: fal")
    found = the_action(lake, "run log")
    assert found.found.startswith("cannot be opened")


_STORED = {
    "raw": "raw/etf_nav/2025.parquet",
    "archive": "archive/etf_nav/2025.parquet",
    "table": "published/factor_scores.parquet",
    "ledger": "ledger/holdings_ledger.parquet",
    "catalogue": "etf.duckdb",
    "warehouse": "build/warehouse.duckdb",
    "runs": ".dagster/history/runs.db",
    "answer": "responses/tushare/daily/aa/aa.20250101T000000000000Z.json.gz",
}


@pytest.mark.parametrize("content", [b"garbage" * 99, "half"], ids=["garbage", "half"])
def test_a_damaged_file_of_any_kind_is_named_with_what_to_do(
    lake: Lake, instance_home: Path, content: bytes | str
) -> None:
    with dg.DagsterInstance.from_config(str(instance_home)):
        pass
    lake.warehouse.parent.mkdir(exist_ok=True)
    duckdb.connect(lake.warehouse).execute("CREATE TABLE one AS FROM range(9)").close()
    answer = lake.root / _STORED["answer"]
    answer.parent.mkdir(parents=True)
    answer.write_bytes(b"never one")
    for path in (lake.root / name for name in _STORED.values()):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if isinstance(content, str) else content)
    actions = {f.subject: f for f in findings(lake).values() if f.level == "action"}
    parquet = {name for name in _STORED.values() if name.endswith(".parquet")}
    assert set(actions) == parquet | {"stored responses", "catalogue", "warehouse", "run log"}
    assert all(f.advice for f in actions.values())
    lake.root.joinpath("deployment.json").write_bytes(b"{")
    shown = CliRunner().invoke(app, ["doctor", "--fix", "--lake", str(lake.root)])
    assert (shown.exit_code, type(shown.exception)) == (1, SystemExit)
    assert "deployment.json" in shown.output
    left = {f.subject for f in findings(lake).values() if f.level == "action"}
    # what only a run makes again, or somebody gives up
    assert left == parquet | {"raw etf_nav"}
