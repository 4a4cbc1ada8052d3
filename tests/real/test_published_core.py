"""Published figures that need nothing but `core`: regimes, dates, z-scores, groups, flags, excess, RSI."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.calendar import rebalance_dates, sessions_between, week_ends
from etf_pipeline.core.composite import above_median_flags, quintiles, zscore
from etf_pipeline.core.portfolio import period_excess
from etf_pipeline.core.regime import style_regime
from etf_pipeline.core.rsi import rsi_wilder

PAIRS = {"size": ("000300.SH", "000852.SH", 100.0), "growth_value": ("399370.SZ", "399371.SZ", 1000.0)}
MISPRINT = ("2026-01-19", "CI005015")  # 消费者服务: −10.89 printed, −0.89 in the other table of the same report


@pytest.fixture(scope="module")
def signals(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "reference" / "style_signals.csv", parse_dates=["week_end"]).set_index("week_end")


@pytest.fixture(scope="module")
def flows(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "reference" / "industry_flow_2026-01-16.csv").set_index("industry_code")


@pytest.fixture(scope="module")
def holdings(shared: Path) -> pd.DataFrame:
    table = pd.read_csv(shared / "reference" / "holdings.csv").set_index(["period_start", "industry_code"])
    assert table.loc[MISPRINT, "return_pct"] == -10.89
    table.loc[MISPRINT, "return_pct"] = -0.89
    return table


def weekly_closes(closes: pd.DataFrame) -> pd.DataFrame:
    return closes.reindex(week_ends(sessions_between(date(2005, 1, 1), date(2026, 7, 31))))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("first_year", ["2005", "2012", "2015", "2020", "2024"])
def test_every_weekly_regime_signal(
    real_closes: pd.DataFrame, signals: pd.DataFrame, pair: str, first_year: str
) -> None:
    # 2005 holds the missing year 2011 of the CSI 1000: the filter starts anew after it, so the choice of start is free
    large, small, lam = PAIRS[pair]
    weekly = weekly_closes(real_closes).loc[first_year:]
    regime = style_regime(weekly[large] / weekly[small], lam, weeks=2)
    assert regime["signal"].reindex(signals.index).tolist() == signals[f"{pair}_signal"].tolist()


@pytest.mark.parametrize("pair", PAIRS)
def test_start_of_the_ratio_is_forgotten(real_closes: pd.DataFrame, pair: str) -> None:
    large, small, lam = PAIRS[pair]
    weekly = weekly_closes(real_closes)
    ratio = weekly[large] / weekly[small]
    whole = style_regime(ratio, lam, weeks=2)["trend"].loc["2025":]
    late = style_regime(ratio.loc["2020":], lam, weeks=2)["trend"].loc["2025":]
    np.testing.assert_allclose(late, whole, rtol=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_weekly_relative_return(real_closes: pd.DataFrame, signals: pd.DataFrame, pair: str) -> None:
    large, small, _ = PAIRS[pair]
    returns = weekly_closes(real_closes).pct_change(fill_method=None).loc[signals.index]
    assert (returns[large] > returns[small]).astype(int).tolist() == signals[f"{pair}_return"].tolist()


def test_rebalance_dates(holdings: pd.DataFrame) -> None:
    published = [
        *("2025-11-21", "2025-12-05", "2025-12-19", "2025-12-31"),
        *("2026-01-16", "2026-01-30", "2026-02-13", "2026-03-06"),
    ]
    dates = rebalance_dates(date(2025, 11, 15), date(2026, 3, 10), date(2019, 9, 30), 2)
    assert dates.strftime("%Y-%m-%d").tolist() == published
    assert set(holdings["period_end"]) <= set(published)


def test_divergence_is_a_z_score(flows: pd.DataFrame) -> None:
    printed = flows[["divergence"]].T
    assert abs(printed.loc["divergence"].mean()) < 0.0005
    assert printed.loc["divergence"].std(ddof=1) == pytest.approx(1.0, abs=0.0005)
    # standardising it once more changes nothing within the printed digits; with ddof = 0 it would
    assert (zscore(printed, 1e-9) - printed).abs().max(axis=None) < 0.005
    assert (zscore(printed, 1e-9, ddof=0) - printed).abs().max(axis=None) > 0.02


def test_quintiles_hold_six_each(flows: pd.DataFrame, shared: Path) -> None:
    groups = quintiles(flows[["divergence", "flow_100m_cny"]].T)
    assert (groups.apply(lambda row: row.value_counts(), axis=1) == 6).all(axis=None)
    published = pd.read_csv(shared / "reference" / "change_groups_2025.csv").set_index("industry_code")
    sizes = published.drop(columns="industry_name").apply(lambda month: month.value_counts())
    odd = sizes.columns[(sizes != 6).any()].tolist()
    # the last two printed months do not add up to six each (2025-10: 7, 6, 6, 6, 5; 2025-11: 6, 7, 7, 4, 6)
    assert odd == ["2025-10", "2025-11"]


def test_flags_are_above_the_median(flows: pd.DataFrame, holdings: pd.DataFrame) -> None:
    period = holdings.loc["2026-01-19"]
    flags = above_median_flags(flows[["flow_100m_cny", "divergence"]].T)[period.index]
    assert flags.loc["flow_100m_cny"].tolist() == period["flow_flag"].tolist()
    assert flags.loc["divergence"].tolist() == period["divergence_flag"].tolist()


def test_period_excess(flows: pd.DataFrame, holdings: pd.DataFrame) -> None:
    returns, period = flows["return_pct"], holdings.loc["2026-01-19"]
    assert period["return_pct"].to_dict() == returns[period.index].to_dict()
    assert round(returns.mean(), 2) == 1.15  # the benchmark: simple mean of all 30 industries
    for code, printed in period["excess_pct"].items():
        assert round(period_excess(returns, [str(code)]), 2) == printed
    assert period_excess(returns, list(period.index)) == pytest.approx(period["excess_pct"].mean(), abs=0.005)


def test_printed_excess_is_against_one_benchmark(holdings: pd.DataFrame) -> None:
    benchmark = holdings["return_pct"] - holdings["excess_pct"]
    # two roundings of half a hundredth each
    assert (benchmark.groupby(level="period_start").agg(np.ptp) <= 0.02).all()


def test_rsi_of_510300(shared: Path) -> None:
    bars = pd.read_parquet(shared / "data" / "etf_bar.parquet", filters=[("etf_code", "==", "510300.SH")])
    close = bars.assign(trade_date=pd.to_datetime(bars["trade_date"])).set_index("trade_date")[["close"]].dropna()
    rsi = rsi_wilder(close, 12)["close"]
    published = {"2025-05-07": 58.20, "2025-07-03": 60.24, "2025-07-11": 68.14, "2025-09-12": 63.90}
    assert {day: round(rsi.loc[day], 2) for day in published} == published
