"""Partitions materialised one by one, as a range, or out of order leave the same bytes; others stay as they are."""

import random
import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.assets.strategy import strategy_assets
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import write_table
from etf_pipeline.settings import Deployment, Parameters
from etf_pipeline.sources.base import NotAvailable, SourceError
from etf_pipeline.sources.sample import SampleSource
from tests.pipeline.harness import digests, link_lake

pytestmark = pytest.mark.slow

FIRST, LAST = date(2022, 11, 21), date(2023, 2, 24)  # two years, with short weeks and holidays
DAYS = [f"{day:%Y-%m-%d}" for day in sessions_between(FIRST, LAST)]
DATASETS = ("etf_share", "etf_nav", "etf_bar")
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def between(first: str, last: str) -> dict[str, str]:
    """Tags of a run over a range of partitions."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def ingest(lake: Path, *, day: str | None = None, tags: dict[str, str] | None = None) -> None:
    assets = [asset for asset in raw_assets(FIRST, LAST) if asset.key.path[1] in DATASETS]
    pipeline = Pipeline(Deployment(lake=lake, start=FIRST, end=LAST))
    assert dg.materialize(
        assets, resources={"pipeline": pipeline}, partition_key=day, tags=tags, run_config=QUIET
    ).success


@pytest.fixture(scope="module")
def by_range(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("range") / "lake"
    ingest(lake, tags=between(DAYS[0], DAYS[-1]))
    return lake


@pytest.mark.xdist_group("partitions")
def test_day_by_day_is_the_range(by_range: Path, tmp_path: Path) -> None:
    assert len(DAYS) > 60
    lake = tmp_path / "lake"
    for day in DAYS:
        ingest(lake, day=day)
    assert set(digests(by_range)) == {f"raw/{name}/{year}.parquet" for name in DATASETS for year in (2022, 2023)}
    assert digests(lake) == digests(by_range)
    days = pd.concat(pd.read_parquet(path, columns=["trade_date"]) for path in (lake / "raw" / "etf_bar").glob("*.p*"))
    assert sorted({f"{day:%Y-%m-%d}" for day in days["trade_date"]}) == DAYS


@pytest.mark.xdist_group("partitions")
def test_order_and_repetition_do_not_matter(by_range: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    pieces = [(DAYS[40], DAYS[-1]), (DAYS[0], DAYS[14]), (DAYS[10], DAYS[45]), (DAYS[20], DAYS[20])]
    random.Random(0).shuffle(pieces)
    for first, last in pieces:
        ingest(lake, tags=between(first, last))
    assert digests(lake) == digests(by_range)


@pytest.mark.xdist_group("partitions")
def test_a_partition_replaces_its_day_only(by_range: Path, tmp_path: Path) -> None:
    lake = shutil.copytree(by_range, tmp_path / "lake")
    path = lake / "raw" / "etf_share" / "2023.parquet"
    whole = pq.read_table(path)
    spoilt_days = [date.fromisoformat(DAYS[-1]), date.fromisoformat(DAYS[-2])]
    day = whole["trade_date"].to_pylist()
    shares = pa.array([7.0 if d in spoilt_days else s for d, s in zip(day, whole["shares"].to_pylist(), strict=True)])
    write_table(whole.set_column(whole.schema.get_field_index("shares"), whole.schema.field("shares"), shares), path)
    ingest(lake, day=DAYS[-1])
    after = pd.read_parquet(path).set_index("trade_date")["shares"]
    assert (after.loc[spoilt_days[0]] != 7).all()
    assert (after.loc[spoilt_days[1]] == 7).all()
    ingest(lake, day=DAYS[-2])
    assert digests(lake) == digests(by_range)


def spoil(lake: Path, dates: list[date]) -> Path:
    """Other composites on some dates of the published holdings; the file is replaced, not written in place."""
    path = lake / "published" / "strategy_holdings.parquet"
    table = pq.read_table(path)
    rows = zip(table["signal_date"].to_pylist(), table["composite"].to_pylist(), strict=True)
    composite = pa.array([-99.0 if day in dates else value for day, value in rows])
    position = table.schema.get_field_index("composite")
    path.unlink()
    write_table(table.set_column(position, table.schema.field("composite"), composite), path)
    return path


def rebalance(lake: Path, *, day: str | None = None, tags: dict[str, str] | None = None) -> None:
    deployment = Deployment(lake=lake)
    result = dg.materialize(
        strategy_assets(Parameters.load(), date(2014, 12, 1), None),
        selection=[dg.AssetKey(["strategy", "strategy_holdings"])],
        resources={"pipeline": Pipeline(deployment)},
        partition_key=day,
        tags=tags,
        run_config=QUIET,
    )
    assert result.success


@pytest.mark.xdist_group("sample")
def test_a_rebalance_date_replaces_its_rows_only(sample_lake: Path, tmp_path: Path) -> None:
    lake = link_lake(sample_lake, tmp_path / "lake", "raw", "published")
    before = digests(lake)
    dates = [date(2020, 11, 6), date(2020, 11, 20), date(2020, 12, 4), date(2020, 12, 18)]
    path = spoil(lake, dates)

    def spoilt() -> set[date]:
        table = pd.read_parquet(path)
        return set(table.loc[table["composite"] == -99, "signal_date"])

    assert spoilt() == set(dates)
    rebalance(lake, day="2020-11-20")
    assert spoilt() == set(dates) - {date(2020, 11, 20)}
    rebalance(lake, tags=between("2020-12-04", "2020-12-18"))
    assert spoilt() == {date(2020, 11, 6)}
    rebalance(lake, day="2020-11-06")
    assert digests(lake) == before


@pytest.mark.xdist_group("sample")
def test_a_withheld_date_stays_empty(sample_lake: Path, tmp_path: Path) -> None:
    lake = link_lake(sample_lake, tmp_path / "lake", "raw", "published")
    before = digests(lake)
    rebalance(lake, day="2015-02-06")
    assert digests(lake) == before


@pytest.mark.xdist_group("partitions")
def test_a_day_in_another_unit_is_refused_by_what_the_lake_holds(
    by_range: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = link_lake(by_range, tmp_path / "lake", "raw")
    before = digests(lake)
    fetch = SampleSource.fetch

    def in_tens(self: SampleSource, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        rows = fetch(self, dataset, start, end)
        # ten shares as one: nothing about the day alone is wrong
        return rows.assign(shares=rows["shares"] / 10) if isinstance(rows, pd.DataFrame) and "shares" in rows else rows

    monkeypatch.setattr(SampleSource, "fetch", in_tens)
    with pytest.raises(
        SourceError, match=rf"`shares` changes its unit: .* are 1/10 of those of .* on {DAYS[-1]} \(\.SH"
    ):
        ingest(lake, day=DAYS[-1])
    assert digests(lake) == before
