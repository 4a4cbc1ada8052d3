"""Where the real series and the published figures lie: outside the project; without them these tests skip."""

import os
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder holding `data/` and `reference/`: ETF_PIPELINE_REAL_DATA, else `shared` beside the project."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("ETF_PIPELINE_REAL_DATA") or root.parent / "shared")
    if not (folder / "reference").is_dir() or not (folder / "data").is_dir():
        pytest.skip(f"no real series: {folder} has no data/ and reference/ (set ETF_PIPELINE_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def real_closes(shared: Path) -> pd.DataFrame:
    """Index closes, sessions × index codes."""
    bars = pd.read_parquet(shared / "data" / "index_bar.parquet")
    bars["trade_date"] = pd.to_datetime(bars["trade_date"])
    return bars.pivot(index="trade_date", columns="index_code", values="close")
