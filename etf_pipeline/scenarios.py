"""What-if runs: everything but the raw data computed under other settings, beside what a lake publishes.

Here: what makes a run a what-if, its name, its lake inside the lake, and how it compares. Not here: running it.
"""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from etf_pipeline.contract import load_contract
from etf_pipeline.core.ledger import differing_dates
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import LakeError
from etf_pipeline.settings import Deployment, SettingsError

_FOLDER = "scenarios"
# without `=`: DuckDB and Arrow take a folder `top_n=50` for a column
_NAME = r"[\w+-][\w.+-]{0,99}"


def differences(lake: Lake, before: Deployment | None, wanted: Deployment) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from those of what the lake publishes: published and wanted value, by name.

    Besides parameters, `end` where it is earlier than the published data. Empty where nothing is published yet.

    Raises:
        SettingsError: the wanted end is before all data of the lake.
    """
    parameters = wanted.load_parameters()
    published = lake.published_path("strategy_holdings")
    differing: dict[str, tuple[Any, Any]] = {}
    if before:
        differing |= before.load_parameters().differing(parameters)
    elif published.exists():
        # a lake filled by the daemon: of its settings only the hash is known
        known = (pq.read_schema(published).metadata or {}).get(b"settings_hash", b"").decode()
        differing |= {"settings": (known, parameters.hash)} if known != parameters.hash else {}
    first, last = _held(lake)
    if before and before.end and last:
        last = min(last, before.end)
    if first and last and wanted.end and wanted.end < last:
        if wanted.end < first:
            raise SettingsError(f"--end {wanted.end} is before all data of the lake, which begin on {first}")
        differing["end"] = (last, wanted.end)
    return differing


def _held(lake: Lake) -> tuple[date | None, date | None]:
    dataset = load_contract()["etf_share"]
    return lake.first_day(dataset), lake.last_day(dataset)


def default_name(differing: dict[str, tuple[Any, Any]]) -> str:
    """Name that says which settings differ: `top_n-50`, or `end-2026-01-01+scheme-sw`.

    Raises:
        SettingsError: it would be too long for the name of a folder.
    """
    wanted = "+".join(f"{name}-{value}" for name, (_, value) in sorted(differing.items()))
    name = re.sub(r"[^\w.+-]+", "_", wanted)
    if not re.fullmatch(_NAME, name):
        raise SettingsError(f"{name} is no name for a folder: give the scenario one with --scenario NAME")
    return name


def scenario_folder(lake: Lake, name: str) -> Path:
    """Where the results of a scenario lie.

    Raises:
        SettingsError: the name holds what no folder's name should.
    """
    if not re.fullmatch(_NAME, name):
        raise SettingsError(f"--scenario {name}: use letters, digits and _ . + - alone, a hundred at most")
    return lake.root / _FOLDER / name


def existing_scenario(lake: Lake, name: str) -> Lake:
    """The lake of a scenario.

    Raises:
        LakeError: there is none of that name; the message lists those there are.
    """
    found = Lake(scenario_folder(lake, name))
    if found.root.name not in scenario_names(lake):
        names = ", ".join(scenario_names(lake)) or "none yet"
        raise LakeError(f"lake {lake.root} has no scenario {name}; there are: {names}")
    return found


def scenario_names(lake: Lake) -> list[str]:
    """Scenarios that have results, sorted."""
    return sorted(path.parents[1].name for path in (lake.root / _FOLDER).glob("*/published/strategy_holdings.parquet"))


@dataclass(frozen=True)
class Comparison:
    """Holdings of a scenario beside the published ones."""

    dates: pd.DatetimeIndex
    """Signal dates both have, held or withheld."""
    differing: pd.DatetimeIndex
    """Those of them whose industries or weights differ."""
    published: pd.DataFrame
    scenario: pd.DataFrame
    """Rows held from the newest of the dates for which both hold something; empty where there is none."""


def compare(lake: Lake, scenario: Lake) -> Comparison:
    """Compare what is held on every signal date that both lakes have."""
    both = [one.read_published("strategy_holdings") for one in (lake, scenario)]
    known = [pd.DatetimeIndex(one.read_published("rebalance_dates")["signal_date"]) for one in (lake, scenario)]
    dates = known[0].intersection(known[1])
    published, other = (rows[rows["signal_date"].isin(dates)] for rows in both)
    held = set(published["signal_date"]) & set(other["signal_date"])
    newest = max(held, default=pd.NaT)
    return Comparison(
        dates,
        differing_dates(published, other),
        published[published["signal_date"] == newest],
        other[other["signal_date"] == newest],
    )
