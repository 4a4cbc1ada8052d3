"""Dagster partitions: sessions, months and quarters of raw data, and rebalance dates of the strategy."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import dagster as dg
import pandas as pd

from etf_pipeline.core.calendar import SHANGHAI, last_calendar_session, rebalance_dates, sessions_between
from etf_pipeline.settings import Parameters

_DAY = "%Y-%m-%d"


def _end(end: date | None) -> str | None:
    return (end + timedelta(days=1)).strftime(_DAY) if end else None


def trading_days(start: date, end: date | None = None) -> dg.TimeWindowPartitionsDefinition:
    """One partition for every session of the Shanghai exchange from `start` to `end`, or to the running or next one.

    Dagster ends a partition at midnight; one more is there so that the evening can take in its own session.
    """
    return dg.TimeWindowPartitionsDefinition(
        start=start.strftime(_DAY),
        end=_end(end),
        fmt=_DAY,
        cron_schedule="0 0 * * *",
        timezone=SHANGHAI,
        exclusions=["0 0 * * 6,0", *_holidays(start)],
        end_offset=1,
    )


def _holidays(start: date) -> list[datetime]:
    last = last_calendar_session()
    weekdays = pd.bdate_range(start, last)
    return [day.to_pydatetime() for day in weekdays.difference(sessions_between(start, last))]


def raw_partitions(start: date, end: date | None = None) -> Mapping[str, dg.PartitionsDefinition | None]:
    """Partitions of raw datasets by the contract's word for them: day, month, quarter; none for snapshots.

    The running month and quarter are there too: what is published on their last day can be taken in at once.
    """
    month = dg.TimeWindowPartitionsDefinition(
        start=start.replace(day=1).strftime(_DAY),
        end=_end(end),
        fmt=_DAY,
        cron_schedule="0 0 1 * *",
        timezone=SHANGHAI,
        end_offset=1,
    )
    quarter = dg.TimeWindowPartitionsDefinition(
        start=start.replace(month=(start.month - 1) // 3 * 3 + 1, day=1).strftime(_DAY),
        end=_end(end),
        fmt=_DAY,
        cron_schedule="0 0 1 1,4,7,10 *",
        timezone=SHANGHAI,
        end_offset=1,
    )
    return {"day": trading_days(start, end), "month": month, "quarter": quarter, "snapshot": None, "none": None}


def rebalance_partitions(parameters: Parameters, start: date, end: date | None = None) -> dg.StaticPartitionsDefinition:
    """One partition for every rebalance date from `start` to `end`, or to the last the calendar knows."""
    dates = rebalance_dates(
        start, end or last_calendar_session(), parameters.rebalance_anchor, parameters.rebalance_every_weeks
    )
    return dg.StaticPartitionsDefinition([f"{day:%Y-%m-%d}" for day in dates])


def keys_within(partitions: dg.PartitionsDefinition, first: date, last: date) -> list[str]:
    """Partitions with a day from `first` to `last`; those of one day, and of sessions, by that day alone."""
    start, end = f"{first:{_DAY}}", f"{last:{_DAY}}"
    if isinstance(partitions, dg.TimeWindowPartitionsDefinition) and not partitions.exclusions:
        # a month or quarter reaches to the next one
        start = max((key for key in partitions.get_partition_keys() if key <= start), default=start)
    return [key for key in partitions.get_partition_keys() if start <= key <= end]


def selected_window(context: dg.AssetExecutionContext) -> tuple[date, date] | None:
    """First and last day of the time partitions this run materialises; None for a run without partitions."""
    if not context.has_partition_key and not context.has_partition_key_range:
        return None
    window = context.partition_time_window
    return window.start.date(), window.end.date() - timedelta(days=1)
