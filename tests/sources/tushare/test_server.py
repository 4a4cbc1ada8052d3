"""What the tests of the source rely on when they talk to the stand-in."""

from typing import Any

import httpx
import pandas as pd
import pytest

from tests.sources.tushare.account import TOKEN, always, shares
from tests.sources.tushare.server import (
    WRONG_PARAMETERS,
    WRONG_TOKEN,
    Call,
    Refusal,
    TushareServer,
    at_random,
    first_of,
    http_status,
    page,
    scripted,
)


def post(server: TushareServer, **message: Any) -> dict[str, Any]:
    whole = {"api_name": "fund_share", "token": TOKEN, "params": {}, "fields": "", **message}
    return httpx.post(server.url, json=whole, trust_env=False).json()


def test_answers_have_the_documented_shape() -> None:
    with TushareServer(always(shares(2)), TOKEN) as server:
        answer = post(server)
        assert (answer["code"], answer["msg"]) == (0, "")
        assert answer["data"]["fields"] == ["ts_code", "trade_date", "fd_share"]
        assert answer["data"]["items"] == [["159000.SZ", "20260302", 0.25], ["159001.SZ", "20260302", 1.25]]
        assert answer["data"]["has_more"] is False
        assert post(server, fields="fd_share,nothing")["data"]["fields"] == ["fd_share"]
        assert post(server, fields=["trade_date", "ts_code"])["data"]["fields"] == ["trade_date", "ts_code"]


def test_missing_values_are_null() -> None:
    frame = pd.DataFrame({"a": [None, "x"], "b": [float("nan"), 1.0]})
    with TushareServer(always(frame), TOKEN) as server:
        assert post(server)["data"]["items"] == [[None, None], ["x", 1.0]]


@pytest.mark.parametrize(
    ("paging", "first", "rows", "has_more"),
    [
        ({}, 0, 2000, True),  # the documented cap of fund_share
        ({"limit": 5000}, 0, 2000, True),
        ({"limit": 100, "offset": 2000}, 2000, 100, True),
        ({"limit": 2000, "offset": 2000}, 2000, 500, False),
        ({"limit": 500, "offset": 2000}, 2000, 500, False),
        ({"limit": 500, "offset": "2000"}, 2000, 500, False),
        ({"offset": 2500}, 2500, 0, False),
    ],
)
def test_rows_are_cut_at_limit_and_cap(paging: dict[str, Any], first: int, rows: int, has_more: bool) -> None:
    with TushareServer(always(shares(2500)), TOKEN) as server:
        data = post(server, params=paging, fields="ts_code")["data"]
        assert data["items"] == shares(2500)[["ts_code"]].iloc[first : first + rows].to_numpy().tolist()
        assert data["has_more"] is has_more


def test_refusals_have_code_and_text_and_no_data() -> None:
    denied = Refusal(2002, "权限问题")
    with TushareServer(lambda api, params: denied, TOKEN) as server:
        for answer, refusal in [
            (post(server), denied),
            (post(server, token="another"), WRONG_TOKEN),
            (post(server, params={"offset": 100_001}), WRONG_PARAMETERS),
        ]:
            assert (answer["code"], answer["msg"], answer["data"]) == (refusal.code, refusal.msg, None)
        assert [call.outcome for call in server.calls] == [denied.msg, WRONG_TOKEN.msg, WRONG_PARAMETERS.msg]


def test_a_first_page_asks_again_what_is_held_and_later_pages_belong_to_it() -> None:
    held = [shares(4)]
    with TushareServer(lambda api, params: held[-1], TOKEN) as server:
        assert len(post(server, params={"limit": 3, "offset": 0})["data"]["items"]) == 3
        held.append(shares(6))
        assert len(post(server, params={"limit": 3, "offset": 3})["data"]["items"]) == 1
        assert len(post(server, params={"limit": 9, "offset": 0})["data"]["items"]) == 6


def call(number: int, api: str = "fund_nav") -> Call:
    return Call(api, number, {}, (), 0.0)


def test_faults_at_random_are_the_same_for_a_seed_and_as_many_as_asked_for() -> None:
    error, other = http_status(500), page()
    plan, again, another = (at_random(seed, [(0.05, error), (0.03, other)]) for seed in (1, 1, 2))
    calls = [call(number, api) for api in ("fund_nav", "daily") for number in range(1, 5001)]
    drawn = [plan(each) for each in calls]
    assert [again(each) for each in reversed(calls)] == drawn[::-1]
    assert [another(each) for each in calls] != drawn
    assert 400 < drawn.count(error) < 600
    assert 240 < drawn.count(other) < 360


def test_scripts_are_by_api_and_the_first_plan_decides() -> None:
    script = scripted({"fund_nav": [None, page()]})
    plan = first_of(script, lambda each: http_status(502) if each.number == 2 else None)
    names = [(fault.name if fault else None) for fault in (plan(call(1)), plan(call(2)), plan(call(2, "daily")))]
    assert names == [None, "page", "HTTP 502"]
