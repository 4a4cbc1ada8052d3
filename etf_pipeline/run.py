"""Running the graph in this process, with its progress and what came of it on the console."""

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from etf_pipeline.partitions import keys_within
from etf_pipeline.resources.lake import atomic_path
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.show import console

_RESEARCH_GROUPS = {"analytics", "reports"}
_READ_BY_PEOPLE = {"Failure", "SourceError", "LakeError", "DamagedFile", "SettingsError", "CalendarEndError"}


def dagster_home(lake: Path) -> Path:
    """Folder of the lake's Dagster instance, with the packaged settings."""
    home = lake / ".dagster"
    home.mkdir(parents=True, exist_ok=True)
    with atomic_path(home / "dagster.yaml") as temporary:
        temporary.write_bytes(files("etf_pipeline").joinpath("dagster.yaml").read_bytes())
    return home


def execute(pipeline: Pipeline, what: Literal["everything", "results", "checks"], research: bool = True) -> bool:
    """Execute assets and checks in this process with progress; True if nothing failed that matters.

    "everything" is all assets with the checks of their data, "results" the same without raw data, "checks" all checks.
    Without `research` the groups analytics and reports are left out.
    """
    deployment = pipeline.deployment
    os.environ["DAGSTER_HOME"] = str(dagster_home(deployment.lake))
    import dagster as dg
    from dagster._core.utils import make_new_run_id

    from etf_pipeline.assets.warehouse import sql_unit_tests
    from etf_pipeline.definitions import build_defs

    run_id = make_new_run_id()
    log = deployment.lake / "build" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        pipeline.lake.at_work(console.print),
        log.open("w", encoding="utf-8") as stream,
        Progress(*columns, console=console, transient=True) as progress,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
        warnings.catch_warnings(action="ignore"),
        dg.DagsterInstance.get() as instance,
    ):
        job = build_defs(pipeline=pipeline).resolve_implicit_global_asset_job_def()
        graph = job.asset_layer.asset_graph
        assets, checks = set(graph.materializable_asset_keys), set(graph.asset_check_keys)
        if what == "checks":
            assets = set()
        else:
            # of the SQL, which is the same every day
            checks -= set(sql_unit_tests().check_keys)
        left_out = {"raw"} if what == "results" else set()
        if not research:
            left_out |= _RESEARCH_GROUPS
        assets = {key for key in assets if key.path[0] not in left_out}
        checks = {key for key in checks if key.asset_key.path[0] not in left_out}
        task = progress.add_task("Starting", total=len(assets) + len(checks))
        job = job.get_subset(asset_selection=assets, asset_check_selection=checks)
        instance.add_event_listener(run_id, _advance(progress, task))
        with telling(lambda text: progress.update(task, description=text)):
            result = job.execute_in_process(run_id=run_id, instance=instance, raise_on_error=False)
        _record_partitions(pipeline, result, instance)
    return _report(result, log)


def _record_partitions(pipeline: Pipeline, result: Any, instance: Any) -> None:
    """Tell the instance which partitions of its assets the run made: it knows of the assets as a whole."""
    graph, storage = result.job_def.asset_layer.asset_graph, instance.event_log_storage
    for event in result.filter_events(lambda e: e.is_step_materialization):
        made = event.step_materialization_data.materialization
        partitions = graph.get(made.asset_key).partitions_def
        if partitions is None:
            continue
        first, last = pipeline.span
        if made.asset_key.path[0] == "strategy":
            last = min(last, pipeline.lake.read_published("rebalance_dates")["signal_date"].max().date())
        present = instance.get_materialized_partitions(made.asset_key)
        new = [key for key in keys_within(partitions, first, last) if key not in present]
        if new:
            storage.store_partitions(made, new, result.run_id, result.job_def.name)


def _advance(progress: Progress, task: Any) -> Callable[[Any], None]:
    def listen(entry: Any) -> None:
        event = entry.dagster_event
        if event is None:
            return
        if event.is_step_start:
            progress.update(task, description=event.step_key.removeprefix("raw__"))
        elif event.event_type_value in ("ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"):
            progress.advance(task)

    return listen


@contextlib.contextmanager
def telling(tell: Callable[[str], Any]) -> Iterator[None]:
    """What sources log of their progress is told too."""
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: tell(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("etf_pipeline.sources")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _report(result: Any, log: Path) -> bool:
    import dagster as dg

    evaluations = result.get_asset_check_evaluations()
    failed = [e for e in evaluations if not e.passed]
    errors = [e for e in failed if e.severity == dg.AssetCheckSeverity.ERROR]
    for evaluation in failed:
        colour = "red" if evaluation in errors else "yellow"
        console.print(f"check {evaluation.severity.value.lower()}: ", style=colour, end="")
        name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        console.print(f"{name} ({_reason(evaluation)})")
    for event in result.filter_events(lambda e: e.is_step_failure):
        failure = event.step_failure_data.error
        cause = failure.cause or failure
        console.print(f"{event.step_key} failed: ", style="bold red", end="")
        console.print(_told(cause.message))
        if event.step_failure_data.user_failure_data:
            for name, value in event.step_failure_data.user_failure_data.metadata.items():
                console.print(f"  {name}: {value.value}")
    console.print(f"{len(evaluations)} checks, {len(errors)} errors, {len(failed) - len(errors)} warnings", style="dim")
    if not result.success:
        console.print(f"The run failed; what was published before stays. Log: {log}")
    return result.success and not errors


def _told(message: str) -> str:
    """An error's own words; its class only where it was not raised to be read, without the module it lies in."""
    found = re.match(r"(?:[\w.]*\.)?(\w+): ", message)
    if found is None:
        return message.strip()
    words = message[found.end() :].strip()
    return words if found[1] in _READ_BY_PEOPLE else f"{found[1]}: {words}"


def _reason(evaluation: Any) -> str:
    """What a failed check says: its own words, or how many rows of which test failed."""
    rows = evaluation.metadata.get("dagster_dbt/failed_row_count")
    if rows is not None:
        return f"{rows.value} rows"
    scalars = {name: value.value for name, value in evaluation.metadata.items() if not isinstance(value.value, dict)}
    shown = {name: value for name, value in scalars.items() if "\n" not in str(value)}
    return evaluation.description or "; ".join(f"{name}: {value}" for name, value in shown.items())[:300]
