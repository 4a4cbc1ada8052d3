"""A run killed at any moment leaves whole files, and the run after it the same bytes as if nothing had happened."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.harness import (
    LAST_SHORT_SIGNAL,
    SHORT,
    Command,
    catalogue_rows,
    digests,
    etf_pipeline,
    folder_of,
    readable_rows,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("short")]

PATIENCE_SECONDS = 600


def begun(path: Path) -> bool:
    """Whether the file is being written or there."""
    return path.exists() or any(path.parent.glob(f".{path.name}.*"))


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the first raw file": lambda lake: begun(lake / "raw" / "etf_bar" / "2023.parquet"),
    "dbt builds marts": lambda lake: any(lake.glob("build/dbt/run/**/marts/industry_daily.sql")),
    "holdings are published": lambda lake: begun(lake / "published" / "strategy_holdings.parquet"),
}
"""In the order of a run, each first seen on a lake that was left at the moment before.

Kills at random moments, a hundred of them, are a trial of `benchmarks/soak.py`.
"""


def kill_group(process: Command) -> None:
    """End the command and all it started at once, without a chance to tidy up."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError("processes of the group are still there")


def run_until(name: str, lake: Path, log: Path) -> None:
    """Run up to the moment of that name, and no further."""
    moment = MOMENTS[name]
    assert not moment(lake), f"{name}: has passed already"
    process = Command("run", "--no-research", "--lake", lake, *SHORT, cwd=lake.parent, log=log)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not moment(lake):
            assert process.poll() is None, f"{name}: ended before:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{name}: never came"
            time.sleep(0.01)
    finally:
        kill_group(process)


def check_whole(lake: Path) -> None:
    rows = readable_rows(lake)
    if (lake / "etf.duckdb").exists():
        views = catalogue_rows(lake)
        for view, count in views.items():
            # what lies beside the data (a file that never got its name) is not taken for data
            assert count == sum(n for file, n in rows.items() if file.startswith(folder_of(view))), view


@pytest.fixture(scope="module")
def undisturbed(short_lake: Path) -> dict[str, str]:
    check_whole(short_lake)
    return digests(short_lake)


def test_killed_at_every_stage_and_then_run_twice_at_once(undisturbed: dict[str, str], tmp_path: Path) -> None:
    lake, log = tmp_path / "lake", tmp_path / "log"
    for name in MOMENTS:
        run_until(name, lake, log)
        check_whole(lake)
        # whatever is there already is what an undisturbed run writes
        assert digests(lake).items() <= undisturbed.items(), name
    # what a kill in the middle of a write leaves, in case none of these kills met one
    for file in ("raw/etf_bar/.2023.parquet.1.tmp", "published/.etf_flow.parquet.1.tmp", ".etf.duckdb.1.tmp"):
        (lake / file).write_bytes(b"PAR1 half a file")
    # two runs at once: they wait for each other where they have to
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    runs = [Command("run", "--no-research", "--lake", lake, *SHORT, cwd=tmp_path, log=log) for log in logs]
    for run, log in zip(runs, logs, strict=True):
        assert run.wait(PATIENCE_SECONDS) == 0, log.read_text()
        assert f"Holdings of signal {LAST_SHORT_SIGNAL}" in log.read_text()
    assert digests(lake) == undisturbed
    check_whole(lake)


@pytest.mark.parametrize("largest_file", [100_000, 3_000_000], ids=["run log", "warehouse"])
def test_a_full_disk(undisturbed: dict[str, str], largest_file: int, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    run = etf_pipeline("run", "--no-research", "--lake", lake, *SHORT, cwd=tmp_path, largest_file=largest_file)
    assert run.code == 1, run.output
    assert "what was published before stays" in run.output
    assert "Traceback" not in run.output
    check_whole(lake)
    assert digests(lake).items() <= undisturbed.items()
    assert not (lake / "published" / "industry_weekly.parquet").exists()
    assert not (lake / "published" / "strategy_holdings.parquet").exists()
