"""120 sessions of every dataset from the stand-in, through Dagster and many faults, end in the sample's own tables.

The backfill is made on the morning the last session becomes public, and much goes wrong. Two sessions later a second
pass over the last weeks completes what had not settled; then the results are computed.
"""

import gzip
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from etf_pipeline.contract import AVAILABLE_AT, load_contract
from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.definitions import build_defs
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.base import NotAvailable
from etf_pipeline.sources.sample import SampleSource
from etf_pipeline.sources.tushare.estimate import estimate
from etf_pipeline.sources.tushare.mapping import LACKING
from tests.pipeline.harness import PROCESSES
from tests.sources.tushare.clock import FakeClock
from tests.sources.tushare.ingest import ingest, source_of
from tests.sources.tushare.market import LISTED_FUND, Market, shenzhen_report
from tests.sources.tushare.server import (
    Call,
    TushareServer,
    at_random,
    connection_lost,
    cut,
    first_of,
    frequency_refusal,
    http_status,
    rate_refusal,
    refused,
    scripted,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tushare")]

START, END = date(2026, 5, 6), date(2026, 10, 29)
AGAIN = date(2026, 10, 12)
"""First day of the second pass."""
SESSIONS = sessions_between(START, END)
TOKEN = "c0ffee5eed" * 5
MORNING = datetime(2026, 10, 30, 0, 40, tzinfo=UTC)
"""08:40 in Shanghai: shares and NAVs of the last session are public since ten minutes."""
TWO_SESSIONS = timedelta(days=4, hours=1)
"""Over a weekend: everything up to the last session has settled by then."""
REVISED = ("510300.SH", "20261029")
LATE_LABELS = {"20261029", "20261030"}

# of every 100 answers 5 are HTTP errors and 3 refuse for the rate, half of them in each wording
NOISE = at_random(
    20261030,
    [
        *((0.0125, http_status(status)) for status in (429, 500, 502, 503)),
        (0.015, refused(rate_refusal())),
        (0.015, refused(frequency_refusal("fund_nav"))),
    ],
)
CUTS = {
    api: [None] * before + [fault]
    for api, before, fault in (
        ("fund_share", 17, cut()),
        ("fund_nav", 5, cut(0.9)),
        ("fund_daily", 40, connection_lost()),
        ("fund_adj", 41, cut(0.1)),
        ("fund_div", 3, cut()),
        ("index_weight", 20, connection_lost(0.99)),
        ("ci_daily", 99, cut()),
        ("sw_daily", 60, cut(0.7)),
        ("margin_detail", 1, connection_lost()),
        ("fund_basic", 4, cut()),
    )
}
HOUR = {"daily_basic": [None, None, refused(rate_refusal("小时", 20))]}
LAYERS = ("raw", "staging", "intermediate", "marts", "factors", "strategy")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Lesser(SampleSource):
    """The sample without what Tushare does not have."""

    def fetch(self, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        if dataset in LACKING:
            return LACKING[dataset]
        frame = super().fetch(dataset, start, end)
        return frame.assign(adjusted_close=np.nan) if dataset == "etf_bar" else frame


def run(pipeline: Pipeline, home: Path, layers: tuple[str, ...]) -> list[Any]:
    """Materialise these layers as the command line does; the entries of the run's log."""
    home.mkdir(parents=True, exist_ok=True)
    config = Path(__file__).parents[3] / "etf_pipeline" / "dagster.yaml"
    (home / "dagster.yaml").write_bytes(config.read_bytes())
    job = build_defs(pipeline=pipeline).resolve_implicit_global_asset_job_def()
    keys = {key for key in job.asset_layer.asset_graph.materializable_asset_keys if key.path[0] in layers}
    job = job.get_subset(asset_selection=keys, asset_check_selection=set())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        instance = dg.DagsterInstance.get()
    with instance:
        result = job.execute_in_process(instance=instance, run_config=QUIET)
        assert result.success
        return list(instance.all_logs(result.run_id))


@dataclass
class Backfill:
    """Both lakes, and what the server saw in the first and the second pass."""

    ours: Pipeline
    sample: Pipeline
    promised: int
    first: list[Call]
    second: list[Call]
    navs: list[float]
    shenzhen_ends: list[pd.Timestamp]
    log: list[Any]


def requests(calls: list[Call]) -> Counter[str]:
    """Answers that came whole, by request."""
    return Counter(f"{call.api} {sorted(call.params.items())}" for call in calls if isinstance(call.outcome, int))


def raw(pipeline: Pipeline, dataset: str) -> pd.DataFrame:
    return pipeline.lake.read_raw(load_contract()[dataset])


@pytest.fixture(scope="module")
def backfill(tmp_path_factory: pytest.TempPathFactory) -> Backfill:
    folder = tmp_path_factory.mktemp("backfill")
    sample = Pipeline(Deployment(lake=folder / "sample", start=START, end=END))
    sample.source = Lesser()
    run(sample, folder / "sample" / ".dagster", LAYERS)

    ours = Pipeline(Deployment(source="tushare", lake=folder / "tushare", start=START, end=END))
    market = Market(late_labels=LATE_LABELS, wrong_navs={REVISED: 1.05})
    clock = FakeClock(MORNING)
    with TushareServer(market.answer, TOKEN, first_of(scripted(CUTS | HOUR), NOISE)) as server:
        source = source_of(server.url, TOKEN, ours.lake.root / "responses" / "tushare", shenzhen_report, clock)
        ours.source = source
        promised = sum(cost.calls for cost in estimate(source, START, END)) + len(requests(server.calls))
        log = run(ours, ours.lake.root / ".dagster", ("raw",))
        first, made = list(server.calls), len(server.calls)
        navs, shenzhen_ends = [nav_of(ours)], [last_of_shenzhen(ours)]
        market.wrong_navs = {}
        clock.sleep((MORNING + TWO_SESSIONS - clock.now()).total_seconds())
        again = Pipeline(ours.deployment.model_copy(update={"start": AGAIN}))
        again.source = source
        log += run(again, ours.lake.root / ".dagster", ("raw",))
        log += run(ours, ours.lake.root / ".dagster", LAYERS[1:])
        return Backfill(
            ours,
            sample,
            promised,
            first,
            server.calls[made:],
            [*navs, nav_of(ours)],
            [*shenzhen_ends, last_of_shenzhen(ours)],
            log,
        )


def nav_of(pipeline: Pipeline) -> float:
    rows = raw(pipeline, "etf_nav")
    return rows.loc[(rows["etf_code"] == REVISED[0]) & (rows["trade_date"] == REVISED[1]), "unit_nav"].item()


def last_of_shenzhen(pipeline: Pipeline) -> pd.Timestamp:
    rows = raw(pipeline, "etf_share")
    return rows.loc[rows["etf_code"].str.endswith(".SZ"), "trade_date"].max()


# --- the same tables ---------------------------------------------------------------------------------------------

RELATIVE = 1e-9
"""Units are converted there and back."""
OPTIMISED = {"active_weight_ratio", "divergence", "composite"}
"""Columns behind the simulated holdings: the optimiser stops within 1e-8 of the best weights."""


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, name: str) -> None:
    assert found.columns.tolist() == expected.columns.tolist(), name
    assert len(found) == len(expected) > 0, name
    for column in found:
        absolute = 1e-8 if column in OPTIMISED else 1e-12
        pd.testing.assert_series_equal(
            found[column], expected[column], rtol=RELATIVE, atol=absolute, obj=f"{name}.{column}"
        )


def test_published_tables_are_those_of_the_sample(backfill: Backfill) -> None:
    tables = backfill.sample.lake.published_tables()
    assert tables == backfill.ours.lake.published_tables()
    assert len(tables) == 17
    for table in tables:
        found, expected = (p.lake.read_published(table) for p in (backfill.ours, backfill.sample))
        if "source" in found:
            assert set(found.pop("source")) <= {"tushare"}, table
            assert set(expected.pop("source")) <= {"sample (SYNTHETIC)"}, table
        if table == "active_fund_industry":  # two quarters are too few for a disclosure
            assert len(found) == len(expected) == 0
        else:
            assert_same(found, expected, table)
    assert backfill.ours.lake.read_published("strategy_holdings")["signal_date"].nunique() == 6


NOT_AT_TUSHARE = {
    "etf_info": ["category_1", "category_2", "category_3", "theme", "theme_kind"],
    "fund_holding": ["nav_weight"],
    "index_valuation": ["dividend_yield"],
    "fund_return": ["series_code"],
}


@pytest.mark.parametrize("dataset", sorted(set(load_contract()) - {*LACKING, "etf_bar_5min", "etf_dividend"}))
def test_ingested_rows_are_those_of_the_sample(backfill: Backfill, dataset: str) -> None:
    found, expected = (raw(p, dataset) for p in (backfill.ours, backfill.sample))
    if dataset == "index_bar":
        expected = expected[expected["index_code"].isin(found["index_code"].unique())]
        assert found["index_code"].nunique() == 4
    if dataset == "fund_info":
        found = found[found["fund_code"] != LISTED_FUND]
    lacking = NOT_AT_TUSHARE.get(dataset, [])
    assert set(lacking) - {"series_code"} <= set(found.columns[found.isna().all()])
    key = [name for name in load_contract()[dataset].key if name not in lacking]
    found, expected = (f.drop(columns=lacking).sort_values(key, ignore_index=True) for f in (found, expected))
    assert_same(found, expected, dataset)
    assert AVAILABLE_AT not in found or found[AVAILABLE_AT].notna().all()


def test_a_split_without_a_row_is_no_flow(backfill: Backfill) -> None:
    # 588260.SH split one into two on 2026-08-17; neither lake has a row of it
    flow = backfill.ours.lake.read_published("etf_flow")
    assert not backfill.ours.lake.raw_files(load_contract()["etf_split"])
    split = flow[(flow["etf_code"] == "588260.SH") & (flow["split_status"] == "inferred")]
    assert split["split_factor"].tolist() == [2.0]
    assert split["trade_date"].iloc[0] in (pd.Timestamp("2026-08-14"), pd.Timestamp("2026-08-17"))
    assert abs(split["net_creation_cny"].iloc[0]) < 0.2 * split["aum_cny"].iloc[0]


# --- the calls ---------------------------------------------------------------------------------------------------

BY_SESSION = ("fund_nav", "fund_daily", "fund_adj", "fund_div", "index_dailybasic", "ci_daily", "sw_daily")
MINIMUM = {
    **dict.fromkeys(BY_SESSION, len(SESSIONS)),
    "margin_detail": len(SESSIONS) - 1,  # the last one is public at 09:00 only
    "fund_share": 2 * len(SESSIONS),  # one an exchange
    "index_daily": 4 + 1,
    "index_weight": 59,  # tracked indices
    "daily_basic": 5,  # month ends
    "fund_portfolio": 2,  # quarters
    "fund_basic": 6,
    "etf_basic": 3,
    "index_classify": 1,
    "ci_index_member": 60,
    "index_member_all": 62,
}
"""The fewest calls that bring what the first pass can have."""


def test_hardly_a_call_more_than_needed(backfill: Backfill) -> None:
    assert len(SESSIONS) == 120
    answered = requests(backfill.first)
    assert max(answered.values()) == 1
    made = Counter(request.split()[0] for request in answered.elements())
    assert made.keys() == MINIMUM.keys()
    assert sum(made.values()) <= 1.05 * sum(MINIMUM.values())
    # what is more: Shenzhen's label before, the other code of CSI 300, second pages of two large indices
    assert made - Counter(MINIMUM) == {"fund_share": 1, "index_weight": 3}


def test_every_further_attempt_is_an_injected_fault(backfill: Backfill) -> None:
    faults = Counter(str(call.outcome) for call in backfill.first if not isinstance(call.outcome, int))
    assert len(backfill.first) == requests(backfill.first).total() + faults.total()
    errors = sum(count for name, count in faults.items() if name.startswith("HTTP"))
    rates = sum(count for name, count in faults.items() if "次" in name and "小时" not in name)
    assert (faults["cut"], faults["connection lost"]) == (7, 3)
    assert sum(count for name, count in faults.items() if "小时" in name) == 1
    assert errors / len(backfill.first) == pytest.approx(0.05, abs=0.015)
    assert rates / len(backfill.first) == pytest.approx(0.03, abs=0.012)


def test_the_estimate_was_right(backfill: Backfill) -> None:
    assert requests(backfill.first).total() == pytest.approx(backfill.promised, rel=0.05)


def test_later_only_what_had_not_settled_is_asked_for(backfill: Backfill) -> None:
    asked: dict[str, set[str]] = {}
    for call in backfill.second:
        for name in ("trade_date", "nav_date", "ex_date"):
            if name in call.params:
                asked.setdefault(call.api, set()).add(call.params[name][4:])
    days = {
        # public on T+1, settled two sessions later: 10-27 was settled at 08:30 on 10-30, before the answer came
        "fund_nav": {"1028", "1029"},
        "index_dailybasic": {"1028", "1029"},
        "fund_share": {"1028", "1029", "1030"},
        # public on T
        "fund_daily": {"1028", "1029"},
        "fund_adj": {"1028", "1029"},
        "ci_daily": {"1028", "1029"},
        "sw_daily": {"1028", "1029"},
        "fund_div": {"1029"},
        # public on T+1 at 09:00
        "margin_detail": {"1027", "1028", "1029"},
    }
    assert asked == days
    others = Counter(call.api for call in backfill.second if call.api not in days and isinstance(call.outcome, int))
    # lists are of today, and a year has not settled while its last days have not
    lists = ("fund_basic", "etf_basic", "index_classify", "ci_index_member", "index_member_all")
    assert others == {**{name: MINIMUM[name] for name in lists}, "index_daily": 5, "index_weight": 59 + 3}


def test_a_revised_nav_replaces_the_first(backfill: Backfill) -> None:
    wrong, right = backfill.navs
    assert wrong == pytest.approx(1.05 * right)
    archive = pd.concat(pd.read_parquet(f) for f in backfill.ours.lake.archive_files(load_contract()["etf_nav"]))
    assert wrong in archive["unit_nav"].tolist()


def test_late_shenzhen_labels_are_put_right(backfill: Backfill) -> None:
    # the label of the last day was that of the day before, and its own rows had no label yet
    assert backfill.shenzhen_ends == [pd.Timestamp("2026-10-28"), pd.Timestamp("2026-10-29")]
    notes = [e.dagster_event for e in backfill.log if e.dagster_event and e.dagster_event.is_step_materialization]
    told = [
        event.materialization.metadata["note"].value for event in notes if event.asset_key.path == ["raw", "etf_share"]
    ]
    assert told[-1].endswith("re-dated, 2026-10-30 is 2026-10-29")


def test_progress_stands_in_the_log_of_the_run(backfill: Backfill) -> None:
    messages = [entry.user_message for entry in backfill.log]
    for line in ("etf_share: fund_share 241/241", "etf_nav: fund_nav 120/120", "etf_bar: fund_adj 120/120"):
        assert any(line in message for message in messages), line


# --- secrets -----------------------------------------------------------------------------------------------------


def test_the_token_is_nowhere(backfill: Backfill) -> None:
    files = [path for path in backfill.ours.lake.root.rglob("*") if path.is_file()]
    assert {"responses", ".dagster", "raw", "published", "build"} <= {
        path.relative_to(backfill.ours.lake.root).parts[0] for path in files
    }
    secret = TOKEN.encode()
    for path in files:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert secret not in content, path
    assert not any(TOKEN in str(entry) for entry in backfill.log)


# --- kills -------------------------------------------------------------------------------------------------------

KILLS = 20
KILLED = sorted(set(load_contract()) - {*LACKING, "etf_bar_5min", "trading_calendar"})
KILLED_END = datetime(2026, 11, 20, 1, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[TushareServer]:
    with TushareServer(Market().answer, TOKEN) as server:
        yield server


def test_killed_at_any_moment_nothing_is_fetched_twice(
    backfill: Backfill, server: TushareServer, tmp_path: Path
) -> None:
    report = tmp_path / "report.parquet"
    shenzhen_report(date(2026, 4, 1), date(2026, 10, 30)).to_parquet(report)
    lake = tmp_path / "lake"
    lake.mkdir()
    moments = sorted(random.Random(20261030).sample(range(sum(MINIMUM.values())), KILLS))
    for number, moment in enumerate([*moments, None]):
        at = KILLED_END + timedelta(minutes=number)
        child = PROCESSES.Process(target=ingest, args=(server.url, TOKEN, lake, report, at, START, END, KILLED))
        child.start()
        while moment is not None and child.is_alive() and server.count() < moment:
            time.sleep(0.0005)
        if moment is not None:
            assert child.is_alive(), "it ended before it was killed"
            child.kill()
        child.join()
    assert child.exitcode == 0
    assert (lake / "done").exists()
    for name in KILLED:
        pd.testing.assert_frame_equal(Lake(lake).read_raw(load_contract()[name]), raw(backfill.ours, name), obj=name)
    stored = Counter(path.name.partition(".")[0] for path in (lake / "responses").rglob("*.gz"))
    assert max(stored.values()) == 1
    # an answer may be lost on its way into the store, no more than one for each API at work
    assert 0 <= requests(server.calls).total() - stored.total() <= 2 * KILLS
