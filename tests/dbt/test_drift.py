"""What the dbt project says about itself agrees with the contract, the parameters and what it builds."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from dagster_dbt import DagsterDbtTranslator
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from etf_pipeline.contract import load_contract
from etf_pipeline.resources.dbt import PROJECT_DIR, load_manifest
from etf_pipeline.resources.increment import Window
from etf_pipeline.settings import Parameters

pytestmark = pytest.mark.xdist_group("dbt")

PROMISED = {
    "industry_weekly": {
        "scheme",
        "week_end",
        "industry_code",
        "industry_name",
        "held_value_cny",
        "held_share_ratio",
        "penetration_ratio",
        "net_creation_cny",
    },
    "industry_daily": {
        "scheme",
        "trade_date",
        "industry_code",
        "industry_name",
        "held_value_cny",
        "held_share_ratio",
        "penetration_ratio",
        "net_creation_cny",
    },
    "stock_weekly": {"week_end", "stock_code", "held_value_cny", "net_creation_cny"},
    "look_through_coverage": {"week_end", "basis", "value_cny", "ratio"},
}
"""Columns that people build on; a table may gain others but loses none of these."""

Nodes = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def models() -> Nodes:
    return {n["name"]: n for n in load_manifest()["nodes"].values() if n["resource_type"] == "model"}


@pytest.fixture(scope="module")
def marts(models: Nodes) -> Nodes:
    return {name: node for name, node in models.items() if node["fqn"][1] == "marts"}


def test_sources_are_the_contract() -> None:
    sources = {s["name"]: set(s["columns"]) for s in load_manifest()["sources"].values()}
    assert sources == {name: set(dataset.column_names) for name, dataset in load_contract().items()}


def test_every_source_and_its_columns_are_described() -> None:
    sources = load_manifest()["sources"].values()
    empty = [s["name"] for s in sources if not s["description"]]
    empty += [f"{s['name']}.{c}" for s in sources for c, props in s["columns"].items() if not props["description"]]
    assert empty == []


def test_every_model_and_its_columns_are_described(models: Nodes) -> None:
    empty = [name for name, node in models.items() if not node["description"]]
    empty += [
        f"{n}.{c}" for n, node in models.items() for c, props in node["columns"].items() if not props["description"]
    ]
    assert empty == []


def test_every_test_is_described_and_attached_to_a_model() -> None:
    manifest = load_manifest()
    singular = [n for n in manifest["nodes"].values() if n["resource_type"] == "test" and not n.get("attached_node")]
    assert [n["name"] for n in [*singular, *manifest["unit_tests"].values()] if not n["description"]] == []
    tests = [unique_id for unique_id, n in manifest["nodes"].items() if n["resource_type"] == "test"]
    translator = DagsterDbtTranslator()
    assert tests
    assert [t for t in tests if get_asset_check_key_for_test(manifest, translator, t, None) is None] == []


def test_described_columns_are_those_built(models: Nodes, first_market: tuple[dict[str, pd.DataFrame], Path]) -> None:
    with duckdb.connect(first_market[1], read_only=True) as connection:
        rows = connection.sql(
            "SELECT table_name, list(column_name) FROM information_schema.columns "
            "WHERE table_schema = 'main' GROUP BY table_name"
        ).fetchall()
    built = {table: set(columns) for table, columns in rows}
    assert built == {name: set(node["columns"]) for name, node in models.items()}


def test_every_variable_is_a_parameter() -> None:
    files = [PROJECT_DIR / "profiles.yml", PROJECT_DIR / "dbt_project.yml"]
    files += [f for folder in ("models", "macros", "tests") for f in (PROJECT_DIR / folder).rglob("*.sql")]
    used = {
        name
        for f in files
        for name in re.findall(r"""(?:var|window_day)\(\s*['"](\w+)""", f.read_text(encoding="utf-8"))
    }
    assert used - set(Parameters.model_fields) == {*Window._fields, "source_label", "warehouse", "weight_set_minimum"}


def test_unit_tests_override_parameters_only() -> None:
    fixed = {v for t in load_manifest()["unit_tests"].values() for v in (t["overrides"] or {}).get("vars", {})}
    assert fixed <= set(Parameters.model_fields)


def test_every_mart_names_its_key(marts: Nodes) -> None:
    keys = {name: node["config"]["meta"].get("key") for name, node in marts.items()}
    assert all(keys.values())
    assert [n for n, key in keys.items() if not set(key) <= set(marts[n]["columns"])] == []


def test_every_mart_enforces_its_types_and_names_its_source(marts: Nodes) -> None:
    assert [n for n, node in marts.items() if not node["config"]["contract"]["enforced"]] == []
    assert [n for n, node in marts.items() if "source" not in node["columns"]] == []


@pytest.mark.parametrize("table", PROMISED)
def test_promised_columns_are_there(table: str, marts: Nodes) -> None:
    assert set(marts[table]["columns"]) >= PROMISED[table]
