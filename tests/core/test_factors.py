from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.factors import (
    EvidenceFloors,
    FactorInputs,
    doubts,
    level_measures,
    score_factors,
    withheld_reasons,
)

DATES = pd.DatetimeIndex(["2026-01-16", "2026-01-30"])
INDUSTRIES = [f"CI005{i + 1:03d}" for i in range(5)]
USED = ("flow", "level", "change", "divergence")


def wide(rows: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, DATES, INDUSTRIES)


NO_DOUBTS = pd.DataFrame(index=DATES, columns=list(USED), dtype="string")
SHARE = wide([[0.1, 0.2, 0.3, 0.25, 0.15]] * 2)
REAL = wide([[0.01, -0.01, 0.002, -0.003, 0.001]] * 2)
INPUTS = FactorInputs(
    flow=REAL,
    flow_level=SHARE,
    share=SHARE,
    penetration=0.1 * SHARE,
    medium_change=REAL,
    active_weight=SHARE.iloc[:, ::-1].set_axis(INDUSTRIES, axis=1),
    size_signal=pd.Series([1, 1], DATES, dtype="Int8"),
    growth_value_signal=pd.Series([1, 1], DATES, dtype="Int8"),
    heat=pd.Series([0.1, 0.1], DATES),
    doubts=NO_DOUBTS,
)
FLOORS = EvidenceFloors(coverage=0.8, compared=0.8, weight_sets=3, largest_etf=0.5)
EVIDENCE = pd.DataFrame(
    {
        "coverage_ratio": 0.95,
        "weight_sets": 31,
        "largest_etf_ratio": 0.2,
        "compared_ratio": 1.0,
        "medium_compared_ratio": 1.0,
        "value_with_flow_ratio": 1.0,
    },
    DATES,
)


def reasons(inputs: FactorInputs) -> list[object]:
    scores = score_factors(inputs, level_measures(inputs.penetration, "auto"), 1e-9)
    return withheld_reasons(scores, USED, 0.2, inputs.doubts).tolist()


def at_the_second_date(frame: pd.DataFrame, row: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame.iloc[:1], row.iloc[1:]])


@pytest.mark.parametrize(
    ("factor", "noisy"),
    [
        ("flow", {"flow": at_the_second_date(REAL, 1e-14 * REAL)}),
        # creations of less than a yuan on 1e11 CNY
        ("flow", {"flow": at_the_second_date(1e9 * REAL, 1e-1 * REAL), "flow_level": 1e11 * SHARE}),
        ("change", {"medium_change": at_the_second_date(REAL, 1e-14 * REAL)}),
        ("level", {"penetration": at_the_second_date(SHARE, 0.02 + 1e-14 * REAL)}),
        ("divergence", {"active_weight": at_the_second_date(INPUTS.active_weight, SHARE + 1e-13 * REAL)}),
    ],
)
def test_rounding_noise_is_no_factor(factor: str, noisy: dict[str, pd.DataFrame]) -> None:
    first, second = reasons(replace(INPUTS, **noisy))
    assert pd.isna(first)
    assert second == f"{factor} missing for 5 of 5 industries"


def test_the_order_of_sums_changes_no_score() -> None:
    """One change, computed in another order: the same score or none."""
    one, other = (SHARE + REAL) - SHARE, REAL + (SHARE - SHARE)
    measures = level_measures(INPUTS.penetration, "auto")
    scores = [score_factors(replace(INPUTS, flow=flow), measures, 1e-9)["flow"] for flow in (one, other)]
    np.testing.assert_allclose(*scores, rtol=1e-9)


def doubted(flow_is_change: bool = True, **second: float) -> pd.DataFrame:
    """Doubts where the evidence of the second date has these numbers."""
    evidence = EVIDENCE.astype(float)
    evidence.loc[DATES[1], list(second)] = list(second.values())
    return doubts(evidence, FLOORS, flow_is_change)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"coverage_ratio": 0.79}, "look-through: too little of the value reaches an industry (coverage_floor)"),
        ({"weight_sets": 2}, "look-through: rests on too few sets of weights (evidence_weight_sets)"),
        ({"largest_etf_ratio": 0.51}, "look-through: one ETF is too much of the value (evidence_largest_etf)"),
        (
            {"compared_ratio": 0.28, "medium_compared_ratio": 0.3},
            "flow: too little of the value compares on both dates (compared_floor); "
            "change: too little of the value compares on both dates (compared_floor)",
        ),
    ],
)
def test_a_thin_look_through_withholds_its_date_alone(second: dict[str, float], reason: str) -> None:
    first, of_second = reasons(replace(INPUTS, doubts=doubted(**second)))
    assert pd.isna(first)
    assert of_second == reason


@pytest.mark.parametrize(
    "second", [{"coverage_ratio": 0.8}, {"weight_sets": 3}, {"largest_etf_ratio": 0.5}, {"compared_ratio": 0.8}]
)
def test_evidence_at_its_limit_is_enough(second: dict[str, float]) -> None:
    assert doubted(**second).isna().all(axis=None)


def test_only_the_factor_in_doubt_is_missing() -> None:
    measures = level_measures(INPUTS.penetration, "auto")
    sure = score_factors(INPUTS, measures, 1e-9)
    scores = score_factors(replace(INPUTS, doubts=doubted(medium_compared_ratio=0.5)), measures, 1e-9)
    assert scores["change"].iloc[1].isna().all()
    scores["change"].iloc[1] = sure["change"].iloc[1]
    for factor in USED:
        pd.testing.assert_frame_equal(scores[factor], sure[factor])


def test_a_flow_of_net_creation_needs_flows_and_no_comparison() -> None:
    assert doubted(flow_is_change=False, compared_ratio=0.1).isna().all(axis=None)
    few = doubted(flow_is_change=False, value_with_flow_ratio=0.7)
    assert few.stack().dropna().tolist() == ["flow: too little of the value has a flow (coverage_floor)"]


def test_without_an_earlier_week_nothing_is_said() -> None:
    assert doubted(compared_ratio=np.nan, medium_compared_ratio=np.nan).isna().all(axis=None)
