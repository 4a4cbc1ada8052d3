"""Processes that prepare for a piece of work while this one is busy with other things."""

import multiprocessing
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, NoReturn, TypeVar

from etf_pipeline.resources.memory import give_back_freed_memory

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Early(Generic[Argument, Result]):
    """`work` that processes started early do, or this one where none were; `at_once` pieces of it at a time.

    Such a process is forked from this one, runs `prepare` until a call comes, and answers one call after another. It
    is gone with this process, however that ends. As nobody waits for it yet, `prepare` gives way to others: the more,
    the larger its `niceness`.
    """

    def __init__(
        self,
        prepare: Callable[[], object],
        work: Callable[[Argument], Iterable[Result]],
        at_once: int = 1,
        niceness: int = 10,
    ) -> None:
        self._prepare = partial(_gently, prepare, niceness)
        self._work = work
        self._at_once = at_once
        self._idle: list[_Helper[Argument, Result]] = []
        self._pool: ThreadPoolExecutor | None = None
        self.is_started = False
        """Whether processes were started."""

    @contextmanager
    def started(self) -> Iterator[None]:
        """Start processes for the calls within the block. What is begun and not done at its end never will be.

        One of them prepares and is then forked into the others. Without effect where there are threads already: a
        process with threads cannot be forked safely.
        """
        helpers = _start(self._prepare, self._work, self._at_once) if threading.active_count() == 1 else []
        self._idle, self.is_started = list(helpers), bool(helpers)
        try:
            yield
        finally:
            self._idle, self.is_started = [], False
            if self._pool:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None
            for helper in helpers:
                helper.end()

    def call(self, argument: Argument) -> Generator[Result]:
        """What `work` yields, as soon as it does. Whoever breaks the iteration off ends the process.

        Raises:
            Exception: what `prepare` or `work` raised.
            RuntimeError: the process was ended before it had answered.
        """
        helper = self._idle.pop() if self._idle else None
        if helper is None:
            yield from self._work(argument)
            return
        try:
            yield from helper.call(argument)
        finally:
            if helper.is_idle and self.is_started:
                self._idle.append(helper)
            else:
                helper.end()

    def begin(self, argument: Argument) -> "Future[list[Result]]":
        """As `call`, in a thread, while this one goes on; as soon as there are fewer than `at_once` others."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._at_once)
        return self._pool.submit(lambda: list(self.call(argument)))


class _Helper(Generic[Argument, Result]):
    """This process's end of what connects it with a helper, and the process to end with it, if it is a child."""

    def __init__(self, connection: Connection, process: BaseProcess | None) -> None:
        self._connection = connection
        self._process = process
        self.is_idle = True
        """Whether it has answered what it was asked."""
        _connections.add(connection)

    def call(self, argument: Argument) -> Generator[Result]:
        self.is_idle = False
        with self._alive():
            self._connection.send(argument)
        while (answer := self._answer()) is not None:
            result, error = answer
            if error:
                self.is_idle = True
                raise error
            yield result
        self.is_idle = True

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
        # a helper sees that nobody holds the other end of its connection, and ends itself; shut down, since a thread
        # that waits for an answer holds it
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as both:
            both.shutdown(socket.SHUT_RDWR)
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
) -> NoReturn:
    for connection in (*heres, *_connections):
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    failure = None
    try:
        prepare()
    except Exception as error:
        failure = error
    for own in theres[1:]:
        if os.fork() == 0:
            _serve(own, theres, work, failure)
    _serve(theres[0], theres, work, failure)


def _gently(prepare: Callable[[], object], niceness: int) -> None:
    # in a thread, since niceness is a thread's on Linux, and cannot be taken back
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(niceness,)) as pool:
        pool.submit(prepare).result()


def _serve(
    own: Connection, all_ends: Sequence[Connection], work: Callable[[Any], Iterable[object]], failure: Exception | None
) -> NoReturn:
    for end in all_ends:
        if end is not own:
            end.close()
    asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(own, asked), daemon=True).start()
    while True:
        argument = asked.get()
        try:
            if failure:
                raise failure
            for result in work(argument):
                own.send((result, None))
        except Exception as error:
            own.send((None, error))
        else:
            own.send(None)
        give_back_freed_memory()


def _receive(own: Connection, asked: "queue.SimpleQueue[Any]") -> None:
    """Receive what is asked until nobody is left to ask, whatever this process is doing then."""
    while True:
        try:
            asked.put(own.recv())
        except (EOFError, OSError):
            os._exit(0)
