"""Everything Dagster knows of this project, assembled. Loading it needs no data, no network and no lake."""

import warnings
from collections.abc import Iterator

import dagster as dg

from etf_pipeline.alerts import alert_sensors
from etf_pipeline.assets.analytics import ANALYTICS_ASSETS
from etf_pipeline.assets.factors import FACTOR_ASSETS
from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.assets.reports import report
from etf_pipeline.assets.strategy import strategy_assets
from etf_pipeline.assets.warehouse import sql_unit_tests, warehouse_assets
from etf_pipeline.automation import automation_jobs, automation_schedules, automation_sensors
from etf_pipeline.checks.accounting import accounting_checks
from etf_pipeline.checks.expectations import expectation_checks
from etf_pipeline.checks.freshness import freshness_checks
from etf_pipeline.checks.look_ahead import look_ahead_checks
from etf_pipeline.checks.overlap import overlap_checks
from etf_pipeline.checks.research import research_checks
from etf_pipeline.checks.schema import schema_checks
from etf_pipeline.drop_folder import drop_folder_sensor
from etf_pipeline.resources.pipeline import FIRST_DAY, Pipeline
from etf_pipeline.settings import Deployment


def build_defs(deployment: Deployment | None = None, pipeline: Pipeline | None = None) -> dg.Definitions:
    """All assets, checks, jobs, schedules and sensors of one deployment; by default the one the environment names.

    A `pipeline` already in use brings its deployment, and its source need not be read again.

    Raises:
        SettingsError: the environment or a parameter cannot be used.
    """
    pipeline = pipeline or Pipeline(deployment or Deployment.from_env())
    with warnings.catch_warnings():
        # of parameters that may change in a coming version of Dagster; the lock file pins the one in use
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _definitions(pipeline)


def _definitions(pipeline: Pipeline) -> dg.Definitions:
    deployment = pipeline.deployment
    start = deployment.start or FIRST_DAY[deployment.source]
    jobs = automation_jobs(pipeline)
    return dg.Definitions(
        assets=[
            *raw_assets(start, deployment.end),
            *warehouse_assets(),
            *FACTOR_ASSETS,
            *strategy_assets(pipeline.parameters, start, deployment.end),
            *ANALYTICS_ASSETS,
            report,
        ],
        asset_checks=[
            sql_unit_tests(),
            *expectation_checks(),
            *overlap_checks(),
            *schema_checks(pipeline.parameters),
            *freshness_checks(),
            *accounting_checks(),
            *look_ahead_checks(),
            *research_checks(),
        ],
        jobs=jobs,
        schedules=automation_schedules(pipeline),
        sensors=[*automation_sensors(pipeline, jobs), drop_folder_sensor(pipeline, jobs), *alert_sensors(pipeline)],
        resources={"pipeline": _at_work(pipeline)},
        # a process a step would import everything anew, six seconds each time
        executor=dg.in_process_executor,
    )


def _at_work(pipeline: Pipeline) -> dg.ResourceDefinition:
    """The pipeline for as long as a run lasts, during which no other works on its lake."""

    @dg.resource
    def resource(context: dg.InitResourceContext) -> Iterator[Pipeline]:
        tell = context.log.info if context.log else print
        with pipeline.lake.at_work(tell):
            yield pipeline

    return resource


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster` loads."""
    return build_defs()
