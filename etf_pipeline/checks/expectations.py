"""Great Expectations on raw data: one suite per dataset, judging what the lake stores.

Here: the Dagster checks, and which files have to be judged. Not here: the suites (`suites.py`). The gate in front of
the lake refuses the same things in a new frame; this looks at all that is stored, whoever wrote it. No rule spans two
files of a dataset, so a file that passed, byte for byte, under the same rules is not judged again: after an evening's
ingest only the files of the current year are.
"""

import importlib.metadata
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from etf_pipeline.checks import suites
from etf_pipeline.checks.passed import Passed
from etf_pipeline.checks.verdict import ERROR, WARN, markdown
from etf_pipeline.contract import Dataset, load_contract
from etf_pipeline.resources import workers
from etf_pipeline.resources.digests import digest_of
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import open_table, rows_in
from etf_pipeline.sources import units

NAME = "expectations"
_ROWS_TOGETHER = 2_500_000
"""More are judged in parts, at once and in less memory."""


def expectation_checks() -> list[dg.AssetChecksDefinition]:
    """The check `expectations` of every raw dataset, all made by one step, of which any part can be run alone."""
    contract = load_contract()

    @dg.multi_asset_check(
        name="raw_expectations",
        specs=[
            dg.AssetCheckSpec(
                NAME,
                asset=dg.AssetKey(["raw", dataset.name]),
                blocking=dataset.required,
                description=(
                    "All stored rows keep the rules of contract.yaml (Great Expectations suite built from it). "
                    "When it fails: correct the rows shown at the source and ingest their dates again. "
                    + ("Required." if dataset.required else "Optional: passes if nothing was ingested.")
                ),
            )
            for dataset in contract.values()
        ],
        can_subset=True,
    )
    def raw_expectations(
        context: dg.AssetCheckExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.asset_key.path[-1] for key in context.selected_asset_check_keys}
        rules = _rules_digest()
        stored = [_Stored(dataset, pipeline.lake, rules) for name, dataset in contract.items() if name in selected]
        # the largest first, so that those who judge end at about the same time
        for found in sorted(stored, key=lambda found: -rows_in(found.changed)):
            found.begin()
        for found in stored:
            yield found.result()

    return [raw_expectations]


def begin(lake: Lake, dataset: Dataset) -> None:
    """Have what was just ingested judged while other data are, if that holds nothing up."""
    if workers.are_started():
        _Stored(dataset, lake, _rules_digest()).begin()


_begun: dict[tuple[tuple[Path, str], ...], list[Future[suites.Judgement]]] = {}
"""Judgements that were begun and nobody asked for yet, by files with their digests."""


def _of_few_rows(files: Sequence[Path]) -> list[list[Path]]:
    """The files in order, in groups of no more rows than are well judged together, or of one file."""
    groups: list[list[Path]] = []
    together = 0
    for file in files:
        rows = rows_in([file])
        if not groups or together + rows > _ROWS_TOGETHER:
            groups.append([])
            together = 0
        groups[-1].append(file)
        together += rows
    return groups


def _rules_digest() -> str:
    code = [Path(str(module.__file__)) for module in (suites, units)]
    contract = Path(__file__).parents[1] / "contract.yaml"
    return digest_of(*code, contract, importlib.metadata.version("great-expectations"))


class _Stored:
    """What the lake holds of a dataset, and which of its files have to be judged."""

    def __init__(self, dataset: Dataset, lake: Lake, rules: str) -> None:
        self._dataset = dataset
        self._files = lake.raw_files(dataset)
        self._odd = [
            f"{file.name}: {text}"
            for file in self._files
            for text in _schema_differences(dataset, open_table(file).schema_arrow)
        ]
        digests = {file: digest_of(rules, file) for file in self._files}
        self._passed = Passed(lake, f"{NAME}.{dataset.name}", digests)
        self._lake = lake
        self.changed = [] if self._odd else self._passed.changed()
        self._key = tuple((file, digests[file]) for file in self.changed)

    def begin(self) -> None:
        """Have the changed files judged, unless these very files are already."""
        if self._key and self._key not in _begun:
            parts = _of_few_rows(self.changed)
            _begun[self._key] = [workers.begin(suites.judge, self._dataset, self._lake, files) for files in parts]

    def _judgement(self) -> suites.Judgement:
        judgements = [part.result() for part in _begun.pop(self._key)]
        if len(judgements) > 1 and any(judgement.failed for judgement in judgements):
            # what is told is told of all files together
            return suites.judge(self._dataset, self._lake, self.changed)
        return judgements[0]

    def result(self) -> dg.AssetCheckResult:
        """The check's result, once the changed files are judged."""
        metadata: dict[str, Any] = {"available": bool(self._files)}
        if not self._files:
            required = self._dataset.required
            reason = "required, but not in the lake" if required else "optional, and not in the lake"
            return self._result(not required, {**metadata, "reason": f"{self._dataset.name} is {reason}"})
        if self._odd:
            return self._result(False, {**metadata, "failed": self._odd, "failed_expectations": len(self._odd)})
        metadata |= {
            "rows": rows_in(self._files),
            "files": len(self._files),
            "files_changed_since_they_passed": len(self.changed),
            "failed_expectations": 0,
        }
        if not self.changed:
            return self._result(True, metadata)
        judgement = self._judgement()
        metadata |= {"expectations": judgement.expectations, "failed_expectations": len(judgement.failed)}
        if judgement.failed:
            metadata["failed"] = markdown(pd.DataFrame(judgement.failed))
            shown = (f"**{title}**\n\n{markdown(rows).md_str if len(rows) else ''}" for title, rows in judgement.rows)
            metadata["failing_rows"] = dg.MetadataValue.md("\n\n".join(shown))
        else:
            self._passed.record(self.changed)
        return self._result(not judgement.failed, metadata)

    def _result(self, passed: bool, metadata: dict[str, Any]) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=passed,
            asset_key=dg.AssetKey(["raw", self._dataset.name]),
            check_name=NAME,
            severity=ERROR if self._dataset.required else WARN,
            description=metadata.get("reason"),
            metadata=metadata,
        )


def _schema_differences(dataset: Dataset, stored: Any) -> Iterator[str]:
    wanted = dataset.schema
    for name in sorted(set(wanted.names) | set(stored.names)):
        if name not in stored.names:
            yield f"column {name} is missing"
        elif name not in wanted.names:
            yield f"column {name} is not in the contract"
        elif stored.field(name).type != wanted.field(name).type:
            yield f"column {name} is {stored.field(name).type}, not {wanted.field(name).type}"
