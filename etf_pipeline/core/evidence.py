"""How much of a result could be luck: rank correlations, random picks, bootstrap bands, deflated Sharpe ratios.

Wide frames are signal dates × industry codes, every date standing for the holding period that follows it; returns are
fractions of one period. Here: the statistics. Not here: which returns belong to a date, which spans and portfolios are
looked at, and the parameters (`parameters.yaml`).

Timing: everything here looks back. A value is known once the last return it uses is, and none may enter a signal.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from etf_pipeline.core.composite import zscore

# Sums of the same numbers in another order differ by about 1e-14; returns closer than this are a tie.
_TIE = 1e-10
# Numbers held at once while drawing: 64 MB.
_CHUNK = 8_000_000


def date_correlation(a: pd.DataFrame, b: pd.DataFrame, spread_minimum_ratio: float) -> pd.DataFrame:
    """Pearson correlation across industries, date by date.

    Args:
        a, b: wide, any unit. Dates and columns are those of `a`; what `b` lacks is missing.
        spread_minimum_ratio: what counts as spread, as in `zscore`.

    Returns:
        One row per date of `a`: `correlation` (−1 to 1) and `industries` (those with both values, int). The correlation
        is NaN with fewer than three industries or where either side has no spread among them.
    """
    other = b.reindex(index=a.index, columns=a.columns)
    known = a.notna() & other.notna()
    industries = known.sum(axis=1)
    left, right = (zscore(side.where(known), spread_minimum_ratio) for side in (a, other))
    products = left * right
    # an exact relation can come out as 1 + 2e-16
    correlation = (products.sum(axis=1, min_count=1) / (industries - 1)).clip(-1, 1).where(industries >= 3)
    return pd.DataFrame({"correlation": correlation, "industries": industries})


def mean_correlation(a: pd.DataFrame, b: pd.DataFrame, spread_minimum_ratio: float) -> tuple[float, int]:
    """Mean over the dates of `date_correlation`, and the number of dates that have one; (NaN, 0) without any."""
    correlation = date_correlation(a, b, spread_minimum_ratio)["correlation"]
    return float(correlation.mean()), int(correlation.count())


def rank_ic(scores: pd.DataFrame, returns: pd.DataFrame) -> pd.DataFrame:
    """Spearman correlation across industries of scores with the returns that followed, date by date.

    Args:
        scores: wide, any unit, known at the date.
        returns: wide, of the period after the date. Dates and columns it lacks are missing.

    Returns:
        One row per date of `scores`: `ic` (−1 to 1) and `industries` (those with both, int). Equal values share the
        mean of their ranks. The ic is NaN with fewer than three industries or where either side has no spread.
    """
    later = returns.reindex(index=scores.index, columns=scores.columns)
    # ranks among the industries with both: one without a return must not move the ranks of the others
    ranked, followed = (side.where(scores.notna() & later.notna()).rank(axis=1) for side in (scores, later))
    # ranks have no rounding
    return date_correlation(ranked, followed, spread_minimum_ratio=0).rename(columns={"correlation": "ic"})


def ic_summary(ic: pd.Series) -> dict[str, float]:
    """How steady a correlation per date is; dates without one are left out.

    Returns:
        `dates` (int), `mean_ic`, `std_ic` (ddof 1), `t_statistic` (mean over its standard error, which takes the
        dates as independent) and `positive_ratio` (part of the dates above zero). NaN where not computable: everything
        but `dates` without a date, deviation and t with one date, t without spread.
    """
    known = ic.dropna().astype(float)
    mean, deviation = known.mean(), known.std(ddof=1)
    # equal values can leave a deviation of 1e-17 instead of 0, so spread is judged on the values themselves
    spread = known.max() > known.min()
    return {
        "dates": len(known),
        "mean_ic": float(mean),
        "std_ic": float(deviation),
        "t_statistic": float(mean / deviation * np.sqrt(len(known))) if spread else np.nan,
        "positive_ratio": float(known.gt(0).mean()),
    }


def random_picks_p_value(period_returns: pd.DataFrame, held: pd.DataFrame, draws: int, seed: int) -> float:
    """`random_picks_p_values` of one portfolio."""
    return random_picks_p_values(period_returns, {"portfolio": held}, draws, seed)["portfolio"]


def random_picks_p_values(
    period_returns: pd.DataFrame, held: Mapping[str, pd.DataFrame], draws: int, seed: int
) -> dict[str, float]:
    """Part of random picks that earned at least as much as the portfolio: one-sided p of a permutation test.

    Args:
        period_returns: wide, fraction per period, NaN where unknown.
        held: per portfolio a wide bool frame of the industries held, equally weighted. Dates without any True do not
            count; nor do those on which a held industry has no return (the open last period, for one).
        draws: random histories.
        seed: same seed, same p; a portfolio's p does not depend on the others it is computed with.

    A random history picks on each of these dates as many industries as the portfolio holds, without replacement, from
    those with a return on the date. Compared is the compounded return: the sum over dates of log(1 + mean return of the
    picks). p = (1 + histories at least as good) / (1 + draws), so never 0; ties count against the portfolio. NaN
    without a date that counts.

    The picks are independent from date to date. Under luck of that kind p is uniform; a portfolio that keeps its
    industries while their returns trend is spread more widely than the draws, and its p goes to either extreme too
    often.

    Raises:
        ValueError: `draws` below 1, a return of −100 % or less or infinite, or holdings that are not bool.

    Source: Phipson & Smyth, Permutation p-values should never be zero (2010), for the ones added.
    """
    if draws < 1:
        raise ValueError(f"at least one draw is needed, got {draws}")
    returns = period_returns.to_numpy(dtype=float)
    _check_returns(returns)
    sizes, actual = {}, {}
    for name, frame in held.items():
        picked, sizes[name] = _holdings(period_returns, frame, name)
        dates = sizes[name] > 0
        means = np.where(picked, returns, 0).sum(axis=1)[dates] / sizes[name][dates]
        actual[name] = np.log1p(means).sum()
    as_good = dict.fromkeys(held, 0)
    step = max(1, _CHUNK // max(1, returns.size))
    for start in range(0, draws, step):
        drawn = _random_growth(returns, sizes, min(step, draws - start), np.random.default_rng([seed, start]))
        for name, growth in drawn.items():
            as_good[name] += int((growth >= actual[name] - _TIE).sum())
    return {name: (1 + as_good[name]) / (1 + draws) if sizes[name].any() else np.nan for name in held}


def _holdings(period_returns: pd.DataFrame, held: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Industries held with a return (dates × industries), and how many per date: 0 where the date does not count."""
    # not the nullable kind either: a missing holding would have to be guessed
    if any(str(dtype) != "bool" for dtype in held.dtypes):
        raise ValueError(f"holdings of {name} must be bool")
    index, columns = period_returns.index, period_returns.columns
    picked = held.reindex(index=index, columns=columns, fill_value=False) & period_returns.notna()
    # counted before columns are dropped: an industry unknown to the returns has none
    size = held.sum(axis=1).reindex(index, fill_value=0)
    return picked.to_numpy(), size.where(picked.sum(axis=1) == size, 0).to_numpy()


def _random_growth(
    returns: np.ndarray, sizes: Mapping[str, np.ndarray], draws: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Sum of log(1 + mean of the picks) of each draw, for portfolios with `sizes` picks per date.

    A shuffle stopped early: the first k places of the shuffled industries are a random choice of k, so portfolios of
    different sizes share it.
    """
    dates, industries = returns.shape
    growth = {name: np.zeros(draws) for name in sizes}
    known = (~np.isnan(returns)).sum(axis=1)
    # sorted, industries without a return come last and the order of the columns does not matter
    pool = np.tile(np.sort(returns, axis=1).ravel(), draws)
    first = np.arange(draws * dates).reshape(draws, dates) * industries
    total = np.zeros((draws, dates))
    for taken in range(max((int(size.max(initial=0)) for size in sizes.values()), default=0)):
        # dates with nothing left draw missing values that no portfolio asks for
        place = first + taken + (rng.random((draws, dates)) * np.maximum(known - taken, 1)).astype(np.int64)
        total += pool[place]
        pool[place] = pool[first + taken]
        for name, size in sizes.items():
            complete = size == taken + 1
            if complete.any():
                growth[name] += np.log1p(total[:, complete] / (taken + 1)).sum(axis=1)
    return growth


def annual_excess(returns: pd.Series, benchmark_returns: pd.Series, periods_per_year: float) -> float:
    """Geometric excess per year, (1 + annual return) / (1 + annual benchmark return) − 1, as a fraction.

    Args:
        returns, benchmark_returns: fraction per period, by date; dates lacking either are left out.
        periods_per_year: holding periods that make a year.

    NaN without a date.

    Raises:
        ValueError: a return of −100 % or less or infinite; `periods_per_year` not positive.

    Source: strategy specification, section 7.
    """
    excess = _log_excess(returns, benchmark_returns)
    # numpy warns of the mean of nothing
    return float(_annualised(excess.mean() if excess.size else np.nan, periods_per_year))


def bootstrap_band(
    returns: pd.Series,
    benchmark_returns: pd.Series,
    draws: int,
    mean_block: int,
    seed: int,
    periods_per_year: float,
    level: float = 0.9,
) -> tuple[float, float]:
    """Band of `annual_excess` by the stationary block bootstrap: (low, high), fractions per year.

    Args:
        returns, benchmark_returns: fraction per period, by date ascending; dates lacking either are left out, and their
            neighbours become neighbours.
        draws: resampled histories.
        mean_block: periods in a block, on average; blocks keep the dependence of neighbouring periods.
        seed: same seed, same band.
        periods_per_year: holding periods that make a year.
        level: part of the resampled histories inside; as many lie below the band as above.

    NaN with fewer than two periods. With fewer than some ten blocks in the history the band is too narrow.

    Raises:
        ValueError: `draws` or `mean_block` below 1, `level` not between 0 and 1, and as `annual_excess`.

    Source: Politis & Romano, The Stationary Bootstrap (1994), as in the library `arch`; percentile interval.
    """
    if draws < 1 or mean_block < 1 or not 0 < level < 1:
        raise ValueError(f"bootstrap out of range: {draws} draws, blocks of {mean_block}, level {level}")
    excess = _log_excess(returns, benchmark_returns)
    if len(excess) < 2:
        return np.nan, np.nan
    # imported here: with statsmodels behind it, it takes a second that every start of Dagster would pay
    from arch.bootstrap import StationaryBootstrap

    means = StationaryBootstrap(mean_block, excess, seed=seed).apply(np.mean, draws)
    low, high = _annualised(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]), periods_per_year)
    return float(low), float(high)


def _log_excess(returns: pd.Series, benchmark_returns: pd.Series) -> np.ndarray:
    """log(1 + return) − log(1 + benchmark return) of the dates with both: its mean is all a geometric excess needs."""
    both = pd.concat([returns, benchmark_returns], axis=1, join="inner").dropna().to_numpy(dtype=float)
    _check_returns(both)
    logs = np.log1p(both)
    return logs[:, 0] - logs[:, 1]


def _annualised(mean_log_excess: float | np.ndarray, periods_per_year: float) -> np.ndarray:
    if not 0 < periods_per_year < np.inf:
        raise ValueError(f"periods per year must be positive, got {periods_per_year}")
    return np.expm1(periods_per_year * mean_log_excess)


def _check_returns(returns: np.ndarray) -> None:
    if ((returns <= -1) | np.isinf(returns)).any():
        raise ValueError("a return is -100 % or less, or infinite")


def deflated_sharpe(
    sharpe: float, periods: int, skewness: float, kurtosis: float, trial_variance: float, trials: int
) -> float:
    """Probability that the true Sharpe ratio is above the best that luck alone would show in `trials` trials.

        best = √V · ((1 − γ) Φ⁻¹(1 − 1/N) + γ Φ⁻¹(1 − 1/(N e)))
        probability = Φ((S − best) · √(T − 1) / √(1 − skewness · S + (kurtosis − 1)/4 · S²))

    Args:
        sharpe: S, mean over standard deviation of one period, not annualised.
        periods: T.
        skewness, kurtosis: of the period's excess; a normal one has 0 and 3.
        trial_variance: V, variance of the trials' Sharpe ratios, each of one period.
        trials: N. γ is Euler's constant.

    The formula takes the trials as independent with true ratios of zero. Trials much like each other have a small V
    and set a low bar: the probability is then too high.

    NaN with fewer than two periods or trials, a missing argument, or nothing under the root.

    Source: Bailey & López de Prado, The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5), 2014.
    """
    from scipy.special import ndtr, ndtri

    error = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if periods < 2 or trials < 2 or not error > 0:
        return np.nan
    quantiles = -ndtri([1 / trials, 1 / (trials * np.e)])
    best = np.sqrt(trial_variance) * (quantiles @ [1 - np.euler_gamma, np.euler_gamma])
    return float(ndtr((sharpe - best) * np.sqrt((periods - 1) / error)))


def deflated_probability(excess_returns: pd.Series, trial_sharpes: np.ndarray | pd.Series) -> float:
    """`deflated_sharpe` of the excess returns, given the Sharpe ratios of everything that was tried.

    Args:
        excess_returns: one period each, fractions; missing periods are left out. Their Sharpe ratio has a standard
            deviation with ddof 1, skewness and kurtosis are plain moments.
        trial_sharpes: ratios of one period each (not annualised), ddof 1; missing ones do not count as trials.

    NaN with fewer than two periods or trials, or periods without spread.
    """
    from scipy import stats

    excess = excess_returns.dropna().to_numpy(dtype=float)
    trials = np.asarray(trial_sharpes, dtype=float)
    trials = trials[~np.isnan(trials)]
    if len(excess) < 2 or len(trials) < 2 or excess.max() <= excess.min():
        return np.nan
    return deflated_sharpe(
        sharpe=float(excess.mean() / excess.std(ddof=1)),
        periods=len(excess),
        skewness=float(stats.skew(excess)),
        kurtosis=float(stats.kurtosis(excess, fisher=False)),
        trial_variance=float(trials.var(ddof=1)),
        trials=len(trials),
    )
