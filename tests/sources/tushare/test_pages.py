import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from etf_pipeline.sources.base import MalformedResponse, TransientSourceError, VendorUnavailable
from etf_pipeline.sources.tushare.pages import Page, Query, frame_of, read_page
from tests.sources.tushare.account import TOKEN, always, connect, shares
from tests.sources.tushare.malformed import FIELDS, GOOD, MALFORMED, Malformed
from tests.sources.tushare.server import TushareServer, edited, scripted

NOW = datetime(2026, 3, 2, tzinfo=UTC)
QUERY = Query("fund_share", {"trade_date": "20260302", "market": "SZ"}, FIELDS, 4, 0)


def read(answer: object, query: Query = QUERY) -> Page:
    return read_page(json.dumps(answer).encode(), query, NOW)


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_malformed_answer_is_refused_with_api_parameters_and_rule(tmp_path: Path, case: Malformed) -> None:
    faults = scripted({"fund_share": [case.fault]})
    with TushareServer(always(shares(2)), TOKEN, faults) as server, connect(server.url, tmp_path) as client:
        with pytest.raises(MalformedResponse) as refusal:
            client.rows("fund_share", {"trade_date": "20260302", "market": "SZ"}, FIELDS, page_size=4)
        message = str(refusal.value)
        assert message.startswith("fund_share(trade_date=20260302, market=SZ, limit=4, offset=0): ")
        assert case.rule in message
        assert TOKEN not in message
        # it is no fault that passes, and it must not be read from the store the next time
        assert not isinstance(refusal.value, TransientSourceError)
        assert server.count() == 1
        assert list(tmp_path.rglob("*.gz")) == []
        assert len(client.rows("fund_share", {"trade_date": "20260302", "market": "SZ"}, FIELDS, page_size=4)) == 2


def test_the_same_page_twice_is_refused(tmp_path: Path) -> None:
    first = shares(8).iloc[:4].to_numpy(dtype=object).tolist()
    faults = scripted({"fund_share": [None, edited(lambda answer: answer["data"].update(items=first))]})
    with TushareServer(always(shares(8)), TOKEN, faults) as server, connect(server.url, tmp_path) as client:
        with pytest.raises(MalformedResponse, match=r"offset=4\).* the same 4 rows as on the page before"):
            client.rows("fund_share", {}, FIELDS, page_size=4)
        assert len(client.rows("fund_share", {}, FIELDS, page_size=4)) == 8


def test_an_answer_cut_anywhere_is_transient_and_never_taken() -> None:
    answer = {
        "code": 0,
        "data": {
            "fields": FIELDS,
            "items": [["基金}", '}"]}', -1.25e-7], ["\\😀", "}", None]],
            "has_more": False,
        },
        "msg": "好}",
    }
    for ascii_only in (False, True):
        body = json.dumps(answer, ensure_ascii=ascii_only, indent=1).encode()
        assert len(read_page(body, QUERY, NOW).items) == 2
        for length in range(len(body)):
            with pytest.raises(VendorUnavailable, match=f"after {length} bytes"):
                read_page(body[:length], QUERY, NOW)


def test_values_come_as_sent() -> None:
    frame = frame_of(read(GOOD).items, QUERY)
    expected = pd.DataFrame(
        {"ts_code": ["159001.SZ", "159002.SZ"], "trade_date": ["20260302"] * 2, "fd_share": [1.5, np.nan]}
    )
    assert_frame_equal(frame, expected)
    assert [str(kind) for kind in frame.dtypes] == ["str", "str", "float64"]


def test_fields_are_taken_by_name_and_others_left_out() -> None:
    data = {"fields": ["fd_share", "extra", "ts_code", "trade_date"], "items": [[1.5, 9, "159001.SZ", "20260302"]]}
    assert read({"code": 0, "msg": None, "data": data}) == Page([["159001.SZ", "20260302", 1.5]], None)


def test_whole_numbers_and_columns_without_values_are_float64() -> None:
    frame = frame_of([[None, 3, None], [None, 4.5, "x"]], QUERY)
    assert [str(kind) for kind in frame.dtypes] == ["float64", "float64", "str"]
    assert frame["trade_date"].tolist() == [3.0, 4.5]
    assert frame["ts_code"].isna().all()
    assert frame["fd_share"].isna().tolist() == [True, False]


def test_no_rows_have_their_columns() -> None:
    empty = frame_of([], QUERY)
    assert empty.columns.tolist() == FIELDS
    assert len(empty) == 0


def test_pages_that_differ_in_kind_are_refused_together() -> None:
    with pytest.raises(MalformedResponse, match="fd_share holds a number and text"):
        frame_of([["a", "b", 1.5], ["a", "b", "1.5"]], QUERY)


def test_a_long_list_of_codes_is_shown_in_part() -> None:
    codes = ",".join(f"{number:06d}.SH" for number in range(510_000, 510_500))
    query = Query("fund_daily", {"ts_code": codes, "trade_date": "20260302"}, FIELDS)
    assert str(query) == f"fund_daily(ts_code={codes[:80]}…, trade_date=20260302)"
    assert query.request["params"]["ts_code"] == codes
