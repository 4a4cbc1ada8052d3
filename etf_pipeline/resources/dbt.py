"""The dbt project as the pipeline runs it: where it lies, its manifest, and the variables it is given."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dagster_dbt import DbtCliResource
from packaging.version import Version

from etf_pipeline.resources.lake import atomic_path, exclusive_lock
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Parameters

PROJECT_DIR = Path(__file__).parents[2] / "dbt_project"
_MANIFEST = PROJECT_DIR / "target" / "manifest.json"


def dbt_executable() -> str:
    """The dbt that is installed beside the running Python, whatever the PATH says."""
    return str(Path(sys.executable).with_name("dbt"))


class InstalledDbt(DbtCliResource):
    """The dbt beside the running Python, on this project."""

    def __init__(self) -> None:
        super().__init__(project_dir=str(PROJECT_DIR), profiles_dir=str(PROJECT_DIR), dbt_executable=dbt_executable())

    @cached_property
    def _cli_version(self) -> Version:
        # `dbt --version`, which this takes the place of, takes two seconds
        return Version(importlib.metadata.version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        # two seconds too: only what asks the warehouse from within Dagster needs it
        return None


def dbt_vars(pipeline: Pipeline) -> dict[str, Any]:
    """Everything SQL gets from outside: the parameters, the label of the source and the file to build in."""
    return {
        **pipeline.parameters.dbt_vars(),
        "source_label": pipeline.lake.source_label,
        "warehouse": str(pipeline.lake.warehouse),
    }


def load_manifest() -> Mapping[str, Any]:
    """The project's manifest, parsed anew when a file of the project is newer than it.

    Needs neither data nor network; with a current manifest it only reads one file.

    Raises:
        RuntimeError: the project does not parse; the message is dbt's.
    """
    if not _MANIFEST.exists() or _MANIFEST.stat().st_mtime < _last_change():
        with exclusive_lock(_MANIFEST.parent / ".manifest.lock"):
            if not _MANIFEST.exists() or _MANIFEST.stat().st_mtime < _last_change():
                _parse()
    return json.loads(_MANIFEST.read_text(encoding="utf-8"))


def _last_change() -> float:
    sources = [
        PROJECT_DIR / "dbt_project.yml",
        *(PROJECT_DIR / "models").rglob("*"),
        *(PROJECT_DIR / "macros").rglob("*"),
        *(PROJECT_DIR / "tests").rglob("*"),
    ]
    return max(path.stat().st_mtime for path in sources)


def _parse() -> None:
    target = PROJECT_DIR / "target" / "parse"
    variables = {**Parameters.load().dbt_vars(), "source_label": ""}
    command = [
        dbt_executable(),
        "parse",
        "--no-partial-parse",
        "--vars",
        json.dumps(variables),
        "--target-path",
        str(target),
        "--quiet",
    ]
    result = subprocess.run(
        command,
        cwd=PROJECT_DIR,
        env={**os.environ, "DBT_PROFILES_DIR": str(PROJECT_DIR), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"dbt parse failed:\n{result.stdout}{result.stderr}")
    with atomic_path(_MANIFEST) as temporary:
        temporary.write_bytes((target / "manifest.json").read_bytes())
    _MANIFEST.touch()
