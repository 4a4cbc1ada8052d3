"""One run at a time on a lake; a lake that may only be read; settings that only their owner reads."""

import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
import requests
from typer.testing import CliRunner

import etf_pipeline.doctor  # noqa: F401 - for the process that may read nothing but the lake
from etf_pipeline import cli
from etf_pipeline.definitions import _at_work
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.remembered import remember, remembered
from etf_pipeline.resources.storage import LakeError
from etf_pipeline.run import dagster_home
from etf_pipeline.settings import Deployment, SettingsError
from etf_pipeline.sources.akshare.worker import Recorder

SECRET = "pa55-w0rd"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ETF_PIPELINE_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    made.claim("test")
    return made


_HOLD = """
import fcntl, sys
handle = open(sys.argv[1], "a+")
fcntl.flock(handle, fcntl.LOCK_EX)
handle.write("process 4711, since 2026-11-27 18:00:00")
handle.flush()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(lake: Lake) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that is at work on the lake."""
    command = [sys.executable, "-S", "-c", _HOLD, str(lake.root / ".run.lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_says_so_and_waits(lake: Lake, other: subprocess.Popen[bytes]) -> None:
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        # only now does the other end, however it ends
        other.kill()

    with lake.at_work(tell):
        assert other.wait() < 0
    assert said == [
        f"Another run (process 4711, since 2026-11-27 18:00:00) works on lake {lake.root}; waiting for it to end."
    ]
    with lake.at_work(said.append):
        assert str(os.getpid()) in (lake.root / ".run.lock").read_text()
        with lake.at_work(said.append):
            pass
    assert len(said) == 1


def test_a_run_of_dagster_is_at_work_from_its_first_step_to_its_last(lake: Lake) -> None:
    path = lake.root / ".run.lock"

    @dg.asset
    def first(pipeline: dg.ResourceParam[Pipeline]) -> None:
        assert pipeline.lake.root == lake.root
        assert is_held(path)

    @dg.asset(deps=[first])
    def last() -> None:
        assert is_held(path)

    resources = {"pipeline": _at_work(Pipeline(Deployment(lake=lake.root)))}
    definitions = dg.Definitions(assets=[first, last], resources=resources, executor=dg.in_process_executor)
    for _ in range(2):
        assert definitions.resolve_implicit_global_asset_job_def().execute_in_process().success
        assert not is_held(path)


def is_held(path: Path) -> bool:
    script = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-S", "-c", script, str(path)]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_a_lake_remembers_its_folder(lake: Lake, tmp_path: Path) -> None:
    here, there = tmp_path / "here's", tmp_path / "there"
    lake.claim("test", here)
    lake.claim("test", here)
    lake.claim("test")
    with pytest.raises(LakeError, match="holds data of the folder") as caught:
        lake.claim("test", there)
    assert "etf-pipeline rebind --data" in str(caught.value)
    lake.rebind("test", there)
    lake.claim("test", there)
    with pytest.raises(LakeError, match="here"):
        lake.claim("test", here)


def test_the_command_binds_a_lake_to_the_place_its_folder_moved_to(lake: Lake, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    answer = CliRunner().invoke(cli.app, ["rebind", "--data", str(moved), "--lake", str(lake.root)])
    assert answer.exit_code == 0, answer.output
    lake.claim("files (moved)", moved)
    answer = CliRunner().invoke(cli.app, ["rebind", "--data", str(moved), "--lake", str(tmp_path / "none")])
    assert answer.exit_code == 1
    assert not (tmp_path / "none").exists()


@pytest.fixture
def read_only(lake: Lake) -> Iterator[Path]:
    """A lake with a table, a warehouse and Dagster's records that this account may only read."""
    lake.publish("flow", pa.table({"flow": [1.0]}), "hash")
    lake.build_catalogue()
    duckdb.connect(lake.warehouse).execute("CREATE TABLE one AS SELECT 1").close()
    home = dagster_home(lake.root)
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        dg.materialize([dg.asset(lambda: None, name="one")], instance=instance)
    # where another account can come to
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    target = folder / "lake"
    shutil.copytree(lake.root, target)
    for path in [*target.rglob("*"), target]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield target
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def _read(lake: Path, answers: Connection) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for arguments in (["where"], ["holdings"], ["doctor"]):
        answer = CliRunner().invoke(cli.app, [*arguments, "--lake", str(lake)])
        answers.send((answer.exit_code, answer.output, repr(answer.exception)))
    with duckdb.connect(Lake(lake).catalogue, read_only=True) as connection:
        # its views name the place where it was made
        answers.send(connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall())


def test_a_lake_that_may_only_be_read_is_read(read_only: Path) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_read, args=(read_only, there))
    process.start()
    there.close()
    (where, holdings, doctor), views = [here.recv() for _ in range(3)], here.recv()
    process.join()
    assert where[:2] == (0, f"{read_only / 'etf.duckdb'}\n"), where
    assert holdings[0] == 1
    assert "table strategy_holdings is not in lake" in " ".join(holdings[1].split())
    assert "SystemExit" in doctor[2], doctor
    assert "not looked at" in doctor[1]
    assert views == [("flow",)]


def test_settings_are_their_owners_alone_and_hold_no_gateway(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETF_PIPELINE_GATEWAYS", f'{{"www.szse.cn": "https://me:{SECRET}@cache.example/szse"}}')
    path = lake.root / "deployment.json"
    path.write_text("{}")
    path.chmod(0o644)
    deployment = cli._deployment(lake.root, "akshare", None, "sw", None, None, None)
    assert SECRET in str(deployment.gateways)
    remember(deployment)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [file for file in lake.root.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    # but whoever works on the lake has them
    assert Deployment.model_validate({**remembered(lake.root), "lake": lake.root}) == deployment


@pytest.mark.parametrize(
    "value", ['["https://me:pa55-w0rd@x"]', '{"a": {"b": "https://me:pa55-w0rd@x"}}', '{"https://me:pa55-w0rd@x": 1, ']
)
def test_settings_that_cannot_be_read_are_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ETF_PIPELINE_GATEWAYS", value)
    with pytest.raises(SettingsError, match="ETF_PIPELINE_GATEWAYS") as caught:
        Deployment.from_env()
    assert SECRET not in str(caught.value)


def test_a_gateways_password_travels_in_a_header_and_stands_in_no_error() -> None:
    recorder = Recorder(None, {"www.szse.cn": f"http://me:{SECRET}@127.0.0.1:9/szse/"}, pause=0)  # type: ignore[arg-type]
    sent: list[requests.PreparedRequest] = []
    live = recorder._direct.send
    recorder._direct.send = lambda request, **options: sent.append(request) or live(request, **options)  # type: ignore
    request = requests.Request("GET", "https://www.szse.cn/a/b?c=d").prepare()
    with pytest.raises(requests.ConnectionError) as caught:
        recorder._live(request, {})
    assert sent[0].url == "http://127.0.0.1:9/szse/a/b?c=d"
    assert sent[0].headers["Authorization"] == requests.auth._basic_auth_str("me", SECRET)
    assert SECRET not in str(caught.value)
    assert request.url == "https://www.szse.cn/a/b?c=d"
    assert "Authorization" not in request.headers
