"""The process AKShare runs in: its deadline, what it may see, what is kept of it, and what its failures become."""

import gzip
import hashlib
import os
import select
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from etf_pipeline.sources.akshare import client as client_module
from etf_pipeline.sources.akshare.client import (
    AkshareClient,
    AkshareMissing,
    Worker,
)
from etf_pipeline.sources.base import MalformedResponse, TransientSourceError, VendorUnavailable
from etf_pipeline.sources.responses import NotStored, ResponseStore
from tests.pipeline.harness import environment
from tests.sources.akshare.conftest import Clients, Clock
from tests.sources.akshare.market import sse_shares
from tests.sources.akshare.server import Reply, Site

SSE = "fund_etf_scale_sse"
DAY = {"date": "20260116"}
BLOCK_PAGE = Reply("<!DOCTYPE html><html><body>访问过于频繁</body></html>".encode(), content_type="text/html")


def test_a_hanging_endpoint_is_killed_at_the_deadline_and_the_next_call_works(
    clients: Clients, site: Site, worker: Worker
) -> None:
    clients().call(SSE, {"date": "20260115"})
    before = worker.pid
    with site.instead("STAT_DATE=2026-01-16", Reply(hang=60)), pytest.raises(VendorUnavailable) as refusal:
        clients(deadline=1.0, attempts=1).call(SSE, DAY)
    assert "akshare fund_etf_scale_sse(date='20260116'): no answer within 1 s" in str(refusal.value)
    assert before is not None
    assert not Path(f"/proc/{before}").exists()
    assert len(clients().call(SSE, DAY).frame) == 8
    assert worker.pid != before


def test_a_dropped_connection_is_tried_again(client: AkshareClient, site: Site) -> None:
    with site.instead("STAT_DATE", Reply(drop=True), times=1):
        assert len(client.call(SSE, DAY).frame) == 8
    assert len(site.asked) == 2
    assert client.calls == {SSE: 1}


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(drop=True), "Remote end closed connection"),
        (BLOCK_PAGE, "an HTML page instead of data from query.sse.com.cn"),
        (Reply(b"", 403), "HTTP 403 from query.sse.com.cn"),
        (Reply(b"", 429), "HTTP 429"),
        (Reply(b"busy", 502), "HTTP 502"),
    ],
    ids=["dropped", "block page", "forbidden", "too many", "bad gateway"],
)
def test_refusals_are_transient_and_name_call_and_remedy(
    client: AkshareClient, site: Site, store: ResponseStore, reply: Reply, told: str
) -> None:
    with site.instead("STAT_DATE", reply), pytest.raises(TransientSourceError) as refusal:
        client.call(SSE, DAY)
    assert len(site.asked) == 3
    assert refusal.value.retry_after_seconds == 600
    for part in ("akshare fund_etf_scale_sse(date='20260116')", told, "gateway"):
        assert part in str(refusal.value)
    assert not store.root.exists()


def test_an_answer_is_traced_to_its_bytes(client: AkshareClient, store: ResponseStore, clock: Clock) -> None:
    answer = client.call(SSE, DAY)
    (response,) = answer.responses
    assert response.received_at == clock.now
    assert response.body == sse_shares({"STAT_DATE": "2026-01-16"}).body
    assert response.request["url"].startswith("https://query.sse.com.cn/commonQuery.do?isPagination=true")
    assert "127.0.0.1" not in str(response.request)
    stored = gzip.decompress(response.path.read_bytes())
    assert b'"TOT_VOL": "9000900.50"' in stored
    assert hashlib.sha256(stored.partition(b"\n")[2]).hexdigest() == response.sha256
    assert list(store.root.rglob("*.gz")) == [response.path]


def test_stored_answers_replay_the_same_frame_without_a_request(clients: Clients, site: Site) -> None:
    calls: list[tuple[str, dict[str, str]]] = [
        (SSE, DAY),
        ("fund_scale_daily_szse", {"start_date": "20260105", "end_date": "20260116", "symbol": "ETF"}),
        ("fund_overview_em", {"symbol": "510300"}),
        ("fund_etf_fund_info_em", {"fund": "510300", "start_date": "20251201", "end_date": "20260116"}),
        ("fund_open_fund_info_em", {"symbol": "510300", "indicator": "累计净值走势"}),
        ("stock_zh_index_value_csindex", {"symbol": "000300"}),
        ("index_csindex_all", {}),
        (SSE, {"date": "20260117"}),
    ]
    live = clients()
    answers = [live.call(function, arguments) for function, arguments in calls]
    assert [len(answer.responses) for answer in answers] == [1, 1, 1, 2, 1, 1, 1, 1]
    site.asked.clear()
    offline = clients(offline=True)
    for (function, arguments), answer in zip(calls, answers, strict=True):
        again = offline.call(function, arguments)
        assert_frame_equal(again.frame, answer.frame)
        assert [r.path for r in again.responses] == [r.path for r in answer.responses]
    assert site.asked == []
    assert offline.calls.total() == 0


def test_every_page_of_a_list_is_asked_for_once(client: AkshareClient, site: Site) -> None:
    frame = client.call(
        "fund_etf_fund_info_em", {"fund": "510300", "start_date": "20251201", "end_date": "20260116"}
    ).frame
    assert len(frame) == 28
    # AKShare asks for the first page twice
    assert [query["pageIndex"] for _, query in site.asked] == ["1", "2"]


def test_offline_without_a_stored_answer_is_told(clients: Clients) -> None:
    with pytest.raises(NotStored, match=r"fund_etf_scale_sse\(date='20260116'\): no stored answer"):
        clients(offline=True).call(SSE, DAY)


def test_since_and_until_choose_among_stored_answers(client: AkshareClient, site: Site, clock: Clock) -> None:
    first = client.call(SSE, DAY).responses
    begin = clock.now
    clock.now += timedelta(days=1)
    assert client.call(SSE, DAY, since=begin).responses[0].path == first[0].path
    second = client.call(SSE, DAY, since=clock.now).responses
    assert client.call(SSE, DAY).responses[0].path == second[0].path
    assert client.call(SSE, DAY, until=clock.now).responses[0].path == first[0].path
    assert len(site.asked) == 2
    with pytest.raises(NotStored):
        client.call(SSE, DAY, until=begin)


def test_what_cannot_be_parsed_is_not_kept(client: AkshareClient, site: Site, store: ResponseStore) -> None:
    with site.instead("STAT_DATE", Reply(b'{"result": [{"NUM": 1')), pytest.raises(MalformedResponse):
        client.call(SSE, DAY)
    assert not store.root.exists()
    assert len(client.call(SSE, DAY).frame) == 8


def test_remote_text_is_read_not_evaluated(client: AkshareClient, site: Site, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    page = f"var pageinfo = [1,1000,1];var jjfh_data=[[open({str(trap)!r}, 'w').close()]];var jjfh_jjgs=[];"
    with site.instead("dt=8", Reply(page.encode())), pytest.raises(MalformedResponse, match="malformed node or string"):
        client.call("fund_fh_em", {"year": "2026"})
    assert not trap.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_worker_sees_no_secret_and_ends_with_its_parent(site: Site, store: ResponseStore, tmp_path: Path) -> None:
    script = f"""
import sys
from etf_pipeline.sources.akshare.client import AkshareClient, Worker
from etf_pipeline.sources.responses import NotStored, ResponseStore
from pathlib import Path
worker = Worker({site.gateways!r}, pause=0)
client = AkshareClient(ResponseStore(Path({str(tmp_path)!r})), worker)
client.call({SSE!r}, {DAY!r})
print(worker.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(TUSHARE_TOKEN="s3cret-t0ken"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    process = Path("/proc") / parent.stdout.readline().decode().strip()
    variables = (process / "environ").read_bytes()
    assert b"TQDM_DISABLE=1" in variables
    assert b"s3cret-t0ken" not in variables
    child = os.pidfd_open(int(process.name))
    parent.kill()
    parent.wait()
    parent.communicate()
    assert select.select([child], [], [], 20)[0]  # readable once the process has ended
    os.close(child)


def test_the_worker_has_no_network(client: AkshareClient) -> None:
    # Sina is no host of this source, so nothing stands in for it
    call = {"function": "fund_etf_category_sina", "arguments": {"symbol": "ETF基金"}, "html": False}
    told = client._worker.converse(call, 20, client_module._Exchange(client._responses, "none", None, None, False))
    assert "no network in tests" in told["message"]


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, store: ResponseStore) -> None:
    monkeypatch.setattr(client_module, "AKSHARE_VERSION", "1.18.14")
    with pytest.raises(
        AkshareMissing, match=r"needs akshare 1\.18\.14, installed is 1\.19\.5.*etf-pipeline\[akshare\]"
    ):
        AkshareClient(store)


def test_without_the_package_it_is_named_when_the_source_is_asked(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["akshare"] = None
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.base import SourceError
pipeline = Pipeline(Deployment(source="akshare"))
assert not any(name.startswith("etf_pipeline.sources.akshare") for name in sys.modules)
try:
    pipeline.source
except SourceError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "not installed: pip install 'etf-pipeline[akshare]'" in done.stdout, done.stderr
