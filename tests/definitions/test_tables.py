"""A table of millions of rows is taken as it is, or refused."""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from etf_pipeline.tables import Table, TableError

TABLE = Table(
    "made_up",
    "For tests.",
    ("code", "day"),
    {"code": ("text", "."), "day": ("date", "."), "value": ("number", "."), "count": ("integer", ".")},
)
CODES, DAYS = ["a", "a", "b"], [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 2)]


def rows(codes: list[str | None] = CODES, days: list[date] = DAYS, **others: pa.Array) -> pa.Table:
    values = pa.array([1.5, None, 2.5])
    counts = pa.array([1, 2, None], pa.int64())
    return pa.table({"other": values, "value": values, "code": codes, "day": days, "count": counts, **others})


def test_it_is_what_pandas_would_make_of_it() -> None:
    found = TABLE.from_arrow(rows())
    assert found.schema == TABLE.schema
    frame = pd.DataFrame({"code": CODES, "day": DAYS, "value": [1.5, np.nan, 2.5], "count": pd.array([1, 2, None])})
    assert found.equals(TABLE.to_arrow(frame.iloc[::-1]).replace_schema_metadata())


def test_no_rows_are_a_table_too() -> None:
    assert TABLE.from_arrow(rows().slice(0, 0)).num_rows == 0


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (rows(codes=["a", "a", "a"]), "repeated or out of order"),
        (rows(days=[DAYS[1], DAYS[0], DAYS[0]]), "repeated or out of order"),
        (rows(codes=["b", "a", "a"]), "repeated or out of order"),
        (rows(codes=["a", None, "b"]), "null"),
        (rows().drop_columns("value"), r"missing: \['value'\]"),
        (rows(count=pa.array(["one", "2", "3"])), "one"),
        (rows(count=pa.array([1, 2, 2**40])), "not in range"),
    ],
    ids=["repeated", "days out of order", "codes out of order", "no key", "column missing", "text", "too large"],
)
def test_what_does_not_fit_is_refused(broken: pa.Table, words: str) -> None:
    with pytest.raises(TableError, match=f"made_up: .*{words}"):
        TABLE.from_arrow(broken)
