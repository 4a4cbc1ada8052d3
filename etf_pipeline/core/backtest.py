"""Daily value of industry weights that are bought at each signal and left alone until the next.

Here: holding periods laid over sessions, values with and without costs, drifted weights, turnover. Not here: which
industries are held (`composite.py`), statistics of the values (`performance.py`), and the published excess of one
period (`portfolio.period_excess`; the return of a back-test minus that of `equal_weights` is the same number).

What depends on closes alone is computed once (`lay_periods`), so that many weightings can be valued on one set of
periods. Weights, returns and costs are fractions; values are multiples of the first purchase.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

_WEIGHT_TOLERANCE = 1e-9  # a sum of weights is 1 up to rounding


@dataclass(frozen=True)
class Periods:
    """Holding periods and what each industry's price did in them; made by `lay_periods`.

    `signal_dates`, `bought_at` and `held_until` have one entry per period, ascending. `period_of` (shape: sessions
    from the first purchase on) is the position of the period a session belongs to; a purchase session belongs to the
    period it ends, the very first one to the period it opens. `growth` (those sessions × industries) is the close
    over the close at that period's purchase; `period_growth` (signal dates × industries) the same at `held_until`.
    Both are NaN where the industry had no close yet at the purchase, and nowhere else.
    """

    signal_dates: pd.DatetimeIndex
    bought_at: pd.DatetimeIndex
    held_until: pd.DatetimeIndex
    period_of: np.ndarray
    growth: pd.DataFrame
    period_growth: pd.DataFrame


@dataclass(frozen=True)
class PeriodValues:
    """What weightings of shape (…, periods, industries) made of each period, as arrays.

    `gain`, `cost`, `gain_after_costs` and `traded` have shape (…, periods), `end_weights` that of the weights.
    `traded` is the sum of absolute changes of weights at the purchase, `cost` the part of the value it took.
    """

    gain: np.ndarray
    traded: np.ndarray
    cost: np.ndarray
    gain_after_costs: np.ndarray
    end_weights: np.ndarray


@dataclass(frozen=True)
class BackTest:
    """One weighting valued; missing values as described at `back_test`.

    daily: by trade_date from the first purchase: nav, nav_after_costs; the first row is 1.
    periods: by signal_date: bought_at, held_until, industries_held, period_return, period_return_after_costs,
        turnover, cost.
    industries: by signal_date and industry_code, industries held only: weight, end_weight, period_return.
    """

    daily: pd.DataFrame
    periods: pd.DataFrame
    industries: pd.DataFrame


def lay_periods(closes: pd.DataFrame, signal_dates: pd.DatetimeIndex, lag_sessions: int) -> Periods:
    """Holding periods of `signal_dates` over the sessions of `closes`.

    Args:
        closes: sessions × industry codes, prices above 0 in any unit; every session has a row, ascending. NaN where
            unknown: the last close before it stands in, both as value and as price traded at. Before its first
            close an industry has no price.
        signal_dates: ascending, each one a session.
        lag_sessions: sessions from signal to purchase; 0 is the signal's own close.

    A period runs from the close of its purchase session to that of the next period's, the last one to the last
    session. Signals to be bought after the last session are dropped, a signal later than the last session included.
    One bought on the last session is a period without a session: it has grown by nothing yet.

    Timing: what is bought follows from the signal dates alone; growth on a session uses closes up to and including it.
    Multiplying an industry's closes by a constant changes nothing.

    Raises:
        ValueError: sessions, industries or signal dates that are not in order or not unique; a signal date within or
            before the sessions that is none of them; a close that is not positive and finite; a negative lag.
    """
    sessions = pd.DatetimeIndex(closes.index)
    if not (sessions.is_monotonic_increasing and sessions.is_unique and closes.columns.is_unique):
        raise ValueError("closes need one row per session, ascending, and one column per industry")
    if not (signal_dates.is_monotonic_increasing and signal_dates.is_unique) or lag_sessions < 0:
        raise ValueError(f"signal dates must be ascending and unique, and the lag {lag_sessions} not negative")
    values = closes.to_numpy(dtype=float)
    faulty = (values <= 0) | np.isinf(values)
    if faulty.any():
        row, column = np.argwhere(faulty)[0]
        raise ValueError(f"close of {closes.columns[column]} on {sessions[row]:%Y-%m-%d} is {values[row, column]}")

    within = signal_dates[~(signal_dates > sessions[-1])] if len(sessions) else signal_dates[:0]
    positions = sessions.get_indexer(within)
    if (positions < 0).any():
        raise ValueError(f"signal dates that are no sessions of the closes: {within[positions < 0].tolist()}")
    bought = positions + lag_sessions
    within, bought = within[bought < len(sessions)], bought[bought < len(sessions)]
    until = np.append(bought[1:], len(sessions) - 1)[: len(bought)]

    held_sessions = np.arange(bought[0] if len(bought) else len(sessions), len(sessions))
    period_of = np.maximum(np.searchsorted(bought, held_sessions, side="left") - 1, 0)
    prices = closes.astype(float).ffill().to_numpy()
    purchase_prices = prices[bought]
    industries = closes.columns.rename("industry_code")
    signals = within.rename("signal_date")
    return Periods(
        signal_dates=signals,
        bought_at=sessions[bought],
        held_until=sessions[until],
        period_of=period_of,
        growth=pd.DataFrame(
            prices[held_sessions] / purchase_prices[period_of],
            index=sessions[held_sessions].rename("trade_date"),
            columns=industries,
        ),
        period_growth=pd.DataFrame(prices[until] / purchase_prices, index=signals, columns=industries),
    )


def equal_weights(periods: Periods) -> pd.DataFrame:
    """Weights of the benchmark: equal over the industries with a price at the purchase, 0 elsewhere.

    Signal dates × industries; a row sums to 1, or to 0 (cash) where no industry has a price.
    """
    priced = periods.period_growth.notna()
    return priced.div(priced.sum(axis=1).clip(lower=1), axis=0)


def period_values(periods: Periods, weights: np.ndarray, cost_ratio: float) -> PeriodValues:
    """Returns, trading and costs per period of one or many weightings at once.

    Args:
        periods: P periods over N industries.
        weights: fractions, shape (…, P, N), 0 or above, each row with sum 1 or 0 (cash); not checked here.
        cost_ratio: cost per amount traded, each side.

    Missing prices and costs as in `back_test`.
    """
    gains = _held(weights, periods.period_growth.to_numpy() - 1)
    gain = gains.sum(axis=-1)
    # what is not held is 0 at the end too, also where the rest is unknown
    end_weights = np.where(weights > 0, (weights + gains) / (1 + gain)[..., None], 0.0)
    before = np.zeros_like(end_weights)
    before[..., 1:, :] = end_weights[..., :-1, :]
    traded = np.abs(weights - before).sum(axis=-1)
    cost = traded * cost_ratio
    return PeriodValues(gain, traded, cost, (1 - cost) * (1 + gain) - 1, end_weights)


def daily_values(periods: Periods, weights: np.ndarray, values: PeriodValues) -> tuple[np.ndarray, np.ndarray]:
    """Value without and after costs on every session from the first purchase, each of shape (…, sessions).

    `values` are the `period_values` of the same weights. Needs memory for weightings × sessions × industries: pass
    thousands of weightings in batches.
    """
    since_purchase = 1 + _held(weights[..., periods.period_of, :], periods.growth.to_numpy() - 1).sum(axis=-1)
    nav = _value_when_bought(values.gain)[..., periods.period_of] * since_purchase
    paid = _value_when_bought(values.gain_after_costs) * (1 - values.cost)
    nav_after_costs = paid[..., periods.period_of] * since_purchase
    # the first purchase belongs to the period it opens, yet is valued before anything is bought or paid
    nav[..., :1] = nav_after_costs[..., :1] = 1.0
    return nav, nav_after_costs


def back_test(periods: Periods, weights: pd.DataFrame, cost_ratio: float) -> BackTest:
    """Value `weights`, bought at each purchase session's close and left to drift until the next.

    Args:
        periods: from `lay_periods`.
        weights: signal dates × industry codes, fractions; NaN or absent is not held. A row sums to 1, or to 0: cash,
            as is a signal date without a row. Rows later than the last period's signal (bought after the last
            session) are left out.
        cost_ratio: cost per amount traded, each side, as a fraction (5 basis points: 0.0005).

    Trading at a purchase is the sum of |new weight − weight the old holdings have drifted to|; cash is not traded.
    The first purchase trades 1, going to cash sells all; nothing is sold at the end of the data. Turnover is half of
    that sum; cost is that sum × `cost_ratio`, as a fraction of the value just before the purchase, and is paid from
    it: period_return_after_costs = (1 − cost) × (1 + period_return) − 1. On a purchase session nav_after_costs is the
    value before that purchase's cost; the cost is in the rows after it. So the first row is 1, the last row of a
    period is the product of (1 + period_return_after_costs) so far, and the cost of a purchase on the last session
    is in `periods`, in no row of `daily`.

    Cash earns nothing. An industry held without any close yet at its purchase makes the period's return NaN, all its
    end weights, turnover and cost of the purchase after it, and every value on a session after its purchase.

    Timing: a row of `daily` uses closes up to and including its session. The last period's rows of `periods` and
    `industries` stand at the last session and change with more data; weights, turnover and cost do not.

    Raises:
        ValueError: a weight that is negative or infinite; a row with another sum; a date that is no signal date; an
            industry without a column in the closes; a date or industry twice; a cost ratio outside 0 … 0.5.

    Source: strategy specification, section 7; costs, turnover and later execution are not in the report.
    """
    if not 0 <= cost_ratio < 0.5:  # a purchase trades twice the value at most
        raise ValueError(f"cost per amount traded must be from 0 to below 0.5, got {cost_ratio}")
    held = _checked(periods, weights)
    values = period_values(periods, held, cost_ratio)
    nav, nav_after_costs = daily_values(periods, held, values)
    date_codes, industry_codes = np.nonzero(held)
    pairs = pd.MultiIndex.from_product(
        [periods.signal_dates, periods.growth.columns], names=["signal_date", "industry_code"]
    )[np.flatnonzero(held)]
    return BackTest(
        daily=pd.DataFrame({"nav": nav, "nav_after_costs": nav_after_costs}, index=periods.growth.index),
        periods=pd.DataFrame(
            {
                "bought_at": periods.bought_at,
                "held_until": periods.held_until,
                "industries_held": np.count_nonzero(held, axis=1),
                "period_return": values.gain,
                "period_return_after_costs": values.gain_after_costs,
                "turnover": values.traded / 2,
                "cost": values.cost,
            },
            index=periods.signal_dates,
        ),
        industries=pd.DataFrame(
            {
                "weight": held[date_codes, industry_codes],
                "end_weight": values.end_weights[date_codes, industry_codes],
                "period_return": periods.period_growth.to_numpy()[date_codes, industry_codes] - 1,
            },
            index=pairs,
        ),
    )


def _held(weights: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Contribution of each industry to the return, 0 where it is not held even if its price is unknown."""
    return weights * np.where(weights > 0, gains, 0.0)


def _value_when_bought(gain: np.ndarray) -> np.ndarray:
    """Value at the purchase of each period: 1, then what the periods before made of it."""
    value = np.ones_like(gain)
    value[..., 1:] = np.cumprod(1 + gain, axis=-1)[..., :-1]
    return value


def _checked(periods: Periods, weights: pd.DataFrame) -> np.ndarray:
    """Weights as an array of periods × industries without NaN."""
    industries, signals = periods.growth.columns, periods.signal_dates
    if not (weights.index.is_unique and weights.columns.is_unique):
        raise ValueError("weights need one row per signal date and one column per industry")
    dates = pd.DatetimeIndex(weights.index)
    unknown_dates = dates[~dates.isin(signals) & ~(dates > signals[-1])] if len(signals) else dates[:0]
    unknown = weights.columns.difference(industries)
    if len(unknown_dates) or len(unknown):
        raise ValueError(f"weights of dates that are no signals {unknown_dates.tolist()}, or of {unknown.tolist()}")
    aligned = weights.reindex(index=signals, columns=industries).to_numpy(dtype=float, na_value=np.nan)
    held = np.where(np.isnan(aligned), 0.0, aligned)
    total = held.sum(axis=1)
    # an infinite weight fails here too: its row has no sum of 1
    faulty = (held < 0).any(axis=1) | ~((np.abs(total - 1) <= _WEIGHT_TOLERANCE) | (total == 0))
    if faulty.any():
        row = int(faulty.argmax())
        raise ValueError(f"weights of {signals[row]:%Y-%m-%d} must be 0 or above with sum 1 or 0: {held[row]}")
    return held
