"""A warehouse built by dbt from frames, in a temporary lake."""

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from market import random_market

from etf_pipeline.contract import load_contract
from etf_pipeline.resources.dbt import PROJECT_DIR, dbt_executable, dbt_vars
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.canonical import canonical_frame

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build_warehouse(frames, *dbt_arguments)`: the DuckDB file dbt built; datasets not given are absent."""
    folder, numbers = tmp_path_factory.mktemp("warehouses"), itertools.count()

    def build(frames: Mapping[str, pd.DataFrame], *arguments: str) -> Path:
        # always in the same place, so that dbt parses the project once
        shutil.rmtree(folder / "lake", ignore_errors=True)
        pipeline = Pipeline(Deployment(lake=folder / "lake"))
        pipeline.lake.claim("test market")
        for name, frame in frames.items():
            dataset = load_contract()[name]
            rows = canonical_frame(dataset, frame, name)
            days = rows[dataset.date_column] if dataset.date_column else pd.Series([pd.Timestamp("2024-01-01")])
            pipeline.lake.write_raw(dataset, rows, days.min().date(), days.max().date())
        pipeline.lake.warehouse.parent.mkdir(exist_ok=True)
        with duckdb.connect(pipeline.lake.warehouse) as connection:
            pipeline.lake.create_raw_views(connection, None)
        command = [dbt_executable(), *(arguments or ("run",)), "--vars", json.dumps(dbt_vars(pipeline))]
        result = subprocess.run(
            [*command, "--target-path", str(folder / "target"), "--log-path", str(folder / "logs"), "--quiet"],
            cwd=PROJECT_DIR,
            env={**os.environ, "DBT_PROFILES_DIR": str(PROJECT_DIR)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return pipeline.lake.warehouse.rename(folder / f"{next(numbers)}.duckdb")

    return build


@pytest.fixture(scope="session")
def first_market(build_warehouse: Build) -> tuple[dict[str, pd.DataFrame], Path]:
    """The first random market, built with every data test of the project."""
    frames = random_market(0)
    return frames, build_warehouse(frames, "build", "--exclude-resource-type", "unit_test")
