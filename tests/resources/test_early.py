"""A process that is started early answers what it is asked, and outlives nobody."""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from etf_pipeline.resources.early import Early, _Helper, _start
from tests.processes import told_by_a_process

WAITED_SECONDS = 30


class Prepared:
    """What a process has done when its call comes."""

    def __init__(self) -> None:
        self.by: int | None = None

    def prepare(self) -> None:
        self.by = os.getpid()

    def answer(self, question: str) -> Iterator[tuple[str, int | None, int]]:
        os.write(1, b"nobody reads this")
        for word in question.split():
            yield word.upper(), self.by, os.getpid()


def refuse(question: str) -> Iterator[str]:
    yield "first"
    raise ValueError(f"not {question}")


def unready() -> None:
    raise ValueError("not ready")


def full(question: str) -> Iterator[str]:
    raise OSError(errno.ENOSPC, "no space left", question)
    yield question


def end(question: str) -> Iterator[str]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield question


def work_on(question: str) -> Iterator[int]:
    yield os.getpid()
    time.sleep(WAITED_SECONDS)


def nothing() -> None:
    pass


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def divided(question: str) -> Iterator[int]:
    if not question:
        raise ValueError("nothing asked")
    time.sleep(float(question))
    yield os.getpid()


def helper(prepare: Callable[[], object], work: Callable[[str], Iterable[Any]]) -> _Helper[str, Any]:
    (one,) = _start(prepare, work, 1)
    return one


def wait_for_the_end(*pids: int) -> None:
    deadline = time.monotonic() + WAITED_SECONDS / 2
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_prepares_and_answers_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    prepared = Prepared()
    one = helper(prepared.prepare, prepared.answer)
    words, prepared_by, answered_by = zip(*one.call("who is"), *one.call("there"), strict=True)
    assert words == ("WHO", "IS", "THERE")
    assert {*prepared_by} == {*answered_by} != {os.getpid()}
    assert len({*answered_by}) == 1
    assert prepared.by is None
    one.end()
    assert not is_running(answered_by[0])
    assert capfd.readouterr().out == ""


def test_what_it_raises_is_raised_here() -> None:
    one = helper(nothing, refuse)
    answers = one.call("this")
    assert next(answers) == "first"
    assert not one.is_idle
    with pytest.raises(ValueError, match="not this"):
        next(answers)
    assert one.is_idle
    with pytest.raises(ValueError, match="not that"):
        list(one.call("that"))
    with pytest.raises(OSError, match="no space left") as error:
        list(helper(nothing, full).call("on the disk"))
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(ValueError, match="not ready"):
        list(helper(unready, refuse).call("this"))


def test_it_can_be_ended_without_a_call() -> None:
    idle = helper(lambda: time.sleep(WAITED_SECONDS), refuse)
    assert idle._process
    pid = idle._process.pid
    assert pid
    assert is_running(pid)
    idle.end()
    assert not is_running(pid)


def test_it_ends_when_its_answers_are_no_longer_wanted() -> None:
    pid, _, running = told_by_a_process(_broken_off)
    assert running
    wait_for_the_end(pid)


def test_one_that_was_ended_is_told() -> None:
    with pytest.raises(RuntimeError, match="has ended, or was ended"):
        list(helper(nothing, end).call("this"))


def _broken_off(tell: Connection) -> None:
    early = Early(nothing, work_on)
    with early.started():
        answers = early.call("this")
        pid = next(answers)
        running = is_running(pid)
        answers.close()
        wait_for_the_end(pid)
        here = next(early.call("that"))
    tell.send((pid, here, running))


def _started(tell: Connection) -> None:
    prepared = Prepared()
    early = Early(prepared.prepare, prepared.answer, at_once=2)
    with early.started():
        first, second = early.call("once"), early.call("again")
        together = [next(first), next(second)]
        answers = [*together, *first, *second, *early.call("more"), *early.call("still")]
    ((_, _, here),) = early.call("afterwards")
    tell.send((answers, here, os.getpid()))


def test_those_started_early_answer_one_call_after_another_and_one_prepared_for_all() -> None:
    answers, here, itself = told_by_a_process(_started)
    assert [word for word, _, _ in answers] == ["ONCE", "AGAIN", "MORE", "STILL"]
    (prepared_by,) = {by for _, by, _ in answers}
    pids = {pid for _, _, pid in answers}
    assert prepared_by in pids
    assert len(pids) == 2
    assert here == itself not in pids
    wait_for_the_end(*pids)


def _begun(tell: Connection) -> None:
    early = Early(nothing, divided, at_once=2)
    with early.started():
        refused = early.begin("")
        futures = [early.begin("0.1") for _ in range(6)]
        pids = [future.result()[0] for future in futures]
        waiting = [early.begin(f"{WAITED_SECONDS}") for _ in range(3)]
        while not all(future.running() for future in waiting[:2]):
            time.sleep(0.01)
    tell.send((str(refused.exception()), pids, [future.cancelled() for future in waiting]))


def test_what_is_begun_waits_for_one_that_is_idle_and_not_for_the_end() -> None:
    began = time.monotonic()
    refused, pids, cancelled = told_by_a_process(_begun)
    assert time.monotonic() - began < WAITED_SECONDS
    assert refused == "nothing asked"
    assert len(set(pids)) == 2
    # two were at work, which nobody can call back
    assert cancelled == [False, False, True]
    wait_for_the_end(*pids)


def test_one_that_ends_takes_no_other_with_it() -> None:
    first, second, third = _start(
        nothing, lambda question: end(question) if question == "end" else work_on(question), 3
    )
    answers = second.call("go on")
    pid = next(answers)
    with pytest.raises(RuntimeError, match="has ended, or was ended"):
        next(first.call("end"))
    assert is_running(pid)
    other = third.call("go on")
    other_pid = next(other)
    second.end()
    third.end()
    wait_for_the_end(pid, other_pid)


def test_beside_threads_none_is_started() -> None:
    early = Early(nothing, work_on)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with early.started():
            assert not early.is_started
            assert next(early.call("this")) == os.getpid()
    finally:
        stop.set()
        thread.join()


def _working_parent(tell: Connection) -> None:
    calls = [one.call("this") for one in _start(nothing, work_on, 2)]
    tell.send([next(call) for call in calls])
    time.sleep(WAITED_SECONDS)


def _idle_parent(tell: Connection) -> None:
    # two that wait, beside a third that would keep their connections open
    prepared = Prepared()
    helpers = [helper(prepared.prepare, prepared.answer) for _ in range(2)]
    call = helper(nothing, work_on).call("this")
    tell.send([*(h._process.pid for h in helpers if h._process), next(call)])
    time.sleep(WAITED_SECONDS)


@pytest.mark.parametrize("parent_of", [_idle_parent, _working_parent])
def test_none_is_left_when_the_parent_is_killed(parent_of: Callable[[Connection], None]) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    parent = context.Process(target=parent_of, args=(there,))
    parent.start()
    pids = here.recv()
    assert all(map(is_running, pids))
    assert parent.pid
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    wait_for_the_end(*pids)
