"""Cross-sections of industries: z-scores, signs, composite, ranks, groups and flags.

Everything is wide: one row per signal date, one column per industry code, and every operation stays within its row.
Here: arithmetic common to all factors. Not here: what a factor measures, and whether a date has too many holes to be
published (a check). Missing inputs stay missing; nothing is ever filled with zero.
"""

from collections.abc import Mapping, Sequence

import pandas as pd


def zscore(
    values: pd.DataFrame, spread_minimum_ratio: float, level: pd.DataFrame | None = None, ddof: int = 1
) -> pd.DataFrame:
    """(value − mean) / standard deviation of each row, dimensionless.

    A missing industry stays missing and does not enter mean and deviation. A row without spread is missing altogether:
    highest − lowest value is zero, or at most `spread_minimum_ratio` times the largest absolute number of that row of
    `level`. `level` holds what the values are made of, in their unit: a difference of shares that are equal but for
    rounding is noise at the scale of the shares. Without it the values are their own level.

    Source: published divergence columns have mean 0 and standard deviation 1.000 with ddof = 1.
    """
    centred = values.sub(values.mean(axis=1), axis=0)
    # equal values can leave a deviation of 1e-17 instead of 0, so spread is judged on the values themselves
    least = spread_minimum_ratio * (values if level is None else level).abs().max(axis=1).reindex(values.index)
    spread = values.std(axis=1, ddof=ddof).where(values.max(axis=1) - values.min(axis=1) > least)
    return centred.div(spread, axis=0)


def style_signed(z: pd.DataFrame, signal: pd.Series) -> pd.DataFrame:
    """`z` with its sign kept on dates with signal 1 and turned on dates with signal 0.

    `signal` is indexed by signal date; a date without a signal (<NA>, NaN or no row) makes its whole row missing.

    Raises:
        ValueError: a signal other than 0, 1 or missing.
    """
    if not signal.dropna().isin([0, 1]).all():
        raise ValueError(f"a style signal is 0, 1 or missing, got {sorted(set(signal.dropna()) - {0, 1})}")
    sign = signal.astype("Float64").astype(float).reindex(z.index) * 2 - 1
    return z.mul(sign, axis=0)


def composite(factors: Mapping[str, pd.DataFrame], in_use: Sequence[str]) -> pd.DataFrame:
    """Mean of the factors in use, dates × industries; columns sorted by industry code.

    An industry lacking any factor in use (missing value, date or column) has no composite on that date.

    Raises:
        ValueError: no factor in use, or one that `factors` does not hold.
    """
    unknown = [name for name in in_use if name not in factors]
    if unknown or not in_use:
        raise ValueError(f"factors in use {list(in_use)}, available {sorted(factors)}")
    total, *others = (factors[name] for name in in_use)
    for other in others:
        total = total + other
    return (total / len(in_use)).sort_index(axis=1)


def rank_descending(scores: pd.DataFrame) -> pd.DataFrame:
    """Rank of each industry on its date, 1 = highest, unique; NaN where the score is missing (columns sorted).

    Equal scores are ranked by industry code, ascending.
    """
    return scores.sort_index(axis=1).rank(axis=1, method="first", ascending=False)


def select_top(ranks: pd.DataFrame, n: int) -> pd.DataFrame:
    """True for the `n` best ranks of each date (bool); fewer where fewer industries have a rank."""
    return pd.DataFrame(ranks.to_numpy() <= n, ranks.index, ranks.columns)


def above_median_flags(values: pd.DataFrame) -> pd.DataFrame:
    """1 where the value lies above the median of its row, else 0; <NA> where it is missing (Int8).

    Source: the published 0/1 flags of held industries (12 of 12).
    """
    above = values.gt(values.median(axis=1), axis=0)
    return above.astype("Int8").mask(values.isna())


def quintiles(values: pd.DataFrame, groups: int = 5) -> pd.DataFrame:
    """Group of each industry by rank on its date, 1 = lowest … `groups` = highest; <NA> where missing (Int8).

    Of n known values the one with r values below it is in group ⌊groups · r / n⌋ + 1, so sizes differ by one at most
    (31 industries: 7, 6, 6, 6, 6). Equal values: the lower code takes the higher place. Columns come back sorted.

    Raises:
        ValueError: `groups` is below 1.

    Source: published groups of 30 industries hold six each.
    """
    if groups < 1:
        raise ValueError(f"at least one group is needed, got {groups}")
    ranks = rank_descending(values)
    known = ranks.count(axis=1)
    # of whole numbers, even as floats: a rounded quotient could push an industry over the edge of its group
    return (ranks.rsub(known, axis=0).mul(groups).floordiv(known, axis=0) + 1).astype("Int8")
