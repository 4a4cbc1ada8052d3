"""The Dagster UI over the lake as it is deployed (code server, web server, daemon), driven as its pages do, and in a
real browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import duckdb
import httpx
import pandas as pd
import pytest
import yaml
from playwright.sync_api import Browser, Page

from etf_pipeline.definitions import build_defs
from etf_pipeline.reports import THUMBNAILS
from etf_pipeline.settings import Deployment
from tests.pipeline.harness import ROOT, digests, environment, etf_pipeline, readable_rows, stamps

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ui")]

START, END = date(2023, 8, 1), date(2023, 12, 31)  # whole months, as the partitions are
LAST_SIGNAL = date(2023, 12, 29)
PATIENCE_SECONDS = 900
DAEMON = ("dagster-daemon", "run", "-w", "workspace.yaml")
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}

ASSETS = "{ assetNodes { assetKey { path } isMaterializable isPartitioned } }"
# all assets at once, partitioned in different ways or not at all: the UI's "Materialize all" with all partitions
MATERIALIZE_ALL = """
mutation ($keys: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: { assetSelection: $keys, allPartitions: true }) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
PROGRESS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } runs(limit: 100) { id status assetSelection { path } } }
  }
}"""
BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id } } } }"
RUN_FAILURES = """
query ($id: ID!) {
  logsForRun(runId: $id) {
    ... on EventConnection { events { ... on ExecutionStepFailureEvent { stepKey error { message } failureMetadata {
      metadataEntries { label ... on TextMetadataEntry { text } } } } } }
  }
}"""
STATE = """{ assetNodes {
  assetKey { path }
  assetMaterializations(limit: 1) { runId }
  partitionStats { numPartitions numMaterialized numFailed }
  assetChecksOrError { ... on AssetChecks { checks {
    name executionForLatestMaterialization { status evaluation { severity success } } } } }
} }"""


class Client:
    """GraphQL over HTTP."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        assert "errors" not in answer, answer["errors"]
        return answer["data"]


@contextmanager
def started(program: str, *arguments: str, home: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Dagster program in a process group of its own, all of which is ended with the block."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    with (home / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=settings, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(found: Callable[[], Any], process: subprocess.Popen[bytes], log: Path) -> None:
    """Until something is found, which the program is to bring about."""
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with suppress(OSError, AssertionError):
            if found():
                return
        time.sleep(0.2)


def reasons(client: Client, runs: list[dict[str, Any]]) -> str:
    events = [
        event
        for run in runs
        if run["status"] != "SUCCESS"
        for event in client.ask(RUN_FAILURES, id=run["id"])["logsForRun"]["events"]
        if event
    ]
    return json.dumps(events, indent=1, ensure_ascii=False)[:4000]


@dataclass(frozen=True)
class Materialized:
    """A running web server over a lake on which everything was materialised from the UI."""

    client: Client
    url: str
    home: Path
    settings: dict[str, str]
    daemon: subprocess.Popen[bytes]
    backfill: dict[str, Any]

    @property
    def lake(self) -> Path:
        return self.home / "lake"

    @property
    def failures(self) -> str:
        """What went wrong in its runs, for messages."""
        return reasons(self.client, self.backfill["runs"])


def wait_for_end(client: Client, backfill_id: str) -> dict[str, Any]:
    """The backfill once it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        backfill = client.ask(PROGRESS, id=backfill_id)["partitionBackfillOrError"]
        if backfill["status"] in ENDED:
            return backfill
        assert time.monotonic() < deadline, f"not done: {backfill}"
        time.sleep(2)  # each look costs the server processor time that its runs need


@pytest.fixture(scope="module")
def materialized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Materialized]:
    """Everything materialised from the UI on a lake that did not exist."""
    home = tmp_path_factory.mktemp("ui")
    # without the limits of the packaged file, which lets one run wait for another
    config = yaml.safe_load((ROOT / "etf_pipeline" / "dagster.yaml").read_text(encoding="utf-8"))
    del config["concurrency"]
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    deployment = Deployment(lake=home / "lake", start=START, end=END)
    settings = environment(**deployment.to_env(), DAGSTER_HOME=str(home))
    socket_file, port = home / "code.sock", free_port()
    place = {"socket": str(socket_file), "location_name": "etf_pipeline"}
    (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": place}]}), encoding="utf-8")
    client = Client(port)
    code = ("code-server", "start", "-m", "etf_pipeline.definitions", "-s", str(socket_file))
    web = ("-m", "etf_pipeline.web", "--workspace", "workspace.yaml", "--port", str(port))
    # two programs that create the databases at the same moment get in each other's way; systemd starts one again
    with mock.patch.dict(os.environ, DAGSTER_HOME=str(home)), dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
    with (
        started("dagster", *code, home=home, settings=settings) as code_server,
        started("python", *web, home=home, settings=settings) as server,
    ):
        wait_for(socket_file.exists, code_server, home / "dagster.log")
        wait_for(lambda: client.ask(ASSETS)["assetNodes"], server, home / "python.log")
        keys = [n["assetKey"] for n in client.ask(ASSETS)["assetNodes"] if n["isMaterializable"]]
        launched = client.ask(MATERIALIZE_ALL, keys=keys)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        # the daemon looks for backfills when it starts, and then twice a minute
        with started(*DAEMON, home=home, settings=settings) as daemon:
            backfill = wait_for_end(client, launched["backfillId"])
            yield Materialized(client, f"http://127.0.0.1:{port}", home, settings, daemon, backfill)


def test_materialize_all_succeeds(materialized: Materialized) -> None:
    backfill, failures = materialized.backfill, materialized.failures
    assert backfill["error"] is None
    assert backfill["status"] == "COMPLETED_SUCCESS", failures
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}, failures
    # a range of partitions is one run, not one for each of a hundred days
    assert len(backfill["runs"]) < 15


def test_every_asset_and_partition_is_materialized(materialized: Materialized) -> None:
    client, failures = materialized.client, materialized.failures
    nodes = client.ask(STATE)["assetNodes"]
    assert len(nodes) > 50
    without = [node["assetKey"]["path"] for node in nodes if not node["assetMaterializations"]]
    assert without == [], failures
    partial = {
        "/".join(node["assetKey"]["path"]): stats
        for node in nodes
        if (stats := node["partitionStats"]) and stats["numMaterialized"] != stats["numPartitions"]
    }
    assert partial == {}, failures


def test_every_check_was_executed(materialized: Materialized) -> None:
    client, failures = materialized.client, materialized.failures
    checks = {
        f"{'/'.join(node['assetKey']['path'])}: {check['name']}": check["executionForLatestMaterialization"]
        for node in client.ask(STATE)["assetNodes"]
        for check in node["assetChecksOrError"].get("checks", [])
    }
    assert len(checks) > 100
    assert [name for name, execution in checks.items() if execution is None] == []
    unfinished = {name: e["status"] for name, e in checks.items() if e["status"] not in ("SUCCEEDED", "FAILED")}
    assert unfinished == {}, failures
    failed = [
        name
        for name, execution in checks.items()
        if not execution["evaluation"]["success"] and execution["evaluation"]["severity"] == "ERROR"
    ]
    assert failed == [], failures


def test_holdings_are_published(materialized: Materialized) -> None:
    lake, failures = materialized.lake, materialized.failures
    assert "published/strategy_holdings.parquet" in readable_rows(lake), failures
    holdings = pd.read_parquet(lake / "published" / "strategy_holdings.parquet")
    assert holdings["signal_date"].max() == LAST_SIGNAL
    assert (holdings.groupby("signal_date").size() == 6).all()
    assert set(holdings["source"]) == {"sample (SYNTHETIC)"}


@pytest.fixture(scope="module")
def copied(materialized: Materialized, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake as the UI filled it, for the command line."""
    return shutil.copytree(materialized.lake, tmp_path_factory.mktemp("copied") / "lake")


def test_a_run_of_the_command_line_changes_no_byte_and_touches_no_file(copied: Path, tmp_path: Path) -> None:
    for path in copied.rglob("*.parquet"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    before, stamped = digests(copied), stamps(copied)
    assert len(before) > 50
    # someone has the catalogue open all the while
    with duckdb.connect(copied / "etf.duckdb", read_only=True) as reader:
        held = reader.sql("select count(*) from strategy_holdings").fetchall()
        done = etf_pipeline("run", "--lake", copied, "--start", START, "--end", END, cwd=tmp_path)
        assert done.code == 0, done.output
        assert reader.sql("select count(*) from strategy_holdings").fetchall() == held
    after = digests(copied)
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()
    assert {name for name, stamp in stamps(copied).items() if stamped[name] != stamp} == set()


def test_every_check_of_data_and_sql_from_the_command_line(copied: Path, tmp_path: Path) -> None:
    before = digests(copied)
    done = etf_pipeline("check", "--lake", copied, cwd=tmp_path)
    assert done.code == 0, done.output
    # 77 of the SQL, which a run leaves out, and what the run itself judged
    checks = build_defs(Deployment(lake=copied)).resolve_asset_graph().asset_check_keys
    assert f"{len(checks)} checks, 0 errors" in done.output
    assert digests(copied) == before


@pytest.fixture(scope="module")
def page(browser: Browser, materialized: Materialized) -> Iterator[Page]:
    """A window on the UI; at the end nothing may have gone wrong in it."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1500, "height": 950}, base_url=materialized.url)
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


def test_the_graph_is_drawn_by_layers(page: Page) -> None:
    page.goto("/asset-groups/")
    drawn = page.locator("svg")
    layers = ("raw", "staging", "intermediate", "marts", "factors", "strategy", "analytics", "reports")
    for layer in layers:
        drawn.get_by_text(layer, exact=True).first.wait_for()


def test_charts_of_the_report_are_in_its_metadata(page: Page) -> None:
    page.goto("/assets/reports/report")
    shown = page.get_by_text("[Show Markdown]")
    shown.first.wait_for()
    assert shown.count() == len(THUMBNAILS)
    for number in range(shown.count()):
        shown.nth(number).click()
        picture = page.locator('img[src^="data:image/png"]')
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") >= 600
        page.get_by_role("button", name="Close").click()
        picture.wait_for(state="detached")


def test_checks_are_listed_with_their_outcome(page: Page) -> None:
    page.goto("/assets/factors/factor_scores?view=checks")
    for name in ("decided_in_time", "ranks_follow_composite", "withheld_exactly"):
        page.get_by_text(name, exact=True).first.wait_for()
    assert page.get_by_text("Succeeded", exact=True).count() >= 6


def test_a_backfill_of_a_page_outlives_the_daemon(page: Page, materialized: Materialized) -> None:
    before = set(backfills(materialized.client))
    page.goto("/assets/raw/etf_share?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    partitions = dialog.get_by_placeholder("ex:")
    partitions.fill("[2023-12-18...2023-12-29]")
    partitions.press("Enter")
    dialog.get_by_text("10 partitions").wait_for()
    dialog.get_by_role("button", name="Launch backfill").click()
    dialog.wait_for(state="detached")
    (launched,) = set(backfills(materialized.client)) - before
    materialized.daemon.kill()
    materialized.daemon.wait()
    with started(*DAEMON, home=materialized.home, settings=materialized.settings):
        backfill = wait_for_end(materialized.client, launched)
    assert backfill["status"] == "COMPLETED_SUCCESS", reasons(materialized.client, backfill["runs"])
    assert [run["assetSelection"] for run in backfill["runs"]] == [[{"path": ["raw", "etf_share"]}]]


def test_another_name_or_a_link_changes_nothing(materialized: Materialized) -> None:
    started = "mutation { setNuxSeen }"
    for path, headers in ((f"?query={started}", {}), ("", {"Host": "evil.example"}), ("", {"Origin": "http://a.b"})):
        asked = httpx.Request(
            "POST" if headers else "GET", f"{materialized.url}/graphql{path}", headers=headers, json={}
        )
        with httpx.Client(trust_env=False) as client:
            assert client.send(asked).status_code == 403


def backfills(client: Client) -> list[str]:
    return [b["id"] for b in client.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]]
