"""Style regimes: which side of a pair of indices leads, from the trend of their ratio.

Here: trend, momentum and signal of a weekly ratio. Not here: which indices and λ (`parameters.yaml`), week ends
(`calendar.py`), and what a factor makes of the signal (`composite.style_signed`).
"""

import pandas as pd

from etf_pipeline.core.hp_filter import one_sided_hp


def factor_momentum(trend: pd.Series, weeks: int) -> pd.Series:
    """s(t) − mean(s(t−1), …, s(t−weeks)): the trend against its own recent past, in the unit of `trend`.

    NaN for the first `weeks` rows and wherever one of the values is missing. Uses values up to and including t.

    Raises:
        ValueError: `weeks` is below 1.

    Source: industry rotation report (two weeks).
    """
    if weeks < 1:
        raise ValueError(f"momentum needs at least one week, got {weeks}")
    past = pd.concat([trend.shift(lag) for lag in range(1, weeks + 1)], axis=1)
    return trend - past.mean(axis=1, skipna=False)


def style_regime(ratio: pd.Series, lam: float, weeks: int) -> pd.DataFrame:
    """Trend, momentum and signal of a weekly ratio of two index closes (numerator: large or growth).

    Args:
        ratio: one value per trading week, indexed by week end ascending; NaN where a close is missing.
        lam: HP smoothing.
        weeks: weeks the trend is compared with.

    Returns:
        Columns `ratio`, `trend`, `momentum` (floats, unit of the ratio) and `signal` (Int8): 1 if momentum > 0, else
        0; <NA> where momentum is missing.

    A missing week is no observation: its trend goes on along the line of the weeks before and serves the weeks after
    it, but it gives no momentum and no signal of its own. The first `weeks` weeks have none either. A history begun
    late gives other trends at first, the same ones after some multiples of λ^¼ weeks.

    Timing: a row uses ratios up to and including its week; it is known once that week's last close is.

    Raises:
        ValueError: an index that is not strictly ascending; λ or `weeks` out of range; an infinite ratio.

    Source: industry rotation report; 44 of 44 published signals with λ 100 (size) and 1000 (growth/value).
    """
    if not (ratio.index.is_monotonic_increasing and ratio.index.is_unique):
        raise ValueError("the ratio needs one row per week end, ascending")
    trend = pd.Series(one_sided_hp(ratio.to_numpy(dtype=float), lam), ratio.index)
    # at the end of the data a missing week is no row at all, so that a signal there would come up only later
    momentum = factor_momentum(trend, weeks).where(ratio.notna())
    signal = momentum.gt(0).astype("Int8").mask(momentum.isna())
    return pd.DataFrame({"ratio": ratio, "trend": trend, "momentum": momentum, "signal": signal})
