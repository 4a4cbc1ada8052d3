"""Long trials of what must never happen: `python -m benchmarks.soak kills` and `python -m benchmarks.soak readers`.

kills: a run over some months of the sample is killed at random moments, again and again into the same lake; after
each kill every file must be whole, and the run that is at last let through must leave the bytes of an undisturbed one.
readers: processes open the catalogue and read from it in a loop while full runs replace everything under them.
"""

import argparse
import contextlib
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

RANGE = ("--start", "2023-01-01", "--end", "2023-06-30")
COMPARED = ("raw", "published")
_COMMAND = (sys.executable, "-c", "from etf_pipeline.cli import main; main()", "run", "--no-research", "--lake")
_READER = """
import sys, time
import duckdb
path, stop = sys.argv[1:]
reads = errors = 0
import pathlib
while not pathlib.Path(stop).exists():
    try:
        with duckdb.connect(path, read_only=True) as connection:
            held = connection.execute("select count(*), max(signal_date) from strategy_holdings").fetchone()
            assert held[0] > 0
            assert connection.execute("select count(*) from etf_daily").fetchone()[0] > 0
        reads += 1
        time.sleep(0.5)  # twenty that never rest would leave the runs no processor
    except Exception as error:
        errors += 1
        print("error", type(error).__name__, error, flush=True)
print("reads", reads, "errors", errors, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trial", choices=["kills", "readers"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.trial == "kills":
            kill_often(Path(folder), arguments.kills, arguments.seed)
        else:
            read_often(Path(folder), arguments.readers, arguments.runs)


def kill_often(folder: Path, kills: int, seed: int) -> None:
    began = time.monotonic()
    for _ in range(2):  # most kills meet a lake that holds something: the second run tells how long those take
        started = time.monotonic()
        subprocess.run([*_COMMAND, str(folder / "undisturbed"), *RANGE], check=True, stdout=subprocess.DEVNULL)
        whole_run = time.monotonic() - started
    wanted = digests(folder / "undisturbed")
    generator, lake = random.Random(seed), folder / "lake"
    moments: dict[str, int] = {}
    number = 0
    while number < kills:
        process = subprocess.Popen(
            [*_COMMAND, str(lake), *RANGE],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(generator.uniform(0.05, 1.0) * whole_run)
            continue  # it ended before it was killed
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        number += 1
        stage = stage_of(lake)
        moments[stage] = moments.get(stage, 0) + 1
        check_whole(lake)
        extra = digests(lake).items() - wanted.items()
        assert not extra, f"kill {number}: files unlike those of an undisturbed run: {sorted(extra)[:3]}"
        print(f"kill {number}: {stage}", flush=True)
    subprocess.run([*_COMMAND, str(lake), *RANGE], check=True, stdout=subprocess.DEVNULL)
    check_whole(lake)
    assert digests(lake) == wanted, "the final bytes differ from those of an undisturbed run"
    print(f"{kills} kills, {moments}; final bytes equal; {time.monotonic() - began:.0f} s")


def stage_of(lake: Path) -> str:
    """Layer of the step the newest run had begun last, as Dagster recorded it."""
    logs = [log for log in (lake / ".dagster" / "history" / "runs").glob("*.db") if log.stem != "index"]
    if not logs:
        return "before any step"
    with contextlib.closing(sqlite3.connect(max(logs, key=lambda log: log.stat().st_mtime))) as connection:
        query = "select step_key from event_logs where dagster_event_type = 'STEP_START' order by id desc limit 1"
        found = connection.execute(query).fetchone()
    return found[0].split("__")[0] if found else "before any step"


def check_whole(lake: Path) -> None:
    for path in files(lake, (*COMPARED, "archive", "ledger")):
        pq.read_table(path)
    if (lake / "etf.duckdb").exists():
        with duckdb.connect(lake / "etf.duckdb", read_only=True) as connection:
            for (view,) in connection.execute(
                "select table_schema || '.' || table_name from information_schema.tables"
            ).fetchall():
                connection.execute(f"select count(*) from {view}").fetchone()


def files(lake: Path, folders: tuple[str, ...]) -> list[Path]:
    return [p for f in folders for p in sorted((lake / f).rglob("*.parquet")) if not p.name.startswith(".")]


def digests(lake: Path) -> dict[str, str]:
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files(lake, COMPARED)
    }


def read_often(folder: Path, readers: int, runs: int) -> None:
    lake, stop = folder / "lake", folder / "stop"
    subprocess.run([*_COMMAND, str(lake), *RANGE], check=True, stdout=subprocess.DEVNULL)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, str(lake / "etf.duckdb"), str(stop)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(readers)
    ]
    failed = 0
    for number in range(runs):
        # another end each time, so that every table is replaced
        end = f"2023-06-{30 - number:02d}"
        run = subprocess.run([*_COMMAND, str(lake), "--start", "2023-01-01", "--end", end], capture_output=True)
        failed += run.returncode != 0
        print(f"run {number + 1} of {runs}: exit {run.returncode}", flush=True)
    stop.touch()
    outputs = [process.communicate()[0] for process in processes]
    reads = sum(int(output.split()[-3]) for output in outputs)
    errors = [line for output in outputs for line in output.splitlines() if line.startswith("error")]
    print(f"{readers} readers, {reads} reads, {len(errors)} reader errors, {failed} failed runs")
    assert not errors, errors[:3]
    assert not failed


if __name__ == "__main__":
    main()
