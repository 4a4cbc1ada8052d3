"""Report assets: what people look at, made of published tables only."""

import base64

import dagster as dg

from etf_pipeline.resources import workers
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import atomic_path
from etf_pipeline.tables import ANALYTICS_TABLES

GROUP = "reports"
_SHOWN = [
    ["marts", "industry_weekly"],
    ["marts", "look_through_coverage"],
    ["marts", "market_flow"],
    ["factors", "style_regime"],
    ["factors", "factor_scores"],
    ["strategy", "rebalance_dates"],
    ["strategy", "strategy_holdings"],
    *(["analytics", table.name] for table in ANALYTICS_TABLES),
]


@dg.asset(key=[GROUP, "report"], group_name=GROUP, deps=_SHOWN, kinds={"plotly", "excel"})
def report(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """The report as one HTML file to open in any browser, offline, and as an Excel file of its tables.

    Both lie in the lake's folder `reports`. The key charts are shown here as well.
    """
    # imported here: charts and spreadsheets take a second that every start of Dagster would pay
    from etf_pipeline.reports import THUMBNAILS, read_report_data, render_html, thumbnail, write_workbook

    folder = pipeline.lake.root / "reports"
    html, excel = folder / "report.html", folder / "report.xlsx"
    written = workers.begin(write_workbook, excel, pipeline.lake, pipeline.parameters)
    data = read_report_data(pipeline.lake, pipeline.parameters)
    with atomic_path(html) as temporary:
        temporary.write_text(render_html(data, pipeline.parameters.report_language), encoding="utf-8")
    pictures = {name: _picture(name, thumbnail(data, name)) for name in THUMBNAILS}
    written.result()
    return dg.MaterializeResult(
        metadata={
            "source": pipeline.lake.source_label,
            "settings_hash": pipeline.parameters.hash,
            "html": dg.MetadataValue.path(html),
            "excel": dg.MetadataValue.path(excel),
            "megabytes": round(html.stat().st_size / 2**20, 2),
            **pictures,
        }
    )


def _picture(name: str, png: bytes) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})")
