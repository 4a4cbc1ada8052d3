"""Raw assets: one per dataset of the contract, ingested from the source into the lake.

Here: asking the source for a range of partitions and writing it. Not here: any repair or computation.
"""

from datetime import date, timedelta

import dagster as dg
import pandas as pd

from etf_pipeline.checks import expectations
from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.core.calendar import last_calendar_session
from etf_pipeline.partitions import raw_partitions, selected_window
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.sources.base import DISAGREEMENTS, NotAvailable, Source, SourceError, TransientSourceError
from etf_pipeline.sources.canonical import calendar_rows
from etf_pipeline.sources.units import NEIGHBOUR_DAYS, unit_faults

_PREVIEW_ROWS = 5
_MAX_RETRIES = 5


def raw_assets(start: date, end: date | None) -> list[dg.AssetsDefinition]:
    """An asset `raw/<dataset>` for every dataset of the contract, partitioned from `start` to `end`."""
    partitions = raw_partitions(start, end)
    return [_raw_asset(dataset, partitions[dataset.partition]) for dataset in load_contract().values()]


def _raw_asset(dataset: Dataset, partitions_def: dg.PartitionsDefinition | None) -> dg.AssetsDefinition:
    @dg.asset(
        key=["raw", dataset.name],
        group_name="raw",
        description=f"{dataset.description} {'Required.' if dataset.required else 'Optional.'}",
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run() if partitions_def else None,
        kinds={"parquet"},
        metadata={
            "dagster/column_schema": dg.TableSchema(
                columns=[
                    dg.TableColumn(c.name, c.type, f"{c.description}{f' [{c.unit}]' if c.unit else ''}")
                    for c in dataset.columns.values()
                ]
            )
        },
    )
    def ingest(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
        notes = pipeline.source_notes  # the source is checked before any of it is used
        start, end = selected_window(context) or pipeline.span
        if dataset.date_column is not None and pipeline.deployment.end:
            end = min(end, pipeline.deployment.end)
        try:
            frame = _fetch(pipeline.source, dataset, start, end)
        except TransientSourceError as error:
            raise dg.RetryRequested(_MAX_RETRIES, error.retry_after_seconds) from error
        if isinstance(frame, NotAvailable):
            if dataset.required:
                raise SourceError(f"{dataset.name} is required: {frame.reason}")
            context.log.info("%s: not available: %s", dataset.name, frame.reason)
            return dg.MaterializeResult(metadata={"available": False, "reason": frame.reason})
        _refuse_other_units(pipeline, dataset, frame, start, end)
        if dataset.name == "trading_calendar":
            start, end = frame["trade_date"].min().date(), frame["trade_date"].max().date()
        pipeline.lake.write_raw(dataset, frame, start, end)
        expectations.begin(pipeline.lake, dataset)
        metadata = _metadata(dataset, frame, pipeline.source.label, notes.get(dataset.name))
        if context.has_partition_key_range:
            # Dagster stores it with each of thousands of partitions, none of which it is the preview of
            del metadata["preview"]
        return dg.MaterializeResult(metadata=metadata)

    return ingest


def _fetch(source: Source, dataset: Dataset, start: date, end: date) -> pd.DataFrame | NotAvailable:
    if dataset.name == "trading_calendar":
        # the exchange announces its calendar a year ahead, so it is never cut at the end of the run
        return calendar_rows(date(1990, 1, 1), last_calendar_session())
    return source.fetch(dataset.name, start, end)


def _refuse_other_units(pipeline: Pipeline, dataset: Dataset, frame: pd.DataFrame, start: date, end: date) -> None:
    """Compare the units of the rows with those the lake holds of days before and after: one day alone may not tell.

    Raises:
        SourceError: they differ.
    """
    column = dataset.date_column
    if column is None or not any(c.steps for c in dataset.columns.values()):
        return
    stored = _stored_near(pipeline.lake, dataset, start, end)
    beside = stored[(stored[column] < pd.Timestamp(start)) | (stored[column] > pd.Timestamp(end))]

    def rows_near(name: str, day: pd.Timestamp) -> pd.DataFrame:
        return _stored_near(pipeline.lake, load_contract()[name], day, day)

    if len(beside) and (faults := unit_faults(dataset, frame, beside, rows_near)):
        found = "\n".join(f"{pipeline.source.label}: {dataset.name}: {f.rule}. {f.advice}." for f in faults)
        raise SourceError(f"{found}\nIf the rows in the lake are the wrong ones, ingest from the first of them on.")


def _stored_near(lake: Lake, dataset: Dataset, start: date, end: date) -> pd.DataFrame:
    """Stored rows of a dated dataset from NEIGHBOUR_DAYS before `start` to as many after `end`."""
    around = timedelta(days=NEIGHBOUR_DAYS)
    first, last = start - around, end + around
    rows = lake.read_raw(dataset, files=[f for f in lake.raw_files(dataset) if first.year <= int(f.stem) <= last.year])
    return rows[rows[dataset.date_column].between(pd.Timestamp(first), pd.Timestamp(last))]


def _metadata(
    dataset: Dataset, frame: pd.DataFrame, label: str, note: str | None
) -> dict[str, dg.MetadataValue | str | int | bool]:
    metadata: dict[str, dg.MetadataValue | str | int | bool] = {
        "available": True,
        "source": label,
        "dagster/row_count": len(frame),
        "preview": dg.MetadataValue.md(frame.tail(_PREVIEW_ROWS).to_markdown(index=False)),
    }
    instrument = dataset.key[0] if dataset.columns[dataset.key[0]].type == "code" else None
    if instrument:
        metadata["instruments"] = int(frame[instrument].nunique())
    if dataset.date_column and len(frame):
        metadata["first_date"] = f"{frame[dataset.date_column].min():%Y-%m-%d}"
        metadata["last_date"] = f"{frame[dataset.date_column].max():%Y-%m-%d}"
    if note:
        metadata["note"] = note
    if DISAGREEMENTS in frame.attrs:
        metadata["disagreements"] = dg.MetadataValue.md(frame.attrs[DISAGREEMENTS])
    return metadata
