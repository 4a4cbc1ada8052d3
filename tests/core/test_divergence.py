import numpy as np
import pandas as pd

from etf_pipeline.core.divergence import divergence

DAY = pd.DatetimeIndex(["2026-01-16"])


def wide(*values: float) -> pd.DataFrame:
    return pd.DataFrame([values], index=DAY, columns=["a", "b", "c"])


def test_shares_are_compared_on_invested_money() -> None:
    half_in_cash = wide(0.1, 0.3, 0.1)
    np.testing.assert_allclose(divergence(wide(0.3, 0.2, 0.5), half_in_cash), [[0.1, -0.4, 0.3]])


def test_a_missing_industry_is_missing_and_the_rest_keep_their_shares() -> None:
    np.testing.assert_allclose(divergence(wide(0.3, 0.2, 0.5), wide(0.25, np.nan, 0.75)), [[0.05, np.nan, -0.25]])


def test_no_active_holdings_at_all_is_missing() -> None:
    assert divergence(wide(0.3, 0.2, 0.5), wide(0.0, 0.0, 0.0)).isna().all(axis=None)
    of_another_day = wide(0.1, 0.2, 0.3).set_axis(DAY + pd.Timedelta(days=1))
    assert divergence(wide(0.3, 0.2, 0.5), of_another_day).isna().all(axis=None)
