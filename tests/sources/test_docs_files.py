"""Every example of docs/files.md is read as the page says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.files import FilesSource

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
SECTION = re.compile(
    r"## (?P<title>.+?)\n\n`(?P<file>[^`]+)`.*?```yaml\n(?P<mapping>.*?)```\n\n```\w+\n(?P<rows>.*?)```", re.DOTALL
)
EXAMPLES = {found["title"]: found for found in SECTION.finditer(PAGE.read_text(encoding="utf-8"))}


def place(folder: Path, title: str, rows: str | None = None) -> FilesSource:
    example = EXAMPLES[title]
    (folder / "mapping.yaml").write_text(example["mapping"], encoding="utf-8")
    path, rows = folder / example["file"], rows or example["rows"]
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".xlsx":
        cells = pd.DataFrame([line.split(",") for line in rows.strip().split("\n")])
        cells.to_excel(path, sheet_name="份额", header=False, index=False)
    elif path.suffix == ".xls":
        path.with_suffix(".csv").write_text(rows, encoding="utf-8")
        header, *lines = [line.split(",") for line in rows.strip().split("\n")]
        table = pd.DataFrame(lines, columns=[name.replace(" ", "\n") for name in header])
        # as a spreadsheet holds them: numbers without zeros in front
        numbers = {name: pd.to_numeric(table[name]) for name in table if table[name].str.fullmatch(r"[\d.]+").all()}
        table.assign(**numbers).to_excel(path.with_suffix(".xlsx"), index=False)
    else:
        path.write_text(rows, encoding="utf-8")
    return FilesSource(folder)


def rows_of(source: FilesSource, dataset: str) -> pd.DataFrame:
    source._refresh()
    frame = source._rows(dataset)
    return frame.drop(columns="available_at", errors="ignore")


def test_the_page_has_all_its_examples() -> None:
    assert len(EXAMPLES) == 5 == PAGE.read_text(encoding="utf-8").count("```yaml")


def test_tushare(tmp_path: Path) -> None:
    found = rows_of(place(tmp_path, "Tushare exports"), "etf_share")
    assert dict(zip(found["etf_code"], found["shares"], strict=True)) == pytest.approx(
        {"510300.SH": 88_987_654_300.0, "159919.SZ": 23_456_789_000.0}
    )
    assert set(found["trade_date"]) == {pd.Timestamp("2026-09-29")}


def test_wind(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"510300\.OF"):
        rows_of(place(tmp_path, "Wind and Choice exports"), "etf_share")
    listed = EXAMPLES["Wind and Choice exports"]["rows"].replace(".OF", ".SH")
    found = rows_of(place(tmp_path, "Wind and Choice exports", listed), "etf_share")
    assert dict(zip(found["etf_code"], found["shares"], strict=True)) == pytest.approx(
        {"510300.SH": 88_987_654_300.0, "159919.SZ": 23_456_789_000.0}
    )


def test_exchanges(tmp_path: Path) -> None:
    source = place(tmp_path, "Files of the exchanges")
    found = rows_of(source, "etf_share")
    assert set(found["etf_code"]) == {"510300.SH", "159919.SZ"}
    # the last session of September 2026
    assert set(found["trade_date"]) == {pd.Timestamp("2026-09-30")}
    assert source._ends("etf_share")[1] == pd.Timestamp("2026-09-30").date()
    facts = source._examined("etf_share").facts
    assert facts
    assert not any("ignored: 交易所" in note for note in source._notes("etf_share", facts))


def test_an_exchange_nobody_knows_is_refused(tmp_path: Path) -> None:
    odd = EXAMPLES["Files of the exchanges"]["rows"].replace("深交所", "纽交所")
    with pytest.raises(SourceError, match=r"`交易所` names no exchange in 1 row: row 2 \(纽交所\)"):
        rows_of(place(tmp_path, "Files of the exchanges", odd), "etf_share")


@pytest.mark.parametrize("name", ["份额.csv", "2026-13.csv", "202609-202610.csv"])
def test_a_name_without_one_day_is_refused(tmp_path: Path, name: str) -> None:
    place(tmp_path, "Files of the exchanges")
    (tmp_path / "etf_share" / "2026-09.csv").rename(tmp_path / "etf_share" / name)
    with pytest.raises(SourceError, match="should hold one day"):
        rows_of(FilesSource(tmp_path), "etf_share")


@pytest.mark.parametrize("name", ["20260930.csv", "shares_2026-09-30.csv", "份额2026年09月30日.csv", "202609.csv"])
def test_names_with_a_day(tmp_path: Path, name: str) -> None:
    place(tmp_path, "Files of the exchanges")
    (tmp_path / "etf_share" / "2026-09.csv").rename(tmp_path / "etf_share" / name)
    assert set(rows_of(FilesSource(tmp_path), "etf_share")["trade_date"]) == {pd.Timestamp("2026-09-30")}


@pytest.mark.parametrize("kept", [".csv", ".xlsx"])
def test_csi_weights(tmp_path: Path, kept: str) -> None:
    source = place(tmp_path, "Weights of CSI")
    for path in (tmp_path / "index_weight").iterdir():
        if path.suffix != kept:
            path.unlink()
    found = rows_of(source, "index_weight")
    assert set(found["index_code"]) == {"000300.SH"}
    assert dict(zip(found["stock_code"], found["weight"], strict=True)) == pytest.approx(
        {"600519.SH": 0.605, "000001.SZ": 0.395}
    )


def test_json(tmp_path: Path) -> None:
    found = rows_of(place(tmp_path, "A universe as JSON"), "etf_info").set_index("etf_code")
    assert found["index_code"].to_dict() == {"510300.SH": "000300.SH", "159919.SZ": "000300.SH"}
    assert set(found["asset_scope"]) == {"aShareStockEtf"}
    listed = '[{"code": 510300, "title": "a", "market": "SH", "index": "000300.SH", "kind": "债券型"}]'
    found = rows_of(place(tmp_path, "A universe as JSON", f'{{"etfs": {listed}}}'), "etf_info")
    assert found[["etf_code", "asset_scope"]].to_numpy().tolist() == [["510300.SH", "bondEtf"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not readable JSON"),
        ("[1, 2]", "a list of objects"),
        ('{"a": 1, "b": 2}', "a list of objects"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        rows_of(place(tmp_path, "A universe as JSON", text), "etf_info")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("etf_info: {day_in_name: true}", "rows that have no day"),
        ("index_bar: {exchange: SH}", "no code of a fund or stock"),
        ("etf_share: {exchange: 上交所所}", "neither a column of the file nor the name of an exchange"),
        ("etf_share: {values: {kind: {a: b}}}", "unknown column kind"),
    ],
)
def test_mappings_that_cannot_be_meant_are_refused(tmp_path: Path, entry: str, words: str) -> None:
    (tmp_path / "mapping.yaml").write_text(entry, encoding="utf-8")
    (tmp_path / "etf_share.csv").write_text("etf_code,trade_date,shares\n510300,2026-09-30,1e9\n", encoding="utf-8")
    source = FilesSource(tmp_path)
    source._refresh()
    with pytest.raises(SourceError, match=words):
        source._rows("etf_share")
