"""Whatever was written to raw data in whatever order: each earlier state comes back exactly."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etf_pipeline.resources.archive as archive_module
import etf_pipeline.resources.lake as lake_module
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.archive import changes
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import LakeError, write_table
from etf_pipeline.sources.canonical import canonical_frame

SHARE, INFO = load_contract()["etf_share"], load_contract()["etf_info"]
DAYS = [date(2023, 12, 28), date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3)]
CODES = ("510300.SH", "159915.SZ")

# what one write says: a range of days, and for each of them the shares of each ETF, or none
WRITES = st.tuples(
    st.integers(0, 3),
    st.integers(0, 3),
    st.dictionaries(st.tuples(st.integers(0, 3), st.sampled_from(CODES)), st.sampled_from([1e8, 2e8, 3e8]), max_size=8),
)


class Clock(datetime):
    """A clock that says what it is told."""

    moment = datetime(2024, 2, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return cls.moment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(archive_module, "datetime", Clock)
    Clock.moment = datetime(2024, 2, 1, tzinfo=UTC)
    return Clock


def shares(rows: dict[tuple[int, str], float]) -> pd.DataFrame:
    frame = pd.DataFrame([(code, DAYS[day], value) for (day, code), value in rows.items()])
    frame = frame if len(frame) else pd.DataFrame(columns=range(3))
    return canonical_frame(SHARE, frame.set_axis(["etf_code", "trade_date", "shares"], axis=1), "test")


def state(lake: Lake) -> dict[tuple[date, str], float]:
    frame = lake.read_raw(SHARE)
    return {(r.trade_date.date(), r.etf_code): r.shares for r in frame.itertuples()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WRITES, min_size=1, max_size=5))
def test_every_earlier_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory, clock: type[Clock], writes: list[tuple[int, int, dict]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.claim("test")
    clock.moment = datetime(2024, 2, 1, tzinfo=UTC)
    states = []
    for first, second, rows in writes:
        start, end = sorted((first, second))
        inside = {key: value for key, value in rows.items() if start <= key[0] <= end}
        lake.write_raw(SHARE, shares(inside), DAYS[start], DAYS[end])
        states.append((clock.moment, state(lake)))
        clock.moment += timedelta(hours=1)
    for number, (moment, expected) in enumerate(states):
        if not expected:
            with pytest.raises(LakeError, match="held nothing"):
                lake.restore(moment, lake.root / f"as_of_{number}")
        else:
            assert state(lake.restore(moment, lake.root / f"as_of_{number}")) == expected
    with pytest.raises(LakeError, match="held nothing"):
        lake.restore(states[0][0] - timedelta(seconds=1), lake.root / "before")


def test_an_unchanged_write_leaves_no_record(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = {(2, CODES[0]): 1e8, (3, CODES[0]): 2e8}
    lake.write_raw(SHARE, shares(rows), DAYS[2], DAYS[3])
    (file,) = lake.archive_files(SHARE)
    before = file.stat().st_mtime_ns, file.read_bytes()
    lake.write_raw(SHARE, shares(rows), DAYS[2], DAYS[3])
    lake.write_raw(SHARE, shares({(3, CODES[0]): 2e8}), DAYS[3], DAYS[3])
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_the_archive_holds_what_was_replaced_and_when(tmp_path: Path, clock: type[Clock]) -> None:
    lake = Lake(tmp_path)
    lake.write_raw(SHARE, shares({(2, c): 1e8 for c in CODES} | {(3, CODES[0]): 5e8}), DAYS[2], DAYS[3])
    clock.moment += timedelta(days=1)
    # one value revised, one row gone, one day untouched
    lake.write_raw(SHARE, shares({(2, CODES[0]): 1.5e8, (3, CODES[0]): 5e8}), DAYS[2], DAYS[3])
    (file,) = lake.archive_files(SHARE)
    records = pq.read_table(file).to_pandas()
    old = records[~records["is_marker"]]
    assert old[["etf_code", "trade_date", "shares", "archive_sequence"]].values.tolist() == [
        [CODES[1], DAYS[2], 1e8, 1],
        [CODES[0], DAYS[2], 1e8, 1],
    ]
    assert (old["ingested_at"] == clock.moment).all()
    markers = records[records["is_marker"]]
    assert markers[["trade_date", "archive_sequence"]].values.tolist() == [[DAYS[2], 0], [DAYS[3], 0], [DAYS[2], 1]]
    assert changes(SHARE, lake.archive_files(SHARE)).values.tolist() == [
        [DAYS[2], clock.moment - timedelta(days=1), 0],
        [DAYS[2], clock.moment, 2],
        [DAYS[3], clock.moment - timedelta(days=1), 0],
    ]


def test_a_clock_that_jumps_back_does_not_reorder_records(tmp_path: Path, clock: type[Clock]) -> None:
    lake = Lake(tmp_path)
    lake.claim("test")
    started = clock.moment
    lake.write_raw(SHARE, shares({(2, CODES[0]): 1e8}), DAYS[2], DAYS[2])
    clock.moment -= timedelta(days=400)
    lake.write_raw(SHARE, shares({(2, CODES[0]): 2e8}), DAYS[2], DAYS[2])
    records = pq.read_table(lake.archive_files(SHARE)[0]).to_pandas()
    assert records["ingested_at"].is_monotonic_increasing
    assert state(lake.restore(started, tmp_path / "then")) == {(DAYS[2], CODES[0]): 2e8}
    with pytest.raises(LakeError, match="held nothing"):
        lake.restore(started - timedelta(days=1), tmp_path / "earlier")


def test_a_kill_between_record_and_file_undoes_to_the_same_rows(
    tmp_path: Path, clock: type[Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    lake.claim("test")
    lake.write_raw(SHARE, shares({(2, CODES[0]): 1e8}), DAYS[2], DAYS[2])
    first = clock.moment
    for attempt in ("killed", "whole"):
        clock.moment += timedelta(hours=1)
        with monkeypatch.context() as patch:
            if attempt == "killed":
                patch.setattr(lake_module, "write_table", _killed_before_the_raw_file)
                with pytest.raises(KeyboardInterrupt):
                    lake.write_raw(SHARE, shares({(2, CODES[0]): 2e8}), DAYS[2], DAYS[2])
            else:
                lake.write_raw(SHARE, shares({(2, CODES[0]): 2e8}), DAYS[2], DAYS[2])
        expected = 1e8 if attempt == "killed" else 2e8
        assert state(lake) == {(DAYS[2], CODES[0]): expected}
        assert state(lake.restore(first, tmp_path / attempt)) == {(DAYS[2], CODES[0]): 1e8}
        assert state(lake.restore(clock.moment, tmp_path / f"{attempt} now")) == {(DAYS[2], CODES[0]): expected}


def _killed_before_the_raw_file(table: pa.Table, path: Path) -> None:
    if path.parts[-3] == "raw":
        raise KeyboardInterrupt
    write_table(table, path)


def test_a_snapshot_is_kept_as_a_whole(tmp_path: Path, clock: type[Clock]) -> None:
    lake = Lake(tmp_path / "lake")
    lake.claim("test")

    def info(*names: str) -> pd.DataFrame:
        frame = pd.DataFrame({"etf_code": CODES[: len(names)], "name": names, "asset_scope": "aShareStockEtf"})
        return canonical_frame(INFO, frame, "test")

    lake.write_raw(INFO, info("a", "b"), DAYS[0], DAYS[0])
    first = clock.moment
    clock.moment += timedelta(hours=1)
    lake.write_raw(INFO, info("c"), DAYS[0], DAYS[0])
    assert lake.read_raw(INFO)["name"].tolist() == ["c"]
    assert sorted(lake.restore(first, tmp_path / "then").read_raw(INFO)["name"]) == ["a", "b"]
    assert lake.restore(clock.moment, tmp_path / "now").read_raw(INFO)["name"].tolist() == ["c"]


def test_a_restored_lake_is_not_changed_by_later_writes(tmp_path: Path, clock: type[Clock]) -> None:
    lake = Lake(tmp_path / "lake")
    lake.claim("test")
    lake.write_raw(SHARE, shares({(2, CODES[0]): 1e8}), DAYS[2], DAYS[2])
    restored = lake.restore(clock.moment, tmp_path / "then")
    clock.moment += timedelta(hours=1)
    lake.write_raw(SHARE, shares({(2, CODES[0]): 9e8}), DAYS[2], DAYS[2])
    assert state(restored) == {(DAYS[2], CODES[0]): 1e8}
    # restoring again into the same folder keeps it a copy of that moment
    assert state(lake.restore(clock.moment, tmp_path / "then")) == {(DAYS[2], CODES[0]): 9e8}
    assert state(lake) == {(DAYS[2], CODES[0]): 9e8}
