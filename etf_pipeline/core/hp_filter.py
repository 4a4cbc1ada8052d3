"""One-sided Hodrick–Prescott trend.

Here: the exact O(n) recursion for the last value of every prefix fit. Not here: ratios and signals (`regime.py`).

Why it is exact: minimising Σ(y−τ)² + λ Σ(Δ²τ)² is maximum likelihood for y = τ + noise of variance 1 where the slope of
τ takes steps of variance 1/λ. The last fitted value is therefore the Kalman-filtered level, and a row without an
observation, which has no part in the first sum, is a prediction without an update. Two points are fitted exactly: their
levels have the observed means and identity covariance, so that (level, slope) has [[1, 1], [1, 2]] at the second where
it follows the first. At a distance of k rows the slope is their difference over k plus what its k − 1 steps between,
of weights 1/k … (k−1)/k, add to it.
"""

from functools import lru_cache

import numpy as np


def one_sided_hp(y: np.ndarray, lam: float) -> np.ndarray:
    """For every t the last value of the HP trend fitted to y[: t + 1]; same shape and unit as `y`.

    Args:
        y: series of shape (n,) or (n, k), equally spaced in time, k series side by side.
        lam: smoothing λ > 0; larger is smoother.

    NaN is a row without an observation: the sum Σ(y−τ)² runs over the observed rows of the prefix, and the value there
    goes on along the line of the values before. Leading NaN stay NaN, so a late start gives what the shorter series
    alone would give. The first two observations are their own values (a line through two points); between them there
    is no line yet, and the rows are NaN.

    Timing: the value at t uses y up to and including t; later data never change it.

    Raises:
        ValueError: λ is not positive and finite, or a series has an infinity.

    Source: Hodrick & Prescott (1997); equals the refit of
    `statsmodels.tsa.filters.hp_filter.hpfilter` on every prefix to 1e-8 relative.
    """
    if not 0 < lam < np.inf:
        raise ValueError(f"HP smoothing must be positive and finite, got {lam}")
    values = np.asarray(y, dtype=float)
    if not values.size:
        return values
    series = values.reshape(len(values), -1)
    if np.isinf(series).any():
        row, column = np.argwhere(np.isinf(series))[0]
        raise ValueError(f"series {column} has {series[row, column]} at row {row}")
    observed = ~np.isnan(series)
    trend = np.full(series.shape, np.nan)
    # series with the same holes have the same gains and run side by side
    patterns, pattern_of = np.unique(observed, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        columns = np.flatnonzero(pattern_of.ravel() == number)
        if pattern.sum() < 2:
            trend[:, columns] = series[:, columns]
            continue
        first, second = np.flatnonzero(pattern)[:2].tolist()
        trend[first, columns] = series[first, columns]
        trend[second:, columns] = _filter(
            series[first, columns], series[second:, columns], second - first, pattern[second:].tolist(), float(lam)
        )
    return trend.reshape(values.shape)


def _filter(before: np.ndarray, y: np.ndarray, gap: int, observed: list[bool], lam: float) -> np.ndarray:
    """Trend of k series, shape (n, k), from their second observation on, `gap` rows after the first one `before`."""
    # numpy's cost per call is many times that of a float operation, so a single series runs on plain floats
    single = y.shape[1] == 1
    rows, first = (y[:, 0].tolist(), float(before[0])) if single else (y, before)
    level, slope = rows[0], (rows[0] - first) / gap
    trend = [level]
    for value, gains in zip(rows[1:], _gains(gap, tuple(observed), lam), strict=True):
        level = level + slope
        if gains:
            surprise = value - level
            level = level + gains[0] * surprise
            slope = slope + gains[1] * surprise
        trend.append(level)
    return np.array(trend).reshape(y.shape)


@lru_cache(maxsize=32)
def _gains(gap: int, observed: tuple[bool, ...], lam: float) -> list[tuple[float, float] | None]:
    """Kalman gains of (level, slope) for the rows after the second observation, None where there is none.

    They depend on λ and on which rows are observed, never on data.
    """
    step = 1.0 / lam
    level_var, covariance = 1.0, 1.0 / gap
    slope_var = 2.0 / gap**2 + step * (gap - 1) * (2 * gap - 1) / (6 * gap)
    gains: list[tuple[float, float] | None] = []
    for seen in observed[1:]:
        # predict: a sum of positive terms in this parametrisation, so nothing cancels even at large λ
        level_var += 2 * covariance + slope_var + step
        covariance += slope_var + step
        slope_var += step
        if not seen:
            gains.append(None)
            continue
        # observe with noise of variance 1
        level_gain, slope_gain = level_var / (level_var + 1), covariance / (level_var + 1)
        gains.append((level_gain, slope_gain))
        slope_var -= slope_gain * covariance
        level_var, covariance = level_gain, slope_gain
    return gains
