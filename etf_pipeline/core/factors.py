"""The four factors of a rebalance date from their inputs, and the composite.

Here: which input enters which factor with which sign. Inputs and results are wide: signal dates × industries.
Not here: z-scores, ranks and flags as such (`composite.py`), and reading or storing anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from etf_pipeline.core.composite import composite, rank_descending, style_signed, zscore
from etf_pipeline.core.divergence import divergence


@dataclass(frozen=True)
class FactorInputs:
    """What the factors are made of; frames are signal dates × industries, series by signal date.

    `flow` and `medium_change` are changes of the share of ETF-held value (or `flow` the week's net creation in CNY),
    `flow_level` what `flow` is a change of (that share, or the held value in CNY), `share` that share, `penetration`
    held over float market value, `active_weight` weights of active funds; all but CNY are fractions. Signals are 1, 0
    or missing; `heat` is above zero where new ETF issues are the hotter side.
    """

    flow: pd.DataFrame
    flow_level: pd.DataFrame
    share: pd.DataFrame
    penetration: pd.DataFrame
    medium_change: pd.DataFrame
    active_weight: pd.DataFrame
    size_signal: pd.Series
    growth_value_signal: pd.Series
    heat: pd.Series


def level_measures(penetration: pd.DataFrame, wanted: str) -> pd.Series:
    """Per date what the level factor measures: `wanted`, or with "auto" penetration where any is known, else share."""
    if wanted != "auto":
        return pd.Series(wanted, index=penetration.index)
    known = penetration.notna().any(axis=1)
    return pd.Series("share", index=penetration.index).mask(known, "penetration")


def score_factors(
    inputs: FactorInputs, level_measure: pd.Series, spread_minimum_ratio: float
) -> dict[str, pd.DataFrame]:
    """Signed z-scores (ddof 1) of flow, level, change and divergence; a missing input makes the factor missing.

    So does a cross-section that moves by no more than `spread_minimum_ratio` of the level of its inputs.

    Level is + when large leads, change + when growth leads, divergence + when the ETF side is hotter; − otherwise.
    """
    least, share = spread_minimum_ratio, inputs.share
    level = inputs.penetration.where(level_measure.eq("penetration"), share, axis=0)
    hotter = inputs.heat.gt(0).astype("Int8").mask(inputs.heat.isna())
    return {
        "flow": zscore(inputs.flow, least, inputs.flow_level),
        "level": style_signed(zscore(level, least), inputs.size_signal),
        "change": style_signed(zscore(inputs.medium_change, least, share), inputs.growth_value_signal),
        "divergence": style_signed(zscore(divergence(share, inputs.active_weight), least, share), hotter),
    }


def withheld(scores: Mapping[str, pd.DataFrame], in_use: Sequence[str], limit: float) -> pd.Series:
    """Per date whether nothing may be published: a factor missing for more than `limit` of the industries (bool)."""
    return pd.concat([scores[f].isna().sum(axis=1) > limit * scores[f].shape[1] for f in in_use], axis=1).any(axis=1)


def withheld_reasons(scores: Mapping[str, pd.DataFrame], in_use: Sequence[str], limit: float) -> pd.Series:
    """Per date why nothing may be published: factors missing for more than `limit` of the industries; else missing."""
    reasons = pd.Series(pd.NA, index=scores[in_use[0]].index, dtype="string")
    for factor in in_use:
        missing, industries = scores[factor].isna().sum(axis=1), scores[factor].shape[1]
        text = factor + " missing for " + missing.astype("string") + f" of {industries} industries"
        reasons = reasons.mask(missing > limit * industries, (reasons + "; ").fillna("") + text)
    return reasons


def composite_and_rank(scores: Mapping[str, pd.DataFrame], in_use: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean of the factors in use, and its rank (1 the highest, ties by industry code; missing without composite)."""
    combined = composite(scores, in_use)
    return combined, rank_descending(combined)
