"""The report as one HTML file that needs nothing else: texts in both languages, data and plotly.js inside.

Here: the sentences, and putting charts, tables and texts into the page. The same data give the same bytes.
"""

import json
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from etf_pipeline.reports import charts, grids
from etf_pipeline.reports.data import COVERAGE_GROUPS, ReportData
from etf_pipeline.reports.grids import DASH, day, number, p_value, percent
from etf_pipeline.reports.series import Series
from etf_pipeline.reports.texts import Language, Texts

_T_LIMIT = 2.0
_P_LIMIT = 0.05
_DEFLATED_LIMIT = 0.95
_SUSPECT_SESSIONS = 20


@dataclass(frozen=True)
class Fact:
    """A label and what stands beside it."""

    label: Markup
    value: Markup
    note: Markup = field(default_factory=Markup)


def render_html(data: ReportData, language: Language) -> str:
    """The whole report; `language` is the one it opens in."""
    return _render(data, language, Texts.load())


def _render(data: ReportData, language: Language, texts: Texts) -> str:
    series = Series()
    figures = charts.build_charts(data, series)
    specification = {
        "charts": {
            name: {"traces": figure.traces, "layout": figure.layout, "height": figure.height}
            for name, figure in figures.items()
            if figure.missing is None
        },
        "series": series.values,
    }
    words = texts.of_charts(json.dumps(specification, ensure_ascii=False))
    embedded = _json({**specification, "words": words})

    def chart(name: str) -> Markup:
        figure = figures[name]
        if figure.missing:
            return Markup('<div class="empty">{}</div>').format(texts(figure.missing))
        return Markup('<div class="chart" id="chart-{0}" data-chart="{0}" style="height:{1}px"></div>').format(
            name, figure.height
        )

    environment = Environment(
        loader=DictLoader({"report": _file("template.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report").render(
        language=language,
        t=texts,
        data=data,
        chart=chart,
        title=texts.pair("title"),
        style=Markup(_file("report.css")),
        script=Markup(_file("report.js")),
        plotly=Markup(get_plotlyjs()),
        embedded=Markup(embedded),
        facts=_facts(data, texts),
        tiles=_tiles(data, texts),
        coverage=_coverage(data, texts),
        factors_off=_factors_off(data, texts),
        latest_withheld=_latest_withheld(data, texts),
        evidence=[(factor, texts(f"factor.{factor}"), _evidence(data, texts, factor)) for factor in charts.SCORED],
        luck_sentences=[_luck(data, texts, portfolio) for portfolio in charts.PORTFOLIOS],
        sensitivity_sentence=_sensitivity(data, texts),
        quality=_quality(data, texts),
        grids=_grids(data, texts),
        yearly=grids.yearly(data, texts),
        choices=_choices(data, texts),
        phases=[(phase, texts("grid.phase", weeks=phase)) for phase in charts.phases(data)],
        spans=charts.SPANS,
        split=day(data.parameters.evidence_split),
        day=day,
    )


def _file(name: str) -> str:
    return files("etf_pipeline.reports").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True)
    return text.replace("<", "\\u003c")


def _grids(data: ReportData, texts: Texts) -> dict[str, grids.Grid]:
    made = [
        grids.holdings(data, texts),
        grids.all_scores(data, texts),
        grids.overview(data, texts),
        grids.last_periods(data, texts),
        grids.group_statistics(data, texts),
        grids.ic_statistics(data, texts),
        grids.luck(data, texts),
        grids.industry_flow(data, texts),
        grids.withheld(data, texts),
        grids.parameters(data, texts),
        grids.tables(data, texts),
    ]
    return {grid.name: grid for grid in made}


def _choices(data: ReportData, texts: Texts) -> dict[str, list[tuple[str, Markup]]]:
    """What the reader may choose, by name of the choice; the first is chosen when the page opens."""
    tested = set(data.backtest_daily["portfolio"]) | set(data.performance["portfolio"])
    pairs = [(pair, pair.partition("+")) for pair in charts.measures(data)]
    return {
        "portfolio": [(p, texts(f"portfolio.{p}")) for p in charts.PORTFOLIOS if p in tested],
        "execution": [(e, texts(f"execution.{e}")) for e in charts.EXECUTIONS],
        "costs": [(c, texts(f"costs.{c}")) for c in grids.COSTS],
        "metric": [(m, texts(f"metric.{m}")) for m in charts.METRICS],
        "measures": [
            (pair, Markup("{} · {}").format(texts(f"measure.{flow}"), texts(f"measure.{level}")))
            for pair, (flow, _, level) in pairs
        ],
    }


def _facts(data: ReportData, texts: Texts) -> list[Fact]:
    held, scores = data.current_holdings, data.current_scores
    used = scores["factors_used"].dropna()
    in_use = used.iloc[0].split(", ") if len(used) else list(data.parameters.factors)
    facts = [
        Fact(texts("fact.signal_date"), day(data.signal_date)),
        Fact(texts("fact.held"), _span(held, "holding_start", "holding_end", texts)),
        Fact(texts("fact.decision"), _moment(scores["decision_at"])),
        Fact(texts("fact.data_until"), day(data.data_until)),
        Fact(texts("fact.source"), escape(data.source)),
        Fact(texts("fact.factors"), Markup(" · ").join(texts(f"factor.{factor}") for factor in in_use)),
    ]
    for column, key in (("size_signal", "size"), ("growth_value_signal", "growth_value"), ("heat", "heat")):
        values = scores[column].dropna() if len(scores) else pd.Series(dtype=float)
        if values.empty:
            state = Markup("{} <small>{}</small>").format(DASH, texts("missing.short"))
        else:
            first, second = {"size": ("size.large", "size.small"), "growth_value": ("style.growth", "style.value")}.get(
                key, ("heat.etf", "heat.active")
            )
            state = texts(first if float(values.iloc[0]) > 0 else second)
        facts.append(Fact(texts(f"fact.{key}"), state))
    measures = grids.distinct(scores["level_measure"])
    facts.append(Fact(texts("fact.level"), texts(f"measure.{measures[0]}") if measures else DASH))
    return facts


def _span(frame: pd.DataFrame, first: str, last: str, texts: Texts) -> Markup:
    if frame.empty:
        return DASH
    end = frame[last].iloc[0]
    return Markup("{} – {}").format(day(frame[first].iloc[0]), texts("fact.open_end") if pd.isna(end) else day(end))


def _moment(moments: pd.Series) -> Markup:
    known = moments.dropna()
    if known.empty:
        return DASH
    return Markup(f"{pd.Timestamp(known.iloc[0]).tz_convert('Asia/Shanghai'):%Y-%m-%d %H:%M}")


def _factors_off(data: ReportData, texts: Texts) -> list[Fact]:
    return [
        Fact(texts(f"factor.{factor}"), texts.markup(texts.reason(reason)))
        for factor, reason in data.factors_off.items()
    ]


def _latest_withheld(data: ReportData, texts: Texts) -> Markup | None:
    if data.signal_date is None or data.signal_date not in data.withheld.index:
        return None
    reason = texts.reason(str(data.withheld[data.signal_date]))
    return texts("held.withheld", date=day(data.signal_date), reason=reason)


def _tiles(data: ReportData, texts: Texts) -> list[Fact]:
    """The composite's headline figures as published (without costs), and below each how they end up after costs."""
    full = data.performance[(data.performance["period"] == "full") & (data.performance["portfolio"] == "composite")]
    full = full.set_index(["execution", "costs"])
    published, strict = ("signal_close", "before"), ("next_session", "after")
    if published not in full.index:
        return []
    tiles = []
    for name, write in (
        ("annual_return", percent),
        ("excess_return", percent),
        ("information_ratio", number),
        ("relative_max_drawdown", percent),
        ("monthly_win_rate", percent),
        ("odds", number),
    ):
        other = write(full.loc[strict, name]) if strict in full.index else DASH
        tiles.append(Fact(texts(f"yearly.{name}"), write(full.loc[published, name]), texts("tile.strict", value=other)))
    return tiles


def _coverage(data: ReportData, texts: Texts) -> dict[str, Any] | None:
    """The last week's coverage: the share looked through, large, and the parts of the whole."""
    if data.coverage.empty:
        return None
    last = data.coverage.iloc[-1]
    parts = [
        (
            basis.replace(" ", "-"),
            texts(f"basis.{basis}"),
            percent(last[basis]),
            f"{max(float(last[basis]), 0.0) * 100:.3f}",
        )
        for basis in COVERAGE_GROUPS
    ]
    return {"large": percent(last["constituents"], 1), "week": day(data.coverage.index[-1]), "parts": parts}


def _evidence(data: ReportData, texts: Texts, factor: str) -> Markup:
    """What the rank correlations of one factor say, no more."""
    summary = data.factor_ic_summary
    rows = summary[(summary["factor"] == factor) & (summary["horizon"] == "period")].set_index("span")
    stats = data.factor_group_stats
    spread = stats[(stats["factor"] == factor) & (stats["group"] == "long_short") & (stats["span"] == "full")]
    t = float(rows["t_statistic"].get("full", np.nan)) if len(rows) else np.nan
    if not np.isfinite(t):
        return texts("evidence.missing", factor=texts.pair(f"factor.{factor}"))
    verdict = "evidence.none" if abs(t) < _T_LIMIT else "evidence.with" if t > 0 else "evidence.against"
    return texts(
        "evidence.sentence",
        factor=texts.pair(f"factor.{factor}"),
        dates=number(rows.loc["full", "dates"], 0),
        mean=number(rows.loc["full", "mean_ic"], 3, signed=True),
        t=number(t),
        verdict=texts.pair(verdict),
        before=number(rows["mean_ic"].get("before"), 3, signed=True),
        after=number(rows["mean_ic"].get("after"), 3, signed=True),
        spread=percent(spread["annual_return"].iloc[0] if len(spread) else None, 1, signed=True),
    )


def _luck(data: ReportData, texts: Texts, portfolio: str) -> Markup:
    """What the luck test of one portfolio says, at the close of the signal date and over the full history."""
    table = data.luck_test
    rows = table[(table["portfolio"] == portfolio) & (table["execution"] == "signal_close") & (table["span"] == "full")]
    name = texts.pair(f"portfolio.{portfolio}")
    if rows.empty or not np.isfinite(float(rows["p_value"].iloc[0])):
        return texts("luck.missing", portfolio=name)
    row = rows.iloc[0]
    p, low, deflated = float(row["p_value"]), float(row["excess_low"]), float(row["deflated_probability"])
    verdicts = [
        "luck.unlikely" if p < _P_LIMIT else "luck.possible",
        "luck.band_missing" if not np.isfinite(low) else "luck.band_above" if low > 0 else "luck.band_zero",
        "luck.deflated_missing"
        if not np.isfinite(deflated)
        else "luck.deflated_high"
        if deflated >= _DEFLATED_LIMIT
        else "luck.deflated_low",
    ]
    filled = {
        "p": p_value(p),
        "draws": number(row["draws"], 0),
        "low": percent(low, 1),
        "high": percent(row["excess_high"], 1),
        "deflated": percent(deflated, 0),
    }
    chance, band, best = (texts.pair(verdict, **filled) for verdict in verdicts)
    return texts("luck.sentence", portfolio=name, chance=chance, band=band, best=best)


def _sensitivity(data: ReportData, texts: Texts) -> Markup:
    """Where the strategy as set stands in the grid."""
    cells = data.sensitivity[data.sensitivity["axis"] == "construction"].dropna(subset="information_ratio")
    own = cells[cells["is_default"].fillna(False).astype(bool)]
    if own.empty:
        return texts("sensitivity.missing")
    value = float(own["information_ratio"].iloc[0])
    return texts(
        "sensitivity.place",
        place=number((cells["information_ratio"] > value).sum() + 1, 0),
        cells=number(len(cells), 0),
        value=number(value),
        median=number(cells["information_ratio"].median()),
        positive=percent((cells["excess_return"] > 0).mean(), 0),
    )


def _quality(data: ReportData, texts: Texts) -> list[Fact]:
    scores = data.factor_scores
    dates, withheld = scores["signal_date"].nunique(), len(data.withheld)
    facts = [
        Fact(
            texts("quality.dates"),
            texts("quality.dates_value", published=dates - withheld, withheld=withheld, dates=dates),
        )
    ]
    if len(data.coverage):
        last = data.coverage.iloc[-1]
        for basis in ("stale weights", "not covered"):
            peak = data.coverage[basis].max()
            facts.append(
                Fact(texts(f"basis.{basis}"), percent(last[basis]), texts("quality.peak", value=percent(peak)))
            )
    flow = data.market_flow[data.market_flow["asset_scope"] == "aShareStockEtf"].sort_values("trade_date")
    if len(flow):
        row = flow.iloc[-1]
        facts.append(
            Fact(
                texts("quality.flow"),
                texts("quality.flow_value", flow=number(row["etfs_with_flow"], 0), etfs=number(row["etfs"], 0)),
                day(row["trade_date"]),
            )
        )
        suspected = flow.tail(_SUSPECT_SESSIONS)["suspected_splits"].sum()
        facts.append(Fact(texts("quality.suspected", sessions=_SUSPECT_SESSIONS), number(suspected, 0)))
    weeks = sorted(data.industry_weekly["week_end"].unique())[-charts.FLOW_WEEKS :]
    recent = data.industry_weekly[data.industry_weekly["week_end"].isin(weeks)]
    if len(recent):
        holes = int(recent["net_creation_cny"].isna().sum())
        facts.append(
            Fact(
                texts("quality.holes", weeks=len(weeks)),
                texts("quality.holes_value", holes=holes, cells=len(recent)),
                texts("quality.holes_note") if holes else Markup(""),
            )
        )
        has_values = recent["penetration_ratio"].notna().any()
        facts.append(
            Fact(texts("quality.penetration"), texts("quality.available" if has_values else "quality.no_market_values"))
        )
    active = grids.distinct(data.current_scores["active_basis"])
    facts.append(Fact(texts("quality.active"), texts(f"active.{active[0]}") if active else texts("quality.no_active")))
    return facts + [
        Fact(texts("quality.off", factor=texts.pair(f"factor.{factor}")), texts.markup(texts.reason(reason)))
        for factor, reason in data.factors_off.items()
    ]
