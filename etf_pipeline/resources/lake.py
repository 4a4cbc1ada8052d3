"""The lake: Parquet files written atomically, and the catalogue of views that users open.

    <lake>/lake.json                 which source fills this lake, of which folder; which files must be there
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
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.resources.archive import held_before, rows_as_of, with_record
from etf_pipeline.resources.digests import digest_of
from etf_pipeline.resources.storage import (
    LakeError,
    advice,
    atomic_path,
    damage,
    exclusive_lock,
    kept_json,
    open_table,
    quoted,
    read_bytes,
    read_json,
    read_table,
    seal,
    set_aside,
    write_json,
    write_table,
)

CATALOGUE = "etf.duckdb"
RECORDED_AT = "recorded_at"
"""Column of every ledger: when an entry was made."""

_LAYOUT = 2
"""Since 2 every Parquet file carries its digest, and lake.json remembers what cannot be made anew."""
_KINDS = ("raw", "archive", "ledger", "published")
_KEPT = ("raw", "archive", "ledger")
_FILES_AT_ONCE = 2
_UNFIT = "?%"
"""What SQLAlchemy, for Dagster, and DuckDB take for something else than a part of a path."""


_at_work: set[Path] = set()
"""Lock files of the lakes this process is at work on."""


@dataclass(frozen=True)
class Lake:
    """Reads and writes one lake folder."""

    root: Path
    candidates: Path | None = None
    """Folder of tables that are read in the place of published ones of their names."""

    @property
    def catalogue(self) -> Path:
        """The DuckDB file users open."""
        return self.root / CATALOGUE

    @property
    def warehouse(self) -> Path:
        """The DuckDB file dbt builds in; private to the step that holds its lock."""
        return self.root / "build" / "warehouse.duckdb"

    @contextmanager
    def at_work(self, tell: Callable[[str], object]) -> Iterator[None]:
        """Be the one run that works on the lake, whether a command's or the daemon's; wait for another to end.

        The other run is named once. A process that already holds the lake goes on.
        """
        path = self.root / ".run.lock"
        if path in _at_work:
            yield
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                other = handle.read().strip() or "of another process"
                tell(f"Another run ({other}) works on lake {self.root}; waiting for it to end.")
                fcntl.flock(handle, fcntl.LOCK_EX)
            handle.truncate(0)
            handle.write(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
            handle.flush()
            _at_work.add(path)
            try:
                yield
            finally:
                _at_work.discard(path)

    def remove_warehouse(self) -> None:
        """Have the next build make everything anew; no other process may have the warehouse open."""
        for path in (self.warehouse, self.warehouse.with_name(f"{self.warehouse.name}.wal")):
            path.unlink(missing_ok=True)

    def claim(self, source_label: str, folder: Path | None = None) -> None:
        """Bind the lake to one source, and to the folder it reads if there is one, so that data never mix.

        A lake of an earlier version gets the digests its files lack.

        Raises:
            LakeError: the lake holds data of another source or folder; or what cannot be made anew is gone from it; or
                its path is one that DuckDB and Dagster take for something else.
        """
        if unfit := sorted(set(_UNFIT) & set(str(self.root.absolute()))):
            raise LakeError(
                f"no lake can lie in {self.root}: choose a --lake without {' and '.join(unfit)} in its path"
            )
        with exclusive_lock(self.root / ".lock"):
            if not self._marker.exists():
                if self.parquet_files():
                    raise LakeError(f"{self._marker} is gone, though there are data beside it. {advice(self._marker)}")
                self._write_identity({"source": source_label, "folder": _name(folder), "kept": []})
            identity = self._identity()
            if folder and identity["folder"] not in (None, _name(folder)):
                raise LakeError(
                    f"lake {self.root} holds data of the folder {identity['folder']}; it cannot also take those of "
                    f"{folder}. Choose another --lake; or, if the folder has moved: "
                    f"`etf-pipeline rebind --data {quoted(folder)} --lake {quoted(self.root)}`"
                )
            if identity["source"] != source_label:
                raise LakeError(
                    f"lake {self.root} holds data of {identity['source']!r}; it cannot also take {source_label!r}. "
                    "Choose another --lake, or remove this one."
                )
            if identity["layout"] < _LAYOUT:
                for path in self.parquet_files():
                    seal(path)
                identity["kept"] = sorted(self._present())
            if identity["layout"] < _LAYOUT or (folder and identity["folder"] is None):
                self._write_identity({**identity, "folder": _name(folder) or identity["folder"]})
        self.require(self.root / "archive", self.root / "ledger")

    def rebind(self, source_label: str, folder: Path | None = None) -> None:
        """Say anew what the lake is of: its folder has moved, or `lake.json` is damaged or gone."""
        with exclusive_lock(self.root / ".lock"):
            identity = kept_json(self._marker)
            kept = sorted(self._present().union(identity.get("kept", [])))
            self._write_identity({"source": source_label, "folder": _name(folder), "kept": kept})

    @property
    def _marker(self) -> Path:
        return self.root / "lake.json"

    @property
    def bound_to(self) -> tuple[str, Path | None] | None:
        """Name of the source that fills this lake, and the folder it reads if there is one; None of an empty lake.

        Raises:
            LakeError: `lake.json` is damaged.
        """
        if not self._marker.exists():
            return None
        identity = self._identity()
        return str(identity["source"]).split(" ")[0], Path(identity["folder"]) if identity["folder"] else None

    def _identity(self) -> dict[str, Any]:
        """What `lake.json` says: `source`, `folder`, `layout`, and `kept`, the files that no run makes."""
        try:
            return {"folder": None, "kept": [], **read_json(self._marker)}
        except FileNotFoundError:
            command = f"etf-pipeline run --lake {quoted(self.root)}"
            raise LakeError(f"no lake at {self.root}: run `{command}` first") from None

    def _write_identity(self, identity: dict[str, Any]) -> None:
        write_json(self._marker, {**identity, "layout": _LAYOUT})

    def _present(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.parquet_files(*_KEPT)}

    def _remember(self) -> None:
        """Have it noticed from now on when a raw file, a file of the archive or a ledger that is there is gone.

        They are remembered once they are there: a kill in between leaves the next writer to remember them.
        """
        if self._marker.exists() and self._present() - set(self._identity()["kept"]):
            with exclusive_lock(self.root / ".lock"):
                identity = self._identity()
                self._write_identity({**identity, "kept": sorted(self._present().union(identity["kept"]))})

    def _forget(self, path: Path) -> None:
        if self._marker.exists():
            with exclusive_lock(self.root / ".lock"):
                identity = self._identity()
                kept = [name for name in identity["kept"] if self.root / name != path]
                self._write_identity({**identity, "kept": kept})

    def gone(self, *folders: Path) -> list[Path]:
        """Raw files, files of the archive and ledgers that were there once and are no more, in these folders or all."""
        kept = [self.root / name for name in self._identity()["kept"]] if self._marker.exists() else []
        return [
            path
            for path in kept
            if not path.exists() and (not folders or any(path.is_relative_to(folder) for folder in folders))
        ]

    def require(self, *folders: Path) -> None:
        """Require that nothing in these folders is gone.

        Raises:
            LakeError: a file is gone; the message says what to do.
        """
        if gone := self.gone(*folders):
            more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
            raise LakeError(f"{gone[0]} is gone{more}. {advice(gone[0])}")

    def give_up(self, path: Path) -> None:
        """Go on without a ledger or a file of the archive that is damaged or gone; a damaged one is set aside.

        Raises:
            LakeError: it is none of these.
        """
        path = self.root / path
        if not any(path.is_relative_to(self.root / kind) for kind in ("archive", "ledger")) or not (
            path in self.gone() or (path.exists() and damage(path))
        ):
            raise LakeError(f"{path} is no damaged or missing file of the archive or the ledger of lake {self.root}")
        self._forget(path)
        set_aside(path)

    def parquet_files(self, *kinds: str) -> list[Path]:
        """Parquet files of the folders raw, archive, ledger and published, or some of them, sorted."""
        return [path for kind in kinds or _KINDS for path in sorted((self.root / kind).rglob("[!.]*.parquet"))]

    @property
    def source_label(self) -> str:
        """Name of the source that fills this lake.

        Raises:
            LakeError: nothing was ever written here, or by an earlier version alone.
        """
        identity = self._identity()
        if identity["layout"] < _LAYOUT:
            raise LakeError(
                f"lake {self.root} was made by an earlier version: `etf-pipeline run` with its source brings it up to "
                "date, without losing anything"
            )
        return identity["source"]

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
        self.require(self.root / "archive" / dataset.name)
        lost = self.gone(self.raw_folder(dataset))
        with exclusive_lock(self.raw_folder(dataset) / ".lock"):
            if dataset.date_column is None:
                path = self.raw_folder(dataset) / "snapshot.parquet"
                present = self._stored(dataset, path)
                before = self._taken_as_given(dataset, path, incoming, start, end) if path in lost else present
                self._replace(dataset, path, before, incoming, present.slice(0, 0))
                self._remember()
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
                inside, new = present.filter(pc.invert(outside)), incoming.filter(pc.equal(years, year))
                if path in lost:
                    inside = self._taken_as_given(dataset, path, new, start, end)
                self._replace(dataset, path, inside, new, present.filter(outside))

            # Arrow leaves Python to others while it works, and no file has anything to do with another
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                list(pool.map(replace, range(start.year, end.year + 1)))
        self._remember()

    @staticmethod
    def _stored(dataset: Dataset, path: Path) -> pa.Table:
        return read_table(path, schema=dataset.schema) if path.exists() else dataset.schema.empty_table()

    def _replace(self, dataset: Dataset, path: Path, before: pa.Table, after: pa.Table, others: pa.Table) -> None:
        """Put `after` in the place of the rows `before` of a raw file, `others` being its rows that stay."""
        archive = self._archive_path(dataset, path)
        if archive.exists():
            # whole even where nothing is to be added
            read_bytes(archive)
        record = with_record(dataset, archive, before, after, self.last_recording())
        if record is None and (path.exists() or after.num_rows == 0):
            return
        if record:
            write_table(record, archive)
        rows = after  # in the order of the key, as all that is written is
        if others.num_rows:
            rows = pa.concat_tables([others, after]).sort_by([(column, "ascending") for column in dataset.key])
        if rows.num_rows:
            write_table(rows, path)
        elif path.exists():
            self._forget(path)
            path.unlink()

    def _taken_as_given(self, dataset: Dataset, path: Path, rows: pa.Table, start: date, end: date) -> pa.Table:
        """Those of the rows that come in that a lost raw file is taken to have held.

        Raises:
            LakeError: it held rows outside start … end, which would be lost for good.
        """
        archive = self._archive_path(dataset, path)
        if not archive.exists():
            return rows.slice(0, 0)
        held, span = held_before(dataset, archive, rows)
        if span and (span[0] < start or span[1] > end):
            raise LakeError(
                f"{path} is gone, which held {span[0]} … {span[1]}: ingest these days of raw/{dataset.name} in one go, "
                f"as `etf-pipeline run --lake {quoted(self.root)}` does, not {start} … {end} alone"
            )
        return held

    def _archive_path(self, dataset: Dataset, path: Path) -> Path:
        return self.root / "archive" / dataset.name / path.name

    def archive_files(self, dataset: Dataset) -> list[Path]:
        """Archive files of one raw dataset in time order; empty where nothing was ingested."""
        return sorted((self.root / "archive" / dataset.name).glob("[!.]*.parquet"))

    def restore(self, moment: datetime | None, target: Path) -> "Lake":
        """A lake at `target` whose raw data are what this one held at `moment` (aware), or holds now.

        Unchanged files are shared. Files of an earlier restore are replaced; results that lie there stay.

        Raises:
            LakeError: nothing had been ingested by then.
        """
        self.require(self.root / "raw", self.root / "archive")
        restored = Lake(target)
        restored.claim(self.source_label)
        rows = 0
        for dataset in load_contract().values():
            for archive in self.archive_files(dataset):
                path = self.raw_folder(dataset) / archive.name
                current = self._stored(dataset, path)
                earlier = rows_as_of(dataset, archive, current, moment) if moment else current
                rows += earlier.num_rows
                file = restored.raw_folder(dataset) / archive.name
                file.unlink(missing_ok=True)
                if earlier is current and path.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, file)
                elif earlier.num_rows:
                    write_table(earlier, file)
        if rows == 0:
            at = f" at {moment:%Y-%m-%d %H:%M:%S %Z}" if moment else ""
            raise LakeError(f"lake {self.root} held nothing{at}")
        return restored

    def read_raw(self, dataset: Dataset, end: date | None = None, files: Sequence[Path] | None = None) -> pd.DataFrame:
        """All rows of a raw dataset, those after `end` left out; an empty frame where nothing was ingested.

        `files` narrows it to some of its files.
        """
        if files is None:
            self.require(self.raw_folder(dataset))
            files = self.raw_files(dataset)
        if not files:
            return dataset.schema.empty_table().to_pandas()
        frame = pa.concat_tables([read_table(f, schema=dataset.schema) for f in files]).to_pandas(date_as_object=False)
        if end is not None and dataset.date_column is not None:
            frame = frame[frame[dataset.date_column] <= pd.Timestamp(end)]
        return frame.reset_index(drop=True)

    def last_day(self, dataset: Dataset) -> date | None:
        """Day of the newest row of a dated raw dataset; None where nothing was ingested."""
        files = self.raw_files(dataset)
        column = dataset.date_column
        if not files or column is None:
            return None
        days = read_table(files[-1], columns=[column])[column]
        return pc.max(days).as_py()

    def first_day(self, dataset: Dataset) -> date | None:
        """Day of the oldest row of a dated raw dataset; None where nothing was ingested."""
        files = self.raw_files(dataset)
        column = dataset.date_column
        return pc.min(read_table(files[0], columns=[column])[column]).as_py() if files and column else None

    def holds_day(self, dataset: Dataset, day: date) -> bool:
        """Whether a dated raw dataset has rows of `day`."""
        path = self.raw_folder(dataset) / f"{day.year}.parquet"
        column = dataset.date_column
        if not path.exists() or column is None:
            return False
        return read_table(path, columns=[column], filters=[(column, "=", day)]).num_rows > 0

    def published_path(self, table: str, year: int | None = None) -> Path:
        """Parquet file of a published table, or of one of its years."""
        folder = self.root / "published"
        if self.candidates and (self.candidates / f"{table}.parquet").exists():
            folder = self.candidates
        return folder / table / f"{year}.parquet" if year else folder / f"{table}.parquet"

    def with_candidate(self, table: str, rows: pa.Table, settings_hash: str) -> "Lake":
        """This lake with these rows in the place of the published `table`, to be judged before they replace it."""
        folder = self.root / "build" / "candidate"
        self._publish(folder / f"{table}.parquet", rows, settings_hash)
        return Lake(self.root, folder)

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
        """Digest of what a published file was made from, where that was kept and the file is whole."""
        if damage(path):
            return None
        digest = (open_table(path).schema_arrow.metadata or {}).get(b"made_from")
        return digest.decode() if digest else None

    def _publish(self, path: Path, rows: pa.Table, settings_hash: str, **metadata: str) -> None:
        metadata |= {"source": self.source_label, "settings_hash": settings_hash}
        write_table(rows.replace_schema_metadata(metadata), path)

    def read_published(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Rows of a published table, or some of its columns (dates as datetime64).

        Raises:
            LakeError: the table was not published yet, or lacks a column.
        """
        return self.published_rows(table, columns).to_pandas(date_as_object=False)

    def published_rows(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a published table as they are stored, or some of its columns; raises as `read_published`."""
        files = self._published(table)
        lacking = set(columns or ()) - set(open_table(files[0]).schema_arrow.names)
        if lacking:
            names = ", ".join(sorted(lacking))
            raise LakeError(f"table {table} has no column {names}: materialise what makes it again")
        return pa.concat_tables([read_table(file, columns=list(columns) if columns else None) for file in files])

    def _published(self, table: str) -> list[Path]:
        files = self.published_files(table)
        if not files:
            raise LakeError(f"table {table} is not in lake {self.root} yet: materialise what makes it first")
        return files

    def ledger_path(self, table: str) -> Path:
        """Parquet file of a table that is only appended to."""
        return self.root / "ledger" / f"{table}.parquet"

    def last_recording(self) -> datetime | None:
        """Moment of the newest entry of any ledger."""
        moments = [
            pc.max(read_table(path, columns=[RECORDED_AT])[RECORDED_AT]).as_py()
            for path in sorted((self.root / "ledger").glob("[!.]*.parquet"))
        ]
        return max(filter(None, moments), default=None)

    @contextmanager
    def appending(self, table: str, schema: pa.Schema) -> Iterator[tuple[pa.Table, Callable[[pa.Table], None]]]:
        """Rows of a ledger and a function that appends to it, with nobody else writing until the block ends."""
        path = self.ledger_path(table)
        with exclusive_lock(path.with_name(f".{table}.lock")):
            self.require(path.parent)
            present = read_table(path, schema=schema) if path.exists() else schema.empty_table()
            yield present, lambda rows: write_table(pa.concat_tables([present, rows]), path)
            self._remember()

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
            views = self.views()
            may_keep = not anew and made_of.exists() and self.catalogue.exists()
            kept = kept_json(made_of) if may_keep else {}
            if views == kept and _opens(self.catalogue):
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
            write_json(made_of, views, indent=0)
        return self.catalogue

    def views(self) -> dict[str, list[str]]:
        """The catalogue's views by name: what they read, and a digest of its columns."""
        reads: dict[str, tuple[Path, str]] = {}
        for table in self.published_tables():
            one, years = self.published_path(table), self.published_years(table)
            first = next(iter(years.values()), one)
            reads[f"main.{table}"] = (
                first,
                _pattern(one.with_suffix(""), "[0-9]*.parquet") if years else _pattern(one),
            )
        for ledger in sorted((self.root / "ledger").glob("[!.]*.parquet")):
            reads[f"main.{ledger.stem}"] = (ledger, _pattern(ledger))
        for schema, files_of in (("raw", self.raw_files), ("archive", self.archive_files)):
            for dataset in load_contract().values():
                if files := files_of(dataset):
                    reads[f"{schema}.{dataset.name}"] = (files[0], _pattern(files[0].parent, "[0-9s]*.parquet"))
        digests = {first: _columns_digest(first) for first, _ in reads.values()}
        # a file that cannot be read has no view until it is made anew
        return {name: [files, digests[first]] for name, (first, files) in reads.items() if digests[first]}

    def create_published_views(self, connection: duckdb.DuckDBPyConnection, *tables: str) -> None:
        """Views of published tables under their names, of files that are whole now: DuckDB looks at no digest.

        Raises:
            LakeError: a table was not published yet, or a file is damaged.
        """
        for table in tables:
            _create_view(connection, table, map(_pattern, whole(self._published(table))))

    def create_raw_views(self, connection: duckdb.DuckDBPyConnection, end: date | None) -> None:
        """Views `raw.<dataset>` over the raw files, typed and empty where a dataset is absent.

        Rows dated after `end` are left out, except the calendar's, which is known in advance.

        Raises:
            DamagedFile: a file is not what was written. DuckDB looks at no digest, so all are looked at here.
        """
        connection.execute("CREATE SCHEMA IF NOT EXISTS raw")
        for dataset in load_contract().values():
            self.require(self.raw_folder(dataset))
            files = whole(self.raw_files(dataset))
            if not files:
                _create_view_as(connection, f"raw.{dataset.name}", _empty_select(dataset))
                continue
            cut = dataset.date_column if end is not None and dataset.name != "trading_calendar" else None
            where = f" WHERE {cut} <= DATE '{end}'" if cut else ""
            _create_view_as(connection, f"raw.{dataset.name}", f"SELECT * FROM {_scan(map(_pattern, files))}{where}")


def _opens(catalogue: Path) -> bool:
    """Whether the catalogue can be read; DuckDB looks at the checksum of every block it reads."""
    try:
        with duckdb.connect(catalogue, read_only=True) as connection:
            connection.execute("FROM duckdb_views()").fetchall()
    except duckdb.Error:
        return False
    return True


def _make_views(catalogue: Path, kept: Mapping[str, list[str]], views: Mapping[str, list[str]]) -> None:
    """Make those of the views that are not `kept` as they are, and drop those that are no longer wanted."""
    with duckdb.connect(catalogue) as connection:
        for schema in ("raw", "archive"):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for name in kept.keys() - views.keys():
            connection.execute(f"DROP VIEW IF EXISTS {view_name(name)}")
        for name, view in views.items():
            if kept.get(name) != view:
                _create_view(connection, name, [view[0]])


def _name(folder: Path | None) -> str | None:
    return str(folder.resolve()) if folder else None


def whole(files: list[Path]) -> list[Path]:
    """The files, none of which is damaged.

    Raises:
        DamagedFile: one is.
    """
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for error in pool.map(damage, files):
            if error:
                raise error
    return files


def _columns_digest(file: Path) -> str:
    """Digest of the columns of a file; of its footer alone, since what it is for is no result."""
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError):
        return ""
    return digest_of(schema.remove_metadata().to_string(show_field_metadata=False))


def _pattern(path: Path, names: str = "") -> str:
    """What DuckDB takes for exactly this path, or for the files in it with such names."""
    exactly = re.sub(r"[*?\[]", r"[\g<0>]", str(path.absolute()))
    return f"{exactly}/{names}" if names else exactly


def _scan(patterns: Iterable[str]) -> str:
    # a view's query takes no parameters
    texts = ", ".join("'" + pattern.replace("'", "''") + "'" for pattern in patterns)
    # without a look at folders that are named like `year=2024`
    return f"read_parquet([{texts}], hive_partitioning = false)"


def view_name(name: str) -> str:
    """`schema.table`, or `table`, as it stands in SQL, whatever characters it has."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, patterns: Iterable[str]) -> None:
    _create_view_as(connection, name, f"SELECT * FROM {_scan(patterns)}")


def _create_view_as(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    connection.execute(f"CREATE OR REPLACE VIEW {view_name(name)} AS {query}")


_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.bool_(): "BOOLEAN",
}


def _empty_select(dataset: Dataset) -> str:
    columns = ", ".join(f"NULL::{_SQL_TYPES.get(f.type, 'TIMESTAMPTZ')} AS {f.name}" for f in dataset.schema)
    return f"SELECT {columns} WHERE false"
