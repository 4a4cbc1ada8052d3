"""Dates held against the exchange, two sources against each other, and days without any row."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from etf_pipeline.sources.trust import (
    DatesRefused,
    EmptyDay,
    NotPublished,
    as_text,
    dated_by_exchange,
    reconcile,
    refuse_empty_days,
)

DAYS = pd.DatetimeIndex(["2026-03-02", "2026-03-03", "2026-03-04", "2026-03-05", "2026-03-06", "2026-03-09"]).as_unit(
    "us"
)
FUNDS = [f"1599{n:02d}.SZ" for n in range(40)]


def report(days: pd.DatetimeIndex = DAYS, changing: int = 30) -> pd.DataFrame:
    """Shares of 40 funds; the first `changing` of them have another number every day."""
    return pd.DataFrame(
        [
            (fund, day, 1e9 + 1e6 * n + (1e5 * d if n < changing else 0))
            for n, fund in enumerate(FUNDS)
            for d, day in zip(DAYS.get_indexer(days), days, strict=True)
        ],
        columns=["etf_code", "trade_date", "shares"],
    )


def labelled(lags: dict[int, int], days: pd.DatetimeIndex = DAYS[1:-1], changing: int = 30) -> pd.DataFrame:
    """What a vendor says: under the label of session n stand the shares of session n + lag."""
    truth = report(changing=changing).set_index("trade_date")
    parts = [
        truth.loc[DAYS[n + lags.get(n, 0)]].reset_index(drop=True).assign(trade_date=DAYS[n])
        for n in DAYS.get_indexer(days)
    ]
    return pd.concat(parts, ignore_index=True)[["etf_code", "trade_date", "shares"]]


def dates(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Labels with the dates they were given."""
    pairs = frame[["label", "trade_date"]].drop_duplicates().sort_values(["trade_date", "label"])
    return [(f"{label:%m-%d}", f"{day:%m-%d}") for label, day in pairs.itertuples(index=False)]


def test_right_labels_stay() -> None:
    vendor = labelled({})
    dated = dated_by_exchange(vendor, report(), DAYS)
    assert dates(dated) == [(d, d) for d in ("03-03", "03-04", "03-05", "03-06")]
    pd.testing.assert_frame_equal(dated.drop(columns="label"), vendor)


@pytest.mark.parametrize(
    ("lag", "expected"), [(-1, ["03-02", "03-03", "03-04", "03-05"]), (1, ["03-04", "03-05", "03-06", "03-09"])]
)
def test_labels_off_by_a_session_are_corrected(lag: int, expected: list[str]) -> None:
    dated = dated_by_exchange(labelled(dict.fromkeys(range(6), lag)), report(), DAYS)
    assert [day for _, day in dates(dated)] == expected
    truth = report().set_index(["etf_code", "trade_date"])["shares"]
    found = dated.set_index(["etf_code", "trade_date"])["shares"]
    assert (found == truth.reindex(found.index)).all()


def test_where_two_labels_are_one_session_the_right_one_is_kept() -> None:
    # from 03-05 on the labels are late: 03-05 repeats 03-04
    vendor = labelled({3: -1, 4: -1})
    vendor.loc[vendor["trade_date"] == DAYS[3], "shares"] += 50  # within rounding, so that the two can be told apart
    dated = dated_by_exchange(vendor, report(), DAYS)
    assert dates(dated) == [("03-03", "03-03"), ("03-04", "03-04"), ("03-06", "03-05")]
    assert not dated.duplicated(["etf_code", "trade_date"]).any()


def test_few_changes_are_enough_and_without_any_the_label_stands() -> None:
    assert dates(dated_by_exchange(labelled({2: -1}, DAYS[2:3], changing=5), report(changing=5), DAYS)) == [
        ("03-04", "03-03")
    ]
    assert dates(dated_by_exchange(labelled({2: -1}, DAYS[2:3], changing=0), report(changing=0), DAYS)) == [
        ("03-04", "03-04")
    ]


def test_a_few_odd_funds_do_not_move_a_day() -> None:
    vendor = labelled({}, DAYS[2:3])
    vendor.loc[:2, "shares"] += 7e5
    assert dates(dated_by_exchange(vendor, report(), DAYS)) == [("03-04", "03-04")]
    # two funds say yesterday and one says today: not clear enough against the label
    close = labelled({}, DAYS[2:3], changing=3)
    close.loc[:1, "shares"] -= 1e5
    assert dates(dated_by_exchange(close, report(changing=3), DAYS)) == [("03-04", "03-04")]


def test_the_vendors_rounding_is_no_difference() -> None:
    vendor = labelled({}, DAYS[2:3])
    vendor["shares"] += 99.0
    assert dates(dated_by_exchange(vendor, report(), DAYS)) == [("03-04", "03-04")]
    vendor["shares"] += 2.0
    with pytest.raises(DatesRefused):
        dated_by_exchange(vendor, report(), DAYS)


def test_days_that_agree_nowhere_are_refused_all_at_once() -> None:
    vendor = labelled({})
    wrong = vendor["trade_date"].isin(DAYS[[2, 4]])
    vendor.loc[wrong, "shares"] += 33_333
    with pytest.raises(DatesRefused, match=r"shares of 2 days agree.*2026-03-04 \(lag -1: 0%, lag 0: 0%, lag 1: 0%\)"):
        dated_by_exchange(vendor, report(), DAYS)


def test_days_the_exchange_does_not_report_are_refused() -> None:
    with pytest.raises(DatesRefused, match=r"2026-03-04 \(the report does not have it\)"):
        dated_by_exchange(labelled({}, DAYS[2:3]), report(DAYS[:1]), DAYS)
    few = report()[lambda rows: rows["etf_code"].isin(FUNDS[:19])]  # less than half of the funds
    with pytest.raises(DatesRefused, match="the report does not have it"):
        dated_by_exchange(labelled({}, DAYS[2:3]), few, DAYS)


def test_a_day_at_the_edge_of_the_report_is_judged_by_what_there_is() -> None:
    # the exchange has not published the label's own day yet; the vendor's rows are those of the day before
    late = dated_by_exchange(labelled({2: -1}, DAYS[2:3]), report(DAYS[:2]), DAYS)
    assert dates(late) == [("03-04", "03-03")]
    with pytest.raises(DatesRefused, match="lag -1: 25%"):  # ten of forty funds never change
        dated_by_exchange(labelled({}, DAYS[2:3]), report(DAYS[:2]), DAYS)


def test_labels_nobody_asked_for_are_refused() -> None:
    with pytest.raises(DatesRefused, match="not asked for"):
        dated_by_exchange(labelled({}), report(), DAYS[:3])


def test_disagreements_of_two_sources() -> None:
    left = pd.DataFrame(
        {"code": ["a", "b", "c", "d", "e"], "day": 1, "shares": [100.0, 200.0, 300.0, np.nan, np.nan], "name": "x"}
    )
    right = pd.DataFrame(
        {"code": ["a", "b", "d", "e", "f"], "day": 1, "shares": [100.0005, 190.0, 400.0, np.nan, 0.0], "name": "y"}
    )
    found = reconcile(left, right, ("code", "day"), ("ours", "theirs"), relative_tolerance=1e-5)
    assert found.columns.tolist() == ["code", "day", "column", "ours", "theirs", "relative_difference", "missing_in"]
    assert found["code"].tolist() == ["b", "c", "d", "f"]
    assert found["column"].unique() == ["shares"]  # names are not compared
    assert found["relative_difference"].tolist() == pytest.approx([0.05, np.nan, np.nan, np.nan], nan_ok=True)
    assert found["missing_in"].fillna("").tolist() == ["", "theirs", "ours", "ours"]
    text = as_text(found)
    assert text.startswith("4 disagreements")
    assert text.index("| c ") < text.index("| b ")  # what is missing comes first


def test_zero_agrees_with_zero_only() -> None:
    left = pd.DataFrame({"code": ["a", "b"], "shares": [0.0, 0.0]})
    right = pd.DataFrame({"code": ["a", "b"], "shares": [0.0, 5.0]})
    found = reconcile(left, right, ("code",), ("ours", "theirs"), 0.1)
    assert found[["code", "relative_difference"]].to_numpy().tolist() == [["b", 1.0]]


def test_equal_sources_agree() -> None:
    assert reconcile(report(), report(), ("etf_code", "trade_date"), ("ours", "theirs"), 0.0).empty
    assert (
        len(as_text(reconcile(report(), report()[:0], ("etf_code", "trade_date"), ("a", "b"), 0.0)).splitlines()) == 56
    )


def test_empty_days() -> None:
    refuse_empty_days("fund_share", late=[], empty=[])
    days = [date(2026, 3, n) for n in range(2, 9)]
    with pytest.raises(EmptyDay, match=r"fund_share: no row at all for 2026-03-02, .* and 2 more, which are sessions"):
        refuse_empty_days("fund_share", late=[date(2026, 3, 9)], empty=days)
    with pytest.raises(NotPublished, match="fund_share: no row yet for 2026-03-09") as caught:
        refuse_empty_days("fund_share", late=[date(2026, 3, 9)], empty=[])
    assert caught.value.retry_after_seconds == 900
