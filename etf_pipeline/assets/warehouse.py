"""Warehouse assets: the dbt models, built in a private DuckDB file and published as Parquet when their tests pass.

Here: running dbt, turning its results into Dagster events, exporting marts. Not here: SQL (`dbt_project/`).
"""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation
from dagster_dbt.asset_utils import DAGSTER_DBT_UNIQUE_ID_METADATA_KEY, build_dbt_specs

from etf_pipeline.resources import increment
from etf_pipeline.resources.dbt import InstalledDbt, dbt_vars, load_manifest
from etf_pipeline.resources.lake import Lake, exclusive_lock
from etf_pipeline.resources.pipeline import Pipeline

SQL_UNIT_TESTS = "sql_unit_tests"


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
    """One multi-asset of all dbt models with their data tests as asset checks."""
    manifest = load_manifest()
    specs, data_tests = build_dbt_specs(
        translator=LayerTranslator(),
        manifest=manifest,
        select="fqn:*",
        exclude="",
        selector="",
        io_manager_key=None,
        project=None,
    )

    @dg.multi_asset(
        name="warehouse",
        specs=specs,
        check_specs=data_tests,
        can_subset=True,
        allow_arbitrary_check_specs=True,
    )
    def warehouse(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetMaterialization | dg.Output | dg.AssetCheckResult | dg.AssetObservation]:
        lake = pipeline.lake
        with _warehouse(pipeline):
            refresh = _open_window(context, pipeline, manifest) if context.selected_asset_keys else []
            invocation = InstalledDbt().cli(
                ["build", *refresh, "--exclude-resource-type", "unit_test", "--vars", json.dumps(dbt_vars(pipeline))],
                manifest=manifest,
                dagster_dbt_translator=LayerTranslator(),
                raise_on_error=False,
                context=context,
                target_path=_target(lake),
            )
            yield from invocation.stream()
            results = _results(invocation)
            failures = [r for r in results if r["status"] in ("error", "fail")]
            if failures or not invocation.is_successful():
                raise dg.Failure(
                    f"{len(failures)} dbt nodes failed; nothing was published",
                    metadata={r["unique_id"]: (r["message"] or r["status"])[:1000] for r in failures},
                )
            built = {r["unique_id"] for r in results if r["status"] == "success"}
            with duckdb.connect(lake.warehouse, read_only=True) as connection:
                # it would write over the command's own output once a table takes seconds
                connection.execute("SET enable_progress_bar = false")
                for unique_id in sorted(built):
                    node = manifest["nodes"].get(unique_id)
                    if node and _layer(node) == "marts":
                        _publish(connection, pipeline, node)
            if context.selected_asset_keys == {spec.key for spec in specs}:
                with duckdb.connect(lake.warehouse) as connection:
                    increment.finish(connection)
            lake.build_catalogue()

    return [warehouse]


def _open_window(context: dg.AssetExecutionContext, pipeline: Pipeline, manifest: Mapping[str, Any]) -> list[str]:
    """Settle which sessions are computed anew; what dbt has to be told of it."""
    settings = [pipeline.parameters.dbt_vars(), pipeline.lake.source_label, pipeline.deployment.end]
    with duckdb.connect(pipeline.lake.warehouse) as connection:
        start = increment.begin(connection, manifest, settings, pipeline.parameters.share_value_age_limit_sessions)
    if start is None:
        context.log.info("All sessions are computed.")
        return ["--full-refresh"]
    context.log.info("Sessions from %s on are computed; nothing that earlier ones depend on has changed.", start)
    return []


def sql_unit_tests() -> dg.AssetChecksDefinition:
    """The dbt unit tests as asset checks. They judge the SQL, not the data, so daily runs leave them out."""
    manifest = load_manifest()
    specs = _unit_test_specs(manifest)

    @dg.multi_asset_check(name=SQL_UNIT_TESTS, specs=list(specs.values()), can_subset=True)
    def run_unit_tests(
        context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {i: spec for i, spec in specs.items() if spec.key in context.selected_asset_check_keys}
        with _warehouse(pipeline):
            selection = " ".join(sorted(spec.name for spec in selected.values()))
            invocation = InstalledDbt().cli(
                ["test", "--select", selection, "--vars", json.dumps(dbt_vars(pipeline))],
                raise_on_error=False,
                target_path=_target(pipeline.lake),
            )
            results = {r["unique_id"]: r for r in _results(invocation.wait())}
        for unique_id, spec in selected.items():
            yield _judge(spec, results.get(unique_id))

    return run_unit_tests


def _judge(spec: dg.AssetCheckSpec, result: Mapping[str, Any] | None) -> dg.AssetCheckResult:
    # a test whose model was never built cannot run, and says so
    message = "dbt did not run it" if result is None else result["message"] or "as expected"
    return dg.AssetCheckResult(
        passed=result is not None and result["status"] == "pass",
        asset_key=spec.asset_key,
        check_name=spec.name,
        metadata={"message": message},
    )


@contextlib.contextmanager
def _warehouse(pipeline: Pipeline) -> Iterator[None]:
    """The private database, for this step alone, with views of the raw data as they are now."""
    lake = pipeline.lake
    # one build at a time, whoever started it: a lock of the system, since a pool keeps the slot of a killed run
    with exclusive_lock(lake.warehouse.with_suffix(".lock")):
        with _connect_when_free(lake.warehouse) as connection:
            lake.create_raw_views(connection, pipeline.deployment.end)
        yield


def _target(lake: Lake) -> Path:
    return lake.warehouse.parent / "dbt"


def _results(invocation: DbtCliInvocation) -> list[dict[str, Any]]:
    """What became of each node.

    Raises:
        dagster.Failure: dbt itself failed (exit code 2), so that the results that lie there are of an earlier command.
    """
    if invocation.process.returncode not in (0, 1):
        raise dg.Failure(f"dbt failed: {invocation.get_error()}")
    return invocation.get_artifact("run_results.json")["results"]


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


def _publish(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, node: Mapping[str, Any]) -> None:
    order = ", ".join(node["config"]["meta"]["key"])
    rows = connection.sql(f"SELECT * FROM {node['alias']} ORDER BY {order}").to_arrow_table()
    pipeline.lake.publish(node["name"], rows, pipeline.parameters.hash)
