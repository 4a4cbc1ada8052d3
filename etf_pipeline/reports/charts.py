"""Charts of the report as plotly figures: traces and layout, with references in the place of data and words.

`{"$": name}` stands for a series (`series.py`), where `{portfolio}` and the like in the name are the reader's choice;
`{"$ratio": [a, b]}` and `{"$drawdown": a}` are worked out in the page, so that what follows from a series is not
stored beside it; `⟦key⟧` is a text. Here: what is drawn, in which colour. Not here: numbers that no table holds.

Colours need no convention of up and down and can be told apart by the colour-blind: orange above, blue below zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from etf_pipeline.reports.data import ReportData
from etf_pipeline.reports.series import Series, days, encoded, rounded
from etf_pipeline.reports.texts import word
from etf_pipeline.settings import FACTORS

INK, MUTED, GREY, RULE = "#1c2733", "#5c6875", "#9aa5b1", "#e3e7ec"
NAVY, BLUE, ORANGE, DARK_ORANGE = "#1f4e79", "#2f6fa8", "#d9822b", "#b35806"
PORTFOLIOS = ("composite", "style_timed", *FACTORS)
SCORED = ("composite", *FACTORS)
EXECUTIONS = ("signal_close", "next_session")
SPANS = ("full", "before", "after")
GROUPS = ("1", "2", "3", "4", "5")
METRICS = ("excess_return", "information_ratio", "relative_max_drawdown")
FLOW_WEEKS = 26
_REGIME_WEEKS = 156
_PERIODS = 52
_FLOW_SESSIONS = 120
_IC_MEAN_DATES = 12
_LARGEST = 10

_GROUP_COLOURS = dict(zip(GROUPS, ("#1f4e79", "#7fb0d6", "#a9b1ba", "#f0b070", "#b35806"), strict=True))
_AREA_COLOURS = (
    *("#1f4e79", "#d9822b", "#6fa3cf", "#8c510a", "#35978f", "#f0c38e", "#7a6a9b", "#b8d4ea", "#5d7f57", "#c7a3bd"),
)
_SPAN_COLOURS = {"full": NAVY, "before": "#7fb0d6", "after": ORANGE}
_COVERAGE_COLOURS = {
    "constituents": NAVY,
    "theme": "#7fb0d6",
    "stale weights": "#f0b070",
    "not covered": "#c9cfd6",
}
DIVERGING: list[list[Any]] = [
    [0.0, "#1f4e79"],
    [0.25, "#7fb0d6"],
    [0.5, "#ffffff"],
    [0.75, "#f0b070"],
    [1.0, "#b35806"],
]
_DEPTH = [[0.0, "#1f4e79"], [0.5, "#9cc3e3"], [1.0, "#ffffff"]]
_THIN = {"width": 1.6}


@dataclass(frozen=True)
class Chart:
    """One figure; `missing` is the key of the reason where there is nothing to draw."""

    name: str
    height: int
    traces: list[dict[str, Any]] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)
    missing: str | None = None


def build_charts(data: ReportData, series: Series) -> dict[str, Chart]:
    """All charts of the report by name; their numbers go into `series`."""
    charts = [
        _ranking(data),
        *(_regime(data, series, name) for name in ("size", "growth_value")),
        *_performance(data, series),
        *_evidence(data, series),
        *(_correlation(data, span) for span in SPANS),
        _luck(data, series),
        *_sensitivity(data, series),
        _market_flow(data, series),
        _industry_flow(data),
        _held_value(data, series),
        _held_industries(data),
        _coverage(data, series),
    ]
    return {chart.name: chart for chart in charts}


def weekly(frame: pd.DataFrame) -> pd.DataFrame:
    """Last row of each calendar week of a frame indexed by session."""
    return frame.groupby(pd.DatetimeIndex(frame.index).to_period("W")).tail(1)


def _hover(label: str, number: str) -> str:
    return f"{label}<br>{number}<extra></extra>"


def _line(name: str, x: Any, y: Any, colour: str, number: str, **more: Any) -> dict[str, Any]:
    line = {**_THIN, "color": colour, **more.pop("line", {})}
    hover = f"{name} %{{y:{number}}}<extra></extra>"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": line,
        "hovertemplate": hover,
    } | more


def _ranking(data: ReportData) -> Chart:
    scores = data.current_scores.dropna(subset="composite").sort_values("composite")
    if scores.empty:
        return Chart("ranking", 160, missing="missing.no_composite")
    held = scores["industry_code"].isin(data.current_holdings["industry_code"]) & (data.held_date == data.signal_date)
    names = [word(f"industry:{name}") for name in scores["industry_name"]]
    bar = {
        "type": "bar",
        "orientation": "h",
        "x": rounded(scores["composite"], 3),
        "y": names,
        "marker": {"color": np.where(held, ORANGE, "#c9cfd6").tolist()},
        "hovertemplate": _hover("%{y}", f"{word('axis.composite')} %{{x:.2f}}"),
    }
    layout = {
        "xaxis": {"title": {"text": word("axis.composite")}, "zeroline": True},
        "yaxis": {"showgrid": False, "dtick": 1},
        "bargap": 0.3,
    }
    return Chart("ranking", 60 + 17 * len(scores), [bar], layout)


def _regime(data: ReportData, series: Series, pair: str) -> Chart:
    name = f"regime_{pair}"
    rows = data.style_regime[data.style_regime["series"] == pair].sort_values("week_end").tail(_REGIME_WEEKS)
    if rows["signal"].notna().sum() == 0:
        return Chart(name, 160, missing="missing.no_regime")
    weeks = series.put(f"{name}/weeks", days(rows["week_end"]))
    momentum = rows["momentum"] * 1e3
    leaders = ((1, "size.large", "size.small"), (0, "size.small", "size.large"))
    if pair == "growth_value":
        leaders = ((1, "style.growth", "style.value"), (0, "style.value", "style.growth"))
    traces = [
        _line(word("legend.ratio"), weeks, series.numbers(f"{name}/ratio", rows["ratio"], 4), GREY, ".3f"),
        _line(word("legend.trend"), weeks, series.numbers(f"{name}/trend", rows["trend"], 4), INK, ".3f"),
    ]
    for (side, leader, _), colour in zip(leaders, (ORANGE, NAVY), strict=True):
        of_side = rows["signal"].eq(side).fillna(False)
        traces.append(
            {
                "type": "bar",
                "name": word(leader),
                "x": weeks,
                "y": series.numbers(f"{name}/momentum{side}", momentum.where(of_side), 3),
                "yaxis": "y2",
                "marker": {"color": colour, "line": {"width": 0}},
                "hovertemplate": f"{word(leader)}<br>{word('axis.momentum')} %{{y:.2f}}<extra></extra>",
            }
        )
    strip = {
        "type": "heatmap",
        "x": weeks,
        "y": [""],
        "z": [rounded(rows["signal"].astype(float), 0)],
        "yaxis": "y3",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, NAVY], [0.5, NAVY], [0.5, ORANGE], [1, ORANGE]],
        "showscale": False,
        "hoverinfo": "skip",
    }
    layout = {
        "xaxis": {"anchor": "y3", "type": "date"},
        "yaxis": {"domain": [0.56, 1], "title": {"text": word("axis.ratio")}},
        "yaxis2": {"domain": [0.13, 0.5], "title": {"text": word("axis.momentum")}, "zeroline": True},
        "yaxis3": {"domain": [0.03, 0.09], "showticklabels": False, "showgrid": False, "fixedrange": True},
        "bargap": 0.1,
        "hovermode": "x unified",
    }
    return Chart(name, 380, [*traces, strip], layout)


def _performance(data: ReportData, series: Series) -> list[Chart]:
    daily = data.backtest_daily
    if daily.empty:
        return [Chart(name, 160, missing="missing.no_backtest") for name in ("nav", "relative", "periods")]
    for execution, of_execution in daily.groupby("execution"):
        for portfolio, rows in of_execution.groupby("portfolio"):
            place, rows = f"{portfolio}/{execution}", rows.sort_values("trade_date")
            series.put(f"dates/{place}", series.days(rows["trade_date"]))
            for column in ("nav", "nav_after_costs", "benchmark_nav"):
                # the benchmark of most portfolios is the same
                series.shared(column, place, encoded(rows[column], 4))
    here = "{portfolio}/{execution}"
    dates, nav, after, benchmark = (
        {"$": f"{name}/{here}"} for name in ("dates", "nav", "nav_after_costs", "benchmark_nav")
    )
    relative, relative_after = {"$ratio": [nav, benchmark]}, {"$ratio": [after, benchmark]}
    axes = {"xaxis": {"type": "date"}, "hovermode": "x unified"}
    lines = [
        _line(word("legend.before_costs"), dates, nav, NAVY, ".3f"),
        _line(word("legend.after_costs"), dates, after, ORANGE, ".3f", line={"width": 1.3}),
        _line(word("legend.benchmark"), dates, benchmark, GREY, ".3f", line={"width": 1.3}),
    ]
    falls = {
        **_line(word("legend.relative_drawdown"), dates, {"$drawdown": relative}, BLUE, ".2%", line={"width": 1}),
        "fill": "tozeroy",
        "fillcolor": "rgba(47,111,168,0.25)",
        "yaxis": "y2",
    }
    return [
        Chart("nav", 360, lines, {**axes, "yaxis": {"title": {"text": word("axis.nav")}}}),
        Chart(
            "relative",
            420,
            [
                _line(word("legend.before_costs"), dates, relative, NAVY, ".3f"),
                _line(word("legend.after_costs"), dates, relative_after, ORANGE, ".3f", line={"width": 1.3}),
                falls,
            ],
            {
                **axes,
                "xaxis": {"type": "date", "anchor": "y2"},
                "yaxis": {"domain": [0.38, 1], "title": {"text": word("axis.relative_nav")}},
                "yaxis2": {"domain": [0, 0.3], "title": {"text": word("axis.drawdown")}, "tickformat": ".0%"},
            },
        ),
        _periods(data, series),
    ]


def _periods(data: ReportData, series: Series) -> Chart:
    for key, rows in data.backtest_period.groupby(["portfolio", "execution"]):
        rows = rows.sort_values("signal_date").tail(_PERIODS)
        place = "/".join(map(str, key))
        series.put(f"period_dates/{place}", days(rows["signal_date"]))
        series.put(f"period_excess/{place}", rounded(rows["excess_return"], 5))
        series.put(f"period_colours/{place}", np.where(rows["excess_return"] > 0, ORANGE, BLUE).tolist())
    if data.backtest_period["excess_return"].notna().sum() == 0:
        return Chart("periods", 160, missing="missing.no_backtest")
    bars = {
        "type": "bar",
        "x": {"$": "period_dates/{portfolio}/{execution}"},
        "y": {"$": "period_excess/{portfolio}/{execution}"},
        "marker": {"color": {"$": "period_colours/{portfolio}/{execution}"}},
        "hovertemplate": _hover("%{x}", f"{word('axis.period_excess')} %{{y:.2%}}"),
    }
    layout = {
        "xaxis": {"type": "category", "nticks": 12, "showgrid": False},
        "yaxis": {"title": {"text": word("axis.period_excess")}, "tickformat": ".0%", "zeroline": True},
        "bargap": 0.25,
    }
    return Chart("periods", 260, [bars], layout)


def _evidence(data: ReportData, series: Series) -> list[Chart]:
    charts = []
    for factor in SCORED:
        charts += [_groups(data, series, factor), _ic(data, series, factor), _decay(data, factor)]
    return charts


def _split_line(data: ReportData, dates: pd.DatetimeIndex) -> list[dict[str, Any]]:
    split = pd.Timestamp(data.parameters.evidence_split)
    if not (len(dates) and dates.min() < split < dates.max()):
        return []
    line = {"color": MUTED, "width": 1, "dash": "dot"}
    return [{"type": "line", "xref": "x", "yref": "paper", "x0": f"{split:%Y-%m-%d}", "x1": f"{split:%Y-%m-%d}"}
            | {"y0": 0, "y1": 1, "line": line}]  # fmt: skip


def _groups(data: ReportData, series: Series, factor: str) -> Chart:
    name = f"groups_{factor}"
    rows = data.factor_group_daily[data.factor_group_daily["factor"] == factor]
    wide = weekly(rows.pivot(index="trade_date", columns="group", values="nav").sort_index()) if len(rows) else rows
    if wide.empty:
        return Chart(name, 160, missing="missing.no_groups")
    dates = series.days(wide.index)
    traces = [
        _line(word(f"group.{group}"), dates, series.numbers(f"{name}/{group}", wide[group], 4), colour, ".3f")
        for group, colour in _GROUP_COLOURS.items()
        if group in wide
    ]
    if "long_short" in wide:
        values = series.numbers(f"{name}/long_short", wide["long_short"], 4)
        dashed = {"dash": "dash", "width": 1.4}
        traces.append(_line(word("group.long_short"), dates, values, INK, ".3f", line=dashed))
    layout = {
        "xaxis": {"type": "date", "nticks": 6},
        "yaxis": {"title": {"text": word("axis.nav_log")}, "type": "log", "nticks": 6, "tickformat": ".2~f"},
        "shapes": _split_line(data, pd.DatetimeIndex(wide.index)),
        "hovermode": "x unified",
        "showlegend": False,
    }
    return Chart(name, 250, traces, layout)


def _ic(data: ReportData, series: Series, factor: str) -> Chart:
    name = f"ic_{factor}"
    rows = data.factor_ic[(data.factor_ic["factor"] == factor) & (data.factor_ic["horizon"] == "period")]
    rows = rows.dropna(subset="ic").sort_values("signal_date")
    if rows.empty:
        return Chart(name, 160, missing="missing.no_ic")
    dates = series.days(rows["signal_date"])
    mean = rows["ic"].rolling(_IC_MEAN_DATES).mean()
    bars = {
        "type": "bar",
        "name": "IC",
        "x": dates,
        "y": series.numbers(f"{name}/ic", rows["ic"], 3),
        "marker": {"color": np.where(rows["ic"] > 0, "#f0b070", "#7fb0d6").tolist(), "line": {"width": 0}},
        "hovertemplate": "IC %{y:.2f}<extra></extra>",
    }
    line = _line(word("legend.ic_mean"), dates, series.numbers(f"{name}/mean", mean, 3), INK, ".2f")
    layout = {
        "xaxis": {"type": "date", "nticks": 6, "showgrid": False},
        "yaxis": {"title": {"text": word("axis.ic")}, "zeroline": True, "nticks": 6},
        "shapes": _split_line(data, pd.DatetimeIndex(rows["signal_date"])),
        "hovermode": "x unified",
        "showlegend": False,
        "bargap": 0,
    }
    return Chart(name, 250, [bars, line], layout)


def _decay(data: ReportData, factor: str) -> Chart:
    name = f"decay_{factor}"
    summary = data.factor_ic_summary
    rows = summary[(summary["factor"] == factor) & (summary["span"] == "full")].set_index("horizon")
    horizons = [f"week_{week}" for week in range(1, data.parameters.ic_weeks + 1)]
    rows = rows.reindex(horizons)
    if rows["mean_ic"].notna().sum() == 0:
        return Chart(name, 160, missing="missing.no_ic")
    error = 2 * rows["std_ic"].to_numpy(dtype=float) / np.sqrt(rows["dates"].to_numpy(dtype=float))
    t = [f"t {value:.1f}" if np.isfinite(value) else "" for value in rows["t_statistic"]]
    bars = {
        "type": "bar",
        "x": [str(week) for week in range(1, len(horizons) + 1)],
        "y": rounded(rows["mean_ic"], 4),
        "customdata": t,
        "marker": {"color": np.where(rows["mean_ic"] > 0, ORANGE, BLUE).tolist()},
        "error_y": {"type": "data", "array": rounded(error, 4), "color": MUTED, "thickness": 1, "width": 3},
        "hovertemplate": f"{word('axis.week')} %{{x}}<br>IC %{{y:.3f}}<br>%{{customdata}}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": word("axis.week")}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": word("axis.mean_ic")}, "zeroline": True, "nticks": 6, "tickformat": ".2f"},
        "bargap": 0.35,
    }
    return Chart(name, 250, [bars], layout)


def _heat(x: Sequence[str], y: Sequence[str], z: Any, text: str | None, hover: str, **more: Any) -> dict[str, Any]:
    heat = {"type": "heatmap", "x": list(x), "y": list(y), "z": z, "hovertemplate": hover, "hoverongaps": False}
    heat |= {"xgap": 1, "ygap": 1, "showscale": False, **more}
    return heat | ({"texttemplate": text, "textfont": {"size": 11}} if text else {})


def _matrix_layout(**more: Any) -> dict[str, Any]:
    # a hole shows the panel behind it, which is grey where zero is white
    layout: dict[str, Any] = {
        "plot_bgcolor": "#dfe3e8",
        "xaxis": {"type": "category", "showgrid": False, "ticks": ""},
        "yaxis": {"type": "category", "showgrid": False, "ticks": "", "autorange": "reversed"},
    }
    for key, value in more.items():
        layout[key] = {**layout.get(key, {}), **value} if isinstance(value, dict) else value
    return layout


def _correlation(data: ReportData, span: str) -> Chart:
    name = f"correlation_{span}"
    rows = data.factor_correlation[data.factor_correlation["span"] == span]
    if rows["correlation"].notna().sum() == 0:
        return Chart(name, 160, missing="missing.no_correlation")
    wide = rows.pivot(index="factor", columns="other_factor", values="correlation").reindex(
        index=FACTORS, columns=FACTORS
    )
    both = wide.combine_first(wide.T).to_numpy(dtype=float, copy=True)
    labels = [word(f"short.{factor}") for factor in FACTORS]
    z = [rounded(line, 2) for line in both]
    heat = _heat(
        labels, labels, z, "%{z:.2f}", _hover("%{y} · %{x}", "%{z:.2f}"), zmin=-1, zmax=1, colorscale=DIVERGING
    )
    return Chart(name, 260, [heat], _matrix_layout())


def _luck(data: ReportData, series: Series) -> Chart:
    if data.luck_test["annual_excess"].notna().sum() == 0:
        return Chart("luck", 160, missing="missing.no_luck")
    traces = []
    labels = [word(f"portfolio.{portfolio}") for portfolio in PORTFOLIOS]
    for place, span in enumerate(SPANS):
        for execution in EXECUTIONS:
            rows = data.luck_test[(data.luck_test["span"] == span) & (data.luck_test["execution"] == execution)]
            rows = rows.set_index("portfolio").reindex(PORTFOLIOS)
            middle = rows["annual_excess"]
            series.put(f"luck/{span}/{execution}", rounded(middle, 4))
            series.put(f"luck_up/{span}/{execution}", rounded(rows["excess_high"] - middle, 4))
            series.put(f"luck_down/{span}/{execution}", rounded(middle - rows["excess_low"], 4))
        colour = _SPAN_COLOURS[span]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": word(f"span.{span}"),
                "x": {"$": f"luck/{span}/{{execution}}"},
                # beside each other within the row of the portfolio
                "y": [round(row + 0.22 * (place - 1), 2) for row in range(len(PORTFOLIOS))],
                "marker": {"color": colour, "size": 8},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": {"$": f"luck_up/{span}/{{execution}}"},
                    "arrayminus": {"$": f"luck_down/{span}/{{execution}}"},
                    "color": colour,
                    "thickness": 1.6,
                    "width": 4,
                },
                "hovertemplate": f"{word(f'span.{span}')} %{{x:.1%}}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {
            "title": {"text": word("axis.annual_excess")},
            "tickformat": ".0%",
            "zeroline": True,
            "zerolinewidth": 2,
        },
        "yaxis": {"tickvals": list(range(len(labels))), "ticktext": labels, "range": [len(labels) - 0.5, -0.5]},
    }
    return Chart("luck", 360, traces, layout)


def measures(data: ReportData) -> list[str]:
    """Pairs of flow and level measure in the grid, joined by `+`; the strategy's own first."""
    rows = data.sensitivity[data.sensitivity["axis"] == "construction"]
    pairs = rows.assign(pair=rows["flow_measure"] + "+" + rows["level_measure"])
    own = pairs.loc[pairs["is_default"].fillna(False).astype(bool), "pair"]
    return list(dict.fromkeys([*own, *sorted(pairs["pair"].unique())]))


def phases(data: ReportData) -> list[int]:
    """Phases of the rebalance dates in the grid."""
    rows = data.sensitivity[data.sensitivity["axis"] == "construction"]
    return sorted(int(phase) for phase in rows["phase"].dropna().unique()) or [0]


def _sensitivity(data: ReportData, series: Series) -> list[Chart]:
    grid = data.sensitivity
    construction, smoothing = (grid[grid["axis"] == axis] for axis in ("construction", "smoothing"))
    charts = []
    subsets = sorted(
        construction["factors"].unique(), key=lambda s: (-s.count("+"), [FACTORS.index(f) for f in s.split("+")])
    )
    subset_names = ["+".join(word(f"short.{factor}") for factor in subset.split("+")) for subset in subsets]
    held = sorted(construction["top_n"].dropna().unique())
    for phase in phases(data):
        name = f"grid_phase_{phase}"
        of_phase = construction[construction["phase"] == phase]
        if of_phase["excess_return"].notna().sum() == 0:
            charts.append(Chart(name, 160, missing="missing.no_grid"))
            continue
        for pair in measures(data):
            cells = of_phase[(of_phase["flow_measure"] + "+" + of_phase["level_measure"]) == pair]
            _grid(series, f"{name}/{pair}", cells, "factors", subsets, "top_n", held)
        charts.append(
            _grid_chart(f"{name}", f"{name}/{{measures}}", [f"{int(n)}" for n in held], subset_names, "axis.top_n", 24)
        )
    if smoothing["excess_return"].notna().sum() == 0:
        return [*charts, Chart("grid_smoothing", 160, missing="missing.no_grid")]
    size, growth = (sorted(smoothing[f"{pair}_lambda"].dropna().unique()) for pair in ("size", "growth_value"))
    _grid(series, "grid_smoothing", smoothing, "size_lambda", size, "growth_value_lambda", growth)
    labels = [f"{value:g}" for value in size]
    chart = _grid_chart(
        "grid_smoothing", "grid_smoothing", [f"{v:g}" for v in growth], labels, "axis.growth_lambda", 40
    )
    chart.layout["yaxis"]["title"] = {"text": word("axis.size_lambda")}
    return [*charts, chart]


def _grid(
    series: Series, name: str, cells: pd.DataFrame, row: str, rows: list[Any], column: str, columns: list[Any]
) -> None:
    """Series of one heat map for every metric, and the frame around the strategy as set."""
    for metric in METRICS:
        wide = cells.pivot_table(index=row, columns=column, values=metric, aggfunc="first", dropna=False)
        wide = wide.reindex(index=rows, columns=columns) * (1 if metric == "information_ratio" else 100)
        series.put(f"{name}/{metric}", [rounded(line, 2) for line in wide.to_numpy(dtype=float)])
        limit = (
            float(np.nanmax(np.abs(wide.to_numpy(dtype=float)), initial=0.01)) if wide.notna().any(axis=None) else 1.0
        )
        falls = metric == "relative_max_drawdown"
        series.put(f"{name}/{metric}/low", -round(limit, 2))
        series.put(f"{name}/{metric}/high", 0 if falls else round(limit, 2))
        series.put(f"colours/{metric}", _DEPTH if falls else DIVERGING)
    own = cells[cells["is_default"].fillna(False).astype(bool)]
    shapes = [
        {
            "type": "rect",
            "x0": x - 0.5,
            "x1": x + 0.5,
            "y0": y - 0.5,
            "y1": y + 0.5,
            "line": {"color": INK, "width": 2.5},
        }
        for y, x in zip(own[row].map(rows.index), own[column].map(columns.index), strict=True)
    ]
    series.put(f"{name}/frame", shapes)


def _grid_chart(name: str, place: str, columns: list[str], rows: list[str], axis: str, row_height: int) -> Chart:
    here = f"{place}/{{metric}}"
    heat = _heat(
        columns,
        rows,
        {"$": here},
        "%{z:.2f}",
        _hover("%{y} · %{x}", "%{z:.2f}"),
        zmin={"$": f"{here}/low"},
        zmax={"$": f"{here}/high"},
        colorscale={"$": "colours/{metric}"},
    )
    layout = _matrix_layout(xaxis={"title": {"text": word(axis)}}, shapes={"$": f"{place}/frame"})
    return Chart(name, 80 + row_height * len(rows), [heat], layout)


def _market_flow(data: ReportData, series: Series) -> Chart:
    rows = data.market_flow[data.market_flow["asset_scope"] == "aShareStockEtf"].sort_values("trade_date")
    rows = rows.tail(_FLOW_SESSIONS)
    if rows["net_creation_cny"].notna().sum() == 0:
        return Chart("market_flow", 160, missing="missing.no_flow")
    flow = rows["net_creation_cny"] / 1e8
    bars = {
        "type": "bar",
        "x": series.put("market_flow/days", days(rows["trade_date"])),
        "y": series.numbers("market_flow/flow", flow, 2),
        "marker": {"color": np.where(flow > 0, ORANGE, BLUE).tolist()},
        "hovertemplate": _hover("%{x}", f"%{{y:.1f}} {word('unit.yi')}"),
    }
    layout = {
        "xaxis": {"type": "date", "showgrid": False, "rangebreaks": [{"bounds": ["sat", "mon"]}]},
        "yaxis": {"title": {"text": word("unit.yi")}, "zeroline": True},
        "bargap": 0.2,
    }
    return Chart("market_flow", 240, [bars], layout)


def _industry_flow(data: ReportData) -> Chart:
    weeks = sorted(data.industry_weekly["week_end"].unique())[-FLOW_WEEKS:]
    rows = data.industry_weekly[data.industry_weekly["week_end"].isin(weeks)]
    if rows["net_creation_cny"].notna().sum() == 0:
        return Chart("industry_flow", 160, missing="missing.no_flow")
    wide = rows.pivot(index="industry_name", columns="week_end", values="net_creation_cny").reindex(columns=weeks) / 1e8
    wide = wide.loc[wide.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    # one outlier would leave all other cells white
    limit = max(float(np.nanquantile(np.abs(wide.to_numpy(dtype=float)), 0.97)), 0.01)
    heat = _heat(
        days(weeks),
        [word(f"industry:{name}") for name in wide.index],
        [rounded(line, 2) for line in wide.to_numpy(dtype=float)],
        None,
        _hover("%{y} · %{x}", f"%{{z:.2f}} {word('unit.yi')}"),
        zmin=-round(limit, 2),
        zmax=round(limit, 2),
        colorscale=DIVERGING,
        showscale=True,
        colorbar=_bar(word("unit.yi")),
    )
    layout = _matrix_layout(xaxis={"nticks": 13, "tickangle": -45}, yaxis={"dtick": 1})
    return Chart("industry_flow", 110 + 19 * len(wide), [heat], layout)


def _bar(title: str) -> dict[str, Any]:
    return {"thickness": 10, "outlinewidth": 0, "title": {"text": title, "side": "top"}, "xpad": 4}


def _held_value(data: ReportData, series: Series) -> Chart:
    rows = data.industry_weekly
    if rows["held_value_cny"].notna().sum() == 0:
        return Chart("held_value", 160, missing="missing.no_weeks")
    wide = rows.pivot(index="week_end", columns="industry_name", values="held_value_cny").sort_index() / 1e8
    largest = wide.iloc[-1].sort_values(ascending=False, kind="stable").index[:_LARGEST]
    rest = wide.drop(columns=largest).sum(axis=1, min_count=1)
    weeks = series.put("held_value/weeks", days(wide.index))
    parts = [("rest", word("legend.rest"), rest, "#d5dae0")]
    parts += [
        (name, word(f"industry:{name}"), wide[name], colour)
        for name, colour in zip(reversed(largest), reversed(_AREA_COLOURS[: len(largest)]), strict=True)
    ]
    traces = [
        {
            **_line(label, weeks, series.numbers(f"held_value/{name}", values, 1), colour, ",.0f", line={"width": 0.4}),
            "stackgroup": "held",
            "fillcolor": colour,
        }
        for name, label, values, colour in parts
    ]
    layout = {
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": word("unit.yi")}, "tickformat": ",.0f"},
        "legend": {"traceorder": "reversed"},
        "hovermode": "x unified",
    }
    return Chart("held_value", 430, traces, layout)


def _held_industries(data: ReportData) -> Chart:
    held = data.strategy_holdings
    if held.empty:
        return Chart("held_industries", 160, missing="missing.no_holdings")
    dates = sorted(data.factor_scores["signal_date"].unique())
    order = (
        data.industry_weekly.drop_duplicates("industry_code").set_index("industry_code")["industry_name"].sort_index()
    )
    wide = held.pivot(index="industry_code", columns="signal_date", values="rank").reindex(columns=dates)
    order = order.reindex(order.index.union(wide.index)).fillna(
        held.drop_duplicates("industry_code").set_index("industry_code")["industry_name"]
    )
    wide = wide.reindex(order.index)
    top = data.parameters.top_n
    # 1 … n the ranks held; n + 1 a date on which nothing was published
    z = wide.to_numpy(dtype=float, copy=True)
    z[:, [date in data.withheld.index for date in dates]] = top + 1
    colours: list[list[Any]] = []
    shades = _shades(top)
    for place, shade in enumerate([*shades, "#c3c9d0"]):
        colours += [[place / (top + 1), shade], [(place + 1) / (top + 1), shade]]
    heat = _heat(
        days(dates),
        [word(f"industry:{name}") for name in order],
        [[None if np.isnan(v) else int(v) for v in line] for line in z],
        None,
        _hover("%{y} · %{x}", f"{word('legend.rank')} %{{z}}"),
        zmin=0.5,
        zmax=top + 1.5,
        colorscale=colours,
        xgap=0,
    )
    layout = _matrix_layout(
        plot_bgcolor="#ffffff",
        xaxis={"type": "date" if len(dates) > 20 else "category"},
        yaxis={"dtick": 1, "showgrid": True},
    )
    return Chart("held_industries", 80 + 18 * len(order), [heat], layout)


def _shades(count: int) -> list[str]:
    """From dark to light orange, the first for rank 1."""
    dark, light = np.array([140, 62, 4]), np.array([248, 205, 158])
    steps = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    return ["#" + "".join(f"{int(c):02x}" for c in np.round(dark + (light - dark) * step)) for step in steps]


def _coverage(data: ReportData, series: Series) -> Chart:
    wide = data.coverage
    if wide.empty:
        return Chart("coverage", 160, missing="missing.no_weeks")
    weeks = series.put("coverage/weeks", days(wide.index))
    traces = [
        {
            **_line(word(f"basis.{basis}"), weeks, series.numbers(f"coverage/{basis}", wide[basis], 4), colour, ".1%"),
            "line": {"width": 0},
            "stackgroup": "coverage",
            "fillcolor": colour,
        }
        for basis, colour in _COVERAGE_COLOURS.items()
    ]
    floor = max(0.0, float(np.floor((wide["constituents"].min() - 0.05) * 10) / 10))
    layout = {
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": word("axis.coverage")}, "tickformat": ".0%", "range": [floor, 1.0]},
        "hovermode": "x unified",
    }
    return Chart("coverage", 300, traces, layout)
