"""Whether datasets speak of the same instruments: codes of one that another should know.

Every code may be well formed and yet of another vocabulary than the file beside it; then nothing would be found, and
nothing be wrong. Here: comparing sets of codes. Not here: how a single code is written (`vocabulary.py`).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

LEAST_KNOWN = 0.5
"""Part of the codes of an exchange that has to be known; of real files 97 % are, of a wrong suffix none."""
_LEAST_CODES = 10
"""Of fewer codes of an exchange nothing is said but together with the others."""
_EXCHANGES = (".SH", ".SZ", ".BJ")


class Pair(NamedTuple):
    """Codes of a dataset that another one should know."""

    dataset: str
    column: str
    known_to: str


PAIRS = (
    Pair("index_weight", "stock_code", "stock_industry"),
    Pair("etf_share", "etf_code", "etf_info"),
    Pair("etf_nav", "etf_code", "etf_info"),
    Pair("etf_bar", "etf_code", "etf_info"),
)


def strangers(pair: Pair, codes: Collection[str], known: Collection[str]) -> Iterator[str]:
    """What is wrong where too few of the A-share `codes` are `known`, of all or of an exchange; else nothing."""
    known = set(known)
    listed = sorted(code for code in set(codes) if code.endswith(_EXCHANGES))
    groups = [("", listed), *((suffix, [c for c in listed if c.endswith(suffix)]) for suffix in _EXCHANGES)]
    for suffix, group in groups:
        unknown = [code for code in group if code not in known]
        few = suffix and len(group) < _LEAST_CODES
        if group and not few and len(unknown) > (1 - LEAST_KNOWN) * len(group):
            which = f"with suffix {suffix}" if suffix else "of A shares"
            count, first = f"{len(group) - len(unknown)} of {len(group)}", ", ".join(unknown[:3])
            yield (
                f"{pair.dataset}: only {count} codes in `{pair.column}` {which} are in {pair.known_to}; not there: "
                f"{first}. Write the codes of both in the same way, or complete {pair.known_to}"
            )
            return


def unknown_to_all(indices: Mapping[str, Collection[str]]) -> Iterator[str]:
    """What is wrong where no index of `index_weight` is one that an ETF of `etf_info` tracks; else nothing."""
    weighted, tracked = set(indices["index_weight"]), set(indices["etf_info"])
    if weighted and tracked and not weighted & tracked:
        theirs, ours = ", ".join(sorted(weighted)[:3]), ", ".join(sorted(tracked)[:3])
        yield (
            f"index_weight: none of its {len(weighted)} indices ({theirs}) is tracked by an ETF of etf_info ({ours}). "
            "Write the codes of both in the same way, or bring the weights of indices that ETFs track"
        )
