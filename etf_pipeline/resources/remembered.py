"""How a lake was filled: the deployment of its last run that succeeded, kept for what works on the lake later."""

from pathlib import Path
from typing import Any

from etf_pipeline.resources.storage import read_json, write_json
from etf_pipeline.settings import Deployment


def remembered(lake: Path) -> dict[str, Any]:
    """How the lake was filled, with the gateways of now; nothing where that is not known."""
    path = lake / "deployment.json"
    return {**read_json(path), "gateways": Deployment.from_env().gateways} if path.exists() else {}


def remember(deployment: Deployment) -> None:
    """Keep how the lake was filled. An evening's run does not narrow what it spans."""
    if earlier := remembered(deployment.lake):
        first = Deployment.model_validate(earlier).start
        start = min(first, deployment.start) if first and deployment.start else None
        deployment = deployment.model_copy(update={"start": start})
    settings = deployment.model_dump(mode="json", exclude={"gateways"})
    write_json(deployment.lake / "deployment.json", settings, private=True)
