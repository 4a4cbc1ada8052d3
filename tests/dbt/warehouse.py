"""Steps from frames to a warehouse: raw files of a lake, views of them, dbt."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd

from etf_pipeline.contract import load_contract
from etf_pipeline.resources.dbt import PROJECT_DIR, dbt_executable, dbt_vars
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


def run_dbt(pipeline: Pipeline, folder: Path, *arguments: str) -> None:
    """Run dbt on the lake's warehouse; what it writes beside lies in `folder`."""
    command = [dbt_executable(), *arguments, "--vars", json.dumps(dbt_vars(pipeline))]
    result = subprocess.run(
        [*command, "--target-path", str(folder / "target"), "--log-path", str(folder / "logs"), "--quiet"],
        cwd=PROJECT_DIR,
        env={**os.environ, "DBT_PROFILES_DIR": str(PROJECT_DIR)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
