"""How much the composite's history depends on choices that could have been made otherwise.

Here: the cells of the grid and what each earned. Not here: reading inputs, and the choices in use (`parameters.yaml`).
Every cell is computed the same way as the strategy itself; nothing is selected by its result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from etf_pipeline.core.backtest import Periods, daily_values, equal_weights, period_values
from etf_pipeline.core.performance import (
    annualised,
    geometric_excess,
    max_drawdown,
    return_per_risk,
    volatility,
)
from etf_pipeline.core.portfolio import top_weights


@dataclass(frozen=True)
class Cell:
    """Settings of one cell; `top_n` industries of the composite of `factors`."""

    factors: tuple[str, ...]
    flow_measure: str
    level_measure: str
    top_n: int


def construction_cells(
    factors: Sequence[str],
    flow_measures: Sequence[str],
    level_measures: Sequence[str],
    top_n: Sequence[int],
    default: Cell,
) -> list[Cell]:
    """Every subset of `factors` with every measure and number held.

    A measure is varied only where its factor is in the subset; elsewhere it is the default's and changes nothing.
    """
    subsets = [subset for size in range(1, len(factors) + 1) for subset in combinations(factors, size)]
    return [
        Cell(subset, flow, level, n)
        for subset in subsets
        for flow in (flow_measures if "flow" in subset else [default.flow_measure])
        for level in (level_measures if "level" in subset else [default.level_measure])
        for n in top_n
    ]


def cell_results(
    periods: Periods,
    cells: Sequence[Cell],
    scores: Mapping[tuple[str, str], Mapping[str, pd.DataFrame]],
    missing_limit: float,
    sessions_per_year: int,
) -> list[dict[str, float]]:
    """Full-history statistics of each cell, in the order of `cells`; NaN where they cannot be computed.

    Args:
        periods: holding periods of the signal dates, trades at the signal's close.
        cells: what to compute.
        scores: signed z-scores by factor, for each (flow measure, level measure).
        missing_limit: a date with a factor missing for a larger part of the industries is in cash.
        sessions_per_year: annualises.

    Each history starts at the cell's first date with holdings. No costs. The same numbers as `back_test` and
    `performance` give, for all cells of a ranking at once.
    """
    benchmark = _valued(periods, equal_weights(periods).to_numpy())
    numbers = sorted({cell.top_n for cell in cells})
    by_ranking: dict[tuple[tuple[str, ...], str, str], dict[int, dict[str, float]]] = {}
    for cell in cells:
        ranking = (cell.factors, cell.flow_measure, cell.level_measure)
        if ranking not in by_ranking:
            measured = scores[cell.flow_measure, cell.level_measure]
            weights = top_weights(measured, cell.factors, numbers, missing_limit)
            stacked = np.stack([weights[n].reindex(periods.signal_dates).to_numpy() for n in numbers])
            results = _statistics(periods, stacked, benchmark, sessions_per_year)
            by_ranking[ranking] = dict(zip(numbers, results, strict=True))
    return [by_ranking[cell.factors, cell.flow_measure, cell.level_measure][cell.top_n] for cell in cells]


def _valued(periods: Periods, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain by period and value by session, each with the leading dimensions of `weights`."""
    values = period_values(periods, weights, 0.0)
    return values.gain, daily_values(periods, weights, values)[0]


def _statistics(
    periods: Periods, weights: np.ndarray, benchmark: tuple[np.ndarray, np.ndarray], sessions_per_year: int
) -> list[dict[str, float]]:
    """One entry for each of the weightings (numbers held × periods × industries), which hold on the same dates."""
    invested = weights[0].any(axis=-1)
    if not invested.any():
        return [dict.fromkeys(_NAMES, np.nan) | {"periods": 0} for _ in weights]
    gain, nav = _valued(periods, weights)
    start = int(periods.growth.index.searchsorted(periods.bought_at[invested][0]))
    own, against = nav[:, start:], benchmark[1][start:]
    sessions = own.shape[-1] - 1
    annual = annualised(own[:, -1] / own[:, 0] - 1, sessions, sessions_per_year)
    excess = geometric_excess(annual, annualised(against[-1] / against[0] - 1, sessions, sessions_per_year))
    difference = own[:, 1:] / own[:, :-1] - against[1:] / against[:-1]
    error = volatility(difference, sessions_per_year)
    # one bought at the last close has earned nothing yet
    over = (gain - benchmark[0])[:, invested & (periods.held_until > periods.bought_at)]
    with np.errstate(all="ignore"):
        per_period = over.mean(axis=-1) / over.std(axis=-1, ddof=1)
    columns = (
        annual,
        excess,
        error,
        return_per_risk(excess, error),
        max_drawdown(own / against),
        np.where(np.isfinite(per_period), per_period, np.nan),
    )
    return [
        {name: float(value) for name, value in zip(_NAMES, row, strict=True)} | {"periods": int(invested.sum())}
        for row in zip(*columns, strict=True)
    ]


_NAMES = (
    "annual_return",
    "excess_return",
    "tracking_error",
    "information_ratio",
    "relative_max_drawdown",
    "sharpe_of_excess",
)
