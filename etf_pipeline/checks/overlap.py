"""Whether the raw datasets of the lake speak of the same instruments, whatever source they came from.

Here: reading the codes that are stored. Not here: what has to be known to what (`sources/overlap.py`).
"""

from collections.abc import Iterable

import dagster as dg
import pandas as pd
import pyarrow.compute as pc

from etf_pipeline.checks.verdict import verdict
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import read_table
from etf_pipeline.sources.overlap import PAIRS, Pair, strangers, unknown_to_all
from etf_pipeline.sources.vocabulary import INDEX_COLUMN


def overlap_checks() -> list[dg.AssetChecksDefinition]:
    """A check of every dataset whose codes another should know; that of a required one blocks."""
    return [_of_pair(pair) for pair in PAIRS]


def _of_pair(pair: Pair) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name="codes_are_known",
        asset=dg.AssetKey(["raw", pair.dataset]),
        additional_deps=[
            dg.AssetKey(["raw", name]) for name in dict.fromkeys((pair.known_to, "etf_info")) if name != pair.dataset
        ],
        blocking=load_contract()[pair.dataset].required,
        description=(
            f"At least half of the A-share codes of {pair.dataset}, of each exchange, are in {pair.known_to}. "
            "When it fails: one of the two writes codes or exchanges differently; correct it at the source and ingest "
            "again. Passes where either was not ingested."
        ),
    )
    def codes_are_known(pipeline: dg.ResourceParam[Pipeline]) -> dg.AssetCheckResult:
        codes = _stored(pipeline, pair.dataset, pair.column)
        known = _stored(pipeline, pair.known_to, pair.column)
        found: Iterable[str] = strangers(pair, codes, known) if known else []
        if pair.dataset == "index_weight":
            names = ("index_weight", "etf_info")
            found = [*found, *unknown_to_all({name: _stored(pipeline, name, INDEX_COLUMN) for name in names})]
        return verdict(pd.DataFrame({"found": list(found)}), len(codes))

    return codes_are_known


def _stored(pipeline: Pipeline, dataset: str, column: str) -> set[str]:
    """Distinct codes of a raw dataset."""
    files = pipeline.lake.raw_files(load_contract()[dataset])
    return {code for f in files for code in pc.unique(read_table(f, columns=[column])[column]).to_pylist() if code}
