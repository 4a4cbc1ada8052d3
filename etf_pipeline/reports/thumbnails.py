"""Small pictures of the report for places that show no HTML: PNG, labelled in English.

Here: two pictures. Not here: anything interactive.
"""

import io
from collections.abc import Callable

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from etf_pipeline.reports.charts import DIVERGING, FLOW_WEEKS, GREY, MUTED, NAVY, ORANGE, RULE
from etf_pipeline.reports.data import ReportData
from etf_pipeline.reports.texts import Texts


def thumbnail(data: ReportData, name: str) -> bytes:
    """PNG of the picture `name`, one of `THUMBNAILS`.

    Raises:
        KeyError: no such picture.
    """
    figure = Figure(figsize=(8, 4.5) if name == "nav" else (8, 6.5), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    THUMBNAILS[name](data, figure)
    if data.is_synthetic:
        figure.text(0.5, 0.5, "SYNTHETIC", rotation=25, size=54, weight="bold", color="#7a3b00", alpha=0.1, ha="center")
    buffer = io.BytesIO()
    # without the version of the library the bytes depend on the data alone
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _nav(data: ReportData, figure: Figure) -> None:
    daily = data.backtest_daily
    rows = daily[(daily["portfolio"] == "composite") & (daily["execution"] == "signal_close")].sort_values("trade_date")
    if rows.empty:
        _say(figure, "No back-test: no holding period has returns yet")
        return
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    dates = rows["trade_date"].to_numpy()
    for column, colour, label in (
        ("nav", NAVY, "Composite, before costs"),
        ("nav_after_costs", ORANGE, "after costs"),
        ("benchmark_nav", GREY, "All industries"),
    ):
        upper.plot(dates, rows[column].to_numpy(), color=colour, lw=1.3, label=label)
    upper.legend(frameon=False, fontsize=9, ncols=3, loc="upper left")
    upper.set_title("NAV, traded at the close of the signal date", loc="left", fontsize=11)
    lower.plot(dates, rows["relative_nav"].to_numpy(), color=NAVY, lw=1.3)
    lower.plot(dates, rows["relative_nav_after_costs"].to_numpy(), color=ORANGE, lw=1.1)
    lower.axhline(1, color=MUTED, lw=0.8)
    lower.set_title("Relative to all industries", loc="left", fontsize=11)
    for axes in (upper, lower):
        axes.grid(color=RULE, lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=MUTED)
    upper.set_ylim(top=upper.get_ylim()[1] * 1.1)


def _industry_flow(data: ReportData, figure: Figure) -> None:
    weeks = sorted(data.industry_weekly["week_end"].unique())[-FLOW_WEEKS:]
    rows = data.industry_weekly[data.industry_weekly["week_end"].isin(weeks)]
    if rows["net_creation_cny"].notna().sum() == 0:
        _say(figure, "No net creation: gaps between observations of shares, or fewer than two")
        return
    wide = rows.pivot(index="industry_name", columns="week_end", values="net_creation_cny").reindex(columns=weeks) / 1e8
    wide = wide.loc[wide.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    limit = max(float(np.nanquantile(np.abs(wide.to_numpy(dtype=float)), 0.97)), 0.01)
    colours = LinearSegmentedColormap.from_list("flow", [(place, colour) for place, colour in DIVERGING])
    colours.set_bad("#dfe3e8")
    axes = figure.subplots()
    image = axes.imshow(wide.to_numpy(dtype=float), cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    texts = Texts.load()
    codes = rows.drop_duplicates("industry_name").set_index("industry_name")["industry_code"]
    # a name without translation could not be drawn without a Chinese font
    english = [texts.industries.get(name, codes[name]) for name in wide.index]
    axes.set_yticks(range(len(english)), english, fontsize=7.5)
    shown = range(0, len(weeks), 4)
    axes.set_xticks(shown, [f"{weeks[i]:%Y-%m-%d}" for i in shown], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Net creation by industry and week, CNY 100m", loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.5, pad=0.02).outline.set_visible(False)


def _say(figure: Figure, reason: str) -> None:
    figure.text(0.5, 0.5, reason, ha="center", color=MUTED)


THUMBNAILS: dict[str, Callable[[ReportData, Figure], None]] = {"nav": _nav, "industry_flow": _industry_flow}
