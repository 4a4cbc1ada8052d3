"""Published Python tables against their description in `tables.py`.

Here: what holds for any table. Not here: what its numbers mean. Tables of dbt have their contract in `marts.yml`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etf_pipeline.checks.passed import Passed
from etf_pipeline.checks.verdict import verdict
from etf_pipeline.resources.digests import digest_of
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import read_table, rows_in
from etf_pipeline.settings import Parameters
from etf_pipeline.tables import (
    ACTIVE_HOLDINGS,
    ANALYTICS_TABLES,
    FACTOR_SCORES,
    REBALANCE_DATES,
    STRATEGY_HOLDINGS,
    STYLE_REGIME,
    Table,
)
from etf_pipeline.tables import etf_daily as etf_daily_table

_FILES_AT_ONCE = 2


def schema_checks(parameters: Parameters) -> list[dg.AssetChecksDefinition]:
    """The check `schema` of every table Python publishes; that of factor_scores blocks what is made from it."""
    layers = {
        "factors": [etf_daily_table(parameters.rsi_periods), STYLE_REGIME, ACTIVE_HOLDINGS, FACTOR_SCORES],
        "strategy": [REBALANCE_DATES, STRATEGY_HOLDINGS],
        "analytics": ANALYTICS_TABLES,
    }
    return [_schema_check(layer, table) for layer, tables in layers.items() for table in tables]


def _schema_check(layer: str, table: Table) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name="schema",
        asset=dg.AssetKey([layer, table.name]),
        blocking=table is FACTOR_SCORES,
        description=(
            "The stored file has exactly the columns and types of tables.py, a unique key without holes and finite "
            "numbers, and comes from this lake's source with the current parameters. "
            "When it fails: materialise the table again, for all its dates."
        ),
    )
    def schema(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        files = pipeline.lake.published_files(table.name)
        rules = digest_of(
            Path(__file__), f"{table.schema} {table.key}", pipeline.lake.source_label, pipeline.parameters.hash
        )
        # no rule spans two files
        passed = Passed(pipeline.lake, f"schema.{table.name}", {file: digest_of(rules, file) for file in files})
        changed = passed.changed()
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            by_file = list(pool.map(lambda file: list(_violations(table, file, pipeline)), changed))
        found = [violation for violations in by_file for violation in violations]
        passed.record(file for file, violations in zip(changed, by_file, strict=True) if not violations)
        if not files:
            found.append(("published", "", "", f"no file {table.name}.parquet, and none of a year"))
        broken = pd.DataFrame(found, columns=["rule", "file", "column", "found"])
        return verdict(
            broken,
            rows_in(files),
            settings_hash=pipeline.parameters.hash,
            files_changed_since_they_passed=len(changed),
        )

    return schema


def _violations(table: Table, file: Path, pipeline: Pipeline) -> Iterator[tuple[str, str, str, str]]:
    """Rule, file, column and what was found, of all that a published file breaks."""
    for rule, column, found in _broken_rules(table, file, pipeline):
        yield rule, file.name, column, found


def _broken_rules(table: Table, file: Path, pipeline: Pipeline) -> Iterator[tuple[str, str, str]]:
    stored = read_table(file)
    wanted = {field.name: str(field.type) for field in table.schema}
    present = {field.name: str(field.type) for field in stored.schema}
    for column in sorted(wanted.keys() | present.keys()):
        if wanted.get(column) != present.get(column):
            found = f"{present.get(column, 'absent')}, described as {wanted.get(column, 'absent')}"
            yield "columns and types as described", column, found
    metadata = stored.schema.metadata or {}
    label, settings = pipeline.lake.source_label, pipeline.parameters.hash
    for name, value in (("source", label), ("settings_hash", settings)):
        if (kept := metadata.get(name.encode(), b"").decode()) != value:
            yield f"file made with {name} {value!r}", "", repr(kept)
        if name in stored.column_names:
            others = set(stored[name].unique().to_pylist()) - {value}
            if others:
                yield f"only {value!r}", name, ", ".join(map(repr, sorted(others, key=str)))
    yield from _broken_keys(table, stored)
    if file.stem.isdigit():
        # with it, no key of one year's file can be in another's too
        for day in (column for column in table.key if pa.types.is_date(table.schema.field(column).type)):
            others = pc.sum(pc.not_equal(pc.year(stored[day]), int(file.stem))).as_py()
            if others:
                yield f"rows of {file.stem}", day, f"{others} of other years"
    for field in stored.schema:
        if pa.types.is_floating(field.type):
            odd = (
                stored.num_rows
                - stored[field.name].null_count
                - (pc.sum(pc.is_finite(stored[field.name])).as_py() or 0)
            )
            if odd:
                yield "finite", field.name, f"{odd} values infinite or not a number"


def _broken_keys(table: Table, stored: pa.Table) -> Iterator[tuple[str, str, str]]:
    key = [column for column in table.key if column in stored.column_names]
    for column in key:
        if stored[column].null_count:
            yield "key without holes", column, f"{stored[column].null_count} empty"
    counts = stored.group_by(key).aggregate([([], "count_all")]) if key else stored.slice(0, 0)
    repeated = stored.num_rows - counts.num_rows
    if repeated:
        yield "one row per key", ", ".join(key), f"{repeated} rows too many"
