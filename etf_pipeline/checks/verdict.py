"""What checks have in common: reading the columns they need, and turning broken rows into a Dagster result.

Here: nothing that knows a rule. A check passes exactly if it found no broken row, so none can pass by itself.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
import duckdb
import pandas as pd

from etf_pipeline.contract import Dataset
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import read_table

_SHOWN_ROWS = 20

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def verdict(
    broken: pd.DataFrame, checked: int, severity: dg.AssetCheckSeverity = ERROR, **metadata: Any
) -> dg.AssetCheckResult:
    """Passed if `broken` has no row; its first rows are shown as a table. `checked` counts what was looked at."""
    shown = {"broken_rows": markdown(broken.head(_SHOWN_ROWS))} if len(broken) else {}
    return dg.AssetCheckResult(
        passed=broken.empty,
        severity=severity,
        metadata={"checked": checked, "broken": len(broken), **shown, **metadata},
    )


def markdown(frame: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """The frame as a table of the Dagster UI, dates without their time."""
    dates = frame.select_dtypes("datetime").columns
    return dg.MetadataValue.md(
        frame.assign(**{name: frame[name].dt.strftime("%Y-%m-%d") for name in dates}).to_markdown(index=False)
    )


def published(pipeline: Pipeline, table: str, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of a published table (dates as datetime64).

    Raises:
        LakeError: the table was not published yet, or lacks a column.
    """
    return pipeline.lake.read_published(table, columns)


def query(pipeline: Pipeline, tables: Sequence[str], sql: str, **frames: pd.DataFrame) -> pd.DataFrame:
    """Result of a query on these published tables and on frames by their names; for tables of millions of rows.

    Raises:
        LakeError: a table was not published yet.
    """
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        pipeline.lake.create_published_views(connection, *tables)
        for name, frame in frames.items():
            connection.register(name, frame)
        return connection.sql(sql).df()


def rows_by_day(pipeline: Pipeline, dataset: Dataset) -> pd.Series:
    """How many rows of a raw dataset are stored of each day, up to the deployment's end, in the order of days.

    Days without rows are absent.
    """
    column = dataset.date_column
    assert column is not None
    counts: dict[date, int] = {}
    for file in pipeline.lake.raw_files(dataset):
        for one in read_table(file, columns=[column])[column].value_counts().to_pylist():
            counts[one["values"]] = counts.get(one["values"], 0) + one["counts"]
    rows = pd.Series(list(counts.values()), pd.DatetimeIndex(list(counts)), dtype="int64").sort_index()
    end = pipeline.deployment.end
    return rows[rows.index <= pd.Timestamp(end)] if end else rows
