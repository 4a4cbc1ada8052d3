import gzip
import os
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from etf_pipeline.contract import load_contract
from etf_pipeline.core import calendar
from etf_pipeline.core.calendar import last_calendar_session
from etf_pipeline.sources.base import NotAvailable, SourceError, TransientSourceError
from etf_pipeline.sources.canonical import canonical_frame, days_of, numbers_of
from etf_pipeline.sources.files import FileMapping, FilesSource, _parsed, _read
from tests.sources.folder import SESSIONS, as_csv, as_parts, edit, valid_frames, write_valid_folder
from tests.sources.malformed import MALFORMED, Malformed

START, END = date(1990, 1, 1), date(2025, 10, 31)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_valid_folder(tmp_path / "data")


def frames(folder: Path) -> dict[str, pd.DataFrame]:
    source = FilesSource(folder)
    fetched = {name: source.fetch(name, START, END) for name in load_contract()}
    return {name: f for name, f in fetched.items() if isinstance(f, pd.DataFrame)}


def assert_same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert_frame_equal(left[name], right[name])


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_malformed_folder_is_refused_with_file_rule_and_rows(folder: Path, case: Malformed) -> None:
    case.mutate(folder)
    with pytest.raises(SourceError) as refusal:
        FilesSource(folder).validate()
    assert not isinstance(refusal.value, TransientSourceError)
    for fragment in case.fragments:
        assert fragment in str(refusal.value)


def test_valid_folder_loads_in_canonical_form(folder: Path) -> None:
    source = FilesSource(folder)
    source.validate()
    assert source.label == "files (data)"
    assert source.span == (date(2025, 8, 29), SESSIONS[-1])
    for name in valid_frames():
        frame = source.fetch(name, START, END)
        assert isinstance(frame, pd.DataFrame)
        dataset = load_contract()[name]
        assert frame.columns.tolist() == dataset.column_names
        assert len(frame) == len(valid_frames()[name])
        assert_frame_equal(frame, frame.sort_values(list(dataset.key), ignore_index=True))


def test_fetch_slices_by_date_and_returns_snapshots_whole(folder: Path) -> None:
    source = FilesSource(folder)
    share = source.fetch("etf_share", date(2025, 9, 30), date(2025, 10, 9))
    info = source.fetch("etf_info", date(2025, 9, 30), date(2025, 10, 9))
    assert isinstance(share, pd.DataFrame)
    assert isinstance(info, pd.DataFrame)
    assert sorted(share["trade_date"].unique()) == [pd.Timestamp("2025-09-30"), pd.Timestamp("2025-10-09")]
    assert len(info) == 5


def test_calendar_comes_from_the_exchange(folder: Path) -> None:
    sessions = FilesSource(folder).fetch("trading_calendar", SESSIONS[0], SESSIONS[-1])
    assert isinstance(sessions, pd.DataFrame)
    assert sessions["trade_date"].dt.date.tolist() == SESSIONS
    assert sessions["is_open"].all()


def test_a_calendar_file_extends_the_exchange_calendar(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar, "_announced", calendar._announced)
    last = calendar.last_calendar_session()
    following = [(last + pd.offsets.BDay(n)).date() for n in (1, 3)]
    closed = (last + pd.offsets.BDay(2)).date()
    days = pd.DataFrame({"trade_date": [*following, closed], "is_open": [True, True, False]})
    days.to_csv(folder / "trading_calendar.csv", index=False)
    source = FilesSource(folder)
    notes = source.validate()
    assert notes["trading_calendar"].endswith(f"trading_calendar.csv extends it to {following[-1]}")
    rows = source.fetch("trading_calendar", last, following[-1])
    assert isinstance(rows, pd.DataFrame)
    assert rows["trade_date"].dt.date.tolist() == [last, *following]
    (folder / "trading_calendar.csv").write_text("trade_date\n2027-01-32\n")
    with pytest.raises(SourceError, match="every row needs a readable day"):
        FilesSource(folder).validate()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_equals_parquet(folder: Path, encoding: str) -> None:
    expected = frames(folder)
    for name in valid_frames():
        as_csv(folder, name, encoding=encoding)
    assert_same(frames(folder), expected)


def test_compact_dates_in_csv_equal_iso_dates(folder: Path) -> None:
    expected = frames(folder)
    as_csv(folder, "etf_share", lambda text: text.replace("2025-", "2025").replace("09-", "09").replace("10-", "10"))
    assert_same(frames(folder), expected)


def test_gzipped_csv_equals_parquet(folder: Path) -> None:
    expected = frames(folder)
    pd.read_parquet(folder / "etf_nav.parquet").to_csv(folder / "etf_nav.csv.gz", index=False)
    (folder / "etf_nav.parquet").unlink()
    assert_same(frames(folder), expected)


def test_parts_equal_one_file(folder: Path) -> None:
    expected = frames(folder)
    as_parts(folder, "etf_share")
    part = folder / "etf_share" / "1.parquet"
    pd.read_parquet(part).to_csv(part.with_name("3.csv"), index=False)
    part.unlink()
    assert_same(frames(folder), expected)


def test_midnight_timestamps_equal_dates(folder: Path) -> None:
    expected = frames(folder)
    edit(folder, "etf_share", lambda f: f.assign(trade_date=pd.to_datetime(f["trade_date"])))
    edit(
        folder,
        "etf_nav",
        lambda f: f.assign(trade_date=pd.to_datetime(f["trade_date"]).dt.tz_localize("Asia/Shanghai")),
    )
    assert_same(frames(folder), expected)


@pytest.mark.parametrize("to_csv", [False, True])
def test_mapping_renames_converts_and_fills(folder: Path, to_csv: bool) -> None:
    expected = frames(folder)
    edit(folder, "etf_share", lambda f: f.assign(shares=f["shares"] / 10_000).rename(columns={"shares": "份额(万份)"}))
    edit(folder, "industry_info", lambda f: f.drop(columns="scheme"))
    if to_csv:
        as_csv(folder, "etf_share")
    suffix = "csv" if to_csv else "parquet"
    (folder / f"etf_share.{suffix}").rename(folder / f"份额.{suffix}")
    (folder / "mapping.yaml").write_text(
        f"""
        etf_share: {{file: 份额.{suffix}, columns: {{份额(万份): shares}}, units: {{shares: 10000}}}}
        industry_info: {{constants: {{scheme: citic}}}}
        """,
        encoding="utf-8",
    )
    assert_same(frames(folder), expected)
    assert "shares multiplied by 10000" in FilesSource(folder).validate()["etf_share"]
    assert FilesSource(folder).span == (date(2025, 8, 29), SESSIONS[-1])


def test_missing_optional_is_not_available_and_noted(folder: Path) -> None:
    source = FilesSource(folder)
    assert source.fetch("stock_value", START, END) == NotAvailable(
        f"no file stock_value.parquet or stock_value.csv in {folder}"
    )
    assert "no file stock_value.parquet" in source.validate()["stock_value"]


def test_all_violations_of_all_files_are_reported_together(folder: Path) -> None:
    edit(folder, "etf_share", lambda f: f.assign(shares=-f["shares"]))
    edit(folder, "index_bar", lambda f: f.assign(close="x"))
    (folder / "etf_nav.parquet").write_bytes(b"")
    (folder / "industry_info.parquet").unlink()
    with pytest.raises(SourceError) as refusal:
        FilesSource(folder).validate()
    lines = str(refusal.value).splitlines()
    files = [line.split(":")[0] for line in lines[1:]]
    assert lines[0].startswith("4 violations")
    assert files[:3] == ["etf_share.parquet", "etf_nav.parquet", "index_bar.parquet"]
    assert files[3].startswith("no file industry_info.parquet")


def test_broken_weight_set_of_an_untracked_index_is_left_out_and_named(folder: Path) -> None:
    expected = frames(folder)
    stray = pd.DataFrame(
        {
            "index_code": "000126.SH",
            "as_of_date": [date(2025, 8, 29)] * 2,
            "stock_code": ["600000.SH", "600036.SH"],
            "weight": [0.3, 0.5],
        }
    )
    edit(folder, "index_weight", lambda f: pd.concat([stray, f]))
    assert_same(frames(folder), expected)
    note = FilesSource(folder).validate()["index_weight"]
    assert "set 000126.SH 2025-08-29 left out: 2 weights sum to 0.8000" in note
    assert "no ETF in etf_info tracks 000126.SH" in note


def test_rows_keep_their_number_after_a_set_is_left_out(folder: Path) -> None:
    stray = pd.DataFrame(
        {"index_code": ["000126.SH"], "as_of_date": [date(2025, 8, 29)], "stock_code": ["600000.SH"], "weight": [0.3]}
    )
    edit(
        folder,
        "index_weight",
        lambda f: pd.concat([stray, f.assign(stock_code=f["stock_code"].str.replace(".S", ".1"))]),
    )
    with pytest.raises(SourceError, match=r"upper-case exchange suffix in 16 rows: row 2 "):
        FilesSource(folder).validate()


def test_whole_untracked_set_stays(folder: Path) -> None:
    edit(folder, "etf_info", lambda f: f.assign(index_code=None))
    assert len(frames(folder)["index_weight"]) == 16


def test_notes_name_ignored_columns_unknown_funds_and_closed_days(folder: Path) -> None:
    edit(folder, "etf_info", lambda f: f[f["etf_code"] != "511010.SH"].assign(colour="red"))
    half_year = pd.DataFrame({"etf_code": ["510300.SH"], "trade_date": [date(2024, 6, 30)], "unit_nav": [1.0]})
    edit(folder, "etf_nav", lambda f: pd.concat([f, half_year]))
    notes = FilesSource(folder).validate()
    assert "colour" in notes["etf_info"]
    assert "1 of 5 funds are not in etf_info: 511010.SH" in notes["etf_share"]
    assert "1 rows are of days that are no session" in notes["etf_nav"]


def test_fetch_refuses_what_validate_refuses(folder: Path) -> None:
    edit(folder, "etf_share", lambda f: f.assign(shares=-f["shares"]))
    with pytest.raises(SourceError, match="`shares` is below 0"):
        FilesSource(folder).fetch("etf_share", START, END)


def test_a_changed_file_is_read_again(folder: Path) -> None:
    source = FilesSource(folder)
    source.validate()
    edit(folder, "etf_share", lambda f: f[:1])
    os.utime(folder / "etf_share.parquet", ns=(1, 1))
    share = source.fetch("etf_share", START, END)
    assert isinstance(share, pd.DataFrame)
    assert len(share) == 1


def test_today_bounds_the_dates(folder: Path) -> None:
    with pytest.raises(SourceError, match="in the future"):
        FilesSource(folder, today=SESSIONS[-2]).validate()
    FilesSource(folder, today=SESSIONS[-1]).validate()


@pytest.mark.parametrize("name", ["mapping.yml", "Mapping.yaml", "MAPPING.YML", "mapping.json", "etf_bar/mapping.yaml"])
def test_a_mapping_that_is_not_read_is_refused(folder: Path, name: str) -> None:
    if "/" in name:
        as_parts(folder, "etf_bar")
    (folder / name).write_text("etf_bar: {units: {volume: 100, amount: 1000}}")
    with pytest.raises(SourceError, match=rf"{name}: is not read. Name the mapping mapping.yaml"):
        FilesSource(folder).validate()


def test_a_backup_beside_the_mapping_is_noted(folder: Path) -> None:
    (folder / "mapping.yaml").write_text("{}")
    (folder / "mapping.yaml.bak").write_text("etf_bar: {units: {volume: 100}}")
    assert "mapping.yaml.bak is not read" in FilesSource(folder).validate()["folder"]


SPLIT = "etf_code,ex_date,new_per_old\n512800.SH,2025-09-24,2\n"


@pytest.mark.parametrize("name", ["etf_split.CSV", "ETF_SPLIT.csv", "etf_split.Csv.GZ"])
def test_upper_case_names_are_read(folder: Path, name: str) -> None:
    content = SPLIT.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    assert "etf_split" not in FilesSource(folder).validate()
    assert len(FilesSource(folder).fetch("etf_split", START, END)) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["etf_split.json.bak", "etf_split.txt"])
def test_a_file_of_a_dataset_that_is_not_read_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text(SPLIT)
    notes = FilesSource(folder).validate()
    assert f"{name} is not read" in notes["etf_split"]
    assert f"{name} is not read" in notes["folder"]


def test_a_file_of_no_dataset_is_named_with_the_nearest(folder: Path) -> None:
    (folder / "etf_splits.csv").write_text(SPLIT)
    as_parts(folder, "etf_nav")
    (folder / "etf_nav" / "3.txt").write_text("?")
    note = FilesSource(folder).validate()["folder"]
    assert "etf_splits.csv is not read; a dataset is called etf_split" in note
    assert "etf_nav/3.txt is not read" in note


def test_rows_of_the_calendars_last_day_name_the_calendar(folder: Path) -> None:
    last = last_calendar_session()
    edit(folder, "etf_share", lambda f: pd.concat([f, f.iloc[-1:].assign(trade_date=last)]))
    with pytest.raises(SourceError, match=rf"exchange-calendars ends on {last}.*pip install -U exchange-calendars"):
        FilesSource(folder, today=last + timedelta(days=4)).validate()
    known = pd.Timestamp(last + timedelta(days=4), tz="Asia/Shanghai")
    edit(folder, "etf_share", lambda f: f.assign(available_at=[pd.NaT] * (len(f) - 1) + [known]))
    FilesSource(folder, today=last + timedelta(days=4)).validate()


SPELLINGS = ("{0:%Y-%m-%d}", "{0:%Y%m%d}", "{0:%Y/%m/%d}", "{0.year}/{0.month}/{0.day}", "{0.year}.{0.month}.{0.day}",
             "{0.year}年{0.month}月{0.day}日", "{0:%Y-%m-%d} 00:00:00", "{0.year}/{0.month}/{0.day} 0:00")  # fmt: skip


@given(
    st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.sampled_from(SPELLINGS), st.sampled_from(["", " ", "\u3000", "\t"])
)
def test_a_day_is_read_in_every_certain_spelling(day: date, spelling: str, padding: str) -> None:
    found = days_of(pd.Series([padding + spelling.format(day) + padding]))
    assert found[0] == pd.Timestamp(day)
    assert days_of(pd.Series([int(f"{day:%Y%m%d}")]))[0] == pd.Timestamp(day)


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)))
@example(date(2026, 3, 4))
def test_a_day_whose_parts_are_in_doubt_is_not_read(day: date) -> None:
    texts = [
        f"{day:%d/%m/%Y}",
        f"{day:%m/%d/%Y}",
        f"{day:%m/%d/%y}",
        f"{day:%y%m%d}",
        f"{day:%Y-%m/%d}",
        f"{day:%Y/%m}",
    ]
    texts += [f"{day:%Y-%m-%d} 15:00:00", f"{day:%d-%m-%Y}", f"{day:%Y%m%d}0"]
    assert days_of(pd.Series(texts)).isna().all()


PADDING = st.sampled_from(["", " ", "  ", "\t"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(PADDING, PADDING, st.sampled_from(["", "--", "NaN", "N/A", "—", " -- "]), st.integers(0, 3), st.booleans())
def test_padding_words_for_missing_and_empty_rows_change_nothing(
    tmp_path: Path, before: str, after: str, missing: str, empty: int, is_gbk: bool
) -> None:
    dataset, path = load_contract()["etf_info"], tmp_path / "etf_info.csv"
    expected = valid_frames()["etf_info"]
    cells = expected.astype(object).where(expected.notna(), missing).astype(str)
    lines = [
        ",".join(f"{before}{cell}{after}" for cell in row) for row in [cells.columns, *cells.itertuples(index=False)]
    ]
    lines += ["," * (len(cells.columns) - 1)] * empty
    path.write_text("\n".join(lines) + "\n", encoding="gbk" if is_gbk else "utf-8")
    read = _read(path, path.name, dataset, FileMapping(encoding="gbk" if is_gbk else "utf-8"))
    expected.index = pd.RangeIndex(1, len(expected) + 1)
    assert_frame_equal(canonical_frame(dataset, read, ""), canonical_frame(dataset, expected, ""))


@given(st.integers(1000, 10**12))
def test_a_number_with_separators_or_words_is_refused(number: int) -> None:
    texts = [f"{number:,}", f"{number}%", f"{number}万", f"¥{number}", f"{number} {number}"]
    parsed = _parsed(pd.DataFrame({"shares": texts}), load_contract()["etf_share"])
    assert numbers_of(parsed["shares"]).isna().all()


def test_gbk_is_read_where_the_mapping_says_so(folder: Path) -> None:
    expected = frames(folder)
    as_csv(folder, "etf_info", encoding="gb18030")
    with pytest.raises(SourceError, match=r"encoding: gb18030"):
        FilesSource(folder).validate()
    (folder / "mapping.yaml").write_text("etf_info: {encoding: gb18030}")
    assert_same(frames(folder), expected)


@pytest.mark.parametrize(
    ("entry", "words"),
    [("{unit: {shares: 1}}", "did you mean units"), ("{constants: {shares: ''}}", "constants.shares")],
)
def test_a_mapping_is_refused_with_what_was_meant(folder: Path, entry: str, words: str) -> None:
    (folder / "mapping.yaml").write_text(f"etf_share: {entry}")
    with pytest.raises(SourceError, match=words):
        FilesSource(folder).validate()


def as_excel(folder: Path, name: str, **options: int) -> pd.DataFrame:
    """Replace one Parquet file of the folder by a workbook; returns its frame."""
    path = folder / f"{name}.parquet"
    frame = pd.read_parquet(path)
    path.unlink()
    frame.to_excel(folder / f"{name}.xlsx", index=False, **options)
    return frame


def test_excel_files_are_read_as_csv_files_are(folder: Path, tmp_path: Path) -> None:
    names = ["etf_share", "etf_info", "index_weight", "stock_industry"]
    expected = {name: FilesSource(folder).fetch(name, START, END) for name in names}
    for name in names:
        as_excel(folder, name)
    source = FilesSource(folder)
    source.validate()
    for name in names:
        pd.testing.assert_frame_equal(source.fetch(name, START, END), expected[name])


def test_excel_dates_of_every_kind(folder: Path) -> None:
    expected = FilesSource(folder).fetch("etf_share", START, END)
    path = folder / "etf_share.parquet"
    frame = pd.read_parquet(path)
    path.unlink()
    days = pd.to_datetime(frame["trade_date"])
    serials = (days - pd.Timestamp(1899, 12, 30)).dt.days.tolist()
    kinds = [serials, days.dt.strftime("%Y%m%d").astype(int).tolist(), days.tolist(), days.dt.strftime("%Y/%m/%d")]
    cells = [kinds[row % 4][row] for row in range(len(frame))]
    table = frame.assign(trade_date=pd.Series(cells, dtype=object))
    table.rename(columns={"shares": " shares "}).to_excel(folder / "etf_share.xlsx", index=False, startrow=2)
    (folder / "mapping.yaml").write_text("etf_share: {header_row: 3}")
    pd.testing.assert_frame_equal(FilesSource(folder).fetch("etf_share", START, END), expected)


def test_a_sheet_is_chosen_by_name(folder: Path) -> None:
    frame = pd.read_parquet(folder / "etf_share.parquet")
    (folder / "etf_share.parquet").unlink()
    with pd.ExcelWriter(folder / "etf_share.xlsx") as book:
        pd.DataFrame({"说明": ["份额"]}).to_excel(book, sheet_name="说明", index=False)
        frame.to_excel(book, sheet_name="份额", index=False)
    mapping = folder / "mapping.yaml"
    mapping.write_text("etf_share: {sheet: 份额}", encoding="utf-8")
    assert len(FilesSource(folder).fetch("etf_share", START, END)) == len(frame)
    mapping.write_text("etf_share: {sheet: 份數}", encoding="utf-8")
    with pytest.raises(SourceError, match=r"has no sheet 份數, which mapping\.yaml names; found 说明, 份额"):
        FilesSource(folder).fetch("etf_share", START, END)


def test_what_is_no_workbook_is_refused(folder: Path) -> None:
    (folder / "etf_split.xlsx").write_bytes(b"etf_code,ex_date\n")
    with pytest.raises(SourceError, match=r"etf_split.xlsx: not a readable Excel file"):
        FilesSource(folder).validate()
