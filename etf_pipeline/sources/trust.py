"""How far a vendor's answer is believed: dates held against the exchange, two sources against each other, empty days.

Pure functions of frames; nothing here calls a vendor.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from etf_pipeline.contract import SetSum
from etf_pipeline.sources.base import SourceError, TransientSourceError
from etf_pipeline.sources.canonical import outside_set_sum

LAGS = (0, -1, 1)
"""Sessions by which a vendor's label may be off, the likeliest first: −1 is a label one session late."""

SAME_SHARES = 100.0
"""Vendors round to a hundredth of a 万份; two counts of shares this close (in 份) are the same."""
AGREEMENT = 0.9
"""A day is of the session at which at least so many of its funds agree with the exchange's own report."""
LEAST_COMMON = 0.5
"""With fewer of the day's funds in the exchange's report there is nothing to judge by."""
CLEAR = 2.0
"""A label is only corrected where so many times more funds speak for the other session than for the labelled one."""

SHENZHEN_REPORT_BEGINS = date(2016, 10, 10)
"""Shenzhen's daily reports reach back to here; of earlier days there is nothing to hold dates against."""

LATE_RETRY_SECONDS = 900.0
"""When to come back for a day that should be out by now."""

BROKEN_SETS_LIMIT = 0.05
"""With more than this part of its weight sets broken a vendor has changed what it sends."""

_SHOWN_DAYS = 5
_SHOWN_SETS = 10
_SHOWN_DISAGREEMENTS = 50


class EmptyDay(SourceError):
    """A session that was long over has no row at all in an answer that always has some."""


class NotPublished(TransientSourceError):
    """A session that should be public by now has no row yet."""


class DatesRefused(SourceError):
    """Days of a vendor agree with the exchange's report at no lag, or there is no report to hold them against."""


class ExchangeReport(Protocol):
    """The exchange's own shares of its ETFs from `start` to `end`: etf_code, trade_date (datetime64), shares (份).

    Days the exchange has not published yet are absent.
    """

    def __call__(self, start: date, end: date) -> pd.DataFrame: ...  # noqa: D102


def refuse_empty_days(api: str, late: Iterable[date], empty: Iterable[date]) -> None:
    """Raise for sessions without any row: `empty` ones are long over, `late` ones came due only now.

    Raises:
        EmptyDay: there are empty ones.
        NotPublished: there are only late ones.
    """
    if days := _some(empty):
        raise EmptyDay(
            f"{api}: no row at all for {days}, which are sessions. That is a gap of the vendor, not a day without "
            "funds: ask again later, or begin after it with --start if the vendor's history begins later."
        )
    if days := _some(late):
        raise NotPublished(f"{api}: no row yet for {days}. The vendor is late; ask again.", LATE_RETRY_SECONDS)


@dataclass(frozen=True)
class JudgedSets:
    """Weights without the sets that do not sum to one; how many `sets` came, and which of them are `broken`."""

    kept: pd.DataFrame
    sets: int
    broken: int
    shown: str

    @property
    def is_too_many(self) -> bool:
        """Whether so many are broken that the vendor must have changed what it sends."""
        return self.broken > BROKEN_SETS_LIMIT * self.sets


def without_broken_sets(rule: SetSum, weights: pd.DataFrame) -> JudgedSets:
    """`weights` apart from their sets that break `rule`: no user can mend a vendor's file. The index stays."""
    sums = outside_set_sum(rule, weights)
    sets = weights[list(rule.columns)].assign(total=sums).drop_duplicates()
    broken = sets[sets["total"].notna()]
    first = broken.head(_SHOWN_SETS).itertuples(index=False)
    shown = ", ".join(f"{code} {str(day)[:10]} ({total:.4f})" for code, day, total in first)
    return JudgedSets(weights[sums.isna()], len(sets), len(broken), shown)


def dated_by_exchange(vendor: pd.DataFrame, exchange: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """`vendor` with every day under the session at which its values agree with the exchange's own report.

    Both frames have etf_code, trade_date (datetime64) and shares; `sessions` are consecutive and hold the labels and
    one more on either side. A day keeps its label unless far more funds speak for a neighbour. Where two labels turn
    out to be one session, the rows labelled right are kept. The result has the column `label`, the date as sent.

    Raises:
        DatesRefused: days that agree at no lag, all of them with their agreement at each.
    """
    unasked = vendor[~vendor["trade_date"].isin(sessions)]
    refused = [f"{day} (not asked for)" for day in unasked["trade_date"].unique()]
    said = vendor.pivot(index="trade_date", columns="etf_code", values="shares")
    truth = exchange.pivot(index="trade_date", columns="etf_code", values="shares").reindex(columns=said.columns)
    lags: dict[pd.Timestamp, int] = {}
    for place in np.flatnonzero(sessions.isin(said.index)).tolist():
        label = sessions[place]
        around = {k: sessions[place + k] for k in LAGS if 0 <= place + k < len(sessions)}
        reports = {k: truth.loc[day].to_numpy() for k, day in around.items() if day in truth.index}
        lag, agreement = _lag(said.loc[label].to_numpy(), reports)
        if lag is None:
            refused.append(f"{label:%Y-%m-%d} ({agreement})")
        else:
            lags[label] = lag
    if refused:
        raise DatesRefused(
            f"shares of {len(refused)} days agree with the exchange's own report at none of the lags 0, −1, +1: "
            f"{'; '.join(refused[:_SHOWN_DAYS])}{'; …' if len(refused) > _SHOWN_DAYS else ''}. At least "
            f"{AGREEMENT:.0%} of a day's funds have to. Ask again later; if it stays so, leave the days out."
        )
    lag_of = vendor["trade_date"].map(lags).astype("int64")
    places = sessions.get_indexer(pd.DatetimeIndex(vendor["trade_date"])) + lag_of
    dated = vendor.assign(label=vendor["trade_date"], trade_date=sessions[places])
    dated = dated.loc[lag_of.abs().sort_values(kind="stable").index]
    return dated.drop_duplicates(["etf_code", "trade_date"]).sort_index()


def _lag(shares: npt.NDArray[np.float64], reports: Mapping[int, npt.NDArray[np.float64]]) -> tuple[int | None, str]:
    """The lag at which a day's shares are those of the exchange, by fund as `reports` are; None if there is none.

    Also the agreement at each lag, in words.
    """
    there = ~np.isnan(shares)
    common = {k: there & ~np.isnan(report) for k, report in reports.items()}
    common = {k: both for k, both in common.items() if both.sum() >= LEAST_COMMON * there.sum()}
    if not common:
        return None, "the report does not have it"
    agrees = {k: np.abs(reports[k] - shares) <= SAME_SHARES for k in common}
    share = {k: agrees[k].sum() / both.sum() for k, both in common.items()}
    told = ", ".join(f"lag {k}: {share[k]:.0%}" for k in sorted(share))
    # funds whose shares did not change agree at every lag and say nothing about the date
    telling = np.logical_or.reduce([agrees[k] != both for k, both in common.items()])
    votes = {k: (agrees[k] & telling).sum() * (CLEAR if k == 0 else 1) for k in share if share[k] >= AGREEMENT}
    # the first of equals: LAGS begins with 0
    return (max(votes, key=lambda k: votes[k]) if votes else None), told


def reconcile(
    left: pd.DataFrame,
    right: pd.DataFrame,
    key: Sequence[str],
    names: tuple[str, str],
    relative_tolerance: float,
) -> pd.DataFrame:
    """Where two sources of one dataset disagree: one row per key and column, in the order of the key.

    Columns: the key, `column`, one column of values for each of `names`, `relative_difference` (of the larger, NaN
    where a value is missing) and `missing_in` (the name of the source that lacks the row or value, else None). Common
    number columns are compared; values missing in both agree.
    """
    columns = [c for c in left.columns if c in right and c not in key and pd.api.types.is_numeric_dtype(left[c])]
    both = left[[*key, *columns]].merge(right[[*key, *columns]], on=list(key), how="outer", suffixes=("_0", "_1"))
    parts = []
    for column in columns:
        ours, theirs = both[f"{column}_0"], both[f"{column}_1"]
        larger = ours.abs().combine(theirs.abs(), np.maximum)
        difference = ((ours - theirs).abs() / larger.where(larger > 0)).where(larger.ne(0) | larger.isna(), 0.0)
        missing = pd.Series(None, both.index, dtype=object)
        missing = missing.mask(ours.isna() & theirs.notna(), names[0]).mask(theirs.isna() & ours.notna(), names[1])
        disagrees = missing.notna() | (difference > relative_tolerance)
        values: dict[str, Any] = {"column": column, names[0]: ours, names[1]: theirs, "relative_difference": difference}
        parts.append(both[list(key)].assign(**values, missing_in=missing)[disagrees])
    empty = pd.DataFrame(columns=[*key, "column", *names, "relative_difference", "missing_in"])
    return pd.concat(parts).sort_values([*key, "column"], ignore_index=True) if parts else empty


def as_text(disagreements: pd.DataFrame) -> str:
    """The table of `reconcile` in Markdown, the largest differences first; of a long one its beginning."""
    worst = disagreements.sort_values("relative_difference", ascending=False, na_position="first", kind="stable")
    shown = worst.head(_SHOWN_DISAGREEMENTS).to_markdown(index=False)
    more = len(worst) - _SHOWN_DISAGREEMENTS
    return f"{len(worst)} disagreements\n\n{shown}" + (f"\n\n… and {more} more" if more > 0 else "")


def _some(days: Iterable[date]) -> str:
    listed = sorted(days)
    more = f" and {len(listed) - _SHOWN_DAYS} more" if len(listed) > _SHOWN_DAYS else ""
    return ", ".join(f"{day:%Y-%m-%d}" for day in listed[:_SHOWN_DAYS]) + more
