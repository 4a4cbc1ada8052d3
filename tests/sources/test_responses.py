import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from etf_pipeline.sources.responses import DamagedResponse, Response, ResponseStore

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
REQUEST = {"params": {"trade_date": "20260302", "market": "SZ"}, "limit": 2000}


@pytest.fixture
def store(tmp_path: Path) -> ResponseStore:
    return ResponseStore(tmp_path)


def test_a_response_comes_back_as_it_was_kept(store: ResponseStore) -> None:
    body = '{"基金":1}\n\nsecond line\x00'.encode() + b"\xff"
    kept = store.keep("fund_share", REQUEST, body, NOON)
    assert kept == Response("fund_share", REQUEST, NOON, body, kept.sha256, kept.path)
    assert store.newest("fund_share", REQUEST) == kept
    assert store.versions("fund_share", REQUEST) == [kept]


def test_a_file_shows_request_time_and_hash_before_the_body(store: ResponseStore, tmp_path: Path) -> None:
    shanghai = timezone(timedelta(hours=8))
    kept = store.keep("fund_share", {"b": 1, "a": "沪"}, b"abc", datetime(2026, 3, 2, 20, 0, 0, 5, shanghai))
    line, _, body = gzip.decompress(kept.path.read_bytes()).partition(b"\n")
    assert body == b"abc"
    assert json.loads(line) == {
        "api": "fund_share",
        "request": {"b": 1, "a": "沪"},
        "received_at": "2026-03-02T12:00:00.000005+00:00",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",  # of "abc", from the standard
    }
    assert "沪" in line.decode()
    # of {"a":"沪","b":1}, by sha256sum
    key = "c6b300b1eb52377dddeb1a31427066fd9f2d3c68cf870252ecaa730eaf40a742"
    assert kept.path == tmp_path / "fund_share" / key[:2] / f"{key}.20260302T120000000005Z.json.gz"


def test_the_order_of_names_makes_no_other_request(store: ResponseStore) -> None:
    kept = store.keep("fund_share", {"a": 1, "b": {"c": 2, "d": 3}}, b"x", NOON)
    assert store.newest("fund_share", {"b": {"d": 3, "c": 2}, "a": 1}) == kept


@pytest.mark.parametrize(
    ("api", "request_"),
    [("fund_nav", {"a": "1"}), ("fund_share", {"a": 1}), ("fund_share", {"a": "1", "b": None}), ("fund_share", {})],
)
def test_any_other_request_has_no_answer(store: ResponseStore, api: str, request_: dict[str, object]) -> None:
    store.keep("fund_share", {"a": "1"}, b"x", NOON)
    assert store.newest(api, request_) is None
    assert store.versions(api, request_) == []


def test_versions_stand_in_the_order_of_time_and_the_newest_counts(store: ResponseStore) -> None:
    times = [NOON + timedelta(days=1), NOON, NOON + timedelta(microseconds=1), NOON - timedelta(days=400)]
    for time in times:
        store.keep("fund_nav", REQUEST, str(time).encode(), time)
    assert [version.received_at for version in store.versions("fund_nav", REQUEST)] == sorted(times)
    newest = store.newest("fund_nav", REQUEST)
    assert newest is not None
    assert newest.body == str(NOON + timedelta(days=1)).encode()


def test_only_answers_from_a_moment_on_are_wanted(store: ResponseStore) -> None:
    kept = store.keep("fund_nav", REQUEST, b"x", NOON)
    assert store.newest("fund_nav", REQUEST, since=NOON) == kept
    assert store.newest("fund_nav", REQUEST, since=NOON + timedelta(microseconds=1)) is None


def test_a_moment_without_zone_is_refused(store: ResponseStore) -> None:
    with pytest.raises(ValueError, match="no zone"):
        store.keep("fund_nav", REQUEST, b"x", datetime(2026, 3, 2))


def test_the_same_answer_makes_the_same_file(tmp_path: Path) -> None:
    paths = [ResponseStore(tmp_path / name).keep("fund_nav", REQUEST, b"body", NOON).path for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[4:8] == bytes(4)  # gzip's own time


def _cut(content: bytes) -> bytes:
    return content[:-9]


def _emptied(content: bytes) -> bytes:
    return b""


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content)


def _another_body(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content) + b" ")


def _flipped(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 255]) + content[41:]


def _no_envelope(content: bytes) -> bytes:
    return gzip.compress(b"{}\nbody")


def _another_request(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content).replace(b"20260302", b"20260303"))


@pytest.mark.parametrize("damage", [_cut, _emptied, _plain, _another_body, _flipped, _no_envelope, _another_request])
def test_a_damaged_file_is_named(store: ResponseStore, damage: Callable[[bytes], bytes]) -> None:
    path = store.keep("fund_nav", REQUEST, b"body", NOON).path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedResponse, match="damaged") as error:
        store.newest("fund_nav", REQUEST)
    assert str(path) in str(error.value)
    with pytest.raises(DamagedResponse):
        store.versions("fund_nav", REQUEST)


def test_what_a_killed_process_leaves_is_no_response(store: ResponseStore) -> None:
    kept = store.keep("fund_nav", REQUEST, b"body", NOON)
    half = kept.path.with_name(f".{kept.path.name.replace('T12', 'T13')}.4711.tmp")
    half.write_bytes(kept.path.read_bytes()[:20])
    assert store.versions("fund_nav", REQUEST) == [kept]


_KEEP_MANY = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from etf_pipeline.sources.responses import ResponseStore
store, who = ResponseStore(Path(sys.argv[1])), int(sys.argv[2])
sys.stdin.read()
for number in range(100):
    at = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=2 * number + who)
    store.keep("fund_nav", {"page": number % 5}, f"{who} {number} ".encode() * 500, at)
"""


def test_two_processes_keep_at_the_same_time(store: ResponseStore) -> None:
    command = [sys.executable, "-c", _KEEP_MANY, str(store.root)]
    root = Path(__file__).parents[2]
    keepers = [subprocess.Popen([*command, str(who)], stdin=subprocess.PIPE, cwd=root) for who in (0, 1)]
    for keeper in keepers:
        assert keeper.stdin is not None
        keeper.stdin.close()
    assert [keeper.wait(timeout=60) for keeper in keepers] == [0, 0]
    bodies = [version.body for page in range(5) for version in store.versions("fund_nav", {"page": page})]
    assert set(bodies) == {f"{who} {number} ".encode() * 500 for who in (0, 1) for number in range(100)}
    assert len(bodies) == 200
