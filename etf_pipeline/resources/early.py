"""Processes that prepare for a piece of work while this one is busy with other things."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
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
        self._helpers: list[_Helper[Argument, Result]] = []

    @contextmanager
    def started(self, processes: int) -> Iterator[None]:
        """Start processes for the first calls within the block, and end those that did not end with their call.

        One of them prepares and is then forked into the others. Without effect where there are threads already: a
        process with threads cannot be forked safely.
        """
        may_fork = processes and threading.active_count() == 1
        helpers = _start(self._prepare, self._work, processes) if may_fork else []
        self._helpers = list(helpers)
        try:
            yield
        finally:
            self._helpers = []
            for helper in helpers:
                helper.end()

    def call(self, argument: Argument) -> Generator[Result]:
        """What `work` yields, as soon as it does. Whoever breaks the iteration off ends the process.

        Raises:
            Exception: what `prepare` or `work` raised.
            RuntimeError: the process was ended before it had answered.
        """
        helper = self._helpers.pop(0) if self._helpers else None
        yield from helper.call(argument) if helper else self._work(argument)

    def begin(self, argument: Argument) -> "Future[list[Result]]":
        """As `call`, in a thread, while this one goes on."""
        pool = ThreadPoolExecutor(1)
        try:
            return pool.submit(lambda: list(self.call(argument)))
        finally:
            pool.shutdown(wait=False)


class _Helper(Generic[Argument, Result]):
    """This process's end of what connects it with a helper, and the process to end with it, if it is a child."""

    def __init__(self, connection: Connection, process: BaseProcess | None) -> None:
        self._connection = connection
        self._process = process
        _connections.add(connection)

    def call(self, argument: Argument) -> Generator[Result]:
        try:
            with self._alive():
                self._connection.send(argument)
            while (answer := self._answer()) is not None:
                result, error = answer
                if error:
                    raise error
                yield result
        finally:
            self.end()

    def _answer(self) -> tuple[Result, Exception | None] | None:
        with self._alive():
            return self._connection.recv()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as ended:
            raise RuntimeError("a process that was to help has ended, or was ended; run again") from ended

    def end(self) -> None:
        # a helper sees that nobody holds the other end of its connection, and ends itself
        self._connection.close()
        _connections.discard(self._connection)
        if self._process:
            self._process.kill()
            self._process.join()


_connections: set[Connection] = set()
"""This process's ends of all connections with helpers, which no helper may keep open."""


def _start(
    prepare: Callable[[], object], work: Callable[[Argument], Iterable[Result]], number: int
) -> list[_Helper[Argument, Result]]:
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in range(number)]
    heres, theres = [here for here, _ in pairs], [there for _, there in pairs]
    process = context.Process(target=_help, args=(heres, theres, prepare, work), daemon=True)
    process.start()
    for there in theres:
        there.close()
    return [_Helper(here, None if number else process) for number, here in enumerate(heres)]


def _help(
    heres: Sequence[Connection],
    theres: Sequence[Connection],
    prepare: Callable[[], object],
    work: Callable[[Any], Iterable[object]],
) -> None:
    for connection in (*heres, *_connections):
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    failure = None
    try:
        # in a thread, since niceness is a thread's on Linux, and cannot be taken back
        with ThreadPoolExecutor(1, initializer=os.nice, initargs=(_NICENESS,)) as pool:
            pool.submit(prepare).result()
    except Exception as error:
        failure = error
    for own in theres[1:]:
        if os.fork() == 0:
            _serve(own, theres, work, failure)
            os._exit(0)
    _serve(theres[0], theres, work, failure)


def _serve(
    own: Connection, all_ends: Sequence[Connection], work: Callable[[Any], Iterable[object]], failure: Exception | None
) -> None:
    for end in all_ends:
        if end is not own:
            end.close()
    try:
        argument = own.recv()
    except EOFError:
        return
    threading.Thread(target=_end_with, args=(own,), daemon=True).start()
    try:
        if failure:
            raise failure
        for result in work(argument):
            own.send((result, None))
    except Exception as error:
        own.send((None, error))
    else:
        own.send(None)


def _end_with(connection: Connection) -> None:
    connection.poll(None)  # nothing more is ever sent
    os._exit(1)
