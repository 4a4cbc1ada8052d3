"""Long trials of what must never happen: `python -m benchmarks.soak kills` and `python -m benchmarks.soak readers`.

kills: a run over some months of the sample is killed at random moments, again and again into the same lake; after
each kill every file must be whole, and the run that is at last let through must leave the bytes of an undisturbed one.
readers: processes open the catalogue and read from it in a loop while full runs replace everything under them.
"""

import argparse
import hashlib
import os
import random
import signal
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
            rows = connection.sql("select count(*), max(signal_date) from strategy_holdings").fetchone()
            assert rows[0] > 0
            connection.sql("select count(*) from etf_daily").fetchone()
        reads += 1
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
    subprocess.run([*_COMMAND, str(folder / "undisturbed"), *RANGE], check=True, stdout=subprocess.DEVNULL)
    whole_run = time.monotonic() - began
    wanted = digests(folder / "undisturbed")
    generator, lake = random.Random(seed), folder / "lake"
    moments: dict[str, int] = {}
    for number in range(kills):
        process = subprocess.Popen(
            [*_COMMAND, str(lake), *RANGE],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(generator.uniform(0.05, 1.0) * whole_run)
            stage = "ended before"
        except subprocess.TimeoutExpired:
            stage = stage_of(lake)
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
        moments[stage] = moments.get(stage, 0) + 1
        check_whole(lake)
        extra = digests(lake).items() - wanted.items()
        assert not extra, f"kill {number}: files unlike those of an undisturbed run: {sorted(extra)[:3]}"
        print(f"kill {number + 1}: {stage}", flush=True)
    subprocess.run([*_COMMAND, str(lake), *RANGE], check=True, stdout=subprocess.DEVNULL)
    check_whole(lake)
    assert digests(lake) == wanted, "the final bytes differ from those of an undisturbed run"
    print(f"{kills} kills, {moments}; final bytes equal; {time.monotonic() - began:.0f} s")


def stage_of(lake: Path) -> str:
    """Last step the log of the run names as begun."""
    log = lake / "build" / "run.log"
    if not log.exists():
        return "before any step"
    starts = [line for line in log.read_text(encoding="utf-8").splitlines() if "STEP_START" in line]
    if not starts:
        return "before any step"
    step = starts[-1].rsplit('"', 2)[1]
    return next((part for part in ("raw", "warehouse", "factors", "strategy") if step.startswith(part)), "analytics")


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
