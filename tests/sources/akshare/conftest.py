"""What the tests of the AKShare adapter share: the site, one worker process for all of them, and a clock."""

from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from etf_pipeline.sources.akshare.client import AKSHARE_VERSION, AkshareClient, Worker
from etf_pipeline.sources.akshare.source import AkshareSource
from etf_pipeline.sources.responses import ResponseStore
from tests.pipeline.harness import environment
from tests.sources.akshare import market
from tests.sources.akshare.server import Site, serve

try:
    _INSTALLED = version("akshare")
except PackageNotFoundError:
    _INSTALLED = "none"

Clients = Callable[..., AkshareClient]


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = market.NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(autouse=True)
def _only_with_akshare() -> None:
    if _INSTALLED != AKSHARE_VERSION:
        pytest.skip(f"needs akshare {AKSHARE_VERSION}, found {_INSTALLED}: pip install 'etf-pipeline[akshare]'")


@pytest.fixture(scope="session")
def shared_site() -> Iterator[Site]:
    with serve(market.page) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.asked.clear()
    return shared_site


@pytest.fixture(scope="session")
def worker(shared_site: Site) -> Iterator[Worker]:
    """AKShare takes a second to load: one process serves all tests."""
    process = Worker(shared_site.gateways, pause=0)
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("PYTHONPATH", environment()["PYTHONPATH"])  # cuts it off the network
        yield process
        process.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> ResponseStore:
    return ResponseStore(tmp_path / "responses" / "akshare")


@pytest.fixture
def clients(site: Site, store: ResponseStore, worker: Worker, clock: Clock) -> Clients:
    """Makes clients of the shared worker and this test's store."""

    def make(**options: object) -> AkshareClient:
        settings = {"deadline": 30.0, "retry_wait": 0.01, "clock": clock, **options}
        return AkshareClient(store, worker, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def client(clients: Clients) -> AkshareClient:
    return clients()


@pytest.fixture
def source(client: AkshareClient) -> AkshareSource:
    return AkshareSource(client, ("000300.SH", "000852.SH", "399370.SZ", "399371.SZ"))
