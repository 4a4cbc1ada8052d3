"""Scores and holdings: sound in themselves, made of their own date's data, and of nothing known later.

Here: the cross-sections, ranks and withheld dates of factor_scores, the holdings that follow from them, and what was
public when. Each rule is computed anew from published or raw tables. Checks of factor_scores stop strategy_holdings.
"""

import functools
from datetime import date, time

import dagster as dg
import duckdb
import numpy as np
import pandas as pd

from etf_pipeline.checks.verdict import WARN, markdown, published, query, rows_by_day, verdict
from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import decision_moments, moments, sessions_after
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import FACTORS

_TOLERANCE = 1e-9
_RECENT_DATES = 12
_RECENT_WEEKS = 24
_OPENING_TRADES = time(9, 30)

_SCORES = dg.AssetKey(["factors", "factor_scores"])
_HOLDINGS = dg.AssetKey(["strategy", "strategy_holdings"])
_blocking_check = functools.partial(dg.asset_check, asset=_SCORES, blocking=True)


def look_ahead_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of scores, of holdings, and of the dates behind them."""
    return [
        _scores_centred,
        _ranks_follow_composite,
        _withheld_exactly,
        _something_to_publish,
        _history_complete,
        _decided_in_time,
        _factors_of_their_date,
        *(_weeks_are_over(table) for table in ("industry_weekly", "stock_weekly", "look_through_coverage")),
        _reports_public_before_use,
        _solved_accurately,
        _reports_had_their_quorum,
        _constituents_were_known,
        _ratios_of_their_week,
        _dates_count_from_anchor,
        _portfolio_is_whole,
        _held_as_scored,
        _decided_before_holding,
    ]


def checks_of_rows(table: str) -> list[dg.AssetChecksDefinition]:
    """Checks that new rows of a table have to pass before they replace the published ones.

    Whether there is anything to publish from is none: scores of a market that is withheld are right, and say why.
    """
    checks = [check for check in look_ahead_checks() if check is not _something_to_publish]
    return [check for check in checks if next(iter(check.check_keys)).asset_key.path[-1] == table]


def _scores(pipeline: Pipeline, *columns: str) -> pd.DataFrame:
    return published(pipeline, "factor_scores", ["signal_date", "industry_code", *columns])


def _in_use(scores: pd.DataFrame) -> list[str]:
    return scores["factors_used"].iloc[0].split(", ") if len(scores) else list(FACTORS)


def _differ(left: pd.Series, right: pd.Series) -> pd.Series:
    same = (left - right).abs().le(_TOLERANCE * right.abs().clip(lower=1))
    return ~(same | (left.isna() & right.isna()))


@_blocking_check(name="scores_centred")
def _scores_centred(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Per date and factor the scores have mean 0 and standard deviation 1 (ddof 1), whatever their sign.

    When it fails: the scores are not z-scores of one cross-section; materialise factor_scores again.
    """
    by_date = _scores(pipeline, *FACTORS).groupby("signal_date")[list(FACTORS)]
    stats = pd.concat([by_date.mean().stack(), by_date.std().stack()], axis=1, keys=["mean", "deviation"])
    present = by_date.count().stack().reindex(stats.index.union(by_date.count().stack().index))
    stats = stats.reindex(present.index)[present > 0].rename_axis(["signal_date", "factor"])
    off = ~(stats["mean"].abs().le(_TOLERANCE) & (stats["deviation"] - 1).abs().le(_TOLERANCE))
    return verdict(stats[off].reset_index(), len(stats), tolerance=_TOLERANCE)


@_blocking_check(name="ranks_follow_composite")
def _ranks_follow_composite(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """The composite is the mean of the factors in use; ranks are 1 to n by it, ties by industry code.

    When it fails: holdings would be the wrong ones; materialise factor_scores again.
    """
    scores = _scores(pipeline, *FACTORS, "composite", "rank", "factors_used")
    mean = scores[_in_use(scores)].mean(axis=1, skipna=False)
    ordered = scores.dropna(subset="composite").sort_values(
        ["signal_date", "composite", "industry_code"], ascending=[True, False, True]
    )
    expected = (ordered.groupby("signal_date").cumcount() + 1).reindex(scores.index)
    off = _differ(scores["composite"], mean) | (scores["rank"].fillna(0) != expected.fillna(0))
    shown = scores[["signal_date", "industry_code", "composite", "rank"]].assign(mean=mean, expected_rank=expected)
    return verdict(shown[off], len(scores))


@_blocking_check(name="withheld_exactly")
def _withheld_exactly(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """A date is withheld exactly where a factor in use is missing for more than missing_industries_limit of them.

    When it fails: a date with holes would be held, or a good one is not; materialise factor_scores again.
    """
    scores = _scores(pipeline, *FACTORS, "factors_used", "withheld_reason")
    limit, by_date = pipeline.parameters.missing_industries_limit, scores.groupby("signal_date")
    reasons = by_date["withheld_reason"].agg(["first", "nunique", "count"])
    in_use = _in_use(scores)
    missing = scores[in_use].isna().groupby(scores["signal_date"]).sum()
    too_many = missing.gt(limit * by_date.size(), axis=0)
    texts = reasons["first"].fillna("")
    # too thin a look-through is a reason against all factors
    thin = texts.str.startswith("look-through: ")
    named = pd.DataFrame({factor: texts.str.contains(factor) | thin for factor in in_use}, too_many.index, in_use)
    # one reason on all rows of the date, or none at all
    whole = reasons["count"].eq(by_date.size()) & reasons["nunique"].eq(1) | reasons["count"].eq(0)
    off = (named != too_many).any(axis=1) | (reasons["first"].notna() != too_many.any(axis=1)) | ~whole
    shown = pd.concat([reasons["first"].rename("withheld_reason"), missing.add_prefix("missing_")], axis=1)
    return verdict(shown[off].reset_index(), len(shown), limit=limit)


def _reasons(pipeline: Pipeline) -> pd.Series:
    """Reason of each date, missing where it can be published."""
    scores = published(pipeline, "factor_scores", ["signal_date", "withheld_reason"])
    return scores.drop_duplicates("signal_date").set_index("signal_date")["withheld_reason"]


@_blocking_check(name="something_to_publish")
def _something_to_publish(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """At least one date can be published.

    When it fails: some input is missing on all dates (see the reasons); nothing can be held until it is there, or
    until the parameter factors leaves that factor out.
    """
    reasons = _reasons(pipeline)
    broken = _by_reason(reasons) if reasons.notna().all() else pd.DataFrame()
    if reasons.empty:
        broken = pd.DataFrame({"withheld_reason": ["no rebalance date within the data"], "dates": [0]})
    return verdict(broken, len(reasons), publishable_dates=int(reasons.isna().sum()))


@dg.asset_check(name="history_complete", asset=_SCORES)
def _history_complete(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """No date is withheld.

    When it fails: the dates of the table hold nothing; their reasons say which input is missing.
    """
    reasons = _reasons(pipeline)
    withheld = reasons[reasons.notna()]
    latest = withheld.tail(20).rename("withheld_reason").reset_index()
    return verdict(
        _by_reason(withheld),
        len(reasons),
        WARN,
        dates_withheld=len(withheld),
        latest_withheld=markdown(latest.sort_values("signal_date", ascending=False)),
    )


def _by_reason(reasons: pd.Series) -> pd.DataFrame:
    days = pd.DataFrame({"withheld_reason": reasons.to_numpy(), "day": reasons.index})
    by = days.groupby("withheld_reason")["day"]
    return by.agg(dates="size", first="min", last="max").reset_index().sort_values("dates", ascending=False)


def _data_end(pipeline: Pipeline) -> pd.Timestamp:
    return rows_by_day(pipeline, load_contract()["etf_share"]).index.max()


@_blocking_check(name="decided_in_time")
def _decided_in_time(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """No signal is later than the last ETF shares, and each is decided at the decision time of its date.

    When it fails: scores speak of a day without data; materialise factor_scores again for the current span.
    """
    p = pipeline.parameters
    scores = _scores(pipeline, "decision_at").drop_duplicates(["signal_date", "decision_at"])
    decided = decision_moments(pd.DatetimeIndex(scores["signal_date"]), p.decision_sessions_after, p.decision_time)
    off = ~(scores["signal_date"] <= _data_end(pipeline)) | (scores["decision_at"] != decided)
    return verdict(scores[off], len(scores), data_until=f"{_data_end(pipeline)}")


def _z(values: pd.Series, dates: pd.Series, least_ratio: float, level: pd.Series) -> pd.Series:
    by_date, least = values.groupby(dates), least_ratio * level.abs().groupby(dates).transform("max")
    spread = by_date.transform("std").where(by_date.transform("max") - by_date.transform("min") > least)
    return (values - by_date.transform("mean")) / spread


_INPUTS = [
    "held_value_cny",
    "held_share_ratio",
    "penetration_ratio",
    "held_share_change_ratio",
    "held_share_medium_change_ratio",
    "net_creation_cny",
]


@_blocking_check(name="factors_of_their_date")
def _factors_of_their_date(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Each score is the z-score of its own date's input, signed by the regime and heat known on that date.

    When it fails: a score is of another date than it says, or of tables since rebuilt; materialise factor_scores again.
    """
    columns = ["level_measure", "size_signal", "growth_value_signal", "heat"]
    scores = _scores(pipeline, *FACTORS, *columns)
    rows = scores.merge(_inputs(pipeline), on=["signal_date", "industry_code"], how="left", suffixes=("", "_known"))
    rows = rows.merge(_signs(pipeline, rows["signal_date"]), on="signal_date", how="left")
    dates, share = rows["signal_date"], rows["held_share_ratio"]
    p = pipeline.parameters
    active = rows["active_weight_ratio"] / rows.groupby(dates)["active_weight_ratio"].transform("sum")
    level = share.mask(rows["level_measure"].eq("penetration"), rows["penetration_ratio"])
    flow, flow_level = rows["held_share_change_ratio"], share
    if p.flow_measure == "net_subscription":
        flow, flow_level = rows["net_creation_cny"], rows["held_value_cny"]
    z = functools.partial(_z, dates=dates, least_ratio=p.spread_minimum_ratio)
    hotter = (rows["heat_known"].gt(0) * 2 - 1).where(rows["heat_known"].notna())
    expected = {
        "flow": z(flow, level=flow_level),
        "level": z(level, level=level) * (rows["size"] * 2 - 1),
        "change": z(rows["held_share_medium_change_ratio"], level=share) * (rows["growth_value"] * 2 - 1),
        "divergence": z(share - active, level=share) * hotter,
    }
    doubted = _doubted(pipeline, dates)
    expected = {factor: values.mask(doubted[factor].to_numpy()) for factor, values in expected.items()} | {
        "size_signal": rows["size"],
        "growth_value_signal": rows["growth_value"],
        "heat": rows["heat_known"],
    }
    broken = []
    for column, values in expected.items():
        stored = rows[column].astype(float)
        table = rows[["signal_date", "industry_code"]].assign(column=column, stored=stored, of_its_date=values)
        broken.append(table[_differ(stored, values.astype(float))])
    return verdict(pd.concat(broken), len(rows))


_EVIDENCE = [
    "weight_sets",
    "coverage_ratio",
    "largest_etf_ratio",
    "compared_ratio",
    "medium_compared_ratio",
    "value_with_flow_ratio",
]


def _doubted(pipeline: Pipeline, dates: pd.Series) -> pd.DataFrame:
    """For each of `dates` whether the look-through says too little of a factor."""
    p = pipeline.parameters
    evidence = (
        published(pipeline, "look_through_evidence", ["week_end", *_EVIDENCE]).set_index("week_end").reindex(dates)
    )
    thin = (evidence["weight_sets"] < p.evidence_weight_sets) | (evidence["coverage_ratio"] < p.coverage_floor)
    thin |= evidence["largest_etf_ratio"] > p.evidence_largest_etf
    few = evidence["compared_ratio"] < p.compared_floor
    if p.flow_measure == "net_subscription":
        few = evidence["value_with_flow_ratio"] < p.coverage_floor
    medium = evidence["medium_compared_ratio"] < p.compared_floor
    return pd.DataFrame({"flow": thin | few, "level": thin, "change": thin | medium, "divergence": thin})


def _inputs(pipeline: Pipeline) -> pd.DataFrame:
    weekly = published(pipeline, "industry_weekly", ["week_end", "industry_code", *_INPUTS])
    active = published(pipeline, "active_holdings", ["signal_date", "industry_code", "active_weight_ratio"])
    weekly = weekly.rename(columns={"week_end": "signal_date"})
    return weekly.merge(active, on=["signal_date", "industry_code"], how="left")


def _signs(pipeline: Pipeline, dates: pd.Series) -> pd.DataFrame:
    """Per date the style signals of that very week, and the heat of the last month that was over."""
    regime = published(pipeline, "style_regime", ["week_end", "series", "signal"])
    signals = regime.pivot(index="week_end", columns="series", values="signal").astype(float)
    signals = signals.reindex(columns=["size", "growth_value"]).rename_axis("signal_date")
    months = published(pipeline, "new_issue_monthly", ["month_end", "heat"]).sort_values("month_end")
    days = pd.DataFrame({"signal_date": np.sort(dates.unique()).astype("datetime64[us]")})
    months = months.assign(month_end=months["month_end"].astype("datetime64[us]"))
    heat = pd.merge_asof(days, months, left_on="signal_date", right_on="month_end").rename(
        columns={"heat": "heat_known"}
    )
    return heat[["signal_date", "heat_known"]].merge(signals.reset_index(), on="signal_date", how="left")


def _week_ends(pipeline: Pipeline) -> pd.DatetimeIndex:
    days = pipeline.lake.read_raw(load_contract()["trading_calendar"])["trade_date"]
    return pd.DatetimeIndex(days.groupby(days.dt.to_period("W-SUN")).max())


def _weeks_are_over(table: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(name="weeks_are_over", asset=dg.AssetKey(["marts", table]))
    def weeks_are_over(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        """Every week ends on the last session of a calendar week, and not after the last ETF shares.

        When it fails: a week that is not over would be taken for a whole one; rebuild the marts.
        """
        weeks = query(pipeline, [table], f"SELECT DISTINCT week_end FROM {table} ORDER BY week_end")
        over = weeks["week_end"].isin(_week_ends(pipeline)) & (weeks["week_end"] <= _data_end(pipeline))
        return verdict(weeks[~over], len(weeks), data_until=f"{_data_end(pipeline)}")

    return weeks_are_over


@dg.asset_check(name="reports_public_before_use", asset=dg.AssetKey(["marts", "active_fund_industry"]))
def _reports_public_before_use(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Disclosed holdings are used from the day they count as public, for disclosed_months at most.

    When it fails: a report would be used before its announcement, or long after it; rebuild the marts.
    """
    used = published(pipeline, "active_fund_industry", ["week_end", "report_date", "public_date"]).drop_duplicates()
    until = used["public_date"] + pd.DateOffset(months=pipeline.parameters.disclosed_months)
    fine = (used["report_date"] < used["public_date"]) & (used["public_date"] <= used["week_end"])
    return verdict(used[~(fine & (used["week_end"] < until))], len(used))


@dg.asset_check(name="solved_accurately", asset=dg.AssetKey(["factors", "active_holdings"]))
def _solved_accurately(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Simulated holdings are the optimum to the accuracy asked; where the solver came only near it, its date is named.

    When it fails: look at the returns of the 60 sessions before these dates; industries may move as one.
    """
    active = published(pipeline, "active_holdings", ["signal_date", "basis", "solver_status"]).drop_duplicates()
    simulated = active[active["basis"] == "simulated"]
    return verdict(simulated[simulated["solver_status"] != "solved"], len(active), WARN)


@dg.asset_check(name="reports_had_their_quorum", asset=dg.AssetKey(["factors", "active_holdings"]))
def _reports_had_their_quorum(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Of the last 12 dates with disclosed holdings, disclosure_quorum of the funds had announced by the decision.

    Counted from raw announcements against the funds of the report before. When it fails: holdings of a quarter were
    used before they were public; rebuild active_fund_industry and active_holdings.
    """
    p, contract = pipeline.parameters, load_contract()
    used = published(pipeline, "active_holdings", ["signal_date", "basis", "report_date"])
    used = used[used["basis"] == "disclosed"].drop_duplicates().sort_values("signal_date").tail(_RECENT_DATES)
    funds = pipeline.lake.read_raw(contract["fund_info"])
    active = funds.loc[funds["is_active_equity"].eq(True), "fund_code"]
    filings = pipeline.lake.read_raw(contract["fund_holding"], pipeline.deployment.end)
    filings = filings[filings["fund_code"].isin(active)]
    filings = filings.groupby(["report_date", "fund_code"])["available_at"].min().reset_index()
    decided = decision_moments(pd.DatetimeIndex(used["signal_date"]), p.decision_sessions_after, p.decision_time)
    announced, needed = [], []
    for report, decision in zip(used["report_date"], decided, strict=True):
        known = filings[filings["available_at"] <= decision]
        before = filings.loc[filings["report_date"] < report, "report_date"].max()
        announced.append(int((known["report_date"] == report).sum()))
        needed.append(p.disclosure_quorum * _funds_by_end(filings, before, report, pipeline))
    used = used.assign(announced=announced, needed=needed)
    fine = (used["announced"] > 0) & (used["announced"] >= used["needed"])
    return verdict(used[~fine], len(used))


def _funds_by_end(filings: pd.DataFrame, before: pd.Timestamp, report: pd.Timestamp, pipeline: Pipeline) -> int:
    """Funds of the report before that were known by the day the new one is about."""
    p = pipeline.parameters
    known = (
        filings["available_at"]
        <= decision_moments(pd.DatetimeIndex([report]), p.decision_sessions_after, p.decision_time)[0]
    )
    return int((known & (filings["report_date"] == before)).sum())


@dg.asset_check(name="constituents_were_known", asset=dg.AssetKey(["marts", "stock_weekly"]))
def _constituents_were_known(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """In the last 24 weeks, every stock held is in the newest weights of some index known by the week's decision.

    The sets are found anew in the raw weights. When it fails: weights of a later month were used; rebuild the marts.
    """
    p = pipeline.parameters
    sql = f"""
        WITH held AS (FROM stock_weekly WHERE held_value_cny > 0)
        SELECT week_end, stock_code, held_value_cny FROM held
        WHERE week_end IN (SELECT DISTINCT week_end FROM held ORDER BY week_end DESC LIMIT {_RECENT_WEEKS})
    """
    held = query(pipeline, ["stock_weekly"], sql)
    weeks = pd.DatetimeIndex(np.sort(held["week_end"].unique()))
    decided = decision_moments(weeks, p.decision_sessions_after, p.decision_time)
    rule = load_contract()["index_weight"].set_sum
    assert rule
    # all weights of ten years are millions of rows, of which few are looked at
    with duckdb.connect() as raw:
        pipeline.lake.create_raw_views(raw, pipeline.deployment.end)
        raw.register("held", held)
        raw.register("week", pd.DataFrame({"week_end": weeks, "decision": decided}))
        raw.execute(
            "CREATE TABLE arrival AS SELECT index_code, as_of_date, available_at, sum(weight) AS weight"
            " FROM raw.index_weight GROUP BY ALL"
        )
        broken = raw.execute(
            """
            WITH usable AS (
                SELECT index_code, as_of_date, week_end, any_value(decision) AS decision
                FROM arrival JOIN week ON available_at <= decision
                GROUP BY index_code, as_of_date, week_end HAVING sum(weight) >= ?
                QUALIFY as_of_date = max(as_of_date) OVER (PARTITION BY index_code, week_end)
            )
            SELECT * FROM held ANTI JOIN (
                SELECT week_end, stock_code
                FROM raw.index_weight AS weight JOIN usable USING (index_code, as_of_date)
                WHERE weight.available_at <= usable.decision
            ) USING (week_end, stock_code)
            ORDER BY week_end, stock_code
            """,
            [rule.minimum - p.conservation_tolerance],
        ).df()
    return verdict(broken, len(held), weeks=len(weeks))


@dg.asset_check(name="ratios_of_their_week", asset=dg.AssetKey(["factors", "style_regime"]))
def _ratios_of_their_week(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Each ratio is that of the two raw closes of its week end, both known by the decision; else it is missing.

    When it fails: the regime looks at other closes than its week's; materialise style_regime again.
    """
    p = pipeline.parameters
    regime = published(pipeline, "style_regime", ["week_end", "series", "ratio"])
    bars = pipeline.lake.read_raw(load_contract()["index_bar"], pipeline.deployment.end)
    decided = decision_moments(pd.DatetimeIndex(bars["trade_date"]), p.decision_sessions_after, p.decision_time)
    known = bars[bars["trade_date"].isin(_week_ends(pipeline)) & (bars["available_at"] <= decided)]
    closes = known.set_index(["trade_date", "index_code"])["close"]
    pairs = {"size": (p.size_large_index, p.size_small_index), "growth_value": (p.growth_index, p.value_index)}
    broken = [regime.assign(of_closes=np.nan)[~regime["series"].isin(list(pairs))]]
    for series, (numerator, denominator) in pairs.items():
        rows = regime[regime["series"] == series]
        above, below = (
            closes.reindex(pd.MultiIndex.from_product([rows["week_end"], [code]])).to_numpy()
            for code in (numerator, denominator)
        )
        rows = rows.assign(of_closes=above / below)
        over = rows["week_end"].isin(_week_ends(pipeline))
        broken.append(rows[_differ(rows["ratio"], rows["of_closes"]) | ~over])
    return verdict(pd.concat(broken), len(regime))


@dg.asset_check(name="dates_count_from_anchor", asset=dg.AssetKey(["strategy", "rebalance_dates"]))
def _dates_count_from_anchor(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Signal dates are every rebalance_every_weeks-th week end from the anchor; periods run from one to the next.

    Holding starts on the session after the signal and ends on the next signal date. When it fails: materialise
    rebalance_dates again with the current parameters.
    """
    p = pipeline.parameters
    dates = published(pipeline, "rebalance_dates", ["signal_date", "holding_start", "holding_end"])
    ends = _week_ends(pipeline)
    position = pd.Series(range(len(ends)), ends)
    step = dates["signal_date"].map(position) - position.get(pd.Timestamp(p.rebalance_anchor), np.nan)
    following = pd.Series(ends, ends).shift(-p.rebalance_every_weeks)
    start = sessions_after(pd.DatetimeIndex(dates["signal_date"]), 1)
    end = dates["signal_date"].map(following)
    off = step.mod(p.rebalance_every_weeks).ne(0) | (dates["holding_start"] != start)
    off |= ~(dates["holding_end"].eq(end) | (dates["holding_end"].isna() & end.isna()))
    inside = dates["signal_date"] <= _data_end(pipeline)
    return verdict(dates[off | ~inside], len(dates))


@dg.asset_check(name="portfolio_is_whole", asset=_HOLDINGS)
def _portfolio_is_whole(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Every date holds exactly top_n industries, ranked 1 to top_n, with weights that sum to one.

    When it fails: the portfolio of that date is not one; materialise strategy_holdings for it again.
    """
    top_n = pipeline.parameters.top_n
    held = published(pipeline, "strategy_holdings", ["signal_date", "rank", "industry_code", "weight"])
    dates = held.groupby("signal_date").agg(
        rows=("rank", "size"),
        industries=("industry_code", "nunique"),
        ranks=("rank", lambda ranks: sorted(ranks) == list(range(1, top_n + 1))),
        weights=("weight", "sum"),
        least=("weight", "min"),
    )
    fine = dates["rows"].eq(top_n) & dates["industries"].eq(top_n) & dates["ranks"].astype(bool)
    fine &= (dates["weights"] - 1).abs().le(_TOLERANCE) & dates["least"].gt(0)
    return verdict(dates[~fine].reset_index(), len(dates), top_n=top_n)


@dg.asset_check(name="held_as_scored", asset=_HOLDINGS, additional_deps=[_SCORES])
def _held_as_scored(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """What is held has that rank and composite in factor_scores, on a date that is not withheld.

    When it fails: holdings are older than the scores, or hold a withheld date; materialise those dates again.
    """
    key = ["signal_date", "industry_code"]
    held = published(pipeline, "strategy_holdings", [*key, "rank", "composite"])
    # later dates stay as they were published: a deployment that ends earlier has no scores of them
    held = held[held["signal_date"].dt.date <= (pipeline.deployment.end or date.max)]
    scores = _scores(pipeline, "rank", "composite", "withheld_reason")
    both = held.merge(scores, on=key, how="left", suffixes=("", "_scored"))
    off = both["withheld_reason"].notna() | both["rank"].ne(both["rank_scored"])
    return verdict(both[off | _differ(both["composite"], both["composite_scored"])], len(both))


@dg.asset_check(name="decided_before_holding", asset=_HOLDINGS)
def _decided_before_holding(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
    """Data end by the signal date, holding starts after it, and the decision falls before that day's first trade.

    When it fails: the portfolio could not have been bought when it says; correct the decision parameters.
    """
    held = published(
        pipeline, "strategy_holdings", ["signal_date", "data_until", "decision_at", "holding_start"]
    ).drop_duplicates()
    opening = moments(pd.DatetimeIndex(held["holding_start"]), _OPENING_TRADES)
    fine = (held["data_until"] <= held["signal_date"]) & (held["signal_date"] < held["holding_start"])
    return verdict(held[~(fine & (held["decision_at"] <= opening))], len(held))
