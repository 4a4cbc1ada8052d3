"""The dbt models against loops written from the specification, on small random markets."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from market import ETFS, SESSIONS, next_session, random_market
from naive import Frames, NaiveMarket

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dbt")]

Build = Callable[..., Path]

KEYS = {
    "industry_daily": ["trade_date", "industry_code"],
    "stock_weekly": ["week_end", "stock_code"],
    "look_through_coverage": ["week_end", "basis"],
    "etf_flow": ["trade_date", "etf_code", "split_status"],
}
RESULTS = ["held_value_cny", "net_creation_cny", "week_net_creation_cny", "held_share_ratio", "penetration_ratio"]


def read(warehouse: Path, table: str) -> pd.DataFrame:
    with duckdb.connect(warehouse, read_only=True) as connection:
        frame = connection.sql(f"SELECT * FROM {table}").df()
    if table == "etf_flow":
        frame = frame[frame["split_status"].notna()]  # days with shares
    return frame.sort_values(KEYS[table], ignore_index=True)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, keys: list[str]) -> None:
    """Same rows, and every number equal to 1e-9 of the largest of its column on that day."""
    expected = expected.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(found[keys], expected[keys], check_dtype=False)
    assert len(expected) > 0
    for name in expected.columns.difference(keys):
        ours, theirs = found[name].to_numpy(float), expected[name].to_numpy(float, na_value=np.nan)
        scale = expected[name].astype(float).abs().groupby(expected[keys[0]]).transform("max").fillna(0).to_numpy()
        differ = ~((np.abs(ours - theirs) <= 1e-9 * scale) | (np.isnan(ours) & np.isnan(theirs)))
        assert not differ.any(), found.loc[differ, [*keys, name]].assign(expected=theirs[differ]).to_string()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_models_agree_with_the_loops(seed: int, first_market: tuple[Frames, Path], build_warehouse: Build) -> None:
    if seed == 0:
        frames, warehouse = first_market
    else:
        frames = random_market(seed)
        warehouse = build_warehouse(frames)
    for table, expected in NaiveMarket(frames).results().items():
        assert_same(read(warehouse, table), expected, KEYS[table])


def test_weeks_agree_with_the_loops(first_market: tuple[Frames, Path]) -> None:
    frames, warehouse = first_market
    naive = NaiveMarket(frames)
    days = naive.results()["industry_daily"].assign(week_end=lambda f: f["trade_date"].map(naive.week_end))
    flows = days.groupby(["week_end", "industry_code"])["week_net_creation_cny"].sum(min_count=1)
    ends = days[days["trade_date"] == days["week_end"]].drop(columns="week_net_creation_cny")
    expected = ends.join(flows.rename("week_flow"), on=["week_end", "industry_code"])
    names = ["week_end", "industry_code", "held_value_cny", "held_share_ratio", "penetration_ratio"]
    expected = expected[names].assign(net_creation_cny=expected["week_flow"])
    with duckdb.connect(warehouse, read_only=True) as connection:
        found = connection.sql("SELECT * FROM industry_weekly ORDER BY week_end, industry_code").df()
    assert_same(found, expected, ["week_end", "industry_code"])


def test_changes_compare_like_with_like(first_market: tuple[Frames, Path]) -> None:
    frames, warehouse = first_market
    naive = NaiveMarket(frames)
    with duckdb.connect(warehouse, read_only=True) as connection:
        weekly = connection.sql("SELECT * FROM industry_weekly").df().set_index(["week_end", "industry_code"])
        evidence = connection.sql("SELECT * FROM look_through_evidence ORDER BY week_end").df().set_index("week_end")
        compared = connection.sql("SELECT * FROM int_industry__comparison").df()
    compared = compared.set_index(["weeks", "week_end", "industry_code"])["held_share_change_ratio"].sort_index()
    ends, ratios = list(evidence.index), []
    for weeks, prefix in ((1, ""), (naive.parameters.change_weeks, "medium_")):
        column = f"held_share_{prefix}change_ratio"
        for before, day in zip(ends, ends[weeks:], strict=False):
            ratio, changes = naive.share_changes(day, before)
            ratios.append(ratio)
            assert evidence.loc[day, f"{prefix}compared_ratio"] == pytest.approx(ratio, rel=1e-9)
            found = weekly.loc[day, column]
            there_before = found.index.isin(weekly.loc[before].index)
            assert found[~there_before].isna().all()
            if ratio < 1:
                assert compared.loc[weeks, day].to_dict() == pytest.approx(changes, abs=1e-12)
            if ratio < naive.parameters.compared_floor:
                assert found.isna().all()
            else:
                expected = found.index[there_before].map(changes)
                np.testing.assert_allclose(found[there_before], expected, rtol=0, atol=1e-12)
        assert evidence[f"{prefix}compared_ratio"].iloc[:weeks].isna().all()
    assert min(ratios) < naive.parameters.compared_floor
    assert max(ratios) == 1


def test_the_weeks_flows_are_all_flows(first_market: tuple[Frames, Path]) -> None:
    """No flow known in time is lost between weeks: not those over a gap that crosses a week's end."""
    with duckdb.connect(first_market[1], read_only=True) as connection:
        (weeks, gaps, flows) = connection.sql("""
            SELECT
                (SELECT sum(week_net_creation_cny) FROM int_industry__look_through),
                (SELECT sum(gap_net_creation_cny) FROM int_industry__look_through),
                (
                    SELECT sum(interval_net_creation_cny)
                    FROM int_etf__flow SEMI JOIN int_etf__held_value USING (etf_code, trade_date)
                    WHERE flow_known_date = trade_date
                )
        """).fetchall()[0]
    assert weeks == pytest.approx(flows, rel=1e-12)
    assert gaps


def test_the_markets_hold_what_they_are_meant_to(first_market: tuple[Frames, Path]) -> None:
    with duckdb.connect(first_market[1], read_only=True) as connection:
        statuses = dict(connection.sql("SELECT split_status, count(*) FROM etf_flow GROUP BY 1").fetchall())
        bases = {row[0] for row in connection.sql("SELECT DISTINCT basis FROM look_through_coverage").fetchall()}
        gaps = connection.sql("SELECT count(*) FROM etf_flow WHERE interval_sessions > 1").fetchall()[0][0]
        early = connection.sql("SELECT count(*) FROM int_etf__split_event WHERE share_date < ex_date").fetchall()[0][0]
        before_its_first_stock, without_value = connection.sql("""
            SELECT
                count(*) FILTER (industry_code = 'CI005006' AND held_value_cny > 0 AND trade_date < DATE '2024-03-01'),
                count(*) FILTER (industry_code = 'CI005005' AND held_value_cny > 0 AND float_market_value_cny IS NULL)
            FROM industry_daily
        """).fetchall()[0]
    # four pairs: a split and its late file twice, an absurd day and the one after it, a jump without any price and one
    # on the last day
    assert (statuses["listed"], statuses["inferred"], statuses["suspected"]) == (3, 3, 8)
    assert early == 4
    assert before_its_first_stock > 20
    assert without_value > 5
    assert {"constituents", "outside A shares", "no industry", "weight remainder", "theme", "no weights"} < bases
    assert gaps > 10


def test_twice_the_shares_are_twice_the_value(first_market: tuple[Frames, Path], build_warehouse: Build) -> None:
    frames, warehouse = first_market
    shares = frames["etf_share"].assign(shares=lambda f: 2 * f["shares"])
    once, twice = (
        read(warehouse, "industry_daily"),
        read(build_warehouse({**frames, "etf_share": shares}), "industry_daily"),
    )
    doubled = ["held_value_cny", "net_creation_cny", "week_net_creation_cny", "penetration_ratio"]
    expected = once.assign(**{name: 2 * once[name] for name in doubled})
    assert_same(twice, expected[["trade_date", "industry_code", *RESULTS]], KEYS["industry_daily"])


def test_the_order_of_codes_does_not_matter(first_market: tuple[Frames, Path], build_warehouse: Build) -> None:
    frames, warehouse = first_market
    codes = ETFS["etf_code"].tolist()
    renamed = dict(zip(codes, reversed(codes), strict=True))
    other = {
        name: frame.assign(etf_code=frame["etf_code"].map(renamed)) if "etf_code" in frame else frame
        for name, frame in frames.items()
    }
    found = read(build_warehouse(other), "industry_daily")
    expected = read(warehouse, "industry_daily")[["trade_date", "industry_code", *RESULTS]]
    assert_same(found, expected, KEYS["industry_daily"])


# a traded price or a file of shares a session after the split, NAVs still to come, and a day like any other
@pytest.mark.parametrize("day", [SESSIONS[n] for n in (12, 20, 22, 24, 31)])
def test_a_day_is_the_same_without_what_was_known_later(
    day: pd.Timestamp, first_market: tuple[Frames, Path], build_warehouse: Build
) -> None:
    frames, warehouse = first_market
    decision = (next_session(day) + pd.Timedelta(hours=9)).tz_localize("Asia/Shanghai")
    dates = {"etf_bar": "trade_date", "stock_value": "trade_date", "etf_split": "ex_date"}
    then = {}
    for name, frame in frames.items():
        if "available_at" in frame:
            frame = frame[frame["available_at"] <= decision]
        elif name in dates:
            frame = frame[frame[dates[name]] <= day]
        then[name] = frame
    found, expected = read(build_warehouse(then), "industry_daily"), read(warehouse, "industry_daily")
    expected = expected.loc[expected["trade_date"] <= day, ["trade_date", "industry_code", *RESULTS]]
    assert_same(found, expected, KEYS["industry_daily"])
