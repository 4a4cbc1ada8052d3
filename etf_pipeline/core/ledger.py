"""The ledger of holdings: what was published for each signal date, and every restatement of it since.

Here: which versions a new state of the holdings adds. Not here: storing them, and the holdings themselves.
Nothing in the ledger ever changes: a date published anew with other industries or weights gets a further version.
"""

from datetime import datetime

import pandas as pd

KEY = ["signal_date", "version", "rank"]
_CONTENT = ["rank", "industry_code", "weight"]


def new_versions(ledger: pd.DataFrame, holdings: pd.DataFrame, recorded_at: datetime) -> pd.DataFrame:
    """Rows to append to `ledger` so that its last versions say what `holdings` says; empty where they do already.

    Args:
        ledger: columns signal_date, version, event, recorded_at, rank, industry_code, industry_name, weight,
            settings_hash; `rank` 0 without industry marks a date whose holdings were withdrawn.
        holdings: signal_date, rank, industry_code, industry_name, weight, settings_hash; six rows a date, say.
        recorded_at: moment of the new versions; never before those in the ledger.

    Returns:
        Columns of `ledger`. `event` is "published" for a date's first version, "restated" for others and "withdrawn"
        for a date that has none any more. Settings alone changing is no restatement: what is held is compared.
    """
    last = ledger[ledger["version"] == ledger.groupby("signal_date")["version"].transform("max")]
    stated, current = _content(last[last["rank"] > 0]), _content(holdings)
    known = last.drop_duplicates("signal_date").set_index("signal_date")
    version = known["version"]
    gone = known.index[(known["event"] != "withdrawn") & ~known.index.isin(current.index)]
    changed = [day for day, content in current.items() if stated.get(day) != content]
    rows = holdings[holdings["signal_date"].isin(changed)]
    withdrawn = pd.DataFrame(
        {"signal_date": gone, "rank": 0, "weight": 0.0, "settings_hash": known.loc[gone, "settings_hash"].to_numpy()}
    )
    added = pd.concat([rows[[c for c in ledger.columns if c in rows.columns]], withdrawn], ignore_index=True)
    before = added["signal_date"].map(version).fillna(0).astype(int)
    event = pd.Series("published", index=added.index).mask(before > 0, "restated").mask(added["rank"] == 0, "withdrawn")
    moment = max([pd.Timestamp(recorded_at), *ledger["recorded_at"]])
    return added.assign(version=before + 1, event=event, recorded_at=moment)[list(ledger.columns)]


def first_versions(ledger: pd.DataFrame) -> pd.DataFrame:
    """What was held by whoever followed the publications: of each signal date the rows of its version 1."""
    return ledger[ledger["version"] == 1]


def differing_dates(before: pd.DataFrame, after: pd.DataFrame) -> pd.DatetimeIndex:
    """Signal dates at which two states of the holdings hold something else, or only one of them holds anything."""
    left, right = _content(before), _content(after)
    days = left.index.union(right.index)
    return pd.DatetimeIndex([day for day in days if left.get(day) != right.get(day)])


def _content(rows: pd.DataFrame) -> pd.Series:
    """What is held, by signal date, in a form that can be compared."""
    held: dict[pd.Timestamp, list[tuple[object, ...]]] = {}
    ordered = rows.sort_values(["signal_date", "rank"])[["signal_date", *_CONTENT]]
    for day, *one in ordered.itertuples(index=False, name=None):
        held.setdefault(day, []).append(tuple(one))
    return pd.Series({day: tuple(content) for day, content in held.items()}, dtype=object)
