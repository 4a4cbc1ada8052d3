"""Which industries are held, and what they earned over a published period.

Not here: ranks as such (`composite.py`), values through time (`backtest.py`), statistics (`performance.py`).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from etf_pipeline.core.composite import select_top
from etf_pipeline.core.factors import composite_and_rank, withheld


def top_weights(
    scores: Mapping[str, pd.DataFrame], in_use: Sequence[str], top_n: Sequence[int], missing_limit: float
) -> dict[int, pd.DataFrame]:
    """For each number in `top_n` the weights of that many highest composites, signal dates × industries.

    Rows sum to 1; a date on which a factor in use is missing for more than `missing_limit` of the industries holds
    nothing and is 0 throughout, as it is in the published holdings.
    """
    _, ranks = composite_and_rank(scores, in_use)
    published = ~withheld(scores, in_use, missing_limit).reindex(ranks.index).to_numpy()
    weights = {}
    for n in top_n:
        held = select_top(ranks, n).to_numpy() & published[:, None]
        # a date without holdings stays 0
        weights[n] = pd.DataFrame(held / np.maximum(held.sum(axis=1, keepdims=True), 1), ranks.index, ranks.columns)
    return weights


def period_excess(period_returns: pd.Series, held: Sequence[str]) -> float:
    """Mean return of the held industries minus the simple mean of all industries, as a fraction.

    Args:
        period_returns: return of one holding period by industry code; the benchmark is the mean of those known.
        held: industry codes, equally weighted.

    NaN if a held industry has no return. Known once the period has ended.

    Raises:
        ValueError: nothing held, one industry held twice, or one without a row in `period_returns`.

    Source: industry rotation report, tables of holding periods.
    """
    unknown = sorted(set(held) - set(period_returns.index))
    if unknown or not held or len(set(held)) < len(held):
        raise ValueError(f"held industries must be distinct and known: {list(held)}, unknown {unknown}")
    return float(period_returns.loc[list(held)].mean(skipna=False) - period_returns.mean())
