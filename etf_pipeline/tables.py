"""Tables that Python assets publish: key, columns, types and meaning.

The tables dbt publishes are described in `dbt_project/models/marts/marts.yml`. Together they are the interface
people build on: names and columns stay.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etf_pipeline.settings import FACTORS

_TYPES = {
    "text": pa.string(),
    "date": pa.date32(),
    "number": pa.float64(),
    "integer": pa.int32(),
    "flag": pa.bool_(),
    "moment": pa.timestamp("us", tz="UTC"),
}


class TableError(Exception):
    """A frame does not fit the table it is to be published as."""


@dataclass(frozen=True, eq=False)
class Table:
    """One published table; `columns` maps name to (type, meaning)."""

    name: str
    description: str
    key: tuple[str, ...]
    columns: dict[str, tuple[str, str]]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema; key columns cannot be null."""
        return pa.schema(
            pa.field(name, _TYPES[kind], nullable=name not in self.key) for name, (kind, _) in self.columns.items()
        )

    def to_arrow(self, frame: pd.DataFrame) -> pa.Table:
        """The frame as this table, sorted by key.

        Raises:
            TableError: columns missing or left over, a value that does not fit its type, an empty or repeated key.
        """
        if set(frame.columns) != set(self.columns):
            odd = sorted(set(frame.columns) ^ set(self.columns))
            raise TableError(f"{self.name}: columns missing or not described: {odd}")
        if frame[list(self.key)].isna().any(axis=None) or frame.duplicated(list(self.key)).any():
            raise TableError(f"{self.name}: the key {', '.join(self.key)} is empty or repeated")
        ordered = frame.sort_values(list(self.key))[list(self.columns)]
        try:
            return pa.Table.from_pandas(ordered, schema=self.schema, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TableError(f"{self.name}: {error}") from error

    def from_arrow(self, rows: pa.Table) -> pa.Table:
        """This table's columns of `rows`, which are sorted by key already; for tables of millions of rows.

        Raises:
            TableError: columns missing, a value that does not fit its type, a key empty, repeated or out of order.
        """
        missing = sorted(set(self.columns) - set(rows.column_names))
        if missing:
            raise TableError(f"{self.name}: columns missing: {missing}")
        try:
            table = rows.select(list(self.columns)).cast(self.schema).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise TableError(f"{self.name}: {error}") from error
        ascending: Any = pa.scalar(False)
        for name in reversed(self.key):
            before, after = table[name].slice(0, max(len(table) - 1, 0)), table[name].slice(1)
            ascending = pc.or_(pc.less(before, after), pc.and_(pc.equal(before, after), ascending))
        if not pc.all(ascending, min_count=0).as_py():
            raise TableError(f"{self.name}: the key {', '.join(self.key)} is repeated or out of order")
        return table


_SOURCE = ("text", "Source of the data; says SYNTHETIC for synthetic data.")
_SETTINGS = ("text", "Hash of the parameters the row was made with.")
_INDUSTRY = ("text", "Level-1 industry.")
_SIGNAL_DATE = ("date", "Session whose close the signal is of.")


def etf_daily(rsi_periods: int) -> Table:
    """Table `etf_daily`; the RSI column is named after its number of sessions."""
    return Table(
        "etf_daily",
        "One row per ETF and session there is data for: size, flow and RSI.",
        ("etf_code", "trade_date"),
        {
            "etf_code": ("text", "ETF."),
            "trade_date": ("date", "Session."),
            "shares": ("number", "Shares outstanding after the close [份]."),
            "unit_nav": ("number", "Net asset value of one share [CNY]."),
            "close": ("number", "Raw closing price [CNY]."),
            "aum_cny": ("number", "Shares times NAV, of some sessions before where the session has none [CNY]."),
            "nav_date": ("date", "Session whose NAV the size is made with."),
            "is_nav_disputed": ("flag", "Whether NAV and close contradict each other; the flow is held back."),
            "circulating_value_cny": ("number", "Shares times raw close [CNY]."),
            "net_creation_cny": (
                "number",
                "Change of shares since the session before, splits taken out, at NAV [CNY].",
            ),
            "net_subscription_cny": ("number", "Published form of the flow, from raw closes [CNY]."),
            f"rsi_wilder_{rsi_periods}": ("number", "Wilder RSI of the raw close, splits taken out [0 to 100]."),
            f"rsi_wilder_{rsi_periods}_published": (
                "number",
                "The same with splits left in, as the observation log prints it [0 to 100].",
            ),
            "is_split_day": ("flag", "Whether a split takes effect."),
            "in_universe": ("flag", "Whether the ETF belongs to the strategy's universe that day."),
            "universe_exclusion": ("text", "Why not; empty where it does."),
            "asset_scope": ("text", "Kind of assets the ETF holds."),
            "split_status": ("text", "none, listed, inferred or suspected (flow held back)."),
            "split_factor": ("number", "New per old shares since the observation before."),
            "previous_observation_date": ("date", "Session of the observation of shares before this one."),
            "interval_sessions": ("integer", "Sessions since the observation before."),
            "interval_net_creation_cny": ("number", "Net creation over that interval [CNY]."),
            "source": _SOURCE,
        },
    )


STYLE_REGIME = Table(
    "style_regime",
    "One row per trading week and style pair.",
    ("week_end", "series"),
    {
        "week_end": ("date", "Last session of the trading week."),
        "series": ("text", "size or growth_value."),
        "ratio": ("number", "Close of the large (growth) index over the small (value) one."),
        "trend": ("number", "One-sided HP trend of the ratio."),
        "momentum": ("number", "Trend against the mean of its last values."),
        "signal": ("integer", "1: large (growth) leads; 0: small (value) leads; empty where it cannot be told."),
        "source": _SOURCE,
    },
)

ACTIVE_HOLDINGS = Table(
    "active_holdings",
    "One row per rebalance date and industry: what active equity funds hold.",
    ("signal_date", "industry_code"),
    {
        "signal_date": _SIGNAL_DATE,
        "industry_code": _INDUSTRY,
        "active_weight_ratio": ("number", "Weight of the industry in active equity funds."),
        "basis": ("text", "disclosed (report in use) or simulated (regression on returns)."),
        "report_date": ("date", "Quarter the disclosed holdings are of."),
        "solver_status": ("text", "Of simulated holdings: solved, or almost solved (to a lesser accuracy than asked)."),
        "source": _SOURCE,
    },
)

REBALANCE_DATES = Table(
    "rebalance_dates",
    "One row per rebalance date.",
    ("signal_date",),
    {
        "signal_date": _SIGNAL_DATE,
        "holding_start": ("date", "First session of the holding period."),
        "holding_end": ("date", "Last session of the holding period: the next signal date."),
    },
)

FACTOR_SCORES = Table(
    "factor_scores",
    "One row per rebalance date and industry: signed z-scores of the factors and their composite.",
    ("signal_date", "industry_code"),
    {
        "signal_date": _SIGNAL_DATE,
        "industry_code": _INDUSTRY,
        "industry_name": ("text", "Name of the industry."),
        **{
            factor: ("number", f"Signed z-score of the {factor} factor; empty where an input is missing.")
            for factor in FACTORS
        },
        "composite": ("number", "Mean of the factors in use."),
        "rank": ("integer", "Rank by composite, 1 the highest; empty without composite."),
        **{
            f"{factor}_flag": ("integer", f"1 where {factor} is above the cross-sectional median.")
            for factor in FACTORS
        },
        "level_measure": ("text", "penetration or share: what the level factor measures."),
        "size_signal": ("integer", "1 large, 0 small leads."),
        "growth_value_signal": ("integer", "1 growth, 0 value leads."),
        "heat": ("number", "Change of new ETF issues minus that of active funds, last complete month."),
        "active_basis": ("text", "Whether active holdings were disclosed or simulated."),
        "factors_used": ("text", "Factors in the composite."),
        "withheld_reason": ("text", "Why nothing is published for this date; empty where it is."),
        "decision_at": ("moment", "When the decision is taken; nothing known later is used."),
        "settings_hash": _SETTINGS,
        "source": _SOURCE,
    },
)

STRATEGY_HOLDINGS = Table(
    "strategy_holdings",
    "One row per rebalance date and industry held.",
    ("signal_date", "rank"),
    {
        "signal_date": _SIGNAL_DATE,
        "rank": ("integer", "Rank by composite, 1 the highest."),
        "industry_code": _INDUSTRY,
        "industry_name": ("text", "Name of the industry."),
        "weight": ("number", "Weight in the portfolio."),
        "composite": ("number", "Mean of the factors in use."),
        **{factor: ("number", f"Signed z-score of the {factor} factor.") for factor in FACTORS},
        **{
            f"{factor}_flag": ("integer", f"1 where {factor} is above the cross-sectional median.")
            for factor in FACTORS
        },
        "flags": ("text", "Factors above the cross-sectional median."),
        "size_regime": ("text", "large or small leads."),
        "growth_value_regime": ("text", "growth or value leads."),
        "heat_side": ("text", "etf or active: whose new issues are hotter."),
        "level_measure": ("text", "penetration or share: what the level factor measures."),
        "active_basis": ("text", "Whether active holdings were disclosed or simulated."),
        "factors_used": ("text", "Factors in the composite."),
        "factors_off": ("text", "Factors not in the composite, with the reason."),
        "largest_etf": ("text", "Largest ETF that expresses the industry."),
        "cheapest_etf": ("text", "Cheapest one by yearly fee."),
        "most_liquid_etf": ("text", "Most traded one over the last month."),
        "holding_start": ("date", "First session of the holding period."),
        "holding_end": ("date", "Last session of the holding period."),
        "data_until": ("date", "Last day any data used is about."),
        "decision_at": ("moment", "When the decision is taken; nothing known later is used."),
        "settings_hash": _SETTINGS,
        "source": _SOURCE,
    },
)

HOLDINGS_LEDGER = Table(
    "holdings_ledger",
    "One row per signal date, version and industry: what was published, and every restatement. Only appended to.",
    ("signal_date", "version", "rank"),
    {
        "signal_date": _SIGNAL_DATE,
        "version": ("integer", "1 as first published; later ones are restatements."),
        "event": ("text", "published, restated, or withdrawn where the date has no holdings any more."),
        "recorded_at": ("moment", "When this version was recorded."),
        "cause": ("text", "Raw rows that were changed or came late since the version before; empty of the first."),
        "rank": ("integer", "Rank by composite; 0 in the one row of a withdrawn date."),
        "industry_code": _INDUSTRY,
        "industry_name": ("text", "Name of the industry."),
        "weight": ("number", "Weight in the portfolio."),
        "settings_hash": _SETTINGS,
        "source": _SOURCE,
    },
)

_PORTFOLIO = ("text", "What is ranked: composite, style_timed (level and change), or one factor.")
_EXECUTION = ("text", "signal_close: traded at the close of the signal date, as published; next_session: one later.")
_SPAN = ("text", "full, or before or after the date evidence is split at.")
_FACTOR = ("text", "Factor, or composite.")

BACKTEST_DAILY = Table(
    "backtest_daily",
    "One row per back-tested portfolio, execution and session: value of what was worth 1 when first bought.",
    ("portfolio", "execution", "trade_date"),
    {
        "portfolio": _PORTFOLIO,
        "execution": _EXECUTION,
        "trade_date": ("date", "Session."),
        "nav": ("number", "Value without costs."),
        "nav_after_costs": ("number", "Value after costs."),
        "benchmark_nav": ("number", "Value of all industries, equally weighted on the same dates, without costs."),
        "relative_nav": ("number", "nav over benchmark_nav."),
        "relative_nav_after_costs": ("number", "nav_after_costs over benchmark_nav."),
        "source": _SOURCE,
    },
)

BACKTEST_PERIOD = Table(
    "backtest_period",
    "One row per back-tested portfolio, execution and holding period; a period without holdings is in cash.",
    ("portfolio", "execution", "signal_date"),
    {
        "portfolio": _PORTFOLIO,
        "execution": _EXECUTION,
        "signal_date": _SIGNAL_DATE,
        "bought_at": ("date", "Session at whose close the holdings were bought."),
        "held_until": ("date", "Session at whose close they were last valued: the next purchase, or the last session."),
        "industries_held": ("integer", "Industries held; 0 in cash."),
        "period_return": ("number", "Return without costs, as a fraction."),
        "period_return_after_costs": ("number", "Return after the costs of buying, as a fraction."),
        "benchmark_return": ("number", "Simple mean of the industries' returns, as a fraction."),
        "excess_return": ("number", "period_return minus benchmark_return."),
        "turnover": ("number", "Half the sum of weights traded at bought_at, drift of the period before included."),
        "cost": ("number", "Cost of that trading as a fraction of the value."),
        "source": _SOURCE,
    },
)

BACKTEST_INDUSTRY = Table(
    "backtest_industry",
    "One row per back-tested portfolio, execution, holding period and industry held.",
    ("portfolio", "execution", "signal_date", "industry_code"),
    {
        "portfolio": _PORTFOLIO,
        "execution": _EXECUTION,
        "signal_date": _SIGNAL_DATE,
        "industry_code": _INDUSTRY,
        "weight": ("number", "Weight when bought."),
        "end_weight": ("number", "Weight when last valued: drifted, nothing traded in between."),
        "period_return": ("number", "Return of the industry over the period, as a fraction."),
        "excess_return": ("number", "That return minus the mean of all industries."),
        "source": _SOURCE,
    },
)

PERFORMANCE = Table(
    "performance",
    "One row per back-tested portfolio, execution, costs and calendar year, and one for the full history.",
    ("portfolio", "execution", "costs", "period"),
    {
        "portfolio": _PORTFOLIO,
        "execution": _EXECUTION,
        "costs": ("text", "before or after costs."),
        "period": ("text", "Calendar year, or full."),
        "is_partial": ("flag", "Whether the year is not whole: its return and excess are annualised."),
        "first_date": ("date", "Session the period starts from."),
        "last_date": ("date", "Last session of the period."),
        "sessions": ("integer", "Daily returns in it."),
        "total_return": ("number", "Return over the period as it is, as a fraction."),
        "annual_return": ("number", "Return per year of 252 sessions; of a whole calendar year its total return."),
        "volatility": ("number", "Annualised standard deviation of daily returns."),
        "sharpe": ("number", "annual_return over volatility."),
        "max_drawdown": ("number", "Largest fall from a peak, 0 or below."),
        "benchmark_return": ("number", "annual_return of the benchmark."),
        "excess_return": ("number", "Geometric: (1 + annual_return) / (1 + benchmark_return) - 1."),
        "tracking_error": ("number", "Annualised standard deviation of daily returns minus the benchmark's."),
        "information_ratio": ("number", "excess_return over tracking_error."),
        "relative_max_drawdown": ("number", "Largest fall of the relative NAV from a peak, 0 or below."),
        "monthly_win_rate": ("number", "Part of the months with a return above the benchmark's."),
        "odds": ("number", "Mean excess of winning months over mean loss of losing ones."),
        "industry_win_rate": ("number", "Part of the holdings that beat the mean of all industries over their period."),
        "turnover": ("number", "Turnover per year: sum of the periods' turnover, annualised."),
        "source": _SOURCE,
    },
)

FACTOR_IC = Table(
    "factor_ic",
    "One row per factor, horizon and rebalance date: rank correlation of the factor with later returns.",
    ("factor", "horizon", "signal_date"),
    {
        "factor": _FACTOR,
        "horizon": ("text", "period: the holding period; week_1 …: that trading week after the signal alone."),
        "signal_date": _SIGNAL_DATE,
        "ic": ("number", "Spearman correlation across industries."),
        "industries": ("integer", "Industries with both."),
        "source": _SOURCE,
    },
)

FACTOR_IC_SUMMARY = Table(
    "factor_ic_summary",
    "One row per factor, horizon and span: how steady the rank correlation is.",
    ("factor", "horizon", "span"),
    {
        "factor": _FACTOR,
        "horizon": ("text", "period or week_1 …"),
        "span": _SPAN,
        "dates": ("integer", "Dates with a correlation."),
        "mean_ic": ("number", "Mean."),
        "std_ic": ("number", "Standard deviation (ddof 1)."),
        "t_statistic": ("number", "Mean over its standard error."),
        "positive_ratio": ("number", "Part of the dates above zero."),
        "source": _SOURCE,
    },
)

FACTOR_GROUP_DAILY = Table(
    "factor_group_daily",
    "One row per factor, group and session: value of one fifth of the industries by the factor.",
    ("factor", "group", "trade_date"),
    {
        "factor": _FACTOR,
        "group": ("text", "1 (lowest) … 5 (highest), or long_short: daily return of 5 minus that of 1, compounded."),
        "trade_date": ("date", "Session."),
        "nav": ("number", "Value, 1 when first bought; traded at the signal's close, without costs."),
        "source": _SOURCE,
    },
)

FACTOR_GROUP_STATS = Table(
    "factor_group_stats",
    "One row per factor, group and span.",
    ("factor", "group", "span"),
    {
        "factor": _FACTOR,
        "group": ("text", "1 (lowest) … 5 (highest), or long_short."),
        "span": _SPAN,
        "annual_return": ("number", "Return per year of 252 sessions."),
        "volatility": ("number", "Annualised standard deviation of daily returns."),
        "sharpe": ("number", "annual_return over volatility."),
        "max_drawdown": ("number", "Largest fall from a peak, 0 or below."),
        "excess_return": ("number", "Geometric annual excess over all industries; of long_short empty."),
        "source": _SOURCE,
    },
)

FACTOR_CORRELATION = Table(
    "factor_correlation",
    "One row per pair of factors and span: mean over the dates of their correlation across industries.",
    ("factor", "other_factor", "span"),
    {
        "factor": _FACTOR,
        "other_factor": _FACTOR,
        "span": _SPAN,
        "correlation": ("number", "Mean Pearson correlation."),
        "dates": ("integer", "Dates with a correlation."),
        "source": _SOURCE,
    },
)

LUCK_TEST = Table(
    "luck_test",
    "One row per back-tested portfolio, execution and span: could the excess be luck? Without costs.",
    ("portfolio", "execution", "span"),
    {
        "portfolio": _PORTFOLIO,
        "execution": _EXECUTION,
        "span": _SPAN,
        "periods": ("integer", "Holding periods with holdings."),
        "mean_excess": ("number", "Mean excess_return of a period."),
        "annual_excess": ("number", "Geometric annual excess over those periods."),
        "excess_low": ("number", "Lower end of the 90 % bootstrap band of annual_excess."),
        "excess_high": ("number", "Upper end of it."),
        "p_value": (
            "number",
            "Part of random picks of as many industries on the same dates that did at least as well (one-sided).",
        ),
        "draws": ("integer", "Random picks."),
        "sharpe_of_excess": ("number", "Mean over standard deviation of the periods' excess; not annualised."),
        "deflated_probability": (
            "number",
            "Probability that this ratio is above what the best of the sensitivity grid's cells would show by luck.",
        ),
        "source": _SOURCE,
    },
)

SENSITIVITY = Table(
    "sensitivity",
    "One row per cell of the grid: the composite's back-test with other settings. Nothing is chosen from it.",
    ("axis", "factors", "flow_measure", "level_measure", "top_n", "phase", "size_lambda", "growth_value_lambda"),
    {
        "axis": ("text", "construction: factors, measures, top-n and phase varied; smoothing: the two λ varied."),
        "factors": ("text", "Factors in the composite, joined by +."),
        "flow_measure": ("text", "share_change or net_subscription."),
        "level_measure": ("text", "auto, penetration or share."),
        "top_n": ("integer", "Industries held."),
        "phase": ("integer", "Trading weeks the rebalance dates are moved by; 0 the published ones."),
        "size_lambda": ("number", "HP smoothing of the size ratio."),
        "growth_value_lambda": ("number", "HP smoothing of the growth/value ratio."),
        "is_default": ("flag", "Whether this is the strategy as set."),
        "periods": ("integer", "Holding periods with holdings."),
        "annual_return": ("number", "Per year of 252 sessions, traded at the signal's close, without costs."),
        "excess_return": ("number", "Geometric annual excess over all industries."),
        "tracking_error": ("number", "Annualised standard deviation of the excess of daily returns."),
        "information_ratio": ("number", "excess_return over tracking_error."),
        "relative_max_drawdown": ("number", "Largest fall of the relative NAV from a peak, 0 or below."),
        "sharpe_of_excess": ("number", "Mean over standard deviation of the periods' excess; not annualised."),
        "source": _SOURCE,
    },
)

ANALYTICS_TABLES = (
    BACKTEST_DAILY,
    BACKTEST_PERIOD,
    BACKTEST_INDUSTRY,
    PERFORMANCE,
    FACTOR_IC,
    FACTOR_IC_SUMMARY,
    FACTOR_GROUP_DAILY,
    FACTOR_GROUP_STATS,
    FACTOR_CORRELATION,
    LUCK_TEST,
    SENSITIVITY,
)
