from datetime import UTC, datetime

import pytest

from etf_pipeline.sources.base import SourceError, TransientSourceError
from etf_pipeline.sources.tushare.errors import (
    PermissionDenied,
    RateLimited,
    RequestRefused,
    TokenError,
    TooManyAddresses,
    refusal,
)
from etf_pipeline.sources.tushare.limits import Plan
from tests.sources.tushare.server import frequency_refusal, rate_refusal

NOON_IN_SHANGHAI = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
WHERE = "fund_share(trade_date=20260302)"


def said(code: int, text: str, now: datetime = NOON_IN_SHANGHAI) -> SourceError:
    error = refusal(WHERE, code, text, now)
    assert str(error).startswith(WHERE)
    assert text in str(error)
    return error


@pytest.mark.parametrize(
    ("code", "text", "expected", "advice"),
    [
        (40101, "您的token不对，请确认。", TokenError, "TUSHARE_TOKEN"),
        (-1, "您的token不对，请确认。", TokenError, "TUSHARE_TOKEN"),
        (40101, "认证失败", TokenError, "TUSHARE_TOKEN"),
        (
            40203,
            "抱歉，您没有接口访问权限，权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。",
            PermissionDenied,
            "more points",
        ),
        (40203, "没有接口(etf_share_size)访问权限", PermissionDenied, "more points"),
        (2002, "权限问题", PermissionDenied, "more points"),
        (2002, "抱歉", PermissionDenied, "more points"),
        (40203, "抱歉", PermissionDenied, "more points"),
        (40203, "抱歉，您每分钟最多访问该接口0次，权限的具体详情访问：…", PermissionDenied, "more points"),
        (40203, "您的token没有接口(stk_mins)访问权限", PermissionDenied, "more points"),
        (50101, "查询数据失败，请确认参数！可以反馈管理员协助您排查问题", RequestRefused, "split the query"),
        (50101, "参数校验失败, ts_code,trade_date至少输入一个参数", RequestRefused, "correct them"),
        (40001, "必填参数, trade_date", RequestRefused, "correct them"),
        (40203, "您的IP数量超限，最大数量为2个！", TooManyAddresses, "one fixed address"),
        (-1, "您的IP数量超限，最大数量为5个！", TooManyAddresses, "one fixed address"),
        (-2001, "系统内部错误", RequestRefused, "correct them"),
        (1, "None", RequestRefused, "correct them"),
    ],
)
def test_refusals_that_do_not_pass(code: int, text: str, expected: type[SourceError], advice: str) -> None:
    error = said(code, text)
    assert type(error) is expected
    assert not isinstance(error, TransientSourceError)
    assert advice in str(error)


# noon in Shanghai is 12 h = 43 200 s before the next day
@pytest.mark.parametrize("code", [40203, 0x7FFFFFFF, 50101])
@pytest.mark.parametrize(
    ("name", "window", "seconds"), [("分钟", "minute", 61), ("小时", "hour", 3600), ("天", "day", 43_200)]
)
def test_rate_limits_in_both_wordings(code: int, name: str, window: str, seconds: float) -> None:
    for text in (rate_refusal(name, 80).msg, frequency_refusal("fund_share", name, 80).msg):
        error = said(code, text)
        assert isinstance(error, RateLimited)
        assert (error.window, error.retry_after_seconds, error.calls) == (window, seconds, 80)


def test_a_rate_limit_that_names_no_window_is_one_of_the_minute() -> None:
    error = said(40203, "抱歉，频率超限")
    assert isinstance(error, RateLimited)
    assert (error.window, error.retry_after_seconds, error.calls) == ("minute", 61, None)


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (datetime(2026, 3, 2, 15, 59, 30, tzinfo=UTC), 30),  # 23:59:30 in Shanghai
        (datetime(2026, 3, 2, 16, 0, 0, tzinfo=UTC), 86_400),  # midnight there
        (datetime(2026, 12, 31, 0, 30, tzinfo=UTC), 55_800),  # 08:30 there
    ],
)
def test_a_limit_of_the_day_ends_with_the_day_in_shanghai(now: datetime, seconds: float) -> None:
    error = said(40203, rate_refusal("天", 5).msg, now)
    assert isinstance(error, RateLimited)
    assert error.retry_after_seconds == seconds


def test_a_long_text_is_shown_in_part() -> None:
    message = str(refusal(WHERE, 1, "很" * 5000, NOON_IN_SHANGHAI))
    assert len(message) < 600
    assert "split the query" in message


@pytest.mark.parametrize(
    ("points", "per_minute", "per_day"),
    [
        (120, 50, 8_000),
        (1999, 50, 8_000),
        (2000, 200, 100_000),
        (4999, 200, 100_000),
        (5000, 500, None),
        (15_000, 500, None),
    ],
)
def test_plans_by_points(points: int, per_minute: int, per_day: int | None) -> None:
    assert Plan.from_points(points) == Plan(points, False, per_minute, per_day)
    assert Plan.from_points(points, minute_bars=True).minute_bars


def test_too_few_points_for_any_plan() -> None:
    with pytest.raises(ValueError, match="from 120 points on"):
        Plan.from_points(119)
