import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import solveh_banded
from statsmodels.tsa.filters.hp_filter import hpfilter

from etf_pipeline.core.hp_filter import one_sided_hp

LAMBDAS = [1.0, 10.0, 100.0, 1000.0, 1e4, 1e5, 1e6]


def series(kind: str, n: int = 600) -> np.ndarray:
    rng = np.random.default_rng(7)
    walks = {
        "walk": 1 + np.cumsum(rng.normal(0, 0.01, n)),
        "ratio": 0.7 * np.exp(np.cumsum(rng.normal(0, 0.02, n))),
        "noise": 5 + rng.normal(0, 1, n),
    }
    return walks[kind]


def refit(y: np.ndarray, lam: float) -> np.ndarray:
    """Last trend value of a statsmodels fit to every prefix."""
    return np.array([y[t] if t < 2 else hpfilter(y[: t + 1], lam)[1][-1] for t in range(len(y))])


def solved(y: np.ndarray, lam: float) -> float:
    """Last trend value of one fit, its residual refined in extended precision (statsmodels loses digits at large λ)."""
    n = len(y)
    # the upper bands of I + λ K'K, K the second difference
    second, first, diagonal = np.zeros(n), np.zeros(n), np.ones(n)
    second[2:] = lam
    first[1:-1] -= 2 * lam
    first[2:] -= 2 * lam
    for part, weight in ((slice(None, -2), 1), (slice(1, -1), 4), (slice(2, None), 1)):
        diagonal[part] += weight * lam
    bands = np.array([second, first, diagonal])
    b2, b1, b0 = bands.astype(np.longdouble)
    trend = np.zeros(n, dtype=np.longdouble)
    for _ in range(6):
        product = b0 * trend
        product[1:] += b1[1:] * trend[:-1]
        product[:-1] += b1[1:] * trend[1:]
        product[2:] += b2[2:] * trend[:-2]
        product[:-2] += b2[2:] * trend[2:]
        trend = trend + solveh_banded(bands, (y - product).astype(float))
    return float(trend[-1])


def test_three_points_by_hand() -> None:
    # y = (0, 0, 1), λ = 1: with c = (1, −2, 1) the fit is y − c (c·y) / (1 + c·c) and c·c = 6, so the last value is 6/7
    np.testing.assert_allclose(one_sided_hp(np.array([0.0, 0.0, 1.0]), 1.0), [0, 0, 6 / 7], rtol=1e-15)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("kind", ["walk", "ratio"])
def test_equals_statsmodels_on_every_prefix(kind: str, lam: float) -> None:
    y = series(kind)
    np.testing.assert_allclose(one_sided_hp(y, lam), refit(y, lam), rtol=1e-8, atol=0)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("kind", ["walk", "ratio", "noise"])
def test_equals_a_refined_solve(kind: str, lam: float) -> None:
    y = series(kind)
    prefixes = [*range(2, 30), *range(30, 600, 19), 599]
    expected = [solved(y[: t + 1], lam) for t in prefixes]
    np.testing.assert_allclose(one_sided_hp(y, lam)[prefixes], expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("n", range(6))
def test_short_series(n: int) -> None:
    y = np.array([1.0, 1.1, 0.9, 1.2, 1.0])[:n]
    np.testing.assert_allclose(one_sided_hp(y, 100.0), refit(y, 100.0), rtol=1e-12)
    assert one_sided_hp(y.reshape(n, 1), 100.0).shape == (n, 1)


def test_columns_and_late_starts_are_independent() -> None:
    y = np.column_stack([series(kind, 120) for kind in ("walk", "ratio", "noise", "walk", "noise")])
    y[:50, 1] = y[:119, 2] = y[:50, 4] = np.nan
    y[:, 3] = np.nan
    result = one_sided_hp(y, 100.0)
    assert np.isnan(result[:, 3]).all()
    for column, start in ((0, 0), (1, 50), (2, 119), (4, 50)):
        assert np.isnan(result[:start, column]).all()
        np.testing.assert_allclose(result[start:, column], one_sided_hp(y[start:, column], 100.0), rtol=1e-14)


def dense(y: np.ndarray, lam: float) -> float:
    """Last value of the trend minimising Σ_observed (y−τ)² + λ Σ(Δ²τ)², by least squares on all of it at once."""
    second = np.diff(np.eye(len(y)), 2, axis=0)
    observed = ~np.isnan(y)
    rows = np.vstack([np.eye(len(y))[observed], np.sqrt(lam) * second])
    return float(np.linalg.lstsq(rows, np.append(y[observed], np.zeros(len(second))), rcond=None)[0][-1])


@pytest.mark.parametrize("lam", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize(("seed", "holes"), [(0, 0.1), (1, 0.5), (2, 0.8)])
def test_a_hole_is_a_row_without_an_observation(seed: int, holes: float, lam: float) -> None:
    y = series("ratio", 70)
    y[np.random.default_rng(seed).random(70) < holes] = np.nan
    first, second = np.flatnonzero(~np.isnan(y))[:2]
    trend = one_sided_hp(y, lam)
    assert np.isnan(trend[:second]).tolist() == [row != first for row in range(second)]
    assert trend[first] == y[first]
    expected = [dense(y[: t + 1], lam) for t in range(second, 70)]
    np.testing.assert_allclose(trend[second:], expected, rtol=1e-8, atol=0)


def test_series_with_different_holes_are_independent() -> None:
    y = np.column_stack([series("ratio", 60)] * 4)
    y[[1, 2, 30], 0] = y[[30, 59], 1] = y[:59, 2] = np.nan
    result = one_sided_hp(y, 100.0)
    for column in range(4):
        np.testing.assert_allclose(result[:, column], one_sided_hp(y[:, column], 100.0), rtol=1e-14)


def test_a_hole_by_hand() -> None:
    # two points make a line, which goes on until the next observation
    np.testing.assert_array_equal(
        one_sided_hp(np.array([np.nan, 1.0, np.nan, 2.0, np.nan, np.nan]), 100.0), [np.nan, 1, np.nan, 2, 2.5, 3]
    )


def test_infinities_are_refused() -> None:
    y = np.ones((6, 2))
    y[0, 1], y[4, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"series 1 has inf at row 4"):
        one_sided_hp(y, 100.0)


@pytest.mark.parametrize("lam", [0.0, -1.0, np.nan, np.inf])
def test_lambda_out_of_range(lam: float) -> None:
    with pytest.raises(ValueError, match="smoothing"):
        one_sided_hp(np.ones(5), lam)


def test_input_is_left_alone() -> None:
    y = np.array([1.0, 2.0, 4.0])
    one_sided_hp(y, 1.0)[:] = 0
    one_sided_hp(y[:2], 1.0)[:] = 0
    assert y.tolist() == [1.0, 2.0, 4.0]


def test_lines_are_their_own_trend() -> None:
    line = 3.0 + 0.25 * np.arange(200)
    np.testing.assert_array_equal(one_sided_hp(line, 100.0), line)


@settings(deadline=None)
@given(arrays(float, st.integers(3, 40), elements=st.floats(-10, 10)), st.sampled_from(LAMBDAS), st.data())
def test_causal_linear_and_exact(y: np.ndarray, lam: float, data: st.DataObject) -> None:
    trend = one_sided_hp(y, lam)
    cut = data.draw(st.integers(0, len(y)))
    np.testing.assert_array_equal(one_sided_hp(y[:cut], lam), trend[:cut])
    np.testing.assert_allclose(one_sided_hp(3 * y + 2, lam), 3 * trend + 2, rtol=1e-9, atol=1e-9)
    assert trend[-1] == pytest.approx(solved(y, lam), rel=1e-9, abs=1e-9)
