"""ETFs against active equity funds: how their holdings differ, and which side draws the new money.

Here: the difference of two share matrices, the month-over-month heat of new issues, and the month a signal date may
look at. Not here: how active holdings come about (`active_holdings.py`), z-scores and signs (`composite.py`).
"""

import pandas as pd


def divergence(etf_share: pd.DataFrame, active_share: pd.DataFrame) -> pd.DataFrame:
    """ETF share minus active-fund share of each industry, as fractions; signal dates × industries.

    A date or industry that one side lacks is missing. Shares are taken as they are: neither side is rescaled.
    """
    return etf_share - active_share


def new_issue_heat(monthly: pd.DataFrame) -> pd.DataFrame:
    """Heat of new ETF issues over new active-fund issues, one row per month without gaps (monthly PeriodIndex).

    Args:
        monthly: columns `etf_issue` and `active_issue`, newly issued shares (份) of the month; index of months, or of
            dates inside them, one row each, in any order.

    Returns:
        `etf_change`, `active_change` (this month / last month − 1, fractions), `heat` (their difference) and `signal`
        (Int8): 1 if heat > 0, else 0.

    A change is missing, and with it heat and signal, if either month is missing or last month issued nothing. A month
    without issues must therefore be given as 0, not left out.

    Timing: a month's figures may be used once it is complete, see `last_complete_month`.

    Raises:
        ValueError: two rows of one month, or a negative issue.
    """
    issues = monthly[["etf_issue", "active_issue"]].astype(float)
    issues.index = _months(monthly.index)
    if issues.index.has_duplicates:
        raise ValueError(f"two rows of one month: {issues.index[issues.index.duplicated()].astype(str).tolist()}")
    if (issues < 0).any(axis=None):
        raise ValueError("newly issued shares cannot be negative")
    if len(issues):
        # every month gets its row, so that a change never spans a hole
        issues = issues.reindex(pd.period_range(issues.index.min(), issues.index.max(), freq="M"))
    last = issues.shift()
    change = (issues / last - 1).where(last > 0)
    heat = change["etf_issue"] - change["active_issue"]
    signal = heat.gt(0).astype("Int8").mask(heat.isna())
    return pd.DataFrame(
        {"etf_change": change["etf_issue"], "active_change": change["active_issue"], "heat": heat, "signal": signal}
    )


def last_complete_month(signal_dates: pd.DatetimeIndex, sessions: pd.DatetimeIndex) -> pd.PeriodIndex:
    """The last month that is complete at each signal date; a month is complete on its last session.

    Args:
        signal_dates: dates in any order.
        sessions: ascending sessions reaching beyond the last signal date (the calendar is known in advance).

    Raises:
        ValueError: no session after a signal date, so that the end of its month cannot be told.
    """
    following = sessions.searchsorted(signal_dates, side="right")
    if (following == len(sessions)).any():
        raise ValueError(f"sessions must reach beyond the last signal date {signal_dates.max():%Y-%m-%d}")
    own = _months(signal_dates)
    return (own - 1).where(own == _months(sessions[following]), own)


def _months(index: pd.Index) -> pd.PeriodIndex:
    return index.asfreq("M") if isinstance(index, pd.PeriodIndex) else pd.DatetimeIndex(index).to_period("M")
