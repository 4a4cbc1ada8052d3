"""How much the composite's history depends on choices that could have been made otherwise.

Here: the cells of the grid and what each earned. Not here: reading inputs, and the choices in use (`parameters.yaml`).
Every cell is computed the same way as the strategy itself; nothing is selected by its result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from etf_pipeline.core.backtest import Periods, back_test, equal_weights
from etf_pipeline.core.performance import FULL, performance
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
) -> Iterator[dict[str, float]]:
    """Full-history statistics of each cell, in the order of `cells`; NaN where they cannot be computed.

    Args:
        periods: holding periods of the signal dates, trades at the signal's close.
        cells: what to compute.
        scores: signed z-scores by factor, for each (flow measure, level measure).
        missing_limit: a date with a factor missing for a larger part of the industries is in cash.
        sessions_per_year: annualises.

    Each history starts at the cell's first date with holdings. No costs.
    """
    benchmark = back_test(periods, equal_weights(periods), 0.0)
    weights: dict[tuple[tuple[str, ...], str, str], dict[int, pd.DataFrame]] = {}
    numbers = sorted({cell.top_n for cell in cells})
    for cell in cells:
        choice = (cell.factors, cell.flow_measure, cell.level_measure)
        if choice not in weights:
            measured = scores[cell.flow_measure, cell.level_measure]
            weights[choice] = top_weights(measured, cell.factors, numbers, missing_limit)
        result = back_test(periods, weights[choice][cell.top_n], 0.0)
        invested = result.periods.index[result.periods["industries_held"] > 0]
        if invested.empty:
            yield dict.fromkeys((*_STATISTICS, "sharpe_of_excess"), np.nan) | {"periods": 0}
            continue
        # one bought at the last close has earned nothing yet
        over = invested[(result.periods["held_until"] > result.periods["bought_at"])[invested]]
        excess = (result.periods["period_return"] - benchmark.periods["period_return"]).loc[over]
        start = result.periods.loc[invested[0], "bought_at"]
        stats = performance(result.daily.loc[start:, "nav"], benchmark.daily.loc[start:, "nav"], sessions_per_year)
        full = stats.loc[FULL, list(_STATISTICS)].to_numpy(dtype=float)
        yield {
            **dict(zip(_STATISTICS, full, strict=True)),
            "periods": len(invested),
            "sharpe_of_excess": float(excess.mean() / excess.std()) if excess.std() > 0 else np.nan,
        }


_STATISTICS = (
    "annual_return",
    "excess_return",
    "tracking_error",
    "information_ratio",
    "relative_max_drawdown",
)
