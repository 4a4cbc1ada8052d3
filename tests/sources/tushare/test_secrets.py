import gzip
import logging
import traceback
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.tushare.client import TushareClient
from etf_pipeline.sources.tushare.limits import Patience
from tests.sources.tushare.account import TOKEN, always, connect, shares
from tests.sources.tushare.clock import FakeClock
from tests.sources.tushare.server import (
    NO_PERMISSION,
    WRONG_TOKEN,
    Fault,
    Refusal,
    Reply,
    TushareServer,
    bytes_instead,
    connection_lost,
    cut,
    edited,
    http_status,
    no_answer,
    page,
    rate_refusal,
    refused,
    scripted,
    slow,
)

FAULTS = [
    http_status(500),
    http_status(404),
    page(),
    Fault("page with the token", lambda reply: Reply(f"<html>{TOKEN}</html>".encode(), 200, "text/html")),
    connection_lost(),
    connection_lost(0.0),
    no_answer(),
    cut(),
    slow(30),
    refused(WRONG_TOKEN),
    refused(NO_PERMISSION),
    refused(rate_refusal("天", 1)),
    refused(rate_refusal("小时", 1)),
    refused(Refusal(40101, f"您的token({TOKEN})不对，请确认。")),
    refused(Refusal(-1, f"unknown: {TOKEN}")),
    bytes_instead(TOKEN.encode()),
    bytes_instead(f'{{"code": {TOKEN}}}'.encode()),
    edited(lambda answer: answer["data"].update(fields=[TOKEN])),
    edited(lambda answer: answer["data"].update(has_more=TOKEN)),
    Fault("wrong gzip", lambda reply: Reply(reply.body, encoding="gzip")),
    Fault("status with the token", lambda reply: Reply(TOKEN.encode(), 418)),
]


def failure(client: TushareClient, api: str) -> list[str]:
    """The exception of a query as a person, a log or a debugger may see it, with all it was caused by."""
    with pytest.raises(SourceError) as caught:
        client.rows(api, {"n": "1"}, ["ts_code"], page_size=2)
    error: BaseException | None = caught.value
    seen: list[str] = []
    while error is not None:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        held = [f"{type(value).__name__} {value!r} {getattr(value, '__dict__', '')}" for value in vars(error).values()]
        seen += [*shown.format(), str(error), repr(error), *held]
        assert not isinstance(error, httpx.HTTPError)  # they hold the request
        error = error.__cause__ or error.__context__
    return seen


def test_the_token_is_in_nothing_a_client_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    faults = scripted({f"api{number}": [fault] for number, fault in enumerate(FAULTS)})
    patience = Patience(read_seconds=1, attempts=1)
    with (
        TushareServer(always(shares(5)), TOKEN, faults) as server,
        connect(server.url, tmp_path, patience=patience) as client,
    ):
        for number in range(len(FAULTS)):
            seen += failure(client, f"api{number}")
            assert len(client.rows(f"api{number}", {"n": "1"}, ["ts_code"], page_size=2)) == 5
        with connect(server.url, tmp_path, clock=FakeClock(), patience=Patience()) as patient:
            server.faults = lambda call: http_status(503) if call.number < 3 and call.api == "other" else None
            assert len(patient.rows("other", {}, ["ts_code"], page_size=2)) == 5
        seen += [repr(client), str(vars(client)), repr(client.used), repr(client._http and vars(client._http))]
    with connect(server.url, tmp_path, patience=patience) as client:  # nobody listens any more
        seen += failure(client, "fund_nav")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    seen += [str(path) for path in files]
    seen += [path.read_bytes().decode("latin-1") for path in files]
    seen += [gzip.decompress(path.read_bytes()).decode("latin-1") for path in files if path.suffix == ".gz"]
    seen += [f"{record.getMessage()} {record.args} {vars(record)}" for record in caplog.records]

    whole = "\n".join(seen)
    places = [whole[max(0, at - 200) : at] for at in range(len(whole)) if whole.startswith(TOKEN[:20], at)]
    assert places == []
    # the net is wide enough: all of these went through the same hands as the token
    loggers = {record.name.partition(".")[0] for record in caplog.records}
    assert {"httpx", "httpcore", "etf_pipeline"} <= loggers
    signs = (server.url, "HTTP status 404", "***", "ReadTimeout", "ConnectError", "_exchange", "ts_code", '"api3"')
    assert [sign for sign in signs if sign not in whole] == []
    assert {".gz", ".sqlite", ".lock"} <= {path.suffix or path.name for path in files}


def test_an_answer_that_repeats_the_token_is_kept_without_it(tmp_path: Path) -> None:
    fault = edited(lambda answer: answer.update(detail={"token": TOKEN}))
    with (
        TushareServer(always(shares(1)), TOKEN, scripted({"fund_share": [fault]})) as server,
        connect(server.url, tmp_path) as client,
    ):
        assert len(client.rows("fund_share", {}, ["ts_code"], page_size=2)) == 1
        assert b'{"token": "***"}' in client.used[0].body


def test_the_token_travels_in_the_body_alone(tmp_path: Path) -> None:
    with TushareServer(always(shares(1)), TOKEN) as server, connect(server.url, tmp_path) as client:
        client.rows("fund_share", {}, ["ts_code"], page_size=2)
        assert server.calls[0].head.startswith("POST / HTTP/1.1\nHost: 127.0.0.1")
        assert TOKEN not in server.calls[0].head


def test_a_token_is_shown_as_stars(tmp_path: Path) -> None:
    with connect("http://127.0.0.1:1", tmp_path, token=SecretStr(TOKEN)) as client:
        assert TOKEN not in repr(vars(client))
        assert "**********" in repr(vars(client))
