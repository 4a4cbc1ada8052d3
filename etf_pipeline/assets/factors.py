"""Factor assets: from marts to RSI, style regimes, active holdings and scores of industries.

Asset bodies read, call `core`, publish and describe what they published.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etf_pipeline.checks.gate import require_sound
from etf_pipeline.checks.verdict import markdown
from etf_pipeline.contract import load_contract
from etf_pipeline.core import rsi
from etf_pipeline.core.active_holdings import ALMOST_SOLVED, rolling_simulated_holdings
from etf_pipeline.core.calendar import decision_moments, rebalance_dates, week_ends
from etf_pipeline.core.composite import above_median_flags
from etf_pipeline.core.factors import (
    EvidenceFloors,
    FactorInputs,
    composite_and_rank,
    doubts,
    level_measures,
    score_factors,
    withheld_reasons,
)
from etf_pipeline.core.regime import style_regime as regime_of
from etf_pipeline.resources.digests import chained_digests, digest_of
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import read_table, rows_in
from etf_pipeline.settings import FACTORS
from etf_pipeline.tables import ACTIVE_HOLDINGS, FACTOR_SCORES, STYLE_REGIME, Table
from etf_pipeline.tables import etf_daily as etf_daily_table

GROUP = "factors"
_PREVIEW_ROWS = 8


def publish(pipeline: Pipeline, table: Table, frame: pd.DataFrame, **metadata: Any) -> dg.MaterializeResult:
    """Publish `frame` as `table`, renew the catalogue and describe the table for the Dagster UI."""
    result = write_table(pipeline, table, frame, **metadata)
    pipeline.lake.build_catalogue()
    return result


def write_table(pipeline: Pipeline, table: Table, frame: pd.DataFrame, **metadata: Any) -> dg.MaterializeResult:
    """Store and describe `table` for whoever publishes several and then renews the catalogue once."""
    rows = table.to_arrow(frame)
    pipeline.lake.publish(table.name, rows, pipeline.parameters.hash)
    return _described(pipeline, table, rows, len(rows), **metadata)


def _described(pipeline: Pipeline, table: Table, rows: pa.Table, count: int, **metadata: Any) -> dg.MaterializeResult:
    """What the Dagster UI shows of a table of `count` rows, of which the newest are the last of `rows`."""
    newest = rows.slice(max(len(rows) - _PREVIEW_ROWS, 0)).to_pandas(date_as_object=False)
    columns = [dg.TableColumn(name, kind, meaning) for name, (kind, meaning) in table.columns.items()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": count,
            "source": pipeline.lake.source_label,
            "settings_hash": pipeline.parameters.hash,
            "dagster/column_schema": dg.TableSchema(columns),
            "preview": markdown(newest),
            **metadata,
        }
    )


def signal_dates(pipeline: Pipeline, weeks: pd.Series, phase: int = 0) -> pd.DatetimeIndex:
    """Rebalance dates within the weeks there is data for, moved by `phase` trading weeks."""
    if weeks.empty:
        return pd.DatetimeIndex([])
    p = pipeline.parameters
    return rebalance_dates(weeks.min().date(), weeks.max().date(), p.rebalance_anchor, p.rebalance_every_weeks, phase)


@dg.asset(key=[GROUP, "etf_daily"], group_name=GROUP, deps=[["marts", "etf_flow"]], kinds={"numpy"})
def etf_daily(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """One row per ETF and session there is data for: size, flow and RSI.

    A session's RSI depends on the sessions until then, so a year is made anew when its flows, or earlier ones, changed.
    """
    p, lake = pipeline.parameters, pipeline.lake
    table, rsi_name = etf_daily_table(p.rsi_periods), f"rsi_wilder_{p.rsi_periods}"
    flow = lake.published_rows("etf_flow", ["etf_code", "trade_date", "close", "cumulative_split_factor"])
    flow_years = lake.published_years("etf_flow")
    if not flow_years:
        return publish(pipeline, table, pd.DataFrame(columns=list(table.columns)))
    closes = flow["close"].to_numpy()
    series = {
        rsi_name: closes * flow["cumulative_split_factor"].to_numpy(),
        f"{rsi_name}_published": closes,
    }
    wilder = {name: pa.array(_rsi(flow, prices, p.rsi_periods), from_pandas=True) for name, prices in series.items()}
    ends = np.cumsum([rows_in([path]) for path in flow_years.values()])

    def rows_of(year: int, end: int) -> pa.Table:
        # millions of rows, whose texts pandas would take seconds to read and to write
        rows = read_table(flow_years[year])
        for name, values in wilder.items():
            rows = rows.append_column(name, values.slice(end - rows.num_rows, rows.num_rows))
        return table.from_arrow(rows)

    rules = digest_of(Path(__file__), Path(rsi.__file__), p.hash, str(table.schema))
    chained = chained_digests(flow_years.values(), rules)
    made_from = {year: chained[path] for year, path in flow_years.items()}
    present = lake.published_years(table.name)
    years = {
        year: None
        if year in present and lake.made_from(present[year]) == made_from[year]
        else partial(rows_of, year, end)
        for year, end in zip(flow_years, ends.tolist(), strict=True)
    }
    lake.publish_years(table.name, years, p.hash, made_from)
    lake.build_catalogue()
    return _described(
        pipeline,
        table,
        read_table(lake.published_files(table.name)[-1]),
        len(flow),
        etfs=pc.count_distinct(flow["etf_code"]).as_py(),
        years_made_anew=[year for year, rows in years.items() if rows],
    )


def _rsi(flow: pa.Table, prices: np.ndarray, periods: int) -> np.ndarray:
    """RSI of the `prices` of each row's ETF up to its session; NaN without a price."""
    (day, days), (etf, etfs) = _places(flow["trade_date"]), _places(flow["etf_code"])
    wide = np.full((days, etfs), np.nan)
    wide[day, etf] = prices
    return rsi.rsi_wilder(wide, periods)[day, etf]


def _places(values: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Place of each value among the distinct ones in order, and how many these are."""
    encoded = values.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    return np.argsort(np.argsort(distinct))[encoded.indices.to_numpy()], len(distinct)


@dg.asset(
    key=[GROUP, "style_regime"],
    group_name=GROUP,
    deps=[["raw", "index_bar"], ["raw", "trading_calendar"]],
    kinds={"numpy"},
)
def style_regime(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """One row per trading week and style pair: one-sided HP trend of the ratio of two indices and its momentum."""
    p = pipeline.parameters
    lambdas = {"size": p.size_lambda, "growth_value": p.growth_value_lambda}
    parts = [
        regime_of(ratio, lambdas[series], p.momentum_weeks).rename_axis("week_end").reset_index().assign(series=series)
        for series, ratio in style_ratios(pipeline).items()
    ]
    columns = [c for c in STYLE_REGIME.columns if c != "source"]
    frame = pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)
    frame = frame.assign(source=pipeline.lake.source_label)
    require_sound(context, pipeline, STYLE_REGIME.name, STYLE_REGIME.to_arrow(frame))
    return publish(pipeline, STYLE_REGIME, frame)


def style_ratios(pipeline: Pipeline) -> dict[str, pd.Series]:
    """Weekly ratios of the two style pairs, by series; a pair without data is absent, a missing week NaN."""
    p, contract = pipeline.parameters, load_contract()
    bars = pipeline.lake.read_raw(contract["index_bar"], pipeline.deployment.end)
    calendar = pipeline.lake.read_raw(contract["trading_calendar"])
    ends = week_ends(pd.DatetimeIndex(calendar["trade_date"]))
    # a close that came after its week's decision was not there when it was needed
    at_end = _known_in_time(bars[bars["trade_date"].isin(ends)], pipeline)
    closes = at_end.pivot(index="trade_date", columns="index_code", values="close")
    pairs = {
        "size": (p.size_large_index, p.size_small_index),
        "growth_value": (p.growth_index, p.value_index),
    }
    ratios = {}
    for series, (numerator, denominator) in pairs.items():
        both = closes.reindex(columns=[numerator, denominator]).dropna()
        if len(both):
            span = ends[(ends >= both.index.min()) & (ends <= both.index.max())]
            ratios[series] = (both[numerator] / both[denominator]).reindex(span)
    return ratios


@dg.asset(
    key=[GROUP, "active_holdings"],
    group_name=GROUP,
    deps=[
        ["marts", "active_fund_industry"],
        ["marts", "industry_weekly"],
        ["raw", "industry_bar"],
        ["raw", "fund_return"],
        ["raw", "trading_calendar"],
    ],
    kinds={"numpy"},
)
def active_holdings(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """One row per rebalance date and industry: holdings of active equity funds, disclosed or simulated.

    Disclosed holdings serve in the months after they became public, the regression on returns in the others.
    """
    weekly = pipeline.lake.read_published("industry_weekly")
    dates = signal_dates(pipeline, weekly["week_end"])
    frame = active_weights(pipeline, dates, sorted(weekly["industry_code"].unique()))
    counts = frame.drop_duplicates("signal_date")["basis"].value_counts().to_dict()
    frame = frame.assign(source=pipeline.lake.source_label)
    require_sound(context, pipeline, ACTIVE_HOLDINGS.name, ACTIVE_HOLDINGS.to_arrow(frame))
    return publish(
        pipeline,
        ACTIVE_HOLDINGS,
        frame,
        dates_by_basis={k: int(v) for k, v in counts.items()},
    )


def active_weights(pipeline: Pipeline, dates: pd.DatetimeIndex, industries: list[str]) -> pd.DataFrame:
    """Table `active_holdings` without its source, for any trading week ends."""
    disclosed = pipeline.lake.read_published("active_fund_industry")
    disclosed = disclosed[disclosed["week_end"].isin(dates) & disclosed["industry_code"].isin(industries)]
    disclosed = disclosed.rename(columns={"week_end": "signal_date", "active_share_ratio": "active_weight_ratio"})
    others = dates[~dates.isin(disclosed["signal_date"])]
    weights = _simulated(pipeline, others, industries)
    almost = weights.attrs.get(ALMOST_SOLVED, [])
    weights.index.name, weights.columns.name = "signal_date", "industry_code"
    simulated = _long(weights, "active_weight_ratio")
    status = simulated["signal_date"].isin(almost).map({True: "almost solved", False: "solved"})
    return pd.concat(
        [
            disclosed[["signal_date", "industry_code", "active_weight_ratio", "report_date"]].assign(
                basis="disclosed", solver_status=None
            ),
            simulated.assign(
                basis="simulated",
                solver_status=status,
                report_date=pd.Series(pd.NaT, simulated.index, dtype="datetime64[ms]"),
            ),
        ]
    )


def _long(wide: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per row and column of `wide` that is known, its value in column `name`."""
    known = wide.stack(future_stack=True).dropna()
    return pd.DataFrame({name: known}).reset_index()


def _simulated(pipeline: Pipeline, dates: pd.DatetimeIndex, industries: list[str]) -> pd.DataFrame:
    p, contract = pipeline.parameters, load_contract()
    bars = pipeline.lake.read_raw(contract["industry_bar"], pipeline.deployment.end)
    bars = bars[bars["scheme"] == p.scheme]
    funds = pipeline.lake.read_raw(contract["fund_return"], pipeline.deployment.end)
    calendar = pd.DatetimeIndex(pipeline.lake.read_raw(contract["trading_calendar"])["trade_date"])
    if bars.empty or funds.empty or not len(dates):
        return pd.DataFrame(columns=industries, index=dates[:0], dtype=float)
    sessions = calendar[(calendar >= bars["trade_date"].min()) & (calendar <= dates.max())]
    bars, funds = (_known_in_time(frame, pipeline) for frame in (bars, funds))
    closes = bars.pivot(index="trade_date", columns="industry_code", values="close").reindex(sessions)
    returns = closes.reindex(columns=industries).pct_change(fill_method=None)
    # several series of active funds stand for the same thing: their mean
    fund = funds.groupby("trade_date")["daily_return"].mean().reindex(sessions)
    return rolling_simulated_holdings(returns, fund, dates[dates.isin(sessions)], p.simulation_window_sessions)


def _known_in_time(frame: pd.DataFrame, pipeline: Pipeline) -> pd.DataFrame:
    """Rows that were known when the decision about their `trade_date` was taken."""
    p = pipeline.parameters
    decided = decision_moments(pd.DatetimeIndex(frame["trade_date"]), p.decision_sessions_after, p.decision_time)
    return frame[frame["available_at"] <= decided]


def factors_in_use(pipeline: Pipeline) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Factors of the composite, and for the others the reason they are off."""
    off = {
        factor: "switched off by the parameter factors"
        for factor in FACTORS
        if factor not in pipeline.parameters.factors
    }
    contract, lake = load_contract(), pipeline.lake
    missing = [name for name in ("fund_info", "fund_holding", "fund_return") if not lake.raw_files(contract[name])]
    if "divergence" not in off and ("fund_info" in missing or len(missing) > 1):
        off["divergence"] = f"no data: {', '.join(missing)}"
    return tuple(f for f in pipeline.parameters.factors if f not in off), off


@dg.asset(
    key=[GROUP, "factor_scores"],
    group_name=GROUP,
    deps=[
        ["marts", "industry_weekly"],
        ["marts", "look_through_evidence"],
        ["marts", "new_issue_monthly"],
        [GROUP, "style_regime"],
        [GROUP, "active_holdings"],
        ["raw", "fund_info"],
        ["raw", "fund_holding"],
        ["raw", "fund_return"],
    ],
    kinds={"pandas"},
)
def factor_scores(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """One row per rebalance date and industry: signed z-scores of the factors in use, their composite and its rank."""
    p, lake = pipeline.parameters, pipeline.lake
    weekly = lake.read_published("industry_weekly")
    dates = signal_dates(pipeline, weekly["week_end"])
    names = weekly.drop_duplicates("industry_code").set_index("industry_code")["industry_name"]
    active = lake.read_published("active_holdings")
    regimes = lake.read_published("style_regime").pivot(index="week_end", columns="series", values="signal")
    inputs = factor_inputs(pipeline, dates, p.flow_measure, active, regimes)
    measures = level_measures(inputs.penetration, p.level_measure)
    scores = score_factors(inputs, measures, p.spread_minimum_ratio)
    in_use, off = factors_in_use(pipeline)
    combined, ranks = composite_and_rank(scores, in_use)
    columns = {**scores, "composite": combined, "rank": ranks.astype("Int16")}
    columns |= {f"{factor}_flag": above_median_flags(scores[factor]) for factor in FACTORS}
    frame = pd.DataFrame({name: values.stack(future_stack=True) for name, values in columns.items()})
    frame.index.names = ["signal_date", "industry_code"]
    frame = frame.reset_index()
    by_date = pd.DataFrame(
        {
            "level_measure": measures,
            "size_signal": inputs.size_signal,
            "growth_value_signal": inputs.growth_value_signal,
            "heat": inputs.heat,
            "active_basis": active.drop_duplicates("signal_date").set_index("signal_date")["basis"].reindex(dates),
            "withheld_reason": withheld_reasons(scores, in_use, p.missing_industries_limit, inputs.doubts),
            "decision_at": decision_moments(dates, p.decision_sessions_after, p.decision_time),
        },
        index=dates,
    )
    frame = frame.merge(by_date, left_on="signal_date", right_index=True, validate="many_to_one").assign(
        industry_name=lambda rows: rows["industry_code"].map(names),
        factors_used=", ".join(in_use),
        settings_hash=p.hash,
        source=lake.source_label,
    )
    withheld = by_date["withheld_reason"].dropna()
    require_sound(context, pipeline, FACTOR_SCORES.name, FACTOR_SCORES.to_arrow(frame))
    return publish(
        pipeline,
        FACTOR_SCORES,
        frame,
        factors_used=list(in_use),
        factors_off=dict(off),
        dates=len(dates),
        dates_withheld=len(withheld),
        withheld={f"{day:%Y-%m-%d}": reason for day, reason in withheld.tail(30).items()},
    )


def factor_inputs(
    pipeline: Pipeline, dates: pd.DatetimeIndex, flow_measure: str, active: pd.DataFrame, regimes: pd.DataFrame
) -> FactorInputs:
    """What the factors of `dates`, any trading week ends, are made of.

    `active` holds rows of `active_weights` for these dates; `regimes` the signals, week ends × series.
    """
    p = pipeline.parameters
    weekly = pipeline.lake.read_published("industry_weekly")
    evidence = pipeline.lake.read_published("look_through_evidence").set_index("week_end").reindex(dates)
    floors = EvidenceFloors(p.coverage_floor, p.compared_floor, p.evidence_weight_sets, p.evidence_largest_etf)
    industries = sorted(weekly["industry_code"].unique())
    flow_column, flow_level_column = {
        "share_change": ("held_share_change_ratio", "held_share_ratio"),
        "net_subscription": ("net_creation_cny", "held_value_cny"),
    }[flow_measure]
    signals = regimes.reindex(dates)

    def wide(column: str) -> pd.DataFrame:
        frame = weekly.pivot(index="week_end", columns="industry_code", values=column)
        return frame.reindex(index=dates).sort_index(axis=1)

    return FactorInputs(
        flow=wide(flow_column),
        flow_level=wide(flow_level_column),
        share=wide("held_share_ratio"),
        penetration=wide("penetration_ratio"),
        medium_change=wide("held_share_medium_change_ratio"),
        active_weight=active.pivot(index="signal_date", columns="industry_code", values="active_weight_ratio").reindex(
            index=dates, columns=industries
        ),
        size_signal=signals.get("size", pd.Series(index=dates, dtype="Int8")),
        growth_value_signal=signals.get("growth_value", pd.Series(index=dates, dtype="Int8")),
        heat=_heat_at(pipeline.lake.read_published("new_issue_monthly"), dates),
        doubts=doubts(evidence, floors, flow_measure == "share_change"),
    )


def _heat_at(monthly: pd.DataFrame, dates: pd.DatetimeIndex) -> pd.Series:
    """Heat of the last complete month at each date; a month is complete on its last session."""
    if monthly.empty:
        return pd.Series(index=dates, dtype=float)
    return monthly.set_index("month_end")["heat"].reindex(dates, method="ffill")


FACTOR_ASSETS = [etf_daily, style_regime, active_holdings, factor_scores]
