"""What is installed: every file of the project and nothing else, and the same libraries as in development."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.deployment.try_wheel import ROOT, build_wheel

INSTALLED = ("etf_pipeline/", "dbt_project/")


def tracked() -> set[str]:
    git = ["git", "-C", str(ROOT), "ls-files", "--", *INSTALLED]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip(f"no checkout of git: {done.stderr.strip()}")
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))


def test_the_wheel_holds_the_package_and_the_sql_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {re.sub("^dbt_project/", "etf_pipeline/dbt_project/", name) for name in tracked()}
    assert {Path(name).suffix for name in expected} >= {".py", ".sql", ".yml", ".yaml", ".j2", ".css", ".js"}
    assert held == expected


def test_what_runs_was_tested_with_the_same_libraries() -> None:
    run, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert len(run) > 100
    assert run.items() <= development.items()
    assert {"dagster-postgres", "akshare"} <= run.keys()
    assert not {"pytest", "hypothesis", "ruff", "mypy", "playwright"} & run.keys()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_has_a_hash_and_no_index_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = [line for line in text.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    assert len(entries) == len(pins(lock))
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text)
