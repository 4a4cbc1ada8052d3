from datetime import UTC, datetime, timedelta

import pandas as pd

from etf_pipeline.core.ledger import new_versions
from etf_pipeline.tables import HOLDINGS_LEDGER

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
COLUMNS = [c for c in HOLDINGS_LEDGER.columns if c not in ("cause", "source")]


def holdings(settings: str = "a", **dates: str) -> pd.DataFrame:
    """`holdings(d0109="AB")`: A and B are held from the signal of 01-09."""
    rows = [
        {
            "signal_date": pd.Timestamp(f"2026-{name[1:3]}-{name[3:]}"),
            "rank": rank,
            "industry_code": code,
            "industry_name": f"industry {code}",
            "weight": 1 / len(codes),
            "settings_hash": settings,
        }
        for name, codes in dates.items()
        for rank, code in enumerate(codes, start=1)
    ]
    columns = ["signal_date", "rank", "industry_code", "industry_name", "weight", "settings_hash"]
    return pd.DataFrame(rows, columns=columns).astype({"signal_date": "datetime64[ms]"})


def empty() -> pd.DataFrame:
    return HOLDINGS_LEDGER.schema.empty_table().to_pandas(date_as_object=False)[COLUMNS]


def after(ledger: pd.DataFrame, state: pd.DataFrame, hours: int = 0) -> pd.DataFrame:
    added = new_versions(ledger, state, NOW + timedelta(hours=hours))
    return pd.concat([ledger, added], ignore_index=True) if len(ledger) else added


def events(ledger: pd.DataFrame) -> list[tuple[str, int, str, str]]:
    groups = ledger.sort_values(["signal_date", "version", "rank"]).groupby(["signal_date", "version", "event"])
    return [
        (f"{day:%m-%d}", int(version), event, "".join(part["industry_code"].dropna()))
        for (day, version, event), part in groups
    ]


def test_each_date_is_published_once() -> None:
    first = after(empty(), holdings(d0109="AB"))
    assert events(first) == [("01-09", 1, "published", "AB")]
    assert after(first, holdings(d0109="AB")).equals(first)
    second = after(first, holdings(d0109="AB", d0123="CD"), 1)
    assert events(second) == [("01-09", 1, "published", "AB"), ("01-23", 1, "published", "CD")]
    assert second["recorded_at"].tolist() == [NOW, NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=1)]


def test_another_industry_or_order_is_a_restatement() -> None:
    ledger = after(empty(), holdings(d0109="AB", d0123="CD"))
    ledger = after(ledger, holdings(d0109="AC", d0123="CD"), 1)
    ledger = after(ledger, holdings(d0109="CA", d0123="CD"), 2)
    assert events(ledger) == [
        ("01-09", 1, "published", "AB"),
        ("01-09", 2, "restated", "AC"),
        ("01-09", 3, "restated", "CA"),
        ("01-23", 1, "published", "CD"),
    ]


def test_back_to_an_earlier_version_is_a_restatement_too() -> None:
    ledger = after(empty(), holdings(d0109="AB"))
    for state in ("AC", "AB"):
        ledger = after(ledger, holdings(d0109=state))
    assert [content for *_, content in events(ledger)] == ["AB", "AC", "AB"]


def test_a_withdrawn_date_is_said_once_and_may_come_back() -> None:
    ledger = after(empty(), holdings(d0109="AB", d0123="CD"))
    for _ in range(2):
        ledger = after(ledger, holdings(d0123="CD"))
    assert events(ledger) == [
        ("01-09", 1, "published", "AB"),
        ("01-09", 2, "withdrawn", ""),
        ("01-23", 1, "published", "CD"),
    ]
    ledger = after(ledger, holdings(d0109="AB", d0123="CD"))
    assert events(ledger)[2] == ("01-09", 3, "restated", "AB")
    assert HOLDINGS_LEDGER.to_arrow(ledger.assign(cause=None, source="test")).num_rows == 7


def test_other_settings_with_the_same_holdings_are_none() -> None:
    ledger = after(empty(), holdings(d0109="AB"))
    assert after(ledger, holdings(settings="b", d0109="AB")).equals(ledger)


def test_a_weight_that_differs_is_a_restatement() -> None:
    ledger = after(empty(), holdings(d0109="AB"))
    changed = holdings(d0109="AB").assign(weight=[0.6, 0.4])
    assert events(after(ledger, changed))[1] == ("01-09", 2, "restated", "AB")


def test_the_clock_does_not_run_backwards() -> None:
    ledger = after(empty(), holdings(d0109="AB"), 5)
    later = after(ledger, holdings(d0109="AC"), 1)
    assert later["recorded_at"].is_monotonic_increasing
