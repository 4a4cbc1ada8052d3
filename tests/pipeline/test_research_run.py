"""What the research tables of a whole run say, against plain pandas on the published holdings and raw closes."""

from pathlib import Path

import duckdb
import pandas as pd
import pytest
from scipy import stats

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sample")]


@pytest.fixture(scope="module")
def catalogue(sample_lake: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(sample_lake / "etf.duckdb", read_only=True)


@pytest.fixture(scope="module")
def closes(catalogue: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Sessions × industries."""
    bars = catalogue.sql("from raw.industry_bar where scheme = 'citic'").df()
    return bars.pivot(index="trade_date", columns="industry_code", values="close")


@pytest.fixture(scope="module")
def returns(catalogue: duckdb.DuckDBPyConnection, closes: pd.DataFrame) -> pd.DataFrame:
    """Return of every industry from each signal's close to the next one's, signal dates × industries."""
    dates = pd.DatetimeIndex(catalogue.sql("select distinct signal_date d from factor_scores order by d").df()["d"])
    return (closes.loc[dates].shift(-1) / closes.loc[dates] - 1).dropna()


def test_periods_are_the_holdings_times_the_closes(catalogue: duckdb.DuckDBPyConnection, returns: pd.DataFrame) -> None:
    held = catalogue.sql("from strategy_holdings").df()
    held["earned"] = [
        returns.at[day, code] if day in returns.index else None
        for day, code in zip(held["signal_date"], held["industry_code"], strict=True)
    ]
    mean = held.dropna(subset=["earned"]).groupby("signal_date")["earned"].mean()
    tested = catalogue.sql(
        "from backtest_period where portfolio = 'composite' and execution = 'signal_close' and industries_held > 0"
    ).df()
    tested = tested.set_index("signal_date").loc[mean.index]
    assert len(tested) > 280
    pd.testing.assert_series_equal(tested["period_return"], mean, check_names=False, rtol=1e-12)
    pd.testing.assert_series_equal(
        tested["benchmark_return"], returns.mean(axis=1).loc[mean.index], check_names=False, rtol=1e-12
    )


def test_one_session_later_earns_the_sessions_one_later(
    catalogue: duckdb.DuckDBPyConnection, closes: pd.DataFrame
) -> None:
    held = catalogue.sql("select * from strategy_holdings where signal_date = '2020-11-20'").df()["industry_code"]
    row = catalogue.sql(
        "from backtest_period where portfolio = 'composite' and execution = 'next_session' "
        "and signal_date = '2020-11-20'"
    ).df()
    after = closes.loc["2020-12-07"] / closes.loc["2020-11-23"] - 1
    assert row[["bought_at", "held_until"]].iloc[0].dt.strftime("%F").tolist() == ["2020-11-23", "2020-12-07"]
    assert row["period_return"][0] == pytest.approx(after[held].mean(), rel=1e-12)
    assert row["excess_return"][0] == pytest.approx(after[held].mean() - after.mean(), rel=1e-9)


def test_costs_are_what_turnover_costs(catalogue: duckdb.DuckDBPyConnection) -> None:
    periods = catalogue.sql("from backtest_period").df()
    assert (periods["cost"] - 2 * periods["turnover"] * 5e-4).abs().max() < 1e-15
    first = periods.sort_values("signal_date").groupby(["portfolio", "execution"]).head(1)
    assert first["turnover"].tolist() == pytest.approx([0.5] * 12)
    assert periods["turnover"].between(0, 1 + 1e-12).all()


def test_rank_correlations_against_scipy(catalogue: duckdb.DuckDBPyConnection, returns: pd.DataFrame) -> None:
    scores = catalogue.sql("from factor_scores").df().pivot(index="signal_date", columns="industry_code", values="flow")
    ic = (
        catalogue.sql("from factor_ic where factor = 'flow' and horizon = 'period'").df().set_index("signal_date")["ic"]
    )
    days = returns.index[20:60]
    expected = [stats.spearmanr(scores.loc[day], returns.loc[day]).statistic for day in days]
    assert ic.loc[days].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_week_after_next_is_another_week(catalogue: duckdb.DuckDBPyConnection, closes: pd.DataFrame) -> None:
    scores = catalogue.sql("from factor_scores where signal_date = '2020-11-20'").df().set_index("industry_code")
    ic = catalogue.sql("from factor_ic where factor = 'level' and signal_date = '2020-11-20'").df()
    third_week = closes.loc["2020-12-11"] / closes.loc["2020-12-04"] - 1
    expected = stats.spearmanr(scores["level"], third_week[scores.index]).statistic
    assert ic.loc[ic["horizon"] == "week_3", "ic"].item() == pytest.approx(expected, abs=1e-12)


def test_the_planted_signal_is_found(catalogue: duckdb.DuckDBPyConnection) -> None:
    # the sample's flows lead returns a little; its active funds do not
    summary = catalogue.sql("from factor_ic_summary where span = 'full' and horizon = 'period'").df()
    t = summary.set_index("factor")["t_statistic"]
    assert t["flow"] > 3
    assert t["flow"] == t.drop("composite").max()
    luck = catalogue.sql("from luck_test where span = 'full'").df().set_index(["portfolio", "execution"])
    assert (luck.loc["flow", "p_value"] < 0.01).all()
    assert luck["p_value"].between(1 / 2001, 1).all()
    assert (luck["excess_low"] < luck["annual_excess"]).all()
    assert (luck["annual_excess"] < luck["excess_high"]).all()


def test_the_grid_has_every_cell_once(catalogue: duckdb.DuckDBPyConnection) -> None:
    grid = catalogue.sql("from sensitivity").df()
    construction = grid[grid["axis"] == "construction"]
    # 15 subsets of the factors, flow and level measured two ways where they are in it, six numbers held, two phases
    assert len(construction) == (4 * 4 + 4 * 2 + 4 * 2 + 3) * 6 * 2
    assert (grid["axis"] == "smoothing").sum() == 36
    assert grid["is_default"].sum() == 2
    assert grid["periods"].gt(280).all()
    by_phase = construction.groupby("phase")["annual_return"].mean()
    assert by_phase[0] != by_phase[1]


def test_every_group_holds_a_fifth(catalogue: duckdb.DuckDBPyConnection, returns: pd.DataFrame) -> None:
    scores = catalogue.sql("from factor_scores").df().pivot(index="signal_date", columns="industry_code", values="flow")
    day, following = returns.index[100], returns.index[101]
    nav = catalogue.sql("from factor_group_daily where factor = 'flow'").df()
    nav = nav.pivot(index="trade_date", columns="group", values="nav")
    ranked = scores.loc[day].sort_values()
    for group in range(5):
        expected = returns.loc[day, ranked.index[group * 6 : group * 6 + 6]].mean()
        assert nav.at[following, str(group + 1)] / nav.at[day, str(group + 1)] - 1 == pytest.approx(expected, abs=1e-12)
