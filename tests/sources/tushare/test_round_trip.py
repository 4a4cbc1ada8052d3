from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from etf_pipeline.sources.tushare.client import TushareClient
from tests.sources.tushare.account import TOKEN, connect
from tests.sources.tushare.server import TushareServer

_texts = st.text(max_size=12) | st.sampled_from(["", "沪深300ETF华泰柏瑞", "20260302", "NaN", "null", "\u2028", "😀"])
_numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Columns of text or numbers with gaps, as the client gives them; the first tells the rows apart."""
    rows = draw(st.integers(0, 12))
    columns: dict[str, Any] = {
        "row": pd.Series([str(number) for number in range(rows)], dtype="str" if rows else "float64")
    }
    for number in range(draw(st.integers(0, 4))):
        values, kind = draw(st.sampled_from([(_texts, "str"), (_numbers, "float64")]))
        column = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        is_empty = all(value is None for value in column)
        columns[f"c{number}"] = pd.Series(column, dtype="float64" if is_empty else kind)
    return pd.DataFrame(columns)


class _Held:
    """What the server holds now; every exchange asks for a number of its own."""

    def __init__(self) -> None:
        self.frame = pd.DataFrame()
        self.numbers = count()


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[_Held, TushareClient]]:
    held = _Held()
    folder: Path = tmp_path_factory.mktemp("responses")
    with (
        TushareServer(lambda api, params: held.frame, TOKEN) as server,
        connect(server.url, folder) as client,
    ):
        yield held, client


@settings(max_examples=60, deadline=None)
@given(frame=frames(), page_size=st.integers(1, 13) | st.none())
def test_any_frame_comes_through_whole_and_again_from_the_store(
    exchange: tuple[_Held, TushareClient], frame: pd.DataFrame, page_size: int | None
) -> None:
    held, client = exchange
    held.frame = frame
    params, fields = {"n": str(next(held.numbers))}, [str(name) for name in frame.columns]
    assert_frame_equal(client.rows("fund_nav", params, fields, page_size=page_size, cap=100), frame)
    held.frame = frame.iloc[:0]
    assert_frame_equal(client.rows("fund_nav", params, fields, page_size=page_size, cap=100), frame)
