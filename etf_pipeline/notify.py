"""Messages to people: their words, and the channels they go through.

Channels are apprise URLs in ETF_PIPELINE_NOTIFY, separated by spaces or commas: `wecombot://KEY`, `dingtalk://TOKEN`,
`feishu://TOKEN`, `lark://TOKEN`, `mailtos://USER:PASSWORD@HOST`, `jsons://HOST/PATH` and whatever else apprise speaks.
Without any it is a dry run: the message goes to the log. URLs hold secrets, so neither they nor the logs of the
libraries that handle them are shown anywhere: channels are named by kind and position.

A channel that fails raises nothing: each delivery says whether it went well. A service that answers 200 to a wrong key
is believed; `etf-pipeline doctor --test-message` sends a message to look for.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import pandas as pd

VARIABLE = "ETF_PIPELINE_NOTIFY"
SYNTHETIC = "SYNTHETIC"
_LONGEST_ERROR = 600
_LIBRARIES = ("apprise", "requests", "urllib3")

log = logging.getLogger(__name__)

Kind = Literal["info", "success", "warning", "failure"]


@dataclass(frozen=True)
class Message:
    """Title and body in plain text that also reads well as markdown."""

    title: str
    body: str
    kind: Kind = "info"


@dataclass(frozen=True)
class Delivery:
    """What became of a message in one channel."""

    channel: str
    delivered: bool
    detail: str = ""


class Notifier:
    """Sends messages to every channel; holds their secret URLs and shows none."""

    def __init__(self, urls: Sequence[str] = ()) -> None:
        self._urls = tuple(urls)

    @classmethod
    def from_env(cls) -> Self:
        """The channels of ETF_PIPELINE_NOTIFY; none for a dry run."""
        given = os.environ.get(VARIABLE, "").strip()
        # a comma may also stand inside a URL: only one before the next scheme separates
        return cls([url for url in re.split(r"[\s,]+(?=[A-Za-z][\w+.-]*://)", given) if url])

    def __repr__(self) -> str:
        return f"Notifier({', '.join(self.channels) or 'dry run'})"

    @property
    def channels(self) -> list[str]:
        """Kind and position of each channel, such as `wecombot 1`."""
        return [self._name(number) for number in range(len(self._urls))]

    def _name(self, number: int) -> str:
        scheme, separator, _ = self._urls[number].partition("://")
        return f"{scheme.lower() if separator else 'channel'} {number + 1}"

    def problems(self) -> dict[str, str]:
        """Channels whose URL apprise cannot use, with the reason; sends nothing."""
        return {self._name(n): _NOT_A_URL for n, url in enumerate(self._urls) if _channel(url) is None}

    def send(self, message: Message) -> list[Delivery]:
        """Send to all channels, one after the other, and log the outcome. Raises nothing."""
        if not self._urls:
            log.info("dry run (%s is not set), would send: %s\n%s", VARIABLE, message.title, message.body)
            return []
        deliveries = [self._deliver(number, message) for number in range(len(self._urls))]
        for delivery in deliveries:
            if delivery.delivered:
                log.info("sent to %s: %s", delivery.channel, message.title)
            else:
                log.error("NOT sent to %s (%s): %s", delivery.channel, delivery.detail, message.title)
        return deliveries

    def _deliver(self, number: int, message: Message) -> Delivery:
        name = self._name(number)
        channel = _channel(self._urls[number])
        if channel is None:
            return Delivery(name, False, _NOT_A_URL)
        try:
            with _silent_libraries():
                # as text: in markdown the underscores of table names would become italics
                sent = channel.notify(
                    title=message.title, body=message.body, notify_type=message.kind, body_format="text"
                )
        except Exception as error:
            # the message of the error may quote the URL
            return Delivery(name, False, type(error).__name__)
        return Delivery(name, bool(sent), "" if sent else "the service refused it or could not be reached")


_NOT_A_URL = f"not a URL apprise knows; see {VARIABLE} in etf_pipeline/notify.py"


def _channel(url: str) -> Any:
    # imported here: definitions load without it
    with _silent_libraries():
        from apprise import Apprise

        channel = Apprise()
        return channel if channel.add(url) else None


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Keep the loggers of the libraries quiet: they quote URLs, in warnings and in errors too."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger.disabled, logger.propagate, logger.handlers[:], logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.propagate, logger.handlers = False, [logging.NullHandler()]
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, (disabled, propagate, handlers, level) in zip(loggers, before, strict=True):
            logger.disabled, logger.propagate, logger.handlers = disabled, propagate, handlers
            logger.setLevel(level)


def outcome(deliveries: Sequence[Delivery]) -> str:
    """Deliveries in words, for the tick that sent the message."""
    if not deliveries:
        return f"dry run: {VARIABLE} is not set, the message is in the log"
    failed = [f"{d.channel}: {d.detail}" for d in deliveries if not d.delivered]
    sent = f"sent to {len(deliveries) - len(failed)} of {len(deliveries)} channels"
    return "; ".join([sent, *failed])


def lost(deliveries: Sequence[Delivery]) -> bool:
    """Whether no channel took the message, so that it should be sent again."""
    return bool(deliveries) and not any(d.delivered for d in deliveries)


def run_failed(job: str, run_id: str, errors: Mapping[str, str]) -> Message:
    """A run failed: job, each step with its error, and where to look."""
    lines = [f"- {step}: {error.strip()[:_LONGEST_ERROR]}" for step, error in errors.items()]
    body = [f"Job {job}, run {run_id}", *lines, f"Look in the Dagster UI at /runs/{run_id}; what was published stays."]
    return Message(f"etf_pipeline: {job} failed", "\n".join(body), "failure")


@dataclass(frozen=True)
class FailedCheck:
    """A check that did not pass: whose, how bad, what it found and what to do."""

    asset: str
    name: str
    blocking: bool
    found: str
    advice: str


def checks_failed(checks: Sequence[FailedCheck]) -> Message:
    """Checks that began to fail: asset, check, what was found, and what to do by the check's own description."""
    lines = []
    for check in checks:
        lines.append(f"- {check.asset}: {check.name} ({'error' if check.blocking else 'warning'}): {check.found}")
        if check.advice:
            lines.append(f"  What to do: {' '.join(check.advice.split())[:_LONGEST_ERROR]}")
    worst: Kind = "failure" if any(c.blocking for c in checks) else "warning"
    number = f"{len(checks)} checks" if len(checks) > 1 else "a check"
    return Message(f"etf_pipeline: {number} failed", "\n".join(lines), worst)


def new_holdings(rows: pd.DataFrame, changed: bool = False) -> Message:
    """The holdings of one signal date: industries with weights and flags; SYNTHETIC where the data are made up."""
    first = rows.iloc[0]
    made_up = f"{SYNTHETIC} " if SYNTHETIC in str(first["source"]) else ""
    lines = [
        f"- {row['rank']}. {row['industry_code']} {row['industry_name']} {row['weight']:.2%}, "
        f"above median: {row['flags'] or 'nothing'}"
        for row in rows.sort_values("rank").to_dict("records")
    ]
    held = f"Held {first['holding_start']:%Y-%m-%d} … {first['holding_end']:%Y-%m-%d}"
    regimes = f"{first['size_regime']} / {first['growth_value_regime']} lead"
    body = [
        f"{held}; {regimes}",
        *lines,
        f"Factors: {first['factors_used']}. {first['factors_off'] or ''}".rstrip(),
        f"Source: {first['source']}; settings {first['settings_hash']}",
    ]
    words = "changed holdings" if changed else "new holdings"
    return Message(f"{made_up}etf_pipeline: {words} of {first['signal_date']:%Y-%m-%d}", "\n".join(body), "success")
