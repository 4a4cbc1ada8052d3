"""The folder of files watched: what is new or changed in it is taken in, and nothing else.

A dataset's fingerprint is the name, size, time and SHA-256 of its files; the content is read only when size or time
changed. A file counts once it stood still from one tick to the next and, if Parquet, has its closing mark; names other
than those the source reads (temporary names among them) are never looked at. Of changed content only the days that
differ from the lake are asked for, as one run for each partitioning.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
import pyarrow as pa

from etf_pipeline import automation
from etf_pipeline.automation import INGEST_JOBS, lake_tags, partitions_of, range_request, raw_key
from etf_pipeline.contract import EARLIEST_DATE, Dataset, load_contract
from etf_pipeline.core.calendar import CalendarEndError, last_calendar_session, sessions_between
from etf_pipeline.resources.digests import file_digest
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.sources.base import SourceError, TransientSourceError

if TYPE_CHECKING:
    from etf_pipeline.sources.files import FilesSource

Stamp = tuple[int, int]
"""Size and time of last change of a file, in bytes and nanoseconds."""

_PARQUET_MARK = b"PAR1"
_INTERVAL_SECONDS = 30
_NO_END = date(2200, 1, 1)


def drop_folder_sensor(pipeline: Pipeline, jobs: list[Any]) -> dg.SensorDefinition:
    """Cursor: fingerprints of what was taken in, and the stamps of the last tick."""

    @dg.sensor(
        name="drop_folder",
        jobs=jobs,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        description="Takes in what is new or changed in the data folder, once it is written to the end.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def drop_folder(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        deployment = pipeline.deployment
        if deployment.source != "files" or deployment.data is None:
            reason = f"source {deployment.source} has no folder to watch"
            return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=context.cursor)
        # imported here: definitions load without reading files
        from etf_pipeline.sources.files import FilesSource

        state = json.loads(context.cursor or '{"tick": 0, "taken": {}, "seen": {}}')
        try:
            requests, reasons, state = look(pipeline, FilesSource(deployment.data.absolute()), state)
        except (SourceError, CalendarEndError) as error:
            return dg.SensorResult(skip_reason=dg.SkipReason(str(error)), cursor=context.cursor)
        skip = None if requests else dg.SkipReason("; ".join(reasons) or "nothing new in the folder")
        return dg.SensorResult(requests, skip_reason=skip, cursor=json.dumps(state))

    return drop_folder


def look(
    pipeline: Pipeline, source: "FilesSource", state: Mapping[str, Any]
) -> tuple[list[dg.RunRequest], list[str], dict[str, Any]]:
    """One look at the folder: runs to start, reasons for what is left alone, and the state for the next look.

    Raises:
        SourceError: the folder cannot be listed, or leaves open which files a dataset has.
    """
    from etf_pipeline.sources.files import MAPPING_FILE

    files = {name: source.files_of(name) for name in load_contract() if name != "trading_calendar"}
    mapping = source.folder / MAPPING_FILE
    stamps = {name: {p.name: _stamp(p) for p in paths} for name, paths in files.items() if paths}
    # with other names or units the same files say something else
    adapted = {MAPPING_FILE: _stamp(mapping)} if mapping.exists() else {}
    stamps = {name: {**found, **adapted} for name, found in stamps.items()}
    taken: dict[str, dict[str, list[Any]]] = {name: dict(v) for name, v in state["taken"].items() if name in stamps}
    reasons, changed = [], []
    seen = {name: {f: list(stamp) for f, stamp in found.items()} for name, found in stamps.items()}
    for name, found in stamps.items():
        before = taken.get(name, {})
        if {f: tuple(known[:2]) for f, known in before.items()} == found:
            continue
        if seen[name] != state["seen"].get(name) or not all(_whole(path) for path in files[name]):
            reasons.append(f"{name} is still being written")
            continue
        paths = [*files[name], *([mapping] if adapted else [])]
        digests = {p.name: _digest(p, found[p.name], before.get(p.name)) for p in paths}
        taken[name] = {f: [*found[f], digests[f]] for f in found}
        if digests == {f: known[2] for f, known in before.items()}:
            reasons.append(f"{name} was written again with the same content")
        else:
            changed.append(name)
    absent = [d.name for d in load_contract().values() if d.required and d.name in files and d.name not in taken]
    if absent:
        # every run checks the whole folder, and would refuse it
        reasons.append(f"waiting for {', '.join(absent)}")
        return [], reasons, {**state, "seen": seen}
    requests, unchanged = _requests(pipeline, source, changed, taken, int(state["tick"]) + 1)
    reasons += unchanged
    tick = int(state["tick"]) + bool(requests)
    return requests, reasons, {"tick": tick, "taken": taken, "seen": seen}


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _whole(path: Path) -> bool:
    """Whether the file is not empty and, if Parquet, ends as Parquet files do."""
    size = path.stat().st_size
    is_parquet = path.suffix.lower() == ".parquet"
    if not is_parquet or size < 2 * len(_PARQUET_MARK):
        return size > 0 and not is_parquet
    with path.open("rb") as stream:
        stream.seek(-len(_PARQUET_MARK), 2)
        return stream.read() == _PARQUET_MARK


def _digest(path: Path, stamp: Stamp, known: list[Any] | None) -> str:
    if known and tuple(known[:2]) == stamp:
        return known[2]
    return file_digest(path)


def _requests(
    pipeline: Pipeline, source: "FilesSource", changed: list[str], taken: Mapping[str, Any], tick: int
) -> tuple[list[dg.RunRequest], list[str]]:
    contract = load_contract()
    spans: dict[str, dict[str, tuple[date, date] | None]] = {}
    unchanged = []
    for name in changed:
        dataset = contract[name]
        try:
            span = differing_days(dataset, source, pipeline.lake)
        except TransientSourceError:
            raise
        except SourceError:
            # the run fails with the file, the rows and the rule, where everyone looks
            today = automation.now().date()
            span = (today, today)
        if span is None:
            unchanged.append(f"{name}: the lake holds the same rows already")
        else:
            spans.setdefault(dataset.partition, {})[name] = span
    requests = []
    for partition, datasets in spans.items():
        job, assets = INGEST_JOBS[partition], [raw_key(name) for name in datasets]
        digest = hashlib.sha256(json.dumps({n: taken[n] for n in datasets}, sort_keys=True).encode()).hexdigest()[:12]
        # numbered, because a file may go back to what it was before
        run_key = f"{job} {tick} {digest}"
        dated = [span for span in datasets.values() if span]
        if partition in ("snapshot", "none"):
            requests.append(dg.RunRequest(run_key, job_name=job, asset_selection=assets, tags=lake_tags(pipeline)))
            continue
        days = _partitions(pipeline, partition, min(s[0] for s in dated), max(s[1] for s in dated))
        if days is None:
            unchanged.append(f"{', '.join(datasets)}: what changed lies outside this deployment's days")
        else:
            requests.append(range_request(pipeline, days, assets, run_key, job))
    return requests, unchanged


def differing_days(dataset: Dataset, source: "FilesSource", lake: Lake) -> tuple[date, date] | None:
    """First and last day on which the source's rows differ from the lake's; None if nowhere. Snapshots: any days.

    Raises:
        SourceError: the rows break the contract.
    """
    frame = source.fetch(dataset.name, EARLIEST_DATE, _NO_END)
    assert isinstance(frame, pd.DataFrame)
    theirs = pa.Table.from_pandas(frame, schema=dataset.schema, preserve_index=False).to_pandas(date_as_object=False)
    ours = lake.read_raw(dataset)
    if dataset.date_column is None:
        same = len(theirs) == len(ours) and _sums(theirs, None).equals(_sums(ours, None))
        return None if same else (EARLIEST_DATE, _NO_END)
    new, old = _sums(theirs, dataset.date_column), _sums(ours, dataset.date_column)
    days = new.index.union(old.index)
    # filled, because a missing sum would make floats of all, and floats lose digits of a hash
    different = days[new.reindex(days, fill_value=0).to_numpy() != old.reindex(days, fill_value=0).to_numpy()]
    return (different.min().date(), different.max().date()) if len(different) else None


def _sums(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """Sum of the hashes of the rows of each day, whatever their order."""
    hashes = pd.util.hash_pandas_object(frame, index=False)
    by = frame[column] if column else pd.Series(0, frame.index)
    return hashes.groupby(by).sum()


def _partitions(pipeline: Pipeline, partition: str, first: date, last: date) -> tuple[date, date] | None:
    """First days of the first and last partition that cover `first` … `last`, of those there are now; None for none."""
    definition = partitions_of(pipeline, partition)
    ends = definition.get_first_partition_key(), definition.get_last_partition_key()
    if ends[0] is None or ends[1] is None:
        return None
    begin, end = (date.fromisoformat(key) for key in ends if key)
    if end < begin:
        return None
    if partition == "day":
        # NAVs of a half-year end that is no session lie between two partitions: take both
        until = min(last + timedelta(days=20), end, max(last, last_calendar_session()))
        around = sessions_between(max(first - timedelta(days=20), begin), until)
        before, after = around[around <= pd.Timestamp(first)], around[around >= pd.Timestamp(last)]
        starts = [*before[-1:], *around[:1]][:1] + [*after[:1], *around[-1:]][:1]
        days = [day.date() for day in starts]
    else:
        months = 1 if partition == "month" else 3
        days = [day.replace(month=(day.month - 1) // months * months + 1, day=1) for day in (first, last)]
    if not days or days[1] < begin or days[0] > end:
        return None
    return max(days[0], begin), min(days[1], end)
