"""Great Expectations takes seconds to import: everything that needs it is in this file, so that one process does."""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etf_pipeline.assets.raw import raw_assets
from etf_pipeline.checks import expectations, suites
from etf_pipeline.checks.expectations import expectation_checks
from etf_pipeline.contract import load_contract
from etf_pipeline.resources import workers
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import write_table
from etf_pipeline.settings import Deployment
from tests.checks.world import evaluate, keys_of, make_pipeline, put, tamper
from tests.sources.folder import write_valid_folder

Results = Mapping[str, dg.AssetCheckEvaluation]

CONTRACT = load_contract()
DAY = pd.Timedelta(days=1)


def by_dataset(pipeline: Pipeline, *names: str) -> Results:
    evaluations = evaluate(pipeline, expectation_checks(), *(f"raw/{name}:expectations" for name in names))
    return {e.asset_key.path[-1]: e for e in evaluations}


@pytest.fixture(scope="module")
def sound(sound_lake: Path) -> Results:
    return by_dataset(make_pipeline(sound_lake))


@pytest.fixture(scope="module")
def broken(sound_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every rule of the contract broken somewhere."""
    lake = tmp_path_factory.mktemp("broken") / "lake"
    shutil.copytree(sound_lake, lake)
    pipeline = make_pipeline(lake)
    for name, changes in BROKEN.items():
        for file in pipeline.lake.raw_files(CONTRACT[name]):
            for change, _ in changes.values():
                tamper(file, change)
    shutil.rmtree(pipeline.lake.raw_folder(CONTRACT["etf_bar"]))
    shutil.rmtree(pipeline.lake.raw_folder(CONTRACT["index_bar"]))
    shares = pipeline.lake.raw_folder(CONTRACT["fund_return"]) / "2025.parquet"
    table = pq.read_table(shares)
    text = table["daily_return"].cast(pa.string())
    table = table.set_column(table.schema.get_field_index("daily_return"), "daily_return", text)
    write_table(table.drop_columns(["available_at"]).append_column("extra", text), shares)
    return by_dataset(pipeline)


def _stays(frame: pd.DataFrame) -> pd.DataFrame:
    """The first stock leaves before it came, the second is in two industries at once."""
    frame["out_date"] = frame["out_date"].astype("datetime64[ms]")
    frame.loc[0, ["in_date", "out_date"]] = [pd.Timestamp("2020-01-02"), pd.Timestamp("2019-01-02")]
    again = frame.iloc[[1]].assign(in_date=pd.Timestamp("2021-01-04"), industry_code="CI005009")
    return pd.concat([frame, again])


Change = Callable[[pd.DataFrame], pd.DataFrame | None]
BROKEN: dict[str, dict[str, tuple[Change, str]]] = {
    "etf_info": {
        "not empty": (put("name", None), "510300.SH"),
        "one row per etf_code": (lambda f: pd.concat([f, f.tail(1)]), "588000.SH"),
    },
    "etf_share": {
        "finite and at least 0": (put("shares", -1.0), "-1"),
        "in the contract's unit": (lambda f: f.assign(shares=f["shares"] / 1e4), "510300.SH"),
        "session of the Shanghai": (put("trade_date", pd.Timestamp("2025-10-03"), 1), "2025-10-03"),
        "to today": (put("trade_date", pd.Timestamp("2099-01-05"), 2), "2099-01-05"),
        "code with upper-case": (put("etf_code", "510300", 3), "510300"),
        "one row per etf_code, trade_date": (lambda f: pd.concat([f, f.tail(1)]), "588000.SH"),
        "not before the day": (put("available_at", lambda at: at - 3 * DAY, 7), "available_at"),
    },
    "etf_nav": {
        "above 0 and at most 100000": (put("unit_nav", 0.0), "0"),
        "above 0 and at most 100000 ": (put("unit_nav", np.inf, 1), "inf"),
        "finite and above 0": (put("accumulated_nav", -np.inf, 1), "inf"),
    },
    "index_weight": {
        "sum per index_code, as_of_date": (lambda f: f.assign(weight=f["weight"] * 0.8), "0.8"),
        "not empty": (put("stock_code", None, 1), ""),
    },
    "industry_info": {
        "code with upper-case": (put("industry_code", "bank"), "bank"),
        "one of citic, sw": (put("scheme", "CITIC", 1), "CITIC"),
    },
    "industry_bar": {
        "from 1990-01-01": (put("trade_date", pd.Timestamp("1989-01-03")), "1989-01-03"),
        "session of the Shanghai": (lambda f: f, "1989-01-03"),
    },
    "stock_industry": {
        "not before in_date": (_stays, "2019-01-02"),
        "not before the end of an earlier stay": (lambda f: f, "2021-01-04"),
    },
    "fund_info": {"finite and at least 0": (put("issue_shares", -5.0), "-5")},
    "fund_holding": {"not before the day": (put("available_at", lambda at: at - DAY), "available_at")},
}


def test_every_dataset_has_a_described_check() -> None:
    assert keys_of(expectation_checks()) == {f"raw/{name}:expectations" for name in CONTRACT}
    assert all(spec.description for check in expectation_checks() for spec in check.check_specs)


def test_sound_data_pass(sound: Results) -> None:
    assert sound.keys() == CONTRACT.keys()
    assert [name for name, e in sound.items() if not e.passed] == []
    assert sound["etf_share"].metadata["expectations"].value > 5


def test_severity_says_whether_it_is_required(sound: Results) -> None:
    errors = {name for name, e in sound.items() if e.severity == dg.AssetCheckSeverity.ERROR}
    assert errors == {name for name, dataset in CONTRACT.items() if dataset.required}


def test_absent_optional_dataset_says_so(sound: Results) -> None:
    assert sound["etf_margin"].metadata["available"].value is False
    assert "optional, and not in the lake" in sound["etf_margin"].metadata["reason"].value


def test_absent_required_dataset_fails(broken: Results) -> None:
    assert not broken["index_bar"].passed
    assert "required, but not in the lake" in broken["index_bar"].metadata["reason"].value


def test_other_columns_and_types_fail(broken: Results) -> None:
    assert not broken["fund_return"].passed
    failed = " ".join(broken["fund_return"].metadata["failed"].value)
    for words in ("available_at is missing", "extra is not in the contract", "daily_return is string, not double"):
        assert words in failed


@pytest.mark.parametrize("name", [name for name in CONTRACT if name not in BROKEN])
def test_untouched_data_still_pass(broken: Results, name: str) -> None:
    assert broken[name].passed == (name not in ("index_bar", "fund_return"))


@pytest.mark.parametrize(
    ("name", "rule", "row"), [(n, rule.strip(), row) for n, rules in BROKEN.items() for rule, (_, row) in rules.items()]
)
def test_broken_rule_fails_and_shows_rows(broken: Results, name: str, rule: str, row: str) -> None:
    evaluation = broken[name]
    assert not evaluation.passed
    assert rule in evaluation.metadata["failed"].value
    shown = evaluation.metadata["failing_rows"].value
    assert rule in shown
    assert row in shown


def test_nothing_else_is_complained_about(broken: Results) -> None:
    for name, rules in BROKEN.items():
        failed = broken[name].metadata["failed"].value.splitlines()[2:]
        expected = {rule.strip() for rule in rules}
        assert [line for line in failed if not any(rule in line for rule in expected)] == []


def test_rows_and_sets_are_counted_once(broken: Results) -> None:
    (line,) = [x for x in broken["index_weight"].metadata["failed"].value.splitlines() if "sum per" in x]
    assert line.split("|")[3].strip() == "3"  # sets, not their rows


def test_at_most_five_rows_are_shown(broken: Results) -> None:
    tables = broken["index_weight"].metadata["failing_rows"].value.split("**")
    assert all(sum(line.startswith("|") for line in table.splitlines()) <= 7 for table in tables)


def test_part_of_the_checks_can_be_run(sound_lake: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = by_dataset(make_pipeline(sound_lake), "etf_info", "etf_nav")
    assert results.keys() == {"etf_info", "etf_nav"}
    assert "Calculating Metrics" not in capfd.readouterr().err


def test_a_partition_of_one_dataset_is_checked(tmp_path: Path) -> None:
    write_valid_folder(tmp_path / "data")
    pipeline = Pipeline(Deployment(source="files", data=tmp_path / "data", lake=tmp_path / "lake"))
    day = date(2025, 9, 24)
    result = dg.materialize(
        [*raw_assets(day, None), *expectation_checks()],
        partition_key=f"{day}",
        resources={"pipeline": pipeline},
        selection=dg.AssetSelection.assets(["raw", "etf_share"]),
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed
    assert evaluation.metadata["rows"].value == 5


def _changed(results: Results, name: str) -> object:
    return results[name].metadata["files_changed_since_they_passed"].value


def test_what_passed_is_not_judged_again_until_it_changes(
    lake_copy: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, dataset = lake_copy(), CONTRACT["etf_share"]
    shutil.rmtree(pipeline.lake.root / "build" / "passed", ignore_errors=True)
    file = pipeline.lake.raw_files(dataset)[-1]
    first = by_dataset(pipeline, "etf_share", "etf_nav")
    assert _changed(first, "etf_share") == len(pipeline.lake.raw_files(dataset))
    again = by_dataset(pipeline, "etf_share", "etf_nav")
    assert [(_changed(again, name), again[name].passed) for name in again] == [(0, True)] * 2

    sound = file.read_bytes()
    tamper(file, put("shares", -1.0))
    # a file that failed is never remembered: it fails as often as it is asked
    for _ in range(2):
        broken = by_dataset(pipeline, "etf_share", "etf_nav")
        assert [broken["etf_share"].passed, broken["etf_nav"].passed] == [False, True]
        assert [_changed(broken, "etf_share"), _changed(broken, "etf_nav")] == [1, 0]
    file.write_bytes(sound)
    assert _changed(by_dataset(pipeline, "etf_share"), "etf_share") == 0

    # other rules: nothing that is remembered counts
    monkeypatch.setattr(expectations, "_rules_digest", lambda: "other rules")
    assert _changed(by_dataset(pipeline, "etf_share"), "etf_share") == len(pipeline.lake.raw_files(dataset))


def _at_once(work: Callable[..., suites.Judgement], *arguments: object) -> Future[suites.Judgement]:
    done: Future[suites.Judgement] = Future()
    done.set_result(work(*arguments))
    return done


def test_in_parts_the_same_is_told_as_together(
    lake_copy: Callable[[], Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[dict[str, object]]:
        shutil.rmtree(pipeline.lake.root / "build" / "passed", ignore_errors=True)
        results = by_dataset(pipeline, *names)
        return [{"passed": results[name].passed, **results[name].metadata} for name in names]

    pipeline, names = lake_copy(), ("etf_share", "etf_nav")
    for name in names:
        (file,) = pipeline.lake.raw_files(CONTRACT[name])
        rows = pq.read_table(file)
        write_table(rows.slice(0, 7), file.with_name("2024.parquet"))
        write_table(rows.slice(7), file)
    tamper(pipeline.lake.raw_files(CONTRACT["etf_share"])[1], put("shares", -1.0))
    together = told()
    assert [one["passed"] for one in together] == [False, True]
    judged: list[int] = []
    monkeypatch.setattr(expectations, "_ROWS_TOGETHER", 1)
    monkeypatch.setattr(
        suites, "_validate", lambda dataset, frame, known=suites._validate: judged.append(1) or known(dataset, frame)
    )
    monkeypatch.setattr(workers, "begin", _at_once)
    assert told() == together
    # each file by itself, and those of the dataset with failures once more
    assert len(judged) == 2 + 2 + 1
    assert by_dataset(pipeline, "etf_nav")["etf_nav"].metadata["files_changed_since_they_passed"].value == 0
