"""The four factors of a rebalance date from their inputs, and the composite.

Here: which input enters which factor with which sign. Inputs and results are wide: signal dates × industries.
Not here: z-scores, ranks and flags as such (`composite.py`), and reading or storing anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from etf_pipeline.core.composite import composite, rank_descending, style_signed, zscore
from etf_pipeline.core.divergence import divergence

NOT_COMPARED = "too little of the value compares on both dates (compared_floor)"
FEW_FLOWS = "too little of the value has a flow (coverage_floor)"
LOW_COVERAGE = "look-through: too little of the value reaches an industry (coverage_floor)"
ONE_ETF = "look-through: one ETF is too much of the value (evidence_largest_etf)"
FEW_WEIGHT_SETS = "look-through: rests on too few sets of weights (evidence_weight_sets)"


@dataclass(frozen=True)
class EvidenceFloors:
    """What a look-through has to rest on: fractions of value, and a number of sets of weights."""

    coverage: float
    compared: float
    weight_sets: int
    largest_etf: float


@dataclass(frozen=True)
class FactorInputs:
    """What the factors are made of; frames are signal dates × industries, series by signal date.

    `flow` and `medium_change` are changes of the share of ETF-held value (or `flow` the week's net creation in CNY),
    `flow_level` what `flow` is a change of (that share, or the held value in CNY), `share` that share, `penetration`
    held over float market value, `active_weight` weights of active funds; all but CNY are fractions. Signals are 1, 0
    or missing; `heat` is above zero where new ETF issues are the hotter side. `doubts` are signal dates × factors: why
    nothing may be said of that factor on that date (`doubts`), else missing.
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
    doubts: pd.DataFrame


def doubts(evidence: pd.DataFrame, floors: EvidenceFloors, flow_is_change: bool) -> pd.DataFrame:
    """Per date × factor why the look-through says too little of it, else missing (strings).

    `evidence` is table `look_through_evidence` by signal date; a date without a row has no look-through at all, which
    the factors say themselves. Without weeks to compare with nothing is said either. `flow_is_change` is whether the
    flow factor is a change of shares or the week's net creation.
    """
    reasons = pd.DataFrame(index=evidence.index, columns=["flow", "level", "change", "divergence"], dtype="string")
    flow_ratio, flow_reason = evidence["compared_ratio"].lt(floors.compared), NOT_COMPARED
    if not flow_is_change:
        flow_ratio, flow_reason = evidence["value_with_flow_ratio"].lt(floors.coverage), FEW_FLOWS
    reasons["flow"] = reasons["flow"].mask(flow_ratio, f"flow: {flow_reason}")
    change_ratio = evidence["medium_compared_ratio"].lt(floors.compared)
    reasons["change"] = reasons["change"].mask(change_ratio, f"change: {NOT_COMPARED}")
    for thin, reason in (
        (evidence["coverage_ratio"].lt(floors.coverage), LOW_COVERAGE),
        (evidence["largest_etf_ratio"].gt(floors.largest_etf), ONE_ETF),
        (evidence["weight_sets"].lt(floors.weight_sets), FEW_WEIGHT_SETS),
    ):
        reasons = reasons.mask(thin, reason)
    return reasons


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

    So does a cross-section that moves by no more than `spread_minimum_ratio` of the level of its inputs, or a doubt.

    Level is + when large leads, change + when growth leads, divergence + when the ETF side is hotter; − otherwise.
    """
    least, share = spread_minimum_ratio, inputs.share
    level = inputs.penetration.where(level_measure.eq("penetration"), share, axis=0)
    hotter = inputs.heat.gt(0).astype("Int8").mask(inputs.heat.isna())
    scores = {
        "flow": zscore(inputs.flow, least, inputs.flow_level),
        "level": style_signed(zscore(level, least), inputs.size_signal),
        "change": style_signed(zscore(inputs.medium_change, least, share), inputs.growth_value_signal),
        "divergence": style_signed(zscore(divergence(share, inputs.active_weight), least, share), hotter),
    }
    return {factor: score.mask(inputs.doubts[factor].notna(), axis=0) for factor, score in scores.items()}


def withheld(scores: Mapping[str, pd.DataFrame], in_use: Sequence[str], limit: float) -> pd.Series:
    """Per date whether nothing may be published: a factor missing for more than `limit` of the industries (bool)."""
    return pd.concat([scores[f].isna().sum(axis=1) > limit * scores[f].shape[1] for f in in_use], axis=1).any(axis=1)


def withheld_reasons(
    scores: Mapping[str, pd.DataFrame], in_use: Sequence[str], limit: float, doubts: pd.DataFrame
) -> pd.Series:
    """Per date why nothing may be published, else missing.

    Of each factor missing for more than `limit` of the industries the doubt about it, or how many there are.
    """
    reasons = []
    for factor in in_use:
        missing, industries = scores[factor].isna().sum(axis=1), scores[factor].shape[1]
        text = factor + " missing for " + missing.astype("string") + f" of {industries} industries"
        reasons.append(doubts[factor].fillna(text).where(missing > limit * industries))
    # what is doubted of a whole date is said once
    joined = pd.concat(reasons, axis=1).apply(lambda row: "; ".join(row.dropna().unique()), axis=1).astype("string")
    return joined.mask(joined == "")


def composite_and_rank(scores: Mapping[str, pd.DataFrame], in_use: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean of the factors in use, and its rank (1 the highest, ties by industry code; missing without composite)."""
    combined = composite(scores, in_use)
    return combined, rank_descending(combined)
