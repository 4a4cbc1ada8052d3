import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike

from etf_pipeline.core.composite import (
    above_median_flags,
    composite,
    quintiles,
    rank_descending,
    select_top,
    style_signed,
    zscore,
)

VALUES = arrays(
    float,
    st.tuples(st.integers(1, 4), st.integers(1, 31)),
    elements=st.one_of(st.just(np.nan), st.integers(-5, 5).map(float)),
)


def wide(values: ArrayLike) -> pd.DataFrame:
    array = np.asarray(values, dtype=float)
    dates = pd.date_range("2026-01-02", periods=len(array), freq="14D", name="signal_date")
    return pd.DataFrame(array, index=dates, columns=[f"CI005{i + 1:03d}" for i in range(array.shape[1])])


def test_zscore_by_hand() -> None:
    z = zscore(wide([[1.0, 2.0, 3.0, np.nan], [10.0, np.nan, 30.0, 20.0]]), 1e-9)
    np.testing.assert_allclose(z, [[-1, 0, 1, np.nan], [-1, np.nan, 1, 0]])
    np.testing.assert_allclose(zscore(wide([[1.0, 3.0]]), 1e-9, ddof=0), [[-1, 1]])


@pytest.mark.parametrize("row", [[0.1] * 30, [5.0, np.nan, np.nan], [np.nan] * 3])
def test_zscore_without_spread_is_missing(row: list[float]) -> None:
    assert zscore(wide([row]), 1e-9).isna().all(axis=None)


@pytest.mark.parametrize(("scale", "has_spread"), [(1e-16, False), (1e-12, False), (1e-10, False), (1e-7, True)])
def test_spread_is_judged_at_the_level_of_the_inputs(scale: float, has_spread: bool) -> None:
    change, share = wide([[1.0, -2.0, 1.0, np.nan]]) * scale, wide([[0.3, 0.2, 0.5, np.nan]])
    z = zscore(change, 1e-9, share)
    assert z.iloc[0].notna().tolist() == [has_spread] * 3 + [False]
    # alone, the numbers are their own level; the unit of both does not matter
    assert zscore(change, 1e-9).iloc[0].notna().sum() == 3
    pd.testing.assert_frame_equal(zscore(change * 2**40, 1e-9, share * 2**40), z)


def test_noise_on_equal_values_is_no_spread() -> None:
    assert zscore(wide([[0.3, 0.1 + 0.2, 0.3]]), 1e-9).isna().all(axis=None)


def test_style_signed() -> None:
    z = wide([[1.0, -2.0], [1.0, -2.0], [1.0, np.nan], [1.0, 2.0]])
    signal = pd.Series([1, 0, pd.NA], index=z.index[:3], dtype="Int8")
    expected = [[1, -2], [-1, 2], [np.nan, np.nan], [np.nan, np.nan]]
    np.testing.assert_array_equal(style_signed(z, signal), expected)
    np.testing.assert_array_equal(style_signed(z, signal.astype("Float64").astype(float)), expected)
    with pytest.raises(ValueError, match="0, 1 or missing"):
        style_signed(z, signal.fillna(-1))


def test_composite_is_the_mean_of_the_factors_in_use() -> None:
    factors = {
        "flow": wide([[1.0, 2.0, np.nan]]),
        "level": wide([[3.0, np.nan, 1.0]]),
        "change": wide([[5.0, 4.0, 9.0]]),
    }
    np.testing.assert_array_equal(composite(factors, ["flow", "change"]), [[3, 3, np.nan]])
    np.testing.assert_array_equal(composite(factors, ["flow", "level", "change"]), [[3, np.nan, np.nan]])
    np.testing.assert_array_equal(composite(factors, ["level"]), [[3, np.nan, 1]])


def test_composite_lacks_what_a_factor_lacks() -> None:
    flow = wide([[1.0, 2.0], [3.0, 4.0]])
    level = flow.iloc[1:, ::-1].drop(columns="CI005001")
    result = composite({"flow": flow, "level": level}, ("flow", "level"))
    assert result.columns.tolist() == ["CI005001", "CI005002"]
    np.testing.assert_array_equal(result, [[np.nan, np.nan], [np.nan, 4]])


@pytest.mark.parametrize("in_use", [[], ["flow", "luck"]])
def test_composite_refuses_unknown_factors(in_use: list[str]) -> None:
    with pytest.raises(ValueError, match="factors in use"):
        composite({"flow": wide([[1.0]])}, in_use)


def test_ranks_break_ties_by_code() -> None:
    scores = wide([[1.0, 3.0, np.nan, 3.0, 1.0]])
    np.testing.assert_array_equal(rank_descending(scores).iloc[0], [3, 1, np.nan, 2, 4])
    shuffled = scores[scores.columns[[4, 3, 2, 1, 0]]]
    pd.testing.assert_frame_equal(rank_descending(shuffled), rank_descending(scores))
    assert select_top(rank_descending(scores), 2).iloc[0].tolist() == [False, True, False, True, False]
    assert select_top(rank_descending(scores), 9).iloc[0].sum() == 4


def test_flags() -> None:
    assert above_median_flags(wide([[1.0, 2.0, 3.0, np.nan]])).iloc[0].tolist() == [0, 0, 1, pd.NA]
    assert above_median_flags(wide([np.arange(30.0)])).sum(axis=None) == 15


@pytest.mark.parametrize(
    ("n", "sizes"), [(30, [6] * 5), (31, [7, 6, 6, 6, 6]), (28, [6, 6, 5, 6, 5]), (3, [1, 1, 0, 1, 0])]
)
def test_group_sizes(n: int, sizes: list[int]) -> None:
    groups = quintiles(wide([np.random.default_rng(n).permutation(n)])).iloc[0]
    assert [(groups == g).sum() for g in range(1, 6)] == sizes


def test_groups_follow_values() -> None:
    assert quintiles(wide([[5.0, np.nan, 1.0, 5.0, 9.0]]), groups=2).iloc[0].tolist() == [2, pd.NA, 1, 1, 2]
    with pytest.raises(ValueError, match="at least one group"):
        quintiles(wide([[1.0]]), groups=0)


@settings(deadline=None)
@given(VALUES)
def test_cross_sections(values: np.ndarray) -> None:
    frame = wide(values)
    z, ranks, groups = zscore(frame, 1e-9), rank_descending(frame), quintiles(frame)
    assert ranks.isna().equals(frame.isna())
    assert groups.isna().equals(frame.isna())
    for day in frame.index:
        known = frame.loc[day].dropna()
        if known.nunique() > 1:
            expected = (known - known.mean()) / known.std(ddof=1)
            np.testing.assert_allclose(z.loc[day].dropna(), expected, atol=1e-12)
        else:
            assert z.loc[day].isna().all()
        # the plain way: sort by value, then by code
        order = sorted(known.index, key=lambda code: (-known[code], code))
        assert ranks.loc[day].dropna().to_dict() == {code: i + 1 for i, code in enumerate(order)}
        n = len(order)
        assert groups.loc[day].dropna().to_dict() == {c: 5 * (n - 1 - i) // n + 1 for i, c in enumerate(order)}
