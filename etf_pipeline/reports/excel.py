"""The report's tables as one Excel workbook: a sheet a table, typed, with what its columns mean.

Here: sheets and number formats. Not here: what is in the tables. The same data give the same bytes.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xlsxwriter
import yaml
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from etf_pipeline.reports.charts import weekly
from etf_pipeline.reports.data import ReportData, read_report_data
from etf_pipeline.resources.dbt import PROJECT_DIR
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.storage import atomic_path
from etf_pipeline.settings import Parameters, describe_parameters
from etf_pipeline.tables import (
    ANALYTICS_TABLES,
    FACTOR_SCORES,
    REBALANCE_DATES,
    STRATEGY_HOLDINGS,
    STYLE_REGIME,
)

# any day will do, as long as it is not today
_CREATED = datetime(2000, 1, 1)
_DAY_ZERO = pd.Timestamp("1899-12-30")
_MARTS = PROJECT_DIR / "models" / "marts" / "marts.yml"
_PERCENT = (
    *("_ratio", "_return", "_excess", "_drawdown", "_win_rate", "volatility", "tracking_error", "weight", "turnover"),
    *("excess_low", "excess_high", "cost", "period_return_after_costs"),
)
_NOT_PERCENT = ("information_ratio",)
_ON_FRONT = ["source", "settings_hash"]  # the same in every row
_THINNED = ("backtest_daily", "factor_group_daily", "market_flow")


def write_workbook(path: Path, lake: Lake, parameters: Parameters) -> None:
    """Write the workbook of what the lake holds, whole or not at all."""
    with atomic_path(path) as temporary:
        write_excel(read_report_data(lake, parameters), temporary)


def write_excel(data: ReportData, path: Path) -> None:
    """Write the workbook; a file that is there already is replaced."""
    options = {
        "nan_inf_to_errors": False,
        "default_date_format": "yyyy-mm-dd",
        "remove_timezone": True,
    }
    with xlsxwriter.Workbook(str(path), options) as book:
        book.set_properties({"title": "etf_pipeline report", "comments": data.source, "created": _CREATED})
        formats = {
            "head": book.add_format({"bold": True, "bottom": 1, "bg_color": "#E9EEF4"}),
            "date": book.add_format({"num_format": "yyyy-mm-dd"}),
            "moment": book.add_format({"num_format": "yyyy-mm-dd hh:mm"}),
            "percent": book.add_format({"num_format": "0.00%"}),
            "number": book.add_format({"num_format": "#,##0.0000"}),
            "money": book.add_format({"num_format": "#,##0"}),
            "integer": book.add_format({"num_format": "0"}),
            "title": book.add_format({"bold": True, "font_size": 14}),
            "alarm": book.add_format({"bold": True, "font_color": "#FFFFFF", "bg_color": "#7A3B00"}),
        }
        _write_front(book.add_worksheet("report"), data, formats)
        _write_columns(book.add_worksheet("columns"), data, formats)
        for name, frame in sheets(data).items():
            _write_table(book.add_worksheet(name), frame, formats)


def sheets(data: ReportData) -> dict[str, pd.DataFrame]:
    """Tables as they are written: whole, but for the daily ones, which have one row a week."""
    written = {name: _thinned(table) if name in _THINNED else table for name, table in data.tables.items()}
    return {name: table.drop(columns=_ON_FRONT, errors="ignore") for name, table in written.items()}


def _thinned(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:
        return frame
    kept = weekly(frame.drop_duplicates("trade_date").set_index("trade_date").sort_index()).index
    return frame[frame["trade_date"].isin(kept)].reset_index(drop=True)


def column_descriptions() -> dict[str, dict[str, str]]:
    """Meaning of every column by table, from the Python tables and, where it is at hand, the dbt project."""
    described = {
        table.name: {name: meaning for name, (_, meaning) in table.columns.items()}
        for table in (*ANALYTICS_TABLES, FACTOR_SCORES, REBALANCE_DATES, STRATEGY_HOLDINGS, STYLE_REGIME)
    }
    if _MARTS.exists():
        for model in yaml.safe_load(_MARTS.read_text(encoding="utf-8"))["models"]:
            described[model["name"]] = {column["name"]: column.get("description", "") for column in model["columns"]}
    return described


def _write_front(sheet: Worksheet, data: ReportData, formats: dict[str, Format]) -> None:
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 32)
    sheet.set_column(1, 1, 44)
    sheet.set_column(2, 2, 100)
    sheet.write(0, 0, "Industry rotation from ETF flows", formats["title"])
    row = 1
    if data.is_synthetic:
        sheet.write(row, 0, "SYNTHETIC: all data are made up and stand for no real market.", formats["alarm"])
        sheet.write_blank(row, 1, None, formats["alarm"])
        row += 1
    facts: list[tuple[str, Any]] = [
        ("source", data.source),
        ("signal date", data.signal_date),
        ("last holdings", data.held_date),
        ("data until", data.data_until),
        ("settings hash", data.settings_hash),
        (", ".join(_THINNED), "last session of each week only; every other table is whole"),
        ("empty cells", "missing values; never zero"),
        ("fractions", "shown as percent, stored as fractions; CNY as CNY"),
    ]
    for label, value in facts:
        sheet.write(row, 0, label)
        _write_value(sheet, row, 1, value, formats["date"])
        row += 1
    row += 1
    for column, head in enumerate(("parameter", "value", "reason [unit]")):
        sheet.write(row, column, head, formats["head"])
    described = describe_parameters()
    for name, value in data.parameters.model_dump(mode="json").items():
        row += 1
        entry = described.get(name, {})
        sheet.write_string(row, 0, name)
        _write_value(sheet, row, 1, ", ".join(map(str, value)) if isinstance(value, list) else value, None)
        sheet.write_string(row, 2, f"{entry.get('reason', '')} [{entry.get('unit', '')}]")


def _write_columns(sheet: Worksheet, data: ReportData, formats: dict[str, Format]) -> None:
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, 1, 30)
    sheet.set_column(2, 2, 110)
    for column, head in enumerate(("table", "column", "meaning")):
        sheet.write(0, column, head, formats["head"])
    described, row = column_descriptions(), 0
    for table, frame in data.tables.items():
        for name in frame.columns:
            row += 1
            sheet.write_string(row, 0, table)
            sheet.write_string(row, 1, name)
            sheet.write_string(row, 2, described.get(table, {}).get(name, ""))
    sheet.autofilter(0, 0, max(row, 1), 2)


def _write_table(sheet: Worksheet, frame: pd.DataFrame, formats: dict[str, Format]) -> None:
    sheet.freeze_panes(1, 0)
    columns = []
    for column, name in enumerate(frame.columns):
        cell_format = formats.get(_kind(name, frame[name]))
        sheet.set_column(column, column, min(max(len(name) + 2, 12), 28), cell_format)
        sheet.write_string(0, column, name, formats["head"])
        columns.append((column, cell_format, _writer(sheet, frame[name]), _plain(frame[name])))
    for row in range(len(frame)):
        for column, cell_format, write, values in columns:
            # a missing value leaves the cell empty
            if (value := values[row]) is not None:
                write(row + 1, column, value, cell_format)
    if len(frame.columns):
        sheet.autofilter(0, 0, max(len(frame), 1), len(frame.columns) - 1)


def _kind(name: str, values: pd.Series) -> str:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return "moment"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "text"
    if name.endswith("_cny"):
        return "money"
    if name.endswith(_PERCENT) and name not in _NOT_PERCENT:
        return "percent"
    known = values.dropna()
    return "integer" if len(known) and (known == known.round()).all() and known.abs().max() < 1e6 else "number"


def _plain(values: pd.Series) -> list[Any]:
    """Plain Python values, days as Excel counts them; what Excel has no number for (missing, infinite) is None."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        moments = values.dt.tz_convert("Asia/Shanghai").dt.tz_localize(None)
        return [None if pd.isna(moment) else moment.to_pydatetime() for moment in moments]
    if pd.api.types.is_datetime64_any_dtype(values):
        values = (values - _DAY_ZERO).dt.days
    if pd.api.types.is_float_dtype(values):
        values = values.where(np.isfinite(values.to_numpy(dtype=float, na_value=np.nan)))
    return values.astype(object).where(values.notna(), None).tolist()


def _writer(sheet: Worksheet, values: pd.Series) -> Callable[[int, int, Any, Format | None], object]:
    """What writes a value of the column; of hundreds of thousands, none is looked at for its type."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return sheet.write_datetime
    if pd.api.types.is_bool_dtype(values):
        return sheet.write_boolean
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_numeric_dtype(values):
        return sheet.write_number
    return sheet.write_string if isinstance(values.dtype, pd.StringDtype) else partial(_write_value, sheet)


def _write_value(sheet: Worksheet, row: int, column: int, value: Any, cell_format: Format | None) -> None:
    """A missing value leaves the cell empty."""
    if value is None or value is pd.NaT:
        return
    if isinstance(value, bool | np.bool_):
        sheet.write_boolean(row, column, bool(value))
    elif isinstance(value, int | float | np.number):
        sheet.write_number(row, column, float(value), cell_format)
    elif isinstance(value, datetime):
        sheet.write_datetime(row, column, value, cell_format)
    else:
        sheet.write_string(row, column, str(value))
