"""A warehouse built by dbt from frames, in a temporary lake."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
from market import random_market
from warehouse import open_warehouse, run_dbt, write_frames

from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build_warehouse(frames, *dbt_arguments)`: the DuckDB file dbt built; datasets not given are absent."""
    folder, numbers = tmp_path_factory.mktemp("warehouses"), itertools.count()

    def build(frames: Mapping[str, pd.DataFrame], *arguments: str) -> Path:
        pipeline = Pipeline(Deployment(lake=folder / str(next(numbers))))
        write_frames(pipeline, frames)
        with open_warehouse(pipeline):
            pass
        run_dbt(pipeline, *(arguments or ("run",)))
        return pipeline.lake.warehouse

    return build


@pytest.fixture(scope="session")
def first_market(build_warehouse: Build) -> tuple[dict[str, pd.DataFrame], Path]:
    """The first random market, built with every data test of the project."""
    frames = random_market(0)
    return frames, build_warehouse(frames, "build", "--exclude-resource-type", "unit_test")
