import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from etf_pipeline.core.rsi import rsi_wilder

PRICES = arrays(float, st.integers(2, 40), elements=st.integers(1, 500).map(float))


def naive(close: list[float], periods: int) -> list[float]:
    """Wilder's recursion, one close after the other."""
    out: list[float] = []
    last = gain = loss = None
    for price in close:
        if np.isnan(price) or last is None:
            out.append(np.nan)
            last = last if np.isnan(price) else price
            continue
        up, down = max(price - last, 0.0), max(last - price, 0.0)
        gain = up if gain is None else gain + (up - gain) / periods
        loss = down if loss is None else loss + (down - loss) / periods
        out.append(100 - 100 / (1 + gain / loss) if loss else (100.0 if gain else np.nan))
        last = price
    return out


def test_by_hand() -> None:
    # differences +2, −1, +1 with alpha 1/2: gains 2, 1, 1; losses 0, 1/2, 1/4
    expected = [np.nan, 100.0, 100 - 100 / 3, 80.0]
    np.testing.assert_allclose(rsi_wilder(np.array([10.0, 12.0, 11.0, 12.0]), 2), expected, rtol=1e-14)


def test_one_direction_only() -> None:
    rising = np.arange(1.0, 30.0)
    assert (rsi_wilder(rising, 12)[1:] == 100).all()
    assert (rsi_wilder(rising[::-1], 12)[1:] == 0).all()


def test_never_moved_is_undefined() -> None:
    assert np.isnan(rsi_wilder(np.full(20, 4.5), 12)).all()
    # once it has moved, a standstill keeps the ratio of what was
    moved = rsi_wilder(np.array([1.0, 2.0, 1.5, 1.5, 1.5]), 3)
    np.testing.assert_allclose(moved[2:], moved[2], rtol=1e-14)


def test_late_listing_equals_its_own_history() -> None:
    close = np.random.default_rng(0).uniform(1, 2, 50)
    late = rsi_wilder(np.concatenate([np.full(30, np.nan), close]), 12)
    assert np.isnan(late[:31]).all()
    np.testing.assert_array_equal(late[30:], rsi_wilder(close, 12))


def test_gap_is_skipped() -> None:
    close = np.array([10.0, 11.0, 10.5, 10.7, 10.2])
    gapped = np.insert(close, 3, [np.nan, np.nan])
    result = rsi_wilder(gapped, 12)
    assert np.isnan(result[3:5]).all()
    np.testing.assert_array_equal(np.delete(result, [3, 4]), rsi_wilder(close, 12))


def test_columns_are_independent_and_labels_kept() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        rng.uniform(1, 2, (60, 7)), index=pd.bdate_range("2024-01-01", periods=60), columns=[*"abcdefg"]
    )
    frame = frame.mask(rng.random(frame.shape) < 0.2)
    result = rsi_wilder(frame, 12)
    assert result.index.equals(frame.index)
    assert result.columns.equals(frame.columns)
    for name in frame:
        np.testing.assert_allclose(result[name], naive(frame[name].tolist(), 12), rtol=1e-12)
    np.testing.assert_array_equal(rsi_wilder(frame.to_numpy(), 12), result)


def test_later_closes_change_nothing_earlier() -> None:
    close = np.random.default_rng(2).uniform(1, 2, 80)
    np.testing.assert_array_equal(rsi_wilder(close[:50], 12), rsi_wilder(close, 12)[:50])


def test_empty_and_invalid() -> None:
    assert rsi_wilder(np.empty((0, 3)), 12).shape == (0, 3)
    with pytest.raises(ValueError, match="at least one period"):
        rsi_wilder(np.ones(3), 0)


@settings(deadline=None)
@given(PRICES, st.integers(1, 20))
def test_agrees_with_the_plain_recursion(close: np.ndarray, periods: int) -> None:
    np.testing.assert_allclose(rsi_wilder(close, periods), naive(close.tolist(), periods), rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(PRICES, st.floats(1e-3, 1e3))
def test_bounds_scale_and_mirror(close: np.ndarray, factor: float) -> None:
    result = rsi_wilder(close, 12)
    known = result[~np.isnan(result)]
    assert ((known >= 0) & (known <= 100)).all()
    np.testing.assert_allclose(rsi_wilder(1024 * close, 12), result, rtol=0, atol=0)
    mirrored = rsi_wilder(1000 - close, 12)
    np.testing.assert_allclose(mirrored, 100 - result, atol=1e-9)
    if np.isnan(result[1:]).any():
        return  # a scaled standstill may move by a rounding error
    np.testing.assert_allclose(rsi_wilder(factor * close, 12)[1:], result[1:], atol=1e-6)
