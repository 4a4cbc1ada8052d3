"""Data revised after a run: the ledger says what changed and why, and the earlier run can be repeated."""

import shutil
import time
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pandas as pd
import pytest

from etf_pipeline.contract import load_contract
from etf_pipeline.definitions import build_defs
from etf_pipeline.resources.lake import Lake
from etf_pipeline.settings import Deployment
from tests.pipeline.harness import LAST_SHORT_SIGNAL, SHORT, digests, etf_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("short")]

START, END = (date.fromisoformat(day) for day in SHORT[1::2])
SIGNAL = pd.Timestamp(LAST_SHORT_SIGNAL)
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def compute(lake: Path) -> None:
    """Everything from the raw data on, up to the ledger."""
    definitions = build_defs(Deployment(lake=lake, start=START, end=END))
    needed = dg.AssetSelection.assets(["strategy", "holdings_ledger"]).upstream()
    job = dg.define_asset_job("computed", (needed - dg.AssetSelection.groups("raw")).without_checks())
    runnable = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("computed")
    assert runnable.execute_in_process(run_config=QUIET).success


def published(lake: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(lake).items() if name.startswith("published/")}


def test_a_revision_is_told_and_undone(short_lake: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(short_lake, tmp_path / "lake")
    before, moment = published(folder), datetime.now(ZoneInfo("Asia/Shanghai"))
    ledger = pd.read_parquet(folder / "ledger" / "holdings_ledger.parquet")
    assert set(ledger["event"]) == {"published"}
    time.sleep(1)  # moments are given to the second

    # on one signal date the shares of a third of the ETFs turn out to have been three times as many
    dataset, lake = load_contract()["etf_share"], Lake(folder)
    day = lake.read_raw(dataset)
    day = day[day["trade_date"] == SIGNAL].copy()
    day.loc[day.index[::3], "shares"] *= 3
    lake.write_raw(dataset, day, SIGNAL.date(), SIGNAL.date())
    compute(folder)

    revised = pd.read_parquet(folder / "ledger" / "holdings_ledger.parquet")
    pd.testing.assert_frame_equal(revised.head(len(ledger)), ledger)
    added = revised.iloc[len(ledger) :]
    assert SIGNAL.date() in set(added["signal_date"])
    assert added["signal_date"].min() >= SIGNAL.date()
    assert set(added["event"]) == {"restated"}
    assert set(added["version"]) == {2}
    assert set(added["cause"]) == {"etf_share revised: 2023-07-21"}
    now = pd.read_parquet(folder / "published" / "strategy_holdings.parquet")
    at_signal = added[added["signal_date"] == SIGNAL.date()].sort_values("rank")["industry_code"].tolist()
    assert at_signal == now[now["signal_date"] == SIGNAL.date()].sort_values("rank")["industry_code"].tolist()
    after = published(folder)
    assert after["published/strategy_holdings.parquet"] != before["published/strategy_holdings.parquet"]
    # of the warehouse only what the revision can reach was computed anew; all of it comes to the same
    with duckdb.connect(lake.warehouse, read_only=True) as connection:
        ((recomputed_from,),) = connection.sql("select recompute_from from build.window").fetchall()
    assert START < recomputed_from < SIGNAL.date()
    shutil.rmtree(folder / "build")
    compute(folder)
    assert published(folder) == after

    repeated = etf_pipeline(
        "run", "--no-research", "--lake", folder, "--as-of", f"{moment:%Y-%m-%dT%H:%M:%S}", cwd=tmp_path
    )
    assert repeated.code == 0, repeated.output
    assert "Holdings of signal 2023-07-21" in repeated.output
    (earlier,) = (folder / "as_of").iterdir()
    assert published(earlier) == before
    # looking back touches nothing of the lake itself
    assert published(folder) == after


def test_before_anything_there_is_nothing(tmp_path: Path) -> None:
    Lake(tmp_path / "lake").claim("sample (SYNTHETIC)")
    done = etf_pipeline("run", "--lake", tmp_path / "lake", "--as-of", "2020-01-01", cwd=tmp_path)
    assert done.code == 1
    assert "held nothing at 2020-01-01" in done.output
