from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from world import evaluate, failures, make_pipeline, tamper

from etf_pipeline.checks.overlap import overlap_checks
from etf_pipeline.contract import load_contract
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.sources.overlap import PAIRS


def test_a_sound_lake_passes(sound_lake: Path) -> None:
    evaluations = evaluate(make_pipeline(sound_lake), overlap_checks())
    assert len(evaluations) == len(PAIRS)
    assert all(e.passed and e.metadata["checked"].value for e in evaluations)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.dataset)
def test_codes_of_other_instruments_block(lake_copy: Callable[[], Pipeline], pair: tuple[str, str, str]) -> None:
    pipeline, (dataset, column, known_to) = lake_copy(), pair
    for file in pipeline.lake.raw_files(load_contract()[dataset]):
        tamper(file, lambda f: f.assign(**{column: f[column].str[:1] + "9" + f[column].str[2:]}))
    (failure,) = failures(pipeline, overlap_checks(), f"raw/{dataset}:codes_are_known")
    assert failure.severity == dg.AssetCheckSeverity.ERROR
    assert f"are in {known_to}" in str(failure.metadata["broken_rows"].value)
    blocking = {spec.asset_key.path[-1]: spec.blocking for check in overlap_checks() for spec in check.check_specs}
    assert blocking == {pair.dataset: load_contract()[pair.dataset].required for pair in PAIRS}
    assert blocking["index_weight"]
    assert blocking["etf_share"]


def test_weights_of_indices_nobody_tracks_block(lake_copy: Callable[[], Pipeline]) -> None:
    pipeline = lake_copy()
    for dataset, code in (("index_weight", "931999.CSI"), ("etf_info", "000300.SH")):
        for file in pipeline.lake.raw_files(load_contract()[dataset]):
            tamper(file, lambda f, code=code: f.assign(index_code=code))
    (failure,) = failures(pipeline, overlap_checks(), "raw/index_weight:codes_are_known")
    assert "none of its 1 indices (931999.CSI)" in str(failure.metadata["broken_rows"].value)
