"""Every AKShare function this source uses: its columns, the units they are in, and how it says that it has nothing.

AKShare turns what it cannot read into NaN, names columns by position, and has changed units between releases. So each
table is checked on arrival: columns, their types, and magnitudes that only the right unit can have.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from etf_pipeline.sources.base import SourceError

Check = Callable[[pd.DataFrame], str | None]
"""What is wrong with a table, or None."""

_PRESENT_SHARE = 0.8
"""Least share of readable values in a column of numbers: AKShare reads what it does not understand as missing."""


class CanaryError(SourceError):
    """A function returned other columns, types or units than it is known for."""


@dataclass(frozen=True)
class Empty:
    """How a function fails when the vendor has no rows: the exception, and what the vendor then sent last."""

    error: str
    message: str
    body: bytes = b""


@dataclass(frozen=True)
class Function:
    """One function of AKShare.

    `columns` by kind: code (six digits), day, number, text, any; with `?` values may be missing. `more_columns`:
    others may be there too. `absent_is_empty`: HTTP 404 means no rows. `cap`: rows sent at most.
    """

    name: str
    columns: Mapping[str, str]
    empty: tuple[Empty, ...] = ()
    checks: tuple[Check, ...] = ()
    cap: int | None = None
    more_columns: bool = False
    reads_html: bool = False
    absent_is_empty: bool = False

    def is_empty(self, how: str, error: str, message: str, bodies: Sequence[bytes]) -> bool:
        """Whether this failure is how the function says that the vendor has no rows."""
        if how == "absent":
            return self.absent_is_empty
        last = bodies[-1] if bodies else b""
        return how == "parsing" and any(
            e.error == error and re.search(e.message, message) and re.search(e.body, last) for e in self.empty
        )


def in_words(function: str, arguments: Mapping[str, str]) -> str:
    """The call as messages name it."""
    return f"akshare {function}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def check_canary(function: str, frame: pd.DataFrame) -> None:
    """Hold a table of `function` against what is known of it; an empty one has only its columns checked.

    Raises:
        CanaryError: another column, type or unit; the message says which, and what to do.
    """
    spec = FUNCTIONS[function]
    found = list(frame.columns)
    missing = [name for name in spec.columns if name not in found]
    if missing or (not spec.more_columns and found != list(spec.columns)):
        raise CanaryError(
            f"columns changed: expected {', '.join(spec.columns)}; found {', '.join(map(str, found))}. {_ADVICE}"
        )
    if frame.empty:
        return
    wrong = [problem for name, kind in spec.columns.items() if (problem := _kind_problem(frame[name], kind))]
    wrong = wrong or [problem for check in spec.checks if (problem := check(frame))]
    if wrong:
        raise CanaryError(f"{'; '.join(wrong)}. {_ADVICE}")


_ADVICE = (
    "The vendor or AKShare changed what it sends: nothing of it is used. Compare a value with the vendor's own page, "
    "and adapt sources/akshare/functions.py and mapping.py"
)


def _kind_problem(values: pd.Series, kind: str) -> str | None:
    present = values.dropna()
    if kind.endswith("?"):
        if present.empty:
            return None
        kind = kind.removesuffix("?")
    elif len(present) < _PRESENT_SHARE * len(values):
        return f"`{values.name}` is missing in {len(values) - len(present):,} of {len(values):,} rows"
    if kind == "number":
        good = pd.Series(pd.api.types.is_numeric_dtype(present), present.index)
    elif kind == "code":
        good = present.astype("str").str.fullmatch(r"\d{6}")
    elif kind == "any":
        good = pd.Series(True, present.index)
    elif kind == "day":
        good = pd.to_datetime(present.astype("str"), errors="coerce", format="ISO8601").notna()
    else:
        good = pd.Series([isinstance(value, str) for value in present], present.index)
    if good.all():
        return None
    return f"`{values.name}` is no {kind} in {int((~good).sum()):,} rows, first {present[~good].iloc[0]!r}"


def _median(column: str, low: float, high: float, unit: str, among: Mapping[str, Sequence[str]] | None = None) -> Check:
    """The median of `column`, of rows `among` the given values of a column if any, lies in [low, high]."""

    def check(frame: pd.DataFrame) -> str | None:
        for by, known in (among or {}).items():
            frame = frame[frame[by].astype("str").str.zfill(6).isin(known)]
        median = pd.to_numeric(frame[column], errors="coerce").median()
        if pd.isna(median) or low <= median <= high:
            return None
        whose = f" of {', '.join(*among.values())}" if among else ""
        return f"the median of `{column}`{whose} is {median:,.10g}, not within {low:,.10g} … {high:,.10g} as in {unit}"

    return check


def _average_price(amount: str, volume: str, unit: float, what: str, bounds: tuple[str, str] | None = None) -> Check:
    """`amount` over `volume`, times `unit`, is a price: within twice the day's range, or within 0.5 … 500 CNY."""

    def check(frame: pd.DataFrame) -> str | None:
        traded = frame[(frame[volume] > 0) & (frame[amount] > 0)]
        price = traded[amount] / traded[volume] * unit
        low, high = (traded[bounds[0]] / 2, traded[bounds[1]] * 2) if bounds else (0.5, 500.0)
        inside = (price >= low) & (price <= high)
        if traded.empty or inside.mean() > 0.5:
            return None
        return f"`{amount}` over `{volume}` is {price.median():,.6g}, no price: they are not in {what}"

    return check


def _weights_in_percent(frame: pd.DataFrame) -> str | None:
    total = frame.groupby(frame["日期"].astype("str"))["权重"].sum().median()
    return None if total > 1.5 else f"`权重` sums to {total:,.6g} a day: not in percent"


def _owners_in_percent(frame: pd.DataFrame) -> str | None:
    owners = [frame[c].astype("str").str.removesuffix("%") for c in ("机构持有比例", "个人持有比例")]
    institutions, individuals = (pd.to_numeric(owner, errors="coerce") for owner in owners)
    total = (institutions + individuals).median()
    if pd.isna(total) or 90 <= total <= 110:
        return None
    return f"`机构持有比例` + `个人持有比例` is {total:,.6g}, not 100: not in percent"


def _matches(column: str, pattern: str, what: str) -> Check:
    """Every text in `column` matches `pattern`."""

    def check(frame: pd.DataFrame) -> str | None:
        texts = frame[column].dropna().astype("str")
        odd = texts[~texts.str.fullmatch(pattern)]
        return None if odd.empty else f"`{column}` {odd.iloc[0]!r} is not {what}"

    return check


_LARGE_SH = ("510050", "510300", "510310", "510330", "510500", "512880", "518880", "588000")
_LARGE_SZ = ("159901", "159915", "159919", "159949")
"""ETFs with some hundred million shares or more ever since they are listed here."""
_KLINE = "开盘:number 收盘:number 最高:number 最低:number"
_KLINE_CHECK = _average_price("成交额", "成交量", 0.01, "元 and 手 (100 份)", ("最低", "最高"))
_CSI_NAMES = "指数中文全称:text? 指数中文简称:text? 指数英文全称:text? 指数英文简称:text?"
_FEE = r"(\d+\.\d+%|-+)（每年）|-+"
_NO_DATA = rb'"data"\s*:\s*(null|\[\s*\])'
_NO_RESULT = rb'"result"\s*:\s*\[\s*\]'


def _columns(text: str) -> Mapping[str, str]:
    """Kinds by name of columns written as `name:kind`."""
    return dict(column.split(":") for column in text.split())


def _no_rows(columns: int, body: bytes = _NO_DATA) -> Empty:
    """Where columns are named by position, no rows leave none to name."""
    return Empty("ValueError", f"Expected axis has 0 elements, new values have {columns} elements", body)


_ALL = (
    Function(
        "fund_etf_scale_sse",
        _columns("序号:number 基金代码:code 基金简称:text ETF类型:text? 统计日期:day 基金份额:number"),
        empty=(Empty("KeyError", r"None of \[Index\(\['序号'", _NO_RESULT),),
        checks=(_median("基金份额", 1e8, 1e12, "份", {"基金代码": _LARGE_SH}),),
        cap=10_000,
    ),
    Function(
        "fund_scale_daily_szse",
        _columns("日期:day 基金代码:code 基金简称:text 基金份额:number"),
        checks=(_median("基金份额", 1e8, 1e12, "份", {"基金代码": _LARGE_SZ}),),
    ),
    Function(
        "fund_name_em",
        _columns("基金代码:code 拼音缩写:text? 基金简称:text 基金类型:text? 拼音全称:text?"),
    ),
    Function(
        "fund_overview_em",
        _columns("基金简称:text 基金代码:text 基金管理人:text? 管理费率:text? 托管费率:text? 跟踪标的:text?"),
        checks=tuple(_matches(column, _FEE, "a yearly rate in percent") for column in ("管理费率", "托管费率")),
        more_columns=True,
        reads_html=True,
        absent_is_empty=True,
    ),
    Function(
        "index_csindex_all",
        _columns("指数代码:text 指数简称:text 指数全称:text"),
        more_columns=True,
    ),
    Function(
        "fund_etf_fund_info_em",
        _columns("净值日期:day 单位净值:number 累计净值:number? 日增长率:number? 申购状态:text? 赎回状态:text?"),
        empty=(Empty("ValueError", "No objects to concatenate", rb'"TotalCount"\s*:\s*0\b'),),
        checks=(_median("单位净值", 0.05, 2_000, "元"),),
    ),
    Function(
        "fund_open_fund_info_em",
        # 单位净值走势 and 累计净值走势 have one of the values each
        _columns("净值日期:day"),
        empty=(Empty("JSEvalException", r"ReferenceError: Data_\w+ is not defined", rb"fS_code"),),
        more_columns=True,
        absent_is_empty=True,
    ),
    Function(
        "fund_fh_em",
        _columns("序号:number 基金代码:code 基金简称:text 权益登记日:day? 除息日期:day? 分红:number 分红发放日:day?"),
        empty=(Empty("SyntaxError", "", rb"=\s*\[\s*\]\s*;\s*var jjfh_jjgs"),),
        checks=(_median("分红", 1e-4, 20, "元 per 份"),),
    ),
    Function(
        "fund_cf_em",
        _columns("序号:number 基金代码:code 基金简称:text 拆分折算日:day 拆分类型:text? 拆分折算:number?"),
        checks=(_median("拆分折算", 1e-3, 1_000, "new shares per old share"),),
    ),
    Function(
        "fund_etf_hist_em",
        _columns(
            f"日期:day {_KLINE} 成交量:number 成交额:number 振幅:number? 涨跌幅:number? 涨跌额:number? 换手率:number?"
        ),
        checks=(_KLINE_CHECK,),
    ),
    Function(
        "fund_etf_hist_min_em",
        _columns(
            f"时间:day {_KLINE} 涨跌幅:number? 涨跌额:number? 成交量:number 成交额:number 振幅:number? 换手率:number?"
        ),
        empty=(
            Empty("TypeError", "'NoneType' object is not subscriptable", _NO_DATA),
            _no_rows(11, rb'"klines"\s*:\s*\[\s*\]'),
        ),
        checks=(_KLINE_CHECK,),
    ),
    Function(
        "index_stock_cons_weight_csindex",
        _columns(
            "日期:day 指数代码:text 指数名称:text? 指数英文名称:text? 成分券代码:code 成分券名称:text? "
            "成分券英文名称:text? 交易所:text 交易所英文名称:text? 权重:number"
        ),
        checks=(_weights_in_percent,),
        absent_is_empty=True,
    ),
    Function(
        "index_detail_hist_cni",
        _columns("日期:day 样本代码:code 样本简称:text? 所属行业:text? 总市值:number? 权重:number"),
        checks=(_weights_in_percent,),
        absent_is_empty=True,
    ),
    Function(
        "stock_zh_index_hist_csindex",
        _columns(
            f"日期:day 指数代码:text {_CSI_NAMES} 开盘:number? 最高:number? 最低:number? 收盘:number 涨跌:number? "
            "涨跌幅:number? 成交量:number? 成交金额:number? 样本数量:number? 滚动市盈率:number?"
        ),
        empty=(_no_rows(16),),
        checks=(
            _average_price("成交金额", "成交量", 100, "亿元 and 万手"),
            _median("滚动市盈率", 0.5, 1_000, "times earnings"),
        ),
    ),
    Function(
        "index_hist_cni",
        _columns(
            "日期:day 开盘价:number? 最高价:number? 最低价:number? 收盘价:number 涨跌幅:number? 成交量:number? "
            "成交额:number?"
        ),
        empty=(_no_rows(11),),
        checks=(_average_price("成交额", "成交量", 100, "亿元 and 万手"),),
    ),
    Function(
        "stock_zh_index_value_csindex",
        # the code is a text of six digits, or the number
        _columns(f"日期:day 指数代码:any {_CSI_NAMES} 市盈率1:number? 市盈率2:number? 股息率1:number? 股息率2:number?"),
        checks=(_median("股息率1", 0.4, 15, "percent", {"指数代码": ("000300",)}),),
        absent_is_empty=True,
    ),
    Function(
        "stock_industry_clf_hist_sw",
        _columns("symbol:code start_date:day industry_code:code update_time:day?"),
    ),
    Function(
        "index_hist_sw",
        _columns("代码:text 日期:day 收盘:number 开盘:number? 最高:number? 最低:number? 成交量:number? 成交额:number?"),
        checks=(_median("收盘", 100, 100_000, "index points"),),
    ),
    Function(
        "stock_margin_detail_sse",
        _columns(
            "信用交易日期:day 标的证券代码:code 标的证券简称:text 融资余额:number 融资买入额:number 融资偿还额:number? "
            "融券余量:number 融券卖出量:number 融券偿还量:number?"
        ),
        empty=(_no_rows(13, _NO_RESULT),),
        checks=(_median("融资余额", 1e7, 1e12, "元", {"标的证券代码": _LARGE_SH}),),
        cap=5_000,
    ),
    Function(
        "stock_margin_detail_szse",
        _columns(
            "证券代码:code 证券简称:text 融资买入额:number 融资余额:number 融券卖出量:number 融券余量:number "
            "融券余额:number? 融资融券余额:number?"
        ),
        checks=(_median("融资余额", 1e7, 1e12, "元", {"证券代码": _LARGE_SZ}),),
    ),
    Function(
        "fund_portfolio_hold_em",
        _columns("序号:number 股票代码:text 股票名称:text 占净值比例:number 持股数:number 持仓市值:number 季度:text"),
        checks=(
            _average_price("持仓市值", "持股数", 1, "万元 and 万股"),
            _median("占净值比例", 0.005, 100, "percent"),
            _matches("季度", r"\d{4}年[1-4]季度股票投资明细", "a quarter"),
        ),
    ),
    Function(
        "fund_announcement_report_em",
        _columns("基金代码:code 公告标题:text 基金名称:text? 公告日期:day 报告ID:text?"),
        empty=(_no_rows(8, rb'"Data"\s*:\s*(null|\[\s*\])'),),
        cap=1_000,
    ),
    Function(
        "fund_holders",
        _columns("公告日期:day 机构持有比例:any 个人持有比例:any 内部持有比例:any? 总份额（亿份）:number"),
        checks=(_owners_in_percent,),
    ),
    Function(
        "fund_new_found_em",
        _columns(
            "基金代码:code 基金简称:text 发行公司:text? 基金类型:text? 集中认购期:text? 募集份额:number? "
            "成立日期:day? 成立来涨幅:number? 基金经理:text? 申购状态:text? 优惠费率:number?"
        ),
        checks=(_median("募集份额", 0.01, 500, "亿份"),),
    ),
)

FUNCTIONS: Mapping[str, Function] = {function.name: function for function in _ALL}
"""All functions by name; no other is ever called."""
