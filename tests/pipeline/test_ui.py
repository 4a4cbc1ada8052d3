"""What the Dagster UI does: a web server and a daemon over the lake, driven through GraphQL like a browser does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from etf_pipeline.settings import Deployment
from tests.pipeline.harness import environment, readable_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ui")]

START, END = date(2023, 8, 1), date(2023, 12, 29)
PATIENCE_SECONDS = 900
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


class Browser:
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


def wait_for_answer(browser: Browser, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            browser.ask("{ version }")
            return
        except (OSError, AssertionError):
            time.sleep(0.2)


def reasons(browser: Browser, runs: list[dict[str, Any]]) -> str:
    events = [
        event
        for run in runs
        if run["status"] != "SUCCESS"
        for event in browser.ask(RUN_FAILURES, id=run["id"])["logsForRun"]["events"]
        if event
    ]
    return json.dumps(events, indent=1, ensure_ascii=False)[:4000]


@pytest.fixture(scope="module")
def materialized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Path, dict[str, Any], str]]:
    """Everything materialised from the UI on a lake that did not exist: browser, lake, the backfill, and failures."""
    home = tmp_path_factory.mktemp("ui")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    deployment = Deployment(lake=home / "lake", start=START, end=END)
    settings = environment(**deployment.to_env(), DAGSTER_HOME=str(home))
    port = free_port()
    browser = Browser(port)
    web = ("-m", "etf_pipeline.definitions", "-h", "127.0.0.1", "-p", str(port))
    with started("dagster-webserver", *web, home=home, settings=settings) as server:
        wait_for_answer(browser, server, home / "dagster-webserver.log")
        keys = [n["assetKey"] for n in browser.ask(ASSETS)["assetNodes"] if n["isMaterializable"]]
        launched = browser.ask(MATERIALIZE_ALL, keys=keys)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        # the daemon looks for backfills when it starts, and then twice a minute
        with started("dagster-daemon", "run", "-m", "etf_pipeline.definitions", home=home, settings=settings) as daemon:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                backfill = browser.ask(PROGRESS, id=launched["backfillId"])["partitionBackfillOrError"]
                if backfill["status"] in ENDED:
                    break
                assert daemon.poll() is None, (home / "dagster-daemon.log").read_text()
                assert time.monotonic() < deadline, f"not done: {backfill}"
                time.sleep(0.5)
        yield browser, home / "lake", backfill, reasons(browser, backfill["runs"])


Materialized = tuple[Browser, Path, dict[str, Any], str]


def test_materialize_all_succeeds(materialized: Materialized) -> None:
    _, _, backfill, failures = materialized
    assert backfill["error"] is None
    assert backfill["status"] == "COMPLETED_SUCCESS", failures
    assert {run["status"] for run in backfill["runs"]} == {"SUCCESS"}, failures
    # a range of partitions is one run, not one for each of a hundred days
    assert len(backfill["runs"]) < 15


def test_every_asset_and_partition_is_materialized(materialized: Materialized) -> None:
    browser, _, _, failures = materialized
    nodes = browser.ask(STATE)["assetNodes"]
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
    browser, _, _, failures = materialized
    checks = {
        f"{'/'.join(node['assetKey']['path'])}: {check['name']}": check["executionForLatestMaterialization"]
        for node in browser.ask(STATE)["assetNodes"]
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
    _, lake, _, failures = materialized
    assert "published/strategy_holdings.parquet" in readable_rows(lake), failures
    holdings = pd.read_parquet(lake / "published" / "strategy_holdings.parquet")
    assert holdings["signal_date"].max() == END
    assert (holdings.groupby("signal_date").size() == 6).all()
    assert set(holdings["source"]) == {"sample (SYNTHETIC)"}
