"""Parts of the research assets that processes of their own do meanwhile, if they were started early.

Here: what is slow to import or to do, and can be done beside other things. Not here: Dagster, which starts only later.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from etf_pipeline.resources.early import Early
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import atomic_path
from etf_pipeline.settings import Parameters


class Resampled(NamedTuple):
    """What `bootstrap_band` is asked for."""

    returns: pd.Series
    benchmark_returns: pd.Series
    draws: int
    mean_block: int
    seed: int
    periods_per_year: float


class Workbook(NamedTuple):
    """The report's Excel file, and what is written into it."""

    path: Path
    lake: Lake
    parameters: Parameters


def _import_bootstrap() -> None:
    import arch.bootstrap  # noqa: F401


def _bands(asked: Sequence[Resampled]) -> Iterator[tuple[float, float]]:
    from etf_pipeline.core.evidence import bootstrap_band

    for one in asked:
        yield bootstrap_band(*one)


def _import_reports() -> None:
    import etf_pipeline.reports  # noqa: F401


def _write(workbook: Workbook) -> Iterator[Path]:
    from etf_pipeline.reports import read_report_data, write_excel

    with atomic_path(workbook.path) as temporary:
        write_excel(read_report_data(workbook.lake, workbook.parameters), temporary)
    yield workbook.path


# wanted last of all that is started early
bootstrap_bands: Early[Sequence[Resampled], tuple[float, float]] = Early(_import_bootstrap, _bands, niceness=19)
"""Bands of `bootstrap_band`, one after another."""

report_workbook: Early[Workbook, Path] = Early(_import_reports, _write, niceness=19)
"""The report's Excel file, written."""


@contextmanager
def started_early() -> Iterator[None]:
    """Let processes import what these need, within the block."""
    with bootstrap_bands.started(), report_workbook.started():
        yield
