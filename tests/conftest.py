"""What test folders share, each made once per process: a lake of the sample, a folder of valid files, a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.pipeline.harness import ROOT, Finished, etf_pipeline
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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster home with the packaged dagster.yaml."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(ROOT / "etf_pipeline" / "dagster.yaml", folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser without a window; tests that need one skip where none is installed.

    It ends with the module: a later test may fork the process, and would take the threads' locks along.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
