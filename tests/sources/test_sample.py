"""The synthetic source keeps the contract and holds what the rest of the pipeline is tried out on."""

import hashlib
import os
import subprocess
import sys
from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from etf_pipeline.contract import AVAILABLE_AT, load_contract
from etf_pipeline.core.calendar import sessions_after, sessions_between, week_ends
from etf_pipeline.sources.base import NotAvailable, SourceError
from etf_pipeline.sources.canonical import canonical_frame, with_available_at
from etf_pipeline.sources.sample import SampleSource
from etf_pipeline.sources.sample.catalog import NO_SHARE_DAYS, SHORT_FILE_DAYS

DATASETS = [name for name in load_contract() if name != "etf_bar_5min"]
LAST = SampleSource().span[1]


@cache
def rows(dataset: str) -> pd.DataFrame:
    source = SampleSource()
    frame = source.fetch(dataset, *source.span)
    assert isinstance(frame, pd.DataFrame)
    return frame


def wide(dataset: str, value: str) -> pd.DataFrame:
    return rows(dataset).pivot(index="trade_date", columns="etf_code", values=value)


def weeks() -> pd.DatetimeIndex:
    return week_ends(sessions_between(date(2015, 1, 5), date(2026, 10, 30)))


def digest(datasets: list[str]) -> str:
    total = hashlib.sha256()
    for dataset in datasets:
        total.update(pd.util.hash_pandas_object(rows(dataset)).to_numpy().tobytes())
    return total.hexdigest()


# --- contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_the_gate_lets_every_row_through_unchanged(name: str) -> None:
    """Columns, types, order, keys, bounds, units, sets, stays, sessions: all that the contract says."""
    dataset, frame = load_contract()[name], rows(name)
    assert len(frame) > 0
    assert list(frame.columns) == dataset.column_names
    pd.testing.assert_frame_equal(canonical_frame(dataset, frame, "sample", today=LAST), frame)
    pa.Table.from_pandas(frame, preserve_index=False).cast(dataset.schema)


@pytest.mark.parametrize("name", [n for n in DATASETS if load_contract()[n].known_from])
def test_available_at_is_the_default_lag(name: str) -> None:
    dataset, frame = load_contract()[name], rows(name)
    assert frame[AVAILABLE_AT].dtype == "datetime64[us, UTC]"
    assert frame[AVAILABLE_AT].notna().all()
    again = with_available_at(dataset, frame.drop(columns=AVAILABLE_AT))[AVAILABLE_AT]
    pd.testing.assert_series_equal(frame[AVAILABLE_AT], again)


def test_every_day_is_a_session_of_the_span() -> None:
    first, last = SampleSource().span
    sessions = sessions_between(first, last)
    assert rows("trading_calendar")["trade_date"].tolist() == sessions.tolist()
    for name in DATASETS:
        if load_contract()[name].partition in ("day", "month"):
            days = pd.DatetimeIndex(rows(name)[load_contract()[name].date_column].unique())
            assert days.isin(sessions).all(), name


def test_weight_sets_sum_to_one() -> None:
    sums = rows("index_weight").groupby(["index_code", "as_of_date"])["weight"].sum()
    assert sums.between(0.99, 1.01).all()
    off = (sums - 1).abs() > 1e-6
    rounded = sums[off].index.get_level_values("index_code").unique()
    assert 3 <= len(rounded) <= 6
    assert sums[rounded.tolist()].between(0.998, 1.002).all()


def test_no_five_minute_bars_and_no_unknown_dataset() -> None:
    source = SampleSource()
    assert source.label == "sample (SYNTHETIC)"
    assert source.span == (date(2014, 12, 1), date(2026, 10, 30))
    assert source.validate() == {}
    assert source.fetch("etf_bar_5min", *source.span) == NotAvailable("the sample has no five-minute bars")
    with pytest.raises(SourceError, match="etf_shares"):
        source.fetch("etf_shares", *source.span)


# --- the same always --------------------------------------------------------------------------------------------


def test_a_fresh_process_makes_the_same_rows() -> None:
    names = ["etf_share", "etf_bar", "index_weight", "stock_industry", "fund_holding", "fund_return"]
    command = f"import runpy; print(runpy.run_path({__file__!r})['digest']({names}))"
    # another hash seed: nothing may hang on the order of a set
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    output = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, env=environment
    )
    assert output.stdout.strip() == digest(names)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (date(2014, 12, 1), date(2014, 12, 31)),
        (date(2020, 6, 8), date(2020, 6, 8)),
        (date(2023, 9, 15), date(2023, 10, 31)),
        (date(2026, 10, 1), date(2027, 3, 1)),
    ],
)
@pytest.mark.parametrize("name", ["etf_share", "etf_bar", "index_weight", "stock_value", "fund_holding", "fund_info"])
def test_a_range_is_a_slice_of_everything(name: str, start: date, end: date) -> None:
    everything, column = rows(name), load_contract()[name].date_column
    if column:
        everything = everything[everything[column].between(pd.Timestamp(start), pd.Timestamp(end))]
    pd.testing.assert_frame_equal(SampleSource().fetch(name, start, end), everything.reset_index(drop=True))


def test_what_a_caller_does_to_a_frame_stays_with_him() -> None:
    day = date(2024, 5, 6)
    frame = SampleSource().fetch("etf_info", day, day)
    assert isinstance(frame, pd.DataFrame)
    frame.loc[:, "name"] = "changed"
    assert not (rows("etf_info")["name"] == "changed").any()


# --- what there is ----------------------------------------------------------------------------------------------


def test_industries_and_memberships() -> None:
    assert rows("industry_info").groupby("scheme").size().to_dict() == {"citic": 30, "sw": 31}
    stays = rows("stock_industry")
    assert stays["stock_code"].nunique() >= 600
    assert set(stays["stock_code"].str[-3:]) == {".SH", ".SZ", ".BJ"}
    for scheme, of in stays.groupby("scheme"):
        assert of["stock_code"].nunique() >= 600
        assert of["out_date"].notna().sum() >= 10, scheme
        assert of["industry_code"].nunique() == rows("industry_info").query("scheme == @scheme").shape[0]
        # gapless, no overlap, the last stay open
        later = of.groupby("stock_code")["in_date"].shift(-1)
        pd.testing.assert_series_equal(of["out_date"], later, check_names=False)
        moved = of.groupby("stock_code")["industry_code"].shift(-1)
        assert (moved != of["industry_code"]).all()
    since_ever = stays["in_date"] == pd.Timestamp("1990-01-01")
    assert 0.5 < since_ever.mean() < 0.9


def test_indices_and_weights() -> None:
    bars, weights = rows("index_bar"), rows("index_weight")
    broad = {"000300.SH", "000905.SH", "000852.SH", "000016.SH", "000688.SH", "399006.SZ"}
    assert bars["index_code"].nunique() >= 40
    assert broad | {"399370.SZ", "399371.SZ"} <= set(bars["index_code"])
    assert broad <= set(weights["index_code"])
    assert set(rows("index_valuation")["index_code"]) == broad
    without = set(bars["index_code"]) - set(weights["index_code"])
    assert 3 <= len(without) <= 4
    tracked = rows("etf_info").query("index_code in @without")
    by_theme = tracked["theme"].isin(rows("theme_industry")["theme"])
    assert by_theme.any()
    assert not by_theme.all()
    last = weights.groupby("index_code")["as_of_date"].max()
    assert last[last < pd.Timestamp("2026-10-30")].to_dict() == {"930707.CSI": pd.Timestamp("2023-06-30")}
    assert weights["as_of_date"].min() == pd.Timestamp("2014-12-31")
    assert weights.loc[weights["stock_code"].str.endswith(".HK"), "stock_code"].nunique() >= 15
    home = weights.loc[~weights["stock_code"].str.endswith(".HK"), "stock_code"]
    assert set(home) <= set(rows("stock_industry")["stock_code"])


def test_index_returns_follow_the_weights() -> None:
    """Month-end weights times the stocks' next returns give the index return in months without a review."""
    value = rows("stock_value").pivot(index="trade_date", columns="stock_code", values="total_market_value")
    weights = rows("index_weight").query("index_code == '000905.SH'")
    bars = rows("index_bar").query("index_code == '000905.SH'").set_index("trade_date")["close"]
    ends = value.index
    for start, end in ((ends[40], ends[41]), (ends[99], ends[100])):
        assert start.month not in (5, 11)
        assert end.month not in (6, 12)
        held = weights[weights["as_of_date"] == start].set_index("stock_code")["weight"]
        growth = value.loc[end, held.index] / value.loc[start, held.index]
        # this index publishes rounded weights
        assert (held * growth).sum() / held.sum() == pytest.approx(bars[end] / bars[start], abs=2e-4)


def test_etfs() -> None:
    info = rows("etf_info").set_index("etf_code")
    assert len(info) >= 150
    known = {
        "510300.SH": "000300.SH",
        "159915.SZ": "399006.SZ",
        "510500.SH": "000905.SH",
        "512100.SH": "000852.SH",
        "510050.SH": "000016.SH",
        "588000.SH": "000688.SH",
    }
    assert info.loc[list(known), "index_code"].to_dict() == known
    assert 15 <= (info["asset_scope"] != "aShareStockEtf").sum() <= 25
    assert info["name"].str.contains("增强").sum() >= 4
    assert (info["list_date"] < pd.Timestamp("2015-01-01")).sum() >= 45
    assert info["delist_date"].notna().sum() >= 5
    assert info["management_fee"].between(0.0015, 0.006).all()
    shares, bars = wide("etf_share", "shares"), wide("etf_bar", "close")
    assert shares.min().min() > 1e7
    assert shares.max().max() < 1e11
    first_share, first_bar = shares.apply(pd.Series.first_valid_index), bars.apply(pd.Series.first_valid_index)
    last_session = bars.index[-1]
    assert info.index[info["list_date"] > last_session].isin(bars.columns).sum() == 0
    young = info.index[info["list_date"].between(pd.Timestamp("2015-03-02"), last_session)]
    assert (first_bar[young] == info.loc[young, "list_date"]).all()
    assert (first_bar - first_share).dt.days.ge(7).sum() >= 20
    ended = info["delist_date"].dropna()
    last_share = shares.apply(pd.Series.last_valid_index)[ended.index]
    assert (last_share < ended).all()
    assert (sessions_after(pd.DatetimeIndex(last_share), 1) >= ended).all()


def test_bars_are_consistent() -> None:
    bars = rows("etf_bar")
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    price = bars["amount"] / bars["volume"]
    assert price.between(bars["low"] - 1e-3, bars["high"] + 1e-3).all()
    step = bars["adjusted_close"] / bars.groupby("etf_code")["adjusted_close"].shift() - 1
    assert step.abs().max() < 0.22  # what splits and dividends did is adjusted away


def test_every_month_has_new_issues_on_both_sides() -> None:
    issues = rows("fund_info").set_index("fund_code")
    months = set(pd.period_range("2014-12", "2026-10", freq="M"))
    stock_etfs = rows("etf_info").query("asset_scope == 'aShareStockEtf'")["etf_code"]
    for funds in (issues[issues["is_active_equity"]], issues.loc[stock_etfs]):
        assert months <= set(funds["found_date"].dt.to_period("M"))


def test_funds() -> None:
    info = rows("fund_info").set_index("fund_code")
    assert set(rows("etf_info")["etf_code"]) <= set(info.index)
    holders = rows("fund_holding")["fund_code"].unique()
    assert len(holders) >= 60
    assert info.loc[holders, "is_active_equity"].all()
    active = info[info["is_active_equity"]]
    assert len(active) - len(holders) >= 200
    months = active.loc[active["found_date"] >= "2015-01-01", "found_date"].dt.to_period("M").nunique()
    assert months > 100


def test_holdings_become_public_about_fifteen_sessions_after_the_quarter() -> None:
    held = rows("fund_holding")
    assert held["report_date"].min() == pd.Timestamp("2014-12-31")
    assert (held["report_date"].dt.is_quarter_end).all()
    assert (held.groupby(["fund_code", "report_date"]).size() == 10).all()
    reports = held.drop_duplicates(["fund_code", "report_date"])
    earliest, latest = (sessions_after(reports["report_date"], count) for count in (13, 17))
    assert (reports["announced_date"] >= earliest).all()
    late = reports["announced_date"] > latest
    assert 0.005 < late.mean() < 0.05
    assert held["announced_date"].max() <= pd.Timestamp("2026-10-30")
    old = reports[reports["report_date"] == pd.Timestamp("2014-12-31")]
    assert (old["announced_date"].dt.year == 2015).all()


# --- special days -----------------------------------------------------------------------------------------------


def steps() -> pd.DataFrame:
    """NAV and share steps of every ETF between neighbouring sessions, where all four values are there."""
    nav, shares = wide("etf_nav", "unit_nav"), wide("etf_share", "shares").reindex(wide("etf_nav", "unit_nav").index)
    found = pd.DataFrame(
        {"nav": (nav / nav.shift()).stack(), "shares": (shares / shares.shift()).stack()},
    )
    return found.dropna()


def test_splits_with_and_without_a_record() -> None:
    found = steps()
    jumps = found[(found["nav"] - 1).abs() > 0.25]
    recorded = rows("etf_split").set_index(["ex_date", "etf_code"])["new_per_old"]
    assert len(recorded) >= 8
    assert {0.5, 2.0, 3.0, 5.0} <= set(recorded)
    missing = jumps.index.difference(recorded.index)
    assert len(missing) >= 2
    ratio = recorded.reindex(jumps.index).fillna((1 / jumps["nav"]).round())
    assert ((jumps["nav"] * ratio - 1).abs() < 0.12).all()
    # shares × NAV goes on but for the day's return and creations
    assert ((jumps["nav"] * jumps["shares"] - 1).abs() < 0.12).all()
    assert recorded.index.isin(jumps.index).all()


def test_dividends_fall_out_of_nav_and_close() -> None:
    paid = rows("etf_dividend")
    assert len(paid) >= 12
    nav, close = wide("etf_nav", "unit_nav"), wide("etf_bar", "close")
    index = rows("index_bar").pivot(index="trade_date", columns="index_code", values="close")
    tracked = rows("etf_info").set_index("etf_code")["index_code"]
    for code, day, cash in paid[["etf_code", "ex_date", "cash_per_share"]].itertuples(index=False):
        before = nav.index[nav.index.get_loc(day) - 1]
        growth = index.loc[day, tracked[code]] / index.loc[before, tracked[code]]
        for price, room in ((nav, 0.003), (close, 0.008)):
            expected = price.loc[before, code] * growth - cash
            assert price.loc[day, code] == pytest.approx(expected, rel=room)
    total = wide("etf_nav", "accumulated_nav")
    assert total.loc["2026-10-30", "510300.SH"] > nav.loc["2026-10-30", "510300.SH"] + 0.3


def test_short_and_missing_share_files() -> None:
    counts = rows("etf_share").groupby("trade_date").size()
    sessions = sessions_between(date(2015, 1, 5), date(2026, 10, 30))
    counts = counts.reindex(sessions, fill_value=0)
    usual = counts.rolling(11, center=True, min_periods=1).median()
    share = counts / usual
    none = share[share == 0].index
    short = share[(share > 0) & (share < 0.7)].index
    assert [f"{day:%Y-%m-%d}" for day in none] == sorted(NO_SHARE_DAYS)
    assert [f"{day:%Y-%m-%d}" for day in short] == sorted(SHORT_FILE_DAYS)
    assert len(none) >= 2
    assert len(short) >= 4
    assert share[short].between(0.2, 0.4).all()
    nav = rows("etf_nav")
    assert 50 < nav["unit_nav"].isna().sum() < 500
    keys = nav.set_index(["etf_code", "trade_date"]).index
    assert 50 < (~rows("etf_bar").set_index(["etf_code", "trade_date"]).index.isin(keys)).sum() < 500


# --- the signal -------------------------------------------------------------------------------------------------


def test_flows_know_a_little_about_the_next_two_weeks() -> None:
    ends = weeks()
    info = rows("etf_info").query("asset_scope == 'aShareStockEtf'")
    shares = wide("etf_share", "shares").reindex(ends)[info["etf_code"]]
    nav = wide("etf_nav", "unit_nav").reindex(ends)[info["etf_code"]]
    ratio = shares / shares.shift()
    created = ((shares - shares.shift()) * nav).where((ratio > 0.6) & (ratio < 1.6)).fillna(0.0)
    held = (shares * nav).shift().fillna(0.0)

    stays = rows("stock_industry").query("scheme == 'citic' and out_date.isna()")
    weights = rows("index_weight").merge(stays[["stock_code", "industry_code"]], on="stock_code")
    sets = weights.groupby(["as_of_date", "index_code", "industry_code"])["weight"].sum().unstack(fill_value=0.0)
    days = sets.index.get_level_values("as_of_date").unique()
    flow = pd.DataFrame(np.nan, ends, sets.columns)
    for end in ends:
        known = days[days.searchsorted(end - pd.Timedelta(days=10)) - 1] if end > days[0] else days[0]
        share = sets.loc[known].reindex(info["index_code"]).fillna(0.0).to_numpy()
        flow.loc[end] = (created.loc[end].to_numpy() @ share) / np.maximum(held.loc[end].to_numpy() @ share, 1.0)

    bars = rows("industry_bar").query("scheme == 'citic'")
    level = bars.pivot(index="trade_date", columns="industry_code", values="close").reindex(ends)
    later = level.shift(-2) / level - 1
    correlation = flow.rank(axis=1).corrwith(later.rank(axis=1), axis=1)
    assert 0.01 < correlation.mean() < 0.2
    assert correlation.mean() / correlation.std() * np.sqrt(correlation.count()) > 3


def test_styles_keep_their_direction_for_months() -> None:
    close = rows("index_bar").pivot(index="trade_date", columns="index_code", values="close").reindex(weeks())
    for above, below in (("000300.SH", "000852.SH"), ("399370.SZ", "399371.SZ")):
        ratio = np.log(close[above] / close[below])
        quarter = ratio.diff(12)
        assert quarter.std() > 1.2 * np.sqrt(12) * ratio.diff().std()  # a random walk would have 1.0
