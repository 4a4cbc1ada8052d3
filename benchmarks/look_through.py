"""The look-through written by hand in bare DuckDB, pandas and polars: opponents of the dbt models in `scale.py`.

All start where the models do, at the ETFs' daily value and flow (exported from the warehouse) and the raw weights and
industries of the lake, and take the same way: weights summed per industry wherever neither weights nor industries
change, so that the days meet a few industries and not a hundred stocks. Sums are plain doubles; nothing is stored.

    python -m benchmarks.look_through {duckdb|pandas|polars} INPUTS RAW RESULTS

prints the seconds of reading, computing and handing over both results, without the imports.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd

INPUTS = {
    "held": "select etf_code, index_code, is_enhanced, trade_date, week_end, held_value_cny from int_etf__held_value",
    "flow": (
        "select etf_code, trade_date, week_end, previous_date, flow_known_date, net_creation_cny, "
        "interval_net_creation_cny from int_etf__flow"
    ),
    "session": "select trade_date, week_end, decision_at from stg_calendar__session",
}
"""What the models get from upstream, by name of the exported file."""
RESULTS = {"industry": ["trade_date", "industry_code"], "stock": ["week_end", "stock_code"]}
"""Key of each result: value, flow and the week's part of it by industry and day, value and flow by stock and week."""


def with_duckdb(inputs: Path, raw: Path) -> dict[str, pd.DataFrame]:
    connection = duckdb.connect()
    connection.execute("set asof_loop_join_threshold = 0; set timezone = 'UTC'")
    connection.execute(f"""
        create temp table weight as
        select index_code, as_of_date, stock_code, weight, known.trade_date as known_date
        from '{raw}/index_weight/*.parquet' as fact
        asof join '{inputs}/session.parquet' as known on known.decision_at >= fact.available_at
        where weight > 0;

        create temp table weight_set as
        select
            *,
            coalesce(lead(valid_from) over (partition by index_code order by valid_from), '9999-12-31') as valid_to
        from (select index_code, as_of_date, max(known_date) as valid_from from weight group by all);

        create temp table placed as
        -- as a step of its own: otherwise sets meet stays by their dates first, eighteen seconds for one
        with dated as materialized (select * from weight join weight_set using (index_code, as_of_date))
        select
            index_code, as_of_date, industry_code, weight,
            greatest(in_date, valid_from) as placed_from,
            least(coalesce(out_date, '9999-12-31'), valid_to) as placed_to
        from dated
        join '{raw}/stock_industry/*.parquet' as stay using (stock_code)
        where scheme = 'citic' and in_date < valid_to and coalesce(out_date, '9999-12-31') > valid_from;

        create temp table segment as
        select distinct index_code, as_of_date, placed_from as segment_start from placed
        union
        select index_code, as_of_date, valid_from from weight_set;

        create temp table industry_weight as
        select index_code, segment_start, industry_code, sum(weight) as weight
        from segment
        join placed using (index_code, as_of_date)
        where segment_start >= placed_from and segment_start < placed_to
        group by all;

        create temp table index_day as
        select
            held.index_code, held.trade_date, held.week_end,
            sum(held_value_cny) as held_value_cny,
            sum(net_creation_cny) as net_creation_cny,
            sum(interval_net_creation_cny) filter (where previous_week_end <= previous_date) as week_net_creation_cny
        from '{inputs}/held.parquet' as held
        left join '{inputs}/flow.parquet' as flow
            on held.etf_code = flow.etf_code and held.trade_date = flow.trade_date
            and flow.flow_known_date = flow.trade_date
        left join (
            select week_end, lag(week_end) over (order by week_end) as previous_week_end
            from (select distinct week_end from '{inputs}/session.parquet')
        ) as week on held.week_end = week.week_end
        where not is_enhanced
        group by all;

        create temp table in_use as
        select index_day.*, as_of_date, segment_start
        from index_day
        asof join segment on index_day.index_code = segment.index_code and trade_date >= segment_start
    """)
    industry = connection.execute("""
        select
            trade_date, industry_code,
            sum(held_value_cny * weight) as held_value_cny,
            sum(net_creation_cny * weight) as net_creation_cny,
            sum(week_net_creation_cny * weight) as week_net_creation_cny
        from in_use join industry_weight using (index_code, segment_start)
        group by all
    """).df()
    stock = connection.execute("""
        with by_set as (
            select
                week_end, index_code, as_of_date,
                sum(held_value_cny) filter (where trade_date = week_end) as held_value_cny,
                sum(week_net_creation_cny) as net_creation_cny
            from in_use
            where week_end <= (select max(trade_date) from in_use)
            group by all
        )
        select
            week_end, stock_code,
            sum(held_value_cny * weight) as held_value_cny,
            sum(net_creation_cny * weight) as net_creation_cny
        from by_set join weight using (index_code, as_of_date)
        group by all
    """).df()
    return {"industry": industry, "stock": stock}


def with_pandas(inputs: Path, raw: Path) -> dict[str, pd.DataFrame]:
    def read(path: Path) -> pd.DataFrame:
        frame = pd.read_parquet(path)
        dates = [c for c in frame.columns if c.endswith(("_date", "week_end"))]
        return frame.astype(dict.fromkeys(dates, "datetime64[us]"))

    forever = pd.Timestamp("2262-01-01")
    set_key = ["index_code", "as_of_date"]
    session = read(inputs / "session.parquet").sort_values("trade_date")
    weight = read(raw / "index_weight")
    weight = weight[weight["weight"] > 0]
    known = session["decision_at"].searchsorted(weight["available_at"])
    weight["known_date"] = session["trade_date"].to_numpy()[known]

    sets = weight.groupby(set_key).agg(valid_from=("known_date", "max")).reset_index()
    sets["valid_to"] = sets.groupby("index_code")["valid_from"].shift(-1).fillna(forever)
    stays = read(raw / "stock_industry").query("scheme == 'citic'").fillna({"out_date": forever})
    placed = weight.merge(sets, on=set_key).merge(stays, on="stock_code")
    placed = placed[(placed["in_date"] < placed["valid_to"]) & (placed["out_date"] > placed["valid_from"])]
    placed["placed_from"] = placed[["in_date", "valid_from"]].max(axis=1)
    placed["placed_to"] = placed[["out_date", "valid_to"]].min(axis=1)
    placed = placed[[*set_key, "industry_code", "weight", "placed_from", "placed_to"]]
    starts = [
        placed.rename(columns={"placed_from": "segment_start"}),
        sets.rename(columns={"valid_from": "segment_start"}),
    ]
    segment = pd.concat([frame[[*set_key, "segment_start"]] for frame in starts]).drop_duplicates()
    parts = segment.merge(placed, on=set_key)
    parts = parts[(parts["segment_start"] >= parts["placed_from"]) & (parts["segment_start"] < parts["placed_to"])]
    segment_key = ["index_code", "segment_start"]
    industry_weight = parts.groupby([*segment_key, "industry_code"], as_index=False)["weight"].sum()

    held = read(inputs / "held.parquet").query("not is_enhanced")
    flow = read(inputs / "flow.parquet").query("flow_known_date == trade_date")
    ends = session["week_end"].drop_duplicates()
    before = flow["week_end"].map(pd.Series(ends.shift().to_numpy(), ends))
    flow["week_net_creation_cny"] = flow["interval_net_creation_cny"].where(before <= flow["previous_date"])
    both = held.merge(flow.drop(columns="week_end"), on=["etf_code", "trade_date"], how="left")
    measures = ["held_value_cny", "net_creation_cny", "week_net_creation_cny"]
    day = both.groupby(["index_code", "trade_date", "week_end"])[measures].sum(min_count=1).reset_index()
    in_use = pd.merge_asof(
        day.sort_values("trade_date"),
        segment.sort_values("segment_start"),
        left_on="trade_date",
        right_on="segment_start",
        by="index_code",
    ).dropna(subset="segment_start")

    spread = in_use.merge(industry_weight, on=segment_key)
    spread[measures] = spread[measures].mul(spread["weight"], axis=0)
    industry = spread.groupby(RESULTS["industry"])[measures].sum(min_count=1).reset_index()

    in_use = in_use[in_use["week_end"] <= in_use["trade_date"].max()]
    in_use["held_value_cny"] = in_use["held_value_cny"].where(in_use["trade_date"] == in_use["week_end"])
    by_set = in_use.groupby(["week_end", *set_key])[["held_value_cny", "week_net_creation_cny"]].sum(min_count=1)
    by_set.columns = ["held_value_cny", "net_creation_cny"]
    spread = by_set.reset_index().merge(weight[[*set_key, "stock_code", "weight"]], on=set_key)
    spread[by_set.columns] = spread[by_set.columns].mul(spread["weight"], axis=0)
    stock = spread.groupby(RESULTS["stock"])[list(by_set.columns)].sum(min_count=1).reset_index()
    return {"industry": industry, "stock": stock}


def with_polars(inputs: Path, raw: Path) -> dict[str, pd.DataFrame]:
    import polars as pl

    def total(column: str) -> pl.Expr:
        # a sum of nothing is missing, not zero
        return pl.when(pl.col(column).count() > 0).then(pl.col(column).sum()).alias(column)

    forever = pl.date(9999, 12, 31)
    set_key, segment_key = ["index_code", "as_of_date"], ["index_code", "segment_start"]
    session = pl.scan_parquet(inputs / "session.parquet").sort("decision_at")
    weight = (
        pl.scan_parquet(raw / "index_weight" / "*.parquet")
        .filter(pl.col("weight") > 0)
        .with_columns(pl.col("available_at").dt.cast_time_unit("us"))
        .sort("available_at")
        .join_asof(
            session.select(pl.col("decision_at").dt.cast_time_unit("us"), known_date="trade_date"),
            left_on="available_at",
            right_on="decision_at",
            strategy="forward",
        )
        .select(*set_key, "stock_code", "weight", "known_date")
    )
    sets = (
        weight.group_by(set_key)
        .agg(valid_from=pl.col("known_date").max())
        .sort("valid_from")
        .with_columns(valid_to=pl.col("valid_from").shift(-1).over("index_code").fill_null(forever))
    )
    stays = (
        pl.scan_parquet(raw / "stock_industry" / "*.parquet")
        .filter(pl.col("scheme") == "citic")
        .with_columns(pl.col("out_date").fill_null(forever))
    )
    placed = (
        weight.join(sets, on=set_key)
        .join(stays, on="stock_code")
        .filter(pl.col("in_date") < pl.col("valid_to"), pl.col("out_date") > pl.col("valid_from"))
        .select(
            *set_key,
            "industry_code",
            "weight",
            placed_from=pl.max_horizontal("in_date", "valid_from"),
            placed_to=pl.min_horizontal("out_date", "valid_to"),
        )
    )
    segment = pl.concat(
        [
            placed.select(*set_key, segment_start="placed_from").unique(),
            sets.select(*set_key, segment_start="valid_from"),
        ]
    ).unique()
    industry_weight = (
        segment.join(placed, on=set_key)
        .filter(pl.col("segment_start") >= pl.col("placed_from"), pl.col("segment_start") < pl.col("placed_to"))
        .group_by(*segment_key, "industry_code")
        .agg(pl.col("weight").sum())
    )
    weeks = session.select("week_end").unique().sort("week_end")
    flow = (
        pl.scan_parquet(inputs / "flow.parquet")
        .filter(pl.col("flow_known_date") == pl.col("trade_date"))
        .join(weeks.with_columns(previous_week_end=pl.col("week_end").shift()), on="week_end")
        .select(
            "etf_code",
            "trade_date",
            "net_creation_cny",
            week_net_creation_cny=pl.when(pl.col("previous_week_end") <= pl.col("previous_date")).then(
                pl.col("interval_net_creation_cny")
            ),
        )
    )
    measures = ["held_value_cny", "net_creation_cny", "week_net_creation_cny"]
    in_use = (
        pl.scan_parquet(inputs / "held.parquet")
        .filter(~pl.col("is_enhanced"))
        .join(flow, on=["etf_code", "trade_date"], how="left")
        .group_by("index_code", "trade_date", "week_end")
        .agg(total(c) for c in measures)
        .sort("trade_date")
        .join_asof(
            segment.sort("segment_start"),
            left_on="trade_date",
            right_on="segment_start",
            by="index_code",
            check_sortedness=False,
        )
        .filter(pl.col("segment_start").is_not_null())
    )
    industry = (
        in_use.join(industry_weight, on=segment_key)
        .with_columns(pl.col(c) * pl.col("weight") for c in measures)
        .group_by(RESULTS["industry"])
        .agg(total(c) for c in measures)
    )
    stock = (
        in_use.filter(pl.col("week_end") <= pl.col("trade_date").max())
        .with_columns(
            held_value_cny=pl.when(pl.col("trade_date") == pl.col("week_end")).then(pl.col("held_value_cny")),
            net_creation_cny=pl.col("week_net_creation_cny"),
        )
        .group_by("week_end", *set_key)
        .agg(total("held_value_cny"), total("net_creation_cny"))
        .join(weight, on=set_key)
        .with_columns(pl.col("held_value_cny") * pl.col("weight"), pl.col("net_creation_cny") * pl.col("weight"))
        .group_by(RESULTS["stock"])
        .agg(total("held_value_cny"), total("net_creation_cny"))
    )
    # together, so that what both need is computed once
    return dict(zip(RESULTS, (frame.to_pandas() for frame in pl.collect_all([industry, stock])), strict=True))


LIBRARIES: dict[str, Callable[[Path, Path], dict[str, pd.DataFrame]]] = {
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "polars": with_polars,
}


def main(library: str, inputs: Path, raw: Path, results: Path) -> None:
    if library == "polars":
        import polars  # noqa: F401 - its import is no part of the time
    start = time.perf_counter()
    frames = LIBRARIES[library](inputs, raw)
    print(time.perf_counter() - start)
    results.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        dates = {c: pd.to_datetime(frame[c]) for c in RESULTS[name] if c.endswith(("_date", "_end"))}
        frame.assign(**dates).to_parquet(results / f"{library}_{name}.parquet", index=False)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
