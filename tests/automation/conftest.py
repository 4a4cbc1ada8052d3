import os
import shutil
from pathlib import Path

import pytest

from tests.checks.world import build

PACKAGE = Path(__file__).resolve().parents[2] / "etf_pipeline"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ETF_PIPELINE_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Dagster home with the packaged dagster.yaml."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(PACKAGE / "dagster.yaml", folder)
    return folder


@pytest.fixture(scope="session")
def built_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny lake of the checks' tests; no test may change it."""
    folder = tmp_path_factory.mktemp("built") / "lake"
    build(folder)
    return folder


@pytest.fixture
def tiny_lake(built_lake: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built_lake, tmp_path / "lake")
