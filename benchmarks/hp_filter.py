"""One-sided HP trend: the recursion against a statsmodels refit of every prefix, both measured in this run."""

import sys
import time
from collections.abc import Callable

import numpy as np
from statsmodels.tsa.filters.hp_filter import hpfilter

from etf_pipeline.core import hp_filter

LENGTHS = (100, 500, 1000, 2500)
LAMBDA = 100.0


def refit(y: np.ndarray, lam: float) -> np.ndarray:
    return np.array([y[t] if t < 2 else hpfilter(y[: t + 1], lam)[1][-1] for t in range(len(y))])


def recursion(y: np.ndarray, lam: float) -> np.ndarray:
    # gains of an earlier call would be a head start
    hp_filter._gains.cache_clear()
    return hp_filter.one_sided_hp(y, lam)


def timed(filtered: Callable[[np.ndarray, float], np.ndarray], y: np.ndarray, repeat: int) -> tuple[float, np.ndarray]:
    """Median seconds of `repeat` runs, and the result."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        trend = filtered(y, LAMBDA)
        times.append(time.perf_counter() - start)
    return float(np.median(times)), trend


def main(repeat: int = 51) -> None:
    walk = 0.7 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, max(LENGTHS))))
    print(f"λ = {LAMBDA:g}; every prefix refitted once; recursion: median of {repeat}, gains computed anew each time")
    print(f"{'weeks':>6} {'refit, s':>10} {'recursion, ms':>14} {'ratio':>8} {'max relative difference':>24}")
    for n in LENGTHS:
        slow, expected = timed(refit, walk[:n], 1)
        fast, trend = timed(recursion, walk[:n], repeat)
        difference = np.max(np.abs(trend / expected - 1))
        print(f"{n:>6} {slow:>10.2f} {1e3 * fast:>14.3f} {slow / fast:>8.0f} {difference:>24.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
