"""AKShare's tables in the contract's columns and units. Factors and names of columns only; nothing is fetched here.

Frames come as `functions.py` describes them; results lack `available_at` where the contract's default lag holds.
"""

import re
from collections.abc import Mapping
from datetime import date, time

import pandas as pd

from etf_pipeline.core.calendar import moments

_SW_INDUSTRIES = {
    "11": ("801010.SI", "农林牧渔"),
    "22": ("801030.SI", "基础化工"),
    "23": ("801040.SI", "钢铁"),
    "24": ("801050.SI", "有色金属"),
    "27": ("801080.SI", "电子"),
    "28": ("801880.SI", "汽车"),
    "33": ("801110.SI", "家用电器"),
    "34": ("801120.SI", "食品饮料"),
    "35": ("801130.SI", "纺织服饰"),
    "36": ("801140.SI", "轻工制造"),
    "37": ("801150.SI", "医药生物"),
    "41": ("801160.SI", "公用事业"),
    "42": ("801170.SI", "交通运输"),
    "43": ("801180.SI", "房地产"),
    "45": ("801200.SI", "商贸零售"),
    "46": ("801210.SI", "社会服务"),
    "48": ("801780.SI", "银行"),
    "49": ("801790.SI", "非银金融"),
    "51": ("801230.SI", "综合"),
    "61": ("801710.SI", "建筑材料"),
    "62": ("801720.SI", "建筑装饰"),
    "63": ("801730.SI", "电力设备"),
    "64": ("801890.SI", "机械设备"),
    "65": ("801740.SI", "国防军工"),
    "71": ("801750.SI", "计算机"),
    "72": ("801760.SI", "传媒"),
    "73": ("801770.SI", "通信"),
    "74": ("801950.SI", "煤炭"),
    "75": ("801960.SI", "石油石化"),
    "76": ("801970.SI", "环保"),
    "77": ("801980.SI", "美容护理"),
}
"""Level 1 of the Shenwan classification of 2021: first two digits of a class, code of its index, name."""

_KNOWN_INDEXES = {
    "上证综合": "000001.SH",
    "上证380": "000009.SH",
    "上证180": "000010.SH",
    "上证红利": "000015.SH",
    "上证50": "000016.SH",
    "上证超级大盘": "000043.SH",
    "上证科创板50成份": "000688.SH",
    "上证科创板100": "000698.SH",
    "深证成份": "399001.SZ",
    "中小企业100": "399005.SZ",
    "创业板": "399006.SZ",
    "创业板指": "399006.SZ",
    "深证300": "399007.SZ",
    "国证2000": "399303.SZ",
    "国证1000": "399311.SZ",
    "深证100": "399330.SZ",
    "创业板50": "399673.SZ",
}
"""Indexes of the two exchanges that the CSI list may lack, by their names without 指数."""

_SCOPES = (
    ("指数型-股票", "aShareStockEtf", False),
    ("股票型", "aShareStockEtf", False),
    ("指数型-海外股票", "crossBorderStockEtf", True),
    ("QDII", "crossBorderStockEtf", True),
    ("指数型-固收", "bondEtf", True),
    ("债券型", "bondEtf", True),
    ("货币型", "moneyEtf", True),
    ("商品", "commodityEtf", True),
    ("指数型-其他", "otherEtf", None),
)
"""EastMoney's fund type by its beginning: our scope, and whether shares bought today can be sold today."""

_ACTIVE = ("股票型", "混合型-偏股", "混合型-灵活", "混合型-平衡")
_ANNUAL, _MIDYEAR = "年度报告", "中期报告|半年度报告"
_QUARTER = r"第?([1-4一二三四])季度报告"
_CHINESE = {"一": 1, "二": 2, "三": 3, "四": 4}
_TOP = 10


def etf_code(codes: pd.Series) -> pd.Series:
    """Codes of exchange-traded funds with their suffix: 5… is Shanghai, 1… Shenzhen."""
    codes = codes.astype("str")
    return codes + codes.str[:1].map({"5": ".SH", "1": ".SZ"})


def stock_code(codes: pd.Series) -> pd.Series:
    """Stock codes with their suffix; five digits are Hong Kong. Missing for what is neither."""
    codes = codes.astype("str")
    firsts = {"6": ".SH", "9": ".SH", "0": ".SZ", "2": ".SZ", "3": ".SZ", "4": ".BJ", "8": ".BJ"}
    suffix = codes.str[:1].map(firsts).mask(codes.str.startswith("92"), ".BJ")
    suffix = suffix.where(codes.str.fullmatch(r"\d{6}")).mask(codes.str.fullmatch(r"\d{5}"), ".HK")
    return codes + suffix


def index_code(code: str) -> str:
    """An index code with its suffix: 000… .SH, 399… .SZ, others .CSI."""
    return code + {"000": ".SH", "399": ".SZ"}.get(code[:3], ".CSI")


def scope(kind: str | None) -> tuple[str | None, bool | None]:
    """Asset scope and T+0 flag that follow from EastMoney's fund type; None where they do not."""
    return next(((s, t0) for start, s, t0 in _SCOPES if (kind or "").startswith(start)), (None, None))


def yearly_rate(text: str | None) -> float | None:
    """`0.50%（每年）` as 0.005; None for dashes."""
    found = re.match(r"(\d+\.\d+)%", text or "")
    return round(float(found[1]) / 100, 10) if found else None


def index_codes(listed: pd.DataFrame) -> Mapping[str, str]:
    """Index codes by plain name, from the CSI list's short and full names; names of two indexes are left out."""
    pairs = pd.concat(
        [listed[["指数代码", column]].set_axis(["code", "name"], axis="columns") for column in ("指数全称", "指数简称")]
    ).dropna()
    pairs = pairs.assign(code=pairs["code"].map(index_code), name=pairs["name"].map(plain_index_name)).drop_duplicates()
    pairs = pairs[~pairs.duplicated("name", keep=False)]
    return _KNOWN_INDEXES | dict(zip(pairs["name"], pairs["code"], strict=True))


def plain_index_name(name: str) -> str:
    """An index name without blanks and the words that only some lists add."""
    return re.sub(r"(价格)?指数(收益率)?$", "", re.sub(r"\s", "", name).replace("(", "（").replace(")", "）"))


def sse_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """etf_share (and names) of Shanghai from `fund_etf_scale_sse`; funds without a number are left out."""
    return _shares(frame, "统计日期")


def szse_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """etf_share (and names) of Shenzhen from `fund_scale_daily_szse`; funds without a number are left out."""
    return _shares(frame, "日期")


def _shares(frame: pd.DataFrame, day: str) -> pd.DataFrame:
    shares = pd.DataFrame(
        {
            "etf_code": etf_code(frame["基金代码"]),
            "trade_date": days(frame[day]),
            "shares": frame["基金份额"].astype("float64"),
            "name": frame["基金简称"],
        }
    )
    return shares.dropna(subset=["shares"])


def days(values: pd.Series) -> pd.Series:
    """Days, as dates or ISO text with or without a time, as naive midnights; NaT where missing."""
    if not pd.api.types.is_datetime64_dtype(values):
        values = pd.to_datetime(values.astype("str"), errors="coerce", format="ISO8601")
    return values.dt.normalize().astype("datetime64[us]")


def listed_navs(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """etf_nav of one fund from `fund_etf_fund_info_em`."""
    return pd.DataFrame(
        {
            "etf_code": code,
            "trade_date": days(frame["净值日期"]),
            "unit_nav": frame["单位净值"].astype("float64"),
            "accumulated_nav": frame["累计净值"].astype("float64"),
        }
    )


def whole_navs(unit: pd.DataFrame, accumulated: pd.DataFrame, code: str) -> pd.DataFrame:
    """etf_nav of one fund from the two series of `fund_open_fund_info_em`."""
    at = "净值日期"
    unit = unit.reindex(columns=[at, "单位净值"]).assign(净值日期=days(unit[at]))
    accumulated = accumulated.reindex(columns=[at, "累计净值"]).assign(净值日期=days(accumulated[at]))
    return listed_navs(unit.merge(accumulated, how="left", on=at), code)


def etf_bars(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """etf_bar of one fund from `fund_etf_hist_em`: lots of 100, money as it is."""
    return pd.DataFrame({"etf_code": code, "trade_date": days(frame["日期"]), **_kline(frame)})


def etf_minutes(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """etf_bar_5min of one fund from `fund_etf_hist_min_em`; bars are labelled by their end."""
    ends = pd.to_datetime(frame["时间"].astype("str"), format="ISO8601").astype("datetime64[us]")
    return pd.DataFrame({"etf_code": code, "trade_date": days(frame["时间"]), "bar_end": ends, **_kline(frame)})


def _kline(frame: pd.DataFrame) -> dict[str, pd.Series]:
    prices = {"open": "开盘", "high": "最高", "low": "最低", "close": "收盘"}
    return {
        **{ours: frame[theirs].astype("float64") for ours, theirs in prices.items()},
        "volume": frame["成交量"].astype("float64") * 100,
        "amount": frame["成交额"].astype("float64"),
    }


def dividends(frame: pd.DataFrame) -> pd.DataFrame:
    """etf_dividend, with OTC funds, from `fund_fh_em`; without an ex-date there is no row."""
    rows = pd.DataFrame({"etf_code": etf_code(frame["基金代码"]), "ex_date": days(frame["除息日期"])})
    return rows.assign(cash_per_share=frame["分红"].astype("float64")).dropna()


def splits(frame: pd.DataFrame) -> pd.DataFrame:
    """etf_split, with OTC funds, from `fund_cf_em`; a ratio not yet published gives no row."""
    rows = pd.DataFrame({"etf_code": etf_code(frame["基金代码"]), "ex_date": days(frame["拆分折算日"])})
    return rows.assign(new_per_old=frame["拆分折算"].astype("float64")).dropna()


def csi_bars(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """index_bar of one index from `stock_zh_index_hist_csindex`: money in 亿元. Close-only days have no range."""
    return _index_bars(frame, code, ("开盘", "最高", "最低", "收盘", "成交金额"))


def cni_bars(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """index_bar of one index from `index_hist_cni`: money in 亿元."""
    return _index_bars(frame, code, ("开盘价", "最高价", "最低价", "收盘价", "成交额"))


def _index_bars(frame: pd.DataFrame, code: str, names: tuple[str, ...]) -> pd.DataFrame:
    values = {
        ours: frame[theirs].astype("float64")
        for ours, theirs in zip(("open", "high", "low", "close", "amount"), names, strict=True)
    }
    bars = pd.DataFrame({"index_code": code, "trade_date": days(frame["日期"]), **values})
    prices = ["open", "high", "low"]
    bars[prices] = bars[prices].where(bars[prices] > 0)
    return bars.assign(amount=bars["amount"] * 1e8)


def csi_valuations(bars: pd.DataFrame, yields: pd.DataFrame, code: str) -> pd.DataFrame:
    """index_valuation of one index: trailing P/E from its bars, yield on all shares (percent) from its indicator file.

    `pb` is not published. Days with neither are left out.
    """
    ratio = pd.DataFrame({"trade_date": days(bars["日期"]), "pe_ttm": bars["滚动市盈率"].astype("float64")})
    paid = pd.DataFrame(
        {"trade_date": days(yields["日期"]), "dividend_yield": yields["股息率1"].astype("float64") / 100}
    )
    both = ratio.merge(paid.drop_duplicates("trade_date"), how="outer", on="trade_date")
    return both.assign(index_code=code, pb=float("nan")).dropna(subset=["pe_ttm", "dividend_yield"], how="all")


def csi_weights(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """index_weight of one index from `index_stock_cons_weight_csindex`: percent. The exchange's name is the suffix."""
    exchanges = {"上海": ".SH", "深圳": ".SZ", "北京": ".BJ", "香港": ".HK"}
    found = frame["交易所"].astype("str").str.extract(f"({'|'.join(exchanges)})", expand=False)
    stocks = frame["成分券代码"].astype("str")
    return pd.DataFrame(
        {
            "index_code": code,
            "as_of_date": days(frame["日期"]),
            "stock_code": stocks.where(found != "香港", stocks.str[-5:]) + found.map(exchanges),
            "weight": frame["权重"].astype("float64") / 100,
        }
    )


def cni_weights(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """index_weight of one index from `index_detail_hist_cni`: percent, all dates."""
    return pd.DataFrame(
        {
            "index_code": code,
            "as_of_date": days(frame["日期"]),
            "stock_code": stock_code(frame["样本代码"]),
            "weight": frame["权重"].astype("float64") / 100,
        }
    )


def sw_industries() -> pd.DataFrame:
    """industry_info of the Shenwan classification."""
    codes, names = zip(*_SW_INDUSTRIES.values(), strict=True)
    return pd.DataFrame({"scheme": "sw", "industry_code": codes, "industry_name": names})


def sw_stays(frame: pd.DataFrame) -> pd.DataFrame:
    """stock_industry from `stock_industry_clf_hist_sw`: each entry lasts until the stock's next one.

    Entries of industries that no longer exist (before 2021) leave a hole; successive ones of one industry are one
    stay. Of two entries on one day the one updated last counts.
    """
    entries = pd.DataFrame(
        {
            "scheme": "sw",
            "stock_code": stock_code(frame["symbol"]),
            "in_date": days(frame["start_date"]),
            "industry_code": frame["industry_code"].str[:2].map({k: code for k, (code, _) in _SW_INDUSTRIES.items()}),
            "updated": days(frame["update_time"]),
        }
    )
    entries = entries.sort_values(["stock_code", "in_date", "updated"], kind="stable", na_position="first")
    entries = entries.drop_duplicates(["stock_code", "in_date"], keep="last").drop(columns="updated")
    known = entries["industry_code"].fillna("")
    repeated = (known == known.shift()) & (entries["stock_code"] == entries["stock_code"].shift())
    stays = entries[~repeated]
    stays = stays.assign(out_date=stays.groupby("stock_code")["in_date"].shift(-1))
    return stays.dropna(subset=["industry_code"]).reset_index(drop=True)


def sw_bars(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    """industry_bar of one industry from `index_hist_sw`."""
    closes = {"trade_date": days(frame["日期"]), "close": frame["收盘"].astype("float64")}
    return pd.DataFrame({"scheme": "sw", "industry_code": code, **closes})


def sse_margins(frame: pd.DataFrame) -> pd.DataFrame:
    """etf_margin, with stocks, from `stock_margin_detail_sse`."""
    return _margins(frame, "标的证券代码", days(frame["信用交易日期"]))


def szse_margins(frame: pd.DataFrame, day: pd.Timestamp) -> pd.DataFrame:
    """etf_margin, with stocks, from `stock_margin_detail_szse`, which does not show the `day` it was asked for."""
    return _margins(frame, "证券代码", pd.Series(day, frame.index, dtype="datetime64[us]"))


def _margins(frame: pd.DataFrame, code: str, day: pd.Series) -> pd.DataFrame:
    names = {
        "financing_balance": "融资余额",
        "financing_buy": "融资买入额",
        "short_volume": "融券余量",
        "short_sell_volume": "融券卖出量",
    }
    values = {ours: frame[theirs].astype("float64") for ours, theirs in names.items()}
    return pd.DataFrame({"etf_code": etf_code(frame[code]), "trade_date": day, **values})


def fund_infos(names: pd.DataFrame, issues: pd.DataFrame, etfs: set[str]) -> pd.DataFrame:
    """fund_info from `fund_name_em` and `fund_new_found_em` (亿份); codes of `etfs` get their exchange, others .OF.

    Share classes of one fund repeat its issue: where the amount is the same, only the first one keeps it.
    """
    issued = pd.DataFrame(
        {
            "基金代码": issues["基金代码"],
            "found_date": days(issues["成立日期"]),
            "issue_shares": (issues["募集份额"].astype("float64") * 1e8).round(),
            "stem": issues["基金简称"].map(_without_class),
        }
    ).drop_duplicates("基金代码")
    repeated = issued.duplicated(["stem", "found_date", "issue_shares"]) & issued["found_date"].notna()
    issued["issue_shares"] = issued["issue_shares"].mask(repeated)
    kind = names["基金类型"].astype("str")
    listed = etf_code(names["基金代码"])
    funds = pd.DataFrame(
        {
            "基金代码": names["基金代码"],
            "fund_code": listed.where(listed.isin(etfs), names["基金代码"] + ".OF"),
            "name": names["基金简称"],
            "fund_type": kind.str.partition("-")[0],
            "invest_type": kind.str.partition("-")[2],
            "is_active_equity": kind.isin(_ACTIVE),
        }
    )
    return funds.merge(issued.drop(columns="stem"), how="left", on="基金代码").drop(columns="基金代码")


def _without_class(name: str) -> str:
    return re.sub(r"[A-Z]$", "", name)


def active_funds(names: pd.DataFrame) -> list[str]:
    """Codes (six digits) of active equity funds, each fund once: classes B to Z hold what class A holds."""
    active = names["基金类型"].isin(_ACTIVE) & ~names["基金简称"].str.contains(r"[B-Z]$")
    return names.loc[active, "基金代码"].tolist()


def announced(frame: pd.DataFrame) -> Mapping[tuple[date, str], pd.Timestamp]:
    """When each report became public, by report date and scope, from `fund_announcement_report_em`.

    Quarterly reports have the scope top10, half-year and annual ones full. Notices about reports are no reports.
    """
    found: dict[tuple[date, str], pd.Timestamp] = {}
    for title, day in zip(frame["公告标题"].astype("str"), days(frame["公告日期"]), strict=True):
        key = _report(title)
        if key is not None and pd.notna(day):
            found[key] = min(day, found.get(key, day))
    return found


def _report(title: str) -> tuple[date, str] | None:
    year = re.search(r"(\d{4})年", title)
    if year is None or re.search("提示性|更正|摘要", title):
        return None
    y = int(year[1])
    if quarter := re.search(_QUARTER, title):
        q = _CHINESE.get(quarter[1]) or int(quarter[1])
        return quarter_end(y, q), "top10"
    if re.search(_MIDYEAR, title):
        return date(y, 6, 30), "full"
    return (date(y, 12, 31), "full") if re.search(_ANNUAL, title) else None


def quarter_end(year: int, quarter: int) -> date:
    """Last day of a quarter."""
    return pd.Period(year=year, quarter=quarter, freq="Q").end_time.date()


def full_report_due(report_date: date) -> date:
    """By when a half-year or annual report must be public: 62 or 91 days after its date."""
    return (pd.Timestamp(report_date) + pd.Timedelta(days=62 if report_date.month == 6 else 91)).date()


def holdings(frame: pd.DataFrame, code: str, reports: Mapping[tuple[date, str], pd.Timestamp]) -> pd.DataFrame:
    """fund_holding of one fund from `fund_portfolio_hold_em` (万元, percent), its `reports` dated by `announced`.

    The ten largest stocks are in the quarterly report, the others only in the half-year's or year's, public later. A
    full report without announcement counts from the day it had to be public. Codes that are no Chinese or Hong Kong
    stock are left out.
    """
    parts = frame["季度"].str.extract(r"(\d{4})年(\d)季度").astype("int64")
    report = pd.Series([quarter_end(y, q) for y, q in parts.itertuples(index=False)], frame.index, dtype=object)
    rank = frame["持仓市值"].groupby(report).rank(method="first", ascending=False)
    is_top = rank <= _TOP
    kinds = is_top.map({True: "top10", False: "full"})
    public = pd.Series(
        [reports.get(key, pd.NaT) for key in zip(report, kinds, strict=True)], frame.index, dtype="datetime64[us]"
    )
    latest = pd.Series([full_report_due(day) for day in report], frame.index, dtype="datetime64[us]")
    known = pd.Series(moments(latest, time.min), frame.index).where(~is_top & public.isna())
    rows = pd.DataFrame(
        {
            "fund_code": code + ".OF",
            "report_date": report,
            "announced_date": public,
            "stock_code": stock_code(frame["股票代码"]),
            "market_value": frame["持仓市值"].astype("float64") * 1e4,
            "nav_weight": frame["占净值比例"].astype("float64") / 100,
            "scope": kinds,
            "available_at": known,
        }
    )
    return rows.dropna(subset=["stock_code", "market_value"])


def holders(frame: pd.DataFrame, code: str, reports: Mapping[tuple[date, str], pd.Timestamp]) -> pd.DataFrame:
    """etf_holder of one fund from `fund_holders` (percent, 亿份). The day its page calls 公告日期 is the report's.

    Holdings of the fund company's staff are part of the individuals' and not told apart.
    """
    report = days(frame["公告日期"])
    public = [reports.get((day.date(), "full"), pd.NaT) for day in report]
    rows = []
    for holder, column in (("institution", "机构持有比例"), ("individual", "个人持有比例")):
        ratio = pd.to_numeric(frame[column].astype("str").str.removesuffix("%"), errors="coerce") / 100
        rows.append(
            pd.DataFrame(
                {
                    "etf_code": code,
                    "report_date": report,
                    "announced_date": pd.Series(public, frame.index, dtype="datetime64[us]"),
                    "holder": holder,
                    "ratio": ratio,
                    "shares": ratio * frame["总份额（亿份）"].astype("float64") * 1e8,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
