"""Sensors that tell people: a run failed, a check began to fail, holdings are new. They start no runs.

A message that no channel took is sent again with the next tick (failed runs excepted: Dagster moves on by itself). A
check that keeps failing is told once, until it has passed. The first tick only notes where things stand, so that
starting a sensor sends no history.
"""

import hashlib
import json
from typing import Any

import dagster as dg

from etf_pipeline.automation import newest_evaluation
from etf_pipeline.notify import FailedCheck, Notifier, checks_failed, lost, new_holdings, outcome, run_failed
from etf_pipeline.resources.pipeline import Pipeline


def alert_sensors(pipeline: Pipeline) -> list[dg.SensorDefinition]:
    """The three sensors; channels are read from the environment at every tick."""
    return [_run_failure(), _check_failed(), _new_holdings(pipeline)]


def _run_failure() -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="run_failure",
        description="Tells when a run failed: job, steps and errors.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def run_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason:
        errors = {}
        for event in context.get_step_failure_events():
            error = event.step_failure_data.error
            cause = (error.cause or error) if error else None
            errors[event.step_key or "step"] = cause.message if cause else "no message"
        run = context.dagster_run
        message = run_failed(run.job_name, run.run_id, errors or {"run": context.failure_event.message or "no message"})
        return dg.SkipReason(outcome(Notifier.from_env().send(message)))

    return run_failure


def _check_failed() -> dg.SensorDefinition:
    """Cursor: the checks that failed when last looked at, each with its severity."""

    @dg.sensor(
        name="check_failed",
        minimum_interval_seconds=60,
        description="Tells when a check begins to fail or becomes an error: asset, check and what to do.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def check_failed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None
        keys = sorted(context.repository_def.asset_graph.asset_check_keys)
        # the newest of each check: the run log of a lake is a file a run, and has no order over all of them
        latest = context.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        before: dict[str, str] | None = json.loads(context.cursor) if context.cursor else None
        failing, begun = dict(before or {}), []
        for key, record in latest.items():
            evaluation, _ = newest_evaluation(record)
            if evaluation is None:
                # under way: what it was counts until it has ended
                continue
            name = f"{key.asset_key.to_user_string()}:{key.name}"
            known = failing.pop(name, None)
            if not evaluation.passed:
                failing[name] = evaluation.severity.value
                if known not in (failing[name], "ERROR"):
                    begun.append(evaluation)
        if before is None:
            return _told(f"from now on; {len(failing)} checks fail already", failing)
        if not begun:
            return _told(f"{len(latest)} checks, none newly failed", failing)
        deliveries = Notifier.from_env().send(checks_failed([_failed(context, e) for e in begun]))
        names = ", ".join(f"{e.asset_key.to_user_string()}:{e.check_name}" for e in begun)
        return _told(f"{names}: {outcome(deliveries)}", before if lost(deliveries) else failing)

    return check_failed


def _failed(context: dg.SensorEvaluationContext, evaluation: Any) -> FailedCheck:
    assert context.repository_def is not None
    key = dg.AssetCheckKey(evaluation.asset_key, evaluation.check_name)
    graph: Any = context.repository_def.asset_graph
    description = graph.get(key).description if key in graph.asset_check_keys else None
    found = {name: value.value for name, value in evaluation.metadata.items()}
    # tables and nested values are for the UI
    shown = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    short = {name: value for name, value in shown.items() if "\n" not in str(value)}
    words = evaluation.description or "; ".join(f"{name}: {value}" for name, value in short.items())
    return FailedCheck(
        evaluation.asset_key.to_user_string(),
        evaluation.check_name,
        evaluation.severity == dg.AssetCheckSeverity.ERROR,
        words[:300],
        description or "",
    )


def _told(reason: str, cursor: dict[str, Any]) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=json.dumps(cursor))


def _new_holdings(pipeline: Pipeline) -> dg.SensorDefinition:
    """Cursor: signal date and fingerprint of the holdings that were told last."""

    @dg.sensor(
        name="new_holdings",
        minimum_interval_seconds=60,
        description="Tells the holdings of a new signal date, or that those of the newest changed.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def holdings(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # the table is replaced in one step, after the blocking checks of what it is made of
        if not pipeline.lake.published_path("strategy_holdings").exists():
            return _told("no holdings yet", {"signal": None})
        published = pipeline.lake.read_published("strategy_holdings")
        newest = published[published["signal_date"] == published["signal_date"].max()]
        if newest.empty:
            return _told("no date holds anything", {"signal": None})
        content = newest.sort_values("rank")[["industry_code", "weight"]].to_csv(index=False)
        state = {
            "signal": f"{newest['signal_date'].iloc[0]:%Y-%m-%d}",
            "content": hashlib.sha256(content.encode()).hexdigest()[:16],
        }
        before = json.loads(context.cursor or "{}")
        if not context.cursor or before == state:
            return _told(f"holdings of {state['signal']} are known", state)
        deliveries = Notifier.from_env().send(new_holdings(newest, changed=before.get("signal") == state["signal"]))
        return _told(f"{state['signal']}: {outcome(deliveries)}", before if lost(deliveries) else state)

    return holdings
