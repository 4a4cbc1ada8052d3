"""Great Expectations suites of the raw datasets, built from the contract, and the judging of stored files by them.

Here: translating the contract's rules into expectations, and everything that needs Great Expectations. Not here: a rule
or bound of a dataset (`contract.yaml`), or Dagster (`expectations.py`).
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from etf_pipeline.contract import AVAILABLE_AT, EARLIEST_DATE, Column, Dataset, KnownFrom, SetSum, Stays
from etf_pipeline.core.calendar import SHANGHAI
from etf_pipeline.resources.lake import Lake
from etf_pipeline.sources.canonical import CODE_PATTERN, INDUSTRY_PATTERN, PRICE_TOLERANCE, off_session
from etf_pipeline.sources.units import unit_faults
from etf_pipeline.sources.vocabulary import in_series

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation

_SHOWN_ROWS = 5
_DERIVED = "derived "


@dataclass(frozen=True)
class Judgement:
    """What the suite of one dataset found in some of its files."""

    expectations: int
    """How many were judged."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    """Of each that failed: rule, column, number of unexpected rows, and of how many."""
    rows: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    """Of each that failed: column and rule, and the first unexpected rows."""


def judge(dataset: Dataset, lake: Lake, files: Sequence[Path]) -> Judgement:
    """Judge these raw files of a dataset together; no rule spans two of them."""
    frame = lake.read_raw(dataset, files=files)
    results = _validate(dataset, frame)
    failed = [result for result in results if not result.success]
    return Judgement(len(results), [_describe(r) for r in failed], [_rows(dataset, frame, r) for r in failed])


@cache
def _context() -> "EphemeralDataContext":
    # imported here: it takes seconds, and only who judges needs it
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


@cache
def _batch_definition() -> "BatchDefinition":
    source = _context().data_sources.add_pandas("lake")
    return source.add_dataframe_asset("raw").add_batch_definition_whole_dataframe("all")


def _validate(dataset: Dataset, frame: pd.DataFrame) -> list["ExpectationValidationResult"]:
    batch_definition = _batch_definition()
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.validator.v1_validator import Validator

    derived = list(_derived(dataset, frame))
    expectations = [e for column in dataset.columns.values() for e in _column_expectations(column)]
    key = list(dataset.key)
    rule = {"rule": f"one row per {', '.join(key)}", "columns": key}
    expectations.append(
        gxe.ExpectColumnValuesToBeUnique(column=key[0], meta=rule)
        if len(key) == 1
        else gxe.ExpectCompoundColumnsToBeUnique(column_list=key, meta=rule)
    )
    if dataset.known_from:
        expectations.append(_not_null(AVAILABLE_AT))
    for number, column in enumerate(derived):
        expectations.append(
            gxe.ExpectColumnValuesToBeBetween(
                column=f"{_DERIVED}{number}",
                min_value=column.minimum,
                max_value=column.maximum,
                meta={"rule": column.rule, "columns": list(column.of)},
            )
        )
    whole = frame.assign(**{f"{_DERIVED}{number}": column.values for number, column in enumerate(derived)})
    # what a batch's own `validate` does, but for a second fingerprint of the frame
    validator = Validator(
        batch_definition,
        batch_parameters={"dataframe": whole},
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": _SHOWN_ROWS},
    )
    return validator.validate_expectation_suite(gx.ExpectationSuite(dataset.name, expectations=expectations)).results


def _not_null(column: str) -> "Expectation":
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToNotBeNull(column=column, meta={"rule": "not empty", "columns": [column]})


def _column_expectations(column: Column) -> Iterator["Expectation"]:
    import great_expectations.expectations as gxe

    name, show = column.name, [column.name]
    if not column.nullable and not column.optional:
        yield _not_null(name)
    if column.type == "number":
        # the largest number as a bound: infinity breaks it
        lowest = column.minimum if column.above is None else column.above
        rule = {
            "rule": " and ".join(
                ["finite"]
                + ([f"at least {column.minimum:g}"] if column.minimum is not None else [])
                + ([f"above {column.above:g}"] if column.above is not None else [])
                + ([f"at most {column.maximum:g}"] if column.maximum is not None else [])
            ),
            "columns": show,
        }
        yield gxe.ExpectColumnValuesToBeBetween(
            column=name,
            min_value=-sys.float_info.max if lowest is None else lowest,
            max_value=sys.float_info.max if column.maximum is None else column.maximum,
            strict_min=column.above is not None,
            meta=rule,
        )


@dataclass(frozen=True)
class _Derived:
    """A rule about several columns or rows, or about dates, as a column of numbers within bounds."""

    rule: str
    of: tuple[str, ...]
    values: pd.Series
    minimum: float | None = None
    maximum: float | None = None


def _derived(dataset: Dataset, frame: pd.DataFrame) -> Iterator[_Derived]:
    coded = {}
    for column in dataset.columns.values():
        if column.type == "date":
            yield from _days(column, frame[column.name])
        if column.type in ("code", "industry"):
            coded[column.name], distinct = pd.factorize(frame[column.name])
            yield _codes(column, coded[column.name], pd.Index(distinct))
        if column.allowed is not None:
            strange = (frame[column.name].notna() & ~frame[column.name].isin(list(column.allowed))).astype(float)
            yield _Derived(f"one of {', '.join(column.allowed)}", (column.name,), strange, maximum=0)
    if dataset.set_sum:
        yield _set_sum(dataset.set_sum, frame.assign(**coded))
    if dataset.stays:
        yield from _stays(dataset.stays, frame)
    if {"high", "low", "close"} <= dataset.columns.keys():
        for above, below in (("high", "low"), ("high", "close"), ("close", "low")):
            ratio = frame[above] / frame[below]
            yield _Derived(f"{above} not below {below}", (above, below), ratio, minimum=1 - PRICE_TOLERANCE)
    judged = [c.name for c in dataset.columns.values() if c.steps or c.median_minimum or c.median_maximum]
    if judged:
        wrong = np.zeros(len(frame))
        for fault in unit_faults(dataset, frame):
            wrong[fault.rows] = 1
        rule = "in the contract's unit, judged per day and exchange"
        yield _Derived(rule, tuple(judged), pd.Series(wrong), maximum=0)
    if dataset.known_from and not dataset.known_from.ahead:
        day = _day_of(dataset.known_from, frame).dt.tz_localize(SHANGHAI)
        early = (frame[AVAILABLE_AT] - day).dt.total_seconds() / 86_400
        yield _Derived("not before the day the row is about", (AVAILABLE_AT,), early, minimum=0)


def _days(column: Column, days: pd.Series) -> Iterator[_Derived]:
    # as numbers: the expectations on dates and on sets of dates take seconds where these take milliseconds
    first, today = pd.Timestamp(EARLIEST_DATE), pd.Timestamp.now(SHANGHAI).normalize().tz_localize(None)
    latest = None if column.future else today
    rule = f"from {first:%Y-%m-%d}" + (f" to today, {latest:%Y-%m-%d}" if latest else "")
    since = (days - first).dt.days
    yield _Derived(rule, (column.name,), since, 0, (latest - first).days if latest else None)
    if column.session:
        closed = off_session(days).astype(float)
        yield _Derived("session of the Shanghai exchange", (column.name,), closed, maximum=0)


def _codes(column: Column, place: np.ndarray, distinct: pd.Index) -> _Derived:
    # every code once: millions of rows have but thousands of them
    pattern = CODE_PATTERN if column.type == "code" else INDUSTRY_PATTERN
    suffixes = tuple(f".{suffix}" for suffix in column.suffixes) if column.suffixes else ("",)
    of_series = in_series(pd.Series(distinct, dtype="str"), column.name)
    odd = [
        not (isinstance(code, str) and re.fullmatch(pattern, code) and code.endswith(suffixes) and fine)
        for code, fine in zip(distinct, of_series, strict=True)
    ]
    values = np.append(np.array(odd, dtype=float), np.nan)[place]  # -1 stands for a hole
    return _Derived("code with upper-case exchange suffix", (column.name,), pd.Series(values), maximum=0)


def _day_of(known_from: KnownFrom, frame: pd.DataFrame) -> pd.Series:
    day = frame[known_from.column]
    return day.fillna(_day_of(known_from.otherwise, frame)) if known_from.otherwise else day


def _set_sum(rule: SetSum, frame: pd.DataFrame) -> _Derived:
    columns = list(rule.columns)
    by_set = frame.groupby(columns, sort=False)
    # bounds are inclusive: without rounding, 0.99 made of many parts could fail by a float's last digit
    sums = by_set[rule.of].transform("sum").round(9)
    text = f"sum per {', '.join(columns)} from {rule.minimum:g} to {rule.maximum:g}"
    # a set is judged, and counted, at its first row
    return _Derived(text, (rule.of,), sums.mask(by_set.ngroup().duplicated()), rule.minimum, rule.maximum)


def _stays(rule: Stays, frame: pd.DataFrame) -> Iterator[_Derived]:
    columns = list(rule.columns)
    length = (frame[rule.end] - frame[rule.start]).dt.days
    yield _Derived(f"not before {rule.start}", (rule.end,), length, minimum=0)
    ordered = frame.sort_values([*columns, rule.start], kind="stable")
    groups = [ordered[c] for c in columns]
    ends = ordered[rule.end].fillna(pd.Timestamp("2262-01-01"))
    ended = ends.groupby(groups).cummax().groupby(groups).shift()
    gap = (ordered[rule.start] - ended).dt.days.reindex(frame.index)
    yield _Derived(
        f"not before the end of an earlier stay of the same {' and '.join(columns)}", (rule.start,), gap, minimum=0
    )


def _describe(result: "ExpectationValidationResult") -> dict[str, Any]:
    config, found = result.expectation_config, result.result
    assert config is not None
    assert config.meta is not None
    error = next((v.get("exception_message") for v in _exceptions(result)), None)
    return {
        "rule": config.meta["rule"],
        "column": ", ".join(config.meta["columns"]),
        "unexpected": found.get("unexpected_count", found.get("observed_value", error)),
        "of": found.get("element_count"),
    }


def _exceptions(result: "ExpectationValidationResult") -> list[dict[str, Any]]:
    info = result.exception_info or {}
    nested = [info] if "raised_exception" in info else list(info.values())
    return [i for i in nested if isinstance(i, dict) and i.get("raised_exception")]


def _rows(dataset: Dataset, frame: pd.DataFrame, result: "ExpectationValidationResult") -> tuple[str, pd.DataFrame]:
    config, found = result.expectation_config, result.result
    assert config is not None
    assert config.meta is not None
    rows = frame.loc[list(found.get("partial_unexpected_index_list") or [])[:_SHOWN_ROWS]]
    about = [c for c in config.meta["columns"] if c not in dataset.key]
    shown = rows[[*dataset.key, *about]]
    if str(config.kwargs.get("column")).startswith(_DERIVED) and len(rows):
        shown = shown.assign(value=found["partial_unexpected_list"][: len(rows)])
    return f"{', '.join(config.meta['columns'])}: {config.meta['rule']}", shown
