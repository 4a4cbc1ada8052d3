"""Ways an answer can claim success and break the protocol: what is done to a good one, and what the refusal says."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sources.tushare.server import Fault, bytes_instead, edited

FIELDS = ["ts_code", "trade_date", "fd_share"]
GOOD = {
    "request_id": "1",
    "code": 0,
    "msg": "",
    "data": {
        "fields": FIELDS,
        "items": [["159001.SZ", "20260302", 1.5], ["159002.SZ", "20260302", None]],
        "has_more": False,
    },
}


@dataclass(frozen=True)
class Malformed:
    name: str
    fault: Fault
    rule: str


def _top(name: str, change: Callable[[dict[str, Any]], Any], rule: str) -> Malformed:
    return Malformed(name, edited(change), rule)


def _data(name: str, change: Callable[[dict[str, Any]], Any], rule: str) -> Malformed:
    def whole(answer: dict[str, Any]) -> None:
        change(answer["data"])

    return Malformed(name, edited(whole), rule)


def _value(name: str, value: Any, rule: str) -> Malformed:
    """Another value for the shares of the second row."""

    def change(data: dict[str, Any]) -> None:
        data["items"][1][2] = value

    return _data(name, change, rule)


def _text(name: str, old: str, new: str, rule: str) -> Malformed:
    """The good answer as text with a replacement."""
    text = json.dumps(GOOD)
    assert old in text
    return Malformed(name, bytes_instead(text.replace(old, new, 1).encode()), rule)


def _bytes(name: str, body: bytes, rule: str) -> Malformed:
    return Malformed(name, bytes_instead(body), rule)


MALFORMED = [
    _top("a list", lambda answer: [answer], "the answer is a list instead of an object"),
    _bytes("null", b"null", "the answer is nothing instead of an object"),
    _bytes("quoted", json.dumps(json.dumps(GOOD)).encode(), "the answer is text instead of an object"),
    _top("code missing", lambda answer: {"data": answer["data"]}, "code is nothing instead of a whole number"),
    _top("code null", lambda answer: answer.update(code=None), "code is nothing instead of a whole number"),
    _top("code as text", lambda answer: answer.update(code="0"), "code is text instead of a whole number"),
    _top("code 0.0", lambda answer: answer.update(code=0.0), "code is a number instead of a whole number"),
    _top("code false", lambda answer: answer.update(code=False), "code is true or false instead of a whole number"),
    _top("code in a list", lambda answer: answer.update(code=[0]), "code is a list instead of a whole number"),
    _top("data null", lambda answer: answer.update(data=None), "code is 0, but data is nothing"),
    _top("data missing", lambda answer: answer.pop("data") and None, "code is 0, but data is nothing"),
    _top("data a list", lambda answer: answer.update(data=[]), "code is 0, but data is a list"),
    _data("fields missing", lambda data: data.pop("fields") and None, "fields is not a list of names"),
    _data("fields null", lambda data: data.update(fields=None), "fields is not a list of names"),
    _data("fields as text", lambda data: data.update(fields=",".join(FIELDS)), "fields is not a list of names"),
    _data("a number among fields", lambda data: data.update(fields=[*FIELDS[:2], 3]), "fields is not a list of names"),
    _data("fields empty", lambda data: data.update(fields=[], items=[]), "it holds nothing"),
    _data(
        "a field renamed", lambda data: data.update(fields=[*FIELDS[:2], "share"]), "fields lacks fd_share; it holds"
    ),
    _data("a field twice", lambda data: data.update(fields=[*FIELDS, "ts_code"]), "fields names a column twice"),
    _data("one field less", lambda data: data.update(fields=FIELDS[:2]), "fields lacks fd_share; it holds ts_code"),
    _data("items missing", lambda data: data.pop("items") and None, "items is nothing instead of a list"),
    _data("items null", lambda data: data.update(items=None), "items is nothing instead of a list"),
    _data("items an object", lambda data: data.update(items={"0": []}), "items is an object instead of a list"),
    _data("a row as object", lambda data: data["items"].append({}), "row 3 is an object instead of a list"),
    _data("a row null", lambda data: data["items"].insert(0, None), "row 1 is nothing instead of a list"),
    _data("a short row", lambda data: data["items"][1].pop() and None, "row 2 has 2 values for 3 fields"),
    _data("a long row", lambda data: data["items"][0].append(1.0), "row 1 has 4 values for 3 fields"),
    _data("an empty row", lambda data: data["items"][1].clear(), "row 2 has 0 values for 3 fields"),
    _data(
        "more rows than asked", lambda data: data.update(items=data["items"] * 3), "6 rows, more than the 4 asked for"
    ),
    _data("has_more as text", lambda data: data.update(has_more="false"), "has_more is text instead of true or false"),
    _data("has_more as number", lambda data: data.update(has_more=0), "has_more is a number instead of true or false"),
    _data(
        "more of nothing", lambda data: data.update(items=[], has_more=True), "has_more is true, but there is no row"
    ),
    _value("a truth for a number", True, "fd_share holds a number and true or false"),
    _value("text among numbers", "1.5", "fd_share holds a number and text"),
    _value("a list for a value", [1.5], "fd_share holds a list and a number"),
    _value("an object for a value", {}, "fd_share holds a number and an object"),
    _value("a number too large for a float", 10**400, "fd_share holds a number beyond all bounds"),
    _text("NaN", "null]", "NaN]", "NaN is no number in JSON"),
    _text("Infinity", "null]", "Infinity]", "Infinity is no number in JSON"),
    _text("minus Infinity", "null]", "-Infinity]", "-Infinity is no number in JSON"),
    _text("an exponent too large", "null]", "1e400]", "fd_share holds a number beyond all bounds"),
    _text("more digits than Python reads", "null]", "1" * 5000 + "]", "JSON beyond all bounds"),
    _text("half a surrogate pair", "159001", "\\ud83d", "ts_code holds half a surrogate pair"),
    _text("a comma too many", "null]", "null,]", "no JSON"),
    _text("a bare line break in text", "159001", "159\n001", "no JSON"),
    _text("single quotes", '"code"', "'code'", "no JSON"),
    _text("two answers", "", json.dumps(GOOD), "no JSON: Extra data"),
    _bytes("nested without end", b"[" * 200_000, "JSON beyond all bounds"),
    _bytes(
        "Chinese of another encoding", json.dumps({"msg": "数据"}, ensure_ascii=False).encode("gbk"), "is not UTF-8"
    ),
    _bytes("UTF-16", json.dumps(GOOD).encode("utf-16"), "byte 0 is not UTF-8"),
    _bytes("a byte order mark", json.dumps(GOOD).encode("utf-8-sig"), "no JSON: Unexpected UTF-8 BOM"),
]
