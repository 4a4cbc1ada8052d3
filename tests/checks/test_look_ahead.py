import importlib
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etf_pipeline.checks.look_ahead import look_ahead_checks
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import FACTORS
from tests.checks.world import (
    build,
    definitions,
    evaluate,
    failures,
    keys_of,
    make_pipeline,
    only_file,
    put,
    run,
    tamper,
)

Change = Callable[[pd.DataFrame], pd.DataFrame | None]
DAY = pd.Timedelta(days=1)
SCORES, HOLDINGS = "factors/factor_scores", "strategy/strategy_holdings"


def _set(column: str, value: object) -> Change:
    return lambda frame: frame.assign(**{column: value})


def _later(column: str, days: int) -> Change:
    return lambda frame: frame.assign(**{column: frame[column] + days * DAY})


def _first_date(column: str, value: object) -> Change:
    """`value` on all rows of the first date."""
    return lambda frame: frame.assign(
        **{column: frame[column].astype(object).mask(frame["signal_date"] == frame["signal_date"].min(), value)}
    )


def _swapped_dates(column: str) -> Change:
    """Every date has the scores of the next one: the look-ahead itself."""
    return lambda f: f.assign(**{column: f.groupby("industry_code")[column].shift(-1).fillna(f[column])})


def _tie(frame: pd.DataFrame) -> None:
    """Two equal composites on the first date, ranked against their codes."""
    first = frame.index[frame["signal_date"] == frame["signal_date"].min()]
    frame.loc[first[:2], [*FACTORS, "composite"]] = 10.0
    frame.loc[first[0], "rank"], frame.loc[first[1], "rank"] = 2, 1


def _future_stock(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.tail(1).assign(stock_code="688001.SH", held_value_cny=1.0)])


def _other_constituent(frame: pd.DataFrame) -> pd.DataFrame:
    newest = (frame["as_of_date"] >= "2025-09-30") & (frame["stock_code"] == "600000.SH")
    return frame.assign(stock_code=frame["stock_code"].mask(newest, "600999.SH"))


BROKEN: dict[str, list[tuple[str, Change]]] = {
    f"{SCORES}:scores_centred": [
        ("factor_scores", lambda f: f.assign(flow=f["flow"] * 1.1)),
        ("factor_scores", lambda f: f.assign(level=f["level"] + 0.01)),
        ("factor_scores", put("change", 5.0)),
        ("factor_scores", lambda f: f.assign(divergence=f["divergence"].where(f.index == 0))),
    ],
    f"{SCORES}:ranks_follow_composite": [
        ("factor_scores", put("rank", 3)),
        ("factor_scores", put("rank", None)),
        ("factor_scores", put("composite", 7.0)),
        ("factor_scores", put("flow", None)),
        ("factor_scores", _tie),
    ],
    f"{SCORES}:withheld_exactly": [
        ("factor_scores", _first_date("withheld_reason", "flow missing for 4 of 4 industries")),
        ("factor_scores", _first_date("flow", None)),
        ("factor_scores", put("withheld_reason", "flow missing")),
        ("factor_scores", _first_date("withheld_reason", "look-through: one ETF is too much of the value")),
    ],
    f"{SCORES}:something_to_publish": [
        ("factor_scores", _set("withheld_reason", "flow missing for 4 of 4 industries")),
        ("factor_scores", lambda f: f.iloc[:0]),
    ],
    f"{SCORES}:history_complete": [("factor_scores", _first_date("withheld_reason", "flow missing"))],
    f"{SCORES}:decided_in_time": [
        ("factor_scores", _later("decision_at", 1)),
        ("factor_scores", _later("signal_date", 14)),
    ],
    f"{SCORES}:factors_of_their_date": [
        *(("factor_scores", _swapped_dates(factor)) for factor in FACTORS),
        ("factor_scores", _swapped_dates("heat")),
        ("factor_scores", put("flow", None)),
        ("factor_scores", lambda f: f.assign(size_signal=1 - f["size_signal"])),
        ("factor_scores", lambda f: f.assign(growth_value_signal=1 - f["growth_value_signal"])),
        ("new_issue_monthly", _later("month_end", -31)),
        *(
            ("look_through_evidence", _set(name, value))
            for name, value in (
                ("weight_sets", 2),
                ("largest_etf_ratio", 0.6),
                ("coverage_ratio", 0.7),
                ("compared_ratio", 0.7),
                ("medium_compared_ratio", 0.7),
            )
        ),
        ("industry_weekly", put("held_share_change_ratio", 1.0, -1)),
        ("active_holdings", put("active_weight_ratio", 0.5)),
    ],
    **{
        f"marts/{table}:weeks_are_over": [(table, _later("week_end", 28)), (table, _later("week_end", -1))]
        for table in ("industry_weekly", "stock_weekly", "look_through_coverage")
    },
    "marts/active_fund_industry:reports_public_before_use": [
        ("active_fund_industry", _later("public_date", 14)),
        ("active_fund_industry", _later("public_date", -30)),
        ("active_fund_industry", _later("report_date", 90)),
    ],
    "factors/active_holdings:solved_accurately": [
        ("active_holdings", lambda f: f.assign(basis="simulated", solver_status="almost solved")),
        ("active_holdings", lambda f: f.assign(basis="simulated", solver_status=None)),
    ],
    "factors/active_holdings:reports_had_their_quorum": [
        ("active_holdings", _later("report_date", 92)),
        ("raw/fund_holding", lambda f: f.assign(available_at=f["available_at"] + 30 * DAY)),
        ("raw/fund_holding", lambda f: f[f["report_date"] < f["report_date"].max()]),
    ],
    "marts/stock_weekly:constituents_were_known": [
        ("stock_weekly", _future_stock),
        ("raw/index_weight", lambda f: f.assign(available_at=f["available_at"] + 60 * DAY)),
        ("raw/index_weight", _other_constituent),
    ],
    "factors/style_regime:ratios_of_their_week": [
        ("style_regime", put("ratio", 2.0)),
        ("style_regime", put("ratio", None)),
        ("style_regime", put("series", "other")),
        ("style_regime", _later("week_end", 7)),
        ("raw/index_bar", lambda f: f.assign(available_at=f["available_at"] + 7 * DAY)),
    ],
    "strategy/rebalance_dates:dates_count_from_anchor": [
        ("rebalance_dates", _later("signal_date", 7)),
        ("rebalance_dates", _later("signal_date", 28)),
        ("rebalance_dates", _later("holding_start", 1)),
        ("rebalance_dates", put("holding_end", None)),
        ("rebalance_dates", _later("holding_end", -1)),
    ],
    f"{HOLDINGS}:portfolio_is_whole": [
        ("strategy_holdings", _set("weight", 0.4)),
        ("strategy_holdings", lambda f: f.iloc[1:]),
        ("strategy_holdings", lambda f: f.assign(rank=f["rank"] + 1)),
        ("strategy_holdings", lambda f: f.assign(industry_code="CI005001")),
        ("strategy_holdings", lambda f: f.assign(weight=f["rank"].map({1: 1.5, 2: -0.5}))),
    ],
    f"{HOLDINGS}:held_as_scored": [
        ("factor_scores", _first_date("withheld_reason", "flow missing for 4 of 4 industries")),
        ("factor_scores", lambda f: f.assign(rank=5 - f["rank"])),
        ("strategy_holdings", put("composite", 0.0)),
        ("strategy_holdings", put("industry_code", "CI005030")),
    ],
    f"{HOLDINGS}:decided_before_holding": [
        ("strategy_holdings", _later("data_until", 1)),
        ("strategy_holdings", _later("decision_at", 1)),
        ("strategy_holdings", lambda f: f.assign(holding_start=f["signal_date"])),
    ],
}


def test_sound_tables_pass(sound_lake: Path) -> None:
    evaluations = evaluate(make_pipeline(sound_lake), look_ahead_checks())
    assert {f"{e.asset_key.to_user_string()}:{e.check_name}" for e in evaluations} == set(BROKEN)
    assert keys_of(look_ahead_checks()) == set(BROKEN)
    assert [e.check_name for e in evaluations if not e.passed or not e.metadata["checked"].value] == []


def _break(pipeline: Pipeline, table: str, change: Change) -> None:
    raw = table.removeprefix("raw/")
    files = pipeline.lake.raw_files(load_contract()[raw]) if raw != table else [only_file(pipeline, table)]
    for file in files:
        tamper(file, change)


@pytest.mark.parametrize(
    ("key", "table", "change"),
    [pytest.param(k, t, c, id=f"{k}-{n}") for k, cases in BROKEN.items() for n, (t, c) in enumerate(cases)],
)
def test_broken_tables_fail(lake_copy: Callable[[], Pipeline], key: str, table: str, change: Change) -> None:
    pipeline = lake_copy()
    _break(pipeline, table, change)
    (failure,) = failures(pipeline, look_ahead_checks(), key)
    warns = key.endswith((":history_complete", ":solved_accurately"))
    assert failure.severity == (dg.AssetCheckSeverity.WARN if warns else dg.AssetCheckSeverity.ERROR)
    assert failure.metadata["broken_rows"].value


def test_checks_of_scores_block() -> None:
    specs = [spec for check in look_ahead_checks() for spec in check.check_specs]
    of_scores = {s.name: s.blocking for s in specs if s.asset_key.path[-1] == "factor_scores"}
    assert {name for name, blocking in of_scores.items() if not blocking} == {"history_complete"}
    assert not [s.name for s in specs if s.asset_key.path[-1] != "factor_scores" and s.blocking]
    assert all(s.description for s in specs)


@pytest.mark.parametrize("sound", [True, False])
def test_failing_check_of_scores_stops_holdings(tmp_path: Path, sound: bool) -> None:
    build(tmp_path)
    pipeline = make_pipeline(tmp_path)
    pipeline.lake.published_path("strategy_holdings").unlink()
    if not sound:  # without regimes the level and change factors are missing on all dates
        tamper(pipeline.lake.published_path("style_regime"), lambda f: f.iloc[:0])
    selection = dg.AssetSelection.assets(["factors", "factor_scores"], ["strategy", "strategy_holdings"])
    result = run(definitions(pipeline, look_ahead_checks()), selection, raise_on_error=False)
    made = {e.asset_key.path[-1] for e in result.get_asset_materialization_events()}
    assert result.success == sound
    assert made == ({"factor_scores", "strategy_holdings"} if sound else {"factor_scores"})
    assert pipeline.lake.published_path("strategy_holdings").exists() == sound


def test_partitioned_run_is_checked_too(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    defs = definitions(pipeline, look_ahead_checks())
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [*defs.assets, *look_ahead_checks()],
            instance=instance,
            partition_key="2025-10-10",
            resources={"pipeline": pipeline},
            selection=dg.AssetSelection.assets(["strategy", "strategy_holdings"]),
        )
    evaluations = result.get_asset_check_evaluations()
    assert {e.check_name for e in evaluations} == {"portfolio_is_whole", "held_as_scored", "decided_before_holding"}
    assert all(e.passed for e in evaluations)


def test_empty_tables_are_judged(lake_copy: Callable[[], Pipeline]) -> None:
    """A lake without any rebalance date: nothing breaks, and nothing may be published."""
    pipeline = lake_copy()
    for table in pipeline.lake.published_tables():
        tamper(only_file(pipeline, table), lambda f: f.iloc[:0])
    failed = {e.check_name for e in evaluate(pipeline, look_ahead_checks()) if not e.passed}
    assert failed == {"something_to_publish"}


@pytest.mark.parametrize(
    ("layer", "table", "spoilt"),
    [
        ("factors", "factor_scores", ("etf_pipeline.assets.factors.score_factors", 2.0)),
        ("factors", "style_regime", ("etf_pipeline.assets.factors.regime_of", 2.0)),
    ],
)
def test_rows_that_fail_replace_nothing(
    lake_copy: Callable[[], Pipeline],
    monkeypatch: pytest.MonkeyPatch,
    layer: str,
    table: str,
    spoilt: tuple[str, float],
) -> None:
    pipeline = lake_copy()
    path, (name, factor) = pipeline.lake.published_path(table), spoilt
    before = path.read_bytes()
    module, _, function = name.rpartition(".")
    right = getattr(importlib.import_module(module), function)

    def wrong(*arguments: object, **named: object) -> object:
        made = right(*arguments, **named)
        if isinstance(made, dict):
            return {key: frame * factor for key, frame in made.items()}
        return made.assign(ratio=made["ratio"] * factor)

    monkeypatch.setattr(name, wrong)
    result = run(definitions(pipeline, []), dg.AssetSelection.assets([layer, table]), raise_on_error=False)
    assert not result.success
    assert path.read_bytes() == before
    assert (pipeline.lake.root / "build" / "candidate" / f"{table}.parquet").exists()
    (failure,) = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    assert f"{table} is not replaced, and what was published before stays" in str(failure)
