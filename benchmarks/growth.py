"""A lake that grew through ten evenings of revisions is the one built at once: `python -m benchmarks.growth [SEED]`.

Every evening brings a session more and revisions of what came before, of each kind in `REVISIONS` at least one. After
every evening the published tables must equal, byte for byte, those of one run over the same folder into an empty lake.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.soak import digests
from etf_pipeline.contract import AVAILABLE_AT, load_contract
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.sources.sample import SampleSource

FIRST, LAST, EVENINGS = date(2024, 6, 3), date(2025, 10, 31), 10
_RUN = (sys.executable, "-c", "from etf_pipeline.cli import main; main()", "run", "--no-research", "--source", "files")

Frames = dict[str, pd.DataFrame]


class Market:
    """The rows of the sample as they stand so far; revisions change them in place, for good."""

    def __init__(self, seed: int) -> None:
        source = SampleSource()
        fetched = {name: source.fetch(name, FIRST, LAST) for name in load_contract() if name != "trading_calendar"}
        self.frames: Frames = {n: f.reset_index(drop=True) for n, f in fetched.items() if isinstance(f, pd.DataFrame)}
        self.generator = np.random.default_rng(seed)
        info = self.frames["etf_info"]
        self.etfs = info[info["asset_scope"] == "aShareStockEtf"]["etf_code"].to_numpy()

    def any_etf(self, dataset: str, since: pd.Timestamp) -> str:
        """An A-share stock ETF with rows of `dataset` on that day."""
        frame = self.frames[dataset]
        there = frame[frame["trade_date"] == since]["etf_code"]
        return str(self.generator.choice(there[there.isin(self.etfs)].to_numpy()))

    def change(self, dataset: str, rows: pd.Series, column: str, factor: float) -> None:
        """Multiply a column of these rows."""
        frame = self.frames[dataset]
        assert rows.any(), f"no row of {dataset} to revise"
        self.frames[dataset] = frame.assign(**{column: frame[column].mask(rows, frame[column] * factor)})

    def drop(self, dataset: str, rows: pd.Series) -> None:
        """Take these rows away."""
        assert rows.any(), f"no row of {dataset} to remove"
        self.frames[dataset] = self.frames[dataset][~rows].reset_index(drop=True)

    def add(self, dataset: str, ex_date: pd.Timestamp, **values: float) -> None:
        """One event of any ETF, which its source has known since that day."""
        known = {AVAILABLE_AT: ex_date.tz_localize("Asia/Shanghai").tz_convert("UTC")}
        row = {"etf_code": self.any_etf("etf_bar", ex_date), "ex_date": ex_date, **values, **known}
        self.frames[dataset] = pd.concat([self.frames[dataset], pd.DataFrame([row])], ignore_index=True)

    def of(self, dataset: str, day: pd.Timestamp, code: str | None = None) -> pd.Series:
        """Which rows of `dataset` are of a day, and of an ETF."""
        frame = self.frames[dataset]
        return (frame["trade_date"] == day) & (frame["etf_code"].eq(code) if code else True)

    def write(self, folder: Path, until: pd.Timestamp) -> None:
        """Write as files what is public on the evening of that session."""
        folder.mkdir(exist_ok=True)
        moment = datetime.combine(until.date(), datetime.min.time(), UTC).replace(hour=13)
        for name, frame in self.frames.items():
            column = load_contract()[name].date_column
            rows = frame[frame[AVAILABLE_AT] <= moment] if AVAILABLE_AT in frame else frame
            rows = rows[rows[column] <= until] if column else rows
            if len(rows):
                rows.to_parquet(folder / f"{name}.parquet", index=False)


Revision = Callable[[Market, pd.Timestamp, pd.Timestamp], None]
"""Changes the market; given the evening's session and one some three months before it."""


def _late_rows(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    # the row of that day turns out another, and is known only since this morning
    code = market.any_etf("etf_share", before)
    frame = market.frames["etf_share"]
    late = market.of("etf_share", before, code)
    moment = pd.Timestamp(now.date(), tz="Asia/Shanghai").tz_convert("UTC") + pd.Timedelta(hours=9)
    shares = frame["shares"].mask(late, frame["shares"] * 1.2)
    market.frames["etf_share"] = frame.assign(
        shares=shares, **{AVAILABLE_AT: frame[AVAILABLE_AT].mask(late, moment.as_unit("us"))}
    )


def _split_added(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    market.add("etf_split", before, new_per_old=2.0)


def _dividend_added(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    market.add("etf_dividend", before, cash_per_share=0.02)


def _some_set(market: Market, before: pd.Timestamp) -> pd.Series:
    weights = market.frames["index_weight"]
    earlier = weights[weights["as_of_date"] <= before]
    newest = earlier[earlier["as_of_date"] == earlier["as_of_date"].max()]
    index = market.generator.choice(newest["index_code"].unique())
    return weights["index_code"].eq(index) & weights["as_of_date"].eq(newest["as_of_date"].iloc[0])


def _weights_reversed(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    weights, rows = market.frames["index_weight"].copy(), _some_set(market, before)
    weights.loc[rows, "weight"] = weights.loc[rows, "weight"].to_numpy()[::-1]
    market.frames["index_weight"] = weights


def _weights_removed(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    market.drop("index_weight", _some_set(market, before))


def _membership_moved(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    stays = market.frames["stock_industry"]
    scheme = stays["scheme"].eq("citic")
    held = market.frames["index_weight"]["stock_code"]
    lasting = stays[scheme & stays["out_date"].isna() & stays["stock_code"].isin(held) & (stays["in_date"] < before)]
    row = market.generator.choice(lasting.index.to_numpy())
    others = stays[scheme & stays["industry_code"].ne(stays.loc[row, "industry_code"])]["industry_code"].unique()
    moved = stays.loc[[row]].assign(industry_code=market.generator.choice(others), in_date=before)
    stays = stays.assign(out_date=stays["out_date"].mask(stays.index == row, before))
    market.frames["stock_industry"] = pd.concat([stays, moved], ignore_index=True)


def _delisted(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    code, info = market.any_etf("etf_share", before), market.frames["etf_info"]
    market.frames["etf_info"] = info.assign(delist_date=info["delist_date"].mask(info["etf_code"].eq(code), before))
    for dataset in ("etf_share", "etf_nav", "etf_bar"):
        frame = market.frames[dataset]
        market.drop(dataset, frame["etf_code"].eq(code) & (frame["trade_date"] >= before))


def _rows_removed(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    market.drop("etf_share", market.of("etf_share", before, market.any_etf("etf_share", before)))


def _index_changed(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    code, info = market.any_etf("etf_share", before), market.frames["etf_info"]
    other = market.generator.choice(market.frames["index_weight"]["index_code"].unique())
    market.frames["etf_info"] = info.assign(index_code=info["index_code"].mask(info["etf_code"].eq(code), other))


def _nav_revised(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    market.change("etf_nav", market.of("etf_nav", before, market.any_etf("etf_nav", before)), "unit_nav", 1.01)


def _bar_revised(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    code = market.any_etf("etf_bar", before)
    market.drop("etf_bar", market.of("etf_bar", before, code))


def _shares_revised(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    market.change("etf_share", market.of("etf_share", now, market.any_etf("etf_share", now)), "shares", 1.05)


def _stock_value_revised(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    values = market.frames["stock_value"]
    day = values[values["trade_date"] <= before]["trade_date"].max()
    rows = values["trade_date"].eq(day) & values["stock_code"].eq(
        market.generator.choice(values[values["trade_date"] == day]["stock_code"].to_numpy())
    )
    market.change("stock_value", rows, "float_market_value", 1.3)


def _report_revised(market: Market, now: pd.Timestamp, before: pd.Timestamp) -> None:
    reports = market.frames["fund_holding"]
    announced = reports[reports["announced_date"] <= before]
    row = market.generator.choice(announced.index[announced["report_date"] == announced["report_date"].max()])
    market.change("fund_holding", reports.index.to_series().eq(row), "market_value", 1.5)


REVISIONS: dict[str, Revision] = {
    "rows of three months ago come late": _late_rows,
    "a split is listed later": _split_added,
    "a dividend is listed later": _dividend_added,
    "a weight set is reversed": _weights_reversed,
    "a weight set is removed": _weights_removed,
    "a stock moves to another industry": _membership_moved,
    "an ETF is delisted": _delisted,
    "rows are removed": _rows_removed,
    "an ETF tracks another index": _index_changed,
    "a NAV is revised": _nav_revised,
    "a bar is removed": _bar_revised,
    "shares of the last session are revised": _shares_revised,
    "a stock's value is revised": _stock_value_revised,
    "a fund's report is revised": _report_revised,
}


def main() -> None:
    """Grow one lake evening by evening, and rebuild beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    seed = parser.parse_args().seed
    began, market = time.monotonic(), Market(seed)
    sessions = sessions_between(FIRST, LAST)
    kinds = [str(kind) for kind in market.generator.permutation(list(REVISIONS))]
    tables = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder, grown = Path(temporary, "folder"), Path(temporary, "grown")
        market.write(folder, sessions[-EVENINGS - 1])
        _run(grown, folder)
        for number, session in enumerate(sessions[-EVENINGS:]):
            tonight = kinds[number::EVENINGS]
            for kind in tonight:
                REVISIONS[kind](market, session, sessions[-EVENINGS + number - 62])
            market.write(folder, session)
            _run(grown, folder)
            rebuilt = Path(temporary, f"rebuilt{number}")
            _run(rebuilt, folder)
            wanted, found = _published(rebuilt), _published(grown)
            differing = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
            tables += len(wanted)
            print(f"{session:%Y-%m-%d}: {'; '.join(tonight)}: {differing or 'equal'}", flush=True)
            assert not differing
    print(f"{EVENINGS} evenings, {len(REVISIONS)} kinds of revision, {tables} files equal; "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip


def _published(lake: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(lake).items() if name.startswith("published")}


def _run(lake: Path, folder: Path) -> None:
    done = subprocess.run([*_RUN, "--data", str(folder), "--lake", str(lake)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


if __name__ == "__main__":
    main()
