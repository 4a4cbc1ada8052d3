"""What Dagster knows after a run of the command: the UI, the command and the schedules tell one story."""

from datetime import date, datetime
from pathlib import Path

import dagster as dg
import pytest

from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.assets.strategy import strategy_assets
from etf_pipeline.partitions import keys_within, raw_partitions
from etf_pipeline.run import _told, dagster_home
from etf_pipeline.settings import Parameters
from tests.pipeline.harness import LAST_SHORT_SIGNAL, SHORT

pytestmark = pytest.mark.xdist_group("short")


@pytest.mark.slow
def test_every_partition_of_a_run_is_materialized(short_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = (datetime.strptime(day, "%Y-%m-%d").date() for day in (SHORT[1], SHORT[3]))
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home(short_lake)))
    assets = [*raw_assets(first, last), *strategy_assets(Parameters.load(), first, last)]
    partitioned = [asset for asset in assets if asset.partitions_def]
    assert len(partitioned) > 10
    with dg.DagsterInstance.get() as instance:
        for asset in partitioned:
            assert instance.get_materialized_partitions(asset.key) == set(asset.partitions_def.get_partition_keys())
            (newest,) = instance.fetch_materializations(asset.key, limit=1).records
            assert newest.asset_materialization
            # the last one shows what the run said of the whole
            assert newest.asset_materialization.metadata
            assert instance.get_run_by_id(newest.run_id)
        held = instance.get_materialized_partitions(dg.AssetKey(["strategy", "strategy_holdings"]))
    assert max(held) == LAST_SHORT_SIGNAL


def test_partitions_that_a_span_touches() -> None:
    partitions = raw_partitions(date(2023, 1, 3), date(2023, 7, 31))
    assert partitions["day"]
    assert partitions["month"]
    assert partitions["quarter"]
    first, last = date(2023, 2, 15), date(2023, 4, 3)
    days = keys_within(partitions["day"], first, last)
    assert (days[0], days[-1], len(days)) == ("2023-02-15", "2023-04-03", 34)
    assert keys_within(partitions["month"], first, last) == ["2023-02-01", "2023-03-01", "2023-04-01"]
    assert keys_within(partitions["quarter"], first, last) == ["2023-01-01", "2023-04-01"]
    # a day that is no session belongs to none
    assert keys_within(partitions["day"], date(2023, 2, 18), date(2023, 2, 20)) == ["2023-02-20"]
    assert keys_within(partitions["day"], date(2022, 1, 1), date(2022, 2, 1)) == []
    dates = dg.StaticPartitionsDefinition(["2023-02-10", "2023-02-24", "2023-03-10"])
    assert keys_within(dates, first, last) == ["2023-02-24", "2023-03-10"]
    assert keys_within(dates, date(2023, 2, 24), date(2023, 2, 24)) == ["2023-02-24"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("dagster._core.definitions.events.Failure: holdings stay\n", "holdings stay"),
        ("etf_pipeline.sources.base.SourceError: a.csv: row 2\nb.csv: row 3", "a.csv: row 2\nb.csv: row 3"),
        ("KeyError: 'x'\n", "KeyError: 'x'"),
        ("pandas.errors.MergeError: keys", "MergeError: keys"),
        ("no class at all", "no class at all"),
    ],
)
def test_an_error_is_told_in_its_own_words(message: str, words: str) -> None:
    assert _told(message) == words
