"""The catalogue has a view of everything that is published, and is touched only where that is something new."""

import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import read_json


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    made.claim("test")
    for table in ("flow", "size"):
        made.publish(table, pa.table({"value": [1.0]}), "hash")
    made.build_catalogue()
    return made


def views(lake: Lake) -> dict[str, list[tuple[object, ...]]]:
    """Rows of every view."""
    with duckdb.connect(lake.catalogue, read_only=True) as connection:
        names = connection.sql("select view_name from duckdb_views() where not internal order by all").fetchall()
        return {name: connection.execute(f"from {name}").fetchall() for (name,) in names}


def test_other_rows_are_there_at_once_and_the_file_stays(lake: Lake) -> None:
    before = lake.catalogue.stat()
    lake.publish("flow", pa.table({"value": [2.0, 3.0]}), "hash")
    assert views(lake) == {"flow": [(2.0,), (3.0,)], "size": [(1.0,)]}
    lake.build_catalogue()
    assert lake.catalogue.stat() == before


def test_other_columns_and_other_tables_are_followed(lake: Lake) -> None:
    lake.publish("flow", pa.table({"code": ["A"], "value": [2.0]}), "hash")
    lake.publish("week", pa.table({"value": [3.0]}), "hash")
    lake.published_path("size").unlink()
    lake.build_catalogue()
    assert views(lake) == {"flow": [("A", 2.0)], "week": [(3.0,)]}


def test_one_killed_before_it_was_remembered_is_made_again(lake: Lake) -> None:
    made_of = lake.root / "build" / "catalogue.json"
    remembered = made_of.read_bytes()
    lake.publish("flow", pa.table({"code": ["A"]}), "hash")
    lake.published_path("size").unlink()
    lake.build_catalogue()
    made_of.write_bytes(remembered)
    lake.build_catalogue()
    assert views(lake) == {"flow": [("A",)]}
    assert set(read_json(made_of)) == {"main.flow"}


def test_one_that_cannot_be_opened_is_replaced(lake: Lake) -> None:
    lake.catalogue.write_bytes(b"not a database" * 1000)
    lake.publish("week", pa.table({"value": [3.0]}), "hash")
    lake.build_catalogue()
    assert set(views(lake)) == {"flow", "size", "week"}
    with duckdb.connect(lake.catalogue) as connection:
        connection.execute("drop view flow")
    lake.build_catalogue(anew=True)
    assert set(views(lake)) == {"flow", "size", "week"}
    lake.catalogue.unlink()
    lake.build_catalogue()
    assert set(views(lake)) == {"flow", "size", "week"}


def test_a_lake_that_was_moved_reads_its_own_files(lake: Lake, tmp_path: Path) -> None:
    moved = Lake(Path(shutil.move(lake.root, tmp_path / "elsewhere")))
    moved.publish("flow", pa.table({"value": [5.0]}), "hash")
    moved.build_catalogue()
    assert views(moved) == {"flow": [(5.0,)], "size": [(1.0,)]}
