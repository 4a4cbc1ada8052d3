"""What test folders share: a lake of the sample and a folder of valid files, each made once per process."""

from pathlib import Path

import pytest

from tests.pipeline.harness import Finished, etf_pipeline
from tests.sources.folder import write_valid_folder


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """A lake filled by one run over the whole sample, and what the run printed. No test may change the lake."""
    folder = tmp_path_factory.mktemp("sample")
    lake = folder / "lake"
    return lake, etf_pipeline("run", "--lake", lake, cwd=folder)


@pytest.fixture(scope="session")
def sample_lake(sample_run: tuple[Path, Finished]) -> Path:
    lake, run = sample_run
    assert run.code == 0, run.output
    return lake


@pytest.fixture(scope="session")
def valid_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of files without any fault. No test may change it."""
    return write_valid_folder(tmp_path_factory.mktemp("files") / "valid")
