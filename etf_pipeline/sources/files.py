"""A folder of Parquet, CSV, Excel or JSON files as a source, one file (or folder of parts) per dataset.

Here: finding, decoding and renaming files, and what can only be judged by looking at several of them. Not here: the
rules of a single dataset (`canonical.py`).

`etf_share` is read from `etf_share.parquet`, `.csv`, `.csv.gz`, `.xlsx`, `.xls`, `.json`, or from all such files in the
folder `etf_share/`. Upper and lower case of these names are the same. What lies in the folder and is not read is named
in the notes; a mapping that is not read, such as `mapping.yml`, is refused.
An optional `mapping.yaml` beside them adapts files that use other names or units, per dataset:

    etf_share:
      file: 份额.csv                        # instead of etf_share.*
      columns: {代码: etf_code, 份额: shares}  # their name: our name
      encoding: gb18030                     # of a CSV file that is not UTF-8
      sheet: 份额                            # of an Excel file; else the first
      header_row: 3                         # of an Excel file; else the first
      units: {shares: 10000}                # our column: factor that turns theirs into ours
      constants: {scheme: sw}               # our column: one value for all rows
      values: {asset_scope: {股票型: aShareStockEtf}}  # our column: their word: our word
      exchange: 交易所                        # column with the exchange of bare codes, or one exchange for all
      day_in_name: true                     # the day stands in the file's name: 20260930, 2026-09-30 or 202609
      key_column: code                      # of a JSON object of objects: their name for its keys

docs/files.md shows what these are for. In a CSV or Excel file, spaces around cells and column names do not count, words
such as -- or N/A are missing values, and empty rows at the end are no rows. Numbers with thousands separators or per
cent signs are refused. In an Excel file a number in a column of days is a day as Excel counts them, unless it is a day
written YYYYMMDD.

Weight sets with a wrong sum are refused when an ETF in `etf_info` tracks the index. Where none does, no result can
depend on the set: it is left out and named in the notes, so that one broken set nobody uses does not stop the rest.
"""

import csv
import difflib
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import xlrd
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from etf_pipeline.contract import AVAILABLE_AT, Dataset, load_contract
from etf_pipeline.core.calendar import extend_calendar, last_calendar_session, sessions_between
from etf_pipeline.resources.digests import file_digest
from etf_pipeline.sources.base import NotAvailable, SourceError, TransientSourceError
from etf_pipeline.sources.canonical import (
    CODE_PATTERN,
    calendar_rows,
    canonical_frame,
    days_of,
    examine,
    numbers_of,
    off_session,
    outside_set_sum,
)
from etf_pipeline.sources.examined import Facts, FactsFile, Part, are_apart, rules_digest
from etf_pipeline.sources.overlap import PAIRS, strangers, unknown_to_all
from etf_pipeline.sources.units import NEIGHBOUR_DAYS
from etf_pipeline.sources.vocabulary import EXCHANGES, INDEX_COLUMN, exchange_suffix, normalised_codes

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".xlsx", ".xls", ".json")
MAPPING_FILE = "mapping.yaml"
_MAPPING_SUFFIXES = (".yaml", ".yml")
_CALENDAR = "trading_calendar"
_MISSING = (
    "",
    "-",
    "--",
    "---",
    "—",
    "——",
    "－",
    "NaN",
    "nan",
    "NAN",
    "N/A",
    "n/a",
    "#N/A",
    "NA",
    "NULL",
    "null",
    "None",
)
_EXCEL_SUFFIXES = (".xlsx", ".xls")
_EXCEL_EPOCH = datetime(1899, 12, 30)
_EXCEL_DAYS = range(30_000, 70_000)
"""1982 to 2091; a day written YYYYMMDD lies far beyond."""
_FLAG_TEXTS = {"true": True, "false": False, "1": True, "0": False}


Days = tuple[date, date]
"""First and last of some days."""


def _one_line(name: str) -> str:
    """A column's name without line breaks and spaces in a row."""
    return " ".join(name.split())


class FileMapping(BaseModel):
    """How one dataset's file differs from the contract: its name, encoding, column names, units, words, codes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = None
    encoding: Literal["utf-8", "gbk", "gb18030"] = "utf-8"
    sheet: str | None = None
    header_row: Annotated[int, Field(ge=1)] = 1
    columns: dict[Annotated[str, AfterValidator(_one_line)], str] = Field(default_factory=dict)
    units: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    constants: dict[str, Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | float | date] = Field(
        default_factory=dict
    )
    values: dict[str, dict[str, str]] = Field(default_factory=dict)
    exchange: str | None = None
    day_in_name: bool = False
    key_column: str | None = None


@dataclass
class _Examined:
    """One dataset after examination: what is wrong with it, or else its facts; canonical rows if they were all read."""

    violations: list[str]
    facts: Facts | None = None
    frame: pd.DataFrame | None = None


@dataclass
class _Snapshot:
    """What has been read from one state of the folder."""

    stamp: frozenset[tuple[str, int, int]]
    mapping: Mapping[str, FileMapping] | None = None
    datasets: dict[str, _Examined] = field(default_factory=dict)


class FilesSource:
    """The files in `folder` as a source. Each file is read once and again only after the folder has changed.

    `today` is the last day dates may be of; by default the current day in Shanghai. With `facts`, files examined in
    an earlier run are not examined again, and only those rows of them are read that are asked for. Facts are saved
    with the first rows that are fetched.
    """

    def __init__(self, folder: Path, today: date | None = None, facts: FactsFile | None = None) -> None:
        self.folder = folder
        self._today = today
        self._facts = facts
        self._contract = load_contract()
        self._snapshot = _Snapshot(frozenset())

    @property
    def label(self) -> str:
        """`files (<name of the folder>)`."""
        return f"files ({self.folder.absolute().name})"

    @property
    def span(self) -> tuple[date, date]:
        """First day in any required dated file, and last day of `etf_share`. Reads only the date columns.

        Raises:
            SourceError: one of these files is missing, unreadable or holds no readable date.
        """
        self._refresh()
        dated = [d.name for d in self._contract.values() if d.required and d.date_column]
        ends = {name: self._ends(name) for name in dated}
        return min(first for first, _ in ends.values()), ends["etf_share"][1]

    def fetch(self, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        """Canonical rows from `start` to `end`, snapshots whole; sessions come from the exchange calendar.

        Raises:
            SourceError: the file is missing though required, unreadable, or breaks the contract.
            TransientSourceError: the folder changed while it was read.
        """
        self._refresh()
        if dataset == _CALENDAR:
            return self._calendar(start, end)
        if dataset not in self._contract or not self._paths(dataset):
            return self._absent(dataset)
        rows = self._rows(dataset, (start, end))
        if self._facts:
            self._facts.save()
        return rows

    def validate(self) -> Mapping[str, str]:
        """Read and check every file; returns notes by dataset: what is absent, ignored, converted or left out.

        Raises:
            SourceError: all violations of all files, one a line, in the order of the contract.
            TransientSourceError: the folder changed while it was read.
        """
        self._refresh()
        # weights are examined by what etf_info says; of the others two at a time, since columns keep Python waiting,
        # the largest first, so that both end at about the same time
        self._try_to_examine("etf_info")
        with ThreadPoolExecutor(max_workers=2) as threads:
            list(threads.map(self._try_to_examine, sorted(self._contract, key=self._bytes, reverse=True)))
        violations: list[str] = []
        notes: dict[str, str] = {}
        for name in self._contract:
            try:
                notes |= self._noted(name, violations)
            except TransientSourceError:
                raise
            except SourceError as error:
                violations.append(str(error))
        violations += self._strangers()
        if unread := self._unread():
            notes["folder"] = "; ".join(unread)
        violations = list(dict.fromkeys(violations))  # a broken mapping is met once per dataset
        if violations:
            count = f"{len(violations)} violation{'s' if len(violations) > 1 else ''}"
            raise SourceError(f"{count} of the data contract in {self.folder}:\n" + "\n".join(violations))
        return notes

    def _try_to_examine(self, name: str) -> None:
        # what cannot be read is told when it is asked for again
        with suppress(SourceError):
            if name != _CALENDAR and self._paths(name):
                self._examined(name)

    def _bytes(self, name: str) -> int:
        with suppress(SourceError, OSError):
            return sum(path.stat().st_size for path in self._paths(name))
        return 0

    def files_of(self, dataset: str) -> list[Path]:
        """Files the dataset would be read from, in the order they are read; none if it is absent.

        Raises:
            SourceError: the folder, the mapping or the names of the files leave no single answer.
        """
        self._refresh()
        return self._paths(dataset)

    def _noted(self, name: str, violations: list[str]) -> dict[str, str]:
        if name == _CALENDAR:
            note = "sessions come from the XSHG exchange calendar"
            if self._paths(name):
                self._sessions()
                note += f"; {self._where(name)} extends it to {last_calendar_session()}"
            return {name: note}
        if not self._paths(name):
            return {name: self._absent(name).reason}
        examined = self._examined(name)
        violations += examined.violations
        notes = self._notes(name, examined.facts) if examined.facts else []
        return {name: "; ".join(notes)} if notes else {}

    def _strangers(self) -> Iterator[str]:
        """Datasets whose codes others do not know, though they should."""
        facts = {name: e.facts for name, e in self._snapshot.datasets.items() if e.facts}
        for pair in PAIRS:
            if pair.dataset in facts and pair.known_to in facts:
                yield from strangers(pair, facts[pair.dataset].codes, facts[pair.known_to].codes)
        if {"index_weight", "etf_info"} <= facts.keys():
            yield from unknown_to_all({name: facts[name].indices for name in ("index_weight", "etf_info")})

    def _unread(self) -> list[str]:
        """Every visible file of the folder, and of the folders of parts, that is not read, and what to do about it."""
        with suppress(SourceError):
            read = {path for name in self._contract for path in self._paths(name)}
            held = self._entries()
            held += [p for folder in held if folder.is_dir() for p in self._entries(folder)]
            unread = [p for p in held if p.is_file() and p not in read and p.name != MAPPING_FILE]
            return [self._why_unread(path) for path in unread]
        return []  # it is among the violations

    def _why_unread(self, path: Path) -> str:
        stem = (path.name if path.parent == self.folder else path.parent.name).split(".")[0].lower()
        nearest = difflib.get_close_matches(stem, self._contract, n=1, cutoff=0.8)
        where = path.relative_to(self.folder)
        if stem not in self._contract:
            return f"{where} is not read" + (f"; a dataset is called {nearest[0]}" if nearest else "")
        if path.parent == self.folder and self._paths(stem):
            return f"{where} is not read: {stem} is read from {self._where(stem)}"
        return f"{where} is not read: {stem} is read from {', '.join(stem + suffix for suffix in SUFFIXES)}"

    def _entries(self, folder: Path | None = None) -> list[Path]:
        """What is visible in the folder, in order."""
        return sorted(p for p in (folder or self.folder).iterdir() if not p.name.startswith("."))

    def _refresh(self) -> None:
        stamp = self._stamp()
        if stamp != self._snapshot.stamp:
            self._snapshot = _Snapshot(stamp)
            extend_calendar(self._announced)

    def _sessions(self) -> list[date]:
        """Sessions of the file `trading_calendar`; none without one.

        Raises:
            SourceError: the file cannot be read or has a day that is none.
        """
        if not (paths := self._paths(_CALENDAR)):
            return []
        raw, where = self._raw(_CALENDAR, paths)
        days = days_of(raw["trade_date"]) if "trade_date" in raw else pd.Series([pd.NaT])
        if days.isna().any():
            raise SourceError(f"{where}: every row needs a readable day in column trade_date.")
        is_open = raw["is_open"].fillna(True).astype(bool) if "is_open" in raw else pd.Series(True, raw.index)
        return list(days[is_open].dt.date)

    def _announced(self) -> list[date]:
        with suppress(SourceError):  # told when the source is validated
            return self._sessions()
        return []

    def _stamp(self) -> frozenset[tuple[str, int, int]]:
        """Name, time and size of every file that may be read; other things in the folder may change freely."""
        if not self.folder.is_dir():
            raise SourceError(f"{self.folder}: no such folder. Name the folder that holds the data files.")
        try:
            files = [*self.folder.iterdir(), *(p for name in self._contract for p in (self.folder / name).glob("*"))]
            data = [p for p in files if p.name.lower().endswith((*SUFFIXES, *_MAPPING_SUFFIXES))]
            return frozenset((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in data)
        except OSError as error:
            raise TransientSourceError(f"{self.folder}: cannot be listed ({error})", 60) from error

    def _calendar(self, start: date, end: date) -> pd.DataFrame:
        try:
            return calendar_rows(start, end)
        except ValueError as error:
            raise SourceError(str(error)) from error

    def _absent(self, name: str) -> NotAvailable:
        reason = f"no file {name}.parquet or {name}.csv in {self.folder}"
        other = [p.name for p in self._entries() if p.name.lower().startswith(f"{name}.")]
        if other:
            reason += f", and {', '.join(other)} is not read: save it as one of these"
        if name in self._contract and self._contract[name].required:
            held = ", ".join(sorted(p.name for p in self.folder.iterdir())) or "nothing"
            raise SourceError(f"{reason}, but it is required. The folder holds: {held}.")
        return NotAvailable(reason)

    def _mapping(self, name: str) -> FileMapping:
        if self._snapshot.mapping is None:
            self._snapshot.mapping = self._read_mapping()
        return self._snapshot.mapping.get(name, FileMapping())

    def _read_mapping(self) -> Mapping[str, FileMapping]:
        held = self._entries()
        held += [
            p for folder in held if folder.name in self._contract and folder.is_dir() for p in self._entries(folder)
        ]
        mapping = self.folder / MAPPING_FILE
        for path in held:
            stem, _, suffix = path.name.lower().partition(".")
            # numbers in other units would be taken as they are; a backup beside the mapping in use does no harm
            if stem == "mapping" and path != mapping and (f".{suffix}" in _MAPPING_SUFFIXES or not mapping.exists()):
                where = path.relative_to(self.folder)
                raise SourceError(f"{where}: is not read. Name the mapping {MAPPING_FILE}, directly in {self.folder}.")
        return _read_mapping(mapping, self._contract)

    def _paths(self, name: str) -> list[Path]:
        """Files of the dataset in the order they are read; none if it is absent."""
        named = self._mapping(name).file
        if named and (Path(named).name != named or not _is_data(named) or not (self.folder / named).is_file()):
            kinds = ", ".join(SUFFIXES)
            raise SourceError(f"{MAPPING_FILE}: {name}: file {named} is no {kinds} file directly in {self.folder}.")
        candidates = [name, *(name + suffix for suffix in SUFFIXES)]
        found = [p for c in candidates for p in self._entries() if p.name.lower() == c]
        if named:
            found = [self.folder / named]
        if len(found) > 1:
            names = " and ".join(p.name + "/" * p.is_dir() for p in found)
            raise SourceError(f"{names}: more than one source of {name}. Keep one of them.")
        if not found or found[0].is_file():
            return found
        parts = [p for p in self._entries(found[0]) if _is_data(p.name)]
        if not parts:
            raise SourceError(f"{found[0].name}/: the folder holds no {', '.join(SUFFIXES)} file.")
        return parts

    def _raw(self, name: str, paths: list[Path], days: Days | None = None) -> tuple[pd.DataFrame, str]:
        """Rows as in the files, under our column names, and the files' name; of `days` only, if given.

        The index holds the row, counted from 1 in its file, and before it the file where the dataset is a folder.
        """
        dataset, mapping, where = self._contract[name], self._mapping(name), self._where(name)
        if paths[0].parent == self.folder:
            return _read(paths[0], where, dataset, mapping, days=days), where
        frames = {p.name: _read(p, where + p.name, dataset, mapping, days=days) for p in paths}
        first, *others = frames
        for other in others:
            difference = sorted(set(frames[other].columns) ^ set(frames[first].columns))
            if difference:
                raise SourceError(
                    f"{where}{other}: columns differ from {first}: {', '.join(difference)}. "
                    "Give all parts the same columns."
                )
        return pd.concat(frames), where

    def _where(self, name: str) -> str:
        first = self._paths(name)[0]
        return first.name if first.parent == self.folder else f"{name}/"

    def _ends(self, name: str) -> Days:
        """First and last day of the dataset's rows."""
        examined = self._snapshot.datasets.get(name)
        if examined and examined.facts:
            parts = examined.facts.parts.values()
            return min(p.first_day for p in parts if p.first_day), max(p.last_day for p in parts if p.last_day)
        if not self._paths(name):
            self._absent(name)
        dataset, where = self._contract[name], self._where(name)
        column = str(dataset.date_column)
        frames = [_read(p, p.name, dataset, self._mapping(name), only=column) for p in self._paths(name)]
        days = pd.concat([days_of(f[column]) for f in frames if column in f] or [pd.Series(dtype="datetime64[us]")])
        if days.isna().all():
            raise SourceError(f"{where}: no readable day in column {column}. Run the validation for details.")
        return days.min().date(), days.max().date()

    def _rows(self, name: str, days: Days | None = None) -> pd.DataFrame:
        """Canonical rows of a dataset that is there; of `days` only, where rows have days.

        Raises:
            SourceError: they hold violations.
        """
        examined, column = self._examined(name), self._contract[name].date_column
        if examined.violations:
            raise SourceError("\n".join(examined.violations))
        if column is None:
            days = None
        frame = examined.frame
        if frame is None:
            assert examined.facts
            frame = self._rows_of_known(name, examined.facts, days)
        if days is None:
            examined.frame = frame
            return frame
        return frame[frame[column].between(*_bounds(days))].reset_index(drop=True)

    def _rows_of_known(self, name: str, facts: Facts, days: Days | None) -> pd.DataFrame:
        """Rows of files whose facts are known: only the parts that have some of `days` are read."""
        paths = self._paths(name)
        paths = [p for p in paths if p.name in facts.parts]
        # where there is none, any, for its columns
        read = [p for p in paths if days is None or facts.parts[p.name].overlaps(*days)] or paths[:1]
        raw, where = self._raw(name, read, days)
        if facts.left_out:
            raw = raw[~_set_names(self._contract[name], raw).isin(facts.left_out)]
        # units were judged with all the days
        return canonical_frame(self._contract[name], raw, where, self._today, judge_units=False)

    def _examined(self, name: str) -> _Examined:
        if name not in self._snapshot.datasets:
            examined = self._recognised(name) or self._examine(name, self._paths(name))
            if self._stamp() != self._snapshot.stamp:
                raise TransientSourceError(f"{self.folder}: changed while {name} was read", 60)
            self._snapshot.datasets[name] = examined
            if self._facts and examined.facts:
                self._facts.put(name, examined.facts)
        return self._snapshot.datasets[name]

    def _recognised(self, name: str) -> _Examined | None:
        """What is known of the same files, or of all but some new ones; None if everything has to be examined."""
        known = self._facts.get(name) if self._facts else None
        if known is None or known.rules != self._rules(name):
            return None
        paths = {p.name: p for p in self._paths(name)}
        if not paths.keys() >= known.parts.keys():
            return None
        if any(file_digest(paths[file]) != part.digest for file, part in known.parts.items()):
            return None
        added = [path for file, path in paths.items() if file not in known.parts]
        if not added:
            return _Examined([], known)
        dataset = self._contract[name]
        # only where no rule looks at rows of several days at once
        if dataset.date_column not in dataset.key or dataset.stays:
            return None
        try:
            facts = self._examine(name, added, self._rows_beside(name, known, added)).facts
        except SourceError:  # worded by the examination of everything
            return None
        if facts is None or set(facts.columns) != set(known.columns):
            return None
        return _Examined([], known.joined(facts)) if are_apart(facts.parts.values(), known.parts.values()) else None

    def _rows_beside(self, name: str, known: Facts, added: list[Path]) -> pd.DataFrame | None:
        """Known rows of the days around those of the added files, by which their units are judged."""
        dataset = self._contract[name]
        column = str(dataset.date_column)
        if not any(c.steps for c in dataset.columns.values()):
            return None
        frames = [_read(p, p.name, dataset, self._mapping(name), only=column) for p in added]
        days = pd.concat([days_of(f[column]) for f in frames if column in f] or [pd.Series(dtype="datetime64[us]")])
        if days.isna().all():
            return None
        around = pd.Timedelta(days=NEIGHBOUR_DAYS)
        return self._rows_of_known(name, known, ((days.min() - around).date(), (days.max() + around).date()))

    def _rows_near(self, name: str, day: pd.Timestamp) -> pd.DataFrame | None:
        """Rows of a dataset around a day, whatever is wrong with them; None where there are none."""
        try:
            paths = self._paths(name)
            around = pd.Timedelta(days=NEIGHBOUR_DAYS)
            raw, where = self._raw(name, paths, ((day - around).date(), (day + around).date())) if paths else (None, "")
        except SourceError:  # told when that dataset is examined
            return None
        return None if raw is None else examine(self._contract[name], raw, where, self._today, judge_units=False)[0]

    def _rules(self, name: str) -> str:
        dataset = self._contract[name]
        others = self._tracked() if name == "index_weight" else None
        return rules_digest(dataset, self._mapping(name).model_dump(mode="json"), others)

    def _examine(self, name: str, paths: list[Path], known: pd.DataFrame | None = None) -> _Examined:
        dataset = self._contract[name]
        digests = {p.name: file_digest(p) for p in paths} if self._facts else dict.fromkeys((p.name for p in paths), "")
        raw, where = self._raw(name, paths)
        left_out: dict[str, str] = {}
        used = raw
        if name == "index_weight":
            used, left_out = self._without_unused_sets(raw, where)
        frame, violations = examine(dataset, used, where, self._today, known, self._rows_near)
        if raw.empty:
            violations.append(f"{where}: holds no rows. Export it again, or delete it if there is no such data.")
        if violations:
            return _Examined(violations)
        column = dataset.date_column
        facts = Facts(
            rules=self._rules(name) if self._facts else "",
            parts=_parts(raw, digests, column),
            columns=tuple(map(str, raw.columns)),
            closed_rows=int(off_session(frame[column]).sum()) if column and dataset.partition == "day" else 0,
            codes=_distinct(frame, _COMPARED[name]) if name in _COMPARED else (),
            indices=_distinct(frame, INDEX_COLUMN) if name in ("index_weight", "etf_info") else (),
            left_out=left_out,
        )
        return _Examined([], facts, frame)

    def _tracked(self) -> list[str] | None:
        """Indexes that an ETF tracks; None where `etf_info` cannot be used, which is reported with it."""
        if not self._paths("etf_info"):
            return None
        try:
            return sorted(self._rows("etf_info")["index_code"].dropna().unique())
        except TransientSourceError:
            raise
        except SourceError:
            return None

    def _without_unused_sets(self, raw: pd.DataFrame, where: str) -> tuple[pd.DataFrame, dict[str, str]]:
        """Weights without the broken sets of indexes that no ETF tracks, and a note about each of those."""
        dataset = self._contract["index_weight"]
        rule = dataset.set_sum
        assert rule is not None
        if not {*rule.columns, rule.of} <= set(raw.columns):
            return raw, {}
        tracked = self._tracked()
        if tracked is None:  # any index may be in use
            return raw, {}
        sums = outside_set_sum(rule, raw.assign(**{rule.of: pd.to_numeric(raw[rule.of], errors="coerce")}))
        if not sums.notna().any():
            return raw, {}
        # a misspelt code tracks nothing either, but is to be mended, not left out; so is a file wrong from end to end
        is_code = raw["index_code"].astype("str").str.fullmatch(CODE_PATTERN).fillna(False).astype(bool)
        unused = sums.notna() & is_code & ~normalised_codes(raw["index_code"], "index_code").isin(tracked)
        if unused.all():
            return raw, {}
        names = _set_names(dataset, raw[unused])
        sets = pd.DataFrame({"sum": sums[unused]}).groupby(names)["sum"].agg(["first", "size"])
        notes = {
            name: f"{where}: set {name} left out: {size} weights sum to {total:.4f} instead of "
            f"{rule.minimum:g}–{rule.maximum:g}, and no ETF in etf_info tracks {name.split()[0]}"
            for name, total, size in sets.itertuples()
        }
        return raw[~unused], notes

    def _notes(self, name: str, facts: Facts) -> list[str]:
        dataset, where = self._contract[name], self._where(name)
        notes = _mapping_notes(self._mapping(name))
        unknown = [c for c in facts.columns if c not in dataset.column_names and c != AVAILABLE_AT]
        if unknown:
            notes.append(f"{where}: columns not in the contract are ignored: {', '.join(unknown)}")
        notes += facts.left_out.values()
        if facts.closed_rows:
            notes.append(f"{where}: {facts.closed_rows} rows are of days that are no session of the Shanghai exchange")
        if name == "etf_share" and self._paths("etf_info"):
            listed = set(self._rows("etf_info")["etf_code"])
            strangers = [code for code in facts.codes if code not in listed]
            if strangers:
                first = ", ".join(strangers[:5])
                notes.append(f"{where}: {len(strangers)} of {len(facts.codes)} funds are not in etf_info: {first}, …")
        return notes


_COMPARED = {pair.dataset: pair.column for pair in PAIRS} | {pair.known_to: pair.column for pair in PAIRS}
"""Column of codes that are compared between datasets."""


def _distinct(frame: pd.DataFrame, column: str) -> tuple[str, ...]:
    return tuple(sorted(frame[column].dropna().unique()))


def _is_data(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _set_names(dataset: Dataset, raw: pd.DataFrame) -> pd.Series:
    """The set each weight belongs to, such as `000300.SH 2026-09-30`."""
    assert dataset.set_sum
    index, day = dataset.set_sum.columns
    return raw[index].astype("str") + " " + raw[day].astype("str").str[:10]


def _bounds(days: Days) -> tuple[pd.Timestamp, pd.Timestamp]:
    return pd.Timestamp(days[0]), pd.Timestamp(days[1])


def _parts(raw: pd.DataFrame, digests: Mapping[str, str], column: str | None) -> dict[str, Part]:
    """What is known of each file, by its name."""
    if column is None:
        return {file: Part(digest=digest) for file, digest in digests.items()}
    days = days_of(raw[column])
    ends = {
        file: (part.min(), part.max())
        for file, part in (days.groupby(level=0) if days.index.nlevels > 1 else zip(digests, [days], strict=True))
    }
    return {
        file: Part(digest=digest, first_day=ends[file][0].date(), last_day=ends[file][1].date())
        if file in ends
        else Part(digest=digest)
        for file, digest in digests.items()
    }


def _read_mapping(path: Path, contract: Mapping[str, Dataset]) -> dict[str, FileMapping]:
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(_decoded(path.read_bytes(), path.name)) or {}
    except yaml.YAMLError as error:
        raise SourceError(f"{path.name}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path.name}: must hold one entry per dataset.")
    return {name: _dataset_mapping(name, entry, contract, path.name) for name, entry in content.items()}


def _dataset_mapping(name: str, entry: Any, contract: Mapping[str, Dataset], where: str) -> FileMapping:
    if name not in contract:
        raise SourceError(f"{where}: unknown dataset {name}. Datasets: {', '.join(contract)}.")
    try:
        mapping = FileMapping.model_validate(entry)
    except ValidationError as error:
        problems = "; ".join(dict.fromkeys(map(_mapping_problem, error.errors())))
        raise SourceError(f"{where}: {name}: {problems}.") from error
    known = contract[name].columns
    targets = [*mapping.columns.values(), *mapping.constants]
    named = (*targets, *mapping.units, *mapping.values)
    unknown = sorted({c for c in named if c not in known and c != AVAILABLE_AT})
    if unknown:
        raise SourceError(f"{where}: {name}: unknown column {', '.join(unknown)}. Columns: {', '.join(known)}.")
    if len(set(targets)) < len(targets):
        raise SourceError(f"{where}: {name}: two entries give the same column.")
    texts = sorted(c for c in mapping.units if c == AVAILABLE_AT or known[c].type != "number")
    if texts:
        raise SourceError(f"{where}: {name}: a unit factor for {', '.join(texts)}, which is not a number.")
    if mapping.day_in_name and contract[name].date_column is None:
        raise SourceError(f"{where}: {name}: day_in_name for rows that have no day.")
    if mapping.exchange and _code_column(contract[name]) is None:
        raise SourceError(f"{where}: {name}: exchange for rows that have no code of a fund or stock.")
    return mapping


def _mapping_problem(error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "entry"
    if error["type"] != "extra_forbidden":
        return f"{place}: {error['msg']}"
    nearest = difflib.get_close_matches(place, FileMapping.model_fields, n=1)
    meant = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{place}: no such entry{meant} Entries: {', '.join(FileMapping.model_fields)}"


def _mapping_notes(mapping: FileMapping) -> list[str]:
    notes = [f"{theirs} read as {ours}" for theirs, ours in mapping.columns.items()]
    notes += [f"{column} multiplied by {factor:g}" for column, factor in mapping.units.items()]
    notes += [f"{column} set to {value}" for column, value in mapping.constants.items()]
    notes += [f"{len(words)} words of {column} translated" for column, words in mapping.values.items()]
    notes += [f"exchange of bare codes: {mapping.exchange}"] if mapping.exchange else []
    notes += ["days from the names of files"] if mapping.day_in_name else []
    return [f"{MAPPING_FILE}: {', '.join(notes)}"] if notes else []


def _code_column(dataset: Dataset) -> str | None:
    """The column whose bare codes an exchange completes: that of stocks, else that of ETFs or funds."""
    codes = [c.name for c in dataset.columns.values() if c.type == "code" and c.name != INDEX_COLUMN]
    return "stock_code" if "stock_code" in codes else next((c for c in dataset.key if c in codes), None)


def _with_exchange(frame: pd.DataFrame, where: str, dataset: Dataset, exchange: str) -> pd.DataFrame:
    """The frame with the suffix of an exchange on bare codes; the column that names it is used up.

    Raises:
        SourceError: there is no such column, or it has a word that is no exchange.
    """
    code = str(_code_column(dataset))
    if code not in frame:
        return frame  # told when the columns are looked at
    codes = frame[code].astype(object).map(_cell_text, na_action="ignore")
    if exchange_suffix(exchange):
        return frame.assign(**{code: normalised_codes(codes, code, exchange)})
    if exchange not in frame:
        raise SourceError(
            f"{where}: `exchange` in {MAPPING_FILE} is neither a column of the file nor the name of an exchange: "
            f"{exchange}. Columns: {', '.join(map(str, frame.columns))}; exchanges: {', '.join(EXCHANGES)}."
        )
    names = frame[exchange].astype(object)
    odd = frame.index[names.notna() & names.map(exchange_suffix).isna()]
    if len(odd):
        rows = f"{len(odd)} row{'s' if len(odd) > 1 else ''}"
        known = ", ".join(word for words in EXCHANGES.values() for word in words)
        raise SourceError(
            f"{where}: `{exchange}` names no exchange in {rows}: row {_row_text(odd[0])} ({names[odd[0]]}). "
            f"Known are {known}."
        )
    return frame.assign(**{code: normalised_codes(codes, code, names)}).drop(columns=exchange)


def _row_text(place: Any) -> str:
    return " ".join(map(str, place)) if isinstance(place, tuple) else str(place)


_DAY_IN_NAME = re.compile(r"(?<!\d)(20\d{2}|19\d{2})[-_.年]?(\d{2})(?:[-_.月]?(\d{2}))?(?!\d)")


def _named_day(path: Path, where: str) -> pd.Timestamp:
    """The day in a file's name; of a month alone its last session.

    Raises:
        SourceError: the name holds none, or several.
    """
    found = set(_DAY_IN_NAME.findall(path.name))
    with suppress(ValueError):
        if len(found) == 1:
            year, month, day = next(iter(found))
            if day:
                return pd.Timestamp(f"{year}-{month}-{day}")
            first = pd.Timestamp(f"{year}-{month}-01")
            return sessions_between(first.date(), (first + pd.offsets.MonthEnd()).date())[-1]
    raise SourceError(
        f"{where}: the name of {path.name} should hold one day, such as 20260930, 2026-09-30 or 202609, "
        f"since {MAPPING_FILE} says day_in_name."
    )


def _with_mapping(
    frame: pd.DataFrame, path: Path, where: str, dataset: Dataset, mapping: FileMapping, is_whole: bool
) -> pd.DataFrame:
    """The frame with days, words, codes, unit factors and constant columns of the mapping; codes if it is whole."""
    day = str(dataset.date_column)
    if mapping.day_in_name:
        if day in frame:
            raise SourceError(f"{where}: has a column {day}, which {MAPPING_FILE} takes from the name. Keep one.")
        frame = frame.assign(**{day: _named_day(path, where)})
    for column, words in mapping.values.items():
        if column in frame:
            theirs = frame[column].astype(object)
            frame = frame.assign(**{column: theirs.map(lambda word, words=words: words.get(str(word).strip(), word))})
    if mapping.exchange and is_whole:
        frame = _with_exchange(frame, where, dataset, mapping.exchange)
    clash = [c for c in mapping.constants if c in frame]
    if clash:
        raise SourceError(
            f"{where}: has a column {', '.join(clash)}, which {MAPPING_FILE} sets to a constant. Keep one."
        )
    scaled = {c: _times(frame[c], factor) for c, factor in mapping.units.items() if c in frame}
    return frame.assign(**scaled, **mapping.constants)


def _times(values: pd.Series, factor: float) -> pd.Series:
    """Numbers of any type times the factor. Cells that are none stay: they are refused with what the user wrote."""
    numbers = numbers_of(values) * factor
    unread = numbers.isna() & values.notna()
    return numbers.astype(object).mask(unread, values.astype(object)) if unread.any() else numbers


def _read(
    path: Path,
    where: str,
    dataset: Dataset,
    mapping: FileMapping,
    only: str | None = None,
    days: Days | None = None,
) -> pd.DataFrame:
    """One file's rows, counted from 1 in the index, mapped to our names and units.

    `only` reads that column alone; with `days`, rows of other days are left out if the file has a column of days.
    """
    if path.stat().st_size == 0:
        raise SourceError(f"{where}: the file is empty (0 bytes). Export it again.")
    theirs = {ours: name for name, ours in mapping.columns.items()}
    wanted = [theirs.get(only, only)] if only else None
    is_parquet = path.suffix.lower() == ".parquet"
    day_column = theirs.get(str(dataset.date_column), str(dataset.date_column))
    if days and is_parquet:
        table, rows = _read_parquet_days(path, where, day_column, days)
    else:
        if is_parquet:
            table = _read_parquet(path, where, wanted)
        elif path.suffix.lower() == ".json":
            table = _read_json(path, where, wanted, mapping)
        elif path.suffix.lower() in _EXCEL_SUFFIXES:
            dates = {theirs.get(c.name, c.name) for c in dataset.columns.values() if c.type == "date"}
            table = _read_excel(path, where, wanted, mapping, dates)
        else:
            table = _read_csv(path, where, wanted, mapping.encoding)
        table = table.rename_columns([_one_line(name) for name in table.column_names])
        rows = np.arange(len(table))
        if days and day_column in table.column_names:
            rows = _rows_of_days(table, day_column, days)
            table = table.take(pa.array(rows))
    names = [mapping.columns.get(name, name) for name in table.column_names]
    absent = [] if only else [name for name in mapping.columns if name not in table.column_names]
    if absent:
        found = ", ".join(table.column_names)
        raise SourceError(f"{where}: has no column {', '.join(absent)}, which {MAPPING_FILE} renames; found {found}.")
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise SourceError(f"{where}: more than one column {', '.join(double)}. Keep one.")
    frame = table.rename_columns(names).to_pandas(date_as_object=False, ignore_metadata=True)
    frame.index = pd.Index(rows + 1)
    frame = frame if is_parquet else _parsed(frame, dataset)
    return _with_mapping(frame, path, where, dataset, mapping, only is None)


def _rows_of_days(table: pa.Table, column: str, days: Days) -> np.ndarray:
    """Positions of the rows whose day lies in `days`."""
    found = days_of(table.select([column]).to_pandas(date_as_object=False, ignore_metadata=True)[column])
    return np.flatnonzero(found.between(*_bounds(days)))


def _read_parquet(path: Path, where: str, columns: list[str] | None) -> pa.Table:
    with _parquet(path, where) as file:
        return file.read(columns)


def _read_parquet_days(path: Path, where: str, column: str, days: Days) -> tuple[pa.Table, np.ndarray]:
    """Rows of some days with their positions in the file; all of them if it has no such column.

    Of the other columns only the groups of rows are read that hold some of these days.
    """
    with _parquet(path, where) as file:
        if column not in file.schema_arrow.names:
            return file.read(), np.arange(file.metadata.num_rows)
        rows = _rows_of_days(file.read([column]), column, days)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])[:-1]
        parts = []
        for group, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            inside = rows[(rows >= start) & (rows < start + size)]
            if len(inside):
                parts.append(file.read_row_group(group).take(pa.array(inside - start)))
        return pa.concat_tables(parts) if parts else file.schema_arrow.empty_table(), rows


@contextmanager
def _parquet(path: Path, where: str) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{where}: not a readable Parquet file ({error}). Export or copy it again.") from error


def _read_csv(path: Path, where: str, columns: list[str] | None, encoding: str) -> pa.Table:
    """All cells as text without spaces around them; cells that say so are missing, empty rows at the end left out."""
    try:
        content = path.read_bytes()
        text = _decoded(gzip.decompress(content) if path.suffix.lower() == ".gz" else content, where, encoding)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{where}: not readable ({error}). Export or copy it again.") from error
    header = next(csv.reader(io.StringIO(text)), [])
    names = [_one_line(name) for name in header]
    is_padded = names != header
    try:
        table = pacsv.read_csv(
            pa.BufferReader(text.encode()),
            # one thread: only then do errors name the row
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=names if is_padded else None, skip_rows_after_names=int(is_padded)
            ),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
                include_columns=columns,
                include_missing_columns=True,
            ),
        )
    except pa.ArrowException as error:
        raise SourceError(
            f"{where}: not a readable CSV file ({error}). Every row needs the header's columns."
        ) from error
    return _without_empty_end(pa.table([_cells(c) for c in table.columns], table.column_names), columns)


def _read_excel(
    path: Path, where: str, columns: list[str] | None, mapping: FileMapping, dates: Collection[str]
) -> pa.Table:
    """A sheet as a CSV file would hold it: all cells as text, those in columns of `dates` as days."""
    try:
        with pd.ExcelFile(path) as book:
            if mapping.sheet is not None and mapping.sheet not in book.sheet_names:
                sheets = ", ".join(map(str, book.sheet_names))
                raise SourceError(f"{where}: has no sheet {mapping.sheet}, which {MAPPING_FILE} names; found {sheets}.")
            cells = book.parse(mapping.sheet or 0, header=None, dtype=object, na_filter=False)
            # days are counted from another day in workbooks of old Macs
            is_1904 = (
                getattr(book.book, "datemode", 0) == 1 or getattr(book.book, "epoch", _EXCEL_EPOCH) != _EXCEL_EPOCH
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, xlrd.XLRDError) as error:
        raise SourceError(f"{where}: not a readable Excel file ({error}). Save it again, or as CSV.") from error
    header, rows = cells.iloc[mapping.header_row - 1 : mapping.header_row], cells.iloc[mapping.header_row :]
    if header.empty:
        raise SourceError(f"{where}: has no row {mapping.header_row}, which should hold the names of the columns.")
    epoch = pd.Timestamp(1904, 1, 1) if is_1904 else pd.Timestamp(1899, 12, 30)
    held = {}
    for position, name in header.iloc[0].items():
        text = _one_line(_cell_text(name))
        if text and (columns is None or text in columns):
            day_from = epoch if text in dates else None
            held[position] = (text, pa.array([_cell_text(c, day_from) or None for c in rows[position]], pa.string()))
    names, values = [name for name, _ in held.values()], [_cells(pa.chunked_array([v])) for _, v in held.values()]
    return _without_empty_end(pa.Table.from_arrays(values, names), columns)


def _read_json(path: Path, where: str, columns: list[str] | None, mapping: FileMapping) -> pa.Table:
    """Rows as a CSV file would hold them: a list of objects, alone or under one name, or an object of objects."""
    try:
        held = json.loads(_decoded(path.read_bytes(), where, mapping.encoding))
    except json.JSONDecodeError as error:
        raise SourceError(f"{where}: not readable JSON ({error}). Export or copy it again.") from error
    if isinstance(held, dict) and len(held) == 1 and isinstance(next(iter(held.values())), list):
        (held,) = held.values()
    if isinstance(held, dict):
        if mapping.key_column is None:
            raise SourceError(f"{where}: an object of objects. Name its keys by `key_column` in {MAPPING_FILE}.")
        held = [{mapping.key_column: key, **row} if isinstance(row, dict) else row for key, row in held.items()]
    if not isinstance(held, list) or not all(isinstance(row, dict) for row in held):
        raise SourceError(f"{where}: rows are to be a list of objects, or an object of objects.")
    names = list(dict.fromkeys(name for row in held for name in row))
    names = [name for name in names if columns is None or _one_line(name) in columns]
    values = [
        _cells(pa.chunked_array([pa.array([_json_text(row.get(name)) for row in held], pa.string())])) for name in names
    ]
    return _without_empty_end(pa.Table.from_arrays(values, names), columns)


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else _cell_text(value)


def _cell_text(value: Any, day_from: pd.Timestamp | None = None) -> str:
    """The cell as CSV would hold it; a number of days since `day_from`, if given, as the day."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}" if value.time() == time.min else value.isoformat(sep=" ")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and day_from is not None and value in _EXCEL_DAYS:
        return f"{day_from + pd.Timedelta(days=value):%Y-%m-%d}"
    return str(value).strip()


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without spaces around it; null where that says a value is missing."""
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(trimmed, pa.array(_MISSING)), pa.scalar(None, pa.string()), trimmed)


def _without_empty_end(table: pa.Table, columns: list[str] | None) -> pa.Table:
    if columns is not None or not table.num_columns:  # other cells of the rows may be filled
        return table
    filled = np.zeros(len(table), dtype=bool)
    for column in table.columns:
        filled |= column.is_valid().to_numpy()
    return table.slice(0, int(np.flatnonzero(filled)[-1]) + 1) if filled.any() else table.slice(0, 0)


def _decoded(content: bytes, where: str, encoding: str = "utf-8") -> str:
    if encoding != "utf-8":
        try:
            return content.decode("gb18030")  # holds all of GBK
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{where}: not {encoding} (byte {error.start}). Correct `encoding` in {MAPPING_FILE}."
            ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            content.decode("gb18030")
        except UnicodeDecodeError:
            guess = "is it a text file at all? Save it as UTF-8"
        else:
            guess = f"it looks like GBK: save it as UTF-8, or say so in {MAPPING_FILE} (encoding: gb18030)"
        raise SourceError(f"{where}: not UTF-8 (byte {error.start}); {guess}.") from error


def _parsed(frame: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """CSV text as numbers and flags where the contract says so; cells that cannot be read stay text."""
    columns = {}
    for column in dataset.columns.values():
        if column.name not in frame or column.type not in ("number", "flag"):
            continue
        text = frame[column.name]
        if column.type == "number":
            values = pd.to_numeric(text, errors="coerce")
        else:
            values = text.str.lower().map(_FLAG_TEXTS).astype("boolean")
        unread = values.isna() & text.notna()
        columns[column.name] = values.astype(object).mask(unread, text) if unread.any() else values
    return frame.assign(**columns)
