"""Analytics assets: what the strategy would have earned, what its factors tell, and whether that could be luck.

Asset bodies read, call `core`, publish and describe. Everything here looks back: nothing of it enters the holdings.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from etf_pipeline.assets.factors import (
    active_weights,
    factor_inputs,
    factors_in_use,
    signal_dates,
    style_ratios,
    write_table,
)
from etf_pipeline.contract import load_contract
from etf_pipeline.core.backtest import BackTest, Periods, back_test, equal_weights, lay_periods
from etf_pipeline.core.calendar import rebalance_dates, sessions_between
from etf_pipeline.core.composite import quintiles
from etf_pipeline.core.evidence import (
    annual_excess,
    bootstrap_band,
    deflated_probability,
    ic_summary,
    mean_correlation,
    random_picks_p_values,
    rank_ic,
)
from etf_pipeline.core.factors import FactorInputs, level_measures, score_factors
from etf_pipeline.core.performance import FULL, performance
from etf_pipeline.core.portfolio import top_weights
from etf_pipeline.core.regime import style_regime as regime_of
from etf_pipeline.core.sensitivity import Cell, cell_results, construction_cells
from etf_pipeline.resources import workers
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Parameters
from etf_pipeline.tables import (
    BACKTEST_DAILY,
    BACKTEST_INDUSTRY,
    BACKTEST_PERIOD,
    FACTOR_CORRELATION,
    FACTOR_GROUP_DAILY,
    FACTOR_GROUP_STATS,
    FACTOR_IC,
    FACTOR_IC_SUMMARY,
    LUCK_TEST,
    PERFORMANCE,
    SENSITIVITY,
    Table,
)

GROUP = "analytics"
EXECUTIONS = {"signal_close": 0, "next_session": 1}
"""Name of each execution and the sessions it comes after the signal date."""
STYLE_TIMED = ("level", "change")
"""The two factors whose sign a style regime sets."""
GROUPS = 5
_BACKTEST_TABLES = (BACKTEST_DAILY, BACKTEST_PERIOD, BACKTEST_INDUSTRY, PERFORMANCE)
FLOW_MEASURES = ("share_change", "net_subscription")


def _spec(table: Table, *deps: tuple[str, str]) -> dg.AssetSpec:
    return dg.AssetSpec(
        dg.AssetKey([GROUP, table.name]),
        deps=[dg.AssetKey(list(dep)) for dep in deps],
        group_name=GROUP,
        description=table.description,
        kinds={"numpy"},
    )


@dataclass(frozen=True)
class History:
    """What the back-tests are made of: closes of the industries and the published scores, both up to the end."""

    pipeline: Pipeline

    @cached_property
    def closes(self) -> pd.DataFrame:
        """Closes of the scheme's industries, every session × industries; NaN where a bar is missing."""
        bars = self.pipeline.lake.read_raw(load_contract()["industry_bar"], self.pipeline.deployment.end)
        bars = bars[bars["scheme"] == self.pipeline.parameters.scheme]
        closes = bars.pivot(index="trade_date", columns="industry_code", values="close")
        industries = self._stored_scores["industry_code"].unique()
        if closes.empty:
            return closes.reindex(columns=sorted(industries))
        sessions = sessions_between(closes.index.min().date(), closes.index.max().date())
        return closes.reindex(index=sessions, columns=sorted(industries))

    def traded(self, dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The signal dates from the first close on: nothing could be bought before."""
        return dates[dates >= self.closes.index[0]] if len(self.closes) else dates[:0]

    @cached_property
    def _stored_scores(self) -> pd.DataFrame:
        return self.pipeline.lake.read_published("factor_scores")

    @cached_property
    def scores(self) -> dict[str, pd.DataFrame]:
        """Signed z-scores by factor, signal dates × industries, as far back as there are closes."""
        wide = {
            factor: self._stored_scores.pivot(index="signal_date", columns="industry_code", values=factor)
            for factor in (*factors_in_use(self.pipeline)[0], "composite")
        }
        return {factor: values.loc[self.traded(pd.DatetimeIndex(values.index))] for factor, values in wide.items()}

    @cached_property
    def periods(self) -> dict[str, Periods]:
        """Holding periods of all signal dates, by execution."""
        dates = pd.DatetimeIndex(self.scores["composite"].index)
        return {name: lay_periods(self.closes, dates, lag) for name, lag in EXECUTIONS.items()}

    @cached_property
    def weekly_returns(self) -> pd.DataFrame:
        """Return of each trading week, week ends × industries."""
        if self.closes.empty:
            return self.closes
        first, last = self.closes.index[0].date(), self.closes.index[-1].date()
        ends = rebalance_dates(first, last, self.pipeline.parameters.rebalance_anchor, every_weeks=1)
        return self.closes.ffill().loc[ends].pct_change(fill_method=None)

    @cached_property
    def benchmarks(self) -> dict[str, BackTest]:
        """All industries, equally weighted on the same dates, by execution."""
        return {name: back_test(periods, equal_weights(periods), 0.0) for name, periods in self.periods.items()}

    @cached_property
    def portfolios(self) -> dict[str, tuple[str, ...]]:
        """Factors of every portfolio that is back-tested, by its name."""
        in_use = factors_in_use(self.pipeline)[0]
        timed = {"style_timed": STYLE_TIMED} if set(STYLE_TIMED) <= set(in_use) else {}
        return {"composite": in_use, **timed, **{factor: (factor,) for factor in in_use}}

    @cached_property
    def weights(self) -> dict[str, pd.DataFrame]:
        """What each portfolio holds from each signal date."""
        p = self.pipeline.parameters
        return {
            name: top_weights(self.scores, factors, [p.top_n], p.missing_industries_limit)[p.top_n]
            for name, factors in self.portfolios.items()
        }

    @cached_property
    def spans(self) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]]:
        """First and last day of each span evidence is given for."""
        split = pd.Timestamp(self.pipeline.parameters.evidence_split)
        return {
            "full": (pd.Timestamp.min, pd.Timestamp.max),
            "before": (pd.Timestamp.min, split),
            "after": (split + pd.Timedelta(days=1), pd.Timestamp.max),
        }


@dg.multi_asset(
    name="backtest",
    specs=[_spec(table, ("factors", "factor_scores"), ("raw", "industry_bar")) for table in _BACKTEST_TABLES],
)
def backtest(pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.MaterializeResult]:
    """Back-tests of the composite, of the style-timed pair and of each factor alone, at both executions.

    A history starts with the first date that holds anything; later dates without holdings are in cash.
    """
    history = History(pipeline)
    parts: dict[str, list[pd.DataFrame]] = {}
    for portfolio in history.portfolios:
        for execution in EXECUTIONS:
            for name, frame in _back_tested(history, portfolio, execution).items():
                parts.setdefault(name, []).append(frame.assign(portfolio=portfolio, execution=execution))
    yield from _published(pipeline, {table: parts.get(table.name, []) for table in _BACKTEST_TABLES})


def _back_tested(history: History, portfolio: str, execution: str) -> dict[str, pd.DataFrame]:
    p = history.pipeline.parameters
    benchmark = history.benchmarks[execution]
    result = back_test(history.periods[execution], history.weights[portfolio], p.cost_basis_points / 1e4)
    invested = result.periods["industries_held"].gt(0)
    if not invested.any():
        return {}
    periods = result.periods[invested.cummax()]
    start = periods["bought_at"].iloc[0]
    daily = result.daily.loc[start:].rename_axis("trade_date")
    against = benchmark.daily.loc[start:, "nav"] / benchmark.daily.loc[start, "nav"]
    daily = daily.assign(
        benchmark_nav=against,
        relative_nav=daily["nav"] / against,
        relative_nav_after_costs=daily["nav_after_costs"] / against,
    )
    mean = benchmark.periods["period_return"].rename("benchmark_return")
    periods = periods.join(mean)
    periods["excess_return"] = periods["period_return"] - periods["benchmark_return"]
    industries = result.industries.join(mean, on="signal_date")
    industries["excess_return"] = industries["period_return"] - industries.pop("benchmark_return")
    yearly = {
        "before": performance(daily["nav"], against, p.sessions_per_year),
        "after": performance(daily["nav_after_costs"], against, p.sessions_per_year),
    }
    stats = pd.concat(yearly, names=["costs", "period"]).reset_index()
    per_year = [_trading(row, periods, industries, p.sessions_per_year) for row in stats.itertuples()]
    return {
        "backtest_daily": daily.reset_index(),
        "backtest_period": periods.reset_index(),
        "backtest_industry": industries.reset_index(),
        "performance": pd.concat([stats, pd.DataFrame(per_year)], axis=1),
    }


def _trading(row: Any, periods: pd.DataFrame, industries: pd.DataFrame, sessions_per_year: int) -> dict[str, float]:
    """Part of the holdings bought within the row's dates that beat the mean, and turnover per year."""
    bought = periods[periods["bought_at"].between(row.first_date, row.last_date, inclusive="left")]
    held = industries[industries.index.get_level_values("signal_date").isin(bought.index)]["excess_return"].dropna()
    return {
        "industry_win_rate": float(held.gt(0).mean()) if len(held) else np.nan,
        "turnover": float(bought["turnover"].sum() * sessions_per_year / row.sessions) if row.sessions else np.nan,
    }


def _published(pipeline: Pipeline, parts: Mapping[Table, Sequence[pd.DataFrame]]) -> Iterator[dg.MaterializeResult]:
    """Publish each table from its parts, none being an empty table, and renew the catalogue once."""
    results = []
    for table, frames in parts.items():
        columns = [column for column in table.columns if column != "source"]
        frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
        result = write_table(pipeline, table, frame.assign(source=pipeline.lake.source_label))
        results.append(result._replace(asset_key=dg.AssetKey([GROUP, table.name])))
    pipeline.lake.build_catalogue()
    yield from results


@dg.multi_asset(
    name="factor_evidence",
    specs=[
        _spec(table, ("factors", "factor_scores"), ("raw", "industry_bar"))
        for table in (FACTOR_IC, FACTOR_IC_SUMMARY, FACTOR_GROUP_DAILY, FACTOR_GROUP_STATS, FACTOR_CORRELATION)
    ],
)
def factor_evidence(pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.MaterializeResult]:
    """Rank correlations with later returns, quintiles and mutual correlation of the factors and the composite."""
    history = History(pipeline)
    ic = _rank_correlations(history)
    group_daily, group_stats = _groups(history)
    parts = {
        FACTOR_IC: [ic],
        FACTOR_IC_SUMMARY: [_ic_summary(history, ic)],
        FACTOR_GROUP_DAILY: group_daily,
        FACTOR_GROUP_STATS: group_stats,
        FACTOR_CORRELATION: [_correlations(history)],
    }
    yield from _published(pipeline, parts)


def _rank_correlations(history: History) -> pd.DataFrame:
    later = {"period": history.periods["signal_close"].period_growth - 1}
    # the return of the n-th week after the signal's own
    weeks = range(1, history.pipeline.parameters.ic_weeks + 1)
    later |= {f"week_{n}": history.weekly_returns.shift(-n) for n in weeks}
    parts = []
    for factor, scores in history.scores.items():
        for horizon, returns in later.items():
            part = rank_ic(scores, returns.reindex(scores.index)).dropna(subset=["ic"])
            parts.append(part.rename_axis("signal_date").reset_index().assign(factor=factor, horizon=horizon))
    return pd.concat(parts)


def _ic_summary(history: History, ic: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (factor, horizon), part in ic.groupby(["factor", "horizon"]):
        for span, (first, last) in history.spans.items():
            values = part.loc[part["signal_date"].between(first, last), "ic"]
            rows.append({"factor": factor, "horizon": horizon, "span": span, **ic_summary(values)})
    return pd.DataFrame(rows, columns=[c for c in FACTOR_IC_SUMMARY.columns if c != "source"])


def _groups(history: History) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    benchmark = history.benchmarks["signal_close"].daily["nav"]
    daily, stats = [], []
    for factor, scores in history.scores.items():
        for group, nav in _group_navs(history.periods["signal_close"], scores).items():
            key: dict[str, Any] = {"factor": factor, "group": group}
            daily.append(pd.DataFrame({"trade_date": nav.index, "nav": nav.to_numpy(), **key}))
            for span, (first, last) in history.spans.items():
                part = nav.loc[first:last]
                if part.empty:
                    continue
                full = performance(part, benchmark.loc[part.index], history.pipeline.parameters.sessions_per_year)
                row = full.loc[FULL, list(FACTOR_GROUP_STATS.columns)[3:-1]]
                # money is on both sides of a spread: there is no benchmark to exceed
                excess = np.nan if group == "long_short" else row["excess_return"]
                stats.append(pd.DataFrame([{**key, "span": span, **row, "excess_return": excess}]))
    return daily, stats


def _group_navs(periods: Periods, scores: pd.DataFrame) -> dict[str, pd.Series]:
    """Value of each fifth by score and of the spread of the highest over the lowest; none without a score."""
    groups = quintiles(scores, GROUPS)
    navs = {}
    for group in range(1, GROUPS + 1):
        member = groups.eq(group).fillna(False).astype(float)
        result = back_test(periods, member.div(member.sum(axis=1).replace(0.0, 1.0), axis=0), 0.0)
        invested = result.periods["industries_held"].gt(0)
        if not invested.any():
            return {}
        navs[str(group)] = result.daily.loc[result.periods["bought_at"][invested].iloc[0] :, "nav"]
    daily = pd.DataFrame(navs).dropna().pct_change(fill_method=None).fillna(0.0)
    return navs | {"long_short": (1 + daily[str(GROUPS)] - daily["1"]).cumprod()}


def _correlations(history: History) -> pd.DataFrame:
    least, rows = history.pipeline.parameters.spread_minimum_ratio, []
    for factor, left in history.scores.items():
        for other, right in history.scores.items():
            for span, (first, last) in history.spans.items():
                value, dates = mean_correlation(left.loc[first:last], right.loc[first:last], least)
                rows.append(
                    {"factor": factor, "other_factor": other, "span": span, "correlation": value, "dates": dates}
                )
    return pd.DataFrame(rows)


@dg.multi_asset(
    name="sensitivity_grid",
    specs=[
        _spec(
            SENSITIVITY,
            ("marts", "industry_weekly"),
            ("marts", "look_through_evidence"),
            ("marts", "new_issue_monthly"),
            ("marts", "active_fund_industry"),
            ("factors", "active_holdings"),
            ("factors", "style_regime"),
            ("raw", "index_bar"),
            ("raw", "industry_bar"),
            ("raw", "fund_return"),
        )
    ],
)
def sensitivity_grid(pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.MaterializeResult]:
    """The composite's history with other factors, measures, numbers held, phases and smoothing.

    The cell of the settings in use is marked. Nothing is chosen by looking at this.
    """
    p, history = pipeline.parameters, History(pipeline)
    weeks = pipeline.lake.read_published("industry_weekly", ["week_end"])["week_end"]
    default = Cell(factors_in_use(pipeline)[0], p.flow_measure, p.level_measure, p.top_n)
    rows = []
    for phase in range(p.rebalance_every_weeks):
        dates = history.traded(signal_dates(pipeline, weeks, phase))
        inputs = _inputs_of(pipeline, dates, phase)
        periods = lay_periods(history.closes, dates, EXECUTIONS["signal_close"])
        cells, results = _construction(p, default, inputs, periods)
        rows += [
            _cell_row("construction", cell, phase, p.size_lambda, p.growth_value_lambda, cell == default and not phase)
            | result
            for cell, result in zip(cells, results, strict=True)
        ]
        if phase == 0:
            rows += _smoothing(pipeline, default, inputs[p.flow_measure], periods)
    yield from _published(pipeline, {SENSITIVITY: [pd.DataFrame(rows)]})


def _inputs_of(pipeline: Pipeline, dates: pd.DatetimeIndex, phase: int) -> dict[str, FactorInputs]:
    """Inputs of the factors at dates of any phase, by flow measure."""
    lake = pipeline.lake
    regimes = lake.read_published("style_regime").pivot(index="week_end", columns="series", values="signal")
    industries = sorted(lake.read_published("industry_weekly", ["industry_code"])["industry_code"].unique())
    active = active_weights(pipeline, dates, industries) if phase else lake.read_published("active_holdings")
    return {measure: factor_inputs(pipeline, dates, measure, active, regimes) for measure in FLOW_MEASURES}


def _construction(
    p: Parameters, default: Cell, inputs: Mapping[str, FactorInputs], periods: Periods
) -> tuple[list[Cell], list[dict[str, float]]]:
    penetration = inputs[default.flow_measure].penetration
    other = "penetration" if default.level_measure == "share" else "share"
    # without any market value there is no penetration to measure by
    levels = [default.level_measure, *([other] if penetration.notna().any(axis=None) else [])]
    cells = construction_cells(default.factors, FLOW_MEASURES, levels, sorted({*p.grid_top_n, p.top_n}), default)
    scores = {
        (flow, level): score_factors(inputs[flow], level_measures(penetration, level), p.spread_minimum_ratio)
        for flow in FLOW_MEASURES
        for level in levels
    }
    return cells, cell_results(periods, cells, scores, p.missing_industries_limit, p.sessions_per_year)


def _smoothing(pipeline: Pipeline, default: Cell, inputs: FactorInputs, periods: Periods) -> list[dict[str, Any]]:
    """The default with other λ of the two style regimes, each regime filtered anew."""
    p, ratios = pipeline.parameters, style_ratios(pipeline)
    measures = level_measures(inputs.penetration, default.level_measure)

    def signals(series: str, lambdas: tuple[float, ...], in_use: float) -> dict[float, pd.Series]:
        ratio = ratios.get(series, pd.Series(dtype=float, index=inputs.flow.index[:0]))
        return {
            lam: regime_of(ratio, lam, p.momentum_weeks)["signal"].reindex(inputs.flow.index)
            for lam in sorted({*lambdas, in_use})
        }

    sizes = signals("size", p.grid_size_lambda, p.size_lambda)
    growths = signals("growth_value", p.grid_growth_value_lambda, p.growth_value_lambda)
    # of the factors, each regime signs one
    scored = partial(score_factors, level_measure=measures, spread_minimum_ratio=p.spread_minimum_ratio)
    scores = scored(inputs)
    levels = {lam: scored(replace(inputs, size_signal=s))["level"] for lam, s in sizes.items()}
    changes = {lam: scored(replace(inputs, growth_value_signal=s))["change"] for lam, s in growths.items()}
    rows = []
    for (size_lambda, level), (growth_lambda, change) in product(levels.items(), changes.items()):
        by_measure = {(default.flow_measure, default.level_measure): scores | {"level": level, "change": change}}
        [result] = cell_results(periods, [default], by_measure, p.missing_industries_limit, p.sessions_per_year)
        in_use = size_lambda == p.size_lambda and growth_lambda == p.growth_value_lambda
        rows.append(_cell_row("smoothing", default, 0, size_lambda, growth_lambda, in_use) | result)
    return rows


def _cell_row(
    axis: str, cell: Cell, phase: int, size_lambda: float, growth_value_lambda: float, is_default: bool
) -> dict[str, Any]:
    return {
        "axis": axis,
        "factors": "+".join(cell.factors),
        "flow_measure": cell.flow_measure,
        "level_measure": cell.level_measure,
        "top_n": cell.top_n,
        "phase": phase,
        "size_lambda": size_lambda,
        "growth_value_lambda": growth_value_lambda,
        "is_default": is_default,
    }


@dg.multi_asset(
    name="luck",
    specs=[
        _spec(
            LUCK_TEST,
            ("factors", "factor_scores"),
            ("raw", "industry_bar"),
            (GROUP, BACKTEST_PERIOD.name),
            (GROUP, SENSITIVITY.name),
        )
    ],
)
def luck(pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.MaterializeResult]:
    """Could the excess of each portfolio be luck: random picks, a bootstrap band, and the best of many trials."""
    p, history = pipeline.parameters, History(pipeline)
    stored = pipeline.lake.read_published("backtest_period")
    # one bought at the last close has earned nothing yet
    stored = stored[stored["industries_held"].gt(0) & (stored["held_until"] > stored["bought_at"])]
    trials = pipeline.lake.read_published("sensitivity", ["sharpe_of_excess"])["sharpe_of_excess"].dropna().to_numpy()
    sessions = pd.DatetimeIndex(history.closes.index)
    owns = {}
    for execution, (span, (first, last)), portfolio in product(
        history.periods, history.spans.items(), history.portfolios
    ):
        own = stored[(stored["portfolio"] == portfolio) & (stored["execution"] == execution)]
        own = own[own["signal_date"].between(first, last)]
        if len(own):
            owns[portfolio, execution, span] = own
    periods_per_year = {key: _periods_per_year(own, sessions, p) for key, own in owns.items()}
    bands = {
        key: workers.begin(
            bootstrap_band,
            own["period_return"],
            own["benchmark_return"],
            p.bootstrap_draws,
            p.bootstrap_block_periods,
            p.random_seed,
            periods_per_year[key],
        )
        for key, own in owns.items()
    }
    p_values = {}
    for execution, periods in history.periods.items():
        returns = (periods.period_growth - 1)[periods.held_until > periods.bought_at]
        for span, (first, last) in history.spans.items():
            in_span = returns.loc[first:last]
            picks = {name: history.weights[name].reindex(in_span.index).gt(0) for name in history.portfolios}
            p_values[execution, span] = random_picks_p_values(in_span, picks, p.permutation_draws, p.random_seed)
    rows = []
    for key, own in owns.items():
        portfolio, execution, span = key
        low, high = bands[key].result()
        row = {
            "portfolio": portfolio,
            "execution": execution,
            "span": span,
            "annual_excess": annual_excess(own["period_return"], own["benchmark_return"], periods_per_year[key]),
            "excess_low": low,
            "excess_high": high,
            "p_value": p_values[execution, span][portfolio],
            "draws": p.permutation_draws,
        }
        rows.append(row | _excess_of(own["excess_return"], trials))
    yield from _published(pipeline, {LUCK_TEST: [pd.DataFrame(rows)] if rows else []})


def _periods_per_year(own: pd.DataFrame, sessions: pd.DatetimeIndex, p: Parameters) -> float:
    length = sessions.searchsorted(own["held_until"]) - sessions.searchsorted(own["bought_at"])
    return p.sessions_per_year / length.mean()


def _excess_of(excess: pd.Series, trials: np.ndarray) -> dict[str, float]:
    """Excess of the periods with holdings, and its odds against the best of the grid's cells."""
    return {
        "periods": len(excess),
        "mean_excess": excess.mean(),
        "sharpe_of_excess": excess.mean() / excess.std() if excess.std() > 0 else np.nan,
        "deflated_probability": deflated_probability(excess, trials),
    }


ANALYTICS_ASSETS = [backtest, factor_evidence, sensitivity_grid, luck]
