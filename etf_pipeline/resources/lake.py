"""The lake: Parquet files written atomically, and the catalogue of views that users open.

    <lake>/lake.json                 which source fills this lake
    <lake>/raw/<dataset>/2024.parquet   canonical rows, one file a year (snapshots: snapshot.parquet)
    <lake>/archive/<dataset>/2024.parquet   what those rows were earlier, and when each date was ingested
    <lake>/published/<table>.parquet    results, one file a table
    <lake>/published/<table>/2024.parquet   those of millions of rows, one file a year
    <lake>/ledger/<table>.parquet       what was published when; only appended to
    <lake>/etf.duckdb                views over the published files
    <lake>/build/                    private: the warehouse, and what was found of files that need no second look

Every write goes to a temporary name first and is renamed when complete, so a reader sees the old file or the new
one and a killed process leaves nothing half-written. A file whose content would not change is not touched.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.resources.archive import rows_as_of, with_record
from etf_pipeline.resources.digests import digest_of

CATALOGUE = "etf.duckdb"
_LAYOUT = 1
_FILES_AT_ONCE = 2


class LakeError(Exception):
    """The lake holds something other than what is asked of it; the message says what to do."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if path.exists() and _same_bytes(path, temporary):
            return
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone; the system frees it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _same_bytes(left: Path, right: Path) -> bool:
    return left.stat().st_size == right.stat().st_size and left.read_bytes() == right.read_bytes()


def _write_table(table: pa.Table, path: Path) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def rows_in(files: Iterable[Path]) -> int:
    """How many rows these Parquet files hold."""
    return sum(pq.read_metadata(file).num_rows for file in files)


@dataclass(frozen=True)
class Lake:
    """Reads and writes one lake folder."""

    root: Path

    @property
    def catalogue(self) -> Path:
        """The DuckDB file users open."""
        return self.root / CATALOGUE

    @property
    def warehouse(self) -> Path:
        """The DuckDB file dbt builds in; private to the step that holds its lock."""
        return self.root / "build" / "warehouse.duckdb"

    def claim(self, source_label: str) -> None:
        """Bind the lake to one source, so that synthetic and real data never mix.

        Raises:
            LakeError: the lake already holds data of another source.
        """
        marker = self.root / "lake.json"
        with exclusive_lock(self.root / ".lock"):
            if marker.exists():
                owner = json.loads(marker.read_text(encoding="utf-8"))["source"]
                if owner != source_label:
                    raise LakeError(
                        f"lake {self.root} holds data of {owner!r}; it cannot also take {source_label!r}. "
                        "Choose another --lake, or remove this one."
                    )
                return
            with atomic_path(marker) as temporary:
                temporary.write_text(json.dumps({"source": source_label, "layout": _LAYOUT}) + "\n", encoding="utf-8")

    @property
    def source_label(self) -> str:
        """Name of the source that fills this lake.

        Raises:
            LakeError: nothing was ever written here.
        """
        marker = self.root / "lake.json"
        if not marker.exists():
            raise LakeError(f"no lake at {self.root}: run `etf-pipeline run --lake {self.root}` first")
        return json.loads(marker.read_text(encoding="utf-8"))["source"]

    def raw_folder(self, dataset: Dataset) -> Path:
        """Folder of one raw dataset."""
        return self.root / "raw" / dataset.name

    def raw_files(self, dataset: Dataset) -> list[Path]:
        """Parquet files of one raw dataset in time order; empty where nothing was ingested."""
        return sorted(self.raw_folder(dataset).glob("[!.]*.parquet"))

    def write_raw(self, dataset: Dataset, frame: pd.DataFrame, start: date, end: date) -> None:
        """Replace the rows of `dataset` dated start … end (snapshots: all rows) by `frame`, a canonical frame.

        Rows outside the range stay. The same frame written twice leaves the same bytes.

        Raises:
            LakeError: `frame` has rows outside the range.
        """
        # without pandas' own metadata, which would be there or not depending on what was merged
        incoming = pa.Table.from_pandas(frame, schema=dataset.schema, preserve_index=False).replace_schema_metadata()
        incoming = incoming.sort_by([(column, "ascending") for column in dataset.key])
        with exclusive_lock(self.raw_folder(dataset) / ".lock"):
            if dataset.date_column is None:
                path = self.raw_folder(dataset) / "snapshot.parquet"
                present = self._stored(dataset, path)
                self._replace(dataset, path, present, incoming, present.slice(0, 0))
                return
            dates = incoming[dataset.date_column]
            if len(dates) and (pc.min(dates).as_py() < start or pc.max(dates).as_py() > end):
                raise LakeError(f"{dataset.name}: rows outside {start} … {end}")
            years = pc.year(dates)

            def replace(year: int) -> None:
                path = self.raw_folder(dataset) / f"{year}.parquet"
                present = self._stored(dataset, path)
                day = present[dataset.date_column]
                outside = pc.or_(pc.less(day, pa.scalar(start)), pc.greater(day, pa.scalar(end)))
                inside = present.filter(pc.invert(outside))
                self._replace(dataset, path, inside, incoming.filter(pc.equal(years, year)), present.filter(outside))

            # Arrow leaves Python to others while it works, and no file has anything to do with another
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                list(pool.map(replace, range(start.year, end.year + 1)))

    @staticmethod
    def _stored(dataset: Dataset, path: Path) -> pa.Table:
        return pq.read_table(path, schema=dataset.schema) if path.exists() else dataset.schema.empty_table()

    def _replace(self, dataset: Dataset, path: Path, before: pa.Table, after: pa.Table, others: pa.Table) -> None:
        """Put `after` in the place of the rows `before` of a raw file, `others` being its rows that stay."""
        archive = self._archive_path(dataset, path)
        record = with_record(dataset, archive, before, after)
        if record is None:
            return
        _write_table(record, archive)
        rows = after  # in the order of the key, as all that is written is
        if others.num_rows:
            rows = pa.concat_tables([others, after]).sort_by([(column, "ascending") for column in dataset.key])
        if rows.num_rows:
            _write_table(rows, path)
        else:
            path.unlink(missing_ok=True)

    def _archive_path(self, dataset: Dataset, path: Path) -> Path:
        return self.root / "archive" / dataset.name / path.name

    def archive_files(self, dataset: Dataset) -> list[Path]:
        """Archive files of one raw dataset in time order; empty where nothing was ingested."""
        return sorted((self.root / "archive" / dataset.name).glob("[!.]*.parquet"))

    def restore(self, moment: datetime, target: Path) -> "Lake":
        """A lake at `target` whose raw data are what this one held at `moment` (aware). Unchanged files are shared.

        Files of an earlier restore are replaced; results that lie there stay.

        Raises:
            LakeError: nothing had been ingested by then.
        """
        restored = Lake(target)
        restored.claim(self.source_label)
        rows = 0
        for dataset in load_contract().values():
            for archive in self.archive_files(dataset):
                path = self.raw_folder(dataset) / archive.name
                current = self._stored(dataset, path)
                earlier = rows_as_of(dataset, archive, current, moment)
                rows += earlier.num_rows
                file = restored.raw_folder(dataset) / archive.name
                file.unlink(missing_ok=True)
                if earlier is current and path.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, file)
                elif earlier.num_rows:
                    _write_table(earlier, file)
        if rows == 0:
            raise LakeError(f"lake {self.root} held nothing at {moment:%Y-%m-%d %H:%M:%S %Z}")
        return restored

    def read_raw(self, dataset: Dataset, end: date | None = None, files: Sequence[Path] | None = None) -> pd.DataFrame:
        """All rows of a raw dataset, those after `end` left out; an empty frame where nothing was ingested.

        `files` narrows it to some of its files.
        """
        files = self.raw_files(dataset) if files is None else files
        if not files:
            return dataset.schema.empty_table().to_pandas()
        frame = pa.concat_tables([pq.read_table(f, schema=dataset.schema) for f in files]).to_pandas(
            date_as_object=False
        )
        if end is not None and dataset.date_column is not None:
            frame = frame[frame[dataset.date_column] <= pd.Timestamp(end)]
        return frame.reset_index(drop=True)

    def last_day(self, dataset: Dataset) -> date | None:
        """Day of the newest row of a dated raw dataset; None where nothing was ingested."""
        files = self.raw_files(dataset)
        column = dataset.date_column
        if not files or column is None:
            return None
        days = pq.read_table(files[-1], columns=[column])[column]
        return pc.max(days).as_py()

    def holds_day(self, dataset: Dataset, day: date) -> bool:
        """Whether a dated raw dataset has rows of `day`."""
        path = self.raw_folder(dataset) / f"{day.year}.parquet"
        column = dataset.date_column
        if not path.exists() or column is None:
            return False
        return pq.read_table(path, columns=[column], filters=[(column, "=", day)]).num_rows > 0

    def published_path(self, table: str, year: int | None = None) -> Path:
        """Parquet file of a published table, or of one of its years."""
        folder = self.root / "published"
        return folder / table / f"{year}.parquet" if year else folder / f"{table}.parquet"

    def published_years(self, table: str) -> dict[int, Path]:
        """Files of a table that is published by year; empty where it was not yet."""
        return {int(path.stem): path for path in sorted((self.root / "published" / table).glob("[!.]*.parquet"))}

    def published_files(self, table: str) -> list[Path]:
        """Files of a published table in time order; empty where it was not published yet."""
        one = self.published_path(table)
        return list(self.published_years(table).values()) or ([one] if one.exists() else [])

    def publish(self, table: str, rows: pa.Table, settings_hash: str) -> None:
        """Replace the published `table`; source and settings hash are stored in the file's metadata."""
        self._publish(self.published_path(table), rows, settings_hash)
        for path in self.published_years(table).values():
            path.unlink()

    def publish_years(
        self,
        table: str,
        years: Mapping[int, Callable[[], pa.Table] | None],
        settings_hash: str,
        made_from: Mapping[int, str] | None = None,
    ) -> None:
        """Replace the published `table` by these years, of which there is one at least; one given as None stays.

        `made_from` is kept with the files too: a digest of all that the rows of a year depend on. Files are replaced
        one by one: a reader who comes in between sees new years beside old ones.
        """

        def replace(year: int) -> None:
            if rows := years[year]:
                digest = {"made_from": made_from[year]} if made_from else {}
                self._publish(self.published_path(table, year), rows(), settings_hash, **digest)

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            list(pool.map(replace, years))
        for year, path in self.published_years(table).items():
            if year not in years:
                path.unlink()
        # there had been no rows, or no years yet
        self.published_path(table).unlink(missing_ok=True)

    @staticmethod
    def made_from(path: Path) -> str | None:
        """Digest of what a published file was made from, where that was kept."""
        digest = (pq.read_schema(path).metadata or {}).get(b"made_from")
        return digest.decode() if digest else None

    def _publish(self, path: Path, rows: pa.Table, settings_hash: str, **metadata: str) -> None:
        metadata |= {"source": self.source_label, "settings_hash": settings_hash}
        _write_table(rows.replace_schema_metadata(metadata), path)

    def read_published(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Rows of a published table, or some of its columns (dates as datetime64).

        Raises:
            LakeError: the table was not published yet, or lacks a column.
        """
        return self.published_rows(table, columns).to_pandas(date_as_object=False)

    def published_rows(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a published table as they are stored, or some of its columns; raises as `read_published`."""
        files = self._published(table)
        lacking = set(columns or ()) - set(pq.read_schema(files[0]).names)
        if lacking:
            names = ", ".join(sorted(lacking))
            raise LakeError(f"table {table} has no column {names}: materialise what makes it again")
        return pa.concat_tables([pq.read_table(file, columns=list(columns) if columns else None) for file in files])

    def _published(self, table: str) -> list[Path]:
        files = self.published_files(table)
        if not files:
            raise LakeError(f"table {table} is not in lake {self.root} yet: materialise what makes it first")
        return files

    def ledger_path(self, table: str) -> Path:
        """Parquet file of a table that is only appended to."""
        return self.root / "ledger" / f"{table}.parquet"

    @contextmanager
    def appending(self, table: str, schema: pa.Schema) -> Iterator[tuple[pa.Table, Callable[[pa.Table], None]]]:
        """Rows of a ledger and a function that appends to it, with nobody else writing until the block ends."""
        path = self.ledger_path(table)
        with exclusive_lock(path.with_name(f".{table}.lock")):
            present = pq.read_table(path, schema=schema) if path.exists() else schema.empty_table()
            yield present, lambda rows: _write_table(pa.concat_tables([present, rows]), path)

    def published_tables(self) -> list[str]:
        """Names of the published tables, sorted."""
        names = {path.stem for path in (self.root / "published").glob("[!.]*")}
        return sorted(name for name in names if self.published_files(name))

    def build_catalogue(self, anew: bool = False) -> Path:
        """Bring the catalogue up to date and swap it in: a view for every published table and every raw dataset.

        To make a view opens a file, so those that are there and whose files still have the same columns are kept, if
        it is not to be made `anew`.
        """
        made_of = self.root / "build" / "catalogue.json"
        with exclusive_lock(self.root / ".catalogue.lock"):
            views = self._views()
            may_keep = not anew and made_of.exists() and self.catalogue.exists()
            kept = json.loads(made_of.read_text()) if may_keep else {}
            if views == kept:
                return self.catalogue
            with atomic_path(self.catalogue) as temporary:
                if kept:
                    shutil.copyfile(self.catalogue, temporary)
                try:
                    _make_views(temporary, kept, views)
                except duckdb.Error:
                    # whatever happened to the one that is there
                    temporary.unlink(missing_ok=True)
                    _make_views(temporary, {}, views)
            # killed before this, the next one makes the same views again
            with atomic_path(made_of) as temporary:
                temporary.write_text(json.dumps(views, indent=0))
        return self.catalogue

    def _views(self) -> dict[str, list[str]]:
        """The catalogue's views by name: what they read, and a digest of its columns."""
        reads: dict[str, tuple[Path, Path]] = {}
        for table in self.published_tables():
            one, years = self.published_path(table), self.published_years(table)
            first = next(iter(years.values()), one)
            reads[f"main.{table}"] = (first, one.with_suffix("") / "[0-9]*.parquet" if years else one)
        for ledger in sorted((self.root / "ledger").glob("[!.]*.parquet")):
            reads[f"main.{ledger.stem}"] = (ledger, ledger)
        for schema, files_of in (("raw", self.raw_files), ("archive", self.archive_files)):
            for dataset in load_contract().values():
                if files := files_of(dataset):
                    reads[f"{schema}.{dataset.name}"] = (files[0], files[0].parent / "[0-9s]*.parquet")
        return {name: [str(files), _columns_digest(first)] for name, (first, files) in reads.items()}

    def create_published_views(self, connection: duckdb.DuckDBPyConnection, *tables: str) -> None:
        """Views of published tables under their names.

        Raises:
            LakeError: a table was not published yet.
        """
        for table in tables:
            _create_view(connection, table, self._published(table))

    def create_raw_views(self, connection: duckdb.DuckDBPyConnection, end: date | None) -> None:
        """Views `raw.<dataset>` over the raw files, typed and empty where a dataset is absent.

        Rows dated after `end` are left out, except the calendar's, which is known in advance.
        """
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for dataset in load_contract().values():
            files = self.raw_files(dataset)
            if not files:
                _create_view_as(connection, f"raw.{dataset.name}", _empty_select(dataset))
                continue
            cut = dataset.date_column if end is not None and dataset.name != "trading_calendar" else None
            where = f" WHERE {cut} <= DATE '{end}'" if cut else ""
            _create_view_as(connection, f"raw.{dataset.name}", f"SELECT * FROM {_scan(files)}{where}")


def _make_views(catalogue: Path, kept: Mapping[str, list[str]], views: Mapping[str, list[str]]) -> None:
    """Make those of the views that are not `kept` as they are, and drop those that are no longer wanted."""
    with duckdb.connect(catalogue) as connection:
        for schema in ("raw", "archive"):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for name in kept.keys() - views.keys():
            connection.execute(f"DROP VIEW IF EXISTS {name}")
        for name, view in views.items():
            if kept.get(name) != view:
                _create_view(connection, name, [Path(view[0])])


def _columns_digest(file: Path) -> str:
    return digest_of(pq.read_schema(file).remove_metadata().to_string(show_field_metadata=False))


def _scan(files: list[Path]) -> str:
    names = ", ".join("'" + str(f.absolute()).replace("'", "''") + "'" for f in files)
    return f"read_parquet([{names}])"


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, files: list[Path]) -> None:
    _create_view_as(connection, name, f"SELECT * FROM {_scan(files)}")


def _create_view_as(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")


_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.bool_(): "BOOLEAN",
}


def _empty_select(dataset: Dataset) -> str:
    columns = ", ".join(f"NULL::{_SQL_TYPES.get(f.type, 'TIMESTAMPTZ')} AS {f.name}" for f in dataset.schema)
    return f"SELECT {columns} WHERE false"
