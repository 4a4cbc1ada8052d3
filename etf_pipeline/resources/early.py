"""Processes that prepare for a piece of work while this one is busy with other things."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

_NICENESS = 10
"""What nobody waits for yet gives way to what somebody does."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Early(Generic[Argument, Result]):
    """`work` that a process started early does, or this one where none was.

    Such a process is forked from this one, runs `prepare` until its call comes, and answers one call. It is gone with
    this process, however that ends.
    """

    def __init__(self, prepare: Callable[[], object], work: Callable[[Argument], Iterable[Result]]) -> None:
        self._prepare = prepare
        self._work = work
        self._processes: list[_Process[Argument, Result]] = []

    @contextmanager
    def started(self, processes: int) -> Iterator[None]:
        """Start processes for the first calls within the block, and end those that did not end with their call.

        Without effect where there are threads already: a process with threads cannot be forked safely.
        """
        started = []
        if threading.active_count() == 1:
            started = [_Process(self._prepare, self._work) for _ in range(processes)]
        self._processes = list(started)
        try:
            yield
        finally:
            self._processes = []
            for process in started:
                process.end()

    def call(self, argument: Argument) -> Generator[Result]:
        """What `work` yields, as soon as it does. Whoever breaks the iteration off ends the process.

        Raises:
            Exception: what `prepare` or `work` raised.
            RuntimeError: the process was ended before it had answered.
        """
        process = self._processes.pop() if self._processes else None
        yield from process.call(argument) if process else self._work(argument)

    def begin(self, argument: Argument) -> "Future[list[Result]]":
        """As `call`, in a thread, while this one goes on."""
        pool = ThreadPoolExecutor(1)
        try:
            return pool.submit(lambda: list(self.call(argument)))
        finally:
            pool.shutdown(wait=False)


class _Process(Generic[Argument, Result]):
    def __init__(self, prepare: Callable[[], object], work: Callable[[Argument], Iterable[Result]]) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._here, there, prepare, work), daemon=True)
        self._process.start()
        there.close()

    def call(self, argument: Argument) -> Generator[Result]:
        try:
            with self._alive():
                self._here.send(argument)
            while (answer := self._answer()) is not None:
                result, error = answer
                if error:
                    raise error
                yield result
        finally:
            self.end()

    def _answer(self) -> tuple[Result, Exception | None] | None:
        with self._alive():
            return self._here.recv()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as ended:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"a process that was to help ended with code {code}; run again") from ended

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._here.close()


def _serve(
    parents: Connection, own: Connection, prepare: Callable[[], object], work: Callable[[Any], Iterable[object]]
) -> None:
    # as long as nobody but the parent holds its end, this process sees when it is gone
    parents.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        # in a thread, since niceness is a thread's on Linux, and cannot be taken back
        with ThreadPoolExecutor(1, initializer=os.nice, initargs=(_NICENESS,)) as pool:
            pool.submit(prepare).result()
        try:
            argument = own.recv()
        except EOFError:
            return
        threading.Thread(target=_end_with, args=(own,), daemon=True).start()
        for result in work(argument):
            own.send((result, None))
    except Exception as error:
        own.send((None, error))
    else:
        own.send(None)


def _end_with(parent: Connection) -> None:
    parent.poll(None)  # nothing more is ever sent
    os._exit(1)
