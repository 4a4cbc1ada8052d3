"""Divergence of ETFs from active equity funds, by industry.

Not here: how active holdings come about (`active_holdings.py`, and disclosed ones in the warehouse), the heat of new
issues (warehouse), z-scores and signs (`composite.py`).
"""

import pandas as pd


def divergence(etf_share: pd.DataFrame, active_weight: pd.DataFrame) -> pd.DataFrame:
    """ETF share minus active-fund share of each industry, as fractions; signal dates × industries.

    `active_weight` is brought to a sum of one on each date, because simulated holdings leave a part in cash while ETF
    shares are of invested money. A date or industry that one side lacks is missing; so is a date whose active weights
    sum to zero.
    """
    total = active_weight.sum(axis=1, min_count=1)
    return etf_share - active_weight.div(total.where(total > 0), axis=0)
