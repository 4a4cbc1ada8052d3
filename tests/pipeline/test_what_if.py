"""A run under other settings, or to an earlier end, touches nothing of what a lake publishes."""

import shutil
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from typer.testing import CliRunner

from etf_pipeline import cli
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from tests.pipeline.harness import LAST_SHORT_SIGNAL, SHORT, Finished, etf_pipeline, everything

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("short")]

START, END = SHORT[1::2]


@pytest.fixture
def lake(short_lake: Path, tmp_path: Path) -> Path:
    return shutil.copytree(short_lake, tmp_path / "lake")


def published(lake: Path) -> dict[str, str]:
    """What a what-if run must leave byte for byte: everything but the scenarios and the marks of who is at work."""
    return {name: digest for name, digest in everything(lake).items() if not name.startswith(("scenarios/", ".run"))}


def run(lake: Path, *arguments: str, command: str = "run") -> Finished:
    done = CliRunner().invoke(cli.app, [command, "--lake", str(lake), *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Finished(done.exit_code, done.output)


def test_a_what_if_run_lies_beside_what_is_published(lake: Path, tmp_path: Path) -> None:
    before = published(lake)
    options = ("--set", "top_n=5", "--end", "2023-06-30", "--scenario", "narrow")
    done = etf_pipeline("run", "--no-research", "--lake", lake, *options, cwd=tmp_path)
    assert done.code == 0, done.output
    assert "Compared with what is published: 12 dates, 2023-01-13 … 2023-06-21; holdings differ on 6." in done.output
    assert published(lake) == before
    scenario = Lake(lake / "scenarios" / "narrow")
    held = scenario.read_published("strategy_holdings")
    assert held.groupby("signal_date").size().eq(5).all()
    assert held["signal_date"].max() == pd.Timestamp("2023-06-21")
    # of the raw data nothing is stored twice
    assert all(file.stat().st_nlink > 1 for file in (scenario.root / "raw").rglob("*.parquet"))

    shown = run(lake, "--scenario", "narrow", command="holdings")
    assert shown.code == 0, shown.output
    assert "Holdings of signal 2023-06-21" in shown.output
    assert f"Holdings of signal {LAST_SHORT_SIGNAL}" in run(lake, command="holdings").output
    assert "narrow" in run(lake, command="scenarios").output
    missing = run(lake, "--scenario", "nrrow", command="holdings")
    assert missing.code == 1
    assert "has no scenario nrrow; there are: narrow" in " ".join(missing.output.split())


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Pipeline, str]]:
    """Runs that were begun; each fails."""
    begun: list[tuple[Pipeline, str]] = []

    def execute(pipeline: Pipeline, what: str, research: bool = True) -> bool:
        begun.append((pipeline, what))
        return False

    monkeypatch.setattr(cli, "execute", execute)
    monkeypatch.setattr(cli.workers, "start", lambda: None)
    return begun


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--scheme", "sw"), "scheme-sw"),
        (("--set", "top_n=50"), "top_n-50"),
        (("--set", "factors=[flow, level]"), "factors-_flow_level_"),
        (("--set", "cost_basis_points=30"), "cost_basis_points-30.0"),
        (("--end", "2023-07-14"), "end-2023-07-14"),
        (("--start", "2023-02-01", "--end", "2023-03-31", "--set", "top_n=4"), "end-2023-03-31+top_n-4"),
        (("--scenario", "试算"), "试算"),
    ],
)
def test_what_differs_goes_to_a_scenario(
    lake: Path, executed: list[tuple[Pipeline, str]], options: tuple[str, ...], name: str
) -> None:
    before = published(lake)
    assert run(lake, "--no-research", *options).code == 1
    ((pipeline, what),) = executed
    assert (pipeline.lake.root, what) == (lake / "scenarios" / name, "results")
    assert f"{pipeline.deployment.end}" == (options[options.index("--end") + 1] if "--end" in options else END)
    assert published(lake) == before
    # what failed is not remembered either
    assert not (pipeline.lake.root / "deployment.json").exists()


@pytest.mark.parametrize(
    "options",
    [(), ("--end", END), ("--start", "2023-07-31", "--end", END), ("--end", "2023-08-31"), ("--set", "run_log_days=9")],
)
def test_a_later_run_as_before_is_the_normal_one(
    lake: Path, executed: list[tuple[Pipeline, str]], options: tuple[str, ...]
) -> None:
    before = published(lake)
    assert run(lake, "--no-research", *options).code == 1
    ((pipeline, what),) = executed
    assert (pipeline.lake.root, what) == (lake, "everything")
    assert f"{pipeline.deployment.start}" == (options[1] if "--start" in options else START)
    # it failed, and nothing of it is remembered
    assert published(lake) == before


def test_publishing_under_other_settings_is_asked_for(lake: Path, executed: list[tuple[Pipeline, str]]) -> None:
    before = published(lake)
    assert run(lake, "--no-research", "--set", "top_n=5", "--publish").code == 1
    # it failed beside what is published, and so was not begun there
    ((pipeline, what),) = executed
    rehearsed = lake / "scenarios" / "top_n-5"
    assert (pipeline.lake.root, what, pipeline.parameters.top_n) == (rehearsed, "results", 5)
    assert published(lake) == before


def test_what_passes_beside_is_published(
    lake: Path, executed: list[tuple[Pipeline, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = cli.execute

    def execute(pipeline: Pipeline, what: Literal["everything", "results", "checks"], research: bool = True) -> bool:
        return fails(pipeline, what, research) or what == "results"

    monkeypatch.setattr(cli, "execute", execute)
    assert run(lake, "--no-research", "--set", "top_n=5", "--publish").code == 1
    assert [(pipeline.lake.root, what) for pipeline, what in executed] == [
        (lake / "scenarios" / "top_n-5", "results"),
        (lake, "everything"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--start", "2023-07-30", "--end", "2023-01-01"), "--start 2023-07-30 is after --end 2023-01-01"),
        (("--end", "2022-12-30"), "--end 2022-12-30 is before all data of the lake, which begin on 2023-01-03"),
        (("--start", "2099-01-05"), "no session of what the source has"),
        (("--end", "2023-03-31", "--publish"), "--publish replaces what is published"),
        (("--as-of", "2099-01-01", "--publish"), "--as-of has its own place"),
        (("--set", "top_n=0", "--scenario", "x"), "top_n"),
        (("--set", "top_n=4", "--scenario", "../x"), "use letters, digits"),
        (("--set", "top_n=4", "--scenario", "a=b"), "use letters, digits"),
    ],
)
def test_what_contradicts_itself_is_refused(
    lake: Path, executed: list[tuple[Pipeline, str]], options: tuple[str, ...], message: str
) -> None:
    before = everything(lake)
    done = run(lake, *options)
    assert (done.code, executed) == (1, [])
    assert message in " ".join(done.output.split())
    assert everything(lake) == before


@pytest.mark.parametrize(
    "options", [("--start", "2023-02-01", "--end", "2023-01-01"), ("--start", "2023-01-21", "--end", "2023-01-27")]
)
def test_an_empty_span_makes_no_lake(
    tmp_path: Path, executed: list[tuple[Pipeline, str]], options: tuple[str, ...]
) -> None:
    done = run(tmp_path / "new", *options)
    assert (done.code, executed) == (1, [])
    assert not (tmp_path / "new").exists()
