"""Codes and labels under the one spelling that is used here: only what is certain is rewritten, the rest is refused."""

import re
from collections.abc import Callable

import pandas as pd

from etf_pipeline.contract import Column

EXCHANGES = {
    "SH": ("SH", "SS", "SSE", "SHSE", "XSHG", "上海", "上交所", "上海证券交易所", "沪市"),
    "SZ": ("SZ", "SZSE", "XSHE", "深圳", "深交所", "深圳证券交易所", "深市"),
    "BJ": ("BJ", "BSE", "XBSE", "北京", "北交所", "北京证券交易所"),
    "HK": ("HK", "HKEX", "XHKG", "香港", "港交所", "香港联合交易所"),
}
"""What an exchange is called, by its suffix here."""

INDEX_COLUMN = "index_code"
_TWINS = ("300", "852", *map(str, range(903, 923)), "925", *map(str, range(928, 938)))
"""CSI indices 000… that Shenzhen also lists, as 399…, by their last three digits."""
_AS_CSI = (
    *("171", "510", "806", "807", "811", "812", "813", "815", "821", "824", "825", "859", "860", "861"),
    *("922", "941", "945", "948", "949", "977", "995"),
)
"""Indices 000… that vendors list under .CSI; the other twins are used under .SH."""

SERIES = {
    "stock_code": {"SH": r"[69]\d{5}", "SZ": r"[023]\d{5}", "BJ": r"[489]\d{5}", "HK": r"\d{5}"},
    "etf_code": {"SH": r"5\d{5}", "SZ": r"1\d{5}"},
}
"""By column: the numbers of an exchange."""

_SUFFIX_OF = {name: suffix for suffix, names in EXCHANGES.items() for name in names}
_LATIN = sorted((name for name in _SUFFIX_OF if name.isascii()), key=len, reverse=True)
_PREFIXED = re.compile(rf"({'|'.join(_LATIN)})\.?(\d{{5,6}})")


def exchange_suffix(name: object) -> str | None:
    """Suffix of an exchange by any of its names, such as SH for 上交所; None if it is none."""
    return _SUFFIX_OF.get(str(name).strip().upper())


def normalised_codes(values: pd.Series, column: str, exchange: pd.Series | str | None = None) -> pd.Series:
    """The codes of a column (text or missing) as they are written here; what cannot be told stays as it is.

    Suffix and prefix in any case and of any name (`600000.XSHG`, `sh600000`), `h11059.CSI`, industries with a
    vendor's suffix, and an index under its other code (399300.SZ for 000300.SH). A bare number gets the suffix of its
    `exchange`, named by row or for all.
    """
    if exchange is None:
        return _mapped(values, lambda text: _code(text, column, None))
    if isinstance(exchange, str):
        suffix = exchange_suffix(exchange)
        return _mapped(values, lambda text: _code(text, column, suffix))
    both = values.astype(object) + "\n" + exchange.astype(object).map(str, na_action="ignore").fillna("")
    return _mapped(both, lambda text: _code(text.split("\n")[0], column, exchange_suffix(text.split("\n")[1])))


def in_series(codes: pd.Series, column: str) -> pd.Series:
    """Whether each code has a number of its exchange; true of exchanges and columns whose numbers say nothing."""
    fine = pd.Series(True, codes.index)
    for suffix, number in SERIES.get(column, {}).items():
        ends = codes.str.endswith(f".{suffix}").fillna(False).astype(bool)
        fine &= ~ends | codes.str.fullmatch(rf"{number}\.{suffix}").fillna(False).astype(bool)
    return fine


def normalised_labels(column: Column, values: pd.Series) -> pd.Series:
    """The labels of a column (text or missing) as the contract writes them; words it does not know stay."""
    if column.allowed is None:
        return values
    words = {spelling.casefold(): word for word, others in column.allowed.items() for spelling in (word, *others)}
    return _mapped(values, lambda text: words.get(text.strip().casefold(), text))


def _mapped(values: pd.Series, change: Callable[[str], str]) -> pd.Series:
    """Texts changed one by one, each distinct text once."""
    changed = {text: change(text) for text in values.dropna().unique() if isinstance(text, str)}
    if all(text == new for text, new in changed.items()):
        return values
    return values.map(changed).astype(values.dtype)


def _code(text: str, column: str, suffix: str | None) -> str:
    code = text.strip()
    if prefixed := _PREFIXED.fullmatch(code.upper()):
        code = f"{prefixed[2]}.{_SUFFIX_OF[prefixed[1]]}"
    elif "." in code:
        stem, _, ending = code.rpartition(".")
        stem = stem.upper() if re.fullmatch(r"[hn]\d{5}|ci\d{6}", stem) else stem
        code = f"{stem}.{_SUFFIX_OF.get(ending.upper(), ending.upper())}"
    elif suffix and re.fullmatch(r"\d{1,6}", code):
        code = f"{code.zfill(5 if suffix == 'HK' else 6)}.{suffix}"
    if column == INDEX_COLUMN:
        return _index(code)
    return _industry(code) if column == "industry_code" else code


def _index(code: str) -> str:
    if re.fullmatch(r"\d{1,6}|[HN]\d{5}", code.upper()):
        # a bare number of a series that one publisher has; spreadsheets drop zeros in front
        code = code.zfill(6)
        series = {"000": "SH", "399": "SZ", "930": "CSI", "931": "CSI", "932": "CSI", "H30": "CSI", "H11": "CSI"}
        code = f"{code}.{suffix}" if (suffix := series.get(code[:3].upper())) else code
    found = re.fullmatch(r"(000|399)(\d{3})\.(SH|SZ|CSI)", code)
    if found is None:
        return code
    family, number, suffix = found.groups()
    if family == "399" and number not in _TWINS:
        return f"399{number}.SZ" if suffix == "CSI" else code
    is_known = number in _TWINS or number in _AS_CSI
    if not is_known or (family, suffix) in (("399", "SH"), ("000", "SZ")):
        return code
    return f"000{number}.{'CSI' if number in _AS_CSI else 'SH'}"


def _industry(code: str) -> str:
    if found := re.fullmatch(r"(CI\d{6})(\.(WI|CI))?", code.upper()):
        return found[1]
    return f"{code}.SI" if re.fullmatch(r"801\d{3}", code) else code
