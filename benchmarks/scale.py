"""The pipeline on a market of full size: time, memory and disk, and the look-through against tools by hand.

Everything is measured in this run, each step in a fresh process:

1. rebuild: `etf-pipeline run` into an empty lake: ten years ingested in one run, marts, factors, holdings, analytics;
2. look-through: the dbt models alone against bare DuckDB, pandas and polars on the same files, in turns; their results
   must agree before a ratio is printed;
3. one day more: the next session appears in the source and `etf-pipeline run` is asked for it, up to the holdings;
   then, from the same state, everything is asked for and computed anew: the same tables must come out;
4. backfill: the raw data alone through Dagster's partitions, every partition of ten years in one run a kind.

    python -m benchmarks.scale [FOLDER]

Files go to a temporary folder in `FOLDER` (default: that of the system), about three gigabytes, removed when done.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pandas as pd

from benchmarks.look_through import INPUTS, LIBRARIES, RESULTS
from benchmarks.market import LAST_DAY, add_last_session
from etf_pipeline.resources.dbt import DbtCommand
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from etf_pipeline.tables import ANALYTICS_TABLES

ROOT = Path(__file__).resolve().parents[1]
RUN = (sys.executable, "-c", "from etf_pipeline.cli import main; main()", "run")
ITSELF = (sys.executable, "-m", "benchmarks.scale")
LOOK_THROUGH = (
    "stg_index__weight",
    "int_index__weight_set",
    "int_index__segment",
    "int_index__industry_weight",
    "int_index__daily",
    "int_industry__look_through",
    "industry_daily",
    "int_stock__weekly",
    "stock_weekly",
)
"""Models from the ETFs' daily values to industries by day and stocks by week."""
TURNS = 3
_SAMPLED_EVERY = 0.5
_AGREEMENT = 1e-9


@dataclass
class Measured:
    """One command with its children: seconds from start to end and of processor time, most memory held together."""

    seconds: float
    processor_seconds: float
    peak_bytes: int
    output: str

    def __str__(self) -> str:
        return f"{self.seconds:7.1f} s ({self.processor_seconds:.1f} s of processor){self.peak_bytes / 2**30:6.2f} GiB"


@dataclass
class Sampler:
    """Samples the memory of all processes of one session: their proportional set sizes, so that pages they share
    count once. The system takes so long to tell those, a quarter of a core five times a second, that it is asked only
    where resident sizes, which are larger, leave room for a new peak."""

    session: int
    peak_bytes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._ended.wait(_SAMPLED_EVERY):
            members = list(self._members())
            if sum(map(_resident, members)) > self.peak_bytes:
                self.peak_bytes = max(self.peak_bytes, sum(map(_memory, members)))

    def end(self) -> None:
        self._ended.set()

    def _members(self) -> Iterator[Path]:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # after the name in brackets: state, parent, group, session
                if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == self.session:
                    yield process


def _resident(process: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _memory(process: Path) -> int:
    """Bytes the process holds; 0 once it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (process / "smaps_rollup").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


def measured(*command: object) -> Measured:
    """Run a command to its end in a session of its own.

    Raises:
        RuntimeError: it failed; the message is what it printed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    began, before = time.monotonic(), os.times()
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    sampler = Sampler(process.pid)
    thread = threading.Thread(target=sampler.run)
    thread.start()
    output, _ = process.communicate()
    seconds, after = time.monotonic() - began, os.times()
    sampler.end()
    thread.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{output}")
    # of children that have ended, and theirs: there is no other child meanwhile
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(seconds, used, sampler.peak_bytes, output)


def on_disk(*paths: Path) -> str:
    files = [file for path in paths for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 2**20:,.0f} MiB"


def newest_holdings(lake: Path) -> str:
    days = pd.read_parquet(lake / "published" / "strategy_holdings.parquet", columns=["signal_date"])["signal_date"]
    return f"{days.max():%Y-%m-%d}"


def look_through(lake: Lake, deployment: Deployment, folder: Path) -> None:
    """Print the models' time and each opponent's, after comparing the results.

    The least of the turns counts: whatever else the machine does only adds to it.
    """
    inputs, results = folder / "inputs", folder / "results"
    inputs.mkdir()
    with duckdb.connect(lake.warehouse, read_only=True) as connection:
        for name, query in INPUTS.items():
            connection.execute(f"copy ({query}) to '{inputs / name}.parquet'")
    times: dict[str, list[float]] = {name: [] for name in ("models", *LIBRARIES)}
    peaks = dict.fromkeys(LIBRARIES, 0)
    for _ in range(TURNS):
        times["models"].append(run_models(deployment))
        for library in LIBRARIES:
            command = (sys.executable, "-m", "benchmarks.look_through", library, inputs, lake.root / "raw", results)
            one = measured(*command)
            times[library].append(float(one.output.split()[-1]))
            peaks[library] = max(peaks[library], one.peak_bytes)
    for name in LIBRARIES:
        compare(lake, results, name)
    ours = min(times["models"])
    print(f"look-through models: {ours:.2f} s ({', '.join(f'{t:.2f}' for t in times['models'])})")
    for library in LIBRARIES:
        theirs = min(times[library])
        print(
            f"  {library:<8}{theirs:7.2f} s ({', '.join(f'{t:.2f}' for t in times[library])})"
            f"{peaks[library] / 2**30:6.2f} GiB, {theirs / ours:.2f} times the models"
        )


def run_models(deployment: Deployment) -> float:
    """Seconds the look-through models take together, as dbt measures them, in the lake's own warehouse."""
    # one after another: the times of models that share the cores do not add up
    command = DbtCommand(Pipeline(deployment), "run", "--full-refresh", "--threads", "1", "--select", *LOOK_THROUGH)
    with contextlib.redirect_stdout(io.StringIO()):
        results = command.run()
    assert len(results) == len(LOOK_THROUGH)
    return sum(result.seconds for result in results)


def compare(lake: Lake, results: Path, library: str) -> None:
    """Check that a library found what the published tables hold.

    Raises:
        AssertionError: rows or values differ by more than 1e-9 of the largest value of their day or week.
    """
    for name, table in {"industry": "industry_daily", "stock": "stock_weekly"}.items():
        key = RESULTS[name]
        theirs = pd.read_parquet(results / f"{library}_{name}.parquet").set_index(key).dropna(how="all")
        ours = lake.read_published(table, [*key, *theirs.columns]).set_index(key)
        # the mart has a row of zeros for an industry nobody holds
        missing = ours.index.difference(theirs.index)
        assert theirs.index.difference(ours.index).empty, f"{library}: {name} has rows the models have not"
        assert ours.loc[missing].fillna(0).eq(0).all(axis=None), f"{library}: {name} lacks rows"
        both = ours.join(theirs.add_suffix("_theirs"), how="inner")
        for column in theirs:
            room = _AGREEMENT * both[column].abs().groupby(level=0).transform("max").fillna(0)
            off = (both[column].fillna(0) - both[f"{column}_theirs"].fillna(0)).abs() > room
            assert not off.any(), f"{library}: {name} differs in {column}:\n{both[off].head()}"


def backfill(lake: Path, data: Path) -> None:
    """Fill `lake/raw` from `data` through partitions: one run for all sessions, one for all months, and so on."""
    import dagster as dg

    from etf_pipeline.assets.raw import raw_assets

    pipeline = Pipeline(Deployment(source="files", data=data, lake=lake))
    first, last = pipeline.span
    groups: dict[dg.PartitionsDefinition | None, list[dg.AssetsDefinition]] = {}
    for asset in raw_assets(first, last):
        groups.setdefault(asset.partitions_def, []).append(asset)
    for partitions, assets in groups.items():
        tags = {}
        if partitions:
            keys = partitions.get_partition_keys()
            tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        assert dg.materialize(assets, resources={"pipeline": pipeline}, tags=tags).success


def same_rows(left: Lake, right: Lake, table: str) -> bool:
    """Whether a published table is the same in both lakes; analytics, which an evening leaves out, aside."""
    if table in {t.name for t in ANALYTICS_TABLES}:
        return True
    ours, theirs = left.published_files(table), right.published_files(table)
    return [file.name for file in ours] == [file.name for file in theirs] and all(
        mine.read_bytes() == other.read_bytes() for mine, other in zip(ours, theirs, strict=True)
    )


def main(folder: Path) -> None:
    data, root = folder / "market", folder / "lake"
    print(f"{os.cpu_count()} cores, {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB")
    market = measured(sys.executable, "-m", "benchmarks.market", data)
    print(f"market made       {market}, {on_disk(data)}\n{market.output}")
    deployment = Deployment(source="files", data=data, lake=root)
    lake = Lake(root)

    rebuild = measured(*RUN, "--source", "files", "--data", data, "--lake", root)
    in_lake = {name: on_disk(root / name) for name in ("raw", "published", "build")}
    print(f"rebuild           {rebuild}, {', '.join(f'{k} {v}' for k, v in in_lake.items())}")
    look_through(lake, deployment, folder)

    before = newest_holdings(root)
    add_last_session(data)
    whole = folder / "whole"
    shutil.copytree(root, whole)
    evening = ("--start", LAST_DAY, "--no-research")
    increment = measured(*RUN, "--source", "files", "--data", data, "--lake", root, *evening)
    print(f"one day more      {increment}, holdings {before} -> {newest_holdings(root)}")
    shutil.rmtree(whole / "build")
    anew = measured(*RUN, "--source", "files", "--data", data, "--lake", whole)
    print(f"  all of it anew  {anew}, holdings {before} -> {newest_holdings(whole)}")
    differing = [t for t in Lake(whole).published_tables() if not same_rows(lake, Lake(whole), t)]
    print(f"  tables that differ between the two: {', '.join(differing) or 'none'}")

    raw = measured(*ITSELF, "--backfill", folder / "backfilled", data)
    print(f"backfill of raw   {raw}, {on_disk(folder / 'backfilled' / 'raw')}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--backfill"]:
        backfill(*map(Path, sys.argv[2:]))
    else:
        with contextlib.ExitStack() as stack:
            where = Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.gettempdir())
            main(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=where))))
