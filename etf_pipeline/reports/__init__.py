"""Reports: what people look at. Nothing is computed here that a table could hold; nothing reads a report."""

from etf_pipeline.reports.data import ReportData, read_report_data
from etf_pipeline.reports.excel import write_excel, write_workbook
from etf_pipeline.reports.html import render_html
from etf_pipeline.reports.thumbnails import THUMBNAILS, thumbnail

__all__ = ["THUMBNAILS", "ReportData", "read_report_data", "render_html", "thumbnail", "write_excel", "write_workbook"]
