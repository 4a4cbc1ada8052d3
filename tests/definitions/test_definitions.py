"""What Dagster loads: it needs nothing, its layers only look back, and all that dbt tests is there as a check."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from exchange_calendars import get_calendar

from etf_pipeline.contract import load_contract
from etf_pipeline.definitions import build_defs
from etf_pipeline.resources.dbt import load_manifest
from etf_pipeline.settings import Deployment, Parameters, SettingsError
from tests.pipeline.harness import environment

LAYERS = ["raw", "staging", "intermediate", "marts", "factors", "strategy", "analytics", "reports"]
START, END = date(2024, 1, 2), date(2024, 12, 31)
CONTRACT = load_contract()


@pytest.fixture(scope="module")
def graph() -> BaseAssetGraph:
    return build_defs(Deployment(start=START, end=END)).resolve_asset_graph()


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    home = cwd.parent / "home"
    home.mkdir()
    settings = environment(HOME=str(home))
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=settings, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_validate_needs_no_data_no_lake_and_no_network(empty: Path) -> None:
    dagster = str(Path(sys.executable).with_name("dagster"))
    done = run_python(dagster, "definitions", "validate", "-m", "etf_pipeline.definitions", cwd=empty)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful" in done.stdout + done.stderr
    assert list(empty.iterdir()) == []


def test_the_network_is_cut_in_these_tests(empty: Path) -> None:
    script = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    done = run_python("-c", script, cwd=empty)
    assert "no network in tests" in done.stderr


def test_loading_imports_nothing_heavy(empty: Path) -> None:
    script = """
import sys
from etf_pipeline.definitions import build_defs
build_defs().resolve_asset_graph()
print(*sorted(sys.modules))
"""
    done = run_python("-c", script, cwd=empty)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "etf_pipeline.assets.warehouse" in loaded
    heavy = ("great_expectations", "statsmodels", "matplotlib", "plotly", "xlsxwriter", "hypothesis", "dbt.cli")
    vendors = ("httpx", "tenacity", "pyrate_limiter", "akshare")
    assert [name for name in (*heavy, *vendors) if name in loaded] == []
    # neither a market is simulated nor a file opened nor a vendor reached before an asset asks for it
    sources = [f"etf_pipeline.sources.{name}" for name in ("sample", "files", "tushare", "akshare")]
    assert [name for name in sources if name in loaded] == []
    assert list(empty.iterdir()) == []


def test_layers(graph: BaseAssetGraph) -> None:
    keys = graph.materializable_asset_keys
    assert {key.path[0] for key in keys} == set(LAYERS)
    assert all(len(key.path) == 2 for key in keys)
    backwards = [
        (parent.to_user_string(), key.to_user_string())
        for key in keys
        for parent in graph.get(key).parent_keys
        if LAYERS.index(parent.path[0]) > LAYERS.index(key.path[0])
    ]
    assert backwards == []
    edges = sum(len(graph.get(key).parent_keys) for key in keys)
    assert edges > 80
    # everything that is read is made here
    assert {parent for key in keys for parent in graph.get(key).parent_keys} <= set(keys)


def test_every_layer_leads_to_the_holdings(graph: BaseAssetGraph) -> None:
    upstream, new = set(), {dg.AssetKey(["strategy", "strategy_holdings"])}
    while new:
        upstream |= new
        new = {parent for key in new for parent in graph.get(key).parent_keys} - upstream
    needed = {f"raw/{name}" for name, dataset in CONTRACT.items() if dataset.required}
    assert needed <= {key.to_user_string() for key in upstream}


def test_groups_and_descriptions(graph: BaseAssetGraph) -> None:
    for key in graph.materializable_asset_keys:
        assert graph.get(key).group_name == key.path[0], key
        assert (graph.get(key).description or "").strip(), key


def test_raw_assets_are_the_contract(graph: BaseAssetGraph) -> None:
    assert {key.path[1] for key in graph.materializable_asset_keys if key.path[0] == "raw"} == set(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_raw_partitions(graph: BaseAssetGraph, name: str) -> None:
    definition = graph.get(dg.AssetKey(["raw", name])).partitions_def
    word = CONTRACT[name].partition
    if word in ("snapshot", "none"):
        assert definition is None
        return
    expected = {
        "day": get_calendar("XSHG").sessions_in_range(pd.Timestamp(START), pd.Timestamp(END)),
        "month": pd.date_range("2024-01-01", "2024-12-01", freq="MS"),
        "quarter": pd.DatetimeIndex(["2024-01-01", "2024-04-01", "2024-07-01", "2024-10-01"]),
    }[word]
    assert definition.get_partition_keys() == [f"{day:%Y-%m-%d}" for day in expected]


def test_holidays_are_no_partitions(graph: BaseAssetGraph) -> None:
    days = set(graph.get(dg.AssetKey(["raw", "etf_share"])).partitions_def.get_partition_keys())
    closed = ["2024-02-09", "2024-02-16", "2024-04-04", "2024-05-01", "2024-09-17", "2024-10-01", "2024-10-07"]
    worked_weekends = ["2024-02-04", "2024-02-18", "2024-09-29", "2024-10-12"]  # offices open, exchange closed
    assert not days & {*closed, *worked_weekends}
    assert {"2024-02-08", "2024-02-19", "2024-09-30", "2024-10-08", "2024-12-31"} <= days
    assert len(days) == 242


def test_holdings_are_partitioned_by_rebalance_date(graph: BaseAssetGraph) -> None:
    keys = graph.get(dg.AssetKey(["strategy", "strategy_holdings"])).partitions_def.get_partition_keys()
    assert keys[:3] == ["2024-01-12", "2024-01-26", "2024-02-08"]
    assert len(keys) == 25
    published = ["2025-11-21", "2025-12-05", "2025-12-19", "2025-12-31", "2026-01-16", "2026-01-30", "2026-02-13"]
    later = build_defs(Deployment(start=date(2025, 11, 10), end=date(2026, 3, 1))).resolve_asset_graph()
    assert later.get(dg.AssetKey(["strategy", "strategy_holdings"])).partitions_def.get_partition_keys() == published


def test_the_partitions_of_an_open_end_reach_the_present() -> None:
    graph = build_defs(Deployment()).resolve_asset_graph()
    days = graph.get(dg.AssetKey(["raw", "etf_nav"])).partitions_def.get_partition_keys()
    assert days[0] == "2014-12-01"
    today = pd.Timestamp.now("Asia/Shanghai").tz_localize(None).normalize()
    sessions = get_calendar("XSHG").sessions
    # today's own session, which can be taken in this evening; on a day without one, the next
    assert pd.Timestamp(days[-1]) == sessions[sessions >= today][0]
    assert len(days) == len(sessions[(sessions >= days[0]) & (sessions <= days[-1])])


def test_a_backfill_is_one_run(graph: BaseAssetGraph) -> None:
    partitioned = [key for key in graph.materializable_asset_keys if graph.get(key).partitions_def]
    assert len(partitioned) > 10
    for key in partitioned:
        policy = graph.get(key).backfill_policy
        assert policy is not None, key
        assert policy.policy_type.name == "SINGLE_RUN", key


def test_everything_dbt_tests_is_a_check(graph: BaseAssetGraph) -> None:
    manifest = load_manifest()
    data_tests = [node for node in manifest["nodes"].values() if node["resource_type"] == "test"]
    unit_tests = list(manifest["unit_tests"].values())
    assert len(data_tests) > 50
    assert len(unit_tests) > 30
    checks = [(key.asset_key, key.name) for key in graph.asset_check_keys]
    assert len(checks) == len(set(checks))
    names = [name for _, name in checks]
    missing = [test["name"] for test in (*data_tests, *unit_tests) if test["name"] not in names]
    assert missing == []
    tested = {name: key for key, name in checks}
    models = {n["name"]: n["fqn"][1] for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    for test in unit_tests:
        assert tested[test["name"]].path == [models[test["model"]], test["model"]], test["name"]
    assert set(models) == {
        key.path[1] for key in graph.materializable_asset_keys if key.path[0] in ("staging", "intermediate", "marts")
    }


def test_published_tables_carry_their_columns() -> None:
    manifest = load_manifest()
    undescribed = [
        f"{node['name']}.{column}"
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1] == "marts"
        for column, spec in node["columns"].items()
        if not spec["description"]
    ]
    assert undescribed == []


def test_a_mistyped_parameter_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match="top_m: no such parameter, perhaps top_n is meant"):
        Parameters.load({"top_m": 3})
    with pytest.raises(SettingsError, match=r"zzzzzz: no such parameter\."):
        Parameters.load({"zzzzzz": 3})
