"""Tushare Pro as a source: what to ask for which days, what is answered already, and when an answer is final.

Answers are kept by the client as they came. One about a day that was received after that day's rows are settled is
final; an earlier one is asked for again, unless it came within the last hours. So an interrupted backfill goes on where
it stopped, and a daily run asks for what is new or may have been revised.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.core.calendar import SHANGHAI, last_calendar_session, moments, sessions_after, sessions_between
from etf_pipeline.settings import Parameters, SettingsError, TushareSettings
from etf_pipeline.sources.base import DISAGREEMENTS, NotAvailable, SourceError
from etf_pipeline.sources.canonical import calendar_rows, canonical_frame, days_of, public_from
from etf_pipeline.sources.responses import Response, ResponseStore
from etf_pipeline.sources.trust import ExchangeReport, refuse_empty_days
from etf_pipeline.sources.tushare.client import TushareClient
from etf_pipeline.sources.tushare.errors import RequestRefused
from etf_pipeline.sources.tushare.limits import Clock, Patience, Plan, SystemClock
from etf_pipeline.sources.tushare.mapping import (
    ADAPTERS,
    APIS,
    LACKING,
    NOTE,
    Adapter,
    Question,
    Rows,
    Window,
    why_unreadable,
)

LABEL = "tushare"
FIRST_DAY = date(2014, 12, 1)
"""A month before the first weeks the research looks at, so that weights and market values are there."""
RECENT = timedelta(hours=4)
"""An answer this young is not asked for again, settled or not: runs of one morning share it."""

_PROGRESS_SECONDS = 2.0
_LOOK_BACK = timedelta(days=60)

logger = logging.getLogger("etf_pipeline.sources.tushare")


class TushareSource:
    """Everything Tushare has, for one account.

    `scheme` and `style_indices` are what the strategy needs; `repull_sessions` is for how many sessions after it became
    public a row may still change. `exchange_report` tells the true dates of Shenzhen's shares.

    Raises:
        SettingsError: on first use, for a token that is not there or points that no tier has.
    """

    def __init__(
        self,
        settings: TushareSettings,
        responses: ResponseStore,
        *,
        scheme: str,
        style_indices: Sequence[str],
        repull_sessions: int,
        exchange_report: ExchangeReport | None = None,
        clock: Clock | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.settings = settings
        self.responses = responses
        self._scheme = scheme
        self._style_indices = tuple(style_indices)
        self._repull_sessions = repull_sessions
        self._exchange_report = exchange_report
        self._clock = clock or SystemClock()
        self._patience = patience
        self._lists: _Lists | None = None
        self._progress = _Progress()
        self._notes: dict[str, str] = {}
        self._tracing = False

    @cached_property
    def plan(self) -> Plan:
        """What the account may do."""
        try:
            return Plan.from_points(self.settings.points, self.settings.minute_bars)
        except ValueError as error:
            raise SettingsError(f"ETF_PIPELINE_TUSHARE_POINTS: {error}") from error

    @cached_property
    def client(self) -> TushareClient:
        """The connection to Tushare, opened on first use."""
        settings = self.settings
        if not settings.offline and not settings.token.get_secret_value():
            raise SettingsError("source tushare needs a token: put yours into the environment variable TUSHARE_TOKEN")
        return TushareClient(
            settings.token,
            self.plan,
            self.responses,
            base_url=settings.url,
            offline=settings.offline,
            clock=self._clock,
            patience=self._patience,
        )

    @property
    def label(self) -> str:
        """Name written beside every result."""
        return LABEL

    @property
    def span(self) -> tuple[date, date]:
        """First day worth asking for, and the last session whose shares are public."""
        public = self._public(load_contract()["etf_share"])
        return FIRST_DAY, sessions_between(public - _LOOK_BACK, public)[-1].date()

    def fetch(self, dataset: str, start: date, end: date) -> pd.DataFrame | NotAvailable:
        """Canonical rows from `start` to `end`; snapshots as of today. Days that are not public yet are absent.

        Raises:
            SourceError: what the client raises, an empty day, dates that cannot be trusted, or a broken contract.
            TransientSourceError: Tushare is late, busy or not to be reached; nothing that came is lost.
        """
        if dataset == "trading_calendar":
            return calendar_rows(start, end)
        if dataset in LACKING:
            return LACKING[dataset]
        adapter = ADAPTERS[dataset]
        if reason := self.unreadable(dataset):
            return NotAvailable(reason)
        contract = load_contract()[dataset]
        window = self._window(contract, start, end)
        questions = self.questions(dataset, window)
        if not questions:
            return canonical_frame(contract, contract.schema.empty_table().to_pandas(), LABEL)
        rows = self._rows(contract, questions)
        frame = adapter.convert(rows, self.lists, window)
        if contract.date_column:
            days = days_of(frame[contract.date_column])
            # what is no day stays, for the gate to refuse
            inside = days.isna() | days.between(pd.Timestamp(start), pd.Timestamp(end))
            frame = frame[inside.to_numpy()]
        canonical = canonical_frame(contract, frame.reset_index(drop=True), _where(questions), self._today)
        self._note(dataset, adapter.note, *self._spared(adapter), frame.attrs.get(NOTE))
        if DISAGREEMENTS in frame.attrs:
            canonical.attrs[DISAGREEMENTS] = frame.attrs[DISAGREEMENTS]
        return canonical

    def trace(self, dataset: str, day: date) -> tuple[pd.DataFrame | NotAvailable, list[Response]]:
        """Rows of a day, and the stored responses they were made from; those of the lists of ETFs are among them.

        Raises:
            SourceError: as `fetch`.
        """
        self._lists = None
        self._tracing = True
        try:
            frame = self.fetch(dataset, day, day)
            return frame, list({response.path: response for response in self.client.used}.values())
        finally:
            self._tracing = False

    def validate(self) -> Mapping[str, str]:
        """Whether the account can read what is required and its token is accepted; asks for the list of ETFs.

        Returns notes by dataset, which grow while datasets are fetched.

        Raises:
            SourceError: it cannot.
        """
        contract, missing = load_contract(), []
        for name, adapter in ADAPTERS.items():
            reason = self.unreadable(name)
            if reason and contract[name].required:
                missing.append(f"{name} is required: {reason}")
            self._note(name, f"not available: {reason}" if reason else adapter.note, *self._spared(adapter))
        if self._scheme == "citic" and (reason := self.missing("ci_index_member")):
            missing.append(f"the scheme citic: {reason}. Use --scheme sw")
        if missing:
            raise SourceError("tushare: the account cannot read " + "; ".join(missing))
        self.lists.etfs  # noqa: B018 - asks, so that a wrong token is found before anything else
        if self._exchange_report is None:
            self._note(
                "etf_share", "DATES NOT VERIFIED: Shenzhen's shares are taken under the dates Tushare gives them"
            )
        self._notes |= {name: lacking.reason for name, lacking in LACKING.items()}
        return self._notes

    def _note(self, dataset: str, *texts: str | None) -> None:
        if told := "; ".join(filter(None, texts)):
            self._notes[dataset] = told

    def _spared(self, adapter: Adapter) -> list[str]:
        """What the rows of a dataset lack because the account cannot read one of its APIs."""
        return [what for api, what in adapter.spare.items() if self.missing(api)]

    def unreadable(self, dataset: str) -> str | None:
        """Why the account cannot read a dataset; None if it can."""
        adapter = ADAPTERS[dataset]
        return self.missing(*(api for api in adapter.ask if api not in adapter.spare))

    def missing(self, *apis: str) -> str | None:
        """What the account lacks for some of these APIs; None if it can read all of them."""
        return why_unreadable(apis, self.plan.points, self.plan.minute_bars)

    def questions(self, dataset: str, window: Window) -> list[Question]:
        """What is asked for a dataset: of every API the account can read."""
        if load_contract()[dataset].date_column and window.start > window.end:
            return []
        adapter = ADAPTERS[dataset]
        readable = [ask for api, ask in adapter.ask.items() if not self.missing(api)]
        return [question for ask in readable for question in ask(window, self.lists)]

    def window(self, dataset: str, start: date, end: date) -> Window:
        """The days of `start` … `end` that are public for a dataset."""
        return self._window(load_contract()[dataset], start, end)

    def usable_since(self, dataset: str, questions: Sequence[Question]) -> list[datetime | None]:
        """For each question the earliest moment at which an answer that is used may have come; None: whenever.

        Lists are asked for once a day of Shanghai.
        """
        if self.settings.offline:
            return [None] * len(questions)
        now = self._clock.now()
        midnight = now.astimezone(ZoneInfo(SHANGHAI)).replace(hour=0, minute=0, second=0, microsecond=0)
        settled = self._settled(load_contract()[dataset], questions)
        return [min(settled[q.day], now - RECENT) if q.day else midnight for q in questions]

    @property
    def lists(self) -> "_Lists":
        """What exists, as of today in Shanghai."""
        if self._lists is None or self._lists.day != self._today:
            self._lists = _Lists(self, self._today)
        return self._lists

    @property
    def _today(self) -> date:
        return self._clock.now().astimezone(ZoneInfo(SHANGHAI)).date()

    def _window(self, dataset: Dataset, start: date, end: date) -> Window:
        public = self._public(dataset) if dataset.date_column else self._today
        return Window(start, min(end, public), public)

    def _public(self, dataset: Dataset) -> date:
        """Last day whose rows are public by the contract's default lag."""
        days = pd.date_range(self._today - _LOOK_BACK, self._today).as_unit("us")
        public = days[public_from(dataset, days) <= pd.Timestamp(self._clock.now())]
        if not len(public):
            last = last_calendar_session()
            raise SourceError(f"the calendar of sessions ends on {last}: upgrade the package exchange-calendars")
        return public[-1].date()

    def _settled(self, dataset: Dataset, questions: Sequence[Question]) -> dict[date, datetime]:
        """When the rows of each day that is asked about no longer change."""
        asked = sorted({question.day for question in questions if question.day})
        if not asked:
            return {}
        assert dataset.known_from is not None
        days, sessions = pd.DatetimeIndex(asked).as_unit("us"), ADAPTERS[dataset.name].final_sessions
        if sessions is None:
            days = public_from(dataset, days).tz_convert(SHANGHAI).tz_localize(None).normalize()
            sessions = self._repull_sessions
        settled = moments(sessions_after(days, sessions), dataset.known_from.time)
        # at the edge of the known calendar nothing is settled yet
        never = datetime.max.replace(tzinfo=UTC)
        return {day: never if pd.isna(m) else m.to_pydatetime() for day, m in zip(asked, settled, strict=True)}

    def _rows(self, dataset: Dataset, questions: Sequence[Question]) -> Rows:
        """Answers by API; several APIs are asked at the same time."""
        by_api: dict[str, list[Question]] = {}
        for question in questions:
            by_api.setdefault(question.api, []).append(question)
        stop = threading.Event()
        self.client  # noqa: B018 - opened before threads share it
        with ThreadPoolExecutor(max_workers=len(by_api)) as pool:
            answers = {api: pool.submit(self._answers, dataset, asked, stop) for api, asked in by_api.items()}
            try:
                done, _ = wait(answers.values(), return_when=FIRST_EXCEPTION)
            finally:
                # once one API failed the others need not go on
                stop.set()
            for answer in done:
                answer.result()  # raises what failed, before what was only stopped
            return {api: answer.result() for api, answer in answers.items()}

    def _answers(self, dataset: Dataset, questions: Sequence[Question], stop: threading.Event) -> pd.DataFrame:
        """Rows of all questions of one API."""
        api, parts = questions[0].api, []
        empty: list[Question] = []
        for number, (question, since) in enumerate(
            zip(questions, self.usable_since(dataset.name, questions), strict=True), 1
        ):
            if stop.is_set():
                break
            rows = self._answer(question, since)
            if rows.empty and question.never_empty:
                empty.append(question)
            parts.append(rows)
            self._progress.tell(dataset.name, api, number, len(questions))
        settled, now = self._settled(dataset, empty), self._clock.now()
        refuse_empty_days(
            api,
            late=[day for day, moment in settled.items() if moment > now],
            empty=[day for day, moment in settled.items() if moment <= now],
        )
        return _joined(parts)

    def _answer(self, question: Question, since: datetime | None) -> pd.DataFrame:
        try:
            rows = self._ask(question, since)
        except RequestRefused:
            if question.instead is None:
                raise
            return _joined([self._answer(narrower, since) for narrower in question.instead()])
        if rows.empty and question.never_empty and not self.settings.offline:
            # an empty answer is never final: what is stored may be the gap of another day
            rows = self._ask(question, self._clock.now())
        return rows

    def _ask(self, question: Question, since: datetime | None) -> pd.DataFrame:
        api = APIS[question.api]
        rows = self.client.rows(
            question.api, question.params, api.fields, page_size=api.page_size, since=since, cap=api.cap
        )
        if not self._tracing:
            # the answers of a long backfill would fill the memory
            self.client.used.clear()
        return rows


class _Lists:
    """The lists of one day; see `mapping.Lists`."""

    def __init__(self, source: TushareSource, day: date) -> None:
        self._source = source
        self.day = day

    @cached_property
    def etfs(self) -> pd.DataFrame:
        """Canonical `etf_info`."""
        return self._frame("etf_info")

    @cached_property
    def sw_industries(self) -> list[str]:
        """Codes of the Shenwan level-1 industries."""
        return self._asked("industry_info", "index_classify")["index_code"].tolist()

    @cached_property
    def active_funds(self) -> list[str]:
        """Codes of the active equity funds."""
        funds = self._frame("fund_info")
        return funds.loc[funds["is_active_equity"].fillna(False).astype(bool), "fund_code"].tolist()

    @property
    def style_indices(self) -> tuple[str, ...]:
        """Codes of the indices style regimes need."""
        return self._source._style_indices

    @property
    def exchange_report(self) -> ExchangeReport | None:
        """Shares as the Shenzhen exchange reports them."""
        return self._source._exchange_report

    def exchange_funds(self, day: date) -> int:
        """How many funds were listed on a day."""
        listed, delisted = self._lives
        at = pd.Timestamp(day)
        return int(((listed <= at) & ~(delisted <= at)).sum())

    @cached_property
    def _lives(self) -> tuple[pd.Series, pd.Series]:
        funds = self._asked("etf_info", "fund_basic")
        return days_of(funds["list_date"]), days_of(funds["delist_date"])

    def _asked(self, dataset: str, api: str) -> pd.DataFrame:
        """Rows of one of the APIs of a dataset without dates."""
        questions = ADAPTERS[dataset].ask[api](Window(self.day, self.day, self.day), self)
        return self._source._rows(load_contract()[dataset], questions)[api]

    def _frame(self, dataset: str) -> pd.DataFrame:
        frame = self._source.fetch(dataset, self.day, self.day)
        assert isinstance(frame, pd.DataFrame), f"{dataset}: {frame}"
        return frame


class _Progress:
    """Tells the log how far a dataset is, no more often than people read; the last one is always told."""

    def __init__(self) -> None:
        self._told = 0.0
        self._lock = threading.Lock()

    def tell(self, dataset: str, api: str, done: int, total: int) -> None:
        """Note that `done` of `total` questions of an API are answered."""
        now = time.monotonic()
        with self._lock:
            if done < total and now - self._told < _PROGRESS_SECONDS:
                return
            self._told = now
        logger.info("%s: %s %d/%d", dataset, api, done, total)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows in one frame; a column that is empty in some answers and text in others is text."""
    filled = [part for part in parts if len(part)] or list(parts[:1])
    joined = pd.concat(filled, ignore_index=True)
    return joined.astype(dict.fromkeys(joined.select_dtypes("object").columns, "str"))


def _where(questions: Sequence[Question]) -> str:
    """Names what was asked: by API the parameters of the first question, and of the last."""
    by_api: dict[str, list[Question]] = {}
    for question in questions:
        by_api.setdefault(question.api, []).append(question)
    words = []
    for api, asked in by_api.items():
        ends = list(dict.fromkeys(", ".join(f"{k}={v}" for k, v in q.params.items()) for q in (asked[0], asked[-1])))
        words.append(f"{api}({' … '.join(ends)})")
    return f"tushare {' + '.join(words)}"


def open_tushare(
    settings: TushareSettings, parameters: Parameters, responses: Path, exchange_report: ExchangeReport | None
) -> TushareSource:
    """The source for these settings and the strategy's parameters, its answers kept below the folder `responses`."""
    return TushareSource(
        settings,
        ResponseStore(responses),
        scheme=parameters.scheme,
        style_indices=parameters.style_indices,
        repull_sessions=parameters.repull_sessions,
        exchange_report=exchange_report,
    )
