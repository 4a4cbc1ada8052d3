"""Every broken folder is refused with its reason, by the command and by Dagster, and leaves no trace in the lake."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.cli import app
from etf_pipeline.resources.pipeline import FIRST_DAY, Pipeline
from etf_pipeline.settings import Deployment
from tests.pipeline.harness import computed_files, etf_pipeline, everything, squeeze
from tests.sources.malformed import MALFORMED, Malformed

pytestmark = pytest.mark.xdist_group("malformed")

CASES = pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
IN_A_PROCESS = [case for case in MALFORMED if case.name in ("negative share", "folder missing", "mapping in GBK")]
assert len(IN_A_PROCESS) == 3
RAW = raw_assets(FIRST_DAY["files"], None)


def ingest(folder: Path, lake: Path, *datasets: str) -> dg.ExecuteInProcessResult:
    """Materialise raw assets, all or the named ones."""
    pipeline = Pipeline(Deployment(source="files", data=folder, lake=lake))
    selection = [dg.AssetKey(["raw", name]) for name in datasets] or [asset.key for asset in RAW]
    assets = [asset for asset in RAW if asset.key in selection]
    job = dg.Definitions(assets=assets, resources={"pipeline": pipeline}).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(raise_on_error=False)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory, valid_folder: Path) -> tuple[Path, Path]:
    """A folder and a lake that holds its valid ingest."""
    root = tmp_path_factory.mktemp("filled")
    folder = shutil.copytree(valid_folder, root / "data")
    assert ingest(folder, root / "lake").success
    assert (root / "lake" / "raw" / "etf_share" / "2025.parquet").exists()
    return folder, root / "lake"


@pytest.fixture
def spoilt(case: Malformed, filled: tuple[Path, Path], tmp_path: Path) -> Path:
    """A folder of the same name, since the name is part of the label a lake is bound to, broken as the case says."""
    folder = shutil.copytree(filled[0], tmp_path / "data")
    case.mutate(folder)
    return folder


def check_message(case: Malformed, output: str) -> None:
    assert "SourceError" in output
    assert "Traceback" not in output
    for fragment in case.fragments:
        assert squeeze(fragment) in squeeze(output), f"{fragment!r} is not in:\n{output}"


@CASES
def test_the_command_refuses(case: Malformed, spoilt: Path, filled: tuple[Path, Path], tmp_path: Path) -> None:
    before = everything(filled[1])
    for lake in (filled[1], tmp_path / "new"):
        result = CliRunner().invoke(app, ["run", "--source", "files", "--data", str(spoilt), "--lake", str(lake)])
        assert result.exit_code == 1
        check_message(case, result.output)
    assert everything(filled[1]) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_A_PROCESS, ids=lambda case: case.name)
def test_the_installed_command_refuses(
    case: Malformed, spoilt: Path, filled: tuple[Path, Path], tmp_path: Path
) -> None:
    before = everything(filled[1])
    # the lake given as a relative path, as it mostly is
    (tmp_path / "filled").symlink_to(filled[1])
    for lake in ("filled", "new"):
        done = etf_pipeline("run", "--source", "files", "--data", spoilt, "--lake", lake, cwd=tmp_path)
        assert done.code == 1
        check_message(case, done.output)
    assert everything(filled[1]) == before
    assert not (tmp_path / "new").exists()


@CASES
def test_dagster_refuses(case: Malformed, spoilt: Path, filled: tuple[Path, Path], tmp_path: Path) -> None:
    before = everything(filled[1])
    for lake in (filled[1], tmp_path / "new"):
        result = ingest(spoilt, lake, "etf_share")
        assert not result.success
        (failure,) = result.filter_events(lambda event: event.is_step_failure)
        error = failure.step_failure_data.error
        message = f"{error.message}{error.cause.to_string() if error.cause else ''}"
        assert "SourceError" in message
        for fragment in case.fragments:
            assert squeeze(fragment) in squeeze(message)
        assert not result.get_asset_materialization_events()
    assert everything(filled[1]) == before
    assert not computed_files(tmp_path / "new")
    assert not (tmp_path / "new" / "lake.json").exists()


def test_a_valid_folder_is_taken(filled: tuple[Path, Path], tmp_path: Path) -> None:
    # what the refusals above are against: the same steps with nothing broken write
    assert ingest(filled[0], tmp_path / "new", "etf_share").success
    assert [path.name for path in computed_files(tmp_path / "new")] == ["2025.parquet"]
