"""A process that prepares for its one call while this one is busy with other things."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

_NICENESS = 10
"""What nobody waits for yet gives way to what somebody does."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class EarlyProcess(Generic[Argument, Result]):
    """One call of `work` in a process that is forked now and runs `prepare` until the call comes.

    To be started before this process has threads, and ended if it is not called. It is gone with this process, however
    that ends.
    """

    def __init__(self, prepare: Callable[[], object], work: Callable[[Argument], Result]) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._here, there, prepare, work), daemon=True)
        self._process.start()
        there.close()

    def call(self, argument: Argument) -> Result:
        """What `work` returns.

        Raises:
            Exception: what `prepare` or `work` raised.
            RuntimeError: the process was ended before it had answered.
        """
        try:
            self._here.send(argument)
            result, error = self._here.recv()
        except (EOFError, OSError) as ended:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"a process that was to help ended with code {code}; run again") from ended
        self._process.join()
        if error:
            raise error
        return result

    def end(self) -> None:
        """End the process without a call."""
        self._process.kill()
        self._process.join()
        self._here.close()


def _serve(parents: Connection, own: Connection, prepare: Callable[[], object], work: Callable[[Any], object]) -> None:
    # as long as nobody but the parent holds its end, this process sees when it is gone
    parents.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        prepare()
        answer: tuple[object, Exception | None] = (work(own.recv()), None)
    except EOFError:
        return
    except Exception as error:
        answer = (None, error)
    own.send(answer)
