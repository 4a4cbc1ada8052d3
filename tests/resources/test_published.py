"""Published tables of one file and of one file a year: what is replaced, what stays, what readers see."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etf_pipeline.assets.warehouse import _publish
from etf_pipeline.resources.increment import Window
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import LakeError
from etf_pipeline.settings import Deployment

NODE = {
    "name": "flow",
    "alias": "flow",
    "config": {"materialized": "incremental", "unique_key": "day", "meta": {"key": ["code", "day"]}},
}
YEARS = (2022, 2023, 2024)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    made = Pipeline(Deployment(lake=tmp_path / "lake"))
    made.lake.claim("test")
    return made


@pytest.fixture
def lake(pipeline: Pipeline) -> Lake:
    return pipeline.lake


def rows(year: int, value: float) -> Callable[[], pa.Table]:
    return lambda: pa.table({"day": [date(year, 6, 1)], "value": [value]})


def values(lake: Lake) -> dict[int, float]:
    """What the table holds of each year, by the lake and by the catalogue."""
    frame = lake.read_published("flow")
    held = dict(zip(frame["day"].dt.year.tolist(), frame["value"].tolist(), strict=True))
    with duckdb.connect(lake.build_catalogue(), read_only=True) as catalogue:
        assert dict(catalogue.sql("select year(day), value from flow").fetchall()) == held
    return held


def test_a_year_given_as_none_stays_and_one_not_given_goes(lake: Lake) -> None:
    lake.publish_years("flow", {year: rows(year, 1.0) for year in YEARS}, "one", dict.fromkeys(YEARS, "digest"))
    assert values(lake) == dict.fromkeys(YEARS, 1.0)
    untouched = lake.published_path("flow", 2023).stat()
    lake.publish_years("flow", {2023: None, 2024: rows(2024, 2.0)}, "two")
    assert values(lake) == {2023: 1.0, 2024: 2.0}
    assert lake.published_path("flow", 2023).stat() == untouched
    assert [lake.made_from(file) for file in lake.published_files("flow")] == ["digest", None]
    hashes = [(pq.read_schema(file).metadata or {})[b"settings_hash"] for file in lake.published_files("flow")]
    assert hashes == [b"one", b"two"]
    assert lake.published_tables() == ["flow"]


def test_a_table_is_of_years_or_of_one_file(lake: Lake) -> None:
    lake.publish("flow", rows(2021, 0.0)(), "hash")
    assert values(lake) == {2021: 0.0}
    lake.publish_years("flow", {2022: rows(2022, 1.0)}, "hash")
    assert values(lake) == {2022: 1.0}
    assert not lake.published_path("flow").exists()
    lake.publish("flow", rows(2022, 1.0)().slice(0, 0), "hash")
    assert values(lake) == {}
    assert lake.published_files("flow") == [lake.published_path("flow")]


def test_a_year_that_cannot_be_made_leaves_what_was_there(lake: Lake) -> None:
    def refuse() -> pa.Table:
        raise ValueError("no rows")

    lake.publish_years("flow", {year: rows(year, 1.0) for year in YEARS}, "hash")
    with pytest.raises(ValueError, match="no rows"):
        lake.publish_years("flow", {2024: refuse}, "hash")
    assert values(lake) == dict.fromkeys(YEARS, 1.0)


def test_what_was_never_published_is_told(lake: Lake) -> None:
    assert lake.published_files("flow") == []
    with pytest.raises(LakeError, match="table flow is not in lake"):
        lake.read_published("flow")


def test_of_a_mart_the_years_since_the_window_are_published(pipeline: Pipeline) -> None:
    days = [date(year, month, 3) for year in YEARS for month in (1, 12)]
    frame = pd.DataFrame({"code": "B", "day": pd.to_datetime(days), "value": 1.0})
    frame = pd.concat([frame.assign(code="A"), frame])
    lake = pipeline.lake
    with duckdb.connect() as connection:

        def build(value: float, start: date | None) -> None:
            stored = frame.assign(value=value).sample(frac=1, random_state=1)
            connection.register("frame", stored)
            connection.execute("create or replace table flow as select code, day::date as day, value from frame")
            _publish(connection, pipeline, NODE, Window(start, start) if start else None)

        def found() -> dict[int, float]:
            table = lake.read_published("flow")
            assert table.sort_values(["day", "code"]).reset_index(drop=True)["day"].tolist() == sorted(frame["day"])
            for file in lake.published_files("flow"):
                part = pq.read_table(file).to_pandas()
                assert part.equals(part.sort_values(["code", "day"], ignore_index=True))
            return table.groupby(table["day"].dt.year)["value"].first().to_dict()

        build(1.0, None)
        assert found() == dict.fromkeys(YEARS, 1.0)
        build(2.0, date(2024, 1, 1))
        assert found() == {2022: 1.0, 2023: 1.0, 2024: 2.0}
        # a year whose file is not there is published whatever the window
        lake.published_path("flow", 2022).unlink()
        build(3.0, date(2023, 12, 30))
        assert found() == dict.fromkeys(YEARS, 3.0)
        build(4.0, None)
        assert found() == dict.fromkeys(YEARS, 4.0)
        frame = frame[frame["day"] < "2023-01-01"]
        build(4.0, date(2023, 12, 30))
        assert found() == {2022: 4.0}
        frame = frame.iloc[:0]
        build(4.0, None)
        assert found() == {}
