"""The tiny lake, built once a session and copied for every test that breaks it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from etf_pipeline.resources.pipeline import Pipeline
from tests.checks.world import build, make_pipeline


@pytest.fixture(scope="session")
def sound_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "lake"
    build(folder)
    return folder


@pytest.fixture
def lake_copy(sound_lake: Path, tmp_path: Path) -> Callable[[], Pipeline]:
    def copy() -> Pipeline:
        shutil.copytree(sound_lake, tmp_path / "lake")
        return make_pipeline(tmp_path / "lake")

    return copy
