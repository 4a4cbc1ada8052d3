import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from pandas.testing import assert_frame_equal

from tests.sources.tushare.account import TOKEN, always, connect, shares
from tests.sources.tushare.server import Call, TushareServer

FIELDS = ["ts_code", "trade_date", "fd_share"]
ROWS, PAGE = 950, 50

_ASK = """
import sys
from pathlib import Path
from tests.sources.tushare.account import connect
with connect(sys.argv[1], Path(sys.argv[2])) as client:
    client.rows("fund_share", {"trade_date": "20260302"}, sys.argv[3].split(","), page_size=int(sys.argv[4]))
"""


def start(url: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _ASK, url, str(folder), ",".join(FIELDS), str(PAGE)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE)


def stored_offsets(folder: Path) -> set[int]:
    files = folder.rglob("*.gz")
    return {json.loads(gzip.decompress(file.read_bytes()).partition(b"\n")[0])["request"]["offset"] for file in files}


def test_a_killed_query_goes_on_without_asking_twice(tmp_path: Path) -> None:
    """Processes die by SIGKILL, so many seconds after a call of that number came in: sending, storing, or later."""
    kills = {3: 0.0, 9: 0.003, 14: 0.006}
    running: list[subprocess.Popen[bytes]] = []

    def plan(call: Call) -> None:
        if call.number in kills:
            threading.Timer(kills[call.number], os.kill, (running[-1].pid, signal.SIGKILL)).start()

    with TushareServer(always(shares(ROWS)), TOKEN, plan) as server:
        for _ in kills:
            known, asked = stored_offsets(tmp_path), server.count()
            running.append(start(server.url, tmp_path))
            _, errors = running[-1].communicate(timeout=60)
            assert running[-1].returncode == -signal.SIGKILL, errors.decode()
            assert known.isdisjoint(call.params["offset"] for call in server.calls[asked:])
        known, asked = stored_offsets(tmp_path), server.count()
        assert len(known) >= 11
        with connect(server.url, tmp_path) as client:
            frame = client.rows("fund_share", {"trade_date": "20260302"}, FIELDS, page_size=PAGE)
        assert_frame_equal(frame, shares(ROWS))
        # 950 rows are pages 0 … 18 and an empty one, which says that the full page 18 was the last
        offsets = set(range(0, ROWS + 1, PAGE))
        assert [call.params["offset"] for call in server.calls[asked:]] == sorted(offsets - known)
        assert server.count() <= 20 + len(kills)
    assert len(list(tmp_path.rglob("*.gz"))) == 20
