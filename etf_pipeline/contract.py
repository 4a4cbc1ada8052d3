"""The data contract as objects: which datasets there are, their columns, units, keys and rules.

Read from `contract.yaml`, the only home of these facts. The gate in front of the lake
(`sources/canonical.py`) and the Great Expectations suites (`checks/expectations.py`) are both built from it.
"""

from collections.abc import Mapping
from datetime import date, time
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field

ColumnType = Literal["code", "label", "text", "number", "date", "flag", "industry", "moment"]
Partition = Literal["day", "month", "quarter", "snapshot", "none"]

AVAILABLE_AT = "available_at"

_ARROW_TYPES: dict[str, pa.DataType] = {
    "code": pa.string(),
    "label": pa.string(),
    "text": pa.string(),
    "industry": pa.string(),
    "number": pa.float64(),
    "date": pa.date32(),
    "flag": pa.bool_(),
    "moment": pa.timestamp("us", tz="Asia/Shanghai"),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Column(_Frozen):
    """One column: its type, unit and the rules every value keeps."""

    name: str
    type: ColumnType
    description: str
    unit: str | None = None
    nullable: bool = False
    optional: bool = False
    future: bool = False
    session: bool = False
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    suffixes: tuple[str, ...] | None = None
    allowed: dict[str, tuple[str, ...]] | None = None
    """Labels there are, each with other spellings that are certain to mean it."""
    median_minimum: float | None = None
    median_maximum: float | None = None
    steps: Literal["never", "seldom", "freely"] | None = None
    """How an instrument's value moves tenfold from one row to the next: never, only with an event of its own (a
    split), or at times (turnover)."""


class KnownFrom(_Frozen):
    """Default first moment of knowledge: `sessions` sessions after `column`, at `time` in Shanghai.

    With `sessions` 0 it is that very day. Where `column` is empty, `otherwise` applies. Only facts announced `ahead`
    may be known before that day begins.
    """

    column: str
    sessions: int
    time: time
    ahead: bool = False
    otherwise: "KnownFrom | None" = Field(default=None, alias="else")


class SetSum(_Frozen):
    """Values of `of`, summed over the rows that agree in `columns`, lie within the bounds."""

    columns: tuple[str, ...]
    of: str
    minimum: float
    maximum: float


class Stays(_Frozen):
    """Rows that agree in `columns` are stays from `start` to before `end`, which do not overlap."""

    columns: tuple[str, ...]
    start: str
    end: str


class Dataset(_Frozen):
    """One dataset: what a row is, what identifies it and how it is partitioned."""

    name: str
    description: str
    key: tuple[str, ...]
    partition: Partition
    required: bool
    columns: dict[str, Column]
    partition_column: str | None = None
    known_from: KnownFrom | None = None
    set_sum: SetSum | None = None
    stays: Stays | None = None

    @property
    def date_column(self) -> str | None:
        """Column that places a row in its partition; None for snapshots."""
        if self.partition == "snapshot":
            return None
        if self.partition_column:
            return self.partition_column
        return next(name for name in self.key if self.columns[name].type == "date")

    @property
    def column_names(self) -> list[str]:
        """Columns of a canonical frame in order, `available_at` last where the dataset has it."""
        return [*self.columns, *([AVAILABLE_AT] if self.known_from else [])]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of a canonical frame as it is stored."""
        fields = [
            pa.field(c.name, _ARROW_TYPES[c.type], nullable=c.nullable or c.optional) for c in self.columns.values()
        ]
        if self.known_from:
            fields.append(pa.field(AVAILABLE_AT, pa.timestamp("us", tz="UTC"), nullable=False))
        return pa.schema(fields)


def _dataset(name: str, spec: Mapping[str, Any]) -> Dataset:
    columns = {column: {"name": column, **rules} for column, rules in spec["columns"].items()}
    return Dataset.model_validate({"name": name, **spec, "columns": columns})


@lru_cache(maxsize=1)
def load_contract() -> Mapping[str, Dataset]:
    """All datasets by name, in the order of `contract.yaml`.

    Raises:
        pydantic.ValidationError: the file has an unknown rule or a wrong type.
    """
    text = files("etf_pipeline").joinpath("contract.yaml").read_text(encoding="utf-8")
    return {name: _dataset(name, spec) for name, spec in yaml.safe_load(text).items()}


EARLIEST_DATE = date(1990, 1, 1)
"""No date in any dataset is earlier; membership tables write it for "since ever"."""
