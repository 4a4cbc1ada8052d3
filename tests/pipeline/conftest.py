import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process see no setting of the machine, and leave none behind."""
    for name in list(os.environ):
        if name.startswith(("ETF_PIPELINE_", "DAGSTER_")):
            monkeypatch.delenv(name)
    # recorded, so that what a command sets is taken back
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.delenv("DAGSTER_HOME")
