"""New holdings are judged before they replace the published ones; the ledger says of each date why it changed."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pandas as pd
import pytest

import etf_pipeline.assets.strategy as strategy_module
import etf_pipeline.resources.archive as archive_module
from etf_pipeline.contract import load_contract
from etf_pipeline.core.ledger import first_versions
from etf_pipeline.resources.lake import Lake
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.remembered import remember
from tests.checks.world import INDUSTRIES, definitions, make_pipeline, run, tamper

STRATEGY = dg.AssetSelection.groups("strategy")
PUBLISHED = "published/strategy_holdings.parquet"
LEDGER = "ledger/holdings_ledger.parquet"


@pytest.fixture
def lake(lake_copy: object) -> Lake:
    return lake_copy().lake  # type: ignore[operator]


def publish(pipeline: Pipeline, ok: bool = True) -> dg.ExecuteInProcessResult:
    result = run(definitions(pipeline, []), STRATEGY, raise_on_error=False)
    assert result.success == ok
    return result


def ledger(lake: Lake) -> pd.DataFrame:
    return pd.read_parquet(lake.root / LEDGER)


def other(pipeline: Pipeline, **changed: object) -> Pipeline:
    """The deployment with other settings, or another end."""
    end = changed.pop("end", pipeline.deployment.end)
    parameters = {**pipeline.deployment.parameters, **changed}
    return Pipeline(pipeline.deployment.model_copy(update={"parameters": parameters, "end": end}))


def swap_scores(lake: Lake, *dates: str) -> None:
    """As if revised data had made other scores: on these dates the first industry is the last."""

    def change(frame: pd.DataFrame) -> None:
        count = len(INDUSTRIES)
        at = frame["signal_date"].isin(pd.DatetimeIndex(dates)) & frame["rank"].notna()
        frame.loc[at, "rank"] = count + 1 - frame.loc[at, "rank"]
        frame.loc[at, "composite"] = -frame.loc[at, "composite"]

    tamper(lake.root / "published" / "factor_scores.parquet", change)


def revise(lake: Lake, day: str, factor: float) -> None:
    dataset, moment = load_contract()["etf_share"], date.fromisoformat(day)
    rows = lake.read_raw(dataset)
    rows = rows[rows["trade_date"] == day].assign(shares=lambda r: r["shares"] * factor)
    lake.write_raw(dataset, rows, moment, moment)


def dates_held(lake: Lake) -> list[str]:
    return sorted({f"{day}" for day in pd.read_parquet(lake.root / PUBLISHED)["signal_date"]})


def test_holdings_that_fail_their_check_replace_nothing(lake: Lake) -> None:
    pipeline = make_pipeline(lake.root)
    before = {name: (lake.root / name).read_bytes() for name in (PUBLISHED, LEDGER)}
    result = publish(other(pipeline, top_n=50), ok=False)
    assert before == {name: (lake.root / name).read_bytes() for name in (PUBLISHED, LEDGER)}
    (failure,) = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    assert "new rows fail portfolio_is_whole" in str(failure.user_failure_data)
    # what failed is there to be looked at
    assert len(pd.read_parquet(lake.root / "build" / "candidate" / "strategy_holdings.parquet"))
    # and nothing is left in the way of what is sound
    publish(pipeline)
    assert not list((lake.root / "build" / "candidate").iterdir())


def test_a_partition_is_judged_by_itself(lake: Lake) -> None:
    newest = dates_held(lake)[-1]
    job = dg.define_asset_job("one", dg.AssetSelection.assets(["strategy", "strategy_holdings"]))

    def materialize(top_n: int) -> bool:
        defs = definitions(other(make_pipeline(lake.root), top_n=top_n), [])
        job_def = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("one")
        return job_def.execute_in_process(partition_key=newest, raise_on_error=False).success

    assert materialize(1)
    held = pd.read_parquet(lake.root / PUBLISHED)
    assert held.groupby("signal_date").size().tolist() == [2] * (held["signal_date"].nunique() - 1) + [1]
    assert not materialize(50)
    pd.testing.assert_frame_equal(pd.read_parquet(lake.root / PUBLISHED), held)


def test_dates_beyond_the_end_are_never_withdrawn(lake: Lake) -> None:
    dates, before = dates_held(lake), ledger(lake)
    earlier = date.fromisoformat(dates[-2])
    tamper(lake.root / "published" / "factor_scores.parquet", lambda f: f[f["signal_date"] <= dates[-2]])
    tamper(lake.root / "published" / "industry_weekly.parquet", lambda f: f[f["week_end"] <= dates[-2]])
    publish(other(make_pipeline(lake.root), end=earlier))
    assert dates_held(lake) == dates
    pd.testing.assert_frame_equal(ledger(lake), before)


def test_the_cause_is_what_changed_since_that_date_was_recorded(lake: Lake) -> None:
    pipeline, (*_, first, last) = make_pipeline(lake.root), dates_held(lake)
    # a revision that only the last date shows at once, and the other date with the next one
    revise(lake, "2025-09-01", 1.1)
    swap_scores(lake, last)
    publish(pipeline)
    revise(lake, "2025-09-02", 1.1)
    swap_scores(lake, first, last)
    publish(pipeline)
    causes = ledger(lake).dropna(subset="cause").drop_duplicates(["signal_date", "version"])
    assert [(f"{r.signal_date}", r.version, r.cause) for r in causes.itertuples()] == [
        (last, 2, "etf_share revised: 2025-09-01"),
        (first, 2, "etf_share revised: 2025-09-01, 2025-09-02"),
        (last, 3, "etf_share revised: 2025-09-02"),
    ]
    # whoever followed the publications held the first versions
    assert (first_versions(ledger(lake))["event"] == "published").all()
    assert first_versions(ledger(lake)).groupby("signal_date").size().eq(2).all()


def test_no_cause_is_lost_when_the_clock_is_set_back(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, last = make_pipeline(lake.root), dates_held(lake)[-1]

    def clock(years: int) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:
                return datetime.now(UTC) + timedelta(days=365 * years)

        monkeypatch.setattr(archive_module, "datetime", Clock)
        monkeypatch.setattr(strategy_module, "datetime", Clock)

    for years, day in ((3, "2025-09-01"), (0, "2025-09-02"), (-2, "2025-09-03")):
        clock(years)
        revise(lake, day, 1.1)
        swap_scores(lake, last)
        publish(pipeline)
    causes = ledger(lake).dropna(subset="cause").drop_duplicates(["signal_date", "version"])
    assert causes["cause"].tolist() == [f"etf_share revised: 2025-09-0{n}" for n in (1, 2, 3)]
    assert ledger(lake)["recorded_at"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("remembered", "cause"), [(True, "settings changed: top_n 2 → 1"), (False, r"settings changed: \w{12} → \w{12}")]
)
def test_other_settings_are_named_as_the_cause(lake: Lake, remembered: bool, cause: str) -> None:
    pipeline = make_pipeline(lake.root)
    if remembered:
        remember(pipeline.deployment)
    publish(other(pipeline, top_n=1))
    restated = ledger(lake).query("version == 2")
    assert set(restated["signal_date"].astype(str)) == set(dates_held(lake))
    assert restated["cause"].str.fullmatch(cause).all()
