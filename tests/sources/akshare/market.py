"""A small market as the vendors' own pages show it: synthetic numbers in the real shapes, and in the vendors' units.

Written out here rather than shared with the adapter: a test that converts with the adapter's factors tests nothing.
"""

import io
import json
import math
from collections.abc import Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pandas as pd
from openpyxl import Workbook

from tests.sources.akshare.server import Reply

SHANGHAI = ZoneInfo("Asia/Shanghai")
JANUARY = [date(2026, 1, d) for d in (5, 6, 7, 8, 9, 12, 13, 14, 15, 16)]
SESSIONS = [
    day.date() for day in pd.bdate_range("2025-12-08", "2026-02-06") if f"{day:%m-%d}" not in ("01-01", "01-02")
]
NOW = datetime(2026, 1, 19, 12, 0, tzinfo=SHANGHAI)
"""A Monday: Friday's shares and NAVs are due, its margins too, Monday's bars are not."""

ETFS = {
    # code: name, EastMoney's type, tracked index as EastMoney writes it, shares in 万份, NAV
    "510050": ("上证50ETF", "指数型-股票", "上证50指数", 5_000_000.25, 3.0),
    "510300": ("沪深300ETF", "指数型-股票", "沪深300指数", 9_000_000.5, 4.0),
    "510500": ("中证500ETF", "指数型-股票", "中证小盘500指数", 1_500_000.0, 6.0),
    "512880": ("证券ETF", "指数型-股票", "中证全指证券公司指数", 3_000_000.0, 1.1),
    "588000": ("科创50ETF", "指数型-股票", "不认识的指数", 6_000_000.0, 1.0),
    "511880": ("银华日利ETF", "货币型-普通货币", "该基金无跟踪标的", 80_000.0, 100.0),
    "513100": ("纳指ETF", "指数型-海外股票", "纳斯达克100指数", 900_000.0, 1.5),
    "518880": ("黄金ETF", "商品（不含QDII）", "该基金无跟踪标的", 700_000.0, 6.0),
    "159915": ("创业板ETF", "指数型-股票", "创业板指数", 2_000_000.0, 2.5),
    "159919": ("沪深300ETF", "指数型-股票", "沪深300指数", 1_800_000.0, 4.1),
}
OTHERS = {
    "519702": ("交银趋势混合A", "混合型-偏股"),
    "000001": ("华夏成长混合", "混合型-偏股"),
    "000002": ("华夏成长混合C", "混合型-偏股"),
    "003956": ("南方现金通E", "货币型-普通货币"),
}
CSI_INDEXES = [
    ("000300", "沪深300", "沪深300指数"),
    ("000905", "中证500", "中证小盘500指数"),
    ("000852", "中证1000", "中证1000指数"),
    ("399975", "证券公司", "中证全指证券公司指数"),
    ("931151", "光伏产业", "中证光伏产业指数"),
]
STOCKS = [("600519", "上海证券交易所", 60.5), ("000001", "深圳证券交易所", 25.25), ("300750", "深圳证券交易所", 14.3)]


def of(day: date) -> int:
    """Sessions since 2026-01-05; negative before it."""
    return SESSIONS.index(day) - SESSIONS.index(JANUARY[0])


def shares(code: str, day: date) -> float:
    """Shares of an ETF after a session, in 万份."""
    return ETFS[code][3] + 100 * of(day)


def nav(code: str, day: date) -> float:
    return round(ETFS[code][4] * (1 + 0.01 * of(day)), 4)


def js(content: object) -> Reply:
    return Reply(json.dumps(content, ensure_ascii=False).encode(), content_type="application/json;charset=UTF-8")


def text(content: str, charset: str = "utf-8") -> Reply:
    return Reply(content.encode(charset), content_type="text/html")


def sheet(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Reply:
    """An Excel file. The vendors' .xls are read by the same pandas call, which goes by content."""
    book = Workbook()
    page = book.active
    assert page is not None
    for row in [header, *rows]:
        page.append(list(row))
    out = io.BytesIO()
    book.save(out)
    return Reply(out.getvalue(), content_type="application/vnd.ms-excel")


def in_range(first: str, last: str) -> list[date]:
    low, high = pd.Timestamp(first).date(), pd.Timestamp(last).date()
    return [day for day in SESSIONS if low <= day <= high]


def sse_shares(query: dict[str, str]) -> Reply:
    day = date.fromisoformat(query["STAT_DATE"])
    codes = [code for code in sorted(ETFS) if code[0] == "5"] if day in SESSIONS else []
    rows = [
        {
            "NUM": str(n),
            "SEC_CODE": code,
            "SEC_NAME": ETFS[code][0],
            "ETF_TYPE": "单市场",
            "STAT_DATE": f"{day}",
            "TOT_VOL": f"{shares(code, day):.2f}",
        }
        for n, code in enumerate(codes, 1)
    ]
    return js({"actionErrors": [], "pageHelp": {"pageSize": 10000, "total": len(rows)}, "result": rows})


def szse_shares(query: dict[str, str]) -> Reply:
    rows = [
        (f"{day}", code, ETFS[code][0], f"{shares(code, day) * 10_000:,.0f}")
        for day in reversed(in_range(query["txtStart"], query["txtEnd"]))
        for code in ETFS
        if code[0] == "1"
    ]
    return sheet(["日期", "基金代码", "基金简称", "基金规模(份)"], rows)


def sse_margin(query: dict[str, str]) -> Reply:
    day = pd.Timestamp(query["detailsDate"]).date()
    rows = [
        {
            "gpdm": None,
            "opDate": f"{day:%Y%m%d}",
            "rqchl": 100,
            "rqmcl": 2_300 + of(day),
            "rqyl": 45_600,
            "rqylje": None,
            "rqylse": None,
            "rzche": 11_000_000,
            "rzmre": 12_000_000 + of(day),
            "rzrqjyzl": None,
            "rzye": 1_300_000_000,
            "securityAbbr": name,
            "stockCode": code,
        }
        for code, name in (("510300", "沪深300ETF"), ("510050", "上证50ETF"), ("600519", "贵州茅台"))
        if day in SESSIONS
    ]
    return js({"pageHelp": {"total": len(rows)}, "result": rows})


def szse_margin(query: dict[str, str]) -> Reply:
    names = ["证券代码", "证券简称", "融资买入额(元)", "融资余额(元)", "融券卖出量(股/份)", "融券余量(股/份)"]
    header = [*names, "融券余额(元)", "融资融券余额(元)"]
    row = ("159915", "创业板ETF", "7,000,001", "800,000,002", "1,100", "22,200", "55,500", "800,055,502")
    stock = ("000001", "平安银行", "1,000", "2,000,000", "0", "100", "1,000", "2,001,000")
    return sheet(header, [row, stock] if date.fromisoformat(query["txtDate"]) in SESSIONS else [])


def overview(code: str) -> Reply:
    name, kind, index = (*ETFS[code][:3],) if code in ETFS else (*OTHERS[code], "该基金无跟踪标的")
    cells = [
        ("基金全称", name + "证券投资基金", "基金简称", name),
        ("基金代码", f"{code}（主代码）", "基金类型", kind),
        ("发行日期", "2012年04月05日", "成立日期/规模", "2012年05月04日 / 329.69亿份"),
        ("净资产规模", "100亿元（截止至：2025年12月31日）", "份额规模", "90.0亿份（截止至：2025年12月31日）"),
        ("基金管理人", "某某基金", "基金托管人", "某某银行"),
        ("基金经理人", "张三", "成立来分红", "每份累计0.10元（1次）"),
        ("管理费率", "0.15%（每年）", "托管费率", "0.05%（每年）"),
        ("销售服务费率", "---（每年）", "最高认购费率", "0.80%（前端）"),
        ("业绩比较基准", index, "跟踪标的", index),
    ]
    rows = "".join(f"<tr><th>{a}</th><td>{b}</td><th>{c}</th><td>{d}</td></tr>" for a, b, c, d in cells)
    page = f"<html><body><table><tr><td>菜单</td></tr></table><table class='info w790'>{rows}</table></body></html>"
    return text(page)


def lsjz(query: dict[str, str]) -> Reply:
    code, page = query["fundCode"], int(query["pageIndex"])
    days = in_range(query["startDate"], query["endDate"])[::-1]
    rows = [
        {
            "FSRQ": f"{day}",
            "DWJZ": f"{nav(code, day):.4f}",
            "LJJZ": f"{nav(code, day) + 0.5:.4f}",
            "SDATE": None,
            "ACTUALSYI": "",
            "NAVTYPE": "1",
            "JZZZL": "1.00",
            "SGZT": "场内买入",
            "SHZT": "场内卖出",
            "FHFCZ": "",
            "FHFCBZ": "",
            "DTYPE": None,
            "FHSP": "",
        }
        for day in days[20 * (page - 1) : 20 * page]
    ]
    data = {"LSJZList": rows, "FundType": "001", "SYType": None, "isNewType": False, "Feature": "010"}
    return js({"Data": data, "ErrCode": 0, "TotalCount": len(days), "PageSize": 20, "PageIndex": page})


def pingzhong(code: str) -> Reply:
    at = [int(datetime(day.year, day.month, day.day, tzinfo=SHANGHAI).timestamp() * 1000) for day in SESSIONS]
    unit = [
        {"x": x, "y": nav(code, day), "equityReturn": 1.0, "unitMoney": ""} for x, day in zip(at, SESSIONS, strict=True)
    ]
    total = [[x, round(nav(code, day) + 0.5, 4)] for x, day in zip(at, SESSIONS, strict=True)]
    page = f'/*2026-01-17*/var fS_name = "{ETFS[code][0]}";var fS_code = "{code}";'
    if ETFS[code][1].startswith("货币型"):
        return text(page + f"var Data_millionCopiesIncome = {json.dumps(total)};")
    return text(page + f"var Data_netWorthTrend = {json.dumps(unit)};var Data_ACWorthTrend = {json.dumps(total)};")


def kline(query: dict[str, str]) -> Reply:
    code = query["secid"].split(".")[1]
    if code not in ETFS:
        return js({"rc": 0, "data": None})
    if query["klt"] == "101":
        stamps = [f"{day}" for day in in_range(query["beg"], query["end"])]
    else:
        stamps = [f"{day} {at}" for day in JANUARY[-3:] for at in ("09:35", "09:40")]
    lines = []
    for stamp in stamps:
        price = nav(code, date.fromisoformat(stamp[:10]))
        lots = 1_000 + of(date.fromisoformat(stamp[:10]))
        money = round(lots * 100 * price, 2)
        lines.append(
            f"{stamp},{price:.3f},{price * 1.001:.3f},{price * 1.01:.3f},{price * 0.99:.3f},{lots},{money},"
            "1.5,0.1,0.001,0.2"
        )
    return js({"rc": 0, "data": {"code": code, "market": 1, "name": "x", "decimal": 3, "klines": lines}})


def csi_bars(query: dict[str, str]) -> Reply:
    code = query["indexCode"]
    days = in_range(query["startDate"], query["endDate"])
    if code not in {c for c, _, _ in CSI_INDEXES} | {"930950"} or not days:
        return js({"code": "200", "data": []})
    level = {"000300": 4000.0, "000852": 7000.0}.get(code, 1500.0)
    rows = [
        {
            "tradeDate": f"{day:%Y%m%d}",
            "indexCode": code,
            **dict.fromkeys(("indexNameCnAll", "indexNameCn", "indexNameEnAll", "indexNameEn"), "某指数"),
            "open": level - 1 + of(day),
            "high": level + 9 + of(day),
            "low": level - 9 + of(day),
            "close": level + of(day),
            "change": 1.0,
            "changePct": 0.25,
            "tradingVol": 17_000.5,  # 万手
            "tradingValue": 2_500.75,  # 亿元
            "consNumber": 300,
            "peg": 13.5,
        }
        for day in days
    ]
    # the trap: the first row carries the day that was asked for, session or not
    if pd.Timestamp(query["startDate"]).date() not in SESSIONS:
        rows.insert(0, {**rows[0], "tradeDate": query["startDate"]})
    return js({"code": "200", "msg": "Success", "data": rows})


def cni_bars(query: dict[str, str]) -> Reply:
    rows = [
        [f"{day}", 1, *(level + of(day) for level in (5009.0, 4999.0, 4991.0, 5000.0)), 1.0, "0.50%", 321.5, 2_000.0, 1]
        for day in reversed(in_range(query["startDate"], query["endDate"]))
    ]
    return js({"code": 200, "data": {"data": rows}})


def csi_weights(code: str) -> Reply | None:
    names = ["日期Date", "指数代码 Index Code", "指数名称 Index Name", "指数英文名称", "成份券代码Constituent Code"]
    header = [*names, "成份券名称", "成份券英文名", "交易所Exchange", "交易所英文名称", "权重(%)weight"]
    if code not in {c for c, _, _ in CSI_INDEXES}:
        return None
    rows = [
        (20251231, int(code), "某指数", "Some Index", int(stock), "某股票", "Some Stock", exchange, "Exchange", weight)
        for stock, exchange, weight in STOCKS
    ]
    return sheet(header, rows)


def cni_weights() -> Reply:
    header = ["日期", "样本代码", "样本简称", "所属行业", "总市值（亿元）", "权重（%）"]
    rows = [
        (day, stock, "某股票", "工业", 1234.5, weight)
        for day in ("2025-12-31", "2025-11-28")
        for stock, weight in (("300750", 70.0), ("300059", 29.95))
    ]
    return sheet(header, rows)


def csi_valuation(code: str) -> Reply | None:
    names = ["日期Date", "指数代码Index Code", "指数中文全称", "指数中文简称", "指数英文全称", "指数英文简称"]
    header = [
        *names,
        "市盈率1（总股本）P/E1",
        "市盈率2（计算用股本）P/E2",
        "股息率1（总股本）D/P1",
        "股息率2（计算用股本）D/P2",
    ]
    if code not in {c for c, _, _ in CSI_INDEXES}:
        return None
    rows = [
        (int(f"{day:%Y%m%d}"), int(code), "某指数", "某", "Some", "S", 12.5, 14.5, 2.75, 2.5)
        for day in reversed(JANUARY[-4:])
    ]
    return sheet(header, rows)


def csi_list() -> Reply:
    header = ["指数代码", "指数简称", "指数全称", "基日", "基点", "指数系列", "样本数量", "发布时间"]
    rows = [
        (code, short, full, "2004-12-31", 1000, "中证系列指数", 300, "2005-04-08") for code, short, full in CSI_INDEXES
    ]
    return sheet(header, rows)


def sw_stocks() -> Reply:
    rows = [
        ("000001", datetime(1991, 4, 3), "440101", datetime(2021, 7, 30)),
        ("000001", datetime(2014, 2, 21), "480101", datetime(2021, 7, 30)),
        ("000001", datetime(2021, 7, 30), "480301", datetime(2021, 7, 30)),
        ("600519", datetime(2001, 8, 27), "340301", datetime(2021, 7, 30)),
        ("600519", datetime(2021, 7, 30), "340501", datetime(2021, 7, 30)),
        ("300750", datetime(2018, 6, 11), "330301", datetime(2021, 7, 30)),
        ("300750", datetime(2021, 7, 30), "630701", datetime(2021, 7, 30)),
    ]
    return sheet(["股票代码", "计入日期", "行业代码", "更新日期"], rows)


def sw_bars(query: dict[str, str]) -> Reply:
    code = query["swindexcode"]
    rows = [
        {
            "swindexcode": code,
            "bargaindate": f"{day}",
            "openindex": 3000.0,
            "maxindex": 3100.0,
            "minindex": 2900.0,
            "closeindex": 3000.5 + of(day),
            "hike": 1.0,
            "markup": 0.1,
            "bargainamount": 12.5,
            "bargainsum": 150.5,
        }
        for day in SESSIONS
    ]
    return js({"code": "200", "message": "Success", "data": rows})


def distributions(query: dict[str, str]) -> Reply:
    dividends = query["dt"] == "8"
    var, rest = ("jjfh", "jjfh_jjgs") if dividends else ("jjcf", "jjcf_jjgs")
    rows: list[list[str]] = []
    if query["year"] == "2026":
        rows = (
            [
                ["510300", "华泰柏瑞沪深300ETF", "2026-01-08", "2026-01-09", "0.0880", "2026-01-15", "1"],
                ["519702", "交银趋势混合A", "2026-01-08", "2026-01-09", "0.5000", "2026-01-12", "1"],
            ]
            if dividends
            else [
                ["512880", "国泰中证全指证券公司ETF", "2026-01-12", "份额分拆", "2.0000", "1"],
                ["513100", "国泰纳斯达克100ETF", "2026-01-13", "份额折算", "暂未披露", "1"],
                ["000001", "华夏成长混合", "2026-01-13", "份额折算", "0.5000", "1"],
            ]
        )
    pages = math.ceil(len(rows) / 1000)
    return text(f"var pageinfo = [{pages},1000,1];var {var}_data={json.dumps(rows, ensure_ascii=False)};var {rest}=[];")


def fund_names() -> Reply:
    every = {**{code: (etf[0], etf[1]) for code, etf in ETFS.items()}, **OTHERS}
    rows = [[code, "PY", name, kind, "PINYIN"] for code, (name, kind) in sorted(every.items())]
    return text(f"var r = {json.dumps(rows, ensure_ascii=False)};")


def new_funds() -> Reply:
    def row(code: str, name: str, kind: str, issued: str, found: str) -> list[str]:
        told = [code, name, "某某基金", "1", kind, issued, found, "1.5", "张三", "开放申购", "2026-01-05～2026-01-16"]
        return [*told, *[""] * 7, "0.15%"]

    rows = [
        row("519702", "交银趋势混合A", "混合型-偏股", "12.50", "2010-12-22"),
        row("000001", "华夏成长混合", "混合型-偏股", "32.37", "2001-12-18"),
        row("000002", "华夏成长混合C", "混合型-偏股", "32.37", "2001-12-18"),
        row("159915", "创业板ETF", "指数型-股票", "8.0", "2011-09-20"),
    ]
    return text("var newfunddata={datas:" + json.dumps(rows, ensure_ascii=False) + ",record:'4',pages:'1',curpage:'1'}")


def holdings(query: dict[str, str]) -> str:
    if query["year"] != "2025" or query["code"] == "000001":
        return ""
    out = ""
    for quarter, count in ((4, 2), (2, 12)):
        rows = "".join(
            f"<tr><td>{n + 1}</td><td>{600_519 + n:06d}</td><td>某股票</td><td>股吧</td>"
            f"<td>{8.5 - 0.1 * n:.2f}%</td><td>1,000.50</td><td>{20_010.25 - n:,.2f}</td></tr>"
            for n in range(count - 1)
        )
        rows += "<tr><td>9</td><td>00700</td><td>腾讯控股</td><td>股吧</td>"
        rows += "<td>5.00%</td><td>10.00</td><td>4,000.00</td></tr>"
        heads = "<th>序号</th><th>股票代码</th><th>股票名称</th><th>相关资讯</th><th>占净值比例</th>"
        heads += "<th>持股数（万股）</th><th>持仓市值（万元）</th>"
        title = f"<a>某基金</a>&nbsp;&nbsp;2025年{quarter}季度股票投资明细"
        out += f"<h4 class='t'><label>{title}</label></h4>"
        out += f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return out


def holders(query: dict[str, str]) -> str:
    heads = ("公告日期", "机构持有比例", "个人持有比例", "内部持有比例", "总份额（亿份）")
    rows = (
        ("2025-06-30", "83.06%", "16.94%", "0.01%", "894.00"),
        ("2024-12-31", "79.40%", "20.60%", "0.00%", "607.50"),
    )
    if query["code"] not in ("510300", "159915"):
        return ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr></thead><tbody>{body}</tbody></table>"


def archives(query: dict[str, str]) -> Reply:
    content = holdings(query) if query["type"] == "jjcc" else holders(query)
    extra = "arryear:[2025,2024],curyear:2025" if query["type"] == "jjcc" else "summary:''"
    return text(f'var apidata={{ content:"{content}",{extra}}};')


def announcements(query: dict[str, str]) -> Reply:
    code = query["fundcode"]
    titles = {
        "某某基金2025年第4季度报告": "2026-01-17",
        "某某基金2025年第2季度报告": "2025-07-19",
        "关于旗下基金2025年中期报告提示性公告": "2025-08-28",
        "某某基金2025年中期报告": "2025-08-29",
        "某某基金2024年年度报告": "2025-03-28",
    }
    rows = [
        {
            "FUNDCODE": code,
            "TITLE": title,
            "ShortTitle": title,
            "NEWCATEGORY": "3",
            "PUBLISHDATE": f"{day}T00:00:00",
            "PUBLISHDATEDesc": day,
            "ATTACHTYPE": "0",
            "ID": f"AN{n}",
        }
        for n, (title, day) in enumerate(titles.items())
    ]
    return js({"Data": rows, "ErrCode": 0, "TotalCount": len(rows)})


def page(path: str, query: dict[str, str]) -> Reply | None:
    """The page at a path whose first part is the host."""
    host, _, rest = path.lstrip("/").partition("/")
    name = rest.rpartition("/")[2]
    if host == "query.sse.com.cn":
        return sse_margin(query) if name == "queryMargin.do" else sse_shares(query)
    if host == "www.szse.cn":
        return szse_margin(query) if query["CATALOGID"] == "1837_xxpl" else szse_shares(query)
    if host == "fundf10.eastmoney.com":
        if name == "FundArchivesDatas.aspx":
            return archives(query)
        return overview(name.removeprefix("jbgk_").removesuffix(".html"))
    if host == "api.fund.eastmoney.com":
        return announcements(query) if name == "JJGG" else lsjz(query)
    if host == "push2his.eastmoney.com":
        return kline(query)
    if host == "fund.eastmoney.com":
        pages = {"fundcode_search.js": fund_names, "FundNewIssue.aspx": new_funds}
        if name in pages:
            return pages[name]()
        return distributions(query) if "dt" in query else pingzhong(name.removesuffix(".js"))
    if host == "www.csindex.com.cn":
        return csi_bars(query) if name == "index-perf" else csi_list()
    if host == "oss-ch.csindex.com.cn":
        if name.endswith("closeweight.xls"):
            return csi_weights(name.removesuffix("closeweight.xls"))
        return csi_valuation(name.removesuffix("indicator.xls"))
    if host == "www.cnindex.com.cn":
        return cni_weights()
    if host == "hq.cnindex.com.cn":
        return cni_bars(query)
    return sw_bars(query) if "swindexcode" in query else sw_stocks()
