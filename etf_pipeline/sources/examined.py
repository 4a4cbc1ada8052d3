"""What the examination of a folder's files found, kept so that files that have not changed need no other.

Here: the facts and where they are kept. Not here: finding them (`files.py`), the rules (`canonical.py`).
"""

import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from etf_pipeline import contract
from etf_pipeline.contract import Dataset
from etf_pipeline.core import calendar
from etf_pipeline.resources.storage import kept_json, write_json
from etf_pipeline.sources import canonical, units, vocabulary

_LIBRARIES = ("exchange-calendars", "pandas", "pyarrow")


class Part(BaseModel):
    """One file: SHA-256 of its bytes, and the days its rows are of; no days where the dataset has none."""

    model_config = ConfigDict(frozen=True)

    digest: str
    first_day: date | None = None
    last_day: date | None = None

    def overlaps(self, start: date, end: date) -> bool:
        """Whether it may hold rows from `start` to `end`."""
        return (
            self.first_day is not None
            and self.last_day is not None
            and self.first_day <= end
            and self.last_day >= start
        )


class Facts(BaseModel):
    """All that has to be known of a dataset's files that hold no violation, besides their rows."""

    model_config = ConfigDict(frozen=True)

    rules: str
    """What they were examined by: the same files may be refused by other rules."""
    parts: dict[str, Part]
    """By file name."""
    columns: tuple[str, ...]
    """As the files have them, under our names."""
    closed_rows: int = 0
    """Rows of days that are no session."""
    codes: tuple[str, ...] = ()
    """ETFs, or stocks, there are rows of; kept where they are compared with those of other datasets."""
    indices: tuple[str, ...] = ()
    """Indices there are weights of, or that ETFs track."""
    left_out: dict[str, str] = {}
    """Weight sets that are not used, with the reason."""

    def joined(self, added: "Facts") -> "Facts":
        """Those of the files of both."""
        return Facts(
            rules=self.rules,
            parts={**self.parts, **added.parts},
            columns=self.columns,
            closed_rows=self.closed_rows + added.closed_rows,
            codes=tuple(sorted({*self.codes, *added.codes})),
            indices=tuple(sorted({*self.indices, *added.indices})),
            left_out={**self.left_out, **added.left_out},
        )


_ALL_FACTS: TypeAdapter[dict[str, Facts]] = TypeAdapter(dict[str, Facts])


class FactsFile:
    """Facts by dataset, kept in a file from run to run; a file that cannot be read holds none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts = self._read()
        self._saved = dict(self._facts)

    def get(self, dataset: str) -> Facts | None:
        """What is known of the dataset's files as they once were."""
        return self._facts.get(dataset)

    def put(self, dataset: str, facts: Facts) -> None:
        """Know this of the dataset from now on; kept with the next `save`."""
        self._facts[dataset] = facts

    def save(self) -> None:
        """Write what has been learned since the last time."""
        if self._facts == self._saved:
            return
        write_json(self._path, _ALL_FACTS.dump_python(self._facts, mode="json"))
        self._saved = dict(self._facts)

    def _read(self) -> dict[str, Facts]:
        try:
            return _ALL_FACTS.validate_python(kept_json(self._path))
        except ValidationError:
            return {}


def rules_digest(dataset: Dataset, *others: object) -> str:
    """Digest of everything besides the files themselves that decides what an examination finds."""
    text = json.dumps([_code_digest(), dataset.model_dump(mode="json"), *others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=1)
def _code_digest() -> str:
    from etf_pipeline.sources import files

    code = [inspect.getsource(module) for module in (calendar, canonical, contract, files, units, vocabulary)]
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    return hashlib.sha256("\n".join([*code, *versions]).encode()).hexdigest()


def are_apart(added: Iterable[Part], others: Iterable[Part]) -> bool:
    """Whether no two parts, of which one is added, hold rows of the same day."""
    known = list(others)
    for part in added:
        if any(part.overlaps(other.first_day, other.last_day) for other in known if other.first_day and other.last_day):
            return False
        known.append(part)
    return True
