"""etf_daily makes anew the years whose flows, or earlier ones, changed, and is the same as if made at once."""

from collections.abc import Callable

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etf_pipeline.assets.factors import etf_daily
from etf_pipeline.core.rsi import rsi_wilder
from etf_pipeline.resources.pipeline import Pipeline
from tests.checks.world import ETFS, definitions, only_file, put, run, tamper

LAST_YEAR, THIS_YEAR = 2024, 2025


@pytest.fixture
def pipeline(lake_copy: Callable[[], Pipeline]) -> Pipeline:
    """A lake whose flows are of two years, the same twice."""
    pipeline = lake_copy()
    stored = pq.read_table(only_file(pipeline, "etf_flow"))
    days = pd.DatetimeIndex(stored["trade_date"].to_pandas()) - pd.DateOffset(years=1)
    earlier = stored.set_column(
        stored.schema.get_field_index("trade_date"), stored.schema.field("trade_date"), pa.array(days.date)
    )
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
