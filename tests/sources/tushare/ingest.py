"""An ingest from the stand-in server in a process of its own, to be killed."""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import pandas as pd
from pydantic import SecretStr

from etf_pipeline.contract import load_contract
from etf_pipeline.resources.lake import Lake
from etf_pipeline.settings import Parameters, TushareSettings
from etf_pipeline.sources.responses import ResponseStore
from etf_pipeline.sources.trust import ExchangeReport
from etf_pipeline.sources.tushare.limits import Patience
from etf_pipeline.sources.tushare.source import TushareSource
from tests.sources.tushare.clock import FakeClock


def source_of(url: str, token: str, responses: Path, report: ExchangeReport, clock: FakeClock) -> TushareSource:
    """A source with every right but minute bars, that waits for an hour limit."""
    p = Parameters.load()
    return TushareSource(
        TushareSettings(token=SecretStr(token), url=url, points=8000),
        ResponseStore(responses),
        scheme=p.scheme,
        style_indices=(p.size_large_index, p.size_small_index, p.growth_index, p.value_index),
        repull_sessions=p.repull_sessions,
        exchange_report=report,
        clock=clock,
        patience=Patience(hour_limit_seconds=3600),
    )


def ingest(
    url: str, token: str, lake: Path, report: Path, at: datetime, start: date, end: date, datasets: Sequence[str]
) -> None:
    """Bring datasets into the lake that it does not have, the exchange's report being the Parquet file `report`."""
    reported = pd.read_parquet(report)

    def read(first: date, last: date) -> pd.DataFrame:
        return reported[reported["trade_date"].between(pd.Timestamp(first), pd.Timestamp(last))]

    source = source_of(url, token, lake / "responses", read, FakeClock(at))
    for name in datasets:
        if Lake(lake).raw_files(load_contract()[name]):
            continue
        frame = source.fetch(name, start, end)
        assert isinstance(frame, pd.DataFrame)
        Lake(lake).write_raw(load_contract()[name], frame, start, end)
    (lake / "done").touch()
