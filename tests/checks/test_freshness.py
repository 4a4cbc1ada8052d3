from collections.abc import Callable
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etf_pipeline.checks.freshness import freshness_checks
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from tests.checks.world import SESSIONS, evaluate, failures, keys_of, make_pipeline, remove_raw, tamper

DAILY = ("etf_share", "etf_nav", "index_bar", "etf_bar", "industry_bar")


def raw_file(pipeline: Pipeline, name: str) -> Path:
    return pipeline.lake.raw_folder(load_contract()[name]) / "2025.parquet"


def test_data_up_to_the_end_pass(sound_lake: Path) -> None:
    evaluations = evaluate(make_pipeline(sound_lake), freshness_checks())
    assert {f"{e.asset_key.to_user_string()}:{e.check_name}" for e in evaluations} == keys_of(freshness_checks())
    assert all(e.passed for e in evaluations)
    assert {e.metadata["sessions_late"].value for e in evaluations if e.check_name == "freshness"} == {0}


@pytest.mark.parametrize("name", DAILY)
@pytest.mark.parametrize(("late", "passes"), [(5, True), (6, False)])
def test_late_data_warn(lake_copy: Callable[[], Pipeline], name: str, late: int, passes: bool) -> None:
    pipeline = lake_copy()
    tamper(raw_file(pipeline, name), lambda f: f[f["trade_date"] <= SESSIONS[-1 - late]])
    (evaluation,) = evaluate(pipeline, freshness_checks(), f"raw/{name}:freshness")
    assert evaluation.passed == passes
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert evaluation.metadata["sessions_late"].value == late
    assert evaluation.metadata["last_date"].value == f"{SESSIONS[-1 - late]:%Y-%m-%d}"


def test_one_late_index_of_the_four_is_enough(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    tamper(raw_file(pipeline, "index_bar"), lambda f: f[f["index_code"] != "399371.SZ"])
    (failure,) = failures(pipeline, freshness_checks(), "raw/index_bar:freshness")
    assert "399371.SZ" in failure.metadata["broken_rows"].value


def test_industries_of_another_scheme_do_not_count(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    tamper(raw_file(pipeline, "industry_bar"), lambda f: f.assign(scheme="sw"))
    assert failures(pipeline, freshness_checks(), "raw/industry_bar:freshness")


@pytest.mark.parametrize("name", DAILY)
def test_absent_data_fail_where_required(lake_copy: Callable[[], Pipeline], name: str) -> None:
    pipeline, dataset = lake_copy(), load_contract()[name]
    remove_raw(pipeline, name)
    assert bool(failures(pipeline, freshness_checks(), f"raw/{name}:freshness")) == dataset.required


def test_days_after_the_end_of_the_run_do_not_count(sound_lake: Path) -> None:
    pipeline = Pipeline(Deployment(lake=sound_lake, end=date(2025, 9, 30)))
    (evaluation,) = evaluate(pipeline, freshness_checks(), "raw/etf_share:freshness")
    assert evaluation.passed
    assert evaluation.metadata["last_date"].value == "2025-09-30"


def _without(day: pd.Timestamp, keep: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        on_day = frame["trade_date"] == day
        return pd.concat([frame[~on_day], frame[on_day].head(keep)])

    return change


@pytest.mark.parametrize(("keep", "counted"), [(1, "short_sessions"), (0, "absent_sessions")])
def test_short_file_warns(lake_copy: Callable[[], Pipeline], keep: int, counted: str) -> None:
    pipeline = lake_copy()
    tamper(raw_file(pipeline, "etf_share"), _without(SESSIONS[20], keep))
    (failure,) = failures(pipeline, freshness_checks(), "raw/etf_share:short_files")
    assert failure.severity == dg.AssetCheckSeverity.WARN
    assert failure.metadata[counted].value == 1
    assert f"{SESSIONS[20]:%Y-%m-%d}" in failure.metadata["broken_rows"].value


def test_no_file_at_all_fails(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    remove_raw(pipeline, "etf_share")
    assert failures(pipeline, freshness_checks(), "raw/etf_share:short_files")


def test_short_files_of_long_ago_are_only_listed(
    lake_copy: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etf_pipeline.checks.freshness._JUDGED_SESSIONS", 10)
    pipeline = lake_copy()
    tamper(raw_file(pipeline, "etf_share"), _without(SESSIONS[20], 1))
    (evaluation,) = evaluate(pipeline, freshness_checks(), "raw/etf_share:short_files")
    assert evaluation.passed
    assert f"{SESSIONS[20]:%Y-%m-%d}" in evaluation.metadata["all_short"].value
