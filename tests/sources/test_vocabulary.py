"""Codes and labels come out under one spelling, or are refused with the words there are."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from etf_pipeline.contract import load_contract
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.canonical import canonical_frame, examine
from etf_pipeline.sources.files import FilesSource
from etf_pipeline.sources.vocabulary import normalised_codes
from tests.sources.folder import edit, valid_frames, write_valid_folder

CONTRACT = load_contract()


@pytest.mark.parametrize(
    ("column", "written", "used"),
    [
        ("stock_code", "600000.SS", "600000.SH"),
        ("stock_code", "600000.XSHG", "600000.SH"),
        ("stock_code", "000776.XSHE", "000776.SZ"),
        ("stock_code", "600000.sh", "600000.SH"),
        ("stock_code", "sh600000", "600000.SH"),
        ("stock_code", "SH600000", "600000.SH"),
        ("stock_code", "sz.000776", "000776.SZ"),
        ("stock_code", "SHSE.600000", "600000.SH"),
        ("stock_code", "000300.SZ", "000300.SZ"),
        ("stock_code", "600000", "600000"),
        ("etf_code", " 510300.SH", "510300.SH"),
        ("index_code", "h11059.CSI", "H11059.CSI"),
        ("index_code", "399300.SZ", "000300.SH"),
        ("index_code", "399905.sz", "000905.SH"),
        ("index_code", "000905.CSI", "000905.SH"),
        ("index_code", "399986.CSI", "399986.SZ"),
        ("index_code", "000922.SH", "000922.CSI"),
        ("index_code", "399922.SZ", "000922.CSI"),
        ("index_code", "000016.SH", "000016.SH"),
        ("index_code", "399370.SZ", "399370.SZ"),
        ("index_code", "881001.WI", "881001.WI"),
        ("index_code", "Au9999.SGE", "Au9999.SGE"),
        ("industry_code", "CI005021.WI", "CI005021"),
        ("industry_code", "ci005021", "CI005021"),
        ("industry_code", "801080", "801080.SI"),
        ("industry_code", "801080.si", "801080.SI"),
    ],
)
def test_codes_have_one_spelling(column: str, written: str, used: str) -> None:
    codes = pd.Series([written, None], dtype="str")
    found = normalised_codes(codes, column)
    assert found.tolist()[0] == used
    assert found.isna().tolist() == [False, True]
    assert normalised_codes(found, column).tolist()[0] == used


def test_an_exchange_decides_what_a_bare_number_is() -> None:
    codes = pd.Series(["600000", "776", None, "00700", "300750.SZ", "1"])
    names = pd.Series(["上交所", "sz", "SH", "HK", "SH", None])
    found = normalised_codes(codes, "stock_code", names)
    assert found.dropna().tolist() == ["600000.SH", "000776.SZ", "00700.HK", "300750.SZ", "1"]
    assert normalised_codes(codes[:1], "etf_code", "XSHG").tolist() == ["600000.SH"]


def test_an_index_under_two_codes_is_there_once() -> None:
    frame = valid_frames()["index_bar"]
    twin = frame[frame["index_code"] == "000300.SH"].assign(index_code="399300.SZ")
    expected = canonical_frame(CONTRACT["index_bar"], frame, "x")
    pd.testing.assert_frame_equal(canonical_frame(CONTRACT["index_bar"], pd.concat([twin, frame]), "x"), expected)
    others = pd.concat([twin, frame[frame["index_code"] != "000300.SH"]])
    pd.testing.assert_frame_equal(canonical_frame(CONTRACT["index_bar"], others, "x"), expected)
    wrong = pd.concat([twin.assign(close=[-1.0, *twin["close"][1:]]), frame[frame["index_code"] != "000300.SH"]])
    _, violations = examine(CONTRACT["index_bar"], wrong.reset_index(drop=True), "x")
    assert "row 1 (index_code 399300.SZ" in violations[0]


@pytest.mark.parametrize(
    ("name", "column", "other", "says"),
    [
        ("etf_info", "asset_scope", "股票型", "`asset_scope` is none of aShareStockEtf, crossBorderStockEtf, bondEtf"),
        ("industry_info", "scheme", "中证", "`scheme` is none of citic, sw"),
        ("stock_industry", "scheme", "gics", "`scheme` is none of citic, sw"),
        ("fund_holding", "scope", "half", "`scope` is none of top10, full"),
        ("index_weight", "stock_code", "600000.SHA", "`stock_code` has none of the suffixes .SH, .SZ, .BJ, .HK"),
        ("etf_share", "etf_code", "510300.OF", "`etf_code` has none of the suffixes .SH, .SZ"),
        ("stock_industry", "stock_code", "600000", "`stock_code` is a code without exchange suffix"),
    ],
)
def test_the_rest_is_refused_with_the_words_there_are(name: str, column: str, other: str, says: str) -> None:
    frame = valid_frames()[name]
    frame[column] = [other, *frame[column][1:]]
    _, violations = examine(CONTRACT[name], frame, "mine.csv")
    assert any(says in text and other in text for text in violations), violations


@pytest.mark.parametrize("written", ["CITIC", "Citic", "中信", " citic"])
def test_certain_spellings_of_a_label_are_rewritten(tmp_path: Path, written: str) -> None:
    folder = write_valid_folder(tmp_path / "data")
    edit(folder, "stock_industry", lambda f: f.assign(scheme=written))
    source = FilesSource(folder)
    source.validate()
    rows = source.fetch("stock_industry", *source.span)
    assert isinstance(rows, pd.DataFrame)
    assert set(rows["scheme"]) == {"citic"}


@pytest.mark.parametrize(
    "spell",
    [
        lambda c: c.replace(".SH", ".SS"),
        lambda c: c[-2:].lower() + c[:6],
        lambda c: c.replace(".SH", ".XSHG"),
    ],
    ids=["SS", "prefix", "XSHG"],
)
def test_weights_under_other_suffixes_are_the_same(tmp_path: Path, spell: Callable[[str], str]) -> None:
    folder = write_valid_folder(tmp_path / "data")
    span = FilesSource(folder).span
    expected = FilesSource(folder).fetch("index_weight", *span)
    edit(folder, "index_weight", lambda f: f.assign(stock_code=f["stock_code"].map(spell)))
    found = FilesSource(folder)
    found.validate()
    rows = found.fetch("index_weight", *span)
    assert isinstance(rows, pd.DataFrame)
    assert isinstance(expected, pd.DataFrame)
    pd.testing.assert_frame_equal(rows, expected)


def test_holders_have_one_vocabulary() -> None:
    allowed = CONTRACT["etf_holder"].columns["holder"].allowed
    assert allowed is not None
    assert list(allowed) == ["institution", "national_team", "other_institution", "individual", "feeder"]
    with pytest.raises(SourceError, match="`holder` is none of institution"):
        canonical_frame(
            CONTRACT["etf_holder"],
            pd.DataFrame(
                {
                    "etf_code": ["510300.SH"],
                    "report_date": ["2025-06-30"],
                    "announced_date": [None],
                    "holder": ["散户"],
                    "ratio": [0.1],
                    "shares": [1e8],
                }
            ),
            "x",
        )
