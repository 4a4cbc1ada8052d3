"""Which sessions the warehouse has to compute anew, so that an evening costs an evening and not ten years.

The warehouse remembers a digest of the raw rows of each day it was last built from. The first day whose digest differs
is the first whose results can differ: every model uses only what was known by its session's decision, so that rows of
later days reach no earlier one (`tests/pipeline/test_truncation.py` shows that of the holdings,
`tests/dbt/test_growth.py` of every row of every model). Splits are recognised a session or two late, and ETFs may
have holes; so the window opens `MARGIN_SESSIONS` earlier, at the beginning of a week, and where something reaches
further back than that, or anything but raw data changed, everything is computed anew.

Models of materialisation `incremental` keep their rows from before the window (`dbt_project/macros/since.sql`); all
other models are small enough to be built whole. State lies in the schema `build` of the warehouse itself, so that
whoever deletes the one deletes the other. A build that did not end well leaves its window open, and the next one
begins no later.
"""

import bisect
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import duckdb

from etf_pipeline.contract import EARLIEST_DATE, load_contract
from etf_pipeline.core.calendar import SHANGHAI

MARGIN_SESSIONS = 60
"""Sessions computed anew before the first that changed: a quarter costs next to nothing and covers most holes."""

_NEVER = date(9999, 12, 31)
_WINDOW = "rules VARCHAR, recompute_from DATE, is_finished BOOLEAN"


class Window(NamedTuple):
    """What a build computes anew."""

    computed_from: date
    """First session of it."""
    in_use_from: date
    """First session whose shares or price may still be in use then."""


# what is stored of an ETF day by day: which rows count in the models, as raw data have them and as models keep them
_SERIES = {
    "share": ("shares > 0", "shares > 0"),
    "nav": ("unit_nav IS NOT NULL", "true"),
    "bar": ("coalesce(close, amount / nullif(volume, 0)) IS NOT NULL", "coalesce(close, vwap) IS NOT NULL"),
}


def _row_hash(values: str) -> str:
    # once more: a hash of several values is too nearly a sum of theirs, so that equal changes of two rows cancel
    return f"hash(hash({values}))"


def _dated_rows(dataset: str) -> str:
    """Query for (day, row): the day from which on a raw row has a say."""
    spec = load_contract()[dataset]
    if dataset in ("etf_info", "etf_split"):
        # what is said of an ETF holds for all of its days; an ETF without days reaches nothing
        return f"""
            SELECT coalesce(first.day, DATE '{_NEVER}') AS day, {_row_hash("fact")} AS row
            FROM raw.{dataset} AS fact LEFT JOIN first_day AS first USING (etf_code)
        """
    if spec.stays:
        key = ", ".join(spec.stays.columns)
        rest = ", ".join(c for c in spec.columns if c != spec.stays.end)
        return f"""
            SELECT {spec.stays.start} AS day, {_row_hash(rest)} AS row FROM raw.{dataset}
            UNION ALL
            SELECT {spec.stays.end}, {_row_hash(key)} FROM raw.{dataset} WHERE {spec.stays.end} IS NOT NULL
        """
    day = spec.date_column or f"DATE '{EARLIEST_DATE}'"
    return f"SELECT {day} AS day, {_row_hash('fact')} AS row FROM raw.{dataset} AS fact"


def begin(
    connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], settings: Sequence[Any], in_use_sessions: int
) -> Window | None:
    """Compare the raw views with what the last build saw, and open the window of the next one.

    `settings` is everything besides raw data and models that results depend on. `in_use_sessions` is how long shares
    or a price stay in use at most.

    Returns:
        What to compute anew; None for everything (dbt's `--full-refresh`).
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS build")
    connection.execute("CREATE TABLE IF NOT EXISTS build.seen (dataset VARCHAR, day DATE, digest UBIGINT, rows BIGINT)")
    connection.execute(f"CREATE TABLE IF NOT EXISTS build.window ({_WINDOW})")
    days = " UNION ALL ".join(f"SELECT etf_code, trade_date FROM raw.etf_{name}" for name in _SERIES)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE first_day AS SELECT etf_code, min(trade_date) AS day FROM ({days}) GROUP BY ALL"
    )
    datasets = _datasets(manifest)
    parts = (
        f"SELECT '{name}' AS dataset, day, bit_xor(row) AS digest, count(*) AS rows FROM ({rows}) GROUP BY day"
        for name, rows in ((name, _dated_rows(name)) for name in sorted(datasets))
    )
    connection.execute(f"CREATE OR REPLACE TABLE build.present AS {' UNION ALL '.join(parts)}")
    rules = _rules(manifest, settings)
    calendar = connection.execute("SELECT trade_date FROM raw.trading_calendar WHERE is_open ORDER BY ALL").fetchall()
    sessions = [row[0] for row in calendar]
    start = _start(connection, rules, sessions)
    connection.execute(f"CREATE OR REPLACE TABLE build.window ({_WINDOW})")
    connection.execute("INSERT INTO build.window VALUES (?, ?, false)", [rules, start])
    if start is None:
        return None
    return Window(start, sessions[max(bisect.bisect_left(sessions, start) - in_use_sessions - 1, 0)])


def finish(connection: duckdb.DuckDBPyConnection) -> None:
    """Remember the raw data that `begin` saw as those the warehouse was built from."""
    connection.begin()
    connection.execute("CREATE OR REPLACE TABLE build.seen AS FROM build.present")
    connection.execute("UPDATE build.window SET is_finished = true")
    connection.commit()


def _datasets(manifest: Mapping[str, Any]) -> set[str]:
    """Raw datasets that an incremental model is made from, directly or not."""
    nodes, parents = manifest["nodes"], manifest["parent_map"]
    reached = {name for name, node in nodes.items() if node["config"].get("materialized") == "incremental"}
    pending = list(reached)
    while pending:
        added = set(parents.get(pending.pop(), ())) - reached
        reached |= added
        pending += added
    return {manifest["sources"][name]["name"] for name in reached if name in manifest["sources"]}


def _rules(manifest: Mapping[str, Any], settings: Sequence[Any]) -> str:
    models = {
        name: [node["raw_code"], node["config"], {c["name"]: c.get("data_type") for c in node["columns"].values()}]
        for name, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
    }
    macros = {
        name: macro["macro_sql"]
        for name, macro in manifest["macros"].items()
        if macro["package_name"] == "etf_pipeline"
    }
    text = json.dumps([models, macros, settings, duckdb.__version__], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _start(connection: duckdb.DuckDBPyConnection, rules: str, sessions: list[date]) -> date | None:
    """First session to compute anew; None for all."""
    earlier = connection.execute("SELECT rules, recompute_from, is_finished FROM build.window").fetchone()
    if earlier is None or earlier[0] != rules or (earlier[1] is None and not earlier[2]):
        return None
    (changed,) = _row(
        connection,
        """
        SELECT min(day)
        FROM build.seen AS seen FULL OUTER JOIN build.present AS present USING (dataset, day)
        WHERE seen.digest IS DISTINCT FROM present.digest OR seen.rows IS DISTINCT FROM present.rows
        """,
    )
    changed = min(changed or _NEVER, sessions[-1])
    first = sessions[max(bisect.bisect_left(sessions, changed) - MARGIN_SESSIONS, 0)]
    if not earlier[2]:
        first = min(first, earlier[1])
    start = first - timedelta(days=first.weekday())
    return None if _reaches_back(connection, changed, start) else start


def _reaches_back(connection: duckdb.DuckDBPyConnection, changed: date, start: date) -> bool:
    """Whether days before `start` may depend on what changed, or there are none."""
    (first,) = _row(connection, "SELECT min(day) FROM first_day")
    if first is None or start <= first:
        return True
    # what is known after the last decision before `changed` is known no earlier than what changed may be
    unknown_since = datetime.combine(changed - timedelta(days=1), time(), ZoneInfo(SHANGHAI))
    for name, (counts, counted) in _SERIES.items():
        # a hole that ends in what changed, or ended there before it did, or a row of long ago that is known only now
        (hole, late) = _row(
            connection,
            f"""
            SELECT
                (
                    SELECT min(last_day)
                    FROM (
                        SELECT max(trade_date) FILTER (WHERE trade_date < $changed) AS last_day
                        FROM (
                            SELECT etf_code, trade_date FROM raw.etf_{name} WHERE {counts}
                            UNION ALL SELECT etf_code, trade_date FROM stg_etf__{name} WHERE {counted}
                        )
                        GROUP BY etf_code HAVING max(trade_date) >= $changed
                    )
                ),
                (
                    SELECT min(trade_date) FROM raw.etf_{name}
                    WHERE {counts} AND trade_date < $start AND available_at >= $unknown_since
                )
            """,
            {"changed": changed, "start": start, "unknown_since": unknown_since},
        )
        if late is not None or (hole is not None and hole < start):
            return True
    return False


def _row(connection: duckdb.DuckDBPyConnection, query: str, values: object = None) -> tuple[Any, ...]:
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return row
