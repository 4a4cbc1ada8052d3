import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etf_pipeline.resources import workers


def _refuse(what: str) -> None:
    raise ValueError(what)


def _pid(file: Path) -> None:
    file.with_suffix(".new").write_text(str(os.getpid()))
    file.with_suffix(".new").rename(file)
    time.sleep(60)


def _is_alive(pid: int) -> bool:
    try:
        # a zombie that nobody has waited for yet is none
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_another_process_does_the_work() -> None:
    assert workers.begin(os.getpid).result() != os.getpid()
    assert workers.begin(sorted, [2, 1], reverse=False).result() == [1, 2]


def test_a_failure_is_raised_here() -> None:
    with pytest.raises(ValueError, match="no such week"):
        workers.begin(_refuse, "no such week").result()


def test_nothing_is_forked_from_this_process() -> None:
    workers.begin(os.getpid).result()
    assert workers.begin(os.getppid).result() != os.getpid()


def test_a_worker_ends_with_the_killed_process(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = (
        "from pathlib import Path; from tests.resources.test_workers import _pid; from etf_pipeline.resources import"
        f" workers; workers.begin(_pid, Path({str(file)!r})).result()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    while not file.exists():
        assert process.poll() is None
        time.sleep(0.05)
    worker = int(file.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while _is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _begin_one() -> None:
    assert workers.begin(os.getpid).result() != os.getpid()


def test_a_process_of_multiprocessing_ends_with_its_workers() -> None:
    process = multiprocessing.get_context("spawn").Process(target=_begin_one)
    process.start()
    process.join(60)
    assert process.exitcode == 0
