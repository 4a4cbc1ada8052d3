"""From which session on the warehouse is computed anew, for each kind of change."""

from collections.abc import Iterator
from datetime import date

import duckdb
import pandas as pd
import pytest

from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.resources.increment import begin, finish

SESSIONS = sessions_between(date(2023, 1, 3), date(2024, 12, 31))
LAST = date(2024, 6, 28)
DAYS = sessions_between(date(2023, 1, 3), LAST)
IN_USE_SESSIONS = 10
SIXTY_BEFORE_LAST = date(2024, 3, 25)  # the Monday of the week of 2024-03-28, sixty sessions before 2024-06-28
BEYOND_THE_DATA = date(2024, 10, 7)  # as long before the end of the calendar
NAMES = (
    "trading_calendar", "etf_info", "etf_share", "etf_nav", "etf_bar", "etf_split", "index_weight", "stock_industry",
    "theme_industry", "fund_holding",
)  # fmt: skip
MANIFEST = {
    "nodes": {
        name: {"resource_type": "model", "raw_code": name, "config": {"materialized": kind}, "columns": {}}
        for name, kind in (("model.kept", "incremental"), ("model.view", "table"), ("model.other", "table"))
    },
    "sources": {f"source.{name}": {"name": name} for name in NAMES},
    "parent_map": {
        "model.kept": ["model.view"],
        "model.view": [f"source.{name}" for name in NAMES if name != "fund_holding"],
        "model.other": ["model.kept", "source.fund_holding"],
    },
    "macros": {},
}


def known(day: pd.Timestamp) -> pd.Timestamp:
    return (day + pd.Timedelta(days=1, hours=8)).tz_localize("Asia/Shanghai")


@pytest.fixture
def raw() -> Iterator[duckdb.DuckDBPyConnection]:
    """Raw tables of two ETFs that trade every session, as a build saw them that then ended well."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA raw")
        day = pd.DataFrame({"etf_code": code, "trade_date": DAYS} for code in ("A", "B")).explode("trade_date")
        day["trade_date"] = day["trade_date"].astype("datetime64[us]")
        day = day.assign(available_at=[known(d) for d in day["trade_date"]], value=1.0)
        tables = {
            "trading_calendar": pd.DataFrame({"trade_date": SESSIONS, "is_open": True}),
            "etf_info": pd.DataFrame({"etf_code": ["A", "B", "not yet there"], "name": "x"}),
            "etf_share": day.rename(columns={"value": "shares"}),
            "etf_nav": day.rename(columns={"value": "unit_nav"}),
            "etf_bar": day.rename(columns={"value": "close"}).assign(amount=1.0, volume=1.0),
            "etf_split": pd.DataFrame({"etf_code": ["B"], "ex_date": DAYS[3:4], "new_per_old": 2.0}),
            "index_weight": pd.DataFrame({"as_of_date": DAYS[[20, 300]], "weight": 1.0}),
            "stock_industry": pd.DataFrame(
                {
                    "scheme": "citic",
                    "stock_code": ["s", "t"],
                    "in_date": pd.Timestamp("1990-01-01"),
                    "industry_code": "i",
                    "out_date": pd.Series([pd.NaT, pd.NaT], dtype="datetime64[us]"),
                }
            ),
            "theme_industry": pd.DataFrame({"theme": ["bank"], "industry_code": "i"}),
            "fund_holding": pd.DataFrame({"report_date": DAYS[:1]}),
        }
        for name, frame in tables.items():
            dates = [c for c in frame if c.endswith("_date")]
            columns = ", ".join(f"{c}::DATE AS {c}" if c in dates else c for c in frame)
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE raw.{name} AS SELECT {columns} FROM frame")
        assert start(connection) is None
        build(connection)
        yield connection


def build(connection: duckdb.DuckDBPyConnection) -> None:
    """What dbt does between beginning and end, as far as it matters here."""
    connection.execute("CREATE OR REPLACE TABLE stg_etf__share AS FROM raw.etf_share")
    connection.execute("CREATE OR REPLACE TABLE stg_etf__nav AS FROM raw.etf_nav WHERE unit_nav IS NOT NULL")
    connection.execute("CREATE OR REPLACE TABLE stg_etf__bar AS SELECT *, amount / volume AS vwap FROM raw.etf_bar")
    finish(connection)


def start(connection: duckdb.DuckDBPyConnection, settings: str = "", manifest: dict | None = None) -> date | None:
    window = begin(connection, manifest or MANIFEST, [settings], IN_USE_SESSIONS)
    return window.computed_from if window else None


CHANGES = {
    "INSERT INTO raw.etf_share VALUES ('A', DATE '2024-07-01', TIMESTAMPTZ '2024-07-02 00:30Z', 1)": SIXTY_BEFORE_LAST,
    f"UPDATE raw.etf_nav SET unit_nav = 2 WHERE trade_date = DATE '{LAST}'": SIXTY_BEFORE_LAST,
    f"DELETE FROM raw.etf_bar WHERE trade_date = DATE '{LAST}' AND etf_code = 'A'": SIXTY_BEFORE_LAST,
    "UPDATE raw.etf_share SET shares = 2 WHERE trade_date = DATE '2023-09-01'": date(2023, 6, 5),
    # what is said of an ETF holds for all its days, of one without days for none
    "UPDATE raw.etf_info SET name = 'y' WHERE etf_code = 'A'": None,
    "UPDATE raw.etf_split SET new_per_old = 3": None,
    "UPDATE raw.etf_info SET name = 'y' WHERE etf_code = 'not yet there'": BEYOND_THE_DATA,
    # a set of weights of month end, a stock that enters or leaves an industry
    "INSERT INTO raw.index_weight VALUES (DATE '2024-05-31', 1)": date(2024, 2, 26),
    "UPDATE raw.stock_industry SET out_date = DATE '2024-06-03' WHERE stock_code = 's'": date(2024, 3, 4),
    "INSERT INTO raw.stock_industry VALUES ('citic', 'u', DATE '2024-06-03', 'i', NULL)": date(2024, 3, 4),
    "UPDATE raw.stock_industry SET industry_code = 'j' WHERE stock_code = 's'": None,
    "UPDATE raw.theme_industry SET industry_code = 'j'": None,
    # nothing an incremental model is made from
    "DELETE FROM raw.fund_holding": BEYOND_THE_DATA,
}


@pytest.mark.parametrize("change", CHANGES)
def test_first_session(raw: duckdb.DuckDBPyConnection, change: str) -> None:
    raw.execute(change)
    assert start(raw) == CHANGES[change]


def test_without_a_change_the_window_lies_beyond_the_data(raw: duckdb.DuckDBPyConnection) -> None:
    assert start(raw) == BEYOND_THE_DATA


def test_what_is_in_use_opens_earlier(raw: duckdb.DuckDBPyConnection) -> None:
    raw.execute(f"UPDATE raw.etf_nav SET unit_nav = 2 WHERE trade_date = DATE '{LAST}'")
    window = begin(raw, MANIFEST, [""], IN_USE_SESSIONS)
    assert window
    assert window.computed_from == SIXTY_BEFORE_LAST
    assert len(sessions_between(window.in_use_from, SIXTY_BEFORE_LAST)) == IN_USE_SESSIONS + 2


@pytest.mark.parametrize("table", ["etf_share", "etf_nav", "etf_bar"])
def test_a_hole_that_ends_reaches_back_to_its_beginning(raw: duckdb.DuckDBPyConnection, table: str) -> None:
    raw.execute(f"DELETE FROM raw.{table} WHERE etf_code = 'A' AND trade_date > DATE '2024-02-01'")
    assert start(raw) == date(2023, 11, 6)
    build(raw)
    raw.execute(f"INSERT INTO raw.{table} FROM raw.{table} WHERE etf_code = 'B' AND trade_date = DATE '{LAST}'")
    raw.execute(f"UPDATE raw.{table} SET etf_code = 'A' WHERE rowid = (SELECT max(rowid) FROM raw.{table})")
    assert start(raw) is None
    build(raw)
    # and is a hole again
    raw.execute(f"DELETE FROM raw.{table} WHERE etf_code = 'A' AND trade_date = DATE '{LAST}'")
    assert start(raw) is None


def test_a_hole_of_numbers_is_a_hole(raw: duckdb.DuckDBPyConnection) -> None:
    raw.execute("UPDATE raw.etf_share SET shares = 0 WHERE etf_code = 'A' AND trade_date > DATE '2024-02-01'")
    start(raw)
    build(raw)
    raw.execute(f"UPDATE raw.etf_share SET shares = 1 WHERE etf_code = 'A' AND trade_date = DATE '{LAST}'")
    assert start(raw) is None


def test_a_row_of_long_ago_known_only_now(raw: duckdb.DuckDBPyConnection) -> None:
    late = f"UPDATE raw.etf_share SET available_at = TIMESTAMPTZ '{LAST} 00:30Z' WHERE trade_date = DATE '2023-09-01'"
    raw.execute(late)
    assert start(raw) == date(2023, 6, 5)
    build(raw)
    raw.execute(f"UPDATE raw.etf_share SET shares = 2 WHERE trade_date = DATE '{LAST}'")
    assert start(raw) is None


def test_other_settings_or_models_change_everything(raw: duckdb.DuckDBPyConnection) -> None:
    assert start(raw, settings="others") is None
    build(raw)
    assert start(raw, settings="others") is not None
    build(raw)
    nodes = MANIFEST["nodes"]
    changed = {**MANIFEST, "nodes": {**nodes, "model.other": {**nodes["model.other"], "raw_code": "4"}}}
    assert start(raw, "others", changed) is None


def test_a_build_that_did_not_end_leaves_its_window_open(raw: duckdb.DuckDBPyConnection) -> None:
    raw.execute("UPDATE raw.etf_share SET shares = 2 WHERE trade_date = DATE '2023-09-01'")
    assert start(raw) == date(2023, 6, 5)
    # killed; and the revision turns out to be wrong
    raw.execute("UPDATE raw.etf_share SET shares = 1 WHERE trade_date = DATE '2023-09-01'")
    assert start(raw) == date(2023, 6, 5)
    build(raw)
    assert start(raw) == BEYOND_THE_DATA


def test_a_whole_build_that_did_not_end_is_done_again(raw: duckdb.DuckDBPyConnection) -> None:
    assert start(raw, settings="others") is None
    assert start(raw, settings="others") is None
