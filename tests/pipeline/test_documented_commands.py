"""Every command line of README and docs does what it is printed for, on a lake of the sample and on one of files.

A line that is new there has to be placed here: run, or told why not and then at least its options exist.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etf_pipeline.cli import app
from tests.pipeline.harness import LAST_SHORT_SIGNAL, SHORT, etf_pipeline

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VERBS = [command.callback.__name__ for command in app.registered_commands if command.callback]
PRINTED = re.compile(rf"(?:etf-pipeline |`)((?:{'|'.join(VERBS)})(?![.\w])[^`#\n]*?)(?=\s*(?:`|#|$))", re.MULTILINE)
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

ON_BOTH = {
    "run --lake mylake": ["--no-research", *SHORT],
    "run --lake mylake --no-research": ["--no-research", *SHORT],
    "run --help": [],
    "run --start 2026-10-16 --no-research": ["--no-research", "--start", LAST_SHORT_SIGNAL, *SHORT[2:]],
    "run --end DATE": ["--no-research", "--end", LAST_SHORT_SIGNAL],
    'run --as-of "2026-08-21 20:00"': ["--no-research", "--as-of", "2099-01-01 20:00"],
    "holdings --lake real": [],
    "holdings --scenario NAME": ["--scenario", f"end-{LAST_SHORT_SIGNAL}"],
    "scenarios": [],
    "doctor": [],
    "doctor --lake /srv/etf/lake": [],
}
"""Printed lines run on either lake, in this order, with the arguments a short lake needs; exit code 0."""

ON_FILES = {"run --source files --data FOLDER --lake mylake": [], "rebind": []}
"""Run where they concern the folder."""

NOT_RUN = {
    "estimate --lake real --start 2019-01-02": "asks Tushare",
    "run --source tushare --lake real --start 2019-01-02": "asks Tushare (tests/sources/tushare/test_backfill.py)",
    "trace etf_share --date 2026-09-30 --code 159915.SZ --lake real": "tells of stored answers of Tushare",
    "ui": "a server (test_web.py, test_ui.py)",
    "doctor --give-up FILE": "of a damaged file (tests/automation/test_doctor.py)",
}


def printed() -> Iterator[tuple[str, str]]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line in PRINTED.findall(page.read_text(encoding="utf-8")):
            yield page.name, line.strip()


def test_every_printed_command_has_its_place() -> None:
    lines = {line for _, line in printed()}
    assert len(lines) > 12
    assert lines == {*ON_BOTH, *ON_FILES, *NOT_RUN}


@pytest.mark.parametrize("line", sorted(NOT_RUN))
def test_options_of_what_is_not_run_exist(line: str, tmp_path: Path) -> None:
    verb, *words = shlex.split(line)
    help_text = etf_pipeline(verb, "--help", cwd=tmp_path)
    assert help_text.code == 0
    for option in (word for word in words if word.startswith("--")):
        assert option in help_text.words


# each builds or uses a lake of its own worker
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.xdist_group(group))
        for kind, group in (("sample", "short"), ("files", "documented"))
    ],
)
def test_printed_commands_run(kind: str, short_lake: Path, tmp_path: Path) -> None:
    lake, folder = tmp_path / "lake", tmp_path / "data"
    if kind == "sample":
        shutil.copytree(short_lake, lake)
    else:
        for file in (short_lake / "raw").glob("*/[!.]*.parquet"):
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.parent.name)
        run = etf_pipeline(
            "run", "--source", "files", "--data", folder, "--lake", lake, "--no-research", *SHORT, cwd=tmp_path
        )
        assert run.code == 0, run.output
    lines = ON_BOTH if kind == "sample" else ON_BOTH | ON_FILES
    for line, given in lines.items():
        verb, *words = shlex.split(line)
        arguments = given or [word for word in words if word not in ("--lake", "mylake", "real", "/srv/etf/lake")]
        arguments = [str(folder) if word == "FOLDER" else word for word in arguments]
        if line == "rebind":
            arguments = ["--source", "files", "--data", str(folder)]
        where = [] if "--help" in words else ["--lake", lake]
        done = etf_pipeline(verb, *arguments, *where, cwd=tmp_path)
        assert done.code == 0, (line, done.output)
        if verb == "run" and "--help" not in words:
            assert LAST_SHORT_SIGNAL in done.output, (line, done.output)
