import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.hp_filter import one_sided_hp
from etf_pipeline.core.regime import factor_momentum, style_regime


def weekly(values: list[float] | np.ndarray) -> pd.Series:
    return pd.Series(values, index=pd.date_range("2024-01-05", periods=len(values), freq="7D"), dtype=float)


def walk(n: int) -> pd.Series:
    return weekly(np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.02, n))))


def test_momentum_by_hand() -> None:
    momentum = factor_momentum(weekly([1.0, 2.0, 4.0, 3.0]), 2)
    np.testing.assert_array_equal(momentum, [np.nan, np.nan, 2.5, 0.0])


def test_momentum_is_missing_where_a_value_is() -> None:
    momentum = factor_momentum(weekly([1.0, 2.0, np.nan, 3.0, 4.0, 6.0]), 2)
    np.testing.assert_array_equal(momentum, [np.nan] * 5 + [2.5])


def test_signal_follows_momentum() -> None:
    regime = style_regime(walk(80), 100.0, 2)
    assert regime.columns.tolist() == ["ratio", "trend", "momentum", "signal"]
    assert regime["signal"].isna().tolist() == [True] * 2 + [False] * 78
    known = regime.iloc[2:]
    assert known["signal"].tolist() == (known["momentum"] > 0).astype(int).tolist()
    assert set(known["signal"]) == {0, 1}


def test_standstill_is_no_lead() -> None:
    assert style_regime(weekly([0.7] * 30), 100.0, 2)["signal"].iloc[2:].tolist() == [0] * 28


def test_a_missing_week_is_a_step_without_an_observation() -> None:
    ratio = walk(60)
    ratio.iloc[[0, 1, 20, 21]] = np.nan
    regime = style_regime(ratio, 100.0, 2)
    np.testing.assert_array_equal(regime["trend"], one_sided_hp(ratio.to_numpy(), 100.0))
    assert regime["trend"].isna().sum() == 2
    # along the line of the weeks before, without a signal of its own; the week after has one again
    assert regime["trend"].iloc[[20, 21]].diff().iloc[1] == pytest.approx(regime["trend"].diff().iloc[20])
    assert regime.index[regime["signal"].isna()].tolist() == ratio.index[[0, 1, 2, 3, 20, 21]].tolist()
    # weeks later the hole hardly matters
    whole = style_regime(walk(60), 100.0, 2)
    assert regime["trend"].iloc[-1] == pytest.approx(whole["trend"].iloc[-1], rel=1e-3)


@pytest.mark.parametrize("cut", [0, 1, 15, 21, 40])
def test_truncation_changes_nothing_earlier(cut: int) -> None:
    ratio = walk(60)
    ratio.iloc[20] = np.nan
    whole = style_regime(ratio, 100.0, 2)
    pd.testing.assert_frame_equal(style_regime(ratio.iloc[:cut], 100.0, 2), whole.iloc[:cut], check_freq=False)


def test_unit_of_the_ratio_does_not_matter() -> None:
    regime, scaled = style_regime(walk(80), 100.0, 2), style_regime(walk(80) * 1024, 100.0, 2)
    pd.testing.assert_series_equal(regime["signal"], scaled["signal"])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="ascending"):
        style_regime(walk(10).iloc[::-1], 100.0, 2)
    with pytest.raises(ValueError, match="at least one week"):
        factor_momentum(walk(10), 0)
