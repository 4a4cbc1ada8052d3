"""The one resource of all assets: the deployment with its parameters, its source and its lake, made on first use."""

from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import extend_calendar, sessions_between
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import LakeError
from etf_pipeline.settings import Deployment, Parameters, SettingsError, TushareSettings
from etf_pipeline.sources.base import Source

if TYPE_CHECKING:
    from etf_pipeline.sources.akshare.source import AkshareSource
    from etf_pipeline.sources.tushare.source import TushareSource

FIRST_DAY = {
    "sample": date(2014, 12, 1),
    "files": date(2005, 1, 4),
    "tushare": date(2014, 12, 1),
    "akshare": date(2016, 10, 10),
}
"""First day of the partitions of each source; the names are all the sources there are."""


class Pipeline:
    """What assets read, call and write through. Nothing is read before it is asked for."""

    def __init__(self, deployment: Deployment) -> None:
        if deployment.source not in FIRST_DAY:
            raise SettingsError(f"unknown source {deployment.source!r}: choose one of {', '.join(FIRST_DAY)}")
        if deployment.source == "files" and deployment.data is None:
            raise SettingsError("source files needs a folder: --data DIR, or ETF_PIPELINE_DATA")
        self.deployment = deployment
        extend_calendar(self._stored_sessions)

    def on(self, lake: Lake) -> "Pipeline":
        """The same deployment reading another lake."""
        other = copy(self)
        other.__dict__["lake"] = lake
        return other

    def _stored_sessions(self) -> list[date]:
        """Sessions of the lake: its source may have announced some that the calendar library does not know."""
        with suppress(LakeError):  # told where these data are used
            return list(pd.DatetimeIndex(self.lake.read_raw(load_contract()["trading_calendar"])["trade_date"]).date)
        return []

    @cached_property
    def parameters(self) -> Parameters:
        """The strategy's numbers."""
        return self.deployment.load_parameters()

    @cached_property
    def lake(self) -> Lake:
        """Where results go."""
        return Lake(self.deployment.lake.absolute())

    @cached_property
    def source(self) -> Source:
        """Where data comes from; `source_notes` checks it as a whole before any of it is used."""
        # imported here: definitions must load without building a market or opening a file
        if self.deployment.source == "sample":
            from etf_pipeline.sources.sample import SampleSource

            return SampleSource()
        if self.deployment.source == "tushare":
            return self.tushare()
        if self.deployment.source == "akshare":
            return self._akshare(TushareSettings.from_env().offline)
        from etf_pipeline.sources.examined import FactsFile
        from etf_pipeline.sources.files import FilesSource

        assert self.deployment.data is not None
        facts = FactsFile(self.lake.root / "build" / "examined.json")
        return FilesSource(self.deployment.data.absolute(), facts=facts)

    def tushare(self, offline: bool = False) -> "TushareSource":
        """Source tushare, settled by the environment; `offline` answers from stored responses of Tushare alone.

        Raises:
            SettingsError: a setting cannot be used, or Shenzhen's dates cannot be verified.
        """
        from etf_pipeline.sources.akshare.client import AkshareMissing
        from etf_pipeline.sources.tushare.source import open_tushare

        settings = TushareSettings.from_env()
        try:
            report = self._akshare(settings.offline).szse_share_report if settings.shenzhen == "verified" else None
        except AkshareMissing as error:
            raise SettingsError(
                f"{error} It holds the dates of Tushare's Shenzhen shares against the exchange's own report. To take "
                "them as Tushare labels them, in some periods a session late: ETF_PIPELINE_TUSHARE_SHENZHEN=as_labelled"
            ) from error
        if offline:
            settings = settings.model_copy(update={"offline": True})
        return open_tushare(settings, self.parameters, self.lake.root / "responses" / "tushare", report)

    def _akshare(self, offline: bool) -> "AkshareSource":
        from etf_pipeline.sources.akshare.client import AkshareClient, Worker
        from etf_pipeline.sources.akshare.source import AkshareSource
        from etf_pipeline.sources.responses import ResponseStore

        responses = ResponseStore(self.lake.root / "responses" / "akshare")
        client = AkshareClient(responses, Worker(self.deployment.gateways), offline=offline)
        return AkshareSource(client, self.parameters.style_indices)

    @cached_property
    def source_notes(self) -> Mapping[str, str]:
        """Validate the source and bind the lake to it; what is notable about each dataset, more while it is read.

        Raises:
            SourceError: the source breaks the contract; nothing was written.
            SettingsError: the deployment asks for no session the source has; nothing was written.
            LakeError: the lake holds data of another source or folder.
        """
        notes = self.source.validate()
        first, last = self.span
        if first > last or not len(sessions_between(first, last)):
            raise SettingsError(
                f"no session of what the source has, {self.source.span[0]} … {self.source.span[1]}, lies within "
                f"--start {self.deployment.start or 'its first day'} … --end {self.deployment.end or 'its last day'}"
            )
        self.lake.claim(self.source.label, self.deployment.data if self.deployment.source == "files" else None)
        return notes

    @cached_property
    def span(self) -> tuple[date, date]:
        """First and last day of this deployment: what it asks for, within what the source has."""
        first, last = self.source.span
        return self.deployment.start or first, min(self.deployment.end or last, last)
