from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etf_pipeline.assets.analytics import ANALYTICS_ASSETS
from etf_pipeline.checks.research import research_checks
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.tables import ANALYTICS_TABLES
from tests.checks.world import (
    definitions,
    evaluate,
    failures,
    keys_of,
    make_pipeline,
    only_file,
    put,
    remove_raw,
    run,
    tamper,
)

Change = Callable[[pd.DataFrame], pd.DataFrame | None]

CHECKS = research_checks()


def _of(portfolio: str, column: str, factor: float) -> Change:
    def change(frame: pd.DataFrame) -> None:
        rows = frame["portfolio"] == portfolio
        frame.loc[rows, column] = frame.loc[rows, column] * factor

    return change


BROKEN: dict[str, list[tuple[str, Change]]] = {
    "reports/report:held_as_published": [
        ("backtest_industry", _of("composite", "weight", 1.001)),
        ("backtest_industry", lambda f: f[f["signal_date"] > f["signal_date"].min()]),
        ("strategy_holdings", put("industry_code", "CI005099")),
        ("strategy_holdings", lambda f: f.iloc[1:]),
    ],
    "analytics/backtest_daily:values_follow_from_returns": [
        ("backtest_daily", _of("flow", "nav", 1.001)),
        ("backtest_daily", _of("flow", "nav_after_costs", 0.999)),
        ("backtest_daily", _of("composite", "benchmark_nav", 1.001)),
        ("backtest_period", put("period_return", 0.5)),
        ("backtest_daily", lambda f: f[f["trade_date"] < f["trade_date"].max()]),
    ],
    "analytics/sensitivity:default_is_the_strategy": [
        ("sensitivity", lambda f: f.assign(excess_return=f["excess_return"] + 1e-6)),
        ("sensitivity", lambda f: f[~f["is_default"] | (f["axis"] != "smoothing")]),
        ("sensitivity", lambda f: f.assign(is_default=True)),
        ("performance", _of("composite", "annual_return", 1.01)),
    ],
}


def test_the_sound_lake_passes(sound_lake: Path) -> None:
    pipeline = make_pipeline(sound_lake)
    evaluations = evaluate(pipeline, CHECKS)
    assert {e.check_name for e in evaluations} == {key.split(":")[1] for key in BROKEN}
    assert [e.check_name for e in evaluations if not e.passed] == []
    assert all(e.metadata["checked"].value > 0 for e in evaluations)


def test_every_check_is_broken_here() -> None:
    assert keys_of(CHECKS) == set(BROKEN)


@pytest.mark.parametrize(("key", "number"), [(key, n) for key, cases in BROKEN.items() for n in range(len(cases))])
def test_broken_tables_are_seen(lake_copy: Callable[[], Pipeline], key: str, number: int) -> None:
    pipeline = lake_copy()
    table, change = BROKEN[key][number]
    tamper(only_file(pipeline, table), change)
    assert failures(pipeline, CHECKS, key)


def test_without_industry_closes_the_tables_are_empty(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    remove_raw(pipeline, "industry_bar")
    assert run(definitions(pipeline, []), dg.AssetSelection.assets(*ANALYTICS_ASSETS)).success
    rows = {table.name: len(pipeline.lake.read_published(table.name)) for table in ANALYTICS_TABLES}
    assert all(rows[name] == 0 for name in rows if name not in ("factor_correlation", "sensitivity")), rows
    assert pipeline.lake.read_published("factor_correlation")["correlation"].isna().all()
    assert (pipeline.lake.read_published("sensitivity")["periods"] == 0).all()
