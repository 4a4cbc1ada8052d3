from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etf_pipeline.checks.schema import schema_checks
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import write_table
from tests.checks.world import evaluate, failures, keys_of, make_pipeline, only_file, put, tamper

TABLES = (
    "factors/etf_daily",
    "factors/style_regime",
    "factors/active_holdings",
    "factors/factor_scores",
    "strategy/rebalance_dates",
    "strategy/strategy_holdings",
    "analytics/performance",
)
OTHERS = (
    "analytics/backtest_daily",
    "analytics/backtest_period",
    "analytics/backtest_industry",
    "analytics/factor_ic",
    "analytics/factor_ic_summary",
    "analytics/factor_group_daily",
    "analytics/factor_group_stats",
    "analytics/factor_correlation",
    "analytics/luck_test",
    "analytics/sensitivity",
)
NUMBERS = {
    "factors/etf_daily": "aum_cny",
    "factors/style_regime": "ratio",
    "factors/active_holdings": "active_weight_ratio",
    "factors/factor_scores": "composite",
    "strategy/strategy_holdings": "weight",
    "analytics/performance": "annual_return",
}


def checks_of(pipeline: Pipeline) -> list[dg.AssetChecksDefinition]:
    return schema_checks(pipeline.parameters)


def test_sound_tables_pass(sound_lake: Path) -> None:
    pipeline = make_pipeline(sound_lake)
    evaluations = evaluate(pipeline, checks_of(pipeline))
    assert len(evaluations) == len(TABLES) + len(OTHERS)
    assert all(e.passed for e in evaluations)
    assert keys_of(checks_of(pipeline)) == {f"{t}:schema" for t in (*TABLES, *OTHERS)}


def assert_fails(pipeline: Pipeline, table: str, words: str) -> None:
    (failure,) = failures(pipeline, checks_of(pipeline), f"{table}:schema")
    assert failure.severity == dg.AssetCheckSeverity.ERROR
    assert words in failure.metadata["broken_rows"].value


@pytest.mark.parametrize("table", TABLES)
def test_missing_file_fails(lake_copy: Callable[[], Pipeline], table: str) -> None:
    pipeline = lake_copy()
    only_file(pipeline, table.split("/")[1]).unlink()
    assert_fails(pipeline, table, "no file")


def test_a_row_in_the_file_of_another_year_fails(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    tamper(only_file(pipeline, "etf_daily"), put("trade_date", pd.Timestamp("2024-12-31")))
    assert_fails(pipeline, "factors/etf_daily", "1 of other years")


@pytest.mark.parametrize("table", TABLES)
def test_repeated_key_fails(lake_copy: Callable[[], Pipeline], table: str) -> None:
    pipeline = lake_copy()
    tamper(only_file(pipeline, table.split("/")[1]), lambda f: pd.concat([f, f.head(2)]))
    assert_fails(pipeline, table, "2 rows too many")


@pytest.mark.parametrize("table", TABLES)
def test_file_of_other_settings_fails(lake_copy: Callable[[], Pipeline], table: str) -> None:
    pipeline, name = lake_copy(), table.split("/")[1]
    pipeline.lake.publish(name, pq.read_table(only_file(pipeline, name)), "0123456789ab")
    assert_fails(pipeline, table, "0123456789ab")


@pytest.mark.parametrize("table", NUMBERS)
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_number_fails(lake_copy: Callable[[], Pipeline], table: str, value: float) -> None:
    pipeline = lake_copy()
    tamper(only_file(pipeline, table.split("/")[1]), put(NUMBERS[table], value))
    assert_fails(pipeline, table, "1 values infinite")


def test_not_a_number_that_is_no_hole_fails(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    path = pipeline.lake.published_path("factor_scores")
    table = pq.read_table(path)
    column = pa.array(np.full(len(table), np.nan), from_pandas=False)
    table = table.set_column(table.schema.get_field_index("heat"), table.schema.field("heat"), column)
    write_table(table, path)
    assert_fails(pipeline, "factors/factor_scores", "infinite or not a number")


def test_empty_key_fails(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    tamper(pipeline.lake.published_path("factor_scores"), put("industry_code", None))
    assert_fails(pipeline, "factors/factor_scores", "1 empty")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["composite"]), "absent, described as double"),
        (lambda t: t.append_column("extra", t["composite"]), "double, described as absent"),
        (
            lambda t: t.set_column(t.schema.get_field_index("rank"), "rank", t["rank"].cast(pa.int64())),
            "int64, described as int32",
        ),
    ],
    ids=["missing column", "extra column", "other type"],
)
def test_other_columns_fail(
    lake_copy: Callable[[], Pipeline], change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    pipeline = lake_copy()
    path = pipeline.lake.published_path("factor_scores")
    write_table(change(pq.read_table(path)), path)
    assert_fails(pipeline, "factors/factor_scores", words)


@pytest.mark.parametrize("column", ["source", "settings_hash"])
@pytest.mark.parametrize("value", ["other", None])
def test_rows_of_another_source_or_setting_fail(
    lake_copy: Callable[[], Pipeline], column: str, value: str | None
) -> None:
    pipeline = lake_copy()
    tamper(pipeline.lake.published_path("strategy_holdings"), put(column, value))
    assert_fails(pipeline, "strategy/strategy_holdings", column)


def test_that_of_scores_blocks(sound_lake: Path) -> None:
    specs = [spec for check in checks_of(make_pipeline(sound_lake)) for spec in check.check_specs]
    assert [s.asset_key.path[-1] for s in specs if s.blocking] == ["factor_scores"]
    assert all(s.description for s in specs)
