"""Synthetic data for trying out, testing and demonstrating the pipeline offline: made up from fixed seeds.

Codes and names look like the A-share market, magnitudes too; no number is of a real security. It holds the irregular
days real data has: splits with and without a record, dividends, short and missing share files, late listings,
closures, indices without or with outdated weights, changes of industry.
"""

from collections.abc import Mapping
from datetime import date
from functools import cache

import pandas as pd

from etf_pipeline.contract import Column, Dataset, load_contract
from etf_pipeline.sources.base import NotAvailable, SourceError
from etf_pipeline.sources.canonical import with_available_at
from etf_pipeline.sources.sample.frames import ABSENT, BUILDERS
from etf_pipeline.sources.sample.market import FIRST_DAY, LAST_DAY

__all__ = ["SampleSource"]

_DTYPES = {"number": "float64", "date": "datetime64[us]", "flag": "boolean"}


class SampleSource:
    """Source of the synthetic data.

    The daily series run from 2015-01-05 to the end of the span. The month before it holds the sessions, the weights,
    market values and reports of the end of 2014, so that the first days have what they look back on.
    """

    @property
    def label(self) -> str:
        """Name that tells every reader the data are made up."""
        return "sample (SYNTHETIC)"

    @property
    def span(self) -> tuple[date, date]:
        """First and last day worth asking for."""
        return FIRST_DAY, LAST_DAY

    def fetch(self, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        """Canonical rows whose partition date lies in `start` … `end`; snapshots whole, as of the end of the span.

        The rows of a day never depend on the range asked for. The first call of a process simulates everything.

        Raises:
            SourceError: the contract has no such dataset.
        """
        if dataset in ABSENT:
            return ABSENT[dataset]
        if dataset not in BUILDERS:
            raise SourceError(f"the sample does not know the dataset {dataset!r}")
        frame, column = _whole(dataset), load_contract()[dataset].date_column
        if column is not None:
            inside = (frame[column] >= pd.Timestamp(start)) & (frame[column] <= pd.Timestamp(end))
            frame = frame[inside]
        return frame.reset_index(drop=True)

    def validate(self) -> Mapping[str, str]:
        """Nothing to say: the data are made to the contract."""
        return {}


@cache
def _whole(name: str) -> pd.DataFrame:
    dataset = load_contract()[name]
    return _canonical(dataset, BUILDERS[name]().reset_index(drop=True))


def _canonical(dataset: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    typed = frame.astype({column.name: _dtype(column) for column in dataset.columns.values()})
    return with_available_at(dataset, typed)[dataset.column_names]


def _dtype(column: Column) -> str:
    return _DTYPES.get(column.type, "str")
