"""What is read is what was written, or an error that names the file and says what to do."""

import json
import random
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etf_pipeline.contract import load_contract
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import (
    DamagedFile,
    LakeError,
    damage,
    read_json,
    read_table,
    seal,
    write_json,
    write_table,
)
from etf_pipeline.sources.canonical import canonical_frame

SHARE = load_contract()["etf_share"]
DAYS = [date(2023, 12, 28), date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3)]
RECORDED = datetime(2024, 1, 4, tzinfo=UTC)
LEDGER = pa.schema(
    [("signal_date", pa.date32()), ("weight", pa.float64()), ("recorded_at", pa.timestamp("us", tz="UTC"))]
)


def shares(value: float, days: list[date] = DAYS) -> pd.DataFrame:
    rows = [(code, day, value + n) for n, day in enumerate(days) for code in ("159915.SZ", "510300.SH")]
    return canonical_frame(SHARE, pd.DataFrame(rows, columns=["etf_code", "trade_date", "shares"]), "test")


def ingest(lake: Lake, value: float, days: list[date] = DAYS) -> None:
    lake.write_raw(SHARE, shares(value, days), days[0], days[-1])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two years of raw data that were written twice, a published table and a ledger."""
    made = Lake(tmp_path / "lake")
    made.claim("test")
    ingest(made, 1e8)
    ingest(made, 2e8)
    made.publish("flow", pa.table({"day": DAYS, "flow": [1.0, 2.0, 3.0, 4.0]}), "hash")
    append(made, 0.25)
    return made


def append(lake: Lake, weight: float) -> None:
    with lake.appending("holdings_ledger", LEDGER) as (_, add):
        add(pa.table({"signal_date": [DAYS[0]], "weight": [weight], "recorded_at": [RECORDED]}, schema=LEDGER))


RAW, ARCHIVE = "raw/etf_share/2024.parquet", "archive/etf_share/2024.parquet"
PUBLISHED, HELD = "published/flow.parquet", "ledger/holdings_ledger.parquet"


def use(lake: Lake, name: str) -> None:
    """What reads this file in a run."""
    match name:
        case "raw/etf_share/2024.parquet":
            with duckdb.connect() as connection:
                lake.create_raw_views(connection, None)
        case "archive/etf_share/2024.parquet":
            ingest(lake, 2e8)
        case "published/flow.parquet":
            with duckdb.connect() as connection:
                lake.create_published_views(connection, "flow")
        case _:
            append(lake, 0.5)


@pytest.mark.parametrize("name", [RAW, ARCHIVE, PUBLISHED, HELD])
def test_no_flipped_bit_is_read_as_data(lake: Lake, name: str) -> None:
    path = lake.root / name
    sound, rng = path.read_bytes(), random.Random(16)
    for _ in range(12):
        changed = bytearray(sound)
        changed[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(DamagedFile, match="is damaged"):
            use(lake, name)
        assert path.read_bytes() == bytes(changed)
    path.write_bytes(sound)
    use(lake, name)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 5000, "half"], ids=["empty", "mark", "zeros", "half"])
@pytest.mark.parametrize("name", [RAW, ARCHIVE, PUBLISHED, HELD])
def test_a_file_that_is_no_parquet_is_named(lake: Lake, name: str, content: bytes | str) -> None:
    path = lake.root / name
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2] if isinstance(content, str) else content)
    with pytest.raises(DamagedFile) as caught:
        use(lake, name)
    assert str(path) in str(caught.value)
    assert "backup" in str(caught.value) or "makes it anew" in str(caught.value)


@pytest.mark.parametrize("name", [ARCHIVE, HELD])
def test_what_cannot_be_made_anew_is_not_begun_anew(lake: Lake, name: str) -> None:
    (lake.root / name).unlink()
    for attempt in (lambda: use(lake, name), lambda: lake.claim("test")):
        with pytest.raises(LakeError, match=r"is gone.*give-up") as caught:
            attempt()
        assert name in str(caught.value)
    assert not (lake.root / name).exists()
    lake.give_up(Path(name))
    lake.claim("test")
    use(lake, name)


def test_a_damaged_ledger_is_set_aside_on_purpose_alone(lake: Lake) -> None:
    path = lake.ledger_path("holdings_ledger")
    with pytest.raises(LakeError, match="no damaged or missing file"):
        lake.give_up(path)
    with pytest.raises(LakeError, match="no damaged or missing file"):
        lake.give_up(lake.published_path("flow"))
    path.write_bytes(path.read_bytes()[:-1])
    lake.give_up(path)
    append(lake, 0.5)
    assert read_table(path)["weight"].to_pylist() == [0.5]
    assert path.with_name(f".{path.name}.damaged").exists()


def test_a_lost_raw_file_is_ingested_again_in_one_go_and_nothing_earlier_is_lost(lake: Lake, tmp_path: Path) -> None:
    path = lake.root / RAW
    before, archive = path.read_bytes(), (lake.root / ARCHIVE).read_bytes()
    path.unlink()
    with pytest.raises(LakeError, match="is gone"):
        lake.read_raw(SHARE)
    with pytest.raises(LakeError, match="in one go"):
        ingest(lake, 2e8, DAYS[3:])
    assert not path.exists()
    ingest(lake, 2e8)
    assert path.read_bytes() == before
    # it is taken to have held the same: no record says that these rows came only now
    assert (lake.root / ARCHIVE).read_bytes() == archive


def test_a_raw_file_whose_rows_all_went_is_not_missed(lake: Lake) -> None:
    lake.write_raw(SHARE, shares(2e8, DAYS[:2]), DAYS[0], DAYS[3])
    assert not (lake.root / RAW).exists()
    assert len(lake.read_raw(SHARE)) == 4
    assert lake.gone() == []


def test_a_lake_without_lake_json_is_not_claimed_anew(lake: Lake) -> None:
    marker = lake.root / "lake.json"
    sound = marker.read_bytes()
    for content in (None, b"", b"\xff\xfe", sound[:-20], sound.replace(b'"test"', b'"tess"')):
        marker.unlink(missing_ok=True)
        if content is not None:
            marker.write_bytes(content)
        with pytest.raises(LakeError, match="etf-pipeline rebind"):
            lake.claim("test")
    lake.rebind("test")
    assert read_json(marker) == {name: value for name, value in json.loads(sound).items() if name != "sha256"}
    lake.claim("test")


def test_a_lake_of_an_earlier_version_gets_its_digests(lake: Lake) -> None:
    for path in lake.parquet_files():
        pq.write_table(read_table(path), path)
        assert damage(path)
    (lake.root / "lake.json").write_text('{"source": "test", "layout": 1}\n')
    with pytest.raises(LakeError, match="earlier version"):
        _ = lake.source_label
    rows = {path: pq.read_table(path) for path in lake.parquet_files()}
    lake.claim("test")
    assert {path: read_table(path) for path in lake.parquet_files()} == rows
    lake.ledger_path("holdings_ledger").unlink()
    with pytest.raises(LakeError, match="is gone"):
        lake.claim("test")


def test_garbage_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    path.write_bytes(b"garbage")
    with pytest.raises(DamagedFile, match=r"some\.parquet is damaged"):
        seal(path)


def test_other_readers_read_it_and_find_its_pages_checked(tmp_path: Path) -> None:
    path, table = tmp_path / "some.parquet", pa.table({"value": [1.0, None]}).replace_schema_metadata({"a": "b"})
    write_table(table, path)
    assert read_table(path) == pq.read_table(path, page_checksum_verification=True) == table
    assert read_table(path).schema.metadata == {b"a": b"b"}
    assert duckdb.sql(f"FROM '{path}'").fetchall() == [(1.0,), (None,)]


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.booleans())), st.data())
def test_no_changed_byte_of_a_json_file_is_read_as_what_it_said(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("json") / "some.json"
    values.pop("sha256", None)
    write_json(path, values)
    assert read_json(path) == values
    changed = bytearray(path.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        assert read_json(path) in (values, json.loads(changed))
    except DamagedFile:
        return
    # white space, or the digest's own name, which is then one more thing that it says
    assert read_json(path) == values or len(read_json(path)) == len(values) + 1
