"""Wilder's relative strength index.

Here: the oscillator on closes it is given. Not here: which close (the strategy uses the raw one), splits (a split
inside a raw series looks like a fall: cut or adjust before), and the 70/30 reading, which is presentation.
"""

from typing import TypeVar

import numpy as np
import pandas as pd

Closes = TypeVar("Closes", np.ndarray, pd.DataFrame)


def rsi_wilder(close: Closes, periods: int) -> Closes:
    """Wilder's RSI, 0 to 100, in the shape and type of `close`.

    Args:
        close: prices, sessions in rows (ascending), one series per column, or one series as a 1-D array.
        periods: smoothing length; gains and losses are exponential means with alpha = 1/periods, seeded by the
            first difference.

    A series that starts late is NaN up to its first close and on it. On a session without a close the result is
    NaN and the smoothing stands still; the next difference is taken from the last observed close. All rises give
    100, all falls 0. As long as a series has never moved the index is undefined: NaN, not 50, so that a suspended
    ETF does not pass for a balanced one.

    Timing: the value of a session uses closes up to and including it. Multiplying prices by a constant changes nothing.

    Raises:
        ValueError: `periods` is below 1.

    Source: J. W. Wilder, New Concepts in Technical Trading Systems (1978).
    """
    if periods < 1:
        raise ValueError(f"RSI needs at least one period, got {periods}")
    prices = pd.DataFrame(close)
    change = prices - prices.ffill().shift()
    gain = _wilder_mean(change.clip(lower=0), periods)
    loss = _wilder_mean(-change.clip(upper=0), periods)
    # 100 − 100/(1+RS) without the division by a loss of zero
    rsi = (100 * (gain / (gain + loss))).where(prices.notna())
    return rsi if isinstance(close, pd.DataFrame) else rsi.to_numpy().reshape(close.shape)


def _wilder_mean(values: pd.DataFrame, periods: int) -> pd.DataFrame:
    return values.ewm(alpha=1 / periods, adjust=False, ignore_na=True).mean()
