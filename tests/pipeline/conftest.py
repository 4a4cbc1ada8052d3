import os
from pathlib import Path

import pytest

from tests.pipeline.harness import LAST_SHORT_SIGNAL, SHORT, etf_pipeline


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process see no setting of the machine, and leave none behind."""
    for name in list(os.environ):
        if name.startswith(("ETF_PIPELINE_", "DAGSTER_")):
            monkeypatch.delenv(name)
    # recorded, so that what a command sets is taken back
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")


@pytest.fixture(scope="session")
def short_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of some months, up to the holdings. No test may change it; those that use it are of one group."""
    folder = tmp_path_factory.mktemp("short")
    run = etf_pipeline("run", "--no-research", "--lake", folder / "lake", *SHORT, cwd=folder)
    assert run.code == 0, run.output
    assert f"Holdings of signal {LAST_SHORT_SIGNAL}" in run.output
    return folder / "lake"
