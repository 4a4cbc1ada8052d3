"""Tables that Python assets publish: key, columns, types and meaning.

The tables dbt publishes are described in `dbt_project/models/marts/marts.yml`. Together they are the interface
people build on: names and columns stay.
"""

from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

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


@dataclass(frozen=True)
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
            "aum_cny": ("number", "Shares times NAV of the same session [CNY]."),
            "circulating_value_cny": ("number", "Shares times raw close [CNY]."),
            "net_creation_cny": (
                "number",
                "Change of shares since the session before, splits taken out, at NAV [CNY].",
            ),
            "net_subscription_cny": ("number", "Published form of the flow, from raw closes [CNY]."),
            f"rsi_wilder_{rsi_periods}": ("number", "Wilder RSI of the raw close, splits taken out [0 to 100]."),
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
