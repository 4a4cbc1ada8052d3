"""One call to Tushare as a request, and its answer from bytes to rows.

Here: what the protocol says about a single answer. Not here: sending it, waiting, and following pages.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from etf_pipeline.sources.base import MalformedResponse, VendorUnavailable
from etf_pipeline.sources.tushare.errors import refusal, unavailable


@dataclass(frozen=True)
class Query:
    """One call: `limit` and `offset` are None for an un-paged one. As text it names API and parameters."""

    api: str
    params: Mapping[str, str]
    fields: Sequence[str]
    limit: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        sent = {**self.params, "limit": self.limit, "offset": self.offset}
        return (
            f"{self.api}({', '.join(f'{name}={_short(value)}' for name, value in sent.items() if value is not None)})"
        )

    @property
    def request(self) -> dict[str, Any]:
        """What the answer is stored under: everything the answer depends on, and no token."""
        return {
            "api": self.api,
            "params": dict(self.params),
            "fields": list(self.fields),
            "limit": self.limit,
            "offset": self.offset,
        }

    @property
    def message(self) -> dict[str, Any]:
        """Body of the call but for the token."""
        paging = {} if self.limit is None else {"limit": self.limit, "offset": self.offset}
        return {"api_name": self.api, "params": {**self.params, **paging}, "fields": ",".join(self.fields)}


@dataclass(frozen=True)
class Page:
    """Rows of one answer, values in the order of the query's fields; `has_more` None: the answer does not say."""

    items: list[list[Any]]
    has_more: bool | None


def read_page(body: bytes, query: Query, now: datetime) -> Page:
    """The page in `body`, every value text, a finite number or None.

    Raises:
        VendorUnavailable: the body ends too early.
        MalformedResponse: it is whole, and breaks the protocol.
        SourceError: it says why Tushare refused, see `errors.refusal`.
    """
    answer = _json(body, query)
    if not isinstance(answer, dict):
        malformed(query, f"the answer is {_kind(answer)} instead of an object")
    code = answer.get("code")
    if type(code) is not int:
        malformed(query, f"code is {_kind(code)} instead of a whole number")
    if code != 0:
        raise refusal(str(query), code, str(answer.get("msg")), now)
    data = answer.get("data")
    if not isinstance(data, dict):
        malformed(query, f"code is 0, but data is {_kind(data)} instead of an object")
    has_more = data.get("has_more")
    if not isinstance(has_more, bool | None):
        malformed(query, f"has_more is {_kind(has_more)} instead of true or false")
    page = Page(_in_order(data.get("fields"), data.get("items"), query), has_more)
    frame_of(page.items, query)
    return page


def frame_of(items: list[list[Any]], query: Query) -> pd.DataFrame:
    """The rows of `items` under the query's fields: text as `str`, numbers as float64, None as NaN.

    A column without any value is float64.

    Raises:
        MalformedResponse: a value is neither text nor a finite number, or a column holds both kinds.
    """
    columns = zip(*items, strict=True) if items else [()] * len(query.fields)
    named = {field: _column(values, field, query) for field, values in zip(query.fields, columns, strict=True)}
    return pd.DataFrame(named, index=pd.RangeIndex(len(items)))


def malformed(query: Query, rule: str) -> NoReturn:
    """Refuse an answer to `query` that claims success."""
    raise MalformedResponse(
        f"{query}: the answer breaks the protocol: {rule}. Ask again; if it stays so, Tushare has changed its answers."
    )


def _json(body: bytes, query: Query) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise _ended(query, len(body)) from error
        malformed(query, f"byte {error.start} is not UTF-8")
    try:
        return json.loads(text, parse_constant=lambda token: malformed(query, f"{token} is no number in JSON"))
    except json.JSONDecodeError as error:
        end = len(text.rstrip())
        if error.pos >= end or not text.endswith("}", 0, end) or error.msg.startswith("Unterminated string"):
            raise _ended(query, len(body)) from error
        malformed(query, f"no JSON: {error}")
    except (ValueError, RecursionError) as error:
        malformed(query, f"JSON beyond all bounds: {error}")


def _in_order(fields: Any, items: Any, query: Query) -> list[list[Any]]:
    """Rows with their values in the order of the query's fields; what was not asked for is left out."""
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        malformed(query, "fields is not a list of names")
    if len(set(fields)) < len(fields):
        malformed(query, f"fields names a column twice: {', '.join(fields)}")
    missing = [field for field in query.fields if field not in fields]
    if missing:
        malformed(query, f"fields lacks {', '.join(missing)}; it holds {', '.join(fields) or 'nothing'}")
    if not isinstance(items, list):
        malformed(query, f"items is {_kind(items)} instead of a list")
    for number, item in enumerate(items, 1):
        if not isinstance(item, list):
            malformed(query, f"row {number} is {_kind(item)} instead of a list")
        if len(item) != len(fields):
            malformed(query, f"row {number} has {len(item)} values for {len(fields)} fields")
    if query.limit is not None and len(items) > query.limit:
        malformed(query, f"{len(items)} rows, more than the {query.limit} asked for")
    if fields == list(query.fields):
        return items
    order = [fields.index(field) for field in query.fields]
    return [[item[place] for place in order] for item in items]


def _column(values: Sequence[Any], field: str, query: Query) -> pd.Series:
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {float, int}:
        try:
            numbers = np.array(values, dtype="float64")
        except OverflowError:
            malformed(query, f"{field} holds a number beyond all bounds")
        if np.isinf(numbers).any():
            malformed(query, f"{field} holds a number beyond all bounds")
        return pd.Series(numbers)
    if kinds == {str}:
        try:
            return pd.Series(values, dtype="str")
        except UnicodeEncodeError:
            malformed(query, f"{field} holds half a surrogate pair, which is no character")
    malformed(query, f"{field} holds {' and '.join(sorted(_NAMES[kind] for kind in kinds))}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_SHOWN = 80
_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}


def _kind(value: Any) -> str:
    return _NAMES[type(value)]


def _ended(query: Query, size: int) -> VendorUnavailable:
    return unavailable(str(query), f"the answer is no JSON or ends too early, after {size} bytes")
