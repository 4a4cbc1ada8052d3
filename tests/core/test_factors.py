from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.factors import FactorInputs, level_measures, score_factors, withheld_reasons

DATES = pd.DatetimeIndex(["2026-01-16", "2026-01-30"])
INDUSTRIES = [f"CI005{i + 1:03d}" for i in range(5)]
USED = ("flow", "level", "change", "divergence")


def wide(rows: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, DATES, INDUSTRIES)


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
)


def reasons(inputs: FactorInputs) -> list[object]:
    scores = score_factors(inputs, level_measures(inputs.penetration, "auto"), 1e-9)
    return withheld_reasons(scores, USED, 0.2).tolist()


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
