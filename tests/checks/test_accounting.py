from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etf_pipeline.checks.accounting import accounting_checks
from etf_pipeline.resources.pipeline import Pipeline
from tests.checks.world import (
    ETFS,
    SESSIONS,
    SPLIT_DAY,
    evaluate,
    failures,
    keys_of,
    make_pipeline,
    only_file,
    put,
    tamper,
)

Change = Callable[[pd.DataFrame], pd.DataFrame | None]


def _by(factor: float) -> Callable[[float], float]:
    return lambda value: value * factor


def _uncovered(frame: pd.DataFrame) -> pd.DataFrame:
    """Half of the last week's value has no weights, and ratios still add up."""
    last = frame["week_end"] == frame["week_end"].max()
    frame.loc[last & (frame["basis"] == "no weights"), "value_cny"] = frame.loc[last, "value_cny"].sum()
    frame["ratio"] = frame["value_cny"] / frame.groupby("week_end")["value_cny"].transform("sum")
    return frame


def _at(etf: str, day: pd.Timestamp, column: str, value: object) -> Change:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[(frame["etf_code"] == etf) & (frame["trade_date"] == day), column] = value

    return change


def _whole_split_as_flow(frame: pd.DataFrame) -> None:
    """The split is forgotten: shares that doubled look like creations."""
    day = (frame["etf_code"] == ETFS[1]) & (frame["trade_date"] == SPLIT_DAY)
    phantom = frame.loc[day, "aum_cny"] / 2
    frame.loc[day, ["net_creation_cny", "interval_net_creation_cny"]] = phantom.iloc[0]


def _gap_as_one_day(frame: pd.DataFrame) -> None:
    gap = frame["interval_sessions"] > 1
    frame.loc[gap, "net_creation_cny"] = frame.loc[gap, "interval_net_creation_cny"]


def _listed_split_not_followed(frame: pd.DataFrame) -> None:
    day = (frame["etf_code"] == ETFS[1]) & (frame["trade_date"] == SPLIT_DAY)
    frame.loc[day, "shares"] = frame.loc[day, "shares"] / 2


BROKEN: dict[str, list[tuple[str, Change]]] = {
    "marts/industry_weekly:value_conserved": [
        ("industry_weekly", put("held_value_cny", _by(1 + 1e-8))),
        ("industry_weekly", lambda f: f.iloc[1:]),
        ("look_through_coverage", lambda f: f[f["week_end"] > f["week_end"].min()]),
    ],
    "marts/industry_weekly:shares_sum_to_one": [
        ("industry_weekly", put("held_share_ratio", _by(1.001))),
        ("industry_weekly", put("held_share_ratio", None)),
        ("industry_weekly", lambda f: f.assign(held_share_ratio=f["held_share_ratio"] * 0.8)),
    ],
    "marts/industry_weekly:weeks_agree_with_days": [
        ("industry_weekly", put("held_value_cny", _by(1.001))),
        ("industry_weekly", put("net_creation_cny", _by(1.001))),
        ("industry_daily", lambda f: f[f["trade_date"] < f["week_end"].max()]),
    ],
    "marts/stock_weekly:value_conserved": [
        ("stock_weekly", put("held_value_cny", _by(1.001))),
        ("stock_weekly", lambda f: f[f["is_a_share"].astype(bool)]),
        ("stock_weekly", put("industry_code", None)),
    ],
    "marts/look_through_coverage:ratios_sum_to_one": [
        ("look_through_coverage", put("ratio", _by(0.8))),
        ("look_through_coverage", lambda f: f.iloc[1:]),
    ],
    "marts/look_through_coverage:coverage_is_sufficient": [("look_through_coverage", _uncovered)],
    "marts/industry_weekly:market_flow_is_plausible": [
        ("market_flow", put("net_creation_cny", -11.0, 5)),
        ("market_flow", put("net_creation_cny", 900.0, 0)),
    ],
    "factors/etf_daily:sizes_balance": [
        ("etf_daily", put("nav_date", None)),
        ("etf_daily", put("aum_cny", _by(1e-4))),
        ("etf_daily", put("circulating_value_cny", None)),
        ("etf_daily", put("unit_nav", None)),
    ],
    "factors/etf_daily:flows_balance": [
        ("etf_daily", put("net_creation_cny", 1.0, 3)),
        ("etf_daily", put("interval_net_creation_cny", 1.0, 3)),
        ("etf_daily", put("net_creation_cny", 0.0)),
        ("etf_daily", put("interval_sessions", 2, 3)),
        ("etf_daily", _at(ETFS[0], SESSIONS[9], "split_status", "suspected")),
        ("etf_daily", _whole_split_as_flow),
        ("etf_daily", _gap_as_one_day),
    ],
    "factors/etf_daily:navs_agree_with_closes": [("etf_daily", _at(ETFS[0], SESSIONS[-1], "is_nav_disputed", True))],
    "factors/etf_daily:no_suspected_splits": [
        ("etf_daily", _at(ETFS[0], SESSIONS[-1], "split_status", "suspected")),
        ("etf_daily", _listed_split_not_followed),
    ],
}
WARNINGS = {"coverage_is_sufficient", "no_suspected_splits", "navs_agree_with_closes"}


def test_sound_tables_pass(sound_lake: Path) -> None:
    evaluations = evaluate(make_pipeline(sound_lake), accounting_checks())
    assert {f"{e.asset_key.to_user_string()}:{e.check_name}" for e in evaluations} == set(BROKEN)
    assert keys_of(accounting_checks()) == set(BROKEN)
    assert all(e.passed and e.metadata["checked"].value > 0 for e in evaluations)


@pytest.mark.parametrize(
    ("key", "table", "change"),
    [pytest.param(k, t, c, id=f"{k}-{n}") for k, cases in BROKEN.items() for n, (t, c) in enumerate(cases)],
)
def test_broken_tables_fail(lake_copy: Callable[[], Pipeline], key: str, table: str, change: Change) -> None:
    pipeline = lake_copy()
    tamper(only_file(pipeline, table), change)
    (failure,) = failures(pipeline, accounting_checks(), key)
    warns = key.split(":")[1] in WARNINGS
    assert failure.severity == (dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR)
    assert failure.metadata["broken"].value > 0


@pytest.mark.parametrize(
    ("size", "flow"), [pytest.param(100.0, -8.0, id="an extreme day"), pytest.param(1000.0, -40.0, id="part of it")]
)
def test_an_extreme_day_of_the_market_passes(lake_copy: Callable[[], Pipeline], size: float, flow: float) -> None:
    pipeline = lake_copy()
    tamper(only_file(pipeline, "market_flow"), put("net_creation_cny", flow, 5))
    tamper(only_file(pipeline, "market_flow"), lambda f: f.assign(aum_cny=size))
    (evaluation,) = evaluate(pipeline, accounting_checks(), "marts/industry_weekly:market_flow_is_plausible")
    assert evaluation.passed


def test_suspicions_of_long_ago_do_not_warn(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    tamper(only_file(pipeline, "etf_daily"), _at(ETFS[0], SESSIONS[3], "split_status", "suspected"))
    (evaluation,) = evaluate(pipeline, accounting_checks(), "factors/etf_daily:no_suspected_splits")
    assert evaluation.passed
    assert evaluation.metadata["all_time_suspected"].value == 1


def test_rounding_below_the_tolerance_passes(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    tamper(pipeline.lake.published_path("industry_weekly"), put("held_value_cny", _by(1 + 1e-12)))
    assert not failures(pipeline, accounting_checks(), "marts/industry_weekly:value_conserved")
