"""Runs and events in PostgreSQL, as docs/deployment.md sets it up, with a real server."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import yaml

from tests.pipeline.harness import environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]

ROOT = Path(__file__).resolve().parents[2]


def programs() -> Path:
    """Folder of the server's programs."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("no PostgreSQL server is installed")
    return folders[-1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own for these tests, with an empty database."""
    binaries, folder = programs(), tmp_path_factory.mktemp("postgres")
    # the server refuses to run as root
    account = "postgres" if os.getuid() == 0 else None
    if account:
        folder = Path("/tmp") / folder.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.chown(folder, account)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        subprocess.run([str(binaries / program), *arguments], user=account, cwd=folder, check=True, capture_output=True)

    run("initdb", "-D", str(data), "-U", "etf", "--auth=trust", "-E", "UTF8")
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        server = f"postgresql://etf@127.0.0.1:{port}"
        connection = psycopg2.connect(f"{server}/postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("create database dagster")
        connection.close()
        yield f"{server}/dagster"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_runs_of_two_processes_are_stored_together(url: str, tmp_path: Path) -> None:
    document = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    storage = document.split("```yaml\n")[1].split("```")[0]
    assert "postgres_url" in storage
    instance = yaml.safe_load((ROOT / "etf_pipeline" / "dagster.yaml").read_text(encoding="utf-8"))
    del instance["event_log_storage"]
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance) + storage)
    settings = environment(
        DAGSTER_HOME=str(tmp_path),
        DAGSTER_PG_URL=url.replace("postgresql:", "postgresql+psycopg2:"),
        ETF_PIPELINE_LAKE=str(tmp_path / "lake"),
        ETF_PIPELINE_START="2024-01-02",
        ETF_PIPELINE_END="2024-01-31",
    )
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, "asset", "materialize", "-m", "etf_pipeline.definitions", "--select"]
    runs = [
        subprocess.Popen(
            [*command, selection, *more],
            env=settings,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for selection, more in (
            ('key:"raw/etf_info"', ()),
            ('key:"raw/etf_share"', ("--partition-range", "2024-01-02...2024-01-31")),
        )
    ]
    outputs = [process.communicate(timeout=240)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert (tmp_path / "lake" / "raw" / "etf_share" / "2024.parquet").exists()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("select status, count(*) from runs group by status")
        assert cursor.fetchall() == [("SUCCESS", 2)]
        cursor.execute(
            "select count(distinct partition) from event_logs "
            "where asset_key = '[\"raw\", \"etf_share\"]' and dagster_event_type = 'ASSET_MATERIALIZATION'"
        )
        assert cursor.fetchone() == (22,)
    # nothing of the instance lies in files any more
    assert list(tmp_path.glob("history/**/*.db")) == []
