"""A dbt command: what it tells, here and from a process of its own, and that breaking it off leaves nothing behind."""

import threading
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from dbt.adapters.contracts.connection import Connection
from dbt.adapters.duckdb.environments.local import LocalEnvironment

from etf_pipeline.resources.dbt import DbtCommand, DbtError
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from tests.dbt.warehouse import open_warehouse, write_frames
from tests.sources.folder import valid_frames

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dbt")]

SELECTED = ("--select", "staging", "--full-refresh")


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Raw data of a tiny folder, and a warehouse that sees them."""
    pipeline = Pipeline(Deployment(lake=tmp_path / "lake"))
    calendar = pd.DataFrame({"trade_date": pd.date_range("2025-09-01", "2025-10-31", freq="B"), "is_open": True})
    write_frames(pipeline, {**valid_frames(), "trading_calendar": calendar})
    with open_warehouse(pipeline):
        return pipeline


def test_every_model_is_told_as_it_ends(pipeline: Pipeline) -> None:
    dbt = DbtCommand(pipeline, "run", *SELECTED)
    told = [event.raw_event["data"]["node_info"]["unique_id"] for event in dbt.events()]
    # two work at a time, and what ends at the same moment may be told in either order
    assert sorted(told) == sorted(node.unique_id for node in dbt.results)
    assert len(told) > 10
    assert {node.status for node in dbt.results} == {"success"}


def test_broken_off_it_ends_and_leaves_the_warehouse_free(pipeline: Pipeline) -> None:
    dbt = DbtCommand(pipeline, "run", *SELECTED)
    events = dbt.events()
    next(events)
    events.close()
    assert "dbt" not in {thread.name for thread in threading.enumerate()}
    with duckdb.connect(pipeline.lake.warehouse, read_only=True) as connection:  # of another configuration than dbt's
        assert connection.execute("select count(*) from raw.etf_share").fetchall() == [(50,)]
    assert {node.status for node in DbtCommand(pipeline, "run", *SELECTED).run()} == {"success"}


def test_a_connection_that_dbt_closes_meanwhile_needs_no_interrupting(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = []

    def closes_first(_environment: LocalEnvironment, connection: Connection) -> None:
        interrupted.append(connection)
        closed = duckdb.connect()
        closed.close()
        closed.interrupt()

    monkeypatch.setattr(LocalEnvironment, "cancel", closes_first)
    events = DbtCommand(pipeline, "run", *SELECTED).events()
    next(events)
    events.close()
    assert interrupted
    assert "dbt" not in {thread.name for thread in threading.enumerate()}


def test_a_model_that_fails_is_told_with_its_reason(pipeline: Pipeline) -> None:
    with duckdb.connect(pipeline.lake.warehouse) as connection:
        connection.execute("drop view raw.etf_share")
    failed = {node.unique_id: node for node in DbtCommand(pipeline, "run", *SELECTED).run() if node.status == "error"}
    assert "etf_share does not exist" in failed["model.etf_pipeline.stg_etf__share"].message


def test_a_command_that_cannot_run_says_why(pipeline: Pipeline) -> None:
    with pytest.raises(DbtError, match="No such option"):
        DbtCommand(pipeline, "run", "--no-such-option").run()
