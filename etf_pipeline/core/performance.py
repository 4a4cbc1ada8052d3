"""Return and risk of a daily value against a benchmark, per calendar year and in full.

Here: statistics of values that exist already; helpers take plain arrays with time along the last axis. Not here: the
values (`backtest.py`), win rates of single industries, turnover. Everything is a fraction, risk-free return is 0.

What cannot be computed is NaN, never infinite and never 0: a ratio to a risk of zero, a risk of fewer than two
returns, odds without a losing month, anything over a missing value.
"""

from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from etf_pipeline.core.calendar import sessions_between

_ROUNDING = 1e-12  # risks and monthly differences up to this are rounding of equal numbers

FULL = "full"


def annualised(total_return: ArrayLike, sessions: ArrayLike, sessions_per_year: int) -> np.ndarray:
    """(1 + total return)^(sessions per year / sessions) − 1, element by element.

    NaN without sessions, for a missing return, and where the result is too large for a float.
    """
    count = np.asarray(sessions, dtype=float)
    with np.errstate(all="ignore"):
        years = np.where(count > 0, count, np.nan) / sessions_per_year
        annual = np.expm1(np.log1p(np.asarray(total_return, dtype=float)) / years)
    return np.where(np.isfinite(annual), annual, np.nan)


def volatility(returns: ArrayLike, sessions_per_year: int) -> np.ndarray:
    """Annualised standard deviation (ddof 1) along the last axis; NaN with fewer than two returns or one missing.

    Of daily returns this is the volatility, of differences to the benchmark's daily returns the tracking error.
    """
    values = np.asarray(returns, dtype=float)
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(values.std(axis=-1, ddof=1) * np.sqrt(sessions_per_year))


def return_per_risk(annual_return: ArrayLike, risk: ArrayLike) -> np.ndarray:
    """Return over risk: Sharpe ratio (return, volatility) or information ratio (excess, tracking error).

    NaN where the risk is zero (up to 1e-12) or something is missing.
    """
    divisor = np.asarray(risk, dtype=float)
    return np.asarray(annual_return, dtype=float) / np.where(np.abs(divisor) > _ROUNDING, divisor, np.nan)


def geometric_excess(annual_return: ArrayLike, benchmark_return: ArrayLike) -> np.ndarray:
    """(1 + return) / (1 + benchmark return) − 1; NaN where the benchmark lost everything or something is missing.

    Put the excess in place of the benchmark return and the result is the benchmark return.
    """
    base = 1 + np.asarray(benchmark_return, dtype=float)
    return (1 + np.asarray(annual_return, dtype=float)) / np.where(base > 0, base, np.nan) - 1


def max_drawdown(nav: ArrayLike) -> np.ndarray:
    """Largest fall from an earlier peak along the last axis, 0 or below; the first value is a peak too.

    NaN with fewer than two values or one missing. Of the ratio to the benchmark it is the relative drawdown.
    """
    values = np.asarray(nav, dtype=float)
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray((values / np.maximum.accumulate(values, axis=-1)).min(axis=-1) - 1)


def win_rate(excess: ArrayLike) -> float:
    """Part of the excess returns above zero (ties, up to 1e-12, are not won); NaN if none or one is missing."""
    values = np.asarray(excess, dtype=float)
    if not values.size or np.isnan(values).any():
        return np.nan
    return float((values > _ROUNDING).mean())


def odds(excess: ArrayLike) -> float:
    """Mean of the excess returns above zero over the absolute mean of those below; ties are in neither.

    NaN if there are none above or none below, or one is missing.
    """
    values = np.asarray(excess, dtype=float)
    won, lost = values[values > _ROUNDING], values[values < -_ROUNDING]
    if not won.size or not lost.size or np.isnan(values).any():
        return np.nan
    return float(won.mean() / -lost.mean())


def monthly_excess(nav: pd.Series, benchmark_nav: pd.Series) -> np.ndarray:
    """Return minus benchmark return of every calendar month, from values by session (ascending, the same sessions).

    A month runs from the last session before it to its last session, the first one from the first session; a month
    without a session after that start has no element. Months cut by the ends of the data count as they are.
    """
    dates = pd.DatetimeIndex(nav.index)
    return _monthly_excess(nav.to_numpy(dtype=float), benchmark_nav.to_numpy(dtype=float), _months(dates))


def performance(nav: pd.Series, benchmark_nav: pd.Series, sessions_per_year: int) -> pd.DataFrame:
    """Return, risk and excess per calendar year and in full.

    Args:
        nav: value by session (ascending, one row per session), above 0; NaN where missing.
        benchmark_nav: that of the benchmark on the same sessions.
        sessions_per_year: annualises returns and risks.

    Returns:
        One row per calendar year with a session ("2019", …) and a last one, "full", indexed by `period`:
        is_partial: the year is not whole. It is whole if the values start before it and go to its last XSHG session
            or on. False for "full".
        first_date, last_date: the session whose value the period starts from, and its last session. A year starts
            from the last session before it, which so is the first possible peak of its drawdowns.
        sessions: daily returns in it.
        total_return: over the period as it is. annual_return: that of a whole year, else annualised by sessions
            ("full" always).
        volatility, sharpe (annual_return / volatility), max_drawdown.
        benchmark_return: annual_return of the benchmark. excess_return: geometric, of the two annual returns.
        tracking_error (of differences of daily returns), information_ratio (excess_return / tracking_error),
        relative_max_drawdown (of nav / benchmark_nav).
        monthly_win_rate, odds: months within the period with a return above the benchmark's, and the mean of their
            excess over that of losing months.

    A value missing anywhere in a period, its start included, makes missing what depends on that series. A period
    without a daily return (one session) has dates, nothing else. No sessions at all: one row, "full", all missing.

    Timing: a row uses values up to and including its last_date.

    Raises:
        ValueError: different or unordered sessions, or a value that is not positive and finite.

    Source: strategy specification, section 7; yearly tables of the industry rotation report.
    """
    dates = pd.DatetimeIndex(nav.index)
    if not (dates.equals(benchmark_nav.index) and dates.is_monotonic_increasing and dates.is_unique):
        raise ValueError("values and benchmark need the same sessions, ascending")
    values, benchmark = nav.to_numpy(dtype=float), benchmark_nav.to_numpy(dtype=float)
    for series in (values, benchmark):
        if ((series <= 0) | np.isinf(series)).any():
            raise ValueError("values must be positive and finite, or missing")

    months = _months(dates)
    rows, periods = [], []
    for period, start, end in _spans(dates):
        whole = period != FULL and dates[0].year < int(period) and dates[-1] >= _last_session(int(period))
        row = _statistics(values[start : end + 1], benchmark[start : end + 1], whole, sessions_per_year)
        excess = _monthly_excess(values[start : end + 1], benchmark[start : end + 1], months[start : end + 1])
        rows.append(
            {
                "is_partial": period != FULL and not whole,
                "first_date": dates[start] if len(dates) else pd.NaT,
                "last_date": dates[end] if len(dates) else pd.NaT,
                "sessions": max(end - start, 0),
                **{name: float(value) for name, value in row.items()},
                "monthly_win_rate": win_rate(excess),
                "odds": odds(excess),
            }
        )
        periods.append(period)
    return pd.DataFrame(rows, index=pd.Index(periods, name="period"))


def _spans(dates: pd.DatetimeIndex) -> list[tuple[str, int, int]]:
    """Name, position of the start value and position of the last session of every period."""
    years = dates.year.to_numpy()
    first = np.flatnonzero(np.diff(years, prepend=-1)).tolist()
    last = [begin - 1 for begin in [*first[1:], len(dates)]][: len(first)]
    spans = [(f"{years[begin]}", max(begin - 1, 0), end) for begin, end in zip(first, last, strict=True)]
    return [*spans, (FULL, 0, len(dates) - 1)]


def _statistics(nav: np.ndarray, benchmark: np.ndarray, whole: bool, sessions_per_year: int) -> dict[str, np.ndarray]:
    """Everything but the months, of values whose first one is the period's start."""
    sessions = len(nav) - 1
    known = [np.isfinite(values).all() and sessions > 0 for values in (nav, benchmark)]
    total, benchmark_total = (
        values[-1] / values[0] - 1 if complete else np.nan
        for values, complete in zip((nav, benchmark), known, strict=True)
    )
    annual, benchmark_annual = (
        np.asarray(result) if whole else annualised(result, sessions, sessions_per_year)
        for result in (total, benchmark_total)
    )
    returns, benchmark_returns = nav[1:] / nav[:-1] - 1, benchmark[1:] / benchmark[:-1] - 1
    risk = volatility(returns, sessions_per_year)
    excess = geometric_excess(annual, benchmark_annual)
    tracking_error = volatility(returns - benchmark_returns, sessions_per_year)
    return {
        "total_return": np.asarray(total),
        "annual_return": annual,
        "volatility": risk,
        "sharpe": return_per_risk(annual, risk),
        "max_drawdown": max_drawdown(nav),
        "benchmark_return": benchmark_annual,
        "excess_return": excess,
        "tracking_error": tracking_error,
        "information_ratio": return_per_risk(excess, tracking_error),
        "relative_max_drawdown": max_drawdown(nav / benchmark),
    }


def _months(dates: pd.DatetimeIndex) -> np.ndarray:
    return (dates.year * 12 + dates.month).to_numpy()


def _monthly_excess(nav: np.ndarray, benchmark: np.ndarray, months: np.ndarray) -> np.ndarray:
    """As `monthly_excess`, with the number of each session's month."""
    if len(nav) < 2:
        return np.empty(0)
    ends = np.append(np.flatnonzero(np.diff(months[1:])) + 1, len(months) - 1)
    marks = np.append(0, ends)
    # a hole within a month must not be stepped over
    missing = np.add.reduceat(np.isnan(nav[1:]) | np.isnan(benchmark[1:]), np.append(0, ends[:-1]))
    excess = nav[marks[1:]] / nav[marks[:-1]] - benchmark[marks[1:]] / benchmark[marks[:-1]]
    return np.where(missing > 0, np.nan, excess)


@lru_cache(maxsize=128)
def _last_session(year: int) -> pd.Timestamp:
    """Last XSHG session of a year; its last day where the calendar does not reach that far (no data does either)."""
    end = pd.Timestamp(year, 12, 31)
    try:
        return sessions_between(pd.Timestamp(year, 12, 1).date(), end.date())[-1]
    except ValueError:
        return end
