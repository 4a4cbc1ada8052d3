"""What exists in the made-up market: industries, indices, and the special cases placed at fixed dates.

Names and codes follow the real A-share market so that outputs read naturally; every number behind them is simulated.
"""

from dataclasses import dataclass
from typing import Final, Literal

CITIC: dict[str, str] = {
    "CI005001": "石油石化",
    "CI005002": "煤炭",
    "CI005003": "有色金属",
    "CI005004": "电力及公用事业",
    "CI005005": "钢铁",
    "CI005006": "基础化工",
    "CI005007": "建筑",
    "CI005008": "建材",
    "CI005009": "轻工制造",
    "CI005010": "机械",
    "CI005011": "电力设备及新能源",
    "CI005012": "国防军工",
    "CI005013": "汽车",
    "CI005014": "商贸零售",
    "CI005015": "消费者服务",
    "CI005016": "家电",
    "CI005017": "纺织服装",
    "CI005018": "医药",
    "CI005019": "食品饮料",
    "CI005020": "农林牧渔",
    "CI005021": "银行",
    "CI005022": "非银行金融",
    "CI005023": "房地产",
    "CI005024": "交通运输",
    "CI005025": "电子",
    "CI005026": "通信",
    "CI005027": "计算机",
    "CI005028": "传媒",
    "CI005029": "综合",
    "CI005030": "综合金融",
}

SW: dict[str, str] = {
    "801010.SI": "农林牧渔",
    "801030.SI": "基础化工",
    "801040.SI": "钢铁",
    "801050.SI": "有色金属",
    "801080.SI": "电子",
    "801110.SI": "家用电器",
    "801120.SI": "食品饮料",
    "801130.SI": "纺织服饰",
    "801140.SI": "轻工制造",
    "801150.SI": "医药生物",
    "801160.SI": "公用事业",
    "801170.SI": "交通运输",
    "801180.SI": "房地产",
    "801200.SI": "商贸零售",
    "801210.SI": "社会服务",
    "801230.SI": "综合",
    "801710.SI": "建筑材料",
    "801720.SI": "建筑装饰",
    "801730.SI": "电力设备",
    "801740.SI": "国防军工",
    "801750.SI": "计算机",
    "801760.SI": "传媒",
    "801770.SI": "通信",
    "801780.SI": "银行",
    "801790.SI": "非银金融",
    "801880.SI": "汽车",
    "801890.SI": "机械设备",
    "801950.SI": "煤炭",
    "801960.SI": "石油石化",
    "801970.SI": "环保",
    "801980.SI": "美容护理",
}

# one line per CITIC industry: stocks, median size against the market, growth (+) or value (−) loading, Shenwan names;
# with two Shenwan names every third stock takes the second
INDUSTRIES: dict[str, tuple[int, float, float, tuple[str, ...]]] = {
    "石油石化": (20, 2.5, -0.9, ("石油石化",)),
    "煤炭": (22, 1.6, -1.0, ("煤炭",)),
    "有色金属": (32, 1.1, 0.0, ("有色金属",)),
    "电力及公用事业": (36, 1.2, -0.8, ("公用事业", "环保")),
    "钢铁": (22, 1.0, -0.8, ("钢铁",)),
    "基础化工": (48, 0.8, 0.1, ("基础化工",)),
    "建筑": (26, 1.1, -0.8, ("建筑装饰",)),
    "建材": (20, 0.8, -0.3, ("建筑材料",)),
    "轻工制造": (20, 0.5, 0.0, ("轻工制造",)),
    "机械": (46, 0.7, 0.3, ("机械设备",)),
    "电力设备及新能源": (42, 1.1, 0.9, ("电力设备",)),
    "国防军工": (24, 1.1, 0.5, ("国防军工",)),
    "汽车": (34, 1.0, 0.3, ("汽车",)),
    "商贸零售": (22, 0.6, -0.2, ("商贸零售", "美容护理")),
    "消费者服务": (18, 0.8, 0.2, ("社会服务",)),
    "家电": (20, 1.2, -0.3, ("家用电器",)),
    "纺织服装": (18, 0.5, -0.3, ("纺织服饰",)),
    "医药": (54, 1.1, 0.7, ("医药生物",)),
    "食品饮料": (30, 2.0, 0.2, ("食品饮料",)),
    "农林牧渔": (20, 0.9, 0.0, ("农林牧渔",)),
    "银行": (28, 9.0, -1.4, ("银行",)),
    "非银行金融": (30, 4.0, -0.4, ("非银金融",)),
    "房地产": (24, 0.9, -0.7, ("房地产",)),
    "交通运输": (28, 1.3, -0.7, ("交通运输",)),
    "电子": (58, 1.2, 1.2, ("电子",)),
    "通信": (26, 1.2, 0.7, ("通信",)),
    "计算机": (42, 0.8, 1.0, ("计算机",)),
    "传媒": (28, 0.7, 0.5, ("传媒",)),
    "综合": (10, 0.4, 0.0, ("综合",)),
    "综合金融": (8, 0.8, 0.0, ("非银金融",)),
}

HONG_KONG: dict[str, str] = {
    "00700.HK": "传媒",
    "09988.HK": "商贸零售",
    "03690.HK": "消费者服务",
    "01810.HK": "电子",
    "09618.HK": "商贸零售",
    "01024.HK": "传媒",
    "09999.HK": "传媒",
    "00981.HK": "电子",
    "01347.HK": "电子",
    "00992.HK": "计算机",
    "01211.HK": "汽车",
    "02015.HK": "汽车",
    "02269.HK": "医药",
    "06160.HK": "医药",
    "00941.HK": "通信",
    "00883.HK": "石油石化",
    "00939.HK": "银行",
    "02318.HK": "非银行金融",
}


@dataclass(frozen=True)
class IndexSpec:
    """One index: how it picks constituents, since when, and how many ETFs track it (`old` of them before 2015)."""

    code: str
    name: str
    kind: Literal["broad", "industry", "style", "theme"]
    picks: str
    trackers: int = 0
    old: int = 0
    enhanced: int = 0
    first: str = "2014-12-31"
    base: float = 1000.0
    weights: bool = True
    weights_until: str | None = None
    rounded: bool = False
    hong_kong: bool = False


_B: Final = "broad"
_I: Final = "industry"
_S: Final = "style"
_T: Final = "theme"

# `picks` is a small language read by market.py: a board, a rank range, or industries with how many stocks of each
INDICES: tuple[IndexSpec, ...] = (
    IndexSpec("000300.SH", "沪深300", _B, "all 0 150", 9, 7, 2, base=3600, rounded=True),
    IndexSpec("000905.SH", "中证500", _B, "all 150 300", 6, 4, 1, base=5300, rounded=True),
    IndexSpec("000852.SH", "中证1000", _B, "all 300 480", 5, 1, 1, base=6000),
    IndexSpec("000016.SH", "上证50", _B, "SH 0 50", 3, 3, base=2500),
    IndexSpec("000010.SH", "上证180", _B, "SH 0 100", 2, 2, base=7600),
    IndexSpec("000688.SH", "科创50", _B, "STAR 0 50", 5, 0, first="2019-12-31", base=1000),
    IndexSpec("399006.SZ", "创业板指", _B, "GEM 0 60", 5, 2, 1, base=1500),
    IndexSpec("399330.SZ", "深证100", _B, "SZ 0 60", 2, 2, base=3900),
    IndexSpec("000510.CSI", "中证A500", _B, "all 0 240", 5, 0, 1, first="2024-09-23", base=4000),
    IndexSpec("932000.CSI", "中证2000", _B, "all 480 720", 3, 0, first="2023-08-11", base=2300),
    IndexSpec("930931.CSI", "沪深港500", _B, "all 0 120", 2, 0, hong_kong=True),
    IndexSpec("399439.SZ", "国证油气", _I, "石油石化:20 电力及公用事业:6 基础化工:8", 2, 1),
    IndexSpec("399998.SZ", "中证煤炭", _I, "煤炭:22 钢铁:5", 2),
    IndexSpec("000819.SH", "有色金属", _I, "有色金属:32 基础化工:6", 3, 1, base=3000),
    IndexSpec("H30199.CSI", "中证电力", _I, "电力及公用事业:30 煤炭:5", 3, 1),
    IndexSpec("930606.CSI", "中证钢铁", _I, "钢铁:22 有色金属:6", 2),
    IndexSpec("000813.CSI", "细分化工", _I, "基础化工:36 石油石化:6", 3, 2),
    IndexSpec("930608.CSI", "中证基建", _I, "建筑:24 建材:8 机械:6", 2, 1),
    IndexSpec("931009.CSI", "建筑材料", _I, "建材:20 轻工制造:8", 2),
    IndexSpec("000812.CSI", "细分机械", _I, "机械:34 电力设备及新能源:8", 2, 1),
    IndexSpec("399808.SZ", "中证新能", _I, "电力设备及新能源:34 有色金属:8", 3, 1),
    IndexSpec("399967.SZ", "中证军工", _I, "国防军工:24 电子:8 机械:6", 4, 2, base=9000),
    IndexSpec("931008.CSI", "中证汽车", _I, "汽车:32 电力设备及新能源:6", 2),
    IndexSpec("H30165.CSI", "商贸零售", _I, "商贸零售:20 轻工制造:6", 1),
    IndexSpec("930633.CSI", "中证旅游", _I, "消费者服务:18 交通运输:8", 2),
    IndexSpec("930697.CSI", "家用电器", _I, "家电:20 电子:5", 2, 1),
    IndexSpec("000933.SH", "中证医药", _I, "医药:44", 4, 4, base=7000),
    IndexSpec("000807.CSI", "食品饮料", _I, "食品饮料:28 农林牧渔:4", 3, 2, base=6000),
    IndexSpec("000949.CSI", "中证农业", _I, "农林牧渔:20 食品饮料:5 基础化工:5", 2, 1),
    IndexSpec("399986.SZ", "中证银行", _I, "银行:28", 4, 3, base=5500, rounded=True),
    IndexSpec("399975.SZ", "证券公司", _I, "非银行金融:28 综合金融:4", 4, 3),
    IndexSpec("931775.CSI", "中证房地产", _I, "房地产:24 建筑:4", 2, 1),
    IndexSpec("930716.CSI", "中证物流", _I, "交通运输:26 商贸零售:4", 2, 1),
    IndexSpec("930652.CSI", "CS电子", _I, "电子:45", 3, 2),
    IndexSpec("931160.CSI", "通信设备", _I, "通信:26 电子:10", 3),
    IndexSpec("930651.CSI", "CS计算机", _I, "计算机:38 传媒:4", 3, 2),
    IndexSpec("399971.SZ", "中证传媒", _I, "传媒:28 计算机:8", 2, 1),
    IndexSpec("399989.SZ", "中证医疗", _T, "医药:30", 3, 0, base=6000),
    IndexSpec("399997.SZ", "中证白酒", _T, "食品饮料:16", 2, 0, base=3000),
    IndexSpec("990001.CSI", "中华半导体芯片", _T, "电子:30 电力设备及新能源:4 机械:4", 4, 0),
    IndexSpec("399976.SZ", "新能源车", _T, "电力设备及新能源:18 汽车:14 有色金属:8", 3, 0, rounded=True),
    IndexSpec("931151.CSI", "光伏产业", _T, "电力设备及新能源:26 机械:8 建材:4", 3),
    IndexSpec("930713.CSI", "人工智能", _T, "计算机:20 电子:14 通信:8", 3),
    IndexSpec("H30590.CSI", "机器人", _T, "机械:20 计算机:10 家电:5 电力设备及新能源:8", 3),
    IndexSpec("930851.CSI", "云计算", _T, "计算机:22 通信:10 传媒:6", 2),
    IndexSpec("930707.CSI", "中证畜牧", _T, "农林牧渔:18 医药:4", 2, weights_until="2023-06-30"),
    IndexSpec("931637.CSI", "沪港深互联网", _T, "传媒:12 计算机:12", 2, hong_kong=True),
    IndexSpec("931409.CSI", "沪港深科技龙头", _T, "电子:14 医药:10 电力设备及新能源:8", 1, hong_kong=True),
    IndexSpec("931152.CSI", "创新药", _T, "医药:25", 2, weights=False),
    IndexSpec("930901.CSI", "动漫游戏", _T, "传媒:20", 2, weights=False),
    IndexSpec("931719.CSI", "电池主题", _T, "电力设备及新能源:22 基础化工:6", 2, weights=False),
    IndexSpec("931087.CSI", "科技龙头", _T, "电子:14 计算机:10 医药:8 通信:6", 1, weights=False),
    IndexSpec("000015.SH", "上证红利", _S, "dividend 50 SH", 1, 1, base=2700),
    IndexSpec("000922.CSI", "中证红利", _S, "dividend 100 all", 4, 1, base=4000, rounded=True),
    IndexSpec("930955.CSI", "红利低波100", _S, "lowvol 100 all", 3),
    IndexSpec("000918.SH", "300成长", _S, "growth 60 all", 2, 1, base=3800),
    IndexSpec("000919.SH", "300价值", _S, "value 60 all", 2, 1, base=3500),
    IndexSpec("399370.SZ", "国证成长", _S, "growth 110 all", 1, base=4200),
    IndexSpec("399371.SZ", "国证价值", _S, "value 110 all", 1, base=4100),
)

BURST_INDICES = ("000300.SH", "000016.SH", "000905.SH", "000852.SH", "399006.SZ")
# first day, last day, share of the outstanding shares created each day
BURSTS: tuple[tuple[str, str, float], ...] = (
    ("2015-07-06", "2015-07-10", 0.030),
    ("2015-08-26", "2015-09-02", 0.015),
    ("2018-10-19", "2018-10-31", 0.012),
    ("2022-10-24", "2022-11-04", 0.008),
    ("2023-10-23", "2023-11-03", 0.012),
    ("2024-01-15", "2024-02-08", 0.020),
    ("2025-04-07", "2025-04-11", 0.035),
    ("2026-01-15", "2026-01-30", -0.030),
)

SHORT_FILE_DAYS = ("2017-08-22", "2020-11-13", "2023-05-18", "2026-06-08", "2026-08-10")
"""Sessions on which about 30 % of the ETFs have a row in etf_share; 2020-11-13 is a week end."""
NO_SHARE_DAYS = ("2018-07-12", "2022-09-21")
"""Sessions without any row in etf_share."""

# tracked index, which of its trackers by age, ex-date, new shares per old, whether etf_split has the row
SPLITS: tuple[tuple[str, int, str, float, bool], ...] = (
    ("000933.SH", 0, "2015-06-08", 2.0, True),
    ("399006.SZ", 0, "2016-03-14", 2.0, True),
    ("000819.SH", 0, "2017-09-11", 0.5, True),
    ("399967.SZ", 0, "2018-05-21", 2.0, True),
    ("399986.SZ", 0, "2019-04-15", 3.0, True),
    ("000807.CSI", 0, "2020-07-13", 5.0, True),
    ("930652.CSI", 0, "2021-03-08", 2.0, False),
    ("399975.SZ", 0, "2021-07-12", 2.0, True),
    ("990001.CSI", 0, "2022-08-15", 0.5, True),
    ("000300.SH", 3, "2023-09-18", 2.0, True),
    ("399989.SZ", 0, "2024-03-11", 0.5, True),
    ("000905.SH", 1, "2024-11-18", 3.0, False),
    ("399986.SZ", 1, "2025-07-07", 2.0, True),
    ("399998.SZ", 0, "2025-08-04", 2.0, True),
    ("000688.SH", 1, "2026-08-17", 2.0, True),
)

# tracked index, which tracker, ex-date, share of NAV paid
DIVIDENDS: tuple[tuple[str, int, str, float], ...] = (
    ("000300.SH", 0, "2015-01-19", 0.012),
    ("000300.SH", 0, "2017-01-16", 0.020),
    ("000300.SH", 0, "2019-01-18", 0.015),
    ("000300.SH", 0, "2021-01-18", 0.018),
    ("000300.SH", 0, "2023-01-16", 0.017),
    ("000300.SH", 0, "2025-06-18", 0.022),
    ("000016.SH", 0, "2015-11-23", 0.021),
    ("000016.SH", 0, "2018-12-03", 0.019),
    ("000016.SH", 0, "2022-12-01", 0.014),
    ("000010.SH", 0, "2016-12-12", 0.025),
    ("000015.SH", 0, "2018-01-22", 0.040),
    ("000015.SH", 0, "2020-01-20", 0.045),
    ("000922.CSI", 0, "2022-06-20", 0.046),
    ("000922.CSI", 0, "2023-06-19", 0.050),
    ("000922.CSI", 1, "2024-09-23", 0.011),
    ("000905.SH", 0, "2017-12-18", 0.010),
    ("399986.SZ", 0, "2024-12-16", 0.035),
    ("399006.SZ", 1, "2021-12-20", 0.030),
)

# tracked index, which tracker, first day no longer listed
CLOSURES: tuple[tuple[str, int, str], ...] = (
    ("000300.SH", 6, "2017-11-20"),
    ("000905.SH", 3, "2018-09-10"),
    ("399330.SZ", 1, "2019-12-16"),
    ("000933.SH", 2, "2020-04-20"),
    ("000010.SH", 1, "2022-06-27"),
    ("399975.SZ", 1, "2023-11-06"),
    ("930652.CSI", 1, "2024-08-19"),
)

# name, code, scope, tracked index
OTHER_ETFS: tuple[tuple[str, str, str, str | None], ...] = (
    ("510900.SH", "恒生国企ETF", "crossBorderStockEtf", "HSCEI.HI"),
    ("159920.SZ", "恒生ETF", "crossBorderStockEtf", "HSI.HI"),
    ("513100.SH", "纳指ETF", "crossBorderStockEtf", "NDX.GI"),
    ("513500.SH", "标普500ETF", "crossBorderStockEtf", "SPX.GI"),
    ("513050.SH", "中概互联网ETF", "crossBorderStockEtf", "H30533.CSI"),
    ("513180.SH", "恒生科技ETF", "crossBorderStockEtf", "HSTECH.HI"),
    ("513520.SH", "日经ETF", "crossBorderStockEtf", "N225.GI"),
    ("513030.SH", "德国ETF", "crossBorderStockEtf", "GDAXI.GI"),
    ("159941.SZ", "纳斯达克ETF", "crossBorderStockEtf", "NDX.GI"),
    ("159605.SZ", "中概互联ETF", "crossBorderStockEtf", "H30533.CSI"),
    ("511010.SH", "国债ETF", "bondEtf", None),
    ("511260.SH", "十年国债ETF", "bondEtf", None),
    ("511030.SH", "公司债ETF", "bondEtf", None),
    ("159972.SZ", "地方债ETF", "bondEtf", None),
    ("518880.SH", "黄金ETF", "commodityEtf", None),
    ("159934.SZ", "黄金9999ETF", "commodityEtf", None),
    ("159985.SZ", "豆粕ETF", "commodityEtf", None),
    ("511880.SH", "货币ETF甲", "moneyEtf", None),
    ("511990.SH", "货币ETF乙", "moneyEtf", None),
    ("159001.SZ", "货币ETF丙", "moneyEtf", None),
    ("511660.SH", "货币ETF丁", "moneyEtf", None),
)

FIXED_CODES: dict[tuple[str, int], str] = {
    ("000300.SH", 0): "510300.SH",
    ("399006.SZ", 0): "159915.SZ",
    ("000905.SH", 0): "510500.SH",
    ("000852.SH", 0): "512100.SH",
    ("000016.SH", 0): "510050.SH",
    ("000688.SH", 0): "588000.SH",
}

THEME_INDUSTRY: dict[str, tuple[str, str]] = {
    "创新药": ("医药", "医药生物"),
    "动漫游戏": ("传媒", "传媒"),
    "电池主题": ("电力设备及新能源", "电力设备"),
    "中证医疗": ("医药", "医药生物"),
    "中证白酒": ("食品饮料", "食品饮料"),
    "中华半导体芯片": ("电子", "电子"),
    "中证畜牧": ("农林牧渔", "农林牧渔"),
    "光伏产业": ("电力设备及新能源", "电力设备"),
    "中证银行": ("银行", "银行"),
    "证券公司": ("非银行金融", "非银金融"),
    "中证军工": ("国防军工", "国防军工"),
    "中证煤炭": ("煤炭", "煤炭"),
}
