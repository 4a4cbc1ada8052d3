"""What becomes of flipped bits, and of truncated, empty and garbage files: `python -m benchmarks.rot [FOLDER]`.

Prints two tables. The first: 150 single bits flipped at random in files of each kind, and how many of them a reader of
the pipeline took for data. The second: of every kind of file a lake has, one damaged in four ways, and what `doctor`,
the next run, `doctor --fix` and the run after that make of it. A traceback, or results other than those of the sound
lake after a run that succeeded, ends the benchmark with exit code 1.
"""

import hashlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import DamagedFile, read_table

FLIPS = 150
SPAN = ("--start", "2023-01-01", "--end", "2023-07-31")
KINDS = {
    "raw data": "raw/etf_share/2023.parquet",
    "archive": "archive/etf_share/2023.parquet",
    "result of dbt, a year": "published/etf_flow/2023.parquet",
    "result of Python": "published/factor_scores.parquet",
    "holdings": "published/strategy_holdings.parquet",
    "ledger": "ledger/holdings_ledger.parquet",
    "what the lake is of": "lake.json",
    "remembered settings": "deployment.json",
    "catalogue": "etf.duckdb",
    "what the catalogue is of": "build/catalogue.json",
    "warehouse": "build/warehouse.duckdb",
    "what passed a check": "build/passed/schema.etf_daily.json",
    "list of Dagster's runs": ".dagster/history/runs.db",
    "Dagster's events": ".dagster/history/runs/index.db",
    "Dagster's schedules": ".dagster/schedules/schedules.db",
    "Dagster's settings": ".dagster/dagster.yaml",
}
DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "garbage": lambda content: random.Random(1).randbytes(max(len(content), 100)),
    "gone": lambda _: None,
}
_PROCESSES = multiprocessing.get_context("forkserver")


def command(folder: Path, *arguments: object) -> tuple[int, str]:
    """Exit code of a command of its own process, and what it printed."""
    log = folder / "log"
    process = _PROCESSES.Process(target=_run, args=([*map(str, arguments)], log))
    process.start()
    process.join()
    return process.exitcode or 0, log.read_text(encoding="utf-8", errors="replace")


def _run(arguments: list[str], log: Path) -> None:
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["etf-pipeline", *arguments]
    from etf_pipeline.cli import main

    main()


def results(lake: Path) -> dict[str, str]:
    """Digest of every published file."""
    files = sorted((lake / "published").rglob("[!.]*.parquet"))
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def flipped_bits(lake: Lake) -> list[tuple[str, int, int]]:
    """Of each kind of Parquet file: bits flipped, and how many of the files were read all the same."""
    rng, found = random.Random(16), []
    for kind in ("raw", "published", "archive", "ledger"):
        files, read = lake.parquet_files(kind), 0
        for _ in range(FLIPS):
            path = rng.choice(files)
            sound = path.read_bytes()
            changed = bytearray(sound)
            changed[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            try:
                read_table(path)
                read += 1
            except DamagedFile:
                pass
            path.write_bytes(sound)
        found.append((kind, FLIPS, read))
    return found


def damaged(sound: Path, name: str, damage: Callable[[bytes], bytes | None], folder: Path) -> tuple[list[str], bool]:
    """What doctor and three more commands made of one damaged file, and whether all is well that ends well."""
    lake = folder / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    shutil.copytree(sound, lake)
    content = damage((lake / name).read_bytes())
    (lake / name).unlink()
    if content is not None:
        (lake / name).write_bytes(content)
    wanted, told, well = results(sound), [], True
    run = ("run", "--no-research", "--lake", lake, *SPAN)
    for arguments in (("doctor", "--lake", lake), run, ("doctor", "--fix", "--lake", lake), run):
        code, output = command(folder, *arguments)
        well &= "Traceback" not in output
        if arguments is not run:
            # the calendar of the sample ends soon, which doctor says of any lake
            told.append("named" if Path(name).name in "".join(output.split()) else "well" if code == 0 else "told")
        elif code == 0:
            told.append("runs" if results(lake) == wanted else "OTHER RESULTS")
            well &= results(lake) == wanted
        else:
            words = " ".join(output.split())
            told.append("refuses: " + words.rpartition("Error: ")[2].replace(str(lake) + "/", "")[:70])
        if code == 0 and arguments is run:
            break
    return told, well


def main() -> int:
    """Print both tables; 1 if a file was read as something else, or a command ended with a traceback."""
    _PROCESSES.set_forkserver_preload(["dagster_dbt", "dbt.cli.main", "dbt.adapters.duckdb", "great_expectations"])
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    sound = folder / "sound"
    if not sound.exists():
        code, output = command(folder, "run", "--no-research", "--lake", sound, *SPAN)
        if code:
            print(output)
            return 1
    all_well = True
    print("| files | bits flipped | read as data |\n|---|---|---|")
    for kind, flips, read in flipped_bits(Lake(sound)):
        all_well &= read == 0
        print(f"| {kind} | {flips} | {read} |", flush=True)
    print("\n| file | damage | doctor | run | doctor --fix | run |\n|---|---|---|---|---|---|")
    for kind, name in KINDS.items():
        for damage, change in DAMAGES.items():
            if not (sound / name).exists():
                raise SystemExit(f"no lake has {name}")
            told, well = damaged(sound, name, change, folder)
            all_well &= well
            cells = [*told, *[""] * (4 - len(told))]
            print(f"| {kind} ({name}) | {damage} | {' | '.join(cells)} |{'' if well else ' **!**'}", flush=True)
    return 0 if all_well else 1


if __name__ == "__main__":
    sys.exit(main())
