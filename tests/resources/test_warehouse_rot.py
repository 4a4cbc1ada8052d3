"""Damaged results are made anew whatever the window, and a corrupt private database is built anew."""

from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from etf_pipeline.assets import warehouse
from etf_pipeline.resources.increment import Window
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment

NODE = {
    "name": "flow",
    "alias": "flow",
    "config": {"materialized": "incremental", "unique_key": "day", "meta": {"key": ["day"]}},
}
WINDOW = Window(date(2024, 1, 1), date(2024, 1, 1))


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    made = Pipeline(Deployment(lake=tmp_path / "lake"))
    made.lake.claim("test")
    return made


def test_a_damaged_year_outside_the_window_is_published_anew(pipeline: Pipeline) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE flow AS SELECT * FROM (VALUES (DATE '2023-06-01'), (DATE '2024-06-03')) AS t (day)"
        )
        warehouse._publish(connection, pipeline, NODE, None)
        files = pipeline.lake.published_years("flow")
        sound = {year: path.read_bytes() for year, path in files.items()}
        untouched = files[2023].stat().st_mtime_ns
        warehouse._publish(connection, pipeline, NODE, WINDOW)
        assert files[2023].stat().st_mtime_ns == untouched
        for damage in (b"", b"garbage", sound[2023][:-9], sound[2023].replace(b"2", b"3", 1)):
            files[2023].write_bytes(damage)
            warehouse._publish(connection, pipeline, NODE, WINDOW)
            assert {year: path.read_bytes() for year, path in files.items()} == sound


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, None], ids=["empty", "garbage", "half"])
def test_a_private_database_that_is_none_gives_way(pipeline: Pipeline, content: bytes | None) -> None:
    path = pipeline.lake.warehouse
    path.parent.mkdir()
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE one AS SELECT range AS n FROM range(300000)")
    path.write_bytes(path.read_bytes()[:300_000] if content is None else content)
    with warehouse._open(pipeline.lake) as connection:
        assert connection.sql("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def flip(path: Path, place: int) -> None:
    changed = bytearray(path.read_bytes())
    changed[place] ^= 1
    path.write_bytes(changed)


@pytest.mark.parametrize("damage", ["flipped", "cut off"])
def test_a_corrupt_block_has_all_built_anew_in_the_same_run(pipeline: Pipeline, damage: str) -> None:
    path, attempts = pipeline.lake.warehouse, []
    path.parent.mkdir()
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE one AS SELECT random() AS n FROM range(300000)")
    if damage == "flipped":
        flip(path, path.stat().st_size // 2)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    @dg.asset
    def built() -> None:
        attempts.append(path.exists())
        with warehouse._made_anew_if_corrupt(pipeline.lake), warehouse._open(pipeline.lake) as connection:
            if connection.sql("SELECT count(*) FROM duckdb_tables()").fetchall() == [(1,)]:
                connection.sql("SELECT sum(n) FROM one").fetchall()

    assert dg.materialize([built]).success
    # a file cut off is noticed when it is opened, a flipped bit only when its block is read
    assert attempts == ([True, False] if damage == "flipped" else [True])
    with duckdb.connect(path) as connection:
        assert connection.sql("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


@pytest.mark.parametrize("error", [duckdb.BinderException("no such column"), dg.Failure("2 dbt nodes failed")])
def test_another_failure_stays_one(pipeline: Pipeline, error: Exception) -> None:
    path = pipeline.lake.warehouse
    path.parent.mkdir()
    path.touch()
    with pytest.raises(type(error)), warehouse._made_anew_if_corrupt(pipeline.lake):
        raise error
    assert path.exists()
    corrupt = dg.Failure(
        "1 dbt nodes failed", metadata={"model.x": "IO Error: Corrupt database file: computed checksum"}
    )
    with pytest.raises(dg.RetryRequested), warehouse._made_anew_if_corrupt(pipeline.lake):
        raise corrupt
    assert not path.exists()
    assert Lake(pipeline.lake.root).source_label == "test"
