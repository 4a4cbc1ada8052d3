"""Messages and channels: what is sent, what is refused, and that no secret is shown."""

import logging
import socket
from pathlib import Path

import pandas as pd
import pytest

from etf_pipeline.notify import (
    Delivery,
    FailedCheck,
    Message,
    Notifier,
    checks_failed,
    lost,
    new_holdings,
    outcome,
    run_failed,
)
from tests.automation.webhook import Webhook

MESSAGE = Message("Title 标题", "raw_etf_share and *stars*\n- second line", "failure")
SECRET = "k3y-S3cret-0123456789"
CHAT = {
    "wecombot": ("apprise.plugins.wecombot", "NotifyWeComBot", "key={key}"),
    "dingtalk": ("apprise.plugins.dingtalk", "NotifyDingTalk", "access_token={token}"),
    "feishu": ("apprise.plugins.feishu", "NotifyFeishu", "hook={token}"),
    "lark": ("apprise.plugins.lark", "NotifyLark", "hook="),
}
TOKENS = {
    "wecombot": "0123456a-0123-0123-0123-0123456789ab",
    "dingtalk": "0123456789abcdef" * 4,
    "feishu": "0123456a-0123-0123-0123-0123456789ab",
    "lark": "0123456a-0123-0123-0123-0123456789ab",
}


def notifier(*urls: str) -> Notifier:
    return Notifier(urls)


def test_json_webhook(webhook: Webhook) -> None:
    deliveries = notifier(f"json://{webhook.address}/hook/{SECRET}").send(MESSAGE)
    assert deliveries == [Delivery("json 1", True)]
    ((path, body),) = webhook.posts
    assert path == f"/hook/{SECRET}"
    assert body["title"] == MESSAGE.title
    assert body["message"] == MESSAGE.body
    assert body["type"] == "failure"


@pytest.mark.parametrize("scheme", CHAT)
def test_chat_services(webhook: Webhook, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    module, name, query = CHAT[scheme]
    plugin = getattr(__import__(module, fromlist=[name]), name)
    monkeypatch.setattr(plugin, "request_rate_per_sec", 0)
    monkeypatch.setattr(plugin, "notify_url", f"http://{webhook.address}/{scheme}?{query}")
    deliveries = notifier(f"{scheme}://{TOKENS[scheme]}").send(MESSAGE)
    assert deliveries == [Delivery(f"{scheme} 1", True)]
    ((path, _),) = webhook.posts
    assert path.startswith(f"/{scheme}?")
    assert TOKENS[scheme] in path
    assert "标题" in webhook.bodies[0]
    # markup of nobody's making changed nothing
    assert "raw_etf_share and *stars*" in webhook.bodies[0]


def test_urls_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"{scheme}://{token}" for scheme, token in TOKENS.items()]
    urls += ["mailtos://user:password@example.com", "jsons://example.com/path?a=1,2"]
    monkeypatch.setenv("ETF_PIPELINE_NOTIFY", f"{urls[0]}, {urls[1]},{urls[2]} {urls[3]}\n{urls[4]},{urls[5]}")
    found = Notifier.from_env()
    assert found.channels == ["wecombot 1", "dingtalk 2", "feishu 3", "lark 4", "mailtos 5", "jsons 6"]
    assert found.problems() == {}


def test_one_failing_channel_stops_no_other(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    urls = (f"json://127.0.0.1:{closed}/{SECRET}", f"nonsense://{SECRET}", SECRET, f"json://{webhook.address}/ok")
    with caplog.at_level(logging.DEBUG):
        deliveries = notifier(*urls).send(MESSAGE)
    assert [(d.channel, d.delivered) for d in deliveries] == [
        ("json 1", False),
        ("nonsense 2", False),
        ("channel 3", False),
        ("json 4", True),
    ]
    assert len(webhook.posts) == 1
    assert not lost(deliveries)
    assert lost(deliveries[:3])
    assert "sent to 1 of 4 channels" in outcome(deliveries)
    assert caplog.text.count("NOT sent to") == 3


def test_a_refusal_is_a_failure(webhook: Webhook) -> None:
    webhook.answer = 500
    (delivery,) = notifier(f"json://{webhook.address}").send(MESSAGE)
    assert not delivery.delivered
    assert "refused" in delivery.detail


def test_no_secret_is_shown(
    webhook: Webhook, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "ETF_PIPELINE_NOTIFY",
        f"json://user:{SECRET}@{webhook.address}/{SECRET} nonsense://{SECRET} json://:{SECRET}@[{SECRET}",
    )
    with caplog.at_level(logging.DEBUG):
        found = Notifier.from_env()
        for status in (200, 403):
            webhook.answer = status
            deliveries = found.send(MESSAGE)
            assert SECRET not in repr(deliveries) + outcome(deliveries)
        assert SECRET not in repr(found) + repr(found.problems()) + str(found.channels)
    assert SECRET not in caplog.text
    assert len(webhook.posts) == 2


def test_the_loggers_of_libraries_come_back() -> None:
    before = logging.getLogger("apprise").level, logging.getLogger("urllib3").propagate
    notifier("nonsense://x").send(MESSAGE)
    assert (logging.getLogger("apprise").level, logging.getLogger("urllib3").propagate) == before


def test_without_channels_the_message_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert Notifier.from_env().send(MESSAGE) == []
    assert "would send: Title 标题\nraw_etf_share and *stars*" in caplog.text
    assert outcome([]).startswith("dry run")
    assert not lost([])


def test_words_of_a_failed_run() -> None:
    message = run_failed("ingest_daily", "abc-123", {"raw__etf_share": "SourceError: 3 rows\n" + "x" * 5000})
    assert message.kind == "failure"
    assert message.title == "etf_pipeline: ingest_daily failed"
    assert "raw__etf_share: SourceError: 3 rows" in message.body
    assert "/runs/abc-123" in message.body
    assert len(message.body) < 1000


def test_words_of_failed_checks() -> None:
    late = FailedCheck("raw/etf_share", "freshness", False, "6 sessions late", "When it fails:\n  ingest the days.")
    bad = FailedCheck("factors/factor_scores", "scores_centred", True, "3 rows", "")
    assert checks_failed([late]).kind == "warning"
    message = checks_failed([late, bad])
    assert message.kind == "failure"
    assert message.title == "etf_pipeline: 2 checks failed"
    assert "raw/etf_share: freshness (warning): 6 sessions late" in message.body
    assert "What to do: When it fails: ingest the days." in message.body
    assert "factors/factor_scores: scores_centred (error): 3 rows" in message.body


def test_words_of_new_holdings(built_lake: Path) -> None:
    rows = pd.read_parquet(built_lake / "published" / "strategy_holdings.parquet")
    rows["signal_date"] = pd.to_datetime(rows["signal_date"])
    rows = rows[rows["signal_date"] == rows["signal_date"].max()]
    message = new_holdings(rows)
    assert message.title == "SYNTHETIC etf_pipeline: new holdings of 2025-10-24"
    for row in rows.to_dict("records"):
        assert f"- {row['rank']}. {row['industry_code']} {row['industry_name']} 50.00%, above median: " in message.body
    assert str(rows["flags"].iloc[0]) in message.body
    assert "Source: sample (SYNTHETIC)" in message.body
    real = new_holdings(rows.assign(source="files (mine)"), changed=True)
    assert real.title == "etf_pipeline: changed holdings of 2025-10-24"
