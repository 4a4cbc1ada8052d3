"""Steps from frames to a warehouse: raw files of a lake, views of them, dbt."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import duckdb
import pandas as pd

from etf_pipeline.contract import load_contract
from etf_pipeline.resources.dbt import DbtCommand
from etf_pipeline.resources.increment import Window
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.sources.canonical import canonical_frame


def write_frames(pipeline: Pipeline, frames: Mapping[str, pd.DataFrame]) -> None:
    """Put the frames in the place of whatever raw rows the lake holds."""
    pipeline.lake.claim("test market")
    for name, frame in frames.items():
        dataset = load_contract()[name]
        pipeline.lake.write_raw(dataset, canonical_frame(dataset, frame, name), date(2020, 1, 1), date(2029, 12, 31))


@contextmanager
def open_warehouse(pipeline: Pipeline) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse with views of the raw data as they are now."""
    pipeline.lake.warehouse.parent.mkdir(exist_ok=True)
    with duckdb.connect(pipeline.lake.warehouse) as connection:
        pipeline.lake.create_raw_views(connection, None)
        yield connection


def run_dbt(pipeline: Pipeline, *arguments: str, window: Window | None = None) -> None:
    """Run dbt on the lake's warehouse; whatever fails is named, what only warns is not."""
    results = DbtCommand(pipeline, *arguments, window=window).run()
    assert results
    failed = [f"{node.unique_id}: {node.message}" for node in results if node.status not in ("success", "pass", "warn")]
    assert not failed, "\n".join(failed)
