"""Processes that do a piece of work while this one goes on with another.

They are forked from a server without threads (`forkserver`), which imports what is slow to import once and beside this
process. They end with this process, however it ends.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.util import Finalize
from typing import ParamSpec, TypeVar

_AT_ONCE = 2
_SLOW_TO_IMPORT = ["great_expectations", "arch.bootstrap", "plotly.graph_objects", "xlsxwriter"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_pool: ProcessPoolExecutor | None = None


def start() -> None:
    """Let the server import what will be needed. Without it the first piece of work waits for that."""
    global _pool
    if _pool is None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_SLOW_TO_IMPORT)
        forkserver.ensure_running()
        _pool = ProcessPoolExecutor(_AT_ONCE, context, initializer=_end_with_parent)
        # in processes that multiprocessing started, nothing that was registered with atexit runs, and the end of them
        # waits for processes they started themselves
        Finalize(None, _stop, exitpriority=100)


def are_started() -> bool:
    """Whether work that is begun now would not wait for imports."""
    return _pool is not None


def begin(work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Future[Result]:
    """`work` of these arguments in a process of its own; all of it, and what it returns, can be pickled."""
    start()
    assert _pool
    return _pool.submit(work, *args, **kwargs)


def _stop() -> None:
    if _pool:
        _pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
