"""The one resource of all assets: the deployment with its parameters, its source and its lake, made on first use."""

from datetime import date
from functools import cached_property

from etf_pipeline.resources.lake import Lake
from etf_pipeline.settings import Deployment, Parameters, SettingsError, TushareSettings
from etf_pipeline.sources.base import Source

FIRST_DAY = {"sample": date(2014, 12, 1), "files": date(2005, 1, 4), "tushare": date(2014, 12, 1)}
"""First day of the partitions of each source; the names are all the sources there are."""


class Pipeline:
    """What assets read, call and write through. Nothing is read before it is asked for."""

    def __init__(self, deployment: Deployment) -> None:
        if deployment.source not in FIRST_DAY:
            raise SettingsError(f"unknown source {deployment.source!r}: choose one of {', '.join(FIRST_DAY)}")
        if deployment.source == "files" and deployment.data is None:
            raise SettingsError("source files needs a folder: --data DIR, or ETF_PIPELINE_DATA")
        self.deployment = deployment

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
            from etf_pipeline.sources.tushare.source import open_tushare

            return open_tushare(TushareSettings.from_env(), self.parameters, self.lake.root / "responses")
        from etf_pipeline.sources.files import FilesSource

        assert self.deployment.data is not None
        return FilesSource(self.deployment.data.absolute())

    @cached_property
    def source_notes(self) -> dict[str, str]:
        """Validate the source and bind the lake to it; what is notable about each dataset.

        Raises:
            SourceError: the source breaks the contract; nothing was written.
            LakeError: the lake holds data of another source.
        """
        notes = dict(self.source.validate())
        self.lake.claim(self.source.label)
        return notes

    @cached_property
    def span(self) -> tuple[date, date]:
        """First and last day of this deployment: what it asks for, within what the source has."""
        first, last = self.source.span
        return self.deployment.start or first, min(self.deployment.end or last, last)
