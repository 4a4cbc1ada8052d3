"""The one interface between the pipeline and anything that has data.

A source turns its own form into canonical frames: the contract's columns, units and types, with `available_at`.
It raises on surprise; it never repairs silently, never writes, and never invents what it does not have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import pandas as pd

DISAGREEMENTS = "disagreements"
"""Name in a fetched frame's `attrs` of a table in Markdown: where two sources of these rows differ."""


class SourceError(Exception):
    """The source cannot be read, or what it holds breaks the contract; trying again does not help."""


class TransientSourceError(SourceError):
    """The source refused or failed for now (rate limit, timeout, file still being written); try again later."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class VendorUnavailable(TransientSourceError):
    """A vendor gave no whole answer: no connection, too slow, a server error, a block page, or cut short."""


class MalformedResponse(SourceError):
    """An answer that claims success breaks the vendor's protocol, or no table can be made of it."""


class ResponseCut(SourceError):
    """An answer holds as many rows as the vendor sends at most, so some may be missing."""


@dataclass(frozen=True)
class NotAvailable:
    """Answer of a source that does not have a dataset at all; `reason` is shown to the user."""

    reason: str


class Source(Protocol):
    """Where raw data comes from."""

    @property
    def label(self) -> str:
        """Name written beside every result, "sample (SYNTHETIC)" for synthetic data."""
        ...

    @property
    def span(self) -> tuple[date, date]:
        """First and last day worth asking for."""
        ...

    def fetch(self, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        """Canonical rows of `dataset` whose partition date lies in start … end; snapshots whole.

        Days the source has nothing for (holidays, days not yet published) are absent from the frame.

        Raises:
            SourceError: broken data, with the file, rows and rule.
            TransientSourceError: nothing wrong with the data; ask again later.
        """
        ...

    def validate(self) -> Mapping[str, str]:
        """Check everything the source holds before any of it is used; returns what is notable, by dataset.

        Raises:
            SourceError: as `fetch`, for all violations found together.
        """
        ...
