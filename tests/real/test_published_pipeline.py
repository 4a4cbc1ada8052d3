"""Published figures out of the published tables of one run over the real series, from the command line to DuckDB."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from exchange_calendars import get_calendar

from tests.pipeline.harness import Finished, etf_pipeline, squeeze

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real")]

REBALANCE_DATES = [
    *("2025-11-21", "2025-12-05", "2025-12-19", "2025-12-31"),
    *("2026-01-16", "2026-01-30", "2026-02-13", "2026-03-06"),
]
NET_CREATION_100M = {
    "2026-08-17": -185.69,
    "2026-08-18": -128.57,
    "2026-08-19": 520.93,
    "2026-08-20": -31.79,
    "2026-08-21": -99.70,
}
"""A-share stock ETFs, computed by hand from the exchanges' files; split of 588290.SH taken out."""
SPLIT = ("588290.SH", "2026-08-21", 3)
SHORT_FILES = ("2026-06-08", "2026-08-10")
LARGE_CNY, LARGE_PART = 1e9, 0.3


@pytest.fixture(scope="module")
def real_run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    folder = tmp_path_factory.mktemp("real")
    options = ("--source", "files", "--data", shared / "data", "--scheme", "sw", "--set", "level_measure=share")
    run = etf_pipeline("run", "--lake", folder / "lake", *options, cwd=folder)
    assert run.code == 0, run.output
    return folder / "lake", run


@pytest.fixture(scope="module")
def catalogue(real_run: tuple[Path, Finished]) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(real_run[0] / "etf.duckdb", read_only=True)


@pytest.fixture(scope="module")
def daily(catalogue: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    return catalogue.sql("from etf_daily").df()


@pytest.fixture(scope="module")
def hs300(daily: pd.DataFrame) -> pd.DataFrame:
    return daily[daily["etf_code"] == "510300.SH"].set_index("trade_date")


def wide(shared: Path, name: str, value: str) -> pd.DataFrame:
    """A series straight from its file: sessions × ETFs."""
    frame = pd.read_parquet(shared / "data" / f"{name}.parquet")
    table = frame.assign(trade_date=pd.to_datetime(frame["trade_date"])).pivot(
        index="trade_date", columns="etf_code", values=value
    )
    sessions = get_calendar("XSHG").sessions_in_range(table.index[0], table.index[-1])
    return table.reindex(pd.DatetimeIndex(sessions))


@pytest.fixture(scope="module")
def file_shares(shared: Path) -> pd.DataFrame:
    return wide(shared, "etf_share", "shares")


@pytest.fixture(scope="module")
def file_navs(shared: Path) -> pd.DataFrame:
    return wide(shared, "etf_nav", "unit_nav")


def test_circulating_value(hs300: pd.DataFrame) -> None:
    assert round(hs300.loc["2025-06-19", "circulating_value_cny"] / 1e8, 2) == 3687.75


@pytest.mark.parametrize(("day", "printed"), [("2025-06-19", -5.49), ("2025-05-07", -18.85)])
def test_net_subscription(hs300: pd.DataFrame, day: str, printed: float) -> None:
    assert round(hs300.loc[day, "net_subscription_cny"] / 1e8, 2) == printed


FIGURES = {
    "rsi_wilder_12": ("rsi_wilder_12_published", 1),
    "circulating_value": ("circulating_value_cny", 1e8),
    "net_subscription": ("net_subscription_cny", 1e8),
}


def test_printed_figures_of_the_observation_log(shared: Path, daily: pd.DataFrame) -> None:
    printed = pd.read_csv(shared / "reference" / "observation_log.csv", parse_dates=["trade_date"])
    printed = printed[printed["figure"].isin(FIGURES) & printed["use"].eq("test")]
    rows = daily.set_index(["etf_code", "trade_date"])
    found = [
        rows.loc[(row.etf_code, row.trade_date), FIGURES[row.figure][0]] / FIGURES[row.figure][1]
        for row in printed.itertuples()
    ]
    assert len(printed) == 57
    assert printed[(printed["printed"] - found).abs() > 0.005 + 1e-9].empty


def test_real_splits_of_any_ratio(shared: Path, catalogue: duckdb.DuckDBPyConnection) -> None:
    known = pd.read_csv(shared / "reference" / "etf_splits.csv", parse_dates=["ex_date"])
    found = catalogue.sql("from etf_split_event").df()
    both = known.merge(found, on=["etf_code", "ex_date"], how="left", suffixes=("_known", ""))
    assert len(both) == 39
    np.testing.assert_allclose(both["new_per_old"], both["new_per_old_known"], rtol=0.005)
    assert set(both["status"]) == {"inferred"}
    # dividends are none: of 421 distributions, with steps of up to 14.5 %
    dividends = catalogue.sql("from raw.etf_dividend").df()
    assert found.merge(dividends, on=["etf_code", "ex_date"]).empty


def test_net_creation_is_the_exact_form(hs300: pd.DataFrame) -> None:
    # the published form lets the change of the premium in: -5.49 where shares and NAV say -4.64
    assert round(hs300.loc["2025-06-19", "net_creation_cny"] / 1e8, 2) == -4.64


@pytest.mark.parametrize(
    ("day", "printed"), [("2025-05-07", 58.20), ("2025-07-03", 60.24), ("2025-07-11", 68.14), ("2025-09-12", 63.90)]
)
def test_rsi(hs300: pd.DataFrame, day: str, printed: float) -> None:
    assert round(hs300.loc[day, "rsi_wilder_12"], 2) == printed


@pytest.mark.parametrize("pair", ["size", "growth_value"])
def test_style_signals(catalogue: duckdb.DuckDBPyConnection, shared: Path, pair: str) -> None:
    printed = pd.read_csv(shared / "reference" / "style_signals.csv", parse_dates=["week_end"]).set_index("week_end")
    table = catalogue.sql(f"from style_regime where series = '{pair}'").df().set_index("week_end")
    assert len(printed) == 12
    assert table.loc[printed.index, "signal"].astype(int).tolist() == printed[f"{pair}_signal"].tolist()


def test_rebalance_dates(catalogue: duckdb.DuckDBPyConnection) -> None:
    dates = catalogue.sql("from rebalance_dates order by signal_date").df()
    published = dates[dates["signal_date"].between("2025-11-15", "2026-03-10")]
    assert published["signal_date"].dt.strftime("%Y-%m-%d").tolist() == REBALANCE_DATES
    assert published["holding_end"].dt.strftime("%Y-%m-%d").tolist() == [*REBALANCE_DATES[1:], "2026-03-20"]
    assert published["holding_start"].iloc[0] == pd.Timestamp("2025-11-24")


def test_coverage_is_printed(real_run: tuple[Path, Finished], catalogue: duckdb.DuckDBPyConnection) -> None:
    output = real_run[1]
    latest = catalogue.sql("from look_through_coverage where week_end = '2026-08-21'").df().set_index("basis")
    assert latest["ratio"].sum() == pytest.approx(1, abs=1e-9)
    assert {"theme", "no weights", "stale weights"} <= set(latest.index)
    assert squeeze("How A-share stock ETFs were looked through, 2026-08-21") in output.words
    for basis, row in latest.iterrows():
        printed = next(line for line in output.output.splitlines() if line.startswith(f"│ {basis} "))
        assert f"{row['value_cny'] / 1e8:,.1f}" in printed
        assert f"{row['ratio']:.1%}" in printed


@pytest.mark.parametrize("day", SHORT_FILES)
def test_a_short_file_makes_no_flow(daily: pd.DataFrame, file_shares: pd.DataFrame, day: str) -> None:
    position = file_shares.index.get_loc(pd.Timestamp(day))
    before, today, after = (file_shares.iloc[position + step] for step in (-1, 0, 1))
    absent = before.index[before.notna() & today.isna() & after.notna()]
    assert len(absent) >= 50
    following = daily[daily["trade_date"] == file_shares.index[position + 1]].set_index("etf_code").loc[absent]
    assert following["net_creation_cny"].isna().all()
    assert following["net_subscription_cny"].isna().all()
    assert (following["interval_sessions"] == 2).all()
    on_the_day = daily[(daily["trade_date"] == day) & daily["etf_code"].isin(absent)]
    assert on_the_day["net_creation_cny"].isna().all()


@pytest.fixture(scope="module")
def flow_by_hand(shared: Path, file_shares: pd.DataFrame, file_navs: pd.DataFrame) -> pd.Series:
    """Net creation of A-share stock ETFs straight from the files, with the one split of those days put right."""
    info = pd.read_parquet(shared / "data" / "etf_info.parquet")
    stock = file_shares.columns.intersection(info.loc[info["asset_scope"] == "aShareStockEtf", "etf_code"])
    shares = file_shares.loc["2026-08-14":, stock].copy()
    before = shares.shift(1)
    code, day, factor = SPLIT
    assert shares.loc[day, code] == pytest.approx(before.loc[day, code] * factor, rel=0.05)
    before.loc[day, code] *= factor
    flow = ((shares - before) * file_navs.reindex(index=shares.index, columns=stock)).sum(axis=1)
    return flow.loc[list(NET_CREATION_100M)]


def test_net_creation_of_the_market(
    daily: pd.DataFrame, catalogue: duckdb.DuckDBPyConnection, flow_by_hand: pd.Series
) -> None:
    info = catalogue.sql("select etf_code, asset_scope as scope from raw.etf_info").df()
    joined = daily.drop(columns="asset_scope").merge(info, on="etf_code", how="left")
    stock = joined[(joined["scope"] == "aShareStockEtf") & joined["trade_date"].isin(flow_by_hand.index)]
    by_etf = stock.groupby("trade_date")["net_creation_cny"].sum()
    market = catalogue.sql("from market_flow where asset_scope = 'aShareStockEtf'").df().set_index("trade_date")
    market = market.loc[flow_by_hand.index, "net_creation_cny"]
    np.testing.assert_allclose(by_etf, market, rtol=1e-9)
    np.testing.assert_allclose(market, flow_by_hand, rtol=1e-9)
    np.testing.assert_allclose(market / 1e8, list(NET_CREATION_100M.values()), rtol=0.005)


def test_the_split_of_those_days_is_inferred(daily: pd.DataFrame) -> None:
    code, day, factor = SPLIT
    row = daily[(daily["etf_code"] == code) & (daily["trade_date"] == day)].iloc[0]
    assert row["is_split_day"]
    assert row["split_status"] == "inferred"
    assert row["split_factor"] == factor
    assert abs(row["net_creation_cny"]) < 0.02 * row["aum_cny"]


def test_no_large_flow_that_is_not_in_the_files(
    daily: pd.DataFrame, file_shares: pd.DataFrame, file_navs: pd.DataFrame
) -> None:
    large = daily[(daily["aum_cny"] > LARGE_CNY) & (daily["net_creation_cny"].abs() > LARGE_PART * daily["aum_cny"])]
    assert (daily["aum_cny"] > LARGE_CNY).sum() > 5000
    assert len(large) < 10
    for row in large.itertuples():
        position = file_shares.index.get_loc(row.trade_date)
        before, after = file_shares[row.etf_code].iloc[[position - 1, position]]
        navs = file_navs[row.etf_code].reindex(file_shares.index).iloc[[position - 1, position]]
        # a flow and no split: the NAV stays within the price limit while the shares move
        assert abs(navs.iloc[1] / navs.iloc[0] - 1) < 0.101, row
        assert row.net_creation_cny == pytest.approx((after - before) * navs.iloc[1], rel=1e-9), row


def test_the_missing_factor_is_named(real_run: tuple[Path, Finished], catalogue: duckdb.DuckDBPyConnection) -> None:
    lake, run = real_run
    holdings = catalogue.sql("from strategy_holdings").df()
    assert set(holdings["factors_used"]) == {"flow, level, change"}
    assert holdings["factors_off"].str.startswith("divergence: no data: fund_holding, fund_return").all()
    assert holdings["divergence"].isna().all()
    assert set(holdings["level_measure"]) == {"share"}
    told = squeeze("Factors: flow, level, change. divergence: no data: fund_holding, fund_return")
    assert told in run.words
    assert told in etf_pipeline("holdings", "--lake", lake, cwd=lake.parent).words


def test_holdings_of_a_real_week(real_run: tuple[Path, Finished], catalogue: duckdb.DuckDBPyConnection) -> None:
    run = real_run[1]
    assert "SYNTHETIC" not in run.output
    holdings = catalogue.sql("from strategy_holdings").df()
    assert set(holdings["source"]) == {"files (data)"}
    assert holdings["industry_code"].str.fullmatch(r"801\d{3}\.SI").all()
    assert (holdings.groupby("signal_date").size() == 6).all()
    assert set(REBALANCE_DATES) & set(holdings["signal_date"].dt.strftime("%Y-%m-%d"))


def test_a_change_of_coverage_is_no_flow(catalogue: duckdb.DuckDBPyConnection) -> None:
    """Bars of all but one ETF end in November 2025: what is left is no market, and what is gone is no redemption."""
    evidence = catalogue.sql("from look_through_evidence").df().set_index("week_end")
    assert evidence.loc["2025-11-28", "value_cny"] > 3 * evidence.loc["2025-12-05", "value_cny"]
    assert evidence.loc["2025-12-05", ["weight_sets", "compared_etfs", "largest_etf_ratio"]].tolist() == [1, 1, 1]
    assert evidence.loc["2025-12-05", "compared_ratio"] < 0.3
    weekly = catalogue.sql("from industry_weekly").df().set_index("week_end")
    assert weekly.loc["2025-11-28", "held_share_change_ratio"].notna().all()
    assert weekly.loc["2025-12-05", "held_share_change_ratio"].isna().all()
    # weights of two more indices begin in January 2025: four weeks on, their value is not compared with none
    assert weekly.loc["2025-01-17", "held_share_change_ratio"].notna().all()
    assert weekly.loc["2025-01-17", "held_share_medium_change_ratio"].isna().all()
    scores = catalogue.sql("select distinct signal_date, withheld_reason from factor_scores").df()
    reasons = scores.set_index("signal_date")["withheld_reason"]
    assert reasons["2025-12-05"] == "look-through: rests on too few sets of weights (evidence_weight_sets)"
    assert reasons["2025-01-17"] == "change: too little of the value compares on both dates (compared_floor)"


def test_nothing_is_published_on_thin_evidence(catalogue: duckdb.DuckDBPyConnection) -> None:
    held = catalogue.sql("from look_through_evidence semi join strategy_holdings on week_end = signal_date").df()
    assert len(held) > 20
    assert held["weight_sets"].min() == 3
    assert held["largest_etf_ratio"].max() < 0.31
    assert held["coverage_ratio"].min() > 0.8
    assert held[["compared_ratio", "medium_compared_ratio"]].min(axis=None) > 0.8


def test_no_date_is_published_on_a_flow_below_rounding(catalogue: duckdb.DuckDBPyConnection) -> None:
    weeks = catalogue.sql("""
        select week_end, max(abs(held_share_change_ratio)) / max(held_share_ratio) as moved
        from industry_weekly group by all
    """).df()
    still = weeks.loc[weeks["moved"] < 1e-9, "week_end"]
    scores = catalogue.sql("from factor_scores").df()
    on_still = scores[scores["signal_date"].isin(still)]
    # one weight set carries the look-through, so that the shares of industries stand still between its dates
    assert on_still["signal_date"].nunique() > 100
    assert on_still["flow"].isna().all()
    assert on_still["withheld_reason"].notna().all()
    assert not catalogue.sql("from strategy_holdings").df()["signal_date"].isin(still).any()


def test_the_report_shows_how_little_is_covered(
    real_run: tuple[Path, Finished], catalogue: duckdb.DuckDBPyConnection
) -> None:
    page = (real_run[0] / "reports" / "report.html").read_text(encoding="utf-8")
    own = page[: page.index("<script>")]
    assert "SYNTHETIC" not in own
    coverage = catalogue.sql("from look_through_coverage").df()
    ratio = coverage[coverage["week_end"] == coverage["week_end"].max()].set_index("basis")["ratio"]
    # what is looked through stands in the largest letters of the page, the rest beside it
    assert f'class="large">{ratio.get("constituents", 0.0):.1%}' in own
    for basis in ("theme", "stale weights"):
        assert f"{ratio[basis]:.2%}" in own
    assert "fund_holding, fund_return" in own
    assert (real_run[0] / "reports" / "report.xlsx").stat().st_size > 100_000
