"""Made-up report data of the published schemas: analytics over given scores, or everything from nothing.

Numbers are plausible and mean nothing. `full()` has everything; `poor()` is what little real data give: no divergence,
no market values, few dates, statistics that cannot be computed.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd

from etf_pipeline.core.factors import FEW_FLOWS, FEW_WEIGHT_SETS, LOW_COVERAGE, NOT_COMPARED, ONE_ETF
from etf_pipeline.reports import charts, grids
from etf_pipeline.reports.data import ReportData
from etf_pipeline.settings import FACTORS, Parameters
from etf_pipeline.tables import ANALYTICS_TABLES, FACTOR_SCORES, REBALANCE_DATES, STRATEGY_HOLDINGS, STYLE_REGIME, Table

SOURCE = "sample (SYNTHETIC)"
NAMES = """
石油石化 煤炭 有色金属 电力及公用事业 钢铁 基础化工 建筑 建材 轻工制造 机械
电力设备及新能源 国防军工 汽车 商贸零售 消费者服务
家电 纺织服装 医药 食品饮料 农林牧渔 银行 非银行金融 房地产 交通运输 电子 通信 计算机 传媒 综合 综合金融
""".split()  # noqa: SIM905 - a list of thirty would be thirty lines
CODES = [f"CI{5001 + i:06d}" for i in range(len(NAMES))]
PYTHON_TABLES = {
    t.name: t for t in (*ANALYTICS_TABLES, FACTOR_SCORES, REBALANCE_DATES, STRATEGY_HOLDINGS, STYLE_REGIME)
}


def frame(table: Table, rows: list[dict[str, object]], source: str) -> pd.DataFrame:
    """Rows as a reader of the lake sees them: validated, sorted, dates as datetime64."""
    made = pd.DataFrame(rows, columns=[c for c in table.columns if c != "source"])
    if "source" in table.columns:
        made["source"] = pd.Series([source] * len(made), index=made.index, dtype=object)
    return table.to_arrow(made).to_pandas(date_as_object=False)


def full(dates: int = 90, source: str = SOURCE, parameters: Parameters | None = None) -> ReportData:
    parameters = parameters or Parameters.load()
    rng = np.random.default_rng(1)
    last = pd.Timestamp("2026-01-30")
    weeks = pd.date_range(end=last, periods=2 * dates + 30, freq="W-FRI")
    signals = weeks[::-1][::2][:dates][::-1]
    scores = _scores(rng, signals, parameters, source)
    first = _market(rng, weeks, source)
    held = _holdings(scores, signals, parameters, source)
    sessions = pd.bdate_range(signals[0], last)
    base = ReportData(
        source=source,
        parameters=parameters,
        strategy_holdings=held,
        factor_scores=scores,
        rebalance_dates=frame(
            REBALANCE_DATES,
            [
                {"signal_date": d, "holding_start": d + pd.Timedelta(days=3), "holding_end": d + pd.Timedelta(days=14)}
                for d in signals
            ],
            source,
        ),
        **first,
        **{table.name: frame(table, [], source) for table in ANALYTICS_TABLES},
    )
    return with_analytics(base, sessions)


def with_analytics(data: ReportData, sessions: pd.DatetimeIndex) -> ReportData:
    """`data` with made-up analytics over its own scores and holdings."""
    rng = np.random.default_rng(2)
    made = dict(_analytics(rng, data, sessions))
    return replace(data, **{t.name: frame(t, made[t.name], data.source) for t in ANALYTICS_TABLES})


def poor() -> ReportData:
    """Two rebalance dates of a real source: the second withheld, statistics missing, no flow in places."""
    parameters = Parameters.load({"level_measure": "share"})
    data = full(4, "files", parameters)
    scores = data.factor_scores.copy()
    scores[["divergence", "divergence_flag", "heat", "active_basis"]] = np.nan
    scores["level_measure"] = "share"
    scores["factors_used"] = "flow, level, change"
    last = scores["signal_date"].max()
    scores.loc[scores["signal_date"] == last, ["flow", "composite", "rank", "flow_flag", "size_signal"]] = np.nan
    reason = "; ".join(
        [
            "flow missing for 30 of 30 industries",
            *(LOW_COVERAGE, ONE_ETF, FEW_WEIGHT_SETS, f"change: {NOT_COMPARED}", f"flow: {FEW_FLOWS}"),
            "made up for this test",
        ]
    )
    scores["withheld_reason"] = scores["withheld_reason"].astype(object).where(scores["signal_date"] != last, reason)
    held = data.strategy_holdings[data.strategy_holdings["signal_date"] != last].copy()
    held[["divergence", "divergence_flag", "largest_etf", "cheapest_etf", "holding_end"]] = None
    held["factors_off"] = "divergence: no data: fund_info, fund_return"
    weekly = data.industry_weekly.assign(penetration_ratio=np.nan, float_market_value_cny=np.nan)
    weekly.loc[weekly["week_end"] >= weekly["week_end"].max() - pd.Timedelta(days=20), "net_creation_cny"] = np.nan
    performance = data.performance.copy()
    performance[["volatility", "sharpe", "information_ratio", "odds", "tracking_error"]] = np.nan
    performance.loc[:, "annual_return"] = np.inf
    luck = data.luck_test.copy()
    luck.loc[luck["portfolio"] != "composite", ["excess_low", "p_value", "deflated_probability"]] = np.nan
    luck.loc[luck["portfolio"] == "composite", ["excess_low", "excess_high", "deflated_probability"]] = np.nan
    luck.loc[luck["portfolio"] == "flow", "p_value"] = 0.3
    summary = data.factor_ic_summary.copy()
    summary[["std_ic", "t_statistic"]] = np.nan
    empty = {name: getattr(data, name).iloc[:0] for name in ("factor_correlation", "factor_group_daily", "sensitivity")}
    return replace(
        data,
        factor_scores=scores,
        strategy_holdings=held,
        industry_weekly=weekly,
        performance=performance,
        luck_test=luck,
        factor_ic_summary=summary,
        factor_ic=data.factor_ic[data.factor_ic["factor"] == "flow"],
        factor_group_stats=data.factor_group_stats[data.factor_group_stats["factor"] == "flow"],
        **empty,
    )


def otherwise() -> ReportData:
    """What `full` is not: ETF issues hotter, active funds simulated, a factor switched off, the last period in cash."""
    data = full(6, parameters=Parameters.load({"factors": ["flow", "level", "change"]}))
    scores = data.factor_scores.assign(heat=0.5, active_basis="simulated", factors_used="flow, level, change")
    held = data.strategy_holdings.assign(factors_off="divergence: switched off by the parameter factors")
    last = data.backtest_period["signal_date"].max()
    industries = data.backtest_industry[data.backtest_industry["signal_date"] < last]
    return replace(data, factor_scores=scores, strategy_holdings=held, backtest_industry=industries)


def bare() -> ReportData:
    """A lake in which nothing could be computed yet: every table is there, and empty."""
    data = full(4, "files")
    return replace(data, **{name: table.iloc[:0] for name, table in data.tables.items()})


def _scores(rng: np.random.Generator, signals: pd.DatetimeIndex, parameters: Parameters, source: str) -> pd.DataFrame:
    parts = []
    for place, date in enumerate(signals):
        z = pd.DataFrame(rng.normal(size=(len(CODES), len(FACTORS))), columns=list(FACTORS))
        early = len(signals) > 10 and place < 3
        if early:
            z["divergence"] = np.nan
        composite = z.mean(axis=1, skipna=False)
        part = z.assign(
            signal_date=date,
            industry_code=CODES,
            industry_name=NAMES,
            composite=composite,
            rank=composite.rank(ascending=False),
            level_measure="penetration",
            size_signal=int(rng.integers(2)),
            growth_value_signal=int(rng.integers(2)),
            heat=rng.normal(),
            active_basis="disclosed" if place % 2 else "simulated",
            factors_used=", ".join(FACTORS),
            withheld_reason="divergence missing for 30 of 30 industries" if early else None,
            decision_at=(date + pd.Timedelta(days=3, hours=1)).tz_localize("UTC"),
            settings_hash=parameters.hash,
        )
        for factor in FACTORS:
            part[f"{factor}_flag"] = (z[factor] > z[factor].median()).astype(float).where(z[factor].notna())
        parts.append(part)
    rows = pd.concat(parts).to_dict("records")
    clean = [{k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()} for row in rows]
    return frame(FACTOR_SCORES, clean, source)


def _holdings(scores: pd.DataFrame, signals: pd.DatetimeIndex, parameters: Parameters, source: str) -> pd.DataFrame:
    held = scores[scores["withheld_reason"].isna() & (scores["rank"] <= parameters.top_n)]
    rows = []
    for row in held.to_dict("records"):
        code = int(row["industry_code"][2:])
        etf = None if row["industry_name"] == "综合" else f"51{code % 10000:04d}.SH {row['industry_name']}ETF甲"
        rows.append(
            {name: row.get(name) for name in STRATEGY_HOLDINGS.columns if name != "source"}
            | {
                "weight": 1 / parameters.top_n,
                "flags": ", ".join(f for f in FACTORS if row[f"{f}_flag"] == 1),
                "size_regime": "large" if row["size_signal"] else "small",
                "growth_value_regime": "growth" if row["growth_value_signal"] else "value",
                "heat_side": "etf" if row["heat"] > 0 else "active",
                "factors_off": "",
                "largest_etf": etf,
                "cheapest_etf": etf,
                "most_liquid_etf": etf,
                "holding_start": row["signal_date"] + pd.Timedelta(days=3),
                "holding_end": row["signal_date"] + pd.Timedelta(days=14),
                "data_until": row["signal_date"],
            }
        )
    return frame(STRATEGY_HOLDINGS, rows, source)


def _market(rng: np.random.Generator, weeks: pd.DatetimeIndex, source: str) -> dict[str, pd.DataFrame]:
    value = (
        rng.lognormal(3, 0.8, len(CODES))
        * np.exp(np.cumsum(rng.normal(0.004, 0.03, (len(weeks), len(CODES))), axis=0))
        * 1e8
    )
    index = pd.MultiIndex.from_product([weeks, CODES], names=["week_end", "industry_code"])
    weekly = pd.DataFrame({"held_value_cny": value.ravel()}, index=index).reset_index()
    total = weekly.groupby("week_end")["held_value_cny"].transform("sum")
    by_code = (weekly["held_value_cny"] / total).groupby(weekly["industry_code"])
    weekly = weekly.assign(
        scheme="citic",
        industry_name=NAMES * len(weeks),
        held_share_ratio=weekly["held_value_cny"] / total,
        float_market_value_cny=weekly["held_value_cny"] * 20,
        penetration_ratio=0.05,
        net_creation_cny=rng.normal(0, 3e8, len(weekly)),
        held_share_change_ratio=by_code.diff(),
        held_share_medium_change_ratio=by_code.diff(4),
        source=source,
    )
    regimes = []
    for series in ("size", "growth_value"):
        momentum = np.cumsum(rng.normal(0, 0.002, len(weeks)))
        momentum -= momentum.mean()
        for place, week in enumerate(weeks):
            unknown = place < 2
            regimes.append(
                {
                    "week_end": week,
                    "series": series,
                    "ratio": 1 + momentum[: place + 1].sum() / 5,
                    "trend": None if unknown else 1 + momentum[:place].sum() / 5,
                    "momentum": None if unknown else momentum[place],
                    "signal": None if unknown else int(momentum[place] > 0),
                }
            )
    sessions = pd.bdate_range(end=weeks[-1], periods=160)
    flow = pd.DataFrame(
        {
            "trade_date": sessions,
            "asset_scope": "aShareStockEtf",
            "etfs": 228,
            "etfs_with_flow": 226,
            "suspected_splits": 0,
            "aum_cny": 2.2e11,
            "net_creation_cny": rng.normal(0, 2e9, len(sessions)),
            "net_subscription_cny": rng.normal(0, 2e9, len(sessions)),
            "source": source,
        }
    )
    flow.loc[flow.index[-30], "net_creation_cny"] = np.nan
    parts = {"constituents": 0.94, "theme": 0.02, "stale weights": 0.005, "enhanced": 0.03, "weight remainder": 0.005}
    coverage = pd.DataFrame(
        [
            {"week_end": w, "basis": b, "value_cny": r * 2.2e11, "ratio": r, "source": source}
            for w in weeks
            for b, r in parts.items()
        ]
    )
    return {
        "industry_weekly": weekly,
        "style_regime": frame(STYLE_REGIME, regimes, source),
        "market_flow": flow,
        "look_through_coverage": coverage,
    }


Rows = list[dict[str, object]]


def _analytics(rng: np.random.Generator, data: ReportData, sessions: pd.DatetimeIndex) -> Iterator[tuple[str, Rows]]:
    keys = list(product(charts.PORTFOLIOS, charts.EXECUTIONS))
    signals = [d for d in data.rebalance_dates["signal_date"] if d not in data.withheld.index][:-1]
    ends = dict(zip(data.rebalance_dates["signal_date"], data.rebalance_dates["holding_end"], strict=True))
    benchmark = np.exp(np.cumsum(rng.normal(0.0003, 0.012, len(sessions))))
    daily: Rows = []
    for portfolio, execution in keys:
        nav = benchmark * np.exp(np.cumsum(rng.normal(0.0002, 0.004, len(sessions))))
        after = nav * np.exp(-0.00008 * np.arange(len(sessions)))
        daily += [
            {
                "portfolio": portfolio,
                "execution": execution,
                "trade_date": day,
                "nav": nav[i],
                "nav_after_costs": after[i],
                "benchmark_nav": benchmark[i],
                "relative_nav": nav[i] / benchmark[i],
                "relative_nav_after_costs": after[i] / benchmark[i],
            }
            for i, day in enumerate(sessions)
        ]
    yield "backtest_daily", daily

    period: Rows = []
    industry: Rows = []
    for (portfolio, execution), signal in product(keys, signals):
        codes = rng.choice(data.factor_scores["industry_code"].unique(), 6, replace=False)
        excess = rng.normal(0.002, 0.03, 6)
        mean = rng.normal(0.003, 0.03)
        place = {"portfolio": portfolio, "execution": execution, "signal_date": signal}
        period.append(
            place
            | {
                "bought_at": signal,
                "held_until": ends[signal],
                "industries_held": 6,
                "period_return": mean + excess.mean(),
                "period_return_after_costs": mean + excess.mean() - 0.0005,
                "benchmark_return": mean,
                "excess_return": excess.mean(),
                "turnover": rng.uniform(0.3, 1),
                "cost": 0.0005,
            }
        )
        industry += [
            place
            | {
                "industry_code": code,
                "weight": 1 / 6,
                "end_weight": 1 / 6,
                "period_return": mean + extra,
                "excess_return": extra,
            }
            for code, extra in zip(codes, excess, strict=True)
        ]
    yield "backtest_period", period
    yield "backtest_industry", industry

    years = [*sorted({str(day.year) for day in sessions}), "full"]
    yield (
        "performance",
        [
            {
                "portfolio": portfolio,
                "execution": execution,
                "costs": costs,
                "period": year,
                "is_partial": year in (years[0], years[-2]),
                "first_date": sessions[0],
                "last_date": sessions[-1],
                "sessions": 242,
                "total_return": rng.normal(0.1, 0.2),
                "annual_return": rng.normal(0.1, 0.2),
                "volatility": rng.uniform(0.15, 0.25),
                "sharpe": rng.normal(0.6, 0.8),
                "max_drawdown": -rng.uniform(0.05, 0.3),
                "benchmark_return": rng.normal(0.05, 0.2),
                "excess_return": rng.normal(0.05, 0.05),
                "tracking_error": rng.uniform(0.05, 0.1),
                "information_ratio": rng.normal(0.6, 0.8),
                "relative_max_drawdown": -rng.uniform(0.02, 0.1),
                "monthly_win_rate": rng.uniform(0.4, 0.7),
                "odds": rng.uniform(0.8, 1.6),
                "industry_win_rate": rng.uniform(0.4, 0.6),
                "turnover": rng.uniform(8, 18),
            }
            for (portfolio, execution), costs, year in product(keys, grids.COSTS, years)
        ],
    )

    horizons = ["period", *(f"week_{week}" for week in range(1, data.parameters.ic_weeks + 1))]
    yield (
        "factor_ic",
        [
            {"factor": f, "horizon": h, "signal_date": s, "ic": np.tanh(rng.normal(0.03, 0.25)), "industries": 30}
            for f, h, s in product(charts.SCORED, horizons, signals)
        ],
    )
    strength = dict(zip(charts.SCORED, (0.05, 0.03, 0.01, -0.06, 0.002), strict=True))
    yield (
        "factor_ic_summary",
        [
            {
                "factor": f,
                "horizon": h,
                "span": s,
                "dates": len(signals),
                "mean_ic": (mean := strength[f] / (1 + horizons.index(h) / 4) + rng.normal(0, 0.004)),
                "std_ic": 0.25,
                "t_statistic": mean / 0.25 * np.sqrt(len(signals) * 2),
                "positive_ratio": 0.5 + mean,
            }
            for f, h, s in product(charts.SCORED, horizons, charts.SPANS)
        ],
    )
    groups: Rows = []
    for factor in charts.SCORED:
        for place, group in enumerate((*charts.GROUPS, "long_short")):
            drift = 0.0002 if group == "long_short" else 0.0001 * (place - 2)
            noise = rng.normal(drift, 0.004, len(sessions))
            nav = np.exp(np.cumsum(noise)) * (1 if group == "long_short" else benchmark)
            groups += [
                {"factor": factor, "group": group, "trade_date": day, "nav": nav[i]} for i, day in enumerate(sessions)
            ]
    yield "factor_group_daily", groups
    yield (
        "factor_group_stats",
        [
            {
                "factor": f,
                "group": g,
                "span": s,
                "annual_return": rng.normal(0.08, 0.05),
                "volatility": 0.2,
                "sharpe": rng.normal(0.4, 0.3),
                "max_drawdown": -rng.uniform(0.1, 0.4),
                "excess_return": None if g == "long_short" else rng.normal(0, 0.04),
            }
            for f, g, s in product(charts.SCORED, (*charts.GROUPS, "long_short"), charts.SPANS)
        ],
    )
    yield (
        "factor_correlation",
        [
            {
                "factor": f,
                "other_factor": o,
                "span": s,
                "correlation": 1.0 if f == o else 0.1 * (FACTORS.index(f) + FACTORS.index(o) - 3),
                "dates": len(signals),
            }
            for f, o, s in product(FACTORS, FACTORS, charts.SPANS)
        ],
    )
    luck: Rows = []
    for (portfolio, execution), span in product(keys, charts.SPANS):
        middle = rng.normal(0.04, 0.03)
        luck.append(
            {
                "portfolio": portfolio,
                "execution": execution,
                "span": span,
                "periods": len(signals),
                "mean_excess": middle / 25,
                "annual_excess": middle,
                "excess_low": middle - 0.05 if portfolio != "composite" else 0.01,
                "excess_high": middle + 0.05,
                "p_value": 0.012 if portfolio == "composite" else rng.uniform(0.06, 0.9),
                "draws": 2000,
                "sharpe_of_excess": middle / 0.08,
                "deflated_probability": 0.97 if portfolio == "composite" else rng.uniform(0.1, 0.9),
            }
        )
    yield "luck_test", luck

    p = data.parameters
    own = {
        "factors": "+".join(FACTORS),
        "flow_measure": "share_change",
        "level_measure": "auto",
        "top_n": p.top_n,
        "phase": 0,
        "size_lambda": p.size_lambda,
        "growth_value_lambda": p.growth_value_lambda,
    }
    subsets = ["+".join(c) for n in range(1, 5) for c in combinations(FACTORS, n)]
    cells = [
        {"axis": "construction", **own, "factors": s, "flow_measure": f, "level_measure": m, "top_n": n, "phase": phase}
        for s, f, m, n, phase in product(
            subsets, ("share_change", "net_subscription"), ("auto", "share"), p.grid_top_n, (0, 1)
        )
    ]
    cells += [
        {"axis": "smoothing", **own, "size_lambda": a, "growth_value_lambda": b}
        for a, b in product(p.grid_size_lambda, p.grid_growth_value_lambda)
    ]
    yield (
        "sensitivity",
        [
            cell
            | {
                "is_default": all(cell[name] == value for name, value in own.items()),
                "periods": len(signals),
                "annual_return": rng.normal(0.1, 0.03),
                "excess_return": rng.normal(0.04, 0.03),
                "tracking_error": rng.uniform(0.06, 0.1),
                "information_ratio": rng.normal(0.5, 0.35),
                "relative_max_drawdown": -rng.uniform(0.05, 0.15),
            }
            for cell in cells
        ],
    )
