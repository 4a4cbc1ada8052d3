"""Command line: `etf-pipeline run`, `holdings`, `estimate`, `doctor`, `ui` …: thin verbs over the same assets."""

import contextlib
import errno
import os
import time
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
import yaml
from rich.table import Table
from rich.text import Text

from etf_pipeline import web
from etf_pipeline.core.calendar import SHANGHAI, CalendarEndError
from etf_pipeline.resources import workers
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.remembered import remember, remembered
from etf_pipeline.resources.storage import DamagedFile, LakeError
from etf_pipeline.run import dagster_home, execute, telling
from etf_pipeline.scenarios import (
    compare,
    default_name,
    differences,
    existing_scenario,
    scenario_folder,
    scenario_names,
)
from etf_pipeline.settings import Deployment, SettingsError
from etf_pipeline.show import console, show_comparison, show_coverage, show_holdings
from etf_pipeline.sources.base import NotAvailable, SourceError

if TYPE_CHECKING:
    from etf_pipeline.sources.tushare.source import TushareSource

app = typer.Typer(
    help="From ETF shares to biweekly industry holdings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[
    str | None, typer.Option(help="Where data comes from: sample (synthetic, offline), files, tushare or akshare.")
]
Data = Annotated[Path | None, typer.Option(help="Folder of Parquet, CSV or Excel files, for --source files.")]
_TRACED_ROWS = 20

LakeDir = Annotated[Path, typer.Option("--lake", help="Folder of the lake: raw data, results, catalogue.")]
Scheme = Annotated[str | None, typer.Option(help="Industry classification: citic or sw.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Replace a parameter of parameters.yaml; may be given again."),
]


def _existing(folder: Path) -> Lake:
    lake = Lake(folder.absolute())
    lake.source_label  # noqa: B018 - raises where there is no lake
    return lake


def _deployment(
    lake: Path,
    source: str | None,
    data: Path | None,
    scheme: str | None,
    start: datetime | None,
    end: datetime | None,
    overrides: list[str] | None,
    before: Deployment | None = None,
) -> Deployment:
    """The deployment these options ask for, on a lake that was filled as `before`.

    What is not asked for is as before, but for the end: a later run goes as far as the source does.
    """
    if start and end and start > end:
        raise SettingsError(f"--start {start:%Y-%m-%d} is after --end {end:%Y-%m-%d}")
    parameters: dict[str, Any] = {}
    for item in overrides or []:
        name, separator, value = item.partition("=")
        if not separator:
            raise SettingsError(f"--set {item}: write NAME=VALUE")
        parameters[name] = yaml.safe_load(value)
    if scheme:
        parameters["scheme"] = scheme
    before = before or _bound(lake)
    source = source or ("files" if data else before.source)
    return Deployment(
        source=source,
        data=data.absolute() if data else before.data if source == before.source else None,
        lake=lake.absolute(),
        start=start.date() if start else before.start,
        end=end.date() if end else None,
        parameters={**before.parameters, **parameters},
        gateways=Deployment.from_env().gateways,
    )


def _bound(lake: Path) -> Deployment:
    """The source a lake is of, though no run on it ended well; the sample for a new one."""
    with contextlib.suppress(PermissionError):  # told by who reads it for more
        if bound := Lake(lake.absolute()).bound_to:
            return Deployment(source=bound[0], data=bound[1])
    return Deployment()


def _before(lake: Path) -> Deployment | None:
    """How the lake was filled, if that is known."""
    known = remembered(lake)
    return Deployment.model_validate({**known, "lake": lake.absolute()}) if known else None


@contextlib.contextmanager
def _clear_errors() -> Any:
    """Errors a user can act on are printed as what they say; anything else is a bug and keeps its traceback."""
    try:
        yield
    except (SourceError, LakeError, SettingsError, CalendarEndError) as error:
        console.print(f"{type(error).__name__}: ", style="bold red", end="")
        console.print(str(error))
        raise typer.Exit(1) from error
    except Exception as error:
        if _is_damaged_database(error):
            console.print("Dagster's records of runs are damaged. ", style="bold red", end="")
            console.print("`etf-pipeline doctor --fix` sets them aside; no data are lost.")
            raise typer.Exit(1) from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            console.print("Not permitted: ", style="bold red", end="")
            console.print(f"{error.strerror}: {error.filename}. Choose another --lake, or change who may use this one.")
            raise typer.Exit(1) from error
        if not _is_full_disk(error):
            raise
        console.print(f"The disk takes no more ({type(error).__name__}). Free some space and run again; ", end="")
        console.print("no file is half-written, and what was published before stays.")
        raise typer.Exit(1) from error


def _is_damaged_database(error: BaseException | None) -> bool:
    """Whether SQLite, in which Dagster keeps its records, found a file that is none of its own, or no longer."""
    while error:
        if any(words in str(error) for words in ("file is not a database", "disk image is malformed")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether the system, or the database of Dagster's records, could write no more."""
    while error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            return True
        # SQLite's words for a file system that takes no more
        if "disk is full" in str(error) or "disk I/O error" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@app.command()
def run(
    source: Source = None,
    data: Data = None,
    lake: LakeDir = Path("lake"),
    scheme: Scheme = None,
    start: Day = None,
    end: Day = None,
    overrides: Overrides = None,
    research: Annotated[
        bool, typer.Option(help="Also back-test, test the factors and write the report; the holdings do not need it.")
    ] = True,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"],
            help="Repeat the run on the raw data this lake held at that moment (Shanghai time), beside its results.",
        ),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Name of a what-if run, whose results lie in <lake>/scenarios/NAME.")
    ] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Let results under other settings replace the published ones.")
    ] = False,
) -> None:
    """Run the whole graph: ingest, look through, score, and publish the holdings.

    A lake keeps its source, folder and settings. --start and --end bound the days asked of the source (default: all it
    has); history the lake holds before --start stays. Other settings than the lake's, or an end before its data's, make
    a what-if run: on the lake's raw data, beside what is published, and compared with it.
    """
    with _clear_errors():
        before = _before(lake)
        if as_of:
            if scenario or publish:
                raise SettingsError("--as-of has its own place beside the results: leave out --scenario and --publish")
            _run_as_of(lake, as_of, _deployment(lake, None, None, scheme, None, end, overrides, before), research)
            return
        deployment = _deployment(lake, source, data, scheme, start, end, overrides, before)
        differing = differences(Lake(deployment.lake), before, deployment) if _of_same(before, deployment) else {}
        if publish and (scenario or "end" in differing):
            raise SettingsError(
                "--publish replaces what is published, which a named scenario or an end before the lake's data cannot"
            )
        if scenario or differing:
            kept = before or deployment
            wanted = deployment.model_copy(update={"start": kept.start, "end": deployment.end or kept.end})
            name = scenario or default_name(differing)
            if not publish:
                _run_scenario(_existing(lake), name, wanted, research)
                return
            console.print(f"First as scenario {name}, beside what is published: unless it passes, nothing is replaced")
            found = _existing(lake)
            _run_beside(found, scenario_folder(found, name), None, wanted, research=False)
    _run_and_publish(deployment, research)


def _of_same(before: Deployment | None, deployment: Deployment) -> bool:
    """Whether this is about the data the lake holds; if not, the lake refuses."""
    if before is None or before.source != deployment.source:
        return before is None
    folders = {one.data.resolve() if one.data else None for one in (before, deployment)}
    return len(folders) == 1


def _run_and_publish(deployment: Deployment, research: bool) -> None:
    from etf_pipeline.doctor import calendar

    workers.start()
    with _clear_errors():
        began = time.monotonic()
        pipeline = Pipeline(deployment)
        parameters = pipeline.parameters
        with console.status(f"Checking the data of source {deployment.source} …"):
            notes = pipeline.source_notes
        first, last = pipeline.span
        console.print(f"Source {pipeline.source.label}, {first} … {last}, settings {parameters.hash}")
        for dataset, note in notes.items():
            console.print(f"  {dataset}: {note}", style="dim")
        for finding in calendar(date.today(), parameters.calendar_warning_sessions):
            if finding.level != "ok":
                console.print(f"  The exchange calendar {finding.found}. {finding.advice}", style="yellow")
        if not execute(pipeline, "everything", research):
            raise typer.Exit(1)
        remember(deployment)
        show_coverage(pipeline.lake)
        show_holdings(pipeline.lake, None)
        console.print(f"Results: {pipeline.lake.catalogue} (DuckDB), after {time.monotonic() - began:.0f} s")


def _run_as_of(folder: Path, as_of: datetime, wanted: Deployment, research: bool) -> None:
    """Compute everything but the raw data anew, in a lake inside the lake."""
    lake = _existing(folder)
    moment = as_of.replace(tzinfo=ZoneInfo(SHANGHAI))
    console.print(f"Source {lake.source_label} as ingested until {as_of:%Y-%m-%d %H:%M:%S} Shanghai time")
    end = wanted.end or remembered(lake.root).get("end")
    wanted = Deployment.model_validate({**wanted.model_dump(), "end": end})
    restored = _run_beside(lake, lake.root / "as_of" / f"{as_of:%Y-%m-%dT%H%M%S}", moment, wanted, research)
    show_holdings(restored, None)
    console.print(f"Results: {restored.catalogue} (DuckDB)")


def _run_scenario(lake: Lake, name: str, wanted: Deployment, research: bool) -> None:
    """Compute everything but the raw data under other settings, beside what is published, and compare."""
    folder = scenario_folder(lake, name)
    console.print(f"What if: scenario {name} on the raw data of {lake.source_label}; what is published stays as it is")
    scenario = _run_beside(lake, folder, None, wanted, research)
    show_holdings(scenario, None)
    if lake.published_files("strategy_holdings"):
        show_comparison(name, compare(lake, scenario))
    console.print(f"Results: {scenario.catalogue} (DuckDB). To publish under these settings: run with --publish")


def _run_beside(lake: Lake, target: Path, moment: datetime | None, wanted: Deployment, research: bool) -> Lake:
    """Run on the raw data the lake held at a moment, or holds, in a lake of its own at `target`."""
    pipeline = Pipeline(wanted.model_copy(update={"lake": target}))
    pipeline.parameters  # noqa: B018 - what cannot be used is said before anything is written
    with lake.at_work(console.print):
        restored = lake.restore(moment, target)
    if not execute(pipeline, "results", research):
        raise typer.Exit(1)
    remember(pipeline.deployment)
    return restored


@app.command()
def holdings(
    lake: LakeDir = Path("lake"),
    day: Annotated[
        datetime | None, typer.Option("--date", formats=["%Y-%m-%d"], help="Signal date; default latest.")
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="Name of a what-if run, to print its holdings.")] = None,
) -> None:
    """Print the holdings in force, or those of one signal date, with their reasons."""
    with _clear_errors():
        found = _existing(lake)
        show_holdings(existing_scenario(found, scenario) if scenario else found, day.date() if day else None)


@app.command()
def scenarios(lake: LakeDir = Path("lake")) -> None:
    """List the what-if runs of a lake: on how many dates each holds something else than was published."""
    with _clear_errors():
        found = _existing(lake)
        table = Table(title=f"Scenarios of lake {found.root}")
        for column in ("name", "dates compared", "holdings differ"):
            table.add_column(column, justify="left" if column == "name" else "right", overflow="fold")
        for name in scenario_names(found):
            comparison = compare(found, existing_scenario(found, name))
            table.add_row(Text(name), str(len(comparison.dates)), str(len(comparison.differing)))
        console.print(table)


@app.command()
def check(lake: LakeDir = Path("lake")) -> None:
    """Run every data-quality check on what the lake holds; exit code 1 if one fails that blocks."""
    workers.start()
    with _clear_errors():
        deployment = Deployment.model_validate({**remembered(lake), "lake": _existing(lake).root})
        if not execute(Pipeline(deployment), "checks"):
            raise typer.Exit(1)


@app.command()
def rebind(source: Source = None, data: Data = None, lake: LakeDir = Path("lake")) -> None:
    """Say anew which source and folder a lake is of: its folder has moved, or lake.json is damaged or gone."""
    with _clear_errors():
        pipeline = Pipeline(_deployment(lake, source, data, None, None, None, None))
        if not pipeline.lake.root.exists():
            raise LakeError(f"no lake at {pipeline.lake.root}")
        pipeline.lake.rebind(pipeline.source.label, pipeline.deployment.data)
        known = {**remembered(lake), "source": pipeline.deployment.source, "data": pipeline.deployment.data}
        remember(Deployment.model_validate({**known, "lake": pipeline.lake.root}))
    console.print(f"Lake {pipeline.lake.root} is of {pipeline.source.label}")


@app.command()
def where(lake: LakeDir = Path("lake")) -> None:
    """Print the path of the catalogue, a DuckDB file of views over the published tables."""
    with _clear_errors():
        catalogue = Lake(lake.absolute()).catalogue
        if not catalogue.exists():
            raise LakeError(f"no catalogue at {catalogue}: run `etf-pipeline run --lake {lake}` first")
        typer.echo(catalogue)


@app.command()
def estimate(
    source: Annotated[str, typer.Option(help="Source that is paid or limited by calls: tushare.")] = "tushare",
    lake: LakeDir = Path("lake"),
    start: Day = None,
    end: Day = None,
    overrides: Overrides = None,
) -> None:
    """Tell before a backfill how many calls and minutes it needs, and which datasets the account cannot read.

    What the lake's stored responses answer already costs nothing. Today's lists of funds are asked for, if need be.
    """
    from etf_pipeline.sources.tushare.estimate import estimate as costs_of

    with _clear_errors():
        pipeline = Pipeline(_deployment(lake, source, None, None, start, end, overrides))
        tushare = _tushare(pipeline)
        first, last = tushare.span
        first, last = pipeline.deployment.start or first, min(pipeline.deployment.end or last, last)
        with telling(lambda text: console.print(text, style="dim")):
            costs = costs_of(tushare, first, last)
    table = Table(title=f"Backfill {first} … {last}: at most {tushare.plan.per_minute} calls of one API a minute")
    for column in ("dataset", "API", "calls", "stored", "minutes", "points", "cannot be read"):
        table.add_column(column, justify="right" if column in ("calls", "stored", "minutes", "points") else "left")
    for cost in costs:
        points = "licence" if cost.points is None else str(cost.points)
        numbers = (f"{cost.calls:,}", f"{cost.stored:,}", f"{cost.minutes:.1f}", points)
        table.add_row(cost.dataset, cost.api, *numbers, Text(cost.missing or "", style="red"))
    table.add_section()
    calls, minutes = sum(cost.calls for cost in costs), sum(cost.minutes for cost in costs)
    table.add_row("all", "", f"{calls:,}", f"{sum(cost.stored for cost in costs):,}", f"{minutes:.1f}", "", "")
    console.print(table)


@app.command()
def trace(
    dataset: Annotated[str, typer.Argument(help="Raw dataset, such as etf_share.")],
    day: Annotated[datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="Day of the rows.")],
    code: Annotated[str | None, typer.Option(help="Show only what names this code, such as 510300.SH.")] = None,
    lake: LakeDir = Path("lake"),
) -> None:
    """Show rows of a vendor's dataset with the stored responses they came from, made anew from those without a call."""
    with _clear_errors():
        deployment = Deployment.model_validate({**remembered(lake), "lake": _existing(lake).root})
        frame, responses = _tushare(Pipeline(deployment), offline=True).trace(dataset, day.date())
        if isinstance(frame, NotAvailable):
            raise SourceError(f"{dataset}: {frame.reason}")
    if code:
        frame = frame[(frame == code).any(axis="columns")]
        responses = [response for response in responses if code.encode() in response.body]
    console.print(frame.to_string(index=False, max_rows=_TRACED_ROWS))
    table = Table(title=f"{len(responses)} responses these rows came from")
    for column in ("request", "received (UTC)", "SHA-256 of the body", "file"):
        table.add_column(column, overflow="fold")
    for response in responses:
        request = ", ".join(f"{name}={value}" for name, value in response.request["params"].items())
        moment = f"{response.received_at:%Y-%m-%d %H:%M:%S}"
        file = str(response.path.relative_to(lake.absolute()))
        table.add_row(Text(f"{response.api}({request})"), moment, response.sha256, Text(file))
    console.print(table)


def _tushare(pipeline: Pipeline, offline: bool = False) -> "TushareSource":
    if pipeline.deployment.source != "tushare":
        raise SettingsError(f"this is for source tushare, not for {pipeline.deployment.source}")
    return pipeline.tushare(offline)


@app.command()
def doctor(
    lake: LakeDir = Path("lake"),
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without losing anything.")] = False,
    days: Annotated[int | None, typer.Option(min=1, help="Runs older than this leave the run log.")] = None,
    give_up: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Go on without this file of the archive or the ledger, damaged or gone."),
    ] = None,
    test_message: Annotated[bool, typer.Option("--test-message", help="Send a message through every channel.")] = False,
) -> None:
    """Look for what is wrong with a lake and say what to do; exit code 1 if something needs to be done."""
    from etf_pipeline.doctor import Finding, examine, send_test_message
    from etf_pipeline.resources.storage import advice

    with _clear_errors():
        if give_up:
            _existing(lake).give_up(give_up)
        forgotten = []
        try:
            known = remembered(lake)
        except DamagedFile as error:
            known = {}
            forgotten = [Finding("action", "deployment.json", f"damaged: {error.found}", advice(error.path))]
        deployment = Deployment.model_validate({**known, "lake": _existing(lake).root})
        parameters = deployment.load_parameters()
        if days:
            parameters = parameters.model_copy(update={"run_log_days": days})
        findings = forgotten + examine(Lake(deployment.lake), parameters, date.today(), fix=fix)
        if test_message:
            findings += send_test_message(deployment.lake)
    colours = {"ok": "green", "note": "dim", "action": "bold red", "fixed": "yellow"}
    table = Table(title=f"Lake {deployment.lake}", show_lines=False)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        level = Text(finding.level, style=colours[finding.level])
        table.add_row(level, Text(finding.subject), Text(finding.found), Text(finding.advice))
    console.print(table)
    if any(finding.level == "action" for finding in findings):
        raise typer.Exit(1)


@app.command()
def ui(
    source: Source = None,
    data: Data = None,
    lake: LakeDir = Path("lake"),
    scheme: Scheme = None,
    start: Day = None,
    end: Day = None,
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen on; one others reach needs --allow-host.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the web server.")] = 3000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name browsers reach the server by; may be given again."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nothing can be started or changed in it.")] = False,
) -> None:
    """Open the Dagster UI (web server and daemon) over the lake; options default to those of its last run."""
    with _clear_errors():
        if not (source or data):
            _existing(lake)  # a mistyped name makes no lake
        before = _before(lake)
        deployment = _deployment(lake, source, data, scheme, start, end, overrides, before)
        if before and _of_same(before, deployment):
            # what the UI runs replaces what is published
            if differing := differences(Lake(deployment.lake), before, deployment):
                raise SettingsError(
                    f"what the lake publishes was made with other settings ({', '.join(differing)}), and the UI would "
                    "replace it. Publish under these by `etf-pipeline run --publish`, or leave them out"
                )
            deployment = deployment.model_copy(update={"end": deployment.end or before.end})
        if host not in web.LOCAL_NAMES and not allow_host:
            raise SettingsError(f"--host {host} is open to other machines: say by --allow-host NAME what they call it")
        if not web.is_free(host, port):
            raise SettingsError(f"port {port} of {host} is taken, perhaps by another UI: choose one by --port")
        Pipeline(deployment)
        environment = {**os.environ, **deployment.to_env(), "DAGSTER_HOME": str(dagster_home(deployment.lake))}
    console.print(f"The UI opens on http://{'localhost' if host in web.LOCAL_NAMES else host}:{port} in some seconds.")
    raise typer.Exit(web.serve_all(environment, host, port, allow_host or [], read_only))


def main() -> None:
    """Entry point of the `etf-pipeline` command."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    app()
