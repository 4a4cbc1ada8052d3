"""Paths and names are text: whatever characters they have, exactly these files are read and these names shown."""

import os
from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from typer.testing import CliRunner

from etf_pipeline.cli import app
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import LakeError
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.canonical import canonical_frame
from etf_pipeline.tables import FACTOR_SCORES, STRATEGY_HOLDINGS
from tests.checks.world import END, SOURCE, make_pipeline, tamper
from tests.dbt.warehouse import open_warehouse, run_dbt
from tests.sources.folder import valid_frames

NAMES = ["br[1]", "bob's", "{{ 7*7 }}", "{# x", "year=2024", "a*b", '"; drop table x; --', "空 格", "$HOME"]
SHARE = load_contract()["etf_share"]


def ingest(lake: Lake, value: float) -> None:
    frame = pd.DataFrame({"etf_code": ["510300.SH"], "trade_date": [date(2024, 1, 2)], "shares": [value]})
    lake.write_raw(SHARE, canonical_frame(SHARE, frame, "test"), date(2024, 1, 2), date(2024, 1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_a_lake_of_any_name_reads_its_own_files(tmp_path: Path, name: str) -> None:
    # what a pattern in the name would match
    for number, sibling in enumerate((name, "br1", "axbx", "49")):
        lake = Lake(tmp_path / sibling)
        lake.claim("test")
        ingest(lake, 1e8 + number)
    lake = Lake(tmp_path / name)
    columns = SHARE.schema.names
    with duckdb.connect(lake.build_catalogue(), read_only=True) as catalogue:
        assert catalogue.sql("FROM raw.etf_share").columns == columns
        assert catalogue.sql("SELECT shares FROM raw.etf_share").fetchall() == [(1e8,)]
    with duckdb.connect() as connection:
        lake.create_raw_views(connection, None)
        assert connection.sql("FROM raw.etf_share").columns == columns
        assert connection.sql("SELECT shares FROM raw.etf_share").fetchall() == [(1e8,)]


def test_dbt_takes_paths_and_names_as_they_are(tmp_path: Path) -> None:
    label = "files (bob's {{ 7*7 }} {% [1] #})"
    pipeline = Pipeline(Deployment(lake=tmp_path / "bob's {{ 7*7 }} br[1]"))
    pipeline.lake.claim(label)
    frames = valid_frames()
    name = "<!-- [/] bob's {{ 7*7 }}"
    frames["industry_info"] = frames["industry_info"].assign(industry_name=name)
    sessions = pd.DataFrame({"trade_date": pd.bdate_range("2025-08-01", "2025-10-31"), "is_open": True})
    for dataset, frame in {**frames, "trading_calendar": sessions}.items():
        spec = load_contract()[dataset]
        pipeline.lake.write_raw(spec, canonical_frame(spec, frame, dataset), date(1990, 1, 1), date(2029, 12, 31))
    with open_warehouse(pipeline):
        pass
    run_dbt(pipeline, "run", "--select", "+industry_weekly")
    with duckdb.connect(pipeline.lake.warehouse, read_only=True) as connection:
        rows = connection.sql("SELECT DISTINCT source, industry_name FROM industry_weekly").fetchall()
    assert rows == [(label, name)]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(("ETF_PIPELINE_", "DAGSTER_")):
            monkeypatch.delenv(variable)


@pytest.mark.usefixtures("no_settings")
def test_names_are_printed_as_they_are(built_lake_copy: Path) -> None:
    def rename(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(industry_name="[/] [red]x[/red]", source="files (br[1])", largest_etf="[bold]' <!--")

    tamper(built_lake_copy / "published" / "strategy_holdings.parquet", rename)
    shown = CliRunner().invoke(app, ["holdings", "--lake", str(built_lake_copy)])
    assert shown.exit_code == 0, shown.output
    for text in ("[/] [red]x[/red]", "files (br[1])", "[bold]' <!--"):
        assert text in shown.output
    doctor = CliRunner().invoke(app, ["doctor", "--lake", str(built_lake_copy)])
    assert "Lake" in doctor.output
    assert "[1]" in doctor.output


@pytest.fixture
def built_lake_copy(tmp_path: Path) -> Path:
    """A lake with two dates of holdings and nothing else."""
    pipeline = make_pipeline(tmp_path / "br[1]")
    pipeline.lake.claim(SOURCE)

    def values(kind: str) -> object:
        return {"date": END, "string": "text", "double": 0.5, "bool": True}.get(kind, 1)

    for table in (STRATEGY_HOLDINGS, FACTOR_SCORES):
        row = {column.name: [values(str(column.type).partition("[")[0].removesuffix("32"))] for column in table.schema}
        pipeline.lake.publish(table.name, table.to_arrow(pd.DataFrame(row)), pipeline.parameters.hash)
    return pipeline.lake.root


@pytest.mark.parametrize("name", ["what?", "50%"])
def test_a_lake_that_libraries_would_look_for_elsewhere_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(LakeError, match="choose a --lake without"):
        Lake(tmp_path / name).claim("test")
    assert not (tmp_path / name).exists()
