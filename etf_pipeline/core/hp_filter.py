"""One-sided Hodrick–Prescott trend.

Here: the exact O(n) recursion for the last value of every prefix fit. Not here: ratios, holes in series and
signals (`regime.py`).

Why it is exact: minimising Σ(y−τ)² + λ Σ(Δ²τ)² is maximum likelihood for y = τ + noise of variance 1 where the slope of
τ takes steps of variance 1/λ. The last fitted value is therefore the Kalman-filtered level. Two points are fitted
exactly: the levels (τ₁, τ₀) have mean (y₁, y₀) and identity covariance, i.e. (level, slope) has [[1, 1], [1, 2]].
"""

from functools import lru_cache

import numpy as np


def one_sided_hp(y: np.ndarray, lam: float) -> np.ndarray:
    """For every t the last value of the HP trend fitted to y[: t + 1]; same shape and unit as `y`.

    Args:
        y: series of shape (n,) or (n, k), equally spaced in time, k series side by side.
        lam: smoothing λ > 0; larger is smoother.

    The first two values of a series are its own (a line through two points). Leading NaN stay NaN and each series
    starts at its first number, so a late start gives what the shorter series alone would give.

    Timing: the value at t uses y up to and including t; later data never change it.

    Raises:
        ValueError: λ is not positive and finite, or a series has a NaN or infinity after its first number.

    Source: Hodrick & Prescott (1997); equals the refit of
    `statsmodels.tsa.filters.hp_filter.hpfilter` on every prefix to 1e-8 relative.
    """
    if not 0 < lam < np.inf:
        raise ValueError(f"HP smoothing must be positive and finite, got {lam}")
    values = np.asarray(y, dtype=float)
    if not values.size:
        return values
    series = values.reshape(len(values), -1)
    known = ~np.isnan(series)
    starts = np.where(known.any(axis=0), known.argmax(axis=0), len(series))
    trend = np.full(series.shape, np.nan)
    for start in np.unique(starts):
        columns = np.flatnonzero(starts == start)
        block = series[start:, columns]
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise ValueError(f"series {columns[column]} has {block[row, column]} at row {start + row}, after its start")
        trend[start:, columns] = _filter(block, float(lam))
    return trend.reshape(values.shape)


def _filter(y: np.ndarray, lam: float) -> np.ndarray:
    """Trend of series without missing values, shape (n, k)."""
    if len(y) <= 2:
        return y
    # numpy's cost per call is many times that of a float operation, so a single series runs on plain floats
    single = y.shape[1] == 1
    rows = y[:, 0].tolist() if single else y
    level, slope = rows[1], rows[1] - rows[0]
    trend = [rows[0], level]
    for value, (level_gain, slope_gain) in zip(rows[2:], _gains(len(y), lam), strict=True):
        predicted = level + slope
        surprise = value - predicted
        level = predicted + level_gain * surprise
        slope = slope + slope_gain * surprise
        trend.append(level)
    return np.array(trend).reshape(y.shape)


@lru_cache(maxsize=32)
def _gains(n: int, lam: float) -> list[tuple[float, float]]:
    """Kalman gains of (level, slope) for rows 2 … n−1: they depend on λ and position only, never on data."""
    step = 1.0 / lam
    level_var, covariance, slope_var = 1.0, 1.0, 2.0
    gains = []
    for _ in range(n - 2):
        # predict: a sum of positive terms in this parametrisation, so nothing cancels even at large λ
        level_var += 2 * covariance + slope_var + step
        covariance += slope_var + step
        slope_var += step
        # observe with noise of variance 1
        level_gain, slope_gain = level_var / (level_var + 1), covariance / (level_var + 1)
        gains.append((level_gain, slope_gain))
        slope_var -= slope_gain * covariance
        level_var, covariance = level_gain, slope_gain
    return gains
