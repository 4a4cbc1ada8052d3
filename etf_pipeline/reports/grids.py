"""Tables of the report: which rows and columns, and how a number is written.

Here: cells with the value they are sorted by. Not here: charts, and the page around the tables.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from etf_pipeline.reports.charts import EXECUTIONS, GROUPS, PORTFOLIOS, SCORED, SPANS
from etf_pipeline.reports.data import ReportData
from etf_pipeline.reports.texts import Texts
from etf_pipeline.settings import FACTORS, Parameters, describe_parameters

DASH = Markup('<span class="na">—</span>')
COSTS = ("before", "after")
_LAST_PERIODS = 12


@dataclass(frozen=True)
class Cell:
    """What is seen, and the value the column is sorted by (None: missing, always last)."""

    html: Markup
    value: float | str | None = None
    kind: str = "num"

    @property
    def sorted_by(self) -> str:
        """The value as the page holds it: more digits than anyone sees, but not all of them."""
        return f"{self.value:.7g}" if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True)
class Grid:
    """One table: heads are text keys; `emphasis` the rows to set off."""

    name: str
    heads: list[str]
    rows: list[list[Cell]]
    emphasis: frozenset[int] = frozenset()
    show: str = ""
    print_show: str = ""
    caption: Markup | None = None


def number(value: Any, digits: int = 2, scale: float = 1.0, suffix: str = "", signed: bool = False) -> Markup:
    """A number for reading, with a real minus; a dash where there is none."""
    if value is None or pd.isna(value) or not np.isfinite(float(value)):
        return DASH
    shown = f"{float(value) * scale:{'+' if signed else ''},.{digits}f}"
    if float(shown.replace(",", "")) == 0:
        shown = shown.lstrip("+-")
    return Markup(shown.replace("-", "−") + suffix)


def percent(value: Any, digits: int = 2, signed: bool = False) -> Markup:
    """A fraction in percent."""
    return number(value, digits, 100, "%", signed)


def p_value(value: Any) -> Markup:
    """A probability with three decimals; one below the last of them as less than that."""
    plain = _plain(value)
    return Markup("&lt;0.001") if plain is not None and plain < 0.0005 else number(value, 3)


def day(value: Any) -> Markup:
    """A date, or a dash."""
    return DASH if value is None or pd.isna(value) else Markup(f"{pd.Timestamp(value):%Y-%m-%d}")


def _by(frame: pd.DataFrame, *key: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows by their key."""
    return {tuple(row[name] for name in key): row for row in _rows(frame)}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> float | None:
    return None if value is None or pd.isna(value) or not np.isfinite(float(value)) else float(value)


def _num(value: Any, write: Callable[..., Markup] = number, **how: Any) -> Cell:
    return Cell(write(value, **how), _plain(value))


def _text(html: Markup | str, value: Any = None) -> Cell:
    missing = html == "" or (isinstance(html, float) and np.isnan(html))
    return Cell(
        DASH if missing else escape(html), None if missing else str(value if value is not None else html), "txt"
    )


def _bar(value: Any, limit: float, **how: Any) -> Cell:
    """A bar from its middle, orange to the right above zero and blue to the left below, and the number beside it."""
    plain = _plain(value)
    if plain is None:
        return Cell(DASH, None, "bar")
    width = min(abs(plain) / limit, 1.0) * 50 if limit else 0.0
    side = "up" if plain >= 0 else "down"
    bar = Markup('<s><i class="{}" style="width:{:.1f}%"></i></s><b>{}</b>').format(side, width, number(value, **how))
    return Cell(bar, plain, "bar")


def holdings(data: ReportData, texts: Texts) -> Grid:
    """Industries held, with the reasons: composite, factors, flags, and ETFs that express them."""
    rows = []
    for row in data.current_holdings.to_dict("records"):
        flags = Markup("").join(_flag(texts, factor, row[f"{factor}_flag"]) for factor in FACTORS)
        above = sum(1 for factor in FACTORS if row[f"{factor}_flag"] == 1)
        rows.append(
            [
                _num(row["rank"], digits=0),
                _text(texts.markup(texts.industry(row["industry_name"])), row["industry_code"]),
                _num(row["weight"], percent, digits=1),
                _bar(row["composite"], 2.0, signed=True),
                *(_bar(row[factor], 3.0, signed=True) for factor in FACTORS),
                Cell(flags, above, "flags"),
                *(_etf(row[name]) for name in ("largest_etf", "most_liquid_etf", "cheapest_etf")),
            ]
        )
    heads = ["head.rank", "head.industry", "head.weight", "factor.composite", *(f"short.{f}" for f in FACTORS)]
    heads += ["head.flags", "head.largest_etf", "head.most_liquid_etf", "head.cheapest_etf"]
    return Grid("holdings", heads, rows)


def _etf(stated: Any) -> Cell:
    if stated is None or pd.isna(stated):
        return Cell(DASH, None, "txt")
    code, _, name = str(stated).partition(" ")
    return Cell(Markup("{}<small>{}</small>").format(name, code), code, "txt etf")


def _flag(texts: Texts, factor: str, flag: Any) -> Markup:
    state = "none" if pd.isna(flag) else "on" if flag == 1 else "off"
    return Markup('<span class="flag {}">{}</span>').format(state, texts(f"initial.{factor}"))


def all_scores(data: ReportData, texts: Texts) -> Grid:
    """Composite and factors of every industry on the latest date."""
    scores = data.current_scores.sort_values(["rank", "industry_code"])
    held = set(data.current_holdings["industry_code"]) if data.held_date == data.signal_date else set()
    rows = [
        [
            _num(row["rank"], digits=0),
            _text(texts.markup(texts.industry(row["industry_name"])), row["industry_code"]),
            *(_bar(row[name], 3.0, signed=True) for name in SCORED),
        ]
        for row in scores.to_dict("records")
    ]
    emphasis = frozenset(i for i, code in enumerate(scores["industry_code"]) if code in held)
    return Grid("scores", ["head.rank", "head.industry", *(f"short.{name}" for name in SCORED)], rows, emphasis)


def overview(data: ReportData, texts: Texts) -> Grid:
    """Full history of every portfolio: costs before and after, both executions, side by side."""
    full = _by(data.performance[data.performance["period"] == "full"], "portfolio", "execution", "costs")
    heads = ["head.portfolio", "head.execution"]
    heads += [f"{name}.{costs}" for name in ("annual", "excess", "ir") for costs in COSTS]
    heads += ["head.relative_max_drawdown", "head.win_rate", "head.turnover"]
    rows = []
    for portfolio in PORTFOLIOS:
        for execution in EXECUTIONS:
            if (portfolio, execution, "before") not in full:
                continue
            before, after = full[portfolio, execution, "before"], full.get((portfolio, execution, "after"))
            cells = [
                _text(texts(f"portfolio.{portfolio}"), portfolio),
                _text(texts(f"execution.{execution}"), execution),
            ]
            for name, write in (("annual_return", percent), ("excess_return", percent), ("information_ratio", number)):
                cells += [_num(before[name], write), _num(None if after is None else after[name], write)]
            cells += [
                _num(before["relative_max_drawdown"], percent),
                _num(before["monthly_win_rate"], percent, digits=1),
                _num(before["turnover"], number, digits=1),
            ]
            rows.append(cells)
    return Grid("overview", heads, rows, frozenset({0, 1}))


YEARLY: tuple[tuple[str, Callable[..., Markup], int], ...] = (
    ("annual_return", percent, 2),
    ("volatility", percent, 2),
    ("sharpe", number, 2),
    ("max_drawdown", percent, 2),
    ("excess_return", percent, 2),
    ("tracking_error", percent, 2),
    ("information_ratio", number, 2),
    ("relative_max_drawdown", percent, 2),
    ("benchmark_return", percent, 2),
    ("monthly_win_rate", percent, 1),
    ("odds", number, 2),
    ("industry_win_rate", percent, 1),
    ("turnover", number, 1),
    ("total_return", percent, 2),
)


def yearly(data: ReportData, texts: Texts) -> list[Grid]:
    """One table a portfolio, execution and costs, in the form of the published one."""
    grids = []
    heads = ["head.period", *(f"yearly.{name}" for name, _, _ in YEARLY)]
    by_key = data.performance.groupby(["portfolio", "execution", "costs"])
    groups = dict(iter(by_key))
    for portfolio in PORTFOLIOS:
        for execution in EXECUTIONS:
            for costs in COSTS:
                rows = groups.get((portfolio, execution, costs))
                if rows is None:
                    continue
                # digits sort before "full": years first, all of it last
                ordered = _rows(rows.sort_values("period"))
                cells = [[_period(row, texts), *(_num(row[n], w, digits=d) for n, w, d in YEARLY)] for row in ordered]
                caption = [texts(f"portfolio.{portfolio}"), texts(f"execution.{execution}"), texts(f"costs.{costs}")]
                full = frozenset(i for i, row in enumerate(ordered) if row["period"] == "full")
                grids.append(
                    Grid(
                        f"yearly-{portfolio}-{execution}-{costs}",
                        heads,
                        cells,
                        full,
                        f"portfolio={portfolio} execution={execution} costs={costs}",
                        f"execution={execution} costs={costs}",
                        Markup(" · ").join(caption),
                    )
                )
    return grids


def _period(row: dict[str, Any], texts: Texts) -> Cell:
    if row["period"] == "full":
        return Cell(texts("period.full"), "9999", "txt")
    partial = Markup("*") if row["is_partial"] is True or row["is_partial"] == 1 else Markup("")
    return Cell(Markup("{}{}").format(row["period"], partial), str(row["period"]), "txt")


def last_periods(data: ReportData, texts: Texts) -> Grid:
    """Latest holding periods of the composite: what was held and what it earned."""
    periods = data.backtest_period
    periods = periods[(periods["portfolio"] == "composite") & (periods["execution"] == "signal_close")]
    industry = data.backtest_industry
    industry = industry[(industry["portfolio"] == "composite") & (industry["execution"] == "signal_close")]
    names = data.factor_scores.drop_duplicates("industry_code").set_index("industry_code")["industry_name"]
    rows = []
    for row in periods.sort_values("signal_date", ascending=False).head(_LAST_PERIODS).to_dict("records"):
        held = industry[industry["signal_date"] == row["signal_date"]].sort_values("excess_return", ascending=False)
        parts = [
            Markup('<span class="held">{} <b>{}</b></span>').format(
                texts.markup(texts.industry(names.get(code, code))),
                percent(excess if row["held_until"] > row["bought_at"] else None, 1, signed=True),
            )
            for code, excess in zip(held["industry_code"], held["excess_return"], strict=True)
        ]
        # a period without a session yet has earned nothing, which is not zero
        begun = row["held_until"] > row["bought_at"]
        earned, benchmark, excess = (
            row[name] if begun else None for name in ("period_return", "benchmark_return", "excess_return")
        )
        rows.append(
            [
                _text(day(row["signal_date"])),
                _text(day(row["held_until"] if begun else None)),
                _text(Markup(" ").join(parts) if parts else texts("held.cash"), str(len(parts))),
                _num(earned, percent),
                _num(benchmark, percent),
                _bar(excess, 0.05, scale=100, suffix="%", signed=True),
                _num(row["turnover"], percent, digits=0),
            ]
        )
    heads = ["head.signal_date", "head.held_until", "head.held_excess", "head.period_return", "yearly.benchmark_return"]
    return Grid("last-periods", [*heads, "head.period_excess", "head.period_turnover"], rows)


def group_statistics(data: ReportData, texts: Texts) -> Grid:
    """Quintiles and long-short of every factor, in full, before and after the split."""
    stats = data.factor_group_stats.set_index(["factor", "group", "span"])
    rows = []
    for factor in SCORED:
        for span in SPANS:
            if (factor, "5", span) not in stats.index and (factor, "long_short", span) not in stats.index:
                continue
            cells = [_text(texts(f"factor.{factor}"), factor), _text(texts(f"span.{span}"), span)]
            values = stats.reindex([(factor, group, span) for group in (*GROUPS, "long_short")])
            cells += [_num(value, percent, digits=1) for value in values["excess_return"].iloc[:5]]
            long_short = values.iloc[5]
            cells += [
                _num(long_short["annual_return"], percent, digits=1),
                _num(long_short["sharpe"]),
                _num(long_short["max_drawdown"], percent, digits=1),
            ]
            rows.append(cells)
    heads = ["head.factor", "head.span", *(f"group.{group}" for group in GROUPS)]
    return Grid("groups", [*heads, "group.long_short", "head.long_short_sharpe", "head.long_short_drawdown"], rows)


def ic_statistics(data: ReportData, texts: Texts) -> Grid:
    """Rank correlation with the return of the holding period, by factor and span."""
    summary = _by(data.factor_ic_summary[data.factor_ic_summary["horizon"] == "period"], "factor", "span")
    rows = []
    for factor in SCORED:
        for span in SPANS:
            row = summary.get((factor, span))
            if row is None:
                continue
            rows.append(
                [
                    _text(texts(f"factor.{factor}"), factor),
                    _text(texts(f"span.{span}"), span),
                    _num(row["dates"], digits=0),
                    _bar(row["mean_ic"], 0.15, digits=3, signed=True),
                    _num(row["std_ic"], digits=3),
                    _num(row["t_statistic"]),
                    _num(row["positive_ratio"], percent, digits=1),
                ]
            )
    heads = ["head.factor", "head.span", "head.dates", "head.mean_ic", "head.std_ic", "head.t", "head.positive"]
    return Grid("ic", heads, rows)


def luck(data: ReportData, texts: Texts) -> Grid:
    """Could the excess be luck: band, p-value and deflated probability."""
    table = _by(data.luck_test, "portfolio", "execution", "span")
    rows = []
    for portfolio in PORTFOLIOS:
        for execution in EXECUTIONS:
            for span in SPANS:
                row = table.get((portfolio, execution, span))
                if row is None:
                    continue
                rows.append(
                    [
                        _text(texts(f"portfolio.{portfolio}"), portfolio),
                        _text(texts(f"execution.{execution}"), execution),
                        _text(texts(f"span.{span}"), span),
                        _num(row["periods"], digits=0),
                        _num(row["annual_excess"], percent),
                        _num(row["excess_low"], percent),
                        _num(row["excess_high"], percent),
                        _num(row["p_value"], p_value),
                        _num(row["sharpe_of_excess"]),
                        _num(row["deflated_probability"], percent, digits=1),
                    ]
                )
    heads = ["head.portfolio", "head.execution", "head.span", "head.periods", "head.annual_excess"]
    heads += ["head.excess_low", "head.excess_high", "head.p", "head.sharpe_of_excess", "head.deflated"]
    return Grid("luck", heads, rows)


def industry_flow(data: ReportData, texts: Texts) -> Grid:
    """Last week of every industry: value held, its changes, and flow over one, four and 26 weeks."""
    weekly = data.industry_weekly.sort_values("week_end")
    if weekly.empty:
        return Grid("flow", [], [])
    last = weekly[weekly["week_end"] == weekly["week_end"].max()].sort_values("net_creation_cny", ascending=False)
    flow = weekly.pivot(index="week_end", columns="industry_code", values="net_creation_cny").sort_index()
    # a sum with a hole in it is no sum
    sums: dict[int, Any] = {
        weeks: flow.tail(weeks).sum(skipna=False) if len(flow) >= weeks else {} for weeks in (4, 26)
    }
    limit = float(last["net_creation_cny"].abs().max()) if last["net_creation_cny"].notna().any() else 1.0
    rows = [
        [
            _text(texts.markup(texts.industry(row["industry_name"])), row["industry_code"]),
            _bar(row["net_creation_cny"], limit, scale=1e-8, signed=True),
            _num(sums[4].get(row["industry_code"]), scale=1e-8, signed=True),
            _num(sums[26].get(row["industry_code"]), scale=1e-8, signed=True),
            _num(row["held_value_cny"], digits=1, scale=1e-8),
            _num(row["held_share_ratio"], percent),
            _num(row["held_share_change_ratio"], digits=1, scale=1e4, signed=True),
            _num(row["held_share_medium_change_ratio"], digits=1, scale=1e4, signed=True),
            _num(row["penetration_ratio"], percent),
        ]
        for row in last.to_dict("records")
    ]
    heads = ["head.industry", "head.flow_week", "head.flow_4", "head.flow_26", "head.held_value", "head.held_share"]
    return Grid("flow", [*heads, "head.share_change", "head.share_medium_change", "head.penetration"], rows)


def withheld(data: ReportData, texts: Texts) -> Grid:
    """Dates on which nothing was published, those in a row with the same reason together."""
    reasons = data.withheld.reindex(sorted(data.factor_scores["signal_date"].unique()))
    rows = []
    for _, run in reasons.groupby((reasons != reasons.shift()).cumsum()):
        if run.isna().all():
            continue
        reason = texts.markup(texts.reason(run.iloc[0]))
        cells = [
            _text(day(run.index[0])),
            _text(day(run.index[-1])),
            _num(len(run), digits=0),
            _text(reason, run.iloc[0]),
        ]
        rows.append(cells)
    return Grid("withheld", ["head.first_date", "head.last_date", "head.date_count", "head.reason"], rows)


def parameters(data: ReportData, texts: Texts) -> Grid:
    """Every parameter with its value; in English its unit and reason as the parameter file has them."""
    described, defaults = describe_parameters(), Parameters.load().model_dump(mode="json")
    rows = []
    for name, value in data.parameters.model_dump(mode="json").items():
        entry = described.get(name, {})
        english = f"{entry.get('reason', '')} [{entry.get('unit', '')}]"
        shown = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        changed = value != defaults[name]
        meaning = texts.markup((texts.parameters.get(name, english), english))
        note = texts("parameter.changed") if changed else Markup("")
        use = texts("use.research" if entry.get("use") == "research" else "use.strategy")
        cells = [_text(Markup("<code>{}</code>").format(name), name), _text(Markup("{} {}").format(shown, note), shown)]
        rows.append([*cells, _text(use, entry.get("use", "strategy")), _text(meaning, name)])
    return Grid("parameters", ["head.parameter", "head.value", "head.use", "head.meaning"], rows)


def tables(data: ReportData, texts: Texts) -> Grid:
    """Rows and last date of every table the report was made from."""
    rows: list[list[Cell]] = []
    for name, frame in data.tables.items():
        dated = next((c for c in ("trade_date", "week_end", "signal_date", "last_date") if c in frame), None)
        last = day(frame[dated].max()) if dated and len(frame) else DASH
        cells = [_text(Markup("<code>{}</code>").format(name), name), _num(len(frame), digits=0), _text(last)]
        rows.append(cells)
    return Grid("tables", ["head.table", "head.rows", "head.last_date"], rows)


def distinct(values: Iterable[Any]) -> list[str]:
    """Values without holes and repetitions, in order of appearance."""
    return list(dict.fromkeys(str(value) for value in values if pd.notna(value) and str(value)))
