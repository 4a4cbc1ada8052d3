"""Strategy assets: rebalance dates and the industries held from each of them."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import cache

import dagster as dg
import numpy as np
import pandas as pd

from etf_pipeline.assets.factors import factors_in_use, publish, signal_dates
from etf_pipeline.checks.gate import require_sound
from etf_pipeline.checks.verdict import markdown
from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import last_calendar_session, sessions_after
from etf_pipeline.core.calendar import rebalance_dates as dates_between
from etf_pipeline.core.ledger import differing_dates, new_versions
from etf_pipeline.partitions import rebalance_partitions
from etf_pipeline.resources.archive import INGESTED_AT, changes, newest
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.remembered import remembered
from etf_pipeline.resources.storage import exclusive_lock
from etf_pipeline.settings import Parameters
from etf_pipeline.tables import HOLDINGS_LEDGER, REBALANCE_DATES, STRATEGY_HOLDINGS

GROUP = "strategy"
_SHOWN_DATES = 10


@dg.asset(key=[GROUP, "rebalance_dates"], group_name=GROUP, deps=[["marts", "industry_weekly"]], kinds={"pandas"})
def rebalance_dates(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
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
    require_sound(context, pipeline, REBALANCE_DATES.name, REBALANCE_DATES.to_arrow(frame))
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
            computed = _holdings(pipeline)
            if partitioned:
                computed = computed[computed["signal_date"].isin(pd.DatetimeIndex(context.partition_keys))]
            if len(computed):
                require_sound(context, pipeline, STRATEGY_HOLDINGS.name, STRATEGY_HOLDINGS.to_arrow(computed))
            asked = pd.DatetimeIndex(context.partition_keys) if partitioned else None
            frame = _with_what_stays(pipeline, computed, asked)
            latest = frame[frame["signal_date"] == frame["signal_date"].max()].sort_values("rank")
            return publish(
                pipeline,
                STRATEGY_HOLDINGS,
                frame,
                dates=int(frame["signal_date"].nunique()),
                current=markdown(latest[["rank", "industry_code", "industry_name", "weight", "composite", "flags"]]),
            )

    return [rebalance_dates, strategy_holdings, holdings_ledger]


@dg.asset(key=[GROUP, "holdings_ledger"], group_name=GROUP, deps=[[GROUP, "strategy_holdings"]], kinds={"pandas"})
def holdings_ledger(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """What was published for each signal date, and every restatement since with what caused it. Only appended to."""
    lake, holdings = pipeline.lake, pipeline.lake.read_published("strategy_holdings")
    with lake.appending(HOLDINGS_LEDGER.name, HOLDINGS_LEDGER.schema) as (stored, append):
        ledger = stored.to_pandas(date_as_object=False)
        known = newest(path for dataset in load_contract().values() for path in lake.archive_files(dataset))
        # never before what it knows, whatever the clock says
        moment = max(filter(None, (datetime.now(UTC), known)))
        added = new_versions(ledger.drop(columns=["cause", "source"]), holdings, moment)
        restates = added["event"] != "published"
        added = added.assign(cause=None, source=lake.source_label)
        if restates.any():
            causes = _causes(pipeline, ledger, added.loc[restates, "signal_date"].unique())
            added["cause"] = added["signal_date"].map(causes).where(restates)
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


def _causes(pipeline: Pipeline, ledger: pd.DataFrame, dates: Iterable[pd.Timestamp]) -> dict[pd.Timestamp, str]:
    """Why each of these dates is not what its last version says: what has changed since that was recorded."""
    last = ledger.sort_values("version").drop_duplicates("signal_date", keep="last").set_index("signal_date")
    lake, contract = pipeline.lake, load_contract().values()
    written = {dataset.name: changes(dataset, lake.archive_files(dataset)) for dataset in contract}

    @cache
    def cause(recorded_at: pd.Timestamp, settings_hash: str) -> str:
        parts = [_settings_changed(pipeline, settings_hash)] if settings_hash != pipeline.parameters.hash else []
        parts += [part for name, rows in written.items() for part in _written_since(name, rows, recorded_at)]
        return "; ".join(parts) or "no raw data and no setting changed: another version of the program"

    return {day: cause(*last.loc[day, ["recorded_at", "settings_hash"]]) for day in dates}


def _written_since(dataset: str, rows: pd.DataFrame, moment: pd.Timestamp) -> Iterator[str]:
    """Words for the dates of a dataset whose rows were replaced, or else came in, after `moment`."""
    replaced = rows[rows[INGESTED_AT] > moment].groupby("day", dropna=False)["replaced"].sum()
    revised = sorted(str(day) if isinstance(day, date) else "snapshot" for day in replaced.index[replaced > 0])
    if revised:
        yield f"{dataset} revised: {', '.join(revised[:_SHOWN_DATES])}" + (" …" if len(revised) > _SHOWN_DATES else "")
    if late := len(replaced) - len(revised):
        yield f"{dataset} new: {late} dates"


def _settings_changed(pipeline: Pipeline, settings_hash: str) -> str:
    """What the settings of now do otherwise than those of this hash, if it is they that the lake remembers."""
    now, before = pipeline.parameters, remembered(pipeline.lake.root)
    earlier = Parameters.load(before["parameters"]) if before else None
    if earlier is None or earlier.hash != settings_hash:
        return f"settings changed: {settings_hash} → {now.hash}"
    return "settings changed: " + ", ".join(f"{n} {old} → {new}" for n, (old, new) in earlier.differing(now).items())


def _with_what_stays(pipeline: Pipeline, computed: pd.DataFrame, asked: pd.DatetimeIndex | None) -> pd.DataFrame:
    """The holdings with the published ones of dates that were not `asked` for, or lie beyond the deployment's end."""
    end = pipeline.deployment.end or date.max
    if not pipeline.lake.published_path(STRATEGY_HOLDINGS.name).exists():
        return computed
    present = pipeline.lake.read_published(STRATEGY_HOLDINGS.name)
    days = present["signal_date"]
    stays = ~days.isin(asked) if asked is not None else days.dt.date > end
    return pd.concat([present[stays], computed]) if stays.any() else computed


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
