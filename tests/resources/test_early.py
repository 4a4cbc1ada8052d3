"""A process that is started early answers once, and outlives nobody."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from etf_pipeline.resources.early import EarlyProcess

WAITED_SECONDS = 30


class Prepared:
    """What a process has done when its call comes."""

    def __init__(self) -> None:
        self.by: int | None = None

    def prepare(self) -> None:
        self.by = os.getpid()

    def answer(self, question: str) -> tuple[str, int | None, int]:
        os.write(1, b"nobody reads this")
        return question.upper(), self.by, os.getpid()


def refuse(question: str) -> str:
    raise ValueError(f"not {question}")


def end(question: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nothing() -> None:
    pass


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_it_prepares_and_answers_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    prepared = Prepared()
    process = EarlyProcess(prepared.prepare, prepared.answer)
    answer, prepared_by, answered_by = process.call("who")
    assert answer == "WHO"
    assert prepared_by == answered_by != os.getpid()
    assert prepared.by is None
    assert not is_running(answered_by)
    assert capfd.readouterr().out == ""


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="not this"):
        EarlyProcess(nothing, refuse).call("this")
    with pytest.raises(ValueError, match="not ready"):
        EarlyProcess(lambda: refuse("ready"), refuse).call("this")


def test_it_can_be_ended_without_a_call() -> None:
    process = EarlyProcess(lambda: time.sleep(WAITED_SECONDS), refuse)
    pid = process._process.pid
    assert pid
    assert is_running(pid)
    process.end()
    assert not is_running(pid)


def test_one_that_was_ended_is_told() -> None:
    with pytest.raises(RuntimeError, match="ended with code -9"):
        EarlyProcess(nothing, end).call("this")


def _parent(tell: Connection) -> None:
    prepared = Prepared()
    processes = [EarlyProcess(prepared.prepare, prepared.answer) for _ in range(2)]
    tell.send([process._process.pid for process in processes])
    time.sleep(WAITED_SECONDS)


def test_none_is_left_when_the_parent_is_killed() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    parent = context.Process(target=_parent, args=(there,))
    parent.start()
    pids = here.recv()
    assert all(map(is_running, pids))
    assert parent.pid
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    deadline = time.monotonic() + WAITED_SECONDS
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))
