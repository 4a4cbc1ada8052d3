"""The wheel, tried as a user would: `python -m tests.deployment.try_wheel` installs it with the run lock alone.

In an empty environment outside the checkout, which cannot be written: a run of the sample to its report, every check,
and the UI.
"""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPAN = ("--start", "2023-01-01", "--end", "2023-06-30")
PATIENCE_SECONDS = 240


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, built by the libraries of this environment."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True)
    [wheel] = folder.glob("etf_pipeline-*.whl")
    return wheel


def install(wheel: Path, venv: Path) -> Path:
    """A new environment of the run lock and the wheel; its folder of programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "--quiet", "--disable-pip-version-check"]
    pip += ["install", "--no-compile", "--no-deps"]
    entries = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    # pip works on one core
    halves = [venv / f"half{i}.lock" for i in range(2)]
    for i, half in enumerate(halves):
        half.write_text("\n".join(entries[i::2]), encoding="utf-8")
    both = [subprocess.Popen([*pip, "--require-hashes", "-r", half], stderr=subprocess.PIPE) for half in halves]
    for process in both:
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(f"the run lock cannot be installed:\n{errors.decode()}")
    subprocess.run([*pip, "--no-index", wheel], check=True)
    return venv / "bin"


def protect(folder: Path) -> dict[str, int]:
    """Take the right to write from everything in a folder; its files with their sizes."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    return files_of(folder)


def files_of(folder: Path) -> dict[str, int]:
    """Size of each file."""
    return {str(path): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def wait_for_ui(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the web server has loaded the graph."""
    query = b'{"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"}'
    url = f"http://127.0.0.1:{port}/graphql"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            request = urllib.request.Request(url, query, {"Content-Type": "application/json"})
            with opener.open(request, timeout=30) as answer:
                if b"__repository__" in answer.read():
                    return
        except OSError:
            pass
        time.sleep(1)
    sys.exit("the UI did not answer with the graph")


def main() -> None:
    """Build, install, try; the exit code tells whether all of it worked."""
    with tempfile.TemporaryDirectory(prefix="wheel-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        programs = install(build_wheel(folder), folder / "venv")
        installed = protect(programs.parent)
        work = folder / "work"
        work.mkdir()
        # root writes in spite of a file's mode unless this capability is taken away
        held = ["setpriv", "--bounding-set", "-dac_override"] if os.getuid() == 0 else []
        environment = {
            "HOME": str(work),
            "PATH": os.environ["PATH"],
            "PYTHONPYCACHEPREFIX": str(work / "compiled"),  # what one process compiled serves the next
        }

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            command = [*held, str(programs / "etf-pipeline"), *arguments]
            return subprocess.Popen(command, cwd=work, env=environment, start_new_session=True)

        for command in (("run", *SPAN), ("check",), ("holdings",)):
            if start(*command).wait():
                sys.exit(f"etf-pipeline {command[0]} failed from the wheel")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ui = start("ui", "--port", str(port))
        try:
            wait_for_ui(ui, port)
        finally:
            os.killpg(ui.pid, signal.SIGTERM)
            try:
                ui.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(ui.pid, signal.SIGKILL)
        assert files_of(programs.parent) == installed, "the installed package was written to"
        print("The wheel runs, checks and serves from a read-only environment.")


if __name__ == "__main__":
    main()
