"""Judging rows before they replace what is published: by the table's own checks, on a lake that reads the new rows.

Here: running these checks ahead, and refusing. Not here: a rule (`look_ahead.py`). The checks run again as Dagster's
steps, on the table as it is published; this only sees to it that what fails is not.
"""

from typing import cast

import dagster as dg
import pyarrow as pa

from etf_pipeline.checks.look_ahead import checks_of_rows
from etf_pipeline.checks.verdict import ERROR
from etf_pipeline.resources.pipeline import Pipeline


def require_sound(
    context: dg.AssetExecutionContext,
    pipeline: Pipeline,
    table: str,
    rows: pa.Table,
) -> None:
    """Require that `rows`, in the place of the published `table`, pass those of its checks that fail as errors.

    Rows that do not stay in the lake's folder `build/candidate` to be looked at.

    Raises:
        dagster.Failure: a check with severity ERROR failed; what was published stays.
    """
    lake = pipeline.lake.with_candidate(table, rows, pipeline.parameters.hash)
    failed = {}
    for check in checks_of_rows(table):
        (spec,) = check.check_specs
        result = cast(dg.AssetCheckResult, check(pipeline=pipeline.on(lake)))
        if result.passed or result.severity != ERROR:
            continue
        failed[spec.name] = dg.MetadataValue.text(_shown(result))
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=False,
                metadata=result.metadata,
                severity=ERROR,
                blocking=spec.blocking,
            )
        )
    if failed:
        raise dg.Failure(
            f"{table} is not replaced, and what was published before stays: the new rows fail {', '.join(failed)}. "
            f"They lie in {lake.published_path(table)}",
            metadata=failed,
        )
    lake.published_path(table).unlink()


def _shown(result: dg.AssetCheckResult) -> str:
    counts = {name: value.value for name, value in result.metadata.items() if name != "broken_rows"}
    return ", ".join(f"{name}: {value}" for name, value in counts.items())
