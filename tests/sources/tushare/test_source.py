"""What is asked for and when, what is answered from the store, and what a user is told; over real sockets."""

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from etf_pipeline.cli import app
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import FIRST_DAY, Pipeline
from etf_pipeline.settings import Deployment, SettingsError, TushareSettings
from etf_pipeline.sources.akshare import client as akshare_client
from etf_pipeline.sources.base import DISAGREEMENTS, NotAvailable, SourceError
from etf_pipeline.sources.responses import NotStored, ResponseStore
from etf_pipeline.sources.trust import DatesRefused, EmptyDay, NotPublished
from etf_pipeline.sources.tushare import source as source_module
from etf_pipeline.sources.tushare.errors import PermissionDenied, TokenError
from etf_pipeline.sources.tushare.estimate import estimate
from etf_pipeline.sources.tushare.mapping import ADAPTERS
from etf_pipeline.sources.tushare.source import TushareSource
from tests.sources.tushare.clock import FakeClock
from tests.sources.tushare.market import Market, minute_bars, sample, shenzhen_report
from tests.sources.tushare.server import NO_PERMISSION, WRONG_PARAMETERS, Refusal, TushareServer, refused, scripted

TOKEN = "0a1b2c3d4e5f-not-a-real-token"
STYLES = ("000300.SH", "000852.SH", "399370.SZ", "399371.SZ")
FEW = frozenset({"510300.SH", "159915.SZ", "510500.SH", "513100.SH", "511010.SH"})
START, END = date(2026, 9, 28), date(2026, 10, 9)  # sessions: 09-28, 09-29, 09-30, 10-08, 10-09
SESSIONS = 5
LATER = datetime(2026, 11, 20, 1, tzinfo=UTC)
"""09:00 in Shanghai, long after everything has settled."""

Answer = Callable[[str, dict[str, str]], pd.DataFrame | Refusal]
Make = Callable[..., TushareSource]


def shanghai(text: str) -> datetime:
    return pd.Timestamp(text, tz="Asia/Shanghai").to_pydatetime()


@pytest.fixture
def market() -> Market:
    return Market(only=FEW)


@pytest.fixture
def server(market: Market) -> Iterator[TushareServer]:
    with TushareServer(market.answer, TOKEN) as server:
        yield server


@pytest.fixture
def make(server: TushareServer, tmp_path: Path) -> Make:
    """Sources on one store of responses unless another is named; what is not given is as an ordinary account has it."""

    def make(at: datetime | FakeClock = LATER, **given: Any) -> TushareSource:
        clock = at if isinstance(at, FakeClock) else FakeClock(at)
        report = given.pop("exchange_report", shenzhen_report)
        scheme, store = given.pop("scheme", "citic"), given.pop("store", "tushare")
        settings = {"token": SecretStr(TOKEN), "url": server.url, "points": 8000, **given}
        return TushareSource(
            TushareSettings.model_validate(settings),
            ResponseStore(tmp_path / "lake" / "responses" / store),
            scheme=scheme,
            style_indices=STYLES,
            repull_sessions=2,
            exchange_report=report,
            clock=clock,
        )

    return make


def fetched(source: TushareSource, dataset: str, start: date = START, end: date = END) -> pd.DataFrame:
    frame = source.fetch(dataset, start, end)
    assert isinstance(frame, pd.DataFrame)
    return frame


def days(server: TushareServer, api: str, name: str = "trade_date") -> list[str]:
    return [call.params[name] for call in server.calls if call.api == api]


# --- what an answer is good for ----------------------------------------------------------------------------------


def test_settled_days_are_asked_for_once(make: Make, server: TushareServer) -> None:
    first = fetched(make(), "etf_nav")
    assert days(server, "fund_nav", "nav_date") == ["20260928", "20260929", "20260930", "20261008", "20261009"]
    made = server.count()
    again = fetched(make(LATER + timedelta(hours=2)), "etf_nav")
    pd.testing.assert_frame_equal(first, again)
    assert server.count() == made
    # a wider window asks for what it adds, and for nothing it has
    wider = fetched(make(LATER + timedelta(hours=3)), "etf_nav", date(2026, 9, 23))
    assert server.count() == made + 2
    assert wider["trade_date"].nunique() == SESSIONS + 2


def test_a_day_is_asked_for_again_until_it_has_settled(make: Make, server: TushareServer) -> None:
    day = date(2026, 9, 23)  # a Wednesday; its NAV is public on the 24th at 08:30 and settled two sessions later

    def asked(at: str) -> int:
        before = server.count("fund_nav")
        fetched(make(shanghai(at)), "etf_nav", day, day)
        return server.count("fund_nav") - before

    assert asked("2026-09-24 08:00") == 0  # not public yet
    assert asked("2026-09-24 08:35") == 1
    assert asked("2026-09-24 12:00") == 0  # the answer is recent
    assert asked("2026-09-28 08:35") == 1  # the 25th is a holiday
    assert asked("2026-09-29 08:29") == 1
    assert asked("2026-09-29 12:31") == 1  # settled at 08:30, after the last answer
    assert asked("2026-09-29 20:00") == 0
    assert asked("2026-12-24 20:00") == 0


def test_lists_are_asked_for_once_a_day_of_shanghai(make: Make, server: TushareServer) -> None:
    def asked(at: str) -> int:
        before = server.count("fund_basic")
        fetched(make(shanghai(at)), "etf_info")
        return server.count("fund_basic") - before

    assert [asked(at) for at in ("2026-10-08 08:35", "2026-10-08 23:59", "2026-10-09 00:01")] == [3, 0, 3]


def test_one_source_sees_the_next_day(make: Make, market: Market) -> None:
    clock = FakeClock(shanghai("2026-10-08 12:00"))
    source = make(clock)
    assert len(source.lists.etfs) == len(FEW)
    market.only = frozenset({"510300.SH"})
    del market.__dict__["_etfs"]
    clock.sleep(86_400)
    assert len(source.lists.etfs) == 1


def test_days_that_are_not_public_are_absent_and_not_asked_for(make: Make, server: TushareServer) -> None:
    noon = make(shanghai("2026-10-09 12:00"))
    assert fetched(noon, "etf_bar")["trade_date"].max() == pd.Timestamp("2026-10-08")
    assert days(server, "fund_daily")[-1] == "20261008"
    assert noon.span == (FIRST_DAY["tushare"], date(2026, 10, 8))
    assert make(shanghai("2026-10-09 08:29")).span[1] == date(2026, 9, 30)
    assert make(shanghai("2026-10-10 12:00")).span[1] == date(2026, 10, 8)  # Friday's shares come on Monday
    future = fetched(noon, "etf_bar", date(2026, 10, 9), date(2026, 12, 31))
    assert len(future) == 0
    assert future.columns.tolist() == load_contract()["etf_bar"].column_names


def test_days_without_a_session_are_not_asked_for(make: Make, server: TushareServer) -> None:
    assert len(fetched(make(), "etf_share", date(2026, 10, 1), date(2026, 10, 7))) == 0
    assert server.count("fund_share") == 0


# --- days without any row ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "api"),
    [
        ("etf_share", "fund_share"),
        ("etf_nav", "fund_nav"),
        ("etf_bar", "fund_daily"),
        ("etf_bar", "fund_adj"),
        ("industry_bar", "ci_daily"),
        ("industry_bar", "sw_daily"),
        ("stock_value", "daily_basic"),
    ],
)
def test_an_empty_session_is_an_error_and_not_for_ever(make: Make, market: Market, dataset: str, api: str) -> None:
    market.gaps = {(api, "20260930")}
    with pytest.raises(EmptyDay, match=f"{api}: no row at all for 2026-09-30"):
        make().fetch(dataset, START, END)
    # the gap was stored like any answer, but is not believed
    market.gaps = set()
    assert len(fetched(make(LATER + timedelta(minutes=1)), dataset)) > 0


def test_a_session_that_came_due_only_now_is_late(make: Make, market: Market) -> None:
    market.gaps = {("fund_nav", "20261009")}
    with pytest.raises(NotPublished, match="fund_nav: no row yet for 2026-10-09") as caught:
        make(shanghai("2026-10-12 08:35")).fetch("etf_nav", START, END)
    assert caught.value.retry_after_seconds > 0


def test_a_session_without_a_dividend_is_none(make: Make) -> None:
    assert len(fetched(make(), "etf_dividend")) == 0


# --- Shenzhen's dates --------------------------------------------------------------------------------------------


def shenzhen_days(frame: pd.DataFrame) -> list[str]:
    shenzhen = frame[frame["etf_code"].str.endswith(".SZ")]
    return sorted(shenzhen["trade_date"].dt.strftime("%m-%d").unique())


def test_late_labels_are_put_right(server: TushareServer, make: Make, market: Market) -> None:
    market.only = None  # dates are judged by many funds
    expected = fetched(make(), "etf_share")
    market.late_labels = {"20261009", "20261012"}
    source = make(store="late")
    notes = source.validate()
    found = fetched(source, "etf_share")
    pd.testing.assert_frame_equal(found, expected)
    assert notes["etf_share"].endswith("1 of 7 days re-dated, 2026-10-12 is 2026-10-09")
    assert DISAGREEMENTS not in found.attrs


def test_days_that_agree_with_no_session_are_refused(make: Make, market: Market) -> None:
    market.only = None

    def elsewhere(start: date, end: date) -> pd.DataFrame:
        return shenzhen_report(start, end).assign(shares=lambda rows: rows["shares"] + 12_345)

    with pytest.raises(DatesRefused, match="shares of 7 days agree with the exchange's own report at none"):
        make(exchange_report=elsewhere).fetch("etf_share", START, END)


def test_funds_the_exchange_counts_differently_are_shown(make: Make, market: Market) -> None:
    market.only = None

    def another(start: date, end: date) -> pd.DataFrame:
        report = shenzhen_report(start, end)
        odd = (report["etf_code"] == "159915.SZ") & (report["trade_date"] == pd.Timestamp("2026-10-08"))
        return report.assign(shares=report["shares"].mask(odd, report["shares"] * 2))

    shown = fetched(make(exchange_report=another), "etf_share").attrs[DISAGREEMENTS]
    assert shown.startswith("1 disagreements")
    assert "159915.SZ" in shown
    assert "0.5" in shown


def test_without_a_report_labels_are_taken_and_that_is_told(make: Make, server: TushareServer) -> None:
    source = make(exchange_report=None)
    notes = source.validate()
    assert notes["etf_share"].startswith("DATES NOT VERIFIED: Shenzhen's shares")
    frame = fetched(source, "etf_share")
    assert notes["etf_share"].startswith("DATES NOT VERIFIED: 5 Shenzhen rows")
    assert shenzhen_days(frame) == ["09-28", "09-29", "09-30", "10-08", "10-09"]
    assert server.count("fund_share") == 2 * SESSIONS


# --- other shapes of questions -----------------------------------------------------------------------------------


def test_five_minute_bars(make: Make, server: TushareServer) -> None:
    frame = fetched(make(minute_bars=True), "etf_bar_5min")
    assert server.count("stk_mins") == 2 * len(FEW)  # September and October
    expected = minute_bars(sample("etf_bar")[lambda bars: bars["etf_code"].isin(FEW)])
    expected = expected[expected["trade_time"].between("2026-09-28", "2026-10-10")]
    assert len(frame) == len(expected) == 2 * SESSIONS * len(FEW)
    expected = expected.sort_values(["ts_code", "trade_time"])
    assert frame["bar_end"].dt.strftime("%Y-%m-%d %H:%M:%S").tolist() == expected["trade_time"].tolist()
    assert frame["volume"].tolist() == expected["vol"].tolist()
    assert isinstance(make().fetch("etf_bar_5min", START, END), NotAvailable)


def test_a_quarter_too_long_to_page_is_asked_for_by_day_and_by_fund(make: Make, market: Market) -> None:
    quarter = date(2026, 4, 1), date(2026, 6, 30)
    whole = fetched(make(), "fund_holding", *quarter)
    busiest = whole["announced_date"].mode()[0]
    at_once = whole["announced_date"] == busiest
    active = sorted(whole.loc[at_once, "fund_code"].unique())[:3]
    market.only = FEW | {*active}

    def answer(api: str, params: dict[str, str]) -> pd.DataFrame | Refusal:
        if api == "fund_portfolio" and (len(params) == 1 or params.get("ann_date") == f"{busiest:%Y%m%d}"):
            return WRONG_PARAMETERS  # as for an offset beyond the cap
        return market.answer(api, params)

    with TushareServer(answer, TOKEN) as server:
        frame = fetched(make(store="long", url=server.url), "fund_holding", *quarter)
    # of the day that was too long, those of active funds; nothing else is of use
    expected = whole[~at_once | whole["fund_code"].isin(active)]
    pd.testing.assert_frame_equal(frame, expected.reset_index(drop=True))
    asked = [set(call.params) & {"ann_date", "ts_code"} for call in server.calls if call.api == "fund_portfolio"]
    assert (asked.count({"ann_date"}), asked.count({"ts_code"})) == (125, 3)


def test_apis_of_one_dataset_are_asked_side_by_side(make: Make, market: Market) -> None:
    together = threading.Barrier(2, timeout=10)

    def answer(api: str, params: dict[str, str]) -> pd.DataFrame | Refusal:
        if api in ("fund_daily", "fund_adj"):
            together.wait()  # each is answered only while the other is asked too
        return market.answer(api, params)

    with TushareServer(answer, TOKEN) as server:
        assert fetched(make(url=server.url), "etf_bar")["trade_date"].nunique() == SESSIONS
        assert set(server.most_at_once.values()) == {1}


@pytest.mark.parametrize("failing", ["fund_daily", "fund_adj"])
def test_one_api_that_fails_stops_the_others(make: Make, server: TushareServer, failing: str) -> None:
    server.faults = scripted({failing: [refused(NO_PERMISSION)]})
    with pytest.raises(PermissionDenied, match=rf"{failing}\(trade_date=20260601"):
        make().fetch("etf_bar", date(2026, 6, 1), END)
    assert server.count("fund_daily") + server.count("fund_adj") < 40  # of 168
    assert server.count(failing) == 1


def test_progress_is_told(make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="etf_pipeline.sources"):
        fetched(make(), "etf_nav")
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("etf_nav")]
    assert told == [f"etf_nav: fund_nav {n}/5" for n in range(1, 6)]


# --- accounts ----------------------------------------------------------------------------------------------------


def test_an_account_without_enough_points_is_told_all_it_lacks(make: Make, server: TushareServer) -> None:
    with pytest.raises(SourceError) as caught:
        make(points=120).validate()
    for required in (name for name, dataset in load_contract().items() if dataset.required):
        assert f"{required} is required" in str(caught.value)
    assert server.count() == 0
    with pytest.raises(SettingsError, match="ETF_PIPELINE_TUSHARE_POINTS: 100 points"):
        make(points=100).validate()


def test_citic_needs_more_points_than_shenwan(make: Make) -> None:
    with pytest.raises(SourceError, match=r"the scheme citic: ci_index_member needs 5000 points.*--scheme sw"):
        make(points=2000).validate()
    source = make(points=2000, scheme="sw")
    notes = source.validate()
    assert all(notes.values())
    assert notes["etf_bar"] == "not available: fund_daily needs 5000 points, the account has 2000"
    assert "no index codes" in notes["etf_info"]
    assert "CITIC is missing" in notes["industry_info"]
    assert set(fetched(source, "industry_info")["scheme"]) == {"sw"}
    bars = source.fetch("etf_bar", START, END)
    assert bars == NotAvailable("fund_daily needs 5000 points, the account has 2000")


def test_without_index_codes_no_weights_are_asked_for(make: Make, server: TushareServer) -> None:
    source = make(points=5000)
    info = fetched(source, "etf_info")
    assert set(info["etf_code"]) == FEW
    assert info["index_code"].isna().all()
    assert len(fetched(source, "index_weight")) == 0
    assert {call.api for call in server.calls} == {"fund_basic"}


def test_a_wrong_token_is_found_first(make: Make) -> None:
    with pytest.raises(TokenError) as caught:
        make(token=SecretStr("another-token")).validate()
    assert "another-token" not in str(caught.value)


def test_a_missing_token_is_found_before_any_call(make: Make, server: TushareServer) -> None:
    with pytest.raises(SettingsError, match="put yours into the environment variable TUSHARE_TOKEN"):
        make(token=SecretStr("")).validate()
    assert server.count() == 0


def test_the_calendar_is_the_exchanges(make: Make, server: TushareServer) -> None:
    assert len(fetched(make(), "trading_calendar")) == SESSIONS
    assert server.count() == 0


@pytest.mark.parametrize("dataset", ["etf_split", "theme_industry", "etf_holder"])
def test_what_tushare_lacks_is_said(make: Make, dataset: str) -> None:
    lacking = make().fetch(dataset, START, END)
    assert isinstance(lacking, NotAvailable)
    assert make().validate()[dataset] == lacking.reason


# --- stored responses --------------------------------------------------------------------------------------------


def test_every_dataset_is_made_again_offline_without_a_token(make: Make, server: TushareServer) -> None:
    online = make()
    frames = {name: online.fetch(name, START, END) for name in ADAPTERS}
    made = server.count()
    offline = make(LATER + timedelta(days=30), offline=True, token=SecretStr(""))
    offline.validate()
    for name, frame in frames.items():
        again = offline.fetch(name, START, END)
        if isinstance(frame, pd.DataFrame):
            pd.testing.assert_frame_equal(again, frame)
    assert server.count() == made
    with pytest.raises(NotStored, match=r"fund_nav\(nav_date=20261012"):
        offline.fetch("etf_nav", START, date(2026, 10, 12))


@pytest.mark.parametrize(
    ("dataset", "apis"),
    [
        ("etf_share", {"fund_share": 4}),  # Shanghai's day, and Shenzhen's labels around it
        ("etf_nav", {"fund_nav": 1}),
        ("etf_bar", {"fund_daily": 1, "fund_adj": 1}),
        ("index_bar", {"index_daily": 4}),
        ("stock_value", {"daily_basic": 1}),
    ],
)
def test_rows_are_traced_to_their_bytes(make: Make, server: TushareServer, dataset: str, apis: dict[str, int]) -> None:
    day = date(2026, 9, 30)
    online = make()
    rows = fetched(online, dataset)
    assert online.client.used == []  # answers are on the disk, not in memory
    traced, responses = make(offline=True).trace(dataset, day)
    assert isinstance(traced, pd.DataFrame)
    expected = rows[rows["trade_date"] == pd.Timestamp(day)].reset_index(drop=True)
    pd.testing.assert_frame_equal(traced, expected)
    lists = {"etf_basic": 3, "fund_basic": 3} if dataset.startswith("etf") else {}
    assert {r.api: sum(other.api == r.api for other in responses) for r in responses} == {**apis, **lists}
    for response in responses:
        assert response.path.exists()
        assert response.request["api"] == response.api


# --- the estimate ------------------------------------------------------------------------------------------------


def test_the_estimate_is_what_a_backfill_needs(make: Make, server: TushareServer) -> None:
    source = make(points=5000, minute_bars=True)
    costs = estimate(source, START, END)
    asked = server.count()
    assert asked == 7  # the lists: three of listed funds, three of others, one of industries
    by_dataset = {(cost.dataset, cost.api): cost for cost in costs}
    assert by_dataset["etf_share", "fund_share"].calls == 2 * SESSIONS + 2
    assert by_dataset["etf_bar_5min", "stk_mins"].calls == 2 * len(FEW)
    assert by_dataset["etf_bar_5min", "stk_mins"].points is None
    assert by_dataset["etf_info", "etf_basic"].missing == "etf_basic needs 8000 points, the account has 5000"
    assert by_dataset["etf_info", "etf_basic"].calls == 0
    assert by_dataset["etf_nav", "fund_nav"].minutes == pytest.approx(SESSIONS / 500)
    for name in ADAPTERS:
        source.fetch(name, START, END)
    # only the pages of fund reports are guessed
    guessed = by_dataset["fund_holding", "fund_portfolio"].calls - server.count("fund_portfolio")
    assert server.count() - asked == sum(cost.calls for cost in costs) - guessed
    left = estimate(make(points=5000, minute_bars=True), START, END)
    assert sum(cost.calls for cost in left) == 0
    assert sum(cost.stored for cost in left) == sum(cost.stored + cost.calls for cost in costs) - guessed


def test_the_estimate_counts_pages_of_many_funds(make: Make, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make()
    monkeypatch.setattr(type(source.lists), "exchange_funds", lambda lists, day: 4500)
    costs = {(cost.dataset, cost.api): cost.calls for cost in estimate(source, START, END)}
    assert costs["etf_nav", "fund_nav"] == 3 * SESSIONS  # pages of 2000
    assert costs["etf_bar", "fund_daily"] == SESSIONS  # one row a fund and page of 5000
    assert source.lists.exchange_funds(END) == 4500


def test_funds_are_counted_while_they_are_listed(make: Make, market: Market) -> None:
    etfs = sample("etf_info")
    market.only = None
    source = make()
    for day in (date(2016, 1, 4), date(2020, 6, 1)):
        at = pd.Timestamp(day)
        listed = (etfs["list_date"] <= at) & ~(etfs["delist_date"] <= at)
        assert source.lists.exchange_funds(day) == listed.sum() + 1  # and the listed fund that is no ETF


# --- settings and the command line -------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, server: TushareServer) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TUSHARE_TOKEN", TOKEN)
    monkeypatch.setenv("ETF_PIPELINE_TUSHARE_URL", server.url)
    monkeypatch.setenv("ETF_PIPELINE_TUSHARE_POINTS", "8000")
    monkeypatch.setenv("ETF_PIPELINE_TUSHARE_SHENZHEN", "as_labelled")
    return monkeypatch


def test_settings_come_from_the_environment_and_hide_the_token(environment: pytest.MonkeyPatch) -> None:
    settings = TushareSettings.from_env()
    assert settings.token.get_secret_value() == TOKEN
    assert (settings.points, settings.minute_bars, settings.shenzhen, settings.offline) == (
        8000,
        False,
        "as_labelled",
        False,
    )
    environment.setenv("ETF_PIPELINE_TUSHARE_MINUTE_BARS", "1")
    environment.setenv("ETF_PIPELINE_OFFLINE", "true")
    assert TushareSettings.from_env().minute_bars
    assert TushareSettings.from_env().offline
    deployment = Deployment(source="tushare")
    pipeline = Pipeline(deployment)
    shown = (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        repr(deployment.to_env()),
        repr(vars(pipeline.source)),
    )
    assert not any(TOKEN in text for text in shown)


@pytest.mark.parametrize(("name", "value"), [("POINTS", "many"), ("MINUTE_BARS", "perhaps"), ("SHENZHEN", "never")])
def test_settings_that_cannot_be_read_are_named(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(f"ETF_PIPELINE_TUSHARE_{name}", value)
    with pytest.raises(SettingsError, match=f"ETF_PIPELINE_TUSHARE_{name}") as caught:
        TushareSettings.from_env()
    assert TOKEN not in str(caught.value)


def test_defaults_are_those_of_the_real_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUSHARE_TOKEN", raising=False)
    settings = TushareSettings.from_env()
    assert settings == TushareSettings()
    assert (settings.url, settings.points, settings.shenzhen) == ("https://api.tushare.pro", 5000, "verified")


def command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, "".join(done.output.split())


def test_estimate_and_trace_on_the_command_line(
    environment: pytest.MonkeyPatch, server: TushareServer, tmp_path: Path
) -> None:
    lake = tmp_path / "shop"
    days = ("--start", START, "--end", END)
    code, told = command("estimate", "--lake", lake, *days)
    assert code == 0, told
    assert "Backfill2026-09-28…2026-10-09:atmost500callsofoneAPIaminute" in told
    assert "stk_minsneedsthelicenceforminutebars" in told
    assert "etf_info:fund_basic3/3" in told  # how far it is
    pipeline = Pipeline(Deployment(source="tushare", lake=lake, start=START, end=END))
    pipeline.source_notes  # noqa: B018 - claims the lake
    (lake / "deployment.json").write_text(pipeline.deployment.model_dump_json(), encoding="utf-8")
    rows = fetched(pipeline.source, "etf_nav")  # type: ignore[arg-type]
    nav = rows[(rows["etf_code"] == "510300.SH") & (rows["trade_date"] == pd.Timestamp("2026-09-30"))]
    made = server.count()
    environment.delenv("TUSHARE_TOKEN")
    code, told = command("trace", "etf_nav", "--date", "2026-09-30", "--code", "510300.SH", "--lake", lake)
    assert code == 0, told
    assert server.count() == made
    stored = next((lake / "responses" / "tushare" / "fund_nav").rglob("*.gz"))
    assert str(nav["unit_nav"].iloc[0]) in told
    assert "fund_nav(nav_date=20260930,market=E)" in told
    assert "3responsestheserowscamefrom" in told  # the lists that name the fund, and its NAV
    assert f"responses/tushare/fund_nav/{stored.parent.name[:0]}" in told
    assert TOKEN not in told
    code, told = command("trace", "etf_nav", "--date", "2026-08-31", "--lake", lake)
    assert code == 1
    assert "NotStored:fund_nav(nav_date=20260831" in told


def test_dates_are_verified_by_akshare_or_not_at_all(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("ETF_PIPELINE_TUSHARE_SHENZHEN")
    pipeline = Pipeline(Deployment(source="tushare", lake=tmp_path / "lake"))
    report = pipeline.tushare().lists.exchange_report
    assert getattr(report, "__name__", "") == "szse_share_report"
    environment.setattr(akshare_client, "AKSHARE_VERSION", "0.0.0")
    with pytest.raises(SettingsError, match=r"akshare 0.0.0.*ETF_PIPELINE_TUSHARE_SHENZHEN=as_labelled"):
        pipeline.tushare()


def test_commands_for_tushare_say_so_of_other_lakes(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, told = command("estimate", "--source", "sample", "--lake", tmp_path / "lake")
    assert (code, told) == (1, "SettingsError:thisisforsourcetushare,notforsample")


def test_a_run_without_a_token_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.delenv("TUSHARE_TOKEN")
    code, told = command("run", "--source", "tushare", "--lake", tmp_path / "lake")
    assert code == 1
    assert "SettingsError:sourcetushareneedsatoken:putyoursintotheenvironmentvariableTUSHARE_TOKEN" in told
    assert not (tmp_path / "lake" / "deployment.json").exists()
