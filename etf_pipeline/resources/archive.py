"""Earlier versions of raw rows, so that a run can be repeated on what was known at an earlier moment.

Beside every raw file lies one archive file. Each write that changes something adds a record to it: a marker for every
date it changed, and the rows of these dates as they were before. Rows that were never changed are stored once, in the
raw file; a date's first ingestion is a marker alone.

Here: what a record holds and how an earlier state follows from records. Not here: when a raw file is written
(`lake.py`). The archive is written before the raw file: a kill between the two leaves a record of a change that has
not happened, which undoes to the same rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etf_pipeline.contract import Dataset
from etf_pipeline.resources.storage import read_table

SEQUENCE, INGESTED_AT, IS_MARKER = "archive_sequence", "ingested_at", "is_marker"


def archive_schema(dataset: Dataset) -> pa.Schema:
    """Columns of the dataset, all optional, and of the record: its number, when it was made, and what is a marker."""
    own = [field.with_nullable(True) for field in dataset.schema]
    return pa.schema(
        [*own, (SEQUENCE, pa.int32()), (INGESTED_AT, pa.timestamp("us", tz="UTC")), (IS_MARKER, pa.bool_())]
    )


def with_record(
    dataset: Dataset, archive: Path, before: pa.Table, after: pa.Table, recorded_until: datetime | None = None
) -> pa.Table | None:
    """The archive's rows and a record of replacing the rows `before` of a raw file by `after`; None if nothing changes.

    Records are numbered. No record is older than the one before it, and each is later than `recorded_until`, the newest
    entry of the lake's ledger, whatever the clock does: what came after an entry can be told from what it knew.
    """
    dates = changed_dates(dataset, before, after)
    if not dates:
        return None
    schema = archive_schema(dataset)
    present = read_table(archive, schema=schema) if archive.exists() else schema.empty_table()
    number, moment = 0, datetime.now(UTC)
    if recorded_until:
        moment = max(moment, recorded_until + timedelta(microseconds=1))
    if present.num_rows:
        number = pc.max(present[SEQUENCE]).as_py() + 1
        moment = max(moment, pc.max(present[INGESTED_AT]).as_py())
    column = dataset.date_column
    replaced = before if column is None else before.filter(pc.is_in(before[column], pa.array(dates, pa.date32())))
    markers = {column: dates} if column else {}
    rows = [
        _record_rows(schema, markers, len(dates), number, moment, is_marker=True),
        _record_rows(
            schema, {n: replaced[n] for n in replaced.column_names}, replaced.num_rows, number, moment, is_marker=False
        ),
    ]
    return pa.concat_tables([present, *rows])


def held_before(dataset: Dataset, archive: Path, rows: pa.Table) -> tuple[pa.Table, tuple[date, date] | None]:
    """Those of the rows that were there before, by their dates, and the first and last date that had any."""
    column = dataset.date_column
    if column is None:
        return rows, None
    dates = read_table(archive, columns=[column])[column].combine_chunks()
    return rows.filter(pc.is_in(rows[column], dates)), (pc.min(dates).as_py(), pc.max(dates).as_py())


def _record_rows(
    schema: pa.Schema, columns: Mapping[str, object], rows: int, number: int, moment: datetime, *, is_marker: bool
) -> pa.Table:
    fixed = {SEQUENCE: number, INGESTED_AT: moment, IS_MARKER: is_marker}
    return pa.table(
        [
            pa.array([fixed[f.name]] * rows, f.type) if f.name in fixed else _column(columns.get(f.name), rows, f.type)
            for f in schema
        ],
        schema=schema,
    )


def _column(values: object, rows: int, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    if values is None:
        return pa.nulls(rows, kind)
    return values.cast(kind) if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)


def changed_dates(dataset: Dataset, before: pa.Table, after: pa.Table) -> list[date | None]:
    """Dates whose rows differ between the two, ascending; for a dataset without dates [None] or nothing."""
    if before.equals(after):
        return []
    column = dataset.date_column
    if column is None:
        return [None]
    if before.num_rows == 0:
        return sorted(pc.unique(after[column]).to_pylist())
    with duckdb.connect() as connection:
        connection.register("earlier", before)
        connection.register("later", after)
        rows = connection.execute(
            f"""
            SELECT DISTINCT {column} FROM (
                (FROM earlier EXCEPT ALL FROM later) UNION ALL (FROM later EXCEPT ALL FROM earlier)
            ) ORDER BY ALL
            """
        ).fetchall()
    return [row[0] for row in rows]


def rows_as_of(dataset: Dataset, archive: Path, current: pa.Table, moment: datetime) -> pa.Table:
    """Rows of a raw file as they were at `moment`, sorted by key; `current` where nothing was written since."""
    if not archive.exists():
        return current
    schema = archive_schema(dataset)
    records = read_table(archive, schema=schema)
    later = records.filter(pc.greater(records[INGESTED_AT], pa.scalar(moment, schema.field(INGESTED_AT).type)))
    if later.num_rows == 0:
        return current
    column = dataset.date_column
    if column is None:
        first = later.filter(pc.equal(later[SEQUENCE], pc.min(later[SEQUENCE])))
        return _own_rows(dataset, first)
    # of each date the first record since then holds what it was before
    firsts = later.group_by(column).aggregate([(SEQUENCE, "min")])
    joined = later.join(firsts, column)
    undone = joined.filter(pc.equal(joined[SEQUENCE], joined[f"{SEQUENCE}_min"]))
    kept = current.filter(pc.invert(pc.is_in(current[column], firsts[column].combine_chunks())))
    return pa.concat_tables([kept, _own_rows(dataset, undone)]).sort_by([(key, "ascending") for key in dataset.key])


def _own_rows(dataset: Dataset, records: pa.Table) -> pa.Table:
    rows = records.filter(pc.invert(records[IS_MARKER])).select(dataset.schema.names)
    return rows.sort_by([(key, "ascending") for key in dataset.key]).cast(dataset.schema)


def changes(dataset: Dataset, archives: Sequence[Path]) -> pd.DataFrame:
    """What was ever written of a dataset: one row per write and date.

    Columns `day` (a date, None for a dataset without dates), `ingested_at` and `replaced`: how many rows the date had
    replaced or removed, 0 where its rows came late or new.
    """
    column = dataset.date_column
    parts = [
        read_table(archive, columns=[*([column] if column else []), INGESTED_AT, IS_MARKER]) for archive in archives
    ]
    if not parts:
        return pd.DataFrame({"day": [], INGESTED_AT: pd.DatetimeIndex([], tz="UTC"), "replaced": []})
    records = pa.concat_tables(parts).to_pandas(date_as_object=True)
    records = records.assign(day=records[column] if column else None, replaced=~records[IS_MARKER])
    return records.groupby(["day", INGESTED_AT], dropna=False, as_index=False)["replaced"].sum()


def newest(archives: Iterable[Path]) -> datetime | None:
    """Moment of the newest of all records of these archives."""
    moments = (pc.max(read_table(archive, columns=[INGESTED_AT])[INGESTED_AT]).as_py() for archive in archives)
    return max(filter(None, moments), default=None)
