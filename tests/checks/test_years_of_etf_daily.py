"""etf_daily makes anew the years whose flows, or earlier ones, changed, and is the same as if made at once."""

from collections.abc import Callable

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etf_pipeline.assets.factors import etf_daily
from etf_pipeline.checks.accounting import accounting_checks
from etf_pipeline.checks.schema import schema_checks
from etf_pipeline.core.rsi import rsi_wilder
from etf_pipeline.resources.pipeline import Pipeline
from tests.checks.world import ETFS, definitions, evaluate, only_file, put, run, tamper

LAST_YEAR, THIS_YEAR = 2024, 2025


@pytest.fixture
def pipeline(lake_copy: Callable[[], Pipeline]) -> Pipeline:
    """A lake whose flows are of two years, the same twice."""
    pipeline = lake_copy()
    stored = pq.read_table(only_file(pipeline, "etf_flow"))
    days = pd.DatetimeIndex(stored["trade_date"].to_pandas()) - pd.DateOffset(years=1)
    earlier = stored
    for column in ("trade_date", "nav_date"):
        field = stored.schema.field(column)
        earlier = earlier.set_column(stored.schema.get_field_index(column), field, pa.array(days.date, field.type))
    years = {LAST_YEAR: lambda: earlier, THIS_YEAR: lambda: stored}
    pipeline.lake.publish_years("etf_flow", years, pipeline.parameters.hash)
    assert made_anew(pipeline) == [LAST_YEAR, THIS_YEAR]
    return pipeline


def made_anew(pipeline: Pipeline) -> list[int]:
    result = run(definitions(pipeline, []), dg.AssetSelection.assets(etf_daily))
    (event,) = result.get_asset_materialization_events()
    years = event.materialization.metadata["years_made_anew"].value
    assert isinstance(years, list)
    check(pipeline)
    return years


def check(pipeline: Pipeline) -> None:
    """The RSI goes on from year to year."""
    flow, daily = (pipeline.lake.read_published(table) for table in ("etf_flow", "etf_daily"))
    assert len(daily) == len(flow)
    flow["close"] *= flow["cumulative_split_factor"]
    closes = flow.pivot(index="trade_date", columns="etf_code", values="close")
    made = daily.pivot(index="trade_date", columns="etf_code", values="rsi_wilder_12")
    pd.testing.assert_frame_equal(made, rsi_wilder(closes, 12), check_exact=True)
    start = made.index.searchsorted(pd.Timestamp(f"{THIS_YEAR}-01-01"))
    assert np.isfinite(made.iloc[start][ETFS[0]])
    assert made.iloc[: start - 1].notna().any(axis=None)


def test_what_did_not_change_is_not_touched(pipeline: Pipeline) -> None:
    before = [path.stat() for path in pipeline.lake.published_files("etf_daily")]
    assert made_anew(pipeline) == []
    assert [path.stat() for path in pipeline.lake.published_files("etf_daily")] == before


def test_a_damaged_year_is_made_anew(pipeline: Pipeline) -> None:
    daily = pipeline.lake.published_years("etf_daily")
    sound = daily[LAST_YEAR].read_bytes()
    daily[LAST_YEAR].write_bytes(sound[:99] + bytes([sound[99] ^ 4]) + sound[100:])
    assert made_anew(pipeline) == [LAST_YEAR]
    assert daily[LAST_YEAR].read_bytes() == sound


def test_a_change_reaches_its_year_and_those_after(pipeline: Pipeline) -> None:
    flow, daily = (pipeline.lake.published_years(table) for table in ("etf_flow", "etf_daily"))
    before = {year: path.read_bytes() for year, path in daily.items()}
    tamper(flow[THIS_YEAR], put("close", 1.5))
    assert made_anew(pipeline) == [THIS_YEAR]
    assert daily[LAST_YEAR].read_bytes() == before[LAST_YEAR]
    assert daily[THIS_YEAR].read_bytes() != before[THIS_YEAR]
    tamper(flow[LAST_YEAR], put("close", 0.5, row=-1))
    assert made_anew(pipeline) == [LAST_YEAR, THIS_YEAR]


def test_a_year_without_flows_goes(pipeline: Pipeline) -> None:
    pipeline.lake.published_path("etf_flow", LAST_YEAR).unlink()
    result = run(definitions(pipeline, []), dg.AssetSelection.assets(etf_daily))
    assert result.success
    assert list(pipeline.lake.published_years("etf_daily")) == [THIS_YEAR]


def test_without_any_flow_the_table_is_empty(pipeline: Pipeline) -> None:
    rows = pq.read_table(pipeline.lake.published_path("etf_flow", THIS_YEAR)).slice(0, 0)
    pipeline.lake.publish("etf_flow", rows, pipeline.parameters.hash)
    assert run(definitions(pipeline, []), dg.AssetSelection.assets(etf_daily)).success
    assert pipeline.lake.read_published("etf_daily").empty


def files_checked(pipeline: Pipeline, check: str) -> tuple[bool, int]:
    """Whether the check passes, and how many files of etf_daily it had to look at for that."""
    checks = [*accounting_checks(), *schema_checks(pipeline.parameters)]
    (evaluation,) = evaluate(pipeline, checks, f"factors/etf_daily:{check}")
    number = evaluation.metadata["files_changed_since_they_passed"].value
    assert isinstance(number, int)
    stored = [pq.read_metadata(file).num_rows for file in pipeline.lake.published_files("etf_daily")]
    assert evaluation.metadata["checked"].value == sum(stored)
    return evaluation.passed, number


@pytest.mark.parametrize(
    ("check", "column", "years_in_one"), [("schema", "shares", 1), ("sizes_balance", "aum_cny", 2)]
)
def test_years_that_passed_are_not_checked_again(
    pipeline: Pipeline, check: str, column: str, years_in_one: int
) -> None:
    daily = pipeline.lake.published_years("etf_daily")
    assert files_checked(pipeline, check) == (True, 2)
    assert files_checked(pipeline, check) == (True, 0)
    sound = daily[LAST_YEAR].read_bytes()
    tamper(daily[LAST_YEAR], put(column, float("inf")))
    # what failed is never remembered
    assert [files_checked(pipeline, check) for _ in range(2)] == [(False, years_in_one)] * 2
    daily[LAST_YEAR].write_bytes(sound)
    assert files_checked(pipeline, check) == (True, 0)
    daily[LAST_YEAR].unlink()
    assert files_checked(pipeline, check) == (True, years_in_one - 1)


def test_flows_are_balanced_over_the_turn_of_a_year(pipeline: Pipeline) -> None:
    files = pipeline.lake.published_years("etf_daily")
    last, this = (pq.read_table(files[year]).to_pandas() for year in (LAST_YEAR, THIS_YEAR))
    before = last.index[(last["etf_code"] == ETFS[0]) & last["shares"].notna()][-1]
    first = this.index[(this["etf_code"] == ETFS[0]) & this["shares"].notna()][0]
    flow = (this.loc[first, "shares"] - last.loc[before, "shares"]) * this.loc[first, "unit_nav"]
    # the one flow of both years
    flows = dict.fromkeys(
        ["previous_observation_date", "interval_sessions", "interval_net_creation_cny", "net_creation_cny"]
    )

    def ends(shares: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
        def change(frame: pd.DataFrame) -> pd.DataFrame:
            frame.loc[before, "trade_date"] = pd.Timestamp("2024-12-31")
            frame.loc[before, "shares"] = shares
            frame.loc[before, "aum_cny"] = shares * frame.loc[before, "unit_nav"]
            return frame.assign(**flows)

        return change

    def begins(flow: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
        def change(frame: pd.DataFrame) -> pd.DataFrame:
            frame = frame.assign(**flows)
            frame.loc[first, "trade_date"] = pd.Timestamp("2025-01-03")
            frame["previous_observation_date"] = frame["trade_date"].where(frame.index == first)
            frame.loc[first, "previous_observation_date"] = pd.Timestamp("2024-12-31")
            frame.loc[first, ["interval_sessions", "interval_net_creation_cny"]] = [2, flow]
            return frame

        return change

    tamper(files[LAST_YEAR], ends(last.loc[before, "shares"]))
    tamper(files[THIS_YEAR], begins(flow))
    assert files_checked(pipeline, "flows_balance") == (True, 2)
    tamper(files[THIS_YEAR], begins(flow + 1e6))
    assert files_checked(pipeline, "flows_balance") == (False, 1)
    tamper(files[THIS_YEAR], begins(flow))
    tamper(files[LAST_YEAR], ends(1.0))
    assert files_checked(pipeline, "flows_balance") == (False, 2)
