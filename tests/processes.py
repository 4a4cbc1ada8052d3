"""A process without threads, which that of the tests may have: only from one can others be forked."""

import multiprocessing
from collections.abc import Callable
from typing import Any


def told_by_a_process(work: Callable[..., None], *arguments: object) -> Any:
    """What `work(*arguments, connection)` sends from a new process."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(*arguments, there))
    process.start()
    there.close()
    answer = here.recv()
    process.join()
    return answer
