"""The watched folder: what changed is taken in, once, and nothing half-written."""

import os
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from etf_pipeline.contract import load_contract
from etf_pipeline.definitions import build_defs
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from tests.automation.daemon import Ticks, at
from tests.sources.folder import SESSIONS, edit, write_valid_folder

NOW = at("2025-10-14T09:00")
CHANGED = SESSIONS[4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_valid_folder(tmp_path / "data")


@pytest.fixture
def pipeline(folder: Path, tmp_path: Path) -> Pipeline:
    return Pipeline(Deployment(source="files", data=folder, lake=tmp_path / "lake"))


@pytest.fixture
def fresh(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Ticks:
    return Ticks(build_defs(pipeline.deployment), monkeypatch)


@pytest.fixture
def ticks(fresh: Ticks, pipeline: Pipeline) -> Ticks:
    """The lake holds what is in the folder, and the sensor knows."""
    pipeline.lake.claim(pipeline.source.label)
    for name, dataset in load_contract().items():
        frame = pipeline.source.fetch(name, SESSIONS[0], date(2026, 1, 1)) if name != "trading_calendar" else None
        if isinstance(frame, pd.DataFrame):
            whole = pipeline.source.fetch(name, date(2000, 1, 1), date(2026, 1, 1))
            assert isinstance(whole, pd.DataFrame)
            pipeline.lake.write_raw(dataset, whole, date(2000, 1, 1), date(2026, 1, 1))
    assert look(fresh) == []
    assert "still being written" in fresh.skipped["drop_folder"]
    assert look(fresh) == []
    assert "the lake holds the same rows already" in fresh.skipped["drop_folder"]
    assert look(fresh) == []
    assert fresh.skipped["drop_folder"] == "nothing new in the folder"
    return fresh


Look = list[tuple[str, list[str], list[str]]]


def look(ticks: Ticks) -> Look:
    """Job, datasets and first and last partition of every run one tick asks for."""
    before = len(ticks.asked)
    ticks.sensor("drop_folder", NOW)
    dated = ("ingest_daily", "ingest_monthly", "ingest_quarterly")
    return [(a.job, a.datasets, ends(a.tags) if a.job in dated else []) for a in ticks.asked[before:]]


def ends(tags: dict[str, str]) -> list[str]:
    one = tags.get("dagster/partition")
    return [one] if one else [tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]


def add_share(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(shares=frame["shares"].where(frame["trade_date"] != CHANGED, frame["shares"] + 100))


def test_a_new_folder_is_taken_in_whole(fresh: Ticks) -> None:
    assert look(fresh) == []
    asked = {job: (datasets, days) for job, datasets, days in look(fresh)}
    assert asked["ingest_daily"] == (["etf_bar", "etf_nav", "etf_share", "index_bar"], ["2025-09-22", "2025-10-13"])
    assert asked["ingest_monthly"] == (["index_weight"], ["2025-08-01", "2025-09-01"])
    assert asked["ingest_quarterly"] == (["fund_holding"], ["2025-04-01"])
    assert asked["ingest_reference"][0] == ["etf_info", "industry_info", "stock_industry"]
    assert look(fresh) == []


def test_of_a_changed_file_only_the_changed_day_is_taken_in(ticks: Ticks, folder: Path) -> None:
    edit(folder, "etf_share", add_share)
    assert look(ticks) == []
    assert look(ticks) == [("ingest_daily", ["etf_share"], [f"{CHANGED}"])]
    assert look(ticks) == []


def test_a_new_file_is_taken_in(ticks: Ticks, folder: Path) -> None:
    split = pd.DataFrame({"etf_code": ["512800.SH"], "ex_date": [SESSIONS[3]], "new_per_old": [2.0]})
    split.to_parquet(folder / "etf_split.parquet", index=False)
    assert look(ticks) == []
    assert look(ticks) == [("ingest_daily", ["etf_split"], [f"{SESSIONS[3]}"])]


def test_the_same_bytes_again_are_not_taken_in(ticks: Ticks, folder: Path) -> None:
    path = folder / "etf_share.parquet"
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))
    look(ticks)
    assert look(ticks) == []
    assert ticks.skipped["drop_folder"] == "etf_share was written again with the same content"
    assert look(ticks) == []
    assert ticks.skipped["drop_folder"] == "nothing new in the folder"


def test_a_file_is_not_taken_in_while_it_grows(ticks: Ticks, folder: Path) -> None:
    whole = folder / "elsewhere.bin"
    edit(folder, "etf_share", add_share)
    path = folder / "etf_share.parquet"
    path.rename(whole)
    content = whole.read_bytes()
    for part in (0.3, 0.6, 0.6):
        path.write_bytes(content[: int(len(content) * part)])
        os.utime(path, ns=(0, int(part * 10)))
        assert look(ticks) == []
        assert ticks.skipped["drop_folder"] == "etf_share is still being written"
    path.write_bytes(content)
    assert look(ticks) == []
    assert look(ticks) == [("ingest_daily", ["etf_share"], [f"{CHANGED}"])]


def test_a_growing_csv_waits_until_it_stands_still(ticks: Ticks, folder: Path) -> None:
    split = folder / "etf_split.csv"
    for text in ("etf_code,ex_date,", f"etf_code,ex_date,new_per_old\n512800.SH,{SESSIONS[3]},2\n"):
        split.write_text(text)
        assert look(ticks) == []
    assert look(ticks) == [("ingest_daily", ["etf_split"], [f"{SESSIONS[3]}"])]


@pytest.mark.parametrize("name", [".etf_share.parquet.7.tmp", "etf_share.parquet.part", "~etf_share.csv.crdownload"])
def test_temporary_names_are_not_looked_at(ticks: Ticks, folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"half")
    look(ticks)
    assert look(ticks) == []
    assert ticks.skipped["drop_folder"] == "nothing new in the folder"


def test_content_that_comes_back_is_taken_in_again(ticks: Ticks, folder: Path, pipeline: Pipeline) -> None:
    first = (folder / "etf_share.parquet").read_bytes()
    edit(folder, "etf_share", add_share)
    changed = (folder / "etf_share.parquet").read_bytes()
    dataset = load_contract()["etf_share"]
    for content in (changed, first, changed):
        (folder / "etf_share.parquet").write_bytes(content)
        look(ticks)
        assert look(ticks) == [("ingest_daily", ["etf_share"], [f"{CHANGED}"])]
        frame = pipeline.source.fetch("etf_share", CHANGED, CHANGED)
        assert isinstance(frame, pd.DataFrame)
        pipeline.lake.write_raw(dataset, frame, CHANGED, CHANGED)


def test_a_mapping_changes_what_files_say(ticks: Ticks, folder: Path) -> None:
    (folder / "mapping.yaml").write_text("etf_share:\n  units: {shares: 2}\n")
    look(ticks)
    assert look(ticks) == [("ingest_daily", ["etf_share"], ["2025-09-22", "2025-10-13"])]


def test_a_broken_file_fails_where_everyone_looks(ticks: Ticks, folder: Path) -> None:
    edit(folder, "etf_share", lambda f: f.assign(shares=-1.0))
    look(ticks)
    assert look(ticks) == [("ingest_daily", ["etf_share"], ["2025-10-14"])]


def test_an_incomplete_folder_waits(fresh: Ticks, folder: Path) -> None:
    (folder / "etf_nav.parquet").rename(folder / "nav.elsewhere")
    look(fresh)
    assert look(fresh) == []
    assert "waiting for etf_nav" in fresh.skipped["drop_folder"]
    (folder / "nav.elsewhere").rename(folder / "etf_nav.parquet")
    look(fresh)
    assert len(look(fresh)) == 4


def test_days_outside_the_deployment_are_left(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = Deployment(
        source="files", data=folder, lake=tmp_path / "lake", start=date(2025, 9, 24), end=date(2025, 9, 29)
    )
    ticks = Ticks(build_defs(deployment), monkeypatch)
    look(ticks)
    asked = {job: days for job, _, days in look(ticks)}
    assert asked["ingest_daily"] == ["2025-09-24", "2025-09-29"]
    # neither month nor quarter is over on 29 September, so there is no partition of them
    assert set(asked) == {"ingest_daily", "ingest_reference"}


def test_other_sources_have_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ticks = Ticks(build_defs(Deployment(lake=tmp_path / "lake")), monkeypatch)
    assert look(ticks) == []
    assert ticks.skipped["drop_folder"] == "source sample has no folder to watch"


def test_the_run_takes_in_what_changed(ticks: Ticks, folder: Path, pipeline: Pipeline) -> None:
    edit(folder, "etf_share", lambda f: add_share(f).query("trade_date != @SESSIONS[8]"))
    look(ticks)
    look(ticks)
    asked = ticks.asked[-1]
    assert ends(asked.tags) == [f"{CHANGED}", f"{SESSIONS[8]}"]
    with ticks.hour(NOW):
        job = ticks.repository.get_job(asked.job).get_subset(asset_selection={_key("etf_share")})
        result = job.execute_in_process(instance=ticks.instance, tags=asked.tags)
    assert result.success
    assert {e.asset_key for e in result.get_asset_check_evaluations()} == {_key("etf_share")}
    stored = pd.read_parquet(pipeline.lake.raw_folder(load_contract()["etf_share"]) / "2025.parquet")
    source = pipeline.source.fetch("etf_share", SESSIONS[0], SESSIONS[-1])
    assert isinstance(source, pd.DataFrame)
    assert len(stored) == len(source) == 45
    assert stored["shares"].sum() == source["shares"].sum()
    taken = [e.partition for e in result.get_asset_materialization_events()]
    assert taken == [f"{day}" for day in SESSIONS[4:9]]


def _key(name: str):
    import dagster as dg

    return dg.AssetKey(["raw", name])
