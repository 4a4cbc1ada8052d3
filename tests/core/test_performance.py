import math
import statistics
from datetime import date
from itertools import pairwise

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.core.performance import (
    annualised,
    geometric_excess,
    max_drawdown,
    monthly_excess,
    odds,
    performance,
    return_per_risk,
    volatility,
    win_rate,
)
from etf_pipeline.tables import PERFORMANCE

NAN = np.nan
SESSIONS = sessions_between(date(2019, 1, 1), date(2022, 3, 31))
COLUMNS = [
    *("is_partial", "first_date", "last_date", "sessions", "total_return", "annual_return", "volatility", "sharpe"),
    *("max_drawdown", "benchmark_return", "excess_return", "tracking_error", "information_ratio"),
    *("relative_max_drawdown", "monthly_win_rate", "odds"),
]
FIGURES = COLUMNS[4:]


def series(values: object, sessions: pd.DatetimeIndex = SESSIONS) -> pd.Series:
    array = np.asarray(values, dtype=float)
    return pd.Series(array, index=sessions[: len(array)])


@st.composite
def navs(draw: st.DrawFn, holes: bool = True) -> tuple[pd.Series, pd.Series]:
    """A value and a benchmark on the same sessions: random walks, flat, with missing months or missing values."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    start, length = draw(st.integers(0, 500)), draw(st.sampled_from([1, 2, 3, 30, 250, 700]))
    dates = SESSIONS[start : start + length]
    if draw(st.booleans()):  # months without any session
        dates = dates[~dates.month.isin(rng.integers(1, 13, 3))]
    sizes = draw(st.sampled_from([(0.01, 0.01), (0.02, 0.0), (0.0, 0.01)]))
    both = [np.exp(np.cumsum(rng.normal(0.0003, size, len(dates)))) for size in sizes]
    if sizes[0] == 0:
        both[0] = np.ones(len(dates))  # cash
    if holes and draw(st.booleans()):
        for values in both:
            values[rng.random(len(values)) < draw(st.sampled_from([0.0, 0.002]))] = NAN
    return pd.Series(both[0], index=dates), pd.Series(both[1], index=dates)


def plainly(nav: pd.Series, benchmark: pd.Series, start: int, end: int, whole: bool) -> dict[str, float]:
    """Independent answer for the values from position `start` to `end`, in plain Python."""
    dates = list(nav.index[start : end + 1])
    value, base = list(nav.iloc[start : end + 1]), list(benchmark.iloc[start : end + 1])
    days = len(dates) - 1
    result = dict.fromkeys(FIGURES, NAN)
    if days < 1:
        return result

    def yearly(values: list[float]) -> float:
        total = values[-1] / values[0] - 1 if not any(map(math.isnan, values)) else NAN
        return total if whole else (1 + total) ** (252 / days) - 1

    def deviation(values: list[float]) -> float:
        return statistics.stdev(values) * 252**0.5 if days > 1 and not any(map(math.isnan, values)) else NAN

    def drawdown(values: list[float]) -> float:
        if any(map(math.isnan, values)):
            return NAN
        return min(late / max(values[: i + 1]) - 1 for i, late in enumerate(values))

    def over(top: float, bottom: float) -> float:
        return top / bottom if bottom > 1e-12 else NAN

    steps = [b / a - 1 for a, b in pairwise(value)]
    base_steps = [b / a - 1 for a, b in pairwise(base)]
    result["total_return"] = value[-1] / value[0] - 1 if not any(map(math.isnan, value)) else NAN
    result["annual_return"], result["benchmark_return"] = yearly(value), yearly(base)
    result["volatility"] = deviation(steps)
    result["tracking_error"] = deviation([a - b for a, b in zip(steps, base_steps, strict=True)])
    result["excess_return"] = (1 + result["annual_return"]) / (1 + result["benchmark_return"]) - 1
    result["sharpe"] = over(result["annual_return"], result["volatility"])
    result["information_ratio"] = over(result["excess_return"], result["tracking_error"])
    result["max_drawdown"] = drawdown(value)
    result["relative_max_drawdown"] = drawdown([a / b for a, b in zip(value, base, strict=True)])

    if any(map(math.isnan, value + base)):
        return result
    grown: dict[tuple[int, int], list[float]] = {}
    for i in range(1, days + 1):
        both = grown.setdefault((dates[i].year, dates[i].month), [1.0, 1.0])
        both[0] *= 1 + steps[i - 1]
        both[1] *= 1 + base_steps[i - 1]
    differences = [a - b for a, b in grown.values()]
    won, lost = [d for d in differences if d > 1e-12], [d for d in differences if d < -1e-12]
    result["monthly_win_rate"] = len(won) / len(differences)
    if won and lost:
        result["odds"] = statistics.fmean(won) / abs(statistics.fmean(lost))
    return result


@settings(deadline=None, max_examples=40)
@given(navs())
def test_agrees_with_plain_python(both: tuple[pd.Series, pd.Series]) -> None:
    nav, benchmark = both
    table = performance(nav, benchmark, 252)
    years = sorted({day.year for day in nav.index})
    assert table.index.tolist() == [*map(str, years), "full"]
    assert table.columns.tolist() == COLUMNS
    for year in years:
        inside = [i for i, day in enumerate(nav.index) if day.year == year]
        start, end = max(inside[0] - 1, 0), inside[-1]
        reached = nav.index[-1] >= max(day for day in SESSIONS if day.year == year) and year < 2022
        whole = nav.index[0].year < year and reached
        row = table.loc[str(year)]
        assert (row["is_partial"], row["first_date"], row["last_date"]) == (not whole, nav.index[start], nav.index[end])
        assert row["sessions"] == end - start
        expected = plainly(nav, benchmark, start, end, whole)
        np.testing.assert_allclose(row[FIGURES].astype(float), list(expected.values()), rtol=1e-9, atol=1e-10)
    if len(nav):
        expected = plainly(nav, benchmark, 0, len(nav) - 1, whole=False)
        full = table.loc["full"]
        np.testing.assert_allclose(full[FIGURES].astype(float), list(expected.values()), rtol=1e-9, atol=1e-10)
        assert (full["is_partial"], full["sessions"]) == (False, len(nav) - 1)
    assert not np.isinf(table[FIGURES].astype(float)).any(axis=None)


@settings(deadline=None, max_examples=60)
@given(navs(holes=False))
def test_agrees_with_empyrical(both: tuple[pd.Series, pd.Series]) -> None:
    nav, benchmark = both
    table = performance(nav, benchmark, 252)
    for _, row in table.iterrows():
        span = slice(row["first_date"], row["last_date"])
        returns, base = (part.loc[span].pct_change(fill_method=None).iloc[1:] for part in both)
        expected = {
            "volatility": empyrical.annual_volatility(returns, annualization=252),
            "tracking_error": empyrical.annual_volatility(returns - base, annualization=252),
            "max_drawdown": empyrical.max_drawdown(returns),
            "relative_max_drawdown": empyrical.max_drawdown((1 + returns) / (1 + base) - 1),
        }
        if row["sessions"]:
            expected["total_return"] = empyrical.cum_returns_final(returns)
        if row.name == "full" or row["is_partial"]:
            expected["annual_return"] = empyrical.cagr(returns, annualization=252)
            expected["benchmark_return"] = empyrical.annual_return(base, annualization=252)
        found = [float(row[name]) for name in expected]
        np.testing.assert_allclose(found, list(expected.values()), rtol=1e-10, atol=1e-10)


def test_columns_are_those_of_the_table() -> None:
    assert [name for name in PERFORMANCE.columns if name in COLUMNS] == COLUMNS
    assert set(PERFORMANCE.columns) - set(COLUMNS) == {
        *("portfolio", "execution", "costs", "period", "industry_win_rate", "turnover", "source")
    }


def test_by_hand() -> None:
    dates = pd.DatetimeIndex(["2019-12-30", "2019-12-31", "2020-01-02", "2020-01-23", "2020-02-03", "2020-12-31"])
    nav = pd.Series([1.0, 2.0, 1.0, 1.5, 3.0, 2.4], index=dates)
    benchmark = pd.Series([1.0, 1.0, 1.0, 2.0, 2.0, 1.6], index=dates)
    table = performance(nav, benchmark, 4)
    assert table.index.name == "period"
    assert table.index.tolist() == ["2019", "2020", "full"]
    assert table["is_partial"].tolist() == [True, False, False]
    assert table["sessions"].tolist() == [1, 4, 5]
    assert table["first_date"].tolist() == [dates[0], dates[1], dates[0]]
    assert table["last_date"].tolist() == [dates[1], dates[5], dates[5]]
    np.testing.assert_allclose(table["total_return"], [1, 0.2, 1.4])
    np.testing.assert_allclose(table["annual_return"], [15, 0.2, 2.4**0.8 - 1])
    np.testing.assert_allclose(table["benchmark_return"], [0, 0.6, 1.6**0.8 - 1])
    np.testing.assert_allclose(table["excess_return"], [15, -0.25, 1.5**0.8 - 1])
    # the year starts from 2.0, so its fall to 1.0 is in it
    np.testing.assert_allclose(table["max_drawdown"], [0, -0.5, -0.5])
    np.testing.assert_allclose(table["relative_max_drawdown"], [0, -0.625, -0.625])
    risk = np.std([-0.5, 0.5, 1, -0.2], ddof=1) * 2
    error = np.std([-0.5, -0.5, 1, 0], ddof=1) * 2
    np.testing.assert_allclose(table.loc["2020", ["volatility", "sharpe"]].astype(float), [risk, 0.2 / risk])
    ratios = table.loc["2020", ["tracking_error", "information_ratio"]].astype(float)
    np.testing.assert_allclose(ratios, [error, -0.25 / error])
    # January −25 % against +100 %, February +100 % against 0, December −20 % both: a tie
    np.testing.assert_allclose(table["monthly_win_rate"], [1, 1 / 3, 2 / 4])
    np.testing.assert_allclose(table["odds"], [NAN, 1 / 1.25, 1 / 1.25])
    np.testing.assert_allclose(monthly_excess(nav, benchmark), [1, -1.25, 1, 0], atol=1e-15)


@pytest.mark.parametrize(
    ("first", "last", "partial"),
    [
        ("2019-12-31", "2020-12-31", {"2019": True, "2020": False}),
        ("2020-01-02", "2020-12-31", {"2020": True}),
        ("2019-12-30", "2020-12-30", {"2019": True, "2020": True}),
        ("2020-12-30", "2022-01-04", {"2020": True, "2021": False, "2022": True}),
    ],
)
def test_whole_years(first: str, last: str, partial: dict[str, bool]) -> None:
    nav = series(np.linspace(1, 2, len(SESSIONS))).loc[first:last]
    table = performance(nav, nav, 252)
    assert table["is_partial"].to_dict() == {**partial, "full": False}
    whole = ~table["is_partial"] & (table.index != "full")
    assert (table["annual_return"] == table["total_return"])[whole].all()
    scaled = (1 + table["total_return"]) ** (252 / table["sessions"].where(table["sessions"] > 0)) - 1
    np.testing.assert_allclose(table["annual_return"][~whole], scaled[~whole], rtol=1e-12)


def test_a_year_beyond_the_calendar_is_not_whole() -> None:
    dates = pd.bdate_range("2089-12-01", "2090-06-30")
    nav = pd.Series(np.linspace(1, 2, len(dates)), index=dates)
    assert performance(nav, nav, 252)["is_partial"].to_dict() == {"2089": True, "2090": True, "full": False}


def test_one_session() -> None:
    nav = series([1.0])
    table = performance(nav, nav, 252)
    assert table.index.tolist() == ["2019", "full"]
    assert table["sessions"].tolist() == [0, 0]
    assert (table[["first_date", "last_date"]] == SESSIONS[0]).all(axis=None)
    assert table[FIGURES].isna().all(axis=None)


def test_no_session() -> None:
    nav = series([])
    table = performance(nav, nav, 252)
    assert table.index.tolist() == ["full"]
    assert table["sessions"].tolist() == [0]
    assert table[[*FIGURES, "first_date", "last_date"]].isna().all(axis=None)
    assert len(monthly_excess(nav, nav)) == 0


def test_two_sessions_have_a_return_but_no_risk() -> None:
    table = performance(series([1.0, 1.01]), series([1.0, 1.0]), 252).loc["full"]
    known = table[FIGURES].notna()
    assert set(known.index[known]) == {
        *("total_return", "annual_return", "max_drawdown", "benchmark_return", "excess_return"),
        *("relative_max_drawdown", "monthly_win_rate"),
    }
    assert table["annual_return"] == pytest.approx(1.01**252 - 1)


def test_cash() -> None:
    benchmark = series(1 + 0.1 * np.sin(np.arange(len(SESSIONS))))
    table = performance(series(np.ones(len(SESSIONS))), benchmark, 252)
    assert (table[["total_return", "annual_return", "volatility", "max_drawdown"]] == 0).all(axis=None)
    assert table["sharpe"].isna().all()
    assert table["information_ratio"].notna().all()


def test_steady_growth_has_no_sharpe() -> None:
    # equal daily returns up to rounding: the deviation is 1e-17 instead of 0, the ratio must not be 1e16
    nav = series(1.001 ** np.arange(500))
    table = performance(nav, series(np.ones(500)), 252)
    assert (table["annual_return"] > 0).all()
    assert table[["sharpe", "information_ratio", "odds"]].isna().all(axis=None)
    assert (table["monthly_win_rate"] == 1).all()


def test_benchmark_against_itself() -> None:
    nav = series(np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 600))))
    table = performance(nav, nav * 3, 252)  # in another unit: equal up to rounding
    np.testing.assert_allclose(table[["excess_return", "tracking_error", "relative_max_drawdown"]], 0, atol=1e-12)
    assert table[["information_ratio", "odds"]].isna().all(axis=None)
    assert (table["monthly_win_rate"] == 0).all()


def test_missing_values_stay_missing() -> None:
    rng = np.random.default_rng(2)
    nav, benchmark = (series(np.exp(np.cumsum(rng.normal(0, 0.01, len(SESSIONS))))) for _ in range(2))
    whole = performance(nav, benchmark, 252)
    assert whole.loc["2020":"2021", FIGURES].notna().all(axis=None)

    holed = nav.copy()
    holed.loc["2020-06-01"] = NAN
    table = performance(holed, benchmark, 252)
    own = [name for name in FIGURES if name != "benchmark_return"]
    assert table.loc[["2020", "full"], own].isna().all(axis=None)
    pd.testing.assert_frame_equal(table.loc[["2019", "2021", "2022"]], whole.loc[["2019", "2021", "2022"]])
    assert table["benchmark_return"].equals(whole["benchmark_return"])
    assert np.flatnonzero(np.isnan(monthly_excess(holed, benchmark))).tolist() == [17]

    # the start value of 2021 is the last one of 2020
    holed = benchmark.copy()
    holed.loc["2020-12-31"] = NAN
    table = performance(nav, holed, 252)
    own = ["total_return", "annual_return", "volatility", "sharpe", "max_drawdown"]
    assert table.loc[["2020", "2021", "full"], [n for n in FIGURES if n not in own]].isna().all(axis=None)
    pd.testing.assert_frame_equal(table[own], whole[own])


def test_later_values_change_nothing() -> None:
    rng = np.random.default_rng(3)
    nav, benchmark = (series(np.exp(np.cumsum(rng.normal(0, 0.01, len(SESSIONS))))) for _ in range(2))
    whole, cut = performance(nav, benchmark, 252), performance(nav.loc[:"2021"], benchmark.loc[:"2021"], 252)
    pd.testing.assert_frame_equal(cut.loc["2019":"2021"], whole.loc["2019":"2021"])
    assert cut.loc["full", "annual_return"] != whole.loc["full", "annual_return"]


@pytest.mark.parametrize(
    ("nav", "benchmark"),
    [
        (series([1, 2]), series([1, 2, 3])),
        (series([1, 2]), series([1, 2], SESSIONS[1:])),
        (series([1, 2]).iloc[::-1], series([1, 2]).iloc[::-1]),
        (series([1, 2]).iloc[[0, 0]], series([1, 2]).iloc[[0, 0]]),
        (series([1, 0]), series([1, 2])),
        (series([1, 2]), series([1, -1])),
        (series([1, np.inf]), series([1, 2])),
    ],
)
def test_refusals(nav: pd.Series, benchmark: pd.Series) -> None:
    with pytest.raises(ValueError, match=r"same sessions|positive and finite"):
        performance(nav, benchmark, 252)


def test_helpers_by_hand() -> None:
    np.testing.assert_allclose(annualised([0.21, -1, 0.1, NAN, 9], [4, 3, 0, 5, 1], 2), [0.1, -1, NAN, NAN, 99])
    assert np.isnan(annualised(1e6, 1, 252))  # beyond any float
    np.testing.assert_allclose(volatility([[1, 3, 5], [1, NAN, 5], [2, 2, 2]], 9), [6, NAN, 0])
    assert np.isnan(volatility([1], 9))
    np.testing.assert_allclose(return_per_risk([1, -1, 0, NAN, 1], [2, 0, 0, 1, NAN]), [0.5, NAN, NAN, NAN, NAN])
    np.testing.assert_allclose(geometric_excess([0.21, 0.5, NAN, 0.1], [0.1, -1, 0.1, NAN]), [0.1, NAN, NAN, NAN])
    np.testing.assert_allclose(max_drawdown([[2, 3, 1.5, 4, 3], [1, 2, 3, 4, 5], [1, 2, NAN, 4, 1]]), [-0.5, 0, NAN])
    assert np.isnan(max_drawdown([1]))
    assert (win_rate([1, -1, 0, 2]), win_rate([1e-14, -1])) == (0.5, 0)
    assert (odds([3, 1, -0.5, 0]), odds([1e-14, 1, -1])) == (4, 1)
    for excess in ([], [1, NAN, -1]):
        assert np.isnan(win_rate(excess))
        assert np.isnan(odds(excess))
    assert np.isnan(odds([1, 2]))
    assert np.isnan(odds([-1, -2]))
