"""A warehouse that grew session by session is, row by row of every model, the one built at once."""

import shutil
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from market import SESSIONS, random_market
from warehouse import open_warehouse, run_dbt, write_frames

from etf_pipeline.contract import load_contract
from etf_pipeline.resources import increment
from etf_pipeline.resources.dbt import DbtCommand, load_manifest
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dbt")]

Frames = dict[str, pd.DataFrame]
EVENINGS = [pd.Timestamp(day) for day in ("2024-03-01", "2024-03-05")]
IN_USE_SESSIONS = 10


def evening(frames: Frames, day: pd.Timestamp) -> Frames:
    """What has come in by then: some of the last days' rows are still to come, and one number will be revised."""
    assert day in SESSIONS
    known = {}
    for name, frame in frames.items():
        column = load_contract()[name].date_column
        if name == "stock_industry":
            frame = frame[frame["in_date"] <= day]
            frame = frame.assign(out_date=frame["out_date"].where(frame["out_date"] <= day))
        elif column and name != "trading_calendar":
            frame = frame[frame[column] <= day]
            if name in ("etf_share", "etf_nav", "etf_bar"):
                is_late = frame[column].gt(day - pd.Timedelta(days=3)) & (frame.index % 30 == 0)
                frame = frame[~is_late]
            if name == "etf_share":
                last = frame.index[frame[column] == day][0]
                frame = frame.assign(shares=frame["shares"].where(frame.index != last, frame["shares"] * 1.7))
        if len(frame):
            known[name] = frame
    return known


def tables(warehouse: Path) -> Frames:
    with duckdb.connect(warehouse, read_only=True) as connection:
        names = connection.sql("select table_name from duckdb_tables() where schema_name = 'main'").fetchall()
        return {name: connection.sql(f"from {name} order by all").df() for (name,) in names}


def build(pipeline: Pipeline) -> date | None:
    with open_warehouse(pipeline) as connection:
        window = increment.begin(connection, load_manifest(), [], IN_USE_SESSIONS)
    run_dbt(pipeline, "run", *([] if window else ["--full-refresh"]), window=window)
    with duckdb.connect(pipeline.lake.warehouse) as connection:
        increment.finish(connection)
    return window.computed_from if window else None


def test_growing_session_by_session_is_building_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(increment, "MARGIN_SESSIONS", 4)
    frames, pipeline = random_market(0), Pipeline(Deployment(lake=tmp_path / "lake"))
    starts = []
    for known in (*(evening(frames, day) for day in EVENINGS), frames):
        write_frames(pipeline, known)
        starts.append(build(pipeline))
    assert starts == [None, date(2024, 2, 19), date(2024, 2, 26)]
    grown = tables(pipeline.lake.warehouse)
    pipeline.lake.warehouse.unlink()
    assert build(pipeline) is None
    whole = tables(pipeline.lake.warehouse)
    assert len(whole) > 30
    assert grown.keys() == whole.keys()
    for name, expected in whole.items():
        pd.testing.assert_frame_equal(grown[name], expected, check_exact=True, obj=name)


def test_keys_of_published_tables_are_unique_and_whole(first_market: tuple[Frames, Path], tmp_path: Path) -> None:
    pipeline = Pipeline(Deployment(lake=shutil.copytree(first_market[1].parents[1], tmp_path / "lake")))
    name = "primary_key_market_flow_trade_date__asset_scope"

    def rows_found(change: str) -> str:
        with duckdb.connect(pipeline.lake.warehouse) as connection:
            connection.execute(change)
        (result,) = DbtCommand(pipeline, "test", "--select", name).run()
        return f"{result.status}: {result.message}"

    assert rows_found("select 1") == "pass: "
    assert rows_found("insert into market_flow from market_flow limit 2").startswith("fail: Got 2 results")
    assert rows_found("update market_flow set asset_scope = null").startswith("fail")
    # a hole alone, nothing being repeated
    only_one = "delete from market_flow where rowid > (select min(rowid) from market_flow)"
    assert rows_found(only_one).startswith("fail: Got 1 result")


def test_rows_that_are_kept_are_not_tested_again(first_market: tuple[Frames, Path], tmp_path: Path) -> None:
    pipeline = Pipeline(Deployment(lake=shutil.copytree(first_market[1].parents[1], tmp_path / "lake")))

    def failed(computed_from: date | None) -> set[str]:
        arguments = ("test", "--select", "int_etf__held_value", "--exclude-resource-type", "unit_test")
        window = increment.Window(computed_from, computed_from) if computed_from else None
        results = DbtCommand(pipeline, *arguments, window=window).run()
        return {node.unique_id.split(".")[2] for node in results if node.status == "fail"}

    with duckdb.connect(pipeline.lake.warehouse) as connection:
        rows = connection.sql("select distinct trade_date from int_etf__held_value order by all").fetchall()
        (spoilt,), (after,) = rows[5:7]
        connection.execute("update int_etf__held_value set share_date = trade_date + 1 where trade_date = ?", [spoilt])
        connection.execute("insert into int_etf__held_value from int_etf__held_value where trade_date = ?", [spoilt])
    found = {"assert_held_value_uses_only_what_is_known", "unique_key_int_etf__held_value_etf_code__trade_date"}
    assert failed(None) == found
    assert failed(spoilt) == found
    assert failed(after) == set()
