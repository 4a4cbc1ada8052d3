"""Computing follows new raw data, holdings follow computed factors; neither happens twice or on failed checks."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etf_pipeline.contract import load_contract
from etf_pipeline.definitions import build_defs
from etf_pipeline.settings import Deployment
from tests.automation.daemon import Ticks, at
from tests.checks.world import make_pipeline, tamper

RAW_DONE, COMPUTED, NOW = at("2025-10-27T08:38"), at("2025-10-27T08:45"), at("2025-10-27T08:50")
SIGNAL = "2025-10-24"


@pytest.fixture
def ticks(tiny_lake: Path, monkeypatch: pytest.MonkeyPatch) -> Ticks:
    return Ticks(build_defs(Deployment(lake=tiny_lake)), monkeypatch)


@pytest.fixture
def on_disk(tiny_lake: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Ticks]:
    """As in a lake, where each run has an event log of its own."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Ticks(build_defs(Deployment(lake=tiny_lake)), monkeypatch, instance)


def blocking(ticks: Ticks, *layers: str) -> list[tuple[str, str]]:
    graph = ticks.repository.asset_graph
    keys = [k for k in graph.asset_check_keys if k.asset_key.path[0] in layers and graph.get(k).blocking]
    assert len(keys) > 5
    return sorted((key.asset_key.to_user_string(), key.name) for key in keys)


def ingest(ticks: Ticks, *, judged: bool = True) -> None:
    with ticks.hour(RAW_DONE):
        for name in load_contract():
            ticks.materialize(f"raw/{name}")
        for key, name in blocking(ticks, "raw") if judged else ():
            ticks.judge(key, name, True)


def compute(ticks: Ticks, *, judged: bool = True) -> None:
    graph = ticks.repository.asset_graph
    with ticks.hour(COMPUTED):
        for key in graph.materializable_asset_keys:
            if key.path[0] in ("marts", "factors") or key.path[1] == "rebalance_dates":
                ticks.materialize(key.to_user_string())
        for key, name in blocking(ticks, "marts", "factors") if judged else ():
            ticks.judge(key, name, True)


def test_new_raw_data_are_computed_once(ticks: Ticks) -> None:
    assert ticks.sensor("compute_due", NOW) == []
    assert ticks.skipped["compute_due"] == "no new raw data"
    ingest(ticks)
    (request,) = ticks.sensor("compute_due", NOW)
    assert ticks.asked[-1].job == "compute"
    assert ticks.sensor("compute_due", NOW) == []
    with ticks.hour(NOW):
        ticks.materialize("raw/etf_bar", SIGNAL)
    (again,) = ticks.sensor("compute_due", NOW + timedelta(minutes=1))
    assert again.run_key != request.run_key


def test_data_kept_for_analysis_alone_start_no_computation(ticks: Ticks) -> None:
    with ticks.hour(NOW):
        ticks.materialize("raw/etf_margin", SIGNAL)
    assert ticks.sensor("compute_due", NOW) == []


def test_a_lake_computed_by_the_command_line_is_not_computed_again(ticks: Ticks) -> None:
    ingest(ticks)
    compute(ticks)
    assert ticks.sensor("compute_due", NOW) == []


def test_nothing_is_computed_before_the_checks_passed(ticks: Ticks) -> None:
    ingest(ticks, judged=False)
    assert ticks.sensor("compute_due", NOW) == []
    assert "did not run on the newest data" in ticks.skipped["compute_due"]
    checks = blocking(ticks, "raw")
    with ticks.hour(RAW_DONE + timedelta(minutes=1)):
        for key, name in checks:
            ticks.judge(key, name, (key, name) != checks[0])
    assert ticks.sensor("compute_due", NOW) == []
    assert ticks.skipped["compute_due"].endswith(f"{checks[0][0]}:{checks[0][1]} failed")
    with ticks.hour(RAW_DONE + timedelta(minutes=2)):
        ticks.judge(*checks[0], False, "WARN")
    assert len(ticks.sensor("compute_due", NOW)) == 1


def test_nothing_is_computed_without_what_is_required(ticks: Ticks, tiny_lake: Path) -> None:
    (tiny_lake / "raw" / "index_weight").rename(tiny_lake / "elsewhere")
    ingest(ticks)
    assert ticks.sensor("compute_due", NOW) == []
    assert ticks.skipped["compute_due"] == "required, and not in the lake yet: index_weight"
    (tiny_lake / "elsewhere").rename(tiny_lake / "raw" / "index_weight")
    assert len(ticks.sensor("compute_due", NOW)) == 1


def test_a_check_that_was_only_planned_has_not_passed(ticks: Ticks) -> None:
    ingest(ticks)
    with ticks.hour(RAW_DONE + timedelta(minutes=1)):
        ticks.plan("raw/etf_share", "expectations")
    for run in ticks.instance.get_runs():
        ticks.instance.report_run_failed(run)
    assert ticks.sensor("compute_due", NOW) == []
    assert ticks.skipped["compute_due"].endswith("raw/etf_share:expectations did not run on the newest data")


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTED"])
def test_many_sessions_caught_up_are_one_computation(ticks: Ticks, status: str) -> None:
    ingest(ticks)
    run_id = ticks.record("ingest_daily", status=dg.DagsterRunStatus[status])
    assert ticks.sensor("compute_due", NOW) == []
    assert ticks.skipped["compute_due"] == "waiting for ingest_daily"
    ticks.instance.delete_run(run_id)
    assert len(ticks.sensor("compute_due", NOW)) == 1


@pytest.fixture
def without_holdings(tiny_lake: Path) -> None:
    """As if the newest date had not been published yet."""
    path = tiny_lake / "published" / "strategy_holdings.parquet"
    assert pd.read_parquet(path)["signal_date"].max() == pd.Timestamp(SIGNAL).date()
    tamper(path, lambda f: f[f["signal_date"] < SIGNAL])


@pytest.mark.usefixtures("without_holdings")
def test_a_rebalance_date_is_published_once(ticks: Ticks) -> None:
    assert ticks.sensor("rebalance_due", NOW) == []
    assert ticks.skipped["rebalance_due"].startswith(f"{SIGNAL}: not computed with the newest data")
    ingest(ticks)
    assert ticks.sensor("rebalance_due", NOW) == []
    compute(ticks)
    requests = ticks.sensor("rebalance_due", NOW)
    assert [(r.job_name, r.run_key, r.partition_key) for r in requests] == [
        ("strategy", SIGNAL, SIGNAL),
        ("research", f"research {SIGNAL}", None),
    ]
    for day in range(7):
        assert ticks.sensor("rebalance_due", NOW + timedelta(days=day)) == []
    # new data of the same date do not publish it again
    ingest(ticks)
    compute(ticks)
    assert ticks.sensor("rebalance_due", NOW + timedelta(days=8)) == []


@pytest.mark.usefixtures("without_holdings")
def test_on_disk_it_is_the_same(on_disk: Ticks) -> None:
    ingest(on_disk)
    assert len(on_disk.sensor("compute_due", NOW)) == 1
    compute(on_disk)
    assert len(on_disk.sensor("rebalance_due", NOW)) == 2
    assert on_disk.sensor("rebalance_due", NOW) == []


@pytest.mark.usefixtures("without_holdings")
def test_nothing_is_published_before_the_checks_passed(ticks: Ticks) -> None:
    ingest(ticks)
    compute(ticks, judged=False)
    assert ticks.sensor("rebalance_due", NOW) == []
    assert "did not run on the newest data" in ticks.skipped["rebalance_due"]
    checks = blocking(ticks, "marts", "factors")
    bad = ("factors/factor_scores", "scores_centred")
    assert bad in checks
    with ticks.hour(COMPUTED + timedelta(minutes=1)):
        for key, name in checks:
            ticks.judge(key, name, (key, name) != bad)
    assert ticks.sensor("rebalance_due", NOW) == []
    assert ticks.skipped["rebalance_due"].endswith("blocking checks: factors/factor_scores:scores_centred failed")
    with ticks.hour(COMPUTED + timedelta(minutes=2)):
        ticks.judge(*bad, True)
    assert len(ticks.sensor("rebalance_due", NOW)) == 2


@pytest.mark.usefixtures("without_holdings")
@pytest.mark.parametrize("dataset", ["etf_share", "etf_nav", "index_bar"])
def test_nothing_is_published_without_the_rows_of_its_date(ticks: Ticks, tiny_lake: Path, dataset: str) -> None:
    # an ingestion of a day the source has nothing for succeeds, and leaves no row
    tamper(tiny_lake / "raw" / dataset / "2025.parquet", lambda f: f[f["trade_date"] < SIGNAL])
    ingest(ticks)
    compute(ticks)
    assert ticks.sensor("rebalance_due", NOW) == []
    assert ticks.skipped["rebalance_due"] == f"{SIGNAL}: no rows yet in {dataset}"


def test_a_date_whose_file_came_late_is_asked_for_when_it_is_ready(ticks: Ticks, tiny_lake: Path) -> None:
    before, late = "2025-09-26", "2025-10-10"
    ticks.cursors["rebalance_due"] = before
    tamper(tiny_lake / "published" / "strategy_holdings.parquet", lambda f: f[f["signal_date"] <= before])
    raw = tiny_lake / "raw" / "etf_share" / "2025.parquet"
    whole = raw.read_bytes()
    tamper(raw, lambda f: f[f["trade_date"] != late])
    ingest(ticks)
    compute(ticks)
    assert [r.run_key for r in ticks.sensor("rebalance_due", NOW)] == [SIGNAL, f"research {SIGNAL}"]
    assert ticks.sensor("rebalance_due", NOW + timedelta(hours=1)) == []
    assert ticks.skipped["rebalance_due"] == f"{late}: no rows yet in etf_share"
    raw.write_bytes(whole)
    with ticks.hour(NOW + timedelta(hours=2)):
        ticks.materialize("raw/etf_share", late)
    # not with factors of before it came
    assert ticks.sensor("rebalance_due", NOW + timedelta(hours=2)) == []
    ingest(ticks)
    compute(ticks)
    assert [r.partition_key for r in ticks.sensor("rebalance_due", NOW + timedelta(hours=3))] == [late, None]
    assert ticks.cursors["rebalance_due"] == SIGNAL
    assert ticks.sensor("rebalance_due", NOW + timedelta(hours=4)) == []


def test_what_the_lake_holds_is_not_published_again(ticks: Ticks) -> None:
    ingest(ticks)
    compute(ticks)
    assert ticks.sensor("rebalance_due", NOW) == []
    assert ticks.cursors["rebalance_due"] == SIGNAL


@pytest.fixture
def same_settings(tiny_lake: Path, monkeypatch: pytest.MonkeyPatch) -> Ticks:
    """With the parameters the tiny lake was made with."""
    return Ticks(build_defs(pipeline=make_pipeline(tiny_lake)), monkeypatch)


def test_holdings_that_would_now_be_others_are_published_anew(same_settings: Ticks, tiny_lake: Path) -> None:
    ticks = same_settings
    path = tiny_lake / "published" / "strategy_holdings.parquet"
    published, as_published = pd.read_parquet(path), path.read_bytes()
    dates = sorted(set(published["signal_date"]))
    revised = (published["signal_date"] == dates[-3]) & (published["rank"] == 1)
    tamper(path, lambda f: f.assign(industry_code=f["industry_code"].mask(revised.to_numpy(), "CI005999")))
    assert ticks.sensor("restatement_due", NOW) == []
    ingest(ticks)
    compute(ticks, judged=False)
    assert ticks.sensor("restatement_due", NOW) == []
    assert "blocking checks" in ticks.skipped["restatement_due"]
    compute(ticks)
    requests = ticks.sensor("restatement_due", NOW)
    assert [(r.job_name, r.partition_key) for r in requests] == [("strategy", f"{dates[-3]}"), ("research", None)]
    assert ticks.sensor("restatement_due", NOW) == []
    # as published, no computation publishes anything anew
    path.write_bytes(as_published)
    compute(ticks)
    assert ticks.sensor("restatement_due", NOW) == []
    assert ticks.skipped["restatement_due"] == "all holdings are as published"


@pytest.mark.usefixtures("without_holdings")
def test_a_date_still_to_be_published_is_no_restatement(same_settings: Ticks) -> None:
    ticks = same_settings
    ingest(ticks)
    compute(ticks)
    assert ticks.sensor("restatement_due", NOW) == []
    assert ticks.skipped["restatement_due"] == "all holdings are as published"


def test_dates_missed_in_a_downtime_are_published_each(ticks: Ticks, tiny_lake: Path) -> None:
    path = tiny_lake / "published" / "strategy_holdings.parquet"
    dates = sorted({f"{day:%Y-%m-%d}" for day in pd.read_parquet(path)["signal_date"]})
    ticks.cursors["rebalance_due"] = dates[-3]
    ingest(ticks)
    compute(ticks)
    requests = ticks.sensor("rebalance_due", NOW)
    assert [r.run_key for r in requests if r.job_name == "strategy"] == dates[-2:]
    assert ticks.sensor("rebalance_due", NOW) == []
