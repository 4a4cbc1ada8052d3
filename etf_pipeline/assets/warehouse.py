"""Warehouse assets: the dbt models, built in a private DuckDB file and published as Parquet when their tests pass.

Here: running dbt, turning its results into Dagster events, exporting marts. Not here: SQL (`dbt_project/`).
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DagsterDbtTranslator, DbtCliResource
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, build_dbt_specs

from etf_pipeline.resources.dbt import PROJECT_DIR, dbt_executable, dbt_vars, load_manifest
from etf_pipeline.resources.lake import exclusive_lock
from etf_pipeline.resources.pipeline import Pipeline


class LayerTranslator(DagsterDbtTranslator):
    """Names dbt resources by their layer: `raw/etf_share`, `staging/stg_etf__share`, `marts/industry_weekly`."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Key `<layer>/<name>`; the layer of a source is its schema, that of a model its folder."""
        return dg.AssetKey([_layer(dbt_resource_props), dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """The layer."""
        return _layer(dbt_resource_props)


def _layer(props: Mapping[str, Any]) -> str:
    return props["source_name"] if props["resource_type"] == "source" else props["fqn"][1]


def _unit_test_specs(manifest: Mapping[str, Any]) -> dict[str, dg.AssetCheckSpec]:
    # dagster-dbt makes checks of data tests only
    model_keys = {
        node["name"]: LayerTranslator().get_asset_key(node)
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }
    return {
        unique_id: dg.AssetCheckSpec(
            name=test["name"],
            asset=model_keys[test["model"]],
            description=test.get("description") or None,
            metadata={DAGSTER_DBT_UNIQUE_ID_METADATA_KEY: unique_id},
        )
        for unique_id, test in manifest["unit_tests"].items()
    }


def warehouse_assets() -> list[dg.AssetsDefinition]:
    """One multi-asset of all dbt models with their data tests and unit tests as asset checks."""
    manifest = load_manifest()
    translator = LayerTranslator()
    specs, data_tests = build_dbt_specs(
        translator=translator,
        manifest=manifest,
        select="fqn:*",
        exclude="",
        selector="",
        io_manager_key=None,
        project=None,
    )
    unit_tests = _unit_test_specs(manifest)

    @dg.multi_asset(
        name="warehouse",
        specs=specs,
        check_specs=[*data_tests, *unit_tests.values()],
        can_subset=True,
        allow_arbitrary_check_specs=True,
    )
    def warehouse(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetMaterialization | dg.Output | dg.AssetCheckResult | dg.AssetObservation]:
        lake = pipeline.lake
        # one build at a time, whoever started it: a lock of the system, since a pool keeps the slot of a killed run
        with exclusive_lock(lake.warehouse.with_suffix(".lock")):
            with _connect_when_free(lake.warehouse) as connection:
                lake.create_raw_views(connection, pipeline.deployment.end)
            target = lake.warehouse.parent / "dbt"
            invocation = DbtCliResource(
                project_dir=str(PROJECT_DIR), profiles_dir=str(PROJECT_DIR), dbt_executable=dbt_executable()
            ).cli(
                ["build", "--vars", json.dumps(dbt_vars(pipeline))],
                manifest=manifest,
                dagster_dbt_translator=translator,
                raise_on_error=False,
                context=context,
                target_path=target,
            )
            yield from invocation.stream()
            results = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
            yield from _unit_test_results(results, unit_tests, context.selected_asset_check_keys)
            failures = [r for r in results if r["status"] in ("error", "fail")]
            if failures or not invocation.is_successful():
                raise dg.Failure(
                    f"{len(failures)} dbt nodes failed; nothing was published",
                    metadata={r["unique_id"]: (r["message"] or r["status"])[:1000] for r in failures},
                )
            built = {r["unique_id"] for r in results if r["status"] == "success"}
            with duckdb.connect(lake.warehouse, read_only=True) as connection:
                for unique_id in sorted(built):
                    node = manifest["nodes"].get(unique_id)
                    if node and _layer(node) == "marts":
                        _publish(connection, pipeline, node)
            lake.build_catalogue()

    return [warehouse]


def _connect_when_free(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the private database; a dbt left over from a killed run may hold it for some seconds more.

    Raises:
        duckdb.IOException: it is still held after three minutes.
    """
    deadline = time.monotonic() + 180
    while True:
        try:
            return duckdb.connect(path)
        except duckdb.IOException as error:
            if "lock" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def _unit_test_results(
    results: list[dict[str, Any]], specs: Mapping[str, dg.AssetCheckSpec], selected: set[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckResult]:
    for result in results:
        spec = specs.get(result["unique_id"])
        # a test skipped because its model failed to build says nothing about the model
        if spec and spec.key in selected and result["status"] != "skipped":
            yield dg.AssetCheckResult(
                passed=result["status"] == "pass",
                asset_key=spec.asset_key,
                check_name=spec.name,
                metadata={"seconds": result["execution_time"], "message": result["message"] or "as expected"},
            )


def _publish(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, node: Mapping[str, Any]) -> None:
    order = ", ".join(node["config"]["meta"]["key"])
    rows = connection.sql(f"SELECT * FROM {node['alias']} ORDER BY {order}").to_arrow_table()
    pipeline.lake.publish(node["name"], rows, pipeline.parameters.hash)
