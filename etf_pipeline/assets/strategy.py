"""Strategy assets: rebalance dates and the industries held from each of them."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg
import numpy as np
import pandas as pd

from etf_pipeline.assets.factors import factors_in_use, publish, signal_dates
from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import last_calendar_session, sessions_after
from etf_pipeline.core.calendar import rebalance_dates as dates_between
from etf_pipeline.core.ledger import differing_dates, new_versions
from etf_pipeline.partitions import rebalance_partitions
from etf_pipeline.resources.archive import revisions
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import exclusive_lock
from etf_pipeline.settings import Parameters
from etf_pipeline.tables import HOLDINGS_LEDGER, REBALANCE_DATES, STRATEGY_HOLDINGS

GROUP = "strategy"
_SHOWN_DATES = 10


@dg.asset(key=[GROUP, "rebalance_dates"], group_name=GROUP, deps=[["marts", "industry_weekly"]], kinds={"pandas"})
def rebalance_dates(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """One row per rebalance date the data reach: every second trading week end, counted from the anchor."""
    p = pipeline.parameters
    dates = signal_dates(pipeline, pipeline.lake.read_published("industry_weekly")["week_end"])
    start = dates.min().date() if len(dates) else p.rebalance_anchor
    known = dates_between(start, last_calendar_session(), p.rebalance_anchor, p.rebalance_every_weeks)
    following = pd.Series(known[1:].append(pd.DatetimeIndex([pd.NaT])), index=known)
    frame = pd.DataFrame(
        {
            "signal_date": dates,
            "holding_start": sessions_after(dates, 1),
            "holding_end": following.reindex(dates).to_numpy(),
        }
    )
    return publish(pipeline, REBALANCE_DATES, frame)


def strategy_assets(parameters: Parameters, start: date, end: date | None) -> list[dg.AssetsDefinition]:
    """The strategy's assets; holdings are partitioned by the rebalance dates from `start` to `end`."""

    @dg.asset(
        key=[GROUP, "strategy_holdings"],
        group_name=GROUP,
        deps=[["factors", "factor_scores"], [GROUP, "rebalance_dates"], ["marts", "industry_tracker"]],
        partitions_def=rebalance_partitions(parameters, start, end),
        backfill_policy=dg.BackfillPolicy.single_run(),
        kinds={"pandas"},
    )
    def strategy_holdings(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult:
        """One row per rebalance date and industry held: the highest composites, equally weighted.

        A date with a factor missing for too many industries holds nothing; its reason stands in factor_scores.
        """
        lake = pipeline.lake
        partitioned = context.has_partition_key or context.has_partition_key_range
        with exclusive_lock(lake.root / "published" / ".strategy_holdings.lock"):
            frame = _holdings(pipeline)
            if partitioned:
                frame = _replace_dates(pipeline, frame, pd.DatetimeIndex(context.partition_keys))
            latest = frame[frame["signal_date"] == frame["signal_date"].max()]
            return publish(
                pipeline,
                STRATEGY_HOLDINGS,
                frame,
                dates=int(frame["signal_date"].nunique()),
                current=dg.MetadataValue.md(latest.iloc[:, :8].to_markdown(index=False)),
            )

    return [rebalance_dates, strategy_holdings, holdings_ledger]


@dg.asset(key=[GROUP, "holdings_ledger"], group_name=GROUP, deps=[[GROUP, "strategy_holdings"]], kinds={"pandas"})
def holdings_ledger(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """What was published for each signal date, and every restatement since with what caused it. Only appended to."""
    lake, holdings = pipeline.lake, pipeline.lake.read_published("strategy_holdings")
    with lake.appending(HOLDINGS_LEDGER.name, HOLDINGS_LEDGER.schema) as (stored, append):
        ledger = stored.to_pandas(date_as_object=False)
        added = new_versions(ledger.drop(columns=["cause", "source"]), holdings, datetime.now(UTC))
        restates = added["event"] != "published"
        cause = _changes_since(pipeline, ledger["recorded_at"].max()) if restates.any() else ""
        added = added.assign(cause=cause, source=lake.source_label)
        added["cause"] = added["cause"].where(restates)
        if len(added):
            append(HOLDINGS_LEDGER.to_arrow(added))
    lake.build_catalogue()
    days = added.drop_duplicates("signal_date")
    restated = days[days["event"] != "published"]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(ledger) + len(added),
            "source": lake.source_label,
            "published": int((days["event"] == "published").sum()),
            "restated": len(restated),
            "restatements": dg.MetadataValue.md(
                restated[["signal_date", "version", "event", "cause"]].to_markdown(index=False)
            ),
        }
    )


def restated_dates(pipeline: Pipeline) -> pd.DatetimeIndex:
    """Signal dates, up to the last published one, whose published holdings are not those of the scores as they are."""
    published = pipeline.lake.read_published(STRATEGY_HOLDINGS.name)
    dates = differing_dates(published, _holdings(pipeline))
    return dates[dates <= published["signal_date"].max()]


def _changes_since(pipeline: Pipeline, moment: datetime) -> str:
    """Datasets written to since, with the dates whose rows were replaced, or else that came in."""
    lake, parts = pipeline.lake, []
    for dataset in load_contract().values():
        found = revisions(dataset, lake.archive_files(dataset), moment)
        revised = sorted(str(day or "snapshot") for day, rows in found.items() if rows)
        late = len(found) - len(revised)
        if revised:
            shown = ", ".join(revised[:_SHOWN_DATES]) + (" …" if len(revised) > _SHOWN_DATES else "")
            parts.append(f"{dataset.name} revised: {shown}")
        if late:
            parts.append(f"{dataset.name} new: {late} dates")
    return "; ".join(parts) or "no raw data changed: other settings or another version of the program"


def _replace_dates(pipeline: Pipeline, computed: pd.DataFrame, dates: pd.DatetimeIndex) -> pd.DataFrame:
    computed = computed[computed["signal_date"].isin(dates)]
    if not pipeline.lake.published_path(STRATEGY_HOLDINGS.name).exists():
        return computed
    present = pipeline.lake.read_published(STRATEGY_HOLDINGS.name)
    return pd.concat([present[~present["signal_date"].isin(dates)], computed])


def _holdings(pipeline: Pipeline) -> pd.DataFrame:
    p, lake = pipeline.parameters, pipeline.lake
    scores = lake.read_published("factor_scores")
    periods = lake.read_published("rebalance_dates")
    held = scores[scores["withheld_reason"].isna() & (scores["rank"] <= p.top_n)]
    held = held.merge(periods, on="signal_date", validate="many_to_one")
    held = held.merge(
        _trackers(lake.read_published("industry_tracker")), on=["signal_date", "industry_code"], how="left"
    )
    in_use, off = factors_in_use(pipeline)
    above = held[[f"{factor}_flag" for factor in in_use]].eq(1).to_numpy()
    return held.assign(
        weight=1 / held.groupby("signal_date")["rank"].transform("size"),
        flags=[", ".join(np.array(in_use)[row]) for row in above],
        size_regime=_named(held["size_signal"], {1: "large", 0: "small"}),
        growth_value_regime=_named(held["growth_value_signal"], {1: "growth", 0: "value"}),
        heat_side=_named(held["heat"].gt(0).mask(held["heat"].isna()), {True: "etf", False: "active"}),
        factors_off="; ".join(f"{factor}: {reason}" for factor, reason in off.items()),
        data_until=held["signal_date"],
    )[list(STRATEGY_HOLDINGS.columns)]


def _named(values: pd.Series, names: Mapping[int | bool, str]) -> pd.Series:
    return values.map(names).astype("str")


def _trackers(trackers: pd.DataFrame) -> pd.DataFrame:
    """Per week and industry the largest, cheapest and most traded ETF; equal ones by code."""
    best = {
        "largest_etf": ("held_value_cny", False),
        "cheapest_etf": ("annual_fee_ratio", True),
        "most_liquid_etf": ("mean_amount_cny", False),
    }
    key = ["week_end", "industry_code"]
    columns = []
    for name, (measure, ascending) in best.items():
        ordered = trackers.dropna(subset=[measure]).sort_values(
            [*key, measure, "etf_code"], ascending=[True, True, ascending, True]
        )
        first = ordered.drop_duplicates(key).set_index(key)
        columns.append((first["etf_code"] + " " + first["etf_name"]).rename(name))
    return pd.concat(columns, axis=1).rename_axis(["signal_date", "industry_code"]).reset_index()
