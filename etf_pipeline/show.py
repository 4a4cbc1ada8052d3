"""The console, and the results printed on it."""

import sys
from datetime import date
from itertools import zip_longest

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import LakeError
from etf_pipeline.scenarios import Comparison

# names and paths that are printed may say `[x]`
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)


def show_coverage(lake: Lake) -> None:
    """Print how the value of the latest week was looked through."""
    coverage = lake.read_published("look_through_coverage")
    latest = coverage[coverage["week_end"] == coverage["week_end"].max()].sort_values("value_cny", ascending=False)
    if latest.empty:
        console.print("No week with looked-through value yet.")
        return
    table = Table(title=f"How A-share stock ETFs were looked through, {latest['week_end'].iloc[0]:%Y-%m-%d}")
    table.add_column("basis")
    table.add_column("value, 亿元", justify="right")
    table.add_column("part", justify="right")
    for row in latest.itertuples():
        table.add_row(row.basis, f"{row.value_cny / 1e8:,.1f}", f"{row.ratio:.1%}")
    console.print(table)


def show_holdings(lake: Lake, day: date | None) -> None:
    """Print the holdings of a signal date, or the latest and the dates since then that hold nothing.

    Raises:
        LakeError: the day is no signal date; the message names the nearest.
    """
    published = lake.read_published("strategy_holdings")
    scores = lake.read_published("factor_scores")
    reasons = scores.drop_duplicates("signal_date").set_index("signal_date")["withheld_reason"].dropna()
    wanted = pd.Timestamp(day) if day else published["signal_date"].max()
    rows = published[published["signal_date"] == wanted]
    known = pd.Series(pd.unique(scores["signal_date"]))
    if day and wanted not in set(known):
        nearest = f"; the nearest is {known.iloc[(known - wanted).abs().argmin()]:%Y-%m-%d}" if len(known) else ""
        raise LakeError(f"{day} is no signal date of this lake{nearest}")
    if rows.empty:
        reason = reasons.get(wanted, "nothing was published") if day else "no date could be published"
        console.print(f"No holdings for {day or 'any date'}: {reason}")
    else:
        first = rows.iloc[0]
        title = (
            f"Holdings of signal {first['signal_date']:%Y-%m-%d}, held {first['holding_start']:%Y-%m-%d} … "
            f"{first['holding_end']:%Y-%m-%d}; {first['size_regime']} / {first['growth_value_regime']} lead; "
            f"source {first['source']}"
        )
        table = Table(title=title)
        for column in ("rank", "industry", "weight", "composite", "above median", "largest ETF", "most liquid ETF"):
            table.add_column(column, justify="right" if column in ("rank", "weight", "composite") else "left")
        for row in rows.itertuples():
            table.add_row(
                str(row.rank),
                f"{row.industry_code} {row.industry_name}",
                f"{row.weight:.2%}",
                f"{row.composite:+.2f}",
                str(row.flags),
                row.largest_etf if isinstance(row.largest_etf, str) else "–",
                row.most_liquid_etf if isinstance(row.most_liquid_etf, str) else "–",
            )
        console.print(table)
        console.print(f"Factors: {first['factors_used']}. {first['factors_off'] or ''}".rstrip())
    if day is None:
        later = reasons if rows.empty else reasons[reasons.index > wanted]
        for signal, reason in later.tail(5).items():
            console.print(f"Not published: {signal:%Y-%m-%d}, {reason}", style="yellow")


def show_comparison(name: str, comparison: Comparison) -> None:
    """Print on how many dates a scenario holds something else than was published, and both sets of the newest one."""
    dates, differing = comparison.dates, comparison.differing
    span = f", {dates.min():%Y-%m-%d} … {dates.max():%Y-%m-%d}" if len(dates) else ""
    console.print(f"Compared with what is published: {len(dates)} dates{span}; holdings differ on {len(differing)}.")
    if comparison.scenario.empty:
        console.print("There is no date for which both hold something.")
        return
    columns = [rows.sort_values("rank") for rows in (comparison.published, comparison.scenario)]
    table = Table(title=f"Holdings of signal {comparison.scenario['signal_date'].iloc[0]:%Y-%m-%d}")
    table.add_column("rank", justify="right")
    for heading in ("published", f"scenario {name}"):
        table.add_column(Text(heading))
    industries = [
        [f"{row.industry_code} {row.industry_name}, {row.weight:.2%}" for row in c.itertuples()] for c in columns
    ]
    for rank, pair in enumerate(zip_longest(*industries, fillvalue="–"), start=1):
        table.add_row(str(rank), *map(Text, pair))
    console.print(table)
