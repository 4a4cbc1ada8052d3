from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from etf_pipeline.contract import load_contract
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.canonical import canonical_frame, examine
from tests.sources.folder import valid_frames

TODAY = date(2025, 10, 31)
CONTRACT = load_contract()


def canonical(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    return canonical_frame(CONTRACT[name], frame, name, TODAY)


def one_share(**values: Any) -> pd.DataFrame:
    return pd.DataFrame([{"etf_code": "510300.SH", "trade_date": date(2025, 9, 22), "shares": 1e9} | values])


def shanghai(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="Asia/Shanghai").tz_convert("UTC")


def test_types_of_every_column() -> None:
    info = canonical("etf_info", valid_frames()["etf_info"]).dtypes.astype(str)
    assert info[["etf_code", "theme"]].tolist() == ["str", "str"]
    assert info[["management_fee", "custody_fee"]].tolist() == ["float64", "float64"]
    assert info[["list_date", "delist_date"]].tolist() == ["datetime64[us]", "datetime64[us]"]
    assert info["is_t0"] == "boolean"
    bars = pd.DataFrame(
        {
            "etf_code": "510300.SH",
            "trade_date": date(2025, 9, 22),
            "bar_end": ["2025-09-22 09:35:00", "2025-09-22T09:40:00+08:00", "2025-09-22T01:45:00Z"],
            **dict.fromkeys(["open", "high", "low", "close", "volume", "amount"], 1),
        }
    )
    bar = canonical("etf_bar_5min", bars)
    assert str(bar["bar_end"].dtype) == "datetime64[us, Asia/Shanghai]"
    assert bar["bar_end"].dt.strftime("%H:%M").tolist() == ["09:35", "09:40", "09:45"]
    assert str(bar["available_at"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize("name", valid_frames())
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_canonical_form_is_idempotent_and_independent_of_row_order(name: str, data: st.DataObject) -> None:
    raw = valid_frames()[name]
    order = data.draw(st.permutations(range(len(raw))))
    once = canonical(name, raw)
    assert_frame_equal(canonical(name, raw.iloc[order].reset_index(drop=True)), once)
    assert_frame_equal(canonical(name, once), once)


@pytest.mark.parametrize(
    "day",
    [
        date(2025, 9, 22),
        pd.Timestamp("2025-09-22"),
        pd.Timestamp("2025-09-22", tz="Asia/Shanghai"),
        "2025-09-22",
        "20250922",
    ],
)
def test_accepted_forms_of_a_day(day: Any) -> None:
    assert canonical("etf_share", one_share(trade_date=day))["trade_date"][0] == pd.Timestamp("2025-09-22")


@pytest.mark.parametrize("day", ["2025-9/22", "22/09/2025", "2025-W39-1", "22.09.2025", 2025092, 45922, 45922.0, True])
def test_refused_forms_of_a_day(day: Any) -> None:
    with pytest.raises(SourceError, match="`trade_date` is not a plain calendar day in 1 row"):
        canonical("etf_share", one_share(trade_date=day))


@pytest.mark.parametrize("number", [10**9, 1e9, Decimal("1E9")])
def test_accepted_forms_of_a_number(number: Any) -> None:
    assert canonical("etf_share", one_share(shares=number))["shares"].tolist() == [1e9]


@pytest.mark.parametrize("number", ["1000000000", True, date(2025, 9, 22), [1e9]])
def test_refused_forms_of_a_number(number: Any) -> None:
    with pytest.raises(SourceError, match="`shares` is not a number in 1 row"):
        canonical("etf_share", one_share(shares=number))


def test_every_violation_is_found() -> None:
    frame = one_share(etf_code="510300", trade_date="soon", shares=-1.0)
    _, violations = examine(CONTRACT["etf_share"], frame, "mine.csv", TODAY)
    assert len(violations) == 3
    assert all(v.startswith("mine.csv: ") for v in violations)


def test_at_most_five_rows_are_shown() -> None:
    frame = pd.concat([one_share(trade_date=d) for d in pd.bdate_range("2025-09-08", "2025-09-15")], ignore_index=True)
    with pytest.raises(SourceError) as refusal:
        canonical("etf_share", frame.assign(shares=-frame["shares"]))
    line = str(refusal.value).splitlines()[0]
    assert "in 6 rows: row 1 (" in line
    assert "row 5 (" in line
    assert "row 6 (" not in line


def test_empty_frame_is_canonical() -> None:
    empty = canonical("etf_share", one_share()[:0])
    assert empty.dtypes.equals(canonical("etf_share", one_share()).dtypes)
    assert empty.empty


def test_shares_are_known_next_session_even_across_national_day() -> None:
    # 2025-10-01 … 10-08 closed: the next session after 2025-09-30 is Thursday 2025-10-09
    known = canonical("etf_share", one_share(trade_date=date(2025, 9, 30)))["available_at"]
    assert known.tolist() == [shanghai("2025-10-09 08:30")]


def test_weights_are_known_five_sessions_later() -> None:
    weights = canonical("index_weight", valid_frames()["index_weight"]).groupby("as_of_date")["available_at"].unique()
    # after 08-29 (Friday): 09-01 … 09-05; after 09-30: 10-09, 10, 13, 14, 15
    assert weights[pd.Timestamp("2025-08-29")].tolist() == [shanghai("2025-09-05 08:30")]
    assert weights[pd.Timestamp("2025-09-30")].tolist() == [shanghai("2025-10-15 08:30")]


def test_holdings_are_known_when_announced_or_fifteen_sessions_after_the_quarter() -> None:
    known = canonical("fund_holding", valid_frames()["fund_holding"])["available_at"]
    # 15 sessions after Monday 2025-06-30, no holiday in July: Monday 2025-07-21
    assert known.tolist() == [shanghai("2025-07-21"), shanghai("2025-07-21")]
    late = valid_frames()["fund_holding"].assign(announced_date=[date(2025, 8, 29), None])
    assert canonical("fund_holding", late)["available_at"].tolist() == [shanghai("2025-08-29"), shanghai("2025-07-21")]


@pytest.mark.parametrize(
    "given_at", ["2025-09-23 18:00", pd.Timestamp("2025-09-23 18:00"), pd.Timestamp("2025-09-23 10:00", tz="UTC")]
)
def test_given_moment_of_knowledge_is_kept(given_at: Any) -> None:
    assert canonical("etf_share", one_share(available_at=given_at))["available_at"].tolist() == [
        shanghai("2025-09-23 18:00")
    ]


def test_splits_may_be_announced_ahead() -> None:
    split = pd.DataFrame(
        {
            "etf_code": ["512800.SH"],
            "ex_date": [date(2025, 9, 29)],
            "new_per_old": [2],
            "available_at": [pd.Timestamp("2025-09-24 20:00")],
        }
    )
    assert canonical("etf_split", split)["available_at"].tolist() == [shanghai("2025-09-24 20:00")]
    with pytest.raises(SourceError, match="before the day the row is about"):
        canonical("etf_share", one_share(available_at=pd.Timestamp("2025-09-21 20:00")))


@pytest.mark.parametrize(
    "code", ["510300.SH", "930050.CSI", "HSHKI.HI", "AU9999.SGE", "830001.BJ", "000001.OF", "801080.SI", "NDX.GI"]
)
def test_codes_of_known_exchanges(code: str) -> None:
    bar = pd.DataFrame({"index_code": [code], "trade_date": [date(2025, 9, 22)], "close": [1.0]})
    assert canonical("index_bar", bar)["index_code"].tolist() == [code]


@pytest.mark.parametrize("code", ["510300", "510300.", ".SH", "510300.SHANGHAI", "510 300.SH"])
def test_codes_that_are_none(code: str) -> None:
    with pytest.raises(SourceError, match=r"`etf_code` is .*exchange suffix"):
        canonical("etf_share", one_share(etf_code=code))


def test_set_sums_at_the_bounds_are_accepted() -> None:
    for weights in ([0.33] * 3, [0.33, 0.34, 0.34]):
        frame = pd.DataFrame(
            {
                "index_code": "000300.SH",
                "as_of_date": date(2025, 9, 30),
                "stock_code": ["600000.SH", "600036.SH", "600030.SH"],
                "weight": weights,
            }
        )
        assert len(canonical("index_weight", frame)) == 3
