"""A client of the stand-in server that waits on no real clock."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import SecretStr

from etf_pipeline.sources.responses import ResponseStore
from etf_pipeline.sources.tushare.client import TushareClient
from etf_pipeline.sources.tushare.limits import Plan
from tests.sources.tushare.clock import FakeClock
from tests.sources.tushare.server import Answer

TOKEN = "5f1c0a7e9b3d24688642d3b9e7a0c1f55f1c0a7e9b3d24688642d3b9"


def connect(url: str, folder: Path, **settings: Any) -> TushareClient:
    """A client of 5000 points that keeps its responses in `folder`; `settings` are those of the client."""
    settings = {"clock": FakeClock(), "plan": Plan.from_points(5000), "token": SecretStr(TOKEN), **settings}
    return TushareClient(responses=ResponseStore(folder), base_url=url, **settings)


def always(frame: pd.DataFrame) -> Answer:
    """The same rows whatever is asked for."""
    return lambda api, params: frame


def shares(rows: int) -> pd.DataFrame:
    """So many rows of fund_share; shares in 10 000 units."""
    codes = [f"{159000 + number}.SZ" for number in range(rows)]
    return pd.DataFrame(
        {"ts_code": codes, "trade_date": "20260302", "fd_share": [number + 0.25 for number in range(rows)]}
    )
