"""One run over the whole sample, from the command line to the tables people build on."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from exchange_calendars import get_calendar

from etf_pipeline.resources.lake import Lake
from etf_pipeline.sources.sample.catalog import NO_SHARE_DAYS, SHORT_FILE_DAYS, SPLITS
from tests.pipeline.harness import (
    Finished,
    environment,
    etf_pipeline,
    everything,
    folder_of,
    readable_rows,
    squeeze,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sample")]

LABEL = "sample (SYNTHETIC)"
INDUSTRY = "industry_code industry_name held_value_cny held_share_ratio penetration_ratio net_creation_cny"
PROMISED = {
    "etf_daily": (
        "etf_code trade_date shares unit_nav close aum_cny circulating_value_cny net_creation_cny "
        "net_subscription_cny rsi_wilder_12 is_split_day in_universe source"
    ),
    "etf_flow": "etf_code trade_date interval_sessions interval_net_creation_cny source",
    "industry_weekly": f"scheme week_end {INDUSTRY} source",
    "industry_daily": f"scheme trade_date {INDUSTRY} source",
    "stock_weekly": "week_end stock_code held_value_cny net_creation_cny source",
    "look_through_coverage": "week_end basis value_cny ratio source",
    "market_flow": "trade_date asset_scope net_creation_cny net_subscription_cny source",
    "style_regime": "week_end series ratio trend momentum signal source",
    "rebalance_dates": "signal_date holding_start holding_end",
    "holdings_ledger": "signal_date version event recorded_at cause rank industry_code weight source",
    "factor_scores": "signal_date industry_code flow level change divergence composite rank withheld_reason source",
    "strategy_holdings": "signal_date rank industry_code industry_name weight flags source",
    "backtest_daily": "portfolio execution trade_date nav nav_after_costs benchmark_nav relative_nav source",
    "backtest_period": "portfolio execution signal_date period_return excess_return turnover cost source",
    "backtest_industry": "portfolio execution signal_date industry_code weight end_weight excess_return source",
    "performance": "portfolio execution costs period annual_return sharpe excess_return information_ratio source",
    "factor_ic": "factor horizon signal_date ic source",
    "factor_ic_summary": "factor horizon span mean_ic t_statistic source",
    "factor_group_daily": "factor group trade_date nav source",
    "factor_group_stats": "factor group span annual_return sharpe excess_return source",
    "factor_correlation": "factor other_factor span correlation source",
    "luck_test": "portfolio execution span annual_excess excess_low excess_high p_value source",
    "sensitivity": "axis factors top_n phase is_default excess_return source",
}
"""Names people build on; written out here, so that renaming one shows."""


@pytest.fixture(scope="module")
def catalogue(sample_lake: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(sample_lake / "etf.duckdb", read_only=True)


@pytest.fixture(scope="module")
def daily(catalogue: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    return catalogue.sql("from etf_daily").df()


@pytest.fixture(scope="module")
def holdings(catalogue: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    return catalogue.sql("from strategy_holdings").df()


@pytest.fixture(scope="module")
def shares(catalogue: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Shares as ingested: sessions × ETFs."""
    raw = catalogue.sql("from raw.etf_share").df()
    sessions = get_calendar("XSHG").sessions_in_range(raw["trade_date"].min(), raw["trade_date"].max())
    return raw.pivot(index="trade_date", columns="etf_code", values="shares").reindex(pd.DatetimeIndex(sessions))


def test_the_run_says_what_it_did(sample_run: tuple[Path, Finished], holdings: pd.DataFrame) -> None:
    lake, run = sample_run
    assert run.code == 0, run.output
    assert "Traceback" not in run.output
    assert f"Source {LABEL}" in run.output
    assert f"source {LABEL}" in run.output
    assert "0 errors" in run.output
    assert "constituents" in run.output
    assert squeeze(f"Results: {lake / 'etf.duckdb'}") in run.words
    latest = holdings[holdings["signal_date"] == holdings["signal_date"].max()]
    assert f"Holdings of signal {latest['signal_date'].iloc[0]:%Y-%m-%d}" in run.output
    assert len(latest) == 6
    for row in latest.itertuples():
        assert squeeze(f"{row.industry_code} {row.industry_name}") in run.words
        assert squeeze(f"{row.composite:+.2f}") in run.words
    assert run.output.count("16.67%") == 6


@pytest.mark.parametrize("table", PROMISED)
def test_promised_columns(catalogue: duckdb.DuckDBPyConnection, table: str) -> None:
    relation = catalogue.sql(f"from {table}")
    assert set(PROMISED[table].split()) <= set(relation.columns)
    assert catalogue.sql(f"select count(*) as n from {table}").df()["n"][0] > 0


def test_every_published_row_says_it_is_synthetic(sample_lake: Path) -> None:
    lake = Lake(sample_lake)
    assert set(lake.published_tables()) >= set(PROMISED) - {"holdings_ledger"}
    without = []
    for name in lake.published_tables():
        for path in lake.published_files(name):
            table = pq.read_table(path)
            assert (table.schema.metadata or {})[b"source"].decode() == LABEL
            if "source" in table.column_names:
                assert set(table["source"].to_pylist()) == {LABEL}, path
            else:
                without.append(name)
    assert without == ["rebalance_dates"]  # dates of a calendar, not of a source


def test_another_process_can_read_every_view(sample_lake: Path, tmp_path: Path) -> None:
    script = """
import sys, duckdb
with duckdb.connect(sys.argv[1], read_only=True) as c:
    views = c.sql("select table_schema || '.' || table_name as v from information_schema.tables").df()["v"]
    for view in views:
        print(view, len(c.sql(f"from {view}").df()))
"""
    # beside this process, which has the file open too, and from another folder
    with duckdb.connect(sample_lake / "etf.duckdb", read_only=True):
        command = [sys.executable, "-c", script, str(sample_lake / "etf.duckdb")]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    rows = {view: int(count) for view, count in (line.split() for line in done.stdout.splitlines())}
    expected = {f"main.{table}" for table in Lake(sample_lake).published_tables()} | {"main.holdings_ledger"}
    for folder in ("raw", "archive"):
        expected |= {f"{folder}.{path.parent.name}" for path in sample_lake.glob(f"{folder}/*/*.parquet")}
    assert set(rows) == expected
    files = readable_rows(sample_lake)
    for view, count in rows.items():
        assert count == sum(n for file, n in files.items() if file.startswith(folder_of(view))), view


def test_where(sample_lake: Path, tmp_path: Path) -> None:
    done = etf_pipeline("where", "--lake", sample_lake, cwd=tmp_path)
    assert (done.code, done.output) == (0, f"{sample_lake / 'etf.duckdb'}\n")
    missing = etf_pipeline("where", "--lake", "nowhere", cwd=tmp_path)
    assert missing.code == 1
    assert "etf-pipeline run" in missing.output
    assert not (tmp_path / "nowhere").exists()


def test_holdings_of_a_date(sample_lake: Path, holdings: pd.DataFrame, tmp_path: Path) -> None:
    done = etf_pipeline("holdings", "--lake", sample_lake, "--date", "2020-11-20", cwd=tmp_path)
    assert done.code == 0
    assert "Holdings of signal 2020-11-20" in done.output
    assert LABEL in done.output
    rows = holdings[holdings["signal_date"] == "2020-11-20"]
    assert len(rows) == 6
    for row in rows.itertuples():
        assert squeeze(f"{row.industry_code} {row.industry_name}") in done.words


def test_holdings_of_a_withheld_date_give_the_reason(sample_lake: Path, tmp_path: Path) -> None:
    done = etf_pipeline("holdings", "--lake", sample_lake, "--date", "2015-02-06", cwd=tmp_path)
    assert done.code == 0
    assert squeeze("No holdings for 2015-02-06: divergence missing for 30 of 30 industries") in done.words


def test_holdings_of_a_day_that_is_no_rebalance_date(sample_lake: Path, tmp_path: Path) -> None:
    done = etf_pipeline("holdings", "--lake", sample_lake, "--date", "2020-11-19", cwd=tmp_path)
    assert done.code == 1
    assert squeeze("2020-11-19 is no signal date of this lake; the nearest is 2020-11-20") in done.words


def test_a_lake_of_the_sample_refuses_files(sample_lake: Path, valid_folder: Path, tmp_path: Path) -> None:
    before = everything(sample_lake)
    done = etf_pipeline("run", "--source", "files", "--data", valid_folder, "--lake", sample_lake, cwd=tmp_path)
    assert done.code == 1
    assert squeeze(f"LakeError: lake {sample_lake} holds data of 'sample (SYNTHETIC)'") in done.words
    assert squeeze("it cannot also take 'files (valid)'") in done.words
    assert everything(sample_lake) == before


def test_a_lake_of_files_refuses_the_sample(valid_folder: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    # ten sessions are too few to publish a date: the blocking check says so and nothing is held
    run = etf_pipeline("run", "--no-research", "--data", valid_folder, "--lake", lake, cwd=tmp_path)
    assert run.code == 1, run.output
    assert "Source files (valid)" in run.output
    assert "SYNTHETIC" not in run.output
    assert "something_to_publish" in run.output
    before = everything(lake)
    assert any(name.startswith("published/etf_daily") for name in before)
    assert not any(name.startswith("published/strategy_holdings") for name in before)
    done = etf_pipeline("run", "--source", "sample", "--lake", lake, cwd=tmp_path)
    assert done.code == 1
    assert squeeze("holds data of 'files (valid)'; it cannot also take 'sample (SYNTHETIC)'") in done.words
    assert everything(lake) == before


def test_universe(daily: pd.DataFrame, catalogue: duckdb.DuckDBPyConnection) -> None:
    info = catalogue.sql("from raw.etf_info").df().set_index("etf_code")
    inside = info.loc[daily.loc[daily["in_universe"], "etf_code"].unique()]
    assert len(inside) > 200
    assert set(inside["asset_scope"]) == {"aShareStockEtf"}
    assert set(inside["category_1"]) == {"股票型"}
    assert not inside["name"].str.contains("增强").any()
    # the sample has some of each, so that the three lines above mean something
    assert {"crossBorderStockEtf", "bondEtf", "moneyEtf", "commodityEtf"} <= set(info["asset_scope"])
    assert info["name"].str.contains("增强").sum() >= 5
    assert set(info.index) <= set(daily["etf_code"])
    assert daily.loc[~daily["in_universe"], "universe_exclusion"].notna().all()


def test_a_split_is_no_flow(daily: pd.DataFrame) -> None:
    splits = daily[daily["is_split_day"]]
    assert splits["trade_date"].dt.strftime("%Y-%m-%d").tolist() != []
    assert set(splits["trade_date"].dt.strftime("%Y-%m-%d")) == {day for _, _, day, _, _ in SPLITS}
    assert len(splits) == len(SPLITS)
    assert splits["net_creation_cny"].notna().all()
    assert (splits["net_creation_cny"].abs() < 0.2 * splits["aum_cny"]).all()
    assert (splits["net_subscription_cny"].abs() < 0.2 * splits["aum_cny"]).all()
    # taken as they come, the shares of such days would be flows of half the fund and more
    before = daily.set_index(["etf_code", "trade_date"])["shares"].groupby("etf_code").shift(1)
    naive = splits["shares"] - before.loc[pd.MultiIndex.from_frame(splits[["etf_code", "trade_date"]])].to_numpy()
    assert (naive.abs() * splits["unit_nav"] > 0.3 * splits["aum_cny"]).all()
    held_back = daily.loc[daily["split_status"] == "suspected", "net_creation_cny"]
    assert held_back.isna().all()


@pytest.mark.parametrize("day", [*SHORT_FILE_DAYS, *NO_SHARE_DAYS])
def test_a_gap_is_no_days_flow(daily: pd.DataFrame, shares: pd.DataFrame, day: str) -> None:
    position = shares.index.get_loc(pd.Timestamp(day))
    before, today, after = (shares.iloc[position + step] for step in (-1, 0, 1))
    absent = before.notna() & today.isna() & after.notna()
    assert absent.sum() > 60
    following = daily[daily["trade_date"] == shares.index[position + 1]].set_index("etf_code")
    gap = following.loc[absent.index[absent]]
    assert gap["net_creation_cny"].isna().all()
    assert gap["net_subscription_cny"].isna().all()
    assert (gap["interval_sessions"] == 2).all()
    assert (gap["previous_observation_date"] == shares.index[position - 1]).all()
    expected = (after - before)[gap.index] * gap["unit_nav"]
    ordinary = gap["split_factor"].eq(1) & gap["unit_nav"].notna()
    assert ordinary.sum() > 60
    pd.testing.assert_series_equal(
        gap.loc[ordinary, "interval_net_creation_cny"], expected[ordinary], check_names=False, rtol=1e-9
    )
    on_the_day = daily[(daily["trade_date"] == day) & daily["etf_code"].isin(gap.index)]
    assert on_the_day["net_creation_cny"].isna().all()
    if day in SHORT_FILE_DAYS:
        there = before.notna() & today.notna() & after.notna()
        present = following.loc[there.index[there]]
        assert (present["interval_sessions"] == 1).all()
        assert present.loc[present["unit_nav"].notna(), "net_creation_cny"].notna().all()


def test_holdings(holdings: pd.DataFrame, catalogue: duckdb.DuckDBPyConnection) -> None:
    by_date = holdings.groupby("signal_date")
    assert holdings["signal_date"].nunique() >= 290
    assert (by_date.size() == 6).all()
    assert holdings["weight"].sub(1 / 6).abs().max() < 1e-15
    assert by_date["industry_code"].nunique().eq(6).all()
    assert by_date["rank"].apply(list).map(lambda ranks: ranks == [1, 2, 3, 4, 5, 6]).all()
    scores = catalogue.sql("from factor_scores").df()
    # the six highest composites of each date, ties by code, found anew
    best = scores[scores["signal_date"].isin(holdings["signal_date"])].sort_values(
        ["signal_date", "composite", "industry_code"], ascending=[True, False, True]
    )
    best = best.groupby("signal_date").head(6)
    assert best["industry_code"].tolist() == holdings.sort_values(["signal_date", "rank"])["industry_code"].tolist()
    # a date either has holdings or a reason, never both
    withheld = set(scores.loc[scores["withheld_reason"].notna(), "signal_date"])
    assert withheld == set(scores["signal_date"]) - set(holdings["signal_date"])
    periods = catalogue.sql("from rebalance_dates").df()
    assert set(periods["signal_date"]) == set(scores["signal_date"])
    assert (periods["holding_end"].iloc[:-1].to_numpy() == periods["signal_date"].iloc[1:].to_numpy()).all()
    assert (periods["holding_start"] > periods["signal_date"]).all()
    assert holdings["signal_date"].max().date() == date(2026, 10, 30)
