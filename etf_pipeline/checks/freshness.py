"""Whether daily raw data reach the end of the run, and whether every day is whole. Nothing here stops a run."""

from collections.abc import Mapping

import dagster as dg
import pandas as pd

from etf_pipeline.checks.verdict import WARN, markdown, rows_by_day, verdict
from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.resources.pipeline import Pipeline

_DAILY = ("etf_share", "etf_nav", "index_bar", "etf_bar", "industry_bar")
_JUDGED_SESSIONS = 250
"""Short files of the last year count; older ones are listed, but nobody will mend them."""


def freshness_checks() -> list[dg.AssetChecksDefinition]:
    """The check `freshness` of daily datasets, and `short_files` of etf_share."""
    contract = load_contract()
    return [*(_freshness_check(contract[name]) for name in _DAILY), _short_files]


def _freshness_check(dataset: Dataset) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name="freshness",
        asset=dg.AssetKey(["raw", dataset.name]),
        description=(
            "The last date is at most freshness_limit_sessions sessions before the end of the run; of indices, that of "
            "each one style regimes need. When it fails: ingest the missing days, or accept that signals stop there."
            + ("" if dataset.required else " Passes if this optional dataset was not ingested.")
        ),
    )
    def freshness(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        end = pipeline.span[1]
        limit = pipeline.parameters.freshness_limit_sessions
        if not pipeline.lake.raw_files(dataset) and not dataset.required:
            return verdict(pd.DataFrame(), 0, WARN, available=False, reason="optional, and not in the lake")
        last = pd.Series(_last_dates(dataset, pipeline), dtype="datetime64[us]").rename("last_date")
        late = pd.Series(
            [len(sessions_between(day.date(), end)) - 1 if pd.notna(day) else None for day in last],
            index=last.index,
            dtype="Int64",
        )
        table = pd.concat([last, late.rename("sessions_late")], axis=1).rename_axis("series").reset_index()
        broken = table[table["sessions_late"].isna() | (table["sessions_late"] > limit)]
        known = last.dropna()
        return verdict(
            broken,
            len(table),
            WARN,
            last_date=f"{known.min():%Y-%m-%d}" if len(known) else "none",
            sessions_late=int(late.max()) if late.notna().any() else "no data",
            end=f"{end}",
            limit_sessions=limit,
        )

    return freshness


def _last_dates(dataset: Dataset, pipeline: Pipeline) -> Mapping[str, pd.Timestamp]:
    """Last date by series: of each index in use, of the scheme in use, or of the dataset as a whole."""
    p = pipeline.parameters
    if dataset.name not in ("index_bar", "industry_bar"):
        return {dataset.name: rows_by_day(pipeline, dataset).index.max()}
    frame = pipeline.lake.read_raw(dataset, pipeline.deployment.end)
    if dataset.name == "industry_bar":
        return {p.scheme: frame.loc[frame["scheme"] == p.scheme, "trade_date"].max()}
    last = frame.groupby("index_code")["trade_date"].max()
    wanted = p.style_indices
    return {code: last.get(code, pd.NaT) for code in wanted}


@dg.asset_check(name="short_files", asset=dg.AssetKey(["raw", "etf_share"]))
def _short_files(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """No session of the last 250 is absent or holds fewer than short_file_ratio of the ETFs of the session before.

    When it fails: ingest the days shown again once the exchanges have published them in full; until then their flows
    belong to longer intervals.
    """
    dataset, ratio = load_contract()["etf_share"], pipeline.parameters.short_file_ratio
    counts = rows_by_day(pipeline, dataset)
    if counts.empty:
        none = pd.DataFrame({"trade_date": [None], "etfs": [0]})
        return verdict(none, 0, WARN, reason="etf_share is not in the lake")
    sessions = sessions_between(counts.index[0].date(), counts.index[-1].date())
    etfs = counts.reindex(sessions, fill_value=0)
    before = etfs.shift(fill_value=0)
    # an absent day is short whatever came before it, or a long gap would show as one day
    short = pd.DataFrame({"trade_date": sessions, "etfs": etfs.to_numpy(), "etfs_before": before.to_numpy()})
    short = short[(etfs.eq(0) | (etfs < ratio * before)).to_numpy()]
    recent = short[short["trade_date"].isin(sessions[-_JUDGED_SESSIONS:])]
    return verdict(
        recent,
        len(sessions),
        WARN,
        absent_sessions=int(short["etfs"].eq(0).sum()),
        short_sessions=int(short["etfs"].gt(0).sum()),
        all_short=markdown(short.tail(_JUDGED_SESSIONS)),
        judged_sessions=_JUDGED_SESSIONS,
        short_file_ratio=ratio,
    )
