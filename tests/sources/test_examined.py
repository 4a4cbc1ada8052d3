"""What is remembered of examined files changes nothing but the time: not a row, not a note, not a refusal."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from etf_pipeline.contract import load_contract
from etf_pipeline.sources import files
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.examined import FactsFile
from etf_pipeline.sources.files import FilesSource
from tests.sources.folder import SESSIONS, as_csv, as_parts, edit, valid_frames, write_valid_folder
from tests.sources.malformed import MALFORMED, Malformed

EXAMINED = set(valid_frames())
RANGES = {
    "everything": (date(1990, 1, 1), SESSIONS[-1]),
    "some days": (SESSIONS[3], SESSIONS[6]),
    "one day": (SESSIONS[-1], SESSIONS[-1]),
    "none": (date(2001, 1, 1), date(2001, 1, 2)),
}
STRAY = pd.DataFrame(
    {"index_code": ["000126.SH"], "as_of_date": [date(2025, 9, 30)], "stock_code": ["600000.SH"], "weight": [0.3]}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_valid_folder(tmp_path / "data")


@pytest.fixture
def examinations(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Rows examined by dataset since it was last cleared."""
    rows: dict[str, int] = {}

    def examine(dataset: Any, frame: pd.DataFrame, *others: Any, **named: Any) -> Any:
        rows[dataset.name] = rows.get(dataset.name, 0) + len(frame)
        return true_examine(dataset, frame, *others, **named)

    true_examine = files.examine
    monkeypatch.setattr(files, "examine", examine)
    return rows


def remembering(folder: Path) -> FilesSource:
    """A source as a new run opens it."""
    return FilesSource(folder, facts=FactsFile(folder.parent / "build" / "examined.json"))


def learn(folder: Path) -> None:
    source = remembering(folder)
    source.validate()
    source.fetch("etf_info", *RANGES["everything"])


def refusal(source: FilesSource) -> str:
    with pytest.raises(SourceError) as refused:
        source.validate()
    return str(refused.value)


def weights_of_an_untracked_index(folder: Path) -> None:
    edit(folder, "index_weight", lambda f: pd.concat([f, STRAY]))


def text_in_parts(folder: Path) -> None:
    as_parts(folder, "etf_share")
    as_csv(folder, "etf_nav")
    as_csv(folder, "index_weight", lambda text: text.replace("2025-08-29", "20250829"))


def other_names(folder: Path) -> None:
    edit(folder, "etf_share", lambda f: f.rename(columns={"trade_date": "日期"}).assign(shares=f["shares"] / 10_000))
    edit(folder, "fund_holding", lambda f: f.drop(columns="report_date"))
    (folder / "mapping.yaml").write_text(
        "etf_share: {columns: {日期: trade_date}, units: {shares: 10000}}\n"
        "fund_holding: {constants: {report_date: 2025-06-30}}\n",
        encoding="utf-8",
    )


def strangers_and_closed_days(folder: Path) -> None:
    edit(folder, "etf_info", lambda f: f[f["etf_code"] != "511010.SH"].assign(colour="red"))
    half_year = pd.DataFrame({"etf_code": ["510300.SH"], "trade_date": [date(2024, 6, 30)], "unit_nav": [1.0]})
    edit(folder, "etf_nav", lambda f: pd.concat([f, half_year]))


@pytest.mark.parametrize(
    "change", [None, weights_of_an_untracked_index, text_in_parts, other_names, strangers_and_closed_days]
)
def test_rows_notes_and_span_are_those_of_an_examination(
    folder: Path, change: Callable[[Path], None] | None, examinations: dict[str, int]
) -> None:
    if change:
        change(folder)
    learn(folder)
    assert examinations.keys() == EXAMINED
    examinations.clear()
    fresh, known = FilesSource(folder), remembering(folder)
    assert known.validate() == fresh.validate()
    assert known.span == fresh.span
    examinations.clear()
    for start, end in RANGES.values():
        for name in load_contract():
            expected, found = fresh.fetch(name, start, end), remembering(folder).fetch(name, start, end)
            if isinstance(expected, pd.DataFrame):
                assert isinstance(found, pd.DataFrame)
                assert_frame_equal(found, expected, obj=name)
            else:
                assert found == expected
    assert examinations == {}


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_a_file_that_was_sound_is_refused_once_it_is_not(folder: Path, case: Malformed) -> None:
    learn(folder)
    case.mutate(folder)
    assert refusal(remembering(folder)) == refusal(FilesSource(folder))


def add_part(folder: Path, name: str, frame: pd.DataFrame) -> None:
    frame.to_parquet(folder / name / "new.parquet", index=False)


def test_only_a_new_part_is_examined(folder: Path, examinations: dict[str, int]) -> None:
    shares = valid_frames()["etf_share"]
    is_last = shares["trade_date"] == SESSIONS[-1]
    shares[~is_last].to_parquet(folder / "etf_share.parquet", index=False)
    as_parts(folder, "etf_share")
    learn(folder)
    examinations.clear()
    stranger = shares[is_last].assign(etf_code=lambda f: f["etf_code"].replace("511010.SH", "588888.SH"))
    add_part(folder, "etf_share", stranger)
    grown = remembering(folder)
    assert grown.validate() == FilesSource(folder).validate()
    assert "1 of 6 funds are not in etf_info: 588888.SH" in grown.validate()["etf_share"]
    grown.fetch("etf_share", SESSIONS[-1], SESSIONS[-1])
    assert examinations["etf_share"] == len(stranger) + len(shares)  # the second by the other source
    examinations.clear()
    last, fresh = (s.fetch("etf_share", SESSIONS[-2], SESSIONS[-1]) for s in (remembering(folder), FilesSource(folder)))
    assert isinstance(last, pd.DataFrame)
    assert isinstance(fresh, pd.DataFrame)
    assert_frame_equal(last, fresh)
    assert examinations["etf_share"] == len(shares)


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        pytest.param(lambda f: f.assign(trade_date=SESSIONS[0]), "duplicated key", id="key of an earlier part"),
        pytest.param(lambda f: f.assign(shares=-1.0), "below 0", id="value"),
        pytest.param(lambda f: f.assign(shares=f["shares"].astype(str)), "not a number", id="type"),
        pytest.param(lambda f: f.assign(colour="red"), "columns differ", id="columns"),
    ],
)
def test_a_new_part_is_refused_in_the_words_of_an_examination(
    folder: Path, spoil: Callable[[pd.DataFrame], pd.DataFrame], rule: str
) -> None:
    shares = valid_frames()["etf_share"]
    as_parts(folder, "etf_share")
    learn(folder)
    add_part(folder, "etf_share", spoil(shares[shares["trade_date"] == SESSIONS[-1]]))
    words = refusal(remembering(folder))
    assert rule in words
    assert words == refusal(FilesSource(folder))


def test_a_set_left_out_is_missed_once_an_etf_tracks_its_index(folder: Path) -> None:
    weights_of_an_untracked_index(folder)
    learn(folder)
    edit(folder, "etf_info", lambda f: f.assign(index_code="000126.SH"))
    words = refusal(remembering(folder))
    assert "`weight` sums to 0.3" in words
    assert words == refusal(FilesSource(folder))


def test_other_units_of_the_same_file_are_examined(folder: Path) -> None:
    learn(folder)
    (folder / "mapping.yaml").write_text("etf_share: {units: {shares: 0.0001}}")
    words = refusal(remembering(folder))
    assert "looks like" in words
    assert words == refusal(FilesSource(folder))


def test_nothing_is_kept_before_rows_are_taken_nor_of_what_is_refused(
    folder: Path, examinations: dict[str, int]
) -> None:
    kept = folder.parent / "build" / "examined.json"
    source = remembering(folder)
    source.validate()
    assert not kept.exists()
    source.fetch("etf_info", *RANGES["everything"])
    assert kept.exists()
    edit(folder, "etf_share", lambda f: f.assign(shares=-f["shares"]))
    for _ in range(2):
        examinations.clear()
        refusal(remembering(folder))
        assert examinations["etf_share"] > 0


@pytest.mark.parametrize("content", ["", "{", '{"etf_share": 1}', "[]"])
def test_a_file_of_facts_that_cannot_be_read_knows_nothing(
    folder: Path, content: str, examinations: dict[str, int]
) -> None:
    learn(folder)
    (folder.parent / "build" / "examined.json").write_text(content)
    examinations.clear()
    learn(folder)
    assert examinations.keys() == EXAMINED
