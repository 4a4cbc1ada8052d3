"""A tiny consistent lake: four industries over nine weeks, made by hand up to the marts, by the assets after them."""

import shutil
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from etf_pipeline.assets.analytics import ANALYTICS_ASSETS
from etf_pipeline.assets.factors import FACTOR_ASSETS
from etf_pipeline.assets.strategy import strategy_assets
from etf_pipeline.contract import load_contract
from etf_pipeline.core.calendar import sessions_between, week_ends
from etf_pipeline.resources.pipeline import Pipeline
from etf_pipeline.resources.storage import write_table
from etf_pipeline.settings import Deployment
from etf_pipeline.sources.canonical import canonical_frame

SOURCE = "sample (SYNTHETIC)"
START, END = date(2025, 8, 25), date(2025, 10, 24)
SESSIONS = sessions_between(START, END)
WEEKS = week_ends(SESSIONS)
INDUSTRIES = ("CI005001", "CI005002", "CI005003", "CI005004")
STOCKS = {f"60000{n}.SH": industry for n, industry in enumerate(INDUSTRIES)}
OTHERS = {"00700.HK": "outside A shares", "600900.SH": "no industry"}
ETFS = ("510300.SH", "512800.SH", "588000.SH")
BY_YEAR = ("etf_flow", "industry_tracker", "stock_weekly")
SPLIT_DAY = pd.Timestamp("2025-10-15")


def make_pipeline(lake: Path) -> Pipeline:
    """The deployment of the tiny lake: the two best of four industries."""
    return Pipeline(Deployment(lake=lake, end=END, parameters={"top_n": 2, "short_file_ratio": 0.6}))


def definitions(pipeline: Pipeline, checks: list[dg.AssetChecksDefinition], assets: bool = True) -> dg.Definitions:
    """The assets Python publishes, and `checks`; without `assets` only the checks."""
    return dg.Definitions(
        assets=[*FACTOR_ASSETS, *strategy_assets(pipeline.parameters, START, END), *ANALYTICS_ASSETS] if assets else [],
        asset_checks=checks,
        resources={"pipeline": pipeline},
        executor=dg.in_process_executor,
    )


def run(defs: dg.Definitions, selection: dg.AssetSelection, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    """Run what is selected as one Dagster job in this process."""
    job = dg.define_asset_job("selected", selection)
    defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    return defs.resolve_job_def("selected").execute_in_process(instance=_instance(), raise_on_error=raise_on_error)


@lru_cache(maxsize=1)
def _instance() -> dg.DagsterInstance:
    # one for all runs: making one takes as long as a check
    return dg.DagsterInstance.ephemeral()


def evaluate(pipeline: Pipeline, checks: list[dg.AssetChecksDefinition], *keys: str) -> list[dg.AssetCheckEvaluation]:
    """Evaluations of the checks named `layer/table:check`, run through Dagster; of all `checks` without names."""
    selection = dg.AssetSelection.checks(*checks)
    if keys:
        wanted = [dg.AssetCheckKey(dg.AssetKey(k.split(":")[0].split("/")), k.split(":")[1]) for k in keys]
        selection = dg.AssetSelection.checks(*wanted)
    result = run(definitions(pipeline, checks, assets=False), selection, raise_on_error=False)
    errors = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    # a blocking check that does not pass fails its step; anything else is an error of the check itself
    assert not [e.to_string() for e in errors if e and e.cls_name != "DagsterAssetCheckFailedError"]
    return result.get_asset_check_evaluations()


def build(folder: Path) -> None:
    """Write raw data and marts, and let the assets make the rest."""
    pipeline = make_pipeline(folder)
    pipeline.lake.claim(SOURCE)
    for name, frame in raw_frames().items():
        write_raw(pipeline, name, frame)
    for name, frame in marts().items():
        write_mart(pipeline, name, frame.assign(source=SOURCE))
    run(definitions(pipeline, []), dg.AssetSelection.all())


def write_raw(pipeline: Pipeline, name: str, frame: pd.DataFrame) -> None:
    dataset = load_contract()[name]
    canonical = canonical_frame(dataset, frame, name)
    pipeline.lake.write_raw(dataset, canonical, date(1990, 1, 1), date(2030, 12, 31))


def write_mart(pipeline: Pipeline, name: str, frame: pd.DataFrame) -> None:
    dates = frame.select_dtypes("datetime").columns
    rows = pa.Table.from_pandas(frame.assign(**{c: frame[c].dt.date for c in dates}), preserve_index=False)
    if name in BY_YEAR:
        pipeline.lake.publish_years(name, {START.year: lambda: rows}, pipeline.parameters.hash)
    else:
        pipeline.lake.publish(name, rows, pipeline.parameters.hash)


def only_file(pipeline: Pipeline, table: str) -> Path:
    """The file of a published table, which has no days of another year."""
    (file,) = pipeline.lake.published_files(table)
    return file


def remove_raw(pipeline: Pipeline, dataset: str) -> None:
    """Let the lake be one that never held this dataset."""
    shutil.rmtree(pipeline.lake.raw_folder(load_contract()[dataset]))
    for path in pipeline.lake.gone():
        pipeline.lake._forget(path)


def tamper(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Let `change` edit the frame of a stored file in place, or return another; columns keep their types."""
    stored = pq.read_table(path)
    frame = stored.to_pandas(date_as_object=False)
    changed = change(frame)
    frame = frame if changed is None else changed
    dates = [f.name for f in stored.schema if pa.types.is_date(f.type)]
    frame = frame.assign(**{c: pd.to_datetime(frame[c]).dt.date for c in dates})
    schema = pa.schema([pa.field(f.name, f.type) for f in stored.schema], metadata=stored.schema.metadata)
    write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), path)


def put(column: str, value: Any, row: int = 0) -> Callable[[pd.DataFrame], None]:
    """A change of one cell; `value` may be a function of the old one."""

    def change(frame: pd.DataFrame) -> None:
        position = (row, frame.columns.get_loc(column))
        frame.iloc[position] = value(frame.iloc[position]) if callable(value) else value

    return change


def failures(pipeline: Pipeline, checks: list[dg.AssetChecksDefinition], key: str) -> list[dg.AssetCheckEvaluation]:
    """Evaluations of the one check `layer/table:check` that did not pass."""
    evaluations = evaluate(pipeline, checks, key)
    assert len(evaluations) == 1
    return [e for e in evaluations if not e.passed]


def keys_of(checks: list[dg.AssetChecksDefinition]) -> set[str]:
    """All checks as `layer/table:check`."""
    return {f"{k.asset_key.to_user_string()}:{k.name}" for check in checks for k in check.check_keys}


def raw_frames() -> dict[str, pd.DataFrame]:
    """All required datasets, and those whose rules or dates checks look at."""
    rng = np.random.default_rng(1)
    days = sessions_between(date(2025, 6, 2), END)
    indices = ("000300.SH", "000852.SH", "399370.SZ", "399371.SZ")
    grid = flow_frame()
    bars = grid[["etf_code", "trade_date", "close"]].assign(
        high=grid["close"] * 1.01, low=grid["close"] * 0.99, volume=1e6, amount=2e6
    )
    weights = [(as_of, stock) for as_of in ("2025-07-31", "2025-08-29", "2025-09-30") for stock in [*STOCKS, *OTHERS]]
    filings = [("2025-03-31", "2025-04-22"), ("2025-06-30", "2025-08-26")]
    return {
        "trading_calendar": pd.DataFrame(
            {"trade_date": sessions_between(date(2019, 1, 1), date(2025, 12, 31)), "is_open": True}
        ),
        "etf_info": pd.DataFrame({"etf_code": ETFS, "name": ETFS, "asset_scope": "aShareStockEtf"}),
        "etf_share": grid[["etf_code", "trade_date", "shares"]],
        "etf_nav": grid[["etf_code", "trade_date", "unit_nav"]],
        "etf_bar": bars,
        "index_bar": pd.DataFrame(
            [(code, day) for code in indices for day in days], columns=["index_code", "trade_date"]
        ).assign(close=lambda f: 1000 * np.exp(rng.normal(0, 0.02, len(f)))),
        "index_weight": pd.DataFrame(weights, columns=["as_of_date", "stock_code"]).assign(
            index_code="000300.SH", weight=1 / 6
        ),
        "industry_info": pd.DataFrame({"scheme": "citic", "industry_code": INDUSTRIES, "industry_name": INDUSTRIES}),
        "industry_bar": pd.DataFrame(
            [(code, day) for code in INDUSTRIES for day in days], columns=["industry_code", "trade_date"]
        ).assign(scheme="citic", close=lambda f: 100 * np.exp(rng.normal(0, 0.02, len(f)))),
        "stock_industry": pd.DataFrame({"stock_code": list(STOCKS), "industry_code": list(STOCKS.values())}).assign(
            scheme="citic", in_date=date(1990, 1, 1), out_date=None
        ),
        "fund_info": pd.DataFrame(
            {"fund_code": ["000001.OF", "000002.OF"], "name": "fund", "is_active_equity": True}
        ).assign(found_date=date(2015, 1, 5), issue_shares=1e8),
        "fund_holding": pd.DataFrame(
            [(f, r, a, s) for f in ("000001.OF", "000002.OF") for r, a in filings for s in STOCKS],
            columns=["fund_code", "report_date", "announced_date", "stock_code"],
        ).assign(market_value=1e6, scope="top10"),
        "fund_return": pd.DataFrame({"series_code": "funds", "trade_date": days, "daily_return": 0.001}),
    }


def flow_frame() -> pd.DataFrame:
    """Sizes and flows of three ETFs, one of which splits two for one and misses a day before."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame([(c, d) for c in ETFS for d in SESSIONS], columns=["etf_code", "trade_date"])
    size = len(frame)
    after = (frame["etf_code"] == ETFS[1]) & (frame["trade_date"] >= SPLIT_DAY)
    frame["shares"] = 1e9 * (1 + rng.normal(0, 0.01, size)) * np.where(after, 2.0, 1.0)
    frame["unit_nav"] = (1 + rng.normal(0, 0.01, size)) / np.where(after, 2.0, 1.0)
    frame["close"] = frame["unit_nav"] * 1.001
    missing = (frame["etf_code"] == ETFS[2]) & (frame["trade_date"] == SESSIONS[5])
    return frame[~missing].reset_index(drop=True)


def marts() -> dict[str, pd.DataFrame]:
    """Tables of dbt as they would be, columns that nothing here reads left out."""
    rng = np.random.default_rng(3)
    weekly = pd.DataFrame([(w, i) for w in WEEKS for i in INDUSTRIES], columns=["week_end", "industry_code"])
    weekly["held_value_cny"] = rng.uniform(1e9, 5e9, len(weekly))
    total = weekly.groupby("week_end")["held_value_cny"].transform("sum")
    weekly["held_share_ratio"] = weekly["held_value_cny"] / total
    weekly["penetration_ratio"] = weekly["held_value_cny"] / 1e11
    weekly["net_creation_cny"] = rng.normal(0, 1e7, len(weekly))
    by_industry = weekly.groupby("industry_code")["held_share_ratio"]
    # as if there had been weeks before, so that no date is withheld
    weekly["held_share_change_ratio"] = by_industry.diff().fillna(weekly["penetration_ratio"])
    weekly["held_share_medium_change_ratio"] = by_industry.diff(4).fillna(weekly["penetration_ratio"])
    weekly["industry_name"] = weekly["industry_code"]
    daily = weekly[["week_end", "industry_code", "held_value_cny"]].assign(
        trade_date=weekly["week_end"], week_net_creation_cny=weekly["net_creation_cny"] * 0.25
    )
    earlier = daily.assign(
        trade_date=daily["week_end"] - pd.Timedelta(days=1), week_net_creation_cny=weekly["net_creation_cny"] * 0.75
    )
    placed = weekly.assign(stock_code=weekly["industry_code"].map({i: s for s, i in STOCKS.items()}))
    others = pd.DataFrame([(w, s) for w in WEEKS for s in OTHERS], columns=["week_end", "stock_code"])
    stocks = pd.concat(
        [
            placed[["week_end", "stock_code", "industry_code", "held_value_cny"]].assign(is_a_share=True),
            others.assign(held_value_cny=1e8, is_a_share=others["stock_code"] != "00700.HK"),
        ]
    )
    bases = {"constituents": None, "outside A shares": 1e8, "no industry": 1e8, "no weights": 5e8}
    held = weekly.groupby("week_end")["held_value_cny"].sum()
    coverage = pd.DataFrame(
        [(w, b, held[w] if v is None else v) for w in WEEKS for b, v in bases.items()],
        columns=["week_end", "basis", "value_cny"],
    )
    coverage["ratio"] = coverage["value_cny"] / coverage.groupby("week_end")["value_cny"].transform("sum")
    disclosed = weekly[["week_end", "industry_code"]].assign(
        report_date=pd.Timestamp("2025-06-30"),
        public_date=pd.Timestamp("2025-08-26"),
        active_share_ratio=np.tile([0.1, 0.2, 0.3, 0.4], len(WEEKS)),
    )
    trackers = weekly[["week_end", "industry_code", "held_value_cny"]].assign(
        etf_code=ETFS[0], etf_name="ETF", annual_fee_ratio=0.005, mean_amount_cny=1e8
    )
    return {
        "etf_flow": _with_flows(flow_frame()),
        "industry_weekly": weekly,
        "industry_daily": pd.concat([daily, earlier]),
        "stock_weekly": stocks,
        "look_through_coverage": coverage,
        "look_through_evidence": pd.DataFrame({"week_end": WEEKS, "weight_sets": 31, "largest_etf_ratio": 0.2}).assign(
            coverage_ratio=0.95, compared_ratio=1.0, medium_compared_ratio=1.0, value_with_flow_ratio=1.0
        ),
        "active_fund_industry": disclosed,
        "industry_tracker": trackers,
        "market_flow": _market_flow(),
        "new_issue_monthly": pd.DataFrame(
            {"month_end": pd.to_datetime(["2025-07-31", "2025-08-29", "2025-09-30"]), "heat": [0.5, -0.3, 0.2]}
        ),
    }


def _market_flow() -> pd.DataFrame:
    """Twenty ETFs of a kind whose size is 100 and whose flows are 1, and three that are launched."""
    days = pd.DataFrame({"trade_date": SESSIONS, "asset_scope": "aShareStockEtf", "etfs_with_flow": 20})
    small = days.assign(asset_scope="otherEtf", etfs_with_flow=3, net_creation_cny=90.0)
    return pd.concat([days.assign(net_creation_cny=1.0), small], ignore_index=True).assign(aum_cny=100.0)


def _with_flows(frame: pd.DataFrame) -> pd.DataFrame:
    number = pd.Series(range(len(SESSIONS)), SESSIONS)
    by_etf = frame.groupby("etf_code")
    before = by_etf["trade_date"].shift()
    is_split = (frame["etf_code"] == ETFS[1]) & (frame["trade_date"] == SPLIT_DAY)
    factor = np.where(is_split, 2.0, 1.0)
    gap = frame["trade_date"].map(number) - before.map(number)
    flow = (frame["shares"] - by_etf["shares"].shift() * factor) * frame["unit_nav"]
    return frame.assign(
        asset_scope="aShareStockEtf",
        aum_cny=frame["shares"] * frame["unit_nav"],
        nav_date=frame["trade_date"],
        is_nav_disputed=False,
        circulating_value_cny=frame["shares"] * frame["close"],
        net_creation_cny=flow.where(gap == 1),
        net_subscription_cny=flow.where(gap == 1),
        previous_observation_date=before,
        interval_sessions=gap.astype("Int32"),
        interval_net_creation_cny=flow,
        split_factor=factor,
        split_status=np.where(is_split, "listed", "none"),
        is_split_day=is_split,
        in_universe=True,
        universe_exclusion=None,
        cumulative_split_factor=np.where((frame["etf_code"] == ETFS[1]) & (frame["trade_date"] >= SPLIT_DAY), 2.0, 1.0),
    )
