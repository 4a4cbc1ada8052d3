"""What a report shows: the published tables it needs, read once and never changed.

Here: which tables, and the few dates every page asks for. Not here: any arrangement for the eye.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import pandas as pd

from etf_pipeline.resources.lake import Lake
from etf_pipeline.settings import FACTORS, Parameters

_NOT_COVERED = {"no weights", "enhanced", "outside A shares", "weight remainder"}
COVERAGE_GROUPS = ("constituents", "theme", "stale weights", "not covered")


@dataclass(frozen=True)
class ReportData:
    """Published tables under their own names, with the parameters they were made with."""

    source: str
    parameters: Parameters
    strategy_holdings: pd.DataFrame
    factor_scores: pd.DataFrame
    rebalance_dates: pd.DataFrame
    style_regime: pd.DataFrame
    industry_weekly: pd.DataFrame
    market_flow: pd.DataFrame
    look_through_coverage: pd.DataFrame
    backtest_daily: pd.DataFrame
    backtest_period: pd.DataFrame
    backtest_industry: pd.DataFrame
    performance: pd.DataFrame
    factor_ic: pd.DataFrame
    factor_ic_summary: pd.DataFrame
    factor_group_daily: pd.DataFrame
    factor_group_stats: pd.DataFrame
    factor_correlation: pd.DataFrame
    luck_test: pd.DataFrame
    sensitivity: pd.DataFrame

    @property
    def is_synthetic(self) -> bool:
        """Whether the source says that its data are made up."""
        return "SYNTHETIC" in self.source.upper()

    @property
    def settings_hash(self) -> str:
        """Hash of the parameters."""
        return self.parameters.hash

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name."""
        return {name: getattr(self, name) for name in TABLE_NAMES}

    @cached_property
    def signal_date(self) -> pd.Timestamp | None:
        """Latest rebalance date with scores, published or withheld; None without any."""
        return _latest(self.factor_scores["signal_date"])

    @cached_property
    def held_date(self) -> pd.Timestamp | None:
        """Latest rebalance date with holdings; None without any."""
        return _latest(self.strategy_holdings["signal_date"])

    @cached_property
    def data_until(self) -> pd.Timestamp | None:
        """Last session with a flow of the market; None without any."""
        return _latest(self.market_flow["trade_date"])

    @cached_property
    def current_holdings(self) -> pd.DataFrame:
        """Rows of `strategy_holdings` of the latest date that has any, by rank."""
        return self.strategy_holdings[self.strategy_holdings["signal_date"] == self.held_date].sort_values("rank")

    @cached_property
    def current_scores(self) -> pd.DataFrame:
        """Rows of `factor_scores` of the latest date."""
        return self.factor_scores[self.factor_scores["signal_date"] == self.signal_date]

    @cached_property
    def withheld(self) -> pd.Series:
        """Reason by rebalance date, for the dates that publish nothing."""
        return self.factor_scores.dropna(subset="withheld_reason").groupby("signal_date")["withheld_reason"].first()

    @cached_property
    def factors_off(self) -> dict[str, str]:
        """Factors not in the composite, with the reason the holdings (or the parameters) give."""
        stated = self.current_holdings["factors_off"].dropna()
        named = dict(part.split(": ", 1) for part in stated.iloc[0].split("; ") if ": " in part) if len(stated) else {}
        used = self.current_scores["factors_used"].dropna()
        in_use = used.iloc[0].split(", ") if len(used) else list(self.parameters.factors)
        return {f: named.get(f, "switched off by the parameter factors") for f in FACTORS if f not in in_use}

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """Part of the value of A-share stock ETFs by week (rows) and basis (columns, `COVERAGE_GROUPS`)."""
        frame = self.look_through_coverage
        group = frame["basis"].where(~frame["basis"].isin(_NOT_COVERED), "not covered")
        wide = frame.assign(basis=group).pivot_table(
            index="week_end", columns="basis", values="ratio", aggfunc=lambda ratio: ratio.sum(min_count=1)
        )
        # a basis without a row in a week that has others held no value then
        return wide.reindex(columns=[*COVERAGE_GROUPS, *sorted(set(map(str, wide)) - set(COVERAGE_GROUPS))]).fillna(0.0)


TABLE_NAMES = tuple(field.name for field in fields(ReportData) if field.name not in ("source", "parameters"))


def read_report_data(lake: Lake, parameters: Parameters) -> ReportData:
    """The report's tables as published in `lake`.

    Raises:
        LakeError: a table was not published yet.
    """
    tables = {name: lake.read_published(name) for name in TABLE_NAMES}
    tables = {name: _told_apart(table) for name, table in tables.items()}
    weekly = tables["industry_weekly"]
    tables["industry_weekly"] = weekly[weekly["scheme"] == parameters.scheme].reset_index(drop=True)
    return ReportData(source=lake.source_label, parameters=parameters, **tables)


def _told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the code added to names that several industries have."""
    if not {"industry_code", "industry_name"} <= set(table):
        return table
    names = table[["industry_code", "industry_name"]].drop_duplicates()
    shared = names.loc[names.duplicated("industry_name", keep=False), "industry_name"]
    added = table["industry_name"] + " (" + table["industry_code"] + ")"
    return table.assign(industry_name=table["industry_name"].mask(table["industry_name"].isin(shared), added))


def _latest(dates: pd.Series) -> pd.Timestamp | None:
    return dates.max() if dates.notna().any() else None
