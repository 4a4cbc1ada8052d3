"""Conservation: published tables add up, and agree with each other.

Here: identities between published numbers, computed anew, not with the SQL that made them. Not here: shape and types
(`schema.py`), or when something was known (`look_ahead.py`).
"""

from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pandas as pd

from etf_pipeline.checks.passed import Passed
from etf_pipeline.checks.verdict import WARN, markdown, published, query, verdict
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.resources.digests import chained_digests, digest_of
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import rows_in

_WITH_INDUSTRY = ("constituents", "stale weights")
_REACH_AN_INDUSTRY = (*_WITH_INDUSTRY, "theme")
_RECENT_SESSIONS = 20


def accounting_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of the look-through on its marts, and of sizes and flows on etf_daily."""
    return [
        _industry_value_conserved,
        _industry_shares_sum_to_one,
        _weeks_agree_with_days,
        _stock_value_conserved,
        _coverage_ratios_sum_to_one,
        _coverage_is_sufficient,
        _market_flow_is_plausible,
        _sizes_balance,
        _flows_balance,
        _no_suspected_splits,
        _navs_agree_with_closes,
    ]


def _key(layer: str, table: str) -> dg.AssetKey:
    return dg.AssetKey([layer, table])


def _differ(left: pd.Series, right: pd.Series, room: pd.Series | float) -> pd.Series:
    """Whether two numbers differ by more than `room`, or only one of them is missing."""
    return ~((left - right).abs().le(room) | (left.isna() & right.isna()))


def _coverage(pipeline: Pipeline) -> pd.DataFrame:
    """Value by week end (rows) and basis (columns)."""
    coverage = published(pipeline, "look_through_coverage", ["week_end", "basis", "value_cny"])
    return coverage.pivot(index="week_end", columns="basis", values="value_cny")


def _conserved(
    pipeline: Pipeline, held: pd.DataFrame, coverage: pd.DataFrame, parts: dict[str, tuple[str, ...]]
) -> dg.AssetCheckResult:
    """Weeks in which a column of `held` differs from the bases that `parts` says it is made of."""
    weeks = held.index.union(coverage.index)
    held, coverage = held.reindex(weeks).fillna(0), coverage.reindex(weeks).fillna(0)
    room = pipeline.parameters.conservation_tolerance * coverage.sum(axis=1).abs()
    broken = []
    for column, bases in parts.items():
        looked_through = coverage.reindex(columns=list(bases), fill_value=0).sum(axis=1)
        odd = _differ(held[column], looked_through, room)
        table = pd.DataFrame({"part": column, "held_value_cny": held[column], "coverage_cny": looked_through})
        broken.append(table[odd].rename_axis("week_end").reset_index())
    return verdict(pd.concat(broken), len(weeks), tolerance=pipeline.parameters.conservation_tolerance)


@dg.asset_check(name="value_conserved", asset=_key("marts", "industry_weekly"))
def _industry_value_conserved(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Per week, the industries hold together what coverage says reaches an industry.

    When it fails: value was lost or created between coverage and industries; rebuild the marts and compare the weeks.
    """
    weekly = published(pipeline, "industry_weekly", ["week_end", "held_value_cny"])
    held = weekly.groupby("week_end")[["held_value_cny"]].sum()
    return _conserved(pipeline, held, _coverage(pipeline), {"held_value_cny": _REACH_AN_INDUSTRY})


@dg.asset_check(name="shares_sum_to_one", asset=_key("marts", "industry_weekly"))
def _industry_shares_sum_to_one(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Each held share is the industry's part of the week's held value, and the shares of a week sum to one.

    When it fails: an industry is missing from the sum, or counted twice; rebuild the marts.
    """
    weekly = published(pipeline, "industry_weekly", ["week_end", "industry_code", "held_value_cny", "held_share_ratio"])
    week = weekly.groupby("week_end")
    total = week["held_value_cny"].transform("sum")
    expected = weekly["held_value_cny"] / total.where(total != 0)
    room = pipeline.parameters.conservation_tolerance
    sums = week["held_share_ratio"].transform("sum")
    off = _differ(weekly["held_share_ratio"], expected, room) | ((total != 0) & ~(sums - 1).abs().le(room))
    return verdict(weekly.assign(week_sum=sums)[off], len(weekly), tolerance=room)


@dg.asset_check(
    name="weeks_agree_with_days",
    asset=_key("marts", "industry_weekly"),
    additional_deps=[_key("marts", "industry_daily")],
)
def _weeks_agree_with_days(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Held value of a week is that of its last session, and its flow the sum of its days' parts.

    When it fails: the weekly table is of other days than the daily one; rebuild both.
    """
    weekly = published(pipeline, "industry_weekly", ["week_end", "industry_code", "held_value_cny", "net_creation_cny"])
    daily = published(
        pipeline,
        "industry_daily",
        ["trade_date", "week_end", "industry_code", "held_value_cny", "week_net_creation_cny"],
    )
    key = ["week_end", "industry_code"]
    at_end = daily[daily["trade_date"] == daily["week_end"]].set_index(key)["held_value_cny"]
    gross = daily["week_net_creation_cny"].abs()
    flows = daily.assign(gross=gross).groupby(key)[["week_net_creation_cny", "gross"]].sum(min_count=1)
    days = flows.rename(columns={"week_net_creation_cny": "day_flow"}).assign(day_value=at_end)
    both = weekly.merge(days.loc[at_end.index].reset_index(), on=key, how="outer")
    room = pipeline.parameters.conservation_tolerance
    off = _differ(both["held_value_cny"], both["day_value"], room * both["day_value"].abs())
    off |= _differ(both["net_creation_cny"], both["day_flow"], room * both["gross"])
    return verdict(both[off], len(both), tolerance=room)


@dg.asset_check(
    name="value_conserved",
    asset=_key("marts", "stock_weekly"),
    additional_deps=[_key("marts", "look_through_coverage")],
)
def _stock_value_conserved(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Per week, stocks with an industry, without one, and outside the A-share market hold what coverage says.

    When it fails: the look-through to stocks and that to industries went apart; rebuild the marts.
    """
    sql = """
        SELECT
            week_end,
            CASE
                WHEN NOT is_a_share THEN 'outside A shares' WHEN industry_code IS NULL THEN 'no industry'
                ELSE 'with industry'
            END AS part,
            sum(held_value_cny) AS held_value_cny
        FROM stock_weekly
        GROUP BY ALL
    """
    held = query(pipeline, ["stock_weekly"], sql).pivot(index="week_end", columns="part", values="held_value_cny")
    parts = {
        "with industry": _WITH_INDUSTRY,
        "no industry": ("no industry",),
        "outside A shares": ("outside A shares",),
    }
    return _conserved(pipeline, held.reindex(columns=list(parts)), _coverage(pipeline), parts)


@dg.asset_check(name="ratios_sum_to_one", asset=_key("marts", "look_through_coverage"))
def _coverage_ratios_sum_to_one(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Each ratio is its basis' part of the week's value, and the ratios of a week sum to one.

    When it fails: a basis is missing or counted twice; rebuild the marts.
    """
    coverage = published(pipeline, "look_through_coverage", ["week_end", "basis", "value_cny", "ratio"])
    week = coverage.groupby("week_end")
    expected = coverage["value_cny"] / week["value_cny"].transform("sum")
    sums = week["ratio"].transform("sum")
    room = pipeline.parameters.conservation_tolerance
    off = _differ(coverage["ratio"], expected, room) | ~(sums - 1).abs().le(room)
    return verdict(coverage.assign(week_sum=sums)[off], len(coverage), tolerance=room)


@dg.asset_check(name="coverage_is_sufficient", asset=_key("marts", "look_through_coverage"))
def _coverage_is_sufficient(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """In the last week at least coverage_floor of the value of A-share stock ETFs reaches an industry.

    When it fails: industry shares speak for the covered part only; bring weights (or themes) of the indices without.
    """
    coverage = published(pipeline, "look_through_coverage", ["week_end", "basis", "value_cny", "ratio"])
    last = coverage[coverage["week_end"] == coverage["week_end"].max()]
    reached = float(last.loc[last["basis"].isin(_REACH_AN_INDUSTRY), "ratio"].sum())
    low = pd.DataFrame({"reaches_an_industry": [reached], "at_least": [pipeline.parameters.coverage_floor]})
    return verdict(
        low[low["reaches_an_industry"] < low["at_least"]],
        len(last),
        WARN,
        covered_ratio=reached,
        last_week=markdown(last.sort_values("value_cny", ascending=False)),
    )


def _differ_sql(left: str, right: str, room: str) -> str:
    """As `_differ`, for a query."""
    return f"NOT coalesce(abs({left} - {right}) <= {room}, {left} IS NULL AND {right} IS NULL)"


def _years_of_etf_daily(pipeline: Pipeline, check: str) -> tuple[Passed, date]:
    """What this check has passed of the years of etf_daily, and from which day on it has to look at them.

    A year passes with those before it, in which its flows begin.
    """
    files = pipeline.lake.published_files("etf_daily")
    rules = digest_of(Path(__file__), pipeline.parameters.hash, duckdb.__version__)
    passed = Passed(pipeline.lake, f"etf_daily.{check}", chained_digests(files, rules))
    changed = passed.changed()
    if not changed:
        return passed, date.max
    return passed, date(int(changed[0].stem), 1, 1) if changed[0].stem.isdigit() else date.min


def _verdict_of_years(pipeline: Pipeline, passed: Passed, broken: pd.DataFrame) -> dg.AssetCheckResult:
    changed = passed.changed()
    if broken.empty:
        passed.record(changed)
    files = pipeline.lake.published_files("etf_daily")
    return verdict(broken, rows_in(files), files_changed_since_they_passed=len(changed))


@dg.asset_check(name="market_flow_is_plausible", asset=_key("marts", "industry_weekly"), blocking=True)
def _market_flow_is_plausible(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """No day's flow of a kind of ETFs is both a large part of its size and many times what its flows usually are.

    When it fails: shares or NAVs of the day shown are in another unit, or of another day. Correct them, or leave the
    day out, and ingest it again; holdings wait until then.
    """
    p = pipeline.parameters
    sql = f"""
        WITH flow AS (
            SELECT
                trade_date, asset_scope, etfs_with_flow, net_creation_cny, aum_cny,
                median(abs(net_creation_cny)) OVER (
                    PARTITION BY asset_scope ORDER BY trade_date
                    ROWS BETWEEN {p.market_flow_window_sessions} PRECEDING AND 1 PRECEDING
                ) AS usual_cny
            FROM market_flow
            WHERE net_creation_cny IS NOT NULL
        )
        FROM flow
        WHERE etfs_with_flow >= {p.market_flow_least_etfs}
            AND abs(net_creation_cny) > {p.market_flow_limit_ratio} * aum_cny
            AND coalesce(abs(net_creation_cny) > {p.market_flow_limit_multiple} * usual_cny, true)
        ORDER BY ALL
    """
    days = query(pipeline, ["market_flow"], "SELECT count(*) AS rows FROM market_flow")
    return verdict(query(pipeline, ["market_flow"], sql), int(days["rows"].iloc[0]))


@dg.asset_check(name="sizes_balance", asset=_key("factors", "etf_daily"))
def _sizes_balance(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Size is shares times NAV, circulating value shares times raw close, and missing exactly where a factor is.

    A size made with the NAV of an earlier session is that NAV times the shares, where no split lies in between. Shares
    in doubt, whose flow is held back, may have no size.

    When it fails: the table mixes days or units; rebuild etf_flow and etf_daily.
    """
    passed, since = _years_of_etf_daily(pipeline, "sizes_balance")
    tolerance = pipeline.parameters.conservation_tolerance
    off = " OR ".join(
        _differ_sql(size, f"day.shares * {price}", f"{tolerance} * abs(day.shares * {price})")
        for size, price in (("day.aum_cny", "carried.unit_nav"), ("day.circulating_value_cny", "day.close"))
    )
    sql = f"""
        SELECT
            day.etf_code, day.trade_date, day.shares, day.unit_nav, day.nav_date, day.close, day.aum_cny,
            day.circulating_value_cny
        FROM etf_daily AS day
        LEFT JOIN (SELECT etf_code, trade_date, unit_nav FROM etf_daily) AS carried
            ON day.etf_code = carried.etf_code AND day.nav_date = carried.trade_date
        WHERE day.trade_date >= DATE '{since}'
            AND (({off})
                AND NOT (
                    coalesce(day.split_status = 'suspected', false)
                    AND day.aum_cny IS NULL AND day.circulating_value_cny IS NULL
                )
                AND NOT EXISTS (
                    SELECT 1 FROM etf_daily AS split
                    WHERE split.is_split_day AND split.etf_code = day.etf_code
                        AND split.trade_date > day.nav_date AND split.trade_date <= day.trade_date
                )
                OR (
                    day.shares IS NOT NULL AND day.unit_nav IS NOT NULL AND NOT day.is_nav_disputed
                    AND day.nav_date IS DISTINCT FROM day.trade_date
                ))
        ORDER BY ALL
    """
    return _verdict_of_years(pipeline, passed, query(pipeline, ["etf_daily"], sql))


_OBSERVED = """
    WITH observed AS (
        SELECT
            etf_code, trade_date, shares, unit_nav, aum_cny, net_creation_cny, split_status, split_factor,
            previous_observation_date, interval_sessions, interval_net_creation_cny, is_nav_disputed
        FROM etf_daily
        WHERE shares IS NOT NULL OR net_creation_cny IS NOT NULL
    )
"""
# of rows `day` of `observed` the shares of the observation before
_BEFORE = """
    LEFT JOIN (SELECT etf_code, trade_date, shares AS previous_shares FROM observed) AS before
    ON day.etf_code = before.etf_code AND day.previous_observation_date = before.trade_date
"""


@dg.asset_check(name="flows_balance", asset=_key("factors", "etf_daily"))
def _flows_balance(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """A flow is the change of shares since the observation before, splits taken out, times NAV; a split is no flow.

    A flow over several sessions is never shown as one day's, and one held back as a suspected split, or over too long
    an interval, is missing. When it fails: rebuild etf_flow and etf_daily; if it stays, do not use the flows shown.
    """
    p = pipeline.parameters
    passed, since = _years_of_etf_daily(pipeline, "flows_balance")
    span = f"""
        {_OBSERVED}
        SELECT min(previous_observation_date) AS previous, min(trade_date) AS first, max(trade_date) AS last
        FROM observed WHERE trade_date >= DATE '{since}'
    """
    known = [day.date() for day in query(pipeline, ["etf_daily"], span).iloc[0].dropna()]
    sessions = sessions_between(min(known), max(known)) if known else pd.DatetimeIndex([])
    numbered = pd.DataFrame({"trade_date": sessions, "number": np.arange(len(sessions))})
    sql = f"""
        {_OBSERVED},
        flow AS (
            SELECT day.*, previous_shares
            FROM (FROM observed WHERE trade_date >= DATE '{since}') AS day {_BEFORE}
            AND before.trade_date >= DATE '{min(known, default=since)}'
        ),
        counted AS (
            SELECT
                flow.*,
                this.number - before.number AS sessions_between,
                CASE
                    WHEN split_status IS DISTINCT FROM 'suspected' AND NOT coalesce(is_nav_disputed, false)
                        AND NOT coalesce(interval_sessions > {p.flow_interval_limit_sessions}, false)
                    THEN (shares - previous_shares * split_factor) * unit_nav
                END AS expected_cny,
                CASE WHEN sessions_between = 1 THEN expected_cny END AS expected_of_one_day,
                {p.conservation_tolerance} * coalesce(abs(aum_cny), 0) AS room
            FROM flow
            LEFT JOIN sessions AS this USING (trade_date)
            LEFT JOIN sessions AS before ON flow.previous_observation_date = before.trade_date
        )
        SELECT * EXCLUDE (room, expected_of_one_day)
        FROM counted
        WHERE {_differ_sql("interval_net_creation_cny", "expected_cny", "room")}
            OR {_differ_sql("net_creation_cny", "expected_of_one_day", "room")}
            OR interval_sessions IS DISTINCT FROM sessions_between
        ORDER BY etf_code, trade_date
    """
    return _verdict_of_years(pipeline, passed, query(pipeline, ["etf_daily"], sql, sessions=numbered))


@dg.asset_check(name="no_suspected_splits", asset=_key("factors", "etf_daily"))
def _no_suspected_splits(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """In the last 20 sessions no flow is held back as a suspected split, and shares followed every listed split.

    When it fails: look up the ETFs shown; add true splits to etf_split, correct wrong shares, and ingest again.
    """
    days = "SELECT DISTINCT trade_date FROM etf_daily WHERE shares IS NOT NULL ORDER BY ALL DESC"
    recent = query(pipeline, ["etf_daily"], f"{days} LIMIT {_RECENT_SESSIONS}")
    sql = f"""
        {_OBSERVED}
        SELECT
            day.etf_code, day.trade_date, split_status, split_factor, previous_shares, shares, aum_cny,
            nullif(shares, 0) / previous_shares AS step
        FROM (
            FROM observed
            WHERE trade_date IN (FROM recent) AND shares IS NOT NULL AND split_status IN ('suspected', 'listed')
        ) AS day
        {_BEFORE}
        WHERE split_status = 'suspected'
            -- shares are nearer to what they were than to what the split makes of them, or there were none before
            OR NOT coalesce(abs(ln(step / split_factor)) <= abs(ln(step)), false)
        ORDER BY ALL
    """
    found = query(pipeline, ["etf_daily"], sql, recent=recent)
    suspected = "SELECT count(*) AS rows FROM etf_daily WHERE shares IS NOT NULL AND split_status = 'suspected'"
    return verdict(
        found.drop(columns="step"),
        len(recent),
        WARN,
        all_time_suspected=int(query(pipeline, ["etf_daily"], suspected)["rows"].iloc[0]),
    )


@dg.asset_check(name="navs_agree_with_closes", asset=_key("factors", "etf_daily"))
def _navs_agree_with_closes(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """In the last 20 sessions no NAV is further from the close of its session than any premium of its kind.

    When it fails: flows and held values of the ETFs shown use neither. Correct the NAV or the close, and ingest again.
    """
    days = "SELECT DISTINCT trade_date FROM etf_daily WHERE unit_nav IS NOT NULL ORDER BY ALL DESC"
    recent = query(pipeline, ["etf_daily"], f"{days} LIMIT {_RECENT_SESSIONS}")
    sql = """
        SELECT etf_code, trade_date, asset_scope, unit_nav, close, close / unit_nav - 1 AS premium_ratio
        FROM etf_daily
        WHERE is_nav_disputed AND trade_date IN (FROM recent)
        ORDER BY ALL
    """
    return verdict(query(pipeline, ["etf_daily"], sql, recent=recent), len(recent), WARN)
