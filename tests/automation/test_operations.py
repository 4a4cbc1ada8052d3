"""Numbers of operation change no result, and the instance of a lake is the packaged one."""

from pathlib import Path

import pytest

from etf_pipeline.contract import load_contract
from etf_pipeline.intake import intakes
from etf_pipeline.resources.remembered import remember, remembered
from etf_pipeline.run import dagster_home
from etf_pipeline.settings import Deployment, Parameters, describe_parameters
from tests.automation.conftest import PACKAGE

UNUSED = {"research", "operations"}
OPERATIONS = {name for name, entry in describe_parameters().items() if entry.get("use") == "operations"}


def test_operations_change_no_hash_and_reach_no_sql() -> None:
    assert {"repull_sessions", "catch_up_limit_sessions", "calendar_warning_sessions", "run_log_days"} == OPERATIONS
    plain = Parameters.load()
    assert Parameters.load(dict.fromkeys(OPERATIONS, 17)).hash == plain.hash
    assert Parameters.load({"cost_basis_points": 17}).hash == plain.hash
    assert Parameters.load({"top_n": 17}).hash != plain.hash
    assert not OPERATIONS & set(plain.dbt_vars())


def test_uses_are_known() -> None:
    assert {entry["use"] for entry in describe_parameters().values() if "use" in entry} == UNUSED


def test_the_instance_of_a_lake_is_the_packaged_one(tmp_path: Path) -> None:
    home = dagster_home(tmp_path / "lake")
    assert (home / "dagster.yaml").read_bytes() == (PACKAGE / "dagster.yaml").read_bytes()
    # a file that stays as it is does not look new to whoever watches it
    before = (home / "dagster.yaml").stat().st_ino
    assert (dagster_home(tmp_path / "lake") / "dagster.yaml").stat().st_ino == before


@pytest.mark.parametrize("name", [d.name for d in load_contract().values() if d.partition in ("day", "month")])
def test_every_dataset_is_in_one_group(name: str) -> None:
    assert len([group for group in intakes().values() if name in group.datasets]) == 1


@pytest.mark.parametrize(
    ("starts", "kept"),
    [
        ([None], None),
        (["2024-01-02"], "2024-01-02"),
        ([None, "2026-10-16"], None),
        (["2024-01-02", "2026-10-16"], "2024-01-02"),
        (["2024-01-02", "2023-01-03"], "2023-01-03"),
        (["2024-01-02", None], None),
    ],
)
def test_an_evening_does_not_narrow_what_a_lake_spans(
    starts: list[str | None], kept: str | None, tmp_path: Path
) -> None:
    for start in starts:
        remember(Deployment.model_validate({"lake": tmp_path, "start": start}))
    assert remembered(tmp_path)["start"] == kept
