"""What a selection of industries earned.

Here: returns of held industries against all industries. Not here: which are held (`composite.py`), NAV statistics.
"""

from collections.abc import Sequence

import pandas as pd


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
