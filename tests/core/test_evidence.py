from collections.abc import Callable
from itertools import combinations, product
from math import e, erf, exp, log1p, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike
from scipy import stats

from etf_pipeline.core.composite import rank_descending, select_top
from etf_pipeline.core.evidence import (
    annual_excess,
    bootstrap_band,
    date_correlation,
    deflated_probability,
    deflated_sharpe,
    ic_summary,
    mean_correlation,
    random_picks_p_value,
    random_picks_p_values,
    rank_ic,
)

# few distinct values, so that ties are common
TIED = st.one_of(st.just(np.nan), st.integers(-3, 3).map(float))
PAIR = arrays(float, st.tuples(st.just(2), st.integers(1, 5), st.integers(1, 12)), elements=TIED)


def wide(values: ArrayLike) -> pd.DataFrame:
    array = np.asarray(values, dtype=float)
    dates = pd.date_range("2020-01-03", periods=len(array), freq="14D", name="signal_date")
    return pd.DataFrame(array, index=dates, columns=[f"CI005{i + 1:03d}" for i in range(array.shape[1])])


def top(scores: pd.DataFrame, n: int) -> pd.DataFrame:
    return select_top(rank_descending(scores), n)


def by_row(
    a: pd.DataFrame, b: pd.DataFrame, correlate: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[list[float], list[int]]:
    """Correlation and number of industries of each row, one row after the other."""
    values, counts = [], []
    for x, y in zip(a.to_numpy(), b.to_numpy(), strict=True):
        both = [(u, v) for u, v in zip(x, y, strict=True) if u == u and v == v]
        u, v = np.array(both).reshape(-1, 2).T
        enough = len(both) >= 3 and len(set(u)) > 1 and len(set(v)) > 1
        values.append(correlate(u, v) if enough else np.nan)
        counts.append(len(both))
    return values, counts


# Rank correlations -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(PAIR)
def test_rank_ic_is_spearman_of_each_row(pair: np.ndarray) -> None:
    scores, returns = wide(pair[0]), wide(pair[1])
    ic, counts = by_row(scores, returns, lambda u, v: stats.spearmanr(u, v).statistic)
    result = rank_ic(scores, returns)
    np.testing.assert_allclose(result["ic"], ic, atol=1e-12)
    assert result["industries"].tolist() == counts
    assert result.index.equals(scores.index)


@settings(deadline=None, max_examples=60)
@given(PAIR)
def test_date_correlation_is_pearson_of_each_row(pair: np.ndarray) -> None:
    a, b = wide(pair[0]), wide(pair[1])
    correlations, counts = by_row(a, b, lambda u, v: float(np.corrcoef(u, v)[0, 1]))
    result = date_correlation(a, b, 1e-9)
    np.testing.assert_allclose(result["correlation"], correlations, atol=1e-12)
    assert result["industries"].tolist() == counts
    known = [c for c in correlations if c == c]
    mean, dates = mean_correlation(a, b, 1e-9)
    assert dates == len(known)
    assert mean == pytest.approx(sum(known) / len(known) if known else np.nan, abs=1e-12, nan_ok=True)


def test_rank_ic_by_hand() -> None:
    scores = wide([[1.0, 2.0, 3.0, 9.0], [1.0, 2.0, 3.0, np.nan], [1.0, 2.0, np.nan, np.nan], [5.0, 5.0, 5.0, 5.0]])
    returns = wide([[0.1, 0.2, 5.0, np.nan], [0.1, -0.2, 0.0, 0.3], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    result = rank_ic(scores, returns)
    np.testing.assert_allclose(result["ic"], [1, -0.5, np.nan, np.nan])
    assert result["industries"].tolist() == [3, 3, 2, 4]


def test_labels_decide_what_belongs_together() -> None:
    rng = np.random.default_rng(3)
    scores, returns = wide(rng.normal(size=(4, 8))), wide(rng.normal(size=(4, 8)))
    expected = rank_ic(scores, returns)
    pd.testing.assert_frame_equal(rank_ic(scores, returns.iloc[::-1, ::-1]), expected)
    short = rank_ic(scores, returns.iloc[1:, :-1])
    assert short["industries"].tolist() == [0, 7, 7, 7]
    np.testing.assert_allclose(short["ic"].iloc[1:], rank_ic(scores.iloc[1:, :-1], returns.iloc[1:, :-1])["ic"])
    assert np.isnan(short["ic"].iloc[0])


@settings(deadline=None, max_examples=60)
@given(arrays(float, st.integers(0, 30), elements=st.one_of(st.just(np.nan), st.integers(-9, 9).map(lambda i: i / 9))))
def test_ic_summary(values: np.ndarray) -> None:
    summary = ic_summary(pd.Series(values))
    known = values[~np.isnan(values)]
    n = len(known)
    assert summary["dates"] == n
    assert summary["mean_ic"] == pytest.approx(known.mean() if n else np.nan, nan_ok=True)
    assert summary["std_ic"] == pytest.approx(known.std(ddof=1) if n > 1 else np.nan, nan_ok=True, abs=1e-12)
    assert summary["positive_ratio"] == pytest.approx(sum(known > 0) / n if n else np.nan, nan_ok=True)
    t = stats.ttest_1samp(known, 0).statistic if len(set(known)) > 1 else np.nan
    assert summary["t_statistic"] == pytest.approx(t, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("beta", [0.5, -0.5, 0.0])
def test_a_planted_factor_is_found(beta: float) -> None:
    rng = np.random.default_rng(11)
    factor, noise = rng.normal(size=(2, 300, 30))
    market = rng.normal(size=(300, 1))
    ic = rank_ic(wide(factor), wide(0.02 * (beta * factor + noise + 3 * market)))["ic"]
    # Spearman of a bivariate normal with correlation ρ is 6/π asin(ρ/2); one date is good to 1/√29
    correlation = beta / sqrt(1 + beta**2)
    summary = ic_summary(ic)
    assert summary["mean_ic"] == pytest.approx(6 / np.pi * np.arcsin(correlation / 2), abs=4 / sqrt(29 * 300))
    assert (abs(summary["t_statistic"]) > 10) == (beta != 0)
    assert summary["positive_ratio"] == pytest.approx({0.5: 0.99, -0.5: 0.01, 0.0: 0.5}[beta], abs=0.1)


# Random picks ----------------------------------------------------------------------------------------------------


def many_p_values(seeds: int, edge: float) -> np.ndarray:
    """p of portfolios picked by a factor worth `edge`, industries of unlike risk; another history for every seed."""
    p_values = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 1])
        factor, noise = rng.normal(size=(2, 30, 12))
        returns = 0.02 * rng.normal(size=(30, 1)) + 0.03 * (edge * factor + np.linspace(0.5, 2, 12) * noise)
        p_values.append(random_picks_p_value(wide(returns), top(wide(factor), 3), 199, seed))
    return np.array(p_values)


@pytest.fixture(scope="module")
def null_p_values() -> np.ndarray:
    return many_p_values(300, edge=0.0)


def test_without_an_edge_p_is_uniform(null_p_values: np.ndarray) -> None:
    assert stats.kstest(null_p_values, "uniform").pvalue > 0.01
    # each tail too: a test that is wrong there is wrong where it matters
    assert stats.binomtest(int((null_p_values <= 0.1).sum()), 300, 0.1).pvalue > 0.01
    assert stats.binomtest(int((null_p_values > 0.9).sum()), 300, 0.1).pvalue > 0.01


def test_a_p_value_off_by_a_little_would_be_noticed(null_p_values: np.ndarray) -> None:
    for wrong in (0.8 * null_p_values, np.minimum(null_p_values + 0.15, 1), null_p_values**1.5):
        assert stats.kstest(wrong, "uniform").pvalue < 0.01
    assert stats.kstest(many_p_values(200, edge=0.1), "uniform").pvalue < 0.01


def test_an_edge_gives_a_tiny_p() -> None:
    rng = np.random.default_rng(5)
    factor, noise = rng.normal(size=(2, 100, 30))
    returns = wide(0.03 * (0.3 * factor + noise))
    assert random_picks_p_value(returns, top(wide(factor), 6), 999, 0) == 1 / 1000
    assert random_picks_p_value(returns, top(wide(-factor), 6), 999, 0) == 1


# rows with a tie and with two industries that cannot be picked
TINY = np.array([[0.10, -0.05, 0.02, 0.02, np.nan, np.nan], [-0.20, 0.15, 0.01, 0.30, np.nan, np.nan]])


@pytest.mark.parametrize("first", list(combinations(range(4), 2)))
@pytest.mark.parametrize("second", [(0, 2), (1, 2), (1, 3)])
def test_equals_enumeration(first: tuple[int, int], second: tuple[int, int]) -> None:
    def growth(picks: tuple[tuple[int, int], ...]) -> float:
        return sum(log1p((row[i] + row[j]) / 2) for row, (i, j) in zip(TINY, picks, strict=True))

    everything = [growth(picks) for picks in product(combinations(range(4), 2), repeat=2)]
    exact = np.mean([value >= growth((first, second)) - 1e-12 for value in everything])
    held = wide(np.zeros((2, 6))).astype(bool)
    for row, picks in enumerate((first, second)):
        held.iloc[row, list(picks)] = True
    draws = 4000
    estimate = (random_picks_p_value(wide(TINY), held, draws, 8) * (1 + draws) - 1) / draws
    assert estimate == pytest.approx(exact, abs=4 * sqrt(exact * (1 - exact) / draws) + 1e-12)


def test_sizes_may_differ_by_date() -> None:
    # one of three on the first date, two of three on the second: 9 equally likely histories
    returns = wide([[0.1, 0.2, 0.4], [0.1, 0.2, 0.4]])
    held = wide([[0, 1, 0], [1, 0, 1]]).astype(bool)
    exact = np.mean([(1 + a) * (1 + b) >= 1.2 * 1.25 - 1e-12 for a in (0.1, 0.2, 0.4) for b in (0.15, 0.25, 0.3)])
    assert random_picks_p_value(returns, held, 4000, 0) == pytest.approx(exact, abs=0.03)


def test_all_industries_held_is_one_tie() -> None:
    returns = wide(np.random.default_rng(0).normal(0, 0.05, (200, 30)))
    assert random_picks_p_value(returns, returns.notna(), 300, 0) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.data())
def test_names_and_order_do_not_matter(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    returns = wide(rng.normal(0, 0.03, (12, 7))).mask(rng.random((12, 7)) < 0.2)
    held = top(wide(rng.normal(size=(12, 7))).where(returns.notna()), 2)
    p = random_picks_p_value(returns, held, 99, seed)
    order = data.draw(st.permutations(list(returns.columns)))
    renamed = dict(zip(returns.columns, order, strict=True))
    assert random_picks_p_value(returns, held[order], 99, seed) == p
    assert random_picks_p_value(returns[order], held, 99, seed) == p
    other_names = returns.rename(columns=renamed)[sorted(order)]
    assert random_picks_p_value(other_names, held.rename(columns=renamed), 99, seed) == p
    # nor does an industry that cannot be picked
    assert random_picks_p_value(returns.assign(CI005099=np.nan), held, 99, seed) == p


def test_several_portfolios_equal_each_alone() -> None:
    rng = np.random.default_rng(2)
    # large enough for several chunks, whose draws must not repeat
    returns = wide(rng.normal(0, 0.03, (100, 100)))
    held = {f"top_{n}": top(wide(rng.normal(size=(100, 100))), n) for n in (1, 3, 7)}
    held["late"] = held["top_3"].iloc[50:]
    together = random_picks_p_values(returns, held, 1700, 4)
    assert together == {name: random_picks_p_value(returns, frame, 1700, 4) for name, frame in held.items()}
    assert together == random_picks_p_values(returns, held, 1700, 4)
    assert together != random_picks_p_values(returns, held, 1700, 5)
    assert len(set(together.values())) == 4


def test_chunks_do_not_repeat_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    returns, held = wide(rng.normal(0, 0.03, (4, 10))), top(wide(rng.normal(size=(4, 10))), 3)
    whole = random_picks_p_value(returns, held, 20_000, 0)
    monkeypatch.setattr("etf_pipeline.core.evidence._CHUNK", 400)  # ten histories at a time
    assert random_picks_p_value(returns, held, 20_000, 0) == pytest.approx(whole, abs=5 * sqrt(0.5 / 20_000))


def test_dates_that_do_not_count() -> None:
    rng = np.random.default_rng(9)
    returns = wide(rng.normal(0, 0.03, (6, 8)))
    held = top(wide(rng.normal(size=(6, 8))), 3)
    held.iloc[2] = False  # nothing held
    unpriced = returns.copy()
    unpriced.iloc[4, int(np.flatnonzero(held.iloc[4])[0])] = np.nan
    unpriced.iloc[5] = np.nan  # the open period
    fewer = held.copy()
    fewer.iloc[4:] = False
    assert random_picks_p_value(unpriced, held, 999, 1) == random_picks_p_value(unpriced, fewer, 999, 1)
    # an industry the returns do not know has no return
    unknown = held.assign(CI005099=[False] * 4 + [True] * 2)
    assert random_picks_p_value(returns, unknown, 999, 1) == random_picks_p_value(returns, fewer, 999, 1)
    assert np.isnan(random_picks_p_value(returns * np.nan, held, 9, 1))
    assert np.isnan(random_picks_p_value(returns, held & False, 9, 1))
    assert np.isnan(random_picks_p_value(returns.iloc[:0], held, 9, 1))
    assert random_picks_p_values(returns, {}, 9, 1) == {}


def test_random_picks_refuse() -> None:
    returns, held = wide([[0.1, 0.2]]), wide([[1, 0]]).astype(bool)
    with pytest.raises(ValueError, match="at least one draw"):
        random_picks_p_value(returns, held, 0, 0)
    with pytest.raises(ValueError, match="must be bool"):
        random_picks_p_value(returns, held.astype(float), 9, 0)
    with pytest.raises(ValueError, match="must be bool"):
        random_picks_p_value(returns, held.astype("boolean"), 9, 0)
    for bad in (-1.0, np.inf):
        with pytest.raises(ValueError, match="-100 %"):
            random_picks_p_value(returns.replace(0.2, bad), held, 9, 0)


# Bootstrap band --------------------------------------------------------------------------------------------------


def history(seed: int, n: int = 100, noise: float = 0.01, mean: float = 0.002) -> tuple[pd.Series, pd.Series]:
    """Returns and benchmark with a log excess of `mean` a period."""
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2020-01-03", periods=n, freq="14D")
    benchmark = pd.Series(rng.normal(0.003, 0.03, n), index=dates)
    log_excess = pd.Series(rng.normal(mean, noise, n), index=dates)
    return benchmark + (1 + benchmark) * np.expm1(log_excess), benchmark


def test_annual_excess_is_geometric() -> None:
    returns, benchmark = history(1, n=39)
    years = 39 / 26
    grown, benchmark_grown = np.prod(1 + returns), np.prod(1 + benchmark)
    expected = grown ** (1 / years) / benchmark_grown ** (1 / years) - 1
    assert annual_excess(returns, benchmark, 26) == pytest.approx(expected, rel=1e-12)
    assert annual_excess(pd.Series([0.1, np.nan, 0.3]), pd.Series([0.0, 0.2]), 2) == pytest.approx(1.1**2 - 1)
    assert np.isnan(annual_excess(pd.Series([np.nan]), pd.Series([0.1]), 26))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(20, 80), st.integers(1, 10))
def test_band_holds_the_estimate(seed: int, n: int, mean_block: int) -> None:
    returns, benchmark = history(seed, n)
    low, high = bootstrap_band(returns, benchmark, 200, mean_block, seed, 26)
    assert low < annual_excess(returns, benchmark, 26) < high
    assert bootstrap_band(returns, benchmark, 200, mean_block, seed, 26) == (low, high)
    assert bootstrap_band(returns, benchmark, 200, mean_block, seed + 1, 26) != (low, high)
    inner = bootstrap_band(returns, benchmark, 200, mean_block, seed, 26, level=0.5)
    assert low < inner[0] < inner[1] < high


def test_band_grows_with_noise() -> None:
    widths = [np.ptp(bootstrap_band(*history(3, noise=noise), 500, 3, 0, 26)) for noise in (0.005, 0.01, 0.02)]
    # the same draws of noise, scaled: in logarithms exactly twice as wide each time
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.15)
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.15)
    same = history(3, noise=0.0)
    assert np.ptp(bootstrap_band(*same, 100, 3, 0, 26)) == pytest.approx(0, abs=1e-12)


def test_band_covers_the_truth() -> None:
    truth = exp(26 * 0.002) - 1
    bands = np.array([bootstrap_band(*history(seed), 199, 2, seed, 26) for seed in range(200)])
    below, above = (bands[:, 1] < truth).mean(), (bands[:, 0] > truth).mean()
    assert 0.84 <= 1 - below - above <= 0.95
    assert max(below, above) <= 0.1  # misses on both sides


def test_band_width_knows_dependence() -> None:
    # neighbours of a moving sum share noise: blocks see it, single draws do not
    returns, benchmark = history(7, n=400)
    log_excess = (np.log1p(returns) - np.log1p(benchmark)).rolling(6).sum().dropna()
    smooth = np.expm1(log_excess / 6)
    nothing = smooth * 0
    single, blocks = (np.ptp(bootstrap_band(smooth, nothing, 500, block, 0, 26)) for block in (1, 12))
    assert 1.5 < blocks / single < 3  # √6 = 2.4 with endless blocks


def test_band_needs_two_periods() -> None:
    returns, benchmark = history(1, n=3)
    returns.iloc[0] = benchmark.iloc[1] = np.nan
    assert np.isnan(bootstrap_band(returns, benchmark, 50, 2, 0, 26)).all()
    assert np.isnan(bootstrap_band(returns.iloc[:0], benchmark, 50, 2, 0, 26)).all()
    assert np.isfinite(bootstrap_band(*history(1, n=2), 50, 6, 0, 26)).all()


def test_missing_periods_are_left_out() -> None:
    returns, benchmark = history(2, n=40)
    expected = bootstrap_band(returns.drop(returns.index[7]), benchmark, 50, 3, 0, 26)
    returns.iloc[7] = np.nan
    assert bootstrap_band(returns, benchmark, 50, 3, 0, 26) == expected


@pytest.mark.parametrize("bad", [{"draws": 0}, {"mean_block": 0}, {"level": 1.0}, {"level": 0.0}])
def test_band_refuses(bad: dict[str, float]) -> None:
    arguments: dict[str, Any] = {"draws": 10, "mean_block": 2, "seed": 0, "periods_per_year": 26} | bad
    with pytest.raises(ValueError, match="out of range"):
        bootstrap_band(*history(1), **arguments)


def test_annual_excess_refuses() -> None:
    with pytest.raises(ValueError, match="periods per year"):
        annual_excess(*history(1), 0)
    with pytest.raises(ValueError, match="-100 %"):
        annual_excess(pd.Series([-1.0]), pd.Series([0.0]), 26)


# Deflated Sharpe ratio -------------------------------------------------------------------------------------------


def plain_deflated(excess: list[float], trial_sharpes: list[float]) -> float:
    """The paper's formulas in scalars, moments by hand."""
    t, n = len(excess), len(trial_sharpes)
    mean = sum(excess) / t
    m2, m3, m4 = (sum((x - mean) ** k for x in excess) / t for k in (2, 3, 4))
    sharpe = mean / sqrt(m2 * t / (t - 1))
    skewness, kurtosis = m3 / m2**1.5, m4 / m2**2
    middle = sum(trial_sharpes) / n
    variance = sum((s - middle) ** 2 for s in trial_sharpes) / (n - 1)
    gamma = 0.5772156649015329
    inverse = NormalDist().inv_cdf
    best = sqrt(variance) * ((1 - gamma) * inverse(1 - 1 / n) + gamma * inverse(1 - 1 / (n * e)))
    z = (sharpe - best) * sqrt(t - 1) / sqrt(1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    return (1 + erf(z / sqrt(2))) / 2


@pytest.mark.parametrize(
    ("skewness", "kurtosis", "trials", "expected"),
    [(-3, 10, 100, 0.9004), (-3, 10, 46, 0.9505), (0, 3, 88, 0.9505)],
)
def test_the_example_of_the_paper(skewness: float, kurtosis: float, trials: int, expected: float) -> None:
    # annualised: Sharpe ratio 2.5, variance of the trials 1/2; five years of 250 days
    result = deflated_sharpe(2.5 / sqrt(250), 1250, skewness, kurtosis, 0.5 / 250, trials)
    assert result == pytest.approx(expected, abs=5e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(5, 200), st.integers(2, 60), st.floats(-0.3, 0.5))
def test_deflated_probability_equals_the_plain_formula(seed: int, periods: int, trials: int, mean: float) -> None:
    rng = np.random.default_rng(seed)
    excess = 0.01 * (mean + rng.standard_t(4, periods))
    sharpes = rng.normal(0.05, 0.1, trials)
    result = deflated_probability(pd.Series([*excess, np.nan]), np.array([np.nan, *sharpes]))
    assert result == pytest.approx(plain_deflated(excess.tolist(), sharpes.tolist()), abs=1e-9)
    assert deflated_probability(pd.Series(100 * excess), sharpes) == pytest.approx(result, abs=1e-9)


def test_more_trials_raise_the_bar() -> None:
    by_trials = [deflated_sharpe(0.2, 150, -0.2, 4, 0.005, trials) for trials in (2, 3, 5, 10, 30, 100, 1000)]
    assert (np.diff(by_trials) < 0).all()
    by_variance = [deflated_sharpe(0.2, 150, -0.2, 4, variance, 10) for variance in (0, 0.001, 0.01)]
    assert (np.diff(by_variance) < 0).all()
    assert by_variance[0] == pytest.approx(NormalDist().cdf(0.2 * sqrt(149 / (1 + 0.04 + 0.03))))


def test_best_of_many_lucky_strategies() -> None:
    # the best of 20 worthless, independent strategies is as likely above as below what luck leads one to expect of it
    rng = np.random.default_rng(12)
    probabilities, naive = [], []
    for _ in range(200):
        excess = rng.normal(0, 0.02, (100, 20))
        sharpes = excess.mean(axis=0) / excess.std(axis=0, ddof=1)
        winner = pd.Series(excess[:, sharpes.argmax()])
        probabilities.append(deflated_probability(winner, sharpes))
        naive.append(deflated_sharpe(float(sharpes.max()), 100, 0, 3, 0, 2))
    assert np.mean(probabilities) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(probabilities) > 0.95) < 0.1
    assert np.mean(np.array(naive) > 0.95) > 0.5


@pytest.mark.parametrize(
    ("excess", "trials"),
    [([], [0.1, 0.2]), ([0.1], [0.1, 0.2]), ([0.1, 0.1, 0.1], [0.1, 0.2]), ([0.1, 0.2, 0.4], [0.1, np.nan])],
)
def test_not_computable(excess: list[float], trials: list[float]) -> None:
    assert np.isnan(deflated_probability(pd.Series(excess, dtype=float), np.array(trials)))


def test_deflated_sharpe_not_computable() -> None:
    assert np.isnan(deflated_sharpe(np.nan, 100, 0, 3, 0.01, 10))
    assert np.isnan(deflated_sharpe(1.0, 100, 2, 5, 0.01, 10))  # nothing under the root
    assert np.isnan(deflated_sharpe(0.1, 1, 0, 3, 0.01, 10))
    assert deflated_sharpe(0.1, 100, 0, 3, 0.0, 10) == deflated_sharpe(0.1, 100, 0, 3, 0.0, 99)
