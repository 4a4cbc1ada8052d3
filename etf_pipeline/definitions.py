"""Everything Dagster knows of this project, assembled. Loading it needs no data, no network and no lake."""

import dagster as dg

from etf_pipeline.assets.factors import FACTOR_ASSETS
from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.assets.strategy import strategy_assets
from etf_pipeline.assets.warehouse import warehouse_assets
from etf_pipeline.resources.pipeline import FIRST_DAY, Pipeline
from etf_pipeline.settings import Deployment


def build_defs(deployment: Deployment | None = None) -> dg.Definitions:
    """All assets, checks and jobs of one deployment; by default the one the environment names.

    Raises:
        SettingsError: the environment or a parameter cannot be used.
    """
    deployment = deployment or Deployment.from_env()
    pipeline = Pipeline(deployment)
    start = deployment.start or FIRST_DAY[deployment.source]
    return dg.Definitions(
        assets=[
            *raw_assets(start, deployment.end),
            *warehouse_assets(),
            *FACTOR_ASSETS,
            *strategy_assets(pipeline.parameters, start, deployment.end),
        ],
        resources={"pipeline": pipeline},
        # a process a step would import everything anew, six seconds each time
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What `dagster` loads."""
    return build_defs()
