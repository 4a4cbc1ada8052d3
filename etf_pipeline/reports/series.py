"""Numbers of charts, lean: rounded, shared between charts, long ones packed as 32-bit floats.

Here: how values get into the page. Not here: what is drawn from them.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

_PACK_FROM = 40  # below that many values base64 saves nothing over digits


def rounded(values: Iterable[float], digits: int) -> list[float | None]:
    """Values with `digits` decimals; what is not a finite number becomes None."""
    array = np.round(np.asarray(list(values), dtype=float), digits)
    return [float(value) if np.isfinite(value) else None for value in array]


def days(dates: Iterable[pd.Timestamp]) -> list[str]:
    """Dates as YYYY-MM-DD."""
    return [f"{day:%Y-%m-%d}" for day in dates]


def encoded(values: Iterable[float], digits: int) -> Any:
    """Numbers with `digits` decimals, packed where that is shorter than writing them out."""
    plain = rounded(values, digits)
    if len(plain) < _PACK_FROM:
        return plain
    packed = np.array([np.nan if value is None else value for value in plain], dtype="<f4")
    return {"f4": base64.b64encode(packed.tobytes()).decode("ascii")}


def _packed(moments: pd.DatetimeIndex) -> Any:
    """Ascending dates as the first and the days from each to the next, one byte each; others written out."""
    gaps = np.diff(moments.to_numpy().astype("datetime64[D]").astype(int))
    if len(gaps) < _PACK_FROM or gaps.min() < 0 or gaps.max() > 255:
        return days(moments)
    return {"from": f"{moments[0]:%Y-%m-%d}", "gaps": base64.b64encode(gaps.astype("u1").tobytes()).decode("ascii")}


@dataclass(frozen=True)
class Series:
    """Named values that charts refer to; the same name is never given two meanings."""

    values: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, values: Any) -> dict[str, str]:
        """Keep anything JSON can hold; returns the reference charts use."""
        if name in self.values and self.values[name] != values:
            raise ValueError(f"series {name} exists with other values")
        self.values[name] = values
        return {"$": name}

    def numbers(self, name: str, values: Iterable[float], digits: int) -> dict[str, str]:
        """Keep numbers with `digits` decimals."""
        return self.put(name, encoded(values, digits))

    def days(self, dates: Iterable[pd.Timestamp]) -> dict[str, str]:
        """Keep dates, once for all charts that share them."""
        moments = pd.DatetimeIndex(list(dates))
        written = days(moments)
        return self.put(f"days/{written[0]}/{written[-1]}/{len(written)}", _packed(moments))

    def shared(self, kind: str, place: str, values: Any) -> None:
        """Keep values under `kind/place`, as a pointer where equal ones stand under the same kind already."""
        for name, present in self.values.items():
            if name.startswith(f"{kind}/") and present == values:
                values = {"$": name}
                break
        self.put(f"{kind}/{place}", values)
