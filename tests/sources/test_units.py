"""Days, exchanges and parts in another unit are refused; splits, inflows and wild turnover are not."""

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etf_pipeline.contract import load_contract
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.canonical import examine
from etf_pipeline.sources.examined import FactsFile
from etf_pipeline.sources.files import FilesSource
from etf_pipeline.sources.units import unit_faults
from tests.sources.folder import SESSIONS, edit, valid_frames, write_valid_folder

CONTRACT = load_contract()
TODAY = date(2026, 1, 1)
FRAMES = valid_frames()
MONTHS = [date(2025, month, day) for month, day in ((6, 30), (7, 31), (8, 29), (9, 30))]
FRAMES["stock_value"] = pd.DataFrame(
    [
        (stock, day, value * (1 + 0.03 * n))
        for stock, value in (("600000.SH", 3e11), ("600036.SH", 1e12), ("600030.SH", 2e11), ("000776.SZ", 1e11))
        for n, day in enumerate(MONTHS)
    ],
    columns=["stock_code", "trade_date", "float_market_value"],
)
COLUMNS = [
    ("etf_share", "shares"),
    ("etf_nav", "unit_nav"),
    ("etf_bar", "volume"),
    ("etf_bar", "amount"),
    ("index_bar", "close"),
    ("stock_value", "float_market_value"),
]


def violations(name: str, frame: pd.DataFrame, known: pd.DataFrame | None = None) -> list[str]:
    return examine(CONTRACT[name], frame, name, TODAY, known)[1]


def scaled(frame: pd.DataFrame, column: str, factor: float, where: pd.Series | slice = slice(None)) -> pd.DataFrame:
    values = frame[column].astype("float64")
    values[where] *= factor
    return frame.assign(**{column: values})


CANONICAL = {name: examine(CONTRACT[name], FRAMES[name], name, TODAY)[0] for name in dict(COLUMNS)}


@given(
    column=st.sampled_from(COLUMNS),
    power=st.sampled_from([-8, -4, -3, -2, -1, 1, 2, 3, 4, 8]),
    exchange=st.sampled_from(["", "SH", "SZ"]),
    days=st.tuples(st.integers(0, 9), st.integers(1, 9)),
)
@settings(max_examples=30, deadline=None)
def test_days_of_an_exchange_in_another_unit_are_refused(
    column: tuple[str, str], power: int, exchange: str, days: tuple[int, int]
) -> None:
    name, measure = column
    dataset, frame = CONTRACT[name], CANONICAL[name]
    listed = sorted(frame["trade_date"].unique())
    first = days[0] % len(listed)
    wrong = listed[first : first + min(days[1], len(listed) - 1)]
    is_of_days = frame["trade_date"].isin(wrong)
    is_wrong = is_of_days & frame.iloc[:, 0].str.endswith(exchange)
    spoilt = scaled(frame, measure, 10.0**power, is_wrong)
    assert unit_faults(dataset, spoilt)
    # the same days as a part beside the others, or the only ones a schedule asks for
    assert unit_faults(dataset, spoilt[is_of_days], frame[~is_of_days])


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_valid_frames_are_accepted_in_any_order(name: str) -> None:
    assert violations(name, FRAMES[name]) == []
    assert violations(name, FRAMES[name].sample(frac=1, random_state=1)) == []


@pytest.mark.parametrize("name", sorted(CANONICAL))
def test_a_valid_day_is_accepted_beside_the_others(name: str) -> None:
    frame = CANONICAL[name]
    is_last = frame["trade_date"] == frame["trade_date"].max()
    assert unit_faults(CONTRACT[name], frame[is_last], frame[~is_last]) == []


def test_one_session_in_wan_is_named_with_its_factor() -> None:
    frame = FRAMES["etf_share"]
    (text, *others) = violations("etf_share", scaled(frame, "shares", 1e-4, frame["trade_date"] == date(2025, 10, 10)))
    assert "median of `shares` is 108,000 on 2025-10-10 (.SH), 2025-10-10 (.SZ), below 1,000,000" in text
    assert "万份 instead of 份" in text
    (step,) = others
    assert (
        "`shares` changes its unit: 4 of 4 values are 1/10,000 of those of 2025-10-09 on 2025-10-10 (.SH), "
        "and back to the old unit on 2025-10-13; 1 of 1 values" in step
    )


def test_a_factor_left_in_the_mapping_is_refused(tmp_path: Path) -> None:
    folder = write_valid_folder(tmp_path / "data")
    (folder / "mapping.yaml").write_text("etf_share: {units: {shares: 10000}}\n")
    with pytest.raises(SourceError, match=r"`shares` is above 5e\+11 in 50 rows"):
        FilesSource(folder).validate()


def test_a_new_part_in_another_unit_is_refused(tmp_path: Path) -> None:
    folder = write_valid_folder(tmp_path / "data")
    (folder / "etf_share.parquet").unlink()
    (folder / "etf_share").mkdir()
    days = dict(list(FRAMES["etf_share"].groupby("trade_date")))
    newest = days.pop(SESSIONS[-1])
    for day, part in days.items():
        part.to_csv(folder / "etf_share" / f"{day}.csv", index=False)

    def validate() -> None:
        source = FilesSource(folder, facts=FactsFile(tmp_path / "facts.json"))
        source.validate()
        source.fetch("etf_info", *SESSIONS[:2])

    validate()
    for factor in (1e-4, 0.1, 10):
        scaled(newest, "shares", factor).to_csv(folder / "etf_share" / "2025-10-13.csv", index=False)
        with pytest.raises(SourceError, match=r"`shares`.* on 2025-10-13 \(\.SH\)"):
            validate()
    newest.to_csv(folder / "etf_share" / "2025-10-13.csv", index=False)
    validate()


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"volume": 0.01}, "`volume` looks like 手 instead of 份"),
        ({"amount": 0.001}, "`amount` looks like 千元 instead of CNY"),
        ({"volume": 0.01, "amount": 0.001}, "`volume` looks like 手 and `amount` like 千元"),
        ({"amount": 1e-4}, "`amount` looks like 万元"),
    ],
)
@pytest.mark.parametrize("name", ["etf_bar", "etf_bar_5min"])
def test_turnover_in_other_units_is_named(name: str, factors: dict[str, float], says: str) -> None:
    frame = FRAMES["etf_bar"]
    if name == "etf_bar_5min":
        frame = frame.assign(bar_end=pd.to_datetime(frame["trade_date"]) + pd.Timedelta(hours=15))
    last = frame["trade_date"] == SESSIONS[-1]
    for rows in (last, slice(None)):
        wrong = frame
        for column, factor in factors.items():
            wrong = scaled(wrong, column, factor, rows)
        assert says in violations(name, wrong)[0]
    one_fund = frame["etf_code"] == "512800.SH"
    wrong = frame
    for column, factor in factors.items():
        wrong = scaled(wrong, column, factor, one_fund)
    assert any("on 512800.SH" in text for text in violations(name, wrong))


def split(folder: Path, name: str, column: str, factor: float) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        is_after = (frame["etf_code"] == "159919.SZ") & (frame["trade_date"] >= SESSIONS[6])
        return scaled(frame, column, factor, is_after)

    edit(folder, name, change)


def test_a_split_of_the_only_fund_of_an_exchange_is_none_of_unit(tmp_path: Path) -> None:
    folder = write_valid_folder(tmp_path / "data")
    split(folder, "etf_share", "shares", 10)
    with pytest.raises(SourceError, match="`shares` changes its unit: 1 of 1 values are 10 of those of 2025-09-29"):
        FilesSource(folder).validate()
    split(folder, "etf_nav", "unit_nav", 0.1)
    FilesSource(folder).validate()


def test_a_listed_split_of_the_only_fund_of_an_exchange_is_none_of_unit(tmp_path: Path) -> None:
    folder = write_valid_folder(tmp_path / "data")
    split(folder, "etf_share", "shares", 10)
    pd.DataFrame({"etf_code": ["159919.SZ"], "ex_date": [SESSIONS[6]], "new_per_old": [10.0]}).to_parquet(
        folder / "etf_split.parquet"
    )
    FilesSource(folder).validate()


def shares(days: Sequence[date], values: dict[str, Sequence[float]]) -> pd.DataFrame:
    rows = [(code, day, v) for code, of_code in values.items() for day, v in zip(days, of_code, strict=True)]
    return pd.DataFrame(rows, columns=["etf_code", "trade_date", "shares"])


def test_a_fund_among_many_may_split_and_a_market_may_grow() -> None:
    codes = [f"5103{n:02d}.SH" for n in range(5)]
    steady = {code: [1e9, 1.3e9, 1.1e9] for code in codes}
    assert violations("etf_share", shares(SESSIONS[:3], steady | {codes[0]: [1e9, 1e10, 1e10]})) == []
    assert violations("etf_share", shares(SESSIONS[:3], {c: [1e9, 4e9, 1.2e9] for c in codes})) == []
    long_ago = [date(2024, 1, 2), date(2025, 9, 22), date(2025, 9, 23)]
    assert violations("etf_share", shares(long_ago, {c: [1e8, 1e9, 1e9] for c in codes})) == []
    # a shift that stays is one of unit all the same
    assert violations("etf_share", shares(SESSIONS[:3], {c: [1e7, 1e9, 1e9] for c in codes}))


def test_funds_without_shares_do_not_make_a_unit() -> None:
    frame = shares(SESSIONS[:2], {"510300.SH": [0.0, 0.0], "159919.SZ": [1e9, np.nan]})
    assert [text for text in violations("etf_share", frame) if "unit" in text or "median" in text] == []


def test_turnover_may_rise_tenfold_where_it_is_wild() -> None:
    rng = np.random.default_rng(7)
    volume = 10 ** rng.normal(6, 0.3, (40, 10))
    codes = [f"5103{n:02d}.SH" for n in range(40)]
    rows = [(c, d, 1.0, v, v) for c, vs in zip(codes, volume, strict=True) for d, v in zip(SESSIONS, vs, strict=True)]
    frame = pd.DataFrame(rows, columns=["etf_code", "trade_date", "close", "volume", "amount"])
    one_day = frame["trade_date"] == SESSIONS[7]
    for factor, refused in ((1.0, 0), (10.0, 0), (1e4, 2)):
        both = scaled(scaled(frame, "volume", factor, one_day), "amount", factor, one_day)
        assert len(violations("etf_bar", both)) == refused


@pytest.mark.parametrize(
    "as_type",
    [
        lambda values: [Decimal(str(v)) for v in values],
        lambda values: pd.array(values, dtype="Float64"),
        lambda values: pd.array(values.astype("int64"), dtype="Int64"),
        lambda values: values.astype("float32"),
        lambda values: values.astype("category"),
    ],
    ids=["decimal", "Float64", "Int64", "float32", "category"],
)
def test_unit_factors_reach_numbers_of_every_type(tmp_path: Path, as_type: Callable[[pd.Series], object]) -> None:
    folder = write_valid_folder(tmp_path / "data")
    expected = FilesSource(folder).fetch("etf_share", SESSIONS[0], SESSIONS[-1])
    edit(folder, "etf_share", lambda f: f.assign(shares=as_type(f["shares"] / 10_000)))
    (folder / "mapping.yaml").write_text("etf_share: {units: {shares: 10000}}\n")
    found = FilesSource(folder).fetch("etf_share", SESSIONS[0], SESSIONS[-1])
    assert isinstance(found, pd.DataFrame)
    assert isinstance(expected, pd.DataFrame)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
