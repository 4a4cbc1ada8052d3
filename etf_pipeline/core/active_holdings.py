"""Industry holdings of active equity funds, simulated from returns.

Here: the constrained regression of a fund return on industry returns, once and at many dates. Not here: disclosed
holdings and the choice between disclosed and simulated (by announcement date), and returns from prices.
"""

import numpy as np
import pandas as pd

ALMOST_SOLVED = "almost_solved"


def simulated_holdings(industry_returns: np.ndarray, fund_returns: np.ndarray) -> np.ndarray:
    """Weights w, shape (k,), minimising ‖R w − f‖² with w ≥ 0 and Σw ≤ 1 (fractions of net assets; the rest is cash).

    Args:
        industry_returns: R, daily returns as fractions, shape (n sessions, k industries).
        fund_returns: f, daily fund returns as fractions, shape (n,).

    Sessions without a fund return, or without a return for most industries (a short file), are left out. An industry
    still lacking a return on a remaining session cannot be simulated: its weight is NaN and the others are fitted
    without it. With fewer sessions than fitted industries there is no unique answer: all NaN.

    Deterministic: same input, same weights. Accurate to about 1e-6 per weight where industries are not collinear.

    Raises:
        ValueError: shapes that do not match, or an infinite return.
        ArithmeticError: the solver found no optimum.
    """
    return _simulated(industry_returns, fund_returns)[0]


def _simulated(industry_returns: np.ndarray, fund_returns: np.ndarray) -> tuple[np.ndarray, bool]:
    """`simulated_holdings`, and whether the solver came as near to the optimum as it was asked to."""
    returns, fund = np.asarray(industry_returns, dtype=float), np.asarray(fund_returns, dtype=float)
    if returns.ndim != 2 or fund.shape != returns.shape[:1]:
        raise ValueError(f"returns {returns.shape} and fund returns {fund.shape} do not match")
    if np.isinf(returns).any() or np.isinf(fund).any():
        raise ValueError("a return is infinite: a close of zero?")
    weights = np.full(returns.shape[1], np.nan)
    used = ~np.isnan(fund) & (2 * np.isnan(returns).sum(axis=1) <= returns.shape[1])
    returns, fund = returns[used], fund[used]
    fitted = ~np.isnan(returns).any(axis=0)
    is_solved = True
    if 0 < fitted.sum() <= len(returns):
        weights[fitted], is_solved = _solve(returns[:, fitted], fund)
    return weights, is_solved


def rolling_simulated_holdings(
    returns: pd.DataFrame, fund: pd.Series, dates: pd.DatetimeIndex, window: int, lag_sessions: int = 0
) -> pd.DataFrame:
    """Simulated holdings, dates × industries, each from the `window` sessions that end `lag_sessions` before the date.

    Args:
        returns: daily industry returns (fractions), one row for every session (NaN where unknown), ascending.
        fund: daily fund returns by session; sessions it lacks count as missing.
        dates: sessions of `returns`.
        window: sessions in a window.
        lag_sessions: 0 if the date's own returns are known when the decision is taken, n if they come n sessions late.

    Timing: no row after the end of its window enters a date's weights. A date with fewer than `window` sessions
    behind it is NaN; gaps inside a window are treated as in `simulated_holdings`. `attrs[ALMOST_SOLVED]` lists dates
    on which the solver came to an optimum only to a lesser accuracy than asked.

    Raises:
        ValueError: a date that is no row of `returns` (its window would silently be an old one), or a negative lag.
    """
    unknown = dates[~dates.isin(returns.index)]
    if len(unknown) or lag_sessions < 0:
        raise ValueError(f"dates without a row of returns: {unknown.strftime('%Y-%m-%d').tolist()}; lag {lag_sessions}")
    matrix, target = returns.to_numpy(dtype=float), fund.reindex(returns.index).to_numpy(dtype=float)
    weights, almost = np.full((len(dates), matrix.shape[1]), np.nan), []
    for row, end in enumerate(returns.index.get_indexer(dates) + 1 - lag_sessions):
        if end >= window:
            weights[row], is_solved = _simulated(matrix[end - window : end], target[end - window : end])
            almost += [] if is_solved else [dates[row]]
    result = pd.DataFrame(weights, index=dates, columns=returns.columns)
    result.attrs[ALMOST_SOLVED] = almost
    return result


def _solve(returns: np.ndarray, fund: np.ndarray) -> tuple[np.ndarray, bool]:
    # imported here: half a second that only this step needs
    import clarabel
    from scipy import sparse

    k = returns.shape[1]
    # daily returns are of order 0.01, their products 1e-4: unscaled, the solver's absolute tolerance would be coarse
    scale = float(np.mean(returns**2)) * len(returns) or 1.0
    quadratic = sparse.csc_matrix(np.triu(returns.T @ returns / scale))
    linear = -(returns.T @ fund) / scale
    constraints = sparse.vstack([-sparse.identity(k), np.ones((1, k))], format="csc")
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    cones = [clarabel.NonnegativeConeT(k + 1)]
    bounds = np.append(np.zeros(k), 1.0)
    solution = clarabel.DefaultSolver(quadratic, linear, constraints, bounds, cones, settings).solve()
    if solution.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
        raise ArithmeticError(f"simulated holdings: the solver ended with {solution.status}")
    # an interior-point solution touches its bounds to about 1e-10 only
    weights = np.clip(solution.x, 0, None)
    return weights / max(1.0, weights.sum()), solution.status == clarabel.SolverStatus.Solved
