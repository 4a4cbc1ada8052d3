import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.automation.webhook import Webhook
from tests.checks.world import SOURCE, definitions, make_pipeline, marts, raw_frames, run, write_mart, write_raw

PACKAGE = Path(__file__).resolve().parents[2] / "etf_pipeline"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ETF_PIPELINE_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def built_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny lake of the checks' tests up to its holdings; no test may change it."""
    pipeline = make_pipeline(tmp_path_factory.mktemp("built") / "lake")
    pipeline.lake.claim(SOURCE)
    for name, frame in raw_frames().items():
        write_raw(pipeline, name, frame)
    for name, frame in marts().items():
        write_mart(pipeline, name, frame.assign(source=SOURCE))
    run(definitions(pipeline, []), dg.AssetSelection.groups("factors", "strategy"))
    return pipeline.lake.root


@pytest.fixture
def tiny_lake(built_lake: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built_lake, tmp_path / "lake")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        yield server
