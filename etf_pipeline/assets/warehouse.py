"""Warehouse assets: the dbt models, built in a private DuckDB file and published as Parquet when their tests pass.

Here: running dbt, turning its results into Dagster events, exporting marts. Not here: SQL (`dbt_project/`).
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
from dagster_dbt import DagsterDbtTranslator
from dagster_dbt.asset_utils import (
    DAGSTER_DBT_UNIQUE_ID_METADATA_KEY,
    build_dbt_specs,
    get_subset_selection_for_context,
)

from etf_pipeline.checks.verdict import markdown
from etf_pipeline.resources import increment
from etf_pipeline.resources.dbt import DbtCommand, NodeResult, load_manifest
from etf_pipeline.resources.increment import Window
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import damage, exclusive_lock, is_held

SQL_UNIT_TESTS = "sql_unit_tests"
_PREVIEW_ROWS = 8
_CORRUPT = ("Corrupt database file", "Could not read enough bytes from file")
"""DuckDB's words for a block that is not what was written, and for a file that ends before one."""


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
    models, tests = {spec.key for spec in specs}, {spec.key for spec in data_tests}

    @dg.multi_asset(
        name="warehouse",
        specs=specs,
        check_specs=data_tests,
        can_subset=True,
        allow_arbitrary_check_specs=True,
    )
    def warehouse(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[
        dg.AssetMaterialization | dg.Output | dg.AssetCheckResult | dg.AssetObservation | dg.AssetCheckEvaluation
    ]:
        lake = pipeline.lake
        with _warehouse(pipeline), _made_anew_if_corrupt(lake):
            arguments = ["build", "--exclude-resource-type", "unit_test", *_selection(context, manifest)]
            window = None
            if context.selected_asset_keys:
                window = _open_window(context, pipeline, manifest)
                arguments += [] if window else ["--full-refresh"]
            dbt = DbtCommand(pipeline, *arguments, window=window)
            translator = LayerTranslator()
            marts: dict[str, dg.Output] = {}
            for event in dbt.events():
                for made in event.to_default_asset_events(manifest, translator, context):
                    if (
                        isinstance(made, dg.Output)
                        and context.asset_key_for_output(made.output_name).path[0] == "marts"
                    ):
                        # told once it is published, with what it holds
                        marts[context.asset_key_for_output(made.output_name).path[-1]] = made
                    else:
                        yield made
            failures = [result for result in dbt.results if result.status in ("error", "fail")]
            if failures:
                raise dg.Failure(
                    f"{len(failures)} dbt nodes failed; nothing was published",
                    metadata={node.unique_id: (node.message or node.status)[:1000] for node in failures},
                )
            built = [result.unique_id for result in dbt.results if result.status == "success"]
            with duckdb.connect(lake.warehouse, read_only=True) as connection:
                # it would write over the command's own output once a table takes seconds
                connection.execute("SET enable_progress_bar = false")
                # in the order they were built: an asset may not be told before those it is made from
                for unique_id in built:
                    node = manifest["nodes"].get(unique_id)
                    if node and _layer(node) == "marts":
                        _publish(connection, pipeline, node, window)
                        made = marts[node["name"]]
                        metadata = {**made.metadata, **_described(connection, node)}
                        yield dg.Output(None, output_name=made.output_name, metadata=metadata)
            # what was not computed or not tested now is, with the next build
            if context.selected_asset_keys == models and context.selected_asset_check_keys == tests:
                with duckdb.connect(lake.warehouse) as connection:
                    increment.finish(connection)
            lake.build_catalogue()

    return [warehouse]


def _open_window(context: dg.AssetExecutionContext, pipeline: Pipeline, manifest: Mapping[str, Any]) -> Window | None:
    """Settle which sessions are computed anew: those of a window, or None for all."""
    settings = [pipeline.parameters.dbt_vars(), pipeline.lake.source_label, pipeline.deployment.end]
    with duckdb.connect(pipeline.lake.warehouse) as connection:
        window = increment.begin(connection, manifest, settings, pipeline.parameters.share_value_age_limit_sessions)
    if window is None:
        context.log.info("All sessions are computed.")
    else:
        context.log.info(
            "Sessions from %s on are computed; nothing that earlier ones depend on has changed.", window.computed_from
        )
    return window


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
            names = sorted(spec.name for spec in selected.values())
            results = {node.unique_id: node for node in DbtCommand(pipeline, "test", "--select", *names).run()}
        for unique_id, spec in selected.items():
            yield _judge(spec, results.get(unique_id))

    return run_unit_tests


def _judge(spec: dg.AssetCheckSpec, result: NodeResult | None) -> dg.AssetCheckResult:
    # a test whose model was never built cannot run, and says so
    message = "dbt did not run it" if result is None else result.message or "as expected"
    return dg.AssetCheckResult(
        passed=result is not None and result.status == "pass",
        asset_key=spec.asset_key,
        check_name=spec.name,
        metadata={"message": message},
    )


def _selection(context: dg.AssetExecutionContext, manifest: Mapping[str, Any]) -> list[str]:
    """Arguments for the models and data tests that this step is asked for."""
    selection, indirect = get_subset_selection_for_context(
        context=context,
        manifest=manifest,
        select=None,
        exclude=None,
        selector=None,
        dagster_dbt_translator=LayerTranslator(),
        current_dbt_indirect_selection_env=None,
    )
    return [*selection, *(["--indirect-selection", indirect] if indirect else [])]


@contextlib.contextmanager
def _warehouse(pipeline: Pipeline) -> Iterator[None]:
    """The private database, for this step alone, with views of the raw data as they are now."""
    lake = pipeline.lake
    # one build at a time, whoever started it: a lock of the system, since a pool keeps the slot of a killed run
    with exclusive_lock(lake.warehouse.with_suffix(".lock")):
        with _open(lake) as connection:
            lake.create_raw_views(connection, pipeline.deployment.end)
        yield


@contextlib.contextmanager
def _made_anew_if_corrupt(lake: Lake) -> Iterator[None]:
    """Once a block of the private database is not what was written, as DuckDB's checksums tell, all is built anew."""
    try:
        yield
    except (duckdb.Error, dg.Failure) as error:
        told = f"{error} {error.metadata if isinstance(error, dg.Failure) else ''}"
        if not any(words in told for words in _CORRUPT):
            raise
        lake.remove_warehouse()
        raise dg.RetryRequested(max_retries=1) from error


def _open(lake: Lake) -> duckdb.DuckDBPyConnection:
    """The private database; one that is no database, or a damaged one, gives way to an empty one."""
    try:
        return _connect_when_free(lake.warehouse)
    except duckdb.Error as error:
        if is_held(error):
            raise
        lake.remove_warehouse()
        return duckdb.connect(lake.warehouse)


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
            if not is_held(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def _described(connection: duckdb.DuckDBPyConnection, node: Mapping[str, Any]) -> dict[str, Any]:
    """What the Dagster UI shows of a mart: how many rows, its newest day, and the last rows by its key."""
    key = node["config"]["meta"]["key"]
    days = [name for name in key if node["columns"][name].get("data_type") == "date"]
    figures = ", ".join(["count(*)", *(f"max({name})" for name in days)])
    (counted,) = connection.execute(f"SELECT {figures} FROM {node['alias']}").fetchall()
    order = ", ".join(f"{name} DESC" for name in (*days, *(name for name in key if name not in days)))
    rows = connection.sql(f"SELECT * FROM {node['alias']} ORDER BY {order} LIMIT {_PREVIEW_ROWS}").df()
    return {
        "dagster/row_count": counted[0],
        **{f"newest_{name}": f"{day}" for name, day in zip(days, counted[1:], strict=True)},
        "preview": markdown(rows),
    }


def _publish(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, node: Mapping[str, Any], window: Window | None
) -> None:
    """Publish a mart; of one that keeps its rows from before the window only the years from then on."""
    lake, name, settings_hash = pipeline.lake, node["name"], pipeline.parameters.hash
    order = ", ".join(node["config"]["meta"]["key"])
    present = lake.published_years(name)

    def rows(where: str) -> pa.Table:
        with connection.cursor() as cursor:
            return cursor.sql(f"SELECT * FROM {node['alias']} WHERE {where} ORDER BY {order}").to_arrow_table()

    def rows_of(year: int) -> Callable[[], pa.Table] | None:
        if window and year < window.computed_from.year and year in present and not damage(present[year]):
            return None
        return lambda: rows(f"{day} BETWEEN DATE '{year}-01-01' AND DATE '{year}-12-31'")

    day = node["config"]["unique_key"] if node["config"]["materialized"] == "incremental" else None
    years = connection.sql(f"SELECT DISTINCT year({day}) FROM {node['alias']} ORDER BY ALL").fetchall() if day else []
    if years:
        lake.publish_years(name, {year: rows_of(year) for (year,) in years}, settings_hash)
    else:
        lake.publish(name, rows("true"), settings_hash)
