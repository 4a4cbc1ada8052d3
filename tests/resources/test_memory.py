"""What was freed is used again: the system has to hand out next to no page a second time."""

import ctypes
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection

import pyarrow as pa
import pytest

from etf_pipeline.resources.memory import give_back_freed_memory, keep_freed_memory
from tests.processes import told_by_a_process

PAGE = resource.getpagesize()
SIZE = 80_000_000


def _pages_of(work: Callable[[], None]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _columns() -> None:
    for _ in range(2):
        bytearray(SIZE)


def _measured(tell: Connection) -> None:
    keep_freed_memory()
    first, second = _pages_of(_columns), _pages_of(_columns)
    give_back_freed_memory()
    tell.send((first, second, _pages_of(_columns), pa.default_memory_pool().backend_name))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_is_kept_until_it_is_given_back() -> None:
    first, second, third, pool = told_by_a_process(_measured)
    pages = SIZE // PAGE
    assert pool == "system"
    assert first == pytest.approx(pages, rel=0.1)
    assert second < pages / 100
    assert third == pytest.approx(pages, rel=0.1)
