"""Nothing of the future: a run on data cut at a day gives the holdings of that day, and of every day before it."""

from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etf_pipeline.definitions import build_defs
from etf_pipeline.settings import Deployment
from tests.pipeline.harness import etf_pipeline, link_lake

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sample")]

DATES = [
    "2015-01-09",  # the first rebalance date: withheld
    "2015-03-20",  # the last one withheld
    "2015-04-03",  # the first with holdings
    "2015-05-15",
    "2015-06-12",
    "2018-07-13",  # the session after one without any file of shares
    "2019-09-30",  # the anchor, a week cut by a holiday
    "2020-11-20",  # its week begins on 2020-11-13, when the file was short
    "2021-03-12",  # the week of a split nobody recorded
    "2024-02-08",  # the last session before a long holiday
    "2026-06-12",  # soon after a short file
    "2026-10-16",
]
FROM_NOTHING = ["2015-06-26"]
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
TABLES = {"factor_scores": ["signal_date", "industry_code"], "strategy_holdings": ["signal_date", "rank"]}


def compare(full: Path, cut: Path, day: str) -> None:
    """Both tables of `cut` are those of `full` up to `day`."""
    for table, key in TABLES.items():
        expected, actual = (
            pd.read_parquet(lake / "published" / f"{table}.parquet", dtype_backend="pyarrow").sort_values(
                key, ignore_index=True
            )
            for lake in (full, cut)
        )
        expected = expected[expected["signal_date"] <= date.fromisoformat(day)].reset_index(drop=True)
        pd.testing.assert_frame_equal(actual, expected, check_exact=True, obj=table)
    scores = pd.read_parquet(cut / "published" / "factor_scores.parquet")
    assert scores["signal_date"].max() == date.fromisoformat(day)
    held = pd.read_parquet(cut / "published" / "strategy_holdings.parquet")
    withheld = scores.loc[scores["signal_date"] == date.fromisoformat(day), "withheld_reason"].notna().all()
    assert (held["signal_date"] == date.fromisoformat(day)).sum() == (0 if withheld else 6)


@pytest.fixture(scope="module")
def ingested(sample_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the raw data of the whole sample, which later days are cut off from again and again."""
    return link_lake(sample_lake, tmp_path_factory.mktemp("cut") / "lake", "raw")


@pytest.mark.parametrize("day", DATES)
def test_later_data_change_nothing(sample_lake: Path, ingested: Path, day: str) -> None:
    definitions = build_defs(Deployment(lake=ingested, end=date.fromisoformat(day)))
    needed = dg.AssetSelection.assets(["strategy", "strategy_holdings"]).upstream()
    # what is compared are the tables: the tests on them, half of the time, have run on the whole sample
    computed = (needed - dg.AssetSelection.groups("raw")).without_checks()
    job = dg.define_asset_job("computed", selection=computed)
    runnable = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("computed")
    assert runnable.execute_in_process(run_config=QUIET).success
    compare(sample_lake, ingested, day)


@pytest.mark.parametrize("day", FROM_NOTHING)
def test_a_run_that_ends_that_day(sample_lake: Path, day: str, tmp_path: Path) -> None:
    run = etf_pipeline("run", "--no-research", "--lake", tmp_path / "lake", "--end", day, cwd=tmp_path)
    assert run.code == 0, run.output
    newest = pd.read_parquet(tmp_path / "lake" / "raw" / "etf_share" / f"{day[:4]}.parquet")["trade_date"].max()
    assert newest == date.fromisoformat(day)
    compare(sample_lake, tmp_path / "lake", day)
