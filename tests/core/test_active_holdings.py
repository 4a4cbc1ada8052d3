import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from etf_pipeline.core import active_holdings
from etf_pipeline.core.active_holdings import ALMOST_SOLVED, rolling_simulated_holdings, simulated_holdings


def market(n: int, k: int, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns with a common factor, planted weights that leave some cash, and the fund they make."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (n, 1)) + rng.normal(0, 0.01, (n, k))
    weights = rng.dirichlet(np.full(k, 0.5)) * rng.uniform(0.6, 1.0)
    return returns, weights, returns @ weights + rng.normal(0, noise, n)


def by_nnls(returns: np.ndarray, fund: np.ndarray) -> np.ndarray:
    """Independent answer: non-negative least squares; if the sum exceeds 1, with a heavily weighted Σw = 1."""
    weights = nnls(returns, fund)[0]
    if weights.sum() <= 1:
        return weights
    heavy = 1e4 * np.linalg.norm(returns)
    return nnls(np.vstack([returns, np.full(returns.shape[1], heavy)]), np.append(fund, heavy))[0]


def test_recovers_planted_weights() -> None:
    returns, weights, fund = market(60, 30)
    np.testing.assert_allclose(simulated_holdings(returns, fund), weights, atol=1e-6)


def test_by_hand() -> None:
    # orthogonal columns: each weight is its own projection, cut at 0; then both share what exceeds a sum of 1
    returns = 0.01 * np.eye(2)
    np.testing.assert_allclose(simulated_holdings(returns, np.array([0.004, -0.002])), [0.4, 0], atol=1e-8)
    np.testing.assert_allclose(simulated_holdings(returns, np.array([0.008, 0.006])), [0.6, 0.4], atol=1e-8)
    np.testing.assert_allclose(simulated_holdings(returns, np.zeros(2)), [0, 0], atol=1e-6)


def test_infinite_returns_are_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        simulated_holdings(np.full((5, 2), np.inf), np.zeros(5))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("noise", [0.001, 0.01])
def test_agrees_with_nnls(seed: int, noise: float) -> None:
    returns, _, fund = market(60, 30, seed, noise)
    for target in (fund, 1.5 * fund):  # the second presses against Σw ≤ 1
        np.testing.assert_allclose(simulated_holdings(returns, target), by_nnls(returns, target), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 31), st.floats(0, 0.02), st.floats(-2, 2))
def test_optimality_conditions(seed: int, k: int, noise: float, leverage: float) -> None:
    returns, _, fund = market(60, k, seed, noise)
    fund = leverage * fund
    weights = simulated_holdings(returns, fund)
    assert weights.min() >= 0
    assert weights.sum() <= 1 + 1e-12
    scale = (returns**2).sum() / k
    gradient = returns.T @ (returns @ weights - fund) / scale
    # price of Σw ≤ 1: what a little more of the industries held would still gain
    price = max(0.0, -gradient.min()) if weights.sum() > 1 - 1e-7 else 0.0
    assert (gradient + price > -1e-6).all()
    assert np.abs(weights * (gradient + price)).max() < 1e-6


def test_deterministic_also_where_not_unique() -> None:
    returns, _, fund = market(60, 4)
    doubled = np.hstack([returns, returns])
    first = simulated_holdings(doubled, fund)
    np.testing.assert_array_equal(first, simulated_holdings(doubled, fund))
    np.testing.assert_allclose(first[:4] + first[4:], simulated_holdings(returns, fund), atol=1e-6)


def test_missing_sessions_and_industries() -> None:
    returns, _, fund = market(60, 10, noise=0.001)
    holed, target = returns.copy(), fund.copy()
    holed[5] = np.nan  # a session nobody reported
    holed[6, 2:] = np.nan  # a short file
    target[7] = np.nan
    kept = np.delete(np.arange(60), [5, 6, 7])
    np.testing.assert_array_equal(simulated_holdings(holed, target), simulated_holdings(returns[kept], fund[kept]))
    holed[:30, 3] = np.nan  # an industry that starts late
    weights = simulated_holdings(holed, target)
    assert np.isnan(weights).tolist() == [i == 3 for i in range(10)]
    others = np.delete(returns[kept], 3, axis=1)
    np.testing.assert_array_equal(np.delete(weights, 3), simulated_holdings(others, fund[kept]))


def test_too_little_to_go_by() -> None:
    returns, _, fund = market(9, 10)
    assert np.isnan(simulated_holdings(returns, fund)).all()
    assert np.isnan(simulated_holdings(returns, np.full(9, np.nan))).all()
    assert simulated_holdings(np.empty((5, 0)), np.zeros(5)).shape == (0,)
    with pytest.raises(ValueError, match="do not match"):
        simulated_holdings(returns, fund[:-1])


def frames(n: int, k: int) -> tuple[pd.DataFrame, pd.Series]:
    returns, _, fund = market(n, k, noise=0.001)
    sessions = pd.bdate_range("2025-01-01", periods=n)
    return pd.DataFrame(returns, index=sessions, columns=[f"CI{i:03d}" for i in range(k)]), pd.Series(
        fund, index=sessions
    )


@pytest.mark.parametrize("lag", [0, 1])
def test_rolling_equals_each_window(lag: int) -> None:
    returns, fund = frames(100, 8)
    dates = returns.index[[20, 59 + lag, 80, 99]]
    weights = rolling_simulated_holdings(returns, fund.drop(returns.index[70]), dates, window=60, lag_sessions=lag)
    assert weights.index.equals(dates)
    assert weights.iloc[0].isna().all()
    target = fund.to_numpy().copy()
    target[70] = np.nan
    for row, end in enumerate([60, 81 - lag, 100 - lag], start=1):
        expected = simulated_holdings(returns.to_numpy()[end - 60 : end], target[end - 60 : end])
        np.testing.assert_array_equal(weights.iloc[row], expected)


def test_later_returns_do_not_matter() -> None:
    returns, fund = frames(100, 8)
    day = returns.index[[79]]
    whole = rolling_simulated_holdings(returns, fund, day, window=60)
    pd.testing.assert_frame_equal(rolling_simulated_holdings(returns.iloc[:80], fund.iloc[:80], day, window=60), whole)


def test_dates_must_be_sessions() -> None:
    returns, fund = frames(100, 3)
    with pytest.raises(ValueError, match="2030-01-01"):
        rolling_simulated_holdings(returns, fund, pd.DatetimeIndex(["2030-01-01"]), window=60)
    with pytest.raises(ValueError, match="lag -1"):
        rolling_simulated_holdings(returns, fund, returns.index[[90]], window=60, lag_sessions=-1)


def test_a_date_solved_less_accurately_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    days = pd.bdate_range("2026-01-05", periods=40)
    returns = pd.DataFrame(rng.normal(0, 0.01, (40, 3)), days, ["a", "b", "c"])
    fund = returns.mean(axis=1)
    found = rolling_simulated_holdings(returns, fund, days[[30, 35]], 20)
    assert found.attrs[ALMOST_SOLVED] == []
    solve = active_holdings._solve
    monkeypatch.setattr(active_holdings, "_solve", lambda r, f: (solve(r, f)[0], not np.array_equal(f, fund[16:36])))
    again = rolling_simulated_holdings(returns, fund, days[[30, 35]], 20)
    assert again.attrs[ALMOST_SOLVED] == [days[35]]
    pd.testing.assert_frame_equal(again, found)
