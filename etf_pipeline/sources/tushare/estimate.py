"""What a backfill from Tushare costs before it is made: calls and minutes at the user's tier, by dataset and API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from etf_pipeline.sources.tushare.mapping import ADAPTERS, APIS, Question
from etf_pipeline.sources.tushare.pages import Query
from etf_pipeline.sources.tushare.source import TushareSource


@dataclass(frozen=True)
class Cost:
    """What one API costs one dataset: `calls` to make, `stored` questions already answered, `minutes` at full pace.

    `points` the API needs (None: a licence of its own); `missing` says why the account cannot read it, else None.
    """

    dataset: str
    api: str
    calls: int
    stored: int
    minutes: float
    points: int | None
    missing: str | None


def estimate(source: TushareSource, start: date, end: date) -> list[Cost]:
    """Costs of every dataset and API for the days from `start` to `end`, in the order of ingestion.

    Asks for today's lists of funds and industries first, if they are not stored yet: a backfill uses them too. A query
    counts one call for each page it is thought to have; for index weights and fund reports that is a guess.

    Raises:
        SourceError: the lists cannot be had.
    """
    # lists are asked for while questions are made, so that all of them are there when answers are counted
    questions_of = {
        dataset: [] if source.unreadable(dataset) else source.questions(dataset, source.window(dataset, start, end))
        for dataset in ADAPTERS
    }
    costs, promised = [], set()
    for dataset, questions in questions_of.items():
        # an answer one dataset asks for serves the next
        fresh = [q for q in _unanswered(source, dataset, questions) if _request(q) not in promised]
        promised |= {_request(question) for question in fresh}
        for name in ADAPTERS[dataset].ask:
            api = APIS[name]
            calls = sum(_pages(question) for question in fresh if question.api == name)
            asked = sum(question.api == name for question in questions)
            costs.append(
                Cost(
                    dataset,
                    name,
                    calls,
                    asked - sum(question.api == name for question in fresh),
                    calls / source.plan.per_minute,
                    None if api.minute_licence else api.points,
                    source.missing(name) or source.unreadable(dataset),
                )
            )
    return costs


def _unanswered(source: TushareSource, dataset: str, questions: Sequence[Question]) -> list[Question]:
    since = source.usable_since(dataset, questions)
    return [
        question
        for question, moment in zip(questions, since, strict=True)
        if source.responses.newest(question.api, _first_call(question).request, moment) is None
    ]


def _first_call(question: Question) -> Query:
    api = APIS[question.api]
    return Query(question.api, question.params, api.fields, api.page_size, 0 if api.paged else None)


def _request(question: Question) -> str:
    return str(_first_call(question))


def _pages(question: Question) -> int:
    size = APIS[question.api].page_size
    return question.rows // size + 1 if size else 1
