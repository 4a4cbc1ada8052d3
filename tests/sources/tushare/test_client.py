import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pydantic import SecretStr

from etf_pipeline.sources.base import ResponseCut, SourceError, TransientSourceError, VendorUnavailable
from etf_pipeline.sources.responses import NotStored
from etf_pipeline.sources.tushare.client import TushareClient
from etf_pipeline.sources.tushare.errors import (
    InsecureAddress,
    PermissionDenied,
    RateLimited,
    RequestRefused,
    TokenError,
    TooManyAddresses,
)
from etf_pipeline.sources.tushare.limits import Patience, Plan
from tests.sources.tushare.account import TOKEN, always, connect, shares
from tests.sources.tushare.clock import FakeClock
from tests.sources.tushare.server import (
    NO_PERMISSION,
    TOO_MANY_ADDRESSES,
    WRONG_PARAMETERS,
    Answer,
    Fault,
    Refusal,
    TushareServer,
    connection_lost,
    cut,
    edited,
    frequency_refusal,
    http_status,
    no_answer,
    page,
    rate_refusal,
    refused,
    scripted,
    slow,
)

FIELDS = ["ts_code", "trade_date", "fd_share"]
DAY = {"trade_date": "20260302"}


@contextmanager
def serving(
    folder: Path, answer: Answer | None = None, faults: list[Fault | None] | None = None, **settings: Any
) -> Iterator[tuple[TushareServer, TushareClient]]:
    """A server of 2 rows, with faults of the first calls of fund_share, and a client of it."""
    with (
        TushareServer(answer or always(shares(2)), TOKEN, scripted({"fund_share": faults or []})) as server,
        connect(server.url, folder, **settings) as client,
    ):
        yield server, client


def ask(client: TushareClient, api: str = "fund_share", **settings: Any) -> pd.DataFrame:
    return client.rows(api, DAY, FIELDS, **{"page_size": 2000, **settings})


def stored(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.gz"))


# --- one call


def test_a_call_names_api_token_parameters_and_fields(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def answer(api: str, params: dict[str, str]) -> pd.DataFrame:
        asked.append((api, params))
        return shares(3)

    with serving(tmp_path, answer) as (server, client):
        frame = client.rows("fund_share", DAY, ["fd_share", "ts_code"], page_size=2000)
    assert_frame_equal(frame, shares(3)[["fd_share", "ts_code"]])
    assert asked == [("fund_share", DAY)]
    assert server.calls[0].params == {"trade_date": "20260302", "limit": 2000, "offset": 0}
    assert server.calls[0].fields == ("fd_share", "ts_code")
    assert "content-type: application/json" in server.calls[0].head.lower()
    assert client.calls == {"fund_share": 1}


def test_an_unpaged_call_sends_no_limit(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, client):
        assert_frame_equal(ask(client, page_size=None, cap=2000), shares(2))
        assert server.calls[0].params == DAY


def test_connections_are_used_again(tmp_path: Path) -> None:
    with serving(tmp_path) as (server, client):
        for number in range(10):
            client.rows("fund_share", {"n": str(number)}, FIELDS, page_size=2000)
        assert (server.count(), server.connections) == (10, 1)


def test_a_compressed_answer_is_read(tmp_path: Path) -> None:
    packed = Fault("gzip", lambda reply: replace(reply, body=gzip.compress(reply.body), encoding="gzip"))
    with serving(tmp_path, faults=[packed]) as (_server, client):
        assert_frame_equal(ask(client), shares(2))
        assert client.used[0].body.startswith(b'{"request_id"')


def test_no_proxy_of_the_machine_stands_between_it_and_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(tmp_path) as (_server, client):
        assert len(ask(client)) == 2


# --- pages


# a full page that says it is the last one is followed all the same
@pytest.mark.parametrize("has_more", [True, False])
@pytest.mark.parametrize(("rows", "calls"), [(0, 1), (1, 1), (99, 1), (100, 2), (101, 2), (250, 3), (300, 4)])
def test_pages_are_followed_to_the_end(tmp_path: Path, rows: int, calls: int, has_more: bool) -> None:
    with (
        TushareServer(always(shares(rows)), TOKEN, has_more=has_more) as server,
        connect(server.url, tmp_path) as client,
    ):
        frame = ask(client, page_size=100)
        assert frame.to_dict("list") == shares(rows).to_dict("list")
        assert frame.index.equals(pd.RangeIndex(rows))
        assert [call.params["offset"] for call in server.calls] == [100 * number for number in range(calls)]
        assert client.calls["fund_share"] == calls == len(client.used)


def test_pages_shorter_than_asked_are_followed_while_there_is_more(tmp_path: Path) -> None:
    with (
        TushareServer(always(shares(250)), TOKEN, caps={"fund_share": 60}) as server,
        connect(server.url, tmp_path) as client,
    ):
        assert_frame_equal(ask(client, page_size=100), shares(250))
        assert [call.params["offset"] for call in server.calls] == [0, 60, 120, 180, 240]


def test_rows_beyond_the_last_offset_need_another_query(tmp_path: Path) -> None:
    frame = pd.DataFrame({"ts_code": [str(number) for number in range(150_001)]})
    with (
        TushareServer(always(frame), TOKEN, caps={"fund_nav": 50_000}) as server,
        connect(server.url, tmp_path) as client,
    ):
        with pytest.raises(
            RequestRefused, match=r"^fund_nav\(market=O, limit=50000, offset=150000\): .*Split the query"
        ):
            client.rows("fund_nav", {"market": "O"}, ["ts_code"], page_size=50_000)
        # the last page that Tushare serves begins at 100 000
        assert [call.params["offset"] for call in server.calls] == [0, 50_000, 100_000]


@pytest.mark.parametrize(("rows", "says"), [(100, "the cap is 100"), (120, "says there are more")])
def test_an_unpaged_answer_at_the_cap_is_cut(tmp_path: Path, rows: int, says: str) -> None:
    with (
        TushareServer(always(shares(rows)), TOKEN, caps={"fund_share": 100}) as server,
        connect(server.url, tmp_path) as client,
    ):
        with pytest.raises(ResponseCut, match=rf"^fund_share\(trade_date=20260302\): 100 rows came, and {says}"):
            ask(client, page_size=None, cap=100)
        assert stored(tmp_path) == []
        assert server.count() == 1


def test_an_unpaged_answer_below_the_cap_is_whole(tmp_path: Path) -> None:
    with serving(tmp_path, always(shares(99))) as (_server, client):
        assert len(ask(client, page_size=None, cap=100)) == 99


def test_an_unpaged_answer_that_has_more_is_cut_whatever_the_cap(tmp_path: Path) -> None:
    fault = edited(lambda answer: answer["data"].update(has_more=True))
    with serving(tmp_path, faults=[fault]) as (_server, client), pytest.raises(ResponseCut, match="2 rows came"):
        ask(client, page_size=None)


# --- refusals


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (NO_PERMISSION, PermissionDenied),
        (Refusal(2002, "权限问题"), PermissionDenied),
        (WRONG_PARAMETERS, RequestRefused),
        (Refusal(50101, "参数校验失败, ts_code,trade_date至少输入一个参数"), RequestRefused),
        (TOO_MANY_ADDRESSES, TooManyAddresses),
    ],
)
def test_a_refusal_is_final(tmp_path: Path, refusal: Refusal, expected: type[SourceError]) -> None:
    with serving(tmp_path, lambda api, params: refusal) as (server, client):
        with pytest.raises(expected, match=r"^fund_share\(trade_date=20260302, limit=2000, offset=0\): ") as error:
            ask(client)
        assert type(error.value) is expected
        assert refusal.msg in str(error.value)
        assert server.count() == 1
        assert stored(tmp_path) == []


def test_a_wrong_token_is_refused_by_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, token=SecretStr("wrong")) as (server, client):
        with pytest.raises(TokenError, match="TUSHARE_TOKEN"):
            ask(client)
        assert server.count() == 1


@pytest.mark.parametrize("token", ["", "  \n"])
def test_an_empty_token_is_refused_before_any_call(tmp_path: Path, token: str) -> None:
    with pytest.raises(TokenError, match="token is empty"):
        connect("http://127.0.0.1:1", tmp_path, token=SecretStr(token))


@pytest.mark.parametrize(
    "address",
    [
        "http://api.tushare.pro",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://localhost.example.com",
        "ftp://127.0.0.1",
        "api.tushare.pro",
        "",
    ],
)
def test_the_token_never_travels_in_clear(tmp_path: Path, address: str) -> None:
    with pytest.raises(InsecureAddress, match="https://"):
        connect(address, tmp_path)


@pytest.mark.parametrize(
    "address", ["https://api.tushare.pro", "http://127.0.0.2:80", "http://localhost:80", "http://[::1]:80"]
)
def test_addresses_that_are_safe(tmp_path: Path, address: str) -> None:
    connect(address, tmp_path).close()


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
def test_statuses_that_do_not_pass(tmp_path: Path, status: int) -> None:
    with serving(tmp_path, faults=[http_status(status)]) as (server, client):
        with pytest.raises(RequestRefused, match=f"HTTP status {status} .*base URL"):
            ask(client)
        assert server.count() == 1


# --- faults that pass

PASSING = [
    *(http_status(status) for status in (429, 500, 502, 503, 504)),
    connection_lost(0.0),
    connection_lost(0.5),
    no_answer(),
    cut(0.0),
    cut(0.5),
    page(),
    Fault("JSON as HTML", lambda reply: replace(reply, content_type="text/html")),
    Fault("plain text", lambda reply: replace(reply, body=b"upstream error", content_type="text/plain")),
    Fault("no gzip", lambda reply: replace(reply, encoding="gzip")),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
def test_a_fault_that_passes_is_waited_out(tmp_path: Path, fault: Fault) -> None:
    clock = FakeClock()
    with serving(tmp_path, faults=[fault] * 3, clock=clock) as (server, client):
        assert_frame_equal(ask(client), shares(2))
        assert server.count() == client.calls["fund_share"] == 4
    assert len(stored(tmp_path)) == 1
    # 1, 2 and 4 s and up to a second at random
    assert [int(seconds) in (wait, wait + 1) for seconds, wait in zip(clock.slept, [1, 2, 4], strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
def test_a_fault_that_stays_is_raised_as_transient(tmp_path: Path, fault: Fault) -> None:
    with serving(tmp_path, faults=[fault] * 3, patience=Patience(attempts=3)) as (server, client):
        with pytest.raises(
            VendorUnavailable, match=r"^fund_share\(trade_date=20260302, limit=2000, offset=0\)"
        ) as error:
            ask(client)
        assert isinstance(error.value, TransientSourceError)
        assert error.value.retry_after_seconds == 300
        assert server.count() == 3
        assert stored(tmp_path) == []
        assert len(ask(client)) == 2


def test_a_body_that_drips_does_not_hold_the_client(tmp_path: Path) -> None:
    # every byte comes long before the timeout of a single read
    patience = Patience(read_seconds=30, call_seconds=0.1, attempts=1)
    with (
        serving(tmp_path, faults=[slow(0.005)], patience=patience) as (_server, client),
        pytest.raises(VendorUnavailable, match="the body came too slowly"),
    ):
        ask(client)


def test_a_body_that_stops_does_not_hold_the_client(tmp_path: Path) -> None:
    patience = Patience(read_seconds=0.1, call_seconds=30, attempts=1)
    with (
        serving(tmp_path, faults=[slow(30)], patience=patience) as (_server, client),
        pytest.raises(VendorUnavailable, match="ReadTimeout"),
    ):
        ask(client)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with connect(f"http://127.0.0.1:{port}", tmp_path, patience=Patience(attempts=5)) as client:
        with pytest.raises(
            VendorUnavailable, match=rf"^http://127.0.0.1:{port} cannot be reached \(.*Check the network"
        ):
            ask(client)
        # who has no network need not wait to hear it
        assert client.calls == {"fund_share": 2}


# --- rates


@pytest.mark.parametrize("refusal", [rate_refusal("分钟", 500), frequency_refusal("fund_share", "分钟", 500)])
def test_a_limit_of_the_minute_is_waited_out(tmp_path: Path, refusal: Refusal) -> None:
    clock = FakeClock()
    with serving(tmp_path, faults=[refused(refusal)] * 2, clock=clock) as (server, client):
        assert_frame_equal(ask(client), shares(2))
        assert server.count() == 3
    assert clock.slept == [61, 61]


def test_a_limit_of_the_minute_without_end_is_raised(tmp_path: Path) -> None:
    faults: list[Fault | None] = [refused(rate_refusal())] * 3
    with serving(tmp_path, faults=faults, patience=Patience(attempts=3)) as (server, client):
        with pytest.raises(RateLimited) as error:
            ask(client)
        assert (error.value.window, error.value.retry_after_seconds) == ("minute", 61)
        assert server.count() == 3


def test_a_limit_of_the_hour_is_raised_without_patience(tmp_path: Path) -> None:
    clock = FakeClock()
    patience = Patience(hour_limit_seconds=3599)
    with serving(tmp_path, faults=[refused(rate_refusal("小时", 60))], clock=clock, patience=patience) as (
        server,
        client,
    ):
        with pytest.raises(RateLimited) as error:
            ask(client)
        assert (error.value.window, error.value.retry_after_seconds) == ("hour", 3600)
        assert server.count() == 1
    assert clock.slept == []


def test_limits_of_the_hour_are_waited_out_as_long_as_patience_lasts(tmp_path: Path) -> None:
    clock = FakeClock()
    faults: list[Fault | None] = [refused(rate_refusal("小时", 60))] * 5
    patience = Patience(hour_limit_seconds=7200)
    with serving(tmp_path, faults=faults, clock=clock, patience=patience) as (server, client):
        with pytest.raises(RateLimited):
            ask(client)
        assert clock.slept == [3600, 3600]
        assert server.count() == 3
        # three more of the five are left: two are waited for, the third is too much again
        server.faults = scripted({"fund_share": [None] * 3 + faults[:1]})
        assert len(ask(client)) == 2
    assert clock.slept == [3600] * 3


def test_a_limit_of_the_day_is_raised_however_patient(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 2, 15, 0, tzinfo=UTC))  # 23:00 in Shanghai
    patience = Patience(hour_limit_seconds=1e9)
    with serving(tmp_path, faults=[refused(rate_refusal("天", 5))], clock=clock, patience=patience) as (server, client):
        with pytest.raises(RateLimited) as error:
            ask(client)
        assert error.value.window == "day"
        assert error.value.retry_after_seconds == pytest.approx(3600, abs=1)
        assert server.count() == 1


def timed(clock: FakeClock) -> tuple[list[datetime], Answer]:
    """When calls came in by the clock of the client, and what answers them."""
    times: list[datetime] = []

    def answer(api: str, params: dict[str, str]) -> pd.DataFrame:
        times.append(clock.now())
        return shares(1)

    return times, answer


def most_in_a_minute(times: list[datetime]) -> int:
    return max(sum(time <= other < time + timedelta(minutes=1) for other in times) for time in times)


def ask_often(client: TushareClient, calls: range, api: str = "fund_share") -> None:
    for number in calls:
        client.rows(api, {"n": str(number)}, FIELDS, page_size=2000)


def test_no_minute_has_more_calls_than_the_plan_allows(tmp_path: Path) -> None:
    clock = FakeClock()
    times, answer = timed(clock)
    with serving(tmp_path, answer, clock=clock, plan=Plan(2000, False, 5, None)) as (_server, client):
        ask_often(client, range(23))
    assert most_in_a_minute(times) == 5
    # 23 calls are 5 at once, then 5 a window, four times
    assert times[-1] - times[0] == pytest.approx(timedelta(seconds=4 * 61), abs=timedelta(seconds=1))


def test_the_pace_is_one_for_all_clients_of_a_folder_and_for_each_api(tmp_path: Path) -> None:
    clock = FakeClock()
    times, answer = timed(clock)
    plan = Plan(2000, False, 5, None)
    with serving(tmp_path, answer, clock=clock, plan=plan) as (server, first):
        ask_often(first, range(4))
        with connect(server.url, tmp_path, clock=clock, plan=plan) as second:
            ask_often(second, range(4, 8))
        assert most_in_a_minute(times) == 5
        before = clock.now()
        ask_often(first, range(5), "fund_nav")
        assert clock.now() - before < timedelta(seconds=1)


def test_calls_counted_by_a_clock_that_was_ahead_hold_nobody_up(tmp_path: Path) -> None:
    plan, clock = Plan(2000, False, 5, None), FakeClock()
    with serving(tmp_path, plan=plan, clock=FakeClock(datetime(2027, 3, 2, tzinfo=UTC))) as (server, ahead):
        ask_often(ahead, range(5))
        with connect(server.url, tmp_path, clock=clock, plan=plan) as right:
            ask_often(right, range(5, 10))
            assert clock.slept == []
            ask_often(right, range(10, 11))
    assert clock.slept == [pytest.approx(61, abs=1)]


def test_a_slower_rate_in_a_message_is_kept_to(tmp_path: Path) -> None:
    clock = FakeClock()
    times, answer = timed(clock)
    with serving(tmp_path, answer, faults=[refused(rate_refusal("分钟", 3))], clock=clock) as (server, client):
        ask_often(client, range(10))
        assert server.count() == 11
        assert most_in_a_minute(times[1:]) == 3
        assert times[-1] - times[1] == pytest.approx(timedelta(seconds=3 * 61), abs=timedelta(seconds=1))


def test_a_faster_rate_in_a_message_changes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    times, answer = timed(clock)
    faults: list[Fault | None] = [refused(rate_refusal("分钟", 800))]
    with serving(tmp_path, answer, faults=faults, clock=clock, plan=Plan(2000, False, 5, None)) as (_server, client):
        ask_often(client, range(12))
    assert most_in_a_minute(times) == 5


# --- at the same time


def test_one_call_of_an_api_is_under_way_at_a_time(tmp_path: Path) -> None:
    def answer(api: str, params: dict[str, str]) -> pd.DataFrame:
        time.sleep(0.005)
        return shares(1)

    # two clients stand for two processes: they share nothing but the folder
    with (
        serving(tmp_path, answer) as (server, first),
        connect(server.url, tmp_path) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        started = [
            pool.submit(ask_often, client, range(start, start + 4))
            for start, client in zip(range(0, 32, 4), [first, second] * 4, strict=True)
        ]
        for each in started:
            each.result()
        assert server.count() == 32
        assert server.most_at_once == {"fund_share": 1}


def test_several_apis_are_under_way_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def answer(api: str, params: dict[str, str]) -> pd.DataFrame:
        together.wait(timeout=20)  # nobody passes before all three have come
        return shares(1)

    with serving(tmp_path, answer) as (_server, client), ThreadPoolExecutor(3) as pool:
        frames = list(pool.map(lambda api: ask(client, api), ["fund_share", "fund_nav", "fund_daily"]))
        assert [len(frame) for frame in frames] == [1, 1, 1]
        assert client.calls == {"fund_share": 1, "fund_nav": 1, "fund_daily": 1}


def test_the_same_query_at_once_is_asked_once(tmp_path: Path) -> None:
    with serving(tmp_path, always(shares(300))) as (server, client), ThreadPoolExecutor(6) as pool:
        frames = list(pool.map(lambda _: ask(client, page_size=100), range(6)))
        assert all(frame.equals(shares(300)) for frame in frames)
        assert server.count() == 4


# --- what is stored


def test_stored_pages_are_not_asked_for_again(tmp_path: Path) -> None:
    with serving(tmp_path, always(shares(250))) as (server, client):
        first = ask(client, page_size=100)
        with connect(server.url, tmp_path) as another:
            assert_frame_equal(ask(another, page_size=100), first)
            assert another.calls == {}
            assert [page.request for page in another.used] == [page.request for page in client.used]
        assert server.count() == 3


def test_an_interrupted_query_goes_on_where_it_stopped(tmp_path: Path) -> None:
    faults = [None, None, http_status(502)]
    with serving(tmp_path, always(shares(450)), faults, patience=Patience(attempts=1)) as (server, client):
        with pytest.raises(VendorUnavailable, match="offset=200"):
            ask(client, page_size=100)
        assert_frame_equal(ask(client, page_size=100), shares(450))
        assert [call.params["offset"] for call in server.calls] == [0, 100, 200, 200, 300, 400]


def test_pages_older_than_wanted_are_asked_for_again(tmp_path: Path) -> None:
    held = [shares(2), shares(3)]
    clock = FakeClock()
    with serving(tmp_path, lambda api, params: held[0], clock=clock) as (server, client):
        assert len(ask(client)) == 2
        held.reverse()
        moment = clock.now()
        assert len(ask(client)) == 2
        assert len(ask(client, since=moment - timedelta(minutes=1))) == 2
        assert server.count() == 1
        assert len(ask(client, since=moment)) == 3
        assert len(ask(client, since=moment)) == 3
        assert len(ask(client)) == 3
        assert server.count() == 2
    assert len(stored(tmp_path)) == 2


def test_rows_lead_to_the_bytes_they_came_from(tmp_path: Path) -> None:
    with serving(tmp_path, always(shares(150))) as (_server, client):
        ask(client, page_size=100)
        assert [page.request["offset"] for page in client.used] == [0, 100]
        page = client.used[0]
        assert page.request == {"api": "fund_share", "params": DAY, "fields": FIELDS, "limit": 100, "offset": 0}
        assert gzip.decompress(page.path.read_bytes()).endswith(b"\n" + page.body)
        assert '["159000.SZ", "20260302", 0.25]' in page.body.decode()
        client.used.clear()
        ask(client, page_size=100)
        assert [used.path for used in client.used] == stored_in_order(tmp_path)


def stored_in_order(folder: Path) -> list[Path]:
    """Stored pages by the time in their names."""
    return sorted(stored(folder), key=lambda path: path.name.split(".")[1])


def test_offline_answers_from_the_store_without_a_token(tmp_path: Path) -> None:
    with serving(tmp_path, always(shares(150))) as (_server, client):
        online = ask(client, page_size=100)
    with connect("https://api.tushare.pro", tmp_path, offline=True, token=SecretStr("")) as offline:
        assert_frame_equal(ask(offline, page_size=100), online)
        with pytest.raises(NotStored, match=r"^fund_share\(trade_date=20260302, limit=99, offset=0\): offline"):
            ask(offline, page_size=99)
        with pytest.raises(NotStored, match="since 2027"):
            ask(offline, page_size=100, since=datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("damage", [lambda body: body.replace(b"159000", b"159999"), lambda body: body[:-20]])
def test_a_stored_page_that_was_changed_is_never_used(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with serving(tmp_path) as (_server, client):
        ask(client)
        path = client.used[0].path
        path.write_bytes(gzip.compress(damage(gzip.decompress(path.read_bytes()))))
        with pytest.raises(SourceError, match="damaged"):
            ask(client)
