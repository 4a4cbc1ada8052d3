"""What-if runs on a lake of the sample: after each, what is published, the ledger and the settings are as before.

python -m benchmarks.what_if
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPAN = ("--start", "2023-01-01", "--end", "2023-07-31")
RUNS: dict[tuple[str, ...], int] = {
    ("--scheme", "sw"): 0,
    ("--set", "top_n=3"): 0,
    ("--set", "factors=[flow, level]"): 0,
    ("--set", "change_weeks=2"): 0,
    ("--set", "level_measure=share", "--scenario", "named"): 0,
    ("--end", "2023-05-31"): 0,
    ("--as-of", "2099-01-01"): 0,
    ("--set", "top_n=50"): 1,  # fails a check
    ("--set", "top_n=50", "--publish"): 1,
    ("--set", "top_m=5"): 1,  # no such parameter
    ("--start", "2023-07-30", "--end", "2023-01-01"): 1,
    ("--end", "2022-01-31"): 1,
    ("--source", "files", "--data", "."): 1,  # another source's
}
"""Options, and the exit code they should have."""


def run(lake: Path, *options: str) -> int:
    command = [
        str(Path(sys.executable).with_name("etf-pipeline")),
        "run",
        "--no-research",
        "--lake",
        str(lake),
        *options,
    ]
    return subprocess.run(command, cwd=lake.parent, capture_output=True).returncode


def published(lake: Path) -> dict[str, str]:
    """SHA-256 of every file that readers and later runs see."""
    kinds = ("raw", "archive", "published", "ledger")
    files = [file for kind in kinds for file in (lake / kind).rglob("*.parquet")]
    files += [lake / name for name in ("lake.json", "deployment.json", "etf.duckdb")]
    return {str(f.relative_to(lake)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.exists()}


def main() -> None:
    """Print a line a run; exit code 1 if any changed what is published or ended otherwise than it should."""
    with tempfile.TemporaryDirectory() as folder:
        lake, wrong = Path(folder) / "lake", 0
        assert run(lake, *SPAN) == 0
        before = published(lake)
        print(f"{len(before)} files")
        for options, code in RUNS.items():
            began = time.monotonic()
            ended, after = run(lake, *options), published(lake)
            changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
            wrong += ended != code or bool(changed)
            told = f"exit {ended}" + ("" if ended == code else f" instead of {code}")
            print(f"{' '.join(options):55} {told:20} {len(changed)} files changed {time.monotonic() - began:5.1f} s")
            for file in changed[:5]:
                print(f"    {file}")
    raise SystemExit(int(wrong > 0))


if __name__ == "__main__":
    main()
