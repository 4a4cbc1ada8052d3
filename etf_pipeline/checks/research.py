"""Research tables agree with the strategy and with each other.

Here: that what is back-tested is what was published, and that values follow from returns. Not here: whether a result
is good; no check judges that.
"""

import dagster as dg
import pandas as pd

from etf_pipeline.checks.verdict import published, verdict
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import Pipeline

_TOLERANCE = 1e-9


def research_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of the back-test, of the sensitivity grid and of what the report shows."""
    return [_held_as_published, _values_follow_from_returns, _default_is_the_strategy]


@dg.asset_check(
    name="held_as_published",
    # of the report, which is made of both: the holdings, partitioned by date, may be materialised in a run of their own
    asset=dg.AssetKey(["reports", "report"]),
)
def _held_as_published(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """The composite is back-tested with the industries and weights of strategy_holdings, on every date of either.

    Dates before the first industry close and after the last cannot be back-tested and are not compared.
    When it fails: one of the two tables is of other scores; materialise holdings and back-test again, all dates.
    """
    key = ["signal_date", "industry_code"]
    tested = published(pipeline, "backtest_industry", ["portfolio", "execution", *key, "weight"])
    tested = tested[(tested["portfolio"] == "composite") & (tested["execution"] == "signal_close")]
    held = published(pipeline, "strategy_holdings", [*key, "weight"])
    bars = pipeline.lake.read_raw(load_contract()["industry_bar"], pipeline.deployment.end)
    closes = bars.loc[bars["scheme"] == pipeline.parameters.scheme, "trade_date"]
    held = held[held["signal_date"].between(closes.min(), closes.max())]
    both = held.merge(tested[[*key, "weight"]], on=key, how="outer", suffixes=("_published", "_tested"))
    odd = ~(both["weight_published"] - both["weight_tested"]).abs().le(_TOLERANCE)
    return verdict(both[odd], len(both), tolerance=_TOLERANCE)


@dg.asset_check(
    name="values_follow_from_returns",
    asset=dg.AssetKey(["analytics", "backtest_daily"]),
    additional_deps=[dg.AssetKey(["analytics", "backtest_period"])],
)
def _values_follow_from_returns(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """At the end of each period the value is the product of the period returns, with and without costs.

    A period bought at the last close has no session yet, and the cost of buying it is in no daily value.
    When it fails: the tables are of different runs; materialise the back-test again.
    """
    which = ["portfolio", "execution"]
    periods = published(
        pipeline,
        "backtest_period",
        [*which, "bought_at", "held_until", "period_return", "period_return_after_costs", "benchmark_return"],
    ).sort_values([*which, "bought_at"])
    periods = periods[periods["held_until"] > periods["bought_at"]]
    daily = published(
        pipeline, "backtest_daily", [*which, "trade_date", "nav", "nav_after_costs", "benchmark_nav"]
    ).rename(columns={"trade_date": "held_until"})
    both = periods.merge(daily, on=[*which, "held_until"], how="left")
    pairs = {
        "nav": "period_return",
        "nav_after_costs": "period_return_after_costs",
        "benchmark_nav": "benchmark_return",
    }
    odd = pd.Series(False, index=both.index)
    for value, returned in pairs.items():
        compounded = (1 + both[returned]).groupby([both[c] for c in which]).cumprod()
        odd |= ~(both[value] / compounded - 1).abs().le(_TOLERANCE) & ~(both[value].isna() & compounded.isna())
    return verdict(both[odd], len(both), tolerance=_TOLERANCE)


@dg.asset_check(
    name="default_is_the_strategy",
    asset=dg.AssetKey(["analytics", "sensitivity"]),
    additional_deps=[dg.AssetKey(["analytics", "performance"])],
)
def _default_is_the_strategy(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """The cells marked as default, one of each axis, have the statistics of the back-tested composite.

    When it fails: the grid computes something else than the strategy; materialise both again.
    """
    names = ["annual_return", "excess_return", "tracking_error", "information_ratio", "relative_max_drawdown"]
    grid = published(pipeline, "sensitivity", ["axis", "is_default", *names])
    cells = grid[grid["is_default"].astype(bool)]
    performance = published(pipeline, "performance", ["portfolio", "execution", "costs", "period", *names])
    full = performance.query(
        "portfolio == 'composite' and execution == 'signal_close' and costs == 'before' and period == 'full'"
    )[names]
    wanted = full.iloc[0] if len(full) else pd.Series(float("nan"), index=names)
    differs = ~((cells[names] - wanted).abs().le(_TOLERANCE) | (cells[names].isna() & wanted.isna())).all(axis=1)
    expected = {"construction", "smoothing"}
    missing = pd.DataFrame({"axis": sorted(expected - set(cells["axis"])), "is_default": False})
    repeated = cells[cells["axis"].duplicated(keep=False)]
    return verdict(pd.concat([cells[differs], repeated, missing]), len(cells), tolerance=_TOLERANCE)
