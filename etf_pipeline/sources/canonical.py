"""The gate in front of the lake: a frame becomes canonical or is refused.

Here: what the contract says about any frame, whatever source it came from. Not here: reading files or calling vendors.
"""

import pandas as pd

from etf_pipeline.contract import AVAILABLE_AT, Dataset, KnownFrom
from etf_pipeline.core.calendar import moments, sessions_after


def with_available_at(dataset: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `available_at` (UTC) filled from the contract's default lag where it is absent or empty.

    Reference datasets without a lag are returned as they are.
    """
    if dataset.known_from is None:
        return frame
    default = _default_available_at(dataset.known_from, frame)
    given = frame[AVAILABLE_AT] if AVAILABLE_AT in frame else pd.Series(pd.NaT, frame.index, dtype=default.dtype)
    return frame.assign(**{AVAILABLE_AT: given.fillna(default)})


def _default_available_at(rule: KnownFrom, frame: pd.DataFrame) -> pd.Series:
    known = pd.Series(moments(sessions_after(frame[rule.column], rule.sessions), rule.time), index=frame.index)
    if rule.otherwise is not None:
        known = known.fillna(_default_available_at(rule.otherwise, frame))
    return known
